"""The steps of the command line: each composes the package's own bundle configs, and runs them as MONAI does."""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from gnsm_monai.annotation import APP, STUDIES, write_app
from gnsm_monai.audit import PLAN, merge_folds, plan_folds
from gnsm_monai.cli_show import say, say_model, show, show_worst
from gnsm_monai.data.dicom_seg import convert_segmentations
from gnsm_monai.data.nnunet import read_label_scheme
from gnsm_monai.data.phantoms import write_phantom_dataset
from gnsm_monai.dicomweb import open_server
from gnsm_monai.dicomweb.options import ServerOptions
from gnsm_monai.errors import SCORING_FAILED, InputError
from gnsm_monai.evaluation.ranking import Ranking
from gnsm_monai.files import save_json
from gnsm_monai.folder.adding import add_masks
from gnsm_monai.folder.ranking import options_without_model, rank_folders
from gnsm_monai.model.files import SETTINGS
from gnsm_monai.model.quick import IMPROVED, is_quick, replace_model
from gnsm_monai.overrides import literal
from gnsm_monai.paths import bundle_root
from gnsm_monai.scoring.journal import PROGRESS
from gnsm_monai.workflow import check_output_dir
from gnsm_monai.workflow.training import is_first_process, num_processes

__all__ = ["audit", "demo", "from_dicom", "monailabel_app", "rank", "table_fit", "table_score", "train"]

FEW_COPIES = {"fit::failures::copies": 4, "fit::failures::calibration_copies": 2}

logger = logging.getLogger(__name__)


def train(output: Path, **overrides: Any) -> int:
    """``gnsm train``: a model in ``output``. ``overrides`` are ids of train.yaml.

    A quick model that is continued stays as it is until the full one is there.
    """
    _keep_finished(output, overrides)
    improves = is_quick(output) and not overrides.get("quick")
    workflow = _prepare("train.yaml", model_dir=output / IMPROVED if improves else output, **overrides)
    workflow.run()
    workflow.finalize()
    if is_first_process():
        if improves:
            replace_model(output)
        say_model(output)
    return 0


def rank(
    output: Path,
    model: Path | None = None,
    predictions: Sequence[Path] = (),
    strict: bool = False,
    few_references: Path | None = None,
    add: bool = False,
    **overrides: Any,
) -> int:
    """``gnsm rank``: results in ``output``. ``overrides`` are ids of inference.yaml, or options of a DICOMweb server.

    Without ``model`` the masks are compared with each other; see :mod:`gnsm_monai.folder`.

    Returns:
        0, or 3 where some masks could not be scored.
    """
    if add and (model is not None or few_references is not None or "dicomweb" in overrides):
        raise InputError(
            "--add: goes with --predictions alone: new masks are judged by what the earlier ranking learnt"
        )
    if server := ServerOptions.take(overrides):
        return _rank_server(server, model, output, strict=strict, **overrides)
    if model is None:
        given = {"strict": strict, **options_without_model(overrides)}
        if add:
            itself = add_masks(predictions, output, **given)
        else:
            itself = rank_folders(predictions, output, few_references=few_references, **given)
        show(output, itself)
        return _code(itself)
    if few_references is not None:
        raise InputError("--few-references: is for a ranking without --model; a model has references of its own")
    folders = predictions[0] if len(predictions) == 1 else list(predictions)
    overrides = {"model_dir": model, "predictions_dir": folders, "strict": strict, **overrides}
    ranking = _score(output, **overrides)
    if is_first_process():
        show(output, ranking)
    return _code(ranking)


def _rank_server(server: ServerOptions, model: Path | None, output: Path, **overrides: Any) -> int:
    """``gnsm rank --dicomweb``; see :class:`gnsm_monai.dicomweb.rank.ServerRanking`."""
    if model is None:
        raise InputError("--dicomweb: needs a model: give one with --model, made by gnsm train")
    options = {"model_dir": model, "layout": "dicom", "journal::keep": True, "all_statistics": True, **overrides}
    options |= {"write_maps": True} if server.store_maps else {}
    work = open_server(server, model, output, functools.partial(_score, output, **options))
    ranking = work.run()
    if ranking is None:
        return 0
    show(output, ranking)
    return SCORING_FAILED if work.num_failed else _code(ranking)


def demo(output: Path, **overrides: Any) -> int:
    """``gnsm demo``: phantoms, a small model of them, and a ranking of masks with failures of eight kinds.

    ``overrides`` are ids of train.yaml.
    """
    check_output_dir(output)
    logger.info("training on phantoms: 76 heart-like label maps")
    dataset = write_phantom_dataset(output / "data")
    # Small maps give few voxels each: batches of two would teach too little in so few steps.
    small: dict[str, Any] = {"epochs": 8, "steps_per_epoch": 25, "batch_size": 8, "max_voxels": 15_000}
    # Failures of the kinds that are ranked here; few of them, and few steps for shapes, to end within five minutes.
    small |= {"failures": "copies", "fit::shapes::steps": 300, **FEW_COPIES}
    small |= overrides
    _prepare("train.yaml", dataset_dir=dataset, model_dir=output / "model", **small).run()
    logger.info("ranking masks with failures of eight kinds, beside their known Dice")
    folders = sorted(path for path in (dataset / "predictions").iterdir() if path.is_dir())
    code = rank(output / "results", output / "model", folders, references_dir=dataset / "labelsTs")
    say_model(output / "model")
    return code


def audit(dataset: Path, output: Path, folds: int = 5, **overrides: Any) -> int:
    """``gnsm audit``: every reference label map scored by a model that has not seen it; see :mod:`gnsm_monai.audit`.

    ``overrides`` are ids of train.yaml. The score is how unusual a label map is, not how low its Dice would be: a
    labelling error can be smoother than any reference.

    Returns:
        0, or 3 where some label maps could not be scored.
    """
    # A linear model of shapes, which takes seconds, is enough to tell how unusual a map is. Failures serve only to
    # predict Dice.
    overrides = {"fit::shapes::steps": 0, **FEW_COPIES, **overrides}
    overrides = {"anomaly_score": "deviation", "failures": "copies", **overrides}
    check_output_dir(output, dataset, dataset / "labelsTr")
    plan = plan_folds(
        dataset, output, folds, **{name: overrides[name] for name in ("layout", "patients") if name in overrides}
    )
    rankings: list[Ranking] = []
    for fold, cases in enumerate(plan["folds"]):
        model = output / "models" / f"fold_{fold}"
        logger.info("fold %d of %d: %d label maps", fold + 1, folds, len(cases))
        if not (model / SETTINGS).is_file():  # written last: a model that has it is complete
            train_on = {"dataset_dir": dataset, "exclude_cases": cases, "resume": True}
            training = _prepare("train.yaml", model_dir=model, **train_on, **overrides)
            save_json(output / PLAN, plan)  # only now that the data are found to be good
            training.run()
        options = {"model_dir": model, "predictions_dir": dataset / "labelsTr", "only_cases": cases}
        options |= {"all_statistics": True}
        options |= {name: overrides[name] for name in ("device", "layout") if name in overrides}
        rankings.append(_score(output / "folds" / f"fold_{fold}", **options, **{"journal::keep": True}))
    merged = merge_folds(rankings, dataset, output)
    for fold in range(folds):
        shutil.rmtree(output / "folds" / f"fold_{fold}" / PROGRESS, ignore_errors=True)
    show(output, merged)
    return _code(merged)


def from_dicom(segmentations: Path, output: Path, series: Path | None = None, dataset: Path | None = None) -> int:
    """``gnsm from-dicom``: DICOM segmentations as label maps in ``output``; see :mod:`gnsm_monai.data.dicom_seg`."""
    check_output_dir(output, segmentations, series, dataset)
    labels = None if dataset is None else read_label_scheme(dataset)
    if dataset is not None and labels is None:
        raise InputError(f"{dataset}: no dataset.json")
    maps = convert_segmentations(segmentations, output, series, labels)
    say("label maps", f"{len(maps)} in {output}")
    return 0


def monailabel_app(output: Path, model: Path, predictions: Path, images: Path, link_images: bool = False) -> int:
    """``gnsm monailabel-app``: a folder for MONAI Label in ``output``; see :mod:`gnsm_monai.annotation`."""
    check_output_dir(output, model, predictions, images)
    write_app(output, model, predictions, images, link_images)
    say("app", output / APP)
    print("\nin the environment of MONAI Label:")
    print(f"monailabel start_server --app {output} --studies {output / STUDIES}")
    return 0


def table_fit(data: Path, output: Path, **overrides: Any) -> int:
    """``gnsm table fit``: a model of a CSV file in ``output``. ``overrides`` are ids of the bundle's train.yaml."""
    _keep_finished(output, overrides)
    _prepare("train.yaml", "tabular_anomaly", dataset_dir=data, model_dir=output, **overrides).run()
    say_model(output)
    return 0


def table_score(model: Path, data: Path, output: Path, **overrides: Any) -> int:
    """``gnsm table score``: the rows of a CSV file ranked in ``output``."""
    overrides = {"model_dir": model, "dataset_dir": data, **overrides}
    lines = _prepare("inference.yaml", "tabular_anomaly", output_dir=output, **overrides).run()[-1]
    show_worst(lines, "rows", ["rank", "row", "anomaly_score", "p_value", "feature_1", "value_1"])
    print()
    say("ranking", output / "ranking.csv")
    say("report", output / "report.html")
    return 0


def _keep_finished(model: Path, overrides: Mapping[str, Any]) -> None:
    """Raises InputError if a training would first delete a finished model, which may have taken hours."""
    if (model / SETTINGS).is_file() and not overrides.get("resume"):
        raise InputError(f"{model}: holds a finished model; name another folder, or delete this one to train anew")


def _prepare(config: str, bundle: str = "segmentation_qc", run: str | None = None, **overrides: Any) -> ConfigWorkflow:
    """The package's own config with overrides, initialised; where torchrun started several processes, with its overlay.

    ``run`` is the step to run, in place of the config's. All other values are taken as they are (:func:`literal`).
    """
    overrides = {name: literal(value) for name, value in overrides.items()} | ({"run": run} if run else {})
    kind = "train" if config == "train.yaml" else "infer"
    names = [config]
    if num_processes() > 1:
        names.append(f"multi_gpu_{config}")
        if str(overrides.get("device", "")).startswith("cuda"):
            del overrides["device"]  # each has a GPU of its own
    files = [str(bundle_root(bundle) / "configs" / name) for name in names]
    workflow = ConfigWorkflow(config_file=files, workflow_type=kind, logging_file=False, **overrides)
    workflow.initialize()
    return workflow


def _score(output: Path, **overrides: Any) -> Ranking:
    """Runs inference.yaml. What cannot be scored is in the ranking, where MONAI's run of it would end with code 3."""
    step = "$workflow.score(@evaluator, @ranking)"
    workflow = _prepare("inference.yaml", output_dir=output, run=step, **overrides)
    ranking: Ranking
    (ranking,) = workflow.run()
    workflow.finalize()
    return ranking


def _code(ranking: Ranking) -> int:
    return SCORING_FAILED if ranking.num_failed else 0
