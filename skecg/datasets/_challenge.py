"""Records in the layout of the PhysioNet/CinC Challenges 2020 and 2021: diagnoses in the header, unequal lengths."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ..utils._leads import STANDARD_LEADS
from ..utils._validation import check_number, check_option
from ._home import MissingFileError, check_flags, check_names, leaving_out, list_names, show_progress, tell_notes
from ._twelve_lead import (
    N_LEADS,
    check_any,
    check_indicator_labels,
    check_memory,
    make_indicators,
    object_array,
    read_twelve,
)

# Labels of diagnoses, and the SNOMED CT codes that the Challenges give them. PVC has three: the contributors of the
# databases did not agree on one. A code without a label is its own.
DIAGNOSES: Mapping[str, tuple[str, ...]] = {
    "SR": ("426783006",),
    "AF": ("164889003",),
    "AFL": ("164890007",),
    "1dAVb": ("270492004",),
    "LBBB": ("164909002",),
    "RBBB": ("59118001",),
    "CRBBB": ("713427006",),
    "IRBBB": ("713426002",),
    "PAC": ("284470004",),
    "PVC": ("164884008", "427172004", "17338001"),
    "SB": ("426177001",),
    "ST": ("427084000",),
    "SA": ("427393009",),
    "STD": ("429622005",),
    "STE": ("164931005",),
    "LVH": ("164873001",),
    "NSSTTA": ("428750005",),
}
_LABELS = {code: label for label, codes in DIAGNOSES.items() for code in codes}
# The words of the unofficial phase of the Challenge of 2020, which had the records of CPSC 2018 alone.
WORDS: Mapping[str, str] = {
    "AF": "164889003",
    "I-AVB": "270492004",
    "LBBB": "164909002",
    "Normal": "426783006",
    "PAC": "284470004",
    "PVC": "164884008",
    "RBBB": "59118001",
    "STD": "429622005",
    "STE": "164931005",
}
_FIELD = re.compile(r"\s*(Age|Sex|Dx)\s*:\s*(.*?)\s*", re.IGNORECASE)
_SEXES = {"male": "male", "m": "male", "female": "female", "f": "female"}
_UNKNOWN = ("", "nan", "unknown")


def parse_comments(comments: Sequence[str], record: str) -> Bunch:
    """Return age, sex and diagnoses from the comments of a Challenge header.

    Parameters
    ----------
    comments : sequence of str
        The header's comments without ``#``: ``Dx: 164889003,59118001`` or ``Dx: AF,RBBB``, ``Age: 74``, ``Sex: Male``.
    record : str
        Name of the record, for messages.

    Returns
    -------
    result : Bunch
        ``diagnoses``, tuple of str: SNOMED CT codes, in the header's order, words of the unofficial phase as codes;
        ``age``: years, NaN where it is not known; ``sex``: "male", "female" or "unknown".

    Raises
    ------
    ValueError
        Where there is no line ``Dx:``, or a diagnosis, an age or a sex cannot be understood.
    """
    found: dict[str, list[str]] = {"age": [], "sex": [], "dx": []}
    for match in filter(None, map(_FIELD.fullmatch, comments)):
        found[match[1].lower()].append(match[2])
    if not found["dx"]:
        raise ValueError(f"record {record}: its header has no line '#Dx:', so what it shows is not known")
    codes = []
    for word in (word.strip() for line in found["dx"] for word in line.split(",")):
        code = WORDS.get(word, word)
        if code.lower() in _UNKNOWN:
            continue
        if not re.fullmatch(r"[0-9]{5,18}", code):
            raise ValueError(
                f"record {record}: '#Dx:' has {word[:40]!r}, expected SNOMED CT codes or out of {', '.join(WORDS)}"
            )
        codes.append(code)
    age = next(iter(found["age"]), "").lower()
    sex = next(iter(found["sex"]), "").lower()
    if age not in _UNKNOWN and not re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?", age):
        raise ValueError(f"record {record}: '#Age:' is {age[:40]!r}, expected years, NaN or Unknown")
    if sex not in _UNKNOWN and sex not in _SEXES:
        raise ValueError(f"record {record}: '#Sex:' is {sex[:40]!r}, expected Male, Female or Unknown")
    return Bunch(
        diagnoses=tuple(dict.fromkeys(codes)),
        age=math.nan if age in _UNKNOWN else float(age),
        sex=_SEXES.get(sex, "unknown"),
    )


def load_challenge(
    folder: str | os.PathLike,
    *,
    duration: float | None = 10.0,
    crop: str = "centre",
    pad: str = "right",
    classes: Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
    records: Sequence[str] | None = None,
    return_X_y: bool = False,
    on_error: str = "raise",
    verbose: int = 1,
) -> Bunch | tuple[np.ndarray | list[np.ndarray], np.ndarray]:
    """Load a folder of twelve-lead records in the layout of the PhysioNet/CinC Challenges 2020 and 2021.

    Each record is a header, which holds the diagnoses in a comment ``Dx:``, and a signal in MATLAB's format [1]_. All
    databases of the two Challenges are written so, and so can your own be. Nothing is downloaded.

    Parameters
    ----------
    folder : str or path-like
        Where the records lie; folders in it are searched too.
    duration : float or None, default=10.0
        Length of each row, s. Longer records are cropped, shorter ones filled with zeros. None takes every record
        whole, and ``data`` is then a list.
    crop : "start", "centre" or "end", default="centre"
        Which part of a longer record is taken.
    pad : "left", "right" or "both", default="right"
        Where a shorter record is filled with zeros.
    classes : sequence of str, mapping or None, default=None
        The labels: out of SR, AF, AFL, 1dAVb, LBBB, RBBB, CRBBB, IRBBB, PAC, PVC, SB, ST, SA, STD, STE, LVH, NSSTTA,
        or SNOMED CT codes; or labels of your own and for each one or several of these,
        ``{"RBBB": ["RBBB", "CRBBB"]}``. None takes every diagnosis that occurs, by its label or else by its code.
    records : sequence of str, default=None
        Names of the records; None means all.
    return_X_y : bool, default=False
        Whether ``(data, target)`` is returned instead of a Bunch.
    on_error : "raise" or "warn", default="raise"
        What happens with a record that cannot be read: an error, or a warning with its name and the reason, and the
        other records are returned.
    verbose : int, default=1
        Above 0, show a progress bar while reading takes more than two seconds.

    Returns
    -------
    challenge : Bunch
        With the attributes:

        data : ndarray of shape (n_samples, 12, n_timesteps), float32, mV, or list of ndarray (12, n_i)
            The recordings, by name.
        target : ndarray of int, shape (n_samples, n_labels)
            1 where the record has the label. A record may have several labels, or none.
        target_names : list of str
            The labels, in the order of the columns.
        groups : ndarray of str, shape (n_samples,)
            The record: these databases do not tell patients. Where a patient has several records, no split can keep
            them apart.
        record : ndarray of str, shape (n_samples,)
            Name of the record.
        sample, start : ndarray of int64, shape (n_samples,)
            Position in the record of the first sample taken.
        offset : ndarray of int64, shape (n_samples,)
            Position in the row of the first sample taken: above 0 where zeros stand before it.
        n_valid : ndarray of int64, shape (n_samples,)
            Samples taken: ``data[i, :, offset[i] : offset[i] + n_valid[i]]`` is ECG, the rest zeros.
        n_timesteps : ndarray of int64, shape (n_samples,)
            Length of the whole record.
        diagnoses : ndarray of object, shape (n_samples,)
            A tuple of SNOMED CT codes each: all that the header says.
        age : ndarray of float, shape (n_samples,)
            Years; NaN where it is not known.
        sex : ndarray of str, shape (n_samples,)
            "male", "female" or "unknown".
        fs : float
            Sampling rate of all records, Hz.
        lead_names : list of str
            I, II, III, aVR, aVL, aVF, V1 to V6.
        skipped : dict of str
            Records left out with ``on_error="warn"``, and the reason.
        DESCR : str
            What was read from where.

    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    FileNotFoundError
        Where there is no such folder, or no record in it.
    ValueError
        For a record that is damaged, of another sampling rate than the first, without twelve leads or without
        diagnoses; an unknown label or record; an array larger than the memory.

    See Also
    --------
    fetch_cpsc2018 : The database that the Challenges began with, by its name.
    read_record : Read one record as a whole.

    Notes
    -----
    "SR" is sinus rhythm: an ECG with that code may have any other diagnosis beside it. In CPSC 2018 alone the same code
    stands for a normal ECG.

    References
    ----------
    .. [1] Perez Alday EA, Gu A, Shah AJ, et al. Classification of 12-lead ECGs: the PhysioNet/Computing in Cardiology
       Challenge 2020. Physiol Meas 41:124003, 2020.

    Examples
    --------
    >>> from skecg.datasets import load_challenge
    >>> georgia = load_challenge("georgia", classes=("AF", "AFL"))  # doctest: +SKIP
    >>> georgia.data.shape[1:], georgia.fs  # doctest: +SKIP
    ((12, 5000), 500.0)
    """
    check_option("on_error", on_error, ("raise", "warn"))
    check_flags(return_X_y=return_X_y)
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder must be the path of a folder; got {folder!r}, a {type(folder).__name__}")
    folder = Path(folder).expanduser().absolute()
    labels = None if classes is None else check_diagnoses(classes)
    headers = find_headers(folder, deep=True)
    if not headers:
        raise MissingFileError(f"no records (.hea) lie in {folder}: pass the folder that holds them")
    if records is not None:
        headers = {name: headers[name] for name in check_names(records, headers, f"those in {folder}")}
    result = read_records(
        headers,
        name=str(folder),
        fs=None,
        duration=duration,
        crop=crop,
        pad=pad,
        labels=labels,
        on_error=on_error,
        verbose=verbose,
    )
    if return_X_y:
        return result.data, result.target
    result.DESCR = (
        f"{len(result.record)} records in the layout of the PhysioNet/CinC Challenges 2020 and 2021, from {folder}.\n"
        f"Labels are the diagnoses in the headers; patients are not told, groups are the records."
    )
    return result


def check_diagnoses(
    classes: Sequence[str] | Mapping[str, str | Sequence[str]], labels: Mapping[str, Sequence[str]] = DIAGNOSES
) -> dict[str, tuple[str, ...]]:
    """Return labels and the codes that mean them, for labels and codes in any mixture."""
    if not isinstance(classes, Mapping | str) and isinstance(classes, Iterable):
        classes = list(classes)
    named = classes.values() if isinstance(classes, Mapping) else [classes]
    names = [name for value in named for name in list_names(value) if isinstance(name, str)]
    return check_indicator_labels(classes, [name for name in names if re.fullmatch(r"[0-9]{5,18}", name)], labels)


def find_headers(folder: Path, *, deep: bool = False) -> dict[str, Path]:
    """Return the headers in a folder by the names of their records, sorted.

    Parameters
    ----------
    folder : pathlib.Path
        Where to look: in it and in its folders ``g1``, ``g2`` and so on.
    deep : bool, default=False
        Whether to look in all its folders, and to refuse a name that is met twice. Otherwise the first is taken.

    Returns
    -------
    headers : dict
        Empty where there is no such folder.

    Raises
    ------
    ValueError
        For a name that is met twice.
    """
    headers: dict[str, Path] = {}
    patterns = ["**/*.hea"] if deep else ["*.hea", "g[0-9]*/*.hea"]
    for path in (path for pattern in patterns for path in sorted(folder.glob(pattern))):
        if headers.setdefault(path.stem, path) != path and deep:
            raise ValueError(f"record {path.stem} lies in {folder} twice: {headers[path.stem]} and {path}")
    return dict(sorted(headers.items()))


def read_records(
    headers: Mapping[str, Path],
    *,
    name: str,
    fs: float | None,
    duration: float | None,
    crop: str,
    pad: str,
    labels: Mapping[str, Sequence[str]] | None,
    on_error: str,
    verbose: int,
    skipped: dict[str, str] | None = None,
) -> Bunch:
    """Read records of unequal lengths and what their headers say; see :func:`load_challenge` for the result."""
    check_option("crop", crop, ("start", "centre", "end"))
    check_option("pad", pad, ("left", "right", "both"))
    if duration is not None:
        check_number("duration", duration, low=0, strict=True, unit="(s, or None for whole records)")
    skipped = {} if skipped is None else skipped
    data: np.ndarray | list[np.ndarray] | None = None if duration is not None else []
    facts: list[tuple] = []
    notes: dict[str, list[str]] = {}
    for record, path in show_progress(headers.items(), f"reading {name}", verbose):
        with leaving_out(record, on_error, skipped):
            found = read_twelve(path, fs, notes)
            said = parse_comments(found.comments, record)
            length = found.n_timesteps
            if data is None:
                n_timesteps = _row_length(duration, found.fs)
                check_memory((len(headers), N_LEADS, n_timesteps), name)
                data = np.zeros((len(headers), N_LEADS, n_timesteps), dtype=np.float32)
            if isinstance(data, list):
                start, offset, n_valid = 0, 0, length
                data.append(found.data)
            else:
                start, offset, n_valid = place(length, data.shape[-1], crop, pad)
                data[len(facts), :, offset : offset + n_valid] = found.data[:, start : start + n_valid]
            fs = found.fs  # the first record's is everyone's
            facts.append((record, said, start, offset, n_valid, length))
    check_any(facts, name, skipped)
    tell_notes(notes, name, stacklevel=4)
    names, said, *numbers = zip(*facts, strict=True)
    start, offset, n_valid, n_timesteps = np.array(numbers, dtype=np.int64)
    diagnoses = [one.diagnoses for one in said]
    if labels is None:
        met = dict.fromkeys(_LABELS.get(code, code) for codes in diagnoses for code in codes)
        order = [*(label for label in DIAGNOSES if label in met), *sorted(label for label in met if label.isdigit())]
        labels = {label: DIAGNOSES.get(label, (label,)) for label in order}
    if not isinstance(data, list) and len(facts) < len(data):
        data = data[: len(facts)].copy()
    return Bunch(
        data=data,
        target=make_indicators(diagnoses, labels, name, stacklevel=4),
        target_names=list(labels),
        groups=np.array(names),
        record=np.array(names),
        sample=start.copy(),
        start=start,
        offset=offset,
        n_valid=n_valid,
        n_timesteps=n_timesteps,
        diagnoses=object_array(diagnoses),
        age=np.array([one.age for one in said], dtype=np.float64),
        sex=np.array([one.sex for one in said]),
        fs=fs,
        lead_names=list(STANDARD_LEADS),
        skipped=skipped,
    )


def _row_length(duration: float, fs: float) -> int:
    n_timesteps = round(duration * fs)
    if n_timesteps < 1:
        raise ValueError(f"duration must be at least one sample, {1 / fs:g} s at {fs:g} Hz; got {duration!r}")
    return n_timesteps


def place(length: int, n_timesteps: int, crop: str, pad: str) -> tuple[int, int, int]:
    """Return where a record is cut and where it comes to lie in a row.

    Parameters
    ----------
    length, n_timesteps : int
        Lengths of the record and of the row, in samples.
    crop, pad : str
        As in :func:`load_challenge`. What is left over by "centre" and "both" comes last.

    Returns
    -------
    start, offset, n_valid : int
        First sample taken of the record, its position in the row, and how many are taken.
    """
    over, under = max(length - n_timesteps, 0), max(n_timesteps - length, 0)
    start = {"start": 0, "centre": over // 2, "end": over}[crop]
    offset = {"right": 0, "both": under // 2, "left": under}[pad]
    return start, offset, min(length, n_timesteps)
