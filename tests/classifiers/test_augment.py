"""Augmentations against a loop over samples, closed forms, and in training."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.stats import norm

from skecg.classifiers import AugmentChain, DropoutBursts, ECGClassifier, RandomShift, RandomStretch
from tests.tiny import FAST, TinyNet, toy_ecg

ALL = [
    RandomShift(0.1, fs=100),
    RandomShift(0.1, fs=100, fill="zero"),
    RandomShift(0.1, fs=100, fill="wrap"),
    DropoutBursts(),
    RandomStretch(),
    RandomStretch(anchor="start"),
    AugmentChain(RandomShift(0.1, fs=100), DropoutBursts()),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("augment", ALL, ids=repr)
def test_shape_seed_and_input(augment):
    x = torch.randn(5, 2, 60, generator=generator(1))
    before = x.clone()
    out = augment(x, generator())
    assert out.shape == x.shape and out.dtype == x.dtype and torch.isfinite(out).all()
    assert torch.equal(x, before)
    assert torch.equal(out, augment(x, generator())) and not torch.equal(out, augment(x, generator(7)))
    assert repr(copy.deepcopy(augment)) == repr(pickle.loads(pickle.dumps(augment))) == repr(augment)


@pytest.mark.parametrize("augment", ALL, ids=repr)
def test_global_generators_are_left_alone(augment):
    state = torch.get_rng_state()
    augment(torch.ones(2, 1, 30), generator())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("fill", ["edge", "zero", "wrap"])
def test_shift_moves_every_sample_by_one_number(fill):
    x = torch.arange(1.0, 21.0).repeat(200, 2, 1)
    out = RandomShift(0.05, fs=100, fill=fill)(x, generator()).numpy()
    seen = set()
    for window in out:
        assert np.array_equal(window[0], window[1])
        found = []
        for s in range(-5, 6):
            want = np.roll(np.arange(1.0, 21.0), s)
            if fill != "wrap" and s > 0:
                want[:s] = 1.0 if fill == "edge" else 0.0
            elif fill != "wrap" and s < 0:
                want[s:] = 20.0 if fill == "edge" else 0.0
            if np.array_equal(window[0], want):
                found.append(s)
        assert len(found) == 1
        seen.add(found[0])
    assert seen == set(range(-5, 6))


def test_no_shift_is_no_change():
    x = torch.randn(3, 1, 10, generator=generator())
    assert torch.equal(RandomShift(0.0, fs=360)(x, generator()), x)


@pytest.mark.parametrize("threshold, length", [(2.0, 10), (1.0, 0), (2.5, 3)])
def test_bursts_lose_the_share_that_the_normal_tail_gives(threshold, length):
    out = DropoutBursts(threshold, length)(torch.ones(40, 2, 5000), generator()).numpy()
    assert np.array_equal(out[:, 0], out[:, 1])
    share = 1 - (1 - norm.sf(threshold)) ** (length + 1)
    assert (out[:, :, 100:] == 0).mean() == pytest.approx(share, rel=0.05)
    # every burst is at least length + 1 long, unless the window ends
    zero = np.concatenate([out[:, 0] == 0, np.zeros((40, 1), bool)], axis=1).astype(int)
    for row in zero:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row])))
        starts, stops = edges[::2], edges[1::2]
        assert all(b - a > length or b == 5000 for a, b in zip(starts, stops, strict=True))


@pytest.mark.parametrize("anchor", ["centre", "start"])
def test_stretch_by_a_known_factor(anchor):
    t = np.arange(101.0)
    x = torch.from_numpy(np.stack([t, -2 * t])[None].astype(np.float32))
    out = RandomStretch(2.0, 2.0, anchor=anchor)(x, generator())[0].numpy()
    fixed = 50.0 if anchor == "centre" else 0.0
    want = (t - fixed) / 2 + fixed
    np.testing.assert_allclose(out, np.stack([want, -2 * want]), rtol=1e-6)


def test_squeezed_windows_are_filled_with_zeros():
    x = torch.ones(1, 1, 101)
    out = RandomStretch(0.5, 0.5)(x, generator())[0, 0].numpy()
    assert out[25:76].all() and not out[:25].any() and not out[76:].any()


def test_stretch_keeps_a_beat_in_the_middle():
    x = torch.zeros(50, 1, 101)
    x[:, :, 50] = 1
    out = RandomStretch()(x, generator())
    assert (out.argmax(-1) == 50).all()


def test_chain_runs_in_order():
    double, add = (lambda x, g: 2 * x), (lambda x, g: x + 1)
    x = torch.ones(1, 1, 3)
    assert torch.equal(AugmentChain(double, add)(x, generator()), 3 * x)
    assert torch.equal(AugmentChain(add, double)(x, generator()), 4 * x)


@pytest.mark.parametrize("augment", ALL, ids=repr)
def test_in_training(augment):
    X, y = toy_ecg(n_leads=2)[:2]
    proba = []
    for a in (augment, augment, None):
        clf = ECGClassifier(TinyNet, **{**FAST, "augment": a, "max_epochs": 1}).fit(X, y)
        proba.append(clf.predict_proba(X))
    assert np.array_equal(proba[0], proba[1]) and not np.array_equal(proba[0], proba[2])


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: RandomShift(-1, fs=360), "max_shift"),
        (lambda: RandomShift(1, fs=0), "fs"),
        (lambda: RandomShift(1, fs=360, fill="mirror"), "fill"),
        (lambda: DropoutBursts(float("nan")), "threshold"),
        (lambda: DropoutBursts(2, -1), "length"),
        (lambda: RandomStretch(0, 1), "low"),
        (lambda: RandomStretch(1.2, 1.1), "high"),
        (lambda: RandomStretch(anchor="end"), "anchor"),
        (lambda: AugmentChain(), "callables"),
        (lambda: AugmentChain("shift"), "callables"),
    ],
)
def test_bad_settings(make, said):
    with pytest.raises(ValueError, match=said):
        make()
