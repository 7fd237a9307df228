"""Imports in less time: MONAI without optional packages that nothing here uses, and nothing searched for garbage."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["import_monai", "uncollected"]

UNUSED = ("matplotlib", "mlflow", "pandas", "pydicom", "scipy.signal", "skimage", "sklearn", "tensorboard", "tifffile")
"""MONAI takes these where they are installed: for CSV files, ultrasound, profiles, plots, and handlers."""

ZERO = "torch.distributed.optim"
"""ignite imports this, and with it the sharded tensors of torch, to recognise one kind of optimiser."""

PARTS = ("monai.bundle", "monai.engines", "monai.handlers", "ignite.handlers")


def import_monai() -> None:
    """Imports MONAI and ignite, and leaves the packages that they did not get as they are: not imported.

    For programs that train and rank as this package does; its own modules import what they need of these packages
    later. Nothing happens if MONAI has been imported before.
    """
    if "monai" in sys.modules:
        return
    with _without(UNUSED), _no_sharded_optimiser():
        for part in PARTS:
            importlib.import_module(part)


@contextmanager
def uncollected() -> Iterator[None]:
    """For imports: nothing is searched for garbage meanwhile, and what is there at the end is never searched again.

    Packages are hundreds of thousands of objects that stay. Python would look at all of them again and again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()
            gc.enable()


class _Unused(MetaPathFinder):
    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name in self.names:
            raise ModuleNotFoundError(f"{name} is left out", name=name)


@contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    finder = _Unused([name for name in names if name not in sys.modules])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def _no_sharded_optimiser() -> Iterator[None]:
    """In place of torch's module, one whose ``ZeroRedundancyOptimizer`` nothing is an instance of."""
    if ZERO in sys.modules:
        yield
        return
    module = ModuleType(ZERO)
    module.__spec__ = ModuleSpec(ZERO, None)
    module.ZeroRedundancyOptimizer = type("ZeroRedundancyOptimizer", (), {})  # type: ignore[attr-defined]
    sys.modules[ZERO] = module
    try:
        yield
    finally:
        del sys.modules[ZERO]
