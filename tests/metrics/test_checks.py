"""What holds for every score against a truth: chance, weights, padding, shapes, bad input."""

import numpy as np
import pytest

from skecg.metrics import (
    chance_level,
    pointing_game_score,
    relevance_auc_score,
    relevance_average_precision_score,
    relevance_mass_score,
    relevance_rank_score,
)

RANKING = [relevance_rank_score, relevance_auc_score, relevance_average_precision_score]
SCORES = [pointing_game_score, relevance_mass_score, *RANKING]


def chance_of(score, truth):
    return 0.5 if score is relevance_auc_score else chance_level(truth)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("value", [0.0, -1.0, 0.25, 1e-30, 1e30, 1e-45])
def test_a_flat_map_scores_chance(score, value):
    truth = np.zeros((3, 2, 8), dtype=bool)
    truth[:, 0, 1:4] = True
    relevance = np.full(truth.shape, value, dtype=np.float32)
    assert chance_level(truth) == 3 / 16
    np.testing.assert_allclose(score(truth, relevance, average=False), chance_of(score, truth), rtol=1e-12)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_scores_do_not_depend_on_the_unit(score, scale, rng):
    truth, relevance = rng.random((20, 2, 50)) < 0.2, rng.normal(size=(20, 2, 50))
    np.testing.assert_allclose(
        score(truth, relevance * scale, average=False), score(truth, relevance, average=False), rtol=1e-9
    )


@pytest.mark.parametrize("score", SCORES)
def test_random_relevance_scores_chance(score, rng):
    truth = np.zeros((600, 1, 400), dtype=bool)
    truth[:, :, 50:150] = True
    assert chance_level(truth) == 0.25
    tolerance = 0.06 if score is pointing_game_score else 0.01  # it looks at one sample a window alone
    assert score(truth, rng.normal(size=truth.shape)) == pytest.approx(chance_of(score, truth), abs=tolerance)


def test_windows_without_truth_are_left_out():
    truth = np.array([[0, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
    relevance = np.array([[0, 3.0, 0, 1.0], [1, 0, 0, 0]])
    # the second sample of the truth shares the last places with one outside
    expected = {
        pointing_game_score: 1.0,
        relevance_mass_score: 0.75,
        relevance_rank_score: 0.5,
        relevance_auc_score: (2 + 0.5) / 4,
        relevance_average_precision_score: (1 + 2 / 4) / 2,
        chance_level: 0.5,
    }
    for score, value in expected.items():
        assert score(truth, relevance) == value
        np.testing.assert_array_equal(score(truth, relevance, average=False), [value, np.nan])
        with pytest.raises(ValueError, match=r"none of the 2 windows has (any|both) truth"):
            score(np.zeros((2, 4)), relevance)
        assert np.isnan(score(np.zeros((2, 4)), relevance, average=False)).all()


@pytest.mark.parametrize("score", [*SCORES, chance_level])
def test_a_truth_of_the_whole_window(score, rng):
    truth, relevance = np.ones((3, 2, 8), dtype=bool), rng.normal(size=(3, 2, 8))
    each = score(truth, relevance, average=False)
    if score is relevance_auc_score:
        assert np.isnan(each).all()  # there is nothing to tell it from
        with pytest.raises(ValueError, match="none of the 3 windows has both truth and something beside it"):
            score(truth, relevance)
    else:
        np.testing.assert_array_equal(each, 1)


@pytest.mark.parametrize("score", [*SCORES, chance_level])
def test_weights_are_repetitions(score, rng):
    truth, relevance = rng.random((6, 1, 10)) < 0.3, rng.normal(size=(6, 1, 10))
    truth[:, 0, 0], truth[5] = True, False
    weights = np.array([1, 0, 3, 2, 1, 7])
    repeated = score(np.repeat(truth, weights, axis=0), np.repeat(relevance, weights, axis=0))
    assert score(truth, relevance, sample_weight=weights) == pytest.approx(repeated)
    with pytest.raises(ValueError, match="weigh nothing"):
        score(truth, relevance, sample_weight=[0, 0, 0, 0, 0, 1])  # the last window has no truth
    with pytest.raises(ValueError, match="sample_weight has shape"):
        score(truth, relevance, sample_weight=[1, 2])


@pytest.mark.parametrize("score", [*SCORES, chance_level])
def test_invalid_samples_do_not_count(score, rng):
    truth, relevance = rng.random((6, 2, 30)) < 0.3, rng.normal(size=(6, 2, 30))
    valid = np.zeros((6, 30), dtype=bool)
    valid[:, :20] = True
    expected = score(truth[:, :, :20], relevance[:, :, :20], average=False)
    relevance[:, :, 20:] = np.nan  # not even looked at
    np.testing.assert_allclose(score(truth, relevance, valid=valid, average=False), expected)
    every = np.repeat(valid[:, None], 2, axis=1)
    np.testing.assert_allclose(score(truth, relevance, valid=every, average=False), expected)


@pytest.mark.parametrize("score", [*SCORES, chance_level])
def test_a_truth_without_lead_axis_holds_for_every_lead(score, rng):
    truth, relevance = rng.random((6, 30)) < 0.3, rng.normal(size=(6, 3, 30))
    expected = score(np.repeat(truth[:, None], 3, axis=1), relevance, average=False)
    np.testing.assert_array_equal(score(truth, relevance, average=False), expected)


@pytest.mark.parametrize("score", [*SCORES, chance_level])
def test_one_lead_with_or_without_its_axis(score, rng):
    truth, relevance = rng.random((6, 30)) < 0.3, rng.normal(size=(6, 30))
    expected = score(truth, relevance)
    assert score(truth[:, None], relevance) == expected
    assert score(truth, relevance[:, None]) == expected
    assert score(truth.astype(int).tolist(), relevance.tolist()) == expected


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("shape", [(500, 2, 250), (4, 2, 40_000)])  # many windows in a block, and less than one
def test_many_windows_are_scored_as_few(score, shape, rng):
    truth, relevance = rng.random(shape) < 0.3, rng.normal(size=shape).astype(np.float32)
    rows = [0, len(truth) // 2, len(truth) - 1]
    alone = [score(truth[i : i + 1], relevance[i : i + 1]) for i in rows]
    np.testing.assert_array_equal(score(truth, relevance, average=False)[rows], alone)
    relevance[-2, 0, 7] = np.nan
    with pytest.raises(ValueError, match=f"NaN or infinite in window {len(truth) - 2}"):
        score(truth, relevance)


@pytest.mark.parametrize("score", SCORES)
def test_arguments_are_left_as_found(score, rng):
    truth, relevance = rng.random((6, 1, 30)) < 0.3, rng.normal(size=(6, 1, 30))
    before = truth.copy(), relevance.copy()
    truth.flags.writeable = relevance.flags.writeable = False
    score(truth, relevance)
    np.testing.assert_array_equal(truth, before[0])
    np.testing.assert_array_equal(relevance, before[1])


TRUTH, RELEVANCE = np.eye(4, dtype=bool)[:3], np.ones((3, 4))


@pytest.mark.parametrize(
    ("truth", "relevance", "error", "message"),
    [
        (TRUTH[:2], RELEVANCE, ValueError, r"truth has shape \(2, 4\), but relevance has shape \(3, 4\)"),
        (TRUTH[:, None], RELEVANCE[:, None].repeat(2, 1), ValueError, r"be \(3, 4\) to hold for every lead"),
        (TRUTH[:, None].repeat(2, 1), RELEVANCE, ValueError, r"truth has shape \(3, 2, 4\)"),
        (TRUTH[0], RELEVANCE, ValueError, r"truth has shape \(4,\)"),
        (TRUTH, RELEVANCE[0], ValueError, r"relevance must be .* got shape \(4,\)"),
        (np.zeros((0, 4)), np.zeros((0, 4)), ValueError, r"nowhere 0; got shape \(0, 4\)"),
        (TRUTH * 0.5, RELEVANCE, ValueError, "truth must be boolean, or of zeros and ones; it holds other values"),
        (TRUTH * np.nan, RELEVANCE, ValueError, "it holds other values"),
        (TRUTH.astype(str), RELEVANCE, TypeError, "truth must be an array of booleans"),
        (TRUTH.astype(object), RELEVANCE, TypeError, "truth must be an array of booleans"),
        (TRUTH, RELEVANCE.astype(object), TypeError, "relevance must be an array of real numbers; got dtype object"),
        (TRUTH, RELEVANCE * 1j, TypeError, "got dtype complex128"),
        (TRUTH, RELEVANCE * np.array([[1], [np.nan], [1]]), ValueError, "NaN or infinite in window 1"),
        (TRUTH, RELEVANCE * np.array([[1], [1], [-np.inf]]), ValueError, "NaN or infinite in window 2"),
    ],
)
@pytest.mark.parametrize("score", SCORES)
def test_bad_input_is_named(score, truth, relevance, error, message):
    with pytest.raises(error, match=message):
        score(truth, relevance)
