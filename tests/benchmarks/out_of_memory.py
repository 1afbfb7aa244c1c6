"""Rows S16 and S17: training on windows that stay on disk, in memory that does not grow, and in time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skecg import ECGClassifier
from tests.tiny import TinyNet

from .harness import Line, Ratio, Skipped, paired, peak_memory, row, shortfall

LEADS, TIME = 12, 1000
BATCH = 64
_PIECE = 256  # windows written at once, and in a shard
_ROUNDS = 3
_GROWTH = 1.10


def _labels(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and patients."""
    return np.arange(n) % 3, np.arange(n) // 3 % 50


def written(folder: Path, kind: str, n: int, chunk: int = 1, values: np.ndarray | None = None) -> str:
    """Write n windows of noise, or the values given, piece by piece; return the path."""
    path, shape = folder / f"{kind}_{n}_{chunk}", (n, LEADS, TIME)
    if kind == "npy":
        array: Any = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    else:
        array = _zarr().create_array(
            str(path), shape=shape, dtype="float32", chunks=(chunk, LEADS, TIME), shards=(_PIECE, LEADS, TIME)
        )
    for a in range(0, n, _PIECE):
        b = min(a + _PIECE, n)
        noise = np.random.default_rng(a).standard_normal((b - a, LEADS, TIME), dtype=np.float32)
        array[a:b] = noise if values is None else values[a:b]
    return str(path)


def opened(kind: str, path: str) -> Any:
    """Return the windows as a memory map or a zarr array."""
    return np.load(path, mmap_mode="r") if kind == "npy" else _zarr().open_array(path, mode="r")


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise Skipped("no zarr (pip install skecg[zarr])") from error
    return zarr


def _classifier(epochs: int = 1) -> ECGClassifier:
    return ECGClassifier(
        TinyNet, batch_size=BATCH, max_epochs=epochs, early_stopping=True, device="cpu", random_state=0
    )


def memory_case(kind: str, path: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return warm-up and work, for a fresh process: a fit and a prediction of all windows."""
    torch.set_num_threads(1)

    def work(n: int | None = None) -> None:
        X = opened(kind, path)
        X = X if n is None else np.array(X[:n])
        y, groups = _labels(X.shape[0])
        _classifier().fit(X, y, groups=groups).predict_proba(X)

    return partial(work, 2 * BATCH), work


@row("S16", "Speed", "Training on windows that stay on disk, memory")
def memory(quick: bool) -> Iterator[Line]:
    sizes = [1024 * k for k in ((1, 4) if quick else (1, 4, 16))]
    cases = {"npy": "a memory-mapped .npy file", "zarr": f"a zarr array, a window a chunk, {_PIECE} a shard"}
    for kind, name in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            paths = {n: written(Path(folder), kind, n) for n in sizes}
            rounds = 1 if quick else _ROUNDS
            peaks = np.array(
                [[peak_memory(f"{__name__}:memory_case", kind, path) for path in paths.values()] for _ in range(rounds)]
            )
        whole = sizes[-1] * LEADS * TIME * 4 / 2**20
        growth = Ratio.of(peaks[:, -1], peaks[:, 0])
        # a peak of a few MiB moves by a MiB from run to run, which says nothing of the windows
        flat = growth.median <= _GROWTH or np.median(peaks[:, -1] - peaks[:, 0]) <= 0.02 * whole
        told = ", ".join(f"{n:,} windows {np.median(of):.0f}" for n, of in zip(sizes, peaks.T, strict=True))
        note = f"{name}: {growth} of {_GROWTH:g}; MiB above rest: {told}; all windows are {whole:.0f} MiB."
        yield Line(
            work=(
                f"fit (one epoch, early stopping by groups) and predict_proba on {name} of {LEADS} x {TIME} float32, a "
                f"tiny network; peak RSS above rest in a fresh process, MiB: {told}; {sizes[-1]:,} windows are "
                f"{whole:.0f} MiB"
            ),
            anchor=f"{sizes[0]:,} windows",
            measured=f"{sizes[-1] // sizes[0]} times the windows / anchor {growth}",
            limit="1",
            goal=f"<= {_GROWTH:g}, or growth below 2 % of the windows' size",
            met=bool(flat),
            notes=() if flat else (note,),
        )


@row("S17", "Speed", "Training on windows that stay on disk, time")
def seconds(quick: bool) -> Iterator[Line]:
    n, epochs = (512, 1) if quick else (2048, 3)
    y, groups = _labels(n)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {"memory-mapped .npy file": ("npy", written(folder, "npy", n))}
        X = np.array(opened(*cases["memory-mapped .npy file"]))
        for chunk in (1, 4, 16):
            path = written(folder, "zarr", n, chunk, X)
            cases[f"zarr array, {chunk} windows a chunk, {_PIECE} a shard"] = ("zarr", path)
        sides = [X, *(opened(*case) for case in cases.values())]

        def fit(values: Any) -> ECGClassifier:
            return _classifier(epochs).fit(values, y, groups=groups)

        found = [fit(values).decision_function(X[:BATCH]) for values in sides]
        if not all(np.array_equal(found[0], other) for other in found[1:]):
            raise AssertionError("the networks trained from disk are not the one trained from memory, to the bit")
        times = paired(*(partial(fit, values) for values in sides), rounds=3 if quick else 5).T
        for case, mine in zip(cases, times[1:], strict=True):
            ratio, mapped = Ratio.of(mine, times[0]), case.startswith("memory-mapped")
            share = Ratio(1.15 / ratio.median, 1.15 / ratio.high, 1.15 / ratio.low, ratio.rounds)
            cost = np.median(mine - times[0]) / (n * (epochs + 1)) * 1e3
            again = f"{case}, ours / anchor {ratio}, goal / measured"
            yield Line(
                work=(
                    f"fit on a {case}: {n:,} windows of {LEADS} x {TIME} float32, {epochs} epochs of a tiny network; "
                    "the same weights to the bit"
                ),
                anchor="the same fit on an array in memory",
                measured=f"ours / anchor {ratio}; {cost:.2f} ms more a window read",
                limit="the anchor",
                goal="<= 1.15" if mapped else "",
                met=ratio.median <= 1.15 if mapped else None,
                notes=shortfall(again, share, 1.0, partial(fit, sides[1]), quick) if mapped else (),
            )
