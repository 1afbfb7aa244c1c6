"""Damaged records never give other samples without a word; real records give what wfdb reads."""

from __future__ import annotations

import os
import re
import resource
import sys
import time
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skecg.datasets import read_record
from skecg.datasets._headers import FORMATS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")  # pandas 3 deprecates what wfdb calls

def change_header(folder, *edits, name="100"):
    """Replace texts of a header, each of which must be there."""
    path = folder / f"{name}.hea"
    header = path.read_text()
    for pattern, new in edits:
        assert re.search(pattern, header), pattern
        header = re.sub(pattern, new, header)
    path.write_text(header)


def quiet(path, **settings_):
    """Read without the warnings that a test is not about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_record(path, **settings_)


@pytest.mark.parametrize("fmt", ["16", "24", "32", "61", "80", "160", "212", "310", "311"])
@pytest.mark.parametrize("cut", ["1", "2", "3", "half", "all"])
def test_truncated_signals_are_refused_with_both_sizes(tmp_path, write_record, fmt, cut):
    write_record(tmp_path, fmt=fmt)
    path = tmp_path / "100.dat"
    samples, group = FORMATS[int(fmt)]
    need = 7200 * group // samples
    assert path.stat().st_size == need
    kept = {"half": need // 2, "all": 0}[cut] if cut in ("half", "all") else need - int(cut)
    os.truncate(path, kept)
    with pytest.raises(ValueError, match=rf"100\.dat has {kept:,} of the {need:,} bytes .* truncated"):
        read_record(tmp_path / "100", sampto=10)


def test_damaged_compressed_signals_are_refused(tmp_path, write_record):
    write_record(tmp_path, fmt="516")
    path = tmp_path / "100.dat"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match="100"):
        read_record(tmp_path / "100")


@pytest.mark.parametrize("fmt", ["16", "80", "212"])
@pytest.mark.parametrize("where", [0.0, 0.3, 0.9999])
@pytest.mark.parametrize("bit", [0, 3, 7])
@pytest.mark.parametrize("leads", [None, "MLII"])
def test_one_flipped_bit_shows(tmp_path, write_record, fmt, where, bit, leads):
    write_record(tmp_path, fmt=fmt)
    path = tmp_path / "100.dat"
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"100\.dat: the signal is damaged .*(checksum|begins with)"):
        read_record(tmp_path / "100", leads=leads)
    with pytest.warns(UserWarning, match="the signal is damaged"):
        record = read_record(tmp_path / "100", leads=leads, on_error="warn")
    assert not record.verified and record.data.shape[1] == 3600


BOMBS = [(r"100 2 ", "100 99999999 "), (r"360 3600", "360 99999999999"), (r"212 200", "212:99999999 200"),
         (r"212 200", "212x1000000 200"), (r"360 3600", "360 9223372036854775807")]  # fmt: skip


@pytest.mark.parametrize("edit", BOMBS)
def test_bombs_are_refused_at_once_and_take_no_memory(tmp_path, write_record, edit):
    write_record(tmp_path)
    change_header(tmp_path, edit)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ValueError, match="100"):
        read_record(tmp_path / "100")
    assert time.process_time() - start < 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 50e6


def test_compressed_bomb_is_refused_by_memory(tmp_path, write_record):
    write_record(tmp_path, fmt="516")
    change_header(tmp_path, (r"360 3600", "360 99999999999"))
    with pytest.raises(ValueError, match=r"GB were asked for, this machine has .* in parts"):
        read_record(tmp_path / "100")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_headers_never_give_other_samples_without_a_word(tmp_path, write_record, data):
    if not (tmp_path / "100.hea").exists():
        write_record(tmp_path, n=400)
        (tmp_path / "good").write_bytes((tmp_path / "100.hea").read_bytes())
        np.save(tmp_path / "data.npy", read_record(tmp_path / "100").data)
    good, samples = (tmp_path / "good").read_bytes(), np.load(tmp_path / "data.npy") * 200 + 1024
    where, length = data.draw(st.integers(0, len(good))), data.draw(st.integers(0, 3))
    new = data.draw(st.text("0123456789 /().-+x:eE\nVMLI\0#", max_size=3)).encode()
    (tmp_path / "100.hea").write_bytes(good[:where] + new + good[where + length :])
    start = time.process_time()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            record = read_record(tmp_path / "100")
    except (ValueError, OSError) as error:
        assert "100" in str(error)
    else:
        if not [w for w in caught if issubclass(w.category, UserWarning)]:
            # Another gain, baseline or unit makes another valid header; the converter's samples are the same ones.
            gain, baseline = np.array(record.gain)[:, None], np.array(record.baseline)[:, None]
            factor = np.array([{"mV": 1, "V": 1e3}.get(unit, np.nan) for unit in record.units])[:, None]
            found = record.data.astype(float) / factor * gain + baseline
            assert record.verified and np.allclose(found, samples, rtol=1e-4, atol=0.01 + np.abs(baseline) * 1e-5)
    assert time.process_time() - start < 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_signals_are_caught_or_the_same(tmp_path, write_record, data):
    fmt = data.draw(st.sampled_from(["16", "212", "80"]))
    folder = tmp_path / fmt
    if not folder.exists():
        write_record(folder, n=300, fmt=fmt)
        (folder / "good").write_bytes((folder / "100.dat").read_bytes())
        np.save(folder / "data.npy", read_record(folder / "100").data)
    content, whole = bytearray((folder / "good").read_bytes()), np.load(folder / "data.npy")
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / "100.dat").write_bytes(content[: len(content) - data.draw(st.sampled_from([0, 0, 0, 1, 7]))])
    try:
        found = read_record(folder / "100").data
    except ValueError as error:
        assert "100.dat" in str(error)
    else:
        np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize(
    ("folder", "record", "message"),
    [
        ("ltdb", "14046", r"14046\.dat is missing"),
        ("ltafdb", "203", r"203\.dat is missing"),
        ("broken", "100s", "begins with -256, its header says 20224"),
    ],
)
def test_real_records_that_cannot_be_read_say_why(real_data, folder, record, message):
    if not (real_data / folder / f"{record}.hea").is_file():
        pytest.skip(f"{folder} is not in SKECG_DATA")
    with pytest.raises(ValueError, match=message):
        quiet(real_data / folder / record)


@pytest.mark.parametrize(
    ("folder", "record", "leads", "fs"),
    [
        ("mitdb", "114", ["V5", "MLII"], 360),
        ("ptbxl/records100/00000", "00001_lr", None, 100),
        ("ludb/data", "1", None, 500),
        ("cpsc2018", "A0001", None, 500),
        ("georgia", "E07521", None, 500),
        ("vfdb", "426", ["ECG", "ECG"], 250),
    ],
)
def test_real_records_equal_wfdb(real_data, tmp_path, folder, record, leads, fs):
    import wfdb

    path = real_data / folder / record
    if not path.with_name(f"{record}.hea").is_file():
        pytest.skip(f"{folder} is not in SKECG_DATA")
    ours = quiet(path)
    header = re.sub(rf"^{record}\.mat ", f"{record} ", path.with_name(f"{record}.hea").read_text())
    (tmp_path / f"{record}.hea").write_text(header)
    for name in {line.split()[0] for line in header.splitlines()[1 : len(ours.lead_names) + 1]}:
        (tmp_path / name).symlink_to(path.with_name(name))
    theirs = wfdb.rdrecord(str(tmp_path / record))
    np.testing.assert_array_equal(ours.data, theirs.p_signal.T.astype(np.float32))
    assert ours.verified and ours.fs == fs and ours.lead_names == (leads or theirs.sig_name)


def test_all_records_of_mitdb_agree_with_their_headers(real_data):
    for path in sorted((real_data / "mitdb").glob("*.hea")):
        record = read_record(path, annotator="atr")
        assert record.verified and record.data.shape == (2, 650_000) and record.warnings == []
