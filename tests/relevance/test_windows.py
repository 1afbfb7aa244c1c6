"""Sums of single windows: padded tails, relevance that cannot be averaged, and what is counted."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from skecg.relevance import RelevanceAggregator
from tests.relevance.made import ATTRIBUTES, N_WINDOWS, make_cohort


def test_a_window_does_not_depend_on_its_companions(rng):
    R = rng.normal(size=(30, 12, 700)).astype(np.float32) * 10.0 ** rng.integers(-9, 9, (30, 1, 1)).astype(np.float32)
    aggregator = RelevanceAggregator("lead", share=True).fit(R)
    together = aggregator.transform(R)
    for i in (0, 7, 29):
        np.testing.assert_array_equal(aggregator.transform(R[i : i + 1])[0], together[i])
    np.testing.assert_array_equal(aggregator.transform(np.asfortranarray(R)), together)
    np.testing.assert_array_equal(aggregator.transform(R.astype(">f4")), together)


def test_large_input_is_summed_in_blocks(rng):
    """More windows than fit in one block: the same as window by window."""
    R = rng.normal(size=(50, 12, 4096)).astype(np.float32)
    table = RelevanceAggregator("lead").fit_transform(R)
    np.testing.assert_allclose(table, R.mean(axis=2, dtype=np.float64), rtol=1e-6)


# zero-padded tails


def test_padded_tails_are_left_out_and_counted(rng):
    R, y, given = make_cohort(rng)
    ecg = given["ecg"]
    lengths = np.array([np.flatnonzero(window.any(axis=0)).max() + 1 for window in ecg])
    R[np.arange(50) >= lengths[:, None, None].repeat(3, axis=1)] = 1e6  # what stands in a tail must not matter
    aggregator = RelevanceAggregator("lead")
    table = aggregator.fit_transform(R, y, **given)
    expected = [r[:, :length].mean(axis=1, dtype=np.float64) for r, length in zip(R, lengths, strict=True)]
    np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-7)
    padded = [np.sum(50 - lengths[y == label]) for label in aggregator.classes_]
    assert aggregator.exclusions_["padded"].tolist() == padded
    assert sum(padded) > 0


def test_a_record_is_the_mean_over_all_its_samples():
    """Two windows of 10 and 5 samples that count: not the mean of their means."""
    R, ecg = np.ones((2, 1, 10), np.float32), np.ones((2, 1, 10), np.float32)
    R[1], ecg[1, :, 5:] = 4, 0
    aggregator = RelevanceAggregator().fit(R, ecg=ecg, record=["a", "a"])
    assert aggregator.mean_.tolist() == [[(10 * 1 + 5 * 4) / 15]]
    assert aggregator.n_records_.tolist() == [[1]]
    assert aggregator.n_windows_.tolist() == [2]


def test_zeros_inside_or_on_some_leads_are_no_tail():
    ecg = np.ones((1, 2, 10), np.float32)
    ecg[0, :, 3:6], ecg[0, 0, 8:], ecg[0, :, 9] = 0, 0, 0
    R = np.arange(20, dtype=np.float32).reshape(1, 2, 10)
    table = RelevanceAggregator("lead").fit_transform(R, ecg=ecg)
    np.testing.assert_array_equal(table, [[4, 14]])  # the means over nine samples


def test_windows_without_signal_are_left_out_and_counted(rng):
    R, y, given = make_cohort(rng)
    given["ecg"][[0, 5]] = 0
    aggregator = RelevanceAggregator("lead")
    table = aggregator.fit_transform(R, y, **given)
    assert np.isnan(table[[0, 5]]).all()
    assert np.isfinite(np.delete(table, [0, 5], axis=0)).all()
    assert dict(zip(aggregator.classes_, aggregator.exclusions_["no_signal"], strict=True)) == {
        label: np.sum(y[[0, 5]] == label) for label in ("LBBB", "N", "PVC")
    }


def test_the_ecg_may_have_other_leads_but_not_another_length(rng):
    R = rng.normal(size=(4, 2, 30)).astype(np.float32)
    aggregator = RelevanceAggregator().fit(R, ecg=np.ones((4, 30)))
    with pytest.raises(ValueError, match=r"ecg has 37 timesteps, the relevance 30: resample .* explain\(X\).data"):
        aggregator.fit(R, ecg=np.ones((4, 2, 37)))
    with pytest.raises(ValueError, match="ecg has 37 timesteps"):
        aggregator.transform(R, ecg=np.ones((4, 37)))
    with pytest.raises(ValueError, match=r"ecg must be \(4, 30\).*got shape \(3, 30\)"):
        aggregator.transform(R, ecg=np.ones((3, 30)))
    with pytest.raises(ValueError, match="ecg contains NaN"):
        aggregator.transform(R, ecg=np.full((4, 30), np.nan))


# relevance that cannot be averaged (RELIABILITY 4.1, 38)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("by", ["record", "lead"])
@pytest.mark.parametrize("value", [0.0, 1.0, -1e-30, 1e-45, 3e38])
def test_saturated_equal_tiny_and_huge_relevance(value, by, share):
    R = np.full((24, 2, 64), value, dtype=np.float32)
    y = np.repeat(["N", "PVC"], 12)
    aggregator = RelevanceAggregator(by, share=share, control="N", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.filterwarnings("ignore", "the relevance of all leads is equal")
        table = aggregator.fit_transform(R, y)
        found = aggregator.mean_, aggregator.interval_
    if share and value == 0:
        assert np.isnan(table).all()
        assert aggregator.exclusions_["zero_total"].tolist() == [12, 12]
        assert aggregator.n_patients_.sum() == 0
        assert np.isnan(aggregator.p_value_).all()
        return
    expected = R[0, 0, 0].astype(np.float64)
    if share:
        expected = np.sign(expected) / (2 if by == "lead" else 1)
    np.testing.assert_allclose(table, expected, rtol=1e-6)
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
    np.testing.assert_allclose(found[1], expected, rtol=1e-12)
    np.testing.assert_allclose(aggregator.p_adjusted_[1], 1)  # N is the control
    assert (aggregator.effect_size_[1] == 0).all()
    assert aggregator.n_zero_.tolist() == ([12, 12] if value == 0 else [0, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_windows_that_are_not_finite_are_left_out_and_counted(bad, rng):
    R, y, given = make_cohort(rng)
    broken = R.copy()
    broken[[3, 8], [0, 2], [4, 9]] = bad
    given["ecg"][3] = 0  # a window is left out for one reason, and counted once
    aggregator = RelevanceAggregator("lead", control="N", random_state=0)
    with pytest.warns(UserWarning, match=r"2 of 160 windows has NaN or infinities \(the first at 3\)"):
        table = aggregator.fit_transform(broken, y, **given)
    assert np.isnan(table[[3, 8]]).all()
    kept = np.delete(np.arange(N_WINDOWS), [3, 8])
    without = RelevanceAggregator("lead", control="N", random_state=0).fit(
        R[kept], y[kept], **{name: value[kept] for name, value in given.items()}
    )
    for name in ATTRIBUTES:
        np.testing.assert_array_equal(getattr(aggregator, name), getattr(without, name))
    assert aggregator.exclusions_["non_finite"].sum() == 2
    assert aggregator.exclusions_["no_signal"].sum() == 0
    assert np.isfinite(aggregator.mean_).all()


def test_values_beyond_float32_are_not_finite():
    with pytest.warns(UserWarning, match="1 of 2 windows"):
        table = RelevanceAggregator().fit_transform(np.array([[1.0, 2.0], [1e39, 0.0]]))
    np.testing.assert_array_equal(table, [[1.5], [np.nan]])


def test_a_map_without_leads_is_warned_about_by_lead_alone(rng):
    cam = np.broadcast_to(rng.random((6, 1, 40)).astype(np.float32), (6, 12, 40))
    with pytest.warns(UserWarning, match="class activation map"):
        RelevanceAggregator("lead").fit(cam)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RelevanceAggregator("record").fit(cam)
        RelevanceAggregator("lead").fit(cam[:, 0])
        RelevanceAggregator("lead").fit(np.zeros((6, 12, 40), np.float32))
        RelevanceAggregator("lead").fit(np.concatenate([cam, rng.random((1, 12, 40)).astype(np.float32)]))


@pytest.mark.filterwarnings("ignore:the relevance of 2 of 9 windows has NaN:UserWarning")
@pytest.mark.parametrize("by", ["record", "lead"])
def test_more_than_half_left_out_is_warned_about_with_the_reasons(by, rng):
    R, ecg = rng.normal(size=(9, 2, 40)).astype(np.float32), np.ones((9, 2, 40), np.float32)
    R[:2, 0, 5], ecg[[2, 3, 8]] = np.nan, 0
    said = r"5 of 9 windows are left out \(non_finite 2, no_signal 3\), more than half.* of the other 4$"
    with pytest.warns(UserWarning, match=said) as caught:
        aggregator = RelevanceAggregator(by).fit(R, ecg=ecg)
    assert caught[-1].filename == __file__
    assert aggregator.exclusions_["non_finite"].tolist() == [2] and aggregator.exclusions_["no_signal"].tolist() == [3]
    assert aggregator.n_windows_.tolist() == [4]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RelevanceAggregator(by).fit(R[2:8], ecg=ecg[2:8])  # 2 of 6
        RelevanceAggregator(by).fit(R[[2, 3, 4, 5]], ecg=ecg[[2, 3, 4, 5]])  # half is not more than half
        RelevanceAggregator(by).partial_fit(R[[2, 3, 4]], ecg=ecg[[2, 3, 4]], record=[1, 2, 3])  # a part is not all
