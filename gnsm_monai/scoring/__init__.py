"""From label maps to level statistics, and the result of a case."""

from gnsm_monai.scoring.journal import Journal
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.structures import Structures

__all__ = ["Journal", "Scorer", "Structures"]
