"""SanityDisplay: curves with their floor, bars of trainings and of seeds, the matrix of explainers, bad input."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.utils import Bunch

from skecg.plotting import SanityDisplay
from tests.plotting.stand_in import drawn


def weights(signed=-0.5, passes=True, mode="cascading"):
    absolute = np.array([[0.9, 0.7, np.nan], [0.5, 0.3, 0.4]])
    floor = np.array([[0.1, 0.2, 0.3], [0.2, 0.3, 0.4], [0.3, 0.4, np.nan]])
    return Bunch(
        depths=["head", "stem"],
        absolute=absolute,
        signed=np.full((2, 3), signed),
        floor_absolute=floor,
        floor_signed=floor - 0.2,
        passes=passes,
        mode=mode,
        target=np.array(["N"] * 3),
    )


def labels():
    return Bunch(
        absolute=np.array([[0.2, 0.4], [0.4, 0.6]]),
        signed=np.array([[-0.2, 0.4], [0.4, 0.6]]),
        floor_absolute=np.array([[0.1, 0.3]]),
        floor_signed=np.array([[0.0, 0.1]]),
        permuted_score=np.array([0.4, 0.6]),
        chance=0.25,
        target=np.array(["N", "N"]),
    )


def seeds():
    values = np.array([[0.5, 0.7], [0.1, 0.3], [np.nan, 0.8]])
    return Bunch(pairs=[(0, 1), (0, 2), (1, 2)], absolute=values, signed=values - 1, target=np.array(["N", "N"]))


def agreement():
    matrix = np.array([[[1.0, 1.0], [0.3, np.nan]], [[0.3, np.nan], [1.0, 1.0]]])
    return Bunch(names=["gradient", "mask"], absolute=matrix, signed=-matrix, target=np.array(["N", "N"]))


def texts(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_the_curve_is_the_mean_over_windows_and_the_floor_a_band():
    display = SanityDisplay.from_weight_randomisation(weights())
    np.testing.assert_allclose(display.lines_[""].get_ydata(), [0.8, 0.4])
    np.testing.assert_allclose(display.floors_[""].get_ydata(), [0.275] * 2)
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == ["head", "stem"]
    band, floor = (c.get_paths()[0].get_extents() for c in display.ax_.collections)
    np.testing.assert_allclose([band.y0, band.y1], [0.35, 0.85])  # quarters of .7, .9 and of .3, .4, .5
    np.testing.assert_allclose([floor.y0, floor.y1], [0.2, 0.325])
    assert texts(display) == ["trained and random weights", "floor: two random networks"]
    assert display.ax_.get_ylabel() == "rank correlation, absolute relevance"
    assert display.ax_.get_ylim()[0] == 0 and "from the head down" in display.ax_.get_xlabel()
    drawn(display)


def test_several_explainers_each_with_its_floor():
    display = SanityDisplay.from_weight_randomisation(
        {"gradient": weights(), "guided": weights(0.9, passes=False, mode="independent")}, measure="signed"
    )
    assert list(display.lines_) == list(display.floors_) == ["gradient", "guided"]
    assert texts(display) == ["gradient", "guided (fails)", "floor: two random networks"]
    colors = {line.get_color() for line in display.lines_.values()}
    assert len(colors) == 2 and colors == {line.get_color() for line in display.floors_.values()}
    assert len({line.get_marker() for line in display.lines_.values()}) == 2
    assert display.ax_.get_ylim()[0] < -0.5 and display.ax_.get_xlabel() == "the layer with random weights"
    drawn(display)


def test_many_layers_are_not_all_named():
    many = weights()
    many.depths = [f"block.{i}" for i in range(100)]
    many.absolute = np.full((100, 3), 0.5)
    display = SanityDisplay.from_weight_randomisation(many)
    names = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert names[:2] == ["block.0", "block.3"] and len(names) <= 40
    assert len(display.lines_[""].get_ydata()) == 100


def test_bars_of_permuted_labels():
    display = SanityDisplay.from_label_randomisation({"gradient": labels()})
    np.testing.assert_allclose([bar.get_height() for bar in display.bars_["gradient"]], [0.3, 0.5])
    np.testing.assert_allclose(display.lines_["gradient"].get_ydata(), [0.4] * 2)
    np.testing.assert_allclose(display.floors_["gradient"].get_ydata(), [0.2] * 2)
    (tick,) = display.ax_.get_xticklabels()
    assert tick.get_text() == "gradient\nlearned 0.50\nchance 0.25"
    assert texts(display) == ["mean of the bars", "floor: two permutations"]
    drawn(display)


def test_bars_of_seeds():
    display = SanityDisplay.from_seeds({"a": seeds(), "b": seeds()})
    for name, middle in (("a", 0), ("b", 1)):
        bars = display.bars_[name]
        np.testing.assert_allclose([bar.get_height() for bar in bars], [0.6, 0.2, 0.8])
        assert np.mean([bar.get_center()[0] for bar in bars]) == pytest.approx(middle)
        np.testing.assert_allclose(display.lines_[name].get_ydata(), [1.6 / 3] * 2)
    assert not display.floors_ and texts(display) == ["mean of the bars"]
    below = SanityDisplay.from_seeds(seeds(), measure="signed")
    assert below.ax_.get_ylim()[0] < -0.8 and below.ax_.get_xlabel() == "a bar: a pair of seeds"
    drawn(display)


def test_the_matrix_has_its_numbers():
    display = SanityDisplay.from_agreement(agreement(), measure="signed")
    np.testing.assert_allclose(display.image_.get_array(), [[-1, -0.3], [-0.3, -1]])
    assert display.image_.get_clim() == (-1, 1)
    assert [text.get_text() for text in display.ax_.texts] == ["-1.00", "-0.30", "-0.30", "-1.00"]
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == ["gradient", "mask"]
    drawn(display)


def test_what_is_missing_throughout_leaves_a_gap():
    empty = agreement()
    empty.absolute[0, 1] = empty.absolute[1, 0] = np.nan
    display = SanityDisplay.from_agreement(empty)
    assert [text.get_text() for text in display.ax_.texts] == ["1.00", "-", "-", "1.00"]
    drawn(display)
    nothing = weights(np.nan)
    nothing.floor_signed[:] = np.nan
    display = SanityDisplay.from_weight_randomisation(nothing, measure="signed")
    assert np.isnan(display.lines_[""].get_ydata()).all()
    drawn(display)


def test_given_axes_are_used_without_pyplot():
    ax = Figure().subplots()
    assert SanityDisplay.from_seeds(seeds(), ax=ax).ax_ is ax
    assert SanityDisplay.from_agreement(agreement(), ax=Figure().subplots()).figure_ is not ax.figure
    assert not plt.get_fignums()


def test_bad_input_is_named_and_leaves_no_figure():
    with pytest.raises(ValueError, match=r"the result lacks \['floor_absolute'\]: .*weight_randomisation returns"):
        SanityDisplay.from_weight_randomisation({k: v for k, v in weights().items() if k != "floor_absolute"})
    with pytest.raises(ValueError, match=r"the result 'a' lacks \['floor_absolute', 'permuted_score'\]"):
        SanityDisplay.from_label_randomisation({"a": seeds()})
    with pytest.raises(ValueError, match=r"the result 'a' is a .*: pass what seed_consistency returns"):
        SanityDisplay.from_seeds({"a": 3})
    with pytest.raises(ValueError, match=r"lacks .*explainer_agreement"):
        SanityDisplay.from_agreement(seeds())
    for results in ({}, [weights()]):
        with pytest.raises(ValueError, match="results must be what weight_randomisation returned, or a dict"):
            SanityDisplay.from_weight_randomisation(results)
    other = weights()
    other.depths = ["head", "features"]
    with pytest.raises(ValueError, match="other depths"):
        SanityDisplay.from_weight_randomisation({"a": weights(), "b": other})
    with pytest.raises(ValueError, match="measure must be one of 'absolute', 'signed'; got 'both'"):
        SanityDisplay.from_seeds(seeds(), measure="both")
    with pytest.raises(TypeError, match="SanityDisplay draws on one matplotlib Axes; got str"):
        SanityDisplay.from_seeds(seeds(), ax="here")
    assert not plt.get_fignums()
