"""What a worker does: explains a block of records, aggregates it, writes its relevance, and returns small numbers."""

from __future__ import annotations

import copy
import errno
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from ..explain._base import BaseExplainer, unwrap
from ..explain._provenance import ranges_of, unite_ranges
from ..relevance import RelevanceAggregator
from ..relevance._pack import pack
from ..utils._batching import is_out_of_memory
from ..utils._digest import array_digest
from ..utils._validation import _FILTERS
from ._allocator import kept_memory
from ._check import Indicators
from ._files import Writer
from ._records import BadRecordError, Block
from ._ship import Shipment, one_thread

_MACHINE = {
    errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ETIMEDOUT,
    *(getattr(errno, name) for name in ("ESTALE", "EDQUOT", "EREMOTEIO") if hasattr(errno, name)),
}  # fmt: skip


@dataclass
class Done:
    """What is left of a block: a few numbers a window, and the rows of the aggregator."""

    number: int
    score: np.ndarray  # (n_windows,) float32, NaN where nothing was explained
    probability: np.ndarray  # (n_windows, n_classes) float32, NaN there
    code: np.ndarray  # (n_windows,) int32, position of the class explained; -1 there
    inputs: list[str]  # digest of each record as it was read, "" where it was not
    n_missing: int = 0
    doubts: dict[str, int] = field(default_factory=dict)
    skipped: list[tuple[Any, str]] = field(default_factory=list)
    notes: list[tuple[Any, str]] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    ranges: dict[str, list] = field(default_factory=dict)  # of the method's diagnostics
    facts: dict | None = None  # of the aggregator, as pack has them
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Work:
    """All that the blocks of one cohort have in common.

    Parameters
    ----------
    explainer : explainer
        A copy, with layers by name and without a progress bar.
    aggregator : RelevanceAggregator or None
        Not fitted.
    target : object
        What is explained.
    by_target : bool
        Whether the aggregator's labels are what was explained.
    n, step : int
        Samples of a window, and from window to window.
    digest : str
        Of the whole work.
    seeded : bool
        Whether each block has a seed of its own, since the explainer would draw one.
    writer : Writer or None
        Where relevance goes.
    """

    explainer: BaseExplainer
    aggregator: RelevanceAggregator | None
    target: Any
    by_target: bool
    n: int
    step: int
    digest: str
    seeded: bool
    writer: Writer | None

    def do(self, block: Block) -> Done:
        """Explain a block, and write and return what came of it."""
        classifier = unwrap(self.explainer._fitted())[1]
        done = Done(
            block.number,
            score=np.full(block.size, np.nan, dtype=np.float32),
            probability=np.full((block.size, classifier.n_outputs_), np.nan, dtype=np.float32),
            code=np.full(block.size, -1, dtype=np.int32),
            inputs=[""] * len(block.names),
        )
        explainer = copy.copy(self.explainer)
        if self.seeded:
            explainer.random_state = seed_of(self.digest, block)
        relevance = self._explain(explainer, classifier, block, done)
        if self.writer is not None:
            self.writer.write(block, relevance, done)
        return done

    def _explain(self, explainer: BaseExplainer, classifier: Any, block: Block, done: Done) -> np.ndarray | None:
        """Fill in what is to be known of a block; return its relevance where it will be written."""
        wanted = None
        if self.writer is not None:
            wanted = np.full((block.size, classifier.n_leads_, classifier.n_timesteps_), np.nan, dtype=np.float32)
        read = block.part.open()
        ends = np.cumsum([0, *block.n_windows])
        held: list[tuple[int, np.ndarray, np.ndarray]] = []  # record, its rows, its windows
        for i, name in enumerate(block.names):
            try:
                data, notes = read(i)
                windows = self._cut(data, block.n_windows[i])
                done.inputs[i] = array_digest(data)
            except Exception as error:
                if _of_the_machine(error):
                    raise
                done.skipped.append((name, _reason(error)))
                continue
            done.notes.extend((name, note) for note in notes)
            whole = np.flatnonzero(np.isfinite(windows).all((1, 2)))
            done.n_missing += len(windows) - len(whole)
            if len(whole):
                held.append((i, ends[i] + whole, windows if len(whole) == len(windows) else windows[whole]))
        parts = []
        try:
            parts.append(self._together(explainer, held, block) if held else None)
        except Exception:  # one of them; the others are explained without it
            for record in held:
                try:
                    parts.append(self._together(explainer, [record], block))
                except Exception as error:
                    if _of_the_machine(error):
                        raise
                    done.skipped.append((block.names[record[0]], _reason(error)))
        doubts: Counter = Counter()
        aggregator = None
        for part in parts:
            if part is None:
                continue
            rows, result, found, own, warned = part
            logits = result.logits.astype(np.float64)
            done.score[rows] = result.score
            done.probability[rows] = expit(logits) if classifier.multilabel_ else softmax(logits, axis=1)
            done.code[rows] = (result.target[:, None] == np.asarray(classifier.classes_)).argmax(1)
            doubts.update({text: len(windows) for windows, text in found})
            done.ranges = unite_ranges(done.ranges, ranges_of(result))
            done.warned.extend(text for text in warned if text not in done.warned)
            if wanted is not None:
                wanted[rows] = result.relevance
            if own is not None:
                aggregator = own if aggregator is None else aggregator.merge(own)
        done.doubts = dict(doubts)
        if aggregator is not None:
            done.facts, done.arrays = pack(aggregator)
        return wanted

    def _cut(self, data: np.ndarray, n_windows: int) -> np.ndarray:
        """Return the windows of a record, (n_windows, n_leads, n)."""
        if (data.shape[-1] - self.n) // self.step + 1 != n_windows:
            raise BadRecordError(f"it has {data.shape[-1]} samples, other than when the cohort was planned")
        if data.shape[-1] == self.n:
            return data[None]
        windows = np.lib.stride_tricks.sliding_window_view(data, self.n, axis=1)
        return np.ascontiguousarray(windows[:, :: self.step].transpose(1, 0, 2))

    def _together(self, explainer: BaseExplainer, held: list, block: Block) -> tuple:
        """Explain and aggregate windows of several records in one call."""
        rows = np.concatenate([at for _, at, _ in held])
        X = held[0][2] if len(held) == 1 else np.concatenate([windows for *_, windows in held])
        which = np.repeat([i for i, *_ in held], [len(at) for _, at, _ in held])
        result, doubts = explainer._explain(X, self.target)
        if self.aggregator is None:
            return rows, result, doubts, None, []
        y = result.target if self.by_target else None if block.labels is None else block.labels[which]
        if y is not None and not self.by_target and block.columns is not None:
            y = Indicators(y, block.columns)
        # beats are found in the ECG as it was recorded, unless the network has another time axis
        same = X.shape[2] == result.relevance.shape[2]
        ecg = X if same and (self.aggregator.by != "beat" or X.shape == result.relevance.shape) else result.data
        own = copy.copy(self.aggregator)
        with _FILTERS, warnings.catch_warnings(record=True) as caught:  # told once, when all is done
            warnings.simplefilter("always")
            own.partial_fit(
                result.relevance,
                y,
                ecg=ecg,
                groups=None if block.groups is None else [block.groups[i] for i in which],
                record=[block.names[i] for i in which],
            )
        return rows, result, doubts, own, [_kind(str(w.message)) for w in caught]


def run_block(shipment: Shipment, block: Block) -> Done:
    """Do one block: the task of a worker."""
    with one_thread(), kept_memory():
        return shipment.unpack().do(block)


def seed_of(digest: str, block: Block) -> int:
    """Return a block's seed, the same whoever works on it and whenever."""
    import hashlib

    told = hashlib.sha256(f"{digest}:{block.number}:{block.content}".encode()).hexdigest()
    return int(told[:8], 16) % 2**31


def _of_the_machine(error: Exception) -> bool:
    """Tell an error that is not the record's: it must end the run, which can go on, and never be kept as a result."""
    return is_out_of_memory(error) or (isinstance(error, OSError) and error.errno in _MACHINE)


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {text}"


def _kind(text: str) -> str:
    """Return a warning of the aggregator without the counts, which are those of a block alone."""
    import re

    return re.sub(r"\d+", "some", text)
