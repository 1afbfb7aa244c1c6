"""What the network looks at while it learns: the same windows, explained with the weights of every epoch.

The last figure of Vijayarangan et al. 2020 is titled "interpretability with respect to epochs"; what it shows is not
known to us. Here it is three curves over windows of PVC, LBBB and RBBB that the network was not trained on: accuracy,
rank correlation of the Grad-CAM map (without its ReLU) with that of the last epoch, and the share of the positive
relevance inside the region of the evidence, beside the share of time.

The networks are those of ``localisation.py``: where ``--work`` holds their checkpoints nothing is trained. ``--quick``
takes under two minutes. ``--out`` gets ``epochs.md`` and ``epochs.png``.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _study import EVIDENCE, bootstrap, evidence, parser, table, trained_to_be_explained, versions
from sklearn.utils import Bunch

from skecg import GradCAM1D
from skecg.explain import relevance_over_epochs
from skecg.plotting import EpochsDisplay


def drawn(ecg: Bunch, unseen: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Draw unseen windows of each class with a place, recognised or not: recognition is one of the curves."""
    order = np.random.RandomState(seed).permutation(unseen)
    return np.concatenate([order[ecg.target[order] == label][:per_class] for label in EVIDENCE])


def curves_of(seed: int, work: Path, args: Any) -> tuple[Bunch, np.ndarray, np.ndarray]:
    """Return the curves of one seed's training, and label and patient of each window."""
    ecg, clf, unseen = trained_to_be_explained(seed, work, args.quick, "cpu")
    rows = drawn(ecg, unseen, args.per_class, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        curves = relevance_over_epochs(
            GradCAM1D(clf, method="gradcam", relu=False), ecg.data[rows], ecg.target[rows], truth=evidence(ecg, rows)
        )
    return curves, ecg.target[rows], ecg.groups[rows]


def lines_of(seed: int, curves: Bunch, target: np.ndarray, patients: np.ndarray) -> list[list[Any]]:
    """Return a line of the table for each epoch."""
    lines = []
    for i, epoch in enumerate(curves.epochs):
        share = curves.share_by_window[i]
        value, low, high, n_patients = bootstrap(lambda take, v=share: float(np.nanmean(v[take])), patients)
        interval = f"{low:.2f} to {high:.2f}" if np.isfinite(low) else f"{n_patients} patients, no interval"
        by_class = ", ".join(f"{np.nanmean(share[target == label]):.2f}" for label in EVIDENCE)
        lines.append(
            [
                seed, epoch, f"{curves.accuracy[i]:.3f}", f"{curves.rank_correlation[i]:.3f}",
                f"{value:.3f} ({interval})", by_class, f"{curves.chance:.3f}", curves.n_constant[i],
            ]
        )  # fmt: skip
    return lines


def draw(found: dict[int, Bunch]) -> Any:
    """Return the figure, a panel a seed."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), squeeze=False, figsize=(5.2 * len(found), 4), layout="constrained")
    for ax, (seed, curves) in zip(axes[0], found.items(), strict=True):
        EpochsDisplay.from_curves(curves, ax=ax, title=f"seed {seed}")
    return figure


def report(args: Any, work: Path) -> tuple[str, dict[int, Bunch]]:
    """Explain with every epoch of every seed; return the page and the curves."""
    lines, found = [], {}
    for seed in args.seeds:
        curves, target, patients = curves_of(seed, work, args)
        found[seed] = curves
        lines += lines_of(seed, curves, target, patients)
        for line in lines[-len(curves.epochs) :]:
            print(*line, sep="  ", flush=True)
    header = [
        "seed", "epoch", "accuracy", "rank correlation with the last epoch", "share inside (95 %)",
        f"share inside, {', '.join(EVIDENCE)}", "share of time", "constant maps",
    ]  # fmt: skip
    counts = ", ".join(f"{np.sum(target == label)} {label}" for label in EVIDENCE)
    text = "\n".join(
        [
            f"ECGNet of width {2 if args.quick else 4}, trained with branch dropout .3 on windows moved by up to "
            f"0.56 s; Grad-CAM without its ReLU, of the annotated class; {counts} windows of {len(set(patients))} "
            "patients (last seed), recognised or not, not trained on, of patients that were. Share of the positive "
            "relevance; intervals by bootstrap over patients. Constant maps have no ranks and are left out of the "
            f"correlation. {versions()}.",
            "",
            table(header, lines),
        ]
    )
    return text, found


def main() -> None:
    """Read the command line, train or take up checkpoints, explain, print and write."""
    args_parser = parser(__doc__)
    args_parser.add_argument("--per-class", type=int, default=None, help="windows a class and seed; 60, quick 12")
    args = args_parser.parse_args()
    args.seeds = args.seeds or ([0] if args.quick else [0, 1, 2])
    args.per_class = args.per_class or (12 if args.quick else 60)
    with tempfile.TemporaryDirectory() as folder:
        text, found = report(args, args.work or Path(folder))
    print(text)
    if args.out is not None:
        import matplotlib.pyplot as plt

        args.out.mkdir(parents=True, exist_ok=True)
        Path(args.out / "epochs.md").write_text(text + "\n")
        figure = draw(found)
        figure.savefig(args.out / "epochs.png", dpi=90)
        plt.close(figure)


if __name__ == "__main__":
    main()
