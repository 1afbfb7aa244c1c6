"""RibeiroNet against its published counts and stages, its layer lists written out by hand, and explainers on it."""

import copy
import itertools
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import DeepLift
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D
from skecg.models import RIBEIRO_2020, RIBEIRO_LABELS, RIBEIRO_THRESHOLDS, RibeiroNet, ribeiro_callbacks
from tests.networks import lived_in, map_of, n_parameters, norm
from tests.tiny import LinearNet, toy_ecg

VARIANTS = ["keras", "pytorch"]


@pytest.mark.parametrize(
    "variant, width, count",
    [
        ("keras", 8, 104_662),
        ("keras", 16, 410_138),
        ("keras", 64, 6_421_910),
        ("pytorch", 8, 112_982),
        ("pytorch", 16, 443_355),
        ("pytorch", 64, 6_950_310),
    ],
)
def test_published_number_of_parameters_by_width(seeded, variant, width, count):
    assert n_parameters(RibeiroNet(variant=variant, width=width)) == count


def test_published_number_of_parameters_of_the_age_model(seeded):
    assert n_parameters(RibeiroNet(n_outputs=1, variant="pytorch")) == 6_924_705


STAGES = {  # name: (trainable parameters, channels, length), as published
    "keras": [
        ("stem", 12_416, 64, 4096),
        ("resblock1d_0", 401_920, 128, 1024),
        ("resblock1d_1", 1_041_936, 196, 256),
        ("resblock1d_2", 1_902_592, 256, 64),
        ("resblock1d_3", 3_032_320, 320, 16),
    ],
    "pytorch": [
        ("stem", 13_184, 64, 4096),
        ("resblock1d_0", 139_520, 64, 4096),
        ("resblock1d_1", 426_496, 128, 1024),
        ("resblock1d_2", 1_105_440, 196, 256),
        ("resblock1d_3", 2_018_304, 256, 64),
        ("resblock1d_4", 3_216_640, 320, 16),
    ],
}


@pytest.mark.parametrize("variant, statistics, kernel, eps, momentum", [
    ("keras", 3_728, 16, 1e-3, 0.01), ("pytorch", 3_984, 17, 1e-5, 0.1),
])  # fmt: skip
def test_stages_are_the_published_ones(seeded, variant, statistics, kernel, eps, momentum):
    net = RibeiroNet(variant=variant).eval()
    shapes = {}
    for name, part in net.named_modules():
        part.register_forward_hook(lambda m, i, o, name=name: shapes.setdefault(name, []).append(o))
    with torch.no_grad():
        net(torch.zeros(1, 12, 4096))
    stages = STAGES[variant]
    assert n_parameters(net.conv1) + n_parameters(net.bn1) == stages[0][1]
    assert shapes["relu"][0].shape == (1, *stages[0][2:])
    for name, count, channels, length in stages[1:]:
        assert n_parameters(net.get_submodule(name)) == count
        x, y = shapes[name][0]
        assert x.shape == y.shape == shapes[f"{name}.add"][0].shape == (1, channels, length)
    assert net.n_units == len(stages) - 1 and n_parameters(net.lin) == 30_726
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d)]
    assert sum(m.running_mean.numel() + m.running_var.numel() for m in norms) == statistics
    assert {(m.eps, m.momentum) for m in norms} == {(eps, momentum)}
    convs = [m for m in net.modules() if isinstance(m, nn.Conv1d)]
    assert all(m.bias is None for m in convs) and {m.kernel_size[0] for m in convs} == {1, kernel}
    drops = [m.p for m in net.modules() if isinstance(m, nn.Dropout)]
    assert drops == [0.2] * 2 * net.n_units
    n_relus = sum(isinstance(m, nn.ReLU) for m in net.modules())
    assert n_relus == 2 * net.n_units + (variant == "keras")  # none behind the stem of "pytorch"
    assert all(len(calls) == 1 for calls in shapes.values())  # hooks on a module see one place


def test_first_weights(seeded):
    net = RibeiroNet(width=16)
    for part in (net.conv1, net.resblock1d_2.conv2, net.lin):
        sd = math.sqrt(2 / part.weight[0].numel())
        assert part.weight.std().item() == pytest.approx(sd, rel=0.1)
        assert part.weight.abs().max() <= 2 * sd / 0.8796 + 1e-6
    assert (net.lin.bias == 0).all()
    other = RibeiroNet(width=16, variant="pytorch")
    assert other.conv1.weight.abs().max() <= 1 / math.sqrt(12 * 17)  # torch's uniform distribution


# --- the layer lists --------------------------------------------------------------------------------------------------


def same(length, kernel, stride):
    """Return the padding of TensorFlow's "same"."""
    total = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


def reference(net, x, variant):
    """Run the published layers by hand on a net's weights, in the order in which they are called."""
    keras = variant == "keras"
    kernel = 16 if keras else 17

    def conv(layer, h, stride=1):
        pad = same(h.shape[-1], kernel, stride) if keras else ((8, 8) if stride == 1 else (7, 7))
        return F.conv1d(F.pad(h, pad), layer.weight)[..., ::stride]

    def shortcut(h, part):
        pad = same(h.shape[-1], 4, 4) if keras else (0, 0)
        largest = F.pad(h, pad, value=-math.inf).unflatten(-1, (-1, 4)).amax(-1)
        return torch.einsum("nct,kc->nkt", largest, part.weight[..., 0])

    if not keras:
        x = F.pad(x, (0, -x.shape[-1] % 256))
    h = norm(net.bn1, conv(net.conv1, x))
    h = y = h.clamp(min=0) if keras else h
    for i in range(4 if keras else 5):
        unit = net.get_submodule(f"resblock1d_{i}")
        stride = 4 if keras or i else 1
        h = conv(unit.conv2, norm(unit.bn1, conv(unit.conv1, h)).clamp(min=0), stride)
        y = h + (shortcut(y, unit.skip_connection[1]) if stride == 4 else y)  # the sum itself goes to the next shortcut
        h = norm(unit.bn2, y).clamp(min=0)
    return h.flatten(1) @ net.lin.weight.T + net.lin.bias


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n_leads, n_timesteps", [(12, 4096), (3, 512), (2, 1001), (2, 770), (1, 303), (1, 5), (2, 1)])
def test_logits_are_the_published_layer_list(seeded, variant, n_leads, n_timesteps):
    net = lived_in(RibeiroNet(n_leads, n_timesteps, 4, variant=variant, width=3)).double()
    x = torch.randn(3, n_leads, n_timesteps, dtype=torch.float64)
    with torch.no_grad():
        got, want = net(x), reference(net, x, variant)
    assert got.shape == (3, 4) and want.std() > 1e-3
    assert torch.allclose(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n_timesteps", [1, 3, 17, 255, 256, 257, 1000])
def test_built_for_any_length(seeded, variant, n_timesteps):
    net = RibeiroNet(2, n_timesteps, 3, variant=variant, width=1)
    net(torch.randn(2, 2, n_timesteps)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_another_length_than_built_for_is_refused_with_both(seeded, variant):
    net = RibeiroNet(2, 1000, 3, variant=variant, width=1)
    for length in (999, 1001, 1024, 4096):  # 1024 has as many positions in the last map
        with pytest.raises(ValueError, match=rf"(?s)1000 timesteps.*{length}"):
            net(torch.zeros(1, 2, length))


# --- Grad-CAM and other explainers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variant, n_timesteps, layer, shape",
    [
        ("keras", 4096, "resblock1d_3.relu2", (10, 16)),
        ("pytorch", 4096, "resblock1d_4.relu2", (10, 16)),
        ("keras", 1000, "resblock1d_2.relu2", (8, 16)),
        ("pytorch", 720, "resblock1d_2.relu2", (6, 48)),
        ("keras", 9, "resblock1d_0.relu2", (4, 3)),
    ],
)
def test_cam_layer_goes_by_the_length(seeded, variant, n_timesteps, layer, shape):
    net = RibeiroNet(1, n_timesteps, 2, variant=variant, width=2).eval()
    assert net.cam_layer == layer and isinstance(net.get_submodule(layer), nn.ReLU)
    maps, _ = map_of(net, layer, torch.randn(1, 1, n_timesteps))
    assert maps.shape == (1, *shape)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n_timesteps", [1, 257, 4096])
def test_positions_are_as_many_as_the_map_has(seeded, variant, n_timesteps):
    net = RibeiroNet(1, n_timesteps, 2, variant=variant, width=1).eval()
    lengths = {}
    for name, part in net.named_modules():
        part.register_forward_hook(lambda m, i, o, name=name: lengths.update({name: o}))
    net(torch.randn(1, 1, n_timesteps))
    seen = {name: o.shape[-1] for name, o in lengths.items() if isinstance(o, torch.Tensor) and o.ndim == 3}
    assert len(seen) > 40
    for name, length in seen.items():
        assert len(net.cam_positions(name, n_timesteps)) == length, name


def test_positions_are_the_middle_of_what_was_pooled(seeded):
    net = RibeiroNet(1, 4096, 2, width=1)
    assert net.cam_positions("conv1", 4096)[[0, -1]].tolist() == [0, 4095]
    assert net.cam_positions("resblock1d_0.relu2", 4096)[:2].tolist() == [1.5, 5.5]  # samples 0 to 3, 4 to 7
    assert net.cam_positions(net.cam_layer, 4096)[[0, -1]].tolist() == [127.5, 3967.5]
    # of 5 samples "same" pools the padding and 0 to 2, then 3, 4 and the padding
    assert RibeiroNet(1, 5, 2, width=1).cam_positions("resblock1d_0.add", 5).tolist() == [0.5, 4.5]


@pytest.mark.parametrize("layer", ["lin", "flatten", "resblock1d_0", "resblock1d_9.relu1", "nothing", ""])
def test_a_layer_without_time_is_refused_with_one_that_has(seeded, layer):
    with pytest.raises(ValueError, match=r"resblock1d_3\.relu2"):
        RibeiroNet(1, 4096, 2, width=1).cam_positions(layer, 4096)
    with pytest.raises(ValueError, match=r"4096.*720"):
        RibeiroNet(1, 4096, 2, width=1).cam_positions("conv1", 720)


@pytest.mark.parametrize("variant", VARIANTS)
def test_hirescam_at_the_default_layer_sums_to_the_logit_without_its_bias(seeded, variant):
    net = lived_in(RibeiroNet(variant=variant, width=2))
    with torch.no_grad():
        net.lin.bias.uniform_(-1, 1)
    clf = ECGClassifier.from_module(net, RIBEIRO_LABELS, n_leads=12, n_timesteps=4096, multilabel=True, fs=400)
    X = torch.randn(3, 12, 4096).numpy()
    explained = GradCAM1D(clf, method="hirescam", relu=False).explain(X, target=["AF", "LBBB", "1dAVb"])
    positions = [RIBEIRO_LABELS.index(label) for label in ("AF", "LBBB", "1dAVb")]
    with torch.no_grad():
        logits = net(torch.from_numpy(X))[range(3), positions].numpy()
    bias = net.lin.bias.detach().numpy()[positions]
    assert explained.cam.shape == (3, 16) and np.ptp(logits - bias) > 1e-2
    np.testing.assert_allclose(explained.cam.sum(1), logits - bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(explained.score, logits, rtol=1e-4, atol=1e-5)
    assert GradCAM1D(clf).transform(X).shape == X.shape


@pytest.mark.parametrize("variant", VARIANTS)
def test_deeplift_sees_every_nonlinearity(seeded, variant):
    net = lived_in(RibeiroNet(2, 512, 3, variant=variant, width=2)).double()
    for part in list(net.modules()):
        if isinstance(part, nn.Sequential):  # captum's rule for the largest of a window does not keep the sum in a net
            part[0] = nn.AvgPool1d(4)
    x, base = torch.randn(2, 2, 512, dtype=torch.float64), torch.zeros(2, 2, 512, dtype=torch.float64)
    # a functional or shared ReLU would break the sum, and does so in captum without a word
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that hooks are set, and removed afterwards
        given = DeepLift(net).attribute(x, base, target=1).sum((1, 2))
    with torch.no_grad():
        want = net(x)[:, 1] - net(base)[:, 1]
    assert torch.allclose(given, want, rtol=1e-6, atol=1e-8) and want.abs().min() > 1e-4


# --- in a classifier --------------------------------------------------------------------------------------------------


def test_it_trains_by_its_name_with_six_labels_and_thresholds(rng):
    X = (0.3 * rng.standard_normal((24, 12, 300))).astype(np.float32)
    y = rng.integers(0, 2, (24, 6))
    y[:6], y[6:12] = np.eye(6), 1 - np.eye(6)
    settings = {**RIBEIRO_2020, "max_epochs": 1, "validation_fraction": 0.25}
    clf = ECGClassifier(
        "RibeiroNet", **settings, callbacks=ribeiro_callbacks(), labels=list(RIBEIRO_LABELS),
        threshold=list(RIBEIRO_THRESHOLDS), module__width=2, random_state=0,
    ).fit(X, y)  # fmt: skip
    assert type(clf.module_) is RibeiroNet and clf.module_.n_timesteps == 300
    assert list(clf.classes_) == list(RIBEIRO_LABELS)
    p = clf.predict_proba(X)
    assert np.array_equal(clf.predict(X), (p >= np.array(RIBEIRO_THRESHOLDS)).astype(int))
    with pytest.raises(ValueError, match="300"):
        clf.predict(X[..., :299])


class StandsStill(torch.optim.Adam):
    """Adam that takes no step, so that no epoch is better than the first."""

    def step(self, closure=None):
        return None if closure is None else closure()


def still():
    """Return windows, labels and a net without statistics of batches, whose loss stays as it is."""
    X, y, _, _ = toy_ecg(40)
    weight = np.linspace(-1, 1, 3 * X[0].size).reshape(3, 1, -1)
    return X, y, LinearNet(weight[:, :, : X.shape[-1]], np.zeros(3))


def test_learning_rate_falls_on_a_plateau_to_its_floor():
    settings = {"n_iter_no_change": 100, "max_epochs": 24, "validation_fraction": 0.2, "optimizer": StandsStill}
    X, y, net = still()
    clf = ECGClassifier(net, **{**RIBEIRO_2020, **settings}, callbacks=ribeiro_callbacks(), random_state=0).fit(X, y)
    rates = [row["event_lr"] for row in clf.history_]
    assert rates[0] == 1e-3 and rates[-1] == pytest.approx(1e-5)
    falls = [i for i, (a, b) in enumerate(itertools.pairwise(rates), start=1) if a != b]
    assert falls == [8, 15]  # in Keras: the first epoch is the best, and seven without a fall follow it


def test_training_stops_where_the_authors_does():
    settings = {**RIBEIRO_2020, "optimizer": StandsStill, "validation_fraction": 0.2}
    X, y, net = still()
    clf = ECGClassifier(net, **settings, callbacks=ribeiro_callbacks(), random_state=0).fit(X, y)
    assert clf.n_epochs_ == 1 + 9
    stopping = dict(clf.net_.callbacks_)["early_stopping"]
    assert (stopping.threshold, stopping.threshold_mode) == (1e-5, "abs")


def test_settings_are_parameters_of_the_classifier(seeded):
    given = ECGClassifier("RibeiroNet", **RIBEIRO_2020).get_params(deep=False)
    assert {name: given[name] for name in RIBEIRO_2020} == RIBEIRO_2020
    assert len(RIBEIRO_THRESHOLDS) == len(RIBEIRO_LABELS) == RibeiroNet(width=1).n_outputs


# --- manners ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout_acts_in_training_alone(seeded, variant):
    net, x = RibeiroNet(2, 300, 3, variant=variant, width=2, dropout=0.5), torch.randn(4, 2, 300)
    with torch.no_grad():
        assert not torch.equal(net(x), net(x))
        net.eval()
        assert torch.equal(net(x), net(x))


def test_momentum_reaches_every_batch_norm(seeded):
    net = RibeiroNet(1, 300, 3, width=1, momentum=0.3)
    assert {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm1d)} == {0.3}


@pytest.mark.parametrize("variant", VARIANTS)
def test_copies_and_pickles_are_the_same_network_and_leave_x_alone(seeded, variant):
    net, x = lived_in(RibeiroNet(12, 700, 3, variant=variant, width=1)), torch.randn(2, 12, 700)
    before = x.clone()
    with torch.no_grad():
        want = net(x)
        assert all(torch.equal(n(x), want) for n in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))))
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "bad",
    [
        *[{name: 0} for name in ("n_leads", "n_timesteps", "n_outputs", "width", "kernel_size")],
        *[{name: 1.5} for name in ("n_leads", "n_timesteps", "n_outputs", "width", "kernel_size")],
        {"dropout": 1.0},
        {"momentum": 0.0},
        {"variant": "tensorflow"},
        {"kernel_size": 16, "variant": "pytorch"},
    ],
    ids=str,
)
def test_bad_parameters_are_named(seeded, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        RibeiroNet(**{"width": 1, **bad})


@pytest.mark.parametrize("shape", [(2, 4096), (2, 11, 4096), (2, 12, 0)])
def test_input_of_another_shape_is_refused(seeded, shape):
    with pytest.raises(ValueError, match=r"n_samples, 12, n_timesteps"):
        RibeiroNet(width=1)(torch.zeros(shape))
