"""MaskDeletion against closed forms, brute force, hand-run Adam and independent sums of its objective."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import VIJAYARANGAN_2020, VIJAYARANGAN_2020_ASSUMED, MaskDeletion
from skecg.models import ECGNet
from tests.tiny import FAST, LinearNet, TinyNet, toy_ecg

EXACT = {"n_knots": None, "tol": 0.0}  # one mask value a sample, no early stop


def linear(weight, bias=(0.0, 0.0), **settings):
    """Return a classifier of classes A and B whose logits are linear in the window."""
    weight = np.asarray(weight, dtype=float)
    n_outputs, n_leads, n_timesteps = weight.shape
    net = LinearNet(weight, bias)
    names = ["A", "B", "C"][:n_outputs]
    return ECGClassifier.from_module(net, names, n_leads=n_leads, n_timesteps=n_timesteps, **settings)


def against_nothing(row):
    """Give logit A the weights of `row`, logit B none."""
    row = np.atleast_2d(np.asarray(row, dtype=float))
    return np.stack([row, np.zeros_like(row)])


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def scores(clf, X, output, code=0):
    net = clf.module_
    z = np.einsum("nlt,clt->nc", np.asarray(X, float), net.weight.detach().numpy().astype(float))
    z = z + net.bias.detach().numpy()
    return z[:, code] if output == "logit" else softmax(z)[:, code]


def objective(clf, X, mask, k, *, lambda1, lambda2=0.0, reduction="sum", output="logit", code=0):
    """Sum the published objective anew, in numpy."""
    size = np.sum if reduction == "sum" else np.mean
    phi = mask * X + k * (1 - mask)
    norm = size(np.abs(1 - mask), axis=(1, 2))
    variation = np.abs(np.diff(mask, axis=2)).sum((1, 2))
    return lambda1 * norm + lambda2 * variation + scores(clf, phi, output, code)


# --- closed forms -----------------------------------------------------------------------------------------------------

ROW = np.array([0.2, 3.0, -1.0, 0.9, 2.0, 1.1])


@pytest.mark.parametrize("init", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_linear_logit_deletes_what_carries_more_than_the_price(reduction, init):
    # dJ/dm_t = w_t (x_t - k) - price: what carries more goes (m = 0), what carries less stays (m = 1)
    clf, k = linear(against_nothing(ROW)), 0.25
    X = np.array([[[1, 1, 1, 1, 1, 1]], [[2, 0.25, 1, -1, 0.7, 0.6]]], dtype=np.float32)
    lambda1 = 1.0 if reduction == "sum" else 6.0  # the same price of one sample
    settings = {"output": "logit", "replacement": k, "init": init, "lr": 0.01, "n_iter": 300, "target": "A"}
    out = MaskDeletion(clf, lambda1=lambda1, lambda2=0.0, reduction=reduction, **settings, **EXACT).explain(X)
    carries = ROW * (X - k)
    assert np.abs(carries - 1).min() > 0.1  # no draw
    want = (carries < 1).astype(float)
    assert np.allclose(out.mask, want, atol=0.02)  # Adam trembles by its step at the corner of the norm
    assert np.array_equal(out.relevance, 1 - out.mask)
    best = np.minimum(carries, 1).sum((1, 2)) + ROW.sum() * k  # each sample at its cheaper end
    assert np.allclose(out.objective, best, atol=0.03) and (out.objective > best - 1e-5).all()
    assert np.allclose(out.score, (ROW * X).sum((1, 2)), rtol=1e-5)
    assert np.allclose(out.score_deleted, ROW.sum() * k, rtol=1e-5)
    assert np.allclose(out.score_after, (ROW * (want * X + (1 - want) * k)).sum((1, 2)), atol=0.1)
    assert out.relevance_kind == "positive" and out.relevance.dtype == np.float32


def test_one_row_a_lead():
    weight = np.zeros((2, 2, 4))
    weight[0, 0], weight[0, 1] = [5, 0, 0, 0], [0, 0, 5, 5]
    out = MaskDeletion(
        linear(weight), lambda1=1.0, reduction="sum", output="logit", replacement=0.0, target="A", **EXACT
    ).explain(np.ones((1, 2, 4), np.float32))
    assert out.mask.shape == (1, 2, 4) and np.allclose(out.relevance, weight[:1] / 5, atol=1e-6)


def test_brute_force_over_the_probability():
    # three samples: J on a grid of masks, independent of any gradient
    clf = linear(against_nothing([4.0, 1.0, -0.5]), bias=(-1.0, 0.0))
    X = np.array([[[1.0, 0.6, 1.0]]], dtype=np.float32)
    grid = np.array(list(itertools.product(np.linspace(0, 1, 41), repeat=3)))[:, None, :]
    J = objective(clf, X, grid, 0.0, lambda1=0.5, reduction="mean", output="probability")
    best = grid[J.argmin()]
    out = MaskDeletion(
        clf, lambda1=0.5, lambda2=0.0, reduction="mean", replacement=0.0, lr=0.02, n_iter=400, target="A", **EXACT
    ).explain(X)
    assert out.objective[0] <= J.min() + 1e-3
    assert np.allclose(out.mask[0], best, atol=0.06)
    assert 0.2 < best.mean() < 0.8  # neither all nor nothing


@pytest.mark.parametrize("output", ["logit", "probability"])
@pytest.mark.parametrize("lambda2", [0.0, 0.3])
@pytest.mark.parametrize("n_knots", [None, 5])
def test_objective_and_scores_are_those_of_the_mask(rng, output, lambda2, n_knots):
    weight = rng.normal(size=(3, 2, 20))
    clf = linear(weight, bias=rng.normal(size=3))
    X = rng.normal(size=(5, 2, 20)).astype(np.float32)
    settings = {"lambda1": 0.1, "lambda2": lambda2, "reduction": "sum", "output": output}
    shape = {"n_knots": n_knots, "n_iter": 15, "lr": 0.03, "tol": 0.0}
    out = MaskDeletion(clf, replacement=0.3, target="B", **shape, **settings).explain(X)
    assert ((out.mask >= 0) & (out.mask <= 1)).all() and np.ptp(out.mask) > 0
    assert np.allclose(out.objective, objective(clf, X, out.mask, 0.3, code=1, **settings), rtol=1e-4, atol=1e-4)
    assert np.allclose(out.score, scores(clf, X, output, 1), rtol=1e-4, atol=1e-5)
    assert np.allclose(out.score_deleted, scores(clf, np.full_like(X, 0.3), output, 1), rtol=1e-4, atol=1e-5)
    after = scores(clf, out.mask * X + 0.3 * (1 - out.mask), output, 1)
    assert np.allclose(out.score_after, after, rtol=1e-4, atol=1e-5)
    assert np.array_equal(out.relevance, 1 - out.mask) and (out.n_iter == 15).all()


@pytest.mark.parametrize("n_knots", [None, 4])
def test_mean_reduction_divides_by_samples_and_leads(rng, n_knots):
    clf = linear(rng.normal(size=(2, 3, 12)))
    X = rng.normal(size=(2, 3, 12)).astype(np.float32)
    settings = {"lambda1": 2.0, "lambda2": 0.0, "reduction": "mean", "output": "probability"}
    out = MaskDeletion(clf, replacement=0.0, n_knots=n_knots, n_iter=10, target="A", tol=0.0, **settings).explain(X)
    assert np.allclose(out.objective, objective(clf, X, out.mask, 0.0, **settings), rtol=1e-4, atol=1e-5)


def test_total_variation_makes_the_mask_flat(rng):
    clf = linear(against_nothing(rng.normal(size=40)))
    X = np.ones((1, 1, 40), np.float32)
    rough, flat = (
        MaskDeletion(
            clf, lambda1=1.0, lambda2=lambda2, reduction="sum", output="logit", replacement=0.0, target="A", **EXACT
        ).explain(X)
        for lambda2 in (0.0, 2.0)
    )
    assert np.abs(np.diff(flat.mask)).sum() < 0.25 * np.abs(np.diff(rough.mask)).sum()


# --- Adam -------------------------------------------------------------------------------------------------------------


def adam(gradient, start, lr, n_iter, eps=1e-4):
    """Adam with the usual decay rates and the clamp, element by element, in float64."""
    m, first, second = start.astype(float), 0.0, 0.0
    for i in range(1, n_iter + 1):
        g = gradient(m)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        m = np.clip(m - lr * (first / (1 - 0.9**i)) / (np.sqrt(second / (1 - 0.999**i)) + eps), 0, 1)
    return m


@pytest.mark.parametrize("n_iter", [1, 2, 7])
def test_steps_are_adams(n_iter):
    clf, lr = linear(against_nothing(ROW)), 0.03
    X = np.array([[[1, 0.2, 1, 1.5, -0.3, 0.9]]], dtype=np.float32)

    def gradient(m):
        p = scores(clf, m * X, "probability")[:, None, None]
        return p * (1 - p) * ROW * X - 0.2

    want = adam(gradient, np.full(X.shape, 0.4), lr, n_iter)
    out = MaskDeletion(
        clf, lambda1=0.2, lambda2=0.0, lr=lr, n_iter=n_iter, init=0.4, reduction="sum", output="probability",
        replacement=0.0, target="A", **EXACT,
    ).explain(X)  # fmt: skip
    assert np.allclose(out.mask, want, atol=1e-5)


def test_the_papers_steps_end_half_way():
    # lr .001 and 500 steps under a steady gradient: .5 where deleting costs more than it gives, 0 elsewhere
    row = np.array([0.5, 1.5, -1.0, 0.3])
    assumed = {**VIJAYARANGAN_2020_ASSUMED, "output": "logit", "branch": "all"}
    ex = MaskDeletion(linear(against_nothing(row)), **VIJAYARANGAN_2020, **assumed, target="A", tol=0.0)
    out = ex.explain(np.ones((1, 1, 4), np.float32))
    assert np.allclose(out.mask, [[[0.5, 0, 0.5, 0.5]]], atol=2e-3)
    assert (out.n_iter == 500).all()


def test_published_settings():
    assert VIJAYARANGAN_2020 == {"lambda1": 1.0, "lambda2": 0.001, "lr": 0.001, "n_iter": 500, "init": 0.0}
    assert VIJAYARANGAN_2020_ASSUMED == {
        "n_knots": None,
        "reduction": "sum",
        "output": "probability",
        "replacement": 0.0,
        "branch": "lstm",
    }


def test_defaults():
    defaults = MaskDeletion(None).get_params(deep=False)
    want = {
        "lambda1": 5.0, "lambda2": 0.05, "lr": 0.05, "n_iter": 120, "init": 0.0, "n_knots": (10, 14, 20, 28, None),
        "reduction": "mean",
        "output": "probability", "replacement": "running_median", "branch": "all", "other_branch": "silenced",
        "tol": 1e-3, "target": "predicted", "batch_size": 64, "fs": None, "verbose": 0,
        "estimator": None, "schedule": "constant",
    }  # fmt: skip
    assert defaults == want


def test_a_sum_and_a_probability_are_degenerate():
    # deleting one whole sample costs 1, the probability can fall by less: from 1 the mask stays, all relevance is zero
    clf = linear(against_nothing(np.full(30, 0.5)))
    X = np.ones((3, 1, 30), np.float32)
    with pytest.warns(UserWarning, match=r"\b3 of 3\b"):
        out = MaskDeletion(
            clf, lambda1=1.0, reduction="sum", output="probability", replacement=0.0, init=1.0, target="A", **EXACT
        ).explain(X)
    assert not out.relevance.any() and np.allclose(out.objective, scores(clf, X, "probability"), rtol=1e-5)


def test_a_window_does_not_depend_on_its_companions():
    X, y, *_ = toy_ecg(n_leads=2)
    clf = ECGClassifier(TinyNet, module__lstm=3, **FAST).fit(X, y)
    ex = MaskDeletion(clf, replacement=0.0, n_iter=40, n_knots=(6, None))
    whole = ex.explain(X[:16])
    for part in (slice(5, 6), slice(3, 12)):
        some = ex.explain(X[:16][part])
        assert np.allclose(some.mask, whole.mask[part], rtol=1e-5, atol=1e-5)
        assert np.array_equal(some.n_iter, whole.n_iter[part])
    other = ex.set_params(batch_size=7).explain(X[:16])
    assert np.allclose(other.mask, whole.mask, rtol=1e-5, atol=1e-5)


def test_windows_stop_one_by_one():
    # the first window has nothing to delete from all-kept, so its objective stands still; the second goes on falling
    clf = linear(against_nothing(np.full(8, 2.0)))
    X = np.stack([np.zeros((1, 8)), np.ones((1, 8))]).astype(np.float32)
    ex = MaskDeletion(
        clf, lambda1=1.0, reduction="sum", output="logit", replacement=0.0, init=1.0, lr=0.005, n_iter=150,
        n_knots=None, target="A", tol=1e-3,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a flat window without relevance
        out = ex.explain(X)
    assert out.n_iter[0] < 100 < out.n_iter[1] <= 150
    assert np.allclose(out.mask[0], 1) and (out.mask[1] < 0.6).all()


# --- the mask's shape -------------------------------------------------------------------------------------------------


def test_several_numbers_of_knots_give_the_mean_of_their_masks(rng):
    clf = linear(against_nothing(rng.normal(size=40)))
    X = rng.standard_normal((3, 1, 40)).astype(np.float32)
    settings = {"n_iter": 12, "target": "A", "replacement": 0.0}
    many = MaskDeletion(clf, n_knots=(4, 7, None), **settings).explain(X)
    each = [MaskDeletion(clf, n_knots=n, **settings).explain(X) for n in (4, 7, None)]
    assert np.allclose(many.mask, np.mean([one.mask for one in each], axis=0), atol=1e-6)
    assert (many.n_iter == sum(one.n_iter for one in each)).all()
    assert len({one.mask.tobytes() for one in each}) == 3


@pytest.mark.parametrize("n_knots", [2, 6, 13])
def test_few_knots_are_joined_by_straight_lines(rng, n_knots):
    clf = linear(rng.normal(size=(2, 2, 60)))
    X = rng.normal(size=(3, 2, 60)).astype(np.float32)
    settings = {"output": "logit", "replacement": 0.0, "init": 0.5, "n_iter": 4, "target": "A", "tol": 0.0}
    mask = MaskDeletion(clf, lambda1=0.01, n_knots=n_knots, **settings).explain(X).mask
    bends = (np.abs(np.diff(mask, 2, axis=2)) > 1e-5).sum(2)
    assert (bends <= 2 * n_knots).all() and mask.std() > 1e-2
    assert bends.max() > 0 or n_knots == 2


def test_more_knots_than_samples_are_one_a_sample():
    clf = linear(against_nothing(ROW))
    X = np.ones((1, 1, 6), np.float32)
    settings = {"output": "logit", "reduction": "sum", "lambda1": 1.0, "replacement": 0.0, "target": "A"}
    many, exact = (MaskDeletion(clf, n_knots=k, **settings).explain(X) for k in (48, None))
    assert np.allclose(many.mask, exact.mask, atol=1e-6)


# --- replacements -----------------------------------------------------------------------------------------------------


def reader(n_timesteps, at, **settings):
    """Return a classifier whose logit A reads one sample: score_deleted is then the replacement at that place."""
    row = np.zeros(n_timesteps)
    row[at] = 1.0
    return linear(against_nothing(row), **settings)


def replaced(clf, X, replacement, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ex = MaskDeletion(clf, replacement=replacement, output="logit", n_iter=1, target="A", **settings)
        return ex.explain(X)


def test_replacement_by_the_median(rng):
    X = rng.normal(size=(4, 1, 51)).astype(np.float32)
    out = replaced(reader(51, 7), X, "median")
    assert np.allclose(out.score_deleted, np.median(X[:, 0], axis=1), atol=1e-6)


def test_the_median_is_each_leads_own():
    weight = np.zeros((2, 2, 5))
    weight[0, 1, 0] = 1.0
    X = np.stack([np.zeros((2, 5)), np.ones((2, 5))]).astype(np.float32)
    X[:, 1] += np.array([3, 1, 9, 1, 5])
    out = replaced(linear(weight), X, "median")
    assert np.allclose(out.score_deleted, [3, 4])


@pytest.mark.parametrize("at", [30, 50, 69])
def test_replacement_by_the_running_median_of_04_seconds(rng, at):
    X = rng.normal(size=(4, 1, 101)).astype(np.float32)
    fs = 62.5  # 0.4 s are 25 samples: twelve on either side
    want = np.median(X[:, 0, at - 12 : at + 13], axis=1)
    assert np.allclose(replaced(reader(101, at, fs=fs), X, "running_median").score_deleted, want, atol=1e-6)
    assert np.allclose(replaced(reader(101, at), X, "running_median", fs=fs).score_deleted, want, atol=1e-6)
    assert np.allclose(replaced(reader(101, at, fs=500.0), X, "running_median", fs=fs).score_deleted, want, atol=1e-6)


@pytest.mark.parametrize("at", [0, 3, 40, 77, 79])
def test_the_running_median_takes_the_beat_and_keeps_the_baseline(at):
    X = np.full((1, 1, 80), 0.7, dtype=np.float32)
    X[0, 0, 38:42] = [2.0, 3.0, -2.0, 1.0]
    assert np.allclose(replaced(reader(80, at, fs=50.0), X, "running_median").score_deleted, 0.7)


@pytest.mark.parametrize("at", [0, 40, 79])
def test_a_blur_keeps_a_constant_and_flattens_a_beat(at):
    flat = np.full((1, 1, 80), 0.7, dtype=np.float32)
    assert np.allclose(replaced(reader(80, at, fs=100.0), flat, "blur").score_deleted, 0.7, atol=1e-5)
    beat = np.zeros((1, 1, 80), dtype=np.float32)
    beat[0, 0, 40] = 1.0
    got = replaced(reader(80, 40, fs=100.0), beat, "blur").score_deleted
    assert np.allclose(got, 1 / (np.sqrt(2 * np.pi) * 16.7), rtol=0.1)  # a Gaussian of 167 ms has this height


@pytest.mark.parametrize("replacement", ["running_median", "blur", [0.0, "running_median"]], ids=str)
def test_seconds_need_fs(replacement):
    X = np.zeros((2, 1, 20), np.float32)
    with pytest.raises(ValueError, match="fs"):
        MaskDeletion(reader(20, 3), replacement=replacement).transform(X)


def test_numbers_and_medians_need_no_fs():
    X = np.ones((2, 1, 20), np.float32) * [[[1]], [[2]]]
    for replacement in (0.0, 1, "median", [0.0, "median"]):
        assert np.isfinite(replaced(reader(20, 3), X, replacement).relevance).all()


def test_the_best_of_a_list_is_taken_window_by_window():
    # logit A reads sample 3; the median is below zero in one window and above it in the other
    X = np.stack([np.full((1, 9), -1.0), np.full((1, 9), 2.0)]).astype(np.float32)
    X[:, 0, 3] = 5.0
    out = replaced(reader(9, 3), X, [0.0, "median"])
    assert list(out.replacement) == ["median", 0.0]
    assert np.allclose(out.score_deleted, [-1.0, 0.0])
    single = replaced(reader(9, 3), X, "median")
    assert list(single.replacement) == ["median", "median"]
    assert np.allclose(out.mask[0], single.mask[0], atol=1e-6)


def test_replacements_that_score_as_the_class_are_counted():
    # weights 4 on the first sample, bias 2 for A: nothing at all is an A for this network
    clf = linear(against_nothing([4.0, 0.0, 0.0]), bias=(2.0, 0.0))
    X = np.array([[[1, 0, 1]], [[2, 1, 0]], [[-3, 1, 0]]], dtype=np.float32)
    with pytest.warns(UserWarning, match=r"\b2 of 3\b"):
        MaskDeletion(clf, replacement=0.0, lambda1=0.1, target=["A", "A", "B"]).explain(X)
    against = linear(against_nothing([4.0, 0.0, 0.0]), bias=(-3.0, 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MaskDeletion(against, replacement=0.0, lambda1=0.1, target="A").explain(X[:2])


# --- branches ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def ecgnet(seeded):
    net = ECGNet(1, 256, 3, width=1).eval()
    with torch.no_grad():  # a fresh LSTM says next to nothing
        for name, p in net.named_parameters():
            if "lstm" in name and "weight" in name:
                p.mul_(6)
    return net


@pytest.fixture
def windows():
    return np.random.default_rng(0).standard_normal((3, 1, 256)).astype(np.float32)


@pytest.mark.parametrize("other_branch", ["silenced", "intact"])
@pytest.mark.parametrize("branch, other", [("cnn", "lstm"), ("lstm", "cnn")])
def test_one_branch_alone(ecgnet, windows, branch, other, other_branch):
    clf = ECGClassifier.from_module(ecgnet, ["A", "B", "C"], n_leads=1, n_timesteps=256)
    settings = {"replacement": 0.0, "n_iter": 4, "lr": 0.1, "lambda1": 0.01, "lambda2": 0.0, "target": "B", "tol": 0.0}
    out = MaskDeletion(clf, branch=branch, other_branch=other_branch, **settings).explain(windows)

    def score(at):
        with torch.no_grad():
            kept = None if other_branch == "silenced" else torch.from_numpy(windows)
            z = ecgnet(torch.as_tensor(at, dtype=torch.float32), inputs={other: kept})
        return softmax(z.numpy())[:, 1]

    assert out.mask.std() > 0.01
    assert np.allclose(out.score_after, score(out.mask * windows), rtol=1e-4, atol=1e-6)
    assert np.allclose(out.score_deleted, score(np.zeros_like(windows)), rtol=1e-4, atol=1e-6)
    J = 0.01 * np.abs(1 - out.mask).mean((1, 2)) + score(out.mask * windows)
    assert np.allclose(out.objective, J, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("other_branch", ["silenced", "intact"])
def test_the_constant_part_is_computed_once(ecgnet, windows, other_branch, monkeypatch):
    clf = ECGClassifier.from_module(ecgnet, ["A", "B", "C"], n_leads=1, n_timesteps=256)
    calls, forward = {"conv": 0, "lstm": 0}, nn.Conv1d.forward
    recur = nn.LSTM.forward

    def counted(self, *args, **kwargs):
        calls["conv"] += 1
        return forward(self, *args, **kwargs)

    def counted_lstm(self, *args, **kwargs):
        calls["lstm"] += 1
        return recur(self, *args, **kwargs)

    monkeypatch.setattr(nn.Conv1d, "forward", counted)
    monkeypatch.setattr(nn.LSTM, "forward", counted_lstm)
    counts = []
    for n_iter in (2, 22):
        calls.update(conv=0, lstm=0)
        MaskDeletion(
            clf, branch="lstm", other_branch=other_branch, replacement=0.0, n_iter=n_iter, n_knots=8, target="B", tol=0
        ).explain(windows)
        counts.append(dict(calls))
    assert counts[0]["conv"] == counts[1]["conv"]  # however many steps
    assert counts[1]["lstm"] == counts[0]["lstm"] + 20


def test_all_branches_are_the_whole_network(ecgnet, windows):
    clf = ECGClassifier.from_module(ecgnet, ["A", "B", "C"], n_leads=1, n_timesteps=256)
    out = MaskDeletion(clf, replacement=0.0, n_iter=3, target="C").explain(windows)
    with torch.no_grad():
        want = softmax(ecgnet(torch.from_numpy(out.mask * windows).float()).numpy())[:, 2]
    assert np.allclose(out.score_after, want, rtol=1e-4, atol=1e-6)


def test_unknown_branches_are_named(ecgnet, windows):
    clf = ECGClassifier.from_module(ecgnet, ["A", "B", "C"], n_leads=1, n_timesteps=256)
    with pytest.raises(ValueError, match=r"(?s)cnn.*lstm.*rnn|rnn.*cnn.*lstm"):
        MaskDeletion(clf, branch="rnn", replacement=0.0).transform(windows)
    with pytest.raises(ValueError, match="branch"):
        MaskDeletion(linear(against_nothing(ROW)), branch="lstm", replacement=0.0).transform(np.ones((1, 1, 6)))
    with pytest.raises(ValueError, match=r"(?s)other_branch.*silenced.*intact"):
        MaskDeletion(clf, branch="lstm", other_branch="gone", replacement=0.0).transform(windows)


# --- bad parameters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, value",
    [
        ("lambda1", -1.0),
        ("lambda2", -0.1),
        ("lr", 0.0),
        ("lr", np.nan),
        ("n_iter", 0),
        ("n_iter", 2.5),
        ("init", 1.5),
        ("init", -0.5),
        ("n_knots", 0),
        ("n_knots", []),
        ("n_knots", (20, 1)),
        ("reduction", "max"),
        ("output", "loss"),
        ("replacement", "zero"),
        ("replacement", []),
        ("replacement", np.nan),
        ("replacement", ["median", "zero"]),
        ("tol", -1.0),
        ("batch_size", 0),
        ("fs", 0.0),
    ],
    ids=str,
)
def test_bad_parameters_are_named(name, value):
    clf = linear(against_nothing(ROW))
    with pytest.raises(ValueError, match=name):
        MaskDeletion(clf, **{"replacement": 0.0, name: value}).transform(np.ones((2, 1, 6), np.float32))


def test_margin_is_the_logit_against_the_others():
    clf = linear(np.arange(12, dtype=float).reshape(3, 1, 4) / 4, bias=(0.1, 0.0, -0.2))
    X = np.array([[[1, -1, 0.5, 1]]], dtype=np.float32)
    out = MaskDeletion(clf, output="margin", replacement=0.0, n_iter=1, target="B").explain(X)
    z = np.einsum("nlt,clt->nc", X, clf.module_.weight.detach().numpy()) + np.array([0.1, 0.0, -0.2])
    assert np.allclose(out.score, z[:, 1] - np.log(np.exp(z[:, 0]) + np.exp(z[:, 2])), rtol=1e-5)
