"""Deletion and insertion curves of an explanation, beside random orders and the order of abs(x)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..metrics import bootstrap_score
from ._cohort_input import one_axes

# Order, name in the legend, colour safe for colour-blind readers, line.
_STYLE = {
    "most": ("most relevant first", "#d55e00", "-"),
    "least": ("least relevant first", "#0072b2", "-"),
    "random": ("random order", "#808080", "--"),
    "absolute": ("largest abs(x) first", "#000000", ":"),
}
_NEEDED = {"fraction", "curve", "output", "normalized", *_STYLE, *(f"area_{name}" for name in _STYLE)}


class PerturbationDisplay:
    """The mean score of the windows while chunks are deleted, or inserted, in four orders.

    The area between the curves of the least and the most relevant first is the degradation score. The legend tells the
    mean area under each curve, with its 95 % bootstrap interval over patients where there are ten or more.

    Use :meth:`from_curves` to make one and draw it; :meth:`plot` draws it again.

    Parameters
    ----------
    curves : Bunch
        What :func:`~skecg.metrics.perturbation_curves` returned.
    groups : array-like of shape (n_samples,), default=None
        The patient of each window, for the intervals; None draws none.
    normalized : bool, default=False
        Whether to draw the normalised curves, over the windows whose score drops; the legend then says how many do not.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Drawn upon.
    figure_ : matplotlib Figure
        Its figure.
    lines_ : dict of str to Line2D
        The curves: "most", "least", "random", "absolute".
    area_ : PolyCollection
        The area between the least and the most relevant first.
    scores_ : dict of str to Bunch
        The mean area under each curve and the mean "degradation", as :func:`~skecg.metrics.bootstrap_score` returns
        them; without ``groups`` each window stands for a patient and there is no interval.

    See Also
    --------
    skecg.metrics.perturbation_curves : Computes the curves.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skecg.metrics import perturbation_curves
    >>> from skecg.plotting import PerturbationDisplay
    >>> X, y = np.random.default_rng(0).normal(size=(60, 40)), np.arange(60) % 2
    >>> X[y == 1, 10:14] += 1.0
    >>> clf = LogisticRegression().fit(X, y)
    >>> curves = perturbation_curves(clf, X, clf.coef_ * X, target=1, fs=100.0, random_state=0)
    >>> display = PerturbationDisplay.from_curves(curves, groups=np.arange(60) % 20)
    >>> display.scores_["degradation"].method
    'bca'
    """

    def __init__(self, curves: Mapping[str, Any], *, groups: Any = None, normalized: bool = False) -> None:
        if not isinstance(curves, Mapping):
            raise TypeError(f"curves must be what perturbation_curves returns; got a {type(curves).__name__}")
        if lacking := _NEEDED - set(curves):
            raise ValueError(f"curves lacks {sorted(lacking)}: pass what perturbation_curves returns")
        n = len(curves["most"])
        if groups is not None and np.shape(groups) != (n,):
            raise ValueError(f"groups must be one patient a window, shape ({n},); got {np.shape(groups)}")
        if normalized and curves["normalized"]["n_left_out"] == n:
            raise ValueError(
                f"the score drops in none of the {n} windows, so that there are no normalised curves: draw the scores "
                "themselves, normalized=False"
            )
        self.curves = curves
        self.groups = groups
        self.normalized = normalized

    @classmethod
    def from_curves(
        cls, curves: Mapping[str, Any], *, groups: Any = None, normalized: bool = False, ax: Any = None, title: str = ""
    ) -> PerturbationDisplay:
        """Make a display and draw it.

        Parameters
        ----------
        curves : Bunch
            What :func:`~skecg.metrics.perturbation_curves` returned.
        groups : array-like of shape (n_samples,), default=None
            The patient of each window, for the intervals; None draws none.
        normalized : bool, default=False
            Whether to draw the normalised curves.
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.
        title : str, default=""
            Over the axes.

        Returns
        -------
        display : PerturbationDisplay
            Drawn.

        Raises
        ------
        ValueError
            For what is not the result of perturbation_curves, groups that do not fit it, or normalised curves where
            the score of no window drops.
        """
        return cls(curves, groups=groups, normalized=normalized).plot(ax=ax, title=title)

    def plot(self, *, ax: Any = None, title: str = "") -> PerturbationDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.
        title : str, default=""
            Over the axes.

        Returns
        -------
        display : PerturbationDisplay
            Itself.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
        ax = one_axes(ax, type(self).__name__)
        source = self.curves["normalized"] if self.normalized else self.curves
        groups = np.arange(len(source["most"])) if self.groups is None else self.groups
        fraction = 100 * np.asarray(self.curves["fraction"])
        self.lines_, self.scores_ = {}, {"degradation": bootstrap_score(source["degradation"], groups)}
        for z, (name, (label, color, line)) in enumerate(_STYLE.items()):
            self.scores_[name] = bootstrap_score(source[f"area_{name}"], groups)
            style = {"color": color, "linestyle": line, "linewidth": 1.6, "zorder": 3 - z / 10}
            (self.lines_[name],) = ax.plot(
                fraction,
                np.nanmean(source[name], axis=0),
                label=f"{label}: area {self._text(self.scores_[name])}",
                **style,
            )
        most, least = (self.lines_[name].get_ydata() for name in ("most", "least"))
        self.area_ = ax.fill_between(fraction, most, least, color="#56b4e9", alpha=0.15, linewidth=0, zorder=1)
        done = "deleted" if self.curves["curve"] == "deletion" else "inserted"
        score = "probability" if self.curves["output"] == "probability" else "logit"
        ax.set(xlabel=f"chunks {done} (%)", ylabel=f"{score} of the target{self._unit()}", title=title, xlim=(0, 100))
        if score == "probability" and not self.normalized:
            ax.set_ylim(-0.02, 1.02)
        ax.grid(alpha=0.3)
        lines = [f"degradation {self._text(self.scores_['degradation'])}", self._counts(source)]
        ax.legend(title="\n".join(lines), fontsize=8, title_fontsize=8, framealpha=0.85, alignment="left", loc="best")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _unit(self) -> str:
        return ", normalised" if self.normalized else ""

    def _counts(self, source: Mapping[str, Any]) -> str:
        """Say how many windows and patients the curves are made of."""
        score = self.scores_["degradation"]
        n = len(source["most"]) - score.n_left_out
        text = f"{n} window{'' if n == 1 else 's'}"
        if self.groups is not None:
            text += f" of {score.n_groups} patient{'' if score.n_groups == 1 else 's'}"
        return f"{text}, {score.n_left_out} left out" if score.n_left_out else text

    def _text(self, score: Mapping[str, Any]) -> str:
        """Return a mean with its interval, where there is one."""
        if self.groups is None or score["method"] == "none":
            return f"{score['value']:.2f}"
        return f"{score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f})"
