"""Every explainer against planted truth: simulated ECG with distractors and random positions, on one and twelve leads.

``make_ecg`` knows where the evidence of each class lies. Networks are trained on a part of the simulated patients; of
the others, windows that the network recognises are explained by every explainer, and their maps are held against the
truth: pointing, average precision, AUC and, beside them, mass. A flat map (chance), the middle of the window, abs(x)
and random numbers go through the same functions.

``--quick`` takes under 90 s on a free core; the full run trains nine networks, and ``--work`` keeps networks and maps,
so that an interrupted run goes on. ``--out`` writes the tables, a figure and, as CSV, every score by seed.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _explainers import BY_SIZE, CONTROLS, DEFAULT, EXPLAINERS, control, relevance
from _study import CLASSES, network, parser, table, versions
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch

from skecg.datasets import make_ecg
from skecg.metrics import (
    bootstrap_score,
    pointing_game_score,
    relevance_auc_score,
    relevance_average_precision_score,
    relevance_mass_score,
)


class Size(NamedTuple):
    """How large a network is, and how many windows of how many simulated patients it trains and is tested on."""

    windows: int
    patients: int
    epochs: int
    width: int


# (network, leads): sizes of the full run, and with --quick. A quarter of the patients is held out.
FULL = {
    ("ResNet1d", 1): Size(4000, 100, 8, 8),
    ("ECGNet", 1): Size(4000, 100, 6, 4),
    ("ResNet1d", 12): Size(4000, 100, 8, 8),
}
QUICK = {
    ("ResNet1d", 1): Size(1200, 60, 5, 4),
    ("ECGNet", 1): Size(1200, 60, 4, 2),
    ("ResNet1d", 12): Size(1000, 60, 5, 4),
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "ResNet1d": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "max_lr": 0.05},
    "ECGNet": {"module__dropout": 0.2, "module__branch_dropout": 0.3},
}
FS, SECONDS = 360.0, 2.0
GOAL = {"average precision": 0.90, "pointing": 0.99}
SCORES = {
    "average precision": relevance_average_precision_score,
    "pointing": pointing_game_score,
    "AUC": relevance_auc_score,
    "mass": relevance_mass_score,
}
IN_TIME = ", in time"  # scores of twelve leads once more, where leads are not told apart
COLORS, MARKERS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"), "osD^v"  # Wong's: told apart by all readers
FLAT, CEILING = "chance (a flat map)", "truth, without its leads"


def windows(n_leads: int, size: Size, seed: int) -> tuple[Bunch, np.ndarray]:
    """Return simulated windows, and which of them are of the held-out patients."""
    ecg = make_ecg(
        size.windows,
        classes=CLASSES,
        n_leads=n_leads,
        fs=FS,
        window=SECONDS,
        n_patients=size.patients,
        random_state=seed,
    )
    names = np.unique(ecg.groups)
    return ecg, np.isin(ecg.groups, np.random.RandomState(seed).permutation(names)[: len(names) // 4])


def trained(name: str, ecg: Bunch, rows: np.ndarray, size: Size, seed: int, args: Any) -> Pipeline:
    """Return a network trained on these windows."""
    parameters = {**PARAMETERS[name], "module__width": size.width, "device": args.device}
    if args.work is not None:
        parameters["checkpoint_dir"] = args.work / "checkpoints"
    clf = network(name, len(rows), epochs=size.epochs, seed=seed, fs=ecg.fs, **parameters)
    return clf.fit(ecg.data[rows], ecg.target[rows])


def chosen(ecg: Bunch, rows: np.ndarray, predicted: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Draw, of windows whose class has a place of evidence and is recognised, at most so many of each class."""
    right = (ecg.target[rows] == predicted) & ecg.truth[rows].any((1, 2))
    rows = np.random.RandomState(seed).permutation(rows[right])
    return np.concatenate([rows[ecg.target[rows] == label][:per_class] for label in CLASSES])


def score(truth: np.ndarray, R: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of each window; on several leads also of the positive relevance summed over the leads."""
    found = {name: metric(truth, R, average=False) for name, metric in SCORES.items()}
    if truth.shape[1] > 1:
        anywhere, total = truth.any(1), np.maximum(R, 0).sum(1)
        found |= {name + IN_TIME: SCORES[name](anywhere, total, average=False) for name in GOAL}
    return found


def ceiling(truth: np.ndarray) -> np.ndarray:
    """Return the map, the same at all leads, that no other such map excels: the share of leads in the truth."""
    share = truth.mean(1, keepdims=True)
    # equal shares in any strict order: tied, average precision would be a little below what can be reached
    order = np.linspace(0.5, 0, truth.shape[-1]) / truth.shape[1]
    return np.broadcast_to(np.where(share > 0, share + order, 0), truth.shape)


def explained(name: str, n_leads: int, size: Size, seed: int, args: Any) -> Bunch:
    """Train a network, or take up what an earlier run left, and score every explainer and control on it."""
    started = time.process_time()
    ecg, held = windows(n_leads, size, seed)
    clf = trained(name, ecg, np.flatnonzero(~held), size, seed, args)
    ready = time.process_time()
    rows = np.flatnonzero(held)
    predicted = clf.predict(ecg.data[rows])
    out = Bunch(
        seed=seed, n_trained=int((~held).sum()), scores={}, refused={}, same=set(),
        right=predicted == ecg.target[rows], label=ecg.target[rows], patient=_of(seed, ecg.groups[rows]),
    )  # fmt: skip
    rows = chosen(ecg, rows, predicted, args.per_class, seed)
    if not len(rows):
        raise SystemExit(f"{name} of seed {seed} recognises no window with a place of evidence: train it for longer")
    X, truth = ecg.data[rows], ecg.truth[rows]
    out.update(target=ecg.target[rows], groups=_of(seed, ecg.groups[rows]), share=truth.mean((1, 2)))
    seen = clf[:-1].transform(X)
    maps = {FLAT: np.ones_like(seen)} | {each: control(each, seen, seed) for each in CONTROLS}
    if n_leads > 1:
        maps[CEILING] = ceiling(truth)
    for each, R in maps.items():
        out.scores[each] = score(truth, R)
    keep = None if args.work is None else args.work / "maps"
    for each in args.explainers:
        R = relevance(each, clf, X, out.target, SECONDS, keep)
        if isinstance(R, str):
            out.refused[each] = R
            continue
        out.scores[each] = score(truth, R)
        if n_leads > 1 and np.array_equal(R, np.broadcast_to(R[:, :1], R.shape)):
            out.same.add(each)
    print(
        f"{_title(name, n_leads)}, seed {seed}: {out.right.mean():.3f} of {len(held.nonzero()[0])} windows right, "
        f"{len(rows)} explained; CPU {ready - started:.0f} s to train, {time.process_time() - ready:.0f} s to explain",
        flush=True,
    )
    return out


def _of(seed: int, groups: np.ndarray) -> np.ndarray:
    """Return names of patients that differ between the seeds, whose patients are others."""
    return np.char.add(f"{seed}-", groups.astype(str))


def _title(name: str, n_leads: int) -> str:
    return f"{name}, {'one lead' if n_leads == 1 else f'{n_leads} leads'}"


def of_class(parts: Sequence[Bunch], name: str, what: str, label: str) -> dict[int, np.ndarray]:
    """Return the scores of a class's windows by seed, without the seeds in which none was explained."""
    rows = {part.seed: part.target == label for part in parts}
    return {part.seed: part.scores[name][what][rows[part.seed]] for part in parts if rows[part.seed].any()}


def mean(parts: Sequence[Bunch], name: str, what: str, label: str) -> float:
    """Return the mean of a score over the windows of a class."""
    return float(np.concatenate(list(of_class(parts, name, what, label).values())).mean())


def collected(parts: Sequence[Bunch], name: str, what: str, label: str) -> Bunch:
    """Return the mean of a score over the windows of a class, and its interval over the patients of all seeds."""
    groups = np.concatenate([part.groups[part.target == label] for part in parts])
    found = bootstrap_score(np.concatenate(list(of_class(parts, name, what, label).values())), groups)
    found.n = len(groups)
    return found


def labels_of(parts: Sequence[Bunch]) -> list[str]:
    """Return the classes of which windows were explained."""
    return [label for label in CLASSES if any((part.target == label).any() for part in parts)]


def mean_over_classes(parts: Sequence[Bunch], name: str, what: str = "average precision") -> float:
    """Return the mean of the classes' scores."""
    return float(np.mean([mean(parts, name, what, label) for label in labels_of(parts)]))


def ordered(parts: Sequence[Bunch], controls: bool = True) -> list[str]:
    """Return explainers, and controls, by falling mean average precision."""
    names = [name for name in parts[0].scores if controls or name in EXPLAINERS]
    return sorted(names, key=lambda name: -mean_over_classes(parts, name))


def cell(found: Bunch) -> str:
    """Return a score and its interval, where there is one."""
    inside = f" ({found.low:.2f} to {found.high:.2f})" if np.isfinite(found.low) else ""
    return f"{found.value:.3f}{inside}"


def meets(parts: Sequence[Bunch], name: str, label: str, where: str = "") -> bool:
    """Return whether an explainer reaches the goal in a class: every score of it at once."""
    return all(mean(parts, name, what + where, label) >= least for what, least in GOAL.items())


def goals(parts: Sequence[Bunch], where: str = "") -> list[list[str]]:
    """Return a row for each class: the best explainer, its scores, and whether the goal is met."""
    names, lines = ordered(parts, controls=False), []
    for label in labels_of(parts):

        def first(names: Sequence[str], what: str, label: str = label) -> tuple[str, float]:
            return max(((name, mean(parts, name, what + where, label)) for name in names), key=lambda pair: pair[1])

        best, _ = first(names, "average precision")
        reach = [name for name in names if meets(parts, name, label, where)]
        seeds = [part for part in parts if (part.target == label).any()]
        lines.append(
            [
                label,
                best,
                *(cell(collected(parts, best, what + where, label)) for what in GOAL),
                "{} {:.3f}".format(*first((FLAT, *CONTROLS), "average precision")),
                "{} {:.3f}".format(*first(names, "pointing")),
                "yes: " + ", ".join(reach) if reach else "no",
                f"{sum(meets([part], best, label, where) for part in seeds)} of {len(seeds)}",
            ]
        )
    return lines


GOAL_HEADER = [
    "class", "best by average precision", "average precision", "pointing", "best control", "highest pointing",
    "goal met", "seeds in which the best meets it",
]  # fmt: skip


def recognition(parts: Sequence[Bunch]) -> list[str]:
    """Say how well the network recognises the windows of patients that it has not seen, and what was explained."""
    patient = np.concatenate([part.patient for part in parts])
    found = bootstrap_score(np.concatenate([part.right for part in parts]), patient)
    label = np.concatenate([part.label for part in parts])
    chance = max(np.mean(label == each) for each in CLASSES)
    by_seed = ", ".join(f"{part.right.mean():.3f}" for part in parts)
    right = np.concatenate([part.right for part in parts])
    recall = ", ".join(f"{each} {right[label == each].mean():.2f}" for each in CLASSES if each in label)
    told = []
    for each in labels_of(parts):
        flat = collected(parts, FLAT, "AUC", each)
        told.append(f"{each} {flat.n} windows of {flat.n_groups} patients")
    missing = [each for each in CLASSES if each not in labels_of(parts)]
    none = f"; none of {', '.join(missing)} (no single place of evidence, or none recognised)" if missing else ""
    return [
        f"Held out: {len(right):,} windows of {found.n_groups} patients, recognised {cell(found)} (seeds {by_seed}); "
        f"one label for all would reach {chance:.2f}; by class {recall}.",
        f"Explained: {'; '.join(told)}{none}.",
    ]


def scores_table(parts: Sequence[Bunch], wanted: Sequence[str], intervals: bool = True) -> str:
    """Return explainers and controls x classes, by falling mean average precision."""
    labels, lines = labels_of(parts), []
    for name in ordered(parts):
        line = [_marked(name, parts)]
        for what in wanted:
            line.append(f"{mean_over_classes(parts, name, what):.3f}")
            if len(parts) > 1 and intervals:
                line[-1] += " (" + ", ".join(f"{mean_over_classes([part], name, what):.2f}" for part in parts) + ")"
            if intervals:
                line += [cell(collected(parts, name, what, label)) for label in labels]
            else:
                line += [f"{mean(parts, name, what, label):.3f}" for label in labels]
        lines.append(line)
    header = ["explainer"]
    for what in wanted:
        short = what.replace("average precision", "AP")
        header += [f"{short}, mean" + (" (by seed)" if len(parts) > 1 and intervals else "")]
        header += [f"{short}, {label}" for label in labels]
    return table(header, lines)


def _marked(name: str, parts: Sequence[Bunch]) -> str:
    if name not in EXPLAINERS:
        return f"*{name}*"
    return name + (" †" if name in parts[0].same else "") + (" ‡" if name in BY_SIZE else "")


def page(found: dict[tuple[str, int], list[Bunch]], sizes: dict[tuple[str, int], Size], args: Any) -> str:
    """Return the page: how it was made, the goal, and the tables of each network."""
    text = [
        f"Windows of make_ecg: {SECONDS:g} s at {FS:g} Hz, classes {', '.join(CLASSES)}, its defaults otherwise: the "
        "labelled beat at a random place (centred=False), two distractors in every window (distractors=True), wander, "
        "muscle noise and mains hum (noise=0.05), sinus rates of 60 to 100/min. Truth is the planted evidence, in the "
        f"leads that show it. Seed{'s' if len(args.seeds) > 1 else ''} {', '.join(map(str, args.seeds))}: each draws "
        "its own patients, windows, split and training. A quarter of the patients is held out; explained are windows "
        f"of theirs that the network recognises, drawn at random, at most {args.per_class} a class and seed. Intervals "
        "are 95 %, BCa bootstrap over patients; below ten patients there is none. Rows in italics know nothing of the "
        "network; rows are ordered by mean average precision, the mean over classes. Means over classes have their "
        "values by seed in brackets where there are several.",
        *(["", "**A quick run: small networks and few windows; no figure to be quoted.**"] if args.quick else []),
    ]
    for (name, n_leads), parts in found.items():
        size = sizes[name, n_leads]
        text += [
            "", f"### {_title(name, n_leads)}", "",
            f"Width {size.width}, {size.epochs} epochs, {parts[0].n_trained:,} windows"
            f"{'' if len(parts) == 1 else ' a seed'} to train on.",
            *recognition(parts), "",
            f"Goal: one explainer with pointing of at least {GOAL['pointing']:.2f} and average precision of at least "
            f"{GOAL['average precision']:.2f}. The best one is chosen on the windows that it is scored on.", "",
            table(GOAL_HEADER, goals(parts)), "", _default(parts), "", scores_table(parts, list(GOAL)),
        ]  # fmt: skip
        if n_leads > 1:
            text += _on_leads(parts)
        text += ["", "AUC (chance is one half), and mass, which mere sharpening of a map raises:", ""]
        text += [scores_table(parts, ["AUC", "mass"], intervals=False)]
        refused = {each: why for part in parts for each, why in part.refused.items()}
        text += [line for each, why in refused.items() for line in ("", f"{each} refuses this network: {why}")]
        if set(BY_SIZE) & set(parts[0].scores):
            text += ["", "‡ Ranked by size, as the field reads it; all others by their signed value."]
    return "\n".join([*text, "", versions() + "."])


def _default(parts: Sequence[Bunch], where: str = "") -> str:
    """Say how the default explainer does, and whether one explainer meets the goal in all classes."""
    labels, precision = labels_of(parts), "average precision" + where
    names = sorted(ordered(parts, controls=False), key=lambda n: -mean_over_classes(parts, n, precision))
    everywhere = [name for name in names if all(meets(parts, name, label, where) for label in labels)]
    text = f"Explainers that meet it in every class: {', '.join(everywhere) or 'none'}."
    if DEFAULT in parts[0].scores:
        met = [label for label in labels if meets(parts, DEFAULT, label, where)]
        text += (
            f" {DEFAULT}, the default, meets it in {', '.join(met) or 'no class'}, and is number "
            f"{names.index(DEFAULT) + 1} of {len(names)} by mean average precision."
        )
    return text


def _on_leads(parts: Sequence[Bunch]) -> list[str]:
    """Return the note on maps without leads, and the table in which leads are not told apart."""
    top = ", ".join(
        f"{label} {mean(parts, CEILING, 'average precision', label):.2f} and "
        f"{mean(parts, CEILING, 'pointing', label):.2f}"
        for label in labels_of(parts)
    )
    return [
        "",
        "Scores above are over time x leads. † The map is the same at every lead: it cannot say which leads show the "
        f"evidence, and reaches at most the average precision and pointing of *{CEILING}*, the share of leads that "
        f"show it at each time (average precision and pointing {top}).",
        "",
        "The same maps in time alone: positive relevance summed over the leads, truth where any lead shows it.",
        "",
        table(GOAL_HEADER, goals(parts, IN_TIME)),
        "",
        _default(parts, IN_TIME),
        "",
        scores_table(parts, [what + IN_TIME for what in GOAL]),
    ]


def write_csv(path: Path, found: dict[tuple[str, int], list[Bunch]]) -> None:
    """Write every score of every class, over all seeds with its interval and by seed."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["network", "leads", "explainer", "class", "score", "seed", "windows", "patients", "value",
                         "low", "high"])  # fmt: skip
        for (name, n_leads), parts in found.items():
            for each in ordered(parts):
                for label in labels_of(parts):
                    for what in parts[0].scores[each]:
                        start, f = [name, n_leads, each, label, what], collected(parts, each, what, label)
                        ends = [f"{end:.4f}" if np.isfinite(end) else "" for end in (f.low, f.high)]
                        writer.writerow([*start, "all", f.n, f.n_groups, f"{f.value:.4f}", *ends])
                        for seed, values in of_class(parts, each, what, label).items():
                            own = next(part for part in parts if part.seed == seed)
                            n_patients = len(np.unique(own.groups[own.target == label]))
                            writer.writerow([*start, seed, len(values), n_patients, f"{values.mean():.4f}", "", ""])


def draw(found: dict[tuple[str, int], list[Bunch]], path: Path) -> None:
    """Draw average precision and pointing of each class with intervals, explainers by their mean over all networks."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    names = list(dict.fromkeys(name for parts in found.values() for name in parts[0].scores))

    def height(name: str) -> float:
        return float(np.mean([mean_over_classes(parts, name) for parts in found.values() if name in parts[0].scores]))

    names = sorted(names, key=height)
    labels = [label for label in CLASSES if any(label in labels_of(parts) for parts in found.values())]
    size = (2.2 + 3.4 * len(found), 1.6 + 2 * 0.27 * len(names))
    figure, axes = plt.subplots(2, len(found), figsize=size, sharex=True, sharey=True, squeeze=False)
    for row, what in zip(axes, GOAL, strict=True):
        for ax, ((name, n_leads), parts) in zip(row, found.items(), strict=True):
            for y, each in enumerate(names):
                if each not in EXPLAINERS:
                    ax.axhspan(y - 0.5, y + 0.5, color="0.92", linewidth=0)
                if each not in parts[0].scores:
                    text = "refused" if each in parts[0].refused else "of several leads only"
                    ax.text(0.02, y, text, va="center", fontsize=7, color="0.5")
                    continue
                for label in labels_of(parts):
                    i, f = labels.index(label), collected(parts, each, what, label)
                    at = y + (len(labels) - 1 - 2 * i) * 0.1
                    ax.plot([f.low, f.high], [at, at], color=COLORS[i], linewidth=1.2)
                    ax.plot(f.value, at, MARKERS[i], color=COLORS[i], markersize=3.5)
            ax.axvline(GOAL[what], color="0.4", linewidth=0.8, linestyle="--")
            ax.set_xlim(-0.02, 1.02)
            ax.set_ylim(-0.6, len(names) - 0.4)
            ax.set_title(f"{_title(name, n_leads)}: {what}", fontsize=9)
            ax.grid(axis="x", color="0.85", linewidth=0.5)
            ax.set_axisbelow(True)
            ax.tick_params(labelsize=8)
    for row in axes:
        row[0].set_yticks(range(len(names)), names)
        for text in row[0].get_yticklabels():
            if text.get_text() not in EXPLAINERS:
                text.set_fontstyle("italic")
    shown = zip(COLORS, MARKERS, labels, strict=False)
    handles = [Line2D([], [], color=color, marker=marker, markersize=4, label=label) for color, marker, label in shown]
    seeds = len(next(iter(found.values())))
    figure.legend(handles=handles, ncols=len(handles), loc="lower center", fontsize=9, frameon=False)
    figure.suptitle(
        f"Planted truth of make_ecg, held-out patients, {seeds} seed{'s' if seeds > 1 else ''}; 95 % intervals over "
        "patients (none below ten); dashed: goal; grey, italic: controls",
        fontsize=9,
    )
    figure.tight_layout(rect=(0, 0.03, 1, 0.99))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Read the command line, train, explain, print and write."""
    args_parser = parser(__doc__)
    args_parser.add_argument("--explainers", nargs="+", choices=EXPLAINERS, default=list(EXPLAINERS), metavar="NAME")
    args_parser.add_argument("--leads", nargs="+", type=int, choices=(1, 12), default=[1, 12], help="1, 12 or both")
    args_parser.add_argument("--per-class", type=int, default=None, help="windows a class and seed; 40, quick 8")
    args = args_parser.parse_args()
    args.seeds = args.seeds or ([0] if args.quick else [0, 1, 2])
    args.per_class = args.per_class or (8 if args.quick else 40)
    sizes = QUICK if args.quick else FULL
    found = {
        (name, n_leads): [explained(name, n_leads, size, seed, args) for seed in args.seeds]
        for (name, n_leads), size in sizes.items()
        if n_leads in args.leads
    }
    for parts in found.values():
        for each in {each for part in parts for each in part.refused}:
            for part in parts:
                part.scores.pop(each, None)  # a row holds all seeds or none
    text = page(found, sizes, args)
    print(text)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "proving_ground.md").write_text(text + "\n", encoding="utf-8")
        write_csv(args.out / "proving_ground.csv", found)
        draw(found, args.out / "proving_ground.png")


if __name__ == "__main__":
    main()
