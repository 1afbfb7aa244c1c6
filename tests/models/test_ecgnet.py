"""ECGNet against the published layer list, its parameter counts and its exact additive branches."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skecg.models import ECGNet


def n_parameters(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def lived_in(net, seed=1):
    """Give batch norms the statistics and weights of a trained net: fresh ones would hide a wrong order of layers."""
    generator = torch.Generator().manual_seed(seed)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm1d):
            for tensor, low, high in [
                (part.running_mean, -0.3, 0.3),
                (part.running_var, 0.5, 1.5),
                (part.weight.data, 0.5, 1.5),
                (part.bias.data, -0.3, 0.3),
            ]:
                tensor.uniform_(low, high, generator=generator)
    return net.eval()


def record(net, x):
    """Return (module, input, output) of every leaf that ran, in the order of running."""
    calls, handles = [], []
    for part in net.modules():
        if not list(part.children()):
            handles.append(part.register_forward_hook(lambda m, i, o: calls.append((m, i[0], o))))
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return calls


# --- published counts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "width, count", [(1, 188_444), (2, 408_840), (4, 1_248_032), (8, 4_520_016), (16, 17_438_384)]
)
def test_published_number_of_parameters_by_width(seeded, width, count):
    assert n_parameters(ECGNet(width=width)) == count


@pytest.mark.parametrize("n_outputs, count", [(3, 17_437_879), (5, 17_438_081)])
def test_published_number_of_parameters_by_outputs(seeded, n_outputs, count):
    assert n_parameters(ECGNet(n_outputs=n_outputs)) == count


def test_defaults_are_the_papers(seeded):
    net = ECGNet()
    assert n_parameters(net) == n_parameters(ECGNet(1, 720, 8, width=16, dropout=0.5))
    stem = [m for m in net.modules() if isinstance(m, nn.Conv1d) and m.in_channels == 1]
    assert sorted(m.kernel_size[0] for m in stem) == [15, 17, 19, 21]
    assert sorted(m.padding[0] for m in stem) == [7, 8, 9, 10]
    assert sum(map(n_parameters, stem)) == 1216
    assert sum(n_parameters(m) for m in net.modules() if isinstance(m, nn.LSTM)) == 29_440
    assert sorted(n_parameters(m) for m in net.modules() if isinstance(m, nn.Linear)) == [808, 50_100, 340_500]
    rates = [m.p for m in net.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.5] * 31  # one in block 1, two in each of blocks 2 to 16
    assert sum(isinstance(m, nn.BatchNorm1d) for m in net.modules()) == 33  # stem, block 1, two each in 15, final


@pytest.mark.parametrize("n_leads, width", [(2, 1), (12, 2)])
def test_more_leads_add_what_the_stem_and_the_lstm_read_of_them(seeded, n_leads, width):
    one, more = (n_parameters(ECGNet(leads, 720, 5, width=width)) for leads in (1, n_leads))
    stem = (15 + 17 + 19 + 21) * width * (n_leads - 1)
    lstm = 4 * 40 * 60 * (n_leads - 1)  # four gates of 40 units, 60 samples of each lead a step
    assert more - one == stem + lstm


# --- the published stages ---------------------------------------------------------------------------------------------

# channels (in units of the stem's output) and length inside blocks 1 to 16 at 720 samples, before the block's pooling
STAGES = [(1, 720), (1, 360), (1, 360), (2, 180), (2, 180), (2, 90), (2, 90), (3, 45), (3, 45), (3, 22), (3, 22)]
STAGES += [(4, 11), (4, 11), (4, 5), (4, 5), (5, 2)]


def test_stages_at_720_samples(seeded):
    net, c = ECGNet(width=2).eval(), 8
    calls = record(net, torch.randn(3, 1, 720))
    convs = [(m, tuple(o.shape[1:])) for m, _, o in calls if isinstance(m, nn.Conv1d)]
    stem = [shape for m, shape in convs if m.in_channels == 1]
    assert stem == [(2, 720)] * 4
    body = [shape for m, shape in convs if m.in_channels != 1 and m.kernel_size == (15,)]
    assert body == [(k * c, t) for k, t in STAGES for _ in range(2)]
    shortcuts = [shape for m, shape in convs if m.kernel_size == (1,)]
    assert shortcuts == [(2 * c, 180), (3 * c, 45), (4 * c, 11), (5 * c, 2)]
    assert len(convs) == 4 + 32 + 4
    (steps,) = [i.shape for m, i, _ in calls if isinstance(m, nn.LSTM)]
    assert steps == (3, 12, 60)
    linear = [(m.in_features, m.out_features) for m in net.modules() if isinstance(m, nn.Linear)]
    assert linear == [(2 * 5 * c + 40, 500), (500, 100), (100, 8)]


def reference_logits(net, x):
    """Run the published network once more, in functional form, on the layers of `net` in their order of running."""
    calls = record(net, x)
    order = list(dict.fromkeys(m for m, _, _ in calls))
    convs = [m for m in order if isinstance(m, nn.Conv1d)]
    stem = sorted(convs[:4], key=lambda m: m.kernel_size)
    body = iter([m for m in convs[4:] if m.kernel_size == (15,)])
    shortcuts = iter([m for m in convs[4:] if m.kernel_size == (1,)])
    norms = iter([m for m in order if isinstance(m, nn.BatchNorm1d)])
    linears = [m for m in net.modules() if isinstance(m, nn.Linear)]

    def conv(layer, h):
        return F.conv1d(h, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)

    def norm(h):
        m = next(norms)
        h = (h - m.running_mean[:, None]) / torch.sqrt(m.running_var[:, None] + m.eps)
        return h * m.weight[:, None] + m.bias[:, None]

    def pool(h):
        return F.max_pool1d(h, 2, 2)

    h = norm(torch.cat([conv(layer, x) for layer in stem], 1)).relu()
    inner = conv(next(body), h)
    inner = conv(next(body), norm(inner).relu())
    h = pool(inner) + pool(h)
    for number in range(2, 17):
        inner = conv(next(body), norm(h).relu())
        inner = conv(next(body), norm(inner).relu())
        pools = number % 2 == 1
        shortcut = conv(next(shortcuts), h) if number in (4, 8, 12, 16) else pool(h) if pools else h
        h = (pool(inner) if pools else inner) + shortcut
    cnn = norm(h).flatten(1)
    (lstm,) = [m for m in net.modules() if isinstance(m, nn.LSTM)]
    steps = x.reshape(len(x), x.shape[1], -1, 60).transpose(1, 2).flatten(2)
    z = torch.cat([cnn, lstm(steps)[0][:, -1]], 1)
    for layer in linears:  # nothing between them
        z = F.linear(z, layer.weight, layer.bias)
    return z


@pytest.mark.parametrize("n_leads", [1, 3])
def test_forward_is_the_published_layer_list(seeded, n_leads):
    net = lived_in(ECGNet(n_leads, 720, 5, width=1)).double()
    x = torch.randn(4, n_leads, 720, dtype=torch.float64)
    with torch.no_grad():
        got, want = net(x), reference_logits(net, x)
    assert torch.allclose(got, want, rtol=0, atol=1e-10)
    assert want.std() > 1e-3


# --- branches ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def net(seeded):
    return lived_in(ECGNet(2, 512, 4, width=1)).double()


@pytest.fixture
def x(seeded):
    return torch.randn(3, 2, 512, dtype=torch.float64)


def test_branches_add_up_to_the_logits(net, x):
    assert tuple(net.branches) == ("cnn", "lstm")
    with torch.no_grad():
        parts, logits = net.branch_logits(x), net(x)
    assert set(parts) == {"cnn", "lstm", "bias"}
    assert parts["cnn"].shape == parts["lstm"].shape == (3, 4) and parts["bias"].shape == (4,)
    assert torch.allclose(parts["cnn"] + parts["lstm"] + parts["bias"], logits, rtol=0, atol=1e-12)
    assert parts["cnn"].std() > 1e-4 and parts["lstm"].std() > 1e-4


def test_branches_add_up_in_single_precision(net, x):
    net, x = net.float(), x.float()
    with torch.no_grad():
        assert torch.allclose(sum(net.branch_logits(x).values()), net(x), rtol=1e-5, atol=1e-5)


def test_bias_is_what_no_branch_says(net, x):
    (fc1, fc2, fc3) = (m for m in net.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        want = fc3(fc2(fc1.bias))
        assert torch.allclose(net.branch_logits(x)["bias"], want, rtol=0, atol=1e-12)
        silent = net(x, inputs={"cnn": None, "lstm": None})
    assert torch.allclose(silent, want.expand(3, 4), rtol=0, atol=1e-12)


@pytest.mark.parametrize("one, other", [("cnn", "lstm"), ("lstm", "cnn")])
def test_a_branch_is_silenced_or_given_another_input(net, x, one, other):
    z = torch.randn_like(x)
    with torch.no_grad():
        at_x, at_z = net.branch_logits(x), net.branch_logits(z)
        silenced, replaced = net(x, inputs={one: None}), net(x, inputs={one: z})
    assert torch.allclose(silenced, at_x[other] + at_x["bias"], rtol=0, atol=1e-12)
    assert torch.allclose(replaced, at_z[one] + at_x[other] + at_x["bias"], rtol=0, atol=1e-12)


def test_an_unknown_branch_is_named(net, x):
    with pytest.raises(ValueError, match=r"(?s)rnn.*cnn.*lstm|cnn.*lstm.*rnn"):
        net(x, inputs={"rnn": x})


def test_gradient_reaches_the_input_of_the_branch_alone(net, x):
    x, z = x.requires_grad_(), torch.randn_like(x).requires_grad_()
    at_x, at_z = torch.autograd.grad(net(x, inputs={"lstm": z}).sum(), [x, z])
    (cnn,) = torch.autograd.grad(net.branch_logits(x)["cnn"].sum(), x)
    (lstm,) = torch.autograd.grad(net.branch_logits(z)["lstm"].sum(), z)
    assert torch.allclose(at_x, cnn, rtol=1e-9, atol=1e-12) and torch.allclose(at_z, lstm, rtol=1e-9, atol=1e-12)
    assert lstm.abs().max() > 0


# --- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_timesteps", [1, 59, 255, 256, 300, 511, 720, 768, 1000])
def test_any_length_from_one_sample_on(seeded, n_timesteps):
    net = ECGNet(1, n_timesteps, 3, width=1).eval()
    with torch.no_grad():
        out = net(torch.randn(2, 1, n_timesteps))
    assert out.shape == (2, 3) and torch.isfinite(out).all()


@pytest.mark.parametrize("n_timesteps", [1, 100, 255])
def test_short_windows_are_padded_with_zeros_at_the_right(seeded, n_timesteps):
    net = lived_in(ECGNet(2, n_timesteps, 3, width=1)).double()
    assert net.min_timesteps == 256
    x = torch.randn(3, 2, n_timesteps, dtype=torch.float64)
    right, left = F.pad(x, (0, 256 - n_timesteps)), F.pad(x, (256 - n_timesteps, 0))
    with torch.no_grad():
        got = net.branch_logits(x)
        assert torch.allclose(got["cnn"], net.branch_logits(right)["cnn"], rtol=0, atol=1e-12)
        assert not torch.allclose(got["cnn"], net.branch_logits(left)["cnn"], rtol=0, atol=1e-6)
        whole_steps = net.branch_logits(F.pad(x, (0, -n_timesteps % 60)))  # the LSTM reads steps of 60 samples
        assert torch.allclose(got["lstm"], whole_steps["lstm"], rtol=0, atol=1e-12)


def test_the_same_weights_serve_other_lengths(seeded):
    net, longer = lived_in(ECGNet(1, 720, 3, width=1)), ECGNet(1, 1000, 3, width=1).eval()
    longer.load_state_dict(net.state_dict())
    x = torch.randn(2, 1, 1000)
    with torch.no_grad():
        assert torch.equal(net(x), longer(x)) and torch.isfinite(net(x)).all()


@pytest.mark.parametrize("n_timesteps, length", [(720, 45), (768, 48)])
def test_cam_layer_is_the_published_map(seeded, n_timesteps, length):
    net = ECGNet(1, n_timesteps, 3, width=2).eval()
    assert isinstance(ECGNet.cam_layer, str)
    layer, maps = net.get_submodule(net.cam_layer), []
    layer.register_forward_hook(lambda m, i, o: maps.append(o.shape))
    with torch.no_grad():
        net(torch.randn(2, 1, n_timesteps))
    assert maps == [(2, 3 * 4 * 2, length)]


# --- training switches ------------------------------------------------------------------------------------------------


def test_dropout_acts_in_training_alone(seeded):
    net, x = ECGNet(1, 256, 3, width=1, dropout=0.5), torch.randn(8, 1, 256)
    with torch.no_grad():
        assert not torch.equal(net(x), net(x))
        net.eval()
        assert torch.equal(net(x), net(x))
        still = ECGNet(1, 256, 3, width=1, dropout=0.0)
        assert torch.equal(still(x), still(x))


def test_branch_dropout_silences_a_branch_in_some_windows(seeded):
    rate = 0.3
    net = ECGNet(1, 256, 3, width=1, dropout=0.0, branch_dropout=rate)
    plain = ECGNet(1, 256, 3, width=1, dropout=0.0)
    plain.load_state_dict(net.state_dict())
    x = torch.randn(300, 1, 256)
    with torch.no_grad():
        got = net(x)  # training mode; batch norm sees the same batch in both nets
        full, cnn, lstm = plain(x), plain(x, inputs={"lstm": None}), plain(x, inputs={"cnn": None})
        none = plain(x, inputs={"cnn": None, "lstm": None})
        near = torch.stack([(got - other).abs().amax(1) < 1e-5 for other in (full, cnn, lstm, none)])
        assert near.any(0).all()  # each window is one of these
        changed = 1 - near[0].float().mean()
        assert rate - 0.12 < changed < 1 - (1 - rate) ** 2 + 0.12
        assert near[1].any() and near[2].any()  # either branch has its turn
        plain.load_state_dict(net.state_dict())  # four passes have moved its batch norms further
        assert torch.equal(net.eval()(x), plain.eval()(x))


def test_no_dropout_draws_no_random_numbers(seeded):
    net, x = ECGNet(1, 256, 3, width=1), torch.randn(2, 1, 256)
    before = torch.get_rng_state()
    net.eval()(x)
    assert torch.equal(before, torch.get_rng_state())


# --- manners ----------------------------------------------------------------------------------------------------------


def test_copies_and_pickles_are_the_same_network(net, x):
    with torch.no_grad():
        want = net(x)
        assert torch.equal(copy.deepcopy(net)(x), want)
        assert torch.equal(pickle.loads(pickle.dumps(net))(x), want)


def test_a_window_does_not_depend_on_its_companions(net, x):
    with torch.no_grad():
        assert np.allclose(net(x)[1:2], net(x[1:2]), rtol=1e-10, atol=1e-12)


def test_forward_leaves_its_input_alone(net, x):
    before = x.clone()
    with torch.no_grad():
        net(x)
    assert torch.equal(before, x)


@pytest.mark.parametrize(
    "bad",
    [
        {"n_leads": 0},
        {"n_timesteps": 0},
        {"n_outputs": 0},
        {"width": 0},
        {"dropout": 1.5},
        {"dropout": -0.1},
        {"branch_dropout": 1.5},
        {"branch_dropout": -0.1},
    ],
    ids=str,
)
def test_bad_sizes_are_named(seeded, bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        ECGNet(**{"width": 1, **bad})
