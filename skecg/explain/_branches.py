"""How much each branch of a network adds to its decisions."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils import Bunch, check_consistent_length

from ..classifiers import ECGClassifier
from ..utils._batching import map_batches
from ..utils._docs import fill_doc
from ..utils._twin import plain_torch, private_twin
from ..utils._validation import check_ecg, check_number
from ._base import is_fitted, unwrap

# Below both, a branch is nil: an ECGNet trained as published had an LSTM with 2 % of the deviation.
_NIL_SHARE, _NIL_CHANGED = 0.05, 0.01


@fill_doc
def branch_contributions(estimator: Any, X: Any, y: Any = None, *, batch_size: int = 64) -> Bunch:
    """Measure what each branch of a network adds to its decisions, and warn where it is nothing.

    The logits of a network such as :class:`~skecg.models.ECGNet` are exactly the sum of a term from each branch and a
    bias. Trained jointly, such a network may lean on one branch alone; an explanation of the other then explains
    nothing. Training with ``module__branch_dropout=0.3`` makes both carry weight.

    Parameters
    ----------
    estimator : estimator
        A fitted ECGClassifier, or a Pipeline, search or FrozenEstimator that ends in one.
    %(X)s
    y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
        Labels; with them accuracies are told.
    %(explain_batch_size)s

    Returns
    -------
    contributions : Bunch
        With one number a branch in each array:

        branches : list of str
            Names of the branches.
        deviation : ndarray of shape (n_branches,)
            Root mean square of the branch's term over windows and classes, after its mean over the windows, and (with
            a softmax, which does not see it) its mean over the classes, was taken off; logits.
        share : ndarray of shape (n_branches,)
            The deviations, so that they add up to 1.
        changed : ndarray of shape (n_branches,)
            Share of the windows whose prediction changes when the branch says the same of every window (its mean).
        alone : ndarray of shape (n_branches,)
            Share of the windows whose prediction stays when all other branches say the same of every window.
        nil : list of str
            Branches with less than 5 %% of the deviation whose loss changes less than 1 %% of the predictions.
        accuracy : float
            With y: share of the windows that are predicted right (multi-label: in every label).
        accuracy_alone, accuracy_without : ndarray of shape (n_branches,)
            With y: the same by the branch alone, and by all others.

    Raises
    ------
    ValueError
        For a network without additive branches.
    sklearn.exceptions.NotFittedError
        For a classifier that is not fitted.

    Warns
    -----
    UserWarning
        Where a branch is nil, with what to do.

    See Also
    --------
    MaskDeletion : Explains one branch with the others silenced or intact.

    Examples
    --------
    >>> from skecg import ECGClassifier
    >>> from skecg.datasets import make_ecg
    >>> from skecg.explain import branch_contributions
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, module__branch_dropout=0.3, fs=ecg.fs, max_epochs=1, random_state=0)
    >>> found = branch_contributions(clf.fit(ecg.data, ecg.target), ecg.data)
    >>> found.branches, bool(abs(found.share.sum() - 1) < 1e-9)
    (['cnn', 'lstm'], True)
    """
    check_number("batch_size", batch_size, low=1, integer=True)
    before, classifier = _unwrap_fitted(estimator)
    if y is not None:
        check_consistent_length(X, y)
    for steps in before:
        X = steps.transform(X) if len(steps) else X
    data = check_ecg(classifier, X, reset=False)
    net = private_twin(classifier.module_)
    names = list(getattr(net, "branches", ()))
    if not names or not hasattr(net, "branch_weights"):
        raise ValueError(
            f"{type(net).__name__} has no additive branches: a network has them that names its submodules in "
            "`branches` and tells by branch_weights() how each adds to the logits, as ECGNet does"
        )
    with plain_torch(classifier.device_, gradient=False):
        weights = net.branch_weights()

        def terms(x: torch.Tensor) -> np.ndarray:
            found = [getattr(net, name)(x) @ weights[name].T for name in names]
            return torch.stack(found, 1).double().cpu().numpy()

        term = map_batches(terms, data, batch_size, classifier.device_)
        bias = weights["bias"].double().cpu().numpy()

    whole = _predict(term.sum(1) + bias, classifier)
    mean = term.mean(0)
    spread = term - mean
    if not classifier.multilabel_:
        spread -= spread.mean(2, keepdims=True)
    deviation = np.sqrt((spread**2).mean((0, 2)))
    without = [_predict(term.sum(1) - _deviating(term, mean, i) + bias, classifier) for i in range(len(names))]
    alone = [_predict(mean.sum(0) + _deviating(term, mean, i) + bias, classifier) for i in range(len(names))]
    out = Bunch(
        branches=names,
        deviation=deviation,
        share=deviation / deviation.sum() if deviation.any() else np.full(len(names), np.nan),
        changed=np.array([1 - _agreement(p, whole) for p in without]),
        alone=np.array([_agreement(p, whole) for p in alone]),
    )
    nil = np.flatnonzero((np.nan_to_num(out.share) < _NIL_SHARE) & (out.changed < _NIL_CHANGED))
    out.nil = [names[i] for i in nil]
    if y is not None:
        true = np.asarray(y)
        true = true.astype(bool) if classifier.multilabel_ else _codes(true, classifier)
        out.accuracy = _agreement(whole, true)
        out.accuracy_alone = np.array([_agreement(p, true) for p in alone])
        out.accuracy_without = np.array([_agreement(p, true) for p in without])
    for i in nil:
        warnings.warn(
            f"the branch {names[i]!r} of {type(net).__name__} adds nothing: it has {out.share[i]:.1%} of the logits' "
            f"deviation, and without it {out.changed[i]:.1%} of {len(data)} predictions change. An explanation of it "
            "says nothing of the network's decisions; train with branch dropout (ECGNet: module__branch_dropout=0.3)",
            UserWarning,
            stacklevel=2,
        )
    return out


def _deviating(term: np.ndarray, mean: np.ndarray, i: int) -> np.ndarray:
    """Return how one branch's term differs from its mean over the windows, (n_samples, n_outputs)."""
    return term[:, i] - mean[i]


def _unwrap_fitted(estimator: Any) -> tuple[list[Any], ECGClassifier]:
    if not is_fitted(estimator):
        raise NotFittedError(f"this {type(estimator).__name__} is not fitted: call fit(X, y) first")
    return unwrap(estimator)


def _predict(logits: np.ndarray, classifier: ECGClassifier) -> np.ndarray:
    """Return codes (n,), or what passes (n, n_labels)."""
    if classifier.multilabel_:
        return logits > classifier._cut()
    if logits.shape[1] == 2:  # two classes obey the threshold
        return (logits[:, 1] - logits[:, 0] > float(classifier._cut())).astype(int)
    return logits.argmax(1)


def _codes(y: np.ndarray, classifier: ECGClassifier) -> np.ndarray:
    """Return the position of each label; -1, which is never right, for a label the classifier does not know."""
    hit = y[:, None] == np.asarray(classifier.classes_)[None, :]
    return np.where(hit.any(1), hit.argmax(1), -1)


def _agreement(a: np.ndarray, b: np.ndarray) -> float:
    same = a == b
    return float((same if same.ndim == 1 else same.all(1)).mean())
