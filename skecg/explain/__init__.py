"""Explainers: scikit-learn transformers that return the relevance of each sample of the ECG."""

from ._branches import branch_contributions
from ._epochs import relevance_over_epochs
from ._gradcam import GradCAM1D
from ._mask import VIJAYARANGAN_2020, VIJAYARANGAN_2020_ASSUMED, MaskDeletion
from ._record import explain_record

__all__ = [
    "VIJAYARANGAN_2020",
    "VIJAYARANGAN_2020_ASSUMED",
    "GradCAM1D",
    "MaskDeletion",
    "branch_contributions",
    "explain_record",
    "relevance_over_epochs",
]
