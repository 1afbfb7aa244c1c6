"""How far explanations agree: of networks of several seeds, and of several methods."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch
from tqdm.auto import tqdm

from ..utils._docs import fill_doc
from ._base import BaseExplainer, TargetScore, is_fitted, layers_by_name, unwrap
from ._rank_correlation import both_ranks, by_window, correlate_pairs, warn_of_missing


@fill_doc
def seed_consistency(
    explainer: BaseExplainer,
    X: Any,
    *,
    estimators: Iterable[Any],
    target: Any = None,
    verbose: int = 0,
) -> Bunch:
    """Compare the explanations of networks that differ by the seed of their training alone.

    Networks of one kind with the same accuracy should be explained alike, or an explanation is one of the seed.

    Parameters
    ----------
    explainer : explainer
        Any of :mod:`skecg.explain`; its parameters are taken, its own estimator is not read. It is left as it is. One
        that draws at random needs an int as ``random_state``.
    %(X)s
        Best windows that no network was trained on.
    estimators : sequence of fitted estimators
        At least two: each an ECGClassifier, or a Pipeline, search or FrozenEstimator that ends in one, with the same
        classes.
    target : "predicted", label or array-like of shape (n_samples,), default=None
        What is explained; None takes the explainer's own ``target``. "predicted" is what the first one predicts, and
        all explain that; with the true labels no network is the first.
    verbose : int, default=0
        Above 0, show a progress bar.

    Returns
    -------
    result : Bunch
        Spearman's correlations over samples x leads of each window:

        pairs : list of tuple of int
            Positions of the two estimators.
        signed, absolute : ndarray of shape (n_pairs, n_samples)
            Of the relevance and of its absolute value. NaN where a map is constant or not finite. For an interval over
            patients give their mean over pairs to a bootstrap by groups.
        mean_signed, mean_absolute : ndarray of shape (n_pairs,)
            Their means over windows, without NaN.
        n_constant : ndarray of shape (n_pairs,)
            Windows without a correlation.
        agreed : ndarray of shape (n_samples,), bool
            Whether every network predicts the target (multi-label: puts it above its threshold).
        target : ndarray of shape (n_samples,)
            Labels explained.
        relevance_kind : str
            The kind of relevance.

    Raises
    ------
    TypeError
        For something that is no explainer of skecg.
    ValueError
        For fewer than two estimators, one whose input has another size, or a target that one of them does not know.

    Warns
    -----
    UserWarning
        Where more than a tenth of the correlations are missing.

    See Also
    --------
    explainer_agreement : The same question about methods.
    skecg.plotting.SanityDisplay : Draws the result.

    Examples
    --------
    >>> from skecg import ECGClassifier, Saliency
    >>> from skecg.datasets import make_ecg
    >>> from skecg.explain import seed_consistency
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1)
    >>> nets = [ECGClassifier(**{**clf.get_params(), "random_state": i}).fit(ecg.data, ecg.target) for i in range(3)]
    >>> result = seed_consistency(Saliency(clf), ecg.data[:8], estimators=nets)
    >>> result.pairs, result.absolute.shape
    ([(0, 1), (0, 2), (1, 2)], (3, 8))
    """
    check_explainer(explainer)
    estimators = list(estimators) if isinstance(estimators, Iterable) else [estimators]
    if len(estimators) < 2:
        raise ValueError(f"estimators must be at least two that are fitted, of several seeds; got {len(estimators)}")
    target = explainer.target if target is None else target
    for i, one in enumerate(estimators):
        if not is_fitted(one):
            raise ValueError(f"estimators must be fitted; the one at position {i}, {type(one).__name__}, is not")
    values, rest = _compare([_around(explainer, one) for one in estimators], X, target, verbose)
    warn_of_missing("seed_consistency", values[1])
    pairs = list(combinations(range(len(estimators)), 2))
    return Bunch(pairs=pairs, **by_window(values), **rest, relevance_kind=explainer.relevance_kind)


@fill_doc
def explainer_agreement(
    explainers: Mapping[str, BaseExplainer], X: Any, *, target: Any = None, verbose: int = 0
) -> Bunch:
    """Compare what several explainers say of the same windows.

    Agreement is no proof, since methods share faults; a method that agrees with none needs a reason.

    Parameters
    ----------
    explainers : mapping from str to explainer
        At least two, by name, each around a fitted estimator. Left as they are.
    %(X)s
    target : "predicted", label or array-like of shape (n_samples,), default=None
        What is explained; None takes the first explainer's own ``target``. "predicted" is what the first one's network
        predicts, and all explain that.
    verbose : int, default=0
        Above 0, show a progress bar.

    Returns
    -------
    result : Bunch
        Spearman's correlations over samples x leads of each window. Between maps with a sign and maps without one the
        absolute values are what can be compared:

        names : list of str
            The explainers.
        signed, absolute : ndarray of shape (n_explainers, n_explainers, n_samples)
            Of the relevance and of its absolute value. NaN where a map is constant or not finite.
        mean_signed, mean_absolute : ndarray of shape (n_explainers, n_explainers)
            Their means over windows, without NaN.
        n_constant : ndarray of shape (n_explainers, n_explainers)
            Windows without a correlation.
        agreed : ndarray of shape (n_samples,), bool
            Whether every network predicts the target.
        target : ndarray of shape (n_samples,)
            Labels explained.
        relevance_kind : list of str
            The kind of relevance of each explainer.

    Raises
    ------
    TypeError
        For something that is no mapping of explainers of skecg.
    ValueError
        For fewer than two explainers, or such whose networks have input of another size or other classes.

    Warns
    -----
    UserWarning
        Where more than a tenth of the correlations are missing.

    See Also
    --------
    seed_consistency : The same question about seeds.
    skecg.plotting.SanityDisplay : Draws the result.

    Examples
    --------
    >>> from skecg import ECGClassifier, InputXGradient, Saliency
    >>> from skecg.datasets import make_ecg
    >>> from skecg.explain import explainer_agreement
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> result = explainer_agreement({"gradient": Saliency(clf), "times input": InputXGradient(clf)}, ecg.data[:8])
    >>> result.mean_absolute.shape
    (2, 2)
    """
    if not isinstance(explainers, Mapping):
        raise TypeError(f"explainers must be a mapping from names to explainers; got a {type(explainers).__name__}")
    for one in explainers.values():
        check_explainer(one)
    if len(explainers) < 2:
        raise ValueError(f"explainers must be at least two; got {list(explainers)}")
    own = [_around(one, one._fitted()) for one in explainers.values()]
    values, rest = _compare(own, X, own[0].target if target is None else target, verbose)
    warn_of_missing("explainer_agreement", values[1])
    k = len(own)
    matrix = np.ones((2, k, k, values.shape[-1]))  # a map agrees with itself
    for pair, (i, j) in enumerate(combinations(range(k), 2)):
        matrix[:, i, j] = matrix[:, j, i] = values[:, pair]
    kinds = [one.relevance_kind for one in own]
    return Bunch(names=list(explainers), **by_window(matrix), **rest, relevance_kind=kinds)


def check_explainer(explainer: Any) -> None:
    """Raise TypeError for something that is no explainer of skecg."""
    if not isinstance(explainer, BaseExplainer):
        raise TypeError(f"explainer must be one of skecg.explain's; got a {type(explainer).__name__}")
    if type(explainer).explain is not BaseExplainer.explain or type(explainer).transform is not BaseExplainer.transform:
        raise TypeError(
            f"{type(explainer).__name__} overrides explain or transform, which are not asked here: define "
            "_explain_batch instead, as the explainers of skecg do"
        )


def _around(explainer: BaseExplainer, estimator: Any) -> BaseExplainer:
    """Return an explainer of one's own, with all that the given one was fitted to, around a fitted estimator."""
    named = layers_by_name(explainer)
    own = copy.copy(named)
    for name, value in vars(named).items():
        if name not in ("estimator", "estimator_"):
            setattr(own, name, copy.deepcopy(value))  # a RandomState among them
    vars(own).pop("estimator_", None)
    own.estimator = estimator
    own.verbose = 0
    return own


def _compare(
    explainers: Sequence[BaseExplainer], X: Any, target: Any, verbose: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return correlations (2, n_pairs, n_samples), and what all explained and predicted."""
    ranks, agreed, shape, classes = [], np.True_, None, None
    for one in tqdm(explainers, desc="explaining", unit="map", disable=not verbose):
        result = one._explain(X, target)[0]
        target = result.target  # labels, which the others explain too
        labels = one.classes_.tolist()
        classes = classes or labels
        if labels != classes:
            raise ValueError(f"the networks must have the same classes, {classes} as the first; got {labels}")
        shape = shape or result.relevance.shape
        if result.relevance.shape != shape:
            raise ValueError(
                f"relevance must have one shape to be compared, {shape} as the first; got {result.relevance.shape}: "
                "the networks have inputs of other sizes"
            )
        ranks.append(both_ranks(result.relevance))
        agreed = agreed & _predicted(one, result)
    return correlate_pairs(ranks), {"agreed": agreed, "target": target}


def _predicted(explainer: BaseExplainer, result: Bunch) -> np.ndarray:
    """Tell by window whether the network predicts what is explained."""
    _, classifier = unwrap(explainer._fitted())
    index = (result.target[:, None] == np.asarray(classifier.classes_)).argmax(1)
    score = TargetScore(classifier.multilabel_, classifier._cut(), "logit")
    return score.passes(torch.from_numpy(result.logits), torch.from_numpy(index)).numpy()
