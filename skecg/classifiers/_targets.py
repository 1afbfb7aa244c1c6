"""Labels and indicators: what y may be, which classes it holds, and their codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import logit
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d


def check_target(y: Any) -> np.ndarray:
    """Return y as labels (n_samples,), or as indicators (n_samples, n_labels) of 0 and 1, int64."""
    y = np.asarray(y)
    check_classification_targets(y)
    kind = type_of_target(y)
    if kind == "multilabel-indicator" and np.isin(y, (0, 1)).all():
        return y.astype(np.int64)
    if kind == "multilabel-indicator":
        raise ValueError(f"y of shape {y.shape} must hold 0 and 1 alone, a column a label; got {np.unique(y)[:5]}")
    if kind == "multiclass-multioutput":
        raise ValueError(
            "Unknown label type: multiclass-multioutput; y is labels (n_samples,) or 0 and 1 (n_samples, n_labels)"
        )
    return column_or_1d(y, warn=True)


def find_classes(name: str, y: np.ndarray, weight: np.ndarray, given: Any, columns: Any, labels: Any) -> np.ndarray:
    """Return the classes of y, or the names of its columns.

    Parameters
    ----------
    name : str
        The estimator's, for messages.
    y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        From :func:`check_target`.
    weight : ndarray of shape (n_samples,)
        A class without weight is not there.
    given : array-like or None
        The user's ``classes`` of ``partial_fit``; of a multi-label y they name the columns.
    columns : sequence or None
        Columns of the data frame that y was.
    labels : sequence or None
        The user's names of the columns of a multi-label y; they win over ``columns``.

    Returns
    -------
    classes : ndarray of shape (n_outputs,)
        Sorted, for labels.
    """
    if y.ndim == 2:
        names = next((n for n in (given, labels, columns) if n is not None), None)
        classes = np.arange(y.shape[1]) if names is None else np.asarray(list(names))
        if classes.ndim != 1 or len(classes) != y.shape[1] or len(np.unique(classes)) != len(classes):
            raise ValueError(f"labels must be {y.shape[1]} different names, one for each column of y; got {labels!r}")
        return classes
    if labels is not None:
        raise ValueError(
            f"labels names the columns of a multi-label y (n_samples, n_labels), but y has shape {y.shape}: labels of "
            "one class a window are taken from y itself"
        )
    classes = np.unique(y[weight > 0] if given is None else given)
    if len(classes) < 2:
        dropped = "" if weight.all() else " (after samples of zero weight were dropped)"
        raise ValueError(f"{name} needs samples of at least 2 classes, got 1 class: {str(classes[0])!r}{dropped}")
    return classes


def encode(name: str, y: np.ndarray, weight: np.ndarray, classes: np.ndarray, multilabel: bool) -> np.ndarray:
    """Return codes (n_samples,), or the indicators as they are; ValueError for labels that are not among classes."""
    if (y.ndim == 2) != multilabel or (multilabel and y.shape[1] != len(classes)):
        want = f"(n_samples, {len(classes)})" if multilabel else "(n_samples,)"
        raise ValueError(f"y has shape {y.shape}, but {name} was fitted with y of shape {want}")
    if multilabel:
        return y
    order = np.argsort(classes, kind="stable")
    codes = order[np.searchsorted(classes[order], y).clip(max=len(classes) - 1)]
    stray = (classes[codes] != y) & (weight > 0)
    if stray.any():
        raise ValueError(f"y holds labels {np.unique(y[stray])} that are not among the classes {classes}")
    return codes


def decision_cut(threshold: Any, n_outputs: int, multilabel: bool) -> np.ndarray:
    """Return the logits (of two classes: their difference) that the probabilities ``threshold`` stand for.

    Raises
    ------
    ValueError
        For what is no probability, as many as labels at most; and for more than two classes for any but 0.5.
    """
    try:
        values = np.asarray(threshold, dtype=float)
    except (TypeError, ValueError):
        values = np.array(np.nan)
    shapes = ((), (n_outputs,)) if multilabel else ((),)
    if values.shape not in shapes or not ((values >= 0) & (values <= 1)).all():
        what = f"a probability, or {n_outputs} of them," if multilabel else "one probability"
        raise ValueError(f"threshold must be {what} between 0 and 1, got {threshold!r}")
    if not multilabel and n_outputs > 2 and values != 0.5:
        raise ValueError(
            f"threshold must be 0.5 for {n_outputs} classes, of which the largest logit wins; got {threshold!r}"
        )
    return logit(values)
