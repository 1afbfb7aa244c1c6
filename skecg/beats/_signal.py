"""What is done to a window before beats are looked for: leads that can be used, gaps, the part with signal, bands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

# Gaps up to this long (s) are bridged by a straight line: that is shorter than a QRS complex.
LONGEST_GAP = 0.1
# An equal value in all leads for this long (s) at an end of a window is padding, or a cable that fell off.
_PADDING = 0.25
# Length (s) of the point reflection beyond both ends before a filter.
_MARGIN = 1.0
# mV, far beyond any ECG, whose square is a number still.
_LARGEST = 1e6


def usable_leads(x: np.ndarray, fs: float) -> tuple[np.ndarray, np.ndarray, int, int, str]:
    """Return the leads of a window that can be used, without gaps and without padding at the ends.

    Parameters
    ----------
    x : ndarray of shape (n_leads, n_timesteps), float32
        A window, mV; what is not finite, or beyond a million mV, is missing.
    fs : float
        Sampling rate, Hz.

    Returns
    -------
    used : ndarray of shape (n_used, stop - start), float32
        The leads, short gaps bridged.
    which : ndarray of int64
        Their positions.
    start, stop : int
        The part of the window that is no padding.
    reason : str
        Why there is nothing to use; empty where there is.
    """
    nothing = np.empty((0, 0), dtype=np.float32), np.empty(0, dtype=np.int64), 0, 0
    missing = ~(np.abs(x) <= _LARGEST)
    if missing.any():
        runs = [_longest_run(row) for row in missing]
        which = np.flatnonzero([run <= LONGEST_GAP * fs and run < x.shape[1] for run in runs])
        if not len(which):
            shortest = min(runs) / fs
            return (
                *nothing,
                f"missing samples in every lead, {shortest:.2f} s in a row or more; {LONGEST_GAP} s are bridged",
            )
        x = _bridge(x[which], missing[which])
    else:
        which = np.arange(len(x))
    moving = x.max(axis=1) > x.min(axis=1)
    if not moving.all():
        which, x = which[moving], x[moving]
    if not len(which):
        return *nothing, "flat: every lead is constant"
    start, stop = signal_span(x, fs)
    return x[:, start:stop], which, start, stop, ""


def signal_span(x: np.ndarray, fs: float) -> tuple[int, int]:
    """Return the part of leads (n_leads, n_timesteps) that is not constant in all of them at an end, as in padding."""
    n = x.shape[1]
    least = max(2, round(_PADDING * fs))
    if n <= least:
        return 0, n
    start, stop = 0, n
    if (x[:, :least] == x[:, :1]).all():
        start = int(np.argmax((x != x[:, :1]).any(axis=0)))
    if (x[:, -least:] == x[:, -1:]).all():
        stop = n - int(np.argmax((x[:, ::-1] != x[:, -1:]).any(axis=0)))
    return start, stop


def _longest_run(gaps: np.ndarray) -> int:
    """Return the length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], gaps, [False])).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _bridge(x: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return a copy with the missing samples of each lead on the line between their neighbours."""
    x, t = x.copy(), np.arange(x.shape[1])
    for row, gaps in zip(x, missing, strict=True):
        if gaps.any():
            row[gaps] = np.interp(t[gaps], t[~gaps], row[~gaps])
    return x


def bandpass(x: np.ndarray, fs: float, bands: Sequence[tuple[float, float]]) -> list[np.ndarray]:
    """Filter leads without shifting them, in several bands at once.

    The response is that of a Butterworth filter of second order forwards and backwards. Beyond its ends a lead goes on
    as its point reflection; the line between the far ends is removed first, so that they meet.

    Parameters
    ----------
    x : ndarray of shape (n_leads, n_timesteps), float32
        mV.
    fs : float
        Sampling rate, Hz.
    bands : sequence of (low, high)
        Where half the amplitude passes, Hz; a low of 0 leaves slow parts in.

    Returns
    -------
    filtered : list of ndarray of shape (n_leads, n_timesteps), float32
        One for each band.
    """
    n = x.shape[1]
    margin = min(n - 1, round(_MARGIN * fs))
    length = next_fast_len(n + 2 * margin, real=True)
    left = margin + (length - n - 2 * margin)
    left, right = min(left, n - 1), length - n - min(left, n - 1)
    right, over = min(right, n - 1), right - min(right, n - 1)
    parts = [2 * x[:, :1] - x[:, left:0:-1], x, 2 * x[:, -1:] - x[:, -2 : -2 - right : -1]]
    padded = np.concatenate(parts, axis=1)
    if over:  # a window shorter than the rounding of its length
        padded = np.concatenate([padded, np.repeat(padded[:, -1:], over, axis=1)], axis=1)
    line = np.linspace(0, 1, length, dtype=np.float32)
    padded -= padded[:, :1] + (padded[:, -1:] - padded[:, :1]) * line
    spectrum = rfft(padded, axis=1)
    return [
        irfft(spectrum * _response(length, fs, low, high), n=length, axis=1)[:, left : left + n] for low, high in bands
    ]


@lru_cache(maxsize=64)
def _response(length: int, fs: float, low: float, high: float) -> np.ndarray:
    """Return the gain at the frequencies of a real spectrum."""
    f = np.fft.rfftfreq(length, 1 / fs)
    gain = 1 / (1 + (f / high) ** 4)
    if low:
        f[0] = low / 1e6
        gain /= 1 + (low / f) ** 4
    gain = gain.astype(np.float32)
    gain.setflags(write=False)
    return gain


def cut(x: np.ndarray, centres: np.ndarray, before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut stretches around positions; outside of the window its end samples go on.

    Parameters
    ----------
    x : ndarray of shape (n_leads, n_timesteps)
        A window.
    centres : ndarray of int64, shape (n,)
        Positions.
    before, after : int
        Samples before and after each.

    Returns
    -------
    pieces : ndarray of shape (n, n_leads, before + after + 1)
        The stretches.
    inside : ndarray of bool, shape (n, before + after + 1)
        Which samples lie in the window.
    """
    at = centres[:, None] + np.arange(-before, after + 1)
    inside = (at >= 0) & (at < x.shape[1])
    pieces = x[:, np.clip(at, 0, x.shape[1] - 1)]
    return pieces.transpose(1, 0, 2), inside


def masked_median(pieces: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the median over the first axis of those samples that are valid; 0 where none is.

    Parameters
    ----------
    pieces : ndarray of shape (n, n_leads, width)
        Stretches.
    valid : ndarray of bool, shape (n, width)
        Which samples count.

    Returns
    -------
    median : ndarray of shape (n_leads, width)
        The median stretch.
    """
    if valid.all():
        return np.median(pieces, axis=0)
    filled = np.where(valid[:, None], pieces, np.float32(np.inf))
    filled.sort(axis=0)
    n = valid.sum(axis=0)
    column = np.arange(pieces.shape[2])
    low, high = np.maximum(n - 1, 0) // 2, np.minimum(n // 2, len(pieces) - 1)
    median = 0.5 * (filled[low, :, column] + filled[high, :, column]).T
    return np.where(n > 0, median, np.float32(0))
