"""The error of the sum of the relevance: by hand, against IntegratedGradients' own, bad input."""

import numpy as np
import pytest

from skecg.classifiers import ECGClassifier
from skecg.explain import IntegratedGradients
from skecg.metrics import completeness_score
from tests.tiny import FAST, TinyNet, toy_ecg


def test_by_hand():
    relevance = np.array([[[1.0, 2.0], [3.0, -1.0]], [[0.5, 0.5], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    each = completeness_score(relevance, [6.0, -1.0, 2.0], [2.0, -2.0, 2.0], average=False)
    np.testing.assert_array_equal(each, [0.25, 0, np.nan])  # the last one's score does not rise
    assert completeness_score(relevance, [6.0, -1.0, 2.0], [2.0, -2.0, 2.0]) == 0.125
    assert completeness_score(relevance[:2], [6.0, 2.0], 2.0, sample_weight=[1, 0]) == 0.25
    assert completeness_score([[1.0, 2.0]], [-2.0], 0.0) == 2.5  # a fall: the share of its size


def test_it_is_the_relative_error_of_integrated_gradients():
    X, y, *_ = toy_ecg(n=24, n_timesteps=40)
    clf = ECGClassifier(TinyNet, **FAST).fit(X, y)
    coarse, fine = (IntegratedGradients(clf, n_steps=n).explain(X) for n in (2, 64))
    found = completeness_score(coarse.relevance, coarse.score, coarse.score_baseline, average=False)
    rise = coarse.score.astype(float) - coarse.score_baseline
    np.testing.assert_allclose(found, np.abs(coarse.completeness_error / rise), rtol=1e-3, atol=1e-5)
    assert np.median(completeness_score(fine.relevance, fine.score, fine.score_baseline, average=False)) < 0.2 * (
        np.median(found)
    )


@pytest.mark.parametrize(
    ("relevance", "score", "baseline", "error", "message"),
    [
        ([1.0, 2.0], [3.0], 0.0, ValueError, r"relevance must be .* got shape \(2,\)"),
        (np.ones((2, 3)), [3.0], 0.0, ValueError, r"score must have shape \(2,\).*got \(1,\) and \(\)"),
        (np.ones((2, 3)), [3.0, 3.0], [0.0], ValueError, r"got \(2,\) and \(1,\)"),
        (np.ones((2, 3)), [3.0, np.nan], 0.0, ValueError, "score holds NaN"),
        (np.full((2, 3), np.inf), [3.0, 1.0], 0.0, ValueError, "relevance holds NaN or infinite"),
        (np.ones((2, 3)), [3.0, 1.0], "none", TypeError, "baseline_score must be real numbers; got dtype <U4"),
        (np.ones((2, 3)), [3.0, 1.0], [3.0, 1.0], ValueError, "none of the 2 windows has a score that differs"),
    ],
)
def test_bad_input_is_named(relevance, score, baseline, error, message):
    with pytest.raises(error, match=message):
        completeness_score(relevance, score, baseline)
