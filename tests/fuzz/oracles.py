"""What a damaged file plainly says, read word by word as the manual tells; none of it is the library's own code."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np

from tests.fuzz.material import Intact

_TO_MV = {"mV": 1.0, "mv": 1.0, "uV": 1e-3, "uv": 1e-3, "V": 1e3, "v": 1e3, "nV": 1e-6, "nv": 1e-6, "\u00b5V": 1e-3}
_SYMBOLS = dict(enumerate("NLRaVFJASEj/Q~", start=1)) | {16: "|"}
_SYMBOLS |= dict(enumerate('sT*D"=pB^t+u?![]en@xf()r', start=18))


def header_says(text: str, intact: Intact) -> dict[str, Any] | None:
    """Return what a header says of the samples that the record was written with; None where it is no header.

    The header may be another one than that which was written, with other names, gains or rates. The samples are
    never read: they are those that were written.
    """
    try:
        return _read_header(text.replace("\r\n", "\n").replace("\r", "\n"), intact)
    except (ValueError, IndexError, KeyError, ZeroDivisionError, OverflowError):
        return None


def _read_header(text: str, intact: Intact) -> dict[str, Any]:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    comments = [line.strip("# \t") for line in lines if line[0] == "#"]
    first, *signals = (line for line in lines if line[0] != "#")
    _, n_signals, rate, length, *start = first.split(maxsplit=4)
    if int(n_signals) != len(signals) or len(signals) != len(intact.digital) or int(length) != intact.digital.shape[1]:
        raise ValueError
    names, data = [], []
    for line, digital in zip(signals, intact.digital, strict=True):
        _, layout, gain, _, zero, _, _, _, name = line.split(maxsplit=8)
        value, _, unit = gain.partition("/")
        value, _, baseline = value.rstrip(")").partition("(")
        scaled = (digital - int(baseline or zero)) / float(value) * _TO_MV[unit or "mV"]
        skew = int(layout.partition(":")[2].partition("+")[0] or 0)
        data.append(np.concatenate([scaled[skew:], np.full(min(skew, len(scaled)), np.nan)]).astype(np.float32))
        names.append(name)
    return {
        "data": np.array(data),
        "fs": float(rate.partition("/")[0]),
        "lead_names": names,
        "comments": comments,
        "start": " ".join(start),
    }


def annotations_say(content: bytes) -> dict[str, list] | None:
    """Return what an annotation file says, one word after another; None where it is none."""
    try:
        return _read_annotations(content)
    except (ValueError, IndexError, KeyError, struct.error):
        return None


def _read_annotations(content: bytes) -> dict[str, list]:
    rows: list[list] = []  # sample, code, subtype, chan, num, text
    i = time = chan = num = 0
    while True:
        (word,) = struct.unpack_from("<H", content, i)
        i += 2
        code, value = word >> 10, word & 1023
        if word == 0:
            break
        if code == 59:
            high, low = struct.unpack_from("<hH", content, i)
            time, i = time + (high << 16) + low, i + 4
        elif code == 60:
            num = rows[-1][4] = int(np.uint8(value & 255).view(np.int8))
        elif code == 61:
            rows[-1][2] = int(np.uint8(value & 255).view(np.int8))
        elif code == 62:
            chan = rows[-1][3] = value & 255
        elif code == 63:
            note = content[i : i + value]
            if len(note) < value or i + value + value % 2 > len(content):
                raise ValueError
            rows[-1][5], i = note.decode("latin-1").rstrip("\0"), i + value + value % 2
        else:
            time += value
            rows.append([time, code, 0, chan, num, ""])
    if any(content[i:]) or any(b[0] < a[0] for a, b in itertools.pairwise(rows)) or (rows and rows[0][0] < 0):
        raise ValueError
    symbols, kept, inside = dict(_SYMBOLS), [], False
    for row in rows:
        note = row[5]
        if row[0] == 0 and row[1] == 22 and (inside or note.startswith("## ")):
            if inside and note != "## end of definitions":
                number, symbol, _ = note.split(" ", 2)
                symbols[int(number)] = symbol
            else:
                inside = note == "## annotation type definitions"
        elif row[1]:
            kept.append([row[0], symbols[row[1]], *row[2:]])
    columns = [list(column) for column in zip(*kept, strict=True)] or [[] for _ in range(6)]
    return dict(zip(("sample", "symbol", "subtype", "chan", "num", "aux_note"), columns, strict=True))
