"""What the scores against a truth share: arrays of one shape, blocks of windows, the mean over windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..utils._validation import check_weights

# Values scored at once: they stay in the cache, and a cohort never stands in memory twice.
_BLOCK = 2**16


def aligned(
    truth: Any, relevance: Any, valid: Any, of: str = "relevance"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth (bool), relevance and valid (bool), each of relevance's shape (n_samples, n_leads, n_timesteps)."""
    relevance = np.asarray(relevance)
    if relevance.dtype.kind not in "fiub":
        raise TypeError(f"relevance must be an array of real numbers; got dtype {relevance.dtype}")
    if relevance.ndim not in (2, 3) or 0 in relevance.shape:
        raise ValueError(
            f"{of} must be (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), nowhere 0; got shape "
            f"{relevance.shape}"
        )
    cube = relevance if relevance.ndim == 3 else relevance[:, None]
    valid = np.ones((1, 1, 1), dtype=bool) if valid is None else _mask("valid", valid, relevance.shape)
    return (
        np.broadcast_to(_mask("truth", truth, relevance.shape), cube.shape),
        cube,
        np.broadcast_to(valid, cube.shape),
    )


def _mask(name: str, mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return a boolean mask that broadcasts to (n_samples, n_leads, n_timesteps) of relevance of the given shape."""
    mask = np.asarray(mask)
    if mask.dtype != bool:
        if mask.dtype.kind not in "fiu":
            raise TypeError(f"{name} must be an array of booleans, or of zeros and ones; got dtype {mask.dtype}")
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError(f"{name} must be boolean, or of zeros and ones; it holds other values")
        mask = mask.astype(bool)
    leads = shape[1] if len(shape) == 3 else 1
    cube = mask[:, None] if mask.ndim == 2 else mask
    allowed = (leads,) if mask.ndim == 3 else (1,)
    if cube.ndim != 3 or (len(cube), cube.shape[-1]) != (shape[0], shape[-1]) or cube.shape[1] not in allowed:
        raise ValueError(
            f"{name} has shape {mask.shape}, but relevance has shape {tuple(shape)}: they must agree, or {name} be "
            f"({shape[0]}, {shape[-1]}) to hold for every lead"
        )
    return cube


def blocks(
    truth: np.ndarray, relevance: np.ndarray, valid: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield rows, and (rows, values): valid truth, valid, relevance in float64, 0 where it is not valid."""
    step = max(1, _BLOCK // relevance[0].size)
    for start in range(0, len(relevance), step):
        rows = slice(start, start + step)
        n = len(relevance[rows])
        values, counts = relevance[rows].reshape(n, -1), valid[rows].reshape(n, -1)
        bad = np.flatnonzero((~np.isfinite(values) & counts).any(axis=1))
        if len(bad):
            raise ValueError(
                f"relevance is NaN or infinite in window {start + bad[0]} (and perhaps others), which says nothing of "
                "where the evidence is: leave such windows out of both truth and relevance, and count them"
            )
        yield rows, truth[rows].reshape(n, -1) & counts, counts, np.where(counts, values, 0).astype(np.float64)


def averaged(scores: np.ndarray, sample_weight: Any, average: bool, needs: str = "any truth") -> float | np.ndarray:
    """Return the weighted mean over the windows that have a score, or the scores as they are."""
    weights = check_weights(sample_weight, len(scores))
    if not average:
        return scores
    scored = ~np.isnan(scores)
    if not weights[scored].any():
        raise ValueError(
            f"none of the {len(scores)} windows has {needs} (or all that have weigh nothing), so there is nothing to "
            "score: pass windows that have"
        )
    return float(np.average(scores[scored], weights=weights[scored]))
