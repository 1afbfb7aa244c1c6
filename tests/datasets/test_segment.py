"""Windows around beats: where they lie, which beats count, and the published counts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skecg.datasets import read_record, segment_beats


def record(beats, n=1000, fs=100.0, n_leads=1, **more):
    """Return a record whose samples say where they are: lead 0 holds 0, 1, 2, ..., lead 1 holds 10000, 10001, ..."""
    data = np.arange(n, dtype=np.float32) + 10_000 * np.arange(n_leads, dtype=np.float32)[:, None]
    sample, symbol = zip(*beats, strict=True) if beats else ((), ())
    return {"data": data, "fs": fs, "sample": np.array(sample, int), "symbol": np.array(symbol, str), **more}


def test_windows_are_centred_and_name_their_beats():
    windows = segment_beats(record([(300, "N"), (500, "V"), (700, "~")], n_leads=2, record="7", group="p"), window=0.5)
    assert windows.data.shape == (2, 2, 50) and windows.data.dtype == np.float32
    np.testing.assert_array_equal(windows.data[:, 0, 25], [300, 500])
    np.testing.assert_array_equal(windows.data[:, 1, 0], [10_275, 10_475])
    assert windows.target.tolist() == ["N", "PVC"]
    assert windows.sample.tolist() == [300, 500] and windows.start.tolist() == [275, 475]
    assert windows.record.tolist() == ["7", "7"] and windows.groups.tolist() == ["p", "p"]
    assert windows.fs == 100.0 and windows.lead_names == ["0", "1"] and windows.shift.tolist() == [0, 0]


@pytest.mark.parametrize(("position", "whole"), [(99, False), (100, True), (900, True), (901, False)])
def test_windows_lie_within_the_signal(position, whole):
    windows = segment_beats(record([(position, "N")]), window=2.0)
    assert len(windows.data) == whole and windows.n_excluded["edge"] == (not whole)


@pytest.mark.parametrize(("position", "whole"), [(149, False), (150, True), (850, True), (851, False)])
def test_edge_rule_of_the_annotations(position, whole):
    beats = [(50, "+"), (position, "N"), (950, "~")]
    assert len(segment_beats(record(beats), window=2.0, edge="annotations").data) == whole


@pytest.mark.parametrize(
    ("other", "symbol", "pure"),
    [(600, "V", False), (601, "V", True), (400, "+", False), (399, "+", True), (600, "N", True)],
)
def test_pure_windows_hold_one_symbol_with_both_ends(other, symbol, pure):
    beats = sorted([(500, "N"), (other, symbol)])
    windows = segment_beats(record(beats), window=2.0, pure=True, classes=["N"])
    assert (500 in windows.sample) is pure
    assert windows.n_excluded["impure"] == len([s for _, s in beats if s == "N"]) - len(windows.sample)


def test_purity_sees_annotations_of_every_kind_at_one_sample():
    windows = segment_beats(record([(500, "N"), (500, "+"), (500, "N")]), pure=True)
    assert len(windows.sample) == 0 and windows.n_excluded["impure"] == 2


def test_shift_moves_windows_within_bounds_and_never_out_of_the_signal():
    beats = [(position, "N") for position in range(100, 901, 4)]
    windows = segment_beats(record(beats), window=2.0, shift=0.3, random_state=0)
    assert len(windows.sample) == len(beats)
    np.testing.assert_array_equal(windows.data[:, 0, 0], windows.start)
    np.testing.assert_array_equal(windows.start, windows.sample - 100 + windows.shift)
    assert windows.start.min() >= 0 and windows.start.max() <= 800
    inner = windows.shift[(windows.sample >= 130) & (windows.sample <= 870)]
    assert inner.min() < -20 and inner.max() > 20 and np.abs(inner).max() <= 30


def test_shift_follows_its_random_state_alone():
    beats = [(position, "N") for position in range(200, 800, 10)]
    first, again = (segment_beats(record(beats), shift=0.5, random_state=3).shift for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != segment_beats(record(beats), shift=0.5, random_state=4).shift).any()
    assert (first != segment_beats(record(beats), shift=0.5).shift).any()
    old = segment_beats(record(beats), shift=0.5, random_state=np.random.RandomState(3)).shift
    assert np.abs(old).max() <= 50 and len(set(old.tolist())) > 20


def test_shift_is_uniform_on_whole_samples():
    beats = [(500 + 250 * i, "N") for i in range(6000)]
    shifts = Counter(segment_beats(record(beats, n=1_501_000), shift=0.02, random_state=0).shift.tolist())
    assert sorted(shifts) == [-2, -1, 0, 1, 2]
    expected = 6000 / 5
    chi2 = sum((count - expected) ** 2 / expected for count in shifts.values())
    assert chi2 < 18.47  # 0.1 % of the chi-square distribution of 4 degrees of freedom


def test_own_labels_join_symbols():
    windows = segment_beats(record([(300, "a"), (400, "V"), (500, "N")]), classes={"SVEB": "AaJS", "VEB": ["V", "E"]})
    assert windows.target.tolist() == ["SVEB", "VEB"]


def test_annotations_alone_give_the_choice_without_windows():
    whole = record([(99, "N"), (500, "V")])
    windows = segment_beats({**whole, "data": None, "n_timesteps": 1000})
    assert windows.data is None and windows.target.tolist() == ["PVC"]


def test_part_of_a_record_is_cut_at_its_own_positions():
    whole = record([(300, "N"), (500, "V"), (700, "N")])
    part = {**whole, "data": whole["data"][:, 400:800], "sampfrom": 400}
    windows = segment_beats(part, window=0.5)
    assert windows.sample.tolist() == [500, 700]
    np.testing.assert_array_equal(windows.data[:, 0, 25], [500, 700])


def test_windows_mostly_missing_are_left_out_and_counted():
    whole = record([(200, "N"), (500, "N"), (800, "N")])
    whole["data"][0, 150:252] = np.nan  # 101 of the 200 samples of the first window, 0 of the others
    whole["data"][0, 500:600] = np.nan  # exactly half of the second
    windows = segment_beats(whole)
    assert windows.sample.tolist() == [500, 800] and windows.n_excluded["missing"] == 1
    assert np.isnan(windows.data[0]).sum() == 100


def test_no_beats_give_empty_arrays():
    windows = segment_beats(record([]))
    assert windows.data.shape == (0, 1, 200) and windows.target.shape == (0,)


def test_record_is_left_as_it_is():
    whole = record([(500, "N")])
    before = {name: np.copy(value) for name, value in whole.items()}
    segment_beats(whole).data[:] = -1
    for name, value in before.items():
        np.testing.assert_array_equal(whole[name], value)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"classes": ["PCV"]}, r"unknown 'PCV'; allowed are N, PVC, PAC, LBBB, RBBB"),
        ({"classes": []}, "own annotation symbols"),
        ({"classes": {"a": "V", "b": "VE"}}, "own annotation symbols"),
        ({"classes": {"a": ""}}, "own annotation symbols"),
        ({"classes": {"a": 5}}, "annotation symbols as texts; got 5"),
        ({"classes": None}, "unknown None; allowed are N, PVC"),
        ({"edge": "record"}, "edge must be one of 'signal', 'annotations'"),
        ({"window": 0}, "window must be a finite number"),
        ({"window": 0.001}, "at least one sample"),
        ({"shift": -1}, "shift must be a finite number"),
        ({"shift": float("nan")}, "shift must be a finite number"),
        ({"random_state": "seed", "shift": 0.1}, "random_state must be"),
        ({"random_state": -1, "shift": 0.1}, "must not be negative"),
    ],
)
def test_wrong_settings_are_named(settings_, message):
    with pytest.raises(ValueError, match=message):
        segment_beats(record([(500, "N")]), **settings_)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": [5, 3], "symbol": ["N", "N"]}, "must not decrease"),
        ({"sample": [5, 6]}, "1-D of one length"),
        ({"sample": [5.5]}, "sample of integers"),
        ({"data": np.zeros(1000)}, "shape"),
        ({"fs": 0}, "fs must be"),
    ],
)
def test_wrong_records_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        segment_beats({**record([(500, "N")]), **changes})


def test_record_without_annotations_says_how_to_read_them():
    with pytest.raises(ValueError, match="annotator='atr'"):
        segment_beats({"data": np.zeros((1, 100)), "fs": 100.0})
    with pytest.raises(TypeError, match="read_record"):
        segment_beats(np.zeros((1, 100)))


@settings(max_examples=60, deadline=None)
@given(
    positions=st.lists(st.integers(0, 399), max_size=30),
    symbols=st.lists(st.sampled_from("NVA+~"), min_size=30, max_size=30),
    n=st.integers(1, 90),
    edge=st.sampled_from(["signal", "annotations"]),
    pure=st.booleans(),
)
def test_choice_of_beats_equals_the_rules_spelled_out(positions, symbols, n, edge, pure):
    marks = list(zip(sorted(positions), symbols, strict=False))
    half, expected = n // 2, []
    for position, symbol in marks:
        good = symbol in "NVA" and position - half >= 0 and position - half + n <= 400
        if edge == "annotations":
            good = good and position - half >= marks[0][0] and position + half <= marks[-1][0]
        if pure:
            good = good and {s for p, s in marks if position - half <= p <= position + half} == {symbol}
        if good:
            expected.append(position)
    windows = segment_beats(record(marks, n=400, fs=1.0), window=n, edge=edge, pure=pure)
    assert windows.sample.tolist() == expected
    np.testing.assert_array_equal(windows.data[:, 0, 0], np.array(expected) - half)


def test_spans_reach_from_midpoint_to_midpoint():
    beats = [(200, "N"), (210, "+"), (300, "V"), (401, "!"), (501, "N")]  # rhythm marks and flutter waves are no beats
    windows = segment_beats(record(beats), window=0.5)
    assert windows.span.tolist() == [[151, 250], [250, 401], [401, 602]]


def test_a_lone_beat_has_the_whole_signal():
    assert segment_beats(record([(500, "N")])).span.tolist() == [[0, 1000]]


def test_spans_end_with_the_signal_and_may_be_those_of_own_classes():
    windows = segment_beats(record([(100, "N"), (700, "!")]), classes={"VFL": "!"})
    assert windows.span.tolist() == [[400, 1000]]
    assert windows.beats.label.tolist() == ["VFL"]


def test_beats_inside_windows_are_listed_window_by_window():
    beats = [(300, "N"), (310, "~"), (349, "V"), (350, "N"), (400, "A")]
    windows = segment_beats(record(beats), window=1.0, classes=["N", "PVC"])
    assert windows.start.tolist() == [250, 299, 300] and windows.n_timesteps == 100
    inside = windows.beats
    assert inside.offsets.tolist() == [0, 2, 5, 8]
    assert inside.sample.tolist() == [300, 349, 300, 349, 350, 300, 349, 350]
    assert inside.symbol.tolist() == ["N", "V", "N", "V", "N", "N", "V", "N"]
    assert inside.label.tolist() == ["N", "PVC", "N", "PVC", "N", "N", "PVC", "N"]
    assert inside.span[1].tolist() == [325, 350] and inside.span.dtype == np.int64


def test_aami_groups_are_a_name():
    beats = [(200, "L"), (300, "a"), (400, "E"), (500, "F"), (600, "/")]
    assert segment_beats(record(beats), classes="aami").target.tolist() == ["N", "SVEB", "VEB", "F", "Q"]


@settings(max_examples=60, deadline=None)
@given(
    positions=st.lists(st.integers(0, 399), max_size=30),
    symbols=st.lists(st.sampled_from("NVA+~!"), min_size=30, max_size=30),
    n=st.integers(1, 90),
    shift=st.integers(0, 50),
    seed=st.integers(0, 9),
)
def test_beats_stay_where_they_are_in_every_window(positions, symbols, n, shift, seed):
    marks = list(zip(sorted(positions), symbols, strict=False))
    whole = record(marks, n=400, fs=1.0)
    windows = segment_beats(whole, window=n, shift=shift, random_state=seed)
    rows = np.arange(len(windows.sample))
    at = windows.sample - windows.start  # inside, unless the window was moved further than half its length
    inside = (at >= 0) & (at < n)
    assert inside.all() or shift > n // 2 or shift >= n - n // 2
    np.testing.assert_array_equal(windows.data[rows[inside], 0, at[inside]], windows.sample[inside])
    beats = windows.beats
    assert beats.offsets[0] == 0 and beats.offsets[-1] == len(beats.sample) == len(beats.symbol) == len(beats.span)
    for i, start in enumerate(windows.start.tolist()):
        part = slice(beats.offsets[i], beats.offsets[i + 1])
        expected = [(p, s) for p, s in marks if s in "NVA" and start <= p < start + n]
        assert list(zip(beats.sample[part].tolist(), beats.symbol[part].tolist(), strict=True)) == expected


@settings(max_examples=60, deadline=None)
@given(positions=st.lists(st.integers(0, 399), min_size=1, max_size=30, unique=True))
def test_spans_share_the_signal_out(positions):
    at = np.array(sorted(positions))
    windows = segment_beats(record([(p, "N") for p in at.tolist()], n=400, fs=1.0), window=1)
    spans = windows.span
    np.testing.assert_array_equal(spans[1:, 0], spans[:-1, 1])  # no gap and no overlap
    assert (spans[:, 0] <= at).all() and (at < spans[:, 1]).all() and spans.min() >= 0 and spans.max() <= 400
    for sample in range(spans[0, 0], spans[-1, 1]):
        (owner,) = np.flatnonzero((spans[:, 0] <= sample) & (sample < spans[:, 1]))
        assert abs(at[owner] - sample) == np.abs(at - sample).min()


def _counts(folder, **rules):
    counts = Counter()
    for path in sorted(folder.glob("*.hea")):
        counts.update(segment_beats(read_record(path, annotator="atr", signal=False), **rules).target.tolist())
    return counts


@pytest.mark.filterwarnings("ignore:.*is not calibrated:UserWarning")
def test_published_counts_of_the_long_term_database(real_data):
    if not (real_data / "ltdb" / "14046.atr").is_file():
        pytest.skip("the annotations of ltdb are not in SKECG_DATA")
    assert _counts(real_data / "ltdb", edge="annotations", pure=True) == {"N": 517_402, "PVC": 5_137}
    assert _counts(real_data / "ltdb", pure=True) == {"N": 517_409, "PVC": 5_137}


def test_counts_of_mitdb_by_both_edge_rules(real_data):
    inside = {"N": 74_965, "PVC": 7_126, "PAC": 2_545, "LBBB": 8_066, "RBBB": 7_251}
    assert _counts(real_data / "mitdb") == inside
    between = {"N": 74_941, "PVC": 7_126, "PAC": 2_541, "LBBB": 8_064, "RBBB": 7_249}
    assert _counts(real_data / "mitdb", edge="annotations") == between
