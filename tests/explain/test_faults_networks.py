"""Fault cases 33 to 38: threads, processes, layers, failing networks, odd relevance."""

import copy
import pathlib
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D, MaskDeletion
from skecg.relevance import RelevanceAggregator
from tests.explaining import EXPLAINERS, all_explainers, around, close, make
from tests.tiny import FAST, LinearNet, TinyNet, same_snapshot, snapshot, toy_ecg


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=24, n_leads=2, n_timesteps=60)


@pytest.fixture(scope="module")
def clf(toy):
    return ECGClassifier(TinyNet, module__lstm=3, module__dropout=0.3, **FAST).fit(*toy[:2])


# --- 33: threads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True], ids=["eval mode", "train mode"])
def test_case_33_threads(training, toy, clf):
    X, one = toy[0][:5], copy.deepcopy(clf)
    one.module_.train(training)
    explainers = [make(name, one) for name in (*EXPLAINERS, "gradcam")]
    for ex in explainers:
        if isinstance(ex, MaskDeletion):
            ex.set_params(n_iter=1)  # each of its iterations is two passes through the network as it is
    want = [{label: ex.explain(X, target=label).relevance for label in one.classes_} for ex in explainers]
    before = snapshot(one.module_)

    def work(i):
        label = one.classes_[i % 3]
        return close(explainers[i % 4].explain(X, target=label).relevance, want[i % 4][label])

    with ThreadPoolExecutor(8) as pool:
        n = 8 * (50 if training else 15)
        assert sum(pool.map(work, range(n))) == n
    assert same_snapshot(before, snapshot(one.module_))


# --- 34: processes ----------------------------------------------------------------------------------------------------


def explain_in_worker(explainer, X):
    return explainer.transform(X)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_case_34_joblib(backend, toy, clf):
    want = [make(name, clf).transform(toy[0]) for name in EXPLAINERS]
    got = joblib.Parallel(n_jobs=2, backend=backend)(
        joblib.delayed(explain_in_worker)(make(name, FrozenEstimator(clf)), toy[0]) for name in EXPLAINERS
    )
    for a, b in zip(got, want, strict=True):
        assert close(a, b)


FORK = """
    import multiprocessing, sys, numpy as np, torch
    torch.set_num_threads(2)
    from tests.tiny import FAST, TinyNet, toy_ecg
    from skecg.classifiers import ECGClassifier
    from skecg.explain import GradCAM1D, MaskDeletion

    X, y, *_ = toy_ecg(n=24)
    how, which = sys.argv[1:]
    if how == "fit":
        clf = ECGClassifier(TinyNet, **FAST).fit(X, y)
    else:
        clf = ECGClassifier.from_module(TinyNet(1, 120, 3), ["A", "B", "C"], n_leads=1, n_timesteps=120)
    cam, mask = GradCAM1D(clf, method="gradcam"), MaskDeletion(clf, replacement=0.0, n_iter=2, n_knots=4)
    ex = cam if which == "gradcam" else mask
    if how == "explain":
        ex.transform(X)

    def child(queue):
        try:
            queue.put(("answer", ex.transform(X).shape))
        except BaseException as error:
            queue.put((type(error).__name__, str(error)))

    if __name__ == "__main__":
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        process = context.Process(target=child, args=(queue,), daemon=True)
        process.start()
        try:
            print(*queue.get(timeout=120))
        finally:
            process.kill()
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("how, which", [("explain", "gradcam"), ("fit", "mask")])
def test_case_34_a_forked_child_gets_an_error_and_does_not_hang(how, which):
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK), how, which], cwd=root, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.startswith("RuntimeError") and "loky" in done.stdout, done.stdout + done.stderr


# --- 35: layers -------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Convolution, activation, convolution, mean, linear; the activation by the name of `kind`."""

    cam_layer = "second"

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Conv1d(1, 4, 5, padding=2), nn.Conv1d(4, 4, 5, padding=2)
        self.norm = nn.BatchNorm1d(4)
        self.act = nn.ReLU(inplace=kind == "inplace")
        self.unused = nn.Conv1d(4, 4, 1)
        self.flat = nn.Linear(4, 4)
        self.rnn = nn.LSTM(4, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def activation(self, h):
        return {"functional": F.relu, "tensor": lambda h: h.relu_()}.get(self.kind, self.act)(h)

    def forward(self, x):
        h = self.activation(self.norm(self.first(x)))
        h = self.activation(self.second(h))
        h = self.rnn(h.transpose(1, 2))[0].transpose(1, 2)
        return self.head(self.flat(h.mean(-1)))


@pytest.fixture
def family(seeded):
    """Networks of the same weights that differ in how they call the activation."""
    torch.default_generator.manual_seed(0)  # with other weights a map may be zero everywhere, and show nothing
    plain = Net("module").eval()
    nets = {kind: Net(kind).eval() for kind in ("inplace", "functional", "tensor")}
    for net in nets.values():
        net.load_state_dict(plain.state_dict())
    return plain, nets


@pytest.mark.parametrize("kind", ["inplace", "functional", "tensor"])
@pytest.mark.parametrize("layer", ["first", "norm", "second"])
@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam"])
def test_case_35_activations_in_place_and_functional(kind, layer, method, family):
    plain, nets = family
    X = toy_ecg(n=6, n_timesteps=40)[0]
    settings = {"layer": layer, "method": method, "relu": False, "target": "A"}
    want = GradCAM1D(around(plain, 40), **settings).transform(X)
    got = GradCAM1D(around(nets[kind], 40), **settings).transform(X)
    assert close(got, want) and want.std() > 0
    mask = {"n_iter": 4, "replacement": 0.0, "target": "A"}
    assert close(
        MaskDeletion(around(nets[kind], 40), **mask).transform(X), MaskDeletion(around(plain, 40), **mask).transform(X)
    )


@pytest.mark.parametrize(
    "layer, word", [("act", "act"), ("unused", "unused"), ("flat", "flat"), ("rnn", "rnn"), ("head", "head")]
)
def test_case_35_layers_called_twice_never_or_without_a_time_axis(layer, word, family):
    X = toy_ecg(n=4, n_timesteps=40)[0]
    before = snapshot(family[0])
    with pytest.raises(ValueError, match=rf"\b{word}\b"):
        GradCAM1D(around(family[0], 40), layer=layer, method="gradcam").transform(X)
    assert same_snapshot(before, snapshot(family[0]))


class SharedNet(nn.Module):
    """One convolution under two names and called at two places; the layer to look at is called once."""

    cam_layer = "last"

    def __init__(self):
        super().__init__()
        self.one = nn.Conv1d(2, 2, 3, padding=1)
        self.same = self.one
        self.last = nn.Conv1d(2, 2, 3, padding=1)
        self.head = nn.Linear(2, 2)
        self.head_too = self.head

    def forward(self, x):
        h = self.same(F.elu(self.one(x)))
        return self.head_too(self.head(F.elu(self.last(h)).mean(-1)))


@all_explainers
def test_case_35_a_module_used_twice_elsewhere_is_right(name, seeded):
    torch.default_generator.manual_seed(0)  # with other weights a map may be zero everywhere, and show nothing
    net = SharedNet().eval()
    clf = around(net, 30, n_leads=2)
    X = toy_ecg(n=5, n_leads=2, n_timesteps=30)[0]
    ex = make(name, clf)
    if name == "mask":
        out = ex.set_params(init=0.5, lambda1=1e-4).explain(X, target="A")
        with torch.no_grad():
            p = net(torch.from_numpy(out.mask * X).float()).softmax(1)[:, 0].numpy()
        assert close(out.score_after, p) and out.mask.std() > 0
        return
    ex.set_params(layer="last")
    x = torch.from_numpy(X)
    A = net.last(net.one(F.elu(net.one(x)))).detach().requires_grad_()
    (g,) = torch.autograd.grad(net.head(net.head(F.elu(A).mean(-1)))[:, 0].sum(), A)
    cam = ((g.mean(-1, keepdim=True) if name == "gradcam" else g) * A).sum(1).detach().numpy()
    got = ex.explain(X, target="A").cam
    assert close(got, cam if name == "gradcam" else np.maximum(cam, 0)) and got.std() > 0
    for layer in ("one", "same"):
        with pytest.raises(ValueError, match=layer):
            clone(ex).set_params(estimator=clf, layer=layer).transform(X)


# --- 36: a window on which the network fails --------------------------------------------------------------------------


class NanNet(TinyNet):
    """Answers NaN for a window that starts with 7 mV."""

    def forward(self, x):
        z = super().forward(x)
        return torch.where(x[:, 0, :1] == 7, torch.full_like(z, torch.nan), z)


@pytest.mark.parametrize("target", ["predicted", "PVC"])
@pytest.mark.parametrize("name", ["gradcam", "hirescam"])
def test_case_36_nan_for_one_window(name, target, toy):
    clf = ECGClassifier(NanNet, **FAST).fit(*toy[:2])
    X, ex = toy[0].copy(), make(name, clf)
    want = ex.explain(X, target=target)
    X[5, 0, 0] = 7
    with pytest.warns(UserWarning, match=r"\b5\b"):
        out = ex.explain(X, target=target)
    others = np.arange(24) != 5
    assert np.isnan(out.relevance[5]).all() and np.isnan(out.score[5])
    assert close(out.relevance[others], want.relevance[others])
    assert np.array_equal(out.target[others], want.target[others])
    with pytest.warns(UserWarning, match=r"\b5\b"):
        assert np.isnan(ex.transform(X)[5]).all()


def test_case_36_nan_for_one_window_under_the_mask(toy):
    clf = ECGClassifier(NanNet, **FAST).fit(*toy[:2])
    X, ex = toy[0].copy(), MaskDeletion(clf, n_iter=5, replacement=0.0, init=1.0)
    want = ex.explain(X, target="PVC")
    X[5, 0, 0] = 7
    with pytest.warns(UserWarning, match=r"\b5\b"):
        out = ex.explain(X, target="PVC")
    others = np.arange(24) != 5
    assert np.isnan(out.relevance[5]).all() and np.isfinite(want.relevance).all()
    assert close(out.relevance[others], want.relevance[others])


def test_case_36_predict_does_not_take_the_nan_for_the_largest(toy):
    clf = ECGClassifier(NanNet, **FAST).fit(*toy[:2])
    X = toy[0].copy()
    X[5, 0, 0] = 7
    with pytest.raises(ValueError, match=r"(?s)NaN.*\b5\b|\b5\b.*NaN"):
        clf.predict(X)
    two = ECGClassifier(NanNet, **FAST).fit(toy[0], toy[1] == "N")
    with pytest.raises(ValueError, match="NaN"):
        two.predict(X)


# --- 37: cuDNN --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="cuDNN's recurrent layers need a CUDA device; none is here")
@all_explainers
def test_case_37_a_recurrent_layer_on_cuda_in_eval(name, toy):
    settings = {"module__lstm": 3, **FAST}
    clf = ECGClassifier(TinyNet, device="cuda", **settings).fit(*toy[:2])
    clf.module_.eval()
    before = torch.backends.cudnn.enabled, snapshot(clf.module_)
    got = make(name, clf).transform(toy[0])
    assert torch.backends.cudnn.enabled is before[0] is True and same_snapshot(before[1], snapshot(clf.module_))
    on_cpu = copy.deepcopy(clf.module_).cpu()
    brought = ECGClassifier.from_module(on_cpu, clf.classes_, n_leads=2, n_timesteps=60, device="cpu")
    assert close(got, make(name, brought).transform(toy[0]), rtol=1e-3)


# --- 38: odd relevance ------------------------------------------------------------------------------------------------


def odd_relevance(kind):
    R = np.random.default_rng(0).standard_normal((12, 2, 50)).astype(np.float32)
    odd = {"zero": 0.0, "equal": 0.25, "tiny": 1e-30, "infinite": np.inf, "NaN": np.nan}[kind]
    R[3] = odd
    return R


STATISTICS = ("mean_", "interval_", "effect_size_", "p_value_", "p_adjusted_", "n_patients_", "n_windows_")


def statistics(aggregator):
    """Return every number that a fitted aggregator shows of the cohort."""
    return np.concatenate([np.asarray(getattr(aggregator, name), dtype=float).ravel() for name in STATISTICS])


def aggregate(R, y, **settings):
    agg = RelevanceAggregator(control="N", n_bootstrap=100, random_state=0, **settings)
    return agg.fit(R, y, groups=np.arange(len(R)))


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("by", ["record", "lead"])
@pytest.mark.parametrize("kind", ["zero", "equal", "tiny"])
def test_case_38_the_aggregator_over_odd_finite_relevance(kind, by, share):
    R, y = odd_relevance(kind), np.array(["N", "PVC"] * 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        agg = aggregate(R, y, by=by, share=share)
        shown = statistics(agg)
        table = np.asarray(agg.transform(R), dtype=float)
    others = np.arange(12) != 3
    assert np.isfinite(table[others]).all() and not np.isinf(table).any() and not np.isinf(shown).any()
    assert np.isfinite(agg.mean_).all() and (agg.n_zero_.sum() == 1) == (kind == "zero")
    if not share:
        want = {"zero": 0.0, "equal": 0.25, "tiny": 0.0}[kind]
        assert np.allclose(table[3], want, atol=1e-12)


@pytest.mark.parametrize("kind", ["infinite", "NaN"])
def test_case_38_the_aggregator_counts_what_it_leaves_out(kind):
    R, y = odd_relevance(kind), np.array(["N", "PVC"] * 6)
    others = np.arange(12) != 3
    with pytest.warns(UserWarning, match=r"\b1 of 12\b"):
        agg = aggregate(R, y, by="lead")
    assert agg.exclusions_["non_finite"].tolist() == [0, 1]  # of N and of PVC
    clean = aggregate(R[others], y[others], by="lead")
    assert np.allclose(statistics(agg), statistics(clean), equal_nan=True) and np.isfinite(agg.mean_).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert np.isnan(agg.transform(R)[3]).all()


@pytest.mark.parametrize("kind", ["zero", "equal", "tiny", "infinite", "NaN"])
def test_case_38_the_picture(kind):
    from skecg.plotting import RelevanceDisplay

    R, X = odd_relevance(kind), np.random.default_rng(1).standard_normal((12, 2, 50))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        display = RelevanceDisplay.from_relevance(X[3], R[3], fs=100.0)
        figure = display.figure_
        figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    assert pixels.std() > 0
    for axes in figure.axes:
        assert np.isfinite(axes.get_xlim()).all() and np.isfinite(axes.get_ylim()).all()


def test_case_38_an_infinite_answer_of_the_network_is_no_relevance():
    net = LinearNet(np.full((2, 1, 4), 3e38), [0.0, 0.0])
    X = np.array([[[1, 1, 1, 1]], [[1e-38, 0, 0, 0]]], dtype=np.float32)
    with pytest.warns(UserWarning):
        out = GradCAM1D(around(net, 4), method="hirescam", layer="keep", target="A", relu=False).explain(X)
    assert not np.isinf(out.relevance).any()
