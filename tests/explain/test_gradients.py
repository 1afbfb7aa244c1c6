"""Saliency and InputXGradient against captum and hand-computed networks; what is asked of every gradient explainer."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient as CaptumInputXGradient
from captum.attr import Saliency as CaptumSaliency
from sklearn.base import clone
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import InputXGradient, IntegratedGradients, Saliency, ShapExplainer
from skecg.models import ECGNet
from tests.explaining import around, close
from tests.tiny import FAST, LinearNet, TinyNet, same_snapshot, snapshot, toy_ecg

EXPLAINERS = {
    "integrated gradients": IntegratedGradients(None, n_steps=3),
    "until tol": IntegratedGradients(None, n_steps=2, method="riemann_left", tol=0.5, max_steps=8, baseline="median"),
    "saliency": Saliency(None),
    "input x gradient": InputXGradient(None),
    "expected gradients": ShapExplainer(None, background=0.0, n_samples=4, tol=1e9, random_state=0),
    "deep": ShapExplainer(None, method="deep", background=0.0),
}
all_explainers = pytest.mark.parametrize("name", EXPLAINERS)


def make(name, estimator):
    return clone(EXPLAINERS[name]).set_params(estimator=estimator)


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=24, n_leads=2, n_timesteps=60)


@pytest.fixture(scope="module")
def trained(toy):
    """Return a network with an LSTM, and one without, for DeepLIFT."""
    return [ECGClassifier(TinyNet, module__lstm=lstm, module__dropout=0.3, **FAST).fit(*toy[:2]) for lstm in (3, 0)]


@pytest.fixture
def clf(trained, request):
    deep = getattr(request, "param", None) or request.node.callspec.params.get("name")
    return trained[deep == "deep"]


def positions(clf, labels):
    return torch.from_numpy(np.searchsorted(clf.classes_, labels))


# --- oracles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["predicted", "PVC"])
def test_equal_to_captum(target, toy, trained):
    clf = trained[0]
    x, net = torch.from_numpy(toy[0]), clf.module_.eval()
    for ours, theirs in (
        (Saliency(clf), CaptumSaliency(net)),
        (InputXGradient(clf), CaptumInputXGradient(net)),
    ):
        out = ours.explain(toy[0], target=target)
        want = theirs.attribute(x.clone().requires_grad_(), target=positions(clf, out.target)).detach().numpy()
        assert close(out.relevance, want, 2e-6)
    out = Saliency(clf, absolute=False).explain(toy[0], target=target)
    want = CaptumSaliency(net).attribute(x.clone().requires_grad_(), positions(clf, out.target), abs=False).numpy()
    assert close(out.relevance, want, 2e-6) and (want < 0).any()


def test_equal_to_captum_on_ecgnet_with_folded_batch_norms():
    torch_state = torch.get_rng_state()
    try:
        torch.manual_seed(0)
        net = ECGNet(1, 180, 3, width=2).eval()
    finally:
        torch.set_rng_state(torch_state)
    X = toy_ecg(n=6, n_timesteps=180)[0]
    clf = around(net, 180, ("A", "B", "C"))
    out = InputXGradient(clf).explain(X, target="B")
    want = CaptumInputXGradient(net).attribute(torch.from_numpy(X).requires_grad_(), target=1).detach().numpy()
    assert close(out.relevance, want, 2e-5)


WEIGHT = np.array([[[1, 2, -3], [0, -1, 4]], [[2, 0, 1], [1, 1, -2]]], dtype=float)
WINDOW = np.array([[[1, -2, 0.5], [3, 1, -1]]], dtype=np.float32)


def test_a_linear_network_by_hand():
    clf = around(LinearNet(WEIGHT, [0.5, -1.0]), 3, n_leads=2)
    out = Saliency(clf).explain(WINDOW, target="A")
    assert np.array_equal(out.relevance[0], [[1, 2, 3], [0, 1, 4]]) and out.relevance_kind == "positive"
    signed = Saliency(clf, absolute=False).explain(WINDOW, target="A")
    assert np.array_equal(signed.relevance[0], WEIGHT[0]) and signed.relevance_kind == "signed"
    out = InputXGradient(clf).explain(WINDOW, target="A")
    assert np.array_equal(out.relevance[0], [[1, -4, -1.5], [0, -1, -4]]) and out.relevance_kind == "signed"
    assert out.score == pytest.approx(out.relevance.sum() + 0.5) == pytest.approx(-9.0)


def test_outputs_by_hand():
    """Two classes: d(margin)/dx = w_A - w_B, d(p)/dx = p (1 - p) (w_A - w_B)."""
    clf = around(LinearNet(WEIGHT / 10, [0.05, -0.1]), 3, n_leads=2)
    logits = (WEIGHT / 10 * WINDOW).sum((1, 2)) + np.array([0.05, -0.1])
    p, difference = 1 / (1 + np.exp(logits[1] - logits[0])), (WEIGHT[0] - WEIGHT[1]) / 10
    for output, score, gradient in (
        ("margin", logits[0] - logits[1], difference),
        ("probability", p, p * (1 - p) * difference),
    ):
        out = Saliency(clf, absolute=False, output=output, target="A").explain(WINDOW)
        assert np.allclose(out.relevance[0], gradient, atol=1e-6) and np.allclose(out.score, score, atol=1e-6)


def test_multilabel_probability_is_the_labels_own_sigmoid():
    clf = around(LinearNet(WEIGHT / 10, [0.05, -0.1]), 3, n_leads=2, multilabel=True)
    p = 1 / (1 + np.exp(-((WEIGHT[1] / 10 * WINDOW[0]).sum() - 0.1)))
    out = InputXGradient(clf, output="probability", target="B").explain(WINDOW)
    assert np.allclose(out.relevance[0], p * (1 - p) * WEIGHT[1] / 10 * WINDOW[0], atol=1e-6)
    assert np.allclose(out.score, p, atol=1e-6) and out.above_threshold.tolist() == [p > 0.5]


class InPlace(nn.Module):
    """Writes into its input."""

    def __init__(self):
        super().__init__()
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.relu(x).flatten(1))


class Unmoved(nn.Module):
    """Answers the same whatever it is given."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([2.0, 0.5]))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


@all_explainers
def test_a_network_that_writes_into_its_input(name, seeded):
    net = InPlace()
    X = np.repeat(WINDOW, 2, 0)
    out = make(name, around(net, 3, n_leads=2)).explain(X, target="A")
    # x > 0 makes up w x and x < 0 nothing, by each of these methods (the gradient itself is w or 0)
    weight = net.head.weight.detach().numpy()[0].reshape(2, 3)
    want = np.where(WINDOW[0] > 0, weight if name == "saliency" else weight * WINDOW[0], 0)
    if name == "until tol":  # the median of each lead is its baseline: 0.5 and 1
        want = weight * (np.maximum(WINDOW[0], 0) - [[0.5], [1]])
        assert np.array_equal(out.data, X) and abs(out.relevance[0].sum() - want.sum()) <= 0.5 * abs(want.sum()) + 1e-6
        return
    want = np.abs(want) if name == "saliency" else want
    assert np.allclose(out.relevance[0], want, atol=1e-6) and np.array_equal(out.data, X)


@all_explainers
def test_a_network_that_ignores_its_input_has_no_relevance(name):
    with pytest.warns(UserWarning, match="zero everywhere"):
        out = make(name, around(Unmoved(), 3, n_leads=2)).explain(WINDOW)
    assert not out.relevance.any() and out.target.tolist() == ["A"]


@pytest.mark.parametrize("bad", [{"output": "logits"}, {"absolute": "yes"}, {"batch_size": 0}], ids=str)
def test_bad_parameters_are_named(bad, toy, trained):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Saliency(trained[0]).set_params(**bad).transform(toy[0])


# --- what every explainer promises ------------------------------------------------------------------------------------


def hook(*args):
    """Stand for a hook of the user's."""


CONTEXTS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@all_explainers
def test_the_network_and_every_generator_are_left_as_found(name, toy, clf):
    X, net = toy[0], clf.module_
    net.train(), net.drop.eval()
    handle = net.features[4].register_forward_hook(hook)
    net.features[0].weight.grad = torch.full_like(net.features[0].weight, 3.0)
    try:
        before, was = snapshot(net), X.copy()
        numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
        filters = list(warnings.filters)
        want = make(name, clf).transform(X)
        for context in CONTEXTS.values():
            with context():
                assert close(make(name, clf).transform(X), want)
        with pytest.raises(ValueError, match="target"):
            make(name, clf).explain(X, target="XX")
        assert same_snapshot(before, snapshot(net)) and np.array_equal(was, X)
        assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
        assert torch.equal(torch_state, torch.get_rng_state()) and filters == list(warnings.filters)
    finally:
        handle.remove()
        net.features[0].weight.grad = None


@all_explainers
def test_eight_threads_on_one_classifier(name, toy, clf):
    X = toy[0][:6]
    ex = make(name, clf)
    want = {label: ex.explain(X, target=label).relevance for label in clf.classes_}

    def wrong(i):
        label = clf.classes_[i % 3]
        return not close(ex.explain(X, target=label).relevance, want[label])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(wrong, range(24))) == 0


@all_explainers
@pytest.mark.parametrize("batch_size", [1, 2, 5, 23, 24])
def test_answers_do_not_depend_on_batches(name, batch_size, toy, clf):
    want = make(name, clf).transform(toy[0])
    assert close(make(name, clf).set_params(batch_size=batch_size).transform(toy[0]), want)
    assert close(make(name, clf).transform(toy[0][5:6]), want[5:6])


MOST = {"rows": None}


class Small(TinyNet):
    """Runs out of memory over more than MOST windows."""

    def forward(self, x):
        if MOST["rows"] is not None and len(x) > MOST["rows"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(x)


@all_explainers
@pytest.mark.parametrize("most", [2, 5])
def test_out_of_memory_halves_the_batch(name, most, toy):
    X = toy[0][:7]
    background = {"background": X[:5]} if name == "deep" else {}
    ex = make(name, ECGClassifier(Small, **{**FAST, "max_epochs": 1}).fit(*toy[:2])).set_params(**background)
    want = ex.transform(X)
    try:
        MOST["rows"] = most  # the background of "deep", five windows, is classified too
        assert close(ex.transform(X), want)
        MOST["rows"] = 0
        with pytest.raises(torch.OutOfMemoryError):
            ex.transform(X)
    finally:
        MOST["rows"] = None


# DeepLIFT refuses the product in this network: see test_shap.py
@pytest.mark.parametrize("name", [name for name in EXPLAINERS if name != "deep"])
def test_nan_of_one_window_stays_with_it(name, toy, clf):
    class Failing(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x) * torch.where(x[:, :1, 0] > 50, torch.nan, 1.0)

    X = toy[0].copy()
    X[3, 0, 0] = 99.0
    brought = around(Failing(clf.module_.eval()), 60, tuple(clf.classes_), 2)
    with pytest.warns(UserWarning, match=r"1 of 24 windows \(first \[3\]\).*not finite"):
        out = make(name, brought).explain(X, target="PVC")
    assert np.isnan(out.relevance[3]).all() and np.isfinite(np.delete(out.relevance, 3, 0)).all()
    want = make(name, clf).explain(X, target="PVC").relevance
    assert close(np.delete(out.relevance, 3, 0), np.delete(want, 3, 0))
