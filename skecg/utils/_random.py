"""torch's generators and process-wide switches: set for a while, given back as they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# torch's generators and cuDNN's switches belong to the process: whoever changes them holds this lock meanwhile.
PROCESS_LOCK = threading.RLock()


@contextmanager
def cudnn(**settings: bool) -> Iterator[None]:
    """Set single cuDNN switches for a while, under the process lock.

    ``torch.backends.cudnn.flags()`` turns off all that it is not told to leave on, so it is not used.

    Parameters
    ----------
    **settings : bool
        Attributes of ``torch.backends.cudnn``, such as ``enabled=False``.

    Yields
    ------
    None
        The switches are restored on leaving, also after an exception.
    """
    with PROCESS_LOCK:
        before = {name: getattr(torch.backends.cudnn, name) for name in settings}
        try:
            for name, value in settings.items():
                setattr(torch.backends.cudnn, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(torch.backends.cudnn, name, value)


@contextmanager
def isolated_rng(seed: int, device: str | torch.device) -> Iterator[None]:
    """Run torch from ``seed`` and give its generators back as they were.

    ``torch.manual_seed`` would reseed every GPU, so only the generators in use are touched. cuDNN is held to
    deterministic algorithms meanwhile.

    Parameters
    ----------
    seed : int
        Seed of the CPU's generator and of the device's.
    device : str or torch.device
        Where the network trains.

    Yields
    ------
    None
        Generators and switches are restored on leaving, also after an exception.
    """
    device = torch.device(device)
    cuda = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    kind = {"device_type": "mps", "devices": [0]} if device.type == "mps" else {"devices": cuda}
    with PROCESS_LOCK, torch.random.fork_rng(**kind), cudnn(deterministic=True, benchmark=False):
        torch.default_generator.manual_seed(seed)
        for i in cuda:
            torch.cuda.default_generators[i].manual_seed(seed)
        if device.type == "mps":
            torch.mps.manual_seed(seed)
        yield
