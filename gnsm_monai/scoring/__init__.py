"""From label maps to anomaly scores: level statistics, densities, and what held-out references score."""

from gnsm_monai.scoring.anomaly import RULES, AnomalyModel
from gnsm_monai.scoring.reference_fit import ReferenceFit, load_anomaly_model, load_settings, load_weights
from gnsm_monai.scoring.scorer import STATISTICS, CaseStatistics, Scorer

__all__ = [
    "RULES",
    "STATISTICS",
    "AnomalyModel",
    "CaseStatistics",
    "ReferenceFit",
    "Scorer",
    "load_anomaly_model",
    "load_settings",
    "load_weights",
]
