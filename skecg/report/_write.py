"""write_report: results of explainers as one HTML file to scroll."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from .. import __version__
from ..utils._files import replace_file
from ..utils._validation import check_option
from ._encode import to_json
from ._input import by_name, marks_of, of_record, of_windows
from ._library import bokeh_scripts, policy, read_file, viewer_script
from ._page import page_facts, prepare, track_html
from ._words import cohort as cohort_tables
from ._words import moments, provenance, summary

_SUFFIXES = (".html", ".htm")
_OURS = b'<meta name="generator" content="skecg '
_LARGE = 100e6  # bytes; beyond it browsers get slow to open the file


def write_report(
    results: Any,
    path: str | os.PathLike,
    *,
    record: Any = None,
    fs: float | None = None,
    leads: int | str | Sequence[int | str] | None = None,
    lead_names: Sequence[str] | None = None,
    start: float | None = None,
    stop: float | None = None,
    beats: Any = None,
    normal: str | Sequence[str] | None = None,
    cohort: Any = None,
    title: str | None = None,
    signed: bool | str = "auto",
) -> Path:
    """Write one HTML file to scroll: ECG on paper, coloured by relevance, with classes, scores, tables, provenance.

    The file holds everything that it needs. It opens offline, in any browser of 2023 or later, and loads nothing. The
    ECG is scrolled and zoomed by mouse, touch and keyboard; keys jump to the next abnormal beat or window; explainers
    stand side by side on one axis of time. All samples are in it, as integers of 16 bits.

    Parameters
    ----------
    results : Bunch or dict
        What :func:`~skecg.explain.explain_record` returned, or an explainer's ``explain``; or a dict of name -> result
        for several explainers of the same record or windows.
    path : str or path-like
        The file, whose name ends in ``.html``. Folders are made; an earlier report is replaced, any other file is
        not.
    record : str, path-like, ndarray, or mapping, default=None
        The recording that ``explain_record`` explained, as it was given there. For windows: the windows as they were
        given to ``explain``, in mV; None draws the network's input.
    fs : float, default=None
        Sampling rate, Hz. Of a record it is known; of windows it is read from their provenance, where they have one.
    leads : int, str or sequence, default=None
        The explained leads that are shown, by position or name; None shows all.
    lead_names : sequence of str, default=None
        Names of all explained leads.
    start, stop : float, default=None
        The part of a record that goes into the file, s; None is its begin, or its end.
    beats : Beats, mapping, tuple, array or list of Beats, default=None
        Beats of the record: what ``read_record(annotator="atr")`` returns (``sample`` and ``symbol``), a mapping of
        ``sample`` and ``label``, a tuple of positions and labels, or positions alone, such as ``find_beats`` returns
        them. Positions are samples from the record's begin. For windows: a list of Beats, one a window.
    normal : str or sequence of str, default=None
        Labels that are not jumped to. None: "N"; for windows without any N, the commonest class. The page says which.
    cohort : RelevanceAggregator, Bunch of explain_cohort, or dict, default=None
        Adds its tables; a dict of name -> either of them adds several.
    title : str, default=None
        Title; None takes the record's name.
    signed : bool or "auto", default="auto"
        Whether colours tell evidence against from evidence for; "auto" takes what the explainer says.

    Returns
    -------
    path : pathlib.Path
        The file.

    Raises
    ------
    ValueError
        For results of different records or windows, a record that does not belong to them, a sampling rate that is
        missing, and a path that is another file.
    TypeError
        For results or a cohort that are none.
    ImportError
        Where bokeh is missing (extra ``report``).

    Warns
    -----
    UserWarning
        Where the file is larger than 100 MB, which browsers open slowly.

    See Also
    --------
    skecg.explain.explain_record : Makes what is shown.
    skecg.plotting.RecordDisplay : Pages of a record in matplotlib.

    Notes
    -----
    The page is drawn by BokehJS, taken from the installed package ``bokeh`` and copied into the file. The file is
    written as a whole or not at all.

    Examples
    --------
    >>> from skecg import ECGClassifier, GradCAM1D, make_ecg, write_report
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> result = GradCAM1D(clf).explain(ecg.data[:5])
    >>> write_report(result, "windows.html", fs=ecg.fs).name  # doctest: +SKIP
    'windows.html'
    """
    check_option("signed", signed, (True, False, "auto"))
    path = _check_path(path)
    named = by_name(results)
    of_records = {name: "lead_positions" in result for name, result in named.items()}
    if len(set(of_records.values())) > 1:
        raise ValueError(f"results must be all of explain_record or all of explain; of a record are: {of_records}")
    scripts, version = bokeh_scripts()
    if all(of_records.values()):
        material = of_record(named, record, fs, leads, lead_names, start, stop)
    else:
        if start is not None or stop is not None:
            raise ValueError("start and stop choose a part of a record; of windows, explain those to be shown")
        material = of_windows(named, record, fs, leads, lead_names)
    marks = marks_of(beats, material)
    title = material.title if title is None else str(title)
    tables = cohort_tables(cohort)
    shown = prepare(material, signed)
    facts, arrays, rule = page_facts(material, shown, marks, normal)
    rule = f"Keys n and p, and the buttons, go to the next and the previous of the {rule}."
    scripts = [*scripts, viewer_script()]
    overview = (
        "Strip of the whole length: classes, the first lead, where relevance is strong, and the part that is shown. "
        "Click or drag to move; the keys Home, End and the arrows do the same."
    )
    parts = {
        "policy": policy(scripts),
        "version": escape(__version__),
        "title": escape(title),
        "css": read_file("viewer.css"),
        "summary": summary(material, shown),
        "what": facts["what"],
        "place": "time" if material.mode == "record" else "window",
        "rule": escape(rule),
        "overview": escape(overview),
        "tracks": "".join(track_html(material, k, one) for k, one in enumerate(shown)),
        "moments": moments(material, shown),
        "options": "".join(f'<option value="{k}">{escape(one.track.name)}</option>' for k, one in enumerate(shown)),
        "cohort": tables,
        "provenance": provenance(material, cohort),
        "bokeh": escape(version),
        "arrays": "\n".join(
            f'<script type="text/plain" id="{name}">{packed.text}</script>' for name, packed in arrays.items()
        ),
        "facts": to_json(facts),
        "library": "\n".join(f"<script>{text}</script>" for text in scripts[:-1]),
        "viewer": scripts[-1],
    }
    # one pass, so that what is put in is never looked at again
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], read_file("page.html"))
    page = page.encode("utf-8", "backslashreplace")  # names of files need not be text
    if len(page) > _LARGE:
        warnings.warn(
            f"write_report: {path.name} has {len(page) / 1e6:.0f} MB, which browsers open slowly: pass leads, or start "
            "and stop",
            UserWarning,
            stacklevel=2,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda file: file.write(page))
    return path


def _check_path(path: Any) -> Path:
    path = Path(path).expanduser()
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"path must end in .html; got {path}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: pass the name of a file in it")
    if path.exists():
        with open(path, "rb") as file:
            if _OURS not in file.read(4096):
                raise ValueError(f"{path} exists and is no report of skecg's: delete it or pass another path")
    return path
