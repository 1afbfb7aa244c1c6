"""Run the long reliability commands and write what they print into reliability.md.

``python docs/write_reliability.py`` runs all of them (about half an hour on two cores); ``--only kills,fuzz`` some.
What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` in the page is replaced, the rest is left alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from write_databases import replace

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
COMMANDS = {
    "kills": ["tests/datasets/kill_fetch.py", "--kills", "200"],
    "fuzz": ["tests/fuzz/run.py"],
    "long": ["tests/explain/kill_record.py", "--kills", "50"],
    "cohort": ["tests/cohort/kill_cohort.py", "--kills", "20", "--seed", "0"],
}
PACKAGES = {"cohort": ("torch", "numpy", "joblib", "distributed", "zarr")}  # of the others: wfdb, torch, numpy


def run(command: Sequence[str], packages: Sequence[str]) -> str:
    """Return what a command prints, as a block of the page; an error where it fails."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    made = ", ".join(f"{name} {version(name)}" for name in packages)
    text = done.stdout.strip()
    return f"```text\n$ python {' '.join(command)}\n{text}\n```\n\n{made}, Python {platform.python_version()}.\n"


def main() -> None:
    """Run what was asked for and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"of {', '.join(COMMANDS)}, with commas between them")
    parser.add_argument("--page", type=Path, default=HERE / "reliability.md")
    options = parser.parse_args()
    for name in options.only.split(",") if options.only else COMMANDS:
        block = run(COMMANDS[name], PACKAGES.get(name, ("wfdb", "torch", "numpy")))
        options.page.write_text(replace(options.page.read_text(encoding="utf-8"), name, block), encoding="utf-8")


if __name__ == "__main__":
    main()
