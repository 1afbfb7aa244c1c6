"""Box plots of the patients of a class beside those of the control, column by column, with the tests' stars."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._cohort_input import (
    CLASS_COLOR,
    CONTROL_COLOR,
    check_aggregator,
    class_position,
    control_position,
    note_of_tests,
    one_axes,
    patients,
    quantity_of,
    star_legend,
    stars,
    table_of,
)

_OFFSET, _BOX = 0.19, 0.32  # in columns: how far a box stands from its tick, and how wide it is
_MOST_COLUMNS = 60


class CohortDisplay:
    """Box plots by lead of the patients of a class beside those of the control, with the stars of the tests.

    One value a patient. A box spans the middle half of the patients, its line is the median, the whiskers reach to the
    furthest patient within 1.5 box lengths, and patients beyond are dots. The stars tell the p values that the
    aggregator adjusted over the whole family of its tests; the legend says which test it was.

    Lead means of relevance sum to the total, so that every lead tends to differ once the scores of the classes do:
    look at an aggregator with ``share=True`` as well.

    Use :meth:`from_aggregator` to make one and draw it; :meth:`plot` draws it again.

    Parameters
    ----------
    values : mapping of label to array-like of shape (n_patients, n_columns)
        One row a patient, NaN where there is no value: the class, and after it, if wanted, the control.
    columns : sequence of str of length n_columns
        Names of the columns, such as leads.
    p_adjusted : array-like of shape (n_columns,), default=None
        Adjusted p values of the class against the control; NaN where there was no test.
    test : str, default=None
        How they came about, for the legend.
    quantity : str, default="mean relevance"
        What the values are, for the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Drawn upon.
    figure_ : matplotlib Figure
        Its figure.
    boxes_ : dict of label to dict
        What matplotlib's ``boxplot`` returned for the class and the control.
    stars_ : dict of str to str
        The stars of the columns that have some.
    notes_ : list of str
        What the picture says beside its boxes: patients of both cohorts, columns without a value.

    See Also
    --------
    skecg.relevance.RelevanceAggregator : Forms the values and the tests.
    WaveMapDisplay : Waves of all leads at a glance.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.plotting import CohortDisplay
    >>> values = {"LBBB": np.array([[1.0, 3.0], [2.0, 5.0]]), "N": np.array([[1.0, 0.0], [2.0, 1.0]])}
    >>> display = CohortDisplay(values, ["II", "V1"], p_adjusted=[1.0, 0.004]).plot()
    >>> display.stars_
    {'V1': '**'}
    """

    def __init__(
        self,
        values: Mapping[Any, ArrayLike],
        columns: Sequence[str],
        *,
        p_adjusted: ArrayLike | None = None,
        test: str | None = None,
        quantity: str = "mean relevance",
    ) -> None:
        if not isinstance(values, Mapping) or len(values) not in (1, 2):
            raise ValueError("values must be a dict of one or two labels to their values: the class, then the control")
        self.columns = [str(name) for name in columns]
        n = len(self.columns)
        if not 1 <= n <= _MOST_COLUMNS:
            raise ValueError(
                f"columns must name 1 to {_MOST_COLUMNS} columns; got {n}: choose some, or draw waves with "
                "WaveMapDisplay and average beats with AverageBeatDisplay"
            )
        self.values = {
            label: table_of(table, f"values[{label!r}]", (len(table), n), "(n_patients, n_columns)")
            for label, table in values.items()
        }
        self.p_adjusted = None if p_adjusted is None else table_of(p_adjusted, "p_adjusted", (n,), "(n_columns,)")
        self.test = test
        self.quantity = quantity
        self._about_input: list[str] = []

    @classmethod
    def from_aggregator(
        cls,
        aggregator: Any,
        *,
        label: Any = None,
        columns: Sequence[str] | None = None,
        ax: Any = None,
    ) -> CohortDisplay:
        """Draw a class of a fitted aggregator beside its control.

        Parameters
        ----------
        aggregator : RelevanceAggregator
            Fitted by record, lead or wave; with a ``control``, its patients and the tests are drawn too.
        label : label, default=None
            The class; None takes the one class that is not the control.
        columns : sequence of str, default=None
            Names of the columns to draw, in this order; None takes all.
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.

        Returns
        -------
        display : CohortDisplay
            Drawn.

        Raises
        ------
        ValueError
            For an aggregator by beat, a label that is no class, or columns that it has not.
        """
        check_aggregator(aggregator, ("lead", "wave", "record"), cls.__name__)
        position = class_position(aggregator, label)
        control = control_position(aggregator, position)
        names = [str(name) for name in aggregator.get_feature_names_out()]
        wanted = names if columns is None else [columns] if isinstance(columns, str) else list(columns)
        if lacking := [name for name in wanted if name not in names]:
            raise ValueError(f"columns holds {lacking}, but the columns are {names}")
        chosen = [names.index(name) for name in wanted]
        drawn = [aggregator.classes_.tolist()[i] for i in (position, control) if i is not None]
        tested = control is not None
        display = cls(
            {one: np.asarray(aggregator.patient_values(one))[:, chosen] for one in drawn},
            wanted,
            p_adjusted=aggregator.p_adjusted_[position, chosen] if tested else None,
            test=note_of_tests(aggregator) if tested else None,
            quantity=quantity_of(aggregator),
        )
        shared = int(aggregator.exclusions_["shared_patients"][position]) if tested else 0
        if shared:
            display._about_input = [f"{patients([shared])} of both cohorts left the control of the tests"]
        return display.plot(ax)

    def plot(self, ax: Any = None) -> CohortDisplay:
        """Draw the boxes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.

        Returns
        -------
        display : CohortDisplay
            Itself.
        """
        n = len(self.columns)
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(max(5.0, 1.6 + 0.62 * n), 4.4), layout="constrained")
        ax = one_axes(ax, type(self).__name__)
        ax.axhline(0, color="#b0b0b0", linewidth=0.8, zorder=1)
        self.boxes_, handles = {}, []
        offsets = (-_OFFSET, _OFFSET) if len(self.values) == 2 else (0.0,)
        colors = (CLASS_COLOR, CONTROL_COLOR)[: len(self.values)]
        for (label, table), offset, color in zip(self.values.items(), offsets, colors, strict=True):
            self.boxes_[label] = self._draw_boxes(ax, table, offset, color)
            counts = np.isfinite(table).sum(axis=0)
            handles.append(self._patch(f"{label} ({patients(counts)})", color))
        self.stars_ = self._draw_stars(ax)
        absent = [
            f"{name}: no value of {label}"
            for label, table in self.values.items()
            for name, column in zip(self.columns, table.T, strict=True)
            if not np.isfinite(column).any()
        ]
        self.notes_ = [*self._about_input, *absent]
        crowded = n > 14 or max(len(name) for name in self.columns) > 8
        rotation = {"rotation": 90} if crowded else {}
        ax.set_xticks(np.arange(n), self.columns, **rotation)
        ax.set(xlim=(-0.6, n - 0.4), ylabel=self.quantity)
        ax.ticklabel_format(axis="y", scilimits=(-3, 4))
        ax.grid(axis="y", alpha=0.3)
        self._draw_legend(ax, handles)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_boxes(self, ax: Any, table: np.ndarray, offset: float, color: str) -> dict[str, list]:
        return ax.boxplot(
            [column[np.isfinite(column)] for column in table.T],
            positions=np.arange(len(self.columns)) + offset,
            widths=_BOX,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": color, "edgecolor": color, "alpha": 0.6},
            medianprops={"color": "black", "linewidth": 1.2},
            whiskerprops={"color": color},
            capprops={"color": color},
            flierprops={"marker": ".", "markersize": 3.5, "markerfacecolor": color, "markeredgecolor": color},
        )

    @staticmethod
    def _patch(label: str, color: str) -> Any:
        from matplotlib.patches import Patch

        return Patch(facecolor=color, edgecolor=color, alpha=0.6, label=label)

    def _draw_stars(self, ax: Any) -> dict[str, str]:
        """Write the stars over their columns, in a strip that the boxes leave free."""
        found = {}
        if self.p_adjusted is None:
            return found
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.1 * (high - low))
        for i, (name, p_value) in enumerate(zip(self.columns, self.p_adjusted, strict=True)):
            if mark := stars(p_value):
                found[name] = mark
                style = {"ha": "center", "va": "top", "fontsize": 11, "fontweight": "bold"}
                ax.text(i, 0.985, mark, transform=ax.get_xaxis_transform(), **style)
        return found

    def _draw_legend(self, ax: Any, handles: list) -> None:
        lines = [star_legend(self.test)] if self.p_adjusted is not None else []
        width = ax.get_window_extent().width / ax.figure.dpi
        lines = [textwrap.fill(line, max(30, int(width / 0.075))) for line in [*lines, *self.notes_]]
        # Over the axes: the boxes of twelve leads leave no corner free.
        style = {"fontsize": 8, "title_fontsize": 8, "frameon": False, "loc": "lower left"}
        ax.legend(handles=handles, title="\n".join(lines) or None, bbox_to_anchor=(0, 1), ncols=2, **style)
        ax.get_legend().set_alignment("left")
