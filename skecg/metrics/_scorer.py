"""The scorers that bring scores of relevance into searches and cross-validation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from ..utils._validation import find_fs
from ._localisation import relevance_mass_score
from ._perturbation import measure


class RelevanceScorer(BaseEstimator):
    """Scorer of an explainer against a truth mask, for ``scoring=`` in searches and cross-validation.

    ``scorer(explainer, X, truth)`` explains X and scores the relevance; scikit-learn's own ``make_scorer`` knows only
    predictions. The truth takes the place of y: ``GridSearchCV(explainer, grid, scoring=scorer).fit(X, truth)``, where
    the explainer stands around a ``FrozenEstimator`` of a fitted classifier.

    Parameters
    ----------
    metric : callable or dict of str to callable, default=relevance_mass_score
        ``metric(truth, relevance, sample_weight=...)``, such as :func:`pointing_game_score`; fix its parameters with
        ``functools.partial``. With a dict X is explained once and the scorer returns a dict, so that each score comes
        with its chance level; ``refit`` of a search then names one of them.

    See Also
    --------
    relevance_mass_score : Share of the relevance that lies in the truth.
    pointing_game_score : Whether the most relevant sample lies in the truth.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from skecg.metrics import RelevanceScorer, chance_level, pointing_game_score
    >>> scorer = RelevanceScorer({"pointing": pointing_game_score, "chance": chance_level})
    >>> X, truth = np.array([[0.1, -1.0, 0.3, 0.2]]), np.array([[0, 1, 0, 0]])
    >>> scorer(FunctionTransformer(np.abs).fit(X), X, truth)  # the control abs(x)
    {'pointing': 1.0, 'chance': 0.25}
    """

    def __init__(self, metric: Callable | Mapping[str, Callable] = relevance_mass_score) -> None:
        self.metric = metric

    def __call__(self, explainer: Any, X: Any, truth: Any, sample_weight: Any = None) -> float | dict[str, float]:
        """Explain X and score the relevance.

        Parameters
        ----------
        explainer : explainer, or any transformer
            Fitted. What has no ``explain`` (a Pipeline that ends in an explainer, a control such as ``abs(x)``) gives
            its relevance by ``transform``.
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG, mV.
        truth : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps), bool
            Where the evidence lies.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the windows; handed to the metric where given.

        Returns
        -------
        score : float or dict of str to float
            What the metric returns; a dict where there are several.
        """
        several = isinstance(self.metric, Mapping)
        metrics = dict(self.metric) if several else {"": self.metric}
        for name, metric in metrics.items():
            if not callable(metric):
                where = f" for {name!r}" if several else ""
                raise TypeError(f"metric must be callable, or a dict of callables; got {metric!r}{where}")
        if truth is None:
            raise ValueError("RelevanceScorer needs the truth mask in place of y; got None")
        if hasattr(explainer, "explain"):
            relevance = explainer.explain(X).relevance
        elif hasattr(explainer, "transform"):
            relevance = explainer.transform(X)
        else:
            raise TypeError(
                f"RelevanceScorer scores explainers, or what returns relevance by transform; "
                f"{type(explainer).__name__} has neither explain nor transform"
            )
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        scores = {
            name: metric(truth, relevance, **weights, **_fs_for(metric, explainer)) for name, metric in metrics.items()
        }
        return scores if several else scores[""]


class PerturbationScorer(BaseEstimator):
    """Scorer of an explainer by the classifier that it explains: the mean degradation score, without any truth.

    ``scorer(explainer, X)`` explains X, deletes its chunks most and least relevant first (or inserts them), and returns
    the mean area between the two curves, in the unit of ``output``; chance is 0. It is for ``scoring=`` in searches and
    cross-validation, where the explainer stands around a ``FrozenEstimator`` of a fitted classifier. What it scores is
    whether the explanation agrees with the classifier, right or wrong. :func:`perturbation_curves` shows the curves
    beside random orders and that of abs(x).

    Parameters
    ----------
    replacement : {"bridge", "isoelectric"}, float or array-like, default="bridge"
        What stands where chunks are deleted, as in :func:`perturbation_curves`; not an array with one a window.
    chunk : float, default=0.02
        Length of a chunk, s.
    leads : {"auto", "together", "apart"}, default="auto"
        Whether a chunk reaches over all leads. Search over explainers with and without leads by "together".
    curve : {"deletion", "insertion"}, default="deletion"
        Whether chunks are taken away or given.
    output : {"probability", "logit"}, default="probability"
        The score that is followed.
    n_points : int, default=21
        Points of each curve.
    batch_size : int, default=256
        Windows that are handed to the classifier at a time.
    fs : float, default=None
        Sampling rate of the network's input, Hz; None takes the explainer's or its classifier's.
    random_state : int, RandomState instance or None, default=0
        Seed of the order of equally relevant chunks.

    See Also
    --------
    perturbation_curves : The curves behind the score.
    RelevanceScorer : Scores against a truth.

    Examples
    --------
    >>> from skecg import ECGClassifier, GradCAM1D
    >>> from skecg.datasets import make_ecg
    >>> from skecg.metrics import PerturbationScorer
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> degradation = PerturbationScorer(n_points=5)(GradCAM1D(clf), ecg.data)
    >>> -1 <= degradation <= 1
    True
    """

    def __init__(
        self,
        *,
        replacement: Any = "bridge",
        chunk: float = 0.02,
        leads: str = "auto",
        curve: str = "deletion",
        output: str = "probability",
        n_points: int = 21,
        batch_size: int = 256,
        fs: float | None = None,
        random_state: Any = 0,
    ) -> None:
        self.replacement = replacement
        self.chunk = chunk
        self.leads = leads
        self.curve = curve
        self.output = output
        self.n_points = n_points
        self.batch_size = batch_size
        self.fs = fs
        self.random_state = random_state

    def __call__(self, explainer: Any, X: Any, y: Any = None) -> float:
        """Explain X and return the mean degradation score.

        Parameters
        ----------
        explainer : explainer
            Fitted, or a Pipeline or search that ends in one.
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG, mV.
        y : object, default=None
            Not read.

        Returns
        -------
        score : float
            Mean over the windows.
        """
        fs = find_fs(explainer) if self.fs is None else self.fs
        while isinstance(explainer, FrozenEstimator) or not hasattr(explainer, "explain"):
            if hasattr(explainer, "best_estimator_"):
                explainer = explainer.best_estimator_
            elif isinstance(explainer, FrozenEstimator):
                explainer = explainer.estimator
            elif isinstance(explainer, Pipeline):
                X = explainer[:-1].transform(X) if len(explainer) > 1 else X
                explainer = explainer[-1]
            else:
                raise TypeError(
                    f"PerturbationScorer scores explainers by the classifier inside; {type(explainer).__name__} has no "
                    "explain. perturbation_curves takes relevance of any origin"
                )
        result = explainer.explain(X)
        inner = getattr(explainer, "estimator_", explainer.estimator)
        settings = {**self.get_params(deep=False), "fs": fs}
        found = measure(
            _last(inner), result.data, result.relevance, ["most", "least"], target=result.target, **settings
        )
        most, least = (np.trapezoid(scores, found.fraction, axis=-1) for scores in found.scores)
        return float(np.mean(least - most if self.curve == "deletion" else most - least))


def _last(estimator: Any) -> Any:
    """Return the classifier at the end of any nesting of FrozenEstimator, search and Pipeline."""
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif isinstance(estimator, Pipeline):
            estimator = estimator[-1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return estimator


def _fs_for(metric: Callable, explainer: Any) -> dict[str, float]:
    """Return the explainer's or its classifier's fs for a metric that takes one and was not given it."""
    try:
        parameter = inspect.signature(metric).parameters.get("fs")
    except (TypeError, ValueError):  # a callable that does not say what it takes
        return {}
    fs = find_fs(explainer)
    return {"fs": fs} if fs is not None and parameter is not None and parameter.default is None else {}
