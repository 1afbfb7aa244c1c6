"""Kill explain_record at random moments, go on, and compare with a run that nobody disturbed.

``python tests/explain/kill_record.py --kills 50`` makes a long recording from noise and spikes, explains it in a
process that is killed (SIGKILL) at random moments until it has been killed so often, and then to its end; the arrays
must be those of an undisturbed run, bit for bit. The same is done with a training that writes checkpoints.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]

_EXPLAIN = """
import sys, warnings, numpy as np, torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D, explain_record
from tests.tiny import TinyNet
out, record, width = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.manual_seed(0)
net = TinyNet(1, 720, 3, width=width).eval()
clf = ECGClassifier.from_module(net, ["A", "B", "C"], n_leads=1, n_timesteps=720, fs=360.0, device="cpu")
print("ready", flush=True)
explain_record(GradCAM1D(clf, batch_size=16), np.load(record, mmap_mode="r"), fs=360.0, out=out)
print("done", flush=True)
"""

_FIT = """
import sys, warnings, numpy as np, torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
from skecg.classifiers import ECGClassifier, RandomShift
from tests.tiny import TinyNet, toy_ecg
out, folder, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
X, y, groups, _ = toy_ecg(n=600)
clf = ECGClassifier(
    TinyNet, module__dropout=0.3, lr=0.01, max_epochs=epochs, batch_size=16, random_state=3, device="cpu",
    augment=RandomShift(0.05, fs=100), early_stopping=True, n_iter_no_change=epochs, checkpoint_dir=folder,
)
print("ready", flush=True)
clf.fit(X, y, groups=groups)
np.savez(out, **{k: v.numpy() for k, v in clf.module_.state_dict().items()})
print("done", flush=True)
"""


def run(code: str, arguments: list[str], kill_after: float | None) -> bool:
    """Run the code in a process; kill it so many seconds after it is ready; return whether it came to its end."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("the process ended before it was ready")
        if kill_after is not None:
            try:
                process.wait(kill_after)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    return process.returncode == 0 and "done" in rest


def undisturbed(code: str, arguments: list[str]) -> float:
    """Run the code to its end; return the seconds from ready to done."""
    started = time.monotonic()
    if not run(code, arguments, None):
        raise RuntimeError("the undisturbed run failed")
    return time.monotonic() - started


def disturbed(code: str, arguments: list[str], kills: int, span: float, rng: np.random.Generator) -> int:
    """Kill the code so often within ``span`` seconds of its start, begin again at the end of each run; return kills."""
    done = 0
    for _ in range(20 * kills):
        if done == kills:
            break
        done += not run(code, arguments, float(rng.uniform(0.0, span)))
    while not run(code, arguments, None):
        pass
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
    arguments = [str(folder / "record.npy"), str(width)]
    span = undisturbed(_EXPLAIN, [str(folder / "whole"), *arguments])
    # each run goes on where the last was killed, so each is killed within a share of the whole
    done = disturbed(_EXPLAIN, [str(folder / "killed"), *arguments], kills, min(span, max(0.3, 3 * span / kills)), rng)
    return done, same_files(folder / "whole", folder / "killed")


def kill_fit(folder: Path, kills: int, epochs: int, seed: int) -> tuple[int, list[str]]:
    """Return the number of kills and the weights that differ."""
    rng = np.random.default_rng(seed)
    span = undisturbed(_FIT, [str(folder / "whole.npz"), str(folder / "a"), str(epochs)])
    arguments = [str(folder / "killed.npz"), str(folder / "b"), str(epochs)]
    done = disturbed(_FIT, arguments, kills, min(span, max(0.3, 3 * span / kills)), rng)
    with np.load(folder / "whole.npz") as a, np.load(folder / "killed.npz") as b:
        return done, [k for k in a if not np.array_equal(a[k], b[k])]


def main() -> None:
    """Run both and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=240.0, help="length of the recording")
    parser.add_argument("--width", type=int, default=32, help="of the network: larger is slower")
    parser.add_argument("--epochs", type=int, default=60)
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
