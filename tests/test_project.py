"""The project's own rules: versions that agree, light imports that go one way, a complete wheel, the two commands."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import skecg

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = sorted((ROOT / "skecg").rglob("*.py"))

# Higher rooms may import lower ones; rooms of equal rank do not know each other, but for the pair below.
RANKS = [
    {"utils"},
    {"datasets", "preprocessing", "models", "beats", "metrics"},
    {"classifiers"},
    {"explain"},
    {"relevance"},
    {"plotting", "cohort", "persistence", "report"},
]
ALLOWED_BESIDE = {("datasets", "beats")}

INSTALL_AND_RUN = "python -m pip install -c constraints.txt . && python examples/quickstart.py"
TEST = "python -m pip install tox && python -m tox run"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(extra: str | None = None) -> dict[str, Requirement]:
    lines = PYPROJECT["dependencies"] if extra is None else PYPROJECT["optional-dependencies"][extra]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def pins(text: str) -> dict[str, Version]:
    found = re.findall(r"^ *([A-Za-z0-9._-]+)==(\S+) *$", text, flags=re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


# ---------------------------------------------------------------------------------------------------------- versions


@pytest.mark.parametrize("extra", [None, *PYPROJECT["optional-dependencies"]])
def test_constraints_name_a_version_inside_each_range(extra):
    tested = pins(read("constraints.txt"))
    for name, requirement in requirements(extra).items():
        assert name in tested, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(tested[name]), f"{name}=={tested[name]} is not {requirement.specifier}"


def test_oldest_pins_every_floor():
    oldest = pins(read("tox.ini").partition("[testenv:oldest]")[2])
    floors = {}
    for name, requirement in {**requirements(), **requirements("test")}.items():
        (floor,) = [s.version for s in requirement.specifier if s.operator == ">="]
        floors[name] = Version(floor)
    # Its oldest CPU builds lie on PyTorch's own index, which the project does not name.
    floors["torch"] = pins(read("constraints.txt"))["torch"]
    assert oldest == floors


def test_one_version_everywhere():
    (cited,) = re.findall(r"^version: (\S+)$", read("CITATION.cff"), flags=re.MULTILINE)
    newest = re.findall(r"^## (\d\S*)", read("CHANGELOG.md"), flags=re.MULTILINE)[0]
    assert PYPROJECT["dynamic"] == ["version"]  # read from skecg/__init__.py
    assert cited == newest == skecg.__version__


def test_installed_version_is_that_of_the_tree():
    try:
        installed = metadata.version("skecg")
    except metadata.PackageNotFoundError:
        pytest.skip("skecg runs from its source tree here, it is not installed")
    assert installed == skecg.__version__


def test_hooks_use_the_tested_versions():
    hooks = dict(re.findall(r'additional_dependencies: \["([\w-]+)==([\d.]+)"\]', read(".pre-commit-config.yaml")))
    tested = pins(read("constraints.txt"))
    assert set(hooks) == {"ruff", "codespell"}
    assert {name: Version(version) for name, version in hooks.items()} == {name: tested[name] for name in hooks}


# ---------------------------------------------------------------------------------------------------------- the house


def test_folders_at_the_top():
    made = {"__pycache__", "build", "dist", "venv"}  # by tools, ignored by git
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".")}
    assert folders - made == {"skecg", "tests", "docs", "examples"}


def rooms_imported(path: Path) -> Iterator[str]:
    """Yield the room of every import of skecg in a file, whether at its top or inside a function."""
    package = list(path.relative_to(ROOT).with_suffix("").parts)[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "skecg" and len(parts) > 1:
                yield parts[1]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "skecg")))
def test_imports_go_down_only(path):
    room = path.relative_to(ROOT / "skecg").with_suffix("").parts[0]
    if room == "__init__":
        assert set(rooms_imported(path)) == set()  # public names load on first use
        return
    rank = {name: i for i, names in enumerate(RANKS) for name in names}
    for other in set(rooms_imported(path)) - {room, "__version__"}:
        assert rank[other] < rank[room] or (room, other) in ALLOWED_BESIDE, f"{room} imports {other}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "skecg")))
def test_files_are_short_and_say_what_they_are_for(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    assert ast.get_docstring(ast.parse(text))


def loaded_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after `code`."""
    probe = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=environment)
    return set(run.stdout.split())


def test_import_skecg_is_light():
    heavy = {"torch", "sklearn", "skorch", "numpy", "scipy", "pandas", "matplotlib", "shap", "wfdb", "requests"}
    assert loaded_after("import skecg") & heavy == set()


def test_rooms_load_slow_packages_only_where_they_are_used():
    rooms = "".join(f"import skecg.{room}\n" for room in skecg._ROOMS)
    loaded = loaded_after(rooms)
    assert {"torch", "sklearn"} <= loaded
    beside = {"shap", "matplotlib", "wfdb", "captum", "numba", "neurokit2", "h5py", "zarr", "bokeh", "dask"}
    assert loaded & {*beside, "distributed"} == set()


def test_public_names_resolve_and_are_listed():
    assert dir(skecg) == sorted(skecg.__all__)
    for name in skecg.__all__:
        assert getattr(skecg, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'ecgnet'"):
        skecg.ecgnet  # noqa: B018 - looking it up is the test


def test_wheel_holds_the_whole_package(tmp_path):
    builder = pytest.importorskip("hatchling.builders.wheel", reason="the build backend is in the extra `test`")
    (wheel,) = builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("skecg/")}
    there = {p.relative_to(ROOT).as_posix() for p in (ROOT / "skecg").rglob("*") if p.is_file()}
    assert packed == {name for name in there if "__pycache__" not in name}
    assert "skecg/py.typed" in packed


# --------------------------------------------------------------------------------------------------------- commands


def test_readme_commands_are_the_ones_that_ci_runs():
    lines = read("README.md").splitlines()
    assert INSTALL_AND_RUN in lines
    assert TEST in lines
    assert TEST in read(".ci/run")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_no_package_index_is_named():
    files = [*ROOT.glob("*.*"), ROOT / ".ci" / "run", ROOT / ".pre-commit-config.yaml", *(ROOT / "docs").glob("*.*")]
    index = re.compile(r"pypi\.(org|python)|download\.pytorch|--(extra-)?index-url|--find-links|/whl/")
    named = {path.name: index.findall(path.read_text(encoding="utf-8")) for path in files if path.is_file()}
    assert {name: found for name, found in named.items() if found} == {}
