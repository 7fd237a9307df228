"""From label maps to level statistics, and the result of a case."""

from typing import Any

from gnsm_monai.scoring.journal import Journal
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.structures import Structures

__all__ = [
    "Journal",
    "Scorer",
    "Structures",
]


def __getattr__(name: str) -> Any:
    """``ReferenceFit`` by its name in configs of version 0.2; imported late, as it builds on this package."""
    if name == "ReferenceFit":
        from gnsm_monai.fitting import ReferenceFit

        return ReferenceFit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
