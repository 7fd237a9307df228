"""A trained model of a table: how rows are encoded and scored, as files, which are data alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.inferers import Inferer

from gnsm_monai.files import save_arrays, save_json
from gnsm_monai.model.files import FORMAT, SETTINGS, STATISTICS_FILE, ModelFiles, identity_of
from gnsm_monai.networks import ScoreMLP
from gnsm_monai.rules.rule import stored_rule
from gnsm_monai.tabular.batches import TrainingTable
from gnsm_monai.tabular.coupling import coupled_frequencies
from gnsm_monai.tabular.encoder import TableEncoder
from gnsm_monai.tabular.row_rules import ROW_RULES, RowRule
from gnsm_monai.tabular.rows import RowScorer, distinct_rows

__all__ = ["ROWS_AT_ONCE", "TrainedTable"]

SETTINGS_NEEDED = {
    "": ("columns", "encoder", "anomaly_score", "num_draws", "seed"),
    "network": ("cardinalities", "noise", "width", "depth", "dropout", "posterior"),
    "encoder": ("edges", "categories"),
}
"""What scoring rows reads of settings.json, by the mapping in which it stands."""

ROWS_AT_ONCE = 20_000
"""Rows whose statistics are kept at a time; the scorer takes fewer where they have very many categories."""


@dataclass(frozen=True)
class TrainedTable:
    """All that scoring rows needs.

    Args:
        encoder, scorer, anomaly: from values to codes, to statistics of a row, to its anomaly score; higher = worse.
        calibration: scores of rows that were used for nothing else, for p-values; may be empty.
        columns: names of the columns, ``(F,)``; empty where they have none.
        missing: texts that stand for a missing value in files; None for models of version 0.2, which took all text as
            it is, decimal commas too.
        weights_sha256: checksum of the file of weights; empty where there is none.
    """

    encoder: TableEncoder
    scorer: RowScorer
    anomaly: RowRule
    calibration: np.ndarray
    columns: tuple[str, ...] = ()
    missing: tuple[str, ...] | None = None
    weights_sha256: str = ""

    @property
    def network(self) -> ScoreMLP:
        return self.scorer.network

    @classmethod
    def fit(
        cls,
        table: TrainingTable,
        network: ScoreMLP,
        codes: np.ndarray,
        rule: RowRule,
        num_draws: int = 0,
        seed: int = 0,
    ) -> TrainedTable:
        """Fits a rule in :data:`gnsm_monai.tabular.row_rules.ROW_RULES` to normal rows, codes ``(N, F)``."""
        scorer = RowScorer(network, rule.statistic, num_draws, seed)
        coupled = coupled_frequencies(table.codes["train"], table.cardinalities) if rule.couples else ()
        anomaly = rule.fit(scorer(codes), codes, coupled, seed)
        return cls(table.encoder, scorer, anomaly, np.empty(0), table.columns, table.missing)

    @classmethod
    def load(cls, model_dir: str | Path) -> TrainedTable:
        """Reads each file of a model's folder once; nothing in it is executed.

        Raises:
            InputError: the model is not complete, is damaged, or is one of label maps.
        """
        files = ModelFiles.read(model_dir, "table", SETTINGS_NEEDED)
        settings = files.settings
        network = files.load_weights(files.configured(lambda values: ScoreMLP(**values["network"]))).eval()
        anomaly = files.fitted(lambda arrays: stored_rule(arrays, ROW_RULES))
        return cls(
            files.configured(lambda values: TableEncoder.from_dict(values["encoder"])),
            RowScorer(network, anomaly.statistic, settings["num_draws"], settings["seed"]),
            anomaly,
            files.fitted(lambda arrays: arrays["calibration"]),
            tuple(settings["columns"]),
            None if settings.get("missing") is None else tuple(settings["missing"]),
            settings["weights_sha256"],
        )

    def save(self, model_dir: str | Path, more: dict[str, Any]) -> None:
        """Writes ``reference_statistics.npz`` and then ``settings.json`` beside the weights: the model is complete.

        ``more`` is kept in the settings for people to read.
        """
        folder = Path(model_dir)
        save_arrays(folder / STATISTICS_FILE, {**self.anomaly.to_arrays(), "calibration": self.calibration})
        needed = {
            "format": FORMAT,
            "kind": "table",
            "columns": list(self.columns),
            "missing": self.missing,
            "encoder": self.encoder.to_dict(),
            "parametrisation": self.scorer.parametrisation,
            "anomaly_score": self.anomaly.name,
            "num_draws": self.scorer.num_draws,
            "seed": self.scorer.seed,
            **identity_of(folder),
            "network": self.network.settings,
        }
        save_json(folder / SETTINGS, {**needed, **more})

    def score(self, codes: np.ndarray, inferer: Inferer | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Scores ``(N,)`` of category codes ``(N, F)``, and what each feature adds to each term; higher = worse.

        The latter, ``(N, terms, F)``, add up to the scores for rules that are sums; ``anomaly.terms`` has the names.
        """
        rows, index = distinct_rows(codes)
        scored = [(self.anomaly.score(*piece), self.anomaly.parts(*piece)) for piece in self._pieces(rows, inferer)]
        scores, parts = zip(*scored, strict=True)
        return np.concatenate(scores)[index], np.concatenate(parts)[index]

    def scores(self, codes: np.ndarray) -> np.ndarray:
        """Scores ``(N,)`` alone, which many rows take far less memory for."""
        rows, index = distinct_rows(codes)
        scores: np.ndarray = np.concatenate([self.anomaly.score(*piece) for piece in self._pieces(rows, None)])[index]
        return scores

    def _pieces(self, codes: np.ndarray, inferer: Inferer | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Statistics and codes of some rows at a time."""
        for start in range(0, len(codes), ROWS_AT_ONCE):
            piece = codes[start : start + ROWS_AT_ONCE]
            yield self.scorer(piece, inferer), piece
