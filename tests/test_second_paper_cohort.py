"""What is promised of beats and waves, of relevance aggregated over a cohort, and of the second paper's figures."""

from __future__ import annotations

import pickle
import sys
import warnings

import numpy as np
import pytest
import sklearn
from scipy.stats import mannwhitneyu
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline

from skecg.beats import LIMITS, Beats, delineate, find_beats
from skecg.datasets import make_ecg
from skecg.explain import InputXGradient
from skecg.plotting import AverageBeatDisplay, CohortDisplay, ProbabilityDisplay, TwelveLeadDisplay, WaveMapDisplay
from skecg.relevance import RelevanceAggregator
from tests.explaining import around
from tests.tiny import LinearNet

FS = 250.0
ECG = make_ecg(4, classes=("N", "AF"), n_leads=12, fs=FS, window=10.0, distractors=False, random_state=1)
X = ECG.data
FOUND = delineate(X, find_beats(X, FS))
STATISTICS = (
    "classes_ columns_ mean_ interval_ interval_method_ effect_size_ p_value_ p_adjusted_ n_patients_ n_records_ "
    "n_control_ n_windows_ n_beats_ n_zero_"
).split()


def aggregator(by, **settings):
    return RelevanceAggregator(by=by, **{"fs": 100.0, "n_bootstrap": 50, "random_state": 0, **settings})


def given_beats(r_peaks, n_leads=1, fs=100.0, p_present=True, typical=None):
    """Beats with waves at usual places; "P region" just before the QRS."""
    r = np.asarray(r_peaks)
    at = np.array([-20, -15, -10, -5, 5, 16, 22, 30])  # in the order of LIMITS
    limits = np.repeat((r[:, None] + at)[:, None], n_leads, axis=1).astype(np.float32)
    typical = np.ones(len(r), bool) if typical is None else typical
    region = r[:, None] + [-25, -8]
    return Beats(r, fs, limits=limits, typical=typical, p_present=p_present, p_region=region, source="average")


def cohort(rng, n=40, n_leads=3, n_timesteps=400):
    """Relevance, labels, and all that goes with it: 20 patients with two records each, of one or of both classes."""
    R = rng.normal(size=(n, n_leads, n_timesteps)).astype(np.float32)
    y = np.where(rng.random(n) < 0.5, "AF", "N")
    R[y == "AF", 1] += 1
    beats = [given_beats(np.cumsum(rng.integers(60, 100, 4)) - 30, n_leads, p_present=bool(i % 3)) for i in range(n)]
    beats[5] = Beats([], 100.0, reason="noise")
    ecg = rng.normal(size=R.shape)
    ecg[::4, :, 370:] = 0
    record = np.array([f"r{i}" for i in range(n)])
    return R, y, {"beats": beats, "ecg": ecg, "groups": np.arange(n) // 2, "record": record}


def take(at, R, y, given):
    rows = {key: [value[i] for i in at] if key == "beats" else value[at] for key, value in given.items()}
    return (R[at], y[at]), rows


# --- beats ------------------------------------------------------------------------------------------------------------


def test_r_peaks_waves_and_absent_p_waves():
    for beats, truth, label in zip(FOUND, ECG.r_peaks, ECG.target, strict=True):
        gap = np.abs(beats.r_peaks[:, None] - truth).min(1)
        assert (gap <= 0.075 * FS).all() and abs(len(truth) - len(beats.r_peaks)) <= 1
        assert np.median(gap) <= 0.01 * FS and beats.reason == "" and beats.source == "average" and beats.fs == FS
        assert beats.limits.shape == (len(beats.r_peaks), 12, 8) and beats.p_present is (label == "N")
        P = beats.limits[..., :3]
        assert np.isnan(P).all() if label == "AF" else np.isfinite(P).mean() > 0.5
        assert np.isfinite(beats.p_region).all() and beats.p_region.shape == (len(beats.r_peaks), 2)
        assert not (beats.limits == 0).any()
    assert LIMITS == ("P_on", "P_peak", "P_off", "QRS_on", "QRS_off", "T_on", "T_peak", "T_off")
    for limits in (FOUND[0].limits, FOUND[1].limits):  # each wave at its own beat, in order
        on, off = LIMITS.index("QRS_on"), LIMITS.index("QRS_off")
        r = FOUND[0 if limits is FOUND[0].limits else 1].r_peaks[:, None]
        known = np.isfinite(limits[..., on])
        assert (((limits[..., on] <= r) & (r <= limits[..., off])) | ~known).all() and known.any()


def test_limits_are_assigned_by_time_not_by_index():
    beats = FOUND[ECG.target.tolist().index("N")]
    at = ECG.target.tolist().index("N")
    fewer = Beats(np.delete(beats.r_peaks, 2), FS)
    (got,) = delineate(X[at : at + 1], [fewer])
    gap = np.abs(got.limits - np.delete(beats.limits, 2, axis=0))
    assert np.nanmax(gap) <= 0.1 * FS and np.isfinite(gap).mean() > 0.5  # an index off by one is 0.5 s or more


R0 = int(ECG.r_peaks[0][2])
FAULTS = {
    "flat": np.zeros((12, 2500)),
    "constant": np.full((12, 2500), 0.7),
    "NaN": np.full((12, 2500), np.nan),
    "gap": np.where((np.arange(2500) > 500) & (np.arange(2500) < 1500), np.nan, X[0]),
    "noise": np.random.default_rng(0).normal(0, 0.1, (12, 2500)),
    "no beat": np.where(np.arange(2500) < 0, 1, 1e-3 * np.sin(np.arange(2500) / 40)) * np.ones((12, 1)),
    "one sample": X[0][:, :1],
    "one beat": X[0][:, R0 - 75 : R0 + 88],
    "one beat, padded": np.pad(X[0][:, R0 - 75 : R0 + 88], ((0, 0), (900, 1437))),
    "two beats": X[0][:, R0 - 75 : int(ECG.r_peaks[0][3]) + 88],
    "half a second": X[0][:, R0 - 60 : R0 + 65],
    "less than half a second": X[0][:, R0 - 40 : R0 + 40],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_failures_have_reasons_and_are_never_zeros(fault):
    window = FAULTS[fault].astype(np.float32)
    beats = find_beats(window[None], FS)
    (got,) = delineate(window[None], beats)
    n = {"one beat": 1, "one beat, padded": 1, "two beats": 2, "half a second": 1}.get(fault, 0)
    assert len(got.r_peaks) == n and bool(beats[0].reason) == (n == 0)
    assert got.source == "failed" and got.limits_reason and got.p_present is None
    assert got.limits.shape == (n, 12, 8) and np.isnan(got.limits).all()
    if window.shape == X[0].shape:  # other records are unharmed
        many = delineate(np.stack([X[1], window, X[2]]), find_beats(np.stack([X[1], window, X[2]]), FS))
        assert many[1].reason == got.reason
        for mine, alone in ((many[0], FOUND[1]), (many[2], FOUND[2])):
            assert np.array_equal(mine.r_peaks, alone.r_peaks)
            assert np.array_equal(mine.limits, alone.limits, equal_nan=True)


def test_a_peak_at_the_first_sample():
    window = X[1:2, :, int(ECG.r_peaks[1][1]) :]
    (got,) = delineate(window, find_beats(window, FS))
    assert got.r_peaks[0] < 0.05 * FS and np.isnan(got.limits[0, :, :5]).all() and np.isfinite(got.limits[3]).any()
    (got,) = delineate(window, [np.array([0, *got.r_peaks[1:]])], FS)
    assert np.isnan(got.limits[0, :, :5]).all() and not got.typical[0]


def test_one_lead_second_opinions_and_missing_extras(monkeypatch):
    one, cube = find_beats(X[:, 1], FS), find_beats(X[:, 1:2], FS)
    assert all(np.array_equal(a.r_peaks, b.r_peaks) for a, b in zip(one, cube, strict=True))
    (checked,) = find_beats(X[1:2], FS, second="xqrs", lead_names=ECG.lead_names)
    assert checked.agreement > 0.9 and np.array_equal(checked.r_peaks, find_beats(X[1:2], FS)[0].r_peaks)
    monkeypatch.setitem(sys.modules, "neurokit2", None)
    with pytest.raises(ImportError, match="waves"):
        find_beats(X, FS, detector="neurokit")
    for wrong in ({"detector": "dwt"}, {"fs": -360.0}, {"fs": np.nan}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            find_beats(X, **{"fs": FS, **wrong})


# --- the aggregator ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["record", "lead"])
def test_zero_padded_tails_are_left_out(by):
    R, ecg = np.zeros((2, 2, 100), np.float32), np.ones((2, 2, 100), np.float32)
    R[0, :, 20:60], R[1] = 2.0, 2.0
    ecg[0, :, :20], ecg[0, :, 60:] = 0, 0
    fitted = aggregator(by)
    assert np.array_equal(fitted.fit_transform(R, ecg=ecg), np.full((2, {"record": 1, "lead": 2}[by]), 2.0))
    assert (fitted.mean_ == 2).all() and fitted.exclusions_["padded"].tolist() == [60]


def test_leads_of_a_class_activation_map_are_warned_about(rng):
    with pytest.warns(UserWarning, match=r"(?i)lead"):
        aggregator("lead").fit(np.broadcast_to(rng.random((3, 1, 100)), (3, 12, 100)))


@pytest.mark.parametrize("by", ["wave", "beat"])
def test_another_grid_edges_and_failed_detections(by):
    R = np.zeros((2, 1, 400), np.float32)
    R[0, 0, 180:220], R[0, 0, :9], R[0, 0, -9:] = 6.0, 1e3, 1e3
    with pytest.raises(ValueError, match=r"500(.|\n)*100|100(.|\n)*500"):
        aggregator(by).fit(R, beats=[Beats([200], 500.0)] * 2)
    beats = [given_beats([2, 200, 397]), Beats([], 100.0, reason="noise")]
    settings = {"beat_window": (-0.1, 0.1)} if by == "beat" else {}
    fitted = aggregator(by, **settings).fit(R, beats=beats)
    table = fitted.transform(R, beats=beats)
    assert fitted.exclusions_["failed"].tolist() == [1] and np.isnan(table[1]).all()
    assert np.allclose(fitted.mean_, table[:1], atol=1e-6, equal_nan=True)  # the failed one is no zero
    if by == "beat":
        assert table[0].tolist() == [6.0] * 21
        assert fitted.exclusions_["edge_beats"].tolist() == [2]
    else:
        columns = dict(zip(fitted.columns_, table[0], strict=True))
        assert columns["lead0 QRS"] == 6.0 and fitted.exclusions_["cut_waves"][0] > 0


def test_the_p_region_stands_beside_p_outside_of_the_shares(rng):
    R = rng.normal(size=(2, 2, 400)).astype(np.float32)
    beats = [given_beats([100, 190, 280], 2), given_beats([100, 190, 280], 2, p_present=False)]
    plain = aggregator("wave", lead_names=["II", "V1"]).fit(R, beats=beats)
    assert list(plain.columns_[:5]) == [f"II {part}" for part in ("P", "QRS", "T", "rest", "P region")]
    row = dict(zip(plain.columns_, plain.transform(R, beats=beats)[0], strict=True))
    for part, first, last in (("P", -20, -10), ("QRS", -5, 5), ("T", 16, 30)):
        at = np.concatenate([np.arange(r + first, r + last + 1) for r in (100, 190, 280)])
        assert np.isclose(row[f"II {part}"], R[0, 0, at].mean(), atol=1e-6)
    absent = dict(zip(plain.columns_, plain.transform(R, beats=beats)[1], strict=True))
    assert np.isnan(absent["V1 P"]) and np.isfinite(absent["V1 P region"])
    shares = aggregator("wave", share=True, statistic="abs_mean").fit_transform(R, beats=beats)
    parts = np.array([not name.endswith("region") for name in plain.columns_])
    assert np.allclose(np.nansum(shares[:, parts], axis=1), 1, atol=1e-5) and (np.nansum(shares, axis=1) > 1.05).all()


def test_fast_hearts_and_patients_weigh_one():
    R = np.ones((4, 1, 400), np.float32)
    R[0], R[1], R[2] = 5.0, 3.0, 3.0
    beats = [given_beats(range(40, 360, 40)), *[given_beats([200])] * 3]
    fitted = aggregator("wave").fit(R, beats=beats, groups=["a", "b", "b", "b"], record=[0, 1, 2, 3])
    assert np.isclose(fitted.mean_[0, 1], (5 + (3 + 3 + 1) / 3) / 2)
    assert fitted.n_patients_[0, 1] == 2 and fitted.n_records_[0, 1] == 4
    fitted = aggregator("beat", beat_window=(-0.1, 0.1)).fit(R, beats=beats, groups=["a", "b", "b", "b"])
    assert np.allclose(fitted.mean_, (5 + 7 / 3) / 2)


def test_tests_over_patients_with_holms_correction(rng):
    R, y, given = cohort(rng)
    y = np.where(given["groups"] % 2, "AF", "N")
    settings = {"groups": given["groups"], "record": given["record"]}
    fitted = aggregator("lead", control="N").fit(R, y, **settings)
    patients = R.mean(-1, dtype=float).reshape(20, 2, 3).mean(1)
    want = mannwhitneyu(patients[1::2], patients[::2], method="exact").pvalue
    af = fitted.classes_.tolist().index("AF")
    assert np.allclose(fitted.p_value_[af], want) and np.allclose(fitted.mean_[af], patients[1::2].mean(0), atol=1e-6)
    order = np.argsort(want)
    holm = np.empty(3)
    holm[order] = np.minimum(1, np.maximum.accumulate(want[order] * [3, 2, 1]))
    assert np.allclose(fitted.p_adjusted_[af], holm) and fitted.n_patients_[af].tolist() == [10] * 3
    delta = np.sign(patients[1::2, None] - patients[None, ::2]).mean((0, 1))
    assert np.allclose(fitted.effect_size_[af], delta)
    greater = aggregator("lead", control="N", alternative="greater").fit(R, y, **settings)
    want = mannwhitneyu(patients[1::2], patients[::2], alternative="greater", method="exact").pvalue
    assert np.allclose(greater.p_value_[af], want)
    assert (fitted.interval_[..., 0] <= fitted.mean_).all() and (fitted.mean_ <= fitted.interval_[..., 1]).all()
    both = np.where(np.arange(40) % 8 == 1, "AF", y)  # patients 0, 4, ... are in both cohorts
    fitted = aggregator("lead", control="N").fit(R, both, **settings)
    assert fitted.exclusions_["shared_patients"][af] == 5 and (fitted.n_control_[af] == 5).all()


@pytest.mark.parametrize("by", ["record", "lead", "wave", "beat"])
def test_merges_in_any_order_are_equal_to_the_last_bit(by, rng):
    def bits(fitted):
        names = STATISTICS if by in ("wave", "beat") else [name for name in STATISTICS if name != "n_beats_"]
        found = {name: getattr(fitted, name) for name in names} | fitted.exclusions_
        if by == "beat":
            found |= {name: getattr(fitted, name) for name in ("mean_ecg_", "interval_ecg_")}
        return {name: value.tolist() if value.dtype == object else value.tobytes() for name, value in found.items()}

    data = cohort(rng)
    settings = {"control": "N", "share": by == "wave", "beat_window": (-0.2, 0.3)}
    rows, more = take(np.arange(40), *data)
    whole = aggregator(by, **settings).fit(*rows, **more)
    want = bits(whole)
    for n_parts in (1, 2, 4, 7):
        parts = []
        for at in np.array_split(rng.permutation(40), n_parts):
            rows, more = take(at, *data)
            parts.append((rows, more))
        stepped, merged = aggregator(by, **settings), aggregator(by, **settings)
        for rows, more in parts:
            stepped.partial_fit(*rows, **more)
        fitted = [aggregator(by, **settings).fit(*rows, **more) for rows, more in parts]
        for i in rng.permutation(n_parts):
            merged.merge(fitted[i])
        assert bits(stepped) == want and bits(merged) == want
    with pytest.raises(ValueError, match="record"):
        merged.merge(fitted[0])
    assert bits(merged) == want


def test_memory_grows_with_records_alone(rng):
    sizes = []
    for n_timesteps in (400, 4000):
        R = np.ones((20, 3, n_timesteps), np.float32)
        beats = [given_beats([100, 200, 300], 3)] * 20
        sizes.append([len(pickle.dumps(aggregator(by).fit(R, beats=beats))) for by in ("lead", "wave", "beat")])
    assert np.allclose(sizes[0], sizes[1], rtol=0.01)


def test_cross_validation_slices_beats_with_the_rows(rng):
    R, y, given = cohort(rng)
    with sklearn.config_context(enable_metadata_routing=True):
        step = aggregator("wave").set_fit_request(beats=True, groups=True, record=True)
        pipe = make_pipeline(step.set_transform_request(beats=True), DummyClassifier())
        params = {"beats": given["beats"], "groups": given["groups"], "record": given["record"]}
        wanted = {"return_estimator": True, "return_indices": True, "error_score": "raise"}
        out = cross_validate(pipe, R, y, params=params, cv=3, **wanted)
    for pipe, at in zip(out["estimator"], out["indices"]["train"], strict=True):
        rows, more = take(at, R, y, {key: given[key] for key in params})
        assert np.array_equal(pipe[0].mean_, aggregator("wave").fit(*rows, **more).mean_, equal_nan=True)


def test_all_records_excluded_is_a_clear_error():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"(?i)exclu|left out|no (record|window)"):
            _ = aggregator("lead").fit(np.full((4, 2, 100), np.nan), list("abab")).mean_
        with pytest.raises(ValueError, match=r"(?i)beat"):
            _ = aggregator("wave").fit(np.ones((2, 1, 400)), beats=[Beats([], 100.0, reason="flat")] * 2).mean_


def test_one_patient_only_is_a_clear_error(rng):
    with pytest.raises(ValueError, match="patient"):
        R = rng.normal(size=(4, 2, 100))
        _ = aggregator("lead", control="N").fit(R, ["N", "AF", "N", "AF"], groups=["one"] * 4).p_value_


# --- displays ---------------------------------------------------------------------------------------------------------


def test_displays_draw_what_the_aggregator_found(rng):
    R, y, given = cohort(rng)
    y = np.where(given["groups"] % 2, "AF", "N")
    leads = ["I", "II", "V1"]
    by_lead = aggregator("lead", control="N", lead_names=leads).fit(R, y, groups=given["groups"])
    adjusted = by_lead.p_adjusted_[by_lead.classes_.tolist().index("AF")]
    display = CohortDisplay.from_aggregator(by_lead)
    assert set(display.stars_) == {lead for lead, p in zip(leads, adjusted, strict=True) if p < 0.05}
    assert set(display.boxes_) == {"AF", "N"}
    median = display.boxes_["N"]["medians"][0].get_ydata()[0]
    assert np.isclose(median, np.median(R[:, 0].mean(-1).reshape(20, 2).mean(1)[::2]), atol=1e-6)
    waves = aggregator("wave", control="N", lead_names=leads).fit(R, y, groups=given["groups"], beats=given["beats"])
    display = WaveMapDisplay.from_aggregator(waves, label="AF")
    drawn = np.ma.filled(display.mesh_.get_array().astype(float), np.nan)
    assert drawn.shape[1] == 3 and set(drawn.ravel().round(9)) <= set(waves.mean_[0].round(9))
    lower, upper = display.mesh_.get_clim()
    assert lower == -upper
    beat = aggregator("beat", control="N", lead_names=leads).fit(R, y, **given)
    display = AverageBeatDisplay.from_aggregator(beat)
    assert display.axes_.shape == (3, 2) and set(display.lines_) == set(display.bands_) == {"AF", "N"}
    line = display.lines_["AF"][1].get_ydata()
    assert np.allclose(line, beat.mean_[0].reshape(3, -1)[1]) and set(display.ecg_lines_) == {"AF", "N"}


def test_relevance_against_probability_by_outcome():
    relevance, probability = [0.0, 0.1, 0.2, 0.3, np.nan], [0.1, 0.4, 0.5, 0.9, 0.3]
    display = ProbabilityDisplay.from_relevance(relevance, probability, [0, 1, 0, 1, 1], threshold=0.4, label="AF")
    assert display.outcome_.tolist() == ["TN", "FN", "FP", "TP", ""] and display.spearman_ == pytest.approx(1)
    assert display.threshold_line_.get_xdata()[0] == 0.4


def test_twelve_leads_on_paper():
    clf = around(LinearNet(np.ones((2, 12, 2500)), [0, 0]), 2500, n_leads=12, fs=FS)
    swapped, names = X[:, [1, 0, *range(2, 12)]], ["DII", "dI", *ECG.lead_names[2:]]
    display = TwelveLeadDisplay.from_explainer(InputXGradient(clf), swapped, sample=1, lead_names=names)
    want = ["I", "II", "III", "aVR", "aVL", "aVF", *(f"V{i}" for i in range(1, 7)), "II"]
    assert display.panels_ == want and len(display.axes_) == 13 and all(line is not None for line in display.lines_)
    time, drawn = np.concatenate(display.lines_[0].get_segments()).T  # of lead I, though it came second
    gap = [np.abs(np.interp(time, np.arange(2500) / FS, lead) - drawn).max() for lead in X[1]]
    assert gap[0] < 1e-5 and min(gap[1:]) > 0.1
