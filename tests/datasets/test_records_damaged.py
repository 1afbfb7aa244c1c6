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

from skecg.datasets import _records, _samples, read_record
from skecg.datasets._headers import FORMATS, read_header

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
    with pytest.raises(ValueError, match=r"GB were asked for, this machine has .* iter_windows"):
        read_record(tmp_path / "100")


def test_what_memory_does_not_hold_names_the_way_out(tmp_path, write_record, monkeypatch):
    write_record(tmp_path)
    monkeypatch.setattr(_records, "get_memory", lambda: 20_000)
    with pytest.raises(ValueError, match=r"100\.hea: 0\.0 GB were asked for, this machine has .* iter_windows"):
        read_record(tmp_path / "100")
    assert read_record(tmp_path / "100", leads=0, sampto=3000).data.shape == (1, 3000)
    monkeypatch.setattr(_records, "get_memory", lambda: None)
    with pytest.raises(ValueError, match=r"100\.hea: .* more than this process gets: .* iter_windows"):
        _records.allocate(_records.open_record(tmp_path / "100", None)[0], (1 << 50,))


@pytest.mark.parametrize("fmt", ["16", "212"])
def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path, write_record, fmt):
    write_record(tmp_path, fmt=fmt)
    header = read_header(tmp_path / "100.hea")
    with _samples.Samples(header, [0], header.n_timesteps, []) as samples:
        with open(tmp_path / "100.dat", "r+b") as file:
            file.truncate(300)
        out = np.empty((1, header.n_timesteps), np.float32)
        with pytest.raises(ValueError, match=r"100\.hea: wfdb cannot read the signal"):
            samples.read(0, header.n_timesteps, out)


def test_memory_is_that_of_this_machine():
    assert 1e8 < (_records.get_memory() or 1e9) < 1e15


@pytest.mark.parametrize("fmt", ["24", "32"])
@pytest.mark.parametrize("sample", [0, 1, 200, 399])
@pytest.mark.parametrize("bit", [16, 20, 22])
@pytest.mark.parametrize("piece", [None, 101])
def test_bits_above_the_checksum_show_in_a_quiet_lead(tmp_path, monkeypatch, fmt, sample, bit, piece):
    import wfdb

    digital = np.rint(3000 * np.sin(np.arange(400) / 9)).astype(np.int64)[:, None]
    wfdb.wrsamp("w", 360, ["mV"], ["II"], d_signal=digital, fmt=[fmt], adc_gain=[1e4], baseline=[0],
                write_dir=str(tmp_path))  # fmt: skip
    if piece:
        monkeypatch.setattr(_records, "_PIECE", piece)
    assert read_record(tmp_path / "w").verified
    path, width = tmp_path / "w.dat", int(fmt) // 8
    content = bytearray(path.read_bytes())
    content[sample * width + bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            assert not read_record(tmp_path / "w").verified
        except ValueError as error:
            assert sample == 0 and "II begins with" in str(error)
            return
    assert "1 samples of lead II stand alone by a multiple of 65536 units" in str(caught[-1].message)


def test_bits_above_the_checksum_show_beside_steep_steps_of_a_quiet_lead():
    ramp = np.concatenate([np.zeros(50), 8492 * np.arange(1, 5), np.full(50, 4 * 8492)]).astype(np.int64)
    assert _samples._find_lone(ramp, at_end=True) == 0
    ramp[51] -= 1 << 20
    assert _samples._find_lone(ramp, at_end=True) == 1


def test_a_lead_that_moves_fast_is_not_suspected(tmp_path):
    import wfdb

    digital = np.random.default_rng(0).integers(-(1 << 20), 1 << 20, size=(400, 1))
    wfdb.wrsamp("w", 360, ["mV"], ["II"], d_signal=digital, fmt=["24"], adc_gain=[1e6], baseline=[0],
                write_dir=str(tmp_path))  # fmt: skip
    record = read_record(tmp_path / "w")
    assert record.verified and record.warnings == []


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


# Records of each folder, and of how many leads; ltdb and ltafdb have annotations alone there.
WHOLE = {"mitdb": (48, 2), "ludb": (200, 12), "ptbxl": (504, 12), "cpsc2018": (154, 12), "cpsc2018_extra": (6, 12),
         "georgia": (4, 12)}  # fmt: skip


@pytest.mark.parametrize("database", WHOLE)
def test_every_real_record_agrees_with_its_header(real_data, database):
    if not (real_data / database).is_dir():
        pytest.skip(f"{database} is not in SKECG_DATA")
    annotators = {"mitdb": ["atr"], "ludb": "i ii iii avr avl avf v1 v2 v3 v4 v5 v6".split()}.get(database, [None])
    count, marks = 0, 0
    for path in sorted((real_data / database).rglob("*.hea")):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            record = read_record(path, annotator=annotators[0])
            rest = [read_record(path, annotator=name, signal=False).sample for name in annotators[1:]]
        assert record.verified and len(record.data) == WHOLE[database][1] and record.data.shape[1] == record.n_timesteps
        assert path.stem == record.record and not record.n_missing.any()
        count, marks = count + 1, marks + sum(map(len, [record.get("sample", ()), *rest]))
    assert count == WHOLE[database][0]
    # The counts that the databases' own pages give, over all leads.
    assert marks == {"mitdb": 112_647, "ludb": 21_965 + 19_661 + 16_797 + 58_321 + 58_423}.get(database, 0)


def test_real_annotations_without_their_signal(real_data):
    if not (real_data / "vfdb").is_dir():
        pytest.skip("vfdb is not in SKECG_DATA")
    paths = sorted((real_data / "vfdb").glob("*.hea"))
    records = [quiet(path, annotator="atr", signal=False) for path in paths]
    assert len(records) == 22 and sum(len(record.sample) for record in records) == 592
    assert quiet(real_data / "vfdb" / "426").verified


def test_challenge_records_have_codes_or_words_in_their_comments(real_data):
    if not (real_data / "georgia").is_dir():
        pytest.skip("georgia is not in SKECG_DATA")
    found = {name: read_record(real_data / name).comments for name in ("cpsc2018/A0001", "georgia/E07521")}
    assert all(any(line.startswith("Dx: ") for line in comments) for comments in found.values())
