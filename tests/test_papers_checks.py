"""The script that checks explainers: verdicts of known figures, differences of known curves, and a run of each part."""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.utils import Bunch

from skecg import GradCAM1D
from skecg.datasets import make_ecg

PAPERS = Path(__file__).resolve().parents[1] / "examples" / "papers"
TWELVE = np.arange(24) % 12  # twelve patients of two windows each


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
def script(load) -> ModuleType:
    return load("check_explainers")


def against(final: float, floor: float, measure: str = "absolute", rng=None) -> Bunch:
    """Return correlations with random networks in one measure; in the other all are zero."""
    noise = np.zeros(24) if rng is None else rng.normal(0, 0.2, 12)[TWELVE]
    result = Bunch(
        **{f"final_{m}": np.zeros((3, 24)) for m in ("signed", "absolute")},
        **{f"floor_{m}": np.zeros((3, 24)) for m in ("signed", "absolute")},
    )
    result[f"final_{measure}"] = np.tile(final + noise, (3, 1))
    result[f"floor_{measure}"] += floor
    return result


@pytest.mark.parametrize("measure", ["signed", "absolute"])
def test_floor_verdict(script, rng, measure):
    assert script.floor_verdict(against(0.45, 0.4, measure), TWELVE) == (True, "yes")
    assert script.floor_verdict(against(0.2, 0.6, measure), TWELVE) == (True, "yes")  # below its floor
    assert script.floor_verdict(against(0.55, 0.4, measure), TWELVE) == (False, f"no: {measure} above the floor")
    passes, words = script.floor_verdict(against(0.95, 0.93, measure), TWELVE)  # what ignores the network
    assert not passes and words == f"no: {measure} above 0.9, as if there were no network"
    passes, words = script.floor_verdict(against(0.5, 0.4, measure, rng), TWELVE)
    assert words.endswith("(the interval says both)")


def test_floor_verdict_of_few_patients_and_of_no_map(script):
    passes, words = script.floor_verdict(against(0.45, 0.4), TWELVE % 3)
    assert passes and words == "yes (too few patients for an interval)"
    assert script.floor_verdict(against(np.nan, 0.4), TWELVE) == (False, "no map")
    kept = TWELVE < 9  # nine patients are left
    assert script.floor_verdict(against(0.45, 0.4), TWELVE, kept)[1] == "yes (too few patients for an interval)"


def test_gains_are_differences_of_areas_and_more_is_better(script):
    curves = Bunch(area_most=np.array([0.2, 0.5]), area_least=np.array([0.9, 0.4]))
    base = Bunch(
        area_most=np.array([0.3, 0.3]), area_least=np.array([0.7, 0.7]), area_random=np.array([0.6, 0.6])
    )  # the curves of abs(x)
    expected = [[0.4, 0.1], [0.1, -0.2], [0.3, -0.2], [0.2, -0.3]]
    np.testing.assert_allclose(script.gains(curves, base), expected, atol=1e-12)


def gain(value: float, low: float, high: float, n_groups: int = 12) -> Bunch:
    return Bunch(value=value, low=low, high=high, n_groups=n_groups)


def test_gain_verdict(script):
    clear, touches = gain(0.2, 0.1, 0.3), gain(0.2, -0.1, 0.3)
    assert script.gain_verdict([clear, clear]) == "yes"
    assert script.gain_verdict([clear, touches]) == "not clear"
    assert script.gain_verdict([touches, gain(-0.1, -0.3, 0.1)]) == "no"
    assert script.gain_verdict([clear, gain(0.2, np.nan, np.nan, 9)]) == "undecided"
    assert script.gain_verdict([clear, None]) == "undecided"


def test_goal_verdict(script):
    assert script.goal_verdict(gain(0.7, 0.66, 0.8)) == "yes"
    assert script.goal_verdict(gain(0.7, 0.6, 0.8)) == "yes (the interval says both)"
    assert script.goal_verdict(gain(0.6, 0.5, 0.64)) == "no"
    assert script.goal_verdict(gain(0.7, np.nan, np.nan, 5)) == "yes (too few patients for an interval)"
    assert script.goal_verdict(None) == "no map"


def test_cell_tells_the_patients_where_they_are_few(load):
    checks = load("_checks")
    few = checks.scored(np.array([0.1, 0.3, np.nan, -0.4]), np.array(["a", "a", "b", "c"]))
    assert checks.cell(few, "+") == "+0.00 (patients +0.20 -0.40)"
    many = checks.scored(np.full(24, 0.25), TWELVE)
    assert checks.cell(many, by_seed=[0.2, 0.3]) == "0.25 (0.25 to 0.25; seeds 0.20 0.30)"
    assert checks.cell(checks.scored(np.full(3, np.nan), np.arange(3))) == "no map"


def test_pooled_results_are_those_of_all_windows(script):
    one, two = against(0.5, 0.4), against(0.3, 0.1)
    for result, excess in ((one, 0.1), (two, 0.2)):
        result.update(depths=["dense"], mode="cascading", excess_signed=0.0, excess_absolute=excess)
        result.update(signed=np.zeros((1, 24)), absolute=result.final_absolute[:1])
    both = script.pooled([one, two])
    assert both.depths == ["dense"] and both.seeds_absolute == [0.1, 0.2]
    assert both.signed.shape == (1, 48) and both.floor_signed.shape == (3, 48)
    np.testing.assert_allclose(script.mean(both.final_absolute), 0.4)
    excess = np.subtract(*script.over_floor(both, "absolute"))
    np.testing.assert_allclose(excess, np.repeat([0.1, 0.2], 24))


def test_joined_curves_are_those_of_all_windows(script):
    keys = [f"{kind}{order}" for kind in ("", "area_") for order in ("most", "least", "random", "absolute")]
    one, two = (Bunch(**dict.fromkeys([*keys, "degradation"], np.full(n, n)), curve="deletion") for n in (2, 3))
    both = script.joined([one, two])
    assert both.curve == "deletion"
    for key in (*keys, "degradation"):
        assert both[key].tolist() == [2, 2, 3, 3, 3]
    assert one.most.tolist() == [2, 2]


# -------------------------------------------------------------------------------------------------------------- parts


@pytest.fixture
def made(load, monkeypatch) -> ModuleType:
    """Let the script find made-up windows of 1.2 s and trust every network."""
    ecg = make_ecg(240, classes=("N", "PVC", "PAC"), window=1.2, fs=100.0, n_patients=24, random_state=0)
    names = {"N": "N", "PVC": "VEB", "PAC": "SVEB"}
    patient = np.unique(ecg.groups, return_inverse=True)[1]
    made = Bunch(
        data=ecg.data,
        target=np.array([names[label] for label in ecg.target.tolist()]),
        groups=patient,
        record=np.where(patient == 1, "232", patient.astype(str)),
        start=np.zeros(240, dtype=int),
        span=np.zeros(ecg.data.shape, dtype=bool),
        split=np.where(patient % 2, "DS2", "DS1"),
        fs=ecg.fs,
    )
    checks, script, settings = load("_checks"), load("check_explainers"), load("_protocol").WEIGHT
    monkeypatch.setattr(checks, "windows", lambda records, stride: made)
    monkeypatch.setattr(checks, "recognised", lambda clf, ecg, rows, label, sure: rows[ecg.target[rows] == label])
    train = checks.trained
    monkeypatch.setattr(checks, "trained", lambda *args, **options: train(*args, **options, module__depth=10))
    for label in ("F", "Q"):
        monkeypatch.delitem(settings, label)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield script
    torch.set_num_threads(threads)


@pytest.fixture
def call(made, monkeypatch, tmp_path, capsys) -> Callable[..., str]:
    """Run parts of the script in an empty folder; return what is printed."""

    def run(*arguments: str) -> str:
        (tmp_path / "here").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "here")
        options = ["--quick", "--device", "cpu", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["check_explainers.py", *options, *arguments])
        made.main()
        assert list((tmp_path / "here").iterdir()) == []
        return capsys.readouterr().out

    return run


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of all tables in a page, headers included."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]


def test_parts_write_their_pages_and_pictures(call, made, monkeypatch, tmp_path):
    def others(nets, seed, rows):
        """Return windows of N that no network of a few steps needs to know."""
        return np.resize(nets.tested[nets.ecg.target[nets.tested] == "N"], len(rows))

    randomise, curves = made.weight_randomisation, made.perturbation_curves
    monkeypatch.setattr(made, "weight_randomisation", lambda *args, **o: randomise(*args, **{**o, "depths": 3}))
    monkeypatch.setattr(made, "perturbation_curves", lambda *args, **o: curves(*args, **{**o, "n_points": 4}))
    monkeypatch.setattr(made, "normal_windows", others)
    monkeypatch.setitem(made.EXPLAINERS, "LayerCAM", lambda clf, seconds: GradCAM1D(clf, layer="nowhere"))
    names = ["StageCAM", "Guided Grad-CAM", "LayerCAM"]
    one = ("randomisation", "labels", "deletion", "agreement")
    printed = call("--part", *one, "--seeds", "0", "--windows", "20", "--explainers", *names)
    printed += call("--part", "seeds", "--windows", "20", "--explainers", *names)
    out = tmp_path / "out"
    pages = {path.stem: path.read_text(encoding="utf-8") for path in out.glob("*.md")}
    assert set(pages) == {"randomisation", "labels", "deletion", "seeds", "agreement"}
    assert {path.stem for path in out.glob("*.png")} == {"randomisation", "labels", "deletion", "agreement"}
    for name, page in pages.items():
        assert page in printed
        assert name == "labels" or ("10 VEB windows of" in page and "Refused: LayerCAM: " in page)
        assert {cells[0] for cells in rows_of(page)} >= set(names[:2])
    (lines,) = [[c for c in rows_of(pages["deletion"]) if c[0] == "*abs(x)*"]]
    assert lines[0][1:] == ["no", "no", "no"]
    assert all(cells[2] == cells[4] == "+0.00 (+0.00 to +0.00)" for cells in lines[1:])  # less itself
    assert "StageCAM without record 232" in pages["deletion"]
    assert "The guided methods" in pages["randomisation"] and "Guided Grad-CAM" in pages["randomisation"]
    assert sum(1 for _ in (tmp_path / "work" / "maps").glob("StageCAM-*.npy")) == 1


def test_replacements_are_normal_windows_of_other_patients(made):
    nets = made.Networks(Namespace(quick=True, work=None, device="cpu", network="ResNet1d"))
    rows = nets.explained([0], 10)
    assert sorted(nets.ecg.target[rows].tolist()) == ["SVEB"] * 5 + ["VEB"] * 5
    assert set(nets.ecg.split[rows]) == {"DS2"}
    nets._made[0] = Namespace(predict=lambda X: np.full(len(X), "N"))
    found = made.normal_windows(nets, 0, rows)
    assert set(nets.ecg.target[found]) == {"N"} and set(nets.ecg.split[found]) == {"DS2"}
    assert (nets.ecg.groups[found] != nets.ecg.groups[rows]).all()
    nets._made[0] = Namespace(predict=lambda X: np.full(len(X), "VEB"))
    with pytest.raises(ValueError, match="no recognised window of N is of another patient"):
        made.normal_windows(nets, 0, rows)
