"""The work of a cohort, brought to each worker once, and the one thread in which it is done there."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

_KEPT = 2  # works that a worker keeps, the last ones used: a network may be large
_cache: OrderedDict[str, Any] = OrderedDict()
_cache_lock = threading.Lock()

_threads: dict[str, Any] = {"inside": 0, "torch": 0, "limits": None}
_threads_lock = threading.Lock()


class Shipment:
    """What every task carries: the work itself, or what a worker needs to get it.

    Parameters
    ----------
    work : object, default=None
        The work, for workers that share this process's memory.
    digest : str, default=""
        SHA-256 of the pickled work, under which a worker keeps it.
    path : str, default=None
        The file of the pickle, for worker processes on this machine.
    payload : bytes, default=None
        The pickle itself, for workers elsewhere.
    """

    def __init__(
        self, work: Any = None, *, digest: str = "", path: str | None = None, payload: bytes | None = None
    ) -> None:
        self.work, self.digest, self.path, self.payload = work, digest, path, payload

    @classmethod
    def pack(cls, work: Any, folder: Path | None) -> Shipment:
        """Pickle the work: into a file of a folder that only this user may read, or to be sent as it is."""
        payload = _cloudpickle().dumps(work)
        digest = hashlib.sha256(payload).hexdigest()
        if folder is None:
            return cls(digest=digest, payload=payload)
        path = folder / "work.pickle"
        path.write_bytes(payload)
        return cls(digest=digest, path=str(path))

    def unpack(self) -> Any:
        """Return the work; a worker process unpickles it once."""
        if self.work is not None:
            return self.work
        with _cache_lock:
            if self.digest not in _cache:
                payload = Path(self.path).read_bytes() if self.payload is None else self.payload
                if hashlib.sha256(payload).hexdigest() != self.digest:
                    raise RuntimeError(f"{self.path} is not the work that was written there: it was changed")
                _cache[self.digest] = _cloudpickle().loads(payload)
                while len(_cache) > _KEPT:
                    _cache.popitem(last=False)
            _cache.move_to_end(self.digest)
            return _cache[self.digest]


@lru_cache(maxsize=1)
def _controller() -> Any:
    """Return what sets the threads of BLAS; to find its libraries takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _cloudpickle() -> Any:
    """Return the pickle that also takes networks that are defined in a notebook: joblib's own, or the one it needs."""
    try:
        import cloudpickle
    except ImportError:
        from joblib.externals import cloudpickle
    return cloudpickle


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, so that sums do not depend on how many cores a worker has.

    torch keeps a number of threads for the process and one for each thread of Python: every thread that enters sets
    its own, and gives back what the first one found.

    Yields
    ------
    None
        The numbers of threads are restored on leaving.
    """
    with _threads_lock:
        if not _threads["inside"]:
            _threads["torch"] = torch.get_num_threads()
            _threads["limits"] = _controller().limit(limits=1, user_api="blas")
        _threads["inside"] += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _threads_lock:
            torch.set_num_threads(_threads["torch"])
            _threads["inside"] -= 1
            if not _threads["inside"]:
                _threads["limits"].restore_original_limits()
                _threads["limits"] = None
