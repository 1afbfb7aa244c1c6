"""Read a WFDB record, with the checks that wfdb lacks."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ..utils._validation import check_number, check_option
from ._annotations import read_annotations
from ._headers import Header, check_files, read_header
from ._home import get_memory, list_names
from ._samples import Samples

_EXTENSION = re.compile(r"[A-Za-z0-9_-]+")
_PIECE = 1 << 23  # samples that wfdb decodes at a time: a few ten MB, so that a day of ECG takes no more


def read_record(
    path: str | os.PathLike,
    *,
    leads: int | str | Sequence[int | str] | None = None,
    sampfrom: int = 0,
    sampto: int | None = None,
    annotator: str | None = None,
    signal: bool = True,
    on_error: str = "raise",
) -> Bunch:
    """Read a WFDB record from the disk: signal in mV, and its annotations where they are asked for.

    The samples are decoded by wfdb. Before that, the header is parsed strictly (wfdb replaces a damaged sampling rate
    or gain by a default without a word) and the sizes of the files are compared with it; after it, the 16-bit checksum
    and the initial value of every lead are compared with the header's, which wfdb does not do. Annotations are decoded
    with bounds on every step (wfdb can be made to loop for ever by one wrong character).

    Parameters
    ----------
    path : str or path-like
        The record: the path of its files without extension, such as ``"mitdb/100"``; ``.hea`` at its end is allowed.
    leads : int, str or sequence of them, default=None
        The leads that are returned, by position or by name, in this order; None returns all.
    sampfrom, sampto : int, default=0, None
        The part that is read, in samples: from ``sampfrom`` up to but not including ``sampto``, None meaning the end.
        Checksums are compared only where the whole record is read.
    annotator : str, default=None
        Extension of the annotation file that is read too, such as ``"atr"``; None reads none.
    signal : bool, default=True
        Whether the signal is read; without it ``data`` is None and the signal file need not be there.
    on_error : "raise" or "warn", default="raise"
        What happens where the samples disagree with the checksum or the initial value in the header: a ValueError, or
        a warning with the samples returned as they are. What cannot be read at all is an error either way.

    Returns
    -------
    record : Bunch
        With the attributes:

        data : ndarray of shape (n_leads, n_timesteps), float32, mV
            NaN where the record marks samples as missing.
        fs : float
            Sampling rate, Hz.
        lead_names : list of str
            As the header writes them.
        record : str
            The record's name.
        n_timesteps : int or None
            Length of the whole record in samples; None where neither header nor signal tells it.
        sampfrom : int
            Position of the first sample of ``data`` in the record.
        gain, baseline, units : list
            How the header scales each lead: units of the converter per physical unit, its zero, the physical unit.
        n_missing, longest_missing : ndarray of int
            Missing samples of each lead, and the longest run of them.
        flat : ndarray of bool
            Leads that are constant.
        verified : bool
            Whether checksum and initial value of every lead were there, and agreed.
        sample : ndarray of int64
            Only with ``annotator``: position of each annotation, counted from the start of the record.
        symbol : ndarray of str
            Its symbol, such as ``"N"`` or ``"+"``.
        aux_note : ndarray of object
            Its text, such as ``"(AFIB"``; empty where it has none.
        subtype, chan, num : ndarray of int16
            Its further fields.
        comments : list of str
            The header's comments.
        start : str
            Time and date of the first sample as the header writes them; empty where it does not.
        warnings : list of str
            Everything that was odd; each is also issued as a warning.
        DESCR : str
            The header in words.

    Raises
    ------
    FileNotFoundError
        Where the header, the signal file or the annotation file is missing; it names which. (It is a ValueError too.)
    ValueError
        For a header that is not valid or contradicts itself, a truncated signal, samples that disagree with their
        checksum, physical units that are no voltage, an unknown lead, annotations that are damaged.

    See Also
    --------
    iter_windows : Go through a record, or several, that are larger than the memory.
    segment_beats : Cut windows around the beats of a record.
    fetch_mitdb : Windows of a whole database.

    Notes
    -----
    A gain of 0 means "not calibrated" in WFDB: 200 units per mV are taken, with a warning. Leads of several samples a
    frame are averaged to one. Names of leads that no database has, and impossible times of start, get a warning, since
    nothing else would tell that they are damaged. In formats of more than 16 bits a checksum does not reach the upper
    ones: samples that stand alone by a multiple of 65,536 units in a lead that is quiet else get a warning, and
    ``verified`` is False. Two samples that changed places no checksum shows, nor a header that was damaged into
    another valid one: only the database's list of SHA-256 sums does, which the fetchers compare. Annotations at or
    beyond the end of the record are left out with a warning that counts them. Records of several segments are refused,
    with the advice to read their segments one by one.

    References
    ----------
    .. [1] Moody GB. WFDB Applications Guide and WFDB Programmer's Guide. PhysioNet.

    Examples
    --------
    >>> from skecg.datasets import read_record
    >>> record = read_record("mitdb/100", leads="MLII", annotator="atr")  # doctest: +SKIP
    >>> record.data.shape, record.fs  # doctest: +SKIP
    ((1, 650000), 360.0)
    """
    settings = {"leads": leads, "sampfrom": sampfrom, "sampto": sampto, "annotator": annotator}
    record = read_quietly(path, **settings, signal=signal, on_error=on_error)
    for note in record.warnings:
        warnings.warn(f"record {record.record}: {note}", UserWarning, stacklevel=2)
    return record


def read_quietly(
    path: str | os.PathLike,
    *,
    leads: int | str | Sequence[int | str] | None = None,
    sampfrom: int = 0,
    sampto: int | None = None,
    annotator: str | None = None,
    signal: bool = True,
    on_error: str = "raise",
) -> Bunch:
    """Do what :func:`read_record` does, but for the warnings: who reads many records tells them all at once."""
    check_option("on_error", on_error, ("raise", "warn"))
    check_annotator(annotator)
    header, chosen, length, notes = open_record(path, leads, signal)
    first, last = _part(header, sampfrom, sampto, length)
    result = Bunch(
        data=None,
        fs=header.fs,
        lead_names=[header.lead_names[i] for i in chosen],
        record=header.record,
        n_timesteps=length,
        sampfrom=first,
        gain=[header.signals[i].gain for i in chosen],
        baseline=[header.signals[i].baseline for i in chosen],
        units=[header.signals[i].units for i in chosen],
        comments=list(header.comments),
        start=header.start,
        DESCR=_describe(header, length),
    )
    if annotator is not None:
        result.update(find_annotations(header, annotator, first, last, length, notes))
    if signal:
        result.update(_signal(header, chosen, first, last, length, on_error, notes))
    result.warnings = notes
    return result


def check_annotator(annotator: str | None) -> None:
    """Refuse what is no extension of an annotation file."""
    if annotator is not None and not (isinstance(annotator, str) and _EXTENSION.fullmatch(annotator)):
        raise ValueError(f"annotator must be the extension of an annotation file, such as 'atr'; got {annotator!r}")


def open_record(
    path: str | os.PathLike, leads: int | str | Sequence[int | str] | None, signal: bool = True
) -> tuple[Header, list[int], int | None, list[str]]:
    """Read a record's header and check the sizes of its signal files.

    Parameters
    ----------
    path : str or path-like
        As in :func:`read_record`.
    leads : int, str, sequence of them or None
        What is wanted.
    signal : bool, default=True
        Whether the signal will be read, so that its files have to be there.

    Returns
    -------
    header : Header
        What it says.
    chosen : list of int
        Positions of the leads.
    length : int or None
        Frames of the record; None only without ``signal``.
    notes : list of str
        What is odd.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be the path of a record; got {path!r}, a {type(path).__name__}")
    name = os.fspath(path)
    if not isinstance(name, str) or "\0" in name:
        raise ValueError(f"path must be the path of a record, as text; got {name!r}")
    if "://" in name or "::" in name:
        raise ValueError(f"{name!r} is an address: download the record first, then pass the path of its files")
    header = read_header(Path(name.removesuffix(".hea") + ".hea").expanduser().absolute())
    chosen = find_leads(header.lead_names, leads, header.record)
    notes, length = list(header.warnings), header.n_timesteps
    if signal:
        length, more = check_files(header, chosen)
        notes += more
    return header, chosen, length, notes


def find_leads(names: Sequence[str], leads: int | str | Sequence[int | str] | None, record: str) -> list[int]:
    """Return the positions of leads given by position or name; ValueError where the record has not what is wanted.

    Parameters
    ----------
    names : sequence of str
        Leads that the record has.
    leads : int, str, sequence of them or None
        What is wanted; None means all. Names are compared exactly first, then without regard to case.
    record : str
        Name of the record, for messages.

    Returns
    -------
    positions : list of int
        In the order in which they were asked for.
    """
    if leads is None:
        return list(range(len(names)))
    leads = list_names(leads)
    if not leads:
        raise ValueError(f"record {record}: leads is empty; name at least one of {', '.join(names)}, or pass None")
    return [_find_lead(names, lead, record) for lead in leads]


def _find_lead(names: Sequence[str], lead: int | str, record: str) -> int:
    has = ", ".join(f"{i} {name}" for i, name in enumerate(names))
    if isinstance(lead, Integral) and not isinstance(lead, bool):
        if not 0 <= lead < len(names):
            raise ValueError(f"record {record} has no lead {lead}; it has {has}")
        return int(lead)
    if not isinstance(lead, str):
        raise TypeError(f"a lead is a position or a name; got {lead!r}, a {type(lead).__name__}")
    found = [i for i, name in enumerate(names) if name == lead]
    found = found or [i for i, name in enumerate(names) if name.casefold() == lead.casefold()]
    if not found:
        raise ValueError(f"record {record} has no lead {lead!r}; it has {has}")
    if len(found) > 1:
        raise ValueError(f"record {record} has {len(found)} leads called {lead!r}: choose by position; it has {has}")
    return found[0]


def _part(header: Header, sampfrom: int, sampto: int | None, length: int | None) -> tuple[int, int | None]:
    """Return the first sample and the one after the last that is wanted."""
    check_number("sampfrom", sampfrom, low=0, integer=True, unit="(samples)")
    if sampto is not None:
        check_number("sampto", sampto, low=1, integer=True, unit="(samples)")
    last = length if sampto is None else sampto
    if last is not None and (sampfrom >= last or (length is not None and last > length)):
        raise ValueError(
            f"record {header.record}: samples {sampfrom} to {last} were asked for; the record has {length}, and "
            f"sampfrom must lie before sampto"
        )
    return int(sampfrom), None if last is None else int(last)


def find_annotations(
    header: Header, annotator: str, first: int, last: int | None, length: int | None, notes: list[str]
) -> dict[str, np.ndarray]:
    """Read the annotations of a part of a record; note those that lie beyond its end.

    Parameters
    ----------
    header : Header
        The record.
    annotator : str
        Extension of the annotation file.
    first, last : int
        The part, in frames; None is the end.
    length : int or None
        Frames of the whole record.
    notes : list of str
        Gets what is odd.

    Returns
    -------
    annotations : dict
        ``sample``, ``symbol``, ``aux_note``, ``subtype``, ``chan`` and ``num``.
    """
    path = header.path.with_name(f"{header.record}.{annotator}")
    found = read_annotations(path)
    fs = found.pop("fs")
    if fs is not None and fs != header.fs:
        raise ValueError(f"{path} counts at {fs:g} Hz, its record at {header.fs:g} Hz: they do not belong together")
    if not len(found.sample):
        notes.append(f"{path.name} holds no annotations")
    if length is not None and (beyond := int((found.sample >= length).sum())):
        notes.append(f"{beyond} annotations of {path.name} lie beyond the end of the record and are left out")
    keep = found.sample >= first
    if last is not None:
        keep &= found.sample < last
    return found if keep.all() else {name: values[keep] for name, values in found.items()}


def _signal(
    header: Header, chosen: list[int], first: int, last: int, length: int, on_error: str, notes: list[str]
) -> dict:
    """Read leads in mV piece by piece, compare checksums and initial values, and tell what is missing or flat."""
    with Samples(header, chosen, length, notes) as samples:
        data = allocate(header, (len(chosen), last - first))
        step = samples.frames(_PIECE)
        for a in range(first, last, step):
            b = min(a + step, last)
            samples.read(a, b, data[:, a - first : b - first])
        verified = samples.compare(on_error, notes)
    missing = np.isnan(data)
    return {
        "data": data,
        "verified": verified,
        "n_missing": missing.sum(axis=1),
        "longest_missing": np.array([_longest_run(row) for row in missing]),
        "flat": data.min(axis=1) == data.max(axis=1),
    }


def _longest_run(gaps: np.ndarray) -> int:
    """Return the length of the longest run of True."""
    if not gaps.any():
        return 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], gaps, [False])).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max())


def allocate(header: Header, shape: tuple[int, ...]) -> np.ndarray:
    """Return an empty float32 array; ValueError for one that this machine does not hold, before it kills the process.

    Parameters
    ----------
    header : Header
        The record, for the message.
    shape : tuple of int
        Of the array.

    Returns
    -------
    array : ndarray of float32
        Not initialised.
    """
    size, total = math.prod(shape) * 4, get_memory()
    error = None
    if total is None or size <= 0.8 * total:
        try:
            return np.empty(shape, dtype=np.float32)
        except (MemoryError, ValueError) as reason:  # a limit of the process, or beyond any address
            error = reason
    there = "more than this process gets" if error else f"this machine has {total / 1e9:,.1f} GB"
    raise ValueError(
        f"{header.path}: {size / 1e9:,.1f} GB were asked for, {there}: go through the record with iter_windows, which "
        f"keeps a few windows at a time, or read it in parts (sampfrom, sampto) or fewer leads"
    ) from error


def _describe(header: Header, length: int | None) -> str:
    """Return the header in words."""
    leads = ", ".join(dict.fromkeys(header.lead_names)) or "none"
    duration = "of unknown length" if length is None else f"{length:,} samples, {length / header.fs:,.1f} s"
    lines = [f"Record {header.record}: {len(header.signals)} leads ({leads}) at {header.fs:g} Hz, {duration}."]
    lines += [f"Start: {header.start}"] if header.start else []
    return "\n".join([*lines, *header.comments])
