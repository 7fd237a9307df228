"""Steps of inference.yaml and evaluate.yaml: the model, the cases, and what their ranking is made from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.engines import Evaluator

from gnsm_monai.data.case_names import without_folder
from gnsm_monai.data.constants import SOFT, UNSEEN_IMAGE
from gnsm_monai.data.datalist import find_predictions
from gnsm_monai.data.images import Images, find_images
from gnsm_monai.data.layouts import AUTO
from gnsm_monai.data.nnunet import LabelScheme, check_same_labels
from gnsm_monai.data.nnunet_summary import add_summary_dice
from gnsm_monai.errors import SCORING_FAILED, InputError, exit_on_input_error
from gnsm_monai.evaluation.ranking import Ranking
from gnsm_monai.files import check_folder
from gnsm_monai.handlers.ranking import RankingCollector
from gnsm_monai.locks import locked_folder
from gnsm_monai.model.trained import TrainedModel
from gnsm_monai.report.marks import Mark, marks_of_cases, read_marks
from gnsm_monai.rules.reading import Reading
from gnsm_monai.workflow.options import score_soft

__all__ = [
    "load_model",
    "marks",
    "predictions",
    "ranking_settings",
    "reading",
    "references_dir",
    "score",
    "stop_if_failed",
]

MOST_MEASURED = 200
"""Masks of which everything is measured, whatever they score: that is a matter of minutes."""

logger = logging.getLogger("gnsm_monai.workflow")


@exit_on_input_error()
def references_dir(references_dir: str | None, dataset_dir: str | None) -> str | None:
    """``references_dir``, or ``dataset_dir/labelsTs`` where that exists and no other folder is given."""
    default = Path(dataset_dir) / "labelsTs" if dataset_dir else None
    return references_dir or (str(default) if default and default.is_dir() else None)


@exit_on_input_error()
def load_model(model_dir: str) -> TrainedModel:
    """See :meth:`gnsm_monai.model.trained.TrainedModel.load`."""
    model = TrainedModel.load(model_dir)
    if model.fields_of_view.made_up:
        text = "%s: its references have no sform and qform, and were read from back to front: train the model again"
        logger.warning(text, model_dir)
    return model


@exit_on_input_error()
def predictions(
    predictions_dir: str | Sequence[str] | None,
    references_dir: str | None,
    images_dir: str | None,
    settings: Mapping[str, Any],
    soft: str | bool = "auto",
    only_cases: Sequence[str] | None = None,
    layout: str = AUTO,
) -> list[dict[str, Any]]:
    """Cases to score, all or those named, with the Dice of nnU-Net's own summary.json where no references are given.

    Raises:
        InputError: a folder or a named case is missing, masks are made for other labels than the model, or the model
            needs images and none are given.
    """
    if not predictions_dir:
        raise InputError("predictions_dir: name the folder of predicted masks, or a list of folders")
    named = predictions_dir if isinstance(predictions_dir, (list, tuple)) else [predictions_dir]
    for name in [*named, *(folder for folder in (references_dir, images_dir) if folder)]:
        if not isinstance(name, (str, Path)):  # on MONAI's command line 7 is a number
            raise InputError(f"the name of a folder is needed, got {name!r}: write it as ./{name}")
    needs_images = settings["network"]["image_channels"] > 0
    if needs_images and not images_dir:
        raise InputError("images_dir: this model is conditioned on images: name the folder of the cases' images")
    if images_dir and not needs_images:
        check_folder(images_dir)
        logger.info("%s: of images the size alone counts, as this model was trained without them", images_dir)
    images = images_dir if needs_images else None
    only_cases = [only_cases] if isinstance(only_cases, str) else only_cases
    scheme = LabelScheme.from_dict(settings["labels"])
    names = scheme.structure_names
    cases = find_predictions(predictions_dir, references_dir or None, images, score_soft(soft), layout, names)
    if only_cases is not None:
        if missing := sorted(set(only_cases) - {case["case"] for case in cases}):
            raise InputError(f"only_cases: {predictions_dir} has no case '{missing[0]}'")
        cases = [case for case in cases if case["case"] in set(only_cases)]
        if not cases:
            raise InputError("only_cases: no case is named")
    for folder in dict.fromkeys([*map(Path, named), *(case["label"].parent for case in cases)]):
        check_same_labels(folder, scheme)
    cases = cases if references_dir else add_summary_dice(cases, scheme)
    if images_dir and not needs_images:
        unseen = find_images(
            images_dir, [without_folder(case["case"]) for case in cases], [case["label"] for case in cases]
        )
        cases = [_with_unseen_image(case, unseen) for case in cases]
    counts = [sum(key in case for case in cases) for key in ("reference", "dice", SOFT)]
    text = "%d predicted masks: %d with a reference, %d with a Dice of nnU-Net, %d with probabilities"
    logger.info(text, len(cases), *counts)
    return cases


def reading(model: TrainedModel, cases: Sequence[Mapping[str, Any]], everything: bool) -> Reading | None:
    """What is measured of masks that are neither flagged nor shown; None for everything, as of a smaller folder."""
    return None if everything or len(cases) <= MOST_MEASURED else model.anomaly.reading


def _with_unseen_image(case: dict[str, Any], images: Images) -> dict[str, Any]:
    """The case with its image, if there is one, of which the size alone will be looked at."""
    try:
        return {**case, UNSEEN_IMAGE: images.of(without_folder(case["case"]))[0]}
    except InputError:
        return case


@exit_on_input_error()
def marks(path: str | Path | None, cases: Sequence[Mapping[str, Any]]) -> dict[str, Mark]:
    """Marks of an earlier report that are of these cases; none without a file.

    Raises:
        InputError: the file cannot be read, or holds no marks.
    """
    if path is None:
        return {}
    if not isinstance(path, (str, Path)):  # on MONAI's command line 7 is a number
        raise InputError(f"marks: the name of a file is needed, got {path!r}: write it as ./{path}")
    return marks_of_cases(read_marks(path), [case["case"] for case in cases])


def ranking_settings(
    model: TrainedModel,
    predictions_dir: Any,
    references_dir: str | None,
    cases: Sequence[Mapping[str, Any]],
    alpha: float,
    fdr: float | None = None,
) -> dict[str, Any]:
    """Settings for summary.json: which model scored what, and how."""
    folders = [predictions_dir] if isinstance(predictions_dir, (str, Path)) else list(predictions_dir)
    sources = {"reference": "references", "dice": "nnU-Net summary.json"}
    return {
        "model_dir": str(model.folder),
        "weights_sha256": model.settings["weights_sha256"],
        "anomaly_score": model.settings["anomaly_score"],
        "alpha": alpha,
        "fdr": fdr,
        "predictions_dir": [str(folder) for folder in folders],
        "references_dir": None if references_dir is None else str(references_dir),
        "dice_source": next((name for key, name in sources.items() if any(key in case for case in cases)), None),
        "structures": list(model.structures),
        "colours": list(model.scheme.colours),
        "noise": model.settings["network"]["noise"],
    }


@exit_on_input_error()
def score(evaluator: Evaluator, collector: RankingCollector | None = None) -> Ranking | None:
    """Runs MONAI's evaluator; a full disk ends in one line, and the journal keeps what was scored.

    Returns:
        what ``collector``, one of the evaluator's handlers, found.

    Raises:
        InputError: another run writes into the collector's folder.
    """
    if collector is None:
        evaluator.run()
        return None
    with locked_folder(collector.writer.output_dir):
        evaluator.run()
    return collector.ranking


def stop_if_failed(collector: RankingCollector) -> None:
    """Raises SystemExit with code 3 where some cases could not be scored; their messages are in ranking.csv."""
    if collector.ranking.num_failed:
        raise SystemExit(SCORING_FAILED)
