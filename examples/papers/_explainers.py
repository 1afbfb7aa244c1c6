"""Every explainer of skecg in one table, controls that know nothing of the network, and maps that are made once."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skecg import (
    LRP,
    CaptumExplainer,
    GradCAM1D,
    InputXGradient,
    IntegratedGradients,
    MaskDeletion,
    Occlusion,
    Saliency,
    ShapExplainer,
    SmoothGrad,
)
from skecg.metrics import centre_prior

DEFAULT = "StageCAM"
GUIDED = "Guided Grad-CAM"

# Of every explainer the variant that its users would take first. The mask has a knot every 83 ms, whatever the window.
EXPLAINERS: dict[str, Callable[[Any, float], Any]] = {
    "StageCAM": lambda clf, seconds: GradCAM1D(clf),
    "Grad-CAM": lambda clf, seconds: GradCAM1D(clf, method="gradcam"),
    "Grad-CAM++": lambda clf, seconds: GradCAM1D(clf, method="gradcam++"),
    "HiResCAM": lambda clf, seconds: GradCAM1D(clf, method="hirescam"),
    "LayerCAM": lambda clf, seconds: GradCAM1D(clf, method="layercam"),
    "occlusion": lambda clf, seconds: Occlusion(clf, window=0.4),
    "learned mask": lambda clf, seconds: MaskDeletion(clf, n_knots=round(12 * seconds), n_iter=60, init=0.5),
    "saliency": lambda clf, seconds: Saliency(clf),
    "input x gradient": lambda clf, seconds: InputXGradient(clf),
    "SmoothGrad": lambda clf, seconds: SmoothGrad(clf, random_state=0),
    "integrated gradients": lambda clf, seconds: IntegratedGradients(clf, n_steps=32),
    "expected gradients": lambda clf, seconds: ShapExplainer(clf, background=0.0, n_samples=32, random_state=0),
    "LRP epsilon": lambda clf, seconds: LRP(clf),
    "LRP alpha1beta0": lambda clf, seconds: LRP(clf, rule="alpha1beta0"),
    "DeepLift": lambda clf, seconds: CaptumExplainer(clf, method="DeepLift"),
    "guided backprop": lambda clf, seconds: CaptumExplainer(clf, method="GuidedBackprop"),
    GUIDED: lambda clf, seconds: CaptumExplainer(clf, method="GuidedGradCam", options={"interpolate_mode": "linear"}),
}
# Their sign says raise or lower the sample, not for or against the class: the field reads their size (Suh et al. 2024).
BY_SIZE = ("guided backprop", GUIDED)
CONTROLS = ("random", "abs(x)", "middle of the window")


def control(name: str, X: np.ndarray, seed: int) -> np.ndarray:
    """Return a map that knows nothing of the network, of the shape of its input X."""
    if name == "random":
        return np.random.RandomState(seed).rand(*X.shape).astype(np.float32)
    if name == "abs(x)":
        return np.abs(X)
    return np.broadcast_to(centre_prior(X.shape, width=0.1), X.shape)


def relevance(
    name: str, clf: Any, X: np.ndarray, target: np.ndarray, seconds: float, keep: Path | None = None
) -> np.ndarray | str:
    """Return an explainer's relevance of windows, as it is ranked; or, where it refuses the network, its reason.

    Parameters
    ----------
    name : str
        A key of ``EXPLAINERS``.
    clf : Pipeline
        Fitted; its network's input is what relevance is of.
    X : ndarray of shape (n_samples, n_leads, n_timesteps)
        Windows, mV.
    target : ndarray of shape (n_samples,)
        The label explained of each.
    seconds : float
        Length of a window, s.
    keep : Path, default=None
        Folder where maps are kept, and read from in a later run with the same network and windows.
    """
    path = None
    if keep is not None:
        digest = hashlib.sha256(np.ascontiguousarray(X).tobytes() + "|".join(map(str, target)).encode())
        for value in clf[-1].module_.state_dict().values():
            digest.update(value.cpu().numpy().tobytes())
        explainer = EXPLAINERS[name](None, seconds)
        digest.update(repr(sorted((k, str(v)) for k, v in explainer.get_params(deep=False).items())).encode())
        path = keep / f"{name.replace(' ', '_')}-{digest.hexdigest()[:16]}.npy"
        if path.is_file():
            return np.load(path, allow_pickle=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # windows without relevance score their chance level
            R = EXPLAINERS[name](clf, seconds).explain(X, target=target).relevance
    except ValueError as refused:
        return str(refused)
    R = np.abs(R) if name in BY_SIZE else R
    if path is not None:
        keep.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        np.save(part, R)
        part.replace(path)
    return R
