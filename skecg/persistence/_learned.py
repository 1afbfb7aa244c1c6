"""What the parameters and the learned attributes of a file must be before an estimator gets them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn import config_context
from skorch.callbacks import Callback

from ._registry import ENTRIES, METHODS, name_of

_LARGE = 2**40  # of a size
_AUGMENTS = ("AugmentChain", "DropoutBursts", "RandomShift", "RandomStretch")
_OUTPUTS = (None, "default", "pandas", "polars")
_SIZES = {"n_leads_", "n_timesteps_", "n_features_in_"}


def check_parts(name: str, parameters: dict[str, Any]) -> None:
    """Raise ValueError where an object or a class stands for a parameter that wants another."""
    right = {
        "estimator": _is_estimator,
        "steps": _are_steps,
        "optimizer": lambda value: isinstance(value, type) and issubclass(value, torch.optim.Optimizer),
        "criterion": lambda value: value is None or (isinstance(value, type) and issubclass(value, torch.nn.Module)),
        "augment": lambda value: value is None or name_of(value) in _AUGMENTS,
        "callbacks": _are_callbacks,
    }
    for key, is_right in right.items():
        if key in parameters and not is_right(parameters[key]):
            raise ValueError(f"{key} of {name} cannot be {parameters[key]!r:.100}")


def check_learned(name: str, values: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Raise ValueError unless learned attributes are of the kinds that their class has, and fit each other."""
    learned = ENTRIES[name].learned
    optional = {"feature_names_in_", "center_", "scale_", "background_"}
    missing = set(learned) - optional - set(values)
    if parameters.get("per") == "dataset":
        missing |= {"center_", "scale_"} - set(values)
    if missing:
        raise ValueError(f"{name} has learned {sorted(missing)} too, which the file does not have")
    for key, value in values.items():
        if not _KINDS[learned[key]](value):
            raise ValueError(f"{key} of {name} must be {learned[key]}; got {value!r:.100}")
    _check_sizes(name, values)
    for key in ("center_", "scale_"):
        right = key not in values or values[key].shape == (values["n_leads_"],)
        if not right or (key == "scale_" and key in values and not (values[key] > 0).all()):
            raise ValueError(f"{key} of {name} must be a number for each lead, and a scale above 0")


def check_classifier(values: dict[str, Any]) -> None:
    """Raise ValueError unless what a classifier has learned is of the right kinds, and fits itself."""
    for key in _SIZES:
        if not _is_size(values[key]):
            raise ValueError(f"{key} must be a size; got {values[key]!r:.100}")
    _check_sizes("ECGClassifier", values)
    classes, multilabel, held = (values[key] for key in ("classes_", "multilabel_", "validation_indices_"))
    if type(multilabel) is not bool or type(values["_seed"]) is not int or not 0 <= values["_seed"] < 2**32:
        raise ValueError("multilabel_ must be a bool and _seed a seed")
    right = isinstance(classes, np.ndarray) and classes.ndim == 1 and len(classes) >= (1 if multilabel else 2)
    if not right or len(set(classes.tolist())) < len(classes):
        raise ValueError(f"classes_ must be different labels; got {classes!r:.200}")
    if not isinstance(held, np.ndarray) or held.ndim != 1 or held.dtype.kind != "i" or (held < 0).any():
        raise ValueError("validation_indices_ must be rows")


def restore_routing(name: str, made: Any, requests: Any, output: Any) -> None:
    """Set what an estimator asks for as metadata, and its container of output.

    Raises
    ------
    ValueError
        For what ``set_fit_request`` and the like, and ``set_output``, do not take.
    """
    if output not in _OUTPUTS or not isinstance(requests, dict) or not set(requests) <= set(METHODS):
        raise ValueError(f"{name} cannot have the output {output!r:.100} and the requests {requests!r:.100}")
    if output is not None:
        made._sklearn_output_config = {"transform": output}
    for method, asked in requests.items():
        right = isinstance(asked, dict) and asked
        if not right or not all(type(a) is bool or (isinstance(a, str) and a.isidentifier()) for a in asked.values()):
            raise ValueError(f"{name} cannot ask for {asked!r:.100} in {method}")
        with config_context(enable_metadata_routing=True):
            getattr(made, f"set_{method}_request")(**asked)


def _check_sizes(name: str, values: dict[str, Any]) -> None:
    if values["n_leads_"] * values["n_timesteps_"] != values["n_features_in_"]:
        raise ValueError(f"n_features_in_ of {name} must be n_leads_ * n_timesteps_")
    names = values.get("feature_names_in_")
    if names is not None and not (_are_names(names) and len(names) == values["n_features_in_"]):
        raise ValueError(f"feature_names_in_ of {name} must be {values['n_features_in_']} strings")


def _is_estimator(value: Any) -> bool:
    name = name_of(value)
    return name is not None and ENTRIES[name].family != "part"


def _are_steps(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(step, tuple)
        and len(step) == 2
        and isinstance(step[0], str)
        and (step[1] is None or step[1] == "passthrough" or _is_estimator(step[1]))
        for step in value
    )


def _are_callbacks(value: Any) -> bool:
    if value is None:
        return True
    found = [c[1] if isinstance(c, tuple) and len(c) == 2 and isinstance(c[0], str) else c for c in value]
    return all(isinstance(c, Callback) or (isinstance(c, type) and issubclass(c, Callback)) for c in found)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < _LARGE


def _are_names(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == object and all(isinstance(v, str) for v in value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and bool(np.isfinite(value).all())


_KINDS = {
    "size": _is_size,
    "names": _are_names,
    "strings": lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    "span": lambda value: type(value) is tuple and len(value) == 2 and all(type(v) is int and v >= 0 for v in value),
    "numbers": _are_numbers,
    "estimator": _is_estimator,
}
