"""ECGClassifier.from_module: a fitted classifier around a network trained elsewhere."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D, MaskDeletion
from tests.tiny import BraindecodeNet, LinearNet, TinyNet, same_snapshot, snapshot, toy_ecg

NAMES = ["PVC", "N", "PAC"]  # the network's own order, not the alphabet's


@pytest.fixture
def toy():
    return toy_ecg(n=40)


@pytest.fixture
def net(seeded):
    return TinyNet(1, 120, 3, lstm=3)


@pytest.fixture
def clf(net):
    return ECGClassifier.from_module(net, NAMES, n_leads=1, n_timesteps=120)


def logits(net, X):
    was = net.training
    with torch.no_grad():
        z = net.eval()(torch.from_numpy(X)).numpy()
    net.train(was)
    return z


def test_answers_are_the_networks(toy, net, clf):
    X, z = toy[0], logits(net, toy[0])
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    columns = [NAMES.index(name) for name in clf.classes_]  # wherever a class is put, its column goes along
    assert sorted(clf.classes_) == sorted(NAMES)
    assert np.allclose(clf.predict_proba(X), p[:, columns], rtol=1e-5, atol=1e-6)
    assert np.allclose(clf.decision_function(X), z[:, columns], rtol=1e-5, atol=1e-5)
    assert np.array_equal(clf.predict(X), np.array(NAMES)[z.argmax(1)])


def test_it_is_fitted(clf):
    assert (clf.n_leads_, clf.n_timesteps_, clf.n_outputs_, clf.n_features_in_) == (1, 120, 3, 120)
    assert clf.multilabel_ is False and str(clf.device_) in ("cpu", "cuda", "mps") and clf.module_ is not None
    assert clf.n_epochs_ == 0


def test_one_dimension_less_is_one_lead(toy, clf):
    assert np.array_equal(clf.predict_proba(toy[0]), clf.predict_proba(toy[0][:, 0]))


def test_two_classes(toy, seeded):
    net = TinyNet(1, 120, 2)
    clf = ECGClassifier.from_module(net, ["N", "AF"], n_leads=1, n_timesteps=120, threshold=0.3)
    z = logits(net, toy[0])
    af = 1 / (1 + np.exp(z[:, 0] - z[:, 1]))
    p = clf.predict_proba(toy[0])
    assert np.allclose(p[:, list(clf.classes_).index("AF")], af, rtol=1e-5)
    second = p[:, 1]
    assert np.array_equal(clf.predict(toy[0]) == clf.classes_[1], second > 0.3)
    assert np.allclose(1 / (1 + np.exp(-clf.decision_function(toy[0]))), second, rtol=1e-5)


def test_multilabel(toy, net):
    clf = ECGClassifier.from_module(
        net, ["1dAVb", "AF", "ST"], n_leads=1, n_timesteps=120, multilabel=True, threshold=[0.0, 0.5, 1.0], fs=400.0
    )
    z = logits(net, toy[0])
    assert list(clf.classes_) == ["1dAVb", "AF", "ST"] and clf.multilabel_ is True and clf.fs == 400.0
    assert np.allclose(clf.predict_proba(toy[0]), 1 / (1 + np.exp(-z)), rtol=1e-5, atol=1e-6)
    predicted = clf.predict(toy[0])
    assert predicted[:, 0].all() and not predicted[:, 2].any() and np.array_equal(predicted[:, 1], z[:, 1] > 0)


def test_the_network_is_left_as_found(toy, net):
    net.features[1].eval()
    before = snapshot(net)
    clf = ECGClassifier.from_module(net, NAMES, n_leads=1, n_timesteps=120)
    clf.predict(toy[0])
    GradCAM1D(clf, smooth=0).transform(toy[0])
    clf.set_params(lr=0.1).partial_fit(toy[0], toy[1])
    assert same_snapshot(before, snapshot(net))


def test_partial_fit_goes_on_from_the_weights(toy, net, clf):
    X, y, *_ = toy
    before = clf.predict_proba(X)
    still = pickle.loads(pickle.dumps(clf)).set_params(lr=1e-12, optimizer=torch.optim.SGD)
    still.partial_fit(X, y)
    weights = dict(net.named_parameters())
    for name, p in still.module_.named_parameters():
        assert torch.allclose(p, weights[name], rtol=0, atol=1e-6)
    clf.set_params(lr=0.02)
    for _ in range(25):
        clf.partial_fit(X, y)
    assert clf.n_epochs_ == 25 and clf.score(X, y) > 0.7 and not np.allclose(clf.predict_proba(X), before)
    with pytest.raises(ValueError, match="not among the classes"):
        clf.partial_fit(X, np.full(len(X), "XX"))


def test_partial_fit_trains_the_right_columns(toy):
    X = toy[0]
    y = np.where(np.arange(40) % 2, "A", "B")
    net = LinearNet(np.zeros((2, 1, 120)), [0.0, 0.0])
    clf = ECGClassifier.from_module(net, ["B", "A"], n_leads=1, n_timesteps=120).set_params(lr=0.01)
    for _ in range(60):
        clf.partial_fit(X, np.full(40, "B"))
    assert (clf.predict(X) == "B").all() and set(clf.classes_) == set(y)


def test_every_explainer_works_on_it(toy, net, clf):
    X = toy[0]
    for explainer in (GradCAM1D(clf, method="gradcam", relu=False), MaskDeletion(clf, replacement=0.0, n_iter=3)):
        out = explainer.explain(X, target="PVC")
        assert out.relevance.shape == X.shape and np.isfinite(out.relevance).all() and set(out.target) == {"PVC"}
    score = GradCAM1D(clf, smooth=0).explain(X, target="PVC").score
    assert np.allclose(score, logits(net, X)[:, 0], rtol=1e-5, atol=1e-5)  # PVC is the network's first output


def test_clone_strips_the_fit_and_frozen_keeps_it(toy, clf):
    with pytest.raises(NotFittedError):
        clone(clf).predict(toy[0])
    frozen = clone(FrozenEstimator(clf))
    assert np.array_equal(frozen.predict_proba(toy[0]), clf.predict_proba(toy[0]))


def test_pickle(toy, clf):
    again = pickle.loads(pickle.dumps(clf))
    assert np.array_equal(again.predict_proba(toy[0]), clf.predict_proba(toy[0]))
    assert list(again.classes_) == list(clf.classes_)


@pytest.mark.parametrize(
    "classes, message",
    [
        (["N", "PVC"], r"(?s)2.*3|3.*2"),
        (["N", "PVC", "PAC", "AFIB"], r"(?s)4.*3|3.*4"),
        (["N", "N", "PVC"], "(?i)classes|twice|unique|duplicate"),
        ([], "classes"),
    ],
    ids=str,
)
def test_classes_must_fit_the_outputs(net, classes, message):
    with pytest.raises(ValueError, match=message):
        ECGClassifier.from_module(net, classes, n_leads=1, n_timesteps=120)


def test_a_network_that_does_not_fit_the_sizes(seeded, net):
    with pytest.raises(ValueError, match="lead"):
        ECGClassifier.from_module(net, NAMES, n_leads=12, n_timesteps=120)
    with pytest.raises(ValueError, match=r"(?s)99|120"):
        ECGClassifier.from_module(BraindecodeNet(1, 99, 3), NAMES, n_leads=1, n_timesteps=120)
    for sizes in ({"n_leads": 0, "n_timesteps": 120}, {"n_leads": 1, "n_timesteps": 0}):
        with pytest.raises(ValueError, match=r"n_leads|n_timesteps"):
            ECGClassifier.from_module(net, NAMES, **sizes)


def test_a_network_of_probabilities_is_refused(net):
    with pytest.raises(ValueError, match="logits"):
        ECGClassifier.from_module(torch.nn.Sequential(net, torch.nn.Softmax(1)), NAMES, n_leads=1, n_timesteps=120)


def test_threshold_with_more_classes_is_refused(net):
    with pytest.raises(ValueError, match="threshold"):
        ECGClassifier.from_module(net, NAMES, n_leads=1, n_timesteps=120, threshold=0.2)


@pytest.mark.parametrize("bad", ["TinyNet", TinyNet, None, 3], ids=str)
def test_only_a_network_will_do(bad):
    with pytest.raises(ValueError, match="module"):
        ECGClassifier.from_module(bad, NAMES, n_leads=1, n_timesteps=120)
