"""A ranking in TensorBoard: what the report shows, and every case as a point among the others."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from gnsm_monai.report import figures
from gnsm_monai.report.colours import given_colours
from gnsm_monai.report.pictures import heat_range
from gnsm_monai.report.strips import case_strip, sprite
from gnsm_monai.report.wording import number, p_text, share
from gnsm_monai.scoring.result import CaseResult, FailedCase, Result, scored

__all__ = ["write_board"]

MAX_TABLE, MAX_POINTS = 200, 2000
"""Worst cases in the text, and in the projector: more make the browser slow."""
MIN_POINTS = 3
WIDE = "&nbsp;" * 2
FIGURES = {
    "histogram": "1_histogram_of_scores",
    "scatter": "2_score_against_dice",
    "risk_coverage": "3_risk_coverage",
    "budget_curve": "4_review_budget",
}

_Floats = npt.NDArray[np.float64]


def write_board(
    folder: str | Path, results: Sequence[Result], summary: Mapping[str, Any], reference_scores: npt.ArrayLike
) -> None:
    """Writes a ranking to a TensorBoard folder of its own, in place of what an earlier ranking left there.

    Pictures: the figures of the report, and a strip per worst case, in rank order, with its caption. Histograms: the
    scores of masks and references. Text: the table. With references: a precision-recall curve per limit of Dice, and
    settings with metrics for the HPARAMS tab. Projector: the level statistics of every case, with its mask as sprite
    and columns to colour by.

    Args:
        folder: is emptied first.
        results: one per case, as :func:`gnsm_monai.report.build_report` takes them; those with a ``picture`` become
            strips, those with a ``thumbnail`` show it in the projector.
        summary: content of summary.json.
        reference_scores: anomaly scores of the held-out references, ``(n,)``, higher = worse; may be empty.
    """
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    cases = scored(results)
    references = np.asarray(reference_scores, dtype=np.float64).ravel()
    with SummaryWriter(str(folder)) as writer:
        if itself := summary["settings"].get("folder_itself"):
            images = [itself["images"]["text"]] if itself.get("images") else []
            said = [itself["limits"], *images, itself["standing_apart"], *itself["warnings"]]
            writer.add_text("learnt_from_the_folder_itself", "\n\n".join(map(_cell, said)), 0)
        writer.add_text("ranking", _table(results), 0)
        if cases:
            _figures(writer, cases, summary, references[np.isfinite(references)])
            _strips(writer, cases, given_colours(summary))
            _projector(writer, cases[:MAX_POINTS])
        if summary.get("metrics"):
            _metrics(writer, summary)


def _figures(
    writer: SummaryWriter, cases: Sequence[CaseResult], summary: Mapping[str, Any], references: _Floats
) -> None:
    writer.add_histogram("anomaly_score/masks", figures.anomaly_scores(cases), 0)
    if references.size:
        writer.add_histogram("anomaly_score/references", references, 0)
    for name, figure in figures.ranking_figures(cases, summary, references).items():
        writer.add_image(f"figures/{FIGURES[name]}", figures.pixels(figure), 0, dataformats="HWC")
    measured = [result for result in cases if result.has_dice]
    if len(measured) >= figures.MIN_MEASURED:
        dice = np.array([result.dice for result in measured], dtype=np.float64)
        # The curve wants numbers in [0, 1]: what counts is their order.
        order = figures.anomaly_scores(measured).argsort().argsort() / (len(measured) - 1)
        for limit in figures.failure_limits(summary):
            if 0 < (dice < limit).sum() < len(dice):
                writer.add_pr_curve(f"failures/dice_below_{limit:g}", dice < limit, order, 0)


def _strips(writer: SummaryWriter, cases: Sequence[CaseResult], colours: Sequence[str]) -> None:
    shown = [(rank, result) for rank, result in enumerate(cases, start=1) if result.picture]
    heat = heat_range(result.picture for _, result in shown)
    for rank, result in shown:
        strip = case_strip(result.picture, _caption(rank, result), heat, colours)
        writer.add_image(f"worst_cases/rank_{rank:03d}", strip, 0, dataformats="HWC")


def _caption(rank: int, result: CaseResult) -> list[str]:
    decision, predicted = result.decision, number(result.decision.predicted_dice)
    facts = [f"score {decision.anomaly:.4g}", f"p {p_text(number(decision.p_value))}"]
    facts += [f"Dice {share(result.dice)}"] if result.has_dice else []
    facts += [] if predicted is None else [f"predicted Dice {share(predicted)}"]
    facts += ["flagged"] if decision.flagged else []
    return [f"{rank}. {result.case}", "   ".join(facts), *([result.reason] if result.reason else [])]


def _table(results: Sequence[Result]) -> str:
    # The tab shares its width out by the longest text and breaks words and numbers where that leaves them too little.
    columns = ("#", "case", "score", "p value", "flag", "predicted", "Dice", "structure")
    lines = [
        " | ".join(f"{WIDE}{name}{WIDE}" if len(name) > 3 else name for name in columns),
        " | ".join(["---"] * len(columns)),
    ]
    for rank, result in enumerate(results[:MAX_TABLE], start=1):
        shown = [_cell(_rounded(value)) for value in [rank, *_facts(result)]]
        lines.append(" | ".join([shown[0], shown[1].replace("/", "/<br>"), *shown[2:]]))
    more = [f"\n{len(results) - MAX_TABLE} more in ranking.csv"] if len(results) > MAX_TABLE else []
    return "\n".join([*(f"| {line} |" for line in lines), *more])


def _facts(result: Result) -> list[Any]:
    """What the table says of a case; of one that failed its message in place of the score."""
    if isinstance(result, FailedCase):
        return [result.case, result.message]
    decision = result.decision
    numbers = [decision.anomaly, decision.p_value, int(decision.flagged), decision.predicted_dice, result.dice]
    return [result.case, *numbers, result.place.structure]


def _rounded(value: Any) -> Any:
    """Three decimals, of numbers that have their first digit there."""
    return f"{value:.3f}" if isinstance(value, float) and 0.001 <= abs(value) < 1000 else value


def _cell(value: Any) -> str:
    """Names come from files: they must break no table, and run nothing."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = " ".join(text.encode(errors="backslashreplace").decode().split())
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("[", "&#91;"), ("`", "&#96;")):
        text = text.replace(sign, name)
    return text


def _metrics(writer: SummaryWriter, summary: Mapping[str, Any]) -> None:
    """In the run's own writer: ``add_hparams`` would open another one in a folder of its own."""
    metrics = {f"metrics/{name}": m["value"] for name, m in summary["metrics"].items() if m["value"] is not None}
    settings = summary["settings"]
    compared = {
        "model": "/".join(Path(str(settings.get("model_dir", ""))).parts[-2:]),
        "weights": str(settings.get("weights_sha256", ""))[:12],
        "anomaly_score": str(settings.get("anomaly_score", "")),
        "masks": int(summary["cases"]),
    }
    for part in hparams(compared, metrics):
        writer._get_file_writer().add_summary(part)
    for name, value in metrics.items():
        writer.add_scalar(name, value, 0)


def _projector(writer: SummaryWriter, cases: Sequence[CaseResult]) -> None:
    if len(cases) < MIN_POINTS:
        return
    levels = np.stack([np.stack([*result.levels.values()], axis=-1).ravel() for result in cases])
    levels = levels[:, np.isfinite(levels).all(0)]
    spread = levels.std(0)
    if not (spread > 0).any():
        return
    points = ((levels - levels.mean(0)) / np.where(spread > 0, spread, 1.0))[:, spread > 0]
    header = ["case", "rank", "anomaly_score", "flag", "predicted_dice", "dice", "worst_structure"]
    labels = []
    for rank, result in enumerate(cases, start=1):
        case, score, _, *others = _facts(result)
        labels.append([_cell(value) or "-" for value in (case, rank, score, *others)])
    sprites = None
    if any(result.thumbnail is not None for result in cases):
        pictures = np.stack([sprite(result.thumbnail) for result in cases])
        sprites = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    values = torch.from_numpy(points).float()
    writer.add_embedding(values, labels, sprites, tag="level_statistics", metadata_header=header)
