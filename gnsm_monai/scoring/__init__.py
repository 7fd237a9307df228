"""From label maps to level statistics, and a model's files."""

from gnsm_monai.scoring.model_files import load_anomaly_model, load_calibration, load_settings, load_weights
from gnsm_monai.scoring.reference_fit import ReferenceFit
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.structures import Structures

__all__ = [
    "ReferenceFit",
    "Scorer",
    "Structures",
    "load_anomaly_model",
    "load_calibration",
    "load_settings",
    "load_weights",
]
