"""The app in the real server of MONAI Label, spoken to over HTTP as a viewer would."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
from PIL import Image

from gnsm_monai import cli

ROOT = Path(__file__).resolve().parents[2]
NOT_TO_BE_HAD = 4
"""Exit code of the script where its packages cannot be installed."""


@pytest.fixture(scope="session")
def server_python() -> str:
    """Python of an environment with MONAI Label."""
    script = [str(ROOT / "scripts" / "monailabel_environment.sh")]
    made = subprocess.run(script, env={**os.environ, "VIRTUAL_ENV": sys.prefix}, capture_output=True, text=True)
    if made.returncode == NOT_TO_BE_HAD:
        pytest.skip(f"MONAI Label cannot be installed: {made.stderr.strip().splitlines()[-1]}")
    assert made.returncode == 0, made.stderr[-2000:]
    return made.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def outputs(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What nnU-Net leaves: masks of a planted failure, a milder one, two references, and a file that breaks off."""
    folder = tmp_path_factory.mktemp("nnunet")
    (folder / "masks").mkdir()
    (folder / "images").mkdir()
    phantoms = sorted(path.name for path in (dataset / "labelsTs").iterdir())
    sources = {
        "good_1": dataset / "labelsTs" / phantoms[0],
        "good_2": dataset / "labelsTs" / phantoms[1],
        "misplaced": dataset / "predictions" / "wrong_side" / phantoms[2],
    }
    for case, source in sources.items():
        shutil.copy(source, folder / "masks" / f"{case}.png")
    Image.fromarray(np.zeros_like(np.asarray(Image.open(sources["good_1"])))).save(folder / "masks" / "empty.png")
    (folder / "masks" / "broken.png").write_bytes(sources["good_1"].read_bytes()[:60])
    image = next((dataset / "imagesTs").iterdir())
    for case in (*sources, "empty", "broken", "without"):
        shutil.copy(image, folder / "images" / f"{case}_0000.png")
    return folder


@pytest.fixture(scope="module")
def app(outputs: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("label") / "app"
    inputs = ["--predictions", str(outputs / "masks"), "--images", str(outputs / "images")]
    assert cli.main(["monailabel-app", "--model", str(model), *inputs, "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def server(app: Path, server_python: str) -> Iterator[str]:
    """Address of a running server, which scores nothing by itself: the tests ask for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [server_python, "-m", "monailabel.main", "start_server", "--app", str(app)]
    command += ["--studies", str(app / "studies"), "--host", "127.0.0.1", "--port", str(port)]
    surroundings = {**os.environ, "MONAI_LABEL_AUTO_UPDATE_SCORING": "false", "OMP_NUM_THREADS": "1"}
    with (app.parent / "log").open("w") as log:
        process = subprocess.Popen(command, env=surroundings, stdout=log, stderr=subprocess.STDOUT)
        try:
            while not answers(address):
                assert process.poll() is None, (app.parent / "log").read_text()[-2000:]
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="module")
def scored(server: str) -> dict[str, Any]:
    """What the scoring method says at its end; ``before`` is what a strategy answered before."""
    return {"before": following(server), **score(server)}


def answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/info/").ok
    except requests.ConnectionError:
        return False


def score(server: str) -> dict[str, Any]:
    """What the scoring method says at its end."""
    assert requests.post(f"{server}/scoring/gnsm").ok
    while (task := requests.get(f"{server}/scoring/").json())["status"] in ("SUBMITTED", "RUNNING"):
        time.sleep(0.2)
    assert task["status"] == "DONE", task
    (result,) = (line for line in task["details"] if "Result: " in line)
    content: dict[str, Any] = json.loads(result.split("Result: ", 1)[1])
    return content


def following(server: str, strategy: str = "worst_first") -> dict[str, Any]:
    answer: dict[str, Any] = requests.post(f"{server}/activelearning/{strategy}").json()
    return answer


def save_label(server: str, case: str, path: Path, tag: str = "final") -> None:
    with path.open("rb") as file:
        answer = requests.put(f"{server}/datastore/label", params={"image": case, "tag": tag}, files={"label": file})
    assert answer.ok, answer.text


def test_an_annotator_is_led_from_the_worst_mask_on(
    server: str, scored: dict[str, Any], outputs: Path, model: Path, tmp_path: Path
) -> None:
    assert scored["before"]["message"].endswith("not scored yet: POST /scoring/gnsm scores all predicted labels")
    assert scored["ranked_anew"] and scored["scored"] == 4 and scored["without_prediction"] == ["without"]
    assert list(scored["failed"]) == ["broken"] and "broken.png" in scored["failed"]["broken"]

    code = cli.main(["rank", "--model", str(model), "--predictions", str(outputs / "masks"), "--output", str(tmp_path)])
    ranking = json.loads((tmp_path / "results.json").read_text())["cases"]
    assert code == 3 and len(ranking) == 5
    for case in ranking:  # what the same masks get without a server
        record = requests.get(f"{server}/datastore/image/info", {"image": case["case"]}).json()["gnsm"]
        del record["message"]  # it names the file
        assert record == {field: case[field] for field in record}

    first = following(server)
    assert first["id"] == "empty" and first["gnsm"]["rank"] == 1
    assert first["waiting"] == {"failed": 1, "no_prediction": 1, "ok": 4}
    save_label(server, "empty", outputs / "masks" / "good_1.png")
    assert following(server)["id"] == "misplaced"
    assert following(server, "most_worth_correcting")["id"] in ("misplaced", "good_1", "good_2")
    for case in ("misplaced", "good_1", "good_2"):
        save_label(server, case, outputs / "masks" / "good_1.png")
    last = following(server)
    assert last["id"] == "broken" and "broken: cannot be scored: " in last["message"]
    save_label(server, "broken", outputs / "masks" / "good_1.png")
    last = following(server, "most_worth_correcting")
    assert last["id"] == "without" and last["message"] == "without: no predicted label"
    save_label(server, "without", outputs / "masks" / "good_1.png")
    assert following(server) == {}


@pytest.mark.usefixtures("scored")
def test_a_viewer_gets_the_map_and_the_mask_of_a_case(server: str, app: Path, outputs: Path, tmp_path: Path) -> None:
    for _ in range(2):  # what was sent is still there
        answer = requests.post(f"{server}/infer/anomaly_map", params={"image": "misplaced", "output": "image"})
        (tmp_path / "map.nii.gz").write_bytes(answer.content)
        anomaly = np.asarray(nib.load(tmp_path / "map.nii.gz").dataobj)
        np.testing.assert_array_equal(anomaly, nib.load(app / "results" / "maps" / "misplaced.nii.gz").dataobj)

    answer = requests.post(f"{server}/infer/unusual", params={"image": "misplaced", "output": "image"})
    (tmp_path / "unusual.nii.gz").write_bytes(answer.content)
    unusual = np.asarray(nib.load(tmp_path / "unusual.nii.gz").dataobj).astype(bool)
    assert anomaly[unusual].min() >= anomaly[~unusual].max() and unusual.any()

    answer = requests.post(f"{server}/infer/prediction", params={"image": "misplaced", "output": "image"})
    assert answer.content == (outputs / "masks" / "misplaced.png").read_bytes()
    answer = requests.post(f"{server}/infer/anomaly_map", params={"image": "broken", "output": "image"})
    assert answer.status_code == 404 and "broken: there is no such file: cannot be scored: " in answer.json()["detail"]


@pytest.mark.usefixtures("scored")
def test_maps_of_all_cases_never_take_the_place_of_predictions(server: str, app: Path, outputs: Path) -> None:
    answer = requests.post(f"{server}/batch/infer/unusual", params={"run_sync": True})
    assert answer.ok, answer.text
    labels = app / "studies" / "labels"
    assert (labels / "original" / "misplaced.png").read_bytes() == (outputs / "masks" / "misplaced.png").read_bytes()
    assert (labels / "unusual" / "misplaced.nii.gz").is_file()


def test_masks_are_scored_again_only_when_one_has_changed(server: str, scored: dict[str, Any], outputs: Path) -> None:
    assert not score(server)["ranked_anew"]
    save_label(server, "without", outputs / "masks" / "misplaced.png", tag="original")
    result = score(server)
    assert result["ranked_anew"] and result["scored"] == 5 and result["without_prediction"] == []
    twin, record = (
        requests.get(f"{server}/datastore/image/info", {"image": case}).json()["gnsm"]
        for case in ("misplaced", "without")
    )
    assert record["anomaly_score"] == twin["anomaly_score"]
