"""Another sampling rate: of ECG, of relevance, of positions and of truth masks."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.signal import firwin
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils.validation import check_is_fitted

from ..utils._docs import fill_doc
from ..utils._transformer import WindowTransformer
from ..utils._validation import check_fs, check_number

# Largest term of the ratio of the rates: it is the length of a row of the filter's matrix.
_LARGEST = 2000
# Input samples that one row of the matrix product steps over, at least.
_HOP = 64
# Samples filtered at once, so that they stay in the cache.
_BLOCK = 2**18


@fill_doc
class Resampler(ClassNamePrefixFeaturesOutMixin, WindowTransformer):
    """Resampling of each lead to another sampling rate, by a polyphase filter.

    The filter is that of ``scipy.signal.resample_poly`` (a Kaiser window with beta 5, ten zero crossings on either
    side), zero-phase, with half the amplitude at the lower one of the two Nyquist frequencies. It differs in two
    points: each phase of the filter has a gain of exactly one, so that a constant stays constant, and beyond its ends
    a window goes on as its point reflection, where ``resample_poly`` assumes zeros and rings at both ends of any
    window whose baseline is not zero. Away from the ends (ten samples of the lower rate) the two agree to 1e-3.

    The first sample stays the first: sample ``i`` of the result is at the time ``i / new_fs``. So a position ``p``
    becomes ``p * new_fs / fs`` (:func:`resample_positions`), and a mask of samples goes along by
    :func:`resample_mask`.

    Parameters
    ----------
    fs : float
        Sampling rate of X, Hz. There is no default: where it is left at None, ``fit`` raises a ValueError.
    new_fs : float
        Sampling rate wanted, Hz. ``new_fs / fs`` must be a ratio of integers up to 2000, which all integer rates up
        to 2000 Hz are.

    Attributes
    ----------
    n_timesteps_out_ : int
        Time steps of the result: ``ceil(n_timesteps_ * new_fs / fs)``, as many as have a time before the end of the
        last sample of X.
    %(fitted)s

    Raises
    ------
    ValueError
        In ``fit``, for rates that are missing, not positive or of no simple ratio, and for NaN, which the filter would
        spread: fill or leave out such windows before.

    See Also
    --------
    PadOrCrop : A number of time steps, at the same rate.
    resample_positions : Positions, such as R peaks, at the new rate.

    References
    ----------
    .. [1] R. E. Crochiere, L. R. Rabiner, "Interpolation and decimation of digital signals: a tutorial review",
           Proceedings of the IEEE 69(3), 300-331, 1981.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.preprocessing import Resampler
    >>> X = np.sin(2 * np.pi * 5 * np.arange(5000) / 500)[None]
    >>> resampled = Resampler(500, 400).fit_transform(X)
    >>> resampled.shape, resampled.dtype
    ((1, 4000), dtype('float32'))
    >>> bool(np.allclose(resampled, np.sin(2 * np.pi * 5 * np.arange(4000) / 400), atol=0.01))
    True
    """

    def __init__(self, fs: float | None = None, new_fs: float | None = None) -> None:
        self.fs = fs
        self.new_fs = new_fs

    def fit(self, X: Any, y: Any = None) -> Resampler:
        """Check X and the rates and keep the sizes; nothing is learned.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG, mV.
        y : object, default=None
            Not read.

        Returns
        -------
        self : Resampler
            Itself.
        """
        super().fit(X, y)
        self.n_timesteps_out_ = _new_length(self.n_timesteps_, *_terms(self.fs, self.new_fs))
        return self

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Bring what has the new rate, such as relevance, back to the old one and the old number of time steps.

        What lies above the lower one of the two Nyquist frequencies does not come back. Values are interpolated, so
        a sum over time changes by the ratio of the rates.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps_out_) or (n_samples, n_leads_, n_timesteps_out_)
            ECG or relevance at ``new_fs``.

        Returns
        -------
        X_old : ndarray of shape (n_samples, n_timesteps_) or (n_samples, n_leads_, n_timesteps_), float32
            The same at ``fs``.
        """
        check_is_fitted(self)
        back = Resampler(self.new_fs, self.fs).fit(X)
        if (back.n_leads_, back.n_timesteps_) != (self.n_leads_, self.n_timesteps_out_):
            raise ValueError(
                f"X has {back.n_leads_} leads of {back.n_timesteps_} timesteps, but transform of this Resampler gives "
                f"{self.n_leads_} leads of {self.n_timesteps_out_}"
            )
        return np.ascontiguousarray(back.transform(X)[..., : self.n_timesteps_])

    def _check_parameters(self) -> None:
        _terms(self.fs, self.new_fs)

    def _apply(self, cube: np.ndarray) -> np.ndarray:
        up, down = _terms(self.fs, self.new_fs)
        return cube if up == down else _resample(cube, up, down)

    @property
    def _n_features_out(self) -> int:
        return self.n_leads_ * self.n_timesteps_out_


def resample_positions(sample: Any, fs: float, new_fs: float, *, n_timesteps: int | None = None) -> np.ndarray:
    """Return where positions such as R peaks are at another sampling rate: the nearest sample.

    Parameters
    ----------
    sample : array-like of int
        Positions at ``fs``, in samples from the start.
    fs, new_fs : float
        The two sampling rates, Hz.
    n_timesteps : int, default=None
        Time steps at ``fs``. Where given, positions inside of them stay inside of what :class:`Resampler` makes of
        them: at a much lower rate the nearest sample to the last ones may lie behind its end.

    Returns
    -------
    sample : ndarray of int64, of the same shape
        Positions at ``new_fs``; halves go to the earlier sample.

    Raises
    ------
    ValueError
        For positions that are no integers, and rates as in :class:`Resampler`.

    Examples
    --------
    >>> from skecg.preprocessing import resample_positions
    >>> resample_positions([0, 360, 1000], 360, 500)
    array([   0,  500, 1389])
    """
    up, down = _terms(fs, new_fs)
    positions = np.asarray(sample)
    if positions.size == 0:
        return np.empty(positions.shape, dtype=np.int64)
    if positions.dtype.kind not in "iu":
        raise ValueError(f"sample must be integer positions; got dtype {positions.dtype}")
    moved = -((down - 2 * positions.astype(np.int64) * up) // (2 * down))
    if n_timesteps is not None:
        check_number("n_timesteps", n_timesteps, low=1, integer=True)
        inside = (positions >= 0) & (positions < n_timesteps)
        moved = np.where(inside, np.minimum(moved, _new_length(int(n_timesteps), up, down) - 1), moved)
    return moved


def resample_mask(mask: Any, fs: float, new_fs: float) -> np.ndarray:
    """Return a mask of samples, such as a truth, at another sampling rate: the value of the nearest sample.

    Parameters
    ----------
    mask : array-like of shape (..., n_timesteps)
        Booleans or labels of the samples at ``fs``.
    fs, new_fs : float
        The two sampling rates, Hz.

    Returns
    -------
    mask : ndarray of shape (..., ceil(n_timesteps * new_fs / fs))
        The same for the samples that :class:`Resampler` returns, of the same dtype.

    Raises
    ------
    ValueError
        For rates as in :class:`Resampler`.

    Examples
    --------
    >>> from skecg.preprocessing import resample_mask
    >>> resample_mask([False, True, True, False], 250, 500).astype(int)
    array([0, 0, 1, 1, 1, 1, 0, 0])
    """
    up, down = _terms(fs, new_fs)
    array = np.asarray(mask)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"mask must be (..., n_timesteps) with at least one time step; got shape {array.shape}")
    n = array.shape[-1]
    nearest = resample_positions(np.arange(_new_length(n, up, down)), new_fs, fs)
    return array[..., np.minimum(nearest, n - 1)]


def _terms(fs: Any, new_fs: Any) -> tuple[int, int]:
    """Return ``new_fs / fs`` as (up, down) without a common factor; ValueError where the terms are too large."""
    rates = [Fraction(check_fs(fs, "Resampler")), Fraction(check_fs(new_fs, "Resampler (its new_fs)"))]
    old, new = (rate.limit_denominator(10**6) for rate in rates)  # 333.3 is 3333 / 10, whatever its last bit
    ratio = new / old if old else Fraction(0)
    if not 0 < max(ratio.numerator, ratio.denominator) <= _LARGEST or not ratio:
        near = ratio.limit_denominator(_LARGEST // max(1, int(ratio) + 1)) if ratio < _LARGEST else Fraction(0)
        hint = f"; new_fs={float(near * old):.10g} would do" if near else ""
        raise ValueError(
            f"new_fs / fs must be a ratio of integers up to {_LARGEST}; got {new_fs!r} / {fs!r} = "
            f"{ratio.numerator} / {ratio.denominator}{hint}"
        )
    return ratio.numerator, ratio.denominator


def _new_length(n_timesteps: int, up: int, down: int) -> int:
    return -(-n_timesteps * up // down)


@lru_cache(maxsize=8)
def _matrix(up: int, down: int) -> tuple[int, int, np.ndarray]:
    """Return the filter as a matrix (taps, outputs) for a stretch of samples, its reach to either side, and its hop.

    A stretch of ``hop`` samples, with ``reach`` more on either side, times the matrix is all outputs of the stretch.
    """
    half = 10 * max(up, down)
    taps = firwin(2 * half + 1, 1 / max(up, down), window=("kaiser", 5.0))
    reach, repeats = -(-half // up), -(-_HOP // down)
    hop = repeats * down
    place = half + down * np.arange(repeats * up) - up * np.arange(-reach, hop + reach)[:, None]
    inside = (place >= 0) & (place < len(taps))
    matrix = np.where(inside, taps[np.where(inside, place, 0)], 0)
    matrix /= matrix.sum(axis=0)
    matrix = matrix.astype(np.float32)
    matrix.flags.writeable = False
    return reach, hop, matrix


def _resample(cube: np.ndarray, up: int, down: int) -> np.ndarray:
    """Return the cube at ``up / down`` times its rate: one matrix product a lead, always of the same shape.

    The product does several times the multiplications of a polyphase filter, and is several times as quick.
    """
    n_timesteps = cube.shape[-1]
    n_out = _new_length(n_timesteps, up, down)
    reach, hop, matrix = _matrix(up, down)
    n_stretches = -(-n_out // matrix.shape[1])
    length = n_stretches * hop + 2 * reach
    rows = cube.reshape(-1, n_timesteps)
    out = np.empty((len(rows), n_out), dtype=np.float32)
    step = max(1, _BLOCK // length)
    for start in range(0, len(rows), step):
        block = np.pad(rows[start : start + step], [(0, 0), (reach, reach)], mode="reflect", reflect_type="odd")
        padded = np.zeros((len(block), length), dtype=np.float32)
        kept = min(length, block.shape[1])
        padded[:, :kept] = block[:, :kept]
        stretches = np.lib.stride_tricks.sliding_window_view(padded, hop + 2 * reach, axis=1)[:, ::hop]
        made = np.ascontiguousarray(stretches) @ matrix
        out[start : start + step] = made.reshape(len(block), -1)[:, :n_out]
    return out.reshape(*cube.shape[:-1], n_out)
