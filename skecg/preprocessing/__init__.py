"""Transformers along the time axis that put an ECG into the shape that a network expects."""

from ..utils._leads import STANDARD_LEADS, arrange_leads, canonical_name, check_lead_order, check_units, to_millivolts
from ._filter import BandpassFilter
from ._gain import Gain
from ._leads import LeadArranger
from ._pad import PadOrCrop, pad_or_crop
from ._published import ribeiro_preprocessing
from ._resample import Resampler, resample_mask, resample_positions
from ._scale import ECGScaler

__all__ = [
    "STANDARD_LEADS",
    "BandpassFilter",
    "ECGScaler",
    "Gain",
    "LeadArranger",
    "PadOrCrop",
    "Resampler",
    "arrange_leads",
    "canonical_name",
    "check_lead_order",
    "check_units",
    "pad_or_crop",
    "resample_mask",
    "resample_positions",
    "ribeiro_preprocessing",
    "to_millivolts",
]
