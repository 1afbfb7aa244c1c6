"""The memory that a Dask worker keeps between one pass of the network and the next.

Dask starts its workers with ``MALLOC_TRIM_THRESHOLD_=65536``. The C library then gives every tensor back to the system
as it is freed, and asks for it again: a worker spends more time in page faults than in the network.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRIM, _MMAP = -1, -3  # parameters of mallopt: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_KEEP = 64 << 20  # bytes that are kept at the top of the heap
_LARGEST = 32 << 20  # the largest threshold that the C library takes for memory of its own
_DEFAULT = 128 << 10  # what it begins with

_state = {"inside": 0}
_lock = threading.Lock()


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let freed memory be used again for the time of a block, where Dask has forbidden it.

    Yields
    ------
    None
        On leaving, the C library follows the environment again. Elsewhere nothing is changed.
    """
    told = _told("MALLOC_TRIM_THRESHOLD_")
    library = None if told is None or _told("MALLOC_MMAP_THRESHOLD_") is not None else _library()
    if library is None:
        yield
        return
    with _lock:
        _state["inside"] += 1
        if _state["inside"] == 1:
            library.mallopt(_TRIM, _KEEP)
            library.mallopt(_MMAP, _LARGEST)
    try:
        yield
    finally:
        with _lock:
            _state["inside"] -= 1
            if not _state["inside"]:
                library.mallopt(_TRIM, told)
                library.mallopt(_MMAP, _DEFAULT)


def _told(name: str) -> int | None:
    """Return a number of the environment, None where there is none that fits."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) < 2**31 else None


def _library() -> Any:
    """Return the C library where it is glibc, or None."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None
    except (OSError, TypeError):  # Windows knows no library of the process itself
        return None
