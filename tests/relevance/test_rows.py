"""Exact merges: any parts in any order give the same bits, and what does not belong together is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from skecg.relevance import RelevanceAggregator
from tests.relevance.made import N_WINDOWS, bits, make_cohort


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_parts_in_any_order_give_the_same_bits(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    R, y, given_ids = make_cohort(rng)
    R *= (10.0 ** rng.integers(-9, 9, (N_WINDOWS, 1, 1))).astype(np.float32)  # plain sums would depend on their order
    params = {"by": "lead", "control": "N", "n_bootstrap": 50, "random_state": 3}
    fitted = RelevanceAggregator(**params).fit(R, y, **given_ids)
    assert np.isfinite(fitted.interval_).all()
    whole = bits(fitted)
    part_of = np.array(data.draw(st.lists(st.integers(0, 4), min_size=40, max_size=40)))[np.arange(N_WINDOWS) // 4]
    order = data.draw(st.permutations(sorted(set(part_of.tolist()))))
    parts = []
    for number in order:
        i = rng.permutation(np.flatnonzero(part_of == number))  # the windows of a part in any order too
        parts.append((R[i], y[i], {name: value[i] for name, value in given_ids.items()}))
    step_by_step, merged = RelevanceAggregator(**params), RelevanceAggregator(**params)
    for R_part, y_part, ids in parts:
        step_by_step.partial_fit(R_part, y_part, **ids)
        merged.merge(RelevanceAggregator(**params).partial_fit(R_part, y_part, **ids))
    assert bits(step_by_step) == whole
    assert bits(merged) == whole


def test_merging_leaves_the_other_as_it_is(rng):
    R, y, given = make_cohort(rng)
    half = [slice(0, 60), slice(60, N_WINDOWS)]
    parts = [RelevanceAggregator().fit(R[i], y[i], **{k: v[i] for k, v in given.items()}) for i in half]
    before = [pickle.dumps(part) for part in parts]
    merged = RelevanceAggregator().merge(parts[0]).merge(parts[1])
    assert [pickle.dumps(part) for part in parts] == before
    assert merged.n_windows_.sum() == N_WINDOWS


def test_a_record_met_twice_is_an_error_and_nothing_is_added(rng):
    R, y, given = make_cohort(rng)
    aggregator = RelevanceAggregator(random_state=0).fit(R, y, **given)
    before = bits(aggregator)
    some = {name: value[-2:] for name, value in given.items()}
    with pytest.raises(ValueError, match=r"1 of the \(patient, record\) keys are there already.*'r039'"):
        aggregator.partial_fit(R[-2:], y[-2:], **some)
    with pytest.raises(ValueError, match="there already"):
        aggregator.merge(RelevanceAggregator().fit(R[-2:], y[-2:], **some))
    with pytest.raises(ValueError, match="there already"):
        aggregator.merge(aggregator)
    assert bits(aggregator) == before
    some["groups"] = np.array([99, 99])  # the same name at another patient is another record
    assert aggregator.partial_fit(R[-2:], y[-2:], **some).n_windows_.sum() == N_WINDOWS + 2


def test_parts_that_do_not_fit_together(rng):
    R, y, given = make_cohort(rng)
    aggregator = RelevanceAggregator("lead", random_state=0).fit(R, y, **given)
    before = bits(aggregator)
    new = {"ecg": given["ecg"], "groups": given["groups"], "record": np.arange(1000, 1000 + N_WINDOWS)}
    with pytest.raises(ValueError, match="groups was 'given' in one and 'not given' in another"):
        aggregator.partial_fit(R, y, record=new["record"])
    with pytest.raises(ValueError, match="y was 'labels' in one and 'not given' in another"):
        aggregator.partial_fit(R, **new)
    with pytest.raises(ValueError, match="strings in all parts or in none"):
        aggregator.partial_fit(R, np.arange(N_WINDOWS) % 2, **new)
    with pytest.raises(ValueError, match="statistic was 'mean' in one and 'abs_mean' in another"):
        aggregator.merge(RelevanceAggregator("lead", statistic="abs_mean").fit(R, y, **new))
    with pytest.raises(ValueError, match="other was fitted with"):
        RelevanceAggregator("record").merge(aggregator)
    with pytest.raises(ValueError, match=r"\(2, 50\)"):
        aggregator.merge(RelevanceAggregator("lead").fit(R[:, :2], y, **new))
    with pytest.raises(ValueError, match="3 leads"):
        aggregator.partial_fit(R[:, :2], y, **new)
    with pytest.raises(ValueError, match="pass record to fit"):
        aggregator.merge(RelevanceAggregator("lead").fit(R, y, groups=new["groups"]))
    with pytest.raises(TypeError, match="LogisticRegression"):
        aggregator.merge(LogisticRegression())
    with pytest.raises(NotFittedError):
        aggregator.merge(RelevanceAggregator("lead"))
    assert bits(aggregator) == before


def test_windows_without_record_are_numbered_through_the_parts(rng):
    R = rng.normal(size=(30, 2, 20)).astype(np.float32)
    y = np.repeat([0, 1], 15)
    whole = RelevanceAggregator("lead", random_state=0, control=0).fit(R, y)
    parts = RelevanceAggregator("lead", random_state=0, control=0)
    for i in range(0, 30, 10):
        parts.partial_fit(R[i : i + 10], y[i : i + 10])
    assert bits(parts) == bits(whole)
    assert whole.n_records_.tolist() == [[15, 15], [15, 15]]


def test_memory_grows_with_records_not_with_samples(rng):
    sizes = []
    for n_timesteps in (50, 5000):
        R = rng.normal(size=(20, 2, n_timesteps)).astype(np.float32)
        record = np.repeat(np.arange(5), 4)
        sizes.append(len(pickle.dumps(RelevanceAggregator("lead").fit(R, record=record))))
    assert sizes[1] <= sizes[0] + 50
