"""Relevance of records against their probability, by outcome of the classification."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..utils._validation import check_number
from ._cohort_input import one_axes

# Marker and colour of each outcome, safe for colour-blind readers; right ones are full, false ones are open. The false
# ones are few and are drawn last, on top.
_STYLE = {
    "TN": ("s", "#808080"),
    "TP": ("o", "#0072b2"),
    "FP": ("^", "#d55e00"),
    "FN": ("v", "#000000"),
}
_NAMES = {"TP": "true positive", "FP": "false positive", "TN": "true negative", "FN": "false negative"}
_MANY = 2000  # points up to which matplotlib looks for the best place of the legend


class ProbabilityDisplay:
    """Relevance of records against the probability of the label, by outcome, with the threshold.

    One point a record: its relevance (such as the mean over samples and leads) against the probability that the
    network gives to the label, marked as a true or false positive or negative. Spearman's rank correlation is written
    into the legend, as what it is: for a method that conserves the score, such as integrated gradients [1]_, the mean
    relevance of a record *is* the score less the baseline's, divided by the number of samples, so that relevance must
    rise with probability. A correlation below one then measures how far the method is from completeness. It is no
    finding about the network.

    Use :meth:`from_relevance` to make one and draw it; :meth:`plot` draws it again.

    Parameters
    ----------
    relevance : array-like of shape (n_records,)
        One value a record, for the label. Records without a finite value are left out and counted.
    probability : array-like of shape (n_records,)
        Probability of the label, 0 to 1.
    y_true : array-like of shape (n_records,), bool or 0 and 1
        Whether the record has the label.
    threshold : float, default=0.5
        Probability above which the label is predicted.
    label : str, default=None
        The label, for the axes.
    quantity : str, default="mean relevance"
        What the values are, for the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Drawn upon.
    figure_ : matplotlib Figure
        Its figure.
    points_ : dict of str to PathCollection
        The points of each outcome: "TP", "FP", "TN", "FN".
    outcome_ : ndarray of str, shape (n_records,)
        The outcome of each record, "" for those left out.
    counts_ : dict of str to int
        Records of each outcome.
    spearman_ : float
        Spearman's rank correlation of relevance and probability; NaN where either does not vary.
    threshold_line_ : Line2D
        The threshold.

    See Also
    --------
    CohortDisplay : Relevance of classes by lead.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly, Q. Yan, "Axiomatic attribution for deep networks", ICML, 2017.

    Examples
    --------
    >>> from skecg.plotting import ProbabilityDisplay
    >>> display = ProbabilityDisplay.from_relevance(
    ...     [-1.0, 0.1, 0.2, 2.0], [0.1, 0.3, 0.6, 0.9], [False, True, False, True], label="AF"
    ... )
    >>> display.counts_
    {'TP': 1, 'FP': 1, 'TN': 1, 'FN': 1}
    >>> round(display.spearman_, 6)
    1.0
    """

    def __init__(
        self,
        relevance: ArrayLike,
        probability: ArrayLike,
        y_true: ArrayLike,
        *,
        threshold: float = 0.5,
        label: str | None = None,
        quantity: str = "mean relevance",
    ) -> None:
        self.relevance = _one_a_record("relevance", relevance)
        self.probability = _one_a_record("probability", probability)
        truth = np.asarray(y_true)
        for name, values in (("probability", self.probability), ("y_true", truth)):
            if values.shape != self.relevance.shape:
                raise ValueError(
                    f"{name} must be one value a record, shape {self.relevance.shape} as relevance; got {values.shape}"
                )
        known = self.probability[np.isfinite(self.probability)]
        if len(known) and (known.min() < 0 or known.max() > 1):
            raise ValueError(
                f"probability must lie between 0 and 1; got {known.min():g} to {known.max():g}: pass a column of "
                "predict_proba, not logits"
            )
        if truth.dtype.kind not in "biuf" or not np.isin(truth, (0, 1)).all():
            raise ValueError("y_true must say whether each record has the label: bool or 0 and 1, e.g. y == 'AF'")
        self.y_true = truth.astype(bool)
        self.threshold = check_number("threshold", threshold, low=0, high=1)
        self.label = label
        self.quantity = quantity

    @classmethod
    def from_relevance(
        cls,
        relevance: ArrayLike,
        probability: ArrayLike,
        y_true: ArrayLike,
        *,
        threshold: float = 0.5,
        label: str | None = None,
        quantity: str = "mean relevance",
        ax: Any = None,
    ) -> ProbabilityDisplay:
        """Make a display and draw it.

        Parameters
        ----------
        relevance : array-like of shape (n_records,)
            One value a record, for the label.
        probability : array-like of shape (n_records,)
            Probability of the label, 0 to 1.
        y_true : array-like of shape (n_records,), bool or 0 and 1
            Whether the record has the label.
        threshold : float, default=0.5
            Probability above which the label is predicted.
        label : str, default=None
            The label, for the axes.
        quantity : str, default="mean relevance"
            What the values are, for the axis.
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.

        Returns
        -------
        display : ProbabilityDisplay
            Drawn.

        Raises
        ------
        ValueError
            For arrays that do not fit together, probabilities outside 0 to 1, or a y_true that is not binary.
        """
        display = cls(relevance, probability, y_true, threshold=threshold, label=label, quantity=quantity)
        return display.plot(ax)

    def plot(self, ax: Any = None) -> ProbabilityDisplay:
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.

        Returns
        -------
        display : ProbabilityDisplay
            Itself.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
        ax = one_axes(ax, type(self).__name__)
        used = np.isfinite(self.relevance) & np.isfinite(self.probability)
        predicted = self.probability > self.threshold
        first = np.where(predicted == self.y_true, "T", "F")
        self.outcome_ = np.where(used, np.char.add(first, np.where(predicted, "P", "N")), "")
        self.counts_ = {name: int((self.outcome_ == name).sum()) for name in _NAMES}
        self.spearman_ = _spearman(self.relevance[used], self.probability[used])
        ax.axhline(0, color="#b0b0b0", linewidth=0.8, zorder=1)
        style = {"color": "black", "linewidth": 1, "linestyle": "--", "zorder": 1.5}
        self.threshold_line_ = ax.axvline(self.threshold, **style, label=f"threshold {self.threshold:.3g}")
        self.points_ = {}
        for z, (name, (marker, color)) in enumerate(_STYLE.items()):
            here = self.outcome_ == name
            self.points_[name] = ax.scatter(
                self.probability[here],
                self.relevance[here],
                s=26,
                marker=marker,
                facecolors=color if name[0] == "T" else "none",
                edgecolors=color,
                linewidths=0.9,
                alpha=0.65 if name[0] == "T" else 1.0,
                label=f"{_NAMES[name]} ({self.counts_[name]})",
                zorder=2 + z / 10,
            )
        of = "" if self.label is None else f" of {self.label}"
        ax.set(xlabel=f"probability{of}", ylabel=self.quantity if not of else f"{self.quantity} for {self.label}")
        ax.set_xlim(-0.03, 1.03)
        ax.ticklabel_format(axis="y", scilimits=(-3, 4))
        self._draw_legend(ax, int(used.sum()))
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_legend(self, ax: Any, n_used: int) -> None:
        rho = "undefined" if np.isnan(self.spearman_) else f"{self.spearman_:.3f}"
        lines = [f"Spearman's rho {rho}, {n_used} record{'' if n_used == 1 else 's'}"]
        lines += ["a check of completeness where", "relevance sums to the score"]
        if n_used < len(self.relevance):
            lines.append(f"{len(self.relevance) - n_used} left out: not finite")
        handles = [*(self.points_[name] for name in _NAMES), self.threshold_line_]
        place = "best" if len(self.relevance) <= _MANY else "upper left"
        style = {"fontsize": 8, "title_fontsize": 8, "framealpha": 0.85, "alignment": "left"}
        ax.legend(handles=handles, title="\n".join(lines), loc=place, **style)


def _one_a_record(name: str, values: ArrayLike) -> np.ndarray:
    """Return one real number a record as float64."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers; got dtype {array.dtype}")
    if array.ndim != 1 or not len(array):
        hint = ": pass one value a record, e.g. R.mean(axis=(1, 2))" if array.ndim > 1 else ""
        raise ValueError(f"{name} must have shape (n_records,) with at least one record; got {array.shape}{hint}")
    return array.astype(np.float64)


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's rank correlation, NaN where one does not vary."""
    from scipy.stats import rankdata

    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
