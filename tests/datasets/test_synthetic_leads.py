"""Leads of make_ecg: identities of the limb leads, leads by name, twelve leads as cardiologists know them, axes."""

import numpy as np
import pytest

from skecg.datasets import make_ecg
from skecg.datasets._synthetic_leads import across, degrees_to_axis, frontal_axis, lead_matrix, turns, turns_about_ii
from tests.windows import bunch, clean, labelled, rows

TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
CLASSES = ("N", "LBBB", "RBBB", "1dAVb", "AF", "SB", "ST")
OPTIONS = {"classes": CLASSES, "n_leads": 12, "fs": 500.0, "window": 4.0, "heart_rate": 70.0}


def shaped(n_samples, **options):
    """Return windows of nothing but beats, with settings that ``clean`` cannot keep."""
    return make_ecg(n_samples, noise=0, distractors=False, random_state=0, **options)


def by_name(b):
    return dict(zip(b.lead_names, np.moveaxis(b.data, 1, 0), strict=True))


def whole(b, i, wave):
    """Return the leads (12, m) of a wave of the labelled beat, None where the window cuts it."""
    w = b.waves[i][labelled(b, i)]
    if np.isnan(w[f"{wave}_on"]) or w[f"{wave}_on"] < 0 or w[f"{wave}_off"] > b.data.shape[2]:
        return None
    return b.data[i, :, int(w[f"{wave}_on"]) : int(w[f"{wave}_off"])]


def mean_extremes(b, label, wave):
    """Return the mean largest and smallest value of a wave of the class by lead."""
    parts = [part for i in rows(b, label) if (part := whole(b, i, wave)) is not None]
    assert len(parts) > 20
    top, bottom = (np.mean([f(part, axis=1) for part in parts], axis=0) for f in (np.max, np.min))
    return dict(zip(b.lead_names, top, strict=True)), dict(zip(b.lead_names, bottom, strict=True))


def area_axis(b, i):
    """Return the frontal axis of the labelled QRS from its areas in I and aVF."""
    area = dict(zip(b.lead_names, whole(b, i, "qrs").sum(axis=1, dtype=np.float64), strict=True))
    return np.rad2deg(np.arctan2(2 / np.sqrt(3) * area["aVF"], area["I"]))


class TestIdentities:
    @pytest.mark.parametrize("morphology", [None, {"axis": (-60, 90), "rotation": (-25, 25), "f": 3.0}])
    def test_they_hold_before_noise_in_every_class(self, morphology):
        lead = by_name(make_ecg(70, noise=0, morphology=morphology, random_state=0, **OPTIONS))
        np.testing.assert_array_equal(lead["III"], lead["II"] - lead["I"])
        np.testing.assert_array_equal(lead["aVR"] + lead["aVL"] + lead["aVF"], 0)
        np.testing.assert_array_equal(lead["aVR"], -(lead["I"] + lead["II"]) / 2)
        np.testing.assert_array_equal(lead["aVL"], lead["I"] - lead["II"] / 2)
        np.testing.assert_array_equal(lead["aVF"], lead["II"] - lead["I"] / 2)

    def test_no_lead_is_flat_and_no_other_two_are_alike(self):
        lead = np.stack(list(by_name(clean(70, **OPTIONS)).values())).reshape(12, -1)
        assert (lead.std(axis=1) > 0.05).all()
        assert np.abs(np.corrcoef(lead)[np.triu_indices(12, 1)]).max() < 0.995


class TestNames:
    def test_any_leads_in_any_order(self):
        all_ = clean(40, n_leads=12)
        some = clean(40, leads=("V6", "aVF", "II", "I"))
        assert some.lead_names == ["V6", "aVF", "II", "I"]
        for i, name in enumerate(some.lead_names):
            np.testing.assert_array_equal(some.data[:, i], all_.data[:, all_.lead_names.index(name)])

    def test_lead_ii_is_the_same_among_any_leads(self):
        one, all_ = bunch(40, noise=0, distractors=False), clean(40, n_leads=12)
        np.testing.assert_array_equal(one.data[:, 0], all_.data[:, 1])

    def test_spelling(self):
        assert make_ecg(5, leads=["AVR", "v1", "ii"], random_state=0).lead_names == ["aVR", "V1", "II"]

    def test_n_leads_that_agrees(self):
        assert make_ecg(5, n_leads=2, leads=("V1", "V2"), random_state=0).data.shape[1] == 2

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"leads": "II"}, r"leads must be a sequence of names.*got 'II'"),
            ({"leads": 12}, r"leads must be a sequence of names.*got 12"),
            ({"leads": ()}, r"at least one lead and none twice; got \(\)"),
            ({"leads": ("II", "ii")}, r"none twice; got \('II', 'ii'\)"),
            ({"leads": ("II", "V7")}, r"each of leads must be one of 'I', .*'V6'; got 'V7'"),
            ({"leads": ("II", 3)}, r"each of leads must be one of.*got 3"),
            ({"leads": ("II", "V1"), "n_leads": 3}, r"n_leads=3 does not fit the 2 leads.*leave n_leads out"),
        ],
    )
    def test_bad_leads(self, options, message):
        with pytest.raises(ValueError, match=message):
            make_ecg(5, **options)


class TestTwelveLeads:
    """Signs by which a page of twelve leads is read."""

    def test_normal_qrs(self):
        top, bottom = mean_extremes(clean(420, **OPTIONS), "N", "qrs")
        r = [top[f"V{k}"] for k in range(1, 6)]
        assert r == sorted(r)  # R grows from V1 to V5
        assert -bottom["V1"] > 3 * top["V1"] and -bottom["V2"] > 2 * top["V2"]  # rS
        assert top["V5"] > 3 * -bottom["V5"] and top["V6"] > 3 * -bottom["V6"]
        assert -bottom["aVR"] > 3 * top["aVR"]
        assert all(bottom[k] < -0.03 for k in ("I", "V5", "V6"))  # septal q
        assert max(max(top.values()), -min(bottom.values())) < 2.5

    def test_p_and_t(self):
        b = clean(420, **OPTIONS)
        top, bottom = mean_extremes(b, "N", "p")
        assert all(top[k] > 0.03 and top[k] > 5 * -bottom[k] for k in ("I", "II"))
        assert bottom["aVR"] < -0.05
        assert top["V1"] > 0.01 and bottom["V1"] < -0.02  # biphasic
        upright = {k: [] for k in ("I", "II", "V2", "V3", "V4", "V5", "V6", "aVR")}
        for i in rows(b, "N"):
            t = whole(b, i, "t")
            if t is not None:
                for k, signs in upright.items():
                    signs.append(t[TWELVE.index(k)].mean() > 0)
        # A quarter of the patients have inverted T waves.
        share = {k: np.mean(signs) for k, signs in upright.items()}
        assert share.pop("aVR") < 0.45
        assert min(share.values()) > 0.55

    def test_lbbb(self):
        b = clean(420, **OPTIONS)
        top, bottom = mean_extremes(b, "LBBB", "qrs")
        assert all(top[k] < 0.05 and bottom[k] < -0.8 for k in ("V1", "V2"))  # QS
        assert all(top[k] > 0.3 and bottom[k] > -0.05 for k in ("I", "aVL", "V5", "V6"))  # R without q or S
        notched, opposed = [], []
        for i in rows(b, "LBBB"):
            q, t = whole(b, i, "qrs"), whole(b, i, "t")
            if q is None or t is None:
                continue
            v6 = q[TWELVE.index("V6")]
            peaks = np.flatnonzero((v6[1:-1] > v6[:-2]) & (v6[1:-1] >= v6[2:]))
            notched.append(len(peaks) == 2)
            opposed.append([q[TWELVE.index(k)].mean() * t[TWELVE.index(k)].mean() < 0 for k in ("I", "V1", "V6")])
        assert np.mean(notched) > 0.8
        assert (np.mean(opposed, axis=0) > 0.9).all()

    def test_rbbb(self):
        b = clean(420, **OPTIONS)
        shapes = []
        for i in rows(b, "RBBB"):
            q = whole(b, i, "qrs")
            if q is None:
                continue
            early, late = q[:, : int(0.45 * q.shape[1])], q[:, int(0.45 * q.shape[1]) :]
            v1, wide = TWELVE.index("V1"), [TWELVE.index(k) for k in ("I", "V6")]
            # r, then S, then a taller R' in V1; a terminal S of 40 ms or more in I and V6.
            r, s = early[v1].argmax(), early[v1].argmin()
            first = 0 < r < s and early[v1, r] > 0.05 and early[v1, s] < -0.2 and late[v1].max() > early[v1].max()
            shapes.append([first, *((q[k] < -0.02).sum() / b.fs >= 0.04 for k in wide)])
        assert len(shapes) > 20 and (np.mean(shapes, axis=0) > 0.85).all()

    def test_axes_of_normal_qrs(self):
        b = clean(420, **{**OPTIONS, "n_patients": 60})
        axis = np.array([area_axis(b, i) for i in rows(b, "N")])
        assert (axis > 0).all() and (axis < 90).all()
        assert 30 < np.median(axis) < 55 and axis.std() > 8


class TestMorphology:
    @pytest.mark.parametrize("axis", [-60, -30, 0, 45, 90])
    def test_axis_is_obeyed(self, axis):
        b = shaped(70, morphology={"axis": axis}, **OPTIONS)
        # Beats change each wave's size by 4 % (1 sd), which turns the area a little.
        found = np.array([area_axis(b, i) for i in rows(b, "N")])
        np.testing.assert_allclose(found, axis, atol=6)
        np.testing.assert_allclose(found.mean(), axis, atol=2)

    def test_range_of_axes_by_patient(self):
        b = shaped(300, morphology={"axis": (-30, 90)}, **{**OPTIONS, "classes": ("N",)})
        axis = {p: [area_axis(b, i) for i in np.flatnonzero(b.groups == p)] for p in set(b.groups)}
        means = np.array([np.mean(x) for x in axis.values()])
        assert max(np.std(x) for x in axis.values()) < 4
        assert means.min() < -10 and means.max() > 70
        assert (means > -33).all() and (means < 93).all()

    def test_rotation_moves_the_transition(self):
        options = {**OPTIONS, "classes": ("N",)}
        ratio = []
        for degrees in (-25, 0, 25):
            top, bottom = mean_extremes(shaped(60, morphology={"rotation": degrees}, **options), "N", "qrs")
            ratio.append([top[k] / -bottom[k] for k in ("V3", "V4")])
        assert (np.diff(ratio, axis=0) < 0).all()  # later R with a larger angle

    @pytest.mark.parametrize(("wave", "other"), [("p", "t"), ("qrs", "p"), ("t", "qrs")])
    def test_factors(self, wave, other):
        options = {**OPTIONS, "classes": ("SB",)}  # slow enough that no P lies on a T
        plain, doubled = clean(40, **options), shaped(40, morphology={wave: 2.0}, **options)
        for i in range(40):
            for k, factor in ((wave, 2), (other, 1)):
                if (a := whole(plain, i, k)) is not None:
                    # Both lie on a grid of 0.06 uV, by rounding that sums of leads make three times as large.
                    np.testing.assert_allclose(whole(doubled, i, k), factor * a, atol=2e-4)

    def test_factor_of_fibrillation(self):
        options = {**OPTIONS, "classes": ("AF",)}
        once, half = clean(20, **options), shaped(20, morphology={"f": 0.5}, **options)
        three = shaped(20, morphology={"f": 3.0}, **options)
        np.testing.assert_allclose(three.data - once.data, 4 * (once.data - half.data), atol=1e-3)
        assert (three.data - once.data).std() > 0.05

    def test_qt(self):
        options = {**OPTIONS, "classes": ("N",)}
        plain, long = (np.concatenate(shaped(40, morphology={"qt": f}, **options).waves) for f in (1.0, 1.15))
        # QRS of 76 to 100 ms: QT is 1.15 times as long but for the 6 ms that a QRS above 90 ms adds.
        ratio = (long["t_off"] - long["qrs_on"]) / (plain["t_off"] - plain["qrs_on"])
        np.testing.assert_allclose(ratio, 1.15, atol=0.012)

    def test_a_setting_changes_nothing_else(self):
        options = {**OPTIONS, "classes": ("N", "PVC", "AF")}
        a, b = clean(30, **options), shaped(30, morphology={"t": (0.5, 1.5), "p": 2.0}, **options)
        np.testing.assert_array_equal(a.sample, b.sample)
        np.testing.assert_array_equal(a.groups, b.groups)
        assert all(np.array_equal(x["r"], y["r"]) for x, y in zip(a.waves, b.waves, strict=True))

    @pytest.mark.parametrize(
        ("morphology", "message"),
        [
            (1.0, r"morphology must be a dict of settings.*got 1\.0"),
            ({"u": 1.0}, r"each setting of morphology must be one of 'axis', 'rotation', .*got 'u'"),
            ({"axis": 120}, r"morphology\['axis'\] must be .*\(degrees\) at least -60 and at most 90; got 120"),
            ({"p": 0}, r"morphology\['p'\] must be a finite number at least 0\.2 and at most 3; got 0"),
            ({"qt": (1.1, 0.9)}, r"morphology\['qt'\] must be \(lowest, highest\).*got \(1\.1, 0\.9\)"),
            ({"t": None}, r"morphology\['t'\] must be a number or a pair.*got None"),
            ({"t": {"a": 1, "b": 2}}, r"morphology\['t'\] must be a number or a pair.*got \{"),
        ],
    )
    def test_bad_morphology(self, morphology, message):
        with pytest.raises(ValueError, match=message):
            make_ecg(5, morphology=morphology)


class TestGeometry:
    def test_lead_ii_sees_nothing_across_it(self):
        v = np.random.default_rng(0).normal(size=(50, 2))
        np.testing.assert_allclose(across(v) @ lead_matrix(("II",)).T, 0, atol=1e-15)
        np.testing.assert_array_equal(across(v)[:, [0, 2]], v)

    def test_turns_keep_lengths_and_lead_ii(self):
        rng = np.random.default_rng(0)
        v, degrees = rng.normal(size=(50, 3)), rng.uniform(-180, 180, 50)
        turned = np.einsum("pij,pj->pi", turns_about_ii(degrees), v)
        np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(v, axis=1))
        np.testing.assert_allclose(turned @ lead_matrix(("II",)).T, v @ lead_matrix(("II",)).T, atol=1e-14)
        there, back = turns_about_ii(np.array([90.0, -90.0]))
        np.testing.assert_allclose(there @ back, np.eye(3), atol=1e-15)

    def test_axis_of_known_vectors(self):
        # What I and aVF show of these is (1, 0), (0, 1) and (1, sqrt(3) / 2): 0, 90 and 45 degrees.
        matrix = lead_matrix(("I", "aVF"))
        wanted = np.array([(1, 0), (0, 1), (1, np.sqrt(3) / 2), (-1, 0)])
        v = wanted @ np.linalg.pinv(matrix).T
        np.testing.assert_allclose(frontal_axis(v), [0, 90, 45, 180], atol=1e-9)

    def test_degrees_to_axis_arrive(self):
        rng = np.random.default_rng(0)
        v = np.array([1.0, 0.8, 0.5]) + rng.normal(0, 0.1, (200, 3))
        axis = rng.uniform(-60, 90, 200)
        degrees = degrees_to_axis(v, axis)
        turn = turns(np.stack([degrees, np.zeros(200)], axis=1))
        np.testing.assert_allclose(frontal_axis(np.einsum("pij,pj->pi", turn, v)), axis, atol=1e-9)
