"""What is promised of scores of explanations: fair ties and chance, deletion curves, intervals, sanity of maps."""

from __future__ import annotations

import itertools
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import bootstrap
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils import Bunch
from torch import nn

from skecg import (
    ECGClassifier,
    GradCAM1D,
    InputXGradient,
    IntegratedGradients,
    Occlusion,
    PerturbationScorer,
    RelevanceScorer,
    Saliency,
    SanityDisplay,
)
from skecg.explain import explainer_agreement, label_randomisation, seed_consistency, weight_randomisation
from skecg.metrics import (
    bootstrap_score,
    centre_prior,
    chance_level,
    completeness_score,
    perturbation_curves,
    pointing_game_score,
    relevance_auc_score,
    relevance_average_precision_score,
    relevance_mass_score,
    relevance_rank_score,
)
from tests.tiny import FAST, LABELS, LinearNet, TinyNet, same_snapshot, snapshot, toy_ecg

FS = 100.0
SCORES = {
    "pointing": pointing_game_score,
    "mass": relevance_mass_score,
    "rank": relevance_rank_score,
    "auc": relevance_auc_score,
    "precision": relevance_average_precision_score,
}
ORDER = ("pointing", "rank", "auc", "precision")  # read the order alone
TRUTHS = np.array([[0, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0, 0, 1]])


class Stages(nn.Module):
    """A network with three stages, as users write them; each ReLU is called once."""

    cam_layer = "deep"

    def __init__(self, n_leads, n_timesteps, n_outputs):
        super().__init__()
        sizes = (n_leads, 6, 8, 8)
        self.fine, self.middle, self.deep = (
            nn.Sequential(nn.Conv1d(a, b, 7, stride=2, padding=3), nn.BatchNorm1d(b), nn.ReLU())
            for a, b in itertools.pairwise(sizes)
        )
        self.head = nn.Linear(8, n_outputs)

    def forward(self, x):
        return self.head(self.deep(self.middle(self.fine(x))).mean(-1))


class Linear(ClassifierMixin, BaseEstimator):
    """Two classes, the logit of the second a weighted sum of the samples of all leads."""

    def __init__(self, weight=None):
        self.weight = weight
        self.classes_ = np.array(["no", "yes"])

    def fit(self, X, y=None):
        return self

    def decision_function(self, X):
        return np.asarray(X, dtype=float).reshape(len(X), -1) @ np.ravel(self.weight)

    def predict_proba(self, X):
        p = expit(self.decision_function(X))
        return np.column_stack([1 - p, p])

    def predict(self, X):
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


@pytest.fixture(scope="module")
def toy():
    X, y, groups, truth = toy_ecg(n=90)
    return Bunch(data=X, target=y, groups=groups, truth=truth)


@pytest.fixture(scope="module")
def clf(toy):
    settings = {"lr": 0.01, "max_epochs": 8, "batch_size": 16, "random_state": 0, "fs": FS, "device": "cpu"}
    return ECGClassifier(Stages, **settings).fit(toy.data, toy.target)


def one(metric, truth, relevance):
    return metric(np.atleast_2d(truth), np.atleast_2d(relevance))


@pytest.mark.parametrize("name", list(SCORES))
@pytest.mark.parametrize("relevance", [0.0, 2.5, -1.0])
def test_relevance_that_is_equal_everywhere_scores_chance(name, relevance):
    score = SCORES[name](TRUTHS, np.full(TRUTHS.shape, relevance), average=False)
    chance = [0.5] * 3 if name == "auc" else [0.25, 0.875, 0.125]
    np.testing.assert_allclose(score, chance)
    if name != "auc":
        np.testing.assert_allclose(score, chance_level(TRUTHS, average=False))
    leads = np.full((3, 12, 8), relevance)  # and on twelve leads
    np.testing.assert_allclose(SCORES[name](np.repeat(TRUTHS[:, None], 12, axis=1), leads, average=False), chance)


@pytest.mark.parametrize("name", list(SCORES))
def test_random_relevance_scores_about_chance(name, rng):
    truth = np.zeros((2000, 50), dtype=int)
    truth[:, 10:20] = 1
    score = SCORES[name](truth, rng.uniform(size=truth.shape), average=False)
    # average precision of a random order of 50 with 10 true ones, (K - 1) / (N - 1) + (1 - that) H_N / N
    precision = 9 / 49 + 40 / 49 * np.mean(1 / np.arange(1, 51))
    chance = {"auc": 0.5, "precision": precision}.get(name, 0.2)
    assert abs(score.mean() - chance) < 5 * score.std() / np.sqrt(len(score))


@pytest.mark.parametrize("name", list(SCORES))
def test_ties_are_fair(name):
    relevance = np.array([3, 2, 2, 2, 1, 1, 0, 0])
    truth = np.array([0, 1, 0, 0, 1, 0, 0, 1])
    expected = one(SCORES[name], truth, relevance)
    groups = [np.flatnonzero(relevance == v) for v in np.unique(relevance)]
    orders = [np.concatenate(o) for o in itertools.product(*map(itertools.permutations, groups))]
    where = np.concatenate(groups)
    broken = []
    for order in orders:  # which of the equal samples are the truth does not matter
        moved, jitter = np.empty(8, dtype=int), np.empty(8)
        moved[where], jitter[order.astype(int)] = truth[order.astype(int)], np.arange(8)
        assert one(SCORES[name], moved, relevance) == pytest.approx(expected)
        broken.append(one(SCORES[name], truth, relevance + jitter / 100))
    if name in ("rank", "auc"):  # the mean over all ways to break the ties
        assert np.mean(broken) == pytest.approx(expected)
    assert np.ptp(broken) > 0 or name == "pointing"


def test_a_shared_maximum_points_with_its_share():
    assert one(pointing_game_score, [0, 1, 0, 1, 0], [0, 5, 5, 5, 5]) == 0.5
    truth = np.zeros((1, 12, 4), dtype=int)
    truth[0, :3, 2] = 1  # the evidence is on three of twelve leads
    assert pointing_game_score(truth, np.tile([0.0, 0.1, 0.9, 0.2], (1, 12, 1))) == 0.25


@pytest.mark.parametrize("name", list(SCORES))
def test_an_empty_truth_is_left_out_and_a_full_one_is_chance(name):
    truth, relevance = [[0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]], np.tile([0.1, 0.9, 0.2, 0.0], (3, 1))
    score = SCORES[name](truth, relevance, average=False)
    assert np.isnan(score[0]) and score[1] == pytest.approx(0.75 if name == "mass" else 1)
    assert np.isnan(score[2]) if name == "auc" else score[2] == 1
    assert SCORES[name](truth, relevance) == pytest.approx(np.nanmean(score))
    with pytest.raises(ValueError, match="truth"):
        SCORES[name](truth[:1], relevance[:1])


def test_only_mass_can_be_bought_by_sharpening(rng):
    relevance, truth = rng.gamma(1, size=(40, 30)), rng.uniform(size=(40, 30)) < 0.3
    truth[np.arange(40), relevance.argmax(1)] = True
    for sharper in (relevance**4, np.expm1(relevance), 7 * relevance):
        for name in ORDER:
            np.testing.assert_allclose(SCORES[name](truth, sharper), SCORES[name](truth, relevance), rtol=1e-12)
    mass = relevance_mass_score(truth, relevance)
    assert relevance_mass_score(truth, relevance**4) > mass + 0.1
    assert relevance_mass_score(truth, 7 * relevance) == pytest.approx(mass)


def test_auc_and_precision_are_scikit_learns_and_rank_is_counted(rng):
    truth, relevance = rng.uniform(size=(20, 2, 30)) < 0.3, rng.integers(-3, 9, (20, 2, 30))
    auc, precision = (SCORES[k](truth, relevance, average=False) for k in ("auc", "precision"))
    for i in range(20):
        assert auc[i] == pytest.approx(roc_auc_score(truth[i].ravel(), relevance[i].ravel()))
        assert precision[i] == pytest.approx(average_precision_score(truth[i].ravel(), relevance[i].ravel()))
    distinct = rng.permuted(np.tile(np.arange(60.0), (20, 1)), axis=1)
    rank, truth = relevance_rank_score(truth.reshape(20, 60), distinct, average=False), truth.reshape(20, 60)
    for i in range(20):
        k = truth[i].sum()
        assert rank[i] == pytest.approx(truth[i, np.argsort(-distinct[i])[:k]].mean())


@pytest.mark.parametrize("name", list(SCORES))
def test_padding_and_weights_count_as_they_say(name, rng):
    truth, relevance = rng.uniform(size=(6, 20)) < 0.4, rng.normal(size=(6, 20))
    truth[:, 0], truth[:, 1] = True, False
    valid = np.arange(20) < 15
    cut = SCORES[name](truth[:, :15], relevance[:, :15], average=False)
    relevance[:, 15:] = 99.0  # what lies in the padded tail is not looked at
    np.testing.assert_allclose(SCORES[name](truth, relevance, valid=np.tile(valid, (6, 1)), average=False), cut)
    weights = np.array([1, 0, 3, 0, 0, 2])
    weighed = SCORES[name](truth[:, :15], relevance[:, :15], sample_weight=weights)
    assert weighed == pytest.approx(np.average(cut, weights=weights))
    bad = relevance.copy()
    bad[2, 3] = np.nan
    for args in ((truth, bad), (truth[:3], relevance), (truth * 0.5, relevance)):
        with pytest.raises(ValueError):
            SCORES[name](*args)


def test_the_centre_prior_wins_on_centred_windows_alone(rng):
    centred, anywhere = np.zeros((2, 200, 1, 100), dtype=bool)
    centred[:, :, 45:55] = True
    for row, at in zip(anywhere, rng.integers(0, 90, 200), strict=True):
        row[0, at : at + 10] = True
    prior = centre_prior((200, 1, 100))
    assert pointing_game_score(centred, prior) == 1 and relevance_auc_score(centred, prior) > 0.99
    assert abs(pointing_game_score(anywhere, prior) - chance_level(anywhere)) < 0.07


def test_completeness_is_the_share_that_does_not_add_up(rng):
    assert completeness_score([[1.0, 1.0], [3.0, 0.0]], [4.0, 5.0], [0.0, 1.0]) == pytest.approx((0.5 + 0.25) / 2)
    X = toy_ecg(n=6, n_timesteps=30)[0]
    net = LinearNet(rng.normal(size=(3, 1, 30)), [1.0, 2.0, 3.0])
    linear = ECGClassifier.from_module(net, LABELS[:3], n_leads=1, n_timesteps=30, fs=FS)
    result = InputXGradient(linear).explain(X, target="PVC")
    assert completeness_score(result.relevance, result.score, np.full(6, 2.0)) < 1e-4
    assert completeness_score(2 * result.relevance, result.score, np.full(6, 2.0)) == pytest.approx(1, abs=1e-4)


def test_a_search_over_methods_by_a_truth_is_what_is_computed_by_hand(toy, clf):
    methods = ["gradcam", "hirescam", "stagecam"]
    metrics = {**SCORES, "chance": chance_level}
    search = GridSearchCV(
        GradCAM1D(FrozenEstimator(clf), smooth=0.1), {"method": methods}, scoring=RelevanceScorer(metrics),
        refit="precision", cv=3,
    ).fit(toy.data, toy.truth)  # fmt: skip
    folds = np.array_split(np.arange(90), 3)
    for i, method in enumerate(methods):
        relevance = GradCAM1D(clf, method=method, smooth=0.1).transform(toy.data)
        for name, metric in metrics.items():
            expected = np.mean([metric(toy.truth[fold], relevance[fold]) for fold in folds])
            assert search.cv_results_[f"mean_test_{name}"][i] == pytest.approx(expected, rel=1e-3)
    best = np.argmax(search.cv_results_["mean_test_precision"])
    assert search.best_params_ == {"method": methods[best]}
    assert search.best_estimator_.transform(toy.data[:3]).shape == (3, 1, 120)


def test_the_default_cam_localises_what_was_planted(toy, clf):
    assert clf.score(toy.data, toy.target) > 0.9  # else there is nothing to explain
    relevance = GradCAM1D(clf).transform(toy.data)
    assert pointing_game_score(toy.truth, relevance) > 0.9
    precision = relevance_average_precision_score(toy.truth, relevance)
    assert precision > 3 * chance_level(toy.truth)
    assert precision > relevance_average_precision_score(toy.truth, centre_prior(toy.data.shape)) + 0.2
    plain = GradCAM1D(clf, method="gradcam").transform(toy.data)  # of the last stage alone
    assert precision > relevance_average_precision_score(toy.truth, plain) + 0.05


def test_explainers_are_scored_without_a_truth(toy, clf):
    scorer = PerturbationScorer(replacement="isoelectric", n_points=6, leads="together")
    x = toy.data[:30]
    found = scorer(Occlusion(clf, window=0.2), x)
    curves = perturbation_curves(
        clf, x, Occlusion(clf, window=0.2).transform(x), replacement="isoelectric", n_points=6, leads="together"
    )
    assert found == pytest.approx(curves.degradation.mean(), abs=0.02)  # equal but for the order of ties
    assert found > 0.05


@pytest.fixture
def linear(rng):
    """Windows of one second, a linear classifier and its exact relevance for "yes"."""
    weight, X = rng.normal(size=100), rng.normal(size=(30, 100))
    return Linear(0.3 * weight), X, 0.3 * weight * X


OTHER = np.linspace(-1, 1, 100)
REPLACEMENTS = {"bridge": "bridge", "isoelectric": "isoelectric", "zero": 0.0, "another window": OTHER}


@pytest.mark.parametrize("name", list(REPLACEMENTS))
@pytest.mark.parametrize("curve", ["deletion", "insertion"])
def test_curves_begin_and_end_at_the_window_and_its_replacement(linear, name, curve):
    clf, X, R = linear
    replaced = {
        "bridge": np.repeat(X.mean(1, keepdims=True), 100, axis=1),
        "isoelectric": np.repeat(np.median(X, axis=1, keepdims=True), 100, axis=1),
        "zero": np.zeros_like(X),
        "another window": np.tile(OTHER, (30, 1)),
    }[name]
    before = X.copy(), R.copy()
    result = perturbation_curves(clf, X, R, target="yes", curve=curve, replacement=REPLACEMENTS[name], fs=FS)
    ends = [clf.predict_proba(X)[:, 1], clf.predict_proba(replaced)[:, 1]]
    for order in ("most", "least", "random", "absolute"):
        first, last = ends if curve == "deletion" else ends[::-1]
        np.testing.assert_allclose(result[order][:, 0], first, rtol=1e-6)
        np.testing.assert_allclose(result[order][:, -1], last, rtol=1e-6)
        area = np.trapezoid(result[order], result.fraction, axis=1)
        np.testing.assert_allclose(result[f"area_{order}"], area, rtol=1e-6)
    assert result.fraction[0] == 0 and result.fraction[-1] == 1
    assert result.chunk_length == 2 and result.n_chunks == 50  # 20 ms at 100 Hz
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(R, before[1])


@pytest.mark.parametrize("replacement", ["bridge", "isoelectric", 0.0])
def test_an_oracle_beats_random_order_and_size(linear, replacement):
    clf, X, R = linear
    oracle = perturbation_curves(clf, X, R, target="yes", replacement=replacement, fs=FS, random_state=0)
    most, least, chance, size = (oracle[f"area_{k}"].mean() for k in ("most", "least", "random", "absolute"))
    assert most < chance - 0.05 and most < size - 0.05 and least > chance + 0.05
    np.testing.assert_allclose(oracle.degradation, oracle.area_least - oracle.area_most)
    wrong = perturbation_curves(clf, X, -R, target="yes", replacement=replacement, fs=FS, random_state=0)
    np.testing.assert_allclose(wrong.degradation, -oracle.degradation, atol=1e-9)
    size = perturbation_curves(clf, X, np.abs(X), target="yes", replacement=replacement, fs=FS, random_state=0)
    np.testing.assert_allclose(size.most, oracle.absolute, atol=1e-9)
    given = perturbation_curves(clf, X, R, target="yes", replacement=replacement, fs=FS, curve="insertion")
    assert given.degradation.mean() > 0.05


def test_curves_of_a_linear_classifier_are_sums(linear):
    clf, X, R = linear
    result = perturbation_curves(clf, X, R, target="yes", replacement=0.0, output="logit", n_points=51, fs=FS)
    chunks = R.reshape(30, 50, 2).sum(-1)
    falls = np.sort(chunks, axis=1)[:, ::-1].cumsum(1)
    expected = chunks.sum(1, keepdims=True) - np.hstack([np.zeros((30, 1)), falls])
    np.testing.assert_allclose(result.most, expected, atol=1e-6)


def test_equal_relevance_is_a_random_order_whose_degradation_is_chance(linear):
    clf, X, _ = linear
    clf = Linear(np.where(np.arange(100) < 50, 0.2, -0.2))  # the order of time would be a very special one
    X = np.repeat(np.abs(X), 8, axis=0)
    flat = perturbation_curves(clf, X, np.zeros_like(X), target="yes", replacement=0.0, fs=FS, random_state=0)
    assert abs(flat.degradation.mean()) < 5 * flat.degradation.std() / np.sqrt(len(X))


def test_curves_refuse_what_does_not_fit(linear):
    clf, X, R = linear
    ask = partial(perturbation_curves, clf, fs=FS, target="yes")
    for args, settings in (
        ((X, R[:, :50]), {}), ((X, np.where(R > 1, np.nan, R)), {}), ((X, R), {"chunk": 2.0}),
        ((X, R), {"chunk": 1e-4}), ((X, R), {"target": "maybe"}),
        ((X, R), {"replacement": "noise"}), ((X, R), {"fs": None}),
        ((X, R), {"curve": "both"}),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            ask(*args, **settings)


def test_an_interval_needs_ten_patients(rng):
    values, groups = rng.normal(size=60), np.arange(60) % 10
    whole = bootstrap_score(values, groups)
    assert whole.low < whole.value < whole.high and whole.value == pytest.approx(values.mean())
    few = bootstrap_score(values[groups < 9], groups[groups < 9])
    assert np.isnan(few.low) and np.isnan(few.high) and few.n_groups == 9 and len(few.values_by_group) == 9
    values[:5] = np.nan
    missing = bootstrap_score(values, groups)
    assert missing.n_left_out == 5 and missing.value == pytest.approx(np.nanmean(values))


def test_the_interval_is_scipys_where_each_patient_has_one_window(rng):
    values = rng.gamma(1.5, size=40)
    mine = bootstrap_score(values, [f"p{i}" for i in range(40)], n_bootstrap=8000, random_state=0)
    theirs = bootstrap((values,), np.mean, method="BCa", n_resamples=8000, rng=rng).confidence_interval
    width = theirs.high - theirs.low
    assert abs(mine.low - theirs.low) < 0.06 * width and abs(mine.high - theirs.high) < 0.06 * width


def test_patients_are_drawn_and_not_windows_and_pairs_stay_together(rng):
    groups = np.repeat(np.arange(15), 40)
    patient = rng.normal(size=15)[groups]
    a = patient + rng.normal(scale=0.1, size=600)
    b = patient + rng.normal(scale=0.1, size=600) - 0.05
    clustered, windows = bootstrap_score(a, groups, random_state=0), bootstrap_score(a, np.arange(600), random_state=0)
    assert clustered.high - clustered.low > 3 * (windows.high - windows.low)
    assert bootstrap_score(a, groups, random_state=0).low == clustered.low
    difference = bootstrap_score(a - b, groups, random_state=0)
    assert 0 < difference.low < 0.05 < difference.high < 0.1
    assert clustered.low < bootstrap_score(b, groups, random_state=0).value < clustered.high  # alone they overlap


class Size(Saliency):
    """A control that says abs(x), whatever the network is."""

    def _explain_batch(self, net, x, *args, **context):
        result = super()._explain_batch(net, x, *args, **context)
        return {**result, "relevance": x.abs().cpu().numpy()}


def state(explainer):
    return {k: v for k, v in explainer.get_params(deep=False).items() if k != "estimator"}, set(vars(explainer))


def draws(display):
    """Say whether the display drew numbers on its axes."""
    artists = display.ax_.lines + display.ax_.patches + display.ax_.images + display.ax_.collections
    plt.close(display.figure_)
    return len(artists) > 0


@pytest.mark.parametrize("kind", [Saliency, GradCAM1D, Size])
def test_random_weights_fail_a_control_that_ignores_the_network(toy, clf, kind):
    explainer = kind(clf)
    before, was = snapshot(clf.net_.module_), state(explainer)
    result = weight_randomisation(explainer, toy.data[:24], n_draws=3, random_state=0)
    assert isinstance(result, Bunch) and result.depths[0] == "head" and len(result.depths) == 4
    assert result.absolute.shape == (4, 24)
    np.testing.assert_allclose(result.mean_absolute, np.nanmean(result.absolute, axis=1))
    assert same_snapshot(before, snapshot(clf.net_.module_)) and state(explainer) == was and explainer.estimator is clf
    if kind is Size:
        np.testing.assert_allclose(result.absolute, 1)
        np.testing.assert_allclose(result.floor_absolute, 1)
        assert not result.passes
    else:
        assert result.mean_absolute[-1] < 0.9
    assert draws(SanityDisplay.from_weight_randomisation({"it": result}))


def test_an_untrained_network_is_at_its_own_floor(toy):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        net = Stages(1, 120, 3)
    untrained = ECGClassifier.from_module(net, LABELS[:3], n_leads=1, n_timesteps=120, fs=FS)
    result = weight_randomisation(Saliency(untrained), toy.data[:20], n_draws=5, depths=1, random_state=0)
    assert abs(result.final_absolute.mean() - result.floor_absolute.mean()) < 0.15
    again = weight_randomisation(Saliency(untrained), toy.data[:20], n_draws=5, depths=1, random_state=0)
    np.testing.assert_array_equal(result.absolute, again.absolute)


def test_random_labels_fail_a_control_that_ignores_the_network(toy):
    settings = {"module__width": 2, **FAST, "fs": FS, "max_epochs": 1}
    small = ECGClassifier(TinyNet, **settings).fit(toy.data, toy.target)
    before = snapshot(small.net_.module_)
    results = {}
    for name, kind in {"gradient": Saliency, "size": Size}.items():
        result = label_randomisation(kind(small), toy.data, toy.target, X_eval=toy.data[:10], n_draws=2, random_state=0)
        assert isinstance(result, Bunch) and result.absolute.shape == (2, 10) and result.chance == pytest.approx(1 / 3)
        results[name] = result
    assert not results["size"].passes and results["size"].mean_absolute.min() > 0.999
    assert results["gradient"].mean_absolute.max() < 0.9
    assert same_snapshot(before, snapshot(small.net_.module_))
    assert draws(SanityDisplay.from_label_randomisation(results))


def test_seeds_are_compared_pair_by_pair(toy, clf):
    other = ECGClassifier(Stages, fs=FS, max_epochs=1, random_state=5).fit(toy.data, toy.target)
    explainer = Saliency(clf)
    result = seed_consistency(explainer, toy.data[:10], estimators=[clf, clf, FrozenEstimator(other)])
    same = result.pairs.index((0, 1))
    np.testing.assert_allclose(result.signed[same], 1)
    assert all(result.mean_signed[i] < 0.95 for i in range(3) if i != same)
    assert explainer.estimator is clf
    assert draws(SanityDisplay.from_seeds(result))
    with pytest.raises(ValueError, match="estimators"):
        seed_consistency(explainer, toy.data[:10], estimators=[clf])


def test_explainers_that_are_equal_agree(rng):
    X = toy_ecg(n=8, n_timesteps=60)[0]
    net = LinearNet(rng.normal(size=(3, 1, 60)), np.zeros(3))
    linear = ECGClassifier.from_module(net, LABELS[:3], n_leads=1, n_timesteps=60, fs=FS)
    explainers = {
        "times input": InputXGradient(linear),
        "integrated": IntegratedGradients(linear),
        "size": Size(linear),
    }
    result = explainer_agreement(explainers, X)
    assert result.names == list(explainers) and result.absolute.shape == (3, 3, 8)
    np.testing.assert_allclose(np.diagonal(result.mean_absolute), 1)
    np.testing.assert_allclose(result.signed[0, 1], 1, atol=1e-3)
    np.testing.assert_allclose(result.mean_absolute, result.mean_absolute.T)
    assert result.mean_absolute[0, 2] < 0.95
    assert draws(SanityDisplay.from_agreement(result))


def test_what_is_no_explainer_is_refused(toy, clf):
    for ask in (weight_randomisation, partial(seed_consistency, estimators=[clf, clf])):
        with pytest.raises(TypeError):
            ask(clf, toy.data[:4])
    with pytest.raises(TypeError):
        explainer_agreement({"a": clf, "b": clf}, toy.data[:4])
