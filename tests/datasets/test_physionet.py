"""Any database of PhysioNet by its name: found, downloaded, described, and refused where its name leads elsewhere."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from skecg.datasets import MissingFileError, fetch_physionet, read_record
from tests.datasets.conftest import sums_of

LISTING = b'<html><a href="../">up</a><a href="0.9.0/">0.9.0/</a><a href="1.10.0/">1.10.0/</a><a href="1.9.0/">..</a>'


@pytest.fixture
def made(tmp_path, write_record):
    """Return the files of a database of three records, one in a folder, with what real ones have around them."""
    source = tmp_path / "source"
    for seed, name in enumerate(("04015", "04043", "04048")):
        write_record(source, name, n=500, fs=250, leads=("ECG1", "ECG2"), beats=((100, "N"), (300, "V")), seed=seed)
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    inner = {f"sub/{name}": files.pop(name) for name in sorted(files) if name.startswith("04048")}
    files = dict(sorted(files.items())) | inner
    files["04043.qrs"] = b"\0\0"
    files["RECORDS"] = b"04015\r\n04043\r\nsub/\r\n04999\r\n"  # the last claim is wrong
    files["sub/RECORDS"] = b"04048\n"
    files["notes.txt"] = b"not of a record"
    for path in source.iterdir():
        path.unlink()
    source.rmdir()
    return files


@pytest.fixture
def afdb(made, serve):
    """Return a server with that database, as version 1.10.0 of afdb."""
    files = made | {"SHA256SUMS.txt": sums_of(made)}
    server = serve({f"afdb/1.10.0/{name}": body for name, body in files.items()} | {"afdb/": LISTING}, prefix="/")
    return server


def get(home, records=None, database="afdb", **settings):
    return fetch_physionet(database, records, data_home=home, verbose=0, **settings)


def listing(folder):
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_mode, path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def test_whole_database_that_nobody_named(tmp_path, afdb, made):
    with pytest.warns(UserWarning, match="1 lines of its RECORDS name no file that is there"):
        found = get(tmp_path)
    folder = tmp_path / "afdb" / "1.10.0"
    assert list(found.record) == ["04015", "04043", "sub/04048"]
    assert found.paths == [folder / name for name in found.record]
    assert found.fs.tolist() == [250.0] * 3 and found.n_timesteps == [500] * 3
    assert found.lead_names == [["ECG1", "ECG2"]] * 3 and found.comments == [[]] * 3
    assert (found.database, found.version, found.folder) == ("afdb", "1.10.0", folder)  # the newest that is listed
    assert found.skipped == {} and found.n_unlisted == 1
    assert "https://physionet.org/content/afdb/1.10.0/" in found.DESCR
    extensions = [[path.suffix for path in files] for files in found.files]
    assert extensions == [[".hea", ".dat", ".atr"], [".hea", ".dat", ".atr", ".qrs"], [".hea", ".dat", ".atr"]]
    assert all((folder / name).read_bytes() == body for name, body in made.items() if name != "notes.txt")
    assert not (folder / "notes.txt").exists() and not any("04999" in path for path in afdb.paths())
    asked = [path for path in afdb.paths() if path != "afdb/"]
    assert len(asked) == len(set(asked)) == len(made)  # all but the notes, and the list of sums: each once
    record = read_record(found.paths[2], annotator="atr")
    assert record.verified and list(record.symbol) == ["N", "V"]
    assert not any(isinstance(value, np.ndarray) and value.size > 3 for value in found.values())


def test_some_records_come_without_the_others(tmp_path, afdb):
    found = get(tmp_path, ["04043"])
    assert list(found.record) == ["04043"] and not any("04015" in path or "04048" in path for path in afdb.paths())
    assert get(tmp_path, "04043.hea").paths == found.paths
    with pytest.warns(UserWarning, match="RECORDS"):
        assert list(get(tmp_path, ["sub/", "04015"]).record) == ["sub/04048", "04015"]


def test_annotations_come_without_signals(tmp_path, afdb):
    found = get(tmp_path, ["04015"], extensions="atr")
    assert [path.name for path in found.files[0]] == ["04015.hea", "04015.atr"]
    assert not any(path.endswith(".dat") for path in afdb.paths())
    assert len(read_record(found.paths[0], signal=False, annotator="atr").sample) == 2


def test_second_call_needs_no_server_and_writes_nothing(tmp_path, afdb, monkeypatch):
    with pytest.warns(UserWarning, match="RECORDS"):
        first = get(tmp_path)
    asked, before = len(afdb.requests), listing(tmp_path)

    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    with monkeypatch.context() as patch:
        for name in ("socket", "create_connection", "getaddrinfo"):
            patch.setattr(socket, name, refuse)
        for settings in ({}, {"download_if_missing": False}, {"version": "1.10.0"}):
            with pytest.warns(UserWarning, match="RECORDS"):
                assert get(tmp_path, **settings).paths == first.paths
        assert get(tmp_path, "local").paths == first.paths
        patch.setenv("SKECG_OFFLINE", "1")
        assert get(tmp_path, ["04015"]).paths == first.paths[:1]
    assert len(afdb.requests) == asked and listing(tmp_path) == before


@pytest.mark.parametrize("how", ["variable", "argument", "local"])
def test_offline_without_the_files_names_variable_and_page(tmp_path, afdb, monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv("SKECG_OFFLINE", "1")
    settings = {"variable": {}, "argument": {"download_if_missing": False}, "local": {"records": "local"}}[how]
    with pytest.raises(MissingFileError, match=r"afdb.*physionet\.org/content/afdb/.*SKECG_DATA"):
        get(tmp_path / "home", **settings)
    assert afdb.requests == [] and not (tmp_path / "home").exists()


def put(folder, files, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files[name])


@pytest.mark.parametrize("place", ["afdb", "afdb/1.0.0", "physionet.org/files/afdb/1.0.0"])
@pytest.mark.parametrize("records", [None, "local", ["04015"]])
def test_home_that_somebody_has_filled_is_read_and_not_touched(tmp_path, made, place, records):
    put(tmp_path / place, made, "04015.hea", "04015.dat", "04015.atr", "notes.txt")
    before = listing(tmp_path)
    found = get(tmp_path, records, download_if_missing=records is not None)
    assert list(found.record) == ["04015"] and found.folder == tmp_path / place
    assert [path.suffix for path in found.files[0]] == [".hea", ".dat", ".atr"]
    assert found.version == ("" if place == "afdb" else "1.0.0")
    assert listing(tmp_path) == before


def test_folder_itself_may_be_the_data_home(tmp_path, made):
    for place in ("afdb", "afdb/1.0.0", "elsewhere"):
        home = tmp_path / place.replace("/", "_") / place
        put(home, made, "04015.hea", "04015.dat")
        assert get(home, ["04015"]).paths == [home / "04015"]
        if place != "elsewhere":
            assert get(home, "local").paths == [home / "04015"]
    with pytest.raises(MissingFileError):  # records of whatever database are not taken for those of afdb
        get(home, "local")


def test_newest_local_version_is_taken_unless_another_is_named(tmp_path, made):
    for version in ("1.9.0", "1.10.0", "0.9.0"):
        put(tmp_path / "afdb" / version, made, "04015.hea", "04015.dat")
    assert get(tmp_path, "local").version == "1.10.0"
    assert get(tmp_path, "local", version="0.9.0").folder == tmp_path / "afdb" / "0.9.0"


def test_folder_of_unknown_version_is_not_completed(tmp_path, made, afdb):
    put(tmp_path / "afdb", made, "04015.hea", "04015.dat")
    before = listing(tmp_path)
    with pytest.raises(MissingFileError, match=r"does not tell which version of afdb it is: pass version="):
        get(tmp_path, ["04015", "04043"])
    assert listing(tmp_path) == before and afdb.requests == []
    assert len(get(tmp_path, ["04015", "04043"], version="1.10.0").paths) == 2
    assert (tmp_path / "afdb" / "1.10.0" / "04043.dat").exists()


def test_local_records_without_their_signals_are_told(tmp_path, made):
    put(tmp_path / "afdb", made, "04015.hea", "04015.dat", "04043.hea", "04043.atr")
    found = get(tmp_path, "local")
    assert list(found.record) == ["04015"] and list(found.skipped) == ["04043"]
    assert "04043.dat missing from" in found.skipped["04043"]
    assert list(get(tmp_path, "local", extensions=("atr",)).record) == ["04043"]
    (tmp_path / "afdb" / "04015.dat").unlink()
    with pytest.raises(MissingFileError, match=r"04015\.dat missing .*pass extensions=\('atr',\)"):
        get(tmp_path, "local")


def test_table_of_skecg_gives_records_files_and_version(tmp_path, write_record, serve):
    source = tmp_path / "source"
    write_record(source, "100", n=500, beats=((100, "N"),))
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    server = serve(files)
    found = get(tmp_path / "home", ["100"], "mitdb")
    assert found.version == "1.0.0" and found.paths == [tmp_path / "home" / "mitdb" / "100"]
    assert sorted(server.paths()) == sorted(["SHA256SUMS.txt", *files])
    assert "10.13026/C2F305" in found.DESCR
    with pytest.raises(MissingFileError, match="47 files are missing"):
        get(tmp_path / "home", None, "mitdb", download_if_missing=False)


def test_old_version_of_a_known_database_goes_to_a_folder_of_its_own(tmp_path, made, serve):
    files = made | {"SHA256SUMS.txt": sums_of(made)}
    server = serve({f"mitdb/0.9/{name}": body for name, body in files.items()}, prefix="/")
    put(tmp_path / "mitdb", made, "04015.hea")
    found = get(tmp_path, ["04015"], "mitdb", version="0.9")
    assert found.folder == tmp_path / "mitdb" / "0.9" and "mitdb/0.9/04015.dat" in server.paths()


def test_flat_records_of_a_known_database_are_found(tmp_path, write_record):
    write_record(tmp_path / "ludb", "7", n=500)
    found = get(tmp_path, "local", "ludb")
    assert found.paths == [tmp_path / "ludb" / "7"]
    assert get(tmp_path, ["data/7"], "ludb", extensions=("dat",)).paths == found.paths


@pytest.mark.parametrize(
    "name", ["../afdb", "/etc", "a/b", "mitdb/1.0.0", "s3://x", "http://x/y", "", "a\\b", "a b", ".", "..", "-x", "a\n"]
)
def test_names_that_are_none_are_refused(tmp_path, name, afdb):
    with pytest.raises(ValueError, match="database must be PhysioNet's name"):
        get(tmp_path / "home", database=name)
    assert afdb.requests == [] and not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a//b", "s3://b/x", "C:\\x", "a\0b", "", "/", "..", "a/.."])
def test_records_that_lead_out_are_refused(tmp_path, name, afdb):
    with pytest.raises(ValueError, match="no relative path inside the database"):
        get(tmp_path / "home", ["04015", name], version="1.10.0")
    assert afdb.requests == [] and not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"version": "../1.0.0"}, ValueError, "version must be"),
        ({"version": "latest"}, ValueError, "version must be"),
        ({"version": 1.0}, ValueError, "version must be"),
        ({"extensions": ("../x",)}, ValueError, "extensions must be"),
        ({"extensions": (3,)}, ValueError, "extensions must be"),
        ({"on_error": "ignore"}, ValueError, "on_error"),
        ({"database": 3}, TypeError, "database must be a name"),
        ({"records": []}, ValueError, "records must be different names"),
        ({"records": ["1", "1"]}, ValueError, "records must be different names"),
        ({"data_home": "s3://physionet-open"}, ValueError, "folder on this machine"),
    ],
)
def test_wrong_parameters_are_named(tmp_path, afdb, settings, error, message):
    with pytest.raises(error, match=message):
        fetch_physionet(**{"database": "afdb", "data_home": tmp_path, "verbose": 0} | settings)
    assert afdb.requests == [] and list(tmp_path.iterdir()) == []


def test_record_that_the_database_has_not(tmp_path, afdb):
    with pytest.raises(MissingFileError, match=r"99999\.hea is not in PhysioNet's list"):
        get(tmp_path, ["99999"])
    with pytest.raises(ValueError, match=r"no records in 'deep/'; it has 04015"), pytest.warns(UserWarning):
        get(tmp_path, ["deep/"])


def test_lost_record_costs_no_other(tmp_path, afdb):
    del afdb.files["afdb/1.10.0/04043.dat"]
    with pytest.raises(FileNotFoundError, match=r"04043\.dat: not found \(404\)"):
        get(tmp_path, ["04043", "04015"])
    assert (tmp_path / "afdb" / "1.10.0" / "04015.dat").exists()  # the others come all the same
    with pytest.warns(UserWarning, match="1 records left out"):
        found = get(tmp_path, ["04043", "04015"], on_error="warn")
    assert list(found.record) == ["04015"] and list(found.skipped) == ["04043"]
    assert "04043.dat missing" in found.skipped["04043"]


def test_damaged_header_costs_no_other(tmp_path, made, serve):
    made["04043.hea"] = b"04043 2 -250 500\n"
    files = made | {"SHA256SUMS.txt": sums_of(made)}
    serve({f"afdb/1.10.0/{name}": body for name, body in files.items()}, prefix="/")
    with pytest.raises(ValueError, match=r"04043\.hea: not a valid WFDB header"):
        get(tmp_path, ["04043", "04015"], version="1.10.0")
    assert (tmp_path / "afdb" / "1.10.0" / "04015.dat").exists()
    with pytest.warns(UserWarning, match="record 04043 left out"):
        found = get(tmp_path, ["04043", "04015"], version="1.10.0", on_error="warn")
    assert list(found.record) == ["04015"] and "not a valid WFDB header" in found.skipped["04043"]
    with pytest.raises(ValueError, match="no record of afdb could be read"), pytest.warns(UserWarning):
        get(tmp_path, ["04043"], version="1.10.0", on_error="warn")


def test_names_in_a_header_do_not_lead_out(tmp_path, made, serve):
    made["04043.hea"] = made["04043.hea"].replace(b"04043.dat", b"../../x.d")
    files = made | {"SHA256SUMS.txt": sums_of(made)}
    server = serve({f"afdb/1.10.0/{name}": body for name, body in files.items()}, prefix="/")
    with pytest.raises(ValueError, match="plain name of a file"):
        get(tmp_path / "home", ["04043"], version="1.10.0")
    assert not any("x.d" in path for path in server.paths())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


@pytest.mark.parametrize("how", [401, 403, "page"])
def test_database_that_needs_an_account_is_said_to(tmp_path, serve, how):
    server = serve({}, prefix="/")

    def refuse(handler, body):
        if how == "page":
            server.send(handler, 200, b"<html>log in</html>", {"Content-Type": "text/html"})
        else:
            server.send(handler, how, b"", {})
        return True

    server.faults["mimic/1.0.0/SHA256SUMS.txt"] = [refuse] * 3
    with pytest.raises(MissingFileError, match=r"PhysioNet account.*download it yourself and set data_home"):
        get(tmp_path, database="mimic", version="1.0.0")
    assert server.paths() == ["mimic/1.0.0/SHA256SUMS.txt"]


@pytest.mark.parametrize("content", [b"../../x\n", b"s3://b/x\n", b"04015\n/etc/passwd\n", b""])
def test_lists_of_records_that_lead_out_are_refused(tmp_path, made, serve, content):
    made["RECORDS"] = content
    files = made | {"SHA256SUMS.txt": sums_of(made)}
    server = serve({f"afdb/1.10.0/{name}": body for name, body in files.items()}, prefix="/")
    with pytest.raises(ValueError, match=r"RECORDS, line \d"):
        get(tmp_path / "home", version="1.10.0")
    assert {path.rpartition("/")[2] for path in server.paths()} == {"SHA256SUMS.txt", "RECORDS"}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.filterwarnings("ignore:.*the server has no SHA256SUMS")
def test_database_without_list_of_sums(tmp_path, made, serve):
    made["RECORDS"] = b"04015\n04043\n"
    serve({f"afdb/1.10.0/{name}": body for name, body in made.items()}, prefix="/")
    found = get(tmp_path, version="1.10.0")
    assert list(found.record) == ["04015", "04043"]
    assert [path.suffix for path in found.files[0]] == [".hea", ".dat"]  # no list tells of annotations
    assert [path.suffix for path in get(tmp_path, extensions=("atr",)).files[0]] == [".hea", ".atr"]


def test_database_without_records_says_so(tmp_path, serve):
    files = {"table.csv": b"a,b\n"}
    files["SHA256SUMS.txt"] = sums_of(files)
    serve({f"tables/1.0.0/{name}": body for name, body in files.items()}, prefix="/")
    with pytest.raises(ValueError, match=r"tables 1\.0\.0 has no WFDB records"):
        get(tmp_path, database="tables", version="1.0.0")


@pytest.mark.parametrize("page", [b"<html>nothing here</html>", b'<a href="latest/">x</a>', None])
def test_versions_that_nobody_tells_have_to_be_given(tmp_path, serve, page):
    serve({} if page is None else {"afdb/": page}, prefix="/")
    with pytest.raises(MissingFileError, match=r"which versions of afdb.*content/afdb/ and pass version="):
        get(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mitdb", "ludb", "ptbxl", "vfdb", "cpsc2018", "georgia"])
@pytest.mark.filterwarnings("ignore:record .*its header calls the record")
def test_real_records_as_they_lie(real_data, name):
    before = listing(real_data / name)
    found = get(real_data, "local", name)
    assert len(found.record) + len(found.skipped) == sum(path.endswith(".hea") for path in before) > 0
    assert found.folder == real_data / name and listing(real_data / name) == before
    for i in (0, -1):
        assert read_record(found.paths[i], sampto=100).data.shape == (len(found.lead_names[i]), 100)
