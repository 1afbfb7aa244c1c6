"""Explainers: scikit-learn transformers that return the relevance of each sample of the ECG."""

from ._branches import branch_contributions
from ._epochs import relevance_over_epochs
from ._gradcam import GradCAM1D
from ._gradients import InputXGradient, Saliency
from ._integrated_gradients import INNVESTIGATE_IG, IntegratedGradients
from ._lrp import INNVESTIGATE_PRESET_A, INNVESTIGATE_PRESET_A_FLAT, LRP
from ._mask import VIJAYARANGAN_2020, VIJAYARANGAN_2020_ASSUMED, MaskDeletion
from ._record import explain_record
from ._shap import ShapExplainer

__all__ = [
    "INNVESTIGATE_IG",
    "INNVESTIGATE_PRESET_A",
    "INNVESTIGATE_PRESET_A_FLAT",
    "LRP",
    "VIJAYARANGAN_2020",
    "VIJAYARANGAN_2020_ASSUMED",
    "GradCAM1D",
    "InputXGradient",
    "IntegratedGradients",
    "MaskDeletion",
    "Saliency",
    "ShapExplainer",
    "branch_contributions",
    "explain_record",
    "relevance_over_epochs",
]
