"""Anomaly maps and flagged masks as NIfTI files, for a viewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from gnsm_monai.data.class_index import label_values, matched_values
from gnsm_monai.data.constants import FILE_AFFINE, LABEL
from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.data.nifti import keep_only, save_nifti, small_integers
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.explain.planes import to_file_geometry
from gnsm_monai.files import write_atomically
from gnsm_monai.handlers.after_ranking import AfterRanking
from gnsm_monai.handlers.ranking import RankingCollector
from gnsm_monai.report.colours import COLOUR_TABLES, itk_snap_labels, slicer_colours
from gnsm_monai.scoring.result import CaseResult

__all__ = ["FlaggedWriter", "MapWriter"]


class MapWriter:
    """Writes ``maps/CASE.nii.gz`` for every case that :class:`gnsm_monai.engines.ScoreStep` scores.

    Float32 anomaly per voxel (:class:`gnsm_monai.rules.levels.CaseStatistics`; higher = worse) in the
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


class FlaggedWriter(AfterRanking):
    """Writes ``flagged/CASE.nii.gz`` for every flagged mask, once the ranking stands, for 3D Slicer and ITK-SNAP.

    A copy of the mask in the geometry of its file, whatever its format was, with the model's label values: it lies on
    the map of the same name in ``maps/``. Beside the masks are ``labels.ctbl`` (colour table of 3D Slicer) and
    ``labels.label.txt`` (label descriptions of ITK-SNAP), with the colours of the report.

    Args:
        output_dir: folder of the results.
        ranking: whose flags count; attach this after it.
        cases: with ``case`` and the path of the mask.
        scheme: names and values of the labels.
        spatial_dims: 2 or 3.
    """

    def __init__(
        self,
        output_dir: str | Path,
        ranking: RankingCollector,
        cases: Sequence[Mapping[str, Any]],
        scheme: LabelScheme,
        spatial_dims: int,
    ) -> None:
        super().__init__(Path(output_dir) / "flagged", ranking, cases)
        self.scheme = scheme
        self.load = LoadMapsd([LABEL], spatial_dims).load

    def write(self, results: Sequence[CaseResult]) -> None:
        write_atomically(self.folder / COLOUR_TABLES[0], slicer_colours(self.scheme).encode(errors="backslashreplace"))
        names = itk_snap_labels(self.scheme)
        write_atomically(self.folder / COLOUR_TABLES[1], names.encode(errors="backslashreplace"))
        flagged = [result.case for result in results if result.decision.flagged]
        keep_only(self.folder, flagged)
        for case in flagged:
            path = self.paths[case]
            mask = self.load(path)
            values = matched_values(label_values(mask, path)[0], mask.meta, self.scheme, path)
            save_nifti(self.folder / f"{case}.nii.gz", small_integers(values), np.asarray(mask.meta[FILE_AFFINE]))
