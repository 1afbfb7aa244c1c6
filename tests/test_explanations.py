"""What is promised of explanations: SmoothGrad, occlusion, captum's methods, a CAM over stages, ResNet1d."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import captum.attr
import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from torch import nn

from skecg import CaptumExplainer, ECGClassifier, GradCAM1D, Occlusion, Saliency, SmoothGrad
from skecg.datasets import make_ecg
from skecg.models import ECGNet, HannunNet, ResNet1d, RibeiroNet
from tests.tiny import LABELS, LinearNet, same_snapshot, snapshot, toy_ecg

FS = 100.0  # of the made-up windows of 120 samples
CLASSES = list(LABELS[:3])
X, Y, _, TRUTH = toy_ecg(n=12, n_leads=2)


class UserNet(nn.Module):
    """A network of a user: three stages of 60, 30 and 15 positions for 120 samples, each ReLU called once."""

    cam_layer = "deep"
    calls_left = -1  # of the class, for private copies count too; the call that takes it to zero raises

    def __init__(self, n_leads, n_timesteps, n_outputs):
        super().__init__()
        self.fine = self.stage(n_leads, 4, 7)
        self.middle = self.stage(4, 8, 5)
        self.deep = self.stage(8, 8, 5)
        self.head = nn.Linear(8, n_outputs)
        self.head.weight.data.abs_()  # so that no class is left without positive relevance

    @staticmethod
    def stage(n_in, n_out, kernel):
        return nn.Sequential(nn.Conv1d(n_in, n_out, kernel, stride=2, padding=kernel // 2), nn.ReLU())

    def forward(self, x):
        UserNet.calls_left -= 1
        if UserNet.calls_left == 0:
            raise RuntimeError("the fuse is blown")
        return self.head(self.deep(self.middle(self.fine(x))).mean(-1))


class OneReLU(nn.Module):
    """A network that calls one ReLU twice, as many do."""

    cam_layer = "second"

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv1d(2, 4, 5, padding=2), nn.Conv1d(4, 4, 5, padding=2)
        self.rectify, self.head = nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.rectify(self.second(self.rectify(self.first(x)))).mean(-1))


class FunctionalReLU(OneReLU):
    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean(-1))


class Squares(nn.Module):
    """Logits = +-sum of weight x^2, so that the gradient is +-2 weight x."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight))

    def forward(self, x):
        s = (self.weight * x**2).sum((1, 2))
        return torch.stack([s, -s], 1)


def built(build, *args, seed=0, **kwargs):
    """Build a network from a seed, without touching torch's generator, with batch norms that do something."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = build(*args, **kwargs)
        for part in net.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean.normal_(std=0.1)
                part.running_var.uniform_(0.5, 1.5)
    return net.eval()


def around(net, n_leads=2, n_timesteps=120, classes=CLASSES, fs=FS):
    return ECGClassifier.from_module(net, classes, n_leads=n_leads, n_timesteps=n_timesteps, fs=fs, device="cpu")


def close(a, b, rtol=1e-5):
    """Agree up to a share of the largest value."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    assert a.shape == b.shape
    assert np.abs(b).max() > 0
    np.testing.assert_allclose(a, b, atol=rtol * np.abs(b).max(), rtol=0)


NET = built(UserNet, 2, 120, 3)
CLF = around(NET)
EXPLAINERS = {
    "stagecam": lambda clf: GradCAM1D(clf),
    "smoothgrad": lambda clf: SmoothGrad(clf, n_samples=5, random_state=0),
    "occlusion time": lambda clf: Occlusion(clf, window=0.2, stride=0.1),
    "occlusion lead": lambda clf: Occlusion(clf, by="lead"),
    "DeepLift": lambda clf: CaptumExplainer(clf, method="DeepLift"),
    "GuidedGradCam": lambda clf: CaptumExplainer(clf, method="GuidedGradCam"),
    "GradientShap": lambda clf: CaptumExplainer(
        clf, method="GradientShap", options={"baselines": np.zeros((1, clf.n_leads_, 120))}, random_state=0
    ),
}


@pytest.fixture(params=list(EXPLAINERS))
def explainer_of(request):
    return EXPLAINERS[request.param]


def targets(result):
    return torch.as_tensor([CLASSES.index(label) for label in result.target])


def test_smoothgrad_without_noise_is_the_gradient_of_captum():
    result = SmoothGrad(CLF, noise=0.0, n_samples=2, random_state=0).explain(X)
    expected = captum.attr.Saliency(NET).attribute(torch.as_tensor(X), target=targets(result))
    close(result.relevance, expected.detach())
    assert result.relevance_kind == "positive"
    signed = SmoothGrad(CLF, noise=0.0, n_samples=2, statistic="mean", random_state=0).explain(X)
    assert signed.relevance_kind == "signed" and signed.relevance.min() < 0


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient"])
def test_smoothgrad_is_the_noise_tunnel_of_captum_within_chance(seeded, method):
    n, window = 300, X[4:5, :1]
    net = built(UserNet, 1, 120, 3)
    explainer = SmoothGrad(around(net, 1), n_samples=n, statistic="mean", method=method, random_state=seeded)
    result = explainer.explain(window)
    base = captum.attr.Saliency(net) if method == "saliency" else captum.attr.InputXGradient(net)
    tunnel, x = captum.attr.NoiseTunnel(base), torch.as_tensor(window)
    settings = {"nt_samples": n, "nt_samples_batch_size": 100, "stdevs": 0.1 * float(np.ptp(window))}
    settings |= {"target": targets(result)} | ({"abs": False} if method == "saliency" else {})
    mean = tunnel.attribute(x, nt_type="smoothgrad", **settings).detach().numpy()
    variance = tunnel.attribute(x, nt_type="vargrad", **settings).detach().numpy()
    error = np.sqrt(2 * variance / n)
    deviation = np.abs(result.relevance - mean) / (error + 1e-9)
    assert deviation.max() < 6 and deviation.mean() < 1.2  # |normal| has mean .8
    assert np.abs(mean).max() > 10 * error.max()  # else anything would agree


def test_smoothgrad_of_squares_is_their_closed_form(rng):
    weight, x = rng.uniform(0.5, 2, (2, 60)).astype(np.float32), X[:2, :, 30:90]
    clf = around(Squares(weight), n_timesteps=60, classes=["up", "down"])
    noise = 0.1 * np.ptp(x, axis=-1, keepdims=True)

    def relevance(statistic, **settings):
        explainer = SmoothGrad(clf, n_samples=800, statistic=statistic, target="up", random_state=1, **settings)
        return explainer.transform(x)

    np.testing.assert_allclose(relevance("variance"), (2 * weight * noise) ** 2, rtol=0.35)
    expected = 4 * weight**2 * (x**2 + noise**2)
    np.testing.assert_allclose(relevance("squared") / expected, 1, atol=0.35)
    mean = relevance("mean")
    assert np.abs(mean - 2 * weight * x).max() < 6 * (2 * weight * noise).max() / np.sqrt(800)
    np.testing.assert_allclose(relevance("absolute"), np.abs(mean), rtol=1e-5)


def test_smoothgrad_refuses_what_it_cannot_do():
    for bad in ({"noise": -0.1}, {"n_samples": 0}, {"statistic": "median"}, {"n_samples": 1, "statistic": "variance"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            SmoothGrad(CLF, **bad).transform(X)


def test_occlusion_in_time_is_captums_where_windows_are_whole():
    result = Occlusion(CLF, window=0.2, stride=0.01, fill=0.0).explain(X[:3])
    expected = captum.attr.Occlusion(NET).attribute(
        torch.as_tensor(X[:3]), sliding_window_shapes=(2, 20), strides=(2, 1), target=targets(result)
    )
    inner = slice(19, 101)  # captum covers samples near the ends less often
    close(result.relevance[..., inner], expected.detach()[..., inner], 1e-4)
    each = Occlusion(CLF, window=0.2, stride=0.01, fill=0.0, leads="each").explain(X[:3])
    expected = captum.attr.Occlusion(NET).attribute(
        torch.as_tensor(X[:3]), sliding_window_shapes=(1, 20), strides=(1, 1), target=targets(result)
    )
    close(each.relevance[..., inner], expected.detach()[..., inner], 1e-4)


def test_occlusion_by_lead_is_captums_ablation():
    result = Occlusion(CLF, by="lead", fill=0.0).explain(X)
    expected = captum.attr.FeatureAblation(NET).attribute(
        torch.as_tensor(X), feature_mask=torch.tensor([[[0], [1]]]).expand(1, 2, 120), target=targets(result)
    )
    close(result.relevance, expected.detach(), 1e-4)


def filled(x, a, b, fill, other):
    """Replace samples a to b of both leads of one window, one sample after the other, as the text says it."""
    a, b, x = max(a, 0), min(b, x.shape[-1]), x.astype(float).copy()
    for lead, median in zip(x, np.median(x, axis=-1), strict=True):
        if fill == "isoelectric":
            lead[a:b] = median
        elif fill == "other":
            lead[a:b] = other[0, a:b]
        else:
            left = lead[a - 1] if a else lead[b]
            right = lead[b] if b < len(lead) else left
            lead[a:b] = [left + (right - left) * (t - a + 1) / (b - a + 1) for t in range(a, b)]
    return x


@pytest.mark.parametrize("fill", ["bridge", "isoelectric", "other"])
def test_occlusion_with_each_fill_is_what_is_worked_out_by_hand(rng, fill):
    weight, x = rng.normal(size=(2, 2, 30)), rng.normal(size=(1, 2, 30)).astype(np.float32)
    other = rng.normal(size=(1, 30))
    clf = around(LinearNet(weight, [0.1, -0.2]), n_timesteps=30, classes=["a", "b"])
    given = np.repeat(other, 2, axis=0) if fill == "other" else fill
    got = Occlusion(clf, window=0.05, stride=0.01, fill=given, target="b").transform(x)[0]
    falls = [np.sum(weight[1] * (x[0] - filled(x[0], a, a + 5, fill, other))) for a in range(-4, 30)]
    expected = [np.mean(falls[t : t + 5]) for t in range(30)]  # of the positions t - 4 to t
    close(got, [expected, expected], 1e-4)


def test_occlusion_by_lead_and_by_time_of_single_leads_add_up_on_a_linear_network(rng):
    weight = rng.normal(size=(3, 2, 120))
    clf = around(LinearNet(weight, np.zeros(3)))
    together = Occlusion(clf, window=0.1, target="N").transform(X)
    each = Occlusion(clf, window=0.1, leads="each", target="N").transform(X)
    close(each.sum(1), together[:, 0], 1e-4)
    by_lead = Occlusion(clf, by="lead", fill="isoelectric", target="N").transform(X)
    falls = np.einsum("lt,nlt->nl", weight[0], X - np.median(X, axis=-1, keepdims=True))
    close(by_lead, np.repeat(falls[..., None], 120, axis=-1), 1e-4)


def test_occlusion_by_wave_gives_each_beat_the_fall_of_its_own_qrs(rng):
    ecg = make_ecg(4, classes=("N",), window=4.0, noise=0, distractors=False, random_state=0)
    weight = rng.normal(size=(2, 1, ecg.data.shape[-1]))
    clf = around(LinearNet(weight, np.zeros(2)), 1, ecg.data.shape[-1], ["a", "b"], ecg.fs)
    result = Occlusion(clf, by="wave", fill="isoelectric", target="a").explain(ecg.data)
    for x, relevance, peaks, n_beats in zip(ecg.data, result.relevance, ecg.r_peaks, result.n_beats, strict=True):
        inner = [p for p in peaks if 0.3 * ecg.fs < p < len(x[0]) - 0.3 * ecg.fs]
        assert len(inner) >= 2 and n_beats >= len(inner)
        for peak in inner:
            same = np.flatnonzero(np.diff(relevance[0]) != 0)
            a = same[same < peak].max() + 1 if (same < peak).any() else 0
            b = same[same >= peak].min() + 1
            assert 0.04 < (b - a) / ecg.fs < 0.2  # a QRS complex, not a beat
            fall = np.sum(weight[0, 0, a:b] * (x[0, a:b] - np.median(x[0])))
            np.testing.assert_allclose(relevance[0, peak], fall, atol=1e-3)


def test_occlusion_refuses_a_window_longer_than_the_ecg_and_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"(?s)window.*1\.2"):
        Occlusion(CLF, window=1.5).transform(X)
    for bad in ({"window": 0}, {"window": -1.0}, {"stride": 0.0}, {"by": "beat"}, {"fill": "noise"}, {"leads": "all"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Occlusion(CLF, **bad).transform(X)
    with pytest.raises(ValueError, match="fill"):
        Occlusion(CLF, fill=np.zeros(50)).transform(X)
    with pytest.raises(ValueError, match="fs"):
        Occlusion(around(NET, fs=None)).transform(X)
    close(Occlusion(around(NET, fs=None), fs=FS).transform(X), Occlusion(CLF).transform(X))


CAPTUM = {
    "DeepLift": {"baselines": 0.1},
    "GuidedBackprop": {},
    "Deconvolution": {},
    "GuidedGradCam": {},
    "Saliency": {},
    "InputXGradient": {},
    "IntegratedGradients": {"n_steps": 20},
    "FeatureAblation": {"feature_mask": np.repeat(np.arange(12), 10)},
    "Occlusion": {"sliding_window_shapes": (2, 30), "strides": (2, 15)},
}


@pytest.mark.parametrize("method", list(CAPTUM))
def test_captum_explainer_is_captum(method):
    result = CaptumExplainer(CLF, method=method, options=CAPTUM[method], batch_size=5).explain(X)
    options = dict(CAPTUM[method])
    if method == "FeatureAblation":
        options["feature_mask"] = torch.as_tensor(options["feature_mask"]).expand(1, 2, 120)
    given = (NET, NET.deep) if method == "GuidedGradCam" else (NET,)
    expected = getattr(captum.attr, method)(*given).attribute(
        torch.as_tensor(X).requires_grad_(), target=targets(result), **options
    )
    close(result.relevance, expected.detach(), 1e-4)
    logits = NET(torch.as_tensor(X)).detach().numpy()
    np.testing.assert_allclose(result.score, logits[np.arange(len(X)), targets(result)], atol=1e-5)


@pytest.mark.parametrize("method", ["GuidedBackprop", "Deconvolution", "GuidedGradCam", "DeepLift", "DeepLiftShap"])
@pytest.mark.parametrize("build", [OneReLU, FunctionalReLU])
def test_what_captum_would_count_wrongly_is_refused(build, method):
    options = {"baselines": np.zeros((2, 2, 120))} if method == "DeepLiftShap" else None
    name = "rectify" if build is OneReLU else "(?i)relu"
    with pytest.raises(ValueError, match=name):
        CaptumExplainer(around(built(build)), method=method, options=options).transform(X)


def test_methods_that_need_no_modules_take_such_networks():
    net = built(OneReLU)
    result = CaptumExplainer(around(net), method="Saliency", options={"abs": False}).explain(X)
    close(result.relevance, captum.attr.Saliency(net).attribute(torch.as_tensor(X), target=targets(result), abs=False))


def test_an_unknown_method_is_answered_with_the_names():
    with pytest.raises(ValueError, match="GradCat") as caught:
        CaptumExplainer(CLF, method="GradCat").transform(X)
    for method in CAPTUM:
        assert f"'{method}'" in str(caught.value)


def test_without_captum_the_error_is_the_pip_line(monkeypatch):
    for name in [n for n in sys.modules if n == "captum" or n.startswith("captum.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(ImportError, match=r'pip install "?skecg\[captum\]"?'):
        CaptumExplainer(CLF).transform(X)
    assert Saliency(CLF).transform(X).shape == X.shape  # nothing else needs it


def map_lengths(net, names, n_leads, n_timesteps):
    """Measure how long the maps of these layers are, by hooks."""
    lengths, hooks = {}, []
    for name in names:
        keep = lambda part, given, out, name=name: lengths.update({name: out.shape[-1]})  # noqa: E731 - of this name
        hooks.append(net.get_submodule(name).register_forward_hook(keep))
    net(torch.zeros(1, n_leads, n_timesteps))
    for hook in hooks:
        hook.remove()
    return [lengths[name] for name in names]


NETWORKS = {
    "user": (UserNet, 2, 120, {}),
    "ECGNet": (ECGNet, 1, 360, {"width": 2}),
    "HannunNet": (HannunNet, 1, 256, {"width": 2}),
    "RibeiroNet": (RibeiroNet, 12, 256, {"width": 2}),
    "ResNet1d": (ResNet1d, 2, 500, {"width": 2, "depth": 10}),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_cam_finds_the_stages_of_a_network_by_itself(name, rng):
    build, n_leads, n_timesteps, settings = NETWORKS[name]
    net = built(build, n_leads, n_timesteps, 3, **settings)
    x = rng.normal(size=(3, n_leads, n_timesteps)).astype(np.float32)
    clf = around(net, n_leads, n_timesteps)
    result = GradCAM1D(clf).explain(x)
    lengths = map_lengths(net, result.layers, n_leads, n_timesteps)
    assert len(result.layers) >= 2 and lengths == sorted(set(lengths), reverse=True)
    assert result.layers[-1] == net.cam_layer and result.cam.shape == (3, lengths[-1])
    assert result.relevance.shape == x.shape and result.relevance_kind == "cam"
    assert np.isfinite(result.relevance).all() and result.relevance.min() >= 0 < result.relevance.max()
    assert (result.relevance == result.relevance[:, :1]).all()  # a map has no lead axis
    named = GradCAM1D(clf, layer=list(result.layers)[::-1]).explain(x)  # in any order
    assert set(named.layers) == set(result.layers)
    close(named.relevance, result.relevance)


def test_layers_that_are_named_are_those_that_are_used():
    found, two, one = (GradCAM1D(CLF, layer=names).explain(X) for names in (None, ["middle", "deep"], ["deep"]))
    assert map_lengths(NET, found.layers, 2, 120) == [60, 30, 15]
    assert list(two.layers) == ["middle", "deep"] and list(one.layers) == ["deep"]
    assert len({r.relevance.tobytes() for r in (found, two, one)}) == 3
    wrapped = GradCAM1D(FrozenEstimator(CLF), layer=[CLF.net_.module_.middle, "deep"]).explain(X)
    close(wrapped.relevance, two.relevance)


def test_published_rules_of_one_layer_are_captums_map():
    result = GradCAM1D(CLF, method="gradcam", layer="deep").explain(X)
    cam = captum.attr.LayerGradCam(NET, NET.deep).attribute(torch.as_tensor(X), target=targets(result)).detach()
    close(result.cam, cam.relu()[:, 0])
    with pytest.raises(ValueError, match=r"(?s)gradcam.*(layer|stagecam)"):
        GradCAM1D(CLF, method="gradcam", layer=["middle", "deep"]).transform(X)


def test_stagecam_is_what_its_description_says():
    net = built(OneReLU)  # whose first map is as long as the window; the second gets one position that stands for it
    net.second = built(nn.Conv1d, 4, 4, 120)
    result = GradCAM1D(around(net), layer=["first", "second"], smooth=0).explain(X)
    first = net.first(torch.as_tensor(X))
    second = net.second(torch.relu(first))
    score = net.head(torch.relu(second).mean(-1))[torch.arange(12), targets(result)].sum()
    energy, part = (g * a for g, a in zip(torch.autograd.grad(score, (first, second)), (first, second), strict=True))
    energy, part = energy.abs().sum(1), part.relu().sum(1)
    expected = part * energy / energy.amax(1, keepdim=True)
    close(result.relevance, expected.detach()[:, None].expand(12, 2, 120), 1e-4)


def test_layers_that_there_are_not_are_refused_by_name():
    with pytest.raises(ValueError, match="abyss"):
        GradCAM1D(CLF, layer=["middle", "abyss"]).transform(X)
    with pytest.raises(ValueError, match="head"):
        GradCAM1D(CLF, layer=["middle", "head"]).transform(X)
    for bad in ([], ["deep", "deep"]):
        with pytest.raises(ValueError, match="layer"):
            GradCAM1D(CLF, layer=bad).transform(X)
    with pytest.raises(ValueError, match=r"(?s)method.*stagecam.*hirescam"):
        GradCAM1D(CLF, method="gradcat").transform(X)


def test_two_dimensions_are_one_lead(explainer_of):
    explainer = explainer_of(around(built(UserNet, 1, 120, 3), 1))
    flat = explainer.transform(X[:, 0])
    assert flat.shape == (12, 120) and flat.dtype == np.float32
    np.testing.assert_array_equal(flat, explainer.transform(X[:, :1])[:, 0])


def test_batches_of_any_size_and_companions_change_nothing(explainer_of):
    explainer = explainer_of(CLF)
    expected = explainer.transform(X)
    for size in (1, 5, 64):
        close(explainer.set_params(batch_size=size).transform(X), expected)
    close(explainer.transform(X[[7]]), expected[[7]], 1e-4)


def test_threads_that_share_a_classifier_do_not_meet(explainer_of):
    rows = [slice(i, i + 3) for i in range(6)]
    expected = [explainer_of(CLF).transform(X[r]) for r in rows]
    shared = explainer_of(CLF)
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda r: shared.transform(X[r]), rows))
    for a, b in zip(got, expected, strict=True):
        close(a, b)


def test_an_exception_leaves_the_network_as_it_was(explainer_of, monkeypatch):
    clf = around(NET)
    module = clf.net_.module_.train()
    module.head.bias.grad = torch.ones(3)
    before, explainer = snapshot(module), explainer_of(clf).set_params(batch_size=4)
    monkeypatch.setattr(UserNet, "calls_left", 0)
    expected = explainer.transform(X)
    n_calls = -UserNet.calls_left
    assert n_calls >= 3
    for last in {1, n_calls // 2, n_calls}:
        UserNet.calls_left = last
        with pytest.raises(RuntimeError, match="the fuse is blown"):
            explainer.transform(X)
        assert same_snapshot(before, snapshot(module))
    UserNet.calls_left = 0
    np.testing.assert_array_equal(explainer.transform(X), expected)
    assert same_snapshot(before, snapshot(module))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_input_that_is_not_finite_is_refused_and_input_is_never_written_on(explainer_of, bad):
    explainer, x = explainer_of(CLF), X.copy()
    x[3, 1, 7] = bad
    with pytest.raises(ValueError, match=r"(?i)nan|inf"):
        explainer.transform(x)
    x[3, 1, 7] = X[3, 1, 7]
    x.setflags(write=False)
    explainer.transform(x)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("depth", [10, 18, 34])
def test_resnet_has_the_layers_that_its_depth_says(depth):
    net = built(ResNet1d, 3, 200, 4, width=2, depth=depth)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv1d) and m.kernel_size[0] > 1]
    assert len(convolutions) + sum(isinstance(m, nn.Linear) for m in net.modules()) == depth


def test_resnet_takes_any_leads_and_any_length_with_the_same_weights():
    for n_leads in (1, 2, 12):
        net = built(ResNet1d, n_leads, 500, 4, width=2, depth=10)
        for n_timesteps in (1, 2, 31, 500, 1003):
            logits = net(torch.ones(2, n_leads, n_timesteps))
            assert logits.shape == (2, 4) and torch.isfinite(logits).all()
            built(ResNet1d, n_leads, n_timesteps, 4, width=2, depth=10).load_state_dict(net.state_dict())
    with pytest.raises(ValueError, match="12"):
        net(torch.ones(2, 3, 500))
    with pytest.raises(ValueError, match="depth"):
        ResNet1d(1, 500, 2, depth=20)


def test_resnet_by_name_learns_and_every_explainer_takes_it(explainer_of):
    settings = {"module__width": 2, "module__depth": 10, "max_epochs": 1, "random_state": 0, "fs": FS}
    clf = ECGClassifier("ResNet1d", **settings).fit(X, Y)
    assert isinstance(clf.net_.module_, ResNet1d) and set(clf.predict(X)) <= set(CLASSES)
    relevance = explainer_of(clf).transform(X)
    assert relevance.shape == X.shape and np.isfinite(relevance).all() and relevance.any()


def test_deeplift_of_resnet_adds_up_since_no_relu_of_it_is_called_twice():
    net = built(ResNet1d, 2, 120, 3, width=2, depth=10)
    result = CaptumExplainer(around(net), method="DeepLift").explain(X)
    at_zero = net(torch.zeros(1, 2, 120)).detach().numpy()[0, targets(result)]
    np.testing.assert_allclose(result.relevance.sum((1, 2)), result.score - at_zero, atol=1e-3)
