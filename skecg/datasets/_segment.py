"""Windows cut from records: around annotated beats, and what all kinds of windows share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.utils import Bunch

from ..utils._validation import check_fs, check_number, check_option
from ._databases import AAMI, BEATS
from ._home import list_names

# The annotations that are beats (QRS complexes) to WFDB's own programs. Flutter waves ("!") are none.
BEAT_SYMBOLS = "NLRBAaJSVrFejnE/fQ?"
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
    classes : sequence of str, mapping or "aami", default=("N", "PVC", "PAC", "LBBB", "RBBB")
        Labels of the beats that are wanted; or a mapping of labels of your own to the annotation symbols that mean
        them, such as ``{"SVEB": "AaJS", "VEB": "VEr"}``; or ``"aami"`` for the five groups N, SVEB, VEB, F and Q of
        ANSI/AAMI EC57.
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
        span : ndarray of int64, shape (n_samples, 2)
            Where the window's own beat begins and ends in the record (the end is not part of it): at the midpoints to
            the beats before and after it. It may reach beyond the window.
        beats : Bunch
            All beats inside the windows, in one list, window by window: those of window ``i`` are the rows
            ``offsets[i]`` up to but not including ``offsets[i + 1]`` of ``sample`` (position in the record),
            ``symbol``, ``label`` (of ``classes``; empty for other beats) and ``span`` (as above). ``offsets`` has the
            shape (n_samples + 1,).
        n_timesteps : int
            Samples in a window.
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
    segment_rhythm : Windows at rhythm marks or inside episodes.
    segment_windows : Windows in a row, whatever lies in them.
    truth_masks : Where the beats of its class lie in each window.
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
    source = check_record(record)
    classes = check_classes(classes)
    n = window_length(window, source.fs)
    sample, first, last = source.sample, source.first, source.last
    chosen, excluded = select_beats(sample, source.symbol, first, last, n, classes, edge=edge, pure=pure)
    offset = draw_shifts(sample[chosen] - n // 2, first, last, n, shift, source.fs, random_state)
    beats, spans = beat_spans(source, classes)
    return build_windows(
        source,
        n,
        classes,
        excluded,
        f"{window:g} s around beats ({', '.join(classes)}); edge={edge!r}, pure={pure}, shift={shift:g} s",
        target=label_beats(source.symbol[chosen], classes),
        sample=sample[chosen],
        start=sample[chosen] - n // 2 + offset,
        shift=offset,
        span=spans[np.searchsorted(beats, chosen)],
    )


class Source(NamedTuple):
    """A record as the cutting functions use it: its annotations, and the part that data covers (first to last)."""

    data: np.ndarray | None
    fs: float
    sample: np.ndarray
    symbol: np.ndarray
    first: int
    last: int
    record: str
    group: str
    lead_names: list[str]


def check_record(record: Mapping[str, Any]) -> Source:
    """Return a record with its arrays checked; ValueError or TypeError that says how to read it."""
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
    if (sample[1:] < sample[:-1]).any():
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
    name = str(record.get("record", ""))
    leads = list(record.get("lead_names", [] if data is None else map(str, range(len(data)))))
    return Source(data, fs, sample, symbol, first, last, name, str(record.get("group", name)), leads)


def beat_spans(source: Source, classes: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the annotations that are beats, and where each beat begins and ends.

    Parameters
    ----------
    source : Source
        The record.
    classes : mapping
        Labels and their symbols: what is a class is a beat, beside all that is one to WFDB.

    Returns
    -------
    beats : ndarray of int
        Positions in ``source.sample``.
    spans : ndarray of int64, shape (n_beats, 2)
        From midpoint to midpoint of neighbouring beats. Where there is no neighbour, the beat ends as far from its
        position as it does on the other side, or with the signal.
    """
    beats = np.flatnonzero(np.isin(source.symbol, sorted({*BEAT_SYMBOLS, *"".join(classes.values())})))
    at = source.sample[beats]
    spans = np.empty((len(at), 2), dtype=np.int64)
    if len(at) > 1:
        # Rounded up, so that of two beats at neighbouring samples each lies in its own span.
        middle = (at[:-1] + at[1:] + 1) // 2
        spans[1:, 0] = spans[:-1, 1] = middle
        spans[0, 0] = min(2 * at[0] - middle[0] + 1, middle[0])
        spans[-1, 1] = 2 * at[-1] - middle[-1] + 1
    else:
        spans[:] = source.first, source.last
    return beats, np.clip(spans, source.first, source.last, out=spans)


def beats_inside(source: Source, classes: Mapping[str, str], start: np.ndarray, n: int) -> Bunch:
    """Return all beats inside windows as one list with offsets; see :func:`segment_beats`."""
    beats, spans = beat_spans(source, classes)
    at, symbol = source.sample[beats], source.symbol[beats]
    low, high = np.searchsorted(at, start, side="left"), np.searchsorted(at, start + n, side="left")
    offsets = np.concatenate(([0], np.cumsum(high - low))).astype(np.int64)
    rows = np.repeat(low - offsets[:-1], high - low) + np.arange(offsets[-1])
    label = label_beats(symbol, classes)
    return Bunch(offsets=offsets, sample=at[rows], symbol=symbol[rows], label=label[rows], span=spans[rows])


def build_windows(
    source: Source,
    n: int,
    classes: Mapping[str, str],
    excluded: dict[str, int],
    told: str,
    *,
    start: np.ndarray,
    **columns: np.ndarray,
) -> Bunch:
    """Cut the windows that begin at ``start``, leave out those that are mostly missing, and put all into a Bunch.

    Parameters
    ----------
    source : Source
        The record.
    n : int
        Samples in a window.
    classes : mapping
        Labels of beats and their symbols; empty where no beat has a label.
    excluded : dict of int
        What was left out so far; ``missing`` is added.
    told : str
        What was cut and how.
    start : ndarray of int
        First samples of the windows, in the record.
    **columns : ndarray of shape (n_samples, ...)
        What is told of each window.

    Returns
    -------
    windows : Bunch
        See :func:`segment_beats`.
    """
    cube = None
    excluded["missing"] = 0
    if source.data is not None:
        cube = np.empty((len(start), len(source.data), n), dtype=np.float32)
        cut_windows(source.data, start - source.first, cube)
        kept = ~mostly_missing(cube)
        if not kept.all():
            excluded["missing"] = int((~kept).sum())
            start, cube = start[kept], cube[kept]
            columns = {name: column[kept] for name, column in columns.items()}
    return Bunch(
        data=cube,
        **columns,
        start=start,
        groups=np.full(len(start), source.group),
        record=np.full(len(start), source.record),
        beats=beats_inside(source, classes, start, n),
        n_timesteps=n,
        fs=source.fs,
        lead_names=source.lead_names,
        n_excluded=excluded,
        DESCR=f"{len(start)} windows of record {source.record}, {source.fs:g} Hz: {told}.",
    )


def check_classes(classes: Sequence[str] | Mapping[str, str], known: Mapping[str, str] = BEATS) -> dict[str, str]:
    """Return labels with their annotation symbols; ValueError for a label that is not known or a symbol used twice."""
    if isinstance(classes, str) and classes == "aami":
        classes = AAMI
    if isinstance(classes, Mapping):
        parts = {str(label): list_names(symbols) for label, symbols in classes.items()}
        if odd := [part for symbols in parts.values() for part in symbols if not isinstance(part, str)]:
            raise ValueError(f"classes must give annotation symbols as texts; got {odd[0]!r}")
        chosen = {label: "".join(symbols) for label, symbols in parts.items()}
    else:
        labels = list_names(classes)
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
    """Return the label of each symbol; an empty text for a symbol of no class."""
    labels = {s: label for label, symbols in classes.items() for s in symbols}
    values, where = np.unique(symbol, return_inverse=True)
    width = max(map(len, classes), default=1)
    return np.array([labels.get(value, "") for value in values.tolist()], dtype=f"<U{width}")[where]


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
