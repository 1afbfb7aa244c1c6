"""Gain: ECG times a number."""

from __future__ import annotations

import numpy as np

from ..utils._docs import fill_doc
from ..utils._transformer import WindowTransformer
from ..utils._validation import check_number


@fill_doc
class Gain(WindowTransformer):
    """ECG times a number, the same for all windows and leads.

    For networks that were trained on another scale than mV; ``scale`` can be searched over like any parameter.

    Parameters
    ----------
    scale : float, default=1.0
        What each sample is multiplied by; above 0.

    Attributes
    ----------
    %(fitted)s

    See Also
    --------
    ECGScaler : A scale taken from the ECG itself.
    to_millivolts : From a unit that is known.

    Examples
    --------
    >>> from skecg.preprocessing import Gain
    >>> Gain(2.0).fit_transform([[0.5, -1.0]])
    array([[ 1., -2.]], dtype=float32)
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def _check_parameters(self) -> None:
        check_number("scale", self.scale, low=0, strict=True)

    def _apply(self, cube: np.ndarray) -> np.ndarray:
        return cube * np.float32(self.scale)
