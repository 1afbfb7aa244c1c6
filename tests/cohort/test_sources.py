"""Every kind of records gives the same; a record that cannot be explained costs itself alone."""

import gc
import os
import shutil
import tempfile

import joblib
import numpy as np
import pytest

from skecg import RelevanceAggregator
from skecg.cohort import explain_cohort
from skecg.cohort._records import map_file
from skecg.cohort._sources import locate
from tests.cohort import cases
from tests.cohort.cases import FS, LEADS, MARK, N, aggregator, explainer, labels, same, windows, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a data home: records in two folders, and the header of several segments."""
    home = tmp_path_factory.mktemp("home")
    for i, record in enumerate(windows()):
        write(home / f"p{i // 12}", f"r{i:02d}", record)
    (home / "p0" / "all.hea").write_text(f"all/2 2 {FS:g} {2 * N}\nr00 {N}\nr01 {N}\n")
    (home / "p0" / "layout.hea").write_text(f"layout 2 {FS:g} 0\n")
    return home


@pytest.fixture(scope="module")
def names():
    return [f"p{i // 12}/r{i:02d}" for i in range(22)]


@pytest.fixture(scope="module")
def plain(names):
    return explain_cohort(explainer(), windows(), names=names, aggregator=aggregator(), batch=4, **labels())


def _zarr(path, array, chunks=5):
    zarr = pytest.importorskip("zarr", reason="needs the extra zarr")
    made = zarr.open_group(str(path), mode="w").create_array(
        "ecg", shape=array.shape, dtype=array.dtype, chunks=(chunks, *array.shape[1:])
    )
    made[...] = array
    return made


KINDS = {
    "paths": lambda home, tmp: [home / "p0" / f"r{i:02d}.hea" for i in range(12)]
    + [str(home / "p1" / f"r{i}") for i in range(12, 22)],
    "home": lambda home, tmp: home,
    "npy": lambda home, tmp: _save(tmp, windows()),
    "memmap": lambda home, tmp: np.load(_save(tmp, windows()), mmap_mode="r"),
    "memmap view": lambda home, tmp: np.load(_save(tmp, windows(30, seed=1)), mmap_mode="r")[5:27],
    "float64": lambda home, tmp: windows().astype(np.float64),
    "fortran": lambda home, tmp: np.load(_save(tmp, np.asfortranarray(windows())), mmap_mode="r"),
    "zarr": lambda home, tmp: _zarr(tmp / "a.zarr", windows()),
    "zarr path": lambda home, tmp: (_zarr(tmp / "b.zarr", windows()), str(tmp / "b.zarr" / "ecg"))[1],
    "dask": lambda home, tmp: pytest.importorskip("dask.array", reason="needs the extra distributed").from_array(
        windows(), chunks=(5, 2, N)
    ),
    "list": lambda home, tmp: list(windows()),
    "generator": lambda home, tmp: (x for x in windows()),
    "mappings": lambda home, tmp: (
        {"data": x, "fs": FS, "lead_names": LEADS, "record": f"p{i // 12}/r{i:02d}", "target": y, "groups": g}
        for i, (x, y, g) in enumerate(zip(windows(), *labels().values(), strict=True))
    ),
    "mixed": lambda home, tmp: (
        x if i % 2 else str(home / f"p{i // 12}" / f"r{i:02d}") for i, x in enumerate(windows())
    ),
}


def _save(folder, array):
    if array.shape[0] == 30:
        array[5:27] = windows()
    np.save(folder / "ecg.npy", array)
    return folder / "ecg.npy"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_records_gives_the_same(kind, folder, tmp_path, names, plain):
    records = KINDS[kind](folder, tmp_path)
    how = {} if kind == "mappings" else {**labels()}
    if kind not in ("home", "mappings"):
        how["names"] = names
    got = explain_cohort(explainer(), records, aggregator=aggregator(), out=tmp_path / "o.zarr", batch=4, **how)
    assert same(got, plain, relevance=False)
    if kind in ("paths", "home", "mappings"):
        assert got.lead_names == LEADS


@pytest.mark.parametrize("kind", ["home", "memmap view", "float64", "zarr", "dask", "mixed"])
def test_what_is_sent_to_workers_is_small_and_enough(kind, folder, tmp_path, names, plain, monkeypatch):
    """Blocks go to a worker as pickles; here the worker is this process, which shares no memory with itself."""
    from skecg.cohort import _run

    sizes, temporary = [], tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def apart(self, feed, shipment, where):
        for block in feed:
            sent = _run_pickle(block)
            sizes.append(len(sent))
            feed.done(_run.run_block(_unpickle(_run_pickle(shipment)), _unpickle(sent)))

    real = _run.Engine.__init__

    def engine(self, n_jobs):
        real(self, n_jobs)
        self.shared, self.local, self.n_workers = False, True, 2

    monkeypatch.setattr(_run.Engine, "__init__", engine)
    monkeypatch.setattr(_run.Engine, "_run_joblib", apart)
    how = {**labels()} if kind == "home" else {**labels(), "names": names}
    records = KINDS[kind](folder, tmp_path)
    got = explain_cohort(explainer(), records, aggregator=aggregator(), batch=4, **how)
    assert same(got, plain, relevance=False) and len(sizes) == 6
    if kind != "dask":  # whose graph holds what it was made of
        assert max(sizes) < 4 * 2 * N * 4
    if kind in ("float64", "mixed"):  # what is put down for workers is removed, whatever happens
        monkeypatch.setattr(_run, "run_block", lambda shipment, block: 1 // 0)
        for out in (None, tmp_path / "o.zarr"):
            with pytest.raises(ZeroDivisionError):
                explain_cohort(explainer(), KINDS[kind](folder, tmp_path), batch=4, out=out)
        assert not list(temporary.iterdir()) and not list(tmp_path.glob("*.part/spool"))


def _run_pickle(value):
    import pickle

    import cloudpickle

    try:
        return pickle.dumps(value)
    except Exception:
        return cloudpickle.dumps(value)


def _unpickle(data):
    import pickle

    return pickle.loads(data)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a, lambda a: a[3:], lambda a: a[3:][2:9], lambda a: a[::2], lambda a: a[:, :, 1:-1],
        lambda a: a[::-1], lambda a: np.asarray(a)[4:], lambda a: a[2:].transpose(0, 2, 1), lambda a: a[:, 0],
    ],
)  # fmt: skip
@pytest.mark.parametrize("offset", [0, 128, 70_000])
def test_views_of_a_map_are_found_in_the_file(tmp_path, view, offset):
    path = tmp_path / "raw.bin"
    values = np.arange(11 * 2 * 7, dtype="<f4")
    path.write_bytes(b"x" * offset + values.tobytes())
    a = view(np.memmap(path, dtype="<f4", mode="r", offset=offset, shape=(11, 2, 7)))
    place = locate(a)
    assert np.array_equal(map_file(shape=a.shape, **place), a)


def test_what_is_in_memory_alone_is_not_looked_for_in_a_file(tmp_path):
    path = _save(tmp_path, windows())
    changed = np.load(path, mmap_mode="c")
    changed[0] = 0
    assert locate(changed) is None and locate(windows()) is None and locate(np.load(path)) is None
    mapped = np.load(path, mmap_mode="r")
    os.replace(_save(tmp_path, windows(seed=9)), path)
    assert locate(mapped) is None or np.array_equal(map_file(shape=mapped.shape, **locate(mapped)), mapped)
    written = np.load(path, mmap_mode="r+")
    written[0] = 3
    assert np.array_equal(map_file(shape=written.shape, **locate(written)), written)


def test_a_generator_is_consumed_as_it_is_needed(folder):
    taken, alive = [], []

    def records():
        for i, x in enumerate(windows()):
            taken.append(i)
            yield x

    from skecg.cohort import _gather

    real = _gather.Gathered.add

    def add(self, done):
        alive.append(len(taken))
        real(self, done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_gather.Gathered, "add", add)
        explain_cohort(explainer(), records(), batch=4)
    assert alive == [4, 8, 12, 16, 20, 22]


def test_a_generator_that_fails_is_the_users_own_error():
    def records():
        yield windows(1)[0]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        explain_cohort(explainer(), records())


def test_bad_records_cost_themselves_alone(folder, tmp_path, plain, names):
    home = tmp_path / "home"
    shutil.copytree(folder, home)
    X = windows()
    write(home / "p0", "r03", X[3], fs=2 * FS)
    write(home / "p0", "r04", X[4], leads=["II", "V6"])
    write(home / "p0", "r05", X[5, :1])
    write(home / "p0", "r06", X[6, :, : N - 1])
    (home / "p0" / "r07.dat").unlink()
    data = bytearray((home / "p0" / "r08.dat").read_bytes())
    data[10] ^= 4
    (home / "p0" / "r08.dat").write_bytes(data)
    (home / "p1" / "r13.hea").write_text("nonsense\n")
    bad = [3, 4, 5, 6, 7, 13, 8]  # what is found before the work begins is told first
    good = np.setdiff1d(np.arange(22), bad)
    with pytest.warns(UserWarning, match=r"7 records were left out \(p0/r03: it has 100 Hz, not 50 Hz") as w:
        got = explain_cohort(explainer(), home, aggregator=aggregator(), batch=4, **labels())
    assert len(w) == 1 and [name for name, _ in got.skipped] == [names[i] for i in bad]
    reasons = dict(got.skipped)
    for i, text in ((4, "its leads are II, V6, not II, V1"), (5, "1 leads"), (6, "too short"), (7, "r07.dat"),
                    (8, "checksum"), (13, "r13.hea")):  # fmt: skip
        assert text in reasons[names[i]]
    done = got.target != ""
    assert got.record[done].tolist() == [names[i] for i in good] and got.record[~done].tolist() == [names[8]]
    np.testing.assert_allclose(got.score[done], plain.score[good], rtol=1e-5)
    want = aggregator().fit(
        explainer().transform(X[good]), ecg=X[good], record=[names[i] for i in good],
        **{name: values[good] for name, values in labels().items()},
    )  # fmt: skip
    np.testing.assert_allclose(got.aggregator.mean_, want.mean_, rtol=1e-5)
    assert got.aggregator.n_patients_.tolist() == want.n_patients_.tolist()
    with pytest.raises(ValueError, match=r"record p0/r03: it has 100 Hz"):
        explain_cohort(explainer(), home, on_error="raise")
    with pytest.raises(ValueError, match=r"record p0/r08: .*checksum"):
        explain_cohort(explainer(), [home / "p0" / "r08"], names=["p0/r08"], on_error="raise")


def test_a_record_that_the_network_fails_on(tmp_path):
    X = windows()
    X[13, 0, 3] = MARK
    (tmp_path / "fail").touch()
    with pytest.warns(UserWarning, match=r"1 records were left out \(13: RuntimeError: the trap\)"):
        got = explain_cohort(explainer(tmp_path), X, aggregator=aggregator(), batch=4, out=tmp_path / "o", **labels())
    assert np.isnan(got.relevance[13]).all() and got.aggregator.n_windows_.sum() == 21
    assert np.isfinite(np.delete(got.relevance, 13, axis=0)).all()
    with pytest.raises(ValueError, match="record 13: RuntimeError: the trap"):
        explain_cohort(explainer(tmp_path), X, batch=4, on_error="raise")
    X[:] = MARK
    with pytest.raises(ValueError, match=r"none of 22 records could be explained \(0: RuntimeError: the trap; 1"):
        explain_cohort(explainer(tmp_path), X, batch=4)


def test_bad_records_of_a_generator():
    X = windows()
    strange = ["no/such", {"fs": 3}, {"data": X[3], "fs": 3.0}, X[4].astype(str), None]
    records = [X[0], X[1, :, :10], X[2].T, *strange, X[5]]
    with pytest.warns(UserWarning, match="7 records were left out"):
        got = explain_cohort(explainer(), iter(records), batch=2)
    assert got.record.tolist() == [0, 8] and [name for name, _ in got.skipped] == [1, 2, "no/such", 4, 5, 6, 7]
    half = [{"data": X[0], "target": "ill"}, {"data": X[1]}, {"data": X[2], "target": "well", "groups": 3}]
    with pytest.warns(UserWarning, match="2 records were left out"):
        got = explain_cohort(explainer(), iter(half), aggregator=RelevanceAggregator("lead", random_state=0))
    assert got.aggregator.classes_.tolist() == ["ill"]
    with pytest.raises(ValueError, match="record 1: it has 10 samples"):
        explain_cohort(explainer(), iter(records), on_error="raise")
    with pytest.raises(ValueError, match="yielded the record 'a' twice"):
        explain_cohort(explainer(), ({"data": x, "record": "a"} for x in X))
    for what in ("y", "groups", "names"):
        for n in (5, 30):
            given = {what: [f"{i}" for i in range(n)]}
            with pytest.raises(ValueError, match=f"{what} must be one each record"):
                explain_cohort(explainer(), iter(X), batch=2, **given)


def test_leads_of_records_and_arrays(folder, plain):
    got = explain_cohort(explainer(), folder, leads=["II", "V1"], batch=4)
    assert np.array_equal(got.score, plain.score)
    X = np.concatenate([windows()[:, ::-1], windows()], axis=1)
    got = explain_cohort(explainer(), X, leads=[2, 1 - 1], batch=4)
    want = explain_cohort(explainer(), X[:, [2, 0]], batch=4)
    assert np.array_equal(got.score, want.score)
    for leads in (["II", "V1"], [0, 9]):
        with pytest.raises(ValueError, match="leads of an array are positions from 0 to 3"):
            explain_cohort(explainer(), X, leads=leads)


def test_rates_are_taken_from_the_first_record_where_nobody_says_them(folder, tmp_path):
    quiet = cases.Saliency(cases.classifier(fs=None))
    assert explain_cohort(quiet, folder, batch=22).fs == FS
    assert explain_cohort(quiet, windows(), batch=22).fs is None
    assert explain_cohort(quiet, windows(), batch=22, fs=FS).fs == FS
    with pytest.raises(ValueError, match="needs the sampling rate"):
        explain_cohort(quiet, windows(), stride=0.1)
    a, b = write(tmp_path, "a", windows(1)[0]), write(tmp_path, "b", windows(1)[0], fs=2 * FS)
    with pytest.warns(UserWarning, match="1 records were left out .*b: it has 100 Hz, not 50 Hz"):
        assert explain_cohort(quiet, [a, b]).record.tolist() == [a]


def test_paths_that_are_no_records(folder, tmp_path):
    path = str(folder / "p0" / "r00")
    with pytest.raises(ValueError, match=r"no folder, .npy file or zarr array: pass \["):
        explain_cohort(explainer(), path)
    with pytest.raises(ValueError, match="records is empty"):
        explain_cohort(explainer(), tmp_path)
    with pytest.raises(ValueError, match="is there twice"):
        explain_cohort(explainer(), [path, path])
    with pytest.raises(ValueError, match="none of 1 records could be explained"):
        explain_cohort(explainer(), [tmp_path / "nothing"])
    _zarr(tmp_path / "g.zarr", windows())
    with pytest.raises(ValueError, match=r"is a zarr group, and records must be an array: .* \(ecg\)"):
        explain_cohort(explainer(), tmp_path / "g.zarr")


def test_an_array_is_not_kept(tmp_path):
    import weakref

    class Own(np.ndarray):
        pass

    X = windows().view(Own)
    seen = weakref.ref(X)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        explain_cohort(explainer(), X, batch=4)
    del X
    gc.collect()
    assert seen() is None
