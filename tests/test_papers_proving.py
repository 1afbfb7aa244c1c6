"""The script on planted truth: its scores and goals give known answers, and it runs on one and twelve leads."""

from __future__ import annotations

import csv
import importlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.utils import Bunch

PAPERS = Path(__file__).resolve().parents[1] / "examples" / "papers"


@pytest.fixture
def script(monkeypatch) -> Iterator[ModuleType]:
    """Import the script as Python does that runs it; it and what it imports are forgotten afterwards."""
    monkeypatch.syspath_prepend(PAPERS)
    names = {path.stem for path in PAPERS.glob("*.py")}
    assert not names & set(sys.modules)
    yield importlib.import_module("proving_ground")
    for name in names & set(sys.modules):
        del sys.modules[name]


def part(script, seed: int, n: int, **values: tuple[float, float]) -> Bunch:
    """Return what one seed gives: n windows of PVC and of PAC, (average precision, pointing) by explainer."""
    names = {"StageCAM": (0.5, 0.5), "saliency": (0.4, 0.4), script.FLAT: (0.1, 0.1)}
    names |= dict.fromkeys(script.CONTROLS, (0.2, 0.2)) | {key.replace("_", " "): v for key, v in values.items()}
    scores = {}
    for name, (precision, points) in names.items():
        scores[name] = {what: np.full(2 * n, 0.3) for what in script.SCORES}
        scores[name] |= {"average precision": np.full(2 * n, precision), "pointing": np.full(2 * n, points)}
    groups = np.array([f"{seed}-{i}" for i in range(n)] * 2)
    return Bunch(
        seed=seed, n_trained=7, scores=scores, refused={}, same=set(), target=np.repeat(["PVC", "PAC"], n),
        groups=groups, right=np.arange(2 * n) % 2 == 0, label=np.repeat(["PVC", "N"], n), patient=groups,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------------- functions


def test_the_truth_scores_one_and_a_flat_map_chance(script):
    truth = np.zeros((2, 1, 50), dtype=bool)
    truth[0, 0, 10:15] = truth[1, 0, 20:40] = True
    assert {key: value.tolist() for key, value in script.score(truth, truth * 3.0).items()} == {
        "average precision": [1, 1], "pointing": [1, 1], "AUC": [1, 1], "mass": [1, 1]
    }  # fmt: skip
    flat = script.score(truth, np.ones(truth.shape))
    for name, values in flat.items():
        np.testing.assert_allclose(values, [0.5, 0.5] if name == "AUC" else [0.1, 0.4])


def test_on_several_leads_a_map_is_also_scored_in_time_alone(script):
    truth = np.zeros((1, 4, 10), dtype=bool)
    truth[0, 0, 3:5] = True
    wrong_lead = np.zeros((1, 4, 10))
    wrong_lead[0, 1, 3:5] = 2
    wrong_lead[0, 2] = -1  # what speaks against the class takes nothing off the sum over leads
    found = script.score(truth, wrong_lead)
    assert found["pointing"][0] == 0
    assert found["pointing, in time"][0] == found["average precision, in time"][0] == 1
    # truth in one of four leads: where it is, a map without leads is right in one of four places
    without = script.score(truth, script.ceiling(truth))
    assert without["pointing"][0] == without["average precision"][0] == 0.25


def test_no_map_that_is_the_same_at_all_leads_excels_the_ceiling(script, rng):
    truth = rng.random((1, 3, 4)) < 0.5
    truth[0, :, 0] = [True, True, False]
    orders = np.array(list(itertools.permutations(range(4))))
    maps = np.concatenate([np.broadcast_to(order, (1, 3, 4)) for order in orders])
    found = script.score(np.repeat(truth, len(maps), axis=0), maps)
    best = script.score(truth, script.ceiling(truth))
    for name in script.GOAL:
        np.testing.assert_allclose(best[name][0], found[name].max())


def test_patients_are_on_one_side(script):
    ecg, held = script.windows(1, script.Size(100, 20, 1, 1), seed=3)
    assert len(set(ecg.groups[held])) == 5 and not set(ecg.groups[held]) & set(ecg.groups[~held])
    other, held_of_other = script.windows(1, script.Size(100, 20, 1, 1), seed=4)
    assert not np.array_equal(held, held_of_other) and not np.array_equal(ecg.data, other.data)


def test_windows_are_recognised_and_have_a_place(script):
    target = np.repeat(["N", "PVC", "LBBB"], 10)
    truth = np.zeros((30, 1, 5), dtype=bool)
    truth[10:, 0, 2] = True
    predicted = target[5:].copy()
    predicted[10:13] = "N"  # rows 15, 16 and 17
    rows = script.chosen(Bunch(target=target, truth=truth), np.arange(5, 30), predicted, per_class=9, seed=0)
    assert sorted(rows[:7]) == [10, 11, 12, 13, 14, 18, 19]
    assert len(set(rows[7:])) == len(rows) - 7 == 9 and set(rows[7:]) <= set(range(20, 30))


def test_the_goal_asks_for_both_scores_of_one_explainer(script):
    apart = [part(script, 0, 12, StageCAM=(0.95, 0.98), saliency=(0.89, 1.0))]
    lines = {line[0]: dict(zip(script.GOAL_HEADER, line, strict=True)) for line in script.goals(apart)}
    assert set(lines) == {"PVC", "PAC"}
    assert lines["PVC"]["best by average precision"] == "StageCAM"
    assert lines["PVC"]["highest pointing"] == "saliency 1.000"
    assert lines["PVC"]["goal met"] == "no"
    second = [part(script, 0, 12, StageCAM=(0.95, 0.98), saliency=(0.90, 0.99))]
    (line, _) = script.goals(second)
    assert line[script.GOAL_HEADER.index("goal met")] == "yes: saliency"
    assert line[-1] == "0 of 1"  # StageCAM, the best by average precision, does not


def test_the_goal_by_seed_and_the_best_control(script):
    seeds = [part(script, 0, 12, saliency=(1.0, 1.0)), part(script, 1, 12, saliency=(0.85, 1.0), random=(0.3, 0.1))]
    (line, _) = script.goals(seeds)
    assert line[1] == "saliency" and line[2].startswith("0.925 (")
    assert line[4] == "random 0.250"
    assert line[-2:] == ["yes: saliency", "1 of 2"]
    text = script._default(seeds)
    assert "in every class: saliency." in text
    assert "StageCAM, the default, meets it in no class, and is number 2 of 2" in text


def test_tables_are_ordered_and_give_intervals_over_ten_patients_or_none(script):
    few, many = [part(script, 0, 9)], [part(script, 0, 12)]
    rows = [line.split(" | ") for line in script.scores_table(many, list(script.GOAL)).splitlines()[2:]]
    assert rows[0][0] == "| StageCAM" and rows[1][0] == "| saliency" and rows[-1][0] == f"| *{script.FLAT}*"
    assert rows[0][1:4] == ["0.500", "0.500 (0.50 to 0.50)", "0.500 (0.50 to 0.50)"]
    assert " to " not in script.scores_table(few, list(script.GOAL))
    seeds = [part(script, 0, 12, saliency=(0.6, 0.6)), part(script, 1, 12, saliency=(0.8, 0.6))]
    assert "| saliency | 0.700 (0.60, 0.80) |" in script.scores_table(seeds, ["average precision"])


def test_what_was_recognised_and_explained_is_told(script):
    first, second = script.recognition([part(script, 0, 12), part(script, 1, 12)])
    assert "48 windows of 24 patients, recognised 0.500" in first and "would reach 0.50" in first
    assert second.startswith("Explained: PVC 24 windows of 24 patients; PAC 24 windows of 24 patients; none of N, ")


# ----------------------------------------------------------------------------------------------------------- script


class Refusing:
    """An explainer that serves no network."""

    def get_params(self, deep: bool = True) -> dict:
        return {}

    def explain(self, X, target):
        raise ValueError("no network is good enough")


def test_script(script, monkeypatch, tmp_path, capsys):
    sizes = {("ResNet1d", 1): script.Size(60, 8, 1, 1), ("ResNet1d", 12): script.Size(60, 8, 1, 1)}
    monkeypatch.setattr(script, "QUICK", sizes)
    chosen = script.chosen  # such a network recognises next to nothing
    monkeypatch.setattr(script, "chosen", lambda ecg, rows, said, n, seed: chosen(ecg, rows, ecg.target[rows], 2, seed))
    monkeypatch.setitem(script.EXPLAINERS, "DeepLift", lambda clf, seconds: Refusing())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    arguments = ["--explainers", "StageCAM", "saliency", "DeepLift", "--work", "../work", "--out", "../out"]
    monkeypatch.setattr(sys, "argv", ["proving_ground.py", "--quick", "--device", "cpu", *arguments])
    script.main()
    printed = capsys.readouterr().out
    assert list((tmp_path / "here").iterdir()) == []
    page = (tmp_path / "out" / "proving_ground.md").read_text(encoding="utf-8")
    assert page in printed + "\n" and "A quick run" in page
    assert page.count("DeepLift refuses this network: no network is good enough") == 2
    assert "| StageCAM † |" in page and "| saliency † |" not in page
    with (tmp_path / "out" / "proving_ground.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["leads"] for row in rows} == {"1", "12"}
    for row in rows:
        assert 0 <= float(row["value"]) <= 1
        if row["explainer"] == script.FLAT and row["score"] == "AUC":
            assert float(row["value"]) == 0.5
    twelve = [row["score"] for row in rows if row["leads"] == "12"]
    assert {"pointing, in time", "average precision, in time"} <= set(twelve)
    assert (tmp_path / "out" / "proving_ground.png").stat().st_size > 20_000
    assert {path.name.split("-")[0] for path in (tmp_path / "work" / "maps").iterdir()} == {"StageCAM", "saliency"}


def test_a_network_that_recognises_nothing_is_told(script, monkeypatch):
    monkeypatch.setattr(script, "trained", lambda *_: Bunch(predict=lambda X: np.full(len(X), "none")))
    args = Bunch(per_class=2, work=None, explainers=["saliency"])
    with pytest.raises(SystemExit, match="ResNet1d of seed 5 recognises no window"):
        script.explained("ResNet1d", 1, script.Size(20, 4, 1, 1), 5, args)
