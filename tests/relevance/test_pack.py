"""Aggregators taken apart and put together: the same bits, by way of JSON too, and nothing else is accepted."""

from __future__ import annotations

import copy
import json
import time

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from skecg.relevance import RelevanceAggregator
from skecg.relevance._pack import pack, unpack

from .made import bits, make_beaten, make_cohort


def there_and_back(aggregator):
    facts, arrays = pack(aggregator)
    return unpack(json.loads(json.dumps(facts, allow_nan=False)), arrays)


def fitted(by, rng, **parameters):
    if by in ("record", "lead"):
        R, y, given = make_cohort(rng)
        return RelevanceAggregator(by, random_state=3, n_bootstrap=60, **parameters).fit(R, y, **given)
    R, y, given = make_beaten(rng)
    return RelevanceAggregator(by, fs=100.0, random_state=3, n_bootstrap=60, **parameters).fit(R, y, **given)


@pytest.mark.parametrize(
    ("by", "parameters"),
    [
        ("record", {}),
        ("lead", {"control": "N", "share": True, "lead_names": ["I", "II", "V1"]}),
        ("lead", {"lead_names": ("I", "II", "V1"), "statistic": "abs_mean", "fs": 500}),
        ("wave", {"control": "N"}),
        ("wave", {"leads": "together", "lead_names": ["I", "II"]}),
        ("beat", {"beat_window": (-0.2, 0.25)}),
        ("beat", {"leads": "together", "beat_window": [-0.2, 0.25], "correction": None}),
    ],
)
def test_the_same_to_the_bit(rng, by, parameters):
    before = fitted(by, rng, **parameters)
    after = there_and_back(before)
    assert bits(after) == bits(before)
    assert after.get_params() == before.get_params()
    assert type(after.beat_window) is type(before.beat_window) and type(after.lead_names) is type(before.lead_names)
    assert list(after._rows.cells) == list(before._rows.cells)
    assert after._rows.layout == before._rows.layout and after._seed == before._seed
    for key, cells in before._rows.cells.items():
        for labels, cell in cells.items():
            for one, other in zip(cell, after._rows.cells[key][labels], strict=True):
                assert one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if by == "beat":
        assert_array_equal(after.mean_ecg_, before.mean_ecg_)
        assert_array_equal(after.interval_ecg_, before.interval_ecg_)


def test_merges_and_learns_on(rng):
    R, y, given = make_cohort(rng)
    parts = []
    for i in (slice(0, 60), slice(60, 120), slice(120, 160)):
        part = RelevanceAggregator("lead", random_state=3, n_bootstrap=60)
        parts.append(part.partial_fit(R[i], y[i], **{name: values[i] for name, values in given.items()}))
    whole = RelevanceAggregator("lead", random_state=3, n_bootstrap=60).fit(R, y, **given)
    one, two, three = map(there_and_back, parts)
    assert bits(three.merge(one).merge(two)) == bits(whole)
    grown = there_and_back(parts[0])
    grown.partial_fit(R[60:], y[60:], **{name: values[60:] for name, values in given.items()})
    assert bits(grown) == bits(whole)
    with pytest.raises(ValueError, match="there already"):
        grown.merge(one)


def test_labels_of_every_kind(rng):
    R, y, given = make_cohort(rng)
    indicators = pd.DataFrame(np.stack([y != "N", y == "PVC", np.arange(len(y)) // 4 % 2], 1).astype(int))
    indicators.columns = ["odd", "PVC", "night"]
    for target in (None, np.arange(len(y)) // 4 % 3, y == "PVC", indicators, indicators.to_numpy()):
        before = RelevanceAggregator(random_state=0, n_bootstrap=50).fit(R, target, **given)
        after = there_and_back(before)
        assert bits(after) == bits(before)
        assert [type(label) for label in after._rows.classes()] == [type(label) for label in before._rows.classes()]


def test_without_groups_and_records_the_rows_are_numbered_on(rng):
    R = make_cohort(rng)[0]
    before = RelevanceAggregator(random_state=0, n_bootstrap=50).fit(R[:20])
    after = there_and_back(before)
    assert bits(after.partial_fit(R[20:])) == bits(before.partial_fit(R[20:]))


def test_left_out_windows_are_counted_as_before(rng):
    R, y, given = make_beaten(rng)
    R[0, 0, 0], given["ecg"][1] = np.nan, 0
    with pytest.warns(UserWarning, match="NaN"):
        before = RelevanceAggregator("wave", fs=100, random_state=0, n_bootstrap=50).fit(R, y, **given)
    after = there_and_back(before)
    assert bits(after) == bits(before) and after.exclusions_["no_signal"].sum() == 1


def test_unfitted_and_named_columns(rng):
    before = RelevanceAggregator("wave", fs=np.float32(360), control=np.str_("N"), lead_names=np.array(["II"]))
    facts, arrays = pack(before)
    assert not arrays
    after = unpack(facts, arrays)
    assert not after.__sklearn_is_fitted__()
    assert (after.fs, after.control, after.lead_names) == (360.0, "N", ["II"])
    assert type(after.fs) is float and type(after.control) is str
    frame = pd.DataFrame(rng.normal(size=(6, 4)), columns=list("abcd"))
    before = RelevanceAggregator(random_state=0).fit(frame)
    after = there_and_back(before)
    assert_array_equal(after.feature_names_in_, before.feature_names_in_)
    assert after.feature_names_in_.dtype == object
    assert_array_equal(after.transform(frame), before.transform(frame))


def test_the_arrays_are_the_aggregators_own(rng):
    before = fitted("record", rng)
    facts, arrays = pack(before)
    told = bits(before)
    after = unpack(facts, arrays)
    for array in arrays.values():
        array[:] = 0
    assert bits(after) == bits(before) == told


@pytest.mark.parametrize(
    ("parameters", "error", "match"),
    [
        ({"random_state": np.random.RandomState(0)}, TypeError, "random_state is a RandomState.*set_params"),
        ({"control": object()}, TypeError, "control must be a string"),
        ({"fs": np.nan}, ValueError, "fs must be finite"),
    ],
)
def test_what_cannot_be_packed(parameters, error, match):
    with pytest.raises(error, match=match):
        pack(RelevanceAggregator(**parameters))
    with pytest.raises(TypeError, match="takes a RelevanceAggregator; got dict"):
        pack({})


def at(*path, to):
    """Return a change of one place of the facts."""

    def change(facts, arrays):
        inner = facts
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = to(inner[path[-1]]) if callable(to) else to

    return change


def of(name, to):
    """Return a change of one array."""

    def change(facts, arrays):
        arrays[name] = to(arrays[name])

    return change


def put(index, value):
    """Return a function that puts a value into a copy of an array."""

    def function(array):
        array = array.copy()
        array[index] = value
        return array

    return function


def without(name):
    """Return a change that takes one array away."""
    return lambda facts, arrays: arrays.pop(name)


def again(facts, arrays):
    """Write the first row's key and labels to the second as well."""
    arrays["labels"] = put(1, arrays["labels"][0])(arrays["labels"])
    for name in ("patients", "records"):
        facts["learned"][name][1] = facts["learned"][name][0]


CHANGES = {
    "format": (at("format", to=2), r"format 2"),
    "format of another type": (at("format", to=True), r"format True"),
    "another fact": (lambda facts, arrays: facts.update(more=1), r"the facts of an aggregator must be"),
    "unknown parameter": (at("parameters", to=lambda p: {**p, "more": 1}), r"the parameters of an aggregator must be"),
    "missing parameter": (lambda facts, arrays: facts["parameters"].pop("fs"), r"the parameters of an aggregator must"),
    "object as parameter": (at("parameters", "control", to={"a": 1}), r"the parameter control must"),
    "nested parameter": (at("parameters", "lead_names", to=[["I"]]), r"the parameter lead_names must"),
    "nan as parameter": (at("parameters", "fs", to=float("nan")), r"the parameter fs must"),
    "no learned": (at("learned", to=[]), r"what an aggregator has learned must"),
    "nothing learned": (at("learned", to=None), r"the arrays of an unfitted"),
    "no leads": (at("learned", "n_leads", to=0), r"n_leads must"),
    "a bool as size": (at("learned", "n_leads", to=True), r"n_leads must"),
    "a float as size": (at("learned", "n_timesteps", to=50.0), r"n_timesteps must"),
    "more leads": (at("learned", "n_leads", to=4), r"sums must be float64 of shape"),
    "names of too few columns": (at("learned", "feature_names", to=["a"]), r"feature_names must be 150"),
    "names that are numbers": (at("learned", "feature_names", to=[1] * 150), r"feature_names must hold"),
    "negative seed": (at("learned", "seed", to=-1), r"seed must"),
    "huge seed": (at("learned", "seed", to=2**64), r"seed must"),
    "another by": (at("learned", "layout", "by", to="record"), r"of shape"),
    "unknown by": (at("learned", "layout", "by", to="posix.system"), r"by must be one of"),
    "unhashable by": (at("learned", "layout", "by", to=["lead"]), r"by must be one of"),
    "layout's leads": (at("learned", "layout", "leads", to="each"), r"does not fit itself"),
    "layout's rate": (at("learned", "layout", "fs", to=1.0), r"does not fit itself"),
    "layout's rate as int": (at("learned", "layout", "fs", to=0), r"fs of the layout"),
    "layout's window": (at("learned", "layout", "beat_window", to=["a", "b"]), r"beat_window of the layout"),
    "layout's names": (at("learned", "layout", "lead_names", to="I"), r"lead_names of the layout"),
    "layout's groups": (at("learned", "layout", "groups", to="perhaps"), r"groups of the layout"),
    "groups not given": (at("learned", "layout", "groups", to="not given"), r"patients must be the records"),
    "layout's ecg": (at("learned", "layout", "ecg", to="given"), r"does not fit itself"),
    "layout's y": (at("learned", "layout", "y", to="not given"), r"are no labels of y 'not given'"),
    "unknown y": (at("learned", "layout", "y", to=None), r"y of the layout"),
    "y with other names": (at("learned", "layout", "y", to=["A", "B"]), r"are no labels of y"),
    "fewer windows": (at("learned", "n_windows", to=159), r"sum to n_windows, 159"),
    "no windows": (at("learned", "n_windows", to=0), r"n_windows must"),
    "fewer patients": (at("learned", "patients", to=lambda v: v[1:]), r"of shape"),
    "fewer records": (at("learned", "records", to=lambda v: v[1:]), r"there are 39 records"),
    "a record twice": (again, r"has the labels .* twice"),
    "a float as patient": (at("learned", "patients", to=lambda v: [0.5, *v[1:]]), r"patients must hold"),
    "None as record": (at("learned", "records", to=lambda v: [None, *v[1:]]), r"records must hold"),
    "patients that are no list": (at("learned", "patients", to={}), r"patients must be a list"),
    "labels of two kinds": (at("learned", "labels", to=[["N"], ["PVC"], [1]]), r"strings throughout or nowhere"),
    "a label twice": (at("learned", "labels", to=[["N"], ["PVC"], ["N"]]), r"each set of labels once"),
    "two labels": (at("learned", "labels", to=[["N", "PVC"], ["PVC"], ["LBBB"]]), r"are no labels of y 'labels'"),
    "too few labels": (at("learned", "labels", to=lambda v: v[:1]), r"of 1\b"),
    "labels in labels": (at("learned", "labels", to=[[["N"]], ["PVC"], ["LBBB"]]), r"are no labels"),
    "no sums": (without("sums"), r"the arrays of an aggregator must be"),
    "another array": (lambda facts, arrays: arrays.update(more=np.zeros(1)), r"the arrays of an aggregator must be"),
    "float32": (of("sums", lambda a: a.astype(np.float32)), r"sums must be float64.*float32"),
    "big-endian": (of("counts", lambda a: a.astype(">i8")), r"counts must be int64.*>i8"),
    "objects": (of("sums", lambda a: a.astype(object)), r"sums must be float64.*object"),
    "a list": (of("sums", lambda a: a.tolist()), r"sums must be float64.*got list"),
    "a row less": (of("sums", lambda a: a[1:]), r"sums must be .*\(39, 4\)"),
    "a column less": (of("counts", lambda a: a[:, 1:]), r"counts must be"),
    "flat": (of("sums", np.ravel), r"sums must be"),
    "nan": (of("sums", put((0, 0), np.nan)), r"sums must be finite"),
    "inf": (of("sums", put((0, -1), np.inf)), r"sums must be finite"),
    "negative count": (of("counts", put((0, 0), -1)), r"counts at least 0"),
    "more windows": (of("counts", put((0, 3), 5)), r"sum to n_windows"),
    "labels out of range": (of("labels", put(0, 3)), r"labels from 0 to 3 of 3"),
    "negative labels": (of("labels", put(0, -1)), r"labels from -1"),
}


@pytest.mark.parametrize(("change", "match"), CHANGES.values(), ids=CHANGES)
def test_what_does_not_fit_is_refused(packed, change, match):
    facts, arrays = copy.deepcopy(packed[0]), dict(packed[1])
    unpack(facts, arrays)
    change(facts, arrays)
    with pytest.raises(ValueError, match=match):
        unpack(facts, arrays)


@pytest.fixture(scope="module")
def packed():
    R, y, given = make_cohort(np.random.default_rng(0))
    return pack(RelevanceAggregator("lead", random_state=0).fit(R, y, **given))


def test_thousands_of_records_are_small_and_quick(rng):
    R = np.broadcast_to(rng.normal(size=(1, 12, 1)).astype(np.float32), (5000, 12, 4))
    before = RelevanceAggregator("lead", random_state=0).fit(R, record=np.arange(5000), groups=np.arange(5000) // 3)
    start = time.process_time()
    facts, arrays = pack(before)
    text = json.dumps(facts)
    after = unpack(json.loads(text), arrays)
    assert time.process_time() - start < 1.0
    assert len(text) < 20 * 5000 and sum(a.nbytes for a in arrays.values()) == 5000 * 8 * (13 + 12 + 5 + 1)
    assert after._rows.cells.keys() == before._rows.cells.keys()
