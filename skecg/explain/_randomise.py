"""A network whose layers get new weights, one after the other from its head, on a copy of the caller's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import nn

from ..utils._random import isolated_rng
from ..utils._twin import plain_torch, private_twin

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_NORMS = (*_BATCH_NORMS, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_BATCH = 64  # most windows from which one batch of statistics is taken, roughly


@dataclass(frozen=True)
class Layer:
    """Modules that get new weights together.

    Parameters
    ----------
    name : str
        Of the first one that is no normalisation; of the network itself, its class.
    modules : tuple of str
        Names of the modules.
    begins : int
        When the first of them was first called in the forward pass.
    """

    name: str
    modules: tuple[str, ...]
    begins: int


class RandomisedNetwork:
    """A network of the caller's own whose layers can be given new weights, and the old ones back.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place; of the caller's own.
    data : ndarray of shape (n_samples, n_leads, n_timesteps)
        Input from which the statistics of batch norms are estimated.
    device : str
        Where the network is.
    """

    def __init__(self, module: nn.Module, data: np.ndarray, device: str) -> None:
        self.module, self.data, self.device = module, data, device
        tensors = (*module.parameters(), *module.buffers())
        with plain_torch(device, gradient=False):
            self._trained = [(tensor, tensor.detach().clone()) for tensor in tensors]
            self._trace()

    def _trace(self) -> None:
        """Find the layers from the head down, by the order of a forward pass, and when each module ends."""
        begins: dict[str, int] = {}
        ends: dict[str, int] = {}
        clock = count()

        def begin(name: str) -> None:
            begins.setdefault(name, next(clock))

        def end(name: str) -> None:
            ends[name] = next(clock)  # of a module that is called again, the last end

        twin = private_twin(self.module)
        for name, part in twin.named_modules():
            part.register_forward_pre_hook(lambda *_, name=name: begin(name))
            part.register_forward_hook(lambda *_, name=name: end(name))
        twin(self._tensor(self.data[:2]))

        owned: dict[str, list[str]] = {}
        for name, part in self.module.named_modules():
            if next(part.parameters(recurse=False), None) is None:
                continue
            owner = name  # parameters that are used without a call of their module count with the one that holds it
            while owner not in ends or "parametrizations" in owner.split("."):
                owner = owner.rpartition(".")[0]
            owned.setdefault(owner, []).append(name)
        groups: list[list[str]] = []
        for owner in sorted(owned, key=ends.__getitem__):
            open_group = groups and (self._is_norm(owner) or all(map(self._is_norm, groups[-1])))
            groups[-1].append(owner) if open_group else groups.append([owner])
        self.layers = []
        for group in reversed(groups):
            name = next((one for one in group if not self._is_norm(one)), group[0])
            modules = tuple(part for owner in group for part in owned[owner])
            first = min(begins[owner] for owner in group)
            self.layers.append(Layer(name or type(self.module).__name__, modules, first))
        self._ends = ends

    def _is_norm(self, name: str) -> bool:
        return isinstance(self.module.get_submodule(name), _NORMS)

    def _tensor(self, rows: np.ndarray) -> torch.Tensor:
        # a lone window has no variance over a batch; a copy, for networks that write into their input
        return torch.from_numpy(np.repeat(rows, 2 if len(rows) == 1 else 1, axis=0)).to(self.device)

    def randomise(self, layers: Sequence[int], seeds: np.ndarray) -> None:
        """Give some layers new weights and all others the trained ones.

        The statistics of batch norms after the first of these layers are estimated from the data: those of the trained
        weights would let maps vanish or grow from layer to layer. Gain and shift of a batch norm that is not among the
        layers stay as they are.

        Parameters
        ----------
        layers : sequence of int
            Positions from the head.
        seeds : ndarray of int, shape (n_layers,)
            From which the weights of each layer are drawn, whatever the others.
        """
        with plain_torch(self.device, gradient=False):
            for tensor, trained in self._trained:
                tensor.copy_(trained)
        for i in layers:
            reinitialise([self.module.get_submodule(name) for name in self.layers[i].modules], seeds[i], self.device)
        self._settle(min(self.layers[i].begins for i in layers))

    def _settle(self, begins: int) -> None:
        """Estimate the statistics of the batch norms that end after a moment of the forward pass."""
        norms = [
            part
            for name, part in self.module.named_modules()
            if isinstance(part, _BATCH_NORMS) and part.running_mean is not None and self._ends.get(name, -1) > begins
        ]
        if not norms:
            return
        momentum = [part.momentum for part in norms]
        self.module.eval()
        for part in norms:
            part.reset_running_stats()
            part.momentum = None  # the mean over all batches, each with the same weight
            part.train()
        with plain_torch(self.device, gradient=False):
            for rows in np.array_split(self.data, max(1, len(self.data) // _BATCH)):
                self.module(self._tensor(rows))
        self.module.eval()
        for part, before in zip(norms, momentum, strict=True):
            part.momentum = before


def reinitialise(parts: Iterable[nn.Module], seed: int, device: str) -> None:
    """Give modules new parameters, in place, but not what they hold.

    A module that holds no other one and has ``reset_parameters`` uses it. Any other parameter, and what it leaves (as
    of a weight norm), is drawn from a normal distribution with mean zero and the root mean square of its values.

    Parameters
    ----------
    parts : iterable of torch.nn.Module
        Changed in place.
    seed : int
        Of what is drawn; torch's generators are left as found.
    device : str
        Where the modules are.
    """
    with isolated_rng(int(seed), device), plain_torch(device, gradient=False):
        for part in parts:
            own = list(part.parameters(recurse=False))
            before = [parameter.detach().clone() for parameter in own]
            known = hasattr(part, "reset_parameters") and next(part.children(), None) is None
            if known:
                part.reset_parameters()
            for parameter, old in zip(own, before, strict=True):
                # ones and zeros of a normalisation are what a reset gives, and no sign that it did nothing
                left = torch.equal(parameter, old) and len(old.unique()) > 1
                if left or not known:
                    parameter.normal_(0.0, float(old.square().mean().sqrt().nan_to_num()))
