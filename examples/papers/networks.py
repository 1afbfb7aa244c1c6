"""The table of the networks: precision, recall, F1 and accuracy on MIT-BIH, beside the figures of the paper.

``python examples/papers/networks.py --quick`` takes under two minutes; without it each network is trained with three
seeds at the widths named in the table. Beats are drawn at random, so the same patients are on both sides, as in the
paper: the table says how many, and ``--split patients`` gives the same table with patients apart. ``--out`` writes the
table and the confusion matrix; ``--work`` keeps checkpoints and predictions, so that an interrupted run goes on.

Vijayarangan et al. 2020 publish, for eight classes of three databases: Hannun et al. .93, Zihlmann et al. .94 (as one),
their own network (ECGNet) .97 of F1. Here it is five classes of one database.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from _study import CLASSES, beat_split, beats, bootstrap, network, parser, table, versions
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support
from sklearn.model_selection import StratifiedGroupKFold

# name: (width, epochs) in the full run and with --quick, published F1, parameters of the module. The networks on
# spectrograms are several times as fast and need more epochs.
NETWORKS = {
    "ECGNet": ((4, 5), (1, 3), 0.97, {"module__dropout": 0.1}),
    "HannunNet": ((8, 5), (2, 3), 0.93, {"module__momentum": 0.1}),
    "ZihlmannCNN": ((8, 12), (2, 6), 0.94, {"module__momentum": 0.1}),
    "ZihlmannCRNN": ((8, 12), (2, 6), 0.94, {"module__momentum": 0.1}),
}


def patient_split(ecg, n_train: int, n_test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw at most so many beats of each class, with every patient on one side."""
    folds = StratifiedGroupKFold(4, shuffle=True, random_state=seed)
    order = np.random.RandomState(seed).permutation(len(ecg.target))
    for train, test in folds.split(ecg.data, ecg.target, ecg.groups):
        if set(ecg.target[train]) == set(ecg.target[test]) == set(CLASSES):
            break
    else:
        raise SystemExit(f"no fold of seed {seed} holds every class on both sides: take another")
    kept = []
    for rows, n in ((train, n_train), (test, n_test)):
        rows = order[np.isin(order, rows)]
        kept.append(np.concatenate([rows[ecg.target[rows] == label][:n] for label in CLASSES]))
    return kept[0], kept[1]


def train(name: str, seed: int, ecg, rows, width: int, epochs: int, args) -> dict:
    """Train one network with one seed, or take up what an earlier run left; return its predictions and facts."""
    kept = None
    if args.work is not None:
        args.work.mkdir(parents=True, exist_ok=True)
        kept = args.work / f"{name}-{width}-{args.split}-{args.n_train}-{epochs}-{seed}.json"
        if kept.is_file():
            return json.loads(kept.read_text())
    train_rows, test_rows = rows
    parameters = {**NETWORKS[name][3], "module__width": width, "device": args.device}
    if args.work is not None:
        parameters["checkpoint_dir"] = args.work / "checkpoints"
    clf = network(name, len(train_rows), epochs=epochs, seed=seed, fs=ecg.fs, **parameters)
    started = time.process_time()
    clf.fit(ecg.data[train_rows], ecg.target[train_rows])
    net = clf[-1]
    found = {
        "predicted": clf.predict(ecg.data[test_rows]).tolist(),
        "n_parameters": sum(p.numel() for p in net.module_.parameters()),
        "cpu_minutes": (time.process_time() - started) / 60,
        "device": net.device_ if net.device_ == "cpu" else torch.cuda.get_device_name(),
    }
    if kept is not None:
        part = kept.with_suffix(".part")
        part.write_text(json.dumps(found))
        part.replace(kept)
    return found


def report(args) -> str:
    """Train all, and return the page."""
    lines, matrices, order = [], {}, {}
    for seed in args.seeds:
        ecg = beats(seed)
        rows = (patient_split if args.split == "patients" else lambda e, a, b, s: beat_split(e.target, a, b, s))(
            ecg, args.n_train, args.n_test, seed
        )
        test = rows[1]
        shared = len(set(ecg.groups[rows[0]]) & set(ecg.groups[test]))
        y, patients = ecg.target[test], ecg.groups[test]
        shuffled = np.random.RandomState(seed).permutation(y)
        chance = f1_score(y, shuffled, average="macro")
        for name in args.networks:
            width, epochs = NETWORKS[name][1 if args.quick else 0]
            width, epochs = args.width or width, args.epochs or epochs
            found = train(name, seed, ecg, rows, width, epochs, args)
            predicted = np.array(found["predicted"])
            precision, recall, f1, _ = precision_recall_fscore_support(y, predicted, average="macro", zero_division=0)

            def macro(take, y=y, predicted=predicted):
                labels = np.unique(y[take])
                return f1_score(y[take], predicted[take], average="macro", labels=labels, zero_division=0)

            _, low, high, n_patients = bootstrap(macro, patients, seed, 200 if args.quick else 1000)
            matrices.setdefault(name, []).append(confusion_matrix(y, predicted, labels=CLASSES))
            order.setdefault(seed, []).append((f1, name))
            lines.append(
                [
                    name, width, f"{found['n_parameters']:,}", epochs, seed, f"{precision:.3f}", f"{recall:.3f}",
                    f"{f1:.3f} ({low:.3f} to {high:.3f})", f"{accuracy_score(y, predicted):.3f}", f"{chance:.2f}",
                    f"{NETWORKS[name][2]:.2f}", f"{found['cpu_minutes']:.0f}",
                ]
            )  # fmt: skip
            print(*lines[-1], sep="  ", flush=True)
    header = [
        "network", "width", "parameters", "epochs", "seed", "precision", "recall", "macro F1 (95 %)", "accuracy",
        "chance F1", "published F1 (eight classes)", "CPU minutes",
    ]  # fmt: skip
    split = (
        f"beats drawn at random: {shared} patients are in training AND in test, the figures are too good"
        if shared
        else "patients apart"
    )
    text = [
        f"Five classes of MIT-BIH ({', '.join(CLASSES)}), 2 s of the first lead, at most {args.n_train} windows a "
        f"class to train on, {args.n_test} to test on; {split}. Adam with a one-cycle rate, batches "
        f"of 64, each window standardised. Macro averages over classes; intervals by bootstrap over the {n_patients} "
        f"test patients; chance is the F1 of shuffled labels. Device: {found['device']}. {versions()}.",
        "",
        table(header, lines),
        "",
        *_order(order),
    ]
    best = max(matrices, key=lambda name: np.trace(np.sum(matrices[name], axis=0)))
    if args.out is not None:
        draw(np.sum(matrices[best], axis=0), best, args)
    return "\n".join(text)


def _order(order: dict) -> list[str]:
    """Say whether the paper's order holds in every seed."""
    if len(next(iter(order.values()))) < 2:
        return []
    ranked = {seed: sorted(values, reverse=True) for seed, values in order.items()}
    found = {seed: " > ".join(f"{name} {f1:.3f}" for f1, name in values) for seed, values in ranked.items()}
    wins = {seed: max(values)[1] for seed, values in order.items()}
    holds = all(name == "ECGNet" for name in wins.values())
    return [
        "Order by macro F1: " + "; ".join(f"seed {seed}: {text}" for seed, text in found.items()) + ".",
        "",
        f"The paper's first place for ECGNet {'holds in every seed' if holds else 'does not hold in every seed'}.",
    ]


def draw(matrix: np.ndarray, name: str, args) -> None:
    """Save the confusion matrix, summed over the seeds."""
    import matplotlib.pyplot as plt
    from sklearn.metrics import ConfusionMatrixDisplay

    display = ConfusionMatrixDisplay(matrix, display_labels=CLASSES)
    display.plot(cmap="Blues", colorbar=False)
    display.ax_.set_title(f"{name}, {args.split} split, {len(args.seeds)} seeds", fontsize=10)
    display.figure_.savefig(args.out / f"confusion_{args.split}.png", dpi=120, bbox_inches="tight")
    plt.close(display.figure_)


def main() -> None:
    """Read the command line, train, print and write."""
    args_parser = parser(__doc__)
    args_parser.add_argument("--split", choices=("beats", "patients"), default="beats")
    args_parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    args_parser.add_argument("--width", type=int, default=None, help="of every network; None: those of the table")
    args_parser.add_argument("--n-train", type=int, default=None, help="windows a class; 2000, with --quick 300")
    args_parser.add_argument("--n-test", type=int, default=None, help="windows a class; 500, with --quick 100")
    args_parser.add_argument("--epochs", type=int, default=None, help="of every network; None: those of the table")
    args = args_parser.parse_args()
    args.seeds = args.seeds or ([0] if args.quick else [0, 1, 2])
    args.n_train = args.n_train or (300 if args.quick else 2000)
    args.n_test = args.n_test or (100 if args.quick else 500)
    warnings.simplefilter("ignore", category=FutureWarning)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    text = report(args)
    print(text)
    if args.out is not None:
        Path(args.out / f"networks_{args.split}.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
