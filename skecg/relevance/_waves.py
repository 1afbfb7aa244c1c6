"""Sums of relevance over P waves, QRS complexes, T waves and the rest, lead by lead, in one go over each window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._beats import WAVES, typical, usable
from ._windows import PARTS, TALLIES, WindowSums, spans

PARTS_OF_BEATS = ("P", "QRS", "T", "rest", "P region")

_INDEX = {name: i for i, name in enumerate(TALLIES["wave"])}
_BLOCK = 2**20  # samples whose intervals are found together
_BEFORE = 0.35  # of the RR interval before an R peak belong to its beat, the others to the beat before
_LONE_RR = 1.0  # s, taken where a window has one beat
_P_REGION = 0.200, 0.030  # s before the QRS onset, where Beats do not tell
_FARTHEST = 2.0**40  # samples: what is farther is no position
_NONE = len(PARTS_OF_BEATS)  # column of what is left out
# Part of a sample by what it lies in: bit 0 QRS, 1 P, 2 T, 3 what is used of a beat; the first of these holds.
_PART = np.array([_NONE if not k else 1 if k & 1 else 0 if k & 2 else 2 if k & 4 else 3 for k in range(16)])


def wave_sums(
    cube: np.ndarray, signal: np.ndarray | None, beats: Sequence[Any], *, statistic: str, together: bool
) -> WindowSums:
    """Sum each window in float64 over the samples of each wave of each lead.

    A sample is of one part: of the QRS, else the P wave, else the T wave, else the rest of a beat. Beats that are not
    used, waves that are cut by the window's end or by padding, undecided P waves, and what precedes the first and
    follows the last beat are of no part, so that the rest holds nothing of them. The P region stands beside these.

    Parameters
    ----------
    cube : ndarray of shape (n_windows, n_leads, n_timesteps), float32
        Relevance.
    signal : ndarray of shape (n_windows, any, n_timesteps) or None
        ECG, which tells the padding.
    beats : sequence of Beats
        One a window, delineated and checked.
    statistic : str
        One of PARTS.
    together : bool
        Whether the leads are summed.

    Returns
    -------
    window_sums : WindowSums
        Columns by lead, then PARTS_OF_BEATS; 0 for windows that are left out.
    """
    n, n_leads, n_timesteps = cube.shape
    shape = n, n_leads, _NONE + 1
    sums, samples, total = np.zeros(shape), np.zeros(shape), np.zeros(n)
    tallies = np.zeros((n, len(_INDEX)), dtype=np.int64)
    span = spans(signal, n, n_timesteps)
    equal, step = n_leads > 1, max(1, _BLOCK // (n_leads * n_timesteps))
    buffer = np.empty(n_leads * n_timesteps)  # stays in the cache of the processor
    size = min(step, n) * buffer.size + 1
    marks, number = np.zeros(size, dtype=bool), np.zeros(size, dtype=np.int32)
    for start in range(0, n, step):
        stop = min(start + step, n)
        some = slice(start, stop)
        cut = _Cut(beats[some], span[some], n_leads, n_timesteps, tallies[some], marks, number)
        signed, absolute = np.empty((2, len(cut.edges)))
        for k in range(stop - start):
            window, tally, i = cube[start + k], tallies[start + k], slice(cut.first[k], cut.first[k + 1])
            if not np.isfinite(window).all():
                tally[:] = 0
                tally[_INDEX["non_finite"]] = 1
            if not tally[_INDEX["windows"]]:
                signed[i] = absolute[i] = cut.length[i] = 0
                continue
            buffer.reshape(window.shape)[:] = window
            places = cut.edges[i] - k * buffer.size
            part = PARTS[statistic](buffer)
            np.add.reduceat(part, places, out=signed[i])
            if statistic == "mean":
                np.add.reduceat(np.abs(part, out=part), places, out=absolute[i])
            else:  # of one sign
                np.abs(signed[i], out=absolute[i])
            tally[_INDEX["zero"]] = not absolute[i].any()
            equal = equal and bool((window == window[:1]).all())
        sums[some], samples[some], total[some] = cut.sum_up(signed, absolute)
    parts = samples[..., :4].sum(axis=(1, 2))
    used = tallies[:, _INDEX["windows"]] > 0
    lengths = span[:, 1] - span[:, 0]
    tallies[used, _INDEX["padded"]] = (n_timesteps - lengths)[used]
    tallies[used, _INDEX["outside"]] = (lengths * n_leads - parts)[used]
    sums, samples = sums[..., :_NONE], samples[..., :_NONE].astype(np.int64)
    if together:
        sums, samples = sums.sum(axis=1), samples.sum(axis=1)
    some_relevance = used & (tallies[:, _INDEX["zero"]] == 0)
    return WindowSums(
        np.column_stack([sums.reshape(n, -1), total]),
        samples.reshape(n, -1),
        tallies,
        equal and bool(some_relevance.any()),
    )


class _Cut:
    """Windows cut where any wave, any beat or any lead begins or ends: stretches that are of one part each.

    Parameters
    ----------
    beats : sequence of Beats
        One a window.
    span : ndarray of shape (n_windows, 2)
        Where the ECG begins and ends between the padding.
    n_leads, n_timesteps : int
        Of a window.
    tallies : ndarray of shape (n_windows, n_tallies)
        Gets the counts of windows and beats.
    marks, number : ndarray of shape (at least the samples of the windows, and 1,), bool and int32
        Room to work in; marks are False, and left so.

    Attributes
    ----------
    edges : ndarray of shape (n_stretches,)
        Where the stretches begin, samples of the windows laid end to end.
    length : ndarray of shape (n_stretches,)
        Their samples.
    first : ndarray of shape (n_windows + 1,)
        Number of the first stretch of each window, and of all stretches.
    """

    def __init__(
        self,
        beats: Sequence[Any],
        span: np.ndarray,
        n_leads: int,
        n_timesteps: int,
        tallies: np.ndarray,
        marks: np.ndarray,
        number: np.ndarray,
    ) -> None:
        self._shape = len(beats), n_leads
        size = len(beats) * n_leads * n_timesteps
        self._n_timesteps = n_timesteps
        intervals = self._intervals(beats, span, tallies)
        marks[: size + 1 : n_timesteps] = True
        for ends in intervals.values():
            marks[ends] = True
        edges = np.flatnonzero(marks[: size + 1])
        marks[edges] = False
        number[edges] = np.arange(len(edges))  # of the stretch that begins there; read at edges alone
        inside = {name: _covered(number[ends], len(edges))[:-1] for name, ends in intervals.items()}
        self.edges = edges[:-1]
        self.length = np.diff(edges)
        of_row = number[: size + 1 : n_timesteps]
        self.first = of_row[::n_leads].copy()
        row = np.repeat(np.arange(len(beats) * n_leads) * (_NONE + 1), np.diff(of_row))
        kind = inside["QRS"].view(np.uint8) | inside["P"].view(np.uint8) << 1 | inside["T"].view(np.uint8) << 2
        part = _PART[kind | (inside["beat"] & ~inside["unclear"]).view(np.uint8) << 3]
        self._column = row + part
        self._counted = part != _NONE
        self._region = np.flatnonzero(inside["P region"])
        self._region_column = row[self._region] + PARTS_OF_BEATS.index("P region")

    def sum_up(self, signed: np.ndarray, absolute: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Add up stretches: sums and samples (n_windows, n_leads, parts and none), and totals (n_windows,)."""
        size = self._shape[0] * self._shape[1] * (_NONE + 1)
        sums, samples = (
            np.bincount(self._column, values, size) + np.bincount(self._region_column, values[self._region], size)
            for values in (signed, self.length)
        )
        totals = np.add.reduceat(absolute * self._counted, self.first[:-1])
        return sums.reshape(*self._shape, -1), samples.reshape(*self._shape, -1), totals

    def _intervals(self, beats: Sequence[Any], span: np.ndarray, tallies: np.ndarray) -> dict[str, np.ndarray]:
        """Return begin and end (2, n) of what lies in the windows, by name, and count what does not."""
        signal = span[:, 1] > span[:, 0]
        found = signal & np.array([usable(b, "wave") for b in beats], dtype=bool)
        tallies[~signal, _INDEX["no_signal"]] = 1
        tallies[signal & ~found, _INDEX["failed"]] = 1
        chosen = [beats[k] for k in np.flatnonzero(found)]
        window = np.repeat(np.flatnonzero(found), [len(b.r_peaks) for b in chosen]).astype(np.intp)
        span = span[window, None]  # (n_beats, 1, 2)
        if not chosen:
            return dict.fromkeys(("P", "QRS", "T", "beat", "unclear", "P region"), np.empty((2, 0), dtype=np.intp))
        fs = chosen[0].fs
        limits = np.concatenate([np.asarray(b.limits, dtype=np.float64) for b in chosen])
        like = np.concatenate([typical(b) for b in chosen])
        _check_limits(limits)
        known = np.isfinite(limits)
        has = {wave: known[..., on] & known[..., off] & like[:, None] for wave, (on, off) in WAVES.items()}
        leads = has["QRS"]  # of which a beat is used
        for wave in ("P", "T"):
            has[wave] &= leads
        states = [b.p_present for b in chosen for _ in range(len(b.r_peaks))]
        undecided = leads & np.array([state is None for state in states])[:, None]
        present = np.array([state is not None and bool(state) for state in states])[:, None]
        doubtful = has["P"] & undecided  # limits of what may be no P wave
        has["P"] = has["P"] & present

        ends = {wave: _samples(limits[..., list(places)], has[wave]) for wave, places in WAVES.items()}
        region, told = self._p_region(chosen, limits, leads, fs)  # of the beats, for all leads alike
        whole = {wave: _within(those, span) for wave, those in ends.items()}
        whole["P region"] = told[:, None] & _within(region[:, None], span)
        cut = {wave: has[wave] & ~whole[wave] for wave in WAVES}
        shape = *leads.shape, 2
        region, beat = (np.broadcast_to(those[:, None], shape) for those in (region, _beat_ends(window, chosen, fs)))
        everything = {
            **{wave: (ends[wave], has[wave] & whole[wave]) for wave in WAVES},
            "P region": (region, leads & whole["P region"]),
            "beat": (np.clip(beat, span[..., :1], span[..., 1:]), leads),
        }
        unclear = [(ends[wave], cut[wave]) for wave in WAVES if cut[wave].any()]
        if undecided.any():
            maybe = np.where(doubtful[..., None], _samples(limits[..., [0, 2]], doubtful), region)
            unclear.append((maybe, undecided))

        used = leads.any(axis=1)
        counted = {
            "beats": used,
            "atypical": ~like,
            "absent_P": leads & ~undecided & ~has["P"],
            "undecided_P": undecided,
            "absent_QRS": like[:, None] & ~leads,
            "absent_T": leads & ~has["T"],
            "cut_waves": sum(flags.astype(np.int64) for flags in (*cut.values(), leads & ~whole["P region"])),
        }
        any_used = np.bincount(window, used, len(beats)) > 0
        tallies[found & ~any_used, _INDEX["no_beat"]] = 1
        tallies[any_used, _INDEX["windows"]] = 1
        for name, flags in counted.items():
            per_beat = flags if flags.ndim == 1 else flags.sum(axis=1)
            tallies[:, _INDEX[name]] = np.where(any_used, np.bincount(window, per_beat, len(beats)), 0)
        start = (window[:, None] * self._shape[1] + np.arange(self._shape[1]))[..., None] * self._n_timesteps
        placed = {name: _place(start, *those) for name, those in everything.items()}
        clipped = [(np.clip(those, span[..., :1], span[..., 1:]), flags) for those, flags in unclear]
        gaps = [self._gaps(k, beats[k]) for k in np.flatnonzero(any_used) if getattr(beats[k], "left_out", ())]
        nothing = np.empty((2, 0), dtype=np.intp)
        placed["unclear"] = np.concatenate([nothing, *(_place(start, *those) for those in clipped), *gaps], axis=1)
        return placed

    def _gaps(self, window: int, beats: Any) -> np.ndarray:
        """Return the stretches of a window in which no beats could be looked for, on all leads, as places (2, n)."""
        gaps = [(start, stop) for start, stop, *_ in beats.left_out]
        ends = np.clip(np.array(gaps, dtype=np.intp).reshape(-1, 1, 2), 0, self._n_timesteps)
        row = window * self._shape[1] + np.arange(self._shape[1])
        return (ends + row[:, None] * self._n_timesteps).reshape(-1, 2).T

    def _p_region(
        self, chosen: Sequence[Any], limits: np.ndarray, leads: np.ndarray, fs: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return where P waves would be, half-open samples (n_beats, 2), from the QRS where not told, and if known."""
        onset = np.where(leads, limits[..., WAVES["QRS"][0]], np.inf).min(axis=1)
        region = np.stack([onset - _P_REGION[0] * fs, onset - _P_REGION[1] * fs], axis=1)
        start = 0
        for beats in chosen:
            stop = start + len(beats.r_peaks)
            if beats.p_region is not None:
                region[start:stop] = beats.p_region
            start = stop
        told = (np.abs(region) < _FARTHEST).all(axis=1)
        return _samples(region, told), told


def _check_limits(limits: np.ndarray) -> None:
    if (np.abs(limits) >= _FARTHEST).any():
        farthest = np.nanmax(np.abs(limits))
        raise ValueError(f"limits of beats must be samples, or NaN where a wave is absent; got {farthest}")
    turned = [wave for wave, (on, off) in WAVES.items() if (limits[..., on] > limits[..., off]).any()]
    if turned:
        raise ValueError(f"limits of beats have onsets behind offsets ({', '.join(turned)}): see skecg.beats.LIMITS")


def _samples(limits: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return limits (..., 2), both ends included, as half-open samples; 0, 0 where not chosen."""
    ends = np.rint(np.where(chosen[..., None], limits, 0.0)).astype(np.intp)
    ends[..., 1] += chosen
    return ends


def _place(start: np.ndarray, ends: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return chosen intervals (n_beats, n_leads, 2) as places (2, n) in leads that start there, end to end."""
    ends = (ends + start)[chosen]
    return ends[ends[:, 0] < ends[:, 1]].T


def _within(ends: np.ndarray, span: np.ndarray) -> np.ndarray:
    return (ends[..., 0] >= span[..., 0]) & (ends[..., 1] <= span[..., 1])


def _beat_ends(window: np.ndarray, chosen: Sequence[Any], fs: float) -> np.ndarray:
    """Return what belongs to each beat, half-open samples (n_beats, 2).

    The larger part of an RR interval is the first beat's. Before the first beat of a window and behind its last, the
    nearest RR interval says how much.
    """
    peaks = np.concatenate([np.asarray(b.r_peaks, dtype=np.float64) for b in chosen])
    rr = np.where(window[1:] == window[:-1], np.diff(peaks), np.nan)
    before, after = np.append(np.nan, rr), np.append(rr, np.nan)
    before, after = (
        np.where(np.isnan(one), np.where(np.isnan(other), _LONE_RR * fs, other), one)
        for one, other in ((before, after), (after, before))
    )
    start = np.ceil(peaks - _BEFORE * before)
    stop = np.append(start[1:], 0.0)
    last = np.append(np.isnan(rr), True)
    stop[last] = np.ceil(peaks + (1 - _BEFORE) * after)[last]
    return np.column_stack([start, stop]).astype(np.intp)


def _covered(ends: np.ndarray, n: int) -> np.ndarray:
    """Tell which of n stretches lie in any interval, given the numbers (2, n_intervals) where they begin and end."""
    depth = np.bincount(ends[0], minlength=n) - np.bincount(ends[1], minlength=n)
    return np.cumsum(depth) > 0
