"""The table of databases against itself, against its pages, and against every annotation of the real records."""

from __future__ import annotations

from collections import Counter

import pytest

from skecg.datasets import _databases as table
from skecg.datasets._annotations import read_annotations
from skecg.datasets._databases import AAMI, BEATS, LTAFDB, LTDB, MITDB, RHYTHMS, SVDB, VFDB, Database
from skecg.datasets._headers import read_header
from skecg.datasets._home import describe

from .strips import read_tables, unpack_ltafdb

STRIPS = [MITDB, LTAFDB, LTDB, VFDB, SVDB]
ALL = [value for value in vars(table).values() if isinstance(value, Database)]

# What the annotation files hold, published with them: symbols, and notes of rhythm marks.
SYMBOLS = {
    "mitdb": {"N": 75052, "L": 8075, "R": 7259, "V": 7130, "/": 7028, "A": 2546, "+": 1291, "f": 982, "F": 803,
              "~": 616, "!": 472, '"': 437, "j": 229, "x": 193, "a": 150, "|": 132, "E": 106, "J": 83, "Q": 33, "e": 16,
              "[": 6, "]": 6, "S": 2},
    "ltdb": {"N": 600232, "V": 64095, "F": 2908, "S": 1350, "~": 1117, "J": 149, "a": 1},
    "ltafdb": {"N": 8710873, "A": 152332, "V": 132679, "+": 53704, '"': 5959, "Q": 89},
    "vfdb": {"+": 592},
}  # fmt: skip
NOTES = {
    "mitdb": {"(N": 530, "(B": 221, "(AFIB": 107, "(PREX": 103, "(T": 83, "(VT": 61, "(P": 60, "(AFL": 45, "(NOD": 36,
              "(SVTA": 26, "(VFL": 6, "(BII": 5, "(IVR": 4, "(AB": 3, "(SBR": 1},
    "ltdb": {},
    "ltafdb": {"(N": 22834, "(SBR": 11326, "(AFIB": 7358, "(AB": 4472, "(SVTA": 3268, "(B": 2696, "(VT": 828, "(T": 785,
               "(IVR": 137},
    "vfdb": {"(N": 216, "(VFL": 98, "(VT": 93, "(NOISE": 73, "(BI": 22, "(HGEA": 19, "(ASYS": 13, "(B": 12, "(AFIB": 9,
             "(VF": 9, "(NOD": 6, "(SVTA": 6, "(PM": 5, "(VFIB": 4, "(VER": 3, "(NSR": 2, "(SBR": 2},
}  # fmt: skip


@pytest.mark.parametrize("database", ALL, ids=lambda database: database.name)
def test_entry_agrees_with_itself(database):
    assert database.versions[0] == database.version and len(set(database.versions)) == len(database.versions)
    assert len(set(database.records)) == len(database.records)
    assert set(database.patients) <= set(database.records) and set(database.paced) <= set(database.records)
    assert not database.prefix or database.prefix.endswith("/")
    assert database.page == f"https://physionet.org/content/{database.slug}/{database.version}/"
    notes = [note for several in database.rhythms.values() for note in several]
    assert len(set(notes)) == len(notes) and all(note.startswith("(") for note in notes)
    assert len(set("".join(database.beats.values()))) == len("".join(database.beats.values()))
    assert not set(database.beats) & set(database.rhythms)
    assert describe(database.name).startswith(f".. _{database.name}:\n")


def test_sizes_of_the_databases():
    assert {d.name: (len(d.records), d.fs) for d in STRIPS} == {
        "mitdb": (48, 360.0), "ltafdb": (84, 128.0), "ltdb": (7, 128.0), "vfdb": (22, 250.0), "svdb": (0, 128.0),
    }  # fmt: skip
    assert len({MITDB.group(record) for record in MITDB.records}) == 47


def test_files_of_a_record():
    assert MITDB.files("100") == ["100.hea", "100.dat", "100.atr"]
    assert MITDB.files("100", signal=False) == ["100.hea", "100.atr"]


def test_versions_are_kept_with_the_pinned_one_first():
    database = Database("a", "a", "1.0.3", "A", 100.0, (), versions=("1.0.1", "1.0.3", "1.0.0"))
    assert database.versions == ("1.0.3", "1.0.1", "1.0.0")


def test_groups_of_the_standard_know_every_beat_once():
    symbols = "".join(AAMI.values())
    assert len(set(symbols)) == len(symbols)
    assert set("".join(BEATS.values())) <= set(symbols)
    for several, label in (("NLRej", "N"), ("AaJS", "SVEB"), ("VE", "VEB"), ("F", "F"), ("Q/f", "Q")):
        assert set(several) <= set(AAMI[label])


def test_a_note_means_one_rhythm_everywhere():
    notes = [note for several in RHYTHMS.values() for note in several]
    assert len(set(notes)) == len(notes)
    for database in STRIPS:
        assert all(RHYTHMS[label] == notes for label, notes in database.rhythms.items())


def read_all(database, folder):
    """Return the counts of symbols, of notes of rhythm marks, and of other notes over all records."""
    symbols, marks, others = Counter(), Counter(), Counter()
    for record in database.records:
        found = read_annotations(folder / f"{record}.atr")
        symbols.update(found.symbol.tolist())
        for i in (found.aux_note != "").nonzero()[0].tolist():
            (marks if found.symbol[i] == "+" else others)[found.aux_note[i]] += 1
    return symbols, marks, others


@pytest.mark.parametrize("database", [MITDB, LTDB, VFDB, LTAFDB], ids=lambda database: database.name)
def test_every_annotation_of_the_real_records(database, real_data, tmp_path):
    home = unpack_ltafdb(real_data, tmp_path) if database is LTAFDB else real_data
    folder = home / database.name
    if not (folder / f"{database.records[0]}.atr").is_file():
        pytest.skip(f"{database.name} is not in the folder of real records")
    assert {path.stem for path in folder.glob("*.hea")} == set(database.records)
    for record in database.records:
        header = read_header(folder / f"{record}.hea")
        assert header.fs == database.fs and header.n_timesteps > 0
    symbols, marks, others = read_all(database, folder)
    assert symbols == SYMBOLS[database.name] and marks == NOTES[database.name]
    assert set(marks) <= {note for notes in database.rhythms.values() for note in notes}
    assert set(others) == set(database.notes)
    assert all(sum(symbols[s] for s in several) for several in database.beats.values())


@pytest.mark.parametrize("database", [MITDB, LTDB, VFDB, LTAFDB], ids=lambda database: database.name)
def test_pages_tell_every_label_and_how_often_it_occurs(database):
    told = read_tables(describe(database.name))
    assert set(told) == {*database.beats, *database.rhythms}
    for label, (meaning, numbers) in told.items():
        if label in database.rhythms:
            assert set(meaning) <= set(database.rhythms[label])
            assert numbers[0] == sum(NOTES[database.name].get(note, 0) for note in database.rhythms[label])
        else:
            symbols = meaning[0].split()
            assert set(symbols) <= set(database.beats[label])
            assert numbers[0] == sum(SYMBOLS[database.name].get(symbol, 0) for symbol in database.beats[label])
