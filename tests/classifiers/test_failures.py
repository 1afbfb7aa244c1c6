"""What a fit that fails leaves behind, and what is refused before it trains."""

from __future__ import annotations

import functools
import pickle
import warnings

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from skecg import ECGClassifier
from tests.tiny import FAST, TinyNet, toy_ecg

X, Y, *_ = toy_ecg(n=60)


def tiny(**params):
    return ECGClassifier(params.pop("module", TinyNet), **{**FAST, **params})


def interrupt(x, generator):
    raise KeyboardInterrupt


def double(x, generator):
    return 2 * x


def scaled(factor):
    return lambda x, generator: factor * x


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_refit_that_fails_leaves_the_old_fit(error):
    clf = tiny().fit(X, Y)
    before, attributes = clf.predict_proba(X), set(vars(clf))

    def fail(x, generator):
        raise error("stop")

    clf.set_params(augment=fail)
    with pytest.raises(error):
        clf.fit(X[..., :50], np.where(Y == "N", "other", "labels"))
    assert list(clf.classes_) == ["N", "PAC", "PVC"] and set(vars(clf)) == attributes
    assert np.array_equal(clf.predict_proba(X), before)


def test_a_first_fit_that_fails_leaves_nothing():
    clf = tiny(augment=interrupt)
    before = set(vars(clf))
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, Y)
    assert set(vars(clf)) == before


class StopAtOnce(Callback):
    """A stopping rule of the user's own, by skorch's means."""

    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


def test_a_callback_of_the_users_own_may_stop_training():
    assert tiny(callbacks=[StopAtOnce], max_epochs=5).fit(X, Y).n_epochs_ == 1


def build_net(n_leads, n_timesteps, n_outputs):
    return TinyNet(n_leads, n_timesteps, n_outputs, width=2)


@pytest.mark.parametrize("factory", [build_net, functools.partial(TinyNet, width=2)], ids=["function", "partial"])
def test_a_factory_makes_a_classifier_that_can_be_pickled(factory):
    clf = ECGClassifier(factory, max_epochs=1, random_state=0).fit(X, Y)
    assert np.array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), clf.predict_proba(X))


@pytest.mark.parametrize("start", range(20))
def test_a_network_that_normalises_its_input_is_not_taken_for_a_sigmoid(seeded, start):
    torch.manual_seed(start)
    net = nn.Sequential(
        nn.InstanceNorm1d(1), nn.Conv1d(1, 4, 7), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    ECGClassifier.from_module(net, ["N", "PVC"], n_leads=1, n_timesteps=120)


def test_a_sigmoid_is_refused(seeded):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(120, 2), nn.Sigmoid())
    with pytest.raises(ValueError, match="sigmoid"):
        ECGClassifier.from_module(net, ["AF", "LBBB"], n_leads=1, n_timesteps=120, multilabel=True)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"device": "cuda:99"}, "cuda:99"),
        ({"optimizer": "Adam"}, "optimizer must be a class"),
        ({"criterion": 3}, "criterion must be a class"),
        ({"optimizer__foo": 1}, "foo"),
        ({"criterion__foo": 1}, "foo"),
        ({"criterion__reduction": "sum"}, "criterion__reduction"),
        ({"callbacks__nope__patience": 1}, "callbacks__nope__patience"),
        ({"class_weight": {"N": -5}}, "class_weight must hold finite weights"),
        ({"class_weight": {"N": 0, "PVC": 0, "PAC": 0}}, "class_weight must hold finite weights"),
    ],
    ids=str,
)
def test_bad_parts_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        tiny(**params).fit(X, Y)


def test_numpys_generator_is_left_as_found_without_a_seed():
    before = repr(np.random.mtrand._rand.get_state())
    tiny(random_state=None, max_epochs=1).fit(X, Y)
    assert repr(np.random.mtrand._rand.get_state()) == before


def test_a_training_that_diverges_says_so():
    with pytest.warns(UserWarning, match="diverged.*smaller lr"):
        tiny(lr=1e30, optimizer=torch.optim.SGD, max_epochs=2).fit(X, Y)


def test_classes_of_partial_fit_name_the_columns():
    two = np.c_[Y == "N", Y == "PVC"].astype(int)
    clf = tiny()
    for _ in range(2):
        clf.partial_fit(X, two, classes=["AF", "LBBB"])
    assert list(clf.classes_) == ["AF", "LBBB"] and clf.n_epochs_ == 2


def test_a_device_that_was_changed_is_not_ignored():
    clf = tiny(device="cpu", max_epochs=1).fit(X, Y).set_params(device="auto")
    with pytest.raises(ValueError, match="device was changed"):
        clf.partial_fit(X, Y)


@pytest.mark.parametrize(
    "one, other",
    [
        ({"random_state": np.random.RandomState(0)}, {"random_state": np.random.RandomState(1)}),
        ({"augment": scaled(1)}, {"augment": scaled(2)}),
        ({"augment": lambda x, generator: x}, {"augment": lambda x, generator: -x}),
        ({"augment": functools.partial(double)}, {"augment": functools.partial(scaled(2))}),
    ],
    ids=["generators", "closures", "lambdas", "partials"],
)
def test_checkpoints_of_different_fits_do_not_meet(tmp_path, one, other):
    for params in (one, other):
        tiny(checkpoint_dir=tmp_path, max_epochs=1, **params).fit(X, Y)
    assert len(list(tmp_path.iterdir())) == 2


def test_checkpoints_of_the_same_fit_meet(tmp_path):
    for _ in range(2):
        clf = tiny(checkpoint_dir=tmp_path, max_epochs=1, augment=functools.partial(scaled(2)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            clf.fit(X, Y)
    assert len(list(tmp_path.iterdir())) == 1
