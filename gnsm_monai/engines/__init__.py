"""What MONAI's engines need to train the score network and to score masks."""

from gnsm_monai.engines.chunked_inferer import ChunkedInferer
from gnsm_monai.engines.prepare_batch import NoisyLabelPrepareBatch
from gnsm_monai.engines.score_step import ScoreStep, single_case

__all__ = [
    "ChunkedInferer",
    "NoisyLabelPrepareBatch",
    "ScoreStep",
    "single_case",
]
