"""The beats that waves and average beats are cut by: checked against the relevance, or found in the ECG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..beats import LIMITS, Beats, delineate, find_beats

# Places of the onset and the offset of each wave among the limits.
WAVES = {wave: (LIMITS.index(f"{wave}_on"), LIMITS.index(f"{wave}_off")) for wave in ("P", "QRS", "T")}
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
        few = 1 if signal.shape[-1] < _SHORT * fs else 3
        beats = delineate(signal, find_beats(signal, fs), fs, min_beats=few)
    if not hasattr(beats, "__len__") or isinstance(beats, str | bytes | dict):
        raise TypeError(f"beats must be a list of Beats, one a window; got {type(beats).__name__}")
    if len(beats) != shape[0]:
        raise ValueError(f"beats must have one entry a window, {shape[0]}; got {len(beats)}")
    for i, found in enumerate(beats):
        _check(found, f"beats[{i}]", shape[1:], by, fs)
    return beats


def usable(beats: Beats, by: str) -> bool:
    """Tell whether beats were found at all and, for "wave", delineated."""
    failed = by == "wave" and beats.limits is None and beats.source == "failed"
    return len(beats.r_peaks) > 0 and not failed


def typical(beats: Beats) -> np.ndarray:
    """Return which beats are like the others of their window, (n_beats,); all where nobody looked."""
    return np.ones(len(beats.r_peaks), bool) if beats.typical is None else beats.typical


def _check(beats: Any, name: str, shape: tuple[int, ...], by: str, fs: float) -> None:
    """Refuse beats of another grid, of other leads, or without limits; the rest they have checked themselves."""
    if not isinstance(beats, Beats):
        raise TypeError(f"{name} must be a Beats, as skecg.beats.find_beats returns; got {type(beats).__name__}")
    if beats.fs != fs:
        raise ValueError(
            f"{name} is of {beats.fs:g} Hz, the relevance of {fs:g} Hz: find the beats in the ECG that was explained, "
            "explain(X).data, at its own sampling rate"
        )
    if not usable(beats, by):
        return
    n_leads, n_timesteps = shape
    if beats.r_peaks[-1] >= n_timesteps:
        raise ValueError(
            f"{name}.r_peaks must lie within 0 and {n_timesteps - 1}, the samples of the relevance; got "
            f"{beats.r_peaks[0]} to {beats.r_peaks[-1]}: they are of another grid, or of another window"
        )
    if by == "beat":
        return
    if beats.limits is None:
        raise ValueError(f"{name} has no limits of waves: pass it through skecg.beats.delineate first")
    if beats.limits.shape[1] != n_leads:
        raise ValueError(
            f"{name} has limits of {beats.limits.shape[1]} leads, the relevance has {n_leads}: delineate those that "
            "were explained"
        )
