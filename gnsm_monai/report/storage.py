"""The names under which a browser keeps the marks of a report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["former_store_key", "store_key"]


def store_key(summary: Mapping[str, Any], path: str | Path) -> str:
    """Under which a browser keeps the marks: those of a report of the same model at the same place.

    Ranking once more into the same folder keeps the marks; another folder has its own. A report that is moved or copied
    takes its key along.

    Args:
        summary: content of summary.json.
        path: of the report.
    """
    return _storage_name(summary.get("settings", {}).get("weights_sha256"), Path(path).resolve())


def former_store_key(summary: Mapping[str, Any]) -> str:
    """Under which version 0.2 kept them: as folders were given, so that two of one relative path shared it."""
    settings = summary.get("settings", {})
    return _storage_name(*(settings.get(key) for key in ("weights_sha256", "model_dir", "predictions_dir")))


def _storage_name(*identity: object) -> str:
    text = "\n".join(map(str, identity)).encode(errors="backslashreplace")
    return f"gnsm_monai marks {hashlib.sha256(text).hexdigest()[:16]}"
