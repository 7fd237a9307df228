"""The checks of MONAI's model zoo on every bundle of this repository, offline.

    python scripts/verify_bundles.py [BUNDLE ...] [--keep DIR]

BUNDLE is a bundle's folder; by default all in bundles/. A bundle without weights is trained for two steps on its own
built-in data, and the model that this leaves, a bundle itself, is checked in the same way. Checked are: the layout and
the size of files, metadata against scripts/metadata_schema.json, the configs by MONAI's own ConfigWorkflow (initialize,
check_properties, run), the network against its metadata (verify_net_in_out), and its export to TorchScript,
torch.export and ONNX, each loaded again and compared with the network. ONNX needs the extra `onnx`.

Exit code: 0 all checks passed (or were skipped, with the reason) · 1 a check failed · 2 wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "scripts"))

from bundle_checks import export, files, workflows  # noqa: E402
from bundle_checks.outcome import CheckFailedError, CheckSkippedError  # noqa: E402


class Report:
    """Prints a line per check, and counts what failed."""

    def __init__(self) -> None:
        self.failed = 0

    def check(self, name: str, action: Callable[[], str]) -> bool:
        """Whether ``action`` passed; it returns what it found, or raises."""
        start = time.monotonic()
        try:
            word, text = "ok", action()
        except CheckSkippedError as reason:
            word, text = "skipped", str(reason)
        except (CheckFailedError, Exception, SystemExit) as error:  # MONAI and torch raise what they like
            self.failed += 1
            error = error.__cause__ or error  # MONAI wraps what an expression raised, and says only which
            kind = "" if isinstance(error, CheckFailedError) else f"{type(error).__name__}: "
            word, text = "FAILED", kind + " ".join(str(error).split())[:600]
        print(f"  {word:8}{name}: {text} ({time.monotonic() - start:.1f} s)", flush=True)
        return word == "ok"


def verify(root: Path, work: Path, report: Report) -> None:
    """All checks of one bundle; ``work`` is an empty folder for what they write."""
    print(f"{root}", flush=True)
    work.mkdir(parents=True, exist_ok=True)
    _static(root, report)
    model = root
    if not (root / "model.pt").is_file():
        model, data = work / "model", work / "data"
        trained = report.check("training from train.yaml", lambda: workflows.train(root, model, data))
        if not trained:
            return
        for name in workflows.scoring_configs(root):
            report.check(f"scoring by {name}", lambda name=name: workflows.score(root, name, model, data, work / name))
        print(f"{root}, trained", flush=True)
        _static(model, report)
    report.check("verify_net_in_out", lambda: workflows.verify_network(model))
    network = workflows.load_network(model)
    report.check("TorchScript", lambda: export.torchscript(network, model, work))
    report.check("torch.export", lambda: export.exported_program(network, model, work))
    report.check("ONNX", lambda: export.onnx(network, model, work))


def _static(root: Path, report: Report) -> None:
    report.check("files", lambda: files.layout(root))
    report.check("no large file", lambda: files.no_large_file(root))
    report.check("version and changelog", lambda: files.version(root))
    report.check("metadata against the schema", lambda: files.metadata(root))


@contextlib.contextmanager
def _folder(keep: str | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        Path(keep).mkdir(parents=True, exist_ok=True)
        yield Path(keep)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", nargs="*", type=Path, help="folders of bundles; default: all in bundles/")
    parser.add_argument("--keep", help="folder that keeps the trained models and the exported networks")
    given = parser.parse_args(arguments)
    roots: list[Path] = given.bundles or sorted(
        p.parents[1] for p in (REPO / "bundles").glob("*/configs/metadata.json")
    )
    for root in roots:
        if not root.is_dir():
            parser.error(f"{root}: no such folder")
    logging.disable(logging.WARNING)
    report = Report()
    with _folder(given.keep) as folder:
        for root in roots:
            verify(root.resolve(), folder / root.resolve().name, report)
    print(f"bundles: {len(roots)}, failed checks: {report.failed}")
    return int(report.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
