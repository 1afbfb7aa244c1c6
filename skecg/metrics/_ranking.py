"""Scores of the order of the relevance: nothing that keeps the order, such as sharpening a map, changes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..utils._docs import fill_doc
from ._checks import aligned, averaged, blocks

_TEXTS = {
    "parameters": """
truth : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), bool
    Where the evidence lies. Without a lead axis it holds for every lead of ``relevance``.
relevance : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
    Relevance, in any unit; only its order within a window is read. Where it has a sign, negative relevance ranks
    below zero; to rank by size pass its absolute value.
valid : array-like of the shape of ``truth`` or ``relevance``, bool, default=None
    Samples that count, such as those before a padded tail; None: all.
sample_weight : array-like of shape (n_samples,), default=None
    Weights of the windows.
average : bool, default=True
    Whether to return the mean; otherwise a score a window, for intervals over patients
    (:func:`bootstrap_score`).
""",
    "errors": """
ValueError
    For shapes that do not fit, a truth that is neither boolean nor of zeros and ones, relevance that is not
    finite, or, where the mean is asked for, no window that can be scored.
""",
}


def _documented(function: Any) -> Any:
    return fill_doc(function, _TEXTS)


@_documented
def relevance_rank_score(
    truth: Any, relevance: Any, *, valid: Any = None, sample_weight: Any = None, average: bool = True
) -> float | np.ndarray:
    """Share of the K most relevant samples that lie in the truth of K samples.

    Relevance rank accuracy [1]_, fair to ties: where several samples share the last of the K places, it is the mean
    over every order that they could be put in, so that a flat map scores its chance level. Windows without truth are
    left out; ``average=False`` shows which. A truth of the whole window scores 1, which is its chance level too.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    score : float or ndarray of shape (n_samples,)
        Between 0 and 1; NaN for the windows without truth.

    Raises
    ------
    %(errors)s

    See Also
    --------
    chance_level : The score of a map that knows nothing.
    relevance_average_precision_score : The same for every K at once.

    References
    ----------
    .. [1] L. Arras, A. Osman, W. Samek, "CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural
           network explanations", Information Fusion 81, 14-40, 2022.

    Examples
    --------
    >>> from skecg.metrics import relevance_rank_score
    >>> relevance_rank_score([[0, 1, 1, 0]], [[0.1, 0.9, 0.2, 0.3]])
    0.5
    >>> relevance_rank_score([[0, 1, 1, 0]], [[0.1, 0.9, 0.2, 0.2]])  # two share the second place
    0.75
    """
    truth, relevance, valid = aligned(truth, relevance, valid)
    scores = np.empty(len(truth))
    for rows, inside, counts, values in blocks(truth, relevance, valid):
        values = np.where(counts, values, -np.inf)
        size = inside.sum(axis=1, keepdims=True)
        last = np.take_along_axis(np.sort(values, axis=1), values.shape[1] - np.maximum(size, 1), axis=1)
        above, tied = values > last, values == last
        free = size - above.sum(axis=1, keepdims=True)  # places among the K that the tied samples share
        share = (tied & inside).sum(axis=1) / np.maximum(tied.sum(axis=1), 1)
        hits = (above & inside).sum(axis=1) + free[:, 0] * share
        scores[rows] = np.where(size[:, 0] > 0, hits / np.maximum(size[:, 0], 1), np.nan)
    return averaged(scores, sample_weight, average)


@_documented
def relevance_auc_score(
    truth: Any, relevance: Any, *, valid: Any = None, sample_weight: Any = None, average: bool = True
) -> float | np.ndarray:
    """Mean area under the ROC curve of relevance against the truth, window by window.

    The probability that a sample of the truth is more relevant than one outside (Mann-Whitney), ties counting one half.
    **Chance is one half** for any truth, not :func:`chance_level`. Windows without truth, or with nothing beside it,
    have no curve and are left out; ``average=False`` shows which.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    score : float or ndarray of shape (n_samples,)
        Between 0 and 1; NaN for the windows whose truth is empty or full.

    Raises
    ------
    %(errors)s

    See Also
    --------
    relevance_average_precision_score : Asks more of the most relevant samples, where the truth is small.
    sklearn.metrics.roc_auc_score : The same for one window.

    Examples
    --------
    >>> from skecg.metrics import relevance_auc_score
    >>> relevance_auc_score([[0, 1, 1, 0]], [[0.1, 0.9, 0.2, 0.3]])
    0.75
    >>> relevance_auc_score([[0, 1, 1, 0]], [[0.5, 0.5, 0.5, 0.5]])
    0.5
    """
    truth, relevance, valid = aligned(truth, relevance, valid)
    scores = np.empty(len(truth))
    for rows, inside, counts, values in blocks(truth, relevance, valid):
        ends, hits, misses = _steps(inside, counts, values)
        area = np.sum(np.where(ends, (misses - _before(misses, ends)) * (hits + _before(hits, ends)) / 2, 0), axis=1)
        pairs = hits[:, -1] * misses[:, -1]
        scores[rows] = np.where(pairs > 0, area / np.maximum(pairs, 1), np.nan)
    return averaged(scores, sample_weight, average, "both truth and something beside it")


@_documented
def relevance_average_precision_score(
    truth: Any, relevance: Any, *, valid: Any = None, sample_weight: Any = None, average: bool = True
) -> float | np.ndarray:
    """Mean average precision of relevance against the truth, window by window.

    The share of the truth among the samples that are as relevant or more, averaged over the samples of the truth. Tied
    samples are taken all at once, as scikit-learn does, so that a flat map scores its chance level
    (:func:`chance_level`). Windows without truth are left out; ``average=False`` shows which. A truth of the whole
    window scores 1, which is its chance level too.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    score : float or ndarray of shape (n_samples,)
        Above 0, at most 1; NaN for the windows without truth.

    Raises
    ------
    %(errors)s

    See Also
    --------
    chance_level : The score of a flat map, and nearly that of random relevance.
    relevance_auc_score : Does not depend on how much of the window is truth.
    sklearn.metrics.average_precision_score : The same for one window.

    Examples
    --------
    >>> from skecg.metrics import relevance_average_precision_score
    >>> relevance_average_precision_score([[0, 1, 1, 0]], [[0.1, 0.9, 0.2, 0.3]])
    0.8333333333333333
    >>> relevance_average_precision_score([[0, 1, 1, 0]], [[0.5, 0.5, 0.5, 0.5]])
    0.5
    """
    truth, relevance, valid = aligned(truth, relevance, valid)
    scores = np.empty(len(truth))
    for rows, inside, counts, values in blocks(truth, relevance, valid):
        ends, hits, misses = _steps(inside, counts, values)
        precision = hits / np.maximum(hits + misses, 1)
        total = np.sum(np.where(ends, (hits - _before(hits, ends)) * precision, 0), axis=1)
        scores[rows] = np.where(hits[:, -1] > 0, total / np.maximum(hits[:, -1], 1), np.nan)
    return averaged(scores, sample_weight, average)


def _steps(inside: np.ndarray, counts: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, from the most relevant sample down: where ties end, samples inside and outside the truth so far."""
    values = np.where(counts, -values, np.inf)
    order = np.argsort(values, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    ends = np.ones(values.shape, dtype=bool)
    ends[:, :-1] = values[:, :-1] != values[:, 1:]
    hits = np.take_along_axis(inside, order, axis=1).cumsum(axis=1, dtype=np.float64)
    seen = np.take_along_axis(counts, order, axis=1).cumsum(axis=1, dtype=np.float64)
    return ends, hits, seen - hits


def _before(counted: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return what was counted up to the end of the ties before; counted never falls."""
    before = np.zeros_like(counted)
    before[:, 1:] = np.maximum.accumulate(np.where(ends, counted, 0), axis=1)[:, :-1]
    return before
