"""Kill fetching processes at random moments: `python tests/datasets/kill_fetch.py --kills 200` prints what was seen."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.datasets.conftest import Server  # noqa: E402 - found only after the line above

# A process that has imported everything once forks a child for each line it reads, so that a child costs no start.
_FORKER = """
import ctypes, os, resource, signal, sys, types
from pathlib import Path
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "quick":
    package = types.ModuleType("skecg.datasets")  # without its __init__, which loads scikit-learn
    package.__path__ = [os.path.join(sys.argv[1], "skecg", "datasets")]
    sys.modules["skecg.datasets"] = package
else:
    from skecg.datasets import fetch_physionet
import requests, filelock, tqdm.auto
from skecg.datasets._databases import MITDB, Database
from skecg.datasets._download import fetch_files
from skecg.datasets._http import Policy
database = Database("mitdb", "mitdb", "1.0.0", "A database", 360.0, ())

def give_up_rights():
    # root may write everywhere, unless it lays its capabilities down
    if sys.platform == "linux":
        head, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None).capset(head, none):
            raise RuntimeError("capabilities cannot be laid down")

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
                give_up_rights()
                if limit:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                if names:
                    fetch_files(Path(folder), names, database, verbose=0, policy=Policy(back_off=0.01))
                elif sys.argv[2] == "quick":
                    names = [file for record in MITDB.records for file in MITDB.files(record)]
                    fetch_files(Path(folder, "mitdb"), names, MITDB, verbose=0)
                else:
                    fetch_physionet("mitdb", data_home=folder, verbose=0)
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
    """Starts children that fetch, and waits for them; ``errors`` gets what they say.

    With ``quick`` they call what all fetchers call, without what takes long to import; else ``fetch_physionet``.
    """

    def __init__(self, errors: Path, *, quick: bool = False) -> None:
        self.errors = errors
        with errors.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _FORKER, str(ROOT), "quick" if quick else "public"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                bufsize=1,
            )

    def say(self, *words: object) -> int:
        """Send a line, and return the number that comes back."""
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        return int(self.process.stdout.readline())

    def fetch(self, server: Server, folder: Path, files=(), *, limit: int = 0, mask: str = "022") -> int:
        """Start a child that fetches files into a folder; without files, mitdb into a data home. Return its number."""
        return self.say("fetch", server.url, folder, limit, mask, *files)

    def wait(self, child: int) -> int:
        """Return the status of a child, once it has ended."""
        return self.say("wait", child)

    def close(self) -> None:
        """Let the process end."""
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


class CountingServer(Server):
    """A slow server that counts the bytes it sends; ``rate`` in bytes/s and connection, 0 for no limit."""

    def __init__(self, files: dict[str, bytes], rate: float) -> None:
        super().__init__(files)
        self.rate, self.sent = rate, Counter()
        self.chunk = 1 << 14

    def send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str],
        until: int | None = None,
    ) -> None:
        """Send an answer piece by piece."""
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        path = handler.path.removeprefix(self.prefix)
        for i in range(0, len(body), self.chunk):
            piece = body[i : i + self.chunk]
            if self.rate:
                time.sleep(len(piece) / self.rate)
            handler.wfile.write(piece)
            with self.lock:
                self.sent[path] += len(piece)


class Watcher:
    """Looks at all files of a folder all the time, and keeps what was ever seen wrong under a final name."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.folder = folder
        self.right = {name: hashlib.sha256(body).digest() for name, body in files.items()}
        self.wrong: set[str] = set()
        self.looks = 0
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self.look()

    def look(self) -> set[str]:
        """Compare every file that has changed; return the names of those that are there."""
        there = set()
        with self._lock:
            self.looks += 1
            for name in self.right:
                with contextlib.suppress(FileNotFoundError):
                    stat = (self.folder / name).stat()
                    there.add(name)
                    state = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
                    if self._seen.get(name) != state:
                        if hashlib.sha256((self.folder / name).read_bytes()).digest() != self.right[name]:
                            self.wrong.add(name)
                        self._seen[name] = state
        return there

    def partial(self) -> dict[str, int]:
        """Return the names and sizes of the partial files."""
        sizes = {}
        for path in self.folder.rglob("*.part"):
            name = path.relative_to(self.folder).as_posix().rsplit(".", 2)[0]
            if name in self.right and name != "SHA256SUMS.txt":
                with contextlib.suppress(FileNotFoundError):  # whole and renamed meanwhile
                    sizes[name] = path.stat().st_size
        return sizes


def make_records(n_timesteps: int, seed: int) -> dict[str, bytes]:
    """Return the files of 48 made-up records with the names and the format of mitdb."""
    from skecg.datasets._databases import MITDB

    rng = np.random.default_rng(seed)
    files: dict[str, bytes] = {}
    for record in MITDB.records:
        digital = rng.integers(-1000, 1000, size=(n_timesteps, 2))
        a, b = (digital & 0xFFF).T
        packed = np.stack([a & 0xFF, a >> 8 | b >> 8 << 4, b & 0xFF], axis=1).astype(np.uint8)
        sums = (digital.sum(axis=0) + 32768) % 65536 - 32768
        lines = [f"{record} 2 360 {n_timesteps}"]
        for i, lead in enumerate(("MLII", "V5")):
            lines.append(f"{record}.dat 212 200 11 0 {digital[0, i]} {sums[i]} 0 {lead}")
        beats = np.arange(100, n_timesteps, 300)
        # an annotation is 10 bits of time since the last one and 6 bits of code; two bytes of 0 end the file
        codes = (1 << 10 | np.diff(beats, prepend=0)).astype("<u2").tobytes() + b"\0\0"
        files |= {
            f"{record}.hea": ("\r\n".join(lines) + "\r\n").encode(),
            f"{record}.dat": packed.tobytes(),
            f"{record}.atr": codes,
        }
    return files


def kill_fetches(
    kills: int,
    folder: Path,
    forker: Forker,
    *,
    n_timesteps: int = 650_000,
    rate: float = 1_000_000.0,
    life: float = 0.5,
    seed: int = 0,
) -> Counter[str]:
    """Fetch 48 records again and again, each time killed at a random moment, and count what was seen.

    Parameters
    ----------
    kills : int
        Processes that are killed while they fetch.
    folder : pathlib.Path
        Where the data homes are made; a new one, once all files have come.
    forker : Forker
        Starts the processes.
    n_timesteps : int, default=650_000
        Length of a record in samples.
    rate : float, default=1_000_000.0
        What the server sends on each connection, bytes/s.
    life : float, default=0.5
        Longest life of a process from its first request, s.
    seed : int, default=0
        Of the signals and the moments.

    Returns
    -------
    result : Counter
        ``kills``; ``wrong``: files that ever lay wrong under their names; ``asked_again``: bytes that were on the disk
        at a kill and were asked for again; ``sent_again``: bytes that the server sent beyond the files' sizes;
        ``most_sent_again``: the most of them after one kill; ``unread``: records that could not be read in the end, or
        whose checksums did not agree; ``failed``: last fetches that did not complete; ``left``: partial files left.
    """
    from skecg.datasets import read_record

    rng = random.Random(seed)
    files = make_records(n_timesteps, seed)
    result = Counter(kills=0, wrong=0, files=len(files), bytes=sum(map(len, files.values())))
    server = CountingServer(files, rate)
    try:
        while result["kills"] < kills:
            home = folder / f"home{result['homes']}"
            result["homes"] += 1
            _kill_in(home, kills, files, server, forker, rng, life, result)
            for record in {name.partition(".")[0] for name in files}:
                found = read_record(home / "mitdb" / record, annotator="atr")
                result["unread"] += not found.verified or found.n_timesteps != n_timesteps
                result["read"] += 1
    finally:
        server.close()
    return result


def _kill_in(
    home: Path,
    kills: int,
    files: dict[str, bytes],
    server: CountingServer,
    forker: Forker,
    rng: random.Random,
    life: float,
    result: Counter[str],
) -> None:
    """Kill fetches into one data home until it is whole or all kills are done, then let one end."""
    server.sent.clear()
    with Watcher(home / "mitdb", files | {"SHA256SUMS.txt": server.files["SHA256SUMS.txt"]}) as watcher:
        left: dict[str, int] = {}
        while True:
            begun = len(server.requests)
            before = _surplus(server, files, watcher)
            last = result["kills"] >= kills
            child = forker.fetch(server, home)
            if not last:
                status = _kill(child, forker, server, begun, rng.uniform(0, life))
            else:
                server.rate = 0
                status = forker.wait(child)
            # Every byte that was on the disk is kept: the next request for a file begins behind it.
            for name, size in left.items():
                first = next((h.get("Range") for path, h in server.requests[begun:] if path == name), f"bytes={size}-")
                begin = int(first.removeprefix("bytes=").removesuffix("-")) if first else 0
                result["asked_again"] += max(0, size - begin)
            result["kept"] += sum(left.values())
            left = watcher.partial()
            there = watcher.look()
            if status == -signal.SIGKILL:
                result["kills"] += 1
                result["cut"] += bool(left)
                again = _surplus(server, files, watcher) - before
                result["most_sent_again"] = max(result["most_sent_again"], again)
                continue
            result["failed"] += status != 0 or set(files) - there != set()
            break
        result["sent_again"] += sum(server.sent[name] - len(body) for name, body in files.items())
        result["left"] += len(left)
        result["wrong"] += len(watcher.wrong)
        result["looks"] += watcher.looks


def _surplus(server: CountingServer, files: dict[str, bytes], watcher: Watcher) -> int:
    """Return the bytes that were sent but are not on the disk, at this moment."""
    there, partial = watcher.look(), watcher.partial()
    with server.lock:
        sent = sum(server.sent[name] for name in files)
    return sent - sum(len(files[name]) for name in there & set(files)) - sum(partial.values())


def _kill(child: int, forker: Forker, server: CountingServer, begun: int, delay: float) -> int:
    """Kill a child some time after its first request, or after as long without one; return its status."""
    deadline = time.monotonic() + 1
    while len(server.requests) <= begun and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(delay)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return forker.wait(child)


def table(result: Counter[str], seconds: float) -> Iterator[str]:
    """Yield the lines of a table of what was seen."""
    rows = [
        ("processes killed", result["kills"]),
        ("of them in the middle of a file", result["cut"]),
        ("databases completed", f"{result['homes']} of {result['files']} files, {result['bytes'] / 1e6:.1f} MB each"),
        ("looks at all files", result["looks"]),
        ("wrong files seen under a final name", result["wrong"]),
        ("last fetches that did not complete", result["failed"]),
        ("partial files left in the end", result["left"]),
        ("records read in the end, checksums agree", f"{result['read'] - result['unread']} of {result['read']}"),
        ("bytes in partial files that were gone on from", result["kept"]),
        ("bytes on the disk that were asked for again", result["asked_again"]),
        ("bytes lost under way (4 connections), a kill", round(result["sent_again"] / max(1, result["kills"]))),
        ("most of them at one kill", result["most_sent_again"]),
        ("duration, s", f"{seconds:.0f}"),
    ]
    width = max(len(name) for name, _ in rows)
    yield from (f"{name:{width}}  {f'{value:,}' if isinstance(value, int) else value}" for name, value in rows)


def main() -> int:
    """Run the command; 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="processes that are killed")
    parser.add_argument("--seed", type=int, default=0, help="seed of the signals and of the moments")
    parser.add_argument("--timesteps", type=int, default=650_000, help="samples of a record (mitdb has 650,000)")
    settings = parser.parse_args()
    start = time.monotonic()
    os.environ["NO_PROXY"] = "*"
    with tempfile.TemporaryDirectory(prefix="skecg-kills-") as folder:
        forker = Forker(Path(folder, "errors.txt"))
        try:
            result = kill_fetches(
                settings.kills, Path(folder), forker, n_timesteps=settings.timesteps, seed=settings.seed
            )
        finally:
            forker.close()
        errors = Path(folder, "errors.txt").read_text()
    sys.stdout.write("\n".join([*table(result, time.monotonic() - start), errors]) + "\n")
    return int(any(result[name] for name in ("wrong", "failed", "left", "unread", "asked_again")))


if __name__ == "__main__":
    sys.exit(main())
