"""Sums of the relevance of single windows, with what cannot be summed left out and counted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..utils._validation import check_array, check_ecg

_BLOCK = 2**21  # samples turned into float64 at a time (16 MB)

# What a statistic averages, written into a block of relevance.
PARTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda block: block,
    "abs_mean": lambda block: np.abs(block, out=block),
    "positive_mean": lambda block: np.maximum(block, 0, out=block),
    "negative_mean": lambda block: np.minimum(block, 0, out=block),
}

# Counted for each window beside its samples: whether it is used, whether its relevance then is zero throughout, whether
# it is left out for either reason, and the time steps that are left out of it when it is used.
TALLIES = ("windows", "zero", "non_finite", "no_signal", "padded")


class WindowSums(NamedTuple):
    """Sums and counts, a row a window."""

    sums: np.ndarray  # (n_windows, n_columns + 1) float64; the last: absolute values over all columns
    samples: np.ndarray  # (n_windows, n_columns) int64: samples summed
    tallies: np.ndarray  # (n_windows, len(TALLIES)) int64
    equal_leads: bool  # several leads, and all of them the same in every window


def check_relevance(estimator: Any, R: Any, *, reset: bool) -> np.ndarray:
    """Return R as ``check_ecg`` does, but with NaN and infinities let through."""
    with np.errstate(over="ignore"):
        return check_ecg(estimator, R, reset=reset, ensure_all_finite=False)


def check_signal(estimator: Any, ecg: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the ECG beside relevance of shape (n_windows, n_leads, n_timesteps) as a cube; its leads may differ."""
    if ecg is None:
        return None
    array = check_array(ecg, allow_nd=True, ensure_min_features=0, input_name="ecg", estimator=estimator)
    if array.ndim not in (2, 3) or len(array) != shape[0]:
        raise ValueError(
            f"ecg must be ({shape[0]}, {shape[2]}) or ({shape[0]}, n_leads, {shape[2]}), a window beside each of "
            f"the relevance; got shape {array.shape}"
        )
    if array.shape[-1] != shape[2]:
        raise ValueError(
            f"ecg has {array.shape[-1]} timesteps, the relevance {shape[2]}: resample before the pipeline, or pass the "
            "input of the network, explain(X).data"
        )
    return array.reshape(len(array), -1, shape[2])


def window_sums(cube: np.ndarray, signal: np.ndarray | None, *, by: str, statistic: str) -> WindowSums:
    """Sum each window in float64, over time and, by record, over leads.

    A window's sums do not depend on its companions: each is added up on its own, in a fixed order.

    Parameters
    ----------
    cube : ndarray of shape (n_windows, n_leads, n_timesteps), float32
        Relevance.
    signal : ndarray of shape (n_windows, any, n_timesteps) or None
        ECG: what follows its last sample that is not zero on all leads is a tail of padding. None: no tails.
    by : "record" or "lead"
        Columns.
    statistic : str
        One of PARTS.

    Returns
    -------
    window_sums : WindowSums
        Sums and counts, 0 for windows that are left out.
    """
    n, n_leads, n_timesteps = cube.shape
    sums, total = np.zeros((n, n_leads)), np.zeros(n)
    lengths = np.full(n, n_timesteps)
    finite, zero = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
    equal, step = n_leads > 1, max(1, _BLOCK // (n_leads * n_timesteps))
    for start in range(0, n, step):
        i = slice(start, start + step)
        block = np.array(cube[i], dtype=np.float64, order="C")
        finite[i] = np.isfinite(block).all(axis=(1, 2))
        block[~finite[i]] = 0
        if signal is not None:
            lengths[i] = _lengths(signal[i])
            block *= np.arange(n_timesteps) < lengths[i, None, None]
        zero[i] = ~block.any(axis=(1, 2))
        equal = equal and bool((block == block[:, :1]).all())
        block = PARTS[statistic](block)
        sums[i] = block.sum(axis=2)
        total[i] = np.abs(block, out=block).sum(axis=2).sum(axis=1)
    used = finite & (lengths > 0)
    samples = np.where(used, lengths, 0)[:, None] * np.ones(n_leads, dtype=np.int64)
    if by == "record":
        sums, samples = sums.sum(axis=1, keepdims=True), samples.sum(axis=1, keepdims=True)
    padded = np.where(used, n_timesteps - lengths, 0)
    return WindowSums(
        np.column_stack([sums, total]),
        samples,
        np.column_stack([used, used & zero, ~finite, finite & (lengths == 0), padded]).astype(np.int64),
        equal and not zero.all(),
    )


def _lengths(signal: np.ndarray) -> np.ndarray:
    """Time steps up to the last that is not zero on all leads, (n_windows,)."""
    alive = (signal != 0).any(axis=1)
    return np.where(alive.any(axis=1), alive.shape[1] - alive[:, ::-1].argmax(axis=1), 0)


def warn_of(windows: WindowSums, by: str, *, stacklevel: int) -> None:
    """Warn of windows that are not finite and of leads that cannot be told apart."""
    out = np.flatnonzero(windows.tallies[:, TALLIES.index("non_finite")])
    if len(out):
        warnings.warn(
            f"the relevance of {len(out)} of {len(windows.tallies)} windows has NaN or infinities (the first at "
            f"{out[0]}): left out and counted in exclusions_",
            UserWarning,
            stacklevel=stacklevel,
        )
    if windows.equal_leads and by == "lead":
        warnings.warn(
            "the relevance of all leads is equal, as that of a class activation map is: the columns say nothing about "
            "leads; aggregate by='record', or explain with a method that has a lead axis",
            UserWarning,
            stacklevel=stacklevel,
        )
