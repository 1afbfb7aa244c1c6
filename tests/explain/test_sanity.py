"""Sanity of explanations: ranks against scipy, closed forms, the order of layers, verdicts, what is left as found."""

import copy
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import (
    GradCAM1D,
    InputXGradient,
    Saliency,
    ShapExplainer,
    explainer_agreement,
    label_randomisation,
    seed_consistency,
    weight_randomisation,
)
from skecg.explain._randomise import RandomisedNetwork, reinitialise
from skecg.explain._rank_correlation import both_ranks, correlate, mean_known
from skecg.models import ECGNet
from skecg.preprocessing import ECGScaler
from tests.explaining import around
from tests.tiny import FAST, LinearNet, TinyNet, same_snapshot, snapshot, toy_ecg


class AbsoluteInput(Saliency):
    """A control that ignores the network."""

    def _relevance(self, x, gradient):
        return x.abs()


class Watched(Saliency):
    """Keeps the parameters and batch norm statistics of each network that it explains; fails at the third one."""

    seen: list = []  # noqa: RUF012 - of the class, since copies of the explainer are what is run
    fails = False

    def _context(self, net, classifier):
        self.seen.append({k: v.clone() for k, v in net.state_dict().items()})
        if self.fails and len(self.seen) == 3:
            raise RuntimeError("midway")
        return super()._context(net, classifier)


class Reversed(nn.Linear):
    """A layer whose new weights are known: the old ones backwards."""

    def reset_parameters(self):
        with torch.no_grad():
            self.weight.copy_(self.weight.flip(1))


class Scaled(nn.Module):
    """A gain of each sample, then a dense layer: the gradient is the product of the two."""

    def __init__(self, gain, weight):
        super().__init__()
        self.gain = nn.Conv1d(1, 1, 1, bias=False)
        self.gain.weight.data.fill_(gain)
        self.head = Reversed(weight.shape[1], weight.shape[0], bias=False)
        self.head.weight.data = torch.as_tensor(weight, dtype=torch.float32)

    def forward(self, x):
        return self.head(self.gain(x).flatten(1))


@pytest.fixture
def watched():
    Watched.seen.clear()
    Watched.fails = False
    yield Watched
    Watched.seen.clear()
    Watched.fails = False


@pytest.fixture(scope="module")
def toy():
    X, y, *_ = toy_ecg()
    return X, y, ECGClassifier(TinyNet, **FAST).fit(X, y)


# ------------------------------------------------------------------------------------------------------------- ranks


def test_rank_correlation_is_scipys_with_ties_and_signs(rng):
    a, b = rng.integers(-3, 4, (2, 7, 2, 15)).astype(np.float32)
    for part, change in ((0, np.array), (1, np.abs)):
        got = correlate(both_ranks(a), both_ranks(b))[part]
        want = [spearmanr(change(p).ravel(), change(q).ravel()).statistic for p, q in zip(a, b, strict=True)]
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_rank_correlation_of_many_values_in_parts(rng, monkeypatch):
    monkeypatch.setattr("skecg.explain._rank_correlation._CELLS", 3 * 5000)
    a, b = rng.standard_normal((2, 8, 5000)).astype(np.float32)
    want = [spearmanr(p, q).statistic for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(correlate(both_ranks(a), both_ranks(b))[0], want, atol=1e-6)


def test_constant_and_infinite_maps_have_no_ranks(rng):
    maps = rng.standard_normal((5, 9))
    maps[0], maps[1, 2], maps[2, 3], maps[3] = 0, np.nan, np.inf, np.where(np.arange(9) % 2, 1.0, -1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranks = both_ranks(maps)
    assert np.isnan(ranks).all(-1).tolist() == [[True, True, True, False, False], [True, True, True, True, False]]
    assert mean_known(np.array([[1.0, np.nan, 0.0], [np.nan] * 3])).tolist()[0] == 0.5
    assert np.isnan(mean_known(np.full((1, 3), np.nan))).all()


# ------------------------------------------------------------------------------------------------------------ layers


@pytest.mark.parametrize("lstm", [0, 3])
def test_layers_go_from_head_to_stem_with_their_norms(seeded, lstm):
    net = RandomisedNetwork(TinyNet(2, 40, 3, lstm=lstm), np.zeros((3, 2, 40), np.float32), "cpu")
    want = [("head",), ("lstm",), ("features.4", "features.5"), ("features.0", "features.1")]
    assert [layer.modules for layer in net.layers] == [one for one in want if lstm or one != ("lstm",)]
    assert [layer.name for layer in net.layers] == [one[0] for one in want if lstm or one != ("lstm",)]


def test_layers_of_ecgnet_are_all_of_its_parameters_once(seeded):
    module = ECGNet(n_timesteps=256, n_outputs=2, width=1)
    net = RandomisedNetwork(module, np.zeros((2, 1, 256), np.float32), "cpu")
    names = [layer.name for layer in net.layers]
    assert names[:4] == ["fc3", "fc2", "fc1", "lstm.lstm"] and names[-1] == "cnn.stem.0"
    owners = [name for name, part in module.named_modules() if list(part.parameters(recurse=False))]
    assert sorted(name for layer in net.layers for name in layer.modules) == sorted(owners)
    norms = sum(isinstance(part, nn.BatchNorm1d) for part in module.modules())
    assert len(names) == len(owners) - norms


class Odd(nn.Module):
    """A norm before any weights, attention that uses a layer without a call, a weight norm, a shared layer."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.shared = nn.Conv1d(4, 4, 1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 1))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        h = self.shared(self.norm(x)).transpose(1, 2)
        h = self.attention(h, h, h)[0].transpose(1, 2)
        return self.head(self.shared(self.normed(h)).mean(-1))


def test_odd_networks_have_all_their_weights_randomised(seeded):
    module = Odd()
    net = RandomisedNetwork(module, np.random.default_rng(0).standard_normal((6, 4, 9)).astype(np.float32), "cpu")
    assert [layer.name for layer in net.layers] == ["head", "shared", "normed", "attention"]
    assert net.layers[3].modules == ("norm", "attention", "attention.out_proj")
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    net.randomise(range(len(net.layers)), np.arange(len(net.layers)))
    same = {name for name, value in module.named_parameters() if torch.equal(value, before[name])}
    # ones and zeros are what their reset gives
    assert same <= {"norm.weight", "norm.bias", "attention.in_proj_bias", "attention.out_proj.bias"}


def test_parameters_without_a_reset_keep_their_scale():
    net = LinearNet(np.full((2, 1, 4000), 3.0), [0.0, 0.0])
    reinitialise(net.modules(), 1, "cpu")
    weight = net.weight.detach().numpy()
    assert np.sqrt((weight**2).mean()) == pytest.approx(3, rel=0.05) and abs(weight.mean()) < 0.2
    assert not net.bias.any()


# ----------------------------------------------------------------------------------------------------------- weights


def test_a_linear_network_in_closed_form(rng, seeded):
    weight = np.stack([np.arange(1.0, 10.0), [2, 9, 4, 1, 8, 6, 3, 7, 5]])
    X = rng.standard_normal((6, 9)).astype(np.float32)
    clf = around(Scaled(2.0, weight), 9)
    target = np.array(["A", "B"] * 3)
    got = weight_randomisation(Saliency(clf), X, target=target, mode="independent", n_draws=2, random_state=0)
    assert got.depths == ["head", "gain"] and got.modules == [("head",), ("gain",)]
    # Spearman's formula for ranks without ties: 1 - 6 sum d^2 / (n (n^2 - 1)), with the ranks backwards
    want = 1 - 6 * ((weight - weight[:, ::-1]) ** 2).sum(1) / (9 * 80)
    np.testing.assert_allclose(got.signed[0], np.tile(want, 3), atol=1e-6)
    np.testing.assert_allclose(got.absolute[1], 1, atol=1e-6)  # a gain changes no absolute gradient's order
    assert want[0] == -1 and got.mean_signed[0] == pytest.approx(want.mean())
    # both wholly random networks have the same head up to a gain
    np.testing.assert_allclose(got.floor_absolute, 1, atol=1e-6)
    np.testing.assert_allclose(got.final_absolute, np.tile(want, (2, 3)), atol=1e-6)
    assert got.excess_absolute == pytest.approx(want.mean() - 1) and got.passes
    signed = weight_randomisation(
        Saliency(clf, absolute=False), X, target="A", depths=1, n_draws=3, random_state=0
    )  # the gain may be drawn negative, so the signed map is the reversed one or its opposite
    np.testing.assert_allclose(np.abs(signed.final_signed), 1, atol=1e-6)
    np.testing.assert_allclose(signed.final_absolute, -1, atol=1e-6)


def test_what_ignores_the_network_fails(toy):
    X, _, clf = toy
    got = weight_randomisation(AbsoluteInput(clf), X[:8], n_draws=2, random_state=0)
    np.testing.assert_allclose(got.signed, 1, atol=1e-6)
    np.testing.assert_allclose(got.floor_absolute, 1, atol=1e-6)
    assert got.excess_absolute == pytest.approx(0, abs=1e-6) and not got.passes  # its floor is as high
    assert weight_randomisation(AbsoluteInput(clf), X[:8], n_draws=2, ceiling=1).passes


def test_gradients_come_down_to_the_floor(toy):
    X, _, clf = toy
    got = weight_randomisation(Saliency(clf), X[:30], random_state=0)
    assert got.depths == ["head", "features.4", "features.0"]
    assert got.signed.shape == (3, 30) and got.floor_signed.shape == (10, 30) and got.final_signed.shape == (5, 30)
    assert got.mean_absolute[0] > 0.3 and got.mean_absolute[-1] < 0.15 and got.passes
    np.testing.assert_allclose(got.signed[-1], got.final_signed.mean(0))
    assert got.excess_absolute == pytest.approx(got.final_absolute.mean() - got.floor_absolute.mean())
    assert 0 < got.excess_absolute_error < 0.1
    assert np.array_equal(got.target, clf.predict(X[:30])) and got.relevance_kind == "positive"
    again = weight_randomisation(Saliency(clf), X[:30], random_state=0)
    assert np.array_equal(again.signed, got.signed) and np.array_equal(again.floor_signed, got.floor_signed)
    other = weight_randomisation(Saliency(clf), X[:30], random_state=1)
    assert not np.array_equal(other.signed, got.signed)
    fewer = weight_randomisation(Saliency(clf), X[:30], depths=2, random_state=0)
    assert fewer.depths == ["features.4", "features.0"]
    assert np.array_equal(fewer.signed, got.signed[1:]) and np.array_equal(fewer.floor_signed, got.floor_signed)
    alone = weight_randomisation(Saliency(clf), X[:30], mode="independent", random_state=0)
    assert np.array_equal(alone.final_signed, got.final_signed) and np.array_equal(alone.signed[0], got.signed[0])


def test_the_error_is_the_jackknife_over_networks(toy):
    X, _, clf = toy
    got = weight_randomisation(Saliency(clf), X[:9], n_draws=3, depths=1, random_state=0)
    a, b, c = got.final_absolute.mean(1)
    ab, ac, bc = got.floor_absolute.mean(1)
    left = np.array([(b + c) / 2 - bc, (a + c) / 2 - ac, (a + b) / 2 - ab])
    assert got.excess_absolute_error == pytest.approx(np.sqrt(2 / 3 * ((left - left.mean()) ** 2).sum()))
    assert np.isnan(weight_randomisation(Saliency(clf), X[:9], n_draws=2, depths=1).excess_signed_error)


def test_each_depth_changes_its_layers_and_what_follows_them(watched, toy):
    X, _, clf = toy
    weight_randomisation(watched(clf), X[:20], n_draws=2, random_state=0)
    trained, *steps = watched.seen
    assert len(steps) == 6
    want = [{"head.weight", "head.bias"}]
    for conv, norm in ((4, 5), (0, 1)):
        parts = {f"features.{conv}.{part}" for part in ("weight", "bias")}
        parts |= {f"features.{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")}
        want.append(want[-1] | parts)
    counts = {name for name in trained if name.endswith("num_batches_tracked")}
    for k, state in enumerate(steps):
        assert {n for n in trained if not torch.equal(state[n], trained[n])} - counts == want[k % 3]
    assert not torch.equal(steps[0]["head.weight"], steps[3]["head.weight"])
    # alone, a stem keeps what follows, but for the statistics of what it now sends there
    watched.seen.clear()
    weight_randomisation(watched(clf), X[:20], mode="independent", n_draws=2, random_state=0)
    changed = {n for n in trained if not torch.equal(watched.seen[3][n], trained[n])} - counts
    assert changed == (want[2] - want[1]) | {"features.5.running_mean", "features.5.running_var"}
    assert torch.equal(watched.seen[3]["features.0.weight"], steps[2]["features.0.weight"])


def test_statistics_are_those_of_the_maps(toy):
    X, _, clf = toy
    module = copy.deepcopy(clf.module_)
    momentum = module.features[1].momentum
    data = X[:70]
    net = RandomisedNetwork(module, data, "cpu")
    net.randomise(range(3), np.arange(3))
    with torch.no_grad():
        maps = module.features[0](torch.from_numpy(data))
    np.testing.assert_allclose(module.features[1].running_mean, maps.mean((0, 2)), atol=1e-6)
    np.testing.assert_allclose(module.features[1].running_var, maps.var((0, 2)), rtol=1e-4)
    assert module.features[1].momentum == momentum and not module.training


@pytest.mark.parametrize("n", [1, 2, 129])
def test_any_number_of_windows(toy, n):
    X, _, clf = toy
    X = np.concatenate([X, X])[:n]
    got = weight_randomisation(InputXGradient(clf, batch_size=7), X, depths=1, n_draws=2, random_state=0)
    assert got.signed.shape == (1, n) and np.isfinite(got.signed).all()


@pytest.mark.parametrize(("wrapped", "fails"), [(False, True), (True, False)])
def test_nothing_of_the_users_is_changed(watched, toy, wrapped, fails):
    X, y, _ = toy
    watched.fails = fails
    clf = ECGClassifier(TinyNet, **{**FAST, "max_epochs": 1}, module__lstm=2).fit(X, y)
    clf.module_.train()
    estimator = make_pipeline(FrozenEstimator(ECGScaler().fit(X)), FrozenEstimator(clf)) if wrapped else clf
    explainer = watched(estimator, verbose=0)
    before, params, data = snapshot(clf.module_), explainer.get_params(), X[:6].copy()
    drawn = torch.get_rng_state()
    rng = np.random.RandomState(3)
    calls = (
        lambda: weight_randomisation(explainer, data, n_draws=2, random_state=rng),
        lambda: label_randomisation(explainer, X, y, X_eval=data, max_epochs=1, random_state=1),
        lambda: seed_consistency(explainer, data, estimators=[estimator, estimator, estimator]),
        lambda: explainer_agreement(dict.fromkeys("abc", explainer), data),
    )
    for call in calls:
        watched.seen.clear()
        if fails:
            with pytest.raises(RuntimeError, match="midway"):
                call()
        else:
            call()
        assert same_snapshot(before, snapshot(clf.module_))
        assert explainer.get_params() == params and explainer.estimator is estimator
        assert np.array_equal(data, X[:6]) and torch.equal(drawn, torch.get_rng_state())


def test_generators_of_the_explainer_are_left_as_found(toy):
    X, _, clf = toy
    own = np.random.RandomState(5)
    explainer = ShapExplainer(clf, background=0.0, n_samples=4, tol=100.0, random_state=own)
    before = own.get_state()[1].copy()
    weight_randomisation(explainer, X[:3], depths=1, n_draws=2)
    explainer_agreement({"a": explainer, "b": Saliency(clf)}, X[:3])
    seed_consistency(explainer, X[:3], estimators=[clf, clf])
    assert np.array_equal(own.get_state()[1], before)


def test_under_inference_mode(toy):
    X, _, clf = toy
    want = weight_randomisation(Saliency(clf), X[:4], depths=1, n_draws=2, random_state=0)
    with torch.inference_mode():
        got = weight_randomisation(Saliency(clf), X[:4], depths=1, n_draws=2, random_state=0)
    assert np.array_equal(got.signed, want.signed)


def test_pipelines_and_leads(toy):
    X, y, _, _ = toy_ecg(60, n_leads=3)
    scaler = ECGScaler().fit(X)
    clf = ECGClassifier(TinyNet, **FAST).fit(scaler.transform(X), y)
    cam, settings = {"method": "gradcam", "relu": False}, {"n_draws": 2, "random_state": 0}
    direct = weight_randomisation(GradCAM1D(clf, **cam), scaler.transform(X[:9]), **settings)
    pipe = make_pipeline(scaler, FrozenEstimator(clf))
    got = weight_randomisation(GradCAM1D(FrozenEstimator(pipe), **cam), X[:9], **settings)
    assert np.array_equal(got.signed, direct.signed) and got.relevance_kind == "cam"
    one = GradCAM1D(clf, **cam).explain(scaler.transform(X[:9])).relevance
    ranks = both_ranks(one)[0], both_ranks(one[::-1])[0]
    over_time = both_ranks(one[:, 0])[0], both_ranks(one[::-1, 0])[0]
    np.testing.assert_allclose(correlate(*ranks), correlate(*over_time), atol=1e-6)


def test_missing_correlations_are_counted_and_warned_about(toy):
    X, _, clf = toy
    X = X[:20].copy()
    X[:3] = 0  # input x gradient is zero there
    with pytest.warns(UserWarning, match=r"weight_randomisation: 21 of 140 correlations are missing"):
        got = weight_randomisation(InputXGradient(clf), X, n_draws=2, random_state=0)
    assert got.n_constant.tolist() == [6, 6, 6] and got.n_constant_floor == 3
    assert np.isnan(got.signed[:, :3]).all() and np.isfinite(got.signed[:, 3:]).all()
    np.testing.assert_allclose(got.mean_signed, got.signed[:, 3:].mean(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weight_randomisation(InputXGradient(clf), X[2:], n_draws=2, random_state=0)
    with pytest.warns(UserWarning, match="missing"):
        assert not weight_randomisation(InputXGradient(clf), X[:2], n_draws=2).passes


# ------------------------------------------------------------------------------------------------------------ labels


def test_labels_are_permuted_and_learned_from_other_weights(watched, toy):
    X, y, clf = toy
    got = label_randomisation(watched(clf), X, y, X_eval=X[:10], n_draws=2, random_state=0)
    assert got.signed.shape == (2, 10) and got.floor_signed.shape == (1, 10)
    assert got.train_score == clf.score(X, y) > 0.9
    assert got.chance == pytest.approx(1 / 3) and (got.permuted_score < 0.6).all()
    others = watched.seen[1:]
    assert len(others) == 2 and not torch.equal(others[0]["head.weight"], others[1]["head.weight"])
    assert np.array_equal(got.target, clf.predict(X[:10]))
    again = label_randomisation(Saliency(clf), X, y, X_eval=X[:10], n_draws=2, random_state=0)
    assert np.array_equal(again.signed, got.signed)
    control = label_randomisation(AbsoluteInput(clf), X, y, n_draws=2, max_epochs=1)
    np.testing.assert_allclose(control.signed, 1, atol=1e-6)


def test_a_network_that_came_as_an_instance_does_not_start_from_what_it_learned(watched, toy):
    X, y, clf = toy
    given = ECGClassifier.from_module(clf.module_, clf.classes_, n_leads=1, n_timesteps=120)
    given.set_params(max_epochs=1, lr=1e-9)
    got = label_randomisation(watched(given), X, y, X_eval=X[:5], n_draws=2, random_state=0)
    trained, *others = watched.seen
    for state in others:  # it would still be the trained one after so small a step
        assert (state["head.weight"] - trained["head.weight"]).abs().max() > 0.1
    assert (got.permuted_score < 0.6).all()


def test_several_labels_and_no_files(tmp_path, toy):
    X, y, _ = toy
    Y = np.stack([y == "PVC", y != "N"], axis=1).astype(int)
    clf = ECGClassifier(
        TinyNet, labels=["V", "abnormal"], checkpoint_dir=tmp_path / "a", early_stopping=True, **FAST
    ).fit(X, Y)
    files = sorted(p.name for p in tmp_path.rglob("*"))
    got = label_randomisation(Saliency(clf), X, Y, X_eval=X[:4], n_draws=2, max_epochs=1, random_state=0)
    assert set(got.target) <= {"V", "abnormal"} and got.chance == pytest.approx(1 / 3)
    assert sorted(p.name for p in tmp_path.rglob("*")) == files
    with pytest.raises(ValueError, match=r"y must be \(n_samples, 2\).*\['V', 'abnormal'\]"):
        label_randomisation(Saliency(clf), X, y)


# --------------------------------------------------------------------------------------------------- seeds, explainers


def test_seeds_are_compared_pair_by_pair(toy):
    X, y, _ = toy
    nets = [ECGClassifier(TinyNet, **{**FAST, "random_state": s}).fit(X, y) for s in range(3)]
    X, y = X[:12], y[:12]
    got = seed_consistency(Saliency(None), X, estimators=nets, target=y)
    assert got.pairs == [(0, 1), (0, 2), (1, 2)] and np.array_equal(got.target, y)
    maps = [Saliency(net).explain(X, target=y).relevance for net in nets]
    for row, (i, j) in zip(got.signed, got.pairs, strict=True):
        want = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(maps[i], maps[j], strict=True)]
        np.testing.assert_allclose(row, want, atol=1e-6)
    assert np.array_equal(got.agreed, np.all([net.predict(X) == y for net in nets], axis=0))
    predicted = seed_consistency(Saliency(nets[1]), X, estimators=[nets[2], nets[0]])
    assert np.array_equal(predicted.target, nets[2].predict(X))
    same = seed_consistency(Saliency(None), X, estimators=[nets[0], FrozenEstimator(nets[0])])
    np.testing.assert_allclose(same.signed, 1, atol=1e-6)


def test_what_an_explainer_was_fitted_to_goes_with_it(toy):
    X, _, clf = toy
    explainer = ShapExplainer(clf, n_samples=4, tol=100.0, random_state=0).fit(X[:20])
    got = seed_consistency(explainer, X[:4], estimators=[clf, clf])
    np.testing.assert_allclose(got.signed, 1, atol=1e-6)


def test_agreement_of_linear_explanations(rng):
    weight = rng.standard_normal((2, 1, 30))
    clf = around(LinearNet(weight, [0.0, 0.0]), 30)
    X = rng.standard_normal((4, 1, 30)).astype(np.float32)
    explainers = {"gradient": Saliency(clf, absolute=False), "size": Saliency(clf), "product": InputXGradient(clf)}
    got = explainer_agreement(explainers, X, target="B")
    assert got.names == list(explainers) and got.relevance_kind == ["signed", "positive", "signed"]
    w = weight[1, 0]
    maps = [[w] * 4, [np.abs(w)] * 4, list(X[:, 0] * w)]
    for i in range(3):
        for j in range(3):
            for n in range(4):
                want = spearmanr(maps[i][n], maps[j][n]).statistic
                assert got.signed[i, j, n] == pytest.approx(want, abs=1e-6)
                assert got.absolute[i, j, n] == pytest.approx(
                    spearmanr(np.abs(maps[i][n]), np.abs(maps[j][n])).statistic, abs=1e-6
                )
    np.testing.assert_allclose(got.mean_signed, got.signed.mean(-1))
    assert np.array_equal(got.target, ["B"] * 4) and np.array_equal(got.agreed, clf.predict(X) == "B")
    assert not got.n_constant.any()


# --------------------------------------------------------------------------------------------------------- bad input


def test_bad_input_is_named(toy):
    X, y, clf = toy
    explainer = Saliency(clf)
    for function in (weight_randomisation, lambda e, x: label_randomisation(e, x, y)):
        with pytest.raises(TypeError, match=r"explainer must be one of skecg.explain's; got a ECGClassifier"):
            function(clf, X)
        with pytest.raises(NotFittedError):
            function(Saliency(ECGClassifier(TinyNet)), X)
    with pytest.raises(ValueError, match="mode must be one of 'cascading', 'independent'; got 'upwards'"):
        weight_randomisation(explainer, X, mode="upwards")
    for depths in (0, 1.5, "some", None):
        with pytest.raises(ValueError, match="depths must be an integer at least 1"):
            weight_randomisation(explainer, X, depths=depths)
    with pytest.raises(ValueError, match="n_draws must be an integer at least 2; got 1"):
        weight_randomisation(explainer, X, n_draws=1)
    with pytest.raises(ValueError, match="tolerance"):
        weight_randomisation(explainer, X, tolerance=-1)
    with pytest.raises(ValueError, match="not among the classes"):
        weight_randomisation(explainer, X, target="Z")
    with pytest.raises(ValueError, match="inconsistent"):
        label_randomisation(explainer, X, y[1:])
    with pytest.raises(ValueError, match=r"of all its classes \['N', 'PAC', 'PVC'\]; got \['N', 'PVC'\]"):
        label_randomisation(explainer, X[y != "PAC"], y[y != "PAC"])
    with pytest.raises(ValueError, match="max_epochs"):
        label_randomisation(explainer, X, y, max_epochs=0)
    with pytest.raises(ValueError, match="estimators must be at least two"):
        seed_consistency(explainer, X, estimators=[clf])
    with pytest.raises(ValueError, match="estimators must be at least two"):
        seed_consistency(explainer, X, estimators=clf)
    with pytest.raises(TypeError, match="estimator must be an ECGClassifier"):
        seed_consistency(explainer, X, estimators=[clf, ECGScaler().fit(X)])
    with pytest.raises(TypeError, match="mapping"):
        explainer_agreement([explainer, explainer], X)
    with pytest.raises(TypeError, match=r"one of skecg\.explain's"):
        explainer_agreement({"a": explainer, "b": clf}, X)
    with pytest.raises(ValueError, match=r"at least two; got \['a'\]"):
        explainer_agreement({"a": explainer}, X)
