"""captum's methods in the frame of the explainers, on networks for which they are right."""

from __future__ import annotations

import inspect
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch
from torch import nn

from ..classifiers import ECGClassifier
from ..utils import _validation
from ..utils._docs import fill_doc
from ..utils._random import PROCESS_LOCK, isolated_rng
from ..utils._validation import check_option, draw_seed
from ._base import BaseExplainer, TargetScore
from ._captum_checks import prepare_deep, prepare_guided
from ._fast import speed_up
from ._gradients import OUTPUTS, forward, to_numpy, widest, without_repeat

_GUIDED = ("GuidedBackprop", "Deconvolution", "GuidedGradCam")
_DEEP = ("DeepLift", "DeepLiftShap")
_PLAIN = ("Saliency", "InputXGradient", "IntegratedGradients", "GradientShap")
_PERTURBED = ("FeatureAblation", "Occlusion", "ShapleyValueSampling", "ShapleyValues", "KernelShap", "Lime")
METHODS = (*_DEEP, *_GUIDED, *_PLAIN, *_PERTURBED, "NoiseTunnel")

_LEFT_OUT = {
    "LRP": "captum's LRP has no rule for Conv1d: take skecg.explain.LRP",
    "FeaturePermutation": "its relevance of a window depends on the windows beside it: take 'FeatureAblation'",
}
_DRAWN = {"GradientShap", "ShapleyValueSampling", "KernelShap", "Lime", "NoiseTunnel"}
# captum draws for the whole batch at once, so that only a window that is alone has draws of its own.
_ALONE = {"GradientShap", "KernelShap", "Lime", "NoiseTunnel"}
_ADDS_UP = {"IntegratedGradients", "GradientShap", *_DEEP}
_SMOOTHABLE = (*_GUIDED, "Saliency", "InputXGradient", "IntegratedGradients")
# What captum asks for and this class gives, or which would change the shape of the result or print.
_OURS = (
    "self model forward_func layer device_ids inputs target additional_forward_args return_convergence_delta kwargs "
    "show_progress return_input_shape"
).split()
_TOL = 0.01  # share of the score's rise by which DeepLIFT, which is exact but for rounding, may miss it
_MOST_FEATURES = 9  # of ShapleyValues, which goes through all orders of the features


@fill_doc
class CaptumExplainer(BaseExplainer):
    """The methods of captum that give each sample a value, in pipelines: DeepLIFT, guided backpropagation and others.

    captum [1]_ runs on a copy of the network, so that its hooks never touch the user's. What is said of a method here
    is what captum computes; relevance is "signed" (``relevance_kind``), but "positive" for Saliency with its ``abs``
    and for the squares and the variance of NoiseTunnel.

    - DeepLift (the rescale rule [2]_), DeepLiftShap (its mean over several baselines);
    - GuidedBackprop, Deconvolution: the gradient, with negative parts cut off at each ReLU on the way back;
      GuidedGradCam [3]_: the first times the Grad-CAM of a layer. **They hardly look at the network**: guided
      backpropagation and Guided Grad-CAM stay nearly the same when the network's weights are drawn anew [4]_, and
      guided backpropagation and deconvolution in part redraw their input [5]_;
    - Saliency, InputXGradient, IntegratedGradients, GradientShap;
    - FeatureAblation, Occlusion, ShapleyValueSampling, ShapleyValues, KernelShap, Lime: what changes where samples are
      replaced;
    - NoiseTunnel: the mean, the mean of squares or the variance of another method over noisy copies.

    Networks for which captum would be silently wrong are refused, with the reason: captum hangs on modules, so it sees
    no activation that is a function, and mistakes a module that is called twice.

    Parameters
    ----------
    %(estimator)s
    method : str, default="DeepLift"
        Name of captum's class, see above. LRP is left out (captum has no rule for ``Conv1d``; see
        :class:`~skecg.explain.LRP`), and FeaturePermutation, where a window's relevance depends on its companions.
    layer : str, default=None
        The layer of GuidedGradCam, by its dotted name; None takes the network's ``cam_layer``.
    options : dict, default=None
        captum's own parameters of the class and of its method ``attribute``, such as ``{"sliding_window_shapes": (1,
        36)}`` for Occlusion or ``{"n_steps": 100}``. ``baselines`` are in the unit of the network's input: a number, an
        array (n_leads, n_timesteps), or for DeepLiftShap and GradientShap (n_baselines, n_leads, n_timesteps).
        ``feature_mask`` is an array of integers, (n_timesteps,) or (n_leads, n_timesteps), from 0 on. NoiseTunnel takes
        ``attribution_method``, the name of another method, and its parameters beside its own.
    %(output)s
    %(target)s
    %(random_state)s
    %(explain_batch_size)s
    %(explain_fs)s
    %(verbose)s

    Attributes
    ----------
    classes_ : ndarray of shape (n_outputs,)
        Labels of the classifier.
    %(explained)s

    Raises
    ------
    ImportError
        Where captum is not installed: ``pip install "skecg[captum]"``.

    See Also
    --------
    ShapExplainer : DeepLIFT by shap, and expected gradients.
    SmoothGrad : NoiseTunnel around the gradient, with noise in proportion to the window.
    IntegratedGradients : With the points that a tolerance asks for.
    LRP : Layer-wise relevance propagation.

    Notes
    -----
    For IntegratedGradients, GradientShap, DeepLift and DeepLiftShap ``explain`` adds ``score_baseline`` (the mean score
    of the baselines) and ``completeness_error`` (the sum of the relevance less the score's difference from it), each
    (n_samples,); for DeepLift and DeepLiftShap a warning names the windows where it is beyond 0.01 of that difference.

    DeepLift and DeepLiftShap explain logits, of convolutional networks: every activation a module of its own that
    captum has a rule for (ReLU, LeakyReLU, ELU, Sigmoid, Tanh, Softplus, max pooling), called once.
    captum's rule for max pooling mixes the windows of a batch, so such networks are run window by window. And of two
    such modules in a row, such as a ReLU and a max pooling, captum loses the rule of the second, so that with baselines
    other than 0 its relevance does not add up; nor does it where the stretches of a max pooling overlap. Both are
    mended here, the latter for ``MaxPool1d`` (others are refused).

    The guided methods need each ReLU as a ``torch.nn.ReLU`` that is called once; all else, other activations too, keeps
    its gradient.

    GuidedGradCam lays the map over the window as captum does: stretched from end to end, each step constant
    (``options={"interpolate_mode": "linear"}`` for lines), where GradCAM1D asks the network at which samples the steps
    of the map are centred.

    Methods that draw (GradientShap, ShapleyValueSampling, KernelShap, Lime, NoiseTunnel) draw the same numbers for
    every window, so that its relevance does not depend on its companions; all but ShapleyValueSampling run window by
    window. captum draws from the global generators of torch and NumPy: they are lent to it, seeded, under a lock, and
    put back as they were. Threads of skecg wait for each other meanwhile; a thread of one's own that draws from them
    at the same time would get seeded numbers.

    References
    ----------
    .. [1] N. Kokhlikyan et al., "Captum: a unified and generic model interpretability library for PyTorch",
       arXiv:2009.07896.
    .. [2] A. Shrikumar, P. Greenside and A. Kundaje, "Learning important features through propagating activation
       differences", ICML 2017, arXiv:1704.02685.
    .. [3] R. R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization",
       ICCV 2017.
    .. [4] J. Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, arXiv:1810.03292.
    .. [5] W. Nie, Y. Zhang and A. Patel, "A theoretical explanation for perplexing behaviors of backpropagation-based
       visualizations", ICML 2018, arXiv:1805.07039.

    Examples
    --------
    >>> from skecg import CaptumExplainer, ECGClassifier
    >>> from skecg.datasets import make_ecg
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> CaptumExplainer(clf, method="GuidedBackprop").transform(ecg.data[:3]).shape
    (3, 1, 720)
    """

    def __init__(
        self,
        estimator: Any,
        *,
        method: str = "DeepLift",
        layer: str | None = None,
        options: dict[str, Any] | None = None,
        output: str = "logit",
        target: Any = "predicted",
        random_state: Any = None,
        batch_size: int = 64,
        fs: float | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.layer = layer
        self.options = options
        self.output = output
        self.target = target
        self.random_state = random_state
        self.batch_size = batch_size
        self.fs = fs
        self.verbose = verbose

    @property
    def relevance_kind(self) -> str:
        """Return "positive" where the method and its options have no sign, else "signed"."""
        options = self.options or {}
        if self.method == "NoiseTunnel" and options.get("nt_type", "smoothgrad") != "smoothgrad":
            return "positive"
        return "positive" if self._inner() == "Saliency" and options.get("abs", True) else "signed"

    def _inner(self) -> str:
        """Return the method that looks at the network: NoiseTunnel has another inside."""
        return (self.options or {}).get("attribution_method") if self.method == "NoiseTunnel" else self.method

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.method in tuple(_LEFT_OUT):
            raise ValueError(f"method={self.method!r} is left out: {_LEFT_OUT[self.method]}")
        check_option("method", self.method, METHODS)
        check_option("output", self.output, OUTPUTS)
        if self.options is not None and not isinstance(self.options, dict):
            raise ValueError(f"options must be a dict of captum's parameters, or None; got {self.options!r}")
        self._split_options()
        if self.layer is not None and self._inner() != "GuidedGradCam":
            raise ValueError(f"layer={self.layer!r} is for method='GuidedGradCam': {self.method} looks at no layer")
        if self._inner() in _DEEP and self.output != "logit":
            raise ValueError(
                f"method={self.method!r} explains logits: DeepLIFT has no rule for a softmax; got output="
                f"{self.output!r}. Take output='logit', or another method, such as 'IntegratedGradients'"
            )

    def _split_options(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the options for captum's class and for its ``attribute``; ValueError for unknown or missing ones."""
        captum = _import_captum()
        given = dict(self.options or {})
        if self.method == "NoiseTunnel":
            if "attribution_method" not in given:
                raise ValueError(
                    "method='NoiseTunnel' needs options={'attribution_method': ...}, the method that it smooths, one "
                    f"of {', '.join(map(repr, _SMOOTHABLE))}"
                )
            check_option("attribution_method", given.pop("attribution_method"), _SMOOTHABLE)
        cls = getattr(captum, self._inner())
        of_class, of_call = _parameters(cls.__init__), _parameters(cls.attribute)
        if self.method == "NoiseTunnel":
            of_call |= _parameters(captum.NoiseTunnel.attribute)
        unknown = sorted(map(str, given.keys() - of_class.keys() - of_call.keys()))
        if unknown:
            known = sorted({**of_class, **of_call})
            raise ValueError(f"captum's {self.method} takes no options {unknown}; it takes {known}")
        missing = sorted(name for name, must in {**of_class, **of_call}.items() if must and name not in given)
        if missing:
            raise ValueError(f"captum's {self.method} needs the options {missing}: pass options={{{missing[0]!r}: ..}}")
        made = {key: given.pop(key) for key in [*given] if key in of_class}
        return made, given

    def _context(self, net: nn.Module, classifier: ECGClassifier) -> dict[str, Any]:
        device, inner = classifier.device_, self._inner()
        layer = self._layer_name(net) if inner == "GuidedGradCam" else None
        if inner in (*_PLAIN, *_PERTURBED):
            speed_up(net, device)
        for part in net.modules() if inner in (*_DEEP, *_GUIDED) else ():
            if getattr(part, "inplace", False):
                part.inplace = False  # the hooks keep what goes in
        of_class, of_call = self._split_options()
        of_call = {key: tuple(value) if isinstance(value, list) else value for key, value in of_call.items()}
        shape = (classifier.n_leads_, classifier.n_timesteps_)
        if "baselines" in of_call:
            of_call["baselines"] = _as_baselines(self.options["baselines"], shape, device)
        if of_call.get("feature_mask") is not None:
            of_call["feature_mask"] = _as_mask(self.options["feature_mask"], shape, device)
        if self.method == "ShapleyValues":
            _check_orders(of_call.get("feature_mask"), shape)
        size = 1 if self.method in _ALONE else None
        if self.method == "DeepLiftShap" and torch.is_tensor(of_call["baselines"]):
            size = max(1, self.batch_size // (2 * len(of_call["baselines"])))
        level = None
        if self.method in _ADDS_UP and of_class.get("multiply_by_inputs", True):
            start = of_call.get("baselines")
            start = 0.0 if start is None else start
            rows = start if torch.is_tensor(start) else torch.full((1, *shape), float(start), device=device)
            level = torch.cat([forward(net, part) for part in rows.split(self.batch_size)])
        call = _Call(self.method, inner, layer, of_class, of_call, draw_seed(self.random_state), size)
        return {"call": call, "level": None if "custom_attribution_func" in of_call else level}

    def _layer_name(self, net: nn.Module) -> str:
        names = [name for name, _ in net.named_modules() if name]
        name = getattr(net, "cam_layer", None) if self.layer is None else self.layer
        if name not in names:
            what = "the network names no cam_layer, so pass layer" if name is None else f"layer {name!r} is not there"
            raise ValueError(f"method='GuidedGradCam' of {type(net).__name__}: {what}; its layers are {names}")
        return name

    def _explain_batch(
        self, net: nn.Module, x: torch.Tensor, given: torch.Tensor, score: TargetScore, **context: Any
    ) -> dict[str, np.ndarray]:
        x, given = without_repeat(x, given)
        call: _Call = context["call"]
        logits = forward(net, x)
        index = score.choose(logits, given)
        explained, wide = score(logits, index), widest(x)
        call.prepare(net, x)
        size = call.size or len(x)
        relevance = torch.cat(
            [call(net, score, x[i : i + size], index[i : i + size]) for i in range(0, len(x), size)]
        )
        out = {
            "relevance": relevance,
            "score": explained,
            "logits": logits,
            "index": index,
            "passed": score.passes(logits, index),
        }
        level = context["level"]
        if level is not None:
            labels = torch.arange(level.shape[1], device=x.device)
            base = torch.stack([score(level, label.expand(len(level))).to(wide).mean() for label in labels])[index]
            out["score_baseline"] = base.float()
            out["completeness_error"] = relevance.sum((1, 2), dtype=wide) - (explained.to(wide) - base)
        return to_numpy(out)

    def _finish(self, result: Bunch, flat: bool) -> list[tuple[np.ndarray, str]]:
        if self.method not in _DEEP or "completeness_error" not in result:
            return []
        # rounding is in proportion to the score, which may be large where its difference from the baseline's is not
        rise = np.abs(result.score.astype(float) - result.score_baseline)
        missed = np.abs(result.completeness_error) > _TOL * rise + 1e-5 * np.abs(result.score)
        text = f"the relevance does not add up to the score's difference from the baseline's within {_TOL:g} of it"
        return [(np.flatnonzero(missed), text)]


# --- captum ----------------------------------------------------------------------------------------------------------


def _import_captum() -> ModuleType:
    """Return captum.attr; ImportError with the pip line where it is not installed."""
    try:
        import captum.attr
    except ImportError as error:
        raise ImportError('CaptumExplainer needs captum: pip install "skecg[captum]"') from error
    return captum.attr


def _parameters(function: Callable) -> dict[str, bool]:
    """Return the parameters that users may give, and whether they must."""
    found = inspect.signature(function).parameters.values()
    skipped = (*_OURS, "attribution_method")
    return {p.name: p.default is p.empty for p in found if p.name not in skipped and p.kind != p.VAR_KEYWORD}


def _as_baselines(given: Any, shape: tuple[int, int], device: str) -> torch.Tensor | float:
    """Return baselines as a number or a tensor (n_baselines, n_leads, n_timesteps)."""
    try:
        array = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"options['baselines'] must be a number or an array of numbers; got {error}") from error
    if not np.isfinite(array).all():
        raise ValueError("options['baselines'] has values that are NaN or infinite")
    if array.shape == ():
        return float(array)
    if array.shape == shape:
        array = array[None]
    if array.ndim != 3 or array.shape[1:] != shape or not len(array):
        raise ValueError(
            f"options['baselines'] has the shape {np.shape(given)}; the network takes {shape[0]} leads of {shape[1]} "
            f"timesteps, so it must be a number, {shape}, or (n_baselines, {shape[0]}, {shape[1]})"
        )
    return torch.from_numpy(array.copy()).to(device)


def _as_mask(given: Any, shape: tuple[int, int], device: str) -> torch.Tensor:
    """Return a feature mask as a tensor (1, n_leads, n_timesteps) of integers."""
    array = np.asarray(given)
    whole = array.dtype.kind in "iu" and array.shape in (shape, (1, *shape), shape[1:])
    if not whole or not np.array_equal(np.unique(array), np.arange(array.max() + 1)):
        raise ValueError(
            f"options['feature_mask'] must number the features 0, 1, ... in an array of integers {shape[1:]} or "
            f"{shape}; got {array.dtype} of shape {array.shape}"
        )
    return torch.from_numpy(np.broadcast_to(array, (1, *shape)).astype(np.int64, order="C")).to(device)


def _check_orders(mask: torch.Tensor | None, shape: tuple[int, int]) -> None:
    n = shape[0] * shape[1] if mask is None else int(mask.max()) + 1
    if n > _MOST_FEATURES:
        raise ValueError(
            f"method='ShapleyValues' goes through all orders of the features, {n}! of them: pass options={{"
            f"'feature_mask': ...}} with at most {_MOST_FEATURES}, or take 'ShapleyValueSampling'"
        )


@contextmanager
def _lent_generators(seed: int, device: str | torch.device) -> Iterator[None]:
    """Seed the global generators, which captum draws from, and put them back as they were."""
    with isolated_rng(seed, device):
        of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002 - captum draws from the global one
        try:
            np.random.set_state(np.random.RandomState(seed).get_state())  # noqa: NPY002
            random.seed(seed)
            yield
        finally:
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)


@contextmanager
def _own_filters() -> Iterator[None]:
    """Silence captum's notes about its hooks; the filters belong to the process, so one thread at a time."""
    with PROCESS_LOCK, _validation._FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting (forward, )?backward hooks")
        yield


class _Score(nn.Module):
    """What is explained (n,), as the module that captum hooks: window and position of its target in, score out."""

    def __init__(self, net: nn.Module, score: TargetScore, alone: bool = False) -> None:
        super().__init__()
        self.net, self.score, self.alone = net, score, alone

    def forward(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        n = len(x)
        # a copy, for networks that write into their input; a lone row would take another path through the kernels
        logits = self.net(x.clone() if n > 1 or self.alone else x.repeat(2, 1, 1))[:n]
        if torch.is_grad_enabled() and x.requires_grad and not logits.requires_grad:
            logits = logits + 0 * x[:, 0, :1]  # captum wants a graph even where the input has no say
        return self.score(logits, index.expand(n))


class _Call:
    """captum's method with its options, as a function from windows to relevance."""

    def __init__(
        self,
        method: str,
        inner: str,
        layer: str | None,
        of_class: dict[str, Any],
        of_call: dict[str, Any],
        seed: int,
        size: int | None,
    ) -> None:
        self.method, self.inner, self.layer, self.seed = method, inner, layer, seed
        self.of_class, self.of_call = of_class, of_call
        self.size = size  # most windows in a call; None: the batch
        self.ready = inner not in (*_DEEP, *_GUIDED)

    def prepare(self, net: nn.Module, x: torch.Tensor) -> None:
        """Make the twin ready for captum, or refuse it, at the first windows that come."""
        if self.ready:
            return
        two = x[:1].repeat(2, 1, 1)
        if self.inner in _GUIDED:
            prepare_guided(net, two, self.inner, self.layer)
        elif prepare_deep(net, two, self.inner):
            self.size = 1
        self.ready = True

    def __call__(self, net: nn.Module, score: TargetScore, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        if self.layer is not None and len(x) == 1 and self.method != "NoiseTunnel":
            return self(net, score, x.repeat(2, 1, 1), index.repeat(2))[:1]
        captum, model = _import_captum(), _Score(net, score, alone=self.layer is not None)  # a map has its own rows
        layer = {} if self.layer is None else {"layer": net.get_submodule(self.layer)}
        explainer = getattr(captum, self.inner)(model, **layer, **self.of_class)
        options = dict(self.of_call)
        if self.inner == "IntegratedGradients":
            copies = options.get("nt_samples", 5) if self.method == "NoiseTunnel" else 1  # 5 is captum's own default
            options.setdefault("internal_batch_size", copies * len(x))  # else all points of all windows are one pass
        if self.method == "NoiseTunnel":
            explainer = captum.NoiseTunnel(explainer)
        inputs = x.detach().clone().requires_grad_(self.method not in _PERTURBED)
        with ExitStack() as stack:
            if self.method in _DRAWN:
                stack.enter_context(_lent_generators(self.seed, x.device))
            if self.inner in (*_DEEP, *_GUIDED, "KernelShap", "Lime"):  # the last two fit models of scikit-learn
                stack.enter_context(_own_filters())
            try:
                found = explainer.attribute(inputs, additional_forward_args=(index,), **options)
            except AssertionError as error:
                raise ValueError(f"captum's {self.method} refuses its options: {error}") from error
        if not torch.is_tensor(found) or found.shape != x.shape:
            got = tuple(found.shape) if torch.is_tensor(found) else type(found).__name__
            raise ValueError(f"captum's {self.method} gives {got} for windows {tuple(x.shape)}: check its options")
        return found.detach().float()
