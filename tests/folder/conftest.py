"""What the tests of folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gnsm_monai.folder import consensus, image_reader, image_sampling


@pytest.fixture(scope="module")
def few_trees() -> Iterator[None]:
    """Readers of images that are learnt in a moment: for small and plain images."""
    trees = {"max_iter": 10, "learning_rate": 0.4, "min_samples_leaf": 20}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in trees.items():
            patch.setitem(image_reader.TREES, name, value)  # type: ignore[arg-type]
        patch.setattr(image_sampling, "SAMPLED", 400)
        patch.setattr(consensus, "FOLDS", 5)
        yield
