"""SmoothGrad: gradients averaged over noisy copies of a window."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..classifiers import ECGClassifier
from ..utils._batching import in_parts
from ..utils._docs import fill_doc
from ..utils._validation import check_number, check_option, draw_seed
from ._base import BaseExplainer, TargetScore
from ._fast import speed_up
from ._gradients import OUTPUTS, forward, input_gradient, to_numpy, widest, without_repeat

METHODS = ("saliency", "input_x_gradient")
STATISTICS = ("absolute", "mean", "squared", "variance")


@fill_doc
class SmoothGrad(BaseExplainer):
    """SmoothGrad: the gradient of the score, averaged over copies of the window with noise added.

    With e_k drawn from the normal distribution of mean 0 and standard deviation ``noise * (max - min)`` of the lead in
    the window, and m the map of one backward pass, ``ds/dx`` or ``x ds/dx``, relevance is made of ``m(x + e_k)``, k = 1
    to ``n_samples`` [1]_: the absolute value of its mean ("absolute"), the mean itself ("mean"), the mean of its
    squares ("squared", SmoothGrad-Squared [2]_), or its variance ("variance", VarGrad [3]_). ``relevance_kind`` is
    "signed" for "mean" and "positive" for the others.

    Parameters
    ----------
    %(estimator)s
    n_samples : int, default=25
        Noisy copies of each window; at least 2 for "variance".
    noise : float, default=0.1
        Standard deviation of the noise, as a share of the range (max - min) of each lead in each window; at least 0.
        The paper calls 0.1 to 0.2 good, for images, whose range it takes over the whole image. A lead that is constant
        gets no noise; 0 is one gradient without noise.
    method : {"saliency", "input_x_gradient"}, default="saliency"
        The map that is averaged: the gradient, or the noisy copy times the gradient there.
    statistic : {"absolute", "mean", "squared", "variance"}, default="absolute"
        What is made of the maps of the copies, see above; each in float64.
    %(output)s
    %(target)s
    %(random_state)s
    batch_size : int, default=64
        Windows in a batch, and copies of windows in one pass; halved when memory does not suffice. Memory does not grow
        with ``n_samples``.
    %(explain_fs)s
    %(verbose)s

    Attributes
    ----------
    classes_ : ndarray of shape (n_outputs,)
        Labels of the classifier.
    %(explained)s

    See Also
    --------
    Saliency : One gradient, at the window itself.
    InputXGradient : One gradient, times the window.
    IntegratedGradients : Gradients on the way from a baseline, which add up to the score.

    Notes
    -----
    ``explain`` adds ``score_noisy`` (n_samples, the mean score of the noisy copies: far from ``score``, the noise takes
    the window out of its class) and ``noise_std`` (n_samples, n_leads; in the unit of the network's input). ``score``
    is that of the window itself, and the target of all copies is the label that the window itself is predicted as.

    The draws, in units of the noise's standard deviation, are the same for every window, so that relevance does not
    depend on a window's companions, nor on ``batch_size``; they differ from copy to copy, lead to lead and sample to
    sample. What chance leaves in the relevance is therefore not independent between windows: raise ``n_samples`` where
    many are averaged.

    Relevance does not add up to the score.

    References
    ----------
    .. [1] D. Smilkov, N. Thorat, B. Kim, F. Viegas and M. Wattenberg, "SmoothGrad: removing noise by adding noise",
       arXiv:1706.03825.
    .. [2] S. Hooker, D. Erhan, P.-J. Kindermans and B. Kim, "A benchmark for interpretability methods in deep neural
       networks", NeurIPS 2019, arXiv:1806.10758.
    .. [3] J. Adebayo, J. Gilmer, I. Goodfellow and B. Kim, "Local explanation methods for deep neural networks lack
       sensitivity to parameter values", ICLR workshop 2018, arXiv:1810.03307.

    Examples
    --------
    >>> from skecg import ECGClassifier, SmoothGrad
    >>> from skecg.datasets import make_ecg
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> SmoothGrad(clf, n_samples=4, random_state=0).transform(ecg.data[:3]).shape
    (3, 1, 720)
    """

    def __init__(
        self,
        estimator: Any,
        *,
        n_samples: int = 25,
        noise: float = 0.1,
        method: str = "saliency",
        statistic: str = "absolute",
        output: str = "logit",
        target: Any = "predicted",
        random_state: Any = None,
        batch_size: int = 64,
        fs: float | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.n_samples = n_samples
        self.noise = noise
        self.method = method
        self.statistic = statistic
        self.output = output
        self.target = target
        self.random_state = random_state
        self.batch_size = batch_size
        self.fs = fs
        self.verbose = verbose

    @property
    def relevance_kind(self) -> str:
        """Return "signed" for the mean, else "positive"."""
        return "signed" if self.statistic == "mean" else "positive"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_option("method", self.method, METHODS)
        check_option("statistic", self.statistic, STATISTICS)
        check_option("output", self.output, OUTPUTS)
        check_number("n_samples", self.n_samples, low=2 if self.statistic == "variance" else 1, integer=True)
        check_number("noise", self.noise, low=0)

    def _context(self, net: torch.nn.Module, classifier: ECGClassifier) -> dict[str, Any]:
        speed_up(net, classifier.device_)
        return {"seed": draw_seed(self.random_state)}

    def _explain_batch(
        self, net: torch.nn.Module, x: torch.Tensor, given: torch.Tensor, score: TargetScore, *, seed: int
    ) -> dict[str, np.ndarray]:
        x, given = without_repeat(x, given)
        logits = forward(net, x)
        index = score.choose(logits, given)
        std = float(self.noise) * (x.amax(-1) - x.amin(-1))
        wide, n = widest(x), int(self.n_samples) if self.noise else 1
        total = squares = torch.zeros(x.shape, dtype=wide, device=x.device)
        heard = torch.zeros(len(x), dtype=wide, device=x.device)
        squared = self.statistic in ("squared", "variance")

        def copies(now: slice) -> tuple[torch.Tensor, ...]:
            drawn = torch.stack([_draw(seed, k, x) for k in range(now.start, now.stop)])
            rows = torch.addcmul(x, std[..., None], drawn[:, None]).flatten(0, 1)
            gradient, explained, *_ = input_gradient(net, rows, index.repeat(len(drawn)), score)
            maps = (gradient if self.method == "saliency" else rows * gradient).view(-1, *x.shape)
            power = maps.to(wide).square().sum(0) if squared else squares
            return maps.sum(0, dtype=wide), power, explained.view(-1, len(x)).sum(0, dtype=wide)

        for _, (one, two, three) in in_parts(n, self.batch_size // len(x), copies):
            total, squares, heard = total + one, squares + two, heard + three
        mean = total / n
        relevance = {
            "absolute": mean.abs(),
            "mean": mean,
            "squared": squares / n,
            "variance": (squares / n - mean.square()).clamp(min=0),  # rounding alone could make it negative
        }[self.statistic]
        return to_numpy(
            {
                "relevance": relevance.float(),
                "score": score(logits, index),
                "logits": logits,
                "index": index,
                "passed": score.passes(logits, index),
                "score_noisy": (heard / n).float(),
                "noise_std": std,
            }
        )


def _draw(seed: int, k: int, x: torch.Tensor) -> torch.Tensor:
    """Return the draws (n_leads, n_timesteps) of copy k, which depend neither on the windows nor on n_samples."""
    drawn = np.random.default_rng([seed, k]).standard_normal(x.shape[1:], dtype=np.float32)
    return torch.from_numpy(drawn).to(x.device)
