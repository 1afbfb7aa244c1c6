"""A made-up cohort, and the bits of all that an aggregator tells of it."""

from __future__ import annotations

import numpy as np

from skecg.beats import Beats

ATTRIBUTES = (
    "classes_",
    "mean_",
    "interval_",
    "interval_method_",
    "effect_size_",
    "p_value_",
    "p_adjusted_",
    "n_patients_",
    "n_records_",
    "n_control_",
    "n_windows_",
    "n_zero_",
)
N_WINDOWS = 160


def make_cohort(rng, n=N_WINDOWS, n_leads=3, n_timesteps=50, n_patients=35):
    """Relevance, labels, ECG with tails, patients and records of four windows.

    Each class leans on a lead of its own; some patients have records of one class, some of two or three.
    """
    R = rng.normal(size=(n, n_leads, n_timesteps)).astype(np.float32)
    y = np.array(["N", "PVC", "LBBB"])[np.arange(n) // 4 % 3]
    for i, label in enumerate(("N", "PVC", "LBBB")):
        R[y == label, i % n_leads] += 1
    ecg = rng.normal(size=R.shape).astype(np.float32)
    lengths = rng.integers(n_timesteps // 2, n_timesteps + 1, n)
    for window, length in zip(ecg, lengths, strict=True):
        window[:, length:] = 0
    record = np.array([f"r{i // 4:03}" for i in range(n)])
    groups = np.arange(n) // 4 % n_patients
    return R, y, {"ecg": ecg, "groups": groups, "record": record}


def bits(aggregator):
    found = {name: getattr(aggregator, name) for name in ATTRIBUTES} | aggregator.exclusions_
    return {name: (value.dtype.str, value.shape, value.tobytes()) for name, value in found.items()}


def make_beats(r_peaks, n_leads, fs, *, limits=None, typical=None, p_present=True, p_region=None, reason=""):
    """Beats of one window, as skecg.beats makes them."""
    return Beats(
        np.asarray(r_peaks, dtype=np.int64),
        fs,
        reason=reason,
        limits=limits,
        typical=typical,
        p_present=p_present,
        p_region=p_region,
    )


def usual_limits(r_peaks, n_leads, fs):
    """P, QRS and T at usual distances (s) from the R peaks, in the order of skecg.beats.LIMITS."""
    at = np.array([-0.20, -0.15, -0.10, -0.05, 0.05, 0.16, 0.22, 0.30])
    limits = np.asarray(r_peaks, dtype=float)[:, None, None] + np.rint(at * fs)
    return np.repeat(limits, n_leads, axis=1).astype(np.float32)


def make_beaten(rng, n=40, n_leads=2, n_timesteps=400, fs=100.0):
    """Relevance, labels, ECG, and delineated beats about every 0.6 to 1 s, some waves and beats absent or unlike."""
    R = rng.normal(size=(n, n_leads, n_timesteps)).astype(np.float32)
    ecg = rng.normal(size=R.shape).astype(np.float32)
    ecg[::3, :, 350:] = 0
    beats = []
    for i in range(n):
        r_peaks = np.cumsum(rng.integers(60, 100, 4)) - 50
        limits = usual_limits(r_peaks, n_leads, fs) + rng.integers(-3, 4, (len(r_peaks), n_leads, 1))
        limits[rng.random(len(r_peaks)) < 0.2, 0, :3] = np.nan
        limits[rng.random(len(r_peaks)) < 0.1, :, 5:] = np.nan
        limits[rng.random(len(r_peaks)) < 0.1, 1, 3:5] = np.nan
        typical = rng.random(len(r_peaks)) < 0.85
        region = np.stack([r_peaks - 25, r_peaks - 8], axis=1)
        kinds = {"typical": typical, "p_present": (True, False, None)[i % 3], "p_region": region}
        beats.append(make_beats(r_peaks, n_leads, fs, limits=limits, **kinds))
    y = np.array(["AF", "N"])[np.arange(n) % 2]
    return R, y, {"ecg": ecg, "beats": beats, "groups": np.arange(n) // 2, "record": np.arange(n)}
