"""What the fetchers of annotated recordings share: rhythms, limits, absent signals, one warning, unlisted records."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest

from skecg.datasets import (
    MissingFileError,
    fetch_ltafdb,
    fetch_ltdb,
    fetch_mitdb,
    fetch_svdb,
    fetch_vfdb,
    segment_rhythm,
)
from skecg.datasets import _fetch as module
from skecg.datasets._databases import VFDB

from .strips import MARKS, forget_gain, write_strip

QUIET = {"download_if_missing": False, "verbose": 0}
BEATS = tuple((200 + 150 * i, "NNVNA"[i % 5], "") for i in range(30))
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")  # pandas 3 deprecates what wfdb calls


@pytest.fixture
def home(tmp_path, write_record):
    """Return a data home with two short records of vfdb and three of ltdb."""
    for i, name in enumerate(("418", "426")):
        write_strip(write_record, tmp_path / "vfdb", name, MARKS, fs=250, n=5000, leads=("ECGa", "ECGb"), seed=i)
    for i, name in enumerate(("14046", "14134", "14149")):
        settings = {"fs": 128, "n": 5000, "leads": ("ECG1", "ECG2"), "seed": i, "gain": 200.0, "baseline": 0}
        write_strip(write_record, tmp_path / "ltdb", name, BEATS[: 10 * (i + 1)], **settings)
        forget_gain(tmp_path / "ltdb", name)
    return tmp_path


def fetch(home, **settings):
    return fetch_vfdb(data_home=home, **QUIET | {"records": "local", "classes": ("VF", "NSR")} | settings)


def ltdb(home, **settings):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="ltdb: lead ECG")
        return fetch_ltdb(data_home=home, **QUIET | {"records": "local"} | settings)


def assert_same(a, b, *names):
    for name in names or ("target", "groups", "record", "sample", "start", "shift", "lead"):
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def listing(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


# ----------------------------------------------------------------------------------------------------------- rhythms


def test_windows_of_episodes_are_the_signal_s_and_one_label_has_both_names(home, tmp_path, write_record):
    digital = write_record(tmp_path / "again", "418", fs=250, n=5000, leads=("ECGa", "ECGb"), seed=0)
    vfdb = fetch(home)
    own = vfdb.record == "418"
    # NSR 5 to 1100 and 3200 to 5000, VF 1100 to 2900: windows of 500 samples one after the other
    assert vfdb.start[own].tolist() == [5, 505, 1100, 1600, 2100, 3200, 3700, 4200]
    assert vfdb.target[own].tolist() == ["NSR"] * 2 + ["VF"] * 3 + ["NSR"] * 3
    assert vfdb.sample[own].tolist() == [5, 5, 1100, 1100, 1100, 3200, 3200, 3200]
    assert vfdb.data.shape == (16, 1, 500) and vfdb.data.dtype == np.float32 and vfdb.fs == 250.0
    np.testing.assert_array_equal(vfdb.data[2, 0], ((digital[1100:1600, 0] - 1024) / 200).astype(np.float32))
    assert vfdb.lead_names == ["ECG"] and sorted(set(vfdb.groups.tolist())) == ["418", "426"]
    assert vfdb.n_excluded == {"edge": 0, "impure": 0, "missing": 0, "short": 0}
    assert "C22P44" in vfdb.DESCR
    with pytest.warns(UserWarning, match="vfdb: no window of NOISE"):
        assert fetch(home, classes=("NSR", "NOISE")).n_excluded["short"] == 2


@pytest.mark.filterwarnings("ignore:vfdb. no window of NSR")
def test_windows_at_marks(home):
    marks = fetch(home, rhythm="marks", records=["426"])
    assert marks.sample.tolist() == [1100, 2000, 3200] and marks.target.tolist() == ["VF", "VF", "NSR"]
    np.testing.assert_array_equal(marks.start, marks.sample - 250)
    assert marks.n_excluded == {"edge": 1, "impure": 0, "missing": 0}
    alone = fetch(home, rhythm="marks", records=["426"], window=2.8, pure=True, classes=("VF",))
    assert alone.sample.tolist() == [1100, 2000] and alone.n_excluded["impure"] == 0
    assert fetch(home, rhythm="marks", records=["426"], window=3.0, pure=True).n_excluded["impure"] == 1


@pytest.mark.parametrize("at", ["marks", "episodes"])
def test_windows_are_those_of_segment_rhythm(home, at):
    from skecg.datasets import read_record

    record = read_record(home / "vfdb" / "426", leads=0, annotator="atr")
    cut = segment_rhythm(record, classes={label: VFDB.rhythms[label] for label in ("VF", "NSR")}, at=at)
    vfdb = fetch(home, rhythm=at, records=["426"])
    assert_same(vfdb, cut, "data", "target", "sample", "start")


def test_shifted_windows_stay_in_their_episode(home):
    still = fetch(home)
    moved = fetch(home, shift=1.5, random_state=0)
    assert_same(still, moved, "target", "sample", "record")
    np.testing.assert_array_equal(moved.start, still.start + moved.shift)
    ends = {5: 1100, 1100: 2900, 3200: 5000}
    assert (moved.start >= moved.sample).all()
    assert (moved.start + 500 <= [ends[mark] for mark in moved.sample.tolist()]).all()
    assert len(set(moved.shift.tolist())) > 8


def test_beats_and_rhythms_of_one_database_in_one_call(tmp_path, write_record):
    marks = ((5, "+", "(N"), *BEATS[:10], (1800, "+", "(SVTA"), *BEATS[12:20])
    write_strip(write_record, tmp_path / "mitdb", "209", marks)
    mitdb = fetch_mitdb(data_home=tmp_path, classes=("PVC", "SVTA"), records="local", **QUIET)
    # every fifth beat from 500 on is a PVC; SVTA lasts from 1800 to the end at 3600: two windows of 720
    assert mitdb.target.tolist() == ["PVC", "PVC", "PVC", "SVTA", "PVC", "SVTA"]
    assert mitdb.sample.tolist() == [500, 1250, 2000, 1800, 2750, 1800]
    assert mitdb.start.tolist() == [140, 890, 1640, 1800, 2390, 2520]


# ------------------------------------------------------------------------------------------------------- no signals


def test_without_the_signal_all_else_is_the_same_and_no_dat_is_needed(home):
    settings = {"shift": 0.5, "max_per_class": 7, "random_state": 3}
    whole = fetch(home, **settings)
    for path in (home / "vfdb").glob("*.dat"):
        path.unlink()
    labels = fetch(home, signal=False, **settings)
    assert labels.data is None and whole.data is not None
    assert_same(labels, whole)
    assert labels.n_excluded == whole.n_excluded and labels.lead_names == whole.lead_names
    assert_same(fetch(home, signal=False, records=["418", "426"], **settings), labels)
    with pytest.raises(ValueError, match="return_X_y=True wants the signal"):
        fetch(home, signal=False, return_X_y=True)


def test_missing_signals_are_named(home):
    (home / "vfdb" / "418.dat").unlink()
    assert set(fetch(home).record.tolist()) == {"426"}
    with pytest.raises(MissingFileError, match=r"1 file is missing .*418\.dat.*signal=False") as caught:
        fetch(home, records=["418", "426"])
    assert caught.value.files == ("418.dat",)
    (home / "vfdb" / "426.dat").unlink()
    with pytest.raises(MissingFileError, match=r"signals of vfdb are missing .*418\.dat, 426\.dat.*signal=") as caught:
        fetch(home)
    assert caught.value.files == ("418.dat", "426.dat")
    with pytest.raises(MissingFileError, match=r"no record of ltafdb lies in .*00\.hea"):
        fetch_ltafdb(data_home=home, records="local", **QUIET)


def test_without_the_signal_no_dat_is_downloaded(home, tmp_path, serve):
    server = serve({p.name: p.read_bytes() for p in (home / "vfdb").iterdir()}, prefix="/vfdb/1.0.0/")
    settings = {"records": ["418", "426"], "download_if_missing": True}
    fetch(tmp_path / "new", signal=False, **settings)
    assert not [path for path in server.paths() if path.endswith(".dat")]
    assert len(fetch(tmp_path / "new", **settings).data) == 16
    assert sorted(path for path in server.paths() if path.endswith(".dat")) == ["418.dat", "426.dat"]


# ------------------------------------------------------------------------------------------- limits, memory, warnings


def test_limit_is_exact_even_over_patients_and_repeatable(home):
    everything = ltdb(home)
    assert Counter(everything.groups.tolist()) == {"14046": 8, "14134": 16, "14149": 24}
    some = ltdb(home, max_per_class=9, random_state=0)
    assert Counter(some.target.tolist()) == {"N": 9, "PVC": 9}
    for label in ("N", "PVC"):
        per_patient = Counter(some.groups[some.target == label].tolist())
        whole = Counter(everything.groups[everything.target == label].tolist())
        assert all(per_patient[name] >= min(3, whole[name]) for name in whole)
    keys = list(zip(everything.record.tolist(), everything.sample.tolist(), strict=True))
    where = [keys.index(key) for key in zip(some.record.tolist(), some.sample.tolist(), strict=True)]
    assert where == sorted(where)
    np.testing.assert_array_equal(some.data, everything.data[where])
    assert_same(ltdb(home, max_per_class=9, random_state=0), some)
    assert (ltdb(home, max_per_class=9, random_state=1).sample != some.sample).any()
    assert_same(ltdb(home, max_per_class=10**6), everything)


def test_record_without_a_chosen_window_is_not_read(home):
    settings = {"classes": {"PAC": "A"}, "max_per_class": 1, "random_state": 0}
    (chosen,) = ltdb(home, signal=False, **settings).record
    for name in {"14046", "14134", "14149"} - {chosen}:
        (home / "ltdb" / f"{name}.dat").write_bytes(b"damaged")
    assert ltdb(home, **settings).record.tolist() == [chosen]


def test_what_memory_does_not_hold_is_refused_before_a_signal_is_read(home, monkeypatch):
    monkeypatch.setattr(module, "get_memory", lambda: 50_000)
    (home / "ltdb" / "14046.dat").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"48 windows of 256 samples take 49,152 bytes .*max_per_class.*records"):
        ltdb(home)
    assert len(ltdb(home, signal=False).target) == 48


def test_memory_that_the_system_refuses_is_named(home, monkeypatch):
    def empty(*_args, **_kwargs):
        raise MemoryError

    monkeypatch.setattr(module.np, "empty", empty)
    with pytest.raises(MemoryError, match="48 windows of 256 samples take 49,152 bytes"):
        module._allocate(48, 256, VFDB)


def test_what_is_odd_in_every_record_is_told_once(home):
    with pytest.warns(UserWarning) as caught:
        windows = fetch_ltdb(data_home=home, records="local", **QUIET)
    told = [str(w.message) for w in caught if "gain" in str(w.message)]
    assert len(told) == 1
    assert told[0].startswith("ltdb: lead ECG1 is not calibrated (gain 0): 200 units per mV are taken (3 records)")
    assert [w.filename for w in caught if "gain" in str(w.message)] == [__file__]
    assert 3 < np.abs(windows.data).max() <= 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fetch_ltdb(data_home=home, records="local", signal=False, **QUIET)


# ---------------------------------------------------------------------------------------------------- where records lie


@pytest.mark.parametrize("place", ["ltdb", "ltdb/1.0.0", ""])
def test_local_records_are_found_and_nothing_is_written(home, tmp_path, serve, place):
    server = serve({}, prefix="/ltdb/1.0.0/")
    other = tmp_path / "other"
    (other / place).parent.mkdir(parents=True, exist_ok=True)
    (home / "ltdb").rename(other / place)
    before = listing(other)
    assert len(ltdb(other, download_if_missing=True).data) == 48
    assert listing(other) == before and server.requests == []


@pytest.fixture
def svdb(tmp_path, write_record):
    """Return a data home with two records of svdb, and one of another database beside them."""
    for name in ("800", "894"):
        write_strip(write_record, tmp_path / "home" / "svdb", name, BEATS, fs=128, n=5000)
    write_strip(write_record, tmp_path / "home", "14046", BEATS, fs=128, n=5000)
    return tmp_path / "home"


@pytest.mark.filterwarnings("ignore:svdb. no window of F, Q")
def test_records_that_no_table_lists_are_found_where_they_lie(svdb, tmp_path):
    for home in (svdb, svdb / "svdb"):
        windows = fetch_svdb(data_home=home, records="local", **QUIET)
        assert sorted(set(windows.record.tolist())) == ["800", "894"]
        assert set(windows.target.tolist()) == {"N", "SVEB", "VEB"}
        assert_same(fetch_svdb(data_home=home, **QUIET), windows)
    assert set(fetch_svdb(data_home=svdb, records=["894"], **QUIET).record.tolist()) == {"894"}
    with pytest.raises(MissingFileError, match="no record of svdb lies in"):
        fetch_svdb(data_home=tmp_path, records="local", **QUIET)
    with pytest.raises(MissingFileError, match=r"895\.hea"):
        fetch_svdb(data_home=svdb, records=["895"], **QUIET)


@pytest.mark.filterwarnings("ignore:svdb. no window of F, Q")
def test_records_that_no_table_lists_are_asked_for(svdb, tmp_path, serve):
    files = {path.name: path.read_bytes() for path in (svdb / "svdb").iterdir()}
    server = serve(files | {"old/895.hea": b""}, prefix="/svdb/1.0.0/")
    windows = fetch_svdb(data_home=tmp_path / "new", verbose=0)
    assert_same(windows, fetch_svdb(data_home=svdb, records="local", **QUIET))
    assert sorted(set(server.paths())) == sorted([*files, "SHA256SUMS.txt"])
    asked = len(server.requests)
    assert_same(fetch_svdb(data_home=tmp_path / "new", verbose=0), windows)
    assert len(server.requests) == asked


def test_list_without_a_record_is_an_error(tmp_path, serve):
    serve({"notes.txt": b"nothing"}, prefix="/svdb/1.0.0/")
    with pytest.raises(MissingFileError, match="the list of svdb names no record"):
        fetch_svdb(data_home=tmp_path / "new", verbose=0)


# ---------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": "aami"}, "wants annotated beats"),
        ({"rhythm": "episode"}, "rhythm must be one of 'episodes', 'marks'; got 'episode'"),
        ({"edge": "inside"}, "edge must be one of"),
        ({"pure": 1}, "pure must be True or False; got 1"),
        ({"signal": None}, "signal must be True or False; got None"),
        ({"max_per_class": 0}, "max_per_class must be an integer at least 1; got 0"),
        ({"max_per_class": 2.5}, "max_per_class must be an integer"),
        ({"shift": -1}, "shift must be"),
        ({"records": ["800"]}, "records must be different names out of 418"),
        ({"lead": "ECG"}, "has 2 leads called 'ECG': choose by position"),
    ],
)
def test_wrong_settings_are_named(home, settings, message):
    with pytest.raises(ValueError, match=message):
        fetch(home, on_error="raise", **settings)
    if "lead" not in settings:  # a wrong setting is no fault of a record
        with pytest.raises(ValueError, match=message):
            fetch(home, on_error="warn", **settings)


def test_unlisted_records_must_be_different(tmp_path):
    for records in ([], ["800", "800"]):
        with pytest.raises(ValueError, match="records must be different names out of those of svdb, or 'local'"):
            fetch_svdb(data_home=tmp_path, records=records, **QUIET)
