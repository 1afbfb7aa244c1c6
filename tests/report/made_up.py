"""Made-up results of explainers, cheap and without a network: what explain_record and explain return, as arrays."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from sklearn.utils import Bunch

FS = 360.0
EVIL = "</script><img src=x onerror=window.canary=1>{{facts}} & 'q' \"q\" <!--<script>"


def trace(n: int, fs: float = FS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an ECG (mV), R peaks, and which beats are wide: every seventh."""
    rng = np.random.default_rng(0)
    ecg = 0.02 * rng.standard_normal(n) + 0.1 * np.sin(2 * np.pi * 0.2 * np.arange(n) / fs)
    peaks = np.arange(round(0.5 * fs), n - round(0.5 * fs), round(0.8 * fs))
    wide = np.arange(len(peaks)) % 7 == 3
    t = np.arange(-round(0.3 * fs), round(0.3 * fs))
    shapes = [1.2 * np.exp(-0.5 * (t / fs / width) ** 2) for width in (0.012, 0.045)]
    for peak, odd in zip(peaks, wide, strict=True):
        ecg[peak + t[0] : peak + t[-1] + 1] += shapes[int(odd)][: len(ecg[peak + t[0] : peak + t[-1] + 1])]
    return ecg.astype(np.float32), peaks, wide


def result_of(relevance: np.ndarray, fs: float, labels: Any, **more: Any) -> Bunch:
    """Return what explain_record would, with windows of 2 s every second."""
    n, size = relevance.shape[1], round(2 * fs)
    start = np.arange(0, n - size + 1, size // 2)
    classes = list(dict.fromkeys(labels))
    label = np.array([labels[i % len(labels)] for i in range(len(start))])
    given: dict[str, Any] = {
        "relevance": relevance,
        "relevance_kind": "signed",
        "start": start,
        "label": label,
        "target": label,
        "score": np.linspace(-1, 1, len(start)).astype(np.float32),
        "probability": np.full((len(start), len(classes)), 1 / len(classes), np.float32),
        "classes": classes,
        "lead_names": ["MLII"] if len(relevance) == 1 else [str(i) for i in range(len(relevance))],
        "lead_positions": list(range(len(relevance))),
        "fs": fs,
        "window": size / fs,
        "stride": size / fs / 2,
        "record": "made up",
        "n_missing": 0,
        "doubts": {},
        "path": None,
    }
    return Bunch(**{**given, **more})


def of_record(
    n: int = 7200,
    n_leads: int = 1,
    *,
    fs: float = FS,
    labels: Any = ("N", "N", "PVC"),
    name: str = "made up",
    **more: Any,
) -> tuple[Bunch, np.ndarray]:
    """Return a result of explain_record, with a gap, and the recording."""
    one = trace(n, fs)[0]
    ecg = np.stack([one * (1 - 0.1 * i) for i in range(n_leads)])
    relevance = (ecg * np.sin(np.arange(n) / 40)).astype(np.float32)
    relevance[:, n // 2 : n // 2 + 50] = np.nan
    return result_of(relevance, fs, labels, record=name, **more), ecg


@cache
def hour_of_one_lead() -> tuple[Bunch, np.ndarray, dict[str, np.ndarray]]:
    """Return a result of an hour at 360 Hz, the recording, and its beats as annotations are read."""
    n = round(3600 * FS)
    ecg, peaks, wide = trace(n)
    relevance = (ecg * np.sin(np.arange(n) / 40))[None].astype(np.float32)
    relevance[0, 700_000:702_000] = np.nan
    beats = {"sample": peaks, "symbol": np.where(wide, "V", "N")}
    return result_of(relevance, FS, ("N", "N", "N", "PVC")), ecg[None], beats


def ten_seconds_of_twelve() -> tuple[Bunch, np.ndarray]:
    """Return a result of ten seconds of twelve leads at 500 Hz, and the recording."""
    names = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    return of_record(5000, 12, fs=500.0, lead_names=names)


def windows(n: int = 9, n_leads: int = 1) -> Bunch:
    """Return what explain would, of windows of 2 s; the first lead alone where there is one."""
    size = round(2 * FS)
    one = trace(n * size)[0].reshape(n, size)
    data = np.stack([one * (1 - 0.1 * i) for i in range(n_leads)], axis=1)
    data = data[:, 0] if n_leads == 1 else data
    return Bunch(
        relevance=np.abs(data) * 0.3,
        relevance_kind="positive",
        target=np.array(["N", "PVC", "N"] * n)[:n],
        score=np.linspace(0, 3, n),
        data=data,
    )
