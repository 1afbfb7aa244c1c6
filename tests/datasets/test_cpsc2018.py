"""CPSC 2018 and other Challenge folders: diagnoses as codes or words, unequal lengths, seven folders."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest

from skecg.datasets import fetch_cpsc2018, load_challenge
from skecg.datasets._challenge import parse_comments, place
from tests.datasets.twelve import LEADS, listing, make_digital, need, to_mv, write_signal

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")  # pandas 3 deprecates what wfdb calls
# name, samples, comments
RECORDS = [
    ("A0001", 5000, ("Age: 74", "Sex: Male", "Dx: 59118001")),
    ("A0002", 3001, (" Age: NaN", " Sex: Unknown", " Dx: 426783006")),
    ("A0003", 6001, ("Age: 50", "Sex: Female", "Dx: AF,RBBB", "Rx: Unknown")),
    ("A0004", 5000, ("Age: 51", "Sex: Female", "Dx: 164884008, 284470004")),
]
NINE = ["N", "AF", "1dAVb", "LBBB", "RBBB", "PAC", "PVC", "STD", "STE"]


def write_database(folder, records=RECORDS, place=""):
    """Write records; return their samples."""
    samples = {}
    for i, (name, n, comments) in enumerate(records):
        samples[name] = make_digital(n, i)
        write_signal(folder / place / name, samples[name], fs=500, kind="mat", comments=comments)
    return samples


@pytest.fixture
def home(tmp_path):
    write_database(tmp_path / "home" / "cpsc2018")
    return tmp_path / "home"


def fetch(home, **settings):
    settings = {"records": "local", "classes": ("N", "AF", "RBBB", "PVC"), "verbose": 0} | settings
    return fetch_cpsc2018(data_home=home, **settings)


def test_rows_labels_and_what_the_headers_say(home, tmp_path):
    samples = write_database(tmp_path / "again")
    cpsc2018 = fetch(home)
    assert cpsc2018.data.shape == (4, 12, 5000) and cpsc2018.data.dtype == np.float32
    assert cpsc2018.record.tolist() == cpsc2018.groups.tolist() == ["A0001", "A0002", "A0003", "A0004"]
    assert cpsc2018.target.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert cpsc2018.target_names == ["N", "AF", "RBBB", "PVC"]
    assert cpsc2018.diagnoses.tolist() == [
        ("59118001",),
        ("426783006",),
        ("164889003", "59118001"),
        ("164884008", "284470004"),
    ]
    np.testing.assert_array_equal(cpsc2018.age, [74, np.nan, 50, 51])
    assert cpsc2018.sex.tolist() == ["male", "unknown", "female", "female"]
    assert cpsc2018.n_timesteps.tolist() == [5000, 3001, 6001, 5000]
    assert cpsc2018.n_valid.tolist() == [5000, 3001, 5000, 5000]
    assert cpsc2018.start.tolist() == cpsc2018.sample.tolist() == [0, 0, 500, 0] and not cpsc2018.offset.any()
    np.testing.assert_array_equal(cpsc2018.data[0], to_mv(samples["A0001"]))
    np.testing.assert_array_equal(cpsc2018.data[1, :, :3001], to_mv(samples["A0002"]))
    assert not cpsc2018.data[1, :, 3001:].any()
    np.testing.assert_array_equal(cpsc2018.data[2], to_mv(samples["A0003"][500:5500]))
    assert cpsc2018.fs == 500.0 and cpsc2018.lead_names == list(LEADS) and cpsc2018.skipped == {}
    assert "They are not told" in cpsc2018.DESCR


@pytest.mark.parametrize(
    ("crop", "pad", "expected"),
    [
        ("start", "right", [(0, 0, 50), (0, 0, 100)]),
        ("centre", "both", [(0, 25, 50), (25, 0, 100)]),
        ("end", "left", [(0, 50, 50), (51, 0, 100)]),
    ],
)
def test_place_of_short_and_long_records(crop, pad, expected):
    assert [place(length, 100, crop, pad) for length in (50, 151)] == expected


@pytest.mark.parametrize("crop", ["start", "centre", "end"])
@pytest.mark.parametrize("pad", ["left", "right", "both"])
def test_rows_hold_what_start_offset_and_n_valid_say(home, tmp_path, crop, pad):
    samples = write_database(tmp_path / "again")
    cpsc2018 = fetch(home, crop=crop, pad=pad, duration=9.0)
    for row, digital in enumerate(samples.values()):
        start, offset, n = (int(cpsc2018[name][row]) for name in ("start", "offset", "n_valid"))
        np.testing.assert_array_equal(
            cpsc2018.data[row, :, offset : offset + n], to_mv(digital)[:, start : start + n]
        )
        assert n == min(len(digital), 4500)
        assert not cpsc2018.data[row, :, :offset].any() and not cpsc2018.data[row, :, offset + n :].any()


def test_whole_records(home, tmp_path):
    samples = write_database(tmp_path / "again")
    X, y = fetch(home, duration=None, return_X_y=True)
    assert isinstance(X, list) and y.shape == (4, 4)
    for found, digital in zip(X, samples.values(), strict=True):
        np.testing.assert_array_equal(found, to_mv(digital))


def test_labels_of_ones_own(home):
    classes = {"ectopic": ["PVC", "PAC"], "block": "59118001", "normal": "N"}
    cpsc2018 = fetch(home, classes=classes)
    assert cpsc2018.target.tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    with pytest.warns(UserWarning, match="CPSC 2018: these records have no 1dAVb, LBBB, STD, STE"):
        assert fetch_cpsc2018(data_home=home, records="local", verbose=0).target_names == NINE


@pytest.mark.parametrize(
    "layout",
    [
        "",
        "cpsc2018/g1",
        "cpsc2018/training/cpsc_2018/g3",
        "challenge-2020/1.0.2/training/cpsc_2018/g1",
        "physionet.org/files/challenge-2020/1.0.2/training/cpsc_2018/g1",
    ],
)
def test_records_are_found_flat_and_in_folders(tmp_path, layout):
    write_database(tmp_path, place=layout)
    before = listing(tmp_path)
    assert len(fetch(tmp_path).data) == 4
    assert fetch(tmp_path, records=["A0003", "A0002"], classes=["N", "AF"]).target.tolist() == [[0, 1], [1, 0]]
    assert listing(tmp_path) == before


def test_folders_come_from_the_list_of_sums(home, tmp_path, serve):
    """The real g1/RECORDS claims A1000, which lies in g2."""
    below = "training/cpsc_2018/"
    names = {"A0001": "g1", "A1000": "g2", "A0003": "g1"}
    for i, (name, folder) in enumerate(names.items()):
        comments = ("Age: 1", "Sex: Male", "Dx: AF")
        write_signal(tmp_path / "served" / folder / name, make_digital(5000, i), fs=500, kind="mat", comments=comments)
    files = {
        below + path.relative_to(tmp_path / "served").as_posix(): path.read_bytes()
        for path in listing(tmp_path / "served")
    }
    server = serve(files | {"training/georgia/g1/A0009.hea": b"other"}, prefix="/challenge-2020/1.0.2/")
    wanted = {"records": ["A1000", "A0001"], "classes": ["AF"]}
    cpsc2018 = fetch(tmp_path / "new", **wanted)
    assert cpsc2018.record.tolist() == ["A1000", "A0001"] and cpsc2018.target.tolist() == [[1], [1]]
    got = {path for path in server.paths() if path.startswith("training")}
    assert got == {f"{below}{p}" for p in ("g1/A0001.hea", "g1/A0001.mat", "g2/A1000.hea", "g2/A1000.mat")}
    asked = len(server.requests)
    np.testing.assert_array_equal(fetch(tmp_path / "new", **wanted).data, cpsc2018.data)
    assert len(server.requests) == asked
    mixed = fetch(home, records=["A0002", "A1000"], classes=["N", "AF"])
    assert mixed.target.tolist() == [[1, 0], [0, 1]]


def test_records_that_cannot_be_had_are_named_or_left_out(home):
    settings = {"records": ["A0001", "A0005"], "classes": ["RBBB"], "download_if_missing": False}
    with pytest.raises(FileNotFoundError, match=r"A0005\.hea.*SKECG_DATA"):
        fetch(home, **settings)
    with pytest.warns(UserWarning, match="1 records left out"):
        cpsc2018 = fetch(home, **settings, on_error="warn")
    assert cpsc2018.record.tolist() == ["A0001"] and list(cpsc2018.skipped) == ["A0005"]
    with pytest.raises(FileNotFoundError, match=r"no record of cpsc2018 lies in .*nowhere.*SKECG_DATA"):
        fetch(home / "nowhere")
    with pytest.raises(FileNotFoundError):
        fetch(home / "nowhere", records=["A0001"], download_if_missing=False, on_error="warn")


def test_record_without_its_signal_is_not_local(home):
    (home / "cpsc2018" / "A0002.mat").unlink()
    assert fetch(home, classes=["RBBB"]).record.tolist() == ["A0001", "A0003", "A0004"]


@pytest.mark.parametrize(
    ("comments", "reason"),
    [
        (("Age: 1",), "has no line '#Dx:'"),
        (("Dx: atrial fibrillation",), "'#Dx:' has 'atrial fibrillation', expected SNOMED"),
        (("Dx: AF", "Age: old"), "'#Age:' is 'old'"),
        (("Dx: AF", "Sex: 3"), "'#Sex:' is '3'"),
    ],
)
def test_bad_record_is_named_and_costs_no_other(home, comments, reason):
    write_signal(home / "cpsc2018" / "A0002", make_digital(5000), fs=500, kind="mat", comments=comments)
    with pytest.raises(ValueError, match=f"record A0002: .*{reason}"):
        fetch(home)
    with pytest.warns(UserWarning, match="record A0002 left out"):
        cpsc2018 = fetch(home, classes=["RBBB"], on_error="warn")
    assert cpsc2018.record.tolist() == ["A0001", "A0003", "A0004"] and len(cpsc2018.data) == 3
    assert cpsc2018.target.tolist() == [[1], [1], [0]]


@pytest.mark.parametrize("header", ["Dx: 59118001,164889003", " Dx:59118001, 164889003 ", "dx : RBBB,AF"])
def test_diagnoses_in_all_spellings(header):
    assert parse_comments([header], "r").diagnoses == ("59118001", "164889003")


def test_unknown_diagnosis_is_none():
    assert parse_comments(["Dx: Unknown"], "r").diagnoses == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"duration": 0}, "duration must be"),
        ({"duration": 0.0005}, "duration must be at least one sample, 0.002 s at 500 Hz"),
        ({"crop": "center"}, "crop must be one of 'start', 'centre', 'end'"),
        ({"pad": "zero"}, "pad must be one of"),
        ({"classes": ["XYZ"]}, "unknown: 'XYZ'"),
        ({"classes": "N"}, "classes must be labels out of N, AF"),
        ({"classes": ["SR"]}, "unknown: 'SR'"),
        ({"classes": [164889003]}, "unknown: 164889003"),
        ({"classes": {"AF": 164889003}}, "unknown: 164889003"),
        ({"classes": ["N", "N"]}, "twice"),
        ({"records": ["A7000"]}, "out of A0001 to A6877.*unknown: 'A7000'"),
        ({"records": ["../A0001"]}, "unknown"),
        ({"records": 1.5}, "records must be different names"),
        ({"on_error": "skip"}, "on_error must be"),
    ],
)
def test_wrong_settings_are_named(home, settings, message):
    with pytest.raises(ValueError, match=message):
        fetch(home, **settings)


def test_any_folder_with_every_diagnosis_that_occurs(tmp_path):
    georgia = [("E1", 5000, ("Dx: 164889003,164934002",)), ("E2", 4000, ("Dx: 426783006,17338001",))]
    write_database(tmp_path / "georgia", georgia, place="g1")
    challenge = load_challenge(tmp_path / "georgia", verbose=0)
    assert challenge.target_names == ["SR", "AF", "PVC", "164934002"]
    assert challenge.target.tolist() == [[0, 1, 0, 1], [1, 0, 1, 0]]
    assert challenge.record.tolist() == ["E1", "E2"] and challenge.n_valid.tolist() == [5000, 4000]
    assert challenge.sex.tolist() == ["unknown"] * 2 and np.isnan(challenge.age).all()
    X, y = load_challenge(tmp_path / "georgia", classes=["164934002"], records=["E1"], return_X_y=True, verbose=0)
    assert X.shape == (1, 12, 5000) and y.tolist() == [[1]]


def test_record_name_with_the_extension_of_its_signal(tmp_path):
    """As E07521 of Georgia has it, which wfdb refuses."""
    digital = make_digital(5000)
    write_signal(tmp_path / "E1", digital, fs=500, kind="mat", comments=["Dx: AF"], record="E1.mat")
    challenge = load_challenge(tmp_path, verbose=0)
    np.testing.assert_array_equal(challenge.data[0], to_mv(digital))


def test_folder_of_unequal_rates_missing_or_doubled_records(tmp_path):
    for folder, name, fs in (("a", "E1", 500), ("b", "E2", 257)):
        write_signal(tmp_path / folder / name, make_digital(3000), fs=fs, kind="mat", comments=["Dx: AF"])
    with pytest.raises(ValueError, match=r"E2\.hea: sampled at 257 Hz, expected 500"):
        load_challenge(tmp_path, verbose=0)
    with pytest.warns(UserWarning, match="record E2 left out"):
        assert load_challenge(tmp_path, on_error="warn", verbose=0).record.tolist() == ["E1"]
    write_signal(tmp_path / "b" / "E1", make_digital(3000), fs=500, kind="mat", comments=["Dx: AF"])
    with pytest.raises(ValueError, match=r"record E1 lies in .* twice"):
        load_challenge(tmp_path, verbose=0)
    with pytest.raises(FileNotFoundError, match="no records"):
        load_challenge(tmp_path / "nowhere")
    with pytest.raises(TypeError, match="folder must be the path"):
        load_challenge(3)


def test_nothing_but_bad_records_is_an_error(tmp_path):
    write_signal(tmp_path / "E1", make_digital(3000), fs=500, kind="mat")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"no record of .* could be read: E1: record E1: its header has no line"):
            load_challenge(tmp_path, on_error="warn", verbose=0)


def test_real_records(real_data):
    """The counts are those of the notes that came with the records, which were made by other code."""
    folder = need(real_data, "cpsc2018")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    cpsc2018 = fetch_cpsc2018(data_home=real_data, records="local", verbose=0)
    assert cpsc2018.data.shape == (154, 12, 5000) and np.isfinite(cpsc2018.data).all()
    counts = dict(zip(cpsc2018.target_names, cpsc2018.target.sum(axis=0).tolist(), strict=True))
    assert counts == {
        "N": 20, "AF": 26, "1dAVb": 7, "LBBB": 9, "RBBB": 33, "PAC": 15, "PVC": 18, "STD": 19, "STE": 13
    }  # fmt: skip
    assert cpsc2018.target.any(axis=1).all()
    both = cpsc2018.record[cpsc2018.target[:, [NINE.index("AF"), NINE.index("LBBB")]].all(axis=1)]
    assert both.tolist() == ["A1041"]
    assert (cpsc2018.n_timesteps.min(), cpsc2018.n_timesteps.max()) == (5000, 30000)
    whole = fetch_cpsc2018(data_home=real_data, records="local", duration=None, verbose=0)
    assert [len(x) for x in whole.data] == [12] * 154
    assert [x.shape[1] for x in whole.data] == cpsc2018.n_timesteps.tolist()
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_real_record_is_what_scipy_reads(real_data):
    from scipy.io import loadmat

    folder = need(real_data, "cpsc2018")
    cpsc2018 = fetch_cpsc2018(data_home=real_data, records=["A0001"], duration=None, classes=["RBBB"], verbose=0)
    expected = loadmat(str(folder / "A0001.mat"))["val"] / 1000
    np.testing.assert_array_equal(cpsc2018.data[0], expected.astype(np.float32))


def test_real_records_of_other_databases(real_data):
    georgia = need(real_data, "georgia")
    found = load_challenge(georgia, verbose=0)
    assert found.record.tolist() == ["E00005", "E00007", "E07521", "E09657"] and found.data.shape == (4, 12, 5000)
    counts = dict(zip(found.target_names, found.target.sum(axis=0).tolist(), strict=True))
    assert counts["AF"] == 4 and counts["AFL"] == 1
    extra = load_challenge(need(real_data, "cpsc2018_extra"), classes=("LBBB", "AF", "1dAVb", "AFL", "SR", "RBBB"))
    np.testing.assert_array_equal(extra.target, np.eye(6))
    assert Counter(extra.n_timesteps.tolist()) == {5000: 5, 7500: 1}
