"""What make_ecg knows of its windows: masks of the evidence by lead, and tables of the wave limits."""

from __future__ import annotations

import numpy as np

from . import _synthetic_waves as model
from ._synthetic_leads import lead_matrix
from ._synthetic_rhythms import Train

_WAVES = np.dtype(
    [("label", "U4"), ("r", np.int64)]
    + [(f"{wave}_{end}", np.float64) for wave in ("p", "qrs", "t", "evidence") for end in ("on", "off")]
)
_LEAD_WAVES = np.dtype([(f"{wave}_{end}", np.float64) for wave in model.WAVE_SLOTS for end in ("on", "off")])
# A lead shows the evidence where its wave is at least this part of what it is in the lead that shows it best, or this
# large in mV: beside the 2 mV of V2, the notch in aVL of an LBBB is small and plain to see.
_SEEN, _PLAIN = 0.25, 0.2
# The least deflection in mV that measurement of wave limits counts as one.
_LEAST_WAVE = 0.02


def spans(row: np.ndarray, limits: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a mask (n, T) of the half-open spans ``limits`` (m, 2) in windows ``row``; NaN is no span."""
    n, n_timesteps = shape
    found = ~np.isnan(limits[:, 0])
    ends = np.clip(limits[found], 0, n_timesteps).astype(np.intp)
    edge = np.zeros((n, n_timesteps + 1), dtype=np.int32)
    np.add.at(edge, (row[found], ends[:, 0]), 1)
    np.add.at(edge, (row[found], ends[:, 1]), -1)
    return np.cumsum(edge, axis=1, out=edge)[:, :-1] > 0


def evidence_mask(
    train: Train, limits: np.ndarray, lead_names: tuple[str, ...], shape: tuple[int, int]
) -> np.ndarray:
    """Return the mask (n, n_leads, T) of the evidence ``limits`` (m, 2), in the leads that show it."""
    size = np.abs(train.beats.vector @ lead_matrix(lead_names).T)
    size = np.where(train.beats.evidence[:, :, None], size, 0).max(axis=1)
    seen = size >= np.minimum(_SEEN * size.max(axis=1, keepdims=True), _PLAIN)
    truth = np.empty((shape[0], len(lead_names), shape[1]), dtype=bool)
    for lead in range(len(lead_names)):
        truth[:, lead] = spans(train.row[seen[:, lead]], limits[seen[:, lead]], shape)
    return truth


def mark_gaps(
    truth: np.ndarray,
    target: np.ndarray,
    train: Train,
    limits: np.ndarray,
    lead_names: tuple[str, ...],
    fibrillation: np.ndarray,
) -> None:
    """Mark in ``truth`` (n, n_leads, T) what lies between the beats of the rhythms: T end to the next P or QRS.

    ``limits`` (m, 4, 2) are in samples; ``fibrillation`` (k, 3, 3) the second moments of the windows with AFIB, which
    are marked in the leads that show the waves. The other rhythms are marked in all leads: all show no wave there.
    """
    n, _, n_timesteps = truth.shape
    rows = np.isin(target, ("AFIB", "SBR", "SVTA", "ST"))
    own = rows[train.row]
    row, waves = train.row[own], limits[own]
    first, last = np.searchsorted(row, np.arange(n)), np.searchsorted(row, np.arange(n), side="right")
    # The P of SVTA lies inside the QRS and ends no gap.
    next_on = np.fmin(waves[:, 0, 0], waves[:, 1, 0])
    on = np.concatenate([[0.0], waves[:, 2, 1]])[:-1]
    on[first[rows]] = 0
    gaps = [np.stack([on, np.maximum(on, next_on)], axis=1)]
    # No beat that is left out reaches into the window: behind the last T the gap goes on to the end.
    end = np.minimum(waves[last[rows] - 1, 2, 1], n_timesteps)
    gaps.append(np.stack([end, np.full(len(end), n_timesteps)], axis=1))
    between = spans(np.concatenate([row, np.flatnonzero(rows)]), np.concatenate(gaps), (n, n_timesteps))
    truth[rows] |= between[rows, None]

    matrix = lead_matrix(lead_names)
    size = np.sqrt(np.einsum("li,kij,lj->kl", matrix, fibrillation, matrix))
    unseen = size < _SEEN * size.max(axis=1, keepdims=True)
    window, lead = np.nonzero(unseen)
    truth[np.flatnonzero(target == "AFIB")[window], lead] = False


def wave_tables(
    train: Train, r: np.ndarray, limits: np.ndarray, lead_names: tuple[str, ...], shape: tuple[int, int], fs: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return per window the table of its beats with a wave in it, and the same beats' limits by lead.

    ``r`` (m,) and ``limits`` (m, 4, 2) are in samples. The second list holds tables (n_beats, n_leads).
    """
    waves = limits[:, :3]
    touches = ((waves[..., 1] > 0) & (waves[..., 0] < shape[1])).any(axis=1)
    table = np.empty(touches.sum(), dtype=_WAVES)
    table["label"] = np.array(model.BEATS)[train.kind[touches]]
    table["r"] = r[touches]
    for i, name in enumerate(_WAVES.names[2:]):
        table[name] = limits[touches, i // 2, i % 2]

    beats, at = train.beats, train.at[touches, None]
    seen = np.abs(beats.vector[touches] @ lead_matrix(lead_names).T) >= _LEAST_WAVE
    on, off = at + beats.on[touches], at + beats.on[touches] + beats.dur[touches]
    by_lead = np.empty((touches.sum(), len(lead_names)), dtype=_LEAD_WAVES)
    for wave, slots in model.WAVE_SLOTS.items():
        shown = seen[:, slots]
        ends = np.stack(
            [
                np.where(shown, on[:, slots, None], np.inf).min(axis=1),
                np.where(shown, off[:, slots, None], -np.inf).max(axis=1),
            ],
            axis=-1,
        )
        ends = model.to_samples(ends, fs)
        ends[~shown.any(axis=1)] = np.nan
        by_lead[f"{wave}_on"], by_lead[f"{wave}_off"] = ends[..., 0], ends[..., 1]
    cuts = np.searchsorted(train.row[touches], np.arange(1, shape[0]))
    return np.split(table, cuts), np.split(by_lead, cuts)
