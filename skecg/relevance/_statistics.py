"""Statistics of cohorts with one value a patient: means, intervals and tests, formed when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np

from ..utils._bootstrap import CELLS, bca_levels, quantiles, resample_means
from ._ranks import compare, holm

_CONFIDENCE = 0.95
_FEWEST_PATIENTS = 10  # below, no bootstrap interval keeps its promise
_FEW_PATIENTS = 30  # up to here studentised
_DIGITS = 12  # sums of float32 carry no more


def fsum_mean(values: np.ndarray) -> np.ndarray:
    """Return the means of the columns of values (n, n_columns), whatever the order of the rows, NaN for none."""
    if not len(values):
        return np.full(values.shape[1], np.nan)
    return np.array([math.fsum(column.tolist()) / len(column) for column in values.T])


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
    tails = np.array([(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    means, errors = resample_means(unit, n_bootstrap, np.random.default_rng(seed), with_errors=n <= _FEW_PATIENTS)
    studentised = flat | (errors.min(axis=0) > 10.0**-_DIGITS) if n <= _FEW_PATIENTS else np.zeros(n_columns, bool)
    method[:] = np.where(studentised, "studentized", "bca")
    ends = np.zeros((n_columns, 2))
    columns = np.flatnonzero(studentised & ~flat)
    error = unit[:, columns].std(axis=0, ddof=1) / math.sqrt(n)
    pivots = means[:, columns] / errors[:, columns]
    ends[columns] = -error[:, None] * quantiles(pivots, np.tile(tails[::-1], (len(columns), 1)))
    columns = np.flatnonzero(~studentised & ~flat)
    ends[columns] = quantiles(means[:, columns], bca_levels(unit[:, columns], means[:, columns], tails))
    return mean[:, None] + scale[:, None] * ends, method


class CohortStatistics:
    """Means, intervals and tests of cohorts against one of them, with one value a patient.

    ``statistics[name]`` is an ndarray, formed when it is first asked for: mean, interval, interval_method, effect_size,
    p_value, p_adjusted, n_patients, n_records, n_control, n_shared; (n_classes, n_columns) but for the interval,
    (n_classes, n_columns, 2).

    Parameters
    ----------
    cohorts : sequence of mapping
        For each class: patient, in an order that depends on nothing but the patients, to the values of each record,
        (n_columns,), NaN where there is none; records in such an order too.
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
    """

    def __init__(
        self,
        cohorts: Sequence[Mapping[Hashable, Sequence[np.ndarray]]],
        *,
        n_columns: int,
        control: int | None,
        alternative: str,
        correction: str | None,
        n_bootstrap: int,
        seed: int,
    ) -> None:
        self._shape = len(cohorts), n_columns
        self._control, self._alternative, self._correction = control, alternative, correction
        self._n_bootstrap, self._seed = n_bootstrap, seed
        self._patients = [list(cohort) for cohort in cohorts]
        # (n_patients, n_columns) a class, each record of a patient weighing one
        self._tables = []
        n_records = np.zeros(self._shape, dtype=np.int64)
        for i, cohort in enumerate(cohorts):
            table = np.empty((len(cohort), n_columns))
            for row, records in zip(table, cohort.values(), strict=True):
                n_records[i] += _patient_values(records, row)
            self._tables.append(table)
        self._found: dict[str, np.ndarray] = {"n_records": n_records}

    def patient_values(self, i: int) -> np.ndarray:
        """Return one row a patient of a class, (n_patients, n_columns)."""
        return self._tables[i].copy()

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._found:
            if name in ("mean", "n_patients"):
                self._found.update(self._means())
            elif name in ("interval", "interval_method"):
                self._found.update(self._intervals())
            elif name in ("n_control", "n_shared"):
                self._found.update(self._controls())
            else:
                self._found.update(self._tests())
        return self._found[name]

    def _means(self) -> dict[str, np.ndarray]:
        found = {"mean": np.full(self._shape, np.nan), "n_patients": np.zeros(self._shape, dtype=np.int64)}
        for i, table in enumerate(self._tables):
            for patients, columns in _same_patients(np.isfinite(table)):
                found["n_patients"][i, columns] = len(patients)
                found["mean"][i, columns] = fsum_mean(_cells(table, patients, columns))
        return found

    def _intervals(self) -> dict[str, np.ndarray]:
        interval, method = np.full((*self._shape, 2), np.nan), np.full(self._shape, "none", dtype="<U11")
        for i, table in enumerate(self._tables):
            for patients, columns in _same_patients(np.isfinite(table)):
                step = max(1, CELLS // max(len(patients), self._n_bootstrap))
                for start in range(0, len(columns), step):
                    some = columns[start : start + step]
                    interval[i, some], method[i, some] = mean_interval(
                        _cells(table, patients, some), self._n_bootstrap, [self._seed, i]
                    )
        return {"interval": interval, "interval_method": method}

    def _pairs(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, int]]:
        """Yield what is tested: the class, columns, its patients, those of the control alone, and how many are both."""
        for i, table in enumerate(self._tables):
            if self._control is None or i == self._control:
                continue
            n, names = len(table), self._patients[self._control]
            present = np.isfinite(np.concatenate([table, self._tables[self._control]]))
            for rows, columns in _same_patients(present):
                mine, able = rows[rows < n], rows[rows >= n] - n
                patients = {self._patients[i][k] for k in mine}
                alone = np.array([k for k in able if names[k] not in patients], dtype=np.intp)
                yield i, columns, mine, alone, len(able) - len(alone)

    def _controls(self) -> dict[str, np.ndarray]:
        found = {name: np.zeros(self._shape, dtype=np.int64) for name in ("n_control", "n_shared")}
        for i, columns, _, alone, n_shared in self._pairs():
            found["n_control"][i, columns], found["n_shared"][i, columns] = len(alone), n_shared
        return found

    def _tests(self) -> dict[str, np.ndarray]:
        found = {name: np.full(self._shape, np.nan) for name in ("effect_size", "p_value")}
        if self._control is not None and len(set().union(*self._patients)) == 1:
            raise ValueError(
                "the tests compare patients, and there is one patient alone: pass more patients, groups that tell them "
                "apart, or control=None (mean_ and the counts are there)"
            )
        for i, columns, mine, alone, _ in self._pairs():
            found["effect_size"][i, columns], found["p_value"][i, columns] = compare(
                _cells(self._tables[i], mine, columns),
                _cells(self._tables[self._control], alone, columns),
                self._alternative,
            )
        p_value = found["p_value"]
        found["p_adjusted"] = holm(p_value) if self._correction == "holm" else p_value.copy()
        return found


def _patient_values(records: Sequence[np.ndarray], out: np.ndarray) -> np.ndarray:
    """Write the mean over the records of one patient, records without a value left out; return their numbers."""
    if len(records) == 1:
        out[:] = records[0]
        return np.isfinite(records[0]).astype(np.int64)
    values = np.array(records)
    present = np.isfinite(values)
    counts = present.sum(axis=0)
    out[:] = np.nan
    # the records come in the order of their keys, so that the rounding of the sum is the same for any parts
    np.divide(np.where(present, values, 0.0).sum(axis=0), counts, out=out, where=counts > 0)
    return counts


def _same_patients(present: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Group the columns that the same patients have: (rows of the patients, columns) of each group."""
    if present.all():
        yield np.arange(len(present)), np.arange(present.shape[1])
        return
    groups: dict[bytes, list[int]] = {}
    for c in range(present.shape[1]):
        groups.setdefault(present[:, c].tobytes(), []).append(c)
    for columns in groups.values():
        yield np.flatnonzero(present[:, columns[0]]), np.array(columns)


def _cells(table: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return these rows and columns, without a copy where they are all."""
    return table if (len(rows), len(columns)) == table.shape else table[np.ix_(rows, columns)]
