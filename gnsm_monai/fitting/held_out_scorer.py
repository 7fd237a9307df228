"""What held-out references, and failures made from them, score, in as much time as there is."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from torch import nn

from gnsm_monai.data.constants import IMAGE, LABEL
from gnsm_monai.data.datalist import Case
from gnsm_monai.data.transforms import FitToGridd, encode_labels
from gnsm_monai.fitting.reference_failures import ReferenceFailures
from gnsm_monai.fitting.reference_statistics import ReferenceStatistics, ScoredFailure
from gnsm_monai.handlers import TerminalProgress
from gnsm_monai.handlers.trainer import LOG_SECONDS
from gnsm_monai.rules.fit_data import OTHER
from gnsm_monai.rules.levels import CaseStatistics
from gnsm_monai.rules.reading import Reading
from gnsm_monai.rules.statistics import STATISTICS
from gnsm_monai.scoring.reference_images import ReferenceImages, case_smoothness
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.scorer import OF_MASK, Scorer
from gnsm_monai.time_limit import NO_LIMIT, TimeLimit

__all__ = ["HeldOutScorer"]

LEAST = 4
"""References of a use, and failures made from them, that are scored whatever the time: less is nothing to fit to."""

MOST = 700
"""Failures of a use, about: where references are many, each fails in fewer ways. Fewer in all tell rules apart less
well: 609 of pictures of blood cells choose one rule, and 256 of these choose it or another (docs/notebook.md)."""

logger = logging.getLogger(__name__)


class HeldOutScorer:
    """Scores references that the network has not learnt from, and failures made from them.

    Where the time is limited, references come in random order, each gets an equal share of what is left, and fewer
    failures are made from it than planned, of all sorts in turn.

    Args:
        scorer: gives the level statistics.
        network: with its weights, in evaluation mode.
        failures: makes failures from the references.
        shapes: those by which each held-out reference is judged, by case.
        mask_alone: whether failures are measured by what they tell alone; the network takes most of the time.
    """

    def __init__(
        self,
        scorer: Scorer,
        network: nn.Module,
        failures: ReferenceFailures,
        shapes: Mapping[str, ReferenceShapes],
        mask_alone: bool = False,
    ) -> None:
        self.scorer, self.network, self.failures, self.shapes = scorer, network, failures, shapes
        self.mask_alone = mask_alone
        self.references = failures.references

    def statistics(self, use: str, limit: TimeLimit = NO_LIMIT, others: int = 0) -> ReferenceStatistics:
        """Scores the references of one use, each judged by its own shapes, and failures of each.

        Args:
            use: ``selection`` or ``calibration``.
            limit: of the time.
            others: maps of other references per reference, as failures of one more maker.
        """
        scored = _ScoredUse(self, use, limit, others)
        self._run(scored.add, len(scored.cases), use, limit, lambda: scored.enough)
        text = "%s: %d of %d references were scored, and %d failures made from them"
        counts = len(scored.references), len(scored.cases), len(scored.failures)
        logger.info(text + (": time allowed no more" if scored.shortened else ""), use, *counts)
        cases = scored.cases[: len(scored.references)]
        names, patients = ([case[key] for case in cases] for key in ("case", "patient"))
        empty = None if self.references.never_empty else np.array(scored.empty, dtype=bool)
        return ReferenceStatistics(names, scored.references, scored.failures, empty, scored.others, patients)

    def images(self, limit: TimeLimit = NO_LIMIT) -> dict[str, np.ndarray]:
        """How smooth images are, of all references: nothing is learnt that could flatter those of training."""
        if not self.references.image_channels:
            return {}
        cases = in_order(self.references.cases, limit, self.failures.seed)
        maps, smoothness = self.references.maps_of(cases), list[Any]()

        def measure(number: int) -> None:
            smoothness.append(case_smoothness(self._placed(maps[number])))

        self._run(measure, len(cases), "images", limit, lambda: len(smoothness) >= LEAST)
        return ReferenceImages.fit(np.stack(smoothness)).to_arrays()

    def score(self, maps: Mapping[str, Any], case: str, failure: bool = False) -> CaseStatistics:
        """What the network says of these maps, judged by the shapes for a case; without maps, of which there would be
        hundreds at a time."""
        placed, device = self._placed(maps), next(self.network.parameters()).device
        label = placed[LABEL].as_tensor()[None].to(device)
        probabilities, observed = encode_labels(label, self.references.scheme.num_classes)
        sees = self.references.image_channels > 0
        image = torch.as_tensor(placed[IMAGE])[None].to(device) if sees else None
        nothing, names = np.empty(0), OF_MASK if failure and self.mask_alone else STATISTICS
        reading = Reading(frozenset(names), tuple(range(self.scorer.schedule.num_levels)))
        read = self.scorer.read(self.network, probabilities, reading, observed, image, self.shapes.get(case))
        return CaseStatistics(*read, nothing, nothing, nothing)

    def _placed(self, maps: Mapping[str, Any]) -> dict[str, Any]:
        """Maps on the grid on which masks are scored."""
        placed = FitToGridd(self.references.spatial_size, grow=True, keys=list(maps))(dict(maps))
        return {str(key): value for key, value in placed.items()}

    def _run(
        self, step: Callable[[int], None], count: int, use: str, limit: TimeLimit, enough: Callable[[], bool]
    ) -> None:
        """Does a step for each number; ends once the limit is over and it is enough."""

        def scoring(engine: Engine, number: int) -> None:
            step(number)
            if limit.over and enough():
                engine.terminate_epoch()

        engine = Engine(scoring)
        engine.logger.setLevel(logging.WARNING)
        TerminalProgress(f"scoring held-out references ({use})", LOG_SECONDS, limit).attach(engine)
        engine.run(range(count))


class _ScoredUse:
    """The references of one use that were scored so far, and failures of them."""

    def __init__(self, scorer: HeldOutScorer, use: str, limit: TimeLimit, others: int) -> None:
        self.scorer, self.made, self.limit = scorer, scorer.failures, limit
        self.cases = in_order(scorer.references.used_for(use), limit, self.made.seed)
        self.maps = scorer.references.maps_of(self.cases)
        self.plan = replace(self.made.plans[use], others=others)
        self.part = MOST / max(MOST, len(self.cases) * self.made.most(self.plan))
        self.references: list[CaseStatistics] = []
        self.failures: list[ScoredFailure] = []
        self.others: list[ScoredFailure] = []
        self.empty: list[bool] = []
        self.shortened = False
        self._seconds = 0.0

    def add(self, number: int) -> None:
        """Scores a reference, and as many of its failures as its share of the time allows."""
        maps, case = self.maps[number], self.cases[number]
        share, start = self.limit.share(1 / (len(self.cases) - number)), self.limit.clock()
        some_empty = not self.scorer.references.never_empty
        self.references.append(self.scorer.score(maps, case["case"]))
        self.empty.append(some_empty and not bool((maps[LABEL] > 0).any()))
        in_time = self._in_time(share, self._seconds + self.limit.clock() - start)
        self.shortened = self.shortened or in_time < 1
        # Maps of other references come on top of the rest, where there is time for all of it.
        plan = self.plan if in_time == 1 else replace(self.plan, others=0)
        for failure in self.made.of(case, maps, number, plan, min(in_time, self.part)) if in_time else ():
            statistics = self.scorer.score(failure.case, case["case"], failure=True)
            without_maps = replace(failure, case={})
            scored = ScoredFailure(without_maps, statistics, number, some_empty and failure.empty)
            (self.others if failure.maker == OTHER else self.failures).append(scored)
            if failure.kind == "empty" and not some_empty:  # one is enough: all of them look alike
                self.plan = replace(self.plan, empty=False)
        self._seconds += self.limit.clock() - start

    @property
    def enough(self) -> bool:
        """Whether something can be fitted to what was scored."""
        return min(len(self.references), len(self.failures)) >= LEAST

    def _in_time(self, share: TimeLimit, seconds: float) -> float:
        """Of the planned failures of a reference, the part that there is time for."""
        if not share.limited:
            return 1
        each = max(seconds / (len(self.references) + len(self.failures) + len(self.others)), 1e-9)
        if share.left < each and len(self.failures) >= LEAST:
            return 0  # references come first: they give p-values
        least = math.ceil(LEAST / len(self.cases))
        return min(1, max(share.left / each - self.plan.others, least) / self.made.most(self.plan))


def in_order(cases: Sequence[Case], limit: TimeLimit, seed: int) -> list[Case]:
    """Cases in the order in which they are scored: at random where not all may be, in their own otherwise."""
    if not limit.limited:
        return list(cases)
    return [cases[number] for number in np.random.default_rng(seed).permutation(len(cases))]
