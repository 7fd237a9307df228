"""From label maps to anomaly scores: level statistics, densities, and what held-out references score."""

from typing import Any

from gnsm_monai.scoring.anomaly import AnomalyModel
from gnsm_monai.scoring.calibration import Calibration, DicePredictor, p_values
from gnsm_monai.scoring.journal import Journal
from gnsm_monai.scoring.model_files import load_anomaly_model, load_calibration, load_settings, load_weights
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
    "Journal",
    "Scorer",
    "load_anomaly_model",
    "load_calibration",
    "load_settings",
    "load_weights",
    "p_values",
]


def __getattr__(name: str) -> Any:
    """``ReferenceFit`` by its name in configs of version 0.2; imported late, as it builds on this package."""
    if name == "ReferenceFit":
        from gnsm_monai.fitting import ReferenceFit

        return ReferenceFit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
