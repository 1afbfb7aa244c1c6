"""Base of the transformers that keep the shape of X, so that set_output lives with 3-D arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ._callbacks import CallbacksMixin, fit_task
from ._validation import check_ecg, is_2d


class ECGTransformerMixin(OneToOneFeatureMixin, TransformerMixin):
    """Output of X's own shape. 2-D output obeys set_output; 3-D output stays an array, for no data frame holds it.

    Without this, ``set_output(transform="pandas")`` of a pipeline, or the global option, breaks every 3-D step:
    scikit-learn wraps transform and fit_transform of each class and pandas then says "Must pass 2-d input".
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # scikit-learn wraps the methods that cls itself defines
        for name in ("transform", "fit_transform"):
            if name in cls.__dict__ and hasattr(cls.__dict__[name], "__wrapped__"):
                setattr(cls, name, _only_2d(cls.__dict__[name]))

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Fit to X, then transform it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG, mV.
        y : array-like, default=None
            What ``fit`` takes as y.
        **fit_params : dict
            What ``fit`` takes beside.

        Returns
        -------
        X_new : ndarray, float32, or DataFrame
            What ``transform`` returns.
        """
        return self.fit(X, y, **fit_params).transform(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _only_2d(wrapped: Callable) -> Callable:
    """Send 3-D input around scikit-learn's wrapper for set_output."""
    plain = wrapped.__wrapped__

    @wraps(wrapped)
    def method(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        return (wrapped if is_2d(X) else plain)(self, X, *args, **kwargs)

    return method


ECGTransformerMixin.fit_transform = _only_2d(ECGTransformerMixin.fit_transform)


class WindowTransformer(CallbacksMixin, ECGTransformerMixin, BaseEstimator):
    """Base of the stateless steps: subclasses define ``_apply(cube)`` for (n_samples, n_leads, n_timesteps)."""

    def fit(self, X: Any, y: Any = None) -> WindowTransformer:
        """Check X and the parameters and keep the sizes; nothing is learned.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG, mV.
        y : object, default=None
            Not read.

        Returns
        -------
        self : estimator
            Itself.
        """
        with fit_task(self, X, y):
            self._check_parameters()
            check_ecg(self, X, reset=True)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Transform each window on its own.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
            ECG, mV.

        Returns
        -------
        X_new : ndarray, float32
            Of as many dimensions as X.
        """
        check_is_fitted(self)
        self._check_parameters()
        flat = is_2d(X)
        out = np.ascontiguousarray(self._apply(check_ecg(self, X, reset=False)), dtype=np.float32)
        return out[:, 0] if flat else out

    def _check_parameters(self) -> None:
        """Raise ValueError for parameters out of their range."""

    def _apply(self, cube: np.ndarray) -> np.ndarray:
        raise NotImplementedError  # abstract: every subclass defines it

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")
