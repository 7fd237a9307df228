"""MONAI without optional packages: they are left out of its import, and nothing else loses them."""

from __future__ import annotations

import gc
import subprocess
import sys

from gnsm_monai.lean_monai import UNUSED, ZERO, import_monai, uncollected

SCRIPT = f"""
import sys
from gnsm_monai.lean_monai import import_monai
import_monai()
assert not {{*{UNUSED}, {ZERO!r}}} & set(sys.modules), "was imported all the same"
import gnsm_monai.workflow
assert not {{"scipy.stats", "sklearn"}} & set(sys.modules), "the package itself imported it"
import ignite.handlers.checkpoint as checkpoint
import monai.bundle, monai.engines, monai.transforms, scipy.signal
import matplotlib.figure, sklearn.mixture, torch.distributed.optim
import torch
optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
assert not isinstance(optimizer, checkpoint.ZeroRedundancyOptimizer)
assert torch.distributed.optim.__file__ and torch.distributed.optim.ZeroRedundancyOptimizer
from gnsm_monai import cli_commands
print("all there")
"""


def test_what_monai_does_without_is_there_for_others() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "all there\n"), done.stderr


def test_nothing_changes_where_monai_was_imported_before() -> None:
    import monai  # noqa: F401

    finders, modules = list(sys.meta_path), set(sys.modules)
    import_monai()
    assert sys.meta_path == finders and set(sys.modules) == modules


def test_nothing_is_collected_while_packages_are_imported() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled() and gc.get_freeze_count() == 0
    finally:
        gc.enable()
