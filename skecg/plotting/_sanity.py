"""Sanity of explanations: curves by depth of randomised weights, bars of trainings, agreement of explainers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..utils._validation import check_option
from ._cohort_input import one_axes

# Wong's colours, which colour-blind readers tell apart, with markers of their own.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = "osD^vPX"
_NEEDED = {
    "depths": ("weight_randomisation", ("depths", "floor")),
    "labels": ("label_randomisation", ("permuted_score", "floor")),
    "seeds": ("seed_consistency", ("pairs",)),
    "agreement": ("explainer_agreement", ("names",)),
}
_MEASURES = ("absolute", "signed")


class SanityDisplay:
    """Rank correlations of explanations with those that should differ, or agree, beside what chance alone gives.

    Use one of the four class methods to make a display and draw it; :meth:`plot` draws it again. All but
    :meth:`from_agreement` take one result or a dict from names of explainers to results.

    Parameters
    ----------
    results : dict of str to Bunch
        What a function of :mod:`skecg.explain` returned, by the name of the explainer.
    kind : {"depths", "labels", "seeds", "agreement"}
        Which function: :func:`~skecg.explain.weight_randomisation`, :func:`~skecg.explain.label_randomisation`,
        :func:`~skecg.explain.seed_consistency` or :func:`~skecg.explain.explainer_agreement`.
    measure : {"absolute", "signed"}, default="absolute"
        Whether the absolute relevance is correlated, or the relevance with its sign.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Drawn upon.
    figure_ : matplotlib Figure
        Its figure.
    lines_ : dict of str to Line2D
        The curve of each explainer, by depth; for labels and seeds the mean of its bars.
    floors_ : dict of str to Line2D
        The mean floor of each explainer: the correlation between two random networks.
    bars_ : dict of str to BarContainer
        For labels and seeds: one bar a permutation, or a pair of seeds.
    image_ : AxesImage
        For the agreement: the matrix.

    See Also
    --------
    skecg.explain.weight_randomisation : Depth by depth.
    skecg.explain.explainer_agreement : The matrix.

    Examples
    --------
    >>> from skecg import ECGClassifier, InputXGradient, Saliency
    >>> from skecg.datasets import make_ecg
    >>> from skecg.explain import explainer_agreement
    >>> from skecg.plotting import SanityDisplay
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> result = explainer_agreement({"gradient": Saliency(clf), "times input": InputXGradient(clf)}, ecg.data[:8])
    >>> SanityDisplay.from_agreement(result).image_.get_array().shape
    (2, 2)
    """

    def __init__(self, results: Mapping[str, Mapping[str, Any]], kind: str, *, measure: str = "absolute") -> None:
        self.kind = check_option("kind", kind, _NEEDED)
        self.measure = check_option("measure", measure, _MEASURES)
        function, fields = _NEEDED[kind]
        needed = {f"{field}_{measure}" if field == "floor" else field for field in (*fields, measure)}
        if not isinstance(results, Mapping) or not results:
            raise ValueError(f"results must be what {function} returned, or a dict of such; got {results!r}")
        for name, result in results.items():
            if not isinstance(result, Mapping) or needed - set(result):
                named = f"the result {name!r}" if name else "the result"
                lacks = sorted(needed - set(result)) if isinstance(result, Mapping) else None
                said = f"is a {type(result).__name__}" if lacks is None else f"lacks {lacks}"
                raise ValueError(f"{named} {said}: pass what {function} returns")
        if kind == "depths" and len({tuple(result["depths"]) for result in results.values()}) > 1:
            raise ValueError("the results have other depths: compare explainers of one network, with the same depths")
        self.results = dict(results)

    @classmethod
    def from_weight_randomisation(
        cls, results: Mapping[str, Any], *, measure: str = "absolute", ax: Any = None
    ) -> SanityDisplay:
        """Draw a curve over the depth of random weights, with the floor as a band.

        The band is the middle half of the floor's windows, its line their mean; curves have such bands too, where one
        explainer is drawn.

        Parameters
        ----------
        results : Bunch, or dict of str to Bunch
            What :func:`~skecg.explain.weight_randomisation` returned, of one explainer or of several by name.
        measure : {"absolute", "signed"}, default="absolute"
            Whether the absolute relevance is correlated, or the relevance with its sign.
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.

        Returns
        -------
        display : SanityDisplay
            Drawn.
        """
        return cls(_named(results, measure), "depths", measure=measure).plot(ax)

    @classmethod
    def from_label_randomisation(
        cls, results: Mapping[str, Any], *, measure: str = "absolute", ax: Any = None
    ) -> SanityDisplay:
        """Draw a bar for each network that learned permuted labels, with the floor as a line and a band.

        Parameters
        ----------
        results : Bunch, or dict of str to Bunch
            What :func:`~skecg.explain.label_randomisation` returned, of one explainer or of several by name.
        measure : {"absolute", "signed"}, default="absolute"
            Whether the absolute relevance is correlated, or the relevance with its sign.
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.

        Returns
        -------
        display : SanityDisplay
            Drawn.
        """
        return cls(_named(results, measure), "labels", measure=measure).plot(ax)

    @classmethod
    def from_seeds(cls, results: Mapping[str, Any], *, measure: str = "absolute", ax: Any = None) -> SanityDisplay:
        """Draw a bar for each pair of seeds.

        Parameters
        ----------
        results : Bunch, or dict of str to Bunch
            What :func:`~skecg.explain.seed_consistency` returned, of one explainer or of several by name.
        measure : {"absolute", "signed"}, default="absolute"
            Whether the absolute relevance is correlated, or the relevance with its sign.
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.

        Returns
        -------
        display : SanityDisplay
            Drawn.
        """
        return cls(_named(results, measure), "seeds", measure=measure).plot(ax)

    @classmethod
    def from_agreement(cls, result: Mapping[str, Any], *, measure: str = "absolute", ax: Any = None) -> SanityDisplay:
        """Draw the matrix of correlations between explainers, with its numbers.

        Parameters
        ----------
        result : Bunch
            What :func:`~skecg.explain.explainer_agreement` returned.
        measure : {"absolute", "signed"}, default="absolute"
            Whether the absolute relevance is correlated, or the relevance with its sign.
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.

        Returns
        -------
        display : SanityDisplay
            Drawn.
        """
        return cls({"": result}, "agreement", measure=measure).plot(ax)

    def plot(self, ax: Any = None) -> SanityDisplay:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Drawn upon; None makes a figure.

        Returns
        -------
        display : SanityDisplay
            Itself.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            wide = 5.5 if self.kind == "agreement" else 7
            _, ax = plt.subplots(figsize=(wide, 4.5), layout="constrained")
        ax = one_axes(ax, type(self).__name__)
        self.lines_, self.floors_, self.bars_ = {}, {}, {}
        draw = {"depths": self._draw_depths, "agreement": self._draw_agreement}
        draw.get(self.kind, self._draw_bars)(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_depths(self, ax: Any) -> None:
        depths = next(iter(self.results.values()))["depths"]
        place = np.arange(1, len(depths) + 1)
        for i, (name, result) in enumerate(self.results.items()):
            color, label = _COLORS[i % len(_COLORS)], name or "trained and random weights"
            if "passes" in result:
                label += "" if result["passes"] else " (fails)"
            style = {"color": color, "marker": _MARKERS[i % len(_MARKERS)], "markersize": 4}
            (self.lines_[name],) = ax.plot(place, _means(result[self.measure]), **style, label=label)
            if len(self.results) == 1:
                self._band(ax, place, result[self.measure], color)
            floor = np.ravel(result[f"floor_{self.measure}"])
            self._floor(ax, name, floor, (0.5, len(depths) + 0.5), color)
        cascading = all(result.get("mode", "cascading") == "cascading" for result in self.results.values())
        what = "layers with random weights, from the head down to" if cascading else "the layer with random weights"
        shown = range(0, len(depths), -(-len(depths) // 40))  # more names than that are not readable
        ax.set_xticks(place[shown], [depths[k] for k in shown], rotation=45, ha="right", fontsize=7)
        ax.set(xlabel=what, xlim=(0.5, len(depths) + 0.5))
        self._finish(ax, "floor: two random networks")

    def _draw_bars(self, ax: Any) -> None:
        for i, (name, result) in enumerate(self.results.items()):
            color, values = _COLORS[i % len(_COLORS)], _means(result[self.measure])
            width = 0.8 / len(values)
            place = i + (np.arange(len(values)) - (len(values) - 1) / 2) * width
            self.bars_[name] = ax.bar(place, values, width * 0.9, color=color, alpha=0.55, zorder=2)
            ends = (i - 0.42, i + 0.42)
            (self.lines_[name],) = ax.plot(
                ends, [_mean(values)] * 2, color="black", linewidth=1.5, label="_" if i else "mean of the bars"
            )
            if self.kind == "labels":
                floor = np.ravel(result[f"floor_{self.measure}"])
                self._floor(ax, name, floor, ends, "#606060")
        ax.axhline(0, color="#b0b0b0", linewidth=0.8, zorder=1)
        names = [self._note(name, result) for name, result in self.results.items()]
        ax.set_xticks(range(len(names)), names, fontsize=8)
        ax.set_xlim(-0.6, len(names) - 0.4)
        labels = self.kind == "labels"
        ax.set_xlabel("a bar: a permutation of the labels" if labels else "a bar: a pair of seeds")
        self._finish(ax, "floor: two permutations" if labels else "")

    def _note(self, name: str, result: Mapping[str, Any]) -> str:
        """Return what stands under a group of bars: for permuted labels, how well they were learned."""
        if self.kind != "labels":
            return name
        learned = _mean(np.asarray(result["permuted_score"]))
        return f"{name}\nlearned {learned:.2f}\nchance {result.get('chance', np.nan):.2f}".strip()

    def _floor(self, ax: Any, name: str, floor: np.ndarray, ends: tuple, color: str) -> None:
        (self.floors_[name],) = ax.plot(ends, [_mean(floor)] * 2, color=color, linestyle="--", linewidth=1, label="_")
        known = floor[np.isfinite(floor)]
        if len(known):
            ax.fill_between(ends, *np.percentile(known, (25, 75)), color=color, alpha=0.12, linewidth=0)

    def _band(self, ax: Any, place: np.ndarray, values: Any, color: str) -> None:
        known = [row[np.isfinite(row)] for row in np.asarray(values)]
        if all(map(len, known)):
            low, high = np.array([np.percentile(row, (25, 75)) for row in known]).T
            ax.fill_between(place, low, high, color=color, alpha=0.2, linewidth=0)

    def _finish(self, ax: Any, floor: str = "") -> None:
        low = min(0.0, ax.dataLim.y0)
        ax.set_ylim(low - 0.05 if low < 0 else 0, 1.03)
        ax.set_ylabel(f"rank correlation, {_words(self.measure)}")
        ax.grid(axis="y", alpha=0.3)
        handles, labels = ax.get_legend_handles_labels()
        if floor:  # dashed in the colour of each explainer, so grey stands for all
            handles += ax.plot([], [], color="#606060", linestyle="--", linewidth=1)
            labels.append(floor)
        ax.legend(handles, labels, fontsize=8, framealpha=0.9, loc="best")

    def _draw_agreement(self, ax: Any) -> None:
        (result,) = self.results.values()
        matrix, names = _means(result[self.measure]), result["names"]
        self.image_ = ax.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        for (i, j), value in np.ndenumerate(matrix):
            text = "-" if np.isnan(value) else f"{value:.2f}"
            ax.text(j, i, text, ha="center", va="center", color="white" if abs(value) > 0.6 else "black", fontsize=8)
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.figure.colorbar(self.image_, ax=ax, label=f"mean rank correlation, {_words(self.measure)}")


def _named(results: Any, measure: str) -> Any:
    """Return results by name: one result is a mapping too."""
    if isinstance(results, Mapping) and {"target", measure} & set(results):
        return {"": results}
    return results


def _words(measure: str) -> str:
    return "absolute relevance" if measure == "absolute" else "relevance with its sign"


def _means(values: Any) -> np.ndarray:
    """Return the means over windows of what is not NaN."""
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values).sum(-1)
    return np.where(known, np.nansum(values, axis=-1) / np.maximum(known, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    return float(_means(np.ravel(values)))
