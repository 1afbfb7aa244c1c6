"""Grad-CAM in one dimension: over several stages (StageCAM), and of one layer by four published rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..classifiers import ECGClassifier
from ..utils._docs import fill_doc
from ..utils._validation import check_number, check_option
from ._base import BaseExplainer, TargetScore
from ._fast import speed_up
from ._stages import Stage, find_stages

# Stages before the last one that StageCAM reads (settled in examples/papers/settle_rule.py).
_FINER = 2
_TINY = torch.finfo(torch.float32).tiny
METHODS = ("stagecam", "gradcam", "gradcam++", "hirescam", "layercam")


@fill_doc
class GradCAM1D(BaseExplainer):
    """Grad-CAM in one dimension: which stretch of the ECG a convolutional network answers the class with.

    By default StageCAM, skecg's own rule over three stages of the network; and the published rules of one layer. With
    A_k(t) the map of channel k at a layer, y the logit of the class and ``g = dy/dA_k(t)``:

    - Grad-CAM [1]_ is ``relu(sum_k mean_t(g) A_k(t))``,
    - HiResCAM [2]_ ``relu(sum_k g A_k(t))``,
    - LayerCAM [3]_ ``relu(sum_k relu(g) A_k(t))``,
    - Grad-CAM++ [4]_ ``relu(sum_k w_k A_k(t))`` with ``w_k = sum_t relu(g) / (2 + max(sum_t A_k(t), 0) g)``,

    each interpolated linearly to the length of the window. StageCAM takes the positive parts ``sum_k relu(g A_k(t))``
    at the network's ``cam_layer``, which tell which beat, times the energies ``sum_k |g A_k(t)|`` of the two stages
    before it, which tell what of the beat: each laid over the window and averaged over ``smooth`` s, the energies
    divided by their largest value. A map has no lead axis: the same relevance stands at every lead
    (``relevance_kind`` is "cam"). Nothing else is normalised.

    Parameters
    ----------
    %(estimator)s
    layer : str, torch.nn.Module or list of them, default=None
        A convolutional stage of the network, by its dotted name; or the module itself, which searches and
        cross-validation lose, for they copy it. None takes the network's ``cam_layer``. With "stagecam" it is the last
        of the stages, those before it are found by tracing the lengths of the maps; a list names all of them, and the
        one with the shortest map is the last.
    method : {"stagecam", "gradcam", "gradcam++", "hirescam", "layercam"}, default="stagecam"
        How the gradient weighs the maps. The published ones read one layer.
    relu : bool, default=True
        Whether negative relevance is cut off, as in the papers. "stagecam" has none, and takes True alone.
    smooth : float, default=0.25
        Over how long each stage of "stagecam" is averaged, s, about a wide QRS complex. Needs ``fs``; 0 does not
        average. The other methods do not read it.
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
    Occlusion : How the score falls when a stretch is replaced.

    Notes
    -----
    ``explain`` adds ``cam`` (n_samples, length of the map), the map of the (last) layer before interpolation, and
    ``layers``, the names of the layers, the finest first; ``score`` is the logit.

    Why several stages: the last stage of a network knows the class and finds the beat, but its grid is coarse, and in
    many windows its maximum lies beside the QRS; a stage before it sees the QRS, and also much that does not speak for
    the class. A stage is looked at where all of the later one is computed from it (the sum that ends a residual block,
    not a convolution beside the shortcut). Why parts and not means: Grad-CAM weighs a channel by its mean gradient,
    which says little where a map has many positions that the network reads differently; gradient times map says what
    each position adds. Only what adds to the class counts at the last stage; before it the sign is dropped, since
    channels of finer stages cancel out. The form of the rule, the number of stages and the 0.25 s were
    settled on one half of MIT-BIH; on the other half it is compared with every other explainer: see "Which explanation
    to believe" in the documentation, which also says where it fails (supraventricular beats; random weights change its
    order of samples less than that of other maps). Where no stage is found before the layer (a network
    of one length of map, a spectrogram) the last stage stands alone; stages whose positions a network's
    ``cam_positions`` does not tell are left out.

    A network whose maps have a second axis, such as the frequencies of a spectrogram, or whose maps are not spread
    evenly over the window, says by ``cam_positions(layer, n_timesteps)`` at which sample each step of a map (n,
    channels, time) or (n, channels, time, other) is centred (:class:`~skecg.models.ZihlmannCNN`,
    :class:`~skecg.models.ResNet1d`); gradients are then averaged over both axes, the map over the other one, and the
    curve interpolated between those centres and held beyond the outermost.

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
        method: str = "stagecam",
        relu: bool = True,
        smooth: float = 0.25,
        target: Any = "predicted",
        batch_size: int = 64,
        fs: float | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.method = method
        self.relu = relu
        self.smooth = smooth
        self.target = target
        self.batch_size = batch_size
        self.fs = fs
        self.verbose = verbose

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_option("method", self.method, METHODS)
        check_number("smooth", self.smooth, low=0, unit="(s)")
        check_option("relu", self.relu, (True, False))
        if self.method == "stagecam" and not self.relu:
            raise ValueError(
                "relu=False asks for negative relevance, which StageCAM has not: take a method of one layer, such as "
                "method='gradcam'"
            )
        if isinstance(self.layer, list | tuple | np.ndarray):
            if self.method != "stagecam":
                raise ValueError(
                    f"method={self.method!r} reads one layer, and layer names {len(self.layer)}: pass one of them, or "
                    "take method='stagecam', which joins several"
                )
            if not len(self.layer):
                raise ValueError("layer is an empty list: name at least one layer, or pass None to have them found")

    def _context(self, net: torch.nn.Module, classifier: ECGClassifier) -> dict[str, Any]:
        module = classifier.module_
        if isinstance(self.layer, list | tuple | np.ndarray):
            names = [self._layer_name(net, module, layer) for layer in self.layer]
            if len(set(names)) < len(names):
                raise ValueError(f"layer names one layer twice: {names}")
        else:
            names = [self._layer_name(net, module, self.layer)]
            if self.method == "stagecam":
                shape = classifier.n_leads_, classifier.n_timesteps_
                *finer, last = find_stages(net, shape, names[0], classifier.device_)
                finer = [stage.name for stage in finer if _knows_positions(net, stage, shape[1])]
                names = [*finer[-_FINER:], last.name]
        width = 1
        if self.method == "stagecam" and self.smooth:
            if self.fs is None and classifier.fs is None:
                raise ValueError(
                    "smooth of GradCAM1D needs the sampling rate: pass fs (Hz), e.g. fs=360.0, to it or to the "
                    "classifier; or smooth=0; or a method of one layer, such as method='gradcam'"
                )
            width = round(self.smooth * self._sampling_rate(classifier, "smooth"))
        speed_up(net, classifier.device_, keep=names)
        return {"names": names, "width": max(1, width), "order": list(names)}

    def _notes(self, context: dict[str, Any]) -> dict[str, Any]:
        return {"layers": context["order"]}  # as the first batch called them

    def _layer_name(self, net: torch.nn.Module, module: torch.nn.Module, given: Any) -> str:
        """Return the dotted name of a layer in the network; ValueError where there is no such layer."""
        names = {part: name for name, part in module.named_modules() if name}
        kind = type(net).__name__
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
        names, maps = context["names"], _Maps(net)
        handles = [net.get_submodule(name).register_forward_hook(maps.keeper(name)) for name in names]
        try:
            logits = net(x)
        finally:
            for handle in handles:
                handle.remove()
        for name in names:
            maps.require(name)
        index = score.choose(logits, given)
        explained = score(logits, index)
        if not explained.requires_grad:
            raise ValueError(
                f"the logits of {type(net).__name__} do not depend on the map of {' or '.join(map(repr, names))}: take "
                f"another layer{_suggestion(net)}"
            )
        gradients = torch.autograd.grad(explained.sum(), [maps[name] for name in names], allow_unused=True)
        with torch.no_grad():
            found = {
                name: (maps[name].detach(), torch.zeros_like(maps[name]) if gradient is None else gradient)
                for name, gradient in zip(names, gradients, strict=True)
            }
            # in the order of their calls; of equal lengths the later one is the later stage
            *finer, last = context["order"][:] = sorted(maps, key=lambda name: -maps[name].shape[2])
            cam = self._cam(*found[last])
            wide = _running_mean(_widen(net, last, cam, x.shape[-1]), context["width"])
            for name in finer:
                energy = _over_channels((found[name][0] * found[name][1]).abs())
                energy = _running_mean(_widen(net, name, energy, x.shape[-1]), context["width"])
                most = energy.amax(1, keepdim=True)
                # a stage that the answer does not depend on says nothing of places; NaN stays NaN, and is told
                wide = wide * torch.where(most == 0, torch.ones_like(energy), energy / most.clamp_min(_TINY))
            passed = score.passes(logits, index)
        out = {
            "relevance": wide[:, None],
            "score": explained,
            "logits": logits,
            "index": index,
            "passed": passed,
            "cam": cam,
        }
        return {key: value.detach().cpu().numpy() for key, value in out.items()}

    def _cam(self, maps: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return the class activation map (n, length) of maps (n, channels, length) or (n, channels, length, other)."""
        if self.method == "stagecam":
            return _over_channels((gradient * maps).relu())
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


def _over_channels(parts: torch.Tensor) -> torch.Tensor:
    """Return the sum over channels (n, length) of (n, channels, length) or, averaged over it, of a second axis."""
    summed = parts.sum(1)
    return summed.mean(-1) if summed.ndim == 3 else summed


class _Maps(dict[str, torch.Tensor]):
    """The maps of layers, kept as they are made in a forward pass: the graph begins at the first of them."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def keeper(self, name: str) -> Any:
        """Return the hook that keeps a layer's map."""
        layer = self.net.get_submodule(name)
        # without a word of the network no second axis can be told from time
        dims = (3, 4) if hasattr(self.net, "cam_positions") else (3,)

        def keep(_: torch.nn.Module, __: Any, out: Any) -> torch.Tensor:
            if not torch.is_tensor(out) or out.ndim not in dims:
                recurrent = isinstance(layer, torch.nn.RNNBase)
                raise ValueError(
                    f"layer {name!r} ({type(layer).__name__}) gives no map (n, channels, time), so it has no Grad-CAM: "
                    f"take a convolutional stage{_suggestion(self.net)}"
                    + (". A recurrent layer is explained by MaskDeletion" if recurrent else "")
                )
            if name in self:
                raise ValueError(
                    f"layer {name!r} is called more than once in a forward pass, so it has no single map: take a layer "
                    "that is called once"
                )
            # The twin's parameters and x want no gradient, so no graph exists below the first map: it begins there.
            self[name] = out if out.requires_grad else out.detach().requires_grad_(True)
            return self[name].clone()  # an in-place ReLU behind the layer must not change the map

        return keep

    def require(self, name: str) -> None:
        """Raise ValueError where the layer was not called."""
        if name not in self:
            raise ValueError(
                f"layer {name!r} is not called in the forward pass, so it has no map: take another"
                f"{_suggestion(self.net)}"
            )


def _running_mean(curve: torch.Tensor, width: int) -> torch.Tensor:
    """Return the mean over ``width`` samples around each (n, n_timesteps), fewer at the ends."""
    width = min(width, curve.shape[-1])
    if width == 1:
        return curve
    left = (width - 1) // 2
    padded = F.pad(curve[:, None], (left, width - 1 - left))
    inside = F.pad(torch.ones_like(curve[:1, None]), (left, width - 1 - left))
    return (F.avg_pool1d(padded, width, 1) / F.avg_pool1d(inside, width, 1))[:, 0]


def _knows_positions(net: torch.nn.Module, stage: Stage, n_timesteps: int) -> bool:
    """Tell whether a network that says where the steps of its maps lie says it of a stage, too."""
    if not hasattr(net, "cam_positions"):
        return True
    try:
        return len(net.cam_positions(stage.name, n_timesteps)) == stage.length
    except Exception:  # a user's method, written for the one layer that Grad-CAM asks for
        return False


def _widen(net: torch.nn.Module, name: str, cam: torch.Tensor, n_timesteps: int) -> torch.Tensor:
    """Lay a map (n, length) of a layer over the window, (n, n_timesteps)."""
    centres = getattr(net, "cam_positions", None)
    if centres is not None:
        at = np.asarray(centres(name, n_timesteps))
        if len(at) != cam.shape[-1]:
            raise ValueError(
                f"cam_positions of {type(net).__name__} gives {len(at)} positions for layer {name!r}, whose map has "
                f"{cam.shape[-1]}: it must return one a step"
            )
        return _spread(cam, at, n_timesteps)
    # a network that pads short windows at their right end says so: the map covers the padding too
    size = max(n_timesteps, getattr(net, "min_timesteps", 1))
    return F.interpolate(cam[:, None], size=size, mode="linear", align_corners=False)[:, 0, :n_timesteps]


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
