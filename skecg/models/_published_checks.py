"""What the weights of a RibeiroNet must be, whatever file they come from."""

from __future__ import annotations

from typing import Any

import torch

from ._ribeiro import RibeiroNet

N_LEADS, N_TIMESTEPS = 12, 4096
# What a file may claim before anything is read: the published network has width 64 and 6 outputs.
_MAX_WIDTH, _MAX_OUTPUTS = 256, 1000


class Unfit(Exception):
    """What is wrong with a file, without its name."""


def empty_net(variant: str, width: int, n_outputs: int) -> RibeiroNet:
    """Return the network without memory for its weights, and without drawing random numbers for them."""
    with torch.device("meta"):
        return RibeiroNet(N_LEADS, N_TIMESTEPS, n_outputs, variant=variant, width=width)


def expected_shapes(variant: str, stem: tuple[int, ...], n_outputs: int) -> tuple[dict[str, tuple], dict[str, Any]]:
    """Return the shapes by name, and the settings, of the network that a stem (width, n_leads, kernel) belongs to."""
    if len(stem) != 3 or stem[1] != N_LEADS:
        leads = f"{stem[1]} leads" if len(stem) == 3 else f"a first convolution of shape {stem}"
        raise Unfit(f"its network is for {leads} instead of {N_LEADS} leads")
    if not (1 <= stem[0] <= _MAX_WIDTH and 1 <= n_outputs <= _MAX_OUTPUTS):
        raise Unfit(f"its network has {stem[0]} channels in the stem and {n_outputs} outputs; 64 and 6 are published")
    settings = {"variant": variant, "width": stem[0], "n_outputs": n_outputs}
    shapes = {name: tuple(tensor.shape) for name, tensor in empty_net(**settings).state_dict().items()}
    if shapes["conv1.weight"] != stem:
        raise Unfit(f"its kernels have {stem[2]} samples; those of {variant!r} {shapes['conv1.weight'][2]}")
    return shapes, settings


def checked(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of its own in float32 whose numbers can be weights."""
    tensor = tensor.detach().to(torch.float32, copy=True).contiguous()
    if not torch.isfinite(tensor).all():
        raise Unfit(f"{name} has NaN or infinite numbers: the file is damaged, get it again")
    if name.endswith("running_var") and (tensor < 0).any():
        raise Unfit(f"{name} has negative variances: the file is damaged, or its layers have another order")
    return tensor
