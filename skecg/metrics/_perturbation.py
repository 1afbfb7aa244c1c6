"""Deletion and insertion curves: what becomes of a classifier's score as relevant pieces of the ECG go or come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..utils._validation import check_fs, check_number, check_option, draw_seed, find_fs
from ._replacement import check_replacement, replaced

_ORDERS = ("most", "least", "random", "absolute")


def perturbation_curves(
    estimator: Any,
    X: Any,
    relevance: Any,
    *,
    target: Any = "predicted",
    curve: str = "deletion",
    chunk: float = 0.02,
    replacement: Any = "bridge",
    leads: str = "auto",
    output: str = "probability",
    n_points: int = 21,
    n_random: int = 3,
    batch_size: int = 256,
    fs: float | None = None,
    random_state: Any = None,
) -> Bunch:
    """Score of the target while pieces of the ECG are deleted, or inserted, in the order of their relevance.

    The ECG is cut into chunks, ordered by their mean relevance. Deleted most relevant first (MoRF [1]_), a good
    explanation lets the score fall fast; least relevant first (LeRF), slowly. The area between the two is the
    degradation score. Beside them stand what any explanation must beat: random orders, and the order of abs(x), which
    knows where the ECG is large. No replacement is neutral (a flat line can be evidence of its own, a bridge is a slope
    where a QRS was), so look at several before calling one method better than another.

    Chunks that are equally relevant (a flat map, the zeros of a saturated one) are put in random order, never in that
    of time. Least relevant first is the exact reverse of most relevant first.

    Parameters
    ----------
    estimator : classifier
        Fitted: has ``classes_`` and ``predict_proba`` (or ``decision_function``, by ``output``).
    X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
        What ``estimator`` takes. An explainer around a Pipeline returns the relevance of the network's input, after the
        filters and scalers: pass that input, ``result.data``, and the Pipeline's last step as ``estimator``.
    relevance : array-like of the shape of X
        Relevance, in any unit; only the order of the chunks is read, with its sign: what speaks against the target is
        less relevant than what says nothing.
    target : "predicted", label or array-like of shape (n_samples,), default="predicted"
        The label whose score is followed: that which ``estimator`` predicts for the whole window (with several labels
        the one with the highest score), one for all, or one a window. Pass the target of the explanation.
    curve : {"deletion", "insertion"}, default="deletion"
        Whether chunks are taken from the window, or given to a window that is replaced everywhere.
    chunk : float, default=0.02
        Length of a chunk, s. Single samples would be noise to any network.
    replacement : {"bridge", "isoelectric"}, float or array-like, default="bridge"
        What stands where chunks are deleted: a straight line over the whole run of neighbouring deleted chunks between
        the samples that are left (level at the ends of the window; the lead's mean where none is left); the median of
        window and lead, near the isoelectric line; a number; another window (of the shape of one window of X); or one
        a window (of the shape of X), such as beats of a control at the same phase.
    leads : {"auto", "together", "apart"}, default="auto"
        Whether a chunk reaches over all leads or lies in one. "auto" takes them together where the relevance is the
        same on every lead, as that of a class activation map. Compare methods by curves of one kind.
    output : {"probability", "logit"}, default="probability"
        The score: of ``predict_proba``, or of ``decision_function`` (with two classes, which have one, it is
        taken as negative for the first).
    n_points : int, default=21
        Points of each curve, both ends included; fewer where there are fewer chunks. Beyond the two ends, each point
        takes one pass of X through the estimator for each order, random ones included.
    n_random : int, default=3
        Random orders, whose curves are averaged.
    batch_size : int, default=256
        Windows that are handed to the estimator at a time.
    fs : float, default=None
        Sampling rate of X, Hz; None takes the estimator's.
    random_state : int, RandomState instance or None, default=None
        Seed of the random orders and of the order of equally relevant chunks; a window's do not depend on the windows
        after it.

    Returns
    -------
    result : Bunch
        ``fraction`` (n_points, the share of the chunks that is deleted or inserted); ``most``, ``least``, ``random``,
        ``absolute`` (n_samples, n_points; the score of the target: most and least relevant first, the mean of the
        random orders, the largest abs(x) first); ``area_most``, ``area_least``, ``area_random``, ``area_absolute``
        (n_samples, areas under them); ``degradation`` (n_samples; ``area_least - area_most`` in deletion,
        ``area_most - area_least`` in insertion, so that more is better and chance is 0); ``drop`` (n_samples, the score
        of the whole window less that of the one replaced everywhere);

        ``normalized``, a Bunch of the same curves, areas and degradation from ``(p - p_replaced) / drop``, 1 for the
        whole window and 0 for the one replaced everywhere, with ``n_left_out``, the number of windows that are NaN
        there because the score does not drop. A small drop makes large values of noise: read the areas of the scores
        themselves as well, or leave windows out by ``drop``;

        ``target`` (n_samples, labels), ``n_chunks`` (of a window), ``chunk_length`` (samples), ``leads`` ("together" or
        "apart"), ``curve``, ``output``.

    Raises
    ------
    ValueError
        For relevance that does not fit X, values that are not finite, an unknown target or sampling rate, or a chunk
        that is longer than the window or shorter than a sample.
    TypeError
        For an estimator without the method that ``output`` needs.

    See Also
    --------
    PerturbationScorer : The mean degradation, as a scorer of explainers.
    bootstrap_score : The mean of an area, with its interval over patients.
    skecg.plotting.PerturbationDisplay : Draws the curves.

    References
    ----------
    .. [1] W. Samek, A. Binder, G. Montavon, S. Lapuschkin, K.-R. Mueller, "Evaluating the visualization of what a deep
           neural network has learned", IEEE Transactions on Neural Networks and Learning Systems 28, 2660-2673, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skecg.metrics import perturbation_curves
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(200, 40)), np.arange(200) % 2
    >>> X[y == 1, 10:14] += 1.0
    >>> clf = LogisticRegression().fit(X, y)
    >>> R = np.where(y == 1, 1, -1)[:, None] * clf.coef_ * X  # exact for a linear model
    >>> curves = perturbation_curves(clf, X, R, target=y, fs=100.0, replacement=0.0, random_state=0)
    >>> bool(curves.degradation.mean() > 0.3)
    True
    """
    check_number("n_random", n_random, low=1, integer=True)
    names = ["most", "least", "absolute", *["random"] * n_random]
    found = measure(
        estimator,
        X,
        relevance,
        names,
        target=target,
        curve=curve,
        chunk=chunk,
        replacement=replacement,
        leads=leads,
        output=output,
        n_points=n_points,
        batch_size=batch_size,
        fs=fs,
        random_state=random_state,
    )
    scores, sign = found.pop("scores"), 1 if curve == "deletion" else -1
    curves = {"most": scores[0], "least": scores[1], "random": scores[3:].mean(axis=0), "absolute": scores[2]}
    ends = scores[0][:, [0, -1]][:, ::sign]  # the whole window, the one replaced everywhere
    drop = ends[:, 0] - ends[:, 1]
    falls = drop > 0
    unit = np.where(falls, drop, np.nan)[:, None]
    share = {name: (values - ends[:, 1:]) / unit for name, values in curves.items()}
    normalized = Bunch(**_with_areas(share, found.fraction, sign), n_left_out=int((~falls).sum()))
    return Bunch(**_with_areas(curves, found.fraction, sign), drop=drop, normalized=normalized, **found)


def _with_areas(curves: dict[str, np.ndarray], fraction: np.ndarray, sign: int) -> dict[str, np.ndarray]:
    """Return the curves, the areas under them, and the degradation score."""
    areas = {f"area_{name}": np.trapezoid(curves[name], fraction, axis=-1) for name in _ORDERS}
    return {**curves, **areas, "degradation": sign * (areas["area_least"] - areas["area_most"])}


def measure(
    estimator: Any,
    X: Any,
    relevance: Any,
    names: Sequence[str],
    *,
    target: Any,
    curve: str,
    chunk: float,
    replacement: Any,
    leads: str,
    output: str,
    n_points: int,
    batch_size: int,
    fs: float | None,
    random_state: Any,
) -> Bunch:
    """Return ``scores`` (len(names), n_samples, n_points) for the orders "most", "least", "absolute", "random".

    The other parameters, and what stands beside the scores, are those of :func:`perturbation_curves`.
    """
    check_option("curve", curve, ("deletion", "insertion"))
    check_option("leads", leads, ("auto", "together", "apart"))
    check_number("n_points", n_points, low=2, integer=True)
    check_number("batch_size", batch_size, low=1, integer=True)
    X, relevance = _windows("X", X), _windows("relevance", relevance)
    cube = X if X.ndim == 3 else X[:, None]
    if (relevance if relevance.ndim == 3 else relevance[:, None]).shape != cube.shape:
        raise ValueError(
            f"relevance has shape {relevance.shape}, but X has shape {X.shape}: they must agree. Around a Pipeline the "
            "relevance is that of the network's input: pass the explanation's data as X, and the Pipeline's last step "
            "as estimator"
        )
    relevance = relevance.reshape(cube.shape)
    length = _chunk_length(chunk, check_fs(find_fs(estimator) if fs is None else fs, "chunk"), cube.shape[-1])
    fill = check_replacement(replacement, X.shape)
    if leads == "auto":
        leads = "together" if (relevance == relevance[:, :1]).all() else "apart"
    rows_of = _scores_of(estimator, output, X.ndim)
    places = -(-cube.shape[-1] // length)
    n_chunks = places if leads == "together" else places * cube.shape[1]
    counts = np.unique(np.round(np.linspace(0, n_chunks, n_points)).astype(np.intp))
    index = _positions(estimator, target, X, rows_of, batch_size)
    seed, n = draw_seed(random_state), len(cube)
    scores = np.empty((len(names), n, len(counts)))
    for start in range(0, n, batch_size):
        now = np.arange(start, min(start + batch_size, n))
        x, given = cube[now], fill if fill is None or len(fill) == 1 else fill[now]
        ranks = _ranks(names, relevance[now], x, length, leads, [(seed, i) for i in now.tolist()])

        def score(jobs: list[tuple[int, int]], x=x, given=given, ranks=ranks, now=now) -> np.ndarray:
            """Return the scores (len(jobs), n_rows) of windows at (order, number of chunks) each."""
            before = np.concatenate([ranks[order] < count for order, count in jobs])
            out = before if curve == "deletion" else ~before
            out = _by_sample(out, x.shape, length)
            many = np.tile(x, (len(jobs), 1, 1))
            of_many = given if given is None or len(given) == 1 else np.tile(given, (len(jobs), 1, 1))
            rows = rows_of(replaced(many, out, replacement, of_many))
            return rows[np.arange(len(rows)), np.tile(index[now], len(jobs))].reshape(len(jobs), -1)

        for end in (0, -1):  # the same in every order
            scores[:, now, end] = score([(0, int(counts[end]))])[0]
        jobs = [(order, point) for order in range(len(names)) for point in range(1, len(counts) - 1)]
        step = max(1, batch_size // len(now))
        for first in range(0, len(jobs), step):
            some = jobs[first : first + step]
            values = score([(order, int(counts[point])) for order, point in some])
            for (order, point), value in zip(some, values, strict=True):
                scores[order, now, point] = value
    return Bunch(
        scores=scores,
        fraction=counts / n_chunks,
        target=np.asarray(estimator.classes_)[index],
        n_chunks=n_chunks,
        chunk_length=length,
        leads=leads,
        curve=curve,
        output=output,
    )


def _windows(name: str, values: Any) -> np.ndarray:
    """Return a floating array of windows; integers become float32."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers; got dtype {array.dtype}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(
            f"{name} must be (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), nowhere 0; got shape "
            f"{array.shape}"
        )
    array = array if array.dtype.kind == "f" else array.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{name} is NaN or infinite in window {bad[0]} (and perhaps others): leave such windows out, and count them"
        )
    return array


def _chunk_length(chunk: Any, fs: float, n_timesteps: int) -> int:
    """Return the samples of a chunk."""
    check_number("chunk", chunk, low=0, strict=True, unit="(s)")
    length = round(chunk * fs)
    if not 1 <= length <= n_timesteps:
        wrong = "less than a sample" if length < 1 else f"longer than the window of {n_timesteps} samples"
        raise ValueError(f"chunk={chunk:g} s at fs={fs:g} Hz is {wrong}: pass a chunk between the two")
    return length


def _scores_of(estimator: Any, output: str, ndim: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from windows (n, n_leads, n_timesteps) to the scores (n, n_outputs) of an estimator."""
    check_option("output", output, ("probability", "logit"))
    name = "predict_proba" if output == "probability" else "decision_function"
    if not hasattr(estimator, name):
        raise TypeError(f"output={output!r} needs an estimator with {name}; {type(estimator).__name__} has none")
    if not hasattr(estimator, "classes_"):
        raise ValueError(f"{type(estimator).__name__} has no classes_: pass a fitted classifier")
    method, n_outputs = getattr(estimator, name), len(estimator.classes_)

    def rows_of(windows: np.ndarray) -> np.ndarray:
        rows = np.asarray(method(windows if ndim == 3 else windows[:, 0]))
        if rows.ndim == 1 and n_outputs == 2:
            rows = np.column_stack([-rows, rows])
        if rows.shape != (len(windows), n_outputs):
            raise ValueError(
                f"{name} of {type(estimator).__name__} returned shape {rows.shape} for {len(windows)} windows and "
                f"{n_outputs} classes; expected {(len(windows), n_outputs)}"
            )
        return rows

    return rows_of


def _positions(
    estimator: Any, target: Any, X: np.ndarray, rows_of: Callable[[np.ndarray], np.ndarray], batch_size: int
) -> np.ndarray:
    """Return the position of each window's target in the estimator's classes."""
    n, classes = len(X), np.asarray(estimator.classes_)
    if isinstance(target, str) and target == "predicted":
        parts = [X[start : start + batch_size] for start in range(0, n, batch_size)]
        if hasattr(estimator, "predict"):  # it knows of thresholds
            labels = [np.asarray(estimator.predict(part)) for part in parts]
            if labels[0].ndim == 1:
                target = np.concatenate(labels)
        if isinstance(target, str):  # several labels a window
            cubes = (part if part.ndim == 3 else part[:, None] for part in parts)
            return np.concatenate([rows_of(part).argmax(axis=1) for part in cubes])
    labels = np.asarray(target)
    if labels.ndim == 0:
        labels = np.full(n, labels)
    if labels.shape != (n,):
        raise ValueError(
            f'target must be "predicted", one label or one label a window, shape ({n},); got shape {labels.shape}'
        )
    hit = labels[:, None] == classes
    if not hit.any(axis=1).all():
        unknown = labels[~hit.any(axis=1)].tolist()[0]
        raise ValueError(f"target {unknown!r} is none of the estimator's classes {classes.tolist()}")
    return hit.argmax(axis=1)


def _ranks(
    names: Sequence[str],
    relevance: np.ndarray,
    x: np.ndarray,
    length: int,
    leads: str,
    seeds: Sequence[tuple[int, int]],
) -> list[np.ndarray]:
    """Return for each order the place of every chunk in it, (n, 1 or n_leads, chunks of a lead); 0 comes first."""
    means = _chunk_means(relevance, length, leads)
    shape, n_chunks = means.shape, means[0].size
    # a generator a window, so that neither the batches nor the windows after it change its draws
    draws = np.array([np.random.default_rng(seed).random((2 + names.count("random"), n_chunks)) for seed in seeds])
    most = _places(-means.reshape(-1, n_chunks), draws[:, 0])
    at, ranks = 2, []
    for name in names:
        if name == "random":
            rank, at = _places(draws[:, at], draws[:, at]), at + 1
        elif name == "absolute":
            rank = _places(-_chunk_means(np.abs(x), length, leads).reshape(-1, n_chunks), draws[:, 1])
        else:
            rank = most if name == "most" else n_chunks - 1 - most
        ranks.append(rank.reshape(shape))
    return ranks


def _places(keys: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Return the place of each column in the order of keys, ties by the second."""
    order = np.lexsort((ties, keys))
    places = np.empty(order.shape, dtype=np.intp)
    np.put_along_axis(places, order, np.arange(order.shape[1])[None], axis=1)
    return places


def _chunk_means(values: np.ndarray, length: int, leads: str) -> np.ndarray:
    """Return the mean of each chunk, (n, n_leads or 1 with the leads together, chunks of a lead), float64."""
    values, starts = values.astype(np.float64), np.arange(0, values.shape[-1], length)
    # of differences from the chunk's first value: chunks of one value tie whatever their length
    first = values[:, :1, starts] if leads == "together" else values[..., starts]
    away = values - first[..., np.arange(values.shape[-1]) // length]
    if leads == "together":
        away = away.mean(axis=1, keepdims=True)
    sizes = np.diff(np.append(starts, values.shape[-1]))
    return first + np.add.reduceat(away, starts, axis=-1) / sizes


def _by_sample(chunks: np.ndarray, shape: tuple[int, ...], length: int) -> np.ndarray:
    """Spread a mask of chunks over the samples and leads of windows of this shape."""
    spread = chunks[..., np.arange(shape[-1]) // length]
    return np.broadcast_to(spread, (len(chunks), *shape[1:]))
