"""Standardisation of each window on its own."""

from __future__ import annotations

import warnings

import numpy as np

from ..utils._docs import fill_doc
from ..utils._transformer import WindowTransformer
from ..utils._validation import check_option

# Samples scaled at once: few enough to stay in the cache from pass to pass.
_BLOCK = 2**18
# A deviation below this share of the largest value is rounding: a constant 0.33 in float32 has one of 9e-8 of it.
_FLAT = 1e-6
# Within this many deviations of zero, and above this deviation, float32 sums are exact enough; float64 does the others.
_FAR, _TINY = 8, 1e-12


@fill_doc
class ECGScaler(WindowTransformer):
    """Zero mean and unit deviation of each window, lead by lead.

    Each window is measured by itself: nothing is learned from the training set, no window depends on its companions.
    (scikit-learn's StandardScaler scales each time step over the windows, which distorts the waves.) The result has
    no unit any more.

    What has no deviation beyond rounding (at most 1e-6 of its largest absolute value: an electrode that fell off, a
    padded lead) becomes zeros and is counted in a UserWarning.

    Parameters
    ----------
    per : {"lead", "window"}, default="lead"
        Over what the deviation is taken: each lead of a window, or all leads of a window together, which keeps the
        proportions between the leads. The mean is each lead's own in both. The deviation is that of the population
        (divided by the number of values).

    Attributes
    ----------
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
    """

    def __init__(self, per: str = "lead") -> None:
        self.per = per

    def _check_parameters(self) -> None:
        check_option("per", self.per, ("lead", "window"))

    def _apply(self, cube: np.ndarray) -> np.ndarray:
        # A group is what has one deviation: (n_groups, leads in it, n_timesteps).
        groups = cube if self.per == "window" else cube.reshape(-1, 1, cube.shape[-1])
        out = np.empty(groups.shape, dtype=np.float32)
        step = max(1, _BLOCK // groups[0].size)
        n_constant = 0
        for start in range(0, len(groups), step):
            n_constant += _scale(groups[start : start + step], out[start : start + step])
        if n_constant:
            what = "windows are" if self.per == "window" else "leads of the windows are"
            warnings.warn(f"{n_constant} of {len(groups)} {what} constant and become zeros", stacklevel=2)
        return out.reshape(cube.shape)


def _scale(x: np.ndarray, out: np.ndarray) -> int:
    """Write x (n_groups, n_leads, n_timesteps), standardised, to out; return the number of constant groups."""
    with np.errstate(all="ignore"):  # what overflows or divides by zero here is done again below
        mean = x.mean(axis=-1, keepdims=True)
        np.subtract(x, mean, out=out)
        std = np.sqrt(np.vecdot(out, out).sum(axis=-1) / np.float32(x[0].size))[:, None, None]
        out *= 1 / std
        # Far from zero the rounding of the float32 mean shows; a constant lead is always farther than that.
        sure = (np.abs(mean).max(axis=1, keepdims=True) <= _FAR * std) & (std > _TINY) & np.isfinite(std)
    doubtful = np.flatnonzero(~sure)
    if not len(doubtful):
        return 0
    exact = x[doubtful].astype(np.float64)
    limit = _FLAT * np.abs(exact).max(axis=(1, 2), keepdims=True) + np.finfo(np.float32).tiny
    exact -= exact.mean(axis=-1, keepdims=True)
    std = np.sqrt(np.square(exact).mean(axis=(1, 2), keepdims=True))
    constant = std <= limit
    out[doubtful] = np.where(constant, 0.0, exact / np.where(constant, 1.0, std))
    return int(constant.sum())
