"""Windows of records one batch after another, for records that are larger than the memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.utils import Bunch

from ..utils._validation import check_number, check_option
from ._headers import Header
from ._records import allocate, check_annotator, find_annotations, open_record
from ._samples import Samples

_PIECE = 1 << 20  # samples that wfdb decodes at a time


def iter_windows(
    path: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    window: float,
    stride: float | None = None,
    leads: int | str | Sequence[int | str] | None = None,
    annotator: str | None = None,
    on_error: str = "raise",
    batch_size: int = 256,
    tail: str = "drop",
) -> Iterator[Bunch]:
    """Go through records window by window, a batch at a time, with a few windows in memory.

    The records are read by :func:`read_record`'s rules and with its checks, a piece at a time from their start to
    their end, so that their length does not matter: the windows are those that would be cut from the whole record, to
    the bit. Windows begin at 0, ``stride``, twice ``stride`` and so on.

    Parameters
    ----------
    path : str, path-like or iterable of them
        A record as in :func:`read_record`, or several, which are read one after another; no batch holds windows of
        two records.
    window : float
        Length of a window, s.
    stride : float, default=None
        From the start of a window to that of the next, s; None means ``window``, so that they touch. A smaller one
        makes them overlap, a larger one leaves gaps.
    leads : int, str or sequence of them, default=None
        As in :func:`read_record`; None returns all. Names are looked up in every record.
    annotator : str, default=None
        Extension of the annotation file that is read too, such as ``"atr"``; None reads none.
    on_error : "raise" or "warn", default="raise"
        What happens where a record cannot be read, or disagrees with its checksum: an error; or a warning that names
        it, after which the next record is read. Samples that disagree with their checksum are returned as they are.
    batch_size : int, default=256
        Windows in a batch; the last one of a record may have fewer.
    tail : "drop", "pad" or "overlap", default="drop"
        What happens to the samples behind the last whole window, where the next window would hold some of them: they
        are left out; that window is given with zeros where the record has ended; or a window is given that ends with
        the record. A record that is shorter than a window gives a padded one, or none, with a warning.

    Returns
    -------
    batches : iterator of Bunch
        Each with the attributes:

        data : ndarray of shape (n_samples, n_leads, n_timesteps), float32, mV
            The windows; NaN where the record marks samples as missing. A new array each time.
        start : ndarray of int64, shape (n_samples,)
            Position of each window's first sample in the record.
        n_valid : ndarray of int64, shape (n_samples,)
            How many samples of each window lie in the record; the rest is padding.
        n_missing : ndarray of int64, shape (n_samples, n_leads)
            Missing samples of each lead.
        record : ndarray of str, shape (n_samples,)
            Name of the record.
        fs : float
            Sampling rate, Hz.
        lead_names : list of str
            As the header writes them.
        verified : bool
            True on the last batch of a record of which checksum and initial value of every lead were there, and
            agreed; False on the batches before it, whose samples are only summed up so far.
        annotations : list of Bunch
            Only with ``annotator``: the annotations inside each window, with ``sample`` (counted from the start of
            the record), ``symbol``, ``aux_note``, ``subtype``, ``chan`` and ``num``.

    Raises
    ------
    FileNotFoundError
        Where a file is missing, with its name. (It is a ValueError too.)
    ValueError
        For what :func:`read_record` refuses, and for a parameter out of its range.

    See Also
    --------
    read_record : Read a record, or a part of it, as one array.
    segment_beats : Cut windows around annotated beats.

    Notes
    -----
    The first samples of a record are compared with the header before its first batch is given. Its checksum runs over
    all samples, those between windows and behind the last one too, and is compared before its last batch is given:
    with ``on_error="raise"`` a damaged record never comes to its end, but the batches before the last have been given
    by then. Whoever stops before has not verified the record.

    Memory is that of two batches, the decoded piece and the annotations of the record.

    Examples
    --------
    >>> from skecg.datasets import iter_windows
    >>> for batch in iter_windows("ltafdb/00", window=10, annotator="atr"):  # doctest: +SKIP
    ...     scores = classifier.predict_proba(batch.data)
    """
    check_number("window", window, low=0, strict=True, unit="(s)")
    if stride is not None:
        check_number("stride", stride, low=0, strict=True, unit="(s)")
    check_option("on_error", on_error, ("raise", "warn"))
    check_option("tail", tail, ("drop", "pad", "overlap"))
    check_number("batch_size", batch_size, low=1, integer=True)
    check_annotator(annotator)
    if isinstance(path, str | os.PathLike):
        paths = [path]
    elif isinstance(path, Iterable) and not isinstance(path, bytes | bytearray):
        paths = list(path)
    else:
        raise TypeError(f"path must be the path of a record, or a list of them; got {path!r}")
    if not paths:
        raise ValueError("path is empty: name at least one record")
    for one in paths:
        if not isinstance(one, str | os.PathLike):
            raise TypeError(f"path must be the path of a record, or a list of them; it holds a {type(one).__name__}")
    if not isinstance(leads, str | Integral | None):
        leads = list(leads)  # an iterator would be used up by the first record
    return _iterate(paths, window, stride, leads, annotator, on_error, int(batch_size), tail)


def _iterate(
    paths: list[str | os.PathLike],
    window: float,
    stride: float | None,
    leads: int | str | list[int | str] | None,
    annotator: str | None,
    on_error: str,
    batch_size: int,
    tail: str,
) -> Iterator[Bunch]:
    """Go through the records; with ``on_error="warn"`` past those that cannot be read."""
    for path in paths:
        notes: list[str] = []
        batches = _record(path, window, stride, leads, annotator, on_error, batch_size, tail, notes)
        while True:
            batch, problem = None, None
            try:
                batch = next(batches, None)
            except (ValueError, OSError) as error:
                if on_error == "raise":
                    raise
                problem = f"record {Path(path).name}: {error}; the rest of it is left out"
            for note in notes:
                warnings.warn(f"record {Path(path).name.removesuffix('.hea')}: {note}", UserWarning, stacklevel=2)
            notes.clear()
            if problem is not None:
                warnings.warn(problem, UserWarning, stacklevel=2)
            if batch is None:
                break
            yield batch


def _record(
    path: str | os.PathLike,
    window: float,
    stride: float | None,
    leads: int | str | list[int | str] | None,
    annotator: str | None,
    on_error: str,
    batch_size: int,
    tail: str,
    notes: list[str],
) -> Iterator[Bunch]:
    """Yield the batches of one record; put into ``notes`` what is odd about it."""
    header, chosen, length, odd = open_record(path, leads)
    notes += odd
    n = _samples("window", window, header.fs)
    grid = _Grid(length, n, n if stride is None else _samples("stride", stride, header.fs), tail)
    found = None if annotator is None else find_annotations(header, annotator, 0, length, length, notes)
    if not grid.count:
        notes.append(f"its {length:,} samples are fewer than a window of {n:,}: it gives no window")
    done = row = 0
    with Samples(header, chosen, length, notes) as samples:
        data = _allocate(header, grid, done, batch_size, len(chosen))
        size = max(samples.frames(_PIECE), n // 4)
        buffer = allocate(header, (len(chosen), n + size))  # what the next window needs, and the next piece
        base = held = 0
        for a in range(0, length, size):
            b = min(a + size, length)
            samples.read(a, b, buffer[:, held : held + b - a])
            samples.compare_start(on_error, notes)
            held += b - a
            while take := min(grid.ready(b) - done, len(data) - row):
                take = grid.cut(buffer[:, :held], base, done, data[row : row + take])
                done, row = done + take, row + take
                if row == len(data) and done < grid.count:
                    yield _bunch(header, chosen, data, grid, done - row, found, False)
                    data, row = _allocate(header, grid, done, batch_size, len(chosen)), 0
            keep = min(grid.start(done), b) if done < grid.count else b
            buffer[:, : b - keep] = buffer[:, keep - base : held]
            base, held = keep, b - keep
        # The last batch waits for the checksum, which runs over all samples.
        verified = samples.compare(on_error, notes)
    if grid.count:
        yield _bunch(header, chosen, data, grid, done - row, found, verified)


class _Grid:
    """Where the windows of a record begin.

    Parameters
    ----------
    length, n, step : int
        Samples of the record, of a window, and from window to window.
    tail : str
        As in :func:`iter_windows`.

    Attributes
    ----------
    whole, count : int
        Windows on the grid that lie in the record; all windows, with the one that the tail may add.
    """

    def __init__(self, length: int, n: int, step: int, tail: str) -> None:
        self.length, self.n, self.step = length, n, step
        self.whole = (length - n) // step + 1 if length >= n else 0
        reached = (self.whole - 1) * step + n if self.whole else 0
        more = reached < length and self.whole * step < length  # else the next window holds nothing new
        self.count = self.whole + (more and (tail == "pad" or (tail == "overlap" and length >= n)))
        self.last = length - n if tail == "overlap" else self.whole * step

    def start(self, k: int) -> int:
        """Return the position of window k."""
        return k * self.step if k < self.whole else self.last

    def ready(self, b: int) -> int:
        """Return how many windows can be cut once the samples before b are there."""
        return self.count if b == self.length else min(self.whole, (b - self.n) // self.step + 1 if b >= self.n else 0)

    def cut(self, buffer: np.ndarray, base: int, k: int, out: np.ndarray) -> int:
        """Copy windows from k on out of a buffer that begins at base; return how many of ``out`` were written."""
        first = self.start(k) - base
        if k >= self.whole:
            there = buffer[:, first : first + self.n]
            out[0, :, : there.shape[1]], out[0, :, there.shape[1] :] = there, 0
            return 1
        take = min(len(out), self.whole - k)
        windows = sliding_window_view(buffer, self.n, axis=1)[:, first : first + (take - 1) * self.step + 1 : self.step]
        out[:take] = windows.transpose(1, 0, 2)
        return take


def _samples(name: str, seconds: float, fs: float) -> int:
    n = round(seconds * fs)
    if n < 1:
        raise ValueError(f"{name} must hold at least one sample; got {seconds!r} s at {fs:g} Hz")
    return n


def _allocate(header: Header, grid: _Grid, done: int, batch_size: int, n_leads: int) -> np.ndarray:
    """Return an array for the next batch."""
    return allocate(header, (min(batch_size, grid.count - done), n_leads, grid.n))


def _bunch(
    header: Header, chosen: list[int], data: np.ndarray, grid: _Grid, k: int, found: dict | None, verified: bool
) -> Bunch:
    """Return the batch that begins with window k."""
    start = np.array([grid.start(i) for i in range(k, k + len(data))], dtype=np.int64)
    n_valid = np.minimum(grid.length - start, grid.n)
    batch = Bunch(
        data=data,
        start=start,
        n_valid=n_valid,
        n_missing=np.isnan(data).sum(axis=2),
        record=np.full(len(data), header.record),
        fs=header.fs,
        lead_names=[header.lead_names[i] for i in chosen],
        verified=verified,
    )
    if found is not None:
        first, last = (np.searchsorted(found["sample"], at) for at in (start, start + n_valid))
        batch.annotations = [
            Bunch(**{name: values[a:b].copy() for name, values in found.items()})
            for a, b in zip(first, last, strict=True)
        ]
    return batch
