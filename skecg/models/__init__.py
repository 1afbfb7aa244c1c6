"""Published ECG networks as plain torch modules, one file a network; usable without the rest of skecg."""

from ._ecglstm import ECGLSTM
from ._ecgnet import ECGNet
from ._hannun import HannunNet
from ._published import load_ribeiro, read_weights
from ._resnet import ResNet1d
from ._ribeiro import RibeiroNet
from ._settings import (
    HANNUN_2019,
    MURUGESAN_2018,
    MURUGESAN_2018_LSTM,
    RIBEIRO_2020,
    RIBEIRO_LABELS,
    RIBEIRO_THRESHOLDS,
    ZIHLMANN_2017,
    hannun_callbacks,
    ribeiro_callbacks,
    zihlmann_class_weight,
)
from ._zihlmann import ZihlmannCNN, ZihlmannCRNN

__all__ = [
    "ECGLSTM",
    "HANNUN_2019",
    "MURUGESAN_2018",
    "MURUGESAN_2018_LSTM",
    "RIBEIRO_2020",
    "RIBEIRO_LABELS",
    "RIBEIRO_THRESHOLDS",
    "ZIHLMANN_2017",
    "ECGNet",
    "HannunNet",
    "ResNet1d",
    "RibeiroNet",
    "ZihlmannCNN",
    "ZihlmannCRNN",
    "hannun_callbacks",
    "load_ribeiro",
    "read_weights",
    "ribeiro_callbacks",
    "zihlmann_class_weight",
]
