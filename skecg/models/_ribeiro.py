"""RibeiroNet: the residual CNN for twelve leads of Ribeiro et al. 2020, in its two published variants."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import nn

from ._layers import (
    KERAS_EPS,
    KERAS_MOMENTUM,
    Add,
    SameConv1d,
    check_input,
    check_momentum,
    check_shares,
    check_sizes,
    he_normal_,
    same_padding,
)

VARIANTS = ("keras", "pytorch")
_STRIDES = {"keras": (4, 4, 4, 4), "pytorch": (1, 4, 4, 4, 4)}
_KERNEL = {"keras": 16, "pytorch": 17}
_RATIOS = (2, 196 / 64, 4, 5)  # channels of the four units that stride, as multiples of the stem's
_STEP = 256  # samples between two positions of the last map
# At 4,096 samples the last map has 16; a map of fewer does not tell places apart.
_ENOUGH_STEPS = 16


class RibeiroUnit(nn.Module):
    """Convolution, batch norm, ReLU, dropout, convolution that strides; the sum; batch norm, ReLU, dropout.

    Takes and gives two streams: x, which the next convolution takes, and y, the sum before it is normalised, which the
    next shortcut takes. A shortcut that strides is a pooling and a convolution of kernel 1.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        length: int,
        stride: int,
        kernel: int,
        dropout: float,
        norm: dict[str, float],
        same: bool,
    ) -> None:
        super().__init__()
        self.length, self.stride, self.same = length, stride, same
        self.conv1 = _conv(c_in, c_out, kernel, 1, same)
        self.bn1 = nn.BatchNorm1d(c_out, **norm)
        self.relu1 = nn.ReLU()
        self.dropout1 = nn.Dropout(dropout)
        self.conv2 = _conv(c_out, c_out, kernel, stride, same)
        self.skip_connection: nn.Module = nn.Identity()
        if stride > 1:
            # "same" pooling: the smaller half of the padding on the left, the rest by counting the last, cut window
            pool = nn.MaxPool1d(stride, stride, padding=self.missing_left, ceil_mode=True)
            self.skip_connection = nn.Sequential(pool, nn.Conv1d(c_in, c_out, 1, bias=False))
        self.add = Add()
        self.bn2 = nn.BatchNorm1d(c_out, **norm)
        self.relu2 = nn.ReLU()
        self.dropout2 = nn.Dropout(dropout)

    @property
    def missing_left(self) -> int:
        """Samples by which the first window of the pooling reaches over the left end."""
        return same_padding(self.length, self.stride, self.stride)[0]

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.dropout1(self.relu1(self.bn1(self.conv1(x))))
        y = self.add(self.conv2(x), self.skip_connection(y))
        return self.dropout2(self.relu2(self.bn2(y))), y


def _conv(c_in: int, c_out: int, kernel: int, stride: int, same: bool) -> nn.Conv1d:
    """Return a convolution without bias that gives length / stride positions."""
    if same:
        return SameConv1d(c_in, c_out, kernel, stride=stride, bias=False)
    return nn.Conv1d(c_in, c_out, kernel, stride=stride, padding=max(0, (kernel - stride + 1) // 2), bias=False)


class RibeiroNet(nn.Module):
    """RibeiroNet, a residual CNN of four or five units for twelve leads, with an output for each abnormality.

    The network of Ribeiro et al. [1]_, which Bender et al. [3]_ explain: exactly 6,421,910 trainable parameters in the
    variant "keras", 6,950,310 in "pytorch" [2]_, at 12 leads, 4,096 samples, 6 outputs and full width. Input is ECG in
    mV at 400 Hz, (n_samples, n_leads, n_timesteps), in the order of leads I, II, III, aVR, aVL, aVF, V1 to V6; output
    is logits, (n_samples, n_outputs), whose sigmoids are independent of each other.

    A network is built for one length, since its dense layer reads every position of the last map; called with another
    length it raises a ValueError. It can be built for any: "keras" pads each map as Keras' "same" does, "pytorch" takes
    multiples of 256 samples, and what is shorter is padded with zeros at its right end inside of it. The published
    length is 4,096, to which :func:`~skecg.preprocessing.ribeiro_preprocessing` brings recordings.

    Parameters
    ----------
    n_leads : int, default=12
        Leads of the ECG.
    n_timesteps : int, default=4096
        Length of the window in samples; the paper's 4,096 are 10.24 s at 400 Hz.
    n_outputs : int, default=6
        Number of labels; the paper's six are ``RIBEIRO_LABELS``.
    variant : {"keras", "pytorch"}, default="keras"
        "keras": the network of the paper, for which the authors publish weights of six outputs. "pytorch": that of
        their later program, with a fifth unit in front that does not stride, kernels of 17, no ReLU behind the stem and
        torch's own padding, batch norms and initial weights; the public weights are of one output, the age.
    width : int, default=64
        Channels of the stem, the paper's 64; the units have 2, 3.0625, 4 and 5 times as many, rounded. Parameters grow
        with its square.
    dropout : float, default=0.2
        Dropout behind each ReLU of the units. The authors' program of today drops 0.2; that of 2020 handed its 0.8 on
        as the share that is dropped, so that the published weights were most likely trained with 0.8, and their program
        of "pytorch" drops 0.8 by default. Here it is 0.2 for both. Predictions do not depend on it.
    kernel_size : int, default=None
        Kernel of the convolutions in samples; None takes the variant's, 16 or 17. "pytorch" takes odd ones alone.
    momentum : float, default=None
        Share of a batch in the running statistics of the batch norms; None takes the variant's, 0.01 or 0.1. Trainings
        of less than some hundred batches need more than 0.01, such as 0.1.

    Attributes
    ----------
    cam_layer : str
        Name of the layer for Grad-CAM: the last ReLU of the deepest unit whose map has at least 16 positions. At 4,096
        samples that is the last ReLU of all, ``"resblock1d_3.relu2"`` ("pytorch": ``"resblock1d_4.relu2"``), a map of
        16 positions, 0.64 s each. What follows it is linear, so HiResCAM is exact there: gradient times map, summed, is
        the logit minus its bias. Units before it give maps four times as fine each.
    n_units : int
        4 in "keras", 5 in "pytorch"; the modules ``resblock1d_0`` and on.

    Raises
    ------
    ValueError
        For sizes below 1, a dropout outside [0, 1), a momentum outside (0, 1], an unknown variant, an even kernel in
        the variant "pytorch".

    See Also
    --------
    load_ribeiro : The network with the authors' published weights.
    RIBEIRO_2020 : The authors' training settings.

    Notes
    -----
    Written from the layer lists of the authors' programs. Names of the parameters are those of their ``model.pth``.
    Each ReLU and each sum is a module of its own, called once in a forward pass. Weights of "keras" start from a
    truncated normal distribution of standard deviation sqrt(2 / fan in), those of "pytorch" as torch's layers do.

    References
    ----------
    .. [1] A. H. Ribeiro et al., "Automatic diagnosis of the 12-lead ECG using a deep neural network", Nature
       Communications 11, 1760, 2020.
    .. [2] E. M. Lima et al., "Deep neural network-estimated electrocardiographic age as a mortality predictor", Nature
       Communications 12, 5117, 2021.
    .. [3] T. Bender et al., "Analysis of a deep learning model for 12-lead ECG classification reveals learned features
       similar to diagnostic criteria", IEEE Journal of Biomedical and Health Informatics, 2023.

    Examples
    --------
    >>> import torch
    >>> from skecg.models import RibeiroNet
    >>> net = RibeiroNet(width=4).eval()
    >>> net(torch.zeros(2, 12, 4096)).shape
    torch.Size([2, 6])
    """

    def __init__(
        self,
        n_leads: int = 12,
        n_timesteps: int = 4096,
        n_outputs: int = 6,
        *,
        variant: str = "keras",
        width: int = 64,
        dropout: float = 0.2,
        kernel_size: int | None = None,
        momentum: float | None = None,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {list(VARIANTS)}, got {variant!r}")
        same = variant == "keras"
        kernel_size = _KERNEL[variant] if kernel_size is None else kernel_size
        check_sizes(
            n_leads=n_leads, n_timesteps=n_timesteps, n_outputs=n_outputs, width=width, kernel_size=kernel_size
        )
        check_shares(dropout=dropout)
        if not same and kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd in the variant 'pytorch'; got {kernel_size}")
        momentum = (KERAS_MOMENTUM if same else 0.1) if momentum is None else momentum
        check_momentum(momentum)
        norm = {"eps": KERAS_EPS if same else 1e-5, "momentum": momentum}
        self.n_leads, self.n_timesteps, self.n_outputs, self.variant = n_leads, n_timesteps, n_outputs, variant
        missing = 0 if same else -n_timesteps % _STEP
        self.pad = nn.ConstantPad1d((0, missing), 0.0) if missing else nn.Identity()
        self.conv1 = _conv(n_leads, width, kernel_size, 1, same)
        self.bn1 = nn.BatchNorm1d(width, **norm)
        self.relu = nn.ReLU() if same else nn.Identity()
        channels = [round(width * ratio) for ratio in _RATIOS]
        channels = channels if same else [width, *channels]
        c_in, length, self.n_units = width, n_timesteps + missing, len(channels)
        enough, hop = 0, 1
        for i, (c_out, stride) in enumerate(zip(channels, _STRIDES[variant], strict=True)):
            self.add_module(
                f"resblock1d_{i}", RibeiroUnit(c_in, c_out, length, stride, kernel_size, dropout, norm, same)
            )
            c_in, length, hop = c_out, -(-length // stride), hop * stride
            enough = i if -(-n_timesteps // hop) >= _ENOUGH_STEPS else enough
        self.cam_layer = f"resblock1d_{enough}.relu2"
        self.flatten = nn.Flatten()
        self.lin = nn.Linear(c_in * length, n_outputs)
        if same:
            for part in self.modules():
                if isinstance(part, nn.Conv1d | nn.Linear):
                    he_normal_(part.weight)
            nn.init.zeros_(self.lin.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits.

        Parameters
        ----------
        x : tensor of shape (n_samples, n_leads, n_timesteps)
            ECG, mV, of the length that the network was built for.

        Returns
        -------
        logits : tensor of shape (n_samples, n_outputs)
            One logit a label.

        Raises
        ------
        ValueError
            For x of another shape.
        """
        check_input(x, self.n_leads)
        if x.shape[-1] != self.n_timesteps:
            raise ValueError(
                f"this RibeiroNet was built for {self.n_timesteps} timesteps, and x has {x.shape[-1]}: pad or crop x, "
                f"or build the network with n_timesteps={x.shape[-1]}"
            )
        x = y = self.relu(self.bn1(self.conv1(self.pad(x))))
        for i in range(self.n_units):
            x, y = getattr(self, f"resblock1d_{i}")(x, y)
        return self.lin(self.flatten(x))

    def cam_positions(self, layer: str, n_timesteps: int) -> np.ndarray:
        """Return at which sample each position of a layer's map is centred.

        Parameters
        ----------
        layer : str
            Name of a layer with a time axis, such as ``"resblock1d_2.relu2"``.
        n_timesteps : int
            Length of the window in samples: the one that the network was built for.

        Returns
        -------
        positions : ndarray of shape (n_positions,), float64
            In samples from the window's first. They follow the shortcuts; convolutions of even kernel lean half a
            position to the right of them. Those of padding lie outside the window.

        Raises
        ------
        ValueError
            For a layer that has no time axis, or that there is not, and for another length than built for.
        """
        if n_timesteps != self.n_timesteps:
            raise ValueError(f"this RibeiroNet was built for {self.n_timesteps} timesteps, got {n_timesteps}")
        depth = self._depth(layer)
        offset, hop, length = 0.0, 1, n_timesteps + (-n_timesteps % _STEP if self.variant == "pytorch" else 0)
        for i in range(depth):
            unit = getattr(self, f"resblock1d_{i}")
            offset += hop * ((unit.stride - 1) / 2 - unit.missing_left)
            hop, length = hop * unit.stride, -(-length // unit.stride)
        return offset + hop * np.arange(length, dtype=np.float64)

    def _depth(self, layer: str) -> int:
        """Return how many units have strided before a layer gives its map."""
        if layer in dict(self.named_modules()):
            unit = re.fullmatch(r"resblock1d_(\d+)\.(.+)", layer)
            if unit:  # the second convolution strides, and so does the shortcut
                return int(unit[1]) + (unit[2] not in ("conv1", "bn1", "relu1", "dropout1"))
            if layer in ("pad", "conv1", "bn1", "relu"):
                return 0
        raise ValueError(
            f"layer {layer!r} of RibeiroNet has no single map with a time axis or does not exist: take a stage of the "
            f"network, such as {self.cam_layer!r}"
        )
