"""delineate: the limits of P wave, QRS complex and T wave of the beats of every window, or the reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from ..utils._validation import check_number, check_option
from ._adaptors import import_neurokit
from ._average import average_limits, find_qrs, gather
from ._beats import LIMITS, Beats, check_beats, check_lead_names, check_windows
from ._find import WIDE
from ._p_wave import FEWEST, decide_p, measure_p
from ._prominence import drop_partial, neurokit_limits
from ._signal import bandpass, usable_leads
from ._windows import window_limits

METHODS = ("average", "prominence", "dwt", "windows", "auto")
_REGION = (0.200, 0.030)  # s before the QRS complex
_ON = 0.044  # s from the onset of the QRS complex to R where it is not known
# Beats of records longer than _LONG s are averaged over stretches of _STRETCH s: rhythms and rates change.
_LONG, _STRETCH = 60.0, 30.0


class _Found(NamedTuple):
    """What was found in one stretch; arrays have a row for each of its beats and used lead."""

    limits: np.ndarray
    typical: np.ndarray
    region: np.ndarray
    p_present: bool | None
    snr: float
    consistency: float
    reason: str


def delineate(
    X: Any,
    beats: Sequence[Beats],
    fs: float | None = None,
    *,
    method: str = "average",
    lead_names: Sequence[str] | None = None,
    min_beats: int = 3,
) -> list[Beats]:
    """Find the limits of P wave, QRS complex and T wave of beats, and tell whether there are P waves.

    "average" works on the median of the beats that look alike, aligned on their R peaks, over all leads. The QRS
    complex, one for all leads, ends where the slope over all leads has fallen below 6 % of its steepest. P and T are
    found over all leads, then in each lead as the largest deflection nearby, with limits at the corners of the largest
    triangles over its flanks [1]_. What the median beat has, each beat that looks like it has at the same distance from
    R. How far from cardiologists' limits this is, by lead and rhythm, is told in the docs, on the page "Beats and
    waves", beside the methods of NeuroKit2 [2]_.

    Every delineator returns a P wave for almost every beat of atrial fibrillation. So whether there is one is decided
    apart, for the window as a whole: with 8 leads or more by ``p_snr``, the deflection of the median beat before the
    QRS over what the beats differ by (present from 3 on, absent below 2), with fewer by ``p_consistency``, the
    correlation of each beat with the mean of the others (0.7 and 0.5). Without five beats nothing is decided. **Flutter
    waves that are locked to the QRS cannot be told from P waves.**

    Parameters
    ----------
    X : array-like of shape (n_samples, n_leads, n_timesteps) or (n_samples, n_timesteps)
        The ECG in which the beats were found, mV.
    beats : list of Beats
        One for each window; arrays of R peaks (samples) will do where ``fs`` is given.
    fs : float or None, default=None
        Sampling rate, Hz; None takes that of the beats.
    method : "average", "prominence", "dwt", "windows" or "auto", default="average"
        "prominence" and "dwt" are NeuroKit2's, lead by lead and beat by beat (extra ``waves``); dwt puts the onset of
        the QRS complex 38 ms early. "windows": usual distances from the QRS complex, a QT interval by the square root
        of the preceding interval; good enough for QRS and T, not for P. "auto" tries the average; where that fails
        NeuroKit2's prominence, the median over beats (if NeuroKit2 is installed); where that fails windows. ``source``
        says which it was, ``limits_reason`` why not the one before.
    lead_names : sequence of str, default=None
        Names of the leads; only their number is compared with X.
    min_beats : int, default=3
        Beats that must look alike for an average. With 1 or 2, windows of two seconds get limits too, less exact ones.

    Returns
    -------
    beats : list of Beats
        The same beats with ``limits``, ``typical``, ``p_present``, ``p_snr``, ``p_consistency``, ``p_region``,
        ``source`` and ``limits_reason``. A window without limits has ``source="failed"``, the reason, and NaN.

    Raises
    ------
    ValueError
        For X of another shape, beats that do not fit it, an unknown method.
    TypeError
        For beats that are no list.
    ImportError
        For "prominence" and "dwt" without neurokit2.

    See Also
    --------
    find_beats : The R peaks.

    Notes
    -----
    Limits of P are NaN where P waves are absent and where five beats or more did not decide it. Beats that do not look
    like the median (``typical`` False: correlation below 0.8, or a QRS complex that is cut by an end of the window)
    have no limits from an average. A wave that is cut by an end of the window has none. Where a T wave reaches into the
    next P wave it ends before it; where into the next QRS complex, it has no limits. Leads that are flat or lack
    samples have none. Records longer than 60 s are averaged over stretches of 30 s; P waves are then present, or
    absent, where two thirds of the stretches that were decided say so.

    References
    ----------
    .. [1] Zhang Q, Illanes Manriquez A, Medigue C, Papelier Y, Sorine M. An algorithm for robust and efficient location
       of T-wave ends in electrocardiograms. IEEE Transactions on Biomedical Engineering 53(12):2544-2552, 2006.
    .. [2] Makowski D, Pham T, Lau ZJ, et al. NeuroKit2: a Python toolbox for neurophysiological signal processing.
       Behavior Research Methods 53:1689-1696, 2021.

    Examples
    --------
    >>> from skecg import make_ecg
    >>> from skecg.beats import delineate, find_beats
    >>> ecg = make_ecg(2, classes=("N", "AF"), n_leads=12, window=10.0, random_state=0)
    >>> beats = delineate(ecg.data, find_beats(ecg.data, ecg.fs))
    >>> [(label, found.p_present) for label, found in zip(ecg.target.tolist(), beats)]
    [('AF', False), ('N', True)]
    >>> beats[0].limits.shape  # beats, leads, limits
    (17, 12, 8)
    """
    X = check_windows(X)
    if fs is not None:
        check_number("fs", fs, low=60, unit="(Hz)")
    check_option("method", method, METHODS)
    check_number("min_beats", min_beats, low=1, integer=True, unit="(beats)")
    check_lead_names(lead_names, X.shape[1])
    beats = check_beats(beats, X, fs)
    if method in ("prominence", "dwt"):
        import_neurokit()
    return [_delineate(window, found, method, int(min_beats)) for window, found in zip(X, beats, strict=True)]


def _delineate(x: np.ndarray, beats: Beats, method: str, min_beats: int) -> Beats:
    """Return the beats of one window with limits."""
    n = len(beats.r_peaks)
    empty = np.full((n, len(x), len(LIMITS)), np.nan)
    region = (beats.r_peaks - _ON * beats.fs)[:, None] - np.array(_REGION) * beats.fs
    failed = replace(
        beats,
        limits=empty,
        typical=np.zeros(n, dtype=bool),
        p_present=None,
        p_snr=float("nan"),
        p_consistency=float("nan"),
        p_region=np.round(region),
        source="failed",
        limits_reason="",
    )
    if not n:
        return replace(failed, limits_reason=beats.reason or "no beats")
    used, which, start, stop, reason = usable_leads(x, beats.fs)
    if reason or stop - start < 5:
        return replace(failed, limits_reason=reason or "no signal")
    (wide,) = bandpass(used, beats.fs, [WIDE])
    parts = _cut(beats.r_peaks - start, stop - start, beats.fs)
    offsets = [a + start for a, _, _ in parts]
    tried = []
    for way in _ways(method):
        stretches = [
            _stretch(used[:, a:b], wide[:, a:b], peaks, beats.fs, way, min_beats, median=method == "auto")
            for a, b, peaks in parts
        ]
        reasons = list(dict.fromkeys(found.reason for found in stretches if found.reason))
        tried += [f"{way}: {reason}" if method == "auto" else reason for reason in reasons]
        if all(found.reason for found in stretches):
            continue
        limits = empty.copy()
        limits[:, which] = np.concatenate(
            [found.limits + offset for found, offset in zip(stretches, offsets, strict=True)]
        )
        _keep_inside(limits, beats.r_peaks, start, stop)
        return replace(
            failed,
            limits=limits,
            typical=np.concatenate([found.typical for found in stretches]),
            p_region=np.round(
                np.concatenate([found.region + offset for found, offset in zip(stretches, offsets, strict=True)])
            ),
            source=way,
            limits_reason="; ".join(tried),
            **_over_stretches(stretches),
        )
    return replace(failed, limits_reason="; ".join(tried))


def _ways(method: str) -> tuple[str, ...]:
    """Return the methods to try in turn."""
    if method != "auto":
        return (method,)
    return ("average", "prominence", "windows") if find_spec("neurokit2") else ("average", "windows")


def _cut(r_peaks: np.ndarray, n: int, fs: float) -> list[tuple[int, int, np.ndarray]]:
    """Cut a record at the middle between beats: first sample, sample after the last, its beats from there on."""
    if n <= _LONG * fs:
        return [(0, n, r_peaks)]
    edges = np.arange(0, n, round(_STRETCH * fs))
    first = np.unique(np.searchsorted(r_peaks, edges[1:]))
    first = first[(first > 0) & (first < len(r_peaks))]
    middles = (r_peaks[first - 1] + r_peaks[first]) // 2 if len(first) else np.empty(0, dtype=np.int64)
    cuts = [0, *middles.tolist(), n]
    groups = np.split(r_peaks, first)
    return [(a, b, group - a) for a, b, group in zip(cuts, cuts[1:], groups, strict=False)]


def _stretch(
    x: np.ndarray, wide: np.ndarray, r_peaks: np.ndarray, fs: float, way: str, min_beats: int, *, median: bool
) -> _Found:
    """Delineate the beats of a stretch in one way."""
    beat = gather(wide, r_peaks, fs)
    n, typical = len(r_peaks), beat.typical
    limits, reason, t_off = np.full((n, len(x), len(LIMITS)), np.nan), "", float("nan")
    qrs = find_qrs(beat) if typical.any() else None
    if way == "average":
        if typical.sum() < min_beats:
            reason = f"{typical.sum()} of {n} beats look alike and are whole; {min_beats} are needed for an average"
        else:
            shared, reason = average_limits(beat, qrs)
            if shared is not None:
                limits[typical] = r_peaks[typical][:, None, None] + shared
                t_off = float(np.nanmedian(shared[:, 7])) if np.isfinite(shared[:, 7]).any() else t_off
    elif way == "windows":
        around = None if qrs is None else (qrs[0] - beat.centre, qrs[1] - beat.centre)
        limits = window_limits(wide, r_peaks, fs, around, beat.rr)
        typical = np.ones(n, dtype=bool)
    else:
        limits, reason = neurokit_limits(x, r_peaks, fs, way)
        typical = np.ones(n, dtype=bool)
        if median and not reason:
            limits = _median_over_beats(limits, r_peaks)
    on = qrs[0] if qrs is not None else beat.centre - round(_ON * fs)
    snr, consistency, n_measured = measure_p(beat, on, t_off, beat.rr if n > 1 else float("nan"))
    p_present = decide_p(snr, consistency, n_measured, len(x))
    if p_present is False or (p_present is None and n_measured >= FEWEST):
        limits[:, :, :3] = np.nan
    region = (r_peaks + (on - beat.centre))[:, None] - np.array(_REGION) * fs
    return _Found(limits, typical, region, p_present, snr, consistency, reason)


def _median_over_beats(limits: np.ndarray, r_peaks: np.ndarray) -> np.ndarray:
    """Give every beat the median distances from R of all."""
    distance = limits - r_peaks[:, None, None]
    shared, found = np.full(distance.shape[1:], np.nan), np.isfinite(distance).any(axis=0)
    shared[found] = np.round(np.nanmedian(distance[:, found], axis=0))
    return r_peaks[:, None, None] + shared


def _keep_inside(limits: np.ndarray, r_peaks: np.ndarray, start: int, stop: int) -> None:
    """Make waves NaN, in place, that an end of the signal or another beat cuts; let T waves end before P waves."""
    with np.errstate(invalid="ignore"):
        outside = (limits < start) | (limits > stop - 1)
        limits[outside] = np.nan
        drop_partial(limits)
        # The next beat begins at its QRS complex, or, where that has no limits, at R.
        begins = np.fmin(limits[1:, :, 3], r_peaks[1:, None])
        into = limits[:-1, :, 7] >= begins
        limits[:-1, :, 5:][into] = np.nan
        ends = np.fmax(limits[:-1, :, 4], r_peaks[:-1, None])
        limits[1:, :, :3][limits[1:, :, 0] <= ends] = np.nan
        p_on = limits[1:, :, 0]
        limits[1:, :, :3][p_on <= limits[:-1, :, 6]] = np.nan
        limits[:-1, :, 7] = np.where(limits[:-1, :, 7] >= p_on, p_on - 1, limits[:-1, :, 7])
    drop_partial(limits)


def _over_stretches(stretches: list[_Found]) -> dict[str, Any]:
    """Return what is said of P waves of the whole record."""
    decided = [found.p_present for found in stretches if found.p_present is not None]
    share = np.mean(decided) if decided else 0.5
    values = {}
    for name in ("snr", "consistency"):
        each = [getattr(found, name) for found in stretches if np.isfinite(getattr(found, name))]
        values[f"p_{name}"] = float(np.median(each)) if each else float("nan")
    return {"p_present": True if share >= 2 / 3 else False if share <= 1 / 3 else None, **values}
