"""
Quickstart: train ECGNet, then see and measure what it looks at
===============================================================

The main job in one file: windows of ECG in; a trained network, its scores, StageCAM and learned-mask relevance, both
measured against where the evidence lies, and a picture out. By default on simulated ECG with known evidence (about a
minute on two cores); on the MIT-BIH Arrhythmia Database with ``--data mitdb``, downloaded on first use.

Patients are kept apart. ``--split beat`` draws single beats at random, as many papers do, and prints the patient-wise
figure beside it.
"""

from __future__ import annotations

import argparse
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import classification_report, confusion_matrix, f1_score
from sklearn.model_selection import StratifiedGroupKFold
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import OneCycleLR

from skecg import ECGClassifier, GradCAM1D, MaskDeletion, RelevanceAggregator, RelevanceDisplay
from skecg.datasets import fetch_mitdb, make_ecg
from skecg.metrics import centre_prior, chance_level, pointing_game_score, relevance_mass_score

# Where the evidence of a class lies, in seconds about the annotated beat (textbook knowledge, our own rule). PVC: the
# wide QRS; PAC: the early P wave; bundle branch blocks: the QRS. N has no single place and is left out.
EVIDENCE = {"PVC": (-0.06, 0.10), "PAC": (-0.25, -0.04), "LBBB": (-0.08, 0.12), "RBBB": (-0.04, 0.14)}


def load(name: str, seed: int):
    """Return the data set and the truth, True where the evidence of the class lies."""
    if name == "synthetic":
        ecg = make_ecg(1600, n_patients=40, random_state=seed)
        return ecg, ecg.truth
    ecg = fetch_mitdb(random_state=seed, verbose=1)
    return ecg, mark_evidence(ecg)


def mark_evidence(ecg) -> np.ndarray:
    """Return where the evidence lies: at every beat of the window's class, for they all carry it."""
    truth = np.zeros(ecg.data.shape, dtype=bool)
    half = ecg.data.shape[-1] // 2
    for label, limits in EVIDENCE.items():
        start, stop = (round(limit * ecg.fs) for limit in limits)
        for name in np.unique(ecg.record):
            rows = np.flatnonzero((ecg.target == label) & (ecg.record == name))
            for row in rows:
                beats = ecg.sample[rows] - ecg.sample[row] + half
                for beat in beats[(beats > 0) & (beats < 2 * half)]:
                    truth[row, :, max(0, beat + start) : max(0, beat + stop)] = True
    return truth


def split(ecg, kind: str, per_class: tuple[int, int] | None, rng: np.random.RandomState):
    """Return rows to train on and to test on, at most ``per_class`` of each class."""
    order = rng.permutation(len(ecg.data))
    if kind == "beat":
        train, test = [], []
        for label in np.unique(ecg.target):
            rows = order[ecg.target[order] == label]
            n_test = per_class[1] if per_class else len(rows) // 5
            test.append(rows[:n_test])
            train.append(rows[n_test : n_test + per_class[0] if per_class else None])
        return np.concatenate(train), np.concatenate(test)
    folds = StratifiedGroupKFold(4, shuffle=True, random_state=rng)
    for train, test in folds.split(ecg.data, ecg.target, ecg.groups):
        if set(ecg.target[train]) == set(ecg.target[test]) == set(ecg.target):
            break
    else:
        raise SystemExit("no fold holds every class on both sides: try another --seed")
    kept = []
    for rows, n in zip((train, test), per_class or (None, None), strict=True):
        rows = order[np.isin(order, rows)]
        kept.append(np.concatenate([rows[ecg.target[rows] == label][:n] for label in np.unique(ecg.target)]))
    return kept[0], kept[1]


def score(ecg, rows, predicted, rng: np.random.RandomState, n_bootstrap: int = 1000) -> str:
    """Return macro F1 with its interval over patients, and the chance level."""
    y, patients = ecg.target[rows], ecg.groups[rows]
    value, names = f1_score(y, predicted, average="macro"), np.unique(patients)
    members = [np.flatnonzero(patients == name) for name in names]
    drawn = []
    for _ in range(n_bootstrap):
        take = np.concatenate([members[i] for i in rng.randint(len(names), size=len(names))])
        labels = np.unique(y[take])
        drawn.append(f1_score(y[take], predicted[take], average="macro", labels=labels, zero_division=0))
    low, high = np.percentile(drawn, [2.5, 97.5])
    shuffled = f1_score(y, rng.permutation(predicted), average="macro")
    return (
        f"macro F1 {value:.3f} (95 % {low:.3f} to {high:.3f}, bootstrap over {len(names)} patients, {len(y)} windows; "
        f"chance {shuffled:.2f})"
    )


def train_and_report(ecg, kind: str, args) -> tuple[ECGClassifier, np.ndarray]:
    """Train on one split and print its report; return the classifier and the test rows."""
    rng = np.random.RandomState(args.seed)
    train, test = split(ecg, kind, (2000, 500) if args.data == "mitdb" else None, rng)
    shared = len(set(ecg.groups[train]) & set(ecg.groups[test]))
    print(f"\n== split by {kind}: {len(train)} windows to train on, {len(test)} to test on, seed {args.seed}")
    if shared:
        print(f"   This split SHARES {shared} PATIENTS between training and test: the figure below is too good.")
    else:
        print("   No patient is on both sides.")
    steps = args.epochs * (len(train) // 64 + 1)
    clf = ECGClassifier(
        "ECGNet",
        module__width=args.width,
        module__dropout=0.1,
        fs=ecg.fs,
        max_epochs=args.epochs,
        batch_size=64,
        class_weight="balanced",
        callbacks=[LRScheduler(policy=OneCycleLR, max_lr=3e-3, total_steps=steps, step_every="batch")],
        random_state=args.seed,
        verbose=1,
    )
    clf.fit(ecg.data[train], ecg.target[train])
    predicted = clf.predict(ecg.data[test])
    print(classification_report(ecg.target[test], predicted, digits=3, zero_division=0))
    matrix = confusion_matrix(ecg.target[test], predicted, labels=clf.classes_)
    print("confusion matrix (rows: true, columns: predicted):", *clf.classes_)
    print(matrix)
    print(score(ecg, test, predicted, rng))
    return clf, test


def explain(ecg, truth, clf, test, args) -> None:
    """Explain recognised test windows, print relevance by class and lead and its place, and save a picture."""
    rng = np.random.RandomState(args.seed)
    right = test[clf.predict(ecg.data[test]) == ecg.target[test]]
    rows = np.concatenate([rng.permutation(right[ecg.target[right] == c])[: args.explain] for c in clf.classes_])
    if not truth[rows].any():
        raise SystemExit("no window of a class with a place was recognised: train for more --epochs")
    X, y = ecg.data[rows], ecg.target[rows]
    placed = truth[rows].any((1, 2))
    print(f"\n== {len(rows)} recognised test windows explained; {placed.sum()} of them have evidence with a place")
    explainers = {"StageCAM": GradCAM1D(clf), "mask": MaskDeletion(clf, n_knots=48, verbose=1)}
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # such as: the replaced signal itself scores as the class
        results = {name: explainer.explain(X, target=y) for name, explainer in explainers.items()}
    for name, result in results.items():
        table = RelevanceAggregator(by="lead", lead_names=ecg.lead_names, random_state=args.seed)
        table.fit(result.relevance, y, groups=ecg.groups[rows], record=ecg.record[rows])
        print(f"\nmean relevance of {name} by class and lead, over patients (interval: 95 %, from 10 patients on):")
        for label, means, intervals, n in zip(
            table.classes_, table.mean_, table.interval_, table.n_patients_, strict=True
        ):
            for lead, mean, (low, high), count in zip(ecg.lead_names, means, intervals, n, strict=True):
                interval = f" ({low:.4f} to {high:.4f})" if np.isfinite(low) else ""
                print(f"  {label:>5} {lead} {mean:.4f}{interval}, {count} patients")
    t = truth[rows][placed]
    controls = {"abs(x)": np.abs(X), "centre": np.broadcast_to(centre_prior(X.shape), X.shape)}
    print(f"\nplace of the relevance ({placed.sum()} windows, chance {chance_level(t):.3f}):")
    for name, relevance in {**{k: r.relevance for k, r in results.items()}, **controls}.items():
        pointing = pointing_game_score(t, relevance[placed])
        mass = relevance_mass_score(t, relevance[placed])
        print(f"  {name:>8}: pointing game {pointing:.3f}, relevance mass {mass:.3f}")

    sure = results["StageCAM"].score  # of each class shown, the window that the network is surest of
    labels = [label for label in ("PVC", "RBBB", "LBBB", "PAC") if (y == label).any()][:2]
    shown = [np.flatnonzero(y == label)[sure[y == label].argmax()] for label in labels]
    figure, axes = plt.subplots(2, len(shown), figsize=(4 * len(shown), 6), layout="compressed", squeeze=False)
    for row, (name, result) in zip(axes, results.items(), strict=True):
        for ax, i in zip(row, shown, strict=True):
            RelevanceDisplay.from_relevance(
                X[i],
                result.relevance[i],
                fs=ecg.fs,
                lead_names=ecg.lead_names,
                relevance_kind=result.relevance_kind,
                truth=truth[rows][i],
                ax=ax,
            )
            ax.set_title(f"{y[i]}: {name}, score {result.score[i]:.3g}", loc="left", fontsize=10)
    figure.savefig(args.out, dpi=150, bbox_inches="tight")
    print(f"\npicture: {args.out}")


def main() -> None:
    """Run the main job."""
    parser = argparse.ArgumentParser(description="Train ECGNet, then see and measure what it looks at.")
    parser.add_argument("--data", choices=["synthetic", "mitdb"], default="synthetic")
    parser.add_argument("--split", choices=["patient", "beat"], default="patient")
    parser.add_argument("--width", type=int, default=4, help="channels of a stem convolution; 16 in the paper")
    parser.add_argument("--epochs", type=int, default=None, help="default: 6")
    parser.add_argument("--explain", type=int, default=8, help="windows explained of each class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="quickstart.png", help="where the picture goes")
    args = parser.parse_args()
    args.epochs = args.epochs or 6

    ecg, truth = load(args.data, args.seed)
    print(f"{args.data}: {len(ecg.data)} windows of {len(np.unique(ecg.groups))} patients, {ecg.fs:g} Hz")
    for label, count in zip(*np.unique(ecg.target, return_counts=True), strict=True):
        print(f"  {label:>5} {count}")
    clf, test = train_and_report(ecg, args.split, args)
    explain(ecg, truth, clf, test, args)
    if args.split == "beat":
        print("\nThe same with patients apart, which is what a new patient would see:")
        train_and_report(ecg, "patient", args)


if __name__ == "__main__":
    main()
