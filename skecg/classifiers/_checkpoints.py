"""Checkpoints of a fit, one a file and epoch, from which an interrupted fit goes on to the same bits."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import marshal
import os
import tempfile
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.history import History

from ..utils._stored import WindowCube
from ..utils._validation import check_number

_FORMAT = 1
_PART = ".part"  # ends the name of a file that is being written
_TRIES = 3


def fit_digest(parameters: dict[str, Any], *arrays: np.ndarray | WindowCube | None) -> str:
    """Return a name for a fit: equal for equal parameters and data, on disk or in memory, and for nothing else."""
    digest = hashlib.sha256(repr(sorted((k, _stable(v)) for k, v in parameters.items())).encode())
    for array in arrays:
        if array is None:
            digest.update(b"none")
            continue
        digest.update(repr((array.shape, array.dtype.str)).encode())
        if isinstance(array, WindowCube):
            for rows in array.blocks():
                digest.update(np.ascontiguousarray(array[rows]).data)
            continue
        digest.update(repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _stable(value: Any) -> str:
    """Write a parameter without the address that repr gives to functions and objects."""
    if isinstance(value, torch.nn.Module):
        weights = hashlib.sha256()
        for name, tensor in value.state_dict().items():
            weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return f"{value!r} {weights.hexdigest()}"
    if isinstance(value, list | tuple):
        return repr([_stable(v) for v in value])
    if isinstance(value, dict):
        return repr(sorted((repr(k), _stable(v)) for k, v in value.items()))
    if isinstance(value, functools.partial):
        return f"partial {_stable([value.func, value.args, value.keywords])}"
    if inspect.ismethod(value):
        return f"{_stable(value.__func__)} of {_stable(value.__self__)}"
    if inspect.isfunction(value):  # two lambdas differ by what they do and what they hold
        code = hashlib.sha256(marshal.dumps(value.__code__)).hexdigest()
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        return f"{value.__qualname__} {code} {_stable([value.__defaults__, value.__kwdefaults__, held])}"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if type(value).__repr__ is object.__repr__:
        return f"{type(value).__qualname__} {sorted((k, _stable(v)) for k, v in vars(value).items())}"
    return repr(value)


def latest(folder: Path, max_epochs: int) -> Path | None:
    """Return the newest checkpoint of the folder that is not beyond ``max_epochs``; None where there is none."""
    found = {int(p.stem.removeprefix("epoch_")): p for p in folder.glob("epoch_[0-9]*.pt")}
    epochs = [epoch for epoch in found if epoch <= max_epochs]
    return found[max(epochs)] if epochs else None


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything of it; ValueError where it is none."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] != _FORMAT:
            raise ValueError(f"format {state['format']}, expected {_FORMAT}")
    except Exception as error:
        raise ValueError(f"{path} is not a checkpoint of this version of skecg: delete it ({error})") from error
    return state


class Checkpoints(Callback):
    """Write weights, optimiser, generators, history and the callbacks' states after each epoch.

    Parameters
    ----------
    folder : Path
        Where the files go; made when the first is written. A checkpoint found in it is gone on from, what a killed
        process left half-written is removed.
    seed : int
        Seed of the fit; that of a checkpoint wins, because ``random_state=None`` draws a new one each time.
    max_epochs : int
        Checkpoints beyond it are not taken.
    epochs : int or sequence of int, default=1
        Which epochs are written: every so many, or these; and the last one.

    Raises
    ------
    ValueError
        For epochs that are no integers of at least 1.
    """

    def __init__(self, folder: Path, seed: int, max_epochs: int, epochs: int | Sequence[int] = 1) -> None:
        for epoch in [epochs] if np.ndim(epochs) == 0 else list(epochs) or [0]:
            check_number("checkpoint_epochs", epoch, low=1, integer=True)
        self.folder, self.max_epochs, self.epochs = folder, max_epochs, epochs
        _sweep(folder)
        found = latest(folder, max_epochs)
        self.state = None if found is None else read(found)
        self.seed = seed if self.state is None else self.state["seed"]

    def restore(self, net: NeuralNet) -> int:
        """Give the net the stored history and optimiser, on which schedulers build; return the epochs done."""
        if self.state is None:
            return 0
        net.history_ = History(json.loads(self.state["history"]))
        net.optimizer_.load_state_dict(self.state["optimizer"])
        return len(net.history_)

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Take up the stored state, after all other callbacks have begun: a new scheduler changes the rates."""
        state, self.state = self.state, None
        if state is None:
            return
        net.module_.load_state_dict(state["module"])
        net.optimizer_.load_state_dict(state["optimizer"])
        for name, part in _stateful(net):
            if name in state["callbacks"]:
                part.load_state_dict(state["callbacks"][name])
        torch.set_rng_state(state["rng"])
        if state["device_rng"] is not None:
            _set_device_rng(net.device, state["device_rng"])
        if state["augment_rng"] is not None and net.augment_generator is not None:
            net.augment_generator.set_state(state["augment_rng"])

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Write the epoch's file under a temporary name, then give it its own."""
        epoch = len(net.history)
        chosen = epoch % self.epochs == 0 if isinstance(self.epochs, Integral) else epoch in self.epochs
        if chosen or epoch == self.max_epochs:
            self._write(net)

    def _write(self, net: NeuralNet) -> None:
        generator = net.augment_generator
        state = {
            "format": _FORMAT,
            "seed": self.seed,
            "module": net.module_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "callbacks": {name: part.state_dict() for name, part in _stateful(net)},
            "history": json.dumps(list(net.history), default=float),
            "rng": torch.get_rng_state(),
            "device_rng": _device_rng(net.device),
            "augment_rng": None if generator is None else generator.get_state(),
        }
        for tries_left in reversed(range(_TRIES)):
            try:
                return self._write_file(state, f"epoch_{len(net.history):04d}.pt")
            except FileNotFoundError:  # the same fit was begun once more meanwhile, and has swept this one's part away
                if not tries_left:
                    raise

    def _write_file(self, state: dict[str, Any], name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(suffix=_PART, dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(part, 0o666 & ~mask)  # mkstemp's 0600 would shut others out of a shared folder
            os.replace(part, self.folder / name)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half-written; the folder is that of one very fit.

    A process that writes there at this moment, of the same fit, loses its part too, and writes it again.
    """
    for part in folder.glob(f"*{_PART}"):
        with contextlib.suppress(OSError):  # Windows does not remove what is open; another may have been faster
            part.unlink()


def _stateful(net: NeuralNet) -> list[tuple[str, Any]]:
    """Return the callbacks that can be stored, and the schedulers inside skorch's LRScheduler."""
    parts = []
    for name, callback in net.callbacks_:
        for part in (callback, getattr(callback, "lr_scheduler_", None)):
            if hasattr(part, "state_dict") and hasattr(part, "load_state_dict"):
                parts.append((name, part))
    return parts


def _device_rng(device: Any) -> torch.Tensor | None:
    kind = torch.device(device).type
    return {"cuda": torch.cuda.get_rng_state, "mps": torch.mps.get_rng_state}.get(kind, lambda: None)()


def _set_device_rng(device: Any, state: torch.Tensor) -> None:
    kind = torch.device(device).type
    {"cuda": torch.cuda.set_rng_state, "mps": torch.mps.set_rng_state}.get(kind, lambda state: None)(state)
