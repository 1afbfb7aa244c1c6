"""The allocator of Dask's workers: told to keep memory for the time of a block alone, and left alone elsewhere."""

import threading

import pytest

from skecg.cohort import _allocator
from skecg.cohort._allocator import kept_memory


class Library:
    """A C library that notes what it is told."""

    def __init__(self):
        self.told = []

    def mallopt(self, what, value):
        self.told.append((what, value))
        return 1


@pytest.fixture
def library(monkeypatch):
    library = Library()
    monkeypatch.setattr(_allocator, "_library", lambda: library)
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    return library


def test_a_dask_worker_keeps_memory_while_it_works(library, monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    with kept_memory():
        (trim, large), (mmap, limit) = library.told
        assert (trim, mmap) == (-1, -3) and large > 65536 and limit > 128 << 10
    assert library.told[2:] == [(-1, 65536), (-3, 128 << 10)]  # as Dask and the C library had it


def test_threads_of_one_worker_share_the_setting(library, monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    inside, leave = threading.Barrier(3), threading.Event()

    def work():
        with kept_memory():
            inside.wait(10)
            leave.wait(10)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    with pytest.raises(ValueError, match="by the way"), kept_memory():
        raise ValueError("by the way")
    assert len(library.told) == 2  # others are still at work
    leave.set()
    for thread in threads:
        thread.join()
    assert len(library.told) == 4


@pytest.mark.parametrize(
    "environment",
    [{}, {"MALLOC_TRIM_THRESHOLD_": "many"}, {"MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "1000000"}],
    ids=["not told", "told nonsense", "told by the user"],
)
def test_what_dask_has_not_done_is_left_alone(library, monkeypatch, environment):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with kept_memory():
        pass
    assert library.told == []


def test_the_library_of_this_process_is_found_or_none():
    found = _allocator._library()
    assert found is None or callable(found.mallopt)
