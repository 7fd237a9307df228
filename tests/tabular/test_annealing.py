"""How long a table is trained, and by which rates, against losses that are written down."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from gnsm_monai.tabular.annealing import FALL, WARM_UP, Annealing, steady_epochs

STEPS = 50


@pytest.mark.parametrize(
    ("losses", "steady"),
    [
        ([1.0], None),
        ([1.0, 0.9], None),  # a doubling gained a tenth
        ([1.0, 0.9998], 2),  # a doubling gained a fifth of a thousandth
        ([1.0, 0.9, 0.95], None),  # still lower than after half the steps
        ([1.0, 0.9, 0.85, 0.95], 4),  # higher than after half the steps
        ([1.0, 0.9, 0.85, 0.8, 0.8, 0.8496], 6),
        ([1.0, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6], 8),  # the fall takes the other four epochs of twelve
        ([1.0, math.nan], 2),
        ([-1.0, -1.1], None),  # densities may be above 1
    ],
)
def test_the_rate_is_steady_while_a_doubling_of_the_steps_gains(losses: list[float], steady: int | None) -> None:
    assert steady_epochs(losses, 12) == steady


def run(losses: list[float], max_epochs: int = 12, state: dict[str, Any] | None = None) -> tuple[list[float], Engine]:
    """Rates of all steps of a training whose epochs end with these losses; of a continued one with that state."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    evaluator = SimpleNamespace(state=SimpleNamespace(metrics={"val_loss": math.nan}))
    rates: list[float] = []
    trainer = Engine(lambda engine, batch: rates.append(optimizer.param_groups[0]["lr"]))
    annealing = Annealing(optimizer, evaluator, max_epochs)  # type: ignore[arg-type]
    if state:
        annealing.load_state_dict(state)
        trainer.load_state_dict({"epoch": len(state["losses"]), "max_epochs": max_epochs, "epoch_length": STEPS})

    def validate(engine: Engine) -> None:
        evaluator.state.metrics["val_loss"] = losses[engine.state.epoch - 1]

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    annealing.attach(trainer)
    trainer.run(range(STEPS), max_epochs=max_epochs)
    return rates, trainer


def test_a_training_that_gains_no_more_ends_after_half_as_many_steps_again_of_a_falling_rate() -> None:
    rates, trainer = run([1.0, 0.9, 0.9, 0.9, *[0.8] * 8])
    steady, epochs = 4, 4 + math.ceil(4 * FALL)
    assert trainer.state.epoch == epochs and len(rates) == epochs * STEPS
    assert rates[:WARM_UP] == pytest.approx([0.5 * step / WARM_UP for step in range(1, WARM_UP + 1)])
    assert rates[WARM_UP : steady * STEPS] == [0.5] * (steady * STEPS - WARM_UP)
    fall = rates[steady * STEPS - 1 :]
    assert all(later < earlier for earlier, later in itertools.pairwise(fall))
    assert rates[(steady + 1) * STEPS - 1] == pytest.approx(0.25, rel=0.05) and 0 < rates[-1] < 0.001


def test_a_training_that_goes_on_gaining_uses_all_its_epochs() -> None:
    rates, _ = run([1 / epoch for epoch in range(1, 13)])
    assert len(rates) == 12 * STEPS and rates[8 * STEPS - 1] == 0.5 and rates[-1] < 0.001


def test_a_single_epoch_is_trained_at_the_full_rate() -> None:
    rates, _ = run([1.0], max_epochs=1)
    assert len(rates) == STEPS and rates[-1] > 0


@pytest.mark.parametrize("stopped", [1, 3, 4, 5, 6])
def test_a_continued_training_has_the_rates_of_one_without_a_stop(stopped: int) -> None:
    losses = [1.0, 0.9, 0.9, 0.9, *[0.8] * 8]
    whole, _ = run(losses)
    continued, _ = run(losses, state={"losses": losses[:stopped]})
    assert continued == whole[stopped * STEPS :]
