"""Networks as scikit-learn classifiers."""

from ._ecg_classifier import ECGClassifier

__all__ = ["ECGClassifier"]
