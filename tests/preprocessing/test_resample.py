"""Resampler against scipy's polyphase filter and closed forms; lengths, positions, masks, the way back by property."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skecg.preprocessing import ECGScaler, PadOrCrop, Resampler, resample_mask, resample_positions

RATES = [(128, 360), (500, 400), (250, 360), (360, 128), (360, 125), (500, 100), (100, 500)]
FS = st.sampled_from([100, 125, 128, 200, 240, 250, 257, 300, 360, 400, 500, 512, 1000])


@pytest.mark.parametrize(("fs", "new_fs"), RATES)
def test_is_the_polyphase_filter_of_scipy_away_from_the_ends(fs, new_fs, rng):
    X = rng.normal(size=(3, 2, 1999)).astype(np.float32)
    ratio = Fraction(new_fs, fs)
    expected = resample_poly(X.astype(np.float64), ratio.numerator, ratio.denominator, axis=-1)
    result = Resampler(fs, new_fs).fit_transform(X)
    assert result.shape == expected.shape
    assert result.dtype == np.float32
    reach = math.ceil(10 * max(1, new_fs / fs)) + 1
    inside = (Ellipsis, slice(reach, -reach))
    np.testing.assert_allclose(result[inside], expected[inside], atol=5e-3)  # of values up to 4: the phases' gains


@settings(max_examples=60, deadline=None)
@given(fs=FS, new_fs=FS, n_timesteps=st.integers(1, 1500), n_leads=st.integers(1, 3))
def test_length_is_as_stated(fs, new_fs, n_timesteps, n_leads):
    resampler = Resampler(fs, new_fs).fit(np.zeros((1, n_leads, n_timesteps)))
    result = resampler.transform(np.zeros((1, n_leads, n_timesteps)))
    # the last sample of the result is in time before the end of the last sample of X, the next one is not
    n_out = result.shape[-1]
    assert result.shape == (1, n_leads, resampler.n_timesteps_out_)
    assert Fraction(n_out - 1, new_fs) < Fraction(n_timesteps, fs) <= Fraction(n_out, new_fs)


@settings(max_examples=60, deadline=None)
@given(fs=FS, new_fs=FS, n_timesteps=st.integers(1, 700), value=st.floats(-100, 100, width=32))
def test_a_constant_stays_constant_to_the_last_sample(fs, new_fs, n_timesteps, value):
    result = Resampler(fs, new_fs).fit_transform(np.full((1, n_timesteps), value, dtype=np.float32))
    np.testing.assert_allclose(result, value, rtol=3e-6, atol=1e-30)


@pytest.mark.parametrize(("fs", "new_fs"), RATES)
def test_a_ramp_stays_a_ramp_to_the_last_sample(fs, new_fs):
    t = np.arange(900) / fs
    result = Resampler(fs, new_fs).fit_transform([5 + t])[0]
    np.testing.assert_allclose(result, 5 + np.arange(len(result)) / new_fs, atol=1e-3 * 10 / min(fs, new_fs) + 2e-6)


@pytest.mark.parametrize(("fs", "new_fs"), [(500, 400), (360, 128)])
def test_the_ends_of_a_window_follow_the_record(fs, new_fs, rng):
    t = np.arange(60 * fs) / fs
    record = 0.5 + np.exp(-0.5 * (((t % 0.8) - 0.4) / 0.03) ** 2) + 0.2 * np.sin(2 * np.pi * 0.2 * t)
    ratio = Fraction(new_fs, fs)
    n = 5 * ratio.denominator * 8
    expected = Resampler(fs, new_fs).fit_transform([record])[0][: n * ratio.numerator // ratio.denominator * 5]
    windows = record[: 5 * n].reshape(5, n)
    ours = Resampler(fs, new_fs).fit_transform(windows).reshape(-1) - expected
    zeros = resample_poly(windows, ratio.numerator, ratio.denominator, axis=-1).reshape(-1) - expected
    assert np.abs(ours).max() < 0.1 * np.abs(zeros).max()


@settings(max_examples=60, deadline=None)
@given(fs=FS, new_fs=FS, place=st.floats(0.3, 1.7))
def test_r_peaks_stay_within_half_a_sample(fs, new_fs, place):
    peak = round(place * fs)
    beat = np.exp(-0.5 * ((np.arange(2 * fs) - peak) / (0.015 * fs)) ** 2)
    resampled = Resampler(fs, new_fs).fit_transform([beat])[0]
    exact = Fraction(peak * new_fs, fs)
    assert abs(int(resampled.argmax()) - exact) <= Fraction(51, 100)  # halfway, the filter's ripple decides
    assert abs(int(resample_positions(peak, fs, new_fs)) - exact) <= Fraction(1, 2)


@settings(max_examples=100, deadline=None)
@given(fs=FS, new_fs=FS, n_timesteps=st.integers(1, 3000), data=st.data())
def test_positions_are_the_nearest_and_stay_inside(fs, new_fs, n_timesteps, data):
    positions = np.array(data.draw(st.lists(st.integers(0, n_timesteps - 1), max_size=20)), dtype=np.int64)
    moved = resample_positions(positions, fs, new_fs)
    for before, after in zip(positions.tolist(), moved.tolist(), strict=True):
        assert abs(after - Fraction(before * new_fs, fs)) <= Fraction(1, 2)
    inside = resample_positions(positions, fs, new_fs, n_timesteps=n_timesteps)
    n_out = Resampler(fs, new_fs).fit(np.zeros((1, n_timesteps))).n_timesteps_out_
    assert ((inside >= 0) & (inside < n_out)).all()
    assert (moved - inside <= 1).all() and (moved >= inside).all()
    if new_fs >= fs:
        np.testing.assert_array_equal(inside, moved)
        np.testing.assert_array_equal(resample_positions(moved, new_fs, fs), positions)


def test_positions_keep_their_shape_and_order():
    positions = np.array([[-5, 0], [359, 360]], dtype=np.int32)
    np.testing.assert_array_equal(resample_positions(positions, 360, 500), [[-7, 0], [499, 500]])
    np.testing.assert_array_equal(resample_positions(3, 360, 180), 1)  # 1.5: halves go to the earlier one
    assert resample_positions([], 360, 500).shape == (0,)
    np.testing.assert_array_equal(resample_positions([-1, 3, 9], 100, 25, n_timesteps=4), [0, 0, 2])


@settings(max_examples=40, deadline=None)
@given(fs=FS, new_fs=FS, n_timesteps=st.integers(1, 300), seed=st.integers(0, 99))
def test_masks_take_the_nearest_sample(fs, new_fs, n_timesteps, seed):
    mask = np.random.default_rng(seed).random((2, n_timesteps)) < 0.3
    moved = resample_mask(mask, fs, new_fs)
    assert moved.dtype == bool
    assert moved.shape[-1] == Resampler(fs, new_fs).fit(np.zeros((1, n_timesteps))).n_timesteps_out_
    for j in range(moved.shape[-1]):
        at = Fraction(j * fs, new_fs)
        around = range(max(0, int(at) - 1), min(n_timesteps, int(at) + 3))
        near = [i for i in around if abs(at - i) <= Fraction(1, 2)]
        near = near or [n_timesteps - 1]  # the last ones may lie more than half a sample behind the end
        assert any((mask[:, i] == moved[:, j]).all() for i in near)


@pytest.mark.parametrize(("fs", "new_fs"), [(128, 360), (250, 360), (100, 500), (257, 500)])
def test_up_and_back_is_the_same_for_what_the_old_rate_holds(fs, new_fs, rng):
    t = np.arange(10 * fs) / fs
    parts = [
        np.sin(2 * np.pi * hz * t + phase)
        for hz, phase in zip(rng.uniform(0.2, 0.3 * fs, 12), rng.uniform(0, 7, 12), strict=True)
    ]
    X = np.sum(parts, axis=0, dtype=np.float32)[None]
    resampler = Resampler(fs, new_fs).fit(X)
    back = resampler.inverse_transform(resampler.transform(X))
    assert back.shape == X.shape and back.dtype == np.float32
    np.testing.assert_allclose(back[:, 20:-20], X[:, 20:-20], atol=4e-3 * np.abs(X).max())
    np.testing.assert_allclose(back, X, atol=0.05 * np.abs(X).max())


def test_inverse_of_a_lower_rate_keeps_slow_waves_and_length(rng):
    t = np.arange(1001) / 500
    X = np.stack([np.sin(2 * np.pi * 8 * t), np.cos(2 * np.pi * 3 * t)])[None]
    resampler = Resampler(500, 128).fit(X)
    back = resampler.inverse_transform(resampler.transform(X))
    assert back.shape == X.shape
    np.testing.assert_allclose(back[..., 60:-60], X[..., 60:-60], atol=5e-3)
    with pytest.raises(ValueError, match="gives 2 leads of 257"):
        resampler.inverse_transform(X)


def test_same_rate_changes_nothing(rng):
    X = rng.normal(size=(2, 3, 50)).astype(np.float32)
    np.testing.assert_array_equal(Resampler(360, 360.0).fit_transform(X), X)


def test_two_and_three_dimensions_and_layouts_give_the_same(rng):
    X = rng.normal(size=(5, 200)).astype(np.float32)
    resampler = Resampler(250, 360)
    flat = resampler.fit_transform(X)
    assert flat.shape == (5, 288)
    np.testing.assert_array_equal(flat, resampler.fit_transform(X[:, None])[:, 0])
    for changed in (np.asfortranarray(X), X.astype(np.float64), X.astype(">f4"), np.repeat(X, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(resampler.fit_transform(changed), flat)


def test_windows_do_not_depend_on_their_companions(rng):
    X = rng.normal(size=(300, 2, 1000)).astype(np.float32)  # several blocks
    resampler = Resampler(500, 400).fit(X)
    whole = resampler.transform(X)
    for i in (0, 131, 299):
        np.testing.assert_array_equal(resampler.transform(X[i : i + 1])[0], whole[i])


def test_input_is_left_as_found(rng):
    X = rng.normal(size=(4, 2, 100)).astype(np.float32)
    before = X.copy()
    X.flags.writeable = False
    Resampler(100, 250).fit(X).transform(X)
    np.testing.assert_array_equal(X, before)


def test_in_a_pipeline_with_three_dimensions_and_pandas(rng):
    X = 3 + rng.normal(size=(4, 12, 1000))
    pipeline = make_pipeline(Resampler(500, 400), ECGScaler(), PadOrCrop(1024)).set_output(transform="pandas")
    result = clone(pipeline).fit_transform(X)
    assert result.shape == (4, 12, 1024)
    assert not result[..., :112].any() and not result[..., -112:].any()
    frame = clone(pipeline).fit_transform(X[:, 0])
    assert frame.shape == (4, 1024) and len(pipeline.fit(X[:, 0]).get_feature_names_out()) == 1024


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value):
    X = np.zeros((2, 100))
    X[1, 3] = value
    with pytest.raises(ValueError, match="contains"):
        Resampler(100, 250).fit(X)


@pytest.mark.parametrize(
    ("fs", "new_fs", "message"),
    [
        (None, 360, r"Resampler needs the sampling rate: pass fs \(Hz\)"),
        (360, None, r"Resampler \(its new_fs\) needs the sampling rate"),
        (0, 360, "fs must be a finite number"),
        (360, -1, "fs must be a finite number"),
        ("360", 500, "fs must be a finite number"),
        (360, 333.3333, "ratio of integers up to 2000; got 333.3333 / 360 .*; new_fs=333.3333333 would do"),
        (1e-9, 360, "ratio of integers up to 2000"),
        (1.0, 1e300, "ratio of integers up to 2000"),
    ],
)
def test_bad_rates_are_named(fs, new_fs, message):
    with pytest.raises(ValueError, match=message):
        Resampler(fs, new_fs).fit(np.zeros((1, 100)))


def test_rates_with_decimals_work():
    assert Resampler(976.5625, 500).fit_transform(np.zeros((1, 9766))).shape == (1, 5001)
    assert Resampler(360, 333.3333333).fit_transform(np.zeros((1, 36))).shape == (1, 34)  # as the message says
    assert Resampler(128.0, 333.5).fit_transform(np.zeros((1, 128))).shape == (1, 334)


def test_bad_positions_and_masks_are_named():
    with pytest.raises(ValueError, match="sample must be integer positions; got dtype float64"):
        resample_positions([1.5], 360, 500)
    with pytest.raises(ValueError, match="n_timesteps must be an integer at least 1"):
        resample_positions([1], 360, 500, n_timesteps=0)
    with pytest.raises(ValueError, match=r"mask must be .* got shape \(3, 0\)"):
        resample_mask(np.zeros((3, 0), dtype=bool), 360, 500)
