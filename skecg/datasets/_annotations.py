"""MIT annotation files (.atr and their like), decoded with bounds on every step.

wfdb 4.3.1 loops for ever on some one-character changes of such a file and takes a web page for annotations, so the
bytes would have to be walked through before it is called; here that walk decodes them already, by whole arrays.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ._home import MissingFileError

# The codes of the WFDB manual; 15, 17 and 42 to 49 are free for an annotation file to define.
_CODES = dict(enumerate("NLRaVFJASEj/Q~", start=1))
_CODES |= {16: "|"} | dict(enumerate('sT*D"=pB^t+u?![]en@xf()r', start=18))
_NOTE, _SKIP, _NUM, _SUB, _CHAN, _AUX = 22, 59, 60, 61, 62, 63
_MAX_BYTES = 1 << 28
_FREQUENCY = re.compile(r"## time resolution: ([0-9]+\.?[0-9]*)")
_DEFINITION = re.compile(r"([0-9]{1,3}) (\S+) (.+)")
_START, _STOP = "## annotation type definitions", "## end of definitions"


def read_annotations(path: Path) -> Bunch:
    """Read an annotation file.

    Parameters
    ----------
    path : pathlib.Path
        The file, such as ``100.atr``.

    Returns
    -------
    annotations : Bunch
        ``sample`` (int64), ``symbol`` (str), ``aux_note`` (object array of str, without trailing NUL), ``subtype``,
        ``chan``, ``num`` (int16) and ``fs`` (float, or None where the file does not say it).

    Raises
    ------
    MissingFileError
        Where there is no such file.
    ValueError
        For a file that is no annotation file, is cut, or holds what no annotation file can.
    """
    if not path.exists():
        raise MissingFileError(
            f"{path} is missing: record {path.stem} has no annotations {path.suffix.removeprefix('.')!r} there; put "
            f"the file beside its header, or read the record without annotations",
            [path.name],
        )
    if not path.is_file():
        raise ValueError(f"{path} is no file; expected annotations")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path}: not an annotation file: it has more than {_MAX_BYTES:,} bytes")
    return decode_annotations(path.read_bytes(), path)


def decode_annotations(content: bytes, path: Path) -> Bunch:
    """Decode the bytes of an annotation file; see :func:`read_annotations`."""
    if not content:
        raise _bad(path, "it is empty (0 bytes), not even the end mark is there")
    if content.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise _bad(path, "it is a web page, as servers send instead of a file")
    if len(content) % 2:
        raise _bad(path, f"it has an odd number of bytes ({len(content):,}): it is cut")
    words = np.frombuffer(content, dtype="<u2")
    kinds, values = (words >> 10).astype(np.int64), (words & 0x3FF).astype(np.int64)
    plain, notes, skips, end = _walk(words, kinds, values, content, path)
    return _assemble(kinds[:end], values[:end], plain[:end], notes, skips, path)


def _walk(
    words: np.ndarray, kinds: np.ndarray, values: np.ndarray, content: bytes, path: Path
) -> tuple[np.ndarray, list[tuple[int, str]], list[tuple[int, int]], int]:
    """Tell words of their own from words that belong to a long interval or to a text.

    Only the two kinds that carry further words need steps one by one; all others are left to array operations.
    Returns which words stand on their own, (position, text) of the texts, (position, samples) of the long intervals,
    and the position of the end mark.
    """
    plain = np.ones(len(words), dtype=bool)
    notes, skips, free = [], [], 0
    zeros = np.flatnonzero(words == 0)
    carriers = np.flatnonzero((kinds == _SKIP) | (kinds == _AUX))
    end = len(words)
    for i in carriers.tolist():
        if i < free:  # inside a text
            continue
        first = np.searchsorted(zeros, free)
        if first < len(zeros) and zeros[first] < i:
            break  # the end mark stands before
        if kinds[i] == _SKIP:
            size = 2
            high, low = content[2 * i + 2 : 2 * i + 4], content[2 * i + 4 : 2 * i + 6]
            skips.append((i, int.from_bytes(low + high, "little", signed=True)))  # the high word comes first
        else:
            length = int(values[i])
            if length > 255:
                raise _bad(path, f"a text of {length} bytes at byte {2 * i}, longer than any can be")
            size = (length + 1) // 2
            notes.append((i, content[2 * i + 2 : 2 * i + 2 + length].decode("latin-1").rstrip("\0")))
        free = i + 1 + size
        if free > len(words):
            raise _bad(path, f"what begins at byte {2 * i} goes on beyond the end of the file: it is cut")
        plain[i + 1 : free] = False
    zeros = zeros[plain[zeros]]
    if not len(zeros):
        raise _bad(path, "it does not end with its end mark: it is cut")
    end = int(zeros[0])
    if words[end:].any():
        raise _bad(path, f"{len(content) - 2 * end - 2:,} bytes follow its end mark")
    return plain, notes, skips, end


def _assemble(
    kinds: np.ndarray,
    values: np.ndarray,
    plain: np.ndarray,
    notes: list[tuple[int, str]],
    skips: list[tuple[int, int]],
    path: Path,
) -> Bunch:
    """Add the intervals up and hang texts and numbers on the annotations that they follow."""
    marks = np.flatnonzero(plain & (kinds < _SKIP))
    steps = np.where(plain & (kinds < _SKIP), values, 0)
    for i, samples in skips:
        steps[i] = samples
    sample = np.cumsum(steps)[marks]
    codes = kinds[marks]
    if len(sample) and (sample[0] < 0 or (np.diff(sample) < 0).any()):
        raise _bad(path, "its times run backwards")

    owner = np.searchsorted(marks, np.arange(len(kinds)), side="right") - 1
    aux = np.full(len(marks), "", dtype=object)
    for i, text in notes:
        if owner[i] < 0:
            raise _bad(path, "it begins with a text that belongs to no annotation")
        aux[owner[i]] = text
    extra = {}
    for name, kind, keeps in (("subtype", _SUB, False), ("chan", _CHAN, True), ("num", _NUM, True)):
        at = np.flatnonzero(plain & (kinds == kind))
        if len(at) and owner[at[0]] < 0:
            raise _bad(path, f"it begins with a {name} that belongs to no annotation")
        column = np.zeros(len(marks), dtype=np.int16)
        given = (values[at] & 0xFF).astype(np.uint8)
        column[owner[at]] = given if kind == _CHAN else given.view(np.int8)
        if keeps and len(at):  # the manual: these two stay until they are changed
            last = np.zeros(len(marks), dtype=np.int64)
            last[owner[at]] = owner[at]
            column = column[np.maximum.accumulate(last)]
        extra[name] = column

    # Comments at sample 0 may define things for the whole file; code 0 is no annotation at all.
    comments = np.flatnonzero((sample == 0) & (codes == _NOTE))
    fs, symbols, definitions = _definitions([aux[i] for i in comments], path)
    keep = codes != 0
    keep[comments[definitions]] = False
    sample, codes = sample[keep], codes[keep]
    unknown = np.flatnonzero(~np.isin(codes, list(symbols)))
    if len(unknown):
        code, at = codes[unknown[0]], sample[unknown[0]]
        raise _bad(path, f"{len(unknown)} annotations are of no known kind, the first of code {code} at sample {at}")
    table = np.array([symbols.get(code, "") for code in range(_SKIP)])
    extra = {name: column[keep] for name, column in extra.items()}
    return Bunch(sample=sample, symbol=table[codes], aux_note=aux[keep], fs=fs, **extra)


def _definitions(texts: list[str], path: Path) -> tuple[float | None, dict[int, str], list[int]]:
    """Return the rate that the comments state, the symbols of all codes, and which comments are definitions."""
    fs, symbols, used, inside = None, dict(_CODES), [], False
    for i, text in enumerate(texts):
        if inside and text != _STOP:
            match = _DEFINITION.fullmatch(text)
            if match is None or not 0 < int(match[1]) < 50:
                raise _bad(path, f"{text[:60]!r} defines no kind of annotation")
            symbols[int(match[1])] = match[2]
        elif inside or text.startswith("## "):  # a definition that is not understood is passed over, as wfdb means to
            inside = text == _START
            if rate := _FREQUENCY.match(text):
                fs = float(rate[1])
        else:
            continue
        used.append(i)
    if inside:
        raise _bad(path, "its definitions of kinds of annotations do not end")
    return fs, symbols, used


def _bad(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path}: not a valid annotation file: {reason}; delete it and download it again, or read the record without "
        f"annotations"
    )
