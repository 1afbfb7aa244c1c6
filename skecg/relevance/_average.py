"""Sums of relevance around R peaks, on the relevance's own grid: what average beats are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ._beats import typical, usable
from ._windows import PARTS, TALLIES, WindowSums, spans

_INDEX = {name: i for i, name in enumerate(TALLIES["beat"])}


def beat_sums(
    cube: np.ndarray,
    signal: np.ndarray | None,
    beats: Sequence[Any],
    *,
    statistic: str,
    offsets: range,
    together: bool,
) -> WindowSums:
    """Sum the beats of each window in float64, sample by sample around the R peak.

    Only whole beats count: one that begins or ends outside the window, or in its padding, is left out and counted.

    Parameters
    ----------
    cube : ndarray of shape (n_windows, n_leads, n_timesteps), float32
        Relevance.
    signal : ndarray of shape (n_windows, n_leads, n_timesteps) or None
        ECG, which is summed too, and tells the padding.
    beats : sequence of Beats
        One a window, checked.
    statistic : str
        One of PARTS.
    offsets : range
        Samples of a beat from its R peak on.
    together : bool
        Whether the leads are summed.

    Returns
    -------
    window_sums : WindowSums
        Columns by lead, then by offset; 0 for windows that are left out. The total is that of the summed beats.
    """
    n, n_leads, n_timesteps = cube.shape
    width, axes = len(offsets), (0, 1) if together else 1
    n_columns = width if together else n_leads * width
    sums = np.zeros((n, n_columns + 1))
    ecg = None if signal is None else np.zeros((n, n_columns))
    tallies = np.zeros((n, len(_INDEX)), dtype=np.int64)
    equal = n_leads > 1
    # every stretch of a beat's width, without a copy: (n_windows, n_leads, n_starts, width)
    pieces, of_ecg = (None if a is None else sliding_window_view(a, width, axis=2) for a in (cube, signal))
    for i, (window, found, (first, last)) in enumerate(
        zip(cube, beats, spans(signal, n, n_timesteps).tolist(), strict=True)
    ):
        tally = tallies[i]
        out = _left_out(window, found, first, last)
        if out:
            tally[_INDEX[out]] = 1
            continue
        peaks, like = np.asarray(found.r_peaks), typical(found)
        whole = (peaks + offsets[0] >= first) & (peaks + offsets[-1] < last)
        starts = peaks[like & whole] + offsets[0]
        if not len(starts):
            tally[_INDEX["no_beat"]] = 1
            continue
        part = PARTS[statistic](pieces[i][:, starts].astype(np.float64))
        sums[i, :-1] = part.sum(axis=axes).ravel()
        sums[i, -1] = np.abs(part, out=part).sum()
        if ecg is not None:
            ecg[i] = of_ecg[i][:, starts].sum(axis=axes, dtype=np.float64).ravel()
        tally[_INDEX["windows"]] = 1
        tally[_INDEX["zero"]] = sums[i, -1] == 0 and not window[:, first:last].any()
        tally[_INDEX["padded"]] = n_timesteps - (last - first)
        tally[_INDEX["beats"]] = len(starts)
        tally[_INDEX["atypical"]] = len(like) - like.sum()
        tally[_INDEX["edge_beats"]] = np.sum(like & ~whole)
        equal = equal and bool((window == window[:1]).all())
    samples = tallies[:, _INDEX["beats"], None] * (n_leads if together else 1)
    some = tallies[:, _INDEX["windows"]] > tallies[:, _INDEX["zero"]]
    return WindowSums(sums, samples, tallies, equal and bool(some.any()), ecg)


def _left_out(window: np.ndarray, beats: Any, first: int, last: int) -> str:
    """Name the tally of a window that is left out as a whole; "" for others."""
    if not np.isfinite(window).all():
        return "non_finite"
    if first == last:
        return "no_signal"
    return "" if usable(beats, "beat") else "failed"

