"""Where the bundles that come with the package lie."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

__all__ = ["bundle_root", "default_model_dir", "running_bundle_root"]

_PACKAGE = Path(__file__).resolve().parent


def bundle_root(name: str = "segmentation_qc") -> Path:
    """Folder of a bundle that comes with the package.

    An installation holds the bundles inside the package, a checkout (and so an editable installation) beside it.

    Args:
        name: the bundle's folder name.

    Returns:
        absolute path of the folder that has ``configs/`` in it.

    Raises:
        FileNotFoundError: there is no such bundle; the message names those there are.

    Example::

        config_file = bundle_root("segmentation_qc") / "configs" / "train.yaml"
    """
    shipped = {root.name: root for root in _shipped_bundles()}
    if name not in shipped:
        raise FileNotFoundError(f"no bundle named '{name}': there are {', '.join(sorted(shipped)) or 'none'}")
    return shipped[name]


def running_bundle_root(name: str = "segmentation_qc") -> Path:
    """Folder of the bundle whose config is being evaluated, wherever it lies: a trained model is a bundle too.

    MONAI tells a config nothing of its own place. The running ``ConfigWorkflow`` knows it, and is found among the
    callers. MONAI's other commands (``verify_net_in_out``, ``ckpt_export``) have none: they are run in the bundle's
    folder, as those of the model zoo are. Elsewhere (a config that is parsed by hand, or lies in no bundle) it is the
    bundle that comes with the package.

    Args:
        name: of that bundle.

    Example::

        bundle_root: $str(running_bundle_root('segmentation_qc'))
    """
    from monai.bundle import ConfigWorkflow  # takes seconds, and is at hand where a config is evaluated

    frame: FrameType | None = sys._getframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigWorkflow):
            return _bundle_around(Path(caller.config_root_path)) or bundle_root(name)
        frame = frame.f_back
    return _bundle_around(Path("configs")) or bundle_root(name)


def _bundle_around(configs: Path) -> Path | None:
    """The bundle that a folder of configs belongs to, if it does to one."""
    configs = configs.resolve()
    return configs.parent if configs.name == "configs" and (configs / "metadata.json").is_file() else None


def default_model_dir(root: str | Path) -> str:
    """Where scoring finds its model: the bundle itself if it is a trained model, else its folder ``models``."""
    return str(root) if (Path(root) / "settings.json").is_file() else str(Path(root) / "models")


def _shipped_bundles() -> list[Path]:
    for folder in (_PACKAGE / "bundles", _PACKAGE.parent / "bundles"):
        # metadata.json is what makes a folder a MONAI bundle, and tells ours from another package called `bundles`.
        if roots := [metadata.parents[1] for metadata in folder.glob("*/configs/metadata.json")]:
            return roots
    return []
