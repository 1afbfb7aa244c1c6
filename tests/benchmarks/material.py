"""Networks and windows that several rows measure with."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from sklearn.utils import Bunch
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import OneCycleLR

from skecg import ECGClassifier
from skecg.datasets import fetch_mitdb, make_ecg
from skecg.models import RIBEIRO_LABELS, ECGNet, RibeiroNet

from .harness import Skipped

CLASSES = ("N", "PVC", "PAC", "LBBB", "RBBB")


@cache
def windows(n: int, seed: int = 0) -> np.ndarray:
    """Return simulated windows (n, 1, 720), mV."""
    return make_ecg(max(n, len(CLASSES)), classes=CLASSES, random_state=seed).data[:n]


def labels(n: int) -> np.ndarray:
    """Return a label for each of n windows, all classes in turn."""
    return np.array(CLASSES)[np.arange(n) % len(CLASSES)]


@cache
def network(width: int, seed: int = 0) -> ECGNet:
    """Return an untrained ECGNet in eval mode, for rows of speed.

    Its batch norms have statistics of these windows and slopes of both sizes, as after training: with those of a new
    network, folding them would do nothing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = ECGNet(1, 720, len(CLASSES), width=width)
        norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm1d)]
        for norm in norms:
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.normal_(norm.bias, 0, 0.1)
            norm.momentum = 1.0  # the statistics of the one batch that follows
        with torch.no_grad():
            net(torch.from_numpy(windows(64)))
        for norm in norms:
            norm.momentum = 0.1
    return net.eval()


def classifier(net: torch.nn.Module) -> ECGClassifier:
    """Return a fitted classifier around a network of windows of 2 s at 360 Hz."""
    return ECGClassifier.from_module(net, CLASSES, n_leads=1, n_timesteps=720, fs=360.0, device="cpu")


@cache
def ribeiro(width: int) -> RibeiroNet:
    """Return an untrained RibeiroNet in eval mode whose batch norms have odd statistics, as after training."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = RibeiroNet(width=width)
        for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm1d)):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.normal_(norm.bias, 0, 0.1)
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return net.eval()


def ribeiro_classifier(net: RibeiroNet) -> ECGClassifier:
    """Return a fitted classifier around a network of 10.24 s at 400 Hz, a sigmoid a label."""
    return ECGClassifier.from_module(
        net, list(RIBEIRO_LABELS), n_leads=12, n_timesteps=4096, multilabel=True, fs=400.0, device="cpu"
    )


@cache
def mitdb() -> Bunch:
    """Return the beats of MIT-BIH; Skipped where the records are not in the data home."""
    try:
        return fetch_mitdb(download_if_missing=False, verbose=0)
    except OSError as error:
        raise Skipped("no MIT-BIH records (set SKECG_DATA to their folder)") from error


@cache
def trained(per_class: int, epochs: int, width: int = 4, seed: int = 0) -> tuple[ECGClassifier, np.ndarray]:
    """Return a classifier trained on real beats, and the rows of `mitdb` that it has not seen.

    Beats are drawn at random, so patients are on both sides: it is a network to explain, and no score of it is told.
    """
    ecg, rng = mitdb(), np.random.RandomState(seed)
    order = rng.permutation(len(ecg.data))
    train = np.concatenate([order[ecg.target[order] == label][:per_class] for label in CLASSES])
    steps = epochs * len(range(0, len(train), 64))
    one_cycle = LRScheduler(policy=OneCycleLR, max_lr=3e-3, total_steps=steps, step_every="batch")
    clf = ECGClassifier(
        module__width=width,
        module__dropout=0.1,
        fs=ecg.fs,
        max_epochs=epochs,
        callbacks=[one_cycle],
        device="cpu",
        random_state=seed,
    )
    clf.fit(ecg.data[train], ecg.target[train])
    return clf, order[~np.isin(order, train)]


def drawn(rows: np.ndarray, per_class: int, skip: int = 0) -> np.ndarray:
    """Return the first rows of each class after ``skip`` of them: nothing else chooses."""
    target = mitdb().target[rows]
    return np.concatenate([rows[target == label][skip : skip + per_class] for label in CLASSES])
