"""Networks of skecg.models by name and settings: read off an instance, and built again within a file's bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..classifiers._modules import SIGNAL
from ..models._resnet import BLOCKS
from ..utils._twin import plain_torch, private_twin
from ._registry import NETWORKS

_LARGEST = 2**20  # of a setting: no kernel, width or segment comes near it
_CALLS = 50  # of torch, for each tensor of the file, that building its network may take
_ZIHLMANN = {
    "width": "blocks.0.layers.0.0.out_channels",
    "dropout": "blocks.0.drop.p",
    "growth": lambda net: net.blocks[0].n_channels - net.blocks[0].layers[0][0].out_channels,
    "fs": "spectrogram.fs",
    "scale": "spectrogram.scale",
    "floor": "spectrogram.floor",
    "nperseg": "spectrogram.nperseg",
    "noverlap": lambda net: net.spectrogram.nperseg - net.spectrogram.hop,
    "momentum": "blocks.0.layers.0.1.momentum",
}
# Where the settings of each network are to be read.
_SETTINGS: dict[str, dict[str, str | Callable[[Any], Any]]] = {
    "ECGNet": {
        "width": "cnn.stem.0.out_channels",
        "dropout": "cnn.blocks.0.body.3.p",
        "branch_dropout": "branch_dropout",
        "kernel": "cnn.blocks.0.body.0.kernel_size.0",
        "step": "lstm.step",
        "hidden": "lstm.lstm.hidden_size",
    },
    "ECGLSTM": {"width": "steps.lstm.hidden_size", "dropout": "steps.lstm.dropout", "step": "steps.step"},
    "HannunNet": {
        "width": "stem.0.out_channels",
        "dropout": "blocks.0.drop.p",
        "kernel": "stem.0.kernel_size.0",
        "reduce": "reduce",
        "momentum": "final_bn.momentum",
    },
    "ResNet1d": {
        "width": "stem.0.out_channels",
        "depth": lambda net: {tuple(n): depth for depth, n in BLOCKS.items()}[tuple(map(len, net.stages))],
        "kernel": "stem.0.kernel_size.0",
        "dropout": "drop.p",
        "momentum": "stem.1.momentum",
    },
    "RibeiroNet": {
        "variant": "variant",
        "width": "conv1.out_channels",
        "dropout": "resblock1d_0.dropout1.p",
        "kernel_size": "conv1.kernel_size.0",
        "momentum": "bn1.momentum",
    },
    "ZihlmannCNN": _ZIHLMANN,
    "ZihlmannCRNN": {**_ZIHLMANN, "hidden": "lstm_forward.hidden_size"},
}


def settings_of(net: nn.Module) -> dict[str, Any] | None:
    """Return the arguments that make such a network again; None where no network of skecg.models is exactly like it.

    Parameters
    ----------
    net : torch.nn.Module
        Any network; left as it is.

    Returns
    -------
    settings : dict or None
        Keyword arguments of its class.
    """
    name = type(net).__name__
    if NETWORKS.get(name) is not type(net):
        return None
    try:
        found = {key: _look(net, where) for key, where in _SETTINGS[name].items()}
        found |= {key: getattr(net, key) for key in SIGNAL}
        with plain_torch("cpu", gradient=False), torch.device("meta"):
            same = _described(type(net)(**found)) == _described(net)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # a layer was replaced
        return None
    return found if same else None


def check_network(name: str, settings: dict[str, Any], weights: Mapping[str, np.ndarray]) -> None:
    """Compare the network that settings make with the weights of a file, without memory for it.

    Parameters
    ----------
    name : str
        Of NETWORKS.
    settings : dict
        Keyword arguments.
    weights : mapping of str to ndarray
        Its state dict.

    Raises
    ------
    ValueError
        Where the settings give no network, or one of other weights.
    """
    large = {key for key, value in settings.items() if isinstance(value, int) and abs(value) > _LARGEST}
    if large - set(SIGNAL):
        raise ValueError(f"{name} has settings beyond {_LARGEST}: {sorted(large)}")
    try:
        with _Bounded(1000 + _CALLS * len(weights)), torch.device("meta"):
            net = NETWORKS[name](**settings)
    except TypeError as error:  # Python's own, for an argument that it does not take
        raise ValueError(f"{name} cannot be built from the settings of the file: {error}") from error
    check_weights(net, weights)


def build_network(name: str, settings: dict[str, Any], weights: Mapping[str, np.ndarray]) -> nn.Module:
    """Return a network with its weights, after ``check_network``."""
    check_network(name, settings, weights)
    net = NETWORKS[name](**settings)
    put_weights(net, weights)
    return net


def check_weights(net: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError unless the weights have the network's names, shapes and types, and are finite."""
    state, kind = net.state_dict(), type(net).__name__
    stray = sorted(state.keys() ^ weights.keys())
    if stray:
        raise ValueError(f"{kind} and the weights of the file differ in {stray[:5]}: it is another network")
    for name, tensor in state.items():
        array = weights[name]
        dtype = str(tensor.dtype).removeprefix("torch.")
        if not isinstance(array, np.ndarray) or array.shape != tuple(tensor.shape) or str(array.dtype) != dtype:
            got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ValueError(f"{name} of {kind} is {dtype} {tuple(tensor.shape)}; the file has {got}: another network")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} of {kind} has NaN or infinite weights")


def put_weights(net: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Give a network its weights, all of them and no others; ValueError where they do not fit."""
    check_weights(net, weights)
    net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()}, strict=True)


def reference_logits(net: nn.Module, x: np.ndarray) -> np.ndarray:
    """Return the logits of windows on the CPU, whatever device the network is on; it is left as found."""
    with plain_torch("cpu", gradient=False):
        twin = private_twin(net).to("cpu")  # the twin's own parameters move, not the network's
        return twin(torch.from_numpy(np.repeat(x, 2, axis=0))).numpy()[:1].astype(np.float64)


class _Bounded(TorchFunctionMode):
    """Counts torch's calls, so that settings cannot ask for a network of a million layers."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._left = most

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError("the settings ask for a network of far more layers than the file has weights for")
        return func(*args, **(kwargs or {}))


def _look(net: nn.Module, where: str | Callable[[Any], Any]) -> Any:
    if callable(where):
        return where(net)
    return reduce(lambda part, key: part[int(key)] if key.isdigit() else getattr(part, key), where.split("."), net)


def _described(net: nn.Module) -> list[tuple]:
    """Return what makes a network compute as it does, but for its weights."""
    plain = bool | int | float | str | tuple | type(None)
    found = []
    for name, part in net.named_modules():
        own = {key: value for key, value in vars(part).items() if isinstance(value, plain) and key != "training"}
        hooks = [key for key, value in vars(part).items() if key.endswith("_hooks") and value]
        found.append((name, type(part), part.extra_repr(), sorted(own.items(), key=lambda pair: pair[0]), hooks))
    state = [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in net.state_dict().items()]
    return [*found, *state]
