"""The noise that hides labels: relaxed one-hot variables and the levels of their noise."""

from gnsm_monai.noise.blocks import FeatureBlocks
from gnsm_monai.noise.gumbel import gumbel_noise, hide, log_density, relax, score
from gnsm_monai.noise.schedule import NoiseSchedule, build_schedule, mixing_schedule, temperature_schedule

__all__ = [
    "FeatureBlocks",
    "NoiseSchedule",
    "build_schedule",
    "gumbel_noise",
    "hide",
    "log_density",
    "mixing_schedule",
    "relax",
    "score",
    "temperature_schedule",
]
