"""Steps of scoring by the bundle ``tabular_anomaly``: the model, the rows, their scores."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
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

MOSTLY = 0.5
"""Share of unknown values in a column above which a warning is due."""

logger = logging.getLogger("gnsm_monai.workflow")


@exit_on_input_error()
def load_model(model_dir: str, device: str = "cpu") -> TrainedTable:
    """A finished model, its network on ``device``. See :meth:`gnsm_monai.tabular.model.TrainedTable.load`."""
    model = TrainedTable.load(model_dir)
    model.network.to(device)
    return model


@exit_on_input_error()
def read_rows(model: TrainedTable, path: str | None, decimal: str = "auto") -> Rows:
    """The rows of a CSV file, the columns as the model knows them. Raises InputError where one of these is missing.

    What was read as something else, and columns whose values the model mostly does not know, are logged.
    """
    if not path:
        raise InputError("dataset_dir: name the CSV file of rows to score")
    if model.missing is None:
        table = read_table(path, (), "." if decimal == "auto" else decimal)
    else:
        table = read_table(path, model.missing, decimal)
    if table.read_as:
        logger.info("%s: read %s", path, table.read_as)
    values = table.select(model.columns, path)
    codes = model.encoder.transform(values)
    unknown = codes == np.array(model.encoder.cardinalities) - 1
    for place, name in enumerate(table.places(model.columns)):
        if unknown[:, place].mean() > MOSTLY:
            example, number = values[unknown[:, place], place][0], unknown[:, place].sum()
            text = "column %s: %d of %d values are unknown to the model, such as '%s': was it written otherwise?"
            logger.warning(text, name, number, len(values), "" if example is None else example)
    return Rows(str(path), values, codes)


def row_batches(rows: Rows) -> RowBatches:
    """All rows in their order, as batches of codes."""
    return RowBatches(torch.from_numpy(rows.codes), ROWS_AT_ONCE)


def score_rows(model: TrainedTable, inferer: Inferer) -> Callable[[Engine, dict[str, Any]], Any]:
    """Step of an engine: scores ``(B,)`` and contributions ``(B, F)`` of a batch of rows; higher = worse."""
    return lambda engine, batch: model.score(batch[CODES].numpy(), inferer)
