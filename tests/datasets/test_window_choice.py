"""What labels mean in a database, and the windows that a record gives by its annotations alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils import Bunch

from skecg.datasets._databases import AAMI, LTDB, MITDB, VFDB
from skecg.datasets._window_choice import check_labels, choose_windows

NOTES = [(10, "+", "(N"), (300, "N", ""), (400, "V", ""), (500, "+", "(AFIB"), (600, "A", ""), (650, '"', "MISSB"),
         (700, "N", ""), (900, "+", "(AFIB"), (1000, "+", "(AFL"), (1300, "N", ""), (1399, "+", "(N")]  # fmt: skip


def record(annotations=tuple(NOTES), n=1500, fs=100.0):
    sample, symbol, note = zip(*annotations, strict=True)
    return Bunch(
        sample=np.array(sample), symbol=np.array(symbol), aux_note=np.array(note, dtype=object), n_timesteps=n, fs=fs,
        record="r",
    )  # fmt: skip


def choose(classes, n=100, database=MITDB, **rules):
    labels = check_labels(classes, database)
    windows = choose_windows(record(), labels, n, **{"rhythm": "episodes", "edge": "signal", "pure": False} | rules)
    return windows, np.array(labels.names)[windows.code].tolist()


def test_beats_and_rhythms_by_their_labels():
    labels = check_labels(("N", "AFIB", "PVC"), MITDB)
    assert labels.names == ("N", "AFIB", "PVC")
    assert dict(labels.beats) == {"N": "N", "PVC": "V"} and dict(labels.rhythms) == {"AFIB": ("(AFIB",)}
    assert check_labels("PVC", MITDB).names == ("PVC",)


def test_aami_is_the_standard_s_groups():
    labels = check_labels("aami", MITDB)
    assert labels.is_aami and labels.names == ("N", "SVEB", "VEB", "F", "Q") and labels.beats == AAMI
    with pytest.raises(ValueError, match="wants annotated beats; vfdb has only NSR, AFIB"):
        check_labels("aami", VFDB)


def test_labels_of_one_s_own():
    labels = check_labels({"premature": ["A", "V"], "AF": ["(AFIB", "(AFL"], "sinus": "(N"}, LTDB)
    assert dict(labels.beats) == {"premature": "AV"}
    assert dict(labels.rhythms) == {"AF": ("(AFIB", "(AFL"), "sinus": ("(N",)}
    assert not check_labels(dict(AAMI), MITDB).is_aami


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["AF"], "unknown 'AF'; allowed are N, PVC, PAC, LBBB, RBBB, NSR, AFIB, .*'aami', or a mapping"),
        ([1], "unknown 1"),
        ([], "own annotation symbols"),
        ({}, "own annotation symbols"),
        (["N", "N"], "different labels"),
        ({1: "N", "1": "V"}, "different labels"),
        ({"a": "N", "b": "NV"}, "own annotation symbols"),
        ({"a": "(AFIB", "b": ["(AFL", "(AFIB"]}, "own annotation symbols"),
        ({"a": ""}, "own annotation symbols"),
        ({"": "N"}, "own annotation symbols"),
        ({"a": ["N", "(AFIB"]}, "'a' mixes symbols of beats with notes of rhythms"),
        ({"a": [1]}, "'a' must have symbols or notes as texts"),
        (None, "must be labels, or a mapping"),
    ],
)
def test_labels_without_one_meaning_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        check_labels(classes, MITDB)


def test_episode_lasts_up_to_another_rhythm_and_a_repeated_mark_does_not_end_it():
    windows, target = choose(("AFIB", "NSR"))
    assert target == ["NSR"] * 4 + ["AFIB"] * 5 + ["NSR"]
    assert windows.start.tolist() == [10, 110, 210, 310, 500, 600, 700, 800, 900, 1399]
    assert windows.sample.tolist() == [10] * 4 + [500] * 5 + [1399]
    assert windows.excluded == {"edge": 0, "impure": 0, "missing": 0, "short": 0}
    merged, target = choose({"AF": ["(AFIB", "(AFL"]})
    assert target == ["AF"] * 8 and merged.limits[0].tolist() == [500, 1399]


def test_episode_too_short_for_a_window_is_counted():
    windows, _ = choose(("NSR",), n=102)
    assert windows.excluded["short"] == 1 and set(windows.sample.tolist()) == {10}


def test_windows_at_marks_are_centred_and_alone_if_wanted():
    windows, target = choose(("AFIB", "AFL", "NSR"), rhythm="marks")
    assert windows.sample.tolist() == [500, 900, 1000, 1399] and target == ["AFIB", "AFIB", "AFL", "NSR"]
    assert windows.start.tolist() == [450, 850, 950, 1349] and windows.excluded["edge"] == 1
    alone, _ = choose(("AFIB", "AFL"), n=200, rhythm="marks", pure=True)
    assert alone.sample.tolist() == [500] and alone.excluded["impure"] == 2


def test_edge_may_be_the_annotations():
    assert choose(("N",), rhythm="marks")[0].sample.tolist() == [300, 700, 1300]
    windows, _ = choose(("N",), n=200, edge="annotations")
    assert windows.sample.tolist() == [300, 700] and windows.excluded["edge"] == 1
    inside, _ = choose(("NSR",), edge="annotations")
    assert 1399 not in inside.sample


def test_pure_beats_have_no_other_annotation_beside_them():
    windows, target = choose(("N", "PVC", "PAC"), pure=True)
    assert windows.sample.tolist() == [300, 400, 1300] and target == ["N", "PVC", "N"]
    assert windows.excluded["impure"] == 2  # the A and the N around the comment


def test_beats_and_rhythms_come_in_the_order_of_time():
    windows, target = choose(("PVC", "N", "AFIB"))
    assert (np.diff(windows.start) >= 0).all()
    assert target == ["N", "PVC", "AFIB", "AFIB", "N", "AFIB", "AFIB", "AFIB", "N"]
    assert windows.limits[1].tolist() == [0, 1500] and windows.limits[2].tolist() == [500, 1000]
