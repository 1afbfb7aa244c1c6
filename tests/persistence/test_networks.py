"""Networks read off their instances, and built again within the bounds of a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from skecg.models import ECGLSTM, HannunNet, ResNet1d, RibeiroNet
from skecg.persistence import _networks
from skecg.persistence._networks import build_network, check_network, reference_logits, settings_of
from tests.tiny import TinyNet, same_snapshot, snapshot

SIZES = {"n_leads": 1, "n_timesteps": 64, "n_outputs": 2}


def weights_of(net):
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


def changed_momentum(net):
    net.bn1.momentum = 0.5


def other_activation(net):
    net.relu = nn.ELU()


def a_hook(net):
    net.lin.register_forward_hook(lambda part, given, out: 2 * out)


def another_layer(net):
    net.more = nn.Linear(2, 2)


def wider_head(net):
    net.lin = nn.Linear(net.lin.in_features, 7)


def another_attribute(net):
    net.variant = "keras"


@pytest.mark.parametrize(
    "change", [changed_momentum, other_activation, a_hook, another_layer, wider_head, another_attribute]
)
def test_a_changed_network_is_not_taken_for_the_published_one(seeded, change):
    net = RibeiroNet(**SIZES, width=1, variant="pytorch")
    assert settings_of(net)["variant"] == "pytorch"
    change(net)
    assert settings_of(net) is None


def test_only_networks_of_the_library_have_settings(seeded):
    class ECGNet(nn.Module):
        """Another network of a known name."""

    class Own(ECGLSTM):
        """A subclass."""

    assert [settings_of(net) for net in (ECGNet(), Own(**SIZES), TinyNet(1, 64, 2))] == [None] * 3
    before = torch.get_default_dtype()
    net = ECGLSTM(**SIZES)
    torch.set_default_dtype(torch.float64)
    try:
        assert settings_of(net)["width"] == 40
    finally:
        torch.set_default_dtype(before)


def test_built_again(seeded):
    net = HannunNet(**SIZES, width=1).eval()
    again = build_network("HannunNet", settings_of(net), weights_of(net)).eval()
    assert str(again) == str(net)
    x = torch.randn(2, 1, 64)
    assert torch.equal(again(x), net(x))


def test_weights_must_fit_by_name_shape_and_type(seeded):
    net = ECGLSTM(**SIZES, width=2)
    settings, weights = settings_of(net), weights_of(net)
    check_network("ECGLSTM", settings, weights)
    bias = weights["dense.bias"]
    for other in (bias.astype(np.float64), bias.astype(np.float16), bias[:1], bias[None], None):
        with pytest.raises(ValueError, match=r"dense\.bias of ECGLSTM is float32 \(2,\); the file has"):
            check_network("ECGLSTM", settings, {**weights, "dense.bias": other})
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"dense\.bias of ECGLSTM has NaN or infinite weights"):
            build_network("ECGLSTM", settings, {**weights, "dense.bias": np.full_like(bias, value)})


def test_a_network_of_a_million_channels_takes_no_memory(seeded, monkeypatch):
    net = ResNet1d(**SIZES, width=1, depth=10)
    weights = weights_of(net)
    monkeypatch.setattr(nn.Module, "load_state_dict", None)  # never reached
    for settings in ({"width": 2**20}, {"kernel": 2**20 - 1}, {"n_outputs": 2**39}, {"n_leads": 2**39}):
        with pytest.raises(ValueError, match="another network"):
            build_network("ResNet1d", {**SIZES, "width": 1, "depth": 10, **settings}, weights)
    for settings in ({"width": 2**40}, {"kernel": 2**21}, {"depth": -(2**30)}):
        with pytest.raises(ValueError, match="ResNet1d has settings beyond 1048576"):
            build_network("ResNet1d", {**SIZES, **settings}, weights)
    with pytest.raises(ValueError, match="cannot be built from the settings"):
        build_network("ResNet1d", {**SIZES, "layers": 3}, weights)


def test_a_network_of_a_million_layers_is_given_up(seeded, monkeypatch):
    class Endless(nn.Module):
        """As many layers as a file asks for."""

        def __init__(self, n_layers):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(1, 1) for _ in range(n_layers)])

    monkeypatch.setitem(_networks.NETWORKS, "Endless", Endless)
    check_network("Endless", {"n_layers": 2}, weights_of(Endless(2)))
    with pytest.raises(ValueError, match="far more layers than the file has weights for"):
        check_network("Endless", {"n_layers": 10**6}, weights_of(Endless(2)))


def test_the_reference_runs_on_a_twin(seeded):
    net = RibeiroNet(**SIZES, width=1).train()
    net.lin.weight.requires_grad_(False)
    x = np.random.default_rng(0).standard_normal((1, 1, 64)).astype(np.float32)
    before = snapshot(net)
    logits = reference_logits(net, x)
    assert same_snapshot(before, snapshot(net)) and logits.dtype == np.float64
    with torch.no_grad():
        want = net.eval()(torch.from_numpy(x)).numpy()
    assert np.allclose(logits, want, rtol=1e-5, atol=1e-6)
