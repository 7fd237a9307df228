"""Steps of train.yaml: processes that torchrun started, references, data, training."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from monai.engines import Trainer
from torch.nn.parallel import DistributedDataParallel

from gnsm_monai.data.constants import LABEL
from gnsm_monai.data.datalist import find_spatial_dims
from gnsm_monai.data.layouts import AUTO
from gnsm_monai.data.nnunet import LabelScheme, read_label_scheme
from gnsm_monai.data.patients import FROM_NAMES
from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.data.references import References, read_references
from gnsm_monai.data.transforms import FitToGridd, encode_labels
from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.fitting.reference_failures import ReferenceFailures
from gnsm_monai.locks import lock_folder
from gnsm_monai.model.files import FORMAT
from gnsm_monai.model.quick import QUICK
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.networks.separable import smooth
from gnsm_monai.workflow.options import check_case_ids, check_folder_names

__all__ = [
    "check_failures",
    "dataset_scheme",
    "is_first_process",
    "join_processes",
    "lock_model",
    "maps_of_a_step",
    "num_processes",
    "part_processes",
    "phantoms_if_none",
    "process_device",
    "references",
    "run_settings",
    "spatial_dims",
    "train",
    "training_settings",
    "validation_interval",
    "with_prior",
]

MAX_STEP_VALUES = 20_000_000
"""Most values, classes times voxels, of the label maps of one training step: 80 MB, of which a dozen arrays exist."""


def num_processes() -> int:
    """How many processes torchrun started; 1 without it. Known before they join."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this one speaks for all that torchrun started; true without it. Known before they join."""
    return os.environ.get("RANK", "0") == "0"


def process_device() -> str:
    """GPU of this process, where there is one; by LOCAL_RANK, as ignite knows no ranks before processes join."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def join_processes(device: str) -> None:
    """Joins the processes that torchrun started: nccl between GPUs, gloo between CPU processes. Does nothing without.

    The time-out is long: the others wait while the first one scores the held-out references.
    """
    alone = num_processes() == 1 and not torch.distributed.is_torchelastic_launched()
    if alone or torch.distributed.is_initialized():
        return
    cuda = str(device).startswith("cuda")
    if cuda:
        torch.cuda.set_device(torch.device(device))
    torch.distributed.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(hours=12))


def part_processes(network: DistributedDataParallel | None = None) -> None:
    """Ends the process group, threads included; ``network`` cannot be trained any further.

    A trained network holds the group as well. It must let go of it here: otherwise gloo's threads live until the
    interpreter ends and may abort the process (SIGABRT, after the model is complete) when they free a tensor:
    https://github.com/pytorch/pytorch/pull/179291.
    """
    if network is not None:
        for name in ("logger", "reducer", "process_group"):  # what DistributedDataParallel itself drops when copied
            vars(network).pop(name, None)
    idist.sync()  # or nothing is ended where ignite was not asked for a rank before
    idist.finalize()


logger = logging.getLogger("gnsm_monai.workflow")


@exit_on_input_error()
def lock_model(model_dir: str) -> None:
    """Refuses a model's folder where another training writes; see :func:`gnsm_monai.locks.lock_folder`."""
    lock_folder(model_dir)


@exit_on_input_error()
def train(trainer: Trainer) -> None:
    """Runs MONAI's trainer; a checkpoint that cannot be continued ends in one line."""
    trainer.run()


@exit_on_input_error()
def spatial_dims(dataset_dir: str | None, labels_dir: str | None, layout: str = AUTO) -> int:
    """2 or 3, from the label files; 3 for phantoms."""
    check_folder_names(dataset_dir=dataset_dir, labels_dir=labels_dir)
    folder = labels_dir or dataset_dir
    if not folder or not Path(folder).is_dir():  # what is missing is named where references are read
        return 3
    if not labels_dir and not (Path(folder) / "labelsTr").is_dir() and not (Path(folder) / "dataset.json").is_file():
        return 3
    return find_spatial_dims(folder, bool(labels_dir), layout)


@exit_on_input_error()
def phantoms_if_none(
    dataset_dir: str | None, data_dir: str, spatial_dims: int, labels_dir: str | None = None, seed: int = 0
) -> str:
    """``dataset_dir`` or ``labels_dir``, or the built-in phantoms where none is given: made once, in ``data_dir``."""
    check_folder_names(dataset_dir=dataset_dir, labels_dir=labels_dir)
    if spatial_dims not in (2, 3) or isinstance(spatial_dims, bool):
        raise InputError(f"spatial_dims: 2 or 3 is needed, got {spatial_dims!r}")
    if dataset_dir and labels_dir:
        raise InputError("dataset_dir, labels_dir: give one of them")
    if dataset_dir or labels_dir:
        return str(dataset_dir or labels_dir)
    if idist.get_local_rank() > 0:
        idist.barrier()
    folder = str(write_phantom_dataset(Path(data_dir), spatial_dims, seed=seed))
    if idist.get_local_rank() == 0:
        idist.barrier()
    return folder


@exit_on_input_error()
def dataset_scheme(dataset_dir: str) -> LabelScheme | None:
    """The classes that a data set's dataset.json declares; None without one."""
    return read_label_scheme(Path(dataset_dir))


@exit_on_input_error()
def check_failures(references: References, failures: str) -> None:
    """Refuses a source of failures that these references do not have."""
    ReferenceFailures(references, failures)


@exit_on_input_error()
def references(
    dataset_dir: str,
    spatial_dims: int,
    with_images: bool,
    max_voxels: int,
    seed: int,
    bare: bool = False,
    exclude: Sequence[str] = (),
    loading: Sequence[Callable[..., Any]] | None = None,
    layout: str = AUTO,
    patients: str = FROM_NAMES,
) -> References:
    """See :func:`gnsm_monai.data.references.read_references`."""
    check_case_ids("exclude_cases", exclude)
    references = read_references(
        dataset_dir, spatial_dims, with_images, max_voxels, seed, bare, exclude, loading, layout, patients
    )
    logger.info(
        "%s: %d references (%d for training, %d for selection, %d for calibration), %s, grid of %s voxels of %s mm",
        dataset_dir,
        len(references.cases),
        *(len(references.used_for(use)) for use in ("train", "selection", "calibration")),
        ", ".join(references.scheme.structure_names),
        "x".join(map(str, references.spatial_size)),
        "x".join(f"{mm:.3g}" for mm in references.voxel_size),
    )
    return references


def validation_interval(epochs: int) -> int:
    """Epochs between validations: a divisor, so that one follows the last epoch, and at most a quarter of all."""
    return max(n for n in range(1, max(1, epochs // 4) + 1) if epochs % n == 0)


def maps_of_a_step(references: References, most: int) -> int:
    """How many maps a training step takes, of ``most``: fewer of large volumes with many classes, one at least."""
    return max(1, min(most, MAX_STEP_VALUES // (references.scheme.num_classes * math.prod(references.spatial_size))))


def with_prior(network: ScoreUNet, references: References) -> ScoreUNet:
    """Gives the network the frequency of each class at each voxel of what it learns from, smoothed by a voxel."""
    if network.position_size is None:
        return network
    counts, place = torch.zeros_like(network.log_prior), FitToGridd(references.spatial_size)
    for case in references.training_cases:
        label = place({LABEL: references.stored.label(case)})[LABEL]
        counts += encode_labels(label[None], network.num_classes)[0][0]
    frequencies = smooth(counts[None], sigma=1.0)[0]
    network.set_prior(frequencies / frequencies.sum(0, keepdim=True))
    return network


def training_settings(
    references: References, network: ScoreUNet, parametrisation: str, scoring: Mapping[str, Any], quick: bool = False
) -> dict[str, Any]:
    """Plain values that scoring needs besides the weights: kept in the model's settings.json."""
    return {
        "format": FORMAT,
        "dataset": references.name,
        "spatial_dims": len(references.spatial_size),
        "labels": references.scheme.to_dict(),
        "always_present": references.always_present,
        "never_empty": references.never_empty,
        "voxel_size": references.voxel_size,
        "spatial_size": references.spatial_size,
        "fields_of_view": references.fields_of_view.to_dict(),
        "parametrisation": parametrisation,
        "network": network.settings,
        "scoring": dict(scoring),
        **({QUICK: True} if quick else {}),
        "cases": {  # files still call the selection "fit", as version 0.2 did
            name: len(references.used_for(use))
            for name, use in {"train": "train", "fit": "selection", "calibration": "calibration"}.items()
        },
    }


def run_settings(options: Mapping[str, Any], network: ScoreUNet, references: References) -> dict[str, Any]:
    """Plain values that decide what a training ends with: a continued one must share them with the one stopped."""
    recorded = ("seed", "epochs", "steps_per_epoch", "batch_size", "learning_rate")
    return {
        **{name: options[name] for name in recorded},
        "loss": options["objective"],
        "network": network.settings,
        "cases": [case["case"] for case in references.used_for("train")],
    }
