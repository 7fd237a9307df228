"""ignite handlers: they attach to an engine and act at its events."""

from gnsm_monai.handlers.checkpoint import TrainingCheckpoint
from gnsm_monai.handlers.failure_roc import FailureRoc
from gnsm_monai.handlers.level_metrics import LevelCalibration, LevelLoss
from gnsm_monai.handlers.lists import ListWriter
from gnsm_monai.handlers.nifti_files import FlaggedWriter, MapWriter
from gnsm_monai.handlers.proposals import ProposalWriter
from gnsm_monai.handlers.ranking import RankingCollector
from gnsm_monai.handlers.trainer import (
    EndInTime,
    EpochSeed,
    GradientClip,
    StopOnNan,
    TerminalProgress,
    WarmUpEMA,
    existing,
)
from gnsm_monai.handlers.training_log import TrainingLog

__all__ = [
    "EndInTime",
    "EpochSeed",
    "FailureRoc",
    "FlaggedWriter",
    "GradientClip",
    "LevelCalibration",
    "LevelLoss",
    "ListWriter",
    "MapWriter",
    "ProposalWriter",
    "RankingCollector",
    "StopOnNan",
    "TerminalProgress",
    "TrainingCheckpoint",
    "TrainingLog",
    "WarmUpEMA",
    "existing",
]
