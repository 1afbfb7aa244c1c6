"""The rhythms that make_ecg simulates: when the beats of a window come, what kind they are, and fibrillation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from . import _synthetic_waves as model
from ._synthetic_leads import across

# Rhythms that go by two names, and the one used here.
SAME = {"AF": "AFIB", "SB": "SBR"}
# Sinus rates of the other classes are those of the patients. For these: default range, and the widest (beats/min).
RATES = {"SBR": (38.0, 55.0), "SVTA": (150.0, 220.0), "ST": (105.0, 140.0), "AFIB": (75.0, 125.0)}
RATE_LIMITS = {"SBR": (30.0, 59.0), "SVTA": (120.0, 230.0), "ST": (101.0, 160.0), "AFIB": (40.0, 160.0)}
SINUS_LIMITS = (60.0, 100.0)
# How much of the sinus arrhythmia each regular rhythm keeps, and the RR intervals (s) that its name allows.
_REGULAR = {"SBR": (0.3, 1.001, np.inf), "SVTA": (0.05, 0.0, np.inf), "ST": (0.3, 0.0, 0.599)}
_KIND = {"PVC": model.PVC, "PAC": model.PAC, "LBBB": model.LBBB, "RBBB": model.RBBB}
# Classes whose windows may hold an early sinus beat, with the shortest RR (s) before one: a P wave that comes a long
# PR before an earlier beat would lie on the T wave before it.
_EARLIEST = {"N": 0.42, "PAC": 0.42, "PVC": 0.42, "LBBB": 0.42, "RBBB": 0.42, "1dAVb": 0.56}
# No RR interval is shorter, and no wave reaches farther from its R peak than this (s), before it by kind of P wave.
_SHORTEST_RR, _REACH_AFTER = 0.25, 0.65
_REACH_BEFORE, _REACH_BEFORE_DELAYED = 0.30, 0.42
# Fibrillation in mV: as lead II sees it, and what the other leads see of a second front that runs behind the first.
_F_VECTOR, _F_ACROSS, _F_BEHIND = (0.02, 0.055, -0.075), (-0.055, 0.015), 0.7


@dataclass(frozen=True)
class Train:
    """Beats of all windows in order of window and time, with the R peaks ``at`` in s from the window's start."""

    beats: model.Beats
    row: np.ndarray
    at: np.ndarray
    kind: np.ndarray
    labelled: np.ndarray


def beat_trains(
    rng: np.random.Generator,
    patients: model.Patients,
    who: np.ndarray,
    target: np.ndarray,
    rates: Mapping[str, tuple[float, float]],
    shape: tuple[int, int],
    fs: float,
    centred: bool,
) -> Train:
    """Lay the labelled beat of each window, then those before and after it, and draw them all.

    ``rates`` holds the ranges (beats/min) of the classes that do not go by the sinus rates of the patients.
    """
    seconds = shape[1] / fs
    each_side = int(np.ceil((seconds + _REACH_AFTER) / _SHORTEST_RR)) + 1
    own = np.array([_KIND.get(label, model.N) for label in target])
    delayed = target == "1dAVb"
    rr = _rr_intervals(rng, patients, who, target, rates, each_side)
    time = np.cumsum(rr, axis=1)
    before, after = patients.reach(who, own, np.where(delayed, model.DELAYED_P, model.SINUS_P))
    place = np.full(shape[0], (shape[1] // 2) / fs) if centred else rng.uniform(before, seconds - after)
    at = place[:, None] + time - time[:, [each_side]]
    reach = np.where(delayed, _REACH_BEFORE_DELAYED, _REACH_BEFORE)
    row, column = np.nonzero((at > -_REACH_AFTER) & (at < seconds + reach[:, None]))

    labelled = column == each_side
    every = np.isin(own, (model.LBBB, model.RBBB))  # a block stays; an ectopic beat comes once
    kind = np.where(labelled | every[row], own[row], model.N)
    atrial = np.full(len(row), model.SINUS_P)
    atrial[(kind == model.PVC) | (target[row] == "AFIB")] = model.NO_P
    atrial[kind == model.PAC] = model.ECTOPIC_P
    atrial[target[row] == "SVTA"] = model.RETROGRADE_P
    atrial[delayed[row]] = model.DELAYED_P
    beats = model.shape_beats(rng, patients, who[row], kind, atrial, rr[row, column])
    return Train(beats=beats, row=row, at=at[row, column], kind=kind, labelled=labelled)


def _rr_intervals(
    rng: np.random.Generator,
    patients: model.Patients,
    who: np.ndarray,
    target: np.ndarray,
    rates: Mapping[str, tuple[float, float]],
    each_side: int,
) -> np.ndarray:
    """Return the RR intervals (s) before the beats -each_side to each_side; the labelled beat is in the middle."""
    n, beat = len(who), np.arange(-each_side, each_side + 1)
    base = 60 / _sinus_rates(patients.rate[who], target, rates) * (1 + 0.02 * rng.standard_normal(n))
    phase = rng.uniform(0, 2 * np.pi, n)[:, None] + 2 * np.pi * beat * (base / patients.breath[who])[:, None]
    sway = patients.arrhythmia[who][:, None] * np.sin(phase) + 0.008 * rng.standard_normal((n, len(beat)))
    rr = np.clip(base[:, None] * (1 + sway), 0.56, 1.0)
    for label, (share, shortest, longest) in _REGULAR.items():
        rows = target == label
        mean = 60 / rng.uniform(*rates.get(label, RATES[label]), (rows.sum(), 1))
        rr[rows] = np.clip(mean * (1 + share * sway[rows]), shortest, longest)
    rows = target == "AFIB"
    mean = 60 / rng.uniform(*rates.get("AFIB", RATES["AFIB"]), (rows.sum(), 1))
    irregular = mean * rng.gamma(20, 1 / 20, (rows.sum(), len(beat)))
    rr[rows] = np.clip(irregular, np.minimum(0.40, 0.85 * mean), np.maximum(1.5, 1.8 * mean))

    # Half of the windows without an ectopic beat hold a sinus beat as early as an atrial ectopic one (marked sinus
    # arrhythmia), so that the P wave and not the interval tells the PAC.
    early = (target == "PAC") | (np.isin(target, ("N", "LBBB", "RBBB", "1dAVb")) & (rng.random(n) < 0.5))
    now, after, usual = rr[:, each_side], rr[:, each_side + 1], rr[:, each_side].copy()
    least = np.array([_EARLIEST.get(label, 0.0) for label in target])
    now[early] = np.maximum(rng.uniform(0.60, 0.76, n) * usual, least)[early]
    after[early] = (rng.uniform(1.03, 1.12, n) * usual)[early]
    ventricular = target == "PVC"
    now[ventricular] = np.maximum(rng.uniform(0.55, 0.72, n) * usual, least)[ventricular]
    after[ventricular] = (2 * usual - now)[ventricular]  # fully compensatory: the sinus node keeps its time
    return rr


def _sinus_rates(
    rate: np.ndarray, target: np.ndarray, rates: Mapping[str, tuple[float, float]]
) -> np.ndarray:
    """Return the sinus rates (n,) with those of a class in ``rates`` moved into its range, each at its place in it."""
    rate, (slowest, fastest) = rate.copy(), SINUS_LIMITS
    for label in rates.keys() - RATES.keys():
        rows, (low, high) = target == label, rates[label]
        rate[rows] = low + (high - low) * (rate[rows] - slowest) / (fastest - slowest)
    return rate


def fibrillate(
    rng: np.random.Generator,
    across_rng: np.random.Generator,
    heart: np.ndarray,
    rows: np.ndarray,
    size: np.ndarray,
    fs: float,
) -> np.ndarray:
    """Add atrial fibrillation to windows ``rows`` (k,) of ``heart`` (n, 3, T): 5 to 8 waves a second, never the same.

    ``size`` (k,) is a factor. Return the second moments (k, 3, 3) of what was added, in mV**2: ``v @ moments @ v`` is
    the mean square that a lead with vector ``v`` shows.
    """
    n, n_timesteps = len(rows), heart.shape[2]
    t = np.arange(n_timesteps) / fs
    rate, drift = rng.uniform(5, 8, (n, 1)), rng.uniform(0.3, 1.2, (n, 1))
    start = rng.uniform(0, 2 * np.pi, (n, 4, 1))
    vector = np.array(_F_VECTOR) * rng.lognormal(0, 0.25, (n, 3)) * size[:, None]
    other = across(_F_ACROSS) * across_rng.lognormal(0, 0.25, (n, 1)) * size[:, None]
    behind = across_rng.uniform(0.5, 1.5, n) * _F_BEHIND
    moments = np.empty((n, 3, 3))
    for i, row in enumerate(rows):
        phase = 2 * np.pi * rate[i] * t + start[i, 0] + 0.9 * np.sin(2 * np.pi * drift[i] * t + start[i, 1])
        swell = 1 + 0.35 * np.sin(2 * np.pi * 1.7 * drift[i] * t + start[i, 2])
        added = 0.0
        for direction, lag in ((vector[i], 0.0), (other[i], behind[i])):
            wave = swell * (np.sin(phase - lag) + 0.35 * np.sin(2 * (phase - lag) + start[i, 3]))
            added = added + direction[:, None] * wave
        heart[row] += added
        moments[i] = added @ added.T / n_timesteps
    return moments
