"""Row S10: MIT-BIH from its files to windows with labels, beside a plain loop over wfdb."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from skecg.datasets import fetch_mitdb, get_data_home
from skecg.datasets._databases import BEATS, MITDB
from skecg.datasets._home import find_folder

from .harness import Anchor, Different, Line, Skipped, row, same, speed

_SECONDS = 2.0
_QUICK = ("100", "119", "124", "207", "209", "222")


def plain_loop(folder: Path, records: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return windows and labels by the shortest loop there is: wfdb as it comes, a slice a beat, nothing checked."""
    import wfdb

    labels = {symbol: label for label, symbol in BEATS.items()}
    windows, target = [], []
    for name in records:
        record = wfdb.rdrecord(str(folder / name))
        marks = wfdb.rdann(str(folder / name), "atr")
        ecg, half = record.p_signal[:, 0], round(_SECONDS * record.fs) // 2
        for sample, symbol in zip(marks.sample, marks.symbol, strict=True):
            if symbol in labels and half <= sample <= len(ecg) - half:
                windows.append(ecg[sample - half : sample + half])
                target.append(labels[symbol])
    return np.array(windows, dtype=np.float32)[:, None], np.array(target)


def read_files(folder: Path, records: Sequence[str]) -> int:
    """Read all bytes of the records; return how many."""
    return sum(len((folder / file).read_bytes()) for name in records for file in MITDB.files(name))


def ours(records: Sequence[str]) -> Bunch:
    """Return windows and labels, checksums compared."""
    return fetch_mitdb(
        records=list(records), window=_SECONDS, classes=tuple(BEATS), download_if_missing=False, verbose=0
    )


@row("S10", "Speed", "MIT-BIH to windows with labels")
def loading(quick: bool) -> Iterator[Line]:
    records = _QUICK if quick else MITDB.records
    files = [file for name in records for file in MITDB.files(name)]
    folder = find_folder(get_data_home(), (MITDB.name, MITDB.slug), MITDB.versions, files)
    if not all((folder / file).is_file() for file in files):
        raise Skipped("no MIT-BIH records (set SKECG_DATA to their folder)")
    mine, (windows, target) = ours(records), plain_loop(folder, records)
    if not np.array_equal(mine.target, target):
        raise Different("S10: the labels differ")
    worst = same("S10", mine.data, windows, 1e-6)
    yield from speed(
        f"{len(records)} records to {len(target):,} windows of 720, checksums of both leads compared with the header",
        partial(ours, records),
        [
            Anchor(
                "wfdb in a plain loop, which compares none",
                partial(plain_loop, folder, records),
                1.8,
                f"labels equal, windows equal to {worst:.0e}",
            )
        ],
        limit=("reading the files", partial(read_files, folder, records)),
        quick=quick,
    )
