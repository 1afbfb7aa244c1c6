"""Checks of arrays and parameters with messages that say what came and what was expected."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_array as _check_array
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from ._stored import WindowCube, as_stored

# No recording has more leads than this with fewer time steps than leads: such a shape has its axes swapped.
_MANY_LEADS = 32


# scikit-learn changes the warnings filters of the process while it checks an array; two threads at once would leave
# them changed for good.
_FILTERS = threading.RLock()


def check_array(*args: Any, **kwargs: Any) -> np.ndarray:
    """Check an array as scikit-learn does, one thread at a time."""
    with _FILTERS:
        return _check_array(*args, **kwargs)


def check_ecg(
    estimator: Any, X: Any, *, reset: bool, ensure_all_finite: bool = True, lazy: bool = False
) -> np.ndarray | WindowCube:
    """Return X as a float32 array (n_samples, n_leads, n_timesteps); set or compare the fitted sizes.

    scikit-learn counts ``X.shape[1]`` as features, which for 3-D input is the number of leads. skecg counts
    ``n_leads * n_timesteps`` instead, so that (n, T) and (n, 1, T) are the same thing to every check.

    Parameters
    ----------
    estimator : estimator
        Gets (``reset=True``) or holds (``reset=False``) ``n_leads_``, ``n_timesteps_``, ``n_features_in_``.
    X : array-like of shape (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps)
        ECG in mV, or relevance. Two dimensions mean one lead.
    reset : bool
        True in ``fit``, False everywhere else.
    ensure_all_finite : bool, default=True
        Whether NaN and infinities are refused.
    lazy : bool, default=False
        Whether windows on disk (a memory map, a zarr array, StoredWindows) stay there: they are then read, cast and
        checked for NaN and infinities when a batch of them is.

    Returns
    -------
    cube : ndarray of shape (n_samples, n_leads, n_timesteps), float32, or WindowCube
        A view of X where X is float32 already, on disk or in memory; a WindowCube for windows on disk where ``lazy``.

    Raises
    ------
    ValueError
        For NaN, infinities, values beyond float32, a wrong number of dimensions, leads or timesteps, swapped axes.
    TypeError
        For an object array that is not numeric (the type that scikit-learn raises).
    """
    name = type(estimator).__name__
    named = hasattr(X, "columns")  # a DataFrame: scikit-learn remembers its names, and compares them before the values
    if named:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    if isinstance(X, np.ndarray) and X.dtype.kind == "O":
        try:
            X = X.astype(np.float64)
        except ValueError as error:
            raise TypeError(f"X must be numbers, ECG in mV; got an array of objects ({error})") from error
    stored = as_stored(X)
    array = check_array(
        # of windows on disk only the shape is looked at here, at a stand-in that takes no memory
        X if stored is None else np.broadcast_to(np.float32(0), stored.shape),
        dtype=np.float32,
        allow_nd=True,
        ensure_min_samples=1,
        ensure_all_finite=ensure_all_finite and stored is None,
        input_name="X",
        estimator=estimator,
    )
    if array.ndim > 3:
        raise ValueError(
            f"X must be (n_samples, n_timesteps) or (n_samples, n_leads, n_timesteps); got {array.ndim}-D, "
            f"shape {array.shape}"
        )
    if array.ndim == 3:
        if 0 in array.shape:
            raise ValueError(f"X has 0 leads or timesteps (shape={array.shape}) while a minimum of 1 is required.")
        _check_axes(estimator, name, array.shape, reset)
    elif not reset and estimator.n_leads_ > 1:
        raise ValueError(
            f"X is 2-D, which means one lead, but {name} was fitted with {estimator.n_leads_} leads: "
            f"pass (n_samples, {estimator.n_leads_}, {estimator.n_timesteps_})"
        )
    if not named:
        # a view of one number tells the count of features without a copy of a broadcast array
        counted = np.broadcast_to(np.float32(0), (len(array), array[0].size))
        validate_data(estimator, counted, reset=reset, skip_check_array=True)
    cube = array if array.ndim == 3 else array[:, None, :]
    if reset:
        estimator.n_leads_, estimator.n_timesteps_ = cube.shape[1:]
    if stored is None:
        return cube
    windows = WindowCube(stored, ensure_all_finite)
    return windows if lazy else windows.in_memory()


def _check_axes(estimator: Any, name: str, shape: tuple[int, ...], reset: bool) -> None:
    """Refuse a cube of another size than fitted, and one whose last two axes look swapped."""
    swap = "the axes look swapped: pass (n_samples, n_leads, n_timesteps), e.g. X.transpose(0, 2, 1)"
    if reset:
        if shape[1] > _MANY_LEADS and shape[1] > shape[2]:
            raise ValueError(f"X of shape {shape} would have {shape[1]} leads of {shape[2]} timesteps; {swap}")
        return
    fitted = (estimator.n_leads_, estimator.n_timesteps_)
    if shape[1:] != fitted:
        message = (
            f"X has {shape[1]} leads of {shape[2]} timesteps, but {name} was fitted with {fitted[0]} leads of "
            f"{fitted[1]} timesteps"
        )
        raise ValueError(f"{message}; {swap}" if shape[:0:-1] == fitted else message)


def is_2d(X: Any) -> bool:
    """Tell whether X is 2-D, without numpy's dispatch, which scikit-learn's checks forbid on array-likes."""
    return X.ndim == 2 if hasattr(X, "ndim") else np.asarray(X).ndim == 2


def check_weights(sample_weight: Any, n_samples: int) -> np.ndarray:
    """Return float64 weights (n_samples,), ones for None; ValueError for negative, all-zero or misshapen weights."""
    if sample_weight is None:
        return np.ones(n_samples)
    weights = check_array(sample_weight, dtype=np.float64, ensure_2d=False, input_name="sample_weight")
    if weights.shape != (n_samples,):
        raise ValueError(f"sample_weight has shape {weights.shape}, expected ({n_samples},)")
    if (weights < 0).any():
        raise ValueError("sample_weight must not be negative")
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def check_option(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """Return value if it is one of the allowed ones; otherwise a ValueError that lists them."""
    allowed = tuple(allowed)
    if not any(value is a or (type(value) is type(a) and value == a) for a in allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
    return value


def check_number(
    name: str,
    value: Any,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    integer: bool = False,
    strict: bool = False,
    unit: str = "",
) -> Any:
    """Return value if it is a finite number of the interval; otherwise a ValueError that names the interval.

    Parameters
    ----------
    name : str
        The parameter's name, for the message.
    value : object
        What the user gave.
    low, high : float, default=-inf, inf
        The interval, ends included.
    integer : bool, default=False
        Whether only integers will do. A bool is never a number here.
    strict : bool, default=False
        Whether the ends of the interval are left out.
    unit : str, default=""
        The unit named in the message.

    Returns
    -------
    value : int or float
        As given.
    """
    kind = Integral if integer else Real
    right = isinstance(value, kind) and not isinstance(value, bool | np.bool_) and bool(np.isfinite(value))
    if right:
        right = low < value < high if strict else low <= value <= high
    if not right:
        ends = [f"{'above' if strict else 'at least'} {low:g}"] if low > -np.inf else []
        ends += [f"{'below' if strict else 'at most'} {high:g}"] if high < np.inf else []
        what = "an integer" if integer else "a finite number"
        raise ValueError(
            f"{name} must be {what}{' ' + unit if unit else ''}{' ' if ends else ''}{' and '.join(ends)}; got {value!r}"
        )
    return value


def check_fs(fs: Any, needed_for: str) -> float:
    """Return the sampling rate fs (Hz) as a float; ValueError where it is None or no positive number.

    Parameters
    ----------
    fs : float or None
        What the user gave, Hz.
    needed_for : str
        What is measured in seconds or hertz and so needs it, for the message.
    """
    if fs is None:
        raise ValueError(f"{needed_for} needs the sampling rate: pass fs (Hz), e.g. fs=360.0; got None")
    return float(check_number("fs", fs, low=0, strict=True, unit="(Hz)"))


def find_fs(estimator: Any) -> float | None:
    """Return the fs (Hz) of an estimator or of what it holds, None where nobody says it."""
    while estimator is not None:
        if getattr(estimator, "fs", None) is not None:
            return estimator.fs
        if isinstance(getattr(estimator, "steps", None), list):  # a Pipeline
            estimator = estimator.steps[-1][1]
            continue
        inner = (getattr(estimator, name, None) for name in ("best_estimator_", "estimator_", "estimator"))
        estimator = next((held for held in inner if held is not None), None)
    return None


def draw_seed(random_state: Any) -> int:
    """Draw a seed; None takes fresh entropy, so that numpy's global generator is left as found."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    return int(check_random_state(random_state).randint(2**31 - 1))
