"""Scores of relevance by hand, ties, chance by simulation, odd inputs, and the scorer in searches."""

import itertools
import pickle
from functools import partial

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch

from skecg.metrics import RelevanceScorer, centre_prior, chance_level, pointing_game_score, relevance_mass_score

SCORES = [pointing_game_score, relevance_mass_score]


class Explainer(TransformerMixin, BaseEstimator):
    """An explainer whose relevance is X to a power: enough of the frame for a scorer."""

    def __init__(self, power=1):
        self.power = power

    def fit(self, X, y=None):
        self.n_features_in_ = X[0].size
        return self

    def explain(self, X, *, target=None):
        return Bunch(relevance=np.asarray(X, dtype=np.float32) ** self.power)

    def transform(self, X):
        return self.explain(X).relevance


def test_pointing_by_hand():
    truth = np.array([[0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]], dtype=bool)
    relevance = np.array([[0, 2, 1, 0, 0], [0, 3, 0, 0, 0], [1, 1, 0, 0, 1], [-1, -5, -1, -1, -1]], dtype=float)
    each = pointing_game_score(truth, relevance, average=False)
    np.testing.assert_allclose(each, [1, 0, 1 / 3, 2 / 5])  # hit, miss, three tied, nothing positive: chance
    assert pointing_game_score(truth, relevance) == pytest.approx((1 + 1 / 3 + 2 / 5) / 4)


def test_mass_by_hand():
    truth = np.array([[0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]], dtype=bool)
    relevance = np.array([[1, 2, 1, 0, -9], [0, 3, 0, 0, 0], [2, 2, 2, 2, 2], [-1, -5, -1, -1, 0]], dtype=float)
    each = relevance_mass_score(truth, relevance, average=False)
    np.testing.assert_allclose(each, [3 / 4, 0, 1 / 5, 2 / 5])


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("value", [0.0, -1.0, 0.25, 1e-30, 1e30, 1e-45])
def test_a_flat_map_scores_chance(score, value):
    truth = np.zeros((3, 2, 8), dtype=bool)
    truth[:, 0, 1:4] = True
    relevance = np.full(truth.shape, value, dtype=np.float32)
    np.testing.assert_allclose(score(truth, relevance, average=False), 3 / 16)
    assert score(truth, relevance) == pytest.approx(chance_level(truth))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_scores_do_not_depend_on_the_unit(score, scale, rng):
    truth, relevance = rng.random((20, 2, 50)) < 0.2, rng.normal(size=(20, 2, 50))
    np.testing.assert_allclose(
        score(truth, relevance * scale, average=False), score(truth, relevance, average=False), rtol=1e-9
    )


def test_pointing_counts_the_tied_maxima_by_enumeration():
    windows = np.array(list(itertools.product([0.0, 1.0, 2.0], repeat=4)))
    truth = np.zeros(windows.shape, dtype=bool)
    truth[:, 1:3] = True
    expected = []
    for window in windows:
        peak = window.max()
        hits = [inside for value, inside in zip(window, (0, 1, 1, 0), strict=True) if value == peak]
        expected.append(sum(hits) / len(hits))
    np.testing.assert_allclose(pointing_game_score(truth, windows, average=False), expected)


def test_random_relevance_scores_chance(rng):
    truth = np.zeros((4000, 1, 40), dtype=bool)
    truth[:, :, 5:15] = True
    relevance = rng.random(truth.shape)
    assert chance_level(truth) == 0.25
    assert pointing_game_score(truth, relevance) == pytest.approx(0.25, abs=0.04)
    assert relevance_mass_score(truth, relevance) == pytest.approx(0.25, abs=0.04)


def test_windows_without_truth_are_left_out():
    truth = np.array([[0, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
    relevance = np.array([[0, 3.0, 0, 1.0], [1, 0, 0, 0]])
    for score, expected in [(pointing_game_score, 1.0), (relevance_mass_score, 0.75)]:
        assert score(truth, relevance) == expected
        np.testing.assert_array_equal(score(truth, relevance, average=False), [expected, np.nan])
    np.testing.assert_array_equal(chance_level(truth, average=False), [0.5, np.nan])
    for score in (*SCORES, chance_level):
        with pytest.raises(ValueError, match="none of the 2 windows has any truth"):
            score(np.zeros((2, 4)), relevance)
        assert np.isnan(score(np.zeros((2, 4)), relevance, average=False)).all()


@pytest.mark.parametrize("score", [*SCORES, chance_level])
def test_weights_are_repetitions(score, rng):
    truth, relevance = rng.random((6, 1, 10)) < 0.3, rng.normal(size=(6, 1, 10))
    truth[:, 0, 0], truth[5] = True, False
    weights = np.array([1, 0, 3, 2, 1, 7])
    repeated = score(np.repeat(truth, weights, axis=0), np.repeat(relevance, weights, axis=0))
    assert score(truth, relevance, sample_weight=weights) == pytest.approx(repeated)
    with pytest.raises(ValueError, match="weigh nothing"):
        score(truth, relevance, sample_weight=[0, 0, 0, 0, 0, 1])  # the last window has no truth
    with pytest.raises(ValueError, match="sample_weight has shape"):
        score(truth, relevance, sample_weight=[1, 2])


def test_tolerance_widens_the_truth_and_chance():
    truth = np.zeros((5, 1, 100), dtype=bool)
    truth[:, :, 50:60] = True
    relevance = np.zeros(truth.shape)
    for row, peak in enumerate((44, 45, 55, 64, 65)):
        relevance[row, 0, peak] = 1
    each = pointing_game_score(truth, relevance, tolerance=0.02, fs=250.0, average=False)  # 5 samples
    np.testing.assert_array_equal(each, [0, 1, 1, 1, 0])
    assert pointing_game_score(truth, relevance) == 0.2
    assert chance_level(truth, tolerance=0.02, fs=250.0) == 0.2
    assert chance_level(truth, tolerance=1e6, fs=250.0) == 1.0
    with pytest.raises(ValueError, match="tolerance needs the sampling rate"):
        pointing_game_score(truth, relevance, tolerance=0.02)
    with pytest.raises(ValueError, match="tolerance must be"):
        chance_level(truth, tolerance=-0.1, fs=250.0)


@pytest.mark.parametrize("score", [*SCORES, chance_level])
def test_invalid_samples_do_not_count(score, rng):
    truth, relevance = rng.random((6, 2, 30)) < 0.3, rng.normal(size=(6, 2, 30))
    valid = np.zeros((6, 30), dtype=bool)
    valid[:, :20] = True
    expected = score(truth[:, :, :20], relevance[:, :, :20], average=False)
    relevance[:, :, 20:] = np.nan  # not even looked at
    np.testing.assert_allclose(score(truth, relevance, valid=valid, average=False), expected)
    every = np.repeat(valid[:, None], 2, axis=1)
    np.testing.assert_allclose(score(truth, relevance, valid=every, average=False), expected)


@pytest.mark.parametrize("score", [*SCORES, chance_level])
def test_a_truth_without_lead_axis_holds_for_every_lead(score, rng):
    truth, relevance = rng.random((6, 30)) < 0.3, rng.normal(size=(6, 3, 30))
    expected = score(np.repeat(truth[:, None], 3, axis=1), relevance, average=False)
    np.testing.assert_array_equal(score(truth, relevance, average=False), expected)


@pytest.mark.parametrize("score", [*SCORES, chance_level])
def test_one_lead_with_or_without_its_axis(score, rng):
    truth, relevance = rng.random((6, 30)) < 0.3, rng.normal(size=(6, 30))
    expected = score(truth, relevance)
    assert score(truth[:, None], relevance) == expected
    assert score(truth, relevance[:, None]) == expected
    assert score(truth.astype(int).tolist(), relevance.tolist()) == expected


def test_a_cam_on_every_lead_is_no_worse_for_its_ties(rng):
    cam = rng.normal(size=(5, 1, 30))
    truth = np.zeros((5, 12, 30), dtype=bool)
    truth[:, 3, 10:20] = True  # the evidence is in one lead of twelve
    on_all = np.broadcast_to(cam, truth.shape)
    expected = pointing_game_score(truth[:, 3], cam, average=False) / 12
    np.testing.assert_allclose(pointing_game_score(truth, on_all, average=False), expected)


@pytest.mark.parametrize("score", SCORES)
def test_many_windows_are_scored_as_few(score, rng):
    truth, relevance = rng.random((10, 2, 300_000)) < 0.3, rng.normal(size=(10, 2, 300_000)).astype(np.float32)
    alone = [score(truth[i : i + 1], relevance[i : i + 1]) for i in (0, 9)]
    np.testing.assert_array_equal(score(truth, relevance, average=False)[[0, 9]], alone)


@pytest.mark.parametrize("score", SCORES)
def test_arguments_are_left_as_found(score, rng):
    truth, relevance = rng.random((6, 1, 30)) < 0.3, rng.normal(size=(6, 1, 30))
    before = truth.copy(), relevance.copy()
    truth.flags.writeable = relevance.flags.writeable = False
    score(truth, relevance)
    np.testing.assert_array_equal(truth, before[0])
    np.testing.assert_array_equal(relevance, before[1])


TRUTH, RELEVANCE = np.eye(4, dtype=bool)[:3], np.ones((3, 4))


@pytest.mark.parametrize(
    ("truth", "relevance", "error", "message"),
    [
        (TRUTH[:2], RELEVANCE, ValueError, r"truth has shape \(2, 4\), but relevance has shape \(3, 4\)"),
        (TRUTH[:, None], RELEVANCE[:, None].repeat(2, 1), ValueError, r"be \(3, 4\) to hold for every lead"),
        (TRUTH[:, None].repeat(2, 1), RELEVANCE, ValueError, r"truth has shape \(3, 2, 4\)"),
        (TRUTH[0], RELEVANCE, ValueError, r"truth has shape \(4,\)"),
        (TRUTH, RELEVANCE[0], ValueError, r"relevance must be .* got shape \(4,\)"),
        (np.zeros((0, 4)), np.zeros((0, 4)), ValueError, r"nowhere 0; got shape \(0, 4\)"),
        (TRUTH * 0.5, RELEVANCE, ValueError, "truth must be boolean, or of zeros and ones; it holds other values"),
        (TRUTH * np.nan, RELEVANCE, ValueError, "it holds other values"),
        (TRUTH.astype(str), RELEVANCE, TypeError, "truth must be an array of booleans"),
        (TRUTH.astype(object), RELEVANCE, TypeError, "truth must be an array of booleans"),
        (TRUTH, RELEVANCE.astype(object), TypeError, "relevance must be an array of real numbers; got dtype object"),
        (TRUTH, RELEVANCE * 1j, TypeError, "got dtype complex128"),
        (TRUTH, RELEVANCE * np.array([[1], [np.nan], [1]]), ValueError, "NaN or infinite in window 1"),
        (TRUTH, RELEVANCE * np.array([[1], [1], [-np.inf]]), ValueError, "NaN or infinite in window 2"),
    ],
)
@pytest.mark.parametrize("score", SCORES)
def test_bad_input_is_named(score, truth, relevance, error, message):
    with pytest.raises(error, match=message):
        score(truth, relevance)


@pytest.mark.parametrize("truth", [None, [1, 0], np.zeros((1, 2, 3, 4))])
def test_chance_of_a_bad_truth(truth):
    with pytest.raises(ValueError, match="truth must be"):
        chance_level(truth)


def test_centre_prior():
    for shape in [(3, 100), (3, 2, 101)]:
        prior = centre_prior(shape)
        assert prior.shape == shape
        assert prior.dtype == np.float32
        np.testing.assert_array_equal(prior, prior[..., ::-1])
        middle = np.zeros(shape, dtype=bool)
        middle[..., shape[-1] // 2 - (shape[-1] % 2 == 0) : shape[-1] // 2 + 1] = True
        assert pointing_game_score(middle, prior) == 1.0
    wide, narrow = (relevance_mass_score(middle, centre_prior(shape, width=width)) for width in (1.0, 0.01))
    assert chance_level(middle) < wide < narrow < 1
    half = np.exp(-0.5 * (0.25 / 0.1) ** 2)  # a quarter of the window away is 2.5 deviations
    assert centre_prior((1, 1001))[0, 750] == pytest.approx(half, rel=0.01)
    for bad in [(3,), (0, 10), (1, 2, 3, 4)]:
        with pytest.raises(ValueError, match="shape must be"):
            centre_prior(bad)
    with pytest.raises(ValueError, match="width must be"):
        centre_prior((1, 10), width=0)


@pytest.fixture
def data(rng):
    X = rng.random((30, 2, 40)).astype(np.float32)
    truth = np.zeros(X.shape, dtype=bool)
    truth[np.arange(30), 0, rng.integers(40, size=30)] = True
    X[truth] += 0.5
    return X, truth


def test_scorer_is_the_metric_of_the_explanation(data):
    X, truth = data
    explainer = Explainer().fit(X)
    assert RelevanceScorer()(explainer, X, truth) == relevance_mass_score(truth, X)
    assert RelevanceScorer(pointing_game_score)(explainer, X, truth) == pointing_game_score(truth, X)
    near = partial(pointing_game_score, tolerance=0.1, fs=20.0)
    assert RelevanceScorer(near)(explainer, X, truth) == pointing_game_score(truth, X, tolerance=0.1, fs=20.0)
    weights = np.arange(30)
    expected = relevance_mass_score(truth, X, sample_weight=weights)
    assert RelevanceScorer()(explainer, X, truth, sample_weight=weights) == expected


def test_scorer_takes_pipelines_and_controls(data):
    X, truth = data
    pipeline = make_pipeline(FunctionTransformer(np.negative), Explainer(power=2)).fit(X)
    assert RelevanceScorer()(pipeline, X, truth) == relevance_mass_score(truth, X**2)
    control = FunctionTransformer(np.abs).fit(X)
    assert RelevanceScorer()(control, -X, truth) == relevance_mass_score(truth, X)


def test_scorer_with_several_metrics_explains_once(data):
    X, truth = data
    calls = []

    class Counting(Explainer):
        def explain(self, X, *, target=None):
            calls.append(len(X))
            return super().explain(X)

    metrics = {"pointing": pointing_game_score, "mass": relevance_mass_score, "chance": chance_level}
    scores = RelevanceScorer(metrics)(Counting().fit(X), X, truth)
    assert calls == [30]
    assert scores == {name: metric(truth, X) for name, metric in metrics.items()}


@pytest.mark.parametrize("routing", [False, True])
def test_scorer_in_search_and_cross_validation(data, routing):
    X, truth = data
    with sklearn.config_context(enable_metadata_routing=routing):
        search = GridSearchCV(Explainer(), {"power": [0, 1, 30]}, scoring=RelevanceScorer(), cv=3, error_score="raise")
        search.fit(X, truth)
        several = {"mass": relevance_mass_score, "chance": chance_level}
        refit = GridSearchCV(Explainer(), {"power": [0, 1, 30]}, scoring=RelevanceScorer(several), cv=3, refit="mass")
        scoring = {"mass": RelevanceScorer()}
        # params={} and not None, which scikit-learn 1.6 does not take under routing
        folds = cross_validate(Explainer(), X, truth, scoring=scoring, error_score="raise", params={})
        assert refit.fit(X, truth).best_params_ == {"power": 30}
    assert search.best_params_ == {"power": 30}
    np.testing.assert_allclose(search.cv_results_["mean_test_score"][0], chance_level(truth))
    np.testing.assert_allclose(refit.cv_results_["mean_test_chance"], chance_level(truth))
    assert RelevanceScorer()(search, X, truth) == relevance_mass_score(truth, search.transform(X))
    assert len(folds["test_mass"]) == 5


def test_scorer_is_an_estimator_and_pickles(data):
    scorer = RelevanceScorer(metric=pointing_game_score)
    assert clone(scorer).get_params() == {"metric": pointing_game_score}
    assert pickle.loads(pickle.dumps(scorer))(Explainer(), *data) == scorer(Explainer(), *data)


def test_scorer_says_what_is_wrong(data):
    X, truth = data
    with pytest.raises(TypeError, match="BaseEstimator has neither explain nor transform"):
        RelevanceScorer()(BaseEstimator(), X, truth)
    with pytest.raises(TypeError, match="metric must be callable, or a dict of callables; got 'mass'"):
        RelevanceScorer("mass")(Explainer(), X, truth)
    with pytest.raises(TypeError, match="got 3 for 'x'"):
        RelevanceScorer({"x": 3})(Explainer(), X, truth)
    with pytest.raises(ValueError, match="needs the truth mask in place of y"):
        RelevanceScorer()(Explainer(), X, None)
