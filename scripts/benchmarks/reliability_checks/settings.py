"""Random values for what users set: in the bundle's configs, and on the command line of monai.bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from monai.bundle import ConfigWorkflow

from gnsm_monai.overrides import check_overrides
from gnsm_monai.paths import bundle_root
from reliability_checks.common import TINY

CONFIG = bundle_root("segmentation_qc") / "configs" / "train.yaml"

OPTIONS = (
    "dataset_dir", "labels_dir", "exclude_cases", "model_dir", "spatial_dims", "condition_on_image", "max_voxels",
    "noise", "objective", "anomaly_score", "epochs", "max_minutes", "steps_per_epoch", "batch_size", "learning_rate",
    "patience", "resume", "seed", "num_workers", "device", "amp", "chunk_size",
)  # fmt: skip

# Text without the signs by which a config marks code: whoever writes an override may run code by right.
_WORDS = st.text(st.characters(blacklist_characters="$@%#\0", blacklist_categories=("Cs",)), max_size=8)
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([2**31, 2**63, -(2**63)]),
    st.floats(),
    _WORDS,
    st.lists(st.integers(-2, 5) | _WORDS, max_size=3),
    st.dictionaries(
        st.sampled_from(["name", "num_levels", "beta_min", "beta_max"]) | _WORDS,
        st.integers(-2, 5) | st.floats() | _WORDS,
        max_size=3,
    ),
)


def override_reader(
    folder: Path, refusal: Callable[[Callable[[], Any]], str | None]
) -> tuple[st.SearchStrategy[Any], Callable[[Any, Path], str | None]]:
    """Two kinds of examples: up to three settings of train.yaml with random values, and a random command line."""
    values = st.dictionaries(st.sampled_from(OPTIONS), _VALUES, min_size=1, max_size=3)
    names = st.sampled_from([*OPTIONS, "epocs", "train::trainer", "validate::dataset::x", "fit"]) | _WORDS
    lines = st.lists(st.tuples(names, _WORDS).map(lambda pair: f"--{pair[0]}={pair[1]}"), max_size=3)

    def read(example: Any, work: Path) -> str | None:
        if isinstance(example, list):
            return refusal(lambda: check_overrides(["run", "--config_file", str(CONFIG), *example]))
        settings = {**TINY, "dataset_dir": str(folder), "model_dir": str(work / "model"), **example}
        workflow = ConfigWorkflow(config_file=str(CONFIG), workflow_type="train", logging_file=False, **settings)
        return refusal(workflow.initialize)

    return values | lines, read
