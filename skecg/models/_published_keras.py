"""Weights of RibeiroNet out of a Keras HDF5 file: numbers by order and shape, and nothing else of it."""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ._published_checks import N_TIMESTEPS, Unfit, checked, expected_shapes

_STEPS = N_TIMESTEPS // 256
_MAX_NAMES, _MAX_TEXT = 1000, 2**28  # of one attribute: entries, and bytes in memory
# Where HDF5 keeps texts of any length: signature, version, three bytes and the length of the whole, little-endian.
_HEAP = re.compile(rb"GCOL\x01(?=.{3}(.{8}))", re.DOTALL)
_MAX_HEAPS = 100_000


def from_hdf5(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return state dict and settings from a Keras file."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path} is HDF5, which needs h5py: pip install skecg[hdf5]") from error
    try:
        with h5py.File(path, "r") as file:
            group = _member(file, "model_weights") if "model_weights" in file else file
            return _from_layers(list(_layers(group, _longest_text(path))))
    except (Unfit, MemoryError):
        raise
    except Exception as error:  # a damaged file makes h5py raise whatever it stumbles over
        raise Unfit(f"it is truncated or damaged ({type(error).__name__}: {error}): download it again") from error


def _layers(group: Any, longest: int) -> Iterator[list[Any]]:
    """Yield the data sets of each layer that has weights, in the file's order; none of them read yet."""
    if "layer_names" not in group.attrs:
        ordered = "layers" not in group
        came = "no Keras file" if ordered else "the .weights.h5 of Keras 3, which keeps no order: save the model as .h5"
        raise Unfit(f"it has no layer_names, so it is {came}")
    for layer in _names(group, "layer_names", longest):
        inside = _member(group, layer)
        weights = [_member(inside, name) for name in _names(inside, "weight_names", longest)]
        if weights:
            yield weights


def _longest_text(path: Path) -> int:
    """Return how many bytes a text of any length in an HDF5 file can have: it lies whole in one of the file's heaps."""
    longest = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for n, heap in enumerate(_HEAP.finditer(data)):
            if n == _MAX_HEAPS:
                raise Unfit(f"it has more than {n} places for texts, far more than names of layers need")
            size = int.from_bytes(heap[1], "little")
            if heap.start() + size <= len(data):  # otherwise HDF5 refuses it, or these bytes are numbers
                longest = max(longest, size)
    return longest


def _names(group: Any, attribute: str, longest: int) -> list[str]:
    """Return an attribute that lists names; anything but text is refused, and what may not fit into memory.

    Many entries of an attribute can be one and the same text in the file, and are as many texts when they are read.
    """
    import h5py

    if attribute not in group.attrs:
        raise Unfit(f"{group.name} has no {attribute}")
    stored = group.attrs.get_id(attribute)
    if math.prod(stored.shape) == 0:
        return []  # layers without weights: an empty list, stored as floats
    text = h5py.check_string_dtype(stored.dtype)
    if len(stored.shape) != 1 or stored.shape[0] > _MAX_NAMES or text is None:
        raise Unfit(f"{attribute} of {group.name} is no list of names (shape {stored.shape}, type {stored.dtype})")
    if stored.shape[0] * (longest if text.length is None else text.length) > _MAX_TEXT:
        raise Unfit(f"the {stored.shape[0]} entries of {attribute} of {group.name} may be far longer than names")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs[attribute]]


def _member(group: Any, name: str) -> Any:
    """Return what lies under a name, part by part; a link to anywhere else, in the file or outside, is refused."""
    import h5py

    for part in name.split("/"):
        if part in ("", ".", "..") or not isinstance(group, h5py.Group) or part not in group:
            raise Unfit(f"{name!r} is named in it, and is not there")
        link = group.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise Unfit(f"{name!r} is a link ({type(link).__name__}) to elsewhere, which is not followed")
        group = group[part]
    return group


def _from_layers(layers: list[list[Any]]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return state dict and settings from data sets by layer.

    Keras names layers by a counter of the process, so kinds are told by shapes and places by order: per unit the file
    has its two long convolutions and then the pointwise one of the shortcut, though that was made first.
    """
    kinds: dict[str, list[list[Any]]] = {"long": [], "point": [], "norm": [], "dense": []}
    for weights in layers:
        dims = [_dims(weight) for weight in weights]
        if dims == [3]:
            kinds["point" if weights[0].shape[0] == 1 else "long"].append(weights)
        elif dims == [1] * 4:
            kinds["norm"].append(weights)
        elif dims == [2, 1]:
            kinds["dense"].append(weights)
        else:
            shapes = [weight.shape for weight in weights]
            raise Unfit(f"{weights[0].name} belongs to a layer of weights {shapes}, of which RibeiroNet has none")
    found = {kind: len(group) for kind, group in kinds.items()}
    if found != {"long": 9, "point": 4, "norm": 9, "dense": 1}:
        raise Unfit(
            f"it has {found['long']} convolutions, {found['point']} of kernel 1, {found['norm']} batch norms and "
            f"{found['dense']} dense layers; the variant 'keras' has 9, 4, 9 and 1"
        )
    kernel, bias = kinds["dense"][0]
    expected, settings = expected_shapes("keras", kinds["long"][0][0].shape[::-1], kernel.shape[1])
    norms, longs, points = (iter(kinds[kind]) for kind in ("norm", "long", "point"))
    sources: dict[str, Any] = {"lin.weight": kernel, "lin.bias": bias}
    for unit in ("", *(f"resblock1d_{i}." for i in range(4))):
        for i in (1, 2) if unit else (1,):
            sources[f"{unit}conv{i}.weight"] = next(longs)[0]
            parts = ("weight", "bias", "running_mean", "running_var")
            sources |= {f"{unit}bn{i}.{part}": data for part, data in zip(parts, next(norms), strict=True)}
        if unit:
            sources[f"{unit}skip_connection.1.weight"] = next(points)[0]
    wanted = {name: shape for name, shape in expected.items() if not name.endswith("num_batches_tracked")}
    for name, shape in wanted.items():  # all of them, before the first is read
        _check_data_set(sources[name], shape[::-1])
    state = {}
    for name, shape in expected.items():
        if name not in wanted:
            state[name] = torch.zeros(shape, dtype=torch.int64)
            continue
        array = sources[name][()].astype(np.float32)
        if name == "lin.weight":  # Keras flattens step by step, torch channel by channel
            array = array.reshape(_STEPS, -1, shape[0]).swapaxes(0, 1).reshape(shape[::-1])
        state[name] = checked(name, torch.from_numpy(np.ascontiguousarray(array.T)))
    return state, settings


def _dims(data: Any) -> int:
    """Return the number of axes of a data set."""
    import h5py

    if not isinstance(data, h5py.Dataset) or data.shape is None:
        raise Unfit(f"{data.name} is no data set of numbers")
    return len(data.shape)


def _check_data_set(data: Any, shape: tuple[int, ...]) -> None:
    """Refuse a data set that is not of this shape, or not numbers that lie in the file itself."""
    if data.is_virtual or data.external:
        raise Unfit(f"{data.name} keeps its numbers in another file, which is not opened")
    if data.dtype.kind != "f" or data.dtype.itemsize > 8:
        raise Unfit(f"{data.name} has the type {data.dtype} instead of floats")
    if data.shape != shape:
        raise Unfit(f"{data.name} has the shape {data.shape}; the variant 'keras' has {shape} there")
    if data.chunks is not None or data.id.get_create_plist().get_nfilters():
        # pieces are what HDF5 packs, by any filter that it finds installed; those never written read as zeros
        raise Unfit(f"{data.name} is stored in pieces or compressed, which Keras never does")
    if data.id.get_storage_size() < data.size * data.dtype.itemsize:
        raise Unfit(f"{data.name} is declared, and its numbers were never written in full")
