"""Bender et al. 2023 on what there is of twelve leads: what relevance says of classes, leads, waves and average beats.

RibeiroNet, trained on recordings of PTB-XL and CPSC 2018 after ``make_ecg``, in five folds by patient: each recording
is explained by a network that has not seen it. Integrated gradients of the logits of AF and LBBB, for patients with the
diagnosis and for healthy controls. Where waves are is known in LUDB alone, by cardiologists; elsewhere they are
detected. ``--quick`` takes under two minutes, on made-up recordings.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _study import bootstrap, parser, table, versions
from _twelve import FS, LENGTH, folds, joined, recordings, synthetic, trained
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from sklearn.utils import Bunch

from skecg import IntegratedGradients, RelevanceAggregator
from skecg.beats import Beats, delineate, find_beats
from skecg.models import RIBEIRO_LABELS
from skecg.utils._leads import STANDARD_LEADS as LEADS

EXPLAINED = ("AF", "LBBB")
# leads that cardiologists read first: P waves and fibrillation in II and V1; the broad notched R of LBBB
EXPECTED = {"AF": ("II", "V1"), "LBBB": ("I", "aVL", "V1", "V5", "V6")}
# P waves are looked for in II and V1; in LBBB the T waves of the lateral leads point away from the QRS
NAMED = {"AF": ("II P", "V1 P"), "LBBB": ("I T", "aVL T", "V5 T", "V6 T")}


def spread(value: float, low: float, high: float, n: int, digits: int = 3) -> str:
    """Return a figure with its interval, or with the number of patients that is too small for one."""
    if np.isnan(low):
        return f"{value:.{digits}f} ({n} patients, no interval)"
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def predicted(nets: list, ecg: Bunch, fold: np.ndarray | None) -> np.ndarray:
    """Return probabilities (n, 6): of the network that has not seen the recording, or the mean of all of them."""
    if fold is None:
        return np.mean([net.predict_proba(ecg.data) for net in nets], axis=0)
    out = np.empty((len(ecg.data), len(RIBEIRO_LABELS)))
    for i, net in enumerate(nets):
        out[fold == i] = net.predict_proba(ecg.data[fold == i])
    return out


def scores(name: str, ecg: Bunch, probability: np.ndarray, n_bootstrap: int) -> list[list[str]]:
    """Return a line a label: area under the curve and average precision with intervals over patients, and chance."""
    lines = []
    for j, label in enumerate(RIBEIRO_LABELS):
        y, p = ecg.target[:, j], probability[:, j]
        patients = len(np.unique(ecg.groups[y == 1]))
        if not patients or y.all():
            lines.append([name, label, str(int(y.sum())), str(patients), "", "", ""])
            continue

        def safe(score: Callable, y=y, p=p) -> Callable[[np.ndarray], float]:
            return lambda rows: score(y[rows], p[rows]) if 0 < y[rows].sum() < len(rows) else np.nan

        figures = [
            bootstrap(safe(score), ecg.groups, 0, n_bootstrap) for score in (roc_auc_score, average_precision_score)
        ]
        if patients < 10:  # the interval is about the patients with the diagnosis
            figures = [(value, np.nan, np.nan, patients) for value, *_ in figures]
        lines.append(
            [name, label, str(int(y.sum())), str(patients), *(spread(*f) for f in figures), f"{y.mean():.3f}"]
        )
    return lines


def relevance(nets: list, ecg: Bunch, fold: np.ndarray | None, rows: np.ndarray, label: str, points: int) -> Bunch:
    """Explain a label's logit in some recordings; LUDB, which no network has seen, by the first network."""
    out = Bunch(relevance=np.zeros((len(rows), 12, LENGTH), np.float32), score=np.zeros(len(rows)))
    out.error, out.start = np.zeros(len(rows)), np.zeros(len(rows))
    for i, net in enumerate(nets[:1] if fold is None else nets):
        mine = np.arange(len(rows)) if fold is None else np.flatnonzero(fold[rows] == i)
        if not len(mine):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # completeness is told below
            found = IntegratedGradients(net, n_steps=points, batch_size=32).explain(
                ecg.data[rows[mine]], target=label
            )
        out.relevance[mine], out.score[mine] = found.relevance, found.score
        out.error[mine], out.start[mine] = found.completeness_error, found.score_baseline
    return out


def cohort(ecg: Bunch, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows with the label or of healthy controls, and what each of them is."""
    has = ecg.target[:, RIBEIRO_LABELS.index(label)] == 1
    rows = np.flatnonzero(has | ecg.normal)
    return rows, np.where(has[rows], label, "N")


def by_class(label: str, ecg: Bunch, rows: np.ndarray, y: np.ndarray, out: Bunch) -> list[list[str]]:
    """Return the correlation of relevance with the probability: of its mean, an identity, and of what could fail."""
    inside = (np.arange(LENGTH) >= ecg.valid[rows, :1]) & (np.arange(LENGTH) < ecg.valid[rows, 1:])
    R = out.relevance * inside[:, None]
    n = 12 * inside.sum(1)
    total = np.abs(R).sum((1, 2))
    part = [i for i, lead in enumerate(LEADS) if lead in EXPECTED[label]]
    of = {
        "mean relevance (an identity: the logit less that of the baseline)": R.sum((1, 2)) / n,
        "mean of the positive part": np.maximum(R, 0).sum((1, 2)) / n,
        "mean of the absolute value": total / n,
        f"share of {', '.join(EXPECTED[label])}": np.abs(R[:, part]).sum((1, 2)) / total,
    }
    lines = []
    for name, values in of.items():
        value = bootstrap(lambda take, v=values: spearmanr(v[take], out.score[take])[0], ecg.groups[rows], 0, 500)
        by = [f"{np.median(values[y == c]):.2e}" for c in (label, "N")]
        lines.append([label, name, spread(*value), *by])
    error = np.abs(out.error) / np.maximum(np.abs(out.score - out.start), 1e-6)
    lines.append([label, "completeness error / change of the logit: median, 95th percentile",
                  f"{np.median(error):.3f}, {np.percentile(error, 95):.3f}", "", ""])  # fmt: skip
    return lines


def aggregated(by: str, label: str, ecg: Bunch, rows: np.ndarray, y: np.ndarray, R: np.ndarray, **more: Any) -> Any:
    """Return a fitted aggregator of a label's relevance against the controls."""
    settings = {key: more.pop(key) for key in ("share", "statistic", "leads", "alternative") if key in more}
    aggregator = RelevanceAggregator(by=by, control="N", lead_names=LEADS, fs=FS, random_state=0, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exclusions are counted in the tables
        return aggregator.fit(R, y, ecg=ecg.data[rows], groups=ecg.groups[rows], record=ecg.record[rows], **more)


def differences(aggregator: Any, label: str, times: float = 1.0) -> list[list[str]]:
    """Return a line a column: mean of class and control with intervals, effect, adjusted p."""
    lines, names = [], aggregator.get_feature_names_out()
    i, c = (list(aggregator.classes_).index(name) for name in (label, "N"))
    for k, name in enumerate(names):
        told = []
        for j in (i, c):
            low, high = times * aggregator.interval_[j, k]
            told.append(spread(times * aggregator.mean_[j, k], low, high, int(aggregator.n_patients_[j, k])))
        p, delta = aggregator.p_adjusted_[i, k], aggregator.effect_size_[i, k]
        stars = "" if not p < 0.05 else " \\*" if p >= 0.01 else " \\*\\*" if p >= 0.001 else " \\*\\*\\*"
        counts = f"{aggregator.n_patients_[i, k]}, {aggregator.n_patients_[c, k]}"
        lines.append([label, name, *told, f"{delta:+.2f}", f"{p:.2g}{stars}", counts])
    return lines


def ludb_beats(found: Bunch) -> list[Beats]:
    """Return the waves of LUDB as its cardiologists marked them, on the network's grid; the beats are those of II."""
    out = []
    waves, scale, shift = found.intervals, FS / found.fs, (LENGTH - round(5000 * FS / found.fs)) // 2
    for row in range(len(found.record)):
        own = waves[waves["row"] == row]
        peaks = np.unique(own["peak"][(own["lead"] == "II") & (own["wave"] == "QRS")])
        limits = np.full((len(peaks), 12, 8), np.nan, dtype=np.float32)
        for wave, columns, low, high in (("P", (0, 1, 2), -0.35, -0.04), ("QRS", (3, None, 4), -0.1, 0.1),
                                         ("T", (5, 6, 7), 0.08, 0.6)):  # fmt: skip
            for i, lead in enumerate(found.lead_names):
                mine = own[(own["lead"] == lead) & (own["wave"] == wave)]
                mine = mine[(mine["onset"] >= 0) & (mine["offset"] >= 0)]
                for b, peak in enumerate(peaks):  # by time, never by index
                    near = mine[(mine["peak"] - peak > low * found.fs) & (mine["peak"] - peak < high * found.fs)]
                    if len(near):
                        one = near[np.argmin(np.abs(near["peak"] - peak))]
                        for column, key in zip(columns, ("onset", "peak", "offset"), strict=True):
                            if column is not None:
                                limits[b, i, column] = one[key] * scale + shift
        has_p = bool(np.isfinite(limits[..., 0]).any()) if len(peaks) else None
        on = np.nanmin(np.where(np.isfinite(limits[..., 3]), limits[..., 3], np.inf), axis=1)
        region = np.stack([on - 0.2 * FS, on - 0.03 * FS], axis=1) if len(peaks) else np.zeros((0, 2))
        region[~np.isfinite(region).all(1)] = np.nan
        out.append(
            Beats(
                np.round(peaks * scale + shift).astype(np.int64), FS, limits=limits, typical=np.ones(len(peaks), bool),
                p_present=has_p, p_region=region, source="cardiologists", reason="" if len(peaks) else "none marked",
            )
        )  # fmt: skip
    return out


def detected_beats(ecg: Bunch, rows: np.ndarray) -> list[Beats]:
    """Return the waves that skecg finds."""
    X = ecg.data[rows]
    return delineate(X, find_beats(X, FS, lead_names=LEADS), FS, lead_names=LEADS)


def bridged(
    X: np.ndarray, beats: list[Beats], wave: str, shift: float = 0.0, leads: tuple[str, ...] = LEADS
) -> np.ndarray:
    """Return the ECG with a straight line over each wave of a kind, or over as long a piece ``shift`` s after it."""
    out, first, last = X.copy(), *{"P": (0, 2), "QRS": (3, 4), "T": (5, 7)}[wave]
    for row, one in enumerate(beats):
        if one.limits is None:
            continue
        for limits in one.limits:
            for lead in map(LEADS.index, leads):
                a, b = limits[lead, first] + shift * FS, limits[lead, last] + shift * FS
                if not np.isfinite([a, b]).all():
                    continue
                a, b = max(round(float(a)), 0), min(round(float(b)), LENGTH - 1)
                if b - a > 1:
                    out[row, lead, a : b + 1] = np.linspace(X[row, lead, a], X[row, lead, b], b - a + 1)
    return out


def causal(nets: list, ecg: Bunch, fold: np.ndarray | None, rows: np.ndarray, beats: list[Beats]) -> list[list[str]]:
    """Return how the logits move when P waves are bridged, T waves flattened, or as much of the line between them."""
    j = {label: RIBEIRO_LABELS.index(label) for label in EXPLAINED}

    def logits(X: np.ndarray) -> np.ndarray:
        if fold is None:
            return np.mean([net.decision_function(X) for net in nets], axis=0)
        out = np.empty((len(X), len(RIBEIRO_LABELS)))
        for i, net in enumerate(nets):
            if (fold[rows] == i).any():
                out[fold[rows] == i] = net.decision_function(X[fold[rows] == i])
        return out

    X = ecg.data[rows]
    before, lines = logits(X), []
    lateral = ("I", "aVL", "V5", "V6")
    cases = (
        ("P waves bridged", "P", 0.0, LEADS, "AF"),
        ("as much, 0.12 s before the P waves", "P", -0.12, LEADS, "AF"),
        ("T waves flattened", "T", 0.0, LEADS, "LBBB"),
        ("as much, 0.25 s after the T waves", "T", 0.25, LEADS, "LBBB"),
        (f"T waves of {', '.join(lateral)} flattened", "T", 0.0, lateral, "LBBB"),
        ("as much in these leads, 0.25 s after", "T", 0.25, lateral, "LBBB"),
    )
    for name, wave, shift, leads, label in cases:
        move = (logits(bridged(X, beats, wave, shift, leads)) - before)[:, j[label]]
        value = bootstrap(lambda take, m=move: float(np.mean(m[take])), ecg.groups[rows], 0)
        up = bootstrap(lambda take, m=move: float(np.mean(m[take] > 0)), ecg.groups[rows], 0)
        lines.append(
            [name, f"logit of {label}", spread(*value, 2), spread(*up, 2), str(len(np.unique(ecg.groups[rows])))]
        )
    return lines


def signs(name: str, aggregator: Any, chosen: tuple[str, ...] | None = None) -> list[list[str]]:
    """Return the mean relevance of waves in controls, with its interval and its sign; None: of all columns."""
    c, lines = list(aggregator.classes_).index("N"), []
    for k, wave in enumerate(aggregator.get_feature_names_out()):
        if chosen is not None and wave not in chosen:
            continue
        value, (low, high), n = aggregator.mean_[c, k], aggregator.interval_[c, k], int(aggregator.n_patients_[c, k])
        if n < 10 or np.isnan(low):
            said = "cannot be decided"
        else:
            said = "negative" if high < 0 else "positive" if low > 0 else "cannot be decided"
        lines.append([name, wave, f"{1e4 * value:.2f} ({1e4 * low:.2f} to {1e4 * high:.2f})", said, str(n)])
    return lines


def planted(nets: list, points: int, n: int) -> list[list[str]]:
    """Return how the leads rank by relevance in ``make_ecg``, and by how much of its evidence they carry."""
    made = synthetic(n, 7)
    truth = np.asarray(made.made.truth)
    lines = []
    for label in (*EXPLAINED, "RBBB"):
        rows = np.flatnonzero(made.target[:, RIBEIRO_LABELS.index(label)] == 1)
        if not len(rows):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            R = (
                IntegratedGradients(nets[0], n_steps=points, batch_size=32)
                .explain(made.data[rows], target=label)
                .relevance
            )
        shift = (LENGTH - truth.shape[-1]) // 2
        R = R[..., shift : shift + truth.shape[-1]]
        power = (np.where(truth[rows], made.made.data[rows], 0.0) ** 2).sum(-1)
        mass = np.maximum(R, 0).sum(-1)
        rho = np.array([spearmanr(a, b)[0] for a, b in zip(mass, power, strict=True)])
        first = np.mean(mass.argmax(1) == power.argmax(1))
        inside = np.mean(
            [
                np.maximum(r, 0)[t].sum() / max(np.maximum(r, 0).sum(), 1e-12)
                for r, t in zip(R, truth[rows], strict=True)
            ]
        )
        value = bootstrap(lambda take, r=rho: float(np.nanmean(r[take])), made.groups[rows], 0, 500)
        lines.append(
            [label, str(len(rows)), spread(*value, 2), f"{first:.2f}", f"{inside:.2f}", f"{truth[rows].mean():.2f}"]
        )
    return lines


def best_threshold(y: np.ndarray, probability: np.ndarray) -> float:
    """Return the threshold of the highest F1 of these very recordings; it serves the picture alone."""
    precision, recall, thresholds = precision_recall_curve(y, probability)
    return float(thresholds[np.argmax((precision * recall / np.maximum(precision + recall, 1e-9))[:-1])])


def pictures(out: Path, label: str, aggregators: dict[str, Any], ecg: Bunch, rows: np.ndarray, found: Bunch) -> None:
    """Draw the paper's figures of one label."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from skecg.plotting import AverageBeatDisplay, CohortDisplay, ProbabilityDisplay, TwelveLeadDisplay, WaveMapDisplay

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
        for (lead, *told), (_, *old) in zip(
            (line[1:] for line in differences(share, label)),
            (line[1:] for line in differences(raw, label)),
            strict=True,
        ):
            mark = f"{lead} (expected)" if lead in EXPECTED[label] else lead
            lead_lines.append([label, mark, *told, old[3]])
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
            kept = None if args.work is None else args.work / f"relevance-ludb-{label}-{points}-{seed}.npz"
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
        "Cliff's. The last column is the test of the raw means, one-sided, as the paper has it: the raw means of "
        "all leads "
        "rise with the probability. The six limb leads are sums and differences of two, so that what goes to "
        "which of "
        "them is not settled by the ECG.",
        ["logit", "lead", "share with the diagnosis", "share of controls", "delta", "adjusted p", "patients",
         "adjusted p of raw means"], lead_lines,
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
        "Healthy controls. If P waves speak against AF, the logit of AF must rise without them, and more than "
        "when as much "
        "of the line elsewhere is replaced; so with T waves and LBBB.",
        ["waves", "change", "of the", "mean move (95 %)", "share that rises", "patients"],
        lines,
    )
    write(
        "Planted evidence",
        "Recordings of ``make_ecg``, where the evidence is known by lead and sample: rank correlation between a "
        "lead's "
        "positive relevance and the energy of its evidence, how often the first lead of both is the same (chance "
        ".08), and "
        "the share of positive relevance inside the evidence beside its share of time.",
        ["label", "recordings", "rank correlation over leads", "same first lead", "share inside", "share of time"],
        planted(nets, points, 40 if quick else 400),
    )  # fmt: skip
    text.append(f"Seed {seed}, {points} midpoints of integrated gradients from a zero baseline. {versions()}.")
    if args.out is not None:
        (args.out / "twelve_leads.md").write_text("\n\n".join(text) + "\n")


if __name__ == "__main__":
    main()
