"""BaselineRemover: wander goes, beats stay, better than the high-pass by ST level and residue; odd inputs."""

import numpy as np
import pytest
from scipy.ndimage import median_filter
from sklearn.base import clone

from skecg.preprocessing import BandpassFilter, BaselineRemover

FS = 360


def beats_of(n, seconds, fs=FS, rate=0.8):
    """Return ECG with an isoelectric line at zero (n, 1, T), and where the QRS complexes are (samples)."""
    t = np.arange(round(seconds * fs)) / fs
    phase = (t[None] + np.linspace(0, 0.5, n)[:, None]) % rate
    shapes = ((0.10, 0.12, 0.02), (0.28, 1.0, 0.01), (0.31, -0.2, 0.01), (0.52, 0.3, 0.035))
    ecg = sum(size * np.exp(-0.5 * ((phase - at) / width) ** 2) for at, size, width in shapes)
    return ecg[:, None].astype(np.float32), np.abs(phase - 0.40) < 0.5 / fs  # the ST segment lies 0.12 s behind R


def wander(shape, rng, fs=FS):
    t = np.arange(shape[-1]) / fs
    made = np.zeros(shape)
    for low, high in ((0.05, 0.15), (0.15, 0.4), (0.4, 0.7)):
        hz, phase = rng.uniform(low, high, (len(made), 1, 1)), rng.uniform(0, 7, (len(made), 1, 1))
        made += 0.15 * np.sin(2 * np.pi * hz * t + phase)
    return made.astype(np.float32)


@pytest.mark.parametrize("rate", [0.4, 0.8, 1.3])
def test_beats_the_high_pass_in_st_level_and_in_wander_left(rate, rng):
    ecg, st = beats_of(20, 10.0, rate=rate)
    noisy = ecg + wander(ecg.shape, rng)
    st = st[:, None] & (np.arange(ecg.shape[-1]) > 10) & (np.arange(ecg.shape[-1]) < ecg.shape[-1] - 10)
    st_error, residue = {}, {}
    for step in (BaselineRemover(FS), BandpassFilter(0.5, None, fs=FS)):
        name, left = type(step).__name__, step.fit_transform(noisy)
        st_error[name] = np.sqrt(np.mean((left - ecg)[st] ** 2))
        residue[name] = np.sqrt(np.mean((left - step.transform(ecg)) ** 2))
    assert st_error["BaselineRemover"] < st_error["BandpassFilter"]
    assert residue["BaselineRemover"] < residue["BandpassFilter"]


def test_leaves_an_ecg_on_its_line_and_takes_its_offset():
    ecg, _ = beats_of(3, 10.0)
    left = BaselineRemover(FS).fit_transform(ecg + 5)
    assert np.sqrt(np.mean((left - ecg) ** 2)) < 0.02
    one_beat = slice(3 * FS, 3 * FS + 288)
    np.testing.assert_array_equal(left[..., one_beat].argmax(axis=-1), ecg[..., one_beat].argmax(axis=-1))


@pytest.mark.parametrize("fs", [100.0, 128.0, 360.0, 500.0])
def test_close_to_medians_at_the_full_rate(fs, rng):
    ecg, _ = beats_of(2, 10.0, fs=fs)
    X = ecg + wander(ecg.shape, rng, fs)
    line = X
    for seconds in (0.25, 0.75):
        line = median_filter(line, size=(1, 1, round(seconds * fs) | 1), mode="mirror")
    difference = (X - BaselineRemover(fs).fit_transform(X)) - line
    assert np.sqrt(np.mean(difference**2)) < 0.02


@pytest.mark.parametrize("n_timesteps", [1, 2, 6, 7, 8, 20, 719])
def test_constant_and_short_windows(n_timesteps):
    X = np.full((2, 3, n_timesteps), 0.33, dtype=np.float32)
    np.testing.assert_allclose(BaselineRemover(FS).fit_transform(X), 0, atol=1e-6)


def test_a_slope_goes_but_for_the_mirrored_ends():
    X = np.linspace(-1, 1, 3600, dtype=np.float32)[None]
    left = BaselineRemover(FS).fit_transform(X)
    np.testing.assert_allclose(left[0, 360:-360], 0, atol=1e-4)


def test_two_and_three_dimensions_companions_and_blocks(rng):
    X = rng.normal(size=(700, 2000)).astype(np.float32)
    remover = BaselineRemover(FS).fit(X)
    whole = remover.transform(X)
    assert whole.dtype == np.float32 and whole.shape == X.shape
    np.testing.assert_array_equal(remover.transform(X[650:651])[0], whole[650])
    np.testing.assert_array_equal(clone(remover).fit_transform(X[:5, None])[:, 0], whole[:5])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "BaselineRemover needs the sampling rate"),
        ({"fs": 0}, "fs must be"),
        ({"fs": 360, "windows": 0.2}, "windows must be two lengths, such as"),
        ({"fs": 360, "windows": (0.2, 0.6, 1.0)}, "windows must be two lengths"),
        ({"fs": 360, "windows": (0.2, 0)}, r"each of windows must be a finite number \(s\) above 0; got 0"),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        BaselineRemover(**params).fit(np.eye(3))
