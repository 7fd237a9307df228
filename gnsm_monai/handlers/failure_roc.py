"""While a network trains: does it tell held-out references from failures made from them?"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.engines import Evaluator
from torch.utils.tensorboard import SummaryWriter

from gnsm_monai.data.constants import IMAGE, LABEL
from gnsm_monai.data.degradations import KINDS, degrade
from gnsm_monai.data.transforms import encode_labels
from gnsm_monai.evaluation.metrics import auroc
from gnsm_monai.report.figures import pixels, roc_curves
from gnsm_monai.scoring.scorer import Scorer

__all__ = ["FailureRoc"]

MAX_REFERENCES = 8
"""References that are scored."""

SEVERITIES = (0.1, 0.3, 0.6)
"""Severities of the failures, see :func:`gnsm_monai.data.degradations.degrade`."""


class FailureRoc:
    """Writes, at every validation, how well held-out references are told from graded failures of each kind.

    The averaged network scores a few references, and one failure per kind and severity, at two noise levels, a weak and
    a middle one. This is a quick check, not the score that is fitted in the end. To TensorBoard go the AUROC per kind
    and per severity, the ROC curves as a picture and a precision-recall curve. Attach it to the trainer after the
    ``ValidationHandler``.

    Args:
        writer: of the run.
        evaluator: its network is scored.
        dataset: held-out references on the model's grid.
        scorer: gives the level statistics.
        num_classes: classes ``K``, background included.
        spacing: mm per axis.
        interval: epochs between validations.
        seed: of the failures; they are the same at every validation.
    """

    def __init__(
        self,
        writer: SummaryWriter,
        evaluator: Evaluator,
        dataset: Dataset,
        scorer: Scorer,
        num_classes: int,
        spacing: Sequence[float],
        interval: int = 1,
        seed: int = 0,
    ) -> None:
        self.writer, self.evaluator, self.dataset, self.scorer = writer, evaluator, dataset, scorer
        self.num_classes, self.spacing, self.interval = num_classes, tuple(spacing), interval
        self.seed = seed
        levels = scorer.schedule.num_levels
        self.levels = sorted({levels // 4, levels // 2})
        self.statistic = "disagreement" if scorer.parametrisation == "posterior" else "score_norm"
        self._cases: list[tuple[str, float, dict[str, Any]]] | None = None
        self.logger = logging.getLogger(__name__)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Engine) -> None:
        if self._cases is None:
            self._cases = self._make_cases()
        network = self.evaluator.network  # type: ignore[attr-defined]
        was_training = network.training
        network.eval()
        scores = np.array([self._score(network, case) for _, _, case in self._cases])
        network.train(was_training)
        kinds, severities = (np.array([case[i] for case in self._cases]) for i in (0, 1))
        if np.isfinite(scores).all() and (kinds == "").any() and (kinds != "").any():
            self._write(scores, kinds, severities, engine.state.epoch)

    def _make_cases(self) -> list[tuple[str, float, dict[str, Any]]]:
        """Kind (empty: a reference), severity and maps of all that is scored."""
        items: list[Mapping[str, Any]] = [self.dataset[i] for i in range(min(len(self.dataset), MAX_REFERENCES))]
        items = [item for item in items if bool((item[LABEL] > 0).any())]
        cases = [("", 0.0, dict(item)) for item in items]
        for number, (kind, severity) in enumerate((k, s) for k in KINDS if items for s in SEVERITIES):
            item = items[number % len(items)]
            label = item[LABEL].as_tensor()[0].cpu().numpy().astype(np.int64)
            rng = np.random.default_rng([self.seed, number])
            worse = degrade(label, kind, severity, rng, self.num_classes, self.spacing)
            cases.append((kind, severity, {**item, LABEL: torch.from_numpy(worse)[None]}))
        return cases

    def _score(self, network: torch.nn.Module, case: Mapping[str, Any]) -> float:
        device = self.evaluator.state.device
        label = torch.as_tensor(case[LABEL])[None].to(device)
        image = torch.as_tensor(case[IMAGE])[None].to(device) if IMAGE in case else None
        probabilities, observed = encode_labels(label, self.num_classes)
        statistics = self.scorer(network, probabilities, observed, image, only_levels=self.levels)
        return float(statistics.levels[self.statistic].mean())

    def _write(self, scores: np.ndarray, kinds: np.ndarray, severities: np.ndarray, epoch: int) -> None:
        sound, failed = scores[kinds == ""], kinds != ""
        curves = {"all failures": (sound, scores[failed])}
        curves |= {kind.replace("_", " "): (sound, scores[kinds == kind]) for kind in KINDS if (kinds == kind).any()}
        for name, (_, worse) in curves.items():
            self.writer.add_scalar(f"validation_auroc_per_failure/{name.replace(' ', '_')}", _area(sound, worse), epoch)
        for severity in SEVERITIES:
            of_severity = failed & (severities == severity)
            self.writer.add_scalar(
                f"validation_auroc_per_severity/severity_{severity:g}", _area(sound, scores[of_severity]), epoch
            )
        picture = pixels(roc_curves(curves))
        self.writer.add_image("validation_pictures/roc_of_failures", picture, epoch, dataformats="HWC")
        # The curve needs numbers in [0, 1]; only their order matters.
        order = scores.argsort().argsort() / max(len(scores) - 1, 1)
        self.writer.add_pr_curve("validation/failures_among_references", failed, order, epoch)
        self.logger.info("epoch %d: AUROC of failures made from references %.3f", epoch, _area(*curves["all failures"]))


def _area(sound: np.ndarray, failed: np.ndarray) -> float:
    return auroc(np.concatenate([sound, failed]), np.arange(sound.size + failed.size) >= sound.size)
