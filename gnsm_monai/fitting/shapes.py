"""Learns the shapes of the references. Each held-out reference is judged by models that have not seen it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from torch import Tensor

from gnsm_monai.data.augmentation import augmentation
from gnsm_monai.data.constants import LABEL
from gnsm_monai.data.datalist import Case
from gnsm_monai.data.patients import numbered
from gnsm_monai.data.references import References
from gnsm_monai.data.transforms import FitToGridd, encode_labels
from gnsm_monai.engines import NoisyLabelPrepareBatch
from gnsm_monai.handlers import EndInTime, GradientClip, TerminalProgress, WarmUpEMA
from gnsm_monai.handlers.trainer import LOG_SECONDS
from gnsm_monai.losses import ScoreMatchingLoss
from gnsm_monai.networks.bottleneck import BottleneckNetwork
from gnsm_monai.noise import NoiseSchedule
from gnsm_monai.scoring.forms import ReferenceForms
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.shape import MAX_CASES, ShapeModel, coarse_maps
from gnsm_monai.scoring.shape_network import MAX_VALUES, ShapeNetwork, cells_of, labels_in_cells
from gnsm_monai.scoring.sizes import ReferenceSizes
from gnsm_monai.time_limit import NO_LIMIT, TimeLimit

__all__ = ["ShapeLearner"]

FOLDS = 5
"""Folds of the held-out references: each fold is judged by a linear model that has seen the others."""

HALVES = 2
"""Folds for the network. They are fewer, because it takes longer to learn."""

LEVELS = 2
"""The weakest levels of the noise, at which the network is trained: stronger ones teach it the average."""

RATE, BATCH = 3e-3, 4
LATER = 3 / 8
"""Steps of further training that includes held-out references, as a share of the steps on training references."""

TRIAL, MIN_STEPS = 3, 100
"""Steps by which the time of one is measured, and fewest steps that the network learns in: with fewer it has learnt
little more than the average, and the linear model alone is better."""

logger = logging.getLogger(__name__)


class ShapeLearner:
    """Learns a linear model and a network with a bottleneck, by MONAI's trainer, from reference label maps.

    Two fifths of the references are held out, and a model of shapes should learn from them too. So each fold of them is
    judged by models of all others (cross-conformal prediction, Vovk 2015), and predictions by models of all references.
    With more than :data:`MAX_CASES` references, the models learn from training references alone.

    Args:
        references: the reference cases.
        strides: steps of the score network to coarser grids; large maps are learnt on one of these.
        schedule: its noise.
        steps: of training the network on the training references, 0 for none.
        seed: of weights, augmentation and noise.
        device: where the network is trained.
        max_values: most values of a map, classes times cells, that the network is shown.
    """

    def __init__(
        self,
        references: References,
        strides: Sequence[Sequence[int]],
        schedule: NoiseSchedule,
        steps: int,
        seed: int = 0,
        device: str | torch.device = "cpu",
        max_values: int = MAX_VALUES,
    ) -> None:
        self.references, self.strides, self.steps = references, strides, steps
        self.seed, self.device = seed, torch.device(device)
        weakest = slice(min(LEVELS, schedule.num_levels))
        self.schedule = NoiseSchedule(schedule.betas[weakest], schedule.temperatures[weakest], schedule.floor)
        num_classes, size = references.scheme.num_classes, references.spatial_size
        self.cell, self.grids = cells_of(num_classes, size, strides, max_values)

    def __call__(self, limit: TimeLimit = NO_LIMIT) -> tuple[ReferenceShapes, dict[str, ReferenceShapes]]:
        """The shapes of all references, and for each held-out one those by which it is judged.

        Where the limit allows fewer steps, all networks learn in fewer; below :data:`MIN_STEPS` there is none.
        """
        train = self.references.used_for("train")[:MAX_CASES]
        held_out = [case for case in self.references.cases if case["use"] != "train"]
        if len(train) + len(held_out) > MAX_CASES:
            labels = self._labels(train)
            values, stride = self._coarse(labels)
            steps = self._steps_in(limit, labels, 1)
            network = self._train(labels, steps, limit=limit) if steps else None
            sizes, forms = ReferenceSizes.fit(self._voxels(labels)), self._forms(labels)
            whole = ReferenceShapes(ShapeModel.fit(values, stride), network, sizes, forms)
            return whole, {case["case"]: whole for case in held_out}
        patient = numbered([case["patient"] for case in held_out])
        whole, judges = self._cross_conformal(self._labels(train + held_out), patient, limit)
        return whole, {case["case"]: judge for case, judge in zip(held_out, judges, strict=True)}

    def _cross_conformal(
        self, labels: Sequence[Tensor], patient: np.ndarray, limit: TimeLimit
    ) -> tuple[ReferenceShapes, list[ReferenceShapes]]:
        """From all references, and for each held-out one, which come last, from those outside its patient's fold."""
        values, stride = self._coarse(labels)
        voxels = self._voxels(labels)
        num_train = len(labels) - len(patient)
        # Of the patient of a held-out reference; those of training are in every fold.
        number = torch.cat([torch.full((num_train,), -1), torch.as_tensor(patient)])
        others = [(number < 0) | (number % FOLDS != fold) for fold in range(FOLDS)]
        linear = [ShapeModel.fit(values[rest], stride) for rest in others]
        sizes = [ReferenceSizes.fit(voxels[rest.numpy()]) for rest in others]
        forms = [self._forms([x for x, seen in zip(labels, rest, strict=True) if seen]) for rest in others]
        whole_length = 1 + (HALVES + 1) * LATER
        steps = self._steps_in(limit, labels[:num_train], whole_length)
        network = self._train(labels[:num_train], steps, limit=limit.share(1 / whole_length)) if steps else None
        later = max(1, round(steps * LATER))
        halves = [[x for x, n in zip(labels, number, strict=True) if n < 0 or n % HALVES != h] for h in range(HALVES)]
        networks = [
            self._train(maps, later, network, limit.share(1 / (HALVES + 1 - half)))
            for half, maps in enumerate(halves)
            if network is not None
        ]
        last = self._train(labels, later, network, limit) if network else None
        whole = ReferenceShapes(ShapeModel.fit(values, stride), last, ReferenceSizes.fit(voxels), self._forms(labels))
        return whole, [
            ReferenceShapes(
                linear[n % FOLDS], networks[n % HALVES] if networks else None, sizes[n % FOLDS], forms[n % FOLDS]
            )
            for n in patient
        ]

    def _labels(self, cases: Sequence[Case]) -> list[Tensor]:
        """Class indices ``(1, *spatial_size)`` on the model's grid."""
        place = FitToGridd(self.references.spatial_size)
        # Copies: a view of a crop would keep the whole field of view in memory.
        return [place({LABEL: self.references.stored.label(case)})[LABEL].clone() for case in cases]

    def _encode(self, label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Shares of the classes in cells and which are observed, of class indices ``(B, 1, *spatial_size)``."""
        return labels_in_cells(label, num_classes, self.cell)

    def _coarse(self, labels: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
        return coarse_maps(
            (encode_labels(label[None], self.references.scheme.num_classes)[0][0] for label in labels), self.strides
        )

    def _voxels(self, labels: Sequence[Tensor]) -> np.ndarray:
        """Voxels of each structure, ``(N, S)``; what lies outside the field of view belongs to none."""
        members = self.references.scheme.structure_classes
        return np.array([[sum(int((x == index).sum()) for index in classes) for classes in members] for x in labels])

    def _forms(self, labels: Sequence[Tensor]) -> ReferenceForms | None:
        members = self.references.scheme.structure_classes
        masks = [np.stack([np.isin(x[0].numpy(), list(classes)) for classes in members]) for x in labels]
        return ReferenceForms.fit(masks, self.references.voxel_size)

    def _steps_in(self, limit: TimeLimit, labels: Sequence[Tensor], trainings: float) -> int:
        """Steps of the first training where all together are as long as that many of it; 0 for no network."""
        if not self.steps or not limit.limited:
            return self.steps
        start = limit.clock()
        if not limit.over:
            self._train(labels, TRIAL, say=False)
        seconds = (limit.clock() - start) / TRIAL * trainings
        steps = min(self.steps, int(limit.left / max(seconds, 1e-9)))
        if limit.over or steps < MIN_STEPS:
            logger.warning("shapes: too little time for the network, the linear model alone is fitted")
            return 0
        return steps

    def _train(
        self,
        labels: Sequence[Tensor],
        steps: int,
        start: ShapeNetwork | None = None,
        limit: TimeLimit = NO_LIMIT,
        say: bool = True,
    ) -> ShapeNetwork:
        """A network that has learnt from class indices ``(1, *spatial_size)``; it begins anew or as ``start``.

        Random numbers are drawn from the seed. Those of the caller are left as they were, except on a GPU.
        """
        num_classes = self.references.scheme.num_classes
        if say:
            logger.info("learning the shapes of %d references in %d steps", len(labels), steps)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            cells = [-(-n // s) for n, s in zip(self.references.spatial_size, self.cell, strict=True)]
            network = BottleneckNetwork(self.schedule, num_classes, cells, self.grids)
            if start is not None:
                network = copy.deepcopy(start.network)
            network.set_prior(self._frequencies(labels))
            network = network.to(self.device).train().requires_grad_()
            average = WarmUpEMA(network, momentum=0.01)
            trainer = self._trainer(network, labels, steps)
            average.attach(trainer)
            in_time = EndInTime(limit).attach(trainer)
            TerminalProgress("learning shapes", LOG_SECONDS if say else None, limit).attach(trainer)
            trainer.logger.setLevel(logging.WARNING)
            trainer.run()
        if in_time.cut:
            logger.warning("shapes: time is over after %d of %d steps", trainer.state.iteration, steps)
        ema: Any = average.ema_model
        for value in ema.state_dict().values():  # as a model's file keeps them
            value.copy_(value.half())
        return ShapeNetwork(ema.cpu().eval(), self.cell)

    def _trainer(self, network: BottleneckNetwork, labels: Sequence[Tensor], steps: int) -> SupervisedTrainer:
        augment = augmentation(len(self.cell), self.references.flip_axes)
        augment.set_random_state(self.seed)
        # Fused, in one pass over the weights: the network has many for its few operations.
        optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0, fused=True)
        schedule: Any = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
        return SupervisedTrainer(
            device=self.device,
            max_epochs=1,
            epoch_length=steps,
            train_data_loader=DataLoader(
                Dataset([{LABEL: label} for label in labels], augment),
                batch_size=min(len(labels), BATCH),
                shuffle=True,
                drop_last=True,
                generator=torch.Generator().manual_seed(self.seed),
            ),
            network=network,
            optimizer=optimizer,
            loss_function=ScoreMatchingLoss("posterior", self.schedule),
            prepare_batch=NoisyLabelPrepareBatch(
                self.schedule, self.references.scheme.num_classes, encode=self._encode
            ),
            train_handlers=[GradientClip(1.0), LrScheduleHandler(schedule, print_lr=False, epoch_level=False)],
            decollate=False,
        )

    def _frequencies(self, labels: Sequence[Tensor]) -> Tensor:
        """How often each cell has each class, ``(K, *cells)``."""
        total = sum(self._encode(label[None], self.references.scheme.num_classes)[0][0] for label in labels)
        assert isinstance(total, Tensor)
        return total / len(labels)
