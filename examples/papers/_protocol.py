"""The windows and networks of the comparison of explainers: 8 s of MIT-BIH, DS1 trains, DS2 tests, five AAMI classes.

After the protocol of Suh et al. 2024: one lead, standardised; a window has the label of its commonest abnormal beat.
The truth of a window are the beats of that class: their spans from midpoint to midpoint, and their QRS, 150 ms on both
sides of the R peak.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _study import network
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch

from skecg.datasets import fetch_mitdb, fetch_physionet, read_record, segment_windows, truth_masks

CLASSES = ("VEB", "SVEB")
WIDTH = {"ResNet1d": 16, "ECGNet": 4}
EPOCHS = {"ResNet1d": 5, "ECGNet": 3}
# SVEB are few, of few patients and hardly to be told from N in one lead: without a weight almost none is recognised.
WEIGHT = {"N": 1.0, "SVEB": 3.0, "VEB": 1.0, "F": 1.0, "Q": 1.0}
STRIDE = 4.0  # s, of the windows that train; those that are explained do not overlap
SURE = 0.75  # a window is explained where its class has more than this probability
MOST_TRUTH = 0.35  # and less than this share of it is truth


def windows(records: list[str] | None = None, stride: float | None = None) -> Bunch:
    """Return windows of 8 s of the first lead, with both truths, patients and halves; without paced patients.

    201 and 202 are one man, who stands in DS1.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # windows with missing samples and the like are counted in the Bunch
        beats = fetch_mitdb(classes="aami", signal=False, verbose=0)
        half = dict(zip(beats.record.tolist(), beats.split.tolist(), strict=True))
        patient = dict(zip(beats.record.tolist(), beats.groups.tolist(), strict=True))
        names = [name for name in sorted(half) if half[name] and (records is None or name in records)]
        parts = []
        for path in fetch_physionet("mitdb", names, verbose=0).paths:
            part = segment_windows(read_record(path, leads=0, annotator="atr"), window=8.0, stride=stride)
            part.span, part.qrs = truth_masks(part), truth_masks(part, kind="qrs")
            parts.append(part)
    keys = ("data", "target", "record", "start", "span", "qrs")
    out = Bunch(**{key: np.concatenate([part[key] for part in parts]) for key in keys}, fs=parts[0].fs)
    out.groups = np.array([patient[name] for name in out.record.tolist()])
    out.split = np.array([half[name] for name in out.record.tolist()])
    return out


def folds(ecg: Bunch, n_folds: int = 3) -> np.ndarray:
    """Return the fold of each window, patients of one fold together; -1 for DS2, which has no part in any choice."""
    fold, own = np.full(len(ecg.target), -1), np.flatnonzero(ecg.split == "DS1")
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    for i, (_, test) in enumerate(splitter.split(own, ecg.target[own], ecg.groups[own])):
        fold[own[test]] = i
    return fold


def trained(
    name: str,
    ecg: Bunch,
    rows: np.ndarray,
    seed: int,
    *,
    work: Path | None = None,
    width: int | None = None,
    epochs: int | None = None,
    device: str = "cpu",
    **parameters: Any,
) -> Pipeline:
    """Return a network trained on these windows: ResNet1d by SGD, others by Adam, both with a one-cycle rate."""
    width, epochs = width or WIDTH[name], epochs or EPOCHS[name]
    parameters = {"module__width": width, "class_weight": WEIGHT, "device": device, **parameters}
    if work is not None:
        parameters["checkpoint_dir"] = work / "checkpoints"
    if name == "ResNet1d":
        parameters |= {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "max_lr": 0.05}
    if name == "ECGNet":
        parameters |= {"module__dropout": 0.2}
    clf = network(name, len(rows), epochs=epochs, seed=seed, fs=ecg.fs, **parameters)
    return clf.fit(ecg.data[rows], ecg.target[rows])


def recognised(clf: Pipeline, ecg: Bunch, rows: np.ndarray, label: str, sure: float = SURE) -> np.ndarray:
    """Return the windows of a class that the network is sure of and that are not mostly truth."""
    rows = rows[(ecg.target[rows] == label) & (ecg.span[rows].mean(1) < MOST_TRUTH)]
    if not len(rows):
        return rows
    return rows[clf.predict_proba(ecg.data[rows])[:, list(clf.classes_).index(label)] > sure]


def draw(rows: np.ndarray, groups: np.ndarray, most: int, rng: np.random.RandomState) -> np.ndarray:
    """Return at most so many rows, of as many patients as there are: a second one of each after a first one of all."""
    rows = rng.permutation(rows)
    turn = np.array([(groups[rows[:i]] == groups[row]).sum() for i, row in enumerate(rows)], dtype=int)
    return rows[np.argsort(turn, kind="stable")][:most]
