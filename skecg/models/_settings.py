"""The training settings of the networks' authors, as parameters of ECGClassifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

MURUGESAN_2018 = {"optimizer": torch.optim.SGD, "lr": 0.01, "batch_size": 8, "max_epochs": 50}
"""ECGNet as its authors' program trains it: plain gradient descent. What Vijayarangan et al. 2020 used is unknown."""

MURUGESAN_2018_LSTM = {**MURUGESAN_2018, "batch_size": 4}
"""ECGLSTM as its authors' program trains it."""

HANNUN_2019 = {
    "optimizer": torch.optim.Adam,
    "optimizer__eps": 1e-7,
    "lr": 1e-3,
    "batch_size": 128,
    "max_epochs": 100,
    "early_stopping": True,
    "n_iter_no_change": 8,
    "validation_fraction": 0.1,
}
"""HannunNet as its authors' program trains it on the iRhythm data, with ``hannun_callbacks()`` as ``callbacks``.

On CinC 2017 the batch is of 32. ``eps`` is not in their program; it is taken from Keras' defaults. They train on a
label at every 256 samples, and standardise the input by one mean and one standard deviation of all training records."""

ZIHLMANN_2017 = {"optimizer": torch.optim.Adam, "lr": 1e-3, "batch_size": 20, "max_epochs": 500}
"""ZihlmannCNN as its authors' program trains it, with ``zihlmann_class_weight(y)`` as ``class_weight``.

The program also repeats rare classes, stops by F1 (after 300 epochs, when 100 brought nothing), and disturbs the
signal with dropout bursts and random resampling. ZihlmannCRNN goes on from the convolutions of 500 epochs: the LSTMs
alone for 100 epochs, all for 600."""

RIBEIRO_2020 = {
    "optimizer": torch.optim.Adam,
    "optimizer__eps": 1e-7,
    "lr": 1e-3,
    "batch_size": 64,
    "max_epochs": 70,
    "early_stopping": True,
    "n_iter_no_change": 9,
    "callbacks__early_stopping__threshold": 1e-5,
    "callbacks__early_stopping__threshold_mode": "abs",
    "validation_fraction": 0.02,
}
"""RibeiroNet as its authors' program trains it, with ``ribeiro_callbacks()`` as ``callbacks``.

``eps`` is not in their program; it is taken from Keras' defaults. The last 2 % of their file validate; here the
patients that ``random_state`` draws. No class weights, and nothing is done to the signal."""

RIBEIRO_LABELS = ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")
"""The six outputs of RibeiroNet as published, in their order.

First-degree atrioventricular block, right and left bundle branch block, sinus bradycardia, atrial fibrillation, sinus
tachycardia; any number of them at a time."""

RIBEIRO_THRESHOLDS = (0.124, 0.07, 0.05, 0.278, 0.390, 0.174)
"""The published thresholds on the probabilities, in the order of RIBEIRO_LABELS.

They belong to one of the authors' ten seeds, ``other_seeds/model_1.hdf5``. ``model.hdf5`` is another seed, at which the
same thresholds give lower F1 scores on the authors' 827 test records; a network that was trained elsewhere needs
thresholds of its own, such as scikit-learn's TunedThresholdClassifierCV finds label by label."""


def hannun_callbacks() -> list[tuple[str, Any]]:
    """Return skorch callbacks for what HANNUN_2019 cannot say: gradients clipped, learning rate cut on a plateau.

    The norm over all gradients together is clipped to 1; that the authors' version of Keras meant this norm, and not
    that of each gradient, was not verified. The learning rate is divided by 10 where the validation loss has not
    fallen for more than two epochs, down to 1e-6; that needs ``early_stopping=True``.

    Returns
    -------
    callbacks : list of (str, skorch.callbacks.Callback)
        New objects, for the ``callbacks`` of an ECGClassifier.

    Examples
    --------
    >>> from skecg.classifiers import ECGClassifier
    >>> from skecg.models import HANNUN_2019, hannun_callbacks
    >>> clf = ECGClassifier("HannunNet", **HANNUN_2019, callbacks=hannun_callbacks())
    """
    from skorch.callbacks import GradientNormClipping, LRScheduler

    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    return [
        ("clipping", GradientNormClipping(1.0)),
        ("plateau", LRScheduler(plateau, monitor="valid_loss", factor=0.1, patience=2, min_lr=1e-6)),
    ]


def ribeiro_callbacks() -> list[tuple[str, Any]]:
    """Return skorch callbacks for what RIBEIRO_2020 cannot say: the learning rate cut on a plateau.

    It is divided by 10 where the validation loss has not fallen by 1e-4 for seven epochs, down to 1e-5; that needs
    ``early_stopping=True``. The step of 1e-4 is Keras' default.

    Returns
    -------
    callbacks : list of (str, skorch.callbacks.Callback)
        New objects, for the ``callbacks`` of an ECGClassifier.

    Examples
    --------
    >>> from skecg.classifiers import ECGClassifier
    >>> from skecg.models import RIBEIRO_2020, ribeiro_callbacks
    >>> clf = ECGClassifier("RibeiroNet", **RIBEIRO_2020, callbacks=ribeiro_callbacks())
    """
    from skorch.callbacks import LRScheduler

    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    # torch cuts after more than `patience` epochs, Keras after as many
    limits = {"factor": 0.1, "patience": 6, "min_lr": 1e-5, "threshold": 1e-4, "threshold_mode": "abs"}
    return [("plateau", LRScheduler(plateau, monitor="valid_loss", **limits))]


def zihlmann_class_weight(y: Any, share: float = 0.2) -> dict[Any, float]:
    """Return the class weights of Zihlmann et al.: between one each and the inverse of each class's frequency.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of the training windows.
    share : float, default=0.2
        How far towards the inverse frequency, 0 to 1; the authors' value.

    Returns
    -------
    class_weight : dict
        ``1 - share + share / frequency`` for each label, for the ``class_weight`` of an ECGClassifier.

    Raises
    ------
    ValueError
        For y that is not one label a window, or a share outside [0, 1].

    Examples
    --------
    >>> from skecg.models import zihlmann_class_weight
    >>> zihlmann_class_weight(["N", "N", "N", "PVC"], share=0.5)["PVC"]
    2.5
    """
    y = np.asarray(y)
    if y.ndim != 1 or not len(y):
        raise ValueError(f"y must hold one label a window, of shape (n_samples,); got shape {y.shape}")
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, got {share!r}")
    labels, counts = np.unique(y, return_counts=True)
    weights = 1 - share + share * len(y) / counts
    return dict(zip(labels.tolist(), weights.tolist(), strict=True))
