"""What is known of a database's files: the list of sums that PhysioNet serves, the list of records, and our stamps."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Container
from pathlib import Path

from ._home import check_relative

SUMS_NAME = "SHA256SUMS.txt"
RECORDS_NAME = "RECORDS"
STAMPS_NAME = ".skecg-verified.json"
MAX_LIST_BYTES = 16 << 20
MAX_LISTS = 100_000
_SUM_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *]?(\S.*)")


def parse_sums(content: bytes | str, source: str) -> dict[str, str]:
    """Parse a list of SHA-256 sums as ``sha256sum`` writes it, strictly.

    Parameters
    ----------
    content : bytes or str
        The list: a sum of 64 hexadecimal digits, one or two blanks (or a blank and ``*``) and a path, on each line.
    source : str
        Where it comes from, for messages.

    Returns
    -------
    sums : dict
        Path in the database to sum, in lower case.

    Raises
    ------
    ValueError
        With the number of the line, for whatever is no such list: a web page, a path that leads out of the database,
        a path met twice, an empty list.
    """
    sums: dict[str, str] = {}
    for number, line in _lines(content, source):
        match = _SUM_LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{source}, line {number}: expected a SHA-256 sum and a path, got {line[:60]!r}; the server may be in "
                f"maintenance or want a login"
            )
        name = check_relative(match[2], f"{source}, line {number}")
        if name in sums:
            raise ValueError(f"{source}, line {number}: {name!r} is listed twice")
        sums[name] = match[1].lower()
    if not sums:
        raise ValueError(f"{source}, line 1: the list of sums is empty")
    return sums


def parse_records(
    content: bytes | str, source: str, sums: Container[str] | None = None, folder: str = ""
) -> tuple[list[str], int]:
    """Parse a RECORDS list, and drop what the list of sums does not know.

    PhysioNet's RECORDS lists name records that are not there (each of the Challenge's folders claims the first record
    of the next), so they are counted, not believed.

    Parameters
    ----------
    content : bytes or str
        One record a line, as a path without extension; a ``/`` at the end means a folder.
    source : str
        Where it comes from, for messages.
    sums : container of str, default=None
        Paths that exist, for instance a mapping of them to their sums.
    folder : str, default=""
        Where the list lies inside the database, with ``/`` at its end; its lines count from there.

    Returns
    -------
    records : list of str
        As paths inside the database, without repetition, in the order of the list.
    n_unknown : int
        Lines that no header in ``sums`` answers to.

    Raises
    ------
    ValueError
        With the number of the line, for an unsafe name or an empty list.
    """
    names: dict[str, None] = {}
    for number, line in _lines(content, source):
        if not line.strip():
            continue
        names[folder + line] = None
        check_relative((folder + line).removesuffix("/"), f"{source}, line {number}")
    if not names:
        raise ValueError(f"{source}, line 1: the list of records is empty")
    known = [name for name in names if sums is None or name.endswith("/") or f"{name}.hea" in sums]
    return known, len(names) - len(known)


def walk_records(
    read: Callable[[str], bytes | None], sums: Container[str] | None = None, start: str = ""
) -> tuple[list[str], list[str], int]:
    """Collect the records of a database from its RECORDS list and those of the folders that it names.

    Parameters
    ----------
    read : callable
        Gets the path of a list inside the database, and returns its content, or None where there is none.
    sums : container of str, default=None
        Paths that exist.
    start : str, default=""
        Folder whose list is the first, with ``/`` at its end.

    Returns
    -------
    records : list of str
        In the order of the lists.
    lists : list of str
        Paths of the lists that were read.
    n_unknown : int
        Lines to which no header and no folder's list answers.

    Raises
    ------
    ValueError
        With list and line, as :func:`parse_records`; and for lists without end.
    """
    records: dict[str, None] = {}
    lists: list[str] = []
    n_unknown, waiting = 0, [start]
    while waiting:
        name = waiting.pop()
        if name and not name.endswith("/"):
            records[name] = None
            continue
        path = name + RECORDS_NAME
        content = read(path)
        if content is None:
            n_unknown += name != start
            continue
        lists.append(path)
        if len(lists) > MAX_LISTS:
            raise ValueError(f"{path}: more than {MAX_LISTS:,} lists of records lead to one another")
        found, unknown = parse_records(content, path, sums, name)
        n_unknown += unknown
        waiting += reversed(found)
    return list(records), lists, n_unknown


def _lines(content: bytes | str, source: str) -> list[tuple[int, str]]:
    """Return the numbered lines of a text, without the empty end of the last."""
    if len(content) > MAX_LIST_BYTES:
        raise ValueError(f"{source}, line 1: more than {MAX_LIST_BYTES:,} bytes are no list of files")
    if isinstance(content, bytes):
        try:
            content = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{source}: not a text in UTF-8: {error}") from error
    lines = [line.removesuffix("\r") for line in content.split("\n")]
    return list(enumerate(lines[:-1] if not lines[-1] else lines, start=1))


def sha256(path: Path) -> str:
    """Return the SHA-256 sum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_text(path: Path, text: bytes) -> None:
    """Write a small file of our own, so that nobody ever sees half of it."""
    part = path.with_name(f"{path.name}.{os.getpid():08x}.part")
    try:
        part.write_bytes(text)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


class Stamps:
    """Which files of a folder agreed with which sum, at which size and time of change, so that none is hashed twice."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STAMPS_NAME
        self._changed, self._saved = False, time.monotonic()
        try:
            content = json.loads(self.path.read_bytes())
            self._files = {name: list(stamp) for name, stamp in content["files"].items() if len(stamp) == 3}
            self.sums = str(content["sums"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._files, self.sums = {}, ""  # stamps only save time: without them the files are hashed again

    def agrees(self, name: str, path: Path, wanted: str) -> bool:
        """Tell whether a file has the wanted sum, by its stamp or else by hashing it."""
        stat = path.stat()
        *known, found = self._files.get(name) or [None]
        if known != [stat.st_size, stat.st_mtime_ns]:
            found = sha256(path)
            self._files[name] = [stat.st_size, stat.st_mtime_ns, found]
            self._changed = True
        return found == wanted

    def add(self, name: str, path: Path, found: str) -> None:
        """Stamp a file whose sum was just found."""
        stat = path.stat()
        self._files[name] = [stat.st_size, stat.st_mtime_ns, found]
        self._changed = True

    def set_sums(self, digest: str) -> None:
        """Remember the digest of the list of sums."""
        self._changed |= digest != self.sums
        self.sums = digest

    def save_at_times(self) -> None:
        """Write new stamps every few s, so that a killed process has not hashed for nothing."""
        if time.monotonic() - self._saved > 1 + len(self._files) / 5000:
            self.save()

    def save(self) -> None:
        """Write the stamps if there are new ones."""
        if self._changed:
            text = json.dumps({"version": 1, "sums": self.sums, "files": self._files})
            replace_text(self.path, text.encode())
            self._changed, self._saved = False, time.monotonic()
