"""Scoring by the bundle ``tabular_anomaly``: the model, the rows, their scores, and the rows worst first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer

from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.files import save_json, save_table
from gnsm_monai.rules.calibration import p_values
from gnsm_monai.tabular.batches import CODES, RowBatches
from gnsm_monai.tabular.column_words import often_unknown, say_left_out, say_unknown, unknown_shares, why_unknown
from gnsm_monai.tabular.encoder import MISSING
from gnsm_monai.tabular.files import read_table
from gnsm_monai.tabular.model import ROWS_AT_ONCE, TrainedTable
from gnsm_monai.tabular.options import check_options_or_exit as check_options
from gnsm_monai.tabular.report import MAX_ROWS, write_report

__all__ = ["TableRanking", "check_options", "load_model", "read_rows", "score_rows"]

TOP = 3
RANKING_COLUMNS = [
    *("rank", "row", "anomaly_score", "p_value", "flag"),
    *(f"{what}_{place}" for place in range(1, TOP + 1) for what in ("feature", "value", "anomaly", "term")),
]
"""Columns of ranking.csv. ``row`` counts from 1, the first row below the column names. ``feature_1`` is the field that
adds most to the row's score, ``value_1`` its value, ``anomaly_1`` what it adds, ``term_1`` the term that adds most."""

logger = logging.getLogger("gnsm_monai.workflow")


@dataclass(frozen=True)
class Rows:
    """Rows of a file: columns that the model knows, in its order; values, text or None, and codes, ``(N, F)`` each."""

    path: str
    values: np.ndarray
    codes: np.ndarray

    def batches(self) -> RowBatches:
        return RowBatches(torch.from_numpy(self.codes), ROWS_AT_ONCE)


@exit_on_input_error()
def load_model(model_dir: str, device: str) -> TrainedTable:
    """A finished model, its network on ``device``. See :meth:`gnsm_monai.tabular.model.TrainedTable.load`."""
    model = TrainedTable.load(model_dir)
    model.network.to(device)
    return model


@exit_on_input_error()
def read_rows(model: TrainedTable, path: str | None, decimal: str = "auto") -> Rows:
    """The rows of a CSV file, the columns as the model knows them. Raises InputError where one of these is missing.

    What was read as something else, columns that the model does not have, and those whose values it mostly does not
    know are logged.
    """
    if not path:
        raise InputError("dataset_dir: name the CSV file of rows to score")
    missing, auto = ((), None) if model.missing is None else (model.missing, "auto")
    table = read_table(path, missing, auto if decimal == "auto" else decimal)
    if table.read_as:
        logger.info("%s: read %s", path, table.read_as)
    say_left_out(table, model.columns)
    values = table.select(model.columns, path)
    codes = model.encoder.transform(values)
    say_unknown(table, model.columns, codes, model.encoder)
    return Rows(str(path), values, codes)


def score_rows(model: TrainedTable, inferer: Inferer) -> Callable[[Engine, dict[str, Any]], Any]:
    """Step of an engine: scores ``(B,)`` and what features add to them ``(B, terms, F)``; higher = worse."""
    return lambda engine, batch: model.score(batch[CODES].numpy(), inferer)


class TableRanking:
    """Handler that gathers the rows' scores, and writes ``ranking.csv``, ``summary.json`` and ``report.html``.

    ``rows`` are those of the engine's batches, ``alpha`` is the p-value up to which a row is flagged, and ``model_dir``
    is named in the summary. Once the engine is through, ``lines`` are those of ranking.csv by :data:`RANKING_COLUMNS`.
    """

    def __init__(self, model: TrainedTable, rows: Rows, model_dir: str, output_dir: str, alpha: float) -> None:
        self.model, self.rows, self.alpha = model, rows, alpha
        self.model_dir, self.output_dir = model_dir, Path(output_dir)
        self.scored: list[tuple[np.ndarray, np.ndarray]] = []
        self.lines: list[dict[str, Any]] = []
        shares, often = (judge(rows.codes, model.encoder) for judge in (unknown_shares, often_unknown))
        self._often = {int(feature): float(shares[feature]) for feature in np.flatnonzero(often)}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.scored.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: self.scored.append(e.state.output))
        engine.add_event_handler(Events.COMPLETED, lambda _: self.write())

    def write(self) -> None:
        scores, parts = (np.concatenate(pieces) for pieces in zip(*self.scored, strict=True))
        self.lines = self._ranked(scores, parts)
        save_table(self.output_dir / "ranking.csv", RANKING_COLUMNS, self.lines)
        flagged = sum(line["flag"] for line in self.lines)
        settings = {
            "model_dir": str(self.model_dir),
            "weights_sha256": self.model.weights_sha256,
            "anomaly_score": self.model.anomaly.name,
            "alpha": self.alpha,
            "dataset_dir": self.rows.path,
        }
        shares = dict(
            zip(self.model.columns, unknown_shares(self.rows.codes, self.model.encoder).tolist(), strict=True)
        )
        summary = {"rows": len(self.lines), "flagged": flagged, "unknown_values": shares, "settings": settings}
        save_json(self.output_dir / "summary.json", summary)
        self._write_report(scores, parts.sum(1), settings)
        logger.info("%d rows, %d flagged at alpha %.3g: %s", len(self.lines), flagged, self.alpha, self.output_dir)

    def _write_report(self, scores: np.ndarray, contributions: np.ndarray, settings: Mapping[str, Any]) -> None:
        """The page report.html, from scores ``(N,)`` and what fields add to them ``(N, F)``."""
        worst = []
        for line in self.lines[:MAX_ROWS]:
            place = line["row"] - 1
            texts = [self._text(place, feature) for feature in range(len(self.model.columns))]
            shared = [f in self._often and self._unknown(place, f) for f in range(len(texts))]
            worst.append({**line, "texts": texts, "contributions": np.where(shared, 0, contributions[place])})
        p = p_values(scores, self.model.calibration)
        unlike = {self.model.columns[feature]: share for feature, share in self._often.items()}
        path, held_out = self.output_dir / "report.html", self.model.calibration
        write_report(path, self.model.columns, worst, scores, p, held_out, unlike, settings)

    def _unknown(self, place: int, feature: int) -> bool:
        return bool(self.rows.codes[place, feature] == self.model.encoder.cardinalities[feature] - 1)

    def _text(self, place: int, feature: int) -> str:
        """The value of a field, and whether the model does not know it, or so many that it makes no row odd."""
        value: str | None = self.rows.values[place, feature]
        if value is None:
            return MISSING
        if not self._unknown(place, feature):
            return value
        why, share = why_unknown(value, self.model.encoder.edges[feature]), self._often.get(feature)
        return f"{value} ({why})" if share is None else f"{value} ({why}, as {100 * share:.0f} % of rows)"

    def _ranked(self, scores: np.ndarray, parts: np.ndarray) -> list[dict[str, Any]]:
        """Lines of ranking.csv from scores ``(N,)`` and parts ``(N, terms, F)``; equal scores in the file's order."""
        contributions, terms = parts.sum(1), parts.argmax(1)
        p = p_values(scores, self.model.calibration)
        worst = np.argsort(-contributions, axis=1, kind="stable")[:, :TOP]
        ranking = []
        for rank, place in enumerate(np.argsort(-scores, kind="stable").tolist(), start=1):
            line = {"rank": rank, "row": place + 1, "anomaly_score": scores[place], "p_value": p[place]}
            line["flag"] = int(p[place] <= self.alpha)
            for number, feature in enumerate(worst[place].tolist(), start=1):
                line[f"feature_{number}"] = self.model.columns[feature]
                line[f"value_{number}"] = self._text(place, feature)
                line[f"anomaly_{number}"] = contributions[place, feature]
                line[f"term_{number}"] = self.model.anomaly.terms[terms[place, feature]]
            ranking.append(line)
        return ranking
