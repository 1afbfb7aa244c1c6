"""Where a PhysioNet database lies, and which version of it is wanted: in the data home, or as a server lists it."""

from __future__ import annotations

import math
import re
import tempfile
from dataclasses import replace
from pathlib import Path

from . import _databases
from ._databases import Database
from ._download import forbidden, get_bases, lying_there
from ._home import DATA_VARIABLE, OFFLINE_VARIABLE, MissingFileError, find_folder, list_folders, locate_files
from ._http import Client, DownloadError, Policy
from ._registry import SUMS_NAME

VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})+")
_PAGE_BYTES = 1 << 20


def find_database(
    name: str, version: str | None, home: Path, records: list[str] | None, allowed: bool
) -> tuple[Database, Path, bool]:
    """Return what is known of a database, where it lies or belongs, and whether it stands in skecg's table.

    Parameters
    ----------
    name : str
        PhysioNet's name, or that of one of skecg's fetchers.
    version : str or None
        The version that it must be.
    home : pathlib.Path
        The data home.
    records : list of str or None
        Records that are wanted, which tell where the database lies.
    allowed : bool
        Whether the server may be asked for its versions, and files may be added.

    Returns
    -------
    database : Database
        Its ``version`` is empty where the folder does not tell it.
    folder : pathlib.Path
        It need not exist.
    known : bool
        Whether the database stands in the table.

    Raises
    ------
    MissingFileError
        Where the database is nowhere and no version of it is known.
    """
    table = [value for value in vars(_databases).values() if isinstance(value, Database)]
    database = next((d for d in table if name == d.name or (name == d.slug and not d.prefix)), None)
    if database is None:
        return *_find_unknown(name, version, home, records, allowed), False
    other = version not in (None, database.version)
    if other:
        database = replace(database, version=version, versions=(version,), records=())
    names = (database.name, database.slug)
    folders = list_folders(home, names, database.versions)
    folders += [home] if home.name in (*names, *database.versions) else []
    if other:  # a folder that does not tell its version may hold another
        folders = [folder for folder in folders if folder.name == version or not allowed]
        folder = next(filter(_has_records, folders), home / database.slug / version)
    elif headers := [f"{record}.hea" for record in records or database.records if not record.endswith("/")]:
        folder = find_folder(home, names, database.versions, headers)
    else:
        folders.sort(key=lambda folder: folder.name not in database.versions)
        folder = next(filter(_has_records, folders), home / database.name)
    if folder.name in database.versions:
        database = replace(database, version=folder.name)
    return database, folder, True


def _find_unknown(
    name: str, version: str | None, home: Path, records: list[str] | None, allowed: bool
) -> tuple[Database, Path]:
    """Return a database of which nothing but the name is known, and its folder; ask the server last."""

    def of(version: str) -> Database:
        return Database(name, name, version, name, math.nan, (), extensions=("hea",))

    roots = [home / name, home / "physionet.org" / "files" / name]
    if home.name == name:
        roots.append(home)
    elif home.parent.name == name and VERSION.fullmatch(home.name):
        roots.append(home.parent)
    if version is not None:
        folders = [root / version for root in roots] + ([] if allowed else roots)
        return of(version), next(filter(_has_records, folders), home / name / version)
    found = {
        folder.name: folder
        for root in reversed(roots)
        for folder in (root.iterdir() if root.is_dir() else ())
        if VERSION.fullmatch(folder.name) and _has_records(folder)
    }
    if found:
        newest = max(found, key=_version_key)
        return of(newest), found[newest]
    headers = [f"{record}.hea" for record in records or () if not record.endswith("/")]
    for folder in roots:
        if _has_records(folder):
            return of(""), folder
    if headers and len(locate_files(home, headers, flat=False)) == len(headers):
        return of(""), home
    if why := forbidden(allowed):
        raise _nothing_in(name, home, why)
    newest = find_version(name)
    return of(newest), home / name / newest


def _nothing_in(name: str, home: Path, why: str) -> MissingFileError:
    return MissingFileError(
        f"no record of {name} lies in {home / name}, and nothing is downloaded ({why}): get the database from "
        f"https://physionet.org/content/{name}/ and set {DATA_VARIABLE} or data_home to the folder that holds it, or "
        f"allow the download (download_if_missing=True, {OFFLINE_VARIABLE} unset, records other than 'local')"
    )


def find_version(name: str, policy: Policy | None = None) -> str:
    """Return the newest version of a database that a server lists.

    Web servers list a folder as a page of links, the public bucket as XML; only what is a version number below the
    database's own name is believed.

    Parameters
    ----------
    name : str
        PhysioNet's name of the database.
    policy : Policy, default=None
        Times and numbers of attempts.

    Returns
    -------
    version : str
        Such as ``"1.0.0"``.

    Raises
    ------
    DownloadError
        Where no server lists any.
    """
    reasons = []
    for base in get_bases():
        client = Client([base], policy or Policy(), resume=False)
        bucket = ".s3." in base
        query = f"list-type=2&delimiter=/&prefix={name}/" if bucket else ""
        with tempfile.TemporaryDirectory(prefix="skecg-") as folder:
            page = Path(folder, "page")
            try:
                client.fetch("" if bucket else f"{name}/", page, None, limit=_PAGE_BYTES, query=query)
            except DownloadError as error:
                reasons.append(str(error))
                continue
            text = page.read_text(encoding="utf-8", errors="replace")
        if found := _read_versions(text, name):
            return max(found, key=_version_key)
        reasons.append(f"{base}/{name}/ lists no version")
    raise DownloadError(
        f"no server tells which versions of {name} there are ({'; '.join(reasons)}): look the name and the version up "
        f"at https://physionet.org/content/{name}/ and pass version="
    )


def _read_versions(page: str, name: str) -> set[str]:
    """Return the versions below a database's name that a page of links or a bucket's list shows."""
    links = re.findall(r"""href=["']([^"'?#]+)["']""", page, flags=re.IGNORECASE)
    links += re.findall(r"<Prefix>([^<]+)</Prefix>", page)
    found = set()
    for link in links:
        parent, _, version = link.rstrip("/").removeprefix("./").rpartition("/")
        if VERSION.fullmatch(version) and parent.rpartition("/")[2] in ("", name):
            found.add(version)
    return found


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _has_records(folder: Path) -> bool:
    """Tell whether a folder holds records, or the list of them that a download begins with."""
    return (folder / SUMS_NAME).is_file() or any(name.endswith(".hea") for name in lying_there(folder))
