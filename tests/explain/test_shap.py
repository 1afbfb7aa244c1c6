"""ShapExplainer against shap itself and closed forms; the background; the networks that DeepLIFT gets wrong."""

import copy

import numpy as np
import pytest
import shap
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import IntegratedGradients, ShapExplainer
from skecg.preprocessing import ECGScaler
from tests.explaining import around, close
from tests.tiny import FAST, LinearNet, TinyNet, toy_ecg


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=24, n_leads=2, n_timesteps=60)


@pytest.fixture(scope="module")
def clf(toy):
    return ECGClassifier(TinyNet, **{**FAST, "max_epochs": 10}).fit(*toy[:2])


@pytest.fixture(scope="module")
def recurrent(toy):
    return ECGClassifier(TinyNet, module__lstm=3, **{**FAST, "max_epochs": 6}).fit(*toy[:2])


def quiet(estimator, **settings):
    return ShapExplainer(estimator, tol=1e9, random_state=0, **settings)


# --- expected gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rseed", [0, 7])
def test_the_draws_are_those_of_shaps_gradient_explainer(rseed, toy, recurrent, numpy_state):
    X, background = toy[0][:3], toy[0][10:18]
    ours = ShapExplainer(recurrent, background=background, n_samples=60, tol=1e9, random_state=rseed).explain(X)
    theirs = shap.GradientExplainer(recurrent.module_.eval(), torch.from_numpy(background))
    for i, label in enumerate(ours.target):
        of_all = theirs.shap_values(torch.from_numpy(X[i : i + 1]), nsamples=60, rseed=rseed)
        assert close(ours.relevance[i], of_all[0][..., np.searchsorted(recurrent.classes_, label)])


@pytest.fixture
def numpy_state():
    """Give back numpy's generator, which shap seeds."""
    state = np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


def test_a_linear_network_by_hand(toy):
    rng = np.random.default_rng(0)
    weight, background = rng.standard_normal((2, 2, 60)), toy[0][:4]
    clf = around(LinearNet(weight, [0.0, 1.0]), 60, n_leads=2)
    for method in ("gradient", "deep"):
        out = quiet(clf, background=background, method=method, n_samples=4000, target="B").explain(toy[0][5:7])
        want = weight[1] * (toy[0][5:7] - background.mean(0))
        assert np.allclose(out.relevance, want, atol=0.1 if method == "gradient" else 1e-5)
        base = np.einsum("lt,nlt->n", weight[1], background).mean() + 1
        assert np.allclose(out.score_background, base, atol=1e-4)


def test_one_background_window_tends_to_integrated_gradients(toy, clf):
    X = toy[0][:4]
    want = IntegratedGradients(clf, n_steps=400).transform(X)
    got = quiet(clf, background=0.0, n_samples=4000).transform(X)
    assert np.abs(got - want).max() < 0.03 * np.abs(want).max()


@pytest.mark.parametrize("output", ["logit", "margin", "probability"])
def test_the_error_of_the_sum_is_told(output, toy, clf):
    X, background = toy[0][:6], toy[0][10:14]
    out = quiet(clf, background=background, n_samples=50, output=output).explain(X, target="PVC")
    logits = clf.decision_function(background)
    score = {"logit": logits, "probability": clf.predict_proba(background)}.get(output)
    if output == "margin":
        score = logits - np.log(np.exp(logits)[:, [0, 1]].sum(1, keepdims=True))  # of PVC, the last label
        assert list(clf.classes_)[2] == "PVC"
    assert np.allclose(out.score_background, score[:, 2].mean(), atol=1e-5)
    rise = out.score.astype(float) - out.score_background
    assert np.allclose(out.additivity_error, out.relevance.astype(float).sum((1, 2)) - rise, atol=1e-5)
    assert (np.abs(out.additivity_error) > 1e-4).any()  # an estimate
    many = quiet(clf, background=background, n_samples=2000, output=output).explain(X, target="PVC")
    assert np.abs(many.additivity_error).mean() < np.abs(out.additivity_error).mean()


def test_a_large_error_is_warned_about(toy, clf):
    ex = ShapExplainer(clf, background=toy[0][10:14], n_samples=3, random_state=0)
    with pytest.warns(UserWarning, match="within 0.1 of it: raise n_samples") as caught:
        out = ex.explain(toy[0])
    missed = np.flatnonzero(np.abs(out.additivity_error) > 0.1 * np.abs(out.score.astype(float) - out.score_background))
    assert f"in {len(missed)} of 24 windows" in str(caught[0].message)


def test_chance_is_seeded_and_no_window_depends_on_another(toy, clf):
    ex = quiet(clf, background=toy[0][10:14], n_samples=5)
    whole = ex.transform(toy[0])
    assert np.array_equal(ex.transform(toy[0]), whole)
    assert close(ex.transform(toy[0][::-1])[::-1], whole) and close(ex.transform(toy[0][3:8]), whole[3:8])
    other = clone(ex).set_params(estimator=clf, random_state=1).transform(toy[0])
    fresh = clone(ex).set_params(estimator=clf, random_state=None)
    assert not np.allclose(other, whole, atol=1e-4)
    assert not np.allclose(fresh.transform(toy[0]), fresh.transform(toy[0]), atol=1e-4)


# --- background -------------------------------------------------------------------------------------------------------


def test_fit_draws_the_background_from_x(toy, clf):
    X = toy[0]
    ex = quiet(clf, n_samples=4, n_background=5).fit(X)
    assert ex.background_.shape == (5, 2, 60)
    found = [np.flatnonzero((X == window).all((1, 2))) for window in ex.background_]
    assert all(len(rows) == 1 for rows in found) and len(np.unique(np.concatenate(found))) == 5
    given = quiet(clf, n_samples=4, background=ex.background_)
    assert np.array_equal(given.transform(X), ex.transform(X))
    assert np.array_equal(quiet(clf, n_background=99).fit(X).background_, X)


def test_the_background_is_in_the_space_of_the_networks_input(toy):
    X, y, *_ = toy
    whole = make_pipeline(ECGScaler(), ECGClassifier(TinyNet, **{**FAST, "max_epochs": 1})).fit(X, y)
    ex = quiet(FrozenEstimator(whole), n_background=99, n_samples=3).fit(X)
    assert np.array_equal(ex.background_, whole[:-1].transform(X))


def test_no_background_is_an_error_that_says_what_to_do(toy, clf):
    with pytest.raises(NotFittedError, match=r"fit\(X\).*background="):
        ShapExplainer(clf).transform(toy[0])


def test_one_lead_takes_two_dimensions_and_a_number_stands_for_all_samples():
    X, y, *_ = toy_ecg(24, n_timesteps=40)
    one = ECGClassifier(TinyNet, **{**FAST, "max_epochs": 1}).fit(X, y)
    two = quiet(one, background=X[:4, 0], n_samples=4).transform(X[:, 0])
    assert np.array_equal(two, quiet(one, background=X[:4], n_samples=4).transform(X)[:, 0])
    level = quiet(one, background=0.3, n_samples=4).transform(X)
    assert np.array_equal(level, quiet(one, background=np.full((1, 1, 40), 0.3), n_samples=4).transform(X))


@pytest.mark.parametrize(
    "background, message",
    [
        (np.zeros((5, 2, 59)), r"\(5, 2, 59\).*2 leads of 60 timesteps"),
        (np.zeros((2, 60)), r"\(2, 60\)"),
        (np.zeros((0, 2, 60)), r"\(0, 2, 60\)"),
        (np.full((5, 2, 60), np.nan), "NaN"),
        ("zeros", "number"),
    ],
    ids=["length", "2-D", "empty", "NaN", "name"],
)
def test_bad_backgrounds_are_named(background, message, toy, clf):
    for use in ("fit", "transform"):
        with pytest.raises(ValueError, match=message):
            getattr(ShapExplainer(clf, background=background), use)(toy[0])


# --- DeepLIFT ---------------------------------------------------------------------------------------------------------


def test_deep_equals_shap_and_adds_up(toy, clf):
    X, background = toy[0][:5], toy[0][10:17]
    for batch_size in (64, 6):  # the background in one part, or in three
        out = ShapExplainer(clf, method="deep", background=background, batch_size=batch_size).explain(X)
        deep = shap.DeepExplainer(copy.deepcopy(clf.module_).eval(), torch.from_numpy(background))
        want = deep.shap_values(torch.from_numpy(X))
        index = np.searchsorted(clf.classes_, out.target)
        assert close(out.relevance, want[np.arange(5), ..., index])
        assert np.abs(out.additivity_error).max() < 1e-5 * np.abs(out.score).max()


class Kink(nn.Module):
    """Logit A is relu(sum(x) - 1) in one of several ways of writing it."""

    def __init__(self, how):
        super().__init__()
        self.how, self.relu, self.pool = how, nn.ReLU(inplace=how == "in place"), nn.MaxPool1d(3, 1, 1)
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x):
        h = x.sum((1, 2)) - 1
        if self.how == "functional":
            h = F.relu(h)
        elif self.how == "method":
            h = h.relu()
        elif self.how == "made in forward":
            h = nn.ReLU()(h)
        elif self.how == "reused":
            h = self.relu(self.relu(h) + 0.5) - 0.5
        elif self.how == "product":
            h = self.relu(h) * x.mean((1, 2))
        elif self.how == "quotient":
            h = self.relu(h) / (1 + x.mean((1, 2)))
        elif self.how == "functional pooling":
            h = F.max_pool1d(x, 2).sum((1, 2))
        elif self.how == "overlapping pooling":
            h = self.pool(x).sum((1, 2))
        elif self.how == "softmax":
            h = x.flatten(1).softmax(1)[:, 0]
        else:
            h = self.relu(h * 2) / 2
        return self.one * torch.stack([h, -h], 1)


@pytest.mark.parametrize("how", ["module", "in place"])
def test_deep_of_a_relu_by_hand(how):
    X = np.array([[[3.0, 1.0]], [[0.25, 0.5]]], dtype=np.float32)
    out = ShapExplainer(around(Kink(how), 2), method="deep", background=0.0, target="A").explain(X)
    # the sum rises from 0 to 4 and the logit from 0 to 3: each sample times 3/4
    assert np.allclose(out.relevance, [[[2.25, 0.75]], [[0, 0]]], atol=1e-6)


SILENT = {
    "functional": "relu",
    "method": "relu",
    "reused": "ReLU 'relu' is used 2 times",
    "product": "mul",
    "quotient": "div",
    "functional pooling": "max_pool1d",
    "overlapping pooling": "MaxPool1d 'pool' overlap",
    "softmax": "softmax",
    "made in forward": "relu",
}


def gate(h):
    return h * (h > 0)


def detached_gate(h):
    return h * torch.sigmoid(h.detach())


def own_spread(h):
    return h / h.data.std((1, 2), keepdim=True)


def sorted_by_itself(h):
    return h[..., h.sum((0, 1)).argsort()]


def number_of_itself(h):
    return h * (h.mean().item() + 1)


def without_a_graph(h):
    with torch.no_grad():
        shut = h.sigmoid()
    return h * shut


HIDDEN = {
    gate: "gt without a gradient",
    detached_gate: "detach without a gradient",
    own_spread: "__get__ without a gradient",
    sorted_by_itself: "argsort without a gradient",
    number_of_itself: "item without a gradient",
    without_a_graph: "sigmoid without a gradient",
}


class Hidden(nn.Module):
    """A convolution, and a function that is no module."""

    def __init__(self, function=None, norm=None):
        super().__init__()
        self.function, self.conv, self.norm = function or nn.Identity(), nn.Conv1d(2, 3, 3), norm or nn.Identity()
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.function(self.norm(self.conv(x))).mean(-1))


def refused(net, reason, toy):
    clf = around(net.eval(), 60, n_leads=2)
    with pytest.raises(ValueError, match=f"(?s)silently wrong for Hidden.*{reason}.*method='gradient'"):
        ShapExplainer(clf, method="deep", background=toy[0][:4]).transform(toy[0][5:9])


@pytest.mark.parametrize("function", HIDDEN, ids=lambda function: function.__name__)
def test_activations_hidden_from_the_gradient_are_refused(function, toy, seeded):
    refused(Hidden(function), HIDDEN[function], toy)


def test_modules_without_a_gradient_are_refused(toy, seeded):
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Sigmoid()

        def forward(self, h):
            with torch.no_grad():
                shut = self.act(h)
            return h * shut

    refused(Hidden(Gate()), "Sigmoid without a gradient", toy)


@pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
def test_activations_in_hooks_are_refused(before, toy, seeded):
    net = Hidden()
    if before:
        net.head.register_forward_pre_hook(lambda module, given: (given[0].relu(),))
    else:
        net.conv.register_forward_hook(lambda module, given, out: out.relu())
    refused(net, "relu", toy)


def test_batch_norms_of_the_batch_at_hand_are_refused(toy, seeded):
    refused(Hidden(norm=nn.BatchNorm1d(3, track_running_stats=False)), "BatchNorm1d 'norm' normalises by", toy)


def test_tensors_made_after_another_are_no_obstacle(toy, seeded):
    clf = around(Hidden(lambda h: h + torch.ones_like(h) * h.new_full((1,), 2.0) + h.shape[-1]).eval(), 60, n_leads=2)
    out = ShapExplainer(clf, method="deep", background=toy[0][:4]).explain(toy[0][5:9])
    assert np.abs(out.additivity_error).max() < 1e-5


@pytest.mark.parametrize("how", SILENT)
def test_networks_that_deep_gets_wrong_are_refused_with_the_reason(how):
    clf = around(Kink(how), 6)
    X = np.arange(12, dtype=np.float32).reshape(2, 1, 6) / 7 - 0.3
    with pytest.raises(ValueError, match=f"(?s)silently wrong for Kink.*{SILENT[how]}.*method='gradient'"):
        ShapExplainer(clf, method="deep", background=0.0).transform(X)
    assert np.isfinite(quiet(clf, background=0.0, n_samples=4).transform(X)).all()


def test_recurrent_networks_are_refused(toy, recurrent):
    with pytest.raises(ValueError, match="LSTM"):
        ShapExplainer(recurrent, method="deep", background=0.0).transform(toy[0])


class Sum(nn.Module):
    """Adds two maps, as a module of its own: shap does not know it."""

    def forward(self, a, b):
        return a + b


class Residual(nn.Module):
    """Convolutions with a skip around them."""

    def __init__(self):
        super().__init__()
        self.one, self.act, self.two, self.add = nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Conv1d(3, 3, 3, padding=1), Sum()
        self.drop, self.head = nn.Dropout1d(0.3), nn.Linear(3, 2)

    def forward(self, x):
        h = self.act(self.one(F.pad(x, (1, 1))))
        return self.head(self.drop(self.add(h, self.two(h))).mean(-1))


def test_modules_that_only_add_are_no_obstacle(toy, recwarn, seeded):
    clf = around(Residual(), 60, n_leads=2)
    out = ShapExplainer(clf, method="deep", background=toy[0][:4]).explain(toy[0][5:9])
    assert np.abs(out.additivity_error).max() < 1e-5 and not [w for w in recwarn if "unrecognized" in str(w.message)]


@pytest.mark.parametrize(
    "bad",
    [{"method": "kernel"}, {"n_samples": 0}, {"n_background": 0}, {"tol": -1}, {"output": "p"}],
    ids=str,
)
def test_bad_parameters_are_named(bad, toy, clf):
    with pytest.raises(ValueError, match=next(iter(bad))):
        ShapExplainer(clf, background=0.0).set_params(**bad).transform(toy[0])
    with pytest.raises(ValueError, match="softmax"):
        ShapExplainer(clf, method="deep", background=0.0, output="probability").transform(toy[0])
