"""Records: read as they were written, or refused with the file and the reason."""

from __future__ import annotations

import os
import re
import warnings

import numpy as np
import pytest

from skecg.datasets import _records, read_record

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")  # pandas 3 deprecates what wfdb calls

WRITABLE = ["16", "24", "32", "61", "80", "160", "212", "310", "311", "508", "516", "524"]


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


@pytest.mark.parametrize("fmt", WRITABLE)
@pytest.mark.parametrize("n", [3600, 3601])
def test_every_format_comes_out_in_mv(tmp_path, write_record, fmt, n):
    digital = write_record(tmp_path, fmt=fmt, n=n, gain=250.0, baseline=10)
    record = read_record(tmp_path / "100")
    np.testing.assert_array_equal(record.data, ((digital.T - 10) / 250).astype(np.float32))
    assert record.data.dtype == np.float32 and record.verified
    assert (record.fs, record.lead_names, record.n_timesteps) == (360.0, ["MLII", "V5"], n)
    assert record.warnings == [] and not record.flat.any() and not record.n_missing.any()
    part = read_record(tmp_path / "100", sampfrom=101, sampto=1000, leads="V5")
    np.testing.assert_array_equal(part.data[0], record.data[1, 101:1000])
    assert part.sampfrom == 101 and not part.verified


def test_format_8_of_differences(tmp_path):
    samples = np.array([[5, -7], [8, -7], [2, 100], [2, 0]])
    steps = np.diff(samples, axis=0, prepend=[[5, -7]]).astype(np.int8)
    (tmp_path / "d.dat").write_bytes(steps.tobytes())
    lines = ["d 2 100 4"] + [f"d.dat 8 100 8 0 {s[0]} {s.sum()} 0 {n}" for s, n in zip(samples.T, "XY", strict=True)]
    (tmp_path / "d.hea").write_text("\n".join(lines))
    whole = read_record(tmp_path / "d")
    np.testing.assert_array_equal(whole.data, (samples.T / 100).astype(np.float32))
    np.testing.assert_array_equal(read_record(tmp_path / "d", sampfrom=2).data, whole.data[:, 2:])


@pytest.mark.parametrize("fmt", ["16", "212"])
@pytest.mark.parametrize("part", [(0, 1), (1, 2), (7, 20), (8, 3601), (3599, 3601), (3600, 3601)])
def test_parts_of_plain_formats_are_those_of_the_whole(tmp_path, write_record, fmt, part):
    digital = write_record(tmp_path, fmt=fmt, n=3601, leads=("MLII", "V1", "V5"))
    for leads in (None, [1]):
        expected = ((digital[slice(*part)] - 1024) / 200.0).T[slice(None) if leads is None else leads]
        found = read_record(tmp_path / "100", leads=leads, sampfrom=part[0], sampto=part[1])
        np.testing.assert_array_equal(found.data, expected.astype(np.float32))


@pytest.mark.parametrize("gain", [200.0, 1716.0, 1000.1, 0.3, -200.0])
def test_float32_is_rounded_once(tmp_path, write_record, gain):
    digital = write_record(tmp_path, fmt="16")
    change_header(tmp_path, (r"200\.0\(1024\)/mV", f"{gain}(7)/mV"))
    expected = ((digital.T.astype(np.float64) - 7) / gain).astype(np.float32)
    np.testing.assert_array_equal(quiet(tmp_path / "100").data, expected)


@pytest.mark.parametrize(("units", "factor"), [("mV", 1), ("uV", 1e-3), ("V", 1e3), ("nV", 1e-6), ("\u00b5V", 1e-3)])
def test_units_become_mv(tmp_path, write_record, units, factor):
    digital = write_record(tmp_path)
    path = tmp_path / "100.hea"
    path.write_text(path.read_text().replace("/mV", f"/{units}"), encoding="utf-8")
    record = read_record(tmp_path / "100")
    np.testing.assert_allclose(record.data, (digital.T - 1024) / 200 * factor, rtol=1e-6)
    assert record.units == [units, units]


def test_leads_of_other_units_are_refused_only_where_they_are_wanted(tmp_path, write_record):
    write_record(tmp_path, leads=("ECG", "ABP"))
    change_header(tmp_path, (r"/mV(.*)ABP", r"/mmHg\1ABP"))
    assert read_record(tmp_path / "100", leads="ECG").data.shape == (1, 3600)
    with pytest.raises(ValueError, match=r"record 100: lead 1 \(ABP\) is in 'mmHg', which is no voltage"):
        read_record(tmp_path / "100")


def test_leads_by_position_name_and_order(tmp_path, write_record):
    write_record(tmp_path, leads=("I", "II", "aVR"))
    whole = read_record(tmp_path / "100.hea").data
    for leads, rows in (("avr", [2]), (1, [1]), (["aVR", 0, "I"], [2, 0, 0]), (np.int64(2), [2])):
        found = read_record(tmp_path / "100", leads=leads)
        np.testing.assert_array_equal(found.data, whole[rows])
        assert found.lead_names == [("I", "II", "aVR")[row] for row in rows]


@pytest.mark.parametrize(
    ("leads", "message"),
    [
        ("V1", "record 100 has no lead 'V1'; it has 0 MLII, 1 V5"),
        (2, "record 100 has no lead 2"),
        (-1, "record 100 has no lead -1"),
        ([], "leads is empty"),
    ],
)
def test_absent_leads_name_those_that_are_there(tmp_path, write_record, leads, message):
    write_record(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_record(tmp_path / "100", leads=leads)


def test_equal_lead_names_have_to_be_chosen_by_position(tmp_path, write_record):
    write_record(tmp_path)
    change_header(tmp_path, ("MLII|V5", "ECG"))
    with pytest.raises(ValueError, match="2 leads called 'ECG': choose by position"):
        read_record(tmp_path / "100", leads="ECG")
    assert read_record(tmp_path / "100", leads=1).data.shape == (1, 3600)


def test_pieces_are_put_together(tmp_path, write_record, monkeypatch):
    write_record(tmp_path, fmt="212", n=3601)
    whole = read_record(tmp_path / "100")
    monkeypatch.setattr(_records, "_PIECE", 500)
    pieces = read_record(tmp_path / "100")
    np.testing.assert_array_equal(pieces.data, whole.data)
    assert pieces.verified
    part = read_record(tmp_path / "100", sampfrom=999, sampto=1777)
    np.testing.assert_array_equal(part.data, whole.data[:, 999:1777])


def test_skewed_leads_are_aligned_and_end_in_nan(tmp_path, write_record, monkeypatch):
    digital = write_record(tmp_path, fmt="16")
    change_header(tmp_path, (r"16 (200.0.*V5)", r"16:5 \1"))
    expected = ((digital.T - 1024) / 200).astype(np.float32)
    for piece in (_records._PIECE, 700):
        monkeypatch.setattr(_records, "_PIECE", piece)
        record = read_record(tmp_path / "100")
        np.testing.assert_array_equal(record.data[0], expected[0])
        np.testing.assert_array_equal(record.data[1, :-5], expected[1, 5:])
        assert np.isnan(record.data[1, -5:]).all() and record.n_missing.tolist() == [0, 5] and record.verified


def test_missing_samples_are_nan_and_counted(tmp_path, write_record):
    import wfdb

    digital = write_record(tmp_path)
    digital[100:110, 0] = digital[500, 0] = -2048
    wfdb.wrsamp("100", 360, ["mV"] * 2, ["I", "II"], d_signal=digital, fmt=["212"] * 2, adc_gain=[200.0] * 2,
                baseline=[1024] * 2, write_dir=str(tmp_path))  # fmt: skip
    record = read_record(tmp_path / "100")
    assert np.flatnonzero(np.isnan(record.data[0])).tolist() == [*range(100, 110), 500]
    assert record.n_missing.tolist() == [11, 0] and record.longest_missing.tolist() == [10, 0] and record.verified


def test_constant_leads_are_flagged(tmp_path):
    (tmp_path / "f.dat").write_bytes(np.tile(np.array([7, 0], "<i2"), 50).tobytes())
    (tmp_path / "f.hea").write_text("f 1 100 50\nf.dat 16x2 200 16 0 7 350 0 I\n")
    record = quiet(tmp_path / "f")
    assert record.flat.tolist() == [True] and record.data[0, 0] == np.float32(3.5 / 200)


def test_several_samples_a_frame_are_averaged_with_a_warning(tmp_path):
    samples = np.arange(60, dtype="<i2").reshape(20, 3)  # two samples of the first lead, one of the second
    (tmp_path / "f.dat").write_bytes(samples.tobytes())
    sums = samples[:, :2].sum(), samples[:, 2].sum()
    (tmp_path / "f.hea").write_text(
        f"f 2 100 20\nf.dat 16x2 100(0)/mV 16 0 0 {sums[0]} 0 I\nf.dat 16 100(0)/mV 16 0 2 {sums[1]} 0 II\n"
    )
    with pytest.warns(UserWarning, match="lead I has 2 samples a frame: they are averaged to one"):
        record = read_record(tmp_path / "f")
    np.testing.assert_allclose(record.data[0], samples[:, :2].mean(axis=1) / 100, rtol=1e-6)
    np.testing.assert_allclose(record.data[1], samples[:, 2] / 100, rtol=1e-6)
    assert record.verified and record.fs == 100


def test_checksums_count_with_and_without_sign(tmp_path, write_record):
    write_record(tmp_path)
    header = (tmp_path / "100.hea").read_text().splitlines()
    signed = [line.split() for line in header[1:]]
    for turn in (lambda value: value % 65536, lambda value: (value + 32768) % 65536 - 32768):
        lines = [" ".join([*s[:6], str(turn(int(s[6]))), *s[7:]]) for s in signed]
        (tmp_path / "100.hea").write_text("\n".join([header[0], *lines]))
        assert read_record(tmp_path / "100").verified


def test_wrong_initial_value_shows(tmp_path, write_record):
    digital = write_record(tmp_path)
    right, wrong = digital[0, 0], digital[0, 0] + 1
    change_header(tmp_path, (rf"{right} (.* MLII)", rf"{wrong} \1"))
    with pytest.raises(ValueError, match=rf"lead MLII begins with {right}, its header says {wrong}"):
        read_record(tmp_path / "100")


def test_header_without_checksum_is_warned_about(tmp_path, write_record):
    write_record(tmp_path)
    header = (tmp_path / "100.hea").read_text().splitlines()
    (tmp_path / "100.hea").write_text("\n".join([header[0]] + [" ".join(line.split()[:5]) for line in header[1:]]))
    with pytest.warns(UserWarning) as caught:
        assert not read_record(tmp_path / "100").verified
    told = [str(w.message).removeprefix("record 100: ") for w in caught]
    assert told[:2] == ["signal 0 has no name", "signal 1 has no name"] and len(told) == 3
    assert re.search("no checksum for signal 0, signal 1: damage .* would not show", told[2])


def test_header_without_length_is_warned_about_and_a_cut_shows(tmp_path, write_record):
    digital = write_record(tmp_path)
    change_header(tmp_path, (r"360 3600", "360"))
    with pytest.warns(UserWarning, match=r"no length: 3600 samples a lead, from the size of 100\.dat"):
        record = read_record(tmp_path / "100")
    np.testing.assert_array_equal(record.data, ((digital.T - 1024) / 200).astype(np.float32))
    os.truncate(tmp_path / "100.dat", 3 * 3000)
    with pytest.raises(ValueError, match="checksum"):
        quiet(tmp_path / "100")
    os.truncate(tmp_path / "100.dat", 3 * 3000 - 1)
    with pytest.raises(ValueError, match="no whole number of samples"):
        read_record(tmp_path / "100")
    os.truncate(tmp_path / "100.dat", 0)
    with pytest.raises(ValueError, match="truncated or empty"):
        read_record(tmp_path / "100")


def test_signal_longer_than_declared_is_warned_about(tmp_path, write_record):
    write_record(tmp_path)
    with (tmp_path / "100.dat").open("ab") as file:
        file.write(b"\0" * 300)
    with pytest.warns(UserWarning, match="11,100 bytes, its header declares 10,800"):
        assert read_record(tmp_path / "100").data.shape == (2, 3600)


@pytest.mark.parametrize("extension", ["hea", "dat", "atr"])
def test_missing_files_are_named(tmp_path, write_record, extension):
    write_record(tmp_path, beats=((100, "N"),))
    (tmp_path / f"100.{extension}").unlink()
    for kind in (FileNotFoundError, ValueError):
        with pytest.raises(kind, match=rf"100\.{extension} is missing"):
            read_record(tmp_path / "100", annotator="atr")


def test_signal_need_not_be_there_for_annotations(tmp_path, write_record):
    write_record(tmp_path, beats=((100, "N"), (200, "V")))
    (tmp_path / "100.dat").unlink()
    record = read_record(tmp_path / "100", annotator="atr", signal=False)
    assert record.data is None and record.n_timesteps == 3600 and record.symbol.tolist() == ["N", "V"]


def test_signal_that_is_a_folder_or_a_link_out_of_the_folder(tmp_path, write_record):
    write_record(tmp_path / "a")
    (tmp_path / "a" / "100.dat").rename(tmp_path / "elsewhere.dat")
    (tmp_path / "a" / "100.dat").mkdir()
    with pytest.raises(ValueError, match="is no file"):
        read_record(tmp_path / "a" / "100")
    (tmp_path / "a" / "100.dat").rmdir()
    (tmp_path / "a" / "100.dat").symlink_to(tmp_path / "elsewhere.dat")
    with pytest.raises(ValueError, match="a link that leads out of the record's folder"):
        read_record(tmp_path / "a" / "100")


def test_folder_may_be_a_link(tmp_path, write_record):
    write_record(tmp_path / "a")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_record(tmp_path / "b" / "100").verified


def test_annotations_of_a_part_keep_their_positions(tmp_path, write_record):
    write_record(tmp_path, beats=((100, "N"), (1000, "V"), (2000, "A"), (3599, "N")))
    record = read_record(tmp_path / "100", annotator="atr", sampfrom=1000, sampto=2000)
    assert record.sample.tolist() == [1000] and record.symbol.tolist() == ["V"] and record.aux_note.tolist() == [""]


def test_annotations_beyond_the_end_are_counted(tmp_path, write_record):
    write_record(tmp_path, beats=((100, "N"), (3600, "V"), (9999, "A")))
    with pytest.warns(UserWarning, match=r"2 annotations of 100\.atr lie beyond the end"):
        assert read_record(tmp_path / "100", annotator="atr").sample.tolist() == [100]


def test_annotations_of_another_rate_are_refused(tmp_path, write_record):
    import wfdb

    write_record(tmp_path)
    wfdb.wrann("100", "atr", np.array([5]), symbol=["N"], fs=250, write_dir=str(tmp_path))
    with pytest.raises(ValueError, match="counts at 250 Hz, its record at 360 Hz"):
        read_record(tmp_path / "100", annotator="atr")


def test_records_named_by_their_signal_file(tmp_path, write_record):
    digital = write_record(tmp_path, fmt="16")
    (tmp_path / "100.mat").write_bytes(bytes(24) + (tmp_path / "100.dat").read_bytes())
    change_header(tmp_path, (r"^100 ", "100.mat "), (r"100\.dat 16", "100.mat 16+24"))
    with (tmp_path / "100.hea").open("a") as file:
        file.write("#Dx: AF,RBBB\n# Age: NaN\n")
    record = read_record(tmp_path / "100", leads=[1])
    np.testing.assert_array_equal(record.data, ((digital.T[1:] - 1024) / 200).astype(np.float32))
    assert record.verified and record.warnings == [] and record.record == "100"
    assert record.comments == ["Dx: AF,RBBB", "Age: NaN"]


def test_dates_and_names_that_wfdb_refuses_are_read_all_the_same(tmp_path, write_record):
    digital = write_record(tmp_path)
    change_header(tmp_path, (r"^100 ", "100.mat "), (r"3600", "3600 99:99:99 31/02/2020"))
    with pytest.warns(UserWarning) as caught:
        record = read_record(tmp_path / "100")
    np.testing.assert_array_equal(record.data, ((digital.T - 1024) / 200).astype(np.float32))
    assert record.verified and record.start == "99:99:99 31/02/2020"
    told = "\n".join(str(w.message) for w in caught)
    assert "calls the record '100.mat'" in told and "start time '99:99:99 31/02/2020' that is not" in told


def test_comments_and_description(tmp_path, write_record):
    write_record(tmp_path)
    with (tmp_path / "100.hea").open("a") as file:
        file.write("#Dx: 164889003\n# Age: 60\n")
    record = read_record(tmp_path / "100")
    assert record.comments == ["Dx: 164889003", "Age: 60"]
    assert record.DESCR.startswith("Record 100: 2 leads (MLII, V5) at 360 Hz, 3,600 samples, 10.0 s.")


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("s3://physionet-open/mitdb/100", ValueError, "is an address"),
        ("simplecache::100", ValueError, "is an address"),
        (100, TypeError, "path must be the path of a record"),
    ],
)
def test_addresses_are_no_paths(path, kind, message):
    with pytest.raises(kind, match=message):
        read_record(path)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"sampfrom": -1}, "sampfrom must be"),
        ({"sampfrom": 1.5}, "sampfrom must be"),
        ({"sampfrom": 3600}, "samples 3600 to 3600 were asked for; the record has 3600"),
        ({"sampto": 3601}, "samples 0 to 3601 were asked for; the record has 3600"),
        ({"sampfrom": 9, "sampto": 9}, "sampfrom must lie before sampto"),
        ({"annotator": "../atr"}, "annotator must be the extension"),
        ({"on_error": "ignore"}, "on_error must be one of 'raise', 'warn'"),
    ],
)
def test_wrong_settings_are_named(tmp_path, write_record, settings_, message):
    write_record(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_record(tmp_path / "100", **settings_)


def test_record_that_names_itself_as_a_segment_is_refused(tmp_path):
    (tmp_path / "loop.hea").write_text("loop/2 2 360 100\nloop 50\nloop 50\n")
    with pytest.raises(ValueError, match="read its segments one by one"):
        read_record(tmp_path / "loop")


def test_record_without_signals_has_annotations_alone(tmp_path, write_record):
    write_record(tmp_path, beats=((10, "N"),))
    (tmp_path / "100.hea").write_text("100 0 360 3600\n")
    assert read_record(tmp_path / "100", signal=False, annotator="atr").sample.tolist() == [10]
    with pytest.raises(ValueError, match="no signal; pass signal=False"):
        read_record(tmp_path / "100")


def test_nothing_is_left_behind_and_files_are_as_found(tmp_path, write_record, monkeypatch):
    write_record(tmp_path / "a", beats=((10, "N"),))
    change_header(tmp_path / "a", (r"3600", "3600 23:59:59 31/02/2020"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    read_record(tmp_path / "a" / "100", annotator="atr")
    assert {path: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    assert list((tmp_path / "tmp").iterdir()) == []
