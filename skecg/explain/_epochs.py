"""What a network looks at while it learns: relevance by the checkpoints of its training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_consistent_length

from ..classifiers._checkpoints import read
from ..metrics import chance_level, relevance_mass_score
from ._base import BaseExplainer, unwrap
from ._rank_correlation import correlate, mean_known, unit_ranks


def relevance_over_epochs(
    explainer: BaseExplainer,
    X: Any,
    y: Any,
    *,
    truth: Any = None,
    epochs: Sequence[int] | None = None,
    checkpoints: Any = None,
    keep_relevance: bool = False,
    verbose: int = 0,
) -> Bunch:
    """Explain the same windows with the weights of each epoch of a training.

    The last figure of Vijayarangan et al. [1]_ is titled "interpretability with respect to epochs"; what it shows is
    not known in detail, and the three curves here are our reading of it: accuracy, agreement of the relevance with
    that of the last epoch, and the share of it in the region where the evidence is expected.

    Parameters
    ----------
    explainer : explainer
        Around a fitted ECGClassifier (or a Pipeline that ends in one) that was trained with ``checkpoint_dir``. Left
        as it is.
    X : array-like of shape (n_samples, n_leads, n_timesteps) or (n_samples, n_timesteps)
        ECG, mV: windows that the network was not trained on.
    y : array-like of shape (n_samples,)
        Their labels. They are what is explained, so that the target is the same in every epoch.
    truth : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), bool, default=None
        Where the evidence is expected.
    epochs : sequence of int, default=None
        Which epochs, from 1; None takes all that were written.
    checkpoints : str or path-like, default=None
        The folder of the fit's checkpoints; None takes the classifier's ``checkpoint_folder_``.
    keep_relevance : bool, default=False
        Whether the relevance of every epoch is returned too.
    verbose : int, default=0
        Above 0, show a progress bar.

    Returns
    -------
    curves : Bunch
        With one value an epoch in each array:

        epochs : ndarray of shape (n_epochs,)
            The epochs, ascending.
        accuracy : ndarray of shape (n_epochs,)
            Share of these windows that are recognised.
        rank_correlation : ndarray of shape (n_epochs,)
            Mean over the windows of Spearman's correlation between the relevance of the epoch and of the last one.
        rank_correlation_by_window : ndarray of shape (n_epochs, n_samples)
            NaN where the relevance is the same everywhere in the window.
        n_constant : ndarray of shape (n_epochs,)
            Windows that are left out of the mean for that reason.
        share, share_by_window : ndarray of shape (n_epochs,), (n_epochs, n_samples)
            With truth: share of the positive relevance inside it (:func:`~skecg.metrics.relevance_mass_score`).
        chance : float
            With truth: the share of a flat map.
        relevance : ndarray of shape (n_epochs, n_samples, ...), float32
            With ``keep_relevance``.

    Raises
    ------
    ValueError
        For a classifier that was trained without ``checkpoint_dir``, a folder without checkpoints of this network, or
        an epoch that was not written.

    See Also
    --------
    skecg.plotting.EpochsDisplay : Draws the curves.

    References
    ----------
    .. [1] S. Vijayarangan et al., "Interpreting deep neural networks for single-lead ECG arrhythmia classification",
       EMBC 2020, arXiv:2004.05399, and the authors' slides.

    Examples
    --------
    >>> import tempfile
    >>> from skecg import ECGClassifier, GradCAM1D
    >>> from skecg.datasets import make_ecg
    >>> from skecg.explain import relevance_over_epochs
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=2, checkpoint_dir=folder, random_state=0)
    ...     clf.fit(ecg.data, ecg.target)
    ...     cam = GradCAM1D(clf, method="gradcam", relu=False)
    ...     curves = relevance_over_epochs(cam, ecg.data, ecg.target, truth=ecg.truth)
    ECGClassifier(...)
    >>> curves.epochs, curves.rank_correlation[-1].round(3)
    (array([1, 2]), np.float64(1.0))
    """
    if not isinstance(explainer, BaseExplainer):
        raise TypeError(f"explainer must be one of skecg.explain's; got a {type(explainer).__name__}")
    check_consistent_length(X, y, truth)
    _, classifier = unwrap(explainer._fitted())
    files = _find(classifier, checkpoints, epochs)

    # A copy of the whole nest, whose network gets the weights of one epoch after the other.
    working = copy.deepcopy(explainer)
    working.verbose = 0
    _, twin = unwrap(working._fitted())
    y = np.asarray(y)
    out: dict[str, list] = {"accuracy": [], "relevance": [], "share_by_window": []}
    from tqdm.auto import tqdm

    for epoch, path in tqdm(files.items(), desc="epochs", disable=not verbose):
        try:
            twin.module_.load_state_dict(read(path)["module"])
        except RuntimeError as error:
            raise ValueError(
                f"{path} holds the weights of another network than this {type(twin.module_).__name__}: {error}"
            ) from error
        result, _ = working._explain(X, y)
        out["accuracy"].append(_accuracy(twin, result.logits, y))
        relevance = result.relevance
        if not np.isfinite(relevance).all():
            raise ValueError(f"the relevance of epoch {epoch} ({path}) is not finite: had the training diverged?")
        if truth is not None:
            out["share_by_window"].append(relevance_mass_score(truth, relevance, average=False))
        out["relevance"].append(relevance)
    final = unit_ranks(out["relevance"][-1])
    by_window = np.array([correlate(unit_ranks(relevance), final) for relevance in out["relevance"]])
    curves = Bunch(
        epochs=np.array(list(files)),
        accuracy=np.array(out["accuracy"]),
        rank_correlation=mean_known(by_window),
        rank_correlation_by_window=by_window,
        n_constant=np.isnan(by_window).sum(1),
    )
    if truth is not None:
        curves.share_by_window = np.array(out["share_by_window"])
        curves.share = mean_known(curves.share_by_window)
        curves.chance = float(np.nanmean(chance_level(truth, out["relevance"][-1], average=False)))
    if keep_relevance:
        curves.relevance = np.stack(out["relevance"])
    return curves


def _find(classifier: Any, checkpoints: Any, epochs: Sequence[int] | None) -> dict[int, Path]:
    """Return the files of the epochs, ascending."""
    folder = getattr(classifier, "checkpoint_folder_", None) if checkpoints is None else Path(checkpoints).expanduser()
    if folder is None:
        raise ValueError(
            "the classifier was trained without checkpoints: fit it with checkpoint_dir=<folder>, or pass the folder "
            "of its checkpoints (<checkpoint_dir>/<name of the fit>)"
        )
    found = {int(p.stem.removeprefix("epoch_")): p for p in sorted(Path(folder).glob("epoch_[0-9]*.pt"))}
    done = getattr(classifier, "n_epochs_", 0) if checkpoints is None else 0
    found = {epoch: path for epoch, path in found.items() if not done or epoch <= done}
    if not found:
        raise ValueError(f"{folder} holds no checkpoints (epoch_0001.pt, ...)")
    if epochs is None:
        return found
    missing = sorted(set(epochs) - set(found))
    if missing or not len(epochs):
        raise ValueError(f"epochs {missing or list(epochs)} were not written to {folder}; there are {list(found)}")
    return {epoch: found[epoch] for epoch in sorted(set(epochs))}


def _accuracy(classifier: Any, logits: np.ndarray, y: np.ndarray) -> float:
    logits = logits.astype(np.float64)
    if classifier.multilabel_:  # the label explained is given, so it is that one which must pass
        code = (y[:, None] == np.asarray(classifier.classes_)).argmax(1)
        return float((logits > classifier._cut())[np.arange(len(y)), code].mean())
    if classifier.n_outputs_ == 2:
        code = (logits[:, 1] - logits[:, 0] > float(classifier._cut())).astype(int)
    else:
        code = logits.argmax(1)
    return float((classifier.classes_[code] == y).mean())
