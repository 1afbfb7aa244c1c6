"""scikit-learn's own checks over every public estimator of skecg, found by walking through the package."""

import importlib
import inspect
import pkgutil
from collections import Counter
from unittest import SkipTest

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.decomposition import FactorAnalysis
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks as ec
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from skorch import NeuralNet

import skecg
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
from skecg.preprocessing import BandpassFilter, ECGScaler, Gain, LeadArranger, PadOrCrop, Resampler
from skecg.relevance import RelevanceAggregator
from tests.tiny import TinyNet

SMALL = {"module__width": 4, "lr": 0.02, "batch_size": 32}
# The checks do not seed the estimators inside others, so these seed themselves.
INNER = ECGClassifier(TinyNet, module__width=4, lr=0.02, max_epochs=1, random_state=0, fs=100.0)
INNER_LSTM = ECGClassifier(TinyNet, module__width=4, module__lstm=4, lr=0.02, max_epochs=1, random_state=0, fs=100.0)
DEEP = ECGClassifier("ECGNet", module__width=1, module__dropout=0.0, lr=0.01, max_epochs=4, batch_size=32)

# The instances of each public estimator that are checked. A class that is not in this table fails a test below.
INSTANCES = {
    "ECGClassifier": [
        ECGClassifier(TinyNet, max_epochs=20, **SMALL),
        ECGClassifier(
            TinyNet,
            max_epochs=20,
            early_stopping=True,
            n_iter_no_change=10,
            class_weight="balanced",
            module__dropout=0.1,
            module__lstm=4,
            **SMALL,
        ),
        DEEP,
    ],
    "BandpassFilter": [BandpassFilter(fs=100.0), BandpassFilter(low=None, fs=125.0, notch=60)],
    "ECGScaler": [
        ECGScaler(),
        ECGScaler(per="window", method="robust"),
        ECGScaler(per="dataset"),
        ECGScaler(method="max", skip_padding=True),
    ],
    "Gain": [Gain(), Gain(0.5)],
    "LeadArranger": [LeadArranger(["DII"], order=["II"])],
    "PadOrCrop": [PadOrCrop(7), PadOrCrop(2, side="left")],
    "Resampler": [Resampler(100, 250), Resampler(360, 125)],
    "GradCAM1D": [
        GradCAM1D(INNER),
        GradCAM1D(make_pipeline(BandpassFilter(fs=100.0), ECGScaler(), INNER), method="hirescam", relu=False),
    ],
    "MaskDeletion": [MaskDeletion(INNER_LSTM, n_iter=4), MaskDeletion(INNER, n_iter=8, n_knots=None, replacement=0.0)],
    "IntegratedGradients": [
        IntegratedGradients(INNER_LSTM, n_steps=8, baseline="median"),
        IntegratedGradients(INNER, n_steps=4, tol=0.05, max_steps=64, method="riemann_left", output="probability"),
    ],
    "Saliency": [Saliency(INNER)],
    "InputXGradient": [InputXGradient(INNER, output="margin")],
    "ShapExplainer": [
        ShapExplainer(INNER_LSTM, n_samples=8),
        ShapExplainer(INNER, method="deep", n_background=4, random_state=0),
    ],
    "Occlusion": [
        Occlusion(INNER_LSTM, window=0.02, stride=0.01),
        Occlusion(INNER, by="lead", fill=0.0, output="margin"),
    ],
    "SmoothGrad": [SmoothGrad(INNER_LSTM, n_samples=3, random_state=0)],
    "CaptumExplainer": [CaptumExplainer(INNER_LSTM, method="GuidedBackprop")],
    "LRP": [LRP(INNER), LRP(INNER, rule="preset_a_flat", batch_size=16)],
    "RelevanceAggregator": [RelevanceAggregator(by="record"), RelevanceAggregator(by="lead")],
}
ALL = [instance for instances in INSTANCES.values() for instance in instances]


# The only checks that may fail, with their reasons; scikit-learn declares the first for its own SGDClassifier.
MUST_FAIL = {"check_sample_weight_equivalence_on_dense_data": "mini-batches tell a repeated row from a heavier one"}
MAY_FAIL_ON_A_DEEP_NETWORK = {
    "check_methods_subset_invariance": "float32 kernels choose their path by the batch's shape; see the test below"
}


def estimators_in(modules):
    found = {}
    for name in modules:
        for attribute, value in vars(importlib.import_module(name)).items():
            if inspect.isclass(value) and issubclass(value, BaseEstimator) and value.__module__.startswith("skecg."):
                if hasattr(value, "fit") and not attribute.startswith("_") and not inspect.isabstract(value):
                    found[value.__name__] = value
    return found


def public_estimators():
    """Return the estimators that a user can import from a module without an underscore."""
    modules = [info.name for info in pkgutil.walk_packages(skecg.__path__, "skecg.")]
    return estimators_in(name for name in modules if "._" not in name)


def name_of(check):
    while hasattr(check, "func"):
        check = check.func
    return check.__name__


@pytest.fixture
def numpy_generator(global_state_as_found):
    """Lend numpy's global generator, seeded: several checks draw from it, or fit estimators without a seed."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


def test_every_public_estimator_is_checked():
    assert set(public_estimators()) == set(INSTANCES)
    for name, instances in INSTANCES.items():
        assert instances and all(type(i).__name__ == name for i in instances)


def test_no_estimator_is_hidden():
    """A class in a private module is either exported or the base of one that is."""
    everything = estimators_in(info.name for info in pkgutil.walk_packages(skecg.__path__, "skecg."))
    public = public_estimators()
    for name, hidden in everything.items():
        inside = issubclass(hidden, NeuralNet)  # the net that ECGClassifier owns and users never build
        assert inside or name in public or any(issubclass(cls, hidden) for cls in public.values())


def expected_failed_checks(estimator):
    return MUST_FAIL if isinstance(estimator, ECGClassifier) else {}


@parametrize_with_checks(ALL, expected_failed_checks=expected_failed_checks)
def test_sklearn(estimator, check, numpy_generator):
    try:
        check(estimator)
    except SkipTest as skipped:
        pytest.fail(f"a check was skipped: {skipped}")
    except AssertionError:
        if getattr(estimator, "module", None) != DEEP.module or name_of(check) not in MAY_FAIL_ON_A_DEEP_NETWORK:
            raise
        pytest.xfail(MAY_FAIL_ON_A_DEEP_NETWORK[name_of(check)])


def test_a_deep_network_agrees_between_batch_shapes(rng):
    X, y = rng.standard_normal((24, 90)).astype(np.float32), np.arange(24) % 3
    clf = clone(DEEP).set_params(max_epochs=1, random_state=0).fit(X, y)
    whole = clf.decision_function(X)
    for size in (1, 2, 23):
        parts = np.concatenate([clf.decision_function(X[i : i + size]) for i in range(0, 24, size)])
        assert np.allclose(parts, whole, rtol=1e-5, atol=1e-5 * np.abs(whole).max())


EXTRA = [
    ec.check_set_output_transform,
    ec.check_set_output_transform_pandas,
    ec.check_global_output_transform_pandas,
    ec.check_dataframe_column_names_consistency,
    ec.check_transformer_get_feature_names_out,
    ec.check_transformer_get_feature_names_out_pandas,
    ec.check_get_feature_names_out_error,
]


@pytest.mark.parametrize("check", EXTRA, ids=name_of)
@pytest.mark.parametrize("estimator", [e for e in ALL if hasattr(e, "transform")], ids=lambda e: type(e).__name__)
def test_sklearn_extra(estimator, check, numpy_generator):
    """Checks that scikit-learn runs on its own estimators and does not hand to others."""
    check(type(estimator).__name__, estimator)


def test_sklearn_extra_classifier(numpy_generator):
    ec.check_dataframe_column_names_consistency("ECGClassifier", ALL[0])


def names_of_checks(estimator):
    return Counter(name_of(check) for _, check in estimator_checks_generator(estimator, legacy=True))


# Checks of the plain estimator for something that ours has not, and says so by a tag.
NOT_OURS = {
    "check_sample_weight_equivalence_on_sparse_data": "no ECG is sparse, and sparse X is refused",
}
NOT_THE_AGGREGATORS = {
    "check_estimators_nan_inf": "the relevance of a window on which the network fails is NaN: left out and counted",
}


@pytest.mark.parametrize("estimator", ALL, ids=lambda e: type(e).__name__)
def test_as_many_checks_as_a_plain_estimator_of_its_kind(estimator):
    """`two_d_array=False` and other tags make scikit-learn skip checks without a word."""
    allowed = NOT_OURS | (NOT_THE_AGGREGATORS if isinstance(estimator, RelevanceAggregator) else {})
    plain = names_of_checks(MLPClassifier() if is_classifier(estimator) else FactorAnalysis())
    ours = names_of_checks(estimator)
    assert set(plain - ours) <= set(allowed)
    assert ours.total() >= plain.total() - sum((plain - ours).values()) >= 40


@pytest.mark.parametrize("estimator", ALL, ids=lambda e: type(e).__name__)
def test_tags_do_not_ask_for_fewer_checks(estimator):
    tags = estimator.__sklearn_tags__()
    assert tags.input_tags.two_d_array and not tags.no_validation and not tags._skip_test
    assert not tags.non_deterministic and not tags.input_tags.positive_only and not tags.input_tags.sparse
    assert tags.input_tags.allow_nan == isinstance(estimator, RelevanceAggregator)
    if is_classifier(estimator):
        assert tags.classifier_tags.multi_class and tags.classifier_tags.multi_label
        assert not tags.classifier_tags.poor_score and tags.target_tags.required
    else:
        assert tags.transformer_tags.preserves_dtype == ["float32"]


@pytest.mark.parametrize("name", INSTANCES)
def test_parameters_are_documented_and_kept(name):
    cls = public_estimators()[name]
    parameters = [p.name for p in inspect.signature(cls).parameters.values() if p.kind != p.VAR_KEYWORD]
    doc = inspect.getdoc(cls)
    assert all(f"\n{parameter} : " in doc for parameter in parameters)
    instance = INSTANCES[name][0]
    assert set(parameters) <= set(instance.get_params(deep=False))
    assert all(hasattr(instance, parameter) for parameter in parameters)
