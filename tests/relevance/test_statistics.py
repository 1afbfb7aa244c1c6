"""Statistics of cohorts against closed forms, enumeration, scipy and values worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skecg.relevance._ranks import compare as compare_columns
from skecg.relevance._ranks import holm
from skecg.relevance._statistics import CohortStatistics, fsum_mean, mean_interval

ALTERNATIVES = ("two-sided", "greater", "less")


def compare(values, control, alternative):
    """Compare one column."""
    delta, p = compare_columns(values[:, None], control[:, None], alternative)
    return float(delta[0]), float(p[0])


def test_holm_by_hand():
    # sorted: .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 = .04, which may not fall below .06
    p = np.array([[0.01, 0.04], [0.03, 0.005]])
    np.testing.assert_allclose(holm(p), [[0.03, 0.06], [0.06, 0.02]], rtol=1e-12)


def test_holm_leaves_tests_that_were_not_possible_out_of_the_family():
    np.testing.assert_allclose(holm(np.array([0.02, np.nan, 0.4])), [0.04, np.nan, 0.4], rtol=1e-12)
    assert np.isnan(holm(np.full(3, np.nan))).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p):
    p = np.array(p)
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(p * len(p), 1)).all()
    order = np.argsort(p)
    assert (np.diff(adjusted[order]) >= 0).all()


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@settings(max_examples=40, deadline=None)
@given(a=st.lists(st.integers(0, 4), min_size=1, max_size=5), b=st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_p_value_of_small_tied_samples_is_that_of_all_relabellings(alternative, a, b):
    both = np.array(a + b, dtype=float)
    ranks = stats.rankdata(both)
    sums = np.array([sum(ranks[list(i)]) for i in itertools.combinations(range(len(both)), len(a))])
    greater, less = np.mean(sums >= sums[0] - 1e-9), np.mean(sums <= sums[0] + 1e-9)
    expected = {"greater": greater, "less": less, "two-sided": min(1, 2 * min(greater, less))}[alternative]
    delta, p = compare(both[: len(a)], both[len(a) :], alternative)
    assert p == pytest.approx(expected, rel=1e-9)
    assert delta == pytest.approx(np.mean(np.sign(np.subtract.outer(a, b))), abs=1e-12)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize(("n", "m", "method"), [(7, 19, "exact"), (19, 7, "exact"), (150, 90, "asymptotic")])
def test_p_value_is_scipys(n, m, method, alternative, rng):
    a, b = rng.normal(0.4, 1, n), rng.normal(0, 1, m)
    delta, p = compare(a, b, alternative)
    oracle = stats.mannwhitneyu(a, b, alternative=alternative, method=method)
    assert p == pytest.approx(oracle.pvalue, rel=1e-9)
    assert delta == pytest.approx(2 * oracle.statistic / (n * m) - 1, abs=1e-12)


def test_exact_and_approximate_p_values_meet_where_one_takes_over():
    a, b = np.arange(39) + 5.5, np.arange(39)
    approximate = stats.mannwhitneyu(a, b, method="asymptotic").pvalue
    assert compare(a, b, "two-sided")[1] == pytest.approx(approximate, rel=0.05)


def test_separate_samples_have_delta_one_and_equal_ones_zero():
    assert compare(np.array([4.0, 5.0]), np.array([1.0, 2.0, 3.0]), "greater") == (1.0, pytest.approx(1 / 10))
    for n in (3, 200):  # by the exact way, and by the approximation, which has no variance here
        assert compare(np.zeros(n), np.zeros(n + 1), "two-sided") == (0.0, 1.0)


def test_no_comparison_without_patients():
    assert np.isnan(compare(np.array([]), np.array([1.0]), "less")).all()
    assert np.isnan(compare(np.array([1.0]), np.array([]), "less")).all()


def test_values_that_differ_in_the_last_digit_are_ties():
    third, rounded = 1 / 3, 0.1 / 0.3
    assert third != rounded
    delta, p = compare(np.full(8, third), np.full(9, rounded), "two-sided")
    assert delta == 0
    assert p == pytest.approx(1, abs=1e-12)


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_means_do_not_depend_on_the_order(values, random):
    shuffled = random.sample(values, len(values))
    assert fsum_mean(np.array([values]).T) == fsum_mean(np.array([shuffled]).T)


@pytest.mark.parametrize(
    ("n", "method"), [(1, "none"), (9, "none"), (10, "studentized"), (30, "studentized"), (31, "bca")]
)
def test_interval_by_number_of_patients(n, method, rng):
    values = rng.normal(size=(n, 2))
    interval, methods = mean_interval(values, 400, [0, 0])
    assert methods.tolist() == [method, method]
    if method == "none":
        assert np.isnan(interval).all()
    else:
        assert (interval[:, 0] < values.mean(axis=0)).all()
        assert (values.mean(axis=0) < interval[:, 1]).all()


def test_studentized_interval_of_gaussian_quantiles_is_students():
    n = 30
    values = stats.norm.ppf((np.arange(n) + 0.5) / n)[:, None]  # symmetric and as Gaussian as 30 values can be
    interval, method = mean_interval(values, 20_000, [2])
    half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    assert method[0] == "studentized"
    np.testing.assert_allclose(interval[0], [-half, half], rtol=0.05)


@pytest.mark.parametrize("n", [15, 50])
@pytest.mark.parametrize(("factor", "shift"), [(1e-30, 0.0), (1e30, 0.0), (3.0, 7.0), (1e-8, -1.0)])
def test_interval_moves_with_the_values(n, factor, shift, rng):
    values = rng.exponential(size=(n, 1))
    plain, method = mean_interval(values, 200, [3])
    moved, moved_method = mean_interval(factor * values + shift, 200, [3])
    assert method == moved_method
    np.testing.assert_allclose(moved, factor * plain + shift, rtol=1e-6 if shift == 0 else 1e-12)


@pytest.mark.parametrize("n", [12, 40])
def test_interval_of_mirrored_values_is_mirrored(n, rng):
    values = rng.exponential(size=(n, 1))
    plain, _ = mean_interval(values, 4000, [4])
    mirrored, _ = mean_interval(-values, 4000, [4])
    np.testing.assert_allclose(mirrored[0], -plain[0, ::-1], rtol=1e-9)


@pytest.mark.parametrize("n", [10, 40])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e-30, -3e38])
def test_interval_of_equal_values_is_that_value(n, value):
    interval, _ = mean_interval(np.full((n, 1), value), 100, [5])
    np.testing.assert_allclose(interval, [[value, value]], rtol=1e-15)


def test_sparse_values_have_a_finite_interval_by_bca():
    values = np.zeros((12, 2))
    values[0, 0] = 1.0  # most resamples hold some of it, a third hold none and do not vary
    values[:, 1] = np.arange(12)
    interval, method = mean_interval(values, 500, [6])
    assert method.tolist() == ["bca", "studentized"]
    assert np.isfinite(interval).all()
    assert interval[0, 0] >= 0
    assert interval[0, 1] <= 1


@pytest.mark.parametrize(("n", "least"), [(10, 0.88), (20, 0.88), (40, 0.87)])
@pytest.mark.parametrize("kind", ["normal", "exponential"])
def test_interval_covers_the_mean_about_as_often_as_it_says(n, least, kind, rng):
    draw, mean = {"normal": (rng.normal, 0.0), "exponential": (rng.exponential, 1.0)}[kind]
    ends = np.array([mean_interval(draw(size=(n, 1)), 200, [i])[0][0] for i in range(800)])
    covered = np.mean((ends[:, 0] <= mean) & (mean <= ends[:, 1]))
    assert least < covered < 0.99


def _cohorts(cohorts, **options):
    options = {"n_columns": 1, "control": None, "alternative": "two-sided", "correction": "holm"} | options
    cohorts = [{p: [np.atleast_1d(r) for r in records] for p, records in cohort.items()} for cohort in cohorts]
    return CohortStatistics(cohorts, n_bootstrap=100, seed=0, **options)


def test_a_record_weighs_one_in_its_patient_and_a_patient_one_in_the_cohort():
    found = _cohorts([{"a": [1.0, 2.0, 6.0], "b": [5.0]}])
    assert found["mean"][0, 0] == (3 + 5) / 2
    assert found["n_patients"][0, 0] == 2
    assert found["n_records"][0, 0] == 4
    assert np.isnan(found["p_value"]).all()


def test_patients_of_both_cohorts_leave_the_control():
    found = _cohorts([{1: [5.0], 2: [6.0]}, {1: [9.0], 3: [1.0], 4: [2.0]}], control=1, alternative="greater")
    assert found["n_control"].tolist() == [[2], [0]]
    assert found["n_shared"].tolist() == [[1], [0]]
    assert found["effect_size"][0, 0] == 1  # with patient 1 in the control it would be 1/3
    assert found["p_value"][0, 0] == pytest.approx(1 / 6)
    assert found["mean"][1, 0] == 4  # the control's own mean keeps its patients
    assert np.isnan(found["effect_size"][1, 0])


def test_the_family_is_all_columns_of_all_tested_classes():
    control = {i: [np.array([i, i])] for i in range(4)}
    first = {i: [np.array([i, 0])] for i in range(10, 14)}
    second = {i: [np.array([1.5, i])] for i in range(20, 23)}
    found = _cohorts([first, control, second], control=1, n_columns=2)
    raw = found["p_value"][[0, 2]].ravel()
    assert np.isfinite(raw).all()
    assert found["p_adjusted"][0, 0] == pytest.approx(4 * raw.min())
    np.testing.assert_array_equal(found["p_adjusted"][[0, 2]].ravel(), holm(raw))
    plain = _cohorts([first, control, second], control=1, n_columns=2, correction=None)
    np.testing.assert_array_equal(plain["p_adjusted"], plain["p_value"])


def test_absent_values_are_left_out_of_their_column_alone():
    nan = math.nan
    cohort = {1: [np.array([1.0, nan]), np.array([3.0, 4.0])], 2: [np.array([nan, 8.0])]}
    found = _cohorts([cohort, {3: [np.array([nan, nan])]}], n_columns=2, control=1)
    assert found["mean"][0].tolist() == [2.0, 6.0]
    assert found["n_patients"].tolist() == [[1, 2], [0, 0]]
    assert found["n_records"].tolist() == [[2, 2], [0, 0]]
    assert np.isnan(found["mean"][1]).all()
    assert np.isnan(found["p_adjusted"]).all()


def test_a_column_has_the_interval_of_its_own_patients(rng):
    values = rng.normal(size=(15, 3))
    gappy = values.copy()
    gappy[:3, 1] = np.nan
    full, part = (_cohorts([{i: [row] for i, row in enumerate(v)}], n_columns=3) for v in (values, gappy))
    np.testing.assert_array_equal(full["interval"][0, [0, 2]], part["interval"][0, [0, 2]])
    alone = _cohorts([{i: [row] for i, row in enumerate(values[3:, 1])}])
    np.testing.assert_array_equal(part["interval"][0, 1], alone["interval"][0, 0])
