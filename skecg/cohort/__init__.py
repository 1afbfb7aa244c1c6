"""Cohorts: any number of records explained and aggregated, on one machine or many."""

from __future__ import annotations

from ._cohort import explain_cohort

__all__ = ["explain_cohort"]
