"""Rows S15 and S15m: a cohort explained and aggregated by one process and by two, and the memory of 10,000 records."""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.utils import Bunch

from skecg import ECGClassifier, GradCAM1D, IntegratedGradients, RelevanceAggregator
from skecg.cohort import explain_cohort
from skecg.datasets import make_ecg

from . import material
from .harness import MIB, Different, Line, Ratio, Skipped, profile, row, run_python

BATCH = 32  # records of a block
_BASE = 512  # simulated records; more repeat them at other amplitudes
_CLASSES = ("N", "PVC", "LBBB", "RBBB")
# loky ends workers that had nothing to do for five minutes, and a round may last as long on a busy machine
_ENGINES: dict[str, dict[str, Any]] = {"dask": {}, "loky": {"idle_worker_timeout": 3600}}
_EVERY = 0.01  # s, between two looks at the memory
_LEAST_FREE = 6e9  # bytes of disk: signals and relevance of 10,000 records


def write_records(folder: Path, n: int) -> Path:
    """Write n simulated records of 12 leads, 10.24 s at 400 Hz (n, 12, 4096), float32 in mV, and return the path."""
    path = folder / f"records_{n}.npy"
    base = make_ecg(
        min(n, _BASE), classes=_CLASSES, n_leads=12, fs=400.0, window=10.24, random_state=0
    ).data
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, *base.shape[1:]))
    for k, first in enumerate(range(0, n, len(base))):
        out[first : first + len(base)] = base[: n - first] * np.float32(1 - 0.02 * k)
    out.flush()
    return path


def labels(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a label and a patient for each record: two records a patient."""
    return np.array(_CLASSES)[np.arange(n) // 2 % len(_CLASSES)], np.arange(n) // 2


def explainer(kind: str, width: int) -> IntegratedGradients | GradCAM1D:
    """Return what the rows explain with."""
    classifier: ECGClassifier = material.ribeiro_classifier(material.ribeiro(width))
    if kind == "gradcam":
        return GradCAM1D(classifier, batch_size=BATCH)
    return IntegratedGradients(classifier, n_steps=8, tol=None, batch_size=BATCH)


def aggregator() -> RelevanceAggregator:
    """Return the aggregator of the rows."""
    return RelevanceAggregator(by="lead", share=True, random_state=0)


def by_hand(kind: str, width: int, path: str, first: int, last: int) -> RelevanceAggregator:
    """Explain and aggregate records as one writes it without explain_cohort, block by block."""
    torch.set_num_threads(1)
    records, (y, groups) = np.load(path, mmap_mode="r"), labels(last)
    made, sums = explainer(kind, width), aggregator()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a worker has none of our filters; by lead, a class activation map warns
        for a in range(first, last, BATCH):
            rows = np.arange(a, min(a + BATCH, last))
            result = made.explain(np.array(records[rows[0] : rows[-1] + 1]))
            sums.partial_fit(result.relevance, y[rows], ecg=result.data, groups=groups[rows], record=rows)
    return sums


def by_cohort(kind: str, width: int, path: Path, n_jobs: int, out: Path | None = None) -> Bunch:
    """Explain and aggregate the records of a file."""
    records = np.load(path, mmap_mode="r")
    y, groups = labels(len(records))
    made = partial(explain_cohort, explainer(kind, width), aggregator=aggregator(), n_jobs=n_jobs, batch=BATCH)
    return made(records, y=y, groups=groups, out=out)


@contextmanager
def two_processes() -> Iterator[Any]:
    """Start a Dask cluster of two processes of one thread each; joblib knows its client within ``dask_engine``."""
    try:
        from dask.distributed import Client, LocalCluster
    except ImportError as error:
        raise Skipped("no dask.distributed (pip install skecg[distributed])") from error
    log, before = logging.getLogger("distributed"), dict(os.environ)
    level = log.level
    os.environ["OMP_NUM_THREADS"] = "1"
    log.setLevel(logging.WARNING)  # it tells of every connection
    try:
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            # its workers' settings of malloc stay in our environment, and would slow loky's workers down
            _restore(before)
            client.run(_start_worker)
            yield client
    finally:
        log.setLevel(level)
        _restore(before)


def _restore(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _start_worker() -> None:
    """Import what a worker needs, which is not measured."""
    import skecg.cohort  # noqa: F401 - its import is what is wanted

    torch.set_num_threads(1)


# ------------------------------------------------------------------------------------------------------------- times


def cpu_time() -> float:
    """Return the CPU time, s, that this process and its workers have used."""
    import psutil  # distributed needs it too

    children = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return time.process_time() + sum(child.user + child.system for child in children)


def both_times(sides: dict[str, Callable[[], None]], rounds: int) -> dict[str, np.ndarray]:
    """Return wall-clock and CPU times (2, rounds) of each side, in turn, after a warm-up of one call each."""
    times = {name: np.empty((2, rounds)) for name in sides}
    for k in range(-1, rounds):
        for name, side in sides.items():
            gc.collect()  # else one side pays for what the other left behind
            wall, cpu = time.perf_counter(), cpu_time()
            side()
            if k >= 0:
                times[name][:, k] = time.perf_counter() - wall, cpu_time() - cpu
    return times


@row("S15", "Speed", "A cohort on two processes")
def speed(quick: bool) -> Iterator[Line]:
    """Measure wall-clock time, and the CPU time of all processes, which another load of the machine does not change."""
    n, width = (64, 2) if quick else (256, 4)
    with tempfile.TemporaryDirectory() as name, two_processes():
        path = write_records(Path(name), n)
        yield from _speed("integrated gradients of 8 points", "integrated", width, path, n, quick, goal=1.7)
        yield from _speed("Grad-CAM, a light block", "gradcam", width, path, n, quick, goal=None)


def _speed(told: str, kind: str, width: int, path: Path, n: int, quick: bool, goal: float | None) -> Iterator[Line]:
    fresh, n_blocks = count(), n // BATCH
    hand = partial(by_hand, kind, width, str(path))
    made: dict[str, Any] = {}

    def on(engine: str, n_jobs: int, write: bool = False) -> Callable[[], None]:
        def side() -> None:
            # a new folder each time: what is there already would be opened
            out = path.with_name(f"{kind}_{next(fresh)}.zarr") if write else None
            with joblib.parallel_config(backend=engine, **_ENGINES[engine]):
                made[f"{engine} {n_jobs}{' zarr' * write}"] = by_cohort(kind, width, path, n_jobs, out)

        return side

    def halves() -> None:
        parts = [(0, n // 2), (n // 2, n)]
        with joblib.parallel_config(backend="loky", **_ENGINES["loky"]):
            made["halves"] = joblib.Parallel(n_jobs=2)(joblib.delayed(hand)(a, b) for a, b in parts)

    def plain() -> None:
        made["plain"] = hand(0, n)

    sides = {
        "one": on("loky", 1), "dask": on("dask", 2), "loky": on("loky", 2), "plain": plain, "halves": halves,
        "one zarr": on("loky", 1, True), "dask zarr": on("dask", 2, True),
    }  # fmt: skip
    both = both_times(sides, rounds=3 if quick else 4)
    times, cpu = ({name: measured[i] for name, measured in both.items()} for i in (0, 1))
    _check_equal(made)
    work = (
        f"{told}, RibeiroNet of width {width}, {n} simulated records of 12 x 4,096 in a memory-mapped file, blocks of "
        f"{BATCH}, RelevanceAggregator by lead; statistics equal to the bit; wall-clock time, workers warm (the import "
        "of torch is not counted), one thread in each"
    )
    limit = f"two bare loops over half each, one loop / both {Ratio.of(times['plain'], times['halves'])}"
    for engine, name in (("dask", "2 processes of a Dask LocalCluster"), ("loky", "2 processes of loky")):
        ratio = Ratio.of(times["one"], times[engine])
        met = None if goal is None else ratio.median >= goal
        extra = _milliseconds(2 * times[engine] - times["plain"], n_blocks)
        busy = _milliseconds(cpu[engine] - cpu["plain"], n_blocks)
        yield Line(
            work=f"{work}; {name}",
            anchor="explain_cohort in one process",
            measured=f"one / two {ratio}; a block costs more than in the loop: {extra} of two processes, {busy} of CPU",
            limit=limit,
            goal="" if goal is None else f">= {goal:g}",
            met=met,
            notes=() if met in (None, True) else (_fell_short(f"{told}, {name}", ratio, goal, sides["one"], quick),),
        )
    extra = _milliseconds(cpu["one"] - cpu["plain"], n_blocks)
    yield Line(
        work=f"{told}, the same in one process, CPU time",
        anchor="a loop over explain and partial_fit by hand",
        measured=f"anchor / ours {Ratio.of(cpu['plain'], cpu['one'])}; a block costs more: {extra}",
        limit=f"a block by hand {np.median(cpu['plain']) / n_blocks:.2f} s",
    )
    extra = _milliseconds(cpu["one zarr"] - cpu["one"], n_blocks)
    yield Line(
        work=f"{told}, the same with relevance written to zarr; 2 processes of a Dask LocalCluster, wall-clock time",
        anchor="explain_cohort in one process, written too",
        measured=f"one / two {Ratio.of(times['one zarr'], times['dask zarr'])}; writing a block: {extra} of CPU",
    )


def _milliseconds(seconds: np.ndarray, n_blocks: int) -> str:
    """Return median and range of the rounds for one block, ms."""
    a_block = 1000 * seconds / n_blocks
    return f"{np.median(a_block):.0f} ms ({a_block.min():.0f} to {a_block.max():.0f})"


def _fell_short(told: str, ratio: Ratio, goal: float, one: Callable[[], None], quick: bool) -> str:
    profiled = "Not profiled, with `--quick`." if quick else f"One process's profile:\n\n{profile(one)}"
    return f"{told}: {ratio} of {goal:g}. {profiled}"


def _check_equal(made: dict[str, Any]) -> None:
    """Raise Different where an engine's statistics are not those of the loop by hand, to the bit."""
    halves = made.pop("halves")
    plain, joined = made.pop("plain"), halves[0].merge(halves[1])
    found = {"two loops": joined, **{name: result.aggregator for name, result in made.items()}}
    for name, sums in found.items():
        for attribute in ("mean_", "interval_", "n_windows_", "n_patients_"):
            # with few records there is no interval, which is NaN in both
            if not np.array_equal(getattr(sums, attribute), getattr(plain, attribute), equal_nan=True):
                raise Different(f"S15: {attribute} of {name} is not, to the bit, that of the bare loop")


# ------------------------------------------------------------------------------------------------------------ memory


def memory_of(pid: int | str) -> dict[str, float]:
    """Return the memory that a process of Linux holds, MiB: "VmRSS", its parts "RssAnon" and "RssFile", and "VmHWM"."""
    found = re.findall(r"^(VmHWM|VmRSS|RssAnon|RssFile):\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    return {name: int(kib) / 1024 for name, kib in found}


class Watch:
    """Looks at the memory of this process and of workers while the block of ``with`` runs.

    Parameters
    ----------
    pids : sequence of int
        Of the workers.
    """

    def __init__(self, pids: list[int]) -> None:
        self.pids = [os.getpid(), *pids]
        self.rest = {pid: memory_of(pid) for pid in self.pids}
        self.peak = {pid: dict(found) for pid, found in self.rest.items()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._stop.wait(_EVERY):
            for pid, peak in self.peak.items():
                for name, value in memory_of(pid).items():
                    peak[name] = max(peak[name], value)

    def __enter__(self) -> Watch:
        for pid in self.pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM begins anew: no peak between two looks is missed
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        for pid in self.pids:
            found = memory_of(pid)
            self.peak[pid]["VmRSS"] = found["VmHWM"]

    def told(self) -> Iterator[str]:
        """Yield a line for this process, and one for the largest of its workers."""
        for who, pids in (("parent", self.pids[:1]), ("worker", self.pids[1:])):
            for name in ("VmRSS", "RssAnon", "RssFile"):
                if pids:
                    peak, rest = (max(found[pid][name] for pid in pids) for found in (self.peak, self.rest))
                    yield f"{who} {name} {peak:.3f} {rest:.3f}"


def report_memory(engine: str, path: str, out: str) -> None:
    """Measure in this process, which the row started, and write peaks and rests, MiB, to standard output."""
    torch.set_num_threads(1)
    if engine == "one":
        _report(1, path, out, [])
        return
    with two_processes() as client, joblib.parallel_config(backend="dask"):
        pids = list(client.run(os.getpid).values())
        _report(2, path, out, pids)


def _report(n_jobs: int, path: str, out: str, pids: list[int]) -> None:
    warnings.simplefilter("ignore")
    records = np.load(path, mmap_mode="r")
    y, groups = labels(len(records))
    clf = material.ribeiro_classifier(material.ribeiro(2))
    made = partial(
        explain_cohort, GradCAM1D(clf, batch_size=BATCH), aggregator=aggregator(), n_jobs=n_jobs, batch=BATCH
    )
    few = 8 * BATCH  # enough for both workers to have had blocks
    made(records[:few], y=y[:few], groups=groups[:few], out=f"{out}_warm.zarr")
    gc.collect()
    with Watch(pids) as watch:
        result = made(records, y=y, groups=groups, out=f"{out}.zarr")
    if int(result.aggregator.n_windows_.sum()) != len(records):
        raise AssertionError("not all records were aggregated")
    sys.stdout.write("\n".join(["", *watch.told(), ""]))


@row("S15m", "Speed", "Memory of a cohort")
def memory(quick: bool) -> Iterator[Line]:
    """Measure a tiny network, so that 10,000 records take a minute: their memory is that of any other."""
    if not Path("/proc/self/clear_refs").exists():
        raise Skipped("the memory of other processes is read from Linux' /proc")
    few, many = (64, 640) if quick else (1000, 10000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        disk = os.statvfs(folder)
        if not quick and disk.f_bavail * disk.f_frsize < _LEAST_FREE:
            raise Skipped(f"less than {_LEAST_FREE / 1e9:g} GB of disk are free")
        paths = {n: write_records(folder, n) for n in (few, many)}
        for engine, told in (("one", "in one process"), ("dask", "on a Dask LocalCluster of 2 processes")):
            yield _memory(engine, told, paths, folder, quick)


def _memory(engine: str, told: str, paths: dict[int, Path], folder: Path, quick: bool) -> Line:
    rounds, (few, many) = 1 if quick else 2, paths
    found: dict[int, list[dict]] = {few: [], many: []}
    for k in range(rounds):
        for n, path in paths.items():
            arguments = (engine, str(path), str(folder / f"{engine}_{n}_{k}"))
            code = f"from {__name__} import report_memory; report_memory(*{arguments!r})"
            lines = re.findall(r"^(\w+ \w+) ([\d.]+) ([\d.]+)$", run_python("-c", code), flags=re.MULTILINE)
            found[n].append({what: (float(peak), float(rest)) for what, peak, rest in lines})
    parts, grown, size = [], [], paths[many].stat().st_size / MIB
    for what in found[few][0]:
        peaks = {n: np.array([of[what][0] for of in measured]) for n, measured in found.items()}
        rests = {n: np.array([of[what][1] for of in measured]) for n, measured in found.items()}
        ratio = Ratio.of(peaks[many], peaks[few])
        if what.endswith("VmRSS"):
            grown.append(ratio.median)
        above = ", ".join(f"{np.median(peaks[n] - rests[n]):.0f}" for n in (few, many))
        parts.append(
            f"{what} {ratio} ({np.median(peaks[few]):.0f} and {np.median(peaks[many]):.0f} MiB; above rest {above})"
        )
    return Line(
        work=(
            f"peak of {many:,} and {few:,} simulated records of 12 x 4,096 in a memory-mapped file, {size:,.0f} MiB of "
            f"signals, {told}; RibeiroNet of width 2, Grad-CAM, written to zarr; fresh processes; VmRSS counts "
            "the mapped pages of files (RssFile), RssAnon does not; the worker is the larger of the two"
        ),
        anchor=f"{few:,} records",
        measured="; ".join(parts),
        limit="1",
        goal="RSS <= 1.1",
        met=max(grown) <= 1.1,
        notes=() if max(grown) <= 1.1 else (f"{told}, {many:,} records over {few:,}: {'; '.join(parts)}.",),
    )
