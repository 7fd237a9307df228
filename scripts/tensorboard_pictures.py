"""Screenshots of every tab of a real TensorBoard, taken by headless Chromium, for docs/tensorboard.md.

    python scripts/tensorboard_pictures.py --model MODEL/tensorboard --results RESULTS/tensorboard

Needs the extra ``browser`` and Chromium or Chrome. TensorBoard serves both folders on a free port of this machine, and
is stopped at the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZE, WIDE = {"width": 1280, "height": 860}, {"width": 1900, "height": 700}
TABS: dict[str, tuple[str, str]] = {
    "scalars": ("training", "timeseries?tagFilter=train|validation/"),
    "training_images": ("training", "images"),
    "hparams": ("training", "hparams"),
    "pr_curves": ("results", "pr_curves"),
    "worst_cases": ("results", "images?worst_cases"),
    "images": ("results", "images"),
    "histograms": ("results", "histograms"),
    "text": ("results", "text"),
    "projector": ("results", "projector"),
}
"""Picture: which of the two folders is shown, and the tab's name in the address with a filter of tags."""


@contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """Address of a TensorBoard of a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).parent / "tensorboard"
    command = [str(program), "--logdir", ".", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/data/environment", timeout=30).read()
                break
            except OSError:
                time.sleep(1)
        yield address
    finally:
        server.terminate()
        server.wait()


def show(page: Any, address: str, tab: str, patience: float) -> None:
    """Opens a tab and waits until it has drawn what it loads."""
    name, _, query = tab.partition("?")
    page.goto(f"{address}/?{query if '=' in query else ''}#{name}", timeout=patience * 1000)
    page.wait_for_load_state("networkidle", timeout=patience * 1000)
    page.wait_for_timeout(30_000 if name == "projector" else 3000)  # which is grey until it has drawn
    if query and "=" not in query:  # older tabs do not look at the address
        page.get_by_label("Filter tags").first.fill(query)
        page.wait_for_load_state("networkidle", timeout=patience * 1000)
        page.wait_for_timeout(3000)
    for text in ("Dismiss", "Got it", "Close"):
        button = page.get_by_role("button", name=text, exact=True)
        if button.count() and button.first.is_visible():
            button.first.click()
    settings = page.locator("button.settings-button")
    if settings.count() and settings.first.is_visible():  # their pane takes a quarter of the page
        settings.first.click()
        page.wait_for_timeout(2000)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "pictures")
    parser.add_argument("--only", nargs="+", choices=tuple(TABS), default=tuple(TABS), help="pictures to take")
    parser.add_argument("--patience", type=float, default=120, help="s to wait for a tab")
    given = parser.parse_args()
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"error: no browser is installed: none of {', '.join(BROWSERS)}")
    given.output.mkdir(parents=True, exist_ok=True)
    # Chromium refuses its sandbox to root; the projector draws with WebGL, which software can do as well.
    arguments = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=arguments)
        for name, logs in (("training", given.model), ("results", given.results)):
            chosen = [picture for picture in given.only if TABS[picture][0] == name]
            if not chosen:
                continue
            (Path(folder) / name).mkdir()
            (Path(folder) / name / name).symlink_to(logs.resolve())  # the run is called as what it shows
            with tensorboard(Path(folder) / name) as address:
                for picture in chosen:
                    page = chromium.new_page(viewport=WIDE if picture == "hparams" else SIZE)  # type: ignore[arg-type]
                    show(page, address, TABS[picture][1], given.patience)
                    page.screenshot(path=given.output / f"tensorboard_{picture}.png")
                    print(given.output / f"tensorboard_{picture}.png", flush=True)
                    page.close()
        chromium.close()


if __name__ == "__main__":
    main()
