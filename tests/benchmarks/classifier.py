"""Row S9: training and predicting with ECGClassifier beside a plain torch loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from skecg import ECGClassifier
from skecg.models import ECGNet
from tests.tiny import TinyNet

from . import material
from .harness import Anchor, Line, row, same, speed
from .material import CLASSES

BATCH, LR = 64, 1e-3

Build = Callable[[], torch.nn.Module]


def plain_fit(build: Build, X: np.ndarray, codes: np.ndarray, epochs: int, seed: int) -> torch.nn.Module:
    """Train a network in the shortest loop there is."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = build().train()
        x, y = torch.from_numpy(X), torch.from_numpy(codes)
        adam = torch.optim.Adam(net.parameters(), lr=LR)
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(BATCH):
                adam.zero_grad()
                torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
                adam.step()
    return net


def plain_proba(net: torch.nn.Module, X: np.ndarray) -> np.ndarray:
    """Return probabilities by the shortest loop there is."""
    net.eval()
    with torch.no_grad():
        return torch.cat([net(part).softmax(1) for part in torch.from_numpy(X).split(BATCH)]).numpy()


@row("S9", "Speed", "Training and predict_proba")
def training(quick: bool) -> Iterator[Line]:
    seed = int(np.random.RandomState(0).randint(2**31))  # what ECGClassifier makes of random_state=0

    def ecgnet(width: int) -> Build:
        return lambda: ECGNet(1, 720, len(CLASSES), width=width)

    cases: dict[str, tuple[Build, int, int, tuple[float, float]]] = {
        "a tiny network": (lambda: TinyNet(1, 720, len(CLASSES)), 2560, 2, (0.87, 0.63)),
        "ECGNet width 1": (ecgnet(1), 256 if quick else 1280, 1, (0.95, 0.95)),
        "ECGNet width 4": (ecgnet(4), 128 if quick else 640, 1, (0.95, 0.95)),
    }
    for name, (build, n, epochs, goals) in cases.items():
        X, y = material.windows(n), material.labels(n)
        codes = np.searchsorted(np.unique(CLASSES), y)
        clf = ECGClassifier(build, lr=LR, batch_size=BATCH, max_epochs=epochs, device="cpu", random_state=0)

        ours = partial(clf.fit, X, y)
        anchor = partial(plain_fit, build, X, codes, epochs, seed)
        net = anchor()
        worst = same(f"S9, {name}", ours().predict_proba(X), plain_proba(net, X), 1e-4)
        work = f"{name}, {n} windows of 720 in batches of {BATCH}"
        fit, predict = (
            Anchor("a plain torch loop", run, goal, f"probabilities equal to {worst:.0e}")
            for run, goal in zip((anchor, partial(plain_proba, net, X)), goals, strict=True)
        )
        yield from speed(f"fit, {work}, {epochs} epochs", ours, [fit], quick=quick)
        yield from speed(f"predict_proba, {work}", partial(clf.predict_proba, X), [predict], quick=quick)
