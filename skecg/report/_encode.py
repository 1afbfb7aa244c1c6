"""Numbers into text: samples as 16-bit integers, packed; facts as JSON that no HTML parser can take for tags."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._input import PIECE

MISSING = -32768  # a sample that is not finite
_MOST = 32767
_SAMPLED = 1 << 22  # values that a quantile is formed from, at most
FULL = 0.999  # the quantile of the relevance's size that has the full colour
BEYOND = 100  # times full colour; what is larger would leave too few steps for all else
# mV; an ECG beyond it is an artefact, unless much of it is
_LIMIT, _OFTEN = 50.0, 0.999
# A row is at least 2 mV and at most 6 mV high, of 0.5 mV squares, and holds this part of the lead.
_USUAL, _LEAST, _HIGHEST, _SQUARE = (0.0005, 0.9995), 4, 12, 0.5


@dataclass
class Packed:
    """One lead as 16-bit integers, which times ``scale`` are the values; ``text`` is what the page holds."""

    values: np.ndarray
    scale: float
    largest: float
    clipped: int = 0

    @property
    def text(self) -> str:
        """Base64 of the zlib stream of the differences' low bytes, then their high ones."""
        differences = np.diff(self.values, prepend=np.int16(0)).astype("<i2")  # wraps, and so do the page's sums
        planes = differences.view(np.uint8).reshape(-1, 2).T
        return base64.b64encode(zlib.compress(np.ascontiguousarray(planes).tobytes(), 6)).decode("ascii")

    def decoded(self) -> np.ndarray:
        """Return the values as the page has them, float64, NaN where they are missing."""
        return np.where(self.values == MISSING, np.nan, self.values * self.scale)

    def decoded_at(self, i: int) -> float:
        """Return one value as the page has it."""
        return float("nan") if self.values[i] == MISSING else float(self.values[i]) * self.scale


def pack(
    read: Callable[[int, int], np.ndarray], length: int, *, limit: float | None = None, rare: float = 1 - _OFTEN
) -> Packed:
    """Return a lead in 16 bits, read in pieces.

    Parameters
    ----------
    read : callable
        ``read(a, b)`` gives the samples from a up to b.
    length : int
        Number of samples.
    limit : float, default=None
        Values beyond it are cut off where they are rare.
    rare : float, default=0.001
        The part of the samples up to which they are.
    """
    largest, beyond = 0.0, 0
    for a in range(0, length, PIECE):
        piece = np.abs(np.asarray(read(a, min(a + PIECE, length)), dtype=np.float64))
        piece = piece[np.isfinite(piece)]
        largest = max(largest, float(piece.max(initial=0.0)))
        beyond += 0 if limit is None else int((piece > limit).sum())
    most = largest
    if limit is not None and largest > limit and beyond <= rare * length:
        most = limit
    else:
        beyond = 0
    scale = most / _MOST if most / _MOST > 0 else 1.0
    values = np.empty(length, dtype=np.int16)
    for a in range(0, length, PIECE):
        piece = np.asarray(read(a, min(a + PIECE, length)), dtype=np.float64)
        whole = np.clip(np.rint(np.where(np.isfinite(piece), piece, 0) / scale), -_MOST, _MOST)
        values[a : a + len(piece)] = np.where(np.isfinite(piece), whole, MISSING)
    return Packed(values, scale, largest, beyond)


def pack_ecg(read: Callable[[int, int], np.ndarray], length: int) -> Packed:
    """Return a lead of ECG in 16 bits: steps of 1.5 uV at most, unless much of it is beyond 50 mV."""
    return pack(read, length, limit=_LIMIT)


def pack_relevance(read: Callable[[int, int], np.ndarray], length: int, full: float) -> Packed:
    """Return a lead of relevance in 16 bits: steps of a 327th of full colour at most; what is far beyond is cut off."""
    return pack(read, length, limit=BEYOND * full if full > 0 else None, rare=1.0)


def full_colour(reads: list[Callable[[int, int], np.ndarray]], length: int) -> float:
    """Return the relevance of full colour: the 99.9 % quantile of its size over all leads and samples."""
    step = max(1, len(reads) * length // _SAMPLED)
    sizes = []
    for read in reads:
        for a in range(0, length, PIECE):
            piece = np.asarray(read(a, min(a + PIECE, length)))[-a % step :: step]
            sizes.append(np.abs(piece[np.isfinite(piece)].astype(np.float64)))
    sizes = np.concatenate(sizes)
    if not len(sizes):
        return 0.0
    # where less than a thousandth of the samples has any relevance, the quantile is zero
    return float(np.quantile(sizes, FULL)) or float(sizes.max())


def row_limits(lead: Packed) -> tuple[float, float, bool]:
    """Return the least and the greatest value (mV) that a lead's row shows, and whether rare values go beyond."""
    step = max(1, len(lead.values) // _SAMPLED)
    sampled = lead.values[::step]
    sampled = sampled[sampled != MISSING]
    if not len(sampled):
        return -1.0, 1.0, False
    least, most = np.quantile(sampled, _USUAL) * lead.scale
    low, high = int(np.floor((least - 0.1) / _SQUARE)), int(np.ceil((most + 0.1) / _SQUARE))
    if high - low > _HIGHEST:
        middle = int(np.rint(float(np.median(sampled)) * lead.scale / _SQUARE))
        low, high = middle - _HIGHEST // 2, middle + _HIGHEST // 2
    more = max(0, _LEAST - (high - low))
    low, high = low - more // 2, high + more - more // 2
    extremes = sampled.min() * lead.scale, sampled.max() * lead.scale
    return low * _SQUARE, high * _SQUARE, bool(extremes[0] < low * _SQUARE or extremes[1] > high * _SQUARE)


def to_json(value: Any) -> str:
    """Return JSON for a script element: strict (no NaN), and without anything that ends or opens an element."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
