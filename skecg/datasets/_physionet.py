"""Any database of PhysioNet by its name: its records into the data home, listed and described for `read_record`."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ..utils._validation import check_option
from ._databases import Database
from ._download import fetch_files, forbidden, get_page, list_files, lying_there, read_sums
from ._headers import Header, read_header
from ._home import (
    DATA_VARIABLE,
    MissingFileError,
    check_flags,
    check_relative,
    describe,
    get_data_home,
    list_names,
    locate_files,
)
from ._registry import STAMPS_NAME, walk_records
from ._versions import VERSION, find_database

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_NO_SIGNAL = ("~", "-")  # what headers name where there is no signal file


def fetch_physionet(
    database: str,
    records: Sequence[str] | str | None = None,
    *,
    version: str | None = None,
    extensions: Sequence[str] | str | None = None,
    data_home: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    on_error: str = "raise",
    verbose: int = 1,
) -> Bunch:
    """Get the records of any PhysioNet database onto the disk, and tell what they are.

    What is missing is downloaded from PhysioNet [1]_, or from its public bucket where that fails, and verified by the
    SHA-256 sums that PhysioNet serves; an interrupted download goes on where it stopped. No signal is loaded: read a
    record by ``read_record(result.paths[i])``, so that a database larger than memory is usable. The databases with a
    fetcher of their own come as arrays with labels from that.

    Parameters
    ----------
    database : str
        PhysioNet's name of the database, as in the address of its page: ``"afdb"`` for
        ``https://physionet.org/content/afdb/``. The names of skecg's own fetchers, such as ``"ptbxl"``, mean the same
        databases.
    records : sequence of str or "local", default=None
        Names of records, such as ``"04015"`` or ``"training/georgia/g1/E00001"``; a name with ``/`` at its end means
        all records in that folder. None means all records of the database, ``"local"`` those that lie in the data home
        already.
    version : str, default=None
        Version of the database, such as ``"1.0.0"``. None takes the one that skecg's own fetcher takes; else the newest
        that lies in the data home; else the newest that the server lists.
    extensions : sequence of str, default=None
        Files of each record that are wanted beside its header, by their extensions: ``("atr",)`` gets annotations
        without signals. None means the signal files that the header names and all other files of the record that are
        listed.
    data_home : str or path-like, default=None
        Folder that holds, or will hold, the databases; None takes the environment variable ``SKECG_DATA``, and where
        that is not set ``~/skecg_data``. A database is found in ``<data_home>/<name>``, with or without a folder of the
        version below, in a copy that ``wget -r`` has made, or in the folder itself; new ones go to
        ``<data_home>/<name>/<version>``, those with a fetcher of their own where that looks for them. A folder that
        holds all that is wanted is never written to.
    download_if_missing : bool, default=True
        Whether missing files are downloaded. False, or the environment variable ``SKECG_OFFLINE=1``, opens no
        connection.
    on_error : "raise" or "warn", default="raise"
        What happens with a record that cannot be had, or whose header cannot be read: an error, once all others have
        been downloaded; or a warning with the reason, and the other records are returned.
    verbose : int, default=1
        Above 0, show a progress bar while downloading.

    Returns
    -------
    result : Bunch
        With one entry a record, in the order of the database's list or of ``records`` (``"local"``: by name, numbers
        by their size):

        record : ndarray of str, shape (n_records,)
            Names, as paths inside the database.
        paths : list of pathlib.Path
            Where each record lies: what :func:`read_record` takes.
        files : list of list of pathlib.Path
            All files of each record that are there and were wanted, the header first.
        fs : ndarray of float, shape (n_records,)
            Sampling rates, Hz.
        n_timesteps : list of int or None
            Lengths in samples; None where the header gives none.
        lead_names : list of list of str
            Names of the leads, as the headers write them.
        comments : list of list of str
            The headers' comments, in which many databases give age, sex and diagnosis.

        and, for all of them:

        database, version : str
            PhysioNet's name, and the version; empty where the folder does not tell which of several it is.
        folder : pathlib.Path
            The database's folder.
        skipped : dict of str
            Records left out, and the reason: with ``on_error="warn"``; and with ``records="local"`` those of which
            files are missing.
        n_unlisted : int
            Lines of the database's RECORDS to which no file answers. They are left out.
        DESCR : str
            Source and, where skecg knows the database, licence, labels and quirks.

    Raises
    ------
    OSError
        Where files are missing and are not, or cannot be, downloaded. It names the files, the environment variable
        and how to get them. Databases that need a PhysioNet account have to be downloaded by hand: skecg never asks
        for a password.
    ValueError
        For a name that is none, or leads out of the data home; for a record that the database has not; for a damaged
        header.

    See Also
    --------
    read_record : Read one of the records.
    iter_windows : Read a long record window by window.
    fetch_mitdb : Windows and labels of one database in one call.

    Notes
    -----
    Other addresses can be given in the environment variable ``SKECG_PHYSIONET_URL``
    (``<address>/afdb/1.0.0/04015.dat``; several, separated by blanks, are tried in turn). Downloads are tested on a
    local server that misbehaves in every way known; PhysioNet's own was not contacted in the making of this version.
    That the server lists the versions of a database is an assumption: where it does not, ``version`` has to be given.

    References
    ----------
    .. [1] Goldberger AL, Amaral LAN, Glass L, et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation
       101(23):e215-e220, 2000.

    Examples
    --------
    >>> from skecg.datasets import fetch_physionet, read_record
    >>> afdb = fetch_physionet("afdb", ["04015", "04043"], extensions=("dat", "atr"))  # doctest: +SKIP
    >>> record = read_record(afdb.paths[0], sampto=2500, annotator="atr")  # doctest: +SKIP
    >>> record.data.shape, afdb.fs[0]  # doctest: +SKIP
    ((2, 2500), 250.0)
    """
    check_option("on_error", on_error, ("raise", "warn"))
    check_flags(download_if_missing=download_if_missing)
    local = isinstance(records, str) and records == "local"
    names = None if local or records is None else _check_records(records)
    wanted = _check_extensions(extensions)
    home = get_data_home(data_home)
    allowed = download_if_missing and not local
    place = find_database(_check_name(database), _check_version(version), home, names, allowed)
    source = _Source(*place, local=local, allowed=allowed, verbose=verbose)

    n_unlisted, skipped = 0, {}
    if local:
        names = source.local_records()
    elif names is None and source.database.records:
        names = list(source.database.records)
    elif names is None or any(name.endswith("/") for name in names):
        names, n_unlisted = source.listed_records(names)

    headers = _get_headers(source, names, on_error, skipped)
    files = source.choose_files(headers, wanted)
    lost = source.get([file for group in files.values() for file in group])
    for name, group in files.items():
        if missing := [file for file in group if file in lost]:
            skipped[name] = f"{', '.join(missing)} missing from {source.folder}"
    names = [name for name in files if name not in skipped]
    if not names or (source.error and on_error == "raise"):
        raise source.error or _nothing_left(source, skipped)
    if source.error:
        text = f"{source.database.slug}: {len(skipped)} records left out: {source.error}"
        warnings.warn(text, UserWarning, stacklevel=2)

    there = source.locate(file for name in names for file in files[name])
    return Bunch(
        record=np.array(names),
        paths=[headers[name].path.with_suffix("") for name in names],
        files=[[there[file] for file in files[name]] for name in names],
        fs=np.array([headers[name].fs for name in names]),
        n_timesteps=[headers[name].n_timesteps for name in names],
        lead_names=[headers[name].lead_names for name in names],
        comments=[list(headers[name].comments) for name in names],
        database=source.database.slug,
        version=source.told_version(),
        folder=source.folder,
        skipped=skipped,
        n_unlisted=n_unlisted,
        DESCR=_describe(source),
    )


class _Source:
    """Where a database lies, and what is asked of the server about it."""

    def __init__(
        self, database: Database, folder: Path, known: bool, *, local: bool, allowed: bool, verbose: int
    ) -> None:
        # In the databases of the table no two files share a name, so that they may lie without their folders.
        self.database, self.folder, self.known = database, folder, known
        self.local, self.allowed, self.verbose = local, allowed, verbose
        self.error: Exception | None = None
        self._listed: list[str] | None = None

    def locate(self, files: Iterable[str]) -> dict[str, Path]:
        """Return where files lie, of those that are there."""
        return locate_files(self.folder, files, flat=self.known)

    @property
    def listed(self) -> list[str]:
        """The database's files: by the list beside them, or the server's, or what lies there."""
        if self._listed is None:
            if not read_sums(self.folder):
                self._check_version()
            self._listed = list_files(
                self.folder, self.database, download_if_missing=self.allowed, verbose=self.verbose
            )
        return self._listed

    def told_version(self) -> str:
        """Return the version, as far as the folder's name, a download's stamps, or the lack of another one tell it."""
        version = self.database.version
        told = self.folder.name == version or len(self.database.versions) == 1 or (self.folder / STAMPS_NAME).is_file()
        return version if told else ""

    def _check_version(self) -> None:
        if not self.database.version and not forbidden(self.allowed):
            raise MissingFileError(
                f"{self.folder}: not all that is wanted is there, and the folder does not tell which version of "
                f"{self.database.slug} it is: pass version= (see {get_page(self.database)}) to download it into a "
                f"folder of its own, or records='local' for what is there"
            )

    def get(self, files: list[str]) -> set[str]:
        """Download files; return those that could not be had, and keep the first error."""
        there = self.locate(files)
        missing = {file for file in files if file not in there}
        if self.local or not missing:
            return missing
        try:
            self._check_version()
            fetch_files(
                self.folder,
                files,
                self.database,
                download_if_missing=self.allowed,
                verbose=self.verbose,
                flat=self.known,
            )
        except MissingFileError as error:
            self.error = self.error or error
            return set(error.files) or missing
        return set()

    def local_records(self) -> list[str]:
        """Return the records whose headers lie in the folder, by name, numbers in it by their size."""
        names = [name.removesuffix(".hea") for name in lying_there(self.folder) if name.endswith(".hea")]
        names.sort(key=lambda name: [part.zfill(12) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
        names = [name for name in names if name.startswith(self.database.prefix)] or names
        if not names:
            raise _nothing_left(self, {})
        return names

    def listed_records(self, wanted: list[str] | None) -> tuple[list[str], int]:
        """Return all records, or the wanted ones and those in wanted folders, and how many are claimed in vain."""
        found, n_unlisted = self._walk()
        if not found:
            raise ValueError(
                f"{self.database.slug} {self.database.version} has no WFDB records: no header in its list of files "
                f"and no list of records"
            )
        if n_unlisted:
            text = f"{self.database.slug}: {n_unlisted} lines of its RECORDS name no file that is there: left out"
            warnings.warn(text, UserWarning, stacklevel=3)
        names: dict[str, None] = dict.fromkeys(found if wanted is None else [])
        for name in wanted or ():
            inside = [record for record in found if record.startswith(name)] if name.endswith("/") else [name]
            if not inside:
                some = ", ".join(found[:5])
                raise ValueError(f"{self.database.slug} has no records in {name!r}; it has {some}, ...")
            names |= dict.fromkeys(inside)
        return list(names), n_unlisted

    def _walk(self) -> tuple[list[str], int]:
        known = _Known(self.listed, self.folder)

        def read(name: str) -> bytes | None:
            if name not in known or self.get([name]):
                return None
            return (self.folder / name).read_bytes()

        records, _, n_unlisted = walk_records(read, known, self.database.prefix)
        if self.error:
            raise self.error
        if not records:
            records = [name.removesuffix(".hea") for name in self.listed if name.endswith(".hea")]
        return records, n_unlisted

    def choose_files(
        self, headers: Mapping[str, Header], extensions: Sequence[str] | None
    ) -> dict[str, list[str]]:
        """Return the files of each record that are wanted, the header first."""
        if extensions is None and self.known and not self.local:
            extensions = self.database.extensions
        if extensions is not None:
            return {
                name: list(dict.fromkeys([f"{name}.hea", *(f"{name}.{extension}" for extension in extensions)]))
                for name in headers
            }
        chosen = {}
        for name, header in headers.items():
            parent = name[: name.rfind("/") + 1]
            signals = [parent + file for file in header.files() if file not in _NO_SIGNAL]
            chosen[name] = [f"{name}.hea", *signals]
        # The server is not asked about records that are whole: no list beside them says that there is more of them.
        files = [file for group in chosen.values() for file in group]
        asks = self._listed is not None or len(self.locate(files)) < len(set(files)) or read_sums(self.folder)
        more: dict[str, list[str]] = {}
        for file in self.listed if asks and not self.local else lying_there(self.folder):
            parent, slash, last = file.rpartition("/")
            more.setdefault(parent + slash + last.partition(".")[0], []).append(file)
        return {name: list(dict.fromkeys(group + more.get(name, []))) for name, group in chosen.items()}


class _Known:
    """Files that are listed, or lie in the folder whatever its list says."""

    def __init__(self, listed: Iterable[str], folder: Path) -> None:
        self.listed, self.folder = set(listed), folder

    def __contains__(self, name: str) -> bool:
        return name in self.listed or (self.folder / name).is_file()


def _get_headers(source: _Source, names: list[str], on_error: str, skipped: dict[str, str]) -> dict[str, Header]:
    """Return the headers of records, after downloading those that are missing."""
    lost = source.get([f"{name}.hea" for name in names])
    if len(lost) == len(names) and source.error:
        raise source.error
    there = source.locate(f"{name}.hea" for name in names)
    headers = {}
    for name in names:
        if f"{name}.hea" in lost:
            skipped[name] = f"{name}.hea missing from {source.folder}"
            continue
        try:
            headers[name] = read_header(there[f"{name}.hea"])
        except (ValueError, OSError) as error:
            skipped[name] = str(error)
            if on_error == "raise":
                source.error = source.error or error
            else:
                warnings.warn(f"record {name} left out: {error}", UserWarning, stacklevel=3)
    return headers


def _nothing_left(source: _Source, skipped: Mapping[str, str]) -> Exception:
    """Return the error for a call that has no record to return."""
    slug = source.database.slug
    if not skipped:
        return MissingFileError(
            f"no record of {slug} lies in {source.folder}: set {DATA_VARIABLE} or data_home to the folder that holds "
            f"it (from {get_page(source.database)}), or pass records=None to download it"
        )
    reasons = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    if source.local:
        return MissingFileError(
            f"no record of {slug} is complete in {source.folder} ({reasons}{more}): pass extensions=('atr',), or what "
            f"else is there, for annotations without signals, or records=None to download what is missing"
        )
    return ValueError(f"no record of {slug} could be read: {reasons}{more}")


def _describe(source: _Source) -> str:
    """Return skecg's page of a database, or where to read about one that skecg does not know."""
    database = source.database
    if source.known:
        with contextlib.suppress(FileNotFoundError):
            return describe(database.name)
    return (
        f"{database.title} {database.version} of PhysioNet, in {source.folder}. Source, licence and how to cite it: "
        f"{get_page(database)}"
    )


def _check_name(database: str) -> str:
    if not isinstance(database, str):
        raise TypeError(f"database must be a name such as 'afdb'; got {database!r}, a {type(database).__name__}")
    if not _SLUG.fullmatch(database):
        raise ValueError(
            f"database must be PhysioNet's name of one, such as 'afdb', without version, folder or address; got "
            f"{database[:100]!r}"
        )
    return database


def _check_version(version: str | None) -> str | None:
    if version is not None and not (isinstance(version, str) and VERSION.fullmatch(version)):
        raise ValueError(f"version must be a string such as '1.0.0', or None; got {version!r}")
    return version


def _check_records(records: Sequence[str] | str) -> list[str]:
    names = [str(name) for name in list_names(records)]
    names = [name.removesuffix(".hea") for name in names]
    for name in names:
        check_relative(name.removesuffix("/"), "records")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"records must be different names, or 'local', or None for all; got {str(records)[:100]}")
    return names


def _check_extensions(extensions: Sequence[str] | str | None) -> list[str] | None:
    if extensions is None:
        return None
    names = [extensions] if isinstance(extensions, str) else list(extensions)
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"extensions must be those of files, such as ('dat', 'atr'); got {name!r}")
    return [name for name in names if name != "hea"]
