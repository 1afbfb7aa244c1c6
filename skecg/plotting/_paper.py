"""ECG paper: the millimetre grid, the limits of a panel, and pages of several leads in true proportions."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MM_PER_S, MM_PER_MV = 25.0, 10.0
MM_PER_INCH = 25.4
# One small and one large square: 1 mm and 5 mm.
FINE, BOLD = (1 / MM_PER_S, 1 / MM_PER_MV), (5 / MM_PER_S, 5 / MM_PER_MV)
FINE_COLOR, BOLD_COLOR = "#f6dcd8", "#e9b7b0"
# A panel shows at least 2 mV, so that a flat line looks flat, and at most 10 mV, so that artefacts leave room for ECG.
_LEAST, _MOST = 2.0, 10.0
# mV; beyond it there is no ECG, and no integer for its squares.
_FARTHEST = 1e9
# Finer than this a printed grid is a tint: beyond 20 s or 20 mV only the large squares are drawn.
_MAX_LINES = 500
# Page, in inches: what the panels may take, and the margins around them for axes, title and colour bar.
_WIDTH, _HEIGHT, _MAX_ZOOM = 11.0, 9.0, 3.0
_LEAST_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM, _LINE = 4.5, 0.7, 1.0, 0.45, 0.5, 0.14
_COLUMN_GAP, _ROW_GAP, _BAR = 0.5, 0.1, 0.12


def draw_paper(ax: Axes, start: float, stop: float, low: float, high: float) -> None:
    """Draw the grid of ECG paper on an axes, and set its limits and its proportions.

    Lines stand at every 0.04 s and 0.1 mV (1 mm at 25 mm/s and 10 mm/mV) and, bolder, at every 0.2 s and 0.5 mV. They
    are lines, not ticks, so the tick labels stay free; the axes keep 25 mm/s and 10 mm/mV in one scale at any size.

    Parameters
    ----------
    ax : matplotlib Axes
        Drawn upon.
    start, stop : float
        Limits of the time axis, s.
    low, high : float
        Limits of the other axis, mV.
    """
    from matplotlib.collections import LineCollection

    for (dt, dv), color, width, z in ((FINE, FINE_COLOR, 0.4, 0.5), (BOLD, BOLD_COLOR, 0.7, 0.6)):
        times, volts = _multiples(dt, start, stop), _multiples(dv, low, high)
        if len(times) + len(volts) > _MAX_LINES:
            continue
        lines = [[(t, low), (t, high)] for t in times] + [[(start, v), (stop, v)] for v in volts]
        # autolim=False: the limits are set below, once
        ax.add_collection(LineCollection(lines, colors=color, linewidths=width, zorder=z), autolim=False)
    ax.set(xlim=(start, stop), ylim=(low, high))
    ax.set_aspect(MM_PER_MV / MM_PER_S, adjustable="box")


def _multiples(step: float, low: float, high: float) -> np.ndarray:
    """Return the multiples of step within [low, high], ends included whatever their rounding."""
    return np.arange(ceil(low / step - 1e-6), floor(high / step + 1e-6) + 1) * step


def time_limits(start: float, duration: float) -> tuple[float, float]:
    """Return start and stop (s) of a panel: the duration, up to the next large square."""
    return start, start + max(1, ceil(round(duration / BOLD[0], 6))) * BOLD[0]


def voltage_limits(ecg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of each lead's panel, mV, on large squares, and which leads do not fit.

    Parameters
    ----------
    ecg : ndarray of shape (n_leads, n_timesteps)
        What is shown, mV.

    Returns
    -------
    limits : ndarray of shape (n_leads, 2)
        Lower and upper limit; at least 2 mV and at most 10 mV apart.
    cut : ndarray of shape (n_leads,), bool
        Leads that go beyond that: their panel shows what lies between the 1st and 99th percentile, or, where this
        does not fit either, the surroundings of the median.
    """
    limits, cut = np.empty((len(ecg), 2)), np.zeros(len(ecg), dtype=bool)
    for i, lead in enumerate(ecg):
        values = np.clip(lead[np.isfinite(lead)].astype(np.float64), -_FARTHEST, _FARTHEST)
        least, most = (values.min(), values.max()) if len(values) else (0.0, 0.0)
        cut[i] = most - least > _MOST - 2 * BOLD[1]
        if cut[i]:
            least, most = np.percentile(values, (1, 99))
            if most - least > _MOST - 2 * BOLD[1]:
                least = most = np.median(values)
        low, high = floor((least - 0.1) / BOLD[1]), ceil((most + 0.1) / BOLD[1])  # in large squares
        limits[i] = _widened(low, high, round(_LEAST / BOLD[1]))
    return limits, cut


def _widened(low: int, high: int, span: int) -> tuple[float, float]:
    """Return limits in mV, at least span large squares apart, of limits in large squares."""
    more = max(0, span - (high - low))
    return (low - more // 2) * BOLD[1], (high + more - more // 2) * BOLD[1]


def n_columns(n_leads: int, duration: float) -> int:
    """Return the columns of a page: 4 (the usual 3 x 4) for short windows of many leads, 2 for medium ones, else 1."""
    if n_leads < 6 or duration > 5:
        return 1
    return 4 if duration <= 2.6 and n_leads >= 8 else 2


def panel_rows(limits: np.ndarray, columns: int) -> np.ndarray:
    """Give the panels of a row one height by widening the lower ones; return limits (n_leads, 2)."""
    rows = ceil(len(limits) / columns)
    squares = np.round(limits / BOLD[1]).astype(int)
    limits = limits.copy()
    for row in range(rows):
        members = range(row, len(limits), rows)  # leads run down the columns, as on a printed page
        span = max(int(np.ptp(squares[i])) for i in members)
        for i in members:
            limits[i] = _widened(*squares[i].tolist(), span)
    return limits


@dataclass
class Page:
    """The panels of a picture.

    Parameters
    ----------
    axes : list of Axes
        One a lead, down the columns.
    limits : ndarray of shape (n_leads, 2)
        Limits of each panel, mV.
    left, bottom : list of int
        Which panels stand at the left and at the bottom.
    bar : Axes or None
        For the colour bar; None where the panels give it room.
    foot : str
        Text for the foot, in lines that fit.
    """

    axes: list[Axes]
    limits: np.ndarray
    left: list[int]
    bottom: list[int]
    bar: Axes | None
    foot: str


def make_page(ax: Any, limits: np.ndarray, duration: float, foot: str, with_bar: bool) -> Page:
    """Return the panels for leads of these limits (mV) and duration (s).

    Parameters
    ----------
    ax : None, Axes or array-like of Axes
        None makes a figure with pyplot in the proportions of the paper, enlarged up to 3 times or reduced so that it
        fits a screen; one axes gives its place; several are taken as they are.
    limits : ndarray of shape (n_leads, 2)
        Limits of each lead, mV.
    duration : float
        Length of the time axis, s.
    foot : str
        Text that will stand at the foot.
    with_bar : bool
        Whether a colour bar will be drawn.

    Returns
    -------
    page : Page
        Panels without anything in them.
    """
    n_leads = len(limits)
    given = [] if ax is None else list(np.ravel(np.asarray(ax, dtype=object)))
    if not all(hasattr(one, "add_collection") for one in given):
        raise TypeError(f"ax must be a matplotlib Axes, or several, or None; got {ax!r}")
    if ax is not None and len(given) not in (1, n_leads):
        raise ValueError(f"ax holds {len(given)} axes; pass one, or one for each of the {n_leads} leads")
    if given:
        foot = _wrapped(foot, given[0].get_window_extent().width / given[0].figure.dpi)
    if len(given) == n_leads:
        return Page(given, limits, list(range(n_leads)), list(range(n_leads)), None, foot)
    columns = n_columns(n_leads, duration)
    rows = ceil(n_leads / columns)
    limits = panel_rows(limits, columns)
    heights = np.array([np.ptp(limits[row]) for row in range(rows)])
    places = [divmod(lead, rows) for lead in range(n_leads)]
    left = list(range(rows))
    bottom = [lead for lead in range(n_leads) if lead % rows == rows - 1 or lead == n_leads - 1]
    if given:
        return Page(_within(given[0], places, heights), limits, left, bottom, None, foot)
    axes, bar, foot = _new_figure(places, heights, duration, foot, with_bar)
    return Page(axes, limits, left, bottom, bar, foot)


def _new_figure(
    places: list[tuple[int, int]], heights: np.ndarray, duration: float, foot: str, with_bar: bool
) -> tuple[list[Axes], Axes | None, str]:
    """Return panels at their (column, row), the bar's axes and the foot of a figure that fits them."""
    import matplotlib.pyplot as plt

    columns = places[-1][0] + 1
    heights = heights * MM_PER_MV / MM_PER_INCH
    width = duration * MM_PER_S / MM_PER_INCH
    zoom = min(_WIDTH / (width * columns), _HEIGHT / heights.sum(), _MAX_ZOOM)
    width, heights = width * zoom, heights * zoom
    total_width = max(_LEAST_WIDTH, _LEFT + columns * width + (columns - 1) * _COLUMN_GAP + _RIGHT)
    foot = _wrapped(foot, total_width - _LEFT)
    tall = heights.sum() + (len(heights) - 1) * _ROW_GAP
    total_height = _TOP + tall + _BOTTOM + _LINE * (foot.count("\n") + 1)
    figure = plt.figure(figsize=(total_width, total_height))

    def add(left: float, top: float, width: float, height: float) -> Axes:
        bottom = total_height - top - height
        return figure.add_axes((left / total_width, bottom / total_height, width / total_width, height / total_height))

    tops = _TOP + np.concatenate([[0.0], np.cumsum(heights + _ROW_GAP)])
    axes = [add(_LEFT + column * (width + _COLUMN_GAP), tops[row], width, heights[row]) for column, row in places]
    right = _LEFT + columns * width + (columns - 1) * _COLUMN_GAP
    bar = add(right + 0.15, _TOP, _BAR, min(tall, 2.5)) if with_bar else None
    return axes, bar, foot


def _within(ax: Axes, places: list[tuple[int, int]], heights: np.ndarray) -> list[Axes]:
    """Put panels in the place of one axes, which stays as an invisible frame."""
    from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec

    shape = len(heights), places[-1][0] + 1
    spec = ax.get_subplotspec()
    if spec is None:  # an axes put somewhere by hand
        place = ax.get_position()
        sides = {"left": place.x0, "right": place.x1, "bottom": place.y0, "top": place.y1}
        grid = GridSpec(*shape, figure=ax.figure, height_ratios=heights, **sides)
    else:
        grid = GridSpecFromSubplotSpec(*shape, subplot_spec=spec, height_ratios=heights)
    ax.set_axis_off()
    return [ax.figure.add_subplot(grid[row, column]) for column, row in places]


def _wrapped(text: str, width: float) -> str:
    """Break a text into lines of at most so many inches, in the font of the foot."""
    return "\n".join(textwrap.wrap(text, max(20, int(width / 0.065))))


def points_per_mm(ax: Axes) -> float:
    """Return how many points a millimetre of paper takes on an axes as it is now."""
    ax.apply_aspect()
    inches = ax.get_window_extent().width / ax.figure.dpi
    return 72 * inches / (MM_PER_S * np.ptp(ax.get_xlim()))


def name_panel(ax: Axes, name: str) -> None:
    """Write the name of the lead in the upper left corner."""
    if name:
        box = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        _write(ax, name, (0, 1), (5, -4), fontsize=9, fontweight="bold", bbox=box, zorder=4)


def label_axes(page: Page, unit: str) -> None:
    """Put ticks in s and mV on large squares, as many as have room, and the units at the outer panels."""
    stacked = len(page.left) > 1
    for number, ax in enumerate(page.axes):
        size = points_per_mm(ax)
        (first, last), (low, high) = ax.get_xlim(), ax.get_ylim()
        dt = _tick_step((0.2, 1, 2, 5, 10, 20, 60, 300), 0.4 * 72 / (size * MM_PER_S))
        dv = _tick_step((0.5, 1, 2, 5), 0.22 * 72 / (size * MM_PER_MV))
        # Labels at the ends of panels that stand on each other would touch.
        inside = 0.2 if stacked else 0.0
        times, volts = _multiples(dt, first, last), _multiples(dv, low + inside, high - inside)
        ax.set_xticks(times, [f"{t:.1f}" if dt < 1 else f"{t:g}" for t in times])
        ax.set_yticks(volts, [f"{v:.1f}" if dv < 1 else f"{v:g}" for v in volts])
        ax.tick_params(labelsize=8, length=2, labelbottom=number in page.bottom)
        ax.set_facecolor("white")
        for spine in ax.spines.values():
            spine.set(color=BOLD_COLOR, linewidth=0.7)
        if number in page.bottom:
            ax.set_xlabel("time (s)", fontsize=9)
        if number in page.left:
            ax.set_ylabel(unit, fontsize=9)


def _tick_step(steps: tuple[float, ...], least: float) -> float:
    """Return the first step that is not closer than the labels need."""
    return next((step for step in steps if step >= least), steps[-1])


def title_page(page: Page, title: str) -> None:
    """Write the title over the first panel and the foot under the lowest on the left."""
    page.axes[0].set_title(title, loc="left", fontsize=11, fontweight="bold")
    _write(page.axes[page.bottom[0]], page.foot, (0, 0), (0, -34), fontsize=8, color="dimgray", annotation_clip=False)


def _write(ax: Axes, text: str, corner: tuple[int, int], offset: tuple[int, int], **style: Any) -> None:
    """Write a text at so many points from a corner of the axes."""
    ax.annotate(text, corner, offset, xycoords="axes fraction", textcoords="offset points", va="top", **style)
