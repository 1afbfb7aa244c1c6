"""Limits of the waves on the median beat: shared by the leads for the QRS complex, lead by lead for P and T."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from ._align import ALIKE
from ._signal import cut, masked_median

# s around the R peak that the median beat covers, and how long before the next one it ends.
BEFORE, AFTER, NEXT = 0.36, 0.65, 0.12
_QRS = 0.06  # s on either side of the R peak on which beats are compared
# Set once on the records of LUDB with odd numbers (docs/beats.md).
SLOPE = 0.06  # of the steepest slope: below it the QRS complex has not begun, or is over
QUIET_ON, QUIET_OFF = 0.010, 0.016  # s for which it has to stay there
SLOPE_WINDOW = 0.010  # s over which the slope is averaged
LONGEST_ON, LONGEST_OFF = 0.12, 0.20  # s from the R peak in which the limits are looked for
T_FROM, T_TO, T_SHARE = 0.06, 0.48, 0.62  # s after the QRS complex; s after R, and part of the interval, for its peak
P_FROM, P_TO = 0.25, 0.006  # s before the QRS complex
T_NEAR, P_NEAR = 0.06, 0.05  # s around the peak over all leads in which that of a lead lies
T_GAP = 0.02  # s after the QRS complex in which no T wave begins
T_REACH, P_REACH = (0.25, 0.18), (0.12, 0.12)  # s before and after its peak in which a wave has its limits


class Gathered(NamedTuple):
    """The beats of a stretch, cut out around their R peaks."""

    pieces: np.ndarray  # (n_beats, n_leads, width) mV, without wander
    valid: np.ndarray  # (n_beats, width) bool: inside the window and before the next beat
    centre: int  # column of the R peak
    fs: float
    typical: np.ndarray  # (n_beats,) bool: like the median, and their QRS complex lies in the window
    median: np.ndarray  # (n_leads, width), of the typical beats
    stop: int  # column after the last in which half of the typical beats are still valid
    rr: float  # median interval, samples; that of 75 beats a minute for one beat


def gather(x: np.ndarray, r_peaks: np.ndarray, fs: float) -> Gathered:
    """Cut out beats and tell which of them look like their median.

    Parameters
    ----------
    x : ndarray of shape (n_leads, n_timesteps), float32
        The leads between 0.5 and 40 Hz, mV.
    r_peaks : ndarray of int64
        Beats, one at least.
    fs : float
        Sampling rate, Hz.

    Returns
    -------
    gathered : Gathered
        The beats.
    """
    before, after = round(BEFORE * fs), round(AFTER * fs)
    pieces, valid = cut(x, r_peaks, before, after)
    following = np.append(np.diff(r_peaks), 2 * after)
    valid &= np.arange(-before, after + 1) < (following - round(NEXT * fs))[:, None]
    half = max(1, round(_QRS * fs))
    qrs = pieces[:, :, before - half : before + half + 1]
    qrs = qrs - qrs.mean(axis=2, keepdims=True)
    whole = valid[:, before - half] & valid[:, before + half]
    typical = whole
    if whole.sum() > 2:
        for _ in range(2):
            template = np.median(qrs[typical], axis=0)
            scale = np.sqrt(np.square(qrs).sum(axis=(1, 2)) * np.square(template).sum())
            product = np.einsum("nlw,lw->n", qrs, template)
            alike = whole & (product >= ALIKE * scale) & (scale > 0)
            if alike.sum() < 2:
                break
            typical = alike
    chosen = valid[typical]
    enough = chosen.sum(axis=0) * 2 >= typical.sum()
    stop = before + int(np.argmin(np.append(enough[before:], False)))
    if not len(chosen):  # no beat is whole
        stop = before
    median = masked_median(pieces[typical], chosen) if len(chosen) else np.zeros_like(pieces[0])
    rr = float(np.median(np.diff(r_peaks))) if len(r_peaks) > 1 else 0.8 * fs
    return Gathered(pieces, valid, before, fs, typical, median, stop, rr)


def find_qrs(beat: Gathered) -> tuple[int, int] | None:
    """Return the first and last column of the QRS complex over all leads, None where the slope never falls."""
    fs, r = beat.fs, beat.centre
    difference = np.gradient(beat.median, axis=1)
    slope = np.sqrt(np.square(difference).sum(axis=0))
    slope = uniform_filter1d(slope, max(1, round(SLOPE_WINDOW * fs)), mode="nearest")
    near = slice(r - round(0.05 * fs), r + round(0.05 * fs) + 1)
    steepest = near.start + int(np.argmax(slope[near]))
    first, last = r - round(LONGEST_ON * fs), min(beat.stop - 1, r + round(LONGEST_OFF * fs))
    if last <= steepest or first >= steepest:
        return None
    quiet = np.percentile(slope[max(0, r - round(0.3 * fs)) : beat.stop], 10)
    low = slope < quiet + SLOPE * (slope[steepest] - quiet)
    on = _first_run(low[steepest : first - 1 : -1] if first else low[steepest::-1], max(1, round(QUIET_ON * fs)))
    off = _first_run(low[steepest : last + 1], max(1, round(QUIET_OFF * fs)))
    if on is None or off is None:
        return None
    return steepest - on, steepest + off


def _first_run(flags: np.ndarray, length: int) -> int | None:
    """Return where the first run of True of a length begins."""
    together = np.convolve(flags, np.ones(length, dtype=np.int64), mode="valid")
    found = np.flatnonzero(together == length)
    return int(found[0]) if len(found) else None


def find_wave(
    median: np.ndarray,
    level: np.ndarray,
    span: tuple[int, int],
    near: int,
    bounds: tuple[int, int],
    reach: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return on, peak and off of a wave in each lead, as columns of the median beat.

    Parameters
    ----------
    median : ndarray of shape (n_leads, width)
        The median beat, mV.
    level : ndarray of shape (n_leads, stop - start)
        What a deflection is measured from.
    span : (start, stop)
        Columns between which the peak lies.
    near : int
        How far the peak of a lead may lie from that over all leads.
    bounds : (first, last)
        Columns between which the limits lie.
    reach : tuple of int
        How far before and after its peak a wave may have its limits.

    Returns
    -------
    on, peak, off : ndarray of int64, shape (n_leads,)
        None where there is no room for a wave.
    """
    start, stop = span
    if stop - start < 5:
        return None
    part = median[:, start:stop] - level
    top = int(np.argmax(np.square(part).sum(axis=0)))
    a, b = max(0, top - near), min(stop - start, top + near + 1)
    peak = start + a + np.argmax(np.abs(part[:, a:b]), axis=1)
    on = _knee(median, peak, np.maximum(bounds[0], peak - reach[0]))
    off = _knee(median, peak, np.minimum(bounds[1], peak + reach[1]))
    return on, peak, off


def _line(median: np.ndarray, first: int, last: int, start: int, stop: int) -> np.ndarray:
    """Return, from one column to another, the lines through the first and last columns of each lead."""
    share = (np.arange(start, stop) - first) / max(1, last - first)
    return median[:, [first]] + (median[:, [last]] - median[:, [first]]) * share


def _before(median: np.ndarray, qrs_on: int, fs: float) -> np.ndarray:
    """Return the level of each lead right before the QRS complex."""
    start = max(0, qrs_on - round(0.02 * fs))
    return median[:, start : max(start + 1, qrs_on)].mean(axis=1, keepdims=True)


def _knee(median: np.ndarray, peak: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Return, for each lead, the sample between a peak and a far one that lies farthest from the line between them.

    It is the corner of the largest triangle over that line: where the flank of the wave meets what is around it.
    """
    length = int(np.abs(far - peak).max())
    if not length:
        return peak.copy()
    side = np.sign(far - peak)
    at = peak[:, None] + side[:, None] * np.arange(length + 1)
    within = np.arange(length + 1) <= np.abs(far - peak)[:, None]
    lead = np.arange(len(median))[:, None]
    values = median[lead, np.clip(at, 0, median.shape[1] - 1)].astype(np.float64)
    rise = median[lead[:, 0], far] - values[:, 0]
    share = np.arange(length + 1) / np.maximum(np.abs(far - peak), 1)[:, None]
    # below the line for a wave that points up: the foot, not the shoulder
    distance = (values[:, :1] + rise[:, None] * share - values) * np.sign(-rise)[:, None]
    knee = np.argmax(np.where(within, distance, -np.inf), axis=1)
    return peak + side * knee


def average_limits(beat: Gathered, qrs: tuple[int, int] | None) -> tuple[np.ndarray | None, str]:
    """Return the limits of the median beat.

    Parameters
    ----------
    beat : Gathered
        Beats and their median.
    qrs : (on, off) or None
        What :func:`find_qrs` returns for them.

    Returns
    -------
    limits : ndarray of shape (n_leads, 8), float64
        Samples from the R peak on, in the order of ``LIMITS``; NaN where there was no room for a wave. None where there
        is no QRS complex.
    reason : str
        Why.
    """
    if qrs is None:
        return None, "the slope of the median beat never falls to that between beats: no limits of the QRS complex"
    fs, r, median = beat.fs, beat.centre, beat.median
    limits = np.full((len(median), 8), np.nan)
    limits[:, 3], limits[:, 4] = qrs[0] - r, qrs[1] - r
    start, stop = max(0, qrs[0] - round(P_FROM * fs)), qrs[0] - round(P_TO * fs)
    p = t = None
    if stop - start >= 5:
        level = _line(median, start, stop - 1, start, stop)
        p = find_wave(median, level, (start, stop), round(P_NEAR * fs), (start, stop), _samples(P_REACH, fs))
    start, last = qrs[1] + round(T_FROM * fs), beat.stop - 1
    stop = min(last, r + round(min(T_TO * fs, T_SHARE * beat.rr)))
    if stop - start >= 5:
        first = qrs[1] + round(T_GAP * fs)
        # Halfway between the level before the QRS complex and the line under the wave: the first alone takes a raised
        # ST segment for a T wave, the second alone loses the flanks of broad ones.
        level = 0.5 * _before(median, qrs[0], fs) + 0.5 * _line(median, first, last, start, stop)
        t = find_wave(median, level, (start, stop), round(T_NEAR * fs), (first, last), _samples(T_REACH, fs))
    for wave, first in ((p, 0), (t, 5)):
        if wave is not None:
            limits[:, first : first + 3] = np.stack(wave, axis=1) - r
    return limits, ""


def _samples(seconds: tuple[float, float], fs: float) -> tuple[int, int]:
    return round(seconds[0] * fs), round(seconds[1] * fs)
