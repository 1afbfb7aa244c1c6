"""The pictures' facts: what the page's script draws, as plain values, and the HTML that holds the pictures."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from ._encode import BEYOND, MISSING, Packed, full_colour, pack_ecg, pack_relevance, row_limits
from ._input import Marks, Material, Track

_MAPS = {True: "RdBu_r", False: "Reds"}  # those of skecg.plotting; evidence for the class is red in both
_DARKEST, _SHADES = 0.8, 129  # without their darkest ends, where the black trace would vanish
_TWO_COLUMNS = 6  # from so many leads on, the page has two columns of them where it is wide enough
_BEAT = 0.25  # s to either side of a beat that is marked


@dataclass
class Shown:
    """One explainer's relevance as the page has it."""

    track: Track
    relevance: list[Packed]
    ecg: list[Packed]
    rows: list[tuple[float, float, bool]]
    signed: bool
    full: float
    norm: str = ""
    _size: np.ndarray | None = field(default=None, repr=False)

    def size(self) -> np.ndarray:
        """Return the largest size of the relevance over the leads at each sample, 0 where it is missing."""
        if self._size is None:
            self._size = np.zeros(len(self.relevance[0].values), dtype=np.float32)
            for lead in dict.fromkeys(map(id, self.relevance)):
                packed = next(one for one in self.relevance if id(one) == lead)
                whole = np.abs(np.where(packed.values == MISSING, 0, packed.values.astype(np.int32)))
                np.maximum(self._size, whole.astype(np.float32) * np.float32(packed.scale), out=self._size)
        return self._size

    def class_at(self, sample: int) -> str:
        """Return the class of the window whose middle is nearest."""
        windows = self.track.windows
        return windows.label[int(np.abs(windows.start + windows.size / 2 - sample).argmin())] if windows.label else ""


def prepare(material: Material, signed: Any) -> list[Shown]:
    """Return the numbers of the page: ECG and relevance in 16 bits, and what colours mean."""
    leads, length = range(len(material.lead_names)), material.length
    ecg = [pack_ecg(lambda a, b, lead=lead: material.read(lead, a, b), length) for lead in leads]
    rows = [row_limits(lead) for lead in ecg]
    out = []
    for track in material.tracks:
        reads = [lambda a, b, lead=lead, track=track: track.read(lead, a, b) for lead in leads]
        full = full_colour(reads, length)
        relevance = [pack_relevance(read, length, full) for read in reads]
        for i in leads:  # a CAM has no lead axis: it is kept once
            if np.array_equal(relevance[i].values, relevance[0].values) and relevance[i].scale == relevance[0].scale:
                relevance[i] = relevance[0]
        negative = any(bool(((one.values < 0) & (one.values != MISSING)).any()) for one in relevance)
        shown = Shown(track, relevance, ecg, rows, False, full)
        shown.signed = (track.kind == "signed" or negative) if signed == "auto" else signed
        if negative and not shown.signed:
            raise ValueError(f"signed=False, but the relevance of {track.name!r} has values below zero")
        shown.norm = _norm(shown, len(leads), material.mode)
        out.append(shown)
    return out


def _norm(shown: Shown, n_leads: int, mode: str) -> str:
    largest = max(one.largest for one in shown.relevance)
    whole = "the record" if mode == "record" else "all windows"
    if largest == 0:
        return "The relevance is zero everywhere, or there is none."
    sides = "red speaks for the class that is explained, blue against it"
    sides = sides if shown.signed else "the redder, the more relevant"
    over = f"over {whole}" + (f" and its {n_leads} leads" if n_leads > 1 else "")
    text = (
        f"The relevance {'is signed' if shown.signed else 'has no sign'} ({sides}); one scale for the page: full "
        f"colour is {shown.full:.3g}, its 99.9 % quantile in size {over} (largest {largest:.3g})."
    )
    if shown.track.kind == "cam" and n_leads > 1:
        text += " A CAM has no lead axis: all leads are coloured alike."
    clipped = sum({id(one): one.clipped for one in shown.relevance}.values())
    if clipped:
        text += f" {clipped} values beyond {BEYOND * shown.full:.3g} are drawn, and told below, as that."
    return text


def palette(signed: bool) -> list[str]:
    """Return the colours of the relevance, from -1 or 0 to 1."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    ends = (0.5 - 0.5 * _DARKEST, 0.5 + 0.5 * _DARKEST) if signed else (0.0, _DARKEST)
    return [to_hex(colour) for colour in colormaps[_MAPS[signed]](np.linspace(*ends, _SHADES))]


def choose_normal(material: Material, normal: Any) -> tuple[list[str], str]:
    """Return the labels of windows that are not jumped to, and the rule in words."""
    labels = [label for label in material.tracks[0].windows.label if label]
    of = f" by {material.tracks[0].name}" if len(material.tracks) > 1 else ""
    if normal is not None:
        chosen = [str(normal)] if isinstance(normal, str) else [str(label) for label in normal]
        return chosen, f"windows whose class{of} is other than {' or '.join(chosen)}"
    if "N" in labels or not labels:
        return ["N"], f"windows whose class{of} is other than N"
    (common, _), *_ = Counter(labels).most_common(1)
    return [common], f"windows whose class{of} is other than {common}, the commonest here (there is no N)"


def _events(material: Material, marks: Marks, normal: list[str], bounds: tuple[np.ndarray, np.ndarray]) -> list[dict]:
    """Return what n and p go to."""
    fs, origin = material.fs, material.origin
    if marks.labelled:
        odd = [(i, label) for i, label in enumerate(marks.label) if label not in normal]
        times = [((int(marks.sample[i]) + origin) / fs, label) for i, label in odd]
        return [{"time": time, "left": time - _BEAT, "right": time + _BEAT, "label": label} for time, label in times]
    windows, (left, right) = material.tracks[0].windows, bounds
    events: list[dict] = []
    before = None
    for i, label in enumerate(windows.label):
        odd = bool(label) and label not in normal
        if odd and label == before and material.mode == "record":
            events[-1]["right"] = right[i]
        elif odd:
            middle = (windows.start[i] + windows.size / 2 + origin) / fs
            events.append({"time": float(middle), "left": left[i], "right": right[i], "label": label})
        before = label
    return events


def _bounds(material: Material, track: Track) -> tuple[list[float], list[float]]:
    """Return from when to when each window's class is written: in a record, to half-way to its neighbours' middles."""
    windows, fs = track.windows, material.fs
    start = (windows.start + material.origin) / fs
    end = start + windows.size / fs
    if material.mode == "record" and len(start):
        middle = (start + end) / 2
        between = (middle[1:] + middle[:-1]) / 2
        first, last = material.origin / fs, (material.origin + material.length) / fs
        start = np.concatenate([[max(first, start[0])], between])
        end = np.concatenate([between, [min(last, end[-1])]])
    return np.round(start, 5).tolist(), np.round(end, 5).tolist()


def _windows_of(material: Material, one: Shown, codes: dict[str, int]) -> dict[str, Any]:
    windows, fs = one.track.windows, material.fs
    left, right = _bounds(material, one.track)
    size, strongest, at = one.size(), [], []
    for a in windows.start.tolist():
        a, b = max(0, a), min(material.length, a + windows.size)
        if not size[a:b].any():
            strongest.append(None)
            at.append(None)
            continue
        i = a + int(size[a:b].argmax())
        values = [lead.decoded_at(i) for lead in one.relevance]
        strongest.append(_plain(values[int(np.argmax(np.abs(np.nan_to_num(values))))]))
        at.append(round((i + material.origin) / fs, 4))
    return {
        "left": left,
        "right": right,
        "from": np.round((windows.start + material.origin) / fs, 4).tolist(),
        "label": [codes.get(label, -1) for label in windows.label],
        "target": [codes.get(label, -1) for label in windows.target],
        "score": [_plain(score) for score in windows.score.tolist()],
        "strongest": strongest,
        "at": at,
    }


def _plain(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def page_facts(
    material: Material, shown: list[Shown], marks: Marks, normal: Any
) -> tuple[dict[str, Any], dict[str, Packed], str]:
    """Return what the script draws, the arrays by the id of their element, and the rule of what is abnormal."""
    fs, origin = material.fs, material.origin
    chosen, rule = choose_normal(material, normal)
    all_windows = [track.windows for track in material.tracks]
    labels = sorted({label for windows in all_windows for label in (*windows.label, *windows.target)} - {""})
    labels = [*[label for label in chosen if label in labels], *[label for label in labels if label not in chosen]]
    codes = {label: i for i, label in enumerate(labels)}
    arrays: dict[str, Packed] = {}
    places: dict[int, str] = {}

    def place(packed: Packed, name: str) -> str:
        if id(packed) not in places:
            places[id(packed)] = name
            arrays[name] = packed
        return places[id(packed)]

    ecg = [
        {"array": place(one, f"ecg-{i}"), "low": low, "high": high}
        for i, (one, (low, high, _)) in enumerate(zip(shown[0].ecg, shown[0].rows, strict=True))
    ]
    tracks = []
    for k, one in enumerate(shown):
        tracks.append({
            "name": one.track.name,
            "names": material.lead_names,
            "signed": one.signed,
            "vmax": one.full,
            "palette": palette(one.signed),
            "arrays": [place(lead, f"relevance-{k}-{i}") for i, lead in enumerate(one.relevance)],
            "windows": _windows_of(material, one, codes),
        })
    what = "beat" if marks.labelled else "window"
    if marks.labelled:
        usual = ["N"] if normal is None else chosen
        events = _events(material, marks, usual, ([], []))
        odd = [label not in usual for label in marks.label]
        rule = f"beats that are labelled other than {' or '.join(usual)} ({len(events)} of {len(marks.label)})"
    else:
        events = _events(material, marks, chosen, _bounds(material, material.tracks[0]))
        odd = [False] * len(marks.label)
        stretch = "stretch" if material.mode == "record" else "window"
        rule = f"{rule} ({counted(len(events), stretch)})"
    facts = {
        "mode": material.mode,
        "fs": fs,
        "length": material.length,
        "origin": origin,
        "begin": origin / fs,
        "end": (origin + material.length) / fs,
        "count": len(material.tracks[0].windows.start),
        "window": material.tracks[0].windows.size / fs,
        "pitch": (material.pitch or material.length) / fs,
        "unit": material.unit,
        "labels": labels,
        "normal": chosen,
        "rule": rule,
        "what": what,
        "beats": {"time": np.round((marks.sample + origin) / fs, 5).tolist(), "label": marks.label, "abnormal": odd},
        "events": events,
        "ecg": ecg,
        "tracks": tracks,
        "arrays": [{"id": name, "scale": packed.scale} for name, packed in arrays.items()],
    }
    return facts, arrays, rule


def counted(n: int, what: str) -> str:
    """Return a count with its noun."""
    return f"{n or 'no'} {what}" + ("" if n == 1 else "es" if what.endswith("ch") else "s")


def track_html(material: Material, k: int, one: Shown) -> str:
    """Return the place of an explainer's pictures, with its legend."""
    n, name = len(material.lead_names), one.track.name
    halves = [list(range((n + 1) // 2)), list(range((n + 1) // 2, n))] if n >= _TWO_COLUMNS else [list(range(n))]
    sheets = ""
    for leads in halves:
        told = ", ".join(material.lead_names[lead] for lead in leads)
        label = f"ECG of {told}, coloured by the relevance of {name}. The tables below say the same in numbers."
        sheets += (
            f'<div class="sheet" tabindex="0" role="img" aria-label="{escape(label)}" data-track="{k}" '
            f'data-leads="{escape(json.dumps(leads))}"><div inert></div></div>'
        )
    colours = ", ".join(palette(one.signed)[::8])
    ends = (f"against {-one.full:.3g}", f"for +{one.full:.3g}") if one.signed else ("0", f"{one.full:.3g}")
    style = f"background:linear-gradient(to right,{colours})"
    bar = f'<span class="scale" role="img" aria-label="scale of colours" style="{style}">'
    legend = f'<span class="legend">relevance {ends[0]} {bar}</span> {ends[1]}</span>' if one.full > 0 else ""
    return (
        f'<section class="track" aria-label="{escape(name)}"><div class="head"><h3>{escape(name)}</h3>{legend}</div>'
        f'<p class="norm">{escape(one.norm)}</p><div class="sheets{" two" if len(halves) > 1 else ""}">{sheets}</div>'
        "</section>"
    )
