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


@pytest.mark.parametrize("per", ["record", None, 1])
def test_bad_parameter_is_named(per):
    with pytest.raises(ValueError, match="per must be one of 'lead', 'window'"):
        ECGScaler(per=per).fit(np.eye(3))
