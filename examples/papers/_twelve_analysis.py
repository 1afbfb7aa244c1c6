"""Figures of the study on twelve leads: scores, relevance by class and by lead, signs, all over patients."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _study import bootstrap
from _twelve import FS, LENGTH
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.utils import Bunch

from skecg import IntegratedGradients, RelevanceAggregator
from skecg.models import RIBEIRO_LABELS
from skecg.preprocessing import STANDARD_LEADS as LEADS

EXPLAINED = ("AF", "LBBB")
# leads that cardiologists read first: P waves and fibrillation in II and V1; the broad notched R of LBBB
EXPECTED = {"AF": ("II", "V1"), "LBBB": ("I", "aVL", "V1", "V5", "V6")}
# of the wave that the paper's finding is about, each lead is told
NAMED = {"AF": tuple(f"{lead} P" for lead in LEADS), "LBBB": tuple(f"{lead} T" for lead in LEADS)}


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
    """Explain a label's logit in some recordings; in LUDB, which no network has seen, the mean logit of all five."""
    out = Bunch(relevance=np.zeros((len(rows), 12, LENGTH), np.float32), score=np.zeros(len(rows)))
    out.error, out.start = np.zeros(len(rows)), np.zeros(len(rows))
    weight = 1 / len(nets) if fold is None else 1.0
    for i, net in enumerate(nets):
        mine = np.arange(len(rows)) if fold is None else np.flatnonzero(fold[rows] == i)
        if not len(mine):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # completeness is told below
            found = IntegratedGradients(net, n_steps=points, batch_size=32).explain(
                ecg.data[rows[mine]], target=label
            )
        out.relevance[mine] += weight * found.relevance
        out.score[mine] += weight * found.score
        out.error[mine] += weight * found.completeness_error
        out.start[mine] += weight * found.score_baseline
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
        # the baseline's logit differs from fold to fold: it belongs to the identity, and to it alone
        against = out.score - out.start if "identity" in name else out.score
        value = bootstrap(lambda take, v=values, s=against: spearmanr(v[take], s[take])[0], ecg.groups[rows], 0, 500)
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


def against_amplitude(
    label: str, ecg: Bunch, rows: np.ndarray, y: np.ndarray, R: np.ndarray, share: Any
) -> list[list[str]]:
    """Return for each lead Cliff's delta of the ECG's own share, of relevance's share over it, and by database."""
    ink = aggregated("lead", label, ecg, rows, y, np.abs(ecg.data[rows]), share=True, statistic="abs_mean")
    i = list(share.classes_).index(label)
    shares = share.transform(R, ecg=ecg.data[rows])
    both = {name: share.patient_values(name) / ink.patient_values(name) for name in (label, "N")}
    lines = []
    for k in range(12):
        line = [f"{ink.effect_size_[i, k]:+.2f}", f"{delta(both[label][:, k], both['N'][:, k]):+.2f}"]
        for name in np.unique(ecg.database):
            mine = ecg.database[rows] == name
            if (y[mine] == label).any() and (y[mine] == "N").any():
                one, who = shares[mine, k], ecg.groups[rows][mine]
                sides = [_by_patient(one[y[mine] == c], who[y[mine] == c]) for c in (label, "N")]
                line.append(f"{delta(*sides):+.2f} ({len(sides[0])}, {len(sides[1])})")
            else:
                line.append("")
        lines.append(line)
    return lines


def delta(a: np.ndarray, b: np.ndarray) -> float:
    """Return Cliff's delta: how much more often a value of a is above one of b than below."""
    return 2 * roc_auc_score(np.repeat([1, 0], [len(a), len(b)]), np.concatenate([a, b])) - 1


def _by_patient(values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    _, inverse = np.unique(patients, return_inverse=True)
    return np.bincount(inverse, values) / np.bincount(inverse)


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
