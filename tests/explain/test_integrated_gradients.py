"""IntegratedGradients against captum, closed forms and completeness; baselines, tol, and the published settings."""

import warnings

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients as CaptumIG
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import INNVESTIGATE_IG, IntegratedGradients, explain_record
from tests.explaining import around, close
from tests.tiny import FAST, LinearNet, TinyNet, toy_ecg

METHODS = ("riemann_middle", "riemann_left", "gausslegendre")


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=36, n_leads=2, n_timesteps=60)


@pytest.fixture(scope="module")
def clf(toy):
    return ECGClassifier(TinyNet, module__lstm=3, **{**FAST, "max_epochs": 10}).fit(*toy[:2])


def captum(clf, X, labels, output="logit", **settings):
    class Scored(nn.Module):
        def forward(self, x):
            logits = clf.module_(x)
            return logits if output == "logit" else logits.softmax(1)

    clf.module_.eval()
    target = torch.from_numpy(np.searchsorted(clf.classes_, labels))
    return CaptumIG(Scored()).attribute(torch.from_numpy(X), target=target, **settings).detach().numpy()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_steps", [2, 7, 50])
def test_equal_to_captum_at_the_same_points(method, n_steps, toy, clf):
    out = IntegratedGradients(clf, method=method, n_steps=n_steps).explain(toy[0])
    assert close(out.relevance, captum(clf, toy[0], out.target, method=method, n_steps=n_steps), 2e-6)
    assert (out.n_steps == n_steps).all()


def test_equal_to_captum_with_baselines_and_probabilities(toy, clf):
    X, y, *_ = toy
    base = np.random.default_rng(0).standard_normal(X.shape).astype(np.float32)
    out = IntegratedGradients(clf, baseline=base, output="probability", n_steps=9, target=y, batch_size=10).explain(X)
    settings = {"baselines": torch.from_numpy(base), "method": "riemann_middle", "n_steps": 9}
    assert close(out.relevance, captum(clf, X, y, "probability", **settings), 2e-6)
    at_start = clf.predict_proba(base)[np.arange(len(X)), np.searchsorted(clf.classes_, y)]
    assert np.allclose(out.score_baseline, at_start, atol=1e-6)


# --- closed forms -----------------------------------------------------------------------------------------------------

WEIGHT = np.array([[[1, 2, -3], [0, -1, 4]], [[2, 0, 1], [1, 1, -2]]], dtype=float)
WINDOW = np.array([[[1, -2, 0.5], [3, 1, -1]], [[0, 1, 1], [-1, 0, 2]]], dtype=np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_network_is_exact_with_one_point(method):
    clf = around(LinearNet(WEIGHT, [0.5, -1.0]), 3, n_leads=2)
    base = np.array([0.5, -1.0])
    out = IntegratedGradients(clf, method=method, n_steps=1, baseline=base, target="B").explain(WINDOW)
    assert np.allclose(out.relevance, WEIGHT[1] * (WINDOW - base[:, None]), atol=1e-6)
    assert np.allclose(out.completeness_error, 0, atol=1e-5)
    assert np.allclose(out.score_baseline, WEIGHT[1].sum(1) @ base - 1.0)


class Powers(nn.Module):
    """Logits: sum of squares, of cubes."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.one * torch.stack([x.square().sum((1, 2)), (x**3).sum((1, 2))], 1)


@pytest.mark.parametrize("n", [1, 4, 64])
def test_squares_and_cubes_have_the_error_of_the_rule(n):
    """The mean of a over n points is 1/2 by middles and (n - 1) / 2n by left ends; of a^2, 1/3 less 1 / 12n^2."""
    clf = around(Powers(), 3, n_leads=2)
    square, cube = WINDOW.astype(float) ** 2, WINDOW.astype(float) ** 3
    for method, target, want in (
        ("riemann_middle", "A", square),
        ("riemann_left", "A", square * (n - 1) / n),
        ("riemann_middle", "B", cube * (1 - 1 / (4 * n**2))),
        ("gausslegendre", "A", square),
    ):
        out = IntegratedGradients(clf, method=method, n_steps=n, target=target).explain(WINDOW)
        assert np.allclose(out.relevance, want, rtol=1e-5, atol=1e-6), (method, target)
        whole = (square if target == "A" else cube).sum((1, 2))
        assert np.allclose(out.completeness_error, want.sum((1, 2)) - whole, rtol=1e-4, atol=1e-5)
    exact = IntegratedGradients(clf, method="gausslegendre", n_steps=2, target="B").explain(WINDOW)
    assert np.allclose(exact.relevance, cube, rtol=1e-5)


class Kink(nn.Module):
    """Logit A is relu(sum(x) - 1): its slope is 1 on the last part of the way alone."""

    def __init__(self):
        super().__init__()
        self.relu, self.one = nn.ReLU(), nn.Parameter(torch.ones(1))

    def forward(self, x):
        out = self.one * self.relu(x.sum((1, 2)) - 1)
        return torch.stack([out, -out], 1)


def test_a_relu_by_hand():
    X = np.array([[[3.0, 1.0]], [[0.25, 0.5]]], dtype=np.float32)
    out = IntegratedGradients(around(Kink(), 2), n_steps=8, target="A").explain(X)
    assert np.allclose(out.relevance, [[[2.25, 0.75]], [[0, 0]]])  # the way is above 1 from a quarter of it on
    assert np.allclose(out.score, [3, 0]) and np.allclose(out.completeness_error, 0, atol=1e-6)


# --- completeness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["logit", "margin", "probability"])
def test_relevance_adds_up_to_the_rise_of_the_score(output, toy, clf):
    out = IntegratedGradients(clf, n_steps=300, output=output).explain(toy[0])
    rise = out.score.astype(float) - out.score_baseline
    assert np.allclose(out.relevance.astype(float).sum((1, 2)), rise, atol=5e-3 * np.abs(rise).max())
    assert np.allclose(out.completeness_error, out.relevance.astype(float).sum((1, 2)) - rise, atol=1e-5)
    empty = clf.decision_function(np.zeros((1, 2, 60)))
    if output == "logit":
        assert np.allclose(out.score_baseline, empty[0, np.searchsorted(clf.classes_, out.target)], atol=1e-5)


def test_left_points_are_worse_than_middles(toy, clf):
    error = {m: np.abs(IntegratedGradients(clf, method=m).explain(toy[0]).completeness_error) for m in METHODS}
    assert np.median(error["riemann_left"]) > 2 * np.median(error["riemann_middle"])


def test_multilabel_probability_adds_up_to_the_rise_of_the_sigmoid(toy):
    X, y, *_ = toy
    Y = np.stack([y == "N", y == "PVC", (y == "PVC") | (y == "PAC")], 1).astype(int)
    clf = ECGClassifier(TinyNet, **FAST, labels=["N", "PVC", "ectopic"]).fit(X, Y)
    out = IntegratedGradients(clf, n_steps=300, output="probability", target="ectopic").explain(X)
    assert np.allclose(out.score, clf.predict_proba(X)[:, 2], atol=1e-6)
    rise = out.score - clf.predict_proba(np.zeros((1, 2, 60)))[0, 2]
    assert np.allclose(out.relevance.sum((1, 2)), rise, atol=2e-3)
    assert np.array_equal(out.above_threshold, clf.predict(X)[:, 2] == 1)


# --- baselines --------------------------------------------------------------------------------------------------------


def test_every_form_of_a_baseline(toy, clf):
    X = toy[0]
    levels = np.array([0.3, -0.2], dtype=np.float32)
    lead, each = np.repeat(levels[:, None], 60, 1), np.tile(levels[:, None], (36, 1, 60))
    want = IntegratedGradients(clf, n_steps=4, baseline=levels).explain(X)
    for baseline in (levels.tolist(), lead, each):
        got = IntegratedGradients(clf, n_steps=4, baseline=baseline, batch_size=7).explain(X)
        assert close(got.relevance, want.relevance) and close(got.score_baseline, want.score_baseline)
    other = IntegratedGradients(clf, n_steps=4).transform(X)
    assert not np.allclose(other, want.relevance, atol=1e-3)


def test_a_baseline_for_each_window_goes_with_its_window(toy, clf):
    X = toy[0]
    base = np.random.default_rng(0).standard_normal(X.shape)
    whole = IntegratedGradients(clf, n_steps=4, baseline=base, batch_size=5).transform(X)
    for i in (0, 17, 35):
        alone = IntegratedGradients(clf, n_steps=4, baseline=base[i : i + 1]).transform(X[i : i + 1])
        assert close(alone[0], whole[i])


def test_equal_windows_keep_baselines_of_their_own(toy, clf):
    X, base = np.repeat(toy[0][:1], 2, axis=0), toy[0][10:12]
    both = IntegratedGradients(clf, n_steps=4, baseline=base).transform(X)
    for i in range(2):
        assert close(both[i], IntegratedGradients(clf, n_steps=4, baseline=base[i]).transform(X[:1])[0])
    assert not np.allclose(both[0], both[1], atol=1e-3)


def test_a_baseline_for_each_window_survives_too_little_memory(toy, monkeypatch):
    X, base = toy[0], np.random.default_rng(0).standard_normal(toy[0].shape)
    clf = ECGClassifier(Counting, **{**FAST, "max_epochs": 1}).fit(X, toy[1])
    want = IntegratedGradients(clf, n_steps=4, baseline=base).transform(X)
    whole = Counting.forward

    def small(self, x):
        if len(x) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, x)

    monkeypatch.setattr(Counting, "forward", small)
    assert close(IntegratedGradients(clf, n_steps=4, baseline=base).transform(X), want)


def test_a_record_takes_one_baseline_for_all_its_windows(clf):
    signal = np.random.default_rng(0).standard_normal((2, 60 * 4)).astype(np.float32)
    windows = signal.reshape(2, 4, 60).transpose(1, 0, 2)
    shape = np.random.default_rng(1).standard_normal((2, 60))
    settings = {"fs": 60, "stride": 1.0, "blend": "mean"}
    for baseline in (shape, shape[None]):
        ex = IntegratedGradients(clf, n_steps=4, baseline=baseline, fs=60, batch_size=1)
        got = explain_record(ex, signal, **settings).relevance
        assert close(got.reshape(2, 4, 60).transpose(1, 0, 2), ex.transform(windows))
    for n in (3, 4):
        ex = IntegratedGradients(clf, n_steps=4, baseline=np.repeat(shape[None], n, 0), fs=60, batch_size=1)
        with pytest.raises(ValueError, match=rf"baseline has the shape \({n}, 2, 60\)"):
            explain_record(ex, signal, **settings)


def test_targets_are_one_a_window_as_of_every_explainer(toy, clf):
    given = IntegratedGradients(clf)._given_target(clf, len(toy[0]), toy[1])
    assert np.array_equal(given, np.searchsorted(clf.classes_, toy[1]))


def test_two_dimensions_take_a_baseline_of_two():
    X, y, *_ = toy_ecg(24, n_timesteps=40)
    clf = ECGClassifier(TinyNet, **{**FAST, "max_epochs": 1}).fit(X, y)
    base = np.random.default_rng(0).standard_normal((24, 40))
    two = IntegratedGradients(clf, n_steps=4, baseline=base).transform(X[:, 0])
    assert np.array_equal(two, IntegratedGradients(clf, n_steps=4, baseline=base[:, None]).transform(X)[:, 0])


def test_median_is_the_median_of_each_window_and_lead(toy, clf):
    X = toy[0][..., :59] + np.array([[0.5], [-2.0]], dtype=np.float32)
    odd = ECGClassifier(TinyNet, **{**FAST, "max_epochs": 1}).fit(X, toy[1])
    each = np.broadcast_to(np.median(X, axis=-1, keepdims=True), X.shape)
    want = IntegratedGradients(odd, n_steps=4, baseline=each).transform(X)
    assert close(IntegratedGradients(odd, n_steps=4, baseline="median").transform(X), want)


def test_what_equals_its_baseline_has_no_relevance(toy, clf):
    X = toy[0].copy()
    X[..., 40:] = 0
    R = IntegratedGradients(clf, n_steps=4).transform(X)
    assert not R[..., 40:].any() and R[..., :40].any((1, 2)).all()


@pytest.mark.parametrize(
    "baseline, message",
    [
        (np.zeros(3), r"\(3,\).*2 leads and 60 timesteps"),
        (np.zeros((2, 59)), r"\(2, 59\)"),
        (np.zeros((60, 2)), r"\(60, 2\)"),
        (np.zeros((35, 2, 60)), r"\(35, 2, 60\).*36 windows.*\(36, 2, 60\)"),
        (np.zeros((36, 60)), r"\(36, 60\)"),
        (np.zeros((1, 1, 2, 60)), r"\(1, 1, 2, 60\)"),
        (np.nan, "NaN"),
        (np.full((2, 60), np.inf), "infinite"),
        ("mean", "median"),
        ([[0.0], [0.0, 1.0]], "array of numbers"),
        (None, "number, 'median' or an array; got None"),
    ],
    ids=lambda value: str(np.shape(value)) if isinstance(value, np.ndarray) else None,
)
def test_bad_baselines_are_named(baseline, message, toy, clf):
    with pytest.raises(ValueError, match=message):
        IntegratedGradients(clf, baseline=baseline).transform(toy[0])


# --- tol --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_points_are_added_until_the_error_is_within_tol(method, toy, clf):
    tol, growth = 0.01, 3 if method == "riemann_middle" else 2
    ex = IntegratedGradients(clf, method=method, n_steps=4, tol=tol, max_steps=4 * growth**8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = ex.explain(toy[0])
    rise = np.abs(out.score.astype(float) - out.score_baseline)
    assert (np.abs(out.completeness_error) <= tol * rise).all()
    assert len(np.unique(out.n_steps)) > 1  # each window on its own
    steps = {4 * growth**k for k in range(9)}
    assert set(out.n_steps.tolist()) <= steps
    for n in np.unique(out.n_steps):  # points that were kept and new ones together are all the points
        rows = out.n_steps == n
        plain = IntegratedGradients(clf, method=method, n_steps=int(n)).explain(toy[0][rows], target=out.target[rows])
        assert close(out.relevance[rows], plain.relevance)
        if n > 4:
            fewer = IntegratedGradients(clf, method=method, n_steps=int(n) // growth)
            before = fewer.explain(toy[0][rows], target=out.target[rows]).completeness_error
            assert (np.abs(before) > tol * rise[rows]).all()


def test_windows_that_do_not_get_there_are_named(toy, clf):
    ex = IntegratedGradients(clf, n_steps=2, tol=1e-3, max_steps=6)
    with pytest.warns(UserWarning, match=r"in \d+ of 36 windows.*tol=0.001 of it at 6 points") as caught:
        out = ex.explain(toy[0])
    rise = np.abs(out.score.astype(float) - out.score_baseline)
    missed = np.flatnonzero(np.abs(out.completeness_error) > 1e-3 * rise)
    assert f"in {len(missed)} of 36 windows (first {missed[:10].tolist()})" in str(caught[0].message)
    assert (out.n_steps[missed] == 6).all()


ROWS = []


class Counting(TinyNet):
    def forward(self, x):
        ROWS.append(len(x))
        return super().forward(x)


def test_only_windows_that_need_it_are_computed_again_and_midpoints_are_kept(toy):
    clf = ECGClassifier(Counting, **{**FAST, "max_epochs": 4}).fit(*toy[:2])
    ROWS.clear()
    out = IntegratedGradients(clf, n_steps=4, tol=0.02, max_steps=324, batch_size=36).explain(toy[0])
    assert out.n_steps.min() < out.n_steps.max()
    # one pass over the windows, one over the baseline (two rows), and each point once; a lone row is run twice
    assert out.n_steps.sum() + 38 <= sum(ROWS) <= out.n_steps.sum() + 38 + ROWS.count(2)
    assert max(ROWS) <= 36


def test_a_lone_window_takes_many_points_in_a_pass(toy):
    clf = ECGClassifier(Counting, **{**FAST, "max_epochs": 1}).fit(*toy[:2])
    ROWS.clear()
    IntegratedGradients(clf, n_steps=64, batch_size=32).transform(toy[0][:1])
    assert sorted(ROWS) == [2, 2, 32, 32]


@pytest.mark.parametrize(
    "bad, name",
    [
        ({"n_steps": 0}, "n_steps"),
        ({"n_steps": 2.5}, "n_steps"),
        ({"method": "trapezoid"}, "method"),
        ({"output": "softmax"}, "output"),
        ({"tol": 0.0}, "tol"),
        ({"tol": 0.1, "max_steps": 63}, "max_steps"),
    ],
    ids=str,
)
def test_bad_parameters_are_named(bad, name, toy, clf):
    with pytest.raises(ValueError, match=name):
        IntegratedGradients(clf, **bad).transform(toy[0])


def test_the_probable_settings_of_the_second_paper(toy, clf):
    out = IntegratedGradients(clf, **INNVESTIGATE_IG).explain(toy[0])
    want = captum(clf, toy[0], out.target, "probability", method="riemann_left", n_steps=64)
    assert close(out.relevance, want, 2e-6)
