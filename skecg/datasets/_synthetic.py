"""make_ecg: simulated ECG that needs no download and knows where the evidence of each class lies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch

from ..utils._leads import STANDARD_LEADS, canonical_name
from ..utils._validation import check_fs, check_number, check_option
from . import _synthetic_rhythms as rhythms
from . import _synthetic_waves as model
from ._synthetic_leads import LEAD_ORDER, project
from ._synthetic_noise import MAINS_PART, MUSCLE_PART, add_artefacts, add_noise
from ._synthetic_truth import evidence_mask, mark_gaps, spans, wave_tables

CLASSES = ("N", "PVC", "PAC", "LBBB", "RBBB", "1dAVb", "SB", "ST", "AF", "AFIB", "SVTA", "SBR")
# The kinds of noise, and their root mean squares as parts of the wander's.
_NOISES = {"wander": 1.0, "muscle": MUSCLE_PART, "mains": MAINS_PART}


def make_ecg(
    n_samples: int = 500,
    *,
    classes: Sequence[str] = ("N", "PVC", "PAC", "LBBB", "RBBB"),
    n_leads: int = 1,
    leads: Sequence[str] | None = None,
    fs: float = 360.0,
    window: float = 2.0,
    heart_rate: float | tuple[float, float] | Mapping[str, float | tuple[float, float]] = (60.0, 100.0),
    morphology: Mapping[str, float | tuple[float, float]] | None = None,
    noise: float | Mapping[str, float] = 0.05,
    n_patients: int | None = None,
    distractors: bool = True,
    centred: bool = False,
    rhythm_truth: bool = False,
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
        N, PVC, PAC, LBBB, RBBB, 1dAVb (first-degree AV block), SB or SBR (sinus bradycardia), ST (sinus
        tachycardia), AF or AFIB (atrial fibrillation), SVTA. Of two names of one rhythm only one may be given.
    n_leads : int, default=1
        12: I, II, III, aVR, aVL, aVF, V1 to V6. Fewer: the first ``n_leads`` of II, V1, V5, I, III, aVR, aVL, aVF,
        V2, V3, V4, V6. Lead II of a seed is the same among any leads.
    leads : sequence of str or None, default=None
        The leads by name, in the order wanted, instead of ``n_leads``. Case does not matter.
    fs : float, default=360.0
        Sampling rate in Hz, at least 100.
    window : float, default=2.0
        Length of a window in s, at least 1. A window has ``round(window * fs)`` timesteps, beats from end to end,
        and one labelled beat.
    heart_rate : float, (float, float) or dict, default=(60.0, 100.0)
        Range in which the patients' sinus rates lie, in beats/min, within 60 to 100. SB and SBR (38 to 55), ST (105
        to 140), AF and AFIB (75 to 125) and SVTA (150 to 220) have rates of their own. A dict gives some of the
        ``classes`` ranges of their own: within 30 to 59 for SB and SBR, 101 to 160 for ST, 40 to 160 for AF and
        AFIB, 120 to 230 for SVTA, 60 to 100 for the others.
    morphology : dict or None, default=None
        Settings of the waves, each a number or a range from which a value is drawn for every patient. "p", "qrs",
        "t" and "f" (the fibrillatory waves): factors of their amplitudes, 0.2 to 3; "qt": factor of the QT interval,
        0.85 to 1.15; "axis": frontal axis of the normal QRS in degrees, -60 to 90, by which blocked beats turn as
        much, T half and P a quarter; "rotation": degrees, -25 to 25, by which the heart is turned seen from its apex
        (positive: R grows later from V1 to V6). None: axes between
        about 15 and 75 degrees and factors of 1. The usual differences between patients come on top of the factors.
    noise : float or dict, default=0.05
        Root mean square in mV of the baseline wander of an average patient; muscle noise is 0.4 and mains hum (50 or
        60 Hz, where ``fs`` can hold it) 0.25 of that. A dict sets "wander", "muscle" and "mains" apart, in mV; what
        is left out is 0. Each lead has noise of its own. 0 turns it off.
    n_patients : int or None, default=None
        Number of patients, who share the windows evenly. None: one for each window of a class, but at most 40.
    distractors : bool, default=True
        Whether each window holds two artefacts that carry no class, one with peak and energy of a ventricular
        evidence wave and one with those of an ectopic P wave.
    centred : bool, default=False
        Whether the labelled beat lies at sample ``n_timesteps // 2``. Otherwise it lies anywhere in the window where
        its QRS and its evidence are whole.
    rhythm_truth : bool, default=False
        Whether ``truth`` also marks where the rhythms are read: between the beats, from the end of T to the next P
        (SB, SBR, ST) or QRS (AF, AFIB, SVTA). These spans are long: chance is far above that of the other classes.
    random_state : int, Generator, RandomState or None, default=None
        An int gives the same windows each time. The same beats come with any ``noise``, ``distractors``, ``leads``
        and ``rhythm_truth``. None takes fresh entropy; numpy's global generator is neither read nor moved.
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
            the late part of each QRS in LBBB and RBBB, the part of each PR interval beyond 200 ms in 1dAVb, in the
            leads that show it. False throughout for N, and, without ``rhythm_truth``, for the rhythms, whose
            evidence has no single place.
        r_peaks : list of n_samples ndarrays of int64
            All R peaks in the window, one per beat for all leads (where lead II is farthest from zero in the
            patient's QRS).
        waves : list of n_samples structured ndarrays
            A row for each beat with a wave in the window, also where its R peak is not: ``label`` (N, PVC, PAC, LBBB
            or RBBB), ``r`` (int64), and ``p_on``, ``p_off``, ``qrs_on``, ``qrs_off``, ``t_on``, ``t_off``,
            ``evidence_on``, ``evidence_off`` (float64), over all leads. All are whole samples from the start of the
            window, may lie outside of it, and are half-open: a wave is ``on <= sample < off``. NaN where there is no
            such wave.
        lead_waves : list of n_samples structured ndarrays of shape (n_beats, n_leads)
            The limits of P, QRS and T of the same beats in each lead: of the parts of the wave that reach 0.02 mV
            in the lead, NaN where none does. A lead that looks across the first part of a QRS sees it begin later.
        artefacts : ndarray of shape (n_samples, 2, 2), int64
            On- and offsets (half-open, in samples) of the distractors; (n_samples, 0, 2) without them.
        DESCR : str
            Description of the data.
    (data, target) : tuple of ndarrays
        With ``return_X_y=True``.

    Raises
    ------
    ValueError
        For a parameter out of its range, an unknown or repeated class, lead or setting, or fewer windows than classes
        or patients.

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

    Twelve leads of ten seconds, some with atrial fibrillation at 60 to 90/min and axes from left to right:

    >>> ecg = make_ecg(6, classes=("N", "AF", "LBBB"), n_leads=12, fs=500.0, window=10.0, random_state=0,
    ...                heart_rate={"AF": (60, 90)}, morphology={"axis": (-30, 90)})
    >>> ecg.data.shape, ecg.lead_names[:6]
    ((6, 12, 5000), ['I', 'II', 'III', 'aVR', 'aVL', 'aVF'])
    """
    classes = _check_classes(classes)
    rate, rates = _check_rates(heart_rate, classes)
    check_number("n_samples", n_samples, low=len(classes), integer=True, unit="(at least one window per class)")
    lead_names = _check_leads(n_leads, leads)
    check_number("fs", fs, low=100, unit="(Hz)")
    check_number("window", window, low=1, unit="(s)")
    level, parts = _check_noise(noise)
    shapes = _check_morphology(morphology)
    for name, value in (
        ("distractors", distractors),
        ("centred", centred),
        ("rhythm_truth", rhythm_truth),
        ("return_X_y", return_X_y),
    ):
        check_option(name, value, (True, False))
    if n_patients is None:
        n_patients = min(40, max(1, n_samples // len(classes)))
    check_number("n_patients", n_patients, low=1, high=n_samples, integer=True)
    fs, shape = check_fs(fs, "make_ecg"), (int(n_samples), round(window * fs))

    # One stream each, so that beats do not depend on what is laid over them, nor lead II on the other leads.
    heart_rng, artefact_rng, noise_rng, across_rng = _generator(random_state).spawn(4)
    patients = model.draw_patients(heart_rng, n_patients, rate, across_rng, shapes)
    labels, who = _deal(heart_rng, n_samples, np.array(classes), n_patients)
    target = np.array([rhythms.SAME.get(label, label) for label in labels.tolist()])
    train = rhythms.beat_trains(heart_rng, patients, who, target, rates, shape, fs, centred)
    row = train.row
    heart = model.render(train.beats, row, train.at, shape, fs)
    rows = np.flatnonzero(target == "AFIB")
    moments = rhythms.fibrillate(heart_rng, across_rng, heart, rows, patients.fibrillation[who[rows]], fs)

    limits = model.to_samples(train.at[:, None, None] + train.beats.limits, fs)
    truth = evidence_mask(train, limits[:, 3], lead_names, shape)
    artefacts = np.zeros((shape[0], 0, 2), dtype=np.int64)
    if distractors:
        kept = spans(row, limits[:, 0], shape) | spans(row, limits[:, 1], shape)
        artefacts = add_artefacts(artefact_rng, heart, patients, lead_names, kept, truth.any(axis=1), fs)
    data = project(heart, lead_names)
    del heart
    if level and any(parts.values()):
        add_noise(noise_rng, data, fs, level * patients.noisy[who], parts, patients.mains[who])
    if return_X_y:
        return data, labels
    if rhythm_truth:
        mark_gaps(truth, target, train, limits, lead_names, moments)
    r = np.round(train.at * fs).astype(np.int64)
    waves, lead_waves = wave_tables(train, r, limits, lead_names, shape, fs)
    return Bunch(
        data=data,
        target=labels,
        groups=_names("patient", n_patients)[who],
        record=_names("window", shape[0]),
        sample=r[train.labelled],
        fs=fs,
        lead_names=list(lead_names),
        truth=truth,
        r_peaks=[w["r"][(w["r"] >= 0) & (w["r"] < shape[1])] for w in waves],
        waves=waves,
        lead_waves=lead_waves,
        artefacts=artefacts,
        DESCR=resources.files("skecg.datasets").joinpath("descr", "make_ecg.rst").read_text(encoding="utf-8"),
    )


def _check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise ValueError(f"classes must be a sequence of labels, such as ('N', 'PVC'); got {classes!r}")
    classes = tuple(check_option("each of classes", str(c) if isinstance(c, str) else c, CLASSES) for c in classes)
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"classes must name at least one class and none twice; got {classes!r}")
    for label, other in rhythms.SAME.items():
        if label in classes and other in classes:
            raise ValueError(f"classes must not name one rhythm twice, {label!r} and {other!r}; got {classes!r}")
    return classes


def _check_range(name: str, value: object, low: float, high: float, unit: str) -> tuple[float, float]:
    """Return a number or a pair within limits as a pair of floats."""
    pair = (value, value) if isinstance(value, Real) else value
    if isinstance(pair, str | Mapping) or not isinstance(pair, Iterable) or len(pair := tuple(pair)) != 2:
        raise ValueError(f"{name} must be a number or a pair (lowest, highest){unit and ' in ' + unit}; got {value!r}")
    first, last = (check_number(name, each, low=low, high=high, unit=f"({unit})" if unit else "") for each in pair)
    if first > last:
        raise ValueError(f"{name} must be (lowest, highest), the lowest first; got {value!r}")
    return float(first), float(last)


def _check_rates(heart_rate: object, classes: tuple[str, ...]) -> tuple[tuple[float, float], dict]:
    """Return the range of the sinus rates, and those of the classes, by their first names, that have another."""
    if not isinstance(heart_rate, Mapping):
        return _check_range("heart_rate", heart_rate, *rhythms.SINUS_LIMITS, "beats/min"), {}
    rates = {}
    for label, value in heart_rate.items():
        label = check_option("each class in heart_rate", str(label) if isinstance(label, str) else label, classes)
        name = rhythms.SAME.get(label, label)
        limits = rhythms.RATE_LIMITS.get(name, rhythms.SINUS_LIMITS)
        rates[name] = _check_range(f"heart_rate[{label!r}]", value, *limits, "beats/min")
    return rhythms.SINUS_LIMITS, rates


def _check_leads(n_leads: int, leads: Sequence[str] | None) -> tuple[str, ...]:
    check_number("n_leads", n_leads, low=1, high=len(STANDARD_LEADS), integer=True)
    if leads is None:
        return STANDARD_LEADS if n_leads == len(STANDARD_LEADS) else LEAD_ORDER[:n_leads]
    if isinstance(leads, str) or not isinstance(leads, Iterable):
        raise ValueError(f"leads must be a sequence of names, such as ('II', 'V1'); got {leads!r}")
    given = tuple(leads)
    names = tuple(canonical_name(name) if isinstance(name, str) else name for name in given)
    for name in names:
        check_option("each of leads", name, STANDARD_LEADS)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"leads must name at least one lead and none twice; got {given!r}")
    if n_leads not in (1, len(names)):
        raise ValueError(f"n_leads={n_leads} does not fit the {len(names)} leads {given!r}: leave n_leads out")
    return names


def _check_noise(noise: object) -> tuple[float, dict[str, float]]:
    """Return a level in mV, and the parts of it that wander, muscle noise and hum of an average patient have."""
    if not isinstance(noise, Mapping):
        return float(check_number("noise", noise, low=0, unit="(mV)")), _NOISES
    for name, level in noise.items():
        check_option("each kind of noise", name, _NOISES)
        check_number(f"noise[{name!r}]", level, low=0, unit="(mV)")
    return 1.0, {name: float(noise.get(name, 0.0)) for name in _NOISES}


def _check_morphology(morphology: object) -> dict[str, tuple[float, float]]:
    if morphology is None:
        return {}
    if not isinstance(morphology, Mapping):
        raise ValueError(
            f"morphology must be a dict of settings, such as {{'axis': (-30, 90)}}, or None; got {morphology!r}"
        )
    shapes = {}
    for name, value in morphology.items():
        low, high = model.MORPHOLOGY[check_option("each setting of morphology", name, model.MORPHOLOGY)]
        unit = "degrees" if name in ("axis", "rotation") else ""
        shapes[name] = _check_range(f"morphology[{name!r}]", value, low, high, unit)
    return shapes


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
