"""The command: ``python tests/fuzz/run.py [--headers N] [--annotations N] [--signals N] [--wfdb N] [--seed N]``.

Files of small intact records are damaged at random and read. Every outcome is counted; it fails where one is a silent
error, another exception than ValueError and OSError, or takes longer than a second.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # instead of this folder, whose names are not to hide others

from tests.fuzz import judge as ours  # noqa: E402 - the path first
from tests.fuzz import wfdb_alone as theirs  # noqa: E402
from tests.fuzz.material import (  # noqa: E402
    Intact,
    damage_annotations,
    damage_header,
    damage_signal,
    intact_records,
)

KINDS = {"headers": ".hea", "annotations": ".atr", "signals": ".dat"}
_SHOWN = 5


def damage(kind: str, intact: Intact, random: Random) -> bytes:
    """Return the bytes of the damaged file."""
    if kind == "headers":
        return damage_header(intact.header, random).encode()
    if kind == "annotations":
        return damage_annotations(intact.annotations, random)
    return damage_signal(intact.signal, random)


class Tally:
    """Outcomes of one kind of damage: how many, what they rest on, the first wrong ones, and the time they took."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.details: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []
        self.unseen = 0  # other files of the same SHA-256
        self.seconds = 0.0

    def add(self, outcome: str, detail: str, content: bytes, intact: bytes) -> None:
        """Count an outcome."""
        self.outcomes[outcome] += 1
        self.details[outcome, detail] += 1
        if outcome not in (ours.SAME, ours.REFUSED):
            self.unseen += hashlib.sha256(content).digest() == hashlib.sha256(intact).digest()
        if outcome in ours.WRONG and len(self.wrong) < _SHOWN:
            self.wrong.append(f"{outcome} ({detail}): {content[:600]!r}")


def put(file: Path, content: bytes) -> None:
    """Write a file without emptying it first, after which some file systems would wait for the disk."""
    with file.open("r+b") as stream:
        stream.write(content)
        stream.truncate()


def fuzz(
    kind: str, n: int, seed: int, folder: Path, judges: Callable[[Path, str, bytes, Intact, dict], tuple[str, str]],
    expected: Callable[[Path], dict[str, dict]],
) -> Tally:  # fmt: skip
    """Damage files of one kind n times and judge what is read."""
    tally, random = Tally(), Random(f"{kind} {seed}")
    records = intact_records()
    paths = [record.write(folder / record.name) for record in records]
    answers = [expected(path)[kind] for path in paths]
    start = time.perf_counter()
    for i in range(n):
        intact, path, answer = (x[i % len(records)] for x in (records, paths, answers))
        file = path.with_suffix(KINDS[kind])
        content = damage(kind, intact, random)
        put(file, content)
        outcome, detail = judges(path, kind, content, intact, answer)
        tally.add(outcome, detail, content, original(kind, intact))
        put(file, original(kind, intact))
    tally.seconds = time.perf_counter() - start
    return tally


def original(kind: str, intact: Intact) -> bytes:
    """Return the bytes of the file that this kind of damage is done to."""
    return {"headers": intact.header.encode(), "annotations": intact.annotations, "signals": intact.signal}[kind]


def expected_of(path: Path) -> dict[str, dict]:
    """Return what the reader gives for an intact record, by the kind of damage that is to come."""
    return {kind: ours.read(path, kind) for kind in KINDS}


def table(title: str, tallies: dict[str, Tally]) -> str:
    """Return the outcomes as a table of counts and shares."""
    n = {kind: sum(tally.outcomes.values()) for kind, tally in tallies.items()}
    lines = [title, "", "| outcome | " + " | ".join(f"{kind} ({n[kind]:,})" for kind in tallies) + " |"]
    lines.append("| --- |" + " --- |" * len(tallies))

    def row(name: str, counts: Sequence[int]) -> str:
        cells = [f"{k:,} ({100 * k / max(1, n[kind]):.2f} %)" for k, kind in zip(counts, tallies, strict=True)]
        return f"| {name} | " + " | ".join(cells) + " |"

    for outcome in ours.OUTCOMES:
        lines.append(row(outcome, [tally.outcomes[outcome] for tally in tallies.values()]))
        causes = Counter()
        for tally in tallies.values():
            causes.update({detail: k for (found, detail), k in tally.details.items() if found == outcome and detail})
        if outcome in (ours.VALID, ours.REFUSED, ours.OTHER, ours.SILENT):
            for detail, _ in causes.most_common(9):
                lines.append(row(f"... {detail[:60]}", [t.details[outcome, detail] for t in tallies.values()]))
    lines.append(row("another file that SHA256SUMS would not tell", [t.unseen for t in tallies.values()]))
    speeds = [f"{n[kind] / max(t.seconds, 1e-9):,.0f}" for kind, t in tallies.items()]
    return "\n".join([*lines, "| examples per second | " + " | ".join(speeds) + " |", ""])


def peak_memory() -> float:
    """Return the peak memory of this process, MB; NaN on Windows."""
    try:
        import resource
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return how many outcomes were wrong, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    for kind, n in (("headers", 100_000), ("annotations", 50_000), ("signals", 20_000)):
        parser.add_argument(f"--{kind}", type=int, default=n, metavar="N", help=f"damaged {kind} (default {n:,})")
    parser.add_argument("--wfdb", type=int, default=1000, metavar="N", help="of each kind read by wfdb alone; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    sizes = {kind: getattr(options, kind) for kind in KINDS}
    tallies, alone = {}, {}
    with tempfile.TemporaryDirectory(prefix="skecg-fuzz-") as folder:
        for kind in KINDS:  # so that what is loaded and cached once is not taken for growth
            fuzz(kind, min(100, sizes[kind]), options.seed + 1, Path(folder), ours.judge, expected_of)
        before = peak_memory()
        for kind, n in sizes.items():
            tallies[kind] = fuzz(kind, n, options.seed, Path(folder), ours.judge, expected_of)
        grown = peak_memory() - before
        if options.wfdb:
            worker = theirs.Worker()
            for kind, n in sizes.items():
                size = min(n, options.wfdb)
                alone[kind] = fuzz(kind, size, options.seed, Path(folder), worker.judge, theirs.expected_of)
            worker.close()
    out = [table(f"skecg, seed {options.seed}; peak memory grew by {grown:,.1f} MB", tallies)]
    out += [table("wfdb alone, the first of the same files", alone)] if alone else []
    out += [f"{kind}: {wrong}" for kind, tally in tallies.items() for wrong in tally.wrong]
    sys.stdout.write("\n".join(out) + "\n")
    return int(any(tally.outcomes[outcome] for tally in tallies.values() for outcome in ours.WRONG))


if __name__ == "__main__":
    sys.exit(main())
