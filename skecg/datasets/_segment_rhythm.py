"""Windows of a rhythm: inside its episodes, or at the marks where it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..utils._validation import check_number, check_option
from ._databases import RHYTHMS
from ._home import list_names
from ._segment import Source, build_windows, check_record, draw_shifts, window_length


def segment_rhythm(
    record: Mapping[str, Any],
    *,
    window: float = 2.0,
    classes: Sequence[str] | Mapping[str, str | Sequence[str]] = ("AFIB", "SVTA", "SBR"),
    at: str = "episodes",
    stride: float | None = None,
    shift: float = 0.0,
    edge: str = "signal",
    alone: bool = False,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
) -> Bunch:
    """Cut windows of some rhythms, inside their episodes or at the marks where they begin.

    A rhythm mark is an annotation ``+`` whose note begins with a bracket, such as ``(AFIB``. It says that this rhythm
    begins here; an episode lasts up to the next mark of another rhythm.

    Parameters
    ----------
    record : Bunch or mapping
        What :func:`read_record` returns with ``annotator``: as in :func:`segment_beats`, and ``aux_note``. Left as it
        is.
    window : float, default=2.0
        Length, s.
    classes : sequence of str or mapping, default=("AFIB", "SVTA", "SBR")
        Labels of the rhythms that are wanted; or a mapping of labels of your own to the notes that mean them, such as
        ``{"VF": ["(VF", "(VFIB"], "other": "(N"}``. Known are NSR, AFIB, AFL, SVTA, SBR, VT, VFL, VF, ASYS, BIGEMINY,
        TRIGEMINY, AB, HGEA, IVR, VER, NODAL, 1dAVb, 2dAVb, PREX, PACED and NOISE; several notes of one rhythm have
        one label.
    at : "episodes" or "marks", default="episodes"
        ``"episodes"``: windows that lie in an episode as a whole. ``"marks"``: one window around each mark, as the
        first paper's counts have it [1]_. **Half of such a window is the rhythm before**, so that its label is right
        for one half of it alone: the noise of that paper's labels.
    stride : float, default=None
        For episodes: from one window's start to the next one's, s; None means one window after the other.
    shift : float, default=0.0
        Each window is moved by a random offset, uniform between ``-shift`` and ``shift`` s; less far where it would
        leave the signal, or the episode. The windows chosen do not depend on it.
    edge : "signal" or "annotations", default="signal"
        Which windows around marks are whole: those that lie within the signal, or those that lie within it and, end
        included, between the first and the last annotation of any kind. The last episode ends with the signal, or
        with the last annotation.
    alone : bool, default=False
        For marks: whether only marks are taken around which, from ``s - n // 2`` to ``s + n // 2`` with both ends,
        there is no other rhythm mark.
    random_state : int, Generator, RandomState or None, default=None
        Source of the offsets; with an int they are the same at every call. Global generators are not touched.

    Returns
    -------
    windows : Bunch
        With the attributes:

        data : ndarray of shape (n_samples, n_leads, n_timesteps), float32, mV, or None
            The windows, in the order of time. A copy.
        target : ndarray of str, shape (n_samples,)
            Label of each window's rhythm.
        groups, record : ndarray of str, shape (n_samples,)
            Patient and record.
        sample : ndarray of int64, shape (n_samples,)
            Position of the mark in the record: for episodes, of the mark that began the window's episode.
        start : ndarray of int64, shape (n_samples,)
            Position of the window's first sample in the record.
        shift : ndarray of int64, shape (n_samples,)
            How far the window was moved to the right, in samples.
        episode : ndarray of int64, shape (n_samples, 2)
            Where the window's episode begins and ends in the record (the end is not part of it).
        beats : Bunch
            All beats inside the windows, as in :func:`segment_beats`; their ``label`` is empty.
        n_timesteps, fs, lead_names
            As in :func:`segment_beats`.
        n_excluded : dict of int
            What was left out, by the reason. At marks, windows: ``edge``, ``impure`` (another rhythm mark in it).
            Inside episodes, whole episodes: ``short`` (no window fits in). Windows of both: ``missing`` (more than
            half of a lead is missing).
        DESCR : str
            What was cut and how.

    Raises
    ------
    ValueError
        For a rhythm that is not known, a record without annotations or without their notes, or a parameter out of its
        range or without meaning beside the others.

    See Also
    --------
    segment_beats : Windows around beats.
    segment_windows : Windows in a row, whatever lies in them.

    Notes
    -----
    A mark that repeats the label of the episode it lies in does not end it. Before the first mark the rhythm is not
    known: read the whole record, or a part that begins with a mark.

    References
    ----------
    .. [1] Vijayarangan S, Murugesan B, Vignesh R, Preejith SP, Joseph J, Sivaprakasam M. Interpreting Deep Neural
       Networks for Single-Lead ECG Arrhythmia Classification. EMBC 2020. Its table of counts, recounted from the
       annotation files; the rule is inferred from the counts, not read in the paper.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.datasets import segment_rhythm
    >>> record = {"data": np.zeros((1, 1000)), "fs": 100.0, "sample": [150, 700], "symbol": ["+", "+"]}
    >>> record["aux_note"] = ["(AFIB", "(N"]
    >>> segment_rhythm(record).start.tolist()
    [150, 350]
    >>> segment_rhythm(record, at="marks").start.tolist()
    [50]
    """
    source, classes = check_record(record), check_rhythms(classes)
    note = check_notes(record, source)
    n = window_length(window, source.fs)
    check_option("at", at, ("episodes", "marks"))
    check_option("edge", edge, ("signal", "annotations"))
    if at == "marks" and stride is not None:
        raise ValueError(f"stride is for at='episodes': a mark has one window; got {stride!r}")
    if at == "episodes" and alone:
        raise ValueError("alone is for at='marks': inside an episode there is no mark of another rhythm")
    marks, limits, labels = find_episodes(source, note, classes, edge=edge)
    if at == "marks":
        chosen, excluded = select_marks(
            source.sample, source.symbol, note, source.first, source.last, n, classes, edge=edge, alone=alone
        )
        every, rhythm = rhythm_marks(source.symbol, note)
        target = label_rhythms(rhythm[np.searchsorted(every, chosen)], classes)
        start = source.sample[chosen] - n // 2
        offset = draw_shifts(start, source.first, source.last, n, shift, source.fs, random_state)
        sample = source.sample[chosen]
        # A repeated mark belongs to the episode that it repeats.
        episode = limits[np.searchsorted(marks, chosen, side="right") - 1]
    else:
        step = n if stride is None else stride_length(stride, source.fs)
        counts = np.maximum((limits[:, 1] - limits[:, 0] - n) // step + 1, 0)
        excluded = {"short": int((counts == 0).sum())}
        of = np.repeat(np.arange(len(marks)), counts)
        ordinal = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
        start = limits[of, 0] + ordinal * step
        offset = draw_shifts(start, limits[of, 0], limits[of, 1], n, shift, source.fs, random_state)
        sample, episode, target = source.sample[marks[of]], limits[of], labels[of]
    how = f"alone={alone}" if at == "marks" else f"stride={(n if stride is None else step) / source.fs:g} s"
    return build_windows(
        source,
        n,
        {},
        excluded,
        f"{window:g} s at {at} of {', '.join(classes)}; {how}, edge={edge!r}, shift={shift:g} s",
        target=target,
        sample=sample,
        start=start + offset,
        shift=offset,
        episode=episode,
    )


def select_marks(
    sample: np.ndarray,
    symbol: np.ndarray,
    note: np.ndarray,
    first: int,
    last: int,
    n: int,
    classes: Mapping[str, str | Sequence[str]],
    *,
    edge: str = "signal",
    alone: bool = False,
) -> tuple[np.ndarray, dict[str, int]]:
    """Choose rhythm marks by the annotations alone; see :func:`segment_rhythm` for the rules.

    Parameters
    ----------
    sample, symbol, note : ndarray of shape (n_annotations,)
        All annotations of the record, in the order of time.
    first, last : int
        The signal covers the samples from ``first`` up to but not including ``last``.
    n : int
        Samples in a window.
    classes : mapping
        Labels, and the notes that mean them: one or several, with or without the bracket before them.
    edge : "signal" or "annotations"
        Which windows are whole.
    alone : bool
        Whether another rhythm mark in the window, of whatever rhythm, both ends included, excludes a mark.

    Returns
    -------
    marks : ndarray of int
        Positions in ``sample``.
    n_excluded : dict of int
        Marks of these classes that were left out: ``edge``, ``impure`` (another mark in the window), ``missing``
        (0 here).
    """
    check_option("edge", edge, ("signal", "annotations"))
    every, rhythm = rhythm_marks(symbol, note)
    marks = every[label_rhythms(rhythm, classes) != ""]
    at, half = sample[marks], n // 2
    whole = (at - half >= first) & (at - half + n <= last)
    if edge == "annotations" and len(sample):
        whole &= (at - half >= sample[0]) & (at + half <= sample[-1])
    excluded = {"edge": int((~whole).sum()), "impure": 0, "missing": 0}
    marks = marks[whole]
    if alone and len(marks):
        low = np.searchsorted(sample[every], sample[marks] - half, side="left")
        high = np.searchsorted(sample[every], sample[marks] + half, side="right")
        single = high - low == 1
        excluded["impure"] = int((~single).sum())
        marks = marks[single]
    return marks, excluded


def find_episodes(
    source: Source, note: np.ndarray, classes: Mapping[str, Sequence[str]], *, edge: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the marks that begin episodes of the classes, the episodes' limits (n, 2), and their labels."""
    every, rhythm = rhythm_marks(source.symbol, note)
    # A rhythm of no class still ends an episode; it goes by its note, which must not be taken for a label.
    label = label_rhythms(rhythm, classes)
    name = np.where(label == "", rhythm, label)
    known = label != ""
    if len(every):
        begins = np.concatenate(([True], (name[1:] != name[:-1]) | (known[1:] != known[:-1])))
        every, label, known = every[begins], label[begins], known[begins]
    end = source.last
    if edge == "annotations" and len(source.sample):
        end = min(end, int(source.sample[-1]) + 1)
    at = np.append(source.sample[every], end)
    limits = np.clip(np.stack([at[:-1], at[1:]], axis=1), source.first, end)
    return every[known], limits[known], label[known]


def label_rhythms(rhythm: np.ndarray, classes: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Return the label of each rhythm note; an empty text for a rhythm of no class."""
    labels = {name: label for label, names in classes.items() for name in note_names(names)}
    return np.array([labels.get(name, "") for name in rhythm.tolist()], dtype=f"<U{max(map(len, classes), default=1)}")


def rhythm_marks(symbol: np.ndarray, note: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the rhythm marks among the annotations, and their notes such as ``"(AFIB"``.

    Only the notes of ``+`` that begin with a bracket are rhythms. wfdb leaves a NUL at their end.
    """
    at = np.flatnonzero(np.asarray(symbol) == "+")
    texts = np.array([str(note[i]).rstrip("\0").strip() for i in at.tolist()], dtype=object)
    rhythm = np.array([text.startswith("(") for text in texts], dtype=bool)
    return at[rhythm], texts[rhythm]


def rhythm_notes(symbol: np.ndarray, note: np.ndarray) -> np.ndarray:
    """Return the rhythm that each annotation begins; an empty text where it begins none."""
    rhythm = np.full(len(symbol), "", dtype=object)
    at, texts = rhythm_marks(symbol, note)
    rhythm[at] = texts
    return rhythm


def note_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return notes as annotation files write them, with the bracket."""
    several = list_names(names)
    if odd := [name for name in several if not isinstance(name, str)]:
        raise ValueError(f"classes must give the notes of rhythm marks as texts; got {odd[0]!r}")
    return tuple(name if name.startswith("(") else f"({name}" for name in several)


def check_rhythms(
    classes: Sequence[str] | Mapping[str, str | Sequence[str]], known: Mapping[str, Sequence[str]] = RHYTHMS
) -> dict[str, tuple[str, ...]]:
    """Return labels with their notes; ValueError for a rhythm that is not known or a note used twice."""
    if isinstance(classes, Mapping):
        chosen = {str(label): note_names(names) for label, names in classes.items()}
    else:
        labels = list_names(classes)
        if unknown := [label for label in labels if not isinstance(label, str) or label not in known]:
            raise ValueError(
                f"classes has the unknown {', '.join(map(repr, unknown))}; allowed are {', '.join(known)}, or a "
                f"mapping of labels to the notes of rhythm marks"
            )
        chosen = {label: tuple(known[label]) for label in labels}
    names = [name for several in chosen.values() for name in several]
    if not names or len(set(names)) < len(names) or not all(chosen.values()) or "(" in names or "" in chosen:
        raise ValueError(f"classes must give each label its own notes of rhythm marks; got {classes!r}")
    return chosen


def check_notes(record: Mapping[str, Any], source: Source) -> np.ndarray:
    """Return the notes of the annotations, one for each."""
    if "aux_note" not in record:
        raise ValueError("record has no aux_note: read it with its annotations, read_record(path, annotator='atr')")
    note = np.asarray(record["aux_note"], dtype=object)
    if note.shape != source.sample.shape:
        raise ValueError(f"aux_note must have one text for each annotation; got {note.shape}, {source.sample.shape}")
    return note


def stride_length(stride: float, fs: float) -> int:
    """Return the samples from one window's start to the next one's."""
    check_number("stride", stride, low=0, strict=True, unit="(s)")
    step = round(stride * fs)
    if step < 1:
        raise ValueError(f"stride must be at least one sample; got {stride!r} s at {fs:g} Hz")
    return step
