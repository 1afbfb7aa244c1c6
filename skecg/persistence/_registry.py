"""The allow-lists: which classes a file may name, under which names, and what belongs to their objects."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import skorch.callbacks
import torch
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from .. import classifiers, explain, models, preprocessing
from ..classifiers import ECGClassifier
from ..classifiers._parameters import PREFIXES
from ..explain._base import BaseExplainer
from ..relevance import RelevanceAggregator
from ._values import JOBLIB

# Parameters that may hold objects and classes of the lists below; all others hold plain values and arrays.
REFERRING = {"augment", "callbacks", "criterion", "estimator", "optimizer", "policy", "steps"}
# Folders, which belong to one machine alone: a file must not choose where something is written.
LEFT_OUT = {"checkpoint_dir", "memory"}
# What may ask for metadata (``set_fit_request`` and the like).
METHODS = ("fit", "partial_fit", "predict", "predict_proba", "decision_function", "score", "transform")

_AUGMENTS = ("AugmentChain", "DropoutBursts", "RandomShift", "RandomStretch")
_CALLBACKS = ("EarlyStopping", "GradientNormClipping", "LRScheduler")
_SIZES = {"n_leads_": "size", "n_timesteps_": "size", "n_features_in_": "size", "feature_names_in_": "names"}
_LEARNED = {
    "LeadArranger": {"lead_names_out_": "strings", "derived_": "strings", "missing_": "strings"},
    "PadOrCrop": {"n_timesteps_out_": "size", "kept_": "span", "valid_": "span"},
    "Resampler": {"n_timesteps_out_": "size"},
    "ECGScaler": {"center_": "numbers", "scale_": "numbers"},
    "ShapExplainer": {"background_": "numbers"},
}


class Entry(NamedTuple):
    """What is known of a class."""

    cls: type
    family: str  # "classifier", "aggregator", "pipeline", "frozen", "explainer", "transformer" or "part"
    learned: dict[str, str]  # attributes of a fitted object, and of which kind they are


def _entries() -> dict[str, Entry]:
    found = {
        "ECGClassifier": Entry(ECGClassifier, "classifier", {}),
        "RelevanceAggregator": Entry(RelevanceAggregator, "aggregator", {}),
        "Pipeline": Entry(Pipeline, "pipeline", {}),
        "FrozenEstimator": Entry(FrozenEstimator, "frozen", {}),
    }
    for room, base, family in ((preprocessing, BaseEstimator, "transformer"), (explain, BaseExplainer, "explainer")):
        for name in room.__all__:
            cls = getattr(room, name)
            if isinstance(cls, type) and issubclass(cls, base):
                more = {"estimator_": "estimator"} if family == "explainer" else {}
                found[name] = Entry(cls, family, {**_SIZES, **more, **_LEARNED.get(name, {})})
    for room, names in ((classifiers, _AUGMENTS), (skorch.callbacks, _CALLBACKS)):
        found.update({name: Entry(getattr(room, name), "part", {}) for name in names})
    return found


def _torch_classes() -> dict[str, type]:
    """Return torch's losses, optimisers and learning rate schedules by their full names."""
    found: dict[str, type] = {"skorch.callbacks.WarmRestartLR": skorch.callbacks.WarmRestartLR}
    for room, base in (
        (torch.nn, torch.nn.modules.loss._Loss),
        (torch.optim, torch.optim.Optimizer),
        (torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler),
    ):
        for name, cls in vars(room).items():
            if isinstance(cls, type) and issubclass(cls, base) and cls is not base and not name.startswith("_"):
                found[f"{room.__name__}.{name}"] = cls
    return found


ENTRIES = _entries()
CLASSES = {**_torch_classes(), **{f"skorch.callbacks.{name}": ENTRIES[name].cls for name in _CALLBACKS}}
NETWORKS = {
    name: getattr(models, name)
    for name in models.__all__
    if isinstance(getattr(models, name), type) and issubclass(getattr(models, name), torch.nn.Module)
}
_NAMES = {cls: name for name, cls in CLASSES.items()}
_BY_CLASS = {entry.cls: name for name, entry in ENTRIES.items()}
_SCHEDULES = {name.rpartition(".")[2] for name in CLASSES if ".lr_scheduler." in name or name.endswith("WarmRestartLR")}


def name_of(value: Any) -> str | None:
    """Return the name of an object's own class among ENTRIES; None for others, subclasses among them."""
    return _BY_CLASS.get(type(value))


def class_name(cls: Any) -> str | None:
    """Return the name of a class among CLASSES; None for others."""
    return _NAMES.get(cls) if isinstance(cls, type) else None


def parts_of(name: str, part: Any) -> dict[str, Any]:
    """Return the parameters from which an augmentation or a callback is made again; defaults are left out."""
    if name == "AugmentChain":
        return {"steps": list(part.steps)}
    signature = inspect.signature(type(part)).parameters
    given = {key: value for key, value in vars(part).items() if not key.endswith("_")}
    return {key: value for key, value in given.items() if key not in signature or value is not signature[key].default}


def make_part(name: str, parameters: dict[str, Any]) -> Any:
    """Return an augmentation or a callback of these parameters.

    Raises
    ------
    ValueError
        For parameters that it does not have.
    """
    cls = ENTRIES[name].cls
    allowed = set(inspect.signature(cls).parameters)
    if name == "AugmentChain":
        return cls(*parameters.pop("steps", ()), **parameters)
    if name == "LRScheduler":
        policy = parameters.get("policy", "WarmRestartLR")
        if isinstance(policy, str) and policy in _SCHEDULES:
            policy = getattr(skorch.callbacks.lr_scheduler, policy, None)
        if policy not in CLASSES.values():
            raise ValueError(f"policy of an LRScheduler must be a schedule of torch; got {policy!r:.100}")
        allowed |= set(inspect.signature(policy).parameters) - {"optimizer"}
    unknown = set(parameters) - allowed
    if unknown:
        raise ValueError(f"{name} has no parameters {sorted(unknown)}")
    return cls(**parameters)


def refuse_unknown(name: str, parameters: dict[str, Any]) -> None:
    """Raise ValueError for parameters that an estimator does not have, or that are missing."""
    cls = ENTRIES[name].cls
    known = set(cls._get_param_names()) - LEFT_OUT
    own = {key for key in parameters if not (name == "ECGClassifier" and key.startswith(PREFIXES))}
    if name == "ECGClassifier":
        known -= {"module__kwargs"}
    if own != known:
        raise ValueError(f"{name} has the parameters {sorted(known)}; the file has {sorted(own)}: another version")


def refuse(value: Any) -> TypeError:
    """Return the error for an estimator that files do not hold."""
    hint = "save its best_estimator_; or " if hasattr(value, "best_estimator_") else ""
    return TypeError(
        f"{type(value).__name__} is not among the classes that skecg.save writes, {', '.join(ENTRIES)}: {hint}{JOBLIB}"
    )
