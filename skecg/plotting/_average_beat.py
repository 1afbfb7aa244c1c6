"""Average beats: the ECG over its relevance, a class beside its control, a panel a lead."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch

from ..utils._validation import check_number
from ._cohort_input import (
    CLASS_COLOR,
    CONTROL_COLOR,
    check_aggregator,
    class_position,
    control_position,
    distinct,
    nested,
    note_of_tests,
    patients,
    quantity_of,
    table_of,
)
from ._trace import default_map, draw_truth, make_marker

_SIGNIFICANT = 0.05
# Inches: a lead, from the axes to the foot, a line of the foot.
_PANEL, _FOOT, _LINE = (2.6, 2.2), 0.47, 0.16


class AverageBeatDisplay:
    """The average beat of a class and its relevance over those of the control, a panel a lead.

    Above: the average ECG of the class (black) and of the control (grey), aligned at the R peak; the black one lies on
    a marker whose colour is the class's mean relevance, red for the label and blue against it. Below: the mean
    relevance itself, each with the band of its interval over patients. All leads share the scales. A black bar marks
    the samples where the adjusted p value of the class against the control is below .05.

    Use :meth:`from_aggregator` to make one and draw it; :meth:`plot` draws it again.

    Parameters
    ----------
    offset : array-like of shape (n_offsets,)
        Time of the samples relative to the R peak, s, increasing.
    cohorts : mapping of label to mapping
        The class, and after it, if wanted, the control. Each has ``relevance``, (n_leads, n_offsets), and may have
        ``interval``, (n_leads, n_offsets, 2), ``ecg`` and ``ecg_interval``, mV, of the same shapes, and ``n_patients``.
    lead_names : sequence of str of length n_leads
        Names of the leads.
    p_adjusted : array-like of shape (n_leads, n_offsets), default=None
        Adjusted p values of the class against the control; NaN where there was no test.
    test : str, default=None
        How they came about, for the foot.
    quantity : str, default="mean relevance"
        What is averaged, for the axis.

    Attributes
    ----------
    axes_ : ndarray of Axes, shape (n_leads drawn, 2)
        The upper (ECG) and the lower (relevance) panel of each lead; without ECG, (n_leads drawn, 1).
    ax_ : matplotlib Axes
        The first of them.
    figure_ : matplotlib Figure
        The figure that holds them.
    lines_ : dict of label to list of Line2D
        The curves of the relevance, a lead each.
    ecg_lines_ : dict of label to list of Line2D
        Those of the ECG.
    bands_ : dict of label to list of PolyCollection
        The intervals of the relevance.
    notes_ : list of str
        What the picture says at its foot.

    See Also
    --------
    skecg.relevance.RelevanceAggregator : Forms the average beats.
    WaveMapDisplay : Relevance of the waves.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.plotting import AverageBeatDisplay
    >>> offset = np.arange(-60, 100) / 200
    >>> beat = np.exp(-0.5 * (offset / 0.02) ** 2)[None]
    >>> display = AverageBeatDisplay(offset, {"AF": {"relevance": beat, "ecg": beat}}, ["II"]).plot()
    >>> display.axes_.shape
    (1, 2)
    """

    def __init__(
        self,
        offset: ArrayLike,
        cohorts: Mapping[Any, Mapping[str, Any]],
        lead_names: Sequence[str],
        *,
        p_adjusted: ArrayLike | None = None,
        test: str | None = None,
        quantity: str = "mean relevance",
    ) -> None:
        self.offset = np.asarray(offset, dtype=np.float64)
        if self.offset.ndim != 1 or len(self.offset) < 2 or not (np.diff(self.offset) > 0).all():
            raise ValueError(
                f"offset must be two or more increasing times, s; got shape {self.offset.shape}"
                + (" that does not increase" if self.offset.ndim == 1 and len(self.offset) > 1 else "")
            )
        if not isinstance(cohorts, Mapping) or len(cohorts) not in (1, 2):
            raise ValueError("cohorts must be a dict of one or two labels: the class, then the control")
        self.lead_names = [str(name) for name in lead_names]
        shape, axes = (len(self.lead_names), len(self.offset)), "(n_leads, n_offsets)"
        self.cohorts = {}
        for label, given in cohorts.items():
            if "relevance" not in given:
                raise ValueError(f"cohorts[{label!r}] lacks 'relevance'; it has {sorted(given)}")
            one = Bunch(n_patients=given.get("n_patients"))
            for name in ("relevance", "ecg"):
                one[name] = self._given(given, name, label, shape, axes)
            for name in ("interval", "ecg_interval"):
                one[name] = self._given(given, name, label, (*shape, 2), f"{axes[:-1]}, 2)")
            self.cohorts[label] = one
        self.p_adjusted = None if p_adjusted is None else table_of(p_adjusted, "p_adjusted", shape, axes)
        self.test = test
        self.quantity = quantity

    @staticmethod
    def _given(given: Mapping[str, Any], name: str, label: Any, shape: tuple, axes: str) -> np.ndarray | None:
        values = given.get(name)
        return None if values is None else table_of(values, f"{name} of {label!r}", shape, axes)

    @classmethod
    def from_aggregator(
        cls,
        aggregator: Any,
        *,
        label: Any = None,
        ax: Any = None,
        **plot_params: Any,
    ) -> AverageBeatDisplay:
        """Draw a class of a fitted aggregator over its control.

        Parameters
        ----------
        aggregator : RelevanceAggregator
            Fitted by beat; with ``ecg`` the average ECG is drawn too, with a ``control`` its beats and the tests.
        label : label, default=None
            The class; None takes the one class that is not the control.
        ax : matplotlib Axes or array-like of Axes, default=None
            As in :meth:`plot`.
        **plot_params : dict
            Other parameters of :meth:`plot`.

        Returns
        -------
        display : AverageBeatDisplay
            Drawn.

        Raises
        ------
        ValueError
            For an aggregator that is not by beat, or a label that is no class.
        """
        check_aggregator(aggregator, ("beat",), cls.__name__)
        position = class_position(aggregator, label)
        control = control_position(aggregator, position)
        leads, offset = _grid([str(name) for name in aggregator.get_feature_names_out()])
        shape = len(leads), len(offset)
        # there where the aggregator was fitted with ecg
        ecg, around_ecg = (getattr(aggregator, name, None) for name in ("mean_ecg_", "interval_ecg_"))
        cohorts = {}
        for i in (position, control):
            if i is None:
                continue
            cohorts[aggregator.classes_.tolist()[i]] = {
                "relevance": aggregator.mean_[i].reshape(shape),
                "interval": aggregator.interval_[i].reshape(*shape, 2),
                "ecg": None if ecg is None or np.isnan(ecg[i]).all() else ecg[i].reshape(shape),
                "ecg_interval": None if around_ecg is None else around_ecg[i].reshape(*shape, 2),
                "n_patients": aggregator.n_patients_[i],
            }
        tested = control is not None
        display = cls(
            offset,
            cohorts,
            [lead or "all leads" for lead in leads],
            p_adjusted=aggregator.p_adjusted_[position].reshape(shape) if tested else None,
            test=note_of_tests(aggregator) if tested else None,
            quantity=quantity_of(aggregator),
        )
        return display.plot(ax, **plot_params)

    def plot(
        self, ax: Any = None, *, leads: Sequence[str] | None = None, n_columns: int | None = None
    ) -> AverageBeatDisplay:
        """Draw the beats.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            Where to draw: one axes, whose place several leads share, or an axes a lead. None makes a figure.
        leads : sequence of str, default=None
            Which leads, by name, in this order; None: all.
        n_columns : int, default=None
            Leads beside each other; they run down the columns. None: 4 from eight leads on, else up to 3.

        Returns
        -------
        display : AverageBeatDisplay
            Itself.
        """
        wanted = self.lead_names if leads is None else [leads] if isinstance(leads, str) else list(leads)
        if not wanted or (unknown := [name for name in wanted if name not in self.lead_names]):
            raise ValueError(f"leads must be among {self.lead_names}; got {unknown if wanted else wanted}")
        if n_columns is not None:
            check_number("n_columns", n_columns, low=1, integer=True)
        chosen = [self.lead_names.index(name) for name in wanted]
        with_ecg = any(one.ecg is not None for one in self.cohorts.values())
        columns = n_columns or (4 if len(chosen) >= 8 else min(3, len(chosen)))
        self.notes_ = self._remarks()
        places, sides = _panels(ax, len(chosen), columns, "; ".join(self.notes_), type(self).__name__)
        self.axes_ = np.empty((len(chosen), 1 + with_ecg), dtype=object)
        for i, place in enumerate(places):
            rows = nested(place, 2, 1, hspace=0.06, height_ratios=(1, 1)) if with_ecg else [[place]]
            self.axes_[i] = [row[0] for row in rows]
        self.ax_, self.figure_ = self.axes_[0, 0], self.axes_[0, 0].figure
        self.lines_, self.ecg_lines_, self.bands_ = ({label: [] for label in self.cohorts} for _ in range(3))
        for panels, lead in zip(self.axes_, chosen, strict=True):
            self._draw_relevance(panels[-1], lead)
            if with_ecg:
                self._draw_ecg(panels[0], lead, chosen)
        self._share_limits(chosen, with_ecg)
        self._label(wanted, sides)
        return self

    def _styles(self) -> list[tuple[Any, Bunch, str]]:
        """Return (label, cohort, colour), the control first, so that the class is drawn over it."""
        colors = (CLASS_COLOR, CONTROL_COLOR)
        return [(*item, color) for item, color in zip(self.cohorts.items(), colors, strict=False)][::-1]

    def _draw_relevance(self, ax: Any, lead: int) -> None:
        ax.axhline(0, color="#b0b0b0", linewidth=0.7, zorder=1)
        for z, (label, one, color) in enumerate(self._styles()):
            if one.interval is not None:
                self.bands_[label].append(self._draw_band(ax, one.interval[lead], color, z))
            style = {"color": color, "linewidth": 1.2, "label": self._name(label, one), "zorder": 2.5 + z}
            self.lines_[label].extend(ax.plot(self.offset, one.relevance[lead], **style))
        if self.p_adjusted is not None and (significant := self.p_adjusted[lead] < _SIGNIFICANT).any():
            draw_truth(ax, self.offset, significant)

    def _draw_band(self, ax: Any, interval: np.ndarray, color: str, z: int) -> Any:
        style = {"color": color, "alpha": 0.3, "linewidth": 0, "zorder": 1.8 + z / 10}
        return ax.fill_between(self.offset, *interval.T, **style)

    def _draw_ecg(self, ax: Any, lead: int, chosen: list[int]) -> None:
        for z, (label, one, color) in enumerate(self._styles()):
            if one.ecg is None:
                continue
            if one.ecg_interval is not None:
                self._draw_band(ax, one.ecg_interval[lead], color, z)
            first = label == next(iter(self.cohorts))
            style = {"color": "black" if first else color, "linewidth": 0.9, "zorder": 3 + z}
            self.ecg_lines_[label].extend(ax.plot(self.offset, one.ecg[lead], **style))
            if first:
                marker = self._marker(one, lead, chosen)
                ax.add_collection(marker, autolim=False)

    def _marker(self, one: Bunch, lead: int, chosen: list[int]) -> Any:
        """Return the ECG coloured by relevance, on one scale for the leads that are drawn."""
        relevance = np.ma.masked_invalid(one.relevance)
        vmax = float(np.abs(relevance[chosen]).max()) if relevance[chosen].count() else 0.0
        signed = bool(relevance.count()) and float(relevance.min()) < 0
        known = np.isfinite(one.ecg[lead])
        fs = 1 / float(np.median(np.diff(self.offset)))
        scaled = np.ma.masked_array(relevance[lead] / (vmax or 1.0))
        marker = make_marker(self.offset[known], one.ecg[lead][known], scaled[known], fs)
        marker.set(cmap=default_map(signed), clim=(-1 if signed else 0, 1), linewidth=4)
        return marker

    def _share_limits(self, chosen: list[int], with_ecg: bool) -> None:
        """Give all leads the same scales, so that they can be compared."""
        curves = [one.relevance[chosen] for one in self.cohorts.values()]
        curves += [one.interval[chosen] for one in self.cohorts.values() if one.interval is not None]
        both = [one[name] for one in self.cohorts.values() for name in ("ecg", "ecg_interval")]
        ecgs = [array[chosen] for array in both if array is not None]
        for row, arrays in ((-1, curves), (0, ecgs)):
            values = np.concatenate([np.zeros(1), *(array[np.isfinite(array)] for array in arrays)])
            low, high = values.min(), values.max()
            room = 0.08 * (high - low) or 1.0
            for panels in self.axes_ if row or with_ecg else ():
                panels[row].set_ylim(low - 1.5 * room, high + room)  # the bar of the tests lies below
                panels[row].set_xlim(self.offset[0], self.offset[-1])

    def _name(self, label: Any, one: Bunch) -> str:
        return str(label) if one.n_patients is None else f"{label} ({patients(one.n_patients)})"

    def _power(self) -> int:
        """Return the power of ten that the axis of the relevance is divided by, 0 for none."""
        largest = max(abs(end) for end in self.axes_[0, -1].get_ylim())
        power = floor(log10(largest)) if np.isfinite(largest) and largest > 0 else 0
        return power if power < -2 or power > 3 else 0

    def _remarks(self) -> list[str]:
        remarks = []
        label, first = next(iter(self.cohorts.items()))
        if first.ecg is not None:
            signed = bool(np.nanmin(first.relevance, initial=0.0) < 0)
            meaning = "red for it, blue against it" if signed else "darker: more"
            remarks.append(f"marker: relevance for {label}, {meaning}")
        without = [
            str(label) for label, one in self.cohorts.items() if one.interval is None or np.isnan(one.interval).all()
        ]
        if without:
            remarks.append(f"{' and '.join(without)}: no interval (fewer than 10 patients, or none given)")
        if len(without) < len(self.cohorts):
            remarks.append("band: 95 % interval of the mean over patients")
        if self.p_adjusted is not None:
            remarks.append(f"black bar: p < .05 {self.test or ''}".rstrip())
        return remarks

    def _label(self, names: list[str], sides: tuple[list[int], list[int]]) -> None:
        from matplotlib.ticker import MaxNLocator
        from matplotlib.transforms import ScaledTranslation

        left, bottom = sides
        power = self._power()
        quantity = self.quantity + (rf" ($\times10^{{{power}}}$)" if power else "")
        for i, (panels, name) in enumerate(zip(self.axes_, names, strict=True)):
            panels[0].set_title(name, loc="left", fontsize=9, fontweight="bold", pad=3)
            for ax in panels:
                ax.axvline(0, color="#b0b0b0", linewidth=0.7, linestyle=":", zorder=0.5)
                ax.tick_params(labelsize=7, labelleft=i in left, labelbottom=ax is panels[-1] and i in bottom)
                ax.locator_params(axis="y", nbins=4)
                # without the last label, which would touch the first of the next panel
                ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], prune="upper"))
            if power:  # in the label: matplotlib would write it into the panel above
                panels[-1].yaxis.set_major_formatter(lambda value, _: f"{value / 10.0**power:g}")
            if i in bottom:
                panels[-1].set_xlabel("time from R (s)", fontsize=8)
            if i in left:
                panels[-1].set_ylabel(textwrap.fill(quantity, 22), fontsize=8)
                if len(panels) > 1:
                    panels[0].set_ylabel("ECG (mV)", fontsize=8)
                self.figure_.align_ylabels(list(panels))
        handles = [self.lines_[label][0] for label in self.cohorts]
        last = self.axes_[bottom[0]][-1]
        foot = _wrapped("; ".join(self.notes_), self.figure_.get_size_inches()[0])
        below = ScaledTranslation(0, -_FOOT, self.figure_.dpi_scale_trans)
        where = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": last.transAxes + below}
        style = {"fontsize": 8, "title_fontsize": 8, "frameon": False, "alignment": "left", "ncols": 2}
        last.legend(handles=handles, title=foot, borderaxespad=0, **where, **style)


def _grid(names: list[str]) -> tuple[list[str], np.ndarray]:
    """Return the leads and the times (s) of columns "lead offset-in-ms", that must be every lead's in turn."""
    pairs = []
    for name in names:
        lead, _, offset = name.rpartition(" ")
        try:
            pairs.append((lead, float(offset) / 1000))
        except ValueError as error:
            raise ValueError(f"column {name!r} must end in an offset from the R peak in ms") from error
    leads = distinct([lead for lead, _ in pairs])
    offset = [time for lead, time in pairs if lead == leads[0]]
    if pairs != [(lead, time) for lead in leads for time in offset]:
        raise ValueError("the columns must be the same offsets for each lead, one lead after the other")
    return leads, np.array(offset)


def _wrapped(foot: str, width: float) -> str:
    """Break the foot into lines that fit a figure of so many inches."""
    return textwrap.fill(foot, max(36, int(0.86 * width / 0.06)))


def _panels(
    ax: Any, n_leads: int, columns: int, foot: str, display: str
) -> tuple[list[Any], tuple[list[int], list[int]]]:
    """Return an axes a lead, and which of them stand at the left and at the bottom."""
    given = [] if ax is None else list(np.ravel(np.asarray(ax, dtype=object)))
    if not all(hasattr(one, "add_collection") for one in given):
        raise TypeError(f"ax of {display} must be a matplotlib Axes, or several, or None; got {ax!r}")
    if ax is not None and len(given) not in (1, n_leads):
        raise ValueError(f"ax holds {len(given)} axes; pass one, or one for each of the {n_leads} leads")
    if len(given) == n_leads:
        return given, (list(range(n_leads)), list(range(n_leads)))
    rows = ceil(n_leads / columns)
    columns = ceil(n_leads / rows)
    if given:
        grid = nested(given[0], rows, columns, hspace=0.3, wspace=0.12)
    else:
        import matplotlib.pyplot as plt

        width = max(4.8, 1.0 + columns * _PANEL[0])
        bottom = _FOOT + _LINE * (_wrapped(foot, width).count("\n") + 1) + 0.36
        size = width, 0.35 + rows * _PANEL[1] + bottom
        figure = plt.figure(figsize=size)
        edges = {"left": 0.75 / size[0], "right": 1 - 0.2 / size[0]}
        edges |= {"bottom": bottom / size[1], "top": 1 - 0.35 / size[1]}
        grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={**edges, "hspace": 0.22, "wspace": 0.08})
    cells = [grid[lead % rows][lead // rows] for lead in range(n_leads)]
    for lead in range(n_leads, rows * columns):
        grid[lead % rows][lead // rows].remove()
    bottom = [lead for lead in range(n_leads) if lead % rows == rows - 1 or lead == n_leads - 1]
    return cells, (list(range(rows)), bottom)
