"""NeuroKit2 behind delineate: its lists are given to beats by time, and what it refuses is a reason."""

import sys
import types

import numpy as np
import pytest

from skecg.beats import Beats, delineate, find_beats
from skecg.beats._prominence import assign, drop_partial, neurokit_limits
from skecg.datasets import make_ecg

FS = 500.0
R = np.array([300, 700, 1100, 1500])
KEYS = ("P_Onsets", "P_Peaks", "P_Offsets", "R_Onsets", "R_Offsets", "T_Onsets", "T_Peaks", "T_Offsets")
OFFSETS = (-120, -90, -60, -25, 25, 90, 140, 190)


def test_lists_that_lost_their_first_entry_are_not_shifted_by_a_beat():
    """Paired by index, three values for four beats would all go to the beat before theirs."""
    assert assign([620, 1020, 1420], R, -1, 0.4 * FS).tolist()[1:] == [620, 1020, 1420]
    assert np.isnan(assign([620, 1020, 1420], R, -1, 0.4 * FS)[0])
    assert assign([440, 1240, 1640], R, 1, 0.6 * FS).tolist()[2:] == [1240, 1640]
    assert np.isnan(assign([440, 1240, 1640], R, 1, 0.6 * FS)[1])


def test_positions_too_far_from_any_beat_belong_to_none():
    assert np.isnan(assign([701, 1690, 9], R, -1, 100)).all()
    assert np.isnan(assign([299, 1800], R, 1, 100)).all()


def test_the_nearest_of_two_is_taken_and_nan_is_nothing():
    assert assign([np.nan, 580, 640, np.nan], R, -1, 200)[1] == 640
    assert assign([780, 850, np.nan], R, 1, 200)[1] == 780
    assert np.isnan(assign([], R, 1, 200)).all()


def test_waves_without_a_limit_or_out_of_order_are_no_waves():
    limits = np.arange(8.0)[None, None].repeat(4, axis=1)
    limits[0, 1, 0] = np.nan
    limits[0, 2, 4] = 1
    limits[0, 3, 6] = 99
    drop_partial(limits)
    assert np.isnan(limits[0, :, 0]).tolist() == [False, True, False, False]
    assert np.isnan(limits[0, :, 3]).tolist() == [False, False, True, False]
    assert np.isnan(limits[0, :, 5]).tolist() == [False, False, False, True]


@pytest.fixture
def neurokit(monkeypatch):
    """Put a stand-in for neurokit2 in its place, which returns waves at fixed distances and loses some."""
    module = types.ModuleType("neurokit2")
    module.given = []
    module.lost = {}
    module.ecg_clean = lambda lead, sampling_rate, method: lead

    def ecg_delineate(cleaned, rpeaks, sampling_rate, method, show):
        module.given.append((len(cleaned), rpeaks.tolist(), sampling_rate, method))
        found = {f"ECG_{k}": [int(r) + o for r in rpeaks] for k, o in zip(KEYS, OFFSETS, strict=True)}
        return None, {key: values[module.lost.get(key, 0) :] for key, values in found.items()}

    module.ecg_delineate = ecg_delineate
    monkeypatch.setitem(sys.modules, "neurokit2", module)
    return module


@pytest.fixture
def window():
    return make_ecg(1, classes=("N",), n_leads=2, fs=FS, window=4.0, distractors=False, random_state=0).data


@pytest.mark.parametrize("method", ["prominence", "dwt"])
def test_limits_by_beat_and_lead(neurokit, window, method):
    neurokit.lost = {"ECG_P_Onsets": 1, "ECG_T_Peaks": 2}
    (found,) = delineate(window, [Beats(R, FS)], method=method)
    assert found.source == method
    relative = found.limits - R[:, None, None]
    assert (relative[1:, :, :3] == OFFSETS[:3]).all()
    assert np.isnan(relative[0, :, :3]).all()  # its onset was lost, so it is no whole wave
    assert (relative[..., 3:5] == OFFSETS[3:5]).all()
    assert np.isnan(relative[:2, :, 5:]).all()
    assert (relative[2:, :, 5:] == OFFSETS[5:]).all()
    assert neurokit.given == [(2000, R.tolist(), 500, method)] * 2


def test_an_r_peak_at_sample_0_is_not_shown_to_neurokit(neurokit, window):
    (found,) = delineate(window, [Beats([0, *R], FS)], method="prominence")
    assert neurokit.given[0][1] == R.tolist()
    assert np.isnan(found.limits[0]).all()
    assert (found.limits[1:, :, 3] == R[:, None] - 25).all()


@pytest.mark.parametrize("error", [ValueError, IndexError, TypeError, ZeroDivisionError])
def test_what_neurokit_raises_is_a_reason(neurokit, window, error):
    def fail(*_, **__):
        raise error("inside")

    neurokit.ecg_delineate = fail
    (found,) = delineate(window, [Beats(R, FS)], method="dwt")
    assert (found.source, found.limits_reason) == (
        "failed", f"neurokit2 dwt refused every lead: {error.__name__}: inside",
    )  # fmt: skip
    assert np.isnan(found.limits).all()


def test_one_lead_that_is_refused_does_not_take_the_others_along(neurokit, window):
    works, calls = neurokit.ecg_delineate, []

    def once(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("inside")
        return works(*args, **kwargs)

    neurokit.ecg_delineate = once
    (found,) = delineate(window, [Beats(R, FS)], method="prominence")
    assert np.isnan(found.limits[:, 0]).all()
    assert np.isfinite(found.limits[:, 1, 3]).all()


def test_lists_of_nan_are_a_reason(neurokit, window):
    neurokit.ecg_delineate = lambda *_, **__: (None, {f"ECG_{k}": [np.nan] * 4 for k in KEYS})
    (found,) = delineate(window, [Beats(R, FS)], method="prominence")
    assert (found.source, found.limits_reason) == ("failed", "neurokit2 prominence found nothing")


def test_sampling_rates_that_are_no_integers(neurokit, window):
    (found,) = delineate(window, [Beats(R, 128.5)], method="prominence")
    assert "whole sampling rates" in found.limits_reason


def test_auto_takes_the_median_over_beats_where_the_average_fails(neurokit, window, monkeypatch):
    monkeypatch.setattr("skecg.beats._delineate.find_spec", lambda name: object())
    (found,) = delineate(window, [Beats(R, FS)], method="auto", min_beats=50)
    assert found.source == "prominence"
    assert found.limits_reason.startswith("average: ")
    assert (found.limits[..., 3:5] - R[:, None, None] == OFFSETS[3:5]).all()


def test_missing_neurokit(monkeypatch, window):
    monkeypatch.setitem(sys.modules, "neurokit2", None)
    with pytest.raises(ImportError, match=r"skecg\[waves\]"):
        delineate(window, [Beats(R, FS)], method="prominence")


@pytest.mark.parametrize("method", ["prominence", "dwt"])
def test_real_neurokit(method):
    pytest.importorskip("neurokit2", reason="neurokit2 is in the extra `waves`, which pins pandas below 3")
    ecg = make_ecg(1, classes=("N",), n_leads=2, fs=FS, window=10.0, distractors=False, random_state=0)
    (beats,) = find_beats(ecg.data, FS)
    limits, reason = neurokit_limits(ecg.data[0], beats.r_peaks, FS, method)
    assert reason == ""
    on = limits[:, 0, 3] - beats.r_peaks
    assert np.isfinite(on).mean() > 0.7
    assert -150 / 2 < np.nanmedian(on) < 0
