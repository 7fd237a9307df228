"""Where the bundles that come with the package lie."""

from __future__ import annotations

from pathlib import Path

__all__ = ["bundle_root"]

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


def _shipped_bundles() -> list[Path]:
    for folder in (_PACKAGE / "bundles", _PACKAGE.parent / "bundles"):
        # metadata.json is what makes a folder a MONAI bundle, and tells ours from another package called `bundles`.
        if roots := [metadata.parents[1] for metadata in folder.glob("*/configs/metadata.json")]:
            return roots
    return []
