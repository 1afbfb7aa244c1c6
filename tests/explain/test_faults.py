"""Faults 26 to 38 of the reliability plan: odd arrays, modes, failures, threads, processes, layers, values."""

import copy
import pathlib
import re
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D, MaskDeletion
from skecg.relevance import RelevanceAggregator
from tests.tiny import FAST, LinearNet, TinyNet, same_snapshot, snapshot, toy_ecg

EXPLAINERS = {
    "gradcam": GradCAM1D(None, relu=False),
    "hirescam": GradCAM1D(None, method="hirescam", layer="features.3"),
    "mask": MaskDeletion(None, n_iter=5, replacement=0.0),
}
all_explainers = pytest.mark.parametrize("name", EXPLAINERS)


def make(name, estimator):
    return clone(EXPLAINERS[name]).set_params(estimator=estimator)


def close(a, b, rtol=1e-5):
    return a.shape == b.shape and np.allclose(a, b, rtol=rtol, atol=rtol * max(1e-6, float(np.abs(b).max())))


def around(net, n_timesteps, names=("A", "B"), n_leads=1, **settings):
    return ECGClassifier.from_module(net, list(names), n_leads=n_leads, n_timesteps=n_timesteps, **settings)


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=24, n_leads=2, n_timesteps=60)


@pytest.fixture(scope="module")
def clf(toy):
    return ECGClassifier(TinyNet, module__lstm=3, module__dropout=0.3, **FAST).fit(*toy[:2])


# --- 26: arrays -------------------------------------------------------------------------------------------------------


def with_value(value):
    def change(X, tmp_path):
        X = X.astype(np.float64)
        X[2, 1, 7] = value
        return X

    return change


REFUSED = {
    "NaN": (with_value(np.nan), ValueError, "NaN"),
    "infinity": (with_value(np.inf), ValueError, "infinity"),
    "minus infinity": (with_value(-np.inf), ValueError, "infinity"),
    "1e39": (with_value(1e39), ValueError, "infinity or a value too large"),
    "objects": (lambda X, _: np.full(X.shape, {}, dtype=object), TypeError, "."),
    "complex": (lambda X, _: X.astype(complex), ValueError, "(?i)complex"),
    "strings": (lambda X, _: np.full(X.shape, "mV"), ValueError, "."),
    "1-D": (lambda X, _: X[0, 0], ValueError, "Expected 2D array"),
    "4-D": (lambda X, _: X[None], ValueError, "4-D"),
    "no samples": (lambda X, _: X[:0], ValueError, "0 sample"),
    "no leads": (lambda X, _: X[:, :0], ValueError, "0 leads"),
    "no timesteps": (lambda X, _: X[..., :0], ValueError, "0 leads or timesteps"),
}


def read_only(X, tmp_path):
    X = X.copy()
    X.flags.writeable = False
    return X


def memmap(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


TAKEN = {
    "Fortran order": lambda X, _: np.asfortranarray(X),
    "read-only": read_only,
    "memmap": memmap,
    "every other of a larger array": lambda X, _: np.repeat(np.repeat(X, 2, 0), 2, 2)[::2, :, ::2],
    "backwards strides": lambda X, _: X[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
    "big-endian": lambda X, _: X.astype(">f4"),
    "nested lists": lambda X, _: X.tolist(),
    "numbers as objects": lambda X, _: X.astype(object),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_case_26_arrays_that_are_refused(fault, toy, clf, tmp_path):
    change, error, message = REFUSED[fault]
    bad = change(toy[0], tmp_path)
    for use in (clf.predict, clf.predict_proba, *(make(name, clf).transform for name in EXPLAINERS)):
        with pytest.raises(error, match=message):
            use(bad)
    y = toy[1][: len(bad)]
    with pytest.raises(error, match=message):
        ECGClassifier(TinyNet, **FAST).fit(bad, y)


@pytest.mark.parametrize("layout", TAKEN)
def test_case_26_arrays_that_are_taken(layout, toy, clf, tmp_path):
    X = TAKEN[layout](toy[0], tmp_path)
    assert np.array_equal(clf.predict_proba(X), clf.predict_proba(toy[0]))
    for name in EXPLAINERS:
        assert np.array_equal(make(name, clf).transform(X), make(name, clf).transform(toy[0]))
    fitted = ECGClassifier(TinyNet, module__lstm=3, module__dropout=0.3, **FAST).fit(X, toy[1])
    assert np.array_equal(fitted.predict_proba(toy[0]), clf.predict_proba(toy[0]))


# --- 27: odd windows --------------------------------------------------------------------------------------------------


@all_explainers
def test_case_27_odd_windows_are_finite_and_flagged(name, toy, clf):
    X = np.repeat(toy[0][:1], 7, 0)
    X[1] = 0.33  # both leads constant
    X[2, 1] = 0.0  # a lead off
    X[3], X[3, 0, 30] = 0.0, 5.0  # one sample alone
    X[4, 0] *= 1e4 / np.abs(X[4, 0]).max()
    X[5] = -1e4
    X[6] = 1e4 * np.sign(X[6])
    with pytest.warns(UserWarning) as caught:
        out = make(name, clf).explain(X, target="PVC")
    assert np.isfinite(out.relevance).all() and np.isfinite(out.score).all()
    assert out.flat[:, 0].tolist() == [False, True, False, False, False, True, False]
    assert out.flat[:, 1].tolist() == [False, True, True, True, False, True, False]
    assert out.extreme.tolist() == [False, False, False, False, True, True, True]
    said = " ".join(str(w.message) for w in caught)
    assert re.search(r"\b2 of 7\b[^.]*constant", said)  # windows without any signal
    assert re.search(r"\b3 of 7\b[^.]*\b100\b", said)  # windows beyond 100 mV


@all_explainers
def test_case_27_ordinary_windows_are_not_warned_about(name, toy, clf):
    X = toy[0][clf.predict(toy[0]) != clf.predict(np.zeros((1, 2, 60)))]  # nothing scores as another class
    assert len(X) > 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(name, clf).set_params(**({"lambda1": 0.1} if name == "mask" else {"relu": False})).explain(X)


# --- 28: dtypes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16, np.int64, np.uint8])
def test_case_28_dtypes(dtype, toy, clf):
    X = np.round(toy[0] * 8) if np.issubdtype(dtype, np.integer) else np.round(toy[0] * 64) / 64
    X = np.abs(X) if dtype == np.uint8 else X  # numbers that every one of them holds exactly
    as_given, as_float32 = X.astype(dtype), X.astype(np.float32)
    assert np.array_equal(as_given.astype(float), as_float32)
    assert close(clf.predict_proba(as_given), clf.predict_proba(as_float32))
    for name in EXPLAINERS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rounded to whole mV, a lead may be flat
            R = make(name, clf).transform(as_given)
            assert R.dtype == np.float32 and close(R, make(name, clf).transform(as_float32))


# --- 29: sizes --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short():
    X, y, *_ = toy_ecg(n=257, n_timesteps=40, seed=1)
    return X, ECGClassifier(TinyNet, **{**FAST, "max_epochs": 1}).fit(X, y)


@all_explainers
@pytest.mark.parametrize("batch_size", [1, 2, 16, 255, 256, 257])
def test_case_29_batch_sizes(name, short, batch_size):
    X, clf = short
    want = make(name, clf).transform(X)
    assert close(make(name, clf).set_params(batch_size=batch_size).transform(X), want)


@all_explainers
@pytest.mark.parametrize("n", [1, 16, 17])
def test_case_29_numbers_of_windows(name, toy, clf, n):
    ex = make(name, clf).set_params(batch_size=16)
    assert close(ex.transform(toy[0][:n]), ex.transform(toy[0])[:n])
    with pytest.raises(ValueError, match="0 sample"):
        ex.transform(toy[0][:0])


# --- 30: modes and gradients ------------------------------------------------------------------------------------------


def train_mode(net):
    net.train()


def mixed_flags(net):
    net.train(), net.features[1].eval(), net.drop.train()


def frozen(net):
    net.requires_grad_(False)


def gradients(net):
    for p in net.parameters():
        p.grad = torch.ones_like(p)


@all_explainers
@pytest.mark.parametrize("change", [train_mode, mixed_flags, frozen, gradients])
def test_case_30_modes_and_gradients(name, change, toy, clf):
    want = make(name, clf).transform(toy[0])
    other = copy.deepcopy(clf)
    change(other.module_)
    before = snapshot(other.module_)
    assert np.array_equal(make(name, other).transform(toy[0]), want)
    assert same_snapshot(before, snapshot(other.module_))


# --- 31: failures in the middle ---------------------------------------------------------------------------------------

FAIL = {"at": None, "calls": 0, "error": RuntimeError, "most": None}


class FailingNet(TinyNet):
    """Raises at the call that FAIL names, and runs out of memory over more than FAIL["most"] windows."""

    def forward(self, x):
        FAIL["calls"] += 1
        if FAIL["calls"] == FAIL["at"]:
            raise FAIL["error"]("broke off")
        if FAIL["most"] is not None and len(x) > FAIL["most"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(x)


@pytest.fixture
def failing(toy):
    FAIL.update(at=None, calls=0, error=RuntimeError, most=None)
    yield ECGClassifier(FailingNet, module__lstm=3, **{**FAST, "max_epochs": 1}).fit(*toy[:2])
    FAIL.update(at=None, calls=0, error=RuntimeError, most=None)


@all_explainers
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("chunk", ["first", "last"])
def test_case_31_a_module_that_raises(name, error, chunk, toy, failing):
    X, ex = toy[0], make(name, failing).set_params(batch_size=10)
    want, FAIL["calls"] = ex.transform(X), 0
    assert np.array_equal(ex.transform(X), want)
    before, calls = snapshot(failing.module_), FAIL["calls"]
    FAIL.update(calls=0, at=1 if chunk == "first" else calls, error=error)
    with pytest.raises(error, match="broke off"):
        ex.transform(X)
    FAIL["at"] = None
    assert same_snapshot(before, snapshot(failing.module_))
    assert np.array_equal(ex.transform(X), want)  # the next call equals a fresh one
    assert np.array_equal(make(name, failing).set_params(batch_size=10).transform(X), want)


@all_explainers
def test_case_31_a_bad_target(name, toy, failing):
    ex = make(name, failing)
    want, before = ex.transform(toy[0]), snapshot(failing.module_)
    with pytest.raises(ValueError, match="target"):
        ex.explain(toy[0], target="nobody")
    assert same_snapshot(before, snapshot(failing.module_)) and np.array_equal(ex.transform(toy[0]), want)


@all_explainers
@pytest.mark.parametrize("most", [2, 5, 11])
def test_case_31_out_of_memory_halves_the_batch(name, most, toy, failing):
    ex = make(name, failing)
    want = ex.transform(toy[0])
    FAIL["most"] = most
    assert close(ex.transform(toy[0]), want)
    FAIL["most"] = None
    assert np.array_equal(ex.transform(toy[0]), want)


def test_case_31_out_of_memory_while_predicting(toy, failing):
    want = failing.predict_proba(toy[0])
    FAIL["most"] = 5
    assert close(failing.predict_proba(toy[0]), want)


@all_explainers
def test_case_31_out_of_memory_even_for_one_window(name, toy, failing):
    ex = make(name, failing)
    want, before = ex.transform(toy[0]), snapshot(failing.module_)
    FAIL["most"] = 0
    with pytest.raises(torch.OutOfMemoryError):
        ex.transform(toy[0])
    FAIL["most"] = None
    assert same_snapshot(before, snapshot(failing.module_)) and np.array_equal(ex.transform(toy[0]), want)


# --- 32: contexts -----------------------------------------------------------------------------------------------------


class Float64ByDefault:
    """The process-wide default of somebody who works in double precision."""

    def __enter__(self):  # noqa: D105
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *error):  # noqa: D105
        torch.set_default_dtype(torch.float32)


CONTEXTS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64 by default": Float64ByDefault,
}


@pytest.mark.parametrize("context", CONTEXTS)
def test_case_32_contexts_of_the_caller(context, toy, clf):
    X = toy[0]
    want = {name: make(name, clf).transform(X) for name in EXPLAINERS}
    proba = clf.predict_proba(X)
    with CONTEXTS[context]():
        got = {name: make(name, clf).transform(X) for name in EXPLAINERS}
        assert close(clf.predict_proba(X), proba)
    for name in EXPLAINERS:
        assert got[name].dtype == np.float32 and close(got[name], want[name])


@pytest.mark.parametrize("context", CONTEXTS)
def test_case_32_training_in_contexts_of_the_caller(context, toy, clf):
    with CONTEXTS[context]():
        inside = ECGClassifier(TinyNet, module__lstm=3, module__dropout=0.3, **FAST).fit(*toy[:2])
    assert close(inside.predict_proba(toy[0]), clf.predict_proba(toy[0]), rtol=1e-4)
    for name in EXPLAINERS:  # parameters made in inference mode would break here
        assert np.isfinite(make(name, inside).transform(toy[0])).all()


# --- 33: threads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True], ids=["eval mode", "train mode"])
def test_case_33_threads(training, toy, clf):
    X, one = toy[0][:5], copy.deepcopy(clf)
    one.module_.train(training)
    explainers = [make(name, one) for name in (*EXPLAINERS, "gradcam")]
    want = [{label: ex.explain(X, target=label).relevance for label in one.classes_} for ex in explainers]
    before = snapshot(one.module_)

    def work(i):
        label = one.classes_[i % 3]
        return close(explainers[i % 4].explain(X, target=label).relevance, want[i % 4][label])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8 * 50))) == 400
    assert same_snapshot(before, snapshot(one.module_))


# --- 34: processes ----------------------------------------------------------------------------------------------------


def explain_in_worker(explainer, X):
    return explainer.transform(X)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_case_34_joblib(backend, toy, clf):
    want = [make(name, clf).transform(toy[0]) for name in EXPLAINERS]
    got = joblib.Parallel(n_jobs=2, backend=backend)(
        joblib.delayed(explain_in_worker)(make(name, FrozenEstimator(clf)), toy[0]) for name in EXPLAINERS
    )
    for a, b in zip(got, want, strict=True):
        assert close(a, b)


FORK = """
    import multiprocessing, sys, numpy as np, torch
    torch.set_num_threads(2)
    from tests.tiny import FAST, TinyNet, toy_ecg
    from skecg.classifiers import ECGClassifier
    from skecg.explain import GradCAM1D, MaskDeletion

    X, y, *_ = toy_ecg(n=24)
    how, which = sys.argv[1:]
    if how == "fit":
        clf = ECGClassifier(TinyNet, **FAST).fit(X, y)
    else:
        clf = ECGClassifier.from_module(TinyNet(1, 120, 3), ["A", "B", "C"], n_leads=1, n_timesteps=120)
    ex = GradCAM1D(clf, relu=False) if which == "gradcam" else MaskDeletion(clf, replacement=0.0, n_iter=2)
    if how == "explain":
        ex.transform(X)

    def child(queue):
        try:
            queue.put(("answer", ex.transform(X).shape))
        except BaseException as error:
            queue.put((type(error).__name__, str(error)))

    if __name__ == "__main__":
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        process = context.Process(target=child, args=(queue,), daemon=True)
        process.start()
        try:
            print(*queue.get(timeout=120))
        finally:
            process.kill()
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("how, which", [("explain", "gradcam"), ("fit", "mask")])
def test_case_34_a_forked_child_gets_an_error_and_does_not_hang(how, which):
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK), how, which], cwd=root, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.startswith("RuntimeError") and "loky" in done.stdout, done.stdout + done.stderr


# --- 35: layers -------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Convolution, activation, convolution, mean, linear; the activation by the name of `kind`."""

    cam_layer = "second"

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Conv1d(1, 4, 5, padding=2), nn.Conv1d(4, 4, 5, padding=2)
        self.norm = nn.BatchNorm1d(4)
        self.act = nn.ReLU(inplace=kind == "inplace")
        self.unused = nn.Conv1d(4, 4, 1)
        self.flat = nn.Linear(4, 4)
        self.rnn = nn.LSTM(4, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def activation(self, h):
        return {"functional": F.relu, "tensor": lambda h: h.relu_()}.get(self.kind, self.act)(h)

    def forward(self, x):
        h = self.activation(self.norm(self.first(x)))
        h = self.activation(self.second(h))
        h = self.rnn(h.transpose(1, 2))[0].transpose(1, 2)
        return self.head(self.flat(h.mean(-1)))


@pytest.fixture
def family(seeded):
    """Networks of the same weights that differ in how they call the activation."""
    plain = Net("module").eval()
    nets = {kind: Net(kind).eval() for kind in ("inplace", "functional", "tensor")}
    for net in nets.values():
        net.load_state_dict(plain.state_dict())
    return plain, nets


@pytest.mark.parametrize("kind", ["inplace", "functional", "tensor"])
@pytest.mark.parametrize("layer", ["first", "norm", "second"])
@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam"])
def test_case_35_activations_in_place_and_functional(kind, layer, method, family):
    plain, nets = family
    X = toy_ecg(n=6, n_timesteps=40)[0]
    settings = {"layer": layer, "method": method, "relu": False, "target": "A"}
    want = GradCAM1D(around(plain, 40), **settings).transform(X)
    got = GradCAM1D(around(nets[kind], 40), **settings).transform(X)
    assert close(got, want) and want.std() > 0
    mask = {"n_iter": 4, "replacement": 0.0, "target": "A"}
    assert close(
        MaskDeletion(around(nets[kind], 40), **mask).transform(X), MaskDeletion(around(plain, 40), **mask).transform(X)
    )


@pytest.mark.parametrize(
    "layer, word", [("act", "act"), ("unused", "unused"), ("flat", "flat"), ("rnn", "rnn"), ("head", "head")]
)
def test_case_35_layers_called_twice_never_or_without_a_time_axis(layer, word, family):
    X = toy_ecg(n=4, n_timesteps=40)[0]
    before = snapshot(family[0])
    with pytest.raises(ValueError, match=rf"\b{word}\b"):
        GradCAM1D(around(family[0], 40), layer=layer).transform(X)
    assert same_snapshot(before, snapshot(family[0]))


class SharedNet(nn.Module):
    """One convolution under two names and called at two places; the layer to look at is called once."""

    cam_layer = "last"

    def __init__(self):
        super().__init__()
        self.one = nn.Conv1d(2, 2, 3, padding=1)
        self.same = self.one
        self.last = nn.Conv1d(2, 2, 3, padding=1)
        self.head = nn.Linear(2, 2)
        self.head_too = self.head

    def forward(self, x):
        h = self.same(F.elu(self.one(x)))
        return self.head_too(self.head(F.elu(self.last(h)).mean(-1)))


@all_explainers
def test_case_35_a_module_used_twice_elsewhere_is_right(name, seeded):
    net = SharedNet().eval()
    clf = around(net, 30, n_leads=2)
    X = toy_ecg(n=5, n_leads=2, n_timesteps=30)[0]
    ex = make(name, clf)
    if name == "mask":
        out = ex.set_params(init=0.5, lambda1=1e-4).explain(X, target="A")
        with torch.no_grad():
            p = net(torch.from_numpy(out.mask * X).float()).softmax(1)[:, 0].numpy()
        assert close(out.score_after, p) and out.mask.std() > 0
        return
    ex.set_params(layer="last")
    x = torch.from_numpy(X)
    A = net.last(net.one(F.elu(net.one(x)))).detach().requires_grad_()
    (g,) = torch.autograd.grad(net.head(net.head(F.elu(A).mean(-1)))[:, 0].sum(), A)
    cam = ((g.mean(-1, keepdim=True) if name == "gradcam" else g) * A).sum(1).detach().numpy()
    got = ex.explain(X, target="A").cam
    assert close(got, cam if name == "gradcam" else np.maximum(cam, 0)) and got.std() > 0
    for layer in ("one", "same"):
        with pytest.raises(ValueError, match=layer):
            clone(ex).set_params(estimator=clf, layer=layer).transform(X)


# --- 36: a window on which the network fails --------------------------------------------------------------------------


class NanNet(TinyNet):
    """Answers NaN for a window that starts with 7 mV."""

    def forward(self, x):
        z = super().forward(x)
        return torch.where(x[:, 0, :1] == 7, torch.full_like(z, torch.nan), z)


@pytest.mark.parametrize("target", ["predicted", "PVC"])
@pytest.mark.parametrize("name", ["gradcam", "hirescam"])
def test_case_36_nan_for_one_window(name, target, toy):
    clf = ECGClassifier(NanNet, **FAST).fit(*toy[:2])
    X, ex = toy[0].copy(), make(name, clf)
    want = ex.explain(X, target=target)
    X[5, 0, 0] = 7
    with pytest.warns(UserWarning, match=r"\b5\b"):
        out = ex.explain(X, target=target)
    others = np.arange(24) != 5
    assert np.isnan(out.relevance[5]).all() and np.isnan(out.score[5])
    assert close(out.relevance[others], want.relevance[others])
    assert np.array_equal(out.target[others], want.target[others])
    with pytest.warns(UserWarning, match=r"\b5\b"):
        assert np.isnan(ex.transform(X)[5]).all()


def test_case_36_nan_for_one_window_under_the_mask(toy):
    clf = ECGClassifier(NanNet, **FAST).fit(*toy[:2])
    X, ex = toy[0].copy(), MaskDeletion(clf, n_iter=5, replacement=0.0, init=1.0)
    want = ex.explain(X, target="PVC")
    X[5, 0, 0] = 7
    with pytest.warns(UserWarning, match=r"\b5\b"):
        out = ex.explain(X, target="PVC")
    others = np.arange(24) != 5
    assert np.isnan(out.relevance[5]).all() and np.isfinite(want.relevance).all()
    assert close(out.relevance[others], want.relevance[others])


def test_case_36_predict_does_not_take_the_nan_for_the_largest(toy):
    clf = ECGClassifier(NanNet, **FAST).fit(*toy[:2])
    X = toy[0].copy()
    X[5, 0, 0] = 7
    with pytest.raises(ValueError, match=r"(?s)NaN.*\b5\b|\b5\b.*NaN"):
        clf.predict(X)
    two = ECGClassifier(NanNet, **FAST).fit(toy[0], toy[1] == "N")
    with pytest.raises(ValueError, match="NaN"):
        two.predict(X)


# --- 37: cuDNN --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="cuDNN's recurrent layers need a CUDA device; none is here")
@all_explainers
def test_case_37_a_recurrent_layer_on_cuda_in_eval(name, toy):
    settings = {"module__lstm": 3, **FAST}
    clf = ECGClassifier(TinyNet, device="cuda", **settings).fit(*toy[:2])
    clf.module_.eval()
    before = torch.backends.cudnn.enabled, snapshot(clf.module_)
    got = make(name, clf).transform(toy[0])
    assert torch.backends.cudnn.enabled is before[0] is True and same_snapshot(before[1], snapshot(clf.module_))
    on_cpu = copy.deepcopy(clf.module_).cpu()
    brought = ECGClassifier.from_module(on_cpu, clf.classes_, n_leads=2, n_timesteps=60, device="cpu")
    assert close(got, make(name, brought).transform(toy[0]), rtol=1e-3)


# --- 38: odd relevance ------------------------------------------------------------------------------------------------


def odd_relevance(kind):
    R = np.random.default_rng(0).standard_normal((12, 2, 50)).astype(np.float32)
    odd = {"zero": 0.0, "equal": 0.25, "tiny": 1e-30, "infinite": np.inf, "NaN": np.nan}[kind]
    R[3] = odd
    return R


STATISTICS = ("mean_", "interval_", "effect_size_", "p_value_", "p_adjusted_", "n_patients_", "n_windows_")


def statistics(aggregator):
    """Return every number that a fitted aggregator shows of the cohort."""
    return np.concatenate([np.asarray(getattr(aggregator, name), dtype=float).ravel() for name in STATISTICS])


def aggregate(R, y, **settings):
    agg = RelevanceAggregator(control="N", n_bootstrap=100, random_state=0, **settings)
    return agg.fit(R, y, groups=np.arange(len(R)))


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("by", ["record", "lead"])
@pytest.mark.parametrize("kind", ["zero", "equal", "tiny"])
def test_case_38_the_aggregator_over_odd_finite_relevance(kind, by, share):
    R, y = odd_relevance(kind), np.array(["N", "PVC"] * 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        agg = aggregate(R, y, by=by, share=share)
        shown = statistics(agg)
        table = np.asarray(agg.transform(R), dtype=float)
    others = np.arange(12) != 3
    assert np.isfinite(table[others]).all() and not np.isinf(table).any() and not np.isinf(shown).any()
    assert np.isfinite(agg.mean_).all() and (agg.n_zero_.sum() == 1) == (kind == "zero")
    if not share:
        want = {"zero": 0.0, "equal": 0.25, "tiny": 0.0}[kind]
        assert np.allclose(table[3], want, atol=1e-12)


@pytest.mark.parametrize("kind", ["infinite", "NaN"])
def test_case_38_the_aggregator_counts_what_it_leaves_out(kind):
    R, y = odd_relevance(kind), np.array(["N", "PVC"] * 6)
    others = np.arange(12) != 3
    with pytest.warns(UserWarning, match=r"\b1 of 12\b"):
        agg = aggregate(R, y, by="lead")
    assert agg.exclusions_["non_finite"].tolist() == [0, 1]  # of N and of PVC
    clean = aggregate(R[others], y[others], by="lead")
    assert np.allclose(statistics(agg), statistics(clean), equal_nan=True) and np.isfinite(agg.mean_).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert np.isnan(agg.transform(R)[3]).all()


@pytest.mark.parametrize("kind", ["zero", "equal", "tiny", "infinite", "NaN"])
def test_case_38_the_picture(kind):
    from skecg.plotting import RelevanceDisplay

    R, X = odd_relevance(kind), np.random.default_rng(1).standard_normal((12, 2, 50))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        display = RelevanceDisplay.from_relevance(X[3], R[3], fs=100.0)
        figure = display.figure_
        figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    assert pixels.std() > 0
    for axes in figure.axes:
        assert np.isfinite(axes.get_xlim()).all() and np.isfinite(axes.get_ylim()).all()


def test_case_38_an_infinite_answer_of_the_network_is_no_relevance():
    net = LinearNet(np.full((2, 1, 4), 3e38), [0.0, 0.0])
    X = np.array([[[1, 1, 1, 1]], [[1e-38, 0, 0, 0]]], dtype=np.float32)
    with pytest.warns(UserWarning):
        out = GradCAM1D(around(net, 4), method="hirescam", layer="keep", target="A", relu=False).explain(X)
    assert not np.isinf(out.relevance).any()
