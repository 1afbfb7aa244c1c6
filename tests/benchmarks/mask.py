"""Rows S4 and S6: the learned mask in time, whole network and one branch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from skecg import MaskDeletion

from . import material
from .harness import Line, row, same, speed
from .material import CLASSES, ECGNet

# One mask value a sample, 0 mV for what is deleted: the paper's mask. No window stops early, so that both sides run
# every iteration.
SETTINGS: dict[str, Any] = {"n_knots": None, "replacement": 0.0, "tol": 0.0, "lambda1": 1.0, "lambda2": 0.02, "lr": 0.05}
_NO_TIME_INTERPRET = "not measured: time_interpret cannot be imported beside a CPU build of torch (torchvision::nms)"


def plain_mask(
    network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, target: torch.Tensor, n_iter: int
) -> torch.Tensor:
    """Return masks (n, 1, n_timesteps) learned by the loop that a notebook has: torch's own Adam, every iteration a
    pass of the network.
    """  # noqa: D205
    mask = torch.zeros_like(x, requires_grad=True)
    adam = torch.optim.Adam([mask], lr=SETTINGS["lr"], eps=1e-4)
    for _ in range(n_iter):
        adam.zero_grad()
        score = network(mask * x).softmax(1).gather(1, target[:, None])[:, 0]
        kept = SETTINGS["lambda1"] * (1 - mask).abs().mean((1, 2))
        rough = SETTINGS["lambda2"] * mask.diff(dim=-1).abs().sum((1, 2))
        (kept + rough + score).sum().backward()
        adam.step()
        with torch.no_grad():
            mask.clamp_(0, 1)
    return mask.detach()


def forward_and_gradient(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, n_iter: int) -> None:
    """Do what no mask can do without: a forward pass and the gradient at its input, each iteration."""
    for _ in range(n_iter):
        given = x.clone().requires_grad_(True)
        torch.autograd.grad(function(given).sum(), given)


def _inputs(n: int) -> tuple[np.ndarray, torch.Tensor, np.ndarray, torch.Tensor]:
    X = material.windows(n)
    return X, torch.from_numpy(X), material.labels(n), torch.arange(n) % len(CLASSES)


def _check(name: str, ours: np.ndarray, anchor: torch.Tensor) -> str:
    """Return how far the masks are apart: on average a step of Adam in a hundred, at a sample here and there more."""
    ours, anchor = ours.astype(float), anchor.numpy()
    apart = np.abs(ours - anchor).mean((1, 2))
    same(name, apart, np.zeros_like(apart), 5e-4, scale=1.0)
    if np.ptp(anchor, axis=(1, 2)).max() < 0.1:
        raise AssertionError(f"{name}: the masks have hardly moved, so that they agree means nothing")
    return f"masks apart by {apart.max():.0e} on average in the worst window"


@row("S4", "Speed", "Learned mask, whole ECGNet")
def whole_network(quick: bool) -> Iterator[Line]:
    sizes = {4: (16, 20), 16: (4, 20)} if quick else {4: (32, 120), 16: (16, 60)}
    for (width, (n, n_iter)), goal in zip(sizes.items(), (4.5, 3.2), strict=True):
        net, (X, x, y, target) = material.network(width), _inputs(n)
        explainer = MaskDeletion(material.classifier(net), n_iter=n_iter, **SETTINGS)

        def ours(explainer: MaskDeletion = explainer, X: np.ndarray = X, y: np.ndarray = y) -> np.ndarray:
            return explainer.explain(X, target=y).mask

        def anchor(net: ECGNet = net, x: torch.Tensor = x, t: torch.Tensor = target, n_iter: int = n_iter) -> Any:
            return torch.cat([plain_mask(net, x[i : i + 1], t[i : i + 1], n_iter) for i in range(len(x))])

        def limit(net: ECGNet = net, x: torch.Tensor = x, n_iter: int = n_iter) -> None:
            forward_and_gradient(net, x, n_iter)

        apart = _check(f"S4, width {width}", ours(), anchor())
        yield speed(
            f"width {width}, {n} windows, {n_iter} iterations, one value a sample; {apart}",
            "one window at a time, torch.optim.Adam (the paper's way)",
            ours,
            anchor,
            goal=goal,
            limit=("forward and input gradient of the batch", limit),
            quick=quick,
        )
    yield Line(
        work="one iteration, width 4 and 16",
        anchor="ExtremalMask and DynaMask of time_interpret",
        measured=_NO_TIME_INTERPRET,
        goal=">= 4 and 3",
    )


@row("S6", "Speed", "Learned mask on the LSTM branch of ECGNet alone")
def one_branch(quick: bool) -> Iterator[Line]:
    sizes = {4: (16, 20), 16: (8, 10)} if quick else {4: (32, 100), 16: (32, 40)}
    for (width, (n, n_iter)), goal in zip(sizes.items(), (15.0, 100.0), strict=True):
        net, (X, x, y, target) = material.network(width), _inputs(n)

        def intact(masked: torch.Tensor, net: ECGNet = net, x: torch.Tensor = x) -> torch.Tensor:
            return net(x, inputs={"lstm": masked})

        def silenced(masked: torch.Tensor, net: ECGNet = net) -> torch.Tensor:
            hook = net.cnn.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
            try:
                return net(masked)
            finally:
                hook.remove()

        def limit(net: ECGNet = net, x: torch.Tensor = x, n_iter: int = n_iter) -> None:
            forward_and_gradient(net.lstm, x, n_iter)

        for other, whole in (("intact", intact), ("silenced", silenced)):
            explainer = MaskDeletion(
                material.classifier(net), branch="lstm", other_branch=other, n_iter=n_iter, **SETTINGS
            )

            def ours(explainer: MaskDeletion = explainer, X: np.ndarray = X, y: np.ndarray = y) -> np.ndarray:
                return explainer.explain(X, target=y).mask

            def anchor(
                whole: Callable = whole, x: torch.Tensor = x, t: torch.Tensor = target, n_iter: int = n_iter
            ) -> torch.Tensor:
                return plain_mask(whole, x, t, n_iter)

            apart = _check(f"S6, width {width}, CNN {other}", ours(), anchor())
            yield speed(
                f"width {width}, CNN {other}, {n} windows, {n_iter} iterations; {apart}",
                "the whole network each iteration, the same batch",
                ours,
                anchor,
                goal=goal,
                limit=("forward and input gradient of the LSTM", limit),
                quick=quick,
            )
