"""The commands that the benchmarks call, each in a process of its own: what users run is what is measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gnsm_monai.paths import bundle_root

__all__ = ["ROOT", "bundle", "gnsm"]

ROOT = Path(__file__).resolve().parents[2]


def gnsm(*arguments: Any) -> None:
    """Runs ``gnsm``. Raises subprocess.CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", "gnsm_monai", *map(str, arguments)], check=True, cwd=ROOT)


def bundle(run_id: str, configs: str, options: Mapping[str, Any]) -> None:
    """Runs an id of the segmentation bundle, for options that ``gnsm`` does not have.

    Args:
        run_id: such as ``training``.
        configs: names of its configs, separated by commas.
        options: overrides by id.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    paths = [str(bundle_root() / "configs" / name) for name in configs.split(",")]
    files = paths[0] if len(paths) == 1 else "[" + ",".join(f"'{path}'" for path in paths) + "]"
    given = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", run_id, "--config_file", files]
    subprocess.run([*command, *given], check=True, cwd=ROOT)
