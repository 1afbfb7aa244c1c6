"""ZihlmannCNN and ZihlmannCRNN: convolutions over log-spectrograms, of Zihlmann et al. 2017."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ._layers import (
    KERAS_EPS,
    KERAS_MOMENTUM,
    SameConv2d,
    check_input,
    check_momentum,
    check_shares,
    check_sizes,
    same_padding,
)
from ._spectrogram import LogSpectrogram

KERNEL = 5
N_LSTM_LAYERS = 3
# Steps in time that a map must have to tell places apart; of the layers that have them Grad-CAM takes the deepest.
_ENOUGH_STEPS = 10


class ZihlmannBlock(nn.Module):
    """``depth`` times convolution 5 x 5, batch norm, ReLU; the last widens and strides 2 x 2; dropout at the end.

    ``frames`` tells the real length of each map in time: what lies behind it is kept at zero, as beyond the edge.
    """

    def __init__(self, c_in: int, width: int, growth: int, depth: int, dropout: float, momentum: float) -> None:
        super().__init__()
        layers = []
        for i in range(depth):
            stride, c_out = (2, width + growth) if i == depth - 1 else (1, width)
            conv = SameConv2d(c_in, c_out, KERNEL, stride=stride)
            layers.append(nn.Sequential(conv, nn.BatchNorm2d(c_out, eps=KERAS_EPS, momentum=momentum), nn.ReLU()))
            c_in = c_out
        self.layers = nn.ModuleList(layers)
        self.drop = nn.Dropout(dropout)
        self.n_channels = c_in

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
        if frames is None:
            for layer in self.layers:
                x = layer(x)
            return self.drop(x)
        for layer in self.layers[:-1]:
            x = layer(x) * _within(frames, x.shape[2])
        conv, norm, act = self.layers[-1]
        # "same" padding at stride 2 goes by the length's parity, so a record of the other parity than the batch has
        # its positions elsewhere: where they are with one frame more
        other = (frames - x.shape[2]) % 2 != 0
        strided = conv(x)
        moved = conv(F.pad(x, (0, 0, 0, 1)))[:, :, : strided.shape[2]]
        x = act(norm(torch.where(other[:, None, None, None], moved, strided)))
        return self.drop(x * _within(_halved(frames), x.shape[2]))


class _ZihlmannNet(nn.Module):
    """What both networks have in common: spectrogram, blocks, lengths, and where their maps stand in time."""

    def _build(
        self,
        n_leads: int,
        n_timesteps: int,
        n_outputs: int,
        n_blocks: int,
        depth: int,
        width: int,
        growth: int | None,
        dropout: float,
        momentum: float,
        spectrogram: dict[str, Any],
    ) -> None:
        growth = width if growth is None else growth
        check_sizes(n_leads=n_leads, n_timesteps=n_timesteps, n_outputs=n_outputs, width=width, growth=growth)
        check_shares(dropout=dropout)
        check_momentum(momentum)
        self.n_leads, self.n_timesteps, self.n_outputs = n_leads, n_timesteps, n_outputs
        self.spectrogram = LogSpectrogram(**spectrogram)
        self.min_timesteps = self.spectrogram.nperseg
        blocks, channels, frequencies = [], n_leads, self.spectrogram.n_frequencies
        for i in range(n_blocks):
            blocks.append(ZihlmannBlock(channels, channels if i else width, growth, depth, dropout, momentum))
            channels, frequencies = blocks[-1].n_channels, _halved(frequencies)
        self.blocks = nn.ModuleList(blocks)
        self.n_features = channels * frequencies
        self.cam_layer = self._deepest_with_place(n_blocks, depth)

    def _start(self) -> None:
        """Draw the first weights of convolutions and dense layers as TensorFlow does: Glorot's uniform."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)

    def _deepest_with_place(self, n_blocks: int, depth: int) -> str:
        """Return the deepest ReLU whose map has ten steps in time; of very short windows one that is not strided."""
        lengths = self._lengths(self.n_timesteps, n_blocks)
        level = max((i for i, length in enumerate(lengths) if length >= _ENOUGH_STEPS), default=0)
        if level == n_blocks:
            return f"blocks.{n_blocks - 1}.layers.{depth - 1}.2"
        return f"blocks.{level}.layers.{depth - 2}.2"  # the last before the block strides

    def _lengths(self, n_timesteps: int, n_strides: int) -> list[int]:
        """Return the lengths in time of the spectrogram and of the maps after each stride."""
        lengths = [self.spectrogram.n_frames(n_timesteps)]
        for _ in range(n_strides):
            lengths.append(_halved(lengths[-1]))
        return lengths

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Return the logits.

        Parameters
        ----------
        x : tensor of shape (n_samples, n_leads, n_timesteps)
            ECG, mV.
        lengths : tensor of int of shape (n_samples,), default=None
            Real length of each record in samples, where shorter ones were padded at their right end. What lies behind
            it is not looked at, whatever it holds: in eval mode the answer is that to the record alone, without the
            padding. None: all are as long as x.

        Returns
        -------
        logits : tensor of shape (n_samples, n_outputs)
            One logit a class.

        Raises
        ------
        ValueError
            For x of another shape, or lengths that are not one integer a record, from 1 to n_timesteps.
        """
        check_input(x, self.n_leads)
        frames = None
        if lengths is not None:
            lengths = _check_lengths(lengths, x)
            behind = torch.arange(x.shape[-1], device=x.device) >= lengths[:, None]
            x = x.masked_fill(behind[:, None], 0.0)
            frames = (lengths - self.spectrogram.nperseg).clamp(min=0) // self.spectrogram.hop + 1
        x = self.spectrogram(x)
        if frames is not None:
            x = x * _within(frames, x.shape[2])
        for block in self.blocks:
            x = block(x, frames)
            frames = None if frames is None else _halved(frames)
        # a step's features: frequency by frequency, channels fastest
        return self._head(x.permute(0, 2, 3, 1).flatten(2), frames)

    def _head(self, steps: torch.Tensor, n_steps: torch.Tensor | None) -> torch.Tensor:
        """Return the logits of (n_samples, steps, features), of which ``n_steps`` are real."""
        raise NotImplementedError  # abstract: the CNN and the CRNN define it

    def cam_positions(self, layer: str, n_timesteps: int) -> np.ndarray:
        """Return at which sample each time step of a layer's map (n, channels, time, frequency) is centred.

        Parameters
        ----------
        layer : str
            Name of a layer with a time axis, such as ``"blocks.1.layers.2.2"``.
        n_timesteps : int
            Length of the window in samples.

        Returns
        -------
        positions : ndarray of shape (n_positions,), float64
            In samples from the window's first; of windows below ``min_timesteps`` perhaps behind their end.

        Raises
        ------
        ValueError
            For a layer that has no such map, or that there is not.
        """
        n_strides = self._strides(layer)
        positions = self.spectrogram.positions(n_timesteps)
        for length in self._lengths(n_timesteps, n_strides)[:-1]:
            left, _ = same_padding(length, KERNEL, 2)  # 2 at odd lengths, 1 at even ones
            positions = positions[KERNEL // 2 - left :: 2]
        return positions

    def _strides(self, layer: str) -> int:
        """Return how many strides lie between the spectrogram and the map that a layer gives."""
        if layer in dict(self.named_modules()):
            if layer == "spectrogram":
                return 0
            inside = re.fullmatch(r"blocks\.(\d+)(?:\.drop|\.layers\.(\d+)(?:\.\d)?)?", layer)
            if inside:
                last = len(self.blocks[int(inside[1])].layers) - 1
                return int(inside[1]) + (inside[2] is None or int(inside[2]) == last)
        raise ValueError(
            f"layer {layer!r} of {type(self).__name__} gives no map (n, channels, time, frequency) or does not exist: "
            f"take a convolutional stage, such as {self.cam_layer!r}"
        )


class ZihlmannCNN(_ZihlmannNet):
    """ZihlmannCNN, 24 convolutions over the log-spectrogram, their mean over time, and one dense layer.

    The first of the two networks of Zihlmann et al. [1]_: six blocks of four convolutions, exactly 9,841,640
    parameters at one lead, 8 classes and full width. Input is ECG in mV, (n_samples, n_leads, n_timesteps); the
    spectrogram (64 samples, every 32) is made inside the network. Output is logits, (n_samples, n_outputs). Input
    shorter than one segment of 64 samples is padded with zeros at its right end; any length is taken with the same
    weights, and up to 31 last samples that fill no segment are not seen.

    Parameters
    ----------
    n_leads : int, default=1
        Leads of the ECG; the paper has one. Each lead's spectrogram is one channel of the first convolution's input.
    n_timesteps : int, default=720
        Length of the window in samples. It chooses ``cam_layer`` and nothing else.
    n_outputs : int, default=8
        Number of classes or labels.
    width : int, default=32
        Channels of the first block; the paper's 32.
    dropout : float, default=0.15
        Dropout after each block; the authors' value.
    growth : int, default=None
        Channels that each block adds; None takes ``width``, as in the paper. Parameters then grow with its square.
    fs : float, default=300.0
        Sampling rate, Hz, which the spectrogram's density is divided by: a constant on every logarithm.
    scale : float, default=1000.0
        Factor from mV to the unit that the authors' files are in, uV.
    floor : float or None, default=1e-3
        Power in uV^2 / Hz below which it counts as this, so that flat stretches have no gradient; None as the authors.
    nperseg : int, default=64
        Samples in a segment of the spectrogram.
    noverlap : int, default=32
        Samples that two segments share.
    momentum : float, default=0.01
        Share of a batch in the running statistics of the batch norms; the authors'. Trainings of less than some
        hundred batches need more, such as 0.1: after 100 batches at 0.01 the initial statistics still count a third.

    Attributes
    ----------
    cam_layer : str
        Name of the layer for Grad-CAM: the deepest ReLU whose map has at least ten steps in time. At 720 samples
        ``"blocks.1.layers.2.2"`` (11 steps of 17 frequencies), at 9,000 ``"blocks.4.layers.2.2"`` (18 steps).
    min_timesteps : int
        ``nperseg``, the length to which shorter input is padded.

    Raises
    ------
    ValueError
        For sizes below 1, a dropout outside [0, 1), a momentum outside (0, 1], or a spectrogram that is none.

    See Also
    --------
    ZihlmannCRNN : The same with LSTMs in place of the mean.
    ZIHLMANN_2017 : The authors' training settings.

    Notes
    -----
    Written from the layer list of the authors' program, and compared with it numerically. These of its faults are not
    taken over:

    - its dropout after the blocks is never switched on; here it acts in training,
    - the logarithms of the power pass through 16-bit integers, which cuts their decimals off,
    - augmentation is redrawn at epochs 0, 2, 8, 10, 16, ..., by a bit-wise "and" in place of a modulo,
    - the learning rate is divided by 10 and 100 in the last phases without effect,
    - padding is left out of the mean alone; with ``lengths`` it is left out of every layer here.

    References
    ----------
    .. [1] M. Zihlmann, D. Perekrestenko and M. Tschannen, "Convolutional recurrent neural networks for
       electrocardiogram classification", Computing in Cardiology 2017, arXiv:1710.06122.

    Examples
    --------
    >>> import torch
    >>> from skecg.models import ZihlmannCNN
    >>> net = ZihlmannCNN(n_outputs=5, width=2).eval()
    >>> net(torch.zeros(2, 1, 720)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_leads: int = 1,
        n_timesteps: int = 720,
        n_outputs: int = 8,
        *,
        width: int = 32,
        dropout: float = 0.15,
        growth: int | None = None,
        fs: float = 300.0,
        scale: float = 1000.0,
        floor: float | None = 1e-3,
        nperseg: int = 64,
        noverlap: int = 32,
        momentum: float = KERAS_MOMENTUM,
    ) -> None:
        super().__init__()
        spectrogram = {"nperseg": nperseg, "noverlap": noverlap, "fs": fs, "scale": scale, "floor": floor}
        self._build(n_leads, n_timesteps, n_outputs, 6, 4, width, growth, dropout, momentum, spectrogram)
        self.dense = nn.Linear(self.n_features, n_outputs)
        self._start()

    def _head(self, steps: torch.Tensor, n_steps: torch.Tensor | None) -> torch.Tensor:
        return self.dense(_mean(steps, n_steps))


class ZihlmannCRNN(_ZihlmannNet):
    """ZihlmannCRNN, 24 convolutions over the log-spectrogram, two stacks of LSTMs, their means, one dense layer.

    The second of the two networks of Zihlmann et al. [1]_: four blocks of six convolutions, then three LSTM layers
    that read the steps forward and three that read them backward; exactly 5,635,752 parameters at one lead, 8 classes
    and full width. The two stacks do not see each other's layers, unlike those of a bidirectional ``nn.LSTM``. Input,
    output, spectrogram and lengths are those of :class:`ZihlmannCNN`.

    Parameters
    ----------
    n_leads : int, default=1
        Leads of the ECG; the paper has one. Each lead's spectrogram is one channel of the first convolution's input.
    n_timesteps : int, default=720
        Length of the window in samples. It chooses ``cam_layer`` and nothing else.
    n_outputs : int, default=8
        Number of classes or labels.
    width : int, default=32
        Channels of the first block; the paper's 32.
    dropout : float, default=0.15
        Dropout after each block and each LSTM layer; the authors' value.
    growth : int, default=None
        Channels that each block adds; None takes ``width``, as in the paper. Parameters then grow with its square.
    hidden : int, default=None
        Units of each LSTM layer; None takes 100 / 32 of ``width``: the paper's 100 at full width.
    fs : float, default=300.0
        Sampling rate, Hz, which the spectrogram's density is divided by: a constant on every logarithm.
    scale : float, default=1000.0
        Factor from mV to the unit that the authors' files are in, uV.
    floor : float or None, default=1e-3
        Power in uV^2 / Hz below which it counts as this, so that flat stretches have no gradient; None as the authors.
    nperseg : int, default=64
        Samples in a segment of the spectrogram.
    noverlap : int, default=32
        Samples that two segments share.
    momentum : float, default=0.01
        Share of a batch in the running statistics of the batch norms; the authors'. Trainings of less than some
        hundred batches need more, such as 0.1: after 100 batches at 0.01 the initial statistics still count a third.

    Attributes
    ----------
    cam_layer : str
        Name of the layer for Grad-CAM: the deepest ReLU whose map has at least ten steps in time. At 720 samples
        ``"blocks.1.layers.4.2"`` (11 steps of 17 frequencies), at 9,000 ``"blocks.3.layers.5.2"`` (18 steps). A
        recurrent layer gives no map.
    min_timesteps : int
        ``nperseg``, the length to which shorter input is padded.

    Raises
    ------
    ValueError
        For sizes below 1, a dropout outside [0, 1), a momentum outside (0, 1], or a spectrogram that is none.

    See Also
    --------
    ZihlmannCNN : The network without LSTMs, and the faults of the authors' program.
    ZIHLMANN_2017 : The authors' training settings.

    Notes
    -----
    The number of parameters counts torch's two biases an LSTM layer; TensorFlow has one, and 5,633,352 in all. The
    authors' graph also holds a branch of their first training phase (96,200 more), which the final network does not
    use. To the faults named in :class:`ZihlmannCNN` comes one more that is not taken over: the authors' dropout after
    the LSTMs acts in prediction too; here it acts in training alone. The forget gates start with a bias of 1.

    References
    ----------
    .. [1] M. Zihlmann, D. Perekrestenko and M. Tschannen, "Convolutional recurrent neural networks for
       electrocardiogram classification", Computing in Cardiology 2017, arXiv:1710.06122.

    Examples
    --------
    >>> import torch
    >>> from skecg.models import ZihlmannCRNN
    >>> net = ZihlmannCRNN(n_outputs=5, width=2).eval()
    >>> net(torch.zeros(2, 1, 720)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_leads: int = 1,
        n_timesteps: int = 720,
        n_outputs: int = 8,
        *,
        width: int = 32,
        dropout: float = 0.15,
        growth: int | None = None,
        hidden: int | None = None,
        fs: float = 300.0,
        scale: float = 1000.0,
        floor: float | None = 1e-3,
        nperseg: int = 64,
        noverlap: int = 32,
        momentum: float = KERAS_MOMENTUM,
    ) -> None:
        super().__init__()
        spectrogram = {"nperseg": nperseg, "noverlap": noverlap, "fs": fs, "scale": scale, "floor": floor}
        self._build(n_leads, n_timesteps, n_outputs, 4, 6, width, growth, dropout, momentum, spectrogram)
        hidden = max(1, 100 * width // 32) if hidden is None else hidden
        check_sizes(hidden=hidden)
        stack = {"num_layers": N_LSTM_LAYERS, "batch_first": True, "dropout": dropout}
        self.lstm_forward = nn.LSTM(self.n_features, hidden, **stack)
        self.lstm_backward = nn.LSTM(self.n_features, hidden, **stack)
        self.lstm_drop = nn.Dropout(dropout)
        self.dense = nn.Linear(2 * hidden, n_outputs)
        self._start()
        _start_lstm(self.lstm_forward)
        _start_lstm(self.lstm_backward)

    def _head(self, steps: torch.Tensor, n_steps: torch.Tensor | None) -> torch.Tensor:
        onward = self.lstm_forward(steps)[0]
        backward = self.lstm_backward(_reversed(steps, n_steps))[0]
        return self.dense(_mean(self.lstm_drop(torch.cat([backward, onward], 2)), n_steps))


def _halved(length: Any) -> Any:
    """Return the length after a stride of two."""
    return (length + 1) // 2


def _check_lengths(lengths: Any, x: torch.Tensor) -> torch.Tensor:
    lengths = torch.as_tensor(lengths, device=x.device)
    whole = not (lengths.is_floating_point() or lengths.is_complex() or lengths.dtype is torch.bool)
    if lengths.shape != x.shape[:1] or not whole or bool(((lengths < 1) | (lengths > x.shape[-1])).any()):
        raise ValueError(
            f"lengths must be one integer from 1 to n_timesteps = {x.shape[-1]} for each of the {len(x)} records; got "
            f"{lengths.dtype} of shape {tuple(lengths.shape)}: {lengths.flatten()[:10].tolist()}"
        )
    return lengths.long()


def _within(frames: torch.Tensor, length: int) -> torch.Tensor:
    """Return a mask (n, 1, length, 1) of the positions before each record's end."""
    return (torch.arange(length, device=frames.device) < frames[:, None])[:, None, :, None]


def _mean(steps: torch.Tensor, n_steps: torch.Tensor | None) -> torch.Tensor:
    """Return the mean over the real steps."""
    if n_steps is None:
        return steps.mean(1)
    return (steps * _within(n_steps, steps.shape[1])[:, 0]).sum(1) / n_steps[:, None]


def _reversed(steps: torch.Tensor, n_steps: torch.Tensor | None) -> torch.Tensor:
    """Return the steps in reversed order; of padded records the real ones first."""
    if n_steps is None:
        return steps.flip(1)
    order = (n_steps[:, None] - 1 - torch.arange(steps.shape[1], device=steps.device)) % steps.shape[1]
    return steps.gather(1, order[..., None].expand_as(steps))


def _start_lstm(lstm: nn.LSTM) -> None:
    """Draw the first weights as TensorFlow does, one Glorot matrix for input and state, forget gates open."""
    size = lstm.hidden_size
    for layer in range(lstm.num_layers):
        of_input, of_state, bias, second_bias = lstm.all_weights[layer]
        bound = math.sqrt(6 / (of_input.shape[1] + size + 4 * size))
        for weight in (of_input, of_state):
            nn.init.uniform_(weight, -bound, bound)
        for vector in (bias, second_bias):
            nn.init.zeros_(vector)
        with torch.no_grad():
            bias[size : 2 * size] = 1.0  # gates in torch's order: input, forget, cell, output
