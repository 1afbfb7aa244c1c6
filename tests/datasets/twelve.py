"""Made-up twelve-lead databases, written as PhysioNet writes the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def make_digital(n: int, seed: int = 0, n_leads: int = 12) -> np.ndarray:
    """Return samples of a converter, (n, n_leads)."""
    return np.random.default_rng(seed).integers(-3000, 3000, size=(n, n_leads), dtype=np.int16)


def write_signal(
    path: Path,
    digital: np.ndarray,
    *,
    fs: int,
    leads: Sequence[str] = LEADS,
    kind: str = "dat",
    comments: Sequence[str] = (),
    record: str | None = None,
) -> None:
    """Write a record of format 16 at 1000 units per mV: header with checksums, and its signal (.mat: MATLAB v4)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{record or path.name} {len(leads)} {fs} {len(digital)}"]
    place = "16+24" if kind == "mat" else "16"
    for i, lead in enumerate(leads):
        total = (int(digital[:, i].sum(dtype=np.int64)) + 32768) % 65536 - 32768
        lines.append(f"{path.name}.{kind} {place} 1000/mV 16 0 {digital[0, i]} {total} 0 {lead}")
    lines += [f"#{comment}" for comment in comments]
    path.with_name(f"{path.name}.hea").write_text("\n".join(lines) + "\n")
    content = digital.astype("<i2").tobytes()
    if kind == "mat":  # type 30 (int16, column by column), rows, columns, no imaginary part, length of the name, name
        head = np.array([30, digital.shape[1], len(digital), 0, 4], dtype="<i4").tobytes() + b"val\0"
        content = head + content
    path.with_name(f"{path.name}.{kind}").write_bytes(content)


def to_mv(digital: np.ndarray) -> np.ndarray:
    """Return what a reader should make of the samples, (n_leads, n)."""
    return (digital.T / 1000).astype(np.float32)


def listing(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Return everything that lies in a folder: to be compared before and after."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def need(home: Path, name: str) -> Path:
    """Return the folder of a real database, or skip the test where it is not there."""
    if not (home / name).is_dir():
        pytest.skip(f"SKECG_DATA has no folder {name}: real records are no part of skecg")
    return home / name
