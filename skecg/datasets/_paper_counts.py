"""The first paper's table of windows, counted again from annotation files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ._annotations import read_annotations
from ._databases import LTAFDB, LTDB, MITDB, Database
from ._headers import read_header
from ._home import find_folder, get_data_home
from ._segment import BEAT_SYMBOLS, select_beats
from ._segment_rhythm import select_marks

_CLOSE = 0.01  # up to this share of the published number a count is called close

# What each rule says; the letters are those of _RULES.
_TEXTS: Mapping[str, str] = {
    "beat": "2 s around a beat, within the record",
    "pure": "from 1 s before to 1 s after a beat, both ends included, every annotation of any kind has the beat's "
    "symbol; the window between the record's first and last annotation",
    "mark": "2 s around a rhythm mark, within the record",
    "alone": "2 s around a rhythm mark, within the record, no other rhythm mark in it",
    "long": "720 samples (2 s at 360 Hz, 5.6 s at this rate) around a rhythm mark, between the record's first and last "
    "annotation",
    "normal": "2 s around a rhythm mark, within the record, every beat in it N",
}

# Labels of the paper, and the annotations that its counts show them to be.
_SYMBOLS: Mapping[str, str] = {"N": "N", "PVC": "V", "PAC": "A", "LBBB": "L", "RBBB": "R"}
_NOTES: Mapping[str, str] = {"N": "(N", "AFIB": "(AFIB", "SVTA": "(SVTA", "SBR": "(SBR"}

# (label, published, rule); a class that two rules come near to stands there twice.
_RULES: tuple[tuple[Database, tuple[tuple[str, int, str], ...]], ...] = (
    (LTDB, (("N", 517_402, "pure"), ("PVC", 5_137, "pure"))),
    (
        LTAFDB,
        (
            ("PVC", 1_318, "pure"),
            ("PAC", 14_914, "pure"),
            ("SBR", 11_323, "alone"),
            ("SBR", 11_323, "long"),
            ("SVTA", 3_265, "mark"),
            ("SVTA", 3_265, "alone"),
            ("AFIB", 7_241, "alone"),
            ("AFIB", 7_241, "mark"),
            ("N", 10_756, "normal"),
        ),
    ),
    (
        MITDB,
        (
            ("AFIB", 102, "mark"),
            ("N", 75_013, "beat"),
            ("PVC", 7_121, "beat"),
            ("PAC", 2_542, "beat"),
            ("SVTA", 22, "mark"),
            ("LBBB", 6_580, "beat"),
            ("RBBB", 5_400, "beat"),
        ),
    ),
)


@dataclass(frozen=True)
class PaperCount:
    """One count of the first paper's table, and the same counted again by a rule.

    Parameters
    ----------
    database, label : str
        Where the class was counted.
    published : int
        What the paper's table says.
    rule : str
        Which windows are counted.
    annotated : int or None
        All annotations of the class, in a window or not; None where it was not counted.
    count : int or None
        The windows by the rule; None where it was not counted.
    outcome : str
        ``"exact"``, ``"close"`` (at most 1 % off) or ``"not reproduced"``, with the difference; or ``"not counted"``
        with what is missing.

    See Also
    --------
    paper_counts : All of them.
    """

    database: str
    label: str
    published: int
    rule: str
    annotated: int | None
    count: int | None
    outcome: str


def paper_counts(data_home: str | os.PathLike | None = None) -> list[PaperCount]:
    """Count the windows of the first paper's table again, from annotation files alone.

    The paper's table [1]_ has eight classes from three databases. How its windows were chosen is not known to us;
    the rules here were found by counting. Where one gives the published number to the digit over hundreds of thousands
    of beats, it is taken for the paper's; where none was found, that is said.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder that holds the databases mitdb, ltdb and ltafdb: see :func:`get_data_home`. Headers and annotations will
        do; nothing is downloaded.

    Returns
    -------
    counts : list of PaperCount
        With database, label, published number, rule, annotations, count and outcome each. A class stands there
        twice where two rules come near to its number. Databases that are not there are reported as not counted.

    Raises
    ------
    ValueError
        For a header or an annotation file that is damaged; it names the file.

    See Also
    --------
    segment_beats : Windows around beats; ``pure=True, edge="annotations"`` is the rule of the long-term databases.
    segment_rhythm : Windows at rhythm marks or inside episodes.

    Notes
    -----
    What the exact rules mean for who trains on such windows: a pure PVC of the long-term databases is a run of
    ventricular beats, or a beat alone in its two seconds, not the isolated PVC between normal beats of MIT-BIH. A
    window around a rhythm mark is half the rhythm before.

    References
    ----------
    .. [1] Vijayarangan S, Murugesan B, Vignesh R, Preejith SP, Joseph J, Sivaprakasam M. Interpreting Deep Neural
       Networks for Single-Lead ECG Arrhythmia Classification. EMBC 2020: the table on the authors' slides.

    Examples
    --------
    >>> from skecg.datasets import paper_counts
    >>> counts = paper_counts()  # doctest: +SKIP
    >>> counts[1].label, counts[1].published, counts[1].count, counts[1].outcome  # doctest: +SKIP
    ('PVC', 5137, 5137, 'exact')
    """
    home, found = get_data_home(data_home), []
    for database, rules in _RULES:
        files = [file for name in database.records for file in database.files(name, signal=False)]
        folder = find_folder(home, (database.name, database.slug), database.versions, files)
        if missing := [file for file in files if not (folder / file).is_file()]:
            told = f"not counted: {home} lacks {len(missing)} files of {database.name} ({missing[0]}, ...)"
            found += [PaperCount(database.name, x, wanted, _TEXTS[rule], None, None, told) for x, wanted, rule in rules]
            continue
        counts = np.zeros((len(rules), 2), dtype=np.int64)
        for name in database.records:
            marks = read_marks(folder / f"{name}.hea", database.annotator)
            counts += [count_windows(marks, label, rule) for label, _, rule in rules]
        for (label, published, rule), (annotated, count) in zip(rules, counts.tolist(), strict=True):
            told = judge(count, published)
            found.append(PaperCount(database.name, label, published, _TEXTS[rule], annotated, count, told))
    return found


def read_marks(header: Path, annotator: str) -> Bunch:
    """Read the annotations of a record inside its length, and nothing that only the signal needs."""
    head = read_header(header)
    marks = read_annotations(header.with_name(f"{head.record}.{annotator}"))
    if head.n_timesteps is None:
        raise ValueError(f"{header}: no length is given; whether a window lies in the record cannot be told")
    inside = marks.sample < head.n_timesteps
    return Bunch(
        sample=marks.sample[inside],
        symbol=marks.symbol[inside],
        aux_note=marks.aux_note[inside],
        n_timesteps=head.n_timesteps,
        fs=head.fs,
    )


def count_windows(marks: Mapping, label: str, rule: str) -> tuple[int, int]:
    """Count the annotations of a class in a record, and the windows that a rule leaves.

    Parameters
    ----------
    marks : mapping
        ``sample``, ``symbol``, ``aux_note``, ``n_timesteps`` and ``fs`` of a record.
    label : str
        Class of the paper.
    rule : {"beat", "pure", "mark", "alone", "long", "normal"}
        A key of ``_TEXTS``.

    Returns
    -------
    annotated, count : int
        All annotations of the class, and windows.
    """
    sample, symbol, note, last = marks["sample"], marks["symbol"], marks["aux_note"], marks["n_timesteps"]
    n = 720 if rule == "long" else round(2 * marks["fs"])
    if rule in ("beat", "pure"):
        pure = rule == "pure"
        edge = "annotations" if pure else "signal"
        chosen, _ = select_beats(sample, symbol, 0, last, n, {label: _SYMBOLS[label]}, edge=edge, pure=pure)
        return int((symbol == _SYMBOLS[label]).sum()), len(chosen)
    edge = "annotations" if rule == "long" else "signal"
    chosen, excluded = select_marks(
        sample, symbol, note, 0, last, n, {label: _NOTES[label]}, edge=edge, alone=rule == "alone"
    )
    annotated = len(chosen) + sum(excluded.values())
    if rule == "normal":
        low = np.searchsorted(sample, sample[chosen] - n // 2, side="left")
        high = np.searchsorted(sample, sample[chosen] + n // 2, side="right")
        others = np.cumsum(np.isin(symbol, [s for s in BEAT_SYMBOLS if s != "N"]))
        before = np.where(low > 0, others[low - 1], 0)
        chosen = chosen[others[high - 1] == before]
    return annotated, len(chosen)


def judge(count: int, published: int) -> str:
    """Say how a count compares with the published one."""
    if count == published:
        return "exact"
    difference = f"{count - published:+,} ({(count - published) / published:+.1%})"
    return f"{'close' if abs(count - published) <= _CLOSE * published else 'not reproduced'}: {difference}"
