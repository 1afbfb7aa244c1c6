"""The validation split of early stopping: whole patients, and no class lost to training."""

from __future__ import annotations

import numpy as np

_TRIES = 20  # random orders of the patients; the split nearest to the wanted share of every class is kept


def validation_split(
    y: np.ndarray, groups: np.ndarray | None, fraction: float, rng: np.random.RandomState
) -> np.ndarray:
    """Return a mask of the rows held out, all rows of a group on one side and no class lost to training.

    Parameters
    ----------
    y : ndarray of shape (n_samples,) or (n_samples, n_labels), int
        Class codes, or indicators.
    groups : ndarray of shape (n_samples,) or None
        Patients; None draws single rows, class by class.
    fraction : float
        Wanted share of the rows.
    rng : RandomState
        Draws the split.

    Returns
    -------
    held : ndarray of shape (n_samples,), bool
        All False when no such split exists.
    """
    n = len(y)
    if groups is None and y.ndim == 1:
        held = np.zeros(n, dtype=bool)
        for code in np.unique(y):
            rows = rng.permutation(np.flatnonzero(y == code))
            held[rows[: min(max(1, round(fraction * len(rows))), len(rows) - 1)]] = True
        return held
    codes = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    # label counts and, last, size, by group
    if y.ndim == 1:
        counts = np.zeros((codes.max() + 1, y.max() + 2))
        np.add.at(counts, (codes, y), 1)
    else:
        counts = np.zeros((codes.max() + 1, y.shape[1] + 1))
        np.add.at(counts[:, :-1], codes, y)
    counts[:, -1] = np.bincount(codes)
    total, best, best_gap = counts.sum(0), None, np.inf
    for _ in range(_TRIES if groups is not None else 1):
        left, chosen = total.copy(), []
        for group in rng.permutation(len(counts)):
            after = left - counts[group]
            if total[-1] - after[-1] > max(fraction * total[-1] * 1.5, counts[:, -1].min()):
                continue  # too large a group for what is missing
            if after[-1] < 2 or ((after[:-1] <= 0) & (total[:-1] > 0)).any():
                continue  # the last group that holds a class stays in training
            left, chosen = after, [*chosen, group]
            if total[-1] - left[-1] >= fraction * total[-1]:
                break
        gap = np.abs((total - left) / total.clip(1) - fraction).sum()  # how far from the same share of every class
        if chosen and gap < best_gap:
            best, best_gap = chosen, gap
    return np.isin(codes, best) if best is not None else np.zeros(n, dtype=bool)
