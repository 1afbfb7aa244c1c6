"""Faults 1 to 25 of records and downloads, as a user meets them: through fetchers and read_record alone."""

from __future__ import annotations

import os
import stat
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import wfdb

from skecg.datasets import fetch_mitdb, fetch_physionet, iter_windows, read_record
from tests.datasets.conftest import sums_of
from tests.datasets.twelve import need

NAMES = ("1", "2", "3")


@pytest.fixture
def strange(write_record, serve, tmp_path):
    """Return a server of three records of a database nobody named, the samples, and an empty home."""
    digital = {name: write_record(tmp_path / "source", name, n=2000, seed=int(name)) for name in NAMES}
    files = {path.name: path.read_bytes() for path in sorted((tmp_path / "source").iterdir())}
    files["RECORDS"] = "".join(f"{name}\n" for name in NAMES).encode()
    return serve(files, prefix="/strange/1.0.0/"), digital, tmp_path / "home"


def get(home, records=None, **settings):
    return fetch_physionet("strange", records, version="1.0.0", data_home=home, verbose=0, **settings)


def check(result, digital, names=NAMES):
    assert result.record.tolist() == list(names)
    for path, name in zip(result.paths, names, strict=True):
        np.testing.assert_allclose(read_record(path).data, (digital[name].T - 1024) / 200, atol=1e-5)


def complete_files(home):
    """Return the files below a folder that carry a record's name, whole or not."""
    return sorted(path.name for path in home.rglob("*") if path.suffix in {".dat", ".hea", ".atr"})


def drop(share):
    def fault(handler, body):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("ETag", '"a"')
        handler.end_headers()
        handler.wfile.write(body[: int(share * len(body))])
        handler.close_connection = True
        handler.connection.shutdown(2)
        return True

    return fault


def status(code, **headers):
    def fault(handler, body):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return fault


@pytest.mark.parametrize(
    "faults",
    [
        [{"until": 3000}],  # 1: resumed
        [{"until": 3000}, {"ranges": False}],  # 2: the range is ignored
        [{"until": 3000}, {"skip": 7}],  # 3: another start
        [{"until": 3000, "tag": '"old"'}],  # 3: another ETag
        [drop(0.5)],
        [{"body": b"x" * 6000}],  # 4: wrong bytes of the right length, once
        [status(500), status(500)],  # 7
        [status(429, Retry_After="1")],
    ],
    ids=["drop", "range ignored", "other start", "other tag", "cut", "wrong once", "500 500", "429"],
)
def test_what_passes_ends_in_the_right_bytes(faults, strange):
    server, digital, home = strange
    assert len(server.files["2.dat"]) == 6000
    server.faults["2.dat"] = list(faults)
    check(get(home), digital)
    if faults == [{"until": 3000}]:
        assert server.ranges("2.dat") == [None, "bytes=3000-"]
    asked = len(server.requests)
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    check(get(home), digital)  # complete: nothing is asked for and nothing written
    assert len(server.requests) == asked
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"body": b"x" * 6000}, r"2\.dat"),  # 4
        ({"body": b"<html>login</html>", "type": "text/html"}, "account|maintenance"),  # 5
        (status(404), r"2\.dat"),  # 6
        (status(403), "account"),
    ],
    ids=["wrong bytes", "login page", "404", "403"],
)
def test_what_does_not_pass_names_the_file_and_keeps_the_others(fault, message, strange):
    server, digital, home = strange
    server.faults["2.dat"] = [fault] * 20
    with pytest.raises(OSError, match=message):
        get(home)
    assert "2.dat" not in complete_files(home)
    asked = server.paths().count("2.dat")
    assert asked <= 2  # wrong bytes once more, what will not pass not again
    if message != r"2\.dat" or callable(fault):
        assert asked == 1
    with pytest.warns(UserWarning, match=r"2"):
        rest = get(home, on_error="warn")
    check(rest, digital, ("1", "3"))
    assert set(rest.skipped) == {"2"}
    server.faults["2.dat"] = []
    check(get(home), digital)  # the next call completes the rest
    assert server.paths().count("1.dat") == 1


def test_only_what_was_asked_for_is_downloaded(strange):
    server, digital, home = strange
    check(get(home, ["3"]), digital, ("3",))
    assert complete_files(home) == ["3.dat", "3.hea"]
    asked = len(server.requests)
    check(get(home, "local"), digital, ("3",))
    assert len(server.requests) == asked


@pytest.mark.skipif(os.name != "posix", reason="modes are a matter of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_have_the_modes_of_the_umask(umask, strange):
    _, _, home = strange
    old = os.umask(umask)
    try:
        get(home)
    finally:
        os.umask(old)
    for path in home.rglob("*.dat"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize(
    "line",
    [f"{'0' * 64} ../evil.dat", f"{'0' * 64} /evil.dat", f"{'0' * 63} x.dat", "<html>", "", f"{'0' * 64} a\\..\\evil"],
    ids=["parent", "absolute", "63", "html", "empty", "backslash"],
)
def test_a_list_of_sums_that_cannot_be_right(line, strange):
    server, _, home = strange
    server.files["SHA256SUMS.txt"] = line.encode()
    parent = {path.name for path in home.parent.iterdir()}
    with pytest.raises((ValueError, OSError), match="SHA256SUMS"):
        get(home)
    assert complete_files(home) == [] and {path.name for path in home.parent.iterdir()} - {"home"} == parent - {"home"}


@pytest.mark.parametrize("name", ["../../x", "s3://bucket/x", "/etc/x", "a::b", "~/x"])
def test_names_that_lead_elsewhere_are_refused(name, strange):
    server, _, home = strange
    with pytest.raises(ValueError):
        get(home, [name])
    with pytest.raises(ValueError):
        fetch_physionet(name, version="1.0.0", data_home=home, verbose=0)
    assert not any("bucket" in path or ".." in path or "etc" in path for path in server.paths())


def test_records_that_the_list_of_records_only_claims(strange):
    server, digital, home = strange
    server.files["RECORDS"] = b"1\n2\n3\n4\n"
    server.files["SHA256SUMS.txt"] = sums_of({k: v for k, v in server.files.items() if k != "SHA256SUMS.txt"})
    result = get(home)
    check(result, digital)
    assert result.n_unlisted == 1


@pytest.mark.parametrize("fmt", ["212", "16", "80", "24", "32", "61", "160", "310", "311"])
def test_a_cut_signal_names_file_and_bytes(fmt, write_record, tmp_path):
    write_record(tmp_path, "c", n=600, fmt=fmt)
    whole = (tmp_path / "c.dat").read_bytes()
    assert read_record(tmp_path / "c").data.shape == (2, 600)
    for cut in (1, 2, 3, len(whole) // 2, len(whole)):
        (tmp_path / "c.dat").write_bytes(whole[: len(whole) - cut])
        with pytest.raises(ValueError, match=rf"c\.dat.*\b{len(whole) - cut:,}\b"):
            read_record(tmp_path / "c")


@pytest.mark.parametrize("fmt", ["212", "16", "80"])
def test_a_flipped_bit_is_found(fmt, write_record, tmp_path, rng):
    write_record(tmp_path, "f", n=600, fmt=fmt)
    whole, good = (tmp_path / "f.dat").read_bytes(), read_record(tmp_path / "f").data
    for bit in rng.integers(0, 8 * len(whole), 15):
        bad = bytearray(whole)
        bad[bit // 8] ^= 1 << (bit % 8)
        (tmp_path / "f.dat").write_bytes(bytes(bad))
        with pytest.raises(ValueError, match=r"f\.dat"):
            read_record(tmp_path / "f")
    with pytest.warns(UserWarning, match=r"f\.dat"):
        record = read_record(tmp_path / "f", on_error="warn")
    assert not record.verified and record.data.shape == good.shape


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_no_length_and_a_cut_signal_is_never_silent(write_record, tmp_path):
    write_record(tmp_path, "n", n=600, fmt="16")
    edit(tmp_path / "n.hea", "n 2 360 600", "n 2 360")
    body = (tmp_path / "n.dat").read_bytes()
    for cut in (1, 400, len(body)):
        (tmp_path / "n.dat").write_bytes(body[: len(body) - cut])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                read_record(tmp_path / "n")
            except ValueError as error:
                said = [str(error)]
            else:
                said = [str(w.message) for w in caught]
        assert any("n.dat" in message or "n.hea" in message for message in said)


def test_units_and_gains(write_record, tmp_path):
    digital = write_record(tmp_path, "u", n=600, fmt="16").T
    whole = (tmp_path / "u.hea").read_text()
    mv = (digital - 1024) / 200

    def read(new):
        (tmp_path / "u.hea").write_text(whole.replace("200.0(1024)/mV", new).replace("200(1024)/mV", new))
        assert new in (tmp_path / "u.hea").read_text()
        return read_record(tmp_path / "u").data

    np.testing.assert_allclose(read("200(1024)/V"), 1000 * mv, rtol=1e-5)
    np.testing.assert_allclose(read("200(1024)/uV"), mv / 1000, rtol=1e-5)
    with pytest.warns(UserWarning, match="gain|calibrated"):
        np.testing.assert_allclose(read("0(1024)/mV"), mv, rtol=1e-5)
    for bad in ("nan(1024)/mV", "1e-320(1024)/mV", "inf(1024)/mV", "200(1024)/mmHg", "200(99999999999)/mV"):
        with pytest.raises(ValueError, match=r"u\.hea|record u"):
            read(bad)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(("2 360 600", f"2 {fs} 600") for fs in ("0", "-360", "nan", "abc", "1e9", "inf")),  # 20
        ("2 360 600", "2"),
        ("2 360 600", "100000000 360 600"),  # 21
        ("2 360 600", "2 360 100000000000"),
        ("2 360 600", "3 360 600"),
        ("2 360 600", "1 360 600"),
        (".dat 16 ", ".dat 16:100000000 "),
        (".dat 16 ", ".dat 16x1000000 "),
        (".dat 16 ", ".dat 213 "),
        ("h.dat", "../h.dat"),
    ],
)
def test_headers_that_cannot_be_right_are_refused_at_once(old, new, write_record, tmp_path):
    write_record(tmp_path, "h", n=600, fmt="16")
    edit(tmp_path / "h.hea", old, new)
    began = time.process_time()
    with pytest.raises(ValueError, match=r"h\.hea|h\.dat|record h"):
        read_record(tmp_path / "h")
    assert time.process_time() - began < 1


@pytest.mark.parametrize("text", ["", "# only\n", "<html></html>", "s/2 2 360 600\ns 300\ns 300\n"])
def test_headers_that_are_none(text, tmp_path):
    (tmp_path / "s.hea").write_text(text)
    with pytest.raises(ValueError, match="s"):
        read_record(tmp_path / "s")


def test_annotations_that_are_damaged(write_record, tmp_path):
    beats = tuple((100 * i + 50, "N") for i in range(20))
    write_record(tmp_path, "a", n=3600, beats=beats)
    path = tmp_path / "a.atr"
    whole = path.read_bytes()
    for body in (whole[:-1], b"<html><body>login</body></html>\n", b"\x00\xec\xff\xff\xf0\xd8" + whole):
        path.write_bytes(body)
        with pytest.raises(ValueError, match=r"a\.atr"):
            read_record(tmp_path / "a", annotator="atr")
    path.write_bytes(b"")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            n = len(read_record(tmp_path / "a", annotator="atr").sample)
        except ValueError as error:
            assert "a.atr" in str(error)
        else:
            assert n == 0 and any("a.atr" in str(w.message) for w in caught)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.atr"):
        read_record(tmp_path / "a", annotator="atr")
    wfdb.wrann("a", "atr", np.array([50, 3599, 3600, 9000]), symbol=np.array(["N"] * 4), write_dir=str(tmp_path))
    with pytest.warns(UserWarning, match=r"2 annotations of a\.atr") as caught:
        record = read_record(tmp_path / "a", annotator="atr")
    assert record.sample.tolist() == [50, 3599] and len(caught) == 1


def test_an_unknown_note_at_the_start_does_not_hang(write_record, tmp_path):
    write_record(tmp_path, "x", n=3600)
    notes = ["## x", ""]
    wfdb.wrann("x", "atr", np.array([0, 500]), np.array(['"', "N"]), aux_note=notes, write_dir=str(tmp_path))
    began = time.process_time()
    record = read_record(tmp_path / "x", annotator="atr")
    assert time.process_time() - began < 1
    assert 500 in record.sample.tolist()


def test_one_bad_record_of_ten_loses_no_other(write_record, tmp_path):
    names = [str(name) for name in (100, 101, 103, 105, 106, 108, 109, 111, 112, 113)]
    for name in names:
        write_record(tmp_path / "mitdb", name, beats=((1000, "N"), (2000, "V")), seed=int(name))
    body = (tmp_path / "mitdb" / "106.dat").read_bytes()
    (tmp_path / "mitdb" / "106.dat").write_bytes(body[:-300])
    settings = {"data_home": tmp_path, "records": names, "classes": ("N", "PVC"), "verbose": 0}
    with pytest.raises(ValueError, match=r"106\.dat"):
        fetch_mitdb(**settings, download_if_missing=False)
    with pytest.warns(UserWarning, match="106") as caught:
        bunch = fetch_mitdb(**settings, download_if_missing=False, on_error="warn")
    assert len(caught) == 1 and set(bunch.skipped) == {"106"}
    assert list(dict.fromkeys(bunch.record.tolist())) == [name for name in names if name != "106"]
    assert len(bunch.target) == 18


def test_windows_of_a_record_are_those_of_the_whole(real_data):
    path = real_data / "mitdb" / "100"
    whole = read_record(path, annotator="atr")
    part = read_record(path, sampfrom=1000, sampto=5321, leads=["V5"], annotator="atr")
    np.testing.assert_array_equal(part.data[0], whole.data[1, 1000:5321])
    inside = (whole.sample >= 1000) & (whole.sample < 5321)
    np.testing.assert_array_equal(part.sample, whole.sample[inside])
    batches = list(iter_windows(path, window=10, stride=7, annotator="atr", batch_size=50))
    starts = np.concatenate([batch.start for batch in batches])
    np.testing.assert_array_equal(starts, np.arange(0, 650000 - 3600 + 1, 2520))
    assert [batch.verified for batch in batches] == [False] * (len(batches) - 1) + [True]
    for batch in batches[::2]:
        expected = np.stack([whole.data[:, s : s + 3600] for s in batch.start])
        np.testing.assert_array_equal(batch.data, expected)
        for s, marks in zip(batch.start, batch.annotations, strict=True):
            inside = (whole.sample >= s) & (whole.sample < s + 3600)
            np.testing.assert_array_equal(marks.sample, whole.sample[inside])
            assert marks.symbol.tolist() == whole.symbol[inside].tolist()


def test_broken_records_are_told_not_guessed(real_data):
    folder = need(real_data, "broken")
    for name in ("100m", "100s"):
        with pytest.warns(UserWarning, match="gain|calibrated"):
            record = read_record(folder / name, on_error="warn")
        assert record.gain == [200.0, 200.0] and record.data.shape == (2, {"100m": 410, "100s": 409}[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(FileNotFoundError, match=r"100m\.atr"):
            read_record(folder / "100m", annotator="atr", on_error="warn")


@pytest.mark.parametrize("records", [None, "local"])
def test_records_come_in_the_order_of_the_databases_list(records, write_record, tmp_path):
    for name in ("1", "2", "10"):
        write_record(tmp_path / "listed" / "1.0.0" / "data", name, n=700)
    (tmp_path / "listed" / "1.0.0" / "RECORDS").write_text("data/1\ndata/2\ndata/10\n")
    settings = {"version": "1.0.0", "data_home": tmp_path, "download_if_missing": False, "verbose": 0}
    result = fetch_physionet("listed", records, **settings)
    assert result.record.tolist() == ["data/1", "data/2", "data/10"]
