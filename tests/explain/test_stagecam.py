"""StageCAM, the default of GradCAM1D, against numbers worked out by hand and an independent computation by hooks."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from skecg.explain import GradCAM1D
from skecg.models import ECGNet, HannunNet, ResNet1d, ZihlmannCNN
from tests.explaining import around, close
from tests.networks import lived_in, settled

pytestmark = pytest.mark.usefixtures("seeded")


class Pooled(nn.Module):
    """Three maps of 8, 4 and 2 positions, each half the mean of neighbours of the one before, and a linear head."""

    cam_layer = "third"

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.AvgPool1d(2) for _ in range(3))
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.tensor([[1.0, 2.0], [1.0, -1.0]])

    def forward(self, x):
        return self.head(self.third(self.second(self.first(x)))[:, 0])


def test_by_hand():
    X = np.repeat([[8.0, 4.0, 0.0, 4.0, -2.0, 2.0, 6.0, 2.0]], 2, axis=-1).astype(np.float32)
    # maps of 8: x without its repeats; of 4: 6 2 0 4; of 2: 4 2. Logit A = 1 * 4 + 2 * 2, its gradient by the map of 2
    # is (1, 2), of 4 (1/2, 1/2, 1, 1), of 8 (1/4 four times, 1/2 four times)
    out = GradCAM1D(around(Pooled(), 16), smooth=0).explain(X, target="A")
    assert out.layers == ["first", "second", "third"] and np.allclose(out.cam, [[4, 4]])
    fine = np.array([2, 1, 0, 1, 1, 1, 3, 1]) / 3  # |gradient times map| of the map of 8, over its largest
    middle = np.array([3, 1, 0, 4]) / 4
    at = {n: (np.arange(n) + 0.5) * (16 / n) - 0.5 for n in (8, 4)}
    want = 4 * np.interp(np.arange(16), at[8], fine) / np.interp(np.arange(16), at[8], fine).max()
    want *= np.interp(np.arange(16), at[4], middle)
    assert np.allclose(out.relevance, want, atol=1e-6)
    # for B the second position speaks against the class: 4 and 0 are left of 4 and -2
    assert np.allclose(GradCAM1D(around(Pooled(), 16), smooth=0).explain(X, target="B").cam, [[4, 0]])


def running_mean(curve, width):
    """Return the mean of what lies within the window, sample by sample."""
    left = (width - 1) // 2
    return np.stack([curve[:, max(0, i - left) : i - left + width].mean(1) for i in range(curve.shape[1])], 1)


def by_hooks(net, layers, X, code, width):
    """Return StageCAM from plain hooks that keep the maps, without any of the library."""
    maps, x = {}, torch.from_numpy(X).requires_grad_(True)
    handles = [
        net.get_submodule(name).register_forward_hook(lambda m, given, out, name=name: maps.update({name: out}))
        for name in layers
    ]
    logits = net(x)
    for handle in handles:
        handle.remove()
    score = logits[torch.arange(len(X)), torch.from_numpy(code)].sum()
    gradients = torch.autograd.grad(score, [maps[name] for name in layers])
    total = 1.0
    for name, gradient in zip(layers, gradients, strict=True):
        parts = (maps[name] * gradient).detach().double().numpy()
        last = name == layers[-1]
        curve = (np.maximum(parts, 0) if last else np.abs(parts)).sum(1)
        n, size = curve.shape[-1], X.shape[-1]
        at = net.cam_positions(name, size) if hasattr(net, "cam_positions") else (np.arange(n) + 0.5) * size / n - 0.5
        wide = running_mean(np.stack([np.interp(np.arange(size), at, row) for row in curve]), width)
        total = total * (wide if last else wide / wide.max(1, keepdims=True))
    return total


@pytest.mark.parametrize("make", [lambda: ResNet1d(2, 640, 2, width=2), lambda: ECGNet(2, 512, 2, width=1)])
def test_against_plain_hooks(make, rng):
    X, code = rng.normal(size=(5, 2, 512)).astype(np.float32), np.array([0, 1, 1, 0, 1])
    net = settled(make(), torch.from_numpy(X))
    out = GradCAM1D(around(net, 512, n_leads=2, fs=128.0)).explain(X, target=np.array(["A", "B"])[code])
    assert len(out.layers) == 3 and out.layers[-1] == net.cam_layer and out.relevance_kind == "cam"
    want = by_hooks(net, out.layers, X, code, 32)
    assert want.std() > 0 and np.array_equal(out.relevance[:, 0], out.relevance[:, 1])
    assert close(out.relevance[:, 0], want.astype(np.float32), rtol=1e-4)
    named = GradCAM1D(around(net, 512, n_leads=2, fs=128.0), layer=out.layers[::-1])
    assert np.array_equal(named.explain(X, target=np.array(["A", "B"])[code]).relevance, out.relevance)


def test_one_stage_alone_is_its_positive_part(rng):
    net, X = lived_in(ZihlmannCNN(1, 720, 2, width=1)), rng.normal(size=(2, 1, 720))
    clf = around(net, 720, fs=360.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = GradCAM1D(clf, smooth=0).explain(X.astype(np.float32), target="A")
    assert out.layers == [net.cam_layer] and out.relevance.min() >= 0


def test_a_last_stage_may_be_named_and_the_stages_before_it_are_found(rng):
    net = HannunNet(1, 720, 2, width=1)
    clf = around(lived_in(net), 720, fs=360.0)
    X = rng.normal(size=(2, 1, 720)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert GradCAM1D(clf, layer="blocks.6").explain(X).layers == ["blocks.2", "blocks.4", "blocks.6"]
        assert GradCAM1D(clf, layer=["blocks.6"]).explain(X).layers == ["blocks.6"]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"layer": ["first", "third"], "method": "gradcam"}, r"reads one layer, and layer names 2.*method='stagecam'"),
        ({"layer": []}, "empty list"),
        ({"layer": ["first", "first"]}, "twice"),
        ({"layer": ["first", "fourth"]}, r"'fourth' is not in Pooled; it has \['first'"),
        ({"smooth": -1.0}, r"smooth.*\(s\)"),
        ({}, r"smooth of GradCAM1D needs the sampling rate.*fs"),
    ],
)
def test_errors_say_what_to_do(settings, message):
    with pytest.raises(ValueError, match=message):
        GradCAM1D(around(Pooled(), 16), **settings).explain(np.ones((1, 16), dtype=np.float32))
