"""Files of a database into the data home: verified, resumable, several at a time, one process at a time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from ._databases import Database
from ._headers import parse_header
from ._home import DATA_VARIABLE, OFFLINE_VARIABLE, MissingFileError, check_relative, is_offline, locate_files
from ._http import AbsentError, Client, DownloadError, Policy
from ._registry import (
    MAX_LIST_BYTES,
    RECORDS_NAME,
    STAMPS_NAME,
    SUMS_NAME,
    Stamps,
    parse_sums,
    replace_text,
    walk_records,
)

_logger = logging.getLogger(__name__)

URL_VARIABLE = "SKECG_PHYSIONET_URL"
# PhysioNet, and the public bucket that holds the same files; sums make either safe.
_PHYSIONET = ("https://physionet.org/files", "https://physionet-open.s3.amazonaws.com")
_LOCK_NAME = ".skecg.lock"
_OWN_SUMS = (SUMS_NAME, "SHA256SUMS")  # older copies have no extension
_NEW_SUMS = f"{SUMS_NAME}.new"
_PART = re.compile(r".+\.(?:[0-9a-f]{8}\.part|part-[0-9a-f-]{36})")
_STALE = 7 * 24 * 3600.0  # s
_NO_WRITING = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


def get_bases() -> list[str]:
    """Return the addresses below which ``<slug>/<version>/`` lies, the first to be tried first.

    ``SKECG_PHYSIONET_URL`` replaces PhysioNet and its bucket by one address or several, separated by blanks.
    """
    return [base.rstrip("/") for base in os.environ.get(URL_VARIABLE, "").split() or _PHYSIONET]


def get_page(database: Database) -> str:
    """Return the address of a database's page, whether its version is known or not."""
    return database.page if database.version else f"https://physionet.org/content/{database.slug}/"


def get_sources(database: Database) -> list[str]:
    """Return the addresses of a database, the first to be tried first."""
    return [f"{base}/{database.slug}/{database.version}" for base in get_bases()]


def fetch_files(
    folder: Path,
    files: Sequence[str],
    database: Database,
    *,
    download_if_missing: bool = True,
    verbose: int = 1,
    policy: Policy | None = None,
    flat: bool = True,
) -> None:
    """See to it that files of a database are there; write nothing where they are.

    Files are verified by the list of sums that PhysioNet serves beside them. Those that are there already are hashed
    once, when others have to be downloaded, and then known by a stamp (size, time of change, sum). A file that
    disagrees is downloaded again; a header that disagrees but can be read is kept with a warning, for PhysioNet's own
    list is older than some of its headers.

    Parameters
    ----------
    folder : pathlib.Path
        The database's folder, made where it is missing.
    files : sequence of str
        Paths inside PhysioNet's project, such as ``"100.dat"``.
    database : Database
        Which database.
    download_if_missing : bool, default=True
        Whether missing files are downloaded; without it, or with ``SKECG_OFFLINE`` set, no connection is opened.
    verbose : int, default=1
        Above 0, show a progress bar.
    policy : Policy, default=None
        Times and numbers of attempts.
    flat : bool, default=True
        Whether files are taken that lie in the folder without their own folders, as
        :func:`~skecg.datasets._home.locate_files` finds them.

    Raises
    ------
    MissingFileError
        For files that are missing and may not, or cannot, be downloaded; its ``files`` lists them. Files that can be
        had are downloaded all the same.
    OSError
        Where the folder cannot be written.
    """
    for name in files:
        check_relative(name, database.name)
    missing = _missing(folder, files, flat)
    if not missing:
        return
    if why := forbidden(download_if_missing):
        raise MissingFileError(_how_to_get(database, folder, missing, f"nothing is downloaded ({why})"), missing)
    policy = policy or Policy()
    with _writing(folder, database), _lock(folder, policy.lock) as locked:
        _complete(folder, files, database, policy, locked=locked, verbose=verbose, flat=flat)


def list_files(
    folder: Path,
    database: Database,
    *,
    download_if_missing: bool = True,
    verbose: int = 0,
    policy: Policy | None = None,
) -> list[str]:
    """Return the paths of a database's files, by the list of sums that PhysioNet serves.

    The list that lies beside the data is read; else the server is asked, and its list is kept in a folder that is new
    or that a download has made, never in one that somebody else has filled. A database without a list of sums is
    listed by its RECORDS: a claim, of which each file is only known to be there when it has come.

    Parameters
    ----------
    folder : pathlib.Path
        The database's folder; it need not exist.
    database : Database
        Which database. With a ``prefix``, the files below it are returned, the prefix part of their paths.
    download_if_missing : bool, default=True
        Whether the server may be asked; without it, or with ``SKECG_OFFLINE`` set, the list that lies beside the data
        is taken, and without one what lies in the folder.
    verbose : int, default=0
        Above 0, show a progress bar where many lists of records are read.
    policy : Policy, default=None
        Times and numbers of attempts.

    Returns
    -------
    files : list of str
        In the order of the list.

    Raises
    ------
    MissingFileError
        Where neither a list nor any file is there and the server may not, or cannot, be asked.
    ValueError
        For lists that are none, with their line.
    """
    if listed := [name for name in read_sums(folder) or () if name.startswith(database.prefix)]:
        return listed
    if why := forbidden(download_if_missing):
        if there := sorted(lying_there(folder)):
            return there
        raise MissingFileError(_how_to_get(database, folder, [SUMS_NAME], f"nothing is downloaded ({why})"))
    policy = policy or Policy()
    if all(path.name.startswith((".skecg", SUMS_NAME)) for path in _entries(folder)):
        try:
            with _writing(folder, database), _lock(folder, policy.lock) as locked:
                return _ask_for_list(folder, database, Client(get_sources(database), policy, resume=locked), verbose)
        except OSError as error:
            if error.errno not in _NO_WRITING:
                raise
    with tempfile.TemporaryDirectory(prefix="skecg-") as place:
        client = Client(get_sources(database), policy, resume=False)
        return _ask_for_list(Path(place), database, client, verbose)


def _ask_for_list(folder: Path, database: Database, client: Client, verbose: int) -> list[str]:
    """Return the server's list of files; what comes of lists lies in the folder then."""
    from tqdm.auto import tqdm

    sums = _get_sums(folder, (), database, client, Stamps(folder))
    if sums is not None:
        return [name for name in sums if name.startswith(database.prefix)]
    with tqdm(desc=f"listing {database.name}", unit="list", disable=not verbose, delay=2) as bar:

        def read(name: str) -> bytes | None:
            bar.update()
            path = _place(folder, name)
            try:
                client.fetch(name, path, None, limit=MAX_LIST_BYTES)
            except AbsentError:
                return None
            return path.read_bytes()

        records, lists, n_unknown = walk_records(read, start=database.prefix)
    if not records:
        raise DownloadError(
            f"{client.sources[0]}/{database.prefix}: neither {SUMS_NAME} nor {RECORDS_NAME} is there: no such "
            f"database, or no such version of it; see {database.page}",
            [RECORDS_NAME],
        )
    if n_unknown:
        warnings.warn(
            f"{database.name}: {n_unknown} folders of its {RECORDS_NAME} have no list of records", stacklevel=4
        )
    return lists + [file for record in records for file in database.files(record)]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def lying_there(folder: Path) -> Iterator[str]:
    """Yield the paths of the files in a folder, but for lists of sums, partial and hidden files."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not (name.startswith((".", *_OWN_SUMS)) or _PART.fullmatch(name)):
                yield (Path(parent) / name).relative_to(folder).as_posix()


def forbidden(download_if_missing: bool) -> str:
    """Return what forbids a download, empty where nothing does."""
    if is_offline():
        return f"{OFFLINE_VARIABLE} is set"
    return "" if download_if_missing else "download_if_missing=False"


@contextlib.contextmanager
def _writing(folder: Path, database: Database) -> Iterator[None]:
    """Make the folder, and name it where it, or something in it, cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except MissingFileError:
        raise
    except OSError as error:
        raise OSError(  # of the subclass that goes with the number
            error.errno,
            f"{database.name} cannot be downloaded to {folder}: {error.strerror or error}; set data_home or "
            f"{DATA_VARIABLE} to a folder that can be written and has room",
            error.filename,
        ) from error


def _complete(
    folder: Path, files: Sequence[str], database: Database, policy: Policy, *, locked: bool, verbose: int, flat: bool
) -> None:
    """Download what is still missing now that this process has the folder to itself."""
    if not _missing(folder, files, flat):
        return  # another process has done it meanwhile
    _remove_stale(folder, locked=locked)
    client = Client(get_sources(database), policy, resume=locked)
    stamps = Stamps(folder)
    try:
        sums = _get_sums(folder, files, database, client, stamps)
        there = locate_files(folder, files, flat=flat)
        wanted = [name for name in files if name not in there] + _disagreeing(there, sums, stamps)
        failures = _fetch_all(folder, wanted, database, client, sums, stamps, verbose)
    finally:
        with contextlib.suppress(OSError):  # on a full disk; stamps only save time
            stamps.save()
    if failures:
        first = next(iter(failures.values()))
        more = f" (and {len(failures) - 1} files more)" if len(failures) > 1 else ""
        raise DownloadError(_how_to_get(database, folder, list(failures), f"{first}{more}"), list(failures))


def _fetch_all(
    folder: Path,
    names: list[str],
    database: Database,
    client: Client,
    sums: dict[str, str] | None,
    stamps: Stamps,
    verbose: int,
) -> dict[str, DownloadError]:
    """Download files over a few connections; return what could not be had, which stops no other file."""
    from tqdm.auto import tqdm

    failures: dict[str, DownloadError] = {}
    known = [name for name in names if sums is None or name in sums]
    for name in set(names) - set(known):
        failures[name] = DownloadError(f"{name} is not in PhysioNet's list of {database.name}", [name])
    with (
        tqdm(total=len(known), desc=f"downloading {database.name}", unit="file", disable=not verbose) as bar,
        ThreadPoolExecutor(client.policy.connections) as pool,
    ):
        running: dict[Future, str] = {}
        waiting = iter(known)
        try:
            while True:
                for name in waiting:
                    target = _place(folder, name)
                    accept = partial(_is_header, target) if target.suffix == ".hea" else None
                    running[pool.submit(client.fetch, name, target, sums and sums[name], accept=accept)] = name
                    if len(running) >= 2 * client.policy.connections:
                        break
                if not running:
                    break
                for job in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(job)
                    try:
                        digest = job.result()
                    except DownloadError as error:
                        failures[name] = error
                    else:
                        stamps.add(name, folder / name, digest)
                        if sums and digest != sums[name]:
                            _warn_of_header(folder / name)
                    bar.update()
                stamps.save_at_times()
        except BaseException as error:  # the disk is full, or the user wants no more
            client.give_up(keep=not isinstance(error, OSError))
            raise
    return failures


def _is_header(target: Path, part: Path) -> bool:
    """Tell whether a file can be read as the header of this name."""
    try:
        parse_header(part.read_text(encoding="latin-1"), target)
    except ValueError:
        return False
    return True


def _warn_of_header(path: Path) -> None:
    warnings.warn(
        f"{path} disagrees with PhysioNet's list of sums but can be read: it is kept, for some headers are newer than "
        f"that list",
        stacklevel=2,
    )


def read_sums(folder: Path) -> dict[str, str] | None:
    """Return the list of sums that lies beside the data, None where there is no valid one."""
    for path in (folder / name for name in _OWN_SUMS):
        with contextlib.suppress(OSError, ValueError):
            if path.stat().st_size <= MAX_LIST_BYTES:
                return parse_sums(path.read_bytes(), str(path))
    return None


def _get_sums(
    folder: Path, files: Sequence[str], database: Database, client: Client, stamps: Stamps
) -> dict[str, str] | None:
    """Return the list of sums: the one that lies beside the data where it knows the files, else the server's."""
    path, own = folder / SUMS_NAME, b""
    with contextlib.suppress(OSError, ValueError):
        own = path.read_bytes() if path.stat().st_size <= MAX_LIST_BYTES else b""
    if (sums := read_sums(folder)) and all(name in sums for name in files):
        return sums
    fetched = folder / _NEW_SUMS
    try:
        client.fetch(SUMS_NAME, fetched, None, limit=MAX_LIST_BYTES)
        content = fetched.read_bytes()
    except AbsentError:
        warnings.warn(
            f"{database.name}: the server has no {SUMS_NAME}; files are checked by their sizes and by the checksums in "
            f"their headers alone",
            stacklevel=5,
        )
        return None
    except DownloadError as error:
        missing = _missing(folder, files)
        raise DownloadError(_how_to_get(database, folder, missing or [SUMS_NAME], str(error)), missing) from error
    finally:
        fetched.unlink(missing_ok=True)
    try:
        sums = parse_sums(content, f"{client.sources[0]}/{SUMS_NAME}")
    except ValueError as error:
        missing = _missing(folder, files)
        raise DownloadError(_how_to_get(database, folder, missing or [SUMS_NAME], str(error)), missing) from error
    digest = hashlib.sha256(content).hexdigest()
    if stamps.sums and stamps.sums != digest:
        warnings.warn(
            f"{database.name}: the server's {SUMS_NAME} has changed since it was first met (SHA-256 {stamps.sums}, now "
            f"{digest}); the new one is used",
            stacklevel=5,
        )
    ours = not own or hashlib.sha256(own).hexdigest() == stamps.sums  # never over a list that is not ours
    stamps.set_sums(digest)
    stamps.save()
    if ours:
        replace_text(path, content)
    return sums


def _disagreeing(there: Mapping[str, Path], sums: dict[str, str] | None, stamps: Stamps) -> list[str]:
    """Return the files that are there but have another sum than they should."""
    wrong = []
    for name, path in there.items():
        stamps.save_at_times()
        if not sums or name not in sums or stamps.agrees(name, path, sums[name]):
            continue
        if path.suffix == ".hea" and _is_header(path, path):
            _warn_of_header(path)
            continue
        warnings.warn(f"{path} disagrees with its SHA-256 sum {sums[name]}: it is downloaded again", stacklevel=2)
        wrong.append(name)
    stamps.save()
    return wrong


@contextlib.contextmanager
def _lock(folder: Path, timeout: float) -> Iterator[bool]:
    """Keep other processes out of the folder; yields False where no lock can be had."""
    import filelock

    lock: Any = filelock.FileLock(folder / _LOCK_NAME, timeout=timeout)
    try:
        try:
            lock.acquire(timeout=0.05)
        except filelock.Timeout:
            _logger.info("another process downloads to %s: waiting for it", folder)
            lock.acquire()
        locked = True
    except filelock.Timeout:
        locked = False
    except NotImplementedError:
        locked = False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        locked = False
    if not locked:
        _logger.info("no lock can be had in %s: downloads are not resumed", folder)
    try:
        yield locked
    finally:
        if locked:
            lock.release()


def _remove_stale(folder: Path, *, locked: bool) -> None:
    """Remove partial files that nobody has touched for a week; those of our own lists at once where we are alone."""
    now = time.time()
    for path in [*folder.rglob("*.part*"), folder / _NEW_SUMS]:
        own = locked and path.name.startswith((SUMS_NAME, STAMPS_NAME))
        if path.name == _NEW_SUMS or _PART.fullmatch(path.name):
            with contextlib.suppress(OSError):
                if own or now - path.stat().st_mtime > _STALE:
                    path.unlink()


def _missing(folder: Path, files: Sequence[str], flat: bool = True) -> list[str]:
    there = locate_files(folder, files, flat=flat)
    return [name for name in files if name not in there]


def _place(folder: Path, name: str) -> Path:
    """Return where a file goes; never outside the folder, not even through a link in it."""
    path = folder / name
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise DownloadError(f"{path} lies outside {folder}", [name])
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _how_to_get(database: Database, folder: Path, missing: Sequence[str], reason: str) -> str:
    shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    count = "1 file is" if len(missing) == 1 else f"{len(missing)} files are"
    return (
        f"{database.title}: {count} missing from {folder} ({shown}): {reason}. Get them from "
        f"{get_page(database)} and set {DATA_VARIABLE} or data_home to the folder that holds them; or allow the "
        f"download (download_if_missing=True, {OFFLINE_VARIABLE} unset)"
    )
