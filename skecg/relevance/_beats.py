"""The beats that waves and average beats are cut by: checked against the relevance, or found in the ECG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_NEEDED = ("r_peaks", "limits", "typical", "p_present", "p_region", "reason", "fs")
# Of the eight limits of a wave, the onset and offset of each, and their names.
WAVES = {"P": (0, 2), "QRS": (3, 4), "T": (5, 7)}
_SHORT = 5.0  # s: shorter windows hold too few beats for an average, so that the limits are of what beats there are


def beats_of(beats: Any, signal: np.ndarray | None, shape: tuple[int, ...], *, by: str, fs: float) -> Sequence:
    """Return the beats of each window, found in the ECG where none are given.

    Parameters
    ----------
    beats : sequence of Beats or None
        One entry a window.
    signal : ndarray of shape (n_windows, any, n_timesteps) or None
        ECG, mV.
    shape : tuple of int
        Windows, leads and time steps of the relevance.
    by : "wave" or "beat"
        "wave" needs the limits of waves.
    fs : float
        Sampling rate of the relevance, Hz.

    Returns
    -------
    beats : sequence of Beats
        One a window, each of the grid and the leads of the relevance.

    Raises
    ------
    ValueError
        For beats that do not fit the relevance, and where neither beats nor ECG are given.
    TypeError
        For entries that are no Beats.
    """
    if beats is None:
        if signal is None:
            raise ValueError(
                f"by={by!r} needs the beats of the ECG: pass ecg, in which they are found, or beats, a list of what "
                "skecg.beats.find_beats and delineate return"
            )
        from ..beats import delineate, find_beats

        few = 1 if signal.shape[-1] < _SHORT * fs else 3
        beats = delineate(signal, find_beats(signal, fs), fs, min_beats=few)
    if hasattr(beats, "r_peaks") or not hasattr(beats, "__len__") or isinstance(beats, str | bytes | dict):
        raise TypeError(f"beats must be a list of Beats, one a window; got {type(beats).__name__}")
    if len(beats) != shape[0]:
        raise ValueError(f"beats must have one entry a window, {shape[0]}; got {len(beats)}")
    for i, found in enumerate(beats):
        _check(found, f"beats[{i}]", shape[1:], by, fs)
    return beats


def usable(beats: Any, by: str) -> bool:
    """Tell whether beats were found at all and, for "wave", delineated."""
    failed = by == "wave" and beats.limits is None and getattr(beats, "source", "") == "failed"
    return not beats.reason and len(beats.r_peaks) > 0 and not failed


def typical(beats: Any) -> np.ndarray:
    """Return which beats are like the others of their window, (n_beats,); all where nobody looked."""
    return np.ones(len(beats.r_peaks), bool) if beats.typical is None else np.asarray(beats.typical, dtype=bool)


def _check(beats: Any, name: str, shape: tuple[int, ...], by: str, fs: float) -> None:
    """Refuse beats of another grid, of other leads, or without what is needed."""
    missing = [attribute for attribute in _NEEDED if not hasattr(beats, attribute)]
    if missing:
        raise TypeError(
            f"{name} must be a Beats, as skecg.beats.find_beats returns; got {type(beats).__name__} without "
            f"{', '.join(missing)}"
        )
    if beats.fs != fs:
        raise ValueError(
            f"{name} is of {beats.fs:g} Hz, the relevance of {fs:g} Hz: find the beats in the ECG that was explained, "
            "explain(X).data, at its own sampling rate"
        )
    peaks, (n_leads, n_timesteps) = np.asarray(beats.r_peaks), shape
    if not usable(beats, by):
        return
    if peaks.ndim != 1 or peaks.dtype.kind not in "iu":
        raise ValueError(f"{name}.r_peaks must be integers, shape (n_beats,); got {peaks.dtype}, shape {peaks.shape}")
    peaks = peaks.astype(np.int64, copy=False)
    if peaks[0] < 0 or peaks[-1] >= n_timesteps or (len(peaks) > 1 and np.diff(peaks).min() < 1):
        raise ValueError(
            f"{name}.r_peaks must increase within 0 and {n_timesteps - 1}, the samples of the relevance; got "
            f"{peaks.min()} to {peaks.max()}: they are of another grid, or of another window"
        )
    if beats.typical is not None and np.shape(beats.typical) != peaks.shape:
        raise ValueError(f"{name}.typical must have shape {peaks.shape}; got {np.shape(beats.typical)}")
    if by == "beat":
        return
    if beats.limits is None:
        raise ValueError(f"{name} has no limits of waves: pass it through skecg.beats.delineate first")
    wanted = len(peaks), n_leads, 8
    if np.shape(beats.limits) != wanted:
        raise ValueError(
            f"{name}.limits must be (n_beats, n_leads, 8), {wanted} for this relevance; got {np.shape(beats.limits)}: "
            "delineate "
            "the leads that were explained"
        )
    if beats.p_region is not None and np.shape(beats.p_region) != (len(peaks), 2):
        raise ValueError(f"{name}.p_region must have shape ({len(peaks)}, 2); got {np.shape(beats.p_region)}")
