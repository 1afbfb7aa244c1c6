"""The rebuilt twin: the same function as the network's, and left alone where a rebuilt one could not be."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from torch import nn

from skecg import ECGClassifier, ECGNet, ECGScaler, GradCAM1D
from skecg.explain._fast import speed_up
from skecg.utils._twin import private_twin


@pytest.fixture(scope="module")
def net():
    """Return an ECGNet whose batch norms do something."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        net = ECGNet(2, 720, 3, width=1)
        for part in net.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.weight.uniform_(0.5, 2), part.bias.normal_()
                part.running_mean.normal_(), part.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.mark.parametrize("length", [1, 100, 256, 300, 511, 512, 720, 767, 1024])
def test_logits_and_input_gradients_are_the_networks(net, length):
    twin = private_twin(net)
    speed_up(twin, "cpu")
    assert not any(isinstance(part, nn.Conv1d | nn.BatchNorm1d | nn.MaxPool1d) for part in twin.modules())
    x = torch.randn(3, 2, length, generator=torch.Generator().manual_seed(length)).requires_grad_()
    for part in (lambda module: module(x), lambda module: torch.autograd.grad(module(x)[:, 1].sum(), x)[0]):
        want, got = part(net), part(twin)
        assert torch.allclose(want, got, rtol=1e-4, atol=1e-5 * float(want.abs().max()))
    with torch.no_grad():
        assert torch.allclose(net(x), twin(x), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_tie_goes_where_torchs_pooling_sends_it(net):
    twin = private_twin(net)
    speed_up(twin, "cpu")
    x = torch.ones(2, 4, 8, requires_grad=True)
    want = torch.autograd.grad(nn.MaxPool1d(2)(x).sum(), x)[0]
    assert torch.equal(torch.autograd.grad(twin.cnn.blocks[0].shortcut(x).sum(), x)[0], want)


def test_what_a_rebuilt_network_would_lose_is_left_alone(seeded, net):
    class Other(ECGNet):
        """A subclass, which may have a forward method of its own."""

    hooked, weighted = copy.deepcopy(net), copy.deepcopy(net)
    hooked.cnn.blocks[0].body[0].register_forward_hook(lambda module, args, out: 0 * out)
    nn.utils.parametrizations.weight_norm(weighted.cnn.blocks[3].body[3])
    sub = Other(2, 720, 3, width=1).eval()
    x = torch.randn(3, 2, 720, generator=torch.Generator().manual_seed(0))
    for module in (hooked, weighted, sub):
        clf = ECGClassifier.from_module(module, ["A", "B", "C"], n_leads=2, n_timesteps=720)
        out = GradCAM1D(clf, method="gradcam").explain(x.numpy(), target="B")
        with torch.no_grad():
            assert np.allclose(out.score, module(x)[:, 1], rtol=1e-5, atol=1e-6)


def test_a_fitted_estimator_gives_names_without_fit(seeded):
    clf = ECGClassifier.from_module(ECGNet(1, 30, 2, width=1), ["A", "B"], n_leads=1, n_timesteps=30)
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(4, 30)), columns=[f"s{i}" for i in range(30)])
    whole = make_pipeline(ECGScaler().fit(X), clf)
    names = [f"s{i}" for i in range(30)]
    for estimator in (whole, FrozenEstimator(whole)):
        explainer = GradCAM1D(estimator, method="gradcam").set_output(transform="pandas")
        assert list(explainer.get_feature_names_out()) == names
        assert list(explainer.transform(X).columns) == names
    assert len(GradCAM1D(clf, method="gradcam").get_feature_names_out()) == 30
