"""Downloads by several processes, killed processes, full disks and umasks."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.datasets.downloads import FILES, names

# A process that has imported everything once forks a child for each line it reads, so that a child costs no start.
_FORKER = """
import os, resource, signal, sys, types
from pathlib import Path
sys.path.insert(0, sys.argv[1])
package = types.ModuleType("skecg.datasets")  # without its __init__, which would load scikit-learn
package.__path__ = [os.path.join(sys.argv[1], "skecg", "datasets")]
sys.modules["skecg.datasets"] = package
import requests, filelock, tqdm.auto
from skecg.datasets._databases import Database
from skecg.datasets._download import fetch_files
from skecg.datasets._http import Policy
database = Database("mitdb", "mitdb", "1.0.0", "A database", 360.0, ())
children = {}
for line in sys.stdin:
    command, *words = line.split()
    if command == "fetch":
        url, folder, limit, mask, *names = words
        limit, mask = int(limit), int(mask, 8)
        child = os.fork()
        if not child:
            status = 1
            try:
                os.environ["SKECG_PHYSIONET_URL"] = url
                os.umask(mask)
                if limit:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                fetch_files(Path(folder), names, database, verbose=0, policy=Policy(back_off=0.01))
                status = 0
            except OSError as error:
                sys.stderr.write(f"{type(error).__name__}: {error}")
                status = 2
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(child, flush=True)
    else:
        print(os.waitstatus_to_exitcode(os.waitpid(int(words[0]), 0)[1]), flush=True)
"""


class Forker:
    """Starts children that fetch, and waits for them."""

    def __init__(self, errors: Path) -> None:
        root, self.errors = Path(__file__).parents[2], errors
        with errors.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _FORKER, str(root)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                bufsize=1,
            )

    def say(self, *words: object) -> int:
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        return int(self.process.stdout.readline())

    def fetch(self, server, folder: Path, files, *, limit: int = 0, mask: str = "022") -> int:
        return self.say("fetch", server.url, folder, limit, mask, *files)

    def wait(self, child: int) -> int:
        return self.say("wait", child)


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Yield a process that forks fetching children."""
    if not hasattr(os, "fork"):
        pytest.skip("children are forked, which this system cannot")
    forker = Forker(tmp_path_factory.mktemp("forker") / "errors.txt")
    yield forker
    forker.process.stdin.close()
    forker.process.wait(20)
    forker.process.stdout.close()


def test_ten_kills_show_no_wrong_file_and_lose_nothing_that_arrived(tmp_path, serve, forks, seed):
    rng = random.Random(seed)
    files = {f"{i:02}.dat": rng.randbytes(60_000) for i in range(20)}
    server = serve(files)
    server.chunk, server.pause = 4096, 0.02  # 1.5 s in all, of which each child gets 0.06 s on average
    folder = tmp_path / "home"

    def whole():
        right = {name: (folder / name).read_bytes() == body for name, body in files.items() if (folder / name).exists()}
        assert all(right.values()), right
        return len(right)

    def partial():
        sizes = {}
        for path in folder.glob("*.dat.*.part"):
            with contextlib.suppress(FileNotFoundError):  # whole and renamed meanwhile
                sizes[f"{path.name[:2]}.dat"] = path.stat().st_size
        return sizes

    def check_resumed(left, begun):
        """Every byte that was on the disk at the kill is kept: the next request for the file begins behind it."""
        for name, size in left.items():
            offsets = [headers.get("Range") for path, headers in server.requests[begun:] if path == name]
            assert offsets[:1] in ([], [f"bytes={size}-" if size else None])

    left, begun, kept = {}, 0, 0
    for round_ in range(10):
        child = forks.fetch(server, folder, files)
        deadline = time.monotonic() + 10
        while len(server.requests) <= begun and time.monotonic() < deadline:
            time.sleep(0.002)
        if round_ % 3 == 2:  # in the middle of a file, however slow the machine is
            while not any(partial().values()) and time.monotonic() < deadline:
                time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.12))
        os.kill(child, signal.SIGKILL)
        assert forks.wait(child) == -signal.SIGKILL
        whole()
        check_resumed(left, begun)
        left, begun = partial(), len(server.requests)
        kept += sum(left.values())
    server.pause = 0.0
    assert forks.wait(forks.fetch(server, folder, files)) == 0
    check_resumed(left, begun)
    assert whole() == 20 and names(folder) == sorted(files) and kept > 0


def test_four_processes_ask_for_each_file_once(tmp_path, serve, forks):
    files = {f"{i}.dat": os.urandom(20_000) for i in range(6)}
    server = serve(files)
    server.pause = 0.02
    children = [forks.fetch(server, tmp_path / "home", files) for _ in range(4)]
    assert [forks.wait(child) for child in children] == [0, 0, 0, 0]
    assert sorted(server.paths()) == sorted([*files, "SHA256SUMS.txt"])
    for name, body in files.items():
        assert (tmp_path / "home" / name).read_bytes() == body


def test_disk_that_fills_up_leaves_nothing_half_written(tmp_path, serve, forks):
    server = serve(FILES)
    folder = tmp_path / "home"
    assert forks.wait(forks.fetch(server, folder, ["a.dat"], limit=100_000)) == 2
    message = forks.errors.read_text()
    assert "OSError" in message and str(folder) in message and "set data_home" in message
    assert names(folder) == []


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [("022", 0o644, 0o755), ("077", 0o600, 0o700)])
def test_modes_follow_the_umask(tmp_path, serve, forks, mask, file_mode, folder_mode):
    server = serve(FILES)
    folder = tmp_path / "home"
    assert forks.wait(forks.fetch(server, folder, ["a.dat", "sub/c.dat"], mask=mask)) == 0
    for path in (folder / "a.dat", folder / "sub" / "c.dat", folder / "SHA256SUMS.txt"):
        assert path.stat().st_mode & 0o777 == file_mode, path
    assert folder.stat().st_mode & 0o777 == folder_mode
