"""What an aggregator keeps: one row per record and set of labels, keyed by (patient, record), united exactly."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from itertools import compress
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import column_or_1d

from ._windows import TALLIES, USED, WindowSums

UNLABELLED = "all"  # the one cohort of a fit without labels

Key = tuple[Hashable, Hashable]
Cells = dict[tuple, tuple[np.ndarray, np.ndarray]]


class Layout(NamedTuple):
    """What the parts of one cohort must have in common."""

    by: str
    statistic: str
    lead_names: tuple[str, ...]
    leads: str  # "each", "together", or "" where it does not matter
    fs: float  # Hz, 0 where it does not matter
    beat_window: tuple[float, ...]  # s, empty where it does not matter
    groups: str  # "given" or "not given"
    record: str
    y: str | tuple  # "not given", "labels", or the names of the indicators' columns
    ecg: str  # "given" or "not given" where it is averaged, "" elsewhere


N_KIND = Layout._fields.index("groups")  # the fields before say what rows are sums of


class RelevanceRows:
    """Sums and counts per (patient, record) and set of labels; a union of rows is exact in any order.

    Parameters
    ----------
    layout : Layout
        What further parts must share.
    n_columns : int
        Columns of the table.
    n_counts : int, default=None
        Counts of samples that are kept: one for each column (None), or 1 for all of them.
    """

    def __init__(self, layout: Layout, n_columns: int, n_counts: int | None = None) -> None:
        self.layout = layout
        self.n_columns = n_columns
        self.n_counts = n_columns if n_counts is None else n_counts
        self.n_windows = 0
        self.labels: set = set()
        self.cells: dict[Key, Cells] = {}

    def add(self, keys: Iterable[tuple[Hashable, Hashable, tuple]], windows: WindowSums) -> None:
        """Sum windows up to their records; keys are (patient, record, labels), one a window."""
        places: dict[tuple, list[int]] = {}
        for i, key in enumerate(keys):
            places.setdefault(key, []).append(i)
        counts = np.concatenate([windows.samples, windows.tallies], axis=1)
        sums = windows.sums if windows.ecg is None else np.concatenate([windows.sums, windows.ecg], axis=1)
        for (patient, record, labels), i in places.items():
            cell = _unite_cells([sums[k] for k in i], [counts[k] for k in i])
            self.cells.setdefault((patient, record), {})[labels] = cell
            self.labels.update(labels)
        self.n_windows += len(counts)

    def copy(self) -> RelevanceRows:
        """Return rows that further ones may be united with, these left as they are."""
        other = RelevanceRows(self.layout, self.n_columns, self.n_counts)
        other.unite(self)
        return other

    def unite(self, other: RelevanceRows) -> None:
        """Take over the rows of the other; ValueError, and nothing taken, where a key is met twice."""
        for name, mine, its in zip(Layout._fields, self.layout, other.layout, strict=True):
            if mine != its:
                raise ValueError(f"the parts of a cohort must agree: {name} was {mine!r} in one and {its!r} in another")
        twice = self.cells.keys() & other.cells.keys()
        if twice:
            patient, record = min(twice, key=_order)
            raise ValueError(
                f"{len(twice)} of the (patient, record) keys are there already, such as ({patient!r}, {record!r}): "
                "pass all windows of a record in one call, and each record once"
            )
        if len({isinstance(label, str) for label in self.labels | other.labels}) > 1:
            raise ValueError("y must hold strings in all parts or in none")
        self.cells.update(other.cells)
        self.labels |= other.labels
        self.n_windows += other.n_windows

    def classes(self) -> list:
        """Return the classes: indicators in the order of their columns, labels sorted."""
        if isinstance(self.layout.y, tuple):
            return list(self.layout.y)
        return sorted(self.labels)

    def cohorts(
        self, classes: Sequence, control: Any, *, share: bool, ecg: bool = False
    ) -> tuple[list[dict[Hashable, list[np.ndarray]]], dict[str, np.ndarray]]:
        """Form the values of each record in each class.

        Parameters
        ----------
        classes : sequence
            Labels of the cohorts.
        control : label or None
            Only rows with this label and no other are in its cohort.
        share : bool
            Whether the values are shares of the total, or means over samples.
        ecg : bool, default=False
            Whether the values are the means of the ECG instead of the relevance's.

        Returns
        -------
        values : list of dict
            For each class: patient, in sorted order, to a list of (n_columns,), NaN where there is no value.
        tallies : dict of ndarray of shape (n_classes,), int64
            Those of TALLIES, "zero_total" (records without a share) and "other_labels" (windows of the control left out
            for their other labels).
        """
        position = {label: i for i, label in enumerate(classes)}
        values: list[dict] = [{} for _ in classes]
        names = (*TALLIES[self.layout.by], "zero_total", "other_labels")
        tallies = np.zeros((len(names), len(classes)), dtype=np.int64)
        columns = slice(self.n_columns + 1, None) if ecg else slice(self.n_columns)
        for patient, record in sorted(self.cells, key=_order):
            found: dict[int, list] = {}
            for labels, cell in self.cells[patient, record].items():
                for label in labels:
                    if label == control and len(labels) > 1:
                        tallies[-1, position[label]] += cell[1][self.n_counts + USED]
                    else:
                        found.setdefault(position[label], []).append(cell)
            for i, cells in found.items():
                sums, counts = _unite_cells(*zip(*cells, strict=True))
                tallies[:-2, i] += counts[self.n_counts :]
                if not counts[self.n_counts + USED]:
                    continue
                total = sums[self.n_columns]
                if share and not total:
                    tallies[-2, i] += 1
                    continue
                row = np.full(self.n_columns, np.nan)
                some = counts[: self.n_counts] > 0
                np.divide(sums[columns], total if share else counts[: self.n_counts], out=row, where=some)
                values[i].setdefault(patient, []).append(row)
        return values, dict(zip(names, tallies, strict=True))


def check_ids(name: str, values: Any, n_windows: int) -> list | None:
    """Return identifiers as Python strings or integers; None for None; ValueError for anything else or missing."""
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != (n_windows,):
        raise ValueError(f"{name} must be one identifier a window, shape ({n_windows},); got shape {array.shape}")
    return [_plain(name, value) for value in array.tolist()]


def check_labels(y: Any, n_windows: int) -> tuple[list[tuple], str | tuple]:
    """Return the labels of each window as a tuple, and what kind they are (Layout.y)."""
    if y is None:
        return [(UNLABELLED,)] * n_windows, "not given"
    columns = getattr(y, "columns", None)
    array = np.asarray(y)
    if len(array.shape) not in (1, 2) or len(array) != n_windows:
        raise ValueError(
            f"y must be one label a window, shape ({n_windows},), or indicators, shape ({n_windows}, n_labels); got "
            f"shape {array.shape}"
        )
    if array.ndim == 1 or array.shape[1] == 1:
        return [(_plain("y", label),) for label in column_or_1d(array, warn=True).tolist()], "labels"
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ValueError(f"y with {array.shape[1]} columns must be indicators, 0 or 1, of as many labels")
    names = tuple(range(array.shape[1]) if columns is None else (_plain("a column of y", name) for name in columns))
    if len(set(names)) < len(names):
        raise ValueError(f"the columns of y must have names of their own; got {names}")
    return [tuple(compress(names, row)) for row in array.astype(bool).tolist()], names


def _plain(name: str, value: Any) -> str | int:
    """One string or integer; a float that is an integer is taken as one."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral | np.bool_):
        return int(value) if not isinstance(value, bool | np.bool_) else bool(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise ValueError(f"{name} must hold strings or integers, none of them missing; got {value!r}")


def _order(key: Sequence) -> tuple:
    """Sort key of tuples of strings and integers."""
    return tuple((isinstance(value, str), value) for value in key)


def _unite_cells(sums: Sequence[np.ndarray], counts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Add up sums, exactly rounded, so that their order leaves no trace, and counts."""
    if len(sums) == 1:
        return np.array(sums[0]), np.array(counts[0])
    columns = zip(*(row.tolist() for row in sums), strict=True)
    return np.array([math.fsum(column) for column in columns]), np.sum(counts, axis=0)
