"""Spearman's correlation between the maps of the same windows, for many windows at a time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

_CELLS = 2**22  # values that are ranked at a time: ranks are float64
_MANY = 0.1  # share of correlations that may be missing before it is worth a warning


def unit_ranks(maps: np.ndarray) -> np.ndarray:
    """Return the ranks of each map's values, centred and of length one, so that products sum to Spearman's correlation.

    Parameters
    ----------
    maps : ndarray of shape (n_samples, ...)
        One map a window; ties share the mean of their ranks.

    Returns
    -------
    ranks : ndarray of shape (n_samples, n_values), float32
        A row of NaN where a map is the same everywhere or not finite: it has no rank correlation with anything.
    """
    flat = maps.reshape(len(maps), -1)
    out = np.empty(flat.shape, dtype=np.float32)
    step = max(1, _CELLS // max(1, flat.shape[1]))
    for start in range(0, len(flat), step):
        rows = flat[start : start + step]
        known = np.isfinite(rows).all(1)
        known[known] = (rows[known] != rows[known, :1]).any(1)
        ranks = rankdata(rows, axis=1)
        ranks -= (flat.shape[1] + 1) / 2
        ranks[~known] = np.nan
        out[start : start + step] = ranks / np.sqrt(np.einsum("ij,ij->i", ranks, ranks))[:, None]
    return out


def correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation by window of two arrays of unit ranks.

    Parameters
    ----------
    a, b : ndarray of shape (..., n_samples, n_values)
        As :func:`unit_ranks` returns them.

    Returns
    -------
    correlation : ndarray of shape (..., n_samples), float64
        NaN where either map has no ranks.
    """
    return np.clip(np.einsum("...j,...j->...", a, b, dtype=np.float64), -1.0, 1.0)


def both_ranks(relevance: np.ndarray) -> np.ndarray:
    """Return the unit ranks of the relevance and of its absolute value (2, n_samples, n_values)."""
    return np.stack([unit_ranks(relevance), unit_ranks(np.abs(relevance))])


def correlate_pairs(ranks: Sequence[np.ndarray]) -> np.ndarray:
    """Return the correlations of each pair of arrays of ``both_ranks`` (2, n_pairs, n_samples)."""
    return np.stack([correlate(a, b) for a, b in combinations(ranks, 2)], axis=1)


def mean_known(values: np.ndarray, axis: int | tuple[int, ...] = -1) -> np.ndarray:
    """Return the mean along axes of what is not NaN; NaN where all is."""
    known = np.isfinite(values).sum(axis)
    return np.where(known, np.nansum(values, axis=axis) / np.maximum(known, 1), np.nan)


def by_window(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return correlations (2, ..., n_samples) with their means over windows and the count of those that are missing."""
    signed, absolute = values
    return {
        "signed": signed,
        "absolute": absolute,
        "mean_signed": mean_known(signed),
        "mean_absolute": mean_known(absolute),
        "n_constant": np.isnan(absolute).sum(-1),
    }


def warn_of_missing(name: str, *values: np.ndarray) -> None:
    """Warn the caller of function ``name`` where more than a tenth of its correlations are missing."""
    missing, total = sum(int(np.isnan(v).sum()) for v in values), sum(v.size for v in values)
    if missing > _MANY * total:
        warnings.warn(
            f"{name}: {missing} of {total} correlations are missing, since a map is the same everywhere (such as zero "
            "after a ReLU) or not finite; they are left out of the means. Explain what has a sign "
            "(GradCAM1D(method='hirescam', relu=False), say), or another target",
            UserWarning,
            stacklevel=3,
        )
