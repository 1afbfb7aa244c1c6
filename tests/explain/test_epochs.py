"""relevance_over_epochs against networks trained apart, and what it says when it cannot."""

import warnings

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D, relevance_over_epochs
from skecg.metrics import relevance_mass_score
from skecg.preprocessing import ECGScaler
from tests.tiny import FAST, TinyNet, toy_ecg


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    X, y, _, truth = toy_ecg()
    folder = tmp_path_factory.mktemp("checkpoints")
    clf = ECGClassifier(TinyNet, checkpoint_dir=folder, **FAST).fit(X, y)
    return clf, X, y, truth


def test_each_epoch_is_the_network_trained_so_far(trained):
    clf, X, y, truth = trained
    explainer = GradCAM1D(FrozenEstimator(clf), method="gradcam", relu=False)
    got = relevance_over_epochs(explainer, X, y, truth=truth, keep_relevance=True)
    assert got.epochs.tolist() == [1, 2, 3, 4]
    final = explainer.explain(X, target=y).relevance
    for i, epochs in enumerate(got.epochs):
        alone = ECGClassifier(TinyNet, **{**FAST, "max_epochs": int(epochs)}).fit(X, y)
        want = GradCAM1D(alone, method="gradcam", relu=False).explain(X, target=y).relevance
        np.testing.assert_array_equal(got.relevance[i], want)
        assert got.accuracy[i] == alone.score(X, y)
        assert got.share[i] == pytest.approx(relevance_mass_score(truth, want))
        rank = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(want, final, strict=True)]
        np.testing.assert_allclose(got.rank_correlation_by_window[i], rank, rtol=0, atol=1e-6)  # ranks are float32
        assert got.rank_correlation[i] == pytest.approx(np.nanmean(rank))
    assert got.rank_correlation[-1] == pytest.approx(1) and got.chance == pytest.approx(truth.mean())


def test_nothing_of_the_users_is_changed(trained):
    clf, X, y, _ = trained
    explainer = GradCAM1D(clf, method="gradcam")
    before = {k: v.clone() for k, v in clf.module_.state_dict().items()}
    proba = clf.predict_proba(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        relevance_over_epochs(explainer, X, y)
    assert all((before[k] == v).all() for k, v in clf.module_.state_dict().items())
    assert np.array_equal(clf.predict_proba(X), proba) and explainer.estimator is clf


def test_in_a_pipeline_and_chosen_epochs(trained):
    clf, X, y, _ = trained
    pipe = make_pipeline(ECGScaler().fit(X), clf)
    got = relevance_over_epochs(GradCAM1D(pipe, method="gradcam", relu=False), X, y, epochs=[4, 2])
    assert got.epochs.tolist() == [2, 4] and "share" not in got and "relevance" not in got
    direct = relevance_over_epochs(GradCAM1D(clf, method="gradcam", relu=False), X, y, epochs=[2, 4])
    assert not np.allclose(direct.rank_correlation_by_window, got.rank_correlation_by_window)


def test_constant_relevance_is_left_out_and_counted(trained):
    clf, X, y, _ = trained
    X = X.copy()
    X[0] = 0
    got = relevance_over_epochs(GradCAM1D(clf, method="gradcam"), X, y)
    by_window = got.rank_correlation_by_window
    assert np.array_equal(got.n_constant, np.isnan(by_window).sum(1))
    np.testing.assert_allclose(got.rank_correlation, np.nanmean(by_window, axis=1))


@pytest.mark.parametrize(
    "epochs, kept", [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5]), ([1, 3], [1, 3, 5]), ((5,), [5]), ([8], [5])]
)
def test_chosen_checkpoints_and_resuming_from_them(tmp_path, epochs, kept):
    X, y, *_ = toy_ecg()
    settings = {**FAST, "max_epochs": 5, "module__dropout": 0.2}
    clf = ECGClassifier(TinyNet, checkpoint_dir=tmp_path, checkpoint_epochs=epochs, **settings).fit(X, y)
    files = sorted(clf.checkpoint_folder_.glob("*"))
    assert [int(p.stem[6:]) for p in files] == kept and clf.checkpoint_folder_.parent == tmp_path
    want = clf.predict_proba(X)
    for last in kept[:-1]:  # as if the fit had been interrupted after this checkpoint
        for p in clf.checkpoint_folder_.glob("*"):
            if int(p.stem[6:]) > last:
                p.unlink()
        again = ECGClassifier(TinyNet, checkpoint_dir=tmp_path, checkpoint_epochs=epochs, **settings).fit(X, y)
        assert np.array_equal(again.predict_proba(X), want)


@pytest.mark.parametrize("epochs", [0, -1, 1.5, [], [0], ["1"], True])
def test_checkpoint_epochs_that_are_none(tmp_path, epochs):
    X, y, *_ = toy_ecg()
    with pytest.raises(ValueError, match="checkpoint_epochs"):
        ECGClassifier(TinyNet, checkpoint_dir=tmp_path, checkpoint_epochs=epochs, **FAST).fit(X, y)


def test_what_it_cannot_do(trained, tmp_path):
    clf, X, y, truth = trained
    explainer = GradCAM1D(clf)
    with pytest.raises(TypeError, match="explainer"):
        relevance_over_epochs(clf, X, y)
    with pytest.raises(ValueError, match=r"epochs \[7\] were not written.*\[1, 2, 3, 4\]"):
        relevance_over_epochs(explainer, X, y, epochs=[1, 7])
    with pytest.raises(ValueError, match="holds no checkpoints"):
        relevance_over_epochs(explainer, X, y, checkpoints=tmp_path)
    with pytest.raises(ValueError, match="inconsistent"):
        relevance_over_epochs(explainer, X, y, truth=truth[1:])
    with pytest.raises(ValueError, match="not among the classes"):
        relevance_over_epochs(explainer, X, np.full(len(y), "Z"))
    plain = ECGClassifier(TinyNet, **FAST).fit(X, y)
    with pytest.raises(ValueError, match="checkpoint_dir"):
        relevance_over_epochs(GradCAM1D(plain), X, y)
    wide = ECGClassifier(TinyNet, **{**FAST, "module__width": 5}).fit(X, y)
    with pytest.raises(ValueError, match="another network"):
        relevance_over_epochs(GradCAM1D(wide), X, y, checkpoints=clf.checkpoint_folder_)
    (tmp_path / "epoch_0001.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="not a checkpoint"):
        relevance_over_epochs(explainer, X, y, checkpoints=tmp_path)
