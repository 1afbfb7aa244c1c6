"""PTB-XL: labels with likelihoods, folds, patients, versions, and a table that cannot be right."""

from __future__ import annotations

import csv
import warnings
from collections import Counter

import numpy as np
import pytest

from skecg.datasets import fetch_ptbxl
from skecg.datasets._ptbxl import DUPLICATES, STATEMENTS, SUPERCLASSES, WITHDRAWN
from tests.datasets.twelve import LEADS, listing, make_digital, need, to_mv, write_signal

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")  # pandas 3 deprecates what wfdb calls
COLUMNS = "ecg_id patient_id age sex report scp_codes strat_fold filename_lr filename_hr".split()
# ecg_id, patient, age, sex, statements, fold
ROWS = [
    (1, "15.0", "56.0", "1", {"NORM": 100.0, "SR": 0.0}, 3),
    (2, "16.0", "", "0", {"AFIB": 0.0, "CLBBB": 100.0}, 10),
    (4, "15.0", "300.0", "", {"IMI": 35.0, "ASMI": 15.0, "SR": 0.0}, 3),
    (456, "17.0", "91.0", "0", {"STACH": 0.0}, 9),
    (457, "17.0", "91.0", "0", {"STACH": 0.0}, 9),
]
FILES = ["ptbxl_database.csv"]


def write_table(folder, rows=ROWS, **changes):
    """Write the table; a change is the text of a column in the first row."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILES[0]).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for i, (record, patient, age, sex, codes, fold) in enumerate(rows):
            stem = f"00000/{record:05d}"
            cells = [record, patient, age, sex, "two\nlines", str(codes), fold]
            cells += [f"records100/{stem}_lr", f"records500/{stem}_hr"]
            row = dict(zip(COLUMNS, cells, strict=True)) | (changes if i == 0 else {})
            writer.writerow(row.values())


def write_database(folder, rows=ROWS, high=(2,)):
    """Write all records at 100 Hz and some at 500 Hz; return the samples at 100 Hz."""
    write_table(folder, rows)
    samples = {}
    for record, *_ in rows:
        samples[record] = make_digital(1000, record)
        path = folder / "records100" / "00000" / f"{record:05d}_lr"
        write_signal(path, samples[record], fs=100, leads=[lead.upper() for lead in LEADS])
    for record in high:
        path = folder / "records500" / "00000" / f"{record:05d}_hr"
        write_signal(path, make_digital(5000, record), fs=500, leads=[lead.upper() for lead in LEADS])
    return samples


@pytest.fixture
def home(tmp_path):
    write_database(tmp_path / "home" / "ptbxl")
    return tmp_path / "home"


def fetch(home, **settings):
    settings = {"download_if_missing": False, "verbose": 0, "classes": ("NORM", "MI", "AF", "LBBB")} | settings
    return fetch_ptbxl(data_home=home, **settings)


def test_signals_labels_patients_and_folds(home, tmp_path):
    samples = write_database(tmp_path / "again")
    ptbxl = fetch(home)
    assert ptbxl.data.shape == (5, 12, 1000) and ptbxl.data.dtype == np.float32
    for row, (record, digital) in enumerate(samples.items()):
        assert ptbxl.record[row] == str(record)
        np.testing.assert_array_equal(ptbxl.data[row], to_mv(digital))
    assert ptbxl.target.tolist() == [[1, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0], [0] * 4, [0] * 4]
    assert ptbxl.target_names == ["NORM", "MI", "AF", "LBBB"] and ptbxl.target.dtype == np.int64
    assert ptbxl.groups.tolist() == ["15", "16", "15", "17", "17"]
    assert ptbxl.fold.tolist() == [3, 10, 3, 9, 9]
    assert ptbxl.split.tolist() == ["train", "test", "train", "validation", "validation"]
    assert ptbxl.scp_codes[1] == {"AFIB": 0.0, "CLBBB": 100.0}
    np.testing.assert_array_equal(ptbxl.age, [56, np.nan, 90, 91, 91])
    assert ptbxl.age_over_89.tolist() == [False, False, True, True, True]
    assert ptbxl.sex.tolist() == ["female", "male", "unknown", "male", "male"]
    assert ptbxl.withdrawn.tolist() == [False, False, False, True, False]
    assert ptbxl.duplicates == [("456", "457")] and ptbxl.version == "1.0.1"
    assert ptbxl.fs == 100.0 and ptbxl.lead_names == list(LEADS) and not ptbxl.sample.any()
    assert ptbxl.metadata.index.tolist() == [1, 2, 4, 456, 457] and ptbxl.metadata.report[4] == "two\nlines"
    assert "10.13026/x4td-x982" in ptbxl.DESCR and ptbxl.skipped == {}


def test_likelihood_that_is_not_given_is_no_likelihood_of_zero(home):
    classes = {"AF": "AFIB", "IMI": "IMI", "ASMI": "ASMI"}
    with pytest.warns(UserWarning, match="PTB-XL: these records have no AF$"):
        assert fetch(home, classes=classes, not_given=False).target.sum(axis=0).tolist() == [0, 1, 1]
    with pytest.warns(UserWarning, match="no ASMI$"):
        assert fetch(home, classes=classes, min_likelihood=20).target.sum(axis=0).tolist() == [1, 1, 0]
    assert fetch(home, classes=classes, min_likelihood=15).target.sum(axis=0).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "records"),
    [
        ({"folds": 9}, ["456", "457"]),
        ({"folds": (3, 10)}, ["1", "2", "4"]),
        ({"records": [4, "1"]}, ["4", "1"]),
        ({"records": [457, 456, 2], "folds": [9]}, ["457", "456"]),
        ({"withdrawn": "drop"}, ["1", "2", "4", "457"]),
        ({"records": "local", "sampling_rate": 500}, ["2"]),
        ({"records": 2, "sampling_rate": 500}, ["2"]),
    ],
)
def test_choice_of_records(home, settings, records):
    ptbxl = fetch(home, classes={"any": STATEMENTS}, **settings)
    assert ptbxl.record.tolist() == records == [str(i) for i in ptbxl.metadata.index]
    assert ptbxl.data.shape[2] == 10 * ptbxl.fs == 10 * settings.get("sampling_rate", 100)


def test_x_and_y_alone(home):
    X, y = fetch(home, return_X_y=True)
    np.testing.assert_array_equal(X, fetch(home).data)
    np.testing.assert_array_equal(y, fetch(home).target)


@pytest.mark.parametrize("place", ["", "ptb-xl", "ptb-xl/1.0.3", "ptbxl/1.0.1", "physionet.org/files/ptb-xl/1.0.2"])
def test_database_is_found_under_its_names_and_versions(home, tmp_path, place):
    other = tmp_path / "other" / place
    other.parent.mkdir(parents=True, exist_ok=True)
    (home / "ptbxl").rename(other)
    before = listing(tmp_path / "other")
    assert len(fetch(tmp_path / "other", download_if_missing=True).data) == 5
    assert listing(tmp_path / "other") == before


def test_flat_database_is_found(home, tmp_path):
    flat = tmp_path / "flat" / "ptbxl"
    flat.mkdir(parents=True)
    for path in (home / "ptbxl").rglob("*.*"):
        path.rename(flat / path.name)
    assert len(fetch(flat.parent).data) == 5


def test_version_is_told_from_the_records(home):
    write_table(home / "ptbxl", ROWS[:3])
    assert fetch(home).version == "1.0.3"


def test_missing_signals_are_named_or_left_out(home):
    with pytest.raises(FileNotFoundError, match=r"8 files are missing .*records500/00000/00001_hr\.hea"):
        fetch(home, sampling_rate=500)
    with pytest.warns(UserWarning, match="ptbxl: 4 records left out") as caught:
        ptbxl = fetch(home, sampling_rate=500, classes={"AF": "AFIB"}, on_error="warn")
    assert sum("left out" in str(one.message) for one in caught) == 1
    assert ptbxl.record.tolist() == ["2"] and sorted(ptbxl.skipped) == ["1", "4", "456", "457"]
    with pytest.raises(FileNotFoundError, match=r"records500/00000/00001_hr\.hea.*SKECG_DATA"):
        fetch(home, records="local", folds=3, sampling_rate=500)


def test_a_part_of_the_database_is_told(home):
    with pytest.warns(UserWarning, match=r"has 5 of the 21,837 records of PTB-XL 1\.0\.1.*records='local'"):
        fetch(home)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fetch(home, records="local")


def test_damaged_signal_costs_no_other(home):
    path = home / "ptbxl" / "records100" / "00000" / "00002_lr.dat"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"00002_lr\.dat: the signal is damaged"):
        fetch(home)
    whole = {"classes": {"any": STATEMENTS}, "on_error": "warn"}
    with pytest.warns(UserWarning, match="record 2 left out"):
        ptbxl = fetch(home, **whole)
    assert ptbxl.record.tolist() == ["1", "4", "456", "457"] and list(ptbxl.skipped) == ["2"]
    assert len(ptbxl.data) == len(ptbxl.target) == len(ptbxl.metadata) == 4
    np.testing.assert_array_equal(ptbxl.data, fetch(home, records=[1, 4, 456, 457], classes={"a": "SR"}).data)


def test_no_table_is_named(tmp_path):
    for records in (None, "local"):
        with pytest.raises(FileNotFoundError, match=r"ptbxl_database\.csv.*physionet\.org/content/ptb-xl/1\.0\.3/"):
            fetch(tmp_path / "nowhere", records=records)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_downloaded_from_the_version_that_lies_there(home, tmp_path, serve):
    files = {path.relative_to(home / "ptbxl").as_posix(): path.read_bytes() for path in listing(home / "ptbxl")}
    server = serve(files, prefix="/ptb-xl/1.0.1/")
    (home / "ptbxl" / "records100" / "00000" / "00004_lr.dat").unlink()
    assert len(fetch(home, download_if_missing=True).data) == 5
    assert [path for path in server.paths() if "records" in path] == ["records100/00000/00004_lr.dat"]


def test_table_and_signals_are_downloaded(home, tmp_path, serve):
    write_database(home / "ptbxl", ROWS[:3])
    files = {path.relative_to(home / "ptbxl").as_posix(): path.read_bytes() for path in listing(home / "ptbxl")}
    server = serve(files, prefix="/ptb-xl/1.0.3/")
    ptbxl = fetch(tmp_path / "new", download_if_missing=True, folds=3, classes=("NORM", "MI"))
    assert ptbxl.record.tolist() == ["1", "4"] and ptbxl.version == "1.0.3"
    wanted = {path for path in server.paths() if path.startswith("records")}
    assert wanted == {f"records100/00000/0000{i}_lr.{kind}" for i in (1, 4) for kind in ("hea", "dat")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ecg_id": "2"}, r"line 5, column ecg_id: record 2 stands in line 3 too"),
        ({"ecg_id": "one"}, r"line 3, column ecg_id: 'one', expected a number from 1"),
        ({"ecg_id": "1.5"}, "column ecg_id: '1.5'"),
        ({"strat_fold": "11"}, r"ptbxl_database\.csv, line 3, column strat_fold: '11', expected a number from 1 to 10"),
        ({"strat_fold": "4"}, r"line 7, column strat_fold: patient 15 is in fold 3 here and in fold 4 in line 3"),
        ({"patient_id": ""}, "column patient_id: ''"),
        ({"age": "-3"}, "column age: '-3'"),
        ({"age": "200"}, "column age: 200 years"),
        ({"sex": "2"}, "column sex: '2'"),
        ({"scp_codes": "NORM"}, "column scp_codes: 'NORM'"),
        ({"scp_codes": "['NORM']"}, "it is no dictionary"),
        ({"scp_codes": "{'NORM': 101}"}, "column scp_codes: .*101 is no statement"),
        ({"scp_codes": "{'NORM': '100'}"}, "column scp_codes"),
        ({"scp_codes": "{'NORM': __import__('os').getpid()}"}, "column scp_codes"),
        ({"scp_codes": "(" * 3000}, "column scp_codes"),
        ({"scp_codes": "{" + " " * 5000 + "}"}, "it is too long"),
        ({"filename_lr": "../../00001_lr"}, "column filename_lr: '../../00001_lr', expected the path"),
        ({"filename_hr": "records500/00000/00001_lr"}, "column filename_hr"),
    ],
)
def test_table_that_cannot_be_right_is_named_with_line_and_column(home, changes, message):
    write_table(home / "ptbxl", **changes)
    for on_error in ("raise", "warn"):
        with pytest.raises(ValueError, match=message):
            fetch(home, on_error=on_error)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling_rate": 250}, "sampling_rate must be one of 100, 500; got 250"),
        ({"folds": 0}, "folds must be numbers from 1 to 10"),
        ({"folds": []}, "folds must be"),
        ({"folds": [True]}, "folds must be"),
        ({"folds": 1.5}, "folds must be"),
        ({"folds": 5}, "no record of .* is left: folds=5"),
        ({"records": [3]}, "records must be different names out of the ecg_id of .*unknown: '3'"),
        ({"records": [1, 1]}, "records must be different"),
        ({"records": []}, "records must be different"),
        ({"classes": "subclass"}, "classes must be 'superclass', 'ribeiro', labels out of NORM, MI"),
        ({"classes": ["AFIB", "VT"]}, "unknown: 'VT'"),
        ({"min_likelihood": 101}, "min_likelihood must be"),
        ({"not_given": "drop"}, "not_given must be True or False; got 'drop'"),
        ({"withdrawn": True}, "withdrawn must be one of 'keep', 'drop'"),
        ({"on_error": "skip"}, "on_error must be"),
    ],
)
def test_wrong_settings_are_named(home, settings, message):
    with pytest.raises(ValueError, match=message):
        fetch(home, **settings)


def test_statements_are_those_of_the_real_list(real_data):
    with (need(real_data, "ptbxl") / "scp_statements.csv").open(newline="") as file:
        rows = {row[""]: row for row in csv.DictReader(file)}
    assert set(STATEMENTS) == set(rows) and len(STATEMENTS) == 71
    of_class = {label: {name for name in rows if rows[name]["diagnostic_class"] == label} for label in SUPERCLASSES}
    assert {label: set(statements) for label, statements in SUPERCLASSES.items()} == of_class


def test_real_records(real_data):
    """The counts are those of the notes that came with the records, which were made by other code."""
    folder = need(real_data, "ptbxl")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    ptbxl = fetch_ptbxl(data_home=real_data, records="local", verbose=0)
    assert ptbxl.data.shape == (500, 12, 1000) and np.isfinite(ptbxl.data).all()
    assert ptbxl.target_names == ["NORM", "MI", "STTC", "CD", "HYP"]
    assert ptbxl.target.sum(axis=0).tolist() == [297, 73, 96, 78, 40]
    assert (~ptbxl.target.any(axis=1)).sum() == 12
    assert len(set(ptbxl.groups.tolist())) == 466
    assert [Counter(ptbxl.fold.tolist())[fold] for fold in range(1, 11)] == [58, 51, 34, 42, 47, 33, 44, 44, 81, 66]
    statements = Counter(statement for codes in ptbxl.scp_codes for statement in codes)
    assert {name: statements[name] for name in ("SR", "AFIB", "CLBBB", "CRBBB", "1AVB", "SBRAD", "STACH")} == {
        "SR": 407, "AFIB": 13, "CLBBB": 8, "CRBBB": 8, "1AVB": 10, "SBRAD": 9, "STACH": 5
    }  # fmt: skip
    assert sum(codes.get("AFIB") == 0 for codes in ptbxl.scp_codes) == 12
    assert np.isnan(ptbxl.age).sum() == 4 and ptbxl.version == "1.0.1"
    assert tuple(ptbxl.record[ptbxl.withdrawn].astype(int).tolist()) == WITHDRAWN
    for pair in DUPLICATES:
        first, second = (ptbxl.data[ptbxl.record == str(record)] for record in pair)
        np.testing.assert_array_equal(first, second)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_real_records_obey_einthovens_law(real_data):
    need(real_data, "ptbxl")
    ptbxl = fetch_ptbxl(data_home=real_data, records="local", sampling_rate=500, classes=("AF", "LBBB"), verbose=0)
    assert ptbxl.record.tolist() == ["1", "17", "172", "180"]
    assert ptbxl.target.tolist() == [[0, 0], [1, 0], [0, 0], [0, 1]]
    first, second, third, avr = ptbxl.data[:, :4].transpose(1, 0, 2)
    np.testing.assert_allclose(third, second - first, atol=0.0021)
    np.testing.assert_allclose(avr, -(first + second) / 2, atol=0.0021)
