"""Rows in parts that fit into memory."""

import numpy as np
import pytest
import torch

from skecg.utils._batching import in_parts, is_out_of_memory, map_batches


def sizes(n, size, fits, error=MemoryError):
    """Return the parts that n rows come in, and all that was tried, where no more than ``fits`` rows fit."""
    tried = []

    def step(rows):
        tried.append(rows.stop - rows.start)
        if tried[-1] > fits:
            raise error("DefaultCPUAllocator: can't allocate memory")
        return list(range(rows.start, rows.stop))

    parts = [out for rows, out in in_parts(n, size, step)]
    assert [row for part in parts for row in part] == list(range(n))
    return [len(part) for part in parts], tried


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, torch.OutOfMemoryError])
def test_parts_are_halved_until_they_fit_and_stay_so(error):
    assert sizes(10, 4, 99, error) == ([4, 4, 2], [4, 4, 2])
    assert sizes(10, 4, 3, error) == ([2] * 5, [4, 2, 2, 2, 2, 2])
    assert sizes(10, 99, 4, error) == ([2] * 5, [10, 5, 2, 2, 2, 2, 2])  # no part is tried twice
    assert sizes(3, 0, 1, error) == ([1] * 3, [1] * 3)
    assert sizes(0, 4, 1, error) == ([], [])


def test_one_row_that_does_not_fit_and_other_errors_are_raised():
    with pytest.raises(MemoryError):
        sizes(4, 4, 0)

    def broken(rows):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        list(in_parts(4, 4, broken))
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(ValueError("can't allocate memory"))


def test_further_arrays_are_cut_as_x_and_nothing_is_written_to():
    X, rows = np.arange(20.0).reshape(10, 2), np.arange(10)
    calls = []

    def function(x, given):
        calls.append(len(x))
        if len(x) > 3:
            raise MemoryError
        out = x.numpy().sum(1) * given
        x.zero_()
        given[:] = 0
        return {"out": out}

    out = map_batches(function, X, 6, "cpu", rows)["out"]
    assert np.array_equal(out, X.sum(1) * rows)
    assert np.array_equal(X, np.arange(20.0).reshape(10, 2)) and np.array_equal(rows, np.arange(10))
    assert calls == [6, 3, 3, 3, 2]  # a lone row comes twice
