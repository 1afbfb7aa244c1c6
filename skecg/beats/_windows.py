"""Limits of waves from physiology alone: fixed distances from the QRS complex, and a QT interval by its rate."""

from __future__ import annotations

import numpy as np

# Medians of lead II of LUDB. s before the QRS complex; s at 60 beats/min from its onset, by the square root of the
# interval; s around R where the complex has no limits of its own.
_P = (0.160, 0.048)
_T = (0.204, 0.390)
_QRS = (0.044, 0.050)
# Limits of a QRS complex that can be believed, s.
_LIKELY = (0.05, 0.20)


def window_limits(
    x: np.ndarray, r_peaks: np.ndarray, fs: float, qrs: tuple[float, float] | None, rr: float
) -> np.ndarray:
    """Return where P, QRS and T would usually be around beats.

    Parameters
    ----------
    x : ndarray of shape (n_leads, n_timesteps), float32
        The leads between 0.5 and 40 Hz, mV: the peaks are the largest deflections in the windows.
    r_peaks : ndarray of int64
        Beats.
    fs : float
        Sampling rate, Hz.
    qrs : (on, off) or None
        Limits of the QRS complex in samples from the R peak on, where they are known.
    rr : float
        The usual interval, samples.

    Returns
    -------
    limits : ndarray of shape (n_beats, n_leads, 8), float64
        Samples, in the order of ``LIMITS``; they may lie outside of the window.
    """
    if qrs is None or not _LIKELY[0] <= (qrs[1] - qrs[0]) / fs <= _LIKELY[1]:
        qrs = -_QRS[0] * fs, _QRS[1] * fs
    before = np.concatenate(([rr], np.diff(r_peaks))).astype(np.float64)
    rate = np.sqrt(before / fs)
    limits = np.full((len(r_peaks), len(x), 8), np.nan)
    limits[:, :, 3], limits[:, :, 4] = (r_peaks + qrs[0])[:, None], (r_peaks + qrs[1])[:, None]
    on = r_peaks + qrs[0]
    for first, start, stop in (
        (0, on - _P[0] * fs, on - _P[1] * fs),
        (5, np.maximum(on + _T[0] * fs * rate, r_peaks + qrs[1] + 1), on + _T[1] * fs * rate),
    ):
        limits[:, :, first], limits[:, :, first + 2] = start[:, None], stop[:, None]
        for i, (a, b) in enumerate(zip(start, stop, strict=True)):
            a, b = max(0, round(a)), min(x.shape[1], round(b) + 1)
            if b > a:
                part = x[:, a:b] - np.median(x[:, a:b], axis=1, keepdims=True)
                limits[i, :, first + 1] = a + np.argmax(np.abs(part), axis=1)
    return np.round(limits)
