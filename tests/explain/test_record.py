"""explain_record against explain itself, blending worked out apart, interruption, and every source."""

import json
import warnings

import numpy as np
import pytest
import torch
import wfdb
from sklearn.pipeline import make_pipeline

from skecg.classifiers import ECGClassifier
from skecg.datasets import read_record
from skecg.explain import GradCAM1D, MaskDeletion, explain_record
from skecg.preprocessing import ECGScaler
from tests.explain import kill_record
from tests.tiny import TinyNet

N, FS = 100, 50.0


def classifier(n_leads=1, n_outputs=3, seed=0, **kwargs):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = TinyNet(n_leads, N, n_outputs).eval()
    return ECGClassifier.from_module(net, list("ABCD")[:n_outputs], n_leads=n_leads, n_timesteps=N, fs=FS, **kwargs)


@pytest.fixture
def clf():
    return classifier()


@pytest.fixture
def signal():
    rng = np.random.default_rng(0)
    x = 0.1 * rng.standard_normal((1, 1730)).astype(np.float32)
    x[0, ::60] += 1
    return x


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*zero everywhere")
        yield


def test_without_overlap_it_is_explain(clf, signal):
    signal = signal[:, :1700]
    explainer = GradCAM1D(clf, method="gradcam", relu=False)
    got = explain_record(explainer, signal, fs=FS, stride=N / FS)
    want = explainer.explain(signal.reshape(17, 1, N))
    assert np.array_equal(got.relevance[0], want.relevance.reshape(-1))
    assert got.label.tolist() == want.target.tolist() == got.target.tolist()
    np.testing.assert_allclose(got.probability, clf.predict_proba(signal.reshape(17, 1, N)), rtol=1e-5)
    assert np.array_equal(got.score, want.score) and got.start.tolist() == list(range(0, 1700, N))
    assert got.relevance.dtype == np.float32 and got.n_missing == 0 and got.path is None


@pytest.mark.parametrize("blend", ["hann", "mean"])
@pytest.mark.parametrize("stride", [0.3, 0.66, 1.98])
def test_overlapping_windows_are_blended(clf, signal, blend, stride):
    explainer = GradCAM1D(clf, method="gradcam", relu=False, batch_size=4)  # blocks of 16 windows
    got = explain_record(explainer, signal, fs=FS, stride=stride, blend=blend)
    start = list(range(0, 1730 - N + 1, round(stride * FS)))
    if start[-1] + N < 1730:
        start.append(1730 - N)
    assert got.start.tolist() == start
    R = explainer.transform(np.stack([signal[:, s : s + N] for s in start]))
    total, weights = np.zeros(1730), np.zeros(1730)
    for s, r in zip(start, R, strict=True):
        for t in range(N):
            w = 1.0 if blend == "mean" else 0.5 * (1 - np.cos(2 * np.pi * (t + 0.5) / N))
            total[s + t] += w * r[0, t]
            weights[s + t] += w
    np.testing.assert_allclose(got.relevance[0], total / weights, rtol=1e-4, atol=1e-7)


def test_missing_samples_cost_their_windows_alone(clf, signal):
    signal[0, 500:503] = np.nan
    with pytest.warns(UserWarning, match="samples are missing in 2 of 34 windows"):
        got = explain_record(GradCAM1D(clf, method="gradcam", relu=False), signal, fs=FS)
    lost = [i for i, s in enumerate(got.start) if s <= 502 and s + N > 500]
    assert (got.label == "").nonzero()[0].tolist() == lost == np.isnan(got.probability).any(1).nonzero()[0].tolist()
    covered = np.zeros(1730, bool)
    for i, s in enumerate(got.start):
        if i not in lost:
            covered[s : s + N] = True
    assert np.array_equal(np.isnan(got.relevance[0]), ~covered) and got.n_missing == len(lost)


def test_nothing_but_missing_samples(clf):
    with pytest.warns(UserWarning, match="missing in 5 of 5"):
        got = explain_record(GradCAM1D(clf), np.full((1, 300), np.nan), fs=FS)
    assert np.isnan(got.relevance).all()


def test_targets_thresholds_and_labels(signal):
    clf = classifier(n_outputs=2, threshold=0.999)
    X = np.stack([signal[:, s : s + N] for s in range(0, 1700, N)])
    got = explain_record(GradCAM1D(clf), signal[:, :1700], fs=FS, stride=N / FS, target="B")
    assert set(got.target) == {"B"} and got.label.tolist() == clf.predict(X).tolist()


@pytest.mark.parametrize("make", [GradCAM1D, lambda c: MaskDeletion(c, n_iter=3)])
def test_every_explainer_and_pipelines(clf, signal, make):
    pipe = make_pipeline(ECGScaler().fit(signal[:, None, :N]), clf)
    got = explain_record(make(pipe), signal[:, :600], fs=FS)
    assert got.relevance.shape == (1, 600) and np.isfinite(got.relevance).all()
    assert got.relevance_kind == make(pipe).relevance_kind


def write(folder, signal, name="rec", fs=FS):
    wfdb.wrsamp(
        name, fs=fs, units=["mV"] * len(signal), sig_name=["MLII", "V1", "V5"][: len(signal)],
        p_signal=signal.T.astype(np.float64), fmt=["16"] * len(signal), write_dir=str(folder),
        adc_gain=[1000.0] * len(signal), baseline=[0] * len(signal),
    )  # fmt: skip
    return folder / name


def test_every_source_gives_the_same(clf, signal, tmp_path):
    path = write(tmp_path, np.concatenate([signal, -signal]))
    record = read_record(path)
    explainer = GradCAM1D(clf, method="gradcam", relu=False, batch_size=2)
    want = explain_record(explainer, record.data[0], fs=FS)
    np.save(tmp_path / "x.npy", record.data)
    for source, more in (
        (path, {}),
        (str(path), {"leads": "MLII"}),
        (record, {}),
        (np.load(tmp_path / "x.npy", mmap_mode="r"), {"fs": FS}),
    ):
        got = explain_record(explainer, source, **more)
        assert np.array_equal(got.relevance, want.relevance)
    other = explain_record(explainer, path, leads=1)
    assert other.lead_names == ["V1"] and not np.array_equal(other.relevance, want.relevance)
    assert got.record == "" and other.record == "rec"


@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_files_hold_what_memory_holds(clf, signal, tmp_path, suffix):
    if suffix:
        pytest.importorskip("zarr", reason="zarr is an extra that is not installed")
    explainer, out = GradCAM1D(clf, method="gradcam", relu=False, batch_size=2), tmp_path / f"out{suffix}"
    want = explain_record(explainer, signal, fs=FS)
    got = explain_record(explainer, signal, fs=FS, out=out)
    for name in ("relevance", "score", "probability", "label", "target", "start"):
        assert np.array_equal(np.asarray(got[name]), np.asarray(want[name])), name
    assert got.path == out and not (tmp_path / f"out{suffix}.part").exists()
    assert json.loads((out / "result.json").read_text())["classes"] == ["A", "B", "C"]
    again = explain_record(explainer, signal, fs=FS, out=out)  # opened, not computed
    assert np.array_equal(np.asarray(again.relevance), want.relevance)
    with pytest.raises(ValueError, match="another record, explainer or other settings"):
        explain_record(explainer, signal, fs=FS, out=out, blend="mean")


@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_an_interrupted_run_goes_on(clf, signal, tmp_path, suffix, monkeypatch):
    if suffix:
        pytest.importorskip("zarr", reason="zarr is an extra that is not installed")
    explainer, out = GradCAM1D(clf, method="gradcam", relu=False, batch_size=2), tmp_path / f"out{suffix}"
    whole = explain_record(explainer, signal, fs=FS, out=tmp_path / f"whole{suffix}")
    explained, real = [], GradCAM1D._explain

    def limited(self, X, target, stop=2):
        if len(explained) == stop:
            raise KeyboardInterrupt
        explained.append(len(X))
        return real(self, X, target)

    with monkeypatch.context() as m:
        m.setattr(GradCAM1D, "_explain", limited)
        with pytest.raises(KeyboardInterrupt):
            explain_record(explainer, signal, fs=FS, out=out)
    assert not out.exists() and explained == [8, 8]
    with pytest.raises(ValueError, match="interrupted run with another"):
        explain_record(explainer, signal, fs=FS, out=out, stride=1.2)
    with monkeypatch.context() as m:
        m.setattr(GradCAM1D, "_explain", lambda s, X, t: limited(s, X, t, stop=99))
        got = explain_record(explainer, signal, fs=FS, out=out)
    assert explained == [8, 8, 8, 8, 2]  # nothing twice, nothing left out
    assert np.array_equal(np.asarray(got.relevance), np.asarray(whole.relevance))
    assert np.array_equal(np.asarray(got.score), np.asarray(whole.score))


def test_a_kill_leaves_no_trace(tmp_path, seed):
    done, different = kill_record.kill_record(tmp_path, kills=1, minutes=20, width=2, seed=seed)
    assert done == 1 and different == []


def test_a_kill_of_a_fit_leaves_no_trace(tmp_path, seed):
    done, different = kill_record.kill_fit(tmp_path, kills=1, epochs=12, seed=seed)
    assert done == 1 and different == []


def test_annotations_for_other_viewers(clf, signal, tmp_path):
    got = explain_record(GradCAM1D(clf), signal, fs=FS, annotations=tmp_path / "sub" / "rec.skecg")
    read = wfdb.rdann(str(tmp_path / "sub" / "rec"), "skecg")
    change = [0, *(np.flatnonzero(got.label[1:] != got.label[:-1]) + 1)]
    assert [note.strip("\x00") for note in read.aux_note] == got.label[change].tolist()
    assert read.sample.tolist() == [1, *(got.start[change[1:]] + N // 2)] and read.fs == FS
    for name, said in (("rec.x1", "letters"), ("rec.dat", "replace"), ("a b.skecg", "letters"), ("rec.atr", "replace")):
        with pytest.raises(ValueError, match=said):
            explain_record(GradCAM1D(clf), signal, fs=FS, annotations=tmp_path / name)


def test_the_explainer_is_left_as_found(clf, signal):
    explainer = GradCAM1D(clf, verbose=1)
    before = explainer.get_params(deep=False)
    explain_record(explainer, signal, fs=FS)
    assert explainer.get_params(deep=False) == before and not hasattr(explainer, "n_features_in_")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"fs": 360.0}, "360 Hz, the network was trained at 50"),
        ({"fs": None}, "sampling rate"),
        ({"stride": 0.0}, "stride"),
        ({"stride": 2.1}, "at most a window"),
        ({"blend": "max"}, "blend"),
        ({"leads": [0, 0]}, "1 leads, and 2 were chosen"),
        ({"leads": "V9"}, "not among"),
        ({"target": "Z"}, "not among the classes"),
    ],
)
def test_bad_input(clf, signal, tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        explain_record(GradCAM1D(clf), signal, **{"fs": FS, "out": tmp_path / "out", **change})
    assert not (tmp_path / "out").exists()


def test_more_bad_input(clf, signal, tmp_path):
    with pytest.raises(TypeError, match="explainer"):
        explain_record(clf, signal, fs=FS)
    with pytest.raises(ValueError, match="record must be"):
        explain_record(GradCAM1D(clf), [1.0, 2.0], fs=FS)
    with pytest.raises(OSError, match="none"):
        explain_record(GradCAM1D(clf), tmp_path / "none")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no result of explain_record"):
        explain_record(GradCAM1D(clf), signal, fs=FS, out=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_other_work_is_never_taken_for_this_one(signal, tmp_path):
    clf, out = classifier(n_outputs=2), tmp_path / "out"
    explain_record(GradCAM1D(clf), signal, fs=FS, out=out)
    changed = signal.copy()
    changed[0, 900] += 1
    steps = [make_pipeline(ECGScaler(per="dataset").fit(s * signal[:, None, :N]), clf) for s in (1, 2)]
    others = [
        (GradCAM1D(clf), changed),
        (GradCAM1D(classifier(n_outputs=2, threshold=0.9)), signal),
        (GradCAM1D(ECGClassifier.from_module(clf.module_, ["X", "Y"], n_leads=1, n_timesteps=N, fs=FS)), signal),
        (GradCAM1D(clf, layer=clf.module_.features[0]), signal),
        *((GradCAM1D(pipe), signal) for pipe in steps),
    ]
    for explainer, record in others:
        with pytest.raises(ValueError, match="another record, explainer or other settings"):
            explain_record(explainer, record, fs=FS, out=out)
    explain_record(GradCAM1D(steps[0]), signal, fs=FS, out=tmp_path / "piped")
    with pytest.raises(ValueError, match="another record"):
        explain_record(GradCAM1D(steps[1]), signal, fs=FS, out=tmp_path / "piped")


def test_files_of_others_are_left_alone(clf, signal, tmp_path):
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"thesis\.txt"):
        explain_record(GradCAM1D(clf), signal, fs=FS, out=tmp_path / "out")
    assert (tmp_path / "out.part" / "thesis.txt").exists()
    (tmp_path / "file.part").write_text("mine")
    with pytest.raises(ValueError, match=r"file\.part"):
        explain_record(GradCAM1D(clf), signal, fs=FS, out=tmp_path / "file")


def test_a_window_that_is_not_finite_costs_no_other(clf, signal, monkeypatch):
    want = explain_record(GradCAM1D(clf, method="gradcam", relu=False), signal, fs=FS)
    real = GradCAM1D._explain

    def spoiled(self, X, target):
        result, doubts = real(self, X, target)
        result.relevance[3] = np.nan
        return result, doubts

    monkeypatch.setattr(GradCAM1D, "_explain", spoiled)
    got = explain_record(GradCAM1D(clf, method="gradcam", relu=False), signal, fs=FS)
    assert np.isfinite(got.relevance).all() and not np.array_equal(got.relevance, want.relevance)


def test_infinite_samples_are_missing(clf, signal):
    signal[0, 700] = np.inf
    with pytest.warns(UserWarning, match="samples are missing in 2 of 34"):
        explain_record(GradCAM1D(clf), signal, fs=FS)


def test_a_kill_after_the_last_block_loses_nothing(clf, signal, tmp_path, monkeypatch):
    import os

    from skecg.explain import _store

    with monkeypatch.context() as m:
        m.setattr(_store.os, "replace", lambda a, b: (_ for _ in ()).throw(KeyboardInterrupt) if str(b).endswith("out")
                  else os.rename(a, b))  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            explain_record(GradCAM1D(clf), signal, fs=FS, out=tmp_path / "out")
    explained = []
    monkeypatch.setattr(GradCAM1D, "_explain", lambda *a: explained.append(1))
    explain_record(GradCAM1D(clf), signal, fs=FS, out=tmp_path / "out")
    assert not explained
