"""The log-spectrogram layer against scipy's, and the gradient that explainers need of it."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.signal import spectrogram

from skecg.models._spectrogram import LogSpectrogram


def of_scipy(x, **settings):
    """Return scipy's power with its defaults, (..., frames, frequencies)."""
    return np.swapaxes(spectrogram(x, **{"fs": 300, "nperseg": 64, "noverlap": 32, **settings})[2], -1, -2)


@pytest.mark.parametrize("n_timesteps", [64, 95, 96, 720, 9000])
def test_log_power_is_scipys(rng, n_timesteps):
    x = rng.standard_normal((2, 3, n_timesteps)).astype(np.float32)
    layer = LogSpectrogram()
    got = layer(torch.from_numpy(x)).numpy()
    power = of_scipy(1000.0 * x.astype(np.float64))
    assert got.shape == power.shape == (2, 3, layer.n_frames(n_timesteps), 33)
    largest = power.max(-1, keepdims=True)
    assert (np.abs(np.exp(got) - power) < 1e-5 * largest).all()
    # a bin that holds next to nothing, as the lowest does without the mean, is the rounding of the others
    heard = power > 0.01 * largest
    assert heard.mean() > 0.5 and np.abs(got - np.log(power))[heard].max() < 2e-5


@pytest.mark.parametrize("nperseg, noverlap, fs", [(63, 32, 300.0), (65, 0, 360.0), (32, 31, 250.0), (2, 0, 1.0)])
def test_other_segments_are_scipys_too(rng, nperseg, noverlap, fs):
    x = rng.standard_normal((2, 400))
    layer = LogSpectrogram(nperseg, noverlap, fs=fs, scale=1.0, floor=None).double()
    power = of_scipy(x, nperseg=nperseg, noverlap=noverlap, fs=fs)
    got = layer(torch.from_numpy(x)).numpy()
    assert got.shape == power.shape
    heard = power > 1e-4 * power.max(-1, keepdims=True)
    assert heard.mean() > 0.45  # of two samples the lower of two bins is always empty
    assert np.allclose(got[heard], np.log(power[heard]), rtol=0, atol=2e-5)


def test_the_sampling_rate_moves_all_logarithms_by_one_constant(rng):
    x = torch.from_numpy(rng.standard_normal((1, 1, 720)).astype(np.float32))
    difference = LogSpectrogram(fs=300.0, floor=None)(x) - LogSpectrogram(fs=360.0, floor=None)(x)
    assert torch.allclose(difference, torch.full_like(difference, math.log(360 / 300)), atol=1e-5)


def test_input_in_another_unit_needs_another_scale(rng):
    x = torch.from_numpy(rng.standard_normal((1, 1, 720)).astype(np.float32))
    assert torch.allclose(LogSpectrogram()(x), LogSpectrogram(scale=1.0)(1000 * x), atol=1e-4)


@pytest.mark.parametrize("n_timesteps, n_frames", [(1, 1), (63, 1), (64, 1), (95, 1), (96, 2), (720, 21), (9000, 280)])
def test_published_number_of_frames(n_timesteps, n_frames):
    layer = LogSpectrogram()
    assert layer.n_frames(n_timesteps) == n_frames == len(layer.positions(n_timesteps))
    assert layer(torch.zeros(1, 1, n_timesteps)).shape == (1, 1, n_frames, 33)


def test_frames_are_centred_on_what_they_see(rng):
    x = torch.from_numpy(rng.standard_normal((1, 300))).requires_grad_()
    out = LogSpectrogram().double()(x)
    for j, position in enumerate(LogSpectrogram().positions(300)):
        (gradient,) = torch.autograd.grad(out[0, j].sum(), x, retain_graph=True)
        seen = gradient[0].nonzero().flatten()
        # the window's first sample is zero, and sees the segment's mean alone
        assert (seen[0] + seen[-1]) / 2 == position and len(seen) == 64


def test_short_input_is_padded_with_zeros_at_its_right_end(rng):
    x = torch.from_numpy(rng.standard_normal((2, 1, 40)).astype(np.float32))
    padded = torch.cat([x, torch.zeros(2, 1, 24)], -1)
    assert torch.equal(LogSpectrogram()(x), LogSpectrogram()(padded))


def test_samples_behind_the_last_whole_frame_are_not_seen(rng):
    x = torch.from_numpy(rng.standard_normal((1, 1, 95)).astype(np.float32))
    assert torch.equal(LogSpectrogram()(x), LogSpectrogram()(x[..., :64]))


@pytest.mark.parametrize("level", [0.0, 0.1, -3.0])
@pytest.mark.parametrize("floor", [1e-3, None])
def test_flat_input_has_a_finite_gradient(floor, level):
    x = torch.full((1, 1, 720), level, requires_grad=True)
    out = LogSpectrogram(floor=floor)(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.isfinite(out).all() and torch.isfinite(gradient).all()
    if floor is not None:
        assert torch.allclose(out, torch.full_like(out, math.log(1e-3))) and not gradient.any()
    elif level == 0:
        assert not out.any() and not gradient.any()  # as the authors: the logarithm of zero is left zero


def test_floor_bounds_the_gradient_of_nearly_flat_input(rng):
    quiet = torch.from_numpy(1e-7 * rng.standard_normal((1, 1, 720)).astype(np.float32))
    largest = {}
    for floor in (1e-3, None):
        x = quiet.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(LogSpectrogram(floor=floor)(x).abs().sum(), x)
        largest[floor] = gradient.abs().max().item()
    assert largest[1e-3] == 0 and largest[None] > 1e6


def test_floor_leaves_recorded_ecg_alone(rng):
    steps = np.round(rng.standard_normal((1, 1, 7200)) * 2) * 0.005  # noise of two quantisation steps of MIT-BIH
    x = torch.from_numpy(steps.astype(np.float32))
    floored, authors = LogSpectrogram()(x)[..., 1:], LogSpectrogram(floor=None)(x)[..., 1:]
    assert (floored == authors).float().mean() > 0.98  # by chance some bin of a frame holds nothing


def test_nothing_of_it_is_stored_and_it_can_be_copied(rng):
    layer = LogSpectrogram()
    x = torch.from_numpy(rng.standard_normal((1, 1, 100)).astype(np.float32))
    assert not layer.state_dict() and not list(layer.parameters())
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize(
    "bad",
    [
        {"nperseg": 0},
        {"nperseg": 1},
        {"noverlap": 64},
        {"noverlap": -1},
        {"noverlap": 0.5},
        {"fs": 0},
        {"scale": -1.0},
        {"floor": 0.0},
        {"fs": float("nan")},
    ],
    ids=str,
)
def test_bad_parameters_are_named(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        LogSpectrogram(**bad)
