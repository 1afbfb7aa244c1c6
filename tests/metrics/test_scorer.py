"""Scorers of explainers in searches and cross-validation: against a truth, and by perturbation."""

import pickle
from functools import partial

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch

from skecg.classifiers import ECGClassifier
from skecg.explain import InputXGradient
from skecg.metrics import (
    PerturbationScorer,
    RelevanceScorer,
    chance_level,
    perturbation_curves,
    pointing_game_score,
    relevance_auc_score,
    relevance_average_precision_score,
    relevance_mass_score,
    relevance_rank_score,
)
from skecg.preprocessing import ECGScaler
from tests.tiny import FAST, LinearNet, TinyNet, toy_ecg


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

    metrics = {
        "pointing": pointing_game_score,
        "mass": relevance_mass_score,
        "rank": relevance_rank_score,
        "auc": relevance_auc_score,
        "ap": relevance_average_precision_score,
        "chance": chance_level,
    }
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


@pytest.fixture(scope="module")
def trained():
    X, y, *_ = toy_ecg(n=60, n_leads=2, n_timesteps=60, n_classes=2)
    pipeline = make_pipeline(ECGScaler(), ECGClassifier(TinyNet, fs=100.0, **FAST)).fit(X, y)
    return pipeline, X, y


def test_perturbation_scorer_is_the_mean_degradation(trained):
    pipeline, X, _ = trained
    result = InputXGradient(pipeline).explain(X)
    settings = {"chunk": 0.05, "replacement": "isoelectric", "curve": "insertion", "n_points": 7, "random_state": 3}
    curves = perturbation_curves(
        pipeline[-1], result.data, result.relevance, target=result.target, n_random=1, **settings
    )
    scorer = PerturbationScorer(**settings)
    assert scorer(InputXGradient(pipeline), X) == pytest.approx(curves.degradation.mean(), rel=1e-6)
    behind = make_pipeline(pipeline[0], InputXGradient(pipeline[-1]))
    assert scorer(behind, X) == scorer(InputXGradient(FrozenEstimator(pipeline)), X)


class Backwards(InputXGradient):
    def explain(self, X, *, target=None):
        result = super().explain(X, target=target)
        result.relevance = -result.relevance
        return result


def test_perturbation_scorer_follows_what_the_classifier_listens_to():
    weight = np.zeros((2, 1, 40))
    weight[1, 0, 8:12] = 1.0
    X = np.abs(np.random.default_rng(0).normal(size=(20, 1, 40))).astype(np.float32)
    clf = ECGClassifier.from_module(LinearNet(weight, [0.0, -1.0]), ["N", "PVC"], n_leads=1, n_timesteps=40, fs=100.0)
    grid = {"output": ["logit", "probability"]}
    scorer = PerturbationScorer(replacement=0.0, chunk=0.04, n_points=5)
    search = GridSearchCV(InputXGradient(FrozenEstimator(clf), target="PVC"), grid, scoring=scorer, cv=2)
    search.fit(X)
    assert (search.cv_results_["mean_test_score"] > 0.2).all()
    assert scorer(search, X) > 0.2
    forwards = scorer(InputXGradient(clf, target="PVC"), X)
    assert scorer(Backwards(clf, target="PVC"), X) == pytest.approx(-forwards)


def test_perturbation_scorer_needs_an_explainer_and_fs(trained):
    pipeline, X, _ = trained
    with pytest.raises(TypeError, match="FunctionTransformer has no explain"):
        PerturbationScorer()(FunctionTransformer(np.abs).fit(X), X)
    nameless = ECGClassifier.from_module(pipeline[-1].module_, ["a", "b"], n_leads=2, n_timesteps=60)
    with pytest.raises(ValueError, match="chunk needs the sampling rate"):
        PerturbationScorer()(InputXGradient(nameless), X)
    scores = [PerturbationScorer(fs=100.0, n_points=3)(InputXGradient(nameless, fs=fs), X) for fs in (None, 50.0)]
    assert scores[0] == scores[1]
    assert clone(PerturbationScorer(chunk=0.1)).chunk == 0.1
