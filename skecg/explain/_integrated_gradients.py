"""Integrated gradients, with the error of their sum, and points added until it is small."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch

from ..classifiers import ECGClassifier
from ..utils._docs import fill_doc
from ..utils._validation import check_number, check_option
from ._base import BaseExplainer, TargetScore
from ._fast import speed_up
from ._gradients import OUTPUTS, forward, medians, path_sum, to_numpy, widest, without_repeat

INNVESTIGATE_IG = {"n_steps": 64, "method": "riemann_left", "baseline": 0.0, "output": "probability"}
"""The probable settings of Bender et al. 2023, not confirmed: the defaults of iNNvestigate, which the authors are
thought to have used, and which explains the last layer of a network with its sigmoid."""

# How many times as many points the next try takes. Left points stay points when their number is doubled, midpoints when
# it is tripled, and so are kept; the nodes of Gauss-Legendre never are.
_GROWTH = {"riemann_middle": 3, "riemann_left": 2, "gausslegendre": 2}


@fill_doc
class IntegratedGradients(BaseExplainer):
    """Integrated gradients: what each sample adds to the score on the way from a baseline to the window.

    Relevance is ``(x - x') * sum_k w_k ds/dx(x' + a_k (x - x'))`` with s the score and x' the baseline [1]_
    (``relevance_kind`` "signed"). Its sum is ``s(x) - s(x')`` up to the error of the points, which is returned. A
    sample that equals its baseline has no relevance, such as zero padding with a baseline of 0.

    Parameters
    ----------
    %(estimator)s
    n_steps : int, default=64
        Points on the way.
    method : {"riemann_middle", "riemann_left", "gausslegendre"}, default="riemann_middle"
        Where they lie: the middles of equal steps; their left ends, the first of which is the baseline itself; or the
        nodes of the Gauss-Legendre rule, which pays for smooth networks alone (not for ReLUs and max poolings).
    baseline : float, "median" or array-like, default=0.0
        What stands for no evidence, in the unit and the space of the network's input (after a Pipeline's steps): a
        number; "median", the median of each window and lead, near the isoelectric line; an array (n_leads,) or
        (n_leads, n_timesteps) for all windows; or (n_samples, n_leads, n_timesteps), for one lead also
        (n_samples, n_timesteps), with a baseline for each window of the X that is explained (not of a record, which
        :func:`~skecg.explain.explain_record` cuts into windows itself).
    %(output)s
    tol : float, default=None
        Take more points in a window until its ``completeness_error`` is at most this share of ``|s(x) - s(x')|``:
        midpoints three times as many, the others twice, as often as ``max_steps`` allows. None takes ``n_steps``.
    max_steps : int, default=2048
        Most points in a window, with ``tol``.
    %(target)s
    batch_size : int, default=64
        Windows in a batch, and points of windows in one pass; halved when memory does not suffice. Memory does not
        grow with the number of points.
    %(explain_fs)s
    %(verbose)s

    Attributes
    ----------
    classes_ : ndarray of shape (n_outputs,)
        Labels of the classifier.
    %(explained)s

    See Also
    --------
    InputXGradient : One gradient, at the window.
    ShapExplainer : Several baselines, drawn from data.

    Notes
    -----
    ``explain`` adds ``score_baseline`` (s(x')), ``completeness_error`` (the sum of the relevance less
    s(x) - s(x')) and ``n_steps`` (points taken), each (n_samples,). With ``tol`` a warning names the windows that did
    not get there; where s(x) and s(x') hardly differ, none may.

    The target of a window is the label that the window itself is predicted as, at every point of its way.

    By completeness the mean relevance of a window is ``(s(x) - s(x')) / (n_leads n_timesteps)``: that it rises with
    the score is arithmetic, not a finding.

    ``IntegratedGradients(clf, **INNVESTIGATE_IG)`` are the probable settings of Bender et al. [2]_, not confirmed.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly and Q. Yan, "Axiomatic attribution for deep networks", ICML 2017, arXiv:1703.01365.
    .. [2] T. Bender et al., "Analysis of a deep learning model for 12-lead ECG classification reveals learned features
       similar to diagnostic criteria", IEEE Journal of Biomedical and Health Informatics 28, 2024, arXiv:2211.01738.

    Examples
    --------
    >>> from skecg import ECGClassifier, IntegratedGradients
    >>> from skecg.datasets import make_ecg
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> IntegratedGradients(clf, n_steps=8, baseline="median").transform(ecg.data[:3]).shape
    (3, 1, 720)
    """

    relevance_kind = "signed"

    def __init__(
        self,
        estimator: Any,
        *,
        n_steps: int = 64,
        method: str = "riemann_middle",
        baseline: Any = 0.0,
        output: str = "logit",
        tol: float | None = None,
        max_steps: int = 2048,
        target: Any = "predicted",
        batch_size: int = 64,
        fs: float | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.n_steps = n_steps
        self.method = method
        self.baseline = baseline
        self.output = output
        self.tol = tol
        self.max_steps = max_steps
        self.target = target
        self.batch_size = batch_size
        self.fs = fs
        self.verbose = verbose

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number("n_steps", self.n_steps, low=1, integer=True)
        check_option("method", self.method, _GROWTH)
        check_option("output", self.output, OUTPUTS)
        check_number("max_steps", self.max_steps, low=1, integer=True)
        if self.tol is not None:
            check_number("tol", self.tol, low=0, strict=True)
            if self.max_steps < self.n_steps:
                raise ValueError(f"max_steps must be at least n_steps ({self.n_steps}); got {self.max_steps}")
        if self.baseline is None or (isinstance(self.baseline, str) and self.baseline != "median"):
            raise ValueError(f"baseline must be a number, 'median' or an array; got {self.baseline!r}")

    def _baseline(self, classifier: ECGClassifier, n: int | None = None) -> np.ndarray | None:
        """Return the baseline (n or 1, n_leads or 1, n_timesteps or 1) of n windows, or of any; None for "median"."""
        if isinstance(self.baseline, str):
            return None
        try:
            given = np.asarray(self.baseline, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"baseline must be a number, 'median' or an array of numbers; got {error}") from error
        if not np.isfinite(given).all():
            raise ValueError("baseline has values that are NaN or infinite: every sample needs one to start from")
        leads, length = classifier.n_leads_, classifier.n_timesteps_
        if given.shape == ():
            return given.reshape(1, 1, 1)
        if given.shape == (leads,):
            return given.reshape(1, leads, 1)
        if given.shape == (leads, length):
            return given[None]
        if leads == 1 and given.ndim == 2:
            given = given[:, None]
        if given.shape[1:] == (leads, length) and (n is None or len(given) in (1, n)):
            return given
        one = f" or {(n, length)}" if leads == 1 else ""
        raise ValueError(
            f"baseline has the shape {np.shape(self.baseline)}; for {n} windows of {leads} leads "
            f"and {length} timesteps it must be a number, {(leads,)} by lead, {(leads, length)} for all windows, or "
            f"{(n, leads, length)}{one} with one for each"
        )

    def _context(self, net: torch.nn.Module, classifier: ECGClassifier) -> dict[str, Any]:
        speed_up(net, classifier.device_)
        baseline = self._baseline(classifier)
        one = baseline is not None and len(baseline) == 1
        return {"of_all": torch.from_numpy(np.array(baseline)).to(classifier.device_) if one else None}

    def _by_window(self, classifier: ECGClassifier, n: int) -> dict[str, np.ndarray]:
        baseline = self._baseline(classifier, n)
        return {} if baseline is None or len(baseline) == 1 else {"of_window": baseline}

    def _explain_batch(
        self,
        net: torch.nn.Module,
        x: torch.Tensor,
        given: torch.Tensor,
        score: TargetScore,
        *,
        of_all: torch.Tensor | None,
        of_window: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        own = () if of_window is None else (torch.from_numpy(of_window).to(x.device),)
        x, given, *own = without_repeat(x, given, *own)
        start = own[0] if own else medians(x) if of_all is None else of_all
        start = start.expand(-1, *x.shape[1:])
        logits = forward(net, x)
        index = score.choose(logits, given)
        explained = score(logits, index)
        at_start = score(forward(net, start).expand(len(x), -1), index)
        rise = explained.to(widest(x)) - at_start.to(widest(x))
        relevance, n_steps = self._integrate(net, x, start, index, score, rise)
        return to_numpy(
            {
                "relevance": relevance.float(),
                "score": explained,
                "logits": logits,
                "index": index,
                "passed": score.passes(logits, index),
                "completeness_error": relevance.sum((1, 2)) - rise,
                "score_baseline": at_start,
                "n_steps": n_steps,
            }
        )

    def _integrate(
        self,
        net: torch.nn.Module,
        x: torch.Tensor,
        start: torch.Tensor,
        index: torch.Tensor,
        score: TargetScore,
        rise: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the relevance, float64, and the points taken for each window."""

        def add(rows: torch.Tensor, nodes: np.ndarray, weights: np.ndarray) -> torch.Tensor:
            begin = start if len(start) == 1 else start[rows]
            return path_sum(
                net, score, x[rows], index[rows], lambda points: begin[None], nodes, weights, self.batch_size
            )

        rows = torch.arange(len(x), device=x.device)
        relevance = add(rows, *_points(self.method, self.n_steps))
        n_steps = torch.full((len(x),), int(self.n_steps), device=x.device)
        steps, growth = int(self.n_steps), _GROWTH[self.method]
        while self.tol is not None and steps * growth <= self.max_steps:
            error = relevance[rows].sum((1, 2)) - rise[rows]
            rows = rows[error.abs() > self.tol * rise[rows].abs()]
            if not len(rows):
                break
            steps *= growth
            nodes, weights, kept = _more_points(self.method, steps)
            relevance[rows] = kept * relevance[rows] + add(rows, nodes, weights)
            n_steps[rows] = steps
        return relevance, n_steps

    def _finish(self, result: Bunch, flat: bool) -> list[tuple[np.ndarray, str]]:
        if self.tol is None:
            return []
        rise = np.abs(result.score.astype(float) - result.score_baseline)
        text = (
            f"the relevance does not add up to the score's rise from the baseline within tol={self.tol:g} of it at "
            f"{result.n_steps.max()} points: raise max_steps or tol"
        )
        return [(np.flatnonzero(np.abs(result.completeness_error) > self.tol * rise), text)]


def _points(method: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes in [0, 1] and weights, float64."""
    if method == "gausslegendre":
        return _gauss_legendre(n)
    first = 0.5 if method == "riemann_middle" else 0.0
    return (np.arange(n) + first) / n, np.full(n, 1 / n)


def _more_points(method: str, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the nodes that n points have beyond those of the try before, their weights, and the old sum's weight."""
    nodes, weights = _points(method, n)
    if method == "gausslegendre":
        return nodes, weights, 0.0
    growth = _GROWTH[method]
    new = np.arange(n) % growth != growth // 2 * (method == "riemann_middle")
    return nodes[new], weights[new], 1 / growth


@lru_cache(maxsize=16)
def _gauss_legendre(n: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return (nodes + 1) / 2, weights / 2
