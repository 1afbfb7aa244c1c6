"""What comes back from the workers, put together to the result of a cohort."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import Bunch

from ..explain import Provenance
from ..explain._base import BaseExplainer
from ..explain._provenance import unite_ranges
from ..relevance import RelevanceAggregator
from ..relevance._pack import pack, unpack
from ..relevance._rows import _order
from ._blocks import Done
from ._check import Needs
from ._files import Folder

_FIRST = 3  # bad records that a warning names


class Gathered:
    """What is kept of the blocks in this process: a few numbers a window, and the rows of the aggregator."""

    def __init__(self, template: RelevanceAggregator | None) -> None:
        self.template = template
        self.total: RelevanceAggregator | None = None
        self.parts: dict[int, tuple[np.ndarray, ...]] = {}
        self.skipped: dict[int, list] = {}
        self.notes: dict[int, list] = {}
        self.warned: set[str] = set()
        self.doubts: Counter = Counter()
        self.inputs: dict[int, list[str]] = {}
        self.ranges: dict[str, list] = {}
        self.n_missing = 0

    def add(self, done: Done) -> None:
        """Take over a block."""
        self.parts[done.number] = done.score, done.probability, done.code
        self.n_missing += done.n_missing
        self.doubts.update(done.doubts)
        self.warned.update(done.warned)
        self.inputs[done.number] = done.inputs
        self.ranges = unite_ranges(self.ranges, done.ranges)
        if done.skipped:
            self.skipped[done.number] = done.skipped
        if done.notes:
            self.notes[done.number] = done.notes
        if done.facts is not None:
            part = unpack(done.facts, done.arrays)
            self.total = part if self.total is None else self.total.merge(part)

    def finish(self, source: Any, needs: Needs, classifier: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return arrays with a row for each window, and facts; ValueError where nothing was explained."""
        skipped = source.skipped + [pair for number in sorted(self.skipped) for pair in self.skipped[number]]
        if not self.parts:
            refuse_empty(skipped)
        parts = [self.parts[number] for number in sorted(self.parts)]
        score, probability, code = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if (code < 0).all():
            if skipped:
                refuse_empty(skipped)
            raise ValueError("samples are missing (NaN or infinite) in every window: there is nothing to explain")
        counts = source.n_windows
        record = np.repeat(np.arange(len(counts)), counts)
        start = (np.arange(len(record)) - np.repeat(np.cumsum(counts) - counts, counts)) * needs.step
        n_leads = classifier.n_leads_
        named = needs.lead_names is not None and len(needs.lead_names) == n_leads
        facts = {
            "classes": [str(label) for label in classifier.classes_],
            "lead_names": needs.lead_names if named else [str(i) for i in range(n_leads)],
            "fs": needs.fs,
            "records": source.identity,
            "names": list(source.names),
            "skipped": skipped,
            "notes": [pair for number in sorted(self.notes) for pair in self.notes[number]],
            "warned": sorted(self.warned),
            "n_missing": self.n_missing,
            "n_rest": int(needs.n_rest),
            "sha256": self._digest(),
            "ranges": dict(sorted(self.ranges.items())),
            "doubts": dict(sorted(self.doubts.items())),
        }
        return {"record": record, "start": start, "code": code, "score": score, "probability": probability}, facts

    def _digest(self) -> str:
        """Return a digest of all records, in their order, as they were read."""
        digests = [one for number in sorted(self.inputs) for one in self.inputs[number]]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def pack(self) -> tuple[dict, dict] | None:
        """Return the united aggregator, its rows in an order of their own."""
        if self.total is None:
            return None
        rows = self.total._rows
        rows.cells = {key: rows.cells[key] for key in sorted(rows.cells, key=_order)}
        return pack(self.total)


def make_result(
    explainer: BaseExplainer,
    aggregator: RelevanceAggregator | None,
    folder: Folder | None,
    arrays: dict[str, Any],
    facts: dict[str, Any],
    packed: tuple[dict, dict] | None,
    provenance: Provenance,
) -> Bunch:
    """Put the result together, and tell what was odd."""
    digest = provenance["digest"]
    own = None
    if aggregator is not None and packed is not None:
        own = clone(aggregator).merge(unpack(*packed))
        if aggregator.random_state is None:  # so that the same work gives the same intervals, interrupted or not
            own._seed = int(digest[:8], 16) % 2**31
    skipped = [tuple(pair) for pair in facts["skipped"]]
    result = Bunch(
        aggregator=own,
        record=_names(facts["names"])[arrays["record"]],
        start=arrays["start"],
        target=np.array([*facts["classes"], ""])[arrays["code"]],
        score=arrays["score"],
        probability=arrays["probability"],
        relevance=arrays.get("relevance"),
        relevance_kind=explainer.relevance_kind,
        classes=facts["classes"],
        lead_names=facts["lead_names"],
        fs=facts["fs"],
        skipped=skipped,
        n_missing=facts["n_missing"],
        n_rest=facts["n_rest"],
        doubts=facts["doubts"],
        provenance=provenance,
        path=None if folder is None else folder.out,
    )
    _warn(result, facts, type(explainer).__name__)
    return result


def _names(names: list) -> np.ndarray:
    if len({type(name) for name in names}) == 1:
        return np.array(names)
    array = np.empty(len(names), dtype=object)
    array[:] = names
    return array


def _warn(result: Bunch, facts: dict[str, Any], name: str) -> None:
    n = len(result.score)
    texts = []
    if result.skipped:
        told = "; ".join(f"{record}: {reason}" for record, reason in result.skipped[:_FIRST])
        more = f"; and {len(result.skipped) - _FIRST} more" if len(result.skipped) > _FIRST else ""
        texts.append(f"explain_cohort: {len(result.skipped)} records were left out ({told}{more}); see skipped")
    if facts["notes"]:
        record, note = facts["notes"][0]
        texts.append(f"explain_cohort: {len(facts['notes'])} notes on records, such as {record}: {note}")
    if result.n_missing:
        text = f"explain_cohort: samples are missing in {result.n_missing} of {n} windows"
        texts.append(f"{text}, which are left out (NaN)")
    texts += [f"{name}: in {count} of {n} windows {text}" for text, count in result.doubts.items()]
    texts += [f"RelevanceAggregator, of a block: {text}" for text in facts["warned"]]
    for text in texts:
        warnings.warn(text, UserWarning, stacklevel=4)


def refuse_empty(skipped: list[tuple[Any, str]]) -> None:
    if not skipped:
        raise ValueError("records is empty: there is nothing to explain")
    told = "; ".join(f"{name}: {reason}" for name, reason in skipped[:_FIRST])
    raise ValueError(f"none of {len(skipped)} records could be explained ({told})")
