"""Lists of sums and of records, and the stamps of files that were verified."""

from __future__ import annotations

import hashlib
import os

import pytest

from skecg.datasets._registry import STAMPS_NAME, Stamps, parse_records, parse_sums, sha256, walk_records

A, B = "a" * 64, "B" * 64


@pytest.mark.parametrize(
    "content",
    [f"{A} 100.dat\n{B} x/101.hea\n", f"{A}  100.dat\r\n{B} *x/101.hea\r\n", f"{A} 100.dat\n{B} x/101.hea".encode()],
)
def test_lists_as_sha256sum_writes_them(content):
    assert parse_sums(content, "SHA256SUMS.txt") == {"100.dat": A, "x/101.hea": B.lower()}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("<html>\n<p>maintenance</p>\n", 1),
        ("", 1),
        (f"{A} 100.dat\n\n{B} 101.dat\n", 2),
        (f"{A} 100.dat\n{A[:-1]} 101.dat\n", 2),
        (f"{A} 100.dat\n{'g' * 64} 101.dat\n", 2),
        (f"{A} ../x\n", 1),
        (f"{A} a/../../x\n", 1),
        (f"{A} /etc/passwd\n", 1),
        (f"{A} C:\\x\n", 1),
        (f"{A} a//b\n", 1),
        (f"{A} a\x00b\n", 1),
        (f"{A} http://x/y\n", 1),
        (f"{A} 100.dat\n{B} 100.dat\n", 2),
        (f"{A}\n", 1),
        (f"100.dat {A}\n", 1),
    ],
)
def test_anything_else_is_refused_with_its_line(content, line):
    with pytest.raises(ValueError, match=rf"SHA256SUMS\.txt, line {line}\b"):
        parse_sums(content, "SHA256SUMS.txt")


def test_lists_that_are_no_text_or_too_long_are_refused():
    with pytest.raises(ValueError, match="not a text in UTF-8"):
        parse_sums(b"\xff\xfe\x00", "SHA256SUMS.txt")
    with pytest.raises(ValueError, match="16,777,216 bytes"):
        parse_sums(b" " * ((16 << 20) + 1), "SHA256SUMS.txt")


def test_records_that_nothing_answers_to_are_counted():
    sums = {"g1/A0999.hea": A, "g1/A0999.mat": A}
    assert parse_records("g1/A0999\ng1/A1000\n", "RECORDS", sums) == (["g1/A0999"], 1)
    assert parse_records("100\r\n101\r\n100\r\np01/\n", "RECORDS") == (["100", "101", "p01/"], 0)


def test_lists_of_folders_are_followed_in_order():
    lists = {"RECORDS": b"g1/\nlast\ng2/\n", "g1/RECORDS": b"A1\nA2\n"}
    lists |= {"g2/RECORDS": b"deep/\n", "g2/deep/RECORDS": b"B"}
    sums = {name + ".hea" for name in ("g1/A1", "last", "g2/deep/B")}  # g1 claims A2 in vain
    records, read, n_unknown = walk_records(lists.get, sums)
    assert records == ["g1/A1", "last", "g2/deep/B"]
    assert n_unknown == 1 and sorted(read) == sorted(lists)
    assert walk_records(lists.get, sums, "g1/") == (["g1/A1"], ["g1/RECORDS"], 1)
    assert walk_records({}.get) == ([], [], 0)


def test_stamps_are_saved_now_and_then(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("skecg.datasets._registry.time.monotonic", lambda: clock[0])
    (tmp_path / "a").write_bytes(b"x")
    stamps = Stamps(tmp_path)
    stamps.add("a", tmp_path / "a", A)
    stamps.save_at_times()
    assert not (tmp_path / STAMPS_NAME).exists()
    clock[0] = 2.0
    stamps.save_at_times()
    assert (tmp_path / STAMPS_NAME).exists() and Stamps(tmp_path).agrees("a", tmp_path / "a", A)


@pytest.mark.parametrize(
    ("content", "line"), [("../../x\n", 1), ("100\ns3://b/x\n", 2), ("/x\n", 1), ("", 1), ("\n\n", 1)]
)
def test_unsafe_or_empty_lists_of_records_are_refused(content, line):
    with pytest.raises(ValueError, match=rf"RECORDS, line {line}\b"):
        parse_records(content, "RECORDS")


def test_stamped_files_are_not_hashed_again(tmp_path, monkeypatch):
    path = tmp_path / "100.dat"
    path.write_bytes(b"samples")
    wanted = hashlib.sha256(b"samples").hexdigest()
    assert sha256(path) == wanted
    stamps = Stamps(tmp_path)
    assert stamps.agrees("100.dat", path, wanted)
    stamps.save()
    hashed = []
    monkeypatch.setattr("skecg.datasets._registry.sha256", lambda p: hashed.append(p) or "0" * 64)
    assert Stamps(tmp_path).agrees("100.dat", path, wanted) and hashed == []
    assert not Stamps(tmp_path).agrees("100.dat", path, "1" * 64) and hashed == []
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert not Stamps(tmp_path).agrees("100.dat", path, wanted) and hashed == [path]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": 3}', b'{"files": {"a": 3}, "sums": ""}', b"\xff"])
def test_broken_stamps_are_no_stamps(tmp_path, content):
    (tmp_path / STAMPS_NAME).write_bytes(content)
    (tmp_path / "a").write_bytes(b"x")
    assert Stamps(tmp_path).agrees("a", tmp_path / "a", hashlib.sha256(b"x").hexdigest())


def test_nothing_is_written_where_nothing_is_new(tmp_path):
    Stamps(tmp_path).save()
    assert list(tmp_path.iterdir()) == []
