"""What contacts make of held-out references and of failures of them: each is judged by references of other folds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gnsm_monai.data.contacts import contact_areas
from gnsm_monai.data.references import References
from gnsm_monai.scoring.contacts import ReferenceContacts, structure_weights

__all__ = ["HeldOutContacts"]

FOLDS = 5
"""Folds of the held-out references, as many as of their linear shapes."""


class HeldOutContacts:
    """Contacts of the references of a model of label maps.

    A reference is measured at the size of its file, as a mask is. A failure exists on the model's grid alone: it is
    measured there, beside references on that grid. Both are told in the references' own spread.

    Args:
        references: whose files were measured when they were read.

    Attributes:
        whole: of all references, by which masks are judged; None where their contacts tell little, or where the network
            sees images: what contacts would add there was never measured.
    """

    def __init__(self, references: References) -> None:
        self.references = references
        self.whole, self._of_files, self._on_grid = None, *self._folds()
        if self._of_files:
            self.whole = ReferenceContacts.fit(self._areas_of_files())

    def of_reference(self, case: str) -> np.ndarray | None:
        """Weights of the structures of a held-out reference, ``(S,)``, if contacts count."""
        return self._weights(self._of_files, case, self.references.stored.contacts[case])

    def of_failure(self, case: str, label: np.ndarray) -> np.ndarray | None:
        """The same of a failure that was made from it, class indices ``(*spatial)`` at the model's voxel size."""
        areas = contact_areas(label, self.references.voxel_size, self.references.scheme.num_classes)
        return self._weights(self._on_grid, case, areas)

    def _weights(self, folds: Mapping[str, ReferenceContacts], case: str, areas: np.ndarray) -> np.ndarray | None:
        if self.whole is None:
            return None
        return structure_weights(folds[case].deviations(areas, self.references.scheme.structure_classes))

    def _areas_of_files(self) -> np.ndarray:
        stored = self.references.stored
        return np.stack([stored.contacts[case["case"]] for case in self.references.cases])

    def _folds(self) -> tuple[dict[str, ReferenceContacts], dict[str, ReferenceContacts]]:
        """By held-out reference, of files and on the grid; nothing where any fold tells too little."""
        references = self.references
        if references.image_channels or ReferenceContacts.fit(self._areas_of_files()) is None:
            return {}, {}
        labels = (references.stored.label(case)[0].numpy() for case in references.cases)
        size, count = references.voxel_size, references.scheme.num_classes
        on_grid = np.stack([contact_areas(label, size, count) for label in labels])
        held_out = [number for number, case in enumerate(references.cases) if case["use"] != "train"]
        fitted: list[dict[str, ReferenceContacts]] = []
        for areas in (self._areas_of_files(), on_grid):
            judges: dict[str, ReferenceContacts] = {}
            for fold in range(FOLDS):
                left_out = held_out[fold::FOLDS]
                learnt = ReferenceContacts.fit(np.delete(areas, left_out, axis=0))
                if learnt is None:
                    return {}, {}
                judges |= {references.cases[number]["case"]: learnt for number in left_out}
            fitted.append(judges)
        return fitted[0], fitted[1]
