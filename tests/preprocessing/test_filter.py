"""BandpassFilter against scipy's filter on the mirrored window, closed forms, and every odd input."""

import numpy as np
import pytest
from scipy.signal import butter, filtfilt, iirnotch, sosfiltfilt
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skecg.preprocessing import BandpassFilter, ECGScaler


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("bandpass", 0.5, 40.0), ("bandpass", 5, 15), ("lowpass", None, 40), ("highpass", 0.5, None)],
)
def test_is_the_forward_backward_filter_of_the_mirrored_window(kind, low, high, order, rng):
    X = (3 + rng.normal(size=(2, 3, 300))).astype(np.float32)
    corners = [corner for corner in (low, high) if corner is not None]
    sos = butter(order, corners if len(corners) == 2 else corners[0], kind, fs=250.0, output="sos")
    mirrored = np.pad(X.astype(np.float64), [(0, 0), (0, 0), (3000, 3000)], mode="symmetric")
    expected = sosfiltfilt(sos, mirrored)[..., 3000:3300]
    result = BandpassFilter(low, high, fs=250.0, order=order).fit_transform(X)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=4e-6)  # of values up to 7


@pytest.mark.parametrize("mains", [50, 60.0])
@pytest.mark.parametrize(("low", "high"), [(None, None), (5.0, 100.0)])
def test_notch_is_the_forward_backward_notch_of_scipy(low, high, mains, rng):
    X = rng.normal(size=(3, 2, 4000)).astype(np.float32)
    expected = filtfilt(*iirnotch(mains, 30.0, fs=500.0), X.astype(np.float64))
    if low is not None:
        expected = sosfiltfilt(butter(2, [low, high], "bandpass", fs=500.0, output="sos"), expected)
    result = BandpassFilter(low, high, fs=500.0, notch=mains).fit_transform(X)
    inside = slice(1500, 2500)  # far from the ends, beyond which the two see different things
    np.testing.assert_allclose(result[..., inside], expected[..., inside], atol=1e-4)


@pytest.mark.parametrize("fs", [250.0, 360.0, 500.0])
def test_notch_takes_the_mains_and_leaves_the_ecg(fs):
    t = np.arange(int(10 * fs)) / fs
    ecg, hum = np.exp(-0.5 * ((t % 1 - 0.5) / 0.02) ** 2), 0.3 * np.cos(2 * np.pi * 60 * t)
    left = BandpassFilter(None, None, fs=fs, notch=60).fit_transform([ecg + hum])[0]
    np.testing.assert_allclose(left, ecg, atol=0.01)  # to both ends
    assert left[: int(fs)].argmax() == ecg[: int(fs)].argmax()


@pytest.mark.parametrize("n_timesteps", [1, 2, 17, 40, 41, 720])
def test_notch_leaves_constants_and_slopes(n_timesteps):
    notch = BandpassFilter(None, None, fs=250.0, notch=50)
    X = np.full((2, n_timesteps), 0.33, dtype=np.float32)
    np.testing.assert_allclose(notch.fit_transform(X), X, atol=1e-6)
    slope = np.linspace(-1, 1, n_timesteps, dtype=np.float32)[None]
    np.testing.assert_allclose(notch.fit_transform(slope), slope, atol=0.01)


@pytest.mark.filterwarnings("ignore:overflow encountered in reduce")  # scikit-learn's look for NaN sums all values
def test_values_near_the_end_of_float32_stay_finite(rng):
    X = (1e37 * rng.normal(size=(2, 5000))).astype(np.float32)
    expected = BandpassFilter(fs=360.0).fit_transform(X / np.float32(1e37))
    np.testing.assert_allclose(BandpassFilter(fs=360.0).fit_transform(X) / np.float32(1e37), expected, atol=1e-5)


def test_passes_the_ecg_and_stops_wander_and_mains():
    t = np.arange(3600) / 360
    inside = slice(720, -720)
    bandpass = BandpassFilter(0.5, 40.0, fs=360.0)
    for frequency, gain in [(0.05, 0.0), (10.0, 1.0), (0.5, 0.5), (40.0, 0.5), (120.0, 0.0)]:
        wave = np.cos(2 * np.pi * frequency * t)
        passed = bandpass.fit_transform([wave])[0]
        np.testing.assert_allclose(passed[inside], gain * wave[inside], atol=0.02)


def test_moves_no_wave():
    qrs = np.exp(-0.5 * ((np.arange(1000) - 500) / 8) ** 2)
    filtered = BandpassFilter(fs=360.0).fit_transform([qrs])[0]
    assert filtered.argmax() == 500
    np.testing.assert_allclose(filtered[1:500], filtered[500:][1:500][::-1], atol=1e-3)


def test_windows_of_a_wandering_record_agree_with_the_filtered_record(rng):
    t = np.arange(36000) / 360
    beats = np.exp(-0.5 * (((t % 0.8) - 0.4) / 0.02) ** 2)
    record = beats + 0.4 * np.sin(2 * np.pi * 0.15 * t) + 0.02 * rng.normal(size=t.size)
    sos = butter(2, [0.5, 40.0], "bandpass", fs=360.0, output="sos")
    windows, expected = (x[7200:28800].reshape(-1, 720) for x in (record, sosfiltfilt(sos, record)))
    ours = BandpassFilter(fs=360.0).fit_transform(windows) - expected
    assert np.sqrt(np.mean(ours**2)) < 0.5 * np.sqrt(np.mean((sosfiltfilt(sos, windows) - expected) ** 2))


@pytest.mark.parametrize("n_timesteps", [1, 2, 3, 17, 719])
@pytest.mark.parametrize(("low", "high", "level"), [(0.5, 40.0, 0.0), (0.5, None, 0.0), (None, 40.0, 0.33)])
def test_constant_windows_of_any_length(n_timesteps, low, high, level):
    X = np.full((2, 3, n_timesteps), 0.33, dtype=np.float32)
    np.testing.assert_allclose(BandpassFilter(low, high, fs=360.0).fit_transform(X), level, atol=1e-7)


def test_extreme_values_stay_finite():
    X = np.zeros((4, 2, 500), dtype=np.float32)
    X[1, 0, 250] = 1  # one-sample spike
    X[2] = 1e4
    X[3, :, ::2] = -1e4
    result = BandpassFilter(fs=360.0).fit_transform(X)
    assert np.isfinite(result).all()
    assert not result[0].any()
    np.testing.assert_allclose(result[2], 0, atol=1e-6)
    assert result[1, 0].argmax() == 250


def test_windows_do_not_depend_on_their_companions(rng):
    X = rng.normal(size=(400, 2, 1000)).astype(np.float32)  # several blocks
    bandpass = BandpassFilter(fs=360.0).fit(X)
    whole = bandpass.transform(X)
    alone = np.concatenate([bandpass.transform(X[i : i + 1]) for i in (0, 131, 399)])
    np.testing.assert_allclose(whole[[0, 131, 399]], alone, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(bandpass.transform(X[::-1]), whole[::-1])


def test_two_and_three_dimensions_give_the_same(rng):
    X = rng.normal(size=(5, 200)).astype(np.float32)
    bandpass = BandpassFilter(fs=360.0)
    flat, cube = bandpass.fit_transform(X), bandpass.fit_transform(X[:, None])
    assert flat.shape == (5, 200)
    assert cube.shape == (5, 1, 200)
    np.testing.assert_array_equal(flat, cube[:, 0])


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=-1)[..., ::2],
        lambda X: X.astype(">f4"),
        lambda X: X.astype(np.float64),
        lambda X: X.tolist(),
    ],
    ids=["fortran", "strided", "big-endian", "float64", "list"],
)
def test_layout_and_dtype_make_no_difference(change, rng):
    X = rng.normal(size=(5, 2, 200)).astype(np.float32)
    expected = BandpassFilter(fs=360.0).fit_transform(X)
    np.testing.assert_array_equal(BandpassFilter(fs=360.0).fit_transform(change(X)), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.int16])
def test_narrow_dtypes_equal_float32(dtype, rng):
    X = (100 * rng.normal(size=(5, 2, 200))).astype(dtype)
    expected = BandpassFilter(fs=360.0).fit_transform(X.astype(np.float32))
    np.testing.assert_array_equal(BandpassFilter(fs=360.0).fit_transform(X), expected)


def test_input_is_left_as_found(rng):
    X = rng.normal(size=(5, 2, 200)).astype(np.float32)
    before = X.copy()
    X.flags.writeable = False
    BandpassFilter(fs=360.0).fit(X).transform(X)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, r"BandpassFilter needs the sampling rate: pass fs \(Hz\)"),
        ({"fs": 0}, "fs must be a finite number"),
        ({"fs": "360"}, "fs must be a finite number"),
        ({"fs": 360, "low": None, "high": None}, "low and high are both None"),
        ({"fs": 360, "notch": 55}, r"notch must be one of 50.0, 60.0; got 55.0"),
        ({"fs": 360, "notch": "50"}, "notch must be a finite number"),
        ({"fs": 100, "notch": 50}, r"notch must be .* below 50; got 50"),
        ({"fs": 360, "low": 0}, r"low must be .* above 0 and below 180; got 0"),
        ({"fs": 360, "low": -1.0}, "low must be"),
        ({"fs": 360, "high": 180.0}, r"high must be .* below 180; got 180"),
        ({"fs": 360, "high": np.nan}, "high must be"),
        ({"fs": 60}, r"high must be a finite number \(Hz; fs=60\) above 0 and below 30; got 40"),
        ({"fs": 360, "low": 40.0}, "low must be below high; got low=40.0 and high=40.0"),
        ({"fs": 360, "order": 0}, "order must be an integer at least 1; got 0"),
        ({"fs": 360, "order": 2.0}, "order must be an integer"),
    ],
)
def test_bad_parameters_are_named(params, message):
    X = np.zeros((2, 100))
    with pytest.raises(ValueError, match=message):
        BandpassFilter(**params).fit(X)
    fitted = BandpassFilter(fs=360.0).fit(X).set_params(**{"fs": None, **params})
    with pytest.raises(ValueError, match=message):  # a parameter changed after fit is checked too
        fitted.transform(X)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([[0.0, np.nan]], ValueError, "NaN"),
        ([[0.0, np.inf]], ValueError, "infinity"),
        ([[0.0, 1e39]], ValueError, "infinity"),
        (np.array([[0.0, 1j]]), ValueError, "[Cc]omplex"),
        (np.array([[0.0, {}]], dtype=object), TypeError, "dict"),
        ([0.0, 1.0], ValueError, "1D|2D|dimension"),
        (np.zeros((1, 1, 1, 5)), ValueError, "got 4-D"),
        (np.zeros((0, 5)), ValueError, "0 sample"),
        (np.zeros((2, 0, 5)), ValueError, "0 leads or timesteps"),
        (np.zeros((2, 500, 12)), ValueError, "axes look swapped"),
    ],
    ids=["nan", "inf", "1e39", "complex", "object", "1-D", "4-D", "empty", "no leads", "swapped"],
)
def test_bad_arrays_are_refused(X, error, message):
    with pytest.raises(error, match=message):
        BandpassFilter(fs=360.0).fit(X)


def test_another_shape_than_fitted_is_named():
    bandpass = BandpassFilter(fs=360.0).fit(np.zeros((2, 3, 100)))
    with pytest.raises(ValueError, match="2 leads of 100 timesteps, but BandpassFilter was fitted with 3 leads of 100"):
        bandpass.transform(np.zeros((2, 2, 100)))
    with pytest.raises(ValueError, match="axes look swapped"):
        bandpass.transform(np.zeros((2, 100, 3)))


def test_three_dimensions_in_a_pipeline_with_pandas_output(rng):
    X = rng.normal(size=(6, 2, 300))
    steps = make_pipeline(BandpassFilter(fs=360.0), ECGScaler())
    expected = clone(steps).fit_transform(X)
    assert expected.shape == X.shape
    np.testing.assert_array_equal(steps.set_output(transform="pandas").fit(X).transform(X), expected)
    table = steps.fit_transform(X[:, 0])  # two dimensions obey
    assert table.shape == (6, 300)
    np.testing.assert_array_equal(table.to_numpy(), expected[:, 0])
