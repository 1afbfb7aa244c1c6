"""Read a WFDB record by wfdb, with the checks around it that wfdb lacks."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ..utils._validation import check_number, check_option
from ._annotations import read_annotations
from ._headers import MISSING, MV_PER_UNIT, Header, Signal, check_files, read_header

_PIECE = 1 << 23  # samples that wfdb decodes at a time: a few ten MB, so that a day of ECG takes no more
_WIDE = {8, 24, 32, 524}  # formats whose samples need more than 16 bits


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

    wfdb decodes the samples. Before it, the header is parsed strictly (wfdb replaces a damaged sampling rate or gain
    by a default without a word) and the sizes of the files are compared with it; after it, the 16-bit checksum and
    the initial value of every lead are compared with the header's, which wfdb does not do. Annotations are decoded
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
    segment_beats : Cut windows around the beats of a record.
    fetch_mitdb : Windows of a whole database.

    Notes
    -----
    A gain of 0 means "not calibrated" in WFDB: 200 units per mV are taken, with a warning. Leads of several samples a
    frame are averaged to one. Annotations at or beyond the end of the record are left out with a warning that counts
    them. Records of several segments are refused, with the advice to read their segments one by one.

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
    check_option("on_error", on_error, ("raise", "warn"))
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be the path of a record; got {path!r}, a {type(path).__name__}")
    name = os.fspath(path)
    if "://" in name or "::" in name:
        raise ValueError(f"{name!r} is an address: download the record first, then pass the path of its files")
    if annotator is not None and not (isinstance(annotator, str) and annotator.replace("-", "").isalnum()):
        raise ValueError(f"annotator must be the extension of an annotation file, such as 'atr'; got {annotator!r}")
    path = Path(name.removesuffix(".hea") + ".hea").expanduser().absolute()

    header = read_header(path)
    chosen = find_leads(header.lead_names, leads, header.record)
    notes = list(header.warnings)
    length = header.n_timesteps
    if signal:
        length, more = check_files(header, chosen)
        notes += more
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
        result.update(_annotations(path.with_name(f"{header.record}.{annotator}"), header, first, last, length, notes))
    if signal:
        result.update(_signal(header, chosen, first, last, length, on_error, notes))
    for note in notes:
        warnings.warn(f"record {header.record}: {note}", UserWarning, stacklevel=2)
    result.warnings = notes
    return result


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
    leads = [leads] if isinstance(leads, str | Integral) else list(leads)
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


def _annotations(path: Path, header: Header, first: int, last: int | None, length: int | None, notes: list) -> dict:
    """Read the annotations of the wanted part; note those that lie beyond the record."""
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
    signals = header.signals
    if not signals:
        raise ValueError(f"{header.path}: the record has no signal; pass signal=False to read its annotations")
    for i in chosen:
        if signals[i].units not in MV_PER_UNIT:
            raise ValueError(
                f"record {header.record}: lead {i} ({signals[i].name}) is in {signals[i].units!r}, which is no "
                f"voltage; expected mV, uV, nV or V: choose the ECG leads by leads="
            )
        if signals[i].per_frame > 1:
            notes.append(f"lead {signals[i].name} has {signals[i].per_frame} samples a frame: they are averaged to one")
    _check_memory(header, len(chosen) * (last - first) * 4)
    data = np.empty((len(chosen), last - first), dtype=np.float32)
    # All leads of a file are decoded together anyway, so all are compared: a damaged byte shows in whatever lead.
    read = sorted({i for positions in header.files().values() if set(positions) & set(chosen) for i in positions})
    sums, initial = dict.fromkeys(read, 0), {}
    reader = _Reader(header, read, length)
    ahead = max(signals[i].skew for i in read)
    step = max(1, _PIECE // sum(signals[i].per_frame for i in read))
    for a in range(first, last, step):
        b = min(a + step, last)
        for i, digital in zip(read, reader.read(a, min(b + ahead, length)), strict=True):
            per_frame, skew = signals[i].per_frame, signals[i].skew
            sums[i] += int(digital[: (b - a) * per_frame].sum(dtype=np.int64))
            initial.setdefault(i, int(digital[0]))
            for row in (row for row, lead in enumerate(chosen) if lead == i):
                out = data[row, a - first : b - first]
                _to_mv(digital[skew * per_frame : (skew + b - a) * per_frame], signals[i], out)
    whole = (first, last) == (0, length)
    verified = _compare(header, read, sums if whole else None, initial if first == 0 else None, on_error, notes)
    missing = np.isnan(data)
    return {
        "data": data,
        "verified": verified,
        "n_missing": missing.sum(axis=1),
        "longest_missing": np.array([_longest_run(row) for row in missing]),
        "flat": data.min(axis=1) == data.max(axis=1),
    }


def _compare(
    header: Header, read: list[int], sums: dict | None, initial: dict | None, on_error: str, notes: list[str]
) -> bool:
    """Compare sums and first samples with the header's; return whether all were there and agreed."""
    problems, silent = [], []
    for i in read:
        signal = header.signals[i]
        # Some writers give the sum of 16 bits with a sign, some without: they are the same number modulo 65536.
        if sums is not None and signal.checksum is None:
            silent.append(signal.name)
        elif sums is not None and (sums[i] - signal.checksum) % 65536:
            problems.append(
                f"the samples of lead {signal.name} add up to the checksum {_signed(sums[i])}, its header says "
                f"{_signed(signal.checksum)}"
            )
        if initial is not None and signal.initial is not None and initial[i] != signal.initial:
            problems.append(f"lead {signal.name} begins with {initial[i]}, its header says {signal.initial}")
    if silent:
        notes.append(f"its header has no checksum for {', '.join(silent)}: damage to the samples would not show")
    if problems:
        file = header.path.parent / header.signals[read[0]].file
        text = f"{file}: the signal is damaged or its header is another one's: {'; '.join(problems)}"
        if on_error == "raise":
            raise ValueError(f"{text}; download the record again, or pass on_error='warn' to read it as it is")
        notes.append(text)
    return sums is not None and initial is not None and not problems and not silent


def _signed(value: int) -> int:
    return (value + (1 << 15)) % (1 << 16) - (1 << 15)


class _Reader:
    """Digital samples by wfdb; where wfdb reads the header otherwise than it is written, from a copy in plain words."""

    def __init__(self, header: Header, leads: list[int], length: int) -> None:
        self.header, self.leads, self.length = header, leads, length
        self.plain = False
        self.from_start = any(header.signals[i].fmt == 8 for i in leads)  # differences: no start but the first sample
        self.bits = 32 if any(header.signals[i].fmt in _WIDE for i in leads) else 16

    def read(self, a: int, b: int) -> list[np.ndarray]:
        """Return the samples of the frames a to b, an array a lead."""
        start = 0 if self.from_start else a
        try:
            found = None if self.plain else self._read(self.header.path.with_suffix(""), self.leads, start, b)
        except OSError:
            raise
        except Exception:
            # wfdb raises seven kinds of exception on headers; whether the signal can be read shows on the copy.
            found = None
        if found is None:
            self.plain = True
            try:
                with tempfile.TemporaryDirectory(prefix="skecg-") as folder:
                    found = self._read(self._copy(Path(folder)), list(range(len(self.leads))), start, b)
            except OSError:
                raise
            except Exception as error:
                raise ValueError(f"{self.header.path}: wfdb cannot read the signal: {error}") from error
            if found is None:
                raise ValueError(f"{self.header.path}: wfdb does not read the signal as its header describes it")
        if start < a:
            found = [x[a * self.header.signals[i].per_frame :] for x, i in zip(found, self.leads, strict=True)]
        return found

    def _read(self, path: Path, channels: list[int], a: int, b: int) -> list[np.ndarray] | None:
        """Return the samples, or None where wfdb understood the header otherwise."""
        import wfdb

        signals = [self.header.signals[i] for i in self.leads]
        # Big-endian samples (format 61) make wfdb's list of leads fail, its table of leads not.
        table = any(signal.fmt == 61 for signal in signals) and all(signal.per_frame == 1 for signal in signals)
        record = wfdb.rdrecord(
            str(path), a, b, channels, physical=False, smooth_frames=table, ignore_skew=True, return_res=self.bits
        )
        same = (
            [int(fmt) for fmt in record.fmt] == [signal.fmt for signal in signals]
            and [n or 1 for n in record.samps_per_frame] == [signal.per_frame for signal in signals]
            and [n or 0 for n in record.byte_offset] == [signal.offset for signal in signals]
            and (path.parent != self.header.path.parent or record.file_name == [signal.file for signal in signals])
        )
        if not same:
            return None
        found = list(record.d_signal.T) if table else record.e_d_signal
        right = [len(x) == (b - a) * signal.per_frame for x, signal in zip(found, signals, strict=True)]
        return found if all(right) else None

    def _copy(self, folder: Path) -> Path:
        """Write the header anew with nothing in it but what reading needs, beside links to the signal files."""
        names: dict[str, str] = {}
        lines = [f"record {len(self.leads)} 1 {self.length}"]
        for i in self.leads:
            s = self.header.signals[i]
            if s.file not in names:
                names[s.file] = f"signal{len(names)}.dat"
                source, target = self.header.path.parent / s.file, folder / names[s.file]
                try:
                    target.symlink_to(source.resolve())
                except (OSError, NotImplementedError):  # Windows wants a privilege for links
                    shutil.copyfile(source, target)
            initial = s.initial or 0  # read by format 8 alone
            lines.append(f"{names[s.file]} {s.fmt}x{s.per_frame}+{s.offset} 1(0)/mV 0 0 {initial} 0 0 lead")
        (folder / "record.hea").write_text("\n".join(lines) + "\n", encoding="ascii")
        return folder / "record"


def _to_mv(digital: np.ndarray, signal: Signal, out: np.ndarray) -> None:
    """Write samples as mV; what is missing in them, or lacking at their end, as NaN."""
    n = len(digital) // signal.per_frame
    missing = MISSING.get(signal.fmt)
    gaps = np.zeros(len(digital), dtype=bool) if missing is None else digital == missing
    factor = MV_PER_UNIT[signal.units]
    narrow = signal.fmt not in _WIDE and abs(signal.baseline) < 1 << 23 and signal.per_frame == 1
    if narrow and factor == 1 and float(np.float32(signal.gain)) == signal.gain:
        # Differences and gain are whole in float32, so one division rounds once, as float64 and a cast would.
        np.subtract(digital, np.float32(signal.baseline), out=out[:n], dtype=np.float32)
        np.divide(out[:n], np.float32(signal.gain), out=out[:n])
        if gaps.any():
            out[:n][gaps] = np.nan
    else:
        values = (digital.astype(np.float64) - signal.baseline) / signal.gain * factor
        values[gaps] = np.nan
        out[:n] = values.reshape(n, signal.per_frame).mean(axis=1)
    out[n:] = np.nan


def _longest_run(gaps: np.ndarray) -> int:
    """Return the length of the longest run of True."""
    if not gaps.any():
        return 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], gaps, [False])).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max())


def _check_memory(header: Header, size: int) -> None:
    """Refuse what no memory of this machine holds, instead of letting the system kill the process."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return
    if size > 0.8 * total:
        raise ValueError(
            f"{header.path}: {size / 1e9:,.1f} GB were asked for, this machine has {total / 1e9:,.1f} GB: read the "
            f"record in parts (sampfrom, sampto) or fewer leads"
        )


def _describe(header: Header, length: int | None) -> str:
    """Return the header in words."""
    leads = ", ".join(dict.fromkeys(header.lead_names)) or "none"
    duration = "of unknown length" if length is None else f"{length:,} samples, {length / header.fs:,.1f} s"
    lines = [f"Record {header.record}: {len(header.signals)} leads ({leads}) at {header.fs:g} Hz, {duration}."]
    lines += [f"Start: {header.start}"] if header.start else []
    return "\n".join([*lines, *header.comments])
