"""The command that writes the tables of docs/beats.md, and that the page has what it writes."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils import Bunch

from skecg.beats import Beats

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "beats.md"


@pytest.fixture(scope="module")
def command():
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location("write_beats", ROOT / "docs" / "write_beats.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path
    sys.modules.pop("write_databases", None)


def test_page_has_every_block_and_no_other(command):
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"<!-- begin (.+?) -->", page) == re.findall(r"<!-- end (.+?) -->", page)
    assert sorted(re.findall(r"<!-- begin (.+?) -->", page)) == sorted(command.BLOCKS)
    for name in command.BLOCKS:
        block = re.search(rf"<!-- begin {name} -->\n(.*?)<!-- end {name} -->", page, flags=re.DOTALL)[1]
        assert block.count("\n| ") > 3, f"{name} is empty: run the command"


def test_detections_outside_the_annotated_span_do_not_count(command):
    truth = np.array([1000, 2000, 3000])
    found = np.array([100, 1030, 1500, 3037, 3038, 4000])
    assert command.detections(truth, found, 500.0) == (3, 3, 2)
    assert command.detections(np.array([], dtype=int), found, 500.0) == (0, 0, 0)


def test_waves_belong_to_the_beat_that_follows_or_precedes(command):
    peaks = np.array([1000, 2000])
    assert [command._beat_of(p, "P", peaks) for p in (900, 1100, 2100)] == [0, 1, None]
    assert [command._beat_of(p, "T", peaks) for p in (900, 1100, 2100)] == [None, 0, 1]
    assert [command._beat_of(p, "QRS", peaks) for p in (900, 1100, 2100)] == [0, 0, 1]


def test_overlap_counts_the_annotated_part_alone(command):
    masks = np.zeros((1, 1, 100), dtype=np.uint8)
    masks[0, 0, 20:30] = 2
    ecg = Bunch(data=np.zeros((1, 1, 100)), masks=masks, annotated=np.array([[[10, 28]]]), lead_names=["II"])
    limits = np.full((2, 1, 8), np.nan)
    limits[0, 0, 3:5] = 24, 33
    limits[1, 0, 3:5] = 60, 70
    beats = [Beats([25, 65], 100.0, limits=limits)]
    # from 20 to 27 in either, from 24 to 27 in both
    assert command.overlap(ecg, beats, "II", "QRS").tolist() == [[8, 4]]
    assert command.overlap(ecg, beats, "II", "P").tolist() == [[0, 0]]


def test_intervals_need_ten_people(command):
    rows = np.column_stack([np.full(10, 4), np.arange(10)])
    assert command.interval(rows[:9], command.ratio) == "1.000"
    assert re.fullmatch(r"1\.125 \[0\.\d{3}, 1\.\d{3}\]", command.interval(rows, command.ratio))
    assert command.interval(np.zeros((3, 2)), command.ratio) == "-"


def test_windows_in_a_row_are_joined(command):
    parts = []
    for _ in range(4):
        limits = np.full((1, 2, 8), 7.0)
        parts.append(Beats([5], 100.0, limits=limits))
    first, second = command._join(parts, 2, 50, 2)
    assert first.r_peaks.tolist() == second.r_peaks.tolist() == [5, 55]
    assert first.limits[:, 0, 0].tolist() == [7, 57]
