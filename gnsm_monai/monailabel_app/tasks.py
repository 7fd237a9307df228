"""The scoring method, the strategies and the infer tasks that MONAI Label calls."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy

from .order import features, most_worth_correcting, worst_first
from .process import MAPS, RESULTS, Settings, rank
from .records import KEY, NO_PREDICTION, load_results, record_of_cases, say_of
from .unusual import write_unusual

__all__ = ["STRATEGIES", "NextCase", "RankMasks", "ScoredCases", "StoredFile", "UnusualVoxels"]

logger = logging.getLogger(__name__)


class RankMasks(ScoringMethod):
    """``POST /scoring/gnsm``: ranks the predicted labels, and writes a record of each case into the datastore."""

    def __init__(self, settings: Settings, output: Path) -> None:
        super().__init__("Ranks the predicted labels by gnsm rank, worst first, without ground truth")
        self.settings, self.output = settings, output

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        tag, images = self.settings.tag, datastore.list_images()
        labels = {image: datastore.get_label_uri(image, tag) for image in images}
        labels = {image: path for image, path in labels.items() if path and Path(path).is_file()}
        ranked = rank(labels, self.settings, self.output, logger.info)
        results = load_results(self.output / RESULTS)
        records = record_of_cases(results, images)
        write_records(datastore, records)
        failed = {image: record["message"] for image, record in records.items() if record["status"] == "failed"}
        without = [image for image, record in records.items() if record["status"] == NO_PREDICTION]
        for image, message in failed.items():
            logger.warning("%s cannot be scored: %s", image, message)
        if without:
            logger.warning("%d cases have no label '%s': %s", len(without), tag, ", ".join(without[:10]))
        counts = {"ranked_anew": ranked, "scored": len(labels) - len(failed)}
        return {**counts, "failed": failed, "without_prediction": without, "verdict": results.get("verdict")}


def write_records(datastore: Datastore, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Those that have changed, by a single write where that is possible.

    ``update_image_info`` writes the information on all cases into one file: 2000 calls would write it 2000 times.
    """
    datastore.refresh()  # what was saved while the masks were ranked
    earlier = {image: datastore.get_image_info(image).get(KEY) for image in datastore.list_images()}
    new = {image: {KEY: record} for image, record in records.items() if earlier.get(image, record) != record}
    held = getattr(getattr(datastore, "_datastore", None), "objects", {})  # of LocalDatastore and its like
    for image in list(new)[:-1]:
        if image in held:
            held[image].image.info.update(new.pop(image))
    for image, info in new.items():
        datastore.update_image_info(image, info)


class NextCase(Strategy):
    """``POST /activelearning/NAME``: the first case of an order that has no final label yet.

    Args:
        description: of the order.
        order: the waiting cases in order, from the record of each, the corrected cases and ``results.json``.
        output: folder of the results of ``gnsm rank``.
    """

    def __init__(self, description: str, order: Callable[..., list[str]], output: Path) -> None:
        super().__init__(description)
        self.order, self.output = order, output

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        datastore.refresh()  # the records are written by another process
        waiting = {image: datastore.get_image_info(image).get(KEY) for image in datastore.get_unlabeled_images()}
        if not waiting:
            return None
        image = self.order(waiting, datastore.get_labeled_images(), lambda: load_results(self.output / RESULTS))[0]
        status = [(record or {}).get("status", "not scored") for record in waiting.values()]
        counts = {name.replace(" ", "_"): status.count(name) for name in sorted(set(status))}
        return {"id": image, "message": f"{image}: {say_of(waiting[image])}", "waiting": counts}


STRATEGIES: dict[str, tuple[str, Callable[..., list[str]]]] = {
    "worst_first": (
        "The worst mask by gnsm rank that has no final label",
        lambda waiting, corrected, results: worst_first(waiting),
    ),
    "most_worth_correcting": (
        "A mask of low predicted Dice that is unlike those which have a final label",
        lambda waiting, corrected, results: most_worth_correcting(waiting, corrected, features(results())),
    ),
}
"""Name, description and order of each strategy."""


class StoredFile(InferTask):
    """``POST /infer/NAME``: a copy of a file that is there already. MONAI Label deletes what it has sent.

    Args:
        description: of the file.
        find: its path, from the id of a case; empty where there is none.
        labels: names and values of labels, where the file is a label map.
        dimension: 2 or 3.
    """

    def __init__(self, description: str, find: Callable[[str], str], labels: dict[str, int], dimension: int) -> None:
        super().__init__(InferType.SEGMENTATION if labels else InferType.OTHERS, labels, dimension, description)
        self.find = find

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        case = str(request["case"])
        path = self.find(case)
        if not path or not Path(path).is_file():
            raise HTTPException(404, f"{case}: there is no such file: {say_of(request.get(KEY))}")
        ending = ".nii.gz" if path.lower().endswith(".nii.gz") else Path(path).suffix
        with tempfile.NamedTemporaryFile(prefix="gnsm_", suffix=ending, delete=False) as copy:
            pass
        self.write(path, copy.name)
        return copy.name, {"label_names": self.labels, KEY: request.get(KEY)}

    def write(self, path: str, copy: str) -> None:
        """What is sent of the file."""
        shutil.copyfile(path, copy)


class UnusualVoxels(StoredFile):
    """The anomaly map as a label map, for viewers that show no heat; see :func:`write_unusual`."""

    def write(self, path: str, copy: str) -> None:
        write_unusual(path, copy)


class ScoredCases(BatchInferTask):
    """``POST /batch/infer/NAME``: of the scored cases, as the first case without a file would end the batch."""

    def get_images(self, request: Mapping[str, Any], datastore: Datastore) -> list[str]:
        records = {image: datastore.get_image_info(image).get(KEY) for image in super().get_images(request, datastore)}
        return [image for image, record in records.items() if record and record["status"] == "ok"]

    def __call__(self, request: Mapping[str, Any], datastore: Datastore, infer: Callable[..., Any]) -> Any:
        # Without a GPU, multi_gpu, which is on by default, divides by the number of them.
        return super().__call__({**request, "device": "cpu", "multi_gpu": False}, datastore, infer)


def map_of(output: Path) -> Callable[[str], str]:
    """Path of the anomaly map of a case."""
    return lambda case: str(output / MAPS / f"{case}.nii.gz")
