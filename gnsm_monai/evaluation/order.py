"""The order of a ranking: worst first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gnsm_monai.scoring.result import FailedCase, Result, scored

__all__ = ["Ranking", "ranked"]


@dataclass(frozen=True)
class Ranking:
    """What a run of scoring found.

    Args:
        results: one per case, in the order of :func:`ranked`.
        summary: content of summary.json; empty on a process that wrote no files.
    """

    results: Sequence[Result]
    summary: Mapping[str, Any]

    @property
    def num_failed(self) -> int:
        """Cases that could not be scored."""
        return sum(isinstance(result, FailedCase) for result in self.results)


def ranked(results: Iterable[Result]) -> list[Result]:
    """Worst first, failed cases last; equal ones in the order of their ids. Empty masks have the highest score."""
    results = list(results)
    worst_first = sorted(scored(results), key=lambda result: (-result.decision.severity, result.case))
    highest = max((result.decision.anomaly for result in worst_first), default=0.0)
    failed = sorted((r for r in results if isinstance(r, FailedCase)), key=lambda result: result.case)
    return [*(replace(r, decision=r.decision.among(highest)) for r in worst_first), *failed]
