"""GitHub's workflows say what tox and pyproject.toml say, and can do nothing but read; nobody runs them here."""

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra `docs` (myst-parser)")

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EACH = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def load(path):
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    found["on"] = found.pop(True)  # YAML 1.1 reads the key `on` as a truth value
    return found


def rows(job):
    return job.get("strategy", {}).get("matrix", {}).get("include", [{}])


def filled(text, row):
    """Return the text with what the matrix says put in."""
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda match: str(row[match[1]]), text)


def runs():
    """Return (job, row of its matrix, command) of every step that runs one."""
    for path in FILES:
        for job in load(path)["jobs"].values():
            for row in rows(job):
                for step in job["steps"]:
                    if "run" in step:
                        yield job, row, filled(step["run"], row)


def versions(steady):
    """Return (Python, environment, system) of the rows that must pass, or of those that may fail."""
    (job,) = load(ROOT / ".github" / "workflows" / "tests.yml")["jobs"].values()
    return [(row["python"], row["env"], row["os"]) for row in rows(job) if row.get("experimental", False) != steady]


def test_there_are_workflows():
    assert {path.stem for path in FILES} == {"tests", "docs", "weekly"}


@EACH
def test_workflow_reads_and_no_more(path):
    flow, text = load(path), path.read_text(encoding="utf-8")
    assert flow["permissions"] == {"contents": "read"}
    assert not re.search(r"secrets\.|pull_request_target|github\.token|id-token|: write", text)
    # what somebody else may have written (titles, branches) must not reach a shell
    assert set(re.findall(r"\$\{\{\s*([\w.]+)", text)) <= {
        "github.workflow",
        "github.ref",
        "github.event_name",
        "github.run_number",
        *(f"matrix.{key}" for job in flow["jobs"].values() for row in rows(job) for key in row),
    }
    assert not re.search(r"pypi|whl|--(extra-)?index-url|--find-links", text)
    for job in flow["jobs"].values():
        assert "permissions" not in job
        for step in job["steps"]:
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


@EACH
def test_workflow_ends_and_repeats_nothing(path):
    flow = load(path)
    assert {"group", "cancel-in-progress"} == flow["concurrency"].keys()
    assert "workflow_dispatch" in flow["on"]
    for job in flow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 120
        assert job.get("strategy", {}).get("fail-fast", False) is False


@EACH
def test_actions_are_github_s_own_by_major_version(path):
    used = [step["uses"] for job in load(path)["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used and all(re.fullmatch(r"actions/(checkout|setup-python|upload-artifact)@v\d+", name) for name in used)


def test_an_action_has_one_version():
    used = re.findall(r"uses: (\S+)@(\S+)", "".join(path.read_text(encoding="utf-8") for path in FILES))
    assert len(set(used)) == len({name for name, _ in used})


def test_every_command_is_one_that_anybody_can_run():
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    asked = set()
    for _, _, command in runs():
        if command == "python -m pip install tox":
            continue
        match = re.fullmatch(r"python -m tox run -e (\w+)( -- --seed \$\{\{ github\.run_number \}\})?", command)
        assert match, command
        asked.add(match[1])
    assert asked == {"check", "oldest", "newest", "gallery", "fuzz"}
    assert {f"testenv:{name}" for name in asked} <= set(tox.sections())


def test_newest_is_without_constraints():
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    assert tox["testenv:newest"]["constraints"] == ""
    assert tox["testenv:newest"]["commands"] == tox["testenv:oldest"]["commands"]


def test_python_versions_are_those_that_pyproject_promises():
    classifiers = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    steady = {python for python, *_ in versions(steady=True)}
    maybe = {python for python, *_ in versions(steady=False)}
    assert set(classifiers) <= steady
    assert not maybe & set(classifiers)
    wanted = SpecifierSet(PROJECT["requires-python"])
    assert all(wanted.contains(python) for python in steady | maybe)
    lowest = min(steady, key=lambda python: int(python.partition(".")[2]))
    assert not wanted.contains(f"3.{int(lowest.partition('.')[2]) - 1}")
    # the lowest versions are tested with the lowest Python, as tox.ini says
    assert [python for python, env, _ in versions(steady=True) if env == "oldest"] == [lowest]


def test_three_systems_and_both_ends_of_the_dependencies():
    systems = {system.partition("-")[0] for _, env, system in versions(steady=True) if env == "check"}
    assert systems == {"ubuntu", "macos", "windows"}
    assert {"oldest", "newest"} <= {env for _, env, _ in versions(steady=True)}


def test_newest_runs_every_week():
    (entry,) = load(ROOT / ".github" / "workflows" / "tests.yml")["on"]["schedule"]
    minute, hour, day, month, weekday = entry["cron"].split()
    assert (day, month) == ("*", "*") and weekday.isdigit() and minute.isdigit() and hour.isdigit()
