"""The wheel, built and used where nothing of the repository is in reach."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CHECK = """
import sys
site = sys.argv.pop(1)
sys.path.insert(0, site)
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", repr(finder))]
import gnsm_monai
from gnsm_monai.paths import bundle_root
assert gnsm_monai.__file__.startswith(site), gnsm_monai.__file__
for name in ("segmentation_qc", "tabular_anomaly"):
    assert str(bundle_root(name)).startswith(site), bundle_root(name)
    assert sorted(path.name for path in bundle_root(name).iterdir()) == ["LICENSE", "configs", "docs"]
from gnsm_monai import cli_commands as commands
commands.table_fit(commands.Path("train.csv"), commands.Path("model"), epochs=1, steps_per_epoch=2, width=8)
commands.table_score(commands.Path("model"), commands.Path("train.csv"), commands.Path("out"))
from pathlib import Path
from gnsm_monai.data.phantoms import write_phantom_dataset
data = write_phantom_dataset(Path("data"), spatial_dims=2, num_train=16, num_test=2)
tiny = {"network_def::channels": [4, 8], "noise": {"name": "mixing", "num_levels": 3}, "epochs": 1}
commands.train(Path("masks"), dataset_dir=data, batch_size=2, steps_per_epoch=2, device="cpu", **tiny)
commands.rank(Path("ranked"), Path("masks"), [data / "predictions" / "leakage"], device="cpu")
assert Path("ranked/report.html").is_file()
"""


@pytest.mark.slow
def test_an_installed_wheel_trains_and_ranks(tmp_path: Path) -> None:
    """scripts/check_wheel.sh does the same in an environment that is made for it, dependencies and all."""
    pytest.importorskip("build", reason="the extra 'dev' is not installed: no build")

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "dist", str(ROOT))
    (wheel,) = (tmp_path / "dist").glob("gnsm_monai-*.whl")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", "site", str(wheel))
    from gnsm_monai.tabular.files import write_demo_table

    write_demo_table(tmp_path / "train.csv", rows=400)
    run(sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-c", CHECK, str(tmp_path / "site"))
