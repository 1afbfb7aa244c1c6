"""Short recordings with beats and rhythm marks, as the tests of the fetchers and of their labels want them."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

# Marks of a recording of 20 s at 250 Hz: sinus rhythm, fibrillation by both its names, noise too short for a window.
MARKS = ((5, "+", "(N"), (1100, "+", "(VF"), (2000, "+", "(VFIB"), (2900, "+", "(NOISE"), (3200, "+", "(NSR"))


def write_strip(
    write_record: Callable, folder: Path, name: str, marks: Sequence[tuple[int, str, str]], **settings: object
) -> np.ndarray:
    """Write a record with annotations of (sample, symbol, note); return its digital samples."""
    import wfdb

    digital = write_record(folder, name, **settings)
    header = folder / f"{name}.hea"  # wfdb writes no name twice, PhysioNet does
    header.write_text(header.read_text().replace(" ECGa", " ECG").replace(" ECGb", " ECG"))
    sample, symbol, note = zip(*marks, strict=True)
    notes = [f"{text}\0" if text else "" for text in note]  # as PhysioNet's files have them
    wfdb.wrann(name, "atr", np.array(sample), symbol=np.array(symbol), aux_note=notes, write_dir=str(folder))
    return digital


def forget_gain(folder: Path, name: str) -> None:
    """Turn the gains in a header to 0, which means not calibrated."""
    header = folder / f"{name}.hea"
    lines = header.read_text().splitlines()
    for i in range(1, 3):
        fields = lines[i].split()
        fields[2] = "0"
        lines[i] = " ".join(fields)
    header.write_text("\n".join(lines) + "\n")


def unpack_ltafdb(real_data: Path, folder: Path) -> Path:
    """Unpack the annotations of ltafdb, which lie in an archive, into a data home of their own."""
    archive = real_data / "ltafdb" / "annotations.tar.xz"
    if not archive.is_file():
        pytest.skip("the annotations of ltafdb are not in the folder of real records")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


def read_tables(page: str) -> dict[str, tuple[list[str], list[int]]]:
    """Return what the tables of a database's page say of each label: its symbols or notes, and its counts."""
    pattern = r"^    (\S+) +((?:``[^`]+``,? ?)+) .*?([\d,]+(?: +[\d,]+)?)$"
    return {
        label: (re.findall(r"``([^`]+)``", meaning), [int(number.replace(",", "")) for number in numbers.split()])
        for label, meaning, numbers in re.findall(pattern, page, flags=re.MULTILINE)
    }
