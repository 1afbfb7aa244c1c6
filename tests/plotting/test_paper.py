"""The grid of ECG paper in exact places and proportions, the limits of panels, and pages of many leads."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from skecg.plotting import _paper


def grid(ax):
    """Return {line width: (times of the vertical lines, voltages of the horizontal ones)}."""
    lines = {}
    for collection in ax.collections:
        segments = np.array(collection.get_segments())
        upright = segments[:, 0, 0] == segments[:, 1, 0]
        lines[float(collection.get_linewidth()[0])] = segments[upright, 0, 0], segments[~upright, 0, 1]
    return lines


@pytest.mark.parametrize(("start", "stop", "low", "high"), [(0.0, 2.0, -1.0, 1.5), (790.6, 800.6, 9999.0, 10001.0)])
def test_the_grid_is_that_of_ecg_paper(start, stop, low, high):
    ax = Figure().add_subplot()
    _paper.draw_paper(ax, start, stop, low, high)
    (_, (fine_t, fine_v)), (_, (bold_t, bold_v)) = sorted(grid(ax).items())
    np.testing.assert_allclose(np.diff(fine_t), 0.04, atol=1e-9)
    np.testing.assert_allclose(np.diff(fine_v), 0.1, atol=1e-9)
    np.testing.assert_allclose(np.diff(bold_t), 0.2, atol=1e-9)
    np.testing.assert_allclose(np.diff(bold_v), 0.5, atol=1e-9)
    for lines, first, last in [(fine_t, start, stop), (bold_t, start, stop), (fine_v, low, high), (bold_v, low, high)]:
        np.testing.assert_allclose(lines[[0, -1]], [first, last], atol=1e-9)
    np.testing.assert_allclose(bold_v * 2, np.round(bold_v * 2), atol=1e-9)  # a bold line at every 0.5 mV, 0 among them
    assert ax.get_xlim() == (start, stop)
    assert ax.get_ylim() == (low, high)


@pytest.mark.parametrize("size", [(3, 9), (9, 3)])
def test_a_millimetre_is_one_both_ways(size):
    figure = Figure(figsize=size)
    ax = figure.add_subplot()
    _paper.draw_paper(ax, 0, 2, -1, 2)
    ax.apply_aspect()
    extent = ax.get_window_extent()
    assert extent.width / (2 * 25) == pytest.approx(extent.height / (3 * 10))
    assert _paper.points_per_mm(ax) == pytest.approx(72 * extent.width / figure.dpi / 50)


def test_small_squares_are_left_out_where_they_would_be_a_tint():
    ax = Figure().add_subplot()
    _paper.draw_paper(ax, 0, 60, -1, 1)
    (times, _), *others = grid(ax).values()
    assert not others
    np.testing.assert_allclose(np.diff(times), 0.2)


@pytest.mark.parametrize(
    ("duration", "stop"), [(2.0, 2.0), (719 / 360, 2.0), (8.192, 8.2), (1 / 360, 0.2), (0.201, 0.4), (10.0, 10.0)]
)
def test_the_time_axis_ends_on_a_bold_line(duration, stop):
    start, end = _paper.time_limits(0.0, duration)
    assert start == 0
    assert end == pytest.approx(stop)


@pytest.mark.parametrize(
    ("lead", "expected"),
    [
        ([0.0, 0.0], (-1, 1)),
        ([-0.3, 1.2], (-0.5, 1.5)),
        ([-1.0, 1.0], (-1.5, 1.5)),  # the wave keeps off the frame
        ([1e-6, 0.0], (-1, 1)),
        ([1e4, 1e4 + 0.3], (9999, 10001)),
        ([-2.2, 3.9], (-2.5, 4)),
        ([np.nan, 0.5], (-0.5, 1.5)),
        ([np.nan, np.nan], (-1, 1)),
    ],
)
def test_voltage_limits(lead, expected):
    limits, cut = _paper.voltage_limits(np.array([lead]))
    np.testing.assert_allclose(limits, [expected])
    assert not cut.any()
    inside = np.array(lead)[np.isfinite(lead)]
    assert (inside >= limits[0, 0]).all()
    assert (inside <= limits[0, 1]).all()


def test_what_does_not_fit_is_cut_around_the_ecg(rng):
    ecg = 0.3 * rng.normal(size=(4, 1000))
    ecg[1, 500] = 1e4  # a spike: the ECG stays as it was
    ecg[2] *= 1e4  # noise without end
    ecg[3, :] = 1e38
    ecg[3, 0] = -1e38
    limits, cut = _paper.voltage_limits(ecg)
    np.testing.assert_array_equal(cut, [False, True, True, True])
    assert limits[1, 0] < np.percentile(ecg[1], 2) < np.percentile(ecg[1], 98) < limits[1, 1]
    assert (np.ptp(limits, axis=1) <= 10).all()
    assert np.isfinite(limits).all()


@pytest.mark.parametrize(
    ("n_leads", "duration", "columns"),
    [(1, 2, 1), (3, 2, 1), (12, 2, 4), (12, 5, 2), (12, 10, 1), (8, 2.5, 4), (6, 4, 2)],
)
def test_columns(n_leads, duration, columns):
    assert _paper.n_columns(n_leads, duration) == columns


def test_twelve_leads_run_down_the_columns_in_true_proportions():
    limits = np.array([[-1.0, 1.0]] * 12)
    limits[4] = -2.5, 4.0  # aVL: row 1, column 1
    page = _paper.make_page(None, limits, 2.0, "foot", True)
    boxes = np.array([ax.get_position().bounds for ax in page.axes])
    assert len(set(boxes[:3, 0])) == 1  # I, II, III
    assert boxes[0, 1] > boxes[1, 1] > boxes[2, 1]
    assert boxes[3, 0] > boxes[0, 0]  # aVR beside I
    assert boxes[3, 1] == pytest.approx(boxes[0, 1])
    np.testing.assert_allclose(np.ptp(page.limits, axis=1), [2, 6.5, 2] * 4)
    assert page.limits[1, 0] <= -1
    assert page.limits[1, 1] >= 1
    width, height = page.axes[0].figure.get_size_inches()
    mm = boxes[:, 2] * width / (2 * 25), boxes[:, 3] * height / (np.ptp(page.limits, axis=1) * 10)
    np.testing.assert_allclose(mm[0], mm[1])  # one scale, so nothing is squeezed when the aspect is applied
    assert page.left == [0, 1, 2]
    assert page.bottom == [2, 5, 8, 11]


@pytest.mark.parametrize(("n_leads", "duration"), [(1, 0.2), (1, 2), (1, 60), (2, 10), (12, 2), (12, 10), (32, 10)])
def test_panels_lie_within_the_page_and_apart(n_leads, duration):
    page = _paper.make_page(None, np.array([[-1.0, 1.0]] * n_leads), duration, "a note " * 40, True)
    boxes = [ax.get_position() for ax in [*page.axes, page.bar]]
    assert all(box.x0 > 0 and box.y0 > 0 and box.x1 < 1 and box.y1 < 1 for box in boxes)
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])
    width, height = page.axes[0].figure.get_size_inches()
    assert 4 < width < 16
    assert height < 16


def test_one_axes_lends_its_place_to_several_leads():
    figure, axes = plt.subplots(1, 2)
    page = _paper.make_page(axes[1], np.array([[-1.0, 1.0]] * 3), 4.0, "", False)
    outer = axes[1].get_position()
    for ax in page.axes:
        place = ax.get_position()
        assert outer.x0 - 1e-9 <= place.x0 < place.x1 <= outer.x1 + 1e-9
        assert outer.y0 - 1e-9 <= place.y0 < place.y1 <= outer.y1 + 1e-9
    assert not axes[1].axison
    assert axes[0].axison
    by_hand = figure.add_axes((0.1, 0.1, 0.2, 0.2))
    for ax in _paper.make_page(by_hand, np.array([[-1.0, 1.0]] * 3), 4.0, "", False).axes:
        assert by_hand.get_position().padded(1e-9).count_contains([ax.get_position().min, ax.get_position().max]) == 2


def test_axes_of_the_wrong_number_or_kind():
    _, axes = plt.subplots(1, 2)
    limits = np.array([[-1.0, 1.0]] * 3)
    with pytest.raises(ValueError, match="ax holds 2 axes; pass one, or one for each of the 3 leads"):
        _paper.make_page(axes, limits, 2.0, "", True)
    with pytest.raises(TypeError, match="ax must be a matplotlib Axes, or several, or None; got 'here'"):
        _paper.make_page("here", limits, 2.0, "", True)
