"""The stages of a network: where its map has one length after another, found by tracing a forward pass."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import torch


class Stage(NamedTuple):
    """A layer that ends a stage: all that the layer behind knows of the input goes through its map."""

    name: str
    length: int


def find_stages(net: torch.nn.Module, x: torch.Tensor, last: str) -> list[Stage]:
    """Return the stages of a network up to the layer ``last``, the finest first and that layer at the end.

    A stage ends at the last layer of its length of map, called once, through which everything goes that ``last`` is
    computed from: the sum that ends a residual block is such a layer, a convolution beside the shortcut is none. Maps
    as long as the input itself, and those not longer than the map of ``last``, are no stages.

    Parameters
    ----------
    net : torch.nn.Module
        A private twin in eval mode whose parameters want no gradient; left as it is.
    x : torch.Tensor of shape (n, n_leads, n_timesteps)
        Any windows of the length that is explained; two are enough.
    last : str
        Dotted name of a layer that is called once.

    Returns
    -------
    stages : list of Stage
        With ``last`` alone where its map is not (n, channels, time), or no layer before it is a stage.
    """
    calls: Counter[str] = Counter()
    seen: list[tuple[str, int, Any]] = []  # in the order of the calls: name, length, node of the graph
    handles = []

    def remember(name: str) -> Any:
        def hook(_: torch.nn.Module, __: Any, out: Any) -> None:
            calls[name] += 1
            if torch.is_tensor(out) and out.ndim == 3 and out.grad_fn is not None:
                seen.append((name, out.shape[-1], out.grad_fn))

        return hook

    try:
        for name, part in net.named_modules():
            if name:
                handles.append(part.register_forward_hook(remember(name)))
        with torch.enable_grad():
            net(x.detach().clone().requires_grad_(True).clone())
    finally:
        for handle in handles:
            handle.remove()
    ends = [(length, node) for name, length, node in seen if name == last]
    if calls[last] != 1 or not ends:
        return [Stage(last, 0)]
    shortest, end = ends[0]
    before = _ancestors(end)
    first = {}  # a block and its last layer give one map: the layer, which is called first, stands for both
    for name, _, node in seen:
        first.setdefault(node, name)
    found: dict[int, str] = {}
    for name, length, node in reversed(seen):
        usable = shortest < length < x.shape[-1] and length not in found and calls[name] == 1 and node in before
        if usable and _all_goes_through(node, end):
            found[length] = first[node] if calls[first[node]] == 1 else name
    stages = [Stage(name, length) for length, name in sorted(found.items(), reverse=True)]
    return [*stages, Stage(last, shortest)]


def _ancestors(end: Any, without: Any = None) -> set[Any]:
    """Return the nodes of the graph that ``end`` is computed from, by ways that avoid one node; end among them."""
    reached, todo = {end}, [end]
    while todo:
        for node, _ in todo.pop().next_functions:
            if node is not None and node is not without and node not in reached:
                reached.add(node)
                todo.append(node)
    return reached


def _all_goes_through(node: Any, end: Any) -> bool:
    """Tell whether the input reaches ``end`` through one node alone; a leaf (the input) has no next functions."""
    return node is not end and all(other.next_functions for other in _ancestors(end, without=node))
