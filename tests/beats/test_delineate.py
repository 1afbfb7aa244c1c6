"""delineate: limits of synthetic waves, what has none and why, P waves present and absent, long and short windows."""

import numpy as np
import pytest

from skecg.beats import LIMITS, Beats, delineate, find_beats
from skecg.datasets import make_ecg

FS = 500.0
P, QRS, T = slice(0, 3), slice(3, 5), slice(5, 8)


def make(classes, n=4, window=10.0, fs=FS, n_leads=12, seed=1, **settings):
    return make_ecg(
        n, classes=classes, n_leads=n_leads, fs=fs, window=window, distractors=False, random_state=seed, **settings
    )


@pytest.fixture(scope="module")
def ecg():
    return make(("N", "AF"), n=8)


@pytest.fixture(scope="module")
def beats(ecg):
    return delineate(ecg.data, find_beats(ecg.data, FS))


def errors(ecg, beats, row, column, first, last):
    """Return found minus true limits, ms, over the beats of a window whose wave is whole, in lead II."""
    lead = ecg.lead_names.index("II")
    found = []
    for r, wave in zip(ecg.waves[row]["r"], ecg.lead_waves[row][:, lead], strict=True):
        near = np.flatnonzero(np.abs(beats[row].r_peaks - r) < 0.075 * FS)
        if len(near) and wave[first] > 5 and wave[last] < ecg.data.shape[2] - 5:
            at = {first: wave[first], last: wave[last] - 1}  # half-open there, the last sample here
            name = first if column in (0, 3, 5) else last
            found.append(1000 / FS * (beats[row].limits[near[0], lead, column] - at[name]))
    return np.array(found)


@pytest.mark.parametrize(
    ("column", "first", "last", "most"),
    [(0, "p_on", "p_off", 25), (2, "p_on", "p_off", 25), (3, "qrs_on", "qrs_off", 15), (4, "qrs_on", "qrs_off", 20),
     (7, "t_on", "t_off", 40)],
)  # fmt: skip
def test_limits_are_those_of_the_generator(ecg, beats, column, first, last, most):
    normal = np.flatnonzero(ecg.target == "N")
    off = np.concatenate([errors(ecg, beats, row, column, first, last) for row in normal])
    assert np.isfinite(off).mean() > 0.8
    assert abs(np.nanmedian(off)) < most


def test_shapes_and_order(ecg, beats):
    for found in beats:
        n = len(found.r_peaks)
        assert found.limits.shape == (n, 12, len(LIMITS))
        assert found.limits.dtype == np.float32
        assert found.p_region.shape == (n, 2)
        assert found.typical.shape == (n,)
        assert (found.source, found.limits_reason) == ("average", "")
        for wave in (P, QRS, T):
            part = found.limits[..., wave]
            whole = np.isfinite(part).all(axis=-1)
            assert (whole | np.isnan(part).all(axis=-1)).all()  # whole or not at all
            assert (np.diff(part[whole], axis=-1) >= 0).all()
        inside = found.limits[np.isfinite(found.limits)]
        assert inside.min() >= 0
        assert inside.max() <= 4999


def test_waves_do_not_overlap(beats):
    for found in beats:
        flat = found.limits[:, :, [0, 2, 3, 4, 5, 7]].transpose(1, 0, 2).reshape(12, -1)
        for lead in flat:
            known = lead[np.isfinite(lead)]
            assert (np.diff(known) >= 0).all()
            assert (known[2::2] > known[1:-1:2]).all()


def test_qrs_is_one_for_all_leads_and_p_and_t_are_not(beats):
    limits = beats[0].limits
    assert (np.nanmax(limits[:, :, QRS], axis=1) == np.nanmin(limits[:, :, QRS], axis=1)).all()
    assert len(np.unique(limits[3, :, 7])) > 3


def test_every_typical_beat_has_the_limits_of_the_median_beat(beats):
    found = beats[0]
    distance = found.limits[found.typical][:, :, QRS] - found.r_peaks[found.typical][:, None, None]
    assert len(np.unique(distance[..., 0])) == 1
    assert np.isnan(found.limits[~found.typical]).all()


def test_p_region_lies_before_the_qrs_complex_of_each_beat(ecg, beats):
    for found in beats:
        on = np.nanmedian(found.limits[:, 0, 3] - found.r_peaks)
        assert np.allclose(found.p_region - found.r_peaks[:, None], [on - 0.2 * FS, on - 0.03 * FS], atol=1)


def test_p_waves_are_present_in_normal_rhythm_and_absent_in_fibrillation(ecg, beats):
    for label, found in zip(ecg.target, beats, strict=True):
        if label == "N":
            assert found.p_present is True
            assert np.isfinite(found.limits[..., P]).any()
        else:
            assert found.p_present is not True
            assert np.isnan(found.limits[..., P]).all()
            assert np.isfinite(found.limits[..., T]).any()
        assert found.p_snr > 0
        assert -1 <= found.p_consistency <= 1


def test_one_lead_decides_by_consistency():
    ecg = make(("N", "AF"), n=8, n_leads=1)
    for label, found in zip(ecg.target, delineate(ecg.data, find_beats(ecg.data, FS)), strict=True):
        assert found.p_present is (found.p_consistency >= 0.7 or (None if found.p_consistency >= 0.5 else False))
        assert found.p_present is (label == "N") or found.p_present is None


def test_few_beats_decide_nothing(ecg):
    short = ecg.data[:, :, :1900]
    for found in delineate(short, find_beats(short, FS)):
        assert found.p_present is None or found.typical.sum() >= 5


def test_the_ecg_and_the_beats_given_are_left_alone(ecg):
    X, found = ecg.data.copy(), find_beats(ecg.data, FS)
    delineate(X, found)
    assert np.array_equal(X, ecg.data)
    assert all(b.limits is None for b in found)


def test_neighbours_do_not_matter(ecg, beats):
    alone = delineate(ecg.data[2:3], find_beats(ecg.data[2:3], FS))[0]
    assert np.array_equal(alone.limits, beats[2].limits, equal_nan=True)


# -------------------------------------------------------------------------------------------------- nothing and why


def test_two_beats_are_too_few_for_an_average_unless_asked_for():
    ecg = make(("N",), n=4, window=2.0)
    found = find_beats(ecg.data, FS)
    for row in delineate(ecg.data, found):
        if row.typical is not None and row.source == "failed":
            assert "3 are needed for an average" in row.limits_reason
            assert np.isnan(row.limits).all()
            assert len(row.r_peaks) >= 1
            assert row.reason == ""
    more = delineate(ecg.data, found, min_beats=1)
    assert [row.source for row in more] == ["average"] * 4
    assert all(np.isfinite(row.limits[:, 1, QRS]).any() for row in more)
    assert all(row.p_present is None for row in more)


def test_windows_without_beats_have_a_reason(ecg):
    X = ecg.data[:3].copy()
    X[1] = 0
    rows = delineate(X, find_beats(X, FS))
    assert rows[1].source == "failed"
    assert rows[1].limits_reason == rows[1].reason == "flat: every lead is constant"
    assert rows[1].limits.shape == (0, 12, 8)
    assert [rows[0].source, rows[2].source] == ["average", "average"]


def test_flat_and_missing_leads_have_no_limits_and_the_others_have(ecg, beats):
    X = ecg.data[:1].copy()
    X[0, 3] = 1.0
    X[0, 4, 1000:2000] = np.nan
    (found,) = delineate(X, find_beats(X, FS))
    assert np.isnan(found.limits[:, 3:5]).all()
    assert np.isfinite(found.limits[:, [0, 1, 2, 5]][..., QRS]).any()


def test_a_signal_that_is_all_missing_fails_with_given_beats():
    (found,) = delineate(np.full((1, 1, 1000), np.nan), [Beats([300, 600], 250.0)])
    assert found.source == "failed"
    assert "missing samples" in found.limits_reason
    assert np.isnan(found.limits).all()


@pytest.mark.parametrize("method", ["average", "windows", "auto"])
@pytest.mark.parametrize("peaks", [[], [0], [0, 999], [500], [1, 2, 3, 4], list(range(0, 1000, 7))])
def test_no_beats_raise(method, peaks):
    g = np.random.default_rng(0)
    for x in (g.normal(size=(1, 2, 1000)), np.zeros((1, 2, 1000)), np.ones((1, 2, 1000)) * np.arange(1000)):
        (found,) = delineate(x, [Beats(peaks, 250.0)], method=method, min_beats=1)
        assert found.limits.shape == (len(peaks), 2, 8)
        assert (found.source == "failed") == bool(found.limits_reason) or method == "auto"


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 60, 125, 250])
def test_no_length_raises(n):
    x = np.random.default_rng(n).normal(size=(1, 3, n))
    for method in ("average", "windows"):
        (found,) = delineate(x, [Beats([0, n - 1] if n > 1 else [0], 250.0)], method=method, min_beats=1)
        assert found.limits.shape == (min(n, 2), 3, 8)


def test_an_odd_beat_is_not_typical_and_has_no_limits():
    ecg = make(("PVC",), n=1, centred=True)
    (found,) = delineate(ecg.data, find_beats(ecg.data, FS))
    odd = int(np.argmin(np.abs(found.r_peaks - ecg.sample[0])))
    assert abs(found.r_peaks[odd] - ecg.sample[0]) < 0.075 * FS
    assert not found.typical[odd]
    assert np.isnan(found.limits[odd]).all()
    assert found.typical.sum() >= len(found.r_peaks) - 3


def test_padding_has_no_limits(ecg):
    padded = np.zeros((1, 12, 8000), dtype=np.float32)
    padded[0, :, 1000:6000] = ecg.data[0]
    (found,) = delineate(padded, find_beats(padded, FS))
    inside = found.limits[np.isfinite(found.limits)]
    assert inside.min() >= 1000
    assert inside.max() < 6000


def test_padding_and_given_beats_in_it(ecg):
    padded = np.zeros((1, 12, 8000), dtype=np.float32)
    padded[0, :, 1000:6000] = ecg.data[0]
    peaks = np.concatenate([[200, 900], find_beats(padded, FS)[0].r_peaks, [7000]])
    (found,) = delineate(padded, [Beats(peaks, FS)])
    assert np.isnan(found.limits[[0, 1, -1]]).all()
    assert found.source == "average"


# ---------------------------------------------------------------------------------------------------- other ways, long


def test_windows_are_anchored_on_the_qrs_complex(ecg):
    (found,) = delineate(ecg.data[:1], find_beats(ecg.data[:1], FS), method="windows")
    (average,) = delineate(ecg.data[:1], find_beats(ecg.data[:1], FS))
    assert found.source == "windows"
    same = np.isfinite(average.limits[:, 0, 3]) & np.isfinite(found.limits[:, 0, 3])
    assert np.array_equal(found.limits[same, 0, 3], average.limits[same, 0, 3])
    on, rr = found.limits[1:, 0, 3], np.diff(found.r_peaks)
    expected = np.round(on + 0.390 * FS * np.sqrt(rr / FS))
    known = np.isfinite(found.limits[1:, 0, 7])
    # the T window of a beat goes by the interval before it
    assert np.abs(found.limits[1:, 0, 7][known] - expected[known]).max() <= 1


def test_auto_says_what_it_took(ecg, monkeypatch):
    monkeypatch.setattr("skecg.beats._delineate.find_spec", lambda name: None)
    long, short = ecg.data[:1], ecg.data[:1, :, :500]
    assert delineate(long, find_beats(long, FS), method="auto")[0].source == "average"
    (found,) = delineate(short, find_beats(short, FS), method="auto", min_beats=3)
    assert found.source == "windows"
    assert found.limits_reason.startswith("average: ")
    assert np.isfinite(found.limits[..., QRS]).any()


def test_long_records_are_averaged_in_stretches(ecg, beats):
    """Two minutes of normal rhythm, then two of fibrillation: P waves in the first half alone."""
    normal, fibrillating = (np.concatenate([ecg.data[ecg.target == y][0]] * 12, axis=1) for y in ("N", "AF"))
    long = np.concatenate([normal, fibrillating], axis=1)[None]
    (found,) = delineate(long, find_beats(long, FS))
    has_p = np.isfinite(found.limits[:, 1, 0])
    first = found.r_peaks < 58_000
    assert has_p[first & found.typical].mean() > 0.8
    assert has_p[found.r_peaks > 62_000].mean() < 0.2
    assert found.p_present is None
    assert found.limits.shape[0] == len(found.r_peaks)


def test_r_peaks_alone_will_do_with_fs(ecg, beats):
    (found,) = delineate(ecg.data[:1], [beats[0].r_peaks], FS)
    assert np.array_equal(found.limits, beats[0].limits, equal_nan=True)
    assert found.detector == "given"


@pytest.mark.parametrize(
    ("given", "settings", "error", "message"),
    [
        (Beats([1], FS), {}, TypeError, "one Beats for each window"),
        ("beats", {}, TypeError, "one Beats for each window"),
        ([Beats([1], FS)] * 2, {}, ValueError, "2 entries, X has 1 windows"),
        ([[5, 9]], {}, ValueError, "pass fs"),
        ([Beats([1], 250.0)], {"fs": 500.0}, ValueError, "found at 250 Hz, fs is 500 Hz"),
        ([Beats([5000], FS)], {}, ValueError, "a beat at 5000.*sampling grid"),
        ([Beats([1], FS)], {"method": "cwt"}, ValueError, "'average', 'prominence', 'dwt', 'windows', 'auto'"),
        ([Beats([1], FS)], {"min_beats": 0}, ValueError, "min_beats must be an integer"),
        ([Beats([1], FS)], {"lead_names": ["II"]}, ValueError, "1 names"),
        ([Beats([1], FS)], {"fs": -1.0}, ValueError, "fs must be"),
    ],
)
def test_refuses(given, settings, error, message):
    with pytest.raises(error, match=message):
        delineate(np.zeros((1, 12, 5000)), given, **settings)
