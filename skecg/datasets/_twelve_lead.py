"""What the fetchers of twelve-lead databases share: files, tables, whole records in the standard order, indicators."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..utils._leads import STANDARD_LEADS, arrange_leads
from ._databases import Database
from ._download import fetch_files
from ._home import (
    MissingFileError,
    find_folder,
    get_memory,
    leaving_out,
    list_names,
    locate_files,
    show_progress,
    tell_notes,
)
from ._records import read_quietly

N_LEADS = len(STANDARD_LEADS)
_MAX_TABLE_BYTES = 1 << 26


def find_signals_folder(home: Path, database: Database, files: Sequence[str]) -> Path:
    """Return the folder in which most of some files lie, of any version that is known; else where they belong."""
    return find_folder(home, (database.name, database.slug), database.versions, files)


def get_files(
    folder: Path,
    files: Mapping[str, Sequence[str]],
    database: Database,
    *,
    local: bool,
    download_if_missing: bool,
    on_error: str,
    skipped: dict[str, str],
    verbose: int,
) -> dict[str, list[Path]]:
    """Return where the files of records lie, after downloading what is missing.

    Parameters
    ----------
    folder : pathlib.Path
        The database's folder.
    files : mapping
        Records, and the paths of their files inside the database.
    database : Database
        Which database.
    local : bool
        Whether records without all their files are left out, and nothing is downloaded.
    download_if_missing, on_error, verbose
        As in the fetchers.
    skipped : dict
        Gets the records left out, and the reason.

    Returns
    -------
    paths : dict
        Records that are there, in the order of ``files``, and their files: all in one folder.
    """
    there = locate_files(folder, [file for names in files.values() for file in names])
    paths = {}
    for name, wanted in files.items():
        found = [there[file] for file in wanted if file in there]
        if len(found) == len(wanted) and len({path.parent for path in found}) == 1:
            paths[name] = found
    lacking = {name: wanted for name, wanted in files.items() if name not in paths}
    if local and not paths:
        wanted = [file for names in lacking.values() for file in names]
        raise MissingFileError(
            f"nothing that was asked for lies in {folder} ({', '.join(wanted[:2])}): set SKECG_DATA or data_home to "
            f"the folder that holds {database.name} (from {database.page}), or pass records=None to download it",
            wanted,
        )
    if local or not lacking:
        return paths
    try:
        # A record is taken from one place: what lies half in a flat folder is downloaded whole.
        wanted = [file for names in lacking.values() for file in names]
        fetch_files(folder, wanted, database, download_if_missing=download_if_missing, verbose=verbose, flat=False)
    except MissingFileError as error:
        lost = {name: [file for file in wanted if file in error.files] for name, wanted in lacking.items()}
        lost = {name: missing for name, missing in lost.items() if missing}
        if on_error == "raise" or len(lost) in (0, len(files)):
            raise
        for name, missing in lost.items():
            skipped[name] = f"{', '.join(missing)} missing from {folder}"
        warnings.warn(f"{database.name}: {len(lost)} records left out: {error}", UserWarning, stacklevel=3)
    paths |= {name: [folder / file for file in wanted] for name, wanted in lacking.items() if name not in skipped}
    return {name: paths[name] for name in files if name in paths}


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a table of comma-separated values, strictly.

    Parameters
    ----------
    path : pathlib.Path
        The file: UTF-8, names of the columns in its first line; a quoted cell may hold line breaks.
    columns : sequence of str
        Columns that must be there.

    Returns
    -------
    rows : list of (int, dict)
        Line at which the row ends, counted from 1, and its cells.

    Raises
    ------
    ValueError
        With file and line, for what is no such table.
    """
    if path.stat().st_size > _MAX_TABLE_BYTES:
        raise ValueError(f"{path}: more than {_MAX_TABLE_BYTES:,} bytes are no table of records")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text in UTF-8: {error}; download it again") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        names = next(reader, [])
        if len(set(names)) < len(names) or not set(columns) <= set(names):
            lacking = ", ".join(name for name in columns if name not in names) or "none, but some are there twice"
            raise ValueError(f"{path}, line 1: expected the columns {', '.join(columns)}; missing: {lacking}")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(names):
                raise bad_cell(path, reader.line_num, f"{len(cells)} cells, expected {len(names)}")
            rows.append((reader.line_num, dict(zip(names, cells, strict=True))))
    except csv.Error as error:
        raise bad_cell(path, reader.line_num, str(error)) from error
    if not rows:
        raise ValueError(f"{path}: it lists no records; download it again")
    return rows


def bad_cell(path: Path, line: int, reason: str, column: str = "") -> ValueError:
    """Return the error for a table that cannot be right at a line, and at a column where one is known."""
    where = f"{path}, line {line}{', column ' + column if column else ''}"
    return ValueError(f"{where}: {reason}; download the file again, or correct it")


def read_twelve(path: Path, fs: float | None, notes: dict[str, list[str]]) -> Bunch:
    """Read a record's twelve leads in the standard order; what the limb leads tell is derived, the rest is an error.

    Parameters
    ----------
    path : pathlib.Path
        The record, without extension or with ``.hea``.
    fs : float or None
        Sampling rate that it must have, Hz.
    notes : dict
        Gets what is odd, and the records of which it is.

    Returns
    -------
    record : Bunch
        As :func:`read_record` returns it, with ``data`` (12, n_timesteps) in the standard order.
    """
    record = read_quietly(path)
    if fs is not None and record.fs != fs:
        raise ValueError(f"{path}: sampled at {record.fs:g} Hz, expected {fs:g}")
    try:
        data, info = arrange_leads(record.data, record.lead_names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    odd = [f"{', '.join(info.derived)} derived from other leads"] if info.derived else []
    for note in record.warnings + odd:
        notes.setdefault(note, []).append(record.record)
    record.update(data=data, lead_names=info.lead_names)
    return record


def read_rows(
    paths: Mapping[str, Path],
    n_timesteps: int,
    fs: float,
    *,
    name: str,
    on_error: str,
    skipped: dict[str, str],
    verbose: int,
    extra: Callable[[int, str, Path], None] | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Read records of one length into one array.

    Parameters
    ----------
    paths : mapping
        Records, and their headers.
    n_timesteps : int
        Length that each must have, in samples.
    fs : float
        Sampling rate that each must have, Hz.
    name : str
        The database, for messages.
    on_error, skipped, verbose
        As in :func:`get_files`.
    extra : callable, default=None
        Reads what else belongs to a record: gets its row, name and path, and may raise as reading the signal does.

    Returns
    -------
    data : ndarray of shape (n_samples, 12, n_timesteps), float32, mV
        In the standard order of leads.
    names : list of str
        The records that could be read.
    """
    check_memory((len(paths), N_LEADS, n_timesteps), name)
    data = np.empty((len(paths), N_LEADS, n_timesteps), dtype=np.float32)
    names: list[str] = []
    notes: dict[str, list[str]] = {}
    for record, path in show_progress(paths.items(), f"reading {name}", verbose):
        with leaving_out(record, on_error, skipped):
            found = read_twelve(path, fs, notes)
            if found.n_timesteps != n_timesteps:
                raise ValueError(f"{path}: {found.n_timesteps} samples a lead, expected {n_timesteps}")
            data[len(names)] = found.data
            if extra is not None:
                extra(len(names), record, path)
            names.append(record)
    check_any(names, name, skipped)
    tell_notes(notes, name, stacklevel=4)
    return (data if len(names) == len(data) else data[: len(names)].copy()), names


def check_any(names: Sequence[str], database: str, skipped: Mapping[str, str]) -> None:
    """Refuse to return nothing: a ValueError with all reasons where no record could be read."""
    if not names:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise ValueError(f"no record of {database} could be read: {reasons}")


def check_memory(shape: tuple[int, ...], name: str) -> None:
    """Refuse an array of float32 that no memory of this machine holds, before it is asked for."""
    size = int(np.prod(shape, dtype=np.float64)) * 4
    total = get_memory()
    if total is not None and size > 0.8 * total:
        raise ValueError(
            f"{name}: an array of shape {shape} takes {size / 1e9:,.1f} GB, this machine has {total / 1e9:,.1f} GB: "
            f"fetch part of the records (records=...), or at a lower sampling rate where there is one"
        )


def check_indicator_labels(
    classes: Any,
    known: Iterable[str],
    labels: Mapping[str, Sequence[str]],
    groups: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Return labels and the statements that mean them.

    Parameters
    ----------
    classes : str, sequence of str or mapping
        Name of a group of labels; labels or statements; or labels of the user's own, and for each a label or a
        statement or several.
    known : iterable of str
        All statements.
    labels : mapping
        Labels, and the statements that mean them.
    groups : mapping, default=None
        Names of groups, and their labels.

    Returns
    -------
    wanted : dict
        Label to statements, in the order asked for.
    """
    groups = groups or {}
    if isinstance(classes, str) and classes in groups:
        return {label: tuple(statements) for label, statements in groups[classes].items()}
    # A label goes before a statement of the same name: it means at least as much.
    table = {statement: (statement,) for statement in known} | {label: tuple(s) for label, s in labels.items()}
    wanted = _list_labels(classes)
    unknown = [name for _, names in wanted for name in names if not isinstance(name, str) or name not in table]
    if unknown or not wanted or not all(isinstance(label, str) and names for label, names in wanted):
        options = "".join(f"{name!r}, " for name in groups)
        raise ValueError(
            f"classes must be {options}labels out of {', '.join(labels)}, statements of the database, or a mapping of "
            f"labels of your own to one or several of them; "
            + (f"unknown: {', '.join(map(repr, unknown[:5]))}" if unknown else f"got {classes!r}")
        )
    return {
        label: tuple(dict.fromkeys(statement for name in names for statement in table[name]))
        for label, names in wanted
    }


def _list_labels(classes: Any) -> list[tuple[Any, list[Any]]]:
    """Return what the user named: labels, and for each the names of what it means."""
    if isinstance(classes, Mapping):
        return [(label, list_names(value)) for label, value in classes.items()]
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        return []
    labels = list(classes)
    if len(set(map(repr, labels))) < len(labels):
        raise ValueError(f"classes names a label twice: {labels}")
    return [(label, [label]) for label in labels]


def make_indicators(
    statements: Sequence[Iterable[str]], labels: Mapping[str, Sequence[str]], name: str, *, stacklevel: int = 3
) -> np.ndarray:
    """Return which records have which label, (n_samples, n_labels) of 0 and 1; warn of labels that none has."""
    target = np.zeros((len(statements), len(labels)), dtype=np.int64)
    for row, found in enumerate(map(set, statements)):
        target[row] = [not found.isdisjoint(meaning) for meaning in labels.values()]
    if absent := [label for label, there in zip(labels, target.any(axis=0), strict=True) if not there]:
        warnings.warn(f"{name}: these records have no {', '.join(absent)}", UserWarning, stacklevel=stacklevel)
    return target


def object_array(values: Sequence[Any]) -> np.ndarray:
    """Return objects as a flat array, whatever they are, so that a mask of records picks from it."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):  # at once, tuples of one length would be taken for rows
        array[i] = value
    return array
