"""The options of the command ``gnsm``. They are parsed first, because importing torch and MONAI takes seconds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import gnsm_monai
from gnsm_monai.cli_values import a_path, at_least_two, dice_limits, half_at_most, positive, share, whole
from gnsm_monai.dicomweb.options import add_server_options
from gnsm_monai.errors import EXIT_INPUT_ERROR

__all__ = ["build_parser", "read_arguments"]

EXAMPLES = """\
examples:
  gnsm demo  --output runs/demo
  gnsm train --dataset nnUNet_raw/Dataset004_Hippocampus --output runs/model
  gnsm rank  --model runs/model --predictions predictions --output runs/results
  gnsm rank  --model runs/model --predictions fold_0/validation fold_1/validation --references labelsTr \\
             --output runs/results
  gnsm rank  --predictions predictions --output runs/results      (without references: masks are compared)
  gnsm audit --dataset nnUNet_raw/Dataset004_Hippocampus --output runs/audit
  gnsm from-dicom --segmentations exported --series exported --output predictions
  gnsm monailabel-app --model runs/model --predictions predictions --images imagesTs --output runs/label
  gnsm table fit   --data train.csv --output runs/table
  gnsm table score --model runs/table --data new.csv --output runs/rows

exit code: 0 done; 2 wrong usage, configuration or training data, nothing written; 3 some masks could not be scored
"""


class _Parser(argparse.ArgumentParser):
    """A mistake is one line, as everywhere in this package."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message} ({self.prog} --help lists the options)", file=sys.stderr)
        raise SystemExit(EXIT_INPUT_ERROR)


def read_arguments(arguments: Sequence[str] | None = None) -> tuple[str, dict[str, Any]]:
    """The function of :mod:`gnsm_monai.cli_commands` that is asked for, and its arguments, those that were given.

    Raises:
        SystemExit: with code 2 after one line, where the usage is wrong; with 0 after a help text.
    """
    options = vars(build_parser().parse_args(arguments))
    command = "_".join(filter(None, [options.pop("command"), options.pop("step", None)])).replace("-", "_")
    return command, {name: value for name, value in options.items() if value is not None}


def build_parser() -> argparse.ArgumentParser:
    """The options of all commands; each command's own are named as the arguments of its function."""
    parser = _Parser(
        prog="gnsm",
        description="Ranks segmentation masks, worst first, without ground truth.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gnsm_monai {gnsm_monai.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = _command(commands, "demo", "see it work on built-in phantoms, in a few minutes")
    _path_option(demo, "--output", "folder for data, model and results", required=True, metavar="OUT")
    _train(_command(commands, "train", "learn what reference label maps look like"))
    _rank(_command(commands, "rank", "rank predicted masks, worst first"))
    _audit(_command(commands, "audit", "find labelling errors among the references themselves"))
    _from_dicom(_command(commands, "from-dicom", "turn DICOM segmentations (SEG, RTSTRUCT) into label maps"))
    _monailabel_app(_command(commands, "monailabel-app", "give annotators the worst masks first, by MONAI Label"))
    _table(_command(commands, "table", "find anomalies in tables of categorical features"))
    return parser


def _command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    description = summary[0].upper() + summary[1:] + "."
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, allow_abbrev=False
    )
    return parser


def _path_option(
    parser: Any, name: str, help_text: str, dest: str | None = None, required: bool = False, metavar: str = "DIR"
) -> None:
    parser.add_argument(name, dest=dest, type=a_path, required=required, metavar=metavar, help=help_text)


def _flag(parser: argparse.ArgumentParser, name: str, help_text: str, dest: str | None = None) -> None:
    """A switch that is not set, and left to the configs, where it is not given."""
    parser.add_argument(name, dest=dest, action="store_const", const=True, help=help_text)


def _train(parser: argparse.ArgumentParser) -> None:
    data = parser.add_mutually_exclusive_group(required=True)
    what = "nnU-Net raw data set: label maps in labelsTr, their names in dataset.json"
    _path_option(data, "--dataset", what, dest="dataset_dir", metavar="DATASET")
    _path_option(data, "--labels", "a bare folder of reference label maps", dest="labels_dir")
    _path_option(parser, "--output", "folder of the model", required=True, metavar="MODEL")
    what = "let the network see each case's image too (imagesTr); ranking then needs --images"
    _flag(parser, "--condition-on-image", what)
    _layout(parser)
    _patients(parser)
    _length(parser)
    _flag(parser, "--quick", "a first model in about a minute, which --resume turns into a full one, in its place")
    _flag(parser, "--resume", "continue a training of this MODEL that was stopped, or was --quick")
    what = "seed of the weights, and of which references train, select and calibrate (default: 0)"
    parser.add_argument("--seed", type=whole, metavar="N", help=what)


def _layout(parser: argparse.ArgumentParser) -> None:
    what = (
        "how label maps are laid out: files, bids, freesurfer, structures, folders or dicom (default: found by looking)"
    )
    parser.add_argument("--layout", metavar="NAME", help=what)


def _patients(parser: argparse.ArgumentParser) -> None:
    what = (
        "which label maps are of one patient, and are held out together: auto (default) by their names, as heart_002_1 "
        "and heart_002_2 are; each for none; or a regular expression for the patient in a name"
    )
    parser.add_argument("--patients", metavar="PATTERN", help=what)


def _length(parser: argparse.ArgumentParser) -> None:
    """How long each model is trained, and where."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=positive(int), metavar="N", help="length of a training (default: 10)")
    what = "be done with a model in this time, all parts of its training included"
    length.add_argument("--max-minutes", type=positive(float), metavar="M", help=what)
    _device(parser)


def _device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU where there is one)")


def _rank(parser: argparse.ArgumentParser) -> None:
    _inputs_of_rank(parser)
    _results_of_rank(parser)
    add_server_options(parser, positive)
    what = "processes that read files (default: 0)"
    parser.add_argument("--workers", dest="num_workers", type=whole, metavar="N", help=what)
    _device(parser)
    _flag(parser, "--strict", "stop at the first mask that cannot be scored")


def _inputs_of_rank(parser: argparse.ArgumentParser) -> None:
    what = "folder that gnsm train has written; without it the masks are compared with each other"
    _path_option(parser, "--model", what)
    masks = parser.add_mutually_exclusive_group(required=True)
    what = "folder of predicted masks, or several of them: cases are then called DIR/CASE"
    masks.add_argument("--predictions", type=a_path, nargs="+", metavar="DIR", help=what)
    what = "DICOMweb server whose segmentations (SEG, RTSTRUCT) are fetched and ranked"
    masks.add_argument("--dicomweb", metavar="URL", help=what)
    _path_option(parser, "--output", "folder of the results", required=True, metavar="OUT")
    what = "folder of the cases' images, for a model that sees images; without --model they are read where they help"
    _path_option(parser, "--images", what, dest="images_dir")
    what = "folder of references, to measure the ranking against Dice"
    _path_option(parser, "--references", what, dest="references_dir")
    what = "without --model: folder of three references or more, which count more than the masks"
    _path_option(parser, "--few-references", what)
    what = "without --model: rank new masks beside those in OUT, by what these taught; earlier scores stay"
    _flag(parser, "--add", what)
    what = "auto (default): score probabilities (CASE.npz) where they lie beside the masks; off: score the masks"
    parser.add_argument("--soft", choices=("auto", "off"), help=what)
    _layout(parser)


def _results_of_rank(parser: argparse.ArgumentParser) -> None:
    flags = parser.add_mutually_exclusive_group()
    what = "share of good masks that may be flagged by mistake (default: 0.05)"
    flags.add_argument("--alpha", type=share, metavar="P", help=what)
    what = "flag by the share of good masks among those that are flagged in a folder, in place of --alpha"
    flags.add_argument("--fdr", type=share, metavar="Q", help=what)
    what = "a mask below this Dice is a failure, in the metrics and the review budget (default: 0.7)"
    parser.add_argument("--failure-dice", type=dice_limits, metavar="DICE", help=what)
    what = "for viewers: the anomaly of every voxel in maps/, flagged masks with names and colours in flagged/"
    _flag(parser, "--maps", what, dest="write_maps")
    what = "of more than 200 masks, too, measure all of every one, not only of those that are flagged or shown"
    _flag(parser, "--all-statistics", what)
    what = "in proposed/: corrected copies of masks that other labels alone make usual"
    _flag(parser, "--propose", what)
    what = "marks that a report has exported: shown in the new report"
    _path_option(parser, "--marks", what, metavar="MARKS.csv")
    _flag(parser, "--lists", "in lists/: the worst masks for correction tools (3D Slicer, SegmentationReview, SCT)")


def _audit(parser: argparse.ArgumentParser) -> None:
    what = "nnU-Net raw data set whose labelsTr is examined"
    _path_option(parser, "--dataset", what, required=True, metavar="DATASET")
    _path_option(parser, "--output", "folder of models and results", required=True, metavar="OUT")
    what = "models: each scores what the others were trained on (default: 5)"
    parser.add_argument("--folds", type=at_least_two, metavar="N", help=what)
    _layout(parser)
    _patients(parser)
    _length(parser)


def _from_dicom(parser: argparse.ArgumentParser) -> None:
    _path_option(parser, "--segmentations", "folder with DICOM SEG or RTSTRUCT files, at any depth", required=True)
    _path_option(parser, "--output", "folder of the label maps", required=True, metavar="OUT")
    what = "folder with the image series that were segmented: a SEG leaves out empty slices, with their series the "
    _path_option(parser, "--series", what + "label maps have the whole field of view; an RTSTRUCT needs it")
    what = "nnU-Net data set whose dataset.json says which value a name has (default: the numbers of the segments)"
    _path_option(parser, "--dataset", what, metavar="DATASET")


def _monailabel_app(parser: argparse.ArgumentParser) -> None:
    _path_option(parser, "--model", "folder that gnsm train has written", required=True)
    _path_option(parser, "--predictions", "folder of predicted masks, one file per case", required=True)
    _path_option(parser, "--images", "folder of the cases' images; cases without a mask count, too", required=True)
    _path_option(
        parser, "--output", "folder of the app and its copies of images and masks", required=True, metavar="APP"
    )
    _flag(parser, "--link-images", "link to the images: deleting one in MONAI Label then deletes the original")


def _table(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    fit = _command(steps, "fit", "learn what the rows of a CSV file look like")
    _path_option(fit, "--data", "rows taken for normal", required=True, metavar="TRAIN.csv")
    _path_option(fit, "--output", "folder of the model", required=True, metavar="MODEL")
    what = "columns not to use, such as identifiers"
    fit.add_argument("--ignore", dest="ignore_columns", nargs="+", metavar="COLUMN", help=what)
    what = "columns of numbers to be binned"
    fit.add_argument("--numerical", dest="numerical_features", nargs="+", metavar="COLUMN", help=what)
    what = "texts that stand for a missing value (default: NA, NaN, null, -, ...)"
    fit.add_argument("--missing", nargs="*", metavar="TEXT", help=what)
    _decimal(fit)
    what = "share of the rows that may be anomalies: the worst are found and left out (default: none)"
    fit.add_argument("--contamination", dest="trim", type=half_at_most, metavar="SHARE", help=what)
    fit.add_argument("--max-minutes", type=positive(float), metavar="M", help="train for no longer than about this")
    _device(fit)
    _flag(fit, "--resume", "continue a training that was stopped")
    score = _command(steps, "score", "rank the rows of a CSV file, worst first")
    _path_option(score, "--model", "folder that gnsm table fit has written", required=True)
    _path_option(score, "--data", "rows to rank", required=True, metavar="NEW.csv")
    _path_option(score, "--output", "folder of the results", required=True, metavar="OUT")
    _decimal(score)
    what = "share of normal rows that may be flagged by mistake (default: 0.05)"
    score.add_argument("--alpha", type=share, metavar="P", help=what)


def _decimal(parser: argparse.ArgumentParser) -> None:
    what = "sign before decimals, a point or a comma (default: found in the file)"
    parser.add_argument("--decimal", choices=[".", ","], metavar="SIGN", help=what)
