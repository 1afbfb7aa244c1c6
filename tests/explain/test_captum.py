"""CaptumExplainer against captum called by hand, shap and hand-computed networks; and the networks that it refuses."""

import copy
import random
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import CaptumExplainer, GradCAM1D, IntegratedGradients, Saliency, ShapExplainer
from skecg.explain._captum import METHODS
from skecg.explain._captum_checks import _Spread
from skecg.models import ECGNet, ResNet1d, RibeiroNet
from skecg.utils._validation import draw_seed
from tests.explaining import around, close
from tests.tiny import FAST, LinearNet, TinyNet, same_snapshot, snapshot, toy_ecg

FEATURES = np.arange(60) // 12
LEVELS = np.stack([np.zeros((2, 60)), np.full((2, 60), 0.1)])
CASES = {
    "DeepLift": {},
    "DeepLiftShap": {"baselines": LEVELS},
    "GuidedBackprop": {},
    "Deconvolution": {},
    "GuidedGradCam": {"interpolate_mode": "linear"},
    "Saliency": {"abs": False},
    "InputXGradient": {},
    "IntegratedGradients": {"n_steps": 10, "baselines": 0.1},
    "GradientShap": {"baselines": LEVELS, "stdevs": 0.1},
    "FeatureAblation": {"feature_mask": FEATURES},
    "Occlusion": {"sliding_window_shapes": [1, 20], "strides": [1, 10], "baselines": 0.1},
    "ShapleyValueSampling": {"feature_mask": FEATURES, "n_samples": 3},
    "ShapleyValues": {"feature_mask": FEATURES // 2},
    "KernelShap": {"feature_mask": FEATURES, "n_samples": 8},
    "Lime": {"feature_mask": FEATURES, "n_samples": 8},
    "NoiseTunnel": {"attribution_method": "InputXGradient", "stdevs": 0.1},
}
all_methods = pytest.mark.parametrize("method", METHODS)
# those that pick values at random and those that run their own models are slow
QUICK = ("DeepLift", "GuidedGradCam", "Deconvolution", "IntegratedGradients", "ShapleyValueSampling", "NoiseTunnel")


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=24, n_leads=2, n_timesteps=60)


@pytest.fixture(scope="module")
def trained(toy):
    """Return a network with an LSTM, and one without, for DeepLIFT."""
    return [ECGClassifier(TinyNet, module__lstm=lstm, module__dropout=0.3, **FAST).fit(*toy[:2]) for lstm in (3, 0)]


@pytest.fixture
def clf(trained, request):
    return trained[request.node.callspec.params.get("method", "").startswith("DeepLift")]


def make(method, estimator, **settings):
    return CaptumExplainer(estimator, **{"method": method, "options": CASES[method], "random_state": 0, **settings})


# --- oracles ----------------------------------------------------------------------------------------------------------


def by_hand(method, net, x, target, seed):
    """Return captum's own answer for one window, from generators of that seed."""
    tensors = {key: value for key, value in CASES[method].items() if key != "attribution_method"}
    for key, value in tensors.items():
        if isinstance(value, list):
            tensors[key] = tuple(value)
        if isinstance(value, np.ndarray):
            tensors[key] = torch.tensor(value if key == "baselines" else np.tile(value, (1, 2, 1)))
    if "baselines" in tensors and torch.is_tensor(tensors["baselines"]):
        tensors["baselines"] = tensors["baselines"].float()
    explainer = getattr(captum.attr, CASES[method].get("attribution_method", method))
    explainer = explainer(net, net.features) if method == "GuidedGradCam" else explainer(net)
    explainer = captum.attr.NoiseTunnel(explainer) if method == "NoiseTunnel" else explainer
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return explainer.attribute(x.clone().requires_grad_(), target=target, **tensors).detach().numpy()


@all_methods
def test_equal_to_captum_by_hand(method, toy, clf, seeded):
    net = copy.deepcopy(clf.module_).eval()
    if method == "DeepLiftShap":  # captum loses the rule of a pooling that directly follows an activation
        net.features = nn.Sequential(*net.features[:3], Copy(), *net.features[3:])
    X = toy[0][:3]
    out = make(method, clf).explain(X)
    index = np.searchsorted(clf.classes_, out.target).tolist()
    want = [by_hand(method, net, torch.from_numpy(X[i : i + 1]), index[i], draw_seed(0)) for i in range(3)]
    assert close(out.relevance, np.concatenate(want)) and out.relevance.any()
    assert np.array_equal(out.target, clf.predict(X)) and np.allclose(out.score, clf.decision_function(X).max(1))


class Copy(nn.Module):
    def forward(self, x):
        return x.clone()


@pytest.mark.parametrize("output", ["margin", "probability"])
def test_other_outputs_equal_ours(output, toy, trained):
    X, clf = toy[0], trained[0]
    got = CaptumExplainer(clf, method="Saliency", output=output).explain(X)
    want = Saliency(clf, output=output).explain(X)
    assert close(got.relevance, want.relevance) and close(got.score, want.score)
    assert got.relevance_kind == "positive"
    options = {"n_steps": 16, "method": "riemann_middle"}
    got = CaptumExplainer(clf, method="IntegratedGradients", options=options, output=output).explain(X)
    want = IntegratedGradients(clf, n_steps=16, output=output).explain(X)
    assert close(got.relevance, want.relevance, 2e-5) and close(got.score_baseline, want.score_baseline)
    assert np.allclose(got.completeness_error, want.completeness_error, atol=1e-6)


@pytest.mark.parametrize("n", [1, 4])
def test_deeplift_adds_up_and_equals_shap(n, toy, trained):
    X, background, clf = toy[0][:2], toy[0][10 : 10 + n], trained[1]
    method, given = ("DeepLift", background[0]) if n == 1 else ("DeepLiftShap", background)
    out = CaptumExplainer(clf, method=method, options={"baselines": given}).explain(X)
    want = ShapExplainer(clf, method="deep", background=background).explain(X)
    assert close(out.relevance, want.relevance) and close(out.score_baseline, want.score_background)
    assert np.abs(out.completeness_error).max() < 1e-6
    rise = out.score - out.score_baseline
    assert np.allclose(out.relevance.sum((1, 2)), rise, atol=1e-6) and (np.abs(rise) > 1e-3).any()


POOLS = [(3, 2, 1), (3, 1, 0), (5, 3, 2), (4, 3, 1), (2, 1, 0)]


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_stretches_that_overlap(pool, ceil, toy, seeded):
    for length in (59, 60):
        x, layer = torch.from_numpy(toy[0][:6, :, :length]), nn.MaxPool1d(*pool, ceil_mode=ceil)
        assert torch.equal(_Spread(layer)(x), layer(x))
    net = nn.Sequential(nn.Conv1d(2, 3, 5), nn.ReLU(), layer, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 2))
    clf = around(net.eval(), 60, n_leads=2)
    out = CaptumExplainer(clf, options={"baselines": toy[0][7]}, target="A").explain(toy[0][:6])
    assert np.abs(out.completeness_error).max() < 1e-6 and out.relevance.any((1, 2)).all()


def test_a_pooling_by_hand(seeded):
    """Of (3, 1, 2) the stretches are (3, 1) and (1, 2): the sum of their maxima, from 0, is 3 + 2."""
    net = nn.Sequential(nn.MaxPool1d(2, 1), nn.Flatten(), nn.Linear(2, 2))
    nn.init.ones_(net[2].weight), nn.init.zeros_(net[2].bias)
    R = CaptumExplainer(around(net, 3), target="A").transform(np.array([[[3.0, 1, 2]], [[1, 3, 2]]], dtype=np.float32))
    assert np.allclose(R, [[[3, 0, 2]], [[0, 6, 0]]])


def test_windows_do_not_mix_in_a_pooling(toy, seeded):
    """Of itself captum puts the first window's gradient where a pooled map equals that of the baseline."""
    net = nn.Sequential(nn.Conv1d(2, 3, 5), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(84, 2)).eval()
    X = toy[0][:6].copy()
    X[:, :, 20:40] = 0  # where a window equals its baseline
    ex = CaptumExplainer(around(net, 60, n_leads=2), target="A")
    assert close(ex.transform(X[::-1])[::-1], ex.transform(X))


class ByHand(nn.Module):
    """One hidden layer of three ReLUs, of which the first two are open at (2, 1)."""

    def __init__(self, bias, inplace=False):
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(2, 3), nn.ReLU(inplace=inplace), nn.Linear(3, 2)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, -1], [1, 1], [-1, 0]]))
            self.first.bias.copy_(torch.tensor(bias))
            self.last.weight.copy_(torch.tensor([[-1.0, 2, 5], [1, 0, 0]]))
            self.last.bias.zero_()

    def forward(self, x):
        return self.last(self.relu(self.first(x.flatten(1))))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_network_by_hand(inplace, seeded):
    X = np.array([[[2.0, 1.0]]], dtype=np.float32)
    clf = around(ByHand([0.0, 0.0, 0.0], inplace), 2)
    # at the ReLUs: 1, 3, -2; the gradient there -1, 2, 5
    for method, want in (("GuidedBackprop", [2, 2]), ("Deconvolution", [-3, 2]), ("InputXGradient", [2, 3])):
        assert CaptumExplainer(clf, method=method, target="A").transform(X)[0, 0].tolist() == want
    # at the ReLUs: 0.5, 3, 1, from -0.5, 0, 3: shares 1/2, 1, 1 of the difference come through
    clf = around(ByHand([-0.5, 0.0, 3.0], inplace), 2)
    out = CaptumExplainer(clf, target="A").explain(X)
    assert np.allclose(out.relevance, [[[-7, 2.5]]]) and np.allclose(out.score, 10.5) and out.score_baseline == 15
    assert abs(out.completeness_error[0]) < 1e-5


def test_guided_gradcam_is_guided_backprop_times_the_stretched_map(toy, trained):
    X, clf = toy[0], trained[0]
    guided = CaptumExplainer(clf, method="GuidedBackprop").transform(X)
    cam = GradCAM1D(clf, method="gradcam").explain(X).cam
    out = CaptumExplainer(clf, method="GuidedGradCam").explain(X)
    assert close(out.relevance, guided * np.repeat(cam, 2, 1)[:, None]) and out.relevance_kind == "signed"
    cam = GradCAM1D(clf, method="gradcam", layer="features.3").explain(X).cam
    inner = CaptumExplainer(clf, method="GuidedGradCam", layer="features.3").transform(X)
    assert close(inner, guided * np.repeat(cam, 2, 1)[:, None])


def test_the_networks_of_this_library(seeded):
    X = toy_ecg(n=2, n_timesteps=256)[0]
    for net in (ECGNet(1, 256, 2, width=1), ResNet1d(1, 256, 2, width=2, depth=10), RibeiroNet(1, 256, 2, width=2)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # nothing was trained: a map may be zero everywhere
            R = CaptumExplainer(around(net.eval(), 256), method="GuidedGradCam", target="A").transform(X)
        assert R.shape == X.shape and np.isfinite(R).all()
    short = around(ECGNet(1, 255, 2, width=1).eval(), 255)
    with pytest.raises(ValueError, match="pads windows of 255 timesteps to 256"):
        CaptumExplainer(short, method="GuidedGradCam").transform(X[..., 1:])


# --- networks that captum takes for others ----------------------------------------------------------------------------


class Kink(nn.Module):
    """Logit A is a sum of ReLUs in one of several ways of writing it."""

    def __init__(self, how):
        super().__init__()
        self.how, self.relu, self.pool = how, nn.ReLU(), nn.MaxPool2d((1, 3), 1, (0, 1))
        self.other = {"gelu": nn.GELU(), "leaky": nn.LeakyReLU()}.get(how, nn.Identity())
        self.lstm, self.scale = nn.LSTM(1, 2, batch_first=True), nn.Parameter(torch.ones(1))

    def forward(self, x):
        h = self.relu(x - 0.1)
        if self.how == "reused":
            h = self.relu(h - 0.1)
        elif self.how == "product":
            h = h * x
        elif self.how == "pooling":
            h = self.pool(h)
        elif self.how == "lstm":
            h = self.lstm(h.transpose(1, 2))[0].transpose(1, 2)
        elif self.how in FUNCTIONS:
            h = FUNCTIONS[self.how](h - 0.1)
        h = self.other(h).sum((1, 2)) * self.scale
        return torch.stack([h, -h], 1)


FUNCTIONS = {
    "relu": F.relu,
    "in place": F.relu_,
    "of the tensor": torch.Tensor.relu,
    "clamp": lambda h: h.clamp(min=0),
    "maximum": lambda h: torch.maximum(h, torch.zeros(1)),
    "made in forward": lambda h: nn.ReLU()(h),
    "functional gelu": F.gelu,
    "sigmoid": torch.sigmoid,
}
RELUS = ("relu", "in place", "of the tensor", "clamp", "maximum", "made in forward")


@pytest.mark.parametrize("method", ["GuidedBackprop", "Deconvolution", "DeepLift"])
@pytest.mark.parametrize("how", [*RELUS, "reused", "gelu", "functional gelu", "sigmoid", "product", "pooling", "lstm"])
def test_networks_that_would_be_silently_wrong_are_refused(how, method, toy, seeded):
    clf = around(Kink(how).eval(), 60)
    ex = CaptumExplainer(clf, method=method, target="A")
    reason = {"reused": "ReLU 'relu' is used 2 times", "pooling": "overlap"}.get(how, "calls|no rule")
    before = snapshot(clf.module_)
    if how in (*RELUS, "reused") or method == "DeepLift":
        with pytest.raises(ValueError, match=f"(?s){method}.*silently wrong for Kink.*({reason})"):
            ex.transform(toy[0][:3, :1])
    else:  # what is no ReLU keeps its gradient, by the definition of the method
        assert ex.transform(toy[0][:3, :1]).any()
    assert same_snapshot(before, snapshot(clf.module_))


def test_a_network_without_relu_has_no_guided_gradient(toy):
    clf = around(LinearNet(np.ones((2, 2, 60)), [0.0, 0.0]), 60, n_leads=2)
    with pytest.raises(ValueError, match=r"no torch.nn.ReLU.*'Saliency'"):
        CaptumExplainer(clf, method="GuidedBackprop").transform(toy[0])


@pytest.mark.parametrize(
    "layer, message",
    [("lstm", "no single map"), ("nothing", "'nothing' is not there"), ("head", "no single map")],
)
def test_layers_without_a_map_are_named(layer, message, toy, trained):
    with pytest.raises(ValueError, match=message):
        CaptumExplainer(trained[0], method="GuidedGradCam", layer=layer).transform(toy[0])


def test_a_network_that_ignores_its_input_has_no_relevance(toy):
    class Unmoved(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.tensor([2.0, 0.5]))

        def forward(self, x):
            return self.logits.expand(len(x), -1)

    for method in ("DeepLift", "Saliency", "IntegratedGradients", "FeatureAblation"):
        with pytest.warns(UserWarning, match="zero everywhere"):
            assert not CaptumExplainer(around(Unmoved(), 60, n_leads=2), method=method).transform(toy[0][:2]).any()


# --- chance, batches, threads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", QUICK)
def test_no_window_depends_on_another_and_nothing_is_left_behind(method, toy, clf, seeded):
    X, net = toy[0][:5], clf.module_
    ex = make(method, clf)
    net.train()
    before, filters = snapshot(net), list(warnings.filters)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        want = ex.transform(X)
    assert not [w for w in noted if "hook" in str(w.message)]
    assert close(make(method, clf, batch_size=3).transform(X), want) and close(ex.transform(X[4:5]), want[4:5])
    with torch.inference_mode(), ThreadPoolExecutor(4) as pool:
        assert all(close(got, want) for got in pool.map(lambda _: ex.transform(X), range(4)))
    assert same_snapshot(before, snapshot(net)) and filters == list(warnings.filters)
    assert torch.equal(states[0], torch.get_rng_state()) and states[2] == random.getstate()
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    if method in ("ShapleyValueSampling", "NoiseTunnel"):
        assert not close(make(method, clf, random_state=1).transform(X), want, 1e-3)
        fresh = make(method, clf, random_state=None)
        assert not close(fresh.transform(X), fresh.transform(X), 1e-3)


FAIL = {"after": None}


class Failing(TinyNet):
    def forward(self, x):
        if FAIL["after"] is not None:
            FAIL["after"] -= 1
            if FAIL["after"] < 0:
                raise KeyError("in the middle")
        return super().forward(x)


@pytest.mark.parametrize("method", ["DeepLift", "GuidedBackprop", "NoiseTunnel"])
def test_an_exception_in_the_middle_leaves_nothing_behind(method, toy):
    clf = ECGClassifier(Failing, **{**FAST, "max_epochs": 1}).fit(*toy[:2])
    ex, before, filters = make(method, clf), snapshot(clf.module_), list(warnings.filters)
    want = ex.transform(toy[0][:3])
    try:
        for after in (0, 1, 2):
            FAIL["after"] = after
            with pytest.raises(KeyError, match="in the middle"):
                ex.transform(toy[0][:3])
    finally:
        FAIL["after"] = None
    assert same_snapshot(before, snapshot(clf.module_)) and filters == list(warnings.filters)
    assert np.array_equal(ex.transform(toy[0][:3]), want)


# --- parameters -------------------------------------------------------------------------------------------------------

MASK = {"feature_mask": FEATURES}
BAD = {
    "unknown method": ({"method": "DeepTaylor"}, "'DeepLift', .*'NoiseTunnel'; got 'DeepTaylor'"),
    "LRP": ({"method": "LRP"}, "left out: captum's LRP has no rule for Conv1d"),
    "permutation": ({"method": "FeaturePermutation"}, "depends on the windows beside it"),
    "no method": ({"method": None}, "method must be one of"),
    "output": ({"method": "Saliency", "output": "logits"}, "output"),
    "probability": ({"output": "probability"}, "explains logits"),
    "options": ({"options": [1]}, "options must be a dict"),
    "unknown option": ({"options": {"n_steps": 3}}, r"no options \['n_steps'\]; it takes \['baselines'"),
    "ours": ({"options": {"target": 1}}, r"no options \['target'\]"),
    "missing": ({"method": "Occlusion"}, r"needs the options \['sliding_window_shapes'\]"),
    "no baselines": ({"method": "DeepLiftShap"}, r"needs the options \['baselines'\]"),
    "nothing inside": ({"method": "NoiseTunnel"}, "'attribution_method'"),
    "itself": ({"method": "NoiseTunnel", "options": {"attribution_method": "NoiseTunnel"}}, "attribution_method must"),
    "layer": ({"method": "Saliency", "layer": "features"}, "layer='features' is for method='GuidedGradCam'"),
    "long occlusion": ({"method": "Occlusion", "options": {"sliding_window_shapes": (1, 61)}}, "refuses its options"),
    "baselines": ({"options": {"baselines": np.zeros((2, 59))}}, r"\(2, 59\); the network takes 2 leads of 60"),
    "NaN": ({"options": {"baselines": np.nan}}, "NaN"),
    "words": ({"options": {"baselines": "zero"}}, "number or an array"),
    "mask of floats": ({"method": "Lime", "options": {"feature_mask": FEATURES / 1.0}}, "float64 of shape"),
    "mask with gaps": ({"method": "Lime", "options": {"feature_mask": 2 * FEATURES}}, "must number the features"),
    "too many orders": ({"method": "ShapleyValues"}, "120! of them"),
    "one baseline": ({"method": "DeepLiftShap", "options": {"baselines": 0.0}}, "refuses its options"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_parameters_are_named(bad, toy, trained):
    settings, message = BAD[bad]
    with pytest.raises(ValueError, match=message):
        CaptumExplainer(trained[1], **settings).transform(toy[0][:2])


def test_a_missing_captum_names_the_pip_line(toy, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match=r'pip install "skecg\[captum\]"'):
        CaptumExplainer(trained[0], method="Saliency").transform(toy[0])


def test_options_are_kept_as_given_and_cloned(toy, trained):
    options = {"sliding_window_shapes": [1, 20], "strides": [1, 10], "baselines": np.zeros((2, 60))}
    ex = CaptumExplainer(trained[0], method="Occlusion", options=options)
    want = ex.transform(toy[0][:3])
    assert ex.options is options and list(options) == ["sliding_window_shapes", "strides", "baselines"]
    again = clone(ex).set_params(estimator=trained[0])
    assert np.array_equal(again.transform(toy[0][:3]), want) and again.get_params(deep=False)["method"] == "Occlusion"


@pytest.mark.parametrize(
    "method, options, kind",
    [
        ("Saliency", None, "positive"),
        ("Saliency", {"abs": False}, "signed"),
        ("NoiseTunnel", {"attribution_method": "InputXGradient"}, "signed"),
        ("NoiseTunnel", {"attribution_method": "Saliency"}, "positive"),
        ("NoiseTunnel", {"attribution_method": "InputXGradient", "nt_type": "vargrad"}, "positive"),
        ("DeepLift", None, "signed"),
    ],
)
def test_the_kind_of_relevance_follows_the_options(method, options, kind, trained):
    assert CaptumExplainer(trained[0], method=method, options=options).relevance_kind == kind


def test_a_multiplier_alone_is_not_said_to_add_up(toy, trained):
    out = CaptumExplainer(trained[1], options={"multiply_by_inputs": False}).explain(toy[0][:2])
    assert "completeness_error" not in out and out.relevance.any()
