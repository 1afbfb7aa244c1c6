"""HannunNet: the residual CNN of 33 convolutions of Hannun et al. 2019."""

from __future__ import annotations

import math
import re

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ._layers import (
    KERAS_EPS,
    KERAS_MOMENTUM,
    SameConv1d,
    check_input,
    check_momentum,
    check_shares,
    check_sizes,
    he_normal_,
)

N_BLOCKS = 16
REDUCTIONS = ("mean", "logmeanexp", "none")
_STEP = 256  # samples between two steps: every second block halves the map
# The last stage leaves 3 steps of a window of 720; from 16 on it tells places apart as well as block 8 does there.
_ENOUGH_STEPS = 16


class HannunBlock(nn.Module):
    """Batch norm, ReLU, convolution, twice; the shortcut is pooled as the first convolution strides.

    Dropout stands before the second convolution alone, and nothing follows the sum. New channels of the shortcut are
    zeros behind the old ones.
    """

    def __init__(
        self, c_in: int, c_out: int, stride: int, kernel: int, dropout: float, momentum: float, first: bool
    ) -> None:
        super().__init__()
        norm = {"eps": KERAS_EPS, "momentum": momentum}
        # what comes from the stem is normalised and activated already
        self.pre = nn.Identity() if first else nn.Sequential(nn.BatchNorm1d(c_in, **norm), nn.ReLU())
        self.conv1 = SameConv1d(c_in, c_out, kernel, stride=stride)
        self.bn = nn.BatchNorm1d(c_out, **norm)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(dropout)
        self.conv2 = SameConv1d(c_out, c_out, kernel)
        # ceil_mode: as many positions as the convolution has, at odd lengths too
        self.pool = nn.MaxPool1d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.new_channels = c_out - c_in

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.pool(x)
        if self.new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, self.new_channels))
        x = self.conv1(self.pre(x))
        return self.conv2(self.drop(self.act(self.bn(x)))) + shortcut


class HannunNet(nn.Module):
    """HannunNet, 33 convolutions in 16 pre-activation residual blocks and one dense layer at every 256 samples.

    The network of Hannun et al. [1]_: exactly 10,467,176 trainable parameters at one lead, 8 classes and full width.
    Input is ECG in mV, (n_samples, n_leads, n_timesteps) of any length from one sample on, with the same weights;
    output is logits, (n_samples, n_outputs).

    Parameters
    ----------
    n_leads : int, default=1
        Leads of the ECG; the paper has one.
    n_timesteps : int, default=720
        Length of the window in samples. It chooses ``cam_layer`` and nothing else.
    n_outputs : int, default=8
        Number of classes or labels.
    width : int, default=32
        Channels of the first four blocks, doubled after every fourth; the paper's 32. Parameters grow with its square.
    dropout : float, default=0.2
        Dropout before the second convolution of each block; the authors' value.
    kernel : int, default=16
        Kernel of the convolutions, in samples.
    reduce : {"mean", "logmeanexp", "none"}, default="mean"
        The rule from the steps to one answer a window. "mean": the mean of the steps' logits, which is global average
        pooling before the dense layer. "logmeanexp": logits whose softmax is the mean of the steps' probabilities; for
        one label a window. "none": the steps' logits (n_samples, n_outputs, n_steps), on which the authors train, and
        which ECGClassifier does not take. At one step all rules are equal. The authors' own rule at prediction, a vote
        of the steps, has no gradient: :meth:`vote`.
    momentum : float, default=0.01
        Share of a batch in the running statistics of the batch norms; the authors'. Trainings of less than some
        hundred batches need more, such as 0.1: after 100 batches at 0.01 the initial statistics still count a third.

    Attributes
    ----------
    cam_layer : str
        Name of the layer for Grad-CAM. ``"final_act"``, the last ReLU, where ``n_timesteps`` gives at least 16 steps;
        for shorter windows ``"blocks.8.pre.1"``, the ReLU that opens block 8 (of 0 to 15), a map of 45 at 720 samples
        and 48 at 768, for the last one would have 3 positions.
    step : int
        256, the samples between two steps; ``ceil(n_timesteps / 256)`` steps.

    Raises
    ------
    ValueError
        For sizes below 1, a dropout outside [0, 1), a momentum outside (0, 1], an unknown ``reduce``.

    See Also
    --------
    HANNUN_2019 : The authors' training settings.

    Notes
    -----
    Written from the layer list of the authors' program, and compared with it numerically. It differs where that
    fails: the authors' shortcut drops a sample at odd lengths that the convolution keeps, so that theirs takes
    multiples of 256 samples alone. Here the shortcut keeps it (pooling in ceil mode), which is the same network at
    every length that theirs takes. Convolutions start from a truncated normal distribution of standard deviation
    sqrt(2 / fan in), the dense layer uniformly after Glorot, biases at zero.

    References
    ----------
    .. [1] A. Y. Hannun et al., "Cardiologist-level arrhythmia detection and classification in ambulatory
       electrocardiograms using a deep neural network", Nature Medicine 25, 2019.

    Examples
    --------
    >>> import torch
    >>> from skecg.models import HannunNet
    >>> net = HannunNet(n_outputs=5, width=2).eval()
    >>> net(torch.zeros(2, 1, 720)).shape
    torch.Size([2, 5])
    """

    step = _STEP

    def __init__(
        self,
        n_leads: int = 1,
        n_timesteps: int = 720,
        n_outputs: int = 8,
        *,
        width: int = 32,
        dropout: float = 0.2,
        kernel: int = 16,
        reduce: str = "mean",
        momentum: float = KERAS_MOMENTUM,
    ) -> None:
        super().__init__()
        check_sizes(n_leads=n_leads, n_timesteps=n_timesteps, n_outputs=n_outputs, width=width, kernel=kernel)
        check_shares(dropout=dropout)
        check_momentum(momentum)
        if reduce not in REDUCTIONS:
            raise ValueError(f"reduce must be one of {list(REDUCTIONS)}, got {reduce!r}")
        self.n_leads, self.n_timesteps, self.n_outputs = n_leads, n_timesteps, n_outputs
        self.reduce = reduce
        norm = {"eps": KERAS_EPS, "momentum": momentum}
        self.stem = nn.Sequential(SameConv1d(n_leads, width, kernel), nn.BatchNorm1d(width, **norm), nn.ReLU())
        blocks, c_in = [], width
        for i in range(N_BLOCKS):
            c_out = width * 2 ** (i // 4)
            blocks.append(HannunBlock(c_in, c_out, 1 + i % 2, kernel, dropout, momentum, first=i == 0))
            c_in = c_out
        self.blocks = nn.ModuleList(blocks)
        self.final_bn = nn.BatchNorm1d(c_in, **norm)
        self.final_act = nn.ReLU()
        self.dense = nn.Linear(c_in, n_outputs)
        self.cam_layer = "final_act" if -(-n_timesteps // _STEP) >= _ENOUGH_STEPS else "blocks.8.pre.1"
        for part in self.modules():
            if isinstance(part, nn.Conv1d):
                he_normal_(part.weight)
                nn.init.zeros_(part.bias)
        nn.init.xavier_uniform_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the map of the last ReLU, (n_samples, channels, n_steps)."""
        check_input(x, self.n_leads)
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.final_act(self.final_bn(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits.

        Parameters
        ----------
        x : tensor of shape (n_samples, n_leads, n_timesteps)
            ECG, mV.

        Returns
        -------
        logits : tensor of shape (n_samples, n_outputs)
            One logit a class; (n_samples, n_outputs, n_steps) with ``reduce="none"``.

        Raises
        ------
        ValueError
            For x of another shape.
        """
        features = self._features(x)
        if self.reduce == "mean":  # the dense layer is affine: of the mean map it gives the mean of the steps
            return self.dense(features.mean(-1))
        steps = self.dense(features.transpose(1, 2)).transpose(1, 2)
        if self.reduce == "none":
            return steps
        # The mean normaliser added back makes logits of log-probabilities; the softmax does not see it.
        normaliser = steps.logsumexp(1, keepdim=True)
        mean_log = (steps - normaliser).logsumexp(-1) - math.log(steps.shape[-1])
        return mean_log + normaliser.mean(-1)

    def vote(self, x: torch.Tensor) -> torch.Tensor:
        """Return the class that most steps vote for, the authors' rule at prediction.

        Parameters
        ----------
        x : tensor of shape (n_samples, n_leads, n_timesteps)
            ECG, mV.

        Returns
        -------
        classes : tensor of int64, of shape (n_samples,)
            Positions among the outputs; of equal counts the lowest.

        Raises
        ------
        ValueError
            For x of another shape.
        """
        winners = self.dense(self._features(x).transpose(1, 2)).argmax(-1)
        return F.one_hot(winners, self.n_outputs).sum(1).argmax(1)

    def cam_positions(self, layer: str, n_timesteps: int) -> np.ndarray:
        """Return at which sample each position of a layer's map is centred.

        Parameters
        ----------
        layer : str
            Name of a layer with a time axis, such as ``"blocks.8.pre.1"``.
        n_timesteps : int
            Length of the window in samples.

        Returns
        -------
        positions : ndarray of shape (n_positions,), float64
            In samples from the window's first. They follow the shortcuts; a convolution of even kernel and stride 1
            leans half a position to the right of them.

        Raises
        ------
        ValueError
            For a layer that has no time axis, or that there is not.
        """
        hop = 2 ** self._halvings(layer)
        return (np.arange(-(-n_timesteps // hop)) + 0.5) * hop - 0.5

    def _halvings(self, layer: str) -> int:
        """Return how many blocks have halved the map that a layer gives."""
        if layer in dict(self.named_modules()):
            block = re.fullmatch(r"blocks\.(\d+)(\.pre)?(\..+)?", layer)
            if block:  # the first convolution strides, so what is before it has the map that comes in
                return (int(block[1]) + (block[2] is None)) // 2
            if layer.startswith("stem"):
                return 0
            if layer.startswith("final"):
                return N_BLOCKS // 2
        raise ValueError(
            f"layer {layer!r} of HannunNet has no time axis or does not exist: take a stage of the network, such as "
            f"{self.cam_layer!r}"
        )
