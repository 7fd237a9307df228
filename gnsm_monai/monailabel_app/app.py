"""What MONAI Label starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore

from .process import Settings
from .records import KEY
from .tasks import STRATEGIES, NextCase, RankMasks, ScoredCases, StoredFile, UnusualVoxels, map_of
from .unusual import UNUSUAL

__all__ = ["App"]

PREDICTION, ANOMALY_MAP, UNUSUAL_VOXELS = "prediction", "anomaly_map", "unusual"


class App(MONAILabelApp):
    """One scoring method, ``gnsm``, two strategies, and three infer tasks that show what lies there already."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.settings = Settings.read(app_dir, conf or {})
        self.output = Path(app_dir) / "results"
        about = "Gives annotators the worst predicted labels first, by gnsm rank"
        super().__init__(app_dir, studies, conf, name="gnsm", description=about, labels=_labels(self.settings.model))

    def init_scoring_methods(self) -> dict[str, Any]:
        return {"gnsm": RankMasks(self.settings, self.output)}

    def init_strategies(self) -> dict[str, Any]:
        return {name: NextCase(*given, self.output) for name, given in STRATEGIES.items()}

    def init_infers(self) -> dict[str, Any]:
        dims, labels = _settings_of(self.settings.model)["spatial_dims"], _labels(self.settings.model)
        anomaly = map_of(self.output)
        return {
            PREDICTION: StoredFile("The predicted label, to be corrected", self._predicted, labels, dims),
            ANOMALY_MAP: StoredFile("Anomaly of every voxel, higher = worse", anomaly, {}, dims),
            UNUSUAL_VOXELS: UnusualVoxels("Where the predicted label is worst", anomaly, UNUSUAL, dims),
        }

    def init_batch_infer(self) -> ScoredCases:
        return ScoredCases()

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> Any:
        """As MONAI Label does, with the id of the case, which it replaces by a path, and its record.

        What an infer task gives is never saved as a predicted label, which is what a batch of them would do.
        """
        case = request["image"]
        record = (datastore or self.datastore()).get_image_info(case).get(KEY) if isinstance(case, str) else None
        request = {**request, "case": case, KEY: record}
        if request.get("model") in (ANOMALY_MAP, UNUSUAL_VOXELS):
            request["label_tag"] = request["model"]
        elif request.get("model") == PREDICTION:
            request["save_label"] = False
        return super().infer(request, datastore)

    def _predicted(self, case: str) -> str:
        return str(self.datastore().get_label_uri(case, self.settings.tag))


def _settings_of(model: str) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((Path(model) / "settings.json").read_text(encoding="utf-8"))
    return settings


def _labels(model: str) -> dict[str, int]:
    """Names and values of a model's labels; none where its structures are regions of several values."""
    labels = _settings_of(model)["labels"]
    return {} if labels["regions"] else dict(zip(labels["names"], labels["values"][1:], strict=True))
