"""The user's network, its gradients, hooks and flags, and every generator are as found after explaining."""

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D, MaskDeletion
from tests.tiny import FAST, TinyNet, same_snapshot, snapshot, toy_ecg

EXPLAINERS = {
    "gradcam": GradCAM1D(None, method="gradcam", relu=False),
    "layercam": GradCAM1D(None, method="layercam", layer="features.3"),
    "mask": MaskDeletion(None, n_iter=3, init=0.5, n_knots=(4, None), replacement=0.0),
}
all_explainers = pytest.mark.parametrize("name", EXPLAINERS)
CONTEXTS = {
    "plain": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
}

BREAK = {"at": None, "calls": 0, "error": RuntimeError}  # breaks off a forward pass of BreakingNet


class BreakingNet(TinyNet):
    def forward(self, x):
        BREAK["calls"] += 1
        if BREAK["calls"] == BREAK["at"]:
            raise BREAK["error"]("in the middle")
        return super().forward(x)


@pytest.fixture(autouse=True)
def nothing_breaks():
    BREAK.update(at=None, calls=0, error=RuntimeError)
    yield
    BREAK.update(at=None, calls=0, error=RuntimeError)


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=24, n_leads=2, n_timesteps=60)


@pytest.fixture
def clf(toy):
    fitted = ECGClassifier(BreakingNet, module__lstm=3, module__dropout=0.4, **{**FAST, "max_epochs": 2}).fit(*toy[:2])
    return lived_in(fitted)


def hook(*args):
    """Stand for a hook of the user's."""


def lived_in(clf):
    """Leave the fitted network in the state that a user's own work may have left it in."""
    net = clf.module_
    net.train()
    net.features[1].eval()
    net.drop.eval()
    net.head.weight.requires_grad_(False)
    net.features[0].weight.grad = torch.full_like(net.features[0].weight, 3.0)
    net.features[4].register_forward_hook(hook)
    net.features[4].register_forward_pre_hook(hook)
    net.register_full_backward_hook(hook)
    net.head.register_full_backward_pre_hook(hook)
    return clf


def make(name, estimator):
    return clone(EXPLAINERS[name]).set_params(estimator=estimator)


def put_gradient(net):
    net.features[4].weight.grad = torch.zeros_like(net.features[4].weight)


SABOTAGE = {
    "a flag": lambda net: net.drop.train(),
    "a gradient": put_gradient,
    "a gradient's value": lambda net: net.features[0].weight.grad.add_(1),
    "requires_grad": lambda net: net.head.weight.requires_grad_(True),
    "a hook": lambda net: net.features.register_forward_hook(hook),
    "a batch norm's statistics": lambda net: net.features[1].running_mean.add_(1e-6),
    "a weight": lambda net: net.lstm.weight_hh_l0.data.mul_(1.0001),
    "a layer": lambda net: setattr(net, "drop", torch.nn.Dropout(0.4).eval()),
    "an attribute": lambda net: setattr(net, "left_behind", 1),
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_the_snapshot_sees_what_it_watches(what, clf):
    before = snapshot(clf.module_)
    assert same_snapshot(before, snapshot(clf.module_))
    SABOTAGE[what](clf.module_)
    assert not same_snapshot(before, snapshot(clf.module_))


@all_explainers
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_network_is_left_as_found(name, context, toy, clf):
    X = toy[0]
    before, was = snapshot(clf.module_), X.copy()
    ex = make(name, clf)
    with CONTEXTS[context]():
        R = ex.transform(X)
        out = ex.explain(X, target="PVC")
        flags = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        expected = CONTEXTS[context]()
        with expected:
            assert flags == (
                torch.is_grad_enabled(),
                torch.is_inference_mode_enabled(),
                torch.is_autocast_enabled("cpu"),
            )
    assert same_snapshot(before, snapshot(clf.module_)) and np.array_equal(was, X)
    want = ex.transform(X)
    assert np.allclose(R, want, rtol=1e-5, atol=1e-6 * np.abs(want).max())
    assert np.allclose(out.relevance, ex.explain(X, target="PVC").relevance, rtol=1e-5, atol=1e-6)
    assert not torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()


@pytest.mark.parametrize("context", CONTEXTS)
def test_predicting_leaves_the_network_as_found(context, toy, clf):
    X = toy[0]
    before = snapshot(clf.module_)
    with CONTEXTS[context]():
        p, z, labels = clf.predict_proba(X), clf.decision_function(X), clf.predict(X)
    assert same_snapshot(before, snapshot(clf.module_))
    assert np.allclose(p, clf.predict_proba(X), rtol=1e-5, atol=1e-7)
    assert np.allclose(z, clf.decision_function(X), rtol=1e-5, atol=1e-6) and np.array_equal(labels, clf.predict(X))


@all_explainers
@pytest.mark.parametrize("error", [RuntimeError, KeyError, KeyboardInterrupt])
@pytest.mark.parametrize("when", ["first", "middle", "last"])
def test_an_exception_in_the_middle_leaves_nothing_behind(name, error, when, toy, clf):
    X = toy[0]
    ex = make(name, clf).set_params(batch_size=8)
    want = ex.transform(X)
    BREAK["calls"] = 0
    ex.transform(X)
    calls = BREAK["calls"]
    assert calls >= 3
    before = snapshot(clf.module_)
    BREAK.update(calls=0, at={"first": 1, "middle": calls // 2 + 1, "last": calls}[when], error=error)
    with pytest.raises(error, match="in the middle"):
        ex.transform(X)
    BREAK["at"] = None
    assert same_snapshot(before, snapshot(clf.module_))
    assert np.array_equal(ex.transform(X), want)


@all_explainers
def test_a_bad_call_leaves_nothing_behind(name, toy, clf):
    X = toy[0]
    ex = make(name, clf)
    before, want = snapshot(clf.module_), ex.transform(X)
    for wrong in (lambda: ex.explain(X, target="XX"), lambda: ex.transform(X[:, :1])):
        with pytest.raises(ValueError):
            wrong()
    if name != "mask":
        with pytest.raises(ValueError, match="lstm"):
            clone(ex).set_params(estimator=clf, layer="lstm").transform(X)
    assert same_snapshot(before, snapshot(clf.module_)) and np.array_equal(ex.transform(X), want)


@all_explainers
def test_generators_and_switches_are_left_as_found(name, toy, clf, seeded):
    switches = ("enabled", "benchmark", "deterministic", "allow_tf32")
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    cudnn = [getattr(torch.backends.cudnn, s) for s in switches]
    filters = list(warnings.filters)
    make(name, clf).transform(toy[0])
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_state, torch.get_rng_state())
    assert cudnn == [getattr(torch.backends.cudnn, s) for s in switches] and filters == list(warnings.filters)


@all_explainers
def test_inputs_that_require_gradients_keep_theirs(name, toy, clf):
    """An array that shares its memory with a tensor of the user's."""
    tensor = torch.from_numpy(toy[0].copy()).requires_grad_()
    make(name, clf).transform(tensor.detach().numpy())
    assert tensor.grad is None and torch.equal(tensor.detach(), torch.from_numpy(toy[0]))


@all_explainers
def test_the_fitted_classifier_keeps_its_attributes(name, toy, clf):
    before = {key: id(value) for key, value in vars(clf).items()}
    make(name, clf).fit(toy[0]).transform(toy[0])
    assert before == {key: id(value) for key, value in vars(clf).items()}


@all_explainers
@pytest.mark.parametrize("mode", ["as trained", "train mode"])
def test_eight_threads_on_one_classifier(name, mode, toy):
    X = toy[0][:6]
    clf = ECGClassifier(TinyNet, module__lstm=3, module__dropout=0.5, **{**FAST, "max_epochs": 2}).fit(*toy[:2])
    if mode == "train mode":
        clf.module_.train()
    else:
        clf.module_.eval()
    before = snapshot(clf.module_)
    ex = make(name, clf)
    rounds = 50 if mode == "train mode" else 15  # in train mode each flag could be met half switched
    if name == "mask":  # a call is many passes through the network, each of which could meet another thread
        ex.set_params(n_iter=2)
        rounds = 15 if mode == "train mode" else 5
    want = {label: ex.explain(X, target=label).relevance for label in clf.classes_}
    proba, start = clf.predict_proba(X), threading.Barrier(8)

    def work(worker):
        wrong = 0
        start.wait()
        for i in range(rounds):
            label = clf.classes_[(worker + i) % 3]
            wrong += not np.allclose(ex.explain(X, target=label).relevance, want[label], rtol=1e-5, atol=1e-6)
            if i % 10 == 0:
                wrong += not np.allclose(clf.predict_proba(X), proba, rtol=1e-5, atol=1e-7)
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 0  # of 8 a round
    assert same_snapshot(before, snapshot(clf.module_))


@pytest.mark.parametrize("use", ["predict", *EXPLAINERS])
def test_threads_do_not_meet_in_the_warnings_filters(use, toy, monkeypatch):
    """`warnings.catch_warnings` swaps the filters of the whole process; two threads in it can leave them changed."""
    clf = ECGClassifier(TinyNet, **{**FAST, "max_epochs": 1}).fit(*toy[:2])
    call = clf.predict if use == "predict" else make(use, clf).transform
    lock, inside, most = threading.Lock(), [0], [0]
    enter, leave = warnings.catch_warnings.__enter__, warnings.catch_warnings.__exit__

    def slow_enter(self):
        entered = enter(self)
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.002)  # long enough for another thread to come by
        return entered

    def counted_leave(self, *error):
        with lock:
            inside[0] -= 1
        return leave(self, *error)

    with monkeypatch.context() as patched:
        patched.setattr(warnings.catch_warnings, "__enter__", slow_enter)
        patched.setattr(warnings.catch_warnings, "__exit__", counted_leave)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: call(toy[0][:2]), range(24)))
    assert most[0] <= 1


def test_somebody_toggling_train_and_eval_does_not_matter(toy):
    X = toy[0]
    clf = ECGClassifier(TinyNet, module__dropout=0.5, **{**FAST, "max_epochs": 2}).fit(*toy[:2])
    ex = GradCAM1D(clf, smooth=0)
    want, stop = ex.transform(X), threading.Event()
    buffers = {k: v.clone() for k, v in clf.module_.state_dict().items()}

    def toggle():
        while not stop.is_set():
            clf.module_.train(), clf.module_.eval()

    other = threading.Thread(target=toggle)
    other.start()
    try:
        assert all(np.allclose(ex.transform(X), want, rtol=1e-5, atol=1e-6) for _ in range(64))
    finally:
        stop.set()
        other.join()
    assert all(torch.equal(v, buffers[k]) for k, v in clf.module_.state_dict().items())
