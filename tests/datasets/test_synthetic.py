"""make_ecg: shapes, randomness, truth, patients, errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skecg.datasets import make_ecg
from tests.windows import CLASSES, PLACED, beats, bunch, clean, labelled, mask, rows


class TestBunch:
    @pytest.mark.parametrize(
        ("n_leads", "names"),
        [
            (1, ["II"]),
            (2, ["II", "V1"]),
            (5, ["II", "V1", "V5", "I", "III"]),
            (12, ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]),
        ],
    )
    def test_shapes_and_types(self, n_leads, names):
        b = make_ecg(23, n_leads=n_leads, fs=250, window=1.5, n_patients=4, random_state=0)
        assert b.data.shape == b.truth.shape == (23, n_leads, 375)
        assert (b.data.dtype, b.truth.dtype, b.sample.dtype) == (np.float32, bool, np.int64)
        assert b.target.shape == b.groups.shape == b.record.shape == b.sample.shape == (23,)
        assert {b.target.dtype.kind, b.groups.dtype.kind, b.record.dtype.kind} == {"U"}
        assert len(b.r_peaks) == len(b.waves) == len(set(b.record)) == 23
        assert b.artefacts.shape == (23, 2, 2)
        assert b.lead_names == names
        assert b.fs == 250.0 and isinstance(b.fs, float)

    def test_description_tells_every_class(self):
        assert all(f"\n{label} " in bunch().DESCR for label in CLASSES)

    def test_classes_are_balanced(self):
        counts = dict(zip(*np.unique(make_ecg(23, random_state=0).target, return_counts=True), strict=True))
        assert counts == {"N": 5, "PVC": 5, "PAC": 5, "LBBB": 4, "RBBB": 4}

    def test_return_X_y(self):
        X, y = make_ecg(400, random_state=0, return_X_y=True)
        np.testing.assert_array_equal(X, bunch().data)
        np.testing.assert_array_equal(y, bunch().target)

    def test_windows_are_not_ordered_by_class(self):
        assert (bunch().target[:-1] == bunch().target[1:]).mean() < 0.4


class TestRandomness:
    def test_same_seed_same_bits(self):
        a, b = make_ecg(20, random_state=3), make_ecg(20, random_state=3)
        for name in ("data", "target", "groups", "sample", "truth", "artefacts"):
            np.testing.assert_array_equal(a[name], b[name])
        assert all(np.array_equal(x, y, equal_nan=False) for x, y in zip(a.r_peaks, b.r_peaks, strict=True))

    def test_other_seed_other_windows(self):
        assert not np.array_equal(make_ecg(20, random_state=3).data, make_ecg(20, random_state=4).data)

    def test_none_is_fresh_and_leaves_the_global_generator(self):
        before = np.random.get_state()  # noqa: NPY002 - the watched thing itself
        a, b = make_ecg(5), make_ecg(5)
        after = np.random.get_state()  # noqa: NPY002
        assert not np.array_equal(a.data, b.data)
        np.testing.assert_array_equal(before[1], after[1])
        assert before[2:] == after[2:]

    @pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
    def test_generators(self, make):
        g = make(5)
        a, b = make_ecg(10, random_state=g), make_ecg(10, random_state=g)
        np.testing.assert_array_equal(a.data, make_ecg(10, random_state=make(5)).data)
        assert not np.array_equal(a.data, b.data)

    def test_beats_do_not_depend_on_what_lies_over_them(self):
        a, b = bunch(), clean()
        np.testing.assert_array_equal(a.truth, b.truth)
        np.testing.assert_array_equal(a.sample, b.sample)
        np.testing.assert_array_equal(a.groups, b.groups)
        assert b.artefacts.shape == (400, 0, 2)


class TestTruth:
    def test_truth_is_the_evidence_of_the_tables(self):
        b = bunch(classes=CLASSES)
        for i, w in enumerate(b.waves):
            spans = list(zip(w["evidence_on"], w["evidence_off"], strict=True))
            np.testing.assert_array_equal(b.truth[i, 0], mask(spans, b.data.shape[2]))

    def test_evidence_is_the_wave_that_makes_the_class(self):
        b = bunch(classes=CLASSES)
        table = {c: beats(b, c) for c in CLASSES}
        for label, wave in (("PVC", "qrs"), ("PAC", "p")):
            own = table[label]["label"] == label
            for end in ("on", "off"):
                np.testing.assert_array_equal(table[label][f"evidence_{end}"][own], table[label][f"{wave}_{end}"][own])
                assert np.isnan(table[label][f"evidence_{end}"][~own]).all()
        for label in ("LBBB", "RBBB"):
            t = table[label]
            np.testing.assert_array_equal(t["evidence_off"], t["qrs_off"])
            part = (t["evidence_off"] - t["evidence_on"]) / (t["qrs_off"] - t["qrs_on"])
            assert (part > 0.4).all() and (part < 0.7).all()

    def test_only_classes_with_a_place_have_truth(self):
        b = bunch(classes=CLASSES)
        for label in CLASSES:
            assert (b.truth[rows(b, label)].any(axis=(1, 2)) == (label in PLACED)).all()

    @pytest.mark.parametrize("n_leads", [1, 12])
    @pytest.mark.parametrize("heart_rate", [(60.0, 100.0), 100.0])
    def test_chance_is_low(self, n_leads, heart_rate, seed):
        b = make_ecg(200, n_leads=n_leads, heart_rate=heart_rate, random_state=seed)
        for label in PLACED:
            assert 0.01 < b.truth[rows(b, label)].mean() < 0.15

    def test_labelled_evidence_is_whole(self):
        b = bunch()
        for label in PLACED:
            for i in rows(b, label):
                w = b.waves[i][labelled(b, i)]
                assert min(w["evidence_on"], w["qrs_on"]) >= 0
                assert max(w["evidence_off"], w["qrs_off"]) <= b.data.shape[2]

    def test_in_twelve_leads_truth_is_where_the_wave_is_seen(self):
        b = clean(n_leads=12)
        marked_leads = []
        for label in PLACED:
            for i in rows(b, label):
                w = b.waves[i][labelled(b, i)]
                on, off = int(w["evidence_on"]), int(w["evidence_off"])
                marked = b.truth[i, :, on:off]
                assert (marked.all(axis=1) | ~marked.any(axis=1)).all()
                marked_leads.append(marked[:, 0])
                if label == "PVC":  # nothing but the QRS lies there, give or take the end of a T wave
                    size = np.abs(b.data[i, :, on:off]).max(axis=1)
                    assert marked[size.argmax(), 0]
                    assert size[marked[:, 0]].min() > 0.05 * size.max()
        share = np.mean(marked_leads)
        assert 0.5 < share < 0.99

    def test_centre_prior_does_not_win(self):
        b = bunch(2000)
        for label in PLACED:
            own = b.truth[rows(b, label), 0]
            # 400 windows: four standard errors of a share of .1 are .06.
            assert own[:, 360].mean() < own.mean() + 0.06

    def test_size_does_not_win(self):
        b = bunch(2000)
        for label in PLACED:
            own = rows(b, label)
            hit = b.truth[own, 0, np.abs(b.data[own, 0]).argmax(axis=1)]
            assert hit.mean() < 0.55

    def test_centred(self):
        b = make_ecg(40, fs=333.0, centred=True, random_state=0)
        assert (b.sample == b.data.shape[2] // 2).all()

    def test_not_centred(self):
        place = bunch(2000).sample / 720
        # Of a uniform place on (0, 1): mean 1/2, standard deviation 1 / sqrt(12) = .29, here on a little less.
        assert place.mean() == pytest.approx(0.5, abs=0.05)
        assert 0.23 < place.std() < 0.29


class TestPatients:
    def test_patients_share_windows_and_classes(self):
        b = make_ecg(300, n_patients=12, random_state=1)
        patients, counts = np.unique(b.groups, return_counts=True)
        assert len(patients) == 12 and set(counts) == {25}
        for p in patients:
            assert set(b.target[b.groups == p]) == {"N", *PLACED}

    def test_few_windows_a_patient(self):
        b = make_ecg(60, n_patients=20, random_state=1)
        assert all(len(set(b.target[b.groups == p])) == 3 for p in np.unique(b.groups))
        assert all(len(set(b.groups[b.target == c])) == 12 for c in ("N", *PLACED))

    def test_default_number(self):
        assert len(set(make_ecg(500, random_state=0).groups)) == 40
        assert len(set(make_ecg(20, random_state=0).groups)) == 4

    def test_a_patient_keeps_the_qrs(self):
        b = clean(400, n_patients=4)
        own = [np.concatenate([w[w["label"] == "N"] for w in np.array(b.waves, dtype=object)[b.groups == p]])
               for p in np.unique(b.groups)]  # fmt: skip
        width = [(t["qrs_off"] - t["qrs_on"]) / b.fs for t in own]
        assert max(np.std(w) for w in width) < 0.004
        assert np.ptp([np.mean(w) for w in width]) > 0.002


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"classes": ("N", "VT")}, r"'AFIB', 'SVTA', 'SBR'; got 'VT'"),
            ({"classes": ("N", 3)}, r"each of classes must be one of 'N'.*got 3"),
            ({"classes": "PVC"}, r"sequence of labels.*got 'PVC'"),
            ({"classes": ()}, r"at least one class and none twice; got \(\)"),
            ({"classes": ("N", "N")}, r"none twice; got \('N', 'N'\)"),
            ({"classes": None}, r"sequence of labels.*got None"),
            ({"n_samples": 4}, r"n_samples must be an integer \(at least one window per class\) at least 5; got 4"),
            ({"n_samples": 10.0}, r"n_samples must be an integer.*got 10\.0"),
            ({"n_leads": 0}, r"n_leads must be an integer at least 1 and at most 12; got 0"),
            ({"n_leads": 13}, r"at most 12; got 13"),
            ({"fs": 50.0}, r"fs must be a finite number \(Hz\) at least 100; got 50\.0"),
            ({"fs": np.nan}, r"fs must be a finite number.*got nan"),
            ({"fs": None}, r"fs must be a finite number.*got None"),
            ({"fs": "360"}, r"fs must be a finite number.*got '360'"),
            ({"window": 0.5}, r"window must be a finite number \(s\) at least 1; got 0\.5"),
            ({"window": np.inf}, r"window must be a finite number.*got inf"),
            ({"noise": -0.1}, r"noise must be a finite number \(mV\) at least 0; got -0\.1"),
            ({"heart_rate": 50}, r"heart_rate must be .*\(beats/min\) at least 60 and at most 100; got 50"),
            ({"heart_rate": (60, 120)}, r"at most 100; got 120"),
            ({"heart_rate": (90, 70)}, r"the lowest first; got \(90, 70\)"),
            ({"heart_rate": (60, 70, 80)}, r"a pair.*got \(60, 70, 80\)"),
            ({"heart_rate": None}, r"a pair.*got None"),
            ({"n_patients": 0}, r"n_patients must be an integer at least 1 and at most 50; got 0"),
            ({"n_patients": 51}, r"at most 50; got 51"),
            ({"distractors": "no"}, r"distractors must be one of True, False; got 'no'"),
            ({"centred": 1}, r"centred must be one of True, False; got 1"),
            ({"random_state": -1}, r"random_state must be .*got -1"),
            ({"random_state": "0"}, r"random_state must be .*got '0'"),
        ],
    )
    def test_bad_parameters(self, options, message):
        with pytest.raises(ValueError, match=message):
            make_ecg(**{"n_samples": 50, **options})


@settings(max_examples=25, deadline=None)
@given(
    n_samples=st.integers(8, 24),
    classes=st.lists(st.sampled_from(CLASSES), min_size=1, max_size=8, unique=True),
    n_leads=st.integers(1, 12),
    fs=st.sampled_from([100, 128.0, 257.3, 360.0, 500]),
    window=st.floats(1.0, 6.0),
    rate=st.floats(60, 100),
    noise=st.sampled_from([0, 0.05, 1.0]),
    distractors=st.booleans(),
    centred=st.booleans(),
    random_state=st.integers(0, 2**32),
)
def test_any_parameters(n_samples, classes, n_leads, rate, **options):
    b = make_ecg(n_samples, classes=classes, n_leads=n_leads, heart_rate=(60, rate), **options)
    n_timesteps = round(options["window"] * options["fs"])
    assert b.data.shape == b.truth.shape == (n_samples, n_leads, n_timesteps)
    assert np.isfinite(b.data).all()
    assert set(b.target) == set(classes)
    assert ((b.artefacts >= 0) & (b.artefacts <= n_timesteps)).all()
    for i, w in enumerate(b.waves):
        assert b.sample[i] in b.r_peaks[i]
        assert (np.diff(w["r"]) > 0.25 * b.fs).all()
        assert w["label"][labelled(b, i)] == (b.target[i] if b.target[i] in PLACED else "N")
        assert b.truth[i].any() == (b.target[i] in PLACED)
        spans = list(zip(w["evidence_on"], w["evidence_off"], strict=True))
        np.testing.assert_array_equal(b.truth[i].any(axis=0), mask(spans, n_timesteps))
