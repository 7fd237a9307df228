"""A trained model of a table as files, which are data alone, and what it says of new rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.inferers import Inferer

from gnsm_monai.errors import InputError
from gnsm_monai.files import load_arrays, save_arrays, save_json
from gnsm_monai.model.files import FORMAT, SETTINGS, STATISTICS_FILE, identity_of, load_settings
from gnsm_monai.networks import ScoreMLP
from gnsm_monai.scoring.calibration import p_values
from gnsm_monai.scoring.row_anomaly import ROW_RULES, RowAnomalyModel
from gnsm_monai.scoring.rows import RowScorer
from gnsm_monai.tabular.encoder import MISSING, UNKNOWN, TableEncoder
from gnsm_monai.tabular.files import Table

__all__ = ["RANKING_COLUMNS", "TableModel", "rank_rows"]

SETTINGS_NEEDED = {
    "": ("columns", "encoder", "parametrisation", "anomaly_score", "num_draws", "seed"),
    "network": (),
}
"""What scoring rows reads of settings.json, by the mapping in which it stands."""

TOP = 3
PIECE = 20_000
RANKING_COLUMNS = [
    "rank",
    "row",
    "anomaly_score",
    "p_value",
    "flag",
    *(f"{what}_{place}" for place in range(1, TOP + 1) for what in ("feature", "value", "anomaly")),
]
"""Of ranking.csv. ``row`` counts from 1, the first row below the column names; ``feature_1`` is the field that adds
most to the row's score, ``value_1`` what stands there, ``anomaly_1`` what it adds."""


@dataclass(frozen=True)
class TableModel:
    """What scoring needs besides the network.

    Args:
        names: columns, ``(F,)``.
        encoder: of their values.
        scorer: statistics of a row.
        anomaly: statistics -> score.
        calibration: scores of rows that were used for nothing else, for p-values; may be empty.
    """

    names: list[str]
    encoder: TableEncoder
    scorer: RowScorer
    anomaly: RowAnomalyModel
    calibration: np.ndarray

    def save(self, model_dir: str | Path, settings: dict[str, Any]) -> None:
        """Writes ``reference_statistics.npz`` and then ``settings.json`` beside the weights: the model is complete."""
        folder = Path(model_dir)
        save_arrays(folder / STATISTICS_FILE, {**self.anomaly.to_arrays(), "calibration": self.calibration})
        own = {
            "format": FORMAT,
            "kind": "table",
            "columns": self.names,
            "encoder": self.encoder.to_dict(),
            "parametrisation": self.scorer.parametrisation,
            "anomaly_score": self.anomaly.rule,
            "num_draws": self.scorer.num_draws,
            "seed": self.scorer.seed,
            **identity_of(folder),
        }
        save_json(folder / SETTINGS, {**own, **settings})

    @classmethod
    def load(cls, model_dir: str | Path, network: ScoreMLP) -> TableModel:
        """Raises InputError where the model is not complete, is damaged, or is one of label maps."""
        settings, path = load_table_settings(model_dir), Path(model_dir) / STATISTICS_FILE
        arrays = load_arrays(path)
        try:
            anomaly = RowAnomalyModel.from_arrays(arrays)
            statistic = ROW_RULES[anomaly.rule][0]
            scorer = RowScorer(
                network.schedule,
                network.blocks.cardinalities,
                statistic,
                settings["parametrisation"],
                settings["num_draws"],
                settings["seed"],
            )
            encoder = TableEncoder.from_dict(settings["encoder"])
            return cls(settings["columns"], encoder, scorer, anomaly, arrays["calibration"])
        except KeyError as error:
            raise InputError(f"{model_dir}: the model lacks {error}") from error

    def score(
        self, network: ScoreMLP, codes: np.ndarray, inferer: Inferer | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores ``(N,)`` and contributions ``(N, F)`` of category codes ``(N, F)``; higher = worse."""
        scores, parts = [], []
        for start in range(0, len(codes), PIECE):
            statistics = self.scorer(network, codes[start : start + PIECE], inferer)
            scores.append(self.anomaly.score(statistics))
            parts.append(self.anomaly.contributions(statistics))
        return np.concatenate(scores), np.concatenate(parts)


def load_table_settings(model_dir: str | Path) -> dict[str, Any]:
    """Settings of a finished model of a table. Raises InputError as :func:`load_settings` does."""
    return load_settings(model_dir, "table", SETTINGS_NEEDED)


def rank_rows(
    model: TableModel, table: Table, where: str, scores: np.ndarray, parts: np.ndarray, alpha: float
) -> list[dict[str, Any]]:
    """Rows of ranking.csv, worst first; rows of equal score in the order of the file, which is ``where``."""
    values = table.select(model.names, where)
    codes = model.encoder.transform(values)
    p = p_values(scores, model.calibration)
    unknown = codes == np.array(model.encoder.cardinalities) - 1
    worst = np.argsort(-parts, axis=1, kind="stable")[:, :TOP]
    rows = []
    for rank, place in enumerate(np.argsort(-scores, kind="stable").tolist(), start=1):
        row = {"rank": rank, "row": place + 1, "anomaly_score": scores[place], "p_value": p[place]}
        row["flag"] = int(p[place] <= alpha)
        for number, feature in enumerate(worst[place].tolist(), start=1):
            value = values[place, feature]
            text = MISSING if value is None else f"{value} {UNKNOWN}" if unknown[place, feature] else value
            row |= {f"feature_{number}": model.names[feature], f"value_{number}": text}
            row[f"anomaly_{number}"] = parts[place, feature]
        rows.append(row)
    return rows
