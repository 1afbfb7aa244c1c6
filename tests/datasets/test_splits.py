"""The halves of de Chazal et al., the warning where a split shares patients, and fair draws."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupShuffleSplit, PredefinedSplit, StratifiedGroupKFold

from skecg.datasets import check_split
from skecg.datasets._databases import MITDB
from skecg.datasets._splits import DS1, DS2, assign_halves, draw_fairly

RECORDS = np.array(MITDB.records)
PATIENTS = np.array([MITDB.group(record) for record in MITDB.records])


def test_halves_are_22_records_each_and_leave_out_the_paced():
    assert len(DS1) == len(DS2) == 22
    assert sorted(DS1 + DS2 + MITDB.paced) == sorted(MITDB.records)


def test_literal_halves_share_one_man_and_default_halves_nobody():
    literal, own = assign_halves(RECORDS, "literal"), assign_halves(RECORDS, "patients")
    assert RECORDS[literal != own].tolist() == ["202"] and own[RECORDS == "202"] == "DS1"
    assert dict(zip(*np.unique(own, return_counts=True), strict=True)) == {"": 4, "DS1": 23, "DS2": 21}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_split(own, PATIENTS) == []
    with pytest.warns(UserWarning, match=r"1 of 43 patients \(201; 2 samples\)") as caught:
        assert check_split(literal, PATIENTS) == ["201"]
    assert len(caught) == 1 and caught[0].filename == __file__


def test_samples_on_no_side_are_not_shared():
    assert check_split(["DS1", "", "DS2"], ["a", "a", "b"]) == []


def test_many_shared_patients_are_counted_in_one_warning():
    groups = np.repeat([f"p{i}" for i in range(9)], 2)
    with pytest.warns(UserWarning, match=r"9 of 9 patients \(p0, p1, p2, p3, p4 and 4 more; 18 samples\)") as caught:
        assert len(check_split(np.tile([0, 1], 9), groups)) == 9
    assert len(caught) == 1


@pytest.mark.parametrize(("split", "groups"), [(["a"], ["p", "q"]), ([["a"]], [["p"]]), ("a", "p")])
def test_misshapen_split_is_refused(split, groups):
    with pytest.raises(ValueError, match="1-D of one length"):
        check_split(split, groups)


def test_scikit_learn_s_splitters_keep_patients_apart(rng):
    y, groups = rng.integers(0, 2, 400), rng.integers(0, 12, 400).astype(str)
    for splitter in (StratifiedGroupKFold(3), GroupShuffleSplit(3, random_state=0)):
        for _, test in splitter.split(y, y, groups):
            split = np.full(400, "train")
            split[test] = "test"
            assert check_split(split, groups) == []


def test_published_halves_are_one_fold_of_a_predefined_split():
    split = assign_halves(RECORDS, "patients")
    ((train, test),) = PredefinedSplit(np.where(split == "DS2", 0, -1)).split()
    assert set(split[test].tolist()) == {"DS2"} and not set(split[train].tolist()) & {"DS2"}


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=5), min_size=1, max_size=3),
    limit=st.integers(1, 25),
    seed=st.integers(0, 2**16),
)
def test_draw_is_exact_and_as_even_as_the_numbers_allow(counts, limit, seed):
    label = np.array([i for i, several in enumerate(counts) for n in several for _ in range(n)], dtype=np.int16)
    group = np.array([j for several in counts for j, n in enumerate(several) for _ in range(n)], dtype=np.int64)
    mixed = np.random.default_rng(seed).permutation(len(label))
    label, group = label[mixed], group[mixed]
    kept = draw_fairly(label, group, limit, np.random.default_rng(seed))
    assert (np.diff(kept) > 0).all()
    for i, several in enumerate(counts):
        own = np.bincount(group[kept][label[kept] == i], minlength=len(several))
        assert own.sum() == min(limit, sum(several))
        for n, taken in zip(several, own.tolist(), strict=False):
            assert taken <= n
            if taken < n:  # who kept some back gave as many as anybody, but for the remainder
                assert taken >= own.max() - 1


def test_draw_depends_on_its_generator_alone():
    label, group = np.zeros(1000, dtype=int), np.repeat([0, 1], 500)
    first, same, other = (draw_fairly(label, group, 50, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    old = draw_fairly(label, group, 50, np.random.RandomState(0))
    assert len(old) == 50 and np.bincount(group[old]).tolist() == [25, 25]
