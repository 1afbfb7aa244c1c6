"""Published weights of RibeiroNet, read from the authors' files; nothing in a file is ever executed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ._published_checks import Unfit, empty_net
from ._published_keras import from_hdf5
from ._published_torch import from_torch
from ._ribeiro import VARIANTS, RibeiroNet

_MAX_BYTES = 2**30
_HDF5, _ZIP, _PICKLE = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x80"
_WANTED = (
    "expected is the Keras HDF5 file (model.hdf5) or the PyTorch file (model.pth) of a RibeiroNet for 12 leads of 4096 "
    "samples"
)


def read_weights(path: str | os.PathLike, *, variant: str | None = None) -> dict[str, torch.Tensor]:
    """Return the weights in one of the authors' files of RibeiroNet, checked, as a state dict.

    Reads what the authors' programs write [1]_ [2]_: Keras HDF5 (a whole model or weights alone, of Keras 2 and the
    ``.h5`` of Keras 3), and PyTorch ``.pth`` (a checkpoint or a state dict, of any torch). What a file is, its first
    bytes tell, not its name. Layers of an HDF5 file are found by their order and shape, never by their names.

    Nothing in a file is executed: of HDF5, numbers are read, never the model that it describes, and links, storage in
    other files, virtual data sets, data sets in pieces (so all that are compressed), those that were not written in
    full, and types other than floats are refused; ``.pth`` goes through ``torch.load(
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
    net = empty_net(**settings)
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
                raise Unfit(f"it has {size} bytes, more than any RibeiroNet")
            if start.startswith(_HDF5):
                state, settings = from_hdf5(path)
            elif start.startswith(_ZIP) or start.startswith(_PICKLE):
                state, settings = from_torch(file, size, zipped=start.startswith(_ZIP))
            else:
                raise Unfit(_what(start))
            if variant not in (None, settings["variant"]):
                raise Unfit(
                    f"it holds the variant {settings['variant']!r}, and variant={variant!r} was asked for: leave "
                    "variant out, or take the file of that variant"
                )
        except Unfit as error:
            raise ValueError(f"{path} gives no weights: {error}; {_WANTED}") from error.__cause__
    return state, settings


def _what(start: bytes) -> str:
    """Say what a file is that is neither HDF5 nor of torch."""
    if not start:
        return "it is empty: download it again"
    if start.lstrip()[:1] == b"<":
        return "it is a web page, such as a login or an error: download the file itself"
    return f"its first bytes, {start[:8]!r}, are neither those of HDF5 nor of a PyTorch file"
