"""Accuracy and relevance over the epochs of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_STYLE = {
    "accuracy": ("accuracy", "black", "o"),
    "rank_correlation": ("rank correlation with the last epoch's relevance", "#3b6fb6", "s"),
    "share": ("share of relevance where the evidence is expected", "#b2182b", "^"),
}


class EpochsDisplay:
    """Three curves over the epochs: accuracy, agreement of the relevance with the last epoch's, share in the region.

    The band of a curve over windows is the middle half of them. The chance level of the share is a dotted line.

    Parameters
    ----------
    curves : Bunch
        What :func:`~skecg.explain.relevance_over_epochs` returned.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Drawn upon.
    figure_ : matplotlib Figure
        Its figure.
    lines_ : dict of str to Line2D
        The curves.

    See Also
    --------
    skecg.explain.relevance_over_epochs : Computes the curves.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.utils import Bunch
    >>> from skecg.plotting import EpochsDisplay
    >>> curves = Bunch(epochs=np.array([1, 2]), accuracy=np.array([0.6, 0.9]), rank_correlation=np.array([0.4, 1.0]))
    >>> sorted(EpochsDisplay.from_curves(curves).lines_)
    ['accuracy', 'rank_correlation']
    """

    def __init__(self, curves: Mapping[str, Any]) -> None:
        if lacking := {"epochs", "accuracy", "rank_correlation"} - set(curves):
            raise ValueError(f"curves lacks {sorted(lacking)}: pass what relevance_over_epochs returns")
        self.curves = curves

    @classmethod
    def from_curves(cls, curves: Mapping[str, Any], *, ax: Any = None, title: str = "") -> EpochsDisplay:
        """Make a display and draw it.

        Parameters
        ----------
        curves : Bunch
            What :func:`~skecg.explain.relevance_over_epochs` returned.
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.
        title : str, default=""
            Over the axes.

        Returns
        -------
        display : EpochsDisplay
            Drawn.
        """
        return cls(curves).plot(ax=ax, title=title)

    def plot(self, *, ax: Any = None, title: str = "") -> EpochsDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.
        title : str, default=""
            Over the axes.

        Returns
        -------
        display : EpochsDisplay
            Itself.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
        epochs, self.lines_ = np.asarray(self.curves["epochs"]), {}
        for name, (label, color, marker) in _STYLE.items():
            if name not in self.curves:
                continue
            (line,) = ax.plot(epochs, self.curves[name], color=color, marker=marker, markersize=4, label=label)
            self.lines_[name] = line
            windows = self.curves.get(f"{name}_by_window")
            if windows is not None and np.isfinite(windows).any(1).all():
                low, high = np.nanpercentile(windows, (25, 75), axis=1)
                ax.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
        if "chance" in self.curves:
            chance = self.curves["chance"]
            ax.axhline(chance, color=_STYLE["share"][1], linestyle=":", linewidth=1, label="share by chance")
        low = min(0.0, *(float(np.nanmin(line.get_ydata())) for line in self.lines_.values()))
        ax.set(xlabel="epoch", ylim=(low - 0.02 if low < 0 else 0, 1.02), title=title)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8, frameon=False, loc="best")
        self.ax_, self.figure_ = ax, ax.figure
        return self
