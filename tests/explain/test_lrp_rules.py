"""Rules of relevance against answers worked out by hand, against captum, and against input times gradient."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from skecg.explain import LRP
from skecg.explain._lrp_rules import quotient
from skecg.explain._lrp_trace import Propagation
from skecg.models import HannunNet

RULES = ("lrp0", "epsilon", "alpha1beta0", "wsquare", "flat", "preset_a", "preset_a_flat")
pytestmark = pytest.mark.usefixtures("seeded")  # networks built by hand draw from torch's generator


def propagate(net, x, index=0, **settings):
    """Return relevance, absorbed by layer and the logit, of double precision."""
    run = Propagation(copy.deepcopy(net).double().eval().requires_grad_(False), LRP(None, **settings)._settings())
    x, logits = run.logits(torch.as_tensor(x, dtype=torch.double))
    index = torch.full((len(x),), index)
    relevance, absorbed = run.relevance(x, logits, index)
    return relevance.detach(), absorbed, logits.detach().gather(1, index[:, None])[:, 0]


def total(relevance, absorbed):
    return relevance.flatten(1).sum(1) + sum(absorbed.values(), torch.zeros(len(relevance), dtype=torch.double))


def lived_in(net):
    """Give biases and batch norms the odd values that training gives them, negative slopes too."""
    with torch.no_grad():
        for part in net.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.weight.uniform_(-0.5, 1.5), part.bias.normal_(0, 0.3)
                part.running_mean.normal_(0, 0.3), part.running_var.uniform_(0.5, 2)
            elif getattr(part, "bias", None) is not None:
                part.bias.normal_(0, 0.3)
    return net.double().eval()


# --- a net of 2, 3 and 1 units; a negative input, negative biases -----------------------------------------------------


@pytest.fixture
def small():
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, 1.0], [2.0, -1.0], [-1.0, -1.0]]))
        net[1].bias.copy_(torch.tensor([2.0, -1.0, -0.5]))
        net[3].weight.copy_(torch.tensor([[2.0, 1.0, -2.0]]))
        net[3].bias.fill_(-1.0)
    return net  # of (1, -2): units 1, 3, 0.5; logit 2 + 3 - 1 - 1 = 3


BY_HAND = {
    # relevance of the input, absorbed by the first and by the second layer
    "lrp0": ({"rule": "lrp0"}, [6, -6], 4, -1),
    "epsilon": ({"epsilon": 1.0}, [2.375, -1.375], 2, 0),
    "epsilon, dense alone": ({"rule": "preset_a", "epsilon": 1.0}, [2.375, -1.375], 2, 0),
    "alpha1beta0": ({"rule": "alpha1beta0"}, [2.1, 0.9], 0, 0),
    "alpha1beta0 with biases": ({"rule": "alpha1beta0", "bias": True}, [1.3, 0.9], 0.8, 0),
    "wsquare": ({"rule": "wsquare"}, [1.6, 1.4], 0, 0),
    "flat": ({"rule": "flat"}, [1.5, 1.5], 0, 0),
    "flat at the input": ({"rule": "alpha1beta0", "input_rule": "flat"}, [1.5, 1.5], 0, 0),
    # units 1.5, 2.25, -0.75; then 1.5 (1, -2) / -1 + 2.25 (2, 2) / 4 - 0.75 (-1, 2) / 1
    "lrp0 without biases": ({"rule": "lrp0", "bias": False}, [0.375, 2.625], 0, 0),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_by_hand(case, small):
    settings, want, first, second = BY_HAND[case]
    relevance, absorbed, logit = propagate(small, [[[1.0, -2.0]]], **settings)
    assert logit.item() == 3
    assert torch.allclose(relevance[0, 0], torch.tensor(want, dtype=torch.double), rtol=1e-12)
    assert np.allclose([absorbed["1"].item(), absorbed["3"].item()], [first, second], rtol=1e-12, atol=1e-12)


def test_a_relative_epsilon_counts_in_root_mean_squares(small):
    x = [[[1.0, -2.0]], [[2.0, 0.5]]]
    half = propagate(small, x, epsilon=0.5, epsilon_relative=True)[0]
    big = copy.deepcopy(small)
    with torch.no_grad():  # the same network, whose units are ten times as large
        big[1].weight.mul_(10), big[1].bias.mul_(10), big[3].weight.div_(10)
    assert torch.allclose(propagate(big, x, epsilon=0.5, epsilon_relative=True)[0], half, rtol=1e-6)
    assert not torch.allclose(propagate(big, x, epsilon=0.5)[0], propagate(small, x, epsilon=0.5)[0], rtol=0.05)
    # of one output the root mean square is its size
    last = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False))
    relevance, _, logit = propagate(last, [[[1.0, 3.0]]], epsilon=0.5, epsilon_relative=True)
    assert torch.allclose(relevance.sum(), logit / 1.5)


def test_a_negative_bias_does_not_multiply_relevance():
    """A published fault: with the bias in the denominator, x = 0.95 would get 19 times the logit."""
    net = nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten())
    with torch.no_grad():
        net[0].weight.fill_(1.0), net[0].bias.fill_(-0.9)
    for bias in (None, True):
        x = [[[1.0]], [[0.95]], [[0.905]], [[0.5]]]
        relevance, absorbed, logit = propagate(net, x, rule="alpha1beta0", bias=bias)
        assert torch.allclose(relevance.flatten(), logit) and not any(v.any() for v in absorbed.values())


def test_every_border_is_counted_by_what_it_meets():
    net = nn.Sequential(nn.Conv1d(1, 1, 2, padding=1), nn.Flatten(), nn.Linear(4, 1))
    padded = nn.Sequential(nn.ConstantPad1d(1, 0.0), nn.Conv1d(1, 1, 2), *net[1:])
    padded[1].weight, padded[1].bias = net[0].weight, net[0].bias
    for version in (net, padded):
        relevance, absorbed, logit = propagate(version, [[[1.0, -2.0, 3.0]]], rule="flat")
        want = logit / 4 * torch.tensor([1.5, 1.0, 1.5])  # the ends are met alone once, and in a pair once
        assert torch.allclose(relevance.flatten(), want) and not any(v.any() for v in absorbed.values())


# --- sums and averages ------------------------------------------------------------------------------------------------


class Added(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        return (x[..., 0] + x[..., 1]) * self.weight


@pytest.mark.parametrize(
    "rule, x, share",
    [("z", (3, -1), (1.5, -0.5)), ("abs", (3, -1), (0.75, 0.25)), ("plus", (3, -1), (1, 0))]
    + [(rule, (0, 0), (0, 0)) for rule in ("z", "abs", "plus")]
    + [("plus", (-3, -1), (0.5, 0.5)), ("z", (3, 1), (0.75, 0.25))],
)
def test_sums_share_by_their_rule(rule, x, share):
    relevance, _, logit = propagate(Added(2.0), [[x]], rule="flat", sum_rule=rule)
    assert logit.item() == 2 * sum(x)
    assert torch.allclose(relevance.flatten(), logit * torch.tensor(share, dtype=torch.double))


@pytest.mark.parametrize("shift", [torch.linspace(-1, 2, 6)[None], torch.linspace(-1, 2, 6)[:, None]], ids=["t", "c"])
def test_a_constant_of_as_many_samples_as_channels(shift):
    """A shift by sample is not one by channel; by the z-rule its part is shift / (value + shift)."""

    class Shifted(nn.Module):
        def forward(self, x):
            return (x + shift.to(x)).flatten(1)

    net = nn.Sequential(Shifted(), nn.Linear(36, 1, bias=False))
    x = torch.randn(2, 6, 6, dtype=torch.double)
    worth = net[1].weight.detach().double().view(6, 6)
    relevance, absorbed, logit = propagate(net, x, rule="lrp0", norm_rule="pass")
    assert torch.allclose(relevance, worth * x, rtol=1e-9)
    assert torch.allclose(absorbed["0"], (worth * shift).sum().expand(2), rtol=1e-9)
    assert torch.allclose(total(relevance, absorbed), logit, rtol=1e-9)


def test_a_constant_beside_one_value_a_window():
    class Shifted(nn.Module):
        def forward(self, x):
            return (x.sum((1, 2)) + 2.0).unsqueeze(1)

    x = torch.randn(3, 2, 5, dtype=torch.double)
    relevance, absorbed, logit = propagate(Shifted(), x, rule="lrp0", norm_rule="pass")
    assert torch.allclose(relevance, x, rtol=1e-9) and torch.allclose(absorbed["Shifted"], logit - x.sum((1, 2)))


def test_sums_of_nothing_are_halved():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv1d(1, 1, 1, bias=False), nn.Conv1d(1, 1, 1, bias=False)
            self.head = nn.Linear(1, 1)

        def forward(self, x):
            return self.head(self.a(x[..., :1]).flatten(1) + self.b(x[..., 1:]).flatten(1))

    net = Net()
    with torch.no_grad():
        net.head.bias.fill_(2.0)
    relevance, _, logit = propagate(net, [[[0.0, 0.0]]], rule="flat")
    assert logit.item() == 2 and relevance.flatten().tolist() == [1, 1]


@pytest.mark.parametrize("pool", [nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(2)], ids=lambda p: type(p).__name__)
def test_averages_share_by_value_and_evenly_where_there_is_none(pool):
    net = nn.Sequential(pool, nn.Flatten(), nn.Linear(2, 1))
    relevance, _, logit = propagate(net, [[[1.0, 3.0, 0.0, 0.0]]], rule="flat")
    assert torch.allclose(relevance.flatten(), logit / 2 * torch.tensor([0.25, 0.75, 0.5, 0.5]))


def test_the_winner_of_a_pooling_takes_all():
    net = nn.Sequential(nn.MaxPool1d(2), nn.Flatten(), nn.Linear(2, 1))
    relevance, _, logit = propagate(net, [[[1.0, 3.0, -5.0, -6.0]]], rule="flat")
    assert torch.allclose(relevance.flatten(), logit / 2 * torch.tensor([0.0, 1.0, 1.0, 0.0]))


# --- batch norm -------------------------------------------------------------------------------------------------------


def test_a_merged_batch_norm_is_the_convolution_of_both():
    layers = nn.Conv1d(2, 3, 3, padding=1), nn.BatchNorm1d(3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2)
    two = lived_in(nn.Sequential(*layers))
    with torch.no_grad():
        two[1].weight[0] = -0.7
    one = copy.deepcopy(two)
    scale = two[1].weight / (two[1].running_var + two[1].eps).sqrt()
    with torch.no_grad():
        one[0].weight.mul_(scale[:, None, None])
        one[0].bias.copy_((two[0].bias - two[1].running_mean) * scale + two[1].bias)
    one[1] = nn.Identity()
    x = torch.randn(3, 2, 8)
    for settings in (
        {"rule": "alpha1beta0"},
        {"rule": "alpha1beta0", "bias": True},
        {"epsilon": 0.3},
    ):
        merged = propagate(two, x, norm_rule="merge", **settings)[0]
        assert torch.allclose(merged, propagate(one, x, norm_rule="pass", **settings)[0], rtol=1e-9, atol=1e-12)
        assert not torch.allclose(merged, propagate(two, x, norm_rule="pass", **settings)[0], rtol=0.01)


def test_a_convolution_whose_output_is_used_twice_is_not_merged():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.conv, self.head = nn.BatchNorm1d(3), nn.Conv1d(1, 3, 3), nn.Linear(3, 2)
            self.twice = True

        def forward(self, x):  # not in the order of definition
            h = self.conv(x)
            return self.head((self.norm(h) + h if self.twice else self.norm(h)).mean(-1))

    net, x = lived_in(Net()), torch.randn(2, 1, 9)
    with torch.no_grad():
        net.norm.weight.fill_(-0.8)
    one = {rule: propagate(net, x, rule="alpha1beta0", norm_rule=rule)[0] for rule in ("merge", "pass")}
    assert torch.equal(one["merge"], one["pass"])
    net.twice = False
    alone = {rule: propagate(net, x, rule="alpha1beta0", norm_rule=rule)[0] for rule in ("merge", "pass")}
    assert not torch.allclose(alone["merge"], alone["pass"], rtol=0.01)


# --- all rules --------------------------------------------------------------------------------------------------------


def residual(n_leads=2):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm, self.act = nn.Conv1d(n_leads, 4, 5, padding="same"), nn.BatchNorm1d(4), nn.ReLU()
            self.conv, self.pool = nn.Conv1d(4, 6, 4, stride=2, padding=1), nn.MaxPool1d(2)
            self.skip = nn.Conv1d(4, 6, 1)
            self.after, self.drop, self.average = nn.BatchNorm1d(6), nn.Dropout(0.5), nn.AvgPool1d(2)
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            x = self.act(self.norm(self.stem(x)))
            x = self.conv(self.drop(x)) + self.skip(self.pool(x))  # the sum is used twice below, as in RibeiroNet
            return self.head(self.average(self.act(self.after(x)) + x).mean(-1))

    return lived_in(Block())


def hannun():
    return lived_in(HannunNet(2, 64, 3, width=2))


@pytest.mark.parametrize("make", [residual, hannun])
@pytest.mark.parametrize("path", ["as gradient", "as relevance"])
def test_lrp0_is_input_times_gradient(make, path, monkeypatch):
    net, x = make(), torch.randn(5, 2, 64, dtype=torch.double)
    if path == "as relevance":
        monkeypatch.setattr("skecg.explain._lrp_rules.Settings.as_gradient", property(lambda self: False))
    leaf = x.clone().requires_grad_()
    want = torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)[0] * x
    relevance, absorbed, logit = propagate(net, x, 1, rule="lrp0")
    assert torch.allclose(relevance, want, rtol=1e-6, atol=1e-9 * want.abs().max())
    assert torch.allclose(total(relevance, absorbed), logit, rtol=1e-9)
    epsilon = {"epsilon": 0.05}
    got = propagate(net, x, 1, **epsilon)[0]
    monkeypatch.undo()
    assert torch.allclose(got, propagate(net, x, 1, **epsilon)[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bias", [None, True, False])
@pytest.mark.parametrize("norm_rule", [None, "affine", "pass", "merge"])
def test_relevance_and_what_is_absorbed_are_the_logit(rule, bias, norm_rule):
    net, x = residual(), torch.randn(4, 2, 64)
    relevance, absorbed, logit = propagate(net, x, 2, rule=rule, bias=bias, norm_rule=norm_rule)
    scale = relevance.abs().flatten(1).sum(1) + logit.abs()
    assert ((total(relevance, absorbed) - logit).abs() / scale).max() < 1e-10
    if rule in ("wsquare", "flat") and norm_rule != "affine":  # nothing is there that could absorb
        assert torch.allclose(relevance.sum((1, 2)), logit, rtol=1e-9)


@pytest.mark.parametrize("rule", [r for r in RULES if "flat" not in r])
def test_a_lead_of_weight_zero_has_no_relevance(rule):
    net, x = residual(), torch.randn(3, 2, 64)
    with torch.no_grad():
        net.stem.weight[:, 1] = 0
    relevance = propagate(net, x, rule=rule)[0]
    assert not relevance[:, 1].any() and relevance[:, 0].abs().amax(1).min() > 0
    even = propagate(net, x, rule=rule, input_rule="flat")[0]
    assert torch.allclose(even[:, 0], even[:, 1])


@pytest.mark.parametrize("rule", RULES)
def test_a_translation_by_the_stride_moves_relevance(rule):
    net = residual()
    x = torch.zeros(1, 2, 96)
    x[..., 40:56] = torch.randn(2, 16)
    shift = 4  # of the strides, 2 x 2
    here, there = (propagate(net, v, rule=rule)[0] for v in (x, x.roll(shift, -1)))
    inner = slice(24, 72)
    if rule in ("wsquare", "flat", "preset_a_flat"):  # relevance outside of the bump depends on the border
        inner = slice(32, 64)
    got, want = there.roll(-shift, -1)[..., inner], here[..., inner]
    assert torch.allclose(got, want, rtol=1e-6, atol=1e-9 * want.abs().max())


@pytest.mark.parametrize("rule", RULES)
def test_windows_of_zeros_are_finite(rule):
    for bias in (None, True, False):
        relevance, absorbed, logit = propagate(residual(), torch.zeros(2, 2, 64), rule=rule, bias=bias)
        assert torch.isfinite(relevance).all()
        assert torch.allclose(total(relevance, absorbed), logit, rtol=1e-9, atol=1e-9)


def test_epsilon_without_bound_leaves_nothing():
    net, x = residual(), torch.randn(3, 2, 64)
    for relative in (False, True):
        sizes = [propagate(net, x, epsilon=e, epsilon_relative=relative)[0].abs().sum().item() for e in (0.1, 10, 1e6)]
        assert sizes[0] > sizes[1] > 1e3 * sizes[2]
    relevance, absorbed, logit = propagate(net, x, epsilon=1e12)
    assert relevance.abs().max() < 1e-20 and torch.allclose(absorbed["head"], logit)
    assert torch.equal(propagate(net, x, epsilon=0)[0], propagate(net, x, rule="lrp0")[0])


def test_quotient_of_nothing_is_nothing():
    share, none = quotient(torch.tensor([1.0, 2.0, 0.0]), torch.tensor([2.0, 0.0, 1e-38]))
    assert share.tolist() == [0.5, 0, 0] and none.tolist() == [False, True, True]
    assert quotient(torch.ones(2), torch.ones(2))[1] is None
    assert quotient(torch.ones(1), torch.tensor([torch.nan]))[0].isnan().all()  # and no zero of it


def test_captum_agrees_on_dense_layers():
    attr = pytest.importorskip("captum.attr", reason="the second oracle; the first is input times gradient")
    from captum.attr._utils.lrp_rules import EpsilonRule

    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    x = torch.randn(7, 6, dtype=torch.double)
    theirs = copy.deepcopy(net)
    for part in theirs[::2]:
        part.rule = EpsilonRule(epsilon=0.1)
    want = attr.LRP(theirs).attribute(x.clone().requires_grad_(), target=1).detach()
    got = propagate(net, x, 1, epsilon=0.1)[0]
    assert want.abs().max() > 1e-3 and torch.allclose(got, want, rtol=1e-6, atol=1e-9)


def test_captum_agrees_on_positive_parts():
    """Captum clamps weights alone, so to inputs of one sign, and its forward pass leaves the biases out as well."""
    attr = pytest.importorskip("captum.attr", reason="the second oracle; the first are nets worked out by hand")
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule

    net = nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False)).double()
    with torch.no_grad():
        net[2].weight.abs_()
    x = torch.rand(7, 6, dtype=torch.double)
    theirs = copy.deepcopy(net)
    for part in theirs[::2]:
        part.rule = Alpha1_Beta0_Rule()
    want = attr.LRP(theirs).attribute(x.clone().requires_grad_(), target=1).detach()
    got = propagate(net, x, 1, rule="alpha1beta0")[0]
    assert want.abs().max() > 1e-3 and torch.allclose(got, want, rtol=1e-6, atol=1e-7)
