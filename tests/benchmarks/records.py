"""Row S12: a day of ECG explained window by window, in CPU time beside the forward pass, and in memory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import softmax
from sklearn.utils import Bunch

from skecg import GradCAM1D
from skecg.datasets import fetch_physionet, read_record
from skecg.explain import explain_record

from . import material
from .harness import Line, Ratio, Skipped, paired, peak_memory, row, same, shortfall

WIDTH = 2
FS = 360
WINDOW = 720
BATCH = 64  # of GradCAM1D, and of the forward pass
_FRAME = 3  # bytes: format 212 packs the samples of two leads into three
_CHECKED = 256  # windows at the beginning whose relevance is compared


def tiled(folder: Path, hours: float) -> Path:
    """Write a WFDB record of so many hours, the records of MIT-BIH one after the other, and return its path.

    They are all of one format, gain and baseline, so that their bytes are copied as they are.
    """
    try:
        paths = fetch_physionet("mitdb", download_if_missing=False, verbose=0).paths
    except OSError as error:
        raise Skipped("no MIT-BIH records (set SKECG_DATA to their folder)") from error
    n = round(hours * 3600 * FS)
    left, path = n * _FRAME, folder / f"tiled_{n}"
    with open(path.with_suffix(".dat"), "wb") as out:
        for record in cycle(sorted(paths)):
            left -= out.write(record.with_suffix(".dat").read_bytes()[:left])
            if not left:
                break
    # neither initial value nor checksum nor name: what stands in a header is compared
    path.with_suffix(".hea").write_text(f"{path.name} 2 {FS} {n}\n" + f"{path.name}.dat 212 200 11 1024\n" * 2)
    return path


def windows_of(path: Path, n: int) -> np.ndarray:
    """Return the windows of the first lead (n_windows, WINDOW), a view of float32, read piece by piece."""
    signal, piece = np.empty(n, np.float32), 600 * FS
    for a in range(0, n, piece):
        signal[a : a + piece] = read_record(path, leads=0, sampfrom=a, sampto=min(a + piece, n)).data[0]
    return sliding_window_view(signal, WINDOW)


def explained(path: str | Path, out: Path) -> Bunch:
    """Explain a record into a folder of .npy files."""
    explainer = GradCAM1D(material.classifier(material.network(WIDTH)), method="gradcam", batch_size=BATCH)
    return explain_record(explainer, path, out=out)


def memory_case(path: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return warm-up and work, for a fresh process."""
    torch.set_num_threads(1)
    folder = tempfile.TemporaryDirectory()

    def warm_up() -> None:
        piece = read_record(path, leads=0, sampto=2 * WINDOW)
        network = material.classifier(material.network(WIDTH))
        explain_record(GradCAM1D(network, method="gradcam", batch_size=BATCH), piece)

    def work() -> None:
        explained(path, Path(folder.name) / "out")

    return warm_up, work


@row("S12", "Speed", "A day of ECG, Grad-CAM")
def day(quick: bool) -> Iterator[Line]:
    short, long = (1.0, 3.0) if quick else (1.0, 24.0)
    timed = short if quick else long
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {hours: tiled(folder, hours) for hours in (short, long)}
        yield _time(paths[timed], timed, folder / "out", quick)
        yield _memory(paths, quick)


def _time(path: Path, hours: float, out: Path, quick: bool) -> Line:
    n, net = round(hours * 3600 * FS), material.network(WIDTH)
    windows = windows_of(path, n)
    start = np.arange(0, n - WINDOW + 1, WINDOW // 2)
    logits = np.empty((len(start), len(material.CLASSES)), np.float32)

    def ours() -> None:
        shutil.rmtree(out, ignore_errors=True)  # a finished result would be opened
        explained(path, out)

    def forward() -> None:
        with torch.no_grad():
            for i in range(0, len(start), BATCH):
                logits[i : i + BATCH] = net(torch.from_numpy(windows[start[i : i + BATCH], None])).numpy()

    mine, bare = paired(ours, forward, rounds=3 if quick else 5).T
    ratio = Ratio.of(mine, bare)
    result = explained(path, out)
    if not np.array_equal(result.start, start):
        raise AssertionError("the windows of explain_record are not those of the forward pass")
    apart = same("S12, probabilities", result.probability, softmax(logits.astype(float), axis=1), 1e-4, scale=1.0)
    blended = same("S12, relevance", result.relevance[0, WINDOW // 2 : _CHECKED * WINDOW // 2], _blended(windows), 1e-3)
    work = (
        f"{hours:g} h of mitdb's records, tiled to one WFDB record of {FS} Hz; ECGNet width {WIDTH}, {len(start):,} "
        f"windows of 2 s, half overlapping, batches of {BATCH}, to .npy files; probabilities equal to {apart:.0e}, "
        f"relevance of the first {_CHECKED} windows to {blended:.0e}"
    )
    # goal / measured, so that a shortfall reads as in the other rows
    share = Ratio(1.25 / ratio.median, 1.25 / ratio.high, 1.25 / ratio.low, ratio.rounds)
    return Line(
        work=work,
        anchor="a loop of forward passes without gradients over the same windows in memory",
        measured=f"ours / anchor {ratio}",
        limit="the anchor",
        goal="<= 1.25",
        met=ratio.median <= 1.25,
        notes=shortfall(f"{hours:g} h, ours / forward {ratio}, goal / measured", share, 1.0, ours, quick),
    )


def _blended(windows: np.ndarray) -> np.ndarray:
    """Return the relevance of the first windows, blended here: half overlapping raised cosines add up to one."""
    half = WINDOW // 2
    first = np.ascontiguousarray(windows[: _CHECKED * half : half, None])
    explainer = GradCAM1D(material.classifier(material.network(WIDTH)), method="gradcam", batch_size=BATCH)
    weighted = explainer.explain(first).relevance[:, 0] * np.sin(np.pi * (np.arange(WINDOW) + 0.5) / WINDOW) ** 2
    return (weighted[1:, :half] + weighted[:-1, half:]).ravel()


def _memory(paths: dict[float, Path], quick: bool) -> Line:
    function, (short, long) = f"{__name__}:memory_case", paths
    peaks = np.array([[peak_memory(function, str(path)) for path in paths.values()] for _ in range(1 if quick else 5)])
    growth = Ratio.of(peaks[:, 1], peaks[:, 0])
    told = ", ".join(f"{hours:g} h {np.median(of):.1f}" for hours, of in zip(paths, peaks.T, strict=True))
    met = growth.median <= 1.05
    note = f"Peak memory of {long:g} h over that of {short:g} h: {growth} of 1.05; MiB above rest: {told}."
    return Line(
        work=f"the same, {long:g} h and the first {short:g} h; peak RSS above rest in a fresh process, MiB: {told}",
        anchor=f"the first {short:g} h",
        measured=f"{long:g} h / {short:g} h {growth}",
        limit="1",
        goal="<= 1.05",
        met=met,
        notes=() if met else (note,),
    )
