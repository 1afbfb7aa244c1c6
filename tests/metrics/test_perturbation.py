"""Deletion and insertion curves: closed forms of a linear score, ties, symmetries, batches, odd input."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skecg.classifiers import ECGClassifier
from skecg.explain import GradCAM1D, IntegratedGradients
from skecg.metrics import perturbation_curves
from skecg.preprocessing import ECGScaler
from tests.tiny import FAST, TinyNet, toy_ecg

ORDERS = ("most", "least", "random", "absolute")


class Linear:
    """A classifier whose probability of "PVC" is linear in X: curves can be worked out by hand."""

    classes_ = np.array(["N", "PVC"])
    fs = 100.0

    def __init__(self, weight, offset=0.5):
        self.weight, self.offset, self.rows = np.asarray(weight), offset, 0

    def predict_proba(self, X):
        self.rows += len(X)
        p = self.offset + (X * self.weight).reshape(len(X), -1).sum(axis=1)
        return np.column_stack([1 - p, p])

    def decision_function(self, X):
        return (X * self.weight).reshape(len(X), -1).sum(axis=1)


@pytest.fixture
def linear(rng):
    # windows of two leads, 20 chunks of 5 samples in all, and their exact relevance
    X, weight = rng.normal(size=(6, 2, 50)), 0.01 * rng.normal(size=(2, 50))
    return Linear(weight), X, X * weight


def test_curves_of_a_linear_score_are_sums(linear):
    clf, X, relevance = linear
    result = perturbation_curves(
        clf, X, relevance, target="PVC", chunk=0.05, replacement=0.0, n_points=21, n_random=200, random_state=0
    )
    parts = np.sort(relevance.reshape(6, 20, 5).sum(axis=-1), axis=1)
    whole = 0.5 + parts.sum(axis=1, keepdims=True)
    gone = {"most": parts[:, ::-1], "least": parts}
    for name, order in gone.items():
        expected = np.concatenate([whole, whole - np.cumsum(order, axis=1)], axis=1)
        np.testing.assert_allclose(result[name], expected, atol=1e-12)
        np.testing.assert_allclose(result[f"area_{name}"], (expected[:, 1:] + expected[:, :-1]).mean(axis=1) / 2)
    straight = whole + (0.5 - whole) * result.fraction
    assert np.abs(result.random - straight).max() < 0.03
    by_size = np.argsort(-np.abs(X).reshape(6, 20, 5).sum(axis=-1), axis=1)
    gone = np.take_along_axis(relevance.reshape(6, 20, 5).sum(axis=-1), by_size, axis=1)
    np.testing.assert_allclose(result.absolute[:, 1:], whole - np.cumsum(gone, axis=1), atol=1e-12)
    np.testing.assert_allclose(result.degradation, result.area_least - result.area_most)
    assert (result.degradation > 0).all()
    np.testing.assert_allclose(result.fraction, np.arange(21) / 20)
    np.testing.assert_allclose(result.drop, whole[:, 0] - 0.5)
    assert (result.n_chunks, result.chunk_length, result.leads) == (20, 5, "apart")
    assert result.target.tolist() == ["PVC"] * 6


def test_normalized_curves_go_from_one_to_zero_and_what_does_not_drop_is_counted(linear):
    clf, X, relevance = linear
    result = perturbation_curves(clf, X, relevance, target="PVC", chunk=0.05, replacement=0.0, random_state=0)
    falls = relevance.sum(axis=(1, 2)) > 0
    assert 0 < falls.sum() < 6
    share = result.normalized
    assert share.n_left_out == (~falls).sum()
    for name in ORDERS:
        assert np.isnan(share[name][~falls]).all() and np.isnan(share[f"area_{name}"][~falls]).all()
        np.testing.assert_allclose(share[name][falls][:, [0, -1]], [[1, 0]] * falls.sum(), atol=1e-12)
        expected = (result[name] - 0.5)[falls] / relevance.sum(axis=(1, 2))[falls, None]
        np.testing.assert_allclose(share[name][falls], expected, atol=1e-9)
    assert np.isnan(share.degradation[~falls]).all() and (share.degradation[falls] > 0).all()


@pytest.mark.parametrize("replacement", ["bridge", "isoelectric", 0.3])
def test_insertion_is_deletion_from_the_other_end(linear, replacement):
    clf, X, relevance = linear
    relevance = np.round(relevance, 2)  # many ties, which the two must break alike
    settings = {"chunk": 0.05, "replacement": replacement, "n_points": 11, "random_state": 4, "target": "PVC"}
    deletion = perturbation_curves(clf, X, relevance, **settings)
    insertion = perturbation_curves(clf, X, relevance, curve="insertion", **settings)
    np.testing.assert_array_equal(insertion.least[:, ::-1], deletion.most)
    np.testing.assert_array_equal(insertion.most[:, ::-1], deletion.least)
    np.testing.assert_allclose(insertion.degradation, deletion.degradation)
    np.testing.assert_array_equal(insertion.drop, deletion.drop)
    falls = deletion.drop > 0
    np.testing.assert_allclose(insertion.normalized.most[falls, -1], 1)
    np.testing.assert_allclose(insertion.normalized.degradation[falls], deletion.normalized.degradation[falls])


def test_turning_the_relevance_round_swaps_most_and_least(linear):
    clf, X, relevance = linear
    settings = {"chunk": 0.05, "random_state": 0, "target": "PVC"}
    one, other = (perturbation_curves(clf, X, sign * relevance, **settings) for sign in (1, -1))
    np.testing.assert_array_equal(one.most, other.least)
    np.testing.assert_allclose(one.degradation, -other.degradation)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_flat_map_is_a_random_order_and_never_that_of_time(value, dtype):
    n = 300
    X = np.zeros((n, 53), dtype=dtype)
    X[:, :5] = 0.2  # the evidence is in the first chunk; the last chunk is shorter than the others
    result = perturbation_curves(
        Linear(np.ones(53), 0.0), X, np.full(X.shape, value, dtype=dtype), target="PVC", chunk=0.05, replacement=0.0,
        random_state=0,
    )  # fmt: skip
    for name in ("most", "least", "random"):
        # gone at each place with the same probability
        np.testing.assert_allclose(result[name].mean(axis=0), 1 - result.fraction, atol=0.1)
    assert abs(result.degradation.mean()) < 4 * result.degradation.std() / np.sqrt(n)
    assert result.degradation.std() > 0.3  # a window's own order is not always the same


def test_chunks_that_tie_among_others_are_shuffled():
    X, relevance = np.ones((300, 40)), np.zeros((300, 40))
    relevance[:, 10:15] = 1.0  # a saturated map: one chunk first, the seven others in any order
    gone_first = perturbation_curves(
        Linear(np.eye(40)[37] * 0.5, 0.0), X, relevance, target="PVC", chunk=0.05, replacement=0.0, n_points=99,
        random_state=0,
    ).most  # fmt: skip
    assert (gone_first[:, 1] == 0.5).all()
    np.testing.assert_allclose(gone_first.mean(axis=0)[1:], 0.5 * np.arange(7, -1, -1) / 7, atol=0.06)


def test_windows_do_not_depend_on_batches_nor_on_those_after_them(linear):
    clf, X, relevance = linear
    relevance = np.round(relevance, 2)
    settings = {"chunk": 0.05, "random_state": 0, "target": "PVC"}
    whole = perturbation_curves(clf, X, relevance, **settings)
    for batch_size in (1, 4, 13, 1000):
        parts = perturbation_curves(clf, X, relevance, batch_size=batch_size, **settings)
        for name in (*ORDERS, "degradation"):
            np.testing.assert_allclose(parts[name], whole[name], rtol=1e-12)
    first = perturbation_curves(clf, X[:2], relevance[:2], **settings)
    np.testing.assert_allclose(first.random, whole.random[:2], rtol=1e-12)


def test_the_work_is_what_the_docs_say(linear):
    clf, X, relevance = linear
    perturbation_curves(clf, X, relevance, target="PVC", chunk=0.05, n_points=7, n_random=4, random_state=0)
    assert clf.rows == 6 * (2 + 5 * (3 + 4))


def test_a_map_without_leads_takes_chunks_over_all_leads(linear):
    clf, X, relevance = linear
    cam = np.broadcast_to(relevance.sum(axis=1, keepdims=True), X.shape)
    settings = {"target": "PVC", "chunk": 0.05, "replacement": 0.0, "random_state": 0}
    result = perturbation_curves(clf, X, cam, **settings)
    assert (result.leads, result.n_chunks) == ("together", 10)
    parts = np.sort(relevance.sum(axis=1).reshape(6, 10, 5).sum(axis=-1), axis=1)[:, ::-1]
    np.testing.assert_allclose(result.most[:, :-1] - result.most[:, 1:], parts, atol=1e-12)
    together = perturbation_curves(clf, X, relevance, leads="together", **settings)
    np.testing.assert_allclose(together.most, result.most, atol=1e-12)  # the mean over leads is what is ordered
    assert perturbation_curves(clf, X, cam, leads="apart", **settings).n_chunks == 20


def test_one_lead_with_or_without_its_axis(rng):
    X = rng.normal(size=(5, 50))
    weight = 0.05 * rng.normal(size=50)
    settings = {"target": "PVC", "random_state": 0}
    flat = perturbation_curves(Linear(weight), X, X * weight, **settings)
    deep = perturbation_curves(Linear(weight), X[:, None], X * weight, **settings)
    for name in ORDERS:
        np.testing.assert_array_equal(flat[name], deep[name])


def test_another_window_and_one_a_window_stand_in(linear):
    clf, X, relevance = linear
    settings = {"target": "PVC", "chunk": 0.05, "random_state": 0, "batch_size": 4}
    for replacement in (X[0], X[::-1].copy()):
        result = perturbation_curves(clf, X, relevance, replacement=replacement, **settings)
        end = clf.predict_proba(np.broadcast_to(replacement, X.shape))[:, 1]
        np.testing.assert_allclose(result.most[:, -1], end)
    itself = perturbation_curves(clf, X, relevance, replacement=X, **settings)
    np.testing.assert_allclose(itself.most, np.repeat(itself.most[:, :1], itself.most.shape[1], axis=1))
    assert itself.normalized.n_left_out == 6  # nothing drops where nothing changes


def test_targets(linear):
    clf, X, relevance = linear
    settings = {"chunk": 0.05, "random_state": 0}
    pvc, n = (perturbation_curves(clf, X, relevance, target=name, **settings) for name in ("PVC", "N"))
    np.testing.assert_allclose(pvc.most, 1 - n.most)
    labels = np.array(["N", "PVC"] * 3)
    mixed = perturbation_curves(clf, X, relevance, target=labels, **settings)
    np.testing.assert_array_equal(mixed.most, np.where((labels == "PVC")[:, None], pvc.most, n.most))
    predicted = perturbation_curves(clf, X, relevance, **settings)
    assert predicted.target.tolist() == clf.classes_[clf.predict_proba(X).argmax(axis=1)].tolist()
    assert (predicted.most[:, 0] > 0.5).all()
    logit = perturbation_curves(clf, X, relevance, target=labels, output="logit", **settings)
    expected = np.where((labels == "PVC")[:, None], 1, -1) * (pvc.most - 0.5)
    np.testing.assert_allclose(logit.most, expected, atol=1e-12)


def test_predicted_knows_of_thresholds_and_of_several_labels():
    X, y, *_ = toy_ecg(n=40, n_timesteps=60, n_classes=2)
    clf = ECGClassifier(TinyNet, fs=100.0, threshold=0.99, **FAST).fit(X, y)
    result = perturbation_curves(clf, X, X, n_points=2, n_random=1)
    assert result.target.tolist() == clf.predict(X).tolist()
    indicators = np.column_stack([y == "N", y == "PVC"]).astype(int)
    several = ECGClassifier(TinyNet, fs=100.0, labels=["N", "PVC"], **FAST).fit(X, indicators)
    result = perturbation_curves(several, X, X, n_points=2, n_random=1)
    probability = several.predict_proba(X)
    assert result.target.tolist() == several.classes_[probability.argmax(axis=1)].tolist()
    np.testing.assert_allclose(result.most[:, 0], probability.max(axis=1), rtol=1e-5)


def test_a_trained_network_and_its_explanations():
    X, y, *_ = toy_ecg(n=60, n_timesteps=80)
    pipeline = make_pipeline(ECGScaler(), ECGClassifier(TinyNet, fs=100.0, **{**FAST, "max_epochs": 15})).fit(X, y)
    result = IntegratedGradients(pipeline, n_steps=8).explain(X)
    settings = {"target": result.target, "replacement": "isoelectric", "chunk": 0.05, "random_state": 0, "n_points": 6}
    curves = perturbation_curves(pipeline[-1], result.data, result.relevance, **settings)
    np.testing.assert_allclose(
        curves.most[:, 0], pipeline.predict_proba(X)[np.arange(60), np.searchsorted(pipeline.classes_, result.target)],
        rtol=1e-4,
    )  # fmt: skip
    assert curves.degradation.mean() > 0.1
    assert curves.area_most.mean() < curves.area_random.mean() < curves.area_least.mean()
    cam = GradCAM1D(pipeline[-1]).explain(result.data)
    assert perturbation_curves(pipeline[-1], cam.data, cam.relevance, **settings).leads == "together"


def test_everything_is_left_as_found(linear):
    clf, X, relevance = linear
    before = X.copy(), relevance.copy()
    X.flags.writeable = relevance.flags.writeable = False
    one, two = (perturbation_curves(clf, X, relevance, target="PVC", random_state=7) for _ in range(2))
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(relevance, before[1])
    for name in ORDERS:
        np.testing.assert_array_equal(one[name], two[name])
    assert (one.random != perturbation_curves(clf, X, relevance, target="PVC", random_state=8).random).any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"relevance": np.ones((6, 2, 49))}, ValueError, r"relevance has shape \(6, 2, 49\), but X has .*last step"),
        ({"relevance": np.ones((6, 50))}, ValueError, "they must agree"),
        ({"relevance": np.full((6, 2, 50), np.nan)}, ValueError, "relevance is NaN or infinite in window 0"),
        ({"relevance": np.full((6, 2, 50), "a")}, TypeError, "relevance must be an array of real numbers"),
        ({"X": np.full((6, 2, 50), np.inf)}, ValueError, "X is NaN or infinite in window 0"),
        ({"X": np.ones(50)}, ValueError, r"X must be .*got shape \(50,\)"),
        ({"X": np.ones((0, 2, 50))}, ValueError, r"nowhere 0; got shape \(0, 2, 50\)"),
        ({"target": "AF"}, ValueError, r"target 'AF' is none of the estimator's classes \['N', 'PVC'\]"),
        ({"target": 1}, ValueError, "target 1 is none of"),
        ({"target": ["N", "PVC"]}, ValueError, r"one label a window, shape \(6,\); got shape \(2,\)"),
        ({"chunk": 0.51}, ValueError, r"chunk=0.51 s at fs=100 Hz is longer than the window of 50 samples"),
        ({"chunk": 0.004}, ValueError, "is less than a sample"),
        ({"chunk": 0}, ValueError, "chunk must be"),
        ({"curve": "removal"}, ValueError, "curve must be one of 'deletion', 'insertion'; got 'removal'"),
        ({"leads": "each"}, ValueError, "leads must be one of"),
        ({"output": "margin"}, ValueError, "output must be one of 'probability', 'logit'"),
        ({"replacement": "zeros"}, ValueError, "replacement must be"),
        ({"n_points": 1}, ValueError, "n_points must be"),
        ({"n_random": 0}, ValueError, "n_random must be"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"fs": -1}, ValueError, "fs must be"),
    ],
)
def test_bad_input_is_named(linear, change, error, message):
    clf, X, relevance = linear
    with pytest.raises(error, match=message):
        perturbation_curves(clf, **{"X": X, "relevance": relevance, "target": "PVC", **change})


def test_an_estimator_that_does_not_do_is_named(linear):
    _, X, relevance = linear
    X, relevance = X[:, 0], relevance[:, 0]

    class Silent:
        classes_ = np.array([0, 1])

    class Short(Silent):
        def predict_proba(self, X):
            return np.ones((len(X), 3))

    for estimator, output, error, message in [
        (Silent(), "probability", TypeError, "needs an estimator with predict_proba; Silent has none"),
        (Silent(), "logit", TypeError, "needs an estimator with decision_function; Silent has none"),
        (LogisticRegression(), "probability", ValueError, "LogisticRegression has no classes_: pass a fitted"),
        (Short(), "probability", ValueError, r"returned shape \(6, 3\) for 6 windows and 2 classes"),
    ]:
        with pytest.raises(error, match=message):
            perturbation_curves(estimator, X, relevance, output=output, fs=100.0)
    clf = LogisticRegression().fit(X, [0, 1] * 3)
    with pytest.raises(ValueError, match="chunk needs the sampling rate: pass fs"):
        perturbation_curves(clf, X, relevance)
    assert perturbation_curves(clf, X, relevance, fs=100.0, n_points=3).fraction.tolist() == [0, 0.48, 1]


def test_one_chunk_is_the_whole_window(linear):
    clf, X, relevance = linear
    result = perturbation_curves(clf, X, relevance, target="PVC", chunk=0.5, leads="together", replacement=0.0)
    assert result.fraction.tolist() == [0, 1]
    np.testing.assert_array_equal(result.degradation, 0)
