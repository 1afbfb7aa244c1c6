"""The numbers behind bootstrap intervals: BCa levels against scipy's, resampled means, quantiles."""

import numpy as np
import pytest
from scipy import stats

from skecg.utils._bootstrap import bca_levels, quantiles, resample_means


def test_bca_interval_is_scipys_on_the_same_resamples(rng):
    values = rng.exponential(size=40) ** 2  # skewed, so that bias and acceleration matter
    oracle = stats.bootstrap((values,), np.mean, n_resamples=999, method="BCa", random_state=0)
    resampled = oracle.bootstrap_distribution
    levels = bca_levels(values - values.mean(), resampled - values.mean(), np.array([0.025, 0.975]))
    np.testing.assert_allclose(np.quantile(resampled, levels), oracle.confidence_interval, rtol=1e-9)


@pytest.mark.parametrize("with_errors", [False, True])
def test_resampled_means_vary_as_the_mean_does(with_errors, rng):
    values = rng.exponential(size=(25, 2))
    means, errors = resample_means(values, 4000, np.random.default_rng(0), with_errors=with_errors)
    np.testing.assert_allclose(means.mean(axis=0), values.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(means.std(axis=0), values.std(axis=0) / 5, rtol=0.05)
    if with_errors:
        np.testing.assert_allclose(errors.mean(axis=0), values.std(axis=0) / 5, rtol=0.1)


def test_quantiles_are_numpys_at_levels_of_each_column(rng):
    values, levels = rng.normal(size=(30, 3)), rng.random((3, 2))
    expected = [np.quantile(column, level) for column, level in zip(values.T, levels, strict=True)]
    np.testing.assert_allclose(quantiles(values, levels), expected)
