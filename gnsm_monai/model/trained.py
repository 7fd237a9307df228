"""A trained model: all that scoring label maps takes from its folder, of one read of each file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from monai.inferers import Inferer

from gnsm_monai.data.alignment import FieldsOfView
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.explain.findings import UsualVolume
from gnsm_monai.model.files import ModelFiles
from gnsm_monai.networks import ScoreUNet
from gnsm_monai.rules.anomaly import AnomalyModel
from gnsm_monai.rules.calibration import Calibration
from gnsm_monai.rules.held_out import Basis, HeldOut
from gnsm_monai.rules.usual import UsualStatistics
from gnsm_monai.scoring.contacts import ReferenceContacts
from gnsm_monai.scoring.reference_images import ReferenceImages
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.scorer import Scorer
from gnsm_monai.scoring.structures import Structures

__all__ = ["TrainedModel"]


@dataclass(frozen=True)
class TrainedModel:
    """What a finished model knows.

    Args:
        folder: the model's folder.
        identity: sha256 of ``settings.json``, which holds that of the weights, and of ``reference_statistics.npz``.
        settings: plain values, as ``settings.json`` has them.
        network: the score network with its weights, in eval mode, on the CPU.
        anomaly: level statistics to the anomaly score (higher = worse).
        calibration: anomaly score to p-value and predicted Dice.
        shapes: shapes and sizes of the references.
        images: smoothness of the references' images; None where the network sees none.
        contacts: of the references' structures; None where there are few, or an image tells more.
        held_out: how well the score did on failures of held-out references.
        usual: what statistics of references are.

    Example::

        model = TrainedModel.load("runs/model")
        statistics = model.scorer()(model.network, one_hot, shapes=model.shapes)
        anomaly = model.anomaly.score(stack_levels([statistics.levels]))
    """

    folder: Path
    identity: list[str]
    settings: Mapping[str, Any]
    network: ScoreUNet
    anomaly: AnomalyModel
    calibration: Calibration
    shapes: ReferenceShapes
    images: ReferenceImages | None
    contacts: ReferenceContacts | None
    held_out: HeldOut
    usual: UsualStatistics

    @classmethod
    def load(cls, model_dir: str | Path) -> TrainedModel:
        """Reads each file of a model's folder once; nothing in it is executed.

        Raises:
            InputError: no such model, a file that is missing, damaged, of another version or of another model.
        """
        files = ModelFiles.read(model_dir)
        model = cls(
            files.folder,
            files.identity,
            files.settings,
            files.load_weights(files.configured(lambda settings: ScoreUNet(**settings["network"]))).eval(),
            files.fitted(AnomalyModel.from_arrays),
            files.fitted(Calibration.from_arrays),
            files.fitted(ReferenceShapes.from_arrays),
            files.fitted(ReferenceImages.from_arrays),
            files.fitted(ReferenceContacts.from_arrays),
            files.fitted(HeldOut.from_arrays),
            files.fitted(UsualStatistics.from_arrays),
        )
        files.configured(lambda _: (model.scheme, model.fields_of_view))  # what cannot be read is refused now
        return model

    @cached_property
    def scheme(self) -> LabelScheme:
        """Classes that the network sees, and the structures made of them."""
        return LabelScheme.from_dict(self.settings["labels"])

    @cached_property
    def fields_of_view(self) -> FieldsOfView:
        """Where the references lie."""
        return FieldsOfView(**self.settings["fields_of_view"])

    @property
    def structures(self) -> dict[str, tuple[int, ...]]:
        """Classes of each foreground structure, by its name."""
        return dict(zip(self.scheme.structure_names, self.scheme.structure_classes, strict=True))

    @property
    def basis(self) -> Basis:
        """What verdicts on whole folders rest on."""
        return Basis(self.calibration, self.held_out)

    @property
    def contact_deviations(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """From contact areas ``(K, K)`` of a mask to how unusual those of each structure are, ``(S,)``, if known."""
        if self.contacts is None:
            return None
        return partial(self.contacts.deviations, structure_classes=self.scheme.structure_classes)

    @property
    def volumes(self) -> dict[str, UsualVolume]:
        """Size of each structure in the references, by its name; empty where the model does not know it."""
        if self.shapes.sizes is None:
            return {}
        voxel = float(np.prod(self.settings["voxel_size"]))
        return dict(zip(self.scheme.structure_names, self.shapes.sizes.volumes(voxel), strict=True))

    def scorer(self, inferer: Inferer | None = None, chunk_size: int | None = None) -> Scorer:
        """What gives the level statistics of a mask by this model; see :class:`gnsm_monai.scoring.Scorer`."""
        settings = self.settings["scoring"]
        return Scorer(
            self.network.schedule,
            self.settings["parametrisation"],
            Structures(self.scheme.structure_classes, self.settings["always_present"], settings["band_voxels"]),
            num_draws=settings["num_draws"],
            seed=settings["seed"],
            inferer=inferer,
            chunk_size=chunk_size,
        )
