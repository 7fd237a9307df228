"""What a machine may be like: a home that cannot be written, and a terminal that knows no other letters than ASCII."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

RANK = "import sys; from gnsm_monai import cli; sys.exit(cli.run())"
SETTINGS = {
    "usual": {},
    "elsewhere": {"HOME": "/proc/nowhere", "LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict"},
}
CACHES = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TORCH_HOME", "MONAI_DATA_DIRECTORY", "PYTHONIOENCODING")


def test_a_ranking_needs_neither_a_home_nor_a_language(masks: Path, model: Path, tmp_path: Path) -> None:
    """``/proc/nowhere`` cannot be made by anybody, root included."""
    (tmp_path / "masks").mkdir()
    for path in sorted(masks.iterdir())[:2]:
        shutil.copy(path, tmp_path / "masks" / f"Schädel_{path.name}")
    printed = {}
    for name, settings in SETTINGS.items():
        environment = {key: value for key, value in os.environ.items() if key not in CACHES} | settings
        arguments = ["rank", "--model", model, "--predictions", tmp_path / "masks", "--output", tmp_path / name]
        done = subprocess.run(
            [sys.executable, "-c", RANK, *map(str, arguments)], env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        assert not done.stderr, "matplotlib, torch and MONAI have nothing to say of their caches"
        printed[name] = done.stdout.replace(str(tmp_path / name).encode(), b"OUT")
    assert printed["elsewhere"].decode("ascii").count("Sch\\xe4del") == 2
    assert printed["usual"].count("Schädel".encode()) == 2
    for file in ("ranking.csv", "structures.csv"):
        assert (tmp_path / "elsewhere" / file).read_bytes() == (tmp_path / "usual" / file).read_bytes()
