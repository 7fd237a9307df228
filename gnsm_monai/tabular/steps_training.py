"""Steps of training by the bundle ``tabular_anomaly``: the table, and the score that is fitted at the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from monai.engines import Evaluator, Trainer

from gnsm_monai import workflow
from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.files import load_json, save_json, write_atomically
from gnsm_monai.handlers.training_log import level_table
from gnsm_monai.locks import unlock_folder
from gnsm_monai.losses import LOSSES
from gnsm_monai.networks import ScoreMLP
from gnsm_monai.noise import NoiseSchedule
from gnsm_monai.paths import bundle_root
from gnsm_monai.tabular.batches import TrainingTable
from gnsm_monai.tabular.column_words import doubtful_columns, numbers_rows, understood
from gnsm_monai.tabular.encoder import TableEncoder
from gnsm_monai.tabular.files import Table, numerical_columns, read_table
from gnsm_monai.tabular.model import TrainedTable
from gnsm_monai.tabular.options import check_options_or_exit as check_options
from gnsm_monai.tabular.row_rules import MAX_REFERENCES, choose_rule
from gnsm_monai.tabular.rows import one_thread
from gnsm_monai.tabular.training import TrainingPlan, best_network, own_random_numbers
from gnsm_monai.tabular.trimming import trimmed
from gnsm_monai.tabular.values import MISSING_TEXTS

__all__ = ["check_options", "finish_training", "run_settings", "train", "training_table", "trimmed_table"]

SHARES = {"train": 0.8, "validation": 0.1, "calibration": 0.1}
MIN_ROWS = 20
CONTINUED = ("seed", "epochs", "batch_size", "learning_rate", "objective", "trim")

logger = logging.getLogger("gnsm_monai.workflow")


@exit_on_input_error()
def training_table(
    path: str,
    numerical_features: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    bins: int = 20,
    seed: int = 0,
    missing: Sequence[Any] | None = None,
    decimal: str = "auto",
) -> TrainingTable:
    """Reads a CSV file and splits its rows for training, validation and calibration.

    Args:
        path: of the file.
        numerical_features, ignore: names of columns to bin, None finds them; and of columns that are not used.
        bins: of numerical columns.
        seed: of the split.
        missing, decimal: as :func:`gnsm_monai.tabular.files.read_table` has them; None for what pandas takes.

    Raises:
        InputError: the file cannot be used, or has too few rows.
    """
    absent = tuple(sorted(MISSING_TEXTS) if missing is None else map(str, missing))
    table = read_table(path, absent, decimal)
    if unknown := [name for name in ignore if name not in table.names]:
        raise InputError(f"ignore_columns: {path} has no column '{unknown[0]}'")
    if both := [name for name in numerical_features or () if name in ignore]:
        raise InputError(f"numerical_features: the column '{both[0]}' of {path} is one of those to ignore")
    numbering = [""] if "" in table.names and numbers_rows(table.select([""], path)[:, 0]) else []
    columns = [name for name in table.names if name not in (*ignore, *numbering)]
    if not columns or len(table.values) < MIN_ROWS:
        raise InputError(f"{path}: at least one column and {MIN_ROWS} rows are needed to train")
    values = table.select(columns, path)
    order = np.random.default_rng(seed).permutation(len(values))
    ends = (np.cumsum([*SHARES.values()]) * len(values)).round().astype(int)
    parts = dict(zip(SHARES, np.split(order, ends[:-1]), strict=True))
    encoder = TableEncoder(numerical_columns(Table(columns, values), numerical_features, path), bins)
    # Calibration rows must be as new to the model as the rows that it will score.
    try:
        encoder.fit(values[np.concatenate([parts["train"], parts["validation"]])], table.places(columns))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    coded = encoder.transform(values)
    codes = {use: coded[np.sort(part)] for use, part in parts.items()}
    counts = ", ".join(f"{len(part)} for {use}" for use, part in parts.items())
    logger.info("%s: %d rows (%s), %d columns", path, len(values), counts, len(columns))
    if table.read_as:
        logger.info("read %s", table.read_as)
    if numbering and "" not in ignore:
        logger.info("column %s numbers the rows: left out", table.places(numbering)[0])
    logger.info("columns as they were understood:\n%s", understood(table, columns, encoder))
    for doubt in doubtful_columns(table, columns, encoder):
        logger.warning("%s", doubt)
    return TrainingTable(encoder, codes, tuple(columns), Path(path).name, absent)


@exit_on_input_error()
def trimmed_table(table: TrainingTable, schedule: NoiseSchedule, trim: float | None, **settings: Any) -> TrainingTable:
    """The table without that share of its rows, those which a first fit finds worst; see :func:`trimmed`.

    ``settings`` are ``anomaly_score`` and fields of :class:`gnsm_monai.tabular.training.TrainingPlan`. Calibration rows
    are trimmed, too: p-values stand against normal rows.
    """
    rule = choose_rule(settings.pop("anomaly_score"), LOSSES[settings["objective"]])
    with own_random_numbers():
        return trimmed(table, schedule, TrainingPlan(**settings), rule, trim)


def train(trainer: Trainer) -> None:
    """Runs MONAI's trainer on one thread; see :func:`gnsm_monai.tabular.rows.one_thread`."""
    with one_thread():
        workflow.train(trainer)


def run_settings(options: Mapping[str, Any], steps: int, table: TrainingTable, network: ScoreMLP) -> dict[str, Any]:
    """What a continued run must share with the one that was stopped, as plain values."""
    return {
        **{name: options[name] for name in CONTINUED},
        "steps_per_epoch": steps,
        "network": network.settings,
        "columns": list(table.columns),
        "rows": len(table.codes["train"]),
    }


@exit_on_input_error()
def finish_training(
    table: TrainingTable, evaluator: Evaluator, anomaly_score: str, objective: str, model_dir: str, seed: int
) -> None:
    """Fits the anomaly score with the weights that were kept, calibrates it, and completes the model's folder."""
    network, losses = best_network(evaluator, model_dir)
    references, rule = table.codes["train"][:MAX_REFERENCES], choose_rule(anomaly_score, LOSSES[objective])
    model = TrainedTable.fit(table, network, references, rule, seed=seed)
    # p-values stand against scores of rows that nothing was fitted to.
    model = replace(model, calibration=model.score(table.codes["calibration"])[0])
    _copy_bundle(Path(model_dir), network, table.columns)
    model.save(model_dir, {"dataset": table.source, "rows": {use: len(codes) for use, codes in table.codes.items()}})
    schedule = network.schedule
    columns = {
        "level": [str(level) for level in range(schedule.num_levels)],
        "beta": [f"{beta:.3f}" for beta in schedule.betas],
        "tau": [f"{tau:.2f}" for tau in schedule.temperatures],
        "val loss": [f"{value:.5f}" for value in losses],
    }
    logger.info("validation per noise level, nats per feature:\n%s", level_table(columns))
    logger.info("model: %s", model_dir)
    unlock_folder(model_dir)


def _copy_bundle(model_dir: Path, network: ScoreMLP, columns: Sequence[str]) -> None:
    """Configs, card and licence: the folder of a model is a MONAI bundle of its own, for this network."""
    source = bundle_root("tabular_anomaly")
    for path in (*sorted((source / "configs").iterdir()), source / "docs" / "README.md", source / "LICENSE"):
        if path.is_file():
            write_atomically(model_dir / path.relative_to(source), path.read_bytes())
    metadata = load_json(source / "configs" / "metadata.json")
    data_format = metadata["network_data_format"]
    channels = [
        f"{columns[f]}, code {k}" for size, features in network.blocks.blocks for k in range(size) for f in features
    ]
    for described in (data_format["inputs"]["image"], data_format["outputs"]["pred"]):
        described["num_channels"] = len(channels)
        described["channel_def"] = {str(place): channel for place, channel in enumerate(channels)}
    data_format["inputs"]["level"]["value_range"] = [0, network.schedule.num_levels - 1]
    save_json(model_dir / "configs" / "metadata.json", metadata)
