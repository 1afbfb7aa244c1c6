"""What the twelve-lead fetchers share: tables, labels, leads in order, records from one place, memory."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from skecg.datasets import _twelve_lead as shared
from skecg.datasets._databases import Database
from tests.datasets.twelve import LEADS, make_digital, to_mv, write_signal

DATABASE = Database("db", "a-db", "2.0", "A database", 100.0, (), ("hea", "dat"), versions=("1.0",))


def table(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_table_keeps_line_breaks_in_cells_and_counts_lines(tmp_path):
    path = table(tmp_path, 'id,what\r\n1,"a\n b"\r\n\r\n2,"c, d"\r\n')
    assert shared.read_table(path, ("id",)) == [(3, {"id": "1", "what": "a\n b"}), (5, {"id": "2", "what": "c, d"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,what\n1\n", r"table\.csv, line 2: 1 cells, expected 2"),
        ("id\n1\n", r"line 1: expected the columns id, what; missing: what"),
        ("id,what,id\n1,2,3\n", "some are there twice"),
        ("id,what\n", "lists no records"),
        ("", "missing: id, what"),
        ('id,what\n1,"a\n', r"table\.csv, line 2: "),
        (b"id,what\n1,\xff\n", "not a text in UTF-8"),
        (f"id,what\n1,{'x' * 200_000}\n", "line 2: field larger"),
    ],
)
def test_what_is_no_table_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        shared.read_table(table(tmp_path, text), ("id", "what"))


GROUPS = {"both": {"A": ("x", "y"), "B": ("z",)}}
LABELS = {"A": ("x", "y"), "B": ("z",)}


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ("both", {"A": ("x", "y"), "B": ("z",)}),
        (["B", "x"], {"B": ("z",), "x": ("x",)}),
        ({"own": "A"}, {"own": ("x", "y")}),
        ({"own": ["z", "A", "x"]}, {"own": ("z", "x", "y")}),
    ],
)
def test_labels_may_be_a_group_labels_statements_or_the_users(classes, expected):
    assert shared.check_indicator_labels(classes, "xyz", LABELS, GROUPS) == expected


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("all", "classes must be 'both', labels out of A, B, .*got 'all'"),
        (["A", "w"], "unknown: 'w'"),
        ({"own": []}, "got {'own': "),
        ({1: "x"}, "got {1: 'x'}"),
        ([], r"got \[\]"),
        (["A", "A"], "names a label twice"),
        (3, "got 3"),
        ([3], "unknown: 3"),
        ({"own": 3}, "unknown: 3"),
        ([["x"]], "unknown: .'x'."),
    ],
)
def test_other_labels_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        shared.check_indicator_labels(classes, "xyz", LABELS, GROUPS)


def test_indicators_count_any_statement_of_a_label_and_warn_of_absent_ones():
    with pytest.warns(UserWarning, match="db: these records have no C$"):
        target = shared.make_indicators([("x", "q"), (), ("y", "z")], {**LABELS, "C": ("w",)}, "db")
    assert target.tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 0]] and target.dtype == np.int64


def test_leads_come_in_the_standard_order_whatever_the_file_has(tmp_path):
    digital = make_digital(50)
    order = np.random.default_rng(1).permutation(12)
    write_signal(tmp_path / "r", digital[:, order], fs=100, leads=[LEADS[i].upper() for i in order])
    record = shared.read_twelve(tmp_path / "r.hea", 100.0, {})
    assert record.lead_names == list(LEADS)
    np.testing.assert_array_equal(record.data, to_mv(digital))


def test_limb_leads_are_derived_with_a_warning_and_chest_leads_are_not(tmp_path):
    digital = make_digital(50)
    kept = [0, 1, 6, 7, 8, 9, 10, 11]
    write_signal(tmp_path / "r", digital[:, kept], fs=100, leads=[LEADS[i] for i in kept])
    notes = {}
    record = shared.read_twelve(tmp_path / "r", None, notes)
    assert notes == {"III, aVR, aVL, aVF derived from other leads": ["r"]}
    first, second = to_mv(digital)[:2].astype(np.float64)
    np.testing.assert_allclose(record.data[2], second - first, atol=1e-6)
    np.testing.assert_allclose(record.data[3], -(first + second) / 2, atol=1e-6)
    write_signal(tmp_path / "s", digital[:, :6], fs=100, leads=LEADS[:6])
    with pytest.raises(ValueError, match=r"s: no lead V1, V2, V3, V4, V5, V6 among I, II"):
        shared.read_twelve(tmp_path / "s", None, notes)


def test_what_is_odd_in_many_records_is_told_once(tmp_path):
    for name in "rs":
        write_signal(tmp_path / name, make_digital(50)[:, [0, 1, *range(6, 12)]], fs=100,
                     leads=[*LEADS[:2], *LEADS[6:]])  # fmt: skip
    paths = {name: tmp_path / f"{name}.hea" for name in "rs"}
    with pytest.warns(UserWarning) as caught:
        shared.read_rows(paths, 50, 100.0, name="db", on_error="raise", skipped={}, verbose=0)
    assert [str(w.message) for w in caught] == ["db: III, aVR, aVL, aVF derived from other leads (2 records)"]


def test_rate_and_length_must_be_the_databases(tmp_path):
    write_signal(tmp_path / "r", make_digital(50), fs=100)
    with pytest.raises(ValueError, match="sampled at 100 Hz, expected 250"):
        shared.read_twelve(tmp_path / "r", 250.0, {})
    settings = {"name": "db", "on_error": "raise", "skipped": {}, "verbose": 0}
    with pytest.raises(ValueError, match="50 samples a lead, expected 60"):
        shared.read_rows({"r": tmp_path / "r.hea"}, 60, 100.0, **settings)


def test_array_beyond_the_memory_is_refused_before_it_is_made(tmp_path):
    settings = {"name": "db", "on_error": "raise", "skipped": {}, "verbose": 0}
    paths = {str(i): tmp_path / "r.hea" for i in range(1000)}
    with pytest.raises(ValueError, match=r"db: an array of shape \(1000, 12, 10000000000\) takes 480,000\.0 GB"):
        shared.read_rows(paths, 10**10, 100.0, **settings)


def get_files(folder, files, **settings):
    usual = {"local": False, "download_if_missing": False, "on_error": "raise", "skipped": {}, "verbose": 0}
    return shared.get_files(folder, files, DATABASE, **usual | settings)


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


FILES = {"1": ["sub/1.hea", "sub/1.dat"], "2": ["sub/2.hea", "sub/2.dat"]}


def test_files_of_a_record_are_taken_from_one_place(tmp_path, serve):
    server = serve({"sub/1.hea": b"new", "sub/1.dat": b"new"}, prefix="/a-db/2.0/")
    fill(tmp_path, "1.hea", "sub/1.dat", "2.hea", "2.dat")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file that lies there has not the server's sum
        paths = get_files(tmp_path, FILES, download_if_missing=True)
    assert paths == {
        "1": [tmp_path / "sub" / "1.hea", tmp_path / "sub" / "1.dat"],
        "2": [tmp_path / "2.hea", tmp_path / "2.dat"],
    }
    assert "sub/1.hea" in server.paths() and not any("2." in path.partition("/")[2] for path in server.paths())


def test_local_files_alone_or_a_message_that_names_them(tmp_path):
    fill(tmp_path / "some", "sub/2.hea", "sub/2.dat", "sub/1.hea")
    assert list(get_files(tmp_path / "some", FILES, local=True)) == ["2"]
    with pytest.raises(FileNotFoundError, match=r"nothing that was asked for lies in .*none \(sub/1.hea, sub/1.dat\)"):
        get_files(tmp_path / "none", FILES, local=True)
    with pytest.raises(FileNotFoundError, match=r"sub/1\.dat"):
        get_files(tmp_path / "some", FILES)
    skipped = {}
    with pytest.warns(UserWarning, match="db: 1 records left out"):
        paths = get_files(tmp_path / "some", FILES, on_error="warn", skipped=skipped)
    assert list(paths) == ["2"] and list(skipped) == ["1"] and "sub/1.dat missing from" in skipped["1"]


def test_objects_stay_objects_whatever_their_lengths():
    array = shared.object_array([("a", "b"), ("c", "d")])
    assert array.shape == (2,) and array[1] == ("c", "d")
