"""What MONAI's engines need to train the score network and to score masks."""

from gnsm_monai.engines.batches import ChunkedInferer, NoisyLabelPrepareBatch
from gnsm_monai.engines.completion import Completion
from gnsm_monai.engines.corrections import Corrections
from gnsm_monai.engines.graphs import GraphInferer
from gnsm_monai.engines.score_step import ScoreStep, single_case

__all__ = [
    "ChunkedInferer",
    "Completion",
    "Corrections",
    "GraphInferer",
    "NoisyLabelPrepareBatch",
    "ScoreStep",
    "single_case",
]
