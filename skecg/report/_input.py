"""What a report shows, whatever it came as: one ECG, the relevance of each explainer, windows, beats."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np

from ..beats import Beats
from ..classifiers._targets import decision_cut
from ..datasets import read_record
from ..datasets._segment import BEAT_SYMBOLS
from ..utils._leads import STANDARD_LEADS, canonical_name
from ..utils._validation import check_fs, check_number

PIECE = 1 << 20  # samples of a lead that are in memory at a time as float
_GAP = 0.1  # between windows that are not of one record, in windows
_KINDS = ("signed", "positive", "cam")
_NONE = "none"  # of several labels, none reaches its threshold


@dataclass
class Windows:
    """The windows of one explainer, in the order of time.

    Parameters
    ----------
    start : ndarray of shape (n_windows,), int64
        First samples, counted from the first that is shown.
    size : int
        Samples of a window.
    label, target : list of str
        Predicted class, and what was explained; "" where samples are missing.
    score : ndarray of shape (n_windows,)
        Score of the target, NaN where there is none.
    """

    start: np.ndarray
    size: int
    label: list[str]
    target: list[str]
    score: np.ndarray


@dataclass
class Track:
    """The relevance of one explainer; ``read(lead, a, b)`` gives a piece of it."""

    name: str
    kind: str
    read: Callable[[int, int, int], np.ndarray]
    windows: Windows
    provenance: Any = None
    doubts: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Material:
    """All that is drawn; ``read(lead, a, b)`` gives a piece of the ECG, and ``origin`` is the first sample shown."""

    mode: str
    title: str
    fs: float
    length: int
    origin: int
    lead_names: list[str]
    unit: str
    read: Callable[[int, int, int], np.ndarray]
    tracks: list[Track]
    pitch: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass
class Marks:
    """Beats: positions in samples of the shown axis, labels ("" where none is known), and whether they have any."""

    sample: np.ndarray
    label: list[str]
    labelled: bool


def by_name(results: Any) -> dict[str, Mapping]:
    """Return the results by the name of their explainer; a lone one is named after its provenance, if it says."""
    if not isinstance(results, Mapping):
        raise TypeError(
            f"results must be what explain_record or explain returned, or a dict of name -> result; got "
            f"{type(results).__name__}"
        )
    if "relevance" in results and not isinstance(results["relevance"], Mapping):
        explainer = (results.get("provenance") or {}).get("explainer")
        name = explainer.get("class") if isinstance(explainer, Mapping) else explainer
        return {str(name or "relevance").rpartition(".")[2]: results}
    if not results:
        raise ValueError("results is empty: pass one result at least")
    for name, result in results.items():
        if not isinstance(result, Mapping) or "relevance" not in result:
            raise ValueError(
                f"results[{name!r}] is no result of explain_record or explain: it has no relevance; got "
                f"{type(result).__name__}"
            )
    return {str(name): result for name, result in results.items()}


def of_record(
    results: Mapping[str, Mapping], record: Any, fs: float | None, leads: Any, names: Any, start: Any, stop: Any
) -> Material:
    """Return what is shown of results of explain_record, which must be of one record."""
    first = next(iter(results.values()))
    if record is None:
        raise ValueError("results of explain_record need record: pass what was given there (path or array)")
    facts = ("record", "fs", "lead_names", "lead_positions")
    for name, result in results.items():
        for fact in facts:
            if result[fact] != first[fact]:
                raise ValueError(
                    f"results must be of one record: {name!r} has {fact} {result[fact]!r}, the first {first[fact]!r}"
                )
        if tuple(result["relevance"].shape) != tuple(first["relevance"].shape):
            raise ValueError(
                f"results must be of one record: {name!r} has relevance of {tuple(result['relevance'].shape)}, the "
                f"first of {tuple(first['relevance'].shape)}"
            )
    rate = float(first["fs"])
    if fs is not None and not np.isclose(fs, rate):
        raise ValueError(f"fs={fs!r}, but the results say {rate:g} Hz")
    whole = int(first["relevance"].shape[1])
    read, found = _reader(record, [int(i) for i in first["lead_positions"]], whole)
    if isinstance(record, Mapping) and record.get("fs") is not None and not np.isclose(record["fs"], rate):
        raise ValueError(f"record has {record['fs']:g} Hz, the results {rate:g} Hz: they do not belong together")
    a, b = _section(start, stop, rate, whole)
    rows, shown = _leads(leads, names, [str(name) for name in first["lead_names"]])

    def piece(lead: int, i: int, j: int) -> np.ndarray:
        return read(rows[lead], a + i, a + j)

    tracks = []
    for name, result in results.items():
        size = round(result["window"] * rate)
        starts = np.asarray(result["start"], dtype=np.int64)
        inside = np.flatnonzero((starts + size > a) & (starts < b))
        labels = _without_weak([str(label) for label in np.asarray(result["label"])], result)
        windows = Windows(
            starts[inside] - a,
            size,
            [labels[i] for i in inside],
            [str(label) for label in np.asarray(result["target"])[inside]],
            np.asarray(result["score"])[inside].astype(np.float64),
        )
        values = result["relevance"]

        def relevance(lead: int, i: int, j: int, values: Any = values) -> np.ndarray:
            return np.asarray(values[rows[lead], a + i : a + j])

        tracks.append(
            Track(name, _kind(name, result), relevance, windows, result.get("provenance"), result.get("doubts") or {})
        )
    title = f"Record {first['record'] or found}" if first["record"] or found else "Recording"
    notes = [] if (a, b) == (0, whole) else [f"Shown is a part of the record, {a / rate:g} to {b / rate:g} s."]
    return Material("record", title, rate, b - a, a, shown, "mV", piece, tracks, notes=notes)


def of_windows(
    results: Mapping[str, Mapping], record: Any, fs: float | None, leads: Any, names: Any
) -> Material:
    """Return what is shown of results of explain, which must be of the same windows: they stand side by side."""
    first = next(iter(results.values()))
    cubes = {name: _cube(f"results[{name!r}].relevance", result["relevance"]) for name, result in results.items()}
    shape = next(iter(cubes.values())).shape
    for name, cube in cubes.items():
        if cube.shape != shape:
            raise ValueError(f"results must be of the same windows: {name!r} has {cube.shape}, the first {shape}")
    notes, unit = [], "mV"
    if record is None:
        if first.get("data") is None:
            raise ValueError("a result of explain without data needs record: pass the windows that were explained")
        data = _cube("data", first["data"])
        notes.append("Drawn is the network's input, behind whatever steps come before the network, and taken for mV.")
        for name, result in results.items():
            other = result.get("data")
            if other is not None and not np.array_equal(_cube("data", other), data, equal_nan=True):
                raise ValueError(
                    f"results must be of the same windows: the data of {name!r} are others than the first's. Where "
                    "steps before the network differ, pass the windows themselves as record"
                )
    else:
        data = _cube("record", record.get("data") if isinstance(record, Mapping) else record)
    if data.shape != shape:
        raise ValueError(f"the ECG has shape {data.shape}, the relevance {shape}: they do not belong together")
    rate = check_fs(_rate(first) if fs is None else fs, "a report of windows")
    n, n_leads, size = shape
    rows, shown = _leads(leads, names, _usual_names(n_leads))
    pitch = size + max(1, round(_GAP * size))
    length = n * pitch - (pitch - size)

    def laid_out(cube: np.ndarray) -> Callable[[int, int, int], np.ndarray]:
        def piece(lead: int, i: int, j: int) -> np.ndarray:
            window, offset = np.divmod(np.arange(i, j), pitch)
            out = np.full(j - i, np.nan, dtype=np.float32)
            inside = offset < size
            out[inside] = cube[window[inside], rows[lead], offset[inside]]
            return out

        return piece

    tracks = []
    for name, result in results.items():
        target = [str(label) for label in np.asarray(result["target"])]
        score = np.asarray(result["score"], dtype=np.float64)
        predicted = _predicted(result, target)
        if predicted is None:
            notes.append(f"{name} does not say what the network predicts: the class of a window is the explained one.")
        windows = Windows(np.arange(n) * pitch, size, target if predicted is None else predicted, target, score)
        tracks.append(Track(name, _kind(name, result), laid_out(cubes[name]), windows, result.get("provenance")))
    title = f"{n} window{'' if n == 1 else 's'} of ECG"
    return Material("windows", title, rate, length, 0, shown, unit, laid_out(data), tracks, pitch, notes)


def _predicted(result: Mapping, target: list[str]) -> list[str] | None:
    """Return the labels that ``predict`` gives, "" where the logits are not finite; None where the result lacks them.

    A label that was explained need not be the predicted one: it may have been asked for by name.
    """
    network = (result.get("provenance") or {}).get("network") or {}
    classes, logits = network.get("classes"), np.asarray(result.get("logits", np.empty((0, 0))))
    if isinstance(classes, list) and logits.shape == (len(target), len(classes)):
        multilabel = bool(network.get("multilabel"))
        cut = decision_cut(network.get("threshold", 0.5), len(classes), multilabel)
        if multilabel:
            labels = _highest(logits, logits > cut, classes)
        else:
            two = len(classes) == 2
            code = logits[:, 1] - logits[:, 0] > cut if two else logits.argmax(1)
            labels = [str(classes[int(i)]) for i in code]
        return [label if ok else "" for label, ok in zip(labels, np.isfinite(logits).all(1), strict=True)]
    if result.get("above_threshold") is not None:
        return [label if ok else _NONE for label, ok in zip(target, result["above_threshold"], strict=True)]
    return None


def _highest(values: np.ndarray, passed: np.ndarray, classes: Sequence) -> list[str]:
    """Return the label of the highest value among those that pass, "none" where none does."""
    best = np.where(passed, values, -np.inf).argmax(1)
    return [str(classes[i]) if any_passes else _NONE for i, any_passes in zip(best, passed.any(1), strict=True)]


def _without_weak(labels: list[str], result: Mapping) -> list[str]:
    """Return labels where several may hold at once: the highest that reaches its threshold, "none" where none does."""
    network = (result.get("provenance") or {}).get("network") or {}
    if not network.get("multilabel") or result.get("probability") is None:
        return labels
    probability = np.asarray(result["probability"])
    highest = _highest(probability, probability > np.asarray(network.get("threshold", 0.5), float), result["classes"])
    return [new if label else "" for label, new in zip(labels, highest, strict=True)]


def _rate(result: Mapping) -> float | None:
    provenance = result.get("provenance") or {}
    given = provenance.get("input") or {}
    return given.get("fs") if isinstance(given, Mapping) else None


def _kind(name: str, result: Mapping) -> str:
    kind = result.get("relevance_kind", "signed")
    if kind not in _KINDS:
        raise ValueError(f"relevance_kind of {name!r} must be one of {', '.join(_KINDS)}; got {kind!r}")
    return kind


def _cube(name: str, array: Any) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be an array of real numbers; got dtype {array.dtype}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(
            f"{name} must be (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), and not empty; got shape "
            f"{array.shape}"
        )
    return array if array.ndim == 3 else array[:, None, :]


def _usual_names(n_leads: int) -> list[str]:
    if n_leads == len(STANDARD_LEADS):
        return list(STANDARD_LEADS)
    return ["ECG"] if n_leads == 1 else [f"lead {i}" for i in range(n_leads)]


def _leads(leads: Any, given: Any, names: list[str]) -> tuple[list[int], list[str]]:
    """Return the rows that are shown and their names."""
    if given is not None:
        if isinstance(given, str) or len(given) != len(names):
            raise ValueError(f"lead_names must be {len(names)} names, one an explained lead; got {given!r}")
        names = [str(name) for name in given]
    one = isinstance(leads, str | Integral)
    rows = []
    for lead in range(len(names)) if leads is None else [leads] if one else leads:
        if isinstance(lead, str) and lead in names:
            rows.append(names.index(lead))
        elif isinstance(lead, Integral) and not isinstance(lead, bool) and -len(names) <= lead < len(names):
            rows.append(int(lead) % len(names))
        else:
            raise ValueError(f"leads holds {lead!r}; the explained leads are {names}, or 0 to {len(names) - 1}")
    if not rows or len(set(rows)) < len(rows):
        raise ValueError(f"leads must name one lead at least, and each once; got {leads!r}")
    shown = [names[row] for row in rows]
    return rows, [f"lead {name}" if name.isdecimal() else canonical_name(name) for name in shown]


def _section(start: Any, stop: Any, fs: float, length: int) -> tuple[int, int]:
    end = length / fs
    a = 0 if start is None else round(check_number("start", start, low=0, high=end, unit="(s)") * fs)
    b = length if stop is None else min(length, round(check_number("stop", stop, low=0, unit="(s)") * fs))
    if b - a < 2:
        raise ValueError(f"nothing lies between start={start!r} and stop={stop!r} s of a record of {end:g} s")
    return a, b


def _reader(record: Any, positions: list[int], length: int) -> tuple[Callable[[int, int, int], np.ndarray], str]:
    """Return what reads (explained lead, from, to) in mV, and the record's name."""
    if isinstance(record, str | os.PathLike):
        header = read_record(record, leads=positions, signal=False)
        if header.n_timesteps is not None and header.n_timesteps != length:
            raise ValueError(
                f"record {header.record} has {header.n_timesteps} samples, the results {length}: they do not belong "
                "together"
            )

        def from_file(lead: int, a: int, b: int) -> np.ndarray:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the header's were told above
                return read_record(record, leads=positions[lead], sampfrom=a, sampto=b).data[0]

        return from_file, header.record
    name = str(record.get("record", "")) if isinstance(record, Mapping) else ""
    data = record.get("data") if isinstance(record, Mapping) else record
    if not isinstance(data, np.ndarray) or data.ndim not in (1, 2) or data.dtype.kind not in "fiu":
        got = f"an array of {data.dtype}, {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise ValueError(
            "record must be the path of a WFDB record, numbers of shape (n_leads, n_timesteps), or what read_record "
            f"returns; got {got}"
        )
    data = data if data.ndim == 2 else data[None]
    if data.shape[1] != length:
        raise ValueError(f"record has {data.shape[1]} samples, the results {length}: they do not belong together")
    if max(positions) >= len(data):
        raise ValueError(f"record has {len(data)} leads, the results are of lead {max(positions)}, counted from 0")
    return lambda lead, a, b: np.asarray(data[positions[lead], a:b]), name


def marks_of(beats: Any, material: Material) -> Marks:
    """Return the beats that are shown, of whatever they came as."""
    none = Marks(np.empty(0, dtype=np.int64), [], False)
    if beats is None:
        return none
    if material.mode == "windows":
        parts = [beats] if isinstance(beats, Beats) else list(beats) if isinstance(beats, Sequence) else []
        n = len(material.tracks[0].windows.start)
        if len(parts) != n or not all(isinstance(part, Beats) for part in parts):
            raise ValueError(f"beats of {n} windows must be a list of as many Beats, as find_beats returns them")
        _check_rates(parts, material.fs)
        sample = np.concatenate([part.r_peaks + i * material.pitch for i, part in enumerate(parts)])
        return Marks(sample, [""] * len(sample), False)
    if isinstance(beats, Sequence) and len(beats) == 1 and isinstance(beats[0], Beats):
        beats = beats[0]
    if isinstance(beats, Beats):
        _check_rates([beats], material.fs)
        sample, label = beats.r_peaks, None
    elif isinstance(beats, Mapping):
        if "sample" not in beats or not ("label" in beats or "symbol" in beats):
            raise ValueError("beats must hold sample and label (or symbol), as read_record(annotator='atr') returns")
        sample, label = np.asarray(beats["sample"]), beats.get("label", beats.get("symbol"))
        if "label" not in beats and len(label) == len(sample):
            keep = np.isin(np.asarray(label, dtype=str), list(BEAT_SYMBOLS))  # no notes on rhythm or quality
            sample, label = sample[keep], np.asarray(label)[keep]
    elif isinstance(beats, tuple) and len(beats) == 2:
        sample, label = np.asarray(beats[0]), beats[1]
    else:
        sample, label = np.asarray(beats), None
    if sample.ndim != 1 or (sample.size and sample.dtype.kind not in "iu"):
        raise ValueError(
            f"positions of beats must be integers, (n_beats,), in samples; got {sample.dtype} of shape {sample.shape}"
        )
    if label is not None and len(label) != len(sample):
        raise ValueError(f"{len(label)} labels came for {len(sample)} beats: one each is expected")
    order = np.argsort(sample, kind="stable")
    sample = sample.astype(np.int64)[order] - material.origin
    inside = (sample >= 0) & (sample < material.length)
    texts = [""] * len(sample) if label is None else [str(label[i]) for i in order]
    return Marks(
        sample[inside], [text for text, keep in zip(texts, inside, strict=True) if keep], label is not None
    )


def _check_rates(parts: Sequence[Beats], fs: float) -> None:
    for part in parts:
        if not np.isclose(part.fs, fs):
            raise ValueError(f"beats are of {part.fs:g} Hz, the ECG has {fs:g} Hz")
