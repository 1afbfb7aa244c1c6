"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

PART = ".part"  # ends the name of what is being written


def replace_file(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file under another name beside it, bring it to the disk, then give it its own.

    Parameters
    ----------
    path : pathlib.Path
        What was there before stays until the new file is whole; its folder must exist.
    write : callable
        Gets the open file, in binary.
    """
    part = path.with_name(path.name + PART)
    try:
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
