"""find_beats: the R peaks of every window, or the reason why there are none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np

from ..utils._leads import canonical_name
from ..utils._validation import check_fs, check_number, check_option
from ._adaptors import SINGLE_LEAD, detect_single, import_neurokit
from ._align import align as align_beats
from ._beats import Beats, check_lead_names, check_windows
from ._energy import BAND, CONTRAST, REFRACTORY, contrast, detect_energy, energy_envelope
from ._signal import bandpass, usable_leads

DETECTORS = ("energy", *SINGLE_LEAD)
# The QRS complex with its limits, without wander and the noise of muscles.
WIDE = (0.5, 40.0)
# Records longer than _LONG s are gone through in pieces of _PIECE s, with _MARGIN s more on either side.
_LONG, _PIECE, _MARGIN = 90.0, 60.0, 5.0
_SHORTEST = 0.5
_RR = (0.25, 3.0)
_TOLERANCE = 0.075
_AGREEMENT = 0.9
_FAVOURITES = ("II", "V5")


def find_beats(
    X: Any,
    fs: float,
    *,
    detector: str = "energy",
    second: str | None = None,
    leads: Sequence[int | str] | None = None,
    lead_names: Sequence[str] | None = None,
    align: bool = True,
) -> list[Beats]:
    """Find the R peaks of every window.

    The detector "energy" looks at all leads together: a QRS complex is where their energy between 5 and 25 Hz, averaged
    over 0.1 s, stands above 35 % of the level of the beats around; a pause of 1.6 usual intervals is searched again
    down to 18 %; what is lower than 60 % of a complex less than 0.4 s away is no beat. The method
    is in the tradition of Pan and Tompkins [1]_, without their delay. How often it is right, by lead and by rhythm, is
    told in the docs, on the page "Beats and waves", beside NeuroKit2 [2]_ and wfdb.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_leads, n_timesteps) or (n_samples, n_timesteps)
        ECG, mV. Two dimensions mean one lead. Windows of two seconds and records of a day will do: long records are
        gone through in pieces. Values that are not finite are missing samples.
    fs : float
        Sampling rate, Hz, at least 60.
    detector : "energy", "neurokit", "xqrs" or "gqrs", default="energy"
        "neurokit" needs the extra ``waves``; xqrs and gqrs are those of wfdb. These three look at one lead: the first
        of ``leads``, or else II, or else V5 (by ``lead_names``), or else the first that can be used.
    second : str or None, default=None
        Another detector for a second opinion. ``agreement`` is then the F1 score of the two within 75 ms; a warning
        lists the windows in which it lies below 0.9. The R peaks stay those of ``detector``.
    leads : sequence of int or str, default=None
        The leads that are looked at, by position, or by name where ``lead_names`` is given. None takes all.
    lead_names : sequence of str, default=None
        Names of the leads of X.
    align : bool, default=True
        Whether beats are moved, by 70 ms at most, to where they agree best with the median QRS complex over all leads,
        and from there together to its largest deflection. Detectors differ in what they mark; without alignment an
        average over beats is smeared. Beats that look otherwise (correlation below 0.8) are not moved.

    Returns
    -------
    beats : list of Beats
        One for each window. Where there are none, ``reason`` says why: no signal, missing samples, noise (beats do not
        stand out by a factor of 2.6 from what lies between them), intervals outside 0.25 to 3 s, a detector that
        refused. One or two beats in a short window are beats.

    Raises
    ------
    ValueError
        For X of another shape, an unknown detector or lead, a sampling rate below 60 Hz.
    TypeError
        For X of objects that are no numbers.
    ImportError
        For "neurokit" without neurokit2.

    Warns
    -----
    UserWarning
        Where two detectors disagree.

    See Also
    --------
    delineate : The limits of P, QRS and T of these beats.

    Notes
    -----
    A gap of missing samples up to 0.1 s is bridged; a lead with a longer one, or a flat lead, is left out; a window
    without a lead that is left has a reason. Zeros, or any constant, in all leads at an end of a window are padding, in
    which there are no beats. In records longer than 90 s this is judged in pieces of 60 s, and ``left_out`` lists the
    stretches without an answer.

    References
    ----------
    .. [1] Pan J, Tompkins WJ. A real-time QRS detection algorithm. IEEE Transactions on Biomedical Engineering
       32(3):230-236, 1985.
    .. [2] Makowski D, Pham T, Lau ZJ, et al. NeuroKit2: a Python toolbox for neurophysiological signal processing.
       Behavior Research Methods 53:1689-1696, 2021.

    Examples
    --------
    >>> from skecg import make_ecg
    >>> from skecg.beats import find_beats
    >>> ecg = make_ecg(3, classes=("N",), n_leads=12, window=10.0, random_state=0)
    >>> beats = find_beats(ecg.data, ecg.fs)
    >>> [len(found.r_peaks) for found in beats]
    [14, 15, 10]
    """
    X = check_windows(X)
    fs = check_fs(fs, "find_beats")
    check_number("fs", fs, low=60, unit="(Hz)")
    check_option("detector", detector, DETECTORS)
    if second is not None:
        check_option("second", second, tuple(name for name in DETECTORS if name != detector))
    check_option("align", align, (True, False))
    if "neurokit" in (detector, second):
        import_neurokit()
    names = check_lead_names(lead_names, X.shape[1])
    chosen = _choose_leads(leads, names, X.shape[1])
    first = _first_leads(chosen, names, named=leads is not None)
    beats = [find_in_record(window[chosen], fs, detector, first, align) for window in X]
    if second is not None:
        others = [find_in_record(window[chosen], fs, second, first, align) for window in X]
        beats = [_compare(found, other) for found, other in zip(beats, others, strict=True)]
        if low := [i for i, b in enumerate(beats) if b.agreement is not None and b.agreement < _AGREEMENT]:
            shown = ", ".join(map(str, low[:10])) + (", ..." if len(low) > 10 else "")
            warnings.warn(
                f"{detector} and {second} agree by less than {_AGREEMENT} (F1) in {len(low)} of {len(beats)} windows: "
                f"{shown}",
                UserWarning,
                stacklevel=2,
            )
    return beats


def _choose_leads(leads: Any, names: list[str] | None, n_leads: int) -> list[int]:
    """Return positions of the leads that are looked at."""
    if leads is None:
        return list(range(n_leads))
    wanted = [leads] if isinstance(leads, str | Integral) else list(leads)
    known = None if names is None else [canonical_name(name) for name in names]
    positions = []
    for lead in wanted:
        if isinstance(lead, Integral) and not isinstance(lead, bool) and 0 <= lead < n_leads:
            positions.append(int(lead))
        elif isinstance(lead, str) and known is not None and canonical_name(lead) in known:
            positions.append(known.index(canonical_name(lead)))
        else:
            has = f"the leads {', '.join(names)}" if names else f"{n_leads} leads, and lead_names is not given"
            raise ValueError(f"leads names {lead!r}; X has {has}")
    if not positions or len(set(positions)) < len(positions):
        raise ValueError(f"leads must name one lead at least, and each once; got {leads!r}")
    return positions


def _first_leads(chosen: list[int], names: list[str] | None, *, named: bool) -> list[int]:
    """Return positions among the chosen leads, in the order in which a detector of one lead tries them."""
    order = list(range(len(chosen)))
    if named or names is None:
        return order
    known = [canonical_name(names[i], modified=True) for i in chosen]
    best = [known.index(name) for name in _FAVOURITES if name in known]
    return best + [i for i in order if i not in best]


def find_in_record(x: np.ndarray, fs: float, detector: str, first: list[int], align: bool) -> Beats:
    """Find the beats of one window or record, in pieces where it is long.

    Parameters
    ----------
    x : ndarray of shape (n_leads, n_timesteps), float32
        mV.
    fs : float
        Sampling rate, Hz.
    detector : str
        One of ``DETECTORS``.
    first : list of int
        Leads in the order in which a detector of one lead tries them.
    align : bool
        Whether beats are moved to where they agree.

    Returns
    -------
    beats : Beats
        What was found.
    """
    n = x.shape[1]
    if n <= _LONG * fs:
        peaks, matched, reason = _find(x, fs, detector, first, align)
        left_out: tuple[tuple[int, int, str], ...] = ()
    else:
        peaks, matched, reason, left_out = _find_in_pieces(x, fs, detector, first, align)
    mark = "template match, at the largest deflection" if matched else "largest deflection"
    if detector != "energy" and not matched:
        mark = f"as {detector} puts it"
    return Beats(peaks, fs, detector=detector, reason=reason, fiducial=mark if len(peaks) else "", left_out=left_out)


def _find_in_pieces(
    x: np.ndarray, fs: float, detector: str, first: list[int], align: bool
) -> tuple[np.ndarray, bool, str, tuple[tuple[int, int, str], ...]]:
    """Find beats piece by piece; each piece keeps those of its own part."""
    n, piece, margin = x.shape[1], round(_PIECE * fs), round(_MARGIN * fs)
    parts, left_out, any_matched = [], [], False
    starts = list(range(0, n, piece))
    if n - starts[-1] < piece // 2:  # no crumb at the end
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], n], strict=True):
        a, b = max(0, start - margin), min(n, stop + margin)
        peaks, matched, reason = _find(x[:, a:b], fs, detector, first, align)
        if reason:
            left_out.append((start, stop, reason))
        peaks = peaks + a
        parts.append(peaks[(peaks >= start) & (peaks < stop)])
        any_matched |= matched
    peaks = np.concatenate(parts)
    # A beat on a seam may be found by both sides, a few samples apart.
    if len(peaks):
        peaks = peaks[np.concatenate(([True], np.diff(peaks) > REFRACTORY / 2 * fs))]
    if not len(peaks):
        return peaks, False, left_out[0][2] if left_out else "no beats found", tuple(left_out)
    return peaks, any_matched, "", tuple(left_out)


def _find(x: np.ndarray, fs: float, detector: str, first: list[int], align: bool) -> tuple[np.ndarray, bool, str]:
    """Return the beats of a piece, whether they were matched with a template, and the reason where there are none."""
    none = np.empty(0, dtype=np.int64)
    used, which, start, stop, reason = usable_leads(x, fs)
    if reason:
        return none, False, reason
    if stop - start < _SHORTEST * fs:
        return none, False, f"{(stop - start) / fs:.2f} s of signal; {_SHORTEST} s are needed at least"
    band, wide = bandpass(used, fs, [BAND, WIDE])
    power, envelope = energy_envelope(band, fs)
    if detector == "energy":
        peaks = detect_energy(power, envelope, fs)
    else:
        place = which.tolist()
        lead = next(place.index(i) for i in first if i in place)
        peaks, reason = detect_single(detector, used[lead], fs)
    if reason or not len(peaks):
        return none, False, reason or f"{detector} found no beats"
    matched = False
    if align:
        peaks, matched = align_beats(wide, power, peaks, fs)
    stands_out = contrast(envelope, peaks, fs)
    if not stands_out >= CONTRAST:
        reason = f"noise: beats stand out by a factor of {stands_out:.1f}, {CONTRAST} is the least"
        return none, False, reason
    usual = np.median(np.diff(peaks)) / fs if len(peaks) > 1 else (stop - start) / fs / 2
    if not _RR[0] <= usual <= _RR[1]:
        return none, False, f"beats would be {usual:.2f} s apart; {_RR[0]} to {_RR[1]} s are plausible"
    return peaks + start, matched, ""


def _compare(beats: Beats, other: Beats) -> Beats:
    """Return beats with their agreement with those of another detector."""
    if beats.reason:
        return beats
    n_both = count_matches(beats.r_peaks, other.r_peaks, _TOLERANCE * beats.fs)
    return replace(beats, agreement=2 * n_both / (len(beats.r_peaks) + len(other.r_peaks)))


def count_matches(a: np.ndarray, b: np.ndarray, tolerance: float) -> int:
    """Return how many positions of two increasing arrays pair up, each once, within a tolerance (samples)."""
    i = j = n = 0
    while i < len(a) and j < len(b):
        if abs(int(a[i]) - int(b[j])) <= tolerance:
            i, j, n = i + 1, j + 1, n + 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return n
