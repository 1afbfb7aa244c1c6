"""What the scripts on twelve leads share: recordings on one grid, labels, folds by patient, the trained networks.

Recordings come from PTB-XL and CPSC 2018 (what of them lies in the data home), or from ``make_ecg``. All are
band-passed alike, since the databases differ in their sampling rates and filters, brought to 400 Hz, and padded with
zeros on both sides to the 4,096 samples of RibeiroNet.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _study import BATCH
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import OneCycleLR

from skecg import ECGClassifier
from skecg.classifiers import RandomShift
from skecg.datasets import fetch_cpsc2018, fetch_ludb, fetch_ptbxl, make_ecg
from skecg.models import RIBEIRO_LABELS
from skecg.preprocessing import BandpassFilter, PadOrCrop, Resampler

FS = 400.0
LENGTH = 4096
NORMAL = "N"
# the statements of PTB-XL and the labels of the challenge that come nearest to the six outputs
PTBXL = {
    "1dAVb": "1AVB",
    "RBBB": "CRBBB",
    "LBBB": "CLBBB",
    "SB": "SBRAD",
    "AF": "AFIB",
    "ST": "STACH",
    NORMAL: "NORM",
}
CPSC2018 = {label: label for label in ("1dAVb", "RBBB", "LBBB", "AF", NORMAL)}  # it has no SB and no ST
FOLDS = 5
# whoever has one of these in LUDB's diagnoses is no healthy control
ILL = ("block", "hypertrophy", "ischemia", "stemi", "scar", "overload", "repolarization", "pacemaker")


def on_one_grid(data: np.ndarray, fs: float) -> np.ndarray:
    """Return recordings (n, 12, n_timesteps), mV, band-passed, at 400 Hz, in 4,096 samples with zeros on both sides."""
    steps = make_pipeline(
        BandpassFilter(low=0.5, high=40.0, fs=fs), Resampler(fs=fs, new_fs=FS), PadOrCrop(LENGTH, side="both")
    )
    return steps.fit_transform(data).astype(np.float32)


def _part(name: str, found: Bunch, target: np.ndarray, normal: np.ndarray) -> Bunch:
    groups = np.array([f"{name}:{g}" for g in found.groups])
    record = np.array([f"{name}:{r}" for r in found.record])
    # shorter recordings end in zeros on all leads; the filter would ring into them
    there = (found.data != 0).any(1)
    n, pad = found.data.shape[-1], (LENGTH - round(found.data.shape[-1] * FS / found.fs)) // 2
    limits = np.stack([there.argmax(1), n - there[:, ::-1].argmax(1)], axis=1)
    valid = np.round(limits * FS / found.fs).astype(int) + pad
    data, time = on_one_grid(found.data, found.fs), np.arange(LENGTH)
    data[np.broadcast_to(((time < valid[:, :1]) | (time >= valid[:, 1:]))[:, None], data.shape)] = 0
    return Bunch(
        data=data,
        target=target.astype(int),
        normal=normal.astype(bool),
        groups=groups,
        record=record,
        database=np.full(len(record), name),
        valid=valid,
    )


def recordings(name: str) -> Bunch:
    """Return one database: data, target (n, 6), normal (n,), groups, record, database, valid (n, 2; samples)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was skipped is in the databases' own pages
        if name == "ptbxl":
            found = fetch_ptbxl(classes=PTBXL, records="local", verbose=0)
        elif name == "cpsc2018":
            found = fetch_cpsc2018(classes=CPSC2018, records="local", verbose=0)
        else:
            found = fetch_ludb(classes="ribeiro", verbose=0)
    if name == "ludb":
        sinus = [list(rhythms) == ["Sinus rhythm"] for rhythms in found.rhythms]
        healthy = [not any(word in text.lower() for text in said for word in ILL) for said in found.diagnoses]
        part = _part(name, found, found.target, np.array(sinus) & np.array(healthy) & ~found.target.any(1))
        part.found = found
        return part
    names = list(found.target_names)
    absent = np.zeros(len(found.target), dtype=int)
    columns = [found.target[:, names.index(label)] if label in names else absent for label in RIBEIRO_LABELS]
    target = np.stack(columns, axis=1)
    return _part(name, found, target, (found.target[:, names.index(NORMAL)] == 1) & ~target.any(1))


def synthetic(n: int, seed: int) -> Bunch:
    """Return recordings of make_ecg, each with one label or none, as ``recordings`` does."""
    made = make_ecg(
        n,
        classes=(NORMAL, *RIBEIRO_LABELS),
        n_leads=12,
        fs=FS,
        window=10.0,
        n_patients=max(7, n // 2),
        rhythm_truth=True,
        random_state=seed,
    )
    target = np.stack([made.target == label for label in RIBEIRO_LABELS], axis=1)
    part = _part("make_ecg", made, target, made.target == NORMAL)
    part.made = made
    return part


def joined(*parts: Bunch) -> Bunch:
    """Return several as one."""
    keys = ("data", "target", "normal", "groups", "record", "database", "valid")
    return Bunch(**{key: np.concatenate([part[key] for part in parts]) for key in keys})


def folds(ecg: Bunch) -> np.ndarray:
    """Return the fold of each recording; patients apart, and folds alike in their labels as far as that allows."""
    # the rarest label of a recording stands for it
    order = np.argsort(ecg.target.sum(0))
    kind = np.full(len(ecg.data), -1)
    for label in order[::-1]:
        kind[ecg.target[:, label] == 1] = label
    fold, split = np.empty(len(kind), dtype=int), StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for i, (_, test) in enumerate(split.split(ecg.data, kind, ecg.groups)):
        fold[test] = i
    return fold


def classifier(n: int, epochs: int, seed: int, max_lr: float, module: Any, **parameters: Any) -> ECGClassifier:
    """Return a RibeiroNet with six sigmoids, to be trained by Adam with a one-cycle rate."""
    steps = epochs * len(range(0, n, BATCH // 2)) - (epochs if n % (BATCH // 2) == 1 else 0)
    one_cycle = LRScheduler(policy=OneCycleLR, max_lr=max_lr, total_steps=steps, step_every="batch")
    return ECGClassifier(
        module,
        fs=FS,
        labels=RIBEIRO_LABELS,
        max_epochs=epochs,
        batch_size=BATCH // 2,
        callbacks=[one_cycle],
        augment=RandomShift(0.5, fs=FS, fill="zero"),
        random_state=seed,
        **parameters,
    )


def trained(ecg: Bunch, fold: np.ndarray, work: Path | None, *, seed: int, quick: bool, device: str) -> list[Any]:
    """Return a classifier for each fold, which has not seen it.

    All begin with the same network, trained on ``make_ecg`` alone, where each label is what textbooks say of it; there
    are too few recordings to begin with them.
    """
    n, epochs, more, width = (300, 2, 1, 4) if quick else (3000, 8, 16, 16)
    made = synthetic(n, seed + 100)
    settings = {"device": device}
    if work is not None:
        settings["checkpoint_dir"] = work / "checkpoints"
    start = {"module": "RibeiroNet", "module__width": width, "module__momentum": 0.1}
    first = classifier(len(made.data), epochs, seed, 3e-3, **start, **settings)
    first.fit(made.data, made.target, groups=made.groups)
    out = []
    for i in range(FOLDS):
        keep = np.flatnonzero(fold != i)
        # a network that is given is copied and trained on from its weights
        clf = classifier(len(keep), more, seed, 1e-3, first.module_, **settings)
        out.append(clf.fit(ecg.data[keep], ecg.target[keep], groups=ecg.groups[keep]))
    return out
