"""The folder of a cohort: resumed at any block to the same bits, opened when complete, refused when it is another's."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from skecg import RelevanceAggregator
from skecg.cohort import _blocks, _files, _gather, explain_cohort
from skecg.cohort._files import _chunk
from skecg.explain import GradCAM1D
from tests.cohort import cases
from tests.cohort.cases import N, aggregator, explainer, labels, same, windows


def run(out, X=None, **kwargs):
    how = {"aggregator": aggregator(), "batch": 4, **labels(), **kwargs}
    return explain_cohort(explainer(), windows() if X is None else X, out=out, **how)


def contents(folder: Path) -> dict:
    """Everything in a folder, with its time."""
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run(tmp_path_factory.mktemp("plain") / "o")


class Stop(BaseException):
    """An interruption that nobody catches, as KeyboardInterrupt is none."""


@pytest.mark.parametrize(
    "name, n, kind", [("o", n, Stop) for n in range(6)] + [("o.zarr", 1, Stop), ("o.zarr", 4, KeyboardInterrupt)]
)
def test_interrupted_at_any_block_it_goes_on_to_the_same_bits(tmp_path, plain, monkeypatch, kind, n, name):
    """Stopped after so many blocks are taken over, and one more is on the disk of which nobody has heard."""
    taken, worked = [], []
    real, do = _gather.Gathered.add, _blocks.Work.do

    def add(self, done):
        if len(taken) == n:
            raise kind
        taken.append(done.number)
        real(self, done)

    with monkeypatch.context() as patch:
        patch.setattr(_gather.Gathered, "add", add)
        with pytest.raises(kind):
            run(tmp_path / name)
    assert not (tmp_path / name).exists() and taken == list(range(n))
    monkeypatch.setattr(_blocks.Work, "do", lambda self, block: (worked.append(block.number), do(self, block))[1])
    got = run(tmp_path / name)
    assert same(got, plain) and worked == list(range(n + 1, 6))
    worked.clear()
    again = run(tmp_path / name)
    assert same(again, got) and worked == [] and again.provenance == got.provenance
    assert not list(tmp_path.glob("*.part")) and not (tmp_path / name / "blocks").exists()


def test_a_generator_goes_on_too(tmp_path, plain, monkeypatch):
    out = tmp_path / "o.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(_gather.Gathered, "add", lambda self, done: 1 // (3 - done.number))
        with pytest.raises(ZeroDivisionError):
            run(out, iter(windows()))
    worked, do = [], _blocks.Work.do
    monkeypatch.setattr(_blocks.Work, "do", lambda self, block: (worked.append(block.number), do(self, block))[1])
    X = windows()
    X[9] += 0.001  # of block 2, which was done
    assert run(out, iter(X)).relevance.shape == (22, 2, N) and worked == [2, 4, 5]
    assert same(run(out, iter(X)), run(tmp_path / "b", X)) and worked[3:] == list(range(6))
    before = contents(out)
    for other in (windows(), X[:21], np.concatenate([X, X[:1]])):
        n = len(other)
        with pytest.raises(ValueError, match="belongs to another run"):
            explain_cohort(
                explainer(), iter(other), aggregator=aggregator(), batch=4, out=out,
                y=np.resize(labels()["y"], n) if n == 22 else None, groups=np.resize(labels()["groups"], n),
            )  # fmt: skip
    assert contents(out) == before


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        {"X": windows(seed=4)}, {"batch": 5}, {"target": "B"}, {"names": [f"r{i}" for i in range(22)]},
        {"y": np.resize(["well", "ill"], 22)}, {"groups": None}, {"aggregator": aggregator("record")},
        {"aggregator": None},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_other_work_is_refused_and_nothing_touched(tmp_path, monkeypatch, change, finished):
    out = tmp_path / "o"
    with monkeypatch.context() as patch:
        if not finished:
            patch.setattr(_files.Folder, "finish", lambda *a: (_ for _ in ()).throw(Stop))
        try:
            run(out)
        except Stop:
            pass
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"o(\.part)? belongs to another run"):
        run(out, **change)
    assert contents(tmp_path) == before and before


def test_another_explainer_is_other_work_but_other_tests_are_not(tmp_path, plain):
    out = tmp_path / "o"
    run(out)
    others = (
        cases.Saliency(cases.classifier(), output="probability"), cases.Saliency(cases.classifier(n_outputs=2)),
        GradCAM1D(cases.classifier()),
    )  # fmt: skip
    for other in others:
        with pytest.raises(ValueError, match="belongs to another run"):
            explain_cohort(other, windows(), aggregator=aggregator(), out=out, batch=4, **labels())
    # the statistics are formed from rows that do not depend on these
    got = run(out, aggregator=RelevanceAggregator("lead", control="ill", n_bootstrap=60))
    assert np.array_equal(got.aggregator.mean_, plain.aggregator.mean_) and got.aggregator.control == "ill"


def test_what_is_not_ours_is_not_touched(tmp_path):
    for name, file in (("o", "o/notes.txt"), ("p", "p.part/notes.txt"), ("q", "q/result.json")):
        path = tmp_path / file
        path.parent.mkdir()
        path.write_text("{}" if file.endswith("json") else "mine")
        before = contents(tmp_path)
        with pytest.raises(ValueError, match="pass another out"):
            run(tmp_path / name)
        assert contents(tmp_path) == before
    (tmp_path / "r.part").write_text("mine")
    with pytest.raises(ValueError, match=r"r\.part is a file"):
        run(tmp_path / "r")
    (tmp_path / "s.part").mkdir()  # empty, or with the first file half written: a run that was killed at its beginning
    (tmp_path / "s.part" / "cohort.json.part").write_text("{")
    assert run(tmp_path / "s").path == tmp_path / "s"


def test_a_npy_file_needs_to_know_its_length(tmp_path):
    with pytest.raises(ValueError, match=r"pass an out whose name ends in \.zarr"):
        run(tmp_path / "o", iter(windows()))
    assert not list(tmp_path.iterdir())


def test_damaged_states_are_done_again(tmp_path, plain, monkeypatch):
    out = tmp_path / "o"
    with monkeypatch.context() as patch:
        patch.setattr(_files.Folder, "finish", lambda *a: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            run(out)
    files = sorted((tmp_path / "o.part" / "blocks").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:100])
    files[1].write_bytes(b"")
    shutil.copy(files[3], files[2])  # another block's
    np.savez(files[4], facts=np.array(["x"], dtype=object))
    assert same(run(out), plain)


@pytest.mark.parametrize("name", ["o", "o.zarr"])
@pytest.mark.parametrize("when", ["relevance", "state", "finish"])
def test_a_full_disk(tmp_path, plain, monkeypatch, when, name):
    full = OSError(errno.ENOSPC, "No space left on device")
    n = []

    def fail(real, at):
        def wrapped(*args, **kwargs):
            n.append(1)
            if len(n) == at:
                raise full
            return real(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        if when == "relevance":
            patch.setattr(_files, "import_zarr" if name == "o.zarr" else "open", fail(
                _files.import_zarr if name == "o.zarr" else open, 5), raising=False)  # fmt: skip
        elif when == "state":
            patch.setattr(_files.np, "savez", fail(np.savez, 3))
        else:
            patch.setattr(_files.Folder, "finish", fail(_files.Folder.finish, 1))
        with pytest.raises(OSError, match=rf"No space left .* while writing to .*{name} \(.* MB are free") as error:
            run(tmp_path / name)
    assert error.value.errno == errno.ENOSPC and "the same call goes on" in str(error.value)
    assert not list(tmp_path.rglob("*.npz.part")) and not (tmp_path / name).exists()
    assert same(run(tmp_path / name), plain)


def test_plain_writes_not_a_map_meet_the_end_of_the_disk(tmp_path):
    """Under a limit on the size of a file a map would be killed by a signal; a write is an error with a number."""
    resource = pytest.importorskip("resource", reason="limits of a process are POSIX")
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
        with pytest.raises(OSError, match="while writing to"):
            run(tmp_path / "o")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert run(tmp_path / "o").path.is_dir()


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(_files.Writer, "write", (lambda real: lambda self, *a: real(
        _files.Writer(self.part + "elsewhere", self.digest, self.offset), *a))(_files.Writer.write))  # fmt: skip
    with pytest.raises(RuntimeError, match=r"elsewhere is not there on .*every worker must see the folder out"):
        run(tmp_path / "o")


@pytest.mark.parametrize(
    "sizes, row, want",
    [
        ([64, 64, 64, 10], 4000, 64), ([6, 6, 3], 4000, 6), ([5, 7, 4], 4000, 1), ([9], 4000, 9), ([12, 18, 6], 4, 6),
        ([64, 64, 5], 1 << 20, 32), ([70, 70], 4 << 20, 7), ([3], 1 << 30, 1), (None, 4, 1),
    ],
)  # fmt: skip
def test_no_two_blocks_share_a_chunk(sizes, row, want):
    got = _chunk(None if sizes is None else np.array(sizes), row)
    assert got == want
    if sizes is not None:
        assert all(begin % got == 0 for begin in np.cumsum(sizes)[:-1])


def test_zarr_is_written_by_its_chunks_and_read_as_an_array(tmp_path, plain):
    got = run(tmp_path / "o.zarr")
    assert got.relevance.chunks == (4, 2, N) and got.relevance.dtype == np.float32
    assert np.array_equal(got.relevance[:], plain.relevance)
    import zarr

    group = zarr.open_group(str(tmp_path / "o.zarr"), mode="r")
    assert np.array_equal(group["score"][:], got.score) and np.array_equal(group["start"][:], got.start)


def test_a_map_is_read_only_and_nothing_is_pickled(tmp_path, plain):
    with pytest.raises(ValueError, match="read-only"):
        plain.relevance[0] = 0
    run(tmp_path / "o")
    kept = sorted(p.name for p in (tmp_path / "o").iterdir())
    assert kept == [
        "aggregator.npz", "code.npy", "probability.npy", "provenance.json", "record.npy", "relevance.npy",
        "result.json", "score.npy", "start.npy",
    ]  # fmt: skip
    for path in (tmp_path / "o").glob("*.np?"):
        np.load(path, allow_pickle=False)
    assert json.loads((tmp_path / "o" / "result.json").read_text())["function"] == "explain_cohort"


def test_without_out_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(None).path is None and not list(tmp_path.iterdir()) and not os.listdir(".")
