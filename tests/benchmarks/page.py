"""The page of results: written by the command, and read again so that rows of earlier runs stay."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .harness import Line

PARTS = ("Speed", "Classification", "Quality of explanations")
COMMAND = "python -m tox run -e bench"
_HEAD = f"""# Benchmarks

This page is written by a command, `{COMMAND}`, and never by hand (`-- --only S1,S4` picks rows, `-- --quick`
shrinks them). Both sides of a row run in one process, alternated, on one thread, after a warm-up, with the same
network, weights and windows, and their results are compared in the run. A ratio is the median of the paired ratios of
CPU times in 5 rounds, with its range; differences under 10 % are none. Memory is the peak above rest in a fresh
process. A limit is what no code of this kind could do without, measured. The last column says in which run a row was
measured, and the load of the machine then. A row that falls short of its goal stays, with its profile below.
"""
_COLUMNS = ("row", "work", "anchor", "measured", "limit", "goal", "reached", "run, load")
_RUN_COLUMNS = ("run", "facts")
_ROW = re.compile(r"^\| (?P<row>[A-Z]\d+[a-z]?) \|.*\| (?P<run>\d+), [\d.]+ \|$")
_RUN = re.compile(r"^\| run (?P<run>\d+) \| (?P<facts>.*) \|$")
_NOTE = re.compile(r"^#### (?P<row>\S+)$")


@dataclass
class Page:
    """The results by row: lines of tables and notes as they stand in the page, and the facts of each run."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    runs: dict[int, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Page:
        """Return what a page holds that `write` wrote; any other text holds nothing."""
        page, note = cls(), None
        for line in text.splitlines():
            if line.startswith("#"):
                found = _NOTE.match(line)
                note = found["row"] if found else None
                if note is not None:
                    page.notes[note] = ""
            elif note is not None:
                page.notes[note] += line + "\n"
            elif found := _RUN.match(line):
                page.runs[int(found["run"])] = found["facts"]
            elif found := _ROW.match(line):
                page.lines.setdefault(found["row"], []).append(line)
        page.notes = {name: text.strip("\n") for name, text in page.notes.items()}
        return page

    def run(self, facts: str) -> int:
        """Return the number of the run with these facts, a new one where there is none."""
        for number, known in self.runs.items():
            if known == _cell(facts):
                return number
        number = max(self.runs, default=0) + 1
        self.runs[number] = _cell(facts)
        return number

    def put(self, name: str, lines: list[Line], run: int, load: float) -> None:
        """Replace a row."""
        reached = {True: "yes", False: "**no**", None: ""}
        self.lines[name] = [
            _table(name, n.work, n.anchor, n.measured, n.limit, n.goal, reached[n.met], f"{run}, {load:.1f}")
            for n in lines
        ]
        self.notes[name] = "\n\n".join(note.strip("\n") for line in lines for note in line.notes)

    def write(self, parts: dict[str, str]) -> str:
        """Return the page.

        Parameters
        ----------
        parts : dict of str to str
            Rows there are, and the part of each; other rows are left out.
        """
        blocks = [_HEAD]
        for part in PARTS:
            names = sorted((name for name in self.lines if parts.get(name) == part), key=_order)
            if not names:
                continue
            table = [line for name in names for line in self.lines[name]]
            blocks += [f"## {part}\n", "\n".join([*_header(_COLUMNS), *table]) + "\n"]
            noted = [name for name in names if self.notes.get(name)]
            if noted:
                blocks += [f"### Short of the goal: {part.lower()}\n"]
            blocks += [f"#### {name}\n\n{self.notes[name]}\n" for name in noted]
        kept = [line for name in self.lines if name in parts for line in self.lines[name]]
        used = sorted({int(_ROW.match(line)["run"]) for line in kept})  # type: ignore[index]
        runs = [_table(f"run {number}", self.runs[number]) for number in used]
        return "\n".join([*blocks, "## Runs\n", "\n".join([*_header(_RUN_COLUMNS), *runs]) + "\n"])


def _order(name: str) -> tuple[str, int, str]:
    letter, number, more = re.fullmatch(r"([A-Z])(\d+)([a-z]?)", name).groups()  # type: ignore[union-attr]
    return letter, int(number), more


def _header(columns: tuple[str, ...]) -> list[str]:
    return [_table(*columns), "|" + "---|" * len(columns)]


def _table(*cells: str) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))
