"""ignite handlers: they attach to an engine and act at its events."""

from gnsm_monai.handlers.checkpoint import TrainingCheckpoint
from gnsm_monai.handlers.ema import WarmUpEMA
from gnsm_monai.handlers.epoch_seed import EpochSeed
from gnsm_monai.handlers.failure_roc import FailureRoc
from gnsm_monai.handlers.flagged import FlaggedWriter
from gnsm_monai.handlers.gradient_clip import GradientClip
from gnsm_monai.handlers.level_calibration import LevelCalibration
from gnsm_monai.handlers.level_loss import LevelLoss
from gnsm_monai.handlers.maps import MapWriter
from gnsm_monai.handlers.progress import TerminalProgress
from gnsm_monai.handlers.ranking import RankingCollector
from gnsm_monai.handlers.reuse import existing
from gnsm_monai.handlers.stop_on_nan import StopOnNan
from gnsm_monai.handlers.training_log import TrainingLog

__all__ = [
    "EpochSeed",
    "FailureRoc",
    "FlaggedWriter",
    "GradientClip",
    "LevelCalibration",
    "LevelLoss",
    "MapWriter",
    "RankingCollector",
    "StopOnNan",
    "TerminalProgress",
    "TrainingCheckpoint",
    "TrainingLog",
    "WarmUpEMA",
    "existing",
]
