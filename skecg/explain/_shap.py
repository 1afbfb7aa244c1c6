"""Expected gradients and DeepLIFT by shap, of the target alone, with the error of their sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils import Bunch, check_random_state
from torch import nn
from torch.overrides import TorchFunctionMode

from ..classifiers import ECGClassifier
from ..utils._batching import in_parts, map_batches
from ..utils._docs import fill_doc
from ..utils._validation import check_number, check_option, draw_seed
from ._base import BaseExplainer, TargetScore
from ._fast import speed_up
from ._gradients import OUTPUTS, forward, path_sum, to_numpy, widest, without_repeat

# Share of the score's rise by which relevance may miss it before a warning: DeepLIFT is exact but for rounding.
_TOL = {"gradient": 0.1, "deep": 0.01}


@fill_doc
class ShapExplainer(BaseExplainer):
    """Approximate Shapley values against a background: expected gradients, or DeepLIFT as in shap.

    With x' drawn from the background and a from the uniform distribution on [0, 1], expected gradients [1]_ are the
    mean over ``n_samples`` draws of ``(x - x') ds/dx(x' + a (x - x'))``: integrated gradients from many baselines. They
    are an estimate. DeepLIFT [2]_ [3]_ carries differences from each background window through the network by a rule
    for each activation. Relevance is "signed" (``relevance_kind``) and its sum is the score less the background's mean
    score, but for an error that is returned. Only the target of a window is computed.

    Parameters
    ----------
    %(estimator)s
    method : {"gradient", "deep"}, default="gradient"
        Expected gradients, for every differentiable network; or DeepLIFT by shap's ``DeepExplainer``, for convolutional
        networks whose activations are modules, each used once, and of logits. Networks for which DeepLIFT would be
        wrong without a word are refused, with the reason.
    background : float or array-like, default=None
        What windows are compared with, in the unit and the space of the network's input (after a Pipeline's steps):
        windows (n_background, n_leads, n_timesteps), for one lead also (n_background, n_timesteps), or one number for
        all samples. None takes windows of the X of ``fit``, which even a fitted estimator needs then.
    n_background : int, default=50
        Windows that ``fit`` draws, without ``background``.
    n_samples : int, default=200
        Draws of expected gradients, the same for every window.
    %(output)s
    tol : float, default=None
        A warning names windows whose ``additivity_error`` is beyond this share of the score's difference from the
        background's; None takes 0.1 for expected gradients, 0.01 for DeepLIFT.
    %(target)s
    %(random_state)s
    batch_size : int, default=64
        Windows in a batch, and draws or background windows in one pass; halved when memory does not suffice.
    %(explain_fs)s
    %(verbose)s

    Attributes
    ----------
    background_ : ndarray of shape (n_background, n_leads, n_timesteps)
        What windows are compared with, after ``fit``.
    classes_ : ndarray of shape (n_outputs,)
        Labels of the classifier.
    %(explained)s

    See Also
    --------
    IntegratedGradients : One baseline, and points that lie evenly: no chance in it.

    Notes
    -----
    ``explain`` adds ``score_background`` (the background's mean score of the target) and ``additivity_error`` (the sum
    of the relevance less the score's difference from it), each (n_samples,).

    Expected gradients are computed here, not by shap, whose ``GradientExplainer`` computes every class and seeds
    NumPy's global generator; with an int as ``random_state`` the draws are those of its ``shap_values`` of one window
    with that number as ``rseed``.

    References
    ----------
    .. [1] G. Erion et al., "Improving performance of deep learning models with axiomatic attribution priors and
       expected gradients", Nature Machine Intelligence 3, 2021, arXiv:1906.10670.
    .. [2] A. Shrikumar, P. Greenside and A. Kundaje, "Learning important features through propagating activation
       differences", ICML 2017, arXiv:1704.02685.
    .. [3] S. M. Lundberg and S.-I. Lee, "A unified approach to interpreting model predictions", NeurIPS 2017,
       arXiv:1705.07874.

    Examples
    --------
    >>> from skecg import ECGClassifier, ShapExplainer
    >>> from skecg.datasets import make_ecg
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> explainer = ShapExplainer(clf, n_samples=8, tol=1.0, random_state=0).fit(ecg.data)
    >>> explainer.transform(ecg.data[:3]).shape
    (3, 1, 720)
    """

    relevance_kind = "signed"

    def __init__(
        self,
        estimator: Any,
        *,
        method: str = "gradient",
        background: Any = None,
        n_background: int = 50,
        n_samples: int = 200,
        output: str = "logit",
        tol: float | None = None,
        target: Any = "predicted",
        random_state: Any = None,
        batch_size: int = 64,
        fs: float | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.background = background
        self.n_background = n_background
        self.n_samples = n_samples
        self.output = output
        self.tol = tol
        self.target = target
        self.random_state = random_state
        self.batch_size = batch_size
        self.fs = fs
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> ShapExplainer:
        """Fit the classifier if need be, use a fitted one as it is, and settle the background.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG in mV; two dimensions mean one lead. Without ``background`` some of its windows become the background.
        y : array-like of shape (n_samples,), default=None
            Labels; read only where the estimator is not fitted.
        **fit_params : dict
            What the estimator's ``fit`` takes beside, such as ``groups``.

        Returns
        -------
        self : ShapExplainer
            Fitted.

        Raises
        ------
        ValueError
            For a background of the wrong shape, or as every explainer.
        """
        super().fit(X, y, **fit_params)
        data, classifier, _ = self._network_input(X)
        if self.background is not None:
            self.background_ = self._given_background(classifier)
            return self
        n = len(data)
        rng = np.random.RandomState(draw_seed(self.random_state))
        rows = np.sort(rng.choice(n, min(n, self.n_background), replace=False))
        self.background_ = np.array(data[rows])
        return self

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_option("method", self.method, ("gradient", "deep"))
        check_option("output", self.output, OUTPUTS)
        check_number("n_background", self.n_background, low=1, integer=True)
        check_number("n_samples", self.n_samples, low=1, integer=True)
        if self.tol is not None:
            check_number("tol", self.tol, low=0)
        if self.method == "deep" and self.output != "logit":
            raise ValueError(
                f"method='deep' explains logits: DeepLIFT has no rule for a softmax; got output={self.output!r}. Take "
                "output='logit', or method='gradient'"
            )

    def _given_background(self, classifier: ECGClassifier) -> np.ndarray:
        """Return the parameter ``background`` as windows of the network."""
        leads, length = classifier.n_leads_, classifier.n_timesteps_
        try:
            given = np.array(self.background, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"background must be a number or an array of numbers; got {error}") from error
        if not np.isfinite(given).all():
            raise ValueError("background has values that are NaN or infinite: leave such windows out")
        if given.shape == ():
            return np.full((1, leads, length), given)
        if leads == 1 and given.ndim == 2:
            given = given[:, None]
        if given.shape[1:] != (leads, length) or not len(given):
            one = f" or (n_background, {length})" if leads == 1 else ""
            raise ValueError(
                f"background has the shape {np.shape(self.background)}; the network takes {leads} leads of {length} "
                f"timesteps, so it must be a number or (n_background, {leads}, {length}){one}"
            )
        return given

    def _context(self, net: nn.Module, classifier: ECGClassifier) -> dict[str, Any]:
        if self.background is None and not hasattr(self, "background_"):
            raise NotFittedError(
                "this ShapExplainer has no background to compare with: call fit(X), which draws it from X, or pass "
                "background=windows (or a number)"
            )
        found = self.background_ if self.background is None else self._given_background(classifier)
        device = classifier.device_
        windows = torch.from_numpy(found).to(device)
        if self.method == "deep":
            prepare_for_deep(net, windows[:1].repeat(2, 1, 1))
        else:
            speed_up(net, device)
        logits = map_batches(lambda part: forward(net, part).cpu().numpy(), found, self.batch_size, device)
        return {"windows": windows, "logits": torch.from_numpy(logits).to(device), "draws": self._draws(len(windows))}

    def _draws(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return positions in a background of n windows, and places on the way from there, in the order of shap's."""
        whole = isinstance(self.random_state, int | np.integer)
        rng = check_random_state(self.random_state if whole else draw_seed(self.random_state))
        drawn = [(rng.choice(n), rng.uniform()) for _ in range(self.n_samples)]
        rows, places = zip(*drawn, strict=True)
        return np.array(rows), np.array(places)

    def _explain_batch(
        self, net: nn.Module, x: torch.Tensor, given: torch.Tensor, score: TargetScore, **context: Any
    ) -> dict[str, np.ndarray]:
        x, given = without_repeat(x, given)
        logits = forward(net, x)
        index = score.choose(logits, given)
        explained = score(logits, index)
        others, wide = context["logits"], widest(x)
        labels = torch.arange(others.shape[1], device=x.device)
        base = torch.stack([score(others, label.expand(len(others))).to(wide).mean() for label in labels])[index]
        find = self._expected if self.method == "gradient" else self._deep
        relevance = find(net, x, index, score, context["windows"], context["draws"])
        return to_numpy(
            {
                "relevance": relevance.float(),
                "score": explained,
                "logits": logits,
                "index": index,
                "passed": score.passes(logits, index),
                "additivity_error": relevance.sum((1, 2)) - (explained.to(wide) - base),
                "score_background": base.float(),
            }
        )

    def _expected(
        self,
        net: nn.Module,
        x: torch.Tensor,
        index: torch.Tensor,
        score: TargetScore,
        windows: torch.Tensor,
        draws: tuple[np.ndarray, np.ndarray],
    ) -> torch.Tensor:
        rows, places = draws
        position = torch.from_numpy(rows).to(x.device)
        weights = np.full(len(rows), 1 / len(rows))
        return path_sum(
            net, score, x, index, lambda now: windows[position[now], None], places, weights, self.batch_size
        )

    def _deep(
        self,
        net: nn.Module,
        x: torch.Tensor,
        index: torch.Tensor,
        score: TargetScore,
        windows: torch.Tensor,
        draws: tuple[np.ndarray, np.ndarray],
    ) -> torch.Tensor:
        import shap

        total = torch.zeros(x.shape, dtype=widest(x), device=x.device)

        def share(part: slice) -> torch.Tensor:
            background = windows[part]
            values = torch.empty_like(total)
            for label in index.unique().tolist():
                rows = torch.nonzero(index == label)[:, 0]
                deep = shap.DeepExplainer(_Output(net, label), background)
                values[rows] = torch.from_numpy(deep.shap_values(x[rows], check_additivity=False)[..., 0]).to(values)
            return values * (len(background) / len(windows))

        # shap runs background windows beside as many copies of x
        for _, values in in_parts(len(windows), self.batch_size // 2, share):
            total += values
        return total

    def _finish(self, result: Bunch, flat: bool) -> list[tuple[np.ndarray, str]]:
        tol = _TOL[self.method] if self.tol is None else self.tol
        rise = np.abs(result.score.astype(float) - result.score_background)
        text = f"the relevance does not add up to the score's difference from the background's within {tol:g} of it" + (
            ": raise n_samples" if self.method == "gradient" else "; method='gradient' is safer"
        )
        return [(np.flatnonzero(np.abs(result.additivity_error) > tol * rise), text)]


class _Output(nn.Module):
    """One logit of a network, as the column (n, 1) that shap wants."""

    def __init__(self, net: nn.Module, label: int) -> None:
        super().__init__()
        self.net, self.label = net, label

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.net(x.clone())
        if x.requires_grad and not logits.requires_grad:  # shap wants a graph even where the input has no say
            logits = logits + 0 * x[:, 0, :1]
        return logits[:, self.label, None]


# --- what DeepLIFT can do ---------------------------------------------------------------------------------------------

# Functions outside of the modules that shap knows: affine in what depends on the input, so that a gradient is right.
_AFFINE = frozenset(
    """add radd iadd sub subtract rsub isub neg positive cat concat concatenate stack view view_as reshape reshape_as
    flatten unflatten squeeze unsqueeze transpose swapaxes swapdims permute movedim moveaxis t contiguous clone expand
    expand_as repeat repeat_interleave tile getitem narrow select index_select split chunk tensor_split unbind unfold
    mean sum cumsum diff flip roll pad constant_pad_nd avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d
    to float double type_as get dropout dropout1d requires_grad identity""".split()
)
# Functions that take a tensor's place in memory and its type, not its values.
_MAKERS = frozenset("zeros_like ones_like empty_like full_like new_zeros new_ones new_full new_empty".split())
# Functions that hand values out as Python's or NumPy's, where no gradient follows them.
_READERS = frozenset("item tolist float int bool index complex numpy array equal allclose is_nonzero".split())
_PRODUCTS = frozenset("mul multiply rmul imul matmul rmatmul mm bmm einsum conv1d conv2d linear".split())
_QUOTIENTS = frozenset("div divide true_divide truediv idiv itruediv".split())


def prepare_for_deep(net: nn.Module, x: torch.Tensor) -> None:
    """Make a twin ready for shap's DeepExplainer; ValueError with the reason where its answer would be wrong.

    shap hangs on modules. What is not a module it does not see, and a module that is called twice it takes for one
    call; both give wrong answers without a word.

    Parameters
    ----------
    net : torch.nn.Module
        A private twin; changed.
    x : torch.Tensor of shape (2, n_leads, n_timesteps)
        Windows to trace the network with.
    """
    from shap.explainers._deep.deep_pytorch import op_handler

    rules = {name: rule.__name__ for name, rule in op_handler.items() if name != "Softmax"}
    known = {}
    for name, part in list(net.named_modules()):
        kind = type(part).__name__
        if getattr(part, "inplace", False):
            part.inplace = False  # shap keeps what goes in
        if next(part.children(), None) is not None:
            continue
        if isinstance(part, nn.RNNBase | nn.RNNCellBase):
            known[name] = "recurrent"
        elif kind in rules and type(part) is getattr(nn, kind, None) and not _is_altered(part):
            known[name] = rules[kind]
        else:  # shap looks at modules without children alone, and would complain of this one, which is traced instead
            part.add_module("_unseen", nn.Identity())
    for name, n in _trace(net, x, known).items():
        part, rule = net.get_submodule(name), known[name]
        kind = type(part).__name__
        if n and rule == "recurrent":
            _refuse(net, f"its {kind} {name!r} multiplies gates, for which DeepLIFT has no rule")
        if n and getattr(part, "running_mean", 0) is None:
            _refuse(net, f"its {kind} {name!r} normalises by the mean and spread of the batch at hand")
        if n and rule == "maxpool" and _overlaps(part):
            _refuse(net, f"the stretches of its {kind} {name!r} overlap, which shap's rule cannot carry back")
        if n > 1 and rule in ("nonlinear_1d", "maxpool"):
            _refuse(net, f"its {kind} {name!r} is used {n} times in a pass")


def _is_altered(part: nn.Module) -> bool:
    """Tell whether a module does more than its type says."""
    return bool(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part))


def _overlaps(pool: nn.Module) -> bool:
    size, step, apart = (np.atleast_1d(value) for value in (pool.kernel_size, pool.stride, pool.dilation))
    return bool((step < size).any() or (apart > 1).any())


def _refuse(net: nn.Module, reason: str) -> None:
    raise ValueError(
        f"method='deep' would be silently wrong for {type(net).__name__}: {reason}. Take method='gradient', which "
        "every differentiable network allows"
    )


def _trace(net: nn.Module, x: torch.Tensor, known: dict[str, str]) -> dict[str, int]:
    """Run the network once; return how often each known module is called, and refuse what else is not affine."""
    watch, calls, handles = _Watch(), dict.fromkeys(known, 0), []

    def enter(name: str) -> Callable:
        def count(*_: Any) -> None:
            calls[name] += 1
            watch.inside += 1

        return count

    def leave(part: nn.Module, args: tuple, out: Any) -> None:
        watch.inside -= 1
        if _loses(args, out):  # in a block without gradients
            watch.found.add(f"{type(part).__name__} without a gradient")

    for name in known:
        part = net.get_submodule(name)
        handles += [part.register_forward_pre_hook(enter(name)), part.register_forward_hook(leave)]
    try:
        with watch:
            net(x.detach().requires_grad_(True).clone())
    finally:
        for handle in handles:
            handle.remove()
    if watch.found:
        _refuse(
            net,
            f"it calls {', '.join(sorted(watch.found))} outside of the modules that shap knows (an activation "
            "must be a module of its own, such as torch.nn.ReLU, one for each use, without hooks)",
        )
    return calls


class _Watch(TorchFunctionMode):
    """Notes torch's functions, outside of known modules, that are not affine in what depends on the input.

    So it notes functions whose result autograd cannot follow back to the input: what is then made of it, such as a gate
    of ``h > 0`` or a scale of ``h.detach()``, looks like a constant.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.found = 0, set()

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.inside:
            return out
        name, given = getattr(func, "__name__", repr(func)), (args, list((kwargs or {}).values()))
        if any(_depends(out)) and not _is_affine(func, args, kwargs or {}):
            self.found.add(name)
        elif name.strip("_") not in _MAKERS and (
            _loses(given, out) or (name.strip("_") in _READERS and not _depends(out) and any(_depends(given)))
        ):
            self.found.add(f"{name} without a gradient")
        return out


def _loses(given: Any, out: Any) -> bool:
    """Tell whether tensors come out that do not depend on the input, though what goes in does."""
    return not all(_depends(out)) and any(_depends(given))


def _is_affine(func: Callable, args: tuple, kwargs: dict) -> bool:
    name = getattr(func, "__name__", "").strip("_")
    if name in _AFFINE:
        return True
    inputs = list(_depends((*args, *kwargs.values())))
    if name in _QUOTIENTS:
        return not any(_depends(args[1:])) and not any(_depends(list(kwargs.values())))
    return name in _PRODUCTS and sum(inputs) == 1


def _depends(value: Any) -> list[bool]:
    """Return of each tensor in a value whether it depends on the input: nothing else of a twin wants a gradient."""
    if isinstance(value, torch.Tensor):
        return [value.requires_grad]
    if isinstance(value, list | tuple):
        return [found for item in value for found in _depends(item)]
    return []
