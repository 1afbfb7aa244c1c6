"""ECGClassifier: arrays, parameters, labels, probabilities, thresholds, multi-label."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skecg.classifiers import ECGClassifier
from tests.tiny import FAST, BraindecodeNet, LinearNet, TinyNet, same_snapshot, snapshot, toy_ecg


def tiny(**settings):
    return ECGClassifier(**{"module": TinyNet, **FAST, **settings})


def noise(x, generator):
    return x + 0.05 * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


@pytest.fixture(scope="module")
def toy():
    return toy_ecg()


@pytest.fixture(scope="module")
def clf(toy):
    return tiny(max_epochs=12).fit(*toy[:2])


@pytest.fixture(scope="module")
def binary(toy):
    X, y, *_ = toy
    keep = y != "PAC"
    return tiny().fit(X[keep], y[keep])


# --- arrays -----------------------------------------------------------------------------------------------------------


def test_learns_and_describes_itself(toy, clf):
    X, y, *_ = toy
    assert clf.score(X, y) > 0.9
    assert list(clf.classes_) == ["N", "PAC", "PVC"] and clf.multilabel_ is False
    assert (clf.n_leads_, clf.n_timesteps_, clf.n_outputs_, clf.n_features_in_) == (1, 120, 3, 120)
    assert clf.n_epochs_ == len(clf.history_) == 12
    assert clf.module_ is clf.net_.module_ and isinstance(clf.module_, TinyNet)
    assert str(clf.device_) in ("cpu", "cuda", "mps") and clf.history_[-1]["train_loss"] < clf.history_[0]["train_loss"]
    assert set(clf.predict(X)) <= set(y)


def test_2d_is_one_lead(toy):
    X, y, *_ = toy
    a, b = tiny().fit(X, y), tiny().fit(X[:, 0], y)
    for method in ("predict", "predict_proba", "decision_function"):
        at_3d, at_2d = getattr(a, method)(X), getattr(b, method)(X[:, 0])
        assert np.array_equal(at_3d, at_2d) and np.array_equal(getattr(a, method)(X[:, 0]), at_3d)
        assert np.array_equal(getattr(b, method)(X), at_3d)
    assert a.n_features_in_ == b.n_features_in_ == 120 and a.n_leads_ == b.n_leads_ == 1


def test_leads_are_features_too():
    X, y, *_ = toy_ecg(60, n_leads=3)
    clf = tiny(max_epochs=1).fit(X, y)
    assert (clf.n_leads_, clf.n_timesteps_, clf.n_features_in_) == (3, 120, 360)


def test_feature_names_of_a_data_frame(toy):
    X, y, *_ = toy
    frame = pd.DataFrame(X[:, 0], columns=[f"t{i}" for i in range(120)])
    clf = tiny(max_epochs=1).fit(frame, y)
    assert list(clf.feature_names_in_) == list(frame.columns)
    assert np.array_equal(clf.predict_proba(frame), tiny(max_epochs=1).fit(X, y).predict_proba(X))


def test_input_is_not_changed(toy):
    X, y = toy[0].copy(), toy[1].copy()
    before = X.copy(), y.copy()
    X.flags.writeable = y.flags.writeable = False
    tiny(max_epochs=1, augment=noise).fit(X, y).predict(X)
    assert np.array_equal(X, before[0]) and np.array_equal(y, before[1])


@pytest.mark.parametrize(
    "bad, message",
    [
        (np.zeros((5, 2, 120)), "2 leads of 120 timesteps.* fitted with 1 lead"),
        (np.zeros((5, 1, 99)), "99 timesteps.* 120"),
        (np.zeros((5, 99)), "X has 99 features, but ECGClassifier is expecting 120 features"),
        (np.zeros((5, 120, 1)), "swapped"),
        (np.zeros(120), "Expected 2D array"),
        (np.zeros((2, 1, 1, 120)), "got 4-D"),
        (np.full((2, 120), np.nan), "NaN"),
        (np.full((2, 1, 120), np.inf), "infinity"),
        (np.full((2, 120), 1e300), "infinity or a value too large"),
        (np.zeros((0, 120)), "0 sample"),
        (np.zeros((0, 1, 120)), "0 sample"),
        (np.zeros((3, 1, 0)), "0 leads or timesteps"),
        (np.zeros((3, 0, 120)), "0 leads or timesteps"),
    ],
    ids=lambda value: str(value.shape) if isinstance(value, np.ndarray) else None,
)
def test_bad_x_is_named(clf, bad, message):
    for method in (clf.predict, clf.predict_proba, clf.decision_function):
        with pytest.raises(ValueError, match=f"(?s){message}"):
            method(bad)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((9,), "Expected 2D array"),
        ((9, 1, 1, 120), "4-D"),
        ((0, 1, 120), "0 sample"),
        ((9, 0, 120), "0 leads or timesteps"),
        ((9, 1, 0), "0 leads or timesteps"),
        ((9, 720, 1), "swapped"),
        ((9, 5000, 12), "swapped"),
    ],
    ids=str,
)
def test_bad_shape_in_fit_is_named(shape, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        tiny(max_epochs=1).fit(np.zeros(shape, np.float32), np.arange(shape[0]) % 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_in_fit_is_named(toy, value):
    X = toy[0].copy()
    X[3, 0, 5] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        tiny().fit(X, toy[1])


def test_objects_are_a_type_error(toy, clf):
    with pytest.raises(TypeError, match=r"must be a string or a .*number"):
        tiny().fit(np.full((4, 9), {}), toy[1][:4])
    bad = toy[0].astype(object)
    bad[0, 0, 0] = {}
    with pytest.raises(TypeError):
        clf.predict(bad)


def test_two_leads_are_not_read_from_a_flat_array(toy):
    X, y, *_ = toy
    with pytest.raises(ValueError, match=r"2-D, which means one lead, but .* 2 leads"):
        tiny(max_epochs=1).fit(np.repeat(X, 2, 1), y).predict(X[:, 0])


def test_not_fitted(toy):
    for method in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(tiny(), method)(toy[0])


# --- parameters -------------------------------------------------------------------------------------------------------


def test_unknown_parameters_are_named(toy):
    X, y, *_ = toy
    with pytest.raises(TypeError, match="max_epoch"):
        ECGClassifier(max_epoch=3)
    with pytest.raises(TypeError, match="modul__width"):
        ECGClassifier(modul__width=3)
    with pytest.raises(ValueError, match="Invalid parameter 'widht'"):
        ECGClassifier().set_params(widht=3)
    script = {"module__');alert(1);('": 1}  # notebooks show names inside of a script
    with pytest.raises(TypeError, match=r"cannot have parameters .*alert"):
        ECGClassifier(**script)
    clf = ECGClassifier()
    with pytest.raises(ValueError, match=r"cannot have parameters .*alert"):
        clf.set_params(lr=1.0, **script)
    assert clf.lr == 1e-3  # nothing was set
    with pytest.raises(ValueError, match=r"(?s)widht.*width"):  # with the valid names
        ECGClassifier(TinyNet, module__widht=3, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"(?s)widht.*width"):
        ECGClassifier("ECGNet", module__widht=3, random_state=0).fit(X, y)
    with pytest.raises((TypeError, ValueError), match="weight_decai"):
        tiny(optimizer__weight_decai=3).fit(X, y)


@pytest.mark.parametrize(
    "name, value",
    [
        ("max_epochs", 0),
        ("max_epochs", 2.5),
        ("batch_size", 0),
        ("lr", -1.0),
        ("lr", np.nan),
        ("validation_fraction", 0.0),
        ("validation_fraction", 1.0),
        ("n_iter_no_change", 0),
        ("threshold", 1.5),
        ("threshold", -0.1),
        ("threshold", [0.5, 0.5]),
        ("fs", 0.0),
        ("fs", -360.0),
        ("fs", np.nan),
        ("class_weight", "balance"),
        ("device", "nope"),
        ("module", "NoNet"),
    ],
)
def test_bad_parameters_are_named(toy, name, value):
    X, y, *_ = toy
    keep = y != "PAC"
    with pytest.raises(ValueError, match=name):
        tiny(**{"early_stopping": True, "max_epochs": 1, name: value}).fit(X[keep], y[keep])


def test_modules_are_listed_when_one_is_unknown(toy):
    with pytest.raises(ValueError, match="ECGNet"):
        ECGClassifier("NoNet", random_state=0).fit(*toy[:2])


def test_network_must_return_logits_of_the_right_shape(toy):
    X, y, *_ = toy
    wrong = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.utils.skip_init(torch.nn.Linear, 120, 7))
    torch.nn.init.zeros_(wrong[1].weight), torch.nn.init.zeros_(wrong[1].bias)
    epochs = []
    with pytest.raises(ValueError, match=r"(?s)logits.*7"):
        ECGClassifier(wrong, random_state=0, augment=lambda x, generator: epochs.append(1) or x).fit(X, y)
    assert not epochs  # before the first batch


def test_probabilities_are_not_logits(toy):
    X, y, *_ = toy
    net = torch.nn.Sequential(LinearNet(np.zeros((3, 1, 120)), np.zeros(3)), torch.nn.Softmax(1))
    with pytest.raises(ValueError, match="logits"):
        ECGClassifier(net, random_state=0).fit(X, y)


def test_double_underscores_in_params_clone_and_repr():
    base = tiny()
    assert base.get_params()["module__width"] == 4 and "module__dropout" not in base.get_params()
    assert "module__width" in base.get_params(deep=False)
    base.set_params(module__width=7, optimizer__weight_decay=0.1)
    again = clone(base)
    assert again.get_params()["module__width"] == 7 and again.get_params()["optimizer__weight_decay"] == 0.1
    assert "module__width=7" in repr(base) and "module__width" in base._repr_html_()


def test_module_by_name_class_factory_and_instance(toy):
    X, y, *_ = toy[0][:48], toy[1][:48]
    a = ECGClassifier("ECGNet", module__width=1, max_epochs=1, random_state=0).fit(X, y)
    assert type(a.module_).__name__ == "ECGNet" and a.predict_proba(X).shape == (48, 3)

    def factory(n_leads, n_timesteps, n_outputs, width=2):
        return TinyNet(n_leads, n_timesteps, n_outputs, width=width)

    b = ECGClassifier(factory, max_epochs=1, random_state=0).fit(X, y)
    c = tiny(module__width=2, lr=1e-3, batch_size=64, max_epochs=1).fit(X, y)
    assert np.array_equal(b.predict_proba(X), c.predict_proba(X))
    d = ECGClassifier(BraindecodeNet, max_epochs=1, random_state=0).fit(X, y)
    assert d.predict_proba(X).shape == (48, 3)
    with pytest.raises(ValueError, match="logits"):  # the user's own module__* wins, and is wrong here
        ECGClassifier(TinyNet, module__n_outputs=5, max_epochs=1, random_state=0).fit(X, y)


def test_module_instance_is_not_trained(seeded, toy):
    net = TinyNet(1, 120, 3)
    before = snapshot(net)
    clf = ECGClassifier(net, lr=0.1, max_epochs=2, random_state=0).fit(*toy[:2])
    assert same_snapshot(before, snapshot(net)) and clf.module_ is not net
    assert not torch.equal(clf.module_.head.weight, net.head.weight)


def test_other_length_than_built_for_is_a_value_error_where_it_is_flattened(seeded, toy):
    net = BraindecodeNet(1, 99, 3)
    with pytest.raises(ValueError, match="120"):
        ECGClassifier(net, max_epochs=1, random_state=0).fit(*toy[:2])


def test_criterion_and_optimizer_parameters_reach_the_training(toy):
    X, y, *_ = toy
    plain = tiny().fit(X, y).predict_proba(X)
    smooth = tiny(criterion=torch.nn.CrossEntropyLoss, criterion__label_smoothing=0.5).fit(X, y).predict_proba(X)
    decay = tiny(optimizer__weight_decay=1.0).fit(X, y).predict_proba(X)
    sgd = tiny(optimizer=torch.optim.SGD, optimizer__momentum=0.9).fit(X, y).predict_proba(X)
    assert np.array_equal(tiny(criterion=torch.nn.CrossEntropyLoss).fit(X, y).predict_proba(X), plain)
    assert not any(np.allclose(plain, other) for other in (smooth, decay, sgd))


def test_nothing_is_printed_and_progress_is_asked_for(toy, capfd):
    tiny(max_epochs=2).fit(*toy[:2]).predict(toy[0])
    assert capfd.readouterr() == ("", "")
    tiny(max_epochs=2, verbose=1).fit(*toy[:2])
    out, err = capfd.readouterr()
    assert out == "" and err


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [np.array([10, 20, -3]), np.array([1.0, 2.0, 7.0]), np.array(["c", "a", "b"])])
def test_labels_of_any_sortable_type(toy, names):
    X, y, *_ = toy
    labels = names[np.searchsorted(np.unique(y), y)]
    clf = tiny(max_epochs=8).fit(X, labels)
    assert np.array_equal(clf.classes_, np.sort(names)) and clf.predict(X).dtype == labels.dtype
    assert clf.score(X, labels) > 0.8


def test_boolean_labels(toy):
    X, y, *_ = toy
    clf = tiny(max_epochs=8).fit(X, y == "PVC")
    assert clf.predict(X).dtype == bool and clf.score(X, y == "PVC") > 0.8


def test_bad_labels(toy):
    X, y, groups, _ = toy
    with pytest.raises(ValueError, match=r"1 class.*'N'|class.*N"):
        tiny().fit(X[y == "N"], y[y == "N"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        tiny().fit(X, y[:-1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        tiny().fit(X, y, groups=groups[:-1])
    with pytest.raises(ValueError, match="labels"):
        tiny(labels=["N", "PVC", "PAC"]).fit(X, y)
    with pytest.raises(ValueError, match=r"continuous|Unknown label type"):
        tiny().fit(X, np.linspace(0, 1, len(X)))
    with pytest.raises(ValueError, match="NaN"):
        tiny().fit(X, np.where(y == "N", np.nan, 1.0))


def test_probabilities_and_logits(toy, clf, binary):
    X, *_ = toy
    p, z = clf.predict_proba(X), clf.decision_function(X)
    assert p.dtype == np.float64 and p.shape == z.shape == (120, 3)
    assert np.allclose(p.sum(1), 1, rtol=0, atol=1e-12)
    e = np.exp(z - z.max(1, keepdims=True))
    assert np.allclose(p, e / e.sum(1, keepdims=True), rtol=1e-5, atol=1e-7)
    assert np.array_equal(clf.predict(X), clf.classes_[p.argmax(1)])
    two, margin = binary.predict_proba(X), binary.decision_function(X)
    assert margin.shape == (120,) and np.allclose(two[:, 1], 1 / (1 + np.exp(-margin)), rtol=1e-5, atol=1e-7)


def test_decision_function_is_the_networks_logits(toy, clf):
    with torch.no_grad():
        want = clf.module_.eval()(torch.from_numpy(toy[0])).numpy()
    assert np.allclose(clf.decision_function(toy[0]), want, rtol=1e-5, atol=1e-5)


def test_threshold_serves_two_classes(toy, binary):
    X, *_ = toy
    second = binary.predict_proba(X)[:, 1]
    cut = float(np.sort(second)[30:32].mean())
    clf = pickle.loads(pickle.dumps(binary))
    for threshold in (0.5, cut):
        clf.set_params(threshold=threshold)
        assert np.array_equal(clf.predict(X) == clf.classes_[1], second > threshold)
    assert (clf.predict(X) == clf.classes_[1]).sum() == 120 - 31


def test_threshold_with_more_classes_is_refused(toy):
    with pytest.raises(ValueError, match="threshold"):
        tiny(threshold=0.4).fit(*toy[:2])
    with pytest.raises(ValueError, match="threshold"):
        tiny(max_epochs=1).fit(*toy[:2]).set_params(threshold=0.4).predict(toy[0])


@pytest.fixture(scope="module")
def two_labels(toy):
    y = toy[1]
    return pd.DataFrame({"AF": (y != "N").astype(int), "LBBB": (y == "PVC").astype(int)})


def test_multilabel(toy, two_labels):
    X, _, groups, _ = toy
    clf = tiny(class_weight="balanced", early_stopping=True, max_epochs=20, lr=0.03).fit(X, two_labels, groups=groups)
    assert list(clf.classes_) == ["AF", "LBBB"] and clf.multilabel_ is True and clf.n_outputs_ == 2
    p, z = clf.predict_proba(X), clf.decision_function(X)
    assert p.shape == z.shape == (120, 2) and p.dtype == np.float64
    assert np.allclose(p, 1 / (1 + np.exp(-z)), rtol=1e-5, atol=1e-7)  # a sigmoid each
    assert np.array_equal(clf.predict(X), (p > 0.5).astype(int)) and clf.score(X, two_labels.to_numpy()) > 0.6
    clf.set_params(threshold=[0.0, 1.0])
    assert clf.predict(X).mean(0).tolist() == [1, 0]
    for bad in ([0.5], [0.5, 0.5, 0.5], [0.5, 2.0]):
        with pytest.raises(ValueError, match="threshold"):
            clf.set_params(threshold=bad).predict(X)


def test_multilabel_names(toy, two_labels):
    X, Y = toy[0], two_labels.to_numpy()
    assert list(tiny(max_epochs=1, labels=["x", "y"]).fit(X, Y).classes_) == ["x", "y"]
    with pytest.raises(ValueError, match="labels"):
        tiny(labels=["x", "y", "z"]).fit(X, Y)
    with pytest.raises(ValueError, match="labels"):
        tiny(labels=["x", "x"]).fit(X, Y)
    a = tiny().fit(X, Y)
    b = tiny().fit(X, two_labels)
    assert np.array_equal(a.predict_proba(X), b.predict_proba(X))


NOT_INDICATORS = {"0 1 2": lambda Y: Y + Y[:, :1], "0 3": lambda Y: Y * 3, "0 .5": lambda Y: Y * 0.5}


@pytest.mark.parametrize("change", NOT_INDICATORS)
def test_multilabel_needs_indicators(toy, two_labels, change):
    with pytest.raises(ValueError, match=r"y|label"):
        tiny().fit(toy[0], NOT_INDICATORS[change](two_labels.to_numpy()))
