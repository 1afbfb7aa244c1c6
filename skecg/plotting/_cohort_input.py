"""What the displays of a cohort share: the class and its control, stars of tests, colours, places for panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils._validation import check_option

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Purple and grey differ in hue and in lightness for every reader, and are no colours of the relevance itself.
CLASS_COLOR, CONTROL_COLOR = "#7b3294", "#808080"
_LEVELS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
_QUANTITY = {
    "mean": "mean relevance",
    "abs_mean": "mean absolute relevance",
    "positive_mean": "mean positive relevance",
    "negative_mean": "mean negative relevance",
}


def check_aggregator(aggregator: Any, by: Sequence[str], display: str) -> None:
    """Raise where this is no aggregator, or one by something else than the display draws."""
    if not hasattr(aggregator, "by") or not hasattr(aggregator, "get_feature_names_out"):
        raise TypeError(f"{display} draws a fitted RelevanceAggregator; got {type(aggregator).__name__}")
    if aggregator.by not in by:
        raise ValueError(
            f"{display} draws relevance by {' or '.join(by)}; this aggregator has by={aggregator.by!r}: fit one with "
            f"by={by[0]!r}"
        )


def class_position(aggregator: Any, label: Any) -> int:
    """Return where a label stands among the classes; None takes the one class that is not the control."""
    classes = aggregator.classes_.tolist()
    if label is None:
        others = [one for one in classes if one != aggregator.control]
        if len(others) != 1:
            raise ValueError(f"label must say which of the classes {classes} is drawn; got None")
        return classes.index(others[0])
    return classes.index(check_option("label", getattr(label, "tolist", lambda: label)(), classes))


def control_position(aggregator: Any, position: int) -> int | None:
    """Return where the control stands, None without one or where it is the class itself."""
    if aggregator.control is None:
        return None
    control = aggregator.classes_.tolist().index(aggregator.control)
    return None if control == position else control


def quantity_of(aggregator: Any) -> str:
    """Return what an aggregator averages, for an axis."""
    quantity = _QUANTITY[aggregator.statistic]
    return quantity.replace("mean", "share of", 1) if aggregator.share else quantity


def note_of_tests(aggregator: Any) -> str:
    """Return how the p values came about, for a legend."""
    side = "two-sided" if aggregator.alternative == "two-sided" else f"one-sided ({aggregator.alternative})"
    correction = "Holm" if aggregator.correction == "holm" else "not corrected"
    return f"against {aggregator.control}, rank-sum test, {side}, {correction}"


def stars(p_value: float) -> str:
    """Return the stars of a p value: below .05 one, .01 two, .001 three; none for NaN."""
    return next((mark for level, mark in _LEVELS if p_value < level), "")


def star_legend(note: str | None) -> str:
    """Return what the stars mean."""
    return "* p < .05, ** p < .01, *** p < .001" + (f", {note}" if note else "")


def patients(counts: Any) -> str:
    """Return a number of patients, or its range where the columns differ."""
    counts = np.ravel(counts)
    low, high = int(counts.min()), int(counts.max())
    number = f"{low}" if low == high else f"{low} to {high}"
    return f"{number} patient{'' if number == '1' else 's'}"


def split_columns(names: Sequence[str], parts: Sequence[str]) -> list[tuple[str, str]]:
    """Split names of columns, "lead part" or the part alone, into (lead, part); ValueError for any other."""
    found = []
    for name in names:
        part = next((p for p in sorted(parts, key=len, reverse=True) if name == p or name.endswith(f" {p}")), None)
        if part is None:
            raise ValueError(f"column {name!r} must end in one of {', '.join(parts)}")
        found.append((name[: -len(part)].rstrip(), part))
    return found


def distinct(values: Sequence[Any]) -> list[Any]:
    """Return the different values in the order in which they first appear."""
    return list(dict.fromkeys(values))


def table_of(values: Any, name: str, shape: tuple[int, ...], axes: str) -> np.ndarray:
    """Return real numbers of a known shape as float64."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers; got dtype {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {axes}, here {shape}; got {array.shape}")
    return array.astype(np.float64)


def one_axes(ax: Any, display: str) -> Axes:
    """Return a matplotlib axes, or say what came instead."""
    if not hasattr(ax, "add_collection"):
        raise TypeError(f"{display} draws on one matplotlib Axes; got {type(ax).__name__}")
    return ax


def nested(ax: Axes, rows: int, columns: int, **spacing: Any) -> list[list[Axes]]:
    """Put rows x columns of panels in the place of an axes, which stays as an invisible frame."""
    from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec

    spec = ax.get_subplotspec()
    if spec is None:  # an axes put somewhere by hand
        place = ax.get_position()
        sides = {"left": place.x0, "right": place.x1, "bottom": place.y0, "top": place.y1}
        grid = GridSpec(rows, columns, figure=ax.figure, **sides, **spacing)
    else:
        grid = GridSpecFromSubplotSpec(rows, columns, subplot_spec=spec, **spacing)
    ax.set_axis_off()
    return [[ax.figure.add_subplot(grid[row, column]) for column in range(columns)] for row in range(rows)]
