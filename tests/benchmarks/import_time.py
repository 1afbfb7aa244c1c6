"""Row S13: what importing skecg costs beside what it stands on."""

from __future__ import annotations

import resource
from collections.abc import Iterator

from .harness import Line, Ratio, paired, row, run_python

_EXPLAIN = "torch, skorch, sklearn.model_selection, sklearn.pipeline"


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _import(what: str) -> None:
    run_python("-c", f"import {what}")


@row("S13", "Speed", "Imports")
def imports(quick: bool) -> Iterator[Line]:
    loaded = run_python("-c", "import skecg, sys; print(*sorted({'torch', 'sklearn'} & set(sys.modules)))").split()
    for ours, anchor, most in (("skecg", "numpy", 1.3), ("skecg.explain", _EXPLAIN, 1.1)):
        sides = [lambda what=what: _import(what) for what in (ours, anchor, "sys")]
        mine, theirs, bare = paired(*sides, rounds=3 if quick else 5, clock=_children).T
        ratio = Ratio.of(mine, theirs)
        light = "" if ours != "skecg" else f"; loads {' and '.join(loaded) or 'neither torch nor scikit-learn'}"
        met = ratio.median <= most and not (light and loaded)
        note = f"import {ours}: {ratio} of {most:g}. Slowest imports, ms:\n\n{_slowest(ours)}"
        yield Line(
            work=f"import {ours}, CPU time of a fresh process{light}",
            anchor=f"import {anchor}",
            measured=f"ours / anchor {ratio}",
            limit=f"ours / bare interpreter {Ratio.of(mine, bare)}",
            goal=f"<= {most:g}" + (", neither torch nor scikit-learn loaded" if light else ""),
            met=met,
            notes=() if met else (note,),
        )


def _slowest(module: str, top: int = 12) -> str:
    """Return the modules that take longest by themselves, as ``-X importtime`` tells them."""
    code = (
        "import subprocess, sys; "
        f"print(subprocess.run([sys.executable, '-X', 'importtime', '-c', 'import {module}'], "
        "capture_output=True, text=True).stderr)"
    )
    rows = [line.removeprefix("import time:").split("|") for line in run_python("-c", code).splitlines() if "|" in line]
    own = sorted(((int(r[0]) / 1000, r[2].strip()) for r in rows if r[0].strip().isdigit()), reverse=True)
    return "\n".join(["```text", *(f"{ms:7.1f}  {name}" for ms, name in own[:top]), "```"])
