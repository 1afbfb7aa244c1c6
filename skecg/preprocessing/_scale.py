"""Scaling of each window on its own, or by what the training set tells."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..utils._callbacks import fit_task
from ..utils._docs import fill_doc
from ..utils._transformer import WindowTransformer
from ..utils._validation import check_ecg, check_option

# Samples scaled at once: few enough to stay in the cache from pass to pass.
_BLOCK = 2**18
# A deviation below this share of the largest value is rounding: a constant 0.33 in float32 has one of 9e-8 of it.
_FLAT = 1e-6
# Within this many deviations of zero, and above this deviation, float32 sums are exact enough; float64 does the others.
_FAR, _TINY = 8, 1e-12
# Distance of the quartiles of a normal distribution, in deviations.
_IQR = 1.3489795003921634


@fill_doc
class ECGScaler(WindowTransformer):
    """Zero mean and unit deviation of each window, lead by lead; or robust, by the maximum, or over a training set.

    With ``per="lead"`` and ``per="window"`` each window is measured by itself: nothing is learned from the training
    set, no window depends on its companions. (scikit-learn's StandardScaler scales each time step over the windows,
    which distorts the waves.) With ``per="dataset"`` each lead is scaled by two numbers that ``fit`` learns, so that
    differences of amplitude between windows stay. The result has no unit any more.

    What has no deviation beyond rounding (at most 1e-6 of its largest absolute value: an electrode that fell off, a
    padded lead) becomes zeros and is counted in a UserWarning.

    Parameters
    ----------
    per : {"lead", "window", "dataset"}, default="lead"
        Over what the deviation is taken: each lead of a window; all leads of a window together, which keeps the
        proportions between the leads; or each lead over all windows of ``fit``. The centre is each lead's own in all.
    method : {"standard", "robust", "max"}, default="standard"
        "standard": the mean becomes 0 and the deviation (of the population, divided by the number of values) 1.
        "robust": the median becomes 0 and the distance of the quartiles 1.349, which for a normal distribution is the
        same; artefacts count for little. Where more than half of the values are equal, the deviation takes the place
        of the quartiles. "max": the largest absolute value becomes 1; nothing is subtracted, so zero stays zero.
    skip_padding : bool, default=False
        Whether time steps at the start and the end of a window that are exactly zero in all leads are left out, and
        stay zero: the padding of :class:`PadOrCrop`. Otherwise they are values as others; for windows that are half
        padding the deviation is then too small. Scaling before padding makes it unnecessary.

    Attributes
    ----------
    center_ : ndarray of shape (n_leads_,), float64
        With ``per="dataset"``: what is subtracted from each lead.
    scale_ : ndarray of shape (n_leads_,), float64
        With ``per="dataset"``: what each lead is divided by; 1 where the lead is constant.
    %(fitted)s

    See Also
    --------
    BandpassFilter : Takes out wander and noise; usually the step before.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.preprocessing import ECGScaler
    >>> X = np.array([[[0.0, 1.0, 2.0, 1.0], [0.0, 10.0, 20.0, 10.0]]])  # one window of two leads
    >>> ECGScaler().fit_transform(X)[0].round(2)
    array([[-1.41,  0.  ,  1.41,  0.  ],
           [-1.41,  0.  ,  1.41,  0.  ]], dtype=float32)
    >>> ECGScaler(per="window").fit_transform(X)[0].round(2)
    array([[-0.2 ,  0.  ,  0.2 ,  0.  ],
           [-1.99,  0.  ,  1.99,  0.  ]], dtype=float32)
    >>> ECGScaler(method="max").fit_transform(X)[0].round(2)
    array([[0. , 0.5, 1. , 0.5],
           [0. , 0.5, 1. , 0.5]], dtype=float32)
    """

    def __init__(self, per: str = "lead", *, method: str = "standard", skip_padding: bool = False) -> None:
        self.per = per
        self.method = method
        self.skip_padding = skip_padding

    def fit(self, X: Any, y: Any = None) -> ECGScaler:
        """Check X and the parameters and keep the sizes; with ``per="dataset"`` learn centre and scale of each lead.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG, mV.
        y : object, default=None
            Not read.

        Returns
        -------
        self : ECGScaler
            Itself.
        """
        with fit_task(self, X, y):
            self._check_parameters()
            cube = check_ecg(self, X, reset=True)
            if self.per == "dataset":
                self.center_, self.scale_ = self._learn(cube)
        return self

    def _check_parameters(self) -> None:
        check_option("per", self.per, ("lead", "window", "dataset"))
        check_option("method", self.method, ("standard", "robust", "max"))
        check_option("skip_padding", self.skip_padding, (True, False))

    def _learn(self, cube: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return centre and scale of each lead over all windows."""
        center, scale = np.zeros(cube.shape[1]), np.ones(cube.shape[1])
        inside = _inside(cube) if self.skip_padding else slice(None)
        n_constant = 0
        for lead in range(cube.shape[1]):
            values = cube[:, lead][inside].astype(np.float64).reshape(1, 1, -1)
            if values.size:
                middle, spread, constant = _measure(values, self.method)
                center[lead], scale[lead] = middle.item(), 1.0 if constant.item() else spread.item()
                n_constant += int(constant.item())
            else:
                n_constant += 1
        if n_constant:
            warnings.warn(f"{n_constant} of {cube.shape[1]} leads are constant and are not scaled", stacklevel=3)
        return center, scale

    def _apply(self, cube: np.ndarray) -> np.ndarray:
        if not self.skip_padding:
            out, n_constant = self._scale(cube)
        else:
            out, n_constant = np.zeros(cube.shape, dtype=np.float32), 0
            spans = _spans(cube)
            for first, last in np.unique(spans, axis=0):
                rows = np.flatnonzero((spans == (first, last)).all(axis=1))
                if last > first:
                    out[rows, :, first:last], n = self._scale(cube[rows, :, first:last])
                else:  # zeros throughout
                    n = len(rows) * (1 if self.per == "window" else cube.shape[1])
                n_constant += n
        if n_constant and self.per != "dataset":
            what = "windows are" if self.per == "window" else "leads of the windows are"
            n_groups = len(cube) * (1 if self.per == "window" else cube.shape[1])
            warnings.warn(f"{n_constant} of {n_groups} {what} constant and become zeros", stacklevel=2)
        return out

    def _scale(self, cube: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the scaled cube and the number of constant groups."""
        if self.per == "dataset":
            center, scale = (values[:, None].astype(np.float32) for values in (self.center_, self.scale_))
            return (cube - center) / scale, 0
        # A group is what has one deviation: (n_groups, leads in it, n_timesteps).
        groups = cube if self.per == "window" else cube.reshape(-1, 1, cube.shape[-1])
        out = np.empty(groups.shape, dtype=np.float32)
        step = max(1, _BLOCK // groups[0].size)
        scale: Callable[..., int] = _standardise if self.method == "standard" else _normalise
        n_constant = 0
        for start in range(0, len(groups), step):
            n_constant += scale(groups[start : start + step], out[start : start + step], self.method)
        return out.reshape(cube.shape), n_constant


def _spans(cube: np.ndarray) -> np.ndarray:
    """Return, for each window, the half-open span (n_samples, 2) without its outer zeros; (0, 0) for zeros alone."""
    some = (cube != 0).any(axis=1)
    n_timesteps = some.shape[1]
    spans = np.stack([some.argmax(axis=1), n_timesteps - some[:, ::-1].argmax(axis=1)], axis=1)
    spans[~some.any(axis=1)] = 0
    return spans


def _inside(cube: np.ndarray) -> np.ndarray:
    """Return a mask (n_samples, n_timesteps) of what is not padding."""
    first, last = _spans(cube).T[:, :, None]
    at = np.arange(cube.shape[-1])
    return (first <= at) & (at < last)


def _standardise(x: np.ndarray, out: np.ndarray, method: str) -> int:
    """Write x (n_groups, n_leads, n_timesteps), standardised, to out; return the number of constant groups."""
    with np.errstate(all="ignore"):  # what overflows or divides by zero here is done again below
        mean = x.mean(axis=-1, keepdims=True)
        np.subtract(x, mean, out=out)
        std = np.sqrt(np.vecdot(out, out).sum(axis=-1) / np.float32(x[0].size))[:, None, None]
        out *= 1 / std
        # Far from zero the rounding of the float32 mean shows; a constant lead is always farther than that.
        sure = (np.abs(mean).max(axis=1, keepdims=True) <= _FAR * std) & (std > _TINY) & np.isfinite(std)
    doubtful = np.flatnonzero(~sure)
    return _normalise(x, out, method, doubtful) if len(doubtful) else 0


def _normalise(x: np.ndarray, out: np.ndarray, method: str, rows: np.ndarray | slice = slice(None)) -> int:
    """Write rows of x (n_groups, n_leads, n_timesteps), scaled in float64, to out; return how many are constant."""
    exact = x[rows].astype(np.float64)
    center, scale, constant = _measure(exact, method)
    exact -= center
    exact /= np.where(constant, 1.0, scale)
    out[rows] = np.where(constant, 0.0, exact)
    return int(constant.sum())


def _measure(exact: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the centre of each lead, the scale of each group and whether it is constant, all of three dimensions."""
    whole = (1, 2)
    largest = np.abs(exact).max(axis=whole, keepdims=True)
    limit = _FLAT * largest + np.finfo(np.float32).tiny
    mean = exact.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(np.square(exact - mean).mean(axis=whole, keepdims=True))
    constant = deviation <= limit
    if method == "standard":
        return mean, deviation, constant
    if method == "max":
        return np.zeros_like(mean), largest, constant
    median = np.median(exact, axis=-1, keepdims=True)
    quartiles = np.quantile(exact - median, (0.25, 0.75), axis=whole, keepdims=True)
    spread = (quartiles[1] - quartiles[0]) / _IQR
    return median, np.where(spread > limit, spread, deviation), constant
