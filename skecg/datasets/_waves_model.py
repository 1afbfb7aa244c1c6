"""The hearts that make_ecg simulates: lead vectors, patients, and beats as sums of waves with exact limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
# Fewer than twelve: II as in MIT-BIH, then V1 and V5 as in Holter recordings, then what is left, limb leads first.
LEAD_ORDER = ("II", "V1", "V5", "I", "III", "aVR", "aVL", "aVF", "V2", "V3", "V4", "V6")

# Dower, Machado, Osborne, Clinical Cardiology 3:87-95, 1980: leads from a heart vector (x left, y down, z back).
_DOWER = {
    "I": (0.632, -0.235, 0.059),
    "II": (0.235, 1.066, -0.132),
    "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387),
    "V3": (0.882, 0.098, -1.277),
    "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086),
    "V6": (0.831, 0.076, 0.230),
}
# The other limb leads as (parts of I, parts of II): Einthoven's III and Goldberger's three.
_DERIVED = {"III": (-1.0, 1.0), "aVR": (-0.5, -0.5), "aVL": (1.0, -0.5), "aVF": (-0.5, 1.0)}
# Steps of 2**-14 mV (0.06 uV): sums, differences and halves of I and II are then exact in float32.
_STEPS_PER_MV = 2.0**14

BEATS = ("N", "PVC", "PAC", "LBBB", "RBBB")
N, PVC, PAC, LBBB, RBBB = range(5)
NO_P, SINUS_P, ECTOPIC_P, RETROGRADE_P = range(4)

# Slots of a beat: P, three parts of the QRS, T. A part is (start, stop, tip): start and stop are fractions of the QRS,
# the tip (the place of the peak) is one of the part. The parts of a QRS reach exactly from 0 to 1.
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

# Which slots are the evidence of a kind of beat; the truth reaches from the first onset to the last offset.
_EVIDENCE = np.zeros((5, 5), dtype=bool)
_EVIDENCE[[PVC, PVC, PAC, LBBB, RBBB], [1, 2, 0, 2, 3]] = True


@dataclass(frozen=True)
class Patients:
    """What a patient keeps from beat to beat; first axis the patients, second axis of QRS arrays the kind of beat.

    ``part`` (P, 5, 3, 3) holds start, stop and tip of the three parts of each QRS, ``vector`` (P, 5, 3, 3) their heart
    vectors in mV, ``qrs`` (P, 5) durations in s, ``r_at`` (P, 5) the place of the R peak as a fraction of the QRS.
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

    def reach(self, who: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the most seconds by which QRS and evidence of a beat reach before and after its R peak."""
        most = self.qrs[who, kind] * (1 + _MOST_JITTER)
        before = self.r_at[who, kind] * most
        return before + np.where(kind == PAC, self.pr[who, 1], 0.0), most - before


@dataclass(frozen=True)
class Beats:
    """Beats as waves: ``on``, ``dur`` (s, from the R peak), ``tip`` (m, 5) and ``vector`` (m, 5, 3) in mV by slot.

    ``limits`` (m, 4, 2) are on- and offsets in s from the R peak of P, QRS, T and the evidence; NaN where absent.
    ``evidence`` (m, 5) bool says which waves are the evidence.
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


def lead_matrix(names: tuple[str, ...]) -> np.ndarray:
    """Return the lead vectors (n_leads, 3) of these leads."""
    one, two = np.array(_DOWER["I"]), np.array(_DOWER["II"])
    rows = [_DERIVED[k][0] * one + _DERIVED[k][1] * two if k in _DERIVED else np.array(_DOWER[k]) for k in names]
    return np.stack(rows)


def project(heart: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Return the leads (n, n_leads, n_timesteps) float32 of heart vectors (n, 3, n_timesteps).

    I and II lie on a grid of binary fractions, and the other limb leads are formed from them: III = II - I and
    aVR + aVL + aVF = 0 hold to the last bit.
    """
    leads = np.empty((len(heart), len(names), heart.shape[2]), dtype=np.float32)
    measured = {}
    for name in _DOWER:
        if name in names or (name in ("I", "II") and not _DERIVED.keys().isdisjoint(names)):
            measured[name] = np.round(np.array(_DOWER[name]) @ heart * _STEPS_PER_MV) / _STEPS_PER_MV
    for i, name in enumerate(names):
        if name in _DERIVED:
            one, two = _DERIVED[name]
            leads[:, i] = one * measured["I"] + two * measured["II"]
        else:
            leads[:, i] = measured[name]
    return leads


def draw_patients(rng: np.random.Generator, n: int, heart_rate: tuple[float, float]) -> Patients:
    """Draw ``n`` patients whose sinus rates lie in ``heart_rate`` (beats/min)."""

    def between(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, (n, *shape))

    vector = np.broadcast_to(_QRS_VECTORS, (n, 5, 3, 3)).copy()
    vector[:, PVC] = _PVC_FOCI[rng.integers(len(_PVC_FOCI), size=n)]
    vector *= rng.lognormal(0.0, 0.12, (n, 5, 3, 1))
    # One gain for all that a patient's ventricles do, so that neither class has the larger complexes; a second one
    # for the ectopic ones, which are as often smaller as larger than the others.
    gain = rng.lognormal(0.0, 0.2, n)
    vector *= gain[:, None, None, None]
    vector[:, PVC] *= rng.lognormal(0.0, 0.15, n)[:, None, None]
    part = np.broadcast_to(_QRS_PARTS, (n, 5, 3, 3)).copy()
    part[:, :, :, 2] *= between(0.85, 1.15, 5, 3)
    part[:, LBBB, 1, 0] += between(-0.03, 0.03)  # a deeper or a shallower notch
    part[:, PAC], vector[:, PAC] = part[:, N], vector[:, N]  # the ventricles do not know where the beat began
    low, high = _QRS_SECONDS.T
    qrs = rng.uniform(low, high, (n, 5))
    qrs[:, PAC] = qrs[:, N]

    t_vector = np.broadcast_to(_T_VECTORS, (n, 5, 3)) * rng.lognormal(0.0, 0.2, (n, 1, 1))
    t_vector[:, PVC] = -between(0.35, 0.55)[:, None] * vector[:, PVC].sum(axis=1) / 1.5
    # T waves are flat or inverted in some patients whatever the class, so that T alone tells no class.
    flat = rng.random(n) < 0.25
    t_vector[flat[:, None] & np.isin(np.arange(5), (N, PAC, RBBB))] *= -0.5
    p_seconds = np.stack([between(0.080, 0.105), between(0.072, 0.100)], axis=1)
    p_vector = np.array([_P_VECTOR, _ECTOPIC_P_VECTOR]) * rng.lognormal(0.0, 0.15, (n, 2, 1))
    pr = np.stack([between(0.135, 0.185), between(0.130, 0.165)], axis=1)

    turn = _rotations(np.clip(rng.normal(0, 9, (n, 2)), -16, 16))
    vector = np.einsum("pij,pksj->pksi", turn, vector)
    return Patients(
        part=part,
        vector=vector,
        qrs=qrs,
        r_at=_r_peaks(part, vector),
        t_vector=np.einsum("pij,pkj->pki", turn, t_vector),
        t_share=between(0.42, 0.50),
        qtc=between(0.375, 0.425),
        p_vector=np.einsum("pij,pkj->pki", turn, p_vector),
        p_seconds=p_seconds,
        pr=pr,
        rate=between(*heart_rate),
        arrhythmia=between(0.01, 0.07),
        breath=between(2.5, 5.0),
        mains=rng.choice([50.0, 60.0], size=n),
        noisy=between(0.5, 1.5),
    )


def _rotations(degrees: np.ndarray) -> np.ndarray:
    """Return rotations (P, 3, 3) in the frontal plane and then in the horizontal one."""
    (a, b), zero, one = np.deg2rad(degrees).T, np.zeros(len(degrees)), np.ones(len(degrees))
    frontal = np.array([[np.cos(a), -np.sin(a), zero], [np.sin(a), np.cos(a), zero], [zero, zero, one]])
    horizontal = np.array([[np.cos(b), zero, -np.sin(b)], [zero, one, zero], [np.sin(b), zero, np.cos(b)]])
    return np.einsum("ijp,jkp->pik", horizontal, frontal)


def _r_peaks(part: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return where in each QRS (a fraction of it) lead II is farthest from zero."""
    grid = np.linspace(0, 1, 101)
    start, stop, tip = (part[..., i, None] for i in range(3))
    u = np.clip((grid - start) / (stop - start), 0, 1)
    wave = np.einsum("pksj,j,pkst->pkt", vector, np.array(_DOWER["II"]), bump(u, tip))
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
    on, dur, tips = np.empty((m, 5)), np.empty((m, 5)), np.full((m, 5), 0.5)
    vector = np.empty((m, 5, 3))
    on[:, 1:4] = qrs_on[:, None] + start * qrs[:, None]
    dur[:, 1:4] = (stop - start) * qrs[:, None]
    tips[:, 1:4] = tip
    vector[:, 1:4] = patients.vector[who, kind]

    qt = patients.qtc[who] * np.cbrt(rr) + 0.6 * np.maximum(qrs - 0.09, 0)
    # A T wave that begins before its QRS has ended would have no limits that anybody could read.
    t_dur = np.minimum(patients.t_share[who] * qt * (1 + jitter[:, 1]), qt - qrs - 0.01)
    on[:, 4], dur[:, 4], tips[:, 4] = qrs_on + qt - t_dur, t_dur, 0.58
    vector[:, 4] = patients.t_vector[who, kind]

    ectopic = (atrial == ECTOPIC_P).astype(int)
    pr = patients.pr[who, ectopic]
    dur[:, 0] = patients.p_seconds[who, ectopic] * (1 + jitter[:, 2])
    on[:, 0] = np.where(atrial == RETROGRADE_P, qrs_on + 0.6 * qrs, qrs_on - pr)
    weight = np.array([0.0, 1.0, 1.0, -0.5])[atrial]  # by NO_P, SINUS_P, ECTOPIC_P, RETROGRADE_P
    vector[:, 0] = patients.p_vector[who, ectopic] * weight[:, None]
    vector *= rng.lognormal(0.0, 0.04, (m, 5, 1))

    limits = np.full((m, 4, 2), np.nan)
    has_p = atrial != NO_P
    limits[has_p, 0, 0], limits[has_p, 0, 1] = on[has_p, 0], (on + dur)[has_p, 0]
    limits[:, 1, 0], limits[:, 1, 1] = qrs_on, qrs_on + qrs
    limits[:, 2, 0], limits[:, 2, 1] = on[:, 4], (on + dur)[:, 4]
    evidence = _EVIDENCE[kind]
    found = evidence.any(axis=1)
    limits[found, 3, 0] = np.where(evidence, on, np.inf)[found].min(axis=1)
    limits[found, 3, 1] = np.where(evidence, on + dur, -np.inf)[found].max(axis=1)
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

    ``shape`` is (n, T); ``slots`` (m, 5) bool says which waves to draw, all by default.
    """
    n, n_timesteps = shape
    drawn = beats.vector.any(axis=2) if slots is None else slots & beats.vector.any(axis=2)
    beat, slot = np.nonzero(drawn)
    on, dur, tip = at[beat] + beats.on[beat, slot], beats.dur[beat, slot], beats.tip[beat, slot]
    limits = np.clip(to_samples(np.stack([on, on + dur], axis=1), fs), 0, n_timesteps).astype(np.intp)
    length = limits[:, 1] - limits[:, 0]
    wave = np.repeat(np.arange(len(beat)), length)
    step = np.arange(len(wave)) - np.repeat(np.cumsum(length) - length, length)
    sample = limits[wave, 0] + step
    value = bump((sample / fs - on[wave]) / dur[wave], tip[wave])
    place = row[beat][wave] * n_timesteps + sample
    vector = beats.vector[beat, slot]
    heart = np.empty((n, 3, n_timesteps))
    for axis in range(3):
        total = np.bincount(place, weights=value * vector[wave, axis], minlength=n * n_timesteps)
        heart[:, axis] = total.reshape(n, n_timesteps)
    return heart
