"""Training, predicting, explaining, searching on windows on disk: the same bits, batches only, no NaN unseen."""

import pickle
import sys
import warnings
from functools import partial

import numpy as np
import pytest
import zarr
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skecg import ECGClassifier, GradCAM1D
from skecg.datasets import StoredWindows
from skecg.utils import _mapped, _stored
from skecg.utils._stored import WindowCube
from tests.benchmarks.harness import run_python
from tests.tiny import FAST, TinyNet, toy_ecg

N, LEADS, TIME = 90, 2, 60


@pytest.fixture(scope="module")
def ecg():
    return toy_ecg(N, LEADS, TIME)[:3]


def memmap(folder, values, mode="r", name="x.npy", order="C"):
    """Return a memory map that holds these values."""
    folder.mkdir(exist_ok=True)
    file = np.lib.format.open_memmap(
        folder / name, mode="w+", dtype=values.dtype, shape=values.shape, fortran_order=order == "F"
    )
    file[:] = values
    file.flush()
    return np.load(folder / name, mmap_mode=mode)


def stored(folder, values, chunk=1, name="x.zarr"):
    """Return a zarr array that holds these values, so many windows in a chunk."""
    chunks = (min(chunk, len(values)), *values.shape[1:])
    array = zarr.create_array(str(folder / name), shape=values.shape, dtype=values.dtype, chunks=chunks)
    array[:] = values
    return array


def view(folder, values):
    """Return a memory map's view with gaps, turned around, that holds these values."""
    wide = np.zeros((2 * len(values), *values.shape[1:-1], values.shape[-1] + 3), values.dtype)
    wide[::-2, ..., 3:] = values
    return memmap(folder, wide)[::-2, ..., 3:]


def by_path(folder, values):
    """Return the windows of a zarr array that is closed."""
    stored(folder, values)
    return StoredWindows(folder / "x.zarr")


PLACES = {
    "memory map": memmap,
    "to be written": partial(memmap, mode="r+"),
    "copy on write": partial(memmap, mode="c"),
    "view": view,
    "view, as ndarray": lambda folder, values: np.asarray(view(folder, values)),
    "zarr": stored,
    "zarr, 7 in a chunk": partial(stored, chunk=7),
    "StoredWindows": lambda folder, values: StoredWindows(memmap(folder, values)),
    "StoredWindows of zarr, by path": by_path,
}


def classifier(**parameters):
    return ECGClassifier(TinyNet, **{**FAST, "max_epochs": 2, "batch_size": 16, "fs": 100.0, **parameters})


def weights(clf):
    return {name: value.numpy().copy() for name, value in clf.module_.state_dict().items()}


def assert_same_fit(a, b):
    assert [row["train_loss"] for row in a.history_] == [row["train_loss"] for row in b.history_]
    assert np.array_equal(a.validation_indices_, b.validation_indices_)
    for name, value in weights(b).items():
        assert np.array_equal(weights(a)[name], value), name


# -------------------------------------------------------------------------------------------------------- same bits


def weighted_fit(X, y, groups):
    weight = np.where(np.arange(N) % 11, 1.0 + np.arange(N) % 3, 0.0)
    clf = classifier(early_stopping=True, class_weight="balanced")
    return clf.fit(X, y, groups=groups, sample_weight=weight)


@pytest.fixture(scope="module")
def here(ecg):
    clf = weighted_fit(*ecg)
    assert len(clf.validation_indices_)
    return clf


@pytest.mark.parametrize("place", PLACES)
def test_fit_and_predict_as_in_memory(place, ecg, here, tmp_path):
    X, y, groups = ecg
    ours = weighted_fit(PLACES[place](tmp_path, X), y, groups)
    assert_same_fit(ours, here)
    assert np.array_equal(ours.predict_proba(PLACES[place](tmp_path / "again", X)), here.predict_proba(X))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int16", ">f4", "bool"])
def test_other_types_are_cast_as_in_memory(dtype, ecg, tmp_path):
    X, y = (10 * ecg[0]).astype(dtype), ecg[1]
    here = classifier().fit(X, y)
    for disk in (memmap(tmp_path, X), stored(tmp_path, X, chunk=4)):
        ours = classifier().fit(disk, y)
        assert_same_fit(ours, here)
        assert np.array_equal(ours.decision_function(disk), here.decision_function(X))


def test_layouts_as_in_memory(ecg, tmp_path):
    """The last bits of a network depend on the layout of its input."""
    X, y, _ = ecg
    for disk in (memmap(tmp_path, X, order="F"), memmap(tmp_path / "T", X.transpose(0, 2, 1)).transpose(0, 2, 1)):
        here = np.array(disk)
        assert here.strides == disk.strides != X.strides and np.array_equal(here, X)
        rows = np.array([5, 3, 80])
        assert WindowCube(StoredWindows(disk))[rows].strides == here[rows].strides
        assert_same_fit(classifier().fit(disk, y), classifier().fit(here, y))


@pytest.mark.parametrize("place", ["memory map", "zarr", "StoredWindows"])
def test_labels_warm_starts_single_epochs_and_one_lead(place, ecg, tmp_path):
    X, y = ecg[0][:, 0], np.c_[ecg[1] == "N", ecg[1] == "PVC"].astype(int)  # two dimensions, several labels
    disk = PLACES[place](tmp_path, X)
    ours, here = classifier(warm_start=True), classifier(warm_start=True)
    for _ in range(2):
        ours.fit(disk, y)
        here.fit(X, y)
    ours.partial_fit(disk, y)
    here.partial_fit(X, y)
    assert ours.n_leads_ == 1 and ours.n_epochs_ == 5
    assert_same_fit(ours, here)
    assert np.array_equal(ours.predict(disk), here.predict(X))


def test_a_checkpoint_is_found_again_wherever_the_windows_lie(ecg, tmp_path, monkeypatch):
    monkeypatch.setattr(_stored, "_BLOCK", 4096)  # several blocks
    X, y, _ = ecg
    make = partial(classifier, checkpoint_dir=tmp_path / "checkpoints")
    half = make(max_epochs=1).fit(memmap(tmp_path, X), y)
    whole = make().fit(stored(tmp_path, X), y)
    assert whole.checkpoint_folder_ == half.checkpoint_folder_ == make().fit(X, y).checkpoint_folder_
    assert_same_fit(whole, classifier().fit(X, y))
    other = X.copy()
    other[-1, -1, -1] += 1
    assert make().fit(memmap(tmp_path, other, name="other.npy"), y).checkpoint_folder_ != half.checkpoint_folder_


@pytest.mark.parametrize("place", ["memory map", "view", "zarr, 7 in a chunk", "StoredWindows"])
def test_explain_as_in_memory(place, ecg, tmp_path):
    X, y, _ = ecg
    clf, disk = classifier().fit(X, y), PLACES[place](tmp_path, X)
    ours, here = GradCAM1D(clf).explain(disk), GradCAM1D(clf).explain(X)
    assert np.array_equal(ours.relevance, here.relevance) and np.array_equal(ours.data, X)
    assert np.array_equal(GradCAM1D(clf).fit(disk).transform(disk), here.relevance)
    assert isinstance(disk, np.ndarray) == np.shares_memory(ours.data, np.asarray(disk))


# ------------------------------------------------------------------------------------------------------- bad values


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.nan, "float32", "contains NaN: window 77 of 90"),
        (-np.inf, "float32", "contains infinity or a value too large for dtype.'float32'.: window 77 of 90"),
        (1e300, "float64", "contains infinity or a value too large for dtype.'float32'.: window 77 of 90"),
    ],
)
@pytest.mark.parametrize("place", ["memory map", "zarr, 7 in a chunk", "StoredWindows"])
def test_one_bad_value_is_refused_before_training(place, value, dtype, message, ecg, tmp_path, monkeypatch):
    monkeypatch.setattr(_stored, "_BLOCK", 4096)
    X, y, _ = ecg
    bad = X.astype(dtype)
    bad[77, 1, 5] = value
    disk, weight = PLACES[place](tmp_path, bad), np.ones(N)
    weight[77] = 0  # a row that is not trained on is looked at too
    clf = classifier().fit(X, y)
    before = weights(clf)
    for train in (
        lambda: clf.fit(disk, y, sample_weight=weight),
        lambda: clf.partial_fit(disk, y),
        lambda: clf.predict_proba(disk),
        lambda: GradCAM1D(clf).explain(disk),
    ):
        with pytest.raises(ValueError, match=message):
            train()
    assert all(np.array_equal(value, weights(clf)[name]) for name, value in before.items())
    assert len(clf.history_) == 2


def test_a_step_before_the_classifier_hides_nothing(ecg, tmp_path):
    X, y, _ = ecg
    explainer = GradCAM1D(make_pipeline(FunctionTransformer(np.nan_to_num), classifier(max_epochs=1))).fit(X, y)
    bad = X.copy()
    bad[77, 1, 5] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        explainer.explain(bad)
    with pytest.raises(ValueError, match="contains NaN: window 77 of 90"):
        explainer.explain(memmap(tmp_path, bad))


def test_a_window_that_goes_bad_while_training_is_named(ecg, tmp_path):
    X, y, _ = ecg
    disk = memmap(tmp_path, X, mode="r+")

    def spoil(x, generator):
        disk[11] = np.nan
        return x

    with pytest.raises(ValueError, match="contains NaN: window 11 of 90"):
        classifier(augment=spoil).fit(disk, y)


@pytest.mark.parametrize("place", [memmap, stored], ids=["memory map", "zarr"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(N, "float32"), "1D array|1-D|n_samples"),
        (np.ones((N, 1, 2, 3), "float32"), "4-D|n_samples"),
        (np.ones((N, 60, 2), "float32"), "axes look swapped"),
        (np.ones((N, 2, 60), "complex64"), "[Cc]omplex"),
    ],
)
def test_shapes_and_types_are_refused(place, values, message, ecg, tmp_path):
    with pytest.raises(ValueError, match=message):
        classifier().fit(place(tmp_path, values), ecg[1])


def test_another_size_than_fitted_is_refused(ecg, tmp_path):
    clf = classifier().fit(*ecg[:2])
    with pytest.raises(ValueError, match="X has 1 leads of 60 timesteps, but ECGClassifier was fitted with 2 leads"):
        clf.predict(stored(tmp_path, ecg[0][:, :1]))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clf.fit(memmap(tmp_path, ecg[0]), ecg[1][:-1])
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        clf.predict(StoredWindows(memmap(tmp_path, ecg[0]))[:0])


# --------------------------------------------------------------------------------------------------- the map as found


def test_pages_that_lie_nowhere_else_are_kept(ecg, tmp_path):
    """A copy-on-write map's changes lie in this process alone, those of a map that is written not yet on the disk."""
    X, y, _ = ecg
    for mode in ("c", "r+"):
        disk = memmap(tmp_path / mode.replace("+", ""), np.zeros_like(X), mode=mode)
        disk[:] = X
        clf = classifier().fit(disk, y)
        assert_same_fit(clf, classifier().fit(X, y))
        assert np.array_equal(disk, X)


def test_system_without_advice_reads_the_same(ecg, tmp_path, monkeypatch):
    monkeypatch.delattr(_mapped.mmap, "MADV_DONTNEED", raising=False)
    assert np.array_equal(np.asarray(StoredWindows(memmap(tmp_path, ecg[0]))), ecg[0])


def test_rows_in_pieces(ecg, tmp_path, monkeypatch, rng):
    monkeypatch.setattr(_mapped, "_MAPPED", 1000)
    monkeypatch.setattr(_mapped, "_LARGE", 100)
    rows = rng.integers(0, N, 200)
    for disk in (memmap(tmp_path, ecg[0]), view(tmp_path / "again", ecg[0]), memmap(tmp_path / "F", ecg[0], order="F")):
        cube = WindowCube(StoredWindows(disk))
        assert np.array_equal(cube[rows], ecg[0][rows])
        assert np.array_equal(cube[10:80], ecg[0][10:80])


def test_chunks_are_read_once_where_windows_come_in_order(ecg, tmp_path, monkeypatch):
    X, y, _ = ecg
    clf, disk, read = classifier(batch_size=10).fit(X, y), stored(tmp_path, X, chunk=30), []
    original = _stored._ZarrRows.__getitem__
    monkeypatch.setattr(_stored._ZarrRows, "__getitem__", lambda self, rows: read.append(rows) or original(self, rows))
    assert np.array_equal(clf.predict_proba(disk), clf.predict_proba(X))
    assert read == [slice(0, 30), slice(30, 60), slice(60, 90)]


def test_chunks_that_make_training_slow_are_told(ecg, tmp_path, monkeypatch):
    X, y, _ = ecg
    monkeypatch.setattr(_stored, "_SLOW", 1000)
    with pytest.warns(UserWarning, match=r"30 windows .* in a chunk; .*chunks=\(1, 2, 60\)") as told:
        classifier(max_epochs=1).fit(stored(tmp_path, X, chunk=30), y)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier(max_epochs=1).fit(stored(tmp_path, X, name="single.zarr"), y)


_FLAT = """
import numpy as np, torch, zarr
from pathlib import Path
from skecg import ECGClassifier
from skecg.utils import _mapped, _stored
from tests.tiny import TinyNet
torch.set_num_threads(1)
_stored._BLOCK, _mapped._MAPPED = 1 << 20, 1 << 22
def held(name):
    return next(int(l.split()[1]) for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(name))
for kind in ("npy", "zarr"):
    for n in (32, 64, 512 if kind == "npy" else 256):  # the first warms up
        shape = (n, 12, 1600)
        if kind == "npy":
            X = np.lib.format.open_memmap("x.npy", mode="w+", dtype="float32", shape=shape)
        else:
            X = zarr.create_array("x.zarr", shape=shape, dtype="float32", chunks=(1, 12, 1600), overwrite=True)
        for a in range(0, n, 32):
            X[a : a + 32] = np.random.default_rng(a).standard_normal((32, 12, 1600))
        X = np.load("x.npy", mmap_mode="r") if kind == "npy" else X
        Path("/proc/self/clear_refs").write_text("5")
        rest = held("VmRSS")
        clf = ECGClassifier(TinyNet, module__width=1, max_epochs=1, batch_size=16, early_stopping=True, random_state=0)
        clf.fit(X, np.arange(n) % 2, groups=np.arange(n) // 8).predict(X)
        print((held("VmHWM") - rest) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is told and reset by /proc on Linux alone")
def test_memory_does_not_grow_with_the_windows():
    """Windows of 38 MiB, and 19 MiB of zarr, instead of 5 MiB."""
    peaks = np.array(run_python("-c", _FLAT, OMP_NUM_THREADS="1").split(), dtype=float).reshape(2, 3)
    assert (peaks[:, 2] - peaks[:, 1] < 8).all()


# ---------------------------------------------------------------------------------------------------- StoredWindows


@pytest.mark.parametrize("place", ["memory map", "view", "zarr", "zarr, 7 in a chunk"])
def test_rows_of_stored_windows_are_those_of_the_array(place, ecg, tmp_path, rng):
    X, y, _ = ecg
    S, order = StoredWindows(PLACES[place](tmp_path, X)), rng.permutation(N)
    assert (S.shape, S.ndim, S.dtype, len(S)) == (X.shape, 3, np.float32, N)
    for key in (order, order.tolist(), y == "N", slice(70, 10, -3), slice(None), np.array([3, 3, -1]), slice(5, 5)):
        assert isinstance(S[key], StoredWindows)
        assert np.array_equal(S[key], X[key]) and S[key].shape == X[key].shape
        assert np.array_equal(pickle.loads(pickle.dumps(S[key])), X[key])
    assert np.array_equal(S[order][20:60][::-1], X[order][20:60][::-1])
    assert np.array_equal(S[order, ...], X[order])  # as scikit-learn asks for rows
    assert np.array_equal(S[-1], X[-1]) and np.array_equal(S[np.array(5)], X[5]) and np.array_equal(list(S), X)
    assert np.asarray(S, dtype=float).dtype == float
    assert str(X.shape) in repr(S)


def test_what_is_pickled_is_a_place(ecg, tmp_path):
    for place in (memmap, partial(stored, chunk=100)):
        S = StoredWindows(place(tmp_path, np.tile(ecg[0], (20, 1, 1))))
        assert len(pickle.dumps(S)) < 3000
        assert len(pickle.dumps(S[::2])) < 3000 + 8 * len(S)
    private = StoredWindows(memmap(tmp_path, ecg[0], mode="c", name="private.npy"))
    with pytest.raises(ValueError, match=r"copy-on-write mode .* cannot be sent to another process"):
        pickle.dumps(private)


def test_a_place_where_something_else_lies_now(ecg, tmp_path):
    """Chunks of a store that is gone are zeros to zarr, and any file that is long enough does for numpy."""
    X, y, _ = ecg
    clf, of_zarr, of_file = classifier(max_epochs=1).fit(X, y), stored(tmp_path, X), tmp_path / "x.npy"
    np.save(of_file, X)
    sent = [pickle.dumps(StoredWindows(of_zarr)[::2]), pickle.dumps(StoredWindows(of_file)[::2])]
    assert all(np.array_equal(pickle.loads(place), X[::2]) for place in sent)

    (tmp_path / "x.zarr").rename(tmp_path / "other.zarr")
    of_file.unlink()
    for place in sent:
        with pytest.raises(FileNotFoundError, match=r"x\.(zarr is not there|npy; there is no such file)"):
            pickle.loads(place)
    with pytest.raises(FileNotFoundError, match=r"x\.zarr is not there"):
        clf.predict(of_zarr)

    np.save(of_file, np.arange(2.0 * X.size).reshape(-1, LEADS, TIME))
    with pytest.raises(ValueError, match=r"x\.npy; it holds an array of another shape or type now"):
        pickle.loads(sent[1])
    np.save(of_file, X[:3])
    with pytest.raises(ValueError, match=r"x\.npy; the file is shorter than it was"):
        pickle.loads(sent[1])
    stored(tmp_path, X[:, :1])
    for use in (lambda: pickle.loads(sent[0]), lambda: clf.predict(of_zarr)):
        with pytest.raises(ValueError, match=r"has changed: it was float32 of shape \(90, 2, 60\)"):
            use()


def test_a_zarr_array_in_a_zip_file(ecg, tmp_path):
    store = zarr.storage.ZipStore(tmp_path / "x.zip", mode="w")
    zarr.create_array(store, data=ecg[0], chunks=(30, LEADS, TIME))
    store.close()
    S = StoredWindows(tmp_path / "x.zip")
    assert np.array_equal(S[::-1], ecg[0][::-1]) and np.array_equal(pickle.loads(pickle.dumps(S)), ecg[0])


def test_what_is_not_stored_windows(ecg, tmp_path, monkeypatch):
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="got ndarray, which lies in memory"):
        StoredWindows(ecg[0])
    with pytest.raises(ValueError, match="got 3"):
        StoredWindows(3)
    with pytest.raises(ValueError, match=r"must be numbers of shape .* got complex64"):
        StoredWindows(memmap(tmp_path, ecg[0].astype("complex64"), name="complex.npy"))
    with pytest.raises(ValueError, match=r"got float32 of shape \(90,\)"):
        StoredWindows(stored(tmp_path, ecg[0][:, 0, 0]))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npy is not there"):
        StoredWindows(tmp_path / "nowhere.npy")
    with pytest.raises(ValueError, match=r"text\.npy is not a \.npy file of numbers"):
        StoredWindows(tmp_path / "text.npy")
    with pytest.raises(ValueError, match="folder is not a zarr array"):
        StoredWindows(str(tmp_path / "folder"))
    S = StoredWindows(memmap(tmp_path, ecg[0]))
    with pytest.raises(ValueError, match="windows alone can be chosen"):
        S[:, 0]
    with pytest.raises(ValueError, match=r"in one dimension; got an array of shape \(1, 2\)"):
        S[[[3, 4]]]
    with pytest.raises(ValueError, match="without being copied"):
        np.asarray(S, copy=False)
    with pytest.raises(IndexError):
        S[N]
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"pip install skecg\[zarr\]"):
        StoredWindows(tmp_path / "folder")


# --------------------------------------------------------------------------------------------------------- searches

GRID = {"lr": [0.005, 0.02]}


def search(**parameters):
    return GridSearchCV(classifier(max_epochs=1), GRID, cv=GroupKFold(2), scoring="neg_log_loss", **parameters)


def scores(fitted):
    return np.r_[fitted.cv_results_["split0_test_score"], fitted.cv_results_["split1_test_score"]]


@pytest.mark.parametrize("place", [memmap, stored], ids=["memory map", "zarr"])
def test_searches_read_batches_of_stored_windows(place, ecg, tmp_path, monkeypatch):
    X, y, groups = ecg
    S, given = StoredWindows(place(tmp_path, X)), []
    original = ECGClassifier.fit
    monkeypatch.setattr(ECGClassifier, "fit", lambda self, X, y: given.append(type(X)) or original(self, X, y))
    ours = search().fit(S, y, groups=groups)
    assert set(given) == {StoredWindows} and len(given) == 5
    here = search().fit(X, y, groups=groups)
    assert np.array_equal(scores(ours), scores(here))
    assert np.array_equal(ours.predict_proba(S), here.predict_proba(X))
    cv = partial(cross_validate, classifier(max_epochs=1), y=y, groups=groups, cv=GroupKFold(2), scoring="neg_log_loss")
    assert np.array_equal(cv(X=S)["test_score"], cv(X=X)["test_score"])
    parts = zip(train_test_split(S, random_state=0), train_test_split(X, random_state=0), strict=True)
    assert all(np.array_equal(a, b) and isinstance(a, StoredWindows) for a, b in parts)


_ON_DASK = """
import sys, joblib, numpy as np
from distributed import Client, LocalCluster
from skecg.datasets import StoredWindows
from tests.classifiers.test_memory_mapped import search, scores
from tests.tiny import toy_ecg
if __name__ == "__main__":
    path, n, leads, time = sys.argv[1], *map(int, sys.argv[2:])
    _, y, groups, _ = toy_ecg(n, leads, time)
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0")
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        found = search(n_jobs=2).fit(StoredWindows(path), y, groups=groups)
    print(*(float(score).hex() for score in scores(found)))
"""


def test_a_search_on_a_dask_cluster_finds_the_same(ecg, tmp_path):
    """In a fresh process: a cluster leaves the environment and the warnings filters changed.

    One worker has to be told all that several have; each costs the seconds of importing torch.
    """
    pytest.importorskip("distributed", reason="dask and distributed come with the extra 'distributed'")
    X, y, groups = ecg
    memmap(tmp_path, X)
    told = run_python("-c", _ON_DASK, str(tmp_path / "x.npy"), *map(str, (N, LEADS, TIME)), OMP_NUM_THREADS="1")
    assert [float.fromhex(score) for score in told.split()] == scores(search().fit(X, y, groups=groups)).tolist()
