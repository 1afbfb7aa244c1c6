"""What a report takes out of results: the class of each window, and names."""

from __future__ import annotations

import numpy as np
import pytest

from skecg import ECGClassifier, GradCAM1D, write_report
from tests.report.made_up import FS, of_record, windows
from tests.report.pages import read
from tests.tiny import FAST, TinyNet, toy_ecg

pytest.importorskip("bokeh", reason="the report is drawn with bokeh (extra `report`)")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "report.html"


def test_labels_that_miss_their_threshold_are_none(path):
    result = windows(n=4)
    result["above_threshold"] = np.array([True, False, True, True])
    found = read(write_report(result, path, fs=FS)).facts()
    assert [found["labels"][i] for i in found["tracks"][0]["windows"]["label"]] == ["N", "none", "N", "N"]
    record, ecg = of_record(labels=("AF", "SB"))
    record["probability"] = np.tile([[0.9, 0.1], [0.2, 0.3]], (len(record["start"]), 1))[: len(record["start"])]
    record["provenance"] = {"network": {"multilabel": True, "threshold": [0.5, 0.5]}}
    found = read(write_report(record, path, record=ecg)).facts()
    assert [found["labels"][i] for i in found["tracks"][0]["windows"]["label"]][:4] == ["AF", "none", "AF", "none"]


@pytest.mark.parametrize("kind", ["two", "three", "labels"])
def test_classes_of_windows_are_predicted_ones_whatever_is_explained(path, kind):
    X, y, _, _ = toy_ecg(40, n_timesteps=64, n_classes=3 if kind == "three" else 2)
    classes = np.unique(y)
    target = np.stack([y == label for label in classes], axis=1) if kind == "labels" else y
    clf = ECGClassifier(TinyNet, fs=FS, **{**FAST, "max_epochs": 2}).fit(X, target)
    logits = GradCAM1D(clf).explain(X).logits
    if kind == "two":
        clf.set_params(threshold=float(np.median(clf.predict_proba(X)[:, 1])))
    if kind == "labels":
        clf.set_params(threshold=np.quantile(clf.predict_proba(X), [0.2, 0.7], axis=0).diagonal().tolist())
    predicted = clf.predict(X)
    asked = str(next(c for c in classes if (predicted != c).any()) if predicted.ndim == 1 else clf.classes_[1])
    result = GradCAM1D(clf, target=next(c for c in clf.classes_ if str(c) == asked)).explain(X)
    found = read(write_report(result, path)).facts()
    told = found["tracks"][0]["windows"]
    if kind == "labels":
        cut = np.log(clf.threshold) - np.log1p(-np.asarray(clf.threshold))
        best = np.where(logits > cut, logits, -np.inf).argmax(1)
        assert len({tuple(row) for row in predicted}) > 2
        predicted = np.where(predicted.any(1), clf.classes_.astype(str)[best], "none")
    assert [found["labels"][i] for i in told["label"]] == [str(label) for label in predicted]
    assert {found["labels"][i] for i in told["target"]} == {asked}
    assert any(str(label) != asked for label in predicted)
    assert "class of a window is the explained one" not in path.read_text()
    unknown = {name: value for name, value in result.items() if name not in ("provenance", "above_threshold")}
    assert "class of a window is the explained one" in write_report(unknown, path, fs=FS).read_text()


def test_a_weaker_label_that_reaches_its_threshold_counts(path):
    record, ecg = of_record(labels=("AF", "SB"))
    record["probability"] = np.tile([[0.3, 0.6], [0.1, 0.8], [0.1, 0.2]], (7, 1))[: len(record["start"])]
    record["label"] = record["target"] = np.array(["SB", "SB", "SB"] * 7)[: len(record["start"])]
    record["provenance"] = {"network": {"multilabel": True, "threshold": [0.2, 0.7]}}
    found = read(write_report(record, path, record=ecg)).facts()
    assert [found["labels"][i] for i in found["tracks"][0]["windows"]["label"]][:4] == ["AF", "SB", "none", "AF"]


def test_names_need_not_be_text_and_may_be_ours(path):
    result, ecg = of_record(name="r\udcff")
    assert r"<title>Record r\udcff</title>" in write_report({"relevance": result}, path, record=ecg).read_text()
    assert read(path).facts()["tracks"][0]["name"] == "relevance"
