"""An aggregator as facts for JSON and a few numeric arrays, and back to the same bits: no pickle in between."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from ._aggregator import RelevanceAggregator
from ._rows import N_KIND, UNLABELLED, Layout, RelevanceRows
from ._waves import PARTS_OF_BEATS
from ._windows import _REASONS, TALLIES, USED

_FORMAT = 1
_GIVEN = ("given", "not given")
_LARGEST = 2**31  # of a seed, and of the leads and time steps of a window
_FACTS = {"format", "parameters", "learned"}
_LEARNED = {
    "n_leads", "n_timesteps", "feature_names", "seed", "layout", "n_windows", "patients", "records", "labels",
}  # fmt: skip
_ARRAYS = {"sums": np.float64, "counts": np.int64, "labels": np.int64}


def pack(aggregator: RelevanceAggregator) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Take an aggregator apart.

    Parameters
    ----------
    aggregator : RelevanceAggregator
        Fitted or not. It is left as it is.

    Returns
    -------
    facts : dict
        Parameters, sizes, identifiers and labels: strings, integers, finite floats, booleans, None, lists and dicts of
        them, which ``json`` writes and reads without a loss. Scalars of numpy become Python's.
    arrays : dict of str to ndarray
        Empty for an unfitted aggregator. Else, with a row for each record and set of labels, "sums" (n_rows, n_sums)
        float64, "counts" (n_rows, n_counts) int64, and "labels" (n_rows,) int64, positions among the sets of labels.

    Raises
    ------
    TypeError
        For anything but a RelevanceAggregator, for a ``random_state`` that is a generator, and for parameters that
        JSON has no word for.
    ValueError
        For a parameter that is NaN or infinite.
    """
    if type(aggregator) is not RelevanceAggregator:
        raise TypeError(f"pack takes a RelevanceAggregator; got {type(aggregator).__name__}")
    parameters = {name: _write(name, value) for name, value in aggregator.get_params(deep=False).items()}
    facts: dict[str, Any] = {"format": _FORMAT, "parameters": parameters, "learned": None}
    if not aggregator.__sklearn_is_fitted__():
        return facts, {}
    rows = aggregator._rows
    found = [(*key, labels, *cell) for key, cells in rows.cells.items() for labels, cell in cells.items()]
    sets = {labels: i for i, labels in enumerate(dict.fromkeys(labels for _, _, labels, _, _ in found))}
    names = getattr(aggregator, "feature_names_in_", None)
    layout = rows.layout._asdict()
    facts["learned"] = {
        "n_leads": int(aggregator.n_leads_),
        "n_timesteps": int(aggregator.n_timesteps_),
        "feature_names": None if names is None else [str(name) for name in names],
        "seed": int(aggregator._seed),
        "layout": {name: list(value) if isinstance(value, tuple) else value for name, value in layout.items()},
        "n_windows": int(rows.n_windows),
        "patients": [patient for patient, *_ in found],
        "records": [record for _, record, *_ in found],
        "labels": [list(labels) for labels in sets],
    }
    arrays = {
        "sums": np.array([sums for *_, sums, _ in found], dtype=np.float64),
        "counts": np.array([counts for *_, counts in found], dtype=np.int64),
        "labels": np.array([sets[labels] for _, _, labels, _, _ in found], dtype=np.int64),
    }
    return facts, arrays


def unpack(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> RelevanceAggregator:
    """Put an aggregator together again: the same rows and seed, and so the same statistics, to the bit.

    Parameters
    ----------
    facts : mapping
        What ``pack`` returned, also by way of JSON.
    arrays : mapping of str to array
        What ``pack`` returned; copied.

    Returns
    -------
    aggregator : RelevanceAggregator
        It can be merged, fitted on by ``partial_fit`` and asked for its statistics as the one that was packed.

    Raises
    ------
    ValueError
        For facts and arrays that ``pack`` does not write, or that do not fit each other, with what is wrong.
    """
    _expect(facts, _FACTS, "the facts of an aggregator")
    if facts["format"] != _FORMAT or isinstance(facts["format"], bool):
        raise ValueError(
            f"the facts of an aggregator have format {facts['format']!r}, this skecg reads {_FORMAT}: a newer skecg "
            "wrote them, so update this one"
        )
    known = set(RelevanceAggregator().get_params(deep=False))
    _expect(facts["parameters"], known, "the parameters of an aggregator")
    parameters = {name: _read(name, value) for name, value in facts["parameters"].items()}
    aggregator = RelevanceAggregator(**parameters)
    learned = facts["learned"]
    if learned is None:
        _expect(arrays, set(), "the arrays of an unfitted aggregator")
        return aggregator
    _expect(learned, _LEARNED, "what an aggregator has learned")
    n_leads, n_timesteps = (_integer(learned, name, 1) for name in ("n_leads", "n_timesteps"))
    names = learned["feature_names"]
    if names is not None:
        names = _identifiers(learned, "feature_names", str)
        if len(names) != n_leads * n_timesteps:
            raise ValueError(f"feature_names must be {n_leads * n_timesteps}; there are {len(names)}")
    seed = _integer(learned, "seed", 0)
    rows = _rows(learned, arrays, n_leads)
    aggregator.n_leads_, aggregator.n_timesteps_ = n_leads, n_timesteps
    aggregator.n_features_in_ = n_leads * n_timesteps
    if names is not None:
        aggregator.feature_names_in_ = np.array(names, dtype=object)
    aggregator._rows, aggregator._seed, aggregator._formed = rows, seed, None
    return aggregator


def _rows(learned: Mapping[str, Any], arrays: Mapping[str, Any], n_leads: int) -> RelevanceRows:
    """Check the rows against their layout and against each other."""
    layout, n_columns = _layout(learned["layout"], n_leads)
    tallies = TALLIES[layout.by]
    n_counts = 1 if layout.by == "beat" else n_columns
    n_sums = 2 * n_columns + 1 if layout.ecg == "given" else n_columns + 1
    patients, records = (_identifiers(learned, name, str | int) for name in ("patients", "records"))
    if layout.groups == "not given" and patients != records:
        raise ValueError("patients must be the records where no groups were given")
    sets = [_labels(layout, given) for given in _list(learned, "labels")]
    if len(set(sets)) < len(sets):
        raise ValueError("labels must name each set of labels once")
    if len({isinstance(label, str) for labels in sets for label in labels}) > 1:
        raise ValueError("labels must be strings throughout or nowhere")
    n = len(patients)
    sums, counts, which = _arrays(arrays, {"sums": (n, n_sums), "counts": (n, n_counts + len(tallies)), "labels": (n,)})
    if not n or len(records) != n or not np.isin(which, np.arange(len(sets))).all():
        raise ValueError(
            f"patients, records and labels must be one for each row, {n}; there are {len(records)} records, and labels "
            f"from {min(which, default=0)} to {max(which, default=0)} of {len(sets)}"
        )
    if not np.isfinite(sums).all() or (counts < 0).any():
        raise ValueError("sums must be finite and counts at least 0")
    n_windows = _integer(learned, "n_windows", 1, high=2**62)
    out = [n_counts + i for i, name in enumerate(tallies) if i == USED or name in _REASONS]
    if sum(counts[:, out].ravel().tolist()) != n_windows:  # each window is used, or left out for one reason
        raise ValueError(f"the counts of windows must sum to n_windows, {n_windows}")
    rows = RelevanceRows(layout, n_columns, n_counts)
    for patient, record, i, row, count in zip(patients, records, which.tolist(), sums, counts, strict=True):
        cells = rows.cells.setdefault((patient, record), {})
        if sets[i] in cells:
            raise ValueError(f"patient {patient!r}, record {record!r} has the labels {sets[i]} twice")
        cells[sets[i]] = row, count
        rows.labels.update(sets[i])
    rows.n_windows = n_windows
    return rows


def _layout(given: Any, n_leads: int) -> tuple[Layout, int]:
    """Return the layout, and the columns that it has for so many leads; it is checked as parameters are."""
    _expect(given, set(Layout._fields), "the layout of the rows")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name in ("lead_names", "beat_window"):
        kind = str if name == "lead_names" else float
        if type(values[name]) is not tuple or not all(type(value) is kind for value in values[name]):
            raise ValueError(f"{name} of the layout must be a list of {kind.__name__}; got {given[name]!r}")
    if type(values["fs"]) is not float:
        raise ValueError(f"fs of the layout must be a float; got {given['fs']!r}")
    layout = Layout(**values)
    like = RelevanceAggregator(
        by=layout.by,
        statistic=layout.statistic,
        lead_names=list(layout.lead_names) or None,
        fs=layout.fs or None,
        leads=layout.leads or "each",
        beat_window=layout.beat_window or (-0.3, 0.5),
    )
    like.n_leads_ = n_leads
    like._check_parameters()
    if layout.lead_names:
        like._check_lead_names()
    averaged = _GIVEN if layout.by == "beat" else ("",)
    if layout[:N_KIND] != like._kind() or layout.ecg not in averaged:
        raise ValueError(f"the layout of the rows does not fit itself: {layout}")
    for name in ("groups", "record"):
        if getattr(layout, name) not in _GIVEN:
            raise ValueError(f"{name} of the layout must be one of {_GIVEN}; got {getattr(layout, name)!r}")
    named = type(layout.y) is tuple and _plain(layout.y) and len(set(layout.y)) == len(layout.y)
    if not named and layout.y not in ("not given", "labels"):
        raise ValueError(f"y of the layout must be 'not given', 'labels' or names; got {layout.y!r}")
    if layout.by == "record":
        return layout, 1
    if layout.by == "beat":
        offsets = like._offsets()
        each = offsets.stop - offsets.start
    else:
        each = {"lead": 1, "wave": len(PARTS_OF_BEATS)}[layout.by]
    return layout, each * (1 if layout.leads == "together" else n_leads)


def _labels(layout: Layout, given: Any) -> tuple:
    """Return one set of labels, which must be what the layout's y can hold."""
    labels = tuple(given) if isinstance(given, list) and _plain(given) else None
    if labels is not None and layout.y == "not given":
        right = labels == (UNLABELLED,)
    elif labels is not None and layout.y == "labels":
        right = len(labels) == 1
    else:
        right = labels is not None and set(labels) <= set(layout.y) and len(set(labels)) == len(labels)
    if not right:
        raise ValueError(f"{given!r} are no labels of y {layout.y!r}")
    return labels


def _arrays(arrays: Mapping[str, Any], shapes: dict[str, tuple[int, ...]]) -> list[np.ndarray]:
    """Return copies of the arrays, of the dtypes and shapes that they must have."""
    _expect(arrays, set(_ARRAYS), "the arrays of an aggregator")
    for name, dtype in _ARRAYS.items():
        array = arrays[name]
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shapes[name]:
            got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ValueError(f"{name} must be {np.dtype(dtype)} of shape {shapes[name]}; got {got}")
    return [np.array(arrays[name], dtype=dtype, order="C") for name, dtype in _ARRAYS.items()]


def _write(name: str, value: Any) -> Any:
    """Return a parameter in JSON's words; a tuple is marked as one."""
    if name == "random_state" and not (value is None or isinstance(value, Integral)):
        raise TypeError(
            f"random_state is a {type(value).__name__}, whose state is not kept: set_params(random_state=None) or an "
            "int first (the seed that fit drew is kept either way)"
        )
    if value is None or isinstance(value, str):
        return value if value is None else str(value)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite; got {value!r}")
        return float(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        kept = [_write(name, part) for part in value]
        return {"tuple": kept} if isinstance(value, tuple) else kept
    raise TypeError(f"{name} must be a string, a number, a list or None to be kept; got {type(value).__name__}")


def _read(name: str, value: Any, *, inside: bool = False) -> Any:
    """Return a parameter from JSON's words."""
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if not inside and isinstance(value, list):
        return [_read(name, part, inside=True) for part in value]
    if not inside and isinstance(value, dict) and value.keys() == {"tuple"} and isinstance(value["tuple"], list):
        return tuple(_read(name, part, inside=True) for part in value["tuple"])
    raise ValueError(f"the parameter {name} must be a string, a finite number, a list or None; got {value!r:.100}")


def _expect(given: Any, names: set[str], what: str) -> None:
    if not isinstance(given, Mapping) or set(given) != names:
        got = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        raise ValueError(f"{what} must be {sorted(names)}; got {got!s:.300}")


def _integer(facts: Mapping[str, Any], name: str, low: int, high: int = _LARGEST) -> int:
    value = facts[name]
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}; got {value!r:.100}")
    return value


def _list(facts: Mapping[str, Any], name: str) -> list:
    if not isinstance(facts[name], list):
        raise ValueError(f"{name} must be a list; got {type(facts[name]).__name__}")
    return facts[name]


def _identifiers(facts: Mapping[str, Any], name: str, kind: Any) -> list:
    values = _list(facts, name)
    if not all(isinstance(value, kind) for value in values):
        raise ValueError(f"{name} must hold {kind} alone")
    return values


def _plain(labels: Any) -> bool:
    return all(isinstance(label, str | int) for label in labels)
