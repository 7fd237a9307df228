"""Anomaly maps as NIfTI files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from gnsm_monai.data.constants import FILE_AFFINE, FILE_SHAPE
from gnsm_monai.data.nifti import save_nifti
from gnsm_monai.scoring.maps import to_file_geometry

__all__ = ["MapWriter"]


class MapWriter:
    """Writes ``maps/CASE.nii.gz`` for every case that :class:`gnsm_monai.engines.ScoreStep` scores.

    Float32 anomaly per voxel (nats of misfit, or squared score for the direct parametrisation; higher = worse) in the
    geometry of the predicted mask: same shape, spacing, orientation and origin, whatever the format of the mask.

    Args:
        output_dir: folder of the results.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.folder = Path(output_dir) / "maps"

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        row: Any = engine.state.output
        if row["status"] != "ok":
            return
        values = to_file_geometry(row["anomaly_map"], row["affine"], row[FILE_AFFINE], row[FILE_SHAPE])
        save_nifti(self.folder / f"{row['case']}.nii.gz", values, row[FILE_AFFINE])
