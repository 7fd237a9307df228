"""What the score network is trained on."""

from gnsm_monai.losses.score_matching import LOSSES, ScoreMatchingLoss
from gnsm_monai.losses.table import TableScoreMatchingLoss

__all__ = ["LOSSES", "ScoreMatchingLoss", "TableScoreMatchingLoss"]
