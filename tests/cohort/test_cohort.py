"""explain_cohort against explain and fit in one call; the same bits from every kind of worker, killed or not."""

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline

from skecg import ECGClassifier, RelevanceAggregator
from skecg.cohort import _run, explain_cohort
from skecg.cohort._ship import one_thread
from skecg.explain import GradCAM1D, IntegratedGradients, MaskDeletion, Saliency, SmoothGrad
from skecg.preprocessing import ECGScaler, Resampler
from skecg.utils._digest import array_digest
from tests.cohort import cases
from tests.cohort.cases import FS, MARK, N, aggregator, classifier, explainer, labels, same, windows
from tests.tiny import same_snapshot, snapshot


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Let temporary files go where they can be counted."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def plain():
    """Return what one process says, without anything written."""
    return explain_cohort(explainer(), windows(), aggregator=aggregator(), batch=4, **labels())


@pytest.fixture(scope="module")
def cluster():
    """Lend a Dask cluster of one process, which a test may scale."""
    distributed = pytest.importorskip("distributed", reason="needs the extra distributed")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0", "memory_limit": None}
    with distributed.LocalCluster(n_workers=1, **options) as local, distributed.Client(local):
        yield local


def test_it_is_explain_and_fit(plain):
    X = windows()
    R = explainer().explain(X)
    want = aggregator().fit(R.relevance, ecg=X, record=np.arange(22), **labels())
    assert np.array_equal(plain.score, R.score) and plain.target.tolist() == R.target.tolist()
    np.testing.assert_allclose(plain.probability, cases.classifier().predict_proba(X), rtol=1e-5)
    np.testing.assert_allclose(plain.aggregator.mean_, want.mean_, rtol=1e-5)
    for name in ("n_patients_", "n_records_", "n_windows_", "classes_", "columns_"):
        assert getattr(plain.aggregator, name).tolist() == getattr(want, name).tolist()
    assert plain.record.tolist() == list(range(22)) and not plain.start.any()
    assert plain.relevance is None and plain.path is None and plain.skipped == [] and plain.n_missing == 0
    assert plain.classes == ["A", "B", "C"] and plain.lead_names == ["0", "1"] and plain.fs == FS


def test_one_block_is_equal_to_the_bit(tmp_path):
    X = windows()
    how = {"aggregator": aggregator(random_state=3), "out": tmp_path / "o", "batch": 22, **labels()}
    got = explain_cohort(explainer(), X, **how)
    R = explainer().explain(X)
    want = aggregator(random_state=3).fit(R.relevance, ecg=X, record=np.arange(22), **labels())
    assert np.array_equal(got.relevance, R.relevance)
    for name in cases.STATISTICS:
        assert np.array_equal(getattr(got.aggregator, name), getattr(want, name), equal_nan=name != "columns_"), name


@pytest.mark.parametrize("by", ["wave", "beat"])
def test_beats_are_found_in_the_ecg(by, seeded):
    from skecg.datasets import make_ecg

    ecg = make_ecg(12, classes=("N", "PVC"), random_state=0)
    torch_net = cases.TinyNet(1, ecg.data.shape[2], 2).eval()
    clf = ECGClassifier.from_module(torch_net, ["N", "PVC"], n_leads=1, n_timesteps=ecg.data.shape[2], fs=ecg.fs)
    agg = RelevanceAggregator(by, fs=ecg.fs, random_state=0)
    got = explain_cohort(Saliency(clf), ecg.data, y=ecg.target, aggregator=agg, batch=12)
    R = Saliency(clf).transform(ecg.data)
    want = RelevanceAggregator(by, fs=ecg.fs, random_state=0).fit(R, ecg.target, ecg=ecg.data, record=range(12))
    assert np.array_equal(got.aggregator.mean_, want.mean_, equal_nan=True)
    assert got.aggregator.n_beats_.tolist() == want.n_beats_.tolist()


def test_longer_records_are_cut_into_windows(tmp_path):
    long = windows(3).transpose(1, 0, 2).reshape(2, 3 * N)  # three windows and, below, a rest
    records = [long, np.concatenate([long, long[:, :10]], axis=1), long[:, :N]]
    got = explain_cohort(explainer(), iter(records), stride=0.6, batch=4, out=tmp_path / "o.zarr")
    starts = [[0, 30, 60, 90, 120], [0, 30, 60, 90, 120], [0]]
    assert got.start.tolist() == [s for row in starts for s in row]
    assert got.record.tolist() == [0] * 5 + [1] * 5 + [2] and got.n_rest == 1
    cut = np.stack([records[i][:, s : s + N] for i, row in enumerate(starts) for s in row])
    np.testing.assert_allclose(got.relevance[:], explainer().transform(cut), rtol=1e-4, atol=1e-6)
    whole = explain_cohort(explainer(), [long])
    assert whole.start.tolist() == [0, N, 2 * N] and whole.n_rest == 0


def test_missing_samples_cost_their_windows_alone(tmp_path):
    long = np.concatenate([windows(1)[0], windows(1, seed=1)[0]], axis=1)[None].repeat(3, axis=0)
    long[1, 0, N + 3] = np.nan
    with pytest.warns(UserWarning, match="samples are missing in 1 of 6 windows"):
        got = explain_cohort(
            explainer(), long, aggregator=RelevanceAggregator("lead", random_state=0), out=tmp_path / "o"
        )
    assert got.target.tolist()[3] == "" and np.isnan(got.relevance[3]).all() and np.isnan(got.probability[3]).all()
    assert got.n_missing == 1 and got.aggregator.n_windows_.tolist() == [5] and np.isfinite(got.relevance[:3]).all()
    with pytest.raises(ValueError, match=r"samples are missing .* in every window"):
        explain_cohort(explainer(), np.full((2, 2, N), np.nan))


def test_targets_and_what_was_explained_as_label(plain):
    X = windows()
    got = explain_cohort(explainer(), X, target="B", batch=4)
    assert set(got.target) == {"B"} and got.provenance["target"] == {"rule": "B", "counts": {"B": 22}}
    agg = RelevanceAggregator("lead", random_state=0)
    got = explain_cohort(explainer(), X, y="target", aggregator=agg, batch=4)
    assert got.aggregator.classes_.tolist() == sorted(set(plain.target))
    assert got.aggregator.n_windows_.sum() == 22


def test_indicators_and_their_names():
    import pandas as pd

    y = pd.DataFrame({"AF": np.arange(22) % 2, "MI": np.arange(22) % 3 == 0}).astype(int)
    agg = RelevanceAggregator("lead", random_state=0)
    got = explain_cohort(explainer(), windows(), y=y, aggregator=agg, batch=4)
    assert got.aggregator.classes_.tolist() == ["AF", "MI"] and got.aggregator.n_windows_.tolist() == [11, 8]


def test_steps_before_the_network(tmp_path):
    X = windows().repeat(2, axis=2)
    steps = make_pipeline(Resampler(2 * FS, FS), ECGScaler(), cases.classifier()).set_output(transform="default")
    steps[:-1].fit(X)
    agg = RelevanceAggregator("lead", random_state=0)
    got = explain_cohort(explainer().set_params(estimator=steps), X, aggregator=agg, out=tmp_path / "o", batch=22)
    result = explainer().set_params(estimator=steps).explain(X)
    assert np.array_equal(got.relevance, result.relevance) and got.fs == 2 * FS
    want = RelevanceAggregator("lead", random_state=0).fit(result.relevance, ecg=result.data, record=range(22))
    assert np.array_equal(got.aggregator.mean_, want.mean_)


def test_an_explainer_that_draws_has_a_seed_for_each_block(tmp_path):
    noisy = SmoothGrad(cases.classifier(), n_samples=2)
    a = explain_cohort(noisy, windows(), batch=4, out=tmp_path / "a")
    b = explain_cohort(noisy, windows(), batch=4, out=tmp_path / "b", n_jobs=1)
    assert same(a, b) and noisy.random_state is None
    twice = np.concatenate([windows(4), windows(4)])
    c = explain_cohort(noisy, twice, batch=4, out=tmp_path / "c")
    assert not np.array_equal(c.relevance[:4], c.relevance[4:])


def test_nothing_of_the_user_is_changed(plain):
    agg, ex, X = aggregator(), explainer(verbose=0), windows()
    before, parameters, x = snapshot(ex.estimator.module_), dict(vars(ex)), X.copy()
    with one_thread():
        pass
    torch.set_num_threads(2)
    try:
        got = explain_cohort(ex, X, aggregator=agg, batch=4, **labels())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert same(got, plain, relevance=False) and not hasattr(agg, "_rows") and got.aggregator is not agg
    assert same_snapshot(before, snapshot(ex.estimator.module_)) and vars(ex) == parameters and np.array_equal(X, x)


def test_threads_that_enter_in_turn_leave_the_number_of_threads():
    inside, leave, seen = threading.Event(), threading.Event(), []

    def work():
        with one_thread():
            seen.append(torch.get_num_threads())
            inside.set()
            leave.wait(10)

    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            other = threading.Thread(target=work)
            other.start()
            inside.wait(10)
        leave.set()
        other.join()
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["threading", "array", "generator"])
def test_threads_give_the_same_bits(plain, tmp_path, kind):
    X = windows()
    records = {"threading": X, "array": list(X), "generator": iter(X)}[kind]
    with joblib.parallel_config(backend="threading", n_jobs=3):
        how = {"aggregator": aggregator(), "batch": 4, **labels()}
        got = explain_cohort(explainer(), records, out=tmp_path / "o.zarr", **how)
    assert same(got, plain, relevance=False) and got.relevance.shape == (22, 2, N)


def test_a_killed_worker_costs_nothing(tmp_path, temporary):
    X = windows()
    X[13, 0, 3] = MARK
    want = explain_cohort(explainer(), X, aggregator=aggregator(), batch=4, out=tmp_path / "a", **labels())
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "kill").touch()
    with pytest.warns(UserWarning, match="a worker died; going on"):
        got = explain_cohort(
            explainer(trap), X, aggregator=aggregator(), batch=4, out=tmp_path / "b", n_jobs=2, **labels()
        )
    assert not (trap / "kill").exists() and same(got, want)
    # the workers are there now: the same records one by one, put down for them in the temporary folder
    got = explain_cohort(explainer(), iter(X), aggregator=aggregator(), batch=4, n_jobs=2, **labels())
    assert same(got, want, relevance=False) and not list(temporary.glob("skecg-*"))


def test_a_run_that_is_killed_goes_on(tmp_path):
    X = windows()
    X[13, 0, 3] = MARK
    want = explain_cohort(explainer(), X, aggregator=aggregator(), batch=4, out=tmp_path / "a", **labels())
    (tmp_path / "kill").touch()
    out = tmp_path / "o.zarr"
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-m", "tests.cohort.cases", str(out), str(tmp_path)]
    run = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True)
    assert run.returncode == -9, run.stderr
    done = sorted(file.name for file in (tmp_path / "o.zarr.part" / "blocks").iterdir())
    assert done == ["00000000.npz", "00000001.npz", "00000002.npz"]
    got = explain_cohort(explainer(tmp_path), X, aggregator=aggregator(), batch=4, out=out, **labels())
    assert same(got, want) and not (tmp_path / "o.zarr.part").exists()


def test_dask_processes_give_the_same_bits(plain, cluster, tmp_path, seeded):  # distributed draws from `random`
    for n in (1, 2):
        cluster.scale(n)
        cluster.wait_for_workers(n)
        with joblib.parallel_config(backend="dask"):
            got = explain_cohort(
                explainer(), windows(), aggregator=aggregator(), batch=4, out=tmp_path / f"{n}.zarr", **labels()
            )
        assert same(got, plain, relevance=False)
    want = explain_cohort(explainer(), windows(), batch=4, out=tmp_path / "one")
    assert np.array_equal(got.relevance[:], want.relevance)


@pytest.fixture(scope="module")
def threads():
    """Lend a Dask cluster in this process, to be closed; what its dashboard changes on import is changed before."""
    distributed = pytest.importorskip("distributed", reason="needs the extra distributed")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as local, distributed.Client(local) as client:
        yield local, client


@pytest.mark.filterwarnings("ignore")  # of what is cancelled
def test_a_cluster_that_goes_away(plain, threads, tmp_path, seeded):
    local, client = threads
    real, taken, out = _run.Feed.done, [], tmp_path / "o"

    def done(feed, result):
        real(feed, result)
        taken.append(result.number)
        if len(taken) == 2:
            local.close()

    with pytest.MonkeyPatch.context() as patch, joblib.parallel_config(backend="dask", client=client):
        patch.setattr(_run.Feed, "done", done)
        with pytest.raises(RuntimeError, match=r"the Dask cluster .*kept in .*o\.part; the same call goes on") as error:
            explain_cohort(explainer(), windows(), batch=4, out=out)
    assert error.value.__cause__ is not None and len(list((tmp_path / "o.part" / "blocks").iterdir())) >= 2
    got = explain_cohort(explainer(), windows(), batch=4, out=out)
    assert np.array_equal(got.score, plain.score) and out.is_dir()


def test_a_block_that_always_kills_is_given_up(monkeypatch):
    feed = _run.Feed(iter([cases_block(0), cases_block(1)]), lambda b: None, lambda b: b, lambda b, d: None)
    engine = _run.Engine(1)

    def broken(feed, shipment, where):
        next(feed)
        return _run.BrokenExecutor("killed")

    monkeypatch.setattr(engine, "_run_joblib", broken)
    with pytest.warns(UserWarning, match="a worker died"):
        with pytest.raises(RuntimeError, match=r"died again and again .*: 0 blocks are done, kept\. The same"):
            engine.run(feed, None, "kept")


def test_processes_that_would_share_a_gpu_are_warned_of(monkeypatch):
    engine = _run.Engine(2)
    monkeypatch.setattr(engine, "shared", False)
    with pytest.warns(UserWarning, match="n_jobs=2: 2 processes would share the GPU"):
        engine.warn_of("cuda:0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.warn_of("cpu")
        _run.Engine(1).warn_of("cuda:0")


def cases_block(number):
    from skecg.cohort._records import Block, MemoryPart

    return Block(number, 4 * number, (f"r{number}",), (4,), MemoryPart((), None))


@pytest.mark.parametrize("make", [lambda c: MaskDeletion(c, n_iter=2), GradCAM1D])
def test_other_explainers_and_doubts(make):
    X = windows(4)
    X[2] = 0.0
    with pytest.warns(UserWarning, match="in 1 of 4 windows every lead is constant"):
        got = explain_cohort(make(cases.classifier()), X, batch=2)
    assert got.doubts["every lead is constant"] == 1 and got.relevance_kind == make(None).relevance_kind


def test_provenance_tells_input_and_completeness(tmp_path):
    X = windows()
    ig = IntegratedGradients(classifier(), n_steps=3)
    results = [explain_cohort(ig, X, batch=4, n_jobs=1, out=tmp_path / "o"), explain_cohort(ig, X.copy(), batch=9)]
    error = np.concatenate([ig.explain(X[i : i + 4]).completeness_error for i in range(0, 22, 4)])
    told = results[0].provenance["diagnostics"]["completeness_error"]
    assert told["n"] == 22 and (told["min"], told["max"]) == (float(error.min()), float(error.max()))
    digests = [array_digest(record) for record in X]
    want = hashlib.sha256("".join(digests).encode()).hexdigest()
    assert [r.provenance["input"]["sha256"] for r in results] == [want, want]
    X[3, 0, 0] += 1
    assert explain_cohort(ig, X, batch=4).provenance["input"]["sha256"] != want


def test_the_bar_and_provenance(tmp_path, capsys):
    got = explain_cohort(explainer(), windows(), aggregator=aggregator(), out=tmp_path / "o", verbose=1, **labels())
    assert "22/22" in capsys.readouterr().err.replace("\r", "\n")
    told = got.provenance
    assert told["function"] == "explain_cohort" and told["input"]["n_records"] == 22 and told["threads"] == 1
    assert told["input"]["records"]["shape"] == [22, 2, N] and told["batch"] == 64
    assert told["target"]["counts"] == dict(zip(*np.unique(got.target, return_counts=True), strict=True))
    assert type(told).from_json(tmp_path / "o" / "provenance.json") == told
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "what, match",
    [
        ({"explainer": "GradCAM1D"}, "explainer must be one of"),
        ({"aggregator": 3}, "aggregator must be a RelevanceAggregator; got a int"),
        ({"on_error": "ignore"}, "on_error must be one of 'warn', 'raise'"),
        ({"batch": 0}, "batch must be an integer"),
        ({"target": "AFIB"}, "not among the classes"),
        ({"stride": 0}, "stride must be a finite number"),
        ({"stride": 0.001}, "stride must be at least one sample"),
        ({"fs": 360}, "made for 50 Hz"),
        ({"y": "labels"}, "or be 'target'"),
        ({"y": ["ill"] * 5}, "y must be one each record: there are 22 records; got 5"),
        ({"groups": range(3)}, "groups must be one each record"),
        ({"names": ["a"] * 22}, "record 'a' is there twice"),
        ({"aggregator": RelevanceAggregator("lead", control="well")}, "control='well' needs labels"),
        ({"aggregator": aggregator(), "y": ["ill"] * 22}, "control must be one of the classes"),
        ({"aggregator": RelevanceAggregator("wave")}, "fs"),
        ({"aggregator": RelevanceAggregator("lead", lead_names=["II"])}, "lead_names"),
        ({"records": []}, "records is empty"),
        ({"records": iter(())}, "records is empty"),
        ({"records": 3}, "records must be paths"),
        ({"records": {"data": windows()}}, "pass what is in it"),
        ({"records": np.zeros((3, 2, 2, N))}, r"records must be numbers of shape"),
        ({"records": np.zeros((4, 3, N))}, "3 leads, the explainer takes 2 .pass leads"),
        ({"records": np.zeros((4, 2, N - 1))}, "too short"),
        ({"records": np.zeros((4, N, 2))}, "looks like"),
    ],
)
def test_bad_input_is_refused_at_once(what, match):
    what = dict(what)
    ex, records = what.pop("explainer", None) or explainer(), what.pop("records", windows())
    with pytest.raises((ValueError, TypeError), match=match):
        explain_cohort(ex, records, **what)
