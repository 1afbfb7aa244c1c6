"""What make_ecg lays over its beats: distractors the size of true waves, wander, muscle and mains."""

import numpy as np
import pytest

from skecg.datasets import make_ecg
from tests.windows import PLACED, bunch, clean, labelled, mask, rows


class TestDistractors:
    def difference(self, n_leads=1):
        with_, without = bunch(900, noise=0, n_leads=n_leads), clean(900, n_leads=n_leads)
        return with_, with_.data - without.data

    def test_they_lie_within_their_limits_and_not_on_truth(self):
        b, difference = self.difference()
        for i, spans in enumerate(b.artefacts):
            there = mask(spans, b.data.shape[2])
            assert not difference[i][:, ~there].any()
            assert not (b.truth[i] & there).any()
        assert (b.artefacts[..., 0] >= 0).all() and (b.artefacts[..., 1] <= b.data.shape[2]).all()
        assert (np.diff(b.artefacts, axis=2) >= 4).all()

    def sizes(self, x, spans):
        """Log of peak and energy over all leads in each span of each window."""
        out = []
        for row, (on, off) in zip(x, spans, strict=True):
            part = row[:, int(on) : int(off)]
            out.append((np.abs(part).max(), (part**2).sum()))
        return np.log(out)

    @pytest.mark.parametrize("n_leads", [1, 12])
    def test_peak_and_energy_are_those_of_true_waves(self, n_leads):
        """The two artefacts against lone evidence waves, which are cut out of slow clean windows."""
        b, difference = self.difference(n_leads)
        ventricular, atrial = (self.sizes(difference, b.artefacts[:, k]) for k in (0, 1))
        c = clean(900, n_leads=n_leads, heart_rate=60.0)
        true = {}
        for label in PLACED:
            own = rows(c, label)
            table = [c.waves[i][labelled(c, i)] for i in own]
            true[label] = self.sizes(c.data[own], [(w["evidence_on"], w["evidence_off"]) for w in table])
        large = np.concatenate([true[k] for k in ("PVC", "LBBB", "RBBB")])
        # Within the limits lie tails of neighbouring waves too, which add a little energy to the true ones.
        for artefact, wave in ((ventricular, large), (atrial, true["PAC"])):
            np.testing.assert_allclose(artefact.mean(axis=0), wave.mean(axis=0), atol=0.2)
            np.testing.assert_allclose(artefact[:, 0].mean(), wave[:, 0].mean(), atol=0.1)
            np.testing.assert_allclose(artefact.std(axis=0), wave.std(axis=0), rtol=0.2)

    def test_they_are_alike_in_every_class(self):
        b, difference = self.difference()
        for k in (0, 1):
            size, place = self.sizes(difference, b.artefacts[:, k]), b.artefacts[:, k].mean(axis=1) / 720
            for label in ("N", *PLACED):
                own = b.target == label
                # 180 windows a class: four standard errors of the mean of a log of sd 1 are .3.
                np.testing.assert_allclose(size[own].mean(axis=0), size.mean(axis=0), atol=0.3)
                assert place[own].mean() == pytest.approx(0.5, abs=0.09)

    def test_they_avoid_qrs_where_there_is_room(self):
        b, _ = self.difference()
        covered = []
        for w, spans in zip(b.waves, b.artefacts, strict=True):
            qrs = mask(zip(w["qrs_on"], w["qrs_off"], strict=True), b.data.shape[2])
            covered.append((qrs & mask(spans, b.data.shape[2])).any())
        assert np.mean(covered) < 0.02


class TestNoise:
    def test_it_grows_with_its_level(self):
        x = clean(50, n_leads=2).data
        weak, strong = (bunch(50, n_leads=2, noise=level, distractors=False).data - x for level in (0.05, 0.2))
        np.testing.assert_allclose(strong, 4 * weak, atol=1e-6)

    def test_wander_muscle_and_mains(self):
        """Root mean squares by band, of noise alone, are the documented ones for the average patient."""
        options = {"n_samples": 120, "fs": 500.0, "window": 20.0, "n_patients": 40}
        noise = bunch(noise=0.1, distractors=False, **options).data - clean(**options).data
        power = np.abs(np.fft.rfft(noise[:, 0] * np.hanning(noise.shape[2]))) ** 2
        power *= (noise[:, 0] ** 2).mean() / power.sum(axis=1).mean()
        hz = np.fft.rfftfreq(noise.shape[2], 1 / 500)
        level = {
            name: np.sqrt(power[:, (hz >= low) & (hz < high)].sum(axis=1).mean())
            for name, low, high in (("wander", 0, 1), ("50", 49, 51), ("60", 59, 61), ("muscle", 62, 250))
        }
        # Patients' levels are uniform on 0.5 to 1.5 of it: their root mean square is 1.04.
        assert level["wander"] == pytest.approx(0.104, rel=0.15)
        assert np.hypot(level["50"], level["60"]) == pytest.approx(0.25 * 0.104, rel=0.2)
        assert min(level["50"], level["60"]) > 0.005
        assert 0.025 < level["muscle"] < 0.045

    def test_kinds_apart(self):
        """Each kind alone is what it adds to the others, and the three together are the default mixture."""
        options = {"n_samples": 40, "n_leads": 2, "distractors": False, "random_state": 0}
        x = make_ecg(noise=0, **options).data.astype(np.float64)
        kinds = {"wander": 0.1, "muscle": 0.04, "mains": 0.025}
        parts = [make_ecg(noise={kind: level}, **options).data - x for kind, level in kinds.items()]
        np.testing.assert_allclose(sum(parts), make_ecg(noise=0.1, **options).data - x, atol=1e-6)
        np.testing.assert_allclose(sum(parts), make_ecg(noise=kinds, **options).data - x, atol=1e-6)
        assert all(part.std() > 0.01 for part in parts)
        np.testing.assert_array_equal(make_ecg(noise={}, **options).data, make_ecg(noise=0, **options).data)

    @pytest.mark.parametrize(
        ("noise", "message"),
        [
            ({"hum": 0.1}, r"each kind of noise must be one of 'wander', 'muscle', 'mains'; got 'hum'"),
            ({"mains": -1}, r"noise\['mains'\] must be a finite number \(mV\) at least 0; got -1"),
            ({"muscle": None}, r"noise\['muscle'\] must be a finite number.*got None"),
            (None, r"noise must be a finite number.*got None"),
        ],
    )
    def test_bad_noise(self, noise, message):
        with pytest.raises(ValueError, match=message):
            make_ecg(5, noise=noise)

    def test_no_hum_where_the_rate_cannot_hold_it(self):
        options = {"n_samples": 120, "fs": 105.0, "window": 20.0, "n_patients": 40}
        noise = bunch(noise=0.1, distractors=False, **options).data - clean(**options).data
        power = (np.abs(np.fft.rfft(noise[:, 0])) ** 2).mean(axis=0)
        hz = np.fft.rfftfreq(noise.shape[2], 1 / 105)
        # 60 Hz would be seen at 45, 50 Hz at 50: neither stands out of the muscle noise beside it.
        for line in (45, 50):
            near = np.abs(hz - line) < 1.5
            assert power[near].max() < 3 * np.median(power[hz > 30])

    def test_leads_have_noise_of_their_own(self):
        b = bunch(50, n_leads=3, distractors=False)
        noise = b.data - clean(50, n_leads=3).data
        assert np.abs(np.corrcoef(noise.transpose(1, 0, 2).reshape(3, -1))[np.triu_indices(3, 1)]).max() < 0.4
