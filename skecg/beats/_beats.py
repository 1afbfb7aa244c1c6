"""Beats: the R peaks of one window, the limits of its waves, and what is known of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..utils._validation import check_array, check_fs

#: Columns of ``Beats.limits``.
LIMITS = ("P_on", "P_peak", "P_off", "QRS_on", "QRS_off", "T_on", "T_peak", "T_off")
# Columns of each wave.
WAVES = {"P": (0, 1, 2), "QRS": (3, 4), "T": (5, 6, 7)}
_MANY_LEADS = 32


@dataclass(frozen=True, eq=False)
class Beats:
    """The beats of one window or record.

    :func:`find_beats` makes them, :func:`delineate` adds the limits of the waves. Known R peaks, such as those of
    annotations, make Beats of their own: ``Beats(r_peaks, fs)``. The arrays are kept as read-only copies.

    Parameters
    ----------
    r_peaks : array-like of int, shape (n_beats,)
        Positions in samples of the window, strictly increasing. One position a beat, for all leads.
    fs : float
        Sampling rate of the window, Hz.
    detector : str, default="given"
        Where the R peaks are from.
    reason : str, default=""
        Why there are no beats; empty where there are. A window never has both.
    agreement : float or None, default=None
        F1 score of the R peaks with those of a second detector, within 75 ms.
    fiducial : str, default=""
        What in a beat its position marks.
    left_out : tuple of (int, int, str), default=()
        Stretches of a long record in which no beats could be looked for: first sample, sample after the last, reason.
    limits : array-like of shape (n_beats, n_leads, 8), default=None
        Limits of the waves in samples of the window, in the order of ``LIMITS``: P_on, P_peak, P_off, QRS_on, QRS_off,
        T_on, T_peak, T_off. On and off are the first and the last sample of the wave. A wave has all its limits or
        none: NaN where it is absent, was not found, or is cut by an end of the window. None before ``delineate``.
    typical : array-like of bool, shape (n_beats,), default=None
        Beats that look like the median beat, so that its limits are theirs. None before ``delineate``.
    p_present : bool or None, default=None
        Whether there are P waves (or flutter waves locked to the QRS, which cannot be told from them). None: not
        decided.
    p_snr : float, default=nan
        Largest deflection of the median beat before the QRS, over the noise of the beats there; the best lead.
    p_consistency : float, default=nan
        Mean correlation of each beat with the mean of the others there.
    p_region : array-like of shape (n_beats, 2), default=None
        Where a P wave would be, whether or not there is one: from 200 to 30 ms before the QRS, in samples. May begin
        before the window.
    source : str, default=""
        Where the limits are from: "average", "prominence", "dwt", "windows" or "failed". Empty before ``delineate``.
    limits_reason : str, default=""
        Why there are no limits, or, after ``method="auto"``, why not those of an earlier method; else empty.

    Raises
    ------
    ValueError
        For positions that are negative or not increasing, fields of different lengths, beats with a reason why there
        are none.

    See Also
    --------
    find_beats : Beats of ECG.
    delineate : The limits of their waves.

    Examples
    --------
    >>> from skecg.beats import Beats
    >>> beats = Beats([120, 480, 845], fs=360.0)
    >>> beats.detector, len(beats.r_peaks)
    ('given', 3)
    """

    r_peaks: np.ndarray
    fs: float
    detector: str = "given"
    reason: str = ""
    agreement: float | None = None
    fiducial: str = ""
    left_out: tuple[tuple[int, int, str], ...] = ()
    limits: np.ndarray | None = None
    typical: np.ndarray | None = None
    p_present: bool | None = None
    p_snr: float = float("nan")
    p_consistency: float = float("nan")
    p_region: np.ndarray | None = None
    source: str = ""
    limits_reason: str = ""

    def __post_init__(self) -> None:
        """Check the fields and keep copies of the arrays."""
        set_field = object.__setattr__
        set_field(self, "fs", check_fs(self.fs, "Beats"))
        peaks = np.asarray(self.r_peaks)
        if peaks.ndim != 1 or (peaks.size and not np.issubdtype(peaks.dtype, np.integer)):
            raise ValueError(f"r_peaks must be integers of shape (n_beats,), in samples; got {_say(peaks)}")
        if len(peaks) and (peaks[0] < 0 or (np.diff(peaks.astype(np.int64)) <= 0).any()):
            raise ValueError("r_peaks must be positions from 0 on, strictly increasing; sort them and drop doubles")
        n = len(peaks)
        if n and self.reason:
            raise ValueError(f"{n} beats came with a reason why there are none: {self.reason!r}")
        set_field(self, "r_peaks", _freeze(peaks, np.int64))
        if self.limits is not None:
            limits = np.asarray(self.limits)
            if limits.ndim != 3 or limits.shape[::2] != (n, len(LIMITS)) or not limits.shape[1]:
                raise ValueError(
                    f"limits must be ({n}, n_leads, {len(LIMITS)}), in the order of LIMITS; got {_say(limits)}"
                )
            set_field(self, "limits", _freeze(limits, np.float32))
        for name, shape, dtype in (("typical", (n,), np.bool_), ("p_region", (n, 2), np.float32)):
            value = getattr(self, name)
            if value is not None:
                if np.shape(value) != shape:
                    raise ValueError(f"{name} must have shape {shape}, a row a beat; got {_say(np.asarray(value))}")
                set_field(self, name, _freeze(value, dtype))


def _say(array: np.ndarray) -> str:
    return f"shape {array.shape} of {array.dtype}"


def _freeze(values: Any, dtype: Any) -> np.ndarray:
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


def check_windows(X: Any) -> np.ndarray:
    """Return X as float32 (n_samples, n_leads, n_timesteps); what is not finite stays, to be told window by window.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
        ECG, mV. Two dimensions mean one lead.

    Returns
    -------
    cube : ndarray of shape (n_samples, n_leads, n_timesteps), float32
        A view where X is float32 already.
    """
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which counts as missing
        array = check_array(
            X,
            dtype=np.float32,
            allow_nd=True,
            ensure_min_samples=0,
            ensure_min_features=0,
            ensure_all_finite=False,
            input_name="X",
        )
    if array.ndim == 2:
        array = array[:, None, :]
    if array.ndim != 3:
        raise ValueError(
            f"X must be (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps); got {array.ndim}-D, shape "
            f"{array.shape}"
        )
    if 0 in array.shape[1:]:
        raise ValueError(f"X has 0 leads or timesteps (shape {array.shape}); at least 1 of each is needed")
    if array.shape[1] > _MANY_LEADS and array.shape[1] > array.shape[2]:
        raise ValueError(
            f"X of shape {array.shape} would have {array.shape[1]} leads of {array.shape[2]} timesteps; the axes look "
            "swapped: pass (n_samples, n_leads, n_timesteps), e.g. X.transpose(0, 2, 1)"
        )
    return array


def check_lead_names(lead_names: Any, n_leads: int) -> list[str] | None:
    """Return names of leads as a list, None for None; ValueError where they are not as many as the leads."""
    if lead_names is None:
        return None
    if isinstance(lead_names, str) or not all(isinstance(name, str) for name in lead_names):
        raise ValueError(f"lead_names must be a list of names, such as ['II', 'V1']; got {lead_names!r}")
    names = [str(name) for name in lead_names]
    if len(names) != n_leads:
        raise ValueError(f"lead_names has {len(names)} names ({', '.join(names)}), X has {n_leads} leads")
    return names


def check_beats(beats: Any, X: np.ndarray, fs: float | None) -> list[Beats]:
    """Return a Beats for each window; arrays of R peaks become Beats.

    Parameters
    ----------
    beats : sequence of Beats or of arrays of int
        What the user gave.
    X : ndarray of shape (n_samples, n_leads, n_timesteps)
        The windows.
    fs : float or None
        Sampling rate, Hz; None takes that of the beats.

    Returns
    -------
    checked : list of Beats
        As many as windows.
    """
    if isinstance(beats, Beats) or not isinstance(beats, Sequence | np.ndarray) or isinstance(beats, str):
        raise TypeError(
            f"beats must be a list with one Beats for each window, as find_beats returns it; got a "
            f"{type(beats).__name__}"
        )
    if len(beats) != len(X):
        raise ValueError(f"beats has {len(beats)} entries, X has {len(X)} windows; one for each is needed")
    checked = []
    for i, entry in enumerate(beats):
        found = entry if isinstance(entry, Beats) else Beats(entry, check_fs(fs, "R peaks without Beats"))
        if fs is not None and found.fs != fs:
            raise ValueError(f"the beats of window {i} were found at {found.fs:g} Hz, fs is {fs:g} Hz")
        if len(found.r_peaks) and found.r_peaks[-1] >= X.shape[2]:
            raise ValueError(
                f"window {i} has {X.shape[2]} timesteps, but a beat at {found.r_peaks[-1]}: the beats must be found in "
                "these windows, on their sampling grid"
            )
        checked.append(found)
    return checked
