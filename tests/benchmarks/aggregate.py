"""Row S11: average beats and sums by wave of many twelve-lead records, in CPU time beside one pass, and in memory."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from skecg.beats import Beats
from skecg.relevance import RelevanceAggregator

from .harness import Line, Ratio, paired, peak_memory, row, same, shortfall

FS = 400.0
SHAPE = 12, 4096
BLOCK = 100  # records in one call of partial_fit
_PARTS = 4  # P, QRS, T and rest: what bincount sums up; the P region would be a second call
_AT = np.rint(np.array([-0.20, -0.15, -0.10, -0.05, 0.05, 0.16, 0.22, 0.30]) * FS)
_DISTINCT = 200  # simulated records; the others are these again


def records(n: int, seed: int = 0) -> tuple[np.ndarray, list[Beats]]:
    """Return relevance (n, 12, 4096), and beats about every 0.75 to 1.05 s with limits that differ by lead."""
    rng = np.random.default_rng(seed)
    beats = []
    for _ in range(n):
        r_peaks = np.arange(150, 3850, rng.integers(300, 420))
        limits = r_peaks[:, None, None] + _AT + rng.integers(-4, 5, (1, SHAPE[0], 1))
        region = np.stack([r_peaks - 100, r_peaks - 32], axis=1)
        every = np.ones(len(r_peaks), dtype=bool)
        beats.append(Beats(r_peaks, FS, limits=limits, typical=every, p_present=True, p_region=region))
    return rng.normal(size=(n, *SHAPE)).astype(np.float32), beats


def aggregated(by: str, R: np.ndarray, beats: list[Beats], n: int) -> RelevanceAggregator:
    """Aggregate n records in blocks: those of R, again and again."""
    aggregator = RelevanceAggregator(by, fs=FS, random_state=0)
    for start in range(0, n, BLOCK):
        k = np.arange(start, min(start + BLOCK, n))
        i = k % len(R)
        block = R[i[0] : i[-1] + 1] if i[-1] - i[0] == len(i) - 1 else R[i]
        aggregator.partial_fit(block, beats=[beats[j] for j in i], record=k)
    return aggregator


def bincounts(R: np.ndarray, beats: list[Beats]) -> np.ndarray:
    """Return means (n, 12, 4) by numpy.bincount lead by lead, the parts painted from the limits."""
    means = np.empty((len(R), SHAPE[0], _PARTS))
    for window, found, out in zip(R, beats, means, strict=True):
        limits, r = found.limits.astype(int), found.r_peaks
        rr = np.diff(r)
        # as RelevanceAggregator documents: 0.35 of an RR interval before the first beat, 0.65 behind the last
        first, last = (np.ceil(r[0] - 0.35 * rr[0]), np.ceil(r[-1] + 0.65 * rr[-1]))
        for lead in range(SHAPE[0]):
            part = np.full(SHAPE[1], _PARTS)
            part[max(int(first), 0) : int(last)] = 3
            for p_on, _, p_off, qrs_on, qrs_off, t_on, _, t_off in limits[:, lead]:
                part[p_on : p_off + 1], part[qrs_on : qrs_off + 1], part[t_on : t_off + 1] = 0, 1, 2
            sums = np.bincount(part, weights=window[lead], minlength=_PARTS + 1)
            out[lead] = (sums / np.bincount(part, minlength=_PARTS + 1))[:_PARTS]
            np.bincount(part, weights=np.abs(window[lead]))  # the total that shares are of
    return means


def epochs(R: np.ndarray, beats: list[Beats]) -> np.ndarray:
    """Return average beats (n, 12, 320) by NeuroKit2's epochs, lead by lead; they end a sample early."""
    import neurokit2

    means = np.empty((len(R), SHAPE[0], 320))
    for window, found, out in zip(R, beats, means, strict=True):
        events = [r for r in found.r_peaks.tolist() if r >= 120 and r + 200 < SHAPE[1]]
        for lead in range(SHAPE[0]):
            cut = neurokit2.epochs_create(window[lead], events, FS, epochs_start=-0.3, epochs_end=0.5)
            out[lead] = np.mean([epoch["Signal"].to_numpy()[:320] for epoch in cut.values()], axis=0)
    return means


def memory_case(by: str, n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return warm-up and work, for a fresh process."""
    R, beats = records(BLOCK)

    def warm_up() -> None:
        aggregated(by, R, beats, BLOCK)

    kept = []

    def work() -> None:
        kept.append(aggregated(by, R, beats, n))

    return warm_up, work


@row("S11", "Speed", "Relevance by beat and by wave, 12 leads")
def aggregation(quick: bool) -> Iterator[Line]:
    n = 100 if quick else 10_000
    R, beats = records(min(n, _DISTINCT))
    yield from _passes(R, beats, n, quick)
    yield _waves(R[:BLOCK], beats[:BLOCK], quick)
    yield _beats(R[:2], beats[:2], quick)
    yield _memory(quick)


def _passes(R: np.ndarray, beats: list[Beats], n: int, quick: bool) -> Iterator[Line]:
    def one_pass() -> None:
        for start in range(0, n, BLOCK):
            i = start % len(R)
            R[i : i + BLOCK].sum(axis=-1, dtype=np.float64)

    for by, goal in (("beat", 5.0), ("wave", 3.0)):

        def ours(by: str = by) -> None:
            aggregated(by, R, beats, n)

        mine, bare = paired(ours, one_pass, rounds=3 if quick else 5).T
        ratio = Ratio.of(mine, bare)
        # goal / measured, so that a shortfall reads as in the other rows
        share = Ratio(goal / ratio.median, goal / ratio.high, goal / ratio.low, ratio.rounds)
        work = f"by {by}, {n:,} records of 12 x 4096, with all checks, in blocks of {BLOCK}"
        yield Line(
            work=work,
            anchor="one pass: sums over time in float64",
            measured=f"ours / pass {ratio}",
            limit="1",
            goal=f"<= {goal:g}",
            met=ratio.median <= goal,
            notes=shortfall(f"{work}, ours / pass {ratio}, goal / measured", share, 1.0, ours, quick),
        )


def _waves(R: np.ndarray, beats: list[Beats], quick: bool) -> Line:
    means = RelevanceAggregator("wave", fs=FS).fit_transform(R, beats=beats).reshape(-1, 12, 5)[..., :_PARTS]
    apart = same("S11, means by wave", means, bincounts(R, beats), 1e-5)
    name = f"numpy.bincount lead by lead, parts painted from the same limits; equal to {apart:.0e}"
    return _ratio("wave", R, beats, name, lambda: bincounts(R, beats), 5, quick)


def _beats(R: np.ndarray, beats: list[Beats], quick: bool) -> Line:
    work = f"by beat, {len(R)} records of 12 x 4096"
    if importlib.util.find_spec("neurokit2") is None:
        return Line(work=work, anchor="neurokit2 epochs, lead by lead", measured="skipped: neurokit2 is not installed")
    means = RelevanceAggregator("beat", fs=FS).fit_transform(R, beats=beats).reshape(-1, 12, 321)
    apart = same("S11, average beats", means[..., :320], epochs(R, beats), 1e-4)
    name = f"neurokit2 epochs, lead by lead; equal to {apart:.0e}"
    return _ratio("beat", R, beats, name, lambda: epochs(R, beats), 1000, quick)


def _ratio(
    by: str, R: np.ndarray, beats: list[Beats], name: str, anchor: Callable, goal: float, quick: bool
) -> Line:
    def ours() -> None:
        aggregated(by, R, beats, len(R))

    mine, other = paired(ours, anchor, rounds=3 if quick else 5).T
    ratio = Ratio.of(other, mine)
    work = f"by {by}, {len(R)} records of 12 x 4096"
    return Line(
        work=work,
        anchor=name,
        measured=f"anchor / ours {ratio}",
        goal=f">= {goal:g}",
        met=ratio.median >= goal,
        notes=shortfall(f"{work}, {name}", ratio, goal, ours, quick),
    )


def _memory(quick: bool) -> Line:
    n, function = (300 if quick else 10_000), f"{__name__}:memory_case"
    n_columns = 12 * 321
    peak = peak_memory(function, "beat", n)
    sums = n * n_columns * 8 / 2**20
    allowed = 1.25 * sums + 64
    return Line(
        work=f"by beat, {n:,} records in blocks of {BLOCK}; peak RSS above rest in a fresh process",
        anchor=f"{n:,} records x {n_columns:,} columns in float64, {sums:.0f} MiB",
        measured=f"{peak:.0f} MiB",
        limit=f"{sums:.0f} MiB",
        goal=f"<= {allowed:.0f} MiB (a quarter more, and 64 MiB for a block)",
        met=peak <= allowed,
        notes=() if peak <= allowed else (f"S11 memory: {peak:.0f} MiB of {allowed:.0f}; {os.cpu_count()} cores.",),
    )
