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
from skecg.datasets import fetch_mitdb, make_ecg
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


def trained_to_be_explained(seed: int, work: Path | None, quick: bool, device: str = "auto") -> tuple[Bunch, Any, Any]:
    """Return shifted beats, a pipeline whose network leans on both branches, and the rows it has not seen.

    The beats lie anywhere within 0.56 s of the middle of their window, so that "the middle" is no answer; branch
    dropout makes the LSTM carry weight. Patients are on both sides: it is a network to explain, no score of it is told.
    """
    ecg = beats(seed, shift=0.56)
    n_train, n_test, epochs, width = (300, 100, 3, 2) if quick else (2000, 500, 10, 4)
    train, _ = beat_split(ecg.target, n_train, n_test, seed)
    parameters = {"module__width": width, "module__dropout": 0.2, "module__branch_dropout": 0.3, "device": device}
    if work is not None:
        parameters["checkpoint_dir"] = work / "checkpoints"
    clf = network("ECGNet", len(train), epochs=epochs, seed=seed, fs=ecg.fs, **parameters)
    clf.fit(ecg.data[train], ecg.target[train])
    return ecg, clf, np.setdiff1d(np.arange(len(ecg.target)), train)


def synthetic(seed: int, work: Path | None, quick: bool, device: str = "auto") -> tuple[Bunch, Any, Any]:
    """Return windows of make_ecg, a pipeline trained on a part of the patients, and the rows of all others."""
    n, epochs, width = (1500, 4, 2) if quick else (4000, 8, 4)
    ecg = make_ecg(n, classes=CLASSES, n_patients=n // 40, random_state=seed)
    patients = np.unique(ecg.groups)
    held = np.isin(ecg.groups, np.random.RandomState(seed).permutation(patients)[: len(patients) // 4])
    train = np.flatnonzero(~held)
    parameters = {"module__width": width, "module__dropout": 0.2, "module__branch_dropout": 0.3, "device": device}
    if work is not None:
        parameters["checkpoint_dir"] = work / "checkpoints"
    clf = network("ECGNet", len(train), epochs=epochs, seed=seed, fs=ecg.fs, **parameters)
    clf.fit(ecg.data[train], ecg.target[train])
    return ecg, clf, np.flatnonzero(held)


def smoothed(R: np.ndarray, fs: float) -> np.ndarray:
    """Return relevance with its least value of each window taken off, smoothed over 100 ms."""
    from scipy.ndimage import uniform_filter1d

    R = R - R.min(-1, keepdims=True)
    return uniform_filter1d(R.astype(np.float64), max(1, round(0.1 * fs)), axis=-1, mode="nearest")


def score_windows(R: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Return pointing, mass of the positive part and average precision of each window (n, 1, n_timesteps)."""
    from sklearn.metrics import average_precision_score

    from skecg.metrics import pointing_game_score, relevance_mass_score

    precision = [average_precision_score(t.ravel(), r.ravel()) for t, r in zip(truth, R, strict=True)]
    return {
        "pointing": pointing_game_score(truth, R, average=False),
        "mass": relevance_mass_score(truth, R, average=False),
        "average precision": np.array(precision),
    }


def score_function(clf: Any, branch: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return logits of a target as a function of the network's input: of the whole network or of one branch alone."""
    net = clf[-1].module_.eval()
    if branch == "all":
        return lambda x, code: net(x).gather(1, code[:, None])[:, 0]
    weights = {name: value.detach() for name, value in net.branch_weights().items()}
    part = getattr(net, branch)
    return lambda x, code: (part(x) @ weights[branch].T + weights["bias"]).gather(1, code[:, None])[:, 0]


def occlusion(score: Callable, X: np.ndarray, code: np.ndarray, fs: float, width: float = 0.208) -> np.ndarray:
    """Return the fall of the score when ``width`` s become a straight line: the mean of all lines through a sample."""
    n, size, step = X.shape[-1], round(width * fs), max(1, round(width * fs) // 8)
    total, count = np.zeros(X.shape), np.zeros(n)
    target = torch.from_numpy(code)
    with torch.no_grad():
        whole = score(torch.from_numpy(X), target).numpy()
        for a in range(-size + step, n, step):
            low, high = max(a, 0), min(a + size, n)
            filled = X.copy()
            ends = filled[..., max(low - 1, 0)], filled[..., min(high, n - 1)]
            filled[..., low:high] = np.linspace(*ends, high - low + 2, axis=-1)[..., 1:-1]
            fall = whole - score(torch.from_numpy(filled), target).numpy()
            total[..., low:high] += fall[:, None, None]
            count[low:high] += 1
    return (total / count).astype(np.float32)


def integrated_gradients(score: Callable, X: np.ndarray, code: np.ndarray, points: int = 32) -> np.ndarray:
    """Return integrated gradients from a flat line, by midpoints."""
    x, target, total = torch.from_numpy(X), torch.from_numpy(code), torch.zeros(X.shape)
    for k in range(points):
        inside = ((k + 0.5) / points * x).requires_grad_(True)
        (gradient,) = torch.autograd.grad(score(inside, target).sum(), inside)
        total += gradient / points
    return (x * total).numpy()
