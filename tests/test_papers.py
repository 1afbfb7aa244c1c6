"""The scripts of the study run, on made-up data and on real records; their functions give known answers."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import wfdb
from sklearn.utils import Bunch

from skecg import ECGClassifier, MaskDeletion
from skecg.datasets import make_ecg

ROOT = Path(__file__).resolve().parents[1]
PAPERS = ROOT / "examples" / "papers"
CLASSES = ("N", "PVC", "PAC", "LBBB", "RBBB")


@pytest.fixture
def load(monkeypatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a script by its name, as Python does that runs it; the modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(PAPERS)
    names = {path.stem for path in PAPERS.glob("*.py")}
    assert not names & set(sys.modules)
    yield importlib.import_module
    for name in names & set(sys.modules):
        del sys.modules[name]


@pytest.fixture
def study(load) -> ModuleType:
    return load("_study")


# --------------------------------------------------------------------------------------------------------- functions


def made_windows(rng, n=40, length=60, fs=100.0):
    """Return windows of two records with beats of three kinds, some of which lie outside of all windows."""
    beats = Bunch(
        target=rng.choice(["PVC", "LBBB", "N"], n),
        record=rng.choice(["a", "b"], n),
        sample=rng.choice(500, n, replace=False) + 50,
    )
    return Bunch(**beats, data=np.zeros((n, 2, length)), start=beats.sample - rng.integers(0, length, n), fs=fs)


def test_evidence_is_the_region_about_every_beat_of_the_class(study, rng):
    ecg, limits = made_windows(rng), {"PVC": (-0.06, 0.10), "LBBB": (-0.03, 0.02)}
    rows = rng.permutation(40)[:30]
    truth = study.evidence(ecg, rows, limits)
    expected = np.zeros((30, 2, 60), dtype=bool)
    for i, row in enumerate(rows):
        for beat in range(40):
            same = ecg.record[beat] == ecg.record[row] and ecg.target[beat] == ecg.target[row]
            if same and ecg.target[row] in limits:
                before, after = limits[ecg.target[row]]
                for t in range(60):
                    after_r = ecg.start[row] + t - ecg.sample[beat]
                    expected[i, :, t] |= round(before * 100) <= after_r < round(after * 100)
    assert 0 < expected.mean() < 0.5
    np.testing.assert_array_equal(truth, expected)


def test_beat_split_draws_each_class_apart(study, rng):
    target = rng.permutation(np.repeat(CLASSES, [50, 20, 16, 15, 9]))
    train, test = study.beat_split(target, 8, 6, seed=3)
    assert not set(train) & set(test)
    assert len(set(train)) == len(train) and len(set(test)) == len(test)
    assert [np.sum(target[test] == label) for label in CLASSES] == [6] * 5
    assert [np.sum(target[train] == label) for label in CLASSES] == [8, 8, 8, 8, 3]  # of 9, after 6 for the test
    other, _ = study.beat_split(target, 8, 6, seed=4)
    assert set(other) != set(train)


def test_bootstrap_of_a_mean_over_patients_is_the_normal_interval(study, rng):
    groups = np.repeat(np.arange(80), 5)
    values = rng.normal(size=80)[groups] + 2  # all rows of a patient alike: only patients count
    value, low, high, n = study.bootstrap(lambda take: float(values[take].mean()), groups, seed=0, n_bootstrap=2000)
    error = values[::5].std() / np.sqrt(80)
    assert value == values.mean() and n == 80
    # the percentiles of 2,000 draws stray by about .06 standard errors
    np.testing.assert_allclose([low, high], [value - 1.96 * error, value + 1.96 * error], atol=0.3 * error)


def test_bootstrap_gives_no_interval_for_few_patients(study):
    value, low, high, n = study.bootstrap(lambda take: float(take.mean()), np.repeat(np.arange(9), 2))
    assert (value, n) == (8.5, 9)
    assert np.isnan(low) and np.isnan(high)


def spike(x, code):
    """Return the sample at 100, in the unit of the code: a score that is linear in the input."""
    return x[:, 0, 100] * (code + 1)


def test_occlusion_of_one_sample_is_a_triangle(study):
    X = np.zeros((2, 1, 200), dtype=np.float32)
    X[:, 0, 100] = 1
    found = study.occlusion(spike, X, np.array([0, 2]), fs=100.0, width=0.08)
    # of the 8 lines through a sample, 8 - |t - 100| take the sample at 100 away too
    triangle = np.maximum(0, 8 - np.abs(np.arange(200) - 100)) / 8
    np.testing.assert_allclose(found[:, 0], [triangle, 3 * triangle], atol=1e-6)


def test_occlusion_of_a_straight_line_changes_nothing(study):
    X = np.linspace(-1, 1, 200, dtype=np.float32)[None, None]
    found = study.occlusion(lambda x, code: (x**3).sum((1, 2)), X, np.array([0]), fs=100.0)
    np.testing.assert_allclose(found[..., 21:-21], 0, atol=1e-4)  # at the ends a line begins at the sample that is lost


def test_integrated_gradients_of_linear_and_square_scores(study, rng):
    X = rng.normal(size=(3, 1, 50)).astype(np.float32)
    weight = torch.from_numpy(rng.normal(size=50).astype(np.float32))
    linear = study.integrated_gradients(lambda x, code: (x[:, 0] * weight).sum(1), X, np.zeros(3, int))
    np.testing.assert_allclose(linear, X * weight.numpy(), rtol=1e-5)
    square = study.integrated_gradients(lambda x, code: (x**2).sum((1, 2)), X, np.zeros(3, int), points=4)
    np.testing.assert_allclose(square, X**2, rtol=1e-5)  # midpoints are exact where the gradient is linear


def test_smoothed_takes_the_minimum_off_and_averages_100_ms(study):
    R = np.full((1, 1, 60), -2.0)
    R[0, 0, 30] = 9.0
    found = study.smoothed(R, fs=50.0)
    expected = np.zeros(60)
    expected[28:33] = 11 / 5
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-12)


@pytest.fixture
def made() -> Bunch:
    """Return made-up windows with the fields of windows from records."""
    ecg = make_ecg(400, classes=CLASSES, n_patients=40, random_state=0)
    ecg.start = np.zeros(len(ecg.target), dtype=int)
    return ecg


def test_branches_of_the_score_add_up_to_the_network(study, made):
    clf = study.network("ECGNet", 64, epochs=1, seed=0, fs=made.fs, module__width=1, device="cpu")
    clf.fit(made.data[:64], made.target[:64])
    assert isinstance(clf[-1], ECGClassifier)
    x, code = torch.from_numpy(clf[:-1].transform(made.data[64:80])), torch.arange(16) % 5
    with torch.no_grad():
        whole, cnn, lstm = (study.score_function(clf, name)(x, code) for name in ("all", "cnn", "lstm"))
        bias = clf[-1].module_.branch_weights()["bias"][code]
    logits = clf.decision_function(made.data[64:80])[np.arange(16), code]
    np.testing.assert_allclose(whole, logits, atol=1e-4)
    np.testing.assert_allclose(cnn + lstm - bias, whole, atol=1e-4)


def test_a_window_belongs_to_the_beat_nearest_its_middle(load):
    script = load("whole_records")
    sample, symbol = np.array([10, 40, 45, 100, 160]), np.array(["N", "+", "V", "F", "L"])
    middle = np.array([12, 27, 28, 44, 72, 73, 115, 131, 200])
    found = script.nearest(middle, sample, symbol, within=35)
    assert found.tolist() == ["N", "N", "PVC", "PVC", "PVC", "other", "other", "LBBB", ""]
    assert script.nearest(middle, sample[1:2], symbol[1:2], 35).tolist() == [""] * 9
    assert script.nearest(middle, sample[:1], symbol[:1], 35).tolist() == ["N"] * 4 + [""] * 5


def test_agreement_counts_windows_with_a_label_and_a_beat(load):
    script = load("whole_records")
    label = np.array(["N", "PVC", "PVC", "", "N", "N", "N"])
    beat = np.array(["N", "PVC", "N", "N", "other", "", "PVC"])
    text = script.agreement(label, beat)
    assert text.startswith("2 of 4 windows (50.0%)")
    assert "N 1 of 2, PVC 1 of 2; one label for all would reach 50.0%" in text
    assert "1 lie nearest a beat of another kind, 1 have none within 0.56 s, in 1 samples are missing" in text


# ----------------------------------------------------------------------------------------------------------- scripts


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Return a folder for checkpoints: the first script trains, the others take its network up."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def call(load, study, monkeypatch, tmp_path, capsys):
    """Run a script with arguments in an empty folder; return what it printed."""

    def run(name: str, *arguments: str | Path) -> str:
        (tmp_path / "here").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--quick", *map(str, arguments)])
        load(name).main()
        assert list((tmp_path / "here").iterdir()) == []
        return capsys.readouterr().out

    split = study.beat_split  # fewer windows than --quick
    monkeypatch.setattr(study, "beat_split", lambda target, n_train, n_test, seed: split(target, 20, 10, seed))
    return run


@pytest.fixture
def simulated(study, made, monkeypatch) -> None:
    monkeypatch.setattr(study, "beats", lambda seed, shift=0.0: made)


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of the table in a page, without its header."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "][1:]


def test_explained_windows(call, load, simulated, work, tmp_path, monkeypatch):
    explainers = load("explained_windows").EXPLAINERS
    for name in [name for name in explainers if "mask" in name]:  # a few iterations will do
        branch = "lstm" if "LSTM" in name else "all"
        monkeypatch.setitem(explainers, name, lambda clf, branch=branch: MaskDeletion(clf, branch=branch, n_iter=3))
    printed = call("explained_windows", "--work", work, "--out", tmp_path / "out")
    page = (tmp_path / "out" / "explained_windows.md").read_text()
    assert page == printed
    for cells in rows_of(page):
        inside = cells[4:8]
        if cells[0] in ("N", "PAC"):
            assert inside == ["no place"] * 4
        else:
            assert all(0 <= float(share) <= 1 for share in inside)
    assert {cells[0] for cells in rows_of(page)} <= set(CLASSES) and rows_of(page)
    assert (tmp_path / "out" / "explained_windows.png").stat().st_size > 20_000


def test_relevance_over_epochs(call, simulated, work, tmp_path):
    call("relevance_over_epochs", "--work", work, "--out", tmp_path / "out", "--per-class", "4")
    rows = rows_of((tmp_path / "out" / "epochs.md").read_text())
    assert [cells[1] for cells in rows] == ["1", "2", "3"]
    assert rows[-1][3] == "1.000"  # the last epoch's maps are those that all are compared with
    assert (tmp_path / "out" / "epochs.png").stat().st_size > 10_000


def test_relevance_over_epochs_leaves_nothing_behind(call, simulated, tmp_path, monkeypatch):
    import tempfile

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert len(rows_of(call("relevance_over_epochs", "--per-class", "2"))) == 3
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.fixture
def record(made, tmp_path) -> Path:
    """Write 40 s of made-up ECG with a beat in the middle of every second second."""
    folder = tmp_path / "records"
    folder.mkdir()
    signal = made.data[:20].reshape(-1, 1).astype(np.float64)
    wfdb.wrsamp("r1", fs=360, units=["mV"], sig_name=["MLII"], p_signal=signal, fmt=["16"], write_dir=str(folder))
    wfdb.wrann("r1", "atr", np.arange(20) * 720 + 360, symbol=["N", "V"] * 10, write_dir=str(folder))
    return folder / "r1"


def test_whole_records(call, simulated, work, record, tmp_path):
    printed = call("whole_records", "--work", work, "--out", tmp_path / "out", "--record", record)
    assert (tmp_path / "out" / "record_r1.md").read_text() == printed
    assert "39 windows of 2 s, one every 1 s" in printed
    # of 39 middles 20 lie on a beat, the 19 between are a second away from either
    assert "of 20 windows" in printed and "19 have none within 0.56 s" in printed
    assert sum(int(cells[1]) for cells in rows_of(printed)) == 39
    assert (tmp_path / "out" / "record_r1.png").stat().st_size > 20_000
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["record_r1.md", "record_r1.png"]
    notes = wfdb.rdann(str(work / "r1"), "skecg")
    assert set(notes.aux_note) <= set(CLASSES)
    assert np.load(work / "record_r1_quick" / "relevance.npy").shape == (1, 14400)


@pytest.mark.parametrize("name", ["relevance_over_epochs", "whole_records"])
def test_script_on_real_records(call, name, work, tmp_path):
    home = os.environ.get("SKECG_DATA")
    if not home or not (Path(home) / "mitdb" / "208.dat").is_file():
        pytest.skip("SKECG_DATA names no folder with the records of mitdb: real records are no part of skecg")
    call(name, "--work", work / "real", "--out", tmp_path / "out")
    kinds = {path.suffix for path in (tmp_path / "out").iterdir()}
    assert kinds == {".md", ".png"}


# -------------------------------------------------------------------------------------------------------------- page


def test_pages_show_every_result_that_is_there_and_no_other():
    pages, folder = [ROOT / "docs" / name for name in ("papers.md", "explanations.md")], ROOT / "docs" / "studies"
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    shown = {word for line in text.splitlines() if "studies/" in line and line[:1] != "%" for word in _files(line)}
    assert shown == {path.name for path in folder.glob("*") if path.suffix in (".md", ".png")}


def _files(line: str) -> list[str]:
    return [part.split(")")[0].split()[0] for part in line.split("studies/")[1:] if part[:1].strip("`")]
