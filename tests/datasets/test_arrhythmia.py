"""Windows of mitdb, vfdb and svdb: found, downloaded, cut, labelled, split, and what happens where a record is bad."""

from __future__ import annotations

import os
import warnings
from collections import Counter

import numpy as np
import pytest

from skecg.datasets import check_split, fetch_mitdb, fetch_svdb, fetch_vfdb
from skecg.datasets._databases import MITDB, VFDB
from skecg.datasets._home import describe

from .strips import read_tables

BEATS = ((100, "N"), (500, "N"), (1000, "V"), (1500, "A"), (2000, "L"), (2500, "R"), (2600, "~"), (3500, "N"))
RECORDS = ["100", "201", "202"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")  # pandas 3 deprecates what wfdb calls


@pytest.fixture
def home(tmp_path, write_record):
    """Return a data home with three short records of the names of real ones."""
    for i, name in enumerate(RECORDS):
        leads = ("V5", "MLII") if name == "202" else ("MLII", "V1")
        write_record(tmp_path / "home" / "mitdb", name, leads=leads, beats=BEATS, seed=i)
    return tmp_path / "home"


def fetch(home, **settings):
    settings = {"records": RECORDS, "download_if_missing": False, "verbose": 0} | settings
    return fetch_mitdb(data_home=home, **settings)


def listing(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_windows_labels_patients_and_positions(home, tmp_path, write_record):
    digital = write_record(tmp_path / "again", "100", beats=BEATS, seed=0)
    mitdb = fetch(home)
    assert mitdb.data.shape == (15, 1, 720) and mitdb.data.dtype == np.float32
    assert mitdb.target.tolist() == ["N", "PVC", "PAC", "LBBB", "RBBB"] * 3
    assert mitdb.groups.tolist() == ["100"] * 5 + ["201"] * 10
    assert mitdb.record.tolist() == ["100"] * 5 + ["201"] * 5 + ["202"] * 5
    assert mitdb.sample.tolist() == [500, 1000, 1500, 2000, 2500] * 3
    np.testing.assert_array_equal(mitdb.start, mitdb.sample - 360)
    assert not mitdb.shift.any() and mitdb.fs == 360.0
    assert mitdb.lead.tolist() == ["MLII"] * 10 + ["V5"] * 5 and mitdb.lead_names == ["MLII/V5"]
    assert mitdb.n_excluded == {"edge": 6, "impure": 0, "missing": 0} and mitdb.skipped == {}
    assert "10.13026/C2F305" in mitdb.DESCR
    expected = ((digital[640:1360, 0] - 1024) / 200).astype(np.float32)
    np.testing.assert_array_equal(mitdb.data[1, 0], expected)


@pytest.mark.parametrize("place", ["", "mitdb", "mitdb/1.0.0"])
def test_records_are_found_in_the_home_and_in_its_folders(home, tmp_path, monkeypatch, place):
    other = tmp_path / "other"
    (other / place).parent.mkdir(parents=True, exist_ok=True)
    (home / "mitdb").rename(other / place)
    assert len(fetch(other).data) == 15
    monkeypatch.setenv("SKECG_DATA", str(other))
    assert len(fetch(None).data) == 15


def test_complete_home_is_not_written_to(home):
    before = listing(home)
    fetch(home, download_if_missing=True)
    assert listing(home) == before


def test_x_and_y_alone(home):
    X, y = fetch(home, return_X_y=True)
    mitdb = fetch(home)
    np.testing.assert_array_equal(X, mitdb.data)
    np.testing.assert_array_equal(y, mitdb.target)


def test_window_and_classes(home):
    mitdb = fetch(home, window=0.5, classes=("PVC", "N"))
    assert mitdb.data.shape == (12, 1, 180) and Counter(mitdb.target.tolist()) == {"N": 9, "PVC": 3}
    own = fetch(home, classes={"VEB": "VE", "other": ["A", "N"]})
    assert Counter(own.target.tolist()) == {"VEB": 3, "other": 6}


def test_shift_moves_the_window_and_says_how_far(home):
    still, moved = fetch(home), fetch(home, shift=0.25, random_state=0)
    np.testing.assert_array_equal(moved.sample, still.sample)
    np.testing.assert_array_equal(moved.start, moved.sample - 360 + moved.shift)
    assert np.abs(moved.shift).max() <= 90 and len(set(moved.shift.tolist())) > 8
    for i, shift in enumerate(moved.shift):
        if shift > 0:
            np.testing.assert_array_equal(moved.data[i, 0, :-shift], still.data[i, 0, shift:])
    np.testing.assert_array_equal(fetch(home, shift=0.25, random_state=0).data, moved.data)
    assert (fetch(home, shift=0.25, random_state=1).shift != moved.shift).any()


def test_generator_is_drawn_from_and_the_global_one_is_not(home):
    generator = np.random.default_rng(0)
    first, second = (fetch(home, shift=0.2, random_state=generator).shift for _ in range(2))
    assert (first != second).any()


@pytest.mark.parametrize("lead", [1, "V1", "v1"])
def test_lead_by_position_or_name(home, lead):
    mitdb = fetch(home, lead=lead, records=["100", "201"])
    assert mitdb.lead_names == ["V1"] and set(mitdb.lead.tolist()) == {"V1"}


def test_lead_by_name_wherever_it_lies(home):
    first, named = fetch(home), fetch(home, lead="MLII")
    assert named.lead_names == ["MLII"]
    np.testing.assert_array_equal(named.data[:10], first.data[:10])
    np.testing.assert_array_equal(named.data[10:], fetch(home, lead=1, records=["202"]).data)


def test_record_without_the_lead_is_an_error_or_left_out(home):
    with pytest.raises(ValueError, match="record 202 has no lead 'V1'; it has 0 V5, 1 MLII"):
        fetch(home, lead="V1")
    with pytest.warns(UserWarning, match="record 202 left out: record 202 has no lead 'V1'"):
        mitdb = fetch(home, lead="V1", on_error="warn")
    assert set(mitdb.record.tolist()) == {"100", "201"} and list(mitdb.skipped) == ["202"]


def damage(home, fault):
    folder = home / "mitdb"
    if fault == "flip":
        content = bytearray((folder / "201.dat").read_bytes())
        content[5000] ^= 1
        (folder / "201.dat").write_bytes(content)
    elif fault == "cut":
        os.truncate(folder / "201.dat", 5000)
    elif fault == "rate":
        header = (folder / "201.hea").read_text()
        (folder / "201.hea").write_text(header.replace("201 2 360 ", "201 2 250 "))
    else:
        os.truncate(folder / "201.atr", 10)


FAULTS = {
    "flip": r"201\.dat: the signal is damaged",
    "cut": r"201\.dat has 5,000 of the 10,800 bytes",
    "rate": r"201\.hea: sampled at 250 Hz; mitdb has 360",
    "annotations": r"201\.atr: not a valid annotation file",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_record_is_named_and_costs_no_other(home, fault):
    whole = fetch(home)
    damage(home, fault)
    with pytest.raises(ValueError, match=FAULTS[fault]):
        fetch(home)
    with pytest.warns(UserWarning, match="record 201 left out") as caught:
        rest = fetch(home, on_error="warn")
    assert len([w for w in caught if "left out" in str(w.message)]) == 1
    assert list(rest.skipped) == ["201"] and set(rest.record.tolist()) == {"100", "202"}
    np.testing.assert_array_equal(rest.data, whole.data[whole.record != "201"])
    np.testing.assert_array_equal(rest.sample, whole.sample[whole.record != "201"])
    assert rest.n_excluded == {"edge": 4, "impure": 0, "missing": 0}


def test_nothing_but_bad_records_is_an_error(home):
    damage(home, "cut")
    with pytest.raises(ValueError, match=r"no record of mitdb could be read: 201: .*5,000"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fetch(home, records=["201"], on_error="warn")


@pytest.mark.parametrize("extension", ["hea", "dat", "atr"])
def test_missing_file_without_download_says_what_to_do(home, monkeypatch, extension):
    (home / "mitdb" / f"201.{extension}").unlink()
    monkeypatch.setenv("SKECG_OFFLINE", "1")
    for settings in ({"download_if_missing": True}, {"download_if_missing": False}):
        with pytest.raises(OSError, match=rf"201\.{extension}.*SKECG_DATA") as caught:
            fetch(home, **settings)
        assert isinstance(caught.value, ValueError)
    with pytest.warns(UserWarning, match=rf"1 records left out: .*201\.{extension}"):
        mitdb = fetch(home, on_error="warn")
    assert set(mitdb.record.tolist()) == {"100", "202"}
    assert mitdb.skipped["201"].startswith(f"201.{extension} missing from")


def test_no_home_at_all_without_download(tmp_path):
    for on_error in ("raise", "warn"):
        with pytest.raises(OSError, match="144 files are missing"):
            fetch_mitdb(data_home=tmp_path / "nowhere", download_if_missing=False, on_error=on_error)
    assert list(tmp_path.iterdir()) == []


def test_local_takes_what_is_there(home):
    (home / "mitdb" / "202.dat").unlink()
    mitdb = fetch(home, records="local", download_if_missing=True)
    assert sorted(set(mitdb.record.tolist())) == ["100", "201"] and mitdb.skipped == {}
    with pytest.raises(OSError, match=r"no record of mitdb lies in .*nowhere"):
        fetch(home / "nowhere", records="local")


def test_missing_records_are_downloaded_into_their_folder(home, tmp_path, serve):
    files = {path.name: path.read_bytes() for path in (home / "mitdb").iterdir()}
    server = serve(files)
    new = tmp_path / "new"
    mitdb = fetch(new, download_if_missing=True)
    np.testing.assert_array_equal(mitdb.data, fetch(home).data)
    for name, body in files.items():
        assert (new / "mitdb" / name).read_bytes() == body
    asked = len(server.requests)
    (new / "mitdb" / "201.atr").unlink()
    assert len(fetch(new, download_if_missing=True).data) == 15
    assert server.paths()[asked:] == ["201.atr"]
    before = listing(new)
    fetch(new, download_if_missing=True)
    assert listing(new) == before and len(server.requests) == asked + 1


def test_record_that_the_server_lacks_is_left_out_with_a_warning(home, tmp_path, serve):
    files = {path.name: path.read_bytes() for path in (home / "mitdb").iterdir()}
    server = serve(files)
    del server.files["201.dat"]
    with pytest.raises(FileNotFoundError, match=r"201\.dat: not found \(404\)"):
        fetch(tmp_path / "new", download_if_missing=True)
    with pytest.warns(UserWarning, match="1 records left out"):
        mitdb = fetch(tmp_path / "new", download_if_missing=True, on_error="warn")
    assert set(mitdb.record.tolist()) == {"100", "202"} and list(mitdb.skipped) == ["201"]


def test_absent_class_is_warned_about(home):
    with pytest.warns(UserWarning, match="no window of F"):
        fetch(home, classes={"N": "N", "F": "F"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ["AF"]}, "unknown 'AF'; allowed are N, PVC, PAC, LBBB, RBBB, NSR, AFIB"),
        ({"classes": []}, "own annotation symbols"),
        ({"split": "DS1"}, "split must be one of 'patients', 'literal'; got 'DS1'"),
        ({"records": ["100", "999"]}, "records must be different names out of 100, .* unknown: '999'"),
        ({"records": []}, "records must be different names"),
        ({"records": ["100", "100"]}, "records must be different names"),
        ({"records": ["../100"]}, "no relative path"),
        ({"lead": ["MLII"]}, "lead must be one position or one name"),
        ({"lead": "V9"}, "record 100 has no lead 'V9'"),
        ({"window": -1}, "window must be"),
        ({"shift": "1"}, "shift must be"),
        ({"random_state": 1.5}, "random_state must be"),
        ({"records": 999}, "records must be different names out of 100, .* unknown: '999'"),
        ({"classes": {"PVC": 5}}, "'PVC' must have symbols or notes as texts; got 5"),
        ({"download_if_missing": "no"}, "download_if_missing must be True or False; got 'no'"),
        ({"on_error": "skip"}, "on_error must be one of 'raise', 'warn'"),
    ],
)
def test_wrong_settings_are_named(home, settings, message):
    with pytest.raises(ValueError, match=message):
        fetch(home, **settings)


def test_missing_samples_cost_only_their_windows(home, tmp_path, write_record):
    import wfdb

    digital = write_record(tmp_path / "again", "201", beats=BEATS, seed=1)
    digital[650:1020, 0] = -2048  # 370 of 720 samples of the window of the PVC, 220 of the N before, 0 to 60 of others
    wfdb.wrsamp("201", 360, ["mV"] * 2, ["MLII", "V1"], d_signal=digital, fmt=["212"] * 2, adc_gain=[200.0] * 2,
                baseline=[1024] * 2, write_dir=str(home / "mitdb"))  # fmt: skip
    whole = fetch(home, records=["100", "201", "202"])
    assert Counter(whole.target.tolist()) == {"N": 3, "PVC": 2, "PAC": 3, "LBBB": 3, "RBBB": 3}
    assert whole.n_excluded["missing"] == 1
    np.testing.assert_array_equal(whole.data[whole.record == "202"], fetch(home, records=["202"]).data)
    assert np.isnan(whole.data[5]).sum() == 210 and len(whole.data) == len(whole.sample) == 14


def test_halves_of_the_published_split(home):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mitdb = fetch(home)
    sides = dict(zip(mitdb.record.tolist(), mitdb.split.tolist(), strict=True))
    assert sides == {"100": "DS2", "201": "DS1", "202": "DS1"}
    with pytest.warns(UserWarning, match=r"1 of 2 patients \(201; 10 samples\)") as caught:
        literal = fetch(home, split="literal")
    assert [w.filename for w in caught] == [__file__]
    assert literal.split.tolist() == ["DS2"] * 5 + ["DS1"] * 5 + ["DS2"] * 5
    assert len(fetch(home, split="literal", return_X_y=True)) == 2


@pytest.mark.filterwarnings("ignore:mitdb. no window of F")
def test_paced_records_are_left_out_of_the_standard_s_groups_unless_named(home, write_record):
    write_record(home / "mitdb", "104", beats=((500, "/"), (1000, "f"), (1500, "N")))
    mitdb = fetch(home, classes="aami", records="local")
    assert Counter(mitdb.target.tolist()) == {"N": 9, "SVEB": 3, "VEB": 3} and "104" not in mitdb.record
    paced = fetch(home, classes="aami", records=["100", "104"])
    assert paced.target[paced.record == "104"].tolist() == ["Q", "Q", "N"]
    assert paced.split[paced.record == "104"].tolist() == ["", "", ""]


def test_svdb_s_default_is_the_standard_s_groups(home):
    for path in (home / "mitdb").glob("100.*"):
        target = home / "svdb" / f"800{path.suffix}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes().replace(b"100 2 360", b"800 2 128").replace(b"100.dat", b"800.dat"))
    with pytest.warns(UserWarning, match="svdb: no window of F, Q"):
        svdb = fetch_svdb(data_home=home, records="local", verbose=0)
    assert Counter(svdb.target.tolist()) == {"N": 3, "VEB": 1, "SVEB": 1}
    assert svdb.data.shape == (5, 1, 256) and svdb.fs == 128.0 and "split" not in svdb


def test_counts_and_patients_of_the_real_database(real_data):
    before = {path: path.stat().st_mtime_ns for path in (real_data / "mitdb").iterdir()}
    mitdb = fetch_mitdb(data_home=real_data, verbose=0)
    assert Counter(mitdb.target.tolist()) == {"N": 74_965, "PVC": 7_126, "PAC": 2_545, "LBBB": 8_066, "RBBB": 7_251}
    assert mitdb.data.shape == (99_953, 1, 720) and np.isfinite(mitdb.data).all()
    assert len(set(mitdb.groups.tolist())) == 47
    per_record = {name: set(mitdb.record[mitdb.target == name].tolist()) for name in ("LBBB", "RBBB")}
    assert per_record["LBBB"] == {"109", "111", "207", "214"}
    assert per_record["RBBB"] == {"118", "124", "207", "212", "231", "232"}
    assert Counter(mitdb.record[mitdb.target == "PAC"].tolist())["232"] == 1_382
    assert set(mitdb.record[mitdb.lead == "V5"].tolist()) == {"102", "104", "114"}
    assert {path: path.stat().st_mtime_ns for path in (real_data / "mitdb").iterdir()} == before


def test_window_of_the_real_database_is_the_record_s(real_data):
    import wfdb

    mitdb = fetch_mitdb(data_home=real_data, records=["119"], classes=["PVC"], shift=0.3, random_state=0, verbose=0)
    signal = wfdb.rdrecord(str(real_data / "mitdb" / "119")).p_signal[:, 0].astype(np.float32)
    assert len(mitdb.data) == 444
    for i in (0, 200, 443):
        np.testing.assert_array_equal(mitdb.data[i, 0], signal[mitdb.start[i] : mitdb.start[i] + 720])


def test_mlii_is_not_in_two_real_records(real_data):
    with pytest.raises(ValueError, match="record 102 has no lead 'MLII'; it has 0 V5, 1 V2"):
        fetch_mitdb(data_home=real_data, lead="MLII", verbose=0)
    settings = {"records": ["102", "104", "114"], "classes": ["N", "PVC", "PAC"], "on_error": "warn", "verbose": 0}
    with pytest.warns(UserWarning, match="record 10[24] left out"):
        mitdb = fetch_mitdb(data_home=real_data, lead="MLII", **settings)
    assert sorted(mitdb.skipped) == ["102", "104"] and mitdb.lead_names == ["MLII"]


def test_standard_s_groups_of_the_published_halves(real_data):
    settings = {"data_home": real_data, "window": 0.01, "classes": "aami", "signal": False, "verbose": 0}
    published = {  # de Chazal et al. 2004, table III
        "DS1": {"N": 45_866, "SVEB": 944, "VEB": 3_788, "F": 415, "Q": 8},
        "DS2": {"N": 44_259, "SVEB": 1_837, "VEB": 3_221, "F": 388, "Q": 7},
    }
    with pytest.warns(UserWarning, match=r"1 of 43 patients \(201; "):
        literal = fetch_mitdb(split="literal", **settings)
    own = fetch_mitdb(**settings)
    for side, counts in published.items():
        assert Counter(literal.target[literal.split == side].tolist()) == counts
    lost = Counter(published["DS2"]) - Counter(own.target[own.split == "DS2"].tolist())
    assert lost == {"N": 2_061, "SVEB": 55, "VEB": 19, "F": 1}  # what the page says of record 202
    assert check_split(own.split, own.groups) == []


@pytest.mark.parametrize("rhythm", ["marks", "episodes"])
def test_rhythms_of_the_real_database(real_data, rhythm):
    settings = {"classes": tuple(MITDB.rhythms), "rhythm": rhythm, "signal": False, "verbose": 0}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="mitdb: no window of SBR")
        counts = Counter(fetch_mitdb(data_home=real_data, **settings).target.tolist())
    if rhythm == "marks":
        assert counts["AFIB"] == 102 and counts["SVTA"] == 26 and not counts["SBR"]
    else:
        told = read_tables(describe("mitdb"))
        assert counts == {label: told[label][1][1] for label in MITDB.rhythms}


def test_signal_of_one_real_record_of_vfdb(real_data):
    if not (real_data / "vfdb" / "426.dat").is_file():
        pytest.skip("vfdb is not in the folder of real records")
    settings = {"classes": ("NSR", "VT", "VF", "SVTA", "NOISE"), "records": "local", "verbose": 0}
    vfdb = fetch_vfdb(data_home=real_data, **settings)
    assert Counter(vfdb.target.tolist()) == {"NSR": 415, "VF": 323, "NOISE": 239, "SVTA": 39, "VT": 25}
    assert set(vfdb.record.tolist()) == {"426"} and vfdb.data.shape == (1041, 1, 500)
    assert np.isfinite(vfdb.data).all() and np.ptp(vfdb.data, axis=2).max() > 0.5
    with pytest.raises(OSError, match=r"21 files are missing .*418\.dat.*signal=False"):
        fetch_vfdb(data_home=real_data, download_if_missing=False, verbose=0)


def test_all_real_rhythms_of_vfdb(real_data):
    if not (real_data / "vfdb" / "615.atr").is_file():
        pytest.skip("vfdb is not in the folder of real records")
    vfdb = fetch_vfdb(data_home=real_data, classes=tuple(VFDB.rhythms), signal=False, verbose=0)
    told = read_tables(describe("vfdb"))
    assert Counter(vfdb.target.tolist()) == {label: told[label][1][1] for label in VFDB.rhythms}
    assert len(set(vfdb.groups.tolist())) == 22
