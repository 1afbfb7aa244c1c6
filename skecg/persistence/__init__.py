"""Files of fitted estimators that execute nothing: save and load."""

from __future__ import annotations

from ._load import load
from ._save import save

__all__ = ["load", "save"]
