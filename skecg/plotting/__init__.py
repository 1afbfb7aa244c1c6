"""Pictures of ECG and relevance; matplotlib is imported when something is drawn."""

from ._epochs import EpochsDisplay
from ._record import RecordDisplay
from ._relevance import RelevanceDisplay

__all__ = ["EpochsDisplay", "RecordDisplay", "RelevanceDisplay"]
