"""What is promised of the second paper: RibeiroNet and its files, attribution on the input, SHAP."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import captum.attr
import h5py
import numpy as np
import pytest
import torch
from scipy.signal import resample_poly
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import TunedThresholdClassifierCV
from torch import nn

from skecg.datasets import make_ecg
from skecg.explain import (
    INNVESTIGATE_IG,
    INNVESTIGATE_PRESET_A,
    LRP,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    ShapExplainer,
)
from skecg.models import RIBEIRO_LABELS, RIBEIRO_THRESHOLDS, RibeiroNet, load_ribeiro, read_weights
from skecg.preprocessing import ribeiro_preprocessing
from tests.explaining import around, close
from tests.networks import n_parameters, settled
from tests.tiny import LinearNet, TinyNet

NAMES = ("N", "AF", "LBBB")
X = make_ecg(6, classes=NAMES, n_leads=12, fs=128.0, window=2.0, random_state=0).data
LONG = make_ecg(2, classes=("N", "AF"), n_leads=12, fs=500.0, window=10.0, noise=0, random_state=1).data
METHODS = ("riemann_middle", "riemann_left", "gausslegendre")


def seeded_net(build):
    """Build a network from seed 0, without touching torch's generator."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return build()


def ribeiro(n_timesteps=256, n_outputs=3, **settings):
    def build():
        net = RibeiroNet(12, n_timesteps, n_outputs, width=2, **settings)
        return settled(net, torch.randn(8, 12, n_timesteps))

    return seeded_net(build)


NET = ribeiro()
CLF = around(NET, 256, NAMES, 12)


def codes(labels):
    return torch.tensor([NAMES.index(label) for label in labels])


# --- RibeiroNet and its files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "total", "units"),
    [
        ("keras", 6_421_910, [401_920, 1_041_936, 1_902_592, 3_032_320]),
        ("pytorch", 6_950_310, [139_520, 426_496, 1_105_440, 2_018_304, 3_216_640]),
    ],
)
def test_parameters_are_the_published_ones(variant, total, units):
    net = seeded_net(lambda: RibeiroNet(variant=variant))
    assert n_parameters(net) == total
    assert [n_parameters(net.get_submodule(f"resblock1d_{i}")) for i in range(len(units))] == units
    assert n_parameters(net.lin) == 30_726
    assert n_parameters(seeded_net(RibeiroNet)) == 6_421_910  # keras is the default


def test_other_sizes_than_built_for_are_refused():
    with pytest.raises(ValueError, match=r"300(.|\n)*256|256(.|\n)*300"):
        NET(torch.zeros(1, 12, 300))
    with pytest.raises(ValueError, match=r"11(.|\n)*12|12(.|\n)*11"):
        CLF.predict(X[:, :11])
    with pytest.raises(ValueError, match=r"11(.|\n)*12|12(.|\n)*11"):
        IntegratedGradients(CLF).explain(X[:, :11])


def test_six_sigmoids_with_a_threshold_each():
    net = ribeiro(n_outputs=6)
    clf = around(net, 256, RIBEIRO_LABELS, 12, multilabel=True, threshold=RIBEIRO_THRESHOLDS)
    with torch.no_grad():
        want = torch.sigmoid(net(torch.tensor(X)).double()).numpy()
    assert np.allclose(clf.predict_proba(X), want, atol=1e-5)
    assert np.array_equal(clf.predict(X), want > [0.124, 0.07, 0.05, 0.278, 0.390, 0.174])
    two = around(ribeiro(n_outputs=2), 256, ("N", "AF"), 12)
    tuned = TunedThresholdClassifierCV(FrozenEstimator(two), cv="prefit", refit=False).fit(X, ["N", "AF", "N"] * 2)
    assert 0 <= tuned.best_threshold_ <= 1 and set(tuned.predict(X)) <= {"N", "AF"}


def write_hdf5(path, net, twist=None):
    """Write a whole-model file as Keras 2 does, in the authors' order of layers, under names that tell nothing."""
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    number = itertools.count(7)
    parts = [("conv1", "bn1")]
    for i in range(4):
        u = f"resblock1d_{i}."
        parts += [(u + "conv1", u + "bn1"), (u + "conv2",), (u + "skip_connection.1",), (u + "bn2",)]
    layers = []
    for key in itertools.chain(*parts):
        at = key.split(".")[-1]
        if at.startswith("bn"):
            keras = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
            weights = {f"{name}:0": state[f"{key}.{torchs}"] for name, torchs in keras.items()}
            layers.append((f"layer_{next(number) * 37 % 101}", weights))
        else:
            kernel = {"kernel:0": state[f"{key}.weight"].transpose(2, 1, 0)}
            layers += [(f"layer_{next(number) * 37 % 101}", kernel), (f"empty_{next(number)}", {})]
    n, features = state["lin.weight"].shape
    dense = state["lin.weight"].reshape(n, features // 16, 16).transpose(2, 1, 0).reshape(features, n)
    layers.append(("head", {"kernel:0": dense, "bias:0": state["lin.bias"]}))
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["model_config"] = "2.2.4", "{}"
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for name, weights in layers:
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{key}".encode() for key in weights]
            for key, value in weights.items():
                group.create_dataset(f"{name}/{key}", data=value)
        if twist is not None:
            twist(root, layers)
    return path


def write_pth(path, net, **more):
    torch.save({"epoch": 3, "model": net.state_dict(), "valid_loss": np.float64(0.1), "optimizer": {}, **more}, path)
    return path


@pytest.mark.parametrize(("write", "variant"), [(write_hdf5, "keras"), (write_pth, "keras"), (write_pth, "pytorch")])
def test_weights_come_back_and_damage_is_refused(write, variant, tmp_path, rng):
    net = ribeiro(4096, 1 if variant == "pytorch" else 6, variant=variant)
    path = write(tmp_path / "model.bin", net)
    found, x = load_ribeiro(path), torch.tensor(rng.normal(size=(2, 12, 4096)), dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(found(x), net(x), atol=1e-5)
    other = {"keras": "pytorch", "pytorch": "keras"}[variant]
    with pytest.raises(ValueError, match=rf"model\.bin(.|\n)*({variant}|{other})"):
        read_weights(path, variant=other)
    whole = path.read_bytes()
    for end in (0, 1, 100, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"model\.bin"):
            read_weights(path)
    for at in rng.integers(0, len(whole), 25) if write is write_pth else ():
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            state = read_weights(path)
        except ValueError as error:
            assert "model.bin" in str(error)
        else:
            assert all(torch.equal(state[key], value) for key, value in net.state_dict().items() if key in state)


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_executed_or_read_elsewhere(tmp_path):
    net, canary = ribeiro(4096, 6), tmp_path / "canary"
    for i, what in enumerate(({"more": Canary(canary)}, {"valid_loss": Canary(canary)})):
        path = write_pth(tmp_path / f"bad{i}.pth", net, **what)
        with pytest.raises(ValueError, match=rf"bad{i}\.pth"):
            read_weights(path)
    path = tmp_path / "raw.pth"
    path.write_bytes(pickle.dumps({"model": Canary(canary)}))
    with pytest.raises(ValueError, match=r"raw\.pth"):
        load_ribeiro(path)
    assert not canary.exists()
    elsewhere = str(tmp_path / "elsewhere.h5")
    with h5py.File(elsewhere, "w") as file:
        file["stem"] = net.conv1.weight.detach().numpy().transpose(2, 1, 0)
    raw = str(tmp_path / "raw.bin")
    Path(raw).write_bytes(net.conv1.weight.detach().numpy().transpose(2, 1, 0).tobytes())

    def replaced(make):
        def twist(root, layers):
            name = layers[0][0]
            del root[name][f"{name}/kernel:0"]
            make(root[name][name])

        return twist

    shape = (16, 12, 2)
    link, soft = h5py.ExternalLink(elsewhere, "stem"), h5py.SoftLink("/model_weights/head/head/bias:0")
    twists = {
        "external link": lambda group: group.__setitem__("kernel:0", link),
        "soft link": lambda group: group.__setitem__("kernel:0", soft),
        "external storage": lambda group: group.create_dataset("kernel:0", shape, "f4", external=[(raw, 0, 1536)]),
        "object": lambda group: group.create_dataset("kernel:0", shape, h5py.special_dtype(vlen=str)),
    }
    for name, make in twists.items():
        path = write_hdf5(tmp_path / f"{name}.hdf5", net, replaced(make))
        with pytest.raises(ValueError, match=rf"{name}\.hdf5"):
            read_weights(path)


@pytest.mark.parametrize("what", ["text", "html", "empty dict", "other net", "other hdf5", "nan"])
def test_files_that_hold_something_else(what, tmp_path):
    path, nan = tmp_path / "what.bin", ribeiro(4096)
    nan.lin.bias.data[0] = np.nan
    writers = {
        "text": lambda: path.write_text("weights"),
        "html": lambda: path.write_text("<!DOCTYPE html><html>log in</html>"),
        "empty dict": lambda: torch.save({}, path),
        "other net": lambda: torch.save(seeded_net(lambda: TinyNet(12, 4096, 6)).state_dict(), path),
        "other hdf5": lambda: h5py.File(path, "w").create_dataset("x", data=np.zeros(3)).file.close(),
        "nan": lambda: write_hdf5(path, nan),
    }
    writers[what]()
    with pytest.raises(ValueError, match=r"what\.bin"):
        read_weights(path)


@pytest.mark.parametrize(("n", "zeros"), [(5000, 48), (3500, 648)])
def test_preprocessing_as_published(n, zeros):
    got = ribeiro_preprocessing(500.0).fit_transform(LONG[..., :n])
    want = resample_poly(LONG[..., :n], 400, 500, axis=-1)
    assert got.shape == (2, 12, 4096) and not got[..., :zeros].any() and not got[..., -zeros:].any()
    # resample_poly takes what lies beyond the ends for zero, which its filter carries 25 ms into the record
    assert np.allclose(got[..., zeros + 10 : -zeros - 10], want[..., 10:-10], atol=2e-3)


def test_units_order_and_leads_are_noticed(recwarn):
    good = ribeiro_preprocessing(500.0).fit_transform(LONG)
    assert not recwarn.list
    for wrong, unit in ((LONG / 1000, "mV"), (LONG * 1000, "mV"), (LONG, "V")):
        with pytest.warns(UserWarning, match="mV"):
            ribeiro_preprocessing(500.0, unit=unit).fit_transform(wrong)
    with pytest.warns(UserWarning, match=r"(?i)order|Einthoven"):
        ribeiro_preprocessing(500.0).fit_transform(LONG[:, [1, 0, *range(2, 12)]])
    with pytest.raises(ValueError, match=r"11(.|\n)*12|12(.|\n)*11"):
        ribeiro_preprocessing(500.0).fit(LONG[:, :11])
    assert np.allclose(ribeiro_preprocessing(500.0, unit="V").fit_transform(LONG / 1000), good, atol=1e-5)


# --- attribution ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("baseline", ["zero", "lead", "sample", "window"])
def test_integrated_gradients_are_captums_and_complete(method, baseline, rng):
    shape = {"zero": (), "lead": (12,), "sample": (12, 256), "window": X.shape}[baseline]
    given = 0.0 if baseline == "zero" else rng.normal(size=shape).astype(np.float32)
    full = np.broadcast_to(given[:, None] if baseline == "lead" else given, X.shape).astype(np.float32)
    out = IntegratedGradients(CLF, n_steps=16, method=method, baseline=given).explain(X)
    x, x0, at = torch.tensor(X), torch.tensor(full), codes(out.target)
    want = captum.attr.IntegratedGradients(NET).attribute(x, x0, target=at, method=method, n_steps=16)
    assert close(out.relevance, want.float().numpy(), 2e-5)
    with torch.no_grad():
        gap = (NET(x) - NET(x0))[range(6), at].numpy()
    assert np.allclose(out.completeness_error, out.relevance.sum((1, 2)) - gap, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_tol_adds_points_until_it_holds(method, recwarn):
    out = IntegratedGradients(CLF, n_steps=4, method=method, tol=0.02).explain(X)
    assert not recwarn.list and len(set(out.n_steps)) > 1
    assert (np.abs(out.completeness_error) <= 0.02 * np.abs(out.score - out.score_baseline)).all()
    # three times as many midpoints contain the ones before, so that none is computed twice; of twice as many none does
    base = 3 if method == "riemann_middle" else 2
    powers = np.log(out.n_steps / 4) / np.log(base)
    assert np.allclose(powers, powers.round()), f"points {sorted(set(out.n_steps))} are not 4 times powers of {base}"
    with pytest.warns(UserWarning, match="tol|complete"):
        IntegratedGradients(CLF, n_steps=2, method=method, tol=1e-9, max_steps=4).explain(X)


SHAPES = [(11,), (256,), (12, 255), (5, 12, 256), (1, 1, 1, 1)]


@pytest.mark.parametrize("baseline", [*map(np.zeros, SHAPES), "mean", np.nan])
def test_baselines_of_another_shape_are_refused(baseline):
    with pytest.raises(ValueError, match="baseline"):
        IntegratedGradients(CLF, baseline=baseline).explain(X)


def test_a_baseline_of_medians():
    clf, x = around(LinearNet(np.ones((2, 2, 4)), [0, 0]), 4, n_leads=2), [[[0.0, 1.0, 2.0, 5.0], [4.0, 4.0, 1.0, 4.0]]]
    got = IntegratedGradients(clf, baseline="median", target="A").transform(x)
    assert np.allclose(got, [[[-1.5, -0.5, 0.5, 3.5], [0, 0, -3, 0]]]), got


def test_gradients_are_captums():
    x, at = torch.tensor(X), codes(CLF.predict(X))
    for absolute in (True, False):
        want = captum.attr.Saliency(NET).attribute(x, at, abs=absolute).numpy()
        assert close(Saliency(CLF, absolute=absolute).transform(X), want)
    want = captum.attr.InputXGradient(NET).attribute(x, at).detach().numpy()
    assert close(InputXGradient(CLF).transform(X), want)


def test_gradients_of_networks_worked_out_by_hand(rng):
    w, x, base = (rng.normal(size=(2, 3, 8)).astype(np.float32) for _ in range(3))
    clf = around(LinearNet(w, [0.5, -1]), 8, n_leads=3)
    y = np.array(["A", "B"])
    assert close(IntegratedGradients(clf, n_steps=1, baseline=base, target=y).transform(x), w * (x - base))
    assert close(Saliency(clf, target=y).transform(x), np.abs(w))
    assert close(InputXGradient(clf, target=y).transform(x), w * x)
    got = ShapExplainer(clf, background=base[:1], n_samples=4, target=y).fit(x).explain(x)
    assert close(got.relevance, w * (x - base[:1])) and np.allclose(got.additivity_error, 0, atol=1e-4)

    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return torch.stack([self.one * x[:, 0, 0] * x[:, 0, 1], x[:, 0, 0]], 1)

    clf, x = around(Product(), 2), np.array([[[2.0, 3.0]]])
    middle = IntegratedGradients(clf, n_steps=4, target="A").explain(x)
    left = IntegratedGradients(clf, n_steps=4, method="riemann_left", target="A").explain(x)
    assert np.allclose(middle.relevance, 3) and np.allclose(middle.completeness_error, 0, atol=1e-6)
    assert np.allclose(left.relevance, 3 * 3 / 4) and np.allclose(left.completeness_error, -6 / 4)


def test_probable_settings_of_the_paper():
    assert INNVESTIGATE_IG == {"n_steps": 64, "method": "riemann_left", "baseline": 0.0, "output": "probability"}
    assert "probable" in IntegratedGradients.__doc__ and "not confirmed" in IntegratedGradients.__doc__
    assert INNVESTIGATE_PRESET_A["rule"] == "preset_a" and "robable" in LRP.__doc__
    LRP(CLF, **INNVESTIGATE_PRESET_A).transform(X[:1])
    x, at = torch.tensor(X[:2]), codes(["AF", "LBBB"])
    want = captum.attr.IntegratedGradients(nn.Sequential(NET, nn.Sigmoid())).attribute(
        x, target=at, method="riemann_left", n_steps=64
    )
    clf = around(NET, 256, NAMES, 12, multilabel=True)
    got = IntegratedGradients(clf, **INNVESTIGATE_IG).explain(X[:2], target=["AF", "LBBB"])
    assert close(got.relevance, want.float().numpy(), 2e-5) and ((got.score > 0) & (got.score < 1)).all()


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv1d(12, 4, 5), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).amax(-1))


def test_deep_shap_is_refused_where_it_would_be_wrong(rng):
    for build, word in ((lambda: TinyNet(12, 256, 3, lstm=4), "LSTM"), (Functional, "relu|functional")):
        clf = around(seeded_net(build), 256, NAMES, 12)
        with pytest.raises(ValueError, match=rf"(?i)(deep(.|\n)*({word})|({word})(.|\n)*deep)"):
            ShapExplainer(clf, method="deep", background=0.0).fit(X).explain(X)
    back = rng.normal(size=(4, 12, 256)).astype(np.float32)
    for method in ("gradient", "deep"):
        explainer = ShapExplainer(CLF, method=method, background=back, tol=10.0, random_state=0)
        out = explainer.fit(X).explain(X, target="AF")
        gap = CLF.decision_function(X)[:, 1] - CLF.decision_function(back)[:, 1].mean()
        assert np.allclose(out.additivity_error, out.relevance.sum((1, 2)) - gap, atol=1e-4)
    assert np.abs(out.additivity_error).max() < 1e-3 * np.abs(gap).max()  # of deep: a rule for every module
    net = seeded_net(lambda: nn.Sequential(nn.Conv1d(12, 4, 9), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 248, 3)))
    want = captum.attr.DeepLift(net).attribute(torch.tensor(X), torch.tensor(back[:1]), target=2).detach().numpy()
    clf = around(net, 256, NAMES, 12)
    assert close(ShapExplainer(clf, method="deep", background=back[:1], target="LBBB").fit(X).transform(X), want, 1e-4)
