"""What stands where the ECG is deleted: a bridge, the isoelectric line, a number, or another window."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

_NAMES = ("bridge", "isoelectric")


def check_replacement(replacement: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return what replaces windows of X of this shape, (1 or n_samples, n_leads or 1, n_timesteps or 1).

    None where it is made from each window: "bridge" and "isoelectric".
    """
    if isinstance(replacement, str):
        if replacement not in _NAMES:
            raise ValueError(
                f'replacement must be "bridge", "isoelectric", a number, or a window or one a window; got '
                f"{replacement!r}"
            )
        return None
    array = np.asarray(replacement)
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f'replacement must be "bridge", "isoelectric", a number or an array of numbers; got {array.dtype} '
            f"of {type(replacement).__name__}"
        )
    if not np.isfinite(array).all():
        raise ValueError("replacement holds NaN or infinite values: pass finite ones, in the unit of X")
    if isinstance(replacement, Real) or array.ndim == 0:
        return array.reshape(1, 1, 1)
    if array.shape not in (tuple(shape), tuple(shape[1:])):
        raise ValueError(
            f"replacement has shape {array.shape}; expected {tuple(shape[1:])}, one window, or {tuple(shape)}, one a "
            "window of X"
        )
    array = array if array.shape == tuple(shape) else array[None]
    return array if array.ndim == 3 else array[:, None]


def replaced(x: np.ndarray, out: np.ndarray, replacement: Any, fill: np.ndarray | None) -> np.ndarray:
    """Return windows (n, n_leads, n_timesteps) with the samples of the mask ``out`` replaced."""
    if fill is None:
        if isinstance(replacement, str) and replacement == "bridge":
            return bridged(x, out)
        fill = np.median(x, axis=-1, keepdims=True)
    return np.where(out, fill, x).astype(x.dtype, copy=False)


def bridged(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return windows with each run of the mask ``out`` replaced by a line between the samples beside it.

    Runs at an end of the window are level; a lead that is out as a whole becomes its mean.

    Parameters
    ----------
    x : ndarray of shape (n, n_leads, n_timesteps)
        Windows.
    out : ndarray of that shape, bool
        Samples to be replaced.

    Returns
    -------
    windows : ndarray of that shape
        A copy.
    """
    steps, n = np.arange(x.shape[-1]), x.shape[-1]
    left = np.maximum.accumulate(np.where(out, -1, steps), axis=-1)
    right = np.minimum.accumulate(np.where(out, n, steps)[..., ::-1], axis=-1)[..., ::-1]
    before = np.take_along_axis(x, np.maximum(left, 0), axis=-1)
    after = np.take_along_axis(x, np.minimum(right, n - 1), axis=-1)
    before, after = np.where(left < 0, after, before), np.where(right == n, before, after)
    weight = (steps - left) / np.maximum(right - left, 1)
    line = before + (after - before) * weight
    line = np.where(out.all(axis=-1, keepdims=True), x.mean(axis=-1, keepdims=True, dtype=np.float64), line)
    return np.where(out, line, x).astype(x.dtype, copy=False)
