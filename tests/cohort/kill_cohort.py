"""Kill explain_cohort and its workers at random moments, go on, and compare with a run that nobody disturbed.

``python tests/cohort/kill_cohort.py --kills 20 --seed 0`` makes records from noise and spikes and explains them

- undisturbed, by one process, threads, loky and Dask clusters of 1, 2 and 4 processes,
- in processes that are killed with all their workers (SIGKILL to the whole group) at random moments, each time on
  another of these engines, until so many were killed; then to the end,
- on engines whose workers are killed one at a time while the rest goes on.

The relevance, the numbers of each window and all statistics must be the same bits, whoever computed them.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, and in the processes it starts

from skecg import ECGClassifier, RelevanceAggregator, SmoothGrad
from skecg.cohort import explain_cohort
from skecg.cohort._files import BLOCKS
from skecg.utils._files import PART
from tests.tiny import TinyNet

# A server that has imported everything forks each process in no time; it makes no backward pass itself.
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_BATCH = 12  # windows of a block
_FS = 360
_PARTS = ("relevance", "numbers", "statistics")
_NUMBERS = (
    "record", "start", "target", "score", "probability", "classes", "lead_names", "skipped", "n_missing", "doubts",
)  # fmt: skip
_STATISTICS = (
    "columns_", "classes_", "mean_", "interval_", "interval_method_", "effect_size_", "p_value_", "p_adjusted_",
    "n_patients_", "n_records_", "n_control_", "n_windows_", "n_zero_",
)  # fmt: skip


@dataclass(frozen=True)
class Engine:
    """Where the blocks are computed: the backend of joblib, and how many workers."""

    backend: str
    n: int

    def __str__(self) -> str:
        if self.backend == "one":
            return "one process"
        return f"Dask, {self.n} process{'es' * (self.n > 1)}" if self.backend == "dask" else f"{self.backend}, {self.n}"


ENGINES = (
    Engine("one", 1), Engine("threading", 2), Engine("loky", 1), Engine("loky", 2), Engine("dask", 1),
    Engine("dask", 2), Engine("dask", 4),
)  # fmt: skip
# Runs are killed on these in turn; processes of their own take seconds to start, so they are a third of them.
KILLED = tuple(ENGINES[i] for i in (0, 1, 3, 0, 1, 5))


@dataclass
class Case:
    """A line of the table."""

    what: str
    out: str
    n_group: int = 0
    n_worker: int = 0
    n_calls: int = 0
    digests: dict[str, str] = field(default_factory=dict)


def make_records(folder: Path, n: int, seed: int) -> Path:
    """Write n records of two leads and about three windows: noise, spikes, and a gap in one of ten."""
    rng = np.random.default_rng(seed)
    records = 0.1 * rng.standard_normal((n, 2, 3 * 720 + 17))
    records[:, 0, ::300] += 1 + rng.random((n, 1))
    records[::10, 1, 800:850] = np.nan
    path = folder / "records.npy"
    np.save(path, records.astype(np.float32))
    return path


def explained(records: str, out: str, n_samples: int, n_jobs: int | None) -> Any:
    """Explain the records: an explainer that draws random numbers, labels, patients of two records each."""
    torch.manual_seed(0)
    net = TinyNet(2, 720, 3, width=8).eval()
    clf = ECGClassifier.from_module(net, ["A", "B", "C"], n_leads=2, n_timesteps=720, fs=float(_FS), device="cpu")
    signals = np.load(records, mmap_mode="r")
    rows = np.arange(len(signals))
    return explain_cohort(
        SmoothGrad(clf, n_samples=n_samples, batch_size=_BATCH, random_state=0),
        signals,
        y=np.array(["healthy", "ill"])[rows // 2 % 2],
        groups=rows // 2,
        aggregator=RelevanceAggregator(by="lead", control="healthy", fs=float(_FS), random_state=0),
        out=out,
        n_jobs=n_jobs,
        batch=_BATCH,
        stride=1.0,
    )


def digests(result: Any) -> dict[str, str]:
    """Return a digest of each part of a result; NaN of the same bits are the same."""
    made = {name: hashlib.sha256() for name in _PARTS}
    _take(made["relevance"], np.asarray(result.relevance))
    for name in _NUMBERS:
        _take(made["numbers"], result[name])
    for name in _STATISTICS:
        _take(made["statistics"], getattr(result.aggregator, name))
    for name, value in sorted(result.aggregator.exclusions_.items()):
        _take(made["statistics"], name)
        _take(made["statistics"], value)
    return {name: digest.hexdigest() for name, digest in made.items()}


def _take(digest: Any, value: Any) -> None:
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        digest.update(f"{value.dtype.str} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    else:
        digest.update(repr(np.asarray(value).tolist() if isinstance(value, np.ndarray) else value).encode())


@contextlib.contextmanager
def started(engine: Engine) -> Iterator[int]:
    """Make an engine joblib's, and yield ``n_jobs``."""
    with contextlib.ExitStack() as stack:
        if engine.backend == "dask":
            from dask.distributed import Client, LocalCluster

            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=engine.n, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=None
                )
            )
            stack.enter_context(Client(cluster))
        if engine.backend != "one":
            stack.enter_context(joblib.parallel_config(backend=engine.backend))
        yield engine.n


def _work(told: Any, records: str, out: str, n_samples: int, engine: Engine) -> None:
    """Explain in a group of processes of its own, and tell the digests."""
    os.setsid()
    warnings.simplefilter("ignore")
    # what a killed run leaves in the temporary folder goes with the records
    os.environ |= {"OMP_NUM_THREADS": "1", "DASK_LOGGING__DISTRIBUTED": "critical", "TMPDIR": str(Path(records).parent)}
    tempfile.tempdir = None
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # what libraries say of workers that were killed
    told.send("ready")
    try:
        with started(engine) as n_jobs:
            told.send(("done", digests(explained(records, out, n_samples, n_jobs))))
    except Exception as error:
        told.send(("failed", f"{type(error).__name__}: {error}"))
    finally:
        if engine.backend == "loky":  # a process of multiprocessing joins its children before loky lets them go
            get_reusable_executor().shutdown(wait=True)


class Run:
    """A process that explains the cohort."""

    def __init__(self, arguments: list) -> None:
        context = multiprocessing.get_context(_METHOD)
        if _METHOD == "forkserver":
            context.set_forkserver_preload(["tests.cohort.kill_cohort"])
        self.out = Path(arguments[1])
        self.hears, tells = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(tells, *arguments))
        self.process.start()
        tells.close()
        if self._hear() != "ready":
            raise RuntimeError("the process ended before it was ready")

    def _hear(self) -> Any:
        try:
            return self.hears.recv()
        except (EOFError, OSError):
            return None

    def ended(self) -> bool:
        """Whether it has said its last word, or is dead."""
        return self.hears.poll() or not self.process.is_alive()

    def wait_for(self, n_blocks: int, delay: float) -> bool:
        """Wait until so many blocks lie on the disk, and a moment more; return whether it is still at work."""
        while not self.ended() and n_written(self.out) < n_blocks:
            time.sleep(0.002)
        until = time.monotonic() + delay
        while not self.ended() and time.monotonic() < until:
            time.sleep(0.001)
        return not self.ended()

    def kill_all(self) -> None:
        """Kill the process and all its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()

    def kill_worker(self, rng: np.random.Generator) -> bool:
        """Kill one worker; False where there is none."""
        import psutil

        workers = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                line = " ".join(child.cmdline())
                if "popen_loky" in line or "spawn_main" in line:  # neither trackers of resources nor servers
                    workers.append(child.pid)
        if not workers:
            return False
        os.kill(int(rng.choice(sorted(workers))), signal.SIGKILL)
        return True

    def end(self) -> tuple[str, Any]:
        """Return its last word: ("done", digests) or ("failed", reason)."""
        word = self._hear()
        self.process.join()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # workers that it left behind
        return ("failed", "it died") if word is None else word


def n_written(out: Path) -> int:
    """Return how many blocks of an unfinished run lie on the disk."""
    try:
        return sum(name.endswith(".npz") for name in os.listdir(out.with_name(out.name + PART) / BLOCKS))
    except FileNotFoundError:  # not begun, or complete
        return 0


def undisturbed(case: Case, arguments: list) -> Case:
    """Run to the end."""
    word, case.digests = Run(arguments).end()
    if word != "done":
        raise RuntimeError(f"{case.what}: {case.digests}")
    case.n_calls = 1
    return case


def killed(case: Case, arguments: list, kills: int, step: float, rng: Any) -> Case:
    """Kill runs with all their workers, each on another engine, until so many were killed; then run to the end."""
    records, out, _ = arguments
    n_blocks = n_blocks_of(records)
    while case.n_group < kills:
        run = Run([*arguments, KILLED[case.n_calls % len(KILLED)]])
        case.n_calls += 1
        done = n_written(Path(out))
        # so many blocks that enough are left for the kills that follow, and any part of a block more
        most = max(1, (n_blocks - done) // (kills - case.n_group + 1) - 2)
        at_work = run.wait_for(done + int(rng.integers(1, most + 1)), float(rng.uniform(0, step)))
        run.kill_all()
        if at_work:
            case.n_group += 1
        else:  # it was too fast: the kills that are missing are those of another run
            shutil.rmtree(out, ignore_errors=True)
    return _to_the_end(case, [*arguments, KILLED[case.n_calls % len(KILLED)]])


def worker_killed(case: Case, arguments: list, engine: Engine, kills: int, step: float, rng: Any) -> Case:
    """Kill single workers of a run; where it gives up, call it again."""
    records, out, _ = arguments
    n_blocks = n_blocks_of(records)
    while case.n_worker < kills:
        run = Run([*arguments, engine])
        case.n_calls += 1
        while case.n_worker < kills:
            done = n_written(Path(out))
            most = max(1, (n_blocks - done) // (kills - case.n_worker) - 1)
            if not run.wait_for(done + int(rng.integers(1, most + 1)), float(rng.uniform(0, step))):
                break
            case.n_worker += run.kill_worker(rng)
        word, said = run.end()
        if word == "done":
            case.digests = said
            return case
    return _to_the_end(case, [*arguments, engine])


def _to_the_end(case: Case, arguments: list, most: int = 10) -> Case:
    for _ in range(most):
        word, case.digests = Run(arguments).end()
        case.n_calls += 1
        if word == "done":
            return case
    raise RuntimeError(f"{case.what} failed {most} times: {case.digests}")


def n_blocks_of(records: str) -> int:
    """Return the number of blocks of these records."""
    shape = np.load(records, mmap_mode="r").shape
    a_record = (shape[-1] - 720) // _FS + 1
    return -(-shape[0] // -(-_BATCH // a_record))


def kill_cohort(folder: Path, kills: int, n_records: int, n_samples: int, seed: int) -> list[Case]:
    """Return what came out, the undisturbed run of one process first."""
    rng = np.random.default_rng(seed)
    records = str(make_records(folder, n_records, seed))
    n_blocks = n_blocks_of(records)
    if n_blocks < 3 * kills:
        raise ValueError(f"{kills} kills need {3 * kills} blocks; {n_records} records make {n_blocks}")
    cases: list[Case] = []

    def arguments(out: str) -> list:
        return [records, str(folder / f"{len(cases)}{out}"), n_samples]

    start = time.monotonic()
    for engine in ENGINES:
        cases.append(undisturbed(Case(str(engine), ".zarr"), [*arguments(".zarr"), engine]))
        if len(cases) == 1:
            step = (time.monotonic() - start) / n_blocks
        elif engine.backend != "dask":
            cases.append(undisturbed(Case(str(engine), ".npy"), [*arguments(""), engine]))
    for out, n in ((".zarr", kills - kills // 2), ("", kills // 2)):
        what = Case("another engine after each kill", out or ".npy")
        cases.append(killed(what, arguments(out), n, step, rng))
    for engine, out in ((ENGINES[3], ""), (ENGINES[5], ".zarr"), (ENGINES[6], "")):
        what = Case(str(engine), out or ".npy")
        cases.append(worker_killed(what, arguments(out), engine, 4, step, rng))
    complete = str(folder / f"{len(cases) - 1}")  # what is complete is opened
    return [*cases, undisturbed(Case("the last one, opened again", ".npy"), [records, complete, n_samples, ENGINES[0]])]


def table(cases: list[Case]) -> str:
    """Return the table of what came out."""
    first = cases[0].digests
    head = ("engine", "to", "runs killed whole", "workers killed", "calls", "relevance", "numbers", "statistics")
    rows = [head, ("---",) * len(head)]
    for case in cases:
        same = ["same bits" if case.digests[name] == first[name] else "DIFFERENT" for name in _PARTS]
        rows.append((case.what, case.out, str(case.n_group), str(case.n_worker), str(case.n_calls), *same))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Run all and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--records", type=int, default=320)
    parser.add_argument("--samples", type=int, default=16, help="of SmoothGrad: more are slower")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="skecg-"))
    try:
        cases = kill_cohort(folder, args.kills, args.records, args.samples, args.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(cases))
    n_group, n_worker = (sum(getattr(case, name) for case in cases) for name in ("n_group", "n_worker"))
    different = [case.what for case in cases if case.digests != cases[0].digests]
    print(
        f"\n{args.records} records; {n_group} runs killed with all their workers, {n_worker} workers killed alone; "
        f"lines that differ: {', '.join(different) or 'none'}"
    )
    if different or n_group < args.kills:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
