"""What several networks share: convolutions with "same" padding at any length and stride, sums, argument checks."""

from __future__ import annotations

import math
import numbers

import torch
import torch.nn.functional as F
from torch import nn

# Batch norm as Keras and TensorFlow have it: 0.99 of the old statistics is kept, and 1e-3 added to the variance.
KERAS_EPS = 1e-3
KERAS_MOMENTUM = 0.01


def check_sizes(**sizes: object) -> None:
    """Raise ValueError for a size that is no integer of at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")


def check_shares(**shares: object) -> None:
    """Raise ValueError for a share, such as a dropout, that is not at least 0 and below 1."""
    for name, value in shares.items():
        if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")


def check_momentum(momentum: object) -> None:
    """Raise ValueError for a momentum of batch norms that is not above 0 and at most 1."""
    if not isinstance(momentum, numbers.Real) or isinstance(momentum, bool) or not 0 < momentum <= 1:
        raise ValueError(f"momentum must be above 0 and at most 1, got {momentum!r}")


def check_input(x: torch.Tensor, n_leads: int) -> None:
    """Raise ValueError unless x is (n_samples, n_leads, n_timesteps) with at least one timestep."""
    if x.ndim != 3 or x.shape[1] != n_leads or x.shape[2] < 1:
        raise ValueError(f"x must be (n_samples, {n_leads}, n_timesteps); got {tuple(x.shape)}")


def same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding (left, right) that gives ceil(length / stride) positions, an odd one to the right."""
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


def _met(length: int, kernel: int, stride: int) -> tuple[slice, tuple[int, int]]:
    """Return the taps of a "same" convolution that meet a sample at some position, and the padding they need.

    A map of L samples is met by at most 2 L - 1 taps; on the short maps of the last blocks most of a kernel would
    only multiply padding.
    """
    left, right = same_padding(length, kernel, stride)
    first = max(0, left - (-(-length // stride) - 1) * stride)
    last = min(kernel - 1, left + length - 1)
    return slice(first, last + 1), (left - first, right - (kernel - 1 - last))


class SameConv1d(nn.Conv1d):
    """Convolution with ceil(L / stride) positions at any length L, padded as TensorFlow's "same"."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        taps, padding = _met(x.shape[-1], self.kernel_size[0], self.stride[0])
        return F.conv1d(F.pad(x, padding), self.weight[..., taps], self.bias, self.stride)


class SameConv2d(nn.Conv2d):
    """Two-dimensional convolution with ceil(L / stride) positions on either axis."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, above = _met(x.shape[-2], self.kernel_size[0], self.stride[0])
        columns, beside = _met(x.shape[-1], self.kernel_size[1], self.stride[1])
        return F.conv2d(F.pad(x, (*beside, *above)), self.weight[..., rows, columns], self.bias, self.stride)


class Add(nn.Module):
    """The sum of two maps of one shape, as a module: hooks and rules of relevance find a module and no plus sign."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


def he_normal_(weight: torch.Tensor) -> torch.Tensor:
    """Fill with a normal distribution cut at two standard deviations, of standard deviation sqrt(2 / fan in)."""
    # cutting a normal at 2 sd leaves 0.8796 of its sd
    sd = math.sqrt(2 / weight[0].numel()) / 0.87962566103423978
    return nn.init.trunc_normal_(weight, 0.0, sd, -2 * sd, 2 * sd)
