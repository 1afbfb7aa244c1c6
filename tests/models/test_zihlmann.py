"""ZihlmannCNN and ZihlmannCRNN: published counts, layers written out by hand, lengths, and the places of their maps."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import spectrogram
from torch import nn

from skecg.models import ZihlmannCNN, ZihlmannCRNN
from tests.networks import map_of, n_parameters, norm, settled

BOTH = pytest.mark.parametrize("Net", [ZihlmannCNN, ZihlmannCRNN])


@pytest.mark.parametrize(
    "Net, width, count",
    [
        (ZihlmannCNN, 4, 155_012),
        (ZihlmannCNN, 8, 617_216),
        (ZihlmannCNN, 16, 2_463_224),
        (ZihlmannCNN, 32, 9_841_640),
        (ZihlmannCRNN, 4, 88_764),
        (ZihlmannCRNN, 8, 354_744),
        (ZihlmannCRNN, 16, 1_412_280),
        (ZihlmannCRNN, 32, 5_635_752),
    ],
)
def test_published_number_of_parameters_by_width(seeded, Net, width, count):
    assert n_parameters(Net(width=width)) == count


@pytest.mark.parametrize("Net, count", [(ZihlmannCNN, 9_840_740), (ZihlmannCRNN, 5_634_948)])
def test_published_number_of_parameters_at_four_outputs(seeded, Net, count):
    assert n_parameters(Net(n_outputs=4)) == count


@pytest.mark.parametrize(
    "Net, statistics, depth, blocks",
    [
        (ZihlmannCNN, 5_760, 4, [103_680, 461_664, 999_648, 1_742_432, 2_690_016, 3_842_400]),
        (ZihlmannCRNN, 4_096, 6, [155_072, 666_848, 1_461_024, 2_562_400]),
    ],
)
def test_defaults_are_the_papers(seeded, Net, statistics, depth, blocks):
    net = Net()
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convs) == 24 and {m.kernel_size for m in convs} == {(5, 5)}
    assert [m.stride for m in convs] == ([(1, 1)] * (depth - 1) + [(2, 2)]) * len(blocks)
    assert [n_parameters(block) for block in net.blocks] == blocks
    assert sum(m.running_mean.numel() + m.running_var.numel() for m in norms) == statistics
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}
    assert {m.p for m in net.modules() if isinstance(m, nn.Dropout)} == {0.15}
    assert sum(isinstance(m, nn.ReLU) for m in net.modules()) == 24  # none is shared
    assert all((m.bias == 0).all() for m in [*convs, net.dense])


def test_recurrent_part_is_two_stacks_apart(seeded):
    net = ZihlmannCRNN()
    stacks = [m for m in net.modules() if isinstance(m, nn.LSTM)]
    assert [(m.input_size, m.hidden_size, m.num_layers, m.bidirectional) for m in stacks] == [(480, 100, 3, False)] * 2
    assert sum(map(n_parameters, stacks)) == 788_800 and {m.dropout for m in stacks} == {0.15}
    for stack in stacks:
        for layer in range(3):
            bias = getattr(stack, f"bias_ih_l{layer}") + getattr(stack, f"bias_hh_l{layer}")
            assert torch.equal(bias.view(4, 100).mean(1), torch.tensor([0.0, 1.0, 0.0, 0.0]))  # torch: i, f, g, o


# --- the layer list ---------------------------------------------------------------------------------------------------


def by_hand(net, x):
    """Run the published layers: scipy's spectrogram, padded convolutions, the means of LSTMs layer by layer."""
    power = np.swapaxes(spectrogram(1000 * x.numpy(), fs=300, nperseg=64, noverlap=32)[2], -1, -2)
    h = torch.from_numpy(np.log(np.maximum(power, 1e-3)))
    for block in net.blocks:
        for i, (conv, bn, _) in enumerate(block.layers):
            stride = 2 if i == len(block.layers) - 1 else 1
            # of an even length with stride 2 one row of zeros before and two behind, else two and two
            pads = [(1, 2) if stride == 2 and length % 2 == 0 else (2, 2) for length in h.shape[2:]]
            h = norm(bn, F.conv2d(F.pad(h, (*pads[1], *pads[0])), conv.weight, conv.bias, stride)).relu()
    # a step's features: frequency by frequency, channels fastest
    steps = torch.cat([h[:, :, :, f].transpose(1, 2) for f in range(h.shape[3])], 2)
    if isinstance(net, ZihlmannCRNN):
        means = []
        for stack, read in ((net.lstm_backward, steps.flip(1)), (net.lstm_forward, steps)):
            for weights in stack.all_weights:
                one = nn.LSTM(read.shape[2], stack.hidden_size, batch_first=True).double()
                for own, given in zip(one.parameters(), weights, strict=True):
                    own.data = given.data
                read = one(read)[0]
            means.append(read.mean(1))
        return net.dense(torch.cat(means, 1))
    return net.dense(steps.mean(1))


@BOTH
@pytest.mark.parametrize("n_leads, n_timesteps", [(1, 720), (3, 1000), (1, 64)])
def test_forward_is_the_published_layer_list(seeded, Net, n_leads, n_timesteps):
    x = torch.randn(4, n_leads, n_timesteps, dtype=torch.float64)
    net = settled(Net(n_leads, n_timesteps, 5, width=2).double(), x)
    with torch.no_grad():
        got, want = net(x), by_hand(net, x)
    spread = want.std(0).max()
    assert spread > 1e-4 and (got - want).abs().max() < 1e-3 * spread  # the spectrogram's window is float32


def test_growth_and_hidden_are_free(seeded):
    net = ZihlmannCRNN(1, 720, 3, width=4, growth=2, hidden=7)
    assert [block.n_channels for block in net.blocks] == [6, 8, 10, 12]
    assert net.lstm_forward.hidden_size == 7 and net.dense.in_features == 14
    assert [block.n_channels for block in ZihlmannCNN(width=3).blocks] == [6, 9, 12, 15, 18, 21]


# --- lengths ----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("n_timesteps", [1, 31, 63, 64, 65, 95, 96, 720, 1000])
def test_any_length_from_one_sample_on(seeded, Net, n_timesteps):
    net, x = Net(1, n_timesteps, 3, width=1), torch.randn(2, 1, n_timesteps)
    net(x).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
    with torch.no_grad():
        assert net.eval()(x).shape == (2, 3) and torch.isfinite(net(x)).all()


@BOTH
def test_short_windows_are_padded_with_zeros_at_the_right(seeded, Net):
    x = torch.randn(3, 2, 40)
    net = settled(Net(2, 40, 3, width=1), x)
    assert net.min_timesteps == 64
    with torch.no_grad():
        assert torch.equal(net(x), net(F.pad(x, (0, 24))))


@BOTH
def test_the_same_weights_serve_other_lengths(seeded, Net):
    x = torch.randn(2, 1, 1000)
    net, longer = settled(Net(1, 720, 3, width=1), x), Net(1, 9000, 3, width=1).eval()
    longer.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(net(x), longer(x))


@BOTH
@pytest.mark.parametrize("behind", [0.0, 7.0, float("nan")])
def test_padded_records_are_answered_as_if_alone(seeded, Net, behind):
    lengths = torch.tensor([1000, 999, 720, 700, 400, 97, 96, 64, 20, 1])  # frames of either parity at every stride
    x = torch.randn(len(lengths), 2, 1000, dtype=torch.float64)
    net = settled(Net(2, 1000, 3, width=2).double(), x)
    for row, length in zip(x, lengths, strict=True):
        row[:, length:] = behind
    for n_timesteps in (1000, 1032):  # 30 and 31 frames
        with torch.no_grad():
            got = net(F.pad(x, (0, n_timesteps - 1000)), lengths)
            want = torch.cat([net(x[i : i + 1, :, :length]) for i, length in enumerate(lengths)])
        assert torch.allclose(got, want, rtol=1e-10, atol=1e-10)
    assert want.std(0).min() > 1e-5


@BOTH
def test_whole_lengths_change_nothing_and_reach_no_gradient(seeded, Net):
    x = torch.randn(2, 1, 720, dtype=torch.float64)
    net = settled(Net(1, 720, 3, width=2).double(), x)
    with torch.no_grad():
        assert torch.allclose(net(x, torch.tensor([720, 720])), net(x), rtol=1e-12, atol=1e-12)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(net(x, torch.tensor([300, 720])).sum(), x)
    assert not gradient[0, :, 300:].any() and gradient[0, :, :288].abs().max() > 0


@BOTH
def test_padded_records_can_be_trained_on(seeded, Net):
    net = Net(1, 720, 3, width=1)
    net(torch.randn(3, 1, 720), torch.tensor([720, 300, 64])).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("lengths", [[720], [0, 720], [720, 721], [1.5, 2.0], [True, True], [[1, 2]]], ids=str)
def test_bad_lengths_are_refused(seeded, lengths):
    with pytest.raises(ValueError, match=r"lengths must be one integer from 1 to n_timesteps = 720"):
        ZihlmannCNN(1, 720, 3, width=1)(torch.zeros(2, 1, 720), torch.tensor(lengths))


# --- Grad-CAM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "Net, n_timesteps, layer, shape",
    [
        (ZihlmannCNN, 720, "blocks.1.layers.2.2", (64, 11, 17)),
        (ZihlmannCRNN, 720, "blocks.1.layers.4.2", (64, 11, 17)),
        (ZihlmannCNN, 9000, "blocks.4.layers.2.2", (160, 18, 3)),
        (ZihlmannCRNN, 9000, "blocks.3.layers.5.2", (160, 18, 3)),
        (ZihlmannCNN, 352, "blocks.0.layers.2.2", (32, 10, 33)),
        (ZihlmannCRNN, 64, "blocks.0.layers.4.2", (32, 1, 33)),
    ],
)
def test_cam_layer_is_the_deepest_with_ten_steps(seeded, Net, n_timesteps, layer, shape):
    net = Net(1, n_timesteps, 3, width=2).eval()
    assert net.cam_layer == layer and isinstance(net.get_submodule(layer), nn.ReLU)
    maps, _ = map_of(net, layer, torch.randn(1, 1, n_timesteps))
    assert maps.shape == (1, shape[0] // 16, *shape[1:])


def test_published_maps_at_720_samples(seeded):
    for net in (ZihlmannCNN(width=1).eval(), ZihlmannCRNN(width=1).eval()):
        shapes = []
        for block in net.blocks:
            block.register_forward_hook(lambda m, i, o, shapes=shapes: shapes.append(tuple(o.shape[2:])))
        with torch.no_grad():
            net(torch.zeros(1, 1, 720))
        assert shapes == [(11, 17), (6, 9), (3, 5), (2, 3), (1, 2), (1, 1)][: len(net.blocks)]


@pytest.mark.parametrize("n_frames", [120, 121, 122, 123])
@pytest.mark.parametrize("layer", ["blocks.0.layers.2.2", "blocks.0", "blocks.1.layers.2.2", "blocks.1.layers.3.0"])
def test_positions_are_the_middle_of_what_a_step_sees(seeded, n_frames, layer):
    # With equal weights everywhere a step sees the frames around its centre symmetrically, if none is beyond the edge.
    n_timesteps = 64 + 32 * (n_frames - 1)
    net = ZihlmannCNN(1, n_timesteps, 3, width=1).eval().double()
    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.ones_(part.weight)
    frames = torch.rand(1, 1, n_frames, 33, dtype=torch.float64, requires_grad=True)
    net.spectrogram.forward = lambda x: frames
    maps, _ = map_of(net, layer, torch.zeros(1, 1, n_timesteps, dtype=torch.float64))
    positions = net.cam_positions(layer, n_timesteps)
    assert len(positions) == maps.shape[2] and positions.dtype == np.float64
    inner = range(len(positions) // 3, 2 * len(positions) // 3)
    for i in inner:
        (gradient,) = torch.autograd.grad(maps[0, :, i].sum(), frames, retain_graph=True)
        weight = gradient[0, 0].sum(1)
        assert weight[0] == weight[-1] == 0
        centre = (weight * torch.arange(n_frames)).sum() / weight.sum()
        assert positions[i] == pytest.approx(32 * centre.item() + 31.5, abs=1e-6)


@BOTH
def test_positions_are_as_many_as_the_map_has(seeded, Net):
    net = Net(1, 700, 3, width=1).eval()
    names = [name for name, _ in net.named_modules() if name.startswith(("blocks.", "spec")) and name[-7:] != ".layers"]
    maps = {}
    for name in names:
        part = net.get_submodule(name)
        part.register_forward_hook(lambda m, i, o, name=name: maps.update({name: o.shape[2]}))
    for n_timesteps in (700, 740, 5):
        net(torch.randn(1, 1, n_timesteps))
        assert set(maps) == set(names)
        for name, length in maps.items():
            assert len(net.cam_positions(name, n_timesteps)) == length, name


def test_positions_of_the_spectrogram_and_of_the_first_stride(seeded):
    net = ZihlmannCNN(width=1)
    assert net.cam_positions("spectrogram", 720)[[0, 1, -1]].tolist() == [31.5, 63.5, 671.5]
    assert net.cam_positions("blocks.0", 720)[[0, 1, -1]].tolist() == [31.5, 95.5, 671.5]  # of 21 frames 0, 2, ... 20
    # of 20 frames 1, 3, ... 19: the zeros of an even length stand at its end
    assert net.cam_positions("blocks.0", 703)[[0, 1, -1]].tolist() == [63.5, 127.5, 639.5]


@pytest.mark.parametrize("layer", ["lstm_forward", "lstm_backward", "lstm_drop", "dense", "blocks", "blocks.9", "no"])
def test_a_layer_without_map_is_refused_with_one_that_has(seeded, layer):
    with pytest.raises(ValueError, match=rf"(?s){layer}.*frequency.*blocks\.1\.layers\.4\.2"):
        ZihlmannCRNN(1, 720, 3, width=1).cam_positions(layer, 720)


def test_plain_cam_of_the_cnn_is_grad_cam_times_the_steps(seeded):
    x = torch.randn(2, 1, 9000, dtype=torch.float64)
    net = settled(ZihlmannCNN(1, 9000, 4, width=1).double(), x)
    maps, logits = map_of(net, "blocks.5.layers.3.2", x)
    assert maps.shape[2:] == (5, 1)
    target = torch.tensor([1, 3])
    (gradient,) = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), maps)
    grad_cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1)
    plain_cam = torch.einsum("nk,nktf->ntf", net.dense.weight[target], maps)
    assert torch.allclose(plain_cam, 5 * grad_cam, rtol=1e-10, atol=1e-12) and plain_cam.std() > 1e-4


# --- manners ----------------------------------------------------------------------------------------------------------


@BOTH
def test_dropout_acts_in_training_alone(seeded, Net):
    net, x = Net(1, 720, 3, width=2, dropout=0.5), torch.randn(4, 1, 720)
    with torch.no_grad():
        assert not torch.equal(net(x), net(x))
        net.eval()
        before = torch.get_rng_state()
        assert torch.equal(net(x), net(x)) and torch.equal(before, torch.get_rng_state())


def test_dropout_stands_behind_the_lstms_too(seeded):
    net, x = ZihlmannCRNN(1, 720, 3, width=2, dropout=0.0), torch.randn(4, 1, 720)
    with torch.no_grad():
        assert torch.equal(net.train()(x), net(x))
        net.lstm_drop.p = 0.5
        assert not torch.equal(net(x), net(x))


@BOTH
@pytest.mark.parametrize("floor", [1e-3, None])
def test_flat_input_has_a_finite_gradient(seeded, Net, floor):
    net = settled(Net(1, 720, 3, width=1, floor=floor), torch.randn(4, 1, 720))
    x = torch.zeros(2, 1, 720)
    x[1] = 0.3
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(net(x).sum(), x)
    assert torch.isfinite(gradient).all()
    assert floor is None or not gradient.any()


@BOTH
def test_copies_and_pickles_are_the_same_network(seeded, Net):
    x = torch.randn(2, 12, 400)
    net = settled(Net(12, 400, 3, width=1), x)
    other = Net(12, 400, 3, width=1).eval()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        want = net(x)
        assert all(torch.equal(n(x), want) for n in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), other))


@BOTH
def test_a_window_does_not_depend_on_its_companions_and_is_left_alone(seeded, Net):
    x = torch.randn(3, 1, 720, dtype=torch.float64)
    net = settled(Net(1, 720, 3, width=1).double(), x)
    before, lengths = x.clone(), torch.tensor([720, 300, 5])
    with torch.no_grad():
        assert torch.allclose(net(x)[1:2], net(x[1:2]), rtol=1e-10, atol=1e-12)
        net(x, lengths)
    assert torch.equal(x, before) and lengths.tolist() == [720, 300, 5]


@BOTH
@pytest.mark.parametrize(
    "bad",
    [
        *[{name: 0} for name in ("n_leads", "n_timesteps", "n_outputs", "width", "growth", "nperseg", "fs")],
        {"dropout": 1.0},
        {"momentum": 1.5},
        {"noverlap": 64},
        {"floor": -1.0},
    ],
    ids=str,
)
def test_bad_parameters_are_named(seeded, Net, bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        Net(**{"width": 1, **bad})


def test_a_bad_number_of_units_is_named(seeded):
    with pytest.raises(ValueError, match="hidden"):
        ZihlmannCRNN(width=1, hidden=0)


@BOTH
@pytest.mark.parametrize("shape", [(2, 720), (2, 2, 720), (2, 1, 0)])
def test_input_of_another_shape_is_refused(seeded, Net, shape):
    with pytest.raises(ValueError, match=r"n_samples, 1, n_timesteps"):
        Net(width=1)(torch.zeros(shape))
