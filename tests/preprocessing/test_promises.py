"""What preprocessing and the twelve leads promise: lengths, positions, inverses, dtypes, pipelines, guards."""

from __future__ import annotations

import warnings
from math import ceil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfiltfilt
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skecg.classifiers import ECGClassifier
from skecg.datasets import make_ecg
from skecg.preprocessing import (
    STANDARD_LEADS,
    BandpassFilter,
    ECGScaler,
    LeadArranger,
    PadOrCrop,
    Resampler,
    arrange_leads,
    canonical_name,
    check_lead_order,
    check_units,
    pad_or_crop,
    resample_mask,
    resample_positions,
    to_millivolts,
)
from tests.tiny import FAST, TinyNet, toy_ecg

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RATES = [(128, 360), (360, 128), (500, 400), (250, 360), (360, 500), (100, 400), (500, 100)]
STEPS = {
    "resample": Resampler(360, 250),
    "band-pass": BandpassFilter(0.5, 40, fs=360),
    "notch": BandpassFilter(0.5, 150, fs=360, notch=50),
    "per lead": ECGScaler(),
    "per window": ECGScaler(per="window", method="robust"),
    "per dataset": ECGScaler(per="dataset", method="max"),
    "pad": PadOrCrop(800),
    "crop": PadOrCrop(501, side="left"),
}


@pytest.fixture(scope="module")
def ecg():
    """Return twelve leads of 2 s at 360 Hz, without noise."""
    return make_ecg(6, classes=("N", "PVC"), n_leads=12, noise=0.0, distractors=False, random_state=0)


def smooth(seed, n, fs, leads=2):
    """Return signals whose content lies below 20 Hz."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / fs
    f, phase = rng.uniform(0.5, 20, (leads, 6, 1)), rng.uniform(0, 7, (leads, 6, 1))
    return np.sin(2 * np.pi * f * t + phase).mean(axis=1)[None].astype(np.float32)


@pytest.mark.parametrize("name", STEPS)
def test_shapes_dtypes_and_layouts(name, ecg):
    step, before = clone(STEPS[name]), ecg.data.copy()
    out = step.fit_transform(ecg.data)
    np.testing.assert_array_equal(ecg.data, before)  # the user's array is left
    assert out.dtype == np.float32 and out.shape[:2] == (6, 12) and np.isfinite(out).all()
    assert step.n_features_in_ == 12 * 720
    one = clone(step).fit_transform(ecg.data[:, :1])
    flat = clone(step).fit_transform(ecg.data[:, 0])
    assert flat.ndim == 2
    np.testing.assert_array_equal(one[:, 0], flat)
    if name not in ("per window", "per dataset"):
        np.testing.assert_allclose(out[:, 0], flat, atol=1e-5)  # no lead depends on another
    if name != "per dataset":
        np.testing.assert_allclose(step.transform(ecg.data[3:4]), out[3:4], atol=1e-5)  # nor a window on others
    for other in (np.asfortranarray(ecg.data), ecg.data.astype(">f4"), ecg.data.astype(float), ecg.data[::-1][::-1]):
        np.testing.assert_allclose(clone(step).fit_transform(other), out, atol=2e-5)
    locked = ecg.data.copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(clone(step).fit_transform(locked), out)
    with pytest.raises(ValueError):
        step.transform(ecg.data[:, :, :-1])
    with pytest.raises(ValueError):
        clone(step).fit(ecg.data[0, 0])


@pytest.mark.parametrize(("fs", "new"), RATES)
@QUICK
@given(n=st.integers(300, 1500), seed=st.integers(0, 99))
def test_resampling_lengths_positions_and_values(fs, new, n, seed):
    X = smooth(seed, n, fs)
    step = Resampler(fs, new)
    out = step.fit_transform(X)
    assert out.shape == (1, 2, ceil(n * new / fs)) and step.n_timesteps_out_ == out.shape[2]
    rng = np.random.default_rng(seed)
    sample = rng.integers(0, n, 20)
    moved = resample_positions(sample, fs, new)
    assert np.abs(moved - sample * new / fs).max() <= 0.5 + 1e-9
    assert resample_positions(sample, fs, new, n_timesteps=n).max() < out.shape[2]
    mask = np.zeros(n, dtype=bool)
    mask[n // 4 : n // 2] = True
    assert resample_mask(mask, fs, new).shape == (out.shape[2],)
    back = step.inverse_transform(out)
    assert back.shape == X.shape and back.dtype == np.float32
    edge = ceil(12 * max(1, fs / new))
    np.testing.assert_allclose(back[..., edge:-edge], X[..., edge:-edge], atol=0.02)


@pytest.mark.parametrize(("fs", "new"), RATES)
@pytest.mark.parametrize("at", [0.31, 0.5, 1.234])
def test_r_peaks_stay_where_they_are(fs, new, at):
    t = np.arange(2 * fs) / fs
    peak = round(at * fs) / fs
    X = np.exp(-0.5 * ((t - peak) / 0.012) ** 2)[None]
    out = Resampler(fs, new).fit_transform(X)[0]
    k = int(np.argmax(out))
    a, b, c = out[k - 1 : k + 2].astype(float)
    k = k + 0.5 * (a - c) / (a - 2 * b + c)  # the top of the parabola through the three
    assert abs(k - peak * new) < 0.5


def test_up_and_down_is_the_identity_and_a_constant_stays(ecg):
    X = smooth(1, 256, 128)
    up = Resampler(128, 360).fit_transform(X)
    down = Resampler(360, 128).fit_transform(up)
    assert up.shape == (1, 2, 720) and down.shape == X.shape
    np.testing.assert_allclose(down[..., 12:-12], X[..., 12:-12], atol=5e-3)
    constant = Resampler(128, 360).fit_transform(np.full((1, 256), 1.7))
    np.testing.assert_allclose(constant, 1.7, rtol=1e-5)
    ramp = np.linspace(0, 1, 256)[None]
    expected = np.interp(np.arange(720) / 360, np.arange(256) / 128, ramp[0])
    got = Resampler(128, 360).fit_transform(ramp)[0]
    np.testing.assert_allclose(got[:-3], expected[:-3], atol=3e-3)  # no ringing at the ends
    with pytest.raises(ValueError, match="NaN"):
        Resampler(128, 360).fit(np.where(np.arange(256) == 5, np.nan, ramp))


@QUICK
@given(
    n=st.integers(1, 60),
    wanted=st.integers(1, 60),
    side=st.sampled_from(["left", "right", "both"]),
    padding=st.sampled_from(["zero", "edge"]),
)
def test_padding_keeps_the_valid_part(n, wanted, side, padding):
    X = np.arange(1, 2 * n + 1, dtype=np.float32).reshape(1, 2, n)
    step = PadOrCrop(wanted, side=side, padding=padding).fit(X)
    out = step.transform(X)
    assert out.shape == (1, 2, wanted) and step.n_timesteps_out_ == wanted
    (a, b), (c, d) = step.valid_, step.kept_
    assert b - a == d - c == min(n, wanted)
    np.testing.assert_array_equal(out[..., a:b], X[..., c:d])
    left = {"left": abs(n - wanted), "right": 0, "both": abs(n - wanted) // 2}[side]
    assert (a if n < wanted else c) == left
    rest = np.delete(out, np.arange(a, b), axis=2)
    if padding == "zero":
        assert not rest.any()
    else:
        assert set(rest[0, 0].tolist()) <= {X[0, 0, 0], X[0, 0, -1]}
    back = step.inverse_transform(out)
    assert back.shape == X.shape
    np.testing.assert_array_equal(back[..., c:d], X[..., c:d])
    assert not np.delete(back, np.arange(c, d), axis=2).any()


def test_unequal_lengths_in_one_array(ecg):
    records = [ecg.data[0, :, :500], ecg.data[1], ecg.data[2, :, :10]]
    bunch = pad_or_crop(records, 600)
    assert bunch.data.shape == (3, 12, 600) and bunch.data.dtype == np.float32
    for row, (a, b), (c, d), record in zip(bunch.data, bunch.valid, bunch.kept, records, strict=True):
        np.testing.assert_array_equal(row[:, a:b], record[:, c:d])
    with pytest.raises(ValueError):
        pad_or_crop([np.zeros((1, 5)), np.zeros((2, 5))])


def test_band_pass_is_zero_phase_and_its_ends_are_safe(ecg):
    t = np.arange(3600) / 360
    for frequency, gain in ((0.05, 0), (0.5, 0.5), (10, 1), (40, 0.5), (120, 0)):
        wave = np.sin(2 * np.pi * frequency * t)
        out = BandpassFilter(0.5, 40.0, fs=360).fit_transform(wave[None])[0]
        np.testing.assert_allclose(out[1200:2400], gain * wave[1200:2400], atol=0.04)
    noise = np.random.default_rng(0).standard_normal((1, 7200))
    out = BandpassFilter(0.5, 40.0, fs=360).fit_transform(noise)[0, 2400:4800]
    expected = sosfiltfilt(butter(2, [0.5, 40], "bandpass", fs=360, output="sos"), noise[0])[2400:4800]
    np.testing.assert_allclose(out, expected, atol=0.02)
    offset = BandpassFilter(0.5, 40.0, fs=360).fit_transform(ecg.data + np.float32(5))
    np.testing.assert_allclose(offset, BandpassFilter(0.5, 40.0, fs=360).fit_transform(ecg.data), atol=1e-3)
    with pytest.raises(ValueError, match="fs"):
        BandpassFilter().fit(ecg.data)
    with pytest.raises(ValueError):
        BandpassFilter(0.5, 200, fs=360).fit(ecg.data)


@pytest.mark.parametrize("mains", [50, 60])
def test_notch_takes_the_hum_and_leaves_the_ecg(mains, ecg):
    t = np.arange(720) / 360
    hum = 0.3 * np.sin(2 * np.pi * mains * t + 0.4)
    step = BandpassFilter(None, None, fs=360, notch=mains)
    out = step.fit_transform(ecg.data + hum)
    assert np.abs(out - ecg.data).max() < 0.1
    assert np.sqrt(np.mean((out - ecg.data) ** 2)) < 0.1 * np.sqrt(np.mean(hum**2))


def test_band_pass_moves_no_r_peak(ecg):
    out = BandpassFilter(0.5, 40, fs=360).fit_transform(ecg.data)
    lead = ecg.lead_names.index("II")
    for row in range(6):
        for r in ecg.r_peaks[row]:
            part = slice(max(0, r - 10), r + 11)
            a, b = (np.argmax(np.abs(X[row, lead, part] - np.median(X[row, lead]))) for X in (ecg.data, out))
            assert abs(int(a) - int(b)) <= 2


@pytest.mark.parametrize("per", ["lead", "window", "dataset"])
@pytest.mark.parametrize("method", ["standard", "robust", "max"])
def test_scaling_by_the_book_and_flat_leads(per, method, ecg):
    step = ECGScaler(per, method=method)
    out = step.fit_transform(ecg.data).astype(float)
    axis = {"lead": 2, "window": (1, 2), "dataset": (0, 2)}[per]
    if method == "standard":
        np.testing.assert_allclose(out.mean(axis=2 if per != "dataset" else (0, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(out.std(axis=axis), 1, rtol=1e-3)
    elif method == "max":
        np.testing.assert_allclose(np.abs(out).max(axis=axis), 1, rtol=1e-4)
    elif per == "lead":
        np.testing.assert_allclose(np.median(out, axis=2), 0, atol=1e-3)
    X = ecg.data.copy()
    X[:, 3] = 0.5  # an electrode that fell off
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flat = ECGScaler(per, method=method).fit_transform(X)
    assert np.isfinite(flat).all() and (method == "max" or not flat[:, 3].any())
    assert np.abs(flat[:, 0]).max() > 0.1
    with pytest.warns(UserWarning, match="constant|deviation|flat"):
        ECGScaler().fit_transform(X)


def test_a_pipeline_into_a_classifier_and_its_clone():
    X, y, _, _ = toy_ecg(n=60, n_leads=2)
    steps = (Resampler(100, 80), BandpassFilter(0.5, 30, fs=80), ECGScaler(), PadOrCrop(112))
    pipe = make_pipeline(*steps, ECGClassifier(TinyNet, **FAST)).fit(X, y)
    assert pipe.predict_proba(X).shape == (60, 3)
    assert pipe[-1].n_timesteps_ == 112 and pipe[-1].n_leads_ == 2
    again = clone(pipe).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), pipe.predict_proba(X))
    np.testing.assert_array_equal(pipe[:-1].transform(X)[:5], pipe[:-1].transform(X[:5]))
    assert clone(pipe).get_params()["padorcrop__n_timesteps"] == 112


def test_names_of_leads_in_any_spelling():
    spelt = {"AVR": "aVR", "avl": "aVL", "aVF": "aVF", "v6": "V6", "DII": "II", "i": "I", "MLII": "MLII", "ECG": "ECG"}
    assert {name: canonical_name(name) for name in spelt} == spelt
    assert canonical_name("MLII", modified=True) == "II"
    assert STANDARD_LEADS == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@QUICK
@given(order=st.permutations(range(12)), dropped=st.sets(st.sampled_from(["III", "aVR", "aVL", "aVF"])))
def test_leads_come_back_in_order_and_the_missing_are_derived(order, dropped, ecg):
    names = [ecg.lead_names[i] for i in order if ecg.lead_names[i] not in dropped]
    data = ecg.data[:, [ecg.lead_names.index(name) for name in names]]
    out, info = arrange_leads(data, [name.upper() for name in names])
    assert info.lead_names == list(STANDARD_LEADS) and set(info.derived) == dropped and not info.missing
    np.testing.assert_allclose(out, ecg.data, atol=1e-5)
    arranger = LeadArranger([name.lower() for name in names]).fit(data)
    np.testing.assert_allclose(arranger.transform(data), ecg.data, atol=1e-5)
    assert set(arranger.derived_) == dropped


def test_leads_that_cannot_be_had_are_named(ecg):
    with pytest.raises(ValueError, match="V6"):
        arrange_leads(ecg.data[:, :11], ecg.lead_names[:11])
    zero, info = arrange_leads(ecg.data[:, :11], ecg.lead_names[:11], missing="zero")
    assert info.missing == ["V6"] and not zero[:, 11].any()
    nan, _ = arrange_leads(ecg.data[:, :11], ecg.lead_names[:11], missing="nan")
    assert np.isnan(nan[:, 11]).all()
    fewer, info = arrange_leads(ecg.data[:, :11], ecg.lead_names[:11], missing="drop")
    assert fewer.shape[1] == 11 and info.lead_names == list(STANDARD_LEADS[:11])
    with pytest.raises(ValueError, match="II"):
        arrange_leads(ecg.data[:, :2], ["II", "DII"])


@pytest.mark.parametrize(("factor", "unit"), [(1, "mV"), (1e3, "uV"), (1e-3, "V")])
def test_the_unit_guard_says_which(factor, unit, ecg):
    X = (factor * ecg.data.astype(float)).astype(np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = check_units(X)
    assert set(result.looks_like.tolist()) == {unit}
    assert len(caught) == (unit != "mV") and all(unit in str(w.message) for w in caught)
    np.testing.assert_allclose(to_millivolts(X, unit=unit), ecg.data, rtol=1e-4, atol=1e-6)


PAIRS = [("I", "II"), ("I", "aVF"), ("II", "III"), ("aVR", "aVL"), ("II", "V2"), ("aVF", "V6")]


@pytest.mark.parametrize("pair", PAIRS)
def test_the_order_guard_says_which(pair, ecg):
    names = list(ecg.lead_names)
    a, b = (names.index(name) for name in pair)
    names[a], names[b] = names[b], names[a]
    with pytest.warns(UserWarning, match="Einthoven") as caught:
        result = check_lead_order(ecg.data, names)
    assert not result.agrees.any() and len(result.problem) == 6
    assert pair[0] in str(caught[0].message) and pair[1] in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_lead_order(ecg.data, ecg.lead_names).agrees.all()
        assert check_lead_order(ecg.data[:, 6:], ecg.lead_names[6:]).agrees.all()  # nothing to tell by
