"""How far relevance is from adding up to the rise of the score that it explains."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._checks import averaged


def completeness_score(
    relevance: Any, score: Any, baseline_score: Any, *, sample_weight: Any = None, average: bool = True
) -> float | np.ndarray:
    """Mean error of the sum of the relevance, as a share of the score's rise from its baseline; 0 is complete.

    ``abs(sum of R - (s(x) - s(x'))) / abs(s(x) - s(x'))`` of each window: the absolute ``completeness_error`` of
    :class:`~skecg.explain.IntegratedGradients`, relative to what it is compared with there. **Less is better.** It
    tells whether a method keeps its promise to add up, not whether it finds the evidence; only methods that make the
    promise have it. A window whose score hardly rises has a large error whatever the method, so quote the median of
    ``average=False`` beside the mean.

    Parameters
    ----------
    relevance : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
        Relevance, in the unit of the score.
    score : array-like of shape (n_samples,)
        s(x): what was explained, such as ``explain(X).score``.
    baseline_score : float or array-like of shape (n_samples,)
        s(x'): the score of the baseline, such as ``explain(X).score_baseline``.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the windows.
    average : bool, default=True
        Whether to return the mean; otherwise an error a window.

    Returns
    -------
    error : float or ndarray of shape (n_samples,)
        At least 0; NaN for the windows whose score does not rise or fall at all, which are left out of the mean.

    Raises
    ------
    ValueError
        For shapes that do not fit, values that are not finite, or, where the mean is asked for, no window whose score
        differs from its baseline's.

    Examples
    --------
    >>> from skecg.metrics import completeness_score
    >>> completeness_score([[1.0, 2.0, 0.5], [0.0, 1.0, 1.0]], [5.0, 3.0], [1.0, 1.0])
    0.0625
    """
    relevance = _finite("relevance", relevance)
    if relevance.ndim not in (2, 3) or 0 in relevance.shape:
        raise ValueError(
            "relevance must be (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), nowhere 0; got shape "
            f"{relevance.shape}"
        )
    n = len(relevance)
    score, baseline = _finite("score", score), _finite("baseline_score", baseline_score)
    if score.shape != (n,) or baseline.shape not in ((), (n,)):
        raise ValueError(
            f"score must have shape ({n},), one a window of relevance, and baseline_score the same or be a number; got "
            f"{score.shape} and {baseline.shape}"
        )
    rise = score.astype(np.float64) - baseline.astype(np.float64)
    error = np.abs(relevance.reshape(n, -1).sum(axis=1, dtype=np.float64) - rise)
    scores = np.where(rise != 0, error / np.where(rise != 0, np.abs(rise), 1), np.nan)
    return averaged(scores, sample_weight, average, "a score that differs from its baseline's")


def _finite(name: str, values: Any) -> np.ndarray:
    """Return an array of finite real numbers."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be real numbers; got dtype {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values: leave such windows out, and count them")
    return array
