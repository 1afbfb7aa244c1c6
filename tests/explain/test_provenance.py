"""Provenance: every result tells how it was made, as plain values that go to JSON and back."""

import hashlib
import json
import math

import numpy as np
import pytest
import torch
import wfdb
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D, IntegratedGradients, MaskDeletion, Provenance, SmoothGrad, _record, explain_record
from skecg.explain._provenance import state_digest
from skecg.preprocessing import ECGScaler
from skecg.utils._digest import array_digest, library_versions, weights_digest
from tests.explain.test_contract import EXPLAINERS, make
from tests.tiny import FAST, TinyNet, toy_ecg

KEYS = {
    "format", "created", "function", "explainer", "steps", "network", "input", "target", "output", "seed", "device",
    "threads", "diagnostics", "versions",
}  # fmt: skip


@pytest.fixture(scope="module")
def toy():
    return toy_ecg(n=40, n_leads=2)


@pytest.fixture(scope="module")
def clf(toy):
    return ECGClassifier(TinyNet, **{**FAST, "module__lstm": 0, "fs": 60.0}).fit(*toy[:2])


@pytest.mark.parametrize("name", EXPLAINERS)
def test_every_explainer_tells(name, toy, clf):
    explainer = make(name, clf)
    result = explainer.explain(toy[0][:3])
    told = result.provenance
    assert isinstance(told, Provenance) and set(told) == KEYS
    assert told["function"] == f"{type(explainer).__name__}.explain"
    assert set(told["explainer"]["parameters"]) == set(explainer.get_params(deep=False)) - {"estimator"}
    assert sum(told["target"]["counts"].values()) == 3
    assert json.loads(told.to_json()) == told  # plain values alone


def test_the_digests_are_those_of_the_weights_and_of_the_input(toy, clf):
    X = toy[0][:4]
    told = IntegratedGradients(clf, n_steps=3).explain(X).provenance
    data = np.asarray(X, dtype="<f4")
    by_hand = hashlib.sha256(repr((data.shape, "<f4")).encode() + data.tobytes()).hexdigest()
    assert told["input"] == {"shape": list(X.shape), "sha256": by_hand, "fs": 60.0}
    weights = hashlib.sha256()
    for name, tensor in clf.module_.state_dict().items():
        weights.update(name.encode() + tensor.numpy().tobytes())
    assert told["network"]["weights_sha256"] == weights.hexdigest()
    assert told["network"]["n_parameters"] == sum(p.numel() for p in clf.module_.parameters())
    assert told["network"]["classes"] == clf.classes_.tolist()


def test_what_differs_is_named(toy, clf):
    X = toy[0]
    first = GradCAM1D(clf).explain(X).provenance
    assert first.differences(GradCAM1D(clf).explain(X).provenance) == []
    other = GradCAM1D(clf, method="hirescam", target=clf.classes_[0]).explain(X[:9]).provenance
    names = first.differences(other)
    assert {"explainer.parameters.method", "explainer.parameters.target", "input.sha256", "input.shape"} <= set(names)
    assert "target.rule" in names and "created" not in names
    assert not [name for name in names if name.startswith(("network", "versions", "steps"))]
    trained_on = ECGClassifier(TinyNet, **{**FAST, "module__lstm": 0, "fs": 60.0}).fit(*toy[:2]).partial_fit(*toy[:2])
    names = first.differences(GradCAM1D(trained_on).explain(X).provenance)
    assert "network.weights_sha256" in names and "input.sha256" not in names


def test_steps_tell_what_they_learned(toy, clf):
    X, y = toy[:2]
    pipeline = make_pipeline(ECGScaler(), FrozenEstimator(clf)).fit(X, y)
    told = GradCAM1D(pipeline).explain(X).provenance
    (step,) = told["steps"]
    assert step["class"] == "ECGScaler" and step["parameters"] and len(step["learned"]) == 32
    scaled = np.asarray(pipeline[0].transform(X), dtype=np.float32)
    assert told["input"]["sha256"] == array_digest(scaled)  # what the network saw


def test_functions_written_in_place_are_told_apart(toy, clf):
    digests, told = [], []
    for gain in (1.0, 2.0, 2.0):
        steps = make_pipeline(FunctionTransformer(lambda X, gain=gain: X * gain), FrozenEstimator(clf)).fit(*toy[:2])
        told.append(GradCAM1D(steps).explain(toy[0][:3]).provenance)
        digests.append(told[-1]["steps"][0]["learned"])
    assert digests[0] != digests[1] == digests[2]
    assert " at 0x" not in told[0].to_json() and "steps" in {n.partition(".")[0] for n in told[0].differences(told[1])}
    step = FunctionTransformer(lambda X: X)
    step.itself, step.learned_ = step, np.arange(5000.0)  # no circle is followed for ever, and arrays count whole
    before = state_digest(step)
    step.learned_[2500] = 0
    assert state_digest(step) != before


def test_target_seed_output_and_diagnostics(toy, clf):
    X = toy[0][:6]
    labels = clf.classes_[[0, 1, 0, 0, 1, 0]]
    told = IntegratedGradients(clf, n_steps=3, output="probability").explain(X, target=labels).provenance
    assert told["target"] == {"rule": "one label a window", "counts": {str(labels[0]): 4, str(labels[1]): 2}}
    assert told["output"] == "probability"
    result = IntegratedGradients(clf, n_steps=3).explain(X)
    error = result.completeness_error
    assert result.provenance["diagnostics"]["completeness_error"] == {
        "min": float(error.min()), "median": float(np.median(error)), "max": float(error.max()), "n_finite": 6, "n": 6,
    }  # fmt: skip
    assert SmoothGrad(clf, n_samples=2, random_state=5).explain(X).provenance["seed"] == 5
    assert MaskDeletion(clf, n_iter=2, n_knots=4, replacement=0.0).explain(X).provenance["output"] == "probability"


def test_doubts_are_counted(toy, clf):
    X = toy[0][:5].copy()
    X[1] = 0.25
    with pytest.warns(UserWarning, match="every lead is constant"):
        told = GradCAM1D(clf).explain(X).provenance
    assert told["diagnostics"]["doubts"]["every lead is constant"] == 1


def test_parameters_of_every_kind_become_plain(toy, clf):
    layer = clf.module_.features[0]
    told = GradCAM1D(clf, method="gradcam", layer=layer).explain(toy[0][:2]).provenance
    assert told["explainer"]["parameters"]["layer"] == "features.0"  # by name: the module belongs to this process
    baseline = np.zeros(toy[0].shape[1:])
    told = IntegratedGradients(clf, n_steps=2, baseline=baseline).explain(toy[0][:2]).provenance
    assert told["explainer"]["parameters"]["baseline"]["array"] == list(baseline.shape)
    assert told["explainer"]["parameters"]["baseline"]["sha256"] == array_digest(baseline)
    assert told["network"]["training"]["parameters"]["module"].endswith("tiny.TinyNet")
    assert " at 0x" not in told.to_json()


def test_a_record_keeps_it_beside_its_arrays(toy, clf, tmp_path):
    signal = np.concatenate(list(toy[0][:8]), axis=1)
    for out in (None, tmp_path / "arrays", tmp_path / "arrays.zarr"):
        result = explain_record(GradCAM1D(clf), signal, fs=60.0, out=out)
        told = result.provenance
        assert set(told) == KEYS | {"stride", "blend", "digest"} and told["function"] == "explain_record"
        assert sum(told["target"]["counts"].values()) == len(result.start)
        assert told["input"]["fs"] == 60.0 and told["stride"] == result.stride
        if out is not None:
            assert Provenance.from_json(out / "provenance.json") == told
            again = explain_record(GradCAM1D(clf), signal, fs=60.0, out=out)  # opened, not made again
            assert again.provenance == told


@pytest.mark.parametrize("stop_after", [None, 1])
def test_a_record_tells_completeness_of_all_blocks(toy, clf, tmp_path, monkeypatch, stop_after):
    signal = np.concatenate(list(toy[0][:20]), axis=1)
    explainer = IntegratedGradients(clf, n_steps=2, batch_size=2)  # blocks of eight windows
    if stop_after:
        real, calls = _record._explain_block, []

        def broken(*args):
            calls.append(0)
            if len(calls) > stop_after:
                raise KeyboardInterrupt
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(_record, "_explain_block", broken)
            with pytest.raises(KeyboardInterrupt):
                explain_record(explainer, signal, fs=60.0, out=tmp_path / "out")
    result = explain_record(explainer, signal, fs=60.0, out=tmp_path / "out")
    n = toy[0].shape[-1]
    windows = np.stack([signal[:, a : a + n] for a in result.start])
    error = IntegratedGradients(clf, n_steps=2, batch_size=2).explain(windows).completeness_error
    told = result.provenance["diagnostics"]["completeness_error"]
    assert told["n"] == told["n_finite"] == len(windows)
    np.testing.assert_allclose([told["min"], told["max"]], [error.min(), error.max()], rtol=1e-4, atol=1e-6)


def test_a_copy_of_a_record_is_the_same_input(tmp_path, clf, toy):
    record = np.round(np.concatenate(list(toy[0][:3]), axis=1), 3)
    told = []
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        signal = record.T.astype(float) + (folder == "c")
        wfdb.wrsamp(
            "r", fs=60.0, units=["mV"] * 2, sig_name=["I", "II"], p_signal=signal, fmt=["16"] * 2,
            adc_gain=[1000.0] * 2, baseline=[0] * 2, write_dir=str(tmp_path / folder),
        )  # fmt: skip
        told.append(explain_record(GradCAM1D(clf), tmp_path / folder / "r").provenance)
    assert told[0].differences(told[1]) == ["digest"]  # what an interrupted run goes by: sizes and times of the files
    assert "input.sha256" in told[0].differences(told[2]) and str(tmp_path) not in told[0].to_json()


def test_files_are_whole_and_strict(toy, clf, tmp_path):
    told = GradCAM1D(clf).explain(toy[0][:2]).provenance
    told["diagnostics"]["odd"] = "inf"
    path = tmp_path / "made.json"
    assert told.to_json(path) == path.read_text()
    assert Provenance.from_json(path) == Provenance.from_json(path.read_text()) == told
    assert [p.name for p in tmp_path.iterdir()] == ["made.json"]
    broken = Provenance(told, odd=math.inf)
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.to_json(path)
    assert Provenance.from_json(path) == told  # what was there stays


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ('{"format": 99}', "format 1.*99"), ("{}", "got None"), ('{"format": "1"}', "got '1'")],
)
def test_what_is_no_provenance_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Provenance.from_json(text)


def test_digests_do_not_depend_on_layout_or_byte_order(rng, tmp_path):
    array = rng.normal(size=(50, 3, 40))
    digest = array_digest(array)
    np.save(tmp_path / "a.npy", array)
    assert array_digest(np.asfortranarray(array)) == array_digest(array.astype(">f8")) == digest
    assert array_digest(np.load(tmp_path / "a.npy", mmap_mode="r")) == digest
    assert array_digest(array[::-1][::-1]) == digest
    others = array.reshape(50, 120), array.astype(np.float32), array[::-1], np.nextafter(array, 9)
    assert len({digest, *map(array_digest, others)}) == 5


def test_weights_of_any_type_have_a_digest(seeded):
    net = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3), torch.nn.BatchNorm1d(2))
    kept = weights_digest(net)
    assert weights_digest(net.to(torch.bfloat16)) != kept
    assert weights_digest(net.state_dict()) == weights_digest(net)
    with torch.no_grad():
        net[0].bias += 1
    assert weights_digest(net) != kept


def test_versions_name_what_runs_here():
    versions = library_versions()
    assert versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert versions["numpy"] == np.__version__ and {"skecg", "python", "platform", "scikit-learn"} <= set(versions)


def test_no_folder_of_the_machine_is_told(toy, tmp_path):
    clf = ECGClassifier(TinyNet, **FAST, fs=60.0, checkpoint_dir=tmp_path / "checkpoints").fit(*toy[:2])
    assert str(tmp_path) not in GradCAM1D(clf).explain(toy[0][:2]).provenance.to_json()


def test_training_is_told_as_it_was(toy):
    clf = ECGClassifier(TinyNet, **FAST, fs=60.0).fit(*toy[:2]).set_params(batch_size=7, lr=9.0)
    told = GradCAM1D(clf).explain(toy[0][:2]).provenance["network"]["training"]["parameters"]
    assert (told["batch_size"], told["lr"]) == (clf._fitted_params["batch_size"], clf._fitted_params["lr"]) != (7, 9.0)
