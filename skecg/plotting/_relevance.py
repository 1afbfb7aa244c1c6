"""An ECG on ECG paper, coloured by the relevance of its samples."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils._validation import check_fs, check_number, check_option, find_fs
from . import _paper
from ._trace import default_map, draw_trace, draw_truth, make_marker

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

# Width of the marker, points, at the least and at the most.
_MARKER = 3.0, 6.0
# More leads than this, and more than time steps, are time steps.
_MAX_LEADS = 32


class RelevanceDisplay:
    """An ECG on ECG paper, coloured by relevance.

    The trace is drawn in black at 25 mm/s and 10 mm/mV, one panel a lead, over a marker whose colour is the relevance:
    red speaks for the label, blue against it, nothing is drawn where there is none. All panels share one scale, which
    is symmetric about zero where the relevance has a sign. It is the largest absolute value of the window, for this
    picture only: ``relevance`` stays as it came.

    Use :meth:`from_explainer` or :meth:`from_relevance` to make one and draw it; :meth:`plot` draws it again.

    Parameters
    ----------
    ecg : array-like of shape (n_timesteps,) or (n_leads, n_timesteps)
        One window, mV. Samples that are not finite are gaps.
    relevance : array-like of the shape of ecg, or (n_timesteps,)
        Relevance, unscaled; without a lead axis it holds for every lead.
    fs : float
        Sampling rate, Hz.
    label : str, default=None
        The label that is explained, for the title.
    score : float, default=None
        What was explained, for the title: the label's logit or probability.
    lead_names : sequence of str, default=None
        A name a panel.
    relevance_kind : {"signed", "positive", "cam"}, default=None
        As explainers say it; None takes "signed" where there are values below zero, else "positive".
    truth : array-like of the shape of ecg, or (n_timesteps,), bool, default=None
        Where the evidence lies: a bar at the foot of each panel.
    unit : str, default="mV"
        What the vertical axis says.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The first panel.
    axes_ : ndarray of Axes
        The panels, a lead each.
    figure_ : matplotlib Figure
        The figure that holds them.
    lines_ : list of LineCollection
        The coloured marker of each panel: a line for each sample that has relevance.
    colorbar_ : matplotlib Colorbar or None
        The scale of the relevance.
    notes_ : list of str
        What the picture says at its foot: relevance that is zero, everywhere the same or not finite, leads that do not
        fit on the paper, which section is shown.

    See Also
    --------
    skecg.explain.GradCAM1D : The explainer to begin with.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.plotting import RelevanceDisplay
    >>> t = np.arange(720) / 360
    >>> ecg = np.exp(-0.5 * ((t - 1) / 0.02) ** 2)  # mV
    >>> display = RelevanceDisplay.from_relevance(ecg, ecg > 0.1, fs=360.0, label="PVC", score=4.2)
    >>> display.ax_.get_title(loc="left")
    'PVC, score 4.2'
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
        self.ecg = _window("ecg", ecg)
        self.relevance = _fitting("relevance", relevance, self.ecg)
        self.truth = None if truth is None else _fitting("truth", truth, self.ecg) != 0
        self.fs = check_fs(fs, type(self).__name__)
        if relevance_kind is not None:
            check_option("relevance_kind", relevance_kind, ("signed", "positive", "cam"))
        if lead_names is not None and (isinstance(lead_names, str) or len(lead_names) != len(self.ecg)):
            raise ValueError(f"lead_names must be {len(self.ecg)} names, one a lead of the ECG; got {lead_names!r}")
        self.relevance_kind = relevance_kind
        self.lead_names = lead_names
        self.label = label
        self.score = score
        self.unit = unit
        self._about_input: list[str] = []

    @classmethod
    def from_explainer(
        cls,
        explainer: Any,
        X: Any,
        *,
        sample: int = 0,
        target: Any = None,
        signal: str = "X",
        fs: float | None = None,
        lead_names: Sequence[str] | None = None,
        truth: Any = None,
        ax: Any = None,
        **plot_params: Any,
    ) -> RelevanceDisplay:
        """Explain one window and draw it.

        Parameters
        ----------
        explainer : explainer
            Fitted, or around a fitted classifier; or a Pipeline that ends in one.
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG, mV.
        sample : int, default=0
            Which window of X; only this one is explained.
        target : "predicted" or label, default=None
            What is explained; None takes the explainer's.
        signal : {"X", "input"}, default="X"
            What is drawn: the window as it stands in X, in mV, or what reaches the network behind filters and
            scalers. Where steps before the network change the number of time steps, it is always the latter.
        fs : float, default=None
            Sampling rate of the network's input, Hz; None takes the explainer's, then the classifier's.
        lead_names : sequence of str, default=None
            A name a lead.
        truth : array-like of the shape of X, or (n_samples, n_timesteps), bool, default=None
            Where the evidence lies; its row ``sample`` is drawn.
        ax : matplotlib Axes or array-like of Axes, default=None
            As in :meth:`plot`.
        **plot_params : dict
            Other parameters of :meth:`plot`.

        Returns
        -------
        display : RelevanceDisplay
            Drawn.

        Raises
        ------
        ValueError
            For a window that X does not have, an unknown sampling rate, and whatever the explainer refuses.
        """
        check_option("signal", signal, ("X", "input"))
        array = np.asarray(X)
        if array.ndim not in (2, 3) or not len(array):
            raise ValueError(
                "X must be (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), and sample says which window "
                f"is drawn; got shape {array.shape}"
            )
        check_number("sample", sample, low=-len(array), high=len(array) - 1, integer=True)
        row = slice(sample % len(array), sample % len(array) + 1)
        inputs = X.iloc[row] if hasattr(X, "iloc") else array[row]
        while isinstance(getattr(explainer, "steps", None), list):  # a Pipeline that ends in the explainer
            inputs = explainer[:-1].transform(inputs) if len(explainer.steps) > 1 else inputs
            explainer = explainer[-1]
        if not hasattr(explainer, "explain"):
            raise TypeError(f"{type(explainer).__name__} is no explainer: it has no method explain")
        fs = check_fs(find_fs(explainer) if fs is None else fs, cls.__name__)  # before the long part
        result = explainer.explain(inputs) if target is None else explainer.explain(inputs, target=target)
        window, drawn, remarks = array[row][0], np.asarray(result.data)[0], []
        as_given = drawn.shape == window.shape and (signal == "X" or np.array_equal(drawn, window.astype(np.float32)))
        if signal == "X" and not as_given:
            remarks.append(f"drawn is the network's input, whose shape is {drawn.shape}, not that of X, {window.shape}")
        if not np.all(result.get("above_threshold", True)):
            remarks.append("the score is below the threshold of the label")
        display = cls(
            window if as_given else drawn,
            np.asarray(result.relevance)[0],
            fs=fs,
            label=str(np.asarray(result.target)[0]),
            score=float(np.asarray(result.score)[0]),
            lead_names=lead_names,
            relevance_kind=result.relevance_kind,
            truth=None if truth is None else np.asarray(truth)[row][0],
            unit="mV" if as_given else "network's input",
        )
        display._about_input = remarks
        return display.plot(ax, **plot_params)

    @classmethod
    def from_relevance(
        cls,
        ecg: Any,
        relevance: Any,
        *,
        fs: float,
        label: str | None = None,
        score: float | None = None,
        lead_names: Sequence[str] | None = None,
        relevance_kind: str | None = None,
        truth: Any = None,
        unit: str = "mV",
        ax: Any = None,
        **plot_params: Any,
    ) -> RelevanceDisplay:
        """Draw relevance that is at hand, of one window.

        Parameters
        ----------
        ecg : array-like of shape (n_timesteps,) or (n_leads, n_timesteps)
            One window, mV. Samples that are not finite are gaps.
        relevance : array-like of the shape of ecg, or (n_timesteps,)
            Relevance, unscaled; without a lead axis it is drawn on every lead.
        fs : float
            Sampling rate, Hz.
        label : str, default=None
            The label that is explained.
        score : float, default=None
            What was explained: the label's logit or probability.
        lead_names : sequence of str, default=None
            A name a lead.
        relevance_kind : {"signed", "positive", "cam"}, default=None
            As explainers say it; None takes "signed" where there are values below zero, else "positive".
        truth : array-like of the shape of ecg, or (n_timesteps,), bool, default=None
            Where the evidence lies.
        unit : str, default="mV"
            What the vertical axis says.
        ax : matplotlib Axes or array-like of Axes, default=None
            As in :meth:`plot`.
        **plot_params : dict
            Other parameters of :meth:`plot`.

        Returns
        -------
        display : RelevanceDisplay
            Drawn.

        Raises
        ------
        ValueError
            For shapes that do not fit, axes that look swapped, or a sampling rate that is no positive number.
        """
        display = cls(
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
        return display.plot(ax, **plot_params)

    def plot(
        self,
        ax: Any = None,
        *,
        leads: Sequence[str | int] | None = None,
        start: float | None = None,
        duration: float = 10.0,
        cmap: str | Colormap | None = None,
        vmax: float | None = None,
        colorbar: bool = True,
        marker_width: float | None = None,
    ) -> RelevanceDisplay:
        """Draw the ECG and its relevance.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            Where to draw: one axes (whose place several leads share), or an axes a lead. None makes a figure with
            pyplot, in the proportions of the paper.
        leads : sequence of str or int, default=None
            Which leads, by name or position; None: all.
        start : float, default=None
            Begin of the section that is drawn, s. None: 0, or, where the window is longer than ``duration``, of the
            section with the most relevance.
        duration : float, default=10.0
            Longest section drawn, s.
        cmap : str or Colormap, default=None
            Colour map; None: matplotlib's "RdBu_r" where the relevance has a sign, else "Reds", without their darkest
            ends.
        vmax : float, default=None
            Relevance of the darkest colour, to draw several windows on one scale. None: the largest absolute value
            of the window, over all its leads and samples.
        colorbar : bool, default=True
            Whether to draw the scale.
        marker_width : float, default=None
            Width of the coloured marker, points; None: 2 mm of the paper, 3 to 6 points.

        Returns
        -------
        display : RelevanceDisplay
            Itself.
        """
        if marker_width is not None:
            check_number("marker_width", marker_width, low=0, strict=True, unit="(points)")
        chosen = self._chosen(leads)
        scaled, mappable, about_colours = self._colours(cmap, vmax)
        begin, end = self._section(start, duration, np.abs(scaled.filled(0)).sum(axis=0))
        section = slice(begin, end)
        times = np.arange(begin, end) / self.fs
        limits, cut = _paper.voltage_limits(self.ecg[chosen, section])
        first, last = _paper.time_limits(begin / self.fs, (end - begin) / self.fs)
        about_ecg = self._remarks(chosen, cut, begin, end)
        self.notes_ = [*self._about_input, *about_colours, *about_ecg]
        foot = "; ".join(["25 mm/s, 10 mm/mV" if self.unit == "mV" else "25 mm/s", *self.notes_])
        page = _paper.make_page(ax, limits, last - first, foot, colorbar)
        self.figure_, self.axes_, self.ax_ = page.axes[0].figure, np.array(page.axes, dtype=object), page.axes[0]
        self.lines_, self.colorbar_ = [], self._draw_scale(mappable, page) if colorbar else None
        for panel, lead, (low, high) in zip(page.axes, chosen, page.limits, strict=True):
            _paper.draw_paper(panel, first, last, low, high)
            width = marker_width or float(np.clip(2 * _paper.points_per_mm(panel), *_MARKER))
            marker = make_marker(times, self.ecg[lead, section], scaled[lead, section], self.fs)
            marker.set(cmap=mappable.cmap, norm=mappable.norm, linewidth=width)
            self.lines_.append(panel.add_collection(marker, autolim=False))
            draw_trace(panel, times, self.ecg[lead, section], width / 6)
            if self.truth is not None:
                draw_truth(panel, times, self.truth[lead, section])
            _paper.name_panel(panel, self._name(lead))
        _paper.label_axes(page, self.unit)
        _paper.title_page(page, self._title())
        return self

    def _name(self, lead: int) -> str:
        if self.lead_names is not None:
            return str(self.lead_names[lead])
        return f"lead {lead + 1}" if len(self.ecg) > 1 else ""

    def _title(self) -> str:
        parts = [] if self.label is None else [str(self.label)]
        return ", ".join(parts if self.score is None else [*parts, f"score {self.score:.3g}"])

    def _chosen(self, leads: Sequence[str | int] | None) -> list[int]:
        """Return the positions of the leads to draw."""
        n_leads = len(self.ecg)
        if leads is None:
            return list(range(n_leads))
        names = [self._name(lead) for lead in range(n_leads)]
        chosen = []
        for lead in [leads] if isinstance(leads, str | Integral) else leads:
            if isinstance(lead, str) and lead in names:
                chosen.append(names.index(lead))
            elif not isinstance(lead, str) and lead in range(n_leads):
                chosen.append(int(lead))
            else:
                raise ValueError(f"leads holds {lead!r}, but the leads are {names}, or 0 to {n_leads - 1}")
        if not chosen:
            raise ValueError("leads is empty: name at least one, or pass None for all")
        return chosen

    def _section(self, start: float | None, duration: float, mass: np.ndarray) -> tuple[int, int]:
        """Return the first sample drawn and the one after the last, where the relevance has its mass."""
        n_timesteps = self.ecg.shape[1]
        check_number("duration", duration, low=0, strict=True, unit="(s)")
        if start is not None:
            check_number("start", start, low=0, unit="(s)")
            if start * self.fs >= n_timesteps:
                raise ValueError(f"start={start!r} s is behind the end of the window, {n_timesteps / self.fs:g} s")
        size = min(n_timesteps, max(1, round(duration * self.fs)))
        if start is not None:
            begin = round(start * self.fs)
        elif size == n_timesteps:
            begin = 0
        else:
            total = np.concatenate([[0.0], np.cumsum(mass)])
            begin = int((total[size:] - total[:-size]).argmax())
            inside = mass[begin : begin + size]
            if inside.any():  # its middle into the middle of the panel, which begins on a bold line
                begin += round(np.average(np.arange(size), weights=inside) - size / 2)
            square = _paper.BOLD[0] * self.fs
            begin = round(np.clip(begin, 0, n_timesteps - size) // square * square)
        return begin, min(begin + size, n_timesteps)

    def _colours(self, cmap: Any, vmax: float | None) -> tuple[np.ma.MaskedArray, Any, list[str]]:
        """Return the relevance between -1 and 1, the scale of its colours, and what is to be said about it."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        relevance = np.ma.masked_invalid(np.asarray(self.relevance, dtype=np.float64))
        least, most = (float(relevance.min()), float(relevance.max())) if relevance.count() else (0.0, 0.0)
        remarks = []
        if relevance.mask.any():
            remarks.append(f"{np.ma.count_masked(relevance)} of {relevance.size} samples have no finite relevance")
        if least == most and relevance.count() > 1:
            remarks.append(f"the relevance is {'zero' if most == 0 else 'the same'} everywhere")
        if self.relevance_kind == "cam" and len(self.ecg) > 1:
            remarks.append("a CAM has no lead axis: all leads are coloured alike")
        if vmax is None:
            self._vmax = max(abs(least), abs(most))
        else:
            self._vmax = float(check_number("vmax", vmax, low=0, strict=True))
        signed = self.relevance_kind == "signed" or least < 0
        if cmap is None:
            cmap = default_map(signed)
        # Divided here, not by Normalize, whose differences of huge values overflow.
        scaled = relevance / (self._vmax or 1.0)
        return scaled, ScalarMappable(Normalize(-1 if signed else 0, 1), cmap), remarks

    def _draw_scale(self, mappable: Any, page: _paper.Page) -> Any:
        place = {"ax": page.axes, "fraction": 0.04, "pad": 0.03} if page.bar is None else {"cax": page.bar}
        ticks = [-1, 0, 1] if mappable.norm.vmin < 0 else [0, 1]
        colorbar = self.figure_.colorbar(mappable, ticks=ticks, **place)
        colorbar.set_ticklabels([f"{tick * self._vmax:.2g}" for tick in ticks] if self._vmax else [""] * len(ticks))
        colorbar.ax.tick_params(labelsize=8)
        subject = "relevance" if self.label is None else f"relevance\nfor {self.label}"
        colorbar.ax.set_title(subject, loc="left", fontsize=8)
        return colorbar

    def _remarks(self, chosen: list[int], cut: np.ndarray, begin: int, end: int) -> list[str]:
        """Return what is to be said about the part of the ECG that is drawn."""
        remarks = []
        if end - begin < self.ecg.shape[1]:
            whole = self.ecg.shape[1] / self.fs
            remarks.append(f"{begin / self.fs:g} to {end / self.fs:g} s of {whole:g} s")
        if cut.any():
            names = [self._name(lead) or "the ECG" for lead, over in zip(chosen, cut, strict=True) if over]
            remarks.append(f"{', '.join(names)}: beyond the paper, cut off")
        missing = int((~np.isfinite(self.ecg[chosen, begin:end])).sum())
        if missing:
            remarks.append(f"{missing} samples of the ECG are not finite")
        if self.truth is not None:
            remarks.append("black bar: truth")
        return remarks


def _window(name: str, array: Any) -> np.ndarray:
    """Return one window as (n_leads, n_timesteps)."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers; got dtype {array.dtype}")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(
            f"{name} must be one window, (n_timesteps,) or (n_leads, n_timesteps), and not empty; got shape "
            f"{array.shape}" + (": pass one of its windows, such as X[0]" if array.ndim == 3 else "")
        )
    if array.ndim == 2 and len(array) > max(_MAX_LEADS, array.shape[1]):
        raise ValueError(f"the axes of {name}, {array.shape}, look swapped: pass (n_leads, n_timesteps), e.g. {name}.T")
    return np.atleast_2d(array)


def _fitting(name: str, array: Any, ecg: np.ndarray) -> np.ndarray:
    """Return relevance or truth of the shape of the ECG; without a lead axis it holds for every lead."""
    window = _window(name, array)
    if np.ndim(array) == 1 and window.shape[1] == ecg.shape[1]:
        return np.broadcast_to(window, ecg.shape)
    if window.shape != ecg.shape:
        raise ValueError(f"{name} has shape {np.shape(array)}, but the ECG is {ecg.shape}: they must agree")
    return window
