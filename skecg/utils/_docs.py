"""Parameter texts that several docstrings share, written once and filled in by a decorator."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

_TEXTS = {
    "X": """
X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
    ECG in mV; two dimensions mean one lead.
""",
    "estimator": """
estimator : estimator
    An :class:`~skecg.classifiers.ECGClassifier`, or a Pipeline, a search or a FrozenEstimator, nested at will,
    that ends in one. A fitted one is used as it is; an unfitted one is cloned and fitted by ``fit``. ``clone``
    (so also GridSearchCV, cross_validate and Pipeline with memory) takes a fit away: wrap a fitted classifier in
    ``sklearn.frozen.FrozenEstimator`` to carry it through.
""",
    "target": """
target : "predicted", label or array-like of shape (n_samples,), default="predicted"
    What is explained: the predicted label of each window, one label for all, or a label a window; labels, never
    positions.
""",
    "output": """
output : {"logit", "margin", "probability"}, default="logit"
    The score: the logit, the logit less the logsumexp of the others, or the probability (of a multi-label
    classifier the label's sigmoid), whose gradient vanishes where it is near 0 or 1.
""",
    "explain_batch_size": """
batch_size : int, default=64
    Windows in one pass; halved when memory does not suffice.
""",
    "explain_fs": """
fs : float, default=None
    Sampling rate of the network's input, Hz; None takes the classifier's.
""",
    "verbose": """
verbose : int, default=0
    Above 0, show a progress bar (tqdm).
""",
    "random_state": """
random_state : int, RandomState instance or None, default=None
    Seed; with an int the result is the same to the bit on one machine. Global generators are left as found.
""",
    "fitted": """
n_leads_ : int
    Leads of the X of ``fit``.
n_timesteps_ : int
    Time steps of the X of ``fit``.
n_features_in_ : int
    ``n_leads_ * n_timesteps_``.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Column names, where X was a data frame.
""",
    "explained": """
estimator_ : estimator
    The fitted estimator that is explained.
n_leads_ : int
    Leads of the X of ``fit``.
n_timesteps_ : int
    Time steps of the X of ``fit``.
n_features_in_ : int
    ``n_leads_ * n_timesteps_``.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Column names, where X was a data frame.
""",
}


def fill_doc(obj: T, texts: Mapping[str, str] = _TEXTS) -> T:
    """Replace each line ``%(name)s`` of obj's docstring by the shared text of that name, at the same indent."""
    if obj.__doc__ is None:  # python -OO strips docstrings
        return obj

    def text(match: re.Match) -> str:
        return textwrap.indent(texts[match[2]].strip("\n"), match[1])

    obj.__doc__ = re.sub(r"^([ \t]*)%\((\w+)\)s[ \t]*$", text, obj.__doc__, flags=re.MULTILINE)
    return obj
