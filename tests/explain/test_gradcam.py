"""GradCAM1D against captum, hand-computed maps and the published additive form of ECGNet's logits."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam
from sklearn.frozen import FrozenEstimator
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D
from skecg.models import ECGNet
from tests.tiny import FAST, LinearNet, TinyNet, toy_ecg

METHODS = ["gradcam", "gradcam++", "hirescam", "layercam"]


def around(net, n_outputs, n_leads, n_timesteps, **settings):
    names = ["A", "B", "C", "D", "E"][:n_outputs]
    return ECGClassifier.from_module(net, names, n_leads=n_leads, n_timesteps=n_timesteps, **settings)


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n_leads=2)


@pytest.fixture(scope="module")
def clf(toy):
    return ECGClassifier(TinyNet, module__lstm=3, **{**FAST, "max_epochs": 10}).fit(*toy[:2])


# --- by hand ----------------------------------------------------------------------------------------------------------

# two "channels" (leads) of four places; the gradient of logit A is WEIGHT[0], of logit B WEIGHT[1]
WEIGHT = np.array([[[1, 2, 3, -2], [-1, 0, 0, -3]], [[0, 0, 0, 1], [0, 0, 0, 0]]], dtype=float)
WINDOW = np.array([[[1, -2, 0, 3], [2, 1, -1, -1]]], dtype=np.float32)
BY_HAND = {
    # A: alpha = (1, -1): [1-2, -2-1, 0+1, 3+1]
    ("gradcam", "A"): [-1, -3, 1, 4],
    # B: alpha = (1/4, 0)
    ("gradcam", "B"): [0.25, -0.5, 0, 0.75],
    # A: gradient times map, place by place: [1-2, -4+0, 0+0, -6+3]
    ("hirescam", "A"): [-1, -4, 0, -3],
    ("hirescam", "B"): [0, 0, 0, 3],
    # A: only the gradients above zero count: [1, -4, 0, 0]
    ("layercam", "A"): [1, -4, 0, 0],
    ("layercam", "B"): [0, 0, 0, 3],
    # A: the maps add up to 2 and 1; weights 1/(2+2) + 2/(2+4) + 3/(2+6) = 23/24 and 0
    ("gradcam++", "A"): [23 / 24, -23 / 12, 0, 23 / 8],
    # B: weights 1/(2+2) and 0
    ("gradcam++", "B"): [0.25, -0.5, 0, 0.75],
}


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("method, target", BY_HAND)
def test_maps_worked_out_by_hand(method, target, relu):
    clf = around(LinearNet(WEIGHT, [0.5, 0.0]), 2, 2, 4)
    want = np.array(BY_HAND[method, target], dtype=float)
    out = GradCAM1D(clf, method=method, relu=relu, target=target).explain(WINDOW)
    want = np.maximum(want, 0) if relu else want
    assert np.allclose(out.cam, want[None], atol=1e-6)
    assert np.allclose(out.relevance, np.repeat(want[None, None], 2, 1), atol=1e-6)  # no lead axis: the same on both
    assert out.relevance_kind == "cam" and list(out.target) == [target]
    # logit A: 1 - 4 + 0 - 6 on the first lead, -2 + 0 + 0 + 3 on the second, 0.5
    assert np.allclose(out.score, -7.5 if target == "A" else 3.0)
    assert np.array_equal(out.data, WINDOW)


class Halving(nn.Module):
    cam_layer = "pool"

    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool1d(2)
        self.sign = nn.Parameter(torch.tensor([1.0, -1.0]))

    def forward(self, x):
        return self.pool(x).flatten(1).sum(1, keepdim=True) * self.sign


def test_short_maps_are_interpolated_between_their_centres():
    # places of the map: 2 and 6; their gradient is 1, so alpha = 1
    explainer = GradCAM1D(around(Halving(), 2, 1, 4), target="A", method="gradcam")
    out = explainer.explain(np.array([[1, 3, 5, 7]], dtype=np.float32))
    assert np.allclose(out.cam, [[2, 6]])
    assert np.allclose(np.ravel(out.relevance), [2, 3, 5, 6], atol=1e-6)  # linear, the ends held


class Pooled(nn.Module):
    """A convolution, global average pooling, one linear layer: the network of CAM."""

    cam_layer = "conv"

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 5, padding=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.conv(x).mean(-1))


def test_cam_is_gradcam_under_global_average_pooling(seeded):
    net, X = Pooled(), toy_ecg(6, n_timesteps=40)[0]
    with torch.no_grad():
        maps = net.conv(torch.from_numpy(X))
        cam = torch.einsum("k,nkt->nt", net.head.weight[1], maps).numpy() / 40
    for method in ("gradcam", "hirescam"):
        out = GradCAM1D(around(net, 3, 1, 40), method=method, relu=False, target="B").explain(X)
        assert np.abs(out.cam - cam).max() < 1e-6 and np.abs(cam).max() > 1e-3


# --- against captum ---------------------------------------------------------------------------------------------------


def captum(net, layer, X, codes, relu):
    net.eval()
    x, t = torch.from_numpy(X), torch.as_tensor(codes)
    cam = LayerGradCam(net, net.get_submodule(layer)).attribute(x, t, relu_attributions=relu)
    return LayerAttribution.interpolate(cam, (X.shape[-1],), "linear").detach().numpy()


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("layer", ["features", "features.0", "features.3", "features.4"])
def test_gradcam_is_captums(toy, clf, layer, relu):
    X, y, *_ = toy
    want = captum(clf.module_, layer, X, np.searchsorted(clf.classes_, y), relu)
    got = GradCAM1D(clf, layer=layer, method="gradcam", relu=relu).explain(X, target=y).relevance
    assert np.abs(got - want).max() < 1e-5 and np.abs(want).max() > 0.01
    assert got.shape == X.shape and got.dtype == np.float32


@pytest.mark.parametrize("layer", ["default", "stem", "first pool", "final norm"])
def test_gradcam_is_captums_on_ecgnet(seeded, layer):
    net, X = ECGNet(2, 720, 3, width=1).eval(), np.random.default_rng(0).standard_normal((5, 2, 720))
    X = X.astype(np.float32)
    norms = [name for name, part in net.named_modules() if isinstance(part, nn.BatchNorm1d)]
    pools = [name for name, part in net.named_modules() if isinstance(part, nn.MaxPool1d)]
    name = {"default": net.cam_layer, "stem": norms[0], "first pool": pools[0], "final norm": norms[-1]}[layer]
    codes = np.arange(5) % 3
    ex = GradCAM1D(around(net, 3, 2, 720), method="gradcam", layer=None if layer == "default" else name, relu=False)
    got = ex.explain(X, target=np.array(["A", "B", "C"])[codes])
    want = captum(net, name, X, codes, False)
    scale = np.abs(want).max()
    assert scale > 0 and np.abs(got.relevance - want).max() < 1e-5 * max(1, scale)
    if layer == "default":
        assert got.cam.shape == (5, 45)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("method", ["hirescam", "layercam"])
def test_further_methods_by_autograd(toy, clf, method, relu):
    X, y, *_ = toy
    codes, net = torch.from_numpy(np.searchsorted(clf.classes_, y)), clf.module_.eval()
    A = net.features(torch.from_numpy(X)).detach().requires_grad_()
    h = torch.cat([A.mean(-1), net.lstm(torch.from_numpy(X).transpose(1, 2))[0][:, -1]], 1)
    (g,) = torch.autograd.grad(net.head(h).gather(1, codes[:, None]).sum(), A)
    cam = ((g.relu() if method == "layercam" else g) * A.detach()).sum(1, keepdim=True)
    cam = cam.relu() if relu else cam
    want = nn.functional.interpolate(cam, X.shape[-1], mode="linear", align_corners=False).numpy()
    out = GradCAM1D(clf, method=method, relu=relu).explain(X, target=y)
    assert np.abs(out.cam - cam[:, 0].numpy()).max() < 1e-5
    assert np.abs(out.relevance - want).max() < 1e-5 and np.abs(want).max() > 0.01


@pytest.mark.parametrize("n_timesteps", [512, 720])
def test_hirescam_at_the_final_norm_is_the_cnn_term(seeded, n_timesteps):
    net = ECGNet(1, n_timesteps, 4, width=1).eval()
    final = [name for name, part in net.named_modules() if isinstance(part, nn.BatchNorm1d)][-1]
    X = np.random.default_rng(1).standard_normal((6, 1, n_timesteps)).astype(np.float32)
    codes = np.arange(6) % 4
    with torch.no_grad():
        want = net.branch_logits(torch.from_numpy(X))["cnn"].numpy()[np.arange(6), codes]
    ex = GradCAM1D(around(net, 4, 1, n_timesteps), method="hirescam", relu=False, layer=final)
    cam = ex.explain(X, target=np.array(["A", "B", "C", "D"])[codes]).cam
    assert cam.shape == (6, 2) and np.allclose(cam.sum(1), want, rtol=1e-4, atol=1e-6) and np.abs(want).max() > 1e-3


def test_evidence_is_found(toy):
    X, y, _, truth = toy_ecg(n_leads=1)
    clf = ECGClassifier(TinyNet, **{**FAST, "max_epochs": 20}).fit(X, y)
    pvc = y == "PVC"
    top = GradCAM1D(clf, target="PVC", method="gradcam").transform(X[pvc]).argmax(-1)
    assert np.take_along_axis(truth[pvc], top[..., None], -1).mean() > 0.6 > 2.5 * truth.mean()  # chance is about .2


# --- what is explained ------------------------------------------------------------------------------------------------


def test_score_is_the_logit_of_the_target(toy, clf):
    X, y, *_ = toy
    z = clf.decision_function(X)
    out = GradCAM1D(clf, method="gradcam").explain(X)
    assert np.array_equal(out.target, clf.predict(X)) and np.allclose(out.score, z.max(1), rtol=1e-5, atol=1e-5)
    out = GradCAM1D(clf, method="gradcam").explain(X, target=y)
    assert np.allclose(out.score, z[np.arange(120), np.searchsorted(clf.classes_, y)], rtol=1e-5, atol=1e-5)


def test_saturated_probabilities_do_not_silence_the_logit():
    net = LinearNet(np.array([[[60.0, 0]], [[-60.0, 0]]]), [0.0, 0.0])
    X = np.array([[[1.0, 1.0]]], dtype=np.float32)
    clf = around(net, 2, 1, 2)
    assert clf.predict_proba(X)[0, 0] == 1.0
    assert np.allclose(GradCAM1D(clf, method="hirescam").transform(X), [[[60, 0]]])


def test_multilabel_targets(toy):
    X, y, *_ = toy
    Y = pd.DataFrame({"AF": (y != "N").astype(int), "LBBB": (y == "PVC").astype(int)})
    clf = ECGClassifier(TinyNet, **FAST).fit(X, Y)
    z, p = clf.decision_function(X), clf.predict_proba(X)
    threshold = np.median(p, axis=0) + 1e-4
    clf.set_params(threshold=list(threshold))
    out = GradCAM1D(clf, method="gradcam").explain(X)
    top = z.argmax(1)
    assert np.array_equal(out.target, np.array(["AF", "LBBB"])[top])  # the highest logit ...
    assert np.array_equal(out.above_threshold, p[np.arange(120), top] > threshold[top])  # ... passed or not
    assert out.above_threshold.dtype == bool and 0 < out.above_threshold.sum() < 120
    assert set(GradCAM1D(clf, method="gradcam").explain(X, target="LBBB").target) == {"LBBB"}


def test_labels_never_positions(toy):
    X, y, *_ = toy
    ints = ECGClassifier(TinyNet, **{**FAST, "max_epochs": 1}).fit(X, np.where(y == "N", 10, 20))
    assert GradCAM1D(ints, target=20, method="gradcam").explain(X).target[0] == 20
    with pytest.raises(ValueError, match="not among the classes"):
        GradCAM1D(ints, target=1, method="gradcam").transform(X)


# --- layers -----------------------------------------------------------------------------------------------------------


class Wall(torch.autograd.Function):
    """Passes forward, breaks the backward pass: whoever differentiates it has built a graph that nobody needs."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("the graph reaches below the layer")


class Walled(nn.Module):
    cam_layer = "upper"

    def __init__(self):
        super().__init__()
        self.lower, self.upper = nn.Conv1d(1, 3, 3, padding=1), nn.Conv1d(3, 3, 3, padding=1)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.upper(Wall.apply(self.lower(x))).mean(-1))


@pytest.mark.parametrize("method", METHODS)
def test_no_graph_below_the_layer(seeded, method):
    net = Walled()
    clf, X = around(net, 2, 1, 30), toy_ecg(8, n_timesteps=30)[0]
    assert np.isfinite(GradCAM1D(clf, method=method).transform(X)).all()


def test_layer_as_a_module_of_the_network(toy, clf):
    X, *_ = toy
    by_name = GradCAM1D(clf, layer="features.0", method="gradcam").transform(X)
    assert np.array_equal(GradCAM1D(clf, layer=clf.module_.features[0], method="gradcam").transform(X), by_name)
    frozen = FrozenEstimator(clf)
    assert np.array_equal(GradCAM1D(frozen, layer=clf.module_.features[0], method="gradcam").transform(X), by_name)
    with pytest.raises(ValueError, match="layer"):
        GradCAM1D(clf, layer=nn.Identity(), method="gradcam").transform(X)


def test_default_layer_is_the_networks(toy, clf):
    X, *_ = toy
    named = GradCAM1D(clf, layer="features", method="gradcam").transform(X)
    assert np.array_equal(GradCAM1D(clf, method="gradcam").transform(X), named)


def test_a_network_without_cam_layer_needs_a_layer(seeded):
    net = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    clf, X = around(net, 2, 1, 20), toy_ecg(4, n_timesteps=20)[0]
    with pytest.raises(ValueError, match="layer"):
        GradCAM1D(clf, method="gradcam").transform(X)
    assert GradCAM1D(clf, layer="0", method="gradcam").transform(X).shape == X.shape


@pytest.mark.parametrize(
    "layer, message",
    [
        ("nope", r"(?s)nope.*features"),
        ("features.9", r"(?s)features\.9.*features"),
        ("lstm", "lstm"),
        ("head", "head"),
        ("drop", "drop"),
    ],
)
def test_layers_that_give_no_map_are_named(toy, clf, layer, message):
    with pytest.raises(ValueError, match=message):
        GradCAM1D(clf, layer=layer, method="gradcam").transform(toy[0])


@pytest.mark.parametrize("name, value", [("method", "gradcamm"), ("batch_size", 0), ("layer", 3), ("fs", -1.0)])
def test_bad_parameters_are_named(toy, clf, name, value):
    with pytest.raises((ValueError, TypeError) if name == "layer" else ValueError, match=name):
        GradCAM1D(clf, **{name: value}).transform(toy[0])


def test_unknown_method_lists_the_known(toy, clf):
    with pytest.raises(ValueError, match=r"(?s)gradcam.*hirescam.*layercam|layercam.*hirescam.*gradcam"):
        GradCAM1D(clf, method="plus").transform(toy[0])


def test_windows_without_relevance_are_counted():
    clf = around(LinearNet(WEIGHT, [0.0, 0.0]), 2, 2, 4)
    X = np.concatenate([WINDOW, -WINDOW, WINDOW])
    X[1] = -np.abs(X[1])
    with pytest.warns(UserWarning, match=r"\b1 of 3\b"):
        R = GradCAM1D(clf, target="B", method="gradcam").transform(X)  # after ReLU nothing is left of the second
    assert R[0].any() and not R[1].any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GradCAM1D(clf, target="B", method="gradcam").transform(X[::2])
