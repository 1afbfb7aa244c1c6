"""Rows S1, S1m and Q6: Grad-CAM beside captum's, in time, memory and result."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from skecg import GradCAM1D
from skecg.datasets import make_ecg
from skecg.models import RIBEIRO_LABELS

from . import material
from .harness import MIB, Anchor, Different, Line, Ratio, peak_memory, profile, row, speed
from .material import CLASSES, ECGNet

LAYER = ECGNet.cam_layer
_INTERPOLATED = "captum LayerGradCam and LayerAttribution.interpolate"


def captum_cam(
    net: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, batch: int, layer: str = LAYER, relu: bool = True
) -> np.ndarray:
    """Return captum's Grad-CAM at the length of the window."""
    from captum.attr import LayerAttribution, LayerGradCam

    cam = LayerGradCam(net, net.get_submodule(layer))
    maps = []
    for part, labels in zip(x.split(batch), target.split(batch), strict=True):
        short = cam.attribute(part, labels, relu_attributions=relu)
        maps.append(LayerAttribution.interpolate(short, x.shape[-1], "linear").detach())
    return torch.cat(maps).numpy()


def largest(maps: np.ndarray) -> np.ndarray:
    """Return each window's largest absolute value."""
    return np.abs(maps).max((1, 2))


def beyond(ours: np.ndarray, anchor: np.ndarray, scale: np.ndarray, tol: float = 1e-5) -> tuple[int, float, float]:
    """Return in how many windows two maps differ by more than ``tol``, and the largest difference there and elsewhere.

    Differences are relative to ``scale``, the largest value of the map before its ReLU: a map that the ReLU cuts to
    almost nothing has no scale of its own.
    """
    apart = largest(ours - anchor) / scale
    over = ~(apart <= tol)
    return int(over.sum()), float(apart[over].max(initial=0)), float(apart[~over].max(initial=0))


def same_maps(name: str, ours: np.ndarray, anchor: np.ndarray, scale: np.ndarray) -> str:
    """Say in how many windows maps are equal; Different where it is in too few.

    A gradient jumps where a ReLU or a pooling is undecided but for rounding. There captum's own maps differ as much
    between batches of 64 and of one.
    """
    n, worst, rest = beyond(ours, anchor, scale)
    if n > max(3, 0.05 * len(ours)):
        raise Different(f"{name}: {n} of {len(ours)} maps differ by more than 1e-5, the largest by {worst:.3g}")
    return f"equal to {rest:.0e}" + (f" in all but {n} windows ({worst:.0e})" if n else "")


def _case(width: int, n: int, name: str = "ECGNet") -> tuple[Any, ...]:
    """Return network, classifier, windows as array and tensor, labels as array and tensor."""
    if name == "RibeiroNet":
        net, y = material.ribeiro(width), np.array(RIBEIRO_LABELS)[np.arange(n) % len(RIBEIRO_LABELS)]
        X = make_ecg(n, classes=("N", "LBBB"), n_leads=12, fs=400.0, window=10.24, random_state=0).data
        return net, material.ribeiro_classifier(net), X, torch.from_numpy(X), y, torch.arange(n) % len(RIBEIRO_LABELS)
    net, X, y = material.network(width), material.windows(n), material.labels(n)
    return net, material.classifier(net), X, torch.from_numpy(X), y, torch.arange(n) % len(CLASSES)


@row("S1", "Speed", "Grad-CAM of ECGNet")
def grad_cam(quick: bool) -> Iterator[Line]:
    for width, n in {4: 64, 8: 32, 16: 16}.items() if quick else {4: 256, 8: 192, 16: 128}.items():
        net, clf, X, x, y, target = _case(width, n)
        explainer = GradCAM1D(clf, method="gradcam")

        def ours(explainer: GradCAM1D = explainer, X: np.ndarray = X, y: np.ndarray = y) -> np.ndarray:
            return explainer.explain(X, target=y).relevance

        def forward(net: torch.nn.Module = net, x: torch.Tensor = x) -> None:
            with torch.no_grad():
                for part in x.split(64):
                    net(part)

        scale = largest(captum_cam(net, x, target, 64, relu=False))
        anchors = []
        for batch, goal, size in ((64, 1.3, "batches of 64"), (1, 3.0, "one window a call")):
            anchor = partial(captum_cam, net, x, target, batch)
            equal = same_maps(f"S1, width {width}, {size}", ours(), anchor(), scale)
            anchors.append(Anchor(f"{_INTERPOLATED}, {size}", anchor, goal, equal))
        yield from speed(f"width {width}, {n} windows", ours, anchors, limit=("forward", forward), quick=quick)


def captum_stages(net: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, layers: list[str], width: int) -> Any:
    """Return StageCAM from captum's gradient times map of three layers, interpolated and averaged."""
    from captum.attr import LayerAttribution, LayerGradientXActivation
    from scipy.ndimage import uniform_filter1d

    parts = LayerGradientXActivation(net, [net.get_submodule(layer) for layer in layers])
    maps = []
    for some, labels in zip(x.split(64), target.split(64), strict=True):
        product = 1.0
        for layer, values in zip(layers, parts.attribute(some, labels), strict=True):
            last = layer == layers[-1]
            curve = (values.relu() if last else values.abs()).sum(1, keepdim=True)
            wide = LayerAttribution.interpolate(curve, x.shape[-1], "linear").detach().numpy()
            inside = uniform_filter1d(np.ones_like(wide), width, mode="constant", origin=width % 2 - 1)
            wide = uniform_filter1d(wide, width, mode="constant", origin=width % 2 - 1) / inside
            product = product * (wide if last else wide / wide.max(-1, keepdims=True))
        maps.append(product)
    return np.concatenate(maps)


@row("S1s", "Speed", "StageCAM of ECGNet")
def stage_cam(quick: bool) -> Iterator[Line]:
    for width, n in {4: 64}.items() if quick else {4: 256, 16: 128}.items():
        net, clf, X, x, y, target = _case(width, n)
        explainer = GradCAM1D(clf, fs=360.0)
        found = explainer.explain(X[:2], target=y[:2]).layers

        def ours(explainer: GradCAM1D = explainer, X: np.ndarray = X, y: np.ndarray = y) -> np.ndarray:
            return explainer.explain(X, target=y).relevance

        def forward(net: torch.nn.Module = net, x: torch.Tensor = x) -> None:
            with torch.no_grad():
                for part in x.split(64):
                    net(part)

        anchor = partial(captum_stages, net, x, target, found, 90)
        maps = anchor()
        equal = same_maps(f"S1s, width {width}", ours(), maps, largest(maps))
        against = Anchor("captum LayerGradientXActivation of the same three layers, batches of 64", anchor, 1.0, equal)
        yield from speed(f"width {width}, {n} windows", ours, [against], limit=("forward", forward), quick=quick)


def memory_case(side: str, width: int, n: int, name: str = "ECGNet") -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return warm-up and work of one side of S1m, for a fresh process."""
    torch.set_num_threads(1)
    net, clf, X, x, y, target = _case(width, n, name)
    explainer = GradCAM1D(clf, method="gradcam", batch_size=n)

    def run(n: int) -> Any:
        if side == "ours":
            return explainer.explain(X[:n], target=y[:n])
        if side == "captum":
            return captum_cam(net, x[:n], target[:n], n, net.cam_layer)
        with torch.no_grad():
            return net(x[:n])

    return lambda: run(2), lambda: run(n)


@row("S1m", "Speed", "Peak memory of Grad-CAM")
def grad_cam_memory(quick: bool) -> Iterator[Line]:
    yield _memory("ECGNet", 8, 256, 4.0, quick)
    yield _memory("RibeiroNet", *((16, 8) if quick else (64, 32)), 2.0, quick)


def _memory(name: str, width: int, n: int, goal: float, quick: bool) -> Line:
    sides, function = ("ours", "captum", "forward"), f"{__name__}:memory_case"
    rounds = range(1 if quick else 5)
    peaks = np.array([[peak_memory(function, side, width, n, name) for side in sides] for _ in rounds])
    ours, captum, forward = peaks.T
    net, clf, X, x, y, target = _case(width, n, name)
    result = GradCAM1D(clf, method="gradcam", relu=False, batch_size=n).explain(X, target=y).relevance[:, :1]
    theirs = captum_cam(net, x, target, n, net.cam_layer, relu=False)
    equal = same_maps("S1m", result, theirs, largest(theirs))
    saved, above = Ratio.of(captum, ours), Ratio.of(ours, forward)
    met = saved.median >= goal and above.median <= 1.1
    figures = ", ".join(f"{side} {np.median(of):.0f}" for side, of in zip(sides, peaks.T, strict=True))
    return Line(
        work=f"{name}, width {width}, {n} windows in one batch; peak RSS above rest, MiB: {figures}; {equal}",
        anchor=f"{_INTERPOLATED}, one batch",
        measured=f"anchor / ours {saved}",
        limit=f"ours / forward without gradient {above}",
        goal=f">= {goal:g}, and <= 1.1 forward",
        met=met,
        notes=() if met else (_memory_note(name, width, n),),
    )


def _memory_note(name: str, width: int, n: int) -> str:
    """Say what takes the time of a run that holds too much."""
    _, clf, X, _, y, _ = _case(width, n, name)
    explainer = GradCAM1D(clf, method="gradcam", batch_size=n)
    return f"{name}, the input alone is {X.nbytes / MIB:.0f} MiB.\n\n{profile(lambda: explainer.explain(X, target=y))}"


@row("Q6", "Quality of explanations", "Exactness of Grad-CAM")
def exactness(quick: bool) -> Iterator[Line]:
    clf, unseen = material.trained(*((150, 3) if quick else (650, 5)))
    rows = material.drawn(unseen, 8 if quick else 40)
    ecg = material.mitdb()
    X, y, net = ecg.data[rows], ecg.target[rows], copy.deepcopy(clf.module_).eval()
    x, target = torch.from_numpy(X), torch.from_numpy(np.searchsorted(clf.classes_, y))
    layers = ["cnn.stem_act", *(f"cnn.blocks.{i}" for i in (0, 3, 7, 11, 15)), "cnn.norm"]
    at = [GradCAM1D(clf, layer=layer, method="gradcam", relu=False) for layer in layers]
    ours = [explainer.explain(X, target=y).relevance for explainer in at]
    single = [captum_cam(net, x, target, 64, layer, relu=False) for layer in layers]
    net.double()
    double = [captum_cam(net, x.double(), target, 64, layer, relu=False) for layer in layers]

    def told(ones: list[np.ndarray], others: list[np.ndarray]) -> tuple[int, str]:
        over = [beyond(one, other, largest(other)) for one, other in zip(ones, others, strict=True)]
        n, most = sum(n for n, _, _ in over), [max(worst, rest) for _, worst, rest in over]
        where = layers[int(np.argmax(most))]
        return n, f"{n} of {len(layers) * len(rows)} maps beyond 1e-5, largest difference {max(most):.1e} ({where})"

    work = (
        f"ECGNet width 4 trained on MIT-BIH (seed 0), {len(rows)} windows that it did not see, of "
        f"{len(np.unique(ecg.groups[rows]))} patients, before the ReLU, layers {', '.join(layers)}"
    )
    for kind, maps in (("float32", single), ("float64", double)):
        n, text = told(ours, maps)
        yield Line(
            work=work,
            anchor=f"{_INTERPOLATED} in {kind}, the same layer",
            measured=text,
            limit=f"captum's float32 against its own float64: {told(single, double)[1]}",
            goal="<= 1e-5 of a window's largest value",
            met=n == 0,
        )
