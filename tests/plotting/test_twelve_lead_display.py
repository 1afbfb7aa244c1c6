"""TwelveLeadDisplay: the layout and its scale, leads by name, missing leads, short and long records, bad input."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.utils import Bunch

from skecg.plotting import TwelveLeadDisplay
from skecg.utils._leads import STANDARD_LEADS
from tests.plotting.stand_in import drawn

FS = 200.0


@pytest.fixture
def ecg(rng):
    t = np.arange(round(10 * FS)) / FS
    beats = np.exp(-0.5 * (((t % 0.8) - 0.4) / 0.02) ** 2)
    height = np.linspace(-1.3, 1.6, 12)[:, None]
    return (height * beats + 0.01 * rng.normal(size=(12, len(t)))).astype(np.float32)


def trace(ax):
    """Return times (s) and voltages of the ECG of a panel: its longest line."""
    return max((line.get_data() for line in ax.lines), key=lambda data: len(data[0]))


def names(display):
    return [ax.texts[0].get_text() for ax in display.axes_]


def colours(display, panel):
    marker = display.lines_[panel]
    return {round(p[1][0] * FS): v for p, v in zip(marker.get_segments(), marker.get_array(), strict=True)}


def millimetres(display):
    """Return (left, bottom, width, height) of the panels as drawn, in mm of paper, with the page's corner as zero."""
    display.figure_.draw_without_rendering()
    boxes = np.array([ax.get_window_extent().bounds for ax in display.axes_])
    corner = display.page_.transData.transform((0, 0))
    unit = display.page_.transData.transform((1, 1)) - corner
    boxes[:, :2] -= corner
    return boxes / np.tile(unit, 2)


def test_every_panel_shows_its_lead_in_its_time(ecg):
    display = TwelveLeadDisplay.from_relevance(ecg, ecg, fs=FS, label="AF", score=3.21)
    assert display.panels_ == names(display) == [*STANDARD_LEADS, "II"]
    for i, ax in enumerate(display.axes_[:12]):
        times, volts = trace(ax)
        first = (i // 3) * 500
        np.testing.assert_allclose(times, np.arange(first, first + 500) / FS)
        np.testing.assert_array_equal(volts, ecg[i, first : first + 500])
        assert ax.get_xlim() == (first / FS, first / FS + 2.5)
    times, volts = trace(display.axes_[12])
    np.testing.assert_allclose(times, np.arange(2000) / FS)
    np.testing.assert_array_equal(volts, ecg[1])
    assert "AF, score 3.21" in [text.get_text() for text in display.page_.texts]
    assert display.notes_ == ["no names were given: leads taken in the standard order"]
    drawn(display)


def test_the_page_is_3_x_4_leads_over_a_strip_in_true_scale(ecg):
    display = TwelveLeadDisplay.from_relevance(ecg, ecg, fs=FS)
    boxes = millimetres(display)
    np.testing.assert_allclose(boxes[:12, 0], np.repeat([0, 62.5, 125, 187.5], 3), atol=0.01)
    np.testing.assert_allclose(boxes[:12, 2], 62.5, atol=0.01)  # 2.5 s at 25 mm/s
    np.testing.assert_allclose(boxes[12, [0, 2]], [0, 250], atol=0.01)
    volts = [np.ptp(ax.get_ylim()) for ax in display.axes_]
    np.testing.assert_allclose(boxes[:, 3], 10 * np.array(volts), atol=0.01)  # 10 mm/mV
    rows = boxes[:12].reshape(4, 3, 4)
    assert (np.ptp(rows[:, :, 1], axis=0) < 0.01).all()
    tops = [*rows[0, :, 1], boxes[12, 1]]
    np.testing.assert_allclose(np.diff(tops), -np.append(rows[0, 1:, 3], boxes[12, 3]), atol=0.01)  # no gaps
    size = display.page_.get_window_extent()
    assert size.width / np.ptp(display.page_.get_xlim()) == pytest.approx(display.figure_.dpi / 25.4)  # its true size


def test_the_lines_of_the_paper_run_through_the_page(ecg):
    display = TwelveLeadDisplay.from_relevance(ecg, ecg, fs=FS)
    for ax in display.axes_:
        (bold,) = [one for one in ax.collections if one.get_array() is None and one.get_linewidth()[0] == 0.7]
        segments = np.array(bold.get_segments())
        upright = segments[:, 0, 0] == segments[:, 1, 0]
        np.testing.assert_allclose(np.diff(segments[upright, 0, 0]), 0.2)
        np.testing.assert_allclose(np.diff(segments[~upright, 0, 1]), 0.5)
        squares = segments[upright, 0, 0] / 0.2
        np.testing.assert_allclose(squares, np.round(squares), atol=1e-6)
    assert len({ax.get_ylim() for ax in display.axes_[[0, 3, 6, 9]]}) == 1  # one baseline a row


def test_the_pulse_before_a_row_is_1_mv_and_02_s(ecg):
    display = TwelveLeadDisplay.from_relevance(ecg, ecg, fs=FS)
    boxes = millimetres(display)
    pulses = [line.get_data() for line in display.page_.lines]
    assert len(pulses) == 4
    for (x, y), panel in zip(pulses, (0, 1, 2, 12), strict=True):
        zero = boxes[panel, 1] - 10 * display.axes_[panel].get_ylim()[0]
        assert (min(y), max(y)) == pytest.approx((zero, zero + 10), abs=0.01)
        assert x[3] - x[2] == pytest.approx(5)
        assert max(x) < 0
    assert not TwelveLeadDisplay.from_relevance(ecg, ecg, fs=FS, unit="network's input").page_.lines


def test_leads_are_found_by_name_in_any_order_and_spelling(ecg, rng):
    order = rng.permutation(12)
    given = [STANDARD_LEADS[i].upper() for i in order]
    display = TwelveLeadDisplay.from_relevance(ecg[order], ecg[order], fs=FS, lead_names=given)
    assert names(display) == [*STANDARD_LEADS, "II"]
    for i, ax in enumerate(display.axes_[:12]):
        np.testing.assert_array_equal(trace(ax)[1], ecg[i, (i // 3) * 500 :][:500])


def test_missing_leads_are_left_blank_and_said(ecg):
    rows = [0, 3, 6, 7, 8, 9]
    given = [STANDARD_LEADS[i] for i in rows]
    display = TwelveLeadDisplay.from_relevance(ecg[rows], ecg[rows], fs=FS, lead_names=given)
    gone = [name for name in STANDARD_LEADS if name not in given]
    assert display.notes_ == [f"{', '.join(gone)}: missing, left blank"]
    for name, ax, marker in zip(display.panels_, display.axes_, display.lines_, strict=True):
        assert (marker is None) == (name in gone)
        assert ax.texts[0].get_text() == (f"{name} (missing)" if name in gone else name)
        assert (len(trace(ax)[0]) == 500 if ax.lines else False) == (name not in gone)
    drawn(display)


def test_other_leads_have_no_place(ecg):
    given = [*STANDARD_LEADS[:11], "VX"]
    display = TwelveLeadDisplay.from_relevance(ecg, ecg, fs=FS, lead_names=given, rhythm="VX")
    assert "VX: no place in this layout, left out" in display.notes_
    assert "V6: missing, left blank" in display.notes_
    np.testing.assert_array_equal(trace(display.axes_[12])[1], ecg[11])  # but it may be the rhythm strip


def test_colour_is_the_relevance_on_one_scale(ecg):
    relevance = np.zeros(ecg.shape)
    relevance[0, 100], relevance[6, 1100], relevance[1, 1900] = 4.0, -1.0, 2.0
    relevance[0, 700] = 3.0  # lead I is not shown at 3.5 s
    display = TwelveLeadDisplay.from_relevance(ecg, relevance, fs=FS, label="AF")
    assert colours(display, 0) == {100: 1.0}
    assert colours(display, 6) == {1100: -0.25}
    assert colours(display, 12) == {1900: 0.5}
    assert sum(len(marker.get_segments()) for marker in display.lines_) == 3
    assert [tick.get_text() for tick in display.colorbar_.ax.get_yticklabels()] == ["-4", "0", "4"]
    assert colours(display.plot(vmax=8.0, colorbar=False), 0) == {100: 0.5}
    assert display.colorbar_ is None


@pytest.mark.parametrize(
    ("duration", "starts"),
    [(10.0, (0, 2.5, 5, 7.5)), (6.0, (0, 1.1, 2.2, 3.3)), (8.8, (0, 2.1, 4.2, 6.3)), (2.0, (0, 0, 0, 0))],
)
def test_short_records_let_the_columns_begin_closer_together(ecg, duration, starts):
    x = ecg[:, : round(duration * FS)]
    display = TwelveLeadDisplay.from_relevance(x, x, fs=FS)
    assert [ax.get_xlim()[0] for ax in display.axes_[:12:3]] == pytest.approx(starts)
    for i, ax in enumerate(display.axes_[:12]):
        first = round(starts[i // 3] * FS)
        np.testing.assert_array_equal(trace(ax)[1], x[i, first : first + 500])
    said = [note for note in display.notes_ if note.startswith(f"record of {duration:g} s")]
    assert len(said) == (duration < 10)
    assert np.ptp(display.axes_[12].get_xlim()) == pytest.approx(10)
    assert display.axes_[12].get_xlim()[0] == 0
    drawn(display)


def test_long_records_show_where_the_relevance_is_or_what_is_asked_for(ecg):
    x, relevance = np.tile(ecg, 4), np.zeros((12, 8000))
    relevance[3, 5000:5100] = 1
    display = TwelveLeadDisplay.from_relevance(x, relevance, fs=FS)
    begin = display.axes_[12].get_xlim()[0]
    assert begin <= 25 < 25.5 <= begin + 10
    assert any(note.endswith("s of 40 s") for note in display.notes_)
    assert display.plot(start=13.0).axes_[12].get_xlim() == (13, 23)
    np.testing.assert_array_equal(trace(display.axes_[3])[1], x[3, 3100:3600])


def test_without_the_rhythm_strip_and_with_another(ecg):
    display = TwelveLeadDisplay.from_relevance(ecg, ecg, fs=FS, rhythm=None)
    assert display.panels_ == list(STANDARD_LEADS)
    assert [tick.get_text() for tick in display.axes_[2].get_xticklabels()] == ["0 s", "1 s"]
    np.testing.assert_array_equal(trace(display.plot(rhythm="v1").axes_[12])[1], ecg[6])
    with pytest.raises(ValueError, match=r"rhythm must be a lead, one of I, .*got 'V9'"):
        display.plot(rhythm="V9")


def test_odd_ecg_is_drawn_and_said(ecg):
    ecg[6, 1100] = 1e4
    ecg[1] += 30
    ecg[2] = np.nan
    truth = np.zeros(2000, dtype=bool)
    truth[100:110] = True
    display = TwelveLeadDisplay.from_relevance(ecg, ecg, fs=FS, truth=truth)
    said = "; ".join(display.notes_)
    assert "V1: beyond the paper, cut off" in said
    assert "2000 samples of the ECG are not finite" in said
    assert "black bar: truth" in said
    for i in (0, 1, 12):
        bars = [line.get_xdata() * FS for line in display.axes_[i].lines if line.get_linewidth() == 8]
        np.testing.assert_allclose(bars, [[99.5, 109.5]])
    low, high = display.axes_[1].get_ylim()
    assert low < np.median(ecg[1]) < high
    assert max(np.ptp(ax.get_ylim()) for ax in display.axes_) <= 10.5
    drawn(display)


def test_the_page_keeps_its_proportions_in_given_axes(ecg):
    figure = Figure(figsize=(9, 9))
    (_, place), _ = figure.subplots(2, 2)
    display = TwelveLeadDisplay.from_relevance(ecg, ecg, fs=FS, ax=place)
    assert display.page_ is place
    boxes = millimetres(display)
    np.testing.assert_allclose(boxes[:12, 2], 62.5, atol=0.1)
    unit = np.diff(place.transData.transform([(0, 0), (1, 1)]), axis=0)[0]
    assert unit[0] == pytest.approx(unit[1])
    assert not plt.get_fignums()
    drawn(display)


def test_from_explainer_explains_one_record(ecg):
    class Explainer:
        fs = FS

        def explain(self, X):
            data = np.asarray(X, dtype=np.float32)
            return Bunch(relevance=-data, relevance_kind="signed", target=["AF"], score=[1.5], data=data)

    X = np.stack([0 * ecg, ecg])
    display = TwelveLeadDisplay.from_explainer(Explainer(), X, sample=1, lead_names=STANDARD_LEADS, rhythm="V5")
    assert isinstance(display, TwelveLeadDisplay)
    np.testing.assert_array_equal(display.relevance, -ecg)
    np.testing.assert_array_equal(trace(display.axes_[12])[1], ecg[10])
    assert "AF, score 1.5" in [text.get_text() for text in display.page_.texts]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lead_names": ["II"]}, ValueError, "lead_names must be 12 names"),
        ({"lead_names": [*STANDARD_LEADS[:11], "avr"]}, ValueError, r"name each lead once; \['aVR'\] came more than"),
        ({"lead_names": list("abcdefgh") + list("jklm")}, ValueError, "holds none of I, .*use RelevanceDisplay"),
        ({"ecg": np.zeros((3, 2000)), "relevance": np.zeros(2000)}, ValueError, "say which leads the 3 of ecg are"),
        ({"relevance": np.zeros((12, 7))}, ValueError, r"relevance has shape \(12, 7\), but the ECG is \(12, 2000\)"),
        ({"ecg": np.zeros((2000, 12))}, ValueError, "axes of ecg.*look swapped"),
        ({"fs": None}, ValueError, "TwelveLeadDisplay needs the sampling rate"),
        ({"start": 10.0}, ValueError, "behind the end of the window, 10 s"),
        ({"marker_width": 0}, ValueError, "marker_width must be"),
        ({"ax": "here"}, TypeError, "one matplotlib Axes; got str"),
    ],
)
def test_bad_input_is_named_and_leaves_no_figure(ecg, change, error, message):
    with pytest.raises(error, match=message):
        TwelveLeadDisplay.from_relevance(**{"ecg": ecg, "relevance": ecg, "fs": FS, **change})
    assert not plt.get_fignums()
