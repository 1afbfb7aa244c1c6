"""Pointing game and relevance mass by hand, ties by enumeration, their chance level, and the centre prior."""

import itertools

import numpy as np
import pytest

from skecg.metrics import centre_prior, chance_level, pointing_game_score, relevance_mass_score


def test_pointing_by_hand():
    truth = np.array([[0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]], dtype=bool)
    relevance = np.array([[0, 2, 1, 0, 0], [0, 3, 0, 0, 0], [1, 1, 0, 0, 1], [-1, -5, -1, -1, -1]], dtype=float)
    each = pointing_game_score(truth, relevance, average=False)
    np.testing.assert_allclose(each, [1, 0, 1 / 3, 2 / 5])  # hit, miss, three tied, nothing positive: chance
    assert pointing_game_score(truth, relevance) == pytest.approx((1 + 1 / 3 + 2 / 5) / 4)


def test_mass_by_hand():
    truth = np.array([[0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]], dtype=bool)
    relevance = np.array([[1, 2, 1, 0, -9], [0, 3, 0, 0, 0], [2, 2, 2, 2, 2], [-1, -5, -1, -1, 0]], dtype=float)
    each = relevance_mass_score(truth, relevance, average=False)
    np.testing.assert_allclose(each, [3 / 4, 0, 1 / 5, 2 / 5])


def test_pointing_counts_the_tied_maxima_by_enumeration():
    windows = np.array(list(itertools.product([0.0, 1.0, 2.0], repeat=4)))
    truth = np.zeros(windows.shape, dtype=bool)
    truth[:, 1:3] = True
    expected = []
    for window in windows:
        peak = window.max()
        hits = [inside for value, inside in zip(window, (0, 1, 1, 0), strict=True) if value == peak]
        expected.append(sum(hits) / len(hits))
    np.testing.assert_allclose(pointing_game_score(truth, windows, average=False), expected)


def test_tolerance_widens_the_truth_and_chance():
    truth = np.zeros((5, 1, 100), dtype=bool)
    truth[:, :, 50:60] = True
    relevance = np.zeros(truth.shape)
    for row, peak in enumerate((44, 45, 55, 64, 65)):
        relevance[row, 0, peak] = 1
    each = pointing_game_score(truth, relevance, tolerance=0.02, fs=250.0, average=False)  # 5 samples
    np.testing.assert_array_equal(each, [0, 1, 1, 1, 0])
    assert pointing_game_score(truth, relevance) == 0.2
    assert chance_level(truth, tolerance=0.02, fs=250.0) == 0.2
    assert chance_level(truth, tolerance=1e6, fs=250.0) == 1.0
    with pytest.raises(ValueError, match="tolerance needs the sampling rate"):
        pointing_game_score(truth, relevance, tolerance=0.02)
    with pytest.raises(ValueError, match="tolerance must be"):
        chance_level(truth, tolerance=-0.1, fs=250.0)


def test_a_cam_on_every_lead_is_no_worse_for_its_ties(rng):
    cam = rng.normal(size=(5, 1, 30))
    truth = np.zeros((5, 12, 30), dtype=bool)
    truth[:, 3, 10:20] = True  # the evidence is in one lead of twelve
    on_all = np.broadcast_to(cam, truth.shape)
    expected = pointing_game_score(truth[:, 3], cam, average=False) / 12
    np.testing.assert_allclose(pointing_game_score(truth, on_all, average=False), expected)


@pytest.mark.parametrize("truth", [None, [1, 0], np.zeros((1, 2, 3, 4))])
def test_chance_of_a_bad_truth(truth):
    with pytest.raises(ValueError, match="truth must be"):
        chance_level(truth)


def test_centre_prior():
    for shape in [(3, 100), (3, 2, 101)]:
        prior = centre_prior(shape)
        assert prior.shape == shape
        assert prior.dtype == np.float32
        np.testing.assert_array_equal(prior, prior[..., ::-1])
        middle = np.zeros(shape, dtype=bool)
        middle[..., shape[-1] // 2 - (shape[-1] % 2 == 0) : shape[-1] // 2 + 1] = True
        assert pointing_game_score(middle, prior) == 1.0
    wide, narrow = (relevance_mass_score(middle, centre_prior(shape, width=width)) for width in (1.0, 0.01))
    assert chance_level(middle) < wide < narrow < 1
    half = np.exp(-0.5 * (0.25 / 0.1) ** 2)  # a quarter of the window away is 2.5 deviations
    assert centre_prior((1, 1001))[0, 750] == pytest.approx(half, rel=0.01)
    for bad in [(3,), (0, 10), (1, 2, 3, 4)]:
        with pytest.raises(ValueError, match="shape must be"):
            centre_prior(bad)
    with pytest.raises(ValueError, match="width must be"):
        centre_prior((1, 10), width=0)
