"""LUDB: 200 ECG of twelve leads in which the limits of P wave, QRS complex and T wave were marked by cardiologists."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ..utils._leads import STANDARD_LEADS
from ..utils._validation import check_option
from ._annotations import read_annotations
from ._databases import LUDB
from ._home import check_flags, check_names, describe, get_data_home
from ._twelve_lead import (
    N_LEADS,
    bad_cell,
    check_indicator_labels,
    find_signals_folder,
    get_files,
    make_indicators,
    object_array,
    read_rows,
    read_table,
)

TABLE = "ludb.csv"
N_TIMESTEPS = 5000
_FOLDERS = {record.rpartition("/")[2]: record for record in LUDB.records}
# Peaks as the annotation files mark them, and what the masks write.
WAVES: Mapping[str, str] = {"p": "P", "N": "QRS", "t": "T"}
CODES: Mapping[str, int] = {"P": 1, "QRS": 2, "T": 3}
_INTERVALS = [
    ("row", np.int64),
    ("record", "<U3"),
    ("lead", "<U3"),
    ("wave", "<U3"),
    ("onset", np.int64),
    ("peak", np.int64),
    ("offset", np.int64),
]

RHYTHMS: dict[str, tuple[str, ...]] = {
    "SR": ("Sinus rhythm",),
    "SB": ("Sinus bradycardia",),
    "ST": ("Sinus tachycardia",),
    "SA": ("Sinus arrhythmia",),
    "irregular SR": ("Irregular sinus rhythm",),
    "AF": ("Atrial fibrillation",),
    "AFL": ("Atrial flutter, typical",),
    "WAP": ("Wandering atrial pacemaker",),
    "aberrant conduction": ("Aberrant conduction",),
}
_BLOCKS: dict[str, tuple[str, ...]] = {
    "1dAVb": ("I degree av block",),
    "RBBB": ("Complete right bundle branch block",),
    "LBBB": ("Complete left bundle branch block",),
}
# The six outputs of the network of Ribeiro et al. (2020), in its order.
RIBEIRO = _BLOCKS | {label: RHYTHMS[label] for label in ("SB", "AF", "ST")}


@dataclass(frozen=True)
class _Row:
    """What the table says of a subject."""

    sex: str
    age: float
    over_89: bool
    rhythms: tuple[str, ...]
    diagnoses: tuple[str, ...]


def fetch_ludb(
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    classes: str | Sequence[str] | Mapping[str, str | Sequence[str]] = "rhythm",
    records: Sequence[int | str] | str | None = None,
    return_X_y: bool = False,
    on_error: str = "raise",
    verbose: int = 1,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load twelve-lead ECG of 10 s from LUDB with the limits of P wave, QRS complex and T wave in every lead.

    200 recordings of 200 people at 500 Hz; cardiologists marked 58,423 waves, lead by lead [1]_. What is missing is
    downloaded from PhysioNet [2]_ and verified.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder that holds, or will hold, the databases; None takes the environment variable ``SKECG_DATA``, and where
        that is not set ``~/skecg_data``. The database may lie in ``<data_home>/ludb`` or in the folder itself, in
        PhysioNet's layout (the records in ``data``) or flat.
    download_if_missing : bool, default=True
        Whether missing files are downloaded. False, or the environment variable ``SKECG_OFFLINE=1``, opens no
        connection.
    classes : "rhythm", "ribeiro", sequence of str or mapping, default="rhythm"
        The labels. "rhythm": SR, SB, ST, SA (sinus arrhythmia), irregular SR, AF, AFL, WAP (wandering pacemaker),
        aberrant conduction. "ribeiro": the outputs of the network of Ribeiro et al. (2020), 1dAVb, RBBB and LBBB
        (complete), SB, AF, ST. A sequence may hold any of these labels and any statement of the table as it stands
        there; a mapping gives labels of your own, ``{"LVH": "Left ventricular hypertrophy"}``.
    records : sequence of int or str, or "local", default=None
        Numbers of the records, 1 to 200; None means all, "local" those that are in the data home already.
    return_X_y : bool, default=False
        Whether ``(data, target)`` is returned instead of a Bunch.
    on_error : "raise" or "warn", default="raise"
        What happens with a record that cannot be had or read: an error, or a warning with its name and the reason,
        and the other records are returned. A table that cannot be right is an error either way.
    verbose : int, default=1
        Above 0, show a progress bar while downloading, and while reading takes more than two seconds.

    Returns
    -------
    ludb : Bunch
        With the attributes:

        data : ndarray of shape (n_samples, 12, 5000), float32, mV
            The recordings, by number, or in the order of ``records``.
        target : ndarray of int, shape (n_samples, n_labels)
            1 where the record has the label. Four records have two rhythms.
        target_names : list of str
            The labels, in the order of the columns.
        masks : ndarray of shape (n_samples, 12, 5000), uint8
            1 in a P wave, 2 in a QRS complex, 3 in a T wave, from onset to offset, both included; else 0. A wave with
            a limit that is missing is not in it.
        annotated : ndarray of int64, shape (n_samples, 12, 2)
            The part of each lead that was annotated, from its first mark up to but not including the sample after its
            last. **Outside of it a 0 in the mask says nothing**: the first and last beats were not annotated. In it
            the P wave of the first beat and the T wave of the last may lie outside, and so be absent.
        intervals : structured ndarray of shape (n_waves,)
            Every wave, by row, lead and time: ``row`` (of ``data``), ``record``, ``lead``, ``wave`` ("P", "QRS" or
            "T"), ``onset``, ``peak``, ``offset`` (samples, -1 where the limit is missing). ``pandas.DataFrame`` takes
            it as it is.
        n_unpaired : dict of int
            Waves with a limit that is missing, by wave; and limits that belong to no peak (``limits``).
        groups : ndarray of str, shape (n_samples,)
            Subject: the record.
        record : ndarray of str, shape (n_samples,)
            Number of the record.
        sample : ndarray of int64, shape (n_samples,)
            Position of the first sample in its record: 0.
        rhythms, diagnoses : ndarray of object, shape (n_samples,)
            Tuples of str: the rhythms, and everything else that the table says, as it stands there.
        age : ndarray of float, shape (n_samples,)
            Years; 90 where the table says ``>89``.
        age_over_89 : ndarray of bool, shape (n_samples,)
            Whether it says so.
        sex : ndarray of str, shape (n_samples,)
            "male" or "female".
        fs : float
            500.0, Hz.
        lead_names : list of str
            I, II, III, aVR, aVL, aVF, V1 to V6.
        skipped : dict of str
            Records left out with ``on_error="warn"``, and the reason.
        DESCR : str
            Source, licence, labels and quirks of the database.

    (data, target) : tuple of ndarray
        With ``return_X_y=True``.

    Raises
    ------
    OSError
        Where files are missing and are not, or cannot be, downloaded. It names the files, the environment variable
        and how to get them.
    ValueError
        For an unknown label or record, a table that cannot be right (with its line and column), a damaged record, or a
        parameter out of its range.

    See Also
    --------
    fetch_ptbxl : Many more recordings, without limits of waves.

    Notes
    -----
    A limit belongs to a peak where it is the mark right before or right after it. Marks are not counted in pairs: in 25
    records brackets are missing, and one that is missing would shift all that follow.

    References
    ----------
    .. [1] Kalyakulina AI, Yusipov II, Moskalenko VA, et al. LUDB: a new open-access validation tool for
       electrocardiogram delineation algorithms. IEEE Access 8:186181-186190, 2020.
    .. [2] Goldberger AL, Amaral LAN, Glass L, et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation
       101(23):e215-e220, 2000.

    Examples
    --------
    >>> from skecg.datasets import fetch_ludb
    >>> ludb = fetch_ludb()  # doctest: +SKIP
    >>> ludb.data.shape, len(ludb.intervals)  # doctest: +SKIP
    ((200, 12, 5000), 58423)
    """
    check_option("on_error", on_error, ("raise", "warn"))
    check_flags(download_if_missing=download_if_missing, return_X_y=return_X_y)
    local = isinstance(records, str) and records == "local"
    whole = records is None or local
    names = list(_FOLDERS) if whole else check_names(records, _FOLDERS, "1 to 200")
    files = {name: LUDB.files(_FOLDERS[name]) for name in names}
    folder = find_signals_folder(get_data_home(data_home), LUDB, [TABLE, *(wanted[0] for wanted in files.values())])
    skipped: dict[str, str] = {}
    settings = {"local": local, "download_if_missing": download_if_missing, "skipped": skipped, "verbose": verbose}
    table = get_files(folder, {"the table": [TABLE]}, LUDB, on_error="raise", **settings)["the table"][0]
    rows = read_rows_of_table(table)
    statements = {statement for row in rows.values() for statement in (*row.rhythms, *row.diagnoses)}
    meanings = [statement for group in (RHYTHMS, RIBEIRO) for means in group.values() for statement in means]
    labels = check_indicator_labels(
        classes, [*meanings, *statements], RHYTHMS | RIBEIRO, {"rhythm": RHYTHMS, "ribeiro": RIBEIRO}
    )
    if lacking := [name for name in names if name not in rows and not whole]:
        raise ValueError(f"{table} has no line for the records {', '.join(lacking)}; download it again")
    files = {name: wanted for name, wanted in files.items() if name in rows}
    paths = get_files(folder, files, LUDB, on_error=on_error, **settings)

    masks = np.zeros((len(paths), N_LEADS, N_TIMESTEPS), dtype=np.uint8)
    annotated = np.zeros((len(paths), N_LEADS, 2), dtype=np.int64)
    waves: list[list[tuple]] = []
    stray: list[int] = []

    def annotations(row: int, record: str, path: Path) -> None:
        found, left = [], 0
        for i, lead in enumerate(STANDARD_LEADS):
            limits, n_stray, part = read_waves(path.with_name(f"{record}.{lead.lower()}"))
            annotated[row, i] = part
            masks[row, i] = 0
            for wave, onset, peak, offset in limits:
                found.append((row, record, lead, wave, onset, peak, offset))
                if onset >= 0 and offset >= 0:
                    masks[row, i, onset : offset + 1] = CODES[wave]
            left += n_stray
        waves.append(found)
        stray.append(left)

    data, names = read_rows(
        {name: found[0] for name, found in paths.items()},
        N_TIMESTEPS,
        LUDB.fs,
        name="LUDB",
        on_error=on_error,
        skipped=skipped,
        verbose=verbose,
        extra=annotations,
    )
    chosen = [rows[name] for name in names]
    target = make_indicators([(*row.rhythms, *row.diagnoses) for row in chosen], labels, "LUDB")
    if return_X_y:
        return data, target
    intervals = np.array([wave for found in waves for wave in found], dtype=_INTERVALS)
    unpaired = Counter(intervals["wave"][(intervals["onset"] < 0) | (intervals["offset"] < 0)].tolist())
    return Bunch(
        data=data,
        target=target,
        target_names=list(labels),
        masks=masks[: len(names)],
        annotated=annotated[: len(names)],
        intervals=intervals,
        n_unpaired={wave: unpaired[wave] for wave in CODES} | {"limits": sum(stray)},
        groups=np.array(names),
        record=np.array(names),
        sample=np.zeros(len(names), dtype=np.int64),
        rhythms=object_array([row.rhythms for row in chosen]),
        diagnoses=object_array([row.diagnoses for row in chosen]),
        age=np.array([row.age for row in chosen]),
        age_over_89=np.array([row.over_89 for row in chosen]),
        sex=np.array([row.sex for row in chosen]),
        fs=LUDB.fs,
        lead_names=list(STANDARD_LEADS),
        skipped=skipped,
        DESCR=describe("ludb"),
    )


def read_waves(path: Path) -> tuple[list[tuple[str, int, int, int]], int, tuple[int, int]]:
    """Read the waves of one lead.

    Parameters
    ----------
    path : pathlib.Path
        The annotation file, such as ``1.avf``: ``(`` for an onset, ``p``, ``N`` or ``t`` for a peak, ``)`` for an
        offset.

    Returns
    -------
    waves : list of (wave, onset, peak, offset)
        In the order of time; a limit that is not the neighbour of its peak is -1.
    n_stray : int
        Limits that belong to no peak.
    annotated : (int, int)
        Position of the first mark, and the one after the last mark.

    Raises
    ------
    ValueError
        For a file that is damaged, holds other marks, or marks beyond the record.
    """
    found = read_annotations(path)
    marks = list(zip(found.symbol.tolist(), found.sample.tolist(), strict=True))
    if not marks:
        raise ValueError(f"{path}: it holds no marks; download it again")
    if other := {symbol for symbol, _ in marks} - {*WAVES, "(", ")"}:
        raise ValueError(f"{path}: marks {', '.join(sorted(other))}, expected none but (, p, N, t and )")
    if marks[-1][1] >= N_TIMESTEPS:
        raise ValueError(f"{path}: a mark at sample {marks[-1][1]}, beyond the {N_TIMESTEPS} samples of the record")
    padded = [("", -1), *marks, ("", -1)]
    waves = []
    for (before, onset), (symbol, peak), (after, offset) in zip(padded, padded[1:], padded[2:], strict=False):
        if symbol in WAVES:
            waves.append((WAVES[symbol], onset if before == "(" else -1, peak, offset if after == ")" else -1))
    limits = sum(symbol in "()" for symbol, _ in marks)
    used = sum((onset >= 0) + (offset >= 0) for _, onset, _, offset in waves)
    return waves, limits - used, (marks[0][1], marks[-1][1] + 1)


def read_rows_of_table(path: Path) -> dict[str, _Row]:
    """Read LUDB's table of subjects: cells hold several values, one a line, and white space at their ends.

    Parameters
    ----------
    path : pathlib.Path
        ``ludb.csv``.

    Returns
    -------
    rows : dict
        By the number of the record.

    Raises
    ------
    ValueError
        With file, line and column, for what cannot be right.
    """
    rows: dict[str, _Row] = {}
    for line, cells in read_table(path, ("ID", "Sex", "Age", "Rhythms")):
        values = {
            column: tuple(value.strip() for value in cell.splitlines() if value.strip())
            for column, cell in cells.items()
        }
        name, sex, age = ("".join(values[column]) for column in ("ID", "Sex", "Age"))
        if name not in _FOLDERS or name in rows:
            raise bad_cell(path, line, f"{name[:40]!r}, expected a number from 1 to 200, each once", "ID")
        if sex not in ("M", "F"):
            raise bad_cell(path, line, f"{sex[:40]!r}, expected M or F", "Sex")
        if not re.fullmatch(r"[0-9]{1,3}|>89", age):
            raise bad_cell(path, line, f"{age[:40]!r}, expected years or >89", "Age")
        rows[name] = _Row(
            sex={"M": "male", "F": "female"}[sex],
            age=90.0 if age == ">89" else float(age),
            over_89=age == ">89" or int(age) > 89,
            rhythms=values["Rhythms"],
            diagnoses=tuple(
                value
                for column, cell in values.items()
                if column not in ("ID", "Sex", "Age", "Rhythms")
                for value in cell
            ),
        )
    return rows
