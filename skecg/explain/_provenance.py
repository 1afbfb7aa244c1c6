"""Provenance: how an explanation was made, told with it and kept beside it."""

from __future__ import annotations

import functools
import json
import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from numbers import Integral, Real
from pathlib import Path
from pickle import PicklingError
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import torch

from ..classifiers._checkpoints import _stable as stable_repr
from ..utils._digest import array_digest, library_versions, weights_digest
from ..utils._files import replace_file

if TYPE_CHECKING:
    from ._base import BaseExplainer

_FORMAT = 1
COMMON = {"relevance", "relevance_kind", "target", "score", "logits", "data", "flat", "extreme"}  # of every explainer
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_LONG = 2000  # characters of a repr
_OF_A_MACHINE = {"verbose", "checkpoint_dir", "checkpoint_epochs"}  # no result depends on them, and one is a folder


class Provenance(dict):
    """How a result was made: a dict of plain values, which goes to JSON and back.

    Every result of ``explain``, :func:`~skecg.explain.explain_record` and :func:`~skecg.cohort.explain_cohort` has one
    as ``result.provenance``. Where arrays are written to a folder, ``provenance.json`` lies in it.

    Its keys are: ``format`` (int), ``created`` (time, UTC), ``function``, ``explainer`` (class and parameters),
    ``steps`` (what comes before the network: class, parameters and a digest of what was learned), ``network`` (class,
    number and SHA-256 of weights, sizes, classes, thresholds, and the parameters and seed of its training), ``input``
    (shape and SHA-256 of the network's input, or what identifies a recording), ``target`` (the rule, and how many
    windows were explained for which label), ``output`` (what was explained of it: logit, margin or probability),
    ``seed``, ``device``, ``threads``, ``diagnostics`` (the smallest and largest value of each of the method's own, of
    one call of ``explain`` the median too, and how many windows are doubtful for which reason) and ``versions``.

    Two results of equal ``network``, ``input``, ``explainer``, ``steps``, ``target``, ``output``, ``seed``, ``device``,
    ``threads`` and ``versions`` are equal to the bit on one machine, where the explainer has an int as
    ``random_state`` or draws nothing.

    See Also
    --------
    skecg.explain.explain_record : Writes it beside its arrays.

    Examples
    --------
    >>> from skecg import ECGClassifier, GradCAM1D, make_ecg
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0).fit(ecg.data, ecg.target)
    >>> provenance = GradCAM1D(clf, target="PVC").explain(ecg.data[:5]).provenance
    >>> provenance["function"], provenance["target"]
    ('GradCAM1D.explain', {'rule': 'PVC', 'counts': {'PVC': 5}})
    >>> later = GradCAM1D(clf, target="PVC", method="layercam").explain(ecg.data[:5]).provenance
    >>> [name for name in later.differences(provenance) if not name.startswith("diagnostics")]
    ['explainer.parameters.method']
    """

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """Return the provenance as JSON, and write it to a file where a path is given.

        Parameters
        ----------
        path : str or path-like, default=None
            Written whole or not at all; what was there is replaced.

        Returns
        -------
        text : str
            Strict JSON: a number that is not finite is told as a string.
        """
        text = json.dumps(self, indent=1, allow_nan=False)
        if path is not None:
            replace_file(Path(path).expanduser(), lambda file: file.write(text.encode()))
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike) -> Provenance:
        """Return a provenance that was written.

        Parameters
        ----------
        source : str or path-like
            JSON, or the path of a file of it (a path-like, or a string that does not begin with ``{``).

        Returns
        -------
        provenance : Provenance
            As it was.

        Raises
        ------
        ValueError
            Where it is no provenance of a version that is known.
        """
        text = source
        if not isinstance(source, str) or not source.lstrip().startswith("{"):
            text = Path(source).expanduser().read_text(encoding="utf-8")
        try:
            found = json.loads(text)
        except ValueError as error:
            raise ValueError(f"this is no provenance: it is not JSON ({error})") from error
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            what = found.get("format") if isinstance(found, dict) else type(found).__name__
            raise ValueError(f"this is no provenance of format {_FORMAT}, which this version reads; got {what!r}")
        return cls(found)

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Return in what two results were made differently; the time of making does not count.

        Parameters
        ----------
        other : Provenance
            Of another result.

        Returns
        -------
        names : list of str
            Sorted dotted names, such as ``"network.weights_sha256"``.
        """
        mine, its = (dict(_leaves(p)) for p in (self, other))
        missing = object()
        names = {name for name in mine.keys() | its.keys() if mine.get(name, missing) != its.get(name, missing)}
        return sorted(names - {"created"})


def provenance_of(
    explainer: BaseExplainer,
    *,
    function: str,
    given: Mapping[str, Any],
    target: Any,
    labels: Any = None,
    diagnostics: Mapping[str, Any] | None = None,
    seed: Any = None,
    **more: Any,
) -> Provenance:
    """Tell how a result is made.

    Parameters
    ----------
    explainer : explainer
        Around a fitted estimator.
    function : str
        What made the result, such as ``"explain_record"``.
    given : dict
        What was explained; arrays in it are told by shape and digest.
    target : object
        The rule, as given: "predicted", a label, or labels.
    labels : array-like, default=None
        The labels that were explained, which are counted.
    diagnostics : dict, default=None
        Numbers and arrays; of an array of floats or integers the smallest, median and largest value are told.
    seed : int, default=None
        Where the function drew one; None takes the explainer's ``random_state``.
    **more : dict
        Further facts.

    Returns
    -------
    provenance : Provenance
        Of plain values alone.
    """
    from ._base import layers_by_name, unwrap

    before, classifier = unwrap(explainer._fitted())
    parameters = layers_by_name(explainer).get_params(deep=False)
    parameters.pop("estimator", None)
    rule = target if isinstance(target, str) or np.ndim(target) == 0 else "one label a window"
    network = {
        "class": type(classifier.module_).__name__,
        "n_parameters": sum(p.numel() for p in classifier.module_.parameters()),
        "weights_sha256": weights_digest(classifier.module_),
        "n_leads": classifier.n_leads_,
        "n_timesteps": classifier.n_timesteps_,
        "classes": classifier.classes_,
        "multilabel": bool(classifier.multilabel_),
        "threshold": classifier.threshold,
        "training": {
            "parameters": {k: v for k, v in classifier._fitted_params.items() if k not in _OF_A_MACHINE},
            "seed": classifier._seed,
            "n_epochs": classifier.n_epochs_,
        },
    }
    told = {
        "format": _FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "function": function,
        "explainer": {"class": type(explainer).__name__, "parameters": parameters},
        "steps": [_step(step) for steps in before for _, step in steps.steps],
        "network": network,
        "input": given,
        "target": {"rule": rule, "counts": _counts(labels)},
        "output": getattr(explainer, "output", explainer._output),
        "seed": getattr(explainer, "random_state", None) if seed is None else seed,
        "device": str(classifier.device_),
        "threads": torch.get_num_threads(),
        "diagnostics": {name: _summary(value) for name, value in (diagnostics or {}).items()},
        "versions": library_versions(),
        **more,
    }
    return Provenance({name: _plain(value) for name, value in told.items()})


def ranges_of(result: Mapping[str, Any]) -> dict[str, list]:
    """Return the smallest and largest value of the method's own numbers by window, and how many there are.

    Parameters
    ----------
    result : Bunch
        What an explainer's ``_explain`` returned.

    Returns
    -------
    ranges : dict of list
        Name to [smallest, largest, finite ones, all].
    """
    found = {}
    for name, value in result.items():
        own = name not in COMMON and isinstance(value, np.ndarray) and value.ndim == 1
        if own and value.dtype.kind in "fiu" and len(value) == len(result["target"]):
            finite = value[np.isfinite(value)]
            ends = [float(finite.min()), float(finite.max())] if finite.size else [None, None]
            found[name] = [*ends, int(finite.size), int(value.size)]
    return found


def unite_ranges(one: Mapping[str, list], other: Mapping[str, list]) -> dict[str, list]:
    """Return the ranges of two parts together."""
    united = dict(one)
    for name, (low, high, finite, n) in other.items():
        if name in united:
            a, b, finite_before, n_before = united[name]
            low = min((v for v in (a, low) if v is not None), default=None)
            high = max((v for v in (b, high) if v is not None), default=None)
            finite, n = finite + finite_before, n + n_before
        united[name] = [low, high, finite, n]
    return united


def told_ranges(ranges: Mapping[str, list]) -> dict[str, dict]:
    """Return ranges as the diagnostics of a provenance name them."""
    names = ("min", "max", "n_finite", "n")
    return {name: dict(zip(names, values, strict=True)) for name, values in ranges.items()}


def _step(step: Any) -> dict[str, Any]:
    parameters = step.get_params(deep=False) if hasattr(step, "get_params") else {}
    return {"class": type(step).__name__, "parameters": parameters, "learned": state_digest(step)}


def state_digest(step: Any) -> str:
    """Return a digest of an estimator: its parameters, and what it learned.

    Parameters
    ----------
    step : estimator
        It may hold what cannot be pickled, such as a function that was written in place.

    Returns
    -------
    digest : str
        Hexadecimal digits, the same in every process.
    """
    try:
        return joblib.hash(step)
    except (PicklingError, TypeError, AttributeError):
        return joblib.hash(_state(step, ()))


def _state(value: Any, above: tuple[int, ...]) -> Any:
    """Return what an object holds as something that can be hashed; functions are told by what they do."""
    if id(value) in above:
        return "above"  # it holds itself
    above = (*above, id(value))
    if isinstance(value, Mapping):
        return {repr(name): _state(part, above) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_state(part, above) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return value
    if torch.is_tensor(value):
        return value.detach().cpu().numpy()
    if callable(value) and not hasattr(type(value), "get_params"):
        return stable_repr(value)
    if hasattr(value, "__dict__"):
        return [type(value).__qualname__, _state(vars(value), above)]
    return _ADDRESS.sub("", repr(value))


def _counts(labels: Any) -> dict[str, int]:
    if labels is None:
        return {}
    found, counts = np.unique(np.asarray(labels), return_counts=True)
    return {str(label): int(n) for label, n in zip(found, counts, strict=True) if str(label) != ""}


def _summary(value: Any) -> Any:
    """Return the smallest, median and largest of an array of numbers, the count of what is true; the rest as it is."""
    if isinstance(value, np.ndarray) and value.dtype == bool:
        return {"n_true": int(value.sum()), "n": value.size}
    if not isinstance(value, np.ndarray) or value.ndim == 0 or value.dtype.kind not in "fiu":
        return value
    finite = value[np.isfinite(value)]
    if not finite.size:
        return {"n_finite": 0, "n": value.size}
    low, middle, high = finite.min(), np.median(finite), finite.max()
    return {"min": low, "median": middle, "max": high, "n_finite": finite.size, "n": value.size}


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it, without memory addresses and with arrays told by their digest."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if torch.is_tensor(value):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        if value.ndim == 1 and len(value) <= 100:
            return [_plain(part) for part in value.tolist()]
        kind = "objects" if value.dtype.kind == "O" else value.dtype.str
        told = {"array": list(value.shape), "dtype": kind}
        return told if kind == "objects" else {**told, "sha256": array_digest(value)}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in (sorted(value, key=repr) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, functools.partial):
        return {"partial": _plain(value.func), "args": _plain(value.args), "keywords": _plain(value.keywords)}
    if isinstance(value, torch.nn.Module):
        return {"module": type(value).__name__, "weights_sha256": weights_digest(value)}
    if hasattr(value, "__qualname__"):
        # a function that has no name of its own is told by what it does
        return stable_repr(value) if "<" in value.__qualname__ else f"{value.__module__}.{value.__qualname__}"
    return _ADDRESS.sub("", repr(value))[:_LONG]


def _leaves(value: Any, name: str = "") -> Any:
    """Yield dotted names and what stands there."""
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
