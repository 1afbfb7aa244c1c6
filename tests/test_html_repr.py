"""What a notebook shows of an estimator: its state and parameters, data escaped, small, no link that leads nowhere."""

import html
import re
import time
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skecg import (
    BandpassFilter,
    ECGClassifier,
    ECGScaler,
    GradCAM1D,
    IntegratedGradients,
    RelevanceAggregator,
    Resampler,
)
from skecg.utils._display import DisplayMixin
from tests.test_common import INSTANCES
from tests.tiny import FAST, TinyNet, toy_ecg

# Text, style and script of scikit-learn's own come with each display.
ROOM = 80_000
EVIL = "<script>alert('N')</script>"


def body(estimator):
    """Return the display without scikit-learn's style and script."""
    page = estimator._repr_html_()
    assert len(page) < ROOM
    page = page[page.index("</style>") :]
    return page[: page.rindex("<script>")] if "<script>" in page else page


def text(estimator):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", body(estimator))))


def state(estimator):
    """Return what the icon of the outermost estimator says."""
    return re.search(r"<span>(Fitted|Not fitted)</span>", body(estimator))[1]


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(60, n_classes=2)


@pytest.fixture(scope="module")
def clf(toy):
    X, y, *_ = toy
    return ECGClassifier(TinyNet, fs=120.0, **{**FAST, "max_epochs": 1}).fit(X, np.where(y == "N", EVIL, y))


@pytest.mark.parametrize("name", INSTANCES)
def test_every_estimator_has_a_display(name):
    for estimator in INSTANCES[name]:
        before = str(estimator.get_params())
        assert f" {name} " in text(estimator)
        assert state(estimator) == "Not fitted"
        # scikit-learn links to its own pages alone; ours have no address that could be given
        links = set(re.findall(r'href="([^"]*)"', body(estimator)))
        assert all(link.startswith("https://scikit-learn.org/") and "skecg" not in link for link in links)
        assert estimator._get_doc_link() == ""
        assert str(estimator.get_params()) == before


def test_classifier_shows_the_parameters_of_its_parts():
    shown = text(ECGClassifier(module__width=7, optimizer__weight_decay=0.25, fs=250.0))
    for part in ("module__width", "optimizer__weight_decay", "0.25", "250.0"):
        assert part in shown


def test_module_instance_is_a_name_and_not_its_weights(seeded):
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((400, 400), 0.123456789))
            self.deep = torch.nn.Sequential(*[torch.nn.Linear(3, 3) for _ in range(99)])

        def extra_repr(self):
            return "<script>alert('module')</script>"

        def forward(self, x):
            return x[:, 0, :2]

    for module in (Odd(), torch.nn.Sequential(torch.nn.Sequential(torch.nn.Flatten()), torch.nn.ReLU())):
        for estimator in (ECGClassifier(module), GradCAM1D(ECGClassifier(module))):
            shown = body(estimator)
            assert "<script" not in shown and "0.1234" not in shown
            assert type(module).__name__ in shown
    fitted = ECGClassifier.from_module(Odd().requires_grad_(False), ["a", EVIL], n_leads=1, n_timesteps=9)
    assert "<script" not in body(fitted) and "0.1234" not in body(fitted) and state(fitted) == "Fitted"


def test_labels_and_names_are_escaped(clf, toy):
    X, y, *_ = toy
    assert clf.classes_[0] == EVIL
    R = np.abs(X) + 0.1
    aggregator = RelevanceAggregator(by="lead", lead_names=[EVIL], control=EVIL).fit(R, np.where(y == "N", EVIL, y))
    explainer = GradCAM1D(clf, target=EVIL).fit(X)
    for estimator in (explainer, aggregator, clone(clf).set_params(labels=[EVIL]), Resampler(EVIL, 2)):
        assert "alert(" in text(estimator)
        assert "<script" not in body(estimator)
    assert "<script" not in body(clf)  # whose classes are shown from scikit-learn 1.9 on


def test_state_is_that_of_what_is_wrapped(clf, toy):
    X, *_ = toy
    bare = clone(clf)
    assert state(clf) == "Fitted" and state(bare) == "Not fitted"
    # an explainer around a fitted classifier needs no fit
    for inner in (clf, FrozenEstimator(clf), make_pipeline(ECGScaler().fit(X), clf)):
        assert state(GradCAM1D(inner)) == "Fitted"
        assert state(IntegratedGradients(inner)) == "Fitted"
    for inner in (bare, make_pipeline(ECGScaler(), bare)):
        assert state(GradCAM1D(inner)) == "Not fitted"
    assert state(clone(GradCAM1D(clf))) == "Not fitted"  # clone strips a fit,
    assert state(clone(GradCAM1D(FrozenEstimator(clf)))) == "Fitted"  # and not that of a frozen one
    assert state(BandpassFilter(fs=120.0)) == "Not fitted"
    assert state(BandpassFilter(fs=120.0, low=None).fit(X)) == "Fitted"
    assert state(RelevanceAggregator()) == "Not fitted" and state(RelevanceAggregator().fit(np.abs(X))) == "Fitted"


def test_pipeline_shows_its_steps_in_order(clf):
    pipeline = make_pipeline(BandpassFilter(fs=120.0), ECGScaler(), clone(clf))
    shown = text(pipeline)
    steps = [shown.rindex(f" {name} ") for name in ("BandpassFilter", "ECGScaler", "ECGClassifier")]
    assert steps == sorted(steps)


def test_large_arrays_are_not_written_out():
    baseline = np.full((12, 4096), 0.123456789)
    shown = body(IntegratedGradients(ECGClassifier(), baseline=baseline))
    assert shown.count("0.1234") < 100


@pytest.fixture
def cohort(rng):
    R = rng.normal(size=(300, 2, 40)).astype(np.float32)
    y = np.array(["N", "PVC", "PAC"])[np.arange(300) % 3]
    return R, y


def test_display_forms_no_statistics(cohort):
    aggregator = RelevanceAggregator(by="lead", control="N", random_state=0).fit(*cohort)
    shown = text(aggregator)
    assert {"mean_", "fit", "classes_"} <= set(dir(aggregator))  # as the tab key asks
    assert aggregator._formed is None
    assert "mean_" not in shown and "interval_" not in shown
    assert np.isfinite(aggregator.mean_).all()


def test_display_never_raises(cohort, clf):
    R, y = cohort
    changed = RelevanceAggregator(by="lead", random_state=0).fit(R, y).set_params(by="record")
    with pytest.raises(ValueError, match="changed after fit"):
        _ = changed.mean_
    early = RelevanceAggregator(control="N").partial_fit(R[y != "N"], y[y != "N"])  # the control comes later
    wrong = GradCAM1D(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    stale = GradCAM1D(clone(clf).set_params(max_epochs=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for estimator in (changed, early, wrong, stale):
            assert type(estimator).__name__ in text(estimator)
            assert {"fit", "transform"} <= set(dir(estimator))
    assert "mean_ecg_" in dir(changed) and "inverse_transform" not in dir(changed)


def test_display_is_quick(clf):
    """A display must not cost a pass through the network."""
    start = time.process_time()
    GradCAM1D(FrozenEstimator(clf))._repr_html_()
    assert time.process_time() - start < 1


@pytest.mark.skipif(not hasattr(ECGClassifier, "_get_fitted_attr_html"), reason="no fitted attributes before 1.9")
def test_attributes_that_raise_or_cost_are_left_out():
    class Estimator(DisplayMixin):
        _costly = frozenset({"slow_"})

        def __init__(self):
            self.kept_ = 3

        @property
        def slow_(self):
            raise AssertionError("this was to be left alone")

        @property
        def broken_(self):
            raise RuntimeError("not now")

    table = Estimator()._get_fitted_attr_html()
    assert dict(table) == {"kept_": {"type_name": "int", "value": 3}}
    assert table.estimator_class is Estimator
