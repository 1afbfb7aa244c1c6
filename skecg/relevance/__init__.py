"""Relevance of a whole cohort, summed up by record, lead, wave or beat, with intervals over patients."""

from __future__ import annotations

from ._aggregator import RelevanceAggregator

__all__ = ["RelevanceAggregator"]
