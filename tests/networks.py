"""What the tests of several networks need: counts, statistics of a trained net, the maps of a layer."""

from __future__ import annotations

import torch
from torch import nn

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def n_parameters(module: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def lived_in(net: nn.Module, seed: int = 1) -> nn.Module:
    """Give batch norms the statistics and weights of a trained net: fresh ones would hide a wrong order of layers."""
    generator = torch.Generator().manual_seed(seed)
    for part in net.modules():
        if isinstance(part, _NORMS):
            part.running_mean.uniform_(-0.3, 0.3, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return net.eval()


def settled(net: nn.Module, x: torch.Tensor, seed: int = 1) -> nn.Module:
    """Give batch norms other weights and then the statistics of x: through deep stacks others let no signal pass."""
    lived_in(net, seed)
    parts = [part for part in net.modules() if isinstance(part, _NORMS)]
    momentum = [part.momentum for part in parts]
    for part in parts:
        part.momentum = 1.0
    with torch.no_grad():
        net.train()(x)
    for part, before in zip(parts, momentum, strict=True):
        part.momentum = before
    return net.eval()


def norm(part: nn.Module, h: torch.Tensor) -> torch.Tensor:
    """Apply a batch norm in eval mode by its formula."""
    shape = (1, -1) + (1,) * (h.ndim - 2)
    scale = part.weight / torch.sqrt(part.running_var + part.eps)
    return (h - part.running_mean.view(shape)) * scale.view(shape) + part.bias.view(shape)


def map_of(net: nn.Module, layer: str, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a layer's map, open to gradients, and the network's output."""
    maps = []

    def keep(part: nn.Module, given: tuple, out: torch.Tensor) -> None:
        maps.append(out)

    handle = net.get_submodule(layer).register_forward_hook(keep)
    out = net(x)
    handle.remove()
    (single,) = maps
    return single, out
