"""Lists of a database's files: from sums, from RECORDS, from what lies there, and never into a folder of somebody's."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from skecg.datasets import MissingFileError
from skecg.datasets._download import list_files
from skecg.datasets._http import DownloadError
from tests.datasets.downloads import DATABASE, FAST, FILES, fetch, names

CHALLENGE = replace(DATABASE, prefix="sub/")


def listed(folder, database=DATABASE, **settings):
    return list_files(folder, database, policy=FAST, **settings)


def test_list_of_sums_is_asked_for_once_and_kept(tmp_path, serve):
    server = serve(FILES)
    folder = tmp_path / "mitdb"
    assert listed(folder) == list(FILES) == listed(folder)
    assert server.paths() == ["SHA256SUMS.txt"] and names(folder) == []
    fetch(folder)
    assert server.paths() == ["SHA256SUMS.txt", "a.dat"]


def test_prefix_picks_the_part_of_the_project(tmp_path, serve):
    serve(FILES)
    assert listed(tmp_path, CHALLENGE) == ["sub/c.dat"]


@pytest.mark.parametrize("name", ["SHA256SUMS.txt", "SHA256SUMS"])
def test_own_list_of_sums_needs_no_server(tmp_path, name):
    (tmp_path / name).write_text(f"{'a' * 64} 100.dat\n{'b' * 64} 100.hea\n")
    assert listed(tmp_path) == ["100.dat", "100.hea"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("how", ["variable", "argument"])
def test_offline_what_lies_there_is_listed(tmp_path, monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv("SKECG_OFFLINE", "1")
    allowed = how == "variable"
    with pytest.raises(MissingFileError, match=r"SHA256SUMS\.txt.*nothing is downloaded .*SKECG_DATA"):
        listed(tmp_path / "home", download_if_missing=allowed)
    assert list(tmp_path.iterdir()) == []
    for name in ("100.hea", "sub/101.hea", "100.dat.01234567.part", ".git/102.hea", ".skecg.lock", "._103.hea"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert listed(tmp_path, download_if_missing=allowed) == ["100.hea", "sub/101.hea"]


def test_folder_that_somebody_else_has_filled_is_not_written_to(tmp_path, serve):
    server = serve(FILES)
    (tmp_path / "a.dat").write_bytes(b"x")
    assert listed(tmp_path) == list(FILES) and server.paths() == ["SHA256SUMS.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.dat"]


def test_folder_that_cannot_be_written_is_listed_all_the_same(tmp_path, serve, monkeypatch):
    serve(FILES)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "folder")

    monkeypatch.setattr("skecg.datasets._download._lock", refuse)
    assert listed(tmp_path) == list(FILES) and list(tmp_path.iterdir()) == []


RECORDS = {
    "RECORDS": b"p1/\n100\np2/\n",
    "p1/RECORDS": b"a\r\nb\r\n",
    "100.hea": b"",
}


def test_database_without_sums_is_listed_by_its_records(tmp_path, serve):
    server = serve(RECORDS)
    del server.files["SHA256SUMS.txt"]
    with pytest.warns(UserWarning) as warned:
        found = listed(tmp_path)
    texts = [str(warning.message) for warning in warned]
    assert any("1 folders of its RECORDS have no list" in text for text in texts)  # p2
    assert found == ["RECORDS", "p1/RECORDS"] + [
        f"{record}.{extension}" for record in ("p1/a", "p1/b", "100") for extension in ("hea", "dat", "atr")
    ]
    assert "100.hea" not in server.paths()  # listed, not opened


@pytest.mark.parametrize("content", [b"../../x\n", b"s3://b/x\n", b"/etc/passwd\n", b"100\n\\x\n", b"", b"a\0\n"])
@pytest.mark.filterwarnings("ignore:.*the server has no SHA256SUMS")
def test_unsafe_lists_of_records_lead_nowhere(tmp_path, serve, content):
    server = serve({"RECORDS": content})
    del server.files["SHA256SUMS.txt"]
    home = tmp_path / "home"
    with pytest.raises(ValueError, match=r"RECORDS, line \d"):
        listed(home)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert set(names(home)) <= {"RECORDS"} and server.paths() == ["SHA256SUMS.txt", "RECORDS"]


@pytest.mark.filterwarnings("ignore:.*the server has no SHA256SUMS")
def test_lists_that_lead_to_one_another_for_ever_end(tmp_path, serve, monkeypatch):
    server = serve({})
    del server.files["SHA256SUMS.txt"]
    monkeypatch.setattr("skecg.datasets._registry.MAX_LISTS", 20)
    server.files = type("Endless", (dict,), {"get": lambda self, path: b"x/\n" if path.endswith("RECORDS") else None})()
    with pytest.raises(ValueError, match="more than 20 lists of records"):
        listed(tmp_path)


@pytest.mark.filterwarnings("ignore:.*the server has no SHA256SUMS")
def test_database_that_is_not_there_is_said_to_be_none(tmp_path, serve):
    server = serve({})
    server.files.clear()
    with pytest.raises(DownloadError, match=r"no such database, or no such version.*content/mitdb/1\.0\.0/"):
        listed(tmp_path)


def test_refused_list_is_said_to_need_an_account(tmp_path, serve):
    server = serve(FILES)
    server.faults["SHA256SUMS.txt"] = [lambda handler, body: server.send(handler, 403, b"", {}) or True] * 3
    with pytest.raises(DownloadError, match=r"refused \(403\).*PhysioNet account.*data_home"):
        listed(tmp_path)
    assert server.paths() == ["SHA256SUMS.txt"]


def test_stamps_are_saved_before_the_list(tmp_path, serve, monkeypatch):
    """A process killed between the two must not leave a list that is later taken for somebody else's."""
    server = serve(FILES)

    def killed(path, content):
        if path.name == "SHA256SUMS.txt":
            raise KeyboardInterrupt
        path.write_bytes(content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("skecg.datasets._download.replace_text", killed)
        patch.setattr("skecg.datasets._registry.replace_text", killed)
        listed(tmp_path)
    fetch(tmp_path)
    assert (tmp_path / "SHA256SUMS.txt").read_bytes() == server.files["SHA256SUMS.txt"]
    assert hashlib.sha256((tmp_path / "a.dat").read_bytes()).digest() == hashlib.sha256(FILES["a.dat"]).digest()
