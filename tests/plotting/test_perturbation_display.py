"""PerturbationDisplay: mean curves, the area between them, intervals over patients, what is left out, bad input."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from skecg.metrics import bootstrap_score, perturbation_curves
from skecg.plotting import PerturbationDisplay
from tests.plotting.stand_in import drawn

ORDERS = ("most", "least", "random", "absolute")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def model():
    X, y = np.random.default_rng(0).normal(size=(60, 40)), np.arange(60) % 2
    X[y == 1, 10:14] += 1.0
    return LogisticRegression().fit(X, y), X


def curves_of(model, **settings):
    clf, X = model
    return perturbation_curves(clf, X, clf.coef_ * X, target=1, fs=100.0, random_state=0, **settings)


@pytest.mark.parametrize("normalized", [False, True])
def test_every_curve_is_the_mean_over_windows(model, normalized):
    curves = curves_of(model)
    display = PerturbationDisplay.from_curves(curves, normalized=normalized, title="seed 0")
    source = curves.normalized if normalized else curves
    for name in ORDERS:
        np.testing.assert_allclose(display.lines_[name].get_xdata(), 100 * curves.fraction)
        np.testing.assert_allclose(display.lines_[name].get_ydata(), np.nanmean(source[name], axis=0))
        assert f"area {np.nanmean(source[f'area_{name}']):.2f}" in display.lines_[name].get_label()
    title = display.ax_.get_legend().get_title().get_text()
    assert f"degradation {np.nanmean(source.degradation):.2f}" in title
    n_left_out = curves.normalized.n_left_out
    assert 0 < n_left_out < 60
    assert (f"{60 - n_left_out} windows, {n_left_out} left out" if normalized else "60 windows") in title
    assert display.ax_.get_xlabel() == "chunks deleted (%)"
    assert display.ax_.get_ylabel().startswith("probability of the target")
    assert display.ax_.get_title() == "seed 0"
    drawn(display)


def test_the_area_lies_between_least_and_most(model):
    display = PerturbationDisplay.from_curves(curves_of(model))
    limits = display.area_.get_paths()[0].vertices
    y = np.concatenate([display.lines_[name].get_ydata() for name in ("most", "least")])
    assert (limits[:, 1].min(), limits[:, 1].max()) == pytest.approx((y.min(), y.max()))


def test_intervals_are_those_over_patients(model):
    curves, groups = curves_of(model, curve="insertion", output="logit"), np.arange(60) % 20
    display = PerturbationDisplay.from_curves(curves, groups=groups)
    expected = bootstrap_score(curves.area_most, groups)
    area = f"area {expected.value:.2f} ({expected.low:.2f} to {expected.high:.2f})"
    assert display.lines_["most"].get_label() == f"most relevant first: {area}"
    assert "60 windows of 20 patients" in display.ax_.get_legend().get_title().get_text()
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("chunks inserted (%)", "logit of the target")
    few = PerturbationDisplay.from_curves(curves, groups=np.arange(60) % 4)
    assert few.scores_["most"].method == "none"
    assert few.lines_["most"].get_label() == f"most relevant first: area {expected.value:.2f}"


def test_the_lines_differ_in_colour_and_in_more_than_it(model):
    lines = PerturbationDisplay.from_curves(curves_of(model)).lines_
    assert len({line.get_color() for line in lines.values()}) == 4
    assert len({line.get_linestyle() for line in lines.values()}) == 3


def test_given_axes_are_used_without_pyplot(model):
    ax = Figure().subplots()
    assert PerturbationDisplay.from_curves(curves_of(model), ax=ax).ax_ is ax
    assert not plt.get_fignums()


def test_other_things_are_refused(model):
    curves = curves_of(model)
    with pytest.raises(ValueError, match=r"curves lacks \['absolute', 'area_absolute'.*perturbation_curves"):
        PerturbationDisplay.from_curves({"most": curves.most})
    with pytest.raises(ValueError, match=r"groups must be one patient a window, shape \(60,\); got \(3,\)"):
        PerturbationDisplay.from_curves(curves, groups=[1, 2, 3])
    with pytest.raises(TypeError, match="PerturbationDisplay draws on one matplotlib Axes; got str"):
        PerturbationDisplay.from_curves(curves, ax="here")
    clf, X = model
    still = perturbation_curves(clf, X, X, target=1, fs=100.0, replacement=X, n_points=3)
    with pytest.raises(ValueError, match="the score drops in none of the 60 windows"):
        PerturbationDisplay.from_curves(still, normalized=True)
