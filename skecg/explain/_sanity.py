"""Sanity of explanations: whether they depend on the network's weights, and on the labels that it learned."""

from __future__ import annotations

import copy
from itertools import combinations
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch, check_consistent_length
from tqdm.auto import tqdm

from ..classifiers import ECGClassifier
from ..utils._docs import fill_doc
from ..utils._twin import plain_torch
from ..utils._validation import check_number, check_option, draw_seed
from ._base import BaseExplainer, layers_by_name
from ._consistency import check_explainer
from ._randomise import RandomisedNetwork, reinitialise
from ._rank_correlation import both_ranks, by_window, correlate, correlate_pairs, mean_known, warn_of_missing


@fill_doc
def weight_randomisation(
    explainer: BaseExplainer,
    X: Any,
    *,
    target: Any = None,
    mode: str = "cascading",
    depths: Any = "all",
    n_draws: int = 5,
    tolerance: float = 0.1,
    ceiling: float = 0.9,
    random_state: Any = None,
    verbose: int = 0,
) -> Bunch:
    """Compare explanations with those of the network after its layers have got random weights, from its head down.

    An explanation that stays what it was does not depend on what the network learned [1]_. Correlations do not fall to
    zero, though: the ECG itself, smoothness and edges make the maps of *any* two networks alike. So the floor is
    measured beside them: the correlation between the maps of two networks whose weights are all random.

    A layer is a module with parameters, taken by the order of a forward pass (where it ends; of several calls the last)
    from the head down, with the normalisations that follow it. New weights come from the module's own
    ``reset_parameters``; where there is none, from a normal distribution of mean zero and of the root mean square of
    the trained values. Batch norms after a random layer have their statistics estimated again, from X: with those of
    the trained weights, maps would vanish or grow from layer to layer.

    Parameters
    ----------
    explainer : explainer
        Any of :mod:`skecg.explain`, around a fitted estimator. It is left as it is, and so is the network. One that
        draws at random needs an int as ``random_state``, or its own noise is taken for an effect of the weights.
    %(X)s
    target : "predicted", label or array-like of shape (n_samples,), default=None
        What is explained; None takes the explainer's own ``target``. "predicted" is what the trained network predicts,
        and the same labels are explained at every depth.
    mode : {"cascading", "independent"}, default="cascading"
        All layers from the head down to one, or this one alone.
    depths : "all" or int, default="all"
        How many of the layers are shown, evenly spaced and with the last: for deep networks and slow explainers.
    n_draws : int, default=5
        Independent sets of random weights, at least 2. Small networks differ much from draw to draw: look at the error
        of the excess; with ``depths=1`` many draws are cheap.
    tolerance : float, default=0.1
        How much the correlation with a wholly random network may be above the floor.
    ceiling : float, default=0.9
        How high that correlation may be at all: a map that ignores the network has a floor of one, and is at it.
    %(random_state)s
    verbose : int, default=0
        Above 0, show a progress bar.

    Returns
    -------
    result : Bunch
        Spearman's correlations over samples x leads of each window (of a "cam", whose leads are equal, that over time),
        of the relevance (``signed``) and of its absolute value (``absolute``):

        depths : list of str
            The layers, from the head down, by the names of their modules.
        modules : list of tuple of str
            All modules that have new weights at each depth.
        signed, absolute : ndarray of shape (n_depths, n_samples)
            The trained network against the random one, mean over draws. For an interval over patients give a row to a
            bootstrap by groups.
        mean_signed, mean_absolute : ndarray of shape (n_depths,)
            Their means over windows.
        final_signed, final_absolute : ndarray of shape (n_draws, n_samples)
            The trained network against each whose layers are all random: the last depth when cascading.
        floor_signed, floor_absolute : ndarray of shape (n_pairs, n_samples)
            Each pair of wholly random networks.
        excess_signed, excess_absolute : float
            Mean of ``final`` less mean of ``floor``, over windows and networks.
        excess_signed_error, excess_absolute_error : float
            Standard errors of these over draws (jackknife); NaN for two draws.
        passes : bool
            Whether both are at most ``tolerance`` (below zero they always are), and the means of ``final_signed`` and
            ``final_absolute`` at most ``ceiling``. The draws of a few small networks can turn it: see the error.
        n_constant : ndarray of shape (n_depths,)
            Correlations that there are not, since a map is the same everywhere (such as zero, after a ReLU) or not
            finite: NaN, and left out of all means. ``n_constant_floor`` is that of the floor.
        target : ndarray of shape (n_samples,)
            Labels explained.
        tolerance, ceiling, mode : float, float, str
            As given.
        relevance_kind : str
            The kind of relevance.

    Raises
    ------
    TypeError
        For something that is no explainer of skecg.
    ValueError
        For X, target or parameters that do not fit.

    Warns
    -----
    UserWarning
        Where more than a tenth of the correlations are missing.

    See Also
    --------
    label_randomisation : The same question about labels.
    skecg.plotting.SanityDisplay : Draws the result.

    References
    ----------
    .. [1] J. Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, arXiv:1810.03292.

    Examples
    --------
    >>> from skecg import ECGClassifier, Saliency
    >>> from skecg.datasets import make_ecg
    >>> from skecg.explain import weight_randomisation
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> result = weight_randomisation(Saliency(clf), ecg.data[:8], depths=2, n_draws=2, random_state=0)
    >>> len(result.depths), result.absolute.shape
    (2, (2, 8))
    """
    check_option("mode", mode, ("cascading", "independent"))
    check_number("n_draws", n_draws, low=2, integer=True)
    check_number("tolerance", tolerance, low=0)
    check_number("ceiling", ceiling, low=0, high=1)
    if not isinstance(depths, str) or depths != "all":
        check_number("depths", depths, low=1, integer=True)
    working, data, classifier = _working_copy(explainer, X)
    original = working._explain(X, target)[0]
    trained = both_ranks(original.relevance)
    net = RandomisedNetwork(classifier.module_, data, classifier.device_)
    n_layers = len(net.layers)
    if not n_layers:
        raise ValueError(f"{type(classifier.module_).__name__} has no parameters that could be randomised")
    n_shown = n_layers if isinstance(depths, str) else min(depths, n_layers)
    shown = [-(-n_layers * (k + 1) // n_shown) - 1 for k in range(n_shown)]
    from_head = [range(layer + 1) for layer in shown]
    # whatever the mode, the last step is a network that is random as a whole
    steps = from_head if mode == "cascading" else [*([layer] for layer in shown), range(n_layers)]
    seeds = np.random.SeedSequence(draw_seed(random_state)).generate_state(n_draws * n_layers).reshape(n_draws, -1)
    values = np.empty((2, n_draws, len(steps), len(data)))
    random = []
    with tqdm(total=n_draws * len(steps), desc="random weights", unit="map", disable=not verbose) as bar:
        for draw in range(n_draws):
            for k, layers in enumerate(steps):
                net.randomise(layers, seeds[draw])
                ranks = both_ranks(working._explain(X, original.target)[0].relevance)
                values[:, draw, k] = correlate(trained, ranks)
                bar.update()
            random.append(ranks)
    final, values, floor = values[:, :, -1], values[:, :, :n_shown], correlate_pairs(random)
    warn_of_missing("weight_randomisation", values[1], floor[1])
    return Bunch(
        mode=mode,
        depths=[net.layers[layer].name for layer in shown],
        modules=[tuple(name for i in layers for name in net.layers[i].modules) for layers in steps[:n_shown]],
        **{**by_window(mean_known(values, axis=1)), "n_constant": np.isnan(values[1]).sum((0, 2))},
        final_signed=final[0],
        final_absolute=final[1],
        **_verdict(final, floor, tolerance, ceiling),
        target=original.target,
        relevance_kind=original.relevance_kind,
    )


@fill_doc
def label_randomisation(
    explainer: BaseExplainer,
    X: Any,
    y: Any,
    *,
    X_eval: Any = None,
    target: Any = None,
    n_draws: int = 3,
    max_epochs: int | None = None,
    tolerance: float = 0.1,
    ceiling: float = 0.9,
    random_state: Any = None,
    verbose: int = 0,
) -> Bunch:
    """Compare explanations with those of the same network trained on permuted labels.

    A network that learned labels without a relation to the ECG has learned nothing about it; an explanation that is the
    same for both says nothing about what was learned [1]_. The floor is the correlation between two networks that were
    trained on different permutations. The classifier is trained with its own parameters, with weights drawn anew (an
    initialisation in common would make the maps alike), and without early stopping and checkpoints; steps before it in
    a Pipeline stay as they are fitted. Callbacks of the classifier run.

    Parameters
    ----------
    explainer : explainer
        Any of :mod:`skecg.explain`, around a fitted estimator. It is left as it is, and so is the network. One that
        draws at random needs an int as ``random_state``.
    %(X)s
        Here the windows that the network was trained on.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Their labels, of all the classifier's classes.
    X_eval : array-like of shape (n_eval, n_timesteps) or (n_eval, n_leads, n_timesteps), default=None
        Windows to explain; None takes X.
    target : "predicted", label or array-like of shape (n_eval,), default=None
        What is explained; None takes the explainer's own ``target``. "predicted" is what the classifier at hand
        predicts.
    n_draws : int, default=3
        Permutations, each with a training; at least 2.
    max_epochs : int, default=None
        Epochs of these trainings, where permuted labels are learned more slowly; None takes the classifier's.
    tolerance : float, default=0.1
        How much the correlation may be above the floor.
    ceiling : float, default=0.9
        How high it may be at all.
    %(random_state)s
    verbose : int, default=0
        Above 0, show a progress bar.

    Returns
    -------
    result : Bunch
        With ``n_eval`` as n_samples; ``floor_*``, ``excess_*`` (of the mean of all draws), ``passes``, ``tolerance``,
        ``ceiling``, ``n_constant_floor``, ``target`` and ``relevance_kind`` as :func:`weight_randomisation` returns
        them, and

        signed, absolute : ndarray of shape (n_draws, n_samples)
            Spearman's correlation of the relevance, and of its absolute value, between the two networks.
        mean_signed, mean_absolute : ndarray of shape (n_draws,)
            Their means over windows.
        train_score : float
            Accuracy of the classifier on X, y (multi-label: all labels of a window right).
        permuted_score : ndarray of shape (n_draws,)
            Accuracy of the others on their permuted labels. Near ``chance`` they have not learned them by heart: the
            check is then close to one of weights.
        chance : float
            Accuracy of the commonest label.
        n_constant : ndarray of shape (n_draws,)
            Windows without a correlation, since a map is constant or not finite.

    Raises
    ------
    TypeError
        For something that is no explainer of skecg.
    ValueError
        For X, y, target or parameters that do not fit.

    Warns
    -----
    UserWarning
        Where more than a tenth of the correlations are missing.

    See Also
    --------
    weight_randomisation : The same question about weights.
    skecg.plotting.SanityDisplay : Draws the result.

    References
    ----------
    .. [1] J. Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, arXiv:1810.03292.

    Examples
    --------
    >>> from skecg import ECGClassifier, Saliency
    >>> from skecg.datasets import make_ecg
    >>> from skecg.explain import label_randomisation
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> result = label_randomisation(Saliency(clf), ecg.data, ecg.target, X_eval=ecg.data[:8], random_state=0)
    >>> result.absolute.shape, result.chance
    ((3, 8), 0.5)
    """
    check_number("n_draws", n_draws, low=2, integer=True)
    check_number("tolerance", tolerance, low=0)
    check_number("ceiling", ceiling, low=0, high=1)
    if max_epochs is not None:
        check_number("max_epochs", max_epochs, low=1, integer=True)
    check_consistent_length(X, y)
    working, data, classifier = _working_copy(explainer, X)
    y = _labels(y, classifier)
    X_eval = X if X_eval is None else X_eval
    original = working._explain(X_eval, target)[0]
    trained = both_ranks(original.relevance)
    train_score = _accuracy(classifier, data, y)
    rng = np.random.default_rng(draw_seed(random_state))
    values, scores, maps = [], [], []
    for _ in tqdm(range(n_draws), desc="permuted labels", unit="training", disable=not verbose):
        permuted = y[rng.permutation(len(y))]
        _train_anew(classifier, data, permuted, int(rng.integers(2**31)), max_epochs)
        maps.append(both_ranks(working._explain(X_eval, original.target)[0].relevance))
        values.append(correlate(trained, maps[-1]))
        scores.append(_accuracy(classifier, data, permuted))
    values, floor = np.stack(values, axis=1), correlate_pairs(maps)
    warn_of_missing("label_randomisation", values[1], floor[1])
    return Bunch(
        **by_window(values),
        train_score=train_score,
        permuted_score=np.array(scores),
        chance=float(np.unique(y, axis=0, return_counts=True)[1].max() / len(y)),
        **_verdict(values, floor, tolerance, ceiling),
        target=original.target,
        relevance_kind=original.relevance_kind,
    )


def _working_copy(explainer: Any, X: Any) -> tuple[BaseExplainer, np.ndarray, ECGClassifier]:
    """Return a copy of the whole nest, X as its network takes it, and its classifier; the user's own stays as it is."""
    check_explainer(explainer)
    named = layers_by_name(explainer)
    with plain_torch("cpu", gradient=False):  # a caller's inference mode would make weights that cannot be changed
        working = copy.deepcopy(named)
    working.verbose = 0
    data, classifier, _ = working._network_input(X)
    return working, data, classifier


def _labels(y: Any, classifier: ECGClassifier) -> np.ndarray:
    """Return the labels that the classifier was trained on as an array, or say in what they differ."""
    labels = np.asarray(y)
    if classifier.multilabel_:
        if labels.shape[1:] != (classifier.n_outputs_,):
            raise ValueError(
                f"y must be (n_samples, {classifier.n_outputs_}), 0 and 1 for each of the labels "
                f"{classifier.classes_.tolist()}; got shape {labels.shape}"
            )
    elif labels.ndim != 1 or set(labels.tolist()) != set(classifier.classes_.tolist()):
        raise ValueError(
            f"y must be the labels that the classifier was trained on, one a window, of all its classes "
            f"{classifier.classes_.tolist()}; got {np.unique(labels).tolist()}, shape {labels.shape}"
        )
    return labels


def _train_anew(classifier: ECGClassifier, data: np.ndarray, y: np.ndarray, seed: int, max_epochs: int | None) -> None:
    """Fit a classifier of one's own from other weights than it has, and leave no files."""
    if isinstance(classifier.module, torch.nn.Module):  # an instance would start from what it was trained to
        reinitialise(classifier.module.modules(), seed, "cpu")
    classifier.set_params(random_state=seed, early_stopping=False, checkpoint_dir=None, warm_start=False, verbose=0)
    if max_epochs is not None:
        classifier.set_params(max_epochs=max_epochs)
    if classifier.multilabel_:
        classifier.set_params(labels=classifier.classes_.tolist())
    classifier.fit(data, y)


def _accuracy(classifier: ECGClassifier, data: np.ndarray, y: np.ndarray) -> float:
    right = classifier.predict(data) == y
    return float(right.reshape(len(y), -1).all(1).mean())


def _verdict(final: np.ndarray, floor: np.ndarray, tolerance: float, ceiling: float) -> dict[str, Any]:
    """Compare the correlations with random networks (2, n_draws, n_samples) with those of their pairs."""
    draws, pairs = mean_known(final), mean_known(floor)  # one value a network, and one a pair of networks
    n_draws = draws.shape[1]
    excess = mean_known(draws) - mean_known(pairs)
    error = np.full(2, np.nan)
    if n_draws > 2:  # windows share their networks, so the error is that of networks: jackknife
        without = np.ones((n_draws, n_draws), dtype=bool) ^ np.eye(n_draws, dtype=bool)
        of_pair = np.array([[i not in pair for pair in combinations(range(n_draws), 2)] for i in range(n_draws)])
        kept = zip(without, of_pair, strict=True)
        left = np.stack([mean_known(draws[:, a]) - mean_known(pairs[:, b]) for a, b in kept])
        error = np.sqrt((n_draws - 1) * left.var(0))
    return {
        "floor_signed": floor[0],
        "floor_absolute": floor[1],
        "n_constant_floor": int(np.isnan(floor[1]).sum()),
        "excess_signed": float(excess[0]),
        "excess_absolute": float(excess[1]),
        "excess_signed_error": float(error[0]),
        "excess_absolute_error": float(error[1]),
        "tolerance": tolerance,
        "ceiling": ceiling,
        "passes": bool((excess <= tolerance).all() and (mean_known(draws) <= ceiling).all()),
    }
