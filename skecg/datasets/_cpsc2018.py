"""CPSC 2018: 6,877 twelve-lead ECG of unequal lengths with nine diagnoses, as the Challenge of 2020 has them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ..utils._validation import check_option
from ._challenge import DIAGNOSES, check_diagnoses, find_headers, read_records
from ._databases import CPSC2018
from ._download import list_files
from ._home import MissingFileError, check_flags, check_names, describe, get_data_home, list_folders
from ._twelve_lead import get_files

_RECORDS = tuple(f"A{number:04d}" for number in range(1, 6878))
# Here, and here alone, the code of sinus rhythm was given to normal ECG.
LABELS = {"N": DIAGNOSES["SR"]} | {
    label: DIAGNOSES[label] for label in ("AF", "1dAVb", "LBBB", "RBBB", "PAC", "PVC", "STD", "STE")
}


def fetch_cpsc2018(
    *,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    duration: float | None = 10.0,
    crop: str = "centre",
    pad: str = "right",
    classes: Sequence[str] | Mapping[str, str | Sequence[str]] = (
        "N",
        "AF",
        "1dAVb",
        "LBBB",
        "RBBB",
        "PAC",
        "PVC",
        "STD",
        "STE",
    ),
    records: Sequence[str] | str | None = None,
    return_X_y: bool = False,
    on_error: str = "raise",
    verbose: int = 1,
) -> Bunch | tuple[np.ndarray | list[np.ndarray], np.ndarray]:
    """Load the training set of the China Physiological Signal Challenge 2018: twelve leads, nine diagnoses.

    6,877 recordings at 500 Hz, 6 s to more than a minute long [1]_, as the PhysioNet/CinC Challenge of 2020 published
    them [2]_. What is missing is downloaded from PhysioNet and verified. **The database does not tell patients**: how
    many people it holds is not known, and a split by ``groups``, which are the records, may have one of them on both
    sides.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder that holds, or will hold, the databases; None takes the environment variable ``SKECG_DATA``, and where
        that is not set ``~/skecg_data``. The records may lie in ``<data_home>/cpsc2018``, in
        ``<data_home>/challenge-2020``, in folders as PhysioNet has them below these (``training/cpsc_2018/g1``), or
        in the data home itself.
    download_if_missing : bool, default=True
        Whether missing records are downloaded. False, or the environment variable ``SKECG_OFFLINE=1``, opens no
        connection.
    duration : float or None, default=10.0
        Length of each row, s: 5,000 samples by default. Longer records are cropped, shorter ones filled with zeros.
        None takes every record whole, and ``data`` is then a list.
    crop : "start", "centre" or "end", default="centre"
        Which part of a longer record is taken. A diagnosis need not show in that part: it was made on the whole.
    pad : "left", "right" or "both", default="right"
        Where a shorter record is filled with zeros.
    classes : sequence of str or mapping, default=("N", "AF", "1dAVb", "LBBB", "RBBB", "PAC", "PVC", "STD", "STE")
        The labels: out of these nine; or labels of your own and for each one or several of these or of their SNOMED CT
        codes, ``{"block": ["LBBB", "RBBB"]}``.
    records : sequence of str or "local", default=None
        Names of the records, A0001 to A6877; None means all, "local" those that are in the data home already.
    return_X_y : bool, default=False
        Whether ``(data, target)`` is returned instead of a Bunch.
    on_error : "raise" or "warn", default="raise"
        What happens with a record that cannot be had or read: an error, or a warning with its name and the reason,
        and the other records are returned.
    verbose : int, default=1
        Above 0, show a progress bar while downloading, and while reading takes more than two seconds.

    Returns
    -------
    cpsc2018 : Bunch
        With the attributes:

        data : ndarray of shape (n_samples, 12, n_timesteps), float32, mV, or list of ndarray (12, n_i)
            The recordings, by name, or in the order of ``records``.
        target : ndarray of int, shape (n_samples, n_labels)
            1 where the record has the label. A record may have several of the nine labels.
        target_names : list of str
            The labels, in the order of the columns.
        groups : ndarray of str, shape (n_samples,)
            The record, for patients are not told.
        record : ndarray of str, shape (n_samples,)
            Name of the record.
        sample, start : ndarray of int64, shape (n_samples,)
            Position in the record of the first sample taken.
        offset : ndarray of int64, shape (n_samples,)
            Position in the row of the first sample taken: above 0 where zeros stand before it.
        n_valid : ndarray of int64, shape (n_samples,)
            Samples taken: ``data[i, :, offset[i] : offset[i] + n_valid[i]]`` is ECG, the rest zeros. Means over whole
            rows are diluted by the zeros, and so are means of relevance.
        n_timesteps : ndarray of int64, shape (n_samples,)
            Length of the whole record.
        diagnoses : ndarray of object, shape (n_samples,)
            A tuple of SNOMED CT codes each: all that the header says.
        age : ndarray of float, shape (n_samples,)
            Years; NaN where it is not known.
        sex : ndarray of str, shape (n_samples,)
            "male", "female" or "unknown".
        fs : float
            500.0, Hz.
        lead_names : list of str
            I, II, III, aVR, aVL, aVF, V1 to V6.
        skipped : dict of str
            Records left out with ``on_error="warn"``, and the reason.
        DESCR : str
            Source, licence, labels and quirks of the database.

    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    OSError
        Where records are missing and are not, or cannot be, downloaded. It names the files, the environment variable
        and how to get them.
    ValueError
        For an unknown label or record, a damaged record, an array larger than the memory, or a parameter out of its
        range.

    See Also
    --------
    load_challenge : Any other folder of records in this layout.
    fetch_ptbxl : The other database of the second paper; it tells patients.

    References
    ----------
    .. [1] Liu F, Liu C, Zhao L, et al. An open access database for evaluating the algorithms of electrocardiogram
       rhythm and morphology abnormality detection. J Med Imaging Health Inform 8(7):1368-1373, 2018.
    .. [2] Perez Alday EA, Gu A, Shah AJ, et al. Classification of 12-lead ECGs: the PhysioNet/Computing in Cardiology
       Challenge 2020. Physiol Meas 41:124003, 2020.

    Examples
    --------
    >>> from skecg.datasets import fetch_cpsc2018
    >>> cpsc2018 = fetch_cpsc2018(classes=("N", "AF", "LBBB"), records="local")  # doctest: +SKIP
    >>> cpsc2018.data.shape[1:]  # doctest: +SKIP
    (12, 5000)
    """
    check_option("on_error", on_error, ("raise", "warn"))
    check_flags(download_if_missing=download_if_missing, return_X_y=return_X_y)
    labels = check_diagnoses(classes, LABELS)
    local = isinstance(records, str) and records == "local"
    whole = records is None or local
    names = list(_RECORDS) if whole else check_names(records, _RECORDS, f"{_RECORDS[0]} to {_RECORDS[-1]}")
    folder, headers = _find(get_data_home(data_home))
    skipped: dict[str, str] = {}
    if local:
        names = [name for name in names if name in headers]
        if not names:
            raise MissingFileError(
                f"no record of cpsc2018 lies in {get_data_home(data_home)}: set SKECG_DATA or data_home to the folder "
                f"that holds them (A0001.hea, A0001.mat, ...; from {CPSC2018.page}), or pass records=None to download "
                f"them",
                ["A0001.hea", "A0001.mat"],
            )
    elif lacking := [name for name in names if name not in headers]:
        try:
            headers |= _get(folder, lacking, download_if_missing, on_error, skipped, verbose)
        except MissingFileError as error:
            if on_error == "raise" or len(lacking) == len(names):
                raise
            skipped |= dict.fromkeys(lacking, f"missing from {folder}")
            warnings.warn(f"cpsc2018: {len(lacking)} records left out: {error}", UserWarning, stacklevel=2)
        names = [name for name in names if name not in skipped]
    result = read_records(
        {name: headers[name] for name in names},
        name="CPSC 2018",
        fs=CPSC2018.fs,
        duration=duration,
        crop=crop,
        pad=pad,
        labels=labels,
        on_error=on_error,
        verbose=verbose,
        skipped=skipped,
    )
    if return_X_y:
        return result.data, result.target
    result.DESCR = describe("cpsc2018")
    return result


def _get(
    folder: Path, names: list[str], download_if_missing: bool, on_error: str, skipped: dict[str, str], verbose: int
) -> dict[str, Path]:
    """Download records and return their headers."""
    # In which of the seven folders a record lies, the list of sums tells: PhysioNet's lists of records err.
    listed = list_files(folder, CPSC2018, download_if_missing=download_if_missing, verbose=verbose)
    places = {Path(path).stem: path.removesuffix(".hea") for path in listed if path.endswith(".hea")}
    places = {name: places.get(name, f"{CPSC2018.prefix}{name}") for name in names}
    files = {name: CPSC2018.files(places[name]) for name in names}
    paths = get_files(
        folder,
        files,
        CPSC2018,
        local=False,
        download_if_missing=download_if_missing,
        on_error=on_error,
        skipped=skipped,
        verbose=verbose,
    )
    return {name: found[0] for name, found in paths.items()}


def _find(home: Path) -> tuple[Path, dict[str, Path]]:
    """Return the database's folder and the headers of the records that lie in it already, with their signals."""
    folders = list_folders(home, (CPSC2018.name, CPSC2018.slug), CPSC2018.versions)
    parts = Path(CPSC2018.prefix).parts
    best: tuple[Path, dict[str, Path]] = (folders[0], {})
    for folder in [*folders, home]:
        found: dict[str, Path] = {}
        for i in range(len(parts) + 1):  # in training/cpsc_2018, in cpsc_2018, or in the folder itself
            found = find_headers(folder.joinpath(*parts[i:])) | found
        found = {name: found[name] for name in _RECORDS if name in found and found[name].with_suffix(".mat").is_file()}
        if len(found) > len(best[1]):
            best = folder, found
    return best
