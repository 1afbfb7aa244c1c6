"""Records, whatever they are given as, turned into blocks of consecutive records."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets._records import open_record
from ..utils._digest import array_digest
from ._check import Needs, Notes, refuse_twice
from ._records import (
    BadRecordError,
    Block,
    DaskPart,
    FilePart,
    MemoryPart,
    Part,
    WfdbPart,
    ZarrPart,
    map_file,
    open_zarr,
    write_npy,
)

KINDS = (
    "paths of WFDB records, a folder of them, an array (n_records, n_leads, n_timesteps) in memory, of a .npy file, of "
    "zarr or of dask, or an iterable of paths, arrays or mappings"
)
_PIECE = 1 << 24  # bytes of an array that are written at once


class Source:
    """Records whose number and lengths are known before the work begins.

    Attributes
    ----------
    names : list of str or int
        Of the records that can be tried.
    n_windows : ndarray of int64
        Of each.
    skipped : list of (name, reason)
        Records that cannot.
    identity : object
        What tells these records from others, for JSON.
    """

    known = True

    def __init__(self) -> None:
        self.names: list = []
        self.kept: list[int] = []  # positions among the records given
        self.skipped: list[tuple[Any, str]] = []
        self.n_windows = np.zeros(0, dtype=np.int64)
        self.identity: Any = None

    def part(self, positions: list[int]) -> Part:
        """Return where records lie."""
        raise NotImplementedError  # abstract: every source defines it

    def put_down(self, folder: Path) -> None:
        """Write what is in memory alone to a folder that workers see; nothing where all of it lies in files."""

    def blocks(self, batch: int, notes: Notes) -> Iterator[Block]:
        """Yield blocks of whole records with at least so many windows, the last one perhaps fewer."""
        for number, (a, b, first) in enumerate(self.cuts(batch)):
            at = self.kept[a:b]
            yield Block(
                number=number,
                first=first,
                names=tuple(self.names[a:b]),
                n_windows=tuple(self.n_windows[a:b].tolist()),
                part=self.part(at),
                labels=None if notes.labels is None else notes.labels[at],
                columns=notes.columns,
                groups=None if notes.groups is None else tuple(notes.groups[i] for i in at),
            )

    def cuts(self, batch: int) -> Iterator[tuple[int, int, int]]:
        """Yield (first record, the one after the last, first window) of each block."""
        a = first = size = 0
        for b, n in enumerate(self.n_windows.tolist(), 1):
            size += n
            if size >= batch:
                yield a, b, first
                a, first, size = b, first + size, 0
        if size:
            yield a, len(self.n_windows), first


class WfdbSource(Source):
    """WFDB records: all headers are read once, and the sizes of their files compared with them."""

    def __init__(self, paths: list[str], names: list, notes: Notes, needs: Needs, strict: bool) -> None:
        super().__init__()
        notes.check(len(paths))
        names = names if notes.names is None else notes.names
        refuse_twice(names)
        self.paths, self.leads = paths, needs.leads
        digest, counts = hashlib.sha256(), []
        for i, (path, name) in enumerate(zip(paths, names, strict=True)):
            try:
                header, chosen, length, _ = open_record(path, needs.leads)
                found = [header.lead_names[k] for k in chosen]
                counts.append(needs.count(header.fs, found, len(chosen), int(length)))
            except (ValueError, OSError) as error:
                refuse(name, error, strict)
                self.skipped.append((name, str(error)))
                continue
            self.kept.append(i)
            self.names.append(name)
            files = [header.path, *(header.path.parent / file for file in sorted(header.files()))]
            stats = [(file.name, s.st_size, s.st_mtime_ns) for file, s in ((f, os.stat(f)) for f in files)]
            digest.update(repr((name, header.fs, found, length, stats)).encode())
        self.n_windows = np.array(counts, dtype=np.int64)
        self.identity = {"kind": "records", "n_records": len(paths), "sha256_of_sizes_and_times": digest.hexdigest()}

    def part(self, positions: list[int]) -> Part:
        """Return the paths."""
        return WfdbPart(tuple(self.paths[i] for i in positions), self.leads)


class ArraySource(Source):
    """The rows of one array: in a file, in memory, of zarr or of dask."""

    def __init__(self, array: Any, identity: dict[str, Any], notes: Notes, needs: Needs, place: dict[str, Any]) -> None:
        super().__init__()
        shape = tuple(int(n) for n in array.shape)
        if len(shape) not in (2, 3) or np.dtype(array.dtype).kind not in "fiu":
            raise ValueError(
                "records must be numbers of shape (n_records, n_timesteps) or (n_records, n_leads, n_timesteps); got "
                f"{array.dtype} of shape {shape}"
            )
        notes.check(shape[0])
        self.array, self.place, n_leads = array, place, shape[1] if len(shape) == 3 else 1
        try:
            self.rows = needs.rows(n_leads)
            count = needs.count(None, None, n_leads if self.rows is None else len(self.rows), shape[-1])
        except BadRecordError as error:
            raise ValueError(f"no record of this array, of shape {shape}, can be explained: {error}") from error
        needs.n_rest *= shape[0]
        self.names = list(range(shape[0])) if notes.names is None else notes.names
        self.kept = list(range(shape[0]))
        self.n_windows = np.full(shape[0], count, dtype=np.int64)
        self.identity = {"shape": list(shape), "dtype": str(array.dtype), **identity}

    def part(self, positions: list[int]) -> Part:
        """Return slices of the array."""
        a, b = positions[0], positions[-1] + 1
        if "path" in self.place and "strides" in self.place:
            place = dict(self.place)
            place["offset"] += a * place["strides"][0]
            return FilePart(**place, shape=(b - a, *self.array.shape[1:]), rows=self.rows)
        if "zarr" in self.place:
            return ZarrPart(self.place["zarr"], self.place["handle"], a, b, self.rows)
        if "dask" in self.place:
            import dask

            return DaskPart(dask.optimize(self.array[a:b])[0], self.rows)
        return MemoryPart(self.array[a:b], self.rows)

    def put_down(self, folder: Path) -> None:
        """Write what is in memory alone to a folder that workers see; nothing where all of it lies in files."""
        if "path" in self.place or "dask" in self.place or not self.place.get("memory", True):
            return
        path, step = folder / "records.npy", max(1, _PIECE // max(1, self.array[:1].nbytes))
        with open(path, "wb") as file:
            write_npy(file, self.array, step)
        self.array = np.load(path, mmap_mode="r", allow_pickle=False)
        self.place = locate(self.array)


def make_source(records: Any, notes: Notes, needs: Needs, *, strict: bool) -> Source | Iterable:
    """Return a Source, or an iterable of records that have to be taken one by one.

    Parameters
    ----------
    records : object
        What the user gave.
    notes : Notes
        Labels, patients and names beside them.
    needs : Needs
        What every record must have.
    strict : bool
        Whether a bad record is an error.
    """
    if isinstance(records, Mapping):
        raise TypeError(
            "records is a mapping: pass what is in it, such as records=ecg.data, y=ecg.target, groups=ecg.groups"
        )
    if isinstance(records, str | os.PathLike):
        return _from_path(Path(records).expanduser(), notes, needs, strict)
    if isinstance(records, np.ndarray) and records.dtype.kind not in "OUST":
        return _from_array(records, notes, needs)
    if hasattr(records, "__dask_graph__") and hasattr(records, "shape"):
        identity = {"kind": "dask", "name": str(records.name), "chunks": repr(records.chunks)}
        return ArraySource(records, identity, notes, needs, {"dask": True})
    if type(records).__module__.partition(".")[0] == "zarr" and hasattr(records, "shape"):
        return _from_zarr(records, notes, needs)
    if not isinstance(records, Iterable):
        raise TypeError(f"records must be {KINDS}; got a {type(records).__name__}")
    if isinstance(records, list | tuple) or (hasattr(records, "tolist") and getattr(records, "ndim", 0) == 1):
        listed = list(records)
        notes.check(len(listed))
        if listed and all(isinstance(path, str | os.PathLike) for path in listed):
            paths = [os.fspath(path) for path in listed]
            return WfdbSource(paths, [name_of(p) for p in paths], notes, needs, strict)
        return listed
    return records


def name_of(path: str | os.PathLike) -> str:
    """Return the name of a record that was given by its path."""
    return Path(os.fspath(path).removesuffix(".hea")).as_posix()


def refuse(name: Any, error: Exception, strict: bool) -> None:
    """Raise ValueError for a bad record where the user wants that."""
    if strict:
        raise ValueError(f"record {name}: {error}") from error


def _from_path(path: Path, notes: Notes, needs: Needs, strict: bool) -> Source:
    if path.suffix == ".npy":
        return _from_array(np.load(path, mmap_mode="r", allow_pickle=False), notes, needs)
    if any(part.endswith(".zarr") for part in path.parts) and path.exists():
        return _from_zarr(open_zarr(str(path)), notes, needs)
    if not path.is_dir():
        hint = f": pass [{str(path)!r}]" if path.with_name(path.name + ".hea").exists() else ""
        raise ValueError(f"records is the path {path}, which is no folder, .npy file or zarr array{hint}")
    found = sorted(p for p in path.rglob("*.hea") if not _is_companion(p))
    names = [p.relative_to(path).with_suffix("").as_posix() for p in found]
    return WfdbSource([str(p) for p in found], names, notes, needs, strict)


def _is_companion(path: Path) -> bool:
    """Tell headers that stand for no signal of their own: of several segments (each has a header), or empty ones."""
    try:
        with open(path, encoding="latin-1") as file:
            line = next((text for text in file if text.strip() and not text.startswith("#")), "")
    except OSError:
        return False
    words = line.split()
    if not words or "/" in words[0]:
        return bool(words)
    return words[1:2] == ["0"] or words[3:4] == ["0"]


def _from_array(array: np.ndarray, notes: Notes, needs: Needs) -> Source:
    place = locate(array)
    if place is not None:
        stat = os.stat(place["path"])
        identity = {
            "kind": "file", "file": Path(place["path"]).name, "size": stat.st_size, "time": stat.st_mtime_ns,
            "offset": place["offset"], "strides": list(place["strides"]),
        }  # fmt: skip
        return ArraySource(array, identity, notes, needs, place)
    source = ArraySource(array, {"kind": "array"}, notes, needs, {})
    source.identity["sha256"] = array_digest(array)
    return source


def _from_zarr(array: Any, notes: Notes, needs: Needs) -> Source:
    store = getattr(array, "store", None)
    root, digest = getattr(store, "root", None), hashlib.sha256()
    if isinstance(root, Path) and type(store).__name__ == "LocalStore":
        path = Path(root, array.path)
        source = ArraySource(
            array, {"kind": "zarr"}, notes, needs, {"zarr": str(path.absolute()), "handle": None, "memory": False}
        )
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            stat = file.stat()
            digest.update(repr((file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns)).encode())
        source.identity["sha256_of_sizes_and_times"] = digest.hexdigest()
        return source
    memory = type(store).__name__ == "MemoryStore"  # whose handle carries the data
    source = ArraySource(array, {"kind": "zarr"}, notes, needs, {"zarr": str(store), "handle": array, "memory": memory})
    step = max(1, int(array.chunks[0]))
    for a in range(0, array.shape[0], step):
        digest.update(np.ascontiguousarray(array[a : a + step]).data)
    source.identity["sha256"] = digest.hexdigest()
    return source


def locate(array: np.ndarray) -> dict[str, Any] | None:
    """Return where in which file an array lies; None for one in memory.

    A view keeps the ``offset`` of the map that it was taken from, so the place is worked out from addresses, and what
    is read there is compared.
    """
    mapped = base = array
    while isinstance(base, np.ndarray):
        mapped = base if isinstance(base, np.memmap) else mapped
        base = base.base
    if not isinstance(mapped, np.memmap) or not isinstance(base, mmap.mmap) or not array.size:
        return None
    if mapped.mode == "c" or mapped.filename is None:  # private changes are in memory alone
        return None
    if mapped.mode != "r":
        mapped.flush()
    start = mapped.offset - mapped.offset % mmap.ALLOCATIONGRANULARITY
    begin = np.frombuffer(base, dtype=np.uint8).__array_interface__["data"][0]
    place = {
        "path": str(Path(mapped.filename).absolute()),
        "dtype": array.dtype.str,
        "strides": tuple(array.strides),
        "offset": start + array.__array_interface__["data"][0] - begin,
    }
    try:
        again = map_file(place["path"], place["dtype"], array.shape, place["strides"], place["offset"])
        same = all(np.array_equal(again[i], array[i], equal_nan=array.dtype.kind == "f") for i in (0, -1))
    except (OSError, ValueError, RuntimeError):
        return None  # the file was removed or replaced since
    return place if same else None
