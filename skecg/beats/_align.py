"""Alignment of beats on their median QRS complex, so that one sample means the same part of every beat."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, rfft

from ._signal import cut

# s: half the template, and how far a beat is moved at most against the others, and then with them.
_TEMPLATE = 0.08
_REACH = 0.07
_ROUNDS = 3
_NOTHING = 1e-9  # mV squared
ALIKE = 0.8  # correlation with the median complex from which a beat is taken to be of its kind


def align(x: np.ndarray, power: np.ndarray, r_peaks: np.ndarray, fs: float) -> tuple[np.ndarray, bool]:
    """Move beats to where they agree best with the median QRS complex over all leads.

    Parameters
    ----------
    x : ndarray of shape (n_leads, n_timesteps), float32
        The leads without wander, mV.
    power : ndarray of shape (n_timesteps,)
        Power of the leads between 5 and 25 Hz, of which the maximum marks the beat.
    r_peaks : ndarray of int64
        Beats, strictly increasing.
    fs : float
        Sampling rate, Hz.

    Returns
    -------
    r_peaks : ndarray of int64
        Strictly increasing. Beats that look otherwise stay where they were, so do those whose complex is not whole.
    matched : bool
        Whether there was a template: two beats that look alike at least.
    """
    half, reach = max(1, round(_TEMPLATE * fs)), max(1, round(_REACH * fs))
    whole = (r_peaks >= half + reach) & (r_peaks < x.shape[1] - half - reach)
    if whole.sum() < 2:
        return r_peaks, False
    start = r_peaks[whole]
    pieces, _ = cut(x, start, half + reach, half + reach)
    width, n = 2 * half + 1, len(start)
    energy = _centred_energies(pieces, width)
    spectra = rfft(pieces, axis=2)
    here, alike = np.full(n, reach), np.zeros(n, dtype=bool)
    at = np.arange(width)
    for i in range(_ROUNDS):
        chosen = np.take_along_axis(pieces, (here[:, None] + at)[:, None, :], axis=2)
        template = np.median(chosen[alike] if alike.sum() >= 2 else chosen, axis=0)
        if i == 0:
            # One real beat, the one most like the median: a median of beats marked here and there is a blur, on which
            # they would stay where they are.
            centred = chosen - chosen.mean(axis=2, keepdims=True)
            likeness = np.einsum("nlw,lw->n", centred, template)
            template = chosen[np.argmax(likeness / np.sqrt(np.square(centred).sum(axis=(1, 2)) + _NOTHING))]
        template = template - template.mean(axis=1, keepdims=True)
        # correlation at every shift, over all leads; a window's mean does not matter to a template without one
        product = np.einsum("nlf,lf->nf", spectra, rfft(template, n=pieces.shape[2], axis=1).conj())
        match = irfft(product, n=pieces.shape[2], axis=1)[:, : 2 * reach + 1]
        scale = np.sqrt(energy * np.square(template).sum())
        correlation = np.divide(match, scale, out=np.zeros_like(match), where=scale > _NOTHING)
        best = np.argmax(correlation, axis=1)
        alike = correlation[np.arange(n), best] >= ALIKE
        here = np.where(alike, best, reach)
    if alike.sum() < 2:
        return r_peaks, False
    shift = here - reach
    shift[alike] += _fiducial(power, start[alike] + shift[alike], reach)
    moved = r_peaks.copy()
    moved[whole] = start + shift
    return np.unique(moved), True


def _centred_energies(pieces: np.ndarray, width: int) -> np.ndarray:
    """Return the energy over all leads of every window of a width, each lead less its mean: (n, n_windows)."""
    sums, squares = (
        np.cumsum(np.concatenate([np.zeros_like(values[..., :1]), values], axis=-1), axis=-1)
        for values in (pieces.astype(np.float64), np.square(pieces, dtype=np.float64).sum(axis=1))
    )
    means = np.square(sums[..., width:] - sums[..., :-width]).sum(axis=1) / width
    return np.maximum(squares[..., width:] - squares[..., :-width] - means, 0)


def _fiducial(power: np.ndarray, r_peaks: np.ndarray, reach: int) -> int:
    """Return how far from where beats were put their leads together deflect most, on the median."""
    around, _ = cut(power[None], r_peaks, reach, reach)
    return int(np.argmax(np.median(around[:, 0], axis=0))) - reach
