"""What the parts of ``check_explainers.py`` share: windows and networks, refusals, means with their intervals."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from _protocol import CLASSES, STRIDE, SURE, WIDTH, draw, recognised, trained, windows
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch

from skecg.metrics import bootstrap_score

QUICK_RECORDS = ("106", "119", "203", "208", "209", "223", "100", "200", "213", "221", "222", "228")
QUICK_WIDTH = 2
LARGEST = "232"  # most SVEB beats of DS2 are of this record: the default's figures are told without it too
MEASURES = ("signed", "absolute")


class Networks:
    """The windows of the protocol, and the networks trained on them, each made once.

    Parameters
    ----------
    args : Namespace
        Of the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.ecg = windows(list(QUICK_RECORDS) if args.quick else None, STRIDE)
        n = self.ecg.data.shape[-1]
        self.seconds = n / self.ecg.fs
        self.train = np.flatnonzero(self.ecg.split == "DS1")
        self.tested = np.flatnonzero((self.ecg.split == "DS2") & (self.ecg.start % n == 0))
        self._made: dict[int, Pipeline] = {}

    def __call__(self, seed: int) -> Pipeline:
        """Return the network of a seed."""
        if seed not in self._made:
            self._made[seed] = self.fit(self.ecg, self.train, seed, **({"epochs": 2} if self.args.quick else {}))
        return self._made[seed]

    def fit(self, ecg: Bunch, rows: np.ndarray, seed: int, **settings: int) -> Pipeline:
        """Train a network on these windows, or take it up."""
        args = self.args
        settings |= {"width": QUICK_WIDTH} if args.quick else {}
        return trained(args.network, ecg, rows, seed, work=args.work, device=args.device, **settings)

    def explained(self, seeds: Sequence[int], n: int) -> np.ndarray:
        """Return at most n tested windows that the networks of all these seeds recognise, both classes alike."""
        ecg, rng, parts = self.ecg, np.random.RandomState(seeds[0]), []
        for label in CLASSES[::-1]:  # SVEB first: what they lack is made up by VEB
            rows = self.tested
            for seed in seeds:
                rows = recognised(self(seed), ecg, rows, label, 0.25 if self.args.quick else SURE)
            most = n - len(parts[0]) if parts else n // 2
            parts.append(draw(rows, ecg.groups, most, rng))
        rows = np.concatenate(parts)
        if not len(rows):
            raise ValueError(f"the networks of seeds {list(seeds)} recognise no window of {' or '.join(CLASSES)}")
        return rows

    def told(self, rows: np.ndarray) -> str:
        """Say which windows are explained, with which networks."""
        ecg, parts = self.ecg, []
        for label in CLASSES:
            own = rows[ecg.target[rows] == label]
            parts.append(f"{len(own)} {label} windows of {len(np.unique(ecg.groups[own]))} patients")
        largest, patients = np.isin(ecg.record[rows], LARGEST).sum(), len(np.unique(ecg.groups[rows]))
        return f"{' and '.join(parts)} ({patients} patients in all; {largest} of record {LARGEST})"

    def named(self, seeds: Sequence[int]) -> str:
        """Name the networks."""
        width = QUICK_WIDTH if self.args.quick else WIDTH[self.args.network]
        return f"{self.args.network} of width {width}, seed{'s' if len(seeds) > 1 else ''} {' '.join(map(str, seeds))}"

    def without_largest(self, rows: np.ndarray, verdict: Callable[[np.ndarray], str], name: str) -> str:
        """Repeat a verdict on the windows that are not of the record with most of the SVEB."""
        kept = self.ecg.record[rows] != LARGEST
        return "" if kept.all() or not kept.any() else f"{name} without record {LARGEST}: {verdict(kept)}."


def attempt(name: str, function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Return what a function returns; where an explainer refuses the network, its reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # windows without a map are left out of the means
            return function(*args, **kwargs)
    except ValueError as refused:
        print(f"{name} refused: {refused}", flush=True)
        return str(refused)


def taken(found: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the results of those that took the network, and a line that names the others and why."""
    reasons = [f"{name}: {reason.split('. ')[0]}" for name, reason in found.items() if isinstance(reason, str)]
    own = {name: result for name, result in found.items() if not isinstance(result, str)}
    return own, f"Refused: {'; '.join(reasons)}." if reasons else ""


def mean(values: Any, axis: int | None = None) -> Any:
    """Return the mean of what is not NaN; NaN where all is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.nanmean(values, axis=axis)


def scored(values: np.ndarray, groups: np.ndarray) -> Bunch | None:
    """Return the mean with its interval over patients; None where no window has a value."""
    return bootstrap_score(values, groups) if np.isfinite(values).any() else None


def cell(found: Bunch | None, sign: str = "", by_seed: Iterable[float] = ()) -> str:
    """Return a mean with its interval, or the patients' values where there is none, and the means by seed."""
    if found is None:
        return "no map"
    if np.isfinite(found.low):
        inside = f"{found.low:{sign}.2f} to {found.high:{sign}.2f}"
    else:
        inside = "patients " + " ".join(f"{value:{sign}.2f}" for value in found.values_by_group)
    seeds = [f"{value:{sign}.2f}" for value in by_seed]
    return f"{found.value:{sign}.2f} ({inside}{'; seeds ' + ' '.join(seeds) if len(seeds) > 1 else ''})"
