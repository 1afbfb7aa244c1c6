"""Headers: everything that wfdb replaces without a word is an error or a warning."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skecg.datasets._headers import FORMATS, n_bytes, parse_header, read_header

PATH = Path("folder/100.hea")
GOOD = (
    "100 2 360 650000\r\n"
    "100.dat 212 200 11 1024 995 -22131 0 MLII\r\n"
    "100.dat 212 200 11 1024 1011 20052 0 V5\r\n"
    "# 69 M 1085 1629 x1\r\n"
)


def test_header_of_mitdb():
    header = parse_header(GOOD, PATH)
    assert (header.record, header.fs, header.n_timesteps) == ("100", 360.0, 650_000)
    assert header.lead_names == ["MLII", "V5"] and header.comments == ("69 M 1085 1629 x1",)
    first = header.signals[0]
    assert (first.gain, first.baseline, first.units) == (200.0, 1024, "mV")  # no baseline: the converter's zero
    assert (first.initial, first.checksum, first.file) == (995, -22131, "100.dat")
    assert header.warnings == []


def test_header_with_everything_in_it():
    text = "100 1 500/1000(2.5) 7500 12:33:59.25 12/05/2020\n100.mat 16x2:3+24 1000.5(-7)/uV 16 3 28 63820 0 lead 1\n"
    header = parse_header(text, PATH)
    s = header.signals[0]
    assert (header.fs, header.start) == (500.0, "12:33:59.25 12/05/2020")
    assert (s.fmt, s.per_frame, s.skew, s.offset) == (16, 2, 3, 24)
    assert (s.gain, s.baseline, s.units, s.initial, s.checksum, s.name) == (1000.5, -7, "uV", 28, 63820, "lead 1")
    assert header.warnings == []


def test_short_signal_lines_take_the_manual_s_defaults():
    header = parse_header("100 1 360 10\n100.dat 16\n", PATH)
    s = header.signals[0]
    assert (s.gain, s.baseline, s.units, s.checksum, s.initial, s.name) == (200.0, 0, "mV", None, None, "signal 0")
    assert header.warnings == [
        "signal 0 has no name",
        "lead signal 0 is not calibrated (gain 0): 200 units per mV are taken",
    ]


def test_challenge_headers_may_name_the_record_by_its_signal_file():
    lines = ["E07521.mat 1 500 5000", "E07521.mat 16+24 1000/mV 16 0 28 -1716 0 I", "#Age: 61", "# Dx: 164889003"]
    header = parse_header("\n".join(lines), Path("E07521.hea"))
    assert header.record == "E07521" and header.warnings == [] and header.comments == ("Age: 61", "Dx: 164889003")
    other = parse_header("\n".join(lines).replace("E07521.mat 16", "E07521.dat 16"), Path("E07521.hea"))
    assert other.warnings == ["its header calls the record 'E07521.mat'"]


def edit(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("# nothing\n#\n", "nothing but comments"),
        ("<!DOCTYPE html>\n<p>log in</p>\n", "web page"),
        ("100\n", "expected name, number of signals"),
        ("100 0\n", "no sampling rate"),
        (GOOD.encode("utf-16").decode("latin-1"), "not a valid WFDB header"),
        (edit("MLII", "ML\0II"), "control characters"),
        (edit("MLII", "ML\x1b[31mII"), "control characters"),
        (edit("100 2 360", "101 2 360"), "describes the record '101', not '100'"),
        (edit("100 2", "100/3 2"), "segments"),
        (edit("100 2", "100 3"), "announces 3 signals, but 2 are described"),
        (edit("100 2", "100 1"), "announces 1 signals, but 2 are described"),
        (edit("100 2", "100 99999999"), "announces 99999999 signals"),
        (edit("100 2", "100 -2"), "announces -2 signals"),
        (edit("360 ", "0 "), "sampling rate is '0'"),
        (edit("360 ", "-360 "), "sampling rate is '-360'"),
        (edit("360 ", "abc "), "sampling rate is 'abc'"),
        (edit("360 ", "nan "), "sampling rate is 'nan'"),
        (edit("360 ", "inf "), "sampling rate is 'inf'"),
        (edit("360 ", "1e9 "), "sampling rate is '1e9'"),
        (edit(" 360 650000", ""), "no sampling rate"),
        (edit("360 ", "360/ "), "sampling rate is '360/'"),
        (edit("360 ", "36/x0 "), "sampling rate is '36/x0'"),
        (edit("650000", "1e3"), "number of samples is '1e3'"),
        (edit("650000", "-5"), "announces -5 samples"),
        (edit("650000", "abc"), "number of samples is 'abc'"),
        (edit("650000", "9223372036854775808"), "number of samples is"),
        (edit("650000", "99999999999999"), "samples a signal"),
        (edit("100.dat 212 200 11 1024 995", "../x.dat 212 200 11 1024 995"), "plain name of a file"),
        (edit("100.dat 212 200 11 1024 995", "/etc/x 212 200 11 1024 995"), "plain name of a file"),
        (edit("100.dat 212 200 11 1024 995", "s3://b/x 212 200 11 1024 995"), "plain name of a file"),
        (edit("100.dat 212 200 11 1024 995", "C:\\x 212 200 11 1024 995"), "plain name of a file"),
        (edit("212 200 11 1024 995", "213 200 11 1024 995"), "has format '213'; known are"),
        (edit("212 200 11 1024 995", "212x0 200 11 1024 995"), "0 samples a frame"),
        (edit("212 200 11 1024 995", "212x1000000 200 11 1024 995"), "1000000 samples a frame"),
        (edit("212 200 11 1024 995", "212x-1 200 11 1024 995"), "has format '212x-1'"),
        (edit("212 200 11 1024 995", "212:99999999 200 11 1024 995"), "skewed by"),
        (edit("212 200 11 1024 995", "212:-3 200 11 1024 995"), "has format '212:-3'"),
        (edit("212 200 11 1024 995", "16 200 11 1024 995"), "different formats"),
        (edit("212 200 11 1024 995", "212+4 200 11 1024 995"), "different formats or byte offsets"),
        (edit("212 200 11 1024 995", "212 nan 11 1024 995"), "has gain 'nan'"),
        (edit("212 200 11 1024 995", "212 1e400 11 1024 995"), "gain 1e400, which no converter has"),
        (edit("212 200 11 1024 995", "212 1e-320 11 1024 995"), "gain 1e-320, which no converter has"),
        (edit("212 200 11 1024 995", "212 200(99999999999)/mV 11 1024 995"), "beyond 32 bits"),
        (edit("200 11 1024 995", "200 11 MLII 995"), "ADC zero of signal 0 is 'MLII'"),
        (edit("995 -22131", "995 x22131"), "checksum of signal 0 is 'x22131'"),
    ],
)
def test_what_is_no_header_is_refused_with_the_reason(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_header(text, PATH)
    assert str(PATH) in str(caught.value)


def test_signals_of_one_file_must_follow_one_another():
    lines = [f"{file} 16 200 16 0 0 0 0 {name}" for file, name in (("a.dat", "I"), ("b.dat", "II"), ("a.dat", "III"))]
    with pytest.raises(ValueError, match=r"signals of a\.dat do not follow one another"):
        parse_header("\n".join(["100 3 360 10", *lines]), PATH)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (edit("212 200 11 1024 995", "212 0 11 1024 995"), "lead MLII is not calibrated"),
        (edit("212 200 11 1024 995", "212 -200 11 1024 995"), "lead MLII has the negative gain -200"),
        (edit("100 2 360", "100.mat 2 360"), "calls the record '100.mat'"),
        (edit("650000", "650000 yesterday"), "start time 'yesterday'"),
        (edit("650000", "650000 25:00:00"), "start time '25:00:00'"),
        (edit("650000", "650000 12:00:00 45/01/2001"), "start time '12:00:00 45/01/2001'"),
        (edit("MLII", "M,II"), "no lead that is known is called 'M,II'"),
        (edit("0 V5", "0"), "signal 1 has no name"),
    ],
)
def test_what_is_odd_is_noted(text, warning):
    assert warning in " ".join(parse_header(text, PATH).warnings)


@pytest.mark.parametrize(
    "start", ["11:00:00", "0:0:0 01/01/1990", "12-May-2020 12:33:59", "31-Feb-2020 12:00:00", "59:59.5"]
)
def test_dates_that_wfdb_refuses_are_no_obstacle(start):
    header = parse_header(edit("650000", f"650000 {start}"), PATH)
    assert header.start == start and header.warnings == []


@pytest.mark.parametrize(
    "name",
    ["I", "aVR", "AVF", "-aVR", "v6", "V3R", "MLIII", "mod.V1", "CM5", "D3", "ECG", "ECG1", "ECG lead 2", "V4-V5",
     "vx", "DII", "ECG II", "MCL1", "ML2", "ABP", "EEG Fpz-Cz", "lead II", "ch 1", "signal_0"],
)  # fmt: skip
def test_names_of_the_databases_are_known(name):
    assert parse_header(edit("MLII", name), PATH).warnings == []


@pytest.mark.parametrize("name", ["MIII", "V", "V55", "LII", "aV", "0", "M5", "1e-320"])
def test_names_that_no_database_has_are_noted(name):
    header = parse_header(edit("MLII", name), PATH)
    assert header.lead_names == [name, "V5"]
    assert header.warnings == [f"no lead that is known is called '{name}'"]


def test_length_of_zero_or_none_is_unknown():
    assert parse_header(edit(" 650000", ""), PATH).n_timesteps is None
    assert parse_header(edit(" 650000", " 0"), PATH).n_timesteps is None


def test_missing_header_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"100\.hea is missing"):
        read_header(tmp_path / "100.hea")


def test_huge_header_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "100.hea"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    start = time.process_time()
    with pytest.raises(ValueError, match="more than 1,048,576 bytes"):
        read_header(path)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("fmt", [fmt for fmt, size in FORMATS.items() if size])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 1000])
def test_sizes_are_those_that_wfdb_reads(fmt, n):
    from wfdb.io._signal import _required_byte_num

    assert n_bytes(fmt, n) == _required_byte_num("read", str(fmt), n)


@settings(max_examples=300, deadline=None)
@given(
    where=st.integers(0, len(GOOD)),
    length=st.integers(0, 3),
    new=st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=3),
)
def test_mutated_headers_are_read_or_refused_at_once(where, length, new):
    start = time.process_time()
    try:
        header = parse_header(GOOD[:where] + new + GOOD[where + length :], PATH)
    except ValueError as error:
        assert str(PATH) in str(error)
    else:
        assert header.record == "100" and 1 <= header.fs <= 100_000 and len(header.signals) <= 256
    assert time.process_time() - start < 1
