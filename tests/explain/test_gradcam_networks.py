"""Grad-CAM on every network of the library: layers, maps of two axes, true positions, plain CAM, Grad-CAM++."""

import numpy as np
import pytest
import torch

from skecg import models
from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D

SMALL = {
    "ECGNet": {"width": 1},
    "HannunNet": {"width": 2},
    "ZihlmannCNN": {"width": 2},
    "ZihlmannCRNN": {"width": 2},
    "RibeiroNet": {"width": 2},
    "ResNet1d": {"width": 2},
}
# what each network's own layer is at 720 samples, and the length of its map
LAYERS = {
    "ECGNet": ("cnn.blocks.7", 45),
    "HannunNet": ("blocks.8.pre.1", 45),
    "ZihlmannCNN": ("blocks.1.layers.2.2", 11),
    "ZihlmannCRNN": ("blocks.1.layers.4.2", 11),
    "RibeiroNet": ("resblock1d_1.relu2", 45),
    "ResNet1d": ("stages.3.1.relu2", 23),
}


def build(name, n_timesteps=720, seed=0, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = getattr(models, name)(1, n_timesteps, 3, **{**SMALL[name], **settings})
        for part in net.modules():  # as after training: statistics that are not those of a new network
            if isinstance(part, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
                part.weight.data.uniform_(0.5, 1.5)
    return net.eval()


def around(net, n_timesteps=720):
    return ECGClassifier.from_module(net, list("ABC"), n_leads=1, n_timesteps=n_timesteps, fs=360.0, device="cpu")


@pytest.fixture
def X(rng):
    x = 0.05 * rng.standard_normal((4, 1, 720))
    x[:, 0, 100::200] += 1
    return x.astype(np.float32)


def by_hand(net, x, layer, code):
    """Return the maps and the gradient of one logit at them, from a plain forward hook."""
    kept = []

    def hook(_, __, out):
        out.retain_grad()
        kept.append(out)

    handle = net.get_submodule(layer).register_forward_hook(hook)
    logits = net(torch.from_numpy(x).requires_grad_(True))
    handle.remove()
    logits[:, code].sum().backward()
    return kept[0].detach().double().numpy(), kept[0].grad.double().numpy()


def spread(cam, centres, n):
    return np.array([np.interp(np.arange(n), centres, row) for row in cam])


@pytest.mark.parametrize("name", LAYERS)
def test_default_layers_and_lengths(name, X):
    net = build(name)
    layer, length = LAYERS[name]
    assert net.cam_layer == layer
    out = GradCAM1D(around(net), method="gradcam", relu=False).explain(X)
    assert out.cam.shape == (4, length) and out.relevance.shape == X.shape and np.isfinite(out.relevance).all()


def test_ecgnet_has_a_map_of_48_when_padded_to_768(X):
    net = build("ECGNet", 768)
    padded = np.pad(X, ((0, 0), (0, 0), (24, 24)))
    assert GradCAM1D(around(net, 768), method="gradcam").explain(padded).cam.shape == (4, 48)


@pytest.mark.parametrize("name", ["HannunNet", "ZihlmannCNN", "ZihlmannCRNN", "ResNet1d"])
@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "hirescam", "layercam"])
def test_maps_against_a_plain_hook(name, method, X):
    net = build(name)
    A, g = by_hand(net, X, net.cam_layer, 1)
    axes = tuple(range(2, A.ndim))
    if method == "gradcam":
        cam = (g.mean(axes, keepdims=True) * A).sum(1)
    elif method == "hirescam":
        cam = (g * A).sum(1)
    elif method == "layercam":
        cam = (np.maximum(g, 0) * A).sum(1)
    else:  # as published, for a map after a ReLU, whose sums are not negative
        total = A.sum(axes, keepdims=True)
        assert (total >= 0).all()
        with np.errstate(invalid="ignore", divide="ignore"):
            alpha = np.where(g != 0, g**2 / (2 * g**2 + total * g**3), 0)
        cam = ((alpha * np.maximum(g, 0)).sum(axes, keepdims=True) * A).sum(1)
    cam = cam.mean(-1) if cam.ndim == 3 else cam
    got = GradCAM1D(around(net), method=method, relu=False, target="B").explain(X)
    scale = np.abs(cam).max()
    np.testing.assert_allclose(got.cam, cam, atol=1e-5 * scale)
    centres = net.cam_positions(net.cam_layer, 720)
    np.testing.assert_allclose(got.relevance[:, 0], spread(cam, centres, 720), atol=1e-5 * scale)
    rectified = GradCAM1D(around(net), method=method, target="B").explain(X)
    np.testing.assert_allclose(rectified.cam, np.maximum(got.cam, 0), atol=1e-6 * scale)


def test_gradcam_plus_plus_where_sums_are_negative(X):
    net = build("ECGNet")
    A, g = by_hand(net, X, net.cam_layer, 1)
    rising = np.maximum(g, 0)
    weight = (rising / (2 + np.maximum(A.sum(-1, keepdims=True), 0) * rising)).sum(-1, keepdims=True)
    cam = (weight * A).sum(1)
    got = GradCAM1D(around(net), method="gradcam++", relu=False, target="B").explain(X)
    assert (A.sum(-1) < 0).any()
    np.testing.assert_allclose(got.cam, cam, atol=1e-5 * np.abs(cam).max())


@pytest.mark.parametrize(
    "name, layer, head",
    [("HannunNet", "final_act", "dense"), ("ZihlmannCNN", "blocks.5", "dense"), ("ResNet1d", "stages.3", "dense")],
)
@pytest.mark.parametrize("n_timesteps", [720, 6000])
def test_plain_cam_is_grad_cam_where_the_head_is_an_average(name, layer, head, n_timesteps, rng):
    net = build(name, n_timesteps)
    x = rng.standard_normal((3, 1, n_timesteps)).astype(np.float32)
    A, _ = by_hand(net, x, layer, 0)
    if A.ndim == 4:
        assert A.shape[-1] == 1  # one frequency is left, so that the head sees each channel's mean over time
        A = A[..., 0]
    weight = getattr(net, head).weight[0].detach().double().numpy()
    cam = np.einsum("k,nkt->nt", weight, A)  # Zhou et al. 2016
    plain = {"layer": layer, "relu": False, "target": "A", "method": "gradcam"}
    got = GradCAM1D(around(net, n_timesteps), **plain).explain(x)
    np.testing.assert_allclose(got.cam * A.shape[-1], cam, atol=1e-5 * np.abs(cam).max())
    again = GradCAM1D(around(net, n_timesteps), layer=layer, relu=False, target="A", method="hirescam").explain(x)
    np.testing.assert_allclose(again.cam, got.cam, atol=1e-5 * np.abs(got.cam).max())


# The spectrogram networks' stages see most of the window: their positions are tested in tests/models/test_zihlmann.py.
@pytest.mark.parametrize("name", ["ECGNet", "HannunNet", "ResNet1d"])
def test_a_change_of_the_ecg_moves_the_map_where_it_is(name):
    """The map of "blank everywhere but one beat" is centred on the beat, whatever the strides did to positions."""
    net = build(name)
    found = []
    for at in (180, 360, 540):
        x = np.zeros((1, 1, 720), np.float32)
        x[0, 0, at - 10 : at + 10] = np.hanning(20)
        maps, _ = by_hand(net, x, net.cam_layer, 0)
        flat, _ = by_hand(net, np.zeros_like(x), net.cam_layer, 0)
        change = np.abs(maps - flat)[0].reshape(maps.shape[1], maps.shape[2], -1).sum((0, 2))
        if hasattr(net, "cam_positions"):
            centres = net.cam_positions(net.cam_layer, 720)
        else:
            centres = (np.arange(len(change)) + 0.5) * 720 / len(change) - 0.5
        found.append((change * centres).sum() / change.sum())
    # within one position of the coarsest map (64 samples)
    assert np.diff(found).min() > 100
    np.testing.assert_allclose(found[1], 360, atol=64)


@pytest.mark.parametrize(
    "name, layer, said",
    [
        ("ECGNet", "lstm.lstm", "MaskDeletion"),
        ("ECGNet", "fc1", "cnn.blocks.7"),
        ("ZihlmannCRNN", "forward_lstm", "blocks.1.layers.4.2"),
        ("ZihlmannCNN", "dense", "blocks.1.layers.2.2"),
        ("HannunNet", "dense", "blocks.8.pre.1"),
    ],
)
def test_layers_without_a_map_are_refused_with_the_one_to_take(name, layer, said, X):
    net = build(name)
    names = [n for n, _ in net.named_modules()]
    layer = layer if layer in names else next(n for n in names if "lstm" in n.lower())
    with pytest.raises(ValueError, match=said):
        GradCAM1D(around(net), layer=layer, method="gradcam").explain(X)


def test_a_network_of_lstms_alone_is_refused(X):
    with torch.random.fork_rng(devices=[]):
        net = models.ECGLSTM(1, 720, 3)
    with pytest.raises(ValueError, match=r"ECGLSTM has no convolutional stage.*MaskDeletion"):
        GradCAM1D(around(net), method="gradcam").explain(X)
