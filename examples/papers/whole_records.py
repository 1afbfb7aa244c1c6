"""A whole record of MIT-BIH, classified and explained window by window: the future work of the paper.

Prints how many windows there are, what they are called, how long it took, and how often a window's label is that of
the annotated beat nearest its middle. ``--out`` gets one page of the record (``record_208.png``) and what was printed
(``record_208.md``). The arrays and a WFDB annotation file for other viewers go to ``--work``, or to ``--out`` where
there is no ``--work``; an interrupted run goes on from there. ``--quick`` explains the first five minutes.

``--record`` also takes the path of another WFDB record of 360 Hz.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from _study import CLASSES, parser, table, trained_to_be_explained, versions
from sklearn.utils import Bunch

from skecg import GradCAM1D
from skecg.datasets import fetch_physionet, read_record
from skecg.explain import explain_record
from skecg.plotting import RecordDisplay

BEATS = dict(zip("NVALR", CLASSES, strict=True))
ALL_BEATS = list("NVALRBaJSrFejnE/fQ?")  # of WFDB: what is left are rhythms, noise and waves
WITHIN = 0.56  # s: as far from the middle as the beats were in training
QUICK = 300.0  # s


def find(record: str) -> Path:
    """Return the path of a record, by its path or by its name in MIT-BIH."""
    path = Path(record)
    if path.with_name(path.name + ".hea").is_file():
        return path
    return fetch_physionet("mitdb", [record], verbose=0).paths[0]


def nearest(middle: np.ndarray, sample: np.ndarray, symbol: np.ndarray, within: float) -> np.ndarray:
    """Return the class of the beat nearest each middle: "other" for other beats, "" where none is near enough."""
    beats = np.isin(symbol, ALL_BEATS)
    sample, symbol = sample[beats], symbol[beats]
    if not len(sample):
        return np.full(len(middle), "")
    closest = np.searchsorted((sample[1:] + sample[:-1]) / 2, middle)
    classes = np.array([BEATS.get(s, "other") for s in symbol])[closest]
    return np.where(np.abs(sample[closest] - middle) <= within, classes, "")


def agreement(label: np.ndarray, beat: np.ndarray) -> str:
    """Say how often windows have the label of their beat."""
    known = np.isin(beat, CLASSES) & (label != "")
    right = known & (label == beat)
    if not known.any():
        return "no window has a beat of the five classes near its middle"
    counts = Counter(beat[known])
    most = max(counts.values())
    each = ", ".join(f"{c} {np.sum(right & (beat == c)):,} of {counts[c]:,}" for c in CLASSES if c in counts)
    return (
        f"{right.sum():,} of {known.sum():,} windows ({right.sum() / known.sum():.1%}) have the label of the annotated "
        f"beat nearest their middle ({each}; one label for all would reach {most / known.sum():.1%}); "
        f"{np.sum(beat == 'other'):,} lie nearest a beat of another kind, {np.sum(beat == ''):,} have none within "
        f"{WITHIN:g} s, in {np.sum(label == ''):,} samples are missing"
    )


def explain(path: Path, clf: Any, folder: Path | None, quick: bool) -> tuple[Bunch, Any]:
    """Return the result and the recording that it is of: a path, or the first minutes."""
    record: Any = path
    if quick:
        whole = read_record(path, leads=0, signal=False)
        record = read_record(path, leads=0, sampto=min(whole.n_timesteps, round(QUICK * whole.fs)))
    name = f"record_{path.name}{'_quick' if quick else ''}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how many explanations are doubtful is printed
        result = explain_record(
            GradCAM1D(clf, method="gradcam"),
            record,
            out=None if folder is None else folder / name,
            annotations=None if folder is None else folder / f"{path.name}.skecg",
        )
    return result, record


def draw(result: Bunch, record: Any) -> Any:
    """Return the figure of the first page with a label other than N, or of the first."""
    display = RecordDisplay.from_result(result, record)
    page = display.next_abnormal(-1)
    return display.plot(page or 0).figure_


def main() -> None:
    """Read the command line, train or take up the network, explain, print and write."""
    args_parser = parser(__doc__)
    args_parser.add_argument("--record", default="208", help="a record of MIT-BIH, or the path of one of yours; 208")
    args = args_parser.parse_args()
    path, seed = find(args.record), (args.seeds or [0])[0]
    _, clf, _ = trained_to_be_explained(seed, args.work, args.quick, "cpu")
    folder = args.work or args.out
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    wall, cpu = time.perf_counter(), time.process_time()
    result, record = explain(path, clf, folder, args.quick)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    length = result.relevance.shape[1] / result.fs
    named = Counter(result.label.tolist())
    lines = [[label or "missing", f"{n:,}"] for label, n in named.most_common()]
    text = (
        f"Record {path.name}, {length / 60:.1f} minutes of {result.lead_names[0]}, by Grad-CAM of an ECGNet of width "
        f"{2 if args.quick else 4} (seed {seed}): {len(result.start):,} windows of {result.window:g} s, one every "
        f"{result.stride:g} s, in {cpu:.0f} s of CPU time ({wall:.0f} s)."
    )
    if (path.parent / f"{path.name}.atr").is_file():
        marks = read_record(path, annotator="atr", signal=False)
        middle = result.start + round(result.window * result.fs / 2)
        beat = nearest(middle, marks.sample, marks.symbol, WITHIN * result.fs)
        text += f" {agreement(result.label, beat)}. Beats of this record may be among those trained on."
    for reason, count in result.doubts.items():
        text += f" In {count:,} windows {reason}."
    text = "\n".join([f"{text} {versions()}.", "", table(["predicted", "windows"], lines)])
    print(text)
    if args.out is not None:
        import matplotlib.pyplot as plt

        args.out.mkdir(parents=True, exist_ok=True)
        Path(args.out / f"record_{path.name}.md").write_text(text + "\n")
        figure = draw(result, record)
        figure.savefig(args.out / f"record_{path.name}.png", dpi=80)
        plt.close(figure)


if __name__ == "__main__":
    main()
