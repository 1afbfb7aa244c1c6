"""Files are there as a whole or not at all, whoever else writes them."""

import os
import threading

import pytest

from skecg.utils._files import replace_file


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def broken(file):
        file.write(b"new")
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        replace_file(path, broken)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    (tmp_path / "a.part").write_bytes(b"of a run that was killed")
    replace_file(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_no_link_is_followed(tmp_path):
    other = tmp_path / "other"
    other.write_text("mine")
    try:
        os.symlink(other, tmp_path / "a.part")
    except OSError:
        pytest.skip("this system or user makes no symbolic links")
    replace_file(tmp_path / "a", lambda file: file.write(b"new"))
    assert other.read_text() == "mine"
    assert (tmp_path / "a").read_bytes() == b"new" and not (tmp_path / "a").is_symlink()


def test_several_at_a_time_do_not_mix(tmp_path):
    path, letters, failed = tmp_path / "a", [b"a", b"b", b"c"], []
    started = threading.Barrier(len(letters), timeout=60)

    def write(letter):
        def content(file):
            for i in range(20):
                file.write(letter * 10_000)
                if i == 3 and not started.broken:
                    try:
                        started.wait(timeout=0.2)  # all have begun, where all can
                    except threading.BrokenBarrierError:
                        pass

        try:
            replace_file(path, content)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in letters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() in [letter * 200_000 for letter in letters]
