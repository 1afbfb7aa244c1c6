"""ribeiro_preprocessing: rate, leads, unit, padding and scale as published, by hand."""

import warnings

import numpy as np
import pytest
from scipy.signal import resample_poly
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skecg.classifiers import ECGClassifier
from skecg.datasets import make_ecg
from skecg.models import RIBEIRO_LABELS, RibeiroNet
from skecg.preprocessing import STANDARD_LEADS, ribeiro_preprocessing


@pytest.fixture(scope="module")
def ecg():
    return make_ecg(3, classes=("N",), n_leads=12, fs=500.0, window=10.0, noise=0, random_state=0)


@pytest.mark.parametrize("fs, n, first, last", [
    (500, 5000, 48, 4048), (400, 2800, 648, 3448), (100, 1000, 48, 4048), (400, 4096, 0, 4096), (400, 4001, 47, 4048),
])  # fmt: skip
def test_zeros_on_both_sides(rng, fs, n, first, last):
    X = rng.uniform(0.5, 1.0, (2, 12, n)).astype(np.float32)
    pipeline = ribeiro_preprocessing(fs, lead_names=None)
    out = pipeline.fit_transform(X)
    assert out.shape == (2, 12, 4096) and out.dtype == np.float32
    assert pipeline["pad"].valid_ == (first, last)
    assert not out[..., :first].any() and not out[..., last:].any() and (out[..., first:last] != 0).all()


def test_the_middle_of_what_is_longer(rng):
    X = rng.standard_normal((1, 12, 6001)).astype(np.float32)
    out = ribeiro_preprocessing(400, lead_names=None).fit_transform(X)
    assert np.array_equal(out, X[..., (6001 - 4096) // 2 :][..., :4096])


def test_resampled_as_published_away_from_the_ends(ecg):
    out = ribeiro_preprocessing(500).fit_transform(ecg.data)[..., 48:4048]
    want = resample_poly(ecg.data.astype(float), 400, 500, axis=-1)
    assert np.ptp(want) > 0.5
    np.testing.assert_allclose(out[..., 50:-50], want[..., 50:-50], atol=2e-3 * np.ptp(want))


def test_baseline_stays():
    X = np.full((1, 12, 4000), 0.25, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # constant leads break Einthoven's law
        out = ribeiro_preprocessing(400).fit_transform(X)
    assert (out[..., 48:4048] == 0.25).all()


def test_leads_go_where_the_network_expects_them(ecg):
    names = ["V1", "V2", "V3", "V4", "V5", "V6", "DI", "DII"]  # four limb leads are derived, as the authors do
    positions = [STANDARD_LEADS.index(name.lstrip("D")) for name in names]
    out = ribeiro_preprocessing(500, lead_names=names).fit_transform(ecg.data[:, positions])
    want = ribeiro_preprocessing(500).fit_transform(ecg.data)
    assert tuple(ecg.lead_names) == tuple(STANDARD_LEADS)
    np.testing.assert_allclose(out, want, atol=1e-5)


@pytest.mark.parametrize("unit, factor", [("V", 1e-3), ("uV", 1e3)])
def test_units(ecg, unit, factor):
    want = ribeiro_preprocessing(500).fit_transform(ecg.data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = ribeiro_preprocessing(500, unit=unit).fit_transform(ecg.data * factor)
    np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)
    with pytest.warns(UserWarning, match=f"look like {unit}, not mV"):
        ribeiro_preprocessing(500).fit_transform(ecg.data * factor)


def test_scale_is_a_parameter_that_can_be_searched_over(ecg):
    want = ribeiro_preprocessing(500).fit_transform(ecg.data)
    assert np.array_equal(ribeiro_preprocessing(500, scale=2.0).fit_transform(ecg.data), 2 * want)
    pipeline = clone(ribeiro_preprocessing(500)).set_params(gain__scale=0.5)
    assert np.array_equal(pipeline.fit_transform(ecg.data), 0.5 * want)
    with pytest.raises(ValueError, match="scale"):
        pipeline.set_params(gain__scale=0).fit(ecg.data)


def test_before_a_network(ecg, seeded):
    net = RibeiroNet(width=1).eval()
    clf = ECGClassifier.from_module(net, RIBEIRO_LABELS, n_leads=12, n_timesteps=4096, multilabel=True, fs=400)
    pipeline = make_pipeline(ribeiro_preprocessing(500).fit(ecg.data), clf)
    assert pipeline.predict_proba(ecg.data).shape == (3, 6)


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"fs": None}, "sampling rate"),
        ({"fs": 0}, "fs"),
        ({"scale": 0}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"unit": "V", "lead_names": None}, "lead_names"),
    ],
    ids=str,
)
def test_bad_parameters(settings, match):
    with pytest.raises(ValueError, match=match):
        ribeiro_preprocessing(**{"fs": 500, **settings})


def test_bad_recordings(ecg):
    with pytest.raises(ValueError, match=r"11.*12|12.*11"):
        ribeiro_preprocessing(500).fit(ecg.data[:, :11])
    with pytest.raises(ValueError, match="unit"):
        ribeiro_preprocessing(500, unit="kV").fit(ecg.data)
    with pytest.raises(ValueError, match="V6"):
        ribeiro_preprocessing(500, lead_names=STANDARD_LEADS[:-1]).fit(ecg.data[:, :11])
