"""ECGClassifier: weights, seeds, training, early stopping, metadata, grid search, processes, persistence."""

import io
import pickle
import warnings

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import EarlyStopping, EpochScoring

from skecg.classifiers import ECGClassifier
from tests.tiny import FAST, BraindecodeNet, TinyNet, toy_ecg


def tiny(**settings):
    return ECGClassifier(**{"module": TinyNet, **FAST, **settings})


@pytest.fixture(scope="module")
def toy():
    return toy_ecg()


@pytest.fixture(scope="module")
def clf(toy):
    return tiny(max_epochs=12).fit(*toy[:2])


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weight_zero_is_absent_and_equal_weights_are_none(toy):
    X, y, *_ = toy
    keep = y != "PAC"
    a = tiny().fit(X, y, sample_weight=np.where(keep, 2.0, 0.0))
    b = tiny().fit(X[keep], y[keep])
    assert list(a.classes_) == ["N", "PVC"] and np.array_equal(a.predict_proba(X), b.predict_proba(X))


def test_class_weight_helps_the_rare_class(toy):
    X, y, *_ = toy
    few = np.r_[np.flatnonzero(y == "N"), np.flatnonzero(y == "PVC")[:4]]
    plain, balanced = (tiny(max_epochs=6, class_weight=w).fit(X[few], y[few]) for w in (None, "balanced"))
    assert (balanced.predict(X) == "PVC").sum() > (plain.predict(X) == "PVC").sum()


def test_balanced_is_the_inverse_of_the_counts(toy):
    X, y, *_ = toy
    few = np.r_[np.flatnonzero(y == "N"), np.flatnonzero(y == "PVC")[:10]]  # 40 and 10
    a = tiny(class_weight="balanced").fit(X[few], y[few]).predict_proba(X)
    b = tiny(class_weight={"N": 1.0, "PVC": 4.0}).fit(X[few], y[few]).predict_proba(X)
    c = tiny().fit(X[few], y[few], sample_weight=np.where(y[few] == "N", 1.0, 4.0)).predict_proba(X)
    assert np.allclose(a, b, rtol=1e-4, atol=1e-5) and np.allclose(b, c, rtol=1e-4, atol=1e-5)


def test_balanced_counts_weights_not_rows(toy):
    X, y, *_ = toy
    few = np.r_[np.flatnonzero(y == "N"), np.flatnonzero(y == "PVC")[:10]]
    weight = np.where(y[few] == "N", 0.25, 1.0)  # ten by weight on either side: nothing is left to balance
    a = tiny(class_weight="balanced").fit(X[few], y[few], sample_weight=weight).predict_proba(X)
    b = tiny().fit(X[few], y[few], sample_weight=weight).predict_proba(X)
    assert np.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight", [np.full(120, -1.0), np.full(120, np.nan), np.zeros(120), np.ones(7)], ids=str)
def test_bad_sample_weights(toy, weight):
    with pytest.raises(ValueError, match=r"(?i)weight"):
        tiny().fit(*toy[:2], sample_weight=weight)


def test_class_weight_of_an_unknown_class(toy):
    with pytest.raises(ValueError, match="XX"):
        tiny(class_weight={"XX": 2.0}).fit(*toy[:2])


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_random_state_repeats_to_the_bit_whatever_the_global_generators(seeded, toy):
    X, y, *_ = toy
    settings = {"module__dropout": 0.3, "module__lstm": 3, "early_stopping": True, "augment": noise}
    a = tiny(**settings).fit(X, y)
    torch.rand(7), np.random.rand(5)  # noqa: NPY002 - global generators elsewhere than before
    b = clone(a).fit(X, y)
    states = a.module_.state_dict(), b.module_.state_dict()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert np.array_equal(a.predict_proba(X), b.predict_proba(X))
    other = clone(a).set_params(random_state=1).fit(X, y)
    assert not np.array_equal(a.predict_proba(X), other.predict_proba(X))


def test_random_state_instance_moves_on(toy):
    X, y, *_ = toy
    shared = np.random.RandomState(0)
    a, b = (tiny(random_state=shared, max_epochs=1).fit(X, y).predict_proba(X) for _ in range(2))
    again = np.random.RandomState(0)
    c = tiny(random_state=again, max_epochs=1).fit(X, y).predict_proba(X)
    assert not np.array_equal(a, b) and np.array_equal(a, c)


# --- training ---------------------------------------------------------------------------------------------------------


def noise(x, generator):
    return x + 0.05 * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def test_augment_sees_training_batches_alone(toy):
    X, y, groups, _ = toy
    seen = []

    def watch(x, generator):
        assert isinstance(x, torch.Tensor) and isinstance(generator, torch.Generator)
        seen.append(len(x))
        return x

    plain = tiny(max_epochs=3).fit(X, y)
    clf = tiny(max_epochs=3, augment=watch).fit(X, y)
    assert sum(seen) == 3 * 120 and np.array_equal(clf.predict_proba(X), plain.predict_proba(X))
    seen.clear()
    held = tiny(max_epochs=3, augment=watch, early_stopping=True).fit(X, y, groups=groups)
    assert sum(seen) == held.n_epochs_ * (120 - len(held.validation_indices_))
    assert not np.array_equal(tiny(max_epochs=3, augment=noise).fit(X, y).predict_proba(X), plain.predict_proba(X))


def test_a_last_lone_row_joins_the_batch_before_it(toy):
    X, y, *_ = toy
    seen = []
    tiny(max_epochs=1, augment=lambda x, generator: seen.append(len(x)) or x).fit(X[:65], y[:65])
    assert sorted(seen) == [32, 33]


def test_no_gradients_are_left_after_training(clf):
    assert all(p.grad is None for p in clf.module_.parameters())


def test_early_stopping_holds_out_whole_groups(toy):
    X, y, groups, _ = toy
    clf = tiny(early_stopping=True, n_iter_no_change=2, max_epochs=60, lr=0.05).fit(X, y, groups=groups)
    held = np.isin(np.arange(len(X)), clf.validation_indices_)
    assert 0.08 < held.mean() < 0.3 and not set(groups[held]) & set(groups[~held])
    assert set(y[~held]) == set(y) and clf.n_epochs_ < 60
    p = clf.predict_proba(X[held])[np.arange(held.sum()), np.searchsorted(clf.classes_, y[held])]
    losses = clf.history_[:, "valid_loss"]  # the weights are those of the best epoch
    assert np.isclose(-np.log(p).mean(), min(losses), rtol=1e-4)
    assert dict(clf.net_.callbacks_)["early_stopping"].best_model_weights_ is None


@pytest.mark.parametrize("state", range(6))
def test_early_stopping_never_holds_out_the_last_group_of_a_class(state):
    X, y, *_ = toy_ecg(60, n_timesteps=24)
    groups = np.arange(60) % 6
    y = np.where(y == "PAC", "N", y)
    y[groups == 3] = "PAC"  # one patient alone has it
    clf = tiny(early_stopping=True, max_epochs=1, validation_fraction=0.2, random_state=state)
    clf.fit(X, y, groups=groups)
    held = np.isin(np.arange(60), clf.validation_indices_)
    assert held.any() and not held[groups == 3].any() and not set(groups[held]) & set(groups[~held])


def test_early_stopping_without_groups_is_silent(toy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = tiny(early_stopping=True, max_epochs=2).fit(*toy[:2])
    assert 0 < len(clf.validation_indices_) < 40


def test_partial_fit_goes_on(toy):
    X, y, *_ = toy
    clf = tiny()
    for _ in range(3):
        clf.partial_fit(X, y, classes=np.unique(y))
    assert clf.n_epochs_ == 3 and list(clf.classes_) == ["N", "PAC", "PVC"]
    clf.partial_fit(X[y == "N"], y[y == "N"])  # a batch may lack classes
    assert clf.n_epochs_ == 4
    with pytest.raises(ValueError, match="not among the classes"):
        clf.partial_fit(X, np.full(len(X), "XX"))
    with pytest.raises(ValueError, match="classes"):
        clf.partial_fit(X, y, classes=["N", "PVC"])
    with pytest.raises(ValueError, match="60"):
        clf.partial_fit(X[..., :60], y)


def test_partial_fit_takes_weights(toy):
    X, y, *_ = toy
    keep, classes = y != "PAC", np.unique(y)
    a, b, c = tiny(), tiny(), tiny()
    for _ in range(2):
        a.partial_fit(X, y, classes=classes, sample_weight=np.where(keep, 2.0, 0.0))
        b.partial_fit(X[keep], y[keep], classes=classes)
        c.partial_fit(X, y, classes=classes)
    assert np.allclose(a.predict_proba(X), b.predict_proba(X), rtol=1e-4, atol=1e-6)
    assert not np.allclose(a.predict_proba(X), c.predict_proba(X), rtol=1e-2)


def test_warm_start_and_a_clean_second_fit(toy):
    X, y, *_ = toy
    warm = tiny(warm_start=True).fit(X, y)
    module = warm.module_
    warm.fit(X, y)
    assert warm.module_ is module and warm.n_epochs_ == 8
    cold = tiny().fit(X, y)
    first = cold.predict_proba(X)
    assert np.array_equal(cold.fit(X, y).predict_proba(X), first)
    assert cold.fit(X[:, :, :60], y).n_timesteps_ == 60  # nothing inferred survives into the next fit
    assert cold.fit(np.repeat(X, 2, 1), y).n_leads_ == 2


def test_callbacks_are_not_touched(toy):
    X, y, *_ = toy
    mine = EarlyStopping(patience=2, monitor="train_loss")
    before = dict(vars(mine))
    clf = tiny(callbacks=[mine]).fit(X, y)
    assert vars(mine) == before and vars(dict(clf.net_.callbacks_)["EarlyStopping"]) != before
    clone(clf).set_params(callbacks__EarlyStopping__patience=1).fit(X, y)
    scored = tiny(early_stopping=True, callbacks=[("f1", EpochScoring("f1_macro", lower_is_better=False))]).fit(X, y)
    assert "f1_macro" in scored.history_[0]


def test_fs_is_kept(toy):
    assert tiny(fs=360.0, max_epochs=1).fit(*toy[:2]).fs == 360.0 and tiny().fs is None


# --- inside scikit-learn ----------------------------------------------------------------------------------------------


def test_groups_are_routed_to_splitter_and_classifier(toy):
    X, y, groups, _ = toy
    with sklearn.config_context(enable_metadata_routing=True):
        clf = tiny(early_stopping=True, max_epochs=2).set_fit_request(groups=True)
        pipe = make_pipeline(FunctionTransformer(), clf)
        out = cross_validate(
            pipe,
            X,
            y,
            params={"groups": groups},
            cv=GroupKFold(3),
            return_estimator=True,
            return_indices=True,
            error_score="raise",
        )
        for fitted, train in zip(out["estimator"], out["indices"]["train"], strict=True):
            held = np.isin(np.arange(len(train)), fitted[-1].validation_indices_)
            assert held.any() and not set(groups[train][held]) & set(groups[train][~held])
        search = GridSearchCV(pipe, {"ecgclassifier__module__width": [2, 3]}, cv=GroupKFold(2), error_score="raise")
        search.fit(X, y, groups=groups)
        held = np.isin(np.arange(len(X)), search.best_estimator_[-1].validation_indices_)
        assert held.any() and not set(groups[held]) & set(groups[~held])


def test_groups_reach_fit_without_routing(toy):
    X, y, groups, _ = toy
    plain = tiny(early_stopping=True, max_epochs=2)
    out = cross_validate(
        plain,
        X,
        y,
        params={"groups": groups},
        cv=3,
        return_estimator=True,
        return_indices=True,
        error_score="raise",
    )
    for fitted, train in zip(out["estimator"], out["indices"]["train"], strict=True):
        held = np.isin(np.arange(len(train)), fitted.validation_indices_)
        assert held.any() and not set(groups[train][held]) & set(groups[train][~held])
    pipe = make_pipeline(FunctionTransformer(), plain).fit(X, y, ecgclassifier__groups=groups)
    held = np.isin(np.arange(len(X)), pipe[-1].validation_indices_)
    assert held.any() and not set(groups[held]) & set(groups[~held])
    assert np.isfinite(cross_val_score(plain, X, y, groups=groups, cv=GroupKFold(2), error_score="raise")).all()


def test_grid_search_over_modules_and_their_parameters(toy):
    X, y, *_ = toy
    grid = [
        {"module": [TinyNet], "module__width": [2, 4], "optimizer__weight_decay": [0, 1e-2]},
        {"module": [BraindecodeNet]},
    ]
    base = ECGClassifier(lr=0.01, max_epochs=1, random_state=0)
    search = GridSearchCV(base, grid, cv=StratifiedKFold(2), error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 5 and "module__width" not in base.get_params()
    assert search.predict(X).shape == (120,)


def test_grid_search_over_the_width_of_ecgnet():
    X, y, *_ = toy_ecg(24, n_timesteps=64)
    base = ECGClassifier("ECGNet", max_epochs=1, random_state=0)
    search = GridSearchCV(base, {"module__width": [1, 2]}, cv=2, error_score="raise").fit(X, y)
    assert search.best_estimator_.module_ is not None and set(search.cv_results_["param_module__width"]) == {1, 2}


def test_two_processes_give_what_one_gives(toy):
    X, y, *_ = toy
    scores = [
        GridSearchCV(tiny(max_epochs=2), {"module__width": [2, 4]}, cv=2, error_score="raise", n_jobs=n).fit(X, y)
        for n in (None, 2)
    ]
    one, two = (s.cv_results_["mean_test_score"] for s in scores)
    assert np.array_equal(one, two)
    assert np.array_equal(scores[0].predict_proba(X), scores[1].predict_proba(X))


# --- persistence ------------------------------------------------------------------------------------------------------


def test_pickle_and_joblib_round_trips(toy, tmp_path):
    X, y, *_ = toy
    clf = tiny(early_stopping=True, module__lstm=3).fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    assert np.array_equal(clf.predict_proba(X), again.predict_proba(X)) and len(again.history_) == clf.n_epochs_
    joblib.dump(clf, tmp_path / "clf.joblib")
    loaded = joblib.load(tmp_path / "clf.joblib")
    assert np.array_equal(clf.predict_proba(X), loaded.predict_proba(X))
    loaded.partial_fit(X, y)
    assert loaded.n_epochs_ == clf.n_epochs_ + 1
    assert np.array_equal(clf.predict_proba(X), again.predict_proba(X))  # apart from each other


def test_a_pickle_does_not_hold_the_training_data(toy):
    X, y, *_ = toy
    small = len(pickle.dumps(tiny(early_stopping=True, max_epochs=1).fit(X[:60], y[:60])))
    large = len(pickle.dumps(tiny(early_stopping=True, max_epochs=1).fit(np.tile(X, (4, 1, 1)), np.tile(y, 4))))
    assert large - small < 20_000  # 200 kB of windows more


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what a machine without a GPU does with a net from one")
def test_a_net_from_a_lost_gpu_is_loaded(toy):
    X, y, *_ = toy
    clf = tiny().fit(X, y)
    clf.net_.device = "cuda"  # what a net trained on a GPU says of itself
    buffer = io.BytesIO(pickle.dumps(clf))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        moved = pickle.load(buffer)
    assert str(moved.device_) == "cpu"
    assert np.array_equal(moved.predict_proba(X), tiny().fit(X, y).predict_proba(X))
    moved.partial_fit(X, y)


def test_clone_drops_the_fit(clf):
    again = clone(clf)
    assert not hasattr(again, "net_") and again.get_params()["module__width"] == 4
