"""One file from a server that misbehaves: resumed, verified, or refused with nothing left behind."""

from __future__ import annotations

import email.utils
import hashlib
import random
import time

import pytest

from skecg.datasets._download import get_sources
from skecg.datasets._http import Client, DownloadError, Policy
from tests.datasets.downloads import BODY, DATABASE, FAST, FILES, fetch, names


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


@pytest.mark.parametrize("tag", ['"another"', None])
def test_rest_of_another_file_is_never_mixed_in(tmp_path, serve, tag):
    """A server that ignores If-Range answers 206 with the rest of a file that has changed."""
    server, other = serve(FILES), bytes(reversed(BODY))

    def rest_of_another(handler, body):
        (begin,) = (int(r.removeprefix("bytes=").removesuffix("-")) for r in server.ranges("a.dat")[-1:])
        headers = {"Content-Range": f"bytes {begin}-{len(body) - 1}/{len(body)}"} | ({"ETag": tag} if tag else {})
        server.send(handler, 206, other[begin:], headers)
        return True

    server.faults["a.dat"] = [{"until": 100_000}, rest_of_another]
    fetch(tmp_path)
    assert (tmp_path / "a.dat").read_bytes() == BODY and names(tmp_path) == ["a.dat"]
    assert server.ranges("a.dat")[-1] is None  # from the start


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


def test_server_that_asks_for_a_pause_is_left_alone_by_all_connections(tmp_path, serve):
    files = {f"{i}.dat": bytes([i]) * 2000 for i in range(40)}
    server = serve(files)
    moments, plain = [], server.answer

    def timed(handler):
        moments.append((time.monotonic(), handler.path.rpartition("/")[2]))
        time.sleep(0.05)  # all of them would take half a second
        plain(handler)

    server.answer = timed
    server.faults["0.dat"] = [lambda handler, body: server.send(handler, 429, b"", {"Retry-After": "1"}) or True]
    fetch(tmp_path, files)
    refused = next(moment for moment, name in moments if name == "0.dat")
    # Some may be on their way when the answer comes; from then on there is silence.
    assert [name for moment, name in moments if refused + 0.2 < moment < refused + 0.9] == []
    assert names(tmp_path) == sorted(files)


def test_pause_that_is_too_long_ends_the_attempts(tmp_path, serve):
    server = serve(FILES)
    server.faults["a.dat"] = [lambda handler, body: server.send(handler, 503, b"", {"Retry-After": "900"}) or True] * 9
    start = time.monotonic()
    with pytest.raises(DownloadError, match="the server answers 503 and asks to wait 900 s"):
        fetch(tmp_path)
    assert server.paths().count("a.dat") == 1 and time.monotonic() - start < 1.5


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


def test_default_times_leave_holding_servers_within_a_minute(monkeypatch):
    monkeypatch.delenv("SKECG_PHYSIONET_URL")
    usual, pauses = Policy(), 1.5
    once = max(usual.read, usual.slow_after)
    assert len(get_sources(DATABASE)) * (usual.stalls * once + (usual.stalls - 1) * pauses * usual.back_off) < 60


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


@pytest.mark.parametrize("how", ["refused", "page", "wrong"])
def test_second_source_has_what_the_first_refuses_or_has_wrong(tmp_path, serve, how):
    first, second = serve(FILES), serve(FILES)
    first.faults["a.dat"] = {
        "refused": [lambda handler, body: first.send(handler, 403, b"", {}) or True],
        "page": [{"body": b"<html>log in</html>", "type": "text/html"}],
        "wrong": [{"body": BODY[:-1] + b"x"}] * 2,
    }[how]
    fetch(tmp_path)
    assert (tmp_path / "a.dat").read_bytes() == BODY and names(tmp_path) == ["a.dat"]
    assert first.paths().count("a.dat") == (2 if how == "wrong" else 1) and second.paths() == ["a.dat"]


def test_refusal_is_what_is_told_when_the_second_source_has_nothing(tmp_path, serve):
    first, second = serve(FILES), serve(FILES)
    first.faults["a.dat"] = [lambda handler, body: first.send(handler, 403, b"", {}) or True]
    del second.files["a.dat"]
    with pytest.raises(DownloadError, match=r"refused \(403\).*PhysioNet account.*not found \(404\)"):
        fetch(tmp_path)


def test_server_that_refuses_everything_is_not_asked_for_every_file(tmp_path, serve):
    files = {f"{i}.dat": b"x" for i in range(80)}
    server = serve(files)
    for name in files:
        server.faults[name] = [lambda handler, body: server.send(handler, 403, b"", {}) or True]
    with pytest.raises(DownloadError, match="80 files are missing"):
        fetch(tmp_path, files)
    assert len(server.requests) <= 1 + FAST.refusals + FAST.connections


@pytest.mark.parametrize("address", ["no address", "ftp://127.0.0.1", "http://[half"])
def test_wrong_addresses_are_no_endless_attempts(tmp_path, monkeypatch, address):
    monkeypatch.setenv("SKECG_PHYSIONET_URL", address.replace(" ", "_"))
    with pytest.raises(DownloadError):
        fetch(tmp_path)


def test_full_disk_is_told_before_the_first_byte(tmp_path, serve, monkeypatch):
    serve(FILES)
    usage = type("usage", (), {"free": 1234})()
    monkeypatch.setattr("skecg.datasets._http.shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"bytes, 1,234 are free.*set data_home or SKECG_DATA"):
        fetch(tmp_path, ["sub/c.dat", "a.dat"])
    assert names(tmp_path) in ([], ["sub/c.dat"])  # the small one fits


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
