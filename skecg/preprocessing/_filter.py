"""Zero-phase band-pass and notch filter of each lead."""

from __future__ import annotations

import numpy as np
from scipy.fft import dct, idct

from ..utils._docs import fill_doc
from ..utils._transformer import WindowTransformer
from ..utils._validation import check_fs, check_number, check_option

# Samples filtered at once: large enough to hide the cost of a call, small enough to stay in the cache.
_BLOCK = 2**18
# Sums of larger values do not fit into float32.
_LARGE = 1e30
# Width of the notch: its frequency over the distance of the two frequencies at half the amplitude.
_NOTCH_QUALITY = 30.0
# Cycles of the mains in a window, at least, for a fit of their size and phase.
_FEWEST_CYCLES = 8


@fill_doc
class BandpassFilter(WindowTransformer):
    r"""Zero-phase Butterworth band-pass of each lead, with a notch for the mains if wanted.

    Takes out baseline wander below ``low`` and muscle noise and mains above ``high``, and moves no wave. The result
    is that of a digital Butterworth filter run forwards and backwards over the window continued for
    ever by its own mirror image: what ``scipy.signal.sosfiltfilt`` gives far from the ends of a recording. At the
    ends the mirror image follows the ECG better than the short point reflection that ``sosfiltfilt`` takes by
    default, which turns a window cut inside a QRS complex into a step; on windows of 2 s this matters, with
    ``low=0.5``, over the whole window.

    Since the continued window is even and periodic, its spectrum is a discrete cosine transform, and the filter one
    product there, with the squared gain of Butterworth [1]_ at :math:`\Omega = \tan(\pi f / f_s)`,

    .. math:: |H|^2 = \frac{1}{1 + q^{2n}}, \qquad
              q = \frac{\Omega^2 - \Omega_{low} \Omega_{high}}{\Omega \, (\Omega_{high} - \Omega_{low})},

    so no order and no corner makes it unstable. Forwards and backwards, the corners are at half the amplitude.

    There is no separate remover of the baseline: a corner of 0.67 Hz leaves about half of the wander that 0.5 Hz does,
    at a little more change of the ST segment of an ECG without wander. Running medians, the usual alternative, were
    sometimes ahead of it and sometimes behind, by the amount of wander (row S8 of the benchmarks has one such case).

    ``notch`` takes out the hum of the mains, which lies inside the band of a diagnostic ECG (up to 150 Hz), by the
    second-order notch of ``scipy.signal.iirnotch`` at quality 30, forwards and backwards as well. Its gain is
    :math:`|H|^2 = (\Omega^2 - \Omega_0^2)^2 / ((\Omega^2 - \Omega_0^2)^2 + (B \Omega)^2)` with :math:`\Omega_0` at
    the notch and :math:`B = (1 + \Omega_0^2) \tan(\pi f_0 / 30 f_s)`. A steady hum
    is fitted and subtracted before, so that none is left at the ends of a window either. With the default ``high`` of
    40 Hz there is little left of the mains, and no need for it. Harmonics stay.

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
    notch : {None, 50, 60}, default=None
        Frequency of the mains to be taken out, Hz, below ``fs / 2``; with ``low=None`` and ``high=None`` nothing else
        is. None for no notch.

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
        self,
        low: float | None = 0.5,
        high: float | None = 40.0,
        *,
        fs: float | None = None,
        order: int = 2,
        notch: float | None = None,
    ) -> None:
        self.low = low
        self.high = high
        self.fs = fs
        self.order = order
        self.notch = notch

    def _check_parameters(self) -> None:
        fs = check_fs(self.fs, "BandpassFilter")
        check_number("order", self.order, low=1, integer=True)
        if self.low is None and self.high is None and self.notch is None:
            raise ValueError("low and high are both None, so nothing is filtered: give at least one of them (Hz)")
        if self.notch is not None:
            check_option("notch", float(check_number("notch", self.notch)), (50.0, 60.0))
            check_number("notch", self.notch, high=fs / 2, strict=True, unit=f"(Hz; fs={fs:g})")
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), low=0, high=fs / 2, strict=True, unit=f"(Hz; fs={fs:g})")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low must be below high; got low={self.low!r} and high={self.high!r} (Hz)")

    def _apply(self, cube: np.ndarray) -> np.ndarray:
        n_timesteps = cube.shape[-1]
        gain = self._gain(n_timesteps)
        rows = cube.reshape(-1, n_timesteps)
        # The transform rounds no more than float32 did to X, once the mean, which may be large, is apart.
        dtype = np.float32 if max(rows.max(), -rows.min()) < _LARGE else np.float64
        factor, hum = gain.astype(dtype), self._hum(n_timesteps)
        out = np.empty(rows.shape, dtype=np.float32)
        step = max(1, _BLOCK // n_timesteps)
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            mean = block.mean(axis=-1, keepdims=True, dtype=dtype)
            left = block - mean
            for wave in hum.astype(dtype):
                left -= np.vecdot(left, wave)[:, None] * wave
            spectrum = dct(left, axis=-1, overwrite_x=True)
            spectrum *= factor
            filtered = idct(spectrum, axis=-1, overwrite_x=True)
            np.add(filtered, gain[0].astype(dtype) * mean, out=out[start : start + step], casting="same_kind")
        return out.reshape(cube.shape)

    def _hum(self, n_timesteps: int) -> np.ndarray:
        """Return two orthonormal waves (2, n_timesteps) of the frequency of the notch; none where there is no room.

        The notch takes out whatever has its frequency, so nothing changes in the middle of a window if a steady hum
        is subtracted before. At the ends it does: a hum does not go on as its mirror image.
        """
        if self.notch is None or n_timesteps * self.notch < _FEWEST_CYCLES * self.fs:
            return np.empty((0, n_timesteps))
        line, angle = np.linspace(-1, 1, n_timesteps), 2 * np.pi * self.notch / self.fs * np.arange(n_timesteps)
        basis = np.stack([np.ones(n_timesteps), line, np.cos(angle), np.sin(angle)], axis=1)
        return np.linalg.qr(basis)[0].T[2:]  # without what they share with a straight line

    def _gain(self, n_timesteps: int) -> np.ndarray:
        """Return the gain, forwards and backwards, at the frequencies of the cosine transform, (n_timesteps,)."""
        omega = np.tan(np.pi * np.arange(n_timesteps) / (2 * n_timesteps))
        low, high = (None if corner is None else np.tan(np.pi * corner / self.fs) for corner in (self.low, self.high))
        with np.errstate(divide="ignore", over="ignore"):  # q is infinite where nothing passes
            if low is None and high is None:
                gain = np.ones(n_timesteps)
            else:
                if low is None:
                    q = omega / high
                elif high is None:
                    q = low / omega
                else:
                    q = (omega**2 - low * high) / (omega * (high - low))
                gain = 1 / (1 + np.abs(q) ** (2 * self.order))
        if self.notch is not None:
            centre = np.tan(np.pi * self.notch / self.fs)
            width = (1 + centre**2) * np.tan(np.pi * self.notch / (_NOTCH_QUALITY * self.fs))
            hole = (omega**2 - centre**2) ** 2
            gain *= hole / (hole + (width * omega) ** 2)
        return gain
