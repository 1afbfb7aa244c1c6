"""Reports: one HTML file to scroll, of ECG coloured by relevance."""

from __future__ import annotations

from ._write import write_report

__all__ = ["write_report"]
