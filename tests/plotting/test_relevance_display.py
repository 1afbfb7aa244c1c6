"""RelevanceDisplay: what is drawn where and in which colour, odd relevance and ECG, explainers of every kind."""

import io
import os
import subprocess
import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

from skecg.plotting import RelevanceDisplay
from skecg.preprocessing import BandpassFilter, ECGScaler

FS = 250.0


@pytest.fixture
def ecg(rng):
    t = np.arange(500) / FS
    beats = np.exp(-0.5 * (((t % 0.8) - 0.4) / 0.02) ** 2)
    return (np.array([[1.0], [-0.6], [0.3]]) * beats + 0.01 * rng.normal(size=(3, 500))).astype(np.float32)


def rendered(display):
    """Draw the picture with every warning an error, and return its pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        buffer = io.BytesIO()
        display.figure_.savefig(buffer, format="raw", dpi=50)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


def drawn_values(display, panel=0):
    """Return {time in samples: relevance in shares of the scale} of a panel's marker."""
    marker = display.lines_[panel]
    positions = [round(path[1][0] * FS) for path in marker.get_segments()]
    return dict(zip(positions, np.asarray(marker.get_array()), strict=True))


class Explainer(BaseEstimator):
    """What an explainer shows to a display: its relevance is its input, less 0.2."""

    def __init__(self, estimator=None, fs=None, relevance_kind="signed"):
        self.estimator = estimator
        self.fs = fs
        self.relevance_kind = relevance_kind

    def explain(self, X, *, target=None):
        data = np.asarray(X, dtype=np.float32)
        if self.estimator is not None:
            data = self.estimator.transform(data)
        self.seen_ = data.shape
        return Bunch(
            relevance=data - np.float32(0.2),
            relevance_kind=self.relevance_kind,
            target=np.full(len(data), "PVC" if target is None else target),
            score=np.arange(len(data)) + 4.25,
            data=data,
        )


class Half(BaseEstimator):
    """A step that changes the number of time steps."""

    fs = FS / 2

    def transform(self, X):
        return np.asarray(X, dtype=np.float32)[..., ::2]


def test_every_lead_has_a_panel_with_its_ecg(ecg):
    names = ["II", "V1", "V5"]
    display = RelevanceDisplay.from_relevance(ecg, ecg, fs=FS, label="PVC", score=5.234, lead_names=names)
    assert display.ax_ is display.axes_[0]
    assert display.ax_.get_title(loc="left") == "PVC, score 5.23"
    assert [ax.texts[0].get_text() for ax in display.axes_] == names
    for ax, lead in zip(display.axes_, ecg, strict=True):
        times, volts = ax.lines[0].get_data()
        np.testing.assert_allclose(times, np.arange(500) / FS)
        np.testing.assert_array_equal(volts, lead)
        assert ax.get_figure() is display.figure_
        assert ax.get_ylabel() == "mV"
    assert display.axes_[-1].get_xlabel() == "time (s)"
    rendered(display)


def test_colour_is_the_relevance_of_the_sample(ecg):
    relevance = np.zeros(ecg.shape)
    relevance[0, 100], relevance[0, 101], relevance[1, 200] = 4.0, -1.0, 0.4
    display = RelevanceDisplay.from_relevance(ecg, relevance, fs=FS)
    assert drawn_values(display, 0) == {100: 1.0, 101: -0.25}  # one scale for all leads
    assert drawn_values(display, 1) == {200: 0.1}
    assert drawn_values(display, 2) == {}
    assert list(display.lines_[0].get_array()) == [-0.25, 1.0]  # the strongest is drawn last, on top
    assert (display.lines_[0].norm.vmin, display.lines_[0].norm.vmax) == (-1, 1)
    path = display.lines_[0].get_segments()[-1]
    np.testing.assert_allclose(path[:, 0] * FS, [99.5, 100, 100.5])
    np.testing.assert_allclose(path[1, 1], ecg[0, 100])
    assert [label.get_text() for label in display.colorbar_.ax.get_yticklabels()] == ["-4", "0", "4"]
    red, _, blue, _ = display.lines_[0].cmap(1.0)
    assert red > blue
    red, _, blue, _ = display.lines_[0].cmap(0.0)
    assert blue > red
    assert min(display.lines_[0].cmap(0.5)[:3]) > 0.9  # zero is white


@pytest.mark.parametrize(
    ("kind", "sign", "least"),
    [("positive", 1, 0), ("cam", 1, 0), ("signed", 1, -1), (None, 1, 0), (None, -1, -1), ("cam", -1, -1)],
)
def test_the_scale_has_a_sign_where_the_relevance_has_one(ecg, kind, sign, least):
    relevance = np.zeros(ecg.shape[1])
    relevance[100:120] = sign
    display = RelevanceDisplay.from_relevance(ecg[0], relevance, fs=FS, relevance_kind=kind)
    assert display.lines_[0].norm.vmin == least
    assert display.lines_[0].norm.vmax == 1


def test_pictures_can_share_a_scale(ecg):
    relevance = np.zeros(500)
    relevance[7] = 2.0
    display = RelevanceDisplay.from_relevance(ecg[0], relevance, fs=FS, vmax=8.0, cmap="viridis", marker_width=2.5)
    assert drawn_values(display) == {7: 0.25}
    assert display.lines_[0].cmap.name == "viridis"
    assert display.lines_[0].get_linewidth() == [2.5]


def test_arguments_are_left_as_found(ecg):
    relevance = np.linspace(-1, 3, 500)
    before = ecg.copy(), relevance.copy()
    display = RelevanceDisplay.from_relevance(ecg[0], relevance, fs=FS)
    np.testing.assert_array_equal(ecg, before[0])
    np.testing.assert_array_equal(relevance, before[1])
    np.testing.assert_array_equal(display.relevance[0], relevance)  # unscaled


@pytest.mark.parametrize(
    ("relevance", "note"),
    [
        (np.zeros(500), "the relevance is zero everywhere"),
        (np.full(500, 0.3), "the relevance is the same everywhere"),
        (np.full(500, -0.3), "the relevance is the same everywhere"),
        (np.full(500, np.nan), "500 of 500 samples have no finite relevance"),
        (np.where(np.arange(500) < 3, np.inf, 1e-3 * np.arange(500)), "3 of 500 samples have no finite relevance"),
        (np.where(np.arange(500) < 3, -np.inf, 0), "3 of 500 samples have no finite relevance"),
        (1e-30 * np.arange(500), None),
        (1e-44 * np.arange(500), None),
        (1e300 * (np.arange(500) - 250.0), None),
        (np.arange(500) == 100, None),
    ],
)
def test_odd_relevance_is_drawn_and_said(ecg, relevance, note):
    display = RelevanceDisplay.from_relevance(ecg[0], relevance, fs=FS, label="N")
    assert display.notes_[:1] == ([note] if note else [])
    colours = np.asarray(display.lines_[0].get_array(), dtype=float)
    assert np.isfinite(colours).all()
    assert (np.abs(colours) <= 1).all()
    foot = " ".join(" ".join(text.get_text() for ax in display.axes_ for text in ax.texts).split())
    assert "25 mm/s, 10 mm/mV" in foot
    assert (note or "") in foot
    rendered(display)


@pytest.mark.parametrize("value", [0.0, 1e4, -1e4, 1e-6, 1e38, np.nan])
def test_odd_ecg_is_drawn(ecg, value):
    ecg[1] = value
    display = RelevanceDisplay.from_relevance(ecg, np.ones(500), fs=FS)
    low, high = display.axes_[1].get_ylim()
    assert high - low == pytest.approx(2)
    if np.isnan(value):
        assert "500 samples of the ECG are not finite" in display.notes_
    rendered(display)


def test_an_artefact_does_not_flatten_the_ecg(ecg):
    ecg[0, 77] = 1e4
    display = RelevanceDisplay.from_relevance(ecg, ecg, fs=FS, lead_names=["II", "V1", "V5"])
    assert "II: beyond the paper, cut off" in display.notes_
    assert np.ptp(display.axes_[0].get_ylim()) <= 3
    rendered(display)


@pytest.mark.parametrize("n_timesteps", [1, 2, 3])
def test_windows_of_a_few_samples(n_timesteps):
    display = RelevanceDisplay.from_relevance(np.full(n_timesteps, 0.3), np.arange(n_timesteps) + 1.0, fs=FS, label="N")
    assert len(display.lines_[0].get_segments()) == n_timesteps
    rendered(display)


def test_long_windows_show_the_section_with_the_most_relevance(rng):
    ecg, relevance = rng.normal(size=(2, 90_000)) * 0.1, np.zeros((2, 90_000))
    relevance[1, 50_000:50_100] = 1
    display = RelevanceDisplay.from_relevance(ecg, relevance, fs=FS)
    start, stop = display.ax_.get_xlim()
    assert stop - start == pytest.approx(10)
    assert (start + stop) / 2 == pytest.approx(200.2, abs=0.3)
    assert start / 0.2 == pytest.approx(round(start / 0.2))  # on a bold line
    assert f"{start:g} to {stop:g} s of 360 s" in display.notes_
    assert sorted(drawn_values(display, 1)) == list(range(50_000, 50_100))
    assert len(display.ax_.lines[0].get_xdata()) == 2500
    chosen = display.plot(start=3.0, duration=4.0)
    assert chosen.ax_.get_xlim() == pytest.approx((3, 7))
    assert display.plot(start=355.0).notes_ == ["355 to 360 s of 360 s"]


def test_long_windows_without_relevance_begin_at_the_beginning(rng):
    display = RelevanceDisplay.from_relevance(rng.normal(size=5000), np.zeros(5000), fs=FS)
    assert display.ax_.get_xlim() == pytest.approx((0, 10))


def test_leads_can_be_chosen(ecg):
    display = RelevanceDisplay.from_relevance(ecg, ecg, fs=FS, lead_names=["II", "V1", "V5"], leads=["V5", 0])
    assert [ax.texts[0].get_text() for ax in display.axes_] == ["V5", "II"]
    np.testing.assert_array_equal(display.axes_[0].lines[0].get_ydata(), ecg[2])
    assert len(display.plot(leads="V1").axes_) == 1
    assert len(display.plot(leads=np.int64(2)).axes_) == 1
    for bad in (["aVL"], [3], [-1], []):
        with pytest.raises(ValueError, match="leads"):
            display.plot(leads=bad)


def test_truth_is_a_bar_at_the_foot(ecg):
    truth = np.zeros(500, dtype=bool)
    truth[[10, 11, 12, 40]] = True
    display = RelevanceDisplay.from_relevance(ecg, ecg, fs=FS, truth=truth)
    for ax in display.axes_:
        bars = [np.asarray(line.get_xdata()) * FS for line in ax.lines[1:]]
        np.testing.assert_allclose(bars, [[9.5, 12.5], [39.5, 40.5]])
    assert "black bar: truth" in display.notes_
    rendered(display)


def test_a_cam_says_that_it_has_no_lead_axis(ecg):
    note = "a CAM has no lead axis: all leads are coloured alike"
    assert note in RelevanceDisplay.from_relevance(ecg, ecg[0], fs=FS, relevance_kind="cam").notes_
    assert note not in RelevanceDisplay.from_relevance(ecg[0], ecg[0], fs=FS, relevance_kind="cam").notes_


def test_given_axes_are_used_without_pyplot(ecg):
    figure = Figure()
    first, *rest = figure.subplots(2, 2).ravel()
    display = RelevanceDisplay.from_relevance(ecg[0], ecg[0], fs=FS, ax=first)
    assert display.ax_ is first
    assert display.figure_ is figure
    assert list(RelevanceDisplay.from_relevance(ecg, ecg, fs=FS, ax=rest).axes_) == rest
    frame = Figure(layout="constrained").subplots()
    inside = RelevanceDisplay.from_relevance(ecg, ecg, fs=FS, ax=frame, colorbar=False)
    assert len(inside.axes_) == 3
    assert inside.colorbar_ is None
    assert not plt.get_fignums()
    for one in (display, inside):
        rendered(one)


def test_without_axes_one_closeable_figure_is_made(ecg):
    display = RelevanceDisplay.from_relevance(ecg, ecg, fs=FS)
    assert plt.get_fignums() == [display.figure_.number]
    plt.close(display.figure_)
    assert not plt.get_fignums()
    assert display.plot() is display


def test_the_picture_shows_the_relevance(ecg):
    with_it, without = (
        rendered(RelevanceDisplay.from_relevance(ecg[0], relevance, fs=FS, vmax=1.0))
        for relevance in (np.where(np.arange(500) < 100, 1.0, 0), np.zeros(500))
    )
    assert (with_it != without).mean() > 0.003


def test_importing_and_building_needs_no_matplotlib():
    code = (
        "import sys, numpy as np; from skecg.plotting import RelevanceDisplay; "
        "RelevanceDisplay(np.zeros(9), np.zeros(9), fs=1.0); print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    assert out.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"fs": None}, ValueError, "RelevanceDisplay needs the sampling rate"),
        ({"fs": -1}, ValueError, "fs must be"),
        ({"ecg": np.zeros((2, 3, 50))}, ValueError, r"ecg must be one window.*\(2, 3, 50\): pass one of its windows"),
        ({"ecg": np.zeros((2, 0))}, ValueError, "not empty"),
        ({"ecg": np.zeros((500, 3))}, ValueError, "axes of ecg.*look swapped"),
        ({"ecg": np.array([{}] * 500)}, TypeError, "ecg must be an array of real numbers; got dtype object"),
        ({"relevance": np.zeros((2, 500))}, ValueError, r"relevance has shape \(2, 500\), but the ECG is \(3, 500\)"),
        ({"relevance": np.zeros(499)}, ValueError, r"relevance has shape \(499,\)"),
        ({"relevance": np.zeros(500) * 1j}, TypeError, "got dtype complex"),
        ({"truth": np.zeros(499)}, ValueError, r"truth has shape \(499,\)"),
        ({"lead_names": ["II"]}, ValueError, "lead_names must be 3 names"),
        ({"lead_names": "abc"}, ValueError, "lead_names must be 3 names"),
        ({"relevance_kind": "negative"}, ValueError, "relevance_kind must be one of 'signed', 'positive', 'cam'"),
        ({"vmax": 0}, ValueError, "vmax must be"),
        ({"start": -1}, ValueError, "start must be"),
        ({"start": 2.0}, ValueError, "behind the end of the window, 2 s"),
        ({"duration": 0}, ValueError, "duration must be"),
        ({"marker_width": 0}, ValueError, "marker_width must be"),
        ({"cmap": "no such map"}, ValueError, "no such map"),
    ],
)
def test_bad_input_is_named_and_leaves_no_figure(ecg, params, error, message):
    arguments = {"ecg": ecg, "relevance": ecg, "fs": FS, **params}
    with pytest.raises(error, match=message):
        RelevanceDisplay.from_relevance(**arguments)
    assert not plt.get_fignums()


def test_from_explainer_explains_one_window(ecg):
    X = np.stack([ecg, 2 * ecg, 3 * ecg])
    explainer = Explainer(fs=FS)
    display = RelevanceDisplay.from_explainer(explainer, X, sample=1, lead_names=["II", "V1", "V5"])
    assert explainer.seen_ == (1, 3, 500)
    np.testing.assert_array_equal(display.ecg, X[1])
    np.testing.assert_allclose(display.relevance, X[1] - 0.2, rtol=1e-5)
    assert (display.label, display.score, display.fs, display.unit) == ("PVC", 4.25, FS, "mV")
    assert RelevanceDisplay.from_explainer(explainer, X, sample=-1, target="N").label == "N"
    flat = RelevanceDisplay.from_explainer(explainer, X[:, 0], sample=2, truth=X[:, :1] > 1)
    np.testing.assert_array_equal(flat.ecg, X[2, :1])
    np.testing.assert_array_equal(flat.truth, X[2, :1] > 1)


def test_from_explainer_draws_mv_or_the_networks_input(ecg):
    X = ecg[None]
    steps = make_pipeline(BandpassFilter(fs=FS), ECGScaler()).fit(X)
    explainer = Explainer(steps, fs=FS)
    display = RelevanceDisplay.from_explainer(explainer, X)
    np.testing.assert_array_equal(display.ecg, ecg)
    np.testing.assert_allclose(display.relevance, steps.transform(X)[0] - 0.2, rtol=1e-5)
    assert display.unit == "mV"
    display = RelevanceDisplay.from_explainer(explainer, X, signal="input")
    np.testing.assert_array_equal(display.ecg, steps.transform(X)[0])
    assert display.ax_.get_ylabel() == "network's input"
    assert "10 mm/mV" not in display.axes_[-1].texts[-1].get_text()
    assert RelevanceDisplay.from_explainer(Explainer(fs=FS), X, signal="input").unit == "mV"  # it is X


def test_from_explainer_behind_a_resampler(ecg):
    display = RelevanceDisplay.from_explainer(Explainer(Half()), ecg[None])
    np.testing.assert_array_equal(display.ecg, ecg[:, ::2])
    assert display.fs == FS / 2
    assert display.unit == "network's input"
    assert "the network's input, whose shape is (3, 250), not that of X, (3, 500)" in display.notes_[0]


def test_from_explainer_takes_pipelines_that_end_in_one(ecg):
    pipeline = make_pipeline(BandpassFilter(fs=FS).fit(ecg[None]), Explainer(fs=FS))
    display = RelevanceDisplay.from_explainer(pipeline, ecg[None])
    expected = BandpassFilter(fs=FS).fit_transform(ecg[None])[0] - 0.2
    np.testing.assert_allclose(display.relevance, expected, atol=1e-6)
    np.testing.assert_array_equal(display.ecg, ecg)


def test_from_explainer_finds_the_sampling_rate(ecg):
    classifier = Half()  # knows 125 Hz
    nested = Bunch(best_estimator_=Bunch(steps=[("filter", None), ("classifier", classifier)]))
    explainer = Explainer(fs=None)
    explainer.estimator_ = nested
    assert RelevanceDisplay.from_explainer(explainer, ecg[None]).fs == 125
    explainer.fs = 200
    assert RelevanceDisplay.from_explainer(explainer, ecg[None]).fs == 200
    assert RelevanceDisplay.from_explainer(explainer, ecg[None], fs=100).fs == 100
    with pytest.raises(ValueError, match="needs the sampling rate"):
        RelevanceDisplay.from_explainer(Explainer(), ecg[None])


def test_from_explainer_says_when_the_label_is_not_predicted(ecg):
    class MultiLabel(Explainer):
        def explain(self, X, *, target=None):
            return Bunch(**super().explain(X), above_threshold=np.array([False]))

    display = RelevanceDisplay.from_explainer(MultiLabel(fs=FS), ecg[None])
    assert display.notes_[0] == "the score is below the threshold of the label"


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"X": np.zeros(500)}, ValueError, r"sample says which window is drawn; got shape \(500,\)"),
        ({"X": np.zeros((0, 500))}, ValueError, r"got shape \(0, 500\)"),
        ({"sample": 1}, ValueError, "sample must be an integer at least -1 and at most 0; got 1"),
        ({"sample": "first"}, ValueError, "sample must be"),
        ({"signal": "filtered"}, ValueError, "signal must be one of 'X', 'input'"),
        ({"explainer": BandpassFilter(fs=FS)}, TypeError, "BandpassFilter is no explainer: it has no method explain"),
        ({"truth": np.zeros((1, 7))}, ValueError, "truth has shape"),
    ],
)
def test_from_explainer_names_bad_input(ecg, params, error, message):
    with pytest.raises(error, match=message):
        RelevanceDisplay.from_explainer(**{"explainer": Explainer(fs=FS), "X": ecg[None], **params})
