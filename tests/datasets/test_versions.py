"""Where a database lies and which version of it is meant: in the data home, in skecg's table, as a server lists it."""

from __future__ import annotations

import socket

import pytest

from skecg.datasets._http import Policy
from skecg.datasets._versions import find_database, find_version

LISTING = b'<html><a href="../">up</a><a href="0.9.0/">0.9.0/</a><a href="1.10.0/">1.10.0/</a><a href="1.9.0/">..</a>'
FAST = Policy(connect=2, read=0.4, back_off=0.01)
BUCKET = (
    b'<?xml version="1.0"?><ListBucketResult><Prefix>afdb/</Prefix><CommonPrefixes><Prefix>afdb/1.0.0/</Prefix>'
    b"</CommonPrefixes><CommonPrefixes><Prefix>afdb/2.0/</Prefix></CommonPrefixes></ListBucketResult>"
)


@pytest.mark.parametrize(
    ("page", "newest"),
    [
        (LISTING, "1.10.0"),
        (b'<a href="/files/afdb/1.0.0/">x</a><a href="/files/other/9.0.0/">y</a>', "1.0.0"),
        (b"<A HREF='./1.0.0/'>x</A><a href='9.9.9/evil'>y</a><a href='?v=3.0.0'>z</a>", "1.0.0"),
        (BUCKET, "2.0"),
    ],
)
def test_newest_version_of_a_list(serve, page, newest):
    server = serve({"afdb/": page}, prefix="/")
    server.faults["afdb/"] = [{"type": "text/html"}]
    assert find_version("afdb", FAST) == newest


def test_bucket_is_asked_in_its_own_way(serve, monkeypatch):
    first = serve({}, prefix="/")
    second = serve({"?list-type=2&delimiter=/&prefix=afdb/": BUCKET}, prefix="/")
    local = second.url.replace("127.0.0.1", "x.s3.localhost")
    monkeypatch.setenv("SKECG_PHYSIONET_URL", f"{first.url} {local}")
    plain = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: plain("127.0.0.1" if "localhost" in host else host, *a, **k)
    )
    assert find_version("afdb", FAST) == "2.0"
    assert first.paths() == ["afdb/"] and second.paths() == ["?list-type=2&delimiter=/&prefix=afdb/"]


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


@pytest.mark.parametrize(
    ("place", "version"), [("ptbxl", "1.0.3"), ("ptb-xl/1.0.1", "1.0.1"), ("physionet.org/files/ptb-xl/1.0.2", "1.0.2")]
)
@pytest.mark.parametrize("name", ["ptbxl", "ptb-xl"])
@pytest.mark.parametrize("records", [None, ["records100/00000/00001_lr"]])
def test_known_database_by_either_name_in_any_version(tmp_path, name, place, version, records):
    put(tmp_path / place / "records100/00000/00001_lr.hea")
    database, folder, known = find_database(name, None, tmp_path, records, True)
    assert (database.name, database.version, folder, known) == ("ptbxl", version, tmp_path / place, True)


def test_other_version_is_not_mixed_into_a_folder_that_tells_none(tmp_path):
    put(tmp_path / "ptbxl" / "1.hea")
    database, folder, _ = find_database("ptbxl", "1.0.1", tmp_path, None, True)
    assert (database.version, folder) == ("1.0.1", tmp_path / "ptb-xl" / "1.0.1")
    assert find_database("ptbxl", "1.0.1", tmp_path, None, False)[1] == tmp_path / "ptbxl"  # nothing will be added
    assert find_database("ptbxl", "1.0.3", tmp_path, None, True)[1] == tmp_path / "ptbxl"


def test_project_of_several_databases_is_not_one_of_them(tmp_path):
    put(tmp_path / "challenge-2020" / "1.0.2" / "training" / "georgia" / "E00001.hea")
    database, folder, known = find_database("challenge-2020", None, tmp_path, None, True)
    assert (database.prefix, folder, known) == ("", tmp_path / "challenge-2020" / "1.0.2", False)


def test_download_that_was_cut_short_after_its_list_is_gone_on_with(tmp_path):
    put(tmp_path / "afdb" / "1.0.0" / "SHA256SUMS.txt")
    database, folder, known = find_database("afdb", None, tmp_path, None, True)
    assert (database.version, folder, known) == ("1.0.0", tmp_path / "afdb" / "1.0.0", False)
