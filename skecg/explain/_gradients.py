"""The gradient of a score by the network's input: alone, times the input, and summed over points on a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..classifiers import ECGClassifier
from ..utils._batching import in_parts
from ..utils._docs import fill_doc
from ..utils._validation import check_option
from ._base import BaseExplainer, TargetScore
from ._fast import speed_up

OUTPUTS = ("logit", "margin", "probability")


def forward(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the logits of windows (n, n_leads, n_timesteps), without a graph."""
    with torch.no_grad():
        # a copy, for networks that write into their input; a lone row would take another path through the kernels
        return net(x.clone() if len(x) > 1 else x.repeat(2, 1, 1))[: len(x)]


def input_gradient(
    net: torch.nn.Module, x: torch.Tensor, given: torch.Tensor, score: TargetScore
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradient of what is explained by the input, and score, logits and positions.

    Parameters
    ----------
    net : torch.nn.Module
        A private twin.
    x : torch.Tensor of shape (n, n_leads, n_timesteps)
        Where the gradient is taken; left as it is.
    given : torch.Tensor of shape (n,)
        Position of each window's target, -1 for the predicted one.
    score : TargetScore
        What is explained.

    Returns
    -------
    gradient : torch.Tensor of shape (n, n_leads, n_timesteps)
        Zero where the score does not depend on the input.
    explained, logits, index : torch.Tensor
        Of shape (n,), (n, n_outputs) and (n,).
    """
    n = len(x)
    if n == 1:  # a lone row would take another path through the kernels
        x, given = x.repeat(2, 1, 1), given.repeat(2)
    leaf = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = net(leaf.clone())  # a network may write into its input
        index = score.choose(logits, given)
        explained = score(logits, index)
        gradient = None
        if explained.requires_grad:
            (gradient,) = torch.autograd.grad(explained.sum(), leaf, allow_unused=True)
    gradient = torch.zeros_like(x) if gradient is None else gradient
    return gradient[:n], explained.detach()[:n], logits.detach()[:n], index[:n]


def path_sum(
    net: torch.nn.Module,
    score: TargetScore,
    x: torch.Tensor,
    index: torch.Tensor,
    start: Callable[[slice], torch.Tensor],
    nodes: np.ndarray,
    weights: np.ndarray,
    batch_size: int,
) -> torch.Tensor:
    """Return ``sum_k w_k (x - x'_k) grad(x'_k + a_k (x - x'_k))``, float64, in passes of ``batch_size`` rows.

    Memory grows with ``batch_size``, not with the number of points: a few windows take several points in a pass.

    Parameters
    ----------
    net, score : torch.nn.Module, TargetScore
        A private twin, and what is explained of it.
    x : torch.Tensor of shape (n, n_leads, n_timesteps)
        Where the paths end.
    index : torch.Tensor of shape (n,)
        Position of each window's target: the same at every point.
    start : callable
        From a slice of points to where their paths begin, (points or 1, n or 1, n_leads, n_timesteps).
    nodes, weights : ndarray of shape (n_points,)
        a and w.
    batch_size : int
        Most rows in a pass, where n is not more; halved when memory does not suffice.

    Returns
    -------
    total : torch.Tensor of shape (n, n_leads, n_timesteps), float64
        Of each window; float32 on MPS, which has no other.
    """
    wide = widest(x)
    total = torch.zeros(x.shape, dtype=wide, device=x.device)
    alpha = torch.from_numpy(nodes).to(x.dtype).to(x.device)[:, None, None, None]
    weight = torch.from_numpy(weights).to(x.dtype).to(x.device)[:, None, None, None]

    def add_up(now: slice) -> torch.Tensor:
        begin = start(now)
        way = x - begin
        rows = torch.addcmul(begin, alpha[now], way).flatten(0, 1)
        gradient = input_gradient(net, rows, index.repeat(now.stop - now.start), score)[0].view(-1, *x.shape)
        if len(begin) == 1:  # one way for all points: it is multiplied with their sum
            return (gradient * weight[now]).sum(0, dtype=wide) * way[0]
        return (gradient * weight[now] * way).sum(0, dtype=wide)

    for _, part in in_parts(len(nodes), batch_size // len(x), add_up):
        total += part
    return total


def widest(x: torch.Tensor) -> torch.dtype:
    """Return the type that sums are kept in."""
    return torch.float32 if x.device.type == "mps" else torch.float64  # MPS has no float64


def medians(x: torch.Tensor) -> torch.Tensor:
    """Return the median of each window and lead; torch's own is the lower of the two values in the middle."""
    ordered, n = x.sort(dim=-1).values, x.shape[-1]
    return (ordered[..., (n - 1) // 2, None] + ordered[..., n // 2, None]) / 2


def without_repeat(*arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return one row of each where a lone window comes twice: with its points it makes a batch by itself."""
    if len(arrays[0]) == 2 and all(torch.equal(array[0], array[1]) for array in arrays):
        return tuple(array[:1] for array in arrays)
    return arrays


def to_numpy(out: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return what an explainer found as arrays."""
    return {key: value.detach().cpu().numpy() for key, value in out.items()}


class _Gradient(BaseExplainer):
    """What the explainers of one backward pass share."""

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_option("output", self.output, OUTPUTS)

    def _context(self, net: torch.nn.Module, classifier: ECGClassifier) -> dict[str, Any]:
        speed_up(net, classifier.device_)
        return {}

    def _explain_batch(
        self, net: torch.nn.Module, x: torch.Tensor, given: torch.Tensor, score: TargetScore, **context: Any
    ) -> dict[str, np.ndarray]:
        gradient, explained, logits, index = input_gradient(net, x, given, score)
        relevance = self._relevance(x, gradient)
        passed = score.passes(logits, index)
        return to_numpy(
            {"relevance": relevance, "score": explained, "logits": logits, "index": index, "passed": passed}
        )


@fill_doc
class Saliency(_Gradient):
    """The gradient of the score by each sample: how much the score reacts to a small change there.

    Relevance is ``|ds/dx(t)|`` [1]_ (``relevance_kind`` "positive"), or with ``absolute=False`` the gradient itself
    ("signed"), in score per unit of the network's input. It tells sensitivity, not how much of the score a sample makes
    up: relevance does not add up to the score.

    Parameters
    ----------
    %(estimator)s
    absolute : bool, default=True
        Whether the sign is dropped, as in the paper.
    %(output)s
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
    InputXGradient : The gradient times the sample.
    IntegratedGradients : Gradients on the way from a baseline, which add up to the score.

    References
    ----------
    .. [1] K. Simonyan, A. Vedaldi and A. Zisserman, "Deep inside convolutional networks: visualising image
       classification models and saliency maps", ICLR workshop 2014, arXiv:1312.6034.

    Examples
    --------
    >>> from skecg import ECGClassifier, Saliency
    >>> from skecg.datasets import make_ecg
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> Saliency(clf).transform(ecg.data[:3]).shape
    (3, 1, 720)
    """

    def __init__(
        self,
        estimator: Any,
        *,
        absolute: bool = True,
        output: str = "logit",
        target: Any = "predicted",
        batch_size: int = 64,
        fs: float | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.absolute = absolute
        self.output = output
        self.target = target
        self.batch_size = batch_size
        self.fs = fs
        self.verbose = verbose

    @property
    def relevance_kind(self) -> str:
        """Return "positive", or "signed" where the sign is kept."""
        return "positive" if self.absolute else "signed"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_option("absolute", self.absolute, (True, False))

    def _relevance(self, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.abs() if self.absolute else gradient


@fill_doc
class InputXGradient(_Gradient):
    """Each sample times the gradient of the score by it.

    Relevance is ``x(t) ds/dx(t)`` [1]_ (``relevance_kind`` "signed"): the part of the score that a sample makes up, as
    far as the score is linear. For a network of ReLUs, max poolings and affine layers whose biases are all zero it adds
    up to the logit, and it equals layer-wise relevance propagation by the rule LRP-0. A sample at 0 gets no relevance,
    so the ECG's offset matters.

    Parameters
    ----------
    %(estimator)s
    %(output)s
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
    Saliency : The gradient alone.
    IntegratedGradients : Gradients on the way from a baseline, which add up to the score of any network.

    References
    ----------
    .. [1] A. Shrikumar, P. Greenside, A. Shcherbina and A. Kundaje, "Not just a black box: learning important features
       through propagating activation differences", arXiv:1605.01713.

    Examples
    --------
    >>> from skecg import ECGClassifier, InputXGradient
    >>> from skecg.datasets import make_ecg
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> InputXGradient(clf).transform(ecg.data[:3]).shape
    (3, 1, 720)
    """

    relevance_kind = "signed"

    def __init__(
        self,
        estimator: Any,
        *,
        output: str = "logit",
        target: Any = "predicted",
        batch_size: int = 64,
        fs: float | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.output = output
        self.target = target
        self.batch_size = batch_size
        self.fs = fs
        self.verbose = verbose

    def _relevance(self, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return x * gradient
