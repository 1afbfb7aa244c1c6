"""Limits of waves by NeuroKit2, one lead at a time; what it returns is given to beats by time, never by its index."""

from __future__ import annotations

import warnings

import numpy as np

from ._adaptors import REFUSALS, import_neurokit

# Columns of Beats.limits: NeuroKit2's key, the side of the R peak, how far away (s) such a limit can be.
_KEYS = (
    ("ECG_P_Onsets", -1, 0.40),
    ("ECG_P_Peaks", -1, 0.35),
    ("ECG_P_Offsets", -1, 0.30),
    ("ECG_R_Onsets", -1, 0.20),
    ("ECG_R_Offsets", 1, 0.25),
    ("ECG_T_Onsets", 1, 0.55),
    ("ECG_T_Peaks", 1, 0.65),
    ("ECG_T_Offsets", 1, 0.75),
)


def neurokit_limits(x: np.ndarray, r_peaks: np.ndarray, fs: float, method: str) -> tuple[np.ndarray, str]:
    """Delineate leads with NeuroKit2.

    Parameters
    ----------
    x : ndarray of shape (n_leads, n_timesteps), float32
        mV, finite.
    r_peaks : ndarray of int64
        Beats.
    fs : float
        Sampling rate, Hz.
    method : "prominence" or "dwt"
        Of ``neurokit2.ecg_delineate``.

    Returns
    -------
    limits : ndarray of shape (n_beats, n_leads, 8), float64
        Samples, in the order of ``LIMITS``; a wave is whole, or NaN.
    reason : str
        Why there are none: what NeuroKit2 refused in every lead.
    """
    neurokit2 = import_neurokit()
    limits = np.full((len(r_peaks), len(x), 8), np.nan)
    if fs != round(fs):
        return limits, f"neurokit2 takes whole sampling rates, fs is {fs:g} Hz"
    rate, refused = round(fs), {}
    for lead, values in enumerate(x):
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")  # neurokit2's own of odd signals; what it gives is checked below
                cleaned = neurokit2.ecg_clean(values.astype(np.float64), sampling_rate=rate, method="neurokit")
                # an R peak at sample 0 is refused
                found = neurokit2.ecg_delineate(
                    cleaned, rpeaks=r_peaks[r_peaks > 0], sampling_rate=rate, method=method, show=False
                )[1]
        except REFUSALS as error:
            refused[lead] = f"{type(error).__name__}: {error}"
            continue
        for column, (key, side, farthest) in enumerate(_KEYS):
            limits[:, lead, column] = assign(found.get(key, ()), r_peaks, side, farthest * fs)
    drop_partial(limits)
    if len(refused) == len(x):
        return limits, f"neurokit2 {method} refused every lead: {next(iter(refused.values()))}"
    if np.isnan(limits).all():
        return limits, f"neurokit2 {method} found nothing"
    return limits, ""


def assign(positions: object, r_peaks: np.ndarray, side: int, farthest: float) -> np.ndarray:
    """Give positions to beats by time.

    NeuroKit2's lists lose entries near the start of a record, and all that follow move up: the i-th is not the i-th
    beat's.

    Parameters
    ----------
    positions : sequence of float
        As NeuroKit2 returns them; NaN means not found.
    r_peaks : ndarray of int64
        Beats.
    side : int
        -1 where a position lies before its R peak, 1 where after it.
    farthest : float
        Samples from the R peak beyond which a position belongs to no beat.

    Returns
    -------
    assigned : ndarray of float64, shape (n_beats,)
        The nearest position on that side of each beat that no other beat lies in front of; NaN where there is none.
    """
    values = np.asarray(positions, dtype=np.float64).ravel()
    values = np.sort(values[np.isfinite(values)])
    assigned = np.full(len(r_peaks), np.nan)
    if side < 0:
        beat = np.searchsorted(r_peaks, values)  # the first R peak at or after it
        order = range(len(values))
    else:
        beat = np.searchsorted(r_peaks, values, side="right") - 1
        order = range(len(values) - 1, -1, -1)
    for i in order:  # the nearest comes last, and stays
        if 0 <= beat[i] < len(r_peaks) and abs(values[i] - r_peaks[beat[i]]) <= farthest:
            assigned[beat[i]] = values[i]
    return assigned


def drop_partial(limits: np.ndarray) -> None:
    """Make waves NaN, in place, that lack a limit or whose limits are out of order."""
    for columns in ((0, 1, 2), (3, 4), (5, 6, 7)):
        wave = limits[..., columns]
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(wave).all(axis=-1) & (np.diff(wave, axis=-1) >= 0).all(axis=-1)
        limits[..., columns] = np.where(whole[..., None], wave, np.nan)
