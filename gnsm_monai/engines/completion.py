"""The second look at a mask that was only ranked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ignite.engine import Engine

from gnsm_monai.engines.score_step import ScoreStep
from gnsm_monai.scoring.result import Result

__all__ = ["Completion"]


class Completion:
    """Measures everything of a case, by its id, read from its files anew.

    Args:
        step: how cases are scored; what it reads alone does not count here.
        preprocessing: a case's files to maps on the grid.
        cases: files of each case.
    """

    def __init__(
        self, step: ScoreStep, preprocessing: Callable[[Any], Any], cases: Sequence[Mapping[str, Any]]
    ) -> None:
        self.step = copy.copy(step)
        self.step.reading = None
        self.preprocessing = preprocessing
        self.files = {case["case"]: case for case in cases}

    def __call__(self, engine: Engine, case: str) -> Result:
        return self.step(engine, self.preprocessing(self.files[case]))
