"""Windows in a row with a label from the beats inside, and masks of where those beats lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..utils._validation import check_number, check_option
from ._segment import beats_inside, build_windows, check_classes, check_record, draw_shifts, window_length
from ._segment_rhythm import stride_length


def segment_windows(
    record: Mapping[str, Any],
    *,
    window: float = 8.0,
    stride: float | None = None,
    classes: Sequence[str] | Mapping[str, str] = "aami",
    label: str = "commonest_abnormal",
    normal: str = "N",
    shift: float = 0.0,
    edge: str = "signal",
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
) -> Bunch:
    """Cut a record into windows of one length and label each by the beats inside.

    Parameters
    ----------
    record : Bunch or mapping
        What :func:`read_record` returns with ``annotator``, as in :func:`segment_beats`. Left as it is.
    window : float, default=8.0
        Length, s.
    stride : float, default=None
        From one window's start to the next one's, s; None means one window after the other. The first begins with the
        signal.
    classes : "aami", sequence of str or mapping, default="aami"
        Classes of beats, as in :func:`segment_beats`: ``"aami"`` is N, SVEB, VEB, F and Q.
    label : "commonest_abnormal" or "majority", default="commonest_abnormal"
        ``"commonest_abnormal"``: the class other than ``normal`` that most beats of the window have, and ``normal``
        where there is no such beat. It is the label of the protocol by which Suh et al. compare explanations [1]_.
        ``"majority"``: the class that most beats have. Of classes with equally many beats the one that ``classes``
        names first is taken. Beats of no class are not counted.
    normal : str, default="N"
        The label that gives way to every other one with ``label="commonest_abnormal"``; it must be one of ``classes``.
    shift : float, default=0.0
        Each window is moved by a random offset before it is labelled, uniform between ``-shift`` and ``shift`` s; less
        far where it would leave the signal.
    edge : "signal" or "annotations", default="signal"
        Whether windows need only lie within the signal, or also between the first and the last annotation of any
        kind: beyond them beats may be there that nobody has marked.
    random_state : int, Generator, RandomState or None, default=None
        Source of the offsets; with an int they are the same at every call. Global generators are not touched.

    Returns
    -------
    windows : Bunch
        With the attributes:

        data : ndarray of shape (n_samples, n_leads, n_timesteps), float32, mV, or None
            The windows, in the order of time. A copy.
        target : ndarray of str, shape (n_samples,)
            Label of each window.
        groups, record : ndarray of str, shape (n_samples,)
            Patient and record.
        sample : ndarray of int64, shape (n_samples,)
            Position of the window's middle in the record, ``start + n_timesteps // 2``.
        start : ndarray of int64, shape (n_samples,)
            Position of the window's first sample in the record.
        shift : ndarray of int64, shape (n_samples,)
            How far the window was moved to the right, in samples.
        counts : ndarray of int64, shape (n_samples, n_classes)
            Beats of each class in the window, in the order of ``classes``.
        classes : list of str
            Labels of the columns of ``counts``.
        beats : Bunch
            All beats inside the windows, with their labels and spans, as in :func:`segment_beats`;
            :func:`truth_masks` makes masks of them.
        n_timesteps, fs, lead_names
            As in :func:`segment_beats`.
        n_excluded : dict of int
            Windows that were left out, by the reason: ``edge``, ``unlabelled`` (no beat of the classes in it),
            ``missing`` (more than half of a lead is missing).
        DESCR : str
            What was cut and how.

    Raises
    ------
    ValueError
        For a class that is not known, a record without annotations, or a parameter out of its range.

    See Also
    --------
    truth_masks : Where the beats of its class lie in each window.
    segment_beats : Windows around beats.
    segment_rhythm : Windows at rhythm marks or inside episodes.

    References
    ----------
    .. [1] Suh J, Kim J, Kwon S, Jung E, Ahn HJ, Lee KY, Choi EK, Rhee W. Visual interpretation of deep learning model
       in ECG classification: A comprehensive evaluation of feature attribution methods. Computers in Biology and
       Medicine 182:109088, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.datasets import segment_windows, truth_masks
    >>> record = {"data": np.zeros((1, 2000)), "fs": 100.0, "sample": [100, 200, 290, 1100], "symbol": list("NNVN")}
    >>> windows = segment_windows(record)
    >>> windows.target.tolist(), windows.start.tolist(), windows.n_excluded["edge"]
    (['VEB', 'N'], [0, 800], 0)
    >>> truth_masks(windows, kind="qrs")[0].nonzero()[0][[0, -1]].tolist()
    [275, 305]
    """
    source, classes = check_record(record), check_classes(classes)
    check_option("label", label, ("commonest_abnormal", "majority"))
    check_option("edge", edge, ("signal", "annotations"))
    if label == "commonest_abnormal" and normal not in classes:
        raise ValueError(f"normal must be one of classes, {', '.join(classes)}; got {normal!r}")
    n = window_length(window, source.fs)
    step = n if stride is None else stride_length(stride, source.fs)
    start = np.arange(source.first, source.last - n + 1, step, dtype=np.int64)
    offset = draw_shifts(start, source.first, source.last, n, shift, source.fs, random_state)
    excluded = {"edge": 0, "unlabelled": 0}
    if edge == "annotations":
        first, last = (source.sample[0], source.sample[-1]) if len(source.sample) else (source.last, source.first)
        whole = (start + offset >= first) & (start + offset + n - 1 <= last)
        excluded["edge"] = int((~whole).sum())
        start, offset = start[whole], offset[whole]

    counts = count_beats(beats_inside(source, classes, start + offset, n), classes)
    weighed = counts
    if label == "commonest_abnormal":
        abnormal = np.array([name != normal for name in classes])
        # One normal beat weighs less than any abnormal one, however many there are.
        weighed = np.where(abnormal, counts, np.where(counts > 0, 0.5, 0.0))
    found = counts.any(axis=1)
    excluded["unlabelled"] = int((~found).sum())
    target = np.array(list(classes))[weighed[found].argmax(axis=1)]  # argmax takes the first of equals
    start, offset, counts = start[found], offset[found], counts[found]
    windows = build_windows(
        source,
        n,
        classes,
        excluded,
        f"{window:g} s, stride={step / source.fs:g} s, classes {', '.join(classes)}, label={label!r}; edge={edge!r}, "
        f"shift={shift:g} s",
        target=target,
        sample=start + offset + n // 2,
        start=start + offset,
        shift=offset,
        counts=counts,
    )
    windows.classes = list(classes)
    return windows


def count_beats(beats: Bunch, classes: Mapping[str, str]) -> np.ndarray:
    """Return the beats of each class in each window, (n_samples, n_classes)."""
    of = np.repeat(np.arange(len(beats.offsets) - 1), np.diff(beats.offsets))
    counts = [np.bincount(of[beats.label == name], minlength=len(beats.offsets) - 1) for name in classes]
    return np.stack(counts, axis=1).astype(np.int64)


def truth_masks(
    windows: Mapping[str, Any],
    *,
    kind: str = "span",
    half_width: float = 0.15,
    label: str | Sequence[str] | None = None,
) -> np.ndarray:
    """Mark where the beats of a class lie in each window.

    The masks are a truth for scores of relevance such as :func:`skecg.metrics.pointing_game_score`. State the chance
    level beside every score: it is the share of True.

    Parameters
    ----------
    windows : Bunch
        What :func:`segment_windows` or :func:`segment_beats` returns.
    kind : "span" or "qrs", default="span"
        ``"span"``: the whole beat, from midpoint to midpoint of neighbouring beats; it favours coarse maps.
        ``"qrs"``: the samples at most ``half_width`` from the beat's position; it favours fine ones.
    half_width : float, default=0.15
        For ``"qrs"``, s.
    label : str or sequence of str, default=None
        The class whose beats are marked, one for all windows or one for each; None takes each window's ``target``.

    Returns
    -------
    truth : ndarray of bool, shape (n_samples, n_timesteps)
        Rows of windows without such a beat are False throughout.

    Raises
    ------
    ValueError
        For windows whose beats have no labels, or a parameter out of its range.

    See Also
    --------
    segment_windows : Windows with a label from the beats inside.

    Notes
    -----
    Only beats whose position lies inside the window are marked, not one beyond its end that begins in it. Choose
    windows after the masks were made: ``beats`` does not follow a selection of the other arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from skecg.datasets import segment_beats, truth_masks
    >>> record = {"data": np.zeros((1, 1000)), "fs": 100.0, "sample": [400, 500, 620], "symbol": ["N", "V", "N"]}
    >>> truth = truth_masks(segment_beats(record, classes=["PVC"]))
    >>> truth.shape, truth[0].nonzero()[0][[0, -1]].tolist()
    ((1, 200), [50, 159])
    """
    if not isinstance(windows, Mapping):
        raise TypeError(f"windows must be what segment_windows returns; got a {type(windows).__name__}")
    if lacking := {"beats", "start", "target", "fs", "n_timesteps"} - set(windows):
        raise ValueError(
            f"windows has no {', '.join(sorted(lacking))}: pass what segment_windows, or segment_beats, returns; a "
            f"fetcher's windows do not tell the beats inside"
        )
    check_option("kind", kind, ("span", "qrs"))
    beats, n, start = windows["beats"], windows["n_timesteps"], np.asarray(windows["start"])
    counts = np.diff(beats.offsets)
    if len(counts) != len(start):
        raise ValueError(
            f"windows has beats of {len(counts)} windows and start of {len(start)}: make the masks before windows are "
            f"chosen, then choose among the masks too"
        )
    wanted = np.asarray(windows["target"] if label is None else label)
    if wanted.ndim > 1 or (wanted.ndim and len(wanted) != len(start)):
        raise ValueError(f"label must be one label, or one for each of {len(start)} windows; got {wanted.shape}")
    if len(beats.label) and not (beats.label != "").any():
        raise ValueError("the beats of these windows have no labels: cut with segment_windows or segment_beats")
    of = np.repeat(np.arange(len(start)), counts)
    marked = beats.label == np.broadcast_to(wanted, len(start))[of]
    of = of[marked]
    if kind == "span":
        low, high = beats.span[marked].T
    else:
        half = round(check_number("half_width", half_width, low=0, unit="(s)") * windows["fs"])
        low, high = beats.sample[marked] - half, beats.sample[marked] + half + 1
    # Each beat adds one where it begins and takes it away where it ends: the running sum is above 0 inside.
    edges = np.zeros((len(start), n + 1), dtype=np.int32)
    np.add.at(edges, (of, np.clip(low - start[of], 0, n)), 1)
    np.add.at(edges, (of, np.clip(high - start[of], 0, n)), -1)
    return edges[:, :-1].cumsum(axis=1) > 0
