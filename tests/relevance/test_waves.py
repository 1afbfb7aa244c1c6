"""Relevance by wave: which samples are of which part, worked out sample by sample."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from skecg.relevance import RelevanceAggregator
from skecg.relevance._waves import PARTS_OF_BEATS
from tests.relevance.made import make_beaten, make_beats, usual_limits

FS = 100.0
STATISTICS = {
    "mean": lambda r: r,
    "abs_mean": np.abs,
    "positive_mean": lambda r: np.maximum(r, 0),
    "negative_mean": lambda r: np.minimum(r, 0),
}


def by_wave(**params):
    return RelevanceAggregator("wave", fs=FS, random_state=0, **params)


def parts_of(beats, lead, first, last, n_timesteps):
    """Name the part of each sample of a lead, "" for none, and its samples of the P region, one by one."""
    part, region = [""] * n_timesteps, [False] * n_timesteps
    rr = np.diff(beats.r_peaks).tolist()
    limits = beats.limits[:, lead]
    used = [bool(like) and bool(np.isfinite(limits[b, 3:5]).all()) for b, like in enumerate(beats.typical)]

    def span(b, on, off):
        return range(int(limits[b, on]), int(limits[b, off]) + 1)

    def fits(samples):
        return samples[0] >= first and samples[-1] < last

    for b, r in enumerate(beats.r_peaks.tolist()):
        before = rr[b - 1] if b else rr[0]
        after = rr[b] if b < len(rr) else rr[-1]
        if used[b]:
            for t in range(int(np.ceil(r - 0.35 * before)), int(np.ceil(r + 0.65 * after))):
                if first <= t < last:
                    part[t] = "rest"
    for b in np.flatnonzero(used):
        low, high = (int(end) for end in beats.p_region[b])
        if fits(range(low, high + 1)):
            for t in range(low, high + 1):
                region[t] = True
        maybe = []
        if beats.p_present is None:
            maybe = span(b, 0, 2) if np.isfinite(limits[b, 0]) else range(low, high + 1)
        for wave, on, off in (("T", 5, 7), ("P", 0, 2), ("QRS", 3, 4)):
            if np.isfinite(limits[b, on]) and (wave != "P" or beats.p_present) and not fits(span(b, on, off)):
                maybe = [*maybe, *span(b, on, off)]
        for t in maybe:
            if 0 <= t < n_timesteps:
                part[t] = ""
    for wave, on, off in (("T", 5, 7), ("P", 0, 2), ("QRS", 3, 4)):  # the last one holds
        for b in np.flatnonzero(used):
            if np.isfinite(limits[b, on]) and (wave != "P" or beats.p_present) and fits(span(b, on, off)):
                for t in span(b, on, off):
                    part[t] = wave
    return np.array(part), np.array(region)


def expected_sums(R, ecg, beats, statistic):
    """Return sums and samples (n_leads, 5), and the total, of one window."""
    alive = np.flatnonzero(ecg.any(axis=0))
    values = STATISTICS[statistic](R.astype(np.float64))
    sums, samples, total = np.zeros((len(R), 5)), np.zeros((len(R), 5), dtype=int), 0.0
    for lead, r in enumerate(values):
        part, region = parts_of(beats, lead, alive[0], alive[-1] + 1, len(r))
        masks = [part == name for name in PARTS_OF_BEATS[:4]] + [region]
        sums[lead], samples[lead] = [r[mask].sum() for mask in masks], [mask.sum() for mask in masks]
        total += np.abs(r[part != ""]).sum()
    return sums, samples, total


@pytest.mark.parametrize("leads", ["each", "together"])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_parts_are_those_found_sample_by_sample(statistic, share, leads, rng):
    R, _, given = make_beaten(rng)
    aggregator = by_wave(statistic=statistic, share=share, leads=leads)
    table = aggregator.fit_transform(R, ecg=given["ecg"], beats=given["beats"])
    for row, *window in zip(table, R, given["ecg"], given["beats"], strict=True):
        sums, samples, total = expected_sums(*window, statistic)
        if leads == "together":
            sums, samples = sums.sum(axis=0), samples.sum(axis=0)
        with np.errstate(invalid="ignore"):
            wanted = np.where(samples > 0, sums / (total if share else samples), np.nan)
        np.testing.assert_allclose(row, wanted.ravel(), rtol=1e-5, atol=1e-7)
    assert np.isfinite(table).mean() > 0.7
    assert np.isnan(table).any()


def test_shares_of_the_parts_sum_to_one_and_the_p_region_stands_beside(rng):
    R, _, given = make_beaten(rng)
    table = by_wave(share=True, statistic="abs_mean").fit_transform(R, ecg=given["ecg"], beats=given["beats"])
    parts = table.reshape(len(R), 2, 5)
    np.testing.assert_allclose(np.nansum(parts[..., :4], axis=(1, 2)), 1, rtol=1e-6)
    assert (np.nansum(parts[..., 4], axis=1) > 0.05).all()


def test_a_record_is_the_mean_over_the_samples_of_its_waves():
    """Two windows of one record; the longer QRS weighs more."""
    limits = [usual_limits([200], 1, FS) for _ in range(2)]
    limits[1][..., 4] += 10  # 21 samples in place of 11
    beats = [make_beats([200], 1, FS, limits=these, typical=[True]) for these in limits]
    R = np.array([1, 4], np.float32)[:, None] * np.ones((1, 400), np.float32)
    aggregator = by_wave().fit(R, beats=beats, record=["a", "a"])
    qrs = aggregator.columns_.tolist().index("lead0 QRS")
    assert aggregator.mean_[0, qrs] == (11 * 1 + 21 * 4) / 32
    assert aggregator.n_beats_.tolist() == [2]


def test_columns_by_wave(rng):
    R, _, given = make_beaten(rng)
    named = by_wave(lead_names=["II", "V1"]).fit(R, beats=given["beats"])
    first = [f"II {part}" for part in ("P", "QRS", "T", "rest", "P region")]
    assert named.get_feature_names_out()[:5].tolist() == first
    assert named.columns_.tolist() == named.get_feature_names_out().tolist()
    assert named.mean_.shape == (1, 10)
    together = by_wave(leads="together").fit(R, beats=given["beats"])
    assert together.columns_.tolist() == ["P", "QRS", "T", "rest", "P region"]
    assert together.summary()["column"].tolist() == together.columns_.tolist()


# what is left out


def one(limits=None, **kinds):
    """One window of 4 s with three beats, and its relevance: 1 in P, 2 in QRS, 4 in T, 8 elsewhere."""
    r_peaks = [100, 200, 300]
    usual = usual_limits(r_peaks, 1, FS)
    R = np.full((1, 1, 400), 8, np.float32)
    for beat in usual[:, 0].astype(int):
        for value, on, off in ((1, 0, 2), (2, 3, 4), (4, 5, 7)):
            R[..., beat[on] : beat[off] + 1] = value
    limits = usual if limits is None else limits(usual)
    return R, [make_beats(r_peaks, 1, FS, limits=limits, **{"typical": [True] * 3, **kinds})]


def test_parts_are_apart_to_the_sample():
    R, beats = one()
    assert by_wave().fit_transform(R, beats=beats)[0, :4].tolist() == [1, 2, 4, 8]


def test_absent_p_waves_are_no_zeros():
    R, beats = one(p_present=False)
    aggregator = by_wave()
    table = aggregator.fit_transform(R, beats=beats)
    assert np.isnan(table[0, 0])
    assert table[0, 1] == 2
    assert 1 < table[0, 3] < 8  # what looked like P waves is of the rest
    assert np.isfinite(table[0, 4])  # the P region is there without a P wave
    assert aggregator.n_records_.tolist() == [[0, 1, 1, 1, 1]]
    assert aggregator.exclusions_["absent_P"].tolist() == [3]
    assert aggregator.exclusions_["undecided_P"].tolist() == [0]


def test_undecided_p_waves_are_neither_present_nor_absent():
    R, beats = one(p_present=None)
    aggregator = by_wave()
    table = aggregator.fit_transform(R, beats=beats)
    assert np.isnan(table[0, 0])
    assert table[0, 3] == 8  # nor of the rest
    assert np.isfinite(table[0, 4])
    assert aggregator.exclusions_["undecided_P"].tolist() == [3]
    assert aggregator.exclusions_["absent_P"].tolist() == [0]


def test_a_wave_without_limits_is_absent_in_its_beat_alone():
    def without(limits):
        limits[1, :, 5:] = np.nan
        return limits

    R, beats = one(without)
    aggregator = by_wave()
    assert aggregator.fit_transform(R, beats=beats)[0, 2] == 4
    assert aggregator.exclusions_["absent_T"].tolist() == [1]
    assert aggregator.n_beats_.tolist() == [3]


@pytest.mark.parametrize("how", ["typical", "limits"])
def test_a_beat_that_is_left_out_is_of_no_part(how):
    """An ectopic beat (or one without a QRS) with enormous relevance: not in QRS, and not in the rest."""

    def without(limits):
        if how == "limits":
            limits[1, :, 3:5] = np.nan
        return limits

    R, beats = one(without, typical=[True, how == "limits", True])
    R[..., 190:220] = 1e6
    aggregator = by_wave()
    table = aggregator.fit_transform(R, beats=beats)
    assert table[0, :4].tolist() == [1, 2, 4, 8]
    assert aggregator.n_beats_.tolist() == [2]
    assert aggregator.exclusions_["atypical"].tolist() == [how == "typical"]
    assert aggregator.exclusions_["absent_QRS"].tolist() == [how == "limits"]
    assert aggregator.exclusions_["outside"][0] >= 100


def test_waves_at_the_ends_are_left_out_and_nothing_wraps():
    """Limits before the first sample and behind the last one: no negative index, no short wave."""
    beats = [make_beats([15, 380], 1, FS, limits=usual_limits([15, 380], 1, FS), typical=[True, True])]
    R = np.full((1, 1, 400), 8, np.float32)
    R[..., 0:6], R[..., 10:21], R[..., 375:386], R[..., 31:46], R[..., 360:371] = 1000, 2, 2, 4, 1
    R[..., 396:] = 1000
    aggregator = by_wave()
    table = aggregator.fit_transform(R, beats=beats)
    assert table[0, :4].tolist() == [1, 2, 4, 8]
    # the P wave (-5 to 5) and the P region (-10 to 7) of the first beat, the T wave (396 to 410) of the last
    assert aggregator.exclusions_["cut_waves"].tolist() == [3]


def test_waves_in_the_padding_are_left_out():
    R, beats = one()
    ecg = np.ones((1, 400))
    ecg[:, 320:] = 0  # within the T wave of the last beat, 316 to 330
    R[..., 320:] = 1e6
    aggregator = by_wave()
    assert aggregator.fit_transform(R, ecg=ecg, beats=beats)[0, :4].tolist() == [1, 2, 4, 8]
    assert aggregator.exclusions_["cut_waves"].tolist() == [1]
    assert aggregator.exclusions_["padded"].tolist() == [80]


def test_stretches_without_beats_are_of_no_part():
    R, beats = one()
    R[..., 236:266] = 1e6
    beats = [replace(beats[0], left_out=((236, 266, "noise"),))]
    assert by_wave().fit_transform(R, beats=beats)[0, :4].tolist() == [1, 2, 4, 8]


def test_failed_detections_are_left_out_and_counted(rng):
    R, y, given = make_beaten(rng)
    failed = make_beats([], 2, FS, reason="contrast too low")
    beats = [failed if i in (0, 5) else b for i, b in enumerate(given["beats"])]
    for by in ("wave", "beat"):
        params = {"fs": FS, "random_state": 0, "beat_window": (-0.2, 0.2)}
        aggregator = RelevanceAggregator(by, **params)
        table = aggregator.fit_transform(R, y, beats=beats)
        assert np.isnan(table[[0, 5]]).all()
        assert aggregator.exclusions_["failed"].tolist() == [1, 1]  # one of each class
        kept = np.delete(np.arange(len(R)), [0, 5])
        without = RelevanceAggregator(by, **params).fit(R[kept], y[kept], beats=[beats[i] for i in kept])
        np.testing.assert_array_equal(aggregator.mean_, without.mean_)


def test_where_nothing_can_be_used_fit_raises_and_a_part_is_nan_with_a_warning(rng):
    R = rng.normal(size=(12, 2, 400)).astype(np.float32)
    failed = [make_beats([], 2, FS, reason="no R peak")] * 12
    for by in ("wave", "beat"):
        aggregator = RelevanceAggregator(by, fs=FS, control="N", random_state=0)
        with pytest.raises(ValueError, match=r"none of the 12 windows can be used \(left out: .*failed 12"):
            aggregator.fit(R, ["N", "AF"] * 6, beats=failed)
        with pytest.warns(UserWarning, match=r"none of the 12 windows has a beat to use \(failed 12, no_beat 0"):
            table = aggregator.partial_fit(R, ["N", "AF"] * 6, beats=failed).transform(R, beats=failed)
        assert np.isnan(table).all()
        assert np.isnan(aggregator.mean_).all()
        assert np.isnan(aggregator.p_adjusted_).all()
        assert aggregator.n_patients_.sum() == aggregator.n_windows_.sum() == 0
        assert aggregator.exclusions_["failed"].tolist() == [6, 6]


def test_more_than_half_left_out_is_warned_about_with_the_reasons(rng):
    R, _, given = make_beaten(rng)
    failed = make_beats([], 2, FS, reason="no R peak")
    beats = [failed if i < 21 else b for i, b in enumerate(given["beats"])]
    for by in ("wave", "beat"):
        params = {"fs": FS, "random_state": 0, "beat_window": (-0.2, 0.2)}
        said = r"21 of 40 windows are left out \(failed 21\), more than half.* other 19; Beats\.reason says why"
        with pytest.warns(UserWarning, match=said):
            RelevanceAggregator(by, **params).fit(R, beats=beats)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            RelevanceAggregator(by, **params).fit(R[1:], beats=[*beats[2:], beats[-1]])  # 19 of 39


def test_broken_windows_leave_the_others_alone(rng):
    R, _, given = make_beaten(rng)
    whole = by_wave().fit(R, beats=given["beats"]).transform(R, beats=given["beats"])
    broken = R.copy()
    broken[3, 1, 7], broken[4, 0, 399] = np.nan, -np.inf
    ecg = np.ones_like(R)
    ecg[8] = 0
    for statistic in STATISTICS:
        aggregator = by_wave(statistic=statistic)
        with pytest.warns(UserWarning, match="2 of 40 windows has NaN"), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            table = aggregator.fit_transform(broken, ecg=ecg, beats=given["beats"])
        assert np.isnan(table[[3, 4, 8]]).all()
        assert aggregator.exclusions_["non_finite"].tolist() == [2]
        assert aggregator.exclusions_["no_signal"].tolist() == [1]
        assert aggregator.n_windows_.tolist() == [37]
        if statistic == "mean":
            kept = np.delete(np.arange(40), [3, 4, 8])
            np.testing.assert_array_equal(table[kept], whole[kept])


def test_a_window_does_not_depend_on_its_companions(rng):
    R, _, given = make_beaten(rng)
    R *= (10.0 ** rng.integers(-9, 9, (40, 1, 1))).astype(np.float32)
    aggregator = by_wave().fit(R, beats=given["beats"])
    together = aggregator.transform(R, beats=given["beats"])
    for i in (0, 17, 39):
        np.testing.assert_array_equal(aggregator.transform(R[i : i + 1], beats=[given["beats"][i]])[0], together[i])


def test_blocks(rng):
    """More windows than are cut together: the same as window by window."""
    R = rng.normal(size=(60, 12, 4096)).astype(np.float32)
    r_peaks = np.arange(300, 3900, 350)
    limits = usual_limits(r_peaks, 12, 400.0)
    beats = [make_beats(r_peaks, 12, 400.0, limits=limits, typical=np.ones(len(r_peaks), bool))] * 60
    table = RelevanceAggregator("wave", fs=400.0).fit_transform(R, beats=beats).reshape(60, 12, 5)
    qrs = np.concatenate([np.arange(r - 20, r + 21) for r in r_peaks])
    np.testing.assert_allclose(table[..., 1], R[..., qrs].mean(axis=2, dtype=np.float64), rtol=1e-5, atol=1e-7)


def test_overlapping_waves_are_counted_once():
    """A T wave that runs into the next P wave and QRS."""

    def long(limits):
        limits[0, :, 7] = 197
        return limits

    R, beats = one(long)
    aggregator = by_wave(share=True, statistic="abs_mean")
    table = aggregator.fit_transform(R, beats=beats)
    np.testing.assert_allclose(table[0, :4].sum(), 1, rtol=1e-6)
    assert by_wave().fit_transform(R, beats=beats)[0, :2].tolist() == [1, 2]


# beats that are refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fs": 500.0}, r"beats\[1\] is of 500 Hz, the relevance of 100 Hz"),
        ({"r_peaks": np.array([100, 200, 400])}, r"must lie within 0 and 399.*got 100 to 400.*another grid"),
        ({"limits": None}, "no limits of waves: pass it through skecg.beats.delineate"),
        ({"limits": np.zeros((3, 2, 8))}, "has limits of 2 leads, the relevance has 1"),
    ],
)
def test_beats_that_do_not_fit(change, message):
    R, beats = one()
    wrong = [beats[0], replace(beats[0], **change)]
    with pytest.raises(ValueError, match=message):
        by_wave().fit(np.repeat(R, 2, axis=0), beats=wrong)


def test_beats_of_the_wrong_kind(rng):
    R, beats = one()
    with pytest.raises(ValueError, match="one entry a window, 1; got 2"):
        by_wave().fit(R, beats=beats * 2)
    with pytest.raises(TypeError, match="beats must be a list of Beats"):
        by_wave().fit(R, beats=beats[0])
    with pytest.raises(TypeError, match=r"beats\[0\] must be a Beats.*got int"):
        by_wave().fit(R, beats=[3])
    with pytest.raises(ValueError, match=r"needs the beats of the ECG: pass ecg.* or beats"):
        by_wave().fit(R)
    with pytest.raises(ValueError, match="by='wave' needs the sampling rate: pass fs"):
        RelevanceAggregator("wave").fit(R, beats=beats)


def test_onsets_behind_offsets():
    def turned(limits):
        return limits[..., ::-1]

    R, beats = one()
    with pytest.raises(ValueError, match="onsets behind offsets"):
        by_wave().fit(R, beats=[replace(beats[0], limits=turned(beats[0].limits))])


@pytest.mark.parametrize("value", [np.inf, 1e30])
def test_limits_that_are_no_positions(value):
    R, beats = one()
    limits = beats[0].limits.copy()
    limits[1, 0, 7] = value
    with pytest.raises(ValueError, match="must be samples, or NaN where a wave is absent"):
        by_wave().fit(R, beats=[replace(beats[0], limits=limits)])


def test_a_map_without_leads_is_warned_about(rng):
    R, _, given = make_beaten(rng)
    R[:, 1] = R[:, 0]
    with pytest.warns(UserWarning, match="leads='together'"):
        by_wave().fit(R, beats=given["beats"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_wave(leads="together").fit(R, beats=given["beats"])


def test_windows_of_two_seconds_have_waves_too():
    from skecg.datasets import make_ecg

    ecg = make_ecg(20, classes=("N",), noise=0.02, random_state=0)
    fitted = RelevanceAggregator(by="wave", fs=ecg.fs, random_state=0).fit(np.abs(ecg.data), ecg=ecg.data)
    names = list(fitted.get_feature_names_out())
    means = dict(zip(names, fitted.mean_[0], strict=True))
    assert fitted.n_beats_[0] >= 20 and means["lead0 QRS"] > 2 * means["lead0 rest"] > 0
