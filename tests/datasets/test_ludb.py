"""LUDB: waves paired around their peaks, masks, the part that was annotated, rhythms from an untidy table."""

from __future__ import annotations

import csv
from collections import Counter

import numpy as np
import pytest

from skecg.datasets import fetch_ludb
from skecg.datasets._ludb import read_waves
from tests.datasets.twelve import LEADS, listing, make_digital, need, to_mv, write_signal

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")  # pandas 3 deprecates what wfdb calls
COLUMNS = ["ID", "Sex", "Age", "Rhythms", "Conduction abnormalities", "Hypertrophies"]
ROWS = [
    ["1", "F\n", "51\n", "Sinus bradycardia", "", "Left atrial hypertrophy\nLeft ventricular hypertrophy"],
    ["2", "M\n", ">89\n", "Atrial fibrillation\nAberrant conduction ", "Complete left bundle branch block", ""],
    ["3", "M\n", "64 ", "Sinus rhythm", "I degree av block", ""],
]
# One beat of P, QRS and T.
BEAT = ((100, "("), (120, "p"), (140, ")"), (180, "("), (200, "N"), (230, ")"), (300, "("), (350, "t"), (400, ")"))


def write_waves(path, marks):
    """Write an annotation file: MIT format, a code of 6 bits and an interval of 10 in each word."""
    codes = {"N": 1, "p": 24, "t": 27, "(": 39, ")": 40, "V": 5}
    words, last = [], 0
    for sample, symbol in marks:
        if sample - last > 1023:  # a long interval: its own code, then the high and the low word
            words += [59 << 10, (sample - last) >> 16, (sample - last) & 0xFFFF]
            last = sample
        words.append(codes[symbol] << 10 | sample - last)
        last = sample
    path.write_bytes(np.array([*words, 0], dtype="<u2").tobytes())


def write_table(folder, rows=ROWS):
    with (folder / "ludb.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def write_database(folder, place="data"):
    (folder / place).mkdir(parents=True, exist_ok=True)
    write_table(folder)
    samples = {}
    for name in ("1", "2", "3"):
        samples[name] = make_digital(5000, int(name))
        leads = [lead.lower() for lead in LEADS]
        write_signal(folder / place / name, samples[name], fs=500, leads=leads)
        for i, lead in enumerate(leads):
            write_waves(folder / place / f"{name}.{lead}", [(sample + 10 * i, symbol) for sample, symbol in BEAT])
    return samples


@pytest.fixture
def home(tmp_path):
    write_database(tmp_path / "home" / "ludb")
    return tmp_path / "home"


def fetch(home, **settings):
    settings = {"records": "local", "classes": ("SR", "SB", "AF"), "verbose": 0} | settings
    return fetch_ludb(data_home=home, **settings)


def test_signals_rhythms_and_subjects(home, tmp_path):
    samples = write_database(tmp_path / "again")
    ludb = fetch(home)
    assert ludb.data.shape == (3, 12, 5000) and ludb.data.dtype == np.float32
    for row, digital in enumerate(samples.values()):
        np.testing.assert_array_equal(ludb.data[row], to_mv(digital))
    assert ludb.target.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]] and ludb.target_names == ["SR", "SB", "AF"]
    assert ludb.rhythms.tolist() == [
        ("Sinus bradycardia",),
        ("Atrial fibrillation", "Aberrant conduction"),
        ("Sinus rhythm",),
    ]
    assert ludb.diagnoses[0] == ("Left atrial hypertrophy", "Left ventricular hypertrophy")
    assert ludb.record.tolist() == ludb.groups.tolist() == ["1", "2", "3"]
    assert ludb.age.tolist() == [51, 90, 64] and ludb.age_over_89.tolist() == [False, True, False]
    assert ludb.sex.tolist() == ["female", "male", "male"]
    assert ludb.fs == 500.0 and ludb.lead_names == list(LEADS) and ludb.skipped == {}
    assert "10.13026/eegm-h675" in ludb.DESCR


def test_masks_and_intervals_lead_by_lead(home):
    ludb = fetch(home)
    assert ludb.masks.shape == (3, 12, 5000) and ludb.masks.dtype == np.uint8
    for i in range(12):
        expected = np.zeros(5000, dtype=np.uint8)
        for code, first, last in ((1, 100, 140), (2, 180, 230), (3, 300, 400)):
            expected[first + 10 * i : last + 10 * i + 1] = code
        np.testing.assert_array_equal(ludb.masks[1, i], expected)
        assert ludb.annotated[1, i].tolist() == [100 + 10 * i, 401 + 10 * i]
    assert len(ludb.intervals) == 3 * 12 * 3
    assert ludb.intervals[4].tolist() == (0, "1", "II", "QRS", 190, 210, 240)
    assert (ludb.record[ludb.intervals["row"]] == ludb.intervals["record"]).all()
    assert ludb.n_unpaired == {"P": 0, "QRS": 0, "T": 0, "limits": 0}


def test_waves_are_paired_around_their_peaks(tmp_path):
    samples = (10, 20, 30, 40, 50, 60, 61, 70, 80, 90)
    write_waves(tmp_path / "1.v1", list(zip(samples, "N)(t)N()(p", strict=True)))
    waves, n_stray, annotated = read_waves(tmp_path / "1.v1")
    assert waves == [("QRS", -1, 10, 20), ("T", 30, 40, 50), ("QRS", -1, 60, -1), ("P", 80, 90, -1)]
    assert n_stray == 2 and annotated == (10, 91)


def test_wave_without_a_limit_is_listed_and_not_in_the_mask(home):
    write_waves(home / "ludb" / "data" / "2.ii", [*BEAT[:3], *BEAT[4:], (3000, "("), (3010, "p"), (3020, ")")])
    ludb = fetch(home)
    assert ludb.n_unpaired == {"P": 0, "QRS": 1, "T": 0, "limits": 0}
    mask = ludb.masks[1, 1]
    assert not (mask == 2).any() and (mask == 1).sum() == 41 + 21 and (mask == 3).sum() == 101
    lone = ludb.intervals[ludb.intervals["onset"] == -1]
    assert lone.tolist() == [(1, "2", "II", "QRS", -1, 200, 230)]
    assert ludb.annotated[1, 1].tolist() == [100, 3021]


@pytest.mark.parametrize("place", ["ludb", "ludb/1.0.1", ""])
@pytest.mark.parametrize("inside", ["data", ""])
def test_both_layouts_are_found(tmp_path, place, inside):
    write_database(tmp_path / place, inside)
    before = listing(tmp_path)
    assert fetch(tmp_path).masks.any(axis=(1, 2)).all()
    assert fetch(tmp_path, records=[3, "1"], classes=["SR"]).target.tolist() == [[1], [0]]
    assert listing(tmp_path) == before


def test_labels_of_a_group_and_of_ones_own(home):
    with pytest.warns(UserWarning, match="LUDB: these records have no RBBB, ST$"):
        ludb = fetch(home, classes="ribeiro")
    assert ludb.target_names == ["1dAVb", "RBBB", "LBBB", "SB", "AF", "ST"]
    assert ludb.target.tolist() == [[0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0]]
    own = fetch(home, classes={"large": ["Left atrial hypertrophy", "LBBB"], "slow": "SB"})
    assert own.target.tolist() == [[1, 1], [1, 0], [0, 0]]
    with pytest.warns(UserWarning, match="no ST, SA, irregular SR, AFL, WAP"):
        assert fetch(home, classes="rhythm").target.sum(axis=1).tolist() == [1, 2, 1]


def test_x_and_y_alone(home):
    X, y = fetch(home, return_X_y=True)
    np.testing.assert_array_equal(X, fetch(home).data)
    np.testing.assert_array_equal(y, fetch(home).target)


def test_missing_and_damaged_files_cost_no_other_record(home):
    (home / "ludb" / "data" / "2.v3").unlink()
    assert fetch(home, classes=["SR"]).record.tolist() == ["1", "3"]
    settings = {"records": [1, 2, 3], "classes": ["SR"], "download_if_missing": False}
    with pytest.raises(FileNotFoundError, match=r"data/2\.v3"):
        fetch(home, **settings)
    write_waves(home / "ludb" / "data" / "2.v3", [(10, "N"), (5000, ")")])
    for marks, reason in (
        ([(10, "N"), (5000, ")")], r"2\.v3: a mark at sample 5000, beyond"),
        ([(10, "V")], r"2\.v3: marks V, expected none but"),
        ([], r"2\.v3: it holds no marks"),
    ):
        write_waves(home / "ludb" / "data" / "2.v3", marks)
        with pytest.raises(ValueError, match=reason):
            fetch(home)
        with pytest.warns(UserWarning, match="record 2 left out"):
            ludb = fetch(home, classes=["SR"], on_error="warn")
        assert ludb.record.tolist() == ["1", "3"] and len(ludb.data) == len(ludb.masks) == len(ludb.annotated) == 2
        assert set(ludb.intervals["record"].tolist()) == {"1", "3"} and (ludb.masks[1, 8] == 2).sum() == 51


def test_what_is_missing_is_downloaded(home, tmp_path, serve):
    files = {path.relative_to(home / "ludb").as_posix(): path.read_bytes() for path in listing(home / "ludb")}
    server = serve(files, prefix="/ludb/1.0.1/")
    ludb = fetch(tmp_path / "new", records=[3], classes=["SR"])
    np.testing.assert_array_equal(ludb.masks, fetch(home, records=[3], classes=["SR"]).masks)
    got = {path for path in server.paths() if path != "SHA256SUMS.txt"}
    assert got == {"ludb.csv"} | {path for path in files if path.startswith("data/3.")}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["201", "F", "51", "", "", ""], r"ludb\.csv, line 2, column ID: '201', expected a number from 1 to 200"),
        (["3", "F", "51", "", "", ""], "column ID: '3'"),
        (["1", "female", "51", "", "", ""], "column Sex: 'female'"),
        (["1", "F", "old", "", "", ""], "column Age: 'old'"),
    ],
)
def test_table_that_cannot_be_right_is_named_with_line_and_column(home, row, message):
    write_table(home / "ludb", [row, *ROWS[1:]])
    with pytest.raises(ValueError, match=message):
        fetch(home, on_error="warn")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"records": [201]}, "out of 1 to 200.*unknown: '201'"),
        ({"records": [4]}, "has no line for the records 4"),
        ({"classes": "rhythms"}, "classes must be 'rhythm', 'ribeiro', labels out of SR, SB"),
        ({"classes": {"a": "No such thing"}}, "unknown: 'No such thing'"),
        ({"on_error": "skip"}, "on_error must be"),
    ],
)
def test_wrong_settings_are_named(home, settings, message):
    with pytest.raises(ValueError, match=message):
        fetch(home, **settings)


@pytest.fixture(scope="module")
def real(real_data):
    """Return the whole database; the counts below are of notes that came with it, which were made by other code."""
    need(real_data, "ludb")
    return fetch_ludb(data_home=real_data, download_if_missing=False, verbose=0)


def test_real_rhythms_and_diagnoses(real, real_data):
    assert real.data.shape == (200, 12, 5000) and np.isfinite(real.data).all()
    counts = dict(zip(real.target_names, real.target.sum(axis=0).tolist(), strict=True))
    assert counts == {
        "SR": 143, "SB": 25, "ST": 4, "SA": 8, "irregular SR": 2, "AF": 15, "AFL": 3, "WAP": 3, "aberrant conduction": 1
    }  # fmt: skip
    assert (real.target.sum(axis=1) == 2).sum() == 4 and (real.target.sum(axis=1) == 1).sum() == 196
    fibrillation = real.record[real.target[:, real.target_names.index("AF")] == 1]
    assert fibrillation.tolist() == "8 38 44 51 83 88 93 95 96 101 109 110 112 129 173".split()
    said = Counter(diagnosis for diagnoses in real.diagnoses for diagnosis in diagnoses)
    assert said["Left ventricular hypertrophy"] == 108 and said["Incomplete right bundle branch block"] == 29
    assert said["Complete left bundle branch block"] == said["Complete right bundle branch block"] == 4
    assert said["I degree av block"] == 10
    blocks = fetch_ludb(data_home=real_data, records=[24, 10, 44], classes=("LBBB", "RBBB"), verbose=0)
    assert blocks.target.tolist() == [[1, 0], [0, 1], [1, 0]]


def test_real_waves(real):
    assert Counter(real.intervals["wave"].tolist()) == {"QRS": 21_965, "T": 19_661, "P": 16_797}
    missing = {
        wave: [int((real.intervals[limit][real.intervals["wave"] == wave] < 0).sum()) for limit in ("onset", "offset")]
        for wave in ("P", "QRS", "T")
    }
    assert missing == {"P": [1, 1], "QRS": [122, 19], "T": [8, 9]}
    used = sum(int((real.intervals[limit] >= 0).sum()) for limit in ("onset", "offset"))
    assert used + real.n_unpaired["limits"] == 58_321 + 58_423
    whole = real.intervals[(real.intervals["onset"] >= 0) & (real.intervals["offset"] >= 0)]
    assert (whole["onset"] <= whole["peak"]).all() and (whole["peak"] <= whole["offset"]).all()
    without = np.setdiff1d(real.record, real.intervals["record"][real.intervals["wave"] == "P"])
    others = {"34", "45", "74", "90", "104", "111"}
    rhythm = {name: set(real.record[real.target[:, real.target_names.index(name)] == 1]) for name in ("AF", "AFL")}
    assert set(without) == others | rhythm["AF"] | rhythm["AFL"] and len(without) == 24


def test_real_waves_lie_in_the_annotated_part(real):
    time = np.arange(5000)
    first, last = real.annotated[..., :1], real.annotated[..., 1:]
    assert not real.masks[(time < first) | (time >= last)].any()
    assert 0.5 < float((last - first).mean()) / 5000 < 1
