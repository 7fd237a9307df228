from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from gnsm_monai.data.degradations import KINDS
from gnsm_monai.data.phantoms import LABELS, SPACINGS, make_phantom
from gnsm_monai.handlers import FailureRoc
from gnsm_monai.noise import mixing_schedule

REFERENCES = 3


class Oracle:
    """Stands for a scorer that knows the references: its disagreement is the share of voxels that differ."""

    schedule, parametrisation = mixing_schedule(num_levels=4), "posterior"

    def __init__(self, references: list[torch.Tensor], sign: float) -> None:
        self.references, self.sign, self.asked = references, sign, []

    def __call__(self, network: Any, probabilities: torch.Tensor, *_: Any, only_levels: list[int]) -> Any:
        self.asked.append(list(only_levels))
        label = probabilities[0].argmax(0)
        wrong = min(float((label != known[0]).float().mean()) for known in self.references)
        return SimpleNamespace(levels={"disagreement": np.full(len(only_levels), self.sign * wrong)})


@pytest.fixture
def references() -> list[torch.Tensor]:
    made = [make_phantom(np.random.default_rng(i), 2)[0] for i in range(REFERENCES)]
    return [torch.from_numpy(label.astype(np.int64))[None] for label in made]


def _run(tmp_path: Path, references: list[torch.Tensor], sign: float) -> tuple[EventAccumulator, Oracle]:
    scorer, writer = Oracle(references, sign), SummaryWriter(str(tmp_path))
    evaluator: Any = SimpleNamespace(network=torch.nn.Linear(1, 1), state=SimpleNamespace(device="cpu"))
    data: Any = [{"label": MetaTensor(label)} for label in references]
    roc = FailureRoc(writer, evaluator, data, scorer, len(LABELS), SPACINGS[2])  # type: ignore[arg-type]
    for epoch in (1, 2):
        roc(SimpleNamespace(state=SimpleNamespace(epoch=epoch)))  # type: ignore[arg-type]
    writer.close()
    assert evaluator.network.training  # as it was found
    return EventAccumulator(str(tmp_path)).Reload(), scorer


@pytest.mark.parametrize(("sign", "area"), [(1.0, 1.0), (-1.0, 0.0)])
def test_a_score_that_knows_the_truth_separates_every_kind(
    tmp_path: Path, references: list[torch.Tensor], sign: float, area: float
) -> None:
    events, scorer = _run(tmp_path, references, sign)
    for kind in ("all_failures", *KINDS):
        assert [e.value for e in events.Scalars(f"validation_auroc_per_failure/{kind}")] == [area, area], kind
    for severity in ("0.1", "0.3", "0.6"):
        assert events.Scalars(f"validation_auroc_per_severity/severity_{severity}")[0].value == area
    assert [picture.step for picture in events.Images("validation_pictures/roc_of_failures")] == [1, 2]
    assert "validation/failures_among_references" in events.Tags()["tensors"]
    # Two levels, of two validations of the same cases: three references, and a failure per kind and severity.
    assert scorer.asked == [[1, 2]] * 2 * (REFERENCES + 3 * len(KINDS))


def test_references_without_structures_leave_no_curve(tmp_path: Path) -> None:
    events, _ = _run(tmp_path, [torch.zeros(1, 16, 16, dtype=torch.int64)], 1.0)
    assert events.Tags()["scalars"] == []
