"""Anomalies in tables of categorical features, by the same noise, losses and scores as label maps."""

from gnsm_monai.tabular.detector import GNSMDetector
from gnsm_monai.tabular.encoder import TableEncoder

__all__ = ["GNSMDetector", "TableEncoder"]
