"""Steps of training by the bundle ``tabular_anomaly``: the table, and the score that is fitted at the end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.engines import Evaluator

from gnsm_monai.engines import RowBatches
from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.files import load_json, save_json, write_atomically
from gnsm_monai.handlers.training_log import level_table
from gnsm_monai.losses import LOSSES
from gnsm_monai.model.files import load_weights
from gnsm_monai.networks import ScoreMLP
from gnsm_monai.noise import NoiseSchedule
from gnsm_monai.paths import bundle_root
from gnsm_monai.scoring.row_anomaly import MOST_REFERENCES, ROW_RULES, RowAnomalyModel
from gnsm_monai.scoring.rows import ROW_STATISTICS, RowScorer
from gnsm_monai.tabular.encoder import TableEncoder
from gnsm_monai.tabular.files import numerical_columns, read_table, write_demo_table
from gnsm_monai.tabular.model import TableModel
from gnsm_monai.tabular.training import (
    category_frequencies,
    default_steps,
    default_width,
    step_rows,
    validation_batch,
    validation_rows,
)
from gnsm_monai.workflow.options import check_device

__all__ = [
    "TrainingTable",
    "check_options",
    "finish_table",
    "network_width",
    "steps_per_epoch",
    "table_or_demo",
    "train_batches",
    "training_table",
    "validation_batches",
    "with_frequencies",
]

SHARES = {"train": 0.8, "validation": 0.1, "calibration": 0.1}
LEAST_ROWS = 20

logger = logging.getLogger("gnsm_monai.workflow")


@dataclass(frozen=True)
class TrainingTable:
    """Names ``(F,)``, encoder, and category codes ``(N, F)`` of the rows of each use."""

    source: str
    names: list[str]
    encoder: TableEncoder
    codes: dict[str, torch.Tensor]

    @property
    def cardinalities(self) -> list[int]:
        return self.encoder.cardinalities


@exit_on_input_error()
def check_options(loss: str, anomaly_score: str, device: str, **positive: Any) -> None:
    """Refuses option values that would fail in the middle of a training; ``None`` stands for a default."""
    if loss not in LOSSES:
        raise InputError(f"loss: '{loss}' is not one of {', '.join(LOSSES)}")
    known = ["auto", *(r for r, (s, _) in ROW_RULES.items() if ROW_STATISTICS[s] in ("", LOSSES[loss]))]
    if anomaly_score not in known:
        raise InputError(f"anomaly_score: '{anomaly_score}' is not one of {', '.join(known)} (with loss {loss})")
    for name, value in positive.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0):
            raise InputError(f"{name}: must be a positive number, got {value!r}")
    check_device(device)


@exit_on_input_error()
def table_or_demo(dataset_dir: str | None, data_dir: str, seed: int = 0) -> str:
    """``dataset_dir``, a CSV file, or a built-in table where none is given: made once, in ``data_dir``."""
    return str(dataset_dir) if dataset_dir else str(write_demo_table(Path(data_dir) / "parcels.csv", seed=seed))


@exit_on_input_error()
def training_table(
    dataset_dir: str, numerical_features: Sequence[str] | None, ignore: Sequence[str], bins: int, seed: int
) -> TrainingTable:
    """Reads a CSV file and splits its rows for training, validation and calibration.

    Raises:
        InputError: the file cannot be used, or has too few rows.
    """
    table = read_table(dataset_dir)
    if unknown := [name for name in ignore if name not in table.names]:
        raise InputError(f"ignore_columns: {dataset_dir} has no column '{unknown[0]}'")
    keep = [place for place, name in enumerate(table.names) if name not in ignore]
    if not keep or len(table.values) < LEAST_ROWS:
        raise InputError(f"{dataset_dir}: at least one column and {LEAST_ROWS} rows are needed to train")
    names, values = [table.names[place] for place in keep], table.values[:, keep]
    kept = type(table)(names, values)
    order = np.random.default_rng(seed).permutation(len(values))
    ends = (np.cumsum([*SHARES.values()]) * len(values)).round().astype(int)
    parts = dict(zip(SHARES, np.split(order, ends[:-1]), strict=True))
    encoder = TableEncoder(numerical_columns(kept, numerical_features, dataset_dir), bins)
    # Calibration rows must be as new to the model as the rows that it will score.
    encoder.fit(values[np.concatenate([parts["train"], parts["validation"]])])
    codes = {use: torch.from_numpy(encoder.transform(values[np.sort(part)])) for use, part in parts.items()}
    counts = ", ".join(f"{len(part)} for {use}" for use, part in parts.items())
    logger.info("%s: %d rows (%s), %d columns", dataset_dir, len(values), counts, len(names))
    return TrainingTable(Path(dataset_dir).name, names, encoder, codes)


def steps_per_epoch(table: TrainingTable, batch_size: int, epochs: int) -> int:
    """So that all epochs together show every distinct row often enough."""
    return max(1, default_steps(table.codes["train"].numpy(), batch_size) // epochs)


def network_width(table: TrainingTable, width: int | None) -> int:
    return width or default_width(table.codes["train"].numpy())


def train_batches(table: TrainingTable, batch_size: int, steps: int) -> RowBatches:
    """Random rows, fewer per step than ``batch_size`` where each has very many categories."""
    return RowBatches(table.codes["train"], step_rows(batch_size, table.cardinalities), steps)


def validation_batches(table: TrainingTable, num_levels: int, seed: int) -> RowBatches:
    """Rows that every validation sees."""
    values = num_levels * sum(table.cardinalities)
    rows = validation_rows(table.codes["validation"].numpy(), seed, values)
    return RowBatches(rows, validation_batch(table.cardinalities, num_levels))


def with_frequencies(network: ScoreMLP, table: TrainingTable) -> ScoreMLP:
    """Gives the network the frequencies of all categories among the training rows."""
    network.set_prior(category_frequencies(table.codes["train"].numpy(), table.cardinalities))
    return network


@exit_on_input_error()
def finish_table(
    table: TrainingTable,
    network: ScoreMLP,
    evaluator: Evaluator,
    schedule: NoiseSchedule,
    loss: str,
    anomaly_score: str,
    model_dir: str,
    seed: int,
) -> None:
    """Fits the anomaly score with the weights that were kept, calibrates it, and completes the model's folder."""
    evaluated: torch.nn.Module = evaluator.network  # type: ignore[attr-defined]
    load_weights(evaluated, model_dir)
    evaluator.run()
    losses = evaluator.state.metrics["val_loss_per_level"].tolist()
    load_weights(network, model_dir).eval()
    rule = anomaly_score
    if rule == "auto":
        rule = "context_misfit" if LOSSES[loss] == "posterior" else "score_norm_gmm"
    scorer = RowScorer(schedule, table.cardinalities, ROW_RULES[rule][0], LOSSES[loss], seed=seed)
    anomaly = RowAnomalyModel.fit(scorer(network, table.codes["train"][:MOST_REFERENCES].numpy()), rule, seed=seed)
    model = TableModel(table.names, table.encoder, scorer, anomaly, np.empty(0))
    calibration = model.score(network, table.codes["calibration"].numpy())[0]
    model = TableModel(table.names, table.encoder, scorer, anomaly, calibration)
    _copy_bundle(Path(model_dir), network, table.names)
    rows = {use: len(codes) for use, codes in table.codes.items()}
    model.save(model_dir, {"dataset": table.source, "network": network.settings, "rows": rows})
    columns = {
        "level": [str(level) for level in range(schedule.num_levels)],
        "beta": [f"{beta:.3f}" for beta in schedule.betas],
        "tau": [f"{tau:.2f}" for tau in schedule.temperatures],
        "val loss": [f"{value:.5f}" for value in losses],
    }
    logger.info("validation per noise level, nats per feature:\n%s", level_table(columns))
    logger.info("model: %s", model_dir)


def _copy_bundle(model_dir: Path, network: ScoreMLP, names: Sequence[str]) -> None:
    """Configs, card and licence: the folder of a model is a MONAI bundle of its own, for this network."""
    source = bundle_root("tabular_anomaly")
    for path in (*sorted((source / "configs").iterdir()), source / "docs" / "README.md", source / "LICENSE"):
        if path.is_file():
            write_atomically(model_dir / path.relative_to(source), path.read_bytes())
    metadata = load_json(source / "configs" / "metadata.json")
    data_format = metadata["network_data_format"]
    channels = [f"{names[f]}, code {k}" for size, own in network.blocks.blocks for k in range(size) for f in own]
    for described in (data_format["inputs"]["image"], data_format["outputs"]["pred"]):
        described["num_channels"] = len(channels)
        described["channel_def"] = {str(place): channel for place, channel in enumerate(channels)}
    data_format["inputs"]["level"]["value_range"] = [0, network.schedule.num_levels - 1]
    save_json(model_dir / "configs" / "metadata.json", metadata)
