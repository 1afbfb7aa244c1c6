"""Networks as scikit-learn classifiers, and augmentations for their training."""

from ._augment import AugmentChain, DropoutBursts, RandomShift, RandomStretch
from ._ecg_classifier import ECGClassifier

__all__ = ["AugmentChain", "DropoutBursts", "ECGClassifier", "RandomShift", "RandomStretch"]
