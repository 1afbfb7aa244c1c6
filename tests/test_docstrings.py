"""numpydoc validation of every public object, found by discovery, and a run of the examples in their docstrings."""

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pydoc import locate
from types import ModuleType

import pytest
from numpydoc.validate import validate

import skecg

# Codes of numpydoc that are not asked for, each with its reason.
IGNORED = {
    "GL01": "the summary starts beside the opening quotes, as PEP 257 and ruff want it",
    "ES01": "an extended summary only where one line does not say it",
    "SA01": "See Also where there is something to see",
    "EX01": "examples where they help; the gallery and the user guide run longer ones",
    "PR08": "a description may begin with a name that is written small, such as skorch",
    "RT02": "a returned value has a name, as scikit-learn's have",
    "RT04": "as PR08: the description of a Bunch begins with the name of a field",
}


def public_modules() -> Iterator[ModuleType]:
    """Yield skecg and every module under it without an underscore in its path; `utils` is for skecg itself."""
    yield skecg
    for info in pkgutil.walk_packages(skecg.__path__, "skecg."):
        if not any(part.startswith("_") for part in info.name.split(".")) and info.name.split(".")[1] != "utils":
            yield importlib.import_module(info.name)


def made_here(obj: object) -> bool:
    return (getattr(obj, "__module__", None) or "").split(".")[0] == "skecg"


def members(cls: type) -> Iterator[str]:
    """Yield the public methods and properties of a class that skecg wrote, its own and inherited ones."""
    for name in dir(cls):
        static = inspect.getattr_static(cls, name)
        function = static.fget if isinstance(static, property) else inspect.unwrap(getattr(static, "__func__", static))
        if name.startswith("_") or not inspect.isfunction(function) or not made_here(function):
            continue
        # Properties that a loop made have no line of their own to look at: the class's Attributes describe them.
        if function.__name__ == name:
            yield name


def public_objects() -> list[str]:
    """Return the dotted names of all public functions, classes and their members, each once."""
    names, seen = [], set()
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            obj = getattr(module, name)
            if not (inspect.isclass(obj) or inspect.isfunction(obj)) or not made_here(obj) or id(obj) in seen:
                continue
            seen.add(id(obj))
            names.append(f"{module.__name__}.{name}")
            if inspect.isclass(obj):
                names.extend(f"{module.__name__}.{name}.{member}" for member in members(obj))
    return names


def test_discovery_finds_rooms_classes_methods_and_functions():
    assert {module.__name__ for module in public_modules()} >= {f"skecg.{room}" for room in skecg._ROOMS}
    assert set(public_objects()) >= {
        "skecg.ECGClassifier",
        "skecg.ECGClassifier.fit",
        "skecg.ECGNet.forward",
        "skecg.GradCAM1D.explain",
        "skecg.fetch_mitdb",
    }


@pytest.mark.parametrize("module", list(public_modules()), ids=lambda module: module.__name__)
def test_every_room_lists_its_names_and_says_what_it_is(module):
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__) > 0


@pytest.mark.parametrize("name", public_objects())
def test_docstring_is_numpydoc(name):
    errors = [f"{code}: {text}" for code, text in validate(name)["errors"] if code not in IGNORED]
    assert not errors, "\n".join(errors)


def examples() -> list[doctest.DocTest]:
    """Return the doctests of all public objects."""
    parser = doctest.DocTestParser()
    docs = {name: locate(name).__doc__ for name in public_objects()}
    return [parser.get_doctest(doc, {}, name, None, None) for name, doc in docs.items() if doc and ">>>" in doc]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_example_gives_what_it_says(example, seeded):
    lines: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.DocTestRunner(optionflags=flags, verbose=False).run(example, out=lines.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(lines)
