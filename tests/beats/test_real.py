"""Real records, where SKECG_DATA has them: R peaks, limits and P waves of a few of LUDB and of the MIT-BIH database."""

import os
from pathlib import Path

import numpy as np
import pytest

from skecg.beats import delineate, find_beats
from skecg.beats._find import count_matches
from skecg.datasets import fetch_ludb, read_record

# Sinus rhythm, both bundle branch blocks, fibrillation; none of them paced.
SINUS, BLOCKS, FIBRILLATION = ["1", "2", "6", "12"], ["24", "10"], ["8", "38", "112"]
NOT_BEATS = set("+~|\"x[]!")


def folder(name):
    home = os.environ.get("SKECG_DATA", "")
    if not home or not (Path(home) / name).is_dir():
        pytest.skip(f"SKECG_DATA has no folder {name}: real records are no part of skecg")
    return Path(home) / name


@pytest.fixture(scope="module")
def ludb():
    folder("ludb")
    ecg = fetch_ludb(records=SINUS + BLOCKS + FIBRILLATION, download_if_missing=False, verbose=0)
    return ecg, delineate(ecg.data, find_beats(ecg.data, ecg.fs))


@pytest.mark.filterwarnings("ignore:LUDB. these records have no")
def test_r_peaks_of_ludb(ludb):
    ecg, beats = ludb
    for row, found in enumerate(beats):
        waves = ecg.intervals[(ecg.intervals["row"] == row) & (ecg.intervals["lead"] == "II")]
        truth = np.sort(waves["peak"][waves["wave"] == "QRS"])
        # the first and the last beats are not annotated
        span = (found.r_peaks > truth[0] - 37) & (found.r_peaks < truth[-1] + 37)
        assert count_matches(truth, found.r_peaks, 37) == len(truth) == span.sum()


@pytest.mark.filterwarnings("ignore:LUDB. these records have no")
def test_limits_of_ludb_overlap_the_cardiologists(ludb):
    ecg, beats = ludb
    lead = ecg.lead_names.index("II")
    both, either = np.zeros(3), np.zeros(3)
    for row, found in enumerate(beats):
        part = slice(*ecg.annotated[row, lead])
        for i, (first, last) in enumerate(((0, 2), (3, 4), (5, 7))):
            mask = np.zeros(ecg.data.shape[2], dtype=bool)
            for limits in found.limits[:, lead]:
                if np.isfinite(limits[first]):
                    mask[int(limits[first]) : int(limits[last]) + 1] = True
            truth = ecg.masks[row, lead] == i + 1
            both[i] += (mask & truth)[part].sum()
            either[i] += (mask | truth)[part].sum()
    assert (both / either > [0.7, 0.7, 0.6]).all()


@pytest.mark.filterwarnings("ignore:LUDB. these records have no")
def test_p_waves_of_ludb(ludb):
    ecg, beats = ludb
    for record, found in zip(ecg.record, beats, strict=True):
        if record in FIBRILLATION:
            assert found.p_present is not True
        else:
            assert found.p_present is True


@pytest.mark.parametrize("name", ["100", "119", "200"])
def test_five_minutes_of_mitdb(name):
    record = read_record(folder("mitdb") / name, annotator="atr", sampto=108_000)
    truth = record.sample[[symbol not in NOT_BEATS for symbol in record.symbol]]
    (beats,) = find_beats(record.data[None, :1], record.fs)
    pairs = count_matches(truth, beats.r_peaks, 0.15 * record.fs)
    assert pairs >= 0.99 * len(truth)
    assert pairs >= 0.99 * len(beats.r_peaks)
    assert beats.left_out == ()
