"""What is promised of LRP (rules by hand, conservation, oracles) and of the frame that all attributions share."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.datasets import make_ecg
from skecg.explain import (
    LRP,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    ShapExplainer,
    explain_record,
    relevance_over_epochs,
)
from skecg.models import RibeiroNet
from skecg.models._layers import Add
from skecg.preprocessing import BandpassFilter
from tests.explaining import around, close
from tests.networks import settled
from tests.tiny import TinyNet, same_snapshot, snapshot

NAMES = ("N", "AF", "LBBB")
X = make_ecg(6, classes=NAMES, n_leads=12, fs=128.0, window=2.0, random_state=0).data
RULES = ("lrp0", "epsilon", "alpha1beta0", "wsquare", "flat", "preset_a", "preset_a_flat")


def seeded_net(build):
    """Build a network from seed 0, without touching torch's generator."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return build()


def ribeiro(n_timesteps=256, n_outputs=3, **settings):
    def build():
        net = RibeiroNet(12, n_timesteps, n_outputs, width=2, **settings)
        return settled(net, torch.randn(8, 12, n_timesteps))

    return seeded_net(build)


NET = ribeiro()
CLF = around(NET, 256, NAMES, 12)


def codes(labels):
    return [NAMES.index(label) for label in labels]


@pytest.mark.parametrize("variant", ["keras", "pytorch"])
def test_lrp0_is_input_times_gradient(variant):
    clf = around(ribeiro(512, variant=variant), 512, NAMES, 12)
    wide = np.concatenate([X, X[..., ::-1]], axis=-1)
    assert close(LRP(clf, rule="lrp0").transform(wide), InputXGradient(clf).transform(wide), 1e-4)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bias", [None, True, False])
def test_relevance_plus_what_is_absorbed_is_the_logit(rule, bias):
    out = LRP(CLF, rule=rule, bias=None if rule in ("wsquare", "flat") else bias, epsilon=0.1).explain(X)
    logit = CLF.decision_function(X)[range(6), codes(out.target)]
    scale = np.abs(out.relevance).sum((1, 2)) + np.abs(logit) + np.abs(out.absorbed_by_layer).sum(1)
    assert np.allclose(out.score, logit, atol=1e-5) and out.absorbed_by_layer.shape == (6, len(out.layer_names))
    assert (np.abs(out.relevance.sum((1, 2), dtype=float) + out.absorbed - logit) < 1e-5 * scale).all()
    assert np.allclose(out.absorbed_by_layer.sum(1), out.absorbed, rtol=1e-9, atol=1e-6 * scale.max())
    if rule in ("wsquare", "flat"):
        assert (np.abs(out.absorbed) < 1e-5 * scale).all()
    zero = LRP(CLF, rule=rule).explain(np.zeros_like(X[:1]))
    assert np.isfinite(zero.relevance).all() and np.isfinite(zero.absorbed).all()


W1, B1 = np.array([[1.0, -2.0], [-1.0, 1.0], [0.5, 0.25]]), np.array([-0.5, 0.25, 1.0])
W2, B2, GIVEN = np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 1.0]]), np.array([-0.25, 0.5]), np.array([1.0, -2.0])


def shared(rule, a, w, b, R, eps):
    """Share R (outputs) out over the inputs a by the rules' formulas: z_ij = a_i w_ji."""
    z = a * w
    if rule == "alpha1beta0":
        z = np.maximum(z, 0)
        total = z.sum(1) + np.maximum(b, 0)
    elif rule in ("wsquare", "flat"):
        z = w**2 if rule == "wsquare" else np.ones_like(w)
        total = z.sum(1)
    else:
        total = z.sum(1) + b
        total = total + eps * np.where(total < 0, -1, 1)
    return (np.divide(R, total, out=np.zeros_like(R), where=total != 0)[:, None] * z).sum(0)


BY_HAND = [*itertools.product(RULES[:3], (True, False)), ("wsquare", None), ("flat", None)]


@pytest.mark.parametrize(("rule", "bias"), BY_HAND)
def test_lrp_of_a_net_worked_out_by_hand(rule, bias):
    net = seeded_net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)))
    for layer, w, b in ((net[1], W1, B1), (net[3], W2, B2)):
        layer.weight.data, layer.bias.data = torch.tensor(w).float(), torch.tensor(b).float()
    hidden = np.maximum(W1 @ GIVEN + B1, 0)
    assert hidden.tolist() == [4.5, 0.0, 1.0]  # a negative input, a dead unit, a negative bias in the first
    logit = (W2 @ hidden + B2)[0]
    eps = 0.3 if rule == "epsilon" else 0.0
    R2 = shared(rule, hidden, W2, bool(bias) * B2, np.array([logit, 0.0]), eps)
    R1 = shared(rule, GIVEN, W1, bool(bias) * B1, R2, eps)
    out = LRP(around(net, 2), rule=rule, bias=bias, epsilon=eps).explain(GIVEN[None, None], target="A")
    assert np.allclose(out.relevance[0, 0], R1, rtol=1e-5, atol=1e-6)
    absorbed = dict(zip(out.layer_names, out.absorbed_by_layer[0], strict=True))
    assert np.isclose(absorbed["3"], logit - R2.sum(), atol=1e-6)
    assert np.isclose(absorbed["1"], R2.sum() - R1.sum(), atol=1e-6)


def single(weight, bias):
    net = seeded_net(lambda: nn.Sequential(nn.Conv1d(1, 2, 1), nn.Flatten()))
    net[0].weight.data[:], net[0].bias.data[:] = torch.tensor(weight)[:, None, None], torch.tensor(bias)
    return around(net, 1)


def test_a_negative_bias_does_not_multiply_relevance():
    for x in (1.0, 0.95, 0.905, 0.5):
        out = LRP(single([1.0, 0.0], [-0.9, 0.0]), rule="alpha1beta0", bias=True).explain([[[x]]], target="A")
        assert np.allclose(out.relevance, x - 0.9, atol=1e-6)
    negative = LRP(single([-1.0, 0.0], [0.0, 0.0]), rule="alpha1beta0").explain([[[-3.0]]], target="A")
    assert np.allclose(negative.relevance, 3.0)  # x- w-
    nothing = LRP(single([1.0, 0.0], [1.0, 0.0]), epsilon=1e12).explain([[[3.0]]], target="A")
    assert np.allclose(nothing.relevance, 0, atol=1e-6) and np.allclose(nothing.absorbed, 4.0)


class TwoWays(nn.Module):
    """Lead 0 and lead 1, each times its weight, summed; the logit is the sum plus 1."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b, self.sum, self.head = nn.Conv1d(2, 1, 1), nn.Conv1d(2, 1, 1), Add(), nn.Linear(1, 2)
        self.a.weight.data, self.b.weight.data = torch.tensor([[[a], [0.0]]]), torch.tensor([[[0.0], [b]]])
        for layer in (self.a, self.b):
            layer.bias.data[:] = 0
        self.head.weight.data[:], self.head.bias.data[:] = 1, 1

    def forward(self, x):
        return self.head(self.sum(self.a(x), self.b(x)).flatten(1))


def test_sums_by_their_rules():
    def lrp(x, a=1.0, b=1.0, **settings):
        clf = around(seeded_net(lambda: TwoWays(a, b)), 1, n_leads=2)
        return LRP(clf, **settings).explain(np.array(x).reshape(1, 2, 1), target="A").relevance.ravel()

    with pytest.warns(UserWarning):  # leads of one sample are constant
        assert np.allclose(lrp([0, 0], rule="wsquare"), [0.5, 0.5])  # 0/0 is halved
        assert np.allclose(lrp([3, -1], rule="wsquare"), [2.25, 0.75])  # logit 3, by |a| / (|a| + |b|)
        assert np.allclose(lrp([3, -1], rule="wsquare", sum_rule="z"), [4.5, -1.5])
        assert np.allclose(lrp([3, -1], rule="wsquare", sum_rule="plus"), [3, 0])
        assert np.allclose(lrp([3, -1], rule="lrp0"), [3, -1])
        near = lrp([1, -1.0001], rule="wsquare")
    assert np.abs(near).max() <= 1  # summands that nearly cancel


def test_pools_unknown_modules_and_leads_without_weight():
    def pools():
        body = nn.Conv1d(12, 4, 5), nn.AvgPool1d(2), nn.ReLU(), nn.MaxPool1d(3, 2), nn.AdaptiveAvgPool1d(4)
        return nn.Sequential(*body, nn.Flatten(), nn.Linear(16, 3))

    net = seeded_net(pools)
    net[0].weight.data[:, 5] = 0
    clf = around(net, 256, NAMES, 12)
    assert close(LRP(clf, rule="lrp0").transform(X), InputXGradient(clf).transform(X), 1e-4)
    for rule in RULES:
        out = LRP(clf, rule=rule).explain(X)
        assert np.allclose(out.relevance.sum((1, 2)) + out.absorbed, out.score, atol=1e-4)
        assert out.relevance[:, 5].any() == ("flat" in rule)
    for build, name in (
        (lambda: nn.Sequential(nn.GroupNorm(3, 12), nn.Flatten(), nn.Linear(3072, 3)), "GroupNorm"),
        (lambda: TinyNet(12, 256, 3, lstm=2), "LSTM"),
    ):
        with pytest.raises(ValueError, match=rf"(?i){name}(.|\n)*conv1d(.|\n)*relu"):
            LRP(around(seeded_net(build), 256, NAMES, 12)).explain(X)
    for wrong in ({"rule": "gamma"}, {"sum_rule": "min"}, {"norm_rule": "z"}, {"epsilon": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LRP(CLF, **wrong).explain(X)


# --- one frame for all of them ----------------------------------------------------------------------------------------

EXPLAINERS = {
    "ig": IntegratedGradients(None, n_steps=8),
    "saliency": Saliency(None),
    "input x gradient": InputXGradient(None),
    "shap gradient": ShapExplainer(None, background=0.0, n_samples=16, tol=1e9, random_state=0),
    "shap deep": ShapExplainer(None, method="deep", background=0.0, tol=1e9),
    "lrp": LRP(None),
    "lrp alpha1beta0": LRP(None, rule="alpha1beta0"),
}
each_explainer = pytest.mark.parametrize("name", EXPLAINERS)


def explain(name, estimator, given, **how):
    return clone(EXPLAINERS[name]).set_params(estimator=estimator).fit(given).explain(given, **how)


@each_explainer
def test_model_arrays_and_settings_stay_as_found(name):
    clf, given = around(ribeiro(), 256, NAMES, 12), X.copy()
    net = clf.module_
    net.train()
    net.get_submodule("resblock1d_1").eval()
    net.conv1.weight.requires_grad_(False)
    net.lin.weight.grad = torch.ones_like(net.lin.weight)
    before, want = snapshot(net), explain(name, CLF, X)
    given.flags.writeable = False
    assert np.array_equal(explain(name, clf, given).relevance, want.relevance)
    with torch.no_grad(), torch.autocast("cpu"):
        assert np.array_equal(explain(name, clf, given).relevance, want.relevance)
    with torch.inference_mode():
        assert close(explain(name, clf, given).relevance, want.relevance)
    torch.set_default_dtype(torch.float64)
    try:
        assert close(explain(name, clf, given).relevance, want.relevance)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same_snapshot(before, snapshot(net)) and np.array_equal(given, X)
    with pytest.raises(ValueError, match="PVC"):
        explain(name, clf, given, target="PVC")
    assert same_snapshot(before, snapshot(net))
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda _: explain(name, clf, X).relevance, range(8))
    assert all(np.array_equal(result, want.relevance) for result in results)


@each_explainer
def test_arrays_of_any_kind_and_bad_ones(name):
    want = explain(name, CLF, X).relevance
    wide = np.repeat(X, 2, axis=-1)[..., ::2]
    for given in (X.astype(float), np.asfortranarray(X), wide, X.astype(">f4")):
        assert np.array_equal(explain(name, CLF, given).relevance, want)
    assert close(np.concatenate([explain(name, CLF, X[i : i + 2]).relevance for i in (0, 2, 4)]), want)
    for at in (np.nan, np.inf):
        bad = X.copy()
        bad[2, 3, 4] = at
        with pytest.raises(ValueError, match=r"(?i)nan|inf"):
            explain(name, CLF, bad)
    dead = X.copy()
    dead[:, 4] = 0
    out = explain(name, CLF, dead)
    assert np.isfinite(out.relevance).all() and out.flat[:, 4].all() and not out.flat[:, :4].any()
    assert name in ("saliency", "lrp alpha1beta0") or not out.relevance[:, 4].any()


def test_objects_that_are_no_numbers():
    with pytest.raises(TypeError):
        IntegratedGradients(CLF).explain(np.full(X.shape, "x", dtype=object))


@each_explainer
def test_around_a_pipeline_and_with_labels_of_their_own(name):
    band = BandpassFilter(0.5, 40.0, fs=128.0).fit(X)
    whole = make_pipeline(band, CLF)
    got, want = explain(name, whole, X), explain(name, CLF, band.transform(X))
    assert np.array_equal(got.relevance, want.relevance) and np.array_equal(got.data, band.transform(X))
    last = make_pipeline(band, clone(EXPLAINERS[name]).set_params(estimator=FrozenEstimator(CLF))).fit(X)
    assert np.array_equal(last.transform(X), got.relevance)
    multi = around(NET, 256, NAMES, 12, multilabel=True, threshold=(0.2, 0.5, 0.8))
    out, logits = explain(name, multi, X), NET(torch.tensor(X)).detach().numpy()
    assert out.target.tolist() == [NAMES[i] for i in logits.argmax(1)]
    passed = torch.sigmoid(torch.tensor(logits)).numpy() > (0.2, 0.5, 0.8)
    assert np.array_equal(out.above_threshold, passed[range(6), logits.argmax(1)])
    for target in ("LBBB", ["N", "AF", "LBBB", "N", "AF", "LBBB"]):
        out = explain(name, multi, X, target=target)
        assert np.allclose(out.score, logits[range(6), codes(np.broadcast_to(target, 6))], atol=1e-5)


def test_records_and_epochs_by_integrated_gradients(tmp_path):
    explainer = IntegratedGradients(around(NET, 256, NAMES, 12, fs=128.0), n_steps=4)
    one = explain_record(explainer, X[0], fs=128.0)
    assert close(one.relevance, explainer.transform(X[:1])[0]) and one.relevance_kind == "signed"
    record = np.concatenate(list(X), axis=1)
    result = explain_record(explainer, record, fs=128.0, stride=2.0, blend="mean")
    assert close(result.relevance, np.concatenate(list(explainer.transform(X)), axis=1))
    settings = {"module__width": 1, "max_epochs": 2, "lr": 0.01, "random_state": 0, "fs": 128.0}
    clf = ECGClassifier("RibeiroNet", checkpoint_dir=tmp_path, **settings).fit(X, NAMES * 2)
    explainer = IntegratedGradients(clf, n_steps=4)
    curves = relevance_over_epochs(explainer, X, np.array(NAMES * 2), keep_relevance=True)
    assert curves.epochs.tolist() == [1, 2]
    assert close(curves.relevance[-1], explainer.explain(X, target=NAMES * 2).relevance)
    assert not np.array_equal(curves.relevance[0], curves.relevance[1])
