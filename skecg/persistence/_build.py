"""Estimators from the words of a file: classes of the allow-list, parameters, learned attributes, weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skorch.history import History

from ..classifiers import ECGClassifier
from ..classifiers._build import build_net
from ..classifiers._modules import prepare_module
from ..classifiers._training import TrainingNet, resolve_device
from ..relevance._pack import unpack
from ..utils._random import isolated_rng
from ..utils._twin import plain_torch
from ._archive import CONFIG, HISTORY, Archive
from ._learned import check_classifier, check_learned, check_parts, restore_routing
from ._networks import build_network, check_network, put_weights, reference_logits
from ._registry import CLASSES, ENTRIES, NETWORKS, REFERRING, make_part, refuse_unknown
from ._values import Decoder, expect

_MANY = 256  # objects in a file
_PATHS = 4096  # ways to the objects: shared ones within shared ones would be gone through for ever
_EQUAL = 1e-5  # of the largest logit of the reference window
_LEARNED = {
    "n_leads_", "n_timesteps_", "n_features_in_", "classes_", "multilabel_", "_seed", "validation_indices_", "weights",
    "frozen", "changed", "absent", "history", "reference", "logits",
}  # fmt: skip


class Builder:
    """Makes the objects of a file, parts before wholes.

    Parameters
    ----------
    archive : Archive
        The open file.
    config : dict
        Its configuration.
    histories : list
        Those of its classifiers.
    module : object
        What the caller gave as network.

    Attributes
    ----------
    doubts : list of str
        What the caller should be warned of.
    """

    def __init__(self, archive: Archive, config: dict[str, Any], histories: list[Any], module: Any) -> None:
        self._decoder = Decoder(archive, config["arrays"], self._refer)
        self._histories, self._told = histories, set[int]()
        self._module, self._module_used = module, False
        self._made: list[Any] = []
        self._paths: list[int] = []  # to each object's parts, the object itself among them
        self._here = 1
        self._held: set[int] = set()
        self.doubts: list[str] = []

    def build(self, objects: Any) -> Any:
        """Return the last object, which must hold all others."""
        if not isinstance(objects, list) or not 0 < len(objects) <= _MANY:
            raise ValueError(f"{CONFIG}: objects must be a list of 1 to {_MANY}")
        for i, described in enumerate(objects):
            where = f"{CONFIG}: object {i}"
            keys = {"class", "parameters", "learned", "requests", "output"}
            described = expect(described, keys, where)
            name, parameters, learned = (described[key] for key in ("class", "parameters", "learned"))
            if not isinstance(name, str) or name not in ENTRIES:
                raise ValueError(
                    f"{where}: class {name!r:.100} is not among those that files may name, {', '.join(ENTRIES)}; "
                    "nothing was imported"
                )
            if not isinstance(parameters, dict):
                raise ValueError(f"{where}: parameters must be an object")
            family = ENTRIES[name].family
            make = getattr(self, f"_{family}", self._plain)
            self._here = 1
            made = make(name, parameters, learned)
            if family == "part":
                expect(described["requests"], set(), f"{where}: requests")
            else:
                restore_routing(name, made, described["requests"], described["output"])
            self._made.append(made)
            self._paths.append(self._here)
        if self._held != set(range(len(objects) - 1)):
            raise ValueError(f"{CONFIG}: there are objects that belong to nothing")
        if self._told != set(range(len(self._histories))):
            raise ValueError(f"{HISTORY} has histories that belong to nothing")
        self._decoder.refuse_unread()
        if self._module is not None and not self._module_used:
            raise ValueError("module was given, but no network of this file needs one: leave it out")
        if family == "part":
            raise ValueError(f"{CONFIG}: the last object is a {name}, no estimator")
        return self._made[-1]

    def _refer(self, where: str, words: Any) -> Any:
        """Return the object or the class that words stand for."""
        if "class" in words:
            name = words["class"]
            if not isinstance(name, str) or name not in CLASSES:
                raise ValueError(f"{where}: {name!r:.100} is not among the classes that files may name")
            return CLASSES[name]
        i = words["object"]
        if type(i) is not int or not 0 <= i < len(self._made):
            raise ValueError(f"{where}: object {i!r:.100} does not come before it")
        self._held.add(i)
        self._here += self._paths[i]
        if self._here > _PATHS:
            raise ValueError(f"{where}: the objects hold each other in more than {_PATHS} ways")
        return self._made[i]

    def _values(self, name: str, words: dict[str, Any]) -> dict[str, Any]:
        return {
            key: self._decoder.value(f"{key} of {name}", value, refer=key in REFERRING) for key, value in words.items()
        }

    def _part(self, name: str, words: dict[str, Any], learned: Any) -> Any:
        if learned is not None:
            raise ValueError(f"{name} learns nothing")
        return make_part(name, self._values(name, words))

    def _plain(self, name: str, words: dict[str, Any], learned: Any) -> Any:
        """Return a transformer, an explainer, a Pipeline or a FrozenEstimator."""
        entry = ENTRIES[name]
        refuse_unknown(name, words)
        parameters = self._values(name, words)
        check_parts(name, parameters)
        made = entry.cls(**parameters)
        if learned is None:
            return made
        if not isinstance(learned, dict) or not learned or not set(learned) <= set(entry.learned):
            raise ValueError(f"{name} has learned {sorted(entry.learned)}; got {learned!r:.200}")
        values = {
            key: self._decoder.value(f"{key} of {name}", value, refer=key == "estimator_")
            for key, value in learned.items()
        }
        check_learned(name, values, parameters)
        vars(made).update(values)
        made._check_parameters()
        return made

    def _aggregator(self, name: str, words: dict[str, Any], learned: Any) -> Any:
        expect(words, set(), f"parameters of {name}")
        learned = expect(learned, {"facts", "arrays"}, f"what {name} has learned")
        if not isinstance(learned["arrays"], dict):
            raise ValueError(f"arrays of {name} must be an object")
        stored = {key: self._decoder.array(f"{key} of {name}", {"array": i}) for key, i in learned["arrays"].items()}
        return unpack(learned["facts"], stored)

    def _classifier(self, name: str, words: dict[str, Any], learned: Any) -> ECGClassifier:
        refuse_unknown(name, words)
        weights = None
        if learned is not None:
            optional = {"feature_names_in_"} & set(learned) if isinstance(learned, dict) else set()
            learned = expect(learned, _LEARNED | optional, f"what {name} has learned")
            weights = self._weights("weights", learned["weights"])
        parameters = {"module": self._network(words["module"], weights)}
        parameters |= self._values(name, {key: value for key, value in words.items() if key != "module"})
        parameters["device"] = self._device(parameters["device"])
        check_parts(name, parameters)
        clf = ECGClassifier(**parameters)
        if learned is None:
            return clf
        known = {key: value for key, value in learned.items() if key.endswith("_") or key == "_seed"}
        values = {key: self._decoder.value(key, value) for key, value in known.items()}
        check_classifier(values)
        vars(clf).update(values, n_outputs_=len(values["classes_"]), checkpoint_folder_=None)
        clf._fitted_params = self._fitted(name, clf, learned)
        clf.net_ = self._net(clf, words["module"], weights, learned["frozen"])
        clf.net_.history_ = History(self._history(learned["history"]))
        for group in clf.net_.optimizer_.param_groups if clf.net_.history_ else ():
            group["initial_lr"] = group["lr"]  # schedules that go on ask for it
        clf.n_epochs_ = len(clf.net_.history_)
        self._compare(clf, learned)
        return clf

    def _net(self, clf: ECGClassifier, module: Any, weights: dict[str, np.ndarray], frozen: Any) -> TrainingNet:
        """Return the net with its weights, as the parameters of the fit make it: later ones may be others."""
        then = ECGClassifier(**clf._fitted_params)
        vars(then).update({key: value for key, value in vars(clf).items() if key.endswith("_")})
        then._check_parameters()
        then._cut()
        device = resolve_device(then.device)
        with isolated_rng(0, device), plain_torch(device, gradient=False):
            if isinstance(module, str) or module.keys() == {"network"}:
                sizes = {key: getattr(clf, f"{key}_") for key in ("n_leads", "n_timesteps", "n_outputs")}
                network, settings = prepare_module(then.module, sizes, then._parts("module__"))
                check_network(network.__name__, settings, weights)
            net = build_net(then, device)
            put_weights(net.module_, weights)
        _freeze(net.module_, frozen)
        return net

    def _weights(self, where: str, words: Any) -> dict[str, np.ndarray]:
        if not isinstance(words, dict):
            raise ValueError(f"{where} must be an object")
        return {key: self._decoder.array(f"{where} {key}", {"array": i}) for key, i in words.items()}

    def _network(self, words: Any, fitted: dict[str, np.ndarray] | None) -> Any:
        """Return the parameter ``module``: a name, a class or an instance of skecg.models, or what the caller gave."""
        if isinstance(words, str):
            _check_name(words)
            return words
        if isinstance(words, dict) and words.keys() == {"given"}:
            return self._given(words["given"])
        if isinstance(words, dict) and words.keys() == {"network"}:
            return _check_name(words["network"])
        words = expect(words, {"network", "settings", "weights", "frozen", "training"}, "module")
        cls = _check_name(words["network"])
        if not isinstance(words["settings"], dict):
            raise ValueError("settings of module must be an object")
        settings = {key: self._decoder.value(f"{key} of module", value) for key, value in words["settings"].items()}
        weights = fitted if words["weights"] is None else self._weights("weights of module", words["weights"])
        if weights is None:
            raise ValueError("module has no weights")
        with isolated_rng(0, "cpu"), plain_torch("cpu", gradient=False):
            net = build_network(cls.__name__, settings, weights)
        _freeze(net, words["frozen"])
        return net.train(words["training"] is True)

    def _given(self, name: Any) -> Any:
        """Return the network that the caller gave; ValueError, by the name that it had, where there is none."""
        if self._module is None:
            raise ValueError(
                f"its network is {name!r:.100}, which is none of skecg.models as they are, so the file has its weights "
                "and not its code: pass load(path, module=...) with that class, factory or an instance of your own "
                "(nothing is imported for a name in a file)"
            )
        if not isinstance(self._module, torch.nn.Module) and not callable(self._module):
            raise ValueError(f"module must be a network's class, factory or instance; got {self._module!r:.100}")
        self._module_used = True
        return self._module

    def _device(self, device: Any) -> str:
        """Return the device of the file where this machine has it, else "cpu", with a warning."""
        if device == "auto":
            return device
        try:
            kind = torch.device(device).type
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"device must be a name of torch's; got {device!r:.100}") from None
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError, ImportError):
            self.doubts.append(f"this machine has no device {device!r:.100}: the network is on the CPU, device='cpu'")
            return "cpu"
        if kind == "meta":
            raise ValueError("device 'meta' holds no weights")
        return device

    def _history(self, i: Any) -> list[dict[str, Any]]:
        if type(i) is not int or not 0 <= i < len(self._histories) or not isinstance(self._histories[i], list):
            raise ValueError(f"{HISTORY} has no history {i!r:.100}")
        self._told.add(i)
        return [self._epoch(row) for row in self._histories[i]]

    def _epoch(self, row: Any) -> dict[str, Any]:
        if not isinstance(row, dict) or not isinstance(row.get("batches", []), list):
            raise ValueError(f"{HISTORY} must hold an object for each epoch and batch")
        return {
            key: [self._epoch(batch) for batch in value]
            if key == "batches"
            else self._decoder.value(f"{key} of {HISTORY}", value)
            for key, value in row.items()
        }

    def _fitted(self, name: str, clf: ECGClassifier, learned: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters that the classifier was fitted with; equal ones are the same objects."""
        changed, absent = learned["changed"], learned["absent"]
        if not isinstance(changed, dict) or not isinstance(absent, list) or "module" in changed:
            raise ValueError("the parameters of the fit must be an object and a list")
        now = clf.get_params(deep=False)
        then = {**{key: value for key, value in now.items() if key not in absent}, **self._values(name, changed)}
        check_parts(name, then)
        return then

    def _compare(self, clf: ECGClassifier, learned: dict[str, Any]) -> None:
        """Raise ValueError where the network does not give the logits that it gave when it was saved."""
        x = self._decoder.array("reference", {"array": learned["reference"]})
        then = self._decoder.array("logits", {"array": learned["logits"]})
        right = x.dtype == np.float32 and x.shape == (1, clf.n_leads_, clf.n_timesteps_) and np.isfinite(x).all()
        if not right or then.dtype != np.float64 or then.shape != (1, clf.n_outputs_):
            raise ValueError(f"the reference is no window of this classifier: {x.dtype} {x.shape}, logits {then.shape}")
        now = reference_logits(clf.module_, x)
        scale = np.abs(then[np.isfinite(then)]).max(initial=1e-6)
        if now.shape != then.shape or not np.allclose(now, then, rtol=0, atol=_EQUAL * scale, equal_nan=True):
            raise ValueError(
                f"its network gives the logits {now.ravel()[:5]} for the reference window, and gave {then.ravel()[:5]} "
                "when it was saved: it is another network, or libraries compute otherwise. Load it with the versions "
                f"that {CONFIG} names, or train anew"
            )


def _check_name(name: Any) -> Any:
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(f"module {name!r:.100} is not a network of skecg.models; it has {sorted(NETWORKS)}")
    return NETWORKS[name]


def _freeze(net: torch.nn.Module, names: Any) -> None:
    """Let parameters be as trainable as they were."""
    parameters = dict(net.named_parameters())
    if not isinstance(names, list) or not all(isinstance(name, str) and name in parameters for name in names):
        raise ValueError(f"{type(net).__name__} has no such frozen parameters: {names!r:.100}")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name not in names)
