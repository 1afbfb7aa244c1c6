"""Rows S2 and S7: integrated gradients beside captum's at equal error and points, expected gradients beside shap's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from skecg import ECGClassifier, IntegratedGradients, ShapExplainer
from skecg.datasets import make_ecg

from .harness import Anchor, Line, row, same, speed

LABELS = ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")
# points tried, from few to many
POINTS = (4, 6, 8, 12, 16, 24, 32, 48, 64)
_FS, _BATCH = 400.0, 64


@cache
def trained(quick: bool) -> tuple[ECGClassifier, np.ndarray, str]:
    """Return a RibeiroNet trained on simulated twelve-lead ECG, windows that it has not seen, and what it is."""
    from skecg.models import RibeiroNet

    n, width, length, epochs = (60, 4, 1024, 3) if quick else (600, 16, 4096, 6)
    kept = 6 if quick else 24
    ecg = make_ecg(n + kept, classes=LABELS, n_leads=12, fs=_FS, window=length / _FS, random_state=0)
    clf = ECGClassifier(
        RibeiroNet,
        module__width=width,
        module__momentum=0.1,
        module__dropout=0.2,
        fs=_FS,
        max_epochs=epochs,
        batch_size=20,
        device="cpu",
        random_state=0,
    )
    order = np.random.RandomState(0).permutation(n + kept)
    clf.fit(ecg.data[order[kept:]], ecg.target[order[kept:]])
    clf.module_.eval().requires_grad_(False)
    told = f"RibeiroNet width {width} trained on {n} simulated windows of 12 x {length} (seed 0, {epochs} epochs)"
    return clf, ecg.data[order[:kept]], told


def _targets(clf: ECGClassifier, X: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """Return the predicted labels, and their positions."""
    labels = clf.predict(X)
    return labels, torch.from_numpy(np.searchsorted(clf.classes_, labels))


def captum_ig(net: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, n_steps: int) -> np.ndarray:
    """Return captum's integrated gradients by left points from zero, 64 rows in a pass."""
    from captum.attr import IntegratedGradients as CaptumIG

    found = CaptumIG(net).attribute(
        x, target=target, n_steps=n_steps, method="riemann_left", internal_batch_size=_BATCH
    )
    return found.detach().numpy()


def every_point(net: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, n_steps: int) -> None:
    """Do what no method can do without: a forward pass and an input gradient for each point."""
    rows, labels = x.repeat(n_steps, 1, 1), target.repeat(n_steps)
    for part, label in zip(rows.split(_BATCH), labels.split(_BATCH), strict=True):
        leaf = part.clone().requires_grad_(True)
        torch.autograd.grad(net(leaf).gather(1, label[:, None]).sum(), leaf)


def errors(relevance: np.ndarray, rise: np.ndarray) -> np.ndarray:
    """Return by window how far relevance is from adding up to the rise of the score."""
    return np.abs(relevance.astype(float).sum((1, 2)) - rise)


@row("S2", "Speed", "Integrated gradients of RibeiroNet")
def integrated_gradients(quick: bool) -> Iterator[Line]:
    clf, X, told = trained(quick)
    net, x = clf.module_, torch.from_numpy(X)
    labels, target = _targets(clf, X)
    left = IntegratedGradients(clf, method="riemann_left", n_steps=64).explain(X, target=labels)
    rise = left.score.astype(float) - left.score_baseline
    theirs = captum_ig(net, x, target, 64)
    scale = np.abs(theirs).max((1, 2))[:, None, None]
    equal = f"same points, equal to {same('S2', left.relevance, theirs, 1e-4, scale):.0e}"
    wanted = errors(theirs, rise)
    tried = {}
    for n in POINTS:
        tried[n] = np.abs(IntegratedGradients(clf, n_steps=n).explain(X, target=labels).completeness_error)
        if np.median(tried[n]) <= np.median(wanted) and tried[n].max() <= wanted.max():
            break
    n = max(tried)
    error = f"{np.median(wanted):.2g} and {wanted.max():.2g} (median, largest) by captum's 64 left points, "
    error += "; ".join(f"{np.median(e):.2g} and {e.max():.2g} by {k} midpoints" for k, e in tried.items())
    few = slice(0, min(len(X), 2 if quick else 4))

    def ours(method: str, n_steps: int) -> Any:
        return IntegratedGradients(clf, method=method, n_steps=n_steps).explain(X[few], target=labels[few]).relevance

    anchor = partial(captum_ig, net, x[few], target[few], 64)
    where = f"{told}, {len(X)} windows, timed on {len(X[few])}"
    yield from speed(
        f"{where}; completeness error {error}; rise of the score {np.median(np.abs(rise)):.2g} (median)",
        partial(ours, "riemann_middle", n),
        [Anchor("captum riemann_left, 64 points, at no smaller error", anchor, 4.0, f"{n} midpoints")],
        limit=("forward and input gradient per point", partial(every_point, net, x[few], target[few], n)),
        quick=quick,
    )
    yield from speed(
        f"{where}; 64 left points on both sides",
        partial(ours, "riemann_left", 64),
        [Anchor("captum riemann_left, 64 points", anchor, 0.97, equal)],
        limit=("forward and input gradient per point", partial(every_point, net, x[few], target[few], 64)),
        quick=quick,
    )


@row("S7", "Speed", "Expected gradients, the target alone")
def expected_gradients(quick: bool) -> Iterator[Line]:
    import shap

    clf, X, told = trained(quick)
    n_samples, X, background = (20, X[:2], X[2:6]) if quick else (200, X[:4], X[4:])
    x, net = torch.from_numpy(X), clf.module_
    labels, target = _targets(clf, X)
    explainer = ShapExplainer(clf, background=background, n_samples=n_samples, tol=1e9, random_state=0, batch_size=50)
    theirs = shap.GradientExplainer(net, torch.from_numpy(background), batch_size=50)

    def anchor(**settings: Any) -> list[np.ndarray]:
        state = np.random.get_state()  # noqa: NPY002 - shap seeds numpy's generator
        try:
            one_by_one = [x[i : i + 1] for i in range(len(x))]
            return [theirs.shap_values(window, nsamples=n_samples, rseed=0, **settings) for window in one_by_one]
        finally:
            np.random.set_state(state)  # noqa: NPY002

    def ours() -> np.ndarray:
        return explainer.explain(X, target=labels).relevance

    of_target = np.stack([found[0][..., label] for found, label in zip(anchor(), target.tolist(), strict=True)])
    equal = f"equal to {same('S7', ours(), of_target, 1e-3):.0e}"
    name = "shap GradientExplainer"
    yield from speed(
        f"{told}, {len(X)} windows, {n_samples} draws, {len(LABELS)} classes",
        ours,
        [
            Anchor(f"{name}, default call (all classes)", anchor, 6.0, equal),
            Anchor(f"{name}, ranked_outputs=1", partial(anchor, ranked_outputs=1), 1.0, equal),
        ],
        limit=("forward and input gradient per draw", partial(every_point, net, x, target, n_samples)),
        quick=quick,
    )
