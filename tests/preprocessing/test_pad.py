"""PadOrCrop and pad_or_crop: the published padding of RibeiroNet by hand, spans, edges and the way back by property."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline

from skecg.preprocessing import PadOrCrop, Resampler, pad_or_crop

SIDES = ["left", "right", "both"]


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 40),
    wanted=st.integers(1, 40),
    side=st.sampled_from(SIDES),
    padding=st.sampled_from(["zero", "edge"]),
    leads=st.integers(1, 3),
)
def test_length_spans_values_and_the_way_back(n, wanted, side, padding, leads):
    X = 1 + np.arange(2 * leads * n, dtype=np.float32).reshape(2, leads, n)
    pad = PadOrCrop(wanted, side=side, padding=padding).fit(X)
    result = pad.transform(X)
    assert result.shape == (2, leads, wanted) == (2, leads, pad.n_timesteps_out_)
    (first, last), (start, stop) = pad.valid_, pad.kept_
    assert last - first == stop - start == min(n, wanted)
    assert 0 <= first < last <= wanted and 0 <= start < stop <= n
    np.testing.assert_array_equal(result[..., first:last], X[..., start:stop])
    left, right = (X[..., :1], X[..., -1:]) if padding == "edge" else (0, 0)
    assert (result[..., :first] == left).all() and (result[..., last:] == right).all()
    if side == "left":
        assert last == wanted and stop == n
    elif side == "right":
        assert first == 0 and start == 0
    else:
        assert wanted - last - first in (0, 1) and n - stop - start in (0, 1)
    back = pad.inverse_transform(result)
    np.testing.assert_array_equal(back[..., start:stop], X[..., start:stop])
    assert back.shape == X.shape and not back[..., :start].any() and not back[..., stop:].any()


@pytest.mark.parametrize(("seconds", "fs", "left"), [(10, 500, 48), (7, 1000, 648), (10, 400, 48)])
def test_published_preprocessing_of_ribeironet(seconds, fs, left, rng):
    X = 1 + rng.random((2, 12, seconds * fs)).astype(np.float32)
    steps = make_pipeline(Resampler(fs, 400), PadOrCrop(4096))
    result = steps.fit_transform(X)
    assert result.shape == (2, 12, 4096)
    assert steps[-1].valid_ == (left, left + 400 * seconds)
    assert not result[..., :left].any() and not result[..., -left:].any()
    assert result[..., left:-left].min() > 0


def test_longer_records_keep_their_middle():
    X = np.arange(5000, dtype=np.float32)[None]
    np.testing.assert_array_equal(PadOrCrop(4096).fit_transform(X)[0], np.arange(452, 452 + 4096))


def test_odd_numbers_put_the_smaller_half_on_the_left():
    X = np.ones((1, 3), dtype=np.float32)
    np.testing.assert_array_equal(PadOrCrop(6).fit_transform(X), [[0, 1, 1, 1, 0, 0]])
    np.testing.assert_array_equal(PadOrCrop(2).fit_transform([[1, 2, 3]]), [[1, 2]])


def test_two_dimensions_are_one_lead(rng):
    X = rng.normal(size=(4, 50)).astype(np.float32)
    pad = PadOrCrop(64).fit(X)
    flat = pad.transform(X)
    np.testing.assert_array_equal(flat, PadOrCrop(64).fit_transform(X[:, None])[:, 0])
    np.testing.assert_array_equal(pad.inverse_transform(flat), X)


def test_relevance_may_hold_nan_on_its_way_back():
    pad = PadOrCrop(6).fit(np.ones((1, 2, 4)))
    R = np.full((1, 2, 6), np.nan)
    assert np.isnan(pad.inverse_transform(R)).all()


def test_wrong_relevance_is_named(rng):
    pad = PadOrCrop(6).fit(np.ones((1, 2, 4)))
    with pytest.raises(ValueError, match=r"X of shape \(1, 2, 4\) is nothing .* has 2 leads of 6 timesteps"):
        pad.inverse_transform(np.ones((1, 2, 4)))


def test_input_is_left_as_found(rng):
    X = rng.normal(size=(4, 2, 100)).astype(np.float32)
    before = X.copy()
    X.flags.writeable = False
    for n in (50, 100, 150):
        PadOrCrop(n).fit(X).transform(X)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "n_timesteps must be an integer at least 1; got None"),
        ({"n_timesteps": 0}, "n_timesteps must be an integer"),
        ({"n_timesteps": 4.0}, "n_timesteps must be an integer"),
        ({"n_timesteps": 4, "side": "centre"}, "side must be one of 'both', 'left', 'right'|side must be one of"),
        ({"n_timesteps": 4, "padding": "wrap"}, "padding must be one of 'zero', 'edge'; got 'wrap'"),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        PadOrCrop(**params).fit(np.eye(3))


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    wanted=st.none() | st.integers(1, 30),
    side=st.sampled_from(SIDES),
)
def test_recordings_of_unequal_lengths(lengths, wanted, side):
    records = [1 + np.arange(2.0 * n).reshape(2, n) for n in lengths]
    bunch = pad_or_crop(records, wanted, side=side)
    n_timesteps = max(lengths) if wanted is None else wanted
    assert bunch.data.shape == (len(lengths), 2, n_timesteps) and bunch.data.dtype == np.float32
    for record, row, valid, kept in zip(records, bunch.data, bunch.valid, bunch.kept, strict=True):
        np.testing.assert_array_equal(row, PadOrCrop(n_timesteps, side=side).fit_transform(record[None])[0])
        np.testing.assert_array_equal(row[:, slice(*valid)], record[:, slice(*kept)])
        assert np.count_nonzero(row) == 2 * (valid[1] - valid[0])


def test_edges_of_unequal_recordings():
    bunch = pad_or_crop([[[1, 2]], [[3, 4, 5, 6]]], padding="edge")
    np.testing.assert_array_equal(bunch.data[:, 0], [[1, 1, 2, 2], [3, 4, 5, 6]])
    np.testing.assert_array_equal(bunch.valid, [[1, 3], [0, 4]])


@pytest.mark.parametrize(
    ("records", "error", "message"),
    [
        ([], ValueError, "records is empty"),
        ([np.ones((2, 5)), np.ones((3, 5))], ValueError, r"as the first, 2; number 1 has the shape \(3, 5\)"),
        ([np.ones((2, 2, 5))], ValueError, "number 0 has the shape"),
        ([np.ones(5)], ValueError, r"got shape \(5,\)"),
        ([[["a"]]], ValueError, "real numbers"),
        ([[[None]]], TypeError, "objects"),
    ],
)
def test_bad_recordings_are_named(records, error, message):
    with pytest.raises(error, match=message):
        pad_or_crop(records)
