"""Arrays through a network in mini-batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch

from ._stored import WindowCube

T = TypeVar("T")


def map_batches(
    function: Callable[..., Any],
    X: np.ndarray | WindowCube,
    batch_size: int,
    device: str | torch.device,
    *extra: np.ndarray,
    progress: str | None = None,
) -> Any:
    """Apply ``function(tensor, *rows of extra)`` to mini-batches and put the results together.

    A batch of one row takes another BLAS path (matrix-vector) than a batch of several, and its float32 result
    differs in the last bit; so a lone row is run twice, and results do not depend on how rows were cut into batches
    beyond what the kernels do with the shape of a batch (1e-5 relative).

    Parameters
    ----------
    function : callable
        Gets a tensor on ``device`` and the same rows of each extra array; returns an array of one row a window, or a
        dict of such arrays.
    X : ndarray of shape (n_samples, ...), or WindowCube
        Left as it is; windows on disk are read batch by batch.
    batch_size : int
        Rows in a batch; halved, down to one row, when memory does not suffice.
    device : str or torch.device
        Where ``function`` wants its tensor.
    *extra : ndarray of shape (n_samples, ...)
        Further arrays, cut alike.
    progress : str, default=None
        Show a tqdm bar of this name.

    Returns
    -------
    result : ndarray or dict of ndarray
        One row a window.
    """
    n = len(X)

    def run(rows: slice) -> dict[str, np.ndarray]:
        twice = 2 if rows.stop - rows.start == 1 else 1
        cut = [np.repeat(array[rows], twice, axis=0) for array in (X, *extra)]  # copies, also where twice is 1
        out = function(torch.from_numpy(cut[0]).to(device), *cut[1:])
        return out if isinstance(out, dict) else {"": out}

    result: dict[str, np.ndarray] = {}
    with _bar(n, progress) as bar:
        for rows, out in in_parts(n, batch_size, run):
            for key, value in out.items():
                if key not in result:
                    result[key] = np.empty((n, *value.shape[1:]), dtype=value.dtype)
                result[key][rows] = value[: rows.stop - rows.start]
            bar.update(rows.stop - rows.start)
    return result[""] if "" in result else result


def in_parts(n: int, size: int, step: Callable[[slice], T]) -> Iterator[tuple[slice, T]]:
    """Yield what ``step`` makes of n rows, part by part, in parts that fit into memory.

    Parameters
    ----------
    n : int
        Number of rows.
    size : int
        Rows in a part; halved, down to one row, when memory does not suffice.
    step : callable
        Gets a slice of rows; is called again with fewer rows where it ran out of memory, so it must leave nothing
        behind then.

    Yields
    ------
    rows : slice
        Of the part.
    out : object
        What ``step`` returned for it.
    """
    start, size = 0, max(1, int(size))
    while start < n:
        rows, done = slice(start, min(start + size, n)), True
        try:
            out = step(rows)
        except (RuntimeError, MemoryError) as error:
            if rows.stop - start == 1 or not is_out_of_memory(error):
                raise
            done = False
        if not done:  # here the traceback, which holds the failed part's tensors, is gone
            size = (rows.stop - start) // 2
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
            continue
        yield rows, out
        del out  # the next part needs the memory
        start = rows.stop


def is_out_of_memory(error: BaseException) -> bool:
    """Tell torch's and numpy's complaints about memory from other errors; torch's on a CPU is a RuntimeError.

    Parameters
    ----------
    error : BaseException
        What was raised.

    Returns
    -------
    bool
        Whether fewer rows may help.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def _bar(total: int, name: str | None) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=name, unit="window", disable=name is None)
