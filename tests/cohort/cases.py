"""A small cohort that the tests of this room share, and a network with traps; importable by name in workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
import wfdb

from skecg import ECGClassifier, RelevanceAggregator
from skecg.explain import Saliency
from tests.tiny import TinyNet

N, FS, MARK = 60, 50.0, 7.0  # samples of a window, Hz, a value in mV that only marked records have
LEADS = ["II", "V1"]
STATISTICS = ("mean_", "interval_", "effect_size_", "p_value_", "p_adjusted_", "n_patients_", "n_windows_", "columns_")


class TrapNet(TinyNet):
    """TinyNet that looks for files in ``folder`` when a mark passes: it fails, is killed, or, at any time, waits."""

    folder: str | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.folder is not None:
            here = Path(self.folder)
            if (here / "wait").exists():
                time.sleep(0.05)
            if bool((x == MARK).any()):
                if (here / "fail").exists():
                    raise RuntimeError("the trap")
                if (here / "kill").exists():
                    (here / "kill").unlink()  # a worker that takes over lives
                    os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


def classifier(folder: Path | str | None = None, n_outputs: int = 3, **kwargs) -> ECGClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = TrapNet(2, N, n_outputs).eval()
    net.folder = None if folder is None else str(folder)
    options = {"n_leads": 2, "n_timesteps": N, "fs": FS, "device": "cpu", **kwargs}
    return ECGClassifier.from_module(net, list("ABCD")[:n_outputs], **options)


def explainer(folder: Path | str | None = None, **kwargs) -> Saliency:
    return Saliency(classifier(folder), **kwargs)


def windows(n: int = 22, seed: int = 0) -> np.ndarray:
    """Return records of one window each, in steps of 1/1000 mV, which WFDB keeps."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-1000, 1000, (n, 2, N)) / np.float32(1000)).astype(np.float32)


def labels(n: int = 22) -> dict:
    return {"y": np.array(["ill", "well"])[np.arange(n) % 2], "groups": np.arange(n) // 4}


def aggregator(by: str = "lead", **kwargs) -> RelevanceAggregator:
    return RelevanceAggregator(by, control="well", n_bootstrap=50, **kwargs)


def write(folder: Path, name: str, record: np.ndarray, fs: float = FS, leads: list[str] = LEADS) -> str:
    """Write a WFDB record of one lead or two."""
    folder.mkdir(parents=True, exist_ok=True)
    n = len(record)
    wfdb.wrsamp(
        name, fs=fs, units=["mV"] * n, sig_name=leads[:n], p_signal=record.T.astype(np.float64), fmt=["16"] * n,
        write_dir=str(folder), adc_gain=[1000.0] * n, baseline=[0] * n,
    )  # fmt: skip
    return str(folder / name)


def same(a, b, relevance: bool = True) -> bool:
    """Tell whether two results agree to the bit, statistics included."""
    names = ("record", "start", "target", "score", "probability")
    pairs = [(a[name], b[name]) for name in names]
    if relevance:
        pairs.append((np.asarray(a.relevance), np.asarray(b.relevance)))
    if a.aggregator is not None:
        pairs += [(getattr(a.aggregator, name), getattr(b.aggregator, name)) for name in STATISTICS]
    return all(_equal(*map(np.asarray, pair)) for pair in pairs)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def die(out: str, trap: str) -> None:
    """Explain the cohort until the trap kills this process: a whole run that is killed."""
    from skecg.cohort import explain_cohort

    X = windows()
    X[13, 0, 3] = MARK
    explain_cohort(explainer(trap), X, aggregator=aggregator(), out=out, batch=4, **labels())


if __name__ == "__main__":
    import sys

    torch.set_num_threads(1)
    die(*sys.argv[1:])
