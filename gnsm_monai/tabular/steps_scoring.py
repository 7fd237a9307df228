"""Steps of scoring by the bundle ``tabular_anomaly``: the model, the rows, their scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine
from monai.inferers import Inferer

from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.tabular.batches import CODES, RowBatches
from gnsm_monai.tabular.files import read_table
from gnsm_monai.tabular.model import ROWS_AT_ONCE, TrainedTable
from gnsm_monai.tabular.options import check_options_or_exit as check_options
from gnsm_monai.tabular.ranking import Rows

__all__ = ["check_options", "load_model", "read_rows", "row_batches", "score_rows"]


@exit_on_input_error()
def load_model(model_dir: str, device: str = "cpu") -> TrainedTable:
    """A finished model, its network on ``device``. See :meth:`gnsm_monai.tabular.model.TrainedTable.load`."""
    model = TrainedTable.load(model_dir)
    model.network.to(device)
    return model


@exit_on_input_error()
def read_rows(model: TrainedTable, path: str | None) -> Rows:
    """The rows of a CSV file, the columns as the model knows them. Raises InputError where one of these is missing."""
    if not path:
        raise InputError("dataset_dir: name the CSV file of rows to score")
    values = read_table(path).select(model.columns, path)
    return Rows(str(path), values, model.encoder.transform(values))


def row_batches(rows: Rows) -> RowBatches:
    """All rows in their order, as batches of codes."""
    return RowBatches(torch.from_numpy(rows.codes), ROWS_AT_ONCE)


def score_rows(model: TrainedTable, inferer: Inferer) -> Callable[[Engine, dict[str, Any]], Any]:
    """Step of an engine: scores ``(B,)`` and contributions ``(B, F)`` of a batch of rows; higher = worse."""
    return lambda engine, batch: model.score(batch[CODES].numpy(), inferer)
