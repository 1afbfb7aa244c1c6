"""The skorch net inside the classifier: whole-batch reading, weighted loss on logits, early stopping, progress."""

from __future__ import annotations

import dis
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping

from ..utils._stored import WindowCube
from ._callbacks import EpochTasks, Interrupted, StopWhenAsked

_RECORDERS = ("epoch_timer", "train_loss", "valid_loss")  # skorch's own callbacks that write into the history


def resolve_device(device: str) -> str:
    """Return the device that is meant: "auto" takes cuda, else mps, else cpu."""
    if device != "auto":
        try:
            chosen = torch.device(device)
            if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
                raise ValueError(
                    f"device={device!r}, but torch sees {torch.cuda.device_count()} CUDA devices: pass 'auto' or 'cpu'"
                )
            return str(chosen)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"device must be 'auto' or torch's, such as 'cpu' or 'cuda:0'; got {device!r}") from error
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_stored(X: Any) -> None:
    """Read windows on disk once, before anything is trained; nothing is done with an array in memory.

    Raises
    ------
    ValueError
        For the first window that is not finite in float32.
    """
    if isinstance(X, WindowCube):
        X.check()
        slow = X.slow_chunks()
        if slow is not None:
            warnings.warn(slow, UserWarning, stacklevel=4)


class ECGDataset(torch.utils.data.Dataset):
    """Rows ``index`` of arrays that are never copied as a whole; a batch is one fancy-indexing call."""

    def __init__(self, X: np.ndarray | WindowCube, y: np.ndarray, weight: np.ndarray, index: np.ndarray) -> None:
        self.X, self.y, self.weight, self.index = X, y, weight, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        rows = self.index[i]
        batch = {"x": torch.from_numpy(np.array(self.X[rows])), "weight": torch.from_numpy(self.weight[rows])}
        return batch, torch.from_numpy(self.y[rows])


class Batches:
    """Mini-batches of at least two rows: batch norm cannot train on one value a channel."""

    def __init__(
        self,
        dataset: ECGDataset,
        batch_size: int,
        shuffle: bool,
        augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.augment, self.generator = augment, generator

    def _starts(self) -> list[int]:
        n, size = len(self.dataset), max(2, self.batch_size)
        starts = list(range(0, n, size))
        if len(starts) > 1 and n - starts[-1] == 1:
            starts.pop()  # a last row alone joins the batch before it
        return starts

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        n = len(self.dataset)
        order = torch.randperm(n).numpy() if self.shuffle else np.arange(n)
        starts = self._starts()
        for a, b in zip(starts, [*starts[1:], n], strict=True):
            batch, y = self.dataset[order[a:b]]
            if self.augment is not None:
                batch = {**batch, "x": self._augmented(batch["x"])}
            yield batch, y

    def _augmented(self, x: torch.Tensor) -> torch.Tensor:
        shape, out = tuple(x.shape), self.augment(x, self.generator)
        if not torch.is_tensor(out) or tuple(out.shape) != shape or not out.is_floating_point():
            got = f"a tensor {tuple(out.shape)} {out.dtype}" if torch.is_tensor(out) else repr(type(out))
            raise ValueError(f"augment must return a float tensor of the batch's shape {shape}; it returned {got}")
        return out.to(torch.float32)


class TrainingNet(NeuralNet):
    """The skorch net: our batches, weighted loss on logits, and the split that is handed over."""

    # Of one run alone, and so not parameters: skorch would pickle and report those.
    augment: Callable | None = None
    augment_generator: torch.Generator | None = None
    own_callbacks: list | None = None

    def run(
        self,
        sets: tuple,
        epochs: int,
        augment: Callable | None,
        seed: int,
        checkpoints: Any,
        verbose: bool,
        watcher: EpochTasks | None = None,
    ) -> None:
        """Train for some epochs; what belongs to this run alone is taken off the net again.

        Parameters
        ----------
        sets : tuple of ECGDataset
            Training, and validation or None.
        epochs : int
            How many, those of a checkpoint included.
        augment : callable or None
            The classifier's parameter.
        seed : int
            Of the augmentation's generator.
        checkpoints : Checkpoints or None
            Writes the epochs, and may hold a state to go on from.
        verbose : bool
            Whether to show a progress bar.
        watcher : EpochTasks, default=None
            Tells scikit-learn's callbacks.
        """
        from tqdm.auto import tqdm

        callbacks = self.own_callbacks = self.callbacks_
        self.augment, self.augment_generator = augment, torch.Generator().manual_seed(seed)
        if checkpoints is not None:
            epochs -= checkpoints.restore(self)
        total = epochs * len(self.get_iterator(sets[0], training=True))
        try:
            with closing(tqdm(total=total, desc="training", unit="batch", disable=not verbose)) as bar:
                self.callbacks_ = [*callbacks, ("progress", Progress(bar))] if verbose else list(callbacks)
                if checkpoints is not None:  # last, so that it finds the others' states as an epoch leaves them
                    self.callbacks_.append(("checkpoints", checkpoints))
                if watcher is not None:
                    behind = sum(name in _RECORDERS for name, _ in callbacks)  # skorch puts them first
                    self.callbacks_.insert(behind, ("tasks", watcher))
                    self.callbacks_.append(("stop", StopWhenAsked(watcher)))
                self.max_epochs = epochs
                self.partial_fit(sets)
        finally:
            self.callbacks_ = callbacks
            self.augment = self.augment_generator = self.own_callbacks = None
            self.optimizer_.zero_grad(set_to_none=True)  # else a gradient of the network's size stays in memory

    def get_split_datasets(self, X: Any, y: Any = None, **params: Any) -> Any:
        return X  # already (training, validation or None)

    def get_iterator(self, dataset: ECGDataset, training: bool = False) -> Batches:
        if training:
            return Batches(dataset, self.batch_size, True, self.augment, self.augment_generator)
        return Batches(dataset, self.batch_size, False)

    def infer(self, x: Any, **params: Any) -> torch.Tensor:
        return self.module_((x["x"] if isinstance(x, dict) else x).to(self.device), **params)

    def get_loss(self, y_pred: torch.Tensor, y_true: torch.Tensor, X: Any = None, training: bool = False) -> Any:
        # Mean of weight * loss with weights of mean one over the whole training set. Dividing by the weights of the
        # batch, as torch's weight= does, would give full weight to a batch that holds only a down-weighted class.
        return (self.criterion_(y_pred, y_true.to(self.device)) * X["weight"].to(self.device)).mean()

    def predict(self, X: Any) -> np.ndarray:  # what skorch's scoring callbacks see
        logits = self.forward(X).numpy()
        if isinstance(self.criterion_, torch.nn.BCEWithLogitsLoss):
            return (logits > 0).astype(np.int64)
        return logits.argmax(1)

    def fit_loop(self, *args: Any, **kwargs: Any) -> TrainingNet:
        try:
            return super().fit_loop(*args, **kwargs)
        except KeyboardInterrupt as stop:
            if _raised_by_callback(stop):
                return self
            raise Interrupted from stop


def _raised_by_callback(stop: KeyboardInterrupt) -> bool:
    """Tell a callback's ``raise KeyboardInterrupt``, skorch's way to stop, from the user's Ctrl-C, which must pass."""
    notified, last = False, stop.__traceback__
    while last is not None and last.tb_next is not None:
        notified |= last.tb_frame.f_code.co_name == "notify"
        last = last.tb_next
    if last is None or not notified:
        return False
    instruction = last.tb_frame.f_code.co_code[last.tb_lasti]  # a signal arrives at any other instruction
    return dis.opname[instruction] == "RAISE_VARARGS"


class BestEpochStopping(EarlyStopping):
    """skorch's early stopping, but it forgets its copy of the weights, and can be stored and taken up again."""

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        if self.monitor in net.history[-1]:  # partial_fit has no validation loss
            super().on_epoch_end(net, **kwargs)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        super().on_train_end(net, **kwargs)
        self.best_model_weights_ = None  # else every pickle holds the network twice

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {
            "misses_": self.misses_,
            "dynamic_threshold_": float(self.dynamic_threshold_),
            "best_epoch_": self.best_epoch_,
            "best_model_weights_": self.best_model_weights_,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        vars(self).update(state)


class Progress(Callback):
    """A tqdm bar over all batches of a fit, with the last losses beside it."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        if training:
            self.bar.update()

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        row = net.history[-1]
        losses = {k: f"{row[k]:.4f}" for k in ("train_loss", "valid_loss") if k in row}
        self.bar.set_postfix(epoch=row["epoch"], **losses)
