"""Windows of rhythms at their marks and inside their episodes, and against loops that spell the rules out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skecg.datasets import segment_rhythm
from skecg.datasets._segment_rhythm import select_marks


def record(marks, n=2000, fs=100.0, **more):
    """Return a record whose samples say where they are; a mark is (position, note), or a symbol that is no mark."""
    sample = [position for position, _ in marks]
    symbol = ["+" if text.startswith("(") else text[0] for _, text in marks]
    note = [text if text.startswith("(") else text[1:] for _, text in marks]
    data = np.arange(n, dtype=np.float32)[None]
    return {"data": data, "fs": fs, "sample": np.array(sample, int), "symbol": symbol, "aux_note": note, **more}


AFIB = [(50, "(N"), (500, "(AFIB\0"), (900, "N"), (1200, "(N"), (1700, "(SBR")]


def test_windows_at_marks_hold_half_the_rhythm_before():
    windows = segment_rhythm(record(AFIB, record="7", group="p"), at="marks")
    assert windows.target.tolist() == ["AFIB", "SBR"] and windows.sample.tolist() == [500, 1700]
    np.testing.assert_array_equal(windows.data[:, 0, 0], [400, 1600])
    assert windows.data.shape == (2, 1, 200) and windows.data.dtype == np.float32
    assert windows.episode.tolist() == [[500, 1200], [1700, 2000]]
    assert windows.groups.tolist() == ["p", "p"] and windows.record.tolist() == ["7", "7"]
    assert windows.beats.sample.tolist() == [] and windows.fs == 100.0 and windows.n_timesteps == 200


def test_windows_inside_episodes_hold_one_rhythm():
    windows = segment_rhythm(record(AFIB), at="episodes", classes=["AFIB", "NSR"])
    assert windows.start.tolist() == [50, 250, 500, 700, 900, 1200, 1400]
    assert windows.target.tolist() == ["NSR"] * 2 + ["AFIB"] * 3 + ["NSR"] * 2
    assert windows.sample.tolist() == [50] * 2 + [500] * 3 + [1200] * 2
    assert windows.beats.sample.tolist() == [900] and windows.beats.offsets.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert windows.beats.label.tolist() == [""]


def test_stride_and_shift_stay_inside_the_episode():
    windows = segment_rhythm(record(AFIB), at="episodes", classes=["AFIB"], stride=0.5, shift=1.0, random_state=0)
    assert (windows.start - windows.shift).tolist() == list(range(500, 1001, 50))
    assert windows.start.min() >= 500 and windows.start.max() + 200 <= 1200
    assert len(set(windows.shift.tolist())) > 4
    again = segment_rhythm(record(AFIB), at="episodes", classes=["AFIB"], stride=0.5, shift=1.0, random_state=0)
    np.testing.assert_array_equal(windows.shift, again.shift)


def test_the_last_episode_ends_with_the_signal_or_the_last_annotation():
    marks = [(500, "(AFIB"), (899, "N")]
    assert segment_rhythm(record(marks), at="episodes").episode[0].tolist() == [500, 2000]
    windows = segment_rhythm(record(marks), at="episodes", edge="annotations")
    assert windows.episode.tolist() == [[500, 900]] * 2 and windows.start.tolist() == [500, 700]


def test_episodes_too_short_for_a_window_are_counted():
    windows = segment_rhythm(record([(100, "(AFIB"), (299, "(N"), (400, "(AFIB"), (600, "(N")]), at="episodes")
    assert windows.start.tolist() == [400] and windows.n_excluded == {"short": 1, "missing": 0}


def test_notes_of_one_rhythm_have_one_label_and_one_episode():
    marks = [(200, "(VF"), (500, "(VFIB"), (700, "(VF"), (1000, "(NOISE"), (1200, "(VFIB")]
    episodes = segment_rhythm(record(marks), classes=["VF"], at="episodes")
    assert np.unique(episodes.episode, axis=0).tolist() == [[200, 1000], [1200, 2000]]
    at_marks = segment_rhythm(record(marks), classes=["VF"], at="marks")
    assert at_marks.target.tolist() == ["VF"] * 4
    assert at_marks.episode[:, 0].tolist() == [200, 200, 200, 1200]


def test_comments_are_no_rhythms():
    marks = record([(500, '"(AFIB'), (700, "+TS"), (900, "(AFIB")])
    marks["symbol"][0] = '"'
    assert segment_rhythm(marks, at="marks").sample.tolist() == [900]


@pytest.mark.parametrize(("other", "single"), [(600, False), (601, True), (400, False), (399, True), (500, False)])
def test_alone_sees_marks_of_every_rhythm_with_both_ends(other, single):
    marks = sorted([(500, "(AFIB"), (other, "(XYZ")])
    windows = segment_rhythm(record(marks), alone=True, at="marks")
    assert len(windows.sample) == single
    assert windows.n_excluded == {"edge": 0, "impure": int(not single), "missing": 0}


@pytest.mark.parametrize(("position", "whole"), [(99, False), (100, True), (1900, True), (1901, False)])
def test_windows_at_marks_lie_within_the_signal(position, whole):
    windows = segment_rhythm(record([(position, "(AFIB")]), at="marks")
    assert len(windows.data) == whole and windows.n_excluded["edge"] == (not whole)


@pytest.mark.parametrize(("position", "whole"), [(149, False), (150, True), (850, True), (851, False)])
def test_edge_rule_of_the_annotations(position, whole):
    marks = [(50, "N"), (position, "(AFIB"), (950, "~")]
    assert len(segment_rhythm(record(marks), edge="annotations", at="marks").data) == whole


def test_own_labels_take_notes_with_or_without_the_bracket():
    marks = [(300, "(AFIB"), (600, "(AFL"), (900, "(N")]
    windows = segment_rhythm(record(marks), classes={"flutter": ["AFL", "(AFIB"], "(N": "(N"}, at="marks")
    assert windows.target.tolist() == ["flutter", "flutter", "(N"]


def test_a_label_that_reads_like_another_rhythms_note_does_not_join_their_episodes():
    windows = segment_rhythm(record([(300, "(AFIB"), (900, "(N")]), classes={"(N": "(AFIB"}, at="episodes")
    assert windows.episode.tolist() == [[300, 900]] * 3 and set(windows.target) == {"(N"}


def test_annotations_alone_and_parts_of_a_record():
    whole = record(AFIB)
    alone = segment_rhythm({**whole, "data": None, "n_timesteps": 2000}, at="marks")
    assert alone.data is None and alone.sample.tolist() == [500, 1700]
    part = {**whole, "data": whole["data"][:, 450:900], "sampfrom": 450}
    inside = segment_rhythm(part, at="episodes")
    assert inside.start.tolist() == [500, 700] and inside.episode.tolist() == [[500, 900]] * 2
    np.testing.assert_array_equal(inside.data[:, 0, 0], [500, 700])


def test_windows_mostly_missing_are_left_out_and_counted():
    whole = record([(500, "(AFIB"), (900, "(AFIB"), (1400, "(SBR")])
    whole["data"][0, 820:] = np.nan
    windows = segment_rhythm(whole, at="marks")
    assert windows.sample.tolist() == [500] and windows.n_excluded["missing"] == 2
    assert len(windows.episode) == len(windows.target) == len(windows.start) == 1


def test_no_rhythms_give_empty_arrays():
    for at in ("marks", "episodes"):
        windows = segment_rhythm(record([(300, "N")]), at=at)
        assert windows.data.shape == (0, 1, 200) and windows.episode.shape == (0, 2) and windows.target.shape == (0,)
        empty = segment_rhythm(record([]), at=at)
        assert empty.data.shape == (0, 1, 200)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"classes": ["AFIBB"]}, "unknown 'AFIBB'; allowed are NSR, AFIB"),
        ({"classes": 5}, "unknown 5; allowed are NSR"),
        ({"classes": {"a": 5}}, "notes of rhythm marks as texts; got 5"),
        ({"classes": []}, "own notes of rhythm marks"),
        ({"classes": {"a": "(N", "b": ["(N", "(NSR"]}}, "own notes of rhythm marks"),
        ({"classes": {"a": []}}, "own notes of rhythm marks"),
        ({"classes": {"": "(N"}}, "own notes of rhythm marks"),
        ({"at": "beats"}, "at must be one of 'episodes', 'marks'"),
        ({"edge": "record"}, "edge must be one of"),
        ({"at": "marks", "stride": 1.0}, "stride is for at='episodes'"),
        ({"alone": True}, "alone is for at='marks'"),
        ({"stride": 0}, "stride must be a finite number"),
        ({"stride": 0.001}, "at least one sample"),
        ({"window": -1}, "window must be"),
        ({"shift": -1}, "shift must be"),
    ],
)
def test_wrong_settings_are_named(settings_, message):
    with pytest.raises(ValueError, match=message):
        segment_rhythm(record(AFIB), **settings_)


def test_records_without_notes_are_named():
    bare = record(AFIB)
    del bare["aux_note"]
    with pytest.raises(ValueError, match="has no aux_note: read it with its annotations"):
        segment_rhythm(bare)
    with pytest.raises(ValueError, match="one text for each annotation"):
        segment_rhythm({**record(AFIB), "aux_note": ["(N"]})


MARKS = st.lists(
    st.tuples(st.integers(0, 299), st.sampled_from(["(AFIB", "(N", "(VF", "(VFIB", "N", "V", "~"])), max_size=15
).map(lambda marks: sorted(marks, key=lambda mark: mark[0]))


@settings(max_examples=100, deadline=None)
@given(marks=MARKS, n=st.integers(1, 80), edge=st.sampled_from(["signal", "annotations"]), alone=st.booleans())
def test_choice_of_marks_equals_the_rules_spelled_out(marks, n, edge, alone):
    half, expected = n // 2, []
    for i, (position, text) in enumerate(marks):
        good = text in ("(AFIB", "(VF", "(VFIB") and position - half >= 0 and position - half + n <= 300
        if edge == "annotations":
            good = good and position - half >= marks[0][0] and position + half <= marks[-1][0]
        if alone:
            rhythms = [p for p, other in marks if other.startswith("(")]
            good = good and sum(position - half <= p <= position + half for p in rhythms) == 1
        if good:
            expected.append(i)
    made = record(marks, n=300, fs=1.0)
    classes = {"AFIB": "AFIB", "VF": ("(VF", "(VFIB")}
    chosen, excluded = select_marks(
        made["sample"],
        np.array(made["symbol"], str),
        np.array(made["aux_note"], object),
        0,
        300,
        n,
        classes,
        edge=edge,
        alone=alone,
    )
    assert chosen.tolist() == expected
    every = sum(text in ("(AFIB", "(VF", "(VFIB") for _, text in marks)
    assert len(chosen) + sum(excluded.values()) == every
    windows = segment_rhythm(made, window=n, classes=["AFIB", "VF"], edge=edge, alone=alone, at="marks")
    assert windows.sample.tolist() == [marks[i][0] for i in expected]
    np.testing.assert_array_equal(windows.data[:, 0, half], windows.sample)


@settings(max_examples=100, deadline=None)
@given(marks=MARKS, n=st.integers(1, 80), stride=st.integers(1, 60), shift=st.integers(0, 40), seed=st.integers(0, 9))
def test_windows_of_episodes_hold_the_rhythm_of_every_sample(marks, n, stride, shift, seed):
    marks = list({position: (position, text) for position, text in marks}.values())  # one a sample
    names = {"(AFIB": "AFIB", "(VF": "VF", "(VFIB": "VF"}
    rhythm, now = [], ""
    for position in range(300):
        for at, text in marks:
            if at == position and text.startswith("("):
                now = names.get(text, text)
        rhythm.append(now)
    windows = segment_rhythm(
        record(marks, n=300, fs=1.0),
        window=n,
        classes=["AFIB", "VF"],
        at="episodes",
        stride=stride,
        shift=shift,
        random_state=seed,
    )
    for start, target in zip(windows.start.tolist(), windows.target.tolist(), strict=True):
        assert set(rhythm[start : start + n]) == {target}
    expected, position = 0, 0
    while position < 300:  # runs of equal rhythm, which the marks' episodes are
        end = position
        while end < 300 and rhythm[end] == rhythm[position]:
            end += 1
        if rhythm[position] in ("AFIB", "VF"):
            expected += max(0, (end - position - n) // stride + 1)
        position = end
    assert len(windows.start) == expected
