"""Files of a database into the data home: verified, resumable, several at a time, one process at a time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from ._databases import Database
from ._headers import parse_header
from ._home import DATA_VARIABLE, OFFLINE_VARIABLE, MissingFileError, check_relative, is_offline
from ._http import AbsentError, Client, DownloadError, Policy
from ._registry import MAX_LIST_BYTES, STAMPS_NAME, SUMS_NAME, Stamps, parse_sums, replace_text

_logger = logging.getLogger(__name__)

URL_VARIABLE = "SKECG_PHYSIONET_URL"
# PhysioNet, and the public bucket that holds the same files; sums make either safe.
_PHYSIONET = ("https://physionet.org/files", "https://physionet-open.s3.amazonaws.com")
_LOCK_NAME = ".skecg.lock"
_NEW_SUMS = f"{SUMS_NAME}.new"
_PART = re.compile(r".+\.(?:[0-9a-f]{8}\.part|part-[0-9a-f-]{36})")
_STALE = 7 * 24 * 3600.0  # s
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


def get_sources(database: Database) -> list[str]:
    """Return the addresses of a database, the first to be tried first.

    ``SKECG_PHYSIONET_URL`` replaces PhysioNet and its bucket by one address or several, separated by blanks, below
    which ``<slug>/<version>/`` lies.
    """
    bases = os.environ.get(URL_VARIABLE, "").split() or _PHYSIONET
    return [f"{base.rstrip('/')}/{database.slug}/{database.version}" for base in bases]


def fetch_files(
    folder: Path,
    files: Sequence[str],
    database: Database,
    *,
    download_if_missing: bool = True,
    verbose: int = 1,
    policy: Policy | None = None,
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
        Paths inside the database.
    database : Database
        Which database.
    download_if_missing : bool, default=True
        Whether missing files are downloaded; without it, or with ``SKECG_OFFLINE`` set, no connection is opened.
    verbose : int, default=1
        Above 0, show a progress bar.
    policy : Policy, default=None
        Times and numbers of attempts.

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
    missing = _missing(folder, files)
    if not missing:
        return
    offline = is_offline()
    if offline or not download_if_missing:
        why = f"{OFFLINE_VARIABLE} is set" if offline else "download_if_missing=False"
        raise MissingFileError(_how_to_get(database, folder, missing, f"nothing is downloaded ({why})"), missing)
    policy = policy or Policy()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder, policy.lock) as locked:
            _complete(folder, files, database, policy, locked=locked, verbose=verbose)
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
    folder: Path, files: Sequence[str], database: Database, policy: Policy, *, locked: bool, verbose: int
) -> None:
    """Download what is still missing now that this process has the folder to itself."""
    if not _missing(folder, files):
        return  # another process has done it meanwhile
    _remove_stale(folder, locked=locked)
    client = Client(get_sources(database), policy, resume=locked)
    stamps = Stamps(folder)
    try:
        sums = _get_sums(folder, files, database, client, stamps)
        wanted = _missing(folder, files) + _disagreeing(folder, files, sums, stamps)
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


def _get_sums(
    folder: Path, files: Sequence[str], database: Database, client: Client, stamps: Stamps
) -> dict[str, str] | None:
    """Return the list of sums: the one that lies beside the data where it knows the files, else the server's."""
    path = folder / SUMS_NAME
    own = b""
    if path.is_file() and path.stat().st_size <= MAX_LIST_BYTES:
        own = path.read_bytes()
        with contextlib.suppress(ValueError):
            sums = parse_sums(own, str(path))
            if all(name in sums for name in files):
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
        raise DownloadError(_how_to_get(database, folder, missing, str(error)), missing) from error
    finally:
        fetched.unlink(missing_ok=True)
    try:
        sums = parse_sums(content, f"{client.sources[0]}/{SUMS_NAME}")
    except ValueError as error:
        missing = _missing(folder, files)
        raise DownloadError(_how_to_get(database, folder, missing, str(error)), missing) from error
    digest = hashlib.sha256(content).hexdigest()
    if stamps.sums and stamps.sums != digest:
        warnings.warn(
            f"{database.name}: the server's {SUMS_NAME} has changed since it was first met (SHA-256 {stamps.sums}, now "
            f"{digest}); the new one is used",
            stacklevel=5,
        )
    if not own or hashlib.sha256(own).hexdigest() == stamps.sums:  # never over a list that is not ours
        replace_text(path, content)
    stamps.set_sums(digest)
    return sums


def _disagreeing(folder: Path, files: Sequence[str], sums: dict[str, str] | None, stamps: Stamps) -> list[str]:
    """Return the files that are there but have another sum than they should."""
    wrong = []
    for name in files:
        path = folder / name
        if not sums or name not in sums or not path.is_file() or stamps.agrees(name, path, sums[name]):
            continue
        if path.suffix == ".hea" and _is_header(path, path):
            _warn_of_header(path)
            continue
        warnings.warn(f"{path} disagrees with its SHA-256 sum {sums[name]}: it is downloaded again", stacklevel=2)
        wrong.append(name)
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


def _missing(folder: Path, files: Sequence[str]) -> list[str]:
    return [name for name in files if not (folder / name).is_file()]


def _place(folder: Path, name: str) -> Path:
    """Return where a file goes; never outside the folder, not even through a link in it."""
    path = folder / name
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise DownloadError(f"{path} lies outside {folder}", [name])
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _how_to_get(database: Database, folder: Path, missing: Sequence[str], reason: str) -> str:
    shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    return (
        f"{database.title}: {len(missing)} files are missing from {folder} ({shown}): {reason}. Get them from "
        f"{database.page} and set {DATA_VARIABLE} or data_home to the folder that holds them; or allow the download "
        f"(download_if_missing=True, {OFFLINE_VARIABLE} unset)"
    )
