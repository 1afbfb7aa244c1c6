"""The private twin of a network: predictions and explanations run on it, never on the user's own module."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ._random import PROCESS_LOCK

# A child forked after a backward pass hangs in autograd (its worker threads are not forked), so it is told instead.
_state = {"backward_in_parent": False, "backward_here": False}
if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=lambda: _state.update(backward_in_parent=_state["backward_here"]))


def private_twin(module: nn.Module) -> nn.Module:
    """Return a copy of the module that shares the storage of its parameters and buffers.

    The twin is in eval mode, wants no parameter gradients and belongs to the caller alone: hooks, flags and folded
    layers live on it, so that nothing has to be restored, exceptions leave nothing behind and threads cannot meet.
    It follows later changes of the weights.

    Parameters
    ----------
    module : torch.nn.Module
        The user's network, in any mode; left as found.

    Returns
    -------
    twin : torch.nn.Module
        In eval mode.
    """
    memo: dict = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor):  # such as the weight that weight_norm computes, which is no leaf
                memo.setdefault(id(value), value.detach())
    return copy.deepcopy(module, memo).eval()


@contextmanager
def plain_torch(device: str | torch.device, *, gradient: bool) -> Iterator[None]:
    """Run as if no caller had switched anything: no inference mode, no autocast, float32, gradients on or off as asked.

    Parameters
    ----------
    device : str or torch.device
        Where the network is.
    gradient : bool
        Whether a graph is built.

    Yields
    ------
    None
        The caller's modes are back on leaving.

    Raises
    ------
    RuntimeError
        In a process that was forked after a backward pass, where torch would hang for ever.
    """
    if gradient:
        if _state["backward_in_parent"]:
            raise RuntimeError(
                "this process was forked after a gradient pass of its parent, where torch's autograd hangs: use "
                "joblib's loky backend (its default) or multiprocessing's spawn method instead of fork"
            )
        _state["backward_here"] = True
    kind = torch.device(device).type
    with torch.inference_mode(False), torch.set_grad_enabled(gradient), torch.autocast(kind, enabled=False):
        if torch.get_default_dtype() is torch.float32:
            yield
            return
        with PROCESS_LOCK:  # the default belongs to the process
            before = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
            try:
                yield
            finally:
                torch.set_default_dtype(before)
