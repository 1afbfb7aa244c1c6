"""Scores of relevance against a truth, their chance level, and the scorer that brings them into searches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter1d
from sklearn.base import BaseEstimator

from .utils._validation import check_fs, check_number, check_weights, find_fs

__all__ = ["RelevanceScorer", "centre_prior", "chance_level", "pointing_game_score", "relevance_mass_score"]

# Values scored at once, so that a cohort never stands in memory twice.
_BLOCK = 2**22


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
    truth, relevance, valid = _aligned(truth, relevance, valid)
    truth = _widened(truth, tolerance, fs)
    scores = np.empty(len(truth))
    for rows, inside, counts, positive in _blocks(truth, relevance, valid):
        tied = counts & (positive == positive.max(axis=1, keepdims=True))
        scores[rows] = _ratio((tied & inside).sum(axis=1), tied.sum(axis=1), inside)
    return _averaged(scores, sample_weight, average)


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
    truth, relevance, valid = _aligned(truth, relevance, valid)
    scores = np.empty(len(truth))
    for rows, inside, counts, positive in _blocks(truth, relevance, valid):
        largest = positive.max(axis=1, keepdims=True)
        # Flat for a window without positive relevance. Divided by the maximum, no sum over- or underflows.
        mass = np.where(largest > 0, positive / np.where(largest > 0, largest, 1), counts)
        scores[rows] = _ratio((mass * inside).sum(axis=1), (mass * counts).sum(axis=1), inside)
    return _averaged(scores, sample_weight, average)


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
    """Share of the samples that lie in the truth: what chance gives to both scores.

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
    truth, _, valid = _aligned(truth, np.broadcast_to(np.float32(0), np.shape(like)), valid, of=of)
    inside = (_widened(truth, tolerance, fs) & valid).sum(axis=(1, 2))
    levels = np.where(inside > 0, inside / np.maximum(valid.sum(axis=(1, 2)), 1), np.nan)
    return _averaged(levels, sample_weight, average)


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


class RelevanceScorer(BaseEstimator):
    """Scorer of an explainer against a truth mask, for ``scoring=`` in searches and cross-validation.

    ``scorer(explainer, X, truth)`` explains X and scores the relevance; scikit-learn's own ``make_scorer`` knows only
    predictions. The truth takes the place of y: ``GridSearchCV(explainer, grid, scoring=scorer).fit(X, truth)``, where
    the explainer stands around a ``FrozenEstimator`` of a fitted classifier.

    Parameters
    ----------
    metric : callable or dict of str to callable, default=relevance_mass_score
        ``metric(truth, relevance, sample_weight=...)``, such as :func:`pointing_game_score`; fix its parameters with
        ``functools.partial``. With a dict X is explained once and the scorer returns a dict, so that each score comes
        with its chance level; ``refit`` of a search then names one of them.

    See Also
    --------
    relevance_mass_score : Share of the relevance that lies in the truth.
    pointing_game_score : Whether the most relevant sample lies in the truth.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from skecg.metrics import RelevanceScorer, chance_level, pointing_game_score
    >>> scorer = RelevanceScorer({"pointing": pointing_game_score, "chance": chance_level})
    >>> X, truth = np.array([[0.1, -1.0, 0.3, 0.2]]), np.array([[0, 1, 0, 0]])
    >>> scorer(FunctionTransformer(np.abs).fit(X), X, truth)  # the control abs(x)
    {'pointing': 1.0, 'chance': 0.25}
    """

    def __init__(self, metric: Callable | Mapping[str, Callable] = relevance_mass_score) -> None:
        self.metric = metric

    def __call__(self, explainer: Any, X: Any, truth: Any, sample_weight: Any = None) -> float | dict[str, float]:
        """Explain X and score the relevance.

        Parameters
        ----------
        explainer : explainer, or any transformer
            Fitted. What has no ``explain`` (a Pipeline that ends in an explainer, a control such as ``abs(x)``) gives
            its relevance by ``transform``.
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG, mV.
        truth : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), bool
            Where the evidence lies.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the windows; handed to the metric where given.

        Returns
        -------
        score : float or dict of str to float
            What the metric returns; a dict where there are several.
        """
        several = isinstance(self.metric, Mapping)
        metrics = dict(self.metric) if several else {"": self.metric}
        for name, metric in metrics.items():
            if not callable(metric):
                where = f" for {name!r}" if several else ""
                raise TypeError(f"metric must be callable, or a dict of callables; got {metric!r}{where}")
        if truth is None:
            raise ValueError("RelevanceScorer needs the truth mask in place of y; got None")
        if hasattr(explainer, "explain"):
            relevance = explainer.explain(X).relevance
        elif hasattr(explainer, "transform"):
            relevance = explainer.transform(X)
        else:
            raise TypeError(
                f"RelevanceScorer scores explainers, or what returns relevance by transform; "
                f"{type(explainer).__name__} has neither explain nor transform"
            )
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        scores = {
            name: metric(truth, relevance, **weights, **_fs_for(metric, explainer)) for name, metric in metrics.items()
        }
        return scores if several else scores[""]


def _fs_for(metric: Callable, explainer: Any) -> dict[str, float]:
    """Return the explainer's or its classifier's fs for a metric that takes one and was not given it."""
    try:
        parameter = inspect.signature(metric).parameters.get("fs")
    except (TypeError, ValueError):  # a callable that does not say what it takes
        return {}
    fs = find_fs(explainer)
    return {"fs": fs} if fs is not None and parameter is not None and parameter.default is None else {}


def _aligned(
    truth: Any, relevance: Any, valid: Any, of: str = "relevance"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth (bool), relevance and valid (bool), each of relevance's shape (n_samples, n_leads, n_timesteps)."""
    relevance = np.asarray(relevance)
    if relevance.dtype.kind not in "fiub":
        raise TypeError(f"relevance must be an array of real numbers; got dtype {relevance.dtype}")
    if relevance.ndim not in (2, 3) or 0 in relevance.shape:
        raise ValueError(
            f"{of} must be (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), nowhere 0; got shape "
            f"{relevance.shape}"
        )
    cube = relevance if relevance.ndim == 3 else relevance[:, None]
    valid = np.ones((1, 1, 1), dtype=bool) if valid is None else _mask("valid", valid, relevance.shape)
    return (
        np.broadcast_to(_mask("truth", truth, relevance.shape), cube.shape),
        cube,
        np.broadcast_to(valid, cube.shape),
    )


def _mask(name: str, mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return a boolean mask that broadcasts to (n_samples, n_leads, n_timesteps) of relevance of the given shape."""
    mask = np.asarray(mask)
    if mask.dtype != bool:
        if mask.dtype.kind not in "fiu":
            raise TypeError(f"{name} must be an array of booleans, or of zeros and ones; got dtype {mask.dtype}")
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError(f"{name} must be boolean, or of zeros and ones; it holds other values")
        mask = mask.astype(bool)
    leads = shape[1] if len(shape) == 3 else 1
    cube = mask[:, None] if mask.ndim == 2 else mask
    allowed = (leads,) if mask.ndim == 3 else (1,)
    if cube.ndim != 3 or (len(cube), cube.shape[-1]) != (shape[0], shape[-1]) or cube.shape[1] not in allowed:
        raise ValueError(
            f"{name} has shape {mask.shape}, but relevance has shape {tuple(shape)}: they must agree, or {name} be "
            f"({shape[0]}, {shape[-1]}) to hold for every lead"
        )
    return cube


def _widened(truth: np.ndarray, tolerance: float, fs: float | None) -> np.ndarray:
    """Return the truth, wider by tolerance seconds on both sides."""
    check_number("tolerance", tolerance, low=0, unit="(s)")
    steps = round(tolerance * check_fs(fs, "tolerance")) if tolerance else 0
    # a filter longer than both ways across the window reaches no farther
    size = 2 * min(steps, truth.shape[-1]) + 1
    return maximum_filter1d(truth, size, axis=-1, mode="constant") if steps else truth


def _blocks(
    truth: np.ndarray, relevance: np.ndarray, valid: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield rows, and (rows, values): valid truth, valid, the positive part of the valid relevance in float64."""
    step = max(1, _BLOCK // relevance[0].size)
    for start in range(0, len(relevance), step):
        rows = slice(start, start + step)
        n = len(relevance[rows])
        values, counts = relevance[rows].reshape(n, -1), valid[rows].reshape(n, -1)
        bad = np.flatnonzero((~np.isfinite(values) & counts).any(axis=1))
        if len(bad):
            raise ValueError(
                f"relevance is NaN or infinite in window {start + bad[0]} (and perhaps others), which says nothing of "
                "where the evidence is: leave such windows out of both truth and relevance, and count them"
            )
        positive = np.where(counts, np.maximum(values, 0), 0).astype(np.float64)
        yield rows, truth[rows].reshape(n, -1) & counts, counts, positive


def _ratio(part: np.ndarray, whole: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN for the windows without truth."""
    return np.where(inside.any(axis=1), part / np.where(whole > 0, whole, 1), np.nan)


def _averaged(scores: np.ndarray, sample_weight: Any, average: bool) -> float | np.ndarray:
    """Return the weighted mean over the windows with truth, or the scores as they are."""
    weights = check_weights(sample_weight, len(scores))
    if not average:
        return scores
    scored = ~np.isnan(scores)
    if not weights[scored].any():
        raise ValueError(
            f"none of the {len(scores)} windows has any truth (or all that have weigh nothing), so there is nothing to "
            "score: pass windows of classes whose evidence has a place"
        )
    return float(np.average(scores[scored], weights=weights[scored]))
