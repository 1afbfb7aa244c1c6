"""Row S3: layer-wise relevance propagation beside what it cannot do without, a forward pass and an input gradient."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from skecg import LRP
from skecg.datasets import make_ecg
from skecg.models import RIBEIRO_LABELS, RibeiroNet

from . import material
from .harness import Line, Ratio, paired, row, same, shortfall

GOALS = {"epsilon": 1.1, "alpha1beta0": None}
_ANCHOR = (
    "no zennit: its licence (LGPL/GPL) forbids it as a dependency, and it does not import beside a CPU build of torch; "
    "captum refuses the network (Conv1d has no rule)"
)


@row("S3", "Speed", "LRP of RibeiroNet")
def relevance_propagation(quick: bool) -> Iterator[Line]:
    width, n = (32, 4) if quick else (64, 16)
    net = material.ribeiro(width)
    X = make_ecg(n, classes=("N", "LBBB"), n_leads=12, fs=400.0, window=10.24, random_state=0).data
    clf = material.ribeiro_classifier(net)
    x = torch.from_numpy(X)

    def gradient(net: RibeiroNet = net) -> np.ndarray:
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(net(leaf)[:, 4].sum(), leaf)
        return (slope * x).numpy()

    net.requires_grad_(False)  # as explainers have it: no gradients of weights
    sides = [partial(LRP(clf, rule=rule, batch_size=n).explain, X, target=RIBEIRO_LABELS[4]) for rule in GOALS]
    plain = LRP(clf, rule="lrp0", batch_size=n).explain(X, target=RIBEIRO_LABELS[4])
    want = gradient()
    equal = same("S3", plain.relevance, want, 3e-5, np.abs(want).max((1, 2), keepdims=True))
    *ours, limit = paired(*sides, gradient, rounds=3 if quick else 5).T
    for (rule, goal), side, times in zip(GOALS.items(), sides, ours, strict=True):
        ratio, out = Ratio.of(times, limit), side()
        lost = np.abs(out.completeness_error / np.abs(out.relevance).sum((1, 2))).max()
        share = np.median(out.relevance.sum((1, 2)) / out.score)
        yield Line(
            work=f"{rule}, width {width}, {n} records of 12 x 4,096; lrp0 is input times gradient to {equal:.0e}, "
            f"relevance plus absorbed the logit to {lost:.0e} of the relevance; median relevance / logit {share:.3f}",
            anchor=_ANCHOR,
            measured=f"ours / forward + input gradient {ratio}",
            limit="forward + input gradient",
            goal="" if goal is None else f"<= {goal:g}",
            met=None if goal is None else ratio.median <= goal,
            notes=() if goal is None else shortfall(f"S3, {rule}", Ratio.of(limit, times), 1 / goal, side, quick),
        )
