"""One number of time steps for all: padding and cropping, and which samples are real."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ..utils._docs import fill_doc
from ..utils._leads import as_leads
from ..utils._transformer import WindowTransformer
from ..utils._validation import check_array, check_number, check_option, is_2d

_SIDES, _PADDINGS = ("left", "right", "both"), ("zero", "edge")


@fill_doc
class PadOrCrop(ClassNamePrefixFeaturesOutMixin, WindowTransformer):
    """A given number of time steps: shorter windows are padded, longer ones cropped.

    Padding is no ECG. Which samples are, says ``valid_``; statistics of relevance should leave the others out.
    Put this step behind a filter and a scaler, so that neither takes the padding for a baseline.

    :func:`ribeiro_preprocessing`, the published preprocessing of RibeiroNet [1]_, ends in ``PadOrCrop(4096)``: zeros on
    both sides, ``(4096 - n) // 2`` of them on the left, and the middle of what is longer.

    Parameters
    ----------
    n_timesteps : int
        Time steps wanted. There is no default: where it is left at None, ``fit`` raises a ValueError.
    side : {"both", "left", "right"}, default="both"
        Where time steps are added or taken away. With "both", the smaller half of an odd number is on the left.
    padding : {"zero", "edge"}, default="zero"
        Whether added samples are zero, or repeat the first or last sample of the lead.

    Attributes
    ----------
    n_timesteps_out_ : int
        Time steps of the result.
    valid_ : tuple of (int, int)
        First of the samples of the result that are samples of X, and the first behind them: ``X[..., slice(*valid_)]``.
    kept_ : tuple of (int, int)
        The same span, counted in samples of X.
    %(fitted)s

    See Also
    --------
    pad_or_crop : Recordings of unequal lengths in one array.
    Resampler : The same duration at another sampling rate.

    References
    ----------
    .. [1] A. H. Ribeiro et al., "Automatic diagnosis of the 12-lead ECG using a deep neural network", Nature
           Communications 11, 1760, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.preprocessing import PadOrCrop
    >>> pad = PadOrCrop(8).fit([[1.0, 2.0, 3.0]])
    >>> pad.transform([[1.0, 2.0, 3.0]])
    array([[0., 0., 1., 2., 3., 0., 0., 0.]], dtype=float32)
    >>> pad.valid_
    (2, 5)
    >>> PadOrCrop(2, side="left").fit_transform([[1.0, 2.0, 3.0]])
    array([[2., 3.]], dtype=float32)
    """

    def __init__(self, n_timesteps: int | None = None, *, side: str = "both", padding: str = "zero") -> None:
        self.n_timesteps = n_timesteps
        self.side = side
        self.padding = padding

    def fit(self, X: Any, y: Any = None) -> PadOrCrop:
        """Check X and the parameters and keep the sizes; nothing is learned.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG, mV.
        y : object, default=None
            Not read.

        Returns
        -------
        self : PadOrCrop
            Itself.
        """
        super().fit(X, y)
        self.n_timesteps_out_ = int(self.n_timesteps)
        self.kept_, self.valid_ = _spans(self.n_timesteps_, self.n_timesteps_out_, self.side)
        return self

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Undo it for relevance, or for ECG: padding is taken away, and what was cropped comes back as zeros.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads_, n_timesteps)
            Relevance or ECG of as many time steps as ``transform`` returns.

        Returns
        -------
        X_old : ndarray of shape (n_samples, n_timesteps_) or (n_samples, n_leads_, n_timesteps_), float32
            Of as many time steps as the X of ``fit``.
        """
        check_is_fitted(self)
        flat = is_2d(X)
        array = check_array(X, dtype=np.float32, allow_nd=True, ensure_all_finite=False, input_name="X", estimator=self)
        cube = array[:, None] if flat else array
        expected = (self.n_leads_, self.n_timesteps_out_)
        if cube.ndim != 3 or cube.shape[1:] != expected:
            raise ValueError(
                f"X of shape {array.shape} is nothing that transform of this PadOrCrop returns: that has "
                f"{expected[0]} leads of {expected[1]} timesteps"
            )
        out = np.zeros((*cube.shape[:-1], self.n_timesteps_), dtype=np.float32)
        out[..., slice(*self.kept_)] = cube[..., slice(*self.valid_)]
        return out[:, 0] if flat else out

    def _check_parameters(self) -> None:
        check_number("n_timesteps", self.n_timesteps, low=1, integer=True)
        check_option("side", self.side, _SIDES)
        check_option("padding", self.padding, _PADDINGS)

    def _apply(self, cube: np.ndarray) -> np.ndarray:
        if self.n_timesteps_out_ <= cube.shape[-1]:
            return cube[..., slice(*self.kept_)]
        out = np.empty((*cube.shape[:-1], self.n_timesteps_out_), dtype=np.float32)
        _put(out, cube, self.kept_, self.valid_, self.padding)
        return out

    @property
    def _n_features_out(self) -> int:
        return self.n_leads_ * self.n_timesteps_out_


def pad_or_crop(
    records: Sequence[Any], n_timesteps: int | None = None, *, side: str = "both", padding: str = "zero"
) -> Bunch:
    """Put recordings of unequal lengths into one array.

    Parameters
    ----------
    records : sequence of array-like of shape (n_leads, n_timesteps_i)
        Recordings of the same leads, each of a length of its own.
    n_timesteps : int, default=None
        Time steps wanted; None takes the longest recording.
    side : {"both", "left", "right"}, default="both"
        Where time steps are added or taken away, see :class:`PadOrCrop`.
    padding : {"zero", "edge"}, default="zero"
        Whether added samples are zero, or repeat the first or last sample of the lead.

    Returns
    -------
    bunch : Bunch
        The array and what is real in it.

        data : ndarray of shape (n_records, n_leads, n_timesteps), float32
            The recordings.
        valid : ndarray of shape (n_records, 2), int64
            The half-open span of each recording's own samples in ``data``.
        kept : ndarray of shape (n_records, 2), int64
            The same span, counted in samples of the recording.

    Raises
    ------
    ValueError
        For no recording, or recordings with different numbers of leads.

    See Also
    --------
    PadOrCrop : The same as a step of a pipeline, for windows of equal length.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.preprocessing import pad_or_crop
    >>> bunch = pad_or_crop([np.ones((1, 2)), np.ones((1, 5))], 4, side="right")
    >>> bunch.data[:, 0]
    array([[1., 1., 0., 0.],
           [1., 1., 1., 1.]], dtype=float32)
    >>> bunch.valid
    array([[0, 2],
           [0, 4]])
    """
    check_option("side", side, _SIDES)
    check_option("padding", padding, _PADDINGS)
    arrays = [as_leads(record) for record in records]
    if not arrays:
        raise ValueError("records is empty: there is nothing to pad")
    for i, array in enumerate(arrays):
        if array.ndim != 2 or len(array) != len(arrays[0]):
            raise ValueError(
                f"each of records must be (n_leads, n_timesteps) with as many leads as the first, {len(arrays[0])}; "
                f"number {i} has the shape {array.shape}"
            )
    if n_timesteps is None:
        n_timesteps = max(array.shape[1] for array in arrays)
    n_timesteps = int(check_number("n_timesteps", n_timesteps, low=1, integer=True))
    spans = [_spans(array.shape[1], n_timesteps, side) for array in arrays]
    data = np.empty((len(arrays), len(arrays[0]), n_timesteps), dtype=np.float32)
    for out, array, (kept, valid) in zip(data, arrays, spans, strict=True):
        _put(out, array, kept, valid, padding)
    kept, valid = np.array(spans, dtype=np.int64).swapaxes(0, 1)
    return Bunch(data=data, valid=valid, kept=kept)


def _spans(n: int, wanted: int, side: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the span of n samples that is kept, and where it lies among those wanted."""
    shift = {"left": wanted - n, "right": 0}.get(side)
    if shift is None:
        shift = (wanted - n) // 2 if wanted >= n else -((n - wanted) // 2)
    length = min(n, wanted)
    return (max(0, -shift), max(0, -shift) + length), (max(0, shift), max(0, shift) + length)


def _put(out: np.ndarray, array: np.ndarray, kept: tuple[int, int], valid: tuple[int, int], padding: str) -> None:
    """Write what is kept of an array into its place, and the padding around it."""
    body = array[..., slice(*kept)]
    out[..., slice(*valid)] = body
    out[..., : valid[0]] = body[..., :1] if padding == "edge" else 0
    out[..., valid[1] :] = body[..., -1:] if padding == "edge" else 0
