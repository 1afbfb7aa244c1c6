"""Row S8: filtering, resampling and scaling of many windows, and wander of the baseline by filter and by medians."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from scipy.ndimage import median_filter

from skecg.datasets import make_ecg
from skecg.preprocessing import BandpassFilter, ECGScaler, Resampler

from . import material
from .harness import Anchor, Line, row, same, speed

_WANDER = ((0.05, 0.15, 0.70), (0.15, 0.40, 0.60), (0.40, 0.70, 0.39))  # Hz, Hz, part of the root mean square


def ecg(n: int, fs: float, window: float) -> np.ndarray:
    """Return simulated 12-lead windows, mV."""
    return make_ecg(n, classes=("N", "PVC"), n_leads=12, fs=fs, window=window, random_state=0).data


def middle(x: np.ndarray) -> np.ndarray:
    """Return the middle half of the time steps: at the ends filters differ in what they take to lie beyond."""
    return x[..., x.shape[-1] // 4 : -(x.shape[-1] // 4)]


@row("S8", "Speed", "Preprocessing")
def preprocessing(quick: bool) -> Iterator[Line]:
    yield from _bandpass(quick)
    yield from _resample(quick)
    yield from _scale(quick)
    yield from _baseline(quick)


def _bandpass(quick: bool) -> Iterator[Line]:
    X = ecg(8 if quick else 64, 400.0, 10.24)
    work = f"band-pass of {X.shape}"
    try:
        import neurokit2 as nk
    except ImportError as error:
        yield Line(work=work, measured=f"not measured: neurokit2, of the extra `waves`, cannot be imported: {error}")
        return

    def clean(method: str) -> np.ndarray:
        return np.array([[nk.ecg_clean(lead, 400, method=method) for lead in window] for window in X])

    same_filter, usual = BandpassFilter(4.0, None, fs=400.0), BandpassFilter(0.5, 40.0, fs=400.0)
    worst = same("band-pass", middle(same_filter.fit_transform(X)), middle(clean("vg")), 1e-3)
    for bandpass, method, equal in (
        (same_filter, "vg", f"from 4 Hz, order 2, equal to {worst:.0e} in the middle half of the window"),
        (usual, "neurokit", "0.5 to 40 Hz against neurokit2's default, which is another filter"),
    ):
        anchor = Anchor(f"nk.ecg_clean per lead, {method}", lambda method=method: clean(method), 20.0, equal)
        limit = ("a copy", X.copy)
        yield from speed(work, lambda step=bandpass: step.fit_transform(X), [anchor], limit=limit, quick=quick)


def _resample(quick: bool) -> Iterator[Line]:
    from scipy.signal import resample_poly
    from wfdb.processing import resample_sig

    X = ecg(4 if quick else 32, 500.0, 10.0)
    resampler = Resampler(500, 400)

    def with_wfdb() -> np.ndarray:
        return np.array([[resample_sig(lead, 500, 400)[0] for lead in window] for window in X])

    def with_scipy() -> np.ndarray:
        return resample_poly(X, 4, 5, axis=-1)

    ours = middle(resampler.fit_transform(X))
    anchors = []
    for name, side, goal in (("wfdb resample_sig per lead", with_wfdb, 2.0), ("scipy resample_poly", with_scipy, 1.0)):
        # the muscle noise between the two filters' ends of the band is what they differ in
        worst = same(name, ours, middle(side()), 0.02)
        anchors.append(Anchor(name, side, goal, f"equal to {worst:.0e} in the middle half of the window"))
    limit = ("a copy", X.copy)
    work = f"500 to 400 Hz of {X.shape}"
    yield from speed(work, lambda: resampler.fit_transform(X), anchors, limit=limit, quick=quick)


def _scale(quick: bool) -> Iterator[Line]:
    X = np.tile(material.windows(500), ((4 if quick else 40), 1, 1))
    scaler = ECGScaler()

    def with_numpy() -> np.ndarray:
        return (X - X.mean(axis=-1, keepdims=True)) / X.std(axis=-1, keepdims=True)

    worst = same("scaling", scaler.fit_transform(X), with_numpy(), 1e-5)
    anchor = Anchor("numpy mean and std", with_numpy, 1.8, f"equal to {worst:.0e}")
    work = f"scaling of {X.shape}"
    yield from speed(work, lambda: scaler.fit_transform(X), [anchor], limit=("a copy", X.copy), quick=quick)


# ---------------------------------------------------------------------------------------------------------- baseline


def st_levels(x: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Return the ST level (50 to 80 ms behind the QRS) of beats (window, onset, offset) over the PR segment, mV."""
    window, onset, offset = beats.T
    pr = np.mean([x[window, 0, onset - k] for k in range(1, 8)], axis=0)
    return np.mean([x[window, 0, offset + k] for k in range(18, 29)], axis=0) - pr


def wander_of(shape: tuple[int, ...], fs: float, rng: np.random.Generator) -> np.ndarray:
    """Return baseline wander, float32, mV: three slow waves in each lead."""
    t = np.arange(shape[-1]) / fs
    wander = np.zeros(shape, dtype=np.float32)
    for low, high, part in _WANDER:
        hz, phase, size = (rng.uniform(*ends, (*shape[:2], 1)) for ends in ((low, high), (0, 2 * np.pi), (0, 0.3)))
        wander += (part * size * np.sin(2 * np.pi * hz * t + phase)).astype(np.float32)
    return wander


def without_medians(x: np.ndarray, fs: float) -> np.ndarray:
    """Return ECG less its running medians of 0.2 and 0.6 s, as de Chazal et al. 2004 take out the baseline."""
    line = x
    for seconds in (0.2, 0.6):
        line = median_filter(line, size=(1, 1, round(seconds * fs) | 1), mode="mirror")
    return x - line


def _baseline(quick: bool) -> Iterator[Line]:
    """Yield how far the ST level is from that of the ECG without wander, and how much wander is left."""
    fs, n = 360.0, 12 if quick else 80
    steps = {
        f"BandpassFilter from {low} Hz": lambda x, low=low: BandpassFilter(low, None, fs=fs).fit_transform(x)
        for low in (0.5, 0.67)
    }
    steps["running medians of 0.2 and 0.6 s"] = partial(without_medians, fs=fs)
    for classes in (("N", "PVC", "LBBB", "RBBB"), ("SVTA",), ("AFIB",), ("SBR",)):
        made = make_ecg(n, classes=classes, window=10.0, noise=0.0, distractors=False, random_state=0)
        wander = wander_of(made.data.shape, fs, np.random.default_rng(0))
        last = made.data.shape[-1] - 30
        beats = np.array(
            [
                (i, int(beat["qrs_on"]), int(beat["qrs_off"]))
                for i, waves in enumerate(made.waves)
                for beat in waves
                if beat["qrs_on"] >= 8 and beat["qrs_off"] < last
            ]
        )
        true, told = st_levels(made.data, beats), []
        for name, step in steps.items():
            left, clean = step(made.data + wander), step(made.data)
            told.append(f"{name}: {_rms(st_levels(left, beats) - true):.3f}, {_rms(left - clean):.3f}")
        yield Line(
            work=f"baseline of {wander.shape}, {', '.join(classes)}, {_rms(wander):.2f} mV of wander, {len(beats)} "
            "beats, seed 0: error of the ST level, wander left (mV rms)",
            anchor=told[2],
            measured="; ".join(told[:2]),
        )


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
