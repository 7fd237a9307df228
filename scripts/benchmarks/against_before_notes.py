"""What stands below the figures of against_before.md: where the time goes, and what was tried and lost."""

from __future__ import annotations

__all__ = ["NOTES"]

NOTES = [
    "A cohort has fixed costs: the start, the report, and everything of the masks that are flagged or shown. Of this",
    "cohort 456 of 1 000 masks are flagged: two of its five sources are networks on damaged images, and one is a",
    "network after eight epochs. The fewer masks are flagged, the greater is the ratio. Of up to 200 masks everything",
    "is measured. The goal of five times is missed here.",
    "",
    "## Where the time goes",
    "",
    "- **Ranking.** Most of the time of a mask went to the network at all levels, and to statistics, maps, slices and",
    "  reasons, which only 24 masks are shown with. The rule `shape` reads one statistic of the mask alone, at one",
    "  level. A rule that asks the network at all levels gains little.",
    "- **Start.** Most of the time of ranking two masks is imports (`python -X importtime -m gnsm_monai rank ...`).",
    "  MONAI took matplotlib.pyplot, pandas, scipy.signal and torch's sharded optimisers, which nothing here uses; one",
    "  function took all of scipy.stats. Python searched all objects for garbage again and again while packages were",
    "  imported; `gnsm` leaves that out. What remains is torch, MONAI and ignite themselves, and matplotlib for the",
    "  figures of the report.",
    "- **Many classes.** A map of 32 classes on 295 000 voxels is an array of 38 MB, which the C library got from the",
    "  system and gave back each time it was needed. It keeps such memory now. A training step takes fewer of such",
    "  maps, and the network of shapes sees them in cells ([figures](shape_cells.md)).",
    "- **Training.** A full training takes as long as that of version 0.2, and both models rank alike: the networks of",
    "  shapes take 60 % of it, in as many steps as there. The goal of three times is missed. What was tried on these",
    "  steps is in the [notebook](../notebook.md). By wall time the one run tells nothing: that of now was paused for",
    "  24 minutes. A quick model has no such network, and measures its failures by the mask alone.",
    "",
    "## Tried and lost",
    "",
    "- Scores of structures of every mask, by a rule of the mask alone: these scores are the network's, which would be",
    "  asked at all levels again. They are measured of the masks that are flagged or shown.",
    "- Only the one level that a rule reads: a single map takes torch's slower convolution, and rounds otherwise.",
    "  Levels are looked at in the groups of a full measurement, so that scores are the same bits.",
    "- `importlib.util.LazyLoader` for the packages that MONAI may do without: MONAI reads `__file__` of each, which",
    "  loads it at once.",
    "- The parts of MONAI without its `__init__`, which imports all of them: they import each other in a circle.",
    "- A quick model on a grid of 40 000 voxels whose network has a vote ranks hippocampus masks worse. The present",
    "  recipe of a quick model was chosen after these ranks were seen, so that they are no fair test of it.",
]
