"""skecg.load: an estimator out of a file, checked at every step; nothing of the file is executed or imported."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from sklearn.exceptions import InconsistentVersionWarning

from ..utils._digest import library_versions
from ._archive import CONFIG, HISTORY, Archive, array_name
from ._build import Builder
from ._save import FORMAT, VERSIONS
from ._values import expect, from_json

# What libraries raise where values of the file make no sense to them; all of it is told as a ValueError.
_NONSENSE = (
    ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, AssertionError, MemoryError,
)  # fmt: skip
_COMPARED = ("skecg", "torch", "scikit-learn", "skorch")


class _OtherVersions(InconsistentVersionWarning):
    """scikit-learn's warning, with the versions that matter here."""

    def __init__(self, text: str, **versions: Any) -> None:
        super().__init__(**versions)
        self.text = text

    def __str__(self) -> str:
        return self.text


def load(path: str | os.PathLike, *, module: Any = None) -> Any:
    """Read an estimator that ``skecg.save`` has written; nothing in the file is executed, whoever wrote it.

    Parameters
    ----------
    path : str or path-like
        The file.
    module : class, callable or torch.nn.Module, default=None
        The network of a classifier that was trained on one of your own, or on a changed one of :mod:`skecg.models`: its
        class or factory, or an instance (copied). The file has its weights, never its code.

    Returns
    -------
    estimator : estimator
        As it was saved, fitted where it was. In the same environment its predictions are equal to the bit.
        ``partial_fit`` goes on with an optimiser that starts anew. On a machine without the device that a parameter
        names the network is on the CPU, and ``device`` says so.

    Raises
    ------
    ValueError
        For a file that is damaged, cut off, changed, or not of ``save``; for one that needs ``module``, or has no use
        for it; and where the network no longer gives the logits that it gave when it was saved.
    OSError
        Where the file cannot be read.

    Warns
    -----
    InconsistentVersionWarning
        Where skecg, torch, scikit-learn or skorch had another version.
    UserWarning
        Where a device is not there.

    See Also
    --------
    skecg.persistence.save : Writes the file, and says what is in it.

    Notes
    -----
    Before anything is read, every byte around the members is compared with the one layout that ``save`` writes
    (uncompressed, known names, sizes that fill the file), then their digests, the types and shapes of arrays before
    there is memory for them, and names of classes and parameters against lists. Networks are built without memory
    first, and for real where their weights are those of the file. What nobody can check is whether a network that is
    sound answers as its maker says: load files whose origin you know, and test them on records of your own.

    Examples
    --------
    >>> import tempfile
    >>> import skecg
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = skecg.save(skecg.ECGScaler(per="window"), f"{folder}/scaler.skecg")
    ...     skecg.load(path)
    ECGScaler(per='window')
    """
    path = Path(path).expanduser()
    try:
        with Archive(path) as archive:
            config = _config(archive)
            builder = Builder(archive, config, _history(archive, config["history"]), module)
            estimator = builder.build(config["objects"])
    except RecursionError as error:
        raise ValueError(f"{path} cannot be loaded: it is nested too deeply") from error
    except _NONSENSE as error:
        told = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} cannot be loaded: {told}") from error
    for text in builder.doubts:
        warnings.warn(f"{path}: {text}", UserWarning, stacklevel=2)
    _warn_of_versions(path, type(estimator).__name__, config["versions"])
    return estimator


def _config(archive: Archive) -> dict[str, Any]:
    """Return the configuration, whose list of members must be the file's."""
    if next(iter(archive.sizes), None) != CONFIG:
        raise ValueError(f"it does not begin with {CONFIG}: skecg.save did not write this file")
    config = from_json(archive.read(CONFIG, archive.sizes[CONFIG], None), CONFIG)
    if isinstance(config, dict) and type(config.get("format")) is int and config["format"] > FORMAT:
        raise ValueError(
            f"it has format {config['format']}, this skecg reads {FORMAT}: a newer skecg wrote it, so update this one"
        )
    config = expect(config, {"format", "versions", "objects", "history", "arrays"}, CONFIG)
    if type(config["format"]) is not int or config["format"] != FORMAT:
        raise ValueError(f"{CONFIG}: format must be {FORMAT}; got {config['format']!r:.100}")
    versions = expect(config["versions"], set(VERSIONS), f"{CONFIG}: versions")
    if not all(isinstance(version, str) and len(version) < 100 for version in versions.values()):
        raise ValueError(f"{CONFIG}: versions must be strings")
    if not isinstance(config["arrays"], list):
        raise ValueError(f"{CONFIG}: arrays must be a list")
    expected = [CONFIG, *([] if config["history"] is None else [HISTORY])]
    expected += [array_name(i) for i in range(len(config["arrays"]))]
    if list(archive.sizes) != expected:
        stray = sorted(archive.sizes.keys() ^ set(expected)) or ["another order"]
        raise ValueError(f"the members are not those that {CONFIG} names: {stray[:5]}")
    return config


def _history(archive: Archive, facts: Any) -> list[Any]:
    """Return the histories of the classifiers."""
    if facts is None:
        return []
    facts = expect(facts, {"size", "sha256"}, f"{CONFIG}: history")
    if not isinstance(facts["sha256"], str):
        raise ValueError(f"{CONFIG}: history has no SHA-256")
    found = from_json(archive.read(HISTORY, facts["size"], facts["sha256"]), HISTORY)
    if not isinstance(found, list):
        raise ValueError(f"{HISTORY} must be a list")
    return found


def _warn_of_versions(path: Path, name: str, then: dict[str, str]) -> None:
    now = library_versions()
    # "2.6.0+cu124" and "2.6.0+cpu" are one version on two machines
    other = [key for key in _COMPARED if then[key].partition("+")[0] != now[key].partition("+")[0]]
    if not other:
        return
    told = ", ".join(f"{key} {then[key]} (here {now[key]})" for key in other)
    text = (
        f"{path} was saved with {told}. Every network in it gives the logits that it gave then, to 1e-5; what else has "
        "changed between these versions is not known: compare results, and save it anew"
    )
    versions = {"current_sklearn_version": now["scikit-learn"], "original_sklearn_version": then["scikit-learn"]}
    warnings.warn(_OtherVersions(text, estimator_name=name, **versions), stacklevel=3)
