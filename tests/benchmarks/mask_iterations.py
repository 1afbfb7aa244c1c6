"""Row S5: how many iterations the learned mask needs to reach the objective of the full-resolution one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from skecg import MaskDeletion

from . import material
from .harness import Line, row

# The same objective for all: lambda1 = 1/T on a sum is 1 on the mean, TV over every sample of the mask.
OBJECTIVE: dict[str, Any] = {"lambda1": 1.0, "lambda2": 0.02, "reduction": "mean", "init": 0.0, "tol": 0.0}
TUNED: dict[str, Any] = {"n_knots": None, "lr": 0.05, "n_iter": 500}
KNOTS: dict[str, Any] = {"n_knots": 48, "lr": 0.1, "n_iter": 50, "schedule": "cosine"}


def reached(clf: Any, X: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """Return the objective of each window."""
    return MaskDeletion(clf, **OBJECTIVE, **settings).explain(X).objective


def quantiles(cost: np.ndarray) -> tuple[float, float]:
    """Return median and 90th percentile."""
    return float(np.median(cost)), float(np.percentile(cost, 90))


def searched(clf: Any, X: np.ndarray, settings: dict[str, Any], quick: bool) -> dict[str, Any]:
    """Return the settings of 50 iterations with the least sum of median and 90th percentile."""
    grid: dict[str, Any] = {
        "lr": (0.1, 0.2, 0.4), "n_knots": (32, 48, 96, None), "schedule": ("constant", "cosine")
    }  # fmt: skip
    if quick:
        grid = {"lr": (0.1, 0.2), "n_knots": (32, 48), "schedule": ("cosine",)}
    candidates = [{**settings, **dict(zip(grid, values, strict=True))} for values in product(*grid.values())]
    return min(candidates, key=lambda one: sum(quantiles(reached(clf, X, one))))


def _told(settings: dict[str, Any]) -> str:
    knots = "one value a sample" if settings["n_knots"] is None else f"{settings['n_knots']} knots"
    return f"{knots}, Adam {settings['lr']:g} {settings.get('schedule', 'constant')}, {settings['n_iter']} iterations"


@row("S5", "Speed", "Iterations of the learned mask to the same objective")
def iterations(quick: bool) -> Iterator[Line]:
    tuned, knots = ({**TUNED, "n_iter": 100}, {**KNOTS, "n_iter": 10}) if quick else (TUNED, KNOTS)
    clf, unseen = material.trained(*((150, 3) if quick else (650, 5)))
    ecg, per_class = material.mitdb(), 4 if quick else 24
    rows = material.drawn(unseen, per_class)
    X, patients = ecg.data[rows], len(np.unique(ecg.groups[rows]))
    goal = quantiles(reached(clf, X, tuned))

    def line(settings: dict[str, Any], remark: str = "") -> Line:
        found = quantiles(reached(clf, X, settings))
        met = all(ours <= anchor for ours, anchor in zip(found, goal, strict=True))
        return Line(
            work=f"ECGNet width 4 trained on MIT-BIH (seed 0); {len(rows)} windows ({per_class} of each class, none "
            f"left out) that it did not see, of {patients} patients; {_told(settings)}{remark}",
            anchor=f"{_told(tuned)}, from 0; median J {goal[0]:.4f}, 90th percentile {goal[1]:.4f}",
            measured=f"median J {found[0]:.4f}, 90th percentile {found[1]:.4f}, with "
            f"{tuned['n_iter'] / settings['n_iter']:g} times fewer iterations",
            limit="unknown",
            goal="10 times fewer, median and 90th percentile no larger",
            met=met,
        )

    first = line(knots)
    yield first
    if not first.met:
        others = material.drawn(unseen, 2 if quick else 8, skip=per_class)
        best = searched(clf, ecg.data[others], knots, quick)
        yield line(best, f" (the best of a search on {len(others)} other windows)")
