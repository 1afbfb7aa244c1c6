"""scikit-learn's callbacks: which tasks they are told of, what they are handed, and that training takes no notice."""

import importlib.util
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from skecg import BandpassFilter, ECGClassifier, ECGScaler, GradCAM1D
from tests.tiny import FAST, TinyNet, toy_ecg

HAS_CALLBACKS = importlib.util.find_spec("sklearn.callback") is not None
needs_callbacks = pytest.mark.skipif(not HAS_CALLBACKS, reason="scikit-learn has callbacks from 1.9 on")


class Recorder:
    """A callback that notes what it is told, and may keep fitted estimators, ask to stop, or fail."""

    def __init__(self, keep=False, stop_after=None, fail=False):
        self.keep, self.stop_after, self.fail = keep, stop_after, fail
        self.events, self.told, self.fitted = [], [], []

    def _note(self, what, context):
        self.events.append((what, context.estimator_name, context.task_name, context.task_id))

    def setup(self, estimator, context):
        self._note("setup", context)

    def teardown(self, estimator, context):
        self._note("teardown", context)

    def on_fit_task_begin(self, estimator, context):
        self._note("begin", context)

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None):
        self._note("end", context)
        self.told.append((X, y, metadata))
        if self.fail:
            raise OSError("the monitor's disk is full")
        return self.stop_after is not None and context.task_name == "epoch" and context.task_id + 1 == self.stop_after


class Keeper(Recorder):
    """Keeps the fitted estimator of each task."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self._note("end", context)
        if fitted_estimator is not None:
            self.fitted.append(fitted_estimator)


class Spread(Recorder):
    """Goes on to inner estimators."""

    max_propagation_depth = None


def tiny(**settings):
    return ECGClassifier(**{"module": TinyNet, **FAST, "max_epochs": 3, **settings})


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(60)


def same_weights(a, b):
    a, b = a.module_.state_dict(), b.module_.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.skipif(HAS_CALLBACKS, reason="scikit-learn has callbacks here")
def test_without_callbacks_nothing_is_promised():
    assert not any(hasattr(cls, "set_callbacks") for cls in (ECGClassifier, BandpassFilter, GradCAM1D))


def test_with_callbacks_they_are_supported():
    for cls in (ECGClassifier, BandpassFilter, ECGScaler, GradCAM1D):
        assert hasattr(cls, "set_callbacks") == HAS_CALLBACKS


@needs_callbacks
def test_epochs_are_tasks_of_the_fit(toy):
    X, y, *_ = toy
    weight, seen = np.linspace(1, 2, len(X)), Recorder()
    clf = tiny().set_callbacks(seen).fit(X, y, sample_weight=weight)
    fit = ("ECGClassifier", "fit", 0)
    epochs = [(what, "ECGClassifier", "epoch", i) for i in range(3) for what in ("begin", "end")]
    assert seen.events == [("setup", *fit), ("begin", *fit), *epochs, ("end", *fit), ("teardown", *fit)]
    assert all(a is X and b is y and metadata["sample_weight"] is weight for a, b, metadata in seen.told)
    assert vars(clf).keys() - vars(tiny().fit(X, y)).keys() == {"_skl_callbacks"}  # nothing of the run stays


@needs_callbacks
@pytest.mark.parametrize("early_stopping", [False, True])
def test_training_takes_no_notice(toy, early_stopping):
    from sklearn.callback import ScoringMonitor

    X, y, groups, _ = toy
    settings = {"module__dropout": 0.5, "early_stopping": early_stopping, "module__lstm": 3}
    plain = tiny(**settings).fit(X, y, groups=groups)
    seen = ScoringMonitor(scoring="neg_log_loss")
    watched = tiny(**settings).set_callbacks(Recorder(), Keeper(), seen).fit(X, y, groups=groups)
    assert same_weights(plain, watched)
    assert [row["train_loss"] for row in plain.history_] == [row["train_loss"] for row in watched.history_]
    assert [name for name, _ in watched.net_.callbacks_] == [name for name, _ in plain.net_.callbacks_]


@needs_callbacks
def test_a_fitted_estimator_is_one_whose_training_ended_there(toy):
    from sklearn.callback import ScoringMonitor

    X, y, *_ = toy
    keeper, monitor = Keeper(), ScoringMonitor(scoring="neg_log_loss")
    clf = tiny(module__dropout=0.2).set_callbacks(keeper, monitor).fit(X, y)
    *epochs, last = keeper.fitted
    scores = [row["neg_log_loss"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    for n, (fitted, score) in enumerate(zip(epochs, scores, strict=True), start=1):  # compared when all is over
        alone = tiny(module__dropout=0.2, max_epochs=n).fit(X, y)
        assert same_weights(fitted, alone) and fitted.n_epochs_ == n
        assert [row["train_loss"] for row in fitted.history_] == [row["train_loss"] for row in alone.history_]
        proba = alone.predict_proba(X)[np.arange(len(y)), np.searchsorted(clf.classes_, y)]
        assert score == pytest.approx(np.log(proba).mean())
    assert same_weights(last, clf)


@needs_callbacks
def test_a_fitted_estimator_knows_what_was_held_out(toy):
    X, y, groups, _ = toy
    keeper = Keeper()
    clf = tiny(early_stopping=True).set_callbacks(keeper).fit(X, y, groups=groups)
    assert len(clf.validation_indices_) > 0
    assert all(np.array_equal(fitted.validation_indices_, clf.validation_indices_) for fitted in keeper.fitted)


@needs_callbacks
def test_a_fitted_estimator_is_one_of_its_own(toy):
    X, y, *_ = toy
    keeper = Keeper()
    clf = tiny(callbacks=None).set_callbacks(keeper).fit(X, y)
    before = {name: value.clone() for name, value in clf.module_.state_dict().items()}
    first = keeper.fitted[0]
    assert same_weights(first, tiny(max_epochs=1).fit(X, y))
    assert np.isfinite(GradCAM1D(first, method="gradcam").transform(X[:3])).all()
    went_on = first.partial_fit(X, y)  # and trains on as a classifier of one epoch does
    assert same_weights(went_on, tiny(max_epochs=1).fit(X, y).partial_fit(X, y))
    assert all(torch.equal(value, before[name]) for name, value in clf.module_.state_dict().items())
    assert pickle.loads(pickle.dumps(first)).n_epochs_ == 2


def weight_normed(n_leads, n_timesteps, n_outputs):
    """Return a network with torch's older weight_norm: its weight is computed, and deepcopy refuses such a tensor."""
    net = TinyNet(n_leads, n_timesteps, n_outputs)
    torch.nn.utils.weight_norm(net.features[0])
    return net


@needs_callbacks
@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_a_network_that_torch_cannot_copy(toy):
    X, y, *_ = toy
    keeper = Keeper()
    clf = ECGClassifier(weight_normed, max_epochs=3, random_state=0).set_callbacks(keeper).fit(X, y)
    assert [fitted.n_epochs_ for fitted in keeper.fitted] == [1, 2, 3, 3]
    assert not np.array_equal(keeper.fitted[0].predict_proba(X), clf.predict_proba(X))


@needs_callbacks
def test_a_callback_may_stop_training(toy, tmp_path):
    X, y, *_ = toy
    seen = Recorder(stop_after=2)
    clf = tiny(max_epochs=5, checkpoint_dir=tmp_path).set_callbacks(seen).fit(X, y)
    assert clf.n_epochs_ == 2 and same_weights(clf, tiny(max_epochs=2).fit(X, y))
    assert [event[0] for event in seen.events].count("begin") == [event[0] for event in seen.events].count("end") == 3
    assert len(list(clf.checkpoint_folder_.iterdir())) >= 2  # the epoch that it was stopped after is written too


@needs_callbacks
@pytest.mark.parametrize("hook", ["on_fit_task_begin", "on_fit_task_end"])
def test_an_interrupt_in_a_callback_is_no_wish_to_stop(toy, hook, monkeypatch):
    X, y, *_ = toy
    seen = Recorder()

    def interrupted(estimator, context):
        if context.task_name == "epoch" and context.task_id == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(seen, hook, interrupted)
    clf = tiny().set_callbacks(seen)
    before = dict(vars(clf))
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert vars(clf) == before and seen.events[-1][0] == "teardown"


class StopInEpoch(Callback):
    """Ends training as skorch's callbacks may, in the middle of the second epoch."""

    def on_batch_end(self, net, training=False, **kwargs):
        if training and len(net.history) == 2:
            raise KeyboardInterrupt


def test_an_epoch_cut_short_ends_training(toy):
    X, y, *_ = toy
    assert tiny(callbacks=[StopInEpoch]).fit(X, y).n_epochs_ == 2
    if HAS_CALLBACKS:
        seen = Recorder()
        tiny(callbacks=[StopInEpoch]).set_callbacks(seen).fit(X, y)
        assert [event[0] for event in seen.events].count("begin") == [event[0] for event in seen.events].count("end")


@needs_callbacks
def test_early_stopping_ends_every_task(toy):
    X, y, *_ = toy
    seen = Recorder()
    clf = tiny(max_epochs=30, lr=0.5, early_stopping=True, n_iter_no_change=1).set_callbacks(seen).fit(X, y)
    assert clf.n_epochs_ < 30
    ended = [event[1:] for event in seen.events if event[0] == "end"]
    begun = [event[1:] for event in seen.events if event[0] == "begin"]
    assert sorted(begun) == sorted(ended) and len(ended) == clf.n_epochs_ + 1


@needs_callbacks
@pytest.mark.parametrize("fault", ["y", "max_epochs", "hook"])
def test_after_an_error_all_is_as_it_was(toy, fault):
    X, y, *_ = toy
    seen = Recorder(fail=fault == "hook")
    clf = tiny(max_epochs=0 if fault == "max_epochs" else 2).set_callbacks(seen)
    before = dict(vars(clf))
    with pytest.raises(OSError if fault == "hook" else ValueError):
        clf.fit(X, y[:-1] if fault == "y" else y)
    assert vars(clf) == before
    what = [event[0] for event in seen.events]
    assert what.count("setup") == what.count("teardown") == (0 if fault == "max_epochs" else 1)


@needs_callbacks
def test_callbacks_are_no_parameters(toy):
    X, y, *_ = toy
    seen = Recorder()
    clf = tiny().set_callbacks(seen)
    assert clf.get_params().keys() == tiny().get_params().keys()
    assert clone(clf)._skl_callbacks == [seen]
    loaded = pickle.loads(pickle.dumps(clf.fit(X, y)))
    assert np.array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    assert len(loaded._skl_callbacks[0].events) == len(seen.events)
    n = len(seen.events)
    clf.set_callbacks().fit(X, y)
    clf.partial_fit(X, y)
    assert len(seen.events) == n
    with pytest.raises(TypeError, match="FitCallback"):
        clf.set_callbacks("progress")


@needs_callbacks
@pytest.mark.filterwarnings("error:.*does not support callbacks")
def test_pipelines_and_searches_hand_them_on(toy):
    X, y, *_ = toy
    seen = Spread()
    pipeline = make_pipeline(BandpassFilter(fs=120.0, low=None), ECGScaler(per="dataset"), tiny())
    pipeline.set_callbacks(seen).fit(X, y)
    begun = [event[1:] for event in seen.events if event[0] == "begin"]
    assert begun == [
        ("Pipeline", "fit", 0),
        ("BandpassFilter", "fit", 0),
        ("ECGScaler", "fit", 1),
        ("ECGClassifier", "fit", 2),
        *(("ECGClassifier", "epoch", i) for i in range(3)),
    ]
    assert sorted(begun) == sorted(event[1:] for event in seen.events if event[0] == "end")
    assert not hasattr(pipeline[-1], "_skl_callbacks") and not hasattr(pipeline[0], "_skl_callbacks")

    seen = Spread()
    GridSearchCV(tiny(max_epochs=1), {"lr": [0.01, 0.02]}, cv=2).set_callbacks(seen).fit(X, y)
    epochs = [event for event in seen.events if event[:3] == ("end", "ECGClassifier", "epoch")]
    assert len(epochs) == 2 * 2 + 1


@needs_callbacks
@pytest.mark.filterwarnings("error:.*does not support callbacks")
def test_explainers_hand_them_on_to_what_they_fit(toy):
    X, y, *_ = toy
    seen = Spread()
    explainer = GradCAM1D(tiny(max_epochs=2), method="gradcam").set_callbacks(seen).fit(X, y)
    begun = [event[1:] for event in seen.events if event[0] == "begin"]
    inner = [("ECGClassifier", "fit", 0), ("ECGClassifier", "epoch", 0), ("ECGClassifier", "epoch", 1)]
    assert begun == [("GradCAM1D", "fit", 0), *inner]
    assert sorted(begun) == sorted(event[1:] for event in seen.events if event[0] == "end")

    seen = Spread()
    around = GradCAM1D(FrozenEstimator(explainer.estimator_), method="gradcam").set_callbacks(seen).fit(X)
    assert [event[:3] for event in seen.events] == [
        (what, "GradCAM1D", "fit") for what in ("setup", "begin", "end", "teardown")
    ]
    assert np.array_equal(around.transform(X[:4]), explainer.transform(X[:4]))
