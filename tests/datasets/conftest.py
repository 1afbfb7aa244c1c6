"""Records that the tests write themselves, and a local server that misbehaves as it is told."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests  # noqa: F401 - changes the warnings filters when it is first imported, which no test may seem to do


@pytest.fixture(autouse=True)
def no_home(monkeypatch, tmp_path):
    """Keep every test away from the user's data, from proxies and from PhysioNet."""
    monkeypatch.setenv("SKECG_DATA", str(tmp_path / "data_home"))
    monkeypatch.setenv("SKECG_PHYSIONET_URL", "http://127.0.0.1:9")  # the discard port: refused
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("SKECG_OFFLINE", raising=False)


def _triplets(samples: np.ndarray) -> np.ndarray:
    """Return samples of 10 bits three by three, as both formats that pack them want it."""
    return np.pad(samples, (0, -len(samples) % 3)).reshape(-1, 3).astype(np.uint32) & 0x3FF


def _format_310(samples: np.ndarray) -> bytes:
    a, b, c = _triplets(samples).T
    pairs = np.stack([a << 1 | (c & 0x1F) << 11, b << 1 | (c >> 5) << 11], axis=1).astype("<u2")
    return pairs.tobytes()[: 4 * (len(samples) // 3) + 2 * (len(samples) % 3)]


def _format_311(samples: np.ndarray) -> bytes:
    a, b, c = _triplets(samples).T
    rest = len(samples) % 3
    return (a | b << 10 | c << 20).astype("<u4").tobytes()[: 4 * (len(samples) // 3) + (rest and rest + 1)]


# Formats that wfdb reads and does not write, encoded as the manual describes them.
_ENCODE: dict[str, Callable[[np.ndarray], bytes]] = {
    "61": lambda samples: samples.astype(">i2").tobytes(),
    "160": lambda samples: (samples + 32768).astype("<u2").tobytes(),
    "310": _format_310,
    "311": _format_311,
}


@pytest.fixture
def write_record() -> Callable[..., np.ndarray]:
    """Return a function that writes a WFDB record with wfdb and returns its digital samples (n_timesteps, n_leads)."""

    def write(
        folder: Path,
        name: str = "100",
        *,
        fs: float = 360,
        n: int = 3600,
        leads: tuple[str, ...] = ("MLII", "V5"),
        fmt: str = "212",
        gain: float = 200.0,
        baseline: int = 1024,
        beats: tuple[tuple[int, str], ...] = (),
        seed: int = 0,
    ) -> np.ndarray:
        import wfdb

        top = {"80": 120, "508": 120, "310": 500, "311": 500, "212": 2000}.get(fmt, 3000)
        digital = np.random.default_rng(seed).integers(-top, top, size=(n, len(leads)))
        folder.mkdir(parents=True, exist_ok=True)
        wfdb.wrsamp(
            name,
            fs,
            ["mV"] * len(leads),
            list(leads),
            d_signal=digital,
            fmt=["16" if fmt in _ENCODE else fmt] * len(leads),
            adc_gain=[gain] * len(leads),
            baseline=[baseline] * len(leads),
            write_dir=str(folder),
        )
        if fmt in _ENCODE:
            header = folder / f"{name}.hea"
            header.write_text(header.read_text().replace(".dat 16 ", f".dat {fmt} "))
            (folder / f"{name}.dat").write_bytes(_ENCODE[fmt](digital.ravel()))
        if beats:
            sample, symbol = zip(*beats, strict=True)
            wfdb.wrann(name, "atr", np.array(sample), symbol=np.array(symbol), write_dir=str(folder))
        return digital

    return write


def sums_of(files: dict[str, bytes]) -> bytes:
    """Return a list of sums as PhysioNet serves it."""
    return "".join(f"{hashlib.sha256(body).hexdigest()} {name}\n" for name, body in files.items()).encode()


class Server:
    """Serves ``files``; before each answer the next fault of that file, if there is one, has its way.

    A fault is a function of (handler, body) that returns True where it has answered itself, or a dict of changes to a
    right answer (``body``, ``tag``, ``ranges``, ``type``).
    """

    def __init__(self, files: dict[str, bytes], prefix: str = "/mitdb/1.0.0/") -> None:
        self.files, self.prefix = dict(files), prefix
        self.files.setdefault("SHA256SUMS.txt", sums_of(files))
        self.faults: dict[str, list] = defaultdict(list)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.pause, self.chunk = 0.0, 1 << 16
        self.lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the other side was killed
                    super().handle()

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                with contextlib.suppress(OSError):
                    owner.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.stopping = threading.Event()
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def paths(self) -> list[str]:
        """Return what was asked for, in order."""
        return [path for path, _ in self.requests]

    def ranges(self, name: str) -> list[str | None]:
        """Return the Range header of each request for a file."""
        return [headers.get("Range") for path, headers in self.requests if path == name]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = handler.path.removeprefix(self.prefix)
        with self.lock:
            self.requests.append((path, dict(handler.headers.items())))
            fault = self.faults[path].pop(0) if self.faults[path] else {}
        body = self.files.get(path)
        if callable(fault):
            if fault(handler, body):
                return
            fault = {}
        if body is None or not handler.path.startswith(self.prefix):
            return self.send(handler, 404, b"no such file", {"Content-Type": "text/plain"})
        body = fault.get("body", body)
        tag = fault.get("tag", f'"{hashlib.sha256(body).hexdigest()[:12]}"')
        headers = {"Content-Type": fault.get("type", "application/octet-stream"), "ETag": tag}
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        fits = handler.headers.get("If-Range", tag) == tag
        start, status = 0, 200
        if wanted and fits and fault.get("ranges", True):
            start, status = int(wanted[1]) + fault.get("skip", 0), 206
            if start >= len(body):
                return self.send(handler, 416, b"", headers | {"Content-Range": f"bytes */{len(body)}"})
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return self.send(handler, status, body[start:], headers, until=fault.get("until"))

    def send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str],
        until: int | None = None,
    ) -> None:
        """Send an answer, or the first ``until`` bytes of it before the line breaks."""
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        part = body if until is None else body[:until]
        for i in range(0, len(part), self.chunk):
            handler.wfile.write(part[i : i + self.chunk])
            if self.pause:
                time.sleep(self.pause)
        if until is not None:
            handler.close_connection = True
            handler.connection.shutdown(2)

    def close(self) -> None:
        """Stop serving."""
        self.stopping.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def serve(monkeypatch) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server of some files and points skecg to it; further ones are further sources."""
    servers: list[Server] = []

    def start(files: dict[str, bytes], **kwargs: str) -> Server:
        servers.append(Server(files, **kwargs))
        monkeypatch.setenv("SKECG_PHYSIONET_URL", " ".join(server.url for server in servers))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real PhysioNet records, where the environment names one."""
    home = Path(os.environ.get("SKECG_DATA", ""))
    if not os.environ.get("SKECG_DATA") or not (home / "mitdb" / "100.dat").is_file():
        pytest.skip("SKECG_DATA names no folder with the records of mitdb: real records are no part of skecg")
    return home.absolute()
