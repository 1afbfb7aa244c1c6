"""One file over HTTP: resumed, hashed before it gets its name, retried only for what can pass."""

from __future__ import annotations

import contextlib
import email.utils
import errno
import http.client
import os
import random
import re
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ._home import DATA_VARIABLE, MissingFileError
from ._registry import sha256

_CAN_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHUNK = 1 << 16
_PROGRESS = 1 << 20  # bytes that an attempt must gain to count as one that got on
_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})  # no quotas on Windows
_ACCOUNT = (
    f"the database may need a PhysioNet account, or the server is in maintenance; download it yourself and set "
    f"data_home or {DATA_VARIABLE} to its folder"
)


class DownloadError(MissingFileError):
    """A file could not be downloaded; nothing lies under its name."""


class AbsentError(DownloadError):
    """The server has no such file."""


@dataclass(frozen=True)
class Policy:
    """How patient and how polite downloads are; times in s.

    The times keep two servers that answer nothing, or drop by drop, from holding a call for more than a minute.
    """

    connect: float = 10.0
    read: float = 12.0
    slow_after: float = 12.0  # a shorter stretch says nothing about the speed
    min_speed: float = 500.0  # bytes/s
    attempts: int = 4
    stalls: int = 2  # attempts that may end in silence or in drops
    back_off: float = 1.0  # doubled at each attempt
    longest_wait: float = 60.0  # a server that asks for more is left
    connections: int = 4
    failures: int = 3  # files in a row after which a server is taken to be down
    refusals: int = 20  # files that a server refuses before it is asked for no more
    lock: float = 3600.0


class _PassingError(Exception):
    """Something that a further attempt may not meet again."""

    def __init__(self, reason: str, *, wait: float | None = None, stalled: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.stalled = wait, stalled


class Client:
    """Downloads from the first source that answers; safe to use from several threads.

    Parameters
    ----------
    sources : list of str
        Addresses of the same database, tried in this order.
    policy : Policy
        Times and numbers of attempts.
    resume : bool
        Whether partial files keep a common name, so that a later call goes on from them. Only where a lock keeps
        other processes away.
    """

    def __init__(self, sources: list[str], policy: Policy, *, resume: bool) -> None:
        self.sources, self.policy, self.resume = sources, policy, resume
        self._stop = threading.Event()
        self._failed: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}
        self._local = threading.local()

    def give_up(self, *, keep: bool) -> None:
        """Let all threads end at their next chunk; keep their partial files or not."""
        self.resume = self.resume and keep
        self._stop.set()

    def fetch(
        self,
        name: str,
        target: Path,
        wanted: str | None,
        *,
        accept: Callable[[Path], bool] | None = None,
        limit: int | None = None,
        query: str = "",
    ) -> str:
        """Download one file to its place.

        Parameters
        ----------
        name : str
            Path inside the database; with ``/`` at its end a page that lists a folder.
        target : pathlib.Path
            Where the file goes, in one step, when it is whole and has the wanted sum.
        wanted : str or None
            Its SHA-256 sum; None where no list of sums is known.
        accept : callable, default=None
            Is shown a whole file that had another sum twice, and tells whether it is taken all the same.
        limit : int, default=None
            Most bytes that are received.
        query : str, default=""
            What stands behind ``?`` in the address.

        Returns
        -------
        digest : str
            The sum of what arrived.

        Raises
        ------
        DownloadError
            Where no source has the file or none delivers it whole.
        OSError
            Where it cannot be written.
        """
        reasons: list[str] = []
        for source in self.sources:
            if self._failed[source] >= self.policy.failures or self._refused[source] >= self.policy.refusals:
                reasons.append(f"{source}/{name}: not tried, for the server failed or refused before")
                continue
            transfer = _Transfer(self, source, name, target, wanted, accept, limit, query)
            try:
                digest = transfer.run()
            except _PassingError as problem:
                reasons.append(f"{transfer.address}: {problem}")
                self._failed[source] += 1
            except AbsentError as problem:
                if not reasons:  # the first that answers knows what the database has
                    raise
                reasons.append(str(problem))
            except DownloadError as problem:  # refused, or not what the list of sums says: the next one may have it
                reasons.append(str(problem))
                self._refused[source] += 1
            else:
                self._failed[source] = 0
                return digest
        raise DownloadError("; ".join(reasons), [name])

    @property
    def stopped(self) -> bool:
        """Whether the threads are to end."""
        return self._stop.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the moment when all is given up."""
        self._stop.wait(min(seconds, self.policy.longest_wait))

    def hold(self, source: str, seconds: float) -> None:
        """Let no thread ask a source before it wants to be asked again."""
        self._not_before[source] = max(time.monotonic() + seconds, self._not_before.get(source, 0.0))

    def wait_turn(self, source: str) -> None:
        """Sleep until a source may be asked."""
        if (pause := self._not_before.get(source, 0.0) - time.monotonic()) > 0:
            self.wait(pause)

    @property
    def session(self) -> Any:
        """Session of the calling thread."""
        if not hasattr(self._local, "session"):
            import requests

            from .. import __version__

            self._local.session = requests.Session()
            self._local.session.headers.update({"User-Agent": f"skecg/{__version__}", "Accept-Encoding": "identity"})
        return self._local.session


class _Transfer:
    """One file from one source, in as many attempts as may help."""

    def __init__(
        self,
        client: Client,
        source: str,
        name: str,
        target: Path,
        wanted: str | None,
        accept: Callable[[Path], bool] | None,
        limit: int | None,
        query: str,
    ) -> None:
        self.client, self.policy, self.source, self.name = client, client.policy, source, name
        self.address = f"{source}/{quote(name, safe='/')}{'?' if query else ''}{query}"
        self.target, self.wanted, self.accept, self.limit = target, wanted, accept, limit
        self.steady = wanted is not None and client.resume
        # Under the lock a name that stays lets the next call find what a killed one left, to go on from or to replace.
        end = f"{wanted[:8] if wanted else '0' * 8}.part" if client.resume else f"part-{uuid.uuid4()}"
        self.part = target.with_name(f"{target.name}.{end}")
        self.tag: str | None = None  # the server's name of these very bytes

    def run(self) -> str:
        """Return the sum of the file, which then lies in its place."""
        keep = False
        try:
            return self._attempts()
        except (_PassingError, KeyboardInterrupt):
            keep = self.steady and self.client.resume
            raise
        finally:
            if not keep:
                with contextlib.suppress(OSError):
                    self.part.unlink()

    def _attempts(self) -> str:
        attempt = stalls = mismatches = 0
        while True:
            if self.client.stopped:
                raise _PassingError("given up, for another file failed")
            before = self._size()
            self.client.wait_turn(self.source)
            try:
                self._attempt()
            except _PassingError as problem:
                stalls += problem.stalled
                attempt = 0 if self._size() - before >= _PROGRESS else attempt + 1  # a long file on a bad line gets on
                if attempt >= self.policy.attempts or stalls >= self.policy.stalls or self.client.stopped:
                    raise
                if problem.wait:
                    if problem.wait > self.policy.longest_wait:
                        raise
                    self.client.hold(self.source, problem.wait)
                pause = self.policy.back_off * 2 ** max(attempt - 1, 0) * (0.5 + random.SystemRandom().random())
                self.client.wait(problem.wait or pause)
                continue
            digest = sha256(self.part)
            fits = self.wanted is None or digest == self.wanted
            if not fits and mismatches == 1 and self.accept is not None:
                fits = self.accept(self.part)
            if fits:
                _settle(self.part, self.target)
                return digest
            self.part.unlink()
            mismatches += 1  # once more, for bytes can be damaged on the way
            if mismatches > 1:
                raise DownloadError(
                    f"{self.address}: expected the SHA-256 sum {self.wanted}, got {digest}, twice: the file on the "
                    f"server is not the one in its list of sums; nothing was kept",
                    [self.name],
                )

    def _attempt(self) -> None:
        """Make one request and append what comes to the partial file."""
        import requests
        import urllib3

        # Without sum and tag nothing would tell whether the rest belongs to what is there.
        offset = self._size() if self.wanted or self.tag else 0
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and self.tag:
            headers["If-Range"] = self.tag
        policy = self.policy
        try:
            with self.client.session.get(
                self.address, headers=headers, stream=True, timeout=(policy.connect, policy.read)
            ) as answer:
                begin = self._check(answer, offset)
                if begin is not None:
                    self.tag = _strong_tag(answer)
                    self._receive(answer, begin)
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError) as error:
            raise _PassingError(f"no answer within {policy.read:g} s", stalled=True) from error
        except (ValueError, requests.exceptions.TooManyRedirects) as error:
            if isinstance(error, MissingFileError):
                raise
            raise DownloadError(f"{self.address}: {_short(error)}", [self.name]) from error  # such as no valid address
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            ConnectionError,
        ) as error:
            raise _PassingError(_short(error)) from error

    def _check(self, answer: Any, offset: int) -> int | None:
        """Judge status and headers; return where the body begins, None where the partial file is whole already."""
        status, address, name = answer.status_code, self.address, self.name
        if address.startswith("https:") and not answer.url.startswith("https:"):
            raise DownloadError(f"{address} leads to {answer.url}, which is not encrypted", [name])
        if status in (404, 410):
            raise AbsentError(f"{address}: not found ({status}): the database has no such file", [name])
        if status in (401, 403):
            raise DownloadError(f"{address}: refused ({status}): {_ACCOUNT}", [name])
        if status in _CAN_PASS:
            wait = _retry_after(answer.headers.get("Retry-After"))
            asks = f" and asks to wait {wait:.0f} s" if wait else ""
            raise _PassingError(f"the server answers {status}{asks}", wait=wait)
        span = answer.headers.get("Content-Range", "")
        if status == 416:  # nothing beyond what is there: it is whole, or it is something else
            if offset and span == f"bytes */{offset}":
                return None
            raise self._restart("the partial file does not fit the server's")
        if status not in (200, 206):
            raise DownloadError(f"{address}: the server answers {status}", [name])
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml") and not name.endswith((".html", ".htm", "/")):
            raise DownloadError(f"{address}: a web page came instead of the file: {_ACCOUNT}", [name])
        if status == 200:
            return 0
        match, tag = re.match(r"bytes (\d+)-", span), _strong_tag(answer)
        if not offset or not match or int(match[1]) != offset or (self.tag and tag and self.tag != tag):
            raise self._restart("the server sent another part, or a part of another file, than was asked for")
        return offset

    def _restart(self, reason: str) -> _PassingError:
        self.part.unlink(missing_ok=True)
        self.tag = None
        return _PassingError(reason, wait=0.01)

    def _receive(self, answer: Any, offset: int) -> None:
        """Write the body behind the first ``offset`` bytes of the partial file."""
        encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
        length = answer.headers.get("Content-Length", "")
        expected = int(length) if length.isdigit() and not encoded else None
        folder = self.part.parent
        if expected is not None and shutil.disk_usage(folder).free < expected:
            raise self._no_room(errno.ENOSPC, expected)
        # read1 returns what has come; read would wait for a whole chunk, and never see how slowly it fills.
        read1 = None if encoded else getattr(answer.raw, "read1", None)
        mark, received, since = time.monotonic(), 0, 0
        # Unbuffered: what was received is out of this process when the process is killed.
        with self.part.open("r+b" if offset else "wb", buffering=0) as file:
            file.seek(offset)
            file.truncate()
            while chunk := read1(_CHUNK) if read1 else answer.raw.read(512, decode_content=True):
                view = memoryview(chunk)
                while view:
                    try:
                        view = view[file.write(view) :]
                    except OSError as error:
                        if error.errno in _FULL:
                            left = None if expected is None else offset + expected - file.tell()
                            raise self._no_room(error.errno, left) from error
                        raise
                received += len(chunk)
                if self.client.stopped:
                    raise _PassingError("given up, for another file failed")
                if self.limit is not None and received > self.limit:
                    raise DownloadError(f"{self.address}: longer than {self.limit:,} bytes", [self.name])
                seconds = time.monotonic() - mark
                if seconds >= self.policy.slow_after:
                    if received - since < self.policy.min_speed * seconds:
                        raise _PassingError(f"only {received - since} bytes came in {seconds:.0f} s", stalled=True)
                    mark, since = time.monotonic(), received
            os.fsync(file.fileno())
        if expected is not None and received < expected:
            raise _PassingError(f"the connection ended after {received:,} of {expected:,} bytes")

    def _no_room(self, number: int, need: int | None) -> OSError:
        """Return the error for a disk that is full, or a quota that is used up."""
        folder = self.part.parent
        more = "more" if need is None else f"{need:,}"
        reason = f"{os.strerror(number)}: {self.name} needs {more} bytes, {shutil.disk_usage(folder).free:,} are free"
        return OSError(number, reason, str(folder))

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


def _settle(part: Path, target: Path) -> None:
    """Give a whole file its name, and see to it that the name survives a power cut."""
    os.replace(part, target)
    with contextlib.suppress(OSError):  # folders cannot be opened everywhere
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _strong_tag(answer: Any) -> str | None:
    """Return the tag that names these very bytes; a weak one may be the same for others."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else None


def _retry_after(value: str | None) -> float | None:
    """Return the s that a server asks to wait, given as a number or as a date."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, moment.timestamp() - time.time())


def _short(error: BaseException) -> str:
    """Return the innermost reason, which requests and urllib3 wrap several times."""
    while True:
        inner = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, BaseException)), None)
        if not isinstance(inner, BaseException):
            return " ".join(str(error).split())[:200] or type(error).__name__
        error = inner
