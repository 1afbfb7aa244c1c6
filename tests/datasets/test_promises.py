"""What the fetchers promise, checked on real records from the published counts and from wfdb, not from the code."""

from __future__ import annotations

import socket
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import wfdb

from skecg.datasets import (
    MissingFileError,
    concatenate_windows,
    fetch_cpsc2018,
    fetch_ltafdb,
    fetch_ltdb,
    fetch_ludb,
    fetch_mitdb,
    fetch_physionet,
    fetch_ptbxl,
    fetch_svdb,
    fetch_vfdb,
    load_challenge,
    paper_counts,
    read_record,
)
from tests.datasets.strips import unpack_ltafdb
from tests.datasets.twelve import LEADS, make_digital, need, to_mv, write_signal

LOCAL = {"download_if_missing": False, "verbose": 0}

# de Chazal et al. 2004: the records of both halves, and their table of beats.
DS1 = "101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230".split()
DS2 = "100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234".split()
DE_CHAZAL = {
    "DS1": {"N": 45866, "SVEB": 944, "VEB": 3788, "F": 415, "Q": 8},
    "DS2": {"N": 44259, "SVEB": 1837, "VEB": 3221, "F": 388, "Q": 7},
}
EIGHT = ("N", "PVC", "PAC", "AFIB", "SVTA", "SBR", "LBBB", "RBBB")

# Every record of a database here, from the page that lies beside the records.
LUDB_AF = "8 38 44 51 83 88 93 95 96 101 109 110 112 129 173".split()
LUDB_NO_P = {*LUDB_AF, "35", "52", "103", "34", "45", "74", "90", "104", "111"}
CPSC_AF = (
    "A0003 A0004 A0007 A0009 A0017 A0019 A0023 A0026 A0043 A0061 A0064 A0065 A0071 A0079 A0086 A0109 A0112 A0117 "
    "A0121 A0122 A0126 A0145 A0150 A0689 A1041 A2712"
).split()
CPSC_LBBB = "A0011 A0018 A0044 A0057 A0074 A0081 A0082 A0131 A1041".split()


def stamp(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return size, time and mode of all that lies below a folder."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        s = path.stat()
        found[path.relative_to(folder).as_posix()] = (s.st_size, s.st_mtime_ns, s.st_mode)
    return found


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch):
    """Let nothing in this file open a connection."""

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def ptbxl(real_data):
    """Return the 500 records of PTB-XL at 100 Hz."""
    need(real_data, "ptbxl")
    return fetch_ptbxl(records="local", data_home=real_data, classes=("AFIB", "AFLT", "CRBBB", "NORM"), **LOCAL)


@pytest.fixture(scope="module")
def ludb(real_data):
    """Return all of LUDB."""
    need(real_data, "ludb")
    return fetch_ludb(data_home=real_data, **LOCAL)


@pytest.fixture(scope="module")
def cpsc2018(real_data):
    """Return the records of CPSC 2018 that are there, whole."""
    need(real_data, "cpsc2018")
    return fetch_cpsc2018(records="local", data_home=real_data, duration=None, **LOCAL)


CALLS = {
    "mitdb": (fetch_mitdb, {"records": ["100", "114", "201", "202"], "classes": ("N", "AFIB")}),
    "mitdb aami": (fetch_mitdb, {"records": ["100", "207"], "classes": "aami"}),
    "mitdb labels": (fetch_mitdb, {"records": "local", "signal": False}),
    "ltdb labels": (fetch_ltdb, {"records": "local", "signal": False}),
    "ltafdb labels": (fetch_ltafdb, {"records": ["203"], "signal": False}),
    "vfdb": (fetch_vfdb, {"records": ["426"]}),
    "vfdb labels": (fetch_vfdb, {"records": "local", "signal": False}),
    "ptbxl": (fetch_ptbxl, {"records": [1, 17, 456, 457]}),
    "ptbxl 500 Hz": (fetch_ptbxl, {"records": "local", "sampling_rate": 500}),
    "ludb": (fetch_ludb, {"records": [1, 8, 200]}),
    "cpsc2018": (fetch_cpsc2018, {"records": ["A0001", "A0002", "A0011", "A1041"]}),
}


@pytest.mark.parametrize("name", CALLS)
def test_one_manner_for_every_database(name, real_data):
    fetch, settings = CALLS[name]
    need(real_data, name.split()[0])
    before = stamp(real_data / name.split()[0]), sorted(path.name for path in real_data.iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd about a database is another test's matter
        bunch = fetch(data_home=real_data, **settings, **LOCAL)
        if settings.get("signal", True):
            X, y = fetch(data_home=real_data, return_X_y=True, verbose=0, **settings)  # might download, and need not
        else:
            with pytest.raises(ValueError, match="return_X_y"):  # there is no X
                fetch(data_home=real_data, return_X_y=True, **settings, **LOCAL)
            fetch(data_home=real_data, verbose=0, **settings)
    assert (stamp(real_data / name.split()[0]), sorted(path.name for path in real_data.iterdir())) == before
    n = len(bunch.target)
    assert n > 0
    assert set(bunch) >= {"data", "target", "groups", "record", "sample", "fs", "lead_names", "DESCR"}
    assert {len(bunch[key]) for key in ("target", "groups", "record", "sample")} == {n}
    assert isinstance(bunch.fs, float) and bunch.fs in {100, 128, 250, 360, 500}
    assert isinstance(bunch.DESCR, str) and len(bunch.DESCR) > 300
    assert bunch.groups.dtype.kind == bunch.record.dtype.kind == "U" and bunch.sample.dtype == np.int64
    if settings.get("signal", True):
        np.testing.assert_array_equal(y, bunch.target)
        assert bunch.data.dtype == np.float32 and bunch.data.ndim == 3 and len(bunch.data) == n
        assert bunch.data.shape[1] == len(bunch.lead_names)
        assert 0.05 < np.abs(bunch.data).max() < 40  # mV
        np.testing.assert_array_equal(X, bunch.data)
    else:
        assert bunch.data is None


def test_every_record_of_mitdb_has_its_annotations(real_data):
    symbols, notes = Counter(), Counter()
    for header in sorted((real_data / "mitdb").glob("*.hea")):
        record = read_record(header.with_suffix(""), annotator="atr")
        assert record.verified and record.data.shape == (2, 650000)
        symbols.update(record.symbol.tolist())
        notes.update(note for note in record.aux_note if note.startswith("("))
    published = (
        'N 75052 L 8075 R 7259 V 7130 / 7028 A 2546 + 1291 f 982 F 803 ~ 616 ! 472 " 437 j 229 x 193 a 150 | 132 '
        "E 106 J 83 Q 33 e 16 [ 6 ] 6 S 2"
    ).split()
    assert symbols == dict(zip(published[::2], map(int, published[1::2]), strict=True))
    published = (
        "(N 530 (B 221 (AFIB 107 (PREX 103 (T 83 (VT 61 (P 60 (AFL 45 (NOD 36 (SVTA 26 (VFL 6 (BII 5 (IVR 4 (AB 3 "
        "(SBR 1"
    ).split()
    assert notes == dict(zip(published[::2], map(int, published[1::2]), strict=True))


def test_mitdb_counts_of_the_papers_rules(real_data):
    beats = fetch_mitdb(data_home=real_data, signal=False, **LOCAL)
    assert Counter(beats.target.tolist()) == {"N": 74965, "PVC": 7126, "PAC": 2545, "LBBB": 8066, "RBBB": 7251}
    assert beats.n_excluded["edge"] == (75052 + 7130 + 2546 + 8075 + 7259) - (74965 + 7126 + 2545 + 8066 + 7251)
    inside = fetch_mitdb(data_home=real_data, signal=False, edge="annotations", **LOCAL)
    assert Counter(inside.target.tolist()) == {"N": 74941, "PVC": 7126, "PAC": 2541, "LBBB": 8064, "RBBB": 7249}
    pure = fetch_mitdb(data_home=real_data, signal=False, pure=True, **LOCAL)
    assert sum(Counter(pure.target.tolist()).values()) < len(beats.target)
    for edge in ("signal", "annotations"):
        settings = {"classes": ("AFIB", "SVTA"), "rhythm": "marks", "edge": edge, "signal": False}
        marks = fetch_mitdb(data_home=real_data, **settings, **LOCAL)
        assert Counter(marks.target.tolist()) == {"AFIB": 102, "SVTA": 26}


def test_mitdb_windows_are_those_of_wfdb(real_data):
    bunch = fetch_mitdb(data_home=real_data, records=["100", "114"], lead="MLII", classes=("N", "PAC"), **LOCAL)
    assert set(bunch.lead.tolist()) == {"MLII"}
    for name in ("100", "114"):
        signal, fields = wfdb.rdsamp(str(real_data / "mitdb" / name))
        lead = signal[:, fields["sig_name"].index("MLII")]
        mine = bunch.record == name
        marks = wfdb.rdann(str(real_data / "mitdb" / name), "atr")
        symbols = dict(zip(marks.sample.tolist(), marks.symbol, strict=True))
        assert {symbols[s] for s in bunch.sample[mine].tolist()} == {"N", "A"}
        np.testing.assert_array_equal(bunch.sample[mine] - bunch.start[mine], 360)
        expected = np.stack([lead[s - 360 : s + 360] for s in bunch.sample[mine]])
        np.testing.assert_allclose(bunch.data[mine, 0], expected, atol=1e-6)


@pytest.mark.parametrize("split", ["patients", "literal"])
def test_de_chazals_halves(split, real_data):
    settings = {"classes": "aami", "window": 0.02, "signal": False, "split": split, "data_home": real_data}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bunch = fetch_mitdb(**settings, **LOCAL)
    assert set(bunch.groups[np.isin(bunch.record, ["201", "202"])].tolist()) == {"201"}
    assert len(np.unique(bunch.record)) == 44 and len(np.unique(bunch.groups)) == 43
    shared = [str(w.message) for w in caught if "201" in str(w.message)]
    halves = {half: set(bunch.record[bunch.split == half].tolist()) for half in ("DS1", "DS2")}
    counts = {half: Counter(bunch.target[bunch.split == half].tolist()) for half in halves}
    if split == "literal":
        assert len(shared) == 1
        assert halves == {"DS1": set(DS1), "DS2": set(DS2)}
        assert counts == DE_CHAZAL
    else:
        assert not shared
        assert halves == {"DS1": {*DS1, "202"}, "DS2": set(DS2) - {"202"}}
        patients = [set(bunch.groups[bunch.split == half].tolist()) for half in halves]
        assert not patients[0] & patients[1]
        assert counts["DS2"]["SVEB"] == 1837 - 55 and counts["DS2"]["VEB"] == 3221 - 19
        whole = {label: DE_CHAZAL["DS1"][label] + DE_CHAZAL["DS2"][label] for label in DE_CHAZAL["DS1"]}
        assert counts["DS1"] + counts["DS2"] == whole


def test_the_eight_classes_without_the_long_term_databases(real_data):
    need(real_data, "vfdb")
    draw = {"max_per_class": 8, "random_state": 0, "data_home": real_data}
    mitdb = fetch_mitdb(classes=EIGHT, **draw, **LOCAL)
    assert Counter(mitdb.target.tolist()) == dict.fromkeys(EIGHT, 8)
    again = fetch_mitdb(classes=EIGHT, **draw, **LOCAL)
    np.testing.assert_array_equal(mitdb.data, again.data)
    vfdb = fetch_vfdb(records=["426"], classes=("SVTA",), window=2.88, **draw, **LOCAL)  # 720 samples too
    vfdb.fs = 360.0
    both = concatenate_windows({"mitdb": mitdb, "vfdb": vfdb})
    assert len(both.data) == len(both.target) == len(both.groups) == len(mitdb.target) + len(vfdb.target)
    assert set(both.groups[both.database == "vfdb"].tolist()) == {"vfdb/426"}
    assert set(both.groups[both.database == "mitdb"].tolist()) == {f"mitdb/{name}" for name in mitdb.groups}


def test_vfdb_has_its_marks_and_names_the_missing_signal(real_data):
    folder, notes = need(real_data, "vfdb"), Counter()
    for header in sorted(folder.glob("*.hea")):
        notes.update(read_record(header.with_suffix(""), annotator="atr", signal=False).aux_note.tolist())
    assert sum(notes.values()) == 592 and notes["(N"] == 216 and notes["(VFL"] == 98 and notes["(VFIB"] == 4
    classes = ("NSR", "VF", "BIGEMINY", "1dAVb")
    settings = {"records": "local", "classes": classes, "rhythm": "marks", "window": 0.01, "signal": False}
    marks = Counter(fetch_vfdb(data_home=real_data, **settings, **LOCAL).target.tolist())
    assert marks["NSR"] <= 218 and marks["VF"] == 13 and marks["1dAVb"] == 22 and marks["BIGEMINY"] == 12
    with pytest.raises(OSError, match=r"418\.dat"):
        fetch_vfdb(data_home=real_data, records=["418", "426"], **LOCAL)
    with pytest.warns(UserWarning, match="418"):
        bunch = fetch_vfdb(data_home=real_data, records=["418", "426"], on_error="warn", **LOCAL)
    assert set(bunch.skipped) == {"418"} and set(bunch.record.tolist()) == {"426"}


def test_long_term_counts_to_the_digit(real_data, tmp_path):
    need(real_data, "ltdb")
    rule = {"pure": True, "edge": "annotations", "signal": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ltdb = fetch_ltdb(data_home=real_data, **rule, **LOCAL)
    assert Counter(ltdb.target.tolist()) == {"N": 517402, "PVC": 5137}
    by_record = Counter(ltdb.record[ltdb.target == "PVC"].tolist())
    assert by_record["14184"] == 3504 and by_record["14149"] == 4
    need(real_data, "ltafdb")
    unpack_ltafdb(real_data, tmp_path)
    before = stamp(tmp_path)
    marks = {"rhythm": "marks", "signal": False, "data_home": tmp_path}
    with pytest.warns(UserWarning, match=r"30\.atr lie beyond the end"):
        ltafdb = fetch_ltafdb(**marks, classes=("PVC", "PAC", "SBR", "SVTA", "AFIB"), pure=True, **LOCAL)
    found = {"PVC": 1318, "PAC": 14914, "SBR": 11323, "SVTA": 3140, "AFIB": 7216}
    assert Counter(ltafdb.target.tolist()) == found
    with pytest.warns(UserWarning, match=r"30\.atr lie beyond the end"):
        sbr = fetch_ltafdb(**marks, classes=("SBR",), window=720 / 128, edge="annotations", **LOCAL)
    assert len(sbr.target) == 11323  # the second rule: all marks with 360 samples between the annotations' ends
    with pytest.raises(OSError, match=r"203\.dat"):
        fetch_ltafdb(data_home=tmp_path, records=["203"], **LOCAL)
    assert stamp(tmp_path) == before


def test_long_term_signals_that_are_missing_are_named(real_data):
    need(real_data, "ltdb")
    with pytest.raises(MissingFileError, match=r"14046\.dat") as caught:
        fetch_ltdb(data_home=real_data, records=["14046"], **LOCAL)
    assert [Path(file).name for file in caught.value.files] == ["14046.dat"] and "SKECG_DATA" in str(caught.value)


def test_paper_counts_tells_what_is_exact_and_what_is_not(real_data):
    need(real_data, "ltdb")
    counts = {(c.database, c.label): c for c in paper_counts(real_data)}
    for key, published in {("ltdb", "N"): 517402, ("ltdb", "PVC"): 5137, ("mitdb", "AFIB"): 102}.items():
        assert (counts[key].published, counts[key].count, counts[key].outcome) == (published, published, "exact")
    for label, published, annotated in (("LBBB", 6580, 8075), ("RBBB", 5400, 7259)):
        count = counts["mitdb", label]
        assert (count.published, count.annotated) == (published, annotated)
        assert count.outcome.startswith("not reproduced")
    sbr = [count for count in paper_counts(real_data) if (count.database, count.label) == ("ltafdb", "SBR")]
    assert len({count.rule for count in sbr}) == 2 and {count.published for count in sbr} == {11323}
    assert set(counts) >= {("ltafdb", label) for label in ("N", "PVC", "PAC", "AFIB", "SVTA", "SBR")}


def test_ptbxl_labels_folds_and_people(ptbxl, real_data):
    assert ptbxl.data.shape == (500, 12, 1000) and ptbxl.version == "1.0.1" and ptbxl.lead_names == list(LEADS)
    statements = Counter(statement for codes in ptbxl.scp_codes for statement in codes)
    published = (
        "SR 407 NORM 297 NDT 38 IMI 37 LVH 35 ASMI 30 LAFB 29 SARRH 26 ISC_ 26 ABQRS 22 STD_ 22 IRBBB 20 NST_ 16 "
        "PVC 16 AFIB 13 NT_ 13 VCLVH 12 1AVB 10 LOWT 10 QWAVE 10 SBRAD 9 AFLT 8 CRBBB 8 CLBBB 8 AMI 7 ISCAL 7 IVCD 6 "
        "PACE 6 PAC 6 DIG 5 STACH 5 INVT 5"
    ).split()
    expected = dict(zip(published[::2], map(int, published[1::2]), strict=True))
    assert {statement: statements[statement] for statement in expected} == expected
    assert np.bincount(ptbxl.fold, minlength=11)[1:].tolist() == [58, 51, 34, 42, 47, 33, 44, 44, 81, 66]
    assert len(np.unique(ptbxl.groups)) == 466
    assert len(set(zip(ptbxl.groups.tolist(), ptbxl.fold.tolist(), strict=True))) == 466  # none in two folds
    assert Counter(ptbxl.split.tolist()) == {"train": 353, "validation": 81, "test": 66}
    assert np.isnan(ptbxl.age).sum() == 4 and set(ptbxl.sex.tolist()) <= {"male", "female", "unknown"}
    withdrawn = "137 139 140 141 142 143 145 456 458 459 461 462".split()
    assert ptbxl.record[ptbxl.withdrawn].tolist() == withdrawn
    assert sorted(map(sorted, ptbxl.duplicates)) == [["456", "457"], ["459", "460"]]
    fewer = fetch_ptbxl(data_home=real_data, records=[137, 138, 456, 457], withdrawn="drop", **LOCAL)
    assert fewer.record.tolist() == ["138", "457"]


def test_ptbxl_zero_is_not_given_rather_than_absent(ptbxl, real_data):
    af = np.array(["AFIB" in codes for codes in ptbxl.scp_codes])
    given = np.array([codes.get("AFIB", 0) > 0 for codes in ptbxl.scp_codes])
    assert (af.sum(), given.sum()) == (13, 1)
    np.testing.assert_array_equal(ptbxl.target[:, ptbxl.target_names.index("AFIB")], af)
    settings = {"data_home": real_data, "records": ptbxl.record[af].tolist(), "classes": ("AFIB",)}
    assert fetch_ptbxl(**settings, not_given=False, **LOCAL).target.sum() == 1
    assert fetch_ptbxl(**settings, min_likelihood=100, **LOCAL).target.sum() in {12, 13}  # the given one may be lower
    row = ptbxl.record.tolist().index("17")
    assert dict(zip(ptbxl.target_names, ptbxl.target[row].tolist(), strict=True)) == {
        "AFIB": 1,
        "AFLT": 1,
        "CRBBB": 0,
        "NORM": 0,
    }
    superclass = fetch_ptbxl(data_home=real_data, records="local", folds=[9, 10], **LOCAL)
    assert set(superclass.target_names) == {"NORM", "MI", "STTC", "CD", "HYP"} and len(superclass.target) == 81 + 66


def test_ptbxl_both_rates_are_one_recording(ptbxl, real_data):
    fast = fetch_ptbxl(data_home=real_data, records="local", sampling_rate=500, **LOCAL)
    assert fast.record.tolist() == ["1", "17", "172", "180"] and fast.data.shape == (4, 12, 5000)
    for i, name in enumerate(fast.record.tolist()):
        signal, _ = wfdb.rdsamp(str(real_data / "ptbxl" / "records500" / "00000" / f"{int(name):05d}_hr"))
        np.testing.assert_allclose(fast.data[i], signal.T, atol=1e-6)
        slow = ptbxl.data[ptbxl.record.tolist().index(name)]
        smooth = fast.data[i].reshape(12, 1000, 5).mean(axis=2)
        assert all(np.corrcoef(a, b)[0, 1] > 0.8 for a, b in zip(slow, smooth, strict=True))


@pytest.mark.parametrize("layout", ["ptb-xl", "ptbxl/1.0.1", "ptb-xl/1.0.1", "."])
def test_ptbxl_is_found_by_either_name_version_or_flat(layout, real_data, tmp_path):
    home = tmp_path / "home"
    (home / layout).mkdir(parents=True)
    for file in need(real_data, "ptbxl").iterdir():
        (home / layout / file.name).symlink_to(file)
    before = stamp(home)
    bunch = fetch_ptbxl(data_home=home, records=[1, 5], **LOCAL)
    assert bunch.record.tolist() == ["1", "5"] and stamp(home) == before


def test_ludb_waves_are_what_the_files_mark(ludb, real_data):
    assert ludb.data.shape == ludb.masks.shape == (200, 12, 5000) and ludb.lead_names == list(LEADS)
    assert Counter(ludb.intervals["wave"].tolist()) == {"QRS": 21965, "T": 19661, "P": 16797}
    assert len(set(ludb.groups.tolist())) == 200
    rhythms = dict(zip(ludb.target_names, ludb.target.sum(axis=0).tolist(), strict=True))
    assert (rhythms["SR"], rhythms["SB"], rhythms["AF"], rhythms["AFL"], rhythms["ST"]) == (143, 25, 15, 3, 4)
    assert ludb.record[ludb.target[:, ludb.target_names.index("AF")] == 1].tolist() == LUDB_AF
    with_p = set(ludb.intervals["record"][ludb.intervals["wave"] == "P"].tolist())
    assert set(ludb.record.tolist()) - with_p == LUDB_NO_P
    assert (ludb.target.sum(axis=1) == 2).sum() == 4

    code = {"P": 1, "QRS": 2, "T": 3}
    expected = np.zeros_like(ludb.masks)
    for wave in ludb.intervals:
        onset, offset = int(wave["onset"]), int(wave["offset"])
        if onset >= 0 and offset >= 0:
            assert onset <= wave["peak"] <= offset
            lead = wave["lead"] if isinstance(wave["lead"], int | np.integer) else LEADS.index(str(wave["lead"]))
            expected[wave["row"], lead, onset : offset + 1] = code[str(wave["wave"])]
    np.testing.assert_array_equal(ludb.masks, expected)
    kind = {"p": "P", "N": "QRS", "t": "T"}
    for name, lead in (("1", "aVR"), ("38", "V1"), ("104", "II")):
        marks = wfdb.rdann(str(real_data / "ludb" / "data" / name), lead.lower())
        peaks = [(s, kind[m]) for s, m in zip(marks.sample.tolist(), marks.symbol, strict=True) if m in kind]
        mine = (ludb.intervals["record"] == name) & (ludb.intervals["lead"] == lead)
        ours = ludb.intervals[mine]
        assert [(int(w["peak"]), str(w["wave"])) for w in ours] == peaks
        row = ludb.record.tolist().index(name)
        assert ludb.annotated[row, LEADS.index(lead)].tolist() == [marks.sample[0], marks.sample[-1] + 1]


def test_cpsc_labels_in_words_and_in_codes(cpsc2018, real_data):
    assert len(cpsc2018.data) == 154 and cpsc2018.lead_names == list(LEADS)
    counts = dict(zip(cpsc2018.target_names, cpsc2018.target.sum(axis=0).tolist(), strict=True))
    assert counts == {
        "N": 20,
        "AF": 26,
        "1dAVb": 7,
        "LBBB": 9,
        "RBBB": 33,
        "PAC": 15,
        "PVC": 18,
        "STD": 19,
        "STE": 13,
    }
    for label, records in (("AF", CPSC_AF), ("LBBB", CPSC_LBBB)):
        assert cpsc2018.record[cpsc2018.target[:, cpsc2018.target_names.index(label)] == 1].tolist() == records
    spelt = {}
    for name in cpsc2018.record.tolist():
        header = (real_data / "cpsc2018" / f"{name}.hea").read_text()
        spelt[name] = next(line for line in header.splitlines() if "Dx:" in line).split(":")[1].strip()
    words = [name for name, dx in spelt.items() if not dx[0].isdigit()]
    assert len(words) == 139  # both spellings are there, and both were read to codes
    codes = dict(zip(cpsc2018.record.tolist(), cpsc2018.diagnoses, strict=True))
    assert all(code.isdigit() for given in codes.values() for code in given)
    assert set(codes["A1041"]) == {"164889003", "164909002"}
    lengths = [x.shape[1] for x in cpsc2018.data]
    assert lengths == cpsc2018.n_timesteps.tolist() and min(lengths) >= 3000 and len(set(lengths)) > 1


@pytest.mark.parametrize(("crop", "pad"), [("start", "right"), ("centre", "both"), ("end", "left")])
def test_cpsc_rows_of_one_length_say_what_is_ecg(crop, pad, cpsc2018, real_data):
    picked = [int(np.argmin(cpsc2018.n_timesteps)), int(np.argmax(cpsc2018.n_timesteps))]
    settings = {"records": cpsc2018.record[picked].tolist(), "crop": crop, "pad": pad, "duration": 8.0}
    bunch = fetch_cpsc2018(data_home=real_data, **settings, **LOCAL)
    assert bunch.data.shape == (2, 12, 4000)
    for i, k in enumerate(picked):
        whole, a, n, s = cpsc2018.data[k], bunch.offset[i], bunch.n_valid[i], bunch.start[i]
        assert n == min(4000, whole.shape[1])
        np.testing.assert_array_equal(bunch.data[i, :, a : a + n], whole[:, s : s + n])
        rest = np.delete(bunch.data[i], np.arange(a, a + n), axis=1)
        assert not rest.any()
        assert s == {"start": 0, "centre": (whole.shape[1] - n) // 2, "end": whole.shape[1] - n}[crop]
        assert a == {"right": 0, "both": (4000 - n) // 2, "left": 4000 - n}[pad]


def test_challenge_folders_and_their_odd_headers(real_data):
    georgia = load_challenge(need(real_data, "georgia"), classes=("AF", "AFL"), verbose=0)
    assert georgia.record.tolist() == ["E00005", "E00007", "E07521", "E09657"]
    assert georgia.target.tolist() == [[1, 0], [1, 1], [1, 0], [1, 0]]
    with pytest.raises(wfdb.io._header.HeaderSyntaxError):
        wfdb.rdheader(str(real_data / "georgia" / "E07521"))  # what makes this folder odd
    record = read_record(real_data / "georgia" / "E07521")
    assert record.data.shape == (12, 5000) and record.verified
    extra = load_challenge(need(real_data, "cpsc2018_extra"), verbose=0)
    assert extra.record.tolist() == ["Q0033", "Q0048", "Q0050", "Q0096", "Q1804", "Q1805"]
    assert "270492004" in extra.diagnoses[2] and "164889003" in extra.diagnoses[1]


def test_challenge_comment_with_and_without_a_blank(tmp_path):
    for name, comment in (("B1", "Dx: 164889003"), ("B2", " Dx: AF,RBBB"), ("B3", " Dx: 164909002,59118001")):
        comments = ["Age: NaN", "Sex: Unknown", comment]
        write_signal(tmp_path / name, make_digital(900 + 100 * int(name[1])), fs=500, kind="mat", comments=comments)
    bunch = load_challenge(tmp_path, classes=("AF", "RBBB", "LBBB"), duration=None, verbose=0)
    assert bunch.target.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert np.isnan(bunch.age).all() and set(bunch.sex.tolist()) == {"unknown"}
    assert [x.shape for x in bunch.data] == [(12, 1000), (12, 1100), (12, 1200)]
    np.testing.assert_allclose(bunch.data[0], to_mv(make_digital(1000)), atol=1e-6)


@pytest.mark.parametrize("flat", [True, False])
def test_a_database_nobody_named_from_the_disk(flat, write_record, tmp_path):
    folder = tmp_path / "home" / "strangedb" / ("." if flat else "2.1.0")
    digital = {name: write_record(folder, name, fs=200, n=2000, seed=int(name)) for name in ("7", "8")}
    before = stamp(tmp_path / "home")
    result = fetch_physionet("strangedb", "local", data_home=tmp_path / "home", **LOCAL)
    assert result.record.tolist() == ["7", "8"] and result.fs.tolist() == [200.0, 200.0]
    assert list(result.n_timesteps) == [2000, 2000]
    for path, name in zip(result.paths, ("7", "8"), strict=True):
        np.testing.assert_allclose(read_record(path).data, (digital[name].T - 1024) / 200, atol=1e-5)
    assert stamp(tmp_path / "home") == before


@pytest.mark.parametrize("place", ["home/mitdb", "home/mitdb/1.0.0", "home"])
def test_a_made_up_mitdb_in_any_layout_is_taken_and_left(place, write_record, tmp_path):
    write_record(tmp_path / place, "100", beats=((18, "+"), (1000, "N"), (2000, "V")))
    before = stamp(tmp_path / "home")
    bunch = fetch_mitdb(data_home=tmp_path / "home", records="local", classes=("N", "PVC"), verbose=0)
    assert bunch.target.tolist() == ["N", "PVC"] and stamp(tmp_path / "home") == before


@pytest.mark.parametrize("place", ["cpsc2018", "challenge-2020/1.0.2/training/cpsc_2018/g1", "."])
def test_cpsc_in_physionets_folders_or_flat(place, tmp_path):
    folder = tmp_path / "home" / place
    for name, label in (("A0001", "59118001"), ("A0002", "Normal")):
        write_signal(folder / name, make_digital(5000), fs=500, kind="mat", comments=["Age: 74", f"Dx: {label}"])
    before = stamp(tmp_path / "home")
    bunch = fetch_cpsc2018(data_home=tmp_path / "home", records="local", classes=("N", "RBBB"), verbose=0)
    assert bunch.record.tolist() == ["A0001", "A0002"] and bunch.target.tolist() == [[0, 1], [1, 0]]
    assert stamp(tmp_path / "home") == before


def test_nothing_there_says_what_to_do(tmp_path, monkeypatch):
    for fetch, one in ((fetch_mitdb, "100"), (fetch_svdb, "800"), (fetch_ptbxl, 1), (fetch_cpsc2018, "A0001")):
        with pytest.raises(OSError, match="SKECG_DATA"):
            fetch(data_home=tmp_path / "empty", records=[one], **LOCAL)
    monkeypatch.setenv("SKECG_OFFLINE", "1")
    with pytest.raises(OSError, match="SKECG_OFFLINE"):
        fetch_mitdb(data_home=tmp_path / "empty", records=["100"], verbose=0)
    assert not (tmp_path / "empty").exists()
