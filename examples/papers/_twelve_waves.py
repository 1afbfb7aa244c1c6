"""Waves in the study on twelve leads: marked or detected, taken out of the ECG, and evidence that was planted."""

from __future__ import annotations

import warnings

import numpy as np
from _study import bootstrap
from _twelve import FS, LENGTH, synthetic
from _twelve_analysis import EXPLAINED, LEADS, spread
from scipy.stats import spearmanr
from sklearn.utils import Bunch

from skecg import IntegratedGradients
from skecg.beats import Beats, delineate, find_beats
from skecg.models import RIBEIRO_LABELS


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


def bridged(X: np.ndarray, beats: list[Beats], wave: str, leads: tuple[str, ...] = LEADS) -> np.ndarray:
    """Return the ECG with a straight line over each wave of a kind."""
    out, first, last = X.copy(), *{"P": (0, 2), "QRS": (3, 4), "T": (5, 7)}[wave]
    for row, one in enumerate(beats):
        if one.limits is None:
            continue
        for limits in one.limits:
            for lead in map(LEADS.index, leads):
                a, b = limits[lead, first], limits[lead, last]
                if not np.isfinite([a, b]).all():
                    continue
                a, b = max(round(float(a)), 0), min(round(float(b)), LENGTH - 1)
                if b - a > 1:
                    out[row, lead, a : b + 1] = np.linspace(X[row, lead, a], X[row, lead, b], b - a + 1)
    return out


def causal(nets: list, ecg: Bunch, fold: np.ndarray | None, rows: np.ndarray, beats: list[Beats]) -> list[list[str]]:
    """Return how the logits move when waves are bridged, and when the very same change is made elsewhere."""
    j = {label: RIBEIRO_LABELS.index(label) for label in EXPLAINED}

    def logits(X: np.ndarray) -> np.ndarray:
        if fold is None:
            return np.mean([net.decision_function(X) for net in nets], axis=0)
        out = np.empty((len(X), len(RIBEIRO_LABELS)))
        for i, net in enumerate(nets):
            if (fold[rows] == i).any():
                out[fold[rows] == i] = net.decision_function(X[fold[rows] == i])
        return out

    X, patients = ecg.data[rows], ecg.groups[rows]
    before, lines = logits(X), []
    lateral = ("I", "aVL", "V5", "V6")
    cases = (
        ("P waves bridged", "P", LEADS, "AF", -0.12),
        ("T waves bridged", "T", LEADS, "LBBB", 0.25),
        (f"T waves of {', '.join(lateral)} bridged", "T", lateral, "LBBB", 0.25),
    )
    for name, wave, leads, label, shift in cases:
        change = bridged(X, beats, wave, leads) - X
        elsewhere = np.roll(change, round(shift * FS), axis=-1)  # of the same shape and size, where the wave is not
        where = f"{abs(shift):g} s {'after' if shift > 0 else 'before'}"
        for what, by in ((name, change), (f"the same change {where}", elsewhere)):
            move = (logits(X + by) - before)[:, j[label]]
            value = bootstrap(lambda take, m=move: float(np.mean(m[take])), patients, 0)
            up = bootstrap(lambda take, m=move: float(np.mean(m[take] > 0)), patients, 0)
            lines.append(
                [what, f"logit of {label}", spread(*value, 2), spread(*up, 2), str(len(np.unique(patients)))]
            )
    return lines


def planted(nets: list, points: int, n: int) -> list[list[str]]:
    """Return how the leads of ``make_ecg`` rank by relevance, beside abs(ECG), which knows no network."""
    made = synthetic(n, 7)
    truth, lines = np.asarray(made.made.truth), []
    shift = (LENGTH - truth.shape[-1]) // 2
    for label in (*EXPLAINED, "RBBB"):
        rows = np.flatnonzero(made.target[:, RIBEIRO_LABELS.index(label)] == 1)
        if not len(rows):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # completeness is told of the recordings
            explainer = IntegratedGradients(nets[0], n_steps=points, batch_size=32)
            R = explainer.explain(made.data[rows], target=label).relevance
        ecg = np.abs(made.data[rows])[..., shift : shift + truth.shape[-1]]
        power = (np.where(truth[rows], made.made.data[rows], 0.0) ** 2).sum(-1)
        for name, M in (("relevance", np.maximum(R[..., shift : shift + truth.shape[-1]], 0)), ("abs(ECG)", ecg)):
            mass = M.sum(-1)
            rho = np.array([spearmanr(a, b)[0] for a, b in zip(mass, power, strict=True)])
            value = bootstrap(lambda take, r=rho: float(np.nanmean(r[take])), made.groups[rows], 0, 500)
            first = np.mean(mass.argmax(1) == power.argmax(1))
            inside = np.mean((M * truth[rows]).sum((1, 2)) / M.sum((1, 2)))
            figures = f"{first:.2f}", f"{inside:.2f}", f"{truth[rows].mean():.2f}"
            lines.append([label, name, str(len(rows)), spread(*value, 2), *figures])
    return lines
