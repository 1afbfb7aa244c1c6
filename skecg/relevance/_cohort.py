"""What a fitted aggregator tells of its cohort: attributes that are formed from the rows when first looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._statistics import cohort_statistics

if TYPE_CHECKING:
    import pandas as pd


class CohortMixin:
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

    def _statistics(self) -> dict[str, Any]:
        """Form the statistics from the rows, once for these parameters."""
        check_is_fitted(self)
        self._check_parameters()
        if self._rows.layout[:3] != self._kind():
            raise ValueError("by, statistic or lead_names was changed after fit: fit again")
        settings = self.share, self.control, self.alternative, self.correction, self.n_bootstrap
        if self._formed is not None and self._formed[0] == settings:
            return self._formed[1]
        control, classes = self._control_position(), self._rows.classes()
        cohorts, tallies = self._rows.cohorts(classes, self.control, share=self.share)
        found: dict[str, Any] = cohort_statistics(
            cohorts,
            n_columns=self._rows.n_columns,
            control=control,
            alternative=self.alternative,
            correction=self.correction,
            n_bootstrap=self.n_bootstrap,
            seed=self._seed,
        )
        found.update(n_windows=tallies.pop("windows"), n_zero=tallies.pop("zero"))
        found["exclusions"] = {**tallies, "shared_patients": found["n_shared"].max(axis=1)}
        self._formed = settings, found
        return found
