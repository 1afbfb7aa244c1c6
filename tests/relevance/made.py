"""A made-up cohort, and the bits of all that an aggregator tells of it."""

from __future__ import annotations

import numpy as np

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
