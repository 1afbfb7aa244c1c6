"""Databases of annotated beats, as windows with labels and patients."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..utils._validation import check_option
from ._databases import MITDB, Database
from ._download import fetch_files
from ._home import MissingFileError, check_relative, describe, find_folder, get_data_home
from ._records import read_record
from ._segment import (
    check_classes,
    check_generator,
    cut_windows,
    draw_shifts,
    label_beats,
    mostly_missing,
    select_beats,
    window_length,
)


def fetch_mitdb(
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    window: float = 2.0,
    lead: int | str = 0,
    classes: Sequence[str] | Mapping[str, str] = ("N", "PVC", "PAC", "LBBB", "RBBB"),
    shift: float = 0.0,
    records: Sequence[str] | str | None = None,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
    return_X_y: bool = False,
    on_error: str = "raise",
    verbose: int = 1,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load windows around the annotated beats of the MIT-BIH Arrhythmia Database.

    48 half-hour recordings of 47 people at 360 Hz, 110,000 annotated beats [1]_. What is missing is downloaded from
    PhysioNet [2]_ and verified. Windows are centred on the beat and lie within the recording; with the default
    parameters there are 74,965 N, 7,126 PVC, 2,545 PAC, 8,066 LBBB and 7,251 RBBB.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder that holds, or will hold, the databases; None takes the environment variable ``SKECG_DATA``, and where
        that is not set ``~/skecg_data``. The records may lie in ``<data_home>/mitdb`` or in the folder itself. A folder
        that holds all that is wanted is never written to.
    download_if_missing : bool, default=True
        Whether missing records are downloaded. False, or the environment variable ``SKECG_OFFLINE=1``, opens no
        connection.
    window : float, default=2.0
        Length of a window, s: 720 samples by default.
    lead : int or str, default=0
        The lead, by position or by name. The first lead is MLII in 45 records and V5 in 102, 104 and 114;
        ``lead="MLII"`` takes MLII wherever it lies, and 102 and 104 have none.
    classes : sequence of str or mapping, default=("N", "PVC", "PAC", "LBBB", "RBBB")
        Labels of the beats that are wanted; or a mapping of labels of your own to annotation symbols, such as
        ``{"SVEB": "AaJSej", "VEB": "VE"}``.
    shift : float, default=0.0
        Each window is moved by a random offset, uniform between ``-shift`` and ``shift`` s, so that the beat does not
        always lie in the middle.
    records : sequence of str or "local", default=None
        Names of the records; None means all 48, "local" those that are in the data home already.
    random_state : int, Generator, RandomState or None, default=None
        Source of the offsets; with an int they are the same at every call. Global generators are not touched.
    return_X_y : bool, default=False
        Whether ``(data, target)`` is returned instead of a Bunch.
    on_error : "raise" or "warn", default="raise"
        What happens with a record that cannot be had or read, or has not the wanted lead: an error, or a warning with
        its name and the reason, and the other records are returned.
    verbose : int, default=1
        Above 0, show a progress bar while downloading, and while reading takes more than two seconds.

    Returns
    -------
    mitdb : Bunch
        With the attributes:

        data : ndarray of shape (n_samples, 1, n_timesteps), float32, mV
            The windows, record by record, in the order of the beats.
        target : ndarray of str, shape (n_samples,)
            Label of each window's beat.
        groups : ndarray of str, shape (n_samples,)
            Patient: the record's name, but "201" for both 201 and 202, which are one man.
        record : ndarray of str, shape (n_samples,)
            Name of the record.
        sample : ndarray of int64, shape (n_samples,)
            Position of the beat in its record.
        start : ndarray of int64, shape (n_samples,)
            Position of the window's first sample in the record: the beat lies at ``sample - start`` in its window.
        shift : ndarray of int64, shape (n_samples,)
            How far the window was moved to the right, in samples.
        lead : ndarray of str, shape (n_samples,)
            Name of the window's lead.
        fs : float
            360.0, Hz.
        lead_names : list of str
            One name; several joined by ``/`` where the records' leads differ.
        skipped : dict of str
            Records left out with ``on_error="warn"``, and the reason.
        n_excluded : dict of int
            Beats of the classes that were left out, by the reason: ``edge`` (no whole window), ``impure`` (0 here),
            ``missing`` (more than half of the window is missing).
        DESCR : str
            Source, licence, labels and quirks of the database.

    (data, target) : tuple of ndarray
        With ``return_X_y=True``.

    Raises
    ------
    OSError
        Where records are missing and are not, or cannot be, downloaded. It names the files, the environment variable
        and how to get them.
    ValueError
        For an unknown class or record, a record without the wanted lead, a damaged record, or a parameter out of its
        range.

    See Also
    --------
    read_record : Read one record as a whole.
    segment_beats : Cut windows by other rules.

    Notes
    -----
    Classes go with patients here: all LBBB beats come from four people, all RBBB beats from six. A split that does not
    keep patients (``groups``) apart measures how well people are recognised.

    Downloads are tested on a local server that misbehaves in every way known; PhysioNet's own was not contacted in
    the making of this version. Other addresses can be given in the environment variable ``SKECG_PHYSIONET_URL``
    (``<address>/mitdb/1.0.0/100.dat``; several, separated by blanks, are tried in turn).

    References
    ----------
    .. [1] Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. IEEE Eng Med Biol 20(3):45-50, 2001.
    .. [2] Goldberger AL, Amaral LAN, Glass L, et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation
       101(23):e215-e220, 2000.

    Examples
    --------
    >>> from skecg.datasets import fetch_mitdb
    >>> mitdb = fetch_mitdb(classes=("N", "PVC"), records=["100", "119"])  # doctest: +SKIP
    >>> mitdb.data.shape  # doctest: +SKIP
    (4225, 1, 720)
    """
    return _fetch_beats(
        MITDB,
        data_home=data_home,
        download_if_missing=download_if_missing,
        window=window,
        lead=lead,
        classes=classes,
        shift=shift,
        records=records,
        random_state=random_state,
        return_X_y=return_X_y,
        on_error=on_error,
        verbose=verbose,
    )


def _fetch_beats(
    database: Database,
    *,
    data_home: str | os.PathLike | None,
    download_if_missing: bool,
    window: float,
    lead: int | str,
    classes: Sequence[str] | Mapping[str, str],
    shift: float,
    records: Sequence[str] | str | None,
    random_state: Any,
    return_X_y: bool,
    on_error: str,
    verbose: int,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load the beats of any database of annotated beats: annotations first, then all windows into one array."""
    check_option("on_error", on_error, ("raise", "warn"))
    if not isinstance(lead, str | Integral) or isinstance(lead, bool):
        raise ValueError(f"lead must be one position or one name, such as 0 or 'MLII'; got {lead!r}")
    classes = check_classes(classes, database.beats)
    n, generator = window_length(window, database.fs), check_generator(random_state)
    skipped: dict[str, str] = {}
    folder, names = _get_records(database, records, data_home, download_if_missing, on_error, skipped, verbose)

    chosen, excluded = [], Counter(edge=0, impure=0, missing=0)
    for name in names:
        with _leaving_out(name, on_error, skipped):
            header = read_record(folder / name, leads=lead, annotator=database.annotator, signal=False)
            if header.fs != database.fs:
                raise ValueError(
                    f"{folder / name}.hea: sampled at {header.fs:g} Hz; {database.name} has {database.fs:g}"
                )
            last = header.n_timesteps
            if last is None:
                raise ValueError(f"{folder / name}.hea: no length is given; every record of {database.name} has one")
            beats, left = select_beats(header.sample, header.symbol, 0, last, n, classes)
            offset = draw_shifts(header.sample[beats] - n // 2, 0, last, n, shift, database.fs, generator)
            chosen.append((name, header.sample[beats], label_beats(header.symbol[beats], classes), offset, left))

    data = np.empty((sum(len(sample) for _, sample, *_ in chosen), 1, n), dtype=np.float32)
    parts, filled = [], 0
    for name, sample, target, offset, left in _bar(chosen, f"reading {database.name}", verbose):
        with _leaving_out(name, on_error, skipped):
            signal = read_record(folder / name, leads=lead)
            start = sample - n // 2 + offset
            block = data[filled : filled + len(sample)]
            cut_windows(signal.data, start, block)
            columns = [sample, start, offset, target]
            if signal.n_missing.any():
                kept = ~mostly_missing(block)
                left["missing"] = int((~kept).sum())
                columns = [column[kept] for column in columns]
                block[: kept.sum()] = block[kept]
            excluded.update(left)
            filled += len(columns[0])
            parts.append((name, signal.lead_names[0], *columns))
    if not parts:
        raise ValueError(f"no record of {database.name} could be read: {_listed(skipped)}")

    lengths = [len(part[2]) for part in parts]
    target = np.concatenate([part[5] for part in parts])
    if absent := [label for label in classes if label not in target]:
        warnings.warn(f"{database.name}: these records have no {', '.join(absent)}", UserWarning, stacklevel=3)
    data = data if filled == len(data) else data[:filled].copy()
    if return_X_y:
        return data, target
    lead_names = Counter(np.repeat([part[1] for part in parts], lengths).tolist())
    return Bunch(
        data=data,
        target=target,
        groups=np.repeat([database.group(part[0]) for part in parts], lengths),
        record=np.repeat([part[0] for part in parts], lengths),
        sample=np.concatenate([part[2] for part in parts]),
        start=np.concatenate([part[3] for part in parts]),
        shift=np.concatenate([part[4] for part in parts]),
        lead=np.repeat([part[1] for part in parts], lengths),
        fs=database.fs,
        lead_names=["/".join(name for name, _ in lead_names.most_common())],
        skipped=skipped,
        n_excluded=dict(excluded),
        DESCR=describe(database.name),
    )


def _get_records(
    database: Database,
    records: Sequence[str] | str | None,
    data_home: str | os.PathLike | None,
    download_if_missing: bool,
    on_error: str,
    skipped: dict[str, str],
    verbose: int,
) -> tuple[Path, list[str]]:
    """Return the folder of the database and the records that can be read from it, after downloading what is missing."""
    local = isinstance(records, str) and records == "local"
    names = list(database.records) if records is None or local else _check_names(records, database)
    files = [file for name in names for file in database.files(name)]
    home = get_data_home(data_home)
    folder = find_folder(home, (database.name, database.slug), database.version, files)
    if local:
        there = [name for name in names if all((folder / file).is_file() for file in database.files(name))]
        if not there:
            raise MissingFileError(
                f"no record of {database.name} lies in {home}: set SKECG_DATA or data_home to the folder that holds "
                f"them ({names[0]}.hea, ...; from {database.page}), or pass records=None to download them",
                files,
            )
        return folder, there
    try:
        fetch_files(folder, files, database, download_if_missing=download_if_missing, verbose=verbose)
    except MissingFileError as error:
        lost = [name for name in names if set(database.files(name)) & set(error.files)]
        if on_error == "raise" or len(lost) in (0, len(names)):
            raise
        for name in lost:
            missing = ", ".join(file for file in database.files(name) if file in error.files)
            skipped[name] = f"{missing} missing from {folder}"
        warnings.warn(f"{database.name}: {len(lost)} records left out: {error}", UserWarning, stacklevel=4)
        names = [name for name in names if name not in skipped]
    return folder, names


def _check_names(records: Sequence[str] | str, database: Database) -> list[str]:
    names = [records] if isinstance(records, str) else [str(name) for name in records]
    for name in names:
        check_relative(name, "records")
    unknown = [name for name in names if name not in database.records]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(
            f"records must be different names out of {', '.join(database.records)}, or 'local', or None for all; got "
            f"{', '.join(map(repr, unknown)) or repr(records)}"
        )
    return names


@contextmanager
def _leaving_out(name: str, on_error: str, skipped: dict[str, str]) -> Iterator[None]:
    """With ``on_error="warn"``, turn the error of one record into a warning, so that it costs no other record."""
    try:
        yield
    except (ValueError, OSError) as error:
        if on_error == "raise":
            raise
        skipped[name] = str(error)
        warnings.warn(f"record {name} left out: {error}", UserWarning, stacklevel=5)


def _listed(skipped: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in skipped.items())


def _bar(items: list, name: str, verbose: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(items, desc=name, unit="record", disable=not verbose, delay=2)
