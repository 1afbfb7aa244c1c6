"""What lies on the paper: the trace, the marker under it that shows the relevance, and the bar of the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Colormap

# Both are safe for colour-blind readers; evidence for the label is red in both.
_SIGNED_MAP, _POSITIVE_MAP = "RdBu_r", "Reds"
# Their darkest ends are left out, where the black trace would vanish.
_DARKEST = 0.8
# Below this share of the largest relevance the marker is not drawn: the trace alone says "nothing here".
_FAINT = 0.02


def default_map(signed: bool) -> Colormap:
    """Return the colour map of relevance with or without a sign."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    ends = (0.5 - 0.5 * _DARKEST, 0.5 + 0.5 * _DARKEST) if signed else (0.0, _DARKEST)
    colours = colormaps[_SIGNED_MAP if signed else _POSITIVE_MAP](np.linspace(*ends, 257))
    return LinearSegmentedColormap.from_list("relevance", colours, N=257)


def draw_trace(ax: Axes, times: np.ndarray, ecg: np.ndarray, width: float) -> None:
    """Draw the ECG as a thin black line; a lone sample is a dot."""
    marker = "." if len(times) == 1 else None
    ax.plot(times, ecg, color="black", linewidth=width, marker=marker, zorder=3, scalex=False, scaley=False)


def make_marker(times: np.ndarray, ecg: np.ndarray, colours: np.ma.MaskedArray, fs: float) -> LineCollection:
    """Return one line a sample, from half-way to the sample before to half-way to the next, the faint ones left out."""
    from matplotlib.collections import LineCollection

    points = np.column_stack([times, ecg.astype(np.float64)])
    half = np.array([[0.5 / fs, 0.0]]) if len(points) == 1 else np.zeros((1, 2))  # a lone sample is a dash
    middles = np.concatenate([points[:1] - half, (points[1:] + points[:-1]) / 2, points[-1:] + half])
    paths = np.stack([middles[:-1], points, middles[1:]], axis=1)
    strength = np.abs(colours.filled(0))
    drawn = np.flatnonzero(strength >= _FAINT)
    drawn = drawn[np.argsort(strength[drawn], kind="stable")]  # the strongest on top
    lines = LineCollection(paths[drawn], zorder=2, capstyle="round", joinstyle="round")
    lines.set_array(colours.filled(0)[drawn])
    return lines


def draw_truth(ax: Axes, times: np.ndarray, truth: np.ndarray) -> None:
    """Draw a bar at the foot of the panel where the truth is."""
    step = times[1] - times[0] if len(times) > 1 else 0.0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], truth.astype(int), [0]])))
    for on, off in edges.reshape(-1, 2):
        ends = times[on] - step / 2, times[off - 1] + step / 2
        # the frame cuts off the lower half
        (bar,) = ax.plot(ends, (0, 0), color="black", linewidth=8, solid_capstyle="butt", zorder=2.5)
        bar.set_transform(ax.get_xaxis_transform())
