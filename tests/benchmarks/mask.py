"""Rows S4 and S6: an iteration of the learned mask, of the whole network and of one branch alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from skecg import MaskDeletion

from . import material
from .harness import Line, Ratio, paired, row, same, shortfall
from .material import CLASSES

# One mask value a sample and 0 mV for what is deleted: the paper's mask. It starts at a half and not, as the paper's,
# at 0: a signal of nothing but zeros gives maps of equal values, where rounding chooses the way through every pooling.
# No window stops early, so that both sides run every iteration.
SETTINGS: dict[str, Any] = {
    "n_knots": None, "replacement": 0.0, "init": 0.5, "lr": 0.05, "tol": 0.0,
    "lambda1": 1 / 720, "lambda2": 0.001, "reduction": "sum",
}  # fmt: skip
_EPS = 1e-4  # of Adam, as MaskDeletion has it for sums
_NO_TIME_INTERPRET = "not measured: time_interpret cannot be imported beside a CPU build of torch (torchvision::nms)"

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (window, masked window) -> logits
Masks = Callable[[int], tuple[np.ndarray, np.ndarray]]  # iterations -> (masks, objectives)


def plain_mask(
    network: Network, x: torch.Tensor, target: torch.Tensor, n_iter: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return masks and objectives of the loop that a notebook has: torch's Adam, and the network each iteration."""
    mask = torch.full_like(x, SETTINGS["init"], requires_grad=True)
    adam = torch.optim.Adam([mask], lr=SETTINGS["lr"], eps=_EPS)
    for _ in range(n_iter):
        adam.zero_grad()
        _objective(network, mask, x, target).sum().backward()
        adam.step()
        with torch.no_grad():
            mask.clamp_(0, 1)
    with torch.no_grad():
        return mask.detach(), _objective(network, mask, x, target)


def _objective(network: Network, mask: torch.Tensor, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    score = network(x, mask * x).softmax(1).gather(1, target[:, None])[:, 0]
    kept = SETTINGS["lambda1"] * (1 - mask).abs().sum((1, 2))
    return kept + SETTINGS["lambda2"] * mask.diff(dim=-1).abs().sum((1, 2)) + score


def _loop(network: Network, n: int, batch: int) -> Masks:
    """Return the plain loop over n windows, so many side by side."""
    x, target = torch.from_numpy(material.windows(n)), torch.arange(n) % len(CLASSES)

    def masks(n_iter: int) -> tuple[np.ndarray, np.ndarray]:
        parts = zip(x.split(batch), target.split(batch), strict=True)
        found, costs = zip(*(plain_mask(network, part, labels, n_iter) for part, labels in parts), strict=True)
        return torch.cat(found).numpy(), torch.cat(costs).numpy()

    return masks


def _ours(net: torch.nn.Module, n: int, **options: Any) -> Masks:
    X, y, clf = material.windows(n), material.labels(n), material.classifier(net)

    def masks(n_iter: int) -> tuple[np.ndarray, np.ndarray]:
        result = MaskDeletion(clf, n_iter=n_iter, **SETTINGS, **options).explain(X, target=y)
        return result.mask, result.objective

    return masks


def _pass(function: Callable[[torch.Tensor], torch.Tensor], n: int, times: int) -> None:
    """Do what no mask can do without: a forward pass and the gradient at its input."""
    x = torch.from_numpy(material.windows(n))
    for _ in range(times):
        given = x.clone().requires_grad_(True)
        torch.autograd.grad(function(given).sum(), given)


def _check(name: str, ours: Masks, anchor: Masks, n_iter: int) -> str:
    """Compare masks and objectives; say how far the objectives are apart after ``n_iter`` iterations.

    The first step is the same but for rounding. After it neighbours in the mask that are almost equal have a total
    variation whose gradient rounding decides, as it does behind ReLUs and poolings, so that masks drift apart; the
    loop's own do, in another batch.
    """
    for steps, tol in ((1, 1e-4), (3, 5e-3)):
        (mask, _), (other, _) = ours(steps), anchor(steps)
        apart = np.abs(mask - other).mean((1, 2))
        same(f"{name}, masks after {steps} iterations", apart, np.zeros_like(apart), tol, scale=1.0)
    if np.abs(other - SETTINGS["init"]).mean((1, 2)).min() < 0.05:
        raise AssertionError(f"{name}: the masks have hardly moved, so that they agree means nothing")
    (_, cost), (_, expected) = ours(n_iter), anchor(n_iter)
    worst = same(f"{name}, objectives after {n_iter} iterations", cost, expected, 0.02, scale=expected)
    return f"objectives equal to {worst:.0e} after {n_iter} iterations"


def _iteration(
    work: str,
    ours: Masks,
    anchors: dict[str, Masks],
    limit: tuple[str, Callable[[int], Any]],
    *,
    goal: float,
    n_iter: tuple[int, int],
    call: int = 0,
    quick: bool,
) -> Iterator[Line]:
    """Yield, anchor by anchor, the line of the time of an iteration.

    Ours is the difference between a call of one iteration and of ``n_iter[0]`` more, without what a call does once;
    a loop does nothing once, and is timed with ``n_iter[1]`` iterations. With ``call`` the line also tells the ratio
    of whole calls of so many iterations.
    """
    many, few = n_iter
    equal = [_check(f"{work}, {name}", ours, anchor, few) for name, anchor in anchors.items()]
    loops = [partial(anchor, few) for anchor in anchors.values()]
    sides = [partial(ours, 1), partial(ours, 1 + many), partial(limit[1], few), *loops]
    one, more, least, *others = paired(*sides, rounds=3 if quick else 5).T
    iteration = (more - one) / many
    for name, other, agreement in zip(anchors, others, equal, strict=True):
        ratio = Ratio.of(other / few, iteration)
        whole = f"; whole calls of {call} iterations {Ratio.of(other / few * call, one + iteration * (call - 1))}"
        yield Line(
            work=f"{work}; {agreement}",
            anchor=name,
            measured=f"anchor / ours, an iteration: {ratio}{whole if call else ''}",
            limit=f"ours / {limit[0]} {Ratio.of(iteration, least / few)}",
            goal=f">= {goal:g}",
            met=ratio.median >= goal,
            notes=shortfall(f"{work}, {name}", ratio, goal, partial(ours, 1 + many), quick),
        )


@row("S4", "Speed", "Learned mask, whole ECGNet")
def whole_network(quick: bool) -> Iterator[Line]:
    full, small = {4: (32, (20, 10)), 16: (16, (10, 4))}, {4: (16, (8, 2)), 16: (4, (3, 2))}
    for (width, (n, n_iter)), goal in zip((small if quick else full).items(), (4.5, 3.2), strict=True):
        net = material.network(width)
        frozen = copy.deepcopy(net).requires_grad_(False)
        by_window = "one window at a time, torch.optim.Adam (the paper's way)"
        yield from _iteration(
            f"width {width}, {n} windows, one mask value a sample",
            _ours(net, n),
            {
                f"{by_window}, loss.backward() as it comes": _loop(lambda _, z, net=net: net(z), n, batch=1),
                f"{by_window}, parameters frozen": _loop(lambda _, z, net=frozen: net(z), n, batch=1),
            },
            ("forward and input gradient of the batch", partial(_pass, frozen, n)),
            goal=goal,
            n_iter=n_iter,
            quick=quick,
        )
    yield Line(
        work="width 4 and 16",
        anchor="ExtremalMask and DynaMask of time_interpret, cost of an iteration",
        measured=_NO_TIME_INTERPRET,
        goal=">= 4 and 3",
    )


@row("S6", "Speed", "Learned mask on the LSTM branch of ECGNet alone")
def one_branch(quick: bool) -> Iterator[Line]:
    full, small = {4: (32, (300, 20)), 16: (32, (300, 4))}, {4: (16, (100, 5)), 16: (8, (100, 3))}
    for (width, (n, n_iter)), goal in zip((small if quick else full).items(), (15.0, 100.0), strict=True):
        net = copy.deepcopy(material.network(width)).requires_grad_(False)

        def intact(x: torch.Tensor, masked: torch.Tensor, net: torch.nn.Module = net) -> torch.Tensor:
            return net(x, inputs={"lstm": masked})

        def silenced(_: torch.Tensor, masked: torch.Tensor, net: torch.nn.Module = net) -> torch.Tensor:
            hook = net.cnn.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
            try:
                return net(masked)
            finally:
                hook.remove()

        for other, whole in (("intact", intact), ("silenced", silenced)):
            yield from _iteration(
                f"width {width}, CNN {other}, {n} windows",
                _ours(net, n, branch="lstm", other_branch=other),
                {"the whole network each iteration, the same batch, parameters frozen": _loop(whole, n, batch=n)},
                ("forward and input gradient of the LSTM", partial(_pass, net.lstm, n)),
                goal=goal,
                n_iter=n_iter,
                call=500,
                quick=quick,
            )
