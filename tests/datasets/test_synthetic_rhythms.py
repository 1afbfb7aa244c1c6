"""Rhythms of make_ecg: rates within the bounds asked for, AV block, fibrillation, long windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skecg.datasets import make_ecg
from tests.windows import CLASSES as OLD
from tests.windows import beats, clean, labelled, rows

ALL = ("N", "PVC", "PAC", "LBBB", "RBBB", "1dAVb", "SB", "ST", "AF", "SVTA")


def intervals(b, label):
    """Return the RR intervals in s of each window of a class."""
    return [np.diff(b.waves[i]["r"]) / b.fs for i in rows(b, label)]


class TestNames:
    @pytest.mark.parametrize(("one", "other"), [("AF", "AFIB"), ("SB", "SBR")])
    def test_two_names_of_one_rhythm(self, one, other):
        a, b = (make_ecg(20, classes=("N", name), random_state=0) for name in (one, other))
        np.testing.assert_array_equal(a.data, b.data)
        np.testing.assert_array_equal(a.target == one, b.target == other)
        assert set(a.target) == {"N", one}
        with pytest.raises(ValueError, match=f"must not name one rhythm twice, '{one}' and '{other}'"):
            make_ecg(20, classes=(one, other))

    def test_every_class_is_described(self):
        text = make_ecg(12, classes=ALL, random_state=0).DESCR
        assert all(f"\n{label} " in text for label in (*ALL, *OLD))

    def test_labels_of_both_papers(self):
        for classes in (OLD, ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")):
            b = make_ecg(16, classes=classes, n_leads=12, fs=400.0, window=10.24, random_state=0)
            assert set(b.target) == set(classes)
            assert b.data.shape == (16, 12, 4096)


class TestRates:
    @pytest.fixture(scope="class")
    @staticmethod
    def b():
        return clean(400, classes=ALL, window=10.0)

    def test_bradycardia_and_tachycardia(self, b):
        assert np.concatenate(intervals(b, "SB")).min() > 1.0
        assert np.concatenate(intervals(b, "ST")).max() < 0.6
        for label, low, high in (("SB", 38, 55), ("ST", 105, 140), ("SVTA", 150, 220)):
            rate = np.array([60 / np.mean(rr) for rr in intervals(b, label)])
            assert (rate > 0.98 * low).all() and (rate < 1.02 * high).all()
            assert np.ptp(rate) > 0.6 * (high - low)

    def test_sinus_tachycardia_has_its_p_before_each_qrs(self, b):
        table = beats(b, "ST")
        assert (table["p_off"] < table["qrs_on"]).all()
        pr = (table["qrs_on"] - table["p_on"]) / b.fs
        assert pr.min() > 0.12 and pr.max() < 0.2

    def test_fibrillation_is_irregular_and_nothing_else_is(self, b):
        spread = {c: np.array([rr.std() / rr.mean() for rr in intervals(b, c)]) for c in ("AF", "SB", "ST", "SVTA")}
        assert spread.pop("AF").min() > 0.1
        assert all(s.max() < 0.06 for s in spread.values())

    def test_fibrillation_has_no_p(self, b):
        assert np.isnan(beats(b, "AF")["p_on"]).all()

    def test_beats_cover_the_whole_window(self, b):
        for i, w in enumerate(b.waves):
            longest = {"SB": 1.65, "PVC": 1.5}.get(b.target[i], 1.6)
            r = np.concatenate([[0], b.r_peaks[i], [b.data.shape[2]]]) / b.fs
            assert np.diff(r).max() < longest
            assert (np.diff(w["r"]) > 0).all()

    def test_minutes(self):
        b = make_ecg(6, classes=("N", "AF", "1dAVb"), n_leads=3, fs=200.0, window=120.0, random_state=0)
        assert b.data.shape == (6, 3, 24000)
        for i in range(6):
            assert 100 < len(b.r_peaks[i]) < 270
            tail = b.data[i, 0, -600:]
            assert np.ptp(tail) > 0.3  # beats to the end

    def test_rates_of_one_class(self):
        rates = {"AF": (140, 160), "ST": 150.0, "N": (90, 95), "SB": (30, 32), "SVTA": (120, 125)}
        b = make_ecg(200, classes=(*rates, "RBBB"), window=20.0, heart_rate=rates, random_state=0)
        limits = {**rates, "ST": (150, 150), "RBBB": (60, 100)}
        for label, (low, high) in limits.items():
            # Sinus rates differ by 2 % from window to window; 20 s of AF hold about 50 intervals of 22 %.
            rate = [60 / np.mean(rr) for rr in intervals(b, label)]
            loose = 0.12 if label == "AF" else 0.06
            assert min(rate) > (1 - loose) * low and max(rate) < (1 + loose) * high
        assert min(np.std(rr) / np.mean(rr) for rr in intervals(b, "AF")) > 0.1

    @pytest.mark.parametrize(
        ("rates", "message"),
        [
            ({"SB": 60}, r"heart_rate\['SB'\] must be .*\(beats/min\) at least 30 and at most 59; got 60"),
            ({"ST": (90, 120)}, r"heart_rate\['ST'\] must be .*at least 101 and at most 160; got 90"),
            ({"N": 50}, r"heart_rate\['N'\] must be .*at least 60 and at most 100; got 50"),
            ({"AF": (90, 60)}, r"heart_rate\['AF'\] must be \(lowest, highest\).*got \(90, 60\)"),
            ({"PVC": 70}, r"each class in heart_rate must be one of 'N', 'SB', 'ST', 'AF'; got 'PVC'"),
            ({"AF": None}, r"heart_rate\['AF'\] must be a number or a pair.*got None"),
        ],
    )
    def test_bad_rates(self, rates, message):
        with pytest.raises(ValueError, match=message):
            make_ecg(8, classes=("N", "SB", "ST", "AF"), heart_rate=rates)


class TestBlock:
    @pytest.mark.parametrize("fs", [100.0, 500.0])
    def test_pr_of_every_beat(self, fs):
        b = clean(300, classes=("1dAVb", "N"), fs=fs, window=5.0)
        table = beats(b, "1dAVb")
        pr = (table["qrs_on"] - table["p_on"]) / fs
        assert pr.min() > 0.2 and pr.max() < 0.33
        assert (table["label"] == "N").all()
        width = (table["qrs_off"] - table["qrs_on"]) / fs
        assert width.max() <= 0.105 + 1 / fs
        normal = beats(b, "N")
        assert ((normal["qrs_on"] - normal["p_on"]) / fs).max() < 0.2

    def test_pr_is_the_patients(self):
        b = clean(200, classes=("1dAVb",), n_patients=5, heart_rate=60.0, window=5.0)
        pr = {p: [] for p in set(b.groups)}
        for w, p in zip(b.waves, b.groups, strict=True):
            pr[p].extend((w["qrs_on"] - w["p_on"])[w["r"] > 0] / b.fs)
        assert max(np.std(x) for x in pr.values()) < 0.02 < np.ptp([np.mean(x) for x in pr.values()])

    def test_rate_is_that_of_sinus_rhythm(self):
        b = clean(100, classes=("N", "1dAVb"), heart_rate=(62, 64), window=8.0)
        medians = [np.median(np.concatenate(intervals(b, c))) for c in ("N", "1dAVb")]
        np.testing.assert_allclose(medians, 60 / 63, rtol=0.03)

    @pytest.mark.parametrize(("label", "least"), [("LBBB", 0.12), ("RBBB", 0.12)])
    def test_wide_qrs(self, label, least):
        b = clean(200, classes=("LBBB", "RBBB"), fs=1000.0, window=5.0)
        table = beats(b, label)
        assert ((table["qrs_off"] - table["qrs_on"]) / b.fs).min() > least

    def test_labelled_beat_has_its_p_in_the_window(self):
        b = clean(300, classes=("1dAVb",), window=1.0, heart_rate=100.0)
        assert all(b.waves[i]["p_on"][labelled(b, i)] >= 0 for i in range(300))


class TestSharing:
    def test_groups_and_classes(self):
        b = make_ecg(200, classes=ALL, n_leads=12, n_patients=10, random_state=0)
        patients, counts = np.unique(b.groups, return_counts=True)
        assert len(patients) == 10 and set(counts) == {20}
        assert all(len(set(b.target[b.groups == p])) > 5 for p in patients)

    def test_same_seed_same_bits(self):
        options = {"classes": ALL, "n_leads": 12, "morphology": {"axis": (-30, 90)}, "rhythm_truth": True}
        a, b = (make_ecg(30, random_state=7, **options) for _ in range(2))
        for name in ("data", "target", "groups", "sample", "truth", "artefacts"):
            np.testing.assert_array_equal(a[name], b[name])

    def test_place_tells_no_class(self):
        b = make_ecg(2000, classes=ALL, random_state=0)
        for label in ALL:
            # 200 windows of a standard deviation below .29: four standard errors are .08.
            assert b.sample[b.target == label].mean() / 720 == pytest.approx(0.5, abs=0.11)


@settings(max_examples=25, deadline=None)
@given(
    n_samples=st.integers(10, 20),
    classes=st.lists(st.sampled_from(ALL), min_size=1, max_size=10, unique=True),
    leads=st.lists(st.sampled_from(("I", "II", "III", "aVR", "V1", "V3", "V6")), min_size=1, max_size=7, unique=True),
    fs=st.sampled_from([100, 257.3, 400.0]),
    window=st.floats(1.0, 12.0),
    axis=st.floats(-60, 90),
    rotation=st.floats(-25, 25),
    qt=st.floats(0.85, 1.15),
    rhythm_truth=st.booleans(),
    random_state=st.integers(0, 2**32),
)
def test_any_parameters(n_samples, classes, leads, axis, rotation, qt, rhythm_truth, random_state, **options):
    morphology = {"axis": axis, "rotation": rotation, "qt": qt}
    options = {**options, "leads": leads, "morphology": morphology, "rhythm_truth": rhythm_truth}
    b = make_ecg(n_samples, classes=classes, random_state=random_state, **options)
    n_timesteps = round(options["window"] * options["fs"])
    assert b.data.shape == b.truth.shape == (n_samples, len(leads), n_timesteps)
    assert b.lead_names == leads
    assert np.isfinite(b.data).all() and np.abs(b.data).max() < 12
    for i, w in enumerate(b.waves):
        assert b.sample[i] in b.r_peaks[i]
        assert (np.diff(w["r"]) > 0.25 * b.fs).all()
        k = labelled(b, i)
        assert w["qrs_on"][k] >= 0 and w["qrs_off"][k] <= n_timesteps
        placed = b.target[i] in ("PVC", "PAC", "LBBB", "RBBB", "1dAVb")
        assert b.truth[i].any() == placed or (rhythm_truth and not placed and b.target[i] != "N")
        assert b.lead_waves[i].shape == (len(w), len(leads))
        if b.target[i] == "1dAVb":
            assert ((w["qrs_on"] - w["p_on"]) / b.fs > 0.2).all()
