"""A long recording as strips of ECG paper, a page at a time, coloured by relevance."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils._validation import check_fs, check_number
from . import _paper
from ._trace import default_map, draw_trace, make_marker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 11.0  # inches of a page
_MARGIN = 0.75  # inches at the left
_SAMPLED = 2_000_000  # samples of relevance from which the scale of all pages is taken
_USUAL = (0.0005, 0.9995)  # the voltages that every strip has room for
_KEYS = {"right": 1, "pagedown": 1, " ": 1, "left": -1, "pageup": -1}


class RecordDisplay:
    """A recording as strips of ECG paper, a page at a time, coloured by the relevance of its samples.

    Every strip is as long as the others, at 25 mm/s and 10 mm/mV in one scale; the predicted label is written where it
    changes. The colours of all pages share one scale. In a window of matplotlib the arrow keys turn the pages, Home
    and End go to the first and the last, and ``n`` jumps to the next stretch with another label than ``normal``.

    Use :meth:`from_result` to make one and draw it.

    Parameters
    ----------
    ecg : ndarray of shape (n_timesteps,)
        One lead, mV; a memory map is read page by page.
    relevance : array of shape (n_timesteps,)
        Relevance, unscaled, NaN where there is none; a memory map or a zarr array is read page by page.
    fs : float
        Sampling rate, Hz.
    start : array-like of int, shape (n_windows,), default=None
        First samples of the windows that were classified.
    label : array-like of str, shape (n_windows,), default=None
        Their labels.
    window : float, default=None
        Length of a window, s; needed with labels, which are written at the windows' middles.
    relevance_kind : {"signed", "positive", "cam"}, default=None
        As explainers say it; None takes "signed" where there are values below zero, else "positive".
    lead_name : str, default=""
        Written over the page.
    strip : float, default=10.0
        Length of a strip, s.
    n_strips : int, default=6
        Strips on a page.
    normal : str, default="N"
        The label that ``n`` passes over.

    Attributes
    ----------
    n_pages : int
        Number of pages.
    page_ : int
        The page that is shown, from 0.
    figure_ : matplotlib Figure
        The figure.
    axes_ : list of Axes
        A strip each.

    See Also
    --------
    skecg.explain.explain_record : Makes what is drawn.
    RelevanceDisplay : One window.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.plotting import RecordDisplay
    >>> t = np.arange(36000) / 360
    >>> ecg = np.exp(-0.5 * ((t % 1 - 0.5) / 0.02) ** 2)  # 100 s, mV
    >>> display = RecordDisplay(ecg, ecg > 0.1, fs=360.0, strip=8, n_strips=4)
    >>> display.n_pages
    4
    """

    def __init__(
        self,
        ecg: np.ndarray,
        relevance: Any,
        *,
        fs: float,
        start: Any = None,
        label: Any = None,
        window: float | None = None,
        relevance_kind: str | None = None,
        lead_name: str = "",
        strip: float = 10.0,
        n_strips: int = 6,
        normal: str = "N",
    ) -> None:
        self.fs = check_fs(fs, type(self).__name__)
        if not isinstance(ecg, np.ndarray) or ecg.ndim != 1 or not len(ecg):
            raise ValueError(f"ecg must be one lead, an array of shape (n_timesteps,); got {np.shape(ecg)}")
        if tuple(relevance.shape) != ecg.shape:
            raise ValueError(f"relevance must have the shape of ecg, {ecg.shape}; got {tuple(relevance.shape)}")
        if (start is None) != (label is None) or (label is not None and len(start) != len(label)):
            raise ValueError("start and label belong together: one first sample and one label a window")
        if label is not None and window is None:
            raise ValueError("label needs window, the length of a window in s")
        self.ecg, self.relevance = ecg, relevance
        self.start = np.empty(0, int) if start is None else np.asarray(start)
        self.label = np.empty(0, str) if label is None else np.asarray(label).astype(str)
        self.window = 0.0 if window is None else check_number("window", window, low=0, strict=True, unit="(s)")
        self.strip = check_number("strip", strip, low=0, strict=True, unit="(s)")
        self.n_strips = check_number("n_strips", n_strips, low=1, integer=True)
        self.lead_name, self.normal = lead_name, normal
        step = max(1, len(ecg) // _SAMPLED)
        drawn = np.asarray(relevance[::step], dtype=np.float64)
        drawn = drawn[np.isfinite(drawn)]
        self.relevance_kind = relevance_kind or ("signed" if (drawn < 0).any() else "positive")
        self.vmax = float(np.quantile(np.abs(drawn), 0.999)) if len(drawn) else 0.0
        # rare artefacts run off the paper, rather than make every strip of the record tall
        usual = np.asarray(ecg[::step], dtype=np.float32)
        usual = usual[np.isfinite(usual)]
        usual = np.clip(usual, *np.quantile(usual, _USUAL)) if len(usual) else np.zeros(1, np.float32)
        self._limits = _paper.voltage_limits(usual[None])[0][0]
        self.page_: int | None = None
        self.figure_: Figure | None = None

    @classmethod
    def from_result(
        cls,
        result: Mapping[str, Any],
        record: Any,
        *,
        lead: int | str = 0,
        strip: float = 10.0,
        n_strips: int = 6,
        page: int = 0,
        normal: str = "N",
    ) -> RecordDisplay:
        """Draw a page of what :func:`~skecg.explain.explain_record` returned.

        Parameters
        ----------
        result : Bunch
            Of ``explain_record``.
        record : ndarray of shape (n_timesteps,) or (n_leads, n_timesteps), mapping, or path
            The recording that was explained, as it was given there.
        lead : int or str, default=0
            Which of the explained leads, by position or name.
        strip : float, default=10.0
            Length of a strip, s.
        n_strips : int, default=6
            Strips on a page.
        page : int, default=0
            The page to draw first.
        normal : str, default="N"
            The label that the key ``n`` passes over.

        Returns
        -------
        display : RecordDisplay
            Drawn.

        Raises
        ------
        ValueError
            For a record that is not as long as the result, or a lead that it has not.
        """
        names = list(result["lead_names"])
        try:
            row = names.index(lead) if isinstance(lead, str) else range(len(names))[lead]
        except (ValueError, IndexError) as error:
            raise ValueError(f"lead {lead!r} is not among the explained {names}") from error
        position = int(result["lead_positions"][row])
        if isinstance(record, str | os.PathLike):
            from ..datasets import read_record

            record, position = read_record(record, leads=position), 0
        data = record["data"] if isinstance(record, Mapping) else record
        ecg = data if data.ndim == 1 else data[position]
        relevance = result["relevance"]
        if relevance.shape[1] != len(ecg):
            raise ValueError(
                f"record has {len(ecg)} samples, the result {relevance.shape[1]}: they do not belong together"
            )
        display = cls(
            ecg,
            _Row(relevance, row),
            fs=result["fs"],
            start=result["start"],
            label=result["label"],
            window=result["window"],
            relevance_kind=result["relevance_kind"],
            lead_name=names[row] if len(names[row]) > 1 else "",
            strip=strip,
            n_strips=n_strips,
            normal=normal,
        )
        return display.plot(page)

    @property
    def n_pages(self) -> int:
        """Number of pages."""
        return ceil(len(self.ecg) / self._per_strip / self.n_strips)

    @property
    def _per_strip(self) -> int:
        return max(1, round(self.strip * self.fs))

    def plot(self, page: int = 0) -> RecordDisplay:
        """Draw a page, into the same figure as the page before.

        Parameters
        ----------
        page : int, default=0
            From 0; -1 is the last.

        Returns
        -------
        display : RecordDisplay
            Itself.

        Raises
        ------
        ValueError
            For a page that is not there.
        """
        n = self.n_pages
        if not isinstance(page, int | np.integer) or not -n <= page < n:
            raise ValueError(f"page must be between 0 and {n - 1} (the recording has {n} pages); got {page!r}")
        self.page_ = int(page) % n
        if self.figure_ is None:
            self._make_figure()
        self.figure_.clear()
        first = self.page_ * self.n_strips
        low, high = self._limits
        inches = self._height
        total = inches * self.n_strips + 1.0
        self.axes_ = []
        for i in range(self.n_strips):
            a = (first + i) * self._per_strip
            if a >= len(self.ecg):
                break
            bottom = (total - 0.5 - (i + 1) * inches) / total
            place = (_MARGIN / _WIDTH, bottom, 1 - 1.5 * _MARGIN / _WIDTH, inches / total)
            self.axes_.append(self._draw_strip(self.figure_.add_axes(place), a, low, high))
        end = min(len(self.ecg) / self.fs, (first + self.n_strips) * self.strip)
        title = f"{_clock(first * self.strip)} to {_clock(end)}, page {self.page_ + 1} of {n}"
        title = f"{self.lead_name}, {title}" if self.lead_name else title
        self.axes_[0].set_title(title, loc="left", fontsize=10)
        self.axes_[0].set_title(self._scale_text(), loc="right", fontsize=8, color="dimgray")
        self.figure_.canvas.draw_idle()
        return self

    def _scale_text(self) -> str:
        if self.vmax == 0:
            return "the relevance is zero everywhere"
        full = f"full colour: relevance {self.vmax:.3g}"
        return f"{full} (red for, blue against the label)" if self.relevance_kind == "signed" else full

    def _make_figure(self) -> None:
        import matplotlib.pyplot as plt

        low, high = self._limits
        inner = _WIDTH - 1.5 * _MARGIN
        # one scale for both axes: 25 mm a second beside 10 mm a mV
        self._height = inner * (high - low) * _paper.MM_PER_MV / (self.strip * _paper.MM_PER_S)
        self.figure_ = plt.figure(figsize=(_WIDTH, self._height * self.n_strips + 1.0))
        self.figure_.canvas.mpl_connect("key_press_event", self._on_key)

    def _draw_strip(self, ax: Any, a: int, low: float, high: float) -> Any:
        b = min(a + self._per_strip, len(self.ecg))
        start = a / self.fs
        _paper.draw_paper(ax, start, start + self.strip, low, high)
        ax.set_aspect("auto")  # the place already has the proportions
        times = np.arange(a, b) / self.fs
        ecg = np.asarray(self.ecg[a:b], dtype=np.float64)
        relevance = np.asarray(self.relevance[a:b], dtype=np.float64)
        scale = self.vmax if self.vmax > 0 else 1.0
        colours = np.ma.masked_invalid(np.clip(relevance / scale, -1, 1))
        lines = make_marker(times, ecg, colours, self.fs)
        signed = self.relevance_kind == "signed"
        lines.set(cmap=default_map(signed), clim=(-1 if signed else 0, 1), linewidth=4)
        ax.add_collection(lines, autolim=False)
        draw_trace(ax, times, ecg, 0.7)
        self._write_labels(ax, a, b, high)
        ax.set_yticks([])
        ax.set_xticks([])
        ax.set_ylabel(_clock(start), fontsize=8, rotation=0, ha="right", va="center")
        for side in ax.spines.values():
            side.set_visible(False)
        return ax

    def _write_labels(self, ax: Any, a: int, b: int, high: float) -> None:
        """Write labels where they change, and the one that holds at the strip's beginning."""
        if not len(self.label):
            return
        middle = self.start + round(self.window * self.fs / 2)
        change = np.concatenate([[True], self.label[1:] != self.label[:-1]])
        shown = np.flatnonzero(change & (middle >= a) & (middle < b))
        before = max(int(np.searchsorted(middle, a, side="right")) - 1, 0)
        items = [(a, before)] + [(middle[i], i) for i in shown if i != before]
        for at, i in items:
            text = self.label[i] or "missing"
            color = "black" if text == self.normal else "#8b0000"
            ax.annotate(
                text, (at / self.fs, high), (2, -3), textcoords="offset points", va="top", fontsize=8, color=color,
                fontweight="normal" if text == self.normal else "bold", zorder=5, annotation_clip=True,
            )  # fmt: skip

    def _on_key(self, event: Any) -> None:
        last = self.n_pages - 1
        if event.key in _KEYS:
            page = min(max(self.page_ + _KEYS[event.key], 0), last)
        elif event.key in ("home", "end"):
            page = 0 if event.key == "home" else last
        elif event.key == "n":
            found = self.next_abnormal()
            page = self.page_ if found is None else found
        else:
            return
        if page != self.page_:
            self.plot(page)

    def next_abnormal(self, page: int | None = None) -> int | None:
        """Return the next page after this one with a window whose label is not ``normal``.

        Parameters
        ----------
        page : int, default=None
            Pages after this one are looked at; None takes the page that is shown.

        Returns
        -------
        page : int or None
            None where there is none.
        """
        page = self.page_ if page is None else page
        middle = self.start + round(self.window * self.fs / 2)
        pages = middle[(self.label != self.normal) & (self.label != "")] // (self._per_strip * self.n_strips)
        after = pages[pages > (-1 if page is None else page)]
        return int(after.min()) if len(after) else None

    def go_to(self, seconds: float) -> RecordDisplay:
        """Draw the page that holds a time.

        Parameters
        ----------
        seconds : float
            Time from the beginning of the recording, s.

        Returns
        -------
        display : RecordDisplay
            Itself.
        """
        check_number("seconds", seconds, low=0, high=len(self.ecg) / self.fs, unit="(s)")
        return self.plot(min(int(seconds * self.fs) // (self._per_strip * self.n_strips), self.n_pages - 1))

    def save(self, path: str | os.PathLike, pages: Iterable[int] | None = None) -> None:
        """Write pages to one PDF.

        Parameters
        ----------
        path : str or path-like
            The file.
        pages : iterable of int, default=None
            Which pages; None takes all.
        """
        from matplotlib.backends.backend_pdf import PdfPages

        shown = self.page_
        with PdfPages(path) as pdf:
            for page in range(self.n_pages) if pages is None else pages:
                pdf.savefig(self.plot(page).figure_)
        if shown is not None:
            self.plot(shown)


class _Row:
    """One row of a two-dimensional array that is read piece by piece."""

    def __init__(self, array: Any, row: int) -> None:
        self.array, self.row, self.shape = array, row, (array.shape[1],)

    def __getitem__(self, key: Any) -> Any:
        return self.array[self.row, key]


def _clock(seconds: float) -> str:
    """Return hours, minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
