"""Rank accuracy, AUC and average precision: ties over all orders, scikit-learn window by window, order alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from skecg.metrics import relevance_auc_score, relevance_average_precision_score, relevance_rank_score

SCORES = [relevance_rank_score, relevance_auc_score, relevance_average_precision_score]


def small(values):
    return st.lists(st.sampled_from(values), min_size=5, max_size=5)


@settings(max_examples=40)
@given(small([-1.0, 0.0, 0.5, 2.0]), small([False, True]))
def test_rank_is_the_mean_over_all_orders_of_the_ties(relevance, truth):
    size, orders, hits = sum(truth), 0, 0
    for order in itertools.permutations(range(5)):
        ranked = [relevance[i] for i in order]
        if ranked == sorted(ranked, reverse=True):
            orders += 1
            hits += sum(truth[i] for i in order[:size])
    score = relevance_rank_score([truth], [relevance], average=False)[0]
    assert np.isnan(score) if not size else score == pytest.approx(hits / orders / size, abs=1e-12)


@settings(max_examples=40)
@given(small([-1.0, 0.0, 0.5, 2.0]), small([False, True]))
def test_auc_counts_the_pairs(relevance, truth):
    pairs = [
        (relevance[i] > relevance[j]) + 0.5 * (relevance[i] == relevance[j])
        for i, j in itertools.product(range(5), repeat=2)
        if truth[i] and not truth[j]
    ]
    score = relevance_auc_score([truth], [relevance], average=False)[0]
    assert np.isnan(score) if not pairs else score == pytest.approx(np.mean(pairs), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 3, 40])
@pytest.mark.parametrize(
    ("score", "oracle"),
    [(relevance_auc_score, roc_auc_score), (relevance_average_precision_score, average_precision_score)],
)
def test_every_window_is_as_scikit_learn_has_it(score, oracle, levels, rng):
    relevance = rng.normal(size=(16, 3, 60))
    if levels is not None:
        relevance = np.round(relevance * levels / 4)  # ties
    truth = rng.random(relevance.shape) < rng.uniform(0.1, 0.9, size=(16, 1, 1))
    expected = [oracle(inside.ravel(), values.ravel()) for inside, values in zip(truth, relevance, strict=True)]
    np.testing.assert_allclose(score(truth, relevance, average=False), expected, rtol=0, atol=1e-12)
    valid = rng.random((16, 60)) < 0.7
    expected = [
        oracle(inside[:, keep].ravel(), values[:, keep].ravel())
        for inside, values, keep in zip(truth, relevance, valid, strict=True)
    ]
    found = score(truth, np.where(valid[:, None], relevance, np.nan), valid=valid, average=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_only_the_order_matters(score, rng):
    truth, relevance = rng.random((20, 2, 50)) < 0.2, rng.normal(size=(20, 2, 50))
    expected = score(truth, relevance, average=False)
    for monotone in (np.exp, np.arctan, lambda r: r**3, lambda r: 5 * r - 100):
        np.testing.assert_array_equal(score(truth, monotone(relevance), average=False), expected)
    assert not np.allclose(score(truth, np.abs(relevance), average=False), expected)  # negative ranks below zero


@pytest.mark.parametrize("score", SCORES)
def test_the_best_and_the_worst_order(score):
    truth = np.array([[0, 0, 1, 1, 0, 0, 0, 0]], dtype=bool)
    best = np.array([[0, -1, 3, 2, 1, 0, 0, 0.5]])
    assert score(truth, best) == 1
    worst = {relevance_rank_score: 0, relevance_auc_score: 0, relevance_average_precision_score: (1 / 7 + 2 / 8) / 2}
    assert score(truth, -best) == worst[score]


@pytest.mark.parametrize("score", SCORES)
def test_every_type_is_ordered(score):
    truth = np.array([[1, 0, 1, 0]])
    expected = score(truth, [[3.0, 2.0, 1.0, 0.0]])
    assert score(truth, np.array([[3, 2, 1, 0]], dtype=np.uint8)) == expected
    one = np.float32(1)
    steps = [one]
    for _ in range(3):
        steps.append(np.nextafter(steps[-1], np.float32(0)))
    assert score(truth, np.array([steps])) == expected
    assert score([[1, 0]], np.array([[True, False]])) == 1
