"""PTB-XL: 21,799 clinical ECG of twelve leads, with statements, likelihoods and ten folds."""

from __future__ import annotations

import ast
import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..utils._leads import STANDARD_LEADS
from ..utils._validation import check_number, check_option
from ._databases import PTBXL
from ._home import check_flags, check_names, check_relative, describe, get_data_home, list_names
from ._twelve_lead import (
    bad_cell,
    check_indicator_labels,
    find_signals_folder,
    get_files,
    make_indicators,
    object_array,
    read_rows,
    read_table,
)

TABLE = "ptbxl_database.csv"
_COLUMNS = ("ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", "filename_lr", "filename_hr")

# The statements of the database, as its scp_statements.csv files them: 44 diagnostic ones in five superclasses, 19 of
# form, 12 of rhythm. Four are diagnostic and of form.
SUPERCLASSES: dict[str, tuple[str, ...]] = {
    "NORM": ("NORM",),
    "MI": tuple("IMI ASMI ILMI AMI ALMI INJAS LMI INJAL IPLMI IPMI INJIN INJLA PMI INJIL".split()),
    "STTC": tuple("NDT NST_ DIG LNGQT ISC_ ISCAL ISCIN ISCIL ISCAS ISCLA ANEUR EL ISCAN".split()),
    "CD": tuple("LAFB IRBBB 1AVB IVCD CRBBB CLBBB LPFB WPW ILBBB 3AVB 2AVB".split()),
    "HYP": tuple("LVH LAO/LAE RVH RAO/RAE SEHYP".split()),
}
_FORM = tuple(
    "NDT NST_ DIG LNGQT ABQRS PVC STD_ VCLVH QWAVE LOWT NT_ PAC LPR INVT LVOLT HVOLT TAB_ STE_ PRC(S)".split()
)
_RHYTHM = tuple("SR AFIB STACH SARRH SBRAD PACE SVARR BIGU AFLT SVTAC PSVT TRIGU".split())
STATEMENTS = tuple(dict.fromkeys([s for group in SUPERCLASSES.values() for s in group] + [*_FORM, *_RHYTHM]))

# The six outputs of the network of Ribeiro et al. (2020), and the statements nearest to them. Incomplete blocks and
# flutter are other statements, and stay out.
RIBEIRO: dict[str, tuple[str, ...]] = {
    "1dAVb": ("1AVB",),
    "RBBB": ("CRBBB",),
    "LBBB": ("CLBBB",),
    "SB": ("SBRAD",),
    "AF": ("AFIB",),
    "ST": ("STACH",),
}

# Of the first 500 records of the versions before 1.0.3, those left out of it; 456 and 457 are one recording, 459 and
# 460 too. What was left out of the rest, and which other records are equal, could not be looked up.
WITHDRAWN = (137, 139, 140, 141, 142, 143, 145, 456, 458, 459, 461, 462)
DUPLICATES = ((456, 457), (459, 460))
N_RECORDS = {"1.0.1": 21_837, "1.0.3": 21_799}
_SPLITS = {9: "validation", 10: "test"}
_HIDDEN_AGE = 300.0  # what 1.0.3 writes for every age over 89


@dataclass(frozen=True)
class _Row:
    """One line of the table."""

    line: int
    record: int
    patient: str
    age: float
    sex: str
    codes: dict[str, float]
    fold: int
    low: str
    high: str


def fetch_ptbxl(
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    sampling_rate: int = 100,
    classes: str | Sequence[str] | Mapping[str, str | Sequence[str]] = "superclass",
    min_likelihood: float = 0.0,
    not_given: bool = True,
    folds: int | Sequence[int] | None = None,
    records: Sequence[int | str] | str | None = None,
    withdrawn: str = "keep",
    return_X_y: bool = False,
    on_error: str = "raise",
    verbose: int = 1,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load twelve-lead ECG of 10 s from PTB-XL, with several labels each, patients and the recommended folds.

    21,799 recordings of 18,869 patients (version 1.0.3), each with the statements that cardiologists made about it and
    how likely they held them to be [1]_. What is missing is downloaded from PhysioNet [2]_ and verified; what lies in
    the data home may be of version 1.0.1, 1.0.2 or 1.0.3, whole or a part, in PhysioNet's layout or flat.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder that holds, or will hold, the databases; None takes the environment variable ``SKECG_DATA``, and where
        that is not set ``~/skecg_data``. The database may lie in ``<data_home>/ptbxl``, in ``<data_home>/ptb-xl``, in a
        folder of its version below them, or in the data home itself.
    download_if_missing : bool, default=True
        Whether missing files are downloaded: 1 GB at 100 Hz, 3 GB at 500 Hz. False, or the environment variable
        ``SKECG_OFFLINE=1``, opens no connection.
    sampling_rate : 100 or 500, default=100
        Which of the two sets of signals, Hz.
    classes : "superclass", "ribeiro", sequence of str or mapping, default="superclass"
        The labels. "superclass": NORM, MI (infarction), STTC (change of ST or T), CD (conduction), HYP (hypertrophy).
        "ribeiro": the outputs of the network of Ribeiro et al. (2020), 1dAVb, RBBB, LBBB, SB, AF, ST, as the statements
        1AVB, CRBBB, CLBBB, SBRAD, AFIB, STACH. A sequence may hold any of these labels and any of the 71 statements,
        such as ``("NORM", "AF", "LBBB")``; a mapping gives labels of your own, ``{"AF": ["AFIB", "AFLT"]}``.
    min_likelihood : float, default=0.0
        Statements of a lower likelihood (%, 0 to 100) do not count for the target.
    not_given : bool, default=True
        Whether a statement counts whose likelihood is not given. The table writes 0 for it, which does not mean that
        the statement is denied: most statements about rhythm have it, 12 of the first 13 AFIB among them.
    folds : int or sequence of int, default=None
        Which of the folds 1 to 10; None means all.
    records : sequence of int or str, or "local", default=None
        Numbers of the records (``ecg_id``); None means all, "local" those whose signals are in the data home already.
    withdrawn : "keep" or "drop", default="keep"
        What happens with records that version 1.0.3 has left out, where an older version lies in the data home. Known
        are the 12 among the first 500, with one of each of two pairs of duplicates; 1.0.3 has 38 fewer in all.
    return_X_y : bool, default=False
        Whether ``(data, target)`` is returned instead of a Bunch.
    on_error : "raise" or "warn", default="raise"
        What happens with a record that cannot be had or read: an error, or a warning with its name and the reason,
        and the other records are returned. A table that cannot be right is an error either way.
    verbose : int, default=1
        Above 0, show a progress bar while downloading, and while reading takes more than two seconds.

    Returns
    -------
    ptbxl : Bunch
        With the attributes:

        data : ndarray of shape (n_samples, 12, 1000 or 5000), float32, mV
            The recordings, in the order of the table, or of ``records``.
        target : ndarray of int, shape (n_samples, n_labels)
            1 where the record has the label. A record may have several labels, or none.
        target_names : list of str
            The labels, in the order of the columns.
        groups : ndarray of str, shape (n_samples,)
            Patient.
        record : ndarray of str, shape (n_samples,)
            ``ecg_id``.
        sample : ndarray of int64, shape (n_samples,)
            Position of the first sample in its record: 0.
        fold : ndarray of int64, shape (n_samples,)
            1 to 10. A patient is in one fold.
        split : ndarray of str, shape (n_samples,)
            "train" (folds 1 to 8), "validation" (9) or "test" (10), as its authors recommend; the labels of the last
            two were all checked by a human.
        scp_codes : ndarray of object, shape (n_samples,)
            A dict each: statement to likelihood, %; 0 means that it is not given.
        age : ndarray of float, shape (n_samples,)
            Years; NaN where it is not known, 90 where version 1.0.3 only tells that it is over 89.
        age_over_89 : ndarray of bool, shape (n_samples,)
            Whether the age is over 89: versions before 1.0.3 tell it, 1.0.3 does not.
        sex : ndarray of str, shape (n_samples,)
            "male", "female" or "unknown".
        withdrawn : ndarray of bool, shape (n_samples,)
            Whether version 1.0.3 is known to have left the record out.
        duplicates : list of (str, str)
            Pairs of the records returned that are known to be one recording.
        metadata : DataFrame of n_samples rows
            All columns of the table, by ``ecg_id``: device, site, report, quality and so on.
        version : str
            "1.0.3", or "1.0.1" where a record is there that 1.0.3 has left out (1.0.2 cannot be told from it).
        fs : float
            100.0 or 500.0, Hz.
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
        For an unknown label or record, a table that cannot be right (with its line and column), a damaged record, an
        array larger than the memory, or a parameter out of its range.

    See Also
    --------
    fetch_cpsc2018 : The other database of the second paper.
    fetch_ludb : Twelve leads with the limits of their waves.

    References
    ----------
    .. [1] Wagner P, Strodthoff N, Bousseljot RD, et al. PTB-XL, a large publicly available electrocardiography
       dataset. Sci Data 7:154, 2020.
    .. [2] Goldberger AL, Amaral LAN, Glass L, et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation
       101(23):e215-e220, 2000.

    Examples
    --------
    >>> from skecg.datasets import fetch_ptbxl
    >>> ptbxl = fetch_ptbxl(classes=("NORM", "AF", "LBBB"), folds=10)  # doctest: +SKIP
    >>> ptbxl.data.shape[1:], ptbxl.target_names  # doctest: +SKIP
    ((12, 1000), ['NORM', 'AF', 'LBBB'])
    """
    check_option("on_error", on_error, ("raise", "warn"))
    check_option("sampling_rate", sampling_rate, (100, 500))
    check_option("withdrawn", withdrawn, ("keep", "drop"))
    check_flags(not_given=not_given, download_if_missing=download_if_missing, return_X_y=return_X_y)
    check_number("min_likelihood", min_likelihood, low=0, high=100, unit="(%)")
    groups = {"superclass": SUPERCLASSES, "ribeiro": RIBEIRO}
    labels = check_indicator_labels(classes, STATEMENTS, SUPERCLASSES | RIBEIRO, groups)
    kept_folds = _check_folds(folds)
    local = isinstance(records, str) and records == "local"

    home = get_data_home(data_home)
    folder = find_signals_folder(home, PTBXL, [TABLE])
    skipped: dict[str, str] = {}
    settings = {"local": local, "download_if_missing": download_if_missing, "skipped": skipped, "verbose": verbose}
    table = {"the table of records": [TABLE]}
    path = get_files(folder, table, PTBXL, on_error="raise", **settings)["the table of records"][0]
    rows = {str(row.record): row for row in read_rows_of_table(path)}
    version = "1.0.1" if any(str(record) in rows for record in WITHDRAWN) else PTBXL.version
    if records is None and len(rows) < N_RECORDS[version]:
        warnings.warn(
            f"the table {path} has {len(rows):,} of the {N_RECORDS[version]:,} records of PTB-XL {version}, all of "
            f"which were asked for; records='local' says that a part is meant",
            UserWarning,
            stacklevel=2,
        )
    names = list(rows) if records is None or local else check_names(records, rows, f"the ecg_id of {path}")
    names = [
        name
        for name in names
        if rows[name].fold in kept_folds and not (withdrawn == "drop" and rows[name].record in WITHDRAWN)
    ]
    if not names:
        raise ValueError(f"no record of {path} is left: folds={folds!r} and records={records!r} have none in common")

    stems = {name: rows[name].low if sampling_rate == 100 else rows[name].high for name in names}
    files = {name: [f"{stem}.hea", f"{stem}.dat"] for name, stem in stems.items()}
    paths = get_files(folder, files, replace(PTBXL, version=version), on_error=on_error, **settings)
    data, names = read_rows(
        {name: places[0] for name, places in paths.items()},
        10 * sampling_rate,
        float(sampling_rate),
        name="PTB-XL",
        on_error=on_error,
        skipped=skipped,
        verbose=verbose,
    )
    chosen = [rows[name] for name in names]
    counted = [_present(row.codes, min_likelihood, not_given) for row in chosen]
    target = make_indicators(counted, labels, "PTB-XL")
    if return_X_y:
        return data, target
    fold = np.array([row.fold for row in chosen])
    age = np.array([row.age for row in chosen])
    return Bunch(
        data=data,
        target=target,
        target_names=list(labels),
        groups=np.array([row.patient for row in chosen]),
        record=np.array(names),
        sample=np.zeros(len(names), dtype=np.int64),
        fold=fold,
        split=np.array([_SPLITS.get(number, "train") for number in fold.tolist()]),
        scp_codes=object_array([row.codes for row in chosen]),
        age=np.where(age == _HIDDEN_AGE, 90.0, age),
        age_over_89=age > 89,
        sex=np.array([row.sex for row in chosen]),
        withdrawn=np.isin([row.record for row in chosen], WITHDRAWN),
        duplicates=[(str(a), str(b)) for a, b in DUPLICATES if {str(a), str(b)} <= set(names)],
        metadata=_get_metadata(path, [row.record for row in chosen]),
        version=version,
        fs=float(sampling_rate),
        lead_names=list(STANDARD_LEADS),
        skipped=skipped,
        DESCR=describe("ptbxl"),
    )


def read_rows_of_table(path: Path) -> list[_Row]:
    """Read PTB-XL's table of records, and check what must be true of it.

    Parameters
    ----------
    path : pathlib.Path
        ``ptbxl_database.csv``.

    Returns
    -------
    rows : list
        In the order of the table.

    Raises
    ------
    ValueError
        With file, line and column: for numbers that are none, a record met twice, a fold outside 1 to 10, a patient in
        two folds, statements that are no dictionary of likelihoods, or a path that leads out of the database.
    """
    rows = [_read_row(path, line, cells) for line, cells in read_table(path, _COLUMNS)]
    lines: dict[int, int] = {}
    folds: dict[str, _Row] = {}
    for row in rows:
        if row.record in lines:
            raise bad_cell(path, row.line, f"record {row.record} stands in line {lines[row.record]} too", "ecg_id")
        lines[row.record] = row.line
        first = folds.setdefault(row.patient, row)
        if first.fold != row.fold:
            raise bad_cell(
                path,
                row.line,
                f"patient {row.patient} is in fold {row.fold} here and in fold {first.fold} in line {first.line}",
                "strat_fold",
            )
    return rows


def _read_row(path: Path, line: int, cells: Mapping[str, str]) -> _Row:
    """Return what a line of the table says; ValueError with the column for what cannot be."""

    def number(column: str, low: float, high: float, empty: float | None = None) -> float:
        text = cells[column].strip()
        if not text and empty is not None:
            return empty
        value = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", text) else math.nan
        if not low <= value <= high or (column != "age" and value % 1):
            raise bad_cell(path, line, f"{text[:40]!r}, expected a number from {low:g} to {high:g}", column)
        return value

    def stem(column: str, ending: str) -> str:
        name = cells[column].strip()
        if not re.fullmatch(rf"(\w+/)*\d+_{ending}", name, re.ASCII):
            raise bad_cell(path, line, f"{name[:60]!r}, expected the path of a record ending in _{ending}", column)
        return check_relative(name, f"{path}, line {line}, column {column}")

    age = number("age", 0, _HIDDEN_AGE, math.nan)
    if 120 < age < _HIDDEN_AGE:
        raise bad_cell(path, line, f"{age:g} years, expected at most 120, or 300 for an age that is not told", "age")
    sex = number("sex", 0, 1, -1)
    return _Row(
        line=line,
        record=int(number("ecg_id", 1, 10**6)),
        patient=str(int(number("patient_id", 0, 10**8))),
        age=age,
        sex={0: "male", 1: "female"}.get(int(sex), "unknown"),
        codes=_parse_codes(path, line, cells["scp_codes"]),
        fold=int(number("strat_fold", 1, 10)),
        low=stem("filename_lr", "lr"),
        high=stem("filename_hr", "hr"),
    )


def _parse_codes(path: Path, line: int, text: str) -> dict[str, float]:
    """Return statements and likelihoods from the dictionary that the table writes; nothing in it is executed."""
    try:
        if len(text) > 4000:
            raise ValueError("it is too long")
        codes = ast.literal_eval(text.strip())
        if not isinstance(codes, dict):
            raise ValueError("it is no dictionary")
        for statement, likelihood in codes.items():
            if not isinstance(statement, str) or isinstance(likelihood, bool) or not 0 <= likelihood <= 100:
                raise ValueError(f"{statement!r}: {likelihood!r} is no statement with a likelihood from 0 to 100")
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        reason = f"{text[:60]!r}, expected statements and likelihoods, such as {{'SR': 0.0}} ({error})"
        raise bad_cell(path, line, reason, "scp_codes") from error
    return {statement: float(likelihood) for statement, likelihood in codes.items()}


def _present(codes: Mapping[str, float], min_likelihood: float, not_given: bool) -> list[str]:
    """Return the statements that count."""
    return [name for name, likelihood in codes.items() if (likelihood >= min_likelihood if likelihood else not_given)]


def _check_folds(folds: int | Sequence[int] | None) -> set[int]:
    if folds is None:
        return set(range(1, 11))
    wanted = list_names(folds)
    if not wanted or not all(isinstance(f, Integral) and not isinstance(f, bool) and 1 <= f <= 10 for f in wanted):
        raise ValueError(f"folds must be numbers from 1 to 10, or None for all; got {folds!r}")
    return {int(fold) for fold in wanted}


def _get_metadata(path: Path, records: list[int]) -> Any:
    """Return the rows of the table as a DataFrame, in the order of the records."""
    import pandas as pd

    return pd.read_csv(path, index_col="ecg_id", low_memory=False).loc[records]
