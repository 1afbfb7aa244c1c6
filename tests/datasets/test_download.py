"""Files of a database: list of sums, stamps, complete and read-only homes, offline mode, locks."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import threading
import time

import pytest

from skecg.datasets import MissingFileError
from skecg.datasets._download import fetch_files, get_sources
from skecg.datasets._http import DownloadError
from tests.datasets.downloads import BODY, DATABASE, FAST, FILES, fetch, names


def test_files_come_with_their_list_of_sums_and_stamps(tmp_path, serve):
    server = serve(FILES)
    folder = tmp_path / "new" / "mitdb"
    fetch(folder, FILES)
    assert names(folder) == sorted(FILES)
    for name, body in FILES.items():
        assert (folder / name).read_bytes() == body
    assert (folder / "SHA256SUMS.txt").read_bytes() == server.files["SHA256SUMS.txt"]
    stamps = json.loads((folder / ".skecg-verified.json").read_text())["files"]
    assert stamps["a.dat"][0] == len(BODY) and stamps["a.dat"][2] == hashlib.sha256(BODY).hexdigest()
    assert sorted(server.paths()) == sorted([*FILES, "SHA256SUMS.txt"])
    agents = {headers["User-Agent"].partition("/")[0] for _, headers in server.requests}
    assert agents == {"skecg"}


def test_complete_folder_is_neither_written_nor_asked_about(tmp_path, serve):
    server = serve(FILES)
    (tmp_path / "a.dat").write_bytes(b"whatever the user put there")
    fetch(tmp_path)
    assert server.requests == [] and [path.name for path in tmp_path.iterdir()] == ["a.dat"]


def test_file_that_the_list_does_not_know_is_not_asked_for(tmp_path, serve):
    server = serve(FILES)
    with pytest.raises(MissingFileError, match="not in PhysioNet's list"):
        fetch(tmp_path, ["a.dat", "z.dat"])
    assert "z.dat" not in server.paths() and names(tmp_path) == ["a.dat"]


def test_no_server_at_all_names_address_variable_and_files(tmp_path):
    with pytest.raises(OSError, match=r"a\.dat.*127\.0\.0\.1:9.*SKECG_DATA") as caught:
        fetch(tmp_path)
    assert isinstance(caught.value, ValueError) and caught.value.files == ("a.dat",)
    assert names(tmp_path) == []


def test_sources_are_physionet_and_its_bucket_unless_the_variable_says_otherwise(monkeypatch):
    monkeypatch.delenv("SKECG_PHYSIONET_URL")
    assert get_sources(DATABASE) == [
        "https://physionet.org/files/mitdb/1.0.0",
        "https://physionet-open.s3.amazonaws.com/mitdb/1.0.0",
    ]
    monkeypatch.setenv("SKECG_PHYSIONET_URL", "http://one/ http://two")
    assert get_sources(DATABASE) == ["http://one/mitdb/1.0.0", "http://two/mitdb/1.0.0"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"<html>maintenance</html>\n", 1),
        (b"", 1),
        (b"0" * 64 + b" ../x\n", 1),
        (b"0" * 64 + b" a.dat\n" + b"0" * 64 + b" /etc/x\n", 2),
        (b"0" * 63 + b" a.dat\n", 1),
        ((b"0" * 64 + b" a.dat\n") * 2, 2),
    ],
)
def test_wrong_lists_of_sums_download_nothing(tmp_path, serve, content, line):
    server = serve(FILES)
    server.files["SHA256SUMS.txt"] = content
    home = tmp_path / "home"
    with pytest.raises(ValueError, match=rf"SHA256SUMS\.txt, line {line}"):
        fetch(home)
    assert names(home) == [] and not (home / "SHA256SUMS.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["home"] and server.paths() == ["SHA256SUMS.txt"]


def test_lists_with_the_other_line_ends_are_lists(tmp_path, serve):
    server = serve(FILES)
    server.files["SHA256SUMS.txt"] = server.files["SHA256SUMS.txt"].replace(b"\n", b"\r\n")
    fetch(tmp_path)
    assert names(tmp_path) == ["a.dat"]


def test_endless_list_of_sums_is_cut_off(tmp_path, serve, monkeypatch):
    server = serve(FILES)
    server.files["SHA256SUMS.txt"] = b"x" * 200_000
    monkeypatch.setattr("skecg.datasets._download.MAX_LIST_BYTES", 100_000)
    with pytest.raises(DownloadError, match="longer than 100,000 bytes"):
        fetch(tmp_path)
    assert names(tmp_path) == []


def test_database_without_list_of_sums_comes_with_a_warning(tmp_path, serve):
    server = serve(FILES)
    del server.files["SHA256SUMS.txt"]
    server.faults["a.dat"] = [{"until": 1000}]
    with pytest.warns(UserWarning, match=r"no SHA256SUMS\.txt"):
        fetch(tmp_path)
    assert (tmp_path / "a.dat").read_bytes() == BODY and names(tmp_path) == ["a.dat"]


def test_changed_list_of_sums_is_warned_about_with_both_digests(tmp_path, serve):
    server = serve(FILES)
    fetch(tmp_path)
    old = hashlib.sha256(server.files["SHA256SUMS.txt"]).hexdigest()
    server.files["new.dat"] = b"new"
    server.files["SHA256SUMS.txt"] += f"{hashlib.sha256(b'new').hexdigest()} new.dat\n".encode()
    new = hashlib.sha256(server.files["SHA256SUMS.txt"]).hexdigest()
    with pytest.warns(UserWarning, match=f"{old}, now {new}"):
        fetch(tmp_path, ["a.dat", "new.dat"])
    assert (tmp_path / "SHA256SUMS.txt").read_bytes() == server.files["SHA256SUMS.txt"]


def test_own_list_of_sums_is_used_and_never_overwritten(tmp_path, serve):
    server = serve(FILES)
    own = f"{hashlib.sha256(BODY).hexdigest()} a.dat\n".encode()
    (tmp_path / "SHA256SUMS.txt").write_bytes(own)
    fetch(tmp_path)
    assert server.paths() == ["a.dat"]
    fetch(tmp_path, ["a.dat", "b.dat"])
    assert names(tmp_path) == ["a.dat", "b.dat"] and (tmp_path / "SHA256SUMS.txt").read_bytes() == own


def test_present_file_that_disagrees_is_downloaded_again(tmp_path, serve):
    serve(FILES)
    (tmp_path / "b.dat").write_bytes(b"half a fi")
    with pytest.warns(UserWarning, match=r"b\.dat disagrees with its SHA-256 sum .* downloaded again"):
        fetch(tmp_path, ["a.dat", "b.dat"])
    assert (tmp_path / "b.dat").read_bytes() == FILES["b.dat"]


def test_present_files_are_hashed_once(tmp_path, serve, monkeypatch):
    serve(FILES)
    (tmp_path / "b.dat").write_bytes(FILES["b.dat"])
    fetch(tmp_path, ["a.dat", "b.dat"])
    (tmp_path / "a.dat").unlink()
    hashed = []
    monkeypatch.setattr("skecg.datasets._registry.sha256", lambda path: hashed.append(path.name))
    fetch(tmp_path, ["a.dat", "b.dat"])
    assert hashed == [] and names(tmp_path) == ["a.dat", "b.dat"]


HEADER = b"a 1 360 10\na.dat 16 200 16 0 0 0 0 I\n"


def test_header_newer_than_the_list_of_sums_is_kept_with_a_warning(tmp_path, serve):
    server = serve({**FILES, "a.hea": HEADER.replace(b" I", b" II")})
    server.files["a.hea"] = HEADER
    with pytest.warns(UserWarning, match=r"a\.hea disagrees with PhysioNet's list of sums but can be read"):
        fetch(tmp_path, ["a.hea"])
    assert (tmp_path / "a.hea").read_bytes() == HEADER
    with pytest.warns(UserWarning, match=r"a\.hea disagrees"):
        fetch(tmp_path, ["a.hea", "a.dat"])
    assert names(tmp_path) == ["a.dat", "a.hea"] and server.paths().count("a.hea") == 2


def test_header_that_cannot_be_read_is_not_kept(tmp_path, serve):
    server = serve({**FILES, "a.hea": HEADER})
    server.files["a.hea"] = b"an error page without a type\n"
    with pytest.raises(DownloadError, match="SHA-256"):
        fetch(tmp_path, ["a.hea"])
    assert names(tmp_path) == []


@pytest.fixture
def no_sockets(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("how", ["variable", "argument"])
def test_offline_opens_no_socket_and_says_what_to_do(tmp_path, monkeypatch, no_sockets, how):
    (tmp_path / "b.dat").write_bytes(b"x")
    if how == "variable":
        monkeypatch.setenv("SKECG_OFFLINE", "1")
    settings = {"download_if_missing": how == "variable"}
    fetch(tmp_path, ["b.dat"], **settings)
    with pytest.raises(OSError, match=r"1 file is missing from .*\(a\.dat\)") as caught:
        fetch(tmp_path, ["a.dat", "b.dat"], **settings)
    for part in ("SKECG_DATA", "data_home", "https://physionet.org/content/mitdb/1.0.0/", "download_if_missing=True"):
        assert part in str(caught.value)
    assert isinstance(caught.value, ValueError) and caught.value.files == ("a.dat",)
    assert [path.name for path in tmp_path.iterdir()] == ["b.dat"]


def test_names_that_lead_out_are_refused_before_anything(tmp_path, no_sockets):
    with pytest.raises(ValueError, match="no relative path"):
        fetch(tmp_path / "home", ["../x.dat"])
    assert list(tmp_path.iterdir()) == []


def test_links_out_of_the_folder_are_not_followed(tmp_path, serve):
    serve(FILES)
    (tmp_path / "outside").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(DownloadError, match="lies outside"):
        fetch(tmp_path / "home", ["sub/c.dat"])
    assert list((tmp_path / "outside").iterdir()) == []


def test_home_that_cannot_be_a_folder_is_named(tmp_path, serve):
    serve(FILES)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"mitdb cannot be downloaded to .*file.*set data_home"):
        fetch(tmp_path / "file" / "mitdb")


def test_interrupting_user_finds_no_half_file_and_goes_on_later(tmp_path, serve, monkeypatch):
    server = serve(FILES)
    server.chunk, server.pause = 10_000, 0.02

    def interrupt(*args, **kwargs):
        time.sleep(0.15)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("skecg.datasets._download.wait", interrupt)
        fetch(tmp_path)
    (part,) = names(tmp_path)
    assert part == f"a.dat.{hashlib.sha256(BODY).hexdigest()[:8]}.part"
    size, server.pause = (tmp_path / part).stat().st_size, 0.0
    assert 0 < size < len(BODY) and (tmp_path / part).read_bytes() == BODY[:size]
    fetch(tmp_path)
    assert names(tmp_path) == ["a.dat"] and server.ranges("a.dat") == [None, f"bytes={size}-"]


def test_lock_that_cannot_be_had_means_no_resuming(tmp_path, serve, monkeypatch, caplog):
    import filelock

    server = serve(FILES)

    def refuse(self, *args, **kwargs):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    (tmp_path / f"a.dat.{hashlib.sha256(BODY).hexdigest()[:8]}.part").write_bytes(b"somebody else's")
    with caplog.at_level(logging.INFO, "skecg"):
        fetch(tmp_path)
    assert (tmp_path / "a.dat").read_bytes() == BODY and server.ranges("a.dat") == [None]
    assert "no lock can be had" in caplog.text


def test_lists_that_a_killed_call_left_half_written_are_removed(tmp_path, serve):
    serve(FILES)
    for name in ("SHA256SUMS.txt.new", "SHA256SUMS.txt.new.00000000.part", ".skecg-verified.json.0000abcd.part"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "SHA256SUMS.txt.asc").write_bytes(b"somebody's signature")
    fetch(tmp_path)
    assert names(tmp_path) == ["SHA256SUMS.txt.asc", "a.dat"]


def test_old_partial_files_are_removed_and_others_are_not(tmp_path, serve):
    serve(FILES)
    old, new, foreign = tmp_path / "x.dat.01234567.part", tmp_path / "y.dat.01234567.part", tmp_path / "z.part"
    for path in (old, new, foreign):
        path.write_bytes(b"x")
    for path in (old, foreign):
        os.utime(path, (time.time() - 8 * 86_400,) * 2)
    fetch(tmp_path)
    assert names(tmp_path) == ["a.dat", new.name, foreign.name]


def test_several_connections_but_not_many(tmp_path, serve):
    files = {f"{i}.dat": os.urandom(2000) for i in range(12)}
    server = serve(files)
    active, most, lock = [0], [0], threading.Lock()
    plain = server.answer

    def counted(handler):
        with lock:
            active[0] += 1
            most[0] = max(most[0], active[0])
        time.sleep(0.05)
        with lock:
            active[0] -= 1
        plain(handler)

    server.answer = counted
    fetch(tmp_path, files)
    assert names(tmp_path) == sorted(files) and 2 <= most[0] <= FAST.connections


def test_progress_is_shown_only_where_it_is_wanted(tmp_path, serve, capsys):
    serve(FILES)
    fetch(tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    fetch_files(tmp_path / "loud", ["a.dat"], DATABASE, verbose=1, policy=FAST)
    out, err = capsys.readouterr()
    assert out == "" and "downloading mitdb" in err
