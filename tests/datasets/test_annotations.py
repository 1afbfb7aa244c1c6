"""Annotation files: equal to wfdb where it is right, refused where it hangs or invents annotations."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skecg.datasets._annotations import _CODES, decode_annotations, read_annotations

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")  # pandas 3 deprecates what wfdb calls
PATH = Path("folder/100.atr")


def words(*values):
    return struct.pack(f"<{len(values)}H", *values)


def mark(code, step):
    return words(code << 10 | step)


def skip(samples):
    low, high = samples & 0xFFFF, samples >> 16 & 0xFFFF
    return words(59 << 10, high, low)


def text(note):
    body = note.encode("latin-1")
    return words(63 << 10 | len(body)) + body + b"\0" * (len(body) % 2)


END = words(0)


def test_a_file_written_by_hand():
    content = mark(28, 18) + text("(AFIB\0") + mark(1, 59) + skip(70_000) + mark(5, 7) + END
    found = decode_annotations(content, PATH)
    assert found.sample.tolist() == [18, 77, 70_084] and found.symbol.tolist() == ["+", "N", "V"]
    assert found.aux_note.tolist() == ["(AFIB", "", ""] and found.fs is None
    assert found.sample.dtype == np.int64


def test_further_fields_stay_or_lapse_as_the_manual_says():
    fields = words(60 << 10 | 3, 61 << 10 | 255, 62 << 10 | 200)
    found = decode_annotations(mark(1, 1) + fields + mark(1, 1) + mark(1, 1) + words(60 << 10 | 1) + END, PATH)
    assert found.num.tolist() == [3, 3, 1]
    assert found.chan.tolist() == [200, 200, 200]
    assert found.subtype.tolist() == [-1, 0, 0]


def test_negative_intervals_within_an_annotation_are_fine():
    found = decode_annotations(mark(1, 100) + skip(-50) + mark(1, 60) + END, PATH)
    assert found.sample.tolist() == [100, 110]


def test_marks_of_code_0_move_time_and_are_no_annotations():
    found = decode_annotations(mark(1, 10) + mark(0, 5) + mark(5, 1) + END, PATH)
    assert found.sample.tolist() == [10, 16] and found.symbol.tolist() == ["N", "V"]


def test_end_mark_alone_is_no_annotations():
    assert len(decode_annotations(END, PATH).sample) == 0
    assert len(decode_annotations(END + b"\0" * 510, PATH).sample) == 0


def test_definitions_at_sample_0():
    head = b"".join(
        mark(22, 0) + text(note)
        for note in (
            "## time resolution: 257.5",
            "## annotation type definitions",
            "43 ZZ a kind of one's own",
            "## end of definitions",
        )
    )
    found = decode_annotations(head + mark(43, 4) + END, PATH)
    assert found.fs == 257.5 and found.symbol.tolist() == ["ZZ"] and found.sample.tolist() == [4]


def test_a_comment_at_sample_0_that_defines_nothing_stays():
    found = decode_annotations(mark(22, 0) + text("TS") + mark(1, 4) + END, PATH)
    assert found.symbol.tolist() == ['"', "N"] and found.aux_note.tolist() == ["TS", ""]


@pytest.mark.parametrize("note", ["## hello", "## time resolutiXn: 360", "## "])
def test_what_makes_wfdb_loop_for_ever_is_read_at_once(note):
    start = time.process_time()
    found = decode_annotations(mark(22, 0) + text(note) + mark(1, 4) + END, PATH)
    assert found.symbol.tolist() == ["N"] and found.fs is None
    assert time.process_time() - start < 1


HTML = b"<!DOCTYPE html><html><body>Please log in.</body></html>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (HTML, "web page"),
        (mark(1, 5) + END + b"\0", "odd number of bytes"),
        (mark(1, 5), "does not end with its end mark"),
        (mark(1, 5) + END + mark(1, 5), "2 bytes follow its end mark"),
        (mark(1, 5) + words(63 << 10 | 200) + b"ab" + END, "goes on beyond the end"),
        (mark(1, 5) + words(63 << 10 | 300) + b"a" * 300 + END, "text of 300 bytes"),
        (mark(1, 5) + words(59 << 10, 0), "goes on beyond the end"),
        (mark(1, 5) + skip(-100) + mark(1, 5) + END, "run backwards"),
        (skip(-100) + mark(1, 5) + END, "run backwards"),
        (text("note") + mark(1, 5) + END, "text that belongs to no annotation"),
        (words(62 << 10 | 1) + mark(1, 5) + END, "chan that belongs to no annotation"),
        (mark(1, 5) + mark(50, 5) + END, "of no known kind, the first of code 50 at sample 10"),
        (mark(22, 0) + text("## annotation type definitions") + mark(1, 5) + END, "definitions .* do not end"),
        (mark(22, 0) + text("## annotation type definitions") + mark(22, 0) + text("x") + END, "'x' defines no kind"),
    ],
)
def test_what_is_no_annotation_file_is_refused_with_the_reason(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        decode_annotations(content, PATH)
    assert str(PATH) in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"100\.atr is missing"):
        read_annotations(tmp_path / "100.atr")


def test_codes_are_wfdb_s():
    from wfdb.io.annotation import ann_label_table as table

    assert dict(zip(table.label_store, table.symbol, strict=True)) == {0: " "} | _CODES


@settings(max_examples=20, deadline=None)
@given(data=st.data(), n=st.integers(1, 12))
def test_what_wfdb_writes_is_read_as_wfdb_reads_it(tmp_path_factory, data, n):
    import wfdb

    folder = tmp_path_factory.mktemp("annotations")
    sample = np.cumsum(data.draw(st.lists(st.integers(1, 3_000_000), min_size=n, max_size=n)))
    note = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=9).filter(lambda s: s[:2] != "##")
    values = {
        "symbol": data.draw(st.lists(st.sampled_from(list(_CODES.values())), min_size=n, max_size=n)),
        "aux_note": data.draw(st.lists(note, min_size=n, max_size=n)),
        "subtype": np.array(data.draw(st.lists(st.integers(-128, 127), min_size=n, max_size=n))),
        "chan": np.array(data.draw(st.lists(st.integers(0, 255), min_size=n, max_size=n))),
        "num": np.array(data.draw(st.lists(st.integers(0, 127), min_size=n, max_size=n))),
    }
    wfdb.wrann("100", "atr", sample, **values, fs=360, write_dir=str(folder))
    theirs, ours = wfdb.rdann(str(folder / "100"), "atr"), read_annotations(folder / "100.atr")
    assert ours.fs == 360 and ours.sample.tolist() == theirs.sample.tolist() == sample.tolist()
    for name in values:
        assert list(ours[name]) == list(getattr(theirs, name)), name


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_files_are_read_or_refused_at_once(data):
    head = mark(22, 0) + text("## time resolution: 360")
    good = head + mark(28, 5) + text("(N") + skip(9999) + mark(1, 1) + END
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    start = time.process_time()
    try:
        found = decode_annotations(content, PATH)
    except ValueError as error:
        assert str(PATH) in str(error)
    else:
        assert (np.diff(found.sample) >= 0).all() and all(found.symbol)
    assert time.process_time() - start < 1


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=400))
def test_random_bytes_are_refused_but_for_their_own_chance(content):
    try:
        found = decode_annotations(content, PATH)
    except ValueError:
        return
    assert content.endswith(b"\0\0") and len(found.sample) <= len(content) // 2


@pytest.mark.parametrize(("database", "annotator"), [("mitdb", "atr"), ("vfdb", "atr"), ("ludb/data", "avf")])
def test_real_files_are_read_as_wfdb_reads_them(real_data, database, annotator):
    import wfdb

    paths = sorted((real_data / database).glob(f"*.{annotator}"))[:12]
    if not paths:
        pytest.skip(f"{database} is not in SKECG_DATA")
    for path in paths:
        theirs, ours = wfdb.rdann(str(path.with_suffix("")), annotator), read_annotations(path)
        assert ours.sample.tolist() == theirs.sample.tolist() and list(ours.symbol) == theirs.symbol
        assert list(ours.aux_note) == [note.rstrip("\0") for note in theirs.aux_note]
        for name in ("subtype", "chan", "num"):
            assert ours[name].tolist() == getattr(theirs, name).tolist()
