"""WaveMapDisplay: cells and colours, symmetric limits, stars, absent cells, both layouts of columns, bad input."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from skecg.beats import delineate, find_beats
from skecg.datasets import make_ecg
from skecg.plotting import WaveMapDisplay
from skecg.relevance import RelevanceAggregator
from tests.plotting.stand_in import drawn, make_aggregator

LEADS, WAVES = ["II", "lead V1"], ["P", "QRS", "T", "rest", "P region"]
COLUMNS = [f"{lead} {wave}" for lead in LEADS for wave in WAVES]


@pytest.fixture
def aggregator():
    mean = np.array([np.arange(10.0) - 6, np.full(10, 1.0)])
    p_adjusted = np.ones((2, 10))
    p_adjusted[0, [0, 4, 7]] = 0.04, 0.001, 0.0001
    p_adjusted[1] = np.nan
    return make_aggregator("wave", COLUMNS, mean_=mean, p_adjusted_=p_adjusted, effect_size_=mean / 10)


def cells(display):
    """Return {(wave, lead): value or None} of the coloured map."""
    table = display.mesh_.get_array().reshape(display.values.shape)
    return {
        (wave, lead): None if table[i, j] is np.ma.masked else float(table[i, j])
        for i, wave in enumerate(display.waves)
        for j, lead in enumerate(display.lead_names)
    }


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_cells_are_where_their_names_are(aggregator):
    display = WaveMapDisplay.from_aggregator(aggregator)
    assert (ticks(display.ax_.yaxis), ticks(display.ax_.xaxis)) == (WAVES, LEADS)
    expected = {(wave, lead): 5.0 * j + i - 6 for j, lead in enumerate(LEADS) for i, wave in enumerate(WAVES)}
    assert cells(display) == expected
    top, bottom = display.ax_.get_ylim()
    assert top > bottom  # the first wave is the uppermost row
    assert display.ax_.get_title(loc="left") == "AF, 12 patients"
    drawn(display)


def test_the_limits_are_symmetric_and_zero_is_white(aggregator):
    display = WaveMapDisplay.from_aggregator(aggregator)
    assert (display.mesh_.norm.vmin, display.mesh_.norm.vmax) == (-6, 6)
    assert min(display.mesh_.cmap(0.5)[:3]) > 0.9
    red, _, blue, _ = display.mesh_.cmap(1.0)
    assert red > blue
    assert display.plot(vmax=20.0).mesh_.norm.vmin == -20
    assert display.plot(cmap="PuOr", colorbar=False).mesh_.cmap.name == "PuOr"
    assert display.colorbar_ is None


def test_stars_stand_in_their_cells(aggregator):
    display = WaveMapDisplay.from_aggregator(aggregator)
    assert display.stars_ == {("P", "II"): "*", ("P region", "II"): "**", ("T", "lead V1"): "***"}
    placed = {text.get_position(): text.get_text() for text in display.ax_.texts}
    assert placed == {(0, 0): "*", (0, 4): "**", (1, 2): "***"}
    foot = " ".join(display.ax_.get_xlabel().split())
    assert foot == "* p < .05, ** p < .01, *** p < .001, against N, rank-sum test, two-sided, Holm"


def test_absent_cells_are_hatched_and_said(aggregator):
    aggregator.mean_[0, [0, 5]] = np.nan
    display = WaveMapDisplay.from_aggregator(aggregator)
    assert display.absent_ == [("P", "II"), ("P", "lead V1")]
    hatched = [patch for patch in display.ax_.patches if patch.get_hatch()]
    assert [(patch.get_x() + 0.5, patch.get_y() + 0.5) for patch in hatched] == [(0, 0), (1, 0)]
    assert cells(display)["P", "II"] is None
    assert ("P", "II") not in display.stars_  # a mean that is not there has no star
    assert "hatched: absent" in display.ax_.get_xlabel()
    assert display.mesh_.norm.vmax == 5  # -5 of QRS in II is now the furthest from zero
    drawn(display)


def test_difference_and_effect_size(aggregator):
    difference = WaveMapDisplay.from_aggregator(aggregator, show="difference")
    assert cells(difference)["P", "II"] == -7
    assert difference.quantity == "mean relevance,\nAF less N"
    effect = WaveMapDisplay.from_aggregator(aggregator, show="effect_size")
    assert cells(effect)["P region", "lead V1"] == pytest.approx(0.3)
    assert effect.colorbar_.ax.get_ylabel().startswith("Cliff's delta of mean relevance")


def test_leads_together_are_one_column(aggregator):
    aggregator = make_aggregator("wave", WAVES, mean_=np.arange(10.0).reshape(2, 5))
    display = WaveMapDisplay.from_aggregator(aggregator, label="N")
    assert ticks(display.ax_.xaxis) == ["all leads"]
    assert list(cells(display).values()) == [5, 6, 7, 8, 9]
    assert "p <" not in display.ax_.get_xlabel()


def test_a_fitted_aggregator():
    ecg = make_ecg(4, classes=("N", "AF"), leads=("II", "V1"), n_patients=4, random_state=0)
    beats = delineate(ecg.data, find_beats(ecg.data, ecg.fs), ecg.fs)
    aggregator = RelevanceAggregator(by="wave", control="N", lead_names=["II", "V1"], fs=ecg.fs, random_state=0)
    aggregator.fit(ecg.data**2, ecg.target, beats=beats, groups=ecg.groups)
    display = WaveMapDisplay.from_aggregator(aggregator, label="N")
    assert (display.waves, display.lead_names) == (WAVES, ["II", "V1"])
    means = dict(zip(aggregator.get_feature_names_out(), aggregator.mean_[1], strict=True))
    for (wave, lead), value in cells(display).items():
        np.testing.assert_equal(np.nan if value is None else value, means[f"{lead} {wave}"])
    waves = [wave for wave, _ in cells(display)]
    largest = np.nanargmax(np.array(list(cells(display).values()), dtype=float))
    assert waves[largest] == "QRS"
    drawn(display)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_map_of_nothing_is_drawn(value):
    display = WaveMapDisplay(np.full((2, 3), value), ["P", "T"], ["I", "II", "III"], n_patients=np.zeros((2, 3))).plot()
    assert (display.mesh_.norm.vmin, display.mesh_.norm.vmax) == (-1, 1)
    assert len(display.absent_) == (6 if np.isnan(value) else 0)
    drawn(display)


def test_given_axes_are_used_without_pyplot(aggregator):
    ax = Figure().subplots()
    assert WaveMapDisplay.from_aggregator(aggregator, ax=ax).ax_ is ax
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        ({"by": "lead"}, {}, ValueError, "by wave; this aggregator has by='lead': fit one with by='wave'"),
        ({}, {"show": "median"}, ValueError, "show must be one of 'mean', 'difference', 'effect_size'"),
        ({}, {"label": "N", "show": "difference"}, ValueError, "N with a control, and this aggregator has none"),
        ({}, {"vmax": 0}, ValueError, "vmax must be a finite number above 0"),
        ({}, {"ax": [1]}, TypeError, "one matplotlib Axes; got list"),
    ],
)
def test_bad_input_is_named_and_leaves_no_figure(aggregator, change, arguments, error, message):
    aggregator.update(change)
    with pytest.raises(error, match=message):
        WaveMapDisplay.from_aggregator(aggregator, **arguments)
    assert not plt.get_fignums()


def test_columns_of_another_kind_and_tables_of_another_shape():
    with pytest.raises(ValueError, match="column 'II U' must end in one of P, QRS, T, rest, P region"):
        WaveMapDisplay.from_aggregator(make_aggregator("wave", ["II U"]))
    with pytest.raises(ValueError, match=r"values must have shape \(n_waves, n_leads\), here \(1, 2\); got \(2, 1\)"):
        WaveMapDisplay(np.zeros((2, 1)), ["P"], ["I", "II"])
    with pytest.raises(ValueError, match="at least one each"):
        WaveMapDisplay(np.zeros((0, 1)), [], ["I"])


def test_cells_of_few_patients_bear_a_cross_and_set_no_scale():
    values, n = np.array([[9.0, 1.0], [2.0, np.nan]]), np.array([[2, 30], [30, 0]])
    display = WaveMapDisplay(values, ["P", "QRS"], ["II", "V1"], n_patients=n).plot()
    assert display.mesh_.get_clim() == (-2.0, 2.0)
    crosses = [line for line in display.ax_.lines if line.get_marker() == "x"]
    assert [line.get_xydata().tolist() for line in crosses] == [[[0, 0]]]
    assert "fewer than 10 patients" in display.ax_.get_xlabel()
    few = WaveMapDisplay(values, ["P", "QRS"], ["II", "V1"], n_patients=np.full((2, 2), 3)).plot()
    assert few.mesh_.get_clim() == (-9.0, 9.0)  # nothing else to go by
