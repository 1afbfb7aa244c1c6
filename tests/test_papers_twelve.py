"""The script on twelve leads: its functions give known answers, and it runs on made-up recordings."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.utils import Bunch

from skecg.beats import Beats

PAPERS = Path(__file__).resolve().parents[1] / "examples" / "papers"


@pytest.fixture
def script(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(PAPERS)
    yield importlib.import_module("twelve_leads")
    for name in {path.stem for path in PAPERS.glob("*.py")} & set(sys.modules):
        del sys.modules[name]


def made(script, n: int = 60, seed: int = 0) -> Bunch:
    """Return what ``recordings`` returns, of noise, two recordings a patient."""
    rng = np.random.RandomState(seed)
    target = np.zeros((n, 6), dtype=int)
    target[np.arange(n // 2), np.arange(n // 2) % 6] = 1
    groups = np.array([f"p{i // 2}" for i in range(n)])
    return Bunch(
        data=rng.standard_normal((n, 12, 64)).astype(np.float32), target=target, normal=~target.any(1), groups=groups,
        record=np.array([f"r{i}" for i in range(n)]), database=np.full(n, "made"), valid=np.tile([8, 56], (n, 1)),
    )  # fmt: skip


def test_folds_keep_patients_apart_and_labels_alike(script):
    ecg = made(script, 120)
    fold = script.folds(ecg)
    assert set(fold) == set(range(5))
    for patient in np.unique(ecg.groups):
        assert len(set(fold[ecg.groups == patient])) == 1
    counts = np.array([np.bincount(fold[ecg.target[:, j] == 1], minlength=5) for j in range(6)])
    assert counts.max() <= 2 * np.ceil(counts.sum(1).max() / 5)


def test_short_recordings_stay_zero_where_they_were_padded(script):
    part = importlib.import_module("_twelve")
    data = np.random.RandomState(0).standard_normal((2, 12, 5000)).astype(np.float32)
    data[1, :, 3000:] = 0
    found = Bunch(data=data, fs=500.0, groups=np.array([1, 2]), record=np.array(["a", "b"]))
    out = part._part("x", found, np.zeros((2, 6)), np.ones(2))
    assert out.data.shape == (2, 12, 4096) and out.valid.tolist() == [[48, 4048], [48, 2448]]
    assert not out.data[1, :, 2448:].any() and not out.data[:, :, :48].any()
    assert out.data[1, :, 2400:2448].any() and out.groups.tolist() == ["x:1", "x:2"]


def test_a_bridge_is_a_straight_line_over_the_wave_alone(script):
    X = np.random.RandomState(0).standard_normal((1, 12, 4096)).astype(np.float32)
    limits = np.full((2, 12, 8), np.nan, dtype=np.float32)
    limits[0, 3, :3] = 100, 110, 120  # one P wave, in one lead
    beats = [Beats([200, 600], 400.0, limits=limits)]
    waves = importlib.import_module("_twelve_waves")
    out = waves.bridged(X, beats, "P")
    changed = np.argwhere(out != X)
    assert {tuple(c[:2]) for c in changed} == {(0, 3)} and changed[:, 2].min() >= 101 and changed[:, 2].max() <= 119
    assert np.allclose(out[0, 3, 100:121], np.linspace(X[0, 3, 100], X[0, 3, 120], 21), atol=1e-6)
    assert np.array_equal(waves.bridged(X, beats, "T"), X)
    assert np.array_equal(waves.bridged(X, beats, "P", leads=("II", "V1")), X)


def test_marked_waves_go_to_the_beat_that_is_near_in_time(script):
    dtype = [(name, "<U3" if name in ("record", "lead", "wave") else int)
             for name in ("row", "record", "lead", "wave", "onset", "peak", "offset")]  # fmt: skip
    rows = [(0, "1", "II", "QRS", 980, 1000, 1030), (0, "1", "II", "QRS", 1480, 1500, 1530),
            (0, "1", "II", "P", 1380, 1400, 1430), (0, "1", "II", "T", 1150, 1200, 1260),
            (0, "1", "V1", "QRS", -1, 1002, 1040), (0, "1", "V1", "P", 880, 900, 920)]  # fmt: skip
    leads = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    found = Bunch(intervals=np.array(rows, dtype=dtype), fs=500.0, record=["1", "2"], lead_names=leads)
    one, none = script.ludb_beats(found)
    assert one.r_peaks.tolist() == [848, 1248] and one.p_present is True  # 0.8 of the sample, and 48
    ii, v1 = one.limits[:, 1], one.limits[:, 6]
    assert np.isnan(ii[0, :3]).all() and ii[1, :3].tolist() == [1152, 1168, 1192]  # the first beat has no P in II
    assert ii[0, 5:].tolist() == [968, 1008, 1056] and np.isnan(ii[1, 5:]).all()
    assert v1[0, :3].tolist() == [752, 768, 784] and np.isnan(v1[0, 3:5]).all()  # a QRS without onset is no QRS
    assert np.allclose(one.p_region, [[832 - 80, 832 - 12], [1232 - 80, 1232 - 12]])
    assert len(none.r_peaks) == 0 and none.reason


def test_mean_relevance_is_an_identity_and_shares_are_not(script):
    ecg = made(script)
    rows, y = script.cohort(ecg, "AF")
    assert set(y) == {"AF", "N"} and (y == "AF").sum() == ecg.target[:, 4].sum()
    analysis = importlib.import_module("_twelve_analysis")
    analysis.LENGTH, length = 64, analysis.LENGTH
    try:
        R = np.random.RandomState(1).standard_normal((len(rows), 12, 64)).astype(np.float32)
        start = np.random.RandomState(2).standard_normal(len(rows)) * 50
        score = R[..., 8:56].sum((1, 2)) + start  # conserved, from baselines of their own
        out = Bunch(relevance=R, score=score, start=start, error=np.zeros(len(rows)))
        lines = script.by_class("AF", ecg, rows, y, out)
    finally:
        analysis.LENGTH = length
    assert lines[0][2].startswith("1.000") and not lines[3][2].startswith("1.000")


def test_scores_have_no_interval_below_ten_patients(script):
    ecg = made(script, 200)
    ecg.target[:] = 0
    ecg.target[:40, 0], ecg.target[40:46, 1] = 1, 1
    probability = np.zeros((200, 6))
    probability[:40, 0] = 1
    lines = {line[1]: line for line in script.scores("made", ecg, probability, 50)}
    assert lines["1dAVb"][2:4] == ["40", "20"] and lines["1dAVb"][4] == "1.000 (1.000 to 1.000)"
    assert lines["RBBB"][4] == "0.500 (3 patients, no interval)" and lines["AF"][2:5] == ["0", "0", ""]


def test_shares_are_held_against_those_of_the_ecg_alone(script):
    analysis = importlib.import_module("_twelve_analysis")
    ecg = made(script, 80)
    rows, y = script.cohort(ecg, "AF")
    ecg.data = np.abs(ecg.data) + 1
    ecg.data[ecg.target[:, 4] == 1, 6] *= 3  # V1 is larger in AF, and relevance is nothing but the ECG
    R = ecg.data[rows]
    share = analysis.aggregated("lead", "AF", ecg, rows, y, R, share=True, statistic="abs_mean")
    lines = script.against_amplitude("AF", ecg, rows, y, R, share)
    assert lines[6][0] == "+1.00" and lines[6][1] == "+0.00" and lines[6][2].startswith("+1.00 (")
    assert analysis.delta(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == 0.75
