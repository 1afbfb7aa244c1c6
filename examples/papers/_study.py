"""What the scripts of this folder share: windows, splits, networks, where evidence lies, intervals."""

from __future__ import annotations

import argparse
import platform
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import Bunch
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import OneCycleLR

from skecg import ECGClassifier
from skecg.datasets import fetch_mitdb
from skecg.preprocessing import ECGScaler

CLASSES = ("N", "PVC", "PAC", "LBBB", "RBBB")

# Where the evidence of a class lies, s about the R peak: textbook knowledge, our own rule. PVC: the wide QRS; bundle
# branch blocks: the QRS of every beat of that kind. PAC has its early P wave, N and the rhythms no single place.
EVIDENCE = {"PVC": (-0.06, 0.10), "LBBB": (-0.08, 0.12), "RBBB": (-0.04, 0.14)}
AROUND_R = (-0.125, 0.125)  # the truth of BENCHMARKS-like rows that compare methods on one class

BATCH = 64


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all scripts have."""
    out = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--quick", action="store_true", help="under two minutes: small networks, few windows, one seed")
    out.add_argument("--work", type=Path, default=None, help="folder for checkpoints: an interrupted run goes on")
    out.add_argument("--out", type=Path, default=None, help="folder for tables and pictures; nothing is written else")
    out.add_argument("--seeds", type=int, nargs="+", default=None, help="seeds of split, windows and training")
    out.add_argument("--device", default="auto", help="cpu, cuda, ...")
    return out


def beats(seed: int, shift: float = 0.0) -> Bunch:
    """Return the five classes of MIT-BIH beats, 2 s of the first lead at 360 Hz, moved by up to ``shift`` s."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # windows with missing samples and the like are counted in the Bunch
        return fetch_mitdb(classes=CLASSES, shift=shift, random_state=seed, verbose=0)


def beat_split(target: np.ndarray, n_train: int, n_test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw beats of each class at random: patients are on BOTH sides, as in the papers."""
    order = np.random.RandomState(seed).permutation(len(target))
    train, test = [], []
    for label in CLASSES:
        rows = order[target[order] == label]
        test.append(rows[:n_test])
        train.append(rows[n_test : n_test + n_train])
    return np.concatenate(train), np.concatenate(test)


def network(
    module: Any, n_windows: int, *, epochs: int, seed: int, fs: float, max_lr: float = 2e-3, **parameters: Any
) -> Pipeline:
    """Return a pipeline of scaler and classifier, to be trained by Adam with a one-cycle rate."""
    steps = epochs * len(range(0, n_windows, BATCH))
    if n_windows % BATCH == 1:
        steps -= epochs  # a last window alone joins the batch before it
    one_cycle = LRScheduler(policy=OneCycleLR, max_lr=max_lr, total_steps=steps, step_every="batch")
    classifier = ECGClassifier(
        module, fs=fs, max_epochs=epochs, batch_size=BATCH, callbacks=[one_cycle], random_state=seed, **parameters
    )
    return make_pipeline(ECGScaler(per="window"), classifier)


def evidence(ecg: Bunch, rows: np.ndarray, limits: dict[str, Sequence[float]] = EVIDENCE) -> np.ndarray:
    """Return where the evidence lies (n_windows, n_leads, n_timesteps): at every beat of the window's class."""
    n = ecg.data.shape[-1]
    truth = np.zeros((len(rows), 1, n), dtype=bool)
    for label, (before, after) in limits.items():
        a, b = round(before * ecg.fs), round(after * ecg.fs)
        for name in np.unique(ecg.record[rows]):
            at = np.sort(ecg.sample[(ecg.record == name) & (ecg.target == label)])
            for i in np.flatnonzero((ecg.record[rows] == name) & (ecg.target[rows] == label)):
                start = ecg.start[rows[i]]
                low, high = np.searchsorted(at, [start - b, start + n - a])
                for beat in at[low:high] - start:
                    truth[i, 0, max(0, beat + a) : max(0, beat + b)] = True
    return np.broadcast_to(truth, (len(rows), ecg.data.shape[1], n))


def bootstrap(
    statistic: Callable[[np.ndarray], float], groups: np.ndarray, seed: int = 0, n_bootstrap: int = 1000
) -> tuple[float, float, float, int]:
    """Return a statistic of rows with its 95 % interval over patients, and their number.

    With fewer than ten patients the interval is NaN: a percentile interval would be far too narrow.
    """
    names, inverse = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(inverse == i) for i in range(len(names))]
    value = statistic(np.arange(len(groups)))
    if len(names) < 10:
        return value, np.nan, np.nan, len(names)
    rng = np.random.RandomState(seed)
    drawn = [
        statistic(np.concatenate([members[i] for i in rng.randint(len(names), size=len(names))]))
        for _ in range(n_bootstrap)
    ]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return value, float(low), float(high), len(names)


def versions() -> str:
    """Return what the figures were made with."""
    import sklearn
    import skorch

    import skecg

    return (
        f"skecg {skecg.__version__}, torch {torch.__version__}, skorch {skorch.__version__}, scikit-learn "
        f"{sklearn.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])
