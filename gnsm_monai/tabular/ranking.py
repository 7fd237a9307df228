"""The rows of a table, worst first: what each one's p-value is, and which of its fields are odd."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from gnsm_monai.files import save_json, save_table
from gnsm_monai.rules.calibration import p_values
from gnsm_monai.tabular.encoder import MISSING, UNKNOWN
from gnsm_monai.tabular.model import TrainedTable

__all__ = ["RANKING_COLUMNS", "Rows", "TableRanking", "rank_rows"]

TOP = 3
RANKING_COLUMNS = [
    "rank",
    "row",
    "anomaly_score",
    "p_value",
    "flag",
    *(f"{what}_{place}" for place in range(1, TOP + 1) for what in ("feature", "value", "anomaly")),
]
"""Columns of ranking.csv. ``row`` counts from 1, the first row below the column names. ``feature_1`` is the field that
adds most to the row's score, ``value_1`` its value, ``anomaly_1`` what it adds."""

logger = logging.getLogger("gnsm_monai.workflow")


@dataclass(frozen=True)
class Rows:
    """Rows to score: the columns that the model knows, in its order.

    Args:
        path: of the file that they are from.
        values: ``(N, F)``, text or None.
        codes: their category codes, ``(N, F)`` int64.
    """

    path: str
    values: np.ndarray
    codes: np.ndarray


def rank_rows(
    model: TrainedTable, rows: Rows, scores: np.ndarray, contributions: np.ndarray, alpha: float
) -> list[dict[str, Any]]:
    """What ranking.csv says of each row, worst first; rows of equal score in the order of the file.

    Args:
        model: what scored the rows.
        rows: the rows.
        scores: of the rows, ``(N,)``; higher = worse.
        contributions: of each feature to them, ``(N, F)``.
        alpha: p-value up to which a row is flagged.
    """
    p = p_values(scores, model.calibration)
    unknown = rows.codes == np.array(model.encoder.cardinalities) - 1
    worst = np.argsort(-contributions, axis=1, kind="stable")[:, :TOP]
    ranking = []
    for rank, place in enumerate(np.argsort(-scores, kind="stable").tolist(), start=1):
        line = {"rank": rank, "row": place + 1, "anomaly_score": scores[place], "p_value": p[place]}
        line["flag"] = int(p[place] <= alpha)
        for number, feature in enumerate(worst[place].tolist(), start=1):
            value = rows.values[place, feature]
            text = MISSING if value is None else f"{value} {UNKNOWN}" if unknown[place, feature] else value
            line |= {f"feature_{number}": model.columns[feature], f"value_{number}": text}
            line[f"anomaly_{number}"] = contributions[place, feature]
        ranking.append(line)
    return ranking


class TableRanking:
    """Handler that gathers the rows' scores and writes ``ranking.csv``, worst first, and ``summary.json``.

    Args:
        model: what scores the rows.
        rows: the rows, in the order of the engine's batches.
        model_dir: where the model was read; for the summary.
        output_dir: folder of the two files.
        alpha: p-value up to which a row is flagged.

    Attributes:
        lines: of ranking.csv, a mapping of :data:`RANKING_COLUMNS` each, once the engine is through.
    """

    def __init__(self, model: TrainedTable, rows: Rows, model_dir: str, output_dir: str, alpha: float) -> None:
        self.model, self.rows, self.alpha = model, rows, alpha
        self.model_dir, self.output_dir = model_dir, Path(output_dir)
        self.scored: list[tuple[np.ndarray, np.ndarray]] = []
        self.lines: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.scored.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: self.scored.append(e.state.output))
        engine.add_event_handler(Events.COMPLETED, lambda _: self.write())

    def write(self) -> None:
        scores, contributions = (np.concatenate(pieces) for pieces in zip(*self.scored, strict=True))
        self.lines = rank_rows(self.model, self.rows, scores, contributions, self.alpha)
        save_table(self.output_dir / "ranking.csv", RANKING_COLUMNS, self.lines)
        flagged = sum(line["flag"] for line in self.lines)
        settings = {
            "model_dir": str(self.model_dir),
            "weights_sha256": self.model.weights_sha256,
            "anomaly_score": self.model.anomaly.name,
            "alpha": self.alpha,
            "dataset_dir": self.rows.path,
        }
        save_json(self.output_dir / "summary.json", {"rows": len(self.lines), "flagged": flagged, "settings": settings})
        logger.info("%d rows, %d flagged at alpha %.3g: %s", len(self.lines), flagged, self.alpha, self.output_dir)
