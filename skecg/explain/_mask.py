"""The learned deletion mask of Vijayarangan et al. 2020, batched over windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from sklearn.utils import Bunch

from ..classifiers import ECGClassifier
from ..utils._docs import fill_doc
from ..utils._validation import check_number, check_option
from ._base import BaseExplainer, TargetScore
from ._fast import speed_up

VIJAYARANGAN_2020 = {"lambda1": 1.0, "lambda2": 0.001, "lr": 0.001, "n_iter": 500, "init": 0.0}
"""What the authors' slides say of the mask."""

VIJAYARANGAN_2020_ASSUMED = {
    "n_knots": None,
    "reduction": "sum",
    "output": "probability",
    "replacement": 0.0,
    "branch": "lstm",
}
"""What the slides do not say, as assumed here: one mask value a sample, sums, probability, 0 mV, the LSTM alone."""

_MEDIAN_WINDOW = 0.4  # s: longer than twice nearly every QRS, so that its median follows the baseline
_BLUR_SD = 0.167  # s
_NAMED = ("median", "running_median", "blur")
_IN_SECONDS = ("running_median", "blur")
_SOFT = 1e-2  # steps of the mask below this count less in the slope of its total variation
_PATIENCE = 20  # iterations over which the objective must go on falling
# Adam's epsilon; its usual 1e-8 would amplify the last bit of a vanishing gradient. With a mean, gradients shrink with
# the number of values learned, and epsilon with them (1e-4 for 48 knots of one lead).
_EPS = {"sum": lambda n_values: 1e-4, "mean": lambda n_values: 5e-3 / n_values}


@fill_doc
class MaskDeletion(BaseExplainer):
    """Learned deletion mask: the least of the ECG whose replacement takes the class away.

    For each window a mask m in [0, 1] (1 keeps, 0 deletes) is learned by Adam [1]_ that minimises

    ``lambda1 |1 - m| + lambda2 sum_t |m(t+1) - m(t)| + s(m x + (1 - m) k)``

    with s the score of the class and k what a deleted sample is replaced by [2]_ [3]_. Relevance is 1 - m
    (``relevance_kind`` is "positive"). Each lead has a mask of its own. Windows are learned side by side and each
    stops on its own.

    Parameters
    ----------
    %(estimator)s
    lambda1 : float, default=5.0
        Cost of deleting.
    lambda2 : float, default=0.05
        Cost of the mask's total variation.
    lr : float, default=0.05
        Adam's step.
    n_iter : int, default=120
        Most iterations.
    init : float, default=0.0
        The mask at the start. From 0 the signal is restored until the class returns; from 1 a saturated probability
        has no gradient, and the mask hardly leaves 1.
    n_knots : int, None or sequence of them, default=(10, 14, 20, 28, None)
        Values of the mask that are learned along the window, interpolated linearly between; None learns every
        sample. With a sequence a mask is learned with each number, and their mean is the mask: coarse ones find the
        wave as a whole, that of every sample its steepest part, and what does not depend on where the knots happen to
        lie stays. It takes as many times as long; 48 alone is a good single number. All are meant for windows of 2 s:
        ask for five times as many in a window of 10 s.
    reduction : {"mean", "sum"}, default="mean"
        Whether the first term is a mean or a sum over samples (and both terms over leads). With a sum and a
        probability, lambda1 = 1 lets no more than one sample be deleted.
    output : {"probability", "logit", "margin"}, default="probability"
        The score s.
    replacement : float, str or list, default="running_median"
        The k of a deleted sample: a number in the unit of the network's input, "median" (of the window and lead),
        "running_median" (of 0.4 s: the baseline without its QRS), "blur" (Gaussian, 0.167 s), or a list of these, of
        which each window takes the one whose fully replaced signal scores least.
    branch : {"all"} or str, default="all"
        The whole network, or one of its ``branches`` alone (ECGNet: "cnn", "lstm").
    other_branch : {"silenced", "intact"}, default="silenced"
        With one branch: whether the others add nothing to the logits, or see the unmasked window.
    schedule : {"constant", "cosine"}, default="constant"
        Adam's step over the iterations; "cosine" lets it fall to 0.
    tol : float, default=1e-3
        A window stops when its objective has changed by less than this share over 20 iterations; 0 never stops.
    %(target)s
    %(explain_batch_size)s
    %(explain_fs)s
        "running_median" and "blur" need it.
    %(verbose)s

    Attributes
    ----------
    classes_ : ndarray of shape (n_outputs,)
        Labels of the classifier.
    %(explained)s

    See Also
    --------
    GradCAM1D : What a convolutional layer answers the class with.

    Notes
    -----
    ``explain`` adds ``mask`` (of the shape of ``data``), ``score_deleted`` (of the fully replaced window),
    ``score_after`` (of the masked window), ``objective`` (of this mask), ``n_iter`` (of all masks learned, for several
    numbers of knots) and ``replacement`` (n_samples each), and
    ``deleted_is_target``: whether the replaced window is itself recognised as the class, in which case deleting
    cannot take the class away and the mask says little; a warning counts them.

    A network of your own can be explained by branch when it has ``branches``, the names of the submodules whose
    features are concatenated before an affine head, and ``branch_weights()``, the head's weights by branch, as
    :class:`~skecg.models.ECGNet` has them.

    ``MaskDeletion(clf, **VIJAYARANGAN_2020, **VIJAYARANGAN_2020_ASSUMED)`` are the authors' settings, as far as they
    are known. They do not converge: at a step of 0.001 no value moves further than about 0.5 in 500 iterations.

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    .. [2] S. Vijayarangan et al., "Interpreting deep neural networks for single-lead ECG arrhythmia classification",
       EMBC 2020, arXiv:2004.05399.
    .. [3] R. Fong and A. Vedaldi, "Interpretable explanations of black boxes by meaningful perturbation", ICCV 2017.

    Examples
    --------
    >>> from skecg import ECGClassifier, MaskDeletion
    >>> from skecg.datasets import make_ecg
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> MaskDeletion(clf, n_iter=5, replacement=[0.0, "running_median"]).transform(ecg.data[:3]).shape
    (3, 1, 720)
    """

    relevance_kind = "positive"

    def __init__(
        self,
        estimator: Any,
        *,
        lambda1: float = 5.0,
        lambda2: float = 0.05,
        lr: float = 0.05,
        n_iter: int = 120,
        init: float = 0.0,
        n_knots: int | Sequence[int | None] | None = (10, 14, 20, 28, None),
        reduction: str = "mean",
        output: str = "probability",
        replacement: Any = "running_median",
        branch: str = "all",
        other_branch: str = "silenced",
        schedule: str = "constant",
        tol: float = 1e-3,
        target: Any = "predicted",
        batch_size: int = 64,
        fs: float | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.lambda1 = lambda1
        self.lambda2 = lambda2
        self.lr = lr
        self.n_iter = n_iter
        self.init = init
        self.n_knots = n_knots
        self.reduction = reduction
        self.output = output
        self.replacement = replacement
        self.branch = branch
        self.other_branch = other_branch
        self.schedule = schedule
        self.tol = tol
        self.target = target
        self.batch_size = batch_size
        self.fs = fs
        self.verbose = verbose

    def _check_parameters(self) -> None:
        super()._check_parameters()
        for name in ("lambda1", "lambda2", "tol"):
            check_number(name, getattr(self, name), low=0)
        check_number("lr", self.lr, low=0, strict=True)
        check_number("n_iter", self.n_iter, low=1, integer=True)
        check_number("init", self.init, low=0, high=1)
        for n_knots in self._grids() or [0]:
            if n_knots is not None:
                check_number("n_knots", n_knots, low=2, integer=True)
        check_option("reduction", self.reduction, ("mean", "sum"))
        check_option("output", self.output, ("probability", "logit", "margin"))
        check_option("other_branch", self.other_branch, ("silenced", "intact"))
        check_option("schedule", self.schedule, ("constant", "cosine"))
        if not self._replacements():
            raise ValueError("replacement must be a number, a name or a list of them; got an empty list")
        for item in self._replacements():
            if isinstance(item, str):
                check_option("replacement", item, _NAMED)
            else:
                check_number("replacement", item)

    def _grids(self) -> list:
        return list(self.n_knots) if isinstance(self.n_knots, list | tuple) else [self.n_knots]

    def _replacements(self) -> list:
        return list(self.replacement) if isinstance(self.replacement, list | tuple) else [self.replacement]

    def _finish(self, result: Bunch, flat: bool) -> list[tuple[np.ndarray, str]]:
        items = self._replacements()
        result.replacement = np.array([items[i] for i in result.replacement], dtype=object)
        if flat:
            result.mask = result.mask[:, 0]
        text = (
            "the fully replaced signal is itself recognised as the class, so deleting cannot take the class away: "
            "pass a list of replacements, or explain another target"
        )
        return [(np.flatnonzero(result.deleted_is_target), text)]

    def _context(self, net: torch.nn.Module, classifier: ECGClassifier) -> dict[str, Any]:
        branches = getattr(net, "branches", ())
        if self.branch != "all" and self.branch not in branches:
            raise ValueError(
                f"branch must be 'all' or a branch of the network, and {type(net).__name__} has {list(branches)}; got "
                f"{self.branch!r}"
            )
        if self.branch != "all" and not hasattr(net, "branch_weights"):
            raise ValueError(
                f"branch={self.branch!r} needs a network with additive branches, whose branch_weights() says how each "
                f"adds to the logits, as ECGNet's does; {type(net).__name__} has none"
            )
        fs = None
        for item in self._replacements():
            if item in _IN_SECONDS:
                fs = self._sampling_rate(classifier, f"replacement={item!r}")
        speed_up(net, classifier.device_)
        return {"fs": fs}

    def _explain_batch(
        self, net: torch.nn.Module, x: torch.Tensor, given: torch.Tensor, score: TargetScore, **context: Any
    ) -> dict[str, np.ndarray]:
        with torch.no_grad():
            whole = net(x)
            index = score.choose(whole, given)
            logits, constant = self._logits_of(net, x)
            filled, chosen, deleted = self._fill(x, context["fs"], lambda z: score(logits(z) + constant, index))
            passed = score.passes(whole, index)
            again = score.passes(logits(filled) + constant, index)
        score_of = partial(_score_of, score, logits)
        learned = [self._learn(x, filled, constant, index, score_of, n_knots) for n_knots in self._grids()]
        mask = sum(one for one, _ in learned) / len(learned)
        n_iter = sum(steps for _, steps in learned)
        with torch.no_grad():
            objective = self._objective(mask, x, filled, constant, index, score_of)
            after = score(logits(mask * x + (1 - mask) * filled) + constant, index)
            explained = score(logits(x) + constant, index)
        out = {
            "relevance": 1 - mask,
            "score": explained,
            "logits": whole,
            "index": index,
            "passed": passed,
            "mask": mask,
            "score_deleted": deleted,
            "score_after": after,
            "objective": objective,
            "n_iter": n_iter,
            "replacement": chosen,
            "deleted_is_target": again,
        }
        return {key: value.cpu().numpy() for key, value in out.items()}

    def _logits_of(self, net: torch.nn.Module, x: torch.Tensor) -> tuple[Callable, torch.Tensor]:
        """Return the function from a signal to the logits that depend on it, and those that do not, (n, n_outputs)."""
        if self.branch == "all":
            return net, x.new_zeros(len(x), 1)
        weights = net.branch_weights()
        constant = weights["bias"].expand(len(x), -1)
        if self.other_branch == "intact":
            for other in net.branches:
                if other != self.branch:
                    constant = constant + getattr(net, other)(x) @ weights[other].T
        part, weight = getattr(net, self.branch), weights[self.branch]
        return lambda z: part(z) @ weight.T, constant

    def _fill(
        self, x: torch.Tensor, fs: float | None, score_of: Callable
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what deleted samples become, which replacement that is, and the score of nothing but it."""
        best = chosen = least = None
        for i, item in enumerate(self._replacements()):
            filled = _replacement(x, item, fs)
            value = score_of(filled)
            if best is None:
                best, least, chosen = filled, value, torch.zeros(len(x), dtype=torch.long, device=x.device)
                continue
            better = value < least
            best = torch.where(better[:, None, None], filled, best)
            least, chosen = torch.where(better, value, least), torch.where(better, i, chosen)
        return best, chosen, least

    def _learn(
        self,
        x: torch.Tensor,
        filled: torch.Tensor,
        constant: torch.Tensor,
        index: torch.Tensor,
        score_of: Callable,
        n_knots: int | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Minimise every window's objective; return masks and iterations.

        Adam is written element by element, so that a window's mask does not depend on its companions. A window that
        has come to rest leaves the batch.
        """
        n, leads, length = x.shape
        knots = length if n_knots is None else min(n_knots, length)
        eps = _EPS[self.reduction](leads * knots)
        result = torch.empty_like(x)
        n_iter = torch.full((n,), self.n_iter, device=x.device)
        active = torch.arange(n, device=x.device)
        values = torch.full((n, leads, knots), float(self.init), dtype=x.dtype, device=x.device)
        first, second = torch.zeros_like(values), torch.zeros_like(values)
        seen: list[torch.Tensor] = []  # objectives of the active windows, one an iteration
        now = (x, filled, constant, index)
        for step in range(1, self.n_iter + 1):
            values.requires_grad_(True)
            with torch.enable_grad():
                cost = self._objective(self._expand(values, length), *now, score_of)
                (gradient,) = torch.autograd.grad(cost.sum(), values)
            seen.append(cost.detach())
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            update = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + eps)
            values = (values.detach() - self._rate(step) * update).clamp(0, 1)
            if self.tol > 0 and step > _PATIENCE and step % 10 == 0 and step < self.n_iter:
                rest = (seen[-1 - _PATIENCE] - seen[-1]).abs() <= self.tol * seen[-1 - _PATIENCE].abs()
                if not rest.any():
                    continue
                result[active[rest]] = self._expand(values[rest], length)
                n_iter[active[rest]] = step
                keep = ~rest
                if not keep.any():
                    active = active[keep]
                    break
                rows = torch.nonzero(keep)[:, 0]
                run = rows if len(rows) > 1 else rows.repeat(2)  # a lone row takes another path through the kernels
                active, values, first, second = active[run], values[run], first[run], second[run]
                seen = [c[run] for c in seen[-_PATIENCE:]]
                now = tuple(part[run] for part in now)
        if len(active):
            result[active] = self._expand(values, length)
        return result, n_iter

    def _rate(self, step: int) -> float:
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + float(np.cos(np.pi * (step - 1) / self.n_iter)))

    @staticmethod
    def _expand(values: torch.Tensor, length: int) -> torch.Tensor:
        """Return the mask (n, n_leads, length) from its knots, the first and last of which are the window's ends."""
        if values.shape[-1] == length:
            return values
        return F.interpolate(values, size=length, mode="linear", align_corners=True)

    def _objective(
        self,
        mask: torch.Tensor,
        x: torch.Tensor,
        filled: torch.Tensor,
        constant: torch.Tensor,
        index: torch.Tensor,
        score_of: Callable,
    ) -> torch.Tensor:
        """Return J of each window."""
        reduce = torch.mean if self.reduction == "mean" else torch.sum
        cost = self.lambda1 * reduce((1 - mask).abs(), dim=(1, 2))
        if self.lambda2:
            cost = cost + self.lambda2 * reduce(_variation(mask.diff(dim=-1)).sum(-1), dim=1)
        return cost + score_of(mask * x + (1 - mask) * filled, constant, index)


def _variation(step: torch.Tensor) -> torch.Tensor:
    """Return ``|step|``, with a slope that is not all or nothing about zero.

    There the sign is a matter of the last bit, and Adam makes a full step of it.
    """
    soft = (step**2 + _SOFT**2).sqrt()
    return soft + (step.abs() - soft).detach()


def _score_of(
    score: TargetScore, logits: Callable, signal: torch.Tensor, constant: torch.Tensor, index: torch.Tensor
) -> torch.Tensor:
    return score(logits(signal) + constant, index)


def _replacement(x: torch.Tensor, item: Any, fs: float | None) -> torch.Tensor:
    """Return the signal (n, n_leads, n_timesteps) that stands for nothing."""
    if not isinstance(item, str):
        return torch.full_like(x, float(item))
    if item == "median":
        return x.median(-1, keepdim=True).values.expand_as(x)
    signal = x.cpu().numpy()
    if item == "running_median":
        size = max(1, 2 * round(_MEDIAN_WINDOW * fs / 2) + 1)
        filled = ndimage.median_filter(signal, size=(1, 1, size), mode="nearest")
    else:
        filled = ndimage.gaussian_filter1d(signal, _BLUR_SD * fs, axis=-1, mode="nearest")
    return torch.from_numpy(np.ascontiguousarray(filled, dtype=np.float32)).to(x.device)
