"""The score network, and the two ways to read a score from its logits."""

from gnsm_monai.networks.context import ContextMisfit
from gnsm_monai.networks.layers import plan_strides
from gnsm_monai.networks.parametrisation import PARAMETRISATIONS, direct_score, posterior_score, score_from_logits
from gnsm_monai.networks.score_mlp import ScoreMLP
from gnsm_monai.networks.score_unet import ScoreUNet

__all__ = [
    "PARAMETRISATIONS",
    "ContextMisfit",
    "ScoreMLP",
    "ScoreUNet",
    "direct_score",
    "plan_strides",
    "posterior_score",
    "score_from_logits",
]
