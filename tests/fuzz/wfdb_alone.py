"""The same damage read by wfdb without skecg, in a process of its own, since wfdb can be made to run for ever."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.judge import HANG, LIMIT, OTHER, REFUSED, Stuck, compare, time_limit
from tests.fuzz.material import Intact

_MV = {"mV": 1.0, "uV": 1e-3, "V": 1e3, "nV": 1e-6}
_MEMORY = 6 << 30


class Worker:
    """A process that reads records by wfdb; a new one takes its place where it does not answer."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.here, there = context.Pipe()
        self.process = context.Process(target=_serve, args=(there,), daemon=True)
        self.process.start()
        self.here.recv()  # wfdb is loaded

    def judge(self, path: Path, kind: str, content: bytes, intact: Intact, expected: dict[str, Any]) -> tuple[str, str]:
        """Return the outcome as :func:`tests.fuzz.judge.judge` does; times of start and comments are not compared."""
        self.here.send((str(path), kind))
        if not self.here.poll(10 * LIMIT):
            self.close()
            self._start()
            return HANG, "killed"
        try:
            outcome, found = self.here.recv()
        except EOFError:
            self._start()
            return OTHER, "the process died"
        if outcome:
            return outcome, found
        return compare(found, kind, content, intact, expected, _alike)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


def _alike(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return np.array_equal(a, b)
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-9, equal_nan=True)


def _serve(pipe: Any) -> None:
    import wfdb

    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    except ImportError:  # Windows
        pass
    warnings.simplefilter("ignore")
    pipe.send(wfdb.__version__)
    while True:
        path, kind = pipe.recv()
        start = time.perf_counter()
        try:
            with time_limit(LIMIT):
                answer = "", _annotations(path) if kind == "annotations" else _record(path)
        except Stuck:
            answer = HANG, "stopped"
        except (ValueError, OSError) as error:
            named = Path(path).name in str(error)
            answer = (REFUSED, type(error).__name__) if named else (OTHER, f"{type(error).__name__} that names no file")
        except Exception as error:
            answer = OTHER, type(error).__name__
        if time.perf_counter() - start > LIMIT:
            answer = HANG, "stopped"
        pipe.send(answer)


def _record(path: str) -> dict[str, Any]:
    import wfdb

    record = wfdb.rdrecord(path)
    scale = [_MV.get(unit, np.nan) for unit in record.units or []]
    data = np.empty((0, 0)) if record.p_signal is None else (record.p_signal * scale).T
    return {
        "data": data.astype(np.float32),
        "fs": float(record.fs),
        "lead_names": [str(name) for name in record.sig_name or []],
    }


def _annotations(path: str) -> dict[str, Any]:
    import wfdb

    found = wfdb.rdann(path, "atr")
    texts = [note.rstrip("\0") for note in found.aux_note]
    return {
        "sample": found.sample.tolist(),
        "symbol": [str(symbol) for symbol in found.symbol],
        "subtype": found.subtype.tolist(),
        "chan": found.chan.tolist(),
        "num": found.num.tolist(),
        "aux_note": texts,
    }


def expected_of(path: Path) -> dict[str, dict[str, Any]]:
    """Return what wfdb reads of an intact record, by the kind of damage that is to come."""
    whole = _record(str(path))
    return {"headers": whole, "signals": whole, "annotations": _annotations(str(path))}
