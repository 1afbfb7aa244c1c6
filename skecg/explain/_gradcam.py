"""Grad-CAM in one dimension, with Grad-CAM++, HiResCAM and LayerCAM."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..classifiers import ECGClassifier
from ..utils._docs import fill_doc
from ..utils._validation import check_option
from ._base import BaseExplainer, TargetScore
from ._fast import speed_up

METHODS = ("gradcam", "gradcam++", "hirescam", "layercam")


@fill_doc
class GradCAM1D(BaseExplainer):
    """Grad-CAM in one dimension: which stretch of the ECG a convolutional layer answers the class with.

    With A_k(t) the map of channel k at a layer and y the logit of the class, Grad-CAM [1]_ is
    ``relu(sum_k mean_t(dy/dA_k(t)) A_k(t))``, HiResCAM [2]_ ``relu(sum_k dy/dA_k(t) A_k(t))``, LayerCAM [3]_
    ``relu(sum_k relu(dy/dA_k(t)) A_k(t))`` and Grad-CAM++ [4]_ ``relu(sum_k w_k A_k(t))`` with
    ``w_k = sum_t relu(g) / (2 + max(sum_t A_k(t), 0) g)`` and ``g = dy/dA_k(t)``, each interpolated linearly to the
    length of the window. A map has no lead axis: the same relevance stands at every lead (``relevance_kind`` is
    "cam"). Nothing is normalised.

    Parameters
    ----------
    %(estimator)s
    layer : str or torch.nn.Module, default=None
        A convolutional stage of the network, by its dotted name; or the module itself, which searches and
        cross-validation lose, for they copy it. None takes the network's ``cam_layer``.
    method : {"gradcam", "gradcam++", "hirescam", "layercam"}, default="gradcam"
        How the gradient weighs the maps.
    relu : bool, default=True
        Whether negative relevance is cut off, as in the papers.
    %(target)s
    %(explain_batch_size)s
    %(explain_fs)s
    %(verbose)s

    Attributes
    ----------
    classes_ : ndarray of shape (n_outputs,)
        Labels of the classifier.
    %(explained)s

    See Also
    --------
    MaskDeletion : What the network needs, by a learned mask.

    Notes
    -----
    ``explain`` adds ``cam`` (n_samples, length of the map), the map before interpolation; ``score`` is the logit.

    A network whose maps have a second axis, such as the frequencies of a spectrogram, says by ``cam_positions(layer,
    n_timesteps)`` at which sample each step of a map (n, channels, time, other) is centred
    (:class:`~skecg.models.ZihlmannCNN`); gradients are then averaged over both axes, the map over the other one, and
    the curve interpolated between those centres and held beyond the outermost.

    The denominator of Grad-CAM++ was derived for maps after a ReLU. Sums of a map that are negative, which maps before
    a ReLU can have, would let it vanish or change its sign; they count as zero here.

    References
    ----------
    .. [1] R. R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
       localization", ICCV 2017.
    .. [2] R. L. Draelos and L. Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional
       neural networks", arXiv:2011.08891.
    .. [3] P.-T. Jiang et al., "LayerCAM: exploring hierarchical class activation maps for localization", IEEE
       Transactions on Image Processing, 2021.
    .. [4] A. Chattopadhay et al., "Grad-CAM++: generalized gradient-based visual explanations for deep convolutional
       networks", WACV 2018, arXiv:1710.11063.

    Examples
    --------
    >>> from skecg import ECGClassifier, GradCAM1D
    >>> from skecg.datasets import make_ecg
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> GradCAM1D(clf).transform(ecg.data[:3]).shape
    (3, 1, 720)
    """

    relevance_kind = "cam"

    def __init__(
        self,
        estimator: Any,
        *,
        layer: Any = None,
        method: str = "gradcam",
        relu: bool = True,
        target: Any = "predicted",
        batch_size: int = 64,
        fs: float | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.method = method
        self.relu = relu
        self.target = target
        self.batch_size = batch_size
        self.fs = fs
        self.verbose = verbose

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_option("method", self.method, METHODS)

    def _context(self, net: torch.nn.Module, classifier: ECGClassifier) -> dict[str, Any]:
        name = self._layer_name(net, classifier.module_)
        speed_up(net, classifier.device_, keep=name)
        return {"name": name}

    def _layer_name(self, net: torch.nn.Module, module: torch.nn.Module) -> str:
        """Return the dotted name of the layer in the network; ValueError where there is no such layer."""
        names = {part: name for name, part in module.named_modules() if name}
        kind, given = type(net).__name__, self.layer
        if given is None:
            given = getattr(module, "cam_layer", None)
            if given is None and hasattr(module, "cam_layer"):
                raise ValueError(f"{kind} has no convolutional stage, so no Grad-CAM: explain it by MaskDeletion")
            if given is None:
                raise ValueError(
                    f"{kind} names no cam_layer, so pass layer: the name of a convolutional stage; it has "
                    f"{list(names.values())}"
                )
        if isinstance(given, torch.nn.Module):
            if given not in names:
                raise ValueError(
                    f"layer is a {type(given).__name__} that is no part of this {kind} (clone copies it): pass its "
                    f"dotted name, one of {list(names.values())}"
                )
            return names[given]
        if given not in names.values():
            raise ValueError(f"layer {given!r} is not in {kind}; it has {list(names.values())}")
        return given

    def _explain_batch(
        self, net: torch.nn.Module, x: torch.Tensor, given: torch.Tensor, score: TargetScore, **context: Any
    ) -> dict[str, np.ndarray]:
        name, maps = context["name"], []
        layer, centres = net.get_submodule(name), getattr(net, "cam_positions", None)
        dims = (3,) if centres is None else (3, 4)  # without a word of the network no second axis can be told from time

        def start_here(_: torch.nn.Module, __: Any, out: Any) -> Any:
            # The twin's parameters and x want no gradient, so no graph exists below: it begins at this map.
            if not torch.is_tensor(out) or out.ndim not in dims:
                recurrent = isinstance(layer, torch.nn.RNNBase)
                raise ValueError(
                    f"layer {name!r} ({type(layer).__name__}) gives no map (n, channels, time), so it has no Grad-CAM: "
                    f"take a convolutional stage{_suggestion(net)}"
                    + (". A recurrent layer is explained by MaskDeletion" if recurrent else "")
                )
            if maps:
                raise ValueError(
                    f"layer {name!r} is called more than once in a forward pass, so it has no single map: take a layer "
                    "that is called once"
                )
            maps.append(out.detach().requires_grad_(True))
            return maps[0].clone()  # an in-place ReLU behind the layer must not change the map

        handle = layer.register_forward_hook(start_here)
        try:
            logits = net(x)
        finally:
            handle.remove()
        if not maps:
            raise ValueError(
                f"layer {name!r} is not called in the forward pass, so it has no map: take another{_suggestion(net)}"
            )
        index = score.choose(logits, given)
        explained = score(logits, index)
        (gradient,) = torch.autograd.grad(explained.sum(), maps[0], allow_unused=True)
        with torch.no_grad():
            gradient = torch.zeros_like(maps[0]) if gradient is None else gradient
            cam = self._cam(maps[0].detach(), gradient)
            if centres is None:
                # a network that pads short windows at their right end says so: the map covers the padding too
                size = max(x.shape[-1], getattr(net, "min_timesteps", 1))
                wide = F.interpolate(cam[:, None], size=size, mode="linear", align_corners=False)[..., : x.shape[-1]]
            else:
                wide = _spread(cam, np.asarray(centres(name, x.shape[-1])), x.shape[-1])[:, None]
            passed = score.passes(logits, index)
        out = {"relevance": wide, "score": explained, "logits": logits, "index": index, "passed": passed, "cam": cam}
        return {key: value.detach().cpu().numpy() for key, value in out.items()}

    def _cam(self, maps: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return the class activation map (n, length) of maps (n, channels, length) or (n, channels, length, other)."""
        if maps.ndim == 3:
            maps, gradient = maps[..., None], gradient[..., None]
        if self.method == "gradcam":
            cam = torch.einsum("nk,nktf->ntf", gradient.mean((2, 3)), maps)
        elif self.method == "gradcam++":
            rising = gradient.relu()
            weight = rising / (2 + maps.sum((2, 3), keepdim=True).relu() * rising)
            cam = torch.einsum("nk,nktf->ntf", weight.sum((2, 3)), maps)
        elif self.method == "hirescam":
            cam = (gradient * maps).sum(1)
        else:
            cam = (gradient.relu() * maps).sum(1)
        cam = cam.mean(-1)
        return cam.relu() if self.relu else cam


def _spread(cam: torch.Tensor, centres: np.ndarray, n_timesteps: int) -> torch.Tensor:
    """Interpolate a map (n, length) linearly between the samples its steps are centred on; hold it at the ends."""
    if len(centres) == 1:
        return cam.expand(-1, n_timesteps)
    at = np.interp(np.arange(n_timesteps), centres, np.arange(len(centres)))
    low = np.minimum(at.astype(int), len(centres) - 2)
    part = torch.from_numpy((at - low).astype(np.float32)).to(cam.device)
    return torch.lerp(cam[:, low], cam[:, low + 1], part)


def _suggestion(net: torch.nn.Module) -> str:
    layer = getattr(net, "cam_layer", None)
    return f", such as {layer!r}" if isinstance(layer, str) else ""
