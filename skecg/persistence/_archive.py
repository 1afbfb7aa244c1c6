"""The zip file around an estimator: written byte by byte in one way only, so that any other byte is an error."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

CONFIG, HISTORY = "config.json", "history.json"
_NAME = re.compile(r"config\.json|history\.json|arrays/(?:0|[1-9][0-9]{0,4})\.npy")
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s4B4H3L5H2L"), struct.Struct("<4s4H2LH")
_DATE = 33  # 1 January 1980: equal estimators make equal files
_MODE = 0o100644 << 16  # of a plain file
_MANY = 60_000  # members
_LARGE = 2**32 - 2**20  # bytes of a zip file without extensions
_WHOLE = "get the file again, or write it again with skecg.save"


def array_name(i: int) -> str:
    """Return the name of the member of the i-th array."""
    return f"arrays/{i}.npy"


def write_archive(file: IO[bytes], members: Mapping[str, bytes]) -> None:
    """Write members, uncompressed, one after the other.

    Parameters
    ----------
    file : binary file
        At its start.
    members : mapping of str to bytes
        Contents by name, in their order.

    Raises
    ------
    ValueError
        Beyond 4 GB or 60,000 members.
    """
    if len(members) > _MANY or sum(map(len, members.values())) > _LARGE:
        raise ValueError(
            f"the estimator has {len(members)} arrays and {sum(map(len, members.values()))} bytes; files hold {_MANY} "
            "and 4 GB: keep it with joblib, and load only such files as you made"
        )
    directory, offset = [], 0
    for name, content in members.items():
        head, entry = _heads(name, zlib.crc32(content), len(content), offset)
        file.write(head)
        file.write(content)
        directory.append(entry)
        offset += len(head) + len(content)
    listing = b"".join(directory)
    file.write(listing + _end(len(directory), len(listing), offset))


class Archive:
    """A file of ``write_archive``, checked before anything is read of its members.

    Every byte outside the members is compared with what ``write_archive`` would have written, so that nothing can be
    compressed, hidden, doubled, overlapping or of another name.

    Parameters
    ----------
    path : pathlib.Path
        The file; it stays open until ``close``.

    Attributes
    ----------
    sizes : dict of str to int
        Bytes of each member, in the file's order.

    Raises
    ------
    ValueError
        For any other file.
    OSError
        Where it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_file():
            raise ValueError(f"it is {'a folder' if path.is_dir() else 'no plain file'}: name a file of skecg.save")
        self._file = open(path, "rb")
        try:
            self.sizes, self._places = self._listing()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def read(self, name: str, size: int, sha256: str | None) -> bytes:
        """Return the content of a member.

        Parameters
        ----------
        name : str
            One of ``sizes``.
        size : int
            Bytes that it must have.
        sha256 : str or None
            Its digest; None looks at the CRC alone.

        Returns
        -------
        content : bytes
            Unchanged since it was written.
        """
        place, crc = self._places[name]
        if self.sizes[name] != size:
            raise ValueError(f"{name} has {self.sizes[name]} bytes, {CONFIG} says {size}: {_WHOLE}")
        self._file.seek(place)
        content = self._file.read(size)
        if len(content) != size or zlib.crc32(content) != crc:
            raise ValueError(f"{name} is damaged (its CRC is another): {_WHOLE}")
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"{name} is not what was saved (its SHA-256 is another): {_WHOLE}")
        return content

    def _listing(self) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
        """Compare all that is not content with what would have been written; return sizes, and places with CRCs."""
        total = os.fstat(self._file.fileno()).st_size
        start = self._file.read(4)
        if start != b"PK\x03\x04":
            raise ValueError(_what(start))
        self._file.seek(max(0, total - _END.size))
        tail = self._file.read(_END.size)
        mark, *_, n, length, offset, _ = _END.unpack(tail) if len(tail) == _END.size else (b"", 0, 0, 0, 0, 0)
        if mark != b"PK\x05\x06":
            raise ValueError(f"it is cut off, or goes on behind its end: {_WHOLE}")
        if n > _MANY or offset + length + _END.size != total or tail != _end(n, length, offset):
            raise ValueError(f"its directory of {n} members at {offset} does not fill the file of {total}: {_WHOLE}")
        self._file.seek(offset)
        listing = self._file.read(length)
        sizes, places, at, end = {}, {}, 0, 0
        for i in range(n):
            name, crc, size, at = _entry(listing, at, i, end)
            if name in sizes:
                raise ValueError(f"{name} is there twice: skecg.save did not write this file")
            self._file.seek(end)
            head, _ = _heads(name, crc, size, end)
            if self._file.read(len(head)) != head:
                raise ValueError(f"{name} begins otherwise than the directory says: {_WHOLE}")
            sizes[name], places[name] = size, (end + len(head), crc)
            end += len(head) + size
        if at != length or end != offset:
            raise ValueError(f"its members do not fill the file: {_WHOLE}")
        return sizes, places


def _entry(listing: bytes, at: int, i: int, offset: int) -> tuple[str, int, int, int]:
    """Return name, CRC and size of one entry of the directory, and where the next begins."""
    if len(listing) < at + _CENTRAL.size:
        raise ValueError(f"its directory is cut off: {_WHOLE}")
    fields = _CENTRAL.unpack_from(listing, at)
    flags, method, crc, packed, size, length, mode = (fields[k] for k in (5, 6, 9, 10, 11, 12, 17))
    name = listing[at + _CENTRAL.size : at + _CENTRAL.size + length].decode("latin-1")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"member {i} is called {name[:100]!r}; there are {CONFIG}, {HISTORY} and {array_name(0)} onwards alone: "
            "skecg.save did not write this file"
        )
    if flags & 1:
        raise ValueError(f"{name} is encrypted, which skecg.save does not do")
    if method or packed != size:
        raise ValueError(f"{name} is compressed ({packed} bytes for {size}), which skecg.save does not do")
    if mode != _MODE:
        raise ValueError(f"{name} is no plain file (mode {mode >> 16:o}, such as a link), which skecg.save does not do")
    expected = _heads(name, crc, size, offset)[1]
    if listing[at : at + len(expected)] != expected:
        raise ValueError(f"{name} has an entry in the directory that skecg.save does not write: {_WHOLE}")
    return name, crc, size, at + len(expected)


def _heads(name: str, crc: int, size: int, offset: int) -> tuple[bytes, bytes]:
    """Return what precedes a member, and its entry in the directory."""
    raw = name.encode("ascii")
    local = _LOCAL.pack(b"PK\x03\x04", 20, 0, 0, 0, _DATE, crc, size, size, len(raw), 0)
    last = (len(raw), 0, 0, 0, 0, _MODE, offset)
    return local + raw, _CENTRAL.pack(b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, _DATE, crc, size, size, *last) + raw


def _end(n: int, length: int, offset: int) -> bytes:
    return _END.pack(b"PK\x05\x06", 0, 0, n, n, length, offset, 0)


def _what(start: bytes) -> str:
    """Say what a file is that is no zip file."""
    if not start:
        return f"it is empty: {_WHOLE}"
    if start[:1] == b"\x80":
        return "it looks like a pickle, which runs code when it is loaded: joblib.load it if you made it yourself"
    return f"it is no file of skecg.save: its first bytes are {start!r}"
