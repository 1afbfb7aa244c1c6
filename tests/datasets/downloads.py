"""What the tests of downloads share: a made-up database, its files, and impatience."""

from __future__ import annotations

import numpy as np

from skecg.datasets._databases import Database
from skecg.datasets._download import fetch_files
from skecg.datasets._http import Policy

DATABASE = Database("mitdb", "mitdb", "1.0.0", "A database", 360.0, ("a", "b", "c"))
FAST = Policy(connect=2, read=0.4, slow_after=0.3, min_speed=2000, back_off=0.01, longest_wait=2.0, lock=10)
BODY = np.random.default_rng(0).bytes(300_000)
FILES = {"a.dat": BODY, "b.dat": BODY[::-1], "sub/c.dat": BODY[:1000]}


def fetch(folder, files=("a.dat",), **settings):
    fetch_files(folder, list(files), DATABASE, verbose=0, policy=settings.pop("policy", FAST), **settings)


def names(folder):
    """Return what lies in a folder, without the lock, the list and the stamps that a download leaves."""
    own = {".skecg.lock", ".skecg-verified.json", "SHA256SUMS.txt"}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return sorted(found - own)
