"""Where the relevance lies: share inside the region of the evidence, per class and explainer, on MIT-BIH.

Windows are moved so that the beat may lie anywhere; chance and a map that always points at the middle stand beside
each explainer. Two truths: the region of each class (PVC, LBBB, RBBB; every beat of the class in the window), and, for
PVC, 125 ms on both sides of the beat, by which the learned mask is compared with occlusion and integrated gradients.

``--data synthetic`` gives the same table for ``make_ecg``, whose truth is planted: random positions, distractors.

``--quick`` takes under two minutes; the full run trains three networks (``--work`` keeps them) and explains 70
recognised windows of each class with each, 210 in all.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from _study import (
    AROUND_R,
    EVIDENCE,
    bootstrap,
    evidence,
    integrated_gradients,
    occlusion,
    parser,
    score_function,
    score_windows,
    smoothed,
    synthetic,
    table,
    trained_to_be_explained,
    versions,
)

from skecg import GradCAM1D, MaskDeletion
from skecg.explain import branch_contributions
from skecg.metrics import centre_prior

EXPLAINERS = {
    "Grad-CAM": lambda clf: GradCAM1D(clf, method="gradcam"),
    "Grad-CAM, ReLU that opens block 9": lambda clf: GradCAM1D(clf, method="gradcam", layer="cnn.blocks.8.body.1"),
    "Grad-CAM++": lambda clf: GradCAM1D(clf, method="gradcam++"),
    "HiResCAM": lambda clf: GradCAM1D(clf, method="hirescam"),
    "HiResCAM, ReLU that opens block 9": lambda clf: GradCAM1D(clf, method="hirescam", layer="cnn.blocks.8.body.1"),
    "LayerCAM": lambda clf: GradCAM1D(clf, method="layercam"),
    "learned mask": lambda clf: MaskDeletion(clf),
    "learned mask, LSTM alone": lambda clf: MaskDeletion(clf, branch="lstm"),
}


def recognised(ecg, clf, rows, per_class: int, seed: int, branch: str = "all", classes=tuple(EVIDENCE)) -> np.ndarray:
    """Return rows of each class with a place that the network, or one branch of it alone, recognises."""
    rows = np.random.RandomState(seed).permutation(rows)
    kept = []
    for label in classes:
        own = rows[ecg.target[rows] == label][: 3 * per_class]
        X = clf[:-1].transform(ecg.data[own])
        logits = np.concatenate([_logits(clf, X[i : i + 256], branch) for i in range(0, len(X), 256)])
        right = clf.classes_[logits.argmax(1)] == label
        kept.append(own[right][:per_class])
    return np.concatenate(kept)


def _logits(clf, X: np.ndarray, branch: str) -> np.ndarray:
    net = clf[-1].module_.eval()
    with torch.no_grad():
        x = torch.from_numpy(np.ascontiguousarray(X))
        if branch == "all":
            return net(x).numpy()
        terms = net.branch_logits(x, branch)
        return (terms[branch] + terms["bias"]).numpy()


def by_class(args) -> str:
    """Return the table of shares inside the region of each class."""
    classes = ("PVC", "PAC", "LBBB", "RBBB") if args.data == "synthetic" else tuple(EVIDENCE)
    found: dict[tuple[str, str], list] = {}
    where: dict[str, list] = {}
    told = []
    for seed in args.seeds:
        made = synthetic if args.data == "synthetic" else trained_to_be_explained
        ecg, clf, unseen = made(seed, args.work, args.quick, "cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            branch = branch_contributions(clf, ecg.data[unseen[:: max(1, len(unseen) // 1000)]])
        shares = zip(branch.branches, branch.share, strict=True)
        told.append(f"seed {seed}: {', '.join(f'{name} {share:.0%}' for name, share in shares)}")
        rows = recognised(ecg, clf, unseen, args.per_class, seed, classes=classes)
        truth = ecg.truth[rows] if args.data == "synthetic" else evidence(ecg, rows)
        prior = np.broadcast_to(centre_prior(truth.shape[1:], width=0.1), truth.shape)
        maps = {"the middle of the window": prior, "abs(x)": np.abs(clf[:-1].transform(ecg.data[rows]))}
        for name, make in EXPLAINERS.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                maps[name] = make(clf).explain(ecg.data[rows], target=ecg.target[rows]).relevance
        for name, R in maps.items():
            values = score_windows(R, truth)
            for label in classes:
                own = ecg.target[rows] == label
                found.setdefault((name, label), []).append({k: v[own] for k, v in values.items()})
        for label in classes:
            own = ecg.target[rows] == label
            patients = np.char.add(f"{seed}-" if args.data == "synthetic" else "", ecg.groups[rows][own].astype(str))
            where.setdefault(label, []).append((patients, truth[own].mean((1, 2))))
    lines = []
    for (name, label), parts in found.items():
        groups = np.concatenate([g for g, _ in where[label]])
        line = [name, label, len(groups)]
        for key in ("mass", "pointing", "average precision"):
            values = np.concatenate([part[key] for part in parts])
            by_seed = [float(np.nanmean(part[key])) for part in parts]
            value, low, high, n_patients = bootstrap(lambda take, v=values: float(np.nanmean(v[take])), groups)
            inside = f"{low:.2f} to {high:.2f}" if np.isfinite(low) else f"{n_patients} patients, no interval"
            line.append(f"{value:.2f} ({inside}; seeds {', '.join(f'{v:.2f}' for v in by_seed)})")
        chance = np.concatenate([share for _, share in where[label]]).mean()
        lines.append([*line, f"{chance:.2f}"])
        print(*lines[-1], sep="  ", flush=True)
    header = ["explainer", "class", "windows", "share inside", "pointing", "average precision", "share of time"]
    if args.data == "synthetic":
        text = (
            "Windows of make_ecg at random positions with distractors; test patients are other ones than those trained "
            "on; truth is the planted evidence."
        )
    else:
        text = "Windows of MIT-BIH moved by up to 0.56 s, which the network has not seen, of patients it knows."
    return "\n".join(
        [
            f"ECGNet of width {2 if args.quick else 4}, trained with branch dropout .3 (share of the deviation: "
            f"{'; '.join(told)}). {text} Only recognised windows. 95 % intervals by bootstrap over patients, where "
            "there are ten or more. The share of time is what chance gives to the share inside, and to pointing.",
            "",
            table(header, lines),
        ]
    )


def against_others(args) -> str:
    """Return the table of the learned mask against occlusion and integrated gradients on PVC windows."""
    lines = []
    for branch in ("lstm", "all"):
        found: dict[tuple[str, str], list] = {}
        chance, groups = [], []
        for seed in args.seeds:
            ecg, clf, unseen = trained_to_be_explained(seed, args.work, args.quick, "cpu")
            rows = recognised(ecg, clf, unseen, args.per_class, seed, branch)
            rows = rows[ecg.target[rows] == "PVC"]
            truth = evidence(ecg, rows, {"PVC": AROUND_R})
            X, code = clf[:-1].transform(ecg.data[rows]), np.full(len(rows), list(clf.classes_).index("PVC"))
            score = score_function(clf, branch)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mask = MaskDeletion(clf, branch=branch).explain(ecg.data[rows], target="PVC").relevance
            maps = {
                "learned mask (defaults)": mask,
                "occlusion, 208 ms, linear bridge": occlusion(score, X, code, ecg.fs),
                "integrated gradients, 32 midpoints": integrated_gradients(score, X, code),
                "the middle of the window": np.broadcast_to(centre_prior(truth.shape[1:], width=0.1), truth.shape),
            }
            for name, R in maps.items():
                found.setdefault((name, "raw"), []).append(score_windows(R, truth))
                after = smoothed(R if "mask" in name else np.maximum(R, 0), ecg.fs)
                found.setdefault((name, "minimum off, 100 ms smoothing"), []).append(score_windows(after, truth))
            chance.append(truth.mean((1, 2)))
            groups.append(ecg.groups[rows])
        everyone = np.concatenate(groups)
        for (name, kind), parts in found.items():
            line = ["LSTM alone" if branch == "lstm" else "whole network", name, kind, len(everyone)]
            for key in ("pointing", "average precision", "mass"):
                values = np.concatenate([part[key] for part in parts])
                value, low, high, _ = bootstrap(lambda take, v=values: float(np.nanmean(v[take])), everyone)
                seeds = ", ".join(f"{np.nanmean(part[key]):.2f}" for part in parts)
                line.append(f"{value:.3f} ({low:.2f} to {high:.2f}; seeds {seeds})")
            lines.append([*line, f"{np.concatenate(chance).mean():.3f}"])
            print(*lines[-1], sep="  ", flush=True)
    header = ["explained", "method", "map", "windows", "pointing", "average precision", "mass", "chance"]
    return "\n".join(
        [
            "PVC windows that are recognised by what is explained; truth is 125 ms on both sides of every PVC in the "
            "window. All methods go through the same two functions: as they come, and with each window's least value "
            "taken off and 100 ms of smoothing (of the positive part, for methods with a sign).",
            "",
            table(header, lines),
        ]
    )


def main() -> None:
    """Read the command line, explain, print and write."""
    args_parser = parser(__doc__)
    args_parser.add_argument("--per-class", type=int, default=None, help="windows a class and seed; 70, quick 15")
    args_parser.add_argument("--data", choices=("mitdb", "synthetic"), default="mitdb")
    args_parser.add_argument("--part", choices=("classes", "methods", "both"), default="both")
    args = args_parser.parse_args()
    args.seeds = args.seeds or ([0] if args.quick else [0, 1, 2])
    args.per_class = args.per_class or (15 if args.quick else 70)
    parts = []
    if args.part in ("classes", "both"):
        parts.append(by_class(args))
    if args.part in ("methods", "both") and args.data == "mitdb":
        parts.append(against_others(args))
    text = "\n\n".join([*parts, versions() + "."])
    print(text)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        name = "synthetic" if args.data == "synthetic" else "localisation"
        Path(args.out / f"{name}.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
