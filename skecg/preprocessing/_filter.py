"""Zero-phase band-pass filter of each lead."""

from __future__ import annotations

import numpy as np
from scipy.fft import dct, idct

from ..utils._docs import fill_doc
from ..utils._transformer import WindowTransformer
from ..utils._validation import check_fs, check_number

# Samples filtered at once: large enough to hide the cost of a call, small enough to bound the float64 copies.
_BLOCK = 2**18


@fill_doc
class BandpassFilter(WindowTransformer):
    r"""Zero-phase Butterworth band-pass of each lead.

    Takes out baseline wander below ``low`` and muscle noise and mains above ``high``, and moves no wave. The result
    is that of a digital Butterworth filter run forwards and backwards, in float64, over the window continued for
    ever by its own mirror image: what ``scipy.signal.sosfiltfilt`` gives far from the ends of a recording. At the
    ends the mirror image follows the ECG better than the short point reflection that ``sosfiltfilt`` takes by
    default, which turns a window cut inside a QRS complex into a step; on windows of 2 s this matters, with
    ``low=0.5``, over the whole window.

    Since the continued window is even and periodic, its spectrum is a discrete cosine transform, and the filter one
    product there, with the squared gain of Butterworth [1]_ at :math:`\Omega = \tan(\pi f / f_s)`,

    .. math:: |H|^2 = \frac{1}{1 + q^{2n}}, \qquad
              q = \frac{\Omega^2 - \Omega_{low} \Omega_{high}}{\Omega \, (\Omega_{high} - \Omega_{low})},

    so no order and no corner makes it unstable. Forwards and backwards, the corners are at half the amplitude.

    Parameters
    ----------
    low : float or None, default=0.5
        Lower corner, Hz; None for a low-pass.
    high : float or None, default=40.0
        Upper corner, Hz, below ``fs / 2``; None for a high-pass.
    fs : float
        Sampling rate of X, Hz. There is no default: where it is left at None, ``fit`` raises a ValueError.
    order : int, default=2
        Order n of the Butterworth filter in each direction, as in ``scipy.signal.butter``.

    Attributes
    ----------
    %(fitted)s

    See Also
    --------
    ECGScaler : Zero mean and unit deviation of each window.

    References
    ----------
    .. [1] S. Butterworth, "On the theory of filter amplifiers", Experimental Wireless and the Wireless Engineer 7,
           536-541, 1930.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.preprocessing import BandpassFilter
    >>> t = np.arange(720) / 360
    >>> wander, wave = 2 * np.sin(2 * np.pi * 0.05 * t), np.sin(2 * np.pi * 10 * t)
    >>> filtered = BandpassFilter(0.5, 40.0, fs=360.0).fit_transform([wander + wave])
    >>> filtered.shape, filtered.dtype
    ((1, 720), dtype('float32'))
    >>> bool(np.abs(filtered[0] - wave)[180:540].max() < 0.1)
    True
    """

    def __init__(
        self, low: float | None = 0.5, high: float | None = 40.0, *, fs: float | None = None, order: int = 2
    ) -> None:
        self.low = low
        self.high = high
        self.fs = fs
        self.order = order

    def _check_parameters(self) -> None:
        fs = check_fs(self.fs, "BandpassFilter")
        check_number("order", self.order, low=1, integer=True)
        if self.low is None and self.high is None:
            raise ValueError("low and high are both None, so nothing is filtered: give at least one of them (Hz)")
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), low=0, high=fs / 2, strict=True, unit=f"(Hz; fs={fs:g})")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low must be below high; got low={self.low!r} and high={self.high!r} (Hz)")

    def _apply(self, cube: np.ndarray) -> np.ndarray:
        n_timesteps = cube.shape[-1]
        gain = self._gain(n_timesteps)
        rows = cube.reshape(-1, n_timesteps)
        out = np.empty(rows.shape, dtype=np.float32)
        step = max(1, _BLOCK // n_timesteps)
        for start in range(0, len(rows), step):
            spectrum = dct(rows[start : start + step].astype(np.float64), axis=-1, overwrite_x=True)
            spectrum *= gain
            out[start : start + step] = idct(spectrum, axis=-1, overwrite_x=True)
        return out.reshape(cube.shape)

    def _gain(self, n_timesteps: int) -> np.ndarray:
        """Return the gain, forwards and backwards, at the frequencies of the cosine transform, (n_timesteps,)."""
        omega = np.tan(np.pi * np.arange(n_timesteps) / (2 * n_timesteps))
        low, high = (None if corner is None else np.tan(np.pi * corner / self.fs) for corner in (self.low, self.high))
        with np.errstate(divide="ignore", over="ignore"):  # q is infinite where nothing passes
            if low is None:
                q = omega / high
            elif high is None:
                q = low / omega
            else:
                q = (omega**2 - low * high) / (omega * (high - low))
            return 1 / (1 + np.abs(q) ** (2 * self.order))
