"""ResNet1d against published counts of its two-dimensional model, its layer list by hand, and every explainer."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import LRP, GradCAM1D, InputXGradient, IntegratedGradients, MaskDeletion, Saliency
from skecg.explain._fast import speed_up
from skecg.models import ResNet1d
from skecg.utils._twin import private_twin
from tests.explaining import around, close
from tests.networks import lived_in, map_of, n_parameters, norm, settled
from tests.tiny import same_snapshot, snapshot, toy_ecg

BLOCKS = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 34: [3, 4, 6, 3]}
all_depths = pytest.mark.parametrize("depth", [10, 18, 34])


# --- counts -----------------------------------------------------------------------------------------------------------


def count(depth, width, kernel, n_leads, n_outputs):
    """Add up the parameters in closed form, in powers of the width."""
    total = n_leads * kernel * width + 2 * width  # stem
    for i, n in enumerate(BLOCKS[depth]):
        c = width * 2**i
        if i == 0:
            total += 2 * n * (kernel * c * c + 2 * c)
        else:  # the first convolution and the shortcut take half the channels
            total += (2 * n - 0.5) * kernel * c * c + 2 * n * 2 * c + c * c // 2 + 2 * c
    return total + (8 * width + 1) * n_outputs


@all_depths
@pytest.mark.parametrize(
    "width, kernel, n_leads, n_outputs", [(1, 7, 1, 5), (2, 1, 12, 2), (3, 5, 2, 1), (8, 15, 3, 4), (16, 3, 12, 71)]
)
def test_number_of_parameters(depth, width, kernel, n_leads, n_outputs):
    with torch.device("meta"):
        net = ResNet1d(n_leads, 100, n_outputs, width=width, depth=depth, kernel=kernel)
    assert n_parameters(net) == count(depth, width, kernel, n_leads, n_outputs)


@pytest.mark.parametrize("depth, published", [(18, 11_689_512), (34, 21_797_672)])
def test_published_counts_of_images_are_this_layer_list_with_square_kernels(depth, published):
    with torch.device("meta"):
        net = ResNet1d(3, 224, 1000, depth=depth)
    convs = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv1d)}
    others = n_parameters(net) - sum(m.weight.numel() for m in convs.values())
    square = {"stem.0": 7 * 7}  # 3 x 3 elsewhere, 1 x 1 in shortcuts
    taps = {name: square.get(name, 1 if ".shortcut." in name else 3 * 3) for name in convs}
    assert others + sum(m.weight[..., 0].numel() * taps[name] for name, m in convs.items()) == published


def test_defaults_are_the_layer_list():
    with torch.device("meta"):
        net = ResNet1d()
    table = [(1, 64, 7, 2), *[(64, 64, 7, 1)] * 4]  # channels in and out, kernel, stride
    for c in (64, 128, 256):
        table += [(c, 2 * c, 7, 2), (2 * c, 2 * c, 7, 1), (c, 2 * c, 1, 2), *[(2 * c, 2 * c, 7, 1)] * 2]
    convs = [m for m in net.modules() if isinstance(m, nn.Conv1d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0]) for m in convs] == table
    assert all(m.bias is None for m in convs)
    assert n_parameters(net) == sum(c_in * c_out * k + 2 * c_out for c_in, c_out, k, _ in table) + 513 * 5
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)} and len(norms) == len(convs)
    assert net.drop.p == 0
    activations = [m for m in net.modules() if isinstance(m, nn.ReLU)]
    assert len(activations) == 1 + 2 * 8  # none is shared: hooks on one see one place


def test_weights_start_after_he_from_the_fan_out(seeded):
    net = ResNet1d(12, width=32, kernel=5)
    for conv in (m for m in net.modules() if isinstance(m, nn.Conv1d)):
        want = (2 / (conv.out_channels * conv.kernel_size[0])) ** 0.5
        n = conv.weight.numel()
        assert conv.weight.std().item() == pytest.approx(want, rel=5 / (2 * n) ** 0.5)  # five standard errors


# --- the layer list ---------------------------------------------------------------------------------------------------


def strided(h, weight, stride):
    """Return every second (or each) output of a convolution that slides by one, added up over its taps."""
    half = weight.shape[-1] // 2
    wide = F.pad(h, (half, half))
    taps = [torch.einsum("oc,nct->not", weight[..., k], wide[..., k : k + h.shape[-1]]) for k in range(2 * half + 1)]
    return sum(taps)[..., ::stride]


def reference(net, x, n_blocks):
    """Run the published layers by hand, with the weights in the order in which the network holds them."""
    order = iter([m for m in net.modules() if isinstance(m, nn.Conv1d | nn.BatchNorm1d)])

    def unit(h, stride=1):
        weight = next(order).weight
        return norm(next(order), strided(h, weight, stride))

    h = unit(x, 2).clamp(min=0)
    h = F.pad(h, (1, 1), value=-torch.inf).unfold(-1, 3, 2).amax(-1)
    for i, n in enumerate(n_blocks):
        for j in range(n):
            stride = 2 if i > 0 and j == 0 else 1
            inner = unit(unit(h, stride).clamp(min=0))
            h = (inner + (unit(h, stride) if stride == 2 else h)).clamp(min=0)
    assert next(order, None) is None
    return torch.einsum("nct,kc->nk", h, net.dense.weight) / h.shape[-1] + net.dense.bias


@all_depths
@pytest.mark.parametrize("n_leads, n_timesteps, kernel", [(1, 2880, 7), (3, 333, 3), (2, 97, 9), (1, 1, 5), (2, 50, 1)])
def test_logits_are_the_published_layer_list(seeded, depth, n_leads, n_timesteps, kernel):
    x = torch.randn(4, n_leads, n_timesteps, dtype=torch.float64)
    net = settled(ResNet1d(n_leads, n_timesteps, 3, width=2, depth=depth, kernel=kernel).double(), x)
    with torch.no_grad():
        got, want = net(x), reference(net, x, BLOCKS[depth])
    assert got.shape == (4, 3)
    assert torch.allclose(got, want, rtol=1e-10, atol=1e-10)
    assert want.std(0).min() > 1e-3


# --- lengths and Grad-CAM ---------------------------------------------------------------------------------------------


@all_depths
@pytest.mark.parametrize("n_timesteps", [1, 2, 3, 31, 32, 33, 720])
def test_any_length_from_one_sample_on(seeded, depth, n_timesteps):
    net, x = ResNet1d(2, n_timesteps, 3, width=1, depth=depth), torch.randn(2, 2, n_timesteps)
    net(x).sum().backward()  # in training too, where batch norm needs more than one value a channel
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
    with torch.no_grad():
        assert net.eval()(x).shape == (2, 3) and torch.isfinite(net(x)).all()


def test_the_same_weights_serve_other_lengths(seeded):
    net, longer = lived_in(ResNet1d(1, 60, 3, width=2)), ResNet1d(1, 5000, 3, width=2).eval()
    longer.load_state_dict(net.state_dict())
    x = torch.randn(2, 1, 1000)
    with torch.no_grad():
        assert torch.equal(net(x), longer(x))


@all_depths
@pytest.mark.parametrize(
    "n_timesteps, stage, length",
    [
        (1, 0, 1), (60, 0, 15), (61, 0, 16), (120, 0, 30), (121, 1, 16), (240, 1, 30), (241, 2, 16), (480, 2, 30),
        (481, 3, 16), (720, 3, 23), (2880, 3, 90),
    ],
)  # fmt: skip
def test_cam_layer_is_of_the_deepest_stage_of_sixteen_positions(seeded, depth, n_timesteps, stage, length):
    net = ResNet1d(1, n_timesteps, 3, width=1, depth=depth).eval()
    assert net.cam_layer == f"stages.{stage}.{BLOCKS[depth][stage] - 1}.relu2"
    assert isinstance(net.get_submodule(net.cam_layer), nn.ReLU)
    x = torch.randn(1, 1, n_timesteps)
    maps, _ = map_of(net, net.cam_layer, x)
    assert maps.shape == (1, 2**stage, length) and len(net.cam_positions(net.cam_layer, n_timesteps)) == length
    assert torch.equal(maps, map_of(net, f"stages.{stage}", x)[0])  # the last of its stage


@pytest.mark.parametrize("n_timesteps", [1, 2, 33, 300, 721])
def test_positions_are_as_many_as_the_map_has(seeded, n_timesteps):
    net = ResNet1d(1, n_timesteps, 3, width=1).eval()
    names = [name for name, _ in net.named_modules() if name not in ("", "stages", "drop", "dense")]
    maps = {}
    for name in names:
        part = net.get_submodule(name)
        part.register_forward_hook(lambda m, i, o, name=name: maps.update({name: o.shape[-1]}))
    net(torch.randn(1, 1, n_timesteps))
    assert set(maps) == set(names) and len(names) > 80
    for name, length in maps.items():
        assert len(net.cam_positions(name, n_timesteps)) == length, name


@all_depths
def test_positions_are_the_centres_of_what_they_see(seeded, depth):
    """With equal weights throughout, the gradient counts the ways from a sample to a position: it is their mean."""
    n_timesteps = 6000
    net = ResNet1d(1, n_timesteps, 2, width=1, depth=depth).double().eval()
    for part in net.modules():
        if isinstance(part, nn.Conv1d):
            nn.init.constant_(part.weight, 1 / part.weight[0].numel())
        elif isinstance(part, nn.BatchNorm1d):
            nn.init.constant_(part.bias, 10.0)  # every ReLU is open
    net.pool = nn.AvgPool1d(3, 2, 1)  # the whole window of the pooling, not the winner in it alone
    layers = ["stem", "stem.0", "relu", "pool", *[f"stages.{i}" for i in range(4)], net.cam_layer]
    layers += [f"stages.{i}.0.{part}" for i in range(4) for part in ("conv1", "relu1", "conv2.0", "shortcut", "add")]
    x = torch.randn(1, 1, n_timesteps, dtype=torch.float64).requires_grad_()
    samples = torch.arange(n_timesteps, dtype=torch.float64)
    for layer in layers:
        positions = net.cam_positions(layer, n_timesteps)
        p = len(positions) // 2 + 1
        maps, _ = map_of(net, layer, x)
        ways = torch.autograd.grad(maps[0, :, p].sum(), x)[0][0, 0]
        seen = ways.nonzero().flatten()
        assert 0 < seen[0] and seen[-1] < n_timesteps - 1 and (ways >= 0).all()  # no end cuts what it sees
        assert float(seen[0] + seen[-1]) == 2 * positions[p], layer
        assert float((ways * samples).sum() / ways.sum()) == pytest.approx(positions[p], abs=1e-6), layer


def test_positions_of_short_windows(seeded):
    net = ResNet1d(1, 720, 3, width=1)
    assert net.cam_positions("stem", 5).tolist() == [0, 2, 4]
    assert net.cam_positions("stages.0.0", 9).tolist() == [0, 4, 8]
    assert net.cam_positions("stages.3", 33).tolist() == [0, 32]
    assert net.cam_positions(net.cam_layer, 1).tolist() == [0] and net.cam_positions("stem", 5).dtype == np.float64


@pytest.mark.parametrize("layer", ["dense", "drop", "stages", "stages.4", "stages.0.2", "stem.2", "nothing", ""])
def test_a_layer_without_time_is_refused_with_one_that_has(seeded, layer):
    with pytest.raises(ValueError, match=r"(?s)time.*stages\.3\.1\.relu2"):
        ResNet1d(1, 720, 3, width=1).cam_positions(layer, 720)


# --- manners ----------------------------------------------------------------------------------------------------------


def test_dropout_acts_in_training_alone(seeded):
    net, x = ResNet1d(1, 300, 3, width=2, dropout=0.5), torch.randn(4, 1, 300)
    with torch.no_grad():
        assert not torch.equal(net(x), net(x))
        net.eval()
        before = torch.get_rng_state()
        assert torch.equal(net(x), net(x)) and torch.equal(before, torch.get_rng_state())


def test_momentum_reaches_every_batch_norm(seeded):
    net = ResNet1d(1, 300, 3, width=1, momentum=0.4)
    assert {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm1d)} == {0.4}


def test_copies_and_pickles_are_the_same_network(seeded):
    net, x = lived_in(ResNet1d(12, 400, 3, width=1)), torch.randn(2, 12, 400)
    other = ResNet1d(12, 400, 3, width=1).eval()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        want = net(x)
        assert all(torch.equal(n(x), want) for n in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), other))


def test_a_window_does_not_depend_on_its_companions_and_is_left_alone(seeded):
    net, x = lived_in(ResNet1d(1, 720, 3, width=2)).double(), torch.randn(3, 1, 720, dtype=torch.float64)
    before = x.clone()
    with torch.no_grad():
        assert torch.allclose(net(x)[1:2], net(x[1:2]), rtol=1e-10, atol=1e-12)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "bad",
    [
        *[{name: value} for name in ("n_leads", "n_timesteps", "n_outputs", "width", "kernel") for value in (0, 1.5)],
        {"kernel": 4},
        *[{"depth": value} for value in (0, 50, "18", None, [18])],
        {"dropout": 1.0},
        {"momentum": 0.0},
    ],
    ids=str,
)
def test_bad_parameters_are_named(seeded, bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        ResNet1d(**{"width": 1, **bad})


@pytest.mark.parametrize("shape", [(2, 720), (2, 2, 720), (2, 1, 0)])
def test_input_of_another_shape_is_refused(seeded, shape):
    with pytest.raises(ValueError, match=r"n_samples, 1, n_timesteps"):
        ResNet1d(width=1)(torch.zeros(shape))


# --- classifier and explainers ----------------------------------------------------------------------------------------


class Unfolded(ResNet1d):
    """The same network, which does not say that it is foldable."""


def twins(n_leads, n_timesteps, **settings):
    """Return networks of the same weights, that which is rebuilt for explainers first."""
    net = lived_in(ResNet1d(n_leads, n_timesteps, 3, width=4, **settings))
    plain = Unfolded(n_leads, n_timesteps, 3, width=4, **settings).eval()
    plain.load_state_dict(net.state_dict())
    return net, plain, torch.randn(6, n_leads, n_timesteps).numpy()


@all_depths
@pytest.mark.parametrize("n_timesteps", [1, 40, 720])
def test_the_rebuilt_twin_gives_the_same_logits_and_gradients(seeded, depth, n_timesteps):
    net, _, X = twins(2, n_timesteps, depth=depth)
    for dtype, rtol in ((torch.float32, 5e-6), (torch.float64, 1e-12)):
        net.to(dtype)
        twin = private_twin(net)
        speed_up(twin, "cpu")
        assert not any(isinstance(part, nn.Conv1d | nn.BatchNorm1d) for part in twin.modules())
        x = torch.from_numpy(X).to(dtype).requires_grad_()
        logits = net(x), twin(x)
        gradients = (torch.autograd.grad(out[:, 1].sum(), x)[0] for out in logits)
        for want, got in (logits, gradients):
            assert want.any() and float((want - got).abs().max().detach()) <= rtol * float(want.abs().max().detach())


@pytest.mark.parametrize("depth, method", [(10, "gradcam++"), (18, "gradcam"), (18, "layercam"), (34, "hirescam")])
def test_grad_cam_of_the_rebuilt_twin(seeded, depth, method):
    net, plain, X = twins(1, 500, depth=depth)
    for layer in (None, "stages.1.0.conv1", "stages.1.0.shortcut.0"):
        settings = {"layer": layer, "method": method, "relu": False, "target": "B"}
        got, want = (GradCAM1D(around(n, 500, "ABC"), **settings).explain(X) for n in (net, plain))
        assert close(got.relevance, want.relevance, rtol=5e-6) and close(got.score, want.score, rtol=5e-6)
        assert want.relevance.any((1, 2)).all()


def test_grad_cam_is_plain_cam_and_hirescam(seeded):
    net, _, X = twins(2, 720, dropout=0.3)
    maps, _ = map_of(net, net.cam_layer, torch.from_numpy(X))
    plain = torch.einsum("k,nkt->nt", net.dense.weight[0], maps).detach().numpy() / maps.shape[-1]
    clf = around(net, 720, "ABC", 2)
    for method in ("gradcam", "hirescam"):
        got = GradCAM1D(clf, method=method, relu=False, target="A").explain(X)
        assert close(got.cam, plain, rtol=1e-5)
        assert close(got.score, plain.sum(1) + net.dense.bias[0].item(), rtol=1e-5)
        rows = [np.interp(np.arange(720), np.arange(23) * 32, row) for row in plain]
        assert close(got.relevance[:, 1], np.array(rows), rtol=1e-5)


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=24, n_leads=2, n_timesteps=130)


@pytest.fixture(scope="module")
def clf(toy):
    settings = {"module__width": 2, "module__depth": 10, "lr": 0.02, "max_epochs": 2, "random_state": 0}
    return ECGClassifier("ResNet1d", fs=60.0, **settings).fit(*toy[:2])


def test_a_classifier_by_its_name(toy, clf):
    X, y, *_ = toy
    net = clf.module_
    assert type(net) is ResNet1d and (net.n_leads, net.n_timesteps, net.n_outputs) == (2, 130, 3)
    assert net.stem[0].out_channels == 2 and net.cam_layer == "stages.1.0.relu2"
    proba = clf.predict_proba(X)
    assert np.array_equal(clone(clf).fit(X, y).predict_proba(X), proba)
    assert np.array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), proba)
    with pytest.raises(ValueError, match="depth"):
        clone(clf).set_params(module__depth=11).fit(X, y)


EXPLAINERS = [
    GradCAM1D(None),
    IntegratedGradients(None, n_steps=8),
    Saliency(None),
    InputXGradient(None),
    MaskDeletion(None, n_iter=3, init=0.5, n_knots=4, replacement=0.0),
    LRP(None),
]


# the network is hardly trained: some windows have no positive relevance, some are of the class without their beats
@pytest.mark.filterwarnings("ignore:(GradCAM1D.*zero everywhere|MaskDeletion.*fully replaced):UserWarning")
@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda explainer: type(explainer).__name__)
def test_every_explainer_explains_it(toy, clf, explainer):
    before = snapshot(clf.module_)
    out = clone(explainer).set_params(estimator=clf).explain(toy[0], target="PVC")
    assert same_snapshot(before, snapshot(clf.module_))
    assert out.relevance.shape == toy[0].shape and np.isfinite(out.relevance).all() and out.relevance.any()
    if explainer.__class__ is not MaskDeletion:  # its score is a probability
        assert close(out.score, clf.decision_function(toy[0])[:, list(clf.classes_).index("PVC")], rtol=1e-4)


@pytest.mark.parametrize("rule", ["epsilon", "lrp0", "alpha1beta0", "wsquare", "flat", "preset_a", "preset_a_flat"])
def test_lrp_by_every_rule_loses_nothing(seeded, rule):
    net, _, X = twins(3, 300)
    clf = around(net, 300, "ABC", 3)
    out = LRP(clf, rule=rule).explain(X, target="B")
    scale = np.abs(out.relevance).sum((1, 2)) + np.abs(out.absorbed_by_layer).sum(1) + np.abs(out.score)
    assert np.isfinite(out.relevance).all() and out.relevance.any((1, 2)).all()
    assert (np.abs(out.completeness_error) < 1e-5 * scale).all()
    if rule == "lrp0":
        assert close(out.relevance, InputXGradient(clf).explain(X, target="B").relevance, rtol=3e-5)
