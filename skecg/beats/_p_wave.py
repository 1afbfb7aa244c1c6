"""Whether beats have P waves: how far their median before the QRS stands above their noise, and how alike they are."""

from __future__ import annotations

import numpy as np

from ._average import Gathered

FEWEST = 5  # beats without which nothing is decided
MANY_LEADS = 8  # from which the ratio to the noise decides; with fewer, how alike the beats are
SNR = (2.0, 3.0)  # below: no P wave; from there on: a P wave
CONSISTENCY = (0.5, 0.7)
_FROM, _TO, _LEAST = 0.23, 0.006, 0.10  # s before the QRS complex, and the least that the window keeps


def measure_p(beat: Gathered, qrs_on: int, t_off: float, rr: float) -> tuple[float, float, int]:
    """Measure what lies before the QRS complex of typical beats.

    Parameters
    ----------
    beat : Gathered
        The beats.
    qrs_on : int
        Column at which the QRS complex begins.
    t_off : float
        End of the T wave, samples after the R peak; NaN where it is not known.
    rr : float
        Median interval between beats, samples; NaN for one beat.

    Returns
    -------
    snr : float
        Largest deflection of the median beat over the root mean square of what the beats differ by, in the best lead.
    consistency : float
        Mean correlation of each beat with the mean of the others, all leads together.
    n : int
        Beats that were measured. With fewer than 2 the others are NaN.
    """
    fs = beat.fs
    start, stop = qrs_on - round(_FROM * fs), qrs_on - round(_TO * fs)
    if np.isfinite(t_off) and np.isfinite(rr):  # the T wave of the beat before
        start = max(start, round(beat.centre + t_off - rr))
    start = max(0, min(start, stop - round(_LEAST * fs)))
    if stop - start < 4:
        return float("nan"), float("nan"), 0
    whole = beat.typical & beat.valid[:, start:stop].all(axis=1)
    n = int(whole.sum())
    if n < 2:
        return float("nan"), float("nan"), n
    p = beat.pieces[whole, :, start:stop].astype(np.float64)
    ends = max(1, round(0.01 * fs))
    first, last = p[:, :, :ends].mean(axis=2, keepdims=True), p[:, :, -ends:].mean(axis=2, keepdims=True)
    p -= first + (last - first) * np.linspace(0, 1, stop - start)
    mean = p.mean(axis=0)
    noise = np.sqrt(np.square(p - mean).mean(axis=(0, 2)))
    size = np.abs(np.median(p, axis=0)).max(axis=1)
    snr = float((size / np.maximum(noise, 1e-6)).max())
    flat = p.reshape(n, -1)
    others = (flat.sum(axis=0) - flat) / (n - 1)
    flat, others = (v - v.mean(axis=1, keepdims=True) for v in (flat, others))
    scale = np.sqrt(np.square(flat).sum(axis=1) * np.square(others).sum(axis=1))
    alike = np.divide((flat * others).sum(axis=1), scale, out=np.zeros(n), where=scale > 0)
    return snr, float(alike.mean()), n


def decide_p(snr: float, consistency: float, n_beats: int, n_leads: int) -> bool | None:
    """Return whether there are P waves; None where it cannot be told."""
    value, (low, high) = (snr, SNR) if n_leads >= MANY_LEADS else (consistency, CONSISTENCY)
    if n_beats < FEWEST or not np.isfinite(value):
        return None
    return True if value >= high else False if value < low else None
