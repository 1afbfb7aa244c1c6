"""What every explainer promises: shapes, targets, fitting, pipelines, grid search, metadata, data frames, processes."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch

from skecg import explain
from skecg.classifiers import ECGClassifier
from skecg.explain import (
    LRP,
    CaptumExplainer,
    GradCAM1D,
    InputXGradient,
    IntegratedGradients,
    MaskDeletion,
    Occlusion,
    Saliency,
    ShapExplainer,
    SmoothGrad,
)
from skecg.metrics import RelevanceScorer, pointing_game_score, relevance_mass_score
from skecg.preprocessing import BandpassFilter, ECGScaler
from skecg.relevance import RelevanceAggregator
from tests.tiny import FAST, TinyNet, toy_ecg

# name -> (explainer without its estimator, relevance_kind)
EXPLAINERS = {
    "stagecam": (GradCAM1D(None, fs=60.0), "cam"),
    "hirescam": (GradCAM1D(None, method="hirescam", relu=False), "cam"),
    "layercam": (GradCAM1D(None, method="layercam", layer="features.3"), "cam"),
    "mask": (MaskDeletion(None, n_iter=6, n_knots=8, replacement=0.0), "positive"),
    "mask by default": (MaskDeletion(None, n_iter=6, fs=60.0), "positive"),
    "integrated gradients": (IntegratedGradients(None, n_steps=5), "signed"),
    "saliency": (Saliency(None), "positive"),
    "input x gradient": (InputXGradient(None), "signed"),
    "expected gradients": (ShapExplainer(None, background=0.0, n_samples=5, random_state=0), "signed"),
    "occlusion": (Occlusion(None, stride=0.4, leads="each", fs=60.0), "signed"),
    "occlusion of leads": (Occlusion(None, by="lead"), "signed"),
    "smoothgrad": (SmoothGrad(None, n_samples=3, random_state=0), "positive"),
    "guided backpropagation": (CaptumExplainer(None, method="GuidedBackprop"), "signed"),
    "lrp": (LRP(None), "signed"),
    "lrp preset a": (LRP(None, rule="preset_a"), "signed"),
}
CONVOLUTIONS_ALONE = {"lrp", "lrp preset a"}  # relevance has no rule through a recurrent layer
all_explainers = pytest.mark.parametrize("name", EXPLAINERS)


def make(name, estimator):
    return clone(EXPLAINERS[name][0]).set_params(estimator=estimator)


LSTM = {"units": 3}  # of the network that the test at hand explains


@pytest.fixture(autouse=True)
def network(request):
    spec = getattr(request.node, "callspec", None)
    LSTM["units"] = 0 if spec and spec.params.get("name") in CONVOLUTIONS_ALONE else 3


def unfitted(**settings):
    return ECGClassifier(TinyNet, **{**FAST, "module__lstm": LSTM["units"], **settings})


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=60, n_leads=2)


@pytest.fixture(scope="module")
def classifiers(toy):
    return {units: unfitted(max_epochs=10, module__lstm=units).fit(*toy[:2]) for units in (0, 3)}


@pytest.fixture
def clf(classifiers, network):
    return classifiers[LSTM["units"]]


def band():
    return BandpassFilter(high=20.0, fs=60.0)


def test_every_explainer_of_the_library_is_here():
    public = {c for n, c in vars(explain).items() if isinstance(c, type) and hasattr(c, "explain") and n[0] != "_"}
    assert public == {type(e) for e, _ in EXPLAINERS.values()}


# --- transform and explain --------------------------------------------------------------------------------------------


@all_explainers
def test_relevance_has_the_shape_of_the_input(name, toy, clf):
    X = toy[0]
    ex = make(name, clf)
    before = X.copy()
    R = ex.transform(X)  # a fitted classifier needs no fit
    assert isinstance(R, np.ndarray) and R.shape == X.shape and R.dtype == np.float32 and np.isfinite(R).all()
    assert R.std() > 0 and np.array_equal(before, X)
    assert np.array_equal(ex.transform(X), R)  # twice the same


@all_explainers
def test_explain_returns_what_was_explained(name, toy, clf):
    X, *_ = toy
    ex = make(name, clf)
    out = ex.explain(X)
    assert isinstance(out, Bunch) and out.relevance_kind == EXPLAINERS[name][1]
    assert np.array_equal(out.relevance, ex.transform(X)) and np.array_equal(out.target, clf.predict(X))
    assert np.array_equal(out.data, X) and out.score.shape == (60,)
    assert out.flat.shape == (60, 2) and out.flat.dtype == bool and not out.flat.any()
    assert out.extreme.shape == (60,) and out.extreme.dtype == bool and not out.extreme.any()
    if out.relevance_kind == "positive":
        assert out.relevance.min() >= 0
    elif out.relevance_kind == "cam":
        assert out.cam.shape[0] == 60 and out.cam.ndim == 2


@all_explainers
def test_targets_are_predicted_a_label_or_a_label_a_window(name, toy, clf):
    X, y, *_ = toy
    ex = make(name, clf)
    pvc, each = ex.explain(X, target="PVC"), ex.explain(X, target=y)
    assert set(pvc.target) == {"PVC"} and np.array_equal(each.target, y)
    assert np.allclose(each.relevance[y == "PVC"], pvc.relevance[y == "PVC"], rtol=1e-5, atol=1e-6)
    assert not np.allclose(each.relevance[y != "PVC"], pvc.relevance[y != "PVC"], rtol=1e-3, atol=1e-4)
    assert np.array_equal(ex.explain(X, target=list(y)).relevance, each.relevance)
    by_parameter = clone(ex).set_params(estimator=clf, target="PVC")
    assert np.array_equal(by_parameter.transform(X), pvc.relevance)
    assert np.array_equal(by_parameter.explain(X, target="predicted").relevance, ex.transform(X))


@all_explainers
@pytest.mark.parametrize("bad", ["XX", 1, ["N"] * 59, [["N"]] * 60, ["N"] * 59 + ["XX"], 0.5], ids=str)
def test_unknown_targets_are_named(name, toy, clf, bad):
    with pytest.raises(ValueError, match="target"):
        make(name, clf).explain(toy[0], target=bad)


@all_explainers
def test_2d_is_one_lead(name):
    X, y, *_ = toy_ecg(40)
    clf = unfitted(max_epochs=2).fit(X, y)
    ex = make(name, clf)
    three, two = ex.transform(X), ex.transform(X[:, 0])
    assert three.shape == (40, 1, 120) and two.shape == (40, 120) and np.array_equal(three[:, 0], two)


@all_explainers
@pytest.mark.parametrize("batch_size", [7, 59])
def test_answers_do_not_depend_on_batches(name, toy, clf, batch_size):
    X = toy[0]
    want = make(name, clf).transform(X)
    got = make(name, clf).set_params(batch_size=batch_size).transform(X)
    assert np.allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    assert np.allclose(make(name, clf).transform(X[3:4]), want[3:4], rtol=1e-5, atol=1e-5 * np.abs(want).max())


@all_explainers
@pytest.mark.parametrize(
    "bad, message",
    [
        (np.zeros((5, 1, 120)), "1 lead"),
        (np.zeros((5, 2, 99)), "99 timesteps"),
        (np.zeros((5, 120, 2)), "swapped"),
        (np.zeros((5, 120)), "2-D, which means one lead"),
        (np.zeros(120), "Expected 2D array"),
        (np.zeros((2, 1, 2, 120)), "4-D"),
        (np.full((2, 2, 120), np.nan), "NaN"),
        (np.full((2, 2, 120), np.inf), "infinity"),
        (np.zeros((0, 2, 120)), "0 sample"),
    ],
    ids=lambda value: str(value.shape) if isinstance(value, np.ndarray) else None,
)
def test_bad_x_is_named(name, clf, bad, message):
    with pytest.raises(ValueError, match=message):
        make(name, clf).transform(bad)


# --- fit --------------------------------------------------------------------------------------------------------------


@all_explainers
def test_a_fitted_classifier_is_used_as_it_is(name, toy, clf):
    X, _, _, truth = toy
    ex = make(name, clf)
    assert ex.fit(X, truth).estimator_ is clf and ex.fit(X) is ex  # y is not read
    assert np.array_equal(ex.transform(X), make(name, clf).transform(X))


@all_explainers
def test_an_unfitted_classifier_is_cloned_and_fitted(name, toy):
    X, y, *_ = toy
    raw = unfitted(max_epochs=2)
    ex = make(name, raw)
    for use in (ex.transform, ex.explain):
        with pytest.raises(NotFittedError):
            use(X)
    with pytest.raises(ValueError, match="requires y"):
        ex.fit(X)
    assert ex.fit(X, y).estimator_ is not raw and not hasattr(raw, "net_")
    want = unfitted(max_epochs=2).fit(X, y)
    assert np.array_equal(ex.estimator_.predict_proba(X), want.predict_proba(X))
    assert ex.n_features_in_ == 240


def test_clone_strips_a_fit_and_the_error_says_the_way_out(toy, clf):
    ex = clone(GradCAM1D(clf, fs=60.0))
    assert not hasattr(ex.estimator, "net_")
    with pytest.raises(NotFittedError, match="FrozenEstimator"):
        ex.transform(toy[0])
    frozen = clone(GradCAM1D(FrozenEstimator(clf), fs=60.0))
    assert np.array_equal(frozen.transform(toy[0]), GradCAM1D(clf, fs=60.0).transform(toy[0]))


@all_explainers
def test_parameters_changed_after_the_fit_are_noticed(name, toy):
    X, y, *_ = toy
    changed = unfitted(max_epochs=1).fit(X, y)
    make(name, changed).fit(X, y)
    changed.set_params(module__width=3)
    with pytest.raises(ValueError, match=r"module__width|set_params|changed"):
        make(name, changed).fit(X, y)


@pytest.mark.parametrize("wrong", [LogisticRegression(), "clf", None, 3], ids=str)
def test_the_estimator_must_end_in_a_classifier_of_this_library(toy, wrong):
    with pytest.raises((TypeError, ValueError), match="ECGClassifier"):
        GradCAM1D(wrong, fs=60.0).fit(*toy[:2])
    with pytest.raises((TypeError, ValueError), match=r"(?s)ECGClassifier.*ECGScaler"):
        GradCAM1D(make_pipeline(ECGScaler()).fit(toy[0]), fs=60.0).transform(toy[0])


# --- pipelines --------------------------------------------------------------------------------------------------------


@all_explainers
def test_around_a_pipeline_and_at_its_end_agree_to_the_bit(name, toy):
    X, y, *_ = toy
    steps = [band(), ECGScaler()]
    inside = make_pipeline(*map(clone, steps), make(name, unfitted())).fit(X, y)
    whole = make_pipeline(*map(clone, steps), unfitted()).fit(X, y)
    around = make(name, whole)
    want = inside.transform(X)
    assert want.std() > 0 and np.array_equal(want, around.transform(X))
    assert np.array_equal(around.explain(X).data, whole[:-1].transform(X))  # what the network saw
    assert np.array_equal(around.explain(X).target, whole.predict(X))
    assert np.array_equal(make(name, FrozenEstimator(whole)).transform(X), want)
    nested = Pipeline([("a", clone(steps[0])), ("b", Pipeline([("c", clone(steps[1])), ("d", unfitted())]))])
    assert np.array_equal(make(name, nested).fit(X, y).transform(X), want)
    assert np.array_equal(make(name, make_pipeline(*map(clone, steps), unfitted())).fit(X, y).transform(X), want)


def test_deeply_nested_estimators(toy):
    X, y, *_ = toy
    search = GridSearchCV(
        make_pipeline(ECGScaler(), unfitted(max_epochs=1)), {"ecgclassifier__module__width": [2, 3]}, cv=2
    ).fit(X, y)
    best = search.best_estimator_
    want = GradCAM1D(best, fs=60.0).transform(X)
    for wrapped in (search, FrozenEstimator(search), FrozenEstimator(FrozenEstimator(best)), Pipeline([("s", search)])):
        assert np.array_equal(GradCAM1D(wrapped, fs=60.0).transform(X), want)


@all_explainers
def test_steps_that_change_the_length(name):
    X, y, *_ = toy_ecg(40)
    half = FunctionTransformer(lambda X: X[..., ::2])
    ex = make(name, make_pipeline(half, unfitted(max_epochs=1)))
    one = X[:, 0]
    R = ex.fit(one, y).transform(one)
    assert R.shape == (40, 60) and ex.explain(X[:, 0]).data.shape == (40, 60)
    frame = ex.set_output(transform="pandas").transform(one)
    assert frame.shape == (40, 60) and len(ex.get_feature_names_out()) == 60


# --- names and frames -------------------------------------------------------------------------------------------------


@all_explainers
def test_data_frames_in_and_out(name):
    X, y, *_ = toy_ecg(30)
    frame = pd.DataFrame(X[:, 0], columns=[f"s{i}" for i in range(120)], index=np.arange(30) + 7)
    ex = make(name, unfitted(max_epochs=1)).set_output(transform="pandas").fit(frame, y)
    out = ex.transform(frame)
    assert list(out.columns) == list(frame.columns) == list(ex.get_feature_names_out())
    assert list(out.index) == list(frame.index)
    assert np.array_equal(out.to_numpy(), ex.set_output(transform="default").transform(frame))


@all_explainers
def test_three_dimensions_stay_an_array_under_pandas_output(name, toy, clf):
    X, y, *_ = toy
    with sklearn.config_context(transform_output="pandas"):
        ex = make(name, clf)
        assert isinstance(ex.fit_transform(X, y), np.ndarray) and isinstance(ex.transform(X), np.ndarray)
    assert isinstance(make(name, clf).set_output(transform="pandas").transform(X), np.ndarray)


@all_explainers
def test_a_table_at_the_end_of_a_three_dimensional_pipeline(name, toy):
    X, y, *_ = toy
    pipe = make_pipeline(
        band(), ECGScaler(), make(name, unfitted(max_epochs=1)), RelevanceAggregator(by="lead", lead_names=["I", "II"])
    ).set_output(transform="pandas")
    table = pipe.fit(X, y).transform(X)
    assert isinstance(table, pd.DataFrame) and len(table) == 60 and len(table.columns) == 2
    assert "I" in table.columns[0] and "II" in table.columns[1]
    assert isinstance(pipe.fit_transform(X, y), pd.DataFrame)


# --- grid search ------------------------------------------------------------------------------------------------------


def test_grid_search_over_an_explainers_own_parameter_on_truth(toy, clf):
    X, _, _, truth = toy
    truth = truth.any(1, keepdims=True).repeat(2, 1)  # a CAM knows no leads
    grid = {"method": ["gradcam", "hirescam"], "layer": ["features", "features.0"]}
    for metric in (pointing_game_score, relevance_mass_score):
        search = GridSearchCV(
            GradCAM1D(FrozenEstimator(clf), fs=60.0), grid, scoring=RelevanceScorer(metric), cv=3, error_score="raise"
        ).fit(X, truth)
        scores = search.cv_results_["mean_test_score"]
        assert scores.shape == (4,) and np.isfinite(scores).all() and scores.std() > 0
        assert search.best_score_ > 1.5 * truth.mean()
    assert search.best_estimator_.estimator_.estimator is clf  # never fitted again


def test_grid_search_over_the_mask_on_truth(toy, clf):
    X, _, _, truth = toy
    ex = MaskDeletion(FrozenEstimator(clf), replacement=0.0, n_iter=15)
    search = GridSearchCV(
        ex, {"lambda1": [0.1, 1.0]}, scoring=RelevanceScorer(relevance_mass_score), cv=2, error_score="raise"
    ).fit(X, truth)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_grid_search_inside_a_pipeline_on_truth(toy):
    X, y, _, truth = toy
    trained = unfitted().fit(ECGScaler().fit_transform(X), y)
    pipe = make_pipeline(ECGScaler(), GradCAM1D(FrozenEstimator(trained), fs=60.0))
    search = GridSearchCV(
        pipe,
        {"gradcam1d__method": ["gradcam", "hirescam"]},
        scoring=RelevanceScorer(pointing_game_score),
        cv=2,
        error_score="raise",
    ).fit(X, truth)
    assert np.isfinite(search.best_score_)


def accuracy_inside(explainer, X, y):
    return explainer.estimator_.score(X, y)


def test_grid_search_over_the_network_inside_an_explainer(toy):
    X, y, *_ = toy
    search = GridSearchCV(
        GradCAM1D(unfitted(max_epochs=1), fs=60.0),
        {"estimator__module__width": [2, 4]},
        cv=StratifiedKFold(2),
        scoring=accuracy_inside,
        error_score="raise",
    ).fit(X, y)
    width = search.best_params_["estimator__module__width"]
    assert search.best_estimator_.estimator_.module_.features[0].out_channels == width


# --- metadata ---------------------------------------------------------------------------------------------------------


def split_by_patient(fitted, groups):
    held = np.isin(np.arange(len(groups)), fitted.validation_indices_)
    return held.any() and not held.all() and not set(groups[held]) & set(groups[~held])


STOPPING = {"early_stopping": True, "max_epochs": 1}


@all_explainers
def test_groups_are_routed_to_the_classifier(name, toy):
    X, y, groups, _ = toy
    with sklearn.config_context(enable_metadata_routing=True):
        asked = unfitted(**STOPPING).set_fit_request(groups=True)
        assert split_by_patient(make(name, asked).fit(X, y, groups=groups).estimator_, groups)
        at_end = make_pipeline(ECGScaler(), make(name, asked)).fit(X, y, groups=groups)
        assert split_by_patient(at_end[-1].estimator_, groups)
        around = make(name, make_pipeline(ECGScaler(), asked)).fit(X, y, groups=groups)
        assert split_by_patient(around.estimator_[-1], groups)
        not_asked = make(name, unfitted(**STOPPING))
        with pytest.raises((TypeError, ValueError), match="groups"):
            not_asked.fit(X, y, groups=groups)


@all_explainers
def test_groups_reach_the_classifier_without_routing(name, toy):
    X, y, groups, _ = toy
    assert split_by_patient(make(name, unfitted(**STOPPING)).fit(X, y, groups=groups).estimator_, groups)
    pipe = Pipeline([("scale", ECGScaler()), ("why", make(name, unfitted(**STOPPING)))])
    assert split_by_patient(pipe.fit(X, y, why__groups=groups)[-1].estimator_, groups)


@pytest.mark.parametrize("routing", [True, False])
def test_cross_validate_with_groups(toy, routing):
    X, y, groups, _ = toy
    with sklearn.config_context(enable_metadata_routing=routing):
        inner = unfitted(**STOPPING)
        if routing:
            inner.set_fit_request(groups=True)
        out = cross_validate(
            GradCAM1D(inner, fs=60.0),
            X,
            y,
            params={"groups": groups},
            cv=GroupKFold(3) if routing else 3,
            scoring=accuracy_inside,
            return_estimator=True,
            return_indices=True,
            error_score="raise",
        )
    for fitted, train in zip(out["estimator"], out["indices"]["train"], strict=True):
        assert split_by_patient(fitted.estimator_, groups[train])
    if routing:
        for train, test in zip(*out["indices"].values(), strict=True):
            assert not set(groups[train]) & set(groups[test])


def test_cross_validate_of_a_pipeline_that_ends_in_an_explainer(toy):
    X, y, groups, truth = toy
    with sklearn.config_context(enable_metadata_routing=True):
        trained = unfitted().fit(ECGScaler().fit_transform(X), y)
        pipe = make_pipeline(ECGScaler(), GradCAM1D(FrozenEstimator(trained), fs=60.0))
        out = cross_validate(
            pipe,
            X,
            truth,
            params={"groups": groups},
            cv=GroupKFold(2),
            scoring=RelevanceScorer(relevance_mass_score),
            error_score="raise",
        )
    assert np.isfinite(out["test_score"]).all()


# --- copies and processes ---------------------------------------------------------------------------------------------


@all_explainers
def test_pickle_and_joblib_round_trips(name, toy, clf, tmp_path):
    X = toy[0]
    ex = make(name, clf).fit(X)
    want = ex.transform(X)
    assert np.array_equal(pickle.loads(pickle.dumps(ex)).transform(X), want)
    joblib.dump(ex, tmp_path / "explainer.joblib")
    assert np.array_equal(joblib.load(tmp_path / "explainer.joblib").transform(X), want)


@all_explainers
def test_parameters_are_kept_as_given(name, clf):
    ex = make(name, clf)
    params = ex.get_params(deep=False)
    ex.transform(np.random.default_rng(0).standard_normal((3, 2, 120)))
    assert all(ex.get_params(deep=False)[key] is value for key, value in params.items())
    assert not [a for a in vars(make(name, clf)) if a.endswith("_")]
    assert clone(make(name, FrozenEstimator(clf))).get_params(deep=False).keys() == params.keys()


@all_explainers
def test_progress_is_silent_until_asked_for(name, toy, clf, capfd):
    X = toy[0]
    make(name, clf).transform(X)
    assert capfd.readouterr() == ("", "")
    make(name, clf).set_params(verbose=1, batch_size=8).transform(X)
    out, err = capfd.readouterr()
    assert out == "" and err


@all_explainers
def test_around_a_network_in_train_mode(name, toy, clf):
    X = toy[0]
    want = make(name, clf).transform(X)
    again = pickle.loads(pickle.dumps(clf))
    again.module_.train()
    assert np.array_equal(make(name, again).transform(X), want)


@all_explainers
def test_same_relevance_from_a_network_brought_along(name, toy, clf):
    X = toy[0]
    brought = ECGClassifier.from_module(clf.module_, clf.classes_, n_leads=2, n_timesteps=120)
    assert np.array_equal(make(name, brought).transform(X), make(name, clf).transform(X))
    with torch.no_grad():
        assert np.array_equal(make(name, brought).explain(X).target, clf.predict(X))
