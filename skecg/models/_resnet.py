"""ResNet1d: the residual network of images, with one axis: the commonest baseline of the field."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import nn

from ._layers import Add, check_input, check_momentum, check_shares, check_sizes

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
# A map of fewer positions does not tell places apart.
_ENOUGH_STEPS = 16


class ResNetBlock(nn.Module):
    """Convolution, batch norm, ReLU, convolution, batch norm; the sum with the shortcut; ReLU.

    The first convolution strides; where the map's shape changes, the shortcut is a convolution of kernel 1 and a batch
    norm.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, kernel: int, momentum: float) -> None:
        super().__init__()
        self.conv1 = _conv(c_in, c_out, kernel, stride, momentum)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv(c_out, c_out, kernel, 1, momentum)
        same = stride == 1 and c_in == c_out
        self.shortcut = nn.Identity() if same else _conv(c_in, c_out, 1, stride, momentum)
        self.add = Add()
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu2(self.add(self.conv2(self.relu1(self.conv1(x))), self.shortcut(x)))


def _conv(c_in: int, c_out: int, kernel: int, stride: int, momentum: float) -> nn.Sequential:
    """Return a convolution without bias, centred on every ``stride``-th position, and its batch norm."""
    conv = nn.Conv1d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm1d(c_out, momentum=momentum))


class ResNet1d(nn.Module):
    """ResNet1d, a residual network of 10, 18 or 34 layers over time, for any number of leads and any length.

    The network of He et al. [1]_ with one axis instead of two, the baseline of many studies of ECG; with 18 layers and
    kernels of 7 it is the network of our tables by the protocol of Suh et al. [2]_. Input is ECG in mV, (n_samples,
    n_leads, n_timesteps) of any length from one sample on, with the same weights; output is logits, (n_samples,
    n_outputs).

    Parameters
    ----------
    n_leads : int, default=1
        Leads of the ECG.
    n_timesteps : int, default=2880
        Length of the window in samples; 2,880 are 8 s at 360 Hz. It chooses ``cam_layer`` and nothing else.
    n_outputs : int, default=5
        Number of classes or labels.
    width : int, default=64
        Channels of the first stage, doubled in each of the three after it; the paper's 64. Parameters grow with its
        square.
    depth : {10, 18, 34}, default=18
        Layers with weights, without shortcuts: one, two, or three, four, six and three blocks of two convolutions in
        the four stages, the first convolution and the dense layer.
    kernel : int, default=7
        Kernel of all convolutions but those of the shortcuts, in samples; odd. The paper's network of images has 7 in
        the first and 3 in all others.
    dropout : float, default=0.0
        Dropout before the dense layer; the paper has none.
    momentum : float, default=0.1
        Share of a batch in the running statistics of the batch norms.

    Attributes
    ----------
    cam_layer : str
        Name of the layer for Grad-CAM: the last ReLU of the deepest stage whose map has at least 16 positions, of the
        first stage where none has (60 samples and less). From 481 samples on that is the last ReLU of all,
        ``"stages.3.1.relu2"`` (18 layers), a position at every 32 samples. The mean over time and an affine layer
        follow it, so Grad-CAM and HiResCAM are equal there. Stages before it have maps twice as fine each.

    Raises
    ------
    ValueError
        For sizes below 1, an even kernel, another depth, a dropout outside [0, 1), a momentum outside (0, 1].

    See Also
    --------
    HannunNet : A residual network that was published for ECG, of one lead.
    RibeiroNet : One of twelve leads.

    Notes
    -----
    Each ReLU and each sum is a module of its own, called once in a forward pass.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep residual learning for image recognition", CVPR 2016,
       arXiv:1512.03385.
    .. [2] J. Suh et al., "Visual interpretation of deep learning model in ECG classification: A comprehensive
       evaluation of feature attribution methods", Computers in Biology and Medicine 182:109088, 2024.

    Examples
    --------
    >>> import torch
    >>> from skecg.models import ResNet1d
    >>> net = ResNet1d(n_leads=12, n_timesteps=5000, n_outputs=3, width=4).eval()
    >>> net(torch.zeros(2, 12, 5000)).shape
    torch.Size([2, 3])
    """

    foldable = True  # every batch norm follows its convolution inside a Sequential that is called as a whole

    def __init__(
        self,
        n_leads: int = 1,
        n_timesteps: int = 2880,
        n_outputs: int = 5,
        *,
        width: int = 64,
        depth: int = 18,
        kernel: int = 7,
        dropout: float = 0.0,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        check_sizes(n_leads=n_leads, n_timesteps=n_timesteps, n_outputs=n_outputs, width=width, kernel=kernel)
        check_shares(dropout=dropout)
        check_momentum(momentum)
        if depth not in tuple(BLOCKS):  # a tuple, for a list is no key
            raise ValueError(f"depth must be one of {list(BLOCKS)}, got {depth!r}")
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that a convolution has a middle; got {kernel}")
        self.n_leads, self.n_timesteps, self.n_outputs = n_leads, n_timesteps, n_outputs
        self.stem = _conv(n_leads, width, kernel, 2, momentum)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool1d(3, stride=2, padding=1)
        stages, c_in = [], width
        for i, n_blocks in enumerate(BLOCKS[depth]):
            c_out = width * 2**i
            blocks = []
            for j in range(n_blocks):
                blocks.append(ResNetBlock(c_in, c_out, 2 if i > 0 and j == 0 else 1, kernel, momentum))
                c_in = c_out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.drop = nn.Dropout(dropout)
        self.dense = nn.Linear(c_in, n_outputs)
        enough = [i for i in range(4) if -(-n_timesteps // _hop(i)) >= _ENOUGH_STEPS]
        deepest = enough[-1] if enough else 0
        self.cam_layer = f"stages.{deepest}.{BLOCKS[depth][deepest] - 1}.relu2"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits.

        Parameters
        ----------
        x : tensor of shape (n_samples, n_leads, n_timesteps)
            ECG, mV.

        Returns
        -------
        logits : tensor of shape (n_samples, n_outputs)
            One logit a class or label.

        Raises
        ------
        ValueError
            For x of another shape.
        """
        check_input(x, self.n_leads)
        x = self.pool(self.relu(self.stem(x)))
        for stage in self.stages:
            x = stage(x)
        return self.dense(self.drop(x.mean(-1)))

    def cam_positions(self, layer: str, n_timesteps: int) -> np.ndarray:
        """Return at which sample each position of a layer's map is centred.

        Parameters
        ----------
        layer : str
            Name of a layer with a time axis, such as ``"stages.2.1.relu2"``.
        n_timesteps : int
            Length of the window in samples.

        Returns
        -------
        positions : ndarray of shape (n_positions,), float64
            In samples from the window's first: every convolution and the pooling are centred on a sample of theirs, so
            the first position is 0 throughout.

        Raises
        ------
        ValueError
            For a layer that has no time axis, or that there is not.
        """
        hop = self._hop_of(layer)
        return np.arange(-(-n_timesteps // hop), dtype=np.float64) * hop

    def _hop_of(self, layer: str) -> int:
        """Return how many samples lie between two positions of a layer's map."""
        if layer in dict(self.named_modules()):
            block = re.fullmatch(r"stages\.(\d)(\..+)?", layer)
            if block:
                return _hop(int(block[1]))
            if layer.startswith("stem") or layer == "relu":
                return 2
            if layer == "pool":
                return 4
        raise ValueError(
            f"layer {layer!r} of ResNet1d has no time axis or does not exist: take a stage of the network, such as "
            f"{self.cam_layer!r}"
        )


def _hop(stage: int) -> int:
    return 4 * 2**stage
