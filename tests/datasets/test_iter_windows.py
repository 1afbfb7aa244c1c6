"""Windows batch by batch: those of the whole record to the bit, with flat memory, and damage that does not pass."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skecg.datasets import _iter_windows, iter_windows, read_record

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")  # pandas 3 deprecates what wfdb calls

FS, N = 360, 3600


def expected_starts(length, n, step, tail):
    """Where windows begin, by trying every position of the grid, and how many samples of each lie in the record."""
    grid = range(0, length, step)
    found = [start for start in grid if start + n <= length]
    covered = set(itertools.chain.from_iterable(range(start, start + n) for start in found[-1:]))
    later = [start for start in grid if start not in found]
    if later and not set(range(later[0], length)) <= covered:
        if tail == "pad":
            found.append(later[0])
        elif tail == "overlap" and length >= n:
            found.append(length - n)
    return found


def gather(batches):
    """Put batches together and check that none is empty."""
    batches = list(batches)
    assert all(len(batch.data) for batch in batches)
    return batches, {
        name: np.concatenate([batch[name] for batch in batches])
        for name in ("data", "start", "n_valid", "n_missing", "record")
    }


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 700),
    step=st.integers(1, 900),
    piece=st.integers(150, 5000),
    batch_size=st.integers(1, 40),
    tail=st.sampled_from(["drop", "pad", "overlap"]),
    length=st.sampled_from([500, 701]),
    fmt=st.sampled_from(["16", "212"]),
)
def test_windows_are_those_of_the_whole_record(
    tmp_path, write_record, n, step, piece, batch_size, tail, length, fmt
):
    folder = tmp_path / f"{fmt}_{length}"
    if not folder.exists():
        write_record(folder, fmt=fmt, n=length, leads=("I", "II", "III"))
    whole = read_record(folder / "100", leads=["III", "I"])
    expected = expected_starts(length, n, step, tail)
    settings_ = dict(window=n / FS, stride=step / FS, leads=["III", "I"], batch_size=batch_size, tail=tail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_iter_windows, "_PIECE", piece)
        if not expected:
            with pytest.warns(UserWarning, match=f"{length} samples are fewer than a window of {n}: it gives no"):
                assert list(iter_windows(folder / "100", **settings_)) == []
            return
        batches, found = gather(iter_windows(folder / "100", **settings_))
    assert found["start"].tolist() == expected
    assert found["n_valid"].tolist() == [min(n, length - start) for start in expected]
    padded = np.pad(whole.data, ((0, 0), (0, n)))
    np.testing.assert_array_equal(found["data"], [padded[:, start : start + n] for start in expected])
    assert found["data"].dtype == np.float32 and set(found["record"]) == {"100"}
    assert [len(batch.data) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert [batch.verified for batch in batches] == [False] * (len(batches) - 1) + [True]
    assert {(batch.fs, *batch.lead_names) for batch in batches} == {(FS, "III", "I")}


@pytest.mark.parametrize("fmt", ["16", "24", "32", "61", "80", "160", "212", "310", "311", "508", "516", "524"])
def test_every_format_in_pieces(tmp_path, write_record, monkeypatch, fmt):
    write_record(tmp_path, fmt=fmt, n=1001)
    whole = read_record(tmp_path / "100").data
    monkeypatch.setattr(_iter_windows, "_PIECE", 101)
    batches, found = gather(iter_windows(tmp_path / "100", window=97 / FS, tail="pad", batch_size=4))
    np.testing.assert_array_equal(np.hstack(found["data"])[:, :1001], whole)
    assert batches[-1].verified


def test_format_8_of_differences_is_added_up_over_pieces(tmp_path, monkeypatch):
    samples = np.cumsum(np.random.default_rng(0).integers(-9, 10, size=(500, 2)), axis=0) + np.array([30, -40])
    (tmp_path / "d.dat").write_bytes(np.diff(samples, axis=0, prepend=samples[:1]).astype(np.int8).tobytes())
    sums, skews = samples.sum(axis=0), ("", ":3")
    lines = [f"d.dat 8{skews[i]} 100 8 0 {samples[0, i]} {sums[i]} 0 V{i + 1}" for i in (0, 1)]
    (tmp_path / "d.hea").write_text("\n".join(["d 2 100 500", *lines]))
    whole = read_record(tmp_path / "d")
    np.testing.assert_array_equal(whole.data[0], (samples[:, 0] / 100).astype(np.float32))
    np.testing.assert_array_equal(whole.data[1, :-3], (samples[3:, 1] / 100).astype(np.float32))
    np.testing.assert_array_equal(read_record(tmp_path / "d", sampfrom=77, sampto=99).data, whole.data[:, 77:99])
    monkeypatch.setattr(_iter_windows, "_PIECE", 26)
    batches, found = gather(iter_windows(tmp_path / "d", window=0.1))
    np.testing.assert_array_equal(np.hstack(found["data"]), whole.data)
    assert batches[-1].verified and found["n_missing"].tolist() == [[0, 0]] * 49 + [[0, 3]]


def test_missing_samples_are_counted_by_window_and_lead(tmp_path):
    import wfdb

    digital = np.ones((1000, 2), dtype=np.int64)
    digital[95:105, 0] = -32768
    wfdb.wrsamp("m", 100, ["mV"] * 2, ["I", "II"], d_signal=digital, fmt=["16"] * 2, adc_gain=[200.0] * 2,
                baseline=[0] * 2, write_dir=str(tmp_path))  # fmt: skip
    (batch,) = iter_windows(tmp_path / "m", window=1)
    assert batch.n_missing.tolist() == [[5, 0], [5, 0]] + [[0, 0]] * 8
    assert np.isnan(batch.data[0, 0, 95:]).all() and not np.isnan(batch.data[0, 0, :95]).any()


def test_annotations_lie_in_their_windows(tmp_path, write_record):
    write_record(tmp_path, n=1000, beats=((0, "N"), (99, "V"), (100, "A"), (150, "N"), (999, "V")))
    rule = {"window": 100 / FS, "stride": 50 / FS, "annotator": "atr", "batch_size": 3}
    batches = list(iter_windows(tmp_path / "100", **rule))
    assert [len(batch.annotations) for batch in batches] == [len(batch.data) for batch in batches]
    inside = {
        int(start): (found.sample.tolist(), "".join(found.symbol))
        for batch in batches
        for start, found in zip(batch.start, batch.annotations, strict=True)
    }
    assert inside[0] == ([0, 99], "NV") and inside[50] == ([99, 100], "VA") and inside[100] == ([100, 150], "AN")
    assert inside[900] == ([999], "V") and inside[500] == ([], "")
    found = batches[0].annotations[0]
    assert set(found) == {"sample", "symbol", "aux_note", "subtype", "chan", "num"}


def test_annotations_beyond_the_end_are_in_no_padding(tmp_path, write_record):
    write_record(tmp_path, n=1000, beats=((950, "N"), (1000, "V"), (1020, "V")))
    with pytest.warns(UserWarning, match=r"2 annotations of 100\.atr lie beyond the end") as caught:
        batches = list(iter_windows(tmp_path / "100", window=300 / FS, annotator="atr", tail="pad"))
    assert len(caught) == 1
    assert batches[-1].n_valid.tolist() == [300, 300, 300, 100]
    assert [found.sample.tolist() for found in batches[-1].annotations] == [[], [], [], [950]]


def test_several_records_come_one_after_another(tmp_path, write_record):
    write_record(tmp_path, "a", n=1000)
    write_record(tmp_path, "b", n=700, fs=250, leads=("V5", "MLII", "V1"), seed=1)
    paths = (tmp_path / name for name in ("a", "b.hea"))
    batches = list(iter_windows(paths, window=1, leads=iter(["V5"]), batch_size=2))
    assert [(*set(batch.record), batch.fs, batch.data.shape, batch.verified) for batch in batches] == [
        ("a", 360.0, (2, 1, 360), True),
        ("b", 250.0, (2, 1, 250), True),
    ]
    np.testing.assert_array_equal(batches[1].data[1, 0], read_record(tmp_path / "b", leads=0).data[0, 250:500])


def test_batches_are_arrays_of_their_own(tmp_path, write_record):
    write_record(tmp_path, n=1000)
    rule = {"window": 0.5, "stride": 0.1, "batch_size": 3}
    _, expected = gather(iter_windows(tmp_path / "100", **rule))
    batches = []
    for batch in iter_windows(tmp_path / "100", **rule):
        batches.append(batch.data.copy())
        batch.data[:] = 0
    np.testing.assert_array_equal(np.concatenate(batches), expected["data"])


def flip(path, where, bit=0):
    content = bytearray(path.read_bytes())
    content[where] ^= 1 << bit
    path.write_bytes(content)


def test_damage_stops_before_the_last_batch(tmp_path, write_record):
    write_record(tmp_path, fmt="16")
    flip(tmp_path / "100.dat", 8000)
    batches = iter_windows(tmp_path / "100", window=1, batch_size=3)
    assert [next(batches).start[0], next(batches).start[0], next(batches).start[0]] == [0, 1080, 2160]
    with pytest.raises(ValueError, match=r"100\.dat: the signal is damaged .* add up to the checksum"):
        next(batches)
    with pytest.warns(UserWarning, match="record 100: .* add up to the checksum") as caught:
        batches = list(iter_windows(tmp_path / "100", window=1, batch_size=3, on_error="warn"))
    assert len(caught) == 1 and len(batches) == 4 and not any(batch.verified for batch in batches)


def test_damage_at_the_start_or_in_the_tail_shows(tmp_path, write_record, monkeypatch):
    write_record(tmp_path, n=1000, fmt="16")
    monkeypatch.setattr(_iter_windows, "_PIECE", 100)
    good = (tmp_path / "100.dat").read_bytes()
    flip(tmp_path / "100.dat", 3997)  # behind the last window
    with pytest.raises(ValueError, match="checksum"):
        list(iter_windows(tmp_path / "100", window=1, batch_size=1))
    (tmp_path / "100.dat").write_bytes(good)
    flip(tmp_path / "100.dat", 0)
    with pytest.raises(ValueError, match="MLII begins with"):
        next(iter_windows(tmp_path / "100", window=1, batch_size=1))
    with pytest.warns(UserWarning) as caught:
        batches = list(iter_windows(tmp_path / "100", window=1, batch_size=1, on_error="warn"))
    assert ["begins with" in str(w.message) for w in caught] == [True, False] and len(batches) == 2


def test_one_bad_record_of_ten_leaves_nine(tmp_path, write_record):
    names = [f"r{i}" for i in range(10)]
    for i, name in enumerate(names):
        write_record(tmp_path, name, n=800, seed=i)
    os.truncate(tmp_path / "r4.dat", 100)
    paths = [tmp_path / name for name in names]
    with pytest.warns(UserWarning, match=r"record r4: .*r4\.dat has 100 of the 2,400 bytes") as caught:
        batches, found = gather(iter_windows(paths, window=1, on_error="warn"))
    assert len(caught) == 1 and all(batch.verified for batch in batches)
    assert found["record"].tolist() == [name for name in names if name != "r4" for _ in range(2)]
    with pytest.raises(ValueError, match=r"r4\.dat has 100"):
        list(iter_windows(paths, window=1))


def test_a_signal_that_is_not_there_is_named(tmp_path, write_record):
    write_record(tmp_path)
    (tmp_path / "100.dat").unlink()
    with pytest.raises(FileNotFoundError, match=r"100\.dat is missing"):
        next(iter_windows(tmp_path / "100", window=1))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"window": 0}, ValueError, r"window must be a finite number \(s\) above 0; got 0"),
        ({"window": None}, ValueError, "window must be"),
        ({"stride": -1}, ValueError, "stride must be"),
        ({"tail": "keep"}, ValueError, "tail must be one of 'drop', 'pad', 'overlap'"),
        ({"on_error": "ignore"}, ValueError, "on_error must be one of"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer at least 1"),
        ({"annotator": "../atr"}, ValueError, "annotator must be the extension"),
        ({"path": []}, ValueError, "path is empty"),
        ({"path": 100}, TypeError, "path must be the path of a record"),
        ({"path": ["a", 100]}, TypeError, "it holds a int"),
    ],
)
def test_wrong_settings_are_named_before_the_first_batch(changes, kind, message):
    with pytest.raises(kind, match=message):
        iter_windows(**{"path": "100", "window": 1.0, **changes})


@pytest.mark.parametrize("name", ["window", "stride"])
def test_windows_and_strides_of_no_sample_are_named(tmp_path, write_record, name):
    write_record(tmp_path)
    with pytest.raises(ValueError, match=rf"{name} must hold at least one sample; got 0\.001 s at 360 Hz"):
        next(iter_windows(tmp_path / "100", **{"window": 1.0, name: 0.001}))


def test_batches_that_no_memory_holds_are_refused(tmp_path):
    with (tmp_path / "h.dat").open("wb") as file:
        file.truncate(2 << 40)  # sparse
    (tmp_path / "h.hea").write_text(f"h 1 100 {1 << 40}\nh.dat 16 200 16 0 0 0 0 II\n")
    with pytest.raises(ValueError, match=r"h\.hea: 4,398\.0 GB were asked for"):
        next(iter_windows(tmp_path / "h", window=(1 << 40) / 100))
    assert next(iter_windows(tmp_path / "h", window=10)).data.shape == (256, 1, 1000)


PROBE = """
import resource, sys
from skecg.datasets import iter_windows
windows = sum(len(batch.data) for batch in iter_windows(sys.argv[1], window=10))
print(windows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_record(tmp_path):
    peaks = []
    for n in (4_000_000, 40_000_000):  # the longer one is 160 MB in float32
        with (tmp_path / "z.dat").open("wb") as file:
            file.truncate(2 * n)  # zeros, sparse on the disk
        (tmp_path / "z.hea").write_text(f"z 1 100 {n}\nz.dat 16 200 16 0 0 0 0 II\n")
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        run = subprocess.run(
            [sys.executable, "-c", PROBE, str(tmp_path / "z")],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
        windows, peak = map(int, run.stdout.split())
        assert windows == n // 1000
        peaks.append(peak * (1 if sys.platform == "darwin" else 1024))
    assert peaks[1] - peaks[0] < 20e6


def test_real_records_in_windows(real_data):
    whole = read_record(real_data / "mitdb" / "100", annotator="atr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches, found = gather(iter_windows(real_data / "mitdb" / "100", window=10, annotator="atr"))
    np.testing.assert_array_equal(np.hstack(found["data"]), whole.data[:, : 3600 * 180])
    assert batches[-1].verified
    marks = np.concatenate([found.sample for batch in batches for found in batch.annotations])
    np.testing.assert_array_equal(marks, whole.sample[whole.sample < 3600 * 180])
