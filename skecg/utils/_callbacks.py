"""scikit-learn's callbacks, where it has them (1.9 and later): a fit is a task, and its parts are tasks within it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback._callback_support import callback_management_context
except ImportError:  # before 1.9
    CallbackSupportMixin, callback_management_context = object, None


class CallbacksMixin(CallbackSupportMixin):
    """Gives an estimator ``set_callbacks``; nothing before scikit-learn 1.9."""


class FitTask(NamedTuple):
    """A fit that is watched: scikit-learn's context of it, and what its hooks are told."""

    context: Any
    told: dict[str, Any]


@contextmanager
def fit_task(
    estimator: Any, X: Any, y: Any = None, *, sample_weight: Any = None, max_subtasks: int | None = 0
) -> Iterator[FitTask | None]:
    """Tell the estimator's callbacks that its fit begins and ends; free where it has none.

    A context manager rather than a decorator: no frame comes between the user's call and a warning.

    Parameters
    ----------
    estimator : estimator
        What is fitted; with :class:`CallbacksMixin`.
    X, y : array-like
        As the user gave them.
    sample_weight : array-like, default=None
        Handed to scorers.
    max_subtasks : int or None, default=0
        How many parts the fit has at most; None where that is not known.

    Yields
    ------
    task : FitTask or None
        None where nobody watches.
    """
    if callback_management_context is None or not getattr(estimator, "_skl_callbacks", None):
        yield None
        return
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    told = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
    with callback_management_context(estimator):  # callbacks are torn down whatever happens
        context = estimator._init_callback_context(max_subtasks=max_subtasks)
        context.call_on_fit_task_begin(**told)
        yield FitTask(context, told)
        context.call_on_fit_task_end(**told, reconstruction_attributes={})


def fit_part(task: FitTask | None, part: Any, X: Any, y: Any, **params: Any) -> Any:
    """Fit an estimator inside another's fit, with the callbacks that go on to inner estimators.

    Parameters
    ----------
    task : FitTask or None
        The outer fit.
    part : estimator
        What is fitted.
    X, y : array-like
        Its data.
    **params : dict
        What its ``fit`` takes beside.

    Returns
    -------
    part : estimator
        Fitted.
    """
    if task is None:
        return part.fit(X, y, **params)
    context = task.context.subcontext(task_name="fit-estimator")
    with context.propagate_callback_context(part):
        context.call_on_fit_task_begin(**task.told)
        part.fit(X, y, **params)
    context.call_on_fit_task_end(**task.told)
    return part
