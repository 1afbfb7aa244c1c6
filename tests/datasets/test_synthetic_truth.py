"""What make_ecg says of its windows: evidence by class and lead, gaps of the rhythms, wave limits by lead."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from skecg.datasets import make_ecg
from skecg.utils._leads import STANDARD_LEADS
from tests.windows import clean, labelled, mask, rows

ALL = ("N", "PVC", "PAC", "LBBB", "RBBB", "1dAVb", "SB", "ST", "AF", "SVTA")
PLACED = ("PVC", "PAC", "LBBB", "RBBB", "1dAVb")
RHYTHMS = ("SB", "ST", "AF", "SVTA")


@pytest.fixture(scope="module")
def twelve():
    return clean(400, classes=ALL, n_leads=12, fs=500.0, window=4.0)


@pytest.fixture(scope="module")
def marked():
    return clean(400, classes=ALL, n_leads=12, fs=500.0, window=4.0, rhythm_truth=True)


class TestPlace:
    def test_block_is_marked_beyond_200_ms(self, twelve):
        """From where QRS would begin at the latest to where it does; inside of P end to QRS onset."""
        for i in rows(twelve, "1dAVb"):
            w = twelve.waves[i]
            np.testing.assert_array_equal(w["evidence_off"], w["qrs_on"])
            late = w["evidence_on"] - w["p_on"] - 0.2 * twelve.fs
            assert (np.abs(late) <= 1).all()
            assert (w["evidence_on"] >= w["p_off"]).all()
            spans = list(zip(w["evidence_on"], w["evidence_off"], strict=True))
            np.testing.assert_array_equal(twelve.truth[i].any(axis=0), mask(spans, twelve.data.shape[2]))

    def test_block_is_marked_where_p_is_seen(self, twelve):
        for i in rows(twelve, "1dAVb"):
            w = twelve.waves[i][labelled(twelve, i)]
            p = np.abs(twelve.data[i, :, int(w["p_on"]) : int(w["p_off"])]).max(axis=1)
            own = twelve.truth[i, :, int(w["evidence_on"])]
            assert own[STANDARD_LEADS.index("II")]
            assert p[own].min() > 0.02

    @pytest.mark.parametrize(
        ("label", "leads"), [("LBBB", ("I", "V1", "V6")), ("RBBB", ("V1", "V6")), ("PAC", ("II", "aVF"))]
    )
    def test_leads_that_show_it_are_marked(self, twelve, label, leads):
        for lead in leads:
            seen = [twelve.truth[i, STANDARD_LEADS.index(lead)].any() for i in rows(twelve, label)]
            assert np.mean(seen) > 0.9

    @pytest.mark.parametrize("label", ["LBBB", "RBBB"])
    def test_a_lead_that_does_not_show_it_is_not_marked(self, twelve, label):
        """A quarter of the best lead, or 0.2 mV: read where the late wave is alone, on its way down to the baseline."""
        unmarked = 0
        for i in rows(twelve, label):
            w = twelve.waves[i][labelled(twelve, i)]
            on, off = int(w["evidence_on"]), int(w["evidence_off"])
            late = on + round(0.74 * (off - on))  # where a third to a half of its peak is left
            size, own = np.abs(twelve.data[i, :, late]), twelve.truth[i, :, late]
            share = size / size.max()
            assert (share[~own] < 0.251).all() and (size[~own] < 0.6 * 0.2).all()
            assert ((share[own] > 0.249) | (size[own] > 0.3 * 0.2)).all()
            unmarked += (~own).sum()
        assert 0.05 < unmarked / (12 * len(rows(twelve, label))) < 0.5

    def test_block_is_not_marked_where_p_is_not_seen(self, twelve):
        """Lead aVL looks across the P of the sinus node."""
        assert twelve.truth[rows(twelve, "1dAVb"), STANDARD_LEADS.index("aVL")].any(axis=1).mean() < 0.4

    def test_rhythms_and_n_have_no_place(self, twelve):
        for label in ALL:
            assert (twelve.truth[rows(twelve, label)].any(axis=(1, 2)) == (label in PLACED)).all()

    @pytest.mark.parametrize("n_leads", [1, 12])
    @pytest.mark.parametrize("heart_rate", [(60.0, 100.0), 100.0])
    def test_chance_is_low(self, n_leads, heart_rate):
        b = make_ecg(200, classes=PLACED, n_leads=n_leads, heart_rate=heart_rate, random_state=0)
        for label in PLACED:
            assert 0.01 < b.truth[rows(b, label)].mean() < 0.15


class TestGaps:
    def test_they_lie_between_t_and_the_next_beat(self, marked):
        for label in RHYTHMS:
            ends = "p_on" if label in ("SB", "ST") else "qrs_on"
            for i in rows(marked, label):
                w, truth = marked.waves[i], marked.truth[i].any(axis=0)
                taken = [(x["qrs_on"], x["t_off"]) for x in w] + [(x["p_on"], x["p_off"]) for x in w if ends == "p_on"]
                assert not (truth & mask(taken, truth.size)).any()
                for before, after in pairwise(w):
                    on, off = max(int(before["t_off"]), 0), int(after[ends])
                    assert truth[on:off].all()

    def test_they_reach_both_ends_of_the_window(self, marked):
        first, last = 0, 0
        for label in RHYTHMS:
            for i in rows(marked, label):
                w, truth = marked.waves[i], marked.truth[i].any(axis=0)
                on = min(np.nanmin(w["p_on"]) if label in ("SB", "ST") else np.inf, w["qrs_on"].min())
                off = w["t_off"].max()
                first, last = first + (on > 0), last + (off < truth.size)
                assert truth[: max(int(min(on, truth.size)), 0)].all() and truth[max(int(off), 0) :].all()
        assert first > 10 and last > 10

    def test_the_line_between_regular_beats_is_flat(self, marked):
        for label in ("SB", "ST", "SVTA"):
            for i in rows(marked, label):
                assert not marked.data[i][marked.truth[i]].any()
                assert (marked.truth[i] == marked.truth[i, 0]).all()

    def test_fibrillation_is_marked_in_the_leads_that_show_it(self, marked):
        share = []
        for i in rows(marked, "AF"):
            between = marked.truth[i].any(axis=0)
            seen = marked.truth[i].any(axis=1)
            size = np.sqrt((marked.data[i][:, between].astype(np.float64) ** 2).mean(axis=1))
            # Over the whole window for the rule, between the beats here: a little off at the limit of a quarter.
            assert (size[seen] > 0.18 * size.max()).all() and (size[~seen] < 0.35 * size.max()).all()
            assert (marked.truth[i, seen] == between).all()
            share.append(seen)
        share = dict(zip(STANDARD_LEADS, np.mean(share, axis=0), strict=True))
        assert share["II"] > 0.9 and share["V1"] > 0.9 and min(share.values()) < 0.9

    def test_nothing_else_changes(self, twelve, marked):
        for name in ("data", "target", "sample", "artefacts"):
            np.testing.assert_array_equal(twelve[name], marked[name])
        own = np.isin(twelve.target, RHYTHMS)
        np.testing.assert_array_equal(twelve.truth[~own], marked.truth[~own])

    def test_it_must_be_a_bool(self):
        with pytest.raises(ValueError, match="rhythm_truth must be one of True, False; got 'gaps'"):
            make_ecg(5, rhythm_truth="gaps")


class TestLeadWaves:
    def test_shape_and_types(self, twelve):
        for w, by_lead in zip(twelve.waves, twelve.lead_waves, strict=True):
            assert by_lead.shape == (len(w), 12)
        assert by_lead.dtype.names == ("p_on", "p_off", "qrs_on", "qrs_off", "t_on", "t_off")

    @pytest.mark.parametrize("wave", ["p", "qrs", "t"])
    def test_they_lie_within_the_limits_over_all_leads(self, twelve, wave):
        for w, by_lead in zip(twelve.waves, twelve.lead_waves, strict=True):
            on, off = by_lead[f"{wave}_on"], by_lead[f"{wave}_off"]
            np.testing.assert_array_equal(np.isnan(on), np.isnan(off))
            there = ~np.isnan(on)
            assert not there[np.isnan(w[f"{wave}_on"])].any()
            assert ((on >= w[f"{wave}_on"][:, None]) | ~there).all()
            assert ((off <= w[f"{wave}_off"][:, None]) | ~there).all()
            assert ((on < off) | ~there).all()

    def test_what_they_leave_out_cannot_be_seen(self, twelve):
        """Outside of its limits a lead shows less of the QRS than the 0.02 mV of a wave, twice where two parts meet."""
        narrower = 0
        for i in rows(twelve, "N"):
            k = labelled(twelve, i)
            w, by_lead = twelve.waves[i][k], twelve.lead_waves[i][k]
            on, off = int(w["qrs_on"]), int(w["qrs_off"])
            for lead in range(12):
                own = mask([(by_lead["qrs_on"][lead], by_lead["qrs_off"][lead])], twelve.data.shape[2])[on:off]
                outside = np.abs(twelve.data[i, lead, on:off][~own])
                narrower += len(outside) > 0
                assert outside.max(initial=0) < 0.04
        assert narrower > 5

    def test_waves_that_are_seen_are_there(self, twelve):
        """Whole T waves of sinus beats, with nothing else in their limits, reach 0.02 mV just where they are given."""
        for i in rows(twelve, "SB"):
            for w, by_lead in zip(twelve.waves[i], twelve.lead_waves[i], strict=True):
                on, off = int(w["t_on"]), int(w["t_off"])
                if on < 0 or off > twelve.data.shape[2]:
                    continue
                size = np.abs(twelve.data[i, :, on:off]).max(axis=1)
                clear = np.abs(size - 0.02) > 0.001
                np.testing.assert_array_equal(~np.isnan(by_lead["t_on"])[clear], size[clear] > 0.02)

    def test_one_lead(self):
        b = clean(50, window=4.0)
        for w, by_lead in zip(b.waves, b.lead_waves, strict=True):
            np.testing.assert_array_equal(by_lead["qrs_on"][:, 0], w["qrs_on"])
            np.testing.assert_array_equal(by_lead["t_off"][:, 0], w["t_off"])


class TestDistractors:
    def test_they_are_on_all_leads_and_on_no_truth(self):
        options = {"classes": ALL, "n_leads": 12, "window": 4.0, "noise": 0, "random_state": 0}
        with_, without = make_ecg(200, **options), make_ecg(200, distractors=False, **options)
        difference = np.abs(with_.data - without.data)
        for i, spans in enumerate(with_.artefacts):
            there = mask(spans, with_.data.shape[2])
            assert not difference[i][:, ~there].any()
            assert (difference[i].max(axis=1) > 0.005).all()
            assert not (with_.truth[i] & there).any()


def test_memory_stays_near_that_of_the_result():
    """Beside the data and the truth (5 bytes a value) go the heart vectors (24 bytes a timestep) and blocks."""
    n, n_timesteps = 300, 5000
    tracemalloc.start()
    b = make_ecg(n, classes=ALL, n_leads=12, fs=500.0, window=10.0, random_state=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    result = b.data.nbytes + b.truth.nbytes
    assert result == n * 12 * n_timesteps * 5
    # The blocks of noise hold 2**24 values at most, thrice.
    assert peak < result + 24 * n * n_timesteps + 3 * 4 * 2**24 + 2**26
