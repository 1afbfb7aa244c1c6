"""R peaks of ECG, and the limits of P wave, QRS complex and T wave."""

from ._beats import LIMITS, Beats
from ._delineate import delineate
from ._find import find_beats

__all__ = ["LIMITS", "Beats", "delineate", "find_beats"]
