"""AverageBeatDisplay: curves, bands and bars equal what was given; the order of the leads, one scale, bad input."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from skecg.beats import find_beats
from skecg.datasets import make_ecg
from skecg.plotting import AverageBeatDisplay
from skecg.relevance import RelevanceAggregator
from skecg.utils._leads import STANDARD_LEADS
from tests.plotting.stand_in import drawn, make_aggregator

OFFSET = np.arange(-30, 50) * 10.0  # ms
SHAPE = len(STANDARD_LEADS), len(OFFSET)


@pytest.fixture
def aggregator(rng):
    mean = rng.normal(size=(2, 12 * len(OFFSET)))
    ecg = rng.normal(size=mean.shape)
    p_adjusted = np.ones(mean.shape)
    p_adjusted[0, 10:13] = 0.01  # lead I, -0.2 to -0.18 s
    p_adjusted[1] = np.nan
    return make_aggregator(
        "beat",
        [f"{lead} {ms:g}" for lead in STANDARD_LEADS for ms in OFFSET],
        mean_=mean,
        interval_=np.stack([mean - 1, mean + 2], axis=-1),
        p_adjusted_=p_adjusted,
        mean_ecg_=ecg,
        interval_ecg_=np.stack([ecg - 0.1, ecg + 0.1], axis=-1),
    )


def ends(band):
    """Return the lower and the upper edge of a band."""
    vertices = band.get_paths()[0].vertices
    n = len(OFFSET)
    return vertices[1 : n + 1, 1], vertices[n + 2 : 2 * n + 2, 1][::-1]


def test_curves_and_bands_are_the_cohorts(aggregator):
    display = AverageBeatDisplay.from_aggregator(aggregator)
    assert display.axes_.shape == (12, 2)
    assert display.ax_ is display.axes_[0, 0]
    assert list(display.lines_) == ["AF", "N"]
    for i, label in enumerate(("AF", "N")):
        for lead in range(12):
            relevance, ecg = display.lines_[label][lead], display.ecg_lines_[label][lead]
            assert relevance.axes is display.axes_[lead, 1]
            assert ecg.axes is display.axes_[lead, 0]
            np.testing.assert_allclose(relevance.get_xdata(), OFFSET / 1000)
            np.testing.assert_array_equal(relevance.get_ydata(), aggregator.mean_[i].reshape(SHAPE)[lead])
            np.testing.assert_array_equal(ecg.get_ydata(), aggregator.mean_ecg_[i].reshape(SHAPE)[lead])
            low, high = ends(display.bands_[label][lead])
            np.testing.assert_allclose(low, relevance.get_ydata() - 1)
            np.testing.assert_allclose(high, relevance.get_ydata() + 2)
    legend = next(ax.get_legend() for ax in display.axes_[:, 1] if ax.get_legend())
    assert [text.get_text() for text in legend.get_texts()] == ["AF (12 patients)", "N (12 patients)"]
    drawn(display)


def test_leads_run_down_the_columns_on_one_scale(aggregator):
    display = AverageBeatDisplay.from_aggregator(aggregator)
    assert [ax.get_title(loc="left") for ax in display.axes_[:, 0]] == list(STANDARD_LEADS)
    places = np.array([ax.get_position().bounds[:2] for ax in display.axes_[:, 0]]).reshape(4, 3, 2)
    assert (np.ptp(places[:, :, 0], axis=1) < 1e-9).all()  # I, II, III under each other
    assert (np.diff(places[:, 0, 0]) > 0).all()
    assert (np.diff(places[0, :, 1]) < 0).all()
    for row, edges in ((0, aggregator.interval_ecg_), (1, aggregator.interval_)):
        limits = {ax.get_ylim() for ax in display.axes_[:, row]}
        assert len(limits) == 1
        ((low, high),) = limits
        assert low < edges.min() and high > edges.max()
    assert {ax.get_xlim() for ax in display.axes_.ravel()} == {(-0.3, 0.49)}


def test_the_ecg_is_coloured_by_the_relevance_of_the_class(aggregator):
    display = AverageBeatDisplay.from_aggregator(aggregator, leads=["V1"])
    (marker,) = [one for one in display.axes_[0, 0].collections if one.get_array() is not None]
    mean = aggregator.mean_[0].reshape(SHAPE)[6]
    found = {round(1000 * path[1][0]): v for path, v in zip(marker.get_segments(), marker.get_array(), strict=True)}
    expected = {round(ms): v for ms, v in zip(OFFSET, mean / np.abs(mean).max(), strict=True)}
    assert found == pytest.approx({ms: v for ms, v in expected.items() if ms in found})
    assert all(abs(v) < 0.02 for ms, v in expected.items() if ms not in found)
    assert (marker.norm.vmin, marker.norm.vmax) == (-1, 1)


def test_the_bar_marks_the_significant_samples(aggregator):
    display = AverageBeatDisplay.from_aggregator(aggregator)
    for lead, ax in enumerate(display.axes_[:, 1]):
        bars = [line.get_xdata() for line in ax.lines if line.get_linewidth() == 8]
        assert len(bars) == (lead == 0)
        if bars:
            np.testing.assert_allclose(bars[0], [-0.205, -0.175])
    assert "black bar: p < .05 against N, rank-sum test, two-sided, Holm" in display.notes_


def test_without_ecg_and_interval(aggregator):
    del aggregator["mean_ecg_"], aggregator["interval_ecg_"]
    aggregator.interval_ = np.full(aggregator.interval_.shape, np.nan)
    display = AverageBeatDisplay.from_aggregator(aggregator, leads=["II", "V1"])
    assert display.axes_.shape == (2, 1)
    assert display.ecg_lines_ == {"AF": [], "N": []}
    assert "AF and N: no interval (fewer than 10 patients, or none given)" in display.notes_
    np.testing.assert_array_equal(display.lines_["AF"][1].get_ydata(), aggregator.mean_[0].reshape(SHAPE)[6])
    drawn(display)


def test_the_power_of_ten_stands_in_the_label(aggregator):
    aggregator.mean_ /= 1e5
    aggregator.interval_ /= 1e5
    display = AverageBeatDisplay.from_aggregator(aggregator, leads="II")
    ax = display.axes_[0, 1]
    assert "10^{-5}" in ax.get_ylabel()
    low, high = (end * 1e5 for end in ax.get_ylim())
    display.figure_.canvas.draw()
    shown = [float(tick.get_text()) for tick in ax.get_yticklabels()]
    np.testing.assert_allclose(shown, ax.get_yticks() * 1e5, atol=1e-6)
    assert any(low < tick < high for tick in shown)


def test_a_class_alone_and_leads_together(rng):
    columns = [f" {ms:g}".strip() for ms in OFFSET]
    aggregator = make_aggregator("beat", columns, control=None, mean_=rng.normal(size=(2, len(OFFSET))))
    display = AverageBeatDisplay.from_aggregator(aggregator, label="N")
    assert list(display.lines_) == ["N"]
    assert display.p_adjusted is None
    assert display.ax_.get_title(loc="left") == "all leads"


def test_a_fitted_aggregator():
    ecg = make_ecg(4, classes=("N", "AF"), leads=("II", "V1"), n_patients=4, random_state=0)
    relevance = ecg.data**2
    aggregator = RelevanceAggregator(by="beat", control="N", lead_names=["II", "V1"], fs=ecg.fs, random_state=0)
    beats = find_beats(ecg.data, ecg.fs)
    aggregator.fit(relevance, ecg.target, ecg=ecg.data, beats=beats, groups=ecg.groups)
    display = AverageBeatDisplay.from_aggregator(aggregator)
    assert [ax.get_title(loc="left") for ax in display.axes_[:, 0]] == ["II", "V1"]
    for i, label in enumerate(("AF", "N")):
        curves = [line.get_ydata() for line in display.lines_[label]]
        np.testing.assert_array_equal(np.concatenate(curves), aggregator.mean_[i])
        times, volts = display.ecg_lines_[label][0].get_data()
        assert abs(times[volts.argmax()]) < 0.03  # R of lead II
    np.testing.assert_allclose(np.diff(times), 1 / ecg.fs, atol=1e-5)
    assert any("no interval" in note for note in display.notes_)  # too few patients
    drawn(display)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_relevance_of_nothing_is_drawn(aggregator, value):
    for name in ("mean_", "interval_", "mean_ecg_"):
        aggregator[name] = np.full(aggregator[name].shape, value)
    drawn(AverageBeatDisplay.from_aggregator(aggregator, leads=["I"]))


def test_given_axes_are_used_without_pyplot(aggregator):
    figure = Figure(figsize=(12, 5))
    left, *rest = figure.subplots(1, 3)
    display = AverageBeatDisplay.from_aggregator(aggregator, leads=["I", "II"], ax=rest)
    for place, panels in zip(rest, display.axes_, strict=True):
        for ax in panels:
            assert place.get_position().x0 - 1e-9 <= ax.get_position().x0
            assert ax.get_position().x1 <= place.get_position().x1 + 1e-9
    display = AverageBeatDisplay.from_aggregator(aggregator, leads=["I", "II", "V1"], ax=left, n_columns=1)
    assert (np.diff([ax.get_position().y0 for ax in display.axes_[:, 0]]) < 0).all()
    assert display.figure_ is figure
    assert not plt.get_fignums()
    drawn(display)


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        ({"by": "wave"}, {}, ValueError, "draws relevance by beat; this aggregator has by='wave'"),
        ({}, {"label": "PVC"}, ValueError, "label must be one of 'AF', 'N'; got 'PVC'"),
        ({}, {"leads": ["V9"]}, ValueError, r"leads must be among \['I'.*got \['V9'\]"),
        ({}, {"leads": []}, ValueError, r"leads must be among .*got \[\]"),
        ({}, {"n_columns": 0}, ValueError, "n_columns must be an integer at least 1; got 0"),
        ({}, {"ax": "here"}, TypeError, "ax of AverageBeatDisplay must be a matplotlib Axes"),
    ],
)
def test_bad_input_is_named_and_leaves_no_figure(aggregator, change, arguments, error, message):
    aggregator.update(change)
    with pytest.raises(error, match=message):
        AverageBeatDisplay.from_aggregator(aggregator, **arguments)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["II R"], "column 'II R' must end in an offset from the R peak in ms"),
        (["I 0", "I 1", "II 0"], "the same offsets for each lead"),
        (["I 0", "II 0", "I 1", "II 1"], "one lead after the other"),
    ],
)
def test_columns_that_are_no_beat(columns, message):
    with pytest.raises(ValueError, match=message):
        AverageBeatDisplay.from_aggregator(make_aggregator("beat", columns))


@pytest.mark.parametrize(
    ("offset", "cohorts", "message"),
    [
        ([0.0], {"AF": {"relevance": [[1.0]]}}, "two or more increasing times"),
        ([0.0, 0.0], {"AF": {"relevance": [[1.0, 1.0]]}}, "does not increase"),
        ([0.0, 1.0], {}, "a dict of one or two labels"),
        ([0.0, 1.0], {"AF": {"ecg": [[1.0, 1.0]]}}, r"cohorts\['AF'\] lacks 'relevance'; it has \['ecg'\]"),
        ([0.0, 1.0], {"AF": {"relevance": [[1.0]]}}, r"relevance of 'AF' must have shape .*\(1, 2\); got \(1, 1\)"),
    ],
)
def test_arrays_that_do_not_fit(offset, cohorts, message):
    with pytest.raises(ValueError, match=message):
        AverageBeatDisplay(offset, cohorts, ["II"])


def test_several_leads_on_too_few_axes(aggregator):
    axes = Figure().subplots(1, 2)
    with pytest.raises(ValueError, match="ax holds 2 axes; pass one, or one for each of the 12 leads"):
        AverageBeatDisplay.from_aggregator(aggregator, ax=axes)
