"""What the bundles' configs call: each function is one step whose user errors end in one line and exit code 2."""

from gnsm_monai.cudnn import name_known_faults
from gnsm_monai.engines import single_case
from gnsm_monai.errors import SCORING_FAILED
from gnsm_monai.memory import keep_large_arrays
from gnsm_monai.workflow.finishing import finish_training
from gnsm_monai.workflow.options import (
    check_loss,
    check_model_dir,
    check_options,
    check_output_dir,
    check_rule,
    check_scoring_options,
    noise_schedule,
    refuse,
)
from gnsm_monai.workflow.scoring import (
    load_model,
    marks,
    predictions,
    ranking_settings,
    reading,
    references_dir,
    score,
    stop_if_failed,
)
from gnsm_monai.workflow.training import (
    check_failures,
    dataset_scheme,
    join_processes,
    lock_model,
    maps_of_a_step,
    part_processes,
    phantoms_if_none,
    process_device,
    references,
    run_settings,
    spatial_dims,
    train,
    training_settings,
    validation_interval,
    with_prior,
)

__all__ = [
    "SCORING_FAILED",
    "check_failures",
    "check_loss",
    "check_model_dir",
    "check_options",
    "check_output_dir",
    "check_rule",
    "check_scoring_options",
    "dataset_scheme",
    "finish_training",
    "join_processes",
    "keep_large_arrays",
    "load_model",
    "lock_model",
    "maps_of_a_step",
    "marks",
    "name_known_faults",
    "noise_schedule",
    "part_processes",
    "phantoms_if_none",
    "predictions",
    "process_device",
    "ranking_settings",
    "reading",
    "references",
    "references_dir",
    "refuse",
    "run_settings",
    "score",
    "single_case",
    "spatial_dims",
    "stop_if_failed",
    "train",
    "training_settings",
    "validation_interval",
    "with_prior",
]
