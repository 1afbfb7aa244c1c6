"""Session set-up (one thread, no display, array API checks on) and a watch over global state around every test."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # before scipy is imported; without it scikit-learn skips check_array_api_input
os.environ["MPLBACKEND"] = "Agg"
if os.environ.get("SKECG_TESTS_SEED") == "any":  # drawn once, before pytest-xdist starts workers, so that all agree
    os.environ["SKECG_TESTS_SEED"] = str(int.from_bytes(os.urandom(2), "big") % 100)

import random
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
import numpy as np
import pytest
import sklearn
import torch
import torch._dynamo  # the first optimiser would import it inside a test, and it sets a variable and a warnings filter

torch.set_num_threads(1)

_CUDNN = ("enabled", "benchmark", "deterministic", "allow_tf32")


def _cuda_rng() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _set_cudnn(flags: tuple[bool, ...]) -> None:
    for name, value in zip(_CUDNN, flags, strict=True):
        setattr(torch.backends.cudnn, name, value)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def _set_environment(wanted: dict[str, str]) -> None:
    for name in set(_environment()) - set(wanted):
        del os.environ[name]
    os.environ.update(wanted)


def _rc_params() -> dict[str, Any]:
    return dict(dict.items(matplotlib.rcParams))  # dict.items: RcParams warns when a deprecated setting is looked up


def _set_rc_params(wanted: dict[str, Any]) -> None:
    dict.update(matplotlib.rcParams, wanted)


def _set_warnings(filters: list[tuple]) -> None:
    warnings.filters[:] = filters
    warnings._filters_mutated()


# What a test and the library must leave as found: name -> (read, put back).
_WATCHED: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "Python's random generator": (random.getstate, random.setstate),
    "numpy's global generator": (
        lambda: np.random.get_state(),  # noqa: NPY002 - the watched thing itself
        lambda state: np.random.set_state(state),  # noqa: NPY002
    ),
    "torch's global generator": (torch.get_rng_state, torch.set_rng_state),
    "CUDA's global generators": (_cuda_rng, lambda states: states and torch.cuda.set_rng_state_all(states)),
    "torch's grad mode": (torch.is_grad_enabled, torch._C._set_grad_enabled),
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "cuDNN's switches": (lambda: tuple(getattr(torch.backends.cudnn, name) for name in _CUDNN), _set_cudnn),
    "numpy's error handling": (np.geterr, lambda state: np.seterr(**state)),
    "scikit-learn's configuration": (sklearn.get_config, lambda config: sklearn.set_config(**config)),
    "the warnings filters": (lambda: list(warnings.filters), _set_warnings),
    "the environment": (_environment, _set_environment),
    "the working directory": (os.getcwd, os.chdir),
    "matplotlib's rcParams": (_rc_params, _set_rc_params),
}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _close_figures() -> None:
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


@pytest.fixture(autouse=True)
def global_state_as_found() -> Iterator[None]:
    """Fail a test that leaves the process otherwise than it found it, and put things back for the next one."""
    before = {name: read() for name, (read, _) in _WATCHED.items()}
    yield
    _close_figures()
    changed = []
    for name, (read, put_back) in _WATCHED.items():
        if not _same(before[name], read()):
            changed.append(name)
            put_back(before[name])
    if changed:
        pytest.fail(
            f"this test leaves {', '.join(changed)} changed. If the library did it, it is a fault; if the test needs "
            "it (a network built by hand draws from torch's generator), use the fixture `seeded` or a context manager.",
            pytrace=False,
        )


@pytest.fixture
def seeded(global_state_as_found: None, seed: int) -> Iterator[int]:
    """Lend the three global generators, seeded, to a test that builds networks by hand; yields the seed."""
    generators = ("Python's random generator", "numpy's global generator", "torch's global generator")
    before = {name: _WATCHED[name][0]() for name in generators}
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - users' code may draw from it
    torch.default_generator.manual_seed(seed)
    yield seed
    for name, state in before.items():
        _WATCHED[name][1](state)


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """Return a generator of one's own for made-up arrays."""
    return np.random.default_rng(seed)


def _seeds() -> list[int]:
    """SKECG_TESTS_SEED: a number, "any" (one of 0 to 99, drawn above) or "all" of them; 0 when it is not set."""
    wanted = os.environ.get("SKECG_TESTS_SEED", "0")
    return list(range(100)) if wanted == "all" else [int(wanted)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that asks for `seed` with the seeds of SKECG_TESTS_SEED."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", _seeds())


def pytest_report_header() -> str:
    """Print what repeats a run: the seed."""
    return f"SKECG_TESTS_SEED={os.environ.get('SKECG_TESTS_SEED', '0')}"
