"""What every benchmark row needs: paired CPU times, peak memory in fresh processes, checks of equality, profiles."""

from __future__ import annotations

import cProfile
import gc
import importlib
import io
import os
import pstats
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
_MAXRSS = 1 if sys.platform == "darwin" else 1024  # unit of ru_maxrss, bytes


class Different(AssertionError):
    """Two sides that should do the same work have different results."""


class Skipped(Exception):
    """A row that cannot be measured here, with the reason."""


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Parameters
    ----------
    work : str
        What was done, with sizes and seeds.
    anchor : str
        What it is compared with.
    measured : str
        The figure, and what it is.
    limit : str
        What no code could beat, measured.
    goal : str
        What `measured` should reach.
    met : bool or None
        Whether it does; None where there is no goal.
    notes : tuple of str
        Markdown that stands below the table, such as a profile.
    """

    work: str
    anchor: str = ""
    measured: str = ""
    limit: str = ""
    goal: str = ""
    met: bool | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of the benchmarks: a name, the part of the page it stands in, and the function that measures its lines."""

    name: str
    part: str
    title: str
    measure: Callable[[bool], Iterable[Line]] = field(compare=False)


ROWS: dict[str, Row] = {}


def row(name: str, part: str, title: str) -> Callable[[Callable], Callable]:
    """Register ``measure(quick) -> lines`` as a row."""

    def register(measure: Callable[[bool], Iterable[Line]]) -> Callable[[bool], Iterable[Line]]:
        if name in ROWS:
            raise ValueError(f"row {name} is registered twice")
        ROWS[name] = Row(name, part, title, measure)
        return measure

    return register


# ------------------------------------------------------------------------------------------------------------- times


def paired(*sides: Callable[[], Any], rounds: int = 5, clock: Callable[[], float] = time.process_time) -> np.ndarray:
    """Return the times (rounds, sides) of functions called in turn, A B A B, after a warm-up of one call each.

    The clock is the CPU time of the process: the wall's, on a machine that others use too, moves fivefold.
    """
    for side in sides:
        side()
    times = np.empty((rounds, len(sides)))
    for times_of_round in times:
        for i, side in enumerate(sides):
            gc.collect()  # else one side pays for what the other left behind
            start = clock()
            side()
            times_of_round[i] = clock() - start
    return times


@dataclass(frozen=True)
class Ratio:
    """Median and range of ratios that were measured in pairs."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, above: np.ndarray, below: np.ndarray) -> Ratio:
        """Return the ratio of two sides measured round by round."""
        ratios = np.asarray(above, dtype=float) / np.asarray(below, dtype=float)
        return cls(float(np.median(ratios)), float(ratios.min()), float(ratios.max()), len(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Anchor:
    """What our side is compared with: a name, the function, the least ratio wanted, and how equal the results are."""

    name: str
    run: Callable[[], Any]
    goal: float
    equal: str


def speed(
    work: str,
    ours: Callable[[], Any],
    anchors: Iterable[Anchor],
    *,
    limit: tuple[str, Callable[[], Any]] | None = None,
    quick: bool = False,
) -> Iterator[Line]:
    """Yield the line of ``anchor / ours`` for each anchor, all timed in the same rounds.

    Parameters
    ----------
    work : str
        As in `Line`.
    ours : callable
        Our side; that its result is that of the anchors is checked before.
    anchors : iterable of Anchor
        The other sides.
    limit : (str, callable), default=None
        Name and function of what our side cannot do without.
    quick : bool, default=False
        3 rounds instead of 5, and no profiles.
    """
    anchors = list(anchors)
    sides = [ours, *(anchor.run for anchor in anchors), *([] if limit is None else [limit[1]])]
    times = paired(*sides, rounds=3 if quick else 5).T
    for anchor, other in zip(anchors, times[1:], strict=False):
        ratio = Ratio.of(other, times[0])
        yield Line(
            work=f"{work}; {anchor.equal}",
            anchor=anchor.name,
            measured=f"anchor / ours {ratio}",
            limit="" if limit is None else f"ours / {limit[0]} {Ratio.of(times[0], times[-1])}",
            goal=f">= {anchor.goal:g}",
            met=ratio.median >= anchor.goal,
            notes=shortfall(f"{work}, {anchor.name}", ratio, anchor.goal, ours, quick),
        )


def shortfall(work: str, ratio: Ratio, goal: float, ours: Callable[[], Any], quick: bool) -> tuple[str, ...]:
    """Return the note of a ratio below its goal, with the profile of our side unless ``quick``; none of another."""
    if ratio.median >= goal:
        return ()
    told = f"{work}: {ratio} of {goal:g}."
    return (f"{told} Not profiled, with `--quick`.",) if quick else (f"{told} Our side's profile:\n\n{profile(ours)}",)


# ----------------------------------------------------------------------------------------------------------- results


def same(name: str, ours: Any, anchor: Any, tol: float, scale: Any = None) -> float:
    """Return the largest difference, relative to ``scale``; raise Different where it is beyond ``tol``.

    Parameters
    ----------
    name : str
        What is compared, for the message.
    ours, anchor : array-like
        The two results.
    tol : float
        Largest allowed difference.
    scale : array-like, default=None
        What differences are divided by; None takes the largest absolute value of ``anchor``.
    """
    ours, anchor = np.asarray(ours, dtype=float), np.asarray(anchor, dtype=float)
    if ours.shape != anchor.shape:
        raise Different(f"{name}: ours has the shape {ours.shape}, the anchor {anchor.shape}")
    scale = np.abs(anchor).max() if scale is None else np.asarray(scale, dtype=float)
    if not np.all(scale > 0):
        raise Different(f"{name}: nothing to compare with, the anchor's result is zero")
    worst = float(np.max(np.abs(ours - anchor) / scale))
    if not worst <= tol:  # so that NaN fails too
        raise Different(f"{name}: the results differ by {worst:.3g}, more than {tol:g}")
    return worst


# ------------------------------------------------------------------------------------------------------------ memory


def resident() -> int:
    """Return the memory that this process holds now, bytes; its peak so far where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS


def report_peak(module: str, function: str, *arguments: Any) -> None:
    """Measure in this process, which `peak_memory` started, and write bytes above rest to standard output.

    The function returns (warm-up, work): what the warm-up loads is part of the rest.
    """
    warm_up, work = getattr(importlib.import_module(module), function)(*arguments)
    warm_up()
    gc.collect()
    try:  # Linux: forget the peak of importing, which would hide smaller ones
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass
    rest = resident()
    work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS
    sys.stdout.write(f"peak {max(0, peak - rest)}\n")


def peak_memory(function: str, *arguments: Any) -> float:
    """Return the peak memory above rest, MiB, of ``"module:function"`` in a fresh process.

    Parameters
    ----------
    function : str
        See `report_peak`.
    *arguments : str, int or float
        What it is called with.
    """
    module, name = function.split(":")
    code = f"from {__name__} import report_peak; report_peak({module!r}, {name!r}, *{arguments!r})"
    # Linux hands the peak of a process down to what it starts; one in between, which is small, breaks that chain.
    between = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    out = run_python("-c", between, sys.executable, "-c", code)
    return int(re.findall(r"^peak (\d+)$", out, flags=re.MULTILINE)[-1]) / MIB


def run_python(*arguments: str, **environment: str | None) -> str:
    """Return what a fresh interpreter writes; it finds this tree's packages and starts in a folder of its own.

    Parameters
    ----------
    *arguments : str
        Of the interpreter.
    **environment : str or None
        Variables that are set, or with None removed.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {**os.environ, "PYTHONPATH": path, "MPLBACKEND": "Agg", **environment}
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={name: value for name, value in variables.items() if value is not None},
            capture_output=True,
            text=True,
        )
    if run.returncode:
        raise RuntimeError(f"a fresh interpreter ended with {run.returncode}:\n{run.stderr[-2000:]}")
    return run.stdout


# ---------------------------------------------------------------------------------------------------------- profiles


def profile(function: Callable[[], Any], top: int = 8) -> str:
    """Return, as Markdown, where a function's CPU time goes: torch's operators and Python's functions."""
    parts = [f"{share:5.1%}  {name} ({calls} calls)" for name, share, calls in _functions(function, top)]
    if "torch" in sys.modules:
        operators = [f"{share:5.1%}  {name} ({calls} calls)" for name, share, calls in _operators(function, top)]
        parts = ["torch's operators", *operators, "Python's functions", *parts]
    return "\n".join(["```text", *parts, "```"])


def _functions(function: Callable[[], Any], top: int) -> Iterator[tuple[str, float, int]]:
    profiler = cProfile.Profile(time.process_time)
    profiler.runcall(function)
    stats = pstats.Stats(profiler, stream=io.StringIO())
    entries = sorted(stats.stats.items(), key=lambda item: -item[1][2])  # type: ignore[attr-defined]
    for (file, line, name), (_, calls, own, _, _) in entries[:top]:
        # no folder of the machine's: a file is named from its package on
        where = "" if file == "~" else f"{'/'.join(Path(file).parts[-2:])}:{line} "
        yield f"{where}{name}", own / max(stats.total_tt, 1e-9), calls  # type: ignore[attr-defined]


def _operators(function: Callable[[], Any], top: int) -> Iterator[tuple[str, float, int]]:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    with torch_profile(activities=[ProfilerActivity.CPU]) as profiler:
        function()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = max(sum(event.self_cpu_time_total for event in events), 1e-9)
    for event in events[:top]:
        yield event.key, event.self_cpu_time_total / total, event.count
