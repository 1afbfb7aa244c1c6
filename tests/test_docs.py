"""The code in the README and in the docs' pages: it names what exists, and every page runs from its top to its end."""

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sklearn
import wfdb

import skecg

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[tuple[int, str]]:
    """Return (line, code) of every fenced block of Python in a page."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, block.start()) + 1, block[1]) for block in found]


WITH_CODE = [page for page in PAGES if blocks(page)]
BLOCKS = [pytest.param(code, id=f"{page.name}:{line}") for page in WITH_CODE for line, code in blocks(page)]


def imported_from_skecg(tree: ast.AST) -> dict[str, object]:
    """Import what a block imports from skecg; a name that does not exist raises."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "skecg":
            module = importlib.import_module(node.module)
            names.update({alias.asname or alias.name: getattr(module, alias.name) for alias in node.names})
    return names


def accepts(function: Callable, keyword: str) -> bool:
    parameters = inspect.signature(function).parameters
    prefixes = ("module__", "criterion__", "optimizer__", "callbacks__")
    return keyword in parameters or ("module__kwargs" in parameters and keyword.startswith(prefixes))


def test_pages_that_should_have_code_have_it():
    assert {page.name for page in WITH_CODE} == {
        "README.md", "cohorts.md", "faq.md", "first_explanation.md", "large_data.md", "saving.md", "user_guide.md",
    }  # fmt: skip


@pytest.mark.parametrize("code", BLOCKS)
def test_block_names_what_exists(code):
    tree = ast.parse(code)
    known = imported_from_skecg(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Name) and call.func.id in known:
            for keyword in filter(None, (k.arg for k in call.keywords)):
                assert accepts(known[call.func.id], keyword), f"{call.func.id} has no parameter {keyword}"


def small(code: str) -> str:
    """Return the code with less to compute: the test is whether it runs, not how well the network learns."""
    for pattern, less in (
        (r"make_ecg\(\d+", "make_ecg(60"),
        (r"max_epochs=\d+", "max_epochs=1"),
        (r"module__width=\d+", "module__width=1"),
        (r"MaskDeletion\(clf", "MaskDeletion(clf, n_iter=2"),
        (r"\[:3000\]", "[:30]"),
    ):
        code = re.sub(pattern, less, code)
    return code


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Work in an empty folder, with simulated windows for MIT-BIH and a WFDB record at path/to/100."""
    windows = skecg.make_ecg(80, classes=("N", "PVC"), random_state=1)
    monkeypatch.setattr(skecg, "fetch_mitdb", lambda **_: windows)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "path" / "to"
    folder.mkdir(parents=True)
    signal = skecg.make_ecg(20, fs=250.0, random_state=2).data.reshape(-1, 1).astype(np.float64)
    wfdb.wrsamp("100", fs=250, units=["mV"], sig_name=["MLII"], p_signal=signal, fmt=["16"], write_dir=str(folder))
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*the relevance is zero everywhere", "ignore:.*fully replaced signal is itself")
@pytest.mark.filterwarnings("ignore:Precision is ill-defined")  # one epoch is too little to learn both classes
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_page_runs_from_its_top_to_its_end(page, elsewhere, seeded):
    namespace = {"__name__": "__main__"}
    with sklearn.config_context():  # a page may turn metadata routing on
        for line, code in blocks(page):
            exec(compile("\n" * line + small(code), str(page), "exec"), namespace)
    pictures = {name for _, code in blocks(page) for name in re.findall(r'savefig\("(.+?)"', code)}
    assert {path.name for path in elsewhere.glob("*.png")} == pictures


def test_quickstart_is_a_page_of_the_gallery():
    text = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    title, underline = ast.get_docstring(ast.parse(text)).splitlines()[:2]
    assert underline == "=" * len(title)
    assert "__doc__" not in text  # sphinx-gallery runs the code without its docstring
