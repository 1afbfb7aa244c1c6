"""Digests of arrays and weights, and the versions of the libraries: what tells how a result was made."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

_BLOCK = 1 << 24  # bytes that are hashed at once: an array need not lie in memory as a whole
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "skorch", "joblib", "wfdb", "captum", "shap")


def array_digest(array: np.ndarray) -> str:
    """Return the SHA-256 of an array: equal for equal shape, type (of whatever byte order) and values.

    Parameters
    ----------
    array : ndarray
        Of numbers, booleans or strings; memory-mapped ones are read block by block.

    Returns
    -------
    digest : str
        64 hexadecimal digits.
    """
    kind = array.dtype.newbyteorder("<")
    digest = hashlib.sha256(repr((array.shape, kind.str)).encode())
    rows = array if array.ndim else array[None]
    step = max(1, _BLOCK // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), step):
        digest.update(np.ascontiguousarray(rows[start : start + step], dtype=kind).data)
    return digest.hexdigest()


def weights_digest(network: torch.nn.Module | Mapping[str, Any]) -> str:
    """Return the SHA-256 of a network's weights: of the names and values of its ``state_dict``.

    Parameters
    ----------
    network : torch.nn.Module or dict
        The network, wherever it is, or its ``state_dict``.

    Returns
    -------
    digest : str
        64 hexadecimal digits.
    """
    import torch

    state = network if isinstance(network, Mapping) else network.state_dict()
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        # as bytes, since NumPy does not know all of torch's types
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _installed() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def library_versions() -> dict[str, str]:
    """Return the versions of skecg, Python and the libraries that results depend on, and the kind of machine.

    Returns
    -------
    versions : dict
        Name to version; ``"platform"`` names the system and processor, never the machine itself.
    """
    from .. import __version__

    machine = f"{platform.system()} {platform.machine()}"
    return {"skecg": __version__, "python": platform.python_version(), "platform": machine, **_installed()}
