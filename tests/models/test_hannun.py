"""HannunNet against its published counts, its layer list written out by hand, and the rules from steps to one label."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skecg.models import HannunNet
from tests.networks import lived_in, map_of, n_parameters, norm


@pytest.mark.parametrize("width, count", [(4, 165_108), (8, 656_864), (16, 2_620_344), (32, 10_467_176)])
def test_published_number_of_parameters_by_width(seeded, width, count):
    assert n_parameters(HannunNet(width=width)) == count


@pytest.mark.parametrize("n_leads, n_outputs, count", [(1, 4, 10_466_148), (12, 8, 10_472_808)])
def test_published_number_of_parameters_by_leads_and_outputs(seeded, n_leads, n_outputs, count):
    assert n_parameters(HannunNet(n_leads, 720, n_outputs)) == count


def test_defaults_are_the_papers(seeded):
    net = HannunNet()
    convs = [m for m in net.modules() if isinstance(m, nn.Conv1d)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(convs) == 33 and {m.kernel_size for m in convs} == {(16,)} and all(m.bias is not None for m in convs)
    assert sum(m.running_mean.numel() + m.running_var.numel() for m in norms) == 7_744
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.2] * 16
    blocks = [n_parameters(block) for block in net.blocks]
    table = [32_896, *[32_960] * 3, 98_624, *[131_456] * 3, 393_856, *[525_056] * 3, 1_574_144, *[2_098_688] * 3]
    assert blocks == table
    assert n_parameters(net.stem) == 608 and n_parameters(net.dense) == 2_056
    activations = [m for m in net.modules() if isinstance(m, nn.ReLU)]
    assert len(activations) == 1 + 1 + 15 * 2 + 1  # none is shared: hooks on one see one place


def test_biases_start_at_zero_and_the_dense_layer_after_glorot(seeded):
    net = HannunNet(width=8)
    assert all((m.bias == 0).all() for m in net.modules() if isinstance(m, nn.Conv1d | nn.Linear))
    limit = math.sqrt(6 / (64 + 8))
    assert 0.9 * limit < net.dense.weight.abs().max() <= limit


# --- the layer list ---------------------------------------------------------------------------------------------------


def reference_steps(net, x):
    """Run the published layers by hand; a stride of 2 is every second output of the same convolution at stride 1."""
    order = [m for m in net.modules() if isinstance(m, nn.Conv1d | nn.BatchNorm1d)]
    convs = iter([m for m in order if isinstance(m, nn.Conv1d)])
    norms = iter([m for m in order if isinstance(m, nn.BatchNorm1d)])

    def conv(h):
        layer = next(convs)
        return F.conv1d(F.pad(h, (7, 8)), layer.weight, layer.bias)

    def active(h):
        return norm(next(norms), h).clamp(min=0)

    def largest_of_pairs(h):
        even = h[..., : h.shape[-1] // 2 * 2].unflatten(-1, (-1, 2)).amax(-1)
        return torch.cat([even, h[..., -1:]], -1) if h.shape[-1] % 2 else even

    h = active(conv(x))
    for i in range(16):
        shortcut = largest_of_pairs(h) if i % 2 else h
        inner = conv(h if i == 0 else active(h))
        inner = conv(active(inner[..., ::2] if i % 2 else inner))
        missing = inner.shape[1] - shortcut.shape[1]
        assert (missing > 0) == (i in (4, 8, 12))
        zeros = torch.zeros(len(x), missing, shortcut.shape[-1], dtype=x.dtype)
        h = inner + torch.cat([shortcut, zeros], 1)
    return torch.einsum("nct,kc->nkt", active(h), net.dense.weight) + net.dense.bias[:, None]


# at 512 and 768 floor and ceil agree, which is where the authors' network runs
@pytest.mark.parametrize("n_leads, n_timesteps, n_steps", [(1, 768, 3), (3, 512, 2), (1, 720, 3), (2, 301, 2)])
def test_steps_are_the_published_layer_list(seeded, n_leads, n_timesteps, n_steps):
    net = lived_in(HannunNet(n_leads, n_timesteps, 5, width=1, reduce="none")).double()
    x = torch.randn(4, n_leads, n_timesteps, dtype=torch.float64)
    with torch.no_grad():
        got, want = net(x), reference_steps(net, x)
    assert got.shape == (4, 5, n_steps)
    assert torch.allclose(got, want, rtol=1e-10, atol=1e-10)
    assert want.std() > 1e-3


# --- from steps to one label ------------------------------------------------------------------------------------------


def with_reduce(reduce, n_timesteps=1000, n_outputs=4):
    torch.manual_seed(3)
    return lived_in(HannunNet(1, n_timesteps, n_outputs, width=2, reduce=reduce)).double()


def test_rules_from_steps_to_a_label(seeded):
    x = 0.05 * torch.randn(6, 1, 1000, dtype=torch.float64)
    with torch.no_grad():
        steps, mean, log = (with_reduce(reduce)(x) for reduce in ("none", "mean", "logmeanexp"))
        votes = with_reduce("mean").vote(x)
    assert steps.shape == (6, 4, 4)
    assert torch.allclose(mean, steps.mean(-1), rtol=1e-9, atol=1e-10)
    assert torch.allclose(log.softmax(1), steps.softmax(1).mean(-1), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(log.softmax(1), mean.softmax(1), atol=1e-4)
    want = [np.bincount(row, minlength=4).argmax() for row in steps.argmax(1).numpy()]  # of equal counts the lowest
    assert votes.tolist() == want and votes.dtype is torch.int64


@pytest.mark.parametrize("n_timesteps", [1, 256])
def test_at_one_step_all_rules_are_one(seeded, n_timesteps):
    x = torch.randn(3, 1, n_timesteps, dtype=torch.float64)
    with torch.no_grad():
        steps, mean, log = (with_reduce(reduce)(x) for reduce in ("none", "mean", "logmeanexp"))
        votes = with_reduce("mean").vote(x)
    assert torch.allclose(mean, steps[..., 0], rtol=1e-10) and torch.allclose(log, steps[..., 0], rtol=1e-10)
    assert torch.equal(votes, mean.argmax(1))


def test_logits_of_mean_probabilities_do_not_overflow(seeded):
    net, x = with_reduce("logmeanexp"), 1e4 * torch.randn(2, 1, 1000, dtype=torch.float64)
    with torch.no_grad():
        assert torch.isfinite(net(x)).all()


# --- lengths and Grad-CAM ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_timesteps", [1, 2, 63, 255, 256, 257, 720, 1000])
def test_any_length_from_one_sample_on(seeded, n_timesteps):
    net, x = HannunNet(1, n_timesteps, 3, width=1), torch.randn(2, 1, n_timesteps)
    net(x).sum().backward()  # in training too, where batch norm needs more than one value a channel
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
    with torch.no_grad():
        assert net.eval()(x).shape == (2, 3) and torch.isfinite(net(x)).all()


def test_the_same_weights_serve_other_lengths(seeded):
    net, longer = lived_in(HannunNet(1, 720, 3, width=1)), HannunNet(1, 5000, 3, width=1).eval()
    longer.load_state_dict(net.state_dict())
    x = torch.randn(2, 1, 1000)
    with torch.no_grad():
        assert torch.equal(net(x), longer(x))


@pytest.mark.parametrize(
    "n_timesteps, layer, channels, length",
    [
        (720, "blocks.8.pre.1", 64, 45),
        (768, "blocks.8.pre.1", 64, 48),
        (3840, "blocks.8.pre.1", 64, 240),
        (3841, "final_act", 256, 16),
        (9000, "final_act", 256, 36),
    ],
)
def test_cam_layer_goes_by_the_length(seeded, n_timesteps, layer, channels, length):
    net = HannunNet(1, n_timesteps, 3, width=2).eval()
    assert net.cam_layer == layer and isinstance(net.get_submodule(layer), nn.ReLU)
    maps, _ = map_of(net, layer, torch.randn(1, 1, n_timesteps))
    assert maps.shape == (1, channels * 2 // 32, length)
    assert len(net.cam_positions(layer, n_timesteps)) == length


@pytest.mark.parametrize("n_timesteps", [1, 300, 720])
def test_positions_are_as_many_as_the_map_has(seeded, n_timesteps):
    net = HannunNet(1, n_timesteps, 3, width=1).eval()
    x = torch.randn(1, 1, n_timesteps)
    names = [name for name, _ in net.named_modules() if name not in ("", "blocks", "dense")]
    assert len(names) > 100
    maps, handles = {}, []
    for name in names:
        part = net.get_submodule(name)
        handles.append(part.register_forward_hook(lambda m, i, o, name=name: maps.update({name: o.shape[-1]})))
    net(x)
    assert set(maps) == set(names)
    for name, length in maps.items():
        assert len(net.cam_positions(name, n_timesteps)) == length, name


def test_positions_are_the_middle_of_what_was_pooled(seeded):
    net = HannunNet(1, 720, 3, width=1)
    assert net.cam_positions("stem", 3).tolist() == [0, 1, 2]
    assert net.cam_positions("blocks.1", 4).tolist() == [0.5, 2.5]  # samples 0 and 1, 2 and 3
    assert net.cam_positions("blocks.8.pre.1", 720)[[0, -1]].tolist() == [7.5, 711.5]
    assert net.cam_positions("final_act", 720).tolist() == [127.5, 383.5, 639.5]


@pytest.mark.parametrize("layer", ["dense", "blocks", "blocks.16", "blocks.0.pre.1", "nothing", ""])
def test_a_layer_without_time_is_refused_with_one_that_has(seeded, layer):
    with pytest.raises(ValueError, match=r"(?s)time.*blocks\.8\.pre\.1"):
        HannunNet(1, 720, 3, width=1).cam_positions(layer, 720)


def test_plain_cam_is_grad_cam_times_the_steps(seeded):
    net = lived_in(HannunNet(2, 5000, 4, width=2)).double()
    maps, logits = map_of(net, "final_act", torch.randn(3, 2, 5000, dtype=torch.float64))
    target = torch.tensor([0, 3, 1])
    (gradient,) = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), maps)
    grad_cam = (gradient.mean(-1, keepdim=True) * maps).sum(1)
    plain_cam = torch.einsum("nk,nkt->nt", net.dense.weight[target], maps)
    assert maps.shape[-1] == 20
    assert torch.allclose(plain_cam, 20 * grad_cam, rtol=1e-10, atol=1e-12) and plain_cam.std() > 1e-3


# --- manners ----------------------------------------------------------------------------------------------------------


def test_dropout_acts_in_training_alone(seeded):
    net, x = HannunNet(1, 300, 3, width=1, dropout=0.5), torch.randn(4, 1, 300)
    with torch.no_grad():
        assert not torch.equal(net(x), net(x))
        net.eval()
        before = torch.get_rng_state()
        assert torch.equal(net(x), net(x)) and torch.equal(before, torch.get_rng_state())


def test_momentum_reaches_every_batch_norm(seeded):
    net = HannunNet(1, 300, 3, width=1, momentum=0.1)
    assert {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm1d)} == {0.1}


def test_flat_input_has_a_finite_gradient(seeded):
    net, x = lived_in(HannunNet(1, 720, 3, width=1)), torch.zeros(2, 1, 720, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x).sum(), x)
    assert torch.isfinite(gradient).all()


def test_copies_and_pickles_are_the_same_network(seeded):
    net, x = lived_in(HannunNet(12, 400, 3, width=1)), torch.randn(2, 12, 400)
    other = HannunNet(12, 400, 3, width=1).eval()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        want = net(x)
        assert all(torch.equal(n(x), want) for n in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), other))


def test_a_window_does_not_depend_on_its_companions_and_is_left_alone(seeded):
    net, x = lived_in(HannunNet(1, 720, 3, width=1)).double(), torch.randn(3, 1, 720, dtype=torch.float64)
    before = x.clone()
    with torch.no_grad():
        assert torch.allclose(net(x)[1:2], net(x[1:2]), rtol=1e-10, atol=1e-12)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "bad",
    [
        *[{name: value} for name in ("n_leads", "n_timesteps", "n_outputs", "width", "kernel") for value in (0, 1.5)],
        {"dropout": 1.0},
        {"momentum": 0.0},
        {"reduce": "vote"},
    ],
    ids=str,
)
def test_bad_parameters_are_named(seeded, bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        HannunNet(**{"width": 1, **bad})


@pytest.mark.parametrize("shape", [(2, 720), (2, 2, 720), (2, 1, 0)])
def test_input_of_another_shape_is_refused(seeded, shape):
    with pytest.raises(ValueError, match=r"n_samples, 1, n_timesteps"):
        HannunNet(width=1)(torch.zeros(shape))
