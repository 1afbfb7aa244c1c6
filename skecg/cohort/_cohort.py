"""explain_cohort: any number of records explained and aggregated by blocks, on one machine or many."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from numbers import Integral
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.utils import Bunch

from ..explain import Provenance
from ..explain._base import BaseExplainer, layers_by_name, unwrap
from ..explain._provenance import provenance_of, state_digest, told_ranges
from ..explain._record import _told
from ..explain._store import PROVENANCE
from ..relevance import RelevanceAggregator
from ..utils._digest import weights_digest
from ..utils._validation import _FILTERS, check_number, check_option
from ._blocks import Done, Work
from ._check import Indicators, Needs, Notes
from ._files import SPOOL, Folder
from ._gather import Gathered, make_result, refuse_empty
from ._records import Block, SpoolPart
from ._run import Engine, Feed
from ._ship import one_thread
from ._sources import Source, make_source
from ._stream import Stream, put_down

_FORMAT = 1
_NOT_WORK = ("estimator", "verbose")  # neither changes a result; the estimator is told by weights and steps
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explain_cohort(
    explainer: BaseExplainer,
    records: Any,
    *,
    y: Any = None,
    groups: Any = None,
    names: Any = None,
    aggregator: RelevanceAggregator | None = None,
    out: str | os.PathLike | None = None,
    n_jobs: int | None = None,
    batch: int = 64,
    on_error: str = "warn",
    fs: float | None = None,
    leads: int | str | Sequence[int | str] | None = None,
    stride: float | None = None,
    target: Any = None,
    verbose: int = 0,
) -> Bunch:
    """Explain and aggregate any number of records, on one machine or many.

    Records are taken in blocks of whole records. Each block is explained, written and aggregated by one worker, which
    gets paths and slices and returns a few numbers; the parts of the aggregator are united exactly. So memory does not
    grow with the cohort, and the results are the same bits for any number of workers, in any order, interrupted or
    not. Where the workers are is joblib's business: ``n_jobs`` processes here, or, inside
    ``joblib.parallel_config(backend="dask")``, those of a Dask cluster (extra ``distributed``).

    A record as long as the explainer's input is one window; a longer one is cut, its last part left out where it is no
    whole window. A record that cannot be read or does not fit costs nothing but itself.

    Parameters
    ----------
    explainer : explainer
        Fitted, or around a fitted estimator. Left as found.
    records : sequence of paths, str or path-like, array, or iterable
        Paths of WFDB records, without extension. Or one path: of a folder, such as a fetcher's data home, all of whose
        records are taken; of a ``.npy`` file; of a zarr array. Or an array of shape (n_records, n_timesteps) or
        (n_records, n_leads, n_timesteps), mV: in memory, memory-mapped, of zarr or of dask (a slice of which is
        computed where it is explained). Or any iterable, consumed as workers become free, of paths, arrays of shape
        (n_leads, n_timesteps), or mappings with ``data`` (either) and, where wanted, ``fs``, ``lead_names``,
        ``record``, ``target`` (the label) and ``groups`` (the patient).
    y : array-like of shape (n_records,) or (n_records, n_labels), or "target", default=None
        Labels for the aggregator, or indicators (a DataFrame names them). "target": each window's label is what was
        explained of it.
    groups : array-like of shape (n_records,), default=None
        Patients, for the aggregator.
    names : array-like of shape (n_records,), default=None
        Names of the records, each its own. None takes paths as they were given, in a folder relative to it, and
        otherwise positions.
    aggregator : RelevanceAggregator, default=None
        What is learned of the relevance; a clone is fitted. With None as its ``random_state`` the seed is derived from
        the work, so that a second call gives the same intervals.
    out : str or path-like, default=None
        Where relevance goes: a folder with ``relevance.npy``, or, where the name ends in ``.zarr``, a zarr group (extra
        ``zarr``). It is called ``<out>.part`` until it is complete; the same call goes on from an interrupted one, and
        opens a complete one. None keeps no relevance. Two calls must not write to one ``out`` at a time.
    n_jobs : int, default=None
        Workers, as in scikit-learn: None is 1 unless joblib is configured otherwise, -1 all cores. Each works in one
        thread, since sums in several differ in their last bits from machine to machine.
    batch : int, default=64
        Windows of a block, at least; a block ends with a record. A worker holds one block, and so a whole record.
    on_error : "warn" or "raise", default="warn"
        A bad record is listed in ``skipped`` and told of in one warning at the end, or is a ValueError at once.
    fs : float, default=None
        Sampling rate of the records, Hz. None takes that of the first step before the network that has one, else the
        explainer's or the classifier's, else the first record's. A record with another one is a bad record.
    leads : int, str or sequence, default=None
        The leads of each record, by position or (not of arrays) by name. None takes the first one where the explainer
        wants one, and otherwise all. A record whose leads have other names than the first one's is a bad record.
    stride : float, default=None
        Step from window to window in a record that is longer than one, s; None takes a window's length.
    target : "predicted" or label, default=None
        What is explained; None takes the explainer's own.
    verbose : int, default=0
        Above 0, show one progress bar.

    Returns
    -------
    result : Bunch
        With the attributes below. Records that could be planned, but not read or explained, and windows in which
        samples are missing keep their rows, with "" as target and NaN.

        aggregator : RelevanceAggregator or None
            A fitted clone.
        record : ndarray of shape (n_windows,)
            Name of the record of each window.
        start : ndarray of shape (n_windows,), int64
            Its first sample in the record.
        target : ndarray of shape (n_windows,), str
            What was explained.
        score : ndarray of shape (n_windows,), float32
            Score of the target.
        probability : ndarray of shape (n_windows, n_classes), float32
            Of each class (multi-label: each label).
        relevance : array of shape (n_windows, n_leads, n_timesteps), float32, or None
            Of the network's input: a read-only memory map, or a zarr array; None without ``out``.
        relevance_kind : str
            "signed", "positive" or "cam".
        classes, lead_names : list of str
            Columns of ``probability``, leads of ``relevance``.
        fs : float or None
            Sampling rate of the records, Hz, where it is known. ``start`` counts their samples; ``relevance`` has the
            network's rate, which is another after a Resampler.
        skipped : list of (record, reason)
            Bad records.
        n_missing : int
            Windows left out since samples are missing.
        n_rest : int
            Records whose last part is no whole window.
        doubts : dict of int
            Windows whose explanation is empty or doubtful, by the reason.
        provenance : Provenance
            How all this was made; in ``out`` as ``provenance.json``.
        path : pathlib.Path or None
            ``out``.

    Raises
    ------
    ValueError
        For no records, or none that can be explained; y, groups or names of another length; a name that is there
        twice; an ``out`` that holds something else, which is left as it is; with ``on_error="raise"`` a bad record.
    RuntimeError
        Where workers die again and again, or a Dask cluster goes away. What is done is kept in ``out``.
    OSError
        Where the disk is full. What is done is kept in ``out``.

    Warns
    -----
    UserWarning
        Once, at the end: of bad records, of windows that are left out, of doubtful explanations.

    See Also
    --------
    skecg.explain.explain_record : One recording of any length, with relevance aligned to it.
    skecg.relevance.RelevanceAggregator : What is learned of the relevance of a cohort.

    Notes
    -----
    Blocks depend on the records and on ``batch`` alone. Float32 kernels choose their path by the shape of a batch, so
    another ``batch`` gives the same numbers to 1e-5 relative; the same one, the same bits on one kind of machine. An
    explainer that draws noise and has no int as ``random_state`` gets a seed for each block, derived from the work.

    What tells an interrupted run of the same work from another: weights, steps and parameters, labels, names, and of
    the records the sizes and times of their files, or a digest of arrays in memory. So files that were copied count as
    others.

    Examples
    --------
    >>> from skecg import ECGClassifier, GradCAM1D, RelevanceAggregator, make_ecg
    >>> from skecg.cohort import explain_cohort
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> cohort = explain_cohort(
    ...     GradCAM1D(clf, target="PVC"), ecg.data, y=ecg.target, aggregator=RelevanceAggregator("record")
    ... )
    >>> cohort.score.shape, cohort.aggregator.classes_
    ((40,), array(['N', 'PVC'], dtype='<U3'))
    """
    check_option("on_error", on_error, ("warn", "raise"))
    check_number("batch", batch, low=1, integer=True, unit="(windows)")
    if not isinstance(explainer, BaseExplainer):
        raise TypeError(f"explainer must be one of skecg.explain's; got a {type(explainer).__name__}")
    if aggregator is not None and type(aggregator) is not RelevanceAggregator:
        raise TypeError(f"aggregator must be a RelevanceAggregator; got a {type(aggregator).__name__}")
    explainer._check_parameters()
    classifier = unwrap(explainer._fitted())[1]
    rule = explainer.target if target is None else target
    explainer._given_target(classifier, 1, rule)
    explainer._by_window(classifier, 1)  # refuses what is given by window
    path = None if out is None else Path(out).expanduser()
    if path is not None and not path.name:
        raise ValueError(f"out must name a folder, such as 'cohort.zarr'; got {str(out)!r}")
    notes, needs = Notes(y, groups, names), Needs(explainer, fs, leads, stride)
    strict = on_error == "raise"
    template = None if aggregator is None else clone(aggregator).set_params(random_state=0)

    engine = Engine(n_jobs)
    engine.warn_of(classifier.device_)
    source: Any = make_source(records, notes, needs, strict=strict)
    if not isinstance(source, Source):
        if path is not None and path.suffix != ".zarr":
            raise ValueError(
                f"out={str(out)!r} would hold a .npy file, whose length must be known before: for records that come "
                "one by one pass an out whose name ends in .zarr"
            )
        source = Stream(source, needs, notes, strict)
        source.begin()
    elif not len(source.n_windows):
        refuse_empty(source.skipped)
    if template is not None:
        _check_aggregator(template, classifier, notes, source, needs)

    quiet = layers_by_name(explainer)  # a copy: the user's own keeps its progress bar
    quiet.verbose = 0
    if quiet.fs is None and classifier.fs is None:
        quiet.fs = needs.fs if needs.network_fs is None else needs.network_fs
    parameters = quiet.get_params(deep=False)
    work_facts = _facts(explainer, parameters, rule, template, notes, needs, source.identity, int(batch))
    digest = hashlib.sha256(json.dumps(work_facts, sort_keys=True).encode()).hexdigest()
    folder = None if path is None else Folder(path, digest)
    if folder is not None and folder.finished():
        if isinstance(source, Stream):
            folder.compare(source.contents(int(batch), notes))
        return make_result(explainer, aggregator, folder, *folder.load(), Provenance.from_json(path / PROVENANCE))

    seeded = not isinstance(parameters.get("random_state", 0), Integral)
    gathered = Gathered(template)
    with ExitStack() as stack:
        try:
            _do(source, notes, needs, engine, folder, gathered, stack, classifier, batch=int(batch), strict=strict,
                verbose=verbose, work={
                    "explainer": quiet, "aggregator": template, "target": target, "by_target": notes.by_target,
                    "n": needs.n, "step": needs.step, "digest": digest, "seeded": seeded,
                })  # fmt: skip
            arrays, facts = gathered.finish(source, needs, classifier)
            with one_thread():
                provenance = provenance_of(
                    explainer,
                    function="explain_cohort",
                    given={"records": facts["records"], "n_records": len(source.names), "fs": needs.fs,
                           "leads": facts["lead_names"], "sha256": facts["sha256"]},
                    target=rule,
                    labels=classifier.classes_[arrays["code"][arrays["code"] >= 0]],
                    diagnostics={**told_ranges(facts["ranges"]), "doubts": facts["doubts"],
                                 "n_missing": facts["n_missing"], "n_skipped": len(facts["skipped"])},
                    seed="one for each block, from the digest" if seeded else parameters.get("random_state"),
                    window=needs.n, stride=needs.step, batch=int(batch), digest=digest,
                    aggregator=None if aggregator is None else aggregator.get_params(deep=False),
                )  # fmt: skip
            packed = gathered.pack()
            if folder is not None:
                folder.finish(arrays, facts, packed, provenance)
                arrays, facts, packed = folder.load()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise _disk_full(error, folder) from error
    return make_result(explainer, aggregator, folder, arrays, facts, packed, provenance)


def _do(
    source: Any,
    notes: Notes,
    needs: Needs,
    engine: Engine,
    folder: Folder | None,
    gathered: Gathered,
    stack: ExitStack,
    classifier: Any,
    *,
    batch: int,
    strict: bool,
    verbose: int,
    work: dict[str, Any],
) -> None:
    """Do all blocks that are not done."""
    from tqdm.auto import tqdm

    writer, where = None, "and lost, since there is no out"
    if folder is not None:
        known = isinstance(source, Source)
        sizes = np.diff([*(first for *_, first in source.cuts(batch)), source.n_windows.sum()]) if known else None
        n_windows = int(source.n_windows.sum()) if known else 0
        writer = folder.begin((n_windows, classifier.n_leads_, classifier.n_timesteps_), sizes)
        where = f"and kept in {folder.part}"
    spool = None
    if not engine.shared:
        if folder is None:
            spool = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skecg-cohort-")))
        else:
            spool = folder.part / SPOOL
            spool.mkdir(exist_ok=True)
            stack.callback(shutil.rmtree, spool, ignore_errors=True)
        if isinstance(source, Source):
            source.put_down(spool)
    total = int(source.n_windows.sum()) if isinstance(source, Source) else None
    bar = stack.enter_context(tqdm(total=total, desc="explaining", unit="window", disable=not verbose))

    def prepare(block: Block) -> Block:
        if isinstance(source, Stream):
            if folder is not None:
                folder.grow(block.first + block.size)
            if spool is not None:
                return put_down(block, spool)
        return block

    def take(block: Block, done: Done) -> None:
        if strict and done.skipped:
            name, reason = done.skipped[0]
            raise ValueError(f"record {name}: {reason}")
        gathered.add(done)
        if isinstance(block.part, SpoolPart):
            Path(block.part.path).unlink(missing_ok=True)
        bar.update(block.size)

    finished = (lambda block: None) if folder is None else folder.state
    feed = Feed(source.blocks(batch, notes), finished, prepare, take)
    engine.run(feed, Work(**work, writer=writer), where)


def _facts(
    explainer: BaseExplainer,
    parameters: dict[str, Any],
    rule: Any,
    template: RelevanceAggregator | None,
    notes: Notes,
    needs: Needs,
    identity: Any,
    batch: int,
) -> dict[str, Any]:
    """Return all that a result depends on: what a folder must agree in to be gone on with."""
    before, classifier = unwrap(explainer._fitted())
    return {
        "format": _FORMAT,
        "explainer": type(explainer).__name__,
        "parameters": {k: _told(v) for k, v in parameters.items() if k not in _NOT_WORK},
        "network": repr(classifier.module_),
        "weights": weights_digest(classifier.module_),
        "classes": [[type(label).__name__, str(label)] for label in classifier.classes_],
        "multilabel": bool(classifier.multilabel_),
        "cut": np.asarray(classifier._cut()).tolist(),
        "steps": [state_digest(step) for steps in before for _, step in steps.steps],
        "target": repr(rule),
        "records": identity,
        "notes": joblib.hash((notes.labels, notes.columns, notes.by_target, notes.groups, notes.names)),
        "leads": [repr(needs.leads), needs.lead_names],
        "fs": needs.fs,
        "window": needs.n,
        "stride": needs.step,
        "batch": batch,
        "aggregator": None if template is None else repr(template._kind()),
    }


def _check_aggregator(
    template: RelevanceAggregator, classifier: Any, notes: Notes, source: Any, needs: Needs
) -> None:
    """Raise now what an aggregator would say of its first block after hours: wrong names, rates, labels."""
    rate = needs.fs if needs.network_fs is None else needs.network_fs
    if template.fs is not None and rate is not None and not np.isclose(template.fs, rate):
        raise ValueError(
            f"the aggregator has fs={template.fs!r}, but relevance is at the network's {rate:g} Hz: set "
            f"RelevanceAggregator(fs={rate:g})"
        )
    labels = notes.labels
    y = classifier.classes_[:1] if notes.by_target else None if labels is None else labels[:1]
    if labels is not None and notes.columns is not None:
        y = Indicators(y, notes.columns)
    nothing = np.zeros((1, classifier.n_leads_, classifier.n_timesteps_), dtype=np.float32)
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = template._part(nothing, y, nothing, None, notes.groups and notes.groups[:1], ["a record"])
    control = template.control
    if control is None or (isinstance(source, Stream) and labels is None and not notes.by_target):
        return
    if y is None:
        raise ValueError(f"control={control!r} needs labels: pass y")
    known = part._rows.classes() if notes.columns is not None or labels is None or labels.ndim == 2 else None
    known = classifier.classes_.tolist() if notes.by_target else known or np.unique(labels).tolist()
    if control not in known:
        raise ValueError(f"control must be one of the classes, {known}; got {control!r}")


def _disk_full(error: OSError, folder: Folder | None) -> OSError:
    """Return an error that names the place and what is free there."""
    if folder is None:
        place = tempfile.gettempdir()
        free, kept = shutil.disk_usage(place).free, "give out, or set TMPDIR to a larger disk"
    else:
        place, free = folder.out, folder.free()
        kept = "the blocks that are done are kept: make room, and the same call goes on"
    if error.errno == errno.EFBIG:
        text = f"{os.strerror(error.errno)} while writing to {place}: the system allows no larger one; {kept}"
    else:
        text = f"{os.strerror(error.errno)} while writing to {place} ({free / 1e6:,.1f} MB are free there); {kept}"
    return OSError(error.errno, text)
