"""Windows that stay on disk: a memory-mapped or zarr array of which batches are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ._mapped import MappedRows, memory_map

_NUMBERS = "fiub"  # kinds of dtype that are ECG once they are float32
_BLOCK = 1 << 23  # bytes read at once where all windows are wanted one after the other
_SLOW = 1 << 20  # bytes of a chunk of several windows beyond which a window in random order costs too much


class StoredWindows:
    """ECG windows that stay on disk until they are read, for searches and cross-validation.

    :class:`~skecg.classifiers.ECGClassifier` reads memory-mapped and zarr arrays batch by batch as they are. What cuts
    X into folds does not: ``GridSearchCV`` and ``cross_validate`` copy the rows of every fold of a memory map into
    memory, fail on a zarr array, and may send whole arrays to their workers. Rows of ``StoredWindows`` are
    ``StoredWindows`` again: a place on disk and the numbers of the rows, which is also all that is pickled.

    Parameters
    ----------
    source : path, memory-mapped ndarray or zarr.Array
        Numbers of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), mV: a ``.npy`` file, the folder
        or ``.zip`` of a zarr array (extra ``zarr``), ``numpy.load(path, mmap_mode="r")`` or a view of it, or an open
        zarr array. Workers on other machines must find it under the same path.

    Attributes
    ----------
    shape : tuple of int
        As of an array.
    ndim : int
        2 or 3.
    dtype : numpy.dtype
        Of the values on disk; networks get float32.

    Raises
    ------
    ValueError
        For an array that lies in memory, of another number of dimensions, or not of numbers.
    FileNotFoundError
        For a path that is not there.
    ImportError
        For a zarr array where zarr is not installed.

    See Also
    --------
    skecg.datasets.iter_windows : Windows of recordings that are longer than memory, block by block.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skecg.datasets import StoredWindows, make_ecg
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/windows.npy", make_ecg(20, random_state=0).data)
    ...     X = StoredWindows(f"{folder}/windows.npy")
    ...     print(X.shape, X[[3, 1, 2]].shape, X[3].shape)
    (20, 1, 720) (3, 1, 720) (1, 720)
    """

    def __init__(self, source: Any) -> None:
        if isinstance(source, str | os.PathLike):
            source = _open(Path(source))
        if memory_map(source) is None and not _is_zarr(source):
            kind = f"{type(source).__name__}, which lies in memory" if hasattr(source, "shape") else repr(source)
            raise ValueError(
                "StoredWindows takes the path of a .npy file or of a zarr array, numpy.load(path, mmap_mode='r') or an "
                f"open zarr array; got {kind}"
            )
        if source.ndim not in (2, 3) or source.dtype.kind not in _NUMBERS:
            raise ValueError(
                "stored windows must be numbers of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps);"
                f" got {source.dtype} of shape {source.shape}"
            )
        self._source = _ZarrRows(source) if _is_zarr(source) else MappedRows(source)
        self._rows: np.ndarray | None = None  # all

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return (len(self), *self._source.shape[1:])

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self._source.ndim

    @property
    def dtype(self) -> np.dtype:
        """Of the values on disk."""
        return self._source.dtype

    def __len__(self) -> int:
        return self._source.shape[0] if self._rows is None else len(self._rows)

    def __getitem__(self, key: Any) -> StoredWindows | np.ndarray:
        if isinstance(key, tuple):
            if len(key) != 2 or key[1] is not Ellipsis:
                raise ValueError(f"windows alone can be chosen, X[rows]; numpy.asarray(X[rows]) can be cut: got {key}")
            key = key[0]
        rows = (np.arange(len(self)) if self._rows is None else self._rows)[key]
        if rows.ndim == 0:
            return self._source[np.array([rows])][0]
        if rows.ndim > 1:
            raise ValueError(f"windows are chosen by numbers in one dimension; got an array of shape {rows.shape}")
        chosen = object.__new__(type(self))
        chosen._source, chosen._rows = self._source, rows
        return chosen

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("windows on disk cannot be an array without being copied into memory")
        return np.asarray(self._read(slice(0, len(self))), dtype=dtype)

    def __repr__(self) -> str:
        return f"<StoredWindows {self.shape} of {self.dtype}, {self._source}>"

    def _read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return rows, a slice without step or positions, as they are on disk."""
        return self._source[rows if self._rows is None else self._rows[rows]]


class WindowCube:
    """Stored windows as a network takes them: float32 (n_samples, n_leads, n_timesteps), checked when they are read.

    Parameters
    ----------
    stored : StoredWindows
        Where they are.
    ensure_all_finite : bool, default=True
        Whether NaN and infinities are refused.
    """

    dtype = np.dtype(np.float32)
    ndim = 3

    def __init__(self, stored: StoredWindows, ensure_all_finite: bool = True) -> None:
        self.stored, self.ensure_all_finite = stored, ensure_all_finite
        shape = stored.shape
        self.shape = shape if len(shape) == 3 else (shape[0], 1, shape[1])
        self._ahead: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return rows, a slice without step or positions, as float32; ValueError where they are not finite."""
        found = self._next(rows) if isinstance(rows, slice) else self.stored._read(rows)
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite, and is refused
            cube = found.astype(self.dtype, copy=False).reshape(len(found), *self.shape[1:])
        if self.ensure_all_finite and not np.isfinite(cube).all():
            bad = int(np.flatnonzero(~np.isfinite(cube).all((1, 2)))[0])
            what = "NaN" if np.isnan(cube[bad]).any() else "infinity or a value too large for dtype('float32')"
            row = (rows.start or 0) + bad if isinstance(rows, slice) else int(rows[bad])
            raise ValueError(f"Input X contains {what}: window {row} of {len(self)} (the first is 0)")
        return cube

    def blocks(self) -> Iterator[slice]:
        """Yield slices of all rows, of a few MiB each, and of whole chunks where those are not larger."""
        size, chunk = max(1, _BLOCK // max(1, 4 * self.shape[1] * self.shape[2])), self.stored._source.chunk
        size = max(chunk, size - size % chunk)
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def check(self) -> None:
        """Read all windows once; ValueError that names the first that is not finite."""
        for rows in self.blocks():
            self[rows]

    def in_memory(self) -> np.ndarray:
        """Return all windows as one array: a view of a memory map of float32, which stays on disk, else a copy."""
        stored = self.stored
        if isinstance(stored._source, MappedRows) and stored._rows is None and stored.dtype == self.dtype:
            if self.ensure_all_finite:
                self.check()
            array = stored._source.array
            return array if array.ndim == 3 else array[:, None, :]
        cube = np.empty(self.shape, dtype=self.dtype)
        for rows in self.blocks():
            cube[rows] = self[rows]
        return cube

    def slow_chunks(self) -> str | None:
        """Tell of chunks that make windows in random order slow to read, None where they do not."""
        chunk, shape = self.stored._source.chunk, self.stored.shape[1:]
        size = chunk * self.stored.dtype.itemsize * self.shape[1] * self.shape[2]
        if chunk == 1 or size <= _SLOW:
            return None
        return (
            f"X is a zarr array with {chunk} windows ({size / 2**20:.1f} MiB) in a chunk; training reads windows in "
            "random order: each costs a whole chunk. Write it with chunks of one or a few windows, "
            f"chunks=(1, {', '.join(map(str, shape))}) and shards= against many small files, or as a .npy file"
        )

    def _next(self, rows: slice) -> np.ndarray:
        """Read a slice; of a zarr array up to the chunk's end, since the next slice will want the rest of it."""
        chunk, stored = self.stored._source.chunk, self.stored
        start, stop, _ = rows.indices(len(self))
        if chunk == 1 or stored._rows is not None:
            return stored._read(slice(start, stop))
        if self._ahead is not None:
            first, held = self._ahead
            if first <= start and stop <= first + len(held):
                return held[start - first : stop - first]
        found = stored._read(slice(start, min(-(-stop // chunk) * chunk, len(self))))
        self._ahead = (start, found)
        return found[: stop - start]


class _ZarrRows:
    """Rows of a zarr array, each chunk read once a call; pickled as zarr does, by its store."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.chunk = max(1, min(array.chunks[0], array.shape[0]))

    def __repr__(self) -> str:
        return f"zarr array {self.array.store_path}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.look()  # the store may lead nowhere on this machine

    def look(self) -> None:
        """Raise an error where the array is gone: zarr reads that as chunks never written, so as zeros, in silence."""
        import zarr

        try:
            found = zarr.open_array(self.array.store_path, mode="r")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self} is not there, or not to be reached from this process") from error
        types = [dtype.newbyteorder("=") for dtype in (found.dtype, self.dtype)]  # zarr may open it in another order
        if types[0] != types[1] or found.shape[1:] != self.shape[1:] or found.shape[0] < self.shape[0]:
            raise ValueError(
                f"{self} has changed: it was {self.dtype} of shape {self.shape}, and is {found.dtype} of shape "
                f"{found.shape}; open it again"
            )

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice) or not len(rows):
            return self.array[rows if isinstance(rows, slice) else slice(0, 0)]
        wanted, back = np.unique(rows, return_inverse=True)
        first, last = int(wanted[0]), int(wanted[-1])
        if last - first == len(wanted) - 1:
            return self.array[first : last + 1][back]
        return self.array.get_orthogonal_selection((wanted,))[back]


def as_stored(X: Any) -> StoredWindows | None:
    """Return X as stored windows where it lies on disk, None where it is anything else.

    Parameters
    ----------
    X : object
        What the user gave.

    Returns
    -------
    stored : StoredWindows or None
        None also for a memory map that is not numbers in two or three dimensions, for numpy's own checks to refuse.

    Raises
    ------
    FileNotFoundError
        For a zarr array that was removed since it was opened.
    ValueError
        For one that was replaced by another, or is not ECG.
    """
    if not isinstance(X, StoredWindows):
        mapped = memory_map(X) is not None and X.dtype.kind in _NUMBERS and X.ndim in (2, 3)
        if not (mapped or _is_zarr(X)):
            return None
        X = StoredWindows(X)
    if isinstance(X._source, _ZarrRows):
        X._source.look()
    return X


def _is_zarr(X: Any) -> bool:
    """Tell a zarr array, without importing zarr."""
    ours = type(X).__module__.partition(".")[0] == "zarr"
    return ours and hasattr(X, "get_orthogonal_selection") and hasattr(X, "__getitem__")  # which AsyncArray has not


def _open(path: Path) -> Any:
    """Open a .npy file or a zarr array for reading."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: pass the path of a .npy file or of a zarr array")
    kind = "a .npy file of numbers"
    try:
        if path.is_file() and path.suffix != ".zip":
            return np.lib.format.open_memmap(path, mode="r")
        kind = "a zarr array"
        import zarr

        return zarr.open_array(zarr.storage.ZipStore(path, mode="r") if path.suffix == ".zip" else path, mode="r")
    except ImportError as error:
        raise ImportError(f"reading {path} needs zarr: pip install skecg[zarr]") from error
    except Exception as error:
        raise ValueError(f"{path} is not {kind} ({error})") from error
