"""The authors' training settings: ECGClassifier takes them all, and they do what they say."""

import itertools

import numpy as np
import pytest
import torch

from skecg.classifiers import ECGClassifier
from skecg.models import (
    HANNUN_2019,
    MURUGESAN_2018,
    MURUGESAN_2018_LSTM,
    ZIHLMANN_2017,
    HannunNet,
    hannun_callbacks,
    zihlmann_class_weight,
)
from tests.tiny import TinyNet, toy_ecg


@pytest.mark.parametrize(
    "name, settings, width",
    [
        ("ECGNet", MURUGESAN_2018, 1),
        ("ECGLSTM", MURUGESAN_2018_LSTM, 4),
        ("HannunNet", HANNUN_2019, 1),
        ("ZihlmannCNN", ZIHLMANN_2017, 1),
        ("ZihlmannCRNN", ZIHLMANN_2017, 1),
    ],
)
def test_each_network_trains_by_its_name_with_its_settings(name, settings, width):
    X, y, _, _ = toy_ecg(30)
    clf = ECGClassifier(name, **{**settings, "max_epochs": 1}, module__width=width, random_state=0).fit(X, y)
    assert type(clf.module_).__name__ == name and clf.n_epochs_ == 1
    assert type(clf.net_.optimizer_) is settings["optimizer"]
    assert clf.net_.optimizer_.param_groups[0]["lr"] == settings["lr"]
    assert np.allclose(clf.predict_proba(X).sum(1), 1)


def test_every_rule_to_one_label_is_taken_as_logits():
    X, y, _, _ = toy_ecg(20, n_timesteps=600)
    for rule in ("mean", "logmeanexp"):
        clf = ECGClassifier("HannunNet", module__width=1, module__reduce=rule, max_epochs=1, random_state=0).fit(X, y)
        assert clf.predict(X).shape == y.shape
    with pytest.raises(ValueError, match=r"logits of shape"):
        ECGClassifier("HannunNet", module__width=1, module__reduce="none", max_epochs=1).fit(X, y)


def test_callbacks_clip_the_norm_over_all_gradients():
    clipping = dict(hannun_callbacks())["clipping"]
    parameters = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))]
    for parameter, value in zip(parameters, (3.0, 4.0), strict=True):
        parameter.grad = torch.full_like(parameter, value)
    clipping.on_grad_computed(None, named_parameters=[("a", parameters[0]), ("b", parameters[1])])
    norm = (3 * 3.0**2 + 2 * 4.0**2) ** 0.5
    assert torch.allclose(parameters[0].grad, torch.full((3,), 3 / norm), rtol=1e-4)
    assert torch.allclose(parameters[1].grad, torch.full((2,), 4 / norm), rtol=1e-4)


class StandsStill(torch.optim.Adam):
    """Adam that takes no step, so that no epoch is better than the first."""

    def step(self, closure=None):
        return None if closure is None else closure()


def test_learning_rate_falls_on_a_plateau_to_its_floor():
    X, y, _, _ = toy_ecg(60)
    settings = {**HANNUN_2019, "max_epochs": 16, "n_iter_no_change": 100, "optimizer": StandsStill}
    clf = ECGClassifier(TinyNet, **settings, callbacks=hannun_callbacks(), module__width=2, random_state=0).fit(X, y)
    rates = [row["event_lr"] for row in clf.history_]
    assert rates[0] == 1e-3 and rates[-1] == pytest.approx(1e-6)
    falls = [later / earlier for earlier, later in itertools.pairwise(rates) if later != earlier]
    assert falls == pytest.approx([0.1] * 3)


def test_callbacks_are_new_each_time():
    first, second = dict(hannun_callbacks()), dict(hannun_callbacks())
    assert first.keys() == second.keys() and all(first[name] is not second[name] for name in first)


def test_class_weights_stand_between_equal_and_inverse():
    y = np.repeat(["N", "PVC", "LBBB"], [80, 15, 5])
    weight = zihlmann_class_weight(y)
    # (1 - c) + c * 100 / percent with c = 0.2
    assert weight == pytest.approx({"N": 0.8 + 20 / 80, "PVC": 0.8 + 20 / 15, "LBBB": 0.8 + 20 / 5})
    assert set(zihlmann_class_weight(y, share=0.0).values()) == {1.0}
    inverse = zihlmann_class_weight(y, share=1.0)
    assert sum(inverse[label] for label in y) == pytest.approx(3 * 100)
    X, y, _, _ = toy_ecg(30)
    weight = zihlmann_class_weight(y)
    ECGClassifier(TinyNet, max_epochs=1, class_weight=weight, module__width=2, random_state=0).fit(X, y)


@pytest.mark.parametrize("y, share, match", [([], 0.2, "one label"), ([[0, 1]], 0.2, "one label"), (["N"], 2, "share")])
def test_bad_class_weights_are_refused(y, share, match):
    with pytest.raises(ValueError, match=match):
        zihlmann_class_weight(y, share)


def test_settings_are_parameters_of_the_classifier():
    for settings in (MURUGESAN_2018, MURUGESAN_2018_LSTM, HANNUN_2019, ZIHLMANN_2017):
        given = ECGClassifier(HannunNet, **settings).get_params(deep=False)
        assert {name: given[name] for name in settings} == settings
