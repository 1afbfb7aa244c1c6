"""Fault cases 26 to 32: odd arrays, windows, dtypes, sizes, modes, failures, contexts."""

import copy
import re
import warnings

import numpy as np
import pytest
import torch

from skecg.classifiers import ECGClassifier
from tests.explaining import EXPLAINERS, all_explainers, close, make
from tests.tiny import FAST, TinyNet, same_snapshot, snapshot, toy_ecg


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
        settings = {"mask": {"lambda1": 0.1}, "stagecam": {}}.get(name, {"relu": False})
        make(name, clf).set_params(**settings).explain(X)


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
    clf = ECGClassifier(TinyNet, **{**FAST, "max_epochs": 1}).fit(X, y)
    return X, clf, {name: quick(name, clf).transform(X) for name in EXPLAINERS}


def quick(name, clf):
    ex = make(name, clf)
    return ex.set_params(n_iter=2) if name == "mask" else ex  # the second of its steps is from what the first left


@all_explainers
@pytest.mark.parametrize("batch_size", [1, 2, 16, 255, 256, 257])
def test_case_29_batch_sizes(name, short, batch_size):
    X, clf, want = short
    assert close(quick(name, clf).set_params(batch_size=batch_size).transform(X), want[name])


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

    def __enter__(self):
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *error):
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
