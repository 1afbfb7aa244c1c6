"""make_ecg: simulated ECG that needs no download and knows where the evidence of each class lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch

from skecg.datasets import _waves_model as model

from ..utils._validation import check_fs, check_number, check_option
from ._disturbances import add_artefacts, add_noise

CLASSES = ("N", "PVC", "PAC", "LBBB", "RBBB", "AFIB", "SVTA", "SBR")
_KIND = {"PVC": model.PVC, "PAC": model.PAC, "LBBB": model.LBBB, "RBBB": model.RBBB}
_WAVES = np.dtype(
    [("label", "U4"), ("r", np.int64)]
    + [(f"{wave}_{end}", np.float64) for wave in ("p", "qrs", "t", "evidence") for end in ("on", "off")]
)
# No RR interval is shorter and no wave reaches farther from its R peak than this (s).
_SHORTEST_RR, _REACH_BEFORE, _REACH_AFTER = 0.25, 0.30, 0.65
# A lead shows the evidence where its wave is at least this part of what it is in the lead that shows it best.
_SEEN = 0.25


def make_ecg(
    n_samples: int = 500,
    *,
    classes: Sequence[str] = ("N", "PVC", "PAC", "LBBB", "RBBB"),
    n_leads: int = 1,
    fs: float = 360.0,
    window: float = 2.0,
    heart_rate: float | tuple[float, float] = (60.0, 100.0),
    noise: float = 0.05,
    n_patients: int | None = None,
    distractors: bool = True,
    centred: bool = False,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
    return_X_y: bool = False,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Simulate windows of ECG of several patients, with the place of the evidence for each class.

    Beats are sums of waves of finite length, so that their limits are exact. Durations, intervals, amplitudes and
    axes are drawn per patient and per beat; the ranges were chosen within textbook limits and were fixed before any
    explainer saw the data. All leads are views of one heart vector. What sets the classes apart, what ``truth`` marks
    and what was added to mislead shortcuts is told in ``DESCR``.

    Parameters
    ----------
    n_samples : int, default=500
        Number of windows, at least one per class.
    classes : sequence of str, default=("N", "PVC", "PAC", "LBBB", "RBBB")
        Classes in equal numbers (the first ones get one window more where it does not come out even). Allowed:
        N, PVC, PAC, LBBB, RBBB, AFIB, SVTA, SBR.
    n_leads : int, default=1
        12: I, II, III, aVR, aVL, aVF, V1 to V6. Fewer: the first ``n_leads`` of II, V1, V5, I, III, aVR, aVL, aVF,
        V2, V3, V4, V6.
    fs : float, default=360.0
        Sampling rate in Hz, at least 100.
    window : float, default=2.0
        Length of a window in s, at least 1. A window has ``round(window * fs)`` timesteps.
    heart_rate : float or (float, float), default=(60.0, 100.0)
        Range in which the patients' sinus rates lie, in beats/min, within 60 to 100. AFIB (75 to 125), SVTA (150 to
        220) and SBR (38 to 55) have rates of their own.
    noise : float, default=0.05
        Root mean square in mV of the baseline wander of an average patient; muscle noise is 0.4 and mains hum (50 or
        60 Hz, where ``fs`` can hold it) 0.25 of that. Each lead has noise of its own. 0 turns it off.
    n_patients : int or None, default=None
        Number of patients, who share the windows evenly. None: one for each window of a class, but at most 40.
    distractors : bool, default=True
        Whether each window holds two artefacts that carry no class, one with peak and energy of a ventricular
        evidence wave and one with those of an ectopic P wave.
    centred : bool, default=False
        Whether the labelled beat lies at sample ``n_timesteps // 2``. Otherwise it lies anywhere in the window where
        its QRS and its evidence are whole.
    random_state : int, Generator, RandomState or None, default=None
        An int gives the same windows each time. The same beats come with any ``noise`` and ``distractors``. None
        takes fresh entropy; numpy's global generator is neither read nor moved.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` alone.

    Returns
    -------
    bunch : Bunch
        Windows and all that is known of them.

        data : ndarray of shape (n_samples, n_leads, n_timesteps), float32
            ECG in mV.
        target : ndarray of shape (n_samples,), str
            Class of each window.
        groups : ndarray of shape (n_samples,), str
            Patient of each window. Each patient has windows of several classes, each class several patients.
        record : ndarray of shape (n_samples,), str
            Recording of each window: each is one of its own.
        sample : ndarray of shape (n_samples,), int64
            R peak of the labelled beat, in samples from the start of the window.
        fs : float
            Sampling rate, Hz.
        lead_names : list of str
            Names of the leads.
        truth : ndarray of shape (n_samples, n_leads, n_timesteps), bool
            The evidence, in the generator's wave limits without margin: the QRS of the PVC, the P wave of the PAC,
            the late part of each QRS in LBBB and RBBB, in the leads that show it. False throughout for N, AFIB, SVTA
            and SBR, whose evidence has no single place.
        r_peaks : list of n_samples ndarrays of int64
            All R peaks in the window, one per beat for all leads (where lead II is farthest from zero in the
            patient's QRS).
        waves : list of n_samples structured ndarrays
            A row for each beat with a wave in the window, also where its R peak is not: ``label`` (N, PVC, PAC, LBBB
            or RBBB), ``r`` (int64), and ``p_on``, ``p_off``, ``qrs_on``, ``qrs_off``, ``t_on``, ``t_off``,
            ``evidence_on``, ``evidence_off`` (float64). All are whole samples from the start of the window, may lie
            outside of it, and are half-open: a wave is ``on <= sample < off``. NaN where there is no such wave.
        artefacts : ndarray of shape (n_samples, 2, 2), int64
            On- and offsets (half-open, in samples) of the distractors; (n_samples, 0, 2) without them.
        DESCR : str
            Description of the data.
    (data, target) : tuple of ndarrays
        With ``return_X_y=True``.

    Raises
    ------
    ValueError
        For a parameter out of its range, an unknown or repeated class, or fewer windows than classes or patients.

    See Also
    --------
    fetch_mitdb : Real beats of the MIT-BIH Arrhythmia Database.

    References
    ----------
    .. [1] Dower GE, Machado HB, Osborne JA. On deriving the electrocardiogram from vectorcardiographic leads.
       Clinical Cardiology 3:87-95, 1980. (The lead vectors of I, II and V1 to V6.)

    Examples
    --------
    >>> from skecg.datasets import make_ecg
    >>> ecg = make_ecg(10, classes=("N", "PVC"), random_state=0)
    >>> ecg.data.shape, ecg.lead_names
    ((10, 1, 720), ['II'])
    >>> sorted(set(ecg.target.tolist()))
    ['N', 'PVC']
    """
    classes, rate = _check_classes(classes), _check_rate(heart_rate)
    check_number("n_samples", n_samples, low=len(classes), integer=True, unit="(at least one window per class)")
    check_number("n_leads", n_leads, low=1, high=len(model.STANDARD_LEADS), integer=True)
    check_number("fs", fs, low=100, unit="(Hz)")
    check_number("window", window, low=1, unit="(s)")
    check_number("noise", noise, low=0, unit="(mV)")
    for name, value in (("distractors", distractors), ("centred", centred), ("return_X_y", return_X_y)):
        check_option(name, value, (True, False))
    if n_patients is None:
        n_patients = min(40, max(1, n_samples // len(classes)))
    check_number("n_patients", n_patients, low=1, high=n_samples, integer=True)
    fs, shape = check_fs(fs, "make_ecg"), (int(n_samples), round(window * fs))
    lead_names = model.STANDARD_LEADS if n_leads == len(model.STANDARD_LEADS) else model.LEAD_ORDER[:n_leads]

    # One stream each, so that beats do not depend on what is laid over them.
    heart_rng, artefact_rng, noise_rng = _generator(random_state).spawn(3)
    patients = model.draw_patients(heart_rng, n_patients, rate)
    target, who = _deal(heart_rng, n_samples, np.array(classes), n_patients)
    train = _beat_trains(heart_rng, patients, who, target, shape, fs, centred)
    beats, row = train.beats, train.row
    heart = model.render(beats, row, train.at, shape, fs)
    fibrillating = np.flatnonzero(target == "AFIB")
    heart[fibrillating] += _fibrillatory_waves(heart_rng, len(fibrillating), shape[1], fs)

    limits = model.to_samples(train.at[:, None, None] + beats.limits, fs)
    truth = _truth(beats, row, limits[:, 3], lead_names, shape)
    artefacts = np.zeros((shape[0], 0, 2), dtype=np.int64)
    if distractors:
        kept = _spans(row, limits[:, 0], shape) | _spans(row, limits[:, 1], shape)
        artefacts = add_artefacts(artefact_rng, heart, patients, lead_names, kept, truth.any(axis=1), fs)
    data = model.project(heart, lead_names)
    if noise:
        add_noise(noise_rng, data, fs, noise * patients.noisy[who], patients.mains[who])
    if return_X_y:
        return data, target
    r = np.round(train.at * fs).astype(np.int64)
    waves = _wave_table(row, r, train.kind, limits, shape)
    return Bunch(
        data=data,
        target=target,
        groups=_names("patient", n_patients)[who],
        record=_names("window", shape[0]),
        sample=r[train.labelled],
        fs=fs,
        lead_names=list(lead_names),
        truth=truth,
        r_peaks=[w["r"][(w["r"] >= 0) & (w["r"] < shape[1])] for w in waves],
        waves=waves,
        artefacts=artefacts,
        DESCR=resources.files("skecg.datasets").joinpath("descr", "make_ecg.rst").read_text(encoding="utf-8"),
    )


@dataclass(frozen=True)
class _Train:
    """Beats of all windows in order of window and time, with the R peaks ``at`` in s from the window's start."""

    beats: model.Beats
    row: np.ndarray
    at: np.ndarray
    kind: np.ndarray
    labelled: np.ndarray


def _check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise ValueError(f"classes must be a sequence of labels, such as ('N', 'PVC'); got {classes!r}")
    classes = tuple(check_option("each of classes", str(c) if isinstance(c, str) else c, CLASSES) for c in classes)
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"classes must name at least one class and none twice; got {classes!r}")
    return classes


def _check_rate(heart_rate: float | tuple[float, float]) -> tuple[float, float]:
    pair = (heart_rate, heart_rate) if isinstance(heart_rate, Real) else heart_rate
    if isinstance(pair, str) or not isinstance(pair, Iterable) or len(pair := tuple(pair)) != 2:
        raise ValueError(f"heart_rate must be a number or a pair (lowest, highest) in beats/min; got {heart_rate!r}")
    low, high = (check_number("heart_rate", value, low=60, high=100, unit="(beats/min)") for value in pair)
    if low > high:
        raise ValueError(f"heart_rate must be (lowest, highest), the lowest first; got {heart_rate!r}")
    return float(low), float(high)


def _generator(random_state: int | np.random.Generator | np.random.RandomState | None) -> np.random.Generator:
    if random_state is None:
        return np.random.default_rng()
    if isinstance(random_state, np.random.Generator):
        return np.random.default_rng(random_state.integers(2**63))
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31))
    if isinstance(random_state, bool | np.bool_) or not isinstance(random_state, Integral) or random_state < 0:
        raise ValueError(
            f"random_state must be an integer of at least 0, a numpy Generator or RandomState, or None; "
            f"got {random_state!r}"
        )
    return np.random.default_rng(int(random_state))


def _names(stem: str, n: int) -> np.ndarray:
    width = len(str(n - 1))
    return np.array([f"{stem}_{i:0{width}d}" for i in range(n)])


def _deal(rng: np.random.Generator, n: int, classes: np.ndarray, n_patients: int) -> tuple[np.ndarray, np.ndarray]:
    """Deal balanced labels to the patients in turn, so that each gets several classes; return both, shuffled."""
    target = classes[np.sort(np.arange(n) % len(classes))]
    who = rng.permutation(n_patients)[np.arange(n) % n_patients]
    order = rng.permutation(n)
    return target[order], who[order]


def _beat_trains(
    rng: np.random.Generator,
    patients: model.Patients,
    who: np.ndarray,
    target: np.ndarray,
    shape: tuple[int, int],
    fs: float,
    centred: bool,
) -> _Train:
    """Lay the labelled beat of each window, then those before and after it, and draw them all."""
    seconds = shape[1] / fs
    each_side = int(np.ceil((seconds + _REACH_AFTER) / _SHORTEST_RR)) + 1
    own = np.array([_KIND.get(label, model.N) for label in target])
    rr = _rr_intervals(rng, patients, who, target, each_side)
    time = np.cumsum(rr, axis=1)
    before, after = patients.reach(who, own)
    place = np.full(shape[0], (shape[1] // 2) / fs) if centred else rng.uniform(before, seconds - after)
    at = place[:, None] + time - time[:, [each_side]]
    row, column = np.nonzero((at > -_REACH_AFTER) & (at < seconds + _REACH_BEFORE))

    labelled = column == each_side
    every = np.isin(own, (model.LBBB, model.RBBB))  # a block stays; an ectopic beat comes once
    kind = np.where(labelled | every[row], own[row], model.N)
    atrial = np.full(len(row), model.SINUS_P)
    atrial[(kind == model.PVC) | (target[row] == "AFIB")] = model.NO_P
    atrial[kind == model.PAC] = model.ECTOPIC_P
    atrial[target[row] == "SVTA"] = model.RETROGRADE_P
    beats = model.shape_beats(rng, patients, who[row], kind, atrial, rr[row, column])
    return _Train(beats=beats, row=row, at=at[row, column], kind=kind, labelled=labelled)


def _rr_intervals(
    rng: np.random.Generator, patients: model.Patients, who: np.ndarray, target: np.ndarray, each_side: int
) -> np.ndarray:
    """Return the RR intervals (s) before the beats -each_side to each_side; the labelled beat is in the middle."""
    n, beat = len(who), np.arange(-each_side, each_side + 1)
    base = 60 / patients.rate[who] * (1 + 0.02 * rng.standard_normal(n))
    phase = rng.uniform(0, 2 * np.pi, n)[:, None] + 2 * np.pi * beat * (base / patients.breath[who])[:, None]
    sway = patients.arrhythmia[who][:, None] * np.sin(phase) + 0.008 * rng.standard_normal((n, len(beat)))
    rr = np.clip(base[:, None] * (1 + sway), 0.56, 1.0)
    for label, rates, share in (("SBR", (38, 55), 0.3), ("SVTA", (150, 220), 0.05)):
        rows = target == label
        rr[rows] = 60 / rng.uniform(*rates, (rows.sum(), 1)) * (1 + share * sway[rows])
    rows = target == "AFIB"
    mean = 60 / rng.uniform(75, 125, (rows.sum(), 1))
    rr[rows] = np.clip(mean * rng.gamma(20, 1 / 20, (rows.sum(), len(beat))), 0.40, 1.5)

    # Half of the windows without an ectopic beat hold a sinus beat as early as an atrial ectopic one (marked sinus
    # arrhythmia), so that the P wave and not the interval tells the PAC.
    early = (target == "PAC") | (np.isin(target, ("N", "LBBB", "RBBB")) & (rng.random(n) < 0.5))
    now, after, usual = rr[:, each_side], rr[:, each_side + 1], rr[:, each_side].copy()
    now[early] = np.maximum(rng.uniform(0.60, 0.76, n) * usual, 0.42)[early]
    after[early] = (rng.uniform(1.03, 1.12, n) * usual)[early]
    ventricular = target == "PVC"
    now[ventricular] = np.maximum(rng.uniform(0.55, 0.72, n) * usual, 0.42)[ventricular]
    after[ventricular] = (2 * usual - now)[ventricular]  # fully compensatory: the sinus node keeps its time
    return rr


def _fibrillatory_waves(rng: np.random.Generator, n: int, n_timesteps: int, fs: float) -> np.ndarray:
    """Return heart vectors (n, 3, n_timesteps) of atrial fibrillation: 5 to 8 waves a second, never twice the same."""
    t = np.arange(n_timesteps) / fs
    rate, drift = rng.uniform(5, 8, (n, 1)), rng.uniform(0.3, 1.2, (n, 1))
    start = rng.uniform(0, 2 * np.pi, (n, 4, 1))
    phase = 2 * np.pi * rate * t + start[:, 0] + 0.9 * np.sin(2 * np.pi * drift * t + start[:, 1])
    size = 1 + 0.35 * np.sin(2 * np.pi * 1.7 * drift * t + start[:, 2])
    wave = size * (np.sin(phase) + 0.35 * np.sin(2 * phase + start[:, 3]))
    vector = np.array((0.02, 0.055, -0.075)) * rng.lognormal(0, 0.25, (n, 3))
    return vector[:, :, None] * wave[:, None]


def _spans(row: np.ndarray, limits: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a mask (n, T) of the half-open spans ``limits`` (m, 2) in windows ``row``; NaN is no span."""
    n, n_timesteps = shape
    found = ~np.isnan(limits[:, 0])
    ends = np.clip(limits[found], 0, n_timesteps).astype(np.intp)
    edge = np.zeros((n, n_timesteps + 1), dtype=np.int32)
    np.add.at(edge, (row[found], ends[:, 0]), 1)
    np.add.at(edge, (row[found], ends[:, 1]), -1)
    return np.cumsum(edge, axis=1)[:, :-1] > 0


def _truth(
    beats: model.Beats, row: np.ndarray, limits: np.ndarray, lead_names: tuple[str, ...], shape: tuple[int, int]
) -> np.ndarray:
    """Return the mask (n, n_leads, T) of the evidence, in the leads that show it."""
    size = np.abs(beats.vector @ model.lead_matrix(lead_names).T)
    size = np.where(beats.evidence[:, :, None], size, 0).max(axis=1)
    seen = size >= _SEEN * size.max(axis=1, keepdims=True)
    truth = np.empty((shape[0], len(lead_names), shape[1]), dtype=bool)
    for lead in range(len(lead_names)):
        truth[:, lead] = _spans(row[seen[:, lead]], limits[seen[:, lead]], shape)
    return truth


def _wave_table(
    row: np.ndarray, r: np.ndarray, kind: np.ndarray, limits: np.ndarray, shape: tuple[int, int]
) -> list[np.ndarray]:
    """Return one structured array per window, with the beats that have a wave in it."""
    waves = limits[:, :3]
    touches = ((waves[..., 1] > 0) & (waves[..., 0] < shape[1])).any(axis=1)
    table = np.empty(touches.sum(), dtype=_WAVES)
    table["label"] = np.array(model.BEATS)[kind[touches]]
    table["r"] = r[touches]
    for i, name in enumerate(_WAVES.names[2:]):
        table[name] = limits[touches, i // 2, i % 2]
    return np.split(table, np.searchsorted(row[touches], np.arange(1, shape[0])))
