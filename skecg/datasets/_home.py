"""Where the data lie: the data home, the folder of a database in it, offline mode, and what all fetchers share."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

DATA_VARIABLE = "SKECG_DATA"
OFFLINE_VARIABLE = "SKECG_OFFLINE"
_DRIVE = re.compile(r"[A-Za-z]:")


class MissingFileError(FileNotFoundError, ValueError):
    """A file of a record is not there, and could not or must not be downloaded.

    A FileNotFoundError for whoever handles files, and a ValueError because a record without its files is bad input
    as a truncated one is (the standard library's :class:`io.UnsupportedOperation` is such a pair too).

    Parameters
    ----------
    message : str
        What is missing, where it was looked for, and what to do.
    files : sequence of str, default=()
        The files that are missing, as they are named in the database.

    Attributes
    ----------
    files : tuple of str
        The same.
    """

    def __init__(self, message: str, files: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.files = tuple(files)


def get_data_home(data_home: str | os.PathLike | None = None) -> Path:
    """Return the folder in which the fetchers look for databases and into which they download.

    Nothing is created. A fetcher finds its database in ``<data home>/<name>``, for instance ``mitdb``, in
    ``<data home>/<PhysioNet's name>``, in a folder of the version below them, or in the data home itself.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder; None takes the environment variable ``SKECG_DATA``, and where that is not set ``~/skecg_data``.

    Returns
    -------
    data_home : pathlib.Path
        Absolute, with ``~`` expanded.

    Raises
    ------
    TypeError
        For anything but a string, a path or None.
    ValueError
        For a URL: data are downloaded first and read from the disk.

    See Also
    --------
    fetch_mitdb : A fetcher that looks there.

    Examples
    --------
    >>> from skecg.datasets import get_data_home
    >>> get_data_home("/data/ecg").name
    'ecg'
    """
    if data_home is None:
        data_home = os.environ.get(DATA_VARIABLE) or Path("~", "skecg_data")
    if not isinstance(data_home, str | os.PathLike):
        raise TypeError(f"data_home must be a path or None; got {data_home!r}, a {type(data_home).__name__}")
    if "://" in os.fspath(data_home):
        raise ValueError(f"data_home must be a folder on this machine; got the address {os.fspath(data_home)!r}")
    return Path(data_home).expanduser().absolute()


def is_offline() -> bool:
    """Tell whether the environment variable ``SKECG_OFFLINE`` forbids every connection."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in ("", "0", "false", "no", "off")


def find_folder(
    home: Path, names: Sequence[str], version: str | Sequence[str], files: Sequence[str], *, flat: bool = True
) -> Path:
    """Return the folder of a database: where most of its files lie, else where they belong.

    Parameters
    ----------
    home : pathlib.Path
        The data home.
    names : sequence of str
        What the database's folder may be called; the first is the name that a download gives it.
    version : str or sequence of str
        Folders below that PhysioNet's own tools make, one for each version that will do.
    files : sequence of str
        Paths of the wanted files inside the database.
    flat : bool, default=True
        Whether files count that lie there without their own folders; see :func:`locate_files`.

    Returns
    -------
    folder : pathlib.Path
        It need not exist.
    """
    candidates = [*list_folders(home, names, version), home]
    found = [len(locate_files(folder, files, flat=flat)) if folder.is_dir() else 0 for folder in candidates]
    return candidates[found.index(max(found))] if any(found) else home / names[0]


def list_folders(home: Path, names: Sequence[str], version: str | Sequence[str]) -> list[Path]:
    """Return the folders below a data home that may be a database's, the one that a download makes first.

    By each of its names, with and without a folder of the version; and as ``wget -r`` copies PhysioNet's addresses.
    """
    versions = [version] if isinstance(version, str) else list(version)
    names = list(dict.fromkeys(names))
    folders = [home / name / sub for name in names for sub in ("", *versions)]
    return folders + [home / "physionet.org" / "files" / name / sub for name in names for sub in versions]


def locate_files(folder: Path, names: Iterable[str], *, flat: bool = True) -> dict[str, Path]:
    """Return where files of a database lie.

    Parameters
    ----------
    folder : pathlib.Path
        The database's folder.
    names : iterable of str
        Paths inside the database, such as ``"g1/A0001.hea"``.
    flat : bool, default=True
        Whether leading folders may be left out, so that ``A0001.hea`` is found too. Only for databases in which no two
        files share a name.

    Returns
    -------
    found : dict
        Name to path, of those files that are there. Each folder is listed once, so that the 100,000 names of a large
        database take a fraction of a second.
    """
    listed: dict[str, set[str]] = {}

    def is_there(name: str) -> bool:
        parent, _, last = name.rpartition("/")
        if parent not in listed:
            listed[parent] = set()
            # What cannot be listed is no place for files: it is named when something has to be written there.
            with contextlib.suppress(OSError), os.scandir(folder / parent) as entries:
                listed[parent] = {entry.name for entry in entries if entry.is_file()}
        return last in listed[parent]

    found = {}
    for name in names:
        place = name
        while not is_there(place):
            _, more, place = place.partition("/")
            if not (flat and more):
                break
        else:
            found[name] = folder / place
    return found


def check_relative(name: str, source: str) -> str:
    """Return a file's name inside a database if it cannot lead out of the database's folder.

    Lists of files come from servers and from downloaded folders, and are joined to paths and addresses: what is
    absolute, climbs, names a drive or an address, or hides control characters is a ValueError.

    Parameters
    ----------
    name : str
        A relative path with ``/`` between its parts.
    source : str
        Where the name stands, for the message.

    Returns
    -------
    name : str
        As given.
    """
    parts = name.split("/")
    unsafe = (
        any(part in ("", ".", "..") for part in parts)
        or "\\" in name
        or "::" in name
        or _DRIVE.match(name)
        or not name.isprintable()
        or len(name) > 1024
    )
    if unsafe:
        raise ValueError(f"{source}: {name[:100]!r} is no relative path inside the database; it is not opened")
    return name


def describe(name: str) -> str:
    """Return the page of a database: its source, licence, labels and quirks."""
    return resources.files(__package__).joinpath("descr", f"{name}.rst").read_text(encoding="utf-8")


def check_flags(**flags: Any) -> None:
    """Refuse what is not True or False: any text is true, ``download_if_missing="no"`` too."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False; got {value!r}")


def list_names(value: Any) -> list[Any]:
    """Return one name, or several, as a list."""
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)


def check_names(records: Any, known: Iterable[str], source: str) -> list[str]:
    """Return the names of the wanted records as strings; ValueError for names that are unknown, twice there or none."""
    names, there = [str(name) for name in list_names(records)], set(known)
    unknown = [name for name in names if name not in there]
    if unknown or not names or len(set(names)) < len(names):
        problem = f"unknown: {', '.join(map(repr, unknown[:5]))}" if unknown else f"got {str(records)[:100]}"
        raise ValueError(f"records must be different names out of {source}, or 'local', or None for all; {problem}")
    return names


@contextlib.contextmanager
def leaving_out(name: str, on_error: str, skipped: dict[str, str]) -> Iterator[None]:
    """With ``on_error="warn"``, turn the error of one record into a warning, so that it costs no other record."""
    try:
        yield
    except (ValueError, OSError) as error:
        if on_error == "raise":
            raise
        skipped[name] = str(error)
        warnings.warn(f"record {name} left out: {error}", UserWarning, stacklevel=5)


def tell_notes(notes: Mapping[str, Sequence[str]], name: str, *, stacklevel: int) -> None:
    """Issue one warning with all that was odd, and with how many records of a database it concerns."""
    told = [
        f"{note} ({f'record {names[0]}' if len(names) == 1 else f'{len(names)} records'})"
        for note, names in notes.items()
    ]
    if told:
        warnings.warn(f"{name}: {'; '.join(told)}", UserWarning, stacklevel=stacklevel)


def show_progress(items: Iterable, name: str, verbose: int) -> Any:
    """Return the items behind a progress bar, which shows after two seconds where ``verbose`` is above 0."""
    from tqdm.auto import tqdm

    return tqdm(items, desc=name, unit="record", disable=not verbose, delay=2)


def get_memory() -> int | None:
    """Return the bytes of memory of this machine, or of the container where that has less; None where unknown."""
    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on Windows
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):  # "max" where there is none
            found.append(int(Path(limit).read_text(encoding="ascii")))
    return min(found, default=None)
