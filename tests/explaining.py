"""Explainers of every kind, and what tests of them share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D, MaskDeletion

EXPLAINERS = {
    "stagecam": GradCAM1D(None, smooth=0),
    "gradcam": GradCAM1D(None, method="gradcam", relu=False),
    "hirescam": GradCAM1D(None, method="hirescam", layer="features.3"),
    "mask": MaskDeletion(None, n_iter=3, init=0.5, n_knots=(4, None), replacement=0.0),
}
all_explainers = pytest.mark.parametrize("name", EXPLAINERS)


def make(name: str, estimator: Any) -> Any:
    """Return the explainer of that name around an estimator."""
    return clone(EXPLAINERS[name]).set_params(estimator=estimator)


def close(a: np.ndarray, b: np.ndarray, rtol: float = 1e-5) -> bool:
    """Say whether two arrays agree relative to the largest value of the second."""
    return a.shape == b.shape and np.allclose(a, b, rtol=rtol, atol=rtol * max(1e-6, float(np.abs(b).max())))


def around(
    net: nn.Module, n_timesteps: int, names: tuple[str, ...] = ("A", "B"), n_leads: int = 1, **settings: Any
) -> ECGClassifier:
    """Return a fitted classifier around a network."""
    return ECGClassifier.from_module(net, list(names), n_leads=n_leads, n_timesteps=n_timesteps, **settings)
