"""What the columns of an aggregator are, and the parameters that say so."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils.validation import check_is_fitted

from ..utils._validation import check_fs, check_number, check_option
from ._waves import PARTS_OF_BEATS
from ._windows import PARTS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_FEWEST_RESAMPLES = 40  # the fewest of which 2.5 % are one
_FARTHEST = 10.0  # s, that a beat may reach from its R peak


class ColumnsMixin:
    """Names of columns and checks of parameters, for a class with the parameters of RelevanceAggregator."""

    @property
    def columns_(self) -> np.ndarray:
        """Names of the columns, of shape (n_columns,)."""
        return self.get_feature_names_out()

    @property
    def offsets_(self) -> np.ndarray:
        """Times of the samples of a beat from its R peak, s, of shape (n_offsets,); by beat alone."""
        check_is_fitted(self)
        if self.by != "beat":
            raise AttributeError(f"offsets_ is there by beat alone; by is {self.by!r}")
        return np.array(self._offsets()) / self.fs

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> np.ndarray:
        """Return the names of the columns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Compared with the names of the input's columns; not used otherwise.

        Returns
        -------
        names : ndarray of str objects, shape (n_columns,)
            "relevance" by record; the leads by lead; "II P", "II QRS", "II T", "II rest", "II P region" for each lead
            by wave; "II -300", ... (ms from the R peak) for each lead by beat; without the lead where leads are
            together.
        """
        check_is_fitted(self)
        if input_features is not None:
            OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        if self.by == "record":
            return np.array(["relevance"], dtype=object)
        leads = [f"lead{i}" for i in range(self.n_leads_)] if self.lead_names is None else self._check_lead_names()
        if self.by == "lead":
            return np.array(leads, dtype=object)
        parts = PARTS_OF_BEATS
        if self.by == "beat":
            parts = [f"{round(1000 * offset / self.fs, 3):g}" for offset in self._offsets()]
        if self.leads == "together":
            return np.array(parts, dtype=object)
        return np.array([f"{lead} {part}" for lead in leads for part in parts], dtype=object)

    def _check_parameters(self) -> None:
        check_option("by", self.by, ("record", "lead", "wave", "beat"))
        check_option("statistic", self.statistic, PARTS)
        check_option("share", self.share, (False, True))
        check_option("alternative", self.alternative, ("two-sided", "greater", "less"))
        check_option("correction", self.correction, ("holm", None))
        check_option("leads", self.leads, ("each", "together"))
        check_number("n_bootstrap", self.n_bootstrap, low=_FEWEST_RESAMPLES, integer=True)
        if self.fs is not None or self._has_beats():
            check_fs(self.fs, f"by={self.by!r}")
        if self.by == "beat":
            self._check_beat_window()
        if self.by == "lead" and self.leads == "together":
            raise ValueError("by='lead' has a column for each lead: leave leads='each', or use by='record'")
        if self.share and self.by == "record" and self.statistic != "mean":
            raise ValueError(
                f"by='record' has one column, whose share of {self.statistic} is always 1 or -1: use by='lead', or "
                "statistic='mean' (the balance of positive and negative relevance)"
            )

    def _check_beat_window(self) -> None:
        try:
            low, high = self.beat_window
        except (TypeError, ValueError):
            raise ValueError(f"beat_window must be two times (s) from the R peak; got {self.beat_window!r}") from None
        for end in (low, high):
            check_number("an end of beat_window", end, low=-_FARTHEST, high=_FARTHEST, unit="(s)")
        if not low < high:
            raise ValueError(f"beat_window must begin before it ends; got {self.beat_window!r}")

    def _check_beat_length(self, n_timesteps: int) -> None:
        """Refuse windows that no beat fits into."""
        if self.by == "beat" and len(self._offsets()) > n_timesteps:
            raise ValueError(
                f"beat_window={self.beat_window!r} is {len(self._offsets())} samples at {self.fs:g} Hz, the relevance "
                f"has {n_timesteps} timesteps: no beat fits; explain longer windows, or shorten beat_window"
            )

    def _check_lead_names(self) -> list[str]:
        names = self.lead_names
        right = not isinstance(names, str) and all(isinstance(name, str) for name in names)
        if not right or len(names) != self.n_leads_ or len(set(names)) < len(names):
            raise ValueError(f"lead_names must be {self.n_leads_} different strings, one a lead; got {names!r}")
        return list(names)

    def _has_beats(self) -> bool:
        return self.by in ("wave", "beat")

    def _offsets(self) -> range:
        """Return the samples of a beat from its R peak on, the nearest to the ends of beat_window, both included."""
        low, high = (math.floor(end * self.fs + 0.5) for end in self.beat_window)
        return range(low, high + 1)

    def _kind(self) -> tuple[Any, ...]:
        """Return what rows are sums of: the first fields of a Layout."""
        named = self.lead_names is not None and (self.by == "lead" or (self._has_beats() and self.leads == "each"))
        return (
            self.by,
            self.statistic,
            tuple(self.lead_names) if named else (),
            self.leads if self._has_beats() else "",
            float(self.fs) if self._has_beats() else 0.0,
            tuple(map(float, self.beat_window)) if self.by == "beat" else (),
        )
