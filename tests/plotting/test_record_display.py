"""RecordDisplay: pages, strips, labels, keys."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.utils import Bunch

from skecg.plotting import RecordDisplay

FS = 50.0


@pytest.fixture
def result():
    rng = np.random.default_rng(0)
    start = np.arange(0, 4900, 100)
    label = np.full(len(start), "N", dtype="<U5")
    label[20:23], label[30] = "PVC", ""
    return Bunch(
        relevance=rng.uniform(0, 1, (2, 5000)).astype(np.float32), relevance_kind="cam", lead_names=["MLII", "V1"],
        fs=FS, start=start, label=label, window=2.0, lead_positions=[0, 1],
    )  # fmt: skip


@pytest.fixture
def ecg():
    x = np.zeros((2, 5000), dtype=np.float32)
    x[:, ::50] = 1
    x[1] *= -2
    return x


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(ax):
    return [t.get_text() for t in ax.texts]


def test_pages_hold_every_sample_once(result, ecg):
    display = RecordDisplay.from_result(result, ecg, strip=7, n_strips=3)
    assert display.n_pages == 5  # 100 s in pages of 21 s
    seen = []
    for page in range(5):
        display.plot(page)
        for ax in display.axes_:
            (trace,) = [line for line in ax.lines if line.get_color() == "black"]
            seen.append(np.round(trace.get_xdata() * FS).astype(int))
            assert np.array_equal(trace.get_ydata(), ecg[0, seen[-1]])
    assert np.array_equal(np.concatenate(seen), np.arange(5000))
    assert "0:01:24 to 0:01:40, page 5 of 5" in display.axes_[0].get_title(loc="left")


def test_one_scale_in_both_directions_and_on_all_pages(result, ecg):
    display = RecordDisplay.from_result(result, ecg, strip=7, n_strips=3)
    width, height = display.figure_.get_size_inches()
    box = display.axes_[0].get_position()
    (t0, t1), (v0, v1) = display.axes_[0].get_xlim(), display.axes_[0].get_ylim()
    mm_per_s, mm_per_mv = box.width * width / (t1 - t0), box.height * height / (v1 - v0)
    assert mm_per_mv / mm_per_s == pytest.approx(10 / 25)
    vmax = display.vmax
    display.plot(3)
    assert display.vmax == vmax and display.axes_[0].get_ylim() == (v0, v1)


def test_labels_where_they_change(result, ecg):
    display = RecordDisplay.from_result(result, ecg, strip=10, n_strips=10)
    found = [(t.get_text(), t.xy[0]) for ax in display.axes_ for t in ax.texts if t.xy[0] % 10]
    # middles of the windows that begin another label: window i begins at 2 i s and is 2 s long
    assert found == [("PVC", 41.0), ("N", 47.0), ("missing", 61.0), ("N", 63.0)]
    assert all(texts(ax)[0] == "N" for ax in display.axes_)


def test_keys_turn_the_pages(result, ecg):
    display = RecordDisplay.from_result(result, ecg, strip=7, n_strips=3)

    def press(key):
        display._on_key(SimpleNamespace(key=key))
        return display.page_

    assert [press(k) for k in ("left", "right", "pagedown", "end", "right", "pageup", "home", "x")] == [
        0, 1, 2, 4, 4, 3, 0, 0,
    ]  # fmt: skip
    assert press("n") == 1  # 41 s lies on the page from 21 to 42 s
    assert press("n") == 2 and press("n") == 2  # 43 and 45 s, then no more


def test_go_to_and_save(result, ecg, tmp_path):
    display = RecordDisplay.from_result(result, ecg, strip=7, n_strips=3)
    assert display.go_to(99.9).page_ == 4 and display.go_to(100).page_ == 4
    display.save(tmp_path / "pages.pdf", pages=[0, 2])
    assert (tmp_path / "pages.pdf").read_bytes().startswith(b"%PDF") and display.page_ == 4


def test_leads_by_name_signs_and_empty_relevance(result, ecg):
    display = RecordDisplay.from_result(result, Bunch(data=ecg, lead_names=["MLII", "V1"]), lead="V1")
    assert display.ecg.min() == -2 and "V1" in display.axes_[0].get_title(loc="left")
    result.relevance[:] = 0
    result.relevance_kind = "signed"
    display = RecordDisplay.from_result(result, ecg)
    assert "zero everywhere" in display.axes_[0].get_title(loc="right")
    gaps = ecg.copy()
    gaps[0, :500] = np.nan
    result.relevance[0, :500] = np.nan
    RecordDisplay.from_result(result, gaps).figure_.canvas.draw()


def test_the_lead_that_was_explained_is_drawn(result, ecg):
    result.lead_names, result.lead_positions, result.relevance = ["V1"], [1], result.relevance[1:]
    for record in (ecg, Bunch(data=ecg), Bunch(data=ecg, lead_names=["ECG", "ECG"])):
        assert RecordDisplay.from_result(result, record).ecg.min() == -2


@pytest.mark.parametrize(
    "change, said",
    [({"page": 9}, "page must be"), ({"lead": "V9"}, "V9"), ({"strip": 0}, "strip"), ({"n_strips": 0}, "n_strips")],
)
def test_bad_input(result, ecg, change, said):
    with pytest.raises(ValueError, match=said):
        RecordDisplay.from_result(result, ecg, **change)


def test_a_record_of_another_length(result, ecg):
    with pytest.raises(ValueError, match="do not belong together"):
        RecordDisplay.from_result(result, ecg[:, :-1])
    with pytest.raises(ValueError, match="window"):
        RecordDisplay(ecg[0], ecg[0], fs=FS, start=[0], label=["N"])
    with pytest.raises(ValueError, match="one lead"):
        RecordDisplay(ecg, ecg, fs=FS)
