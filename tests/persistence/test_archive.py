"""The file attacked from without: flipped, cut, lengthened, doubled, renamed, compressed, linked, pickled."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skecg.classifiers import ECGClassifier
from skecg.persistence import load, save
from skecg.persistence._archive import write_archive
from skecg.preprocessing import ECGScaler
from tests.tiny import toy_ecg

from .files import edited, members_of, write


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    X, y = toy_ecg(n=24, n_timesteps=40)[:2]
    clf = ECGClassifier("ECGLSTM", module__width=1, module__step=10, max_epochs=1, random_state=0).fit(X, y)
    return save(clf, tmp_path_factory.mktemp("saved") / "model.skecg")


@pytest.fixture
def refused(tmp_path):
    """Return a function that loads bytes, which must be refused by the name of the file, and by a reason."""
    path, canary = tmp_path / "attacked.skecg", tmp_path / "canary"

    def check(content, match=""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"attacked\.skecg cannot be loaded: .*{match}"):
            load(path)

    check.canary = canary
    yield check
    assert not canary.exists()


def test_every_flipped_byte_outside_the_members(source, refused):
    content, inside = source.read_bytes(), set()
    with zipfile.ZipFile(source) as file:
        for info in file.infolist():
            start = info.header_offset + 30 + len(info.filename)
            inside.update(range(start, start + info.file_size))
    outside = sorted(set(range(len(content))) - inside)
    assert len(outside) > 1500
    generator = random.Random(0)
    for at in outside:
        flipped = bytearray(content)
        flipped[at] ^= generator.randrange(1, 256)
        refused(bytes(flipped))


def test_flipped_bytes_of_the_members(source, refused):
    content = source.read_bytes()
    for at in range(0, len(content), 67):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        refused(bytes(flipped))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_bytes(source, refused, data):
    content = source.read_bytes()
    start = data.draw(st.integers(0, len(content) - 1))
    length = data.draw(st.integers(0, 20))
    new = data.draw(st.binary(max_size=20))
    changed = content[:start] + new + content[start + length :]
    if changed != content:
        refused(changed)


def test_cut_off_and_lengthened(source, refused):
    content = source.read_bytes()
    for length in {*range(0, len(content), 127), *range(len(content) - 70, len(content))}:
        refused(content[:length])
    for more in (b"\0", b"PK", content, b"\n" * 70):
        refused(content + more)
        refused(more + content)
    refused(b"", "it is empty")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("../evil.npy", "member 1 is called '../evil.npy'"),
        ("arrays/../../evil.npy", "is called"),
        ("/etc/passwd", "is called '/etc/passwd'"),
        ("C:/evil.npy", "is called"),
        ("arrays\\0.npy", "is called"),
        ("arrays/00.npy", "is called"),
        ("arrays/0.npy\n", "is called"),
        ("ARRAYS/0.NPY", "is called"),
        ("evil.py", "is called 'evil.py'"),
        ("arrays/", "is called"),
        ("arrays/7.npy", r"the members are not those that config.json names: \['arrays/7.npy'\]"),
    ],
)
def test_members_of_other_names(tmp_path, refused, name, match):
    members = members_of(save(ECGScaler(), tmp_path / "a"))
    file = io.BytesIO()
    write_archive(file, {**members, name: b"1"})
    refused(file.getvalue(), match)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "attacked.skecg"]


def zipped(*members, **given):
    """Return a zip file as zipfile writes it, with the date and system of ours."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **given) as archive:
        for name, content, attributes in members:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, attributes
            info.compress_type = archive.compression
            with pytest.warns(UserWarning, match="Duplicate") if name in archive.namelist() else torch.no_grad():
                archive.writestr(info, content)
    return file.getvalue()


PLAIN = 0o100644 << 16


def test_what_zipfile_writes_of_the_same_members_is_the_same(source):
    members = [(name, content, PLAIN) for name, content in members_of(source).items()]
    assert zipped(*members) == source.read_bytes()


def test_bombs_doubles_links_and_secrets(source, refused):
    members = [(name, content, PLAIN) for name, content in members_of(source).items()]
    bomb = [*members[:-1], (members[-1][0], b"\0" * 10**8, PLAIN)]
    refused(zipped(*bomb, compression=zipfile.ZIP_DEFLATED), r"config\.json is compressed")
    stored = zipped(*members[:-1], compression=zipfile.ZIP_STORED)
    refused(stored, "the members are not those")
    refused(zipped(*members, members[2]), "is there twice")
    link = [*members[:-1], (members[-1][0], b"/etc/passwd", 0o120777 << 16)]
    refused(zipped(*link), "is no plain file .*120777")
    refused(zipped(*members[1:], members[0]), r"does not begin with config\.json")
    refused(zipped(members[0], *members[:1:-1], members[1]), "another order")
    content = bytearray(source.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    refused(bytes(content), "is encrypted")
    content = bytearray(source.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<2L", 10, 2**32 - 1)
    refused(bytes(content), "is compressed")


def test_overlapping_members(source, refused):
    """Two entries for the same bytes, the trick of bombs without compression."""
    content = bytearray(source.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 1)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    refused(bytes(content), "an entry in the directory that skecg.save does not write")
    content[end + 8 : end + 12] = struct.pack("<2H", 65535, 65535)
    refused(bytes(content), "directory of 65535 members")


def test_pickles_are_never_opened(source, tmp_path, refused):
    payload = Canary(refused.canary)
    objects = io.BytesIO()
    np.save(objects, np.array([payload], dtype=object), allow_pickle=True)
    raw, saved = pickle.dumps(payload), io.BytesIO()
    torch.save({"weights": payload}, saved)
    refused(raw, "it looks like a pickle")
    refused(saved.getvalue())
    refused(objects.getvalue(), "its first bytes are")
    names = [name for name in members_of(source) if name.startswith("arrays/")]
    for content in (objects.getvalue(), raw, saved.getvalue()):
        for name in names[::4]:

            def change(config, members, name=name, content=content):
                members[name] = content

            path = edited(source, tmp_path / "pickled", change)
            refused(path.read_bytes(), "bytes are not those of")

            def fit(config, members, name=name, content=content):
                facts = config["arrays"][int(name[7:-4])]
                facts["shape"] = [len(content)]
                whole = members[name] = content + b"\0" * (len(content) % 7)
                facts.update(dtype="|u1", shape=[max(0, len(whole) - 128)])

            path = edited(source, tmp_path / "pickled", fit)
            refused(path.read_bytes(), "is no array of|are not those of")


def test_other_files(tmp_path, refused):
    refused(b"<html>", "it is no file of skecg.save: its first bytes are")
    with pytest.raises(ValueError, match="it is a folder"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="it is no plain file"):
            load(tmp_path / "pipe")
    file = io.BytesIO()
    np.savez(file, a=np.arange(3))
    refused(file.getvalue(), "member 0 is called 'a.npy'")


def test_wrong_digests_and_sizes(source, tmp_path, refused):
    members = members_of(source)
    other = bytearray(members["arrays/1.npy"])
    other[-1] ^= 1
    path = write(tmp_path / "a", {**members, "arrays/1.npy": bytes(other)})
    refused(path.read_bytes(), r"arrays/1\.npy is not what was saved \(its SHA-256 is another\)")
    path = write(tmp_path / "a", {**members, "history.json": b"[]"})
    refused(path.read_bytes(), r"history\.json has 2 bytes, config\.json says")
    path = write(tmp_path / "a", {**members, "arrays/1.npy": bytes(other) + b"\0"})
    refused(path.read_bytes(), r"arrays/1\.npy has")


def test_what_is_too_much_for_a_file(monkeypatch, tmp_path):
    monkeypatch.setattr("skecg.persistence._archive._LARGE", 100)
    with pytest.raises(ValueError, match=r"has 1 arrays and \d+ bytes; files hold.*joblib"):
        save(ECGScaler(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
