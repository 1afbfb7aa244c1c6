"""Damage at random: the reader never gives other samples or marks without a word; the command's own judgement."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import judge as fuzz_judge
from tests.fuzz import run, wfdb_alone
from tests.fuzz.judge import HANG, OTHER, REFUSED, SAME, SILENT, VALID, WARNED, WRONG
from tests.fuzz.material import FORMATS, intact_records
from tests.fuzz.oracles import annotations_say, header_says

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")  # pandas 3 deprecates what wfdb calls
RECORDS = dict(zip(FORMATS, intact_records(), strict=True))


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Return what the reader gives for the intact records, by format and kind of damage."""
    folder = tmp_path_factory.mktemp("intact")
    return {fmt: run.expected_of(intact.write(folder)) for fmt, intact in RECORDS.items()}


@pytest.mark.parametrize("kind", run.KINDS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random=st.randoms(use_true_random=False), fmt=st.sampled_from(FORMATS))
def test_damaged_files_are_never_read_as_something_else(tmp_path, expected, kind, random, fmt):
    intact, path = RECORDS[fmt], tmp_path / RECORDS[fmt].name
    if not path.with_suffix(".hea").exists():
        intact.write(tmp_path)
    content = run.damage(kind, intact, random)
    run.put(path.with_suffix(run.KINDS[kind]), content)
    outcome, detail = fuzz_judge.judge(path, kind, content, intact, expected[fmt][kind])
    run.put(path.with_suffix(run.KINDS[kind]), run.original(kind, intact))
    assert outcome not in WRONG, f"{outcome} ({detail}): {content!r}"


@pytest.mark.parametrize("intact", RECORDS.values(), ids=lambda intact: intact.name)
def test_intact_records_are_read_as_they_were_written(tmp_path, intact):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        answers = run.expected_of(intact.write(tmp_path))
    assert answers["signals"].verified
    says = {**header_says(intact.header, intact), **annotations_say(intact.annotations)}
    for answer in (answers["headers"], answers["annotations"]):
        for name in set(says) & set(answer):
            if answer[name] is not None:
                np.testing.assert_array_equal(answer[name], says[name])


def judged(tmp_path, kind, content, fmt=16):
    intact = RECORDS[fmt]
    path = intact.write(tmp_path)
    expected = fuzz_judge.read(path, kind)
    run.put(path.with_suffix(run.KINDS[kind]), content)
    return fuzz_judge.judge(path, kind, content, intact, expected)


def test_outcomes_are_told_apart(tmp_path):
    header = RECORDS[16].header
    assert judged(tmp_path, "headers", header.encode()) == (SAME, "")
    assert judged(tmp_path, "headers", header.replace(" 500 ", " 5000 ").encode()) == (REFUSED, "ValueError")
    assert judged(tmp_path, "headers", header.replace("MLII", "MLIx").encode()) == (WARNED, "")
    assert judged(tmp_path, "headers", header.replace("V1", "V2").encode()) == (VALID, "name of a lead")
    assert judged(tmp_path, "headers", header.replace("360", "36").encode()) == (VALID, "sampling rate")
    assert judged(tmp_path, "headers", header.replace("1000.0", "100").encode())[1] == "gain, baseline, unit or skew"
    marks = RECORDS[16].annotations
    assert judged(tmp_path, "annotations", marks.replace(b"AFIB", b"AFIX")) == (VALID, "marks")
    assert judged(tmp_path, "signals", RECORDS[16].signal[:-1]) == (REFUSED, "ValueError")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (KeyError("213"), (OTHER, "KeyError('213')")),
        (ValueError("cannot reshape"), (OTHER, "names no file: cannot reshape")),
        (OSError("r16.dat is gone"), (REFUSED, "OSError")),
        (RecursionError(), (OTHER, "RecursionError()")),
    ],
)
def test_exceptions_of_a_reader_are_told_apart(tmp_path, monkeypatch, answer, outcome):
    intact = RECORDS[16]

    def read(path, kind):
        raise answer

    monkeypatch.setattr(fuzz_judge, "read", read)
    assert fuzz_judge.judge(tmp_path / "r16", "headers", intact.header.encode(), intact, {}) == outcome


def test_a_reader_that_invents_or_hangs_is_found(tmp_path, monkeypatch):
    intact = RECORDS[16]
    path = intact.write(tmp_path)
    expected = fuzz_judge.read(path, "headers")
    changed = intact.header.replace("1000.0", "x").encode()  # wfdb takes 200 for such a gain
    monkeypatch.setattr(fuzz_judge, "read", lambda *_: {**expected, "data": expected.data * 5})
    assert fuzz_judge.judge(path, "headers", changed, intact, expected) == (SILENT, "data")
    assert fuzz_judge.judge(path, "signals", b"", intact, expected) == (SILENT, "data")
    monkeypatch.setattr(fuzz_judge, "LIMIT", 0.05)

    def spin(*_):
        while True:
            pass

    monkeypatch.setattr(fuzz_judge, "read", spin)
    assert fuzz_judge.judge(path, "headers", changed, intact, expected)[0] == HANG


def test_wfdb_alone_is_stopped_where_it_runs_for_ever(tmp_path):
    intact = RECORDS[16]
    path = intact.write(tmp_path)
    expected = wfdb_alone.expected_of(path)
    worker = wfdb_alone.Worker()
    try:
        for kind, old, new, outcome in (
            ("annotations", b"time resolution", b"time resolutiXn", HANG),
            ("annotations", b"(AFIB", b"(AFIB", SAME),
            ("headers", b"1000.0", b"x     ", SILENT),
        ):
            content = run.original(kind, intact).replace(old, new)
            run.put(path.with_suffix(run.KINDS[kind]), content)
            assert worker.judge(path, kind, content, intact, expected[kind])[0] == outcome
    finally:
        worker.close()
    assert not worker.process.is_alive()


def test_command_prints_its_table_and_fails_where_something_is_wrong(capsys, monkeypatch):
    few = ["--headers", "40", "--annotations", "30", "--signals", "20", "--wfdb", "0", "--seed", "1"]
    assert run.main(few) == 0
    first = capsys.readouterr().out
    assert "| outcome | headers (40) | annotations (30) | signals (20) |" in first and "seed 1" in first
    assert "| SILENTLY DIFFERENT | 0 (0.00 %) | 0 (0.00 %) | 0 (0.00 %) |" in first
    assert run.main(few) == 0
    counts = [[line for line in text.splitlines() if "%" in line] for text in (first, capsys.readouterr().out)]
    assert counts[0] == counts[1]  # the seed repeats it
    monkeypatch.setattr(run.ours, "judge", lambda *_: (SILENT, "data"))
    assert run.main(few) == 1
    assert "SILENTLY DIFFERENT (data): b" in capsys.readouterr().out
