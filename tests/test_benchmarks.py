"""The harness of the benchmarks: what it pairs, compares, measures and writes; no figure of a machine is asserted."""

import importlib.util
import itertools
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from skecg.datasets import make_ecg
from tests.benchmarks import harness, run
from tests.benchmarks.classification import read_report
from tests.benchmarks.harness import Anchor, Different, Line, Ratio, Row, Skipped, paired, same, speed
from tests.benchmarks.page import PARTS, Page

ROOT = Path(__file__).resolve().parents[1]


class Clock:
    """A clock that the sides move by hand."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        return self.now

    def side(self, name, *times):
        """Return a function that takes these times, call by call."""
        left = iter(times)

        def call():
            self.calls.append(name)
            self.now += next(left)

        return call


# ------------------------------------------------------------------------------------------------------------- times


def test_sides_alternate_after_a_warm_up_that_does_not_count():
    clock = Clock()
    times = paired(clock.side("A", 100, 1, 2, 4), clock.side("B", 200, 3, 8, 4), rounds=3, clock=clock)
    assert clock.calls == ["A", "B"] * 4
    assert times.tolist() == [[1, 3], [2, 8], [4, 4]]


def test_ratio_is_the_median_of_paired_ratios():
    # by pairs 3, 4, 1; the ratio of the medians would be 2
    ratio = Ratio.of(np.array([3, 8, 4]), np.array([1, 2, 4]))
    assert (ratio.median, ratio.low, ratio.high, ratio.rounds) == (3, 1, 4, 3)
    assert str(ratio) == "3.00 (1.00 to 4.00)"


def test_lines_of_speed_tell_each_anchor_and_profile_what_falls_short(monkeypatch):
    times = [[1.0, 3.0, 5.0, 0.5]]  # ours, two anchors, the limit
    monkeypatch.setattr(harness, "paired", lambda *sides, rounds: np.array(times * rounds))

    def slow_part_of_ours():
        return sum(range(1000))

    anchors = [Anchor("them", int, 3.0, "equal to 1e-06"), Anchor("others", int, 5.1, "equal to 2e-06")]
    met, short = speed("work", lambda: slow_part_of_ours(), anchors, limit=("floor", int))
    assert (met.work, met.anchor) == ("work; equal to 1e-06", "them")
    assert met.measured == "anchor / ours 3.00 (3.00 to 3.00)"
    assert met.limit == "ours / floor 2.00 (2.00 to 2.00)"
    assert met.met and met.notes == ()
    assert short.measured == "anchor / ours 5.00 (5.00 to 5.00)"
    assert short.met is False
    assert "slow_part_of_ours" in short.notes[0]


# ----------------------------------------------------------------------------------------------------------- results


def test_equal_results_pass_with_their_difference():
    assert same("maps", [[1.0, 2.0], [4.0, 0.0]], [[1.0, 2.0], [4.0, 0.4]], 0.11) == pytest.approx(0.1)
    assert same("maps", [[1.1], [4.0]], [[1.0], [4.0]], 0.11, scale=[[1.0], [4.0]]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("ours", "anchor", "message"),
    [
        ([1.0, 2.0], [1.0, 2.1], "S1: the results differ by 0.0476, more than 0.01"),
        ([1.0, np.nan], [1.0, 2.0], "S1: the results differ by nan"),
        ([1.0, 2.0], [[1.0], [2.0]], r"S1: ours has the shape \(2,\), the anchor \(2, 1\)"),
        ([0.0, 0.0], [0.0, 0.0], "S1: nothing to compare with"),
    ],
)
def test_other_results_fail_loudly(ours, anchor, message):
    with pytest.raises(Different, match=message):
        same("S1", ours, anchor, 0.01)


# ------------------------------------------------------------------------------------------------------------ memory


MEMORY_CASE = """
import numpy as np

def case(size):
    return lambda: np.ones(4 * size, np.uint8).sum(), lambda: np.ones(size, np.uint8).sum()
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks can be forgotten on Linux alone")
def test_peak_memory_is_that_of_the_work_alone(monkeypatch, tmp_path):
    (tmp_path / "light.py").write_text(MEMORY_CASE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ballast = np.ones(300 * harness.MIB, np.uint8)  # of this process: a child started from it would inherit its peak
    peak = harness.peak_memory("light:case", 64 * harness.MIB)  # whose warm-up takes more than its work
    assert ballast.nbytes / harness.MIB > 4 * peak
    assert 63 < peak < 72


def test_failure_of_a_fresh_process_is_not_a_result():
    with pytest.raises(RuntimeError, match="division by zero"):
        harness.run_python("-c", "1 / 0")


# -------------------------------------------------------------------------------------------------------------- page


LINE = Line("4 windows", "captum", "anchor / ours 2.00 (1.90 to 2.10)", "", ">= 1.3", True)
SHORT = Line("8 windows | more", "captum", "1.00", "", ">= 1.3", False, ("Its profile:\n\n```text\n  50.0%  a\n```",))
PART_OF = {"S1": "Speed", "S1m": "Speed", "S4": "Speed", "S13": "Speed", "C1": "Classification"}


def filled():
    """Return a page of two runs."""
    page = Page()
    page.put("S13", [LINE], page.run("monday"), 1.0)
    page.put("C1", [SHORT], page.run("monday"), 1.0)
    page.put("S4", [LINE, SHORT], page.run("tuesday"), 2.5)
    page.put("S1", [LINE], page.run("tuesday"), 2.5)
    return page


def test_page_has_a_table_a_part_in_the_order_of_the_rows():
    text = filled().write(PART_OF)
    places = [text.index(word) for word in ("## Speed", "| S1 |", "| S4 |", "| S13 |", "## Classification", "| C1 |")]
    assert places == sorted(places)
    assert r"8 windows \| more" in text
    assert "| **no** | 2, 2.5 |" in text
    assert "#### S4\n\nIts profile:\n\n```text\n  50.0%  a\n```\n" in text


def test_a_page_that_is_read_is_written_again_to_the_letter():
    text = filled().write(PART_OF)
    assert Page.read(text).write(PART_OF) == text


def test_new_rows_replace_their_own_alone():
    before = filled().write(PART_OF)
    page = Page.read(before)
    page.put("S4", [LINE], page.run("wednesday"), 7.0)
    after = page.write(PART_OF)
    gone, come = set(before.splitlines()) - set(after.splitlines()), set(after.splitlines()) - set(before.splitlines())
    assert come == {"| S4 | 4 windows | captum | anchor / ours 2.00 (1.90 to 2.10) |  | >= 1.3 | yes | 3, 7.0 |",
                    "| run 3 | wednesday |"}  # fmt: skip
    assert all(line.startswith("| S4 |") for line in gone if line.startswith("|"))
    assert "#### S4" not in after and "#### C1" in after


def test_runs_are_kept_while_a_row_is_of_them():
    page = Page.read(filled().write(PART_OF))
    assert page.run("tuesday") == 2  # the same facts are the same run
    for name in ("S13", "C1"):
        page.put(name, [LINE], page.run("tuesday"), 1.0)
    text = page.write(PART_OF)
    assert "| run 1 |" not in text and "| run 2 | tuesday |" in text


def test_rows_that_are_no_more_leave_the_page():
    assert "S13" not in filled().write({"S1": "Speed", "S4": "Speed", "C1": "Classification"})


def test_the_tables_in_the_docs_are_as_the_command_writes_them():
    run.load_rows()
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    again = Page.read(text).write({row.name: row.part for row in harness.ROWS.values()})
    assert text[text.index("\n## ") :] == again[again.index("\n## ") :]


# ----------------------------------------------------------------------------------------------------------- command


@pytest.fixture
def rows(monkeypatch):
    """Rows that take no time, instead of the real ones; returns what was measured."""
    seen = []

    def measures(name, *lines):
        def measure(quick):
            seen.append((name, quick))
            yield from lines

        return Row(name, PART_OF[name], f"title of {name}", measure)

    def skips(quick):
        raise Skipped("no records")

    def differs(quick):
        yield LINE
        same("S4", [1.0], [2.0], 1e-5)

    made = [measures("S1", LINE), Row("C1", "Classification", "title of C1", skips), measures("S13", LINE, SHORT)]
    made.append(Row("S4", "Speed", "title of S4", differs))
    monkeypatch.setattr(run, "ROWS", {row.name: row for row in made})
    monkeypatch.setattr(run, "load_rows", lambda: None)
    return seen


def test_only_picks_rows_and_keeps_the_others(rows, tmp_path):
    out = tmp_path / "page.md"
    assert run.main(["--only", "S1,S13", "--quick", "--out", str(out)]) == 0
    assert rows == [("S1", True), ("S13", True)]
    first = out.read_text()
    assert "**quick**" in first
    assert run.main(["--only", "S13", "--out", str(out)]) == 0
    assert rows[2:] == [("S13", False)]
    second = out.read_text()

    def of(name, text):
        return [line for line in text.splitlines() if line.startswith(f"| {name} |")]

    assert of("S1", first) == of("S1", second)
    assert len(of("S13", second)) == 2 and of("S13", first) != of("S13", second)
    assert "title of S13: 4 windows" in second


def test_unknown_rows_are_refused_with_those_that_there_are(rows, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run.main(["--only", "S99", "--out", str(tmp_path / "page.md")])
    assert "no rows S99; there are S1, C1, S13, S4" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_row_whose_results_differ_fails_the_command_and_the_others_are_written(rows, tmp_path):
    out = tmp_path / "page.md"
    assert run.main(["--out", str(out)]) == 1
    (line,) = [line for line in out.read_text().splitlines() if line.startswith("| S4 |")]
    assert "FAILED: Different: S4: the results differ by 0.5" in line
    assert "anchor / ours" not in line  # what it had measured before does not count
    assert "| S1 |" in out.read_text() and "| S13 |" in out.read_text()


def test_a_skipped_row_says_why_and_keeps_an_earlier_figure(rows, tmp_path):
    out = tmp_path / "page.md"
    assert run.main(["--only", "C1", "--out", str(out)]) == 0
    assert "| C1 | title of C1 |  | skipped: no records |" in out.read_text()
    page = Page()
    page.put("C1", [LINE], page.run("monday"), 1.0)
    out.write_text(page.write(PART_OF))
    assert run.main(["--only", "C1", "--out", str(out)]) == 0
    assert out.read_text() == page.write(PART_OF)


def test_every_row_of_the_benchmarks_has_a_place_on_the_page():
    run.load_rows()
    assert {"S1", "S1m", "S4", "S5", "S6", "S9", "S13", "C1", "Q6"} <= set(harness.ROWS)
    assert {row.part for row in harness.ROWS.values()} <= set(PARTS)
    with pytest.raises(ValueError, match="S1 is registered twice"):
        harness.row("S1", "Speed", "again")(lambda quick: [])


# ----------------------------------------------------------------------------------------------------- the quickstart


class Guesser:
    """A classifier that is as good as its labels in turn, and trains in no time."""

    def __init__(self, *args, **kwargs):
        pass

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.array(list(itertools.islice(itertools.cycle(self.classes_), len(X))))


def test_the_report_of_the_quickstart_is_understood(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("quickstart", ROOT / "examples" / "quickstart.py")
    quickstart = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(quickstart)
    monkeypatch.setattr(quickstart, "ECGClassifier", Guesser)
    monkeypatch.setattr(quickstart, "score", partial(quickstart.score, n_bootstrap=5))
    ecg = make_ecg(240, n_patients=12, classes=("N", "PVC", "PAC"), random_state=0)
    for split in ("beat", "patient"):
        quickstart.train_and_report(ecg, split, Namespace(seed=3, data="synthetic", epochs=1, width=1))
    text = capsys.readouterr().out
    beat, patient = read_report(text)
    assert (beat["split"], beat["seed"], beat["shared"]) == ("beat", "3", "12")
    assert (patient["split"], patient["shared"]) == ("patient", "0")
    assert f"macro F1 {beat['f1']} ({beat['rest']})" in text
    assert int(beat["train"]) + int(beat["test"]) == 240
    with pytest.raises(RuntimeError, match="other splits"):
        read_report(text[text.index("== split by patient") :])


def test_benchmarks_do_not_hide_modules_of_python():
    names = {path.stem for path in (ROOT / "tests" / "benchmarks").glob("*.py")}
    assert names & set(sys.stdlib_module_names) == set()
