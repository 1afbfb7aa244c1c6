"""A network's own forward pass, seen operation by operation, so that its backward pass is relevance propagation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from ._lrp_rules import (
    LINEAR_RULES,
    Affine,
    Average,
    Constant,
    Count,
    Layer,
    Ratio,
    Settings,
    Stabilise,
    Sum,
    Through,
    Trace,
    Weigh,
    by_window,
)

_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_IN_PLACE = {"__iadd__": "add", "__isub__": "sub", "__imul__": "mul", "__itruediv__": "div"}
_VALUES = ("item", "tolist", "numpy", "__array__", "__bool__", "__float__", "__int__", "__index__", "equal", "allclose")
HANDLERS: dict[str, Callable[..., Any]] = {}  # name of a torch function -> its rule


class Propagation(TorchFunctionMode):
    """Run a network's own forward pass so that its backward pass is relevance propagation.

    Every operation on a tensor that depends on the input comes by here, whether a module calls it or a forward method
    does; one without a rule is refused by name. A backward pass hands down relevance, or, where all rules allow it,
    relevance divided by value, which is a gradient.

    Parameters
    ----------
    net : torch.nn.Module
        A private twin in eval mode; it gets hooks, and loses those on its backward pass.
    settings : Settings
        The rules.
    """

    def __init__(self, net: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.net, self.settings = net, settings
        self.absorbed: dict[str, list[Tensor]] = {}
        self._stack: list[tuple[str, nn.Module]] = []
        self._n = 0
        self._replaced: list[Trace] = []  # of tensors that were written into
        self._written: dict[StorageWeakRef, str] = {}  # their memory, and the operation
        for name, part in net.named_modules():
            # a hook of the user's on gradients would be handed relevance, and stand between two operations
            part._backward_hooks.clear()
            part._backward_pre_hooks.clear()
            part.register_forward_pre_hook(lambda module, _, name=name: self._stack.append((name, module)))
            part.register_forward_hook(lambda *_: self._leave(), always_call=True)

    def _leave(self) -> None:
        self._stack.pop()

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the input that starts the graph, and the network's logits."""
        self.absorbed, self._stack, self._n = {}, [], len(x)
        x = x.detach().requires_grad_(True)
        x._lrp = Trace(is_input=True)
        try:
            with self:
                out = self._now(self.net(x))
            self._read(out, "the network's answer")
        finally:
            for trace in self._replaced:  # else a cycle through autograd's graph, which no collector of Python's sees
                trace.became = None
            self._replaced.clear()
            self._written.clear()
        return x, out

    def relevance(self, x: Tensor, logits: Tensor, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the relevance of the input to one logit a window, and what each layer absorbed (n,), float64."""
        chosen = logits.detach().gather(1, index[:, None])
        if not logits.requires_grad:  # nothing in the answer depends on the input
            return torch.zeros_like(x.detach()), {type(self.net).__name__: chosen[:, 0].cpu().double()}
        self._trace(logits)
        gradient = self.settings.as_gradient
        start = torch.zeros_like(logits).scatter(1, index[:, None], torch.ones_like(chosen) if gradient else chosen)
        (flow,) = torch.autograd.grad(logits, x, start, allow_unused=True)
        flow = torch.zeros_like(x) if flow is None else flow
        zero = torch.zeros(len(x), dtype=torch.float64)
        absorbed = {name: sum((p.cpu().double() for p in parts), zero) for name, parts in self.absorbed.items()}
        return (x.detach() * flow if gradient else flow), absorbed

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Answer a call of a torch function by its rule."""
        args, kwargs = self._now(args), self._now(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if name in ("__get__", "__set__"):
            name = func.__self__.__name__ if name == "__get__" else name
        base = name[:-1] if name.endswith("_") and not name.endswith("__") else _IN_PLACE.get(name, name)
        depends = any(map(_depends, _tensors((args, kwargs))))
        handler = HANDLERS.get(base) if depends else None
        if handler is None:
            if depends and (base != name or name in ("__setitem__", "__set__")):
                self.refuse(name)
            out = func(*args, **kwargs)
            made = list(_tensors(out))
            if depends and any(map(_depends, made)):
                self.refuse(name)
            if made or name in _VALUES:  # a shape may be asked of any tensor
                self._read((args, kwargs), name)
            return out
        self._read((args, kwargs), name)
        if inspect.isfunction(func) and any(isinstance(value, bool) for value in args):  # inplace, by position
            args, kwargs = (), dict(inspect.signature(func).bind(*args, **kwargs).arguments)
        in_place = base != name or kwargs.pop("inplace", False) is True
        tracked = [t for t in _tensors((args, kwargs)) if t.requires_grad]
        traces = [self._trace(t) for t in tracked]
        if base != name:
            func = getattr(F, base, getattr(torch, base, func))
        out = handler(self, func, *args, **kwargs)
        outs = [t for t in _tensors(out) if t.requires_grad]
        if in_place and not outs:
            self.refuse(f"an in-place {base}", " whose gradient is switched off")
        for t in outs:
            if not hasattr(t, "_lrp"):
                t._lrp = Trace(all(trace.is_input for trace in traces))
        if outs and not any(t is tracked[0] for t in outs):  # dropout in eval mode hands its input through
            for trace in traces:
                trace.uses += 1
            if in_place:
                self._replace(next(_tensors((args, kwargs))), out, name)
        return out

    # ------------------------------------------------------------------------------------------------- bookkeeping

    def _now(self, value: Any) -> Any:
        """Replace tensors by what in-place operations have made of them."""
        if isinstance(value, Tensor):
            while getattr(value, "_lrp", None) is not None and value._lrp.became is not None:
                value = value._lrp.became
            return value
        if type(value) in (list, tuple):
            return type(value)(map(self._now, value))
        return {k: self._now(v) for k, v in value.items()} if isinstance(value, dict) else value

    def _replace(self, target: Tensor, out: Tensor, name: str) -> None:
        """Note what an in-place operation has made of a tensor, whose own values stay as they were."""
        if not hasattr(target, "_lrp"):  # a constant until now
            target._lrp = Trace(is_input=False)
        target._lrp.became = out
        self._replaced.append(target._lrp)
        memory = StorageWeakRef(target.untyped_storage())  # keeps the name of the memory, not the memory
        if memory != StorageWeakRef(out.untyped_storage()):  # unsqueeze_ and the like write nothing
            self._written[memory] = name

    def _read(self, value: Any, reader: str) -> None:
        """Raise ValueError where a tensor shares memory with another one that was written into: it has old values."""
        for t in _tensors(value) if self._written else ():
            name = self._written.get(StorageWeakRef(t.untyped_storage()))
            if name is not None:
                why = f": {reader} reads it by another view. Do it out of place"
                self.refuse(f"an in-place operation ({name}) on shared memory", why)

    def _trace(self, tensor: Tensor) -> Trace:
        """Return what is known of a tensor; ValueError where it was made unseen."""
        if not hasattr(tensor, "_lrp"):
            made = type(tensor.grad_fn).__name__.removesuffix("Backward") if tensor.grad_fn is not None else "a leaf"
            self.refuse(f"{made} (an autograd function of its own, or compiled code)")
        return tensor._lrp

    @property
    def where(self) -> str:
        """Dotted name of the module that runs; of the network itself its class."""
        return self._stack[-1][0] if self._stack and self._stack[-1][0] else type(self.net).__name__

    def sink(self) -> Callable[[Tensor], None]:
        """Return where the running module's operation reports the relevance that it keeps."""
        name, n = self.where, self._n
        parts = self.absorbed.setdefault(name, [])

        def absorb(lost: Tensor) -> None:
            if lost.shape[0] % n:
                raise ValueError(f"{name} moves the windows from the first axis, which LRP cannot follow")
            parts.append(lost.detach().reshape(n, lost.shape[0] // n, -1).sum((1, 2)))

        return absorb

    def refuse(self, what: str, why: str = "") -> None:
        """Raise ValueError for an operation without a rule."""
        name, module = self._stack[-1] if self._stack else ("", self.net)
        inside = f"layer {name!r} ({type(module).__name__})" if name else type(module).__name__
        if what.removesuffix("_cell") in _RECURRENT:
            why = (
                ": relevance has no agreed rule through recurrent gates. Explain this network by IntegratedGradients, "
                "MaskDeletion or GradCAM1D; HannunNet and RibeiroNet are networks that LRP takes"
            )
        raise ValueError(f"LRP has no rule for {what} in {inside}{why}. It knows {KNOWN}")


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _depends(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


# ------------------------------------------------------------------------------------------ the rules by operation


def _rule(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``handler(run, func, *args, **kwargs)`` for torch functions of these names."""

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def _apply(run: Propagation, x: Tensor, layer: Layer, native: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the layer's output, with its rule behind it."""
    absorb, trace = run.sink(), Trace(is_input=False)
    if run.settings.as_gradient:
        out = native(x)
        out = out if layer.bias is None else Count.apply(out, lambda flow: by_window(flow, layer.bias), absorb)
        if layer.rule == "epsilon" and run.settings.epsilon > torch.finfo(out.dtype).tiny:
            out = Stabilise.apply(out, run.settings.epsilon, run.settings.relative, absorb)
    else:
        layer.absorb, layer.output, trace.layer = absorb, trace, layer
        out = Weigh.apply(x, layer, native)
    out._lrp = trace
    return out


def _chosen(run: Propagation, x: Tensor, kind: str) -> tuple[str, bool]:
    """Return a layer's rule, and whether its bias takes relevance."""
    rule = run.settings.of(kind, x._lrp.is_input)
    return rule, rule in LINEAR_RULES if run.settings.bias is None else run.settings.bias


def _refuse_dependent(run: Propagation, func: Any, *parameters: Any) -> None:
    if any(map(_depends, parameters)):
        run.refuse(func.__name__, " with a weight, bias or statistic that depends on the input")


@_rule("conv1d", "conv2d")
def _conv(
    run: Propagation, func: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    n_dims = weight.ndim - 2
    _refuse_dependent(run, func, weight, bias)
    if input.ndim != n_dims + 2:
        run.refuse(func.__name__, f" without an axis of windows (input of shape {tuple(input.shape)})")
    x = input
    if padding == "valid":
        padding = 0
    elif padding == "same":
        steps = [dilation] * n_dims if isinstance(dilation, int) else dilation
        total = [step * (size - 1) for step, size in zip(steps, weight.shape[2:], strict=True)]
        around = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
        x, padding = _pad(run, F.pad, x, around), 0
    transpose = getattr(torch.nn.grad, f"{func.__name__}_input")

    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return func(x, weight, None, stride, padding, dilation, groups)

    def backward(s: Tensor, weight: Tensor, shape: Any) -> Tensor:
        return transpose(shape, weight, s, stride, padding, dilation, groups)

    rule, kept = _chosen(run, x, "conv")
    wide = None if bias is None else bias.reshape(-1, *[1] * n_dims)
    layer = Layer(forward, backward, weight, wide, rule, kept, run.settings, x._lrp.real, True)
    return _apply(run, x, layer, lambda x: func(x, weight, bias, stride, padding, dilation, groups))


@_rule("linear")
def _linear(run: Propagation, func: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    _refuse_dependent(run, func, weight, bias)
    rule, kept = _chosen(run, input, "dense")
    real = input._lrp.real
    real = None if real is None or real.shape[1:-1].numel() > 1 else real.reshape(1, -1)
    layer = Layer(F.linear, lambda s, w, shape: s @ w, weight, bias, rule, kept, run.settings, real, False)
    return _apply(run, input, layer, lambda x: F.linear(x, weight, bias))


@_rule("batch_norm")
def _batch_norm(
    run: Propagation, func: Any, input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
    weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False, momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    _refuse_dependent(run, func, running_mean, running_var, weight, bias)
    if func is not F.batch_norm or training or running_mean is None:
        run.refuse("batch_norm", " with the statistics of a batch; running statistics make it affine")
    scale = (running_var.double() + eps).rsqrt()
    scale = scale if weight is None else scale * weight.double()
    shift = -running_mean.double() * scale
    shift = shift if bias is None else shift + bias.double()
    wide = (-1, *[1] * (input.ndim - 2))
    scale, shift = scale.to(input.dtype).reshape(wide), shift.to(input.dtype).reshape(wide)

    def native(x: Tensor) -> Tensor:
        return torch.addcmul(shift, x, scale)

    if run.settings.as_gradient:
        return Count.apply(native(input), lambda flow: by_window(flow, shift), run.sink())
    if run.settings.norms == "affine":
        return Affine.apply(input, scale, shift, run.sink(), native)
    layer = input._lrp.layer
    if run.settings.norms == "merge" and layer is not None and (layer.is_conv or input.ndim == 2):
        layer.norm = scale.flatten(), shift.flatten()
    return Through.apply(input, native)


@_rule("relu", "leaky_relu", "prelu")
def _homogeneous(run: Propagation, func: Any, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    _refuse_dependent(run, func, *args, *kwargs.values())
    if run.settings.as_gradient:  # value times gradient is the same before and behind
        return func(input, *args, **kwargs)
    return Through.apply(input, lambda x: func(x, *args, **kwargs))


@_rule("elu", "selu", "celu", "tanh", "softsign", "hardtanh", "relu6")
def _activation(run: Propagation, func: Any, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    zero = func(input.new_zeros(1), *args, **kwargs)
    if zero.item() != 0:
        run.refuse(func.__name__, " that is not zero at zero")
    node = Ratio if run.settings.as_gradient else Through
    return node.apply(input, lambda x: func(x, *args, **kwargs))


@_rule("dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_alpha_dropout")
def _dropout(run: Propagation, func: Any, input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    if training and p:
        run.refuse(func.__name__, " that is active although the network is not being trained")
    return input


@_rule("max_pool1d", "max_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "amax")
def _winner(run: Propagation, func: Any, *args: Any, **kwargs: Any) -> Any:
    return func(*args, **kwargs)  # the gradient goes to the winner, whole


@_rule("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "mean", "sum")
def _average(run: Propagation, func: Any, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if run.settings.as_gradient:
        return func(input, *args, **kwargs)
    return Average.apply(input, run.settings.sums, lambda x: func(x, *args, **kwargs))


def _constant(like: Tensor, value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def _combine(run: Propagation, a: Any, b: Any, p: float, q: float) -> Tensor:
    """Return ``p a + q b`` of two tensors, one of which may be a constant."""
    both = [isinstance(v, Tensor) and v.requires_grad for v in (a, b)]
    gradient, rule = run.settings.as_gradient, run.settings.sums
    if all(both):
        real = a._lrp.real, b._lrp.real
        a, b = torch.broadcast_tensors(a, b)
        if not gradient:
            return Sum.apply(a, b, p, q, rule, real)
        return torch.add(a if p == 1 else a * p, b, alpha=q)
    x, constant, p, q = (a, b, p, q) if both[0] else (b, a, q, p)
    constant = _constant(x, constant) * q
    x = x.expand(torch.broadcast_shapes(x.shape, constant.shape))

    def native(x: Tensor) -> Tensor:
        return (x if p == 1 else x * p) + constant

    if gradient:
        return Count.apply(native(x), lambda flow: flow * constant, run.sink())
    return Affine.apply(x, p, constant, run.sink(), native) if rule == "z" else Through.apply(x, native)


@_rule("add", "__radd__")
def _add(run: Propagation, func: Any, input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    return _combine(run, input, other, 1, alpha)


@_rule("sub", "subtract")
def _sub(run: Propagation, func: Any, input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    return _combine(run, input, other, 1, -alpha)


@_rule("__rsub__", "rsub")
def _rsub(run: Propagation, func: Any, input: Any, other: Any) -> Tensor:
    return _combine(run, input, other, -1, 1)


@_rule("neg", "negative")
def _neg(run: Propagation, func: Any, input: Tensor) -> Tensor:
    return _scaled(run, input, -1.0)


@_rule("mul", "multiply", "__rmul__")
def _mul(run: Propagation, func: Any, input: Any, other: Any) -> Tensor:
    return _scaled(run, *((input, other) if _depends(input) else (other, input)))


@_rule("div", "divide", "true_divide")
def _div(run: Propagation, func: Any, input: Any, other: Any) -> Tensor:
    if not _depends(input) or _depends(other):
        run.refuse("div", " by what depends on the input")
    return _scaled(run, input, 1 / _constant(input, other))


def _scaled(run: Propagation, x: Tensor, factor: Any) -> Tensor:
    if _depends(factor):
        run.refuse("mul", " of two tensors that both depend on the input, such as attention or a gate")
    factor = _constant(x, factor)
    x = x.expand(torch.broadcast_shapes(x.shape, factor.shape))
    if run.settings.as_gradient:
        return x * factor
    if not bool(factor.all()):  # what is multiplied by zero hands nothing on
        return Affine.apply(x, factor, torch.zeros_like(factor), run.sink(), lambda x: x * factor)
    return Through.apply(x, lambda x: x * factor)


@_rule("pad")
def _pad(
    run: Propagation, func: Any, input: Tensor, pad: Any, mode: str = "constant", value: float | None = None
) -> Tensor:
    out = F.pad(input, pad, mode, value)
    if mode != "constant":
        return out  # copies of samples, which get their relevance back
    axes = len(pad) // 2
    shape = [size if i >= input.ndim - axes else 1 for i, size in enumerate(input.shape)]
    real = torch.ones(shape, dtype=input.dtype, device=input.device)
    own = 1 - F.pad(real, pad)  # the padding of an earlier one has been counted there
    real = F.pad(real if input._lrp.real is None else real * input._lrp.real, pad)
    if run.settings.as_gradient:
        if value and value > -torch.inf:
            out = Count.apply(out, lambda flow: flow * own * value, run.sink())
    elif axes == 1 and min(pad) >= 0:
        inner = slice(pad[0], out.shape[-1] - pad[1])
        ends = slice(0, inner.start), slice(inner.stop, None)
        out = Count.apply(out, lambda flow: torch.cat([flow[..., end] for end in ends], -1), run.sink())
    else:
        out = Count.apply(out, lambda flow: flow * own, run.sink())
    out._lrp = Trace(input._lrp.is_input)
    out._lrp.real = real > 0
    return out


@_rule("cat", "concat", "concatenate", "stack")
def _together(run: Propagation, func: Any, tensors: Any, *args: Any, **kwargs: Any) -> Tensor:
    anchor, gradient = next(t for t in tensors if t.requires_grad), run.settings.as_gradient
    tensors = [
        t if t.requires_grad or not t.numel() else Constant.apply(anchor, t, t if gradient else 1.0, run.sink())
        for t in tensors
    ]
    return func(tensors, *args, **kwargs)


@_rule(
    "reshape", "view", "flatten", "unflatten", "ravel", "squeeze", "unsqueeze", "transpose", "permute", "movedim",
    "moveaxis", "swapaxes", "swapdims", "T", "mT", "__getitem__", "narrow", "select", "split", "chunk", "unbind",
    "tensor_split", "expand", "expand_as", "repeat", "unfold", "flip", "roll", "contiguous", "clone", "to", "float",
    "double", "type_as", "broadcast_to", "broadcast_tensors",
)  # fmt: skip
def _place(run: Propagation, func: Any, *args: Any, **kwargs: Any) -> Any:
    return func(*args, **kwargs)  # every value goes somewhere else, and its relevance comes back


KNOWN = ", ".join(sorted(name for name in HANDLERS if not name.startswith("_")))
