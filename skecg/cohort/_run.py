"""Blocks to workers and results back, whoever the workers are: joblib's backends, and a Dask cluster."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend

from ..utils._validation import _FILTERS
from ._blocks import Done, Work, run_block
from ._records import Block
from ._ship import Shipment

ROUNDS = 3  # without a single block done, after which dying workers are given up
DEATHS = 5  # of workers while one block was on its way, after which that block is
_AHEAD = 2  # blocks that wait for each worker
_PATIENCE = 60  # s, for Dask workers to come back


class Feed:
    """Blocks that are still to be done; those on their way are kept until they are, for a round that goes on.

    Parameters
    ----------
    blocks : iterator of Block
        Consumed as workers become free, from whatever thread joblib does it in.
    finished : callable
        Returns what an earlier run has left of a block, or None.
    prepare : callable
        Makes of a block what is sent.
    take : callable
        Called with a block and what is left of it, by one thread at a time.
    """

    def __init__(
        self,
        blocks: Iterator[Block],
        finished: Callable[[Block], Done | None],
        prepare: Callable[[Block], Block],
        take: Callable[[Block, Done], None],
    ) -> None:
        self._blocks, self._finished, self._prepare, self._take = blocks, finished, prepare, take
        self._lock = threading.RLock()
        self._again: list[Block] = []
        self._flying: dict[int, Block] = {}
        self._deaths: dict[int, int] = {}
        self._exhausted = False
        self._broke: BaseException | None = None
        self.n_done = 0

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Block:
        with self._lock:
            while True:
                fresh = not self._again
                block = self._fresh() if fresh else self._again.pop(0)
                if block is None:
                    self._exhausted = True
                    raise StopIteration
                left = self._finished(block)
                if left is None:
                    block = self._flying[block.number] = self._prepare(block) if fresh else block
                    return block
                self._take(block, left)
                self.n_done += 1

    def _fresh(self) -> Block | None:
        """Return the next block, None after the last; what the user's generator raises is kept for ``settle``.

        joblib asks for blocks in a thread of its own, where an exception would be lost and the cohort end early.
        """
        try:
            return None if self._broke is not None else next(self._blocks, None)
        except BaseException as error:
            self._broke = error
            return None

    def settle(self) -> None:
        """Raise what stopped the records from coming."""
        if self._broke is not None:
            raise self._broke

    def done(self, result: Done) -> None:
        """Hand over the result of a block."""
        with self._lock:
            block = self._flying.pop(result.number, None)
            if block is not None:
                self._take(block, result)
                self.n_done += 1

    def rewind(self, died: bool) -> bool:
        """Begin a round with what was on its way; False where nothing is left to do."""
        with self._lock:
            self._deaths = {number: self._deaths.get(number, 0) + died for number in self._flying}
            self._again = [self._flying.pop(number) for number in sorted(self._flying)]
            return bool(self._again) or not self._exhausted

    def deadly(self) -> list[str | int]:
        """Return the records of blocks that were on their way whenever a worker died."""
        with self._lock:
            return [name for b in self._again if self._deaths[b.number] >= DEATHS for name in b.names]


class Engine:
    """The workers that joblib's configuration names.

    Parameters
    ----------
    n_jobs : int or None
        As everywhere in scikit-learn.
    """

    def __init__(self, n_jobs: int | None) -> None:
        self.n_jobs = n_jobs
        self.backend, _ = get_active_backend()
        self.dask = type(self.backend).__name__ == "DaskDistributedBackend"
        try:
            self.n_workers = effective_n_jobs(n_jobs)
        except TimeoutError as error:
            raise RuntimeError(f"the Dask cluster has no worker: {error}") from error
        memory = bool(getattr(self.backend, "supports_sharedmem", False))
        self.shared = not self.dask and (memory or self.n_workers == 1)
        name = type(self.backend).__name__
        self.local = self.shared or name in ("LokyBackend", "MultiprocessingBackend")

    def warn_of(self, device: str) -> None:
        """Warn where several processes would share one GPU."""
        if str(device).startswith("cuda") and self.local and not self.shared:
            warnings.warn(
                f"n_jobs={self.n_jobs}: {self.n_workers} processes would share the GPU of this classifier, each with "
                "the whole network: take n_jobs=1, or a Dask cluster with a worker for each GPU",
                UserWarning,
                stacklevel=3,
            )

    def run(self, feed: Feed, work: Work, where: str) -> None:
        """Do all blocks.

        Parameters
        ----------
        feed : Feed
            What is to be done, and who takes the results.
        work : Work
            Sent to each worker once.
        where : str
            What is kept of finished blocks, for the message of an error.
        """
        once = self._run_dask if self.dask else self._run_joblib
        with ExitStack() as stack:
            if self.shared:
                shipment = Shipment(work)
            else:
                folder = None
                if self.local:
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skecg-cohort-")))
                shipment = Shipment.pack(work, folder)
            failed = 0
            while True:
                before = feed.n_done
                error = once(feed, shipment, where)
                feed.settle()
                if not feed.rewind(error is not None):
                    return
                failed = 0 if feed.n_done > before else failed + 1
                deadly = feed.deadly()
                if failed == ROUNDS or deadly:
                    records = f"{DEATHS} times while records {_told(deadly)} were explained"
                    when = records if deadly else "again and again"
                    raise RuntimeError(
                        f"workers died {when} (memory that does not suffice, or a crash of compiled code): "
                        f"{feed.n_done} blocks are done, {where}. The same call goes on; fewer workers, or a smaller "
                        "batch (which begins anew), need less memory"
                    ) from error
                if error is not None:
                    text = "a worker died; going on with the blocks that are not done"
                    warnings.warn(f"{text} ({error})", UserWarning, stacklevel=5)

    def _run_joblib(self, feed: Feed, shipment: Shipment, where: str) -> BaseException | None:
        """Do what is left of the blocks; return the error where worker processes died."""
        as_they_come = (self.shared and self.n_workers == 1) or getattr(
            self.backend, "supports_return_generator", False
        )
        parallel = Parallel(
            self.n_jobs,
            return_as="generator_unordered" if as_they_come else "list",
            batch_size=1,
            pre_dispatch=f"{_AHEAD}*n_jobs",
        )
        results: Any = None
        try:
            results = parallel(delayed(run_block)(shipment, block) for block in feed)
            for result in results:
                feed.done(result)
        except BrokenExecutor as error:
            return error
        finally:
            if hasattr(results, "close"):
                with _FILTERS, warnings.catch_warnings():  # of what is cancelled
                    warnings.simplefilter("ignore")
                    results.close()
        return None

    def _run_dask(self, feed: Feed, shipment: Shipment, where: str) -> BaseException | None:
        """Do what is left of the blocks; return the error where workers died and took the explainer with them.

        The client that joblib's backend holds is asked directly: joblib waits for ever for a task that the scheduler
        has given up, or whose cluster is gone.
        """
        from concurrent.futures import CancelledError

        from distributed import KilledWorker, as_completed
        from distributed.comm import CommClosedError

        client = self.backend.client
        options = dict(getattr(self.backend, "submit_kwargs", {}))
        running: dict[Any, int] = {}

        def told(what: str, error: Any) -> str:
            return f"{what}: {error}. {feed.n_done} blocks are done, {where}; the same call goes on from there"

        try:
            with self.backend.retrieval_context():
                # workers that died take a while to come back
                client.wait_for_workers(1, timeout=max(_PATIENCE, getattr(self.backend, "wait_for_workers_timeout", 0)))
                shipped = client.scatter(shipment, broadcast=True, hash=False)
                results = as_completed(loop=client.loop)
                looked, width = 0.0, 0

                def submit() -> None:
                    nonlocal looked, width
                    if time.monotonic() - looked > 5:  # clusters grow and shrink
                        looked, width = time.monotonic(), max(1, sum(client.ncores().values()))
                    while len(running) < _AHEAD * width:
                        block = next(feed, None)
                        if block is None:
                            return
                        key = f"skecg-cohort-{block.number}-{uuid.uuid4().hex}"
                        future = client.submit(run_block, shipped, block, key=key, pure=False, **options)
                        running[future] = block.number
                        results.add(future)

                submit()
                while running:
                    future = next(results)
                    del running[future]
                    result = future.result()
                    future.release()
                    feed.done(result)
                    submit()
        except KilledWorker as error:
            text = told("the Dask scheduler has given a block up, since workers died of it", error)
            raise RuntimeError(text) from error
        except (CancelledError, TimeoutError, CommClosedError) as error:
            if client.status == "running" and isinstance(error, CancelledError):
                return error
            what = "has no worker" if client.status == "running" else "is gone"
            raise RuntimeError(told(f"the Dask cluster {what} (client {client.status})", repr(error))) from error
        except Exception as error:
            if client.status == "running" or isinstance(error, OSError | ValueError):
                raise
            raise RuntimeError(told(f"the Dask cluster is gone (client {client.status})", repr(error))) from error
        finally:
            with suppress(Exception):
                if running and client.status == "running":
                    client.cancel(list(running))
        return None


def _told(names: list) -> str:
    """Return the first and the last of many names."""
    return ", ".join(map(str, names)) if len(names) <= 3 else f"{names[0]} to {names[-1]}"
