"""The settings of the learned mask, one at a time: where it points, whether it converges, whether its start matters.

Windows for this table are other ones than those of ``localisation.py``. Three networks (seeds), three classes with a
place (PVC, LBBB, RBBB). The paper's literal settings stand in the last row. ``--quick`` takes under two minutes.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from _study import EVIDENCE, evidence, parser, score_windows, table, trained_to_be_explained, versions
from localisation import recognised
from scipy.stats import rankdata

from skecg import MaskDeletion
from skecg.explain import VIJAYARANGAN_2020, VIJAYARANGAN_2020_ASSUMED

# All but the first row learn one mask, most of them of 48 values, at a fifth of the defaults' cost.
ONE = {"n_knots": 48}
DEFAULTS = "defaults: 10, 14, 20, 28 knots and one value a sample"
VARIATIONS = {
    DEFAULTS: {},
    "20, 28, 40 and 56 knots": {"n_knots": (20, 28, 40, 56)},
    "20, 28, 40 knots and one value a sample": {"n_knots": (20, 28, 40, None)},
    "10 knots": {"n_knots": 10},
    "14 knots": {"n_knots": 14},
    "48 knots": ONE,
    "20 knots": {"n_knots": 20},
    "28 knots": {"n_knots": 28},
    "40 knots": {"n_knots": 40},
    "56 knots": {"n_knots": 56},
    "96 knots": {"n_knots": 96},
    "one value a sample": {"n_knots": None},
    "replacement 0": {**ONE, "replacement": 0.0},
    "replacement median": {**ONE, "replacement": "median"},
    "replacement blur": {**ONE, "replacement": "blur"},
    "replacement: best of running median, median, blur": {**ONE, "replacement": ["running_median", "median", "blur"]},
    "lambda1 1": {**ONE, "lambda1": 1.0},
    "lambda1 3": {**ONE, "lambda1": 3.0},
    "lambda1 8": {**ONE, "lambda1": 8.0},
    "lambda2 0": {**ONE, "lambda2": 0.0},
    "lambda2 .02": {**ONE, "lambda2": 0.02},
    "lambda2 .1": {**ONE, "lambda2": 0.1},
    "lambda2 .2": {**ONE, "lambda2": 0.2},
    "cosine from .1": {**ONE, "lr": 0.1, "schedule": "cosine"},
    "250 iterations": {**ONE, "n_iter": 250},
    "from 1": {**ONE, "init": 1.0},
    "from .5": {**ONE, "init": 0.5},
    "defaults from 1": {"init": 1.0},
    "logit, lambda1 10": {**ONE, "output": "logit", "lambda1": 10.0},
}
LITERAL = {**VIJAYARANGAN_2020, **VIJAYARANGAN_2020_ASSUMED}
# rows that change the start alone, and the row that starts from 0
FROM_0 = {"from 1": "48 knots", "from .5": "48 knots", "defaults from 1": DEFAULTS}
_FEW = (
    DEFAULTS, "20, 28, 40 and 56 knots", "20, 28, 40 knots and one value a sample", "48 knots", "replacement 0",
    "lambda1 3", "lambda2 0", "from 1", "defaults from 1",
)  # fmt: skip


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean rank correlation of two sets of maps; maps that are the same everywhere are left out."""
    a, b = (rankdata(m.reshape(len(m), -1), axis=1) for m in (a, b))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.nanmean((a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))))


def _of_seeds(values: list[float]) -> str:
    if np.isnan(values).all():
        return ""
    return f"{np.mean(values):.2f} (seeds {', '.join(f'{v:.2f}' for v in values)})"


def study(args, branch: str) -> str:
    """Return the table of one branch, or of the whole network."""
    names = list(VARIATIONS) if branch != "all" or args.full else list(_FEW)
    names += [] if branch == "all" else ["the paper's"]
    found: dict[str, list] = {name: [] for name in names}
    for seed in args.seeds:
        ecg, clf, unseen = trained_to_be_explained(seed, args.work, args.quick, "cpu")
        unseen = unseen[np.random.RandomState(seed + 1000).permutation(len(unseen))][: len(unseen) // 2]
        rows = recognised(ecg, clf, unseen, args.per_class, seed + 1000, branch)
        truth, X, y = evidence(ecg, rows), ecg.data[rows], ecg.target[rows]
        maps: dict[str, np.ndarray] = {}
        for name in names:
            settings = LITERAL if name == "the paper's" else VARIATIONS[name]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out = MaskDeletion(clf, **{**settings, "branch": branch}).explain(X, target=y)
            maps[name] = out.relevance
            values = score_windows(out.relevance, truth)
            found[name].append(
                {
                    **{key: [float(np.nanmean(v[y == label])) for label in EVIDENCE] for key, v in values.items()},
                    "like": agreement(out.relevance, maps[DEFAULTS]),
                    "start": agreement(out.relevance, maps[FROM_0[name]]) if name in FROM_0 else np.nan,
                    "before": float(out.score.mean()),
                    "after": float(out.score_after.mean()),
                    "mask": (float(out.mask.mean()), float(out.mask.min()), float(out.mask.max())),
                    "iterations": float(out.n_iter.mean()),
                }
            )
            print(branch, seed, name, {k: np.round(v, 3).tolist() for k, v in found[name][-1].items()}, flush=True)
    lines = []
    for name, parts in found.items():
        line = [name]
        for key in ("pointing", "average precision", "mass"):
            by_class = np.mean([part[key] for part in parts], axis=0)
            seeds = [float(np.mean(part[key])) for part in parts]
            each = ", ".join(f"{v:.2f}" for v in by_class)
            line.append(f"{np.mean(by_class):.3f} ({each}; seeds {min(seeds):.2f} to {max(seeds):.2f})")
        mask = np.mean([part["mask"] for part in parts], axis=0)
        line.append(f"{mask[0]:.2f} / {mask[1]:.2f} / {mask[2]:.2f}")
        line += [f"{np.mean([p['before'] for p in parts]):.2f}, {np.mean([p['after'] for p in parts]):.2f}"]
        line += [f"{np.mean([p['like'] for p in parts]):.2f}", _of_seeds([p["start"] for p in parts])]
        line += [f"{np.mean([p['iterations'] for p in parts]):.0f}"]
        lines.append(line)
    header = [
        "settings", f"pointing (mean; {', '.join(EVIDENCE)})", "average precision", "mass", "mask: mean / least / most",
        "score before, after", "rank correlation with the defaults' masks", "with the same from 0", "iterations",
    ]  # fmt: skip
    title = "The whole network" if branch == "all" else f"The {branch.upper()} branch alone, the others silenced"
    return "\n".join([f"### {title}", "", table(header, lines)])


def main() -> None:
    """Read the command line, explain, print and write."""
    args_parser = parser(__doc__)
    args_parser.add_argument("--per-class", type=int, default=None, help="windows a class and seed; 40, quick 8")
    args_parser.add_argument("--branches", nargs="+", default=["lstm"], choices=("lstm", "cnn", "all"))
    args_parser.add_argument("--full", action="store_true", help="every setting for the whole network too (hours)")
    args = args_parser.parse_args()
    args.seeds = args.seeds or ([0] if args.quick else [0, 1, 2])
    args.per_class = args.per_class or (8 if args.quick else 40)
    head = (
        f"{args.per_class} recognised windows a class and seed, seeds {args.seeds}, not those of the table of "
        "localisation. Truth is the region of the class's evidence at every beat of the class in the window."
    )
    text = "\n\n".join([head, *(study(args, branch) for branch in args.branches), versions() + "."])
    print(text)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        Path(args.out / f"masks_{'_'.join(args.branches)}.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
