"""EpochsDisplay draws what it was given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.utils import Bunch

from skecg.plotting import EpochsDisplay


@pytest.fixture
def curves():
    rng = np.random.default_rng(0)
    return Bunch(
        epochs=np.array([1, 3, 9]),
        accuracy=np.array([0.5, 0.8, 0.9]),
        rank_correlation=np.array([-0.2, 0.5, 1.0]),
        rank_correlation_by_window=rng.uniform(-1, 1, (3, 20)),
        share=np.array([0.1, 0.3, 0.4]),
        share_by_window=rng.uniform(0, 1, (3, 20)),
        chance=0.12,
    )


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_curves_bands_and_chance(curves):
    display = EpochsDisplay.from_curves(curves, title="seed 0")
    for name, line in display.lines_.items():
        assert np.array_equal(line.get_xdata(), curves.epochs) and np.array_equal(line.get_ydata(), curves[name])
    assert set(display.lines_) == {"accuracy", "rank_correlation", "share"}
    assert len(display.ax_.collections) == 2  # the middle half of the windows, of two curves
    assert [line.get_ydata()[0] for line in display.ax_.lines if line.get_linestyle() == ":"] == [0.12]
    assert display.ax_.get_ylim()[0] < -0.2 and display.ax_.get_title() == "seed 0"
    assert display.ax_.get_xlabel() == "epoch"


def test_on_given_axes_without_truth(curves):
    _, ax = plt.subplots()
    for name in ("share", "share_by_window", "chance"):
        del curves[name]
    display = EpochsDisplay.from_curves(curves, ax=ax)
    assert display.ax_ is ax and set(display.lines_) == {"accuracy", "rank_correlation"}


def test_other_things_are_refused():
    with pytest.raises(ValueError, match=r"lacks \['accuracy', 'rank_correlation'\].*relevance_over_epochs"):
        EpochsDisplay.from_curves({"epochs": [1]})
