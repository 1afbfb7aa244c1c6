"""Trouble that is not a record's: of the machine, of the user's own generator, of finished files; nothing is hidden."""

import errno

import numpy as np
import pytest

from skecg import RelevanceAggregator, explain_cohort
from skecg.cohort import _blocks
from tests.cohort.cases import aggregator, explainer, labels, same, windows


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("backend", ["one process", "threads"])
def test_a_generator_that_ends_the_program_ends_it(tmp_path, kind, backend):
    """Records are asked for by joblib in threads of its own, from which no exception reaches anybody."""
    import joblib

    def records(broken):
        yield from windows()[:9]
        if broken:
            raise kind("mine")
        yield from windows()[9:]

    def run(broken):
        return explain_cohort(explainer(), records(broken), n_jobs=jobs, batch=4, out=tmp_path / "o.zarr")

    jobs = 1 if backend == "one process" else 2
    with joblib.parallel_config(backend="threading"):
        with pytest.raises(kind, match="mine"):
            run(True)
        assert not (tmp_path / "o.zarr").exists()
        assert same(run(False), explain_cohort(explainer(), windows(), batch=4, out=tmp_path / "whole.zarr"))


@pytest.mark.parametrize(
    "error", [MemoryError("for a moment"), OSError(errno.EMFILE, "too many"), OSError(errno.ENOSPC, "full")], ids=repr
)
@pytest.mark.parametrize("where", ["reading", "explaining"])
def test_what_the_machine_cannot_do_now_is_no_result(tmp_path, monkeypatch, error, where):
    whole = explain_cohort(explainer(), windows(), aggregator=aggregator(), batch=4, **labels())
    name = "_cut" if where == "reading" else "_together"
    real, calls = getattr(_blocks.Work, name), []

    def broken(self, *args):
        calls.append(0)
        if len(calls) > 2:
            raise error
        return real(self, *args)

    run = {"aggregator": aggregator(), "batch": 4, "out": tmp_path / "o", **labels()}
    with monkeypatch.context() as patch:
        patch.setattr(_blocks.Work, name, broken)
        with pytest.raises(type(error)):
            explain_cohort(explainer(), windows(), **run)
    got = explain_cohort(explainer(), windows(), **run)
    assert got.skipped == [] and same(got, whole, relevance=False)


def test_a_rate_that_is_not_that_of_the_relevance_is_refused(tmp_path):
    wrong = RelevanceAggregator("wave", fs=40.0)
    with pytest.raises(ValueError, match=r"aggregator has fs=40.0, but relevance is at the network's 50 Hz"):
        explain_cohort(explainer(), windows(), aggregator=wrong, out=tmp_path / "o")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["relevance.npy", "score.npy", "aggregator.npz", "provenance.json"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_finished_folder_that_is_damaged_says_so(tmp_path, file, how):
    def run():
        return explain_cohort(explainer(), windows(), aggregator=aggregator(), batch=4, out=tmp_path / "o", **labels())

    before = run()
    path = tmp_path / "o" / file
    content = path.read_bytes()
    del before
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()
    with pytest.raises(ValueError, match=r"o is damaged \(.*delete the folder and call again"):
        run()
    path.write_bytes(content)
    assert np.isfinite(run().score).all()


def test_a_folder_needs_a_name():
    with pytest.raises(ValueError, match=r"out must name a folder, such as 'cohort\.zarr'; got ''"):
        explain_cohort(explainer(), windows(), out="")
