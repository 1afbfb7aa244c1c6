"""ECGClassifier: a scikit-learn classifier that owns a skorch net (``net_``), rather than being one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted, column_or_1d

from ..utils._batching import map_batches
from ..utils._docs import fill_doc
from ..utils._random import isolated_rng
from ..utils._twin import plain_torch, private_twin
from ..utils._validation import check_ecg, check_number, check_weights, draw_seed
from ._build import build_net, take_up
from ._callbacks import Interrupted, WatchedFitMixin
from ._checkpoints import Checkpoints, fit_digest
from ._modules import check_logits
from ._parameters import PartsMixin, restored_on_error
from ._split import validation_split
from ._targets import check_target, decision_cut, encode, find_classes
from ._training import ECGDataset, TrainingNet, check_stored, resolve_device
from ._weights import loss_weights


@fill_doc
class ECGClassifier(WatchedFitMixin, ClassifierMixin, PartsMixin, BaseEstimator):
    """Train a network on ECG windows, as a scikit-learn classifier.

    The network is torch's, its training skorch's, the interface scikit-learn's: pipelines, cross-validation, grid
    search over ``module``, ``module__width`` or ``optimizer__weight_decay``, ``clone`` and pickle work as with any
    classifier. X is (n_samples, n_leads, n_timesteps), or (n_samples, n_timesteps) for one lead, in mV. A memory-mapped
    or zarr X, or :class:`~skecg.datasets.StoredWindows`, stays on disk: batches of it are read.

    Parameters
    ----------
    module : str, class, callable or torch.nn.Module, default="ECGNet"
        The network: the name of one in :mod:`skecg.models`, a torch module class, a factory, or an instance (copied,
        and trained on from its weights). It is built with ``n_leads``, ``n_timesteps`` and ``n_outputs`` (or
        braindecode's ``n_chans``, ``n_times``) as its signature names them, and must return **logits** of shape
        (n_samples, n_outputs).
    fs : float, default=None
        Sampling rate, Hz. Kept for explainers and scores that measure in seconds.
    labels : sequence of str, default=None
        Names of the columns of a multi-label y; None takes a data frame's columns, or 0, 1, ...
    augment : callable, default=None
        ``augment(x, generator) -> x`` on training batches alone; x is a float32 tensor (n, n_leads, n_timesteps),
        the generator a seeded ``torch.Generator``.
    criterion : class, default=None
        Loss on logits, built with ``reduction="none"``; None takes ``CrossEntropyLoss``, for multi-label y
        ``BCEWithLogitsLoss``.
    optimizer : class, default=torch.optim.Adam
        The optimiser.
    lr : float, default=1e-3
        Learning rate.
    batch_size : int, default=64
        Windows in a training batch and in a prediction pass.
    max_epochs : int, default=30
        Passes over the training windows.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class (multi-label: of each label's positive rows), normalised over the training set.
    early_stopping : bool, default=False
        Hold out ``validation_fraction`` of the rows, stop when their loss has not fallen for ``n_iter_no_change``
        epochs, and restore the best epoch's weights. Without ``groups`` in ``fit`` the rows held out may be of
        patients that are trained on: the epoch is then chosen too hopefully.
    validation_fraction : float, default=0.15
        Share held out; whole groups where ``fit`` gets groups, never the last group of a class.
    n_iter_no_change : int, default=5
        Epochs without a better validation loss before training stops.
    threshold : float or sequence of float, default=0.5
        Probability above which a label (multi-label: one threshold, or one each), or the second of two classes, is
        predicted. With more classes only 0.5 is allowed, and the largest logit wins.
    callbacks : list, default=None
        skorch callbacks; copied, so yours stay as they are. One that stops training raises KeyboardInterrupt, as
        skorch's own do.
    checkpoint_dir : str or path, default=None
        Write weights, optimiser and generators after each epoch to a folder in it that is named for this very fit
        (parameters and data). ``fit`` called again after an interruption goes on from there to the same bits.
        Callbacks of your own are restored where they have ``state_dict`` and ``load_state_dict``. A file is three to
        four times as large as the network; none is deleted. ``partial_fit`` and ``warm_start`` write none.
    checkpoint_epochs : int or sequence of int, default=1
        Which epochs are written: every so many, or these; and the one numbered ``max_epochs``.
    device : str, default="auto"
        Where to train and predict; "auto" takes cuda, else mps, else cpu.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the last fit's weights.
    %(random_state)s
    verbose : int, default=0
        Above 0, show a progress bar (tqdm) while training.
    **module__kwargs : dict
        ``module__*``, ``criterion__*``, ``optimizer__*`` and ``callbacks__*`` reach the parts, as in skorch.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net.
    module_ : torch.nn.Module
        The trained network.
    classes_ : ndarray of shape (n_outputs_,)
        Class labels, sorted; for multi-label y the names of its columns.
    multilabel_ : bool
        Whether y was an indicator matrix.
    n_outputs_ : int
        Classes or labels.
    n_epochs_ : int
        Epochs trained in all.
    history_ : skorch.history.History
        Losses by epoch.
    validation_indices_ : ndarray of int
        Rows of X held out by early stopping.
    device_ : str
        Where the network is.
    checkpoint_folder_ : pathlib.Path or None
        The folder of this fit's checkpoints.
    %(fitted)s

    See Also
    --------
    skecg.explain.GradCAM1D : What a convolutional network looks at.
    skecg.explain.MaskDeletion : What a network needs, by a learned mask.

    Examples
    --------
    >>> from skecg.classifiers import ECGClassifier
    >>> from skecg.datasets import make_ecg
    >>> ecg = make_ecg(40, classes=("N", "PVC"), random_state=0)
    >>> clf = ECGClassifier(module__width=1, fs=ecg.fs, max_epochs=1, random_state=0)
    >>> clf.fit(ecg.data, ecg.target).predict_proba(ecg.data).shape
    (40, 2)
    """

    # The var-keyword's own name starts with a prefix: scikit-learn's checks pass it as if it were a parameter, and so
    # it is one. A misspelt parameter is still refused at once.
    def __init__(
        self,
        module: Any = "ECGNet",
        *,
        fs: float | None = None,
        labels: Iterable[str] | None = None,
        augment: Callable | None = None,
        criterion: Any = None,
        optimizer: Any = torch.optim.Adam,
        lr: float = 1e-3,
        batch_size: int = 64,
        max_epochs: int = 30,
        class_weight: dict | str | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.15,
        n_iter_no_change: int = 5,
        threshold: Any = 0.5,
        callbacks: list | None = None,
        checkpoint_dir: str | os.PathLike | None = None,
        checkpoint_epochs: int | Sequence[int] = 1,
        device: str = "auto",
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
        **module__kwargs: Any,
    ) -> None:
        self.module = module
        self.fs = fs
        self.labels = labels
        self.augment = augment
        self.criterion = criterion
        self.optimizer = optimizer
        self.lr = lr
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.threshold = threshold
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_epochs = checkpoint_epochs
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self._set_parts(module__kwargs)

    @classmethod
    def from_module(
        cls,
        module: torch.nn.Module,
        classes: Iterable,
        *,
        n_leads: int,
        n_timesteps: int,
        multilabel: bool = False,
        threshold: Any = 0.5,
        fs: float | None = None,
        device: str = "auto",
    ) -> ECGClassifier:
        """Return a fitted classifier around a network that was trained elsewhere.

        Parameters
        ----------
        module : torch.nn.Module
            Returns logits (n_samples, n_outputs). It is copied; ``partial_fit`` trains the copy on.
        classes : sequence of labels
            In the order of the network's outputs; no label twice.
        n_leads, n_timesteps : int
            Size of the network's input.
        multilabel : bool, default=False
            Whether each output has a sigmoid of its own.
        threshold : float or sequence of float, default=0.5
            As in the class.
        fs : float, default=None
            Sampling rate of the network's input, Hz.
        device : str, default="auto"
            As in the class.

        Returns
        -------
        classifier : ECGClassifier
            Fitted: it predicts, and every explainer takes it.

        Raises
        ------
        ValueError
            Where the module is no instance, does not return one logit a class, or a label comes twice.
        """
        if not isinstance(module, torch.nn.Module):
            raise ValueError(f"module must be an instance of torch.nn.Module that is trained; got {module!r}")
        classes = np.asarray(list(classes))
        self = cls(module, threshold=threshold, fs=fs, device=device)
        if classes.ndim != 1 or len(np.unique(classes)) != len(classes) or len(classes) < (1 if multilabel else 2):
            raise ValueError(f"classes must be at least {1 if multilabel else 2} different labels, got {classes!r}")
        self.n_leads_ = check_number("n_leads", n_leads, low=1, integer=True)
        self.n_timesteps_ = check_number("n_timesteps", n_timesteps, low=1, integer=True)
        self.n_features_in_ = self.n_leads_ * self.n_timesteps_
        self.multilabel_, self.classes_, self.n_outputs_ = bool(multilabel), classes, len(classes)
        self._check_parameters()
        self._cut()
        self._seed, self.checkpoint_folder_ = 0, None
        device = resolve_device(self.device)
        with isolated_rng(0, device), plain_torch(device, gradient=False):
            net = build_net(self, device)
            probe = torch.randn(2, self.n_leads_, self.n_timesteps_, dtype=torch.float32).numpy()
            check_logits(partial(self._logits, net=net), type(module).__name__, probe, self.n_outputs_)
        self._finish(net, np.array([], dtype=int))
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.classifier_tags.multi_label = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    @fill_doc
    def fit(self, X: Any, y: Any, *, groups: Any = None, sample_weight: Any = None) -> ECGClassifier:
        """Train anew, or go on with ``warm_start``.

        Parameters
        ----------
        %(X)s
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels of any sortable type, or 0 and 1 a label (multi-label).
        groups : array-like of shape (n_samples,), default=None
            Patients: early stopping keeps each on one side of its split.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each window in the loss; a row of zero weight is a row that is not there.

        Returns
        -------
        self : ECGClassifier
            Fitted.

        Raises
        ------
        ValueError
            For X, y, groups or parameters that do not fit, with what was expected.
        """
        resume = self.warm_start and hasattr(self, "net_")
        with restored_on_error(self), self._watched(X, y, sample_weight):
            return self._train(X, y, sample_weight, groups, self.max_epochs, resume, self.early_stopping)

    @fill_doc
    def partial_fit(self, X: Any, y: Any, classes: Any = None, *, sample_weight: Any = None) -> ECGClassifier:
        """Train one epoch over these rows, without a validation split.

        Parameters
        ----------
        %(X)s
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            As in ``fit``; a class may be missing.
        classes : array-like, default=None
            All labels there will ever be; of the first call. Later it may be left out, or must be the same.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each window in the loss. ``class_weight="balanced"`` balances these rows.

        Returns
        -------
        self : ECGClassifier
            Fitted.
        """
        with restored_on_error(self):
            return self._train(X, y, sample_weight, None, 1, hasattr(self, "net_"), False, classes)

    def _train(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        groups: Any,
        epochs: int,
        resume: bool,
        early_stopping: bool,
        classes: Any = None,
    ) -> ECGClassifier:
        name = type(self).__name__
        self._check_parameters()
        X = check_ecg(self, X, reset=not resume, lazy=True)
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        columns, y = getattr(y, "columns", None), check_target(y)
        check_consistent_length(X, y, groups)
        weight = check_weights(sample_weight, len(X))
        if not resume:
            self.classes_ = find_classes(name, y, weight, classes, columns, self.labels)
            self.multilabel_, self.n_outputs_ = y.ndim == 2, len(self.classes_)
        elif classes is not None and set(np.asarray(classes).tolist()) != set(self.classes_.tolist()):
            raise ValueError(f"classes {list(classes)} are not those of the first call, {list(self.classes_)}")
        codes = encode(name, y, weight, self.classes_, self.multilabel_)
        self._cut()
        groups = None if groups is None else np.unique(column_or_1d(groups), return_inverse=True)[1]
        kept = np.flatnonzero(weight)  # a row of zero weight is a row that is not there
        loss_weight = loss_weights(self.class_weight, self.classes_, codes[kept], weight[kept])
        check_stored(X)

        seed = self._seed if resume else draw_seed(self.random_state)
        checkpoints = None
        if self.checkpoint_dir is not None and not resume:
            digest = fit_digest(self._identity(seed), X, codes, self.classes_, weight, groups)
            checkpoints = Checkpoints(Path(self.checkpoint_dir) / digest, seed, epochs, self.checkpoint_epochs)
            seed = checkpoints.seed
        train, held = np.arange(len(kept)), None
        if early_stopping:
            part = None if groups is None else groups[kept]
            mask = validation_split(codes[kept], part, self.validation_fraction, np.random.RandomState(seed))
            if mask.any():
                train, held = np.flatnonzero(~mask), np.flatnonzero(mask)
            else:
                warnings.warn(
                    "no validation split keeps every class in training and every group on one side: training for "
                    "max_epochs without early stopping",
                    UserWarning,
                    stacklevel=3,
                )
        by_row = np.zeros((len(X), *loss_weight.shape[1:]), dtype=np.float32)
        by_row[kept] = loss_weight / loss_weight[train].mean()
        target = codes if codes.ndim == 1 else codes.astype(np.float32)
        sets = tuple(None if p is None else ECGDataset(X, target, by_row, kept[p]) for p in (train, held))

        self._seed, self.checkpoint_folder_ = seed, None if checkpoints is None else checkpoints.folder
        device = self.device_ if resume else resolve_device(self.device)
        done = len(self.net_.history) if resume else 0
        start = (seed + 7919 * done) % 2**31  # each further partial_fit draws from a seed of its own
        with isolated_rng(start, device), plain_torch(device, gradient=True):
            if resume:
                net = take_up(self, device)
            else:
                net = build_net(self, device)
                probe = np.repeat(X[kept[:2]], 2, axis=0)[:2]
                check_logits(partial(self._logits, net=net), type(net.module_).__name__, probe, self.n_outputs_)
            try:
                net.run(sets, epochs, self.augment, start, checkpoints, bool(self.verbose), self._epochs)
            except Interrupted as stop:
                raise KeyboardInterrupt from stop.__cause__
        self._finish(net, np.array([], dtype=int) if held is None else np.sort(kept[held]))
        return self

    def _finish(self, net: TrainingNet, validation_indices: np.ndarray) -> None:
        """Become fitted, only now that nothing can fail any more."""
        loss = net.history[-1].get("train_loss", 0.0) if len(net.history) else 0.0  # none of an epoch cut short
        if not np.isfinite(loss):
            warnings.warn(
                f"training has diverged: the last epoch's loss is {loss}; try a smaller lr than {self.lr!r}",
                UserWarning,
                stacklevel=4,
            )
        self.net_ = net
        self.validation_indices_ = validation_indices
        self.n_epochs_ = len(net.history)
        self._fitted_params = self.get_params(deep=False)

    def _cut(self) -> np.ndarray:
        """Return the logits (of two classes: their difference) above which a label is predicted."""
        return decision_cut(self.threshold, self.n_outputs_, self.multilabel_)

    # -- prediction ---------------------------------------------------------------------------------------------------
    @property
    def module_(self) -> torch.nn.Module:
        """The trained network."""
        return self.net_.module_

    @property
    def history_(self) -> Any:
        """Losses by epoch."""
        return self.net_.history

    @property
    def device_(self) -> str:
        """Where the network is; asked of skorch, which moves a net from a lost GPU when it is loaded."""
        return str(self.net_.device)

    def _logits(self, X: np.ndarray, net: TrainingNet | None = None) -> np.ndarray:
        """Return the logits (n_samples, n_outputs), float64, of a checked cube."""
        net = self.net_ if net is None else net
        with plain_torch(net.device, gradient=False):
            twin = private_twin(net.module_)
            return map_batches(lambda x: _numpy(twin(x)), X, self.batch_size, net.device).astype(np.float64)

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._logits(check_ecg(self, X, reset=False, lazy=True))

    @fill_doc
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits.

        Parameters
        ----------
        %(X)s

        Returns
        -------
        scores : ndarray of shape (n_samples, n_outputs_), float64
            For two classes (n_samples,): the second's logit less the first's.
        """
        logits = self._scores(X)
        return logits[:, 1] - logits[:, 0] if self.n_outputs_ == 2 and not self.multilabel_ else logits

    @fill_doc
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities: the softmax of the logits, or a sigmoid for each label.

        Parameters
        ----------
        %(X)s

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_outputs_), float64
            In the order of ``classes_``.
        """
        logits = self._scores(X)
        return expit(logits) if self.multilabel_ else softmax(logits, axis=1)

    @fill_doc
    def predict(self, X: Any) -> np.ndarray:
        """Return labels, or 0 and 1 by label, according to ``threshold``.

        Parameters
        ----------
        %(X)s

        Returns
        -------
        y : ndarray of shape (n_samples,), or (n_samples, n_labels) of int64
            Labels of ``classes_``, or indicators.

        Raises
        ------
        ValueError
            Where the network returns NaN, with the windows.
        """
        logits = self._scores(X)
        cut, bad = self._cut(), np.flatnonzero(~np.isfinite(logits).all(1))
        if len(bad):
            raise ValueError(
                f"{type(self.module_).__name__} returned NaN or infinite logits for {len(bad)} of {len(logits)} "
                f"windows, the first {bad[:10].tolist()}: no label can be told"
            )
        if self.multilabel_:
            return (logits > cut).astype(np.int64)
        if self.n_outputs_ == 2:
            return self.classes_[(logits[:, 1] - logits[:, 0] > cut).astype(int)]
        return self.classes_[logits.argmax(1)]


def _numpy(logits: Any) -> np.ndarray:
    if not torch.is_tensor(logits) or logits.ndim != 2:
        got = f"a tensor of shape {tuple(logits.shape)}" if torch.is_tensor(logits) else repr(type(logits))
        raise ValueError(f"the network must return logits of shape (n_samples, n_outputs); it returned {got}")
    return logits.cpu().numpy()
