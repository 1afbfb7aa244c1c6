"""Beats: what it refuses, what it keeps."""

import pickle

import numpy as np
import pytest

from skecg.beats import LIMITS, Beats, delineate, find_beats


def test_limits_are_in_the_order_of_the_contract():
    assert LIMITS == ("P_on", "P_peak", "P_off", "QRS_on", "QRS_off", "T_on", "T_peak", "T_off")


def test_arrays_are_copies_that_cannot_be_written():
    given = np.array([5, 10])
    beats = Beats(given, 100)
    given[0] = 7
    assert beats.r_peaks.tolist() == [5, 10]
    assert beats.r_peaks.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        beats.r_peaks[0] = 1
    with pytest.raises(AttributeError):
        beats.fs = 200.0


def test_pickle_keeps_every_field():
    beats = Beats(
        [5, 10], 100, limits=np.zeros((2, 3, 8)), typical=[True, False], p_region=np.ones((2, 2)), p_present=False,
        left_out=((0, 4, "noise"),), source="average",
    )  # fmt: skip
    again = pickle.loads(pickle.dumps(beats))
    assert (again.fs, again.left_out, again.source, again.p_present) == (100.0, ((0, 4, "noise"),), "average", False)
    for name in ("r_peaks", "limits", "typical", "p_region"):
        assert np.array_equal(getattr(again, name), getattr(beats, name))
        assert getattr(again, name).dtype == getattr(beats, name).dtype


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"r_peaks": [3, 3]}, "strictly increasing"),
        ({"r_peaks": [-1, 3]}, "from 0 on"),
        ({"r_peaks": [1.5, 3.0]}, r"integers of shape \(n_beats,\).*float64"),
        ({"r_peaks": [[1, 2]]}, r"integers of shape \(n_beats,\)"),
        ({"fs": 0}, "fs must be"),
        ({"fs": None}, "sampling rate"),
        ({"reason": "flat"}, "2 beats came with a reason"),
        ({"limits": np.zeros((2, 3, 7))}, r"limits must be \(2, n_leads, 8\)"),
        ({"limits": np.zeros((1, 3, 8))}, r"limits must be \(2, n_leads, 8\)"),
        ({"typical": [True]}, r"typical must have shape \(2,\)"),
        ({"p_region": [1.0, 2.0]}, r"p_region must have shape \(2, 2\)"),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        Beats(**{"r_peaks": [1, 2], "fs": 100.0, **fields})


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros(10), ValueError, "Expected 2D array"),
        (np.zeros((1, 1, 1, 9)), ValueError, "got 4-D"),
        (np.zeros((1, 0, 9)), ValueError, "0 leads"),
        (np.zeros((1, 500, 12)), ValueError, r"axes look swapped.*transpose"),
        (np.array([["a", "b"]], dtype=object), ValueError, "could not convert"),
        (np.array([[{}, {}]], dtype=object), TypeError, "argument must be"),
        (np.zeros((2, 9), dtype=complex), ValueError, "Complex data"),
    ],
)
@pytest.mark.parametrize("function", [find_beats, lambda X, fs: delineate(X, [Beats([], fs)], fs)])
def test_refuses_what_is_no_ecg(function, X, error, message):
    with pytest.raises(error, match=message):
        function(X, 250.0)


def test_no_windows_have_no_beats():
    assert find_beats(np.zeros((0, 12, 500)), 250.0) == []
    assert delineate(np.zeros((0, 12, 500)), []) == []
