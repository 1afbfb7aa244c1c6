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
_WINDOW_TALLIES = ("windows", "zero", "non_finite", "no_signal", "padded")
# With beats also: further reasons to leave a window out, and, of windows that are used, the beats used and left out.
_BEAT_TALLIES = (*_WINDOW_TALLIES, "failed", "no_beat", "beats", "atypical")
TALLIES = {
    "record": _WINDOW_TALLIES,
    "lead": _WINDOW_TALLIES,
    "wave": (*_BEAT_TALLIES, "absent_P", "undecided_P", "absent_QRS", "absent_T", "cut_waves", "outside"),
    "beat": (*_BEAT_TALLIES, "edge_beats"),
}
_REASONS = ("failed", "no_beat", "non_finite", "no_signal")  # why a window is left out, one each
USED = 0  # position of "windows" among the tallies


class WindowSums(NamedTuple):
    """Sums and counts, a row a window."""

    sums: np.ndarray  # (n_windows, n_columns + 1) float64; the last: absolute values, what a share is of
    samples: np.ndarray  # (n_windows, n_columns) int64: samples summed; one column where all have as many
    tallies: np.ndarray  # (n_windows, len(TALLIES[by])) int64
    equal_leads: bool  # several leads, and all of them the same in every window
    ecg: np.ndarray | None = None  # (n_windows, n_columns) float64: sums of the ECG over the same samples


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
        ECG: what precedes its first and follows its last sample that is not zero on all leads is padding. None: no
        padding.
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
    first, last = spans(signal, n, n_timesteps).T
    finite, zero = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
    equal, step = n_leads > 1, max(1, _BLOCK // (n_leads * n_timesteps))
    for start in range(0, n, step):
        i = slice(start, start + step)
        block = np.array(cube[i], dtype=np.float64, order="C")
        finite[i] = np.isfinite(block).all(axis=(1, 2))
        block[~finite[i]] = 0
        if signal is not None:
            steps = np.arange(n_timesteps)
            block *= (steps >= first[i, None, None]) & (steps < last[i, None, None])
        zero[i] = ~block.any(axis=(1, 2))
        equal = equal and bool((block == block[:, :1]).all())
        block = PARTS[statistic](block)
        sums[i] = block.sum(axis=2)
        total[i] = np.abs(block, out=block).sum(axis=2).sum(axis=1)
    lengths = last - first
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


def spans(signal: np.ndarray | None, n_windows: int, n_timesteps: int) -> np.ndarray:
    """Return where the ECG of each window begins and ends between its zero padding, (n_windows, 2); 0, 0 for none."""
    found = np.tile([0, n_timesteps], (n_windows, 1))
    if signal is None:
        return found
    step = max(1, _BLOCK // (signal.shape[1] * n_timesteps))
    for start in range(0, n_windows, step):
        alive = (signal[start : start + step] != 0).any(axis=1)
        ends = alive.argmax(axis=1), n_timesteps - alive[:, ::-1].argmax(axis=1)
        found[start : start + step] = np.where(alive.any(axis=1), ends, 0).T
    return found


def refuse_empty(windows: WindowSums, by: str) -> None:
    """Raise ValueError where no window can be used, or by beats no beat, with the counts of what left them out."""
    names = TALLIES[by]
    counts = dict(zip(names, windows.tallies.sum(axis=0).tolist(), strict=True))
    if counts["beats" if "beats" in names else names[USED]]:
        return
    told = ", ".join(f"{name} {n}" for name, n in counts.items() if n)
    raise ValueError(
        f"by={by!r}: none of the {len(windows.tallies)} windows can be used (left out: {told}), so there is nothing to "
        f"average{': Beats.reason says why no beat was found' if 'beats' in names else ''}"
    )


def warn_of(windows: WindowSums, by: str, leads: str, *, whole: bool, stacklevel: int) -> None:
    """Warn of windows that are not finite, of leads that cannot be told apart, and where no window has a beat.

    Of a whole fit also where more than half of the windows are left out.
    """
    names, n = TALLIES[by], len(windows.tallies)
    out = np.flatnonzero(windows.tallies[:, names.index("non_finite")])
    if len(out):
        warnings.warn(
            f"the relevance of {len(out)} of {n} windows has NaN or infinities (the first at "
            f"{out[0]}): left out and counted in exclusions_",
            UserWarning,
            stacklevel=stacklevel,
        )
    counts = dict(zip(names, windows.tallies.sum(axis=0).tolist(), strict=True))
    used = counts[names[USED]]
    if whole and 2 * used < n:
        told = ", ".join(f"{name} {counts[name]}" for name in _REASONS if counts.get(name))
        warnings.warn(
            f"{n - used} of {n} windows are left out ({told}), more than half: the statistics are those of the other "
            f"{used}{'; Beats.reason says why no beat was found' if counts.get('failed') else ''}",
            UserWarning,
            stacklevel=stacklevel,
        )
    if "failed" in names and not used:
        told = ", ".join(f"{name} {counts[name]}" for name in _REASONS)
        warnings.warn(
            f"by={by!r}: none of the {n} windows has a beat to use ({told}): their values are NaN; see exclusions_, "
            "and Beats.reason for what went wrong",
            UserWarning,
            stacklevel=stacklevel,
        )
    if windows.equal_leads and (by == "lead" or (by in ("wave", "beat") and leads == "each")):
        instead = "by='record'" if by == "lead" else "leads='together'"
        warnings.warn(
            "the relevance of all leads is equal, as that of a class activation map is: the columns say nothing about "
            f"leads; aggregate with {instead}, or explain with a method that has a lead axis",
            UserWarning,
            stacklevel=stacklevel,
        )
