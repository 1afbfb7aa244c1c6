"""WFDB headers, parsed strictly: what wfdb silently replaces by a default is an error or a warning here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from ._home import MissingFileError

MAX_BYTES = 1 << 20
MAX_SIGNALS = 256
MAX_FS = 100_000
MAX_SAMPLES_PER_FRAME = 64
MAX_SKEW = 10.0  # s
MAX_LENGTH = 1 << 40
UNCALIBRATED_GAIN = 200.0  # what the WFDB manual says for a gain of 0 or none, in units per mV

# Samples in a group and bytes of that group; None where samples are compressed (FLAC) and no size can be foretold.
FORMATS: dict[int, tuple[int, int] | None] = {
    8: (1, 1),
    16: (1, 2),
    24: (1, 3),
    32: (1, 4),
    61: (1, 2),
    80: (1, 1),
    160: (1, 2),
    212: (2, 3),
    310: (3, 4),
    311: (3, 4),
    508: None,
    516: None,
    524: None,
}
# The value that stands for a missing sample; format 8 stores differences and has none.
MISSING = {80: -(1 << 7), 508: -(1 << 7), 310: -(1 << 9), 311: -(1 << 9), 212: -(1 << 11), 16: -(1 << 15)}
MISSING |= {61: -(1 << 15), 160: -(1 << 15), 516: -(1 << 15), 24: -(1 << 23), 524: -(1 << 23), 32: -(1 << 31)}
MV_PER_UNIT = {"mV": 1.0, "mv": 1.0, "V": 1e3, "v": 1e3, "uV": 1e-3, "uv": 1e-3, "nV": 1e-6, "nv": 1e-6}
MV_PER_UNIT |= {"\N{MICRO SIGN}V": 1e-3, "\N{GREEK SMALL LETTER MU}V": 1e-3}

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_FORMAT = re.compile(r"(\d{1,4})(?:x(\d{1,9}))?(?::(\d{1,12}))?(?:\+(\d{1,12}))?", re.ASCII)
_RATE = re.compile(rf"({_NUMBER})(?:/{_NUMBER}(?:\({_NUMBER}\))?)?")
_GAIN = re.compile(rf"({_NUMBER})(?:\(([+-]?[0-9]{{1,12}})\))?(?:/(\S+))?")
_FILE = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_.~-]*")
_TIME = r"(?:(?:[01]?[0-9]|2[0-4]):)?[0-5]?[0-9]:[0-5]?[0-9](?:\.[0-9]*)?"
_DATE = r"(?:0?[1-9]|[12][0-9]|3[01])[/-](?:0?[1-9]|1[0-2]|[A-Za-z]{3})[/-][0-9]{4}"
_START = re.compile(rf"{_TIME}(?:\s+{_DATE})?|{_DATE}(?:\s+{_TIME})?")
# What signals are called in the databases. Another name may be right; or it is a damaged one, and nothing else tells.
_WORD = r"(?:(?:ecg |ekg )?lead|ecg|ekg|chan|channel|ch|signal|sig)"
_PLACE = r"d?i{1,3}|-?av[rlf]|v[1-9]r?|mli{1,3}|(?:ml|mcl|mv|cc|cm|cr|cs|mod\.?v)[1-9]|[de][1-4]|v?[xyz]|v[1-9]-v[1-9]"
_OTHER = r"abp|art|bp|pap|cvp|icp|resp|pleth|spo2|co2|gsr|imp|e[emo]g.*"
_KNOWN = re.compile(rf"(?:{_WORD}[ _.:-]?)?(?:{_PLACE})|{_WORD}[ _.:-]?[0-9]{{0,3}}|{_OTHER}", re.IGNORECASE | re.ASCII)
_RESCUE = "delete it and download it again, or correct it"


@dataclass(frozen=True)
class Signal:
    """One lead as its header describes it; ``checksum`` and ``initial`` are None where the header has none."""

    file: str
    fmt: int
    per_frame: int
    skew: int
    offset: int
    gain: float
    baseline: int
    units: str
    initial: int | None
    checksum: int | None
    name: str


@dataclass(frozen=True)
class Header:
    """A record as its header describes it; ``n_timesteps`` counts frames, None where the header has no length."""

    path: Path
    record: str
    fs: float
    n_timesteps: int | None
    signals: tuple[Signal, ...]
    comments: tuple[str, ...]
    start: str
    warnings: list[str] = field(default_factory=list)

    @property
    def lead_names(self) -> list[str]:
        """Names of the leads, in the header's order."""
        return [signal.name for signal in self.signals]

    def files(self) -> dict[str, list[int]]:
        """Return the signal files and the positions of the leads that lie in each."""
        files: dict[str, list[int]] = {}
        for i, signal in enumerate(self.signals):
            files.setdefault(signal.file, []).append(i)
        return files


def n_bytes(fmt: int, n_samples: int) -> int:
    """Return how many bytes n_samples take in a format that is not compressed."""
    samples, size = FORMATS[fmt]
    whole, rest = divmod(n_samples, samples)
    if fmt == 310:  # the third sample of a group lies in the upper bits of the other two
        return whole * size + 2 * rest
    return whole * size + math.ceil(rest * size / samples)


def read_header(path: Path) -> Header:
    """Read and check a header file.

    Parameters
    ----------
    path : pathlib.Path
        The ``.hea`` file.

    Returns
    -------
    header : Header
        What it says; ``warnings`` lists what is odd about it but can be read.

    Raises
    ------
    MissingFileError
        Where there is no such file.
    ValueError
        For a header that is not one, is incomplete or contradicts itself.
    """
    if not path.exists():
        given = path.with_suffix("")  # as the user wrote it
        hint = f"; give the record without an extension, {given.with_suffix('')}" if given.suffix else ""
        raise MissingFileError(
            f"{path} is missing: a WFDB record is read by its header; check the path, or put the record's .hea file "
            f"there beside its signal file{hint}",
            [path.name],
        )
    if not path.is_file():
        raise ValueError(f"{path} is no file; expected a WFDB header")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path}: not a WFDB header: it has more than {MAX_BYTES:,} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return parse_header(text, path)


def parse_header(text: str, path: Path) -> Header:
    """Parse the text of a header; see :func:`read_header`."""
    lines = [line.strip() for line in re.split(r"\r\n|\n|\r", text)]
    comments = tuple(line.strip(" \t#") for line in lines if line.startswith("#"))
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise _bad(path, "it is empty" if not text.strip() else "it holds nothing but comments")
    if lines[0][:9].lower().startswith(("<!doctype", "<html", "<?xml")):
        raise _bad(path, "it is a web page, as servers send instead of a file")
    for line in lines:
        if not line.replace("\t", " ").isprintable():
            raise _bad(path, f"control characters in {line[:60]!r}")
    warnings: list[str] = []
    record, n_signals, fs, length, start = _record_line(lines[0], path, warnings)
    if len(lines) - 1 != n_signals:
        raise _bad(path, f"line 1 announces {n_signals} signals, but {len(lines) - 1} are described")
    signals = tuple(_signal_line(line, i, path, warnings) for i, line in enumerate(lines[1:]))
    header = Header(path, record, fs, length, signals, comments, start, warnings)
    # The Challenge's headers name some records with the extension of their signal file.
    if (called := lines[0].split()[0]) != record and set(header.files()) != {called}:
        warnings.append(f"its header calls the record {called!r}")
    if odd := [name for name in header.lead_names if not _KNOWN.fullmatch(name)]:
        warnings.append(f"no lead that is known is called {', '.join(map(repr, odd))[:80]}")
    for file, leads in header.files().items():
        if leads != list(range(leads[0], leads[-1] + 1)):
            raise _bad(path, f"the signals of {file} do not follow one another")
        if len({(signals[i].fmt, signals[i].offset) for i in leads}) > 1:
            raise _bad(path, f"the signals of {file} have different formats or byte offsets")
    for i, signal in enumerate(signals):
        if signal.skew / fs > MAX_SKEW:
            raise _bad(path, f"signal {i} ({signal.name}) is skewed by {signal.skew / fs:g} s, above {MAX_SKEW:g} s")
    return header


def _record_line(line: str, path: Path, warnings: list[str]) -> tuple[str, int, float, int | None, str]:
    """Return record name, number of signals, fs, length and start of line 1."""
    name, *tokens = line.split(maxsplit=4)
    name, _, n_segments = name.partition("/")
    if n_segments:
        raise _bad(
            path,
            f"a record of {n_segments[:20]} segments ({line.split()[0][:40]}), which is not read as a whole: read its "
            f"segments one by one, by the names that its header lists",
        )
    if name != path.stem and name.partition(".")[0] != path.stem:
        raise _bad(path, f"it describes the record {name[:60]!r}, not {path.stem!r}: two records were mixed up")
    if not tokens:
        raise _bad(path, f"line 1 is {line[:60]!r}; expected name, number of signals, sampling rate and length")
    n_signals = _integer(tokens[0], "number of signals", path)
    if not 0 <= n_signals <= MAX_SIGNALS:
        raise _bad(path, f"it announces {n_signals} signals; between 0 and {MAX_SIGNALS} can be")
    if len(tokens) < 2:
        raise _bad(path, "it gives no sampling rate")
    match = _RATE.fullmatch(tokens[1])  # a counter may follow, which is not used
    fs = float(match[1]) if match else math.nan
    if not 1 <= fs <= MAX_FS:
        raise _bad(path, f"its sampling rate is {tokens[1][:40]!r}; expected a number between 1 and {MAX_FS:,} Hz")
    length = None
    if len(tokens) > 2:
        length = _integer(tokens[2], "number of samples", path)
        if not 0 <= length <= MAX_LENGTH:
            raise _bad(path, f"it announces {length:,} samples a signal")
    start = tokens[3] if len(tokens) > 3 else ""
    if start and not _START.fullmatch(start):
        warnings.append(f"its header has a start time {start[:40]!r} that is not understood")
    return path.stem, n_signals, fs, length or None, start  # a length of 0 is WFDB's other way to give none


def _signal_line(line: str, i: int, path: Path, warnings: list[str]) -> Signal:
    """Return what a signal line says."""
    file, *tokens = line.split(maxsplit=8)
    if not _FILE.fullmatch(file) or ".." in file:
        raise _bad(path, f"signal {i} lies in {file[:60]!r}; expected the plain name of a file beside the header")
    match = _FORMAT.fullmatch(tokens[0]) if tokens else None
    if match is None or int(match[1]) not in FORMATS:
        raise _bad(path, f"signal {i} has format {tokens[0][:40] if tokens else ''!r}; known are {sorted(FORMATS)}")
    fmt, per_frame, skew, offset = int(match[1]), *(int(v) if v else None for v in match.groups()[1:])
    per_frame = 1 if per_frame is None else per_frame
    if not 1 <= per_frame <= MAX_SAMPLES_PER_FRAME:
        raise _bad(path, f"signal {i} has {per_frame} samples a frame; 1 to {MAX_SAMPLES_PER_FRAME} can be")
    words = ("ADC resolution", "ADC zero", "initial value", "checksum", "block size")
    numbers = [_integer(token, f"{word} of signal {i}", path) for token, word in zip(tokens[2:7], words, strict=False)]
    _, zero, initial, checksum, _ = numbers + [None] * (5 - len(numbers))
    name = tokens[7].strip() if len(tokens) > 7 else f"signal {i}"
    if len(tokens) <= 7:
        warnings.append(f"signal {i} has no name")
    gain, baseline, units = _gain(tokens[1] if len(tokens) > 1 else "", i, name, path, warnings)
    if baseline is None:
        baseline = zero or 0
    if max(abs(v) for v in (baseline, zero or 0, initial or 0)) > 1 << 31:
        raise _bad(path, f"signal {i} ({name}) has a baseline, zero or initial value beyond 32 bits")
    return Signal(file, fmt, per_frame, skew or 0, offset or 0, gain, baseline, units, initial, checksum, name)


def _gain(
    token: str, i: int, name: str, path: Path, warnings: list[str]
) -> tuple[float, int | None, str]:
    """Return gain in units of the converter per physical unit, baseline (None where not given) and physical unit."""
    gain, baseline, units = 0.0, None, "mV"
    if token:
        match = _GAIN.fullmatch(token)
        if match is None:
            raise _bad(path, f"signal {i} ({name}) has gain {token[:40]!r}; expected a number such as 200(1024)/mV")
        gain, baseline = float(match[1]), None if match[2] is None else int(match[2])
        units = match[3] or "mV"
        if gain and not 1e-6 <= abs(gain) <= 1e9:
            raise _bad(path, f"signal {i} ({name}) has gain {match[1][:40]}, which no converter has")
    if not gain:
        gain = UNCALIBRATED_GAIN
        warnings.append(f"lead {name} is not calibrated (gain 0): {UNCALIBRATED_GAIN:g} units per {units} are taken")
    if gain < 0:
        warnings.append(f"lead {name} has the negative gain {gain:g}: it is turned over")
    return gain, baseline, units


def check_files(header: Header, leads: list[int]) -> tuple[int, list[str]]:
    """Check the signal files of some leads by their sizes, before anything is read.

    Parameters
    ----------
    header : Header
        What was declared.
    leads : list of int
        Positions of the leads that will be read.

    Returns
    -------
    n_timesteps : int
        Frames of the record: the header's, or where it gives none what the files hold.
    warnings : list of str
        What is odd but can be read.

    Raises
    ------
    MissingFileError
        Where a file is missing.
    ValueError
        For a file that is shorter than declared, lies outside the record's folder, or has no whole number of frames.
    """
    folder, warnings, n_timesteps = header.path.parent, [], header.n_timesteps
    for file, positions in header.files().items():
        if not set(positions) & set(leads):
            continue
        path = folder / file
        if file in ("~", "-"):
            raise ValueError(f"{header.path}: lead {header.signals[positions[0]].name} has no signal file")
        if not path.exists():
            raise MissingFileError(
                f"{path} is missing: record {header.record} has its header but not its signal; put {file} beside it",
                [file],
            )
        if not path.is_file():
            raise ValueError(f"{path} is no file; expected the signal of record {header.record}")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{path} is a link that leads out of the record's folder, to {path.resolve()}: copy it")
        first = header.signals[positions[0]]
        if FORMATS[first.fmt] is None:
            if n_timesteps is None:
                raise ValueError(f"{header.path}: no length is given, and that of {file} (compressed) is unknown")
            continue
        size, per_frame = path.stat().st_size, sum(header.signals[i].per_frame for i in positions)
        if n_timesteps is None:
            n_timesteps = _infer_length(path, size - first.offset, first.fmt, per_frame)
            warnings.append(f"its header has no length: {n_timesteps} samples a lead, from the size of {file}")
        need = first.offset + n_bytes(first.fmt, n_timesteps * per_frame)
        if size < need:
            raise ValueError(
                f"{path} has {size:,} of the {need:,} bytes that its header declares: a download was interrupted or "
                f"the file is truncated; delete it and download it again"
            )
        if size >= need + n_bytes(first.fmt, 2 * per_frame):
            warnings.append(f"{file} has {size:,} bytes, its header declares {need:,}: what is beyond is not read")
    return n_timesteps, warnings


def _infer_length(path: Path, size: int, fmt: int, per_frame: int) -> int:
    """Return the frames that a file of this size holds; ValueError where they are no whole number."""
    samples, group = FORMATS[fmt]
    frames = max(size, 0) * samples // group // per_frame
    if not frames or n_bytes(fmt, frames * per_frame) != size:
        raise ValueError(
            f"{path}: its header has no length, and {size:,} bytes are no whole number of samples of format {fmt}: "
            f"the file is truncated or empty"
        )
    return frames


def _integer(token: str, what: str, path: Path) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", token):
        raise _bad(path, f"the {what} is {token[:40]!r}; expected an integer")
    return int(token)


def _bad(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path}: not a valid WFDB header: {reason}; {_RESCUE}")
