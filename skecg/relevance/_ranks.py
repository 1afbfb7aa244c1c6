"""Rank tests of many columns at once: Cliff's delta, the Mann-Whitney test, Holm's correction."""

from __future__ import annotations

import numpy as np
from scipy.stats import mannwhitneyu, rankdata

_EXACT_COST = 2e7  # additions (a few hundredths of a second) that one null distribution may cost
_DIGITS = 12  # sums of float32 carry no more: values that agree in so many digits are ties, not ranks
_CELLS = 2**21  # values that are ranked at a time


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p values adjusted by Holm's step-down method; NaN (no test was possible) is outside the family.

    Parameters
    ----------
    p_values : ndarray of any shape
        One family of tests.

    Returns
    -------
    adjusted : ndarray
        Of the same shape. Rejecting where ``adjusted <= alpha`` keeps the family-wise error at alpha.
    """
    adjusted = np.full(p_values.shape, np.nan)
    tested = np.isfinite(p_values)
    p = p_values[tested]
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    back = np.empty_like(p)
    back[order] = np.minimum(steps, 1.0)
    adjusted[tested] = back
    return adjusted


def compare(values: np.ndarray, control: np.ndarray, alternative: str) -> tuple[np.ndarray, np.ndarray]:
    """Compare two samples by ranks, column by column: Cliff's delta and the p value of the Mann-Whitney test.

    The p value is exact, given the ties, for small samples, and from the normal approximation with its corrections
    for ties and continuity for large ones. Columns of the same ties share the null distribution.

    Parameters
    ----------
    values, control : ndarray of shape (n, n_columns) and (m, n_columns)
        One value a patient.
    alternative : "two-sided", "greater" or "less"
        "greater": values are greater than control.

    Returns
    -------
    delta : ndarray of shape (n_columns,)
        P(value > control) - P(value < control) of a random pair, -1 to 1; NaN where a sample is empty.
    p_value : ndarray of shape (n_columns,)
        NaN where a sample is empty.
    """
    (n, n_columns), m = values.shape, len(control)
    delta, p_value = np.full((2, n_columns), np.nan)
    if not n or not m:
        return delta, p_value
    total, known = n + m, {}
    exact = (min(n, m) + 1) * total**2 * (total + 1) <= _EXACT_COST
    step = max(1, _CELLS // total)
    for start in range(0, n_columns, step):
        i = slice(start, start + step)
        mantissa, exponent = np.frexp(np.concatenate([values[:, i], control[:, i]]))
        both = np.ldexp(np.round(mantissa, _DIGITS), exponent)
        ranks = rankdata(both, axis=0)
        delta[i] = 2 * (ranks[:n].sum(axis=0) - n * (n + 1) / 2) / (n * m) - 1
        if exact:
            p_value[i] = [_exact_p_value(column, n, alternative, known) for column in ranks.T]
            continue
        varied = ranks.min(axis=0) < ranks.max(axis=0)
        p = np.ones(len(varied))
        if varied.any():
            first, second = both[:n, varied], both[n:, varied]
            p[varied] = mannwhitneyu(first, second, alternative=alternative, method="asymptotic", axis=0).pvalue
        p_value[i] = p
    return delta, p_value


def _exact_p_value(ranks: np.ndarray, n: int, alternative: str, known: dict[bytes, np.ndarray]) -> float:
    """P value of the sum of the first n ranks among all choices of n ranks, by the shift algorithm (ties allowed)."""
    doubled = np.rint(2 * ranks).astype(np.int64)  # mid-ranks are halves
    first = n <= len(ranks) - n
    size = n if first else len(ranks) - n
    observed = int(doubled[:n].sum() if first else doubled[n:].sum())
    ordered = np.sort(doubled)
    share = known.get(ordered.tobytes())
    if share is None:
        share = known[ordered.tobytes()] = _null_distribution(ordered, size)
    at_least, at_most = share[observed:].sum(), share[: observed + 1].sum()
    greater, less = (at_least, at_most) if first else (at_most, at_least)
    one = {"greater": greater, "less": less, "two-sided": 2 * min(greater, less)}[alternative]
    return float(min(one, 1.0))


def _null_distribution(ranks: np.ndarray, size: int) -> np.ndarray:
    """Probability of each sum of ``size`` of the integer ranks, all choices alike."""
    # ways[k, s]: choices of k ranks with the sum s; in float64, for there are more than 2**63
    ways = np.zeros((size + 1, int(ranks.sum()) + 1))
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :-rank]
    return ways[size] / ways[size].sum()
