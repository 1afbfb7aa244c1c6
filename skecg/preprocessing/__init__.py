"""Transformers along the time axis that put an ECG into the shape that a network expects."""

from ._filter import BandpassFilter
from ._scale import ECGScaler

__all__ = ["BandpassFilter", "ECGScaler"]
