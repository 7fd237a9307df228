"""Why a mask looks odd, in words: what its files tell, where it differs from what is expected, and in what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gnsm_monai.data.alignment import place_of
from gnsm_monai.data.constants import CONTACT_AREAS, CONTACTS, CROPPED, IMAGE, LABEL
from gnsm_monai.explain.reasons import NO_REASON, explain
from gnsm_monai.explain.sentences import contact_sentence, cropped_sentence, empty_sentence, joined, unusual_sentence
from gnsm_monai.explain.spacing import field_of_view_sentence, spacing_sentence
from gnsm_monai.model.trained import TrainedModel
from gnsm_monai.rules.levels import CaseStatistics
from gnsm_monai.rules.statistics import statistic_named
from gnsm_monai.scoring.decision import Decision
from gnsm_monai.scoring.reference_images import case_smoothness
from gnsm_monai.scoring.result import AnomalyMap

__all__ = ["geometry_reason", "reason_of"]

FAR = 3.0
"""Spreads of the references' own from which on the contacts of a structure are a reason."""


def reason_of(
    case: Mapping[str, Any], statistics: CaseStatistics, maps: AnomalyMap, model: TrainedModel, decision: Decision
) -> str:
    """All reasons of a mask of which everything was measured.

    A mask that is flagged and differs in no place in particular is told by the statistic that stands out most of those
    that it is ranked and flagged by, if one does.
    """
    reason = ""
    if model.settings["parametrisation"] == "posterior":
        reason = _difference(case, statistics, maps, model)
    reason = joined(_contact(case, model), reason)
    if model.images is not None and IMAGE in case:
        reason = joined(model.images.finding(case_smoothness(case)), reason)
    if decision.flagged and reason in ("", NO_REASON):
        unusual = model.usual.most_unusual(statistics.levels, model.anomaly.reading.statistics)
        reason = unusual_sentence(statistic_named(unusual[0]).words, unusual[1]) if unusual else reason
    return joined(geometry_reason(case, model), reason)


def geometry_reason(case: Mapping[str, Any], model: TrainedModel) -> str:
    """What the files of a case tell of its mask: slices that are missing, a spacing that no reference has."""
    usual, place = model.fields_of_view, place_of(case[LABEL])
    spacing = place.spacing.tolist()
    if usual.spacings is None:
        odd = field_of_view_sentence(spacing, place.file_length.tolist(), usual.lengths)
    else:
        odd = spacing_sentence(spacing, usual.spacings)
    return joined(cropped_sentence(case.get(CROPPED)), odd)


def _contact(case: Mapping[str, Any], model: TrainedModel) -> str:
    """What the structure of the most unusual contacts touches; empty where they are not far from the usual."""
    if model.contacts is None or CONTACTS not in case:
        return ""
    present = case["volume_ml"] > 0
    deviations = np.where(present, case[CONTACTS], -np.inf)  # what is missing is told in other words
    worst = int(deviations.argmax())
    if not deviations[worst] >= FAR:
        return ""
    names, members = model.scheme.structure_names, model.scheme.structure_classes
    unusual = model.contacts.most_unusual(case[CONTACT_AREAS], members[worst])
    names_of = {index: name for name, classes in zip(names, members, strict=True) for index in classes}
    areas = unusual.area, unusual.usual, unusual.most
    other = names_of.get(unusual.partner, "background")
    return contact_sentence(names[worst], other, areas, model.settings["spatial_dims"])


def _difference(case: Mapping[str, Any], statistics: CaseStatistics, maps: AnomalyMap, model: TrainedModel) -> str:
    """Where the mask differs from its denoised version."""
    mask = case[LABEL].as_tensor()[0].numpy()
    if not (mask > 0).any() and len(model.anomaly.empty_scores):
        sees_image = bool(np.isfinite(statistics.levels["doubt"]).all())
        return empty_sentence(sees_image, bool((statistics.denoised > 0).any()))
    voxel_size = np.linalg.norm(maps.affine[:-1, :-1], axis=0).tolist()
    structures = tuple(model.structures.items())
    names = model.scheme.structure_names
    needed = {name for name, always in zip(names, model.settings["always_present"], strict=True) if always}
    return explain(mask, statistics.denoised, structures, voxel_size, usual=model.volumes, needed=needed)
