"""What the score network is trained on."""

from gnsm_monai.losses.score_matching import LOSSES, ScoreMatchingLoss, TableScoreMatchingLoss

__all__ = ["LOSSES", "ScoreMatchingLoss", "TableScoreMatchingLoss"]
