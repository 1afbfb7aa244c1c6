"""Networks made ready for captum; those for which it would be silently wrong are refused, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ._shap import _depends, _is_altered, _loses, _overlaps, _Watch

# DeepLift: the modules that captum has a rule for, and those for which a gradient is right. Its rule for Softmax mixes
# the windows of a batch.
_ELEMENTWISE = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_LINEAR = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout1d, nn.Identity),
)



def _refuse(net: nn.Module, method: str, reason: str, instead: str) -> None:
    raise ValueError(
        f"method={method!r} would be silently wrong for {type(net).__name__}: {reason}. Make every activation a module "
        f"of its own, called once, or take {instead}"
    )


class _Relus(TorchFunctionMode):
    """Notes ReLUs that are functions, outside of known modules."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.found = 0, set()

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.inside and _is_relu(func, args, kwargs or {}) and any(_depends(out)):
            self.found.add(getattr(func, "__name__", repr(func)))
        return out


def _is_relu(func: Callable, args: tuple, kwargs: dict) -> bool:
    """Tell whether a call cuts off what is negative."""
    name = getattr(func, "__name__", "").strip("_")
    if name in ("clamp", "clip", "clamp_min"):
        low = args[1] if len(args) > 1 else kwargs.get("min")
        return isinstance(low, int | float) and low == 0
    if name in ("maximum", "fmax", "max"):
        return len(args) == 2 and sum(_depends(args)) == 1
    return name in ("relu", "relu6", "threshold")


def _calls(net: nn.Module, x: torch.Tensor, names: dict[str, Any], watch: Any) -> Counter:
    """Run the network once under a watch that shuts its eyes inside of the named modules; return their calls."""
    calls, handles = Counter(), []

    def enter(name: str) -> Callable:
        def count(*_: Any) -> None:
            calls[name] += 1
            watch.inside += 1

        return count

    def leave(part: nn.Module, args: tuple, out: Any) -> None:
        watch.inside -= 1
        if isinstance(watch, _Watch) and _loses(args, out):  # in a block without gradients
            watch.found.add(f"{type(part).__name__} without a gradient")

    for name in names:
        part = net.get_submodule(name)
        handles += [part.register_forward_pre_hook(enter(name)), part.register_forward_hook(leave)]
    try:
        with watch:
            net(x.detach().requires_grad_(True).clone())
    finally:
        for handle in handles:
            handle.remove()
    return calls


def prepare_guided(net: nn.Module, x: torch.Tensor, method: str, layer: str | None) -> None:
    """Make a twin ready for captum's hooks on ReLUs; refuse one with a ReLU that captum does not see, or mistakes.

    And layers without one map in time are refused.
    """
    watch, maps, instead = _Relus(), [], "'Saliency' or 'IntegratedGradients'"
    relus = {name: part for name, part in net.named_modules() if isinstance(part, nn.ReLU)}
    handle = layer and net.get_submodule(layer).register_forward_hook(lambda part, args, out: maps.append(out))
    try:
        calls = _calls(net, x, relus, watch)
    finally:
        if handle:
            handle.remove()
    if watch.found:
        _refuse(net, method, f"it calls {', '.join(sorted(watch.found))} as a function, which captum skips", instead)
    for name, n in calls.items():
        if n > 1:
            _refuse(net, method, f"its ReLU {name!r} is used {n} times in a pass", instead)
    if not calls:
        _refuse(net, method, "it has no torch.nn.ReLU, so that this would be the plain gradient", instead)
    _set_apart(relus.values())
    if layer is None:
        return
    if len(maps) != 1 or not torch.is_tensor(maps[0]) or maps[0].ndim != 3:
        raise ValueError(
            f"layer {layer!r} of {type(net).__name__} gives no single map (n, channels, time) in a forward pass: take "
            "a convolutional stage that is called once; GradCAM1D takes maps with a second axis"
        )
    if getattr(net, "min_timesteps", 1) > x.shape[-1]:
        raise ValueError(
            f"{type(net).__name__} pads windows of {x.shape[-1]} timesteps to {net.min_timesteps}, and captum would "
            f"lay the map of layer {layer!r} over the window alone: take GradCAM1D, or longer windows"
        )


def prepare_deep(net: nn.Module, x: torch.Tensor, method: str) -> bool:
    """Make a twin ready for captum's DeepLIFT; refuse one with a part that captum has no rule for.

    Return whether captum would mix the windows of a batch.
    """
    watch, instead = _Watch(), "'IntegratedGradients'"
    for name, part in list(net.named_modules()):
        if type(part) is nn.MaxPool1d and _overlaps(part) and part.dilation == 1 and not _is_altered(part):
            parent, _, own = name.rpartition(".")
            setattr(net.get_submodule(parent), own, _Spread(part))
    known = {
        name: part
        for name, part in net.named_modules()
        if type(part) in (*_ELEMENTWISE, *_POOLS, *_NORMS, *_LINEAR) and not _is_altered(part)
    }
    calls = _calls(net, x, known, watch)
    if watch.found:
        _refuse(net, method, f"it calls {', '.join(sorted(watch.found))}, for which captum has no rule", instead)
    for name, n in calls.items():
        part, kind = known[name], type(known[name]).__name__
        if getattr(part, "running_mean", 0) is None:
            _refuse(net, method, f"its {kind} {name!r} normalises by the batch at hand", instead)
        if isinstance(part, _POOLS) and _overlaps(part):
            _refuse(net, method, f"the stretches of its {kind} {name!r} overlap", instead)
        if n > 1 and isinstance(part, (*_ELEMENTWISE, *_POOLS)):
            _refuse(net, method, f"its {kind} {name!r} is used {n} times in a pass", instead)
    _set_apart(part for part in known.values() if isinstance(part, (*_ELEMENTWISE, *_POOLS)))
    return any(isinstance(known[name], _POOLS) for name in calls)


class _Spread(nn.Module):
    """A max pooling whose stretches overlap, as one whose stretches do not, behind a copy of each for itself.

    captum's rule carries one of the stretches that share a winner back, and loses the others.
    """

    def __init__(self, pool: nn.MaxPool1d) -> None:
        super().__init__()
        given = (pool.kernel_size, pool.stride, pool.padding)
        self.size, self.step, self.padding = (int(np.atleast_1d(value)[0]) for value in given)
        self.ceil, self.pool = pool.ceil_mode, nn.MaxPool1d(self.size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[-1]
        rest = length + 2 * self.padding - self.size
        n = -(-rest // self.step) + 1 if self.ceil else rest // self.step + 1
        if (n - 1) * self.step >= length + self.padding:  # a stretch that begins in the padding is dropped, as in torch
            n -= 1
        right = max(0, (n - 1) * self.step + self.size - length - self.padding)
        # not minus infinity, whose difference from a baseline is no number
        x = F.pad(x, (self.padding, right), value=torch.finfo(x.dtype).min)
        return self.pool(x.unfold(-1, self.size, self.step)[..., :n, :].flatten(-2))


def _set_apart(parts: Iterable[nn.Module]) -> None:
    """Give each part an input of its own.

    captum hangs on the tensors that go into a module and come out of it. Of two modules in a row, such as a ReLU and a
    max pooling, the first would read the gradient of the tensor between them before the second has changed it, and the
    rule of the second would be lost.
    """
    for part in parts:
        part.register_forward_pre_hook(lambda part, args: (args[0].clone(), *args[1:]))
