"""Windows in a row: their labels by each rule, and masks of beats against loops that spell them out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skecg.datasets import read_record, segment_beats, segment_rhythm, segment_windows, truth_masks
from skecg.metrics import pointing_game_score


def record(beats, n=2400, fs=100.0, **more):
    """Return a record whose samples say where they are."""
    sample, symbol = zip(*beats, strict=True) if beats else ((), ())
    data = np.arange(n, dtype=np.float32)[None]
    return {"data": data, "fs": fs, "sample": np.array(sample, int), "symbol": np.array(symbol, str), **more}


BEATS = [(100, "N"), (200, "N"), (300, "V"), (900, "N"), (1000, "L"), (1700, "A"), (1800, "A"), (1900, "V")]


def test_windows_in_a_row_are_labelled_by_the_commonest_abnormal_class():
    windows = segment_windows(record(BEATS, record="7", group="p"))
    assert windows.start.tolist() == [0, 800, 1600] and windows.sample.tolist() == [400, 1200, 2000]
    assert windows.target.tolist() == ["VEB", "N", "SVEB"]
    assert windows.classes == ["N", "SVEB", "VEB", "F", "Q"]
    assert windows.counts.tolist() == [[2, 0, 1, 0, 0], [2, 0, 0, 0, 0], [0, 2, 1, 0, 0]]
    assert windows.data.shape == (3, 1, 800) and windows.data.dtype == np.float32
    np.testing.assert_array_equal(windows.data[:, 0, 0], windows.start)
    assert windows.groups.tolist() == ["p"] * 3 and windows.record.tolist() == ["7"] * 3
    assert windows.shift.tolist() == [0, 0, 0] and windows.n_timesteps == 800 and windows.fs == 100.0


def test_majority_takes_whatever_most_beats_are():
    windows = segment_windows(record(BEATS), label="majority")
    assert windows.target.tolist() == ["N", "N", "SVEB"]


@pytest.mark.parametrize("label", ["commonest_abnormal", "majority"])
def test_of_equals_the_class_named_first_is_taken(label):
    beats = [(100, "V"), (200, "A")]
    assert segment_windows(record(beats), label=label).target.tolist() == ["SVEB"]
    other = {"N": "N", "VEB": "V", "SVEB": "A"}
    assert segment_windows(record(beats), label=label, classes=other).target.tolist() == ["VEB"]


def test_one_abnormal_beat_outweighs_any_number_of_normal_ones():
    beats = [(position, "N") for position in range(0, 800, 20)] + [(799, "V")]
    assert segment_windows(record(beats, n=800)).target.tolist() == ["VEB"]
    assert segment_windows(record(beats, n=800), label="majority").target.tolist() == ["N"]


def test_another_class_may_be_the_normal_one():
    beats = [(100, "/"), (200, "/"), (300, "N")]
    assert segment_windows(record(beats, n=800), normal="Q").target.tolist() == ["N"]


def test_windows_without_a_beat_of_the_classes_are_left_out_and_counted():
    windows = segment_windows(record([(100, "!"), (900, "V"), (1700, "~")]), classes=["N", "PVC"])
    assert windows.start.tolist() == [800] and windows.n_excluded == {"edge": 0, "unlabelled": 2, "missing": 0}


def test_stride_decides_where_windows_begin():
    windows = segment_windows(record(BEATS), window=2.0, stride=0.5, edge="signal")
    counted = {start for start in range(0, 2201, 50) if any(start <= p < start + 200 for p, _ in BEATS)}
    assert windows.start.tolist() == sorted(counted)
    assert len(windows.start) + windows.n_excluded["unlabelled"] == 45


def test_edge_rule_of_the_annotations():
    beats = [(1, "N"), (400, "N"), (1598, "N")]
    windows = segment_windows(record(beats), edge="annotations")
    assert windows.start.tolist() == [] and windows.n_excluded["edge"] == 3
    beats = [(0, "N"), (400, "N"), (900, "N"), (1599, "+")]
    windows = segment_windows(record(beats), edge="annotations")
    assert windows.start.tolist() == [0, 800] and windows.n_excluded["edge"] == 1


def test_shift_moves_windows_before_they_are_labelled():
    whole = record([(position, "N") for position in range(0, 2400, 50)] + [(2399, "V")])
    windows = segment_windows(whole, shift=2.0, random_state=3)
    assert windows.start.min() >= 0 and windows.start.max() <= 1600
    assert (windows.shift != 0).any() and np.abs(windows.shift).max() <= 200
    assert (windows.start - windows.shift).tolist() == [0, 800, 1600]
    expected = ["VEB" if 2399 < start + 800 else "N" for start in windows.start.tolist()]
    assert windows.target.tolist() == expected


def test_annotations_alone_and_parts_of_a_record():
    windows = segment_windows({**record(BEATS), "data": None, "n_timesteps": 2400})
    assert windows.data is None and windows.target.tolist() == ["VEB", "N", "SVEB"]
    assert truth_masks(windows).shape == (3, 800)
    whole = record(BEATS)
    part = segment_windows({**whole, "data": whole["data"][:, 250:1050], "sampfrom": 250})
    assert part.start.tolist() == [250] and part.target.tolist() == ["VEB"]
    assert part.data[0, 0, 0] == 250
    assert truth_masks(part, kind="qrs")[0].nonzero()[0].tolist() == list(range(35, 66))


def test_windows_mostly_missing_are_left_out_and_counted():
    whole = record(BEATS)
    whole["data"][0, 800:1300] = np.nan
    windows = segment_windows(whole)
    assert windows.target.tolist() == ["VEB", "SVEB"] and windows.n_excluded["missing"] == 1
    assert len(windows.counts) == len(windows.beats.offsets) - 1 == 2
    assert windows.beats.sample.tolist() == [100, 200, 300, 1700, 1800, 1900]


def test_records_shorter_than_a_window_give_empty_arrays():
    windows = segment_windows(record([(50, "N")], n=799))
    assert windows.data.shape == (0, 1, 800) and windows.target.shape == (0,) and windows.counts.shape == (0, 5)
    assert truth_masks(windows).shape == (0, 800)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"label": "first"}, "label must be one of 'commonest_abnormal', 'majority'"),
        ({"normal": "NORM"}, "normal must be one of classes, N, SVEB, VEB, F, Q; got 'NORM'"),
        ({"classes": ["PVC"]}, "normal must be one of classes, PVC"),
        ({"edge": "record"}, "edge must be one of"),
        ({"window": 0}, "window must be"),
        ({"stride": -1}, "stride must be a finite number"),
        ({"shift": -1}, "shift must be"),
        ({"classes": ["VEB"]}, "unknown 'VEB'"),
    ],
)
def test_wrong_settings_are_named(settings_, message):
    with pytest.raises(ValueError, match=message):
        segment_windows(record(BEATS), **settings_)


def test_spans_and_qrs_of_the_windows_own_class_are_the_truth():
    windows = segment_windows(record(BEATS))
    span, qrs = truth_masks(windows), truth_masks(windows, kind="qrs")
    assert span[0].nonzero()[0].tolist() == list(range(250, 600))
    assert qrs[0].nonzero()[0].tolist() == list(range(285, 316))
    assert span[2].nonzero()[0].tolist() == list(range(0, 250))  # its A beats: from the midpoint before the window on
    assert span[1].nonzero()[0].tolist() == list(range(0, 550))
    assert qrs.sum(axis=1).tolist() == [31, 62, 62]


def test_truth_of_another_class_or_of_one_class_a_window():
    windows = segment_windows(record(BEATS))
    assert truth_masks(windows, kind="qrs", label="VEB").sum(axis=1).tolist() == [31, 0, 31]
    each = truth_masks(windows, kind="qrs", label=["N", "VEB", "VEB"])
    assert each.sum(axis=1).tolist() == [62, 0, 31]


def test_half_width_is_in_seconds_and_overlaps_count_once():
    windows = segment_windows(record([(100, "V"), (110, "V")], n=800))
    assert truth_masks(windows, kind="qrs", half_width=0).sum() == 2
    assert truth_masks(windows, kind="qrs", half_width=0.2)[0].nonzero()[0].tolist() == list(range(80, 131))


def test_masks_serve_windows_around_beats_and_scores():
    windows = segment_beats(record([(400, "N"), (500, "V"), (620, "N")], n=1000), classes=["PVC"])
    truth = truth_masks(windows)
    assert truth[0].nonzero()[0].tolist() == list(range(50, 160))
    relevance = np.zeros((1, 1, 200), dtype=np.float32)
    relevance[0, 0, 100] = 1
    assert pointing_game_score(truth, relevance) == 1.0


def test_masks_name_what_they_cannot_use():
    windows = segment_windows(record(BEATS))
    with pytest.raises(TypeError, match="segment_windows"):
        truth_masks(windows.data)
    with pytest.raises(ValueError, match="has no beats"):
        truth_masks({name: value for name, value in windows.items() if name != "beats"})
    with pytest.raises(ValueError, match="kind must be one of"):
        truth_masks(windows, kind="beat")
    with pytest.raises(ValueError, match="half_width must be"):
        truth_masks(windows, kind="qrs", half_width=-1)
    with pytest.raises(ValueError, match="one for each of 3 windows"):
        truth_masks(windows, label=["N", "N"])
    with pytest.raises(ValueError, match="make the masks before windows are chosen"):
        truth_masks({**windows, "start": windows.start[:2], "target": windows.target[:2]})
    rhythm = {**record([(500, "+"), (600, "N")]), "aux_note": ["(AFIB", ""]}
    with pytest.raises(ValueError, match="have no labels"):
        truth_masks(segment_rhythm(rhythm, at="episodes"))


CASES = {"N": "NL", "S": "AJ", "V": "V"}


@settings(max_examples=100, deadline=None)
@given(
    positions=st.lists(st.integers(0, 299), max_size=25),
    symbols=st.lists(st.sampled_from("NLAJVF+!"), min_size=25, max_size=25),
    n=st.integers(1, 120),
    stride=st.integers(1, 90),
    label=st.sampled_from(["commonest_abnormal", "majority"]),
    edge=st.sampled_from(["signal", "annotations"]),
    kind=st.sampled_from(["span", "qrs"]),
)
def test_windows_and_masks_equal_the_rules_spelled_out(positions, symbols, n, stride, label, edge, kind):
    marks = list(zip(sorted(positions), symbols, strict=False))
    beats = [(position, symbol) for position, symbol in marks if symbol not in "+!"]
    of = {symbol: name for name, several in CASES.items() for symbol in several}
    expected = []
    for start in range(0, 300 - n + 1, stride):
        if edge == "annotations" and not (marks and marks[0][0] <= start and start + n - 1 <= marks[-1][0]):
            continue
        names = [of[symbol] for position, symbol in beats if start <= position < start + n and symbol in of]
        counts = Counter(names)
        abnormal = {name: counts[name] for name in CASES if counts[name] and (label == "majority" or name != "N")}
        if abnormal:
            expected.append((start, max(abnormal, key=abnormal.get)))  # max takes the first of equals
        elif names:
            expected.append((start, "N"))
    windows = segment_windows(
        record(marks, n=300, fs=1.0), window=n, stride=stride, classes=CASES, label=label, edge=edge
    )
    assert list(zip(windows.start.tolist(), windows.target.tolist(), strict=True)) == expected
    np.testing.assert_array_equal(windows.data[:, 0, 0], windows.start)

    if kind == "span" and len({position for position, _ in beats}) < len(beats):
        return  # of two beats at one sample only one can have it
    masks = truth_masks(windows, kind=kind, half_width=7.0)
    for mask, (start, name) in zip(masks, expected, strict=True):
        own = [i for i, (p, symbol) in enumerate(beats) if of.get(symbol) == name and start <= p < start + n]
        true = [any(belongs(beats, i, sample, kind) for i in own) for sample in range(start, start + n)]
        assert mask.tolist() == true


def belongs(beats, i, sample, kind):
    """Tell whether a sample is part of a beat: nearest to it, and beyond the outermost beats as far as on their inside.

    Of two beats at one distance the later one has the sample.
    """
    positions = [position for position, _ in beats]
    if kind == "qrs":
        return abs(sample - positions[i]) <= 7

    def nearest(at):
        return min(range(len(positions)), key=lambda j: (abs(positions[j] - at), -j)) == i

    outside = sample < positions[0] or sample > positions[-1]
    return nearest(sample) and (len(positions) == 1 or not outside or nearest(2 * positions[i] - sample))


def test_masks_of_real_records(real_data):
    record_ = read_record(real_data / "mitdb" / "119", leads=0, annotator="atr")
    windows = segment_windows(record_)
    assert len(windows.target) == 225 and set(windows.target) == {"N", "VEB"}  # 650,000 samples, 444 V in bigeminy
    assert windows.counts[:, 2].sum() + (record_.sample[record_.symbol == "V"] >= 225 * 2880).sum() == 444
    span, qrs = truth_masks(windows), truth_masks(windows, kind="qrs")
    veb = windows.target == "VEB"
    assert 0.05 < qrs[veb].mean() < span[veb].mean() < 0.6
    assert (windows.counts[veb, 2] * 109 >= qrs[veb].sum(axis=1)).all()  # 54 samples on either side, and the peak
    assert span[~veb].mean() > 0.97
