"""Windows cut from records: around annotated beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.utils import Bunch

from ..utils._validation import check_fs, check_number, check_option
from ._databases import BEATS

_BLOCK = 128  # windows copied at a time: the copy in between stays in the processor's cache


def segment_beats(
    record: Mapping[str, Any],
    *,
    window: float = 2.0,
    classes: Sequence[str] | Mapping[str, str] = tuple(BEATS),
    shift: float = 0.0,
    edge: str = "signal",
    pure: bool = False,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
) -> Bunch:
    """Cut a window around each annotated beat of some classes.

    The window of a beat at sample ``s`` is ``[s - n // 2, s - n // 2 + n)`` with ``n = round(window * fs)``.

    Parameters
    ----------
    record : Bunch or mapping
        What :func:`read_record` returns with ``annotator``: ``data`` (n_leads, n_timesteps) in mV, or None where only
        the choice of beats is wanted; ``fs``, ``sample``, ``symbol``; where they are there also ``record``,
        ``group`` (the patient), ``lead_names``, ``sampfrom`` and ``n_timesteps``. Left as it is.
    window : float, default=2.0
        Length, s.
    classes : sequence of str or mapping, default=("N", "PVC", "PAC", "LBBB", "RBBB")
        Labels of the beats that are wanted; or a mapping of labels of your own to the annotation symbols that mean
        them, such as ``{"SVEB": "AaJSej", "VEB": "VE"}``.
    shift : float, default=0.0
        Each window is moved by a random offset, uniform between ``-shift`` and ``shift`` s, so that the beat does not
        always lie in the middle; less far where it would leave the signal. The beats chosen do not depend on it.
    edge : "signal" or "annotations", default="signal"
        Which windows are whole: those that lie within the signal, or those that lie within it and, end included,
        between the first and the last annotation of any kind.
    pure : bool, default=False
        Whether only beats are taken around which, from ``s - n // 2`` to ``s + n // 2`` with both ends, every
        annotation of any kind has the beat's symbol. It is the rule by which the first paper's long-term counts come
        out [1]_: a pure PVC is then a run of ventricular beats, or one alone in its window, not the isolated PVC
        between normal beats.
    random_state : int, Generator, RandomState or None, default=None
        Source of the offsets; with an int they are the same at every call. Global generators are not touched.

    Returns
    -------
    windows : Bunch
        With the attributes:

        data : ndarray of shape (n_samples, n_leads, n_timesteps), float32, mV, or None
            The windows, in the order of the beats. A copy.
        target : ndarray of str, shape (n_samples,)
            Label of each window's beat.
        groups, record : ndarray of str, shape (n_samples,)
            Patient and record.
        sample : ndarray of int64, shape (n_samples,)
            Position of the beat in the record.
        start : ndarray of int64, shape (n_samples,)
            Position of the window's first sample in the record: the beat lies at ``sample - start`` in its window.
        shift : ndarray of int64, shape (n_samples,)
            How far the window was moved to the right, in samples.
        fs : float
            Sampling rate, Hz.
        lead_names : list of str
            Names of the leads.
        n_excluded : dict of int
            Beats of the classes that were left out, by the reason: ``edge``, ``impure``, ``missing`` (more than half
            of a lead is missing in the window).
        DESCR : str
            What was cut and how.

    Raises
    ------
    ValueError
        For a class that is not known, a record without annotations, or a parameter out of its range.

    See Also
    --------
    read_record : Read the record.
    fetch_mitdb : The windows of a whole database.

    References
    ----------
    .. [1] Vijayarangan S, Murugesan B, Vignesh R, Preejith SP, Joseph J, Sivaprakasam M. Interpreting Deep Neural
       Networks for Single-Lead ECG Arrhythmia Classification. EMBC 2020. Its table of counts, recounted from the
       annotation files; the rule is inferred from the counts, not read in the paper.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.datasets import segment_beats
    >>> record = {"data": np.zeros((1, 1000)), "fs": 100.0, "sample": [20, 500], "symbol": ["N", "V"]}
    >>> windows = segment_beats(record)
    >>> windows.data.shape, windows.target.tolist(), windows.n_excluded["edge"]
    ((1, 1, 200), ['PVC'], 1)
    """
    data, fs, sample, symbol, first, last = _check_record(record)
    classes = check_classes(classes)
    n = window_length(window, fs)
    beats, excluded = select_beats(sample, symbol, first, last, n, classes, edge=edge, pure=pure)
    offset = draw_shifts(sample[beats] - n // 2, first, last, n, shift, fs, random_state)
    start = sample[beats] - n // 2 + offset
    target = label_beats(symbol[beats], classes)
    cube = None
    if data is not None:
        cube = np.empty((len(beats), data.shape[0], n), dtype=np.float32)
        cut_windows(data, start - first, cube)
        kept = ~mostly_missing(cube)
        excluded["missing"] = int((~kept).sum())
        if excluded["missing"]:
            beats, offset, start, target, cube = (v[kept] for v in (beats, offset, start, target, cube))
    name = str(record.get("record", ""))
    return Bunch(
        data=cube,
        target=target,
        groups=np.full(len(beats), str(record.get("group", name))),
        record=np.full(len(beats), name),
        sample=sample[beats],
        start=start,
        shift=offset,
        fs=fs,
        lead_names=list(record.get("lead_names", [] if data is None else map(str, range(len(data))))),
        n_excluded=excluded,
        DESCR=f"{len(beats)} windows of {window:g} s around beats ({', '.join(classes)}) of record {name}, {fs:g} Hz; "
        f"edge={edge!r}, pure={pure}, shift={shift:g} s.",
    )


def _check_record(record: Mapping[str, Any]) -> tuple:
    """Return data (or None), fs, annotations and the part of the record that data covers."""
    if not isinstance(record, Mapping):
        raise TypeError(f"record must be what read_record returns; got a {type(record).__name__}")
    if lacking := {"fs", "sample", "symbol"} - set(record):
        raise ValueError(
            f"record has no {', '.join(sorted(lacking))}: read it with its annotations, "
            f"read_record(path, annotator='atr')"
        )
    sample, symbol = np.asarray(record["sample"]), np.asarray(record["symbol"])
    if sample.ndim != 1 or sample.shape != symbol.shape or (len(sample) and sample.dtype.kind not in "iu"):
        raise ValueError(
            f"sample and symbol must be 1-D of one length, sample of integers; got shapes {sample.shape}, "
            f"{symbol.shape} and {sample.dtype}"
        )
    sample = sample.astype(np.int64)
    if (np.diff(sample) < 0).any():
        raise ValueError("sample must not decrease: sort the annotations by their position")
    fs, first = check_fs(record["fs"], "cutting windows"), int(record.get("sampfrom", 0))
    data = record.get("data")
    if data is not None:
        data = np.asarray(data)
        if data.ndim != 2 or data.dtype.kind not in "fiu":
            raise ValueError(f"data must be numbers of shape (n_leads, n_timesteps); got {data.dtype}, {data.shape}")
        last = first + data.shape[1]
    else:
        length = record.get("n_timesteps")
        last = int(length) if length is not None else int(sample.max(initial=first - 1)) + 1
    return data, fs, sample, symbol, first, last


def check_classes(classes: Sequence[str] | Mapping[str, str], known: Mapping[str, str] = BEATS) -> dict[str, str]:
    """Return labels with their annotation symbols; ValueError for a label that is not known or a symbol used twice."""
    if isinstance(classes, Mapping):
        chosen = {str(label): "".join(symbols) for label, symbols in classes.items()}
    else:
        labels = [classes] if isinstance(classes, str) else list(classes)
        if unknown := [label for label in labels if not isinstance(label, str) or label not in known]:
            raise ValueError(
                f"classes has the unknown {', '.join(map(repr, unknown))}; allowed are {', '.join(known)}, or a "
                f"mapping of labels to annotation symbols"
            )
        chosen = {label: known[label] for label in labels}
    symbols = "".join(chosen.values())
    if not symbols or len(set(symbols)) < len(symbols) or not all(chosen.values()):
        raise ValueError(f"classes must give each label its own annotation symbols; got {classes!r}")
    return chosen


def window_length(window: float, fs: float) -> int:
    """Return the samples of a window of so many seconds."""
    check_number("window", window, low=0, strict=True, unit="(s)")
    n = round(window * fs)
    if n < 1:
        raise ValueError(f"window must hold at least one sample; got {window!r} s at {fs:g} Hz")
    return n


def select_beats(
    sample: np.ndarray,
    symbol: np.ndarray,
    first: int,
    last: int,
    n: int,
    classes: Mapping[str, str],
    *,
    edge: str = "signal",
    pure: bool = False,
) -> tuple[np.ndarray, dict[str, int]]:
    """Choose beats by their annotations alone; see :func:`segment_beats` for the rules.

    Parameters
    ----------
    sample, symbol : ndarray of shape (n_annotations,)
        All annotations of the record, in the order of time.
    first, last : int
        The signal covers the samples from ``first`` up to but not including ``last``.
    n : int
        Samples in a window.
    classes : mapping
        Labels and their symbols.
    edge : "signal" or "annotations"
        Which windows are whole.
    pure : bool
        Whether other annotations in the window exclude a beat.

    Returns
    -------
    beats : ndarray of int
        Positions in ``sample``.
    n_excluded : dict of int
        Beats of these classes that were left out: ``edge``, ``impure``, ``missing`` (0 here).
    """
    check_option("edge", edge, ("signal", "annotations"))
    beats = np.flatnonzero(np.isin(symbol, list("".join(classes.values()))))
    at, half = sample[beats], n // 2
    whole = (at - half >= first) & (at - half + n <= last)
    if edge == "annotations" and len(sample):
        whole &= (at - half >= sample[0]) & (at + half <= sample[-1])
    excluded = {"edge": int((~whole).sum()), "impure": 0, "missing": 0}
    beats = beats[whole]
    if pure and len(beats):
        # Runs of equal symbols are numbered: a window is pure if its first and its last annotation are of one run.
        runs = np.cumsum(np.concatenate(([0], symbol[1:] != symbol[:-1])))
        low = np.searchsorted(sample, sample[beats] - half, side="left")
        high = np.searchsorted(sample, sample[beats] + half, side="right") - 1
        alone = runs[low] == runs[high]
        excluded["impure"] = int((~alone).sum())
        beats = beats[alone]
    return beats, excluded


def draw_shifts(start: np.ndarray, first: int, last: int, n: int, shift: float, fs: float, random_state: Any) -> Any:
    """Return random offsets of windows in samples, none of which takes a window out of the signal."""
    check_number("shift", shift, low=0, unit="(s)")
    most = round(shift * fs)
    generator = check_generator(random_state)
    if not most:
        return np.zeros(len(start), dtype=np.int64)
    draw = generator.randint if isinstance(generator, np.random.RandomState) else generator.integers
    return np.clip(draw(-most, most + 1, size=len(start)), first - start, last - n - start).astype(np.int64)


def check_generator(random_state: Any) -> np.random.Generator | np.random.RandomState:
    """Return a generator; None gives a fresh one, for the global one belongs to the caller."""
    if isinstance(random_state, np.random.Generator | np.random.RandomState):
        return random_state
    if random_state is None or (isinstance(random_state, Integral) and not isinstance(random_state, bool)):
        if random_state is not None and random_state < 0:
            raise ValueError(f"random_state must not be negative; got {random_state}")
        return np.random.default_rng(None if random_state is None else int(random_state))
    raise ValueError(f"random_state must be an int, a Generator, a RandomState or None; got {random_state!r}")


def label_beats(symbol: np.ndarray, classes: Mapping[str, str]) -> np.ndarray:
    """Return the label of each symbol."""
    labels = {s: label for label, symbols in classes.items() for s in symbols}
    values, where = np.unique(symbol, return_inverse=True)
    width = max(map(len, classes))
    return np.array([labels[value] for value in values.tolist()], dtype=f"<U{width}")[where]


def cut_windows(data: np.ndarray, start: np.ndarray, out: np.ndarray) -> None:
    """Copy the windows of data (n_leads, n_timesteps) that begin at the samples ``start`` into out."""
    if not len(start):
        return
    for lead in range(len(data)):
        windows = sliding_window_view(data[lead], out.shape[-1])
        for i in range(0, len(start), _BLOCK):
            out[i : i + _BLOCK, lead] = windows[start[i : i + _BLOCK]]


def mostly_missing(cube: np.ndarray) -> np.ndarray:
    """Tell which windows lack more than half of a lead."""
    gaps = np.isnan(cube)
    return (gaps.mean(axis=-1) > 0.5).any(axis=-1) if gaps.any() else np.zeros(len(cube), dtype=bool)
