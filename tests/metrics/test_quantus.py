"""Our arrays go into Quantus as they are, and where the two define a score alike they agree."""

import warnings

import numpy as np
import pytest

from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D, InputXGradient
from skecg.metrics import pointing_game_score, relevance_auc_score, relevance_mass_score, relevance_rank_score
from tests.tiny import FAST, TinyNet, toy_ecg

quantus = pytest.importorskip("quantus", reason="Quantus is no dependency: install it to compare the scores with its")

PAIRS = {
    "PointingGame": pointing_game_score,
    "RelevanceMassAccuracy": relevance_mass_score,
    "RelevanceRankAccuracy": relevance_rank_score,
    "AUC": relevance_auc_score,
}


@pytest.fixture(scope="module")
def trained():
    def made(n_leads):
        X, y, _, truth = toy_ecg(n=30, n_leads=n_leads, n_timesteps=80)
        return ECGClassifier(TinyNet, fs=100.0, **FAST).fit(X, y), X, y, truth

    return {n_leads: made(n_leads) for n_leads in (1, 3)}


def theirs(name, clf, X, y, relevance, truth):
    """Return Quantus' score of each window."""
    metric = getattr(quantus, name)(abs=False, normalise=False, disable_warnings=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, about signs
        return metric(
            model=clf.module_.eval(),
            x_batch=X,
            y_batch=np.searchsorted(clf.classes_, y),
            a_batch=relevance,
            s_batch=truth,
            device="cpu",
            channel_first=True,
        )


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("explainer", [GradCAM1D, InputXGradient])
def test_one_lead_goes_in_unchanged(name, explainer, trained):
    clf, X, y, truth = trained[1]
    relevance = explainer(clf).transform(X)
    if name == "RelevanceMassAccuracy":
        relevance = np.maximum(relevance, 0)  # theirs divides by the sum of the signed relevance, which may vanish
    expected = PAIRS[name](truth, relevance, average=False)
    np.testing.assert_allclose(theirs(name, clf, X, y, relevance, truth), expected, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_several_leads_go_in_as_their_sum(name, trained):
    clf, X, y, truth = trained[3]
    relevance = np.abs(InputXGradient(clf).transform(X)).sum(axis=1, keepdims=True)
    truth = truth.any(axis=1, keepdims=True)  # theirs has one truth for all leads, and relevance without leads then
    expected = PAIRS[name](truth, relevance, average=False)
    np.testing.assert_allclose(theirs(name, clf, X, y, relevance, truth), expected, atol=1e-6)


def test_ties_are_where_the_two_differ(trained):
    clf, X, y, _ = trained[1]
    truth = np.zeros(X.shape, dtype=bool)
    truth[..., :20] = True
    saturated = np.ones(X.shape, dtype=np.float32)
    saturated[..., -1] = 0  # three quarters of what shares the maximum lie beside the truth
    assert theirs("PointingGame", clf, X, y, saturated, truth) == [1.0] * len(X)  # any tied maximum is a hit
    np.testing.assert_allclose(pointing_game_score(truth, saturated, average=False), 20 / 79)
    np.testing.assert_allclose(relevance_rank_score(truth, saturated, average=False), 20 / 79)
