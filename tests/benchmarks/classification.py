"""Row C1: the main job on MIT-BIH, as the quickstart does it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from . import material
from .harness import ROOT, Line, Skipped, row, run_python

_COMMAND = "examples/quickstart.py --data mitdb --split beat --width 8"
_SPLIT = re.compile(r"^== split by (\w+): (\d+) windows to train on, (\d+) to test on, seed (\d+)$", re.MULTILINE)
_SCORE = re.compile(r"^macro F1 ([\d.]+) \((.*)\)$", re.MULTILINE)
_SHARED = re.compile(r"SHARES (\d+) PATIENTS")


def read_report(text: str) -> list[dict[str, str]]:
    """Return what the quickstart printed of each split: split, train, test, seed, shared, f1, rest."""
    found, starts = [], list(_SPLIT.finditer(text))
    for i, start in enumerate(starts):
        part = text[start.end() : starts[i + 1].start() if i + 1 < len(starts) else len(text)]
        score, shared = _SCORE.search(part), _SHARED.search(part)
        if score is None:
            raise RuntimeError(f"the quickstart printed no macro F1 for its split by {start[1]}:\n{part[-500:]}")
        names = ("split", "train", "test", "seed")
        found.append(
            {
                **dict(zip(names, start.groups(), strict=True)),
                "shared": shared[1] if shared else "0",
                "f1": score[1],
                "rest": score[2],
            }
        )
    if [one["split"] for one in found] != ["beat", "patient"]:
        raise RuntimeError(f"the quickstart printed other splits than expected:\n{text[-500:]}")
    return found


@row("C1", "Classification", "ECGNet, five MIT-BIH classes")
def main_job(quick: bool) -> Iterator[Line]:
    if quick:
        raise Skipped("not run with --quick: it takes 15 to 30 minutes")
    material.mitdb()  # are there records?
    # As users start it: with as many threads as torch takes.
    script, *arguments = _COMMAND.split()
    out = run_python(str(ROOT / script), *arguments, OMP_NUM_THREADS=None, SKECG_OFFLINE="1")
    beat, patient = read_report(out)
    published = "published for other classes: 97.6 % of three (MeMeA 2018), F1 .97 of eight (EMBC 2020)"
    for one, goal in ((beat, 0.98), (patient, None)):
        shared = f"shares {one['shared']} patients with training" if one["shared"] != "0" else "patients apart"
        yield Line(
            work=f"`{_COMMAND}`, split by {one['split']}: {one['train']} windows to train on, {one['test']} to test "
            f"on, seed {one['seed']}; {shared}",
            anchor="" if goal is None else published,
            measured=f"macro F1 {one['f1']}; {one['rest']}",
            goal="" if goal is None else f">= {goal:g}",
            met=None if goal is None else float(one["f1"]) >= goal,
        )
