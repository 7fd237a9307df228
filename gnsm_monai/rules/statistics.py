"""What is measured of a label map at every noise level: a class per statistic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from gnsm_monai.rules.views import MaskView, NetworkView, PosteriorView

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "STATISTICS", "MaskView", "NetworkView", "PosteriorView", "Statistic", "mean_over_structures", "statistic_named",
]  # fmt: skip


class Statistic(ABC):
    """One number per noise level.

    It must not grow with the field of view (``score_norm`` does, and is kept as published). A subclass says what it
    means and gives:

    - ``name``: in files and rules.
    - ``words``: what a reason calls it.
    - ``higher_is_worse``: False where the number tells how much the others say.
    - ``needs_posterior``: whether it takes a network that has a posterior; NaN for the ``direct`` parametrisation.
    - ``needs_images``: whether it takes a network that sees images; NaN for one that sees none.
    - ``of_mask``: whether it is measured of a :class:`MaskView`, and not of what the network says.
    """

    name: ClassVar[str]
    words: ClassVar[str]
    higher_is_worse: ClassVar[bool] = True
    needs_posterior: ClassVar[bool] = True
    needs_images: ClassVar[bool] = False
    of_mask: ClassVar[bool] = False

    @abstractmethod
    def measure(self, view: Any) -> Tensor | None:
        """Values ``(n,)`` at the levels of a view, a :class:`PosteriorView` unless said otherwise; None for NaN."""


class ScoreNorm(Statistic):
    """``sqrt(sum_v || s_v ||^2)``, the norm of the score over all voxels (published feature, MSMA)."""

    name, words = "score_norm", "norm of the score"
    needs_posterior = False

    def measure(self, view: NetworkView) -> Tensor:
        return view.squared_score.flatten(1).sum(1).sqrt()


class Misfit(Statistic):
    """Mean misfit over the band; a level-wise pseudo-likelihood."""

    name, words = "misfit", "misfit"

    def measure(self, view: PosteriorView) -> Tensor:
        return _mean(view.misfit, view.band)


class MisfitInside(Statistic):
    """Mean misfit over the mask's own structures alone.

    At a level that hides every label this is the mask's improbability under the voxelwise prior. An empty mask gets
    the mean over the band, where all of it is missing.
    """

    name, words = "misfit_inside", "misfit within the structures"

    def measure(self, view: PosteriorView) -> Tensor:
        return _mean(view.misfit, view.inside if view.inside.any() else view.band)


class MisfitRest(Statistic):
    """Mean misfit over the voxels outside the band."""

    name, words = "misfit_rest", "misfit far from the structures"

    def measure(self, view: PosteriorView) -> Tensor:
        return _mean(view.misfit, view.observed - view.band)


class Disagreement(Statistic):
    """Mean over structures of ``1 - soft Dice`` between mask and posterior: about the Dice loss to be expected."""

    name, words = "disagreement", "disagreement with what is expected"

    def measure(self, view: PosteriorView) -> Tensor:
        return mean_over_structures(view.disagreements)


class Uncertainty(Statistic):
    """Mean entropy over the band, the misfit of a mask drawn from the posterior: it tells how much a misfit says."""

    name, words = "uncertainty", "uncertainty"
    higher_is_worse = False

    def measure(self, view: PosteriorView) -> Tensor:
        return _mean(view.entropy, view.band)


class Peak(Statistic):
    """Misfit at the place of the band where it is highest: what is wrong there alone, which a mean dilutes.

    A place is a Gaussian of :data:`gnsm_monai.explain.planes.PLACE_VOXELS`.
    """

    name, words = "peak", "misfit in one place"

    def measure(self, view: PosteriorView) -> Tensor:
        return view.smooth_misfit.flatten(1).amax(1)


class Shape(Statistic):
    """Mean over structures of ``1 - soft Dice`` between the mask and the shape that models of shapes find in it.

    Mean over a linear model (:class:`gnsm_monai.scoring.shape.ShapeModel`) and a network with a bottleneck
    (:class:`gnsm_monai.networks.bottleneck.BottleneckNetwork`). That network is trained at the two weakest levels
    only; its answer at the second stands for all stronger ones.
    """

    name, words = "shape", "shape"
    of_mask = True

    def measure(self, view: MaskView) -> Tensor | None:
        if view.shape_disagreements is None:
            return None
        return mean_over_structures(view.shape_disagreements).mean(0)


class Size(Statistic):
    """Mean over structures of the distance of the mask's log size from the references', in units of their spread.

    The same at every level (:class:`gnsm_monai.scoring.sizes.ReferenceSizes`).
    """

    name, words = "size", "size"
    of_mask = True

    def measure(self, view: MaskView) -> Tensor | None:
        if view.size_deviations is None:
            return None
        return mean_over_structures(view.size_deviations).expand(view.num_levels)


class Doubt(Statistic):
    """Mean over structures of 1 - the highest soft Dice that any mask could have with the posterior.

    How little a network that sees an image can tell from it and from what the noise leaves of the mask.
    ``disagreement`` is never lower. A structure that may be absent counts the less, the surer that is.
    """

    higher_is_worse = False
    name, words = "doubt", "doubt about the image"
    needs_images = True

    def measure(self, view: PosteriorView) -> Tensor | None:
        return None if view.doubts is None else mean_over_structures(view.doubts)


class OfForm(Statistic):
    """A number of :class:`gnsm_monai.scoring.forms.ReferenceForms`, the same at every level."""

    of_mask = True

    def measure(self, view: MaskView) -> Tensor | None:
        return view.forms.get(self.name)


class Form(OfForm):
    """``1 - soft Dice`` to what the references' principal components make of the mask, where it lies."""

    name, words = "form", "form where it lies"


class FormCentred(OfForm):
    """``1 - soft Dice`` to what the references' principal components make of the mask, in its own frame."""

    name, words = "form_centred", "form"


class Average(OfForm):
    """``1 - soft Dice`` to the mean of the references: the loss to be expected where nothing else is known."""

    name, words = "average", "distance from the average"


class Place(OfForm):
    """Deviation of the structures' centres from the references'."""

    name, words = "place", "place"


class Extent(OfForm):
    """Deviation of the structures' size, proportions and orientation from the references'."""

    name, words = "extent", "proportions and orientation"


class Parts(OfForm):
    """Share of a structure outside of its largest part."""

    name, words = "parts", "separate parts"


# New ones come last: files of version 0.2 do not say what their columns are.
_ALL = (
    ScoreNorm, Misfit, MisfitInside, MisfitRest, Disagreement, Uncertainty, Peak, Shape, Size, Doubt,
    Form, FormCentred, Average, Place, Extent, Parts,
)  # fmt: skip
_BY_NAME: Mapping[str, Statistic] = {kind.name: kind() for kind in _ALL}

STATISTICS = tuple(_BY_NAME)
"""Names of all statistics, in the order of files."""


def statistic_named(name: str) -> Statistic:
    """The statistic of a name in :data:`STATISTICS`. Raises KeyError for another one."""
    return _BY_NAME[name]


def mean_over_structures(values: Tensor) -> Tensor:
    """Mean over the last axis, ``(...)`` of ``(..., S)``, without NaN; 0 where all are: nothing here or expected."""
    return values.nanmean(-1).nan_to_num(0.0)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean over ``where``, ``(n,)`` of ``(n, 1, *spatial)``; 0 over nothing."""
    axes = tuple(range(1, values.ndim))
    return (values * where).sum(axes) / where.sum(axes).clamp_min(1)
