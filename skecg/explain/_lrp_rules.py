"""The rules of layer-wise relevance propagation: what a layer, a sum and a pooling do with relevance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WEIGHT_RULES = ("epsilon", "lrp0", "alpha1beta0", "wsquare", "flat")
SUM_RULES = ("z", "abs", "plus")
NORM_RULES = ("affine", "pass", "merge")
LINEAR_RULES = {"epsilon", "lrp0"}  # relevance is the value times a gradient, and biases take their part


@dataclass(frozen=True)
class Settings:
    """Which rule goes where.

    Parameters
    ----------
    conv, dense, first : str
        Rules of convolutions, of dense layers, and of the layers that see the network's input (None: as the others).
    epsilon : float
        Stabiliser of the epsilon rule.
    relative : bool
        Whether epsilon counts in root mean squares of a layer's outputs in a window.
    bias : bool or None
        Whether biases take relevance; None: where the rule is epsilon or lrp0.
    sums, norms : str
        Rules of sums (averages too) and of batch norms.
    """

    conv: str
    dense: str
    first: str | None
    epsilon: float
    relative: bool
    bias: bool | None
    sums: str
    norms: str

    @property
    def as_gradient(self) -> bool:
        """Whether every rule is a gradient with a factor, which is faster and never divides by zero."""
        rules = {self.conv, self.dense, self.first or self.conv}
        return rules <= LINEAR_RULES and self.bias is not False and (self.sums, self.norms) == ("z", "affine")

    def of(self, kind: str, is_first: bool) -> str:
        """Return the rule of a layer."""
        return self.first if is_first and self.first else getattr(self, kind)


class Trace:
    """What is known of a tensor that depends on the network's input."""

    __slots__ = ("became", "is_input", "layer", "real", "uses")

    def __init__(self, is_input: bool) -> None:
        self.is_input = is_input  # no layer with weights stands between the network's input and this
        self.layer: Layer | None = None  # the layer whose output this is
        self.real: Tensor | None = None  # False where it is padding
        self.uses = 0
        self.became: Tensor | None = None  # what an in-place operation has made of it


# ------------------------------------------------------------------------------------------------------ arithmetic


def quotient(above: Tensor, below: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return above / below, zero where below is as good as zero, and where it is (None: nowhere)."""
    info = torch.finfo(below.dtype)
    none = below.abs() <= info.tiny / info.eps
    share = above / below
    if not bool(none.any()):
        return share, None
    return share.masked_fill_(none, 0.0), none


def by_window(flow: Tensor, weight: Any) -> Tensor:
    """Return flow times a constant, summed where that is cheap: one value a channel."""
    by_channel = isinstance(weight, Tensor) and weight.ndim == flow.ndim - 1 > 0
    if by_channel and weight.shape[0] == flow.shape[1] == weight.numel():
        return flow.reshape(*flow.shape[:2], -1).sum(2) @ weight.flatten()
    return flow * weight


def _sign(z: Tensor) -> Tensor:
    return torch.where(z < 0, -1.0, 1.0).to(z.dtype)


def _stabiliser(z: Tensor, epsilon: float, relative: bool) -> Tensor | float:
    """Return epsilon, or by window epsilon times the root mean square of z."""
    if not relative:
        return epsilon
    return epsilon * z.flatten(1).square().mean(1).sqrt().reshape(-1, *[1] * (z.ndim - 1))


def _part(value: Tensor, rule: str) -> Tensor:
    """Return what a rule of sums weighs a summand by."""
    return value if rule == "z" else value.abs() if rule == "abs" else value.clamp(min=0)


class Layer:
    """One call of a convolution or dense layer, and how it hands relevance to its input.

    Parameters
    ----------
    forward : callable
        ``forward(x, weight)`` without the bias.
    backward : callable
        ``backward(s, weight, shape)``, the transpose of forward.
    weight, bias : tensor
        Of the layer; the bias broadcasts to its output.
    rule, kept, settings, real, is_conv
        Its rule, whether its bias takes relevance, all settings, the mask of its input's padding, its kind.
    """

    def __init__(
        self, forward: Callable[..., Tensor], backward: Callable[..., Tensor], weight: Tensor, bias: Tensor | None,
        rule: str, kept: bool, settings: Settings, real: Tensor | None, is_conv: bool,
    ) -> None:  # fmt: skip
        self.forward, self.backward = forward, backward
        self.weight, self.bias, self.rule, self.kept = weight, bias, rule, kept
        self.settings, self.real, self.is_conv = settings, real, is_conv
        self.output: Trace | None = None
        self.norm: tuple[Tensor, Tensor] | None = None  # scale and shift of a batch norm right behind it
        self.absorb: Callable[[Tensor], None] = lambda lost: None

    def pass_back(self, relevance: Tensor, x: Tensor | None, z: Tensor | None) -> Tensor:
        """Return the relevance of the input; what is not handed on goes to ``absorb``."""
        weight, bias = self.weight, self.bias
        # only now is it known whether the output went anywhere but into the batch norm
        merged = self.norm is not None and self.output is not None and self.output.uses == 1
        if merged:
            scale, shift = self.norm
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            scale, shift = (v.reshape(-1, *[1] * (weight.ndim - 2)) for v in (scale, shift))
            bias = shift if bias is None else bias * scale + shift
            z = None if z is None else z * scale + shift
        if self.rule in ("wsquare", "flat"):
            return self._by_weight(relevance, weight, x)
        if self.rule == "alpha1beta0":
            return self._by_positive_part(relevance, weight, bias if self.kept else None, x)
        bias = torch.zeros((), dtype=z.dtype, device=z.device) if bias is None else bias
        z, bias = (z, bias) if self.kept else (z - bias, torch.zeros_like(bias))
        epsilon = _stabiliser(z, self.settings.epsilon, self.settings.relative) if self.rule == "epsilon" else 0.0
        added = _sign(z) * epsilon
        share, none = quotient(relevance, z + added)
        self.absorb(share * (bias + added))
        self._lose(relevance, none)
        return x * self.backward(share, weight, x.shape)

    def _lose(self, relevance: Tensor, none: Tensor | None) -> None:
        """Absorb the relevance of outputs without contributions."""
        if none is not None:
            self.absorb(relevance * none)

    def _by_positive_part(self, relevance: Tensor, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        signed = bool(x.amin() < 0)  # behind a ReLU half of the work falls away
        positive, up = x.clamp(min=0) if signed else x, weight.clamp(min=0)
        total = self.forward(positive, up)
        if signed:
            negative, down = x.clamp(max=0), weight.clamp(max=0)
            total = total + self.forward(negative, down)
        bias = None if bias is None else bias.clamp(min=0)
        share, none = quotient(relevance, total if bias is None else total + bias)
        if bias is not None:
            self.absorb(by_window(share, bias))
        self._lose(relevance, none)
        back = positive * self.backward(share, up, x.shape)
        return back + negative * self.backward(share, down, x.shape) if signed else back

    def _by_weight(self, relevance: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        weight = weight.square() if self.rule == "wsquare" else torch.ones_like(weight)
        # at the border fewer samples are met, and padding is none: counted by sending ones through
        shape = (1, *x.shape[1:]) if self.is_conv else (1, x.shape[-1])
        met = torch.ones(shape, dtype=x.dtype, device=x.device)
        met = met if self.real is None else met * self.real
        share, none = quotient(relevance, self.forward(met, weight).expand_as(relevance))
        self._lose(relevance, none)
        axis = 1 if self.is_conv else -1
        if self.rule == "flat" and weight.shape[1] == x.shape[axis]:  # not grouped: every input channel gets the same
            one = list(x.shape)
            one[axis] = 1
            back = self.backward(share.sum(axis, keepdim=True), weight[:1, :1], one).expand(x.shape)
        else:
            back = self.backward(share, weight, x.shape)
        return back if self.real is None else back * self.real


# --------------------------------------------------------------------------------------- nodes of the backward pass


class Weigh(torch.autograd.Function):
    """A layer by its rule; what flows back is relevance."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer, run: Callable[[Tensor], Tensor]) -> Tensor:
        out = run(x)
        ctx.layer = layer
        ctx.save_for_backward(x, out if layer.rule in LINEAR_RULES else None)
        return out

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None]:
        return ctx.layer.pass_back(relevance, *ctx.saved_tensors), None, None


class Through(torch.autograd.Function):
    """Anything whose relevance is that of its output, as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        out = run(x)
        return out.view_as(out) if out is x else out

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        return relevance, None


class Ratio(torch.autograd.Function):
    """An activation through which relevance passes, where what flows back is relevance / value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        out = run(x)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, out = ctx.saved_tensors
        ratio, none = quotient(out, x)
        return gradient * (ratio if none is None else ratio.masked_fill_(none, 1.0)), None


class Affine(torch.autograd.Function):
    """``x * scale + shift`` by the z-rule, or a sum with a constant; what flows back is relevance."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Any, shift: Any, absorb: Callable[[Tensor], None], run: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.parts = scale, shift, absorb
        return run(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None, None, None]:
        (x,), (scale, shift, absorb) = ctx.saved_tensors, ctx.parts
        own = x * scale
        share, none = quotient(relevance, own + shift)
        absorb(by_window(share, shift))
        if none is not None:
            absorb(relevance * none)
        return share * own, None, None, None, None


class Sum(torch.autograd.Function):
    """``p a + q b``; what flows back is relevance."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, p: float, q: float, rule: str, real: tuple) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.parts = p, q, rule, real
        return torch.add(a if p == 1 else a * p, b, alpha=q)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        (a, b), (p, q, rule, (real_a, real_b)) = ctx.saved_tensors, ctx.parts
        a, b = _part(a * p, rule), _part(b * q, rule)
        share, none = quotient(a, a + b)
        if none is not None:
            share.masked_fill_(none, 0.5)
            if real_a is not None:  # padding is no summand that could take a half
                share.masked_fill_(none & ~real_a, 0.0)
            if real_b is not None:
                share.masked_fill_(none & ~real_b, 1.0)
        of_a = relevance * share
        return of_a, relevance - of_a, None, None, None, None


class Average(torch.autograd.Function):
    """A mean, a sum or a pooling by averages; what flows back is relevance."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rule: str, run: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.parts = rule, run
        return run(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None]:
        (x,), (rule, run) = ctx.saved_tensors, ctx.parts
        part = _part(x.detach(), rule)
        with torch.enable_grad():
            probe = torch.ones_like(part).requires_grad_(True)
            count = run(probe)
        share, none = quotient(relevance, run(part))
        (back,) = torch.autograd.grad(count, probe, share, retain_graph=True)
        back = part * back
        if none is not None:  # nothing to go by: even shares
            even, _ = quotient(relevance * none, count.detach())
            back = back + torch.autograd.grad(count, probe, even)[0]
        return back, None, None


class Count(torch.autograd.Function):
    """Count what a constant takes, which ``measure`` tells of what flows back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, measure: Callable[[Tensor], Tensor], absorb: Callable[[Tensor], None]) -> Tensor:
        ctx.parts = measure, absorb
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, flow: Tensor) -> tuple[Tensor, None, None]:
        measure, absorb = ctx.parts
        absorb(measure(flow))
        return flow, None, None


class Stabilise(torch.autograd.Function):
    """The epsilon rule, where what flows back is relevance / value: a factor on the gradient."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, epsilon: float, relative: bool, absorb: Callable[[Tensor], None]) -> Tensor:
        ctx.save_for_backward(z)
        ctx.parts = epsilon, relative, absorb
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (z,), (epsilon, relative, absorb) = ctx.saved_tensors, ctx.parts
        added = _stabiliser(z, epsilon, relative)
        if relative:
            added = added.clamp(min=torch.finfo(z.dtype).tiny)
        part = torch.div(z, z.abs().add_(added))  # written so that no map is passed over more often than it must be
        lost = torch.linalg.vecdot(gradient.flatten(1), part.flatten(1))
        absorb(lost * (added.flatten() if relative else added))
        return part.abs_().mul_(gradient), None, None, None


class Constant(torch.autograd.Function):
    """A constant that stands beside relevance, as in a concatenation; it takes what arrives there."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, constant: Tensor, weight: Any, absorb: Callable[[Tensor], None]) -> Tensor:
        ctx.parts = weight, absorb
        return constant.clone()

    @staticmethod
    def backward(ctx: Any, flow: Tensor) -> tuple[None, None, None, None]:
        weight, absorb = ctx.parts
        absorb(flow * weight)
        return None, None, None, None
