"""A component of a config is found under its name alone, however Python looks it up."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import yaml

from gnsm_monai.paths import bundle_root


def targets(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["_target_"]] if str(node.get("_target_", "")).startswith("gnsm_monai.") else []
        return own + [found for value in node.values() for found in targets(value)]
    return [found for value in node for found in targets(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("path", sorted(bundle_root().parent.glob("*/configs/*.yaml")), ids=lambda path: path.name)
def test_no_component_has_the_name_of_a_module(path: Any) -> None:
    """From Python 3.13 on, ``pydoc.locate`` gives the module then."""
    for target in targets(yaml.safe_load(path.read_text())):
        package = target.rpartition(".")[0]
        is_package = getattr(importlib.import_module(package), "__path__", None) is not None
        assert not (is_package and importlib.util.find_spec(target)), target
