"""Explainers: scikit-learn transformers that return the relevance of each sample of the ECG."""

from ._branches import branch_contributions
from ._captum import CaptumExplainer
from ._consistency import explainer_agreement, seed_consistency
from ._epochs import relevance_over_epochs
from ._gradcam import GradCAM1D
from ._gradients import InputXGradient, Saliency
from ._integrated_gradients import INNVESTIGATE_IG, IntegratedGradients
from ._lrp import INNVESTIGATE_PRESET_A, INNVESTIGATE_PRESET_A_FLAT, LRP
from ._mask import VIJAYARANGAN_2020, VIJAYARANGAN_2020_ASSUMED, MaskDeletion
from ._occlusion import Occlusion
from ._provenance import Provenance
from ._record import explain_record
from ._sanity import label_randomisation, weight_randomisation
from ._shap import ShapExplainer
from ._smoothgrad import SmoothGrad

__all__ = [
    "INNVESTIGATE_IG",
    "INNVESTIGATE_PRESET_A",
    "INNVESTIGATE_PRESET_A_FLAT",
    "LRP",
    "VIJAYARANGAN_2020",
    "VIJAYARANGAN_2020_ASSUMED",
    "CaptumExplainer",
    "GradCAM1D",
    "InputXGradient",
    "IntegratedGradients",
    "MaskDeletion",
    "Occlusion",
    "Provenance",
    "Saliency",
    "ShapExplainer",
    "SmoothGrad",
    "branch_contributions",
    "explain_record",
    "explainer_agreement",
    "label_randomisation",
    "relevance_over_epochs",
    "seed_consistency",
    "weight_randomisation",
]
