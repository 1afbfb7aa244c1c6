"""What make_ecg lays over its beats: artefacts of the size of true waves, wander, mains and muscle noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import uniform_filter1d

from . import _synthetic_waves as model
from ._synthetic_leads import lead_matrix

# Windows of noise made at a time, and the most values of theirs: they bound the memory beside the data.
_BATCH, _BATCH_VALUES = 1024, 2**24
# Parts of the wander by frequency in Hz; the squares of the weights add up to 1.
_WANDER_HZ = np.array([(0.05, 0.15), (0.15, 0.40), (0.40, 0.70)])
_WANDER_WEIGHTS = np.array([0.7, 0.6, np.sqrt(0.15)])
MUSCLE_PART, MAINS_PART = 0.4, 0.25  # root mean square against the wander's


def _shapes(u: np.ndarray, cycles: np.ndarray) -> np.ndarray:
    """Return the four shapes of an artefact at ``u`` in (0, 1): (4, *u.shape), of peak about 1."""
    tapered = np.minimum(1, np.minimum(u, 1 - u) / 0.1)
    # A slow rise that breaks off, a jump that creeps back, a plateau as of a loose electrode, a muscle's tremor.
    return np.stack([u, 1 - u, tapered, tapered * np.sin(2 * np.pi * cycles * u)])


def add_artefacts(
    rng: np.random.Generator,
    heart: np.ndarray,
    patients: model.Patients,
    lead_names: tuple[str, ...],
    kept: np.ndarray,
    truth: np.ndarray,
    fs: float,
) -> np.ndarray:
    """Add two artefacts to each window of ``heart`` (n, 3, T); return their limits in samples (n, 2, 2).

    The first has the peak and the energy, over these leads, of the evidence of a PVC, an LBBB or an RBBB beat of a
    random patient; the second those of an ectopic P wave. Neither knows the class of its window. They lie where they
    cover as little as possible of ``kept`` (n, T), the P waves and QRS, and nothing of ``truth`` (n, T) where there is
    room, else anywhere with equal chance.
    """
    n, _, n_timesteps = heart.shape
    ventricular = rng.choice((model.PVC, model.LBBB, model.RBBB), size=n)
    cost = kept.astype(np.float64)
    cost[truth] = n_timesteps + 1  # dearer than a window full of other waves
    limits = np.empty((n, 2, 2), dtype=np.int64)
    for i, kind in enumerate((ventricular, np.full(n, model.PAC))):
        vector, width = _references(rng, patients, kind, lead_names, fs)
        family, cycles = rng.integers(4, size=n), rng.uniform(3, 5, (n, 1))
        grid = np.broadcast_to((np.arange(400) + 0.5) / 400, (n, 400))
        mean_square = (_shapes(grid, cycles)[family, np.arange(n)] ** 2).mean(axis=1)
        length = np.clip(np.round(width * fs / mean_square), 4, n_timesteps // 3).astype(np.int64)
        start = _cheapest_start(rng, cost, length)
        limits[:, i] = np.stack([start, start + length], axis=1)

        step = np.arange(length.max())
        inside = step < length[:, None]
        u = np.where(inside, (step + 0.5) / length[:, None], 0.5)
        wave = np.where(inside, _shapes(u, cycles)[family, np.arange(n)], 0)
        wave /= np.abs(wave).max(axis=1, keepdims=True)
        row, k = np.nonzero(inside)
        heart[row, :, start[row] + k] += vector[row] * wave[row, k, None]
        cost[row, start[row] + k] += 1  # the next one goes elsewhere
    return limits


def _references(
    rng: np.random.Generator, patients: model.Patients, kind: np.ndarray, lead_names: tuple[str, ...], fs: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw evidence waves; return the heart vector (n, 3) at each one's peak and its width (n,).

    The peak is the largest deflection in any of the leads, the width in s the energy in all leads divided by the
    power at the peak.
    """
    n = len(kind)
    who = rng.integers(len(patients.rate), size=n)
    atrial = np.where(kind == model.PAC, model.ECTOPIC_P, model.NO_P)
    beats = model.shape_beats(rng, patients, who, kind, atrial, np.full(n, 0.75))
    shape = (n, int(np.ceil(0.25 * fs)))
    heart = model.render(beats, np.arange(n), -beats.limits[:, 3, 0], shape, fs, beats.evidence)
    matrix = lead_matrix(lead_names)
    leads = matrix @ heart
    top = np.abs(leads).max(axis=1).argmax(axis=1)
    vector = heart[np.arange(n), :, top]
    return vector, (leads**2).sum(axis=(1, 2)) / fs / ((vector @ matrix.T) ** 2).sum(axis=1)


def _cheapest_start(rng: np.random.Generator, cost: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the start (n,) of the span of this length that costs least, drawn evenly among equals."""
    n, n_timesteps = cost.shape
    total = np.concatenate([np.zeros((n, 1)), np.cumsum(cost, axis=1)], axis=1)
    start = np.arange(n_timesteps)
    stop = np.minimum(start + length[:, None], n_timesteps)
    price = np.take_along_axis(total, stop, axis=1) - total[:, :-1] + rng.random((n, n_timesteps))
    price[start > n_timesteps - length[:, None]] = np.inf
    return price.argmin(axis=1)


def add_noise(
    rng: np.random.Generator,
    data: np.ndarray,
    fs: float,
    level: np.ndarray,
    parts: Mapping[str, float],
    mains: np.ndarray,
) -> None:
    """Add wander, muscle noise and hum at ``mains`` (n,) Hz to ``data``; ``parts`` of ``level`` (n,) in mV of each."""
    n, n_leads, n_timesteps = data.shape
    t = np.arange(n_timesteps) / fs
    smooth = max(3, round(0.04 * fs))
    # A hum near half the sampling rate would be seen at another frequency, which recorders' filters prevent.
    hum = np.where(mains < 0.45 * fs, parts["mains"], 0.0)
    step = max(1, min(_BATCH, _BATCH_VALUES // (n_leads * n_timesteps)))
    for first in range(0, n, step):
        rows = slice(first, min(first + step, n))
        m = rows.stop - first
        hz = np.concatenate([rng.uniform(*_WANDER_HZ.T, (m, 3)), mains[rows, None]], axis=1)
        angle = 2 * np.pi * hz[:, :, None] * t
        basis = np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
        weight = np.concatenate([np.broadcast_to(parts["wander"] * _WANDER_WEIGHTS, (m, 3)), hum[rows, None]], axis=1)
        size = np.tile(weight, 2)[:, None] * level[rows, None, None] * rng.standard_normal((m, n_leads, 8))
        muscle = rng.standard_normal((m, n_leads, n_timesteps), dtype=np.float32)
        muscle -= uniform_filter1d(muscle, smooth, axis=2)
        muscle *= (parts["muscle"] * level[rows] * rng.uniform(0.4, 1.6, m)).astype(np.float32)[:, None, None]
        muscle += size.astype(np.float32) @ basis
        data[rows] += muscle
