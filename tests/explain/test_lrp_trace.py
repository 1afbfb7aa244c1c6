"""The forward pass as relevance sees it: functions and modules, in place, reused, and what it refuses by name."""

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skecg.explain import LRP
from skecg.explain._lrp_trace import Propagation
from skecg.models import ECGNet, HannunNet, RibeiroNet, ZihlmannCNN
from skecg.models._layers import Add

pytestmark = pytest.mark.usefixtures("seeded")  # networks built by hand draw from torch's generator
RULES = ({"rule": "lrp0"}, {"epsilon": 0.1}, {"rule": "alpha1beta0"}, {"rule": "preset_a_flat", "sum_rule": "z"})
all_rules = pytest.mark.parametrize("settings", RULES, ids=str)


def propagate(net, x, index=0, **settings):
    """Return relevance, absorbed by layer and logits; the network is changed, for a twin is."""
    run = Propagation(net.requires_grad_(False), LRP(None, **settings)._settings())
    x, logits = run.logits(x)
    index = torch.full((len(x),), index)
    relevance, absorbed = run.relevance(x, logits, index)
    return relevance.detach(), absorbed, logits.detach()


class Written(nn.Module):
    """A network whose forward method is any function of its layers and x (n, 2, 32)."""

    def __init__(self, forward):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(2, 4, 5, padding=2), nn.BatchNorm1d(4)
        self.second = nn.Conv1d(4, 4, 3, padding=1)
        self.act, self.drop, self.head = nn.ReLU(), nn.Dropout(0.4), nn.Linear(4, 3)
        self.written = forward
        with torch.no_grad():
            self.norm.running_mean.normal_(), self.norm.running_var.uniform_(0.5, 2), self.norm.bias.normal_()

    def forward(self, x):
        return self.written(self, x)


def plain(net, x):
    h = net.act(net.norm(net.conv(x)))
    return net.head(net.drop(net.act(net.second(h) + h)).mean(-1))


def functional(net, x):
    h = F.relu(F.batch_norm(F.conv1d(x, net.conv.weight, net.conv.bias, padding=2), *list(net.norm.buffers())[:2],
                            net.norm.weight, net.norm.bias, False, 0.1, net.norm.eps))  # fmt: skip
    h = torch.relu(torch.add(F.conv1d(h, net.second.weight, net.second.bias, 1, "same"), h))
    return F.linear(F.dropout(h, 0.4, net.training).mean(dim=-1), net.head.weight, net.head.bias)


def in_place(net, x):
    h = F.relu(net.norm(net.conv(x)), True)
    y = net.second(h)
    y += h
    y.relu_()  # nobody takes what it returns
    return net.head(F.dropout(y, inplace=True, training=False).mean(-1))


def moved_about(net, x):
    x = torch.stack([x[:, 0], x[:, 1]], 1).transpose(1, 2).contiguous().mT
    h = net.conv(F.pad(x, (1, 1))[..., 1:-1]).relu()
    h = h if x.shape[-1] != 32 else net.norm(net.conv(x.flatten(1).view(len(x), 2, -1)))
    first, second = net.act(h).chunk(2, 1)
    h = torch.cat([first, second], 1).flip(-1).flip(-1)
    h = net.second(h) + h
    return net.head(net.act(h).permute(0, 2, 1).sum(1) / h.size(-1))


def into_a_constant(net, x):
    h = net.act(net.norm(net.conv(x)))
    y = torch.zeros_like(h)
    y.add_(h)  # nobody takes what it returns, and h is used again
    y += net.second(h)
    return net.head(net.act(y).mean(-1))


def in_place_behind_a_view(net, x):
    h = net.conv(x)
    y = h.flatten(1)
    y.unsqueeze_(1)
    h = net.act(net.norm(y.view(len(h), *h.shape[1:])))
    z = (net.second(h) + h)[:]
    F.relu_(z)  # what z is a view of is read no more
    return net.head(z.mean(-1))


VERSIONS = [functional, in_place, moved_about, into_a_constant, in_place_behind_a_view]


@all_rules
@pytest.mark.parametrize("version", VERSIONS, ids=lambda f: f.__name__)
def test_the_way_a_network_is_written_does_not_matter(version, settings):
    net, x = Written(plain).eval().double(), torch.randn(3, 2, 32, dtype=torch.double)
    other = copy.deepcopy(net)
    other.written = version
    assert torch.allclose(other(x.clone()), net(x))
    want, absorbed, logits = propagate(copy.deepcopy(net), x, 1, **settings)
    before = x.clone()
    got, other_absorbed, other_logits = propagate(other, x, 1, **settings)
    assert torch.equal(before, x) and torch.allclose(other_logits, logits)
    assert torch.allclose(got, want, rtol=1e-8, atol=1e-10)
    sums = [sum(v for v in a.values()) for a in (absorbed, other_absorbed)]
    assert torch.allclose(*sums, rtol=1e-8, atol=1e-10)


def test_reused_modules_are_told_apart_call_by_call():
    def reused(net, x):
        h = net.act(net.conv(x))
        return net.head(net.act(net.second(net.act(net.second(h)))).mean(-1))

    def apart(net, x):
        h = F.relu(net.conv(x))
        return net.head(F.relu(net.third(F.relu(net.second(h)))).mean(-1))

    net, x = Written(reused).eval().double(), torch.randn(3, 2, 32, dtype=torch.double)
    other = copy.deepcopy(net)
    other.third, other.written = copy.deepcopy(net.second), apart
    for settings in RULES:
        one, absorbed, _ = propagate(copy.deepcopy(net), x, **settings)
        two, others, _ = propagate(copy.deepcopy(other), x, **settings)
        assert torch.allclose(one, two, rtol=1e-10)
        assert list(absorbed) == ["conv", "second", "head"] and list(others) == ["conv", "second", "third", "head"]
        assert torch.allclose(absorbed["second"], others["second"] + others["third"], rtol=1e-10)


@pytest.mark.parametrize("variant", ["keras", "pytorch"])
@pytest.mark.parametrize("rule", ["lrp0", "alpha1beta0", "wsquare", "flat"])
def test_layer_by_layer(variant, rule):
    """What arrives at a sum that everything goes through is the logit less what is absorbed behind it."""
    net = RibeiroNet(12, 256, 6, width=2, variant=variant).double().eval().requires_grad_(False)
    run, sums = Propagation(net, LRP(None, rule=rule)._settings()), {}

    def watch(name):
        def hook(module, args, out):
            value, seen = out.detach() if run.settings.as_gradient else 1, len(run.absorbed)
            out.register_hook(lambda flow: sums.__setitem__(name, ((flow * value).sum((1, 2)), seen)))

        return hook

    for name, part in net.named_modules():
        if isinstance(part, Add):
            part.register_forward_hook(watch(name))
    x, logits = run.logits(torch.randn(3, 12, 256, dtype=torch.double))
    relevance, absorbed = run.relevance(x, logits, torch.tensor([0, 1, 2]))
    chosen, lost = logits.detach().diagonal()[:3], list(absorbed.values())
    assert len(sums) >= 4
    for arrived, before in [*sums.values(), (relevance.sum((1, 2)), 0)]:
        assert torch.allclose(arrived + sum(lost[before:]), chosen, rtol=1e-8, atol=1e-10)


def test_constants_take_what_they_get():
    def shifted(net, x):
        h = torch.cat([net.conv(x)[:, :3] - 0.5, torch.full((len(x), 1, 32), 2.0, dtype=x.dtype)], 1)
        return net.head((2 - net.second(h) / 3).mean(-1))

    net, x = Written(shifted).eval().double(), torch.randn(3, 2, 32, dtype=torch.double)
    leaf = x.clone().requires_grad_()
    want = torch.autograd.grad(net(leaf)[:, 0].sum(), leaf)[0] * x
    for settings in ({"rule": "lrp0"}, {"rule": "lrp0", "norm_rule": "pass"}, {"rule": "flat"}, {"rule": "wsquare"}):
        relevance, absorbed, logits = propagate(copy.deepcopy(net), x, **settings)
        assert torch.allclose(relevance.sum((1, 2)) + sum(absorbed.values()), logits[:, 0], rtol=1e-9)
        assert absorbed["Written"].abs().min() > 1e-6
        if settings["rule"] == "lrp0":
            assert torch.allclose(relevance, want, rtol=1e-6, atol=1e-9)


ACTIVATIONS = [nn.ELU(), nn.SELU(), nn.Tanh(), nn.LeakyReLU(0.2), nn.Softsign(), nn.Hardtanh(), nn.PReLU()]


@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda act: type(act).__name__)
def test_activations_pass_relevance(act):
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), act, nn.Linear(5, 2)).double().eval().requires_grad_(False)
    x = torch.randn(3, 1, 4, dtype=torch.double)
    z = net[1](x.flatten(1))
    of_unit = net[3].weight[0] * act(z)
    want = torch.einsum("nj,nji->ni", of_unit / z, net[1].weight * x)
    for settings in ({"rule": "lrp0"}, {"rule": "lrp0", "norm_rule": "pass"}):  # as gradient, as relevance
        assert torch.allclose(propagate(copy.deepcopy(net), x, **settings)[0][:, 0], want, rtol=1e-9)


def test_two_pads_count_each_padding_once():
    """Of a dense layer behind them the weights say what each value is worth."""
    net = Written(lambda net, x: net.head(F.pad(F.pad(x, (2, 0), value=0.5), (0, 3), value=2.0).flatten(1)))
    net.head = nn.Linear(2 * 37, 3)
    net, x = net.eval().double(), torch.randn(3, 2, 32, dtype=torch.double)
    weight = net.head.weight.detach()[1].view(2, 37)
    taken = (0.5 * weight[:, :2]).sum() + (2.0 * weight[:, 34:]).sum()
    for settings in ({"rule": "lrp0"}, {"rule": "lrp0", "norm_rule": "pass"}):  # as gradient, as relevance
        relevance, absorbed, logits = propagate(copy.deepcopy(net), x, 1, **settings)
        assert torch.allclose(relevance, x * weight[:, 2:34], rtol=1e-9)
        assert torch.allclose(absorbed["Written"], taken.expand(3), rtol=1e-9)
        assert torch.allclose(relevance.sum((1, 2)) + sum(absorbed.values()), logits[:, 1], rtol=1e-9)


def test_detached_values_are_constants():
    def gated(net, x):
        h = net.conv(x)
        with torch.no_grad():
            shift = net.second(h)
        return net.head((h * torch.sigmoid(h.detach()) + shift).mean(-1))

    net, x = Written(gated).eval().double(), torch.randn(3, 2, 32, dtype=torch.double)
    leaf = x.clone().requires_grad_()
    want = torch.autograd.grad(net(leaf)[:, 0].sum(), leaf)[0] * x
    relevance, absorbed, logits = propagate(net, x, rule="lrp0")
    assert torch.allclose(relevance, want, rtol=1e-6, atol=1e-9) and absorbed["Written"].abs().min() > 1e-6
    assert torch.allclose(relevance.sum((1, 2)) + sum(absorbed.values()), logits[:, 0], rtol=1e-9)


@pytest.mark.parametrize("refused", [False, True])
def test_in_place_operations_keep_no_memory(refused):
    maps = []

    def written(net, x):
        h = net.conv(x)
        maps.extend(map(weakref.ref, (h, h.relu_())))
        return net.head(h.mean(-1)).exp() if refused else net.head(h.mean(-1))

    net = Written(written).eval()
    for settings in RULES:
        if refused:
            with pytest.raises(ValueError, match="exp in Written"):
                propagate(copy.deepcopy(net), torch.randn(2, 2, 32), **settings)
        else:
            propagate(copy.deepcopy(net), torch.randn(2, 2, 32), **settings)
    gc.collect()
    assert len(maps) == 2 * len(RULES) and all(ref() is None for ref in maps)


def test_two_dimensional_convolutions_and_groups():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 4, (2, 5), padding="same"), nn.BatchNorm2d(4)
            self.grouped, self.head = nn.Conv2d(4, 8, 3, groups=2, stride=2, padding=1), nn.Linear(8, 3)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.norm(self.conv(x.unsqueeze(1)))), (1, 2))
            return self.head(F.adaptive_avg_pool2d(F.relu(self.grouped(x)), 1).flatten(1))

    net, x = Net().double().eval(), torch.randn(3, 2, 32, dtype=torch.double)
    leaf = x.clone().requires_grad_()
    want = torch.autograd.grad(net(leaf)[:, 0].sum(), leaf)[0] * x
    assert torch.allclose(propagate(copy.deepcopy(net), x, rule="lrp0")[0], want, rtol=1e-6, atol=1e-9)
    for rule in ("alpha1beta0", "wsquare", "flat"):
        relevance, absorbed, logits = propagate(copy.deepcopy(net), x, rule=rule)
        assert torch.allclose(relevance.sum((1, 2)) + sum(absorbed.values()), logits[:, 0], rtol=1e-9)
        if rule != "alpha1beta0":
            assert torch.allclose(relevance.sum((1, 2)), logits[:, 0], rtol=1e-9)


# --- refusals ---------------------------------------------------------------------------------------------------------


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, flow):
        return flow * 2


REFUSED = {
    "sigmoid in Written": lambda net, x: torch.sigmoid(plain(net, x)),
    "softmax in Written": lambda net, x: plain(net, x).softmax(1),
    "gelu in Written": lambda net, x: net.head(F.gelu(net.conv(x)).mean(-1)),
    "layer_norm in Written": lambda net, x: net.head(F.layer_norm(net.conv(x), (32,)).mean(-1)),
    "statistics of a batch": lambda net, x: net.head(F.batch_norm(net.conv(x), None, None, training=True).mean(-1)),
    "mul in Written of two tensors": lambda net, x: net.head((net.conv(x) * net.conv(x)).mean(-1)),
    "div in Written by what depends": lambda net, x: net.head((net.conv(x) / x.amax(-1, True)[:, :1]).mean(-1)),
    "conv1d in Written with a weight": lambda net, x: net.head(
        F.conv1d(x, net.conv.weight * x.mean(), padding=2).mean(-1)
    ),
    "conv1d in Written with a weight, bias": lambda net, x: net.head(
        F.conv1d(x, net.conv.weight, net.act(x.mean()).expand(4), padding=2).mean(-1)
    ),
    "linear in Written with a weight, bias": lambda net, x: F.linear(
        net.conv(x).mean(-1), net.head.weight, x.amax((0, 1, 2)).expand(3)
    ),
    "batch_norm in Written with": lambda net, x: net.head(_conditioned(net, net.conv(x), x.amax((0, 1, 2))).mean(-1)),
    "prelu in Written with": lambda net, x: net.head(F.prelu(net.conv(x), x.amax((0, 1, 2)).expand(1)).mean(-1)),
    "relu_. on shared memory in Written: mean reads": lambda net, x: net.head(_upon(net.conv(x), 0).mean(-1)),
    "relu_. on shared memory in Written: __getitem__ reads": lambda net, x: net.head(_upon(net.conv(x), 1).mean(-1)),
    "relu_. on shared memory in Written: mul reads": lambda net, x: net.head(_upon(net.conv(x), 2).mean(-1)),
    "add_. on shared memory in Written: mul reads": lambda net, x: net.head(_upon(net.conv(x), 3).mean(-1)),
    "relu_. on shared memory in Written: item reads": lambda net, x: net.head(_upon(net.conv(x), 4).mean(-1)),
    "relu_. on shared memory in Written: the network's answer": lambda net, x: _upon(plain(net, x), 0),
    "relu in Written whose gradient is switched off": lambda net, x: net.head(_upon(net.conv(x), 5).mean(-1)),
    "dropout in Written that is active": lambda net, x: F.dropout(plain(net, x), 0.5),
    "__setitem__": lambda net, x: net.head(_overwritten(net.conv(x)).mean(-1)),
    "exp_": lambda net, x: net.head(net.conv(x).exp_().mean(-1)),
    "Own": lambda net, x: net.head(net.conv(Own.apply(x)).mean(-1)),
    "hardtanh in Written that is not zero": lambda net, x: net.head(F.hardtanh(net.conv(x), 1.0, 2.0).mean(-1)),
}


def _overwritten(x):
    x[:, 0] = 0.0
    return x


def _conditioned(net, h, value):
    return F.batch_norm(h, net.norm.running_mean, net.norm.running_var, None, value.expand(4), False)


def _upon(h, way):
    """Write into memory by one tensor and read it by another one."""
    view = h[:, :2]
    if way == 0:
        F.relu_(view)
    elif way == 1:
        h.relu_()
        return view[..., 1:].repeat(1, 2, 1)
    elif way == 2:
        detached = h.detach()
        h.relu_()
        return h + detached * 2
    elif way == 3:
        constant = torch.zeros_like(h)
        constant[:].add_(h)
        return h + constant * 2
    elif way == 4:
        one = h.detach()[0, 0, 0]
        h.relu_()
        return h * one.item()
    else:
        with torch.no_grad():
            h.relu_()
    return h


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("rule", ["lrp0", "alpha1beta0"])
def test_what_has_no_rule_is_refused_by_name(what, rule):
    with pytest.raises(ValueError, match=f"no rule for .*{what}.*It knows .*conv1d.*linear.*max_pool1d"):
        propagate(Written(REFUSED[what]).eval(), torch.randn(2, 2, 32), rule=rule)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_refused_with_what_to_use(layer):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.steps, self.head = layer(2, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, x):
            return self.head(self.steps(x.transpose(1, 2))[0][:, -1])

    with pytest.raises(ValueError, match=f"'steps' .{layer.__name__}.*IntegratedGradients.*HannunNet and RibeiroNet"):
        propagate(Net().eval(), torch.randn(2, 2, 32))


@pytest.mark.parametrize("kind, name", [(ECGNet, "lstm.lstm"), (ZihlmannCNN, "spectrogram")])
def test_networks_of_the_library_that_are_refused(kind, name):
    with pytest.raises(ValueError, match=name):
        propagate(kind(1, 720, 3, width=1).eval(), torch.randn(2, 1, 720))


def test_hannun_by_the_mean_of_probabilities_is_refused():
    with pytest.raises(ValueError, match="logsumexp"):
        propagate(HannunNet(1, 512, 2, width=1, reduce="logmeanexp").eval(), torch.randn(2, 1, 512))


def test_a_refusal_leaves_the_run_usable():
    net = Written(lambda net, x: net.act(plain(net, x)).exp()).eval().requires_grad_(False)
    run = Propagation(net, LRP(None)._settings())
    for _ in range(2):
        with pytest.raises(ValueError, match="exp in Written"):
            run.logits(torch.randn(2, 2, 32))
    net.written = plain
    run.logits(torch.randn(2, 2, 32))
    assert next(iter(run.absorbed)) == "conv"


def test_an_answer_that_does_not_see_the_input_is_absorbed_whole():
    net = Written(lambda net, x: net.head(torch.ones(len(x), 4))).eval()
    relevance, absorbed, logits = propagate(net, torch.randn(2, 2, 32))
    assert not relevance.any() and torch.allclose(absorbed["Written"], logits[:, 0].double())
