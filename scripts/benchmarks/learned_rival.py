"""A rival that learns: one training of a network on reference label maps, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

__all__ = ["LabelMap", "LearnedRival"]

LabelMap = npt.NDArray[np.integer[Any]]


class LearnedRival:
    """Fitted on reference label maps, it scores one mask, higher = worse; class 0 is background.

    A rival says how it lays a map into its grid (`plan`, `place`), what its network is (`build`) and what a batch of
    placed maps costs (`loss`).

    Args:
        seed: of weights, batches and noise; the caller's random numbers stay as they are.
        steps: of training.
        batch_size: maps per step.
        learning_rate: the highest of a cycle over all steps.
    """

    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam

    def __init__(self, seed: int, steps: int, batch_size: int, learning_rate: float) -> None:
        self.seed, self.steps, self.batch_size, self.learning_rate = seed, steps, batch_size, learning_rate
        self.fitted: dict[str, npt.NDArray[Any]] = {}
        """What is fitted beside the network, and kept in its file."""

    def plan(self, labels: Sequence[LabelMap]) -> tuple[int, ...]:
        """Shape of the grid that holds the references (*spatial)."""
        raise NotImplementedError

    def place(self, label: LabelMap) -> npt.NDArray[Any]:
        """A map (*spatial) in the grid, as `loss` takes it; what is ignored is background."""
        raise NotImplementedError

    def build(self) -> nn.Module:
        raise NotImplementedError

    def loss(self, placed: Tensor) -> Tensor:
        """Cost (B,) of a batch of placed maps."""
        raise NotImplementedError

    def train(self, labels: Sequence[LabelMap]) -> None:
        """Trains the network on label maps, (*spatial) each, which may differ in shape."""
        placed = torch.from_numpy(np.stack([self.place(label) for label in labels]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = self.build()
            optimizer = self.optimizer(self.network.parameters(), self.learning_rate)  # type: ignore[call-arg]
            rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=self.steps)
            self.network.train()
            for _ in range(self.steps):
                batch = placed[torch.randint(len(placed), (self.batch_size,))]
                optimizer.zero_grad()
                self.loss(batch).mean().backward()
                # Without normalisation layers a single batch can throw variances beyond what floats hold.
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimizer.step()
                rate.step()
        self.network.eval()

    def fit(self, labels: Sequence[LabelMap], num_classes: int) -> LearnedRival:
        """Trains on label maps, (*spatial) each, which may differ in shape."""
        self.num_classes, self.grid = num_classes, self.plan(labels)
        self.train(labels)
        return self

    def save(self, path: Path) -> None:
        """Writes the weights, and what else is fitted, for `load`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fitted = {name: torch.as_tensor(values) for name, values in self.fitted.items()}
        torch.save({"network": self.network.state_dict(), "fitted": fitted}, path)

    def load(self, path: Path, labels: Sequence[LabelMap], num_classes: int) -> LearnedRival:
        """Restores what `fit` made of the same label maps."""
        self.num_classes, self.grid = num_classes, self.plan(labels)
        kept = torch.load(path, weights_only=True)
        self.network = self.build()
        self.network.load_state_dict(kept["network"])
        self.network.eval()
        self.fitted = {name: values.numpy() for name, values in kept["fitted"].items()}
        return self
