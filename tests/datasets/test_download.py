"""Downloads from a local server that misbehaves: resumed, verified, or refused with nothing left behind."""

from __future__ import annotations

import email.utils
import hashlib
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from skecg.datasets import MissingFileError
from skecg.datasets._databases import Database
from skecg.datasets._download import fetch_files, get_sources
from skecg.datasets._http import Client, DownloadError, Policy

DATABASE = Database("mitdb", "mitdb", "1.0.0", "A database", 360.0, ("a", "b", "c"))
FAST = Policy(connect=2, read=0.4, slow_after=0.3, min_speed=2000, back_off=0.01, longest_wait=2.0, lock=10)
BODY = np.random.default_rng(0).bytes(300_000)
FILES = {"a.dat": BODY, "b.dat": BODY[::-1], "sub/c.dat": BODY[:1000]}


def fetch(folder, files=("a.dat",), **settings):
    fetch_files(folder, list(files), DATABASE, verbose=0, policy=settings.pop("policy", FAST), **settings)


def names(folder):
    """Return what lies in a folder, without the lock, the list and the stamps that a download leaves."""
    own = {".skecg.lock", ".skecg-verified.json", "SHA256SUMS.txt"}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return sorted(found - own)


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


def test_dropped_connection_is_resumed(tmp_path, serve):
    server = serve(FILES)
    server.faults["a.dat"] = [{"until": 150_000}]
    fetch(tmp_path)
    assert (tmp_path / "a.dat").read_bytes() == BODY and names(tmp_path) == ["a.dat"]
    first, second = server.ranges("a.dat")
    offset = int(second.removeprefix("bytes=").removesuffix("-"))
    assert first is None and 0 < offset <= 150_000
    tag = f'"{hashlib.sha256(BODY).hexdigest()[:12]}"'
    assert next(h for p, h in server.requests[::-1] if p == "a.dat")["If-Range"] == tag


def test_later_call_goes_on_from_the_partial_file(tmp_path, serve):
    server = serve(FILES)
    part = tmp_path / f"a.dat.{hashlib.sha256(BODY).hexdigest()[:8]}.part"
    part.write_bytes(BODY[:100_000])
    fetch(tmp_path)
    assert (tmp_path / "a.dat").read_bytes() == BODY and server.ranges("a.dat") == ["bytes=100000-"]


def test_whole_partial_file_is_taken_after_416(tmp_path, serve):
    server = serve(FILES)
    (tmp_path / f"a.dat.{hashlib.sha256(BODY).hexdigest()[:8]}.part").write_bytes(BODY)
    fetch(tmp_path)
    assert names(tmp_path) == ["a.dat"] and server.ranges("a.dat") == [f"bytes={len(BODY)}-"]


@pytest.mark.parametrize("left", [BODY + b"more", b"x" * 1000])
def test_partial_file_of_something_else_is_never_mixed_in(tmp_path, serve, left):
    serve(FILES)
    (tmp_path / f"a.dat.{hashlib.sha256(BODY).hexdigest()[:8]}.part").write_bytes(left)
    fetch(tmp_path)
    assert (tmp_path / "a.dat").read_bytes() == BODY and names(tmp_path) == ["a.dat"]


@pytest.mark.parametrize("fault", [{"ranges": False}, {"skip": 7}, {"tag": '"other"'}, {"tag": 'W/"weak"'}])
def test_server_that_answers_another_range_is_started_over(tmp_path, serve, fault):
    server = serve(FILES)
    server.faults["a.dat"] = [{"until": 100_000}, fault]
    fetch(tmp_path)
    assert (tmp_path / "a.dat").read_bytes() == BODY and names(tmp_path) == ["a.dat"]


def test_wrong_bytes_are_asked_for_once_more(tmp_path, serve):
    server = serve(FILES)
    server.faults["a.dat"] = [{"body": BODY[:-1] + b"x"}]
    fetch(tmp_path)
    assert (tmp_path / "a.dat").read_bytes() == BODY and server.paths().count("a.dat") == 2


def test_wrong_bytes_twice_are_an_error_that_leaves_nothing(tmp_path, serve):
    server = serve(FILES)
    wrong = BODY[:-1] + b"x"
    server.faults["a.dat"] = [{"body": wrong}] * 5
    with pytest.raises(OSError, match=r"a\.dat") as caught:
        fetch(tmp_path, ["a.dat", "b.dat"])
    message = str(caught.value)
    assert hashlib.sha256(BODY).hexdigest() in message and hashlib.sha256(wrong).hexdigest() in message
    assert names(tmp_path) == ["b.dat"] and server.paths().count("a.dat") == 2


def test_login_page_is_named_as_such(tmp_path, serve):
    server = serve(FILES)
    server.faults["a.dat"] = [{"body": b"<html>log in</html>", "type": "text/html; charset=utf-8"}]
    with pytest.raises(DownloadError, match="PhysioNet account, or the server is in maintenance"):
        fetch(tmp_path)
    assert names(tmp_path) == [] and server.paths().count("a.dat") == 1


@pytest.mark.parametrize("status", [401, 403])
def test_refusal_is_not_repeated(tmp_path, serve, status):
    server = serve(FILES)
    server.faults["a.dat"] = [lambda handler, body: server.send(handler, status, b"", {}) or True]
    with pytest.raises(DownloadError, match=rf"refused \({status}\).*account"):
        fetch(tmp_path)
    assert server.paths().count("a.dat") == 1


def test_absent_file_is_asked_for_once_and_the_others_come(tmp_path, serve):
    server = serve(FILES)
    del server.files["a.dat"]
    with pytest.raises(FileNotFoundError, match=rf"{server.url}/mitdb/1\.0\.0/a\.dat: not found \(404\)") as caught:
        fetch(tmp_path, FILES)
    assert caught.value.files == ("a.dat",)
    assert server.paths().count("a.dat") == 1 and names(tmp_path) == ["b.dat", "sub/c.dat"]


def test_file_that_the_list_does_not_know_is_not_asked_for(tmp_path, serve):
    server = serve(FILES)
    with pytest.raises(MissingFileError, match="not in PhysioNet's list"):
        fetch(tmp_path, ["a.dat", "z.dat"])
    assert "z.dat" not in server.paths() and names(tmp_path) == ["a.dat"]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_troubles_are_waited_out(tmp_path, serve, status):
    server = serve(FILES)
    server.faults["a.dat"] = [lambda handler, body: server.send(handler, status, b"busy", {}) or True] * 2
    fetch(tmp_path)
    assert (tmp_path / "a.dat").read_bytes() == BODY and server.paths().count("a.dat") == 3


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(tmp_path, serve, form):
    server = serve(FILES)
    value = "1" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
    moments = []

    def busy(handler, body):
        moments.append(time.monotonic())
        server.send(handler, 429, b"", {"Retry-After": value})
        return True

    server.faults["a.dat"] = [busy, lambda handler, body: moments.append(time.monotonic())]
    fetch(tmp_path)
    assert moments[1] - moments[0] >= 0.95 and (tmp_path / "a.dat").read_bytes() == BODY


def test_troubles_that_do_not_pass_end(tmp_path, serve):
    server = serve(FILES)
    server.faults["a.dat"] = [lambda handler, body: server.send(handler, 503, b"", {}) or True] * 50
    with pytest.raises(DownloadError, match="the server answers 503"):
        fetch(tmp_path)
    assert server.paths().count("a.dat") == FAST.attempts and names(tmp_path) == []


def test_a_server_that_is_down_is_not_asked_for_every_file(tmp_path, serve):
    files = {f"{i}.dat": b"x" for i in range(40)}
    server = serve(files)
    for name in files:
        server.faults[name] = [lambda handler, body: server.send(handler, 503, b"", {}) or True] * 50
    with pytest.raises(DownloadError, match="40 files are missing") as caught:
        fetch(tmp_path, files)
    assert set(caught.value.files) == set(files)
    assert len(server.requests) <= 1 + FAST.attempts * (FAST.failures + FAST.connections)


def drip(server):
    def fault(handler, body):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        while not server.stopping.wait(0.05):
            handler.wfile.write(b"x")

    return fault


def silence(server):
    def fault(handler, body):
        server.stopping.wait(10)
        return True

    return fault


@pytest.mark.parametrize(("fault", "message"), [(drip, "bytes came in"), (silence, "no answer within 0.4 s")])
def test_servers_that_hold_the_line_are_left(tmp_path, serve, fault, message):
    server = serve(FILES)
    server.faults["a.dat"] = [fault(server)] * 9
    start = time.monotonic()
    with pytest.raises(DownloadError, match=message):
        fetch(tmp_path)
    assert time.monotonic() - start < 5 and server.paths().count("a.dat") == FAST.stalls
    assert not (tmp_path / "a.dat").exists()


def test_default_times_leave_a_holding_server_within_a_minute():
    usual = Policy()
    assert usual.stalls * (max(usual.read, usual.slow_after) + 2 * usual.back_off) < 60


def test_silence_in_mid_file_ends_too(tmp_path, serve):
    server = serve(FILES)

    def stop_half_way(handler, body):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:1000])
        handler.wfile.flush()
        server.stopping.wait(10)
        return True

    server.faults["a.dat"] = [stop_half_way]
    fetch(tmp_path)
    assert (tmp_path / "a.dat").read_bytes() == BODY and server.ranges("a.dat") == [None, "bytes=1000-"]


def test_compressed_answers_are_decoded(tmp_path, serve):
    import gzip

    server = serve(FILES)
    server.faults["a.dat"] = [
        lambda handler, body: server.send(handler, 200, gzip.compress(body), {"Content-Encoding": "gzip"}) or True
    ]
    fetch(tmp_path)
    assert (tmp_path / "a.dat").read_bytes() == BODY


def test_second_source_takes_over(tmp_path, serve):
    first, second = serve(FILES), serve(FILES)
    first.faults["a.dat"] = [lambda handler, body: first.send(handler, 503, b"", {}) or True] * 50
    fetch(tmp_path, ["a.dat", "b.dat"])
    assert (tmp_path / "a.dat").read_bytes() == BODY
    assert first.paths().count("a.dat") == FAST.attempts and second.paths().count("a.dat") == 1


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


@pytest.mark.parametrize("address", ["no address", "ftp://127.0.0.1", "http://[half"])
def test_wrong_addresses_are_no_endless_attempts(tmp_path, monkeypatch, address):
    monkeypatch.setenv("SKECG_PHYSIONET_URL", address.replace(" ", "_"))
    with pytest.raises(DownloadError):
        fetch(tmp_path)


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
    with pytest.raises(OSError, match=r"1 files are missing from .*\(a\.dat\)") as caught:
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


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write into read-only folders")
def test_read_only_home_is_named(tmp_path, serve):
    serve(FILES)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match=r"mitdb cannot be downloaded .*set data_home"):
            fetch(tmp_path)
    finally:
        tmp_path.chmod(0o755)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_told_before_the_first_byte(tmp_path, serve, monkeypatch):
    serve(FILES)
    usage = type("usage", (), {"free": 1234})()
    monkeypatch.setattr("skecg.datasets._http.shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"bytes, 1,234 are free.*set data_home or SKECG_DATA"):
        fetch(tmp_path, ["sub/c.dat", "a.dat"])
    assert names(tmp_path) == []


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


def test_global_generator_is_not_drawn_from(tmp_path, serve):
    server = serve(FILES)
    server.faults["a.dat"] = [{"until": 10}]
    state = random.getstate()
    fetch(tmp_path)
    assert random.getstate() == state


def test_client_given_up_downloads_nothing_more(tmp_path, serve):
    server = serve(FILES)
    client = Client([f"{server.url}/mitdb/1.0.0"], FAST, resume=True)
    client.give_up(keep=False)
    with pytest.raises(DownloadError, match="given up"):
        client.fetch("a.dat", tmp_path / "a.dat", hashlib.sha256(BODY).hexdigest())
    assert server.requests == [] and list(tmp_path.iterdir()) == []


# A process that has imported everything once forks a child for each line it reads, so that a child costs no start.
_FORKER = """
import os, resource, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import requests, filelock, tqdm.auto
from skecg.datasets._databases import Database
from skecg.datasets._download import fetch_files
from skecg.datasets._http import Policy
database = Database("mitdb", "mitdb", "1.0.0", "A database", 360.0, ())
children = {}
for line in sys.stdin:
    command, *words = line.split()
    if command == "fetch":
        folder, limit, mask, names = words[0], int(words[1]), int(words[2], 8), words[3:]
        child = os.fork()
        if not child:
            status = 1
            try:
                os.umask(mask)
                if limit:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                fetch_files(Path(folder), names, database, verbose=0, policy=Policy(back_off=0.01))
                status = 0
            except OSError as error:
                sys.stderr.write(f"{type(error).__name__}: {error}")
                status = 2
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(child, flush=True)
    else:
        print(os.waitstatus_to_exitcode(os.waitpid(int(words[0]), 0)[1]), flush=True)
"""


class Forker:
    """Starts children that fetch, and waits for them."""

    def __init__(self, errors: Path) -> None:
        root = Path(__file__).parents[2]
        with errors.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _FORKER, str(root)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                bufsize=1,
            )

    def _say(self, *words: object) -> int:
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        return int(self.process.stdout.readline())

    def fetch(self, folder: Path, files, *, limit: int = 0, mask: str = "022") -> int:
        return self._say("fetch", folder, limit, mask, *files)

    def wait(self, child: int) -> int:
        return self._say("wait", child)


@pytest.fixture
def forker(tmp_path, serve):
    """Yield a function that starts a server and a process that forks fetching children."""
    if not hasattr(os, "fork"):
        pytest.skip("children are forked, which this system cannot")
    started: list[Forker] = []

    def start(files, **settings):
        server = serve(files, **settings)
        started.append(Forker(tmp_path / "errors.txt"))
        return server, started[0]

    yield start
    for one in started:
        one.process.stdin.close()
        one.process.wait(20)
        one.process.stdout.close()


def test_ten_kills_show_no_wrong_file_and_lose_nothing_that_arrived(tmp_path, forker, seed):
    rng = random.Random(seed)
    files = {f"{i:02}.dat": rng.randbytes(60_000) for i in range(20)}
    server, forks = forker(files)
    server.chunk, server.pause = 4096, 0.02  # 1.5 s in all, of which each child gets 0.06 s on average
    folder = tmp_path / "home"

    def whole():
        right = {name: (folder / name).read_bytes() == body for name, body in files.items() if (folder / name).exists()}
        assert all(right.values()), right
        return len(right)

    def partial():
        return {f"{path.name[:2]}.dat": path.stat().st_size for path in folder.glob("*.dat.*.part")}

    def check_resumed(left, begun):
        """Every byte that was on the disk at the kill is kept: the next request for the file begins behind it."""
        for name, size in left.items():
            offsets = [headers.get("Range") for path, headers in server.requests[begun:] if path == name]
            assert offsets[:1] in ([], [f"bytes={size}-" if size else None])

    left, begun, kept = {}, 0, 0
    for _ in range(10):
        child = forks.fetch(folder, files)
        deadline = time.monotonic() + 10
        while len(server.requests) <= begun and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.12))
        os.kill(child, signal.SIGKILL)
        assert forks.wait(child) == -signal.SIGKILL
        whole()
        check_resumed(left, begun)
        left, begun = partial(), len(server.requests)
        kept += sum(left.values())
    server.pause = 0.0
    assert forks.wait(forks.fetch(folder, files)) == 0
    check_resumed(left, begun)
    assert whole() == 20 and names(folder) == sorted(files) and kept > 0


def test_four_processes_ask_for_each_file_once(tmp_path, forker):
    files = {f"{i}.dat": os.urandom(20_000) for i in range(6)}
    server, forks = forker(files)
    server.pause = 0.02
    children = [forks.fetch(tmp_path / "home", files) for _ in range(4)]
    assert [forks.wait(child) for child in children] == [0, 0, 0, 0]
    assert sorted(server.paths()) == sorted([*files, "SHA256SUMS.txt"])
    for name, body in files.items():
        assert (tmp_path / "home" / name).read_bytes() == body


def test_disk_that_fills_up_leaves_nothing_half_written(tmp_path, forker):
    _, forks = forker({"a.dat": BODY, "b.dat": BODY[:500]})
    folder = tmp_path / "home"
    assert forks.wait(forks.fetch(folder, ["a.dat"], limit=100_000)) == 2
    message = (tmp_path / "errors.txt").read_text()
    assert "OSError" in message and str(folder) in message and "set data_home" in message
    assert names(folder) == []


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [("022", 0o644, 0o755), ("077", 0o600, 0o700)])
def test_modes_follow_the_umask(tmp_path, forker, mask, file_mode, folder_mode):
    _, forks = forker(FILES)
    folder = tmp_path / "home"
    assert forks.wait(forks.fetch(folder, ["a.dat", "sub/c.dat"], mask=mask)) == 0
    for path in (folder / "a.dat", folder / "sub" / "c.dat", folder / "SHA256SUMS.txt"):
        assert path.stat().st_mode & 0o777 == file_mode, path
    assert folder.stat().st_mode & 0o777 == folder_mode
