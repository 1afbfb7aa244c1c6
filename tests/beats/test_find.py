"""find_beats: synthetic beats with truth, bad windows with their reasons, leads, second opinions, long records."""

import sys
import types

import numpy as np
import pytest

from skecg.beats import Beats, find_beats
from skecg.beats._find import count_matches
from skecg.datasets import make_ecg

FS = 500.0


@pytest.fixture(scope="module")
def ecg():
    settings = {"n_leads": 12, "fs": FS, "window": 10.0, "distractors": False, "random_state": 3}
    return make_ecg(8, classes=("N", "LBBB", "AF", "SVTA"), **settings)


def found_of(truth, found, tolerance=0.04 * FS, n=5000):
    """Return beats that should be found, those found, and pairs; at the ends of a window either may be right."""
    inner = [p[(p > 0.2 * FS) & (p < n - 0.2 * FS)] for p in (truth, found)]
    return len(inner[0]), len(inner[1]), count_matches(truth, found, tolerance)


@pytest.mark.parametrize("leads", [None, [1], [6], [10]])
def test_finds_the_beats_of_every_rhythm(ecg, leads):
    for label, truth, beats in zip(ecg.target, ecg.r_peaks, find_beats(ecg.data, FS, leads=leads), strict=True):
        # the truth is the peak of lead II; a broad, notched complex has another one in the leads together or in V1
        n_true, n_found, pairs = found_of(truth, beats.r_peaks, (0.1 if label == "LBBB" else 0.04) * FS)
        assert pairs >= n_true
        assert pairs >= n_found
        assert beats.reason == ""
        assert (beats.detector, beats.fs) == ("energy", FS)


@pytest.mark.parametrize("fs", [100.0, 128.0, 360.0, 1000.0])
def test_any_sampling_rate(fs):
    ecg = make_ecg(4, classes=("N",), n_leads=2, fs=fs, window=6.0, distractors=False, random_state=0)
    for truth, beats in zip(ecg.r_peaks, find_beats(ecg.data, fs), strict=True):
        inner = truth[(truth > 0.2 * fs) & (truth < 5.8 * fs)]
        assert count_matches(inner, beats.r_peaks, 0.05 * fs) == len(inner)


def test_windows_of_two_seconds_have_one_to_three_beats():
    ecg = make_ecg(20, classes=("N", "SB"), fs=250.0, distractors=False, random_state=0)
    for truth, beats in zip(ecg.r_peaks, find_beats(ecg.data, 250.0), strict=True):
        inner = truth[(truth > 50) & (truth < 450)]
        assert count_matches(inner, beats.r_peaks, 15) == len(inner) >= 1
        assert beats.fiducial


def test_two_dimensions_are_one_lead(ecg):
    flat, cube = find_beats(ecg.data[:, 1], FS), find_beats(ecg.data[:, 1:2], FS)
    assert [b.r_peaks.tolist() for b in flat] == [b.r_peaks.tolist() for b in cube]


def test_scale_sign_offset_and_companions_do_not_matter(ecg):
    alone = find_beats(ecg.data[:1], FS)[0].r_peaks
    for changed in (ecg.data * 2, -ecg.data, ecg.data + 3):
        assert np.abs(find_beats(changed, FS)[0].r_peaks - alone).max() <= 1
    assert np.array_equal(find_beats(ecg.data, FS)[0].r_peaks, alone)


def test_alignment_puts_the_same_sample_of_every_beat_under_the_mark():
    """Beats of one shape, whose given positions are off by known amounts, end up at one distance from the truth."""
    t = np.arange(-0.3, 0.3, 1 / FS)
    shape = np.exp(-((t / 0.012) ** 2)) - 0.3 * np.exp(-(((t - 0.03) / 0.012) ** 2))
    truth = np.array([500, 950, 1380, 1840, 2300, 2760, 3250, 3700, 4180, 4600])
    x = np.zeros((1, 5000), dtype=np.float32)
    for r in truth:
        x[0, r - 150 : r + 150] += shape.astype(np.float32)
    x += np.random.default_rng(0).normal(0, 0.02, x.shape).astype(np.float32)
    from skecg.beats._align import align

    off = np.array([-15, 12, 3, -8, 0, 10, -3, 6, -11, 2])
    moved, matched = align(x, np.square(x[0]), truth + off, FS)
    assert matched
    assert np.abs(moved - truth).max() <= 1


def flat(n=2500):
    return np.zeros((12, n))


def one_lead(values):
    return np.asarray(values, dtype=np.float64)[None]


GOOD = make_ecg(1, classes=("N",), n_leads=12, fs=250.0, window=10.0, random_state=0).data[0].astype(np.float64)


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (flat(), "flat"),
        (flat() + 7, "flat"),
        (np.full((12, 2500), np.nan), "missing samples in every lead"),
        (np.full((12, 2500), np.inf), "missing samples in every lead"),
        (np.where(np.arange(2500) % 1000 < 100, np.nan, GOOD), "missing samples in every lead, 0.40 s"),
        (np.random.default_rng(0).normal(size=(12, 2500)), "noise"),
        (np.random.default_rng(1).normal(size=(1, 2500)), "noise"),
        (np.cumsum(np.random.default_rng(2).normal(size=(1, 2500)), axis=1), "noise"),
        (one_lead(np.sin(np.arange(2500) / 4)), "noise"),
        (GOOD[:, :100], "0.40 s of signal; 0.5 s are needed"),
        (GOOD[:, :1], "flat"),
        (1e38 * GOOD, "missing samples"),
    ],
)
def test_bad_windows_have_reasons_and_their_neighbours_beats(x, reason):
    x = np.broadcast_to(x, (12, x.shape[1]))
    n = x.shape[1]
    both = find_beats(np.stack([x, GOOD[:, :n]]), 250.0)
    assert reason in both[0].reason
    assert len(both[0].r_peaks) == 0
    if n == 2500:
        assert np.array_equal(both[1].r_peaks, find_beats(GOOD[None], 250.0)[0].r_peaks)
        assert len(both[1].r_peaks) >= 9


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 40, 124, 125, 130, 200])
def test_no_length_raises(n):
    for x in (GOOD[:, :n], np.random.default_rng(n).normal(size=(12, n))):
        (beats,) = find_beats(x[None], 250.0)
        assert bool(beats.reason) == (len(beats.r_peaks) == 0)


def test_short_gaps_are_bridged_and_bad_leads_left_out():
    whole = find_beats(GOOD[None], 250.0)[0].r_peaks
    holes = GOOD.copy()
    holes[:, 600:620] = np.nan
    assert np.array_equal(find_beats(holes[None], 250.0)[0].r_peaks, whole)
    before = holes.copy()
    holes[3] = np.nan
    holes[4] = 0
    holes[5, 700:900] = np.inf
    assert np.abs(find_beats(holes[None], 250.0)[0].r_peaks - whole).max() <= 2
    assert np.array_equal(before[:3], holes[:3], equal_nan=True)  # the user's array is as it was


@pytest.mark.parametrize("value", [0.0, -1.5])
def test_padding_holds_no_beats(value):
    padded = np.full((1, 12, 4000), value)
    padded[0, :, 700:3200] = GOOD
    found = find_beats(padded, 250.0)[0].r_peaks
    assert np.abs(found - 700 - find_beats(GOOD[None], 250.0)[0].r_peaks).max() <= 1


def test_long_records_are_found_as_short_ones_are(ecg):
    """Three minutes in pieces: the same beats as each ten seconds alone, but for those at seams of the material."""
    normal = np.flatnonzero(ecg.target == "N")
    long = np.concatenate(list(ecg.data[normal]) * 9, axis=1)
    (beats,) = find_beats(long[None], FS)
    truth = np.concatenate([ecg.r_peaks[normal[i % 2]] + 5000 * i for i in range(18)])
    inner = truth[(truth % 5000 > 250) & (truth % 5000 < 4750)]
    assert count_matches(inner, beats.r_peaks, 25) >= 0.99 * len(inner)
    assert len(beats.r_peaks) <= len(truth)
    assert beats.left_out == ()
    assert np.diff(beats.r_peaks).min() > 0.2 * FS


def test_stretches_of_a_long_record_without_signal_are_listed(ecg):
    long = np.concatenate(list(ecg.data[:2]) * 9, axis=1)
    long[:, 59 * 500 : 127 * 500] = np.random.default_rng(0).normal(0, 0.3, (12, 68 * 500))
    (beats,) = find_beats(long[None], FS)
    assert [(a, b) for a, b, _ in beats.left_out] == [(60 * 500, 120 * 500)]
    assert "noise" in beats.left_out[0][2]
    assert not ((beats.r_peaks >= 60 * 500) & (beats.r_peaks < 120 * 500)).any()
    assert (beats.r_peaks > 150 * 500).any()
    (nothing,) = find_beats(np.zeros((1, 1, 100_000)), FS)
    assert nothing.reason.startswith("flat")


# ------------------------------------------------------------------------------------------------- leads, parameters


def test_leads_by_name_and_by_position(ecg):
    names = ecg.lead_names
    by_name = find_beats(ecg.data, FS, leads=["v1", "II"], lead_names=names)
    by_position = find_beats(ecg.data, FS, leads=[names.index("V1"), names.index("II")])
    assert [b.r_peaks.tolist() for b in by_name] == [b.r_peaks.tolist() for b in by_position]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detector": "pantompkins"}, "'energy', 'neurokit', 'xqrs', 'gqrs'"),
        ({"second": "energy"}, "second must be one of 'neurokit'"),
        ({"leads": ["V9"], "lead_names": ["II", "V1"]}, "leads names 'V9'; X has the leads II, V1"),
        ({"leads": ["II"]}, "lead_names is not given"),
        ({"leads": [2]}, "leads names 2"),
        ({"leads": []}, "one lead at least"),
        ({"leads": [0, 0]}, "each once"),
        ({"lead_names": ["II"]}, "1 names .*X has 2 leads"),
        ({"lead_names": "II"}, "a list of names"),
        ({"fs": 30.0}, "at least 60"),
        ({"fs": None}, "sampling rate"),
        ({"align": "yes"}, "align must be one of"),
    ],
)
def test_refuses_parameters(settings, message):
    with pytest.raises(ValueError, match=message):
        find_beats(np.zeros((1, 2, 500)), **{"fs": 250.0, **settings})


# ------------------------------------------------------------------------------------------------------ other detectors


@pytest.mark.parametrize("detector", ["xqrs", "gqrs"])
def test_detectors_of_wfdb(detector):
    # xqrs learns from more than ten seconds
    ecg = make_ecg(1, classes=("N",), n_leads=3, fs=250.0, window=40.0, distractors=False, random_state=0)
    (beats,) = find_beats(ecg.data, 250.0, detector=detector, lead_names=ecg.lead_names)
    inner = ecg.r_peaks[0][1:-1]
    assert count_matches(inner, beats.r_peaks, 0.075 * 250) >= 0.9 * len(inner)
    assert beats.detector == detector


def test_alignment_takes_the_delay_of_gqrs_away(ecg):
    raw, aligned = (find_beats(ecg.data[:1], FS, detector="gqrs", align=a)[0] for a in (False, True))
    energy = find_beats(ecg.data[:1], FS)[0].r_peaks

    def farthest(peaks):
        return max(np.abs(energy - r).min() for r in peaks)

    assert farthest(aligned.r_peaks) <= 2 < farthest(raw.r_peaks)
    assert raw.fiducial == "as gqrs puts it"


@pytest.mark.parametrize("detector", ["xqrs", "gqrs"])
@pytest.mark.parametrize("n", [126, 150, 250])
def test_what_a_detector_refuses_is_a_reason(detector, n):
    (beats,) = find_beats(GOOD[None, :, :n], 250.0, detector=detector)
    assert bool(beats.reason) == (len(beats.r_peaks) == 0)


@pytest.fixture
def neurokit(monkeypatch):
    """Put a stand-in for neurokit2 in its place, whose answer the test sets."""
    module = types.ModuleType("neurokit2")
    module.calls = []
    module.ecg_clean = lambda lead, sampling_rate, method: module.calls.append((lead, sampling_rate, method)) or lead
    module.ecg_findpeaks = lambda cleaned, sampling_rate, method: {"ECG_R_Peaks": module.answer}
    monkeypatch.setitem(sys.modules, "neurokit2", module)
    return module


def test_neurokit_gets_lead_ii_and_its_answer_is_put_in_order(neurokit, ecg):
    truth = ecg.r_peaks[0]
    neurokit.answer = np.concatenate([truth[::-1], truth[:1], [np.nan, -5, 99999]])
    (beats,) = find_beats(ecg.data[:1], FS, detector="neurokit", lead_names=ecg.lead_names, align=False)
    assert beats.r_peaks.tolist() == [r for r in truth.tolist() if 0 <= r < 5000]
    lead, rate, method = neurokit.calls[0]
    assert np.array_equal(lead, ecg.data[0, 1])
    assert (rate, method) == (500, "neurokit")


@pytest.mark.parametrize("error", [TypeError, ValueError, IndexError, ZeroDivisionError])
def test_neurokit_that_raises_is_a_reason(neurokit, ecg, error):
    def fail(*_, **__):
        raise error("inside")

    neurokit.ecg_findpeaks = fail
    (beats,) = find_beats(ecg.data[:1], FS, detector="neurokit")
    assert beats.reason == f"neurokit refused: {error.__name__}: inside"


def test_beats_that_no_heart_has(neurokit, ecg):
    """Two beats four seconds apart, and nothing found between: no answer is better than that one."""
    neurokit.answer = np.array([ecg.r_peaks[1][1], ecg.r_peaks[1][1] + 2000])
    (beats,) = find_beats(ecg.data[1:2], FS, detector="neurokit", align=False)
    assert "beats would be 4.00 s apart; 0.25 to 3.0 s are plausible" in beats.reason
    assert len(beats.r_peaks) == 0


def test_missing_neurokit_is_an_import_error_with_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "neurokit2", None)
    for settings in ({"detector": "neurokit"}, {"second": "neurokit"}):
        with pytest.raises(ImportError, match=r"skecg\[waves\]"):
            find_beats(np.zeros((1, 500)), 250.0, **settings)


def test_real_neurokit_finds_the_beats(ecg):
    pytest.importorskip("neurokit2", reason="neurokit2 is in the extra `waves`, which pins pandas below 3")
    row = int(np.flatnonzero(ecg.target == "N")[0])
    (beats,) = find_beats(ecg.data[row : row + 1], FS, detector="neurokit", lead_names=ecg.lead_names)
    n_true, _, pairs = found_of(ecg.r_peaks[row], beats.r_peaks)
    assert pairs >= n_true - 1


def test_second_opinion(neurokit, ecg):
    truth = find_beats(ecg.data[:1], FS)[0].r_peaks
    neurokit.answer = truth
    (same,) = find_beats(ecg.data[:1], FS, second="neurokit")
    assert same.agreement == 1.0
    neurokit.answer = truth[::2]
    with pytest.warns(UserWarning, match=r"energy and neurokit agree by less than 0\.9 \(F1\) in 1 of 1 windows: 0"):
        (half,) = find_beats(ecg.data[:1], FS, second="neurokit")
    k, n = len(truth[::2]), len(truth)
    assert half.agreement == pytest.approx(2 * k / (k + n))
    assert half.detector == "energy"
    assert find_beats(np.zeros((1, 500)), FS, second="neurokit")[0].agreement is None


def test_matches_are_one_to_one():
    assert count_matches(np.array([10, 12]), np.array([11]), 5) == 1
    assert count_matches(np.array([10, 100]), np.array([15, 106]), 5) == 1
    assert count_matches(np.array([], dtype=int), np.array([1]), 5) == 0


def test_result_is_a_list_of_beats(ecg):
    beats = find_beats(ecg.data, FS)
    assert isinstance(beats, list)
    assert all(isinstance(b, Beats) and b.limits is None and b.source == "" for b in beats)
