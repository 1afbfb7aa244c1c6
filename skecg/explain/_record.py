"""Recordings of any length: classified and explained window by window, in bounded memory, resumable."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from scipy.special import expit, softmax
from sklearn.utils import Bunch

from ..classifiers import ECGClassifier
from ..utils._digest import weights_digest
from ..utils._validation import check_number, check_option
from ._base import BaseExplainer, layers_by_name, unwrap
from ._provenance import Provenance, provenance_of, ranges_of, state_digest, told_ranges, unite_ranges
from ._source import Source
from ._store import PROVENANCE, MemoryStore, NpyStore, ZarrStore, import_zarr, read_facts

_BATCHES = 4  # batches in a block, which is what is lost by a kill; more only grow the peak memory
_FORMAT = 3
_SIGNAL = (".hea", ".dat", ".mat")
_NOT_WORK = ("estimator", "verbose")  # neither changes a result; the estimator is told by weights and steps


def explain_record(
    explainer: BaseExplainer,
    record: Any,
    *,
    fs: float | None = None,
    leads: int | str | Sequence[int | str] | None = None,
    stride: float | None = None,
    blend: str = "hann",
    target: Any = None,
    out: str | os.PathLike | None = None,
    annotations: str | os.PathLike | None = None,
    verbose: int = 0,
) -> Bunch:
    """Classify and explain a recording of any length, window by window, to arrays aligned with it.

    Windows of the network's length are taken every ``stride`` seconds, and one at the very end, so that every sample
    is in a window. Where windows overlap, their relevance is averaged with weights. A window in which samples are
    missing (NaN or infinite) is left out and counted. Memory does not grow with the recording where ``out`` is given
    and the record is read from files. Two processes must not write to one ``out`` at a time.

    Parameters
    ----------
    explainer : explainer
        Fitted, or around a fitted estimator.
    record : str, path-like, ndarray of shape (n_timesteps,) or (n_leads, n_timesteps), or mapping
        A WFDB record, by its path without extension, read piece by piece; or an array in mV, memory-mapped ones
        included; or what :func:`~skecg.datasets.read_record` returns.
    fs : float, default=None
        Sampling rate of an array, Hz. For a record it is read; a record at another rate than the classifier's is
        refused.
    leads : int, str or sequence, default=None
        The leads, by position or name, in the order of the network's. None takes the record's first one for a network
        of one lead, and otherwise all.
    stride : float, default=None
        Step from window to window, s; None takes half a window.
    blend : {"hann", "mean"}, default="hann"
        Weights of overlapping windows: a raised cosine, which trusts the middle of a window and leaves no steps at
        its ends, or equal ones.
    target : "predicted" or label, default=None
        What is explained; None takes the explainer's own.
    out : str or path-like, default=None
        A folder for ``.npy`` files, or one whose name ends in ``.zarr`` for a zarr group (extra ``zarr``). It is
        called ``<out>.part`` until it is complete; an interrupted run of the same work goes on from there, to the same
        bits. A complete one is opened. None keeps the arrays in memory.
    annotations : str or path-like, default=None
        A WFDB annotation file to write, such as ``"results/100.skecg"`` (record name, and letters for the annotator):
        a comment with the predicted label where it changes, for other ECG viewers.
    verbose : int, default=0
        Above 0, show one progress bar.

    Returns
    -------
    result : Bunch
        With the attributes:

        relevance : array of shape (n_leads, n_timesteps), float32
            Blended relevance; NaN where no whole window is. A read-only memory map of ``out``, or a zarr array.
        relevance_kind : str
            "signed", "positive" or "cam".
        start : ndarray of shape (n_windows,), int64
            First sample of each window.
        label : ndarray of shape (n_windows,), str
            Predicted class of each window; "" where samples are missing. (Multi-label: the label of the highest
            logit.)
        target : ndarray of shape (n_windows,), str
            What was explained.
        score : array of shape (n_windows,), float32
            Score of the target; NaN where samples are missing.
        probability : array of shape (n_windows, n_classes), float32
            Of each class (multi-label: each label); NaN where samples are missing.
        classes, lead_names : list of str
            Columns of ``probability``, rows of ``relevance``.
        lead_positions : list of int
            Which leads of the record these are.
        fs, window, stride : float
            Hz, s, s.
        record : str
            Name of the record.
        n_missing : int
            Windows left out.
        doubts : dict of int
            Windows whose explanation is empty or doubtful, by the reason.
        provenance : Provenance
            How the result was made; ``provenance.json`` in ``out``.
        path : pathlib.Path or None
            Where the arrays lie.

    Raises
    ------
    ValueError
        For a record that does not fit the network (sampling rate, leads, length), or an ``out`` that holds other work.

    Warns
    -----
    UserWarning
        One for each reason, with the number of windows that are doubtful or left out.

    See Also
    --------
    skecg.datasets.read_record : Reads a record, or a part of it.

    Examples
    --------
    >>> from skecg import ECGClassifier, GradCAM1D
    >>> from skecg.datasets import make_ecg
    >>> from skecg.explain import explain_record
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> recording = ecg.data[:10].reshape(-1)  # 20 s
    >>> result = explain_record(GradCAM1D(clf), recording, fs=360, stride=1.0)
    >>> result.relevance.shape, result.probability.shape
    ((1, 7200), (19, 2))
    """
    if not isinstance(explainer, BaseExplainer):
        raise TypeError(f"explainer must be one of skecg.explain's; got a {type(explainer).__name__}")
    check_option("blend", blend, ("hann", "mean"))
    annotations = None if annotations is None else _check_annotations(Path(annotations).expanduser())
    explainer._check_parameters()
    before, classifier = unwrap(explainer._fitted())
    explainer._given_target(classifier, 1, explainer.target if target is None else target)
    explainer._by_window(classifier, 1)  # refuses what is given by window
    source = Source(record, fs, leads, classifier.n_leads_)
    known = explainer.fs if explainer.fs is not None else classifier.fs
    if known is not None and not np.isclose(known, source.fs):
        raise ValueError(
            f"record {source.name} has {source.fs:g} Hz, the network was trained at {known:g} Hz: resample the record "
            "first (skecg.preprocessing.Resampler)"
        )
    n = classifier.n_timesteps_
    step = n // 2 if stride is None else round(check_number("stride", stride, low=0, strict=True) * source.fs)
    if not 1 <= step <= n:
        raise ValueError(
            f"stride must be at least one sample and at most a window of {n / source.fs:g} s; got {stride!r}"
        )
    if source.length < n:
        raise ValueError(f"record {source.name} has {source.length} samples, a window has {n}: it is too short")
    start = np.arange(0, source.length - n + 1, step)
    if start[-1] + n < source.length:
        start = np.append(start, source.length - n)

    quiet = layers_by_name(explainer)  # a copy: the user's own keeps its progress bar
    parameters = quiet.get_params(deep=False)
    quiet.verbose, quiet.fs = 0, source.fs
    work = {
        "format": _FORMAT,
        "explainer": type(explainer).__name__,
        "parameters": {k: _told(v) for k, v in parameters.items() if k not in _NOT_WORK},
        "network": repr(classifier.module_),
        "weights": weights_digest(classifier.module_),
        "classes": [[type(label).__name__, str(label)] for label in classifier.classes_],
        "multilabel": bool(classifier.multilabel_),
        "cut": np.asarray(classifier._cut()).tolist(),
        "steps": [state_digest(step) for steps in before for _, step in steps.steps],  # what they learned included
        "target": repr(explainer.target if target is None else target),
        "record": source.identity(),
        "window": n,
        "stride": step,
        "blend": blend,
    }
    digest = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()
    if not isinstance(parameters.get("random_state", 0), Integral):
        # windows that two blocks share, and blocks after an interruption, must see the same noise
        quiet.random_state = int(digest[:8], 16) % 2**31
    facts = {
        "format": _FORMAT,
        "digest": digest,
        "relevance_kind": explainer.relevance_kind,
        "classes": [str(label) for label in classifier.classes_],
        "lead_names": source.lead_names,
        "lead_positions": source.positions,
        "fs": source.fs,
        "window": n / source.fs,
        "stride": step / source.fs,
        "record": source.name,
        "work": work,
    }
    path = None if out is None else Path(out).expanduser()
    if path is not None and path.exists():
        found = read_facts(path)
        if found.get("digest") != digest:
            raise ValueError(
                f"{path} holds the result of another record, explainer or other settings (a record whose files were "
                "changed or copied since counts as another): delete it or pass another out"
            )
        arrays, facts = _kind(path).load(path), found
        provenance = Provenance.from_json(path / PROVENANCE)
    else:
        shapes = {
            "relevance": ((classifier.n_leads_, source.length), np.float32),
            "probability": ((len(start), classifier.n_outputs_), np.float32),
            "score": ((len(start),), np.float32),
            "code": ((len(start), 2), np.int32),  # predicted, explained; -1 where samples are missing
        }
        if path is None:
            store: Any = MemoryStore(shapes)
        else:
            if path.suffix == ".zarr":
                import_zarr()
            store = _kind(path)(path, shapes, digest)
        block = _BATCHES * explainer.batch_size
        counts, ranges = _run(quiet, classifier, source, start, n, block, blend, target, store, bool(verbose))
        facts["doubts"] = dict(counts)
        explained = np.array(store.arrays["code"])[:, 1]  # a copy: no file stays mapped
        provenance = provenance_of(
            explainer,
            function="explain_record",
            given=source.told(),
            target=explainer.target if target is None else target,
            labels=classifier.classes_[explained[explained >= 0]],
            diagnostics={
                **told_ranges(ranges),
                "doubts": facts["doubts"],
                "n_missing": int((explained < 0).sum()),
            },
            seed=getattr(quiet, "random_state", None),
            stride=facts["stride"],
            blend=blend,
            digest=digest,
        )
        arrays = store.finish(facts, provenance)

    classes = np.array([*facts["classes"], ""])
    code = np.asarray(arrays["code"])
    result = Bunch(
        relevance=arrays["relevance"],
        relevance_kind=facts["relevance_kind"],
        start=start,
        label=classes[code[:, 0]],
        target=classes[code[:, 1]],
        score=arrays["score"],
        probability=arrays["probability"],
        classes=facts["classes"],
        lead_names=facts["lead_names"],
        lead_positions=facts["lead_positions"],
        fs=facts["fs"],
        window=facts["window"],
        stride=facts["stride"],
        record=facts["record"],
        n_missing=int((code[:, 0] < 0).sum()),
        doubts=facts["doubts"],
        provenance=provenance,
        path=path,
    )
    _warn(result, type(explainer).__name__)
    if annotations is not None:
        _annotate(result, annotations)
    return result


def _told(value: Any) -> Any:
    """Return a parameter as it goes into the digest of the work: arrays whole, since their repr is abbreviated."""
    if isinstance(value, Mapping):
        return {str(key): _told(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_told(part) for part in value]
    if isinstance(value, np.ndarray) or torch.is_tensor(value):
        return joblib.hash(np.asarray(value.detach().cpu() if torch.is_tensor(value) else value))
    return repr(value)


def _run(
    explainer: BaseExplainer,
    classifier: ECGClassifier,
    source: Source,
    start: np.ndarray,
    n: int,
    block: int,
    blend: str,
    target: Any,
    store: Any,
    verbose: bool,
) -> tuple[Counter, dict[str, list]]:
    """Explain block by block; a block's windows and batches are the same whether or not a run was interrupted."""
    from tqdm.auto import tqdm

    weight = np.ones(n) if blend == "mean" else np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
    state, counts, ranges = store.state(), Counter(), {}
    first, tail, mass = 0, np.zeros((classifier.n_leads_, 0)), np.zeros(0)
    if state is not None:
        first, tail, mass = int(state["windows"]), state["tail"], state["mass"]
        counts.update(json.loads(str(state["counts"])))
        ranges = json.loads(str(state["ranges"]))
    with tqdm(total=len(start), initial=first, desc="explaining", unit="window", disable=not verbose) as bar:
        for i in range(first, len(start), block):
            rows = start[i : i + block]
            a, b = int(rows[0]), int(rows[-1]) + n
            final = int(start[i + block]) if i + block < len(start) else b
            signal = source.read(a, b)
            total, sums = np.zeros((len(signal), b - a)), np.zeros(b - a)
            total[:, : tail.shape[1]], sums[: len(mass)] = tail, mass
            windows = np.lib.stride_tricks.sliding_window_view(signal, n, axis=1)[:, rows - a].transpose(1, 0, 2)
            whole = np.flatnonzero(np.isfinite(windows).all((1, 2)))
            probability = np.full((len(rows), classifier.n_outputs_), np.nan, dtype=np.float32)
            score, code = np.full(len(rows), np.nan, dtype=np.float32), np.full((len(rows), 2), -1, dtype=np.int32)
            if len(whole):
                relevance, score[whole], probability[whole], code[whole], doubts, found = _explain_block(
                    explainer, classifier, np.ascontiguousarray(windows[whole] if len(whole) < len(rows) else windows),
                    target,
                )
                counts.update(doubts)
                ranges = unite_ranges(ranges, found)
                for row, values in zip(whole, relevance, strict=True):
                    if not np.isfinite(values).all():
                        continue  # it would take its neighbours' relevance with it
                    at = slice(int(rows[row]) - a, int(rows[row]) - a + n)
                    total[:, at] += weight * values
                    sums[at] += weight
            done = final - a
            with np.errstate(invalid="ignore", divide="ignore"):
                store.write("relevance", a, (total[:, :done] / sums[:done]).astype(np.float32), axis=1)
            for name, values in (("probability", probability), ("score", score), ("code", code)):
                store.write(name, i, values, axis=0)
            tail, mass = total[:, done:].copy(), sums[done:].copy()
            told = {"counts": np.array(json.dumps(counts)), "ranges": np.array(json.dumps(ranges))}
            store.commit({"windows": np.array(i + len(rows)), "tail": tail, "mass": mass, **told})
            bar.update(len(rows))
    return counts, ranges


def _explain_block(
    explainer: BaseExplainer, classifier: ECGClassifier, X: np.ndarray, target: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, int], dict[str, list]]:
    """Return relevance, score, probabilities, codes (predicted, explained), doubtful windows, and ranges."""
    result, doubts = explainer._explain(X, target)
    if result.relevance.shape[-1] != X.shape[-1]:
        raise ValueError(
            f"the steps before the network turn windows of {X.shape[-1]} samples into {result.relevance.shape[-1]}, so "
            "relevance cannot be aligned with the record: resample the record first, and explain without that step"
        )
    logits = result.logits.astype(np.float64)
    probability = expit(logits) if classifier.multilabel_ else softmax(logits, axis=1)
    predicted = np.where(np.isnan(logits), -np.inf, logits).argmax(1)
    if classifier.n_outputs_ == 2 and not classifier.multilabel_:  # two classes obey the threshold
        predicted = (logits[:, 1] - logits[:, 0] > float(classifier._cut())).astype(int)
    explained = (result.target[:, None] == np.asarray(classifier.classes_)).argmax(1)
    counts = {text: len(rows) for rows, text in doubts}
    return result.relevance, result.score, probability, np.stack([predicted, explained], 1), counts, ranges_of(result)


def _kind(path: Path) -> Callable:
    return ZarrStore if path.suffix == ".zarr" else NpyStore


def _warn(result: Bunch, name: str) -> None:
    n = len(result.start)
    if result.n_missing:
        text = f"explain_record: samples are missing in {result.n_missing} of {n} windows of record {result.record!r}"
        warnings.warn(f"{text}, which are left out (NaN)", UserWarning, stacklevel=3)
    for text, count in result.doubts.items():
        warnings.warn(f"{name}: in {count} of {n} windows {text}", UserWarning, stacklevel=3)


def _check_annotations(path: Path) -> Path:
    """Return the path of an annotation file; ValueError where it cannot be one or would replace a file of a record."""
    if not re.fullmatch(r"[-\w]+", path.stem) or not re.fullmatch(r"\.[a-zA-Z]+", path.suffix):
        raise ValueError(
            f"annotations must be a path such as 'results/100.skecg': a record's name of letters, digits, '-' and '_', "
            f"and an extension of letters alone; got {path}"
        )
    if path.suffix in (".atr", ".dat", ".hea", ".mat", ".qrs"):
        raise ValueError(f"annotations={path} would replace a file of the record: take an extension such as .skecg")
    return path


def _annotate(result: Bunch, path: Path) -> None:
    """Write a comment with the predicted label wherever it changes."""
    import wfdb

    name, annotator = path.stem, path.suffix[1:]
    label = np.where(result.label == "", "?", result.label)
    change = np.flatnonzero(np.concatenate(([True], label[1:] != label[:-1])))
    # a label stands for the middle of its window, for that is where the weights of the blend are
    half = round(result.window * result.fs / 2)
    # the very first stands at sample 1: readers take notes at sample 0 for definitions of the format
    sample = np.where(change == 0, 1, result.start[change] + half)
    path.parent.mkdir(parents=True, exist_ok=True)
    wfdb.wrann(
        name,
        annotator,
        sample.astype(np.int64),
        symbol=['"'] * len(change),
        aux_note=[str(text) for text in label[change]],
        fs=result.fs,
        write_dir=str(path.parent),
    )
