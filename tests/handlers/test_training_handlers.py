from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import Compose, RandGaussianNoised
from torch import nn

from gnsm_monai.handlers import EpochSeed, GradientClip, LevelLoss, StopOnNan, TrainingCheckpoint, WarmUpEMA
from gnsm_monai.handlers.checkpoint import kept_losses
from gnsm_monai.losses import ScoreMatchingLoss
from gnsm_monai.noise import mixing_schedule
from gnsm_monai.time_limit import TimeLimit
from tests.builders import Clock

SCHEDULE = mixing_schedule(num_levels=3)


def sample(level: list[int], seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    shape = (len(level), 2, 3, 3)
    target = {
        "x": torch.randn(shape).log_softmax(1),
        "probabilities": torch.randn(shape).softmax(1),
        "level": torch.tensor(level),
        "mask": torch.ones(len(level), 1, 3, 3),
    }
    return torch.randn(shape), target


def test_level_loss_is_the_mean_over_the_samples_of_each_level() -> None:
    loss = ScoreMatchingLoss("posterior", SCHEDULE)
    metric = LevelLoss(loss, 3, output_transform=lambda output: output)
    batches = [sample([0, 2, 0]), sample([2, 2, 0], seed=1)]
    for batch in batches:
        metric.update(batch)
    values = torch.cat([loss(*batch) for batch in batches]).double()
    levels = torch.cat([target["level"] for _, target in batches])
    found = metric.compute()
    torch.testing.assert_close(found[0], values[levels == 0].mean())
    torch.testing.assert_close(found[2], values[levels == 2].mean())
    assert found[1].isnan()


def trainer(network: nn.Module, handlers: list[Any], epochs: int = 2, data: list[float] | None = None) -> Any:
    loader = [{"image": torch.tensor([[v]]), "label": torch.zeros(1, 1)} for v in (data or [1.0, 2.0, 3.0])]
    return SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=lambda prediction, label: ((prediction - label) ** 2).mean(),
        train_handlers=handlers,
        decollate=False,
    )


def test_the_average_forgets_the_initial_weights_within_a_few_steps() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 100.0)
    ema = WarmUpEMA(network, momentum=0.005)
    seen: list[float] = []
    engine = Engine(lambda engine, batch: network.weight.data.fill_(1.0))
    ema.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(engine.state.ema_momentum))
    engine.run([0] * 30)
    assert seen[0] == 9 / 11 and seen == sorted(seen, reverse=True) and seen[-1] == 9 / 40
    assert ema.ema_model.weight.item() == pytest.approx(1.0, abs=1e-3)
    engine = Engine(lambda engine, batch: None)
    ema.attach(engine, warn_if_exists=False)
    engine.run([0] * 2000)
    assert engine.state.ema_momentum == 0.005


def test_gradients_are_clipped_and_their_norm_kept() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 5.0)
    engine = trainer(network, [GradientClip(max_norm=0.5)], epochs=1, data=[2.0])
    engine.run()
    assert engine.state.gradient_norm == pytest.approx(2 * 5 * 2 * 2)  # d/dw (w x)^2 = 2 w x^2
    assert network.weight.item() == pytest.approx(5 - 0.1 * 0.5, rel=1e-4)


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    engine = trainer(nn.Linear(1, 1), [StopOnNan()], epochs=5, data=[1.0, float("nan"), 1.0])
    engine.run()
    assert (engine.state.epoch, engine.state.iteration) == (1, 2)


def draws(seed: int, rank: int = 0, skip: int = 0) -> list[float]:
    """What an engine with EpochSeed draws in each of three epochs: torch's numbers and a random transform's."""
    dataset = Dataset([{"image": torch.zeros(1, 2)}], Compose([RandGaussianNoised("image", prob=1.0)]))
    found: list[float] = []

    def step(engine: Engine, batch: Any) -> None:
        found.append(torch.rand(1).item() + float(dataset[0]["image"].sum()))

    engine = Engine(step)
    engine.data_loader = [0]  # type: ignore[attr-defined]
    EpochSeed(seed, dataset, rank).attach(engine)
    torch.rand(skip)
    engine.run([0], max_epochs=3)
    return found


def test_the_draws_of_an_epoch_follow_from_seed_epoch_and_rank_alone() -> None:
    expected = draws(0)
    assert draws(0, skip=17) == expected
    assert len({*expected, *draws(1), *draws(0, rank=1)}) == 9


def test_a_checkpoint_keeps_the_seed_of_its_run() -> None:
    seed = EpochSeed(5)
    seed.load_state_dict(EpochSeed(11).state_dict())
    assert seed.seed == 11


class FakeEvaluator:
    """Validation values of one epoch after another."""

    def __init__(self, values: list[float]) -> None:
        self.values, self.state = values, self
        self.epoch = 0

    @property
    def metrics(self) -> dict[str, float | torch.Tensor]:
        value = self.values[self.epoch - 1]
        return {"val_loss": value, "val_loss_per_level": torch.tensor([value, 2 * value])}


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "best", "epochs"),
    [
        ([3.0, 1.0, 2.0, 2.5, 2.0], 1.0, 4),
        ([3.0, 2.0, 1.0], 1.0, 3),
        ([1.0, NAN, 2.0, 0.5], 1.0, 3),  # no number is no better one
        ([1.0, 2.0, NAN, 0.5], 1.0, 3),
        ([NAN, 2.0, 3.0, 3.0, 1.0], 2.0, 4),
    ],
)
def test_the_best_weights_are_kept_and_training_ends_when_nothing_gets_better(
    tmp_path: Path, values: list[float], best: float, epochs: int
) -> None:
    network, evaluator = nn.Linear(1, 1, bias=False), FakeEvaluator(values)
    checkpoint = TrainingCheckpoint(tmp_path, {"ema": network}, evaluator, patience=2)  # type: ignore[arg-type]
    engine = trainer(network, [checkpoint], epochs=len(values))
    at_epoch = {}

    @engine.on(Events.EPOCH_STARTED)  # type: ignore[untyped-decorator]
    def count(engine: Engine) -> None:
        evaluator.epoch = engine.state.epoch

    @engine.on(Events.EPOCH_COMPLETED)  # type: ignore[untyped-decorator]
    def keep(engine: Engine) -> None:
        at_epoch[engine.state.epoch] = network.weight.item()

    engine.run()
    assert engine.state.epoch == epochs
    assert checkpoint.best == best
    assert kept_losses(evaluator).tolist() == [best, 2 * best]  # type: ignore
    weights = torch.load(tmp_path / "model.pt", weights_only=True)["model"]["weight"].item()
    assert weights == at_epoch[values.index(best) + 1]
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["best"] == {"best": best}
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "checkpoint.pt"}  # no temporary file stays


def test_a_run_that_ended_early_is_not_trained_on_when_continued(tmp_path: Path) -> None:
    values = [1.0, 2.0, 2.0, 2.0, 2.0]
    for expected in (3, 3):
        network, evaluator = nn.Linear(1, 1, bias=False), FakeEvaluator(values)
        checkpoint = TrainingCheckpoint(
            tmp_path,
            {"ema": network},
            evaluator,  # type: ignore[arg-type]
            patience=2,
            resume=True,
        )
        engine = trainer(network, [checkpoint], epochs=5)
        engine.add_event_handler(Events.EPOCH_STARTED, lambda e, f=evaluator: setattr(f, "epoch", e.state.epoch))
        engine.run()
        assert engine.state.epoch == expected


def test_a_full_disk_is_named_by_the_checkpoint_that_it_has_no_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "no room")

    network = nn.Linear(1, 1, bias=False)
    checkpoint = TrainingCheckpoint(tmp_path, {"ema": network}, FakeEvaluator([1.0]))  # type: ignore[arg-type]
    engine = trainer(network, [checkpoint], epochs=1)
    engine.add_event_handler(Events.EPOCH_STARTED, lambda e: setattr(checkpoint.evaluator, "epoch", e.state.epoch))
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no room") as caught:
        engine.run()
    assert caught.value.filename == str(tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


class TimedEvaluator(Engine):
    """Takes 5 s for each of three cases; every validation is better than the one before."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(lambda engine, case: clock.wait(5))
        self.cases: list[int] = []
        self.add_event_handler(Events.EPOCH_COMPLETED, self.measured)

    def measured(self, engine: Engine) -> None:
        self.cases.append(engine.state.iteration)
        value = 1 / len(self.cases)
        engine.state.metrics |= {"val_loss": value, "val_loss_per_level": torch.tensor([value])}

    def attach(self, engine: Engine) -> None:
        """Runs after each epoch of an engine."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda trainer: self.run(trainer.state.epoch))

    def run(self, global_epoch: int = 1) -> Any:  # type: ignore[override]
        return super().run(range(3))


@pytest.mark.parametrize(
    ("seconds", "steps", "cases", "kept"),
    [
        (0, 1, [1], 1),  # one step and one case, whatever the limit
        (25, 3, [1], 1),  # mid-epoch: of a validation that nobody has timed, one case
        (65, 4, [3], 1),  # 40 s of an epoch, 15 s of its validation: no time for another one
        (80, 5, [3, 3], 2),  # time for one in the middle of the next epoch
        (1000, 8, [3, 3], 2),
    ],
)
def test_training_ends_with_the_step_that_leaves_time_for_a_validation(
    tmp_path: Path, seconds: float, steps: int, cases: list[int], kept: int
) -> None:
    """Two epochs of four steps of 10 s, and a validation after each."""
    clock, network = Clock(), nn.Linear(1, 1, bias=False)
    evaluator = TimedEvaluator(clock)
    limit = TimeLimit(seconds / 60, parts={"training": 1}, clock=clock)
    checkpoint = TrainingCheckpoint(tmp_path, {"ema": network}, evaluator, limit=limit)  # type: ignore[arg-type]
    engine = trainer(network, [evaluator, checkpoint], data=[1.0] * 4)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda _: clock.wait(10))
    engine.run()
    assert (engine.state.iteration, evaluator.cases) == (steps, cases)
    assert checkpoint.best == 1 / kept and (tmp_path / "model.pt").is_file()
    whole_epochs = steps // 4
    assert (tmp_path / "checkpoint.pt").is_file() == bool(whole_epochs)
    if whole_epochs:
        saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        assert saved["trainer"]["iteration"] == 4 * whole_epochs


def test_a_validation_that_was_cut_short_replaces_no_weights(tmp_path: Path) -> None:
    """The second validation has fewer cases than the first; its mean is lower by that alone."""
    clock, network = Clock(), nn.Linear(1, 1, bias=False)
    evaluator = TimedEvaluator(clock)
    limit = TimeLimit(95 / 60, parts={"training": 1}, clock=clock)
    checkpoint = TrainingCheckpoint(tmp_path, {"ema": network}, evaluator, limit=limit)  # type: ignore[arg-type]
    engine = trainer(network, [evaluator, checkpoint], data=[1.0] * 4)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: clock.wait(10 if e.state.epoch == 1 else 30))
    engine.run()
    assert evaluator.cases == [3, 2]
    assert checkpoint.best == 1
    assert kept_losses(evaluator).tolist() == [1]  # type: ignore
