"""The command that writes the tables of docs/beats.md: ``python docs/write_beats.py [--data-home FOLDER] [--quick]``.

It runs ``skecg.beats`` on LUDB (200 records, limits by cardiologists), MIT-BIH (48 records, beats) and the records of
PTB-XL that lie in the data home (rhythm statements). Most settings were tuned on the odd ones of LUDB; "test" is the
even ones. What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` in the page is replaced. NeuroKit2 is
measured beside where it is installed. ``--quick`` takes every tenth record, to see that the command runs.
"""

from __future__ import annotations

import logging
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace as with_fields
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

HERE = Path(__file__).resolve().parent
for _folder in (HERE, HERE.parent):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

from write_databases import NotThere, chosen, parser_of, table, write  # noqa: E402 - it lies beside this file

from skecg.beats import LIMITS, Beats, delineate, find_beats  # noqa: E402 - the tree beside the docs first
from skecg.beats._find import count_matches  # noqa: E402
from skecg.datasets import fetch_ludb, fetch_ptbxl, get_data_home, read_record  # noqa: E402
from skecg.datasets._databases import MITDB  # noqa: E402

_log = logging.getLogger("skecg.docs")

LEADS = ("II", "V5", "V1")
COLUMNS = {"P": (0, 1, 2), "QRS": (3, None, 4), "T": (5, 6, 7)}
CODES = {"P": 1, "QRS": 2, "T": 3}
NOT_BEATS = set("+~|\"x[]!")
TOLERANCE = 0.075  # s
N_BOOTSTRAP, SEED = 2000, 0
PAIRS = (("II", "V5"), ("II", "V1"), ("V1", "V5"))
BEYOND = 0.075  # s before the first and after the last annotated QRS within which detections count


class Material:
    """The databases, read once, and what is found in them."""

    def __init__(self, home: Path, quick: bool) -> None:
        self.home, self.step = home, 10 if quick else 1

    @cached_property
    def ludb(self) -> Bunch:
        """LUDB: ``peaks`` (QRS peaks by row and lead), groups of records, and which have P waves."""
        if not (self.home / "ludb").is_dir():
            raise NotThere("ludb is not in the data home")
        numbers = list(range(1, 201, self.step)) if self.step == 1 else [*range(1, 201, 11), 8, 38, 35, 104, 24]
        ecg = fetch_ludb(data_home=self.home, records=sorted(set(numbers)), download_if_missing=False, verbose=0)
        n = len(ecg.record)
        ecg.waves = {
            (row, lead, wave): ecg.intervals[chosen]
            for lead in LEADS
            for wave in COLUMNS
            for row in range(n)
            for chosen in [_rows(ecg.intervals, row, lead, wave)]
        }
        ecg.peaks = {
            (row, lead): np.sort(ecg.waves[row, lead, "QRS"]["peak"]) for row in range(n) for lead in LEADS
        }
        ecg.number = ecg.record.astype(int)
        rhythms = [set(told) for told in ecg.rhythms]
        paced = np.array(["acemaker" in " ".join(told) for told in ecg.diagnoses])
        ecg.has_p = np.array([len(ecg.waves[row, "II", "P"]) > 0 for row in range(n)])
        af = np.array(["Atrial fibrillation" in told for told in rhythms])
        flutter = np.array(["Atrial flutter, typical" in told for told in rhythms])
        told = [" ".join(statements) for statements in ecg.diagnoses]
        ecg.sets = {
            "all": np.ones(n, dtype=bool),
            "test (even numbers)": ecg.number % 2 == 0,
            "sinus, not paced": ~af & ~flutter & ~paced & ecg.has_p,
            "fibrillation": af,
            "flutter": flutter,
            "LBBB": np.array(["Complete left bundle branch block" in t for t in told]),
            "RBBB": np.array(["Complete right bundle branch block" in t for t in told]),
            "paced": paced,
        }
        return ecg

    @cached_property
    def beats(self) -> list[Beats]:
        """Beats of LUDB, found and delineated from all twelve leads."""
        return delineate(self.ludb.data, find_beats(self.ludb.data, self.ludb.fs))

    @cached_property
    def given(self) -> list[Beats]:
        """Limits of LUDB around the cardiologists' R peaks of lead II."""
        ecg = self.ludb
        rows = [Beats(ecg.peaks[row, "II"], ecg.fs) for row in range(len(ecg.record))]
        return delineate(ecg.data, rows)


def _rows(intervals: np.ndarray, row: int, lead: str, wave: str) -> np.ndarray:
    return (intervals["row"] == row) & (intervals["lead"] == lead) & (intervals["wave"] == wave)


# ------------------------------------------------------------------------------------------------------------ figures


def interval(values: np.ndarray, statistic: Callable[[np.ndarray], float]) -> str:
    """Return a statistic of rows (one a person) with its bootstrap interval; without one below ten rows."""
    middle = statistic(values)
    if np.isnan(middle):
        return "-"
    told = f"{middle:.3f}"
    if len(values) < 10:
        return told
    rng = np.random.default_rng(SEED)
    drawn = np.array([statistic(values[rng.integers(len(values), size=len(values))]) for _ in range(N_BOOTSTRAP)])
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return f"{told} [{low:.3f}, {high:.3f}]"


def ratio(counts: np.ndarray) -> float:
    """Return the sum of the second column over that of the first; NaN without any."""
    total = counts.sum(axis=0)
    return float(total[1] / total[0]) if total[0] else float("nan")


def percent(part: float, whole: float) -> str:
    """Return a share in per cent; a dash of nothing."""
    return f"{100 * part / whole:.2f}" if whole else "-"


def versions() -> str:
    """Return what the figures were made with."""
    names = ("numpy", "scipy", "wfdb", *(("neurokit2",) if find_spec("neurokit2") else ()))
    return f"{', '.join(f'{n} {version(n)}' for n in names)}, Python {platform.python_version()}; seed {SEED}."


def detections(truth: np.ndarray, found: np.ndarray, fs: float) -> tuple[int, int, int]:
    """Return beats, detections inside the annotated span, and pairs."""
    if not len(truth):
        return 0, 0, 0
    inside = found[(found >= truth[0] - BEYOND * fs) & (found <= truth[-1] + BEYOND * fs)]
    return len(truth), len(inside), count_matches(truth, inside, TOLERANCE * fs)


# ------------------------------------------------------------------------------------------------------------- tables


def r_peaks(material: Material) -> str:
    """R peaks of LUDB by lead and group of records."""
    ecg, rows = material.ludb, []
    detectors = ["energy", *(["neurokit"] if find_spec("neurokit2") else []), "xqrs", "gqrs"]
    for detector in detectors:
        for leads in ("twelve", *LEADS) if detector == "energy" else LEADS:
            truth_lead = "II" if leads == "twelve" else leads
            chosen = None if leads == "twelve" else [leads]
            start = time.process_time()
            beats = find_beats(ecg.data, ecg.fs, detector=detector, leads=chosen, lead_names=ecg.lead_names)
            seconds = time.process_time() - start
            counts = np.array(
                [
                    detections(ecg.peaks[row, truth_lead], found.r_peaks, ecg.fs)
                    for row, found in enumerate(beats)
                ]
            )
            hours = ecg.data.shape[0] * ecg.data.shape[2] / ecg.fs / 3600
            for name, member in ecg.sets.items():
                if name not in ("all", "sinus, not paced") and detector != "energy":
                    continue
                n, found, pairs = counts[member].sum(axis=0).tolist()
                wrong = int((counts[member, 2] < counts[member, :2].max(axis=1)).sum())
                told = [detector, leads, name, int(member.sum()), n, percent(pairs, n), percent(pairs, found), wrong]
                rows.append([*told, f"{seconds / hours:.2f}" if name == "all" else ""])
    head = ("detector", "leads", "records", "n", "beats", "found, %", "right, %", "records with an error")
    return table((*head, "s of CPU per hour"), rows) + f"\n\nWithin {1000 * TOLERANCE:g} ms. {versions()}"


def mitdb(material: Material) -> str:
    """R peaks of the first lead of MIT-BIH, within 75 and 150 ms."""
    folder = material.home / "mitdb"
    if not folder.is_dir():
        raise NotThere("mitdb is not in the data home")
    rows = []
    detectors = ["energy", *(["neurokit"] if find_spec("neurokit2") else [])]
    records = [read_record(folder / name, annotator="atr") for name in MITDB.records[:: material.step]]
    for detector in detectors:
        totals, worst = {0.075: np.zeros(3, dtype=int), 0.150: np.zeros(3, dtype=int)}, []
        start = time.process_time()
        beats = [find_beats(r.data[None, :1], r.fs, detector=detector)[0] for r in records]
        seconds = time.process_time() - start
        for record, found in zip(records, beats, strict=True):
            truth = record.sample[[symbol not in NOT_BEATS for symbol in record.symbol]]
            peaks = found.r_peaks
            # flutter of the ventricles, between [ and ], has no beats
            for a, b in zip(record.sample[record.symbol == "["], record.sample[record.symbol == "]"], strict=True):
                truth, peaks = (p[(p < a) | (p > b)] for p in (truth, peaks))
            for tolerance, total in totals.items():
                pairs = count_matches(truth, peaks, tolerance * record.fs)
                total += len(truth), len(peaks), pairs
                if tolerance == 0.075:
                    worst.append((pairs / max(len(truth), len(peaks)), record.record))
        hours = sum(r.data.shape[1] / r.fs for r in records) / 3600
        for tolerance, (n, found, pairs) in totals.items():
            rows.append(
                [
                    detector,
                    f"{1000 * tolerance:g} ms",
                    len(records),
                    int(n),
                    percent(pairs, n),
                    percent(pairs, found),
                    ", ".join(name for _, name in sorted(worst)[:3]) if tolerance == 0.075 else "",
                    f"{seconds / hours:.2f}",
                ]
            )
    head = ("detector", "within", "records", "beats", "found, %", "right, %", "worst records", "s of CPU per hour")
    return table(head, rows)


def limits(material: Material) -> str:
    """Limits of LUDB on given R peaks: bias and spread, test records."""
    ecg, rows = material.ludb, []
    for lead in LEADS:
        column = ecg.lead_names.index(lead)
        errors: dict[str, list[float]] = {name: [] for name in LIMITS}
        for row in np.flatnonzero(ecg.number % 2 == 0):
            beats = material.given[row]
            for wave, (first, peak, last) in COLUMNS.items():
                for true in ecg.waves[row, lead, wave]:
                    beat = _beat_of(true["peak"], wave, beats.r_peaks)
                    if beat is None:
                        continue
                    for place, name in ((first, "onset"), (peak, "peak"), (last, "offset")):
                        if place is not None and true[name] >= 0:
                            errors[LIMITS[place]].append(float(beats.limits[beat, column, place] - true[name]))
        for name, values in errors.items():
            off = 1000 / ecg.fs * np.array(values)
            found = off[np.isfinite(off)]
            if not len(found):
                continue
            low, middle, high = np.percentile(found, [25, 50, 75])
            spread = f"{middle:+.0f} [{low:+.0f}, {high:+.0f}]"
            rows.append([lead, name, len(off), percent(len(found), len(off)), spread, f"{found.std():.0f}"])
    return table(("lead", "limit", "marked", "found, %", "found - marked, ms: median [quartiles]", "sd, ms"), rows)


def _beat_of(position: int, wave: str, r_peaks: np.ndarray) -> int | None:
    """Return the beat that a marked wave belongs to, None where it lies before the first or after the last."""
    if wave == "QRS":
        return int(np.argmin(np.abs(r_peaks - position)))
    beat = int(np.searchsorted(r_peaks, position)) - (wave == "T")
    return beat if 0 <= beat < len(r_peaks) else None


def overlap(ecg: Bunch, beats: Sequence[Beats], lead: str, wave: str) -> np.ndarray:
    """Return, a row a record, samples in either mask and in both, in the annotated part."""
    column, (first, _, last), counts = ecg.lead_names.index(lead), COLUMNS[wave], []
    for row, found in enumerate(beats):
        mask = np.zeros(ecg.data.shape[2], dtype=bool)
        for on, off in found.limits[:, column][:, [first, last]]:
            if np.isfinite(on):
                mask[int(on) : int(off) + 1] = True
        part = slice(*ecg.annotated[row, column])
        truth = ecg.masks[row, column] == CODES[wave]
        counts.append(((mask | truth)[part].sum(), (mask & truth)[part].sum()))
    return np.array(counts)


def chain(material: Material) -> str:
    """Overlap of masks with nothing given, by lead and group; windows and NeuroKit2 beside; leads with each other."""
    ecg = material.ludb
    found = find_beats(ecg.data, ecg.fs)
    ways = {"average": material.beats, "windows": delineate(ecg.data, found, method="windows")}
    few = list(LEADS)
    if find_spec("neurokit2"):
        places = [ecg.lead_names.index(lead) for lead in few]
        for method in ("prominence", "dwt"):
            part = delineate(np.ascontiguousarray(ecg.data[:, places]), found, method=method)
            ways[f"nk {method}, with our P rule"] = [_spread(b, places, len(ecg.lead_names)) for b in part]
    rows = []
    for way, beats in ways.items():
        for lead in few:
            counts = {wave: overlap(ecg, beats, lead, wave) for wave in COLUMNS}
            for name, member in ecg.sets.items():
                if way != "average" and name not in ("all", "test (even numbers)"):
                    continue
                rows.append(
                    [way, lead, name, int(member.sum())] + [interval(counts[w][member], ratio) for w in COLUMNS]
                )
    for a, b in PAIRS:
        counts = {wave: between_leads(ecg, a, b, wave) for wave in COLUMNS}
        rows.append(
            ["the marks of one lead on another", f"{a} on {b}", "all", len(ecg.record)]
            + [interval(counts[w], ratio) for w in COLUMNS]
        )
    head = ("limits", "lead", "records", "n", "P", "QRS", "T")
    note = "Intersection over union, pooled over beats; 95 % bootstrap interval over people, where there are ten."
    return table(head, rows) + f"\n\n{note}"


def _spread(beats: Beats, places: Sequence[int], n_leads: int) -> Beats:
    """Put the limits of some leads where they belong among all."""
    whole = np.full((len(beats.r_peaks), n_leads, len(LIMITS)), np.nan, dtype=np.float32)
    whole[:, places] = beats.limits
    return with_fields(beats, limits=whole)


def between_leads(ecg: Bunch, a: str, b: str, wave: str) -> np.ndarray:
    """Return samples in the masks of either lead and of both, in the part that is annotated in both."""
    i, j = ecg.lead_names.index(a), ecg.lead_names.index(b)
    counts = []
    for row, masks in enumerate(ecg.masks):
        start, stop = ecg.annotated[row, [i, j], 0].max(), ecg.annotated[row, [i, j], 1].min()
        one, other = (masks[k, start:stop] == CODES[wave] for k in (i, j))
        counts.append(((one | other).sum(), (one & other).sum()))
    return np.array(counts)


def p_waves(material: Material) -> str:
    """Is there a P wave: by database and leads, the score's AUC and the answers."""
    ecg = material.ludb
    ii_v1 = [ecg.lead_names.index(lead) for lead in ("II", "V1")]
    two = np.ascontiguousarray(ecg.data[:, ii_v1])
    sets = ecg.sets
    groups = {
        "fibrillation": sets["fibrillation"],
        "flutter": sets["flutter"],
        "others without": ~ecg.has_p & ~sets["fibrillation"] & ~sets["flutter"],
    }
    rows = []
    for leads, beats in (("12", material.beats), ("II, V1", delineate(two, find_beats(two, ecg.fs)))):
        even = ecg.number % 2 == 0
        for name, member in (("LUDB", np.ones_like(even)), ("LUDB, test", even)):
            chosen = {key: value & member for key, value in groups.items()}
            rows.append([name, leads, *_p_row(beats, ecg.has_p & member, chosen)])
    try:
        ptb = _ptbxl(material)
    except NotThere as reason:
        _log.warning("P waves of PTB-XL are left out: %s", reason)
    else:
        for leads, data in (("12", ptb.data), ("II, V1", np.ascontiguousarray(ptb.data[:, [1, 6]]))):
            beats = delineate(data, find_beats(data, ptb.fs))
            rows.append(["PTB-XL, 100 Hz", leads, *_p_row(beats, ptb.sinus, ptb.without)])
    head = ("database", "leads", "with P waves", "of them present, undecided, absent", "score")
    aucs = ("AUC, flutter left out", "AUC, flutter as no P waves")
    groups_head = [f"{name}: called present, undecided, absent" for name in groups]
    return table((*head, *aucs, *groups_head), rows)


def _ptbxl(material: Material) -> Bunch:
    """Return the local records of PTB-XL by their statements of rhythm."""
    if not (material.home / "ptbxl").is_dir():
        raise NotThere("ptbxl is not in the data home")
    names = ("SR", "SARRH", "SBRAD", "STACH", "AFIB", "AFLT", "PACE")
    ptb = fetch_ptbxl(
        data_home=material.home, records="local", classes=names, download_if_missing=False, verbose=0
    )
    keep = slice(None, None, material.step)
    target, ptb.data = ptb.target[keep] > 0, ptb.data[keep]
    of = {name: target[:, i] for i, name in enumerate(ptb.target_names)}
    odd = of["AFIB"] | of["AFLT"] | of["PACE"]
    ptb.sinus = (of["SR"] | of["SARRH"] | of["SBRAD"] | of["STACH"]) & ~odd
    ptb.without = {
        "fibrillation": of["AFIB"] & ~of["AFLT"],
        "flutter": of["AFLT"],
        "others without": np.zeros(len(target), dtype=bool),
    }
    return ptb


def _p_row(beats: Sequence[Beats], has_p: np.ndarray, without: dict[str, np.ndarray]) -> list[object]:
    """Return counts of answers and the AUC of the score that decides."""
    many = any(found.limits.shape[1] >= 8 for found in beats)
    name = "p_snr" if many else "p_consistency"
    score = np.array([getattr(found, name) for found in beats])
    answer = np.array([{True: 0, None: 1, False: 2}[found.p_present] for found in beats])

    def auc(values: np.ndarray) -> float:
        both = 0 < values[:, 1].sum() < len(values)
        return float(roc_auc_score(values[:, 1], values[:, 0])) if both else float("nan")

    def told(absent: np.ndarray) -> str:
        known = np.isfinite(score) & (has_p | absent)
        return interval(np.column_stack([score, has_p])[known], auc)

    absent = np.any(list(without.values()), axis=0)
    def counted(member: np.ndarray) -> str:
        return ", ".join(str(int((answer[member] == value).sum())) for value in range(3)) if member.any() else "-"

    figures = [told(absent & ~without["flutter"]), told(absent)]
    return [int(has_p.sum()), counted(has_p), name, *figures, *(counted(member) for member in without.values())]


def false_p(material: Material) -> str:
    """Count beats without a marked P wave that get limits of one, with the rule and without."""
    ecg, rows = material.ludb, []
    column = ecg.lead_names.index("II")
    for name in ("fibrillation", "flutter", "all"):
        n = called = 0
        for row in np.flatnonzero(ecg.sets[name] & ~ecg.has_p):
            beats, truth = material.beats[row], ecg.peaks[row, "II"]
            span = (beats.r_peaks >= truth[0] - BEYOND * ecg.fs) & (beats.r_peaks <= truth[-1] + BEYOND * ecg.fs)
            n += int(span.sum())
            called += int(np.isfinite(beats.limits[span, column, 0]).sum())
        rows.append([name, int((ecg.sets[name] & ~ecg.has_p).sum()), n, called, percent(called, n)])
    return table(("records of LUDB without P waves", "records", "beats", "with limits of P", "%"), rows)


def short(material: Material) -> str:
    """Windows of two seconds, the commonest input of networks: an average of one to three beats beside windows."""
    ecg = material.ludb
    n = round(2 * ecg.fs)
    cuts = ecg.data.shape[2] // n
    data = ecg.data[..., : cuts * n].reshape(*ecg.data.shape[:2], cuts, n).transpose(0, 2, 1, 3)
    data = np.ascontiguousarray(data.reshape(-1, ecg.data.shape[1], n))
    found = find_beats(data, ecg.fs)
    rows = []
    for way, settings in (
        ("average, min_beats=1", {"min_beats": 1}),
        ("average, min_beats=3", {}),
        ("windows", {"method": "windows"}),
    ):
        beats = _join(delineate(data, found, **settings), cuts, n, len(ecg.lead_names))
        member = ecg.number % 2 == 0
        for lead in LEADS:
            figures = [interval(overlap(ecg, beats, lead, wave)[member], ratio) for wave in COLUMNS]
            rows.append([way, lead, int(member.sum()), *figures])
    return table(("limits", "lead", "people", "P", "QRS", "T"), rows)


def _join(beats: Sequence[Beats], cuts: int, n: int, n_leads: int) -> list[Beats]:
    """Return the beats of windows in a row as those of their records."""
    whole = []
    for start in range(0, len(beats), cuts):
        parts = beats[start : start + cuts]
        limits = [b.limits + i * n for i, b in enumerate(parts)]
        peaks = [b.r_peaks + i * n for i, b in enumerate(parts)]
        whole.append(
            Beats(np.concatenate(peaks), parts[0].fs, limits=np.concatenate(limits).reshape(-1, n_leads, len(LIMITS)))
        )
    return whole


BLOCKS: dict[str, Callable[[Material], str]] = {
    "R peaks of LUDB": r_peaks,
    "R peaks of mitdb": mitdb,
    "limits": limits,
    "overlap": chain,
    "P waves": p_waves,
    "false P waves": false_p,
    "windows of two seconds": short,
}


# ------------------------------------------------------------------------------------------------------------ command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = parser_of("Measure skecg.beats on real records, and write it into a page.", "beats.md")
    parser.add_argument("--quick", action="store_true", help="about a tenth of the records")
    given = parser.parse_args(arguments)
    names = chosen(parser, given.only, BLOCKS)
    material = Material(Path(get_data_home(given.data_home)), given.quick)
    text = write(given.page.read_text(encoding="utf-8"), material, names, BLOCKS)
    given.page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    sys.exit(main())
