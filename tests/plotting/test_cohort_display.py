"""CohortDisplay: one box a column and cohort, the stars over their columns, what the legend says, bad input."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from skecg.plotting import CohortDisplay
from tests.plotting.stand_in import drawn, make_aggregator

LEADS = ["I", "II", "V1"]


@pytest.fixture
def values(rng):
    return {"AF": rng.normal(size=(20, 3)), "N": rng.normal(size=(30, 3)) + 1, "LBBB": rng.normal(size=(11, 3))}


@pytest.fixture
def aggregator(values):
    p_adjusted = np.array([[0.2, 0.049, 0.0099], [0.05, 0.0009, 1.0], [np.nan] * 3])
    return make_aggregator(
        "lead", LEADS, classes=("AF", "LBBB", "N"), p_adjusted_=p_adjusted, patient_values=values.__getitem__
    )


def medians(display, label):
    return [line.get_ydata()[0] for line in display.boxes_[label]["medians"]]


def middles(display, label):
    return [np.mean(line.get_xdata()) for line in display.boxes_[label]["medians"]]


def written(display):
    """Return {position: text} of what is written over the boxes."""
    return {text.get_position()[0]: text.get_text() for text in display.ax_.texts}


def test_boxes_are_those_of_the_patients(aggregator, values):
    display = CohortDisplay.from_aggregator(aggregator, label="AF")
    assert list(display.boxes_) == ["AF", "N"]
    for label in ("AF", "N"):
        np.testing.assert_allclose(medians(display, label), np.median(values[label], axis=0))
        for box, column in zip(display.boxes_[label]["boxes"], values[label].T, strict=True):
            ends = box.get_path().vertices[:, 1]
            np.testing.assert_allclose([ends.min(), ends.max()], np.percentile(column, (25, 75)))
    np.testing.assert_allclose(np.mean([middles(display, "AF"), middles(display, "N")], axis=0), [0, 1, 2])
    assert (np.array(middles(display, "AF")) < [0, 1, 2]).all()
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == LEADS
    assert display.ax_.get_ylabel() == "mean relevance"
    drawn(display)


def test_stars_stand_over_their_columns(aggregator):
    display = CohortDisplay.from_aggregator(aggregator, label="AF")
    assert display.stars_ == {"II": "*", "V1": "**"}
    assert written(display) == {1: "*", 2: "**"}
    display = CohortDisplay.from_aggregator(aggregator, label="LBBB", columns=["V1", "II"])
    assert display.stars_ == {"II": "***"}
    assert written(display) == {1: "***"}  # II is the second column here
    title = " ".join(display.ax_.get_legend().get_title().get_text().split())
    assert title == "* p < .05, ** p < .01, *** p < .001, against N, rank-sum test, two-sided, Holm"


def test_no_box_reaches_into_the_strip_of_the_stars(aggregator, values):
    display = CohortDisplay.from_aggregator(aggregator, label="AF")
    low, high = display.ax_.get_ylim()
    assert max(values["AF"].max(), values["N"].max()) < high - 0.05 * (high - low)


def test_the_legend_counts_patients_and_says_which_test(aggregator, values):
    aggregator.update(share=True, statistic="abs_mean", alternative="greater", correction=None)
    values["AF"][:4, 1] = np.nan
    display = CohortDisplay.from_aggregator(aggregator, label="AF")
    legend = display.ax_.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["AF (16 to 20 patients)", "N (30 patients)"]
    assert "one-sided (greater), not corrected" in " ".join(legend.get_title().get_text().split())
    assert display.ax_.get_ylabel() == "share of absolute relevance"
    np.testing.assert_allclose(medians(display, "AF")[1], np.median(values["AF"][4:, 1]))


def test_patients_of_both_cohorts_and_columns_without_values_are_said(aggregator, values):
    aggregator.exclusions_ = {"shared_patients": np.array([2, 0, 0])}
    values["N"][:, 0] = np.nan
    display = CohortDisplay.from_aggregator(aggregator, label="AF")
    assert display.notes_ == ["2 patients of both cohorts left the control of the tests", "I: no value of N"]
    drawn(display)


def test_a_class_alone_has_no_test(aggregator):
    for label, control in (("N", "N"), ("AF", None)):
        aggregator.control = control
        display = CohortDisplay.from_aggregator(aggregator, label=label)
        assert list(display.boxes_) == [label]
        np.testing.assert_allclose(middles(display, label), [0, 1, 2])
        assert (display.stars_, display.p_adjusted) == ({}, None)
        assert "p <" not in display.ax_.get_legend().get_title().get_text()


def test_the_only_other_class_needs_no_name(values):
    aggregator = make_aggregator("record", ["relevance"], patient_values=lambda label: values[label][:, :1])
    assert list(CohortDisplay.from_aggregator(aggregator).boxes_) == ["AF", "N"]
    aggregator.control = None
    with pytest.raises(ValueError, match=r"label must say which of the classes \['AF', 'N'\] is drawn; got None"):
        CohortDisplay.from_aggregator(aggregator)


def test_given_axes_are_used_without_pyplot_and_arrays_are_left_as_found(aggregator, values):
    before = {label: table.copy() for label, table in values.items()}
    ax = Figure().subplots()
    assert CohortDisplay.from_aggregator(aggregator, label="AF", ax=ax).ax_ is ax
    assert not plt.get_fignums()
    for label, table in values.items():
        np.testing.assert_array_equal(table, before[label])


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        ({}, {"label": "PVC"}, ValueError, "label must be one of 'AF', 'LBBB', 'N'; got 'PVC'"),
        ({}, {"label": "AF", "columns": ["aVL"]}, ValueError, r"columns holds \['aVL'\], but the columns are \['I'"),
        ({}, {"label": "AF", "columns": []}, ValueError, "columns must name 1 to 60 columns; got 0"),
        ({"by": "beat"}, {}, ValueError, "relevance by lead or wave or record; this aggregator has by='beat'"),
        ({}, {"label": "AF", "ax": 3}, TypeError, "one matplotlib Axes; got int"),
    ],
)
def test_bad_input_is_named_and_leaves_no_figure(aggregator, change, arguments, error, message):
    aggregator.update(change)
    with pytest.raises(error, match=message):
        CohortDisplay.from_aggregator(aggregator, **arguments)
    assert not plt.get_fignums()


def test_what_is_no_aggregator_or_no_table_is_refused(values):
    with pytest.raises(TypeError, match="CohortDisplay draws a fitted RelevanceAggregator; got dict"):
        CohortDisplay.from_aggregator(values)
    with pytest.raises(ValueError, match="a dict of one or two labels"):
        CohortDisplay(values, LEADS)
    with pytest.raises(ValueError, match=r"values\['AF'\] must have shape \(n_patients, n_columns\), here \(20, 2\)"):
        CohortDisplay({"AF": values["AF"]}, LEADS[:2])
    with pytest.raises(ValueError, match=r"p_adjusted must have shape \(n_columns,\), here \(3,\); got \(2,\)"):
        CohortDisplay({"AF": values["AF"]}, LEADS, p_adjusted=[0.1, 0.2])
