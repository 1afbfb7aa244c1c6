"""How StageCAM was settled: candidates on patients of DS1 that did not train, DS2 left alone.

Networks are trained on two thirds of the patients of DS1 and explained on the others (three folds), and trained on the
first half of each record of DS1 and explained on the second: in one lead hardly any supraventricular beat (SVEB) of
another patient is recognised, so that the folds alone could not tell the candidates apart. Prints average precision
against both truths; ``--out`` gets ``settle_rule.md``. ``--quick`` takes under two minutes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _explainers import GUIDED, relevance
from _protocol import CLASSES, STRIDE, SURE, draw, folds, recognised, trained, windows
from _study import parser, table, versions

from skecg import GradCAM1D
from skecg.explain import Occlusion
from skecg.metrics import relevance_average_precision_score

IN_TIME = "second half of each record"
# A SVEB of another patient is hardly ever given more: with the rule of the comparison, 8 windows would be left.
SURE_OF_SVEB = 0.25
HALF = 325_000  # samples: half of a record
QUICK_RECORDS = ["106", "119", "201", "203", "208", "209", "215", "220", "223"]


def candidates(clf, X: np.ndarray, target: np.ndarray, seconds: float) -> dict[str, np.ndarray]:
    """Return the maps of all candidates (n_samples, 1, n_timesteps)."""

    def cam(**settings) -> np.ndarray:
        return GradCAM1D(clf, **settings).explain(X, target=target).relevance

    stages = GradCAM1D(clf).explain(X[:2], target=target[:2]).layers
    out = {
        GUIDED: relevance(GUIDED, clf, X, target, seconds),
        "Grad-CAM": cam(method="gradcam"),
        "LayerCAM": cam(method="layercam"),
        "HiResCAM, one stage before": cam(method="hirescam", layer=stages[-2]),
        "StageCAM": cam(),
        "StageCAM, averaged over 0.1 s": cam(smooth=0.1),
        "StageCAM, averaged over 0.4 s": cam(smooth=0.4),
        "StageCAM, one stage before": cam(layer=stages[-2:]),
        "last stage alone, positive parts": cam(layer=stages[-1:]),
        "occlusion": Occlusion(clf, window=0.4).explain(X, target=target).relevance,
    }
    for name in ("Grad-CAM", "StageCAM"):
        out[f"{name} x occlusion"] = _positive(out[name]) * _positive(out["occlusion"])
    return out


def _positive(R: np.ndarray) -> np.ndarray:
    """Return the positive part, with a largest value of one in each window."""
    R = np.maximum(R, 0)
    return R / np.maximum(R.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)


def splits(ecg) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return (rows that train, rows that are explained) of each split of DS1."""
    fold = folds(ecg)
    out = {
        f"patients, fold {i}": (np.flatnonzero((fold >= 0) & (fold != i)), np.flatnonzero(fold == i))
        for i in range(fold.max() + 1)
    }
    first = (ecg.split == "DS1") & (ecg.start + ecg.data.shape[-1] <= HALF)
    second = (ecg.split == "DS1") & (ecg.start >= HALF)
    return out | {IN_TIME: (np.flatnonzero(first), np.flatnonzero(second))}


def main() -> None:
    """Read the command line, train, explain, print and write."""
    args_parser = parser(__doc__)
    args_parser.add_argument("--windows", type=int, default=None, help="most windows a class and split; 80, quick 8")
    args = args_parser.parse_args()
    args.windows = args.windows or (8 if args.quick else 80)
    ecg = windows(QUICK_RECORDS if args.quick else None, STRIDE)
    found: dict[str, dict[tuple[str, str, str], float]] = {}
    told = []
    for network in ("ResNet1d",) if args.quick else ("ResNet1d", "ECGNet"):
        for where, (train, test) in splits(ecg).items():
            in_time = where == IN_TIME
            if (network == "ECGNet" and not in_time) or (args.quick and in_time):
                continue
            settings = {} if in_time else {"class_weight": None}
            settings |= {"width": 4, "epochs": 2} if args.quick else {"epochs": 5}
            clf = trained(network, ecg, train, 0, work=args.work, device=args.device, **settings)
            rng = np.random.RandomState(0)
            for label in CLASSES:
                sure = SURE if label == "VEB" or in_time else SURE_OF_SVEB
                rows = recognised(clf, ecg, test, label, 0.1 if args.quick else sure)
                rows = draw(rows, ecg.groups, args.windows, rng)
                told.append(f"{network}, {where}, {label}: {len(rows)} of {len(np.unique(ecg.groups[rows]))} patients")
                print(told[-1], flush=True)
                if not len(rows):
                    continue
                maps = candidates(clf, ecg.data[rows], ecg.target[rows], ecg.data.shape[-1] / ecg.fs)
                maps = {"*chance*": np.zeros_like(maps["Grad-CAM"]), **maps}  # a flat map has the share of truth
                for name, R in maps.items():
                    for truth in ("span", "qrs"):
                        score = relevance_average_precision_score(ecg[truth][rows], R)
                        found.setdefault(name, {})[f"{network}, {where}", label, truth] = score
    places = list(dict.fromkeys(where for scores in found.values() for where, _, _ in scores))
    rows = []
    for name, scores in found.items():
        line = [name]
        for label in CLASSES:
            own = [score for key, score in scores.items() if key[1] == label]
            line.append(f"{np.mean(own):.2f}" if own else "no window")
        for where in places:
            each = [
                f"{label} " + " ".join(f"{scores[where, label, truth]:.2f}" for truth in ("span", "qrs"))
                for label in CLASSES
                if (where, label, "span") in scores
            ]
            line.append(", ".join(each))
        rows.append(line)
    header = ["candidate", "VEB, mean", "SVEB, mean", *(f"{where}: span, QRS" for where in places)]
    text = "\n\n".join(
        [
            "Average precision, mean over windows, on DS1 alone: one seed, no intervals, so that small differences are "
            "none; the means are over the splits. Windows overlap by half. The folds' networks are trained without "
            "class weights, so that few SVEB of another patient are recognised, and those count from p > "
            f"{SURE_OF_SVEB:g}; all others from p > {SURE:g}, as in the comparison. {'; '.join(told)}.",
            table(header, rows),
            versions() + ".",
        ]
    )
    print(text)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        Path(args.out / "settle_rule.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
