"""Every class of the allow-list to a file and back: explainers, pipelines, transformers, aggregators, to the bit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline, make_pipeline

from skecg import explain, preprocessing
from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D, IntegratedGradients, MaskDeletion, ShapExplainer, SmoothGrad
from skecg.persistence import load, save
from skecg.persistence._registry import CLASSES, ENTRIES
from skecg.preprocessing import BandpassFilter, ECGScaler, Gain, LeadArranger, PadOrCrop, Resampler
from skecg.relevance import RelevanceAggregator
from tests.relevance.made import bits, make_beaten, make_cohort
from tests.tiny import TinyNet, toy_ecg

from .files import again, alike

QUICK = {"max_epochs": 1, "random_state": 0, "batch_size": 16}


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=36, n_leads=2, n_timesteps=80)


@pytest.fixture(scope="module")
def clf(toy):
    return ECGClassifier("ECGLSTM", module__width=3, module__step=20, fs=100.0, **QUICK).fit(*toy[:2])


def test_the_lists_hold_what_is_public_and_nothing_that_writes_or_runs():
    for name, entry in ENTRIES.items():
        assert entry.cls.__name__ == name
    assert {"torch.optim.Adam", "torch.nn.CrossEntropyLoss", "torch.optim.lr_scheduler.StepLR"} <= set(CLASSES)
    rooms = {name.rpartition(".")[0] for name in CLASSES}
    assert rooms == {"torch.nn", "torch.optim", "torch.optim.lr_scheduler", "skorch.callbacks"}
    assert "skorch.callbacks.Checkpoint" not in CLASSES  # it writes files
    assert all(isinstance(cls, type) for cls in CLASSES.values())


def explainers(clf, X):
    """One of each kind around a fitted classifier, with arrays, tuples, labels and dicts among the parameters."""
    return [
        GradCAM1D(clf, layer="steps", target="PVC"),
        IntegratedGradients(clf, baseline=X[:1].copy(), n_steps=4),
        MaskDeletion(clf, n_iter=2, n_knots=(4, None), replacement=0.0, target=np.array(["N", "PVC"] * 18)),
        ShapExplainer(clf, n_background=4, random_state=0, n_samples=2),
        ShapExplainer(clf, background=X[:3], random_state=0, n_samples=2),
        SmoothGrad(clf, random_state=np.random.RandomState(1), n_samples=2),
        explain.CaptumExplainer(clf, method="Saliency", options={"abs": False}),
        explain.Occlusion(clf, window=0.1, fill=0.0),
        explain.Saliency(clf),
        explain.InputXGradient(clf),
        explain.LRP(clf),
    ]


@pytest.mark.filterwarnings("ignore:IntegratedGradients", "ignore:ShapExplainer")
def test_every_explainer(toy, tmp_path, clf):
    X = toy[0]
    made = explainers(clf, X)
    assert {type(e).__name__ for e in made} == {n for n in explain.__all__ if hasattr(getattr(explain, n), "explain")}
    for i, unfitted in enumerate(made):
        for before in (unfitted, unfitted if i in (0, 10) else clone(unfitted).set_params(estimator=clf).fit(X)):
            after = again(before, tmp_path)
            assert alike(before, after), before
            assert (after.estimator is getattr(after, "estimator_", after.estimator)) == (before.estimator is clf)
    assert np.array_equal(load(save(made[1], tmp_path / "c")).transform(X), made[1].transform(X))
    shap = made[3].fit(X)
    assert np.array_equal(again(shap, tmp_path).transform(X), shap.transform(X))


def test_explainers_around_all_that_holds_a_classifier(toy, tmp_path, clf, seeded):
    X, y = toy[:2]
    net = TinyNet(2, 80, 3)
    by_module = GradCAM1D(ECGClassifier.from_module(net, list("abc"), n_leads=2, n_timesteps=80), smooth=0)
    inner = by_module.estimator.module_.features[3]
    path = save(by_module.set_params(layer=inner), tmp_path / "a")
    after = load(path, module=TinyNet(2, 80, 3))
    assert after.layer == "features.3" and np.array_equal(after.transform(X), by_module.transform(X))

    frozen = again(GradCAM1D(FrozenEstimator(clf), layer="steps"), tmp_path)
    assert isinstance(frozen.estimator, FrozenEstimator) and alike(frozen.estimator.estimator, clf)

    steps = ECGScaler(per="dataset"), IntegratedGradients(clone(clf), n_steps=2)
    whole = make_pipeline(*steps, memory=str(tmp_path / "m")).fit(X, y)
    after = again(whole, tmp_path)
    assert after.memory is None and after[-1].estimator_ is not after[-1].estimator
    assert np.array_equal(after.transform(X[:4]), whole.transform(X[:4]))


def test_pipelines_of_all_steps(toy, tmp_path):
    X, y = toy[:2]
    before = Pipeline(
        [
            ("leads", LeadArranger(["I", "II"], order=("II", "I", "III"), check=False)),
            ("filter", BandpassFilter(fs=100.0)),
            ("none", "passthrough"),
            ("nothing", None),
            ("resample", Resampler(100, 125)),
            ("pad", PadOrCrop(128)),
            ("scale", ECGScaler(per="dataset", method="robust")),
            ("gain", Gain(0.5)),
            ("clf", ECGClassifier("ECGLSTM", module__width=2, **QUICK)),
        ]
    )
    steps = {type(step).__name__ for _, step in before.steps}
    assert steps >= {n for n in preprocessing.__all__ if hasattr(getattr(preprocessing, n), "transform")}
    after = again(before.fit(X, y), tmp_path)
    assert alike(before, after) and np.array_equal(after.predict_proba(X), before.predict_proba(X))
    assert after["pad"].valid_ == before["pad"].valid_ and after["leads"].derived_ == ["III"]
    unfitted = again(clone(before), tmp_path)
    assert alike(clone(before), unfitted)
    assert np.array_equal(unfitted.fit(X, y).predict_proba(X), before.predict_proba(X))


def test_names_outputs_and_requests(tmp_path):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 30)), columns=[f"s{i}" for i in range(30)])
    with config_context(enable_metadata_routing=True):
        before = make_pipeline(
            ECGScaler().set_output(transform="pandas"),
            ECGClassifier("ECGLSTM", module__width=2, **QUICK).set_fit_request(groups=True, sample_weight="weights"),
        )
        before.fit(frame, np.arange(12) % 2, groups=np.arange(12))
    after = again(before, tmp_path)
    assert alike(before[0], after[0]) and list(after[0].transform(frame).columns) == list(frame.columns)
    asked = after[-1]._metadata_request.fit.requests
    assert asked == before[-1]._metadata_request.fit.requests and asked["sample_weight"] == "weights"


@pytest.mark.parametrize("by", ["record", "lead", "wave", "beat"])
def test_aggregators(rng, tmp_path, by):
    R, y, given = make_cohort(rng) if by in ("record", "lead") else make_beaten(rng)
    before = RelevanceAggregator(by, fs=100.0, n_bootstrap=50, control="N", random_state=0).fit(R, y, **given)
    with config_context(enable_metadata_routing=True):
        before.set_fit_request(ecg=True).set_output(transform="pandas")
    after = again(before, tmp_path)
    assert bits(after) == bits(before)
    assert after._metadata_request.fit.requests["ecg"] is True
    assert again(clone(before), tmp_path).get_params() == before.get_params()


def test_an_explainer_with_its_aggregator(toy, tmp_path, clf):
    X, y = toy[:2]
    before = make_pipeline(IntegratedGradients(FrozenEstimator(clf), n_steps=2), RelevanceAggregator("lead"))
    before.set_params(relevanceaggregator__random_state=0).fit(X, y)
    after = again(before, tmp_path)
    assert np.array_equal(after.transform(X), before.transform(X))
    assert bits(after[-1]) == bits(before[-1])
