"""skecg.save and back: every network, every explainer, pipelines and aggregators, to the bit; what cannot be saved."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from skorch.callbacks import Checkpoint, EarlyStopping, GradientNormClipping, LRScheduler
from torch import nn

import skecg
from skecg.classifiers import AugmentChain, DropoutBursts, ECGClassifier, RandomShift, RandomStretch
from skecg.explain import GradCAM1D, IntegratedGradients, SmoothGrad
from skecg.models import ECGLSTM, ECGNet, RibeiroNet
from skecg.persistence import load, save
from skecg.persistence._networks import settings_of
from skecg.persistence._registry import NETWORKS
from skecg.preprocessing import ECGScaler, Gain
from skecg.relevance import RelevanceAggregator
from tests.tiny import FAST, LinearNet, TinyNet, snapshot, toy_ecg

from .files import again, alike, members_of

SMALL = {
    "ECGNet": {"width": 1, "hidden": 3, "branch_dropout": 0.2, "kernel": 5},
    "ECGLSTM": {"width": 3, "dropout": 0.25, "step": 20},
    "HannunNet": {"width": 1, "kernel": 4, "momentum": 0.2},
    "ResNet1d": {"width": 1, "depth": 10, "kernel": 3},
    "RibeiroNet": {"width": 2, "variant": "pytorch", "kernel_size": 3},
    "ZihlmannCNN": {"width": 1, "growth": 2, "fs": 250.0, "floor": None, "nperseg": 16, "noverlap": 4},
    "ZihlmannCRNN": {"width": 1, "hidden": 2, "nperseg": 16, "noverlap": 8},
}
QUICK = {"max_epochs": 1, "random_state": 0, "batch_size": 16}


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=36, n_leads=2, n_timesteps=80)


@pytest.fixture(scope="module")
def clf(toy):
    return ECGClassifier("ECGLSTM", module__width=3, module__step=20, fs=100.0, **QUICK).fit(*toy[:2])


def test_settings_are_known_of_every_network():
    assert set(SMALL) == set(NETWORKS)


@pytest.mark.parametrize("name", SMALL)
def test_every_network(toy, tmp_path, name):
    X, y = toy[:2]
    settings = {f"module__{key}": value for key, value in SMALL[name].items()}
    before = ECGClassifier(name, **settings, **QUICK).fit(X, y)
    after = again(before, tmp_path)
    assert alike(before, after) and alike(before.module_, after.module_)
    assert np.array_equal(after.predict_proba(X), before.predict_proba(X))
    assert list(after.history_) == list(before.history_) and after.n_epochs_ == 1
    after.partial_fit(X, y)
    assert after.n_epochs_ == 2 and np.isfinite(after.predict_proba(X)).all()


@pytest.mark.parametrize("name", SMALL)
def test_networks_that_were_trained_elsewhere(toy, tmp_path, seeded, name):
    X = toy[0]
    net = NETWORKS[name](2, 80, 3, **SMALL[name])
    assert settings_of(net).items() >= SMALL[name].items()
    as_found = snapshot(net)
    before = ECGClassifier.from_module(net.eval(), ["a", "b", "c"], n_leads=2, n_timesteps=80)
    after = again(before, tmp_path)
    assert snapshot(net).keys() == as_found.keys()
    assert np.array_equal(after.decision_function(X), before.decision_function(X))
    assert type(after.module) is type(net) and alike(after.module, net) and not after.module.training


def test_a_network_that_was_changed_is_asked_for(toy, tmp_path, seeded):
    net = ECGLSTM(2, 80, 3, width=3)
    net.dense = nn.Sequential(nn.Dropout(0.5), net.dense)
    assert settings_of(net) is None
    before = ECGClassifier.from_module(net.eval(), ["a", "b", "c"], n_leads=2, n_timesteps=80)
    path = save(before, tmp_path / "a.skecg")
    with pytest.raises(ValueError, match=r"its network is 'ECGLSTM'.*pass load"):
        load(path)
    after = load(path, module=net)
    assert after.module is net and after.module_ is not net
    assert np.array_equal(after.decision_function(toy[0]), before.decision_function(toy[0]))


def test_weights_that_went_on_are_not_those_of_the_parameter(toy, tmp_path, seeded):
    X, y = toy[:2]
    net = ECGLSTM(2, 80, 3, width=3)
    net.steps.requires_grad_(False)
    before = ECGClassifier.from_module(net, ["N", "PAC", "PVC"], n_leads=2, n_timesteps=80).partial_fit(X, y)
    after = again(before, tmp_path)
    assert alike(after.module, net) and not torch.equal(after.module_.dense.bias, net.dense.bias)
    trainable = [name for name, parameter in after.module_.named_parameters() if parameter.requires_grad]
    assert trainable == ["dense.weight", "dense.bias"]
    assert np.array_equal(clone(after).fit(X, y).predict_proba(X), clone(before).fit(X, y).predict_proba(X))


@pytest.mark.parametrize("dtype", [str, object, np.int64, bool, "multilabel", "two labels"])
def test_labels(toy, tmp_path, dtype):
    X, y = toy[0], np.arange(36) % 2
    target, more = {
        str: (np.array(["N", "ÄÖ \u2028"])[y], {}),
        object: (np.array(["N", "PVC"], dtype=object)[y], {"class_weight": {"N": 1.0, "PVC": 2}}),
        np.int64: (y * 10 - 5, {"threshold": 0.25}),
        bool: (y == 1, {"class_weight": "balanced"}),
        "multilabel": (np.stack([y, 1 - y, y], 1), {"labels": ("a", "b", "c"), "threshold": [0.1, 0.5, 0.9]}),
        "two labels": (pd.DataFrame(np.stack([y, 1 - y], 1), columns=["a", "b"]), {"threshold": np.array([0.2, 0.8])}),
    }[dtype]
    before = ECGClassifier("ECGLSTM", module__width=2, **more, **QUICK).fit(X, target)
    after = again(before, tmp_path)
    assert alike(before, after)
    assert np.array_equal(after.predict(X), before.predict(X)) and after.predict(X).dtype == before.predict(X).dtype


def test_all_parameters_of_a_classifier(toy, tmp_path):
    X, y, groups, _ = toy
    before = ECGClassifier(
        ECGLSTM,
        module__width=2,
        fs=np.float32(360),
        augment=AugmentChain(RandomShift(0.1, fs=100), AugmentChain(DropoutBursts(), RandomStretch(anchor="start"))),
        criterion=nn.CrossEntropyLoss,
        criterion__weight=torch.tensor([1.0, 2.0, 3.0]),
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.5,
        early_stopping=True,
        validation_fraction=0.3,
        callbacks=[
            ("plateau", LRScheduler(torch.optim.lr_scheduler.ReduceLROnPlateau, monitor="valid_loss", patience=1)),
            ("steps", LRScheduler("StepLR", step_size=3)),
            GradientNormClipping(1.0),
            EarlyStopping,
        ],
        callbacks__steps__step_size=2,
        checkpoint_dir=tmp_path / "epochs",
        max_epochs=2,
        random_state=np.random.RandomState(5),
    ).fit(X, y, groups=groups)
    after = again(before, tmp_path)
    assert after.checkpoint_dir is None and after.checkpoint_folder_ is None
    assert after._changed_params() == before._changed_params() == []
    names = set(before.get_params()) - {"callbacks", "augment", "checkpoint_dir", "fs"}
    assert type(after.fs) is float and after.fs == 360.0  # numpy's scalars become Python's
    assert all(alike(before.get_params()[name], after.get_params()[name]) for name in names)
    assert repr(after.augment) == repr(before.augment)
    assert [str(c) for c in map(type, after.callbacks)] == [str(c) for c in map(type, before.callbacks)]
    assert vars(after.callbacks[0][1]) == vars(before.callbacks[0][1])
    assert np.array_equal(after.validation_indices_, before.validation_indices_) and len(after.validation_indices_)
    one, two = clone(after).set_params(checkpoint_dir=None), clone(before).set_params(checkpoint_dir=None)
    assert np.array_equal(
        one.fit(X, y, groups=groups).predict_proba(X), two.fit(X, y, groups=groups).predict_proba(X)
    )


def test_what_was_changed_after_the_fit_stays_so(toy, tmp_path, clf):
    changed = clone(clf).set_params(batch_size=8).fit(*toy[:2])
    changed.set_params(lr=0.5, threshold=0.5, criterion__label_smoothing=0.1, module__width=9)
    after = again(changed, tmp_path)
    assert after._changed_params() == changed._changed_params() == ["criterion__label_smoothing", "lr", "module__width"]
    with pytest.raises(ValueError, match=r"parameters .*lr.* were changed"):
        GradCAM1D(after).fit(toy[0])
    after.set_params(lr=changed._fitted_params["lr"])
    assert after._changed_params() == ["criterion__label_smoothing", "module__width"]


def test_a_network_of_ones_own(toy, tmp_path):
    X, y = toy[:2]
    before = ECGClassifier(TinyNet, **FAST).fit(X, y)
    path = save(before, tmp_path / "a.skecg")
    with pytest.raises(ValueError, match=r"a\.skecg cannot be loaded: its network is 'TinyNet'.*module=.*nothing is"):
        load(path)
    after = load(path, module=TinyNet)
    assert alike(before, after) and np.array_equal(after.predict_proba(X), before.predict_proba(X))
    assert save(after, tmp_path / "b.skecg").read_bytes() == path.read_bytes()
    made = load(path, module=lambda n_leads, n_timesteps, n_outputs, width: TinyNet(n_leads, n_timesteps, 3, width))
    assert np.array_equal(made.predict_proba(X), before.predict_proba(X))
    for wrong, match in ((ECGNet, "it is another network"), ("os.system", "module must be a network's class")):
        with pytest.raises(ValueError, match=match):
            load(path, module=wrong)
    with pytest.raises(ValueError, match="no network of this file needs one"):
        load(save(ECGScaler(), path), module=TinyNet)


def test_an_instance_of_ones_own(toy, tmp_path, seeded):
    X = toy[0]
    net = LinearNet(np.arange(3 * 2 * 80).reshape(3, 2, 80) / 100, [0, 1, 2])
    before = ECGClassifier.from_module(net, [3, 1, 2], n_leads=2, n_timesteps=80, fs=250)
    path = save(before, tmp_path / "a.skecg")
    empty = LinearNet(np.zeros((3, 2, 80)), [0, 0, 0])
    after = load(path, module=empty)
    assert np.array_equal(after.predict_proba(X), before.predict_proba(X)) and after.module is empty
    assert not empty.weight.any() and after.classes_.tolist() == [3, 1, 2]


def test_the_estimator_is_left_as_it_was(toy, tmp_path):
    X, y = toy[:2]
    clf = ECGClassifier("ECGNet", module__width=1, **QUICK).fit(X, y)
    clf.module_.train()
    before = snapshot(clf.module_), dict(vars(clf)), clf.predict_proba(X)
    with torch.inference_mode():
        path = save(clf, tmp_path / "a.skecg")
        after = load(path)
    assert np.array_equal(after.predict_proba(X), before[2])
    now = snapshot(clf.module_)
    assert all(str(before[0][key]) == str(now[key]) for key in before[0]) and before[0].keys() == now.keys()
    assert dict(vars(clf)) == before[1]
    after.partial_fit(X, y)


def test_the_file_is_a_plain_zip_of_plain_arrays(tmp_path, clf):
    path = save(clf, str(tmp_path / "a.skecg"))
    assert path == tmp_path / "a.skecg" and [p.name for p in tmp_path.iterdir()] == ["a.skecg"]
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        config = json.loads(file.read("config.json"))
        assert json.loads(file.read("history.json"))[0][0]["epoch"] == 1
    arrays = np.load(path, allow_pickle=False)
    state = clf.module_.state_dict()
    stored = config["objects"][0]["learned"]["weights"]
    assert stored.keys() == state.keys()
    for name, i in stored.items():
        assert np.array_equal(arrays[f"arrays/{i}"], state[name].numpy())
    assert config["versions"]["skecg"] == skecg.__version__ and str(tmp_path) not in json.dumps(config)


def test_long_histories_keep_their_epochs(tmp_path, clf, monkeypatch):
    monkeypatch.setattr("skecg.persistence._save._BATCHES", 2)
    (row,) = load(save(clf, tmp_path / "a")).history_
    assert row["batches"] == [] and row["train_loss"] == clf.history_[0]["train_loss"]


def test_callbacks_of_one_run_are_left_out(toy, tmp_path, clf):
    watched = clone(clf)
    watched._skl_callbacks = [print]  # where scikit-learn 1.9 and later keep what set_callbacks was given
    assert not hasattr(load(save(watched, tmp_path / "a")), "_skl_callbacks")


def test_equal_arrays_are_there_once(tmp_path, seeded):
    net = RibeiroNet(2, 64, 3, width=4)
    one = ECGClassifier.from_module(net, list("abc"), n_leads=2, n_timesteps=64)
    size = sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())
    path = save(one, tmp_path / "a")
    assert sum(len(content) for name, content in members_of(path).items() if name[0] == "a") < 1.6 * size


# --- what is not saved ------------------------------------------------------------------------------------------------


class MyClassifier(ECGClassifier):
    """A class of the user's own."""


def halve(x, generator):
    return x / 2


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda clf: LogisticRegression(), "LogisticRegression is not among the classes.*joblib, and load only such"),
        (lambda clf: make_pipeline(LogisticRegression(), clf), "LogisticRegression is not among"),
        (lambda clf: GridSearchCV(clf, {"lr": [1]}), "GridSearchCV is not among.*: keep it"),
        (lambda clf: MyClassifier(), "MyClassifier is not among"),
        (lambda clf: "a string", "str is not among"),
        (lambda clf: ECGClassifier(augment=halve), "augment of ECGClassifier is the function halve.*joblib"),
        (lambda clf: ECGClassifier(augment=AugmentChain(halve)), "steps of AugmentChain is the function halve"),
        (lambda clf: ECGClassifier(optimizer=LinearNet), "optimizer of ECGClassifier is the class LinearNet"),
        (lambda clf: ECGClassifier(criterion=nn.MSELoss()), "criterion of ECGClassifier is a MSELoss"),
        (lambda clf: ECGClassifier(module__activation=nn.ELU), "module__activation of ECGClassifier is the class ELU"),
        (lambda clf: ECGClassifier(callbacks=[Checkpoint()]), "callbacks of ECGClassifier is a Checkpoint"),
        (lambda clf: ECGClassifier(callbacks=[EarlyStopping(sink=len)]), "sink of EarlyStopping is the function len"),
        (lambda clf: ECGClassifier(class_weight=pd.Series([1])), "class_weight of ECGClassifier is a Series"),
        (lambda clf: ECGClassifier(labels=np.array([None])), "labels of ECGClassifier is an array of objects"),
        (lambda clf: ECGClassifier(labels=np.array([1j])), "labels of ECGClassifier is an array of complex128"),
        (lambda clf: SmoothGrad(clf, random_state=np.random.default_rng()), "random_state of SmoothGrad is a Gen"),
        (lambda clf: RelevanceAggregator(random_state=np.random.RandomState()), "random_state is a RandomState"),
        (lambda clf: GradCAM1D(ECGClassifier(), layer=nn.ReLU()), "layer of GradCAM1D is a ReLU"),
        (lambda clf: IntegratedGradients(clf, baseline=np.mean), "baseline of IntegratedGradients is"),
    ],
)
def test_what_cannot_be_saved_is_told_by_name(tmp_path, clf, make, match):
    with pytest.raises(TypeError, match=match):
        save(make(clf), tmp_path / "a.skecg")
    assert list(tmp_path.iterdir()) == []


def test_a_fitted_search_is_told_what_to_save(tmp_path, toy):
    search = GridSearchCV(ECGClassifier("ECGLSTM", module__width=1, **QUICK), {"lr": [0.1]}, cv=2).fit(*toy[:2])
    with pytest.raises(TypeError, match="save its best_estimator_"):
        save(search, tmp_path / "a")
    again(search.best_estimator_, tmp_path)


def test_unknown_attributes_and_odd_values(tmp_path, clf, toy):
    scaler = ECGScaler().fit(toy[0])
    scaler.note = "mine"
    with pytest.raises(TypeError, match=r"ECGScaler has attributes \['note'\]"):
        save(scaler, tmp_path / "a")
    ring = [1]
    ring.append(ring)
    with pytest.raises(ValueError, match="labels of ECGClassifier is nested too deeply"):
        save(ECGClassifier(labels=ring), tmp_path / "a")
    pipeline = Pipeline([("a", ECGScaler())])
    pipeline.steps.append(("b", pipeline))
    with pytest.raises(ValueError, match="a Pipeline contains itself"):
        save(pipeline, tmp_path / "a")
    other = clone(clf).fit(*toy[:2]).set_params(module="ECGNet")
    with pytest.raises(TypeError, match="the module was changed after the fit"):
        save(other, tmp_path / "a")
    with pytest.raises(ValueError, match="module 'MyNet' is not a network"):
        save(ECGClassifier("MyNet"), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_no_numbers(tmp_path, toy):
    clf = ECGClassifier("ECGLSTM", module__width=2, **QUICK).fit(*toy[:2])
    with torch.no_grad():
        clf.module_.dense.bias[0] = torch.inf
    with pytest.raises(ValueError, match=r"dense\.bias .* has NaN or infinite weights, so nothing was saved"):
        save(clf, tmp_path / "a")
    with torch.no_grad():
        clf.module_.dense.bias[0] = 0
    clf.module_.dense.bfloat16()
    with pytest.raises(TypeError, match=r"a tensor of torch\.bfloat16"):
        save(clf, tmp_path / "a")


# --- writing ----------------------------------------------------------------------------------------------------------


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="is a folder: name a file"):
        save(ECGScaler(), tmp_path)
    with pytest.raises(FileNotFoundError):
        save(ECGScaler(), tmp_path / "no" / "a.skecg")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask and no modes of files")
def test_the_mode_is_that_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        path = save(ECGScaler(), tmp_path / "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = save(ECGScaler(), tmp_path / "a")
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(Gain(2.0), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_training_goes_on_with_a_schedule_of_the_learning_rate(tmp_path):
    schedule = LRScheduler(policy="StepLR", step_size=2, gamma=0.5, monitor="train_loss")
    X, y = toy_ecg(24, n_timesteps=64, n_classes=2)[:2]
    clf = ECGClassifier(TinyNet, **FAST, callbacks=[schedule]).fit(X, y)
    loaded = load(save(clf, tmp_path / "a"), module=TinyNet)
    assert loaded.partial_fit(X, y).n_epochs_ == clf.n_epochs_ + 1


KILLED = """
import os, signal, sys, skecg
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
skecg.save(skecg.ECGScaler(per="window"), sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_kill_9_leaves_the_old_file(tmp_path):
    path = save(Gain(2.0), tmp_path / "a")
    before = path.read_bytes()
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(skecg.__file__))}
    run = subprocess.run([sys.executable, "-c", KILLED, path], env=environment, check=False, capture_output=True)
    assert run.returncode == -9 and path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.part"]
    assert load(path).scale == 2.0
    save(ECGScaler(), path)
    assert isinstance(load(path), ECGScaler) and list(tmp_path.iterdir()) == [path]
