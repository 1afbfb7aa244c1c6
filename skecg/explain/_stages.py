"""The stages of a network: where its map has one length after another, found by tracing a forward pass."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import torch

# Convolutions without padding give each layer a length of its own: only a map this much longer is another stage.
_LONGER = 1.5


class Stage(NamedTuple):
    """A layer that ends a stage: all that the layer behind knows of the input goes through its map."""

    name: str
    length: int


def find_stages(net: torch.nn.Module, shape: tuple[int, ...], last: str, device: str = "cpu") -> list[Stage]:
    """Return the stages of a network up to the layer ``last``, the finest first and that layer at the end.

    A stage ends at the last layer of its length of map, called once, through which everything goes that ``last`` is
    computed from: the sum that ends a residual block is such a layer, a convolution beside the shortcut is none. Each
    map is at least half as long again as that of the next stage, and the input half as long again as the first.

    Parameters
    ----------
    net : torch.nn.Module
        A private twin in eval mode whose parameters want no gradient; left as it is.
    shape : tuple of int
        (n_leads, n_timesteps) of the windows that are explained.
    last : str
        Dotted name of a layer that is called once.
    device : str, default="cpu"
        Where the network is.

    Returns
    -------
    stages : list of Stage
        With ``last`` alone where its map is not (n, channels, time), or no layer before it is a stage.
    """
    calls: Counter[str] = Counter()
    seen: list[tuple[str, torch.Tensor, Any]] = []  # in the order of the calls: name, map, node of the graph
    handles = []

    def remember(name: str) -> Any:
        def hook(_: torch.nn.Module, __: Any, out: Any) -> None:
            calls[name] += 1
            if torch.is_tensor(out) and out.ndim == 3 and out.grad_fn is not None:
                seen.append((name, out, out.grad_fn))

        return hook

    # noise: of zeros, gradients would end at ReLUs, and a network may refuse windows that are constant
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    leaf = noise.requires_grad_(True)
    try:
        for name, part in net.named_modules():
            if name:
                handles.append(part.register_forward_hook(remember(name)))
        with torch.enable_grad():
            net(leaf.clone())
    finally:
        for handle in handles:
            handle.remove()
    ends = [(out.shape[-1], node) for name, out, node in seen if name == last]
    if calls[last] != 1 or not ends:
        return [Stage(last, 0)]
    shortest, end = ends[0]
    before = _ancestors(end)
    first: dict[Any, str] = {}  # a block and its last layer give one map: the layer, called first, stands for both
    for name, _, node in seen:
        first.setdefault(node, name)
    stages = [Stage(last, shortest)]
    # from the deepest: of one resolution the last layer is taken
    for name, out, node in reversed(seen):
        length = out.shape[-1]
        longer = length >= _LONGER * stages[0].length and shape[-1] >= _LONGER * length
        if longer and calls[name] == 1 and node in before and _is_cut(node, end) and _runs_along_time(out, leaf):
            stages.insert(0, Stage(first[node] if calls[first[node]] == 1 else name, length))
    return stages


def _ancestors(end: Any, without: Any = None) -> set[Any]:
    """Return the nodes of the graph that ``end`` is computed from, by ways that avoid one node; end among them."""
    reached, todo = {end}, [end]
    while todo:
        for node, _ in todo.pop().next_functions:
            if node is not None and node is not without and node not in reached:
                reached.add(node)
                todo.append(node)
    return reached


def _is_cut(node: Any, end: Any) -> bool:
    """Tell whether the input reaches ``end`` through one node alone; a leaf (the input) has no next functions."""
    return node is not end and all(other.next_functions for other in _ancestors(end, without=node))


def _runs_along_time(out: torch.Tensor, leaf: torch.Tensor) -> bool:
    """Tell whether the last axis of a map is time: its first quarter sees earlier samples than its last one.

    The last axis may be the channels, as behind a normalisation or an affine layer of (n, time, channels).
    """
    size, quarter = leaf.shape[-1], max(1, out.shape[-1] // 4)
    times = torch.arange(size, dtype=leaf.dtype, device=leaf.device)

    def centre(part: torch.Tensor) -> float:
        (gradient,) = torch.autograd.grad(part.sum(), leaf, retain_graph=True, allow_unused=True)
        weight = torch.zeros_like(times) if gradient is None else gradient.abs().sum((0, 1))
        return float((weight * times).sum() / weight.sum())  # NaN, which is below nothing, where there is none

    return centre(out[..., :quarter]) + size / 4 < centre(out[..., -quarter:])
