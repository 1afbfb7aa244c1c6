"""branch_contributions on networks whose terms are known."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from torch import nn

from skecg.classifiers import ECGClassifier
from skecg.explain import branch_contributions
from skecg.models import ECGNet
from skecg.preprocessing import ECGScaler
from tests.tiny import TinyNet


class TwoBranches(nn.Module):
    """Feature of the first branch: the first sample; of the second: the second. The logits are known by hand."""

    branches = ("first", "second")

    class _Pick(nn.Module):
        def __init__(self, at):
            super().__init__()
            self.at = at

        def forward(self, x):
            return x[:, 0, self.at : self.at + 1]

    def __init__(self, first, second, bias=(0.0, 0.0, 0.0)):
        super().__init__()
        self.first, self.second = self._Pick(0), self._Pick(1)
        self.w1, self.w2 = nn.Parameter(torch.tensor([first]).T), nn.Parameter(torch.tensor([second]).T)
        self.b = nn.Parameter(torch.tensor(bias))

    def branch_weights(self):
        return {"first": self.w1, "second": self.w2, "bias": self.b}

    def forward(self, x):
        return self.first(x) @ self.w1.T + self.second(x) @ self.w2.T + self.b


def around(net, n_outputs=3, n_timesteps=4, **kwargs):
    return ECGClassifier.from_module(net, list("ABCD")[:n_outputs], n_leads=1, n_timesteps=n_timesteps, **kwargs)


def windows(first, second):
    X = np.zeros((len(first), 1, 4), dtype=np.float32)
    X[:, 0, 0], X[:, 0, 1] = first, second
    return X


def test_by_hand():
    # first: logits (3a, 0, 0), second: (0, b, 0); a and b are +-1
    clf = around(TwoBranches((3.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
    X = windows([1, 1, -1, -1], [1, -1, 1, -1])
    out = branch_contributions(clf, X, ["A", "A", "B", "C"])
    # term of first, mean over classes off: 3a * (2/3, -1/3, -1/3): rms 3 * sqrt((4 + 1 + 1) / 27)
    assert out.branches == ["first", "second"]
    np.testing.assert_allclose(out.deviation, [3 * np.sqrt(6 / 27), np.sqrt(6 / 27)], rtol=1e-6)
    np.testing.assert_allclose(out.share, [0.75, 0.25], rtol=1e-6)
    # whole: A A B C(0 over -1 and -3); without second (mean 0): A A, then (-3, 0, 0): B, the first of equals, B
    np.testing.assert_allclose(out.changed, [2 / 4, 1 / 4])
    # first alone as above: 3 of 4 stay; second alone: (0, 1, 0) B, (0, -1, 0) A, B, A: of A A B C only 2 stay
    np.testing.assert_allclose(out.alone, [3 / 4, 2 / 4])
    assert out.accuracy == 1
    np.testing.assert_allclose(out.accuracy_alone, [3 / 4, 2 / 4])
    np.testing.assert_allclose(out.accuracy_without, [2 / 4, 3 / 4])
    assert out.nil == []


def test_nil_branch_warns():
    clf = around(TwoBranches((3.0, 0.0, 0.0), (0.0, 0.01, 0.0), (0.0, 0.0, -5.0)))
    rng = np.random.default_rng(0)
    X = windows(rng.standard_normal(200) + np.sign(rng.standard_normal(200)), rng.standard_normal(200))
    with pytest.warns(UserWarning, match=r"branch 'second' of TwoBranches adds nothing.*branch_dropout"):
        out = branch_contributions(clf, X)
    assert out.nil == ["second"] and "accuracy" not in out


def test_a_constant_branch_is_nil_though_it_decides():
    clf = around(TwoBranches((1.0, 0.0, 0.0), (0.0, 50.0, 0.0)))
    with pytest.warns(UserWarning, match="'second'"):
        out = branch_contributions(clf, windows([1.0, -1.0, 2.0], [1.0, 1.0, 1.0]))
    np.testing.assert_allclose(out.deviation[1], 0, atol=1e-12)


def test_threshold_of_two_classes_and_multilabel():
    net = TwoBranches((1.0, 0.0), (0.0, 1.0), (0.0, 0.0))
    X = windows([2, 0, 2, 0], [0, 1, 1, 3])
    # B where b > a: A B A B; with a at its mean 1: A A A B; with b at its mean 1.25: A B A B
    np.testing.assert_allclose(branch_contributions(around(net, 2), X).changed, [1 / 4, 0])
    # B where b - a > 2.197: A A A B; with a at its mean 1: A A A A; with b at its mean 1.25: A A A A
    np.testing.assert_allclose(branch_contributions(around(net, 2, threshold=0.9), X).changed, [1 / 4, 1 / 4])
    many = around(net, 2, multilabel=True, threshold=0.7)  # passes above .847
    out = branch_contributions(many, X, np.array([[1, 0], [0, 1], [1, 1], [0, 1]]))
    assert out.accuracy == 1
    # first at its mean 1: label A always passes; second as it is: b > .847
    np.testing.assert_allclose(out.accuracy_without[0], 2 / 4)


def test_ecgnet_terms_are_the_networks(seeded):
    net = ECGNet(n_outputs=3, width=1).eval()
    clf = ECGClassifier.from_module(net, ["A", "B", "C"], n_leads=1, n_timesteps=720)
    X = np.random.default_rng(0).standard_normal((9, 1, 720)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = branch_contributions(clf, X, batch_size=4)
        again = branch_contributions(make_pipeline(ECGScaler().fit(X), clf), X)
    with torch.no_grad():
        term = net.branch_logits(torch.from_numpy(X))["lstm"].double().numpy()
    spread = term - term.mean(0)
    spread -= spread.mean(1, keepdims=True)
    np.testing.assert_allclose(out.deviation[1], np.sqrt((spread**2).mean()), rtol=1e-4)
    assert not np.allclose(out.deviation, again.deviation)  # behind a scaler the network sees something else


def test_bad_input(seeded):
    tiny = ECGClassifier.from_module(TinyNet(1, 4, 3), list("ABC"), n_leads=1, n_timesteps=4)
    with pytest.raises(ValueError, match=r"TinyNet has no additive branches.*ECGNet"):
        branch_contributions(tiny, np.zeros((2, 1, 4)))
    clf = around(TwoBranches((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
    with pytest.raises(ValueError, match="batch_size"):
        branch_contributions(clf, np.zeros((2, 1, 4)), batch_size=0)
    with pytest.raises(ValueError, match="inconsistent"):
        branch_contributions(clf, np.zeros((2, 1, 4)), ["A"])
    with pytest.raises(NotFittedError, match="fit"):
        branch_contributions(ECGClassifier(), np.zeros((2, 1, 4)))
