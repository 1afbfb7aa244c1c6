"""LRP: layer-wise relevance propagation of a logit, with what each layer keeps returned."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch

from ..classifiers import ECGClassifier
from ..utils._docs import fill_doc
from ..utils._validation import check_number, check_option
from ._base import BaseExplainer, TargetScore
from ._gradients import to_numpy
from ._lrp_rules import LINEAR_RULES, NORM_RULES, SUM_RULES, WEIGHT_RULES, Settings
from ._lrp_trace import Propagation

# convolutions, dense layers, the layers that see the input (None: as the others)
_PRESETS = {"preset_a": ("alpha1beta0", "epsilon", None), "preset_a_flat": ("alpha1beta0", "epsilon", "flat")}
RULES = (*WEIGHT_RULES, *_PRESETS)

INNVESTIGATE_PRESET_A: dict[str, Any] = {
    "rule": "preset_a",
    "epsilon": 0.1,
    "epsilon_relative": False,
    "bias": True,
    "sum_rule": "z",
    "norm_rule": "affine",
}
"""The probable settings of Bender et al. 2023, were its LRP the preset A of iNNvestigate; not confirmed. Two things of
that program are left out: a rule of its own for batch norms, and negative biases in denominators of convolutions."""

INNVESTIGATE_PRESET_A_FLAT: dict[str, Any] = {**INNVESTIGATE_PRESET_A, "rule": "preset_a_flat"}
"""The same with "flat" where the input goes in, which gives every lead the same relevance."""


@fill_doc
class LRP(BaseExplainer):
    """Layer-wise relevance propagation (LRP) for convolutional networks: a logit, shared out from layer to layer.

    The logit y of the class is the relevance of the network's output. Each layer hands the relevance R_j of its
    outputs to its inputs [1]_ [2]_; with ``z_j = sum_i x_i w_ij + b_j``:

    - "lrp0": ``R_i = sum_j x_i w_ij / z_j R_j``,
    - "epsilon": ``R_i = sum_j x_i w_ij / (z_j + epsilon sign(z_j)) R_j``, with sign(0) = 1,
    - "alpha1beta0": ``R_i = sum_j (x_i w_ij)+ / (sum_i (x_i w_ij)+ + b_j+) R_j``, where (x w)+ of signed input is
      x+ w+ + x- w-,
    - "wsquare": ``R_i = sum_j w_ij^2 / sum_i w_ij^2 R_j``,
    - "flat": the same with every weight 1. As rule of the input it gives all leads the same relevance, those of weight
      zero too.

    ReLU and other activations that are zero at zero, dropout, and whatever only moves values pass relevance on;
    max-pooling gives it to the winner. What a bias, epsilon, a constant, or an output without any contribution keeps
    is returned, so that relevance plus what was absorbed is the logit.

    The network's own forward method is run and every operation is seen, in modules as in functions. One without a
    rule is refused by name: recurrent layers, gates, attention, normalisation by the window's own statistics.
    Values behind ``detach()``, ``.data`` or ``no_grad`` count as constants, as for ``InputXGradient``: what they
    take is absorbed. In-place operations are followed, but refused where their target is read by another view.

    Parameters
    ----------
    %(estimator)s
    rule : {"epsilon", "lrp0", "alpha1beta0", "wsquare", "flat", "preset_a", "preset_a_flat"}, default="epsilon"
        Rule of the layers with weights. "preset_a": "alpha1beta0" for convolutions and "epsilon" for dense layers;
        "preset_a_flat": the same with "flat" where the network's input goes in.
    epsilon : float, default=1e-6
        Stabiliser of the epsilon rule, in units of a layer's outputs; at least 0. The larger, the less relevance
        arrives.
    epsilon_relative : bool, default=False
        Whether ``epsilon`` counts in root mean squares of the layer's outputs in the window.
    bias : bool, default=None
        Whether biases take relevance; "wsquare" and "flat" have none. None: where the rule of the layer is "epsilon"
        or "lrp0".
    input_rule : str, default=None
        Another of the first five rules for the layers that see the network's input; None: as ``rule`` says.
    dense_rule : str, default=None
        Another of the first five rules for dense layers; None: as ``rule`` says.
    sum_rule : {"z", "abs", "plus"}, default=None
        How ``a + b`` and averages share: in proportion to the summands, to their absolute values, or to their
        positive parts; where all are zero in equal parts. None: "z" for "epsilon" and "lrp0", else "abs", for shares
        of summands that cancel have no bound. A constant summand counts as a bias: it takes its part under "z" alone.
    norm_rule : {"affine", "pass", "merge"}, default=None
        Batch norms: their affine map by "lrp0", its shift as a bias; passed as they are; or merged into the
        convolution or dense layer before them in the order of execution, where its output goes nowhere else, and
        passed elsewhere. None: "affine" for "epsilon" and "lrp0", else "merge".
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
    GradCAM1D : Takes networks with recurrent layers, and has no leads.
    INNVESTIGATE_PRESET_A : Probable settings of the second paper, were it by preset A.

    Notes
    -----
    ``explain`` adds ``absorbed`` (n_samples, float64), ``absorbed_by_layer`` (n_samples, n_layers, float64) with
    ``layer_names`` (the modules in which something can be absorbed, in the order of execution), and
    ``completeness_error`` (n_samples): relevance plus absorbed less the score, which is rounding. ``score`` is the
    logit: a probability is saturated, and a sigmoid or softmax inside the network is refused.

    On networks of ReLU, "lrp0" is the input times its gradient, exactly. Biases may take any part of the logit there,
    more than all of it or less than nothing; the other rules leave them out for that reason. "alpha1beta0" absorbs
    what arrives at outputs whose contributions are all negative.

    Known faults of other programs are not taken over: a negative bias in the denominator of "alpha1beta0", positive
    weights alone at signed input, biases in the denominator of "wsquare", padding that counts as input.

    References
    ----------
    .. [1] S. Bach et al., "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
       propagation", PLoS ONE 10(7), 2015.
    .. [2] G. Montavon et al., "Layer-wise relevance propagation: an overview", in Explainable AI, Springer, 2019.

    Examples
    --------
    >>> from skecg import ECGClassifier, LRP
    >>> from skecg.datasets import make_ecg
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier("HannunNet", module__width=2, fs=ecg.fs, max_epochs=1, random_state=0)
    >>> out = LRP(clf.fit(ecg.data, ecg.target), rule="alpha1beta0").explain(ecg.data[:3])
    >>> out.relevance.shape
    (3, 1, 720)
    >>> bool(abs(out.relevance.sum((1, 2)) + out.absorbed - out.score).max() < 1e-3)
    True
    """

    relevance_kind = "signed"

    def __init__(
        self,
        estimator: Any,
        *,
        rule: str = "epsilon",
        epsilon: float = 1e-6,
        epsilon_relative: bool = False,
        bias: bool | None = None,
        input_rule: str | None = None,
        dense_rule: str | None = None,
        sum_rule: str | None = None,
        norm_rule: str | None = None,
        target: Any = "predicted",
        batch_size: int = 64,
        fs: float | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.rule = rule
        self.epsilon = epsilon
        self.epsilon_relative = epsilon_relative
        self.bias = bias
        self.input_rule = input_rule
        self.dense_rule = dense_rule
        self.sum_rule = sum_rule
        self.norm_rule = norm_rule
        self.target = target
        self.batch_size = batch_size
        self.fs = fs
        self.verbose = verbose

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_option("rule", self.rule, RULES)
        check_number("epsilon", self.epsilon, low=0)
        check_option("epsilon_relative", self.epsilon_relative, (True, False))
        check_option("bias", self.bias, (None, True, False))
        check_option("input_rule", self.input_rule, (None, *WEIGHT_RULES))
        check_option("dense_rule", self.dense_rule, (None, *WEIGHT_RULES))
        check_option("sum_rule", self.sum_rule, (None, *SUM_RULES))
        check_option("norm_rule", self.norm_rule, (None, *NORM_RULES))

    def _settings(self) -> Settings:
        conv, dense, first = _PRESETS.get(self.rule, (self.rule, self.rule, None))
        linear = conv in LINEAR_RULES
        return Settings(
            conv=conv,
            dense=self.dense_rule or dense,
            first=self.input_rule or first,
            epsilon=float(self.epsilon),
            relative=bool(self.epsilon_relative),
            bias=self.bias,
            sums=self.sum_rule or ("z" if linear else "abs"),
            norms=self.norm_rule or ("affine" if linear else "merge"),
        )

    def _context(self, net: torch.nn.Module, classifier: ECGClassifier) -> dict[str, Any]:
        return {"run": Propagation(net, self._settings())}

    def _explain_batch(
        self, net: torch.nn.Module, x: torch.Tensor, given: torch.Tensor, score: TargetScore, **context: Any
    ) -> dict[str, np.ndarray]:
        run: Propagation = context["run"]
        x, logits = run.logits(x)
        index = score.choose(logits, given)
        relevance, absorbed = run.relevance(x, logits, index)
        n, by_layer = len(x), torch.zeros(len(x), 0, dtype=torch.float64)
        if absorbed:
            by_layer = torch.stack(list(absorbed.values()), 1)
        out = {
            "relevance": relevance,
            "score": score(logits, index),
            "logits": logits,
            "index": index,
            "passed": score.passes(logits, index),
            "absorbed": by_layer.sum(1),
            "absorbed_by_layer": by_layer,
        }
        result = to_numpy(out)
        total = result["relevance"].sum((1, 2), dtype=np.float64) + result["absorbed"]
        names = np.empty(n, dtype=object)
        names[:] = [tuple(absorbed)] * n  # the same in every row, for batches are put together by rows
        return {**result, "completeness_error": total - result["score"], "layer_names": names}

    def _finish(self, result: Bunch, flat: bool) -> list[tuple[np.ndarray, str]]:
        result.layer_names = np.array(result.layer_names[0], dtype=object)
        return super()._finish(result, flat)
