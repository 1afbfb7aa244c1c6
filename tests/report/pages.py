"""A report taken apart: its elements, its facts, its arrays."""

from __future__ import annotations

import base64
import json
import zlib
from html.parser import HTMLParser

import numpy as np


class Tags(HTMLParser):
    """The elements of a page, as a browser's parser sees them: every start tag, and the text of each script."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.scripts, self.headings = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append([dict(attrs), ""])

    def handle_data(self, text):
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1][1] += text

    def facts(self):
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id") == "facts"))

    def array(self, name):
        """Decode an array as the page's script does, by its description in the docs and not by our code."""
        text = next(text for attrs, text in self.scripts if attrs.get("id") == name)
        raw = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).astype(np.int64)
        n = len(raw) // 2
        values = np.cumsum(raw[:n] + 256 * raw[n:]) % 65536
        values = np.where(values > 32767, values - 65536, values)
        scale = next(one["scale"] for one in self.facts()["arrays"] if one["id"] == name)
        return np.where(values == -32768, np.nan, values * scale), scale


def read(path):
    return Tags(path.read_text(encoding="utf-8"))
