"""Harmonisation: site effects taken out of maps and tables, effects of covariates kept (ComBat)."""

from arcuate.harmonize.estimates import CombatEstimates, Covariates
from arcuate.harmonize.steps import harmonize_table, harmonize_values, harmonize_volumes

__all__ = ["CombatEstimates", "Covariates", "harmonize_table", "harmonize_values", "harmonize_volumes"]
