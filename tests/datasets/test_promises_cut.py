"""What cutting, splits and made-up ECG promise, against brute force and closed forms."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest

from skecg.datasets import check_split, make_ecg, segment_beats, segment_rhythm, segment_windows, truth_masks
from skecg.preprocessing import check_lead_order, check_units

AAMI = {"N": "NLRej", "SVEB": "AaJS", "VEB": "VE", "F": "F", "Q": "/fQ"}
BEATS = {"N": "N", "PVC": "V", "PAC": "A", "LBBB": "L", "RBBB": "R"}
ABNORMAL = ("PVC", "PAC", "LBBB", "RBBB")


def made_up(seed, n=6000, fs=100.0, leads=2):
    """Return a record of noise with annotations of all kinds."""
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(n, 70, replace=False))
    symbol = rng.choice(list('NNNNNNVVVALR~"FE/'), 70)
    note = np.full(70, "", dtype=object)
    for i in rng.choice(70, 10, replace=False):
        symbol[i], note[i] = "+", rng.choice(["(AFIB", "(N", "(SVTA", "(SBR"])
    data = rng.standard_normal((leads, n)).astype(np.float32)
    return {"data": data, "fs": fs, "sample": sample, "symbol": symbol, "aux_note": note, "record": "7", "group": "G"}


def beat_positions(record):
    """Return positions and symbols of the beats: all annotations of the five groups."""
    beats = "".join(AAMI.values())
    kept = [(int(s), str(m)) for s, m in zip(record["sample"], record["symbol"], strict=True) if m in beats]
    return np.array([s for s, _ in kept]), [m for _, m in kept]


def check_common(windows, record, window):
    n = round(window * record["fs"])
    k = len(windows.target)
    assert windows.n_timesteps == n and windows.fs == record["fs"]
    assert windows.data.shape == (k, 2, n) and windows.data.dtype == np.float32
    assert len(windows.groups) == len(windows.record) == len(windows.sample) == len(windows.start) == k
    assert set(windows.groups.tolist()) <= {"G"} and set(windows.record.tolist()) <= {"7"}
    assert len(windows.lead_names) == 2 and windows.DESCR
    for i, start in enumerate(windows.start):
        assert 0 <= start and start + n <= record["data"].shape[1]
        np.testing.assert_array_equal(windows.data[i], record["data"][:, start : start + n])
    sample, symbol = beat_positions(record)
    assert windows.beats.offsets[0] == 0 and windows.beats.offsets[-1] == len(windows.beats.sample)
    for i, start in enumerate(windows.start):
        rows = slice(windows.beats.offsets[i], windows.beats.offsets[i + 1])
        inside = (sample >= start) & (sample < start + n)
        assert windows.beats.sample[rows].tolist() == sample[inside].tolist()
        assert windows.beats.symbol[rows].tolist() == [m for m, yes in zip(symbol, inside, strict=True) if yes]
        for s, (a, b) in zip(sample[inside], windows.beats.span[rows], strict=True):
            j = int(np.flatnonzero(sample == s)[0])
            assert a <= s < b
            if j > 0:
                assert abs(a - (sample[j - 1] + s) / 2) <= 0.5
            if j < len(sample) - 1:
                assert abs(b - (sample[j + 1] + s) / 2) <= 0.5
    return n


@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("edge", ["signal", "annotations"])
@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("window", [0.5, 0.51, 2.0])
def test_beats_by_brute_force(case, edge, pure, window):
    record = made_up(case)
    windows = segment_beats(record, window=window, edge=edge, pure=pure)
    n = check_common(windows, record, window)
    low, high = (0, 6000) if edge == "signal" else (record["sample"][0], record["sample"][-1] + 1)
    expected, left_out = [], Counter()
    for s, m in zip(record["sample"], record["symbol"], strict=True):
        label = {v: k for k, v in BEATS.items()}.get(m)
        if label is None:
            continue
        a, b = s - n // 2, s - n // 2 + n
        near = record["symbol"][(record["sample"] >= s - n // 2) & (record["sample"] <= s + n // 2)]
        whole = a >= 0 and b <= 6000
        if edge == "annotations":  # the end included: s + n // 2 is not behind the last annotation
            whole = whole and s - n // 2 >= low and s + n // 2 <= high - 1
        if not whole:
            left_out["edge"] += 1
        elif pure and set(near.tolist()) != {m}:
            left_out["impure"] += 1
        else:
            expected.append((int(s), label))
    assert list(zip(windows.sample.tolist(), windows.target.tolist(), strict=True)) == expected
    assert {k: v for k, v in windows.n_excluded.items() if v} == dict(left_out)
    np.testing.assert_array_equal(windows.start, windows.sample - n // 2)


@pytest.mark.parametrize("case", range(5))
@pytest.mark.parametrize("alone", [False, True])
def test_rhythm_marks_by_brute_force(case, alone):
    record = made_up(case)
    windows = segment_rhythm(record, at="marks", alone=alone)
    check_common(windows, record, 2.0)
    marks = [s for s, m in zip(record["sample"], record["symbol"], strict=True) if m == "+"]
    expected = []
    for s, note in zip(record["sample"], record["aux_note"], strict=True):
        if note in ("(AFIB", "(SVTA", "(SBR") and s - 100 >= 0 and s + 100 <= 6000:
            others = [t for t in marks if t != s and s - 100 <= t <= s + 100]
            if not (alone and others):
                expected.append((int(s), note[1:]))
    assert list(zip(windows.sample.tolist(), windows.target.tolist(), strict=True)) == expected


@pytest.mark.parametrize("case", range(5))
@pytest.mark.parametrize("stride", [None, 0.37])
def test_windows_inside_episodes_hold_one_rhythm(case, stride):
    record = made_up(case)
    classes = ("NSR", "AFIB", "SVTA", "SBR")
    windows = segment_rhythm(record, at="episodes", stride=stride, classes=classes, window=1.0)
    check_common(windows, record, 1.0)
    truth = np.full(6000, "", dtype=object)
    for s, note in zip(record["sample"], record["aux_note"], strict=True):
        if note:
            truth[s:] = {"(N": "NSR"}.get(note, note[1:])
    for start, label in zip(windows.start, windows.target, strict=True):
        assert set(truth[start : start + 100]) == {label}
    begins = np.flatnonzero(np.r_[True, truth[1:] != truth[:-1]])
    ends = np.r_[begins[1:], 6000]
    step = 100 if stride is None else 37
    expected = [int(s) for a, b in zip(begins, ends, strict=True) if truth[a] for s in range(a, b - 99, step)]
    assert windows.start.tolist() == expected


@pytest.mark.parametrize("case", range(5))
@pytest.mark.parametrize("label", ["commonest_abnormal", "majority"])
@pytest.mark.parametrize("stride", [None, 0.7])
def test_fixed_windows_by_brute_force(case, label, stride):
    record = made_up(case)
    windows = segment_windows(record, window=4.0, stride=stride, label=label)
    check_common(windows, record, 4.0)
    sample, symbol = beat_positions(record)
    groups = np.array([next(k for k, v in AAMI.items() if m in v) for m in symbol])
    starts, targets, counts = [], [], []
    for start in range(0, 6000 - 400 + 1, 400 if stride is None else 70):
        inside = groups[(sample >= start) & (sample < start + 400)].tolist()
        count = {k: inside.count(k) for k in AAMI}
        if not inside:
            continue
        pool = {k: v for k, v in count.items() if k != "N" and v} if label == "commonest_abnormal" else count
        starts.append(start)
        targets.append(max(pool, key=pool.get) if pool else "N")  # the first of equals
        counts.append(list(count.values()))
    assert windows.classes == list(AAMI)
    assert windows.start.tolist() == starts and windows.target.tolist() == targets
    np.testing.assert_array_equal(windows.counts, counts)


@pytest.mark.parametrize("kind", ["span", "qrs"])
def test_truth_masks_mark_the_beats_of_the_label(kind):
    record = made_up(3)
    windows = segment_windows(record, window=4.0)
    masks = truth_masks(windows, kind=kind, half_width=0.1)
    assert masks.shape == (len(windows.target), 400) and masks.dtype == bool
    for i, start in enumerate(windows.start):
        expected = np.zeros(400, dtype=bool)
        for j in range(windows.beats.offsets[i], windows.beats.offsets[i + 1]):
            if windows.beats.label[j] == windows.target[i]:
                s = windows.beats.sample[j]
                a, b = windows.beats.span[j] if kind == "span" else (s - 10, s + 11)
                expected[max(0, a - start) : max(0, b - start)] = True
        np.testing.assert_array_equal(masks[i], expected)


def test_shift_moves_windows_and_nothing_else():
    record = made_up(1)
    plain, moved = segment_beats(record), segment_beats(record, shift=0.4, random_state=0)
    check_common(moved, record, 2.0)
    assert moved.sample.tolist() == plain.sample.tolist() and moved.target.tolist() == plain.target.tolist()
    np.testing.assert_array_equal(moved.start, plain.start + moved.shift)
    assert np.abs(moved.shift).max() <= 40 and len(set(moved.shift.tolist())) > 5
    np.testing.assert_array_equal(moved.start, segment_beats(record, shift=0.4, random_state=0).start)


@pytest.mark.parametrize("cut", [segment_beats, segment_windows, segment_rhythm])
def test_cutting_leaves_the_record_and_copies(cut):
    record = made_up(2)
    before = {key: np.copy(value) for key, value in record.items()}
    windows = cut(record)
    windows.data[:] = 99
    for key, value in before.items():
        np.testing.assert_array_equal(record[key], value)
    none = cut(record | {"data": None, "n_timesteps": 6000})
    assert none.data is None and none.start.tolist() == windows.start.tolist()


def test_a_split_that_shares_patients_warns_once():
    with pytest.warns(UserWarning, match="b") as caught:
        assert check_split(["train", "train", "test", "test", ""], ["a", "b", "b", "c", "a"]) == ["b"]
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_split([1, 1, 2, 2], ["a", "b", "c", "c"]) == []


@pytest.mark.parametrize("classes", [("N", "AFIB", "LBBB", "RBBB", "1dAVb", "SB", "ST"), ("PVC", "PAC", "SVTA")])
@pytest.mark.parametrize("distractors", [True, False])
def test_twelve_leads_agree_before_noise(classes, distractors):
    settings = {"classes": classes, "n_leads": 12, "window": 4.0, "distractors": distractors, "random_state": 1}
    bunch = make_ecg(28, noise=0.0, **settings)
    lead = {name: bunch.data[:, i].astype(float) for i, name in enumerate(bunch.lead_names)}
    assert bunch.data.shape == bunch.truth.shape == (28, 12, 1440) and len(lead) == 12
    pairs = {
        "III": lead["II"] - lead["I"],
        "aVR": -(lead["I"] + lead["II"]) / 2,
        "aVL": lead["I"] - lead["II"] / 2,
        "aVF": lead["II"] - lead["I"] / 2,
    }
    for name, value in pairs.items():
        np.testing.assert_allclose(lead[name], value, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_lead_order(bunch.data, bunch.lead_names).agrees.all()
        assert set(check_units(bunch.data).looks_like.tolist()) == {"mV"}
    noisy = make_ecg(28, noise=0.1, **settings)
    np.testing.assert_array_equal(noisy.truth, bunch.truth)
    assert all(np.array_equal(a, b) for a, b in zip(noisy.r_peaks, bunch.r_peaks, strict=True))
    assert 0.03 < np.sqrt(np.mean((noisy.data - bunch.data) ** 2)) < 0.3


def test_truth_lies_where_the_class_shows():
    bunch = make_ecg(200, classes=("N", *ABNORMAL, "1dAVb"), n_leads=12, random_state=0)
    share = {label: bunch.truth[bunch.target == label].mean() for label in set(bunch.target.tolist())}
    assert share["N"] == 0 and all(0 < share[label] < 0.15 for label in share if label != "N")
    for truth, waves, label in zip(bunch.truth, bunch.waves, bunch.target, strict=True):
        allowed = np.zeros(720, dtype=bool)
        for row in waves:
            if not np.isnan(row["evidence_on"]):
                allowed[max(0, int(row["evidence_on"])) : max(0, int(row["evidence_off"]))] = True
        assert not truth[:, ~allowed].any()
        assert label == "N" or truth.any()


def test_beats_are_what_cardiologists_read():
    classes = ("N", *ABNORMAL, "1dAVb", "AFIB", "SB", "ST", "SVTA")
    bunch = make_ecg(180, classes=classes, n_leads=12, window=6.0, random_state=3, noise=0.0)
    for row, label in enumerate(bunch.target.tolist()):
        peaks, waves = bunch.r_peaks[row], bunch.waves[row]
        own = waves[waves["r"] == bunch.sample[row]]
        assert len(own) == 1 and bunch.sample[row] in peaks
        qrs = float((own["qrs_off"] - own["qrs_on"])[0]) / bunch.fs
        assert qrs >= 0.12 if label in ("PVC", "LBBB", "RBBB") else qrs < 0.12
        if label in ("PVC", "AFIB"):
            assert np.isnan(own["p_on"]).all()
        elif label in ("N", "PAC", "LBBB", "RBBB", "1dAVb", "SB", "ST"):
            pr = float((own["qrs_on"] - own["p_on"])[0]) / bunch.fs
            assert (pr > 0.2) == (label == "1dAVb")
        rr = np.diff(peaks) / bunch.fs
        rate = 60 / rr.mean()
        low, high = {"SB": (36, 59), "ST": (100, 145), "SVTA": (145, 225), "AFIB": (60, 150)}.get(label, (50, 110))
        assert low < rate < high
        if label in ("AFIB", "SB", "ST", "SVTA"):  # the others may hold an early beat
            assert (np.std(rr) / np.mean(rr) > 0.05) == (label == "AFIB")
        before = peaks[peaks < bunch.sample[row]]
        if label in ("PVC", "PAC") and len(before):
            assert (bunch.sample[row] - before[-1]) / bunch.fs < 0.95 * np.median(rr)  # premature


def test_rates_and_morphology_are_controlled():
    settings = {"classes": ("N", "AFIB"), "window": 10.0, "n_leads": 12, "random_state": 0, "noise": 0.0}
    bunch = make_ecg(20, heart_rate={"N": 70, "AFIB": (130, 140)}, **settings)
    for peaks, label in zip(bunch.r_peaks, bunch.target, strict=True):
        rate = 60 * bunch.fs / np.diff(peaks).mean()
        assert abs(rate - (70 if label == "N" else 135)) < (5 if label == "N" else 25)
    for axis in (-60, 0, 60):
        bunch = make_ecg(20, morphology={"axis": axis}, distractors=False, **settings | {"classes": ("N",)})
        net = np.zeros((20, 2))
        for row in range(20):
            for wave in bunch.waves[row]:
                if wave["qrs_on"] >= 0 and wave["qrs_off"] <= bunch.data.shape[2]:
                    part = bunch.data[row, :, int(wave["qrs_on"]) : int(wave["qrs_off"])].sum(axis=1)
                    net[row] += part[[bunch.lead_names.index("I"), bunch.lead_names.index("aVF")]]
        angle = np.degrees(np.arctan2(net[:, 1] * 2 / np.sqrt(3), net[:, 0]))
        assert abs(np.median(angle) - axis) < 25


def test_make_ecg_has_the_bunch_of_the_contract():
    bunch = make_ecg(12, classes=("N", "PVC"), random_state=0)
    assert set(bunch) >= {"data", "target", "groups", "record", "sample", "fs", "lead_names", "DESCR", "truth"}
    X, y = make_ecg(12, classes=("N", "PVC"), random_state=0, return_X_y=True)
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)
