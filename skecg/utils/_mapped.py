"""Rows of a memory-mapped array, read so that the file's pages do not pile up in the memory of the process."""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Any

import numpy as np

_LARGE = 1 << 21  # bytes that a system may map around a byte that is asked for: a large page
_MAPPED = 1 << 24  # bytes of the file that are mapped at once
_SHARED = ("r", "r+", "w+")  # modes in which what is written lies in the file, not in this process's pages


def memory_map(array: Any) -> np.memmap | None:
    """Return the memory map that an array is, or is a view of; None for anything else."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap):
            return array
        array = array.base
    return None


class MappedRows:
    """Rows of a memory-mapped array, as copies; pickled as a place in a file.

    A page that is read counts as memory of the process until the system wants it back. Here it is handed back as soon
    as it is copied; it stays in the system's cache, so that it is read from the disk once where memory suffices.

    Parameters
    ----------
    array : ndarray
        A memory map or a view of one.
    """

    chunk = 1

    def __init__(self, array: np.ndarray) -> None:
        self.map, self.array = memory_map(array), np.asarray(array)
        self.shape, self.dtype, self.ndim = self.array.shape, self.array.dtype, self.array.ndim
        strides = [abs(s) for s in self.array.strides]
        self._axes = 1 + np.argsort(-np.array(strides[1:], dtype=np.int64), kind="stable")  # outermost first
        self._row = self.array[:1].nbytes
        # a row that is not in one piece has pages in all of the file
        self._compact = self._row > 0 and max(strides) == strides[0] and sum(strides[1:]) < 2 * self._row

    def __repr__(self) -> str:
        return f"file {self.map.filename}"

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return rows, a slice without step or positions that are there (none negative)."""
        n = len(range(*rows.indices(len(self.array)))) if isinstance(rows, slice) else len(rows)
        first = rows.start or 0 if isinstance(rows, slice) else None
        # in the layout that numpy gives to such rows in memory, on which the last bits of a network depend
        out = np.empty((n, *(self.shape[axis] for axis in self._axes)), self.dtype)
        out = out.transpose(0, *(np.argsort(self._axes) + 1))
        size = max(1, _MAPPED // (self._row + (_LARGE if first is None else 0) + 1))
        for a in range(0, n, size):
            b = min(a + size, n)
            if first is None:
                part = rows[a:b]
                np.take(self.array, part, axis=0, out=out[a:b], mode="clip")  # "raise" would copy twice
            else:
                part = slice(first + a, first + b)
                out[a:b] = self.array[part]
            self._give_back(part)
        return out

    def _give_back(self, rows: slice | np.ndarray) -> None:
        """Take the pages of some rows out of the memory of the process.

        Pages that were changed in a copy-on-write map lie nowhere else: that is left alone.
        """
        if self.map.mode not in _SHARED or not hasattr(mmap, "MADV_DONTNEED"):
            return
        with suppress(OSError):  # it is advice: a system may refuse it, for pages that are locked
            self._advise(self.map.base, rows)

    def _advise(self, mapping: mmap.mmap, rows: slice | np.ndarray) -> None:
        if not self._compact:
            mapping.madvise(mmap.MADV_DONTNEED)
            return
        ends = [rows.start, rows.stop - 1] if isinstance(rows, slice) else rows
        offsets = np.sort(self._offset() + np.asarray(ends) * self.array.strides[0])
        gaps = [] if isinstance(rows, slice) else np.flatnonzero(np.diff(offsets) > 2 * _LARGE) + 1
        for near in np.split(offsets, gaps):  # one call for rows that lie near one another
            low = max(0, int(near[0]) - _LARGE) // mmap.PAGESIZE * mmap.PAGESIZE
            high = min(len(mapping), int(near[-1]) + self._row + _LARGE)
            mapping.madvise(mmap.MADV_DONTNEED, low, high - low)

    def _offset(self) -> int:
        """Return where in the mapping the first row begins, bytes."""
        begin = self.map.__array_interface__["data"][0] - self.map.offset % mmap.ALLOCATIONGRANULARITY
        return int(np.lib.array_utils.byte_bounds(self.array[:1])[0]) - begin

    def __reduce__(self) -> tuple:
        if self.map.filename is None or self.map.mode not in _SHARED:
            raise ValueError(
                "a memory map without a file, or one in copy-on-write mode ('c'), cannot be sent to another process: "
                "open it from its path with mode 'r'"
            )
        low, high = np.lib.array_utils.byte_bounds(self.array)
        first = self.map.offset + low - self.map.__array_interface__["data"][0]
        start = self.array.__array_interface__["data"][0] - low
        # what a .npy file says of its shape and type, so that another file is not taken for this one
        head = self.map.base[: self.map.offset] if self.map.offset < mmap.ALLOCATIONGRANULARITY else b""
        facts = (self.shape, self.array.strides, self.dtype)
        return _opened, (str(self.map.filename), head, int(first), int(high - low), int(start), *facts)


def _opened(
    filename: str,
    head: bytes,
    first: int,
    size: int,
    start: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: Any,
) -> MappedRows:
    """Map the part of a file that a pickled `MappedRows` stands for."""
    wanted = f"windows that are sent to another process must be found there, unchanged, as {filename}"
    try:
        raw = np.memmap(filename, dtype=np.uint8, mode="r", offset=first, shape=(size,))
        with open(filename, "rb") as file:
            found = file.read(len(head))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{wanted}; there is no such file") from error
    except ValueError as error:
        raise ValueError(f"{wanted}; the file is shorter than it was ({error})") from error
    if found != head:
        raise ValueError(f"{wanted}; it holds an array of another shape or type now")
    return MappedRows(np.ndarray(shape, dtype, buffer=raw, offset=start, strides=strides))
