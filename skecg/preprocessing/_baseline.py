"""Removal of baseline wander by running medians."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter, uniform_filter1d

from ..utils._docs import fill_doc
from ..utils._transformer import WindowTransformer
from ..utils._validation import check_fs, check_number

# The baseline is slower than this by far (Hz): medians of so many values a second cost little.
_RATE = 50.0
# Samples treated at once.
_BLOCK = 2**20


@fill_doc
class BaselineRemover(WindowTransformer):
    """Each lead without its baseline wander, which two running medians estimate.

    A first running median takes out the P waves and QRS complexes, a second one the T waves [1]_; what is left,
    smoothed, is the baseline. Against a high-pass with a corner at 0.5 Hz, it takes out more of the wander and bends
    the ST segment less, for medians follow the isoelectric line and a high-pass follows the mean; the benchmarks have
    the figures, by rhythm. In atrial fibrillation, where there is no isoelectric line, a high-pass at 0.67 Hz is
    better. It is slower than the filter, and takes out no other noise: put a low-pass, ``BandpassFilter(None, 40)``,
    behind it where that is wanted.

    The medians are taken of means of 20 ms, and beyond its ends a window goes on as its mirror image.

    Parameters
    ----------
    fs : float
        Sampling rate of X, Hz. There is no default: where it is left at None, ``fit`` raises a ValueError.
    windows : tuple of (float, float), default=(0.25, 0.75)
        Lengths of the two medians, s. [1]_ took 0.2 and 0.6; these leave more of the ST segment as it is, for less of
        the fastest wander.

    Attributes
    ----------
    %(fitted)s

    See Also
    --------
    BandpassFilter : Takes out wander and noise in one step, quicker.

    References
    ----------
    .. [1] P. de Chazal, M. O'Dwyer, R. B. Reilly, "Automatic classification of heartbeats using ECG morphology and
           heartbeat interval features", IEEE Transactions on Biomedical Engineering 51(7), 1196-1206, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.preprocessing import BaselineRemover
    >>> t = np.arange(3600) / 360
    >>> beats = np.exp(-0.5 * (((t % 0.8) - 0.4) / 0.02) ** 2)
    >>> wander = 0.5 * np.sin(2 * np.pi * 0.2 * t)
    >>> removed = BaselineRemover(fs=360.0).fit_transform([beats + wander])
    >>> bool(np.abs(removed[0] - beats)[360:-360].max() < 0.1)
    True
    """

    def __init__(self, fs: float | None = None, *, windows: tuple[float, float] = (0.25, 0.75)) -> None:
        self.fs = fs
        self.windows = windows

    def _check_parameters(self) -> None:
        check_fs(self.fs, "BaselineRemover")
        if not isinstance(self.windows, tuple | list) or len(self.windows) != 2:
            raise ValueError(f"windows must be two lengths, such as (0.25, 0.75); got {self.windows!r}")
        for window in self.windows:
            check_number("each of windows", window, low=0, strict=True, unit="(s)")

    def _apply(self, cube: np.ndarray) -> np.ndarray:
        rows = cube.reshape(-1, cube.shape[-1])
        out = np.empty(rows.shape, dtype=np.float32)
        step = max(1, _BLOCK // rows.shape[1])
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            np.subtract(block, self._baseline(block), out=out[start : start + step])
        return out.reshape(cube.shape)

    def _baseline(self, rows: np.ndarray) -> np.ndarray:
        """Return the baseline of rows (n, n_timesteps), of the same shape."""
        n, n_timesteps = rows.shape
        width = max(1, round(self.fs / _RATE))
        whole = n_timesteps // width * width
        line = rows[:, :whole].reshape(n, -1, width).mean(axis=-1)
        centres = np.arange(line.shape[1]) * width + (width - 1) / 2
        if whole < n_timesteps:  # a last, shorter stretch
            line = np.concatenate([line, rows[:, whole:].mean(axis=-1, keepdims=True)], axis=1)
            centres = np.append(centres, (whole + n_timesteps - 1) / 2)
        sizes = [round(window * self.fs / width) | 1 for window in self.windows]
        for size in sizes:
            line = median_filter(line, size=(1, size), mode="mirror")
        line = uniform_filter1d(line, sizes[0], axis=-1, mode="mirror")
        if line.shape[1] == 1:
            return line
        # linear between the centres of the stretches, and on beyond the first and the last
        at = np.arange(n_timesteps)
        left = np.clip(np.searchsorted(centres, at, side="right") - 1, 0, len(centres) - 2)
        weight = ((at - centres[left]) / (centres[left + 1] - centres[left])).astype(np.float32)
        return line[:, left] + weight * (line[:, left + 1] - line[:, left])
