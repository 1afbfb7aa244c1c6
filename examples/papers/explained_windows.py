"""One recognised window of each class, explained by each explainer, on ECG paper: a row a class, a column an explainer.

The windows are not chosen by eye: each is the first, in a random order, of those that the network has not seen, whose
class the whole network recognises, and its LSTM alone too where it recognises any. A bar at the foot marks where
the evidence of the class is expected (PVC, LBBB, RBBB; N and PAC have no such place), and the table says how much of
the relevance lies there. ``--quick`` takes under two minutes; ``--work`` keeps the network, which is that of
``localisation.py``; ``--out`` gets ``explained_windows.png`` and ``explained_windows.md``.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _study import CLASSES, EVIDENCE, evidence, parser, table, trained_to_be_explained, versions
from localisation import recognised
from sklearn.utils import Bunch

from skecg import GradCAM1D, MaskDeletion
from skecg.metrics import relevance_mass_score
from skecg.plotting import RelevanceDisplay

EXPLAINERS = {
    "Grad-CAM": lambda clf: GradCAM1D(clf, method="gradcam"),
    "HiResCAM": lambda clf: GradCAM1D(clf, method="hirescam"),
    "learned mask": lambda clf: MaskDeletion(clf),
    "learned mask, LSTM alone": lambda clf: MaskDeletion(clf, branch="lstm"),
}


def chosen(ecg: Bunch, clf: Any, unseen: np.ndarray, seed: int, tried: int = 20) -> list[tuple[int, bool]]:
    """Return a row of each class that is recognised, and whether the LSTM alone recognises it too."""
    found = []
    for label in CLASSES:
        own = recognised(ecg, clf, unseen, tried, seed, classes=(label,))
        if len(own):
            alone = recognised(ecg, clf, own, tried, seed, "lstm", classes=(label,))
            found.append((int(alone[0]), True) if len(alone) else (int(own[0]), False))
    if not found:
        raise SystemExit("the network recognises no window of any class: train it longer (without --quick)")
    return found


def draw(ecg: Bunch, rows: np.ndarray, alone: np.ndarray, explained: dict[str, Bunch], truth: np.ndarray) -> Any:
    """Return the figure."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(rows), len(explained), squeeze=False, figsize=(3.4 * len(explained), 2.6 * len(rows)), layout="constrained"
    )
    for column, (name, result) in enumerate(explained.items()):
        for i, (row, ax) in enumerate(zip(rows, axes[:, column], strict=True)):
            label = str(ecg.target[row])
            display = RelevanceDisplay.from_relevance(
                ecg.data[row],
                result.relevance[i],
                fs=ecg.fs,
                label=label,
                relevance_kind=result.relevance_kind,
                truth=truth[i] if label in EVIDENCE else None,
                ax=ax,
                colorbar=False,
            )
            kind = "probability" if "mask" in name else "logit"
            blind = "; the LSTM alone does not recognise it" if "LSTM" in name and not alone[i] else ""
            title = f"{name}\n{label}, {kind} {result.score[i]:.2f}{blind}"
            display.ax_.set_title(title, loc="left", fontsize=8)
    return figure


def told(ecg: Bunch, rows: np.ndarray, alone: np.ndarray, explained: dict[str, Bunch], truth: np.ndarray) -> str:
    """Return the table that belongs to the figure."""
    inside = {name: relevance_mass_score(truth, result.relevance, average=False) for name, result in explained.items()}
    lines = []
    for i, row in enumerate(rows):
        label = str(ecg.target[row])
        place = label in EVIDENCE
        shares = [f"{values[i]:.2f}" if place else "no place" for values in inside.values()]
        middle = (ecg.start[row] + ecg.data.shape[-1] / 2) / ecg.fs
        lines.append(
            [
                label, ecg.record[row], f"{int(middle) // 60}:{middle % 60:04.1f}", "yes" if alone[i] else "**no**",
                *shares, f"{truth[i].mean():.2f}" if place else "",
            ]
        )  # fmt: skip
    header = [
        "class", "record", "middle of the window, min:s", "the LSTM alone recognises it",
        *(f"share inside, {name}" for name in explained), "share of time",
    ]  # fmt: skip
    return table(header, lines)


def main() -> None:
    """Read the command line, train or take up the network, explain, draw, print and write."""
    args = parser(__doc__).parse_args()
    seed = (args.seeds or [0])[0]
    ecg, clf, unseen = trained_to_be_explained(seed, args.work, args.quick, "cpu")
    rows, alone = (np.array(values) for values in zip(*chosen(ecg, clf, unseen, seed), strict=True))
    truth = evidence(ecg, rows)
    explained = {}
    for name, make in EXPLAINERS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            explained[name] = make(clf).explain(ecg.data[rows], target=ecg.target[rows])
    left_out = sorted(set(CLASSES) - set(ecg.target[rows]))
    text = "\n".join(
        [
            f"ECGNet of width {2 if args.quick else 4}, trained with branch dropout .3, seed {seed}; one window of "
            "MIT-BIH a class, the first of a random order that is recognised and was not trained on, of a patient that "
            "was. One window proves nothing: the table of localisation has the figures. The share of time is what "
            f"chance gives to the share inside. {versions()}."
            + (f" Not recognised in 60 windows, and left out: {', '.join(left_out)}." if left_out else ""),
            "",
            told(ecg, rows, alone, explained, truth),
        ]
    )
    print(text)
    if args.out is not None:
        import matplotlib.pyplot as plt

        args.out.mkdir(parents=True, exist_ok=True)
        Path(args.out / "explained_windows.md").write_text(text + "\n")
        figure = draw(ecg, rows, alone, explained, truth)
        figure.savefig(args.out / "explained_windows.png", dpi=90)
        plt.close(figure)


if __name__ == "__main__":
    main()
