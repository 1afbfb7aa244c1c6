"""ECG networks as scikit-learn classifiers, and explainers that return relevance arrays.

Public names load on first use, so that ``import skecg`` costs neither torch nor scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_ROOMS = (
    "beats",
    "classifiers",
    "cohort",
    "datasets",
    "explain",
    "metrics",
    "models",
    "persistence",
    "plotting",
    "preprocessing",
    "relevance",
    "report",
)
_NAMES = {
    "ECGClassifier": "classifiers",
    "StoredWindows": "datasets",
    "ECGLSTM": "models",
    "ECGNet": "models",
    "HannunNet": "models",
    "ResNet1d": "models",
    "RibeiroNet": "models",
    "ZihlmannCNN": "models",
    "ZihlmannCRNN": "models",
    "CaptumExplainer": "explain",
    "GradCAM1D": "explain",
    "InputXGradient": "explain",
    "IntegratedGradients": "explain",
    "LRP": "explain",
    "MaskDeletion": "explain",
    "Occlusion": "explain",
    "Saliency": "explain",
    "ShapExplainer": "explain",
    "SmoothGrad": "explain",
    "explain_record": "explain",
    "BandpassFilter": "preprocessing",
    "ECGScaler": "preprocessing",
    "Gain": "preprocessing",
    "LeadArranger": "preprocessing",
    "PadOrCrop": "preprocessing",
    "Resampler": "preprocessing",
    "RelevanceAggregator": "relevance",
    "explain_cohort": "cohort",
    "load": "persistence",
    "save": "persistence",
    "write_report": "report",
    "AverageBeatDisplay": "plotting",
    "CohortDisplay": "plotting",
    "PerturbationDisplay": "plotting",
    "ProbabilityDisplay": "plotting",
    "RecordDisplay": "plotting",
    "RelevanceDisplay": "plotting",
    "SanityDisplay": "plotting",
    "TwelveLeadDisplay": "plotting",
    "WaveMapDisplay": "plotting",
    "PerturbationScorer": "metrics",
    "RelevanceScorer": "metrics",
    "Beats": "beats",
    "delineate": "beats",
    "find_beats": "beats",
    "fetch_cpsc2018": "datasets",
    "fetch_ltafdb": "datasets",
    "fetch_ltdb": "datasets",
    "fetch_ludb": "datasets",
    "fetch_mitdb": "datasets",
    "fetch_physionet": "datasets",
    "fetch_ptbxl": "datasets",
    "fetch_svdb": "datasets",
    "fetch_vfdb": "datasets",
    "iter_windows": "datasets",
    "make_ecg": "datasets",
    "read_record": "datasets",
}

__all__ = ["__version__", *_NAMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
