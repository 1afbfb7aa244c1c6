"""How every fetcher of annotated rhythm strips loads its windows: files, annotations, choice, signal, one Bunch."""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..utils._validation import check_number, check_option
from ._databases import Database
from ._download import fetch_files, list_files
from ._home import (
    MissingFileError,
    check_flags,
    check_names,
    check_relative,
    describe,
    find_folder,
    get_data_home,
    get_memory,
    leaving_out,
    list_folders,
    list_names,
    show_progress,
    tell_notes,
)
from ._records import read_quietly
from ._segment import check_generator, cut_windows, draw_shifts, mostly_missing, window_length
from ._splits import draw_fairly
from ._window_choice import Windows, check_labels, choose_windows

_WITHOUT = "or read labels and positions alone (signal=False), which needs no .dat"
_OF_SIGNAL = "is not calibrated"  # what the header reader says of a gain of 0: of no interest without the signal


@dataclass
class _Part:
    """The windows of one record, and how far they are moved."""

    record: str
    lead: str
    windows: Windows
    shift: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.windows.start)

    @property
    def start(self) -> np.ndarray:
        """Return where the windows begin once they are moved."""
        return self.windows.start + self.shift

    def keep(self, rows: np.ndarray) -> None:
        """Drop all other windows."""
        self.windows, self.shift = self.windows[rows], self.shift[rows]


def fetch_windows(
    database: Database,
    *,
    data_home: str | os.PathLike | None,
    download_if_missing: bool,
    window: float,
    lead: int | str,
    classes: str | Sequence[str] | Mapping[str, Any],
    rhythm: str,
    shift: float,
    edge: str,
    pure: bool,
    max_per_class: int | None,
    records: Sequence[str] | str | None,
    signal: bool,
    random_state: Any,
    return_X_y: bool,
    on_error: str,
    verbose: int,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load windows of any database of annotated beats or rhythms; see :func:`fetch_mitdb`.

    Annotations come first: what is chosen, and whether it fits into memory, is known before a signal is read.
    """
    flags = {"pure": pure, "signal": signal, "return_X_y": return_X_y, "download_if_missing": download_if_missing}
    _check_settings(lead, rhythm, edge, shift, max_per_class, on_error, **flags)
    labels = check_labels(classes, database)
    n, generator = window_length(window, database.fs), check_generator(random_state)
    skipped: dict[str, str] = {}
    folder, names = _get_records(
        database,
        records,
        get_data_home(data_home),
        without=database.paced if labels.is_aami else (),
        signal=signal,
        download_if_missing=download_if_missing,
        on_error=on_error,
        skipped=skipped,
        verbose=verbose,
    )

    parts: list[_Part] = []
    notes: dict[str, list[str]] = defaultdict(list)
    for name in show_progress(names, f"annotations of {database.name}", verbose):
        with leaving_out(name, on_error, skipped):
            header = _read(folder / name, notes, leads=lead, annotator=database.annotator, signal=False)
            _check_header(header, folder / name, database)
            chosen = choose_windows(header, labels, n, rhythm=rhythm, edge=edge, pure=pure)
            parts.append(_Part(name, header.lead_names[0], chosen))
    if max_per_class is not None:
        _limit(parts, database, max_per_class, generator)
    for part in parts:
        low, high = part.windows.limits.T
        part.shift = draw_shifts(part.windows.start, low, high, n, shift, database.fs, generator)

    data, excluded = None, Counter(edge=0, impure=0, missing=0)
    if signal:
        data, parts = _read_windows(folder, parts, lead, n, database, on_error, skipped, notes, verbose)
    if not parts:
        raise ValueError(f"no record of {database.name} could be read: {_listed(skipped)}")
    for part in parts:
        excluded.update(part.windows.excluded)
    told = {note: names for note, names in notes.items() if signal or _OF_SIGNAL not in note}
    tell_notes(told, database.name, stacklevel=4)

    code = np.concatenate([part.windows.code for part in parts])
    target, there = np.array(labels.names)[code], np.bincount(code, minlength=len(labels.names))
    if absent := [label for label, count in zip(labels.names, there, strict=True) if not count]:
        text = f"{database.name}: no window of {', '.join(absent)} in these records (see n_excluded)"
        warnings.warn(text, UserWarning, stacklevel=3)
    if return_X_y:
        return data, target
    counts = [len(part) for part in parts]
    leads = Counter(dict.fromkeys((part.lead for part in parts), 0))
    for part, count in zip(parts, counts, strict=True):
        leads[part.lead] += count
    return Bunch(
        data=data,
        target=target,
        groups=np.repeat([database.group(part.record) for part in parts], counts),
        record=np.repeat([part.record for part in parts], counts),
        sample=np.concatenate([part.windows.sample for part in parts]),
        start=np.concatenate([part.start for part in parts]),
        shift=np.concatenate([part.shift for part in parts]),
        lead=np.repeat([part.lead for part in parts], counts),
        fs=database.fs,
        lead_names=["/".join(name for name, count in leads.most_common() if count)],
        skipped=skipped,
        n_excluded=dict(excluded),
        DESCR=describe(database.name),
    )


def _check_settings(
    lead: Any, rhythm: str, edge: str, shift: float, max_per_class: int | None, on_error: str, **flags: bool
) -> None:
    """Refuse parameters out of their range before anything is downloaded or read."""
    if not isinstance(lead, str | Integral) or isinstance(lead, bool):
        raise ValueError(f"lead must be one position or one name, such as 0 or 'MLII'; got {lead!r}")
    check_option("rhythm", rhythm, ("episodes", "marks"))
    check_option("edge", edge, ("signal", "annotations"))
    check_option("on_error", on_error, ("raise", "warn"))
    check_number("shift", shift, low=0, unit="(s)")
    if max_per_class is not None:
        check_number("max_per_class", max_per_class, low=1, integer=True)
    check_flags(**flags)
    if flags["return_X_y"] and not flags["signal"]:
        raise ValueError("return_X_y=True wants the signal: without it there is no X; leave out signal=False")


def _check_header(header: Bunch, path: Path, database: Database) -> None:
    if header.fs != database.fs:
        raise ValueError(f"{path}.hea: sampled at {header.fs:g} Hz; {database.name} has {database.fs:g}")
    if header.n_timesteps is None:
        raise ValueError(f"{path}.hea: no length is given; every record of {database.name} has one")


def _read(path: Path, notes: dict[str, list[str]], **settings: Any) -> Bunch:
    """Read a record; what is odd is noted, to be told once for all records instead of once for each."""
    record = read_quietly(path, **settings)
    for note in record.warnings:
        if path.name not in notes[note]:
            notes[note].append(path.name)
    return record


def _limit(
    parts: list[_Part], database: Database, limit: int, generator: np.random.Generator | np.random.RandomState
) -> None:
    """Draw at most so many windows of each class, evenly over patients; in place."""
    if not parts:
        return
    counts = [len(part) for part in parts]
    patients = {name: i for i, name in enumerate(sorted({database.group(part.record) for part in parts}))}
    patient = np.repeat([patients[database.group(part.record)] for part in parts], counts)
    kept = draw_fairly(np.concatenate([part.windows.code for part in parts]), patient, limit, generator)
    ends = np.cumsum(counts)
    for part, rows, end in zip(parts, np.split(kept, np.searchsorted(kept, ends[:-1])), ends, strict=True):
        part.windows = part.windows[rows - (end - len(part))]


def _read_windows(
    folder: Path,
    parts: list[_Part],
    lead: int | str,
    n: int,
    database: Database,
    on_error: str,
    skipped: dict[str, str],
    notes: dict[str, list[str]],
    verbose: int,
) -> tuple[np.ndarray, list[_Part]]:
    """Cut the windows out of the signals into one array; return it with the records that could be read."""
    data = _allocate(sum(map(len, parts)), n, database)
    read, filled = [], 0
    for part in show_progress(parts, f"reading {database.name}", verbose):
        with leaving_out(part.record, on_error, skipped):
            if len(part):
                signal = _read(folder / part.record, notes, leads=lead)
                block = data[filled : filled + len(part)]
                cut_windows(signal.data, part.start, block)
                if signal.n_missing.any():
                    kept = ~mostly_missing(block)
                    part.windows.excluded["missing"] += int((~kept).sum())
                    part.keep(kept)
                    block[: kept.sum()] = block[kept]
            filled += len(part)
            read.append(part)
    return data if filled == len(data) else data[:filled].copy(), read


def _allocate(n_windows: int, n: int, database: Database) -> np.ndarray:
    """Return room for all windows; where the machine has none, say so instead of letting the system end the process."""
    size, total = n_windows * n * 4, get_memory()
    message = (
        f"{database.name}: {n_windows:,} windows of {n} samples take {size:,} bytes ({size / 1e9:,.1f} GB)"
        f"{'' if total is None else f', this machine has {total / 1e9:,.1f} GB'}: take fewer of each class "
        f"(max_per_class=...), fewer records (records=[...]), or the labels alone (signal=False)"
    )
    if total is not None and size > 0.8 * total:
        raise ValueError(message)
    try:
        return np.empty((n_windows, 1, n), dtype=np.float32)
    except MemoryError as error:
        raise MemoryError(message) from error


def _get_records(
    database: Database,
    records: Sequence[str] | str | None,
    home: Path,
    *,
    without: Sequence[str],
    signal: bool,
    download_if_missing: bool,
    on_error: str,
    skipped: dict[str, str],
    verbose: int,
) -> tuple[Path, list[str]]:
    """Return the folder of the database and the records that can be read from it, after downloading what is missing.

    Records in ``without`` are taken only where they are named.
    """
    local, known = isinstance(records, str) and records == "local", list(database.records)
    if not known and (local or records is None):
        known = _list_records(database, home, local=local, download_if_missing=download_if_missing, verbose=verbose)
    if local or records is None:
        names = [name for name in known if name not in without]
    else:
        names = _check_names(records, database)
    files = {name: database.files(name, signal=signal) for name in names}
    wanted = [file for several in files.values() for file in several]
    folder = find_folder(home, (database.name, database.slug), database.versions, wanted)
    if local:
        there = [name for name in names if all((folder / file).is_file() for file in files[name])]
        if not there:
            raise _nothing_there(database, home, folder, names, signal=signal)
        return folder, there
    try:
        fetch_files(folder, wanted, database, download_if_missing=download_if_missing, verbose=verbose)
    except MissingFileError as error:
        lost = [name for name in names if set(files[name]) & set(error.files)]
        if on_error == "raise" or len(lost) in (0, len(names)):
            if error.files and all(file.endswith(".dat") for file in error.files):
                raise MissingFileError(f"{error}; {_WITHOUT}", error.files) from error
            raise
        for name in lost:
            missing = ", ".join(file for file in files[name] if file in error.files)
            skipped[name] = f"{missing} missing from {folder}"
        warnings.warn(f"{database.name}: {len(lost)} records left out: {error}", UserWarning, stacklevel=4)
        names = [name for name in names if name not in skipped]
    return folder, names


def _nothing_there(
    database: Database, home: Path, folder: Path, names: list[str], *, signal: bool
) -> MissingFileError:
    """Return the error for a data home without one complete record: what is missing, and what to do."""
    labelled = [name for name in names if all((folder / f).is_file() for f in database.files(name, signal=False))]
    if signal and labelled:
        missing = [file for name in labelled for file in database.files(name) if not (folder / file).is_file()]
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        return MissingFileError(
            f"the signals of {database.name} are missing from {folder} ({', '.join(missing[:3])}{more}): get them "
            f"from {database.page}, pass records=None to download them, {_WITHOUT}",
            missing,
        )
    example = f"{names[0]}.hea, ...; " if names else ""
    return MissingFileError(
        f"no record of {database.name} lies in {home}: set SKECG_DATA or data_home to the folder that holds them "
        f"({example}from {database.page}), or pass records=None to download them",
        [file for name in names for file in database.files(name, signal=signal)],
    )


def _list_records(
    database: Database, home: Path, *, local: bool, download_if_missing: bool, verbose: int
) -> list[str]:
    """Return the records of a database whose names skecg does not know, by its own lists or by what lies there."""
    names = (database.name, database.slug)
    folders = list_folders(home, names, database.versions)
    # A data home that is the database's folder itself must say so by its name: headers of others may lie in it.
    folders += [home] if {home.name, home.parent.name} & set(names) else []
    headers = [len(list(folder.glob("*.hea"))) for folder in folders]
    folder = folders[headers.index(max(headers))]
    if local:
        listed = [path.name for path in folder.glob("*.hea")]
    else:
        listed = list_files(folder, database, download_if_missing=download_if_missing, verbose=verbose)
    found = sorted(Path(name).stem for name in listed if name.endswith(".hea") and "/" not in name)
    if not found and not local:
        raise MissingFileError(f"{folder}: the list of {database.name} names no record; see {database.page}")
    return found


def _check_names(records: Sequence[str] | str, database: Database) -> list[str]:
    names = [str(name) for name in list_names(records)]
    for name in names:
        check_relative(name, "records")
    source = ", ".join(database.records) if database.records else f"those of {database.name}"
    return check_names(records, database.records or names, source)


def _listed(skipped: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
