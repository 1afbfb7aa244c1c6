"""Sample weight times class weight, as the loss takes it."""

from __future__ import annotations

import numpy as np
from sklearn.utils import compute_class_weight


def loss_weights(
    class_weight: dict | str | None, classes: np.ndarray, codes: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Return the weight of each row's loss.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        The classifier's parameter.
    classes : ndarray of shape (n_outputs,)
        Labels.
    codes : ndarray of shape (n_samples,) or (n_samples, n_labels), int
        Class codes, or indicators.
    weight : ndarray of shape (n_samples,), float64
        Sample weights, all positive.

    Returns
    -------
    loss_weight : ndarray of shape (n_samples,) or (n_samples, n_labels), float64
        In the second form each label weighs its own 0s and 1s.

    Raises
    ------
    ValueError
        For a class_weight that is neither, or names a label that there is not.
    """
    if class_weight is not None and class_weight != "balanced" and not isinstance(class_weight, dict):
        raise ValueError(f"class_weight must be a dict, 'balanced' or None, got {class_weight!r}")
    if isinstance(class_weight, dict):
        stray = [label for label in class_weight if label not in list(classes)]
        if stray:
            raise ValueError(f"class_weight names {stray}, which are not among the classes {list(classes)}")
        values = np.array(list(class_weight.values()), dtype=float)
        if not (np.isfinite(values) & (values >= 0)).all() or (len(values) and not values.any()):
            raise ValueError(f"class_weight must hold finite weights of at least 0, not all 0; got {class_weight!r}")
    if codes.ndim == 1:
        return weight * (1 if class_weight is None else _table(class_weight, classes, codes, weight)[codes])
    out = np.repeat(weight[:, None], codes.shape[1], axis=1)
    for j, label in enumerate(classes):
        if class_weight == "balanced":
            out[:, j] *= _table("balanced", np.arange(2), codes[:, j], weight)[codes[:, j]]
        elif class_weight is not None:
            out[:, j] *= np.array([1.0, class_weight.get(label, 1.0)])[codes[:, j]]
    return out


def _table(class_weight: dict | str, classes: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return one weight a class; ones for classes that no row has."""
    present = np.unique(codes)
    table = np.ones(len(classes))
    if class_weight == "balanced":
        # scikit-learn 1.6's compute_class_weight knows no sample_weight: n / (k * count), with weighted counts
        counts = np.bincount(codes, weight, minlength=len(classes))[present]
        table[present] = counts.sum() / (len(present) * counts)
    else:
        given = {label: value for label, value in class_weight.items() if label in list(classes[present])}
        table[present] = compute_class_weight(given, classes=classes[present], y=classes[codes])
    return table
