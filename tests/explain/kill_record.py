"""Kill explain_record at random moments, go on, and compare with a run that nobody disturbed.

``python tests/explain/kill_record.py --kills 50`` makes a long recording from noise and spikes, explains it in a
process that is killed (SIGKILL) at random moments until it has been killed so often, and then to its end; the arrays
must be those of an undisturbed run, bit for bit. The same is done with a training that writes checkpoints.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, and in the processes it starts

from skecg.classifiers import ECGClassifier, RandomShift, _checkpoints
from skecg.explain import GradCAM1D, _store, explain_record
from tests.tiny import TinyNet, toy_ecg

# A server that has imported everything forks each process in no time; it makes no backward pass itself.
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def _explain(told: Any, out: str, record: str, width: int) -> None:
    """Explain a recording, and tell of each block."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    real = _store.NpyStore.commit
    _store.NpyStore.commit = lambda self, state: (real(self, state), told.send("step"))
    torch.manual_seed(0)
    net = TinyNet(1, 720, 3, width=width).eval()
    clf = ECGClassifier.from_module(net, ["A", "B", "C"], n_leads=1, n_timesteps=720, fs=360.0, device="cpu")
    told.send("ready")
    explain_record(GradCAM1D(clf, batch_size=16), np.load(record, mmap_mode="r"), fs=360.0, out=out)
    told.send("done")


def _fit(told: Any, out: str, folder: str, epochs: int) -> None:
    """Train, and tell of each epoch."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    real = _checkpoints.Checkpoints._write
    _checkpoints.Checkpoints._write = lambda self, net: (real(self, net), told.send("step"))
    X, y, groups, _ = toy_ecg(n=600)
    clf = ECGClassifier(
        TinyNet, module__dropout=0.3, lr=0.01, max_epochs=epochs, batch_size=16, random_state=3, device="cpu",
        augment=RandomShift(0.05, fs=100), early_stopping=True, n_iter_no_change=epochs, checkpoint_dir=folder,
    )  # fmt: skip
    told.send("ready")
    clf.fit(X, y, groups=groups)
    np.savez(out, **{k: v.numpy() for k, v in clf.module_.state_dict().items()})
    told.send("done")


def run(work: Any, arguments: list, steps: int | None = None, delay: float = 0.0) -> tuple[bool, int, float]:
    """Do the work in a process, and kill it so many seconds after so many of its steps (None: never).

    Returns
    -------
    done : bool
        Whether it came to its end.
    n_steps : int
        Steps it told of.
    seconds : float
        From its first word to its last.
    """
    context = multiprocessing.get_context(_METHOD)
    if _METHOD == "forkserver":
        context.set_forkserver_preload(["tests.explain.kill_record"])
    hears, tells = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(tells, *arguments))
    process.start()
    tells.close()
    if _hear(hears) != "ready":
        raise RuntimeError("the process ended before it was ready")
    started, seen = time.monotonic(), []
    while steps is None or len(seen) < steps:
        word = _hear(hears)
        if word is None:
            break
        seen.append(word)
    if steps is not None:
        time.sleep(delay)
        process.kill()
    while (word := _hear(hears)) is not None:
        seen.append(word)
    process.join()
    return process.exitcode == 0 and seen[-1] == "done", seen.count("step"), time.monotonic() - started


def _hear(pipe: Any) -> str | None:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


def disturbed(work: Any, arguments: list, kills: int, n_steps: int, step: float, rng: np.random.Generator) -> int:
    """Kill the work at random moments until it was killed so often, then let it end; return kills in its midst."""
    done, left = 0, n_steps
    while done < kills:
        # so many steps that enough is left for the kills that follow, and any part of a step more
        most = max(0, left // (kills - done) - 1)
        ended, made, _ = run(work, arguments, int(rng.integers(0, most + 1)), float(rng.uniform(0, step)))
        left -= made
        if ended or left <= 0:
            break
        done += 1
    if not run(work, arguments)[0]:
        raise RuntimeError("the last run, which nobody killed, failed")
    return done


def same_files(a: Path, b: Path) -> list[str]:
    """Return the names of .npy files that differ between two folders."""
    names = sorted(p.name for p in a.glob("*.npy"))
    if names != sorted(p.name for p in b.glob("*.npy")):
        return ["the folders hold different files"]
    return [name for name in names if (a / name).read_bytes() != (b / name).read_bytes()]


def kill_record(folder: Path, kills: int, minutes: float, width: int, seed: int) -> tuple[int, list[str]]:
    """Return the number of kills and the arrays that differ."""
    rng = np.random.default_rng(seed)
    n = round(minutes * 60 * 360)
    signal_ = 0.05 * rng.standard_normal(n)
    signal_[:: 300] += 1
    signal_[n // 3 : n // 3 + 500] = np.nan
    np.save(folder / "record.npy", signal_.astype(np.float32))
    arguments = [str(folder / "record.npy"), width]
    _, n_steps, seconds = run(_explain, [str(folder / "whole"), *arguments])
    done = disturbed(_explain, [str(folder / "killed"), *arguments], kills, n_steps, seconds / n_steps, rng)
    return done, same_files(folder / "whole", folder / "killed")


def kill_fit(folder: Path, kills: int, epochs: int, seed: int) -> tuple[int, list[str]]:
    """Return the number of kills and the weights that differ."""
    rng = np.random.default_rng(seed)
    _, n_steps, seconds = run(_fit, [str(folder / "whole.npz"), str(folder / "a"), epochs])
    arguments = [str(folder / "killed.npz"), str(folder / "b"), epochs]
    done = disturbed(_fit, arguments, kills, n_steps, seconds / n_steps, rng)
    with np.load(folder / "whole.npz") as a, np.load(folder / "killed.npz") as b:
        return done, [k for k in a if not np.array_equal(a[k], b[k])]


def main() -> None:
    """Run both and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=480.0, help="length of the recording")
    parser.add_argument("--width", type=int, default=32, help="of the network: larger is slower")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skecg-") as temporary:
        folder = Path(temporary)
        done, different = kill_record(folder, args.kills, args.minutes, args.width, args.seed)
        print(f"explain_record: {args.minutes:g} min of ECG, {done} kills, arrays that differ: {different or 'none'}")
        fit_done, fit_different = kill_fit(folder, args.kills, args.epochs, args.seed)
        print(f"fit: {args.epochs} epochs, {fit_done} kills, weights that differ: {fit_different or 'none'}")
    if different or fit_different:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
