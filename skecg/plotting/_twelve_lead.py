"""A 12-lead ECG in the usual layout of 3 x 4 leads and a rhythm strip, coloured by relevance."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils._leads import STANDARD_LEADS, canonical_name, canonical_names
from ..utils._validation import check_number
from . import _paper
from ._cohort_input import one_axes
from ._relevance import RelevanceDisplay
from ._trace import draw_trace, draw_truth, make_marker

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

_ROWS, _COLUMNS = 3, 4
_SECTION, _PAGE = 2.5, 10.0  # s of a column and of the rhythm strip
# Margins of the page, mm: left for the calibration pulse, right for the scale, below for times and the foot.
_LEFT, _RIGHT, _TOP, _BOTTOM = 11.0, 24.0, 11.0, 6.0
_BAR_WIDTH, _BAR_HEIGHT, _LINE = 3.0, 50.0, 4.0
_HIGHEST = 10.0  # mV that a row may show


class TwelveLeadDisplay(RelevanceDisplay):
    """A 12-lead ECG as it is printed, coloured by relevance.

    Three rows of four columns, I to III, aVR to aVF, V1 to V3 and V4 to V6, 2.5 s a column, one after the other in
    time, over a rhythm strip of 10 s; 25 mm/s and 10 mm/mV, with a calibration pulse of 1 mV and 0.2 s before each
    row. A new figure has the true size of the paper. The trace is black, over a marker whose colour is the relevance,
    as in :class:`RelevanceDisplay`: all panels share one scale.

    Leads are found by their names, in any order and spelling. A lead of the layout that is missing leaves its place
    blank, and a record of less than 10 s lets the columns begin closer together, so that every lead is seen; both are
    said at the foot.

    Use :meth:`from_explainer` or :meth:`from_relevance` to make one and draw it; :meth:`plot` draws it again.

    Parameters
    ----------
    ecg : array-like of shape (n_leads, n_timesteps)
        One record, mV. Samples that are not finite are gaps.
    relevance : array-like of the shape of ecg, or (n_timesteps,)
        Relevance, unscaled; without a lead axis it holds for every lead.
    fs : float
        Sampling rate, Hz.
    label : str, default=None
        The label that is explained, for the title.
    score : float, default=None
        What was explained, for the title: the label's logit or probability.
    lead_names : sequence of str, default=None
        Names of the leads; None takes twelve leads for those of the standard order (I, II, III, aVR, aVL, aVF, V1 to
        V6), and says so.
    relevance_kind : {"signed", "positive", "cam"}, default=None
        As explainers say it; None takes "signed" where there are values below zero, else "positive".
    truth : array-like of the shape of ecg, or (n_timesteps,), bool, default=None
        Where the evidence lies: a bar at the foot of each panel.
    unit : str, default="mV"
        What the voltage is in.

    Attributes
    ----------
    axes_ : ndarray of Axes
        The panels in the order of ``panels_``; their limits are in s and mV.
    ax_ : matplotlib Axes
        The first panel.
    page_ : matplotlib Axes
        The page that holds the panels, in mm of paper.
    panels_ : list of str
        The lead of each panel: the twelve down the columns, then the rhythm strip.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of LineCollection or None
        The coloured marker of each panel; None where the lead is missing.
    colorbar_ : matplotlib Colorbar or None
        The scale of the relevance.
    notes_ : list of str
        What the picture says at its foot.

    See Also
    --------
    RelevanceDisplay : Any number of leads.
    RecordDisplay : Recordings of any length, page by page.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.plotting import TwelveLeadDisplay
    >>> t = np.arange(4000) / 400
    >>> ecg = np.tile(np.exp(-0.5 * ((t % 0.8 - 0.4) / 0.02) ** 2), (12, 1))  # mV
    >>> display = TwelveLeadDisplay.from_relevance(ecg, ecg > 0.1, fs=400.0, label="LBBB")
    >>> display.panels_[:4], display.panels_[-1]
    (['I', 'II', 'III', 'aVR'], 'II')
    """

    def __init__(
        self,
        ecg: np.ndarray,
        relevance: np.ndarray,
        *,
        fs: float,
        label: str | None = None,
        score: float | None = None,
        lead_names: Sequence[str] | None = None,
        relevance_kind: str | None = None,
        truth: np.ndarray | None = None,
        unit: str = "mV",
    ) -> None:
        super().__init__(
            ecg,
            relevance,
            fs=fs,
            label=label,
            score=score,
            lead_names=lead_names,
            relevance_kind=relevance_kind,
            truth=truth,
            unit=unit,
        )
        self._about_leads = []
        if lead_names is None:
            if len(self.ecg) != len(STANDARD_LEADS):
                raise ValueError(
                    f"lead_names must say which leads the {len(self.ecg)} of ecg are; only twelve are taken for those "
                    "of the standard order"
                )
            names = list(STANDARD_LEADS)
            self._about_leads.append("no names were given: leads taken in the standard order")
        else:
            names = canonical_names(lead_names)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"lead_names must name each lead once; {twice} came more than once")
        self._position = {name: i for i, name in enumerate(names)}
        if not set(names) & set(STANDARD_LEADS):
            raise ValueError(f"lead_names holds none of {', '.join(STANDARD_LEADS)}: {names}; use RelevanceDisplay")
        if others := [name for name in names if name not in STANDARD_LEADS]:
            self._about_leads.append(f"{', '.join(others)}: no place in this layout, left out")

    def plot(
        self,
        ax: Any = None,
        *,
        rhythm: str | None = "II",
        start: float | None = None,
        cmap: str | Colormap | None = None,
        vmax: float | None = None,
        colorbar: bool = True,
        marker_width: float = 3.5,
    ) -> TwelveLeadDisplay:
        """Draw the page.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Whose place the page takes, in its own proportions; None makes a figure with pyplot, of the true size.
        rhythm : str, default="II"
            Lead of the rhythm strip; None draws none.
        start : float, default=None
            Begin of the page, s. None: 0, or, in records of more than 10 s, of the section with the most relevance.
        cmap : str or Colormap, default=None
            Colour map; None: matplotlib's "RdBu_r" where the relevance has a sign, else "Reds", without their darkest
            ends.
        vmax : float, default=None
            Relevance of the darkest colour, to draw several records on one scale. None: the largest absolute value of
            the record, over all its leads and samples.
        colorbar : bool, default=True
            Whether to draw the scale.
        marker_width : float, default=3.5
            Width of the coloured marker, points.

        Returns
        -------
        display : TwelveLeadDisplay
            Itself.
        """
        check_number("marker_width", marker_width, low=0, strict=True, unit="(points)")
        if rhythm is not None:
            rhythm = canonical_name(rhythm)
        if rhythm not in (None, *STANDARD_LEADS, *self._position):
            raise ValueError(f"rhythm must be a lead, one of {', '.join(STANDARD_LEADS)}, or None; got {rhythm!r}")
        scaled, mappable, about_colours = self._colours(cmap, vmax)
        begin, end = self._section(start, _PAGE, np.abs(scaled.filled(0)).sum(axis=0))
        step = self._step((end - begin) / self.fs)
        self.panels_ = [*STANDARD_LEADS, *([] if rhythm is None else [rhythm])]
        # (begin, duration) of each panel, s
        times = [(begin / self.fs + step * (i // _ROWS), _SECTION) for i in range(len(STANDARD_LEADS))]
        times += [(begin / self.fs, _PAGE)] * (rhythm is not None)
        sections = [self._samples(first, length, end) for first, length in times]
        limits, cut = self._limits(sections)
        self.notes_ = [*self._about_input, *self._about_leads, *about_colours, *self._about_page(begin, end, step, cut)]
        self._make_page(ax, limits, times, colorbar)
        self._draw_panels(scaled, mappable, sections, times, marker_width)
        bar = self._bar if colorbar else None
        self.colorbar_ = self._draw_scale(mappable, _paper.Page([], limits, [], [], bar, "")) if colorbar else None
        return self

    @staticmethod
    def _step(duration: float) -> float:
        """Return how long after the one before a column begins, s."""
        step = float(np.clip((duration - _SECTION) / (_COLUMNS - 1), 0, _SECTION))
        # whole large squares less than 2.5 s, so that the paper's lines go on from column to column
        return max(0.0, _SECTION - ceil(round((_SECTION - step) / _paper.BOLD[0], 6)) * _paper.BOLD[0])

    def _name(self, lead: int) -> str:
        return next(name for name, position in self._position.items() if position == lead)

    def _samples(self, first: float, length: float, end: int) -> slice:
        """Return the samples of a panel, none beyond the end of the record."""
        return slice(round(first * self.fs), max(min(round((first + length) * self.fs), end), round(first * self.fs)))

    def _limits(self, sections: list[slice]) -> tuple[np.ndarray, list[str]]:
        """Return the voltages of each panel, the same for all of a row, and the leads that do not fit."""
        limits, cut = np.tile([-0.5, 0.5], (len(sections), 1)), []
        for i, (name, section) in enumerate(zip(self.panels_, sections, strict=True)):
            if name in self._position and section.stop > section.start:
                found, over = _paper.voltage_limits(self.ecg[self._position[name], section][None])
                limits[i] = found[0]
                cut += [name] * (bool(over[0]) and name not in cut)
        for row in range(len(sections) // _COLUMNS + 1):
            members = list(range(row, len(STANDARD_LEADS), _ROWS)) if row < _ROWS else [len(STANDARD_LEADS)]
            if members[-1] >= len(sections):
                continue
            there = [i for i in members if self.panels_[i] in self._position] or members
            low, high = limits[there, 0].min(), limits[there, 1].max()
            if high - low <= _HIGHEST:
                limits[members] = low, high
            else:  # offsets far apart: each lead about its own baseline
                limits[members] = _paper.panel_rows(limits[members], len(members))
        return limits, cut

    def _about_page(self, begin: int, end: int, step: float, cut: list[str]) -> list[str]:
        missing = [name for name in dict.fromkeys(self.panels_) if name not in self._position]
        remarks = [f"{', '.join(missing)}: missing, left blank"] if missing else []
        shown = [self._position[name] for name in STANDARD_LEADS if name in self._position]
        duration = (end - begin) / self.fs
        if step < _SECTION - 0.5 / self.fs:
            starts = ", ".join(f"{begin / self.fs + step * i:.3g}" for i in range(_COLUMNS))
            same = "all columns begin at the same time" if step == 0 else f"the columns begin at {starts} s"
            remarks.append(f"record of {duration:.4g} s: {same}")
        remarks += self._remarks(shown, np.zeros(len(shown), dtype=bool), begin, end)
        return remarks + ([f"{', '.join(cut)}: beyond the paper, cut off"] if cut else [])

    def _make_page(self, ax: Any, limits: np.ndarray, times: list[tuple[float, float]], colorbar: bool) -> None:
        """Make the page, an axes in mm of paper, and its panels, which keep their places at any size."""
        rows = [0, 1, 2, *([len(STANDARD_LEADS)] if len(self.panels_) > len(STANDARD_LEADS) else [])]
        heights = [float(np.ptp(limits[i])) * _paper.MM_PER_MV for i in rows]
        width = _PAGE * _paper.MM_PER_S
        right = _RIGHT if colorbar else 2.0
        scale = "25 mm/s, 10 mm/mV" if self.unit == "mV" else f"25 mm/s, {self.unit}"
        inches = width / _paper.MM_PER_INCH
        if ax is not None:
            extent = one_axes(ax, type(self).__name__).get_window_extent()
            inches = extent.width / ax.figure.dpi * width / (width + _LEFT + right)
        foot = _paper._wrapped("; ".join([scale, *self.notes_]), inches)
        below = _BOTTOM + _LINE * (foot.count("\n") + 1)
        total = width + _LEFT + right, sum(heights) + _TOP + below
        if ax is None:
            import matplotlib.pyplot as plt

            figure = plt.figure(figsize=(total[0] / _paper.MM_PER_INCH, total[1] / _paper.MM_PER_INCH))
            ax = figure.add_axes((0, 0, 1, 1))
        self.page_ = page = ax
        page.set_axis_off()
        page.set(xlim=(-_LEFT, width + right), ylim=(-below, sum(heights) + _TOP))
        page.set_aspect(1, adjustable="box")
        bottoms = sum(heights) - np.cumsum(heights)
        self.axes_ = np.empty(len(self.panels_), dtype=object)
        for i, (first, length) in enumerate(times):
            strip = i == len(STANDARD_LEADS)
            row, left = (_ROWS, 0.0) if strip else (i % _ROWS, (i // _ROWS) * _SECTION * _paper.MM_PER_S)
            place = (left, bottoms[row], length * _paper.MM_PER_S, heights[row])
            panel = self.axes_[i] = page.inset_axes(place, transform=page.transData)
            _paper.draw_paper(panel, first, first + length, *limits[i])
        for row, i in enumerate(rows):
            zero = bottoms[row] - limits[i][0] * _paper.MM_PER_MV
            self._calibrate(page, zero if self.unit == "mV" else None)
        self.ax_, self.figure_ = self.axes_[0], page.figure
        self._bar = None
        if colorbar:
            tall = min(_BAR_HEIGHT, sum(heights))
            place = (width + 4, sum(heights) - tall, _BAR_WIDTH, tall)
            self._bar = page.inset_axes(place, transform=page.transData)
        # so many points from the paper, at any size
        offset = {"textcoords": "offset points", "annotation_clip": False}
        page.annotate(self._title(), (0, sum(heights)), (0, 5), fontsize=11, fontweight="bold", va="bottom", **offset)
        page.annotate(foot, (0, 0), (0, -18), fontsize=8, color="dimgray", va="top", **offset)
        self._write_times()

    @staticmethod
    def _calibrate(page: Any, zero: float | None) -> None:
        """Draw the pulse of 1 mV and 0.2 s before a row whose zero lies at this height, mm."""
        if zero is not None:
            up = zero + _paper.MM_PER_MV
            page.plot((-9, -7.5, -7.5, -2.5, -2.5, -1), (zero, zero, up, up, zero, zero), color="black", linewidth=0.7)

    def _write_times(self) -> None:
        """Write whole seconds under the lowest panels."""
        strip = len(self.panels_) > len(STANDARD_LEADS)
        lowest = self.axes_[-1:] if strip else self.axes_[_ROWS - 1 :: _ROWS]
        for panel in self.axes_:
            panel.set(xticks=[], yticks=[], facecolor="none")
            for spine in panel.spines.values():
                spine.set_visible(False)
        for number, panel in enumerate(lowest):
            first, last = panel.get_xlim()
            # where columns meet, the label of the next one stands
            inside = 0.0 if strip or number == len(lowest) - 1 else 0.6
            ticks = _paper._multiples(1.0, first, last - inside)
            panel.set_xticks(ticks, [f"{tick:g} s" for tick in ticks])
            panel.tick_params(labelsize=8, length=2, color=_paper.BOLD_COLOR)

    def _draw_panels(
        self, scaled: np.ma.MaskedArray, mappable: Any, sections: list[slice], times: list, width: float
    ) -> None:
        self.lines_ = []
        for i, (panel, name, section) in enumerate(zip(self.axes_, self.panels_, sections, strict=True)):
            if _ROWS <= i < len(STANDARD_LEADS):  # a stroke where the lead changes
                low, high = panel.get_ylim()
                middle = 0.0 if low < 0 < high else (low + high) / 2
                panel.plot((times[i][0],) * 2, (middle - 0.3, middle + 0.3), color="black", linewidth=0.8)
            if name not in self._position:
                _paper.name_panel(panel, f"{name} (missing)")
                self.lines_.append(None)
                continue
            lead = self._position[name]
            seconds = np.arange(section.start, section.stop) / self.fs
            marker = make_marker(seconds, self.ecg[lead, section], scaled[lead, section], self.fs)
            marker.set(cmap=mappable.cmap, norm=mappable.norm, linewidth=width)
            self.lines_.append(panel.add_collection(marker, autolim=False))
            draw_trace(panel, seconds, self.ecg[lead, section], 0.7)
            if self.truth is not None:
                draw_truth(panel, seconds, self.truth[lead, section])
            _paper.name_panel(panel, name)
