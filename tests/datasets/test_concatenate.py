"""Windows of several databases together: patients stay apart, and the first paper's eight classes come out."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
from sklearn.utils import Bunch

from skecg.datasets import check_split, concatenate_windows, fetch_mitdb, fetch_vfdb
from skecg.preprocessing import Resampler

from .strips import write_strip

BEATS, RHYTHMS = ("N", "PVC", "PAC", "LBBB", "RBBB"), ("AFIB", "SVTA", "SBR")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")  # pandas 3 deprecates what wfdb calls


def windows(n=3, fs=360.0, shape=(1, 720), value=0.0, **more):
    return Bunch(
        data=np.full((n, *shape), value, dtype=np.float32), target=np.array(["N"] * n), groups=np.array(["203"] * n),
        record=np.array(["203"] * n), sample=np.arange(n), fs=fs, lead_names=["MLII"], DESCR="page", **more,
    )  # fmt: skip


def test_patients_of_one_number_stay_two():
    both = concatenate_windows({"mitdb": windows(2), "ltafdb": windows(3, value=1.0)})
    assert both.groups.tolist() == ["mitdb/203"] * 2 + ["ltafdb/203"] * 3 == both.record.tolist()
    assert both.database.tolist() == ["mitdb"] * 2 + ["ltafdb"] * 3
    assert both.data[:, 0, 0].tolist() == [0, 0, 1, 1, 1] and both.data.dtype == np.float32
    assert both.sample.tolist() == [0, 1, 0, 1, 2] and both.fs == 360.0
    assert both.lead_names == ["MLII"] and both.DESCR == "page\n\npage"
    assert check_split(both.database, both.groups) == []


def test_what_not_all_have_is_left_out():
    both = concatenate_windows({"a": windows(split=np.array(["DS1"] * 3)), "b": windows()})
    assert "split" not in both
    labels = windows()
    labels.data = None
    assert concatenate_windows({"a": windows(), "b": labels}).data is None


def test_what_came_is_left_as_it_was():
    first = windows()
    both = concatenate_windows({"a": first, "b": windows()})
    both.data[:] = 5
    both.sample[:] = 5
    assert not first.data.any() and first.sample.tolist() == [0, 1, 2] and first.groups.tolist() == ["203"] * 3


@pytest.mark.parametrize(
    ("bunches", "error", "message"),
    [
        ({}, ValueError, "bunches is empty"),
        ([windows()], TypeError, "must be a mapping of names to windows; got a list"),
        ({"a": 1}, TypeError, "must be a mapping of names to windows"),
        ({"a": {"data": None}}, ValueError, "a has no fs, groups, record, target"),
        ({"a": windows(), "b": windows(fs=250.0)}, ValueError, "rates differ: a 360 Hz, b 250 Hz; .*Resampler"),
        ({"a": windows(), "b": windows(shape=(1, 700))}, ValueError, r"shapes of windows differ: a \(1, 720\), b"),
        ({"a": windows(), "b": windows(shape=(2, 720))}, ValueError, "shapes of windows differ"),
    ],
)
def test_what_does_not_fit_together_is_named(bunches, error, message):
    with pytest.raises(error, match=message):
        concatenate_windows(bunches)


def eight_classes(home, **limits):
    """Return the first paper's classes without its long-term databases: beats and rhythms of mitdb, rhythms of vfdb."""
    settings = {"data_home": home, "records": "local", "download_if_missing": False, "verbose": 0}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no window of")
        mitdb = fetch_mitdb(classes=BEATS + RHYTHMS, random_state=0, **limits, **settings)
        vfdb = fetch_vfdb(classes=RHYTHMS, random_state=0, **limits, **settings)
    vfdb.data = Resampler(vfdb.fs, mitdb.fs).fit_transform(vfdb.data)
    vfdb.fs = mitdb.fs
    return mitdb, vfdb, concatenate_windows({"mitdb": mitdb, "vfdb": vfdb})


def test_eight_classes_of_short_recordings(tmp_path, write_record):
    beats = tuple((450 + 200 * i, "NVALR"[i % 5], "") for i in range(10))
    marks = ((20, "+", "(N"), *beats, (2800, "+", "(AFIB"))
    write_strip(write_record, tmp_path / "mitdb", "203", marks, n=4400)
    marks = ((20, "+", "(SBR"), (1100, "+", "(SVTA"))
    write_strip(write_record, tmp_path / "vfdb", "430", marks, fs=250, n=2200, leads=("ECGa", "ECGb"))
    _, vfdb, both = eight_classes(tmp_path)
    assert Counter(both.target.tolist()) == dict.fromkeys(BEATS, 2) | dict.fromkeys(RHYTHMS, 2)
    assert both.data.shape == (16, 1, 720) and both.data.dtype == np.float32 and both.fs == 360.0
    np.testing.assert_array_equal(both.data[both.database == "vfdb"], vfdb.data)
    assert set(both.groups.tolist()) == {"mitdb/203", "vfdb/430"}


def test_eight_classes_of_real_recordings(real_data):
    mitdb, vfdb, both = eight_classes(real_data, max_per_class=90)
    assert set(both.target.tolist()) == {*BEATS, *RHYTHMS}
    assert Counter(mitdb.target.tolist()) == dict.fromkeys(BEATS + RHYTHMS, 90)
    assert Counter(vfdb.target.tolist()) == {"SVTA": 39} and set(vfdb.record.tolist()) == {"426"}
    assert both.data.shape == (8 * 90 + 39, 1, 720) and np.isfinite(both.data).all()
    assert len(set(both.groups.tolist())) == len(set(mitdb.groups.tolist())) + 1
