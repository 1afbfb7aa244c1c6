"""The skorch net of a classifier, set up from the classifier's parameters."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.base import clone

from ._modules import prepare_module
from ._training import BestEpochStopping, TrainingNet


def build_net(clf: Any, device: str, module: torch.nn.Module | None = None) -> TrainingNet:
    """Return a net that is ready to train: around a new network, or around the one given.

    Parameters
    ----------
    clf : ECGClassifier
        Its parameters, and the sizes and classes seen in the data.
    device : str
        Where the network goes.
    module : torch.nn.Module, default=None
        A network that is trained already, taken as it is.

    Returns
    -------
    net : TrainingNet
        Initialised.
    """
    module_kwargs: dict[str, Any] = {}
    if module is None:
        # the sizes go to the net and never into the classifier's parameters: a later fit on other leads starts clean
        sizes = {"n_leads": clf.n_leads_, "n_timesteps": clf.n_timesteps_, "n_outputs": clf.n_outputs_}
        module, module_kwargs = prepare_module(clf.module, sizes, clf._parts("module__"))
    criterion = clf.criterion
    if criterion is None:
        criterion = torch.nn.BCEWithLogitsLoss if clf.multilabel_ else torch.nn.CrossEntropyLoss
    callbacks = list(clone(clf.callbacks, safe=False) or [])  # skorch initialises the objects it is given
    if clf.early_stopping:
        stopping = BestEpochStopping(patience=clf.n_iter_no_change, load_best=True)
        callbacks.append(("early_stopping", stopping))
    parts = {k: v for k, v in clf._dunder.items() if not k.startswith("module__")}
    if "criterion__reduction" in parts:
        raise ValueError("criterion__reduction is 'none' here, so that rows can be weighted: leave it out")
    stray = _unknown_callbacks(parts, callbacks)
    if stray:
        raise ValueError(f"{stray} name callbacks that are not there; there are {[_name(c) for c in callbacks]}")
    net = TrainingNet(
        module,
        criterion=criterion,
        criterion__reduction="none",
        optimizer=clf.optimizer,
        lr=clf.lr,
        batch_size=clf.batch_size,
        max_epochs=clf.max_epochs,
        train_split=None,
        callbacks=callbacks,
        device=device,
        verbose=0,  # skorch prints; our progress bar does not
        **{f"module__{k}": v for k, v in module_kwargs.items()},
        **parts,
    )
    try:
        return net.initialize()
    except TypeError as error:  # Python's own, for a keyword that criterion or optimizer do not take
        raise ValueError(f"the network, criterion or optimizer cannot be built from the parameters: {error}") from error


def _name(callback: Any) -> str:
    """Return a callback's name as skorch gives it: the user's, or its class's."""
    if isinstance(callback, tuple):
        return callback[0]
    return callback.__name__ if isinstance(callback, type) else type(callback).__name__


def _unknown_callbacks(parts: dict[str, Any], callbacks: list) -> list[str]:
    """Return the ``callbacks__*`` that name none; skorch's own and numbered ones are taken as they are."""
    names = {_name(callback) for callback in callbacks}
    own = {"epoch_timer", "train_loss", "valid_loss", "print_log"}
    return [
        key
        for key in parts
        if key.startswith("callbacks__") and key.split("__")[1].rsplit("_", 1)[0] not in names
        and key.split("__")[1] not in names | own
    ]


def take_up(clf: Any, device: str) -> TrainingNet:
    """Return a fitted classifier's net to train on, with the parameters that were changed since."""
    taken, anew = clf._go_on()
    net = clf.net_
    if anew:
        net = build_net(clf, device, net.module_)
        net.history_ = clf.net_.history_
    elif taken:
        net.set_params(**taken)
    return net
