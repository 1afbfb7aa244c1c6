"""Read a damaged record, and tell what came of it: the same, refused, warned about, another valid one, or wrong."""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skecg.datasets import read_record
from tests.fuzz.material import Intact
from tests.fuzz.oracles import annotations_say, header_says

SAME, REFUSED, WARNED, VALID = "same as intact", "refused, file named", "read with a warning", "another valid file"
SILENT, OTHER, HANG = "SILENTLY DIFFERENT", "OTHER EXCEPTION", "LONGER THAN 1 S"
OUTCOMES = (SAME, REFUSED, WARNED, VALID, SILENT, OTHER, HANG)
WRONG = (SILENT, OTHER, HANG)
LIMIT = 1.0  # s
_HEADER_FIELDS = ("data", "fs", "lead_names", "comments", "start")
_ANNOTATION_FIELDS = ("sample", "symbol", "subtype", "chan", "num", "aux_note")


class Stuck(BaseException):
    """The time is up; no Exception, so that no reader takes it for its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stop what runs in Python for longer, where the system can."""

    def stop(*_: object) -> None:
        raise Stuck

    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def read(path: Path, kind: str) -> Bunch:
    """Read what the damage of this kind can show in."""
    if kind == "annotations":
        return read_record(path, annotator="atr", signal=False)
    return read_record(path)


def judge(path: Path, kind: str, content: bytes, intact: Intact, expected: dict[str, Any]) -> tuple[str, str]:
    """Read a record of which one file was damaged; return the outcome and what it rests on.

    Parameters
    ----------
    path : pathlib.Path
        The damaged record.
    kind : "headers", "annotations" or "signals"
        Which file was damaged.
    content : bytes
        What that file holds now.
    intact : Intact
        The record as it was written.
    expected : dict
        What :func:`read` returned for it then.
    """
    before = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with time_limit(10 * LIMIT):  # of the clock, which other programs may hold up
                found = read(path, kind)
        except Stuck:
            return HANG, "stopped"
        except (ValueError, OSError) as error:
            named = intact.name in str(error)
            outcome = (REFUSED, type(error).__name__) if named else (OTHER, f"names no file: {error}")
        except BaseException as error:
            outcome = OTHER, repr(error)[:200]
        else:
            told = any(issubclass(w.category, UserWarning) for w in caught)
            outcome = (WARNED, "") if told else compare(found, kind, content, intact, expected)
    return (HANG, "took long") if time.process_time() - before > LIMIT else outcome


def compare(
    found: dict[str, Any],
    kind: str,
    content: bytes,
    intact: Intact,
    expected: dict[str, Any],
    same: Callable[[Any, Any], bool] | None = None,
) -> tuple[str, str]:
    """Compare an answer with that of the intact file, and else with what the damaged file plainly says."""
    same = same or _equal
    fields = [name for name in (_ANNOTATION_FIELDS if kind == "annotations" else _HEADER_FIELDS) if name in found]
    other = [name for name in fields if not same(found[name], expected[name])]
    if not other:
        return SAME, ""
    says = None
    if kind == "annotations":
        says = annotations_say(content)
    elif kind == "headers":
        says = header_says(content.decode(), intact)
    if says is None or not all(same(found[name], says[name]) for name in fields):
        return SILENT, ", ".join(other)
    return VALID, _cause(other, found, expected)


def _equal(a: Any, b: Any) -> bool:
    return np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")


def _cause(other: list[str], found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Return the field that makes it another valid file, the gravest first."""
    names = {"data": "gain, baseline, unit or skew", "fs": "sampling rate", "lead_names": "name of a lead",
             "start": "time of the start", "comments": "comments"}  # fmt: skip
    return next((text for name, text in names.items() if name in other), "marks")
