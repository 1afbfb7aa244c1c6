"""The default detector: where the energy of the leads between 5 and 25 Hz stands out from what is around."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.signal import find_peaks

BAND = (5.0, 25.0)
# Set on the records of LUDB with odd numbers, but for SOONEST (simulated PVC) and CONTRAST (noise): docs/beats.md.
SMOOTHING = 0.10  # s over which energy is averaged: about a QRS complex
REFRACTORY = 0.20  # s in which no second beat can follow
THRESHOLD = 0.35  # of the level of the beats around
SEARCH_BACK = 0.18  # of that level, where a beat is missing
MISSING = 1.6  # an interval this much longer than the usual one lacks a beat
NEAREST = 0.5  # of the usual interval: a beat found by searching back lies at least this far from its neighbours
SOONEST = 0.36  # s; nor nearer than this
T_WAVE = 0.40  # s around a beat in which
T_HEIGHT = 0.6  # what is lower than this part of it is no beat
CONTRAST = 2.6  # beats above what lies between them, below which there is nothing but noise
_BLOCK = 1.5  # s of which each is taken to hold a beat, for the level
_SNAP = 0.07  # s around the largest energy in which the largest deflection is taken


def energy_envelope(band: np.ndarray, fs: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the power of leads between 5 and 25 Hz, and its square root after averaging over a QRS complex.

    Parameters
    ----------
    band : ndarray of shape (n_leads, n_timesteps), float32
        The leads in ``BAND``, mV, finite.
    fs : float
        Sampling rate, Hz.

    Returns
    -------
    power, envelope : ndarray of shape (n_timesteps,)
        Mean over leads, mV squared; and mV.
    """
    power = np.einsum("ij,ij->j", band, band) / len(band)
    averaged = uniform_filter1d(power, max(1, round(SMOOTHING * fs)), mode="nearest")
    return power, np.sqrt(np.maximum(averaged, 0))


def detect_energy(power: np.ndarray, envelope: np.ndarray, fs: float) -> np.ndarray:
    """Find the QRS complexes of a stretch of ECG from the energy of all its leads together.

    Parameters
    ----------
    power, envelope : ndarray of shape (n_timesteps,)
        As :func:`energy_envelope` returns them.
    fs : float
        Sampling rate, Hz.

    Returns
    -------
    r_peaks : ndarray of int64
        Where the leads together deflect most in each complex.
    """
    return _snap(power, _choose(envelope, fs), fs)


def contrast(envelope: np.ndarray, beats: np.ndarray, fs: float) -> float:
    """Return how far the envelope at beats stands above that between them: the ratio of the medians.

    Parameters
    ----------
    envelope : ndarray of shape (n_timesteps,)
        As :func:`energy_envelope` returns it.
    beats : ndarray of int64
        Positions, one at least.
    fs : float
        Sampling rate, Hz.

    Returns
    -------
    contrast : float
        About 1.2 to 2.5 in noise, 4 to 30 in ECG.
    """
    reach = 0.12 * fs
    if len(beats) > 1:  # at high rates little lies between
        reach = min(reach, np.median(np.diff(beats)) / 3)
    reach = max(1, round(reach))
    between = np.ones(len(envelope), dtype=bool)
    around = np.clip(beats[:, None] + np.arange(-reach, reach + 1), 0, len(envelope) - 1)
    between[around] = False
    if not between.any():
        return 0.0
    return float(np.median(envelope[around].max(axis=1)) / max(np.median(envelope[between]), 1e-12))


def _choose(envelope: np.ndarray, fs: float) -> np.ndarray:
    """Return the maxima of the envelope that are beats."""
    peaks, _ = find_peaks(np.concatenate(([0.0], envelope, [0.0])), distance=max(1, round(REFRACTORY * fs)))
    peaks = peaks - 1
    height = envelope[peaks]
    level = _level(envelope, fs)[peaks]
    kept = height > THRESHOLD * level
    _drop_t_waves(peaks, height, kept, fs)
    if kept.sum() >= 3:
        _search_back(peaks, height, level, kept, fs)
    return peaks[kept]


def _drop_t_waves(peaks: np.ndarray, height: np.ndarray, kept: np.ndarray, fs: float) -> None:
    """Leave out what is lower than a complex shortly before or after it: T waves, and P waves that stand out."""
    beats = np.flatnonzero(kept)
    for i in beats[np.argsort(-height[beats], kind="stable")]:
        if kept[i]:
            near = (np.abs(peaks[beats] - peaks[i]) < T_WAVE * fs) & (height[beats] < T_HEIGHT * height[i])
            kept[beats[near]] = False


def _level(envelope: np.ndarray, fs: float) -> np.ndarray:
    """Return the height of the beats around each sample: the median of the largest values of nearby blocks."""
    block = min(len(envelope), round(_BLOCK * fs))
    step = max(1, block // 2)
    largest = maximum_filter1d(envelope, block, mode="nearest")[step::step]
    if not len(largest):
        return np.full(len(envelope), envelope.max())
    around = np.stack([largest[np.clip(np.arange(len(largest)) + k, 0, len(largest) - 1)] for k in range(-4, 5)])
    medians = np.median(around, axis=0)
    return np.interp(np.arange(len(envelope)), np.arange(len(largest)) * step + step, medians)


def _search_back(peaks: np.ndarray, height: np.ndarray, level: np.ndarray, kept: np.ndarray, fs: float) -> None:
    """Keep, in each interval that lacks a beat, the largest of the lower maxima in it."""
    while True:
        beats = np.flatnonzero(kept)
        intervals = np.diff(peaks[beats])
        usual = np.median(intervals)
        added = False
        for i in np.flatnonzero(intervals > MISSING * usual):
            a, b = beats[i], beats[i + 1]
            between = np.arange(a + 1, b)
            least = max(NEAREST * usual, SOONEST * fs)
            far = (peaks[between] - peaks[a] > least) & (peaks[b] - peaks[between] > least)
            between = between[far & (height[between] > SEARCH_BACK * level[between])]
            if len(between):
                kept[between[np.argmax(height[between])]] = added = True
        if not added:
            return


def _snap(power: np.ndarray, beats: np.ndarray, fs: float) -> np.ndarray:
    """Move each beat to where the leads deflect most near it."""
    if not len(beats):
        return np.empty(0, dtype=np.int64)
    reach = max(1, round(_SNAP * fs))
    at = np.clip(beats[:, None] + np.arange(-reach, reach + 1), 0, len(power) - 1)
    return np.unique(at[np.arange(len(beats)), np.argmax(power[at], axis=1)]).astype(np.int64)
