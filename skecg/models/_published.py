"""Published weights of RibeiroNet, read from the authors' files; nothing in a file is ever executed."""

from __future__ import annotations

import math
import os
import pickletools
import re
import zipfile
from collections.abc import Iterator
from encodings.aliases import aliases
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from ._ribeiro import VARIANTS, RibeiroNet

N_LEADS, N_TIMESTEPS = 12, 4096
_STEPS = N_TIMESTEPS // 256
# What a file may claim before anything is read: the published network has width 64 and 6 outputs.
_MAX_WIDTH, _MAX_OUTPUTS, _MAX_BYTES, _MAX_NAMES, _MAX_PICKLE = 256, 1000, 2**30, 1000, 2**24
_HDF5, _ZIP, _PICKLE = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x80"
_WANTED = (
    "expected is the Keras HDF5 file (model.hdf5) or the PyTorch file (model.pth) of a RibeiroNet for 12 leads of 4096 "
    "samples"
)
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


class _Unfit(Exception):
    """What is wrong with a file, without its name."""


def read_weights(path: str | os.PathLike, *, variant: str | None = None) -> dict[str, torch.Tensor]:
    """Return the weights in one of the authors' files of RibeiroNet, checked, as a state dict.

    Reads what the authors' programs write [1]_ [2]_: Keras HDF5 (a whole model or weights alone, of Keras 2 and the
    ``.h5`` of Keras 3), and PyTorch ``.pth`` (a checkpoint or a state dict, of any torch). What a file is, its first
    bytes tell, not its name. Layers of an HDF5 file are found by their order and shape, never by their names.

    Nothing in a file is executed: of HDF5, numbers are read, never the model that it describes, and links, storage in
    other files, virtual data sets and types other than floats are refused; ``.pth`` goes through ``torch.load(
    weights_only=True)``, which builds tensors alone, with a numpy float allowed beside them, for the authors'
    checkpoints hold their loss as one. Shapes are compared before numbers are read, and numbers must be finite. That
    protects from a file that was made to do harm as far as h5py, HDF5 and torch are sound; where that is not enough,
    read it in a process of its own. Damage inside the numbers shows in the zip format of PyTorch alone, which has
    checksums. The authors' own files could not be had while this was written: it is tested on files of the same layout.

    Parameters
    ----------
    path : str or path-like
        The file; neither network nor data home is asked.
    variant : {"keras", "pytorch"}, default=None
        The variant wanted; None takes what the file holds.

    Returns
    -------
    state : dict of str to torch.Tensor
        For ``load_state_dict`` of a :class:`RibeiroNet` of that variant for 12 leads and 4,096 samples, with the width
        and the number of outputs in the file; float32, on the CPU.

    Raises
    ------
    ValueError
        For a file that is truncated or damaged, of another variant or another network, or something else.
    FileNotFoundError
        Where there is none.
    ImportError
        For HDF5 without h5py: ``pip install skecg[hdf5]``.

    See Also
    --------
    load_ribeiro : The network with these weights.

    References
    ----------
    .. [1] A. H. Ribeiro et al., "Automatic diagnosis of the 12-lead ECG using a deep neural network", Nature
       Communications 11, 1760, 2020; weights: Zenodo, 10.5281/zenodo.3625017.
    .. [2] E. M. Lima et al., "Deep neural network-estimated electrocardiographic age as a mortality predictor", Nature
       Communications 12, 5117, 2021; weights: Zenodo, 10.5281/zenodo.4892365.

    Examples
    --------
    >>> import tempfile, torch
    >>> from skecg.models import RibeiroNet, read_weights
    >>> net = RibeiroNet(width=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(net.state_dict(), f"{folder}/model.pth")
    ...     state = read_weights(f"{folder}/model.pth", variant="keras")
    >>> torch.equal(state["lin.weight"], net.lin.weight)
    True
    """
    return _read(path, variant)[0]


def load_ribeiro(path: str | os.PathLike, *, variant: str | None = None) -> RibeiroNet:
    """Return RibeiroNet with the weights in one of the authors' files, ready to predict and to be explained.

    From there to a fitted classifier, for recordings as :func:`~skecg.preprocessing.ribeiro_preprocessing` returns
    them::

        clf = ECGClassifier.from_module(load_ribeiro("model.hdf5"), RIBEIRO_LABELS, n_leads=12, n_timesteps=4096,
                                        multilabel=True, threshold=RIBEIRO_THRESHOLDS, fs=400)

    The published thresholds belong to another seed (``other_seeds/model_1.hdf5``) than ``model.hdf5``:
    ``RIBEIRO_THRESHOLDS``.

    Parameters
    ----------
    path : str or path-like
        The authors' file, see :func:`read_weights`: what it may hold, and what is refused.
    variant : {"keras", "pytorch"}, default=None
        The variant wanted; None takes what the file holds.

    Returns
    -------
    net : RibeiroNet
        In eval mode, on the CPU, for 12 leads of 4,096 samples, with as many outputs as the file has: six, in the order
        of ``RIBEIRO_LABELS``, or one in the authors' network for the age.

    Raises
    ------
    ValueError
        For a file that is truncated or damaged, of another variant or another network, or something else.
    FileNotFoundError
        Where there is none.
    ImportError
        For HDF5 without h5py: ``pip install skecg[hdf5]``.

    See Also
    --------
    read_weights : The weights alone, and what is checked.
    """
    state, settings = _read(path, variant)
    net = _empty(**settings)
    net.load_state_dict(state, assign=True)
    return net.eval()


def _read(path: str | os.PathLike, variant: str | None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the state dict in a file and the settings of the network that it is for."""
    if variant is not None and variant not in VARIANTS:
        raise ValueError(f"variant must be one of {list(VARIANTS)} or None, got {variant!r}")
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; {_WANTED}")
    with path.open("rb") as file:
        start, size = file.read(512), os.fstat(file.fileno()).st_size
        file.seek(0)
        try:
            if size > _MAX_BYTES:
                raise _Unfit(f"it has {size} bytes, more than any RibeiroNet")
            if start.startswith(_HDF5):
                state, settings = _from_hdf5(path)
            elif start.startswith(_ZIP) or start.startswith(_PICKLE):
                state, settings = _from_torch(file, size, zipped=start.startswith(_ZIP))
            else:
                raise _Unfit(_what(start))
            if variant not in (None, settings["variant"]):
                raise _Unfit(
                    f"it holds the variant {settings['variant']!r}, and variant={variant!r} was asked for: leave "
                    "variant out, or take the file of that variant"
                )
        except _Unfit as error:
            raise ValueError(f"{path} gives no weights: {error}; {_WANTED}") from error.__cause__
    return state, settings


def _what(start: bytes) -> str:
    """Say what a file is that is neither HDF5 nor of torch."""
    if not start:
        return "it is empty: download it again"
    if start.lstrip()[:1] == b"<":
        return "it is a web page, such as a login or an error: download the file itself"
    return f"its first bytes, {start[:8]!r}, are neither those of HDF5 nor of a PyTorch file"


def _empty(variant: str, width: int, n_outputs: int) -> RibeiroNet:
    """Return the network without memory for its weights, and without drawing random numbers for them."""
    with torch.device("meta"):
        return RibeiroNet(N_LEADS, N_TIMESTEPS, n_outputs, variant=variant, width=width)


def _expected(variant: str, stem: tuple[int, ...], n_outputs: int) -> tuple[dict[str, tuple], dict[str, Any]]:
    """Return the shapes by name, and the settings, of the network that a stem (width, n_leads, kernel) belongs to."""
    if len(stem) != 3 or stem[1] != N_LEADS:
        leads = f"{stem[1]} leads" if len(stem) == 3 else f"a first convolution of shape {stem}"
        raise _Unfit(f"its network is for {leads} instead of {N_LEADS} leads")
    if not (1 <= stem[0] <= _MAX_WIDTH and 1 <= n_outputs <= _MAX_OUTPUTS):
        raise _Unfit(f"its network has {stem[0]} channels in the stem and {n_outputs} outputs; 64 and 6 are published")
    settings = {"variant": variant, "width": stem[0], "n_outputs": n_outputs}
    shapes = {name: tuple(tensor.shape) for name, tensor in _empty(**settings).state_dict().items()}
    if shapes["conv1.weight"] != stem:
        raise _Unfit(f"its kernels have {stem[2]} samples; those of {variant!r} {shapes['conv1.weight'][2]}")
    return shapes, settings


def _checked(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of its own in float32 whose numbers can be weights."""
    tensor = tensor.detach().to(torch.float32, copy=True).contiguous()
    if not torch.isfinite(tensor).all():
        raise _Unfit(f"{name} has NaN or infinite numbers: the file is damaged, get it again")
    if name.endswith("running_var") and (tensor < 0).any():
        raise _Unfit(f"{name} has negative variances: the file is damaged, or its layers have another order")
    return tensor


# --- Keras HDF5 -------------------------------------------------------------------------------------------------------


def _from_hdf5(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return state dict and settings from a Keras file."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path} is HDF5, which needs h5py: pip install skecg[hdf5]") from error
    try:
        with h5py.File(path, "r") as file:
            layers = list(_layers(_member(file, "model_weights") if "model_weights" in file else file))
            return _from_layers(layers)
    except _Unfit:
        raise
    except Exception as error:  # a damaged file makes h5py raise whatever it stumbles over
        raise _Unfit(f"it is truncated or damaged ({type(error).__name__}: {error}): download it again") from error


def _layers(group: Any) -> Iterator[list[Any]]:
    """Yield the data sets of each layer that has weights, in the file's order; none of them read yet."""
    if "layer_names" not in group.attrs:
        ordered = "layers" not in group
        came = "no Keras file" if ordered else "the .weights.h5 of Keras 3, which keeps no order: save the model as .h5"
        raise _Unfit(f"it has no layer_names, so it is {came}")
    for layer in _names(group, "layer_names"):
        inside = _member(group, layer)
        weights = [_member(inside, name) for name in _names(inside, "weight_names")]
        if weights:
            yield weights


def _names(group: Any, attribute: str) -> list[str]:
    """Return an attribute that lists names; anything but text is refused."""
    import h5py

    if attribute not in group.attrs:
        raise _Unfit(f"{group.name} has no {attribute}")
    stored = group.attrs.get_id(attribute)
    if math.prod(stored.shape) == 0:
        return []  # layers without weights: an empty list, stored as floats
    if len(stored.shape) != 1 or stored.shape[0] > _MAX_NAMES or h5py.check_string_dtype(stored.dtype) is None:
        raise _Unfit(f"{attribute} of {group.name} is no list of names (shape {stored.shape}, type {stored.dtype})")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs[attribute]]


def _member(group: Any, name: str) -> Any:
    """Return what lies under a name, part by part; a link to anywhere else, in the file or outside, is refused."""
    import h5py

    for part in name.split("/"):
        if part in ("", ".", "..") or not isinstance(group, h5py.Group) or part not in group:
            raise _Unfit(f"{name!r} is named in it, and is not there")
        link = group.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise _Unfit(f"{name!r} is a link ({type(link).__name__}) to elsewhere, which is not followed")
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
            raise _Unfit(f"{weights[0].name} belongs to a layer of weights {shapes}, of which RibeiroNet has none")
    found = {kind: len(group) for kind, group in kinds.items()}
    if found != {"long": 9, "point": 4, "norm": 9, "dense": 1}:
        raise _Unfit(
            f"it has {found['long']} convolutions, {found['point']} of kernel 1, {found['norm']} batch norms and "
            f"{found['dense']} dense layers; the variant 'keras' has 9, 4, 9 and 1"
        )
    kernel, bias = kinds["dense"][0]
    expected, settings = _expected("keras", kinds["long"][0][0].shape[::-1], kernel.shape[1])
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
        state[name] = _checked(name, torch.from_numpy(np.ascontiguousarray(array.T)))
    return state, settings


def _dims(data: Any) -> int:
    """Return the number of axes of a data set."""
    import h5py

    if not isinstance(data, h5py.Dataset) or data.shape is None:
        raise _Unfit(f"{data.name} is no data set of numbers")
    return len(data.shape)


def _check_data_set(data: Any, shape: tuple[int, ...]) -> None:
    """Refuse a data set that is not of this shape, or not numbers that lie in the file itself."""
    if data.is_virtual or data.external:
        raise _Unfit(f"{data.name} keeps its numbers in another file, which is not opened")
    if data.dtype.kind != "f" or data.dtype.itemsize > 8:
        raise _Unfit(f"{data.name} has the type {data.dtype} instead of floats")
    if data.shape != shape:
        raise _Unfit(f"{data.name} has the shape {data.shape}; the variant 'keras' has {shape} there")
    if data.chunks is not None and math.prod(data.chunks) > data.size:  # a chunk is unpacked as a whole
        raise _Unfit(f"{data.name} is stored in pieces of {data.chunks}, larger than itself")
    if data.id.get_storage_size() == 0:
        raise _Unfit(f"{data.name} is declared, and its numbers were never written")


# --- PyTorch ----------------------------------------------------------------------------------------------------------


def _float_type(name: str, *flags: Any) -> np.dtype:
    """Stand for ``numpy.dtype``, for floats alone; others can claim any amount of memory."""
    if name not in _FLOATS:
        raise _Unfit(f"it asks for the numpy type {name!r}, which no checkpoint needs")
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


def _from_torch(file: BinaryIO, size: int, *, zipped: bool) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return state dict and settings from a PyTorch file."""
    try:
        if zipped:
            _check_zip(file, size)
        else:
            for _ in range(_LEGACY_PICKLES):
                _check_pickle(file)
        file.seek(0)
        with torch.serialization.safe_globals(_number_types()):
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except _Unfit:
        raise
    except Exception as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked:  # torch goes on to recommend that it be allowed, which the user should not do
            raise _refused(asked[1]) from None
        raise _Unfit(f"it is truncated, damaged or no PyTorch file ({type(error).__name__}): get it again") from error
    return _from_state(loaded["model"] if isinstance(loaded, dict) and "model" in loaded else loaded)


def _refused(name: str) -> _Unfit:
    return _Unfit(f"it asks for {name!r}, which weights do not need; nothing of it was run")


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
                raise _Unfit("it has a text far longer than the name of a tensor")
            if re.sub("[^a-z0-9.]+", "_", text.lower()).strip("_") in _GROWING:
                raise _refused(text)


def _check_zip(file: BinaryIO, size: int) -> None:
    """Refuse an archive that torch does not write: compressed, with strange names, or larger inside than outside."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if any(name in names for name in ("model.weights.h5", "config.json")):
                raise _Unfit("it is the .keras archive of Keras 3: save the model as .h5")
            if not any(name.endswith("data.pkl") for name in names):
                raise _Unfit(f"it is an archive of {names[:3]}, not of PyTorch")
            if any(".." in name.split("/") or name.startswith("/") or "\\" in name for name in names):
                raise _Unfit("it has members that lie outside of it")
            packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
            if packed or sum(member.file_size for member in members) > size:
                raise _Unfit("it is compressed, which PyTorch's files are not: unpacked it may have any size")
            if any(m.filename.endswith(".pkl") and m.file_size > _MAX_PICKLE for m in members):
                raise _Unfit("its list of tensors is far longer than that of a RibeiroNet")
            damaged = archive.testzip()
            if damaged is None:
                for name in names:
                    if name.endswith("data.pkl"):
                        with archive.open(name) as pickled:
                            _check_pickle(pickled)
    except zipfile.BadZipFile as error:
        raise _Unfit(f"it is truncated or damaged ({error}): download it again") from error
    if damaged is not None:
        raise _Unfit(f"it is damaged: {damaged} does not have its checksum; download it again")


def _from_state(given: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a checked state dict and its settings from what a PyTorch file holds."""
    if not isinstance(given, dict):
        raise _Unfit(f"it holds a {type(given).__name__} instead of a dict of weights")
    needed = ("conv1.weight", "lin.weight")
    missing = [name for name in needed if not _is_tensor(given.get(name)) or not given[name].ndim]
    if missing:
        raise _Unfit(f"it has no {missing}; its entries are {[str(name)[:40] for name in list(given)[:4]]}")
    variant = "pytorch" if "resblock1d_4.conv1.weight" in given else "keras"
    expected, settings = _expected(variant, tuple(given["conv1.weight"].shape), len(given["lin.weight"]))
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    unknown = [str(name)[:40] for name in given if name not in expected]
    absent = sorted(expected.keys() - counters - given.keys())
    if unknown or absent:
        raise _Unfit(f"as the variant {variant!r} it lacks {absent[:4]} and has {unknown[:4]} beside")
    for name in expected.keys() & given.keys():
        tensor, kind = given[name], "integers" if name in counters else "floats"
        fits = _is_tensor(tensor) and tensor.is_floating_point() is (name not in counters) and not tensor.is_complex()
        if not fits:
            raise _Unfit(f"{name} is no plain tensor of {kind}")
        if tuple(tensor.shape) != expected[name]:
            raise _Unfit(
                f"{name} has the shape {tuple(tensor.shape)}; the variant {variant!r} of width {settings['width']} has "
                f"{expected[name]} there"
            )
    state = {}
    for name, shape in expected.items():
        if name in counters:  # absent in the files of early versions of torch
            state[name] = given.get(name, torch.zeros(shape)).to(torch.int64, copy=True)
        else:
            state[name] = _checked(name, given[name])
    return state, settings


def _is_tensor(value: Any) -> bool:
    """Tell whether a value is a dense tensor and nothing derived from it."""
    plain = type(value) in (torch.Tensor, torch.nn.Parameter)
    return plain and value.layout is torch.strided and not value.is_quantized and value.device.type == "cpu"
