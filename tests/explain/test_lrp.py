"""LRP as an explainer: what it returns, its settings, networks of the library and of users, bad settings."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import skecg
from skecg.classifiers import ECGClassifier
from skecg.explain import INNVESTIGATE_PRESET_A, INNVESTIGATE_PRESET_A_FLAT, LRP, InputXGradient
from skecg.models import HannunNet, RibeiroNet
from tests.explaining import around, close
from tests.tiny import FAST, TinyNet, same_snapshot, snapshot, toy_ecg

RULES = ("epsilon", "lrp0", "alpha1beta0", "wsquare", "flat", "preset_a", "preset_a_flat")
all_rules = pytest.mark.parametrize("rule", RULES)


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=24, n_leads=2, n_timesteps=60)


@pytest.fixture(scope="module")
def clf(toy):
    return ECGClassifier(TinyNet, module__dropout=0.3, **FAST).fit(*toy[:2])


@all_rules
def test_relevance_and_what_was_absorbed_are_the_logit(rule, toy, clf):
    out = LRP(clf, rule=rule, batch_size=7).explain(toy[0])
    assert out.relevance.shape == toy[0].shape and out.relevance.dtype == np.float32
    assert out.relevance_kind == "signed"
    logits = clf.decision_function(toy[0])
    assert np.allclose(out.score, logits.max(1), rtol=1e-4, atol=1e-5)
    names = list(out.layer_names)
    assert names[0] == "features.0" and names[-1] == "head" and {"features.4"} < set(names)
    assert out.absorbed_by_layer.shape == (24, len(names)) and out.absorbed.dtype == np.float64
    assert np.allclose(out.absorbed_by_layer.sum(1), out.absorbed)
    rest = out.relevance.astype(float).sum((1, 2)) + out.absorbed - out.score
    assert np.allclose(out.completeness_error, rest, atol=1e-9)
    scale = np.abs(out.relevance).sum((1, 2)) + np.abs(out.absorbed) + np.abs(out.score)
    assert (np.abs(rest) < 1e-5 * scale).all()
    if rule in ("wsquare", "flat"):
        assert np.abs(out.absorbed).max() < 1e-6


def test_lrp0_is_input_x_gradient(toy, clf):
    want = InputXGradient(clf).explain(toy[0], target="PVC").relevance
    assert close(LRP(clf, rule="lrp0").explain(toy[0], target="PVC").relevance, want, rtol=3e-5)
    assert close(LRP(clf).explain(toy[0], target="PVC").relevance, want, rtol=1e-3)
    assert not close(LRP(clf, epsilon=1.0).explain(toy[0], target="PVC").relevance, want, rtol=0.1)


@pytest.fixture(scope="module")
def networks():
    """Untrained networks with odd batch norms, and windows for them."""
    made = {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        for name, net in {
            "hannun": HannunNet(2, 300, 3, width=2),
            "keras": RibeiroNet(12, 256, 6, width=2),
            "pytorch": RibeiroNet(12, 256, 6, width=2, variant="pytorch"),
        }.items():
            for part in net.modules():
                if isinstance(part, nn.BatchNorm1d):
                    part.running_mean.normal_(0, 0.1), part.running_var.uniform_(0.5, 1.5)
            made[name] = net
    return made


def of_network(networks, name, **settings):
    n_leads, n_timesteps, n_outputs = {"hannun": (2, 300, 3)}.get(name, (12, 256, 6))
    X = np.random.default_rng(0).standard_normal((5, n_leads, n_timesteps)).astype(np.float32)
    labels = tuple("ABCDEF"[:n_outputs])
    return around(networks[name], n_timesteps, labels, n_leads, **settings), X


@all_rules
@pytest.mark.parametrize("name", ["hannun", "keras", "pytorch"])
def test_networks_of_the_library(name, rule, networks):
    clf, X = of_network(networks, name, multilabel=name != "hannun")
    before = snapshot(clf.module_)
    out = LRP(clf, rule=rule).explain(X, target="B")
    assert same_snapshot(before, snapshot(clf.module_))
    assert np.isfinite(out.relevance).all() and out.relevance.any((1, 2)).all()
    scale = np.abs(out.relevance).sum((1, 2)) + np.abs(out.absorbed_by_layer).sum(1) + np.abs(out.score)
    assert (np.abs(out.completeness_error) < 1e-5 * scale).all()
    if rule == "lrp0":
        want = InputXGradient(clf).explain(X, target="B").relevance
        assert close(out.relevance, want, rtol=3e-5)
    if name != "hannun":
        assert out.above_threshold.shape == (5,) and np.allclose(out.score, out.logits[:, 1])


def test_a_users_sequential_and_one_lead(seeded):
    net = nn.Sequential(
        nn.Conv1d(1, 4, 7, stride=2, padding=3), nn.ReLU(inplace=True), nn.BatchNorm1d(4), nn.AdaptiveAvgPool1d(8),
        nn.Flatten(), nn.Dropout(), nn.Linear(32, 8), nn.ELU(), nn.Linear(8, 2),
    )  # fmt: skip
    X = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
    clf = around(net, 50)
    for rule in RULES:
        flat, wide = LRP(clf, rule=rule).explain(X), LRP(clf, rule=rule).explain(X[:, None])
        assert flat.relevance.shape == (6, 50) and np.array_equal(flat.relevance, wide.relevance[:, 0])
        assert np.allclose(flat.completeness_error, 0, atol=1e-4)


def test_batches_and_companions_do_not_matter(toy, clf):
    for rule in ("epsilon", "preset_a"):
        want = LRP(clf, rule=rule, epsilon_relative=True, epsilon=0.1).explain(toy[0])
        got = LRP(clf, rule=rule, epsilon_relative=True, epsilon=0.1, batch_size=5).explain(toy[0])
        assert close(got.relevance, want.relevance)
        assert np.allclose(got.absorbed_by_layer, want.absorbed_by_layer, rtol=1e-4, atol=1e-6)


def test_settings_of_each_kind_of_layer(toy, clf):
    X = toy[0]
    same = [
        ({"rule": "preset_a", "epsilon": 0.1}, {"rule": "alpha1beta0", "dense_rule": "epsilon", "epsilon": 0.1}),
        ({"rule": "preset_a_flat"}, {"rule": "preset_a", "input_rule": "flat"}),
        ({"rule": "epsilon"}, {"sum_rule": "z", "norm_rule": "affine", "bias": True}),
        ({"rule": "wsquare"}, {"rule": "wsquare", "sum_rule": "abs", "norm_rule": "merge", "bias": False}),
    ]
    for one, other in same:
        assert np.array_equal(LRP(clf, **one).transform(X), LRP(clf, **other).transform(X))
    relevance = [LRP(clf, rule=rule).transform(X) for rule in RULES]
    for i, one in enumerate(relevance):
        for other in relevance[:i]:
            assert not np.allclose(one, other, rtol=1e-3) or i == 1  # epsilon is small
    assert np.ptp(LRP(clf, rule="preset_a_flat").transform(X), axis=1).max() < 1e-6  # flat input: all leads equal


def test_published_settings(toy, clf):
    assert INNVESTIGATE_PRESET_A["rule"] == "preset_a" and INNVESTIGATE_PRESET_A["epsilon"] == 0.1
    for published, first in ((INNVESTIGATE_PRESET_A, None), (INNVESTIGATE_PRESET_A_FLAT, "flat")):
        explainer = LRP(clf, **published)
        settings = clone(explainer)._settings()
        assert (settings.conv, settings.dense, settings.first) == ("alpha1beta0", "epsilon", first)
        assert (settings.bias, settings.sums, settings.norms, settings.epsilon) == (True, "z", "affine", 0.1)
        assert np.isfinite(explainer.transform(toy[0])).all()
    assert skecg.LRP is LRP


def test_windows_of_zeros_are_finite_and_told(toy, clf):
    X = toy[0][:3].copy()
    X[1] = 0
    for rule in RULES:
        with pytest.warns(UserWarning, match="1 of 3"):
            out = LRP(clf, rule=rule).explain(X)
        assert np.isfinite(out.relevance).all() and np.allclose(out.completeness_error, 0, atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": "gamma"},
        {"rule": None},
        {"epsilon": -1.0},
        {"epsilon": np.nan},
        {"epsilon_relative": "yes"},
        {"bias": 1},
        {"input_rule": "preset_a"},
        {"dense_rule": "z"},
        {"sum_rule": "epsilon"},
        {"norm_rule": "fold"},
    ],
    ids=str,
)
def test_bad_settings_are_named(wrong, toy, clf):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LRP(clf, **wrong).transform(toy[0])


def test_recurrent_networks_are_refused_and_left_as_found(toy):
    clf = ECGClassifier(TinyNet, module__lstm=3, **{**FAST, "max_epochs": 1}).fit(*toy[:2])
    before = snapshot(clf.module_)
    with pytest.raises(ValueError, match=r"lstm in layer 'lstm' .*MaskDeletion.*It knows .*conv1d"):
        LRP(clf).transform(toy[0])
    assert same_snapshot(before, snapshot(clf.module_))


def hook(*args):
    """Stand for a hook of the user's."""


@all_rules
def test_the_network_is_left_as_found(rule, toy):
    clf = ECGClassifier(TinyNet, module__dropout=0.4, **{**FAST, "max_epochs": 1}).fit(*toy[:2])
    net = clf.module_
    want = LRP(clf, rule=rule).transform(toy[0])
    net.train(), net.features[1].eval(), net.head.weight.requires_grad_(False)
    net.features[0].weight.grad = torch.ones_like(net.features[0].weight)
    net.features[4].register_forward_hook(hook), net.register_full_backward_hook(hook)
    net.head.register_full_backward_pre_hook(hook)
    before, X = snapshot(net), toy[0].copy()
    for context in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with context:
            assert np.array_equal(LRP(clf, rule=rule).transform(X), want)
    assert same_snapshot(before, snapshot(net)) and np.array_equal(X, toy[0])


def test_eight_threads_on_one_classifier(toy, clf):
    X, start = toy[0][:6], threading.Barrier(8)
    explainers = [LRP(clf, rule=rule) for rule in ("epsilon", "preset_a_flat")]
    want = [{label: ex.explain(X, target=label).relevance for label in clf.classes_} for ex in explainers]
    before = snapshot(clf.module_)

    def work(worker):
        start.wait()
        wrong = 0
        for i in range(20):
            label, which = clf.classes_[(worker + i) % 3], (worker + i) % 2
            wrong += not close(explainers[which].explain(X, target=label).relevance, want[which][label])
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 0  # of 160
    assert same_snapshot(before, snapshot(clf.module_))
