"""From level statistics to an anomaly score, and from that to decisions: statistics, rules, calibration. No torch."""

from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.calibration import Calibration, p_values
from gnsm_monai.rules.fit_data import FitData
from gnsm_monai.rules.levels import CaseStatistics, LevelStatistics, stack_levels, stored_levels, to_array
from gnsm_monai.rules.predictors import DicePredictor
from gnsm_monai.rules.rule import Rule
from gnsm_monai.rules.rules import RULES
from gnsm_monai.rules.statistics import STATISTICS

__all__ = [
    "RULES", "STATISTICS", "AnomalyModel", "Calibration", "CaseStatistics", "DicePredictor", "FitData",
    "LevelStatistics", "Rule", "p_values", "stack_levels", "stored_levels", "to_array",
]  # fmt: skip
