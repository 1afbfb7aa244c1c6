"""What a fitted aggregator tells of its cohort: attributes that are formed from the rows when first looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..utils._display import DisplayMixin
from ._rows import N_KIND
from ._statistics import CohortStatistics

if TYPE_CHECKING:
    import pandas as pd


class CohortMixin(DisplayMixin):
    """Statistics of the classes, for a class that keeps ``_rows``, ``_seed`` and ``_formed`` once fitted."""

    @property
    def classes_(self) -> np.ndarray:
        """Classes, of shape (n_classes,)."""
        check_is_fitted(self)
        return np.array(self._rows.classes())

    @property
    def mean_(self) -> np.ndarray:
        """Mean over patients, of shape (n_classes, n_columns)."""
        return self._statistics()["mean"]

    @property
    def interval_(self) -> np.ndarray:
        """95 % interval of the mean over patients, of shape (n_classes, n_columns, 2)."""
        return self._statistics()["interval"]

    @property
    def interval_method_(self) -> np.ndarray:
        """How each interval was found, of shape (n_classes, n_columns)."""
        return self._statistics()["interval_method"]

    @property
    def effect_size_(self) -> np.ndarray:
        """Cliff's delta against the control, of shape (n_classes, n_columns)."""
        return self._statistics()["effect_size"]

    @property
    def p_value_(self) -> np.ndarray:
        """P values of the Mann-Whitney tests, of shape (n_classes, n_columns)."""
        return self._statistics()["p_value"]

    @property
    def p_adjusted_(self) -> np.ndarray:
        """P values after correction, of shape (n_classes, n_columns)."""
        return self._statistics()["p_adjusted"]

    @property
    def n_patients_(self) -> np.ndarray:
        """Number of patients with a value, of shape (n_classes, n_columns)."""
        return self._statistics()["n_patients"]

    @property
    def n_records_(self) -> np.ndarray:
        """Number of records with a value, of shape (n_classes, n_columns)."""
        return self._statistics()["n_records"]

    @property
    def n_control_(self) -> np.ndarray:
        """Number of control patients tested against, of shape (n_classes, n_columns)."""
        return self._statistics()["n_control"]

    @property
    def n_windows_(self) -> np.ndarray:
        """Number of windows used, of shape (n_classes,)."""
        return self._statistics()["n_windows"]

    @property
    def n_beats_(self) -> np.ndarray:
        """Number of beats used, of shape (n_classes,); by wave and by beat alone."""
        return self._of_beats("n_beats_", self.by in ("wave", "beat"))["n_beats"]

    @property
    def mean_ecg_(self) -> np.ndarray:
        """Average beat of the ECG, mV, of shape (n_classes, n_columns); by beat with ecg alone."""
        return self._ecg_statistics("mean_ecg_")["mean"]

    @property
    def interval_ecg_(self) -> np.ndarray:
        """95 % interval of the average beat, mV, of shape (n_classes, n_columns, 2); by beat with ecg alone."""
        return self._ecg_statistics("interval_ecg_")["interval"]

    @property
    def n_zero_(self) -> np.ndarray:
        """Number of windows used whose relevance is zero throughout, of shape (n_classes,)."""
        return self._statistics()["n_zero"]

    @property
    def exclusions_(self) -> dict[str, np.ndarray]:
        """What was left out: name to counts of shape (n_classes,)."""
        return self._statistics()["exclusions"]

    def summary(self) -> pd.DataFrame:
        """Return the statistics as a tidy data frame, one row per class and column.

        Returns
        -------
        summary : DataFrame
            class, column, mean, low, high, interval_method, n_patients, n_records and, with a control, n_control,
            effect_size, p_value and p_adjusted.
        """
        import pandas as pd

        columns = self.get_feature_names_out()
        cells = {
            "class": np.repeat(self.classes_, len(columns)),
            "column": np.tile(columns, len(self.classes_)),
            "mean": self.mean_,
            "low": self.interval_[..., 0],
            "high": self.interval_[..., 1],
            "interval_method": self.interval_method_,
            "n_patients": self.n_patients_,
            "n_records": self.n_records_,
        }
        if self.control is not None:
            cells.update(
                n_control=self.n_control_,
                effect_size=self.effect_size_,
                p_value=self.p_value_,
                p_adjusted=self.p_adjusted_,
            )
        return pd.DataFrame({name: np.ravel(values) for name, values in cells.items()})

    def patient_values(self, label: Any) -> np.ndarray:
        """Return the values of a class's patients, from which its statistics are formed.

        Parameters
        ----------
        label : label
            One of ``classes_``.

        Returns
        -------
        values : ndarray of shape (n_patients, n_columns)
            One row a patient, in the order of their names; NaN where one has no value. Those of the control include
            patients who are in other classes too, whom the tests leave out.

        Raises
        ------
        ValueError
            For a label that is no class.
        """
        formed, classes = self._statistics(), self._rows.classes()
        if label not in classes:
            raise ValueError(f"label must be one of the classes, {classes}; got {label!r}")
        return formed.patient_values(classes.index(label))

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the rows, and not what can be formed from them again to the same bits."""
        state = dict(super().__getstate__())
        if "_formed" in state:
            state["_formed"] = None
        return state

    def _control_position(self) -> int | None:
        """Position of the control among the classes, None without one."""
        if self.control is None:
            return None
        classes = self._rows.classes()
        if self._rows.layout.y == "not given":
            raise ValueError(f"control={self.control!r} needs labels: pass y to fit")
        if self.control not in classes:
            raise ValueError(f"control must be one of the classes, {classes}; got {self.control!r}")
        return classes.index(self.control)

    def _statistics(self) -> _Formed:
        """Form the statistics from the rows, once for these parameters."""
        check_is_fitted(self)
        self._check_parameters()
        if self._rows.layout[:N_KIND] != self._kind():
            raise ValueError("by, statistic, lead_names, leads, fs or beat_window was changed after fit: fit again")
        settings = self.share, self.control, self.alternative, self.correction, self.n_bootstrap
        if self._formed is None or self._formed.settings != settings:
            self._formed = _Formed(self, settings)
        return self._formed

    def _of_beats(self, name: str, there: bool) -> _Formed:
        """Return the statistics, or raise as for an attribute that this aggregator does not have."""
        check_is_fitted(self)
        if not there:
            raise AttributeError(f"{name} is there by beat, with ecg, alone (n_beats_ by wave too); by is {self.by!r}")
        return self._statistics()

    def _ecg_statistics(self, name: str) -> CohortStatistics:
        return self._of_beats(name, getattr(self, "_rows", None) and self._rows.layout.ecg == "given").of_ecg()


# Formed when they are asked for, which in a notebook is for ``summary`` and not for the display.
CohortMixin._costly = frozenset(
    name for name, value in vars(CohortMixin).items() if isinstance(value, property) and name != "classes_"
)


class _Formed:
    """Statistics of a fitted aggregator's rows, each formed when it is asked for and kept for these settings."""

    def __init__(self, aggregator: CohortMixin, settings: tuple) -> None:
        self.settings = settings
        self._rows, self._seed, self._control = aggregator._rows, aggregator._seed, aggregator._control_position()
        self._relevance, tallies = self._of(ecg=False)
        self._counts: dict[str, Any] = {
            f"n_{name}": tallies.pop(name) for name in ("windows", "zero", "beats") if name in tallies
        }
        self._exclusions, self._ecg = tallies, None

    def __getitem__(self, name: str) -> Any:
        if name in self._counts:
            return self._counts[name]
        if name == "exclusions":
            return {**self._exclusions, "shared_patients": self._relevance["n_shared"].max(axis=1)}
        return self._relevance[name]

    def patient_values(self, i: int) -> np.ndarray:
        """Return one row a patient of a class."""
        return self._relevance.patient_values(i)

    def of_ecg(self) -> CohortStatistics:
        """Return the statistics of the ECG, which nothing is tested of."""
        if self._ecg is None:
            self._ecg, _ = self._of(ecg=True)
        return self._ecg

    def _of(self, *, ecg: bool) -> tuple[CohortStatistics, dict[str, np.ndarray]]:
        share, control, alternative, correction, n_bootstrap = self.settings
        values, tallies = self._rows.cohorts(self._rows.classes(), control, share=share and not ecg, ecg=ecg)
        found = CohortStatistics(
            values,
            n_columns=self._rows.n_columns,
            control=None if ecg else self._control,
            alternative=alternative,
            correction=correction,
            n_bootstrap=n_bootstrap,
            seed=self._seed,
        )
        return found, tallies
