"""From label maps to anomaly scores: level statistics, densities, and what held-out references score."""

from gnsm_monai.scoring.anomaly import AnomalyModel
from gnsm_monai.scoring.calibration import Calibration, DicePredictor, p_values
from gnsm_monai.scoring.reference_fit import ReferenceFit
from gnsm_monai.scoring.rules import RULES
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.statistics import STATISTICS, CaseStatistics

__all__ = [
    "RULES",
    "STATISTICS",
    "AnomalyModel",
    "Calibration",
    "CaseStatistics",
    "DicePredictor",
    "ReferenceFit",
    "Scorer",
    "p_values",
]
