"""Pictures of ECG and relevance; matplotlib is imported when something is drawn."""

from ._average_beat import AverageBeatDisplay
from ._cohort import CohortDisplay
from ._epochs import EpochsDisplay
from ._perturbation import PerturbationDisplay
from ._probability import ProbabilityDisplay
from ._record import RecordDisplay
from ._relevance import RelevanceDisplay
from ._sanity import SanityDisplay
from ._twelve_lead import TwelveLeadDisplay
from ._wave_map import WaveMapDisplay

__all__ = [
    "AverageBeatDisplay",
    "CohortDisplay",
    "EpochsDisplay",
    "PerturbationDisplay",
    "ProbabilityDisplay",
    "RecordDisplay",
    "RelevanceDisplay",
    "SanityDisplay",
    "TwelveLeadDisplay",
    "WaveMapDisplay",
]
