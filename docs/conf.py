"""Settings of the docs: built strictly (`sphinx-build -W`) and without network."""

import inspect
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import skecg  # noqa: E402 - the tree beside the docs, whatever is installed

# Pages of names that are gone would fail the strict build as pages that nothing lists.
for made in ("generated", "auto_examples"):
    shutil.rmtree(HERE / made, ignore_errors=True)

project = "skecg"
author = "skecg developers"
project_copyright = f"2026, {author}"
release = version = skecg.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "auto_examples/**.ipynb", "studies/*.md"]  # studies: parts of papers.md
templates_path = ["_templates"]

html_theme = "pydata_sphinx_theme"
html_title = f"skecg {release}"
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
html_sidebars = {"**": ["sidebar-nav-bs"], "index": []}
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_ignore_module_all = False  # what a room lists is public, wherever it was written
autosummary_imported_members = True
# The types stand in the docstrings, with shapes and units; twice would be once too often.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the template of classes lists them

# A role that names what does not exist fails the build. Without a network there is no inventory of other projects or
# of the standard library, so that their names are left as they are.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(sklearn|torch|skorch|captum|shap|numpy|np|pandas|pd|scipy|matplotlib|wfdb)\..*"),
    (r"py:.*", r"(collections|functools|io|logging|os|pathlib|warnings)\..*"),
]

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    # Executed by `sphinx-build -t gallery`; the strict build of every day only typesets the examples.
    "plot_gallery": tags.has("gallery"),  # noqa: F821 - Sphinx puts `tags` here
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
}


def skip_member(app, what, name, obj, skip, options):
    """Leave out what scikit-learn adds to every estimator: its own docs say it, in links that lead out of these."""
    inherited = inspect.isfunction(obj) and obj.__module__.startswith(("sklearn.", "torch."))
    request = name.startswith("set_") and name.endswith("_request")
    of_dict = getattr(obj, "__objclass__", None) is dict or getattr(obj, "__self__", None) is dict
    return True if inherited or request or of_dict else skip


def escape_attributes(app, what, name, obj, options, lines):
    """Keep `n_outputs_` in a type such as "ndarray of shape (n_outputs_,)" from being read as a link."""
    for i, line in enumerate(lines):
        if re.match(r"\s*\*\*[^*]+\*\* : ", line):
            lines[i] = re.sub(r"(?<=\w)_(?=[,)\s]|$)", r"\_", line)


def setup(app):
    """Connect the hooks of autodoc."""
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", escape_attributes, priority=600)  # after numpydoc
