"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

PART = ".part"  # ends the name of what is being written


def replace_file(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file under another name beside it, bring it to the disk, then give it its own.

    Where several write one file at a time, it is at every moment that of one of them as a whole.

    Parameters
    ----------
    path : pathlib.Path
        What was there before stays until the new file is whole; its folder must exist.
    write : callable
        Gets the open file, in binary. It is called again, with another file, where somebody else writes this one too.
    """
    # one name as a rule, so that a run that was killed leaves one file at most
    if not _written(path.with_name(path.name + PART), path, write):
        own = f"{path.name}.{os.getpid()}-{threading.get_ident()}{PART}"
        if not _written(path.with_name(own), path, write):
            raise FileExistsError(f"{path.with_name(own)} is taken by somebody else: nothing was written to {path}")


def _written(part: Path, path: Path, write: Callable[[IO[bytes]], Any]) -> bool:
    """Write by way of ``part``; tell whether it was ours alone, without which nothing has changed."""
    with suppress(PermissionError):  # Windows keeps what is open
        part.unlink(missing_ok=True)  # of a run that was killed; and what is a link would lead elsewhere
    try:
        file = open(part, "xb")
    except FileExistsError:
        return False
    mine = os.fstat(file.fileno())
    try:
        with file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        ours = _is(part, mine)
        if ours:
            os.replace(part, path)
        return ours
    except BaseException:
        if _is(part, mine):
            part.unlink(missing_ok=True)
        raise


def _is(part: Path, mine: os.stat_result) -> bool:
    try:
        return os.path.samestat(part.stat(follow_symlinks=False), mine)
    except FileNotFoundError:
        return False
