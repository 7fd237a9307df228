"""One seed per epoch, so that a resumed run draws what the uninterrupted one would have drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.transforms import Randomizable
from monai.utils import set_determinism

__all__ = ["EpochSeed"]


class EpochSeed:
    """Seeds every generator at the start of each epoch from ``(seed, epoch, rank)`` and restarts the data loader.

    All random draws of an epoch (order of cases, augmentation, noise levels, noise) then follow from the seed and the
    number of the epoch. That is the whole RNG state of a checkpoint: a run that is resumed after epoch ``n`` continues
    exactly as if it had not been stopped.

    Args:
        seed: of the run.
        dataset: training data, whose random transforms are seeded as well.
        rank: of this process; each one draws its own noise.
    """

    def __init__(self, seed: int, dataset: Dataset | None = None, rank: int = 0) -> None:
        self.seed, self.dataset, self.rank = seed, dataset, rank

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        seed = (self.seed + 1_000_003 * engine.state.epoch + 7_919 * self.rank) % (2**32)
        set_determinism(seed, use_deterministic_algorithms=None)
        transform = getattr(self.dataset, "transform", None)
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed)
        # A fresh pass over the data: the place within the last one is no part of a checkpoint.
        engine.set_data(engine.data_loader)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continues with the seed of the checkpoint."""
        self.seed = int(state_dict["seed"])
