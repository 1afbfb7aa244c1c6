"""ECGScaler against float64 means and deviations, constant and extreme windows, and every odd input."""

import warnings

import numpy as np
import pytest

from skecg.preprocessing import ECGScaler


def reference(X, axes):
    exact = np.asarray(X, dtype=np.float64)
    exact = exact - exact.mean(axis=-1, keepdims=True)
    return exact / np.sqrt((exact**2).mean(axis=axes, keepdims=True))


@pytest.mark.parametrize(("per", "axes"), [("lead", (-1,)), ("window", (-2, -1))])
@pytest.mark.parametrize(
    ("offset", "amplitude"), [(0, 1), (-3, 0.2), (0, 1e-6), (0, 1e-30), (0, 1e25), (200, 1e-1), (1e4, 1), (-1e4, 1e4)]
)
def test_against_float64(per, axes, offset, amplitude, rng):
    shape = (7, 3, 20011)
    X = (offset + amplitude * (rng.normal(size=shape) + 0.1 * np.arange(3)[:, None])).astype(np.float32)
    result = ECGScaler(per=per).fit_transform(X)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, reference(X, axes), atol=2e-5)


def test_long_records_lose_nothing(rng):
    X = (rng.normal(size=(1, 1, 650_000)) + 5).astype(np.float32)
    np.testing.assert_allclose(ECGScaler().fit_transform(X), reference(X, (-1,)), atol=1e-5)


def test_by_hand():
    X = np.array([[[0.0, 1.0, 2.0, 1.0], [0.0, 10.0, 20.0, 10.0]]])
    root = np.sqrt(0.5)  # the deviations are root and 10 root
    np.testing.assert_allclose(ECGScaler().fit_transform(X)[0, 0], [-1 / root, 0, 1 / root, 0], rtol=1e-6)
    both = np.sqrt((0.5 + 50) / 2)
    np.testing.assert_allclose(ECGScaler(per="window").fit_transform(X)[0, 1], [-10 / both, 0, 10 / both, 0], rtol=1e-6)


def test_per_window_keeps_the_proportions_of_the_leads(rng):
    X = rng.normal(size=(4, 3, 500)) * np.array([1.0, 3.0, 0.1])[:, None]
    result = ECGScaler(per="window").fit_transform(X)
    np.testing.assert_allclose(result.std(-1) / result.std(-1)[:, :1], X.std(-1) / X.std(-1)[:, :1], rtol=1e-5)
    np.testing.assert_allclose(np.square(result).mean((1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.33, -1e4, 1e4, 1e38, 1e-42])
@pytest.mark.parametrize("n_timesteps", [1, 2, 720, 5000])
def test_constant_leads_become_zeros_and_are_counted(value, n_timesteps):
    X = np.full((3, 2, n_timesteps), value, dtype=np.float32)
    with pytest.warns(UserWarning, match="6 of 6 leads of the windows are constant and become zeros"):
        result = ECGScaler().fit_transform(X)
    assert not result.any()


def test_constant_leads_among_others(rng):
    X = rng.normal(size=(3, 4, 720)).astype(np.float32)
    X[1, 2] = 0.33
    with pytest.warns(UserWarning, match="1 of 12 leads"):
        result = ECGScaler().fit_transform(X)
    assert not result[1, 2].any()
    rest = np.ones((3, 4), dtype=bool)
    rest[1, 2] = False
    np.testing.assert_allclose(result[rest], reference(X[rest], (-1,)), atol=1e-5)
    with warnings.catch_warnings():  # one dead lead of a window leaves the window's deviation
        warnings.simplefilter("error")
        np.testing.assert_allclose(ECGScaler(per="window").fit_transform(X)[1, 2], 0, atol=1e-6)


def test_rounding_is_no_signal():
    X = np.full((1, 720), 1e4, dtype=np.float32)
    X[0, ::2] = np.nextafter(np.float32(1e4), np.float32(2e4))
    with pytest.warns(UserWarning, match="1 of 1"):
        assert not ECGScaler().fit_transform(X).any()


@pytest.mark.parametrize("height", [1e-4, 1.0, -1e4])
def test_one_sample_spike(height):
    X = np.zeros((1, 1, 5000), dtype=np.float32)
    X[0, 0, 77] = height
    result = ECGScaler().fit_transform(X)
    np.testing.assert_allclose(result[0, 0, 77], np.sign(height) * np.sqrt(4999), rtol=1e-4)
    np.testing.assert_allclose(result[0, 0, 78], -np.sign(height) / np.sqrt(4999), rtol=1e-4)


def test_windows_do_not_depend_on_their_companions(rng):
    X = rng.normal(size=(400, 2, 1000)).astype(np.float32)  # several blocks
    X[7] += 1000  # of the kind that is done in float64
    scaler = ECGScaler().fit(X)
    whole = scaler.transform(X)
    for i in (0, 7, 131, 399):
        np.testing.assert_array_equal(scaler.transform(X[i : i + 1])[0], whole[i])


def test_two_and_three_dimensions_give_the_same(rng):
    X = rng.normal(size=(5, 200)).astype(np.float32)
    flat, cube = ECGScaler().fit_transform(X), ECGScaler().fit_transform(X[:, None])
    assert flat.shape == (5, 200)
    assert cube.shape == (5, 1, 200)
    np.testing.assert_array_equal(flat, cube[:, 0])


def test_input_is_left_as_found(rng):
    X = rng.normal(size=(5, 2, 200)).astype(np.float32)
    before = X.copy()
    X.flags.writeable = False
    ECGScaler().fit(X).transform(X)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("dtype", [np.float16, np.int16, np.float64, ">f4"])
def test_dtypes_equal_float32(dtype, rng):
    X = (100 * rng.normal(size=(5, 2, 200))).astype(dtype)
    np.testing.assert_array_equal(ECGScaler().fit_transform(X), ECGScaler().fit_transform(X.astype(np.float32)))


def robust(values):
    """Return values with the median at 0 and the quartiles 1.349 apart, over the last axis."""
    low, middle, high = np.percentile(values.astype(np.float64), [25, 50, 75], axis=-1, keepdims=True)
    return (values - middle) * 1.3489795 / (high - low)


def test_robust_against_percentiles_and_an_artefact_changes_little(rng):
    X = (2 + rng.normal(size=(6, 3, 700))).astype(np.float32)
    result = ECGScaler(method="robust").fit_transform(X)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, robust(X), atol=1e-5)
    spoiled = X.copy()
    spoiled[0, 0, 100:110] = 1e4
    changed = ECGScaler(method="robust").fit_transform(spoiled)
    np.testing.assert_allclose(changed[0, 0, 200:], result[0, 0, 200:], atol=0.2)


def test_robust_per_window_by_hand():
    X = np.array([[[-3.0, -1.0, 0.0, 1.0, 3.0], [9.0, 9.0, 10.0, 11.0, 11.0]]])
    # around the medians 0 and 10: -3 -1 -1 -1 0 0 1 1 1 3, quartiles -1 and 1
    result = ECGScaler(per="window", method="robust").fit_transform(X)[0]
    np.testing.assert_allclose(result[0], np.array([-3, -1, 0, 1, 3]) * 1.3489795 / 2, rtol=1e-6)
    np.testing.assert_allclose(result[1], np.array([-1, -1, 0, 1, 1]) * 1.3489795 / 2, rtol=1e-6)


def test_robust_of_a_spike_takes_the_deviation():
    X = np.zeros((1, 1000), dtype=np.float32)
    X[0, 3] = 2
    result = ECGScaler(method="robust").fit_transform(X)
    np.testing.assert_allclose(result[0, 3], np.sqrt(1000 / 0.999) * 1.0, rtol=2e-3)
    assert not result[0, 4:].any()


@pytest.mark.parametrize(("per", "axis"), [("lead", 2), ("window", (1, 2))])
def test_max_divides_by_the_largest_absolute_value_alone(per, axis, rng):
    X = rng.normal(size=(5, 3, 400)).astype(np.float32)
    X[..., 7] = 0
    result = ECGScaler(per=per, method="max").fit_transform(X)
    np.testing.assert_allclose(result, X / np.abs(X).max(axis=axis, keepdims=True), rtol=1e-6)
    assert not result[..., 7].any()


@pytest.mark.parametrize("method", ["robust", "max"])
@pytest.mark.parametrize("value", [0.0, 0.33, -1e4, 1e38])
def test_constant_leads_become_zeros_by_every_method(method, value):
    X = np.full((3, 2, 100), value, dtype=np.float32)
    with pytest.warns(UserWarning, match="6 of 6 leads of the windows are constant and become zeros"):
        assert not ECGScaler(method=method).fit_transform(X).any()


@pytest.mark.parametrize("method", ["standard", "robust", "max"])
def test_per_dataset_learns_from_the_training_set_alone(method, rng):
    train, test = (1 + rng.normal(size=(n, 2, 300)) * np.array([[1.0], [5.0]]) for n in (9, 4))
    scaler = ECGScaler(per="dataset", method=method).fit(train)
    pooled = train.astype(np.float32).astype(np.float64).swapaxes(0, 1).reshape(2, -1)
    quartiles = np.percentile(pooled, [25, 75], axis=1)
    center = {"standard": pooled.mean(1), "robust": np.median(pooled, 1), "max": np.zeros(2)}[method]
    scale = {
        "standard": pooled.std(1), "robust": (quartiles[1] - quartiles[0]) / 1.3489795, "max": np.abs(pooled).max(1)
    }[method]  # fmt: skip
    np.testing.assert_allclose(scaler.center_, center, atol=1e-9)
    np.testing.assert_allclose(scaler.scale_, scale, rtol=1e-6)
    np.testing.assert_allclose(scaler.transform(test), (test - center[:, None]) / scale[:, None], atol=1e-5)


def test_per_dataset_a_constant_lead_is_told_in_fit_and_not_scaled(rng):
    X = rng.normal(size=(5, 2, 100))
    X[:, 1] = 0.33
    with pytest.warns(UserWarning, match="1 of 2 leads are constant and are not scaled"):
        scaler = ECGScaler(per="dataset").fit(X)
    assert scaler.scale_[1] == 1
    np.testing.assert_allclose(scaler.transform(X)[:, 1], 0, atol=1e-7)


@pytest.mark.parametrize("per", ["lead", "window", "dataset"])
@pytest.mark.parametrize("method", ["standard", "robust", "max"])
def test_padding_is_skipped_and_stays_zero(per, method, rng):
    X = (3 + rng.normal(size=(4, 2, 300))).astype(np.float32)
    padded = np.zeros((4, 2, 500), dtype=np.float32)
    padded[:3, :, 120:420] = X[:3]
    padded[3, :, :300] = X[3]
    expected = ECGScaler(per=per, method=method).fit_transform(X)
    result = ECGScaler(per=per, method=method, skip_padding=True).fit_transform(padded)
    np.testing.assert_allclose(result[:3, :, 120:420], expected[:3], atol=1e-6)
    np.testing.assert_allclose(result[3, :, :300], expected[3], atol=1e-6)
    assert not result[:3, :, :120].any() and not result[:3, :, 420:].any() and not result[3, :, 300:].any()


def test_zeros_inside_and_in_one_lead_are_no_padding(rng):
    X = rng.normal(size=(2, 2, 100)).astype(np.float32)
    X[:, :, 40:60] = 0
    X[:, 0, :10] = 0
    np.testing.assert_array_equal(ECGScaler(skip_padding=True).fit_transform(X), ECGScaler().fit_transform(X))


def test_a_window_of_padding_alone_becomes_zeros_and_is_counted(rng):
    X = rng.normal(size=(3, 2, 50)).astype(np.float32)
    X[1] = 0
    for per, message in (("lead", "2 of 6 leads"), ("window", "1 of 3 windows")):
        with pytest.warns(UserWarning, match=message):
            assert not ECGScaler(per=per, skip_padding=True).fit_transform(X)[1].any()


@pytest.mark.parametrize("per", ["record", None, 1])
def test_bad_parameter_is_named(per):
    with pytest.raises(ValueError, match="per must be one of 'lead', 'window', 'dataset'"):
        ECGScaler(per=per).fit(np.eye(3))


def test_bad_method_is_named():
    with pytest.raises(ValueError, match="method must be one of 'standard', 'robust', 'max'; got 'minmax'"):
        ECGScaler(method="minmax").fit(np.eye(3))
    with pytest.raises(ValueError, match="skip_padding must be one of True, False"):
        ECGScaler(skip_padding="yes").fit(np.eye(3))
