"""A map of waves by leads, coloured by the relevance of a class, with the tests' stars."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..utils._validation import check_number, check_option
from ._cohort_input import (
    check_aggregator,
    class_position,
    control_position,
    distinct,
    note_of_tests,
    one_axes,
    patients,
    quantity_of,
    split_columns,
    star_legend,
    stars,
    table_of,
)
from ._trace import default_map

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

_WAVES = ("P", "QRS", "T", "rest", "P region")

_FEW = 10  # patients: the aggregator gives no interval below


class WaveMapDisplay:
    """A map of waves by leads, coloured by the relevance of a class, with the stars of its tests against the control.

    Red cells are waves whose relevance speaks for the class, blue ones speak against it; white is zero, and the scale
    is symmetric about it. Hatched cells are absent: no patient has a value.

    Use :meth:`from_aggregator` to make one and draw it; :meth:`plot` draws it again.

    Parameters
    ----------
    values : array-like of shape (n_waves, n_leads)
        What is drawn; NaN where there is none.
    waves : sequence of str of length n_waves
        Names of the rows.
    lead_names : sequence of str of length n_leads
        Names of the columns.
    p_adjusted : array-like of shape (n_waves, n_leads), default=None
        Adjusted p values; NaN where there was no test.
    test : str, default=None
        How they came about, for the legend.
    label : str, default=None
        The class, for the title.
    n_patients : array-like of int, shape (n_waves, n_leads), default=None
        Patients with a value, for the title.
    quantity : str, default="mean relevance"
        What the values are, for the scale.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Drawn upon.
    figure_ : matplotlib Figure
        Its figure.
    mesh_ : QuadMesh
        The coloured cells; those that are absent are masked.
    colorbar_ : matplotlib Colorbar or None
        The scale.
    stars_ : dict of (str, str) to str
        The stars of the cells (wave, lead) that have some.
    absent_ : list of (str, str)
        The cells (wave, lead) that are hatched.

    See Also
    --------
    skecg.relevance.RelevanceAggregator : Forms the values and the tests.
    AverageBeatDisplay : The beat itself.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.plotting import WaveMapDisplay
    >>> values = np.array([[-0.5, np.nan], [2.0, 1.0]])
    >>> display = WaveMapDisplay(values, ["P", "QRS"], ["II", "V1"], p_adjusted=[[0.03, 1.0], [0.2, 1.0]]).plot()
    >>> display.stars_, display.absent_
    ({('P', 'II'): '*'}, [('P', 'V1')])
    """

    def __init__(
        self,
        values: ArrayLike,
        waves: Sequence[str],
        lead_names: Sequence[str],
        *,
        p_adjusted: ArrayLike | None = None,
        test: str | None = None,
        label: str | None = None,
        n_patients: ArrayLike | None = None,
        quantity: str = "mean relevance",
    ) -> None:
        self.waves, self.lead_names = [str(wave) for wave in waves], [str(lead) for lead in lead_names]
        shape, axes = (len(self.waves), len(self.lead_names)), "(n_waves, n_leads)"
        if 0 in shape:
            raise ValueError(f"waves and lead_names must name at least one each; got {shape}")
        self.values = table_of(values, "values", shape, axes)
        self.p_adjusted = None if p_adjusted is None else table_of(p_adjusted, "p_adjusted", shape, axes)
        self.n_patients = None if n_patients is None else table_of(n_patients, "n_patients", shape, axes)
        self.test = test
        self.label = label
        self.quantity = quantity

    @classmethod
    def from_aggregator(
        cls,
        aggregator: Any,
        *,
        label: Any = None,
        show: str = "mean",
        ax: Any = None,
        **plot_params: Any,
    ) -> WaveMapDisplay:
        """Draw a class of a fitted aggregator.

        Parameters
        ----------
        aggregator : RelevanceAggregator
            Fitted by wave; with a ``control``, the tests are drawn too.
        label : label, default=None
            The class; None takes the one class that is not the control.
        show : {"mean", "difference", "effect_size"}, default="mean"
            The mean of the class, its mean less the control's, or Cliff's delta against the control.
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.
        **plot_params : dict
            Other parameters of :meth:`plot`.

        Returns
        -------
        display : WaveMapDisplay
            Drawn.

        Raises
        ------
        ValueError
            For an aggregator that is not by wave, a label that is no class, or a comparison without a control.
        """
        check_aggregator(aggregator, ("wave",), cls.__name__)
        check_option("show", show, ("mean", "difference", "effect_size"))
        position = class_position(aggregator, label)
        control = control_position(aggregator, position)
        name, quantity = str(aggregator.classes_[position]), quantity_of(aggregator)
        if show != "mean" and control is None:
            raise ValueError(f"show={show!r} compares {name} with a control, and this aggregator has none")
        values = aggregator.effect_size_[position] if show == "effect_size" else aggregator.mean_[position]
        if show == "difference":
            values, quantity = values - aggregator.mean_[control], f"{quantity},\n{name} less {aggregator.control}"
        elif show == "effect_size":
            quantity = f"Cliff's delta of {quantity},\n{name} against {aggregator.control}"
        cells = split_columns([str(column) for column in aggregator.get_feature_names_out()], _WAVES)
        leads, waves = distinct([lead for lead, _ in cells]), distinct([wave for _, wave in cells])
        rows, columns = [waves.index(wave) for _, wave in cells], [leads.index(lead) for lead, _ in cells]

        def as_map(row: np.ndarray) -> np.ndarray:
            table = np.full((len(waves), len(leads)), np.nan)
            table[rows, columns] = row
            return table

        display = cls(
            as_map(values),
            waves,
            [lead or "all leads" for lead in leads],
            p_adjusted=None if control is None else as_map(aggregator.p_adjusted_[position]),
            test=None if control is None else note_of_tests(aggregator),
            label=name,
            n_patients=np.nan_to_num(as_map(aggregator.n_patients_[position])),
            quantity=quantity,
        )
        return display.plot(ax, **plot_params)

    def plot(
        self,
        ax: Any = None,
        *,
        cmap: str | Colormap | None = None,
        vmax: float | None = None,
        colorbar: bool = True,
    ) -> WaveMapDisplay:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.
        cmap : str or Colormap, default=None
            Diverging colour map; None: "RdBu_r" without its darkest ends, safe for colour-blind readers.
        vmax : float, default=None
            Value of the darkest colour, to draw several maps on one scale; None: the largest absolute value of cells
            with ten patients or more. Cells with fewer bear a cross.
        colorbar : bool, default=True
            Whether to draw the scale.

        Returns
        -------
        display : WaveMapDisplay
            Itself.
        """
        n_waves, n_leads = self.values.shape
        drawn, few = np.ma.masked_invalid(self.values), self._few()
        if vmax is None:  # a value of few patients does not set the scale of those of many
            known = np.ma.masked_array(drawn, few) if (~few & ~np.ma.getmaskarray(drawn)).any() else drawn
            vmax = float(np.abs(known).max()) if drawn.count() else 0.0
        else:
            check_number("vmax", vmax, low=0, strict=True)
        limit = vmax or 1.0  # all zero: all white
        if ax is None:
            import matplotlib.pyplot as plt

            size = max(4.6, 2.4 + 0.55 * n_leads), 1.7 + 0.42 * n_waves
            _, ax = plt.subplots(figsize=size, layout="constrained")
        ax = one_axes(ax, type(self).__name__)
        edges = np.arange(n_leads + 1) - 0.5, np.arange(n_waves + 1) - 0.5
        style = {"cmap": default_map(True) if cmap is None else cmap, "edgecolors": "white", "linewidth": 0.8}
        self.mesh_ = ax.pcolormesh(*edges, drawn, vmin=-limit, vmax=limit, **style)
        self._hatch(ax, np.ma.getmaskarray(drawn))
        rows, columns = np.nonzero(few)
        ax.plot(columns, rows, linestyle="none", marker="x", color="#404040", markersize=5, zorder=3)
        self.stars_ = self._draw_stars(ax)
        ax.set_xticks(np.arange(n_leads), self.lead_names)
        ax.set_yticks(np.arange(n_waves), self.waves)
        ax.tick_params(length=0)
        ax.set(xlim=(-0.5, n_leads - 0.5), ylim=(n_waves - 0.5, -0.5))  # the first wave on top
        ax.set_title(self._title(), loc="left", fontsize=11, fontweight="bold")
        ax.set_xlabel(self._foot(ax), fontsize=8, loc="left", multialignment="left")
        self.colorbar_ = self._draw_scale(ax) if colorbar else None
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_scale(self, ax: Any) -> Any:
        bar = ax.figure.colorbar(self.mesh_, ax=ax, fraction=0.05, pad=0.02, aspect=20)
        bar.ax.tick_params(labelsize=8)
        bar.formatter.set_powerlimits((-3, 4))
        bar.ax.yaxis.get_offset_text().set_fontsize(8)
        bar.set_label(self.quantity, fontsize=8)
        return bar

    def _few(self) -> np.ndarray:
        """Tell which cells have values of few patients, (n_waves, n_leads)."""
        if self.n_patients is None:
            return np.zeros(self.values.shape, dtype=bool)
        return np.isfinite(self.values) & (self.n_patients < _FEW)

    def _hatch(self, ax: Any, absent: np.ndarray) -> None:
        from matplotlib.patches import Rectangle

        self.absent_ = []
        for wave, lead in np.argwhere(absent):
            self.absent_.append((self.waves[wave], self.lead_names[lead]))
            style = {"facecolor": "white", "edgecolor": "#808080", "hatch": "////", "linewidth": 0}
            ax.add_patch(Rectangle((lead - 0.5, wave - 0.5), 1, 1, **style))

    def _draw_stars(self, ax: Any) -> dict[tuple[str, str], str]:
        found = {}
        if self.p_adjusted is None:
            return found
        for (wave, lead), p_value in np.ndenumerate(self.p_adjusted):
            if (mark := stars(p_value)) and np.isfinite(self.values[wave, lead]):
                found[self.waves[wave], self.lead_names[lead]] = mark
                ax.text(lead, wave, mark, ha="center", va="center_baseline", fontsize=11, fontweight="bold")
        return found

    def _title(self) -> str:
        parts = [] if self.label is None else [self.label]
        if self.n_patients is not None:
            there = self.n_patients[np.isfinite(self.values)]
            parts.append(patients(there if there.size else [0]))
        return ", ".join(parts)

    def _foot(self, ax: Any) -> str:
        """Return what stars and hatches mean, in lines that fit under the map."""
        sentences = [star_legend(self.test)] if self.p_adjusted is not None else []
        sentences += ["hatched: absent, no patient has a value"] if self.absent_ else []
        sentences += [f"cross: fewer than {_FEW} patients"] if self._few().any() else []
        width = ax.get_window_extent().width / ax.figure.dpi
        return "\n".join(textwrap.fill(sentence, max(30, int(width / 0.068))) for sentence in sentences)
