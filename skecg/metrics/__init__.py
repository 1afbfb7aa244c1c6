"""Scores of relevance: against a truth, by what its deletion does to the classifier, and their intervals."""

from ._completeness import completeness_score
from ._intervals import bootstrap_score
from ._localisation import centre_prior, chance_level, pointing_game_score, relevance_mass_score
from ._perturbation import perturbation_curves
from ._ranking import relevance_auc_score, relevance_average_precision_score, relevance_rank_score
from ._scorer import PerturbationScorer, RelevanceScorer

__all__ = [
    "PerturbationScorer",
    "RelevanceScorer",
    "bootstrap_score",
    "centre_prior",
    "chance_level",
    "completeness_score",
    "perturbation_curves",
    "pointing_game_score",
    "relevance_auc_score",
    "relevance_average_precision_score",
    "relevance_mass_score",
    "relevance_rank_score",
]
