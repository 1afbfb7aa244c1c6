"""checkpoint_dir: an interrupted fit goes on from its last epoch to the same bits, and runs nothing from a file."""

import os
import pathlib
import pickle
import signal
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skecg.classifiers import ECGClassifier
from tests.tiny import FAST, TinyNet, toy_ecg

EPOCHS = 5
BATCHES = 4  # 120 windows in batches of 32
CALLS = {"n": 0, "stop": None, "how": "raise"}


def noise(x, generator):
    """Draw from the training's generator; break off at the call that CALLS names."""
    CALLS["n"] += 1
    if CALLS["n"] == CALLS["stop"]:
        if CALLS["how"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("power cut")
    return x + 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype)


@pytest.fixture(autouse=True)
def calls():
    CALLS.update(n=0, stop=None, how="raise")
    yield CALLS
    CALLS.update(n=0, stop=None, how="raise")


@pytest.fixture
def toy():
    return toy_ecg()


def make(folder, **settings):
    settings = {**FAST, "max_epochs": EPOCHS, "module__dropout": 0.3, "augment": noise, **settings}
    return ECGClassifier(TinyNet, checkpoint_dir=folder, **settings)


def weights(clf):
    return {name: value.clone() for name, value in clf.module_.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def files(folder):
    return sorted(p for p in pathlib.Path(folder).rglob("*") if p.is_file())


def interrupt(folder, toy, calls, at, **settings):
    calls.update(n=0, stop=at)
    with pytest.raises(RuntimeError, match="power cut"):
        make(folder, **settings).fit(*toy[:2], groups=toy[2])
    calls.update(n=0, stop=None)


MOMENTUM = {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}
SETTINGS = [{}, {"early_stopping": True, "n_iter_no_change": 3}, MOMENTUM]


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "early stopping", "momentum"])
def test_an_interrupted_fit_goes_on_to_the_same_bits(toy, calls, tmp_path, settings):
    X, y, groups, _ = toy
    want = make(None, **settings).fit(X, y, groups=groups)
    done = calls["n"]
    per_epoch = done // want.n_epochs_
    interrupt(tmp_path, toy, calls, at=2 * per_epoch + 2, **settings)  # in the third epoch
    assert files(tmp_path)
    got = make(tmp_path, **settings).fit(X, y, groups=groups)
    assert calls["n"] == done - 2 * per_epoch  # two epochs were not trained again
    assert same(weights(got), weights(want)) and got.n_epochs_ == want.n_epochs_ == len(got.history_)
    assert np.array_equal(got.predict_proba(X), want.predict_proba(X))
    assert np.allclose(got.history_[:, "train_loss"], want.history_[:, "train_loss"], rtol=0, atol=0)


def test_interrupted_twice_and_before_the_first_epoch(toy, calls, tmp_path):
    X, y, groups, _ = toy
    want = make(None).fit(X, y, groups=groups)
    for at in (2, BATCHES + 1, BATCHES + 2):
        interrupt(tmp_path, toy, calls, at=at)
    got = make(tmp_path).fit(X, y, groups=groups)
    assert same(weights(got), weights(want))


def test_checkpoints_do_not_change_the_training(toy, tmp_path):
    X, y, *_ = toy
    a, b = make(None).fit(X, y), make(tmp_path / "new" / "folder").fit(X, y)  # the folder is made
    assert same(weights(a), weights(b)) and files(tmp_path)
    c = make(str(tmp_path / "text")).fit(X, y)
    assert same(weights(a), weights(c))


def test_a_finished_fit_in_the_same_folder_gives_the_same_bits(toy, tmp_path):
    X, y, *_ = toy
    a, b = make(tmp_path).fit(X, y), make(tmp_path).fit(X, y)
    assert same(weights(a), weights(b)) and a.n_epochs_ == b.n_epochs_ == EPOCHS


def test_nothing_half_written_is_left(toy, calls, tmp_path):
    interrupt(tmp_path, toy, calls, at=3 * BATCHES + 1)
    make(tmp_path).fit(*toy[:2], groups=toy[2])
    assert not [p.name for p in files(tmp_path) if "part" in p.name or "tmp" in p.name]
    assert all(p.stat().st_size > 0 for p in files(tmp_path))


def other_data(X, y):
    return X[:, :, ::-1].copy(), y


def other_labels(X, y):
    return X, np.roll(y, 1)


def shorter(X, y):
    return X[:, :, :60], y


@pytest.mark.parametrize("change", [other_data, other_labels, shorter])
def test_a_checkpoint_of_other_data_is_never_gone_on_from(toy, calls, tmp_path, change):
    interrupt(tmp_path, toy, calls, at=3 * BATCHES + 1)
    X, y = change(*toy[:2])
    want = make(None).fit(X, y, groups=toy[2])
    try:
        got = make(tmp_path).fit(X, y, groups=toy[2])
    except ValueError as error:
        assert "checkpoint" in str(error)
    else:
        assert same(weights(got), weights(want))


@pytest.mark.parametrize("change", [{"lr": 0.005}, {"module__width": 2}, {"random_state": 7}, {"module__dropout": 0.1}])
def test_a_checkpoint_of_other_settings_is_never_gone_on_from(toy, calls, tmp_path, change):
    interrupt(tmp_path, toy, calls, at=3 * BATCHES + 1)
    want = make(None, **change).fit(*toy[:2], groups=toy[2])
    try:
        got = make(tmp_path, **change).fit(*toy[:2], groups=toy[2])
    except ValueError as error:
        assert "checkpoint" in str(error)
    else:
        assert same(weights(got), weights(want))


@pytest.mark.parametrize("keep", [0, 1, 0.5], ids=["emptied", "one byte", "half"])
def test_a_cut_file_is_named_or_passed_over(toy, calls, tmp_path, keep):
    want = make(None).fit(*toy[:2], groups=toy[2])
    interrupt(tmp_path, toy, calls, at=3 * BATCHES + 1)
    for path in files(tmp_path):
        content = path.read_bytes()
        path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    names = [p.name for p in files(tmp_path)]
    try:
        got = make(tmp_path).fit(*toy[:2], groups=toy[2])
    except ValueError as error:
        assert any(name in str(error) for name in names)
    else:
        assert same(weights(got), weights(want))


class Canary:
    """Pickled, it makes a file when somebody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.path),)


@pytest.mark.parametrize("how", ["torch.save", "pickle"])
def test_no_code_of_a_file_is_run(toy, calls, tmp_path, how):
    folder, canary = tmp_path / "checkpoints", tmp_path / "canary"
    interrupt(folder, toy, calls, at=3 * BATCHES + 1)
    for path in files(folder):
        if how == "pickle":
            path.write_bytes(pickle.dumps(Canary(canary)))
        else:
            torch.save({"module": Canary(canary), "weights": Canary(canary)}, path)
    try:
        make(folder).fit(*toy[:2], groups=toy[2])
    except ValueError as error:
        assert any(path.name in str(error) for path in files(folder))
    assert not canary.exists()
    Canary(canary).__reduce__()[0](canary)  # the canary itself sings
    assert canary.exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system knows no kill that cannot be caught")
def test_kill_9_in_the_middle_of_fit(toy, calls, tmp_path):
    script = (
        "import torch; torch.set_num_threads(1)\n"
        "from tests.classifiers import test_checkpoints as t\n"
        "t.CALLS.update(stop=3 * t.BATCHES + 2, how='kill')\n"
        "X, y, groups, _ = t.toy_ecg()\n"
        f"t.make({str(tmp_path)!r}).fit(X, y, groups=groups)\n"
    )
    root = pathlib.Path(__file__).parents[2]
    died = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=300)
    assert died.returncode == -signal.SIGKILL, died.stderr
    want = make(None).fit(*toy[:2], groups=toy[2])
    calls["n"] = 0
    got = make(str(tmp_path)).fit(*toy[:2], groups=toy[2])
    assert calls["n"] == 2 * BATCHES and same(weights(got), weights(want))


def test_what_a_kill_leaves_half_written_is_removed_by_the_next_fit(toy, calls, tmp_path, monkeypatch):
    """As kill -9 in the third checkpoint would leave the folder: the part is there, and nobody tidies up."""
    replace, written = os.replace, []

    def die_in_the_third(*args):
        written.append(args)
        if len(written) == 3:
            raise RuntimeError("power cut")
        replace(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die_in_the_third)
        patch.setattr(pathlib.Path, "unlink", lambda *args, **kwargs: None)
        with pytest.raises(RuntimeError, match="power cut"):
            make(tmp_path).fit(*toy[:2], groups=toy[2])
    left = [p.name for p in files(tmp_path)]
    assert left[:2] == ["epoch_0001.pt", "epoch_0002.pt"] and len(left) == 3
    want = make(None).fit(*toy[:2], groups=toy[2])
    calls["n"] = 0
    got = make(tmp_path).fit(*toy[:2], groups=toy[2])
    assert calls["n"] == 3 * BATCHES and same(weights(got), weights(want))
    assert [p.name for p in files(tmp_path)] == [f"epoch_{i:04d}.pt" for i in range(1, EPOCHS + 1)]


def test_the_same_fit_begun_again_while_a_checkpoint_is_written(toy, tmp_path, monkeypatch):
    """Either takes the other's part for a killed one's; both end with the same bits and nothing but checkpoints."""
    X, y, groups, _ = toy
    sync, second = os.fsync, []

    def begin_again(handle):
        sync(handle)
        if not second:
            second.append(make(tmp_path))
            second[0].fit(X, y, groups=groups)

    monkeypatch.setattr(os, "fsync", begin_again)
    first = make(tmp_path).fit(X, y, groups=groups)
    assert same(weights(first), weights(second[0])) and same(weights(first), weights(make(None).fit(X, y)))
    assert [p.name for p in files(tmp_path)] == [f"epoch_{i:04d}.pt" for i in range(1, EPOCHS + 1)]


def test_a_folder_that_cannot_be_written_ends_the_fit(toy, tmp_path, monkeypatch):
    def lost(*args, **kwargs):
        raise FileNotFoundError("no such device")

    monkeypatch.setattr(tempfile, "mkstemp", lost)
    with pytest.raises(FileNotFoundError, match="no such device"):
        make(tmp_path).fit(*toy[:2])


def test_clone_keeps_the_folder_and_pickles_do_not_need_it(toy, tmp_path):
    clf = make(tmp_path / "a", max_epochs=1).fit(*toy[:2])
    assert clone(clf).checkpoint_dir == tmp_path / "a"
    again = pickle.loads(pickle.dumps(clf))
    for path in files(tmp_path):
        path.unlink()
    assert np.array_equal(again.predict_proba(toy[0]), clf.predict_proba(toy[0]))
