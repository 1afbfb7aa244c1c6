"""What every record of a cohort must have: the network's leads, one sampling rate, a window's length, a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..explain._base import BaseExplainer, _outermost, unwrap
from ..relevance._rows import check_ids, check_labels
from ..utils._validation import check_fs, check_number
from ._records import BadRecordError


class Needs:
    """What the explainer wants of a record; the first record tells what nobody else says.

    Parameters
    ----------
    explainer : explainer
        Around a fitted estimator.
    fs : float or None
        Sampling rate of the records as the user gave it, Hz.
    leads : int, str, sequence or None
        Which leads of a record.
    stride : float or None
        Step from window to window, s; None takes a window's length.
    """

    def __init__(self, explainer: BaseExplainer, fs: float | None, leads: Any, stride: float | None) -> None:
        before, classifier = unwrap(explainer._fitted())
        steps = [step for pipeline in before for _, step in pipeline.steps]
        sized = [e for e in (explainer, _outermost(explainer._fitted()), *steps, classifier) if hasattr(e, "n_leads_")]
        self.n_leads, self.n = sized[0].n_leads_, sized[0].n_timesteps_
        known = [rate for rate in (getattr(step, "fs", None) for step in steps) if rate is not None]
        known += [rate for rate in (explainer.fs, classifier.fs) if rate is not None]
        self.fs = None if fs is None else check_fs(fs, "explain_cohort")
        if known and self.fs is not None and not np.isclose(known[0], self.fs):
            raise ValueError(
                f"fs={fs!r}, but the explainer was made for {known[0]:g} Hz: put a skecg.preprocessing.Resampler("
                f"{self.fs:g}, {known[0]:g}) before the network, or resample the records"
            )
        if known:
            self.fs = float(known[0])
        new = [step.new_fs for step in steps if getattr(step, "new_fs", None) is not None]
        self.network_fs = None if not new else float(new[-1])
        self.leads = 0 if leads is None and self.n_leads == 1 else leads
        self.chosen = leads is not None
        self.stride = None if stride is None else check_number("stride", stride, low=0, strict=True, unit="(s)")
        self.lead_names: list[str] | None = None
        self.n_rest = 0
        if self.fs is not None:
            self.step  # noqa: B018 - says now what is wrong with the stride

    @property
    def step(self) -> int:
        """Samples from window to window."""
        if self.stride is None:
            return self.n
        step = round(self.stride * check_fs(self.fs, "stride"))
        if step < 1:
            raise ValueError(f"stride must be at least one sample, {1 / self.fs:g} s; got {self.stride!r}")
        return step

    def count(self, fs: float | None, names: Sequence[str] | None, n_leads: int, length: int) -> int:
        """Return the number of windows of a record; BadRecordError where it does not fit."""
        if n_leads != self.n_leads:
            swapped = ": it looks like (n_timesteps, n_leads), pass record.T" if n_leads > length else ""
            advice = "" if swapped or self.chosen or n_leads < self.n_leads else " (pass leads)"
            raise BadRecordError(f"it has {n_leads} leads, the explainer takes {self.n_leads}{advice}{swapped}")
        if fs is not None and self.fs is not None and not np.isclose(fs, self.fs):
            raise BadRecordError(
                f"it has {fs:g} Hz, not {self.fs:g} Hz: resample it first (skecg.preprocessing.Resampler)"
            )
        names = None if names is None else [str(name) for name in names]
        if names is not None and self.lead_names is not None and not _same(names, self.lead_names):
            expected = ", ".join(self.lead_names)
            raise BadRecordError(f"its leads are {', '.join(names)}, not {expected}: choose leads by name")
        if length < self.n:
            raise BadRecordError(f"it has {length} samples, a window has {self.n}: it is too short")
        if self.fs is None and fs is not None:
            self.fs = float(fs)
        if self.lead_names is None and names is not None:
            self.lead_names = names
        n_windows = (length - self.n) // self.step + 1
        self.n_rest += self.step * (n_windows - 1) + self.n < length
        return n_windows

    def rows(self, n_leads: int) -> tuple[int, ...] | None:
        """Return the leads of an array, which has no names."""
        if self.leads is None or (not self.chosen and n_leads == 1):
            return None
        chosen = [self.leads] if np.ndim(self.leads) == 0 else list(self.leads)
        wrong = [i for i in chosen if isinstance(i, str | bool) or not 0 <= i < n_leads]
        if wrong:
            raise BadRecordError(
                f"leads of an array are positions from 0 to {n_leads - 1}; got {', '.join(map(repr, wrong))}"
            )
        return tuple(int(i) for i in chosen)


class Notes:
    """Labels, patients and names, one each record.

    Parameters
    ----------
    y : array-like, DataFrame, "target" or None
        Labels, or indicators.
    groups, names : array-like or None
        Identifiers.
    """

    def __init__(self, y: Any, groups: Any, names: Any) -> None:
        self.by_target = isinstance(y, str)
        if self.by_target and y != "target":
            raise ValueError(f"y must hold one label a record, or be 'target' for what was explained; got {y!r}")
        columns = getattr(y, "columns", None)
        self.columns = None if columns is None else tuple(columns)
        self.labels = None if y is None or self.by_target else np.asarray(y)
        if self.labels is not None and self.labels.ndim == 2 and self.labels.shape[1] == 1:
            self.labels, self.columns = self.labels[:, 0], None
        self.groups = None if groups is None else check_ids("groups", groups, len(groups))
        self.names = None if names is None else check_ids("names", names, len(names))
        if self.names is not None:
            refuse_twice(self.names)

    def check(self, n: int) -> None:
        """Raise ValueError unless there is one of each for n records."""
        for what, given in (("y", self.labels), ("groups", self.groups), ("names", self.names)):
            if given is not None and len(given) != n:
                raise ValueError(f"{what} must be one each record: there are {n} records; got {len(given)}")
        if self.labels is not None:
            named = self.labels if self.columns is None else Indicators(self.labels, self.columns)
            check_labels(named, n)


class Indicators:
    """Indicators that know the names of their columns, without a data frame."""

    def __init__(self, values: np.ndarray, columns: Sequence) -> None:
        self.values, self.columns = values, columns

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype)

    def __len__(self) -> int:
        return len(self.values)


def refuse_twice(names: Sequence) -> None:
    """Raise ValueError where a name is there twice."""
    seen: set = set()
    for name in names:
        if name in seen:
            raise ValueError(
                f"the record {name!r} is there twice: pass names, one each record (and groups, where several are of "
                "one patient)"
            )
        seen.add(name)


def _same(a: Sequence[str], b: Sequence[str]) -> bool:
    return [name.casefold() for name in a] == [name.casefold() for name in b]
