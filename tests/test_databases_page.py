"""The command that writes the tables of docs/databases.md, and that the page has what it writes."""

import importlib.util
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import wfdb
from sklearn.utils import Bunch

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "databases.md"


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("write_databases", ROOT / "docs" / "write_databases.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def block(page: str, name: str) -> str:
    return re.search(rf"<!-- begin {name} -->\n(.*?)<!-- end {name} -->", page, flags=re.DOTALL)[1]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_page_has_every_block_and_no_other(command):
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"<!-- begin (.+?) -->", page) == re.findall(r"<!-- end (.+?) -->", page)
    assert sorted(re.findall(r"<!-- begin (.+?) -->", page)) == sorted(command.BLOCKS)
    for name in command.BLOCKS:
        assert rows(block(page, name)), f"{name} is empty: run the command"


def test_tables_are_markdown(command):
    made = command.table(("name", "n", "share"), [["a|b", 1234567, "5%"], ["c", None, "-"]])
    assert made.splitlines() == [
        "| name | n | share |",
        "| --- | ---: | --- |",
        "| a\\|b | 1,234,567 | 5% |",
        "| c | - | - |",
    ]


def test_a_block_is_replaced_and_nothing_else(command):
    page = "before\n<!-- begin a -->\nold\n<!-- end a -->\nbetween\n<!-- begin ab -->\nkept\n<!-- end ab -->\n"
    once = command.replace(page, "a", "new \\1\n")
    assert once == page.replace("\nold\n", "\n\nnew \\1\n\n")
    assert command.replace(once, "a", "new \\1") == once
    with pytest.raises(ValueError, match="begin b"):
        command.replace(page, "b", "text")


def write_records(folder, names, marks, fs=250, n=5000):
    sample, symbol, note = zip(*marks, strict=True)
    folder.mkdir(parents=True)
    for name in names:
        wfdb.wrann(
            name, "atr", np.array(sample), symbol=np.array(symbol), aux_note=list(note), write_dir=str(folder)
        )
        (folder / f"{name}.hea").write_text(f"{name} 2 {fs} {n}\n{name}.dat 212 200\n{name}.dat 212 200\n")


MARKS = [(100, "+", "(N"), (1000, "+", "(VT"), (1400, "+", "(VF"), (1500, "+", "(VFIB"), (3000, "+", "(N")]


def test_rhythms_are_counted(command, tmp_path):
    write_records(tmp_path / "vfdb", command.VFDB.records, MARKS)
    written = rows(command.rhythms(tmp_path, "vfdb"))
    # At 250 Hz a window of 2 s has 500 samples: that of the first mark begins before the record. Marks 400 and 100
    # samples apart are not alone within 250; VF lasts from 1400 to 3000.
    assert written == [
        ["NSR", "`(N` `(NSR`", "44", "22", "22", str(22 * (1 + 4)), "22"],
        ["VT", "`(VT`", "22", "22", "22", "0", "22"],
        ["VF", "`(VF` `(VFIB`", "44", "44", "0", str(22 * 3), "22"],
    ]


def test_beats_are_counted(command, tmp_path):
    marks = [(100, "~", ""), (400, "N", ""), (1000, "V", ""), (1050, "V", ""), (2000, "N", ""), (2100, "F", "")]
    write_records(tmp_path / "ltdb", command.LTDB.records, [*marks, (4990, "N", "")], fs=128)
    written = {row[0]: row[1:] for row in rows(command.beats(tmp_path, "ltdb"))}
    assert written["N"] == ["`N`", "21", "14", "7", "7", "14%", "14%"]  # the one beside F is not pure
    assert written["PVC"] == ["`V`", "14", "14", "14", "7", "14%", "14%"]
    assert written["AAMI F"] == ["`F`", "7", "7", "0", "7", "14%", "-"]
    assert "AAMI Q" not in written and "SVEB" not in written


def test_what_is_not_there_leaves_the_page_as_it_is(command, tmp_path):
    page = PAGE.read_text(encoding="utf-8")
    write_records(tmp_path / "vfdb", command.VFDB.records[:-1], MARKS)
    assert command.write(page, tmp_path, command.BLOCKS.keys() - {"overview"}) == page
    said = tmp_path / "page.md"
    said.write_text(page, encoding="utf-8")
    names = "rhythms of vfdb, labels of ludb,counts of the first paper"
    assert command.main(["--data-home", str(tmp_path), "--page", str(said), "--only", names]) == 0
    assert said.read_text(encoding="utf-8") == page


def test_unknown_blocks_are_named(command, capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "everything"])
    assert "no blocks everything; there are overview" in capsys.readouterr().err


def test_archive_of_ltafdb_is_unpacked_into_another_home(command, tmp_path):
    home, made = tmp_path / "home", tmp_path / "made"
    write_records(made / "ltafdb", ["00"], MARKS, fs=128)
    (home / "ltafdb").mkdir(parents=True)
    (home / "mitdb").mkdir()
    with tarfile.open(home / "ltafdb" / "annotations.tar.xz", "w:xz") as archive:
        archive.add(made / "ltafdb", "ltafdb")
    other = tmp_path / "other"
    other.mkdir()
    assert command.unpack(home, other) == other
    assert sorted(path.name for path in (other / "ltafdb").iterdir()) == ["00.atr", "00.hea"]
    assert (other / "mitdb").resolve() == home / "mitdb"
    assert [path.name for path in (home / "ltafdb").iterdir()] == ["annotations.tar.xz"]
    assert command.unpack(tmp_path / "made", other) == tmp_path / "made"


def test_labels_count_records_and_people(command):
    ecg = Bunch(
        target_names=["AF", "RBBB"],
        target=np.array([[1, 0], [1, 1], [1, 0], [0, 0]]),
        groups=np.array(["a", "a", "b", "b"]),
    )
    assert command.labels(ecg) == [["AF", 3, 2], ["RBBB", 1, 1]]
