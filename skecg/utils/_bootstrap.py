"""Resampling of rows with replacement, and what a bootstrap interval is read from."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr, ndtri

CELLS = 2**21  # values that are resampled at a time (16 MB)


def resample_means(
    values: np.ndarray, n_bootstrap: int, rng: np.random.Generator, *, with_errors: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Means, and standard errors if wanted, of resamples of the rows of values: each (n_bootstrap, n_columns)."""
    n, n_columns = values.shape
    means, errors = np.empty((n_bootstrap, n_columns)), np.empty((n_bootstrap if with_errors else 1, n_columns))
    step = max(1, CELLS // (n * (n_columns if with_errors else 1)))
    for start in range(0, n_bootstrap, step):
        stop = min(start + step, n_bootstrap)
        drawn = rng.integers(0, n, (stop - start, n))
        if with_errors:
            sample = values[drawn]
            means[start:stop] = sample.mean(axis=1)
            errors[start:stop] = sample.std(axis=1, ddof=1) / math.sqrt(n)
            continue
        # how often each row was drawn, times the rows: one matrix product in place of a copy of each resample
        cells = (np.arange(stop - start)[:, None] * n + drawn).ravel()
        times = np.bincount(cells, minlength=(stop - start) * n).reshape(stop - start, n)
        np.matmul(times.astype(np.float64), values, out=means[start:stop])
        means[start:stop] /= n
    return means, errors


def bca_levels(centred: np.ndarray, means: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Levels of the bootstrap distribution at which a BCa interval ends.

    Parameters
    ----------
    centred : ndarray of shape (n, ...)
        Values less their mean, where the statistic is their mean; else the jackknife's mean less its values.
    means : ndarray of shape (n_bootstrap, ...)
        The statistic of the resamples, less that of all values.
    tails : ndarray of shape (k,)
        Levels of the interval's ends.

    Returns
    -------
    levels : ndarray of shape (..., k)
        Between 0 and 1.
    """
    n_bootstrap = len(means)
    below = (np.sum(means < 0, axis=0) + 0.5 * np.sum(means == 0, axis=0)) / n_bootstrap
    bias = np.asarray(ndtri(np.clip(below, 0.5 / n_bootstrap, 1 - 0.5 / n_bootstrap)))
    # the jackknife's acceleration; for a mean its values are those of the data but for a factor
    acceleration = np.asarray(np.sum(centred**3, axis=0) / (6 * np.sum(centred**2, axis=0) ** 1.5))
    z = bias[..., None] + ndtri(tails)
    return ndtr(bias[..., None] + z / (1 - acceleration[..., None] * z))


def quantiles(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantiles of the columns of values (n, n_columns) at levels (n_columns, k) of their own, interpolated."""
    ordered = np.sort(values.T, axis=1)
    place = levels * (len(values) - 1)
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, len(values) - 1)
    below, above = (np.take_along_axis(ordered, i, axis=1) for i in (low, high))
    return below + (above - below) * (place - low)
