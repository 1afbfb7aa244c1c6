"""Pointing game, relevance mass, their chance level, and the control that knows only the middle of the window."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter1d

from ..utils._validation import check_fs, check_number
from ._checks import aligned, averaged, blocks


def pointing_game_score(
    truth: Any,
    relevance: Any,
    *,
    tolerance: float = 0.0,
    fs: float | None = None,
    valid: Any = None,
    sample_weight: Any = None,
    average: bool = True,
) -> float | np.ndarray:
    """Share of windows whose most relevant sample lies in the truth.

    Fair to ties: where several samples share the maximum (a saturated mask, a flat map, a CAM that is the same on
    every lead), the window scores the share of them that lies in the truth. Only positive relevance points anywhere: a
    window without any scores its chance level. Windows without truth are left out; ``average=False`` shows which.

    Parameters
    ----------
    truth : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), bool
        Where the evidence lies. Without a lead axis it holds for every lead of ``relevance``.
    relevance : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
        Relevance, in any unit.
    tolerance : float, default=0.0
        How far beside the truth the maximum may lie, s. The truth is widened by it on both sides, and so is the
        chance level that belongs to the score: ``chance_level(truth, tolerance=...)``.
    fs : float, default=None
        Sampling rate, Hz; needed where ``tolerance`` is not 0.
    valid : array-like of the shape of ``truth`` or ``relevance``, bool, default=None
        Samples that count, such as those before a padded tail; None: all.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the windows.
    average : bool, default=True
        Whether to return the mean; otherwise a score a window, for intervals over patients.

    Returns
    -------
    score : float or ndarray of shape (n_samples,)
        Between 0 and 1; NaN for the windows without truth.

    Raises
    ------
    ValueError
        For shapes that do not fit, a truth that is neither boolean nor of zeros and ones, relevance that is not
        finite, or, where the mean is asked for, no window with truth.

    See Also
    --------
    chance_level : The score of pointing at random.
    relevance_mass_score : The share of the relevance that lies in the truth.

    References
    ----------
    .. [1] J. Zhang, S. A. Bargal, Z. Lin, J. Brandt, X. Shen, S. Sclaroff, "Top-down neural attention by excitation
           backprop", International Journal of Computer Vision 126, 1084-1102, 2018.

    Examples
    --------
    >>> from skecg.metrics import chance_level, pointing_game_score
    >>> truth = [[0, 1, 1, 0], [0, 1, 1, 0]]
    >>> relevance = [[0.1, 0.9, 0.2, 0.0], [0.0, 0.0, 0.5, 0.5]]
    >>> pointing_game_score(truth, relevance)
    0.75
    >>> chance_level(truth)
    0.5
    """
    truth, relevance, valid = aligned(truth, relevance, valid)
    truth = _widened(truth, tolerance, fs)
    scores = np.empty(len(truth))
    for rows, inside, counts, values in blocks(truth, relevance, valid):
        positive = _positive(values, counts)
        tied = counts & (positive == positive.max(axis=1, keepdims=True))
        scores[rows] = _ratio((tied & inside).sum(axis=1), tied.sum(axis=1), inside)
    return averaged(scores, sample_weight, average)


def relevance_mass_score(
    truth: Any, relevance: Any, *, valid: Any = None, sample_weight: Any = None, average: bool = True
) -> float | np.ndarray:
    """Mean share of the positive relevance that lies in the truth.

    Relevance mass accuracy [1]_ of the positive part: relevance below zero speaks against the label and is taken as
    zero. A window without positive relevance scores its chance level. Windows without truth are left out;
    ``average=False`` shows which. The share can be bought: raising a map to a power raises it and adds no knowledge,
    so compare methods by measures that keep to the order of the samples as well.

    Parameters
    ----------
    truth : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), bool
        Where the evidence lies. Without a lead axis it holds for every lead of ``relevance``.
    relevance : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
        Relevance, in any unit.
    valid : array-like of the shape of ``truth`` or ``relevance``, bool, default=None
        Samples that count, such as those before a padded tail; None: all.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the windows.
    average : bool, default=True
        Whether to return the mean; otherwise a score a window, for intervals over patients.

    Returns
    -------
    score : float or ndarray of shape (n_samples,)
        Between 0 and 1; NaN for the windows without truth.

    Raises
    ------
    ValueError
        For shapes that do not fit, a truth that is neither boolean nor of zeros and ones, relevance that is not
        finite, or, where the mean is asked for, no window with truth.

    See Also
    --------
    chance_level : The score of relevance that is the same everywhere.
    pointing_game_score : Whether the most relevant sample lies in the truth.

    References
    ----------
    .. [1] L. Arras, A. Osman, W. Samek, "CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural
           network explanations", Information Fusion 81, 14-40, 2022.

    Examples
    --------
    >>> from skecg.metrics import relevance_mass_score
    >>> relevance_mass_score([[0, 1, 1, 0]], [[1.0, 2.0, 1.0, -5.0]])
    0.75
    """
    truth, relevance, valid = aligned(truth, relevance, valid)
    scores = np.empty(len(truth))
    for rows, inside, counts, values in blocks(truth, relevance, valid):
        positive = _positive(values, counts)
        largest = positive.max(axis=1, keepdims=True)
        # Flat for a window without positive relevance. Divided by the maximum, no sum over- or underflows.
        mass = np.where(largest > 0, positive / np.where(largest > 0, largest, 1), counts)
        scores[rows] = _ratio((mass * inside).sum(axis=1), (mass * counts).sum(axis=1), inside)
    return averaged(scores, sample_weight, average)


def chance_level(
    truth: Any,
    relevance: Any = None,
    *,
    tolerance: float = 0.0,
    fs: float | None = None,
    valid: Any = None,
    sample_weight: Any = None,
    average: bool = True,
) -> float | np.ndarray:
    """Share of the samples that lie in the truth: what chance gives to the scores of localisation.

    It belongs to :func:`pointing_game_score`, :func:`relevance_mass_score`, :func:`relevance_rank_score` and
    :func:`relevance_average_precision_score`. Chance of :func:`relevance_auc_score` is one half, whatever the truth.

    Parameters
    ----------
    truth : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), bool
        Where the evidence lies.
    relevance : array-like, default=None
        Its values are not read; it is taken so that the function can stand among the metrics of
        :class:`RelevanceScorer`.
    tolerance : float, default=0.0
        As in :func:`pointing_game_score`, s.
    fs : float, default=None
        Sampling rate, Hz; needed where ``tolerance`` is not 0.
    valid : array-like of the shape of ``truth``, bool, default=None
        Samples that count; None: all.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the windows.
    average : bool, default=True
        Whether to return the mean; otherwise a level a window.

    Returns
    -------
    level : float or ndarray of shape (n_samples,)
        Between 0 and 1; NaN for the windows without truth, which are left out of the mean.

    Raises
    ------
    ValueError
        For shapes that do not fit, a truth that is neither boolean nor of zeros and ones, or, where the mean is
        asked for, no window with truth.

    Examples
    --------
    >>> from skecg.metrics import chance_level
    >>> chance_level([[0, 1, 1, 0], [0, 0, 0, 0]])  # the second window has no truth and is left out
    0.5
    >>> chance_level([[0, 1, 1, 0]], tolerance=0.1, fs=10.0)
    1.0
    """
    of, like = ("truth", truth) if relevance is None else ("relevance", relevance)
    truth, _, valid = aligned(truth, np.broadcast_to(np.float32(0), np.shape(like)), valid, of=of)
    inside = (_widened(truth, tolerance, fs) & valid).sum(axis=(1, 2))
    levels = np.where(inside > 0, inside / np.maximum(valid.sum(axis=(1, 2)), 1), np.nan)
    return averaged(levels, sample_weight, average)


def centre_prior(shape: tuple[int, ...], *, width: float = 0.1) -> np.ndarray:
    """Relevance that knows nothing but the middle of the window, as a control for centred windows.

    Where windows are cut around the beat, pointing at their middle finds it without any network. A score on such
    windows says something only beside this control's.

    Parameters
    ----------
    shape : tuple of int
        Shape of X: (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps).
    width : float, default=0.1
        Standard deviation of the Gaussian, as a share of the window.

    Returns
    -------
    relevance : ndarray of that shape, float32
        Read-only: a view of one window, the same for all samples and leads.

    Raises
    ------
    ValueError
        For a shape that is not one of an ECG, or a width that is not above 0.

    Examples
    --------
    >>> from skecg.metrics import centre_prior, pointing_game_score
    >>> prior = centre_prior((2, 1, 5))
    >>> pointing_game_score([[0, 0, 1, 0, 0], [1, 1, 0, 0, 0]], prior)
    0.5
    """
    shape = tuple(shape)
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(
            f"shape must be (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), nowhere 0; got {shape}"
        )
    check_number("width", width, low=0, strict=True)
    steps = np.arange(shape[-1])
    distance = np.abs(2 * steps - (shape[-1] - 1)) / (2 * shape[-1])  # exactly symmetric, so that the middle ties
    return np.broadcast_to(np.exp(-0.5 * (distance / width) ** 2).astype(np.float32), shape)


def _widened(truth: np.ndarray, tolerance: float, fs: float | None) -> np.ndarray:
    """Return the truth, wider by tolerance seconds on both sides."""
    check_number("tolerance", tolerance, low=0, unit="(s)")
    steps = round(tolerance * check_fs(fs, "tolerance")) if tolerance else 0
    # a filter longer than both ways across the window reaches no farther
    size = 2 * min(steps, truth.shape[-1]) + 1
    return maximum_filter1d(truth, size, axis=-1, mode="constant") if steps else truth


def _positive(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the positive part of the relevance that counts."""
    return np.where(counts, np.maximum(values, 0), 0)


def _ratio(part: np.ndarray, whole: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN for the windows without truth."""
    return np.where(inside.any(axis=1), part / np.where(whole > 0, whole, 1), np.nan)
