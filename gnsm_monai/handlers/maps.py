"""Anomaly maps as NIfTI files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from gnsm_monai.data.nifti import save_nifti
from gnsm_monai.explain.planes import to_file_geometry
from gnsm_monai.scoring.result import CaseResult

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
        result: Any = engine.state.output
        if isinstance(result, CaseResult) and result.anomaly_map is not None:
            maps = result.anomaly_map
            values = to_file_geometry(maps.values, maps.affine, maps.file_affine, maps.file_shape)
            save_nifti(self.folder / f"{result.case}.nii.gz", values, maps.file_affine)
