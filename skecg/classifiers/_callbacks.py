"""scikit-learn's callbacks in ECGClassifier: each epoch is a task of the fit, after which the network can be scored."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback

from ..utils._callbacks import CallbacksMixin, FitTask, fit_task


class WatchedFitMixin(CallbacksMixin):
    """Tells scikit-learn's callbacks (1.9 and later) of a fit and its epochs; ``fit`` asks for it."""

    _epochs: EpochTasks | None = None

    @contextmanager
    def _watched(self, X: Any, y: Any, sample_weight: Any) -> Iterator[None]:
        """Keep ``_epochs`` for the time of a fit: the callback for skorch, or None where nobody watches."""
        if getattr(self, "_skl_callbacks", None):
            self._check_parameters()  # max_epochs has to be a number now
        with fit_task(self, X, y, sample_weight=sample_weight, max_subtasks=self.max_epochs) as task:
            self._epochs = None if task is None else EpochTasks(task)
            yield
            del self._epochs


class Interrupted(BaseException):
    """Ctrl-C during training; a KeyboardInterrupt would be taken by skorch for an early stop and lost."""


class EpochTasks(Callback):
    """A task of scikit-learn's callbacks for each epoch of a skorch net.

    Behind those callbacks of the net that write its losses down, which a fitted copy is to have, and before all that
    may end the training.

    Parameters
    ----------
    task : FitTask
        The fit.
    """

    def __init__(self, task: FitTask) -> None:
        self.task = task
        self.wants_stop = False
        self._epoch: Any = None

    def on_train_begin(self, net: NeuralNet, X: Any = None, **kwargs: Any) -> None:
        self._held = X[1]

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        self._epoch = self.task.context.subcontext(task_name="epoch")
        self._tell(self._epoch.call_on_fit_task_begin, net)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        end, self._epoch = self._epoch.call_on_fit_task_end, None
        self.wants_stop = self._tell(end, net)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        if self._epoch is not None:  # a callback of skorch's kind stopped in the middle of an epoch
            self.on_epoch_end(net)

    def _tell(self, hook: Callable, net: NeuralNet) -> Any:
        try:
            return hook(**self.task.told, reconstruction_attributes=lambda: self._fitted(net))
        except KeyboardInterrupt as stop:  # from these callbacks no wish to stop, for which they have a return value
            raise Interrupted from stop

    def _fitted(self, net: NeuralNet) -> dict[str, Any]:
        """Return what makes a copy of the classifier a fitted one, as if training ended here.

        With a net of its own, since training goes on; made only for callbacks that ask for the fitted estimator.
        """
        held = [] if self._held is None else np.sort(self._held.index)
        return {
            "net_": _copy_of(net),
            "n_epochs_": len(net.history),
            "validation_indices_": np.array(held, dtype=int),
            "_fitted_params": self.task.told["estimator"].get_params(deep=False),
            "_epochs": None,
        }


class StopWhenAsked(Callback):
    """Ends training when one of scikit-learn's callbacks wants that; last, so that the others have seen the epoch.

    Parameters
    ----------
    epochs : EpochTasks
        Which was told.
    """

    def __init__(self, epochs: EpochTasks) -> None:
        self.epochs = epochs

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        if self.epochs.wants_stop:
            raise KeyboardInterrupt  # skorch's way to stop


def _copy_of(net: NeuralNet) -> NeuralNet:
    """Return a net that can predict and be trained on, whatever happens to this one."""
    memo = {}
    for part in net.module_.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:  # computed by weight_norm: torch cannot copy it
                memo[id(value)] = value.detach().clone()
    module, criterion, optimizer = copy.deepcopy((net.module_, net.criterion_, net.optimizer_), memo)
    own = object.__new__(type(net))  # copy.copy would serialise the weights, as pickle does
    vars(own).update(
        vars(net),
        module_=module,
        criterion_=criterion,
        optimizer_=optimizer,
        history_=copy.deepcopy(net.history_),
        callbacks_=[(name, copy.copy(callback)) for name, callback in net.own_callbacks],
        augment=None,
        augment_generator=None,
    )
    return own
