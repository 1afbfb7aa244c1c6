"""Windows of the real day-long recordings, from their annotations alone: the first paper's counts, and the pages'."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from skecg.datasets import fetch_ltafdb, fetch_ltdb
from skecg.datasets._databases import LTAFDB, LTDB
from skecg.datasets._home import describe

from .strips import read_tables, unpack_ltafdb

PURE = {"pure": True, "edge": "annotations"}


@pytest.fixture(scope="module")
def home(real_data, tmp_path_factory):
    """Return a data home with the annotations of ltafdb."""
    return unpack_ltafdb(real_data, tmp_path_factory.mktemp("ltafdb"))


def ltafdb(home, **settings):
    with pytest.warns(UserWarning, match=r"^ltafdb: 1 annotations of 30\.atr lie beyond the end .* \(record 30\)$"):
        return fetch_ltafdb(data_home=home, signal=False, download_if_missing=False, verbose=0, **settings)


@pytest.fixture
def ltdb(real_data):
    """Return a function that fetches the annotations of ltdb."""
    if not (real_data / "ltdb" / "14046.atr").is_file():
        pytest.skip("ltdb is not in the folder of real records")
    return lambda **settings: fetch_ltdb(
        data_home=real_data, **{"signal": False, "download_if_missing": False, "verbose": 0} | settings
    )


def test_published_counts_of_ltdb(ltdb):
    counts = Counter(ltdb(**PURE).target.tolist())
    assert counts == {"N": 517_402, "PVC": 5_137}
    pvc = ltdb(classes="PVC", **PURE)
    assert Counter(pvc.record.tolist()) == {
        "14046": 253, "14134": 634, "14149": 4, "14157": 392, "14172": 23, "14184": 3504, "15814": 327,
    }  # fmt: skip


def test_labels_of_ltdb_are_those_of_its_page(ltdb):
    told = read_tables(describe("ltdb"))
    windows = ltdb(classes=tuple(LTDB.beats))
    assert Counter(windows.target.tolist()) == {label: told[label][1][1] for label in LTDB.beats}
    assert windows.data is None and len(set(windows.groups.tolist())) == 7
    with pytest.warns(UserWarning, match="ltdb: no window of Q"):
        assert Counter(ltdb(classes="aami").target.tolist())["F"] == 2_907


def test_missing_signals_of_ltdb_are_named(ltdb, real_data):
    with pytest.raises(OSError, match=r"14046\.dat, 14134\.dat.*signal=False") as caught:
        ltdb(signal=True)
    assert caught.value.files == tuple(f"{record}.dat" for record in LTDB.records)
    with pytest.raises(OSError, match=r"signals of ltdb are missing from .*14046\.dat, 14134\.dat.*signal=False"):
        ltdb(signal=True, records="local")


def test_published_counts_of_beats_of_ltafdb(home):
    assert Counter(ltafdb(home, classes=("PVC", "PAC"), **PURE).target.tolist()) == {"PVC": 1_318, "PAC": 14_914}


def test_published_counts_of_rhythms_of_ltafdb(home):
    marks = ltafdb(home, classes=("AFIB", "SVTA", "SBR"), rhythm="marks", pure=True)
    assert Counter(marks.target.tolist()) == {"SBR": 11_323, "AFIB": 7_216, "SVTA": 3_140}


def test_rhythms_of_ltafdb_are_those_of_its_page(home):
    windows = ltafdb(home, classes=tuple(LTAFDB.rhythms))
    told = read_tables(describe("ltafdb"))
    labels, counts = np.unique(windows.target, return_counts=True)
    assert dict(zip(labels.tolist(), counts.tolist(), strict=True)) == {
        label: told[label][1][1] for label in LTAFDB.rhythms
    }
    assert windows.n_excluded["short"] == 5_140


def test_limit_spreads_over_the_patients_of_ltafdb(home):
    windows = fetch_ltafdb(
        data_home=home, signal=False, records=LTAFDB.records[:6], max_per_class=600, random_state=0, verbose=0
    )
    shares = {label: Counter(windows.groups[windows.target == label].tolist()) for label in ("N", "PVC", "PAC")}
    assert set(shares["N"].values()) == {100}
    # Three of the six have fewer PVC than their share: all of them, and a third of the rest from each of the others.
    assert shares["PVC"] == {"03": 96, "05": 4, "06": 5} | dict.fromkeys(("00", "01", "07"), (600 - 96 - 4 - 5) // 3)
    assert sorted(shares["PAC"].values()) == [53, 109, 109, 109, 110, 110]


def test_missing_signals_of_ltafdb_are_named(home):
    with pytest.raises(OSError, match=r"84 files are missing .*00\.dat, 01\.dat.*signal=False"):
        fetch_ltafdb(data_home=home, download_if_missing=False, verbose=0)
