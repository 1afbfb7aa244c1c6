"""Bender et al. 2023 on what there is of twelve leads: what relevance says of classes, leads, waves and average beats.

RibeiroNet, trained on recordings of PTB-XL and CPSC 2018 after ``make_ecg``, in five folds by patient: each recording
is explained by a network that has not seen it. Integrated gradients of the logits of AF and LBBB, for patients with the
diagnosis and for healthy controls. Where waves are is known in LUDB alone, by cardiologists; elsewhere they are
detected. ``--quick`` takes under two minutes, on made-up recordings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _study import parser, table, versions
from _twelve import FS, LENGTH, folds, joined, recordings, synthetic, trained
from _twelve_analysis import (
    EXPECTED,
    EXPLAINED,
    LEADS,
    NAMED,
    against_amplitude,
    aggregated,
    by_class,
    cohort,
    differences,
    predicted,
    relevance,
    scores,
    signs,
)
from _twelve_waves import causal, detected_beats, ludb_beats, planted
from sklearn.metrics import precision_recall_curve
from sklearn.utils import Bunch

from skecg.models import RIBEIRO_LABELS


def best_threshold(y: np.ndarray, probability: np.ndarray) -> float:
    """Return the threshold of the highest F1 of these very recordings; it serves the picture alone."""
    precision, recall, thresholds = precision_recall_curve(y, probability)
    best = np.argmax((precision * recall / np.maximum(precision + recall, 1e-9))[:-1])
    return float(np.nextafter(thresholds[best], 0))  # a classifier predicts above its threshold, not at it


def pictures(out: Path, label: str, aggregators: dict[str, Any], ecg: Bunch, rows: np.ndarray, found: Bunch) -> None:
    """Draw the paper's figures of one label."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from skecg.plotting import (
        AverageBeatDisplay,
        CohortDisplay,
        ProbabilityDisplay,
        TwelveLeadDisplay,
        WaveMapDisplay,
    )

    j = RIBEIRO_LABELS.index(label)
    inside = (np.arange(LENGTH) >= ecg.valid[rows, :1]) & (np.arange(LENGTH) < ecg.valid[rows, 1:])
    mean = (found.relevance * inside[:, None]).sum((1, 2)) / (12 * inside.sum(1))
    y, probability = ecg.target[rows, j], 1 / (1 + np.exp(-found.score))
    threshold = best_threshold(y, probability)
    drawn = {
        "probability": ProbabilityDisplay.from_relevance(mean, probability, y, threshold=threshold, label=label),
        "leads": CohortDisplay.from_aggregator(aggregators["lead"], label=label),
        "beat": AverageBeatDisplay.from_aggregator(aggregators["beat"], label=label),
        "waves": WaveMapDisplay.from_aggregator(aggregators["wave"], label=label),
    }
    best = rows[np.flatnonzero(ecg.target[rows, j])[found.score[ecg.target[rows, j] == 1].argmax()]]
    at = int(np.flatnonzero(rows == best)[0])
    a, b = ecg.valid[best]
    drawn["record"] = TwelveLeadDisplay.from_relevance(
        ecg.data[best][:, a:b], found.relevance[at][:, a:b], fs=FS, lead_names=LEADS
    )
    for name, display in drawn.items():
        display.figure_.savefig(out / f"twelve_{label}_{name}.png", dpi=80, bbox_inches="tight")
    plt.close("all")


def main() -> None:
    """Read the command line, train, explain, print and write."""
    args = parser(__doc__)
    args.add_argument("--points", type=int, default=None, help="points of integrated gradients; 32, quick 8")
    args = args.parse_args()
    quick, seed = args.quick, (args.seeds or [0])[0]
    points, n_bootstrap = args.points or (8 if quick else 32), 50 if quick else 1000
    if args.work is not None:
        args.work.mkdir(parents=True, exist_ok=True)
    if quick:
        ecg, ludb = synthetic(140, seed), None
        databases = f"{len(ecg.data)} made-up recordings"
    else:
        ecg, ludb = joined(recordings("ptbxl"), recordings("cpsc2018")), recordings("ludb")
        databases = "PTB-XL and CPSC 2018"
    fold = folds(ecg)
    nets = trained(ecg, fold, args.work, seed=seed, quick=quick, device=args.device)
    probability = predicted(nets, ecg, fold)
    text = []

    def write(title: str, note: str, header: list[str], lines: list[list[str]]) -> None:
        text.append("\n\n".join([f"### {title}", note, table(header, lines)]))
        print(text[-1], "\n", flush=True)

    lines = []
    for name in np.unique(ecg.database):
        mine = ecg.database == name
        part = Bunch(target=ecg.target[mine], groups=ecg.groups[mine])
        lines += scores(name, part, probability[mine], n_bootstrap)
    if ludb is not None:
        lines += scores("ludb", ludb, predicted(nets, ludb, None), n_bootstrap)
    write(
        "Scores",
        f"{databases}: {len(ecg.data)} recordings of {len(np.unique(ecg.groups))} patients (CPSC 2018 does not tell "
        "patients), in five folds by patient; each recording is scored by the network that has not seen it"
        + (", those of LUDB by the mean of the five, which have seen none of it." if ludb is not None else ".")
        + " Intervals by bootstrap over patients, where ten or more have the label; chance is .5 for the area under "
        "the curve, and for average precision the share of recordings with the label.",
        ["database", "label", "recordings with it", "patients with it", "area under the ROC curve", "average precision",
         "chance of that"], lines,
    )  # fmt: skip

    class_lines, lead_lines, wave_lines, sign_lines = [], [], [], []
    for label in EXPLAINED:
        rows, y = cohort(ecg, label)
        kept = None if args.work is None else args.work / f"relevance-{label}-{points}-{seed}-{quick}.npz"
        if kept is not None and kept.is_file():
            found = Bunch(**np.load(kept))
        else:
            found = relevance(nets, ecg, fold, rows, label, points)
            if kept is not None:
                np.savez(kept, **found)
        class_lines += by_class(label, ecg, rows, y, found)
        beats = detected_beats(ecg, rows)
        R = found.relevance
        share = aggregated("lead", label, ecg, rows, y, R, share=True, statistic="abs_mean")
        raw = aggregated("lead", label, ecg, rows, y, R, alternative="greater")
        more = against_amplitude(label, ecg, rows, y, R, share)
        for new, old, extra in zip(differences(share, label), differences(raw, label), more, strict=True):
            mark = f"{new[1]} (expected)" if new[1] in EXPECTED[label] else new[1]
            lead_lines.append([label, mark, *new[2:-1], *extra, old[5]])
        wave = aggregated("wave", label, ecg, rows, y, R, beats=beats)
        together = aggregated("wave", label, ecg, rows, y, R, beats=beats, leads="together")
        wave_lines += differences(together, label, 1e4)
        sign_lines += signs(f"logit of {label}, detected waves", together)
        sign_lines += signs(f"logit of {label}, detected waves", wave, NAMED[label])
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
            beat = aggregated("beat", label, ecg, rows, y, R, beats=beats)
            pictures(args.out, label, {"lead": share, "wave": wave, "beat": beat}, ecg, rows, found)
        if ludb is not None:
            true = ludb_beats(ludb.found)
            seen, what = cohort(ludb, label)
            kept = None if args.work is None else args.work / f"relevance-ludb-mean-{label}-{points}-{seed}.npz"
            if kept is not None and kept.is_file():
                out = Bunch(**np.load(kept))
            else:
                out = relevance(nets, ludb, None, seen, label, points)
                if kept is not None:
                    np.savez(kept, **out)
            for leads, columns in (("together", None), ("each", NAMED[label])):
                marked = aggregated(
                    "wave", label, ludb, seen, what, out.relevance, beats=[true[i] for i in seen], leads=leads
                )
                sign_lines += signs(f"logit of {label}, LUDB's cardiologists", marked, columns)
    write(
        "Classes: mean relevance against probability",
        "Spearman's rank correlation with the logit, over patients with the diagnosis and healthy controls. For "
        "a method "
        "that conserves the score the first line of a label **must** be near 1, so it measures completeness and "
        "discovers "
        "nothing; the others can fail.",
        ["logit", "of relevance", "Spearman's rho", "median with the diagnosis", "median of controls"], class_lines,
    )  # fmt: skip
    write(
        "Leads: shares of the absolute relevance",
        "Mean over patients. Mann-Whitney test of the shares, two-sided, Holm's correction over the leads; delta is "
        "Cliff's. Beside it the delta of the leads' shares of abs(ECG), which knows no network, that of relevance's "
        "share divided by the ECG's, and that of relevance's share in each database alone (patients). Class and "
        "database go together: "
        + ", ".join(
            f"{label} {int((ecg.target[ecg.database == name, RIBEIRO_LABELS.index(label)]).sum())} and controls "
            f"{int(ecg.normal[ecg.database == name].sum())} in {name}"
            for label in EXPLAINED
            for name in np.unique(ecg.database)
        )
        + ". The last column is the test of the raw means, one-sided, as the paper has it; raw means sum to the score, "
        "so that some lead must rise. The six limb leads are sums and differences of two: what goes to which of them "
        "is not settled by the ECG.",
        ["logit", "lead", "share with the diagnosis", "share of controls", "delta", "adjusted p", "delta of abs(ECG)",
         "delta of the ratio", *(f"delta in {name}" for name in np.unique(ecg.database)), "adjusted p of raw means"],
        lead_lines,
    )  # fmt: skip
    write(
        "Waves",
        "Mean relevance x 10^4 over the samples of a wave, all leads together, of detected waves. The P region, 200 to "
        "30 ms "
        "before the QRS, is there whether or not a P wave was found.",
        ["logit", "wave", "mean with the diagnosis", "mean of controls", "delta", "adjusted p", "patients"],
        wave_lines,
    )
    write(
        "The sign of relevance on the waves of healthy controls",
        "The paper finds clearly negative relevance on visible P waves for AF and on concordant T waves for "
        "LBBB. Mean over "
        "controls x 10^4, interval over patients.",
        ["logit and truth", "wave", "mean relevance (95 %)", "so it is", "patients"],
        sign_lines,
    )
    rows = np.flatnonzero(ecg.normal)
    lines = [["detected waves", *line] for line in causal(nets, ecg, fold, rows, detected_beats(ecg, rows))]
    made = synthetic(60 if quick else 400, 8)
    seen = np.flatnonzero(made.normal)
    lines += [["make_ecg, detected", *x] for x in causal(nets, made, None, seen, detected_beats(made, seen))]
    if ludb is not None:
        rows, true = np.flatnonzero(ludb.normal), ludb_beats(ludb.found)
        lines += [["LUDB's cardiologists", *x] for x in causal(nets, ludb, None, rows, [true[i] for i in rows])]
    write(
        "What the network does when the wave is gone",
        "Healthy controls. A straight line replaces each wave. If P waves speak against AF, the logit of AF must rise "
        "without them, and more than when the very same change is made a little before them; so with T waves and "
        "LBBB. A change 0.25 s after T may reach the next P wave where the heart is fast.",
        ["waves", "change", "of the", "mean move (95 %)", "share that rises", "patients"],
        lines,
    )
    write(
        "Planted evidence",
        "Recordings of ``make_ecg``, where the evidence is known by lead and sample: rank correlation over leads "
        "between positive relevance and the energy of the evidence, how often the first lead of both is the same "
        "(chance .08), and the share of positive relevance inside the evidence beside its share of time; and "
        "the same of "
        "abs(ECG), which knows no network.",
        ["label", "map", "recordings", "rank correlation over leads", "same first lead", "share inside",
         "share of time"],
        planted(nets, points, 40 if quick else 400),
    )  # fmt: skip
    text.append(f"Seed {seed}, {points} midpoints of integrated gradients from a zero baseline. {versions()}.")
    if args.out is not None:
        (args.out / "twelve_leads.md").write_text("\n\n".join(text) + "\n")


if __name__ == "__main__":
    main()
