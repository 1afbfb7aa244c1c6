"""Intervals over patients: scipy's BCa for one window a patient, the cluster bootstrap by hand, coverage, bad input."""

import numpy as np
import pytest
from scipy import stats

from skecg.metrics import bootstrap_score


def test_fewer_than_ten_patients_get_their_values_and_no_interval():
    values = np.array([0.2, np.nan, 0.4, 1.0, np.nan])
    result = bootstrap_score(values, ["b", "b", "b", "a", "c"])
    assert result.value == pytest.approx(1.6 / 3)
    assert result.groups.tolist() == ["a", "b"]  # c has no score
    np.testing.assert_allclose(result.values_by_group, [1.0, 0.3])
    assert result.n_by_group.tolist() == [1, 2]
    assert (result.n_groups, result.n_left_out, result.method) == (2, 2, "none")
    assert np.isnan([result.low, result.high]).all()


@pytest.mark.parametrize(("n", "method"), [(9, "none"), (10, "bca"), (30, "bca"), (200, "bca")])
def test_method_by_number_of_patients(n, method, rng):
    result = bootstrap_score(rng.normal(size=3 * n), np.repeat(np.arange(n), 3))
    assert result.method == method
    assert np.isnan(result.low) if method == "none" else result.low < result.value < result.high


def test_one_window_a_patient_is_scipys_bca(rng):
    values = rng.exponential(size=40) ** 2  # skewed, so that bias and acceleration matter
    oracle = stats.bootstrap((values,), np.mean, n_resamples=40_000, method="BCa", random_state=0).confidence_interval
    result = bootstrap_score(values, np.arange(40), n_bootstrap=40_000)
    width = oracle.high - oracle.low
    assert result.low == pytest.approx(oracle.low, abs=0.03 * width)
    assert result.high == pytest.approx(oracle.high, abs=0.03 * width)


def test_patients_are_drawn_with_all_their_windows(rng):
    counts = rng.integers(1, 12, 25)
    groups = np.repeat(np.arange(25), counts)
    values = rng.exponential(size=25)[groups] + 0.1 * rng.normal(size=len(groups))
    sums = np.bincount(groups, weights=values)
    oracle = stats.bootstrap(
        (sums, counts), lambda s, n, axis=-1: s.sum(axis) / n.sum(axis), paired=True, vectorized=True,
        n_resamples=20_000, method="BCa", random_state=0, confidence_level=0.8,
    ).confidence_interval  # fmt: skip
    result = bootstrap_score(values, groups, n_bootstrap=20_000, confidence=0.8)
    width = oracle.high - oracle.low
    assert result.low == pytest.approx(oracle.low, abs=0.03 * width)
    assert result.high == pytest.approx(oracle.high, abs=0.03 * width)
    apart = bootstrap_score(values, np.arange(len(values)), confidence=0.8)
    assert apart.high - apart.low < 0.75 * width  # as if every window were a patient


def test_the_interval_covers_the_mean_about_as_often_as_it_says(rng):
    covered = 0
    for seed in range(150):
        patient = rng.normal(size=20)
        values = np.repeat(patient, 4) + rng.normal(size=80)
        result = bootstrap_score(values, np.repeat(np.arange(20), 4), n_bootstrap=300, random_state=seed)
        covered += result.low < 0 < result.high
    assert 0.86 < covered / 150 < 0.99


def test_pairs_stay_together(rng):
    groups = np.arange(60) % 15
    hard = rng.normal(size=15)[groups]
    a, b = hard + 0.1 + 0.01 * rng.normal(size=60), hard + 0.01 * rng.normal(size=60)
    assert bootstrap_score(a, groups).low < bootstrap_score(b, groups).high  # each for itself they overlap
    assert bootstrap_score(a - b, groups).low > 0.08


@pytest.mark.parametrize("value", [0.0, 0.1, 1e300, -1e-300])
def test_equal_scores_have_an_interval_of_no_width(value):
    result = bootstrap_score(np.full(24, value), np.arange(24) % 12)
    assert result.method == "bca"
    np.testing.assert_allclose([result.low, result.value, result.high], value, rtol=1e-12)


def test_neither_order_nor_labels_nor_unit_matter(rng):
    values, groups = rng.normal(size=60), np.arange(60) % 12
    result = bootstrap_score(values, groups)
    order = rng.permutation(60)
    again = bootstrap_score(1000 * values[order] + 5, np.array([f"p{g:02d}" for g in groups])[order])
    for name in ("value", "low", "high"):
        assert again[name] == pytest.approx(1000 * result[name] + 5)
    assert bootstrap_score(values, groups, random_state=1).low != result.low


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"groups": [1, 2]}, ValueError, r"values and groups must both have shape .*got \(3,\) and \(2,\)"),
        ({"values": np.ones((3, 1))}, ValueError, r"got \(3, 1\) and \(3,\)"),
        ({"values": [], "groups": []}, ValueError, r"got \(0,\) and \(0,\)"),
        ({"values": ["a", "b", "c"]}, TypeError, "values must be an array of real numbers"),
        ({"values": [1.0, np.inf, 2.0]}, ValueError, "infinite scores"),
        ({"values": [np.nan] * 3}, ValueError, "none of the 3 windows has a score"),
        ({"n_bootstrap": 0}, ValueError, "n_bootstrap must be"),
        ({"confidence": 95}, ValueError, "confidence must be"),
    ],
)
def test_bad_input_is_named(change, error, message):
    with pytest.raises(error, match=message):
        bootstrap_score(**{"values": [1.0, 2.0, 3.0], "groups": [1, 2, 3], **change})
