"""Steps of scoring by the bundle ``tabular_anomaly``: the model, the rows, their scores, the ranking."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer

from gnsm_monai.engines.prepare_rows import CODES, RowBatches
from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.files import save_json, save_table
from gnsm_monai.model.files import load_weights
from gnsm_monai.networks import ScoreMLP
from gnsm_monai.tabular.files import Table, read_table
from gnsm_monai.tabular.model import RANKING_COLUMNS, TableModel, load_table_settings, rank_rows

__all__ = ["TableRanking", "load_model", "load_network", "read_rows", "row_batches", "score_rows"]

logger = logging.getLogger("gnsm_monai.workflow")

ROWS = 20_000
"""Per batch; the scorer makes smaller ones of them where rows have very many categories."""


@exit_on_input_error()
def load_network(model_dir: str) -> ScoreMLP:
    """The network of a finished model of a table, in eval mode."""
    network = ScoreMLP(**load_table_settings(model_dir)["network"])
    return load_weights(network, model_dir).eval()


@exit_on_input_error()
def load_model(model_dir: str, network: ScoreMLP) -> TableModel:
    """What a finished model knows beside its network. See :meth:`gnsm_monai.tabular.model.TableModel.load`."""
    return TableModel.load(model_dir, network)


@exit_on_input_error()
def read_rows(dataset_dir: str | None, alpha: float) -> Table:
    """The rows of a CSV file to score. Raises InputError where there are none, or ``alpha`` is not in (0, 1)."""
    if not dataset_dir:
        raise InputError("dataset_dir: name the CSV file of rows to score")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < 1:
        raise InputError(f"alpha: must be a number between 0 and 1, got {alpha!r}")
    return read_table(dataset_dir)


@exit_on_input_error()
def row_batches(model: TableModel, table: Table, dataset_dir: str) -> RowBatches:
    """Category codes ``(N, F)`` of the table's rows in their order, the columns as the model knows them."""
    codes = model.encoder.transform(table.select(model.names, dataset_dir))
    return RowBatches(torch.from_numpy(codes), ROWS)


def score_rows(model: TableModel, network: ScoreMLP, inferer: Inferer) -> Callable[[Engine, dict[str, Any]], Any]:
    """Step of an engine: scores ``(B,)`` and contributions ``(B, F)`` of a batch of rows; higher = worse."""

    def step(engine: Engine, batch: dict[str, Any]) -> Any:
        return model.score(network, batch[CODES].numpy(), inferer)

    return step


class TableRanking:
    """Handler that gathers the rows' scores and writes ``ranking.csv``, worst first, and ``summary.json``."""

    def __init__(
        self, model: TableModel, table: Table, model_dir: str, dataset_dir: str, output_dir: str, alpha: float
    ) -> None:
        self.model, self.table, self.alpha = model, table, alpha
        self.model_dir, self.dataset_dir, self.output_dir = model_dir, dataset_dir, Path(output_dir)
        self.scored: list[tuple[np.ndarray, np.ndarray]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.scored.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: self.scored.append(e.state.output))
        engine.add_event_handler(Events.COMPLETED, lambda _: self.write())

    def write(self) -> None:
        scores, parts = (np.concatenate(pieces) for pieces in zip(*self.scored, strict=True))
        rows = rank_rows(self.model, self.table, self.dataset_dir, scores, parts, self.alpha)
        save_table(self.output_dir / "ranking.csv", RANKING_COLUMNS, rows)
        settings = load_table_settings(self.model_dir)
        summary = {
            "rows": len(rows),
            "flagged": sum(row["flag"] for row in rows),
            "settings": {
                "model_dir": str(self.model_dir),
                "weights_sha256": settings["weights_sha256"],
                "anomaly_score": settings["anomaly_score"],
                "alpha": self.alpha,
                "dataset_dir": str(self.dataset_dir),
            },
        }
        save_json(self.output_dir / "summary.json", summary)
        logger.info("%d rows, %d flagged at alpha %.3g: %s", len(rows), summary["flagged"], self.alpha, self.output_dir)
