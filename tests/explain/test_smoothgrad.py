"""SmoothGrad against captum with the same noise, closed forms, and the gradient alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient as CaptumInputXGradient
from captum.attr import NoiseTunnel
from captum.attr import Saliency as CaptumSaliency
from sklearn.base import clone
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import InputXGradient, Saliency, SmoothGrad
from skecg.explain._smoothgrad import _draw
from skecg.utils._validation import draw_seed
from tests.explaining import around, close
from tests.tiny import FAST, LinearNet, TinyNet, same_snapshot, snapshot, toy_ecg


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=24, n_leads=2, n_timesteps=60)


@pytest.fixture(scope="module")
def clf(toy):
    return ECGClassifier(TinyNet, module__lstm=3, module__dropout=0.3, **FAST).fit(*toy[:2])


class Quadratic(nn.Module):
    """Logit A is sum(a x^2) / 2, so that its gradient is a x."""

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float32))
        self.most = 0

    def forward(self, x):
        self.most = max(self.most, len(x))
        half = (self.a * x.square()).sum((1, 2)) / 2
        return torch.stack([half, torch.zeros_like(half)], 1)


A = [[1.0, -2.0, 0.5], [3.0, 1.0, -1.0]]
WINDOWS = np.array([[[1, -2, 0.5], [3, 1, -1]], [[0, 4, 1], [2, 2, 2]]], dtype=np.float32)  # ranges 3, 4 and 4, 0


# --- oracles ----------------------------------------------------------------------------------------------------------


def test_without_noise_it_is_the_gradient(toy, clf):
    X = toy[0]
    for output in ("logit", "margin", "probability"):
        quiet = SmoothGrad(clf, noise=0.0, output=output)
        assert np.array_equal(quiet.transform(X), Saliency(clf, output=output).transform(X))
        signed = clone(quiet).set_params(estimator=clf, statistic="mean", method="input_x_gradient")
        assert np.array_equal(signed.transform(X), InputXGradient(clf, output=output).transform(X))


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient"])
@pytest.mark.parametrize("statistic", ["mean", "absolute", "squared", "variance"])
def test_equal_to_captum_with_the_same_noise(statistic, method, toy, clf, monkeypatch):
    x, n, seed = torch.from_numpy(toy[0]), 6, draw_seed(3)
    out = SmoothGrad(clf, n_samples=n, method=method, statistic=statistic, random_state=3).explain(toy[0])
    noise = torch.stack([_draw(seed, k, x) for k in range(n)])
    std = torch.from_numpy(0.1 * np.ptp(toy[0], -1)).float()
    noisy = (x[:, None] + std[:, None, :, None] * noise).flatten(0, 1)
    monkeypatch.setattr(NoiseTunnel, "_add_noise_to_input", staticmethod(lambda given, stdev, copies: noisy))
    net = clf.module_.eval()
    inner = CaptumSaliency(net) if method == "saliency" else CaptumInputXGradient(net)
    kind = {"squared": "smoothgrad_sq", "variance": "vargrad"}.get(statistic, "smoothgrad")
    target = torch.from_numpy(np.searchsorted(clf.classes_, out.target))
    more = {"abs": False} if method == "saliency" else {}
    want = NoiseTunnel(inner).attribute(x, nt_type=kind, nt_samples=n, target=target, **more).detach().numpy()
    want = np.abs(want) if statistic == "absolute" else want
    # captum sums in float32: the variance is a small difference there
    assert close(out.relevance, want, 1e-3 if statistic == "variance" else 1e-5)
    assert out.relevance_kind == ("signed" if statistic == "mean" else "positive")
    with torch.no_grad():
        scores = net(noisy).view(24, n, -1).mean(1).gather(1, target[:, None])[:, 0]
    assert np.allclose(out.score_noisy, scores, atol=1e-5) and np.allclose(out.noise_std, std)


def test_a_linear_network_by_hand():
    weight = np.array([A, [[2, 0, 1], [1, 1, -2]]])
    clf = around(LinearNet(weight, [0.5, -1.0]), 3, n_leads=2)

    def found(**settings):
        return SmoothGrad(clf, target="A", random_state=0, noise=0.5, n_samples=8, **settings).explain(WINDOWS)

    assert np.allclose(found().relevance, np.abs(weight[0])) and found().relevance_kind == "positive"
    assert np.allclose(found(statistic="mean").relevance, weight[0])
    assert np.allclose(found(statistic="squared").relevance, weight[0] ** 2)
    with pytest.warns(UserWarning, match="zero everywhere"):  # a gradient that is the same everywhere
        assert not found(statistic="variance").relevance.any()
    assert np.allclose(found().score, (weight[0] * WINDOWS).sum((1, 2)) + 0.5)  # of the window, not of its copies


def test_a_quadratic_network_in_closed_form():
    """The gradient at x + e is a (x + e): its mean tends to a x, its mean square to a^2 (x^2 + std^2)."""
    a, clf = np.array(A), around(Quadratic(A), 3, n_leads=2)
    std = 0.2 * np.array([[3, 4], [4, 0]])[..., None]

    def found(statistic, method="saliency"):
        ex = SmoothGrad(clf, n_samples=1500, noise=0.2, method=method, statistic=statistic, random_state=0, target="A")
        return ex.set_params(batch_size=512).explain(WINDOWS)

    out = found("mean")
    slack = 5 * np.abs(a) * std / np.sqrt(1500) + 1e-6  # five standard errors; none where the lead is constant
    assert (np.abs(out.relevance - a * WINDOWS) <= slack).all() and np.allclose(out.noise_std, std[..., 0])
    assert np.allclose(found("squared").relevance, a**2 * (WINDOWS**2 + std**2), rtol=0.15, atol=0.01)
    assert np.allclose(found("variance").relevance, a**2 * std**2 * np.ones(3), rtol=0.15)
    # x ds/dx at x + e is a (x + e)^2
    got = found("mean", "input_x_gradient").relevance
    assert np.allclose(got, a * (WINDOWS**2 + std**2), rtol=0.15, atol=0.1)
    score = (a * (WINDOWS**2 + std**2)).sum((1, 2)) / 2
    assert np.allclose(out.score_noisy, score, atol=0.3)
    assert np.allclose(out.score, (a * WINDOWS**2).sum((1, 2)) / 2)


# --- noise ------------------------------------------------------------------------------------------------------------


def test_chance_is_seeded_and_no_window_depends_on_another(toy, clf):
    X = toy[0]
    ex = SmoothGrad(clf, n_samples=5, random_state=0)
    whole = ex.transform(X)
    assert np.array_equal(ex.transform(X), whole)
    assert close(ex.transform(X[::-1])[::-1], whole) and close(ex.transform(X[3:8]), whole[3:8])
    for batch_size in (2, 23):
        assert close(clone(ex).set_params(estimator=clf, batch_size=batch_size).transform(X), whole)
    assert not close(clone(ex).set_params(estimator=clf, random_state=1).transform(X), whole, 1e-3)
    fresh = clone(ex).set_params(estimator=clf, random_state=None)
    assert not close(fresh.transform(X), fresh.transform(X), 1e-3)
    same = [SmoothGrad(clf, n_samples=5, random_state=np.random.RandomState(4)).transform(X) for _ in range(2)]
    assert np.array_equal(*same)


def test_the_target_is_that_of_the_window_itself(toy, clf):
    out = SmoothGrad(clf, n_samples=4, noise=5.0, random_state=0).explain(toy[0])
    assert np.array_equal(out.target, clf.predict(toy[0]))
    logits = clf.decision_function(toy[0])
    assert np.allclose(out.score, logits.max(1), atol=1e-6) and not np.allclose(out.score_noisy, out.score, atol=0.1)


def test_a_pass_has_no_more_rows_than_a_batch():
    net = Quadratic(A)
    many = np.repeat(WINDOWS, 3, 0)

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.one * net(x)

    clf = around(Watched(), 3, n_leads=2)
    net.most = 0
    SmoothGrad(clf, n_samples=50, batch_size=6, target="A").transform(many[:3])
    assert net.most == 6


MOST = {"rows": None}


class Small(TinyNet):
    """Runs out of memory over more than MOST windows."""

    def forward(self, x):
        if MOST["rows"] is not None and len(x) > MOST["rows"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(x)


def test_out_of_memory_halves_the_passes(toy):
    clf = ECGClassifier(Small, **{**FAST, "max_epochs": 1}).fit(*toy[:2])
    ex = SmoothGrad(clf, n_samples=5, random_state=0)
    want = ex.transform(toy[0][:3])
    try:
        MOST["rows"] = 4
        assert close(ex.transform(toy[0][:3]), want)
    finally:
        MOST["rows"] = None


def test_the_network_is_left_as_found_and_threads_do_not_meet(toy, clf):
    X, net = toy[0][:6], clf.module_
    net.train()
    ex, before = SmoothGrad(clf, n_samples=3, random_state=0), snapshot(net)
    want = ex.transform(X)
    with torch.inference_mode():
        assert close(ex.transform(X), want)
    with ThreadPoolExecutor(4) as pool:
        assert all(close(got, want) for got in pool.map(lambda _: ex.transform(X), range(8)))
    assert same_snapshot(before, snapshot(net))


BAD = (
    {"n_samples": 0},
    {"n_samples": 1, "statistic": "variance"},
    {"noise": -0.1},
    {"noise": np.nan},
    {"method": "gradcam"},
    {"statistic": "median"},
    {"output": "logits"},
)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_parameters_are_named(bad, toy, clf):
    with pytest.raises(ValueError, match=next(iter(bad))):
        SmoothGrad(clf, **bad).transform(toy[0])
