"""Where the records of a block lie, and how a worker reads them: paths and slices, never arrays."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..datasets._records import read_quietly

Read = Callable[[int], tuple[np.ndarray, list[str]]]


@dataclass(frozen=True)
class WfdbPart:
    """WFDB records, by the paths of their files without extension."""

    paths: tuple[str, ...]
    leads: Any

    def open(self) -> Read:
        """Return a function of the record's place that returns (n_leads, n_timesteps) in mV, and what is odd."""

        def read(i: int) -> tuple[np.ndarray, list[str]]:
            try:
                record = read_quietly(self.paths[i], leads=self.leads)
            except FileNotFoundError as error:  # it was there when the cohort was planned
                raise FileNotFoundError(f"{error} (looked for on {socket.gethostname()})") from error
            return record.data, list(record.warnings)

        return read


@dataclass(frozen=True)
class FilePart:
    """Rows of an array in a file, wherever in it they lie."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int  # of the first value, in the file
    rows: tuple[int, ...] | None  # of the leads

    def open(self) -> Read:
        """Return a function of the record's place that returns (n_leads, n_timesteps) in mV, and what is odd."""
        array = map_file(self.path, self.dtype, self.shape, self.strides, self.offset)
        return lambda i: (pick(array[i], self.rows), [])


@dataclass(frozen=True)
class MemoryPart:
    """Records in memory, for workers that share it."""

    arrays: Any  # one a record; paths among them
    rows: tuple[int, ...] | None
    leads: Any = None

    def open(self) -> Read:
        """Return a function of the record's place that returns (n_leads, n_timesteps) in mV, and what is odd."""

        def read(i: int) -> tuple[np.ndarray, list[str]]:
            if isinstance(self.arrays[i], str):
                return WfdbPart((self.arrays[i],), self.leads).open()(0)
            return pick(self.arrays[i], self.rows), []

        return read


@dataclass(frozen=True)
class ZarrPart:
    """Rows of a zarr array: by its path, or by its handle where it lies in no folder."""

    path: str
    array: Any
    first: int
    last: int
    rows: tuple[int, ...] | None

    def open(self) -> Read:
        """Return a function of the record's place that returns (n_leads, n_timesteps) in mV, and what is odd."""
        array = open_zarr(self.path) if self.array is None else self.array
        try:
            whole = np.asarray(array[self.first : self.last])  # at once: a chunk holds several records
        except Exception:  # a damaged chunk costs its own records alone
            return lambda i: (pick(np.asarray(array[self.first + i]), self.rows), [])
        return lambda i: (pick(whole[i], self.rows), [])


@dataclass(frozen=True)
class DaskPart:
    """Rows of a dask array: the slice's own graph, computed in the worker that wants it."""

    array: Any
    rows: tuple[int, ...] | None

    def open(self) -> Read:
        """Return a function of the record's place that returns (n_leads, n_timesteps) in mV, and what is odd."""
        try:
            whole = np.asarray(self.array.compute(scheduler="synchronous"))
        except Exception:
            return lambda i: (pick(np.asarray(self.array[i].compute(scheduler="synchronous")), self.rows), [])
        return lambda i: (pick(whole[i], self.rows), [])


@dataclass(frozen=True)
class SpoolPart:
    """Records of any lengths, put down in one file one after the other; or paths among them."""

    path: str
    shapes: tuple[tuple[int, ...] | None, ...]  # None: no array
    wfdb: tuple[str | None, ...]
    leads: Any

    def open(self) -> Read:
        """Return a function of the record's place that returns (n_leads, n_timesteps) in mV, and what is odd."""
        sizes = [0 if shape is None else int(np.prod(shape)) for shape in self.shapes]
        ends = np.cumsum([0, *sizes]).tolist()
        flat = load_npy(self.path) if any(sizes) else None

        def read(i: int) -> tuple[np.ndarray, list[str]]:
            if self.shapes[i] is None:
                return WfdbPart((self.wfdb[i],), self.leads).open()(0)
            return np.array(flat[ends[i] : ends[i + 1]]).reshape(self.shapes[i]), []

        return read


Part = WfdbPart | FilePart | MemoryPart | ZarrPart | DaskPart | SpoolPart


@dataclass(frozen=True)
class Block:
    """Consecutive records that are explained together: what a task is."""

    number: int
    first: int  # row of its first window in the results
    names: tuple[str | int, ...]  # of the records
    n_windows: tuple[int, ...]  # of each
    part: Part
    labels: Any = None  # one a record, or indicators
    columns: tuple | None = None  # names of the indicators
    groups: tuple | None = None
    content: str = ""  # digest of what the digest of the whole work does not tell

    @property
    def size(self) -> int:
        """Number of windows."""
        return sum(self.n_windows)


class BadRecordError(ValueError):
    """One record cannot be explained; the others can."""


def pick(record: np.ndarray, rows: tuple[int, ...] | None) -> np.ndarray:
    """Return leads of one record as float32 of (n_leads, n_timesteps), an array of its own."""
    cube = record[None] if record.ndim == 1 else record
    return np.array(cube if rows is None else cube[list(rows)], dtype=np.float32)


def map_file(path: str, dtype: str, shape: tuple, strides: tuple, offset: int) -> np.ndarray:
    """Map an array that lies anywhere in a file, for reading."""
    here = Path(path)
    if not here.is_file():
        raise RuntimeError(_unseen(path))
    size = os.path.getsize(path)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True) if stride > 0)
    if last + np.dtype(dtype).itemsize > size:
        raise ValueError(f"{path} has {size} bytes, fewer than the array that is said to be in it")
    whole = np.memmap(path, dtype=np.uint8, mode="r")
    return np.ndarray(shape, dtype=np.dtype(dtype), buffer=whole, offset=offset, strides=strides)


def write_npy(file: IO[bytes], array: Any, step: int | None = None) -> None:
    """Write an array as .npy, piece by piece; what the disk says against it keeps its error number, unlike numpy's."""
    dtype = np.lib.format.dtype_to_descr(np.dtype(array.dtype))
    header = {"descr": dtype, "fortran_order": False, "shape": tuple(int(n) for n in array.shape)}
    np.lib.format.write_array_header_1_0(file, header)
    step = max(1, len(array)) if step is None else step
    for a in range(0, len(array), step):
        file.write(memoryview(np.ascontiguousarray(array[a : a + step])).cast("B"))


def load_npy(path: str) -> np.ndarray:
    """Map a .npy file, for reading; RuntimeError where this worker does not see it."""
    if not Path(path).is_file():
        raise RuntimeError(_unseen(path))
    return np.load(path, mmap_mode="r", allow_pickle=False)


def open_zarr(path: str) -> Any:
    """Open a zarr array for reading; ValueError where there is none."""
    from ..explain._store import import_zarr

    zarr = import_zarr()
    if not Path(path).exists():
        raise RuntimeError(_unseen(path))
    found = zarr.open(path, mode="r")
    if not isinstance(found, zarr.Array):
        names = ", ".join(sorted(name for name, _ in found.arrays())) or "none"
        raise ValueError(f"{path} is a zarr group, and records must be an array: pass one of its arrays ({names})")
    return found


def _unseen(path: str) -> str:
    return (
        f"{path} is not there on {socket.gethostname()}: every worker must see the files of the records, and the "
        "folder where arrays from memory are put down (that of out where it is given, else the temporary one), under "
        "the same path"
    )
