"""Statistics of cohorts with one value a patient: means, intervals, rank tests, effect sizes, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import mannwhitneyu, rankdata

_CONFIDENCE = 0.95
_FEWEST_PATIENTS = 10  # below, no bootstrap interval keeps its promise
_FEW_PATIENTS = 30  # up to here studentised
_EXACT_COST = 2e7  # additions (a few hundredths of a second) that the exact rank test may cost
_DIGITS = 12  # sums of float32 carry no more: values that agree in so many digits are ties, not ranks


def fsum_mean(values: np.ndarray) -> np.ndarray:
    """Return the means of the columns of values (n, n_columns), whatever the order of the rows, NaN for none."""
    return np.array([math.fsum(column) / len(column) if len(column) else math.nan for column in values.T])


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


def mean_interval(values: np.ndarray, n_bootstrap: int, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a 95 % bootstrap interval of the mean of each column, resampling whole patients.

    Fewer than 10 patients get none. From 10 to 30 the interval is studentised (bootstrap-t), which keeps its coverage
    best there; where a resample does not vary at all (sparse values) it has no studentised value, and BCa steps in.
    Above 30 it is BCa, which stays within the range of the data.

    Parameters
    ----------
    values : ndarray of shape (n_patients, n_columns)
        Finite values.
    n_bootstrap : int
        Resamples.
    seed : sequence of int
        Seed of the resampling; the same patients are drawn for all columns.

    Returns
    -------
    interval : ndarray of shape (n_columns, 2)
        Low and high ends, NaN below 10 patients.
    method : ndarray of str, shape (n_columns,)
        "none", "studentized" or "bca".
    """
    n, n_columns = values.shape
    interval, method = np.full((n_columns, 2), np.nan), np.full(n_columns, "none", dtype="<U11")
    if n < _FEWEST_PATIENTS:
        return interval, method
    mean = fsum_mean(values)
    centred = values - mean
    scale = np.abs(centred).max(axis=0)
    flat = scale <= 10.0**-_DIGITS * np.abs(mean)  # one value, but for the rounding of its last digits
    unit = np.where(flat, 0.0, centred / np.where(flat, 1.0, scale))
    few = n <= _FEW_PATIENTS
    means, errors = _resample(unit, n_bootstrap, np.random.default_rng(seed), with_errors=few)
    tails = np.array([(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    for c in range(n_columns):
        studentised = few and (flat[c] or errors[:, c].min() > 10.0**-_DIGITS)
        method[c] = "studentized" if studentised else "bca"
        if flat[c]:
            ends = np.zeros(2)
        elif studentised:
            error = unit[:, c].std(ddof=1) / math.sqrt(n)
            ends = -error * np.quantile(means[:, c] / errors[:, c], tails[::-1])
        else:
            ends = np.quantile(means[:, c], _bca_levels(unit[:, c], means[:, c], tails))
        interval[c] = mean[c] + scale[c] * ends
    return interval, method


def _resample(
    values: np.ndarray, n_bootstrap: int, rng: np.random.Generator, *, with_errors: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Means, and standard errors if wanted, of resamples of the rows of values: each (n_bootstrap, n_columns)."""
    n, n_columns = values.shape
    means, errors = np.empty((2, n_bootstrap, n_columns))
    step = max(1, 2**21 // (n * n_columns))
    for start in range(0, n_bootstrap, step):
        stop = min(start + step, n_bootstrap)
        sample = values[rng.integers(0, n, (stop - start, n))]
        means[start:stop] = sample.mean(axis=1)
        if with_errors:
            errors[start:stop] = sample.std(axis=1, ddof=1) / math.sqrt(n)
    return means, errors


def _bca_levels(centred: np.ndarray, means: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Levels of the bootstrap distribution at which the BCa interval of a mean ends; centred has mean 0."""
    below = (np.sum(means < 0) + 0.5 * np.sum(means == 0)) / len(means)
    bias = ndtri(np.clip(below, 0.5 / len(means), 1 - 0.5 / len(means)))
    acceleration = np.sum(centred**3) / (6 * np.sum(centred**2) ** 1.5)  # the jackknife's, in closed form for a mean
    z = bias + ndtri(tails)
    return ndtr(bias + z / (1 - acceleration * z))


def compare(values: np.ndarray, control: np.ndarray, alternative: str) -> tuple[float, float]:
    """Compare two samples by ranks: Cliff's delta and the p value of the Mann-Whitney test.

    The p value is exact, given the ties, for small samples, and from the normal approximation with its corrections
    for ties and continuity for large ones.

    Parameters
    ----------
    values, control : ndarray of shape (n,) and (m,)
        One value a patient.
    alternative : "two-sided", "greater" or "less"
        "greater": values are greater than control.

    Returns
    -------
    delta : float
        P(value > control) - P(value < control) of a random pair, -1 to 1; NaN where a sample is empty.
    p_value : float
        NaN where a sample is empty.
    """
    n, m = len(values), len(control)
    if not n or not m:
        return math.nan, math.nan
    mantissa, exponent = np.frexp(np.concatenate([values, control]))
    both = np.ldexp(np.round(mantissa, _DIGITS), exponent)
    ranks = rankdata(both)
    delta = 2 * (ranks[:n].sum() - n * (n + 1) / 2) / (n * m) - 1
    total = n + m
    if (min(n, m) + 1) * total**2 * (total + 1) <= _EXACT_COST:
        return float(delta), _exact_p_value(ranks, n, alternative)
    if ranks.min() == ranks.max():
        return float(delta), 1.0
    return float(delta), float(mannwhitneyu(both[:n], both[n:], alternative=alternative, method="asymptotic").pvalue)


def _exact_p_value(ranks: np.ndarray, n: int, alternative: str) -> float:
    """P value of the sum of the first n ranks among all choices of n ranks, by the shift algorithm (ties allowed)."""
    doubled = np.rint(2 * ranks).astype(np.int64)  # mid-ranks are halves
    first = n <= len(ranks) - n
    size = n if first else len(ranks) - n
    observed = int(doubled[:n].sum() if first else doubled[n:].sum())
    # ways[k, s]: choices of k ranks with the doubled sum s; in float64, for there are more than 2**63
    ways = np.zeros((size + 1, int(doubled.sum()) + 1))
    ways[0, 0] = 1
    for rank in doubled:
        ways[1:, rank:] += ways[:-1, :-rank]
    share = ways[size] / ways[size].sum()
    at_least, at_most = share[observed:].sum(), share[: observed + 1].sum()
    greater, less = (at_least, at_most) if first else (at_most, at_least)
    one = {"greater": greater, "less": less, "two-sided": 2 * min(greater, less)}[alternative]
    return float(min(one, 1.0))


def cohort_statistics(
    cohorts: Sequence[Mapping[Hashable, Sequence[np.ndarray]]],
    *,
    n_columns: int,
    control: int | None,
    alternative: str,
    correction: str | None,
    n_bootstrap: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Return means, intervals and tests of cohorts against one of them, with one value a patient.

    Parameters
    ----------
    cohorts : sequence of mapping
        For each class: patient, in an order that depends on nothing but the patients, to the values of each record,
        (n_columns,), NaN where there is none.
    n_columns : int
        Columns of a record's values.
    control : int or None
        Position of the control among the cohorts.
    alternative : "two-sided", "greater" or "less"
        Of the tests of each class against the control.
    correction : "holm" or None
        Correction over all columns x tested classes.
    n_bootstrap : int
        Resamples for the intervals.
    seed : int
        Seed of the resampling.

    Returns
    -------
    statistics : dict of ndarray
        mean, interval, interval_method, effect_size, p_value, p_adjusted, n_patients, n_records, n_control, n_shared;
        (n_classes, n_columns) but for the interval, (n_classes, n_columns, 2).
    """
    shape = len(cohorts), n_columns
    nan = {name: np.full(shape, np.nan) for name in ("mean", "effect_size", "p_value", "p_adjusted")}
    zero = {name: np.zeros(shape, dtype=np.int64) for name in ("n_patients", "n_records", "n_control", "n_shared")}
    interval, method = np.full((*shape, 2), np.nan), np.full(shape, "none", dtype="<U11")
    # (n_patients, n_columns) a class, each record of a patient weighing one
    tables = [
        np.array([_patient_values(records) for records in cohort.values()]).reshape(-1, n_columns) for cohort in cohorts
    ]
    for i, (cohort, table) in enumerate(zip(cohorts, tables, strict=True)):
        present = np.isfinite(table)
        zero["n_patients"][i] = present.sum(axis=0)
        zero["n_records"][i] = sum((np.isfinite(r).sum(axis=0) for r in cohort.values()), np.zeros(n_columns, int))
        for patients, columns in _same_patients(present):
            values = table[np.ix_(patients, columns)]
            nan["mean"][i, columns] = fsum_mean(values)
            interval[i, columns], method[i, columns] = mean_interval(values, n_bootstrap, [seed, i])
        if control is None or i == control:
            continue
        for c in range(n_columns):
            patients = {patient for patient, here in zip(cohort, present[:, c], strict=True) if here}
            able = np.isfinite(tables[control][:, c])
            alone = able & np.array([patient not in patients for patient in cohorts[control]], dtype=bool)
            zero["n_control"][i, c], zero["n_shared"][i, c] = alone.sum(), able.sum() - alone.sum()
            nan["effect_size"][i, c], nan["p_value"][i, c] = compare(
                table[present[:, c], c], tables[control][alone, c], alternative
            )
    nan["p_adjusted"] = holm(nan["p_value"]) if correction == "holm" else nan["p_value"].copy()
    return {**nan, **zero, "interval": interval, "interval_method": method}


def _patient_values(records: Sequence[np.ndarray]) -> list[float]:
    """Mean over the records of one patient, column by column, records without a value left out."""
    columns = np.array(records).T
    kept = [column[np.isfinite(column)] for column in columns]
    return [math.fsum(column) / len(column) if len(column) else math.nan for column in kept]


def _same_patients(present: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Group the columns that the same patients have: (rows of the patients, columns) of each group."""
    groups: dict[bytes, list[int]] = {}
    for c in range(present.shape[1]):
        groups.setdefault(present[:, c].tobytes(), []).append(c)
    return [(np.flatnonzero(present[:, columns[0]]), np.array(columns)) for columns in groups.values()]
