"""The command: ``python tests/benchmarks/run.py [--only S1,S4] [--quick] [--out docs/benchmarks.md]``."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # instead of this folder, whose names are not to hide others

from tests.benchmarks.harness import ROWS, Line, Row, Skipped  # noqa: E402 - the path first
from tests.benchmarks.page import Page  # noqa: E402

FAMILIES = (
    "gradcam", "mask", "mask_iterations", "classifier", "import_time", "preprocessing", "loading",
    "classification", "records", "gradients", "lrp", "aggregate", "beats",
    "out_of_memory", "cohort", "report",
)
_PACKAGES = ("skecg", "torch", "numpy", "scipy", "scikit-learn", "skorch", "captum", "wfdb", "neurokit2")
_log = logging.getLogger("skecg.benchmarks")


def load_rows() -> None:
    """Import the families, which registers their rows."""
    for family in FAMILIES:
        importlib.import_module(f"tests.benchmarks.{family}")


def facts(quick: bool) -> str:
    """Return what belongs to every figure: date, machine, threads, versions."""
    import torch

    versions = {"Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = importlib.import_module(name).__version__ if name == "skecg" else "absent"
    told = [
        str(date.today()),
        f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread",
        f"{platform.system()} {platform.machine()}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]
    return "; ".join([*told, "**quick**: few windows and 3 rounds"] if quick else told)


def processor() -> str:
    """Return the model of the processor and its widest vectors, which decide between kernels."""
    import torch

    name = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name or 'unknown processor'} ({torch.backends.cpu.get_cpu_capability()})"


def measure(page: Page, names: Sequence[str], quick: bool, out: Path) -> list[str]:
    """Measure rows, and write the page after each; return the names of those that failed.

    A row that cannot be measured here keeps what an earlier run found; one that fails loses it.
    """
    parts, failed = {row.name: row.part for row in ROWS.values()}, []
    run = page.run(facts(quick))
    for name in names:
        row = ROWS[name]
        _log.info("%s: %s", name, row.title)
        try:
            lines = list(_lines(row, quick))
        except Skipped as reason:
            _log.info("  skipped: %s", reason)
            lines = [] if name in page.lines else [Line(work=row.title, measured=f"skipped: {reason}")]
        except Exception as error:
            _log.exception("%s failed", name)
            failed.append(name)
            lines = [Line(work=row.title, measured=f"FAILED: {type(error).__name__}: {error}", met=False)]
        if lines:
            page.put(name, lines, run, os.getloadavg()[0])
        out.write_text(page.write(parts), encoding="utf-8")
    return failed


def _lines(row: Row, quick: bool) -> Iterator[Line]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of explainers about simulated windows and untrained networks
        for line in row.measure(quick):
            _log.info("  %s | %s | %s", line.work, line.measured, line.limit)
            yield replace(line, work=f"{row.title}: {line.work}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 1 where a row failed."""
    import torch

    load_rows()
    parser = argparse.ArgumentParser(description="Measure, and write the page of results.")
    parser.add_argument("--only", help=f"rows, such as S1,S4; there are {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="few windows and rounds: under 3 minutes in all")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    given = parser.parse_args(arguments)
    names = list(ROWS) if given.only is None else [name.strip() for name in given.only.split(",")]
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        parser.error(f"no rows {', '.join(unknown)}; there are {', '.join(ROWS)}")
    old = given.out.read_text(encoding="utf-8") if given.out.exists() else ""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        failed = measure(Page.read(old), names, given.quick, given.out)
    finally:
        torch.set_num_threads(before)
    if failed:
        _log.error("failed: %s", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    sys.exit(main())
