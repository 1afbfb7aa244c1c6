"""From what the user gave as ``module`` to a network that is built, named and checked for logits."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import skecg.models

# What a network may call its sizes: ours, braindecode's, and the commonest of all.
SIGNAL = {
    "n_leads": ("n_leads", "n_chans"),
    "n_timesteps": ("n_timesteps", "n_times"),
    "n_outputs": ("n_outputs", "n_classes"),
}


def resolve_module(module: Any) -> Any:
    """Return the class, factory or instance that ``module`` means; a name is looked up in ``skecg.models``."""
    if isinstance(module, str):
        names = [name for name in skecg.models.__all__ if isinstance(getattr(skecg.models, name), type)]
        if module not in names:
            raise ValueError(f"module {module!r} is not a network of skecg.models; it has {names}")
        return getattr(skecg.models, module)
    if isinstance(module, torch.nn.Module) or callable(module):
        return module
    raise ValueError(
        f"module must be the name of a network of skecg.models, a torch.nn.Module class or instance, or a factory; "
        f"got {module!r}"
    )


def prepare_module(module: Any, sizes: dict[str, int], given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return what skorch is to build from, and with which keyword arguments.

    Parameters
    ----------
    module : str, class, callable or torch.nn.Module
        The user's parameter. An instance is copied, so that training leaves the user's own alone.
    sizes : dict
        ``n_leads``, ``n_timesteps``, ``n_outputs`` as seen in the data.
    given : dict
        The user's ``module__*`` without the prefix; they win over the sizes.

    Returns
    -------
    module : class, callable or torch.nn.Module
        Class, factory, or a copy of the instance.
    kwargs : dict
        Its keyword arguments.

    Raises
    ------
    ValueError
        For a keyword that the network does not take, with those that it does.
    """
    module = resolve_module(module)
    if isinstance(module, torch.nn.Module):
        if given:
            raise ValueError(
                f"module is an instance of {type(module).__name__}, which is built already, so {sorted(given)} cannot "
                "be set: pass its class instead"
            )
        return copy.deepcopy(module).float(), {}  # X is float32
    accepted = inspect.signature(module).parameters
    inferred = {name: sizes[key] for key, names in SIGNAL.items() for name in names if name in accepted}
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        unknown = sorted(set(given) - set(accepted))
        if unknown:
            name = getattr(module, "__name__", repr(module))
            raise ValueError(f"{name} does not take {unknown}; it takes {sorted(accepted)}")
    return module, {**inferred, **given}


def check_logits(logits: Callable[[np.ndarray], np.ndarray], name: str, X: np.ndarray, n_outputs: int) -> None:
    """Raise ValueError unless the network returns logits of shape (n, n_outputs).

    Parameters
    ----------
    logits : callable
        Runs windows through the network in eval mode.
    name : str
        The network's name, for the message.
    X : ndarray of shape (2, n_leads, n_timesteps), float32
        Two windows.
    n_outputs : int
        Classes or labels.
    """
    # Far larger and negated input as well: no bounded output survives that unseen, and logits do leave [0, 1].
    probe = np.concatenate([X, 50 * X, -50 * X]).astype(np.float32)
    try:
        out = logits(probe)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # torch's complaint about shapes says neither leads nor timesteps
        raise ValueError(
            f"{name} does not take windows of {X.shape[1]} leads and {X.shape[2]} timesteps (a batch of shape "
            f"{probe.shape}): {error}"
        ) from error
    if out.shape != (len(probe), n_outputs):
        raise ValueError(
            f"{name} must return logits of shape (n, {n_outputs}); for {len(probe)} windows it returned {out.shape}"
        )
    if not np.isfinite(out[: len(X)]).all():
        return  # an untrained network may overflow; prediction tells of it
    sums = out.sum(1), np.exp(out.clip(max=50)).sum(1)
    if n_outputs > 1 and (out >= 0).all() and np.allclose(sums[0], 1, atol=1e-4):
        kind = "probabilities (every row sums to 1): remove the softmax at its end"
    elif n_outputs > 1 and np.allclose(sums[1], 1, atol=1e-4):
        kind = "log-probabilities: remove the log-softmax at its end"
    elif (out >= 0).all() and (out <= 1).all() and np.ptp(out) > 0.9:  # few networks are blind to the scale of x
        kind = "values between 0 and 1 only: remove the sigmoid at its end"
    else:
        return
    raise ValueError(f"{name} must return logits, but it returned {kind}")
