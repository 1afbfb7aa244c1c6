"""The log-spectrogram as a layer, so that a network of spectrograms takes ECG and explainers reach the ECG."""

from __future__ import annotations

import numbers

import numpy as np
import torch
import torch.nn.functional as F
from scipy.signal import get_window
from torch import nn

from ._layers import check_sizes


class LogSpectrogram(nn.Module):
    """Logarithm of the power of short segments, as ``scipy.signal.spectrogram`` with its defaults gives it.

    Segments have their mean removed and a periodic Tukey window (0.25) put on; power is one-sided density. Frame j
    covers the samples from ``j * hop`` on, ``nperseg`` of them; samples behind the last whole frame are not seen.
    Shorter input is padded with zeros at its right end to one frame.

    Parameters
    ----------
    nperseg : int, default=64
        Samples in a segment, at least 2.
    noverlap : int, default=32
        Samples that two neighbours share, below ``nperseg``.
    fs : float, default=300.0
        Sampling rate in Hz. It moves every logarithm by one constant and nothing else.
    scale : float, default=1000.0
        Factor on the input: mV become uV, and the power uV^2 / Hz.
    floor : float or None, default=1e-3
        Power below which it counts as this, in uV^2 / Hz: under the quantisation noise of MIT-BIH (1.2e-2), so that
        recorded ECG is not touched, and the gradient of a flat stretch is zero. None floors nothing but exact zeros,
        whose logarithm is given as 0; the gradient of a nearly flat stretch is then as large as 1e8.
    """

    def __init__(
        self,
        nperseg: int = 64,
        noverlap: int = 32,
        *,
        fs: float = 300.0,
        scale: float = 1000.0,
        floor: float | None = 1e-3,
    ) -> None:
        super().__init__()
        check_sizes(nperseg=nperseg)
        if nperseg < 2:
            raise ValueError(f"nperseg must be at least 2, since one sample has no spectrum; got {nperseg}")
        if not isinstance(noverlap, numbers.Integral) or not 0 <= noverlap < nperseg:
            raise ValueError(f"noverlap must be an integer from 0 to nperseg - 1 = {nperseg - 1}, got {noverlap!r}")
        for name, value in {"fs": fs, "scale": scale, "floor": 1.0 if floor is None else floor}.items():
            if not isinstance(value, numbers.Real) or not 0 < value < float("inf"):
                raise ValueError(f"{name} must be a number above 0, got {value!r}")
        self.nperseg, self.hop = nperseg, nperseg - noverlap
        self.fs, self.scale, self.floor = fs, scale, floor
        window = get_window(("tukey", 0.25), nperseg)
        sides = np.full(nperseg // 2 + 1, 2.0)  # the negative frequencies are folded onto the positive ones
        sides[0] = 1
        if nperseg % 2 == 0:
            sides[-1] = 1
        gain = sides / (fs * (window**2).sum())
        # no part of a state dict: they follow from the parameters
        self.register_buffer("window", torch.tensor(window, dtype=torch.float32), persistent=False)
        self.register_buffer("gain", torch.tensor(gain, dtype=torch.float32), persistent=False)

    @property
    def n_frequencies(self) -> int:
        """Number of frequency bins, from 0 to half the sampling rate."""
        return self.nperseg // 2 + 1

    def n_frames(self, n_timesteps: int) -> int:
        """Return the number of frames of an input of some length."""
        return (max(n_timesteps, self.nperseg) - self.nperseg) // self.hop + 1

    def positions(self, n_timesteps: int) -> np.ndarray:
        """Return at which sample each frame is centred, float64."""
        return np.arange(self.n_frames(n_timesteps)) * float(self.hop) + (self.nperseg - 1) / 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., n_frames, n_frequencies) of (..., n_timesteps)."""
        x = F.pad(x, (0, max(0, self.nperseg - x.shape[-1])))
        frames = (x * self.scale).unfold(-1, self.nperseg, self.hop)
        spectrum = torch.fft.rfft((frames - frames.mean(-1, keepdim=True)) * self.window)
        power = (spectrum.real.square() + spectrum.imag.square()) * self.gain
        if self.floor is not None:
            return power.clamp_min(self.floor).log()
        # inside and outside of where: the gradient of a logarithm of zero would be NaN in spite of it
        return torch.where(power > 0, power.clamp_min(torch.finfo(power.dtype).tiny).log(), 0.0)

    def extra_repr(self) -> str:
        return f"nperseg={self.nperseg}, hop={self.hop}, fs={self.fs}, scale={self.scale}, floor={self.floor}"
