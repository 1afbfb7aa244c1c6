"""What the labels of a fetcher mean in one database, and which windows of a record they give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ._databases import AAMI, Database
from ._home import list_names
from ._segment import Source, label_beats, select_beats
from ._segment_rhythm import find_episodes, label_rhythms, rhythm_notes, select_marks


@dataclass(frozen=True)
class Labels:
    """Labels that are wanted: beats by their symbols, rhythms by the notes of their marks."""

    names: tuple[str, ...]
    beats: Mapping[str, str]
    rhythms: Mapping[str, tuple[str, ...]]
    is_aami: bool = False


@dataclass(frozen=True)
class Windows:
    """Windows of one record before any signal is read.

    ``code`` is the position of the label in ``Labels.names``, ``sample`` the annotation, ``start`` the first sample of
    the window before any shift, ``limits`` what a shifted window must not leave.
    """

    sample: np.ndarray
    start: np.ndarray
    code: np.ndarray
    limits: np.ndarray
    excluded: Counter

    def __getitem__(self, rows: np.ndarray) -> Windows:
        """Return some of the windows."""
        return Windows(self.sample[rows], self.start[rows], self.code[rows], self.limits[rows], self.excluded)


def check_labels(classes: str | Sequence[str] | Mapping[str, Any], database: Database) -> Labels:
    """Return labels with what they mean; ValueError for what the database has not, or a meaning given twice.

    Parameters
    ----------
    classes : str, sequence of str or mapping
        ``"aami"``, labels of the database's tables, or labels of the user's own with symbols and notes.
    database : Database
        Whose labels.
    """
    if isinstance(classes, str) and classes == "aami":
        if not database.beats:
            raise ValueError(f"classes='aami' wants annotated beats; {database.name} has only {_known(database)}")
        return Labels(tuple(AAMI), AAMI, {}, is_aami=True)
    if not isinstance(classes, Iterable):
        raise ValueError(f"classes must be labels, or a mapping of labels to their meaning; got {classes!r}")
    if isinstance(classes, Mapping):
        labels = list(classes)
        chosen = {str(label): _meaning(str(label), meaning) for label, meaning in classes.items()}
    else:
        labels = [classes] if isinstance(classes, str) else list(classes)
        known = {**database.rhythms, **database.beats}
        if unknown := [label for label in labels if not isinstance(label, str) or label not in known]:
            aami = "'aami', " if database.beats else ""
            raise ValueError(
                f"classes has the unknown {', '.join(map(repr, unknown))}; allowed are {_known(database)}, {aami}or a "
                f"mapping of labels to annotation symbols or to notes of rhythm marks, such as '(AFIB'"
            )
        chosen = {label: known[label] for label in labels}
    if len(chosen) < len(labels):
        raise ValueError(f"classes must be different labels; got {classes!r}")
    beats = {label: meaning for label, meaning in chosen.items() if isinstance(meaning, str)}
    rhythms = {label: meaning for label, meaning in chosen.items() if not isinstance(meaning, str)}
    every = [*"".join(beats.values()), *(note for notes in rhythms.values() for note in notes)]
    if not every or len(set(every)) < len(every) or not all(chosen.values()) or "" in chosen:
        raise ValueError(
            f"classes must give each label its own annotation symbols, or its own notes of rhythm marks; got "
            f"{classes!r}"
        )
    return Labels(tuple(chosen), beats, rhythms)


def _known(database: Database) -> str:
    return ", ".join([*database.beats, *database.rhythms])


def _meaning(label: str, meaning: Any) -> str | tuple[str, ...]:
    """Return symbols of beats as one text, or notes of rhythms, which are longer and begin with "(", as a tuple."""
    parts = list_names(meaning)
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(f"classes: {label!r} must have symbols or notes as texts; got {meaning!r}")
    notes = [part for part in parts if part.startswith("(") and len(part) > 1]
    if notes and len(notes) < len(parts):
        raise ValueError(f"classes: {label!r} mixes symbols of beats with notes of rhythms: {meaning!r}")
    return tuple(notes) if notes else "".join(parts)


def choose_windows(record: Bunch, labels: Labels, n: int, *, rhythm: str, edge: str, pure: bool) -> Windows:
    """Choose the windows of a record by its annotations alone, in the order of time.

    Parameters
    ----------
    record : Bunch
        What :func:`read_record` returns with the annotations of the whole record.
    labels : Labels
        What is wanted.
    n : int
        Samples in a window.
    rhythm, edge, pure
        The rules; see :func:`fetch_mitdb`.
    """
    last, excluded = record.n_timesteps, Counter(edge=0, impure=0, missing=0)
    codes = {label: code for code, label in enumerate(labels.names)}
    sample, start, target, limits = [], [], [], []

    def add(at: np.ndarray, begin: np.ndarray, names: np.ndarray, low: Any, left: Mapping[str, int]) -> None:
        sample.append(at)
        start.append(begin)
        target.append(_codes(names, codes))
        limits.append(np.broadcast_to(low, (len(at), 2)))
        excluded.update(left)

    if labels.beats:
        rows, left = select_beats(record.sample, record.symbol, 0, last, n, labels.beats, edge=edge, pure=pure)
        at = record.sample[rows]
        add(at, at - n // 2, label_beats(record.symbol[rows], labels.beats), (0, last), left)
    if labels.rhythms and rhythm == "marks":
        rows, left = select_marks(
            record.sample, record.symbol, record.aux_note, 0, last, n, labels.rhythms, edge=edge, alone=pure
        )
        at, notes = record.sample[rows], rhythm_notes(record.symbol, record.aux_note)[rows]
        add(at, at - n // 2, label_rhythms(notes, labels.rhythms), (0, last), left)
    elif labels.rhythms:
        source = Source(None, record.fs, record.sample, record.symbol, 0, last, record.record, "", [])
        marks, spans, names = find_episodes(source, record.aux_note, labels.rhythms, edge=edge)
        counts = np.maximum((spans[:, 1] - spans[:, 0]) // n, 0)
        of = np.repeat(np.arange(len(marks)), counts)
        begin = spans[of, 0] + (np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)) * n
        add(record.sample[marks[of]], begin, names[of], spans[of], {"short": int((counts == 0).sum())})
    if len(sample) == 1:
        return Windows(sample[0], start[0], target[0], limits[0], excluded)
    windows = Windows(*map(np.concatenate, (sample, start, target, limits)), excluded)
    return windows[np.argsort(windows.start, kind="stable")]


def _codes(names: np.ndarray, codes: Mapping[str, int]) -> np.ndarray:
    found, where = np.unique(names, return_inverse=True)
    return np.array([codes[name] for name in found.tolist()], dtype=np.int16)[where]
