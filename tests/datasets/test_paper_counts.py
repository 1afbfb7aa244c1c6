"""The first paper's table: each rule on made-up annotations, and the counts of the real annotation files."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import wfdb

from skecg.datasets import PaperCount, paper_counts
from skecg.datasets._paper_counts import count_windows, judge

FS = 10.0  # a window reaches from 10 samples before to 10 samples after


def annotations(*marks, n=200):
    """Return annotations of a record; a mark is (position, symbol) or (position, note of a rhythm mark)."""
    return {
        "sample": np.array([position for position, _ in marks]),
        "symbol": np.array(["+" if text.startswith("(") else text for _, text in marks]),
        "aux_note": np.array([text if text.startswith("(") else "" for _, text in marks], dtype=object),
        "n_timesteps": n,
        "fs": FS,
    }


@pytest.mark.parametrize(
    ("marks", "annotated", "count"),
    [
        ([(9, "N"), (10, "N"), (190, "N"), (191, "N")], 4, 2),  # 190 + 10 is the end of the record, and not needed
        ([(50, "V"), (50, "a"), (60, "+")], 0, 0),
        ([(50, "N"), (51, "V"), (52, "N")], 2, 2),  # what else lies in the window does not matter
    ],
)
def test_beats_whose_window_lies_in_the_record(marks, annotated, count):
    assert count_windows(annotations(*marks), "N", "beat") == (annotated, count)


@pytest.mark.parametrize(
    ("marks", "count"),
    [
        ([(30, "~"), (100, "V"), (170, "~")], 1),
        ([(30, "~"), (100, "V"), (110, "N"), (170, "~")], 0),  # the end of the window is part of it
        ([(30, "~"), (100, "V"), (111, "N"), (170, "~")], 1),
        ([(30, "~"), (90, "~"), (100, "V"), (170, "~")], 0),  # what is no beat counts too
        ([(30, "~"), (100, "V"), (105, "V"), (170, "~")], 2),  # a run of one kind is pure
        ([(91, "~"), (105, "V"), (170, "~")], 1),
        ([(96, "~"), (105, "V"), (170, "~")], 0),  # the window begins before the first annotation
        ([(96, "V"), (170, "~")], 0),  # which may be the beat itself
        ([(30, "~"), (100, "V"), (109, "V")], 0),  # the window of 100 ends behind the last annotation
        ([(30, "~"), (100, "V"), (109, "V"), (110, "V")], 1),
    ],
)
def test_pure_beats_between_the_first_and_the_last_annotation(marks, count):
    assert count_windows(annotations(*marks), "PVC", "pure") == (sum(text == "V" for _, text in marks), count)


@pytest.mark.parametrize(
    ("marks", "rule", "count"),
    [
        ([(9, "(SBR"), (10, "(SBR"), (190, "(SBR"), (191, "(SBR")], "mark", 2),
        ([(50, "(SBR"), (60, "(N")], "mark", 1),
        ([(50, "(SBR"), (60, "(N")], "alone", 0),
        ([(50, "(SBR"), (61, "(N")], "alone", 1),
        ([(40, "(SBR"), (50, "(SBR")], "alone", 0),
        ([(50, "(SBR"), (55, "V"), (56, "~")], "alone", 1),
    ],
)
def test_marks_of_a_rhythm(marks, rule, count):
    everything = sum(text == "(SBR" for _, text in marks)
    assert count_windows(annotations(*marks), "SBR", rule) == (everything, count)


def test_the_long_window_counts_in_samples_and_ends_with_the_annotations():
    ends = [(100, "~"), (900, "~")]
    marks = annotations(*sorted([*ends, (459, "(SBR"), (460, "(SBR"), (540, "(SBR"), (541, "(SBR")]), n=1000)
    assert count_windows(marks, "SBR", "long") == (4, 2)


@pytest.mark.parametrize(
    ("inside", "count"), [([(45, "N"), (60, "N")], 1), ([(60, "V")], 0), ([(61, "V"), (39, "A")], 1), ([(55, "~")], 1)]
)
def test_marks_with_normal_beats_alone(inside, count):
    assert count_windows(annotations(*sorted([(50, "(N"), *inside])), "N", "normal") == (1, count)


def test_records_without_the_class_count_nothing():
    for rule in ("mark", "alone", "long"):
        assert count_windows(annotations((50, "N")), "SBR", rule) == (0, 0)
    assert count_windows(annotations((50, "V")), "N", "normal") == (0, 0)
    assert count_windows(annotations((50, "A")), "N", "pure") == (0, 0)


@pytest.mark.parametrize(
    ("count", "published", "outcome"),
    [
        (5137, 5137, "exact"),
        (101, 100, "close: +1 (+1.0%)"),
        (99, 100, "close: -1 (-1.0%)"),
        (7251, 5400, "not reproduced: +1,851 (+34.3%)"),
        (0, 22, "not reproduced: -22 (-100.0%)"),
    ],
)
def test_counts_are_judged_by_their_distance(count, published, outcome):
    assert judge(count, published) == outcome


@pytest.fixture
def small_ltdb(tmp_path):
    """Return a data home with seven small records for those of ltdb, all alike."""
    folder = tmp_path / "ltdb"
    for record in ("14046", "14134", "14149", "14157", "14172", "14184", "15814"):
        beats = [(100, "~"), (300, "N"), (500, "V"), (620, "N"), (800, "N"), (990, "~")]
        sample, symbol = zip(*beats, strict=True)
        folder.mkdir(exist_ok=True)
        wfdb.wrann(record, "atr", np.array(sample), symbol=np.array(symbol), write_dir=str(folder))
        (folder / f"{record}.hea").write_text(f"{record} 2 128 800\nx.dat 212 0\nx.dat 212 0\n")
    return tmp_path


def test_missing_databases_are_named_and_the_others_counted(small_ltdb):
    counts = paper_counts(small_ltdb)
    assert all(isinstance(count, PaperCount) for count in counts)
    # N: 300 alone; 620 has the V at 500 in its window; 800 and 990 lie beyond the end of the record. V: so has 620.
    normal, pvc = counts[:2]
    assert (normal.database, normal.label, normal.annotated, normal.count) == ("ltdb", "N", 14, 7)
    assert (pvc.label, pvc.annotated, pvc.count, pvc.published) == ("PVC", 7, 0, 5137)
    assert normal.outcome == "not reproduced: -517,395 (-100.0%)"
    for count in counts[2:]:
        assert count.count is None and count.annotated is None
        assert count.outcome.startswith("not counted: ") and str(small_ltdb) in count.outcome
    assert {count.database: count.outcome.split()[4] for count in counts[2:]} == {"ltafdb": "168", "mitdb": "96"}


def test_a_damaged_file_is_named(small_ltdb):
    (small_ltdb / "ltdb" / "14157.atr").write_bytes(b"\x01")
    with pytest.raises(ValueError, match=r"14157\.atr"):
        paper_counts(small_ltdb)
    (small_ltdb / "ltdb" / "14134.hea").write_text("14134 2 128\nx.dat 212 0\nx.dat 212 0\n")
    with pytest.raises(ValueError, match=r"14134\.hea: no length"):
        paper_counts(small_ltdb)


@pytest.fixture(scope="module")
def all_annotations(real_data, tmp_path_factory):
    """Return a data home with the annotations of the three databases."""
    archive = real_data / "ltafdb" / "annotations.tar.xz"
    if not archive.is_file() or not (real_data / "ltdb" / "14046.atr").is_file():
        pytest.skip("the annotations of ltdb and ltafdb are not in SKECG_DATA")
    home = tmp_path_factory.mktemp("home")
    with tarfile.open(archive) as opened:
        opened.extractall(home, filter="data")
    for name in ("ltdb", "mitdb"):
        (home / name).mkdir()
        for path in [*(real_data / name).glob("*.hea"), *(real_data / name).glob("*.atr")]:
            shutil.copy(path, home / name)
    return home


def test_published_counts_come_out_of_the_annotation_files(all_annotations):
    counts = paper_counts(all_annotations)
    exact = {(c.database, c.label): c.count for c in counts if c.outcome == "exact"}
    assert exact == {
        ("ltdb", "N"): 517_402,
        ("ltdb", "PVC"): 5_137,
        ("ltafdb", "PVC"): 1_318,
        ("ltafdb", "PAC"): 14_914,
        ("ltafdb", "SBR"): 11_323,
        ("mitdb", "AFIB"): 102,
    }
    assert sum(c.outcome == "exact" for c in counts) == 7  # SBR by two rules
    close = [(c.database, c.label, c.count, c.published) for c in counts if c.outcome.startswith("close")]
    assert close == [
        ("ltafdb", "SVTA", 3_268, 3_265),
        ("ltafdb", "AFIB", 7_216, 7_241),
        ("mitdb", "N", 74_965, 75_013),
        ("mitdb", "PVC", 7_126, 7_121),
        ("mitdb", "PAC", 2_545, 2_542),
    ]
    missed = {(c.database, c.label, c.count) for c in counts if c.outcome.startswith("not reproduced")}
    assert missed == {
        ("ltafdb", "SVTA", 3_140),
        ("ltafdb", "AFIB", 7_358),
        ("ltafdb", "N", 11_983),
        ("mitdb", "SVTA", 26),
        ("mitdb", "LBBB", 8_066),
        ("mitdb", "RBBB", 7_251),
    }
    annotated = {(c.database, c.label): c.annotated for c in counts}
    assert annotated["ltdb", "N"] == 600_232 and annotated["ltafdb", "PAC"] == 152_332
    assert annotated["ltafdb", "N"] == 22_834 and annotated["mitdb", "AFIB"] == 107
    page = (Path(__file__).resolve().parents[2] / "docs" / "databases.md").read_text(encoding="utf-8")
    for c in counts:
        figures = f"{c.published:,} | {c.count:,} | {c.outcome} | {c.annotated:,}"
        line = f"| `{c.database}` | {c.label} | {figures} | {c.rule} |"
        assert line in page, "docs/databases.md is old: run docs/write_databases.py"
