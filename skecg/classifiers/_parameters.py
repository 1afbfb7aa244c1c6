"""The parameters of the parts (``module__*`` and so on), and which parameters make a fit what it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..utils._validation import check_fs, check_number

PREFIXES = ("module__", "criterion__", "optimizer__", "callbacks__")
# What may change after a fit without making it another fit, and what does not belong to a fit's identity.
_AFTER_FIT = {"threshold", "fs", "verbose"}
# What a net takes on when training goes on; all else of the net's needs it to be set up anew, or cannot change.
_TAKEN_ON = ("lr", "batch_size", "optimizer__")
_SET_UP = ("optimizer", "criterion", "callbacks", "early_stopping", "n_iter_no_change")
_NOT_IN_IDENTITY = {*_AFTER_FIT, "max_epochs", "checkpoint_dir", "checkpoint_epochs", "device", "warm_start"}


@contextmanager
def restored_on_error(estimator: Any) -> Iterator[None]:
    """Give an estimator its attributes back where a fit fails: old weights under new labels would answer wrongly."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class PartsMixin:
    """Keeps the parameters of the parts in one private dict, which ``get_params`` lists with the others."""

    def _set_parts(self, given: dict[str, Any]) -> None:
        """Store them; TypeError, as Python's own, for a name without one of the prefixes."""
        unknown = [key for key in given if not key.startswith(PREFIXES)]
        if unknown:
            raise TypeError(
                f"{type(self).__name__}() got unexpected parameters {unknown}; parameters of the parts start with "
                f"{', '.join(PREFIXES)}"
            )
        _check_names(given, type(self).__name__, TypeError)
        self._dunder = given

    def _parts(self, prefix: str) -> dict[str, Any]:
        """Return the parameters of one part, without the prefix."""
        return {k.removeprefix(prefix): v for k, v in self._dunder.items() if k.startswith(prefix)}

    def _identity(self, seed: int) -> dict[str, Any]:
        """Return the parameters that, with the data, say which fit this is; a generator counts by what it drew."""
        params = {k: v for k, v in self.get_params(deep=False).items() if k not in _NOT_IN_IDENTITY}
        return {**params, "random_state": None if self.random_state is None else seed}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, those of the parts (``module__*``, ...) included.

        Parameters
        ----------
        deep : bool, default=True
            Whether to add the parameters of parameters that are estimators.

        Returns
        -------
        params : dict
            Names to values.
        """
        return {**super().get_params(deep=deep), **self._dunder}

    def set_params(self, **params: Any) -> PartsMixin:
        """Set parameters; new ``module__*``, ``criterion__*``, ``optimizer__*``, ``callbacks__*`` are taken on.

        Parameters
        ----------
        **params : dict
            Names to values.

        Returns
        -------
        self : estimator
            Itself.

        Raises
        ------
        ValueError
            For a parameter that there is not, and for a name that is none of Python's.
        """
        dunder = {k: params.pop(k) for k in list(params) if k.startswith(PREFIXES)}
        _check_names(dunder, type(self).__name__, ValueError)
        super().set_params(**params)
        self._dunder = {**self._dunder, **dunder}
        return self

    def _check_parameters(self) -> None:
        for name in ("max_epochs", "batch_size", "n_iter_no_change"):
            check_number(name, getattr(self, name), low=1, integer=True)
        check_number("validation_fraction", self.validation_fraction, low=0, high=1, strict=True)
        check_number("lr", self.lr, low=0)
        for name in ("optimizer", "criterion"):
            value = getattr(self, name)
            if not (callable(value) or (value is None and name == "criterion")):
                raise ValueError(f"{name} must be a class of torch, such as torch.optim.Adam; got {value!r}")
        if self.fs is not None:
            check_fs(self.fs, type(self).__name__)
        if self.augment is not None and not callable(self.augment):
            raise ValueError(f"augment must be callable, (x, generator) -> x, or None; got {self.augment!r}")

    def _go_on(self) -> tuple[dict[str, Any], bool]:
        """Return the changed parameters that the net is to take on, and whether it must be set up anew.

        Raises
        ------
        ValueError
            Where the network itself was changed, which cannot be trained on then.
        """
        changed = self._changed_params()
        other = [name for name in changed if name.startswith("module")]
        if other:
            raise ValueError(
                f"{other} were changed, so the network cannot be trained on: set warm_start=False and call fit, or "
                "clone the classifier"
            )
        if "device" in changed:
            raise ValueError("device was changed, so training cannot go on: clone the classifier and fit it there")
        taken = {name: self.get_params(deep=False).get(name) for name in changed if name.startswith(_TAKEN_ON)}
        return taken, any(name.startswith(_SET_UP) and name not in taken for name in changed)

    def _changed_params(self) -> list[str]:
        """Return the parameters that are no longer what the network was fitted with."""
        now, then = self.get_params(deep=False), self._fitted_params
        return sorted(
            name
            for name in (now.keys() | then.keys()) - _AFTER_FIT
            if name not in now or name not in then or not _same(now[name], then[name])
        )


def _check_names(given: Iterable[str], name: str, error: type[Exception]) -> None:
    """Raise an error for names that could not be written as keywords: notebooks show them inside of a script."""
    odd = [key for key in given if not key.isidentifier()]
    if odd:
        raise error(f"{name} cannot have parameters {odd}: names are letters, digits and underscores")


def _same(a: Any, b: Any) -> bool:
    """Tell whether two parameter values are one object (pickle keeps that), or equal numbers, strings or lists."""
    if a is b:
        return True
    try:
        return type(a) is type(b) and bool(np.all(a == b))
    except (TypeError, ValueError):
        return False
