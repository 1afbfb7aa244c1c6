"""Beats of make_ecg: the rules by which classes are told, exact wave limits, leads that agree."""

import numpy as np
import pytest

from skecg.datasets import make_ecg
from tests.windows import CLASSES, PLACED, beats, bunch, clean, labelled, mask, rows


class TestClasses:
    """The rules by which cardiologists tell the classes, read off the wave tables."""

    @pytest.mark.parametrize(
        ("label", "low", "high"),
        [
            ("N", 0.07, 0.11),
            ("PAC", 0.07, 0.11),
            ("AFIB", 0.07, 0.11),
            ("SVTA", 0.07, 0.11),
            ("SBR", 0.07, 0.11),
            ("LBBB", 0.12, 0.165),
            ("RBBB", 0.12, 0.165),
        ],
    )
    @pytest.mark.parametrize("fs", [100.0, 360.0, 1000.0])
    def test_qrs_width_of_every_beat(self, label, low, high, fs):
        b = clean(classes=CLASSES, fs=fs)
        table = beats(b, label)
        seconds = (table["qrs_off"] - table["qrs_on"]) / fs
        assert (seconds >= low - 1 / fs).all() and (seconds <= high + 1 / fs).all()

    def test_pvc_is_wide_without_p_premature_and_compensated(self):
        b = clean(classes=CLASSES, window=6.0)
        for i in rows(b, "PVC"):
            k, w = labelled(b, i), b.waves[i]
            assert (w["label"] == "PVC").sum() == 1 and w["label"][k] == "PVC"
            assert (w["qrs_off"] - w["qrs_on"])[k] / b.fs > 0.12
            assert np.isnan(w["p_on"][k]) and np.isnan(w["p_off"][k])
        before, around = self.intervals(b, "PVC")
        assert (before < 0.85).all()
        assert np.median(around) == pytest.approx(2.0, abs=0.03)

    def test_pac_is_narrow_with_p_premature_and_not_compensated(self):
        b = clean(classes=CLASSES, window=6.0)
        for i in rows(b, "PAC"):
            k, w = labelled(b, i), b.waves[i]
            assert (w["label"] == "PAC").sum() == 1 and w["label"][k] == "PAC"
            assert w["p_off"][k] <= w["qrs_on"][k]
        before, around = self.intervals(b, "PAC")
        assert (before < 0.9).all()
        assert np.median(around) < 1.9

    @staticmethod
    def intervals(b, label):
        """RR before the labelled beat, and RR before plus after it, over the median of the other intervals."""
        before, around = [], []
        for i in rows(b, label):
            k, r = labelled(b, i), b.waves[i]["r"]
            if 0 < k < len(r) - 1:
                usual = np.median(np.delete(np.diff(r), [k - 1, k]))
                before.append((r[k] - r[k - 1]) / usual)
                around.append((r[k + 1] - r[k - 1]) / usual)
        assert len(before) > 30
        return np.array(before), np.array(around)

    def test_half_of_the_sinus_windows_are_as_premature_as_pac(self):
        b = clean(600, window=6.0)
        for label in ("N", "LBBB", "RBBB"):
            before, _ = self.intervals(b, label)
            assert 0.3 < (before < 0.85).mean() < 0.7

    def test_ectopic_p_is_inverted_in_ii_and_sinus_p_upright(self):
        # The largest deflection from the chord between the ends: where the P lies on a T, the T is mostly taken off.
        b = clean(600)
        signs = {"PAC": [], "N": []}
        for label, found in signs.items():
            for i in rows(b, label):
                w = b.waves[i][labelled(b, i)]
                if w["p_on"] >= 0:
                    p = b.data[i, 0, int(w["p_on"]) : int(w["p_off"])]
                    p = p - np.linspace(p[0], p[-1], len(p))
                    found.append(np.sign(p[np.abs(p).argmax()]))
        assert np.mean(signs["PAC"]) < -0.9
        assert np.mean(signs["N"]) > 0.9

    @pytest.mark.parametrize("label", ["PVC", "LBBB"])
    def test_t_is_discordant(self, label):
        b = clean(600)
        signs = []
        for i in rows(b, label):
            w = b.waves[i][labelled(b, i)]
            if w["t_off"] <= b.data.shape[2]:
                x = b.data[i, 0]
                qrs, t = (x[int(w[f"{k}_on"]) : int(w[f"{k}_off"])].mean() for k in ("qrs", "t"))
                signs.append(qrs * t < 0)
        assert np.mean(signs) > 0.95

    @pytest.mark.parametrize("label", ["LBBB", "RBBB"])
    def test_block_is_in_every_beat_and_patients_keep_their_p(self, label):
        table = beats(clean(classes=CLASSES), label)
        assert set(table["label"]) == {label}
        assert not np.isnan(table["p_on"]).any()
        assert (table["p_off"] < table["qrs_on"]).all()

    def test_blocks_in_twelve_leads(self):
        """RBBB ends upwards in V1 and downwards in I and V6; LBBB is upright in I and V6 and downwards in V1."""
        b = clean(n_leads=12)
        late = {}
        for label in ("LBBB", "RBBB"):
            parts = []
            for i in rows(b, label):
                w = b.waves[i][labelled(b, i)]
                middle = int(w["evidence_on"] + w["evidence_off"]) // 2
                parts.append(b.data[i, :, middle])
            late[label] = dict(zip(b.lead_names, np.mean(parts, axis=0), strict=True))
        assert late["RBBB"]["V1"] > 0.2 and late["RBBB"]["I"] < -0.1 and late["RBBB"]["V6"] < -0.1
        assert late["LBBB"]["V1"] < -0.3 and late["LBBB"]["I"] > 0.2 and late["LBBB"]["V6"] > 0.3

    def test_r_wave_grows_from_v1_to_v5_in_normal_beats(self):
        b = clean(n_leads=12)
        at_r = np.mean([b.data[i, :, b.sample[i]] for i in rows(b, "N")], axis=0)
        v = dict(zip(b.lead_names, at_r, strict=True))
        assert v["V1"] < -0.3 < v["V3"] < v["V4"] and v["V5"] > 0.5
        assert v["I"] > 0 > v["aVR"] and v["II"] > 0.5

    def test_rates_of_the_rhythms(self):
        b = clean(classes=CLASSES, window=6.0)
        rr = {c: [np.diff(b.waves[i]["r"]) / b.fs for i in rows(b, c)] for c in CLASSES}
        assert np.concatenate(rr["SBR"]).min() > 1.0
        assert 60 / 221 <= np.concatenate(rr["SVTA"]).min() and np.concatenate(rr["SVTA"]).max() <= 60 / 149
        assert np.median(np.concatenate(rr["N"])) < 1.0
        spread = {c: np.median([x.std() / x.mean() for x in rr[c]]) for c in ("AFIB", "SVTA", "SBR")}
        assert spread["AFIB"] > 0.12 > 5 * max(spread["SVTA"], spread["SBR"])

    def test_afib_has_waves_and_no_p(self):
        b = clean(classes=CLASSES)
        assert np.isnan(beats(b, "AFIB")["p_on"]).all()
        still, fibrillating = (
            np.mean([self.between_beats(b, i).std() for i in rows(b, c)]) for c in ("SBR", "AFIB")
        )
        assert still == 0
        assert fibrillating > 0.03

    @staticmethod
    def between_beats(b, i):
        """Return the samples of lead II on which no wave lies."""
        w = b.waves[i]
        spans = [(row[f"{k}_on"], row[f"{k}_off"]) for row in w for k in ("p", "qrs", "t")]
        return b.data[i, 0, ~mask(spans, b.data.shape[2])]

    def test_p_of_svta_is_hidden_in_the_qrs(self):
        table = beats(clean(classes=CLASSES), "SVTA")
        assert ((table["p_on"] > table["qrs_on"]) & (table["p_on"] < table["qrs_off"])).all()

    def test_amplitudes_in_mv(self):
        b = clean(600)
        for label in ("N", *PLACED):
            tallest = np.abs(b.data[rows(b, label), 0]).max(axis=1)
            assert 0.25 < tallest.min() and tallest.max() < 4.0
            assert 0.5 < np.median(tallest) < 2.0

    def test_heart_rate_is_obeyed(self):
        for rate in (62.0, 95.0):
            b = make_ecg(100, classes=("N", "PAC"), heart_rate=rate, window=8.0, random_state=0)
            rr = np.concatenate([np.diff(w["r"]) for w in b.waves]) / b.fs
            assert 60 / np.median(rr) == pytest.approx(rate, rel=0.03)


class TestWaveLimits:
    def test_nothing_lies_outside_the_limits(self):
        b = clean(classes=CLASSES, n_leads=3)
        for i in np.flatnonzero(b.target != "AFIB"):
            spans = [(row[f"{k}_on"], row[f"{k}_off"]) for row in b.waves[i] for k in ("p", "qrs", "t")]
            assert not b.data[i][:, ~mask(spans, b.data.shape[2])].any()

    def test_limits_have_no_margin(self):
        """At the first and the last sample of the P waves of N the wave is there, if only just."""
        b = clean(fs=1000.0, heart_rate=60.0)
        ends = []
        for i in rows(b, "N"):
            for w in b.waves[i]:
                if w["p_on"] >= 0 and w["p_off"] <= b.data.shape[2]:
                    p = b.data[i, 0, int(w["p_on"]) : int(w["p_off"])]
                    ends.append(np.flatnonzero(p)[[0, -1]] - (0, len(p) - 1))
        # A wave of 0.15 mV and 90 ms leaves the grid of 0.06 uV within 1.5 samples.
        assert np.abs(np.array(ends)).max() <= 3

    def test_order_of_the_limits(self):
        table = np.concatenate(clean(classes=CLASSES).waves)
        for k in ("p", "qrs", "t", "evidence"):
            there = ~np.isnan(table[f"{k}_on"])
            assert (there == ~np.isnan(table[f"{k}_off"])).all()
            assert (table[f"{k}_on"][there] < table[f"{k}_off"][there]).all()
        assert ((table["qrs_on"] <= table["r"]) & (table["r"] < table["qrs_off"])).all()
        assert (table["qrs_off"] <= table["t_on"]).all()

    def test_r_peaks_are_those_of_the_table(self):
        b = bunch()
        for r, w in zip(b.r_peaks, b.waves, strict=True):
            assert r.dtype == np.int64
            np.testing.assert_array_equal(r, [x for x in w["r"] if 0 <= x < 720])

    @pytest.mark.parametrize("label", ["N", "PVC", "RBBB"])
    def test_r_is_the_peak_of_lead_ii(self, label):
        b = clean(600)
        error = []
        for i in rows(b, label):
            w = b.waves[i][labelled(b, i)]
            on, off = int(w["qrs_on"]), int(w["qrs_off"])
            error.append(on + np.abs(b.data[i, 0, on:off]).argmax() - w["r"])
        assert np.abs(np.median(error)) <= 1
        assert np.mean(np.abs(error) <= 0.01 * b.fs) > 0.9


class TestLeads:
    @pytest.mark.parametrize("n_leads", [8, 12])
    def test_einthoven_and_goldberger_hold_exactly(self, n_leads):
        b = bunch(100, n_leads=n_leads, noise=0, classes=CLASSES)
        assert b.artefacts.shape[1] == 2  # they hold under the distractors too
        lead = dict(zip(b.lead_names, np.moveaxis(b.data, 1, 0), strict=True))
        np.testing.assert_array_equal(lead["III"], lead["II"] - lead["I"])
        np.testing.assert_array_equal(lead["aVR"] + lead["aVL"] + lead["aVF"], 0)
        np.testing.assert_array_equal(lead["aVF"] - lead["aVL"], 1.5 * lead["III"])

    def test_noise_breaks_them(self):
        b = bunch(20, n_leads=12)
        lead = dict(zip(b.lead_names, np.moveaxis(b.data, 1, 0), strict=True))
        assert np.abs(lead["III"] - lead["II"] + lead["I"]).mean() > 0.01

    def test_fewer_leads_are_leads_of_the_twelve(self):
        few, all_ = clean(50, n_leads=4), clean(50, n_leads=12)
        for i, name in enumerate(few.lead_names):
            np.testing.assert_array_equal(few.data[:, i], all_.data[:, all_.lead_names.index(name)])
