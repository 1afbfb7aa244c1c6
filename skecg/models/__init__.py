"""Published ECG networks as plain torch modules, one file a network; usable without the rest of skecg."""

from ._ecgnet import ECGNet

__all__ = ["ECGNet"]
