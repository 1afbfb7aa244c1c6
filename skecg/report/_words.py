"""What the page says in words and tables: the text alternative of the pictures, cohorts, provenance."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._input import Material
from ._page import Shown, counted

if TYPE_CHECKING:
    import pandas as pd

_MOMENTS = 15
_APART = 0.5  # s between two of them
_MANY = 12  # classes that are counted in words
_LIST = 30  # skipped records that are listed


class Ready(NamedTuple):
    """A cell that is HTML; whatever else comes is escaped."""

    html: str


def clock(seconds: float, digits: int = 2) -> str:
    """Return h:mm:ss with so many digits."""
    scale = 10**digits
    whole = round(seconds * scale)
    rest = whole % (60 * scale)
    second = f"{rest // scale:02d}" + (f".{rest % scale:0{digits}d}" if digits else "")
    return f"{whole // (3600 * scale)}:{whole // (60 * scale) % 60:02d}:{second}"


def moment(material: Material, sample: int) -> str:
    """Return a position on the axis in words, as the page's script does."""
    if material.mode == "record":
        return clock((sample + material.origin) / material.fs)
    return f"window {sample // material.pitch}, {sample % material.pitch / material.fs:.3f} s"


def number(value: float) -> str:
    """Return three digits of a number, a hyphen for none."""
    return f"{value:.3g}" if math.isfinite(value) else "-"


def duration(seconds: float) -> str:
    """Return a length of time in words."""
    if seconds < 120:
        return f"{seconds:.4g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], caption: str, *, sortable: bool = True) -> str:
    """Return a table; a cell is a text, a number, or Ready HTML."""
    if sortable:
        top = "".join(f'<th scope="col"><button type="button">{escape(head)}</button></th>' for head in heads)
    else:
        top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table{kind}><caption>'
        f"{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, Ready):
        return f"<td>{value.html}</td>"
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return f"<td>{escape(str(value))}</td>"
    raw = f"{float(value):.12g}" if math.isfinite(value) else ""
    shown = f"{value}" if isinstance(value, int | np.integer) else number(float(value))
    return f'<td class="number" data-value="{raw}">{shown}</td>'


def show_button(time: float, what: str) -> str:
    """Return a button that takes the picture to a time (s of the axis)."""
    return f'<button type="button" data-time="{time:.4f}" aria-label="show {escape(what)}">show</button>'


def summary(material: Material, shown: list[Shown]) -> str:
    """Return the summary, the text alternative of the pictures."""
    leads = material.lead_names
    many = f"{len(leads)} leads ({', '.join(leads)})" if len(leads) > 1 else f"one lead ({leads[0]})"
    first = material.tracks[0].windows
    n = len(first.start)
    size = duration(first.size / material.fs)
    if material.mode == "record":
        long = duration(material.length / material.fs)
        what = f"{long} of {many} at {material.fs:g} Hz; {counted(n, 'window')} of {size}"
    else:
        what = f"{counted(n, 'window')} of {size}, {many}, {material.fs:g} Hz, one after the other"
    parts = [f"{what}. Drawn in {material.unit}; the key 0 shows it at 25 mm/s and 10 mm/mV.", *material.notes]
    cut = [name for name, lead in zip(leads, shown[0].rows, strict=True) if lead[2]]
    if cut:
        parts.append(f"Rare values of {', '.join(cut)} go beyond the height of the row and are drawn at its edge.")
    clipped = sum(one.clipped for one in shown[0].ecg)
    if clipped:
        parts.append(f"{clipped} samples beyond 50 mV are drawn as 50 mV.")
    missing = sum(int((one.values == np.int16(-32768)).sum()) for one in shown[0].ecg)
    if material.mode == "record" and missing:
        parts.append(f"{missing} samples of the ECG are missing (gaps).")
    html = "".join(f"<p>{escape(part)}</p>" for part in parts)
    items = "".join(f"<li>{escape(_of_track(material, one, len(shown) > 1))}</li>" for one in shown)
    return f"{html}<ul>{items}</ul>"


def _of_track(material: Material, one: Shown, named: bool) -> str:
    windows, track = one.track.windows, one.track
    counts = Counter(label or "missing" for label in windows.label)
    told = [f"{label} {count} ({count / len(windows.label):.1%})" for label, count in counts.most_common(_MANY)]
    if len(counts) > _MANY:
        told.append(f"{len(counts) - _MANY} more classes")
    text = f"{track.name}: windows by class: {', '.join(told)}. "
    other = sum(a != b for a, b in zip(windows.label, windows.target, strict=True))
    if other:
        text += f"In {other} windows another class than that was explained. "
    text += one.norm
    for reason, count in track.doubts.items():
        text += f" In {count} windows {reason}."
    strongest = _moments(material, one)[:1]
    if strongest:
        sample, lead, value = strongest[0]
        text += (
            f" It is strongest at {moment(material, sample)}, lead {material.lead_names[lead]} ({number(value)}), in a "
            f"window of class {one.class_at(sample) or 'missing'}."
        )
    return text


def _moments(material: Material, one: Shown) -> list[tuple[int, int, float]]:
    """Return (sample, lead, relevance) where relevance is largest in size, at least half a second apart."""
    size = one.size()
    apart = max(1, round(_APART * material.fs))
    block = max(1, apart // 4)
    ends = -len(size) % block
    blocks = np.pad(size, (0, ends)).reshape(-1, block)
    peak = blocks.argmax(1) + np.arange(len(blocks)) * block
    height = size[np.minimum(peak, len(size) - 1)]
    found: list[int] = []
    for i in np.argsort(-height, kind="stable"):
        if height[i] <= 0 or len(found) == _MOMENTS:
            break
        if all(abs(int(peak[i]) - other) >= apart for other in found):
            found.append(int(peak[i]))
    out = []
    for sample in found:
        values = [lead.decoded_at(sample) for lead in one.relevance]
        lead = int(np.argmax(np.abs(np.nan_to_num(values))))
        out.append((sample, lead, values[lead]))
    return out


def moments(material: Material, shown: list[Shown]) -> str:
    """Return a table for each explainer of the moments of largest relevance."""
    parts = []
    for one in shown:
        rows = []
        for rank, (sample, lead, value) in enumerate(_moments(material, one), 1):
            at = moment(material, sample)
            share = abs(value) / one.full if one.full > 0 else math.nan
            side = ["for" if value > 0 else "against"] if one.signed else []
            button = show_button((sample + material.origin) / material.fs, at)
            label = one.class_at(sample) or "missing"
            rows.append([rank, at, material.lead_names[lead], value, *side, share, label, Ready(button)])
        heads = ["rank", "at", "lead", "relevance", *(["side"] if one.signed else []), "of full colour", "class", ""]
        caption = f"{one.track.name}: the moments of largest relevance, at least {_APART:g} s apart"
        parts.append(table(heads, rows, caption, sortable=False) if rows else f"<p>{escape(one.track.name)}: none.</p>")
    return f'<div class="tables">{"".join(parts)}</div>'


def cohort(given: Any) -> str:
    """Return the tables of a cohort: of an aggregator, of what explain_cohort returned, or of a dict of these."""
    if given is None:
        return ""
    several = isinstance(given, Mapping) and "aggregator" not in given
    parts = [_one_cohort(str(name), one) for name, one in given.items()] if several else [_one_cohort("", given)]
    return f'<section aria-labelledby="cohort-head"><h2 id="cohort-head">Cohort</h2>{"".join(parts)}</section>'


def _one_cohort(name: str, given: Any) -> str:
    aggregator = given["aggregator"] if isinstance(given, Mapping) else given
    if not hasattr(aggregator, "summary"):
        raise TypeError(
            "cohort must be a fitted RelevanceAggregator, what explain_cohort returned, or a dict of these; got "
            f"{type(aggregator).__name__}"
        )
    frame: pd.DataFrame = aggregator.summary()
    control = "" if aggregator.control is None else f", tested against {aggregator.control}"
    caption = f"Relevance by {aggregator.by}, {aggregator.statistic}, over patients{control}"
    head = f"<h3>{escape(name)}</h3>" if name else ""
    rows = [[getattr(cell, "item", lambda cell=cell: cell)() for cell in row] for row in frame.itertuples(index=False)]
    out = head + table([str(column).replace("_", " ") for column in frame.columns], rows, caption)
    counts = [
        [label, *(int(np.asarray(values)[i]) for values in (aggregator.n_windows_, *aggregator.exclusions_.values()))]
        for i, label in enumerate(map(str, aggregator.classes_))
    ]
    heads = ["class", "windows", *(key.replace("_", " ") for key in aggregator.exclusions_)]
    out += table(heads, counts, "Windows that were used, and what was left out")
    if isinstance(given, Mapping):
        skipped = list(given.get("skipped") or [])
        if given.get("n_missing"):
            out += f"<p>{int(given['n_missing'])} windows were left out, since samples are missing in them.</p>"
        for reason, count in (given.get("doubts") or {}).items():
            out += f"<p>{escape(f'In {count} windows {reason}.')}</p>"
        if skipped:
            caption = f"{len(skipped)} records were skipped" + (f", the first {_LIST}" if len(skipped) > _LIST else "")
            out += table(["record", "reason"], [[str(a), str(b)] for a, b in skipped[:_LIST]], caption)
    return out


def provenance(material: Material, given: Any = None) -> str:
    """Return what is known of how the results were made, folded."""
    parts = []
    named = [(track.name, track.provenance) for track in material.tracks]
    if isinstance(given, Mapping) and given.get("provenance"):
        named.append(("cohort", given["provenance"]))
    for name, known in named:
        if known:
            text = escape(json.dumps(known, indent=1, default=str, ensure_ascii=False))
            body = f'<pre tabindex="0">{text}</pre>'
        else:
            body = "<p>The result carries no provenance.</p>"
        parts.append(f"<details><summary>Provenance of {escape(name)}</summary>{body}</details>")
    return "".join(parts)
