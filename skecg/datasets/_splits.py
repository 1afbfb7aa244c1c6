"""Splits that keep patients apart: the published halves of MIT-BIH, a check of any split, fair draws of windows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

# The halves of de Chazal, O'Dwyer and Reilly (2004): 22 records each, without the four of paced patients.
DS1 = tuple(
    "101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230".split()
)
DS2 = tuple(
    "100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234".split()
)
# 201 (DS1) and 202 (DS2) are one man. 202 moves to DS1, so that the test half holds no record that others do not test
# on: it loses 55 supraventricular and 19 ventricular ectopic beats. With 201 in it, it would gain 128 and 198.
_MOVED = {"202": "DS1"}


def assign_halves(record: np.ndarray, split: str) -> np.ndarray:
    """Return "DS1", "DS2" or "" for each record name; see :func:`fetch_mitdb` for the rules."""
    sides = dict.fromkeys(DS1, "DS1") | dict.fromkeys(DS2, "DS2")
    if split == "patients":
        sides |= _MOVED
    names, where = np.unique(record, return_inverse=True)
    return np.array([sides.get(name, "") for name in names.tolist()], dtype="<U3")[where]


def check_split(split: Any, groups: Any) -> list[str]:
    """Warn, once, where a patient is on more than one side of a split.

    A score on patients that the model was trained on tells how well it remembers them. scikit-learn's splitters keep
    patients apart where they get ``groups``: ``StratifiedGroupKFold`` (folds of similar classes), ``GroupShuffleSplit``
    (one cut), ``LeaveOneGroupOut``; and ``PredefinedSplit`` runs a published split. This function is for a split that
    comes from elsewhere: from a column of a database, from a file, from ``train_test_split``.

    Parameters
    ----------
    split : array-like of shape (n_samples,)
        The side of each sample: names such as "DS1" and "DS2", "train" and "test", or numbers of folds. Samples with
        an empty name are on no side.
    groups : array-like of shape (n_samples,)
        The patient of each sample.

    Returns
    -------
    shared : list of str
        Patients on more than one side, in order; empty where the split is clean.

    Raises
    ------
    ValueError
        For arrays that are not 1-D of one length.

    Warns
    -----
    UserWarning
        Where a patient is shared; it names the patients and counts their samples.

    See Also
    --------
    fetch_mitdb : Comes with the halves DS1 and DS2 of de Chazal et al.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GroupShuffleSplit
    >>> from skecg.datasets import check_split
    >>> groups = np.repeat(["a", "b", "c", "d"], 5)
    >>> train, test = next(GroupShuffleSplit(1, random_state=0).split(groups, groups=groups))
    >>> split = np.full(20, "train")
    >>> split[test] = "test"
    >>> check_split(split, groups)
    []
    """
    return warn_of_shared(split, groups, stacklevel=3)


def warn_of_shared(split: Any, groups: Any, *, stacklevel: int) -> list[str]:
    """Do what :func:`check_split` does, and let the warning point so many calls up."""
    split, groups = np.asarray(split), np.asarray(groups)
    if split.ndim != 1 or split.shape != groups.shape:
        raise ValueError(f"split and groups must be 1-D of one length; got the shapes {split.shape} and {groups.shape}")
    split, groups = split.astype(str), groups.astype(str)
    on_a_side = split != ""
    pairs = np.unique(np.stack([groups[on_a_side], split[on_a_side]], axis=1), axis=0)
    patients, sides = np.unique(pairs[:, 0], return_counts=True)
    shared = patients[sides > 1].tolist()
    if shared:
        n = int(np.isin(groups[on_a_side], shared).sum())
        names = ", ".join(shared[:5]) + (f" and {len(shared) - 5} more" if len(shared) > 5 else "")
        warnings.warn(
            f"{len(shared)} of {len(patients)} patients ({names}; {n:,} samples) are on more than one side of this "
            f"split: a score on them is no estimate for new patients. Split by groups, e.g. with scikit-learn's "
            f"StratifiedGroupKFold",
            UserWarning,
            stacklevel=stacklevel,
        )
    return shared


def draw_fairly(
    label: np.ndarray, group: np.ndarray, limit: int, generator: np.random.Generator | np.random.RandomState
) -> np.ndarray:
    """Choose at most ``limit`` samples of each label, as evenly over its patients as their numbers allow.

    Parameters
    ----------
    label, group : ndarray of int, shape (n_samples,)
        Class and patient of each sample.
    limit : int
        Most samples of a class.
    generator : Generator or RandomState
        Source of the draw.

    Returns
    -------
    kept : ndarray of int
        Positions of the chosen samples, ascending. A patient with fewer samples of a class than its share gives all
        of them, and the others give more.
    """
    kept = []
    for value in np.unique(label):
        at = np.flatnonzero(label == value)
        if len(at) > limit:
            at = at[np.argsort(group[at], kind="stable")]
            _, first, counts = np.unique(group[at], return_index=True, return_counts=True)
            left, chosen = limit, []
            order = np.argsort(counts, kind="stable")  # who has least gives first: what is lacking falls to the others
            for i, patient in enumerate(order.tolist()):
                share = min(int(counts[patient]), left // (len(order) - i))
                own = at[first[patient] : first[patient] + counts[patient]]
                chosen.append(generator.choice(own, size=share, replace=False))
                left -= share
            at = np.concatenate(chosen)
        kept.append(at)
    return np.sort(np.concatenate(kept)) if kept else np.empty(0, dtype=np.int64)
