"""Downloads by several processes, killed processes, full disks and umasks."""

from __future__ import annotations

import os
import time

import pytest

from tests.datasets.downloads import FILES, names
from tests.datasets.kill_fetch import Forker, Watcher, kill_fetches, make_records, table


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Yield a process that forks fetching children."""
    if not hasattr(os, "fork"):
        pytest.skip("children are forked, which this system cannot")
    forker = Forker(tmp_path_factory.mktemp("forker") / "errors.txt", quick=True)
    yield forker
    forker.close()


def test_ten_kills_show_no_wrong_file_and_lose_nothing_that_arrived(tmp_path, forks, seed):
    result = kill_fetches(10, tmp_path, forks, n_timesteps=12_000, rate=300_000, life=0.2, seed=seed)
    assert result["kills"] == 10 and result["read"] == 48 * result["homes"]
    assert [result[name] for name in ("wrong", "failed", "left", "unread", "asked_again")] == [0] * 5
    assert result["kept"] > 0 and result["looks"] > 20  # files were cut and gone on from, under somebody's eyes
    # What a killed process had received and not written, and what was on its way to it, of four files at once.
    assert result["most_sent_again"] < 4 * (1 << 16) + (1 << 18)
    rows = dict(line.split("  ", 1) for line in table(result, 1.0))
    assert rows["processes killed".ljust(len(next(iter(rows))))].strip() == "10"


def test_the_watch_over_killed_fetches_sees_wrong_files(tmp_path):
    files = make_records(600, 0)
    (tmp_path / "100.dat").write_bytes(files["100.dat"])
    with Watcher(tmp_path, files) as watcher:
        assert watcher.look() == {"100.dat"} and watcher.wrong == set()
        (tmp_path / "100.dat").write_bytes(files["100.dat"][:-1])
        deadline = time.monotonic() + 5
        while not watcher.wrong and time.monotonic() < deadline:
            time.sleep(0.01)
    assert watcher.wrong == {"100.dat"}


def test_four_processes_ask_for_each_file_once(tmp_path, serve, forks):
    files = {f"{i}.dat": os.urandom(20_000) for i in range(6)}
    server = serve(files)
    server.pause = 0.02
    children = [forks.fetch(server, tmp_path / "home", files) for _ in range(4)]
    assert [forks.wait(child) for child in children] == [0, 0, 0, 0]
    assert sorted(server.paths()) == sorted([*files, "SHA256SUMS.txt"])
    for name, body in files.items():
        assert (tmp_path / "home" / name).read_bytes() == body


def test_four_processes_fetch_a_database_as_one(tmp_path, serve, forks):
    files = make_records(600, 0)
    server = serve(files)
    children = [forks.fetch(server, tmp_path) for _ in range(4)]
    assert [forks.wait(child) for child in children] == [0, 0, 0, 0], forks.errors.read_text()
    assert sorted(server.paths()) == sorted([*files, "SHA256SUMS.txt"])
    assert {name: (tmp_path / "mitdb" / name).read_bytes() for name in files} == files


def listing(folder):
    """Return what lies in a folder and below it: names, sizes, times, modes."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        stat = path.lstat()
        found[path.relative_to(folder).as_posix()] = (stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return found


def last_error(forks, begun):
    return forks.errors.read_text()[begun:]


def test_disk_that_fills_up_leaves_nothing_half_written(tmp_path, serve, forks):
    server = serve(FILES)
    folder, begun = tmp_path / "home", len(forks.errors.read_text())
    assert forks.wait(forks.fetch(server, folder, ["a.dat"], limit=100_000)) == 2
    message = last_error(forks, begun)
    assert message.startswith("OSError") and str(folder) in message and "set data_home" in message
    assert "a.dat needs 200,000 bytes" in message and "are free" in message  # 300,000, of which 100,000 came
    assert names(folder) == []


def test_read_only_home_that_lacks_a_file_is_named_and_left_alone(tmp_path, serve, forks):
    server = serve(FILES)
    folder, begun = tmp_path / "home", len(forks.errors.read_text())
    folder.mkdir()
    (folder / "b.dat").write_bytes(FILES["b.dat"])
    folder.chmod(0o555)
    before = listing(folder)
    try:
        assert forks.wait(forks.fetch(server, folder, ["a.dat", "b.dat"])) == 2
    finally:
        folder.chmod(0o755)
    message = last_error(forks, begun)
    assert message.startswith("PermissionError") and str(folder) in message and "set data_home" in message
    folder.chmod(0o555)
    assert listing(folder) == before and server.requests == []
    folder.chmod(0o755)


@pytest.mark.parametrize("mode", [0o555, 0o755])
def test_home_that_is_whole_is_not_touched(tmp_path, serve, forks, mode):
    files = make_records(600, 0)
    server = serve(files)
    folder = tmp_path / "mitdb"
    folder.mkdir()
    for name, body in files.items():
        (folder / name).write_bytes(body)
    folder.chmod(mode)
    tmp_path.chmod(mode)
    before = listing(tmp_path)
    try:
        assert forks.wait(forks.fetch(server, tmp_path)) == 0, forks.errors.read_text()
        assert listing(tmp_path) == before and server.requests == []
    finally:
        tmp_path.chmod(0o755)
        folder.chmod(0o755)


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [("022", 0o644, 0o755), ("077", 0o600, 0o700)])
def test_modes_follow_the_umask(tmp_path, serve, forks, mask, file_mode, folder_mode):
    server = serve(FILES)
    folder = tmp_path / "home"
    assert forks.wait(forks.fetch(server, folder, ["a.dat", "sub/c.dat"], mask=mask)) == 0
    for path in (folder / "a.dat", folder / "sub" / "c.dat", folder / "SHA256SUMS.txt"):
        assert path.stat().st_mode & 0o777 == file_mode, path
    assert folder.stat().st_mode & 0o777 == folder_mode
