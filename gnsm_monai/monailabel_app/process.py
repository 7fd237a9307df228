"""``gnsm rank`` on the predicted labels of a datastore: a process in the environment of gnsm_monai."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["MAPS", "RESULTS", "Settings", "link_labels", "rank"]

SETTINGS = "settings.json"
RESULTS, MAPS = "results.json", "maps"
SCORED = "scored.json"
"""What the results are of: as long as it is the same, ``gnsm rank`` is not run again."""

DONE = (0, 3)
"""Exit codes of ``gnsm rank``; 3 says that some masks could not be scored."""


@dataclass(frozen=True)
class Settings:
    """Of the app's ``settings.json``; ``--conf NAME VALUE`` of the server goes before it.

    Args:
        gnsm: Python of the environment in which gnsm_monai is installed.
        model: folder that ``gnsm train`` has written.
        images: folder of the cases' images, in nnU-Net's names, or empty: the report shows them, some models need them.
        tag: of the predicted labels in the datastore.
        maps: ``false`` leaves out the anomaly maps, which the tasks ``anomaly_map`` and ``unusual`` give.
    """

    gnsm: str = ""
    model: str = ""
    images: str = ""
    tag: str = "original"
    maps: str = "true"

    @classmethod
    def read(cls, app: str | Path, conf: Mapping[str, Any]) -> Settings:
        """Raises ValueError where ``gnsm`` or ``model`` is not given, or is not there."""
        path = Path(app) / SETTINGS
        given = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        values = {name: str({**given, **conf}.get(name) or default) for name, default in asdict(cls()).items()}
        settings = cls(**values)
        for name, there in (("gnsm", shutil.which), ("model", os.path.isdir)):
            value = getattr(settings, name)
            if not (value and there(value)):
                missing = f"{value}: not there" if value else "not given"
                raise ValueError(f"setting '{name}' ({path}, or --conf {name} VALUE): {missing}")
        return settings


def link_labels(labels: Mapping[str, str], folder: Path) -> None:
    """Makes a folder with exactly these masks, each under the id of its case: their files may have other names."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for case, path in labels.items():
        link = folder / (case + _ending(path))
        try:
            link.symlink_to(path)
        except OSError:  # Windows grants links to some users only
            shutil.copy2(path, link)


def rank(
    labels: Mapping[str, str],
    settings: Settings,
    output: Path,
    say: Callable[[str], None],
) -> bool:
    """Scores masks, unless the results in ``output`` are of these very files, model and settings.

    Args:
        labels: path of the predicted label of each case.
        settings: of the app.
        output: folder of the results of ``gnsm rank``. A killed run continues there.
        say: gets each line that it prints.

    Returns:
        whether anything was scored.

    Raises:
        RuntimeError: it did not end well; the message is its last line.
    """
    files = [[case, *_identity(path)] for case, path in sorted(labels.items())]
    model = _identity(str(Path(settings.model) / "settings.json"))
    scored = {"settings": asdict(settings), "model": model, "files": files}
    done = output / SCORED
    if (output / RESULTS).is_file() and done.is_file() and json.loads(done.read_text()) == scored:
        return False
    if not labels:
        shutil.rmtree(output, ignore_errors=True)
        return False
    masks = output.with_name("masks")
    link_labels(labels, masks)
    done.unlink(missing_ok=True)
    _run(_command(settings, masks, output), say)
    done.write_text(json.dumps(scored))
    return True


def _command(settings: Settings, masks: Path, output: Path) -> list[str]:
    command = [settings.gnsm, "-m", "gnsm_monai", "rank", "--model", settings.model, "--predictions", str(masks)]
    command += ["--output", str(output), "--layout", "files"]
    command += ["--images", settings.images] if settings.images else []
    return [*command, "--maps" if settings.maps == "true" else "--all-statistics"]


def _run(command: list[str], say: Callable[[str], None]) -> None:
    # MONAI Label sets PYTHONPATH for its own tasks: its packages must not come before those of gnsm_monai.
    surroundings = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "errors": "replace"}
    last = "it printed nothing"
    with subprocess.Popen(command, env=surroundings, stdin=subprocess.DEVNULL, text=True, **pipes) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                last = line.strip()
                say(last)
    if process.returncode not in DONE:
        raise RuntimeError(f"gnsm rank ended with code {process.returncode}: {last}")


def _identity(path: str) -> list[Any]:
    """Path, size and time of change."""
    status = Path(path).stat()
    return [path, status.st_size, status.st_mtime_ns]


def _ending(path: str) -> str:
    name = Path(path).name
    return ".nii.gz" if name.lower().endswith(".nii.gz") else Path(path).suffix
