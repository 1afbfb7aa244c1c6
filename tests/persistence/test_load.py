"""skecg.load: other versions, other devices, and nothing that could execute a file."""

from __future__ import annotations

import builtins
import importlib
import os
import pickle
import sys
import warnings

import joblib
import numpy as np
import pytest
import torch
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import make_pipeline

import skecg
from skecg.classifiers import ECGClassifier
from skecg.persistence import load, save
from skecg.preprocessing import ECGScaler
from skecg.relevance import RelevanceAggregator
from tests.tiny import toy_ecg

from .files import edited

X, Y, _, _ = toy_ecg(n=24, n_leads=1, n_timesteps=64)


@pytest.fixture(scope="module")
def clf():
    return ECGClassifier("ECGLSTM", module__width=2, max_epochs=1, random_state=0, device="cpu").fit(X, Y)


def test_names_at_the_top():
    assert skecg.save is save and skecg.load is load


def test_nothing_of_a_file_is_unpickled_or_imported(tmp_path, monkeypatch, clf):
    R = np.ones((24, 1, 64), dtype=np.float32)
    paths = [save(clf, tmp_path / "a"), save(make_pipeline(ECGScaler(), clf).fit(X, Y), tmp_path / "b")]
    paths += [save(RelevanceAggregator(random_state=0).fit(R), tmp_path / "c")]
    load(paths[0])  # what the libraries import on first use is there then

    def called(*given, **more):
        raise AssertionError("a file was opened by something that executes")

    for owner, name in (
        (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load"), (np, "load"), (joblib, "load"),
        (os, "system"), (os, "popen"), (importlib, "import_module"), (builtins, "eval"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, called)
    before = set(sys.modules)
    for path in paths:
        load(path)
    assert set(sys.modules) == before


def test_other_versions_are_told(tmp_path, clf):
    def older(config, members):
        config["versions"].update({"torch": "1.9.0+cu111", "scikit-learn": "1.0.2"})

    path = edited(save(clf, tmp_path / "a"), tmp_path / "b.skecg", older)
    match = r"b\.skecg was saved with torch 1\.9\.0.*scikit-learn 1\.0\.2 \(here"
    with pytest.warns(InconsistentVersionWarning, match=match) as told:
        again = load(path)
    assert told[0].filename == __file__ and told[0].message.original_sklearn_version == "1.0.2"
    assert np.array_equal(again.predict_proba(X), clf.predict_proba(X))


def test_equal_versions_of_another_build_are_not_told(tmp_path, clf):
    def built(config, members):
        version = config["versions"]["torch"].partition("+")[0]
        config["versions"].update({"torch": f"{version}+cu999", "python": "3.99.1", "numpy": "9.9"})

    path = edited(save(clf, tmp_path / "a"), tmp_path / "b", built)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:3", "mps", "xpu", "hpu"])
def test_without_the_device_that_it_was_trained_on(tmp_path, clf, device):
    def elsewhere(config, members):
        config["objects"][-1]["parameters"]["device"] = device

    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    path = edited(save(clf, tmp_path / "a"), tmp_path / "b", elsewhere)
    with pytest.warns(UserWarning, match=f"no device '{device}': the network is on the CPU") as told:
        again = load(path)
    assert told[0].filename == __file__ and again.device == again.device_ == "cpu"
    assert again._changed_params() == []
    assert np.array_equal(again.predict_proba(X), clf.predict_proba(X))
    again.partial_fit(X, Y)


def test_generators_and_settings_are_left_alone(tmp_path, clf):
    """The fixture of conftest.py compares torch's and numpy's generators, grad mode and default dtype."""
    path = save(clf, tmp_path / "a")
    torch.set_default_dtype(torch.float64)
    try:
        again = load(path)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad(), torch.autocast("cpu"):
        save(again, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == path.read_bytes()


def test_relative_paths_and_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    save(ECGScaler(), "a.skecg")
    assert isinstance(load("~/a.skecg"), ECGScaler)
