"""Intervals of scores over patients: windows of one patient are drawn together."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..utils._bootstrap import bca_levels, quantiles, resample_means
from ..utils._validation import check_number, draw_seed

_FEWEST_GROUPS = 10  # below, no bootstrap interval keeps its promise


def bootstrap_score(
    values: Any, groups: Any, *, n_bootstrap: int = 2000, confidence: float = 0.95, random_state: Any = 0
) -> Bunch:
    """Mean of the scores of windows, with a bootstrap interval over patients.

    Windows of one patient are alike, so that an interval over windows is too narrow: whole patients are drawn, with all
    their windows, and the mean over the windows drawn is formed again. The interval is BCa [1]_ with the jackknife over
    patients. Fewer than ten patients get none, since none would keep its promise: the values by patient are what there
    is to tell. Below thirty it is still too narrow where patients differ much or give windows in uneven numbers.

    To compare two methods, pass the differences of their scores on the same windows: the pairs stay together, and the
    methods differ where the interval is clear of zero.

    Parameters
    ----------
    values : array-like of shape (n_samples,)
        A score a window, such as a metric of this room gives with ``average=False``; NaN where there is none.
    groups : array-like of shape (n_samples,)
        The patient of each window.
    n_bootstrap : int, default=2000
        Resamples.
    confidence : float, default=0.95
        Of the interval.
    random_state : int, RandomState instance or None, default=0
        Seed of the resampling. With the same one, the same patients are drawn for every score of the same windows.

    Returns
    -------
    result : Bunch
        ``value`` (float, the mean over the windows), ``low`` and ``high`` (float, NaN below ten patients), ``method``
        ("bca" or "none"), ``n_groups`` (patients with a score), ``n_left_out`` (windows without a score),
        ``groups`` (n_groups, the patients), ``values_by_group`` (n_groups, the mean of each) and ``n_by_group``
        (n_groups, the windows of each).

        A patient weighs as many windows as they gave. Where few patients give most of them, look at
        ``values_by_group``, whose mean ``bootstrap_score(result.values_by_group, result.groups)`` lets each patient
        count once.

    Raises
    ------
    ValueError
        For values and groups that do not fit together, infinite values, or no value at all.

    References
    ----------
    .. [1] B. Efron, "Better bootstrap confidence intervals", Journal of the American Statistical Association 82,
           171-185, 1987.

    Examples
    --------
    Two methods on the same forty windows of twelve patients:

    >>> import numpy as np
    >>> from skecg.metrics import bootstrap_score
    >>> rng, groups = np.random.default_rng(0), np.arange(40) % 12
    >>> patient = rng.normal(size=12)[groups]  # what is easy for one method is easy for the other
    >>> a, b = (patient + rng.normal(size=40) / 10 + lead for lead in (0.2, 0.0))
    >>> alone, difference = bootstrap_score(a, groups), bootstrap_score(a - b, groups)
    >>> alone.low < 0 < alone.high, 0 < difference.low < difference.value < difference.high
    (True, True)
    >>> few = bootstrap_score([0.5, 0.7, 0.9], ["p1", "p1", "p2"])
    >>> few.method, few.values_by_group.tolist()
    ('none', [0.6, 0.9])
    """
    values = np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"values must be an array of real numbers; got dtype {values.dtype}")
    groups = np.asarray(groups)
    if values.ndim != 1 or not len(values) or groups.shape != values.shape:
        raise ValueError(
            "values and groups must both have shape (n_samples,), one score and one patient a window; got "
            f"{values.shape} and {groups.shape}"
        )
    check_number("n_bootstrap", n_bootstrap, low=1, integer=True)
    check_number("confidence", confidence, low=0, high=1, strict=True)
    values = values.astype(np.float64)
    if np.isinf(values).any():
        raise ValueError("values holds infinite scores: leave such windows out (as NaN they are left out and counted)")
    scored = ~np.isnan(values)
    if not scored.any():
        raise ValueError(f"none of the {len(values)} windows has a score: all values are NaN")
    try:
        names, index, counts = np.unique(groups[scored], return_inverse=True, return_counts=True)
    except TypeError:
        raise ValueError("groups must be names or numbers of patients of one type, none of them missing") from None
    value = float(values[scored].mean())
    # sums of differences from the mean: their rounding does not grow with the scores' size
    sums = np.bincount(index.ravel(), weights=values[scored] - value, minlength=len(names))
    result = Bunch(
        value=value,
        low=np.nan,
        high=np.nan,
        method="none",
        n_groups=len(names),
        n_left_out=int((~scored).sum()),
        groups=names,
        values_by_group=value + sums / counts,
        n_by_group=counts,
    )
    if len(names) >= _FEWEST_GROUPS:
        low, high = _bca(sums, counts, n_bootstrap, confidence, draw_seed(random_state))
        result.update(low=value + low, high=value + high, method="bca")
    return result


def _bca(sums: np.ndarray, counts: np.ndarray, n_bootstrap: int, confidence: float, seed: int) -> tuple[float, float]:
    """Return the interval's ends of sum(sums) / sum(counts), as differences from it; sums add up to 0."""
    without = -sums / (counts.sum() - counts)
    centred = without.mean() - without
    scale = np.abs(centred).max()
    if scale == 0:  # every patient has the same mean
        return 0.0, 0.0
    drawn, _ = resample_means(
        np.column_stack([sums, counts]), n_bootstrap, np.random.default_rng(seed), with_errors=False
    )
    means = drawn[:, 0] / drawn[:, 1]
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = quantiles(means[:, None], bca_levels(centred / scale, means, tails)[None])[0]
    return float(low), float(high)
