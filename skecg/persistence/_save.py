"""skecg.save: an estimator as one file of JSON and plain arrays."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from ..classifiers import ECGClassifier
from ..classifiers._parameters import _same
from ..explain._base import layers_by_name
from ..relevance._pack import pack
from ..utils._digest import library_versions
from ..utils._files import replace_file
from ._archive import CONFIG, HISTORY, array_name, write_archive
from ._networks import reference_logits, settings_of
from ._registry import ENTRIES, LEFT_OUT, METHODS, NETWORKS, REFERRING, class_name, name_of, parts_of, refuse
from ._values import JOBLIB, Encoder, kind_of, to_json

FORMAT = 1
VERSIONS = ("skecg", "torch", "scikit-learn", "skorch", "numpy", "python")
# Kept by other means than as attributes; and scikit-learn's callbacks (progress bars), which belong to one run.
_KEPT = {"_metadata_request", "_sklearn_output_config", "_skl_callbacks"}
_BATCHES = 200_000  # whose losses are kept; longer histories keep those of epochs
_CLASSIFIER = {
    "n_leads_", "n_timesteps_", "n_features_in_", "feature_names_in_", "classes_", "multilabel_", "n_outputs_", "_seed",
    "checkpoint_folder_", "net_", "validation_indices_", "n_epochs_", "_fitted_params", "_dunder",
}  # fmt: skip
_AGGREGATOR = {"n_leads_", "n_timesteps_", "n_features_in_", "feature_names_in_", "_rows", "_seed", "_formed"}


def save(estimator: Any, path: str | os.PathLike) -> Path:
    """Write an estimator to a file that ``skecg.load`` reads without executing anything of it.

    A file is what to give to others, and what to take from them. For files of your own joblib and pickle work with
    every estimator of skecg too, and keep what is left out here.

    Parameters
    ----------
    estimator : estimator
        Fitted or not: an ECGClassifier, a RelevanceAggregator, an explainer, a transformer of
        :mod:`skecg.preprocessing`, or a Pipeline or FrozenEstimator of these. It is left as it is.
    path : str or path-like
        The file; ``.skecg`` is the usual ending. It is replaced whole or not at all.

    Returns
    -------
    path : pathlib.Path
        Where it is.

    Raises
    ------
    TypeError
        For other estimators, and for a parameter that is a function, or an object that files do not hold, by name.
    ValueError
        For weights that are NaN or infinite, and for what is too large or too deeply nested.
    OSError
        Where the file cannot be written; what was there is there still.

    See Also
    --------
    skecg.persistence.load : Reads the file.

    Notes
    -----
    The file is an uncompressed zip: ``config.json`` (classes by name, parameters, what was learned, versions, the size
    and SHA-256 of every other member), ``history.json`` (the epochs of training) and ``arrays/*.npy``. With each
    classifier go a window of noise and its logits, which ``load`` compares. Equal estimators give equal bytes.

    Left out are the state of the optimiser and of callbacks, scikit-learn's own callbacks, ``checkpoint_dir``, a
    Pipeline's ``memory``, and the losses by batch where there are more than 200,000 batches. Numbers and strings of
    numpy in parameters become Python's. Of a network that is not one of :mod:`skecg.models` as its class builds it,
    the weights are written and nothing else: ``load`` then needs the class (``module=``).

    Examples
    --------
    >>> import tempfile
    >>> import skecg
    >>> ecg = skecg.make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = skecg.ECGClassifier(module__width=1, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = skecg.save(clf, f"{folder}/model.skecg")
    ...     again = skecg.load(path)
    >>> bool((again.predict_proba(ecg.data) == clf.predict_proba(ecg.data)).all())
    True
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file, such as {path / 'model.skecg'}")
    members = _Writer().members(estimator)
    replace_file(path, lambda file: write_archive(file, members))
    return path


class _Writer:
    """Describes an estimator and all that is in it, parts before wholes."""

    def __init__(self) -> None:
        self._encoder = Encoder(self._refer)
        self._objects: list[dict[str, Any]] = []
        self._known: dict[int, int] = {}
        self._open: set[int] = set()
        self._histories: list[Any] = []

    def members(self, estimator: Any) -> dict[str, bytes]:
        """Return the members of the file."""
        self._object(estimator)
        installed = library_versions()
        history = to_json(self._histories, HISTORY) if self._histories else None
        config = {
            "format": FORMAT,
            "versions": {name: installed[name] for name in VERSIONS},
            "objects": self._objects,
            "history": history and {"size": len(history), "sha256": hashlib.sha256(history).hexdigest()},
            "arrays": self._encoder.facts,
        }
        members = {CONFIG: to_json(config, CONFIG)}
        if history:
            members[HISTORY] = history
        return members | {array_name(i): content for i, content in enumerate(self._encoder.contents)}

    def _object(self, value: Any) -> int:
        """Describe an object and return its place."""
        if id(value) in self._known:
            return self._known[id(value)]
        name = name_of(value)
        if name is None:
            raise refuse(value)
        if id(value) in self._open:
            raise ValueError(f"a {name} contains itself, which files do not hold")
        self._open.add(id(value))
        family = ENTRIES[name].family
        described = getattr(self, f"_{family}", self._plain)(name, value)
        requests, output = ({}, None) if family == "part" else (_requests(name, value), _output(name, value))
        self._objects.append({"class": name, **described, "requests": requests, "output": output})
        self._known[id(value)] = len(self._objects) - 1
        return self._known[id(value)]

    def _refer(self, where: str, value: Any) -> dict[str, Any]:
        """Return what stands for an object or a class; TypeError for what is in no allow-list."""
        if class_name(value):
            return {"class": class_name(value)}
        if name_of(value) is not None:
            return {"object": self._object(value)}
        if isinstance(value, BaseEstimator):
            raise refuse(value)
        raise TypeError(
            f"{where} is {kind_of(value)}; files name torch's losses, optimisers and schedules, skecg's augmentations "
            f"and three of skorch's callbacks alone: {JOBLIB}"
        )

    def _words(self, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return {
            key: self._encoder.value(f"{key} of {name}", value, refer=key in REFERRING)
            for key, value in parameters.items()
        }

    def _part(self, name: str, part: Any) -> dict[str, Any]:
        return {"parameters": self._words(name, parts_of(name, part)), "learned": None}

    def _plain(self, name: str, estimator: Any) -> dict[str, Any]:
        """Describe an estimator by its parameters and its known attributes."""
        entry = ENTRIES[name]
        if entry.family == "explainer":
            estimator = layers_by_name(estimator)
        parameters = {key: value for key, value in estimator.get_params(deep=False).items() if key not in LEFT_OUT}
        _refuse_more(name, estimator, {*parameters, *LEFT_OUT, *entry.learned})
        there = [key for key in entry.learned if key in vars(estimator)]
        learned = {
            key: self._encoder.value(f"{key} of {name}", vars(estimator)[key], refer=key == "estimator_")
            for key in there
        }
        return {"parameters": self._words(name, parameters), "learned": learned or None}

    def _aggregator(self, name: str, aggregator: Any) -> dict[str, Any]:
        _refuse_more(name, aggregator, {*aggregator.get_params(deep=False), *_AGGREGATOR})
        facts, arrays = pack(aggregator)
        stored = {key: self._encoder.array(f"{key} of {name}", array)["array"] for key, array in arrays.items()}
        return {"parameters": {}, "learned": {"facts": facts, "arrays": stored}}

    def _classifier(self, name: str, clf: ECGClassifier) -> dict[str, Any]:
        parameters = {key: value for key, value in clf.get_params(deep=False).items() if key not in LEFT_OUT}
        _refuse_more(name, clf, {*parameters, *LEFT_OUT, *_CLASSIFIER})
        weights = self._state(name, clf.module_) if clf.__sklearn_is_fitted__() else None
        words = {"module": self._network(clf, weights)}
        words |= self._words(name, {key: value for key, value in parameters.items() if key != "module"})
        if weights is None:
            return {"parameters": words, "learned": None}
        x = np.random.default_rng(0).standard_normal((1, clf.n_leads_, clf.n_timesteps_)).astype(np.float32)
        then = {key: value for key, value in clf._fitted_params.items() if key not in LEFT_OUT}
        changed = {
            key: value
            for key, value in then.items()
            if key != "module" and not (key in parameters and _same(parameters[key], value))
        }
        if "module" not in then or not _same(parameters["module"], then["module"]):
            raise TypeError("the module was changed after the fit: set_params(module=) to the one that was fitted")
        short = sum(len(row.get("batches", ())) for row in clf.history_) <= _BATCHES
        self._histories.append([self._epoch(row if short else {**row, "batches": []}) for row in clf.history_])
        known = ("n_leads_", "n_timesteps_", "n_features_in_", "feature_names_in_", "classes_", "multilabel_", "_seed")
        learned = {
            **{key: self._encoder.value(key, vars(clf)[key]) for key in known if key in vars(clf)},
            "validation_indices_": self._encoder.value("validation_indices_", clf.validation_indices_),
            "weights": weights,
            "frozen": _frozen(clf.module_),
            "changed": self._words(name, changed),
            "absent": sorted(parameters.keys() - then.keys()),
            "history": len(self._histories) - 1,
            "reference": self._encoder.array("reference", x)["array"],
            "logits": self._encoder.array("logits", reference_logits(clf.module_, x))["array"],
        }
        return {"parameters": words, "learned": learned}

    def _epoch(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return an epoch of the history in words; its batches are rows themselves."""
        return {
            str(key): [self._epoch(batch) for batch in value]
            if key == "batches"
            else self._encoder.value(f"{key} of history_", value)
            for key, value in row.items()
        }

    def _network(self, clf: ECGClassifier, fitted: dict[str, int] | None) -> Any:
        """Return what stands for the parameter ``module``: a name, settings with weights, or that it is not known."""
        module = clf.module
        if isinstance(module, str):
            if module not in NETWORKS:
                raise ValueError(f"module {module!r} is not a network of skecg.models; it has {sorted(NETWORKS)}")
            return module
        if isinstance(module, type) and NETWORKS.get(module.__name__) is module:
            return {"network": module.__name__}
        settings = settings_of(module) if isinstance(module, torch.nn.Module) else None
        if settings is None:
            kind = type(module) if isinstance(module, torch.nn.Module) else module
            return {"given": str(getattr(kind, "__name__", type(kind).__name__))}
        weights = self._state(type(module).__name__, module)
        return {
            "network": type(module).__name__,
            "settings": self._words("module", settings),
            "weights": None if weights == fitted else weights,  # from_module: those of the fitted network
            "frozen": _frozen(module),
            "training": module.training,
        }

    def _state(self, name: str, module: torch.nn.Module) -> dict[str, int]:
        """Store the weights of a network and return the places of the arrays."""
        found = {}
        for key, tensor in module.state_dict().items():
            if not isinstance(tensor, torch.Tensor):
                raise TypeError(f"{key} of {type(module).__name__} is no tensor, which files do not hold: {JOBLIB}")
            if not torch.isfinite(tensor).all():
                raise ValueError(
                    f"{key} of the network of {name} has NaN or infinite weights, so nothing was saved: training has "
                    "diverged; fit with a smaller lr"
                )
            found[key] = self._encoder.tensor(f"{key} of the network", tensor)["array"]
        return found


def _frozen(module: torch.nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if not parameter.requires_grad]


def _refuse_more(name: str, estimator: Any, known: set[str]) -> None:
    """Raise TypeError for attributes that nobody here knows: they would be lost."""
    more = sorted(set(vars(estimator)) - known - _KEPT)
    if more:
        raise TypeError(f"{name} has attributes {more} that files do not hold: delete them, or {JOBLIB}")


def _requests(name: str, estimator: Any) -> dict[str, dict[str, Any]]:
    """Return the metadata that methods ask for, as ``set_fit_request`` and the like have set it."""
    request = vars(estimator).get("_metadata_request")
    if request is None:
        return {}
    found = {}
    for method in METHODS:
        asked = getattr(request, method).requests
        found[method] = {key: value for key, value in asked.items() if value is not None}
    return {method: asked for method, asked in found.items() if asked}


def _output(name: str, estimator: Any) -> str | None:
    """Return the container that ``set_output`` has set for ``transform``."""
    return vars(estimator).get("_sklearn_output_config", {}).get("transform")
