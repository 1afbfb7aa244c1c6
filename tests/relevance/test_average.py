"""Relevance by beat: average beats, the defects that they are prone to, merges, routing and many columns."""

from __future__ import annotations

import pickle
import time
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skecg.datasets import make_ecg
from skecg.relevance import RelevanceAggregator
from tests.relevance.made import bits, make_beaten, make_beats

FS = 100.0
WINDOW = (-0.2, 0.3)  # 51 samples


def by_beat(**params):
    return RelevanceAggregator(**{"by": "beat", "fs": FS, "beat_window": WINDOW, "random_state": 0, **params})


def peaks(n, n_leads=1, fs=FS, **kinds):
    return make_beats(n, n_leads, fs, **kinds)


# what is averaged


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("leads", ["each", "together"])
@pytest.mark.parametrize(("statistic", "part"), [("mean", lambda r: r), ("abs_mean", np.abs)])
def test_average_beats_are_those_of_a_loop(statistic, part, leads, share, rng):
    R, _, given = make_beaten(rng)
    beats = [replace(b, typical=b.typical | (np.arange(4) == 1)) for b in given["beats"]]
    aggregator = by_beat(statistic=statistic, leads=leads, share=share)
    table = aggregator.fit_transform(R, ecg=given["ecg"], beats=beats)
    edges = 0
    for row, window, found, ecg in zip(table, R, beats, given["ecg"], strict=True):
        pieces = []
        for r in found.r_peaks[found.typical].tolist():
            if r - 20 >= 0 and ecg[:, r + 30].any():
                pieces.append(part(window[:, r - 20 : r + 31].astype(float)))
            else:
                edges += 1
        mean, total = np.mean(pieces, axis=0), np.abs(pieces).sum()
        wanted = mean * len(pieces) / total if share else mean
        if leads == "together":
            wanted = wanted.sum(axis=0) if share else wanted.mean(axis=0)
        np.testing.assert_allclose(row, wanted.ravel(), rtol=1e-5, atol=1e-7)
    assert aggregator.exclusions_["edge_beats"].tolist() == [edges]
    assert aggregator.exclusions_["atypical"].tolist() == [sum((~b.typical).sum() for b in beats)]
    assert edges > 0


def test_columns_by_beat(rng):
    R = rng.normal(size=(2, 2, 300)).astype(np.float32)
    beats = [peaks([100, 200], 2, 360.0)] * 2
    aggregator = RelevanceAggregator("beat", fs=360.0, beat_window=(-0.01, 0.01), lead_names=["II", "V1"])
    aggregator.fit(R, beats=beats)
    names = "-11.111 -8.333 -5.556 -2.778 0 2.778 5.556 8.333 11.111".split()
    assert aggregator.columns_.tolist() == [f"{lead} {name}" for lead in ("II", "V1") for name in names]
    assert aggregator.columns_[4] == "II 0"
    np.testing.assert_allclose(aggregator.offsets_, np.arange(-4, 5) / 360)
    at_peak = aggregator.mean_.reshape(2, 9)[:, 4]
    np.testing.assert_allclose(at_peak, R[..., [100, 200]].mean(axis=(0, 2), dtype=float), rtol=1e-9)
    default = RelevanceAggregator("beat", fs=400.0)
    assert len(default.fit(np.ones((1, 500), np.float32), beats=[peaks([200], 1, 400.0)]).columns_) == 321
    assert not hasattr(RelevanceAggregator().fit(R), "offsets_")


def test_the_average_beat_of_the_ecg_stands_beside(rng):
    R, y, given = make_beaten(rng)
    ecg = given["ecg"]
    ecg[:, :, 350:] = 0
    aggregator = by_beat(control="N").fit(R, y, ecg=ecg, beats=given["beats"])
    of_ecg = by_beat().fit(ecg, y, ecg=ecg, beats=given["beats"])
    np.testing.assert_array_equal(aggregator.mean_ecg_, of_ecg.mean_)
    np.testing.assert_array_equal(aggregator.interval_ecg_, of_ecg.interval_)
    assert aggregator.mean_ecg_.shape == (2, 102)
    np.testing.assert_array_equal(aggregator.set_params(share=True).mean_ecg_, of_ecg.mean_)
    without = by_beat().fit(R, y, beats=given["beats"])
    for name in ("mean_ecg_", "interval_ecg_"):
        assert not hasattr(without, name)
    with pytest.raises(ValueError, match="must have its 2 leads; got 1"):
        by_beat().fit(R, ecg=ecg[:, 0], beats=given["beats"])
    with pytest.raises(ValueError, match="ecg was 'not given' in one and 'given' in another"):
        without.partial_fit(R, y, ecg=ecg, beats=given["beats"])


def test_beats_of_unknown_kind_are_all_averaged(rng):
    """R peaks that nobody delineated: no typical, no limits."""
    R = rng.normal(size=(1, 400)).astype(np.float32)
    table = by_beat().fit_transform(R, beats=[peaks([50, 150])])
    np.testing.assert_allclose(table[0], (R[0, 30:81] + R[0, 130:181]) / 2, rtol=1e-5, atol=1e-7)


# defects not to copy (Bender et al.'s chain, and studies like it)


def test_a_zero_tail_does_not_dilute():
    """The second beat lies partly in the padding, where relevance is exactly zero."""
    R, ecg = np.zeros((1, 400), np.float32), np.zeros((1, 400), np.float32)
    R[:, :170], ecg[:, :170] = 1, 1
    aggregator = by_beat()
    assert (aggregator.fit_transform(R, ecg=ecg, beats=[peaks([60, 150])]) == 1).all()
    assert aggregator.exclusions_["edge_beats"].tolist() == [1]
    assert aggregator.exclusions_["padded"].tolist() == [230]
    assert by_beat().fit_transform(R, beats=[peaks([60, 150])]).min() == 0.5  # what it would have been


@pytest.mark.parametrize("by", ["record", "lead", "wave", "beat"])
def test_zeros_before_the_ecg_are_padding_too(by, rng):
    R, _, given = make_beaten(rng, n=6)
    ecg = np.ones_like(R)
    pad = [(0, 0), (0, 0), (30, 20)]
    aggregator = RelevanceAggregator(by, fs=FS, beat_window=WINDOW, random_state=0)
    plain = aggregator.fit_transform(R, ecg=ecg, beats=given["beats"])
    shifted = [
        replace(b, r_peaks=b.r_peaks + 30, limits=b.limits + 30, p_region=b.p_region + 30) for b in given["beats"]
    ]
    padded = np.pad(R, pad, constant_values=1e6)
    table = clone(aggregator).fit_transform(padded, ecg=np.pad(ecg, pad), beats=shifted)
    np.testing.assert_allclose(table, plain, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("by", ["wave", "beat"])
def test_r_peaks_of_500_hz_are_noticed(by, rng):
    R = rng.normal(size=(1, 4096)).astype(np.float32)
    found = make_beats([500, 1000], 1, 500.0)
    with pytest.raises(ValueError, match="is of 500 Hz, the relevance of 400 Hz"):
        RelevanceAggregator(by, fs=400.0).fit(R, beats=[found])
    with pytest.raises(ValueError, match=r"within 0 and 4095.*got 500 to 4500"):
        RelevanceAggregator(by, fs=400.0).fit(R, beats=[make_beats([500, 4500], 1, 400.0)])
    with pytest.raises(ValueError, match="needs the sampling rate"):
        RelevanceAggregator(by).fit(R, beats=[found])


def test_beats_at_the_ends_are_left_out_and_never_wrapped():
    R = np.zeros((1, 400), np.float32)
    R[0, 200] = 1
    R[0, [0, 399]] = 1e6  # what a negative index or a cut beat would bring in
    aggregator = by_beat()
    table = aggregator.fit_transform(R, beats=[peaks([5, 19, 200, 370, 395])])
    assert table[0].tolist() == [0.0] * 20 + [1.0] + [0.0] * 30
    assert aggregator.exclusions_["edge_beats"].tolist() == [4]
    assert aggregator.n_beats_.tolist() == [1]
    assert (by_beat().fit_transform(np.ones((1, 51), np.float32), beats=[peaks([20])]) == 1).all()  # just fits


def test_fast_hearts_do_not_weigh_more():
    R = np.array([1, 5], np.float32)[:, None] * np.ones((1, 400), np.float32)
    beats = [peaks(np.arange(30, 360, 40)), peaks([100, 300])]
    aggregator = by_beat().fit(R, beats=beats)
    assert (aggregator.mean_ == 3).all()
    assert aggregator.n_beats_.tolist() == [11]


def test_several_records_of_a_patient_are_one():
    R = np.array([1, 3, 8], np.float32)[:, None] * np.ones((1, 400), np.float32)
    aggregator = by_beat().fit(R, beats=[peaks([100])] * 3, groups=["a", "a", "b"])
    assert (aggregator.mean_ == ((1 + 3) / 2 + 8) / 2).all()
    assert (aggregator.n_patients_ == 2).all()
    assert (aggregator.n_records_ == 3).all()


def test_signs_and_sizes_of_records_are_kept():
    """Nothing is made absolute or scaled before it is averaged."""
    R = np.array([1, -1, 6], np.float32)[:, None] * np.ones((1, 400), np.float32)
    for by in ("wave", "beat"):
        found = make_beats([100], 1, FS, limits=np.array([[[80, 85, 90, 95, 105, 116, 122, 130]]]), typical=[True])
        aggregator = RelevanceAggregator(by, fs=FS, beat_window=WINDOW).fit(R, beats=[found] * 3)
        np.testing.assert_array_equal(aggregator.mean_, 2)


def test_absent_beats_are_no_zeros(rng):
    R, y, given = make_beaten(rng)
    beats = [make_beats([], 2, FS, reason="none") if i % 4 == 0 else b for i, b in enumerate(given["beats"])]
    R[:] = np.array([1, 3], np.float32)[:, None]
    aggregator = by_beat().fit(R, y, beats=beats)
    assert (aggregator.mean_.reshape(2, 2, 51) == [[1], [3]]).all()
    assert aggregator.exclusions_["failed"].sum() == 10


def test_one_patient_alone_has_values_and_no_interval(rng):
    R, y, given = make_beaten(rng)
    for by in ("wave", "beat"):
        aggregator = RelevanceAggregator(by, fs=FS, control="N", beat_window=WINDOW)
        aggregator.fit(R, y, beats=given["beats"], groups=np.zeros(40, int))
        assert np.isfinite(aggregator.mean_[0]).all()
        assert np.isnan(aggregator.interval_).all()
        with pytest.raises(ValueError, match="one patient alone"):
            _ = aggregator.p_value_
        assert aggregator.exclusions_["shared_patients"].tolist() == [1, 0]


# what is refused


def test_windows_shorter_than_a_beat(rng):
    with pytest.raises(ValueError, match=r"is 51 samples at 100 Hz, the relevance has 50 timesteps: no beat fits"):
        by_beat().fit(rng.normal(size=(1, 50)), beats=[peaks([20])])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"beat_window": (0.3, -0.2)}, "must begin before it ends"),
        ({"beat_window": 0.5}, "must be two times"),
        ({"beat_window": (-0.2, 0.3, 1)}, "must be two times"),
        ({"beat_window": (-0.2, np.inf)}, "an end of beat_window must be a finite number"),
        ({"beat_window": ("a", 1)}, "an end of beat_window must be a finite number"),
        ({"beat_window": (-300, 500)}, r"at least -10 and at most 10; got -300"),
        ({"leads": "all"}, "leads must be one of 'each', 'together'"),
        ({"by": "lead", "leads": "together"}, "by='lead' has a column for each lead"),
        ({"lead_names": ["I", "II"]}, "lead_names must be 1 different strings"),
        ({"fs": -1.0}, "fs must be"),
    ],
)
def test_parameters_out_of_range(params, message, rng):
    with pytest.raises(ValueError, match=message):
        by_beat(**params).fit(rng.normal(size=(1, 400)), beats=[peaks([100])])


def test_eleven_leads_against_twelve_names(rng):
    names = "I II III aVR aVL aVF V1 V2 V3 V4 V5 V6".split()
    R = rng.normal(size=(2, 11, 400)).astype(np.float32)
    for by in ("lead", "wave", "beat"):
        with pytest.raises(ValueError, match="lead_names must be 11 different strings"):
            RelevanceAggregator(by, fs=FS, lead_names=names).fit(R, beats=[peaks([100], 11)] * 2)


# parts


@pytest.mark.parametrize("n_parts", [1, 2, 4, 7])
@pytest.mark.parametrize("by", ["record", "lead", "wave", "beat"])
def test_parts_in_any_order_give_the_same_bits(by, n_parts, rng):
    R, y, given = make_beaten(rng, n=42)
    R *= (10.0 ** rng.integers(-9, 9, (42, 1, 1))).astype(np.float32)
    given["record"] = np.arange(42) // 2  # two windows, of two classes, a record
    params = {"control": "N", "n_bootstrap": 50, "random_state": 3, "fs": FS, "beat_window": WINDOW}

    def told(aggregator):
        found = bits(aggregator)
        if by == "beat":
            found |= {"ecg": aggregator.mean_ecg_.tobytes(), "of ecg": aggregator.interval_ecg_.tobytes()}
        return found

    whole = told(RelevanceAggregator(by, **params).fit(R, y, **given))
    part_of = rng.integers(0, n_parts, 21)[given["record"]]
    orders = list(permutations(range(n_parts)))
    for order in (orders[0], orders[-1], orders[len(orders) // 3]):
        merged, in_steps = RelevanceAggregator(by, **params), RelevanceAggregator(by, **params)
        for number in order:
            i = rng.permutation(np.flatnonzero(part_of == number))
            if len(i):
                some = {name: [value[k] for k in i] if name == "beats" else value[i] for name, value in given.items()}
                merged.merge(RelevanceAggregator(by, **params).fit(R[i], y[i], **some) if _both(y[i]) else None)
                in_steps.partial_fit(R[i], y[i], **some)
        assert told(merged) == told(in_steps) == whole


def _both(y):
    return set(y) == {"N", "AF"}  # each record has both classes, so each part has the control


def test_parts_of_different_beats_do_not_fit_together(rng):
    R, y, given = make_beaten(rng)
    aggregator = by_beat().fit(R, y, **given)
    new = {**given, "record": np.arange(100, 140)}
    for change, message in (({"beat_window": (-0.1, 0.1)}, "beat_window was"), ({"leads": "together"}, "leads was")):
        with pytest.raises(ValueError, match=message):
            aggregator.merge(by_beat(**change).fit(R, y, **new))
        with pytest.raises(ValueError, match="was changed after fit"):
            clone(aggregator).fit(R, y, **given).set_params(**change).mean_  # noqa: B018 - looked at for its error


@pytest.mark.parametrize("by", ["wave", "beat"])
def test_memory_grows_with_records_times_columns(by, rng):
    """What is kept of a record are its sums, whatever the length of its windows and however many beats they have."""
    sizes = {}
    for n, n_timesteps in ((10, 400), (10, 4000), (40, 400)):
        R = rng.normal(size=(n, 2, n_timesteps)).astype(np.float32)
        r_peaks = np.arange(50, n_timesteps - 50, 60)
        limits = np.repeat(r_peaks[:, None, None] + [-20, -15, -10, -5, 5, 16, 22, 30], 2, axis=1)
        found = make_beats(r_peaks, 2, FS, limits=limits, typical=np.ones(len(r_peaks), bool))
        aggregator = RelevanceAggregator(by, fs=FS, beat_window=WINDOW).fit(R, beats=[found] * n)
        aggregator.mean_  # noqa: B018 - what is formed is not kept with the rows
        sizes[n, n_timesteps] = len(pickle.dumps(aggregator))
    assert sizes[10, 4000] <= sizes[10, 400] + 300
    n_columns = len(aggregator.columns_)
    a_record = (sizes[40, 400] - sizes[10, 400]) / 30
    # sums in float64, counts of samples by wave alone, a dozen tallies and what pickle adds to two arrays
    assert a_record < 8 * n_columns * (2 if by == "wave" else 1) + 600


def test_twelve_leads_of_average_beats_take_seconds(rng):
    """3,852 columns, with intervals of many and few patients, and exact and approximate tests."""
    n = 130
    R = rng.normal(size=(n, 12, 400)).astype(np.float32)
    y = np.array(["N", "AF", "LBBB"])[np.minimum(np.arange(n) // 60, 2)]
    R[60:120, 1, 150:160] += 3
    aggregator = RelevanceAggregator("beat", fs=400.0, control="N", random_state=0)
    beats = [make_beats([150], 12, 400.0)] * n
    start = time.process_time()
    aggregator.fit(R, y, beats=beats)
    low, p = aggregator.interval_[..., 0], aggregator.p_adjusted_
    taken = time.process_time() - start
    assert low.shape == (3, 3852)
    assert aggregator.interval_method_[:, 0].tolist() == ["bca", "studentized", "bca"]
    found = np.flatnonzero(p[0] < 0.05)
    assert set(found) == set(321 + 120 + np.arange(0, 10))
    family = aggregator.p_value_[[0, 1]]
    np.testing.assert_allclose(np.nanmin(p), min(1, np.nanmin(family) * family.size), rtol=1e-9)
    assert taken < 40


# beats found in the ECG, and routing


def test_beats_are_found_in_the_ecg():
    made = make_ecg(12, classes=["N"], n_leads=2, fs=250.0, window=5.0, random_state=0)
    R = np.abs(made.data)  # relevance where the ECG is
    ecg = made.data
    from skecg.beats import delineate, find_beats

    found = delineate(ecg, find_beats(ecg, 250.0), 250.0)
    for by in ("wave", "beat"):
        aggregator = RelevanceAggregator(by, fs=250.0, random_state=0)
        itself = aggregator.fit(R, ecg=ecg).transform(R, ecg=ecg)
        np.testing.assert_array_equal(itself, clone(aggregator).fit_transform(R, ecg=ecg, beats=found))
        assert aggregator.n_beats_[0] >= 12
    waves = RelevanceAggregator("wave", fs=250.0, leads="together").fit(R, ecg=ecg)
    p, qrs, t, rest, _ = waves.mean_[0]
    assert qrs > max(p, t) > rest


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def _requesting(by):
    names = {"ecg": True, "beats": True}
    aggregator = RelevanceAggregator(by, fs=FS, beat_window=WINDOW, random_state=0)
    return aggregator.set_fit_request(groups=True, record=True, **names).set_transform_request(**names)


def _explain(X):
    return X


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("by", ["wave", "beat"])
def test_routed_fit_and_transform(by, rng):
    R, y, given = make_beaten(rng)
    direct = clone(_requesting(by)).fit(R, y, **given)
    some = {name: given[name] for name in ("ecg", "beats")}
    expected = direct.transform(R, **some)
    pipeline = make_pipeline(FunctionTransformer(_explain), _requesting(by))
    np.testing.assert_array_equal(pipeline.fit(R, y, **given).transform(R, **some), expected)
    assert bits(pipeline[-1]) == bits(direct)
    np.testing.assert_array_equal(clone(pipeline).fit_transform(R, y, **given), expected)


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("by", ["wave", "beat"])
def test_routed_cross_validation_slices_the_beats(by, rng):
    """The class is the sign of the relevance at R peaks, which are elsewhere in each window."""
    R, y, given = make_beaten(rng)
    beats = []
    for i, label in enumerate(y):
        r = int(rng.integers(60, 300))
        R[i, :, r - 3 : r + 4] += 20 if label == "AF" else -20
        limits = np.repeat(r + np.array([[[-20, -15, -10, -5, 5, 16, 22, 30]]]), 2, axis=1)
        beats.append(make_beats([r], 2, FS, limits=limits, typical=[True]))
    given |= {"beats": beats, "ecg": np.ones_like(R)}
    steps = [("explain", FunctionTransformer(_explain)), ("table", _requesting(by)), ("clf", LogisticRegression())]
    how = {"cv": GroupKFold(4), "scoring": _no_score, "error_score": "raise", "return_indices": True}
    scores = cross_validate(Pipeline(steps), R, y, params=given, return_estimator=True, **how)
    for fold, test in zip(scores["estimator"], scores["indices"]["test"], strict=True):
        some = {"ecg": given["ecg"][test], "beats": [beats[i] for i in test]}
        assert fold.score(R[test], y[test], **some) == 1
        assert fold["table"].n_beats_.sum() == 30


def _no_score(estimator, X, y):
    return 0.0
