"""Occlusion against captum, closed forms and stretches worked out by hand; waves against the limits of make_ecg."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation
from captum.attr import Occlusion as CaptumOcclusion
from sklearn.pipeline import make_pipeline
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.datasets import make_ecg
from skecg.explain import Occlusion, explain_record
from skecg.explain._base import TargetScore
from skecg.explain._occlusion import occlude_time
from skecg.models import ResNet1d
from skecg.preprocessing import Gain
from tests.explaining import around, close
from tests.tiny import FAST, TinyNet, same_snapshot, snapshot, toy_ecg

KINDS = {
    "time": {"window": 0.12, "stride": 0.05, "leads": "each"},
    "lead": {"by": "lead"},
    "wave": {"by": "wave", "fill": "isoelectric"},
}
all_kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=12, n_leads=2, n_timesteps=60)


@pytest.fixture(scope="module")
def clf(toy):
    return ECGClassifier(TinyNet, module__lstm=3, fs=100.0, **FAST).fit(*toy[:2])


class Summed(nn.Module):
    """Answer by the weighted sum of the samples and its negative; row by row, so that no row rounds as another does."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(np.asarray(weight), dtype=torch.float32))

    def forward(self, x):
        total = (x * self.weight).sum((1, 2))
        return torch.stack([total, -total], 1)


def linear(weight, fs=1.0):
    weight = np.atleast_2d(weight)
    return around(Summed(weight), weight.shape[1], n_leads=len(weight), fs=fs)


# --- captum -----------------------------------------------------------------------------------------------------------


class Middle(nn.Module):
    """Leave ``margin`` samples at each end to a network unseen: captum's positions never leave the window."""

    def __init__(self, net, margin):
        super().__init__()
        self.net, self.margin = net, margin

    def forward(self, x):
        return self.net(x[..., self.margin : -self.margin])


@pytest.mark.parametrize("leads", ["together", "each"])
@pytest.mark.parametrize("fill", [0.0, "another"])
def test_equal_to_captums_sliding_window(leads, fill, toy, clf):
    X = toy[0]
    fill = X[7] if fill == "another" else fill
    out = Occlusion(clf, window=0.12, stride=0.04, fill=fill, leads=leads).explain(X, target="PVC")
    margin = 12 - 4
    net = Middle(clf.module_.eval(), margin)
    pad = ((0, 0), (0, 0), (margin, margin))
    baseline = torch.from_numpy(np.pad(np.broadcast_to(np.float32(fill), X.shape), pad))
    with torch.no_grad():
        want = CaptumOcclusion(net).attribute(
            torch.from_numpy(np.pad(X, pad)),
            sliding_window_shapes=(2 if leads == "together" else 1, 12),
            strides=(1, 4),
            baselines=baseline,
            target=int(np.flatnonzero(clf.classes_ == "PVC")[0]),
        )
    assert close(out.relevance, want.numpy()[..., margin:-margin], 2e-5)


def test_equal_to_captums_ablation_of_a_lead(toy, clf):
    X = toy[0]
    out = Occlusion(clf, by="lead", fill=0.3).explain(X)
    target = torch.from_numpy(np.searchsorted(clf.classes_, out.target))
    with torch.no_grad():
        want = FeatureAblation(clf.module_.eval()).attribute(
            torch.from_numpy(X), baselines=0.3, target=target, feature_mask=torch.arange(2)[None, :, None]
        )
    assert close(out.relevance, want.numpy(), 2e-5)


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width, stride, length", [(5, 1, 17), (6, 4, 17), (4, 4, 16), (7, 3, 7)])
def test_a_linear_network_in_closed_form(width, stride, length, rng):
    """A stretch falls by w (x - fill) summed over it; a sample has the mean of all stretches that cover it."""
    weight = rng.standard_normal((2, length))
    X = rng.standard_normal((3, 2, length)).astype(np.float32)
    fill = rng.standard_normal((2, length))
    each = weight * (X - fill)
    total, count = np.zeros(X.shape), np.zeros(length)
    for first in range(stride - width, length, stride):
        now = slice(max(first, 0), first + width)
        total[..., now] += each[..., now].sum(-1, keepdims=True)
        count[now] += 1
    settings = {"window": width, "stride": stride, "fill": fill, "target": "A"}
    out = Occlusion(linear(weight), leads="each", **settings).explain(X)
    assert np.allclose(out.relevance, total / count, atol=1e-5) and out.relevance_kind == "signed"
    assert np.allclose(out.score, (weight * X).sum((1, 2)), atol=1e-5)
    together = Occlusion(linear(weight), **settings).transform(X)
    assert np.allclose(together, (total / count).sum(1, keepdims=True), atol=1e-5)
    by_lead = Occlusion(linear(weight), by="lead", fill=fill, target="A").transform(X)
    assert np.allclose(by_lead, np.broadcast_to(each.sum(-1, keepdims=True), X.shape), atol=1e-5)


WINDOW = np.array([[[4.0, 1, 7, 3, 5, -2]]], dtype=np.float32)


def test_a_straight_line_by_hand():
    """The weights tell the six samples apart, so each fall says what was put in."""
    weight = np.array([1.0, 10, 100, 1000, 10000, 100000])
    put_in = {  # first sample of the stretch of two -> what replaces the samples inside
        -1: {0: 1.0},  # held level of the sample behind it
        0: {0: 7.0, 1: 7.0},
        1: {1: 4 - 1 / 3, 2: 4 - 2 / 3},  # from 4 to 3 in three steps
        2: {2: 1 + 4 / 3, 3: 1 + 8 / 3},
        3: {3: 4.0, 4: 1.0},
        4: {4: 3.0, 5: 3.0},  # held level of the sample before it
        5: {5: 5.0},
    }
    fall = {a: sum(weight[t] * (WINDOW[0, 0, t] - v) for t, v in new.items()) for a, new in put_in.items()}
    want = [(fall[t - 1] + fall[t]) / 2 for t in range(6)]
    got = Occlusion(linear(weight), window=2.0, stride=1.0, target="A").transform(WINDOW)
    assert np.allclose(got[0, 0], want, rtol=1e-5)


def test_levels_by_hand():
    """The median of 4 1 7 3 5 -2 is 3.5; a whole lead has no ends to draw a line between."""
    clf = linear(np.ones(6))
    level = Occlusion(clf, window=1.0, fill="isoelectric", target="A").transform(WINDOW)
    assert np.allclose(level[0, 0], WINDOW[0, 0] - 3.5)
    for by, fill in (("lead", "bridge"), ("lead", "isoelectric"), ("time", "bridge")):
        whole = Occlusion(clf, by=by, window=6.0, stride=6.0, fill=fill, target="A").transform(WINDOW)
        assert np.allclose(whole, WINDOW.sum() - 6 * 3.5)


def test_no_evidence_is_exactly_zero():
    """A running sum would leave rounding errors behind the last sample that counts."""
    weight = np.zeros(40)
    weight[[5, 6, 11]] = 0.1, 0.7, -0.3
    X = np.random.default_rng(0).standard_normal((2, 1, 40)).astype(np.float32)
    R = Occlusion(linear(weight), window=4.0, stride=1.0, fill="isoelectric").transform(X)
    assert not R[..., 15:].any() and not R[..., :2].any() and R[..., 2:15].all()


def test_seconds_are_samples_of_the_networks_input():
    """At 50 Hz 0.2 s are ten samples, and the stride by default an eighth of them, at least one."""
    X = toy_ecg(n=4, n_timesteps=60)[0]
    net = Summed(np.linspace(-1, 1, 60)[None])
    want = Occlusion(around(net, 60, fs=1.0), window=10, stride=1).transform(X)
    assert np.array_equal(Occlusion(around(net, 60, fs=50.0), window=0.2).transform(X), want)
    assert np.array_equal(Occlusion(around(net, 60), window=0.2, fs=50.0).transform(X), want)
    coarse = Occlusion(around(net, 60, fs=50.0), window=0.36, stride=0.36 / 8).transform(X)
    assert np.array_equal(coarse, Occlusion(around(net, 60, fs=1.0), window=18, stride=2).transform(X))
    with pytest.raises(ValueError, match=r"classifier has no fs.*pass fs"):
        Occlusion(around(net, 60)).transform(X)
    with pytest.raises(ValueError, match=r"classifier has no fs, and by='wave'.*pass fs"):
        Occlusion(around(net, 60), by="wave").transform(X)
    assert Occlusion(around(net, 60), by="lead").transform(X).shape == X.shape  # no seconds in it


def test_the_function_for_other_explainers_is_the_explainers_own(toy, clf):
    X = toy[0]
    out = Occlusion(clf, window=0.1, stride=0.03, output="margin").explain(X)
    index = torch.from_numpy(np.searchsorted(clf.classes_, out.target))
    score = TargetScore(False, np.array(0.0), "margin")
    falls = occlude_time(clf.module_.eval(), score, torch.from_numpy(X), index, 10, 3, 50)
    assert falls.shape == (12, 1, 60) and falls.dtype == torch.float32 and not falls.requires_grad
    assert close(np.broadcast_to(falls.numpy(), X.shape), out.relevance, 2e-5)


# --- waves ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ecg():
    return make_ecg(4, classes=("N", "PVC"), n_leads=2, window=8.0, noise=0.2, random_state=3)


@pytest.mark.parametrize("leads", ["together", "each"])
@pytest.mark.parametrize("wave, error", [("qrs", 0.03), ("t", 0.08)])
def test_a_network_that_reads_one_wave_has_relevance_there_alone(wave, error, leads, ecg):
    """The network reads the middles of the waves; relevance ends near their true limits (s)."""
    row, fs = int(np.flatnonzero(ecg.target == "N")[0]), ecg.fs
    x, waves = ecg.data[row], ecg.waves[row]
    limits = np.stack([waves[f"{wave}_on"], waves[f"{wave}_off"]], 1).astype(int)
    limits = limits[(limits[:, 0] > 0.2 * fs) & (limits[:, 1] < x.shape[1] - 0.2 * fs)]
    weight, near = np.zeros(x.shape), np.zeros(x.shape[1], dtype=bool)
    for on, off in limits:
        middle, margin = (on + off) // 2, round(error * fs)
        weight[0, middle - 3 : middle + 4] = np.arange(1, 8)
        near[on - margin : off + margin + 1] = True
    R = Occlusion(linear(weight, fs), by="wave", leads=leads, target="A").transform(x[None])[0]
    assert len(limits) > 5 and near.mean() < 0.6 and R[0, weight[0] > 0].all() and not R[0, ~near].any()
    for on, off in limits:
        assert np.ptp(R[0, (on + off) // 2 - 3 : (on + off) // 2 + 4]) == 0  # one fall for the stretch
    assert R[1].any() if leads == "together" else not R[1].any()


def test_waves_by_hand(ecg):
    """With the limits of `delineate`, a fall is the sum of a stretch less the line between the samples beside it."""
    from skecg.beats import delineate, find_beats

    row = int(np.flatnonzero(ecg.target == "N")[0])
    x = ecg.data[row]
    (beats,) = delineate(x[None], find_beats(x[None], ecg.fs), min_beats=1)
    out = Occlusion(linear(np.ones(x.shape), ecg.fs), by="wave", leads="each", target="A").explain(x[None])
    assert out.n_beats == len(beats.r_peaks) and out.n_delineated == np.isfinite(beats.limits).any((1, 2)).sum()
    assert out.reason.tolist() == [""]

    def fall(lead, low, high):  # high excluded
        line = np.interp(np.arange(low, high), [low - 1, high], x[lead, [low - 1, high]])
        return (x[lead, low:high] - line).sum()

    for beat, following in zip(beats.limits[2:-2], beats.limits[3:-1], strict=True):
        for lead in range(2):
            p_on, _, p_off, qrs_on, qrs_off, t_on, _, t_off = beat[lead].astype(int)
            stretches = ((p_on, p_off + 1), (qrs_on, qrs_off + 1), (t_on, t_off + 1), (qrs_off + 1, t_on))
            for low, high in (*stretches, (t_off + 1, int(following[lead, 0]))):
                assert np.allclose(out.relevance[0, lead, low:high], fall(lead, low, high), atol=2e-3)


def test_leads_together_are_replaced_within_their_own_limits(ecg):
    row = int(np.flatnonzero(ecg.target == "N")[0])
    x = ecg.data[row : row + 1]
    clf = linear(np.stack([np.ones(x.shape[-1]), np.zeros(x.shape[-1])]), ecg.fs)
    each = Occlusion(clf, by="wave", leads="each", target="A").transform(x)[0]
    together = Occlusion(clf, by="wave", target="A").transform(x)[0]
    assert np.allclose(together[0], each[0], atol=1e-4)  # the second lead says nothing here
    assert not each[1].any() and np.isin(together[1], together[0]).all()


def test_a_beat_of_another_kind_has_a_qrs_complex_too(ecg):
    row = int(np.flatnonzero(ecg.target == "PVC")[0])
    waves, length = ecg.waves[row], ecg.data.shape[-1]
    (pvc,) = waves[waves["label"] == "PVC"]
    weight = np.zeros(length)
    weight[int(pvc["r"]) - 20 : int(pvc["r"]) + 20] = 1
    clf = linear(np.stack([weight, weight]), ecg.fs)
    out = Occlusion(clf, by="wave", target="A").explain(ecg.data[row : row + 1])
    assert out.n_delineated[0] < out.n_beats[0]
    low, high = int(pvc["r"]) - round(0.08 * ecg.fs), int(pvc["r"]) + round(0.1 * ecg.fs)
    assert out.relevance[0, 0, low + 5 : high - 5].all()
    assert not out.relevance[0, 0, : low - 10].any() and not out.relevance[0, 0, high + 10 :].any()


def test_waves_are_found_in_any_unit(ecg):
    """Around a standardised input: the same stretches, so the same relevance of a network that undoes the scale."""
    X = ecg.data
    net = Summed(np.random.default_rng(0).standard_normal(X.shape[1:]))
    scaled = Summed(net.weight.detach().numpy() / 4)
    want = Occlusion(around(net, X.shape[-1], n_leads=2, fs=ecg.fs), by="wave", target="A").transform(X)
    clf = make_pipeline(Gain(4.0).fit(X), around(scaled, X.shape[-1], n_leads=2, fs=ecg.fs))
    assert close(Occlusion(clf, by="wave", target="A").transform(X), want, 1e-4)


@pytest.mark.filterwarnings("ignore:.*zero everywhere", "ignore:.*every lead is constant")
def test_windows_without_beats_are_told(ecg):
    X = ecg.data.copy()
    X[1] = 0.0
    X[2, 1] = 0.5  # a lead that is constant has no waves
    clf = linear(np.ones(X.shape[1:]), ecg.fs)
    with pytest.warns(UserWarning, match=r"1 of 4 windows \(first \[1\]\) no beats were found.*\(flat: every lead"):
        out = Occlusion(clf, by="wave", leads="each").explain(X)
    assert not out.relevance[1].any() and out.n_beats[1] == out.n_delineated[1] == 0 and "flat" in out.reason[1]
    assert out.n_beats[[0, 2, 3]].all() and [bool(r) for r in out.reason] == [False, True, False, False]
    assert not out.relevance[2, 1].any() and out.relevance[2, 0].any()
    with pytest.warns(UserWarning, match="no beats were found"):
        nothing = Occlusion(clf, by="wave").explain(np.zeros_like(X))
    assert not nothing.relevance.any()


def test_a_long_recording_by_wave(ecg):
    clf = linear(np.ones((1, 720)), ecg.fs)
    record = explain_record(Occlusion(clf, by="wave"), ecg.data[0, 0], fs=ecg.fs)
    assert record.relevance.shape == (1, ecg.data.shape[-1]) and record.relevance.any()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"by": "beat"}, "by must be one of 'time', 'lead', 'wave'"),
        ({"leads": "all"}, "leads must be one of"),
        ({"output": "logits"}, "output must be one of"),
        ({"window": 0.0}, r"window must be .*\(s\) above 0"),
        ({"window": -0.1}, "window must be"),
        ({"window": 0.61}, r"window of 0\.61 s is 61 samples at 100 Hz, and the ECG .* is shorter: 60 samples, 0\.6 s"),
        ({"window": 0.001}, "less than one sample at 100 Hz"),
        ({"stride": 0.0}, "stride must be"),
        ({"stride": 0.41}, r"stride must be at most window \(0\.4 s\).*got 0\.41 s"),
        ({"fill": "zeros"}, "fill must be 'bridge', 'isoelectric', a number or an array; got 'zeros'"),
        ({"fill": None}, "fill must be"),
        ({"fill": ["a", "b"]}, "fill must be"),
        ({"fill": np.full(60, np.nan)}, "fill has values that are NaN"),
        ({"fill": np.zeros((3, 60))}, r"fill has the shape \(3, 60\).*\(60,\) for all leads or \(2, 60\)"),
        ({"fill": np.zeros(61)}, r"fill has the shape \(61,\)"),
        ({"by": "wave", "fs": 50.0}, "at least 60 Hz; got 50 Hz"),
        ({"batch_size": 0}, "batch_size"),
    ],
    ids=str,
)
def test_bad_parameters_are_named(bad, message, toy, clf):
    with pytest.raises(ValueError, match=message):
        Occlusion(clf).set_params(**bad).transform(toy[0])


# --- what every explainer promises ------------------------------------------------------------------------------------


@all_kinds
def test_answers_do_not_depend_on_batches_threads_or_memory(kind, ecg):
    X = ecg.data[:3, :1, :900]
    clf = around(Counting(), 900, ("A", "B", "C"), fs=ecg.fs)
    ex = Occlusion(clf, target="B", **KINDS[kind])
    want = ex.set_params(window=0.4, stride=0.2).transform(X)
    assert want.any()
    for batch_size in (1, 50):
        LIMIT.update(most=None, seen=0)
        assert close(ex.set_params(batch_size=batch_size).transform(X), want)
        assert LIMIT["seen"] <= max(2, batch_size)  # memory is bounded by it, however many stretches there are
    assert close(ex.transform(X[2:3]), want[2:3])
    with ThreadPoolExecutor(4) as pool:
        assert all(close(got, want) for got in pool.map(lambda _: ex.transform(X), range(4)))
    try:
        LIMIT["most"] = 3
        assert close(ex.transform(X), want)
        LIMIT["most"] = 0
        with pytest.raises(torch.OutOfMemoryError):
            ex.transform(X)
    finally:
        LIMIT["most"] = None


LIMIT = {"most": None, "seen": 0}


class Counting(nn.Module):
    """A small network that writes into its input, and runs out of memory over more rows than LIMIT says."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.ReLU(inplace=True), nn.Conv1d(1, 3, 9, 4), nn.Tanh())

    def forward(self, x):
        LIMIT["seen"] = max(LIMIT["seen"], len(x))
        if LIMIT["most"] is not None and len(x) > LIMIT["most"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.net(x).mean(-1)


@all_kinds
def test_the_network_and_its_input_are_left_as_found(kind, ecg):
    X = ecg.data[:2, :, :720].copy()
    with torch.random.fork_rng(devices=[]):
        net = ResNet1d(2, 720, 2, width=1, depth=10).train()
    clf = around(net, 720, n_leads=2, fs=ecg.fs)
    fill = X[0, :, ::-1].copy()
    before, was, given, grad = snapshot(net), X.copy(), fill.copy(), torch.is_grad_enabled()
    ex = Occlusion(clf, fill=fill, **{k: v for k, v in KINDS[kind].items() if k != "fill"})
    want = ex.transform(X)
    with torch.inference_mode():
        assert close(ex.transform(X), want)
    with pytest.raises(ValueError, match="target"):
        ex.explain(X, target="XX")
    assert same_snapshot(before, snapshot(net)) and np.array_equal(X, was) and np.array_equal(fill, given)
    assert torch.is_grad_enabled() is grad and ex.fill is fill


def test_nan_of_one_window_stays_with_it(toy, clf):
    class Failing(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x) * torch.where(x[:, :1].amax(-1) > 50, torch.nan, 1.0)

    X = toy[0].copy()
    X[3, 0, 0] = 99.0
    brought = around(Failing(clf.module_.eval()), 60, tuple(clf.classes_), 2, fs=100.0)
    ex = Occlusion(brought, window=0.1, stride=0.05)
    with pytest.warns(UserWarning, match=r"1 of 12 windows \(first \[3\]\).*not finite"):
        out = ex.explain(X, target="PVC")
    assert np.isnan(out.relevance[3]).all()
    want = Occlusion(clf, window=0.1, stride=0.05).explain(X, target="PVC").relevance
    assert close(np.delete(out.relevance, 3, 0), np.delete(want, 3, 0))
