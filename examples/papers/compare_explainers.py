"""Which explanation finds the beat: every explainer on windows of 8 s of MIT-BIH, after the protocol of Suh et al.

DS1 trains (202, the man of 201, among them), DS2 is explained (21 patients), by ResNet1d and by ECGNet: windows of
ventricular (VEB) and supraventricular (SVEB) ectopic beats that the network is sure of. Two truths: the spans of the
beats of the class, and their QRS. Prints the table and what can be said of it; ``--out`` gets ``explainers.md`` and
``explainers.png``.

``--work`` keeps networks and maps: an interrupted run goes on from there. ``--quick`` takes under two minutes: one
small network, few patients. The full run trains six networks; on two cores it takes about two hours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _explainers import CONTROLS, DEFAULT, EXPLAINERS, GUIDED, control, relevance
from _protocol import CLASSES, MOST_TRUTH, STRIDE, SURE, WIDTH, draw, recognised, trained, windows
from _study import parser, table, versions

from skecg.metrics import (
    bootstrap_score,
    pointing_game_score,
    relevance_auc_score,
    relevance_average_precision_score,
    relevance_mass_score,
)

TRUTHS = ("span", "qrs")
# ECGNet takes three times as long a window.
MOST = {"ResNet1d": 100, "ECGNet": 50}
SCORES = {
    "average precision": relevance_average_precision_score,
    "AUC": relevance_auc_score,
    "pointing": pointing_game_score,
    "mass": relevance_mass_score,
}
QUICK_RECORDS = ["100", "106", "119", "200", "203", "208", "209", "213", "220", "221", "222", "223"]


def explained(name: str, seed: int, ecg, args) -> tuple[dict[str, np.ndarray | str], np.ndarray, np.ndarray]:
    """Return the maps of every explainer and control, the rows explained, and the recall of each class."""
    train = np.flatnonzero(ecg.split == "DS1")
    small = {"width": 4, "epochs": 2} if args.quick else {}
    clf = trained(name, ecg, train, seed, work=args.work, device=args.device, **small)
    test = np.flatnonzero((ecg.split == "DS2") & (ecg.start % ecg.data.shape[-1] == 0))
    rng, rows = np.random.RandomState(seed), []
    for label in CLASSES:
        most = args.windows or MOST[name]
        rows.append(draw(recognised(clf, ecg, test, label, args.sure), ecg.groups, most, rng))
    rows = np.concatenate(rows)
    predicted = clf.predict(ecg.data[test])
    recall = np.array([(predicted[ecg.target[test] == label] == label).mean() for label in CLASSES])
    X, seconds = ecg.data[rows], ecg.data.shape[-1] / ecg.fs
    keep = None if args.work is None else args.work / "maps"
    maps: dict[str, np.ndarray | str] = {key: control(key, clf[:-1].transform(X), seed) for key in CONTROLS}
    for key in args.explainers:
        maps[key] = relevance(key, clf, X, ecg.target[rows], seconds, keep)
    return maps, rows, recall


def scores(maps: dict[str, np.ndarray | str], ecg, rows: np.ndarray) -> dict[tuple[str, str, str], np.ndarray]:
    """Return (explainer, truth, score): a value a window."""
    return {
        (key, truth, name): score(ecg[truth][rows], R, average=False)
        for key, R in maps.items()
        if not isinstance(R, str)
        for truth in TRUTHS
        for name, score in SCORES.items()
    }


def cell(values: np.ndarray, groups: np.ndarray, seeds: np.ndarray) -> str:
    """Return mean, interval over patients where there are ten or more, and the means by seed."""
    found = bootstrap_score(values, groups)
    inside = f"{found.low:.2f} to {found.high:.2f}" if np.isfinite(found.low) else f"{found.n_groups} patients"
    by_seed = " ".join(f"{np.nanmean(values[seeds == seed]):.2f}" for seed in np.unique(seeds))
    return f"{found.value:.2f} ({inside}; {by_seed})"


def cells(found: dict, where: dict, score: str) -> dict[str, list[tuple[str, str, np.ndarray]]]:
    """Return by explainer the values of the four cells (class, truth)."""
    keys = dict.fromkeys(key for key, _, _ in found)
    return {
        key: [
            (label, truth, found[key, truth, score][where["target"] == label]) for label in CLASSES for truth in TRUTHS
        ]
        for key in keys
    }


def verdict(name: str, key: str, found: dict, where: dict) -> str:
    """Say whether an explainer is ahead of Guided Grad-CAM in all four cells, and by how much in the mean."""
    by = cells(found, where, "average precision")
    if key not in by or GUIDED not in by:
        return ""
    lines, ahead, ratio = [], 0, []
    for (label, truth, ours), (_, _, theirs) in zip(by[key], by[GUIDED], strict=True):
        own = where["target"] == label
        if not own.any():
            lines.append(f"{label} {truth}: no window")
            continue
        gap = bootstrap_score(ours - theirs, where["groups"][own])
        ahead += gap.value > 0
        inside = f"{gap.low:+.2f} to {gap.high:+.2f}" if np.isfinite(gap.low) else f"{gap.n_groups} patients"
        patients = int((gap.values_by_group > 0).sum())
        lines.append(f"{label} {truth} {gap.value:+.2f} ({inside}; {patients} of {gap.n_groups} patients)")
        ratio.append((np.nanmean(ours), np.nanmean(theirs)))
    mean = np.mean(ratio, axis=0)
    return (
        f"{name}: {key} less {GUIDED}, average precision: {'; '.join(lines)}. Ahead in {ahead} of 4 cells; the "
        f"mean of the cells is {mean[0]:.2f} against {mean[1]:.2f}, {mean[0] / mean[1]:.2f} times."
    )


def tables(name: str, found: dict, where: dict, refused: dict[str, str]) -> str:
    """Return the tables of a network: average precision and AUC, then pointing and mass."""
    parts = []
    for first, second in (("average precision", "AUC"), ("pointing", "mass")):
        one, two = cells(found, where, first), cells(found, where, second)
        order = sorted(one, key=lambda key: -np.mean([np.nanmean(v) for _, _, v in one[key] if len(v)]))
        rows = []
        for key in order:
            line = [f"*{key}*" if key in CONTROLS else key]
            for (label, _, values), (_, _, others) in zip(one[key], two[key], strict=True):
                own = where["target"] == label
                if not own.any():
                    line.append("no window")
                    continue
                beside = f"; {second} {np.nanmean(others):.2f}"
                line.append(cell(values, where["groups"][own], where["seed"][own]) + beside)
            rows.append(line)
        header = [f"{name}: {first}"]
        for label in CLASSES:
            for truth in TRUTHS:
                inside = where[truth][where["target"] == label]
                header.append(f"{label} {truth} (chance {inside.mean():.2f})" if len(inside) else f"{label} {truth}")
        parts.append(table(header, rows))
    if refused:
        reasons = [f"{key}: {reason.split('. ')[0]}" for key, reason in refused.items()]
        parts.append(f"Refused: {'; '.join(reasons)}.")
    return "\n\n".join(parts)


def picture(per_network: dict[str, tuple[dict, dict]], path: Path) -> None:
    """Draw the average precision of each explainer in the four cells, the default and the best known marked."""
    import matplotlib.pyplot as plt

    size = (6.2 * len(per_network), 7)
    fig, axes = plt.subplots(1, len(per_network), figsize=size, layout="constrained", squeeze=False)
    colours = {"span": "#0072B2", "qrs": "#D55E00"}
    for ax, (name, (found, where)) in zip(axes[0], per_network.items(), strict=True):
        by = cells(found, where, "average precision")
        order = sorted(by, key=lambda key: np.mean([np.nanmean(v) for _, _, v in by[key] if len(v)]))
        for row, key in enumerate(order):
            for label, truth, values in by[key]:
                if len(values):
                    ax.plot(
                        np.nanmean(values),
                        row,
                        "o" if label == "VEB" else "s",
                        color=colours[truth],
                        fillstyle="full" if label == "VEB" else "none",
                        label=f"{label}, truth: {'span' if truth == 'span' else 'QRS'}" if row == 0 else None,
                    )
        ax.set_yticks(range(len(order)), [f"({key})" if key in CONTROLS else key for key in order])
        for tick, key in zip(ax.get_yticklabels(), order, strict=True):
            tick.set_fontweight("bold" if key in (DEFAULT, GUIDED) else "normal")
        ax.set(xlim=(0, 1), xlabel="average precision, mean over windows", title=name)
        ax.grid(axis="x", alpha=0.3)
        ax.legend(loc="lower right", fontsize=8)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def main() -> None:
    """Read the command line, train, explain, score, print and write."""
    args_parser = parser(__doc__)
    args_parser.add_argument("--networks", nargs="+", default=None, help="ResNet1d and ECGNet")
    args_parser.add_argument("--windows", type=int, default=None, help="most a class and seed; 100 and 50, quick 12")
    args_parser.add_argument("--explainers", nargs="+", choices=list(EXPLAINERS), default=list(EXPLAINERS))
    args = args_parser.parse_args()
    args.sure = 0.2 if args.quick else SURE
    args.seeds = args.seeds or ([0] if args.quick else [0, 1, 2])
    args.windows = args.windows or (12 if args.quick else None)
    args.networks = args.networks or (["ResNet1d"] if args.quick else ["ResNet1d", "ECGNet"])
    ecg = windows(QUICK_RECORDS if args.quick else None, STRIDE)
    text, per_network = [], {}
    for name in args.networks:
        parts, where, refused, told = [], [], {}, []
        for seed in args.seeds:
            maps, rows, recall = explained(name, seed, ecg, args)
            refused |= {key: R for key, R in maps.items() if isinstance(R, str)}
            parts.append(scores(maps, ecg, rows))
            where.append(
                {"target": ecg.target[rows], "groups": ecg.groups[rows], "seed": np.full(len(rows), seed)}
                | {truth: ecg[truth][rows] for truth in TRUTHS}
            )
            of = [int((ecg.target[rows] == label).sum()) for label in CLASSES]
            told.append(f"seed {seed}: recall VEB {recall[0]:.2f}, SVEB {recall[1]:.2f}, windows {of[0]} and {of[1]}")
            print(name, told[-1], flush=True)
        merged = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        place = {key: np.concatenate([w[key] for w in where]) for key in where[0]}
        per_network[name] = merged, place
        patients = [len(np.unique(place["groups"][place["target"] == label])) for label in CLASSES]
        text.append(
            f"**{name}** of width {4 if args.quick else WIDTH[name]}, {'; '.join(told)}. VEB windows of {patients[0]} "
            f"patients, SVEB windows of {patients[1]}."
        )
        text += [tables(name, merged, place, refused)]
        text += [verdict(name, key, merged, place) for key in (DEFAULT, "occlusion")]
    intro = (
        "Windows of 8 s of the first lead of MIT-BIH, each standardised; DS1 trains, windows of DS2 are explained that "
        f"the network gives their class with p > {args.sure:g} and whose spans are under {MOST_TRUTH:.0%} of it, "
        f"at most {args.windows or '100 (ECGNet: 50)'} a class and seed, of as many patients as there are. Truth: the "
        "spans of the beats of the class from midpoint to midpoint, and their QRS (R, 150 ms on both sides). In "
        "brackets the 95 % interval over "
        "patients (none where there are fewer than ten) and the mean of each seed. AUC has chance .5, all others the "
        "share of truth in the header. The mass beside pointing rewards mere sharpening. Rows in the order of their "
        "mean; *controls* know nothing of the network."
    )
    page = "\n\n".join([intro, *filter(None, text), versions() + "."])
    print(page)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "explainers.md").write_text(page + "\n")
        picture(per_network, args.out / "explainers.png")


if __name__ == "__main__":
    main()
