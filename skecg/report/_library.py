"""BokehJS, out of the installed package, and the page's policy, which lets nothing else run or load."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

_PARTS = ["bokeh", "bokeh-api"]
_VIEWER = ("decode.js", "plots.js", "viewer.js")


def read_file(name: str) -> str:
    """Return a file of this package, with line ends as HTML parsers see them."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def viewer_script() -> str:
    """Return the viewer as one script, whose names stay inside it."""
    return '\n"use strict";\n(() => {\n' + "\n".join(read_file(name) for name in _VIEWER) + "\n})();\n"


def bokeh_scripts() -> tuple[list[str], str]:
    """Return BokehJS as scripts, and its version.

    Raises
    ------
    ImportError
        Where bokeh is not installed.
    """
    try:
        import bokeh
        from bokeh.resources import Resources
    except ImportError as error:
        raise ImportError("write_report draws with bokeh: pip install skecg[report]") from error
    found = Resources(mode="inline", minified=True, log_level="warn", components=_PARTS).js_raw
    # the file of the library itself may not end its script element early
    return [_as_script(text) for text in found], bokeh.__version__


def _as_script(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return re.sub(r"<(?=/script|!--)", r"\\x3c", text, flags=re.IGNORECASE)


def policy(scripts: list[str]) -> str:
    """Return the content security policy: these scripts and no other, no request to anywhere."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
