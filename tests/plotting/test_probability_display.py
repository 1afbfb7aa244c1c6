"""ProbabilityDisplay: points by outcome, the threshold, Spearman's correlation, bad input."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from skecg.plotting import ProbabilityDisplay
from tests.plotting.stand_in import drawn

RELEVANCE = [-3.0, 0.5, 1.0, 2.0, 4.0]
PROBABILITY = [0.05, 0.39, 0.5, 0.6, 0.95]
TRUTH = [0, 1, 0, 1, 1]


def legend(display):
    return display.ax_.get_legend()


def test_every_point_stands_under_its_outcome():
    display = ProbabilityDisplay.from_relevance(RELEVANCE, PROBABILITY, TRUTH, threshold=0.39, label="AF")
    assert display.outcome_.tolist() == ["TN", "FN", "FP", "TP", "TP"]  # at the threshold is not above it
    expected = {"TN": [(0.05, -3)], "FN": [(0.39, 0.5)], "FP": [(0.5, 1)], "TP": [(0.6, 2), (0.95, 4)]}
    for name, points in expected.items():
        np.testing.assert_array_equal(display.points_[name].get_offsets(), points)
        assert display.counts_[name] == len(points)
    texts = [text.get_text() for text in legend(display).get_texts()]
    assert texts[:2] == ["true positive (2)", "false positive (1)"]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("probability of AF", "mean relevance for AF")
    drawn(display)


def test_the_outcomes_differ_in_marker_and_in_colour():
    display = ProbabilityDisplay.from_relevance(RELEVANCE, PROBABILITY, TRUTH, threshold=0.39)
    markers = {name: points.get_paths()[0].vertices.tobytes() for name, points in display.points_.items()}
    colors = {name: points.get_edgecolor()[0, :3].tobytes() for name, points in display.points_.items()}
    assert len(set(markers.values())) == len(set(colors.values())) == 4
    for name, points in display.points_.items():
        assert (len(points.get_facecolor()) > 0) == name.startswith("T")  # false ones are open
    order = [display.points_[name].get_zorder() for name in ("TN", "TP", "FP", "FN")]
    assert order == sorted(order)


def test_the_threshold_is_drawn_where_it_is():
    display = ProbabilityDisplay.from_relevance(RELEVANCE, PROBABILITY, TRUTH, threshold=0.174)
    assert list(display.threshold_line_.get_xdata()) == [0.174, 0.174]
    assert legend(display).get_texts()[-1].get_text() == "threshold 0.174"


def test_spearman_is_stated_with_what_it_means(rng):
    probability = rng.uniform(size=200)
    relevance = probability + 0.4 * rng.normal(size=200)
    display = ProbabilityDisplay.from_relevance(relevance, probability, probability > 0.6)
    assert display.spearman_ == pytest.approx(spearmanr(relevance, probability).statistic)
    title = legend(display).get_title().get_text()
    assert f"Spearman's rho {display.spearman_:.3f}, 200 records" in title
    assert "completeness" in title


def test_what_is_not_finite_is_left_out_and_counted():
    relevance = [np.nan, *RELEVANCE[1:]]
    display = ProbabilityDisplay.from_relevance(relevance, [*PROBABILITY[:-1], np.inf], TRUTH, threshold=0.39)
    assert display.outcome_.tolist() == ["", "FN", "FP", "TP", ""]
    assert sum(len(points.get_offsets()) for points in display.points_.values()) == 3
    assert "2 left out: not finite" in legend(display).get_title().get_text()


@pytest.mark.parametrize(("relevance", "probability"), [([1.0], [0.5]), ([1.0, 1.0], [0.2, 0.8]), ([np.nan], [0.1])])
def test_no_correlation_where_nothing_varies(relevance, probability):
    display = ProbabilityDisplay.from_relevance(relevance, probability, np.ones(len(relevance)))
    assert np.isnan(display.spearman_)
    assert "rho undefined" in legend(display).get_title().get_text()
    drawn(display)


def test_given_axes_are_used_without_pyplot():
    ax = Figure().subplots()
    assert ProbabilityDisplay.from_relevance(RELEVANCE, PROBABILITY, TRUTH, ax=ax).ax_ is ax
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"relevance": np.zeros((5, 12))}, ValueError, r"relevance must have shape \(n_records,\).*\(5, 12\).*R.mean"),
        ({"relevance": []}, ValueError, "at least one record"),
        ({"relevance": ["a"] * 5}, TypeError, "relevance must be an array of real numbers; got dtype <U1"),
        ({"probability": PROBABILITY[:4]}, ValueError, r"probability must be one value a record, shape \(5,\).*\(4,\)"),
        ({"probability": [-1.0, 0, 1, 2, 3]}, ValueError, "between 0 and 1; got -1 to 3: .*predict_proba, not logits"),
        ({"y_true": TRUTH[:4]}, ValueError, r"y_true must be one value a record.*\(4,\)"),
        ({"y_true": ["AF"] * 5}, ValueError, "y_true must say whether each record has the label"),
        ({"y_true": [0, 1, 2, 1, 0]}, ValueError, "bool or 0 and 1"),
        ({"threshold": 1.5}, ValueError, "threshold must be a finite number at least 0 and at most 1; got 1.5"),
        ({"ax": "here"}, TypeError, "ProbabilityDisplay draws on one matplotlib Axes; got str"),
    ],
)
def test_bad_input_is_named_and_leaves_no_figure(change, error, message):
    arguments = {"relevance": RELEVANCE, "probability": PROBABILITY, "y_true": TRUTH, **change}
    with pytest.raises(error, match=message):
        ProbabilityDisplay.from_relevance(**arguments)
    assert not plt.get_fignums()
