"""What an aggregator tells of a cohort, worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from skecg.relevance import RelevanceAggregator
from tests.relevance.made import ATTRIBUTES, bits, make_cohort


def test_statistics_by_hand():
    """Patient 1: records a (0, 2) and b (5); patient 2: record c; patient 3 in both classes."""
    values = np.array([0, 2, 5, 7, 9, 1, 3], dtype=np.float32)
    R = values[:, None] * np.ones((1, 10), np.float32)
    y = ["PVC", "PVC", "PVC", "PVC", "PVC", "N", "N"]
    groups, record = [1, 1, 1, 2, 3, 3, 4], ["a", "a", "b", "c", "d", "d", "e"]
    aggregator = RelevanceAggregator(control="N", alternative="greater").fit(R, y, groups=groups, record=record)
    assert aggregator.classes_.tolist() == ["N", "PVC"]
    assert aggregator.mean_.tolist() == [[2.0], [((1 + 5) / 2 + 7 + 9) / 3]]
    assert aggregator.n_windows_.tolist() == [2, 5]
    assert aggregator.n_records_.tolist() == [[2], [4]]
    assert aggregator.n_patients_.tolist() == [[2], [3]]
    assert aggregator.n_control_.tolist() == [[0], [1]]
    assert aggregator.exclusions_["shared_patients"].tolist() == [0, 1]
    assert aggregator.effect_size_[1, 0] == pytest.approx((2 - 0) / 3 - 0 / 3 + 0)  # 3 ties with 3, 7 and 9 are above
    assert aggregator.p_value_[1, 0] == pytest.approx(2 / 4)  # of four places for the control's 3, the lowest two
    assert aggregator.interval_method_.tolist() == [["none"], ["none"]]
    assert np.isnan(aggregator.interval_).all()


def test_without_labels_there_is_one_cohort(rng):
    R = rng.normal(size=(12, 40)).astype(np.float32)
    aggregator = RelevanceAggregator().fit(R)
    assert aggregator.classes_.tolist() == ["all"]
    assert aggregator.mean_[0, 0] == pytest.approx(R.mean(dtype=np.float64), rel=1e-9)
    assert aggregator.n_patients_.tolist() == [[12]]  # each window a record, each record a patient
    assert np.isnan(aggregator.p_value_).all()


@pytest.mark.parametrize("as_frame", [False, True])
def test_multilabel_cohorts_overlap_and_the_control_stands_alone(as_frame):
    values = np.array([1, 2, 4, 8, 16], dtype=np.float32)
    R = values[:, None] * np.ones((1, 6), np.float32)
    y = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]])  # the last window has no label
    names = ["N", "AF", "LBBB"] if as_frame else [0, 1, 2]
    aggregator = RelevanceAggregator(control=names[0]).fit(R, pd.DataFrame(y, columns=names) if as_frame else y)
    assert aggregator.classes_.tolist() == names
    assert aggregator.mean_.ravel().tolist() == [1, (2 + 4 + 8) / 3, 8]
    assert aggregator.n_windows_.tolist() == [1, 3, 1]
    assert aggregator.exclusions_["other_labels"].tolist() == [1, 0, 0]
    untested = RelevanceAggregator().fit(R, y)
    assert untested.mean_.ravel().tolist() == [1.5, (2 + 4 + 8) / 3, 8]


def test_windows_of_one_record_in_two_classes():
    R = np.array([1, 3, 10], dtype=np.float32)[:, None] * np.ones((1, 6), np.float32)
    aggregator = RelevanceAggregator().fit(R, ["N", "N", "PVC"], groups=[7, 7, 7], record=[100, 100, 100])
    assert aggregator.mean_.tolist() == [[2.0], [10.0]]
    assert aggregator.n_records_.tolist() == [[1], [1]]


def test_the_share_of_a_record_is_of_its_total():
    R = np.array([[[1, 1], [-3, -3]], [[8, 8], [0, 0]]], dtype=np.float32)
    aggregator = RelevanceAggregator("lead", share=True).fit(R, record=["a", "a"])
    np.testing.assert_allclose(aggregator.mean_, [[(2 + 16) / 24, -6 / 24]], rtol=1e-15)


def test_a_planted_lead_is_found(rng):
    """Class PVC puts its relevance on lead 1: the test finds this lead, and the interval the truth."""
    R = rng.normal(size=(80, 3, 60)).astype(np.float32)
    y = np.repeat(["N", "PVC"], 40)
    R[40:, 1] += 0.5
    aggregator = RelevanceAggregator("lead", control="N", random_state=0).fit(R, y)
    assert (aggregator.p_adjusted_[1] < 0.05).tolist() == [False, True, False]
    assert aggregator.effect_size_[1, 1] > 0.9
    assert aggregator.interval_[1, 1, 0] < 0.5 < aggregator.interval_[1, 1, 1]
    assert (aggregator.interval_method_ == "bca").all()


def test_summary_is_tidy(rng):
    R, y, given = make_cohort(rng)
    aggregator = RelevanceAggregator("lead", control="N", lead_names=["I", "II", "III"], random_state=0)
    table = aggregator.fit(R, y, **given).summary()
    assert len(table) == 9
    assert np.isfinite(table["low"]).all()
    row = table.set_index(["class", "column"]).loc[("PVC", "II")]
    assert row["mean"] == aggregator.mean_[2, 1]
    assert (row["low"], row["high"]) == tuple(aggregator.interval_[2, 1])
    assert row["p_adjusted"] == aggregator.p_adjusted_[2, 1]
    assert "p_value" not in RelevanceAggregator().fit(R).summary()


def test_statistics_follow_parameters_that_need_no_sums(rng):
    R, y, given = make_cohort(rng)
    aggregator = RelevanceAggregator("lead", random_state=0).fit(R, y, **given)
    assert np.isnan(aggregator.p_value_).all()
    aggregator.set_params(control="N", share=True, alternative="less")
    fresh = RelevanceAggregator("lead", random_state=0, control="N", share=True, alternative="less")
    assert bits(aggregator) == bits(fresh.fit(R, y, **given))
    with pytest.raises(ValueError, match="changed after fit"):
        aggregator.set_params(statistic="abs_mean").mean_  # noqa: B018 - looked at for its error


@pytest.mark.parametrize("name", [*ATTRIBUTES, "exclusions_"])
def test_attributes_wait_for_fit(name):
    assert not hasattr(RelevanceAggregator(), name)
    with pytest.raises(NotFittedError):
        getattr(RelevanceAggregator(), name)


def test_patient_values_are_what_the_means_are_of():
    R = np.random.default_rng(0).normal(size=(24, 2, 30)).astype(np.float32)
    y, patients = np.tile(["a", "b"], 12), np.repeat(np.arange(8), 3)
    fitted = RelevanceAggregator(by="lead", random_state=0).fit(R, y, groups=patients)
    for i, label in enumerate(fitted.classes_):
        values = fitted.patient_values(label)
        each = [R[(patients == p) & (y == label)].mean((0, 2)) for p in range(8)]
        assert np.allclose(values, each, rtol=1e-5)
        assert np.allclose(values.mean(0), fitted.mean_[i])
        values[:] = 0  # a copy
    assert fitted.patient_values("a").any()
    with pytest.raises(ValueError, match="one of the classes"):
        fitted.patient_values("c")
