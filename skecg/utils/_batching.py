"""Arrays through a network in mini-batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def map_batches(
    function: Callable[..., Any],
    X: np.ndarray,
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
    X : ndarray of shape (n_samples, ...)
        Left as it is.
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
    result: dict[str, np.ndarray] = {}
    start, n, size = 0, len(X), max(1, int(batch_size))
    with _bar(n, progress) as bar:
        while start < n:
            rows = np.arange(start, min(start + size, n))
            run = rows if len(rows) > 1 else np.repeat(rows, 2)
            try:
                out = function(torch.from_numpy(np.array(X[run])).to(device), *(e[run] for e in extra))
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error) or size == 1:
                    raise
                out = None
            if out is None:  # here the traceback, which holds the failed batch's tensors, is gone
                size = max(1, len(rows) // 2)
                if torch.device(device).type == "cuda":
                    torch.cuda.empty_cache()
                continue
            out = out if isinstance(out, dict) else {"": out}
            for key, value in out.items():
                if key not in result:
                    result[key] = np.empty((n, *value.shape[1:]), dtype=value.dtype)
                result[key][rows] = value[: len(rows)]
            start += len(rows)
            bar.update(len(rows))
    return result[""] if "" in result else result


def _is_out_of_memory(error: BaseException) -> bool:
    """Tell torch's and numpy's complaints about memory from other errors; torch's on a CPU is a RuntimeError."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def _bar(total: int, name: str | None) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=name, unit="window", disable=name is None)
