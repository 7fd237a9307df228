"""After training: shapes and failures of the references, and the anomaly score that is fitted to them."""

from gnsm_monai.fitting.reference_failures import SOURCES, ReferenceFailures
from gnsm_monai.fitting.reference_fit import ReferenceFit
from gnsm_monai.fitting.shapes import ShapeLearner

__all__ = ["SOURCES", "ReferenceFailures", "ReferenceFit", "ShapeLearner"]
