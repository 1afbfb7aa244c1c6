"""Weights of RibeiroNet out of a PyTorch file, which is a pickle: it is looked through before it is loaded."""

from __future__ import annotations

import io
import pickletools
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from encodings.aliases import aliases
from typing import Any, BinaryIO

import numpy as np
import torch

from ._published_checks import Unfit, checked, expected_shapes

_MAX_PICKLE = 2**24
_ALLOWING = threading.Lock()
_LEGACY_PICKLES = 5  # before version 1.6 torch wrote mark, version, system, objects, keys of storages, one by one
_HARMLESS = re.compile(
    r"collections\.OrderedDict|_codecs\.encode|numpy\.dtype|numpy\._?core\.multiarray\.scalar"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|torch(\.storage)?\.\w+Storage"
)
_LONGEST_TEXT = 4096
# Codecs from bytes to bytes: called on their own result again and again, they make any length of it.
_BYTES_TO_BYTES = {f"{name}_codec" for name in ("base64", "bz2", "hex", "quopri", "uu", "zlib")}
_GROWING = _BYTES_TO_BYTES | {alias for alias, codec in aliases.items() if codec in _BYTES_TO_BYTES}
_FLOATS = {name: np.dtype(name) for name in ("f4", "f8", "<f4", "<f8", "float32", "float64")}


def _float_type(name: str, *flags: Any) -> np.dtype:
    """Stand for ``numpy.dtype``, for floats alone; others can claim any amount of memory."""
    if name not in _FLOATS:
        raise Unfit(f"it asks for the numpy type {name!r}, which no checkpoint needs")
    return np.dtype(_FLOATS[name], copy=True)  # a copy: what comes next in the file sets its byte order


def _number_types() -> list[Any]:
    """Return what a pickled numpy float needs; ``valid_loss`` in the authors' checkpoints is one."""
    import _codecs

    from numpy._core.multiarray import scalar

    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        (_float_type, "numpy.dtype"),
        type(np.dtype("f4")),
        type(np.dtype("f8")),
        _codecs.encode,
    ]


@contextmanager
def _numbers_allowed() -> Iterator[None]:
    """Allow ``torch.load`` to make numpy's floats for a while.

    torch keeps one list for the process, and its own context manager takes from it, on leaving, what others have added.
    """
    with _ALLOWING:
        before = torch.serialization.get_safe_globals()
        with torch.serialization.safe_globals([kind for kind in _number_types() if kind not in before]):
            yield


def from_torch(file: BinaryIO, size: int, *, zipped: bool) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return state dict and settings from a PyTorch file."""
    try:
        if zipped:
            file = _checked_zip(file, size)
        else:
            for _ in range(_LEGACY_PICKLES):
                _check_pickle(file)
        file.seek(0)
        with _numbers_allowed():
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Unfit:
        raise
    except Exception as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked:  # torch goes on to recommend that it be allowed, which the user should not do
            raise _refused(asked[1]) from None
        raise Unfit(f"it is truncated, damaged or no PyTorch file ({type(error).__name__}): get it again") from error
    return _from_state(loaded["model"] if isinstance(loaded, dict) and "model" in loaded else loaded)


def _refused(name: str) -> Unfit:
    return Unfit(f"it asks for {name!r}, which weights do not need; nothing of it was run")


def _check_pickle(file: BinaryIO) -> None:
    """Refuse, without loading it, a pickle that names anything that tensors, numbers and dicts do not need.

    torch's own list of what is harmless has things that take any amount of memory: ``bytearray``, and codecs that make
    a text longer each time.
    """
    texts = ["", ""]
    for operation, value, _ in pickletools.genops(file):
        if operation.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
            name = ".".join(texts[-2:] if value is None else value.split(" "))
            if operation.name != "GLOBAL" or not _HARMLESS.fullmatch(name):
                raise _refused(name)
        elif isinstance(value, str | bytes):
            text = value if isinstance(value, str) else value.decode("latin1")
            texts = [texts[-1], text]
            if len(text) > _LONGEST_TEXT:
                raise Unfit("it has a text far longer than the name of a tensor")
            if re.sub("[^a-z0-9.]+", "_", text.lower()).strip("_") in _GROWING:
                raise _refused(text)


def _checked_zip(file: BinaryIO, size: int) -> BinaryIO:
    """Return a copy of an archive, member by member, in memory; refuse one that torch does not write.

    That is one compressed, with strange names, or larger inside than outside. Programs differ in which member they take
    of two, so that torch gets the copy: what it reads is what was looked at.
    """
    copied = io.BytesIO()
    try:
        with zipfile.ZipFile(file) as archive, zipfile.ZipFile(copied, "w") as copy:
            members = archive.infolist()
            names = [member.filename for member in members]
            if any(name in names for name in ("model.weights.h5", "config.json")):
                raise Unfit("it is the .keras archive of Keras 3: save the model as .h5")
            if not any(name.endswith("data.pkl") for name in names):
                raise Unfit(f"it is an archive of {names[:3]}, not of PyTorch")
            if any(".." in name.split("/") or name.startswith("/") or "\\" in name for name in names):
                raise Unfit("it has members that lie outside of it")
            if len({name.casefold() for name in names}) < len(names):  # torch does not tell upper case from lower
                raise Unfit("it has two members of one name")
            packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
            if packed or sum(member.file_size for member in members) > size:
                raise Unfit("it is compressed, which PyTorch's files are not: unpacked it may have any size")
            for member in members:
                pickled = member.filename.casefold().endswith(".pkl")
                if pickled and member.file_size > _MAX_PICKLE:
                    raise Unfit("its list of tensors is far longer than that of a RibeiroNet")
                content = archive.read(member)  # compares its checksum
                if pickled:
                    _check_pickle(io.BytesIO(content))
                copy.writestr(member.filename, content)
    except zipfile.BadZipFile as error:
        raise Unfit(f"it is truncated or damaged ({error}): download it again") from error
    return copied


def _from_state(given: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a checked state dict and its settings from what a PyTorch file holds."""
    if not isinstance(given, dict):
        raise Unfit(f"it holds a {type(given).__name__} instead of a dict of weights")
    needed = ("conv1.weight", "lin.weight")
    missing = [name for name in needed if not _is_tensor(given.get(name)) or not given[name].ndim]
    if missing:
        raise Unfit(f"it has no {missing}; its entries are {[str(name)[:40] for name in list(given)[:4]]}")
    variant = "pytorch" if "resblock1d_4.conv1.weight" in given else "keras"
    expected, settings = expected_shapes(variant, tuple(given["conv1.weight"].shape), len(given["lin.weight"]))
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    unknown = [str(name)[:40] for name in given if name not in expected]
    absent = sorted(expected.keys() - counters - given.keys())
    if unknown or absent:
        raise Unfit(f"as the variant {variant!r} it lacks {absent[:4]} and has {unknown[:4]} beside")
    for name in expected.keys() & given.keys():
        tensor, kind = given[name], "integers" if name in counters else "floats"
        fits = _is_tensor(tensor) and tensor.is_floating_point() is (name not in counters) and not tensor.is_complex()
        if not fits:
            raise Unfit(f"{name} is no plain tensor of {kind}")
        if tuple(tensor.shape) != expected[name]:
            raise Unfit(
                f"{name} has the shape {tuple(tensor.shape)}; the variant {variant!r} of width {settings['width']} has "
                f"{expected[name]} there"
            )
    state = {}
    for name, shape in expected.items():
        if name in counters:  # absent in the files of early versions of torch
            state[name] = given.get(name, torch.zeros(shape)).to(torch.int64, copy=True)
        else:
            state[name] = checked(name, given[name])
    return state, settings


def _is_tensor(value: Any) -> bool:
    """Tell whether a value is a dense tensor and nothing derived from it."""
    plain = type(value) in (torch.Tensor, torch.nn.Parameter)
    return plain and value.layout is torch.strided and not value.is_quantized and value.device.type == "cpu"
