"""A mask beside the shapes, sizes and forms of references."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from gnsm_monai.noise import NoiseSchedule
from gnsm_monai.rules.views import MaskView
from gnsm_monai.scoring.forms import FORM_STATISTICS
from gnsm_monai.scoring.reference_shapes import ReferenceShapes
from gnsm_monai.scoring.seen import SeenMask

__all__ = ["beside_references"]


def beside_references(
    mask: SeenMask,
    shapes: ReferenceShapes,
    schedule: NoiseSchedule,
    levels: Tensor,
    names: Collection[str],
    chunk_size: int | None = None,
) -> MaskView:
    """What the statistics of these names are measured of, at ``n`` noise levels ``(n,)``; the view has nothing else.

    Args:
        mask: the mask.
        shapes: those of the references.
        schedule: the noise.
        levels: numbers of the levels.
        names: of statistics that are of the mask alone.
        chunk_size: levels at a time, which bounds the memory; all by default.
    """
    opinions, deviations = list[Tensor](), None
    if "shape" in names:

        def differs(expected: Tensor) -> Tensor:
            return mask.disagreements(expected, mask.structures.grouped(expected) * mask.observed)

        opinions = shapes.judge(differs, schedule, mask.probabilities, mask.observed, levels, chunk_size)
    if "size" in names and shapes.sizes is not None:
        axes = tuple(range(2, mask.observed.ndim))
        voxels = (mask.structures.grouped(mask.probabilities) * mask.observed).double().sum(axes)
        counts = mask.needed | mask.present.bool().flatten(2).any(2)
        deviations = torch.where(counts, shapes.sizes.deviation(voxels), torch.nan)
    forms: dict[str, Tensor] = {}
    if shapes.forms is not None and not set(FORM_STATISTICS).isdisjoint(names):
        measured = shapes.forms.measure(mask.present[0].cpu().numpy(), mask.needed.cpu().numpy())
        forms = {
            name: torch.full(levels.shape, value, dtype=torch.float64, device=levels.device)
            for name, value in measured.items()
        }
    return MaskView(len(levels), torch.stack(opinions) if opinions else None, deviations, forms)
