"""The hearts that make_ecg simulates: patients, and beats as sums of waves with exact limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ._synthetic_leads import LEAD_II, across, degrees_to_axis, turns, turns_about_ii

_BATCH = 2**20  # timesteps of windows rendered at a time, which bounds the memory beside the heart vectors

BEATS = ("N", "PVC", "PAC", "LBBB", "RBBB")
N, PVC, PAC, LBBB, RBBB = range(5)
NO_P, SINUS_P, ECTOPIC_P, RETROGRADE_P, DELAYED_P = range(5)

# Slots of a beat: P, three parts of the QRS, T, and three waves that lead II does not see: the early, right-sided part
# of a sinus P, and two more parts of the QRS. A part is (start, stop, tip): start and stop are fractions of the QRS,
# the tip (the place of the peak) is one of the part. The first three reach exactly from 0 to 1.
SLOTS = 8
WAVE_SLOTS = {"p": [0, 5], "qrs": [1, 2, 3, 6, 7], "t": [4]}
_P, _T, _EARLY_P = 0, 4, 5
_QRS = WAVE_SLOTS["qrs"]
_GROWS_WITH = [0, 1, 2, 3, 4, 0, 2, 2]  # the unseen waves change from beat to beat with P and R
_QRS_PARTS = np.array(
    [
        [(0.00, 0.36, 0.50), (0.16, 0.76, 0.50), (0.60, 1.00, 0.45)],  # N: q, R, S
        [(0.00, 0.72, 0.60), (0.30, 1.00, 0.45), (0.00, 1.00, 0.50)],  # PVC: two slow slopes (the third is unused)
        [(0.00, 0.36, 0.50), (0.16, 0.76, 0.50), (0.60, 1.00, 0.45)],  # PAC: conducted as N
        [(0.00, 0.68, 0.48), (0.42, 1.00, 0.42), (0.00, 1.00, 0.50)],  # LBBB: R, notch, late R (the third is unused)
        [(0.00, 0.28, 0.50), (0.10, 0.58, 0.50), (0.46, 1.00, 0.40)],  # RBBB: q or r, R, late right-sided wave
    ]
)
_Q = (-0.12, -0.08, -0.30)
_R = (0.95, 0.80, 0.60)
_NONE = (0.0, 0.0, 0.0)
_QRS_VECTORS = np.array(
    [
        [_Q, _R, (-0.22, -0.20, 0.10)],
        [_NONE, _NONE, _NONE],  # by focus, below
        [_Q, _R, (-0.22, -0.20, 0.10)],
        [(0.74, 0.54, 0.86), (0.78, 0.48, 0.94), _NONE],
        [_Q, (0.85, 0.85, 0.40), (-0.60, -0.46, -0.62)],
    ]
)
# Ventricular foci, two parts each: outflow tract right and left (upright in II), apex right, free wall left (down).
_PVC_FOCI = np.array(
    [
        [(-0.04, 0.68, 0.32), (0.14, 0.54, 0.43), _NONE],
        [(-0.22, 0.68, -0.43), (-0.11, 0.50, -0.54), _NONE],
        [(0.32, -0.66, 0.29), (0.47, -0.52, 0.43), _NONE],
        [(-0.34, -0.60, -0.40), (-0.48, -0.50, -0.43), _NONE],
    ]
)
_QRS_SECONDS = np.array([(0.076, 0.100), (0.132, 0.172), (0.076, 0.100), (0.127, 0.154), (0.126, 0.152)])
_T_VECTORS = np.array([(0.25, 0.24, -0.16), _NONE, (0.25, 0.24, -0.16), (-0.28, -0.17, -0.36), (0.24, 0.20, 0.14)])
_P_VECTOR = (0.10, 0.13, -0.02)
# The ectopic focus lies low in the atria: P is inverted in II.
_ECTOPIC_P_VECTOR = (-0.07, -0.22, 0.03)
_MOST_JITTER = 0.05

# Added to these vectors across lead II, as (left, back) in mV. It shapes what the other eleven leads show (R that grows
# from V1 to V5, deep S in V2, broad R in I and aVL of LBBB, P that is biphasic in V1) and leaves II as it is.
_NO = (0.0, 0.0)
_QRS_ACROSS = np.array(
    [
        [(0.02, 0.08), (0.18, 0.30), (0.00, 0.10)],
        [_NO, _NO, _NO],
        [(0.02, 0.08), (0.18, 0.30), (0.00, 0.10)],
        [(0.30, 0.50), (0.32, 0.38), _NO],
        [(0.02, 0.10), (0.20, 0.15), (0.10, -0.10)],
    ]
)
_T_ACROSS = np.array([(0.12, -0.02), _NO, (0.12, -0.02), (-0.10, -0.15), (0.10, 0.02)])
_P_ACROSS = (0.04, 0.07)
_EARLY_P_ACROSS, _EARLY_P_SHARE = (0.0, -0.09), 0.62
# Two more parts: an early wave to the front and a late one to the back, which make V2 and V3 an rS and an RS; in LBBB
# one that fills the notch in V1 to V3 alone.
_EARLY_PART, _LATE_PART, _NO_PART = (0.14, 0.52, 0.5), (0.46, 0.86, 0.45), (0.0, 1.0, 0.5)
_MORE_PARTS = np.array(
    [
        [_EARLY_PART, _LATE_PART],
        [_NO_PART, _NO_PART],
        [_EARLY_PART, _LATE_PART],
        [(0.25, 0.80, 0.5), _NO_PART],
        [(0.10, 0.40, 0.5), _NO_PART],
    ]
)
_MORE_ACROSS = np.array(
    [
        [(0.22, -0.30), (-0.06, 0.42)],
        [_NO, _NO],
        [(0.22, -0.30), (-0.06, 0.42)],
        [(0.0, 0.45), _NO],
        [(0.15, -0.20), _NO],
    ]
)

# P onset to QRS onset, s: normal conduction takes no longer, and a first-degree block never less than the second.
LONGEST_PR, _LEAST_DELAYED_PR, _MOST_DELAYED_PR = 0.200, 0.225, 0.320

# Which slots are the evidence of a kind of beat; the truth reaches from the first onset to the last offset.
_EVIDENCE = np.zeros((5, SLOTS), dtype=bool)
_EVIDENCE[[PVC, PVC, PAC, LBBB, RBBB], [1, 2, 0, 2, 3]] = True

# Settings of morphology, their limits, and how much of a turn of the axis P and T take part in.
MORPHOLOGY = {
    "axis": (-60.0, 90.0),
    "rotation": (-25.0, 25.0),
    "p": (0.2, 3.0),
    "qrs": (0.2, 3.0),
    "t": (0.2, 3.0),
    "f": (0.2, 3.0),
    "qt": (0.85, 1.15),
}
_P_TURNS, _T_TURNS = 0.25, 0.5


@dataclass(frozen=True)
class Patients:
    """What a patient keeps from beat to beat; first axis the patients, second axis of QRS arrays the kind of beat.

    ``part`` (P, 5, 5, 3) holds start, stop and tip of the five parts of each QRS, ``vector`` (P, 5, 5, 3) their heart
    vectors in mV, ``qrs`` (P, 5) durations in s, ``r_at`` (P, 5) the place of the R peak as a fraction of the QRS.
    ``p_vector`` (P, 2, 2, 3) are the P of the sinus and of the ectopic focus, whole and early part; ``pr`` (P, 3) in s
    the PR of these two and of a first-degree block; ``fibrillation`` (P,) a factor of the fibrillatory waves.
    """

    part: np.ndarray
    vector: np.ndarray
    qrs: np.ndarray
    r_at: np.ndarray
    t_vector: np.ndarray
    t_share: np.ndarray
    qtc: np.ndarray
    p_vector: np.ndarray
    p_seconds: np.ndarray
    pr: np.ndarray
    rate: np.ndarray
    arrhythmia: np.ndarray
    breath: np.ndarray
    mains: np.ndarray
    noisy: np.ndarray
    fibrillation: np.ndarray

    def reach(self, who: np.ndarray, kind: np.ndarray, atrial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the most seconds by which QRS and evidence of a beat reach before and after its R peak.

        The evidence of a first-degree block counts with the P wave from which it is measured.
        """
        most = self.qrs[who, kind] * (1 + _MOST_JITTER)
        before = self.r_at[who, kind] * most
        pr = np.where(kind == PAC, self.pr[who, 1], np.where(atrial == DELAYED_P, self.pr[who, 2], 0.0))
        return before + pr, most - before


@dataclass(frozen=True)
class Beats:
    """Beats as waves: ``on``, ``dur`` (s, from the R peak), ``tip`` (m, 8) and ``vector`` (m, 8, 3) in mV by slot.

    ``limits`` (m, 4, 2) are on- and offsets in s from the R peak of P, QRS, T and the evidence; NaN where absent.
    ``evidence`` (m, 8) bool says by which waves a lead shows the evidence.
    """

    on: np.ndarray
    dur: np.ndarray
    tip: np.ndarray
    vector: np.ndarray
    limits: np.ndarray
    evidence: np.ndarray


def bump(u: np.ndarray, tip: np.ndarray) -> np.ndarray:
    """Return a raised-cosine wave at ``u``: 0 at 0 and 1, 1 at ``tip``, positive between and smooth at both ends."""
    return 0.5 - 0.5 * np.cos(np.pi * np.where(u < tip, u / tip, (1 - u) / (1 - tip)))


def draw_patients(
    rng: np.random.Generator,
    n: int,
    heart_rate: tuple[float, float],
    across_rng: np.random.Generator,
    morphology: Mapping[str, tuple[float, float]],
) -> Patients:
    """Draw ``n`` patients whose sinus rates lie in ``heart_rate`` (beats/min).

    ``across_rng`` draws what lead II does not see and what ``morphology`` asks for, so that neither changes the rest.
    """

    def between(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, (n, *shape))

    three = np.broadcast_to(_QRS_VECTORS, (n, 5, 3, 3)).copy()
    three[:, PVC] = _PVC_FOCI[rng.integers(len(_PVC_FOCI), size=n)]
    size = rng.lognormal(0.0, 0.12, (n, 5, 3, 1))
    # One gain for all that a patient's ventricles do, so that neither class has the larger complexes; a second one
    # for the ectopic ones, which are as often smaller as larger than the others.
    gain = rng.lognormal(0.0, 0.2, n)
    size = size * gain[:, None, None, None]
    size[:, PVC] *= rng.lognormal(0.0, 0.15, n)[:, None, None]
    three *= size
    part = np.broadcast_to(np.concatenate([_QRS_PARTS, _MORE_PARTS], axis=1), (n, 5, 5, 3)).copy()
    part[:, :, :3, 2] *= between(0.85, 1.15, 5, 3)
    part[:, LBBB, 1, 0] += between(-0.03, 0.03)  # a deeper or a shallower notch
    low, high = _QRS_SECONDS.T
    qrs = rng.uniform(low, high, (n, 5))

    t_size = rng.lognormal(0.0, 0.2, (n, 1, 1))
    t_vector = np.broadcast_to(_T_VECTORS, (n, 5, 3)) * t_size
    t_vector[:, PVC] = -between(0.35, 0.55)[:, None] * three[:, PVC].sum(axis=1) / 1.5
    # T waves are flat or inverted in some patients whatever the class, so that T alone tells no class.
    flat = rng.random(n) < 0.25
    t_sign = np.where(flat[:, None] & np.isin(np.arange(5), (N, PAC, RBBB)), -0.5, 1.0)[:, :, None]
    p_seconds = np.stack([between(0.080, 0.105), between(0.072, 0.100)], axis=1)
    p_size = rng.lognormal(0.0, 0.15, (n, 2, 1))
    p_whole = np.array([_P_VECTOR, _ECTOPIC_P_VECTOR]) * p_size
    pr = np.stack([between(0.135, 0.185), between(0.130, 0.165)], axis=1)
    turn = turns(np.clip(rng.normal(0, 9, (n, 2)), -16, 16))

    # Across lead II: the same sizes, no turn before it (which lead II would see), one about lead II after it.
    vector = np.concatenate([np.einsum("pij,pksj->pksi", turn, three), np.zeros((n, 5, 2, 3))], axis=2)
    vector[:, :, :3] += across(_QRS_ACROSS) * size
    vector[:, :, 3:] = across(_MORE_ACROSS) * size[:, :, 1:2]
    t_vector = np.einsum("pij,pkj->pki", turn, t_vector * t_sign) + across(_T_ACROSS) * t_size * t_sign
    p_vector = np.zeros((n, 2, 2, 3))
    p_vector[:, :, 0] = np.einsum("pij,pkj->pki", turn, p_whole)
    p_vector[:, 0, 0] += across(_P_ACROSS) * p_size[:, 0]
    p_vector[:, 0, 1] = across(_EARLY_P_ACROSS) * p_size[:, 0]
    vector[:, PAC], part[:, PAC], qrs[:, PAC] = vector[:, N], part[:, N], qrs[:, N]  # conducted as from the sinus node
    about = turns_about_ii(np.clip(across_rng.normal(0, 10, n), -20, 20))
    vector, t_vector, p_vector = (_turned(about, each) for each in (vector, t_vector, p_vector))
    delayed = across_rng.uniform(_LEAST_DELAYED_PR, _MOST_DELAYED_PR, n)
    share = across_rng.random((len(MORPHOLOGY), n))
    asked = {
        name: low + (high - low) * share[list(MORPHOLOGY).index(name)] for name, (low, high) in morphology.items()
    }
    vector, t_vector, p_vector = _shaped(vector, t_vector, p_vector, part, asked)
    return Patients(
        part=part,
        vector=vector,
        qrs=qrs,
        r_at=_r_peaks(part, vector),
        t_vector=t_vector,
        t_share=between(0.42, 0.50),
        qtc=between(0.375, 0.425) * asked.get("qt", 1.0),
        p_vector=p_vector,
        p_seconds=p_seconds,
        pr=np.column_stack([pr, delayed]),
        rate=between(*heart_rate),
        arrhythmia=between(0.01, 0.07),
        breath=between(2.5, 5.0),
        mains=rng.choice([50.0, 60.0], size=n),
        noisy=between(0.5, 1.5),
        fibrillation=asked.get("f", np.ones(n)),
    )


def _turned(turn: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return vectors (P, ..., 3) turned by a rotation (P, 3, 3) per patient."""
    return np.einsum("pij,p...j->p...i", turn, vector)


def _shaped(
    vector: np.ndarray, t_vector: np.ndarray, p_vector: np.ndarray, part: np.ndarray, asked: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the vectors of QRS, T and P with the factors and turns (P,) that ``morphology`` asks for."""
    if "rotation" in asked:
        turn = turns(np.stack([np.zeros_like(asked["rotation"]), asked["rotation"]], axis=1))
        vector, t_vector, p_vector = (_turned(turn, each) for each in (vector, t_vector, p_vector))
    if "axis" in asked:
        # The area of a bump is half its length, wherever its tip is.
        area = (vector[:, N] * (part[:, N, :, 1] - part[:, N, :, 0])[:, :, None]).sum(axis=1)
        degrees = degrees_to_axis(area, asked["axis"])
        whole, half, little = (
            turns(np.stack([share * degrees, np.zeros_like(degrees)], axis=1)) for share in (1.0, _T_TURNS, _P_TURNS)
        )
        supraventricular = [N, PAC, LBBB, RBBB]  # an ectopic focus lies where it lies
        vector[:, supraventricular] = _turned(whole, vector[:, supraventricular])
        t_vector[:, supraventricular] = _turned(half, t_vector[:, supraventricular])
        p_vector = _turned(little, p_vector)
    qrs, t, p = (asked.get(name, np.ones(len(vector)))[:, None, None] for name in ("qrs", "t", "p"))
    return vector * qrs[..., None], t_vector * t, p_vector * p[..., None]


def _r_peaks(part: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return where in each QRS (a fraction of it) lead II is farthest from zero."""
    grid = np.linspace(0, 1, 101)
    start, stop, tip = (part[..., i, None] for i in range(3))
    u = np.clip((grid - start) / (stop - start), 0, 1)
    wave = np.einsum("pksj,j,pkst->pkt", vector, LEAD_II, bump(u, tip))
    return grid[np.abs(wave).argmax(axis=2)]


def shape_beats(
    rng: np.random.Generator, patients: Patients, who: np.ndarray, kind: np.ndarray, atrial: np.ndarray, rr: np.ndarray
) -> Beats:
    """Draw beats of patients ``who`` (m,), of these kinds, with these P waves, after RR intervals ``rr`` (s)."""
    m = len(who)
    jitter = np.clip(rng.normal(0, 0.02, (m, 3)), -_MOST_JITTER, _MOST_JITTER)
    qrs = patients.qrs[who, kind] * (1 + jitter[:, 0])
    qrs_on = -patients.r_at[who, kind] * qrs
    start, stop, tip = np.moveaxis(patients.part[who, kind], 2, 0)
    on, dur, tips = np.empty((m, SLOTS)), np.empty((m, SLOTS)), np.full((m, SLOTS), 0.5)
    vector = np.empty((m, SLOTS, 3))
    on[:, _QRS] = qrs_on[:, None] + start * qrs[:, None]
    dur[:, _QRS] = (stop - start) * qrs[:, None]
    tips[:, _QRS] = tip
    vector[:, _QRS] = patients.vector[who, kind]

    qt = patients.qtc[who] * np.cbrt(rr) + 0.6 * np.maximum(qrs - 0.09, 0)
    # A T wave that begins before its QRS has ended would have no limits that anybody could read.
    t_dur = np.minimum(patients.t_share[who] * qt * (1 + jitter[:, 1]), qt - qrs - 0.01)
    on[:, _T], dur[:, _T], tips[:, _T] = qrs_on + qt - t_dur, t_dur, 0.58
    vector[:, _T] = patients.t_vector[who, kind]

    ectopic = (atrial == ECTOPIC_P).astype(int)
    delayed = atrial == DELAYED_P
    # The AV node conducts faster at higher rates, a block of the first degree included.
    slow = np.maximum(np.minimum(patients.pr[who, 2], 0.45 * rr), _LEAST_DELAYED_PR)
    pr = np.where(delayed, slow, patients.pr[who, ectopic])
    dur[:, _P] = patients.p_seconds[who, ectopic] * (1 + jitter[:, 2])
    on[:, _P] = np.where(atrial == RETROGRADE_P, qrs_on + 0.6 * qrs, qrs_on - pr)
    on[:, _EARLY_P], dur[:, _EARLY_P] = on[:, _P], _EARLY_P_SHARE * dur[:, _P]
    # By NO_P, SINUS_P, ECTOPIC_P, RETROGRADE_P, DELAYED_P; an atrium that is not excited from above has no early part.
    weight = np.array([(0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (-0.5, 0.0), (1.0, 1.0)])[atrial]
    vector[:, [_P, _EARLY_P]] = patients.p_vector[who, ectopic] * weight[:, :, None]
    vector *= rng.lognormal(0.0, 0.04, (m, 5, 1))[:, _GROWS_WITH]

    limits = np.full((m, 4, 2), np.nan)
    has_p = atrial != NO_P
    limits[has_p, 0, 0], limits[has_p, 0, 1] = on[has_p, _P], (on + dur)[has_p, _P]
    limits[:, 1, 0], limits[:, 1, 1] = qrs_on, qrs_on + qrs
    limits[:, 2, 0], limits[:, 2, 1] = on[:, _T], (on + dur)[:, _T]
    evidence = _EVIDENCE[kind]
    found = evidence.any(axis=1)
    limits[found, 3, 0] = np.where(evidence, on, np.inf)[found].min(axis=1)
    limits[found, 3, 1] = np.where(evidence, on + dur, -np.inf)[found].max(axis=1)
    # What is too long of the PR: from where a normal QRS would have begun at the latest. It is seen where P is.
    limits[delayed, 3, 0], limits[delayed, 3, 1] = on[delayed, _P] + LONGEST_PR, qrs_on[delayed]
    evidence[delayed, _P] = True
    return Beats(on=on, dur=dur, tip=tips, vector=vector, limits=limits, evidence=evidence)


def to_samples(seconds: np.ndarray, fs: float) -> np.ndarray:
    """Return half-open sample limits of open intervals (..., 2) in s: just the samples where a bump is not zero."""
    limits = np.empty(seconds.shape)
    limits[..., 0] = np.floor(seconds[..., 0] * fs) + 1
    limits[..., 1] = np.ceil(seconds[..., 1] * fs)
    return limits


def render(
    beats: Beats, row: np.ndarray, at: np.ndarray, shape: tuple[int, int], fs: float, slots: np.ndarray | None = None
) -> np.ndarray:
    """Add up the waves of beats whose R peaks lie ``at`` (s) in windows ``row``; return heart vectors (n, 3, T) in mV.

    ``shape`` is (n, T); ``row`` is sorted; ``slots`` (m, 8) bool says which waves to draw, all by default.
    """
    n, n_timesteps = shape
    drawn = beats.vector.any(axis=2) if slots is None else slots & beats.vector.any(axis=2)
    heart = np.empty((n, 3, n_timesteps))
    step = max(1, _BATCH // n_timesteps)
    for first in range(0, n, step):
        last = min(first + step, n)
        chosen = slice(*np.searchsorted(row, (first, last)))
        beat, slot = np.nonzero(drawn[chosen])
        beat += chosen.start
        on, dur, tip = at[beat] + beats.on[beat, slot], beats.dur[beat, slot], beats.tip[beat, slot]
        limits = np.clip(to_samples(np.stack([on, on + dur], axis=1), fs), 0, n_timesteps).astype(np.intp)
        length = limits[:, 1] - limits[:, 0]
        wave = np.repeat(np.arange(len(beat)), length)
        sample = np.arange(len(wave)) - np.repeat(np.cumsum(length) - length - limits[:, 0], length)
        value = bump((sample / fs - on[wave]) / dur[wave], tip[wave])
        place = (row[beat] - first)[wave] * n_timesteps + sample
        vector = beats.vector[beat, slot]
        for axis in range(3):
            total = np.bincount(place, weights=value * vector[wave, axis], minlength=(last - first) * n_timesteps)
            heart[first:last, axis] = total.reshape(last - first, n_timesteps)
    return heart
