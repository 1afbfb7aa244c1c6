"""The data home, the folder of a database in it, and names that must not lead out of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skecg.datasets import MissingFileError, get_data_home
from skecg.datasets._home import check_relative, describe, find_folder, is_offline, locate_files


def test_argument_before_variable_before_default(monkeypatch, tmp_path):
    monkeypatch.setenv("SKECG_DATA", str(tmp_path / "variable"))
    assert get_data_home(tmp_path / "argument") == tmp_path / "argument"
    assert get_data_home() == tmp_path / "variable"
    monkeypatch.delenv("SKECG_DATA")
    assert get_data_home() == Path.home() / "skecg_data"
    monkeypatch.setenv("SKECG_DATA", "")
    assert get_data_home() == Path.home() / "skecg_data"


def test_home_is_absolute_expanded_and_not_created(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert get_data_home("here") == tmp_path / "here"
    assert get_data_home("~/there") == Path.home() / "there"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [3, b"bytes", ["list"]])
def test_home_of_another_type_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="data_home must be a path or None"):
        get_data_home(wrong)


def test_an_address_is_no_home():
    with pytest.raises(ValueError, match="folder on this machine"):
        get_data_home("s3://physionet-open")


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False), (" False", False)]
)
def test_offline_variable(monkeypatch, value, offline):
    monkeypatch.setenv("SKECG_OFFLINE", value)
    assert is_offline() is offline


@pytest.mark.parametrize("place", ["ptbxl", "ptb-xl", "ptbxl/1.0.3", "ptb-xl/1.0.3", "."])
def test_folder_of_a_database_is_found_under_each_of_its_names(tmp_path, place):
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1.hea").write_text("x")
    assert find_folder(tmp_path, ("ptbxl", "ptb-xl"), "1.0.3", ["1.hea", "1.dat"]) == folder


def test_folder_with_most_of_the_files_wins_and_a_new_one_gets_the_first_name(tmp_path):
    assert find_folder(tmp_path, ("a", "b"), "1", ["1.hea"]) == tmp_path / "a"
    for place, files in (("a", ["1.hea"]), ("b", ["1.hea", "1.dat"])):
        (tmp_path / place).mkdir()
        for file in files:
            (tmp_path / place / file).write_text("x")
    assert find_folder(tmp_path, ("a", "b"), "1", ["1.hea", "1.dat"]) == tmp_path / "b"


@pytest.mark.parametrize("place", ["ptb-xl/1.0.1", "ptbxl/1.0.1", "physionet.org/files/ptb-xl/1.0.3"])
def test_folder_of_any_version_that_will_do_is_found(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "1.hea").write_text("x")
    assert find_folder(tmp_path, ("ptbxl", "ptb-xl"), ("1.0.3", "1.0.1"), ["1.hea"]) == tmp_path / place
    assert find_folder(tmp_path, ("ptbxl", "ptb-xl"), "1.0.2", ["1.hea"]) == tmp_path / "ptbxl"


@pytest.mark.parametrize("place", ["training/g1/A1.hea", "g1/A1.hea", "A1.hea"])
def test_files_are_found_without_their_folders(tmp_path, place):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("x")
    name = "training/g1/A1.hea"
    assert locate_files(tmp_path, [name, "training/g1/A2.hea"]) == {name: tmp_path / place}
    assert locate_files(tmp_path, [name], flat=False) == ({name: tmp_path / place} if place == name else {})
    (tmp_path / "db").mkdir()
    assert find_folder(tmp_path, ("db",), "1.0.0", [name]) == tmp_path


def test_folder_called_like_a_file_is_none(tmp_path):
    (tmp_path / "1.hea").mkdir()
    (tmp_path / "2.hea").symlink_to(tmp_path / "nowhere")
    assert locate_files(tmp_path, ["1.hea", "2.hea", "3.hea/x"]) == {}


def test_many_names_are_looked_up_by_folder(tmp_path, monkeypatch):
    names = [f"{i // 100}/{i}.hea" for i in range(2000)]
    for name in names[::2]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    calls, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: calls.append(path) or scan(path))
    assert list(locate_files(tmp_path, names)) == names[::2]
    assert len(calls) == 21  # twenty folders, and the one above them


UNSAFE = ["../x", "a/../x", "/etc/passwd", "a//b", "./a", "a/", "", "a\\b", "C:x", "s3://b/x", "x::y", "a\0b", "a\nb"]


@pytest.mark.parametrize("name", [*UNSAFE, "x" * 2000])
def test_names_that_lead_out_are_refused(name):
    with pytest.raises(ValueError, match="no relative path inside the database"):
        check_relative(name, "RECORDS, line 3")


@pytest.mark.parametrize("name", ["100", "100.dat", "records100/00000/00001_lr.hea", "data/1..avf"])
def test_plain_names_pass(name):
    assert check_relative(name, "RECORDS") == name


def test_missing_file_error_is_what_both_kinds_of_callers_expect():
    error = MissingFileError("100.dat is missing", ["100.dat"])
    assert isinstance(error, FileNotFoundError) and isinstance(error, ValueError)
    assert str(error) == "100.dat is missing" and error.files == ("100.dat",)


def test_page_of_a_database_names_source_and_licence():
    page = describe("mitdb")
    assert "10.13026/C2F305" in page and "ODC-By" in page
