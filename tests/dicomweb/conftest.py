"""An Orthanc of the tests' own, a small model of 3D phantoms, and studies with segmentations of phantoms."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
from monai.bundle import ConfigWorkflow

from gnsm_monai.data.phantoms import LABELS, make_phantom, write_phantom_dataset
from gnsm_monai.paths import bundle_root
from tests.builders import TINY

highdicom = pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed: no highdicom")
pytest.importorskip("dicomweb_client", reason="the extra 'dicom' is not installed: no dicomweb-client")
import pydicom  # noqa: E402
from pydicom.sr.codedict import codes  # noqa: E402
from pydicom.uid import generate_uid  # noqa: E402

from tests.dicom_files import contours_of, ct_series, structure_set  # noqa: E402

SIZE, SPACING = (32, 40, 24), (1.5, 1.25, 2.0)  # x, y, z: pixels are not square, and rows are not columns
"""In mm. NIfTI has 32 bits for these, and 1.2 mm would be rounded: voxels half-way between two others would turn."""

ORIGIN = (-20.0, 15.0, 100.0)
NAMES = ("Right-Ventricle", "ventricle", "Myocardium")
"""Labels of the segments 1, 2 and 3: the model's structures in another order and spelling."""

NUMBERS = (LABELS["right_ventricle"], LABELS["ventricle"], LABELS["myocardium"])
USER, PASSWORD = "reader", "s3cret-word"
PROGRAM, PLUGIN = Path("/usr/sbin/Orthanc"), Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Study:
    """A patient's image series and its segmentation, and both as arrays ``(x, y, z)``."""

    patient: str
    images: list[pydicom.Dataset]
    segmentation: Any
    label: np.ndarray
    hounsfield: np.ndarray

    def structure_set(self, names: Sequence[str] = NAMES) -> pydicom.Dataset:
        """The same mask as contours. A target that cuts through the organs lies over them, as in a plan."""
        label = self.label.transpose(2, 1, 0)
        structures = {name: contours_of(label == value) for name, value in zip(names, NUMBERS, strict=True)}
        target = np.zeros(label.shape, bool)
        target[8:16, 15:25, 10:20] = True
        return structure_set(self.images, {"PTV": contours_of(target), **structures})

    def save_nifti(self, folder: Path) -> None:
        self._save(folder, self.label)

    def save_image(self, folder: Path) -> None:
        """Grey values as they were before they became DICOM, in HU."""
        self._save(folder, self.hounsfield)

    def _save(self, folder: Path, values: np.ndarray) -> None:
        folder.mkdir(exist_ok=True)
        affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
        affine[:3, 3] = -ORIGIN[0], -ORIGIN[1], ORIGIN[2]
        nib.save(nib.Nifti1Image(values, affine), folder / f"{self.patient}.nii.gz")  # type: ignore[attr-defined, no-untyped-call]


def make_study(seed: int, patient: str, names: Sequence[str] = NAMES) -> Study:
    label, image = make_phantom(np.random.default_rng(seed), 3, SIZE)
    if seed % 2:  # a bad mask among good ones
        label = np.roll(label, 6, axis=0)
        label[label == LABELS["myocardium"]] = 0
    hounsfield = np.round(image).astype(np.int16).transpose(2, 1, 0)
    images = ct_series(hounsfield + 1024, SPACING, ORIGIN, patient=patient, name="M\u00fcller^Eva")
    segments = [
        highdicom.seg.SegmentDescription(
            number, text, codes.SCT.Organ, codes.SCT.Heart, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, text in enumerate(names, start=1)
    ]
    numbered = np.zeros_like(label)
    for number, value in enumerate(NUMBERS, start=1):
        numbered[label == value] = number
    segmentation = highdicom.seg.Segmentation(
        images, numbered.transpose(2, 1, 0), "BINARY", segments, generate_uid(), 7, generate_uid(), 1,
        "maker", "segmenter", "1", "1", series_description="heart",
    )  # fmt: skip
    return Study(patient, images, segmentation, label, hounsfield.transpose(2, 1, 0))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows the phantoms' structures; two short epochs."""
    folder = tmp_path_factory.mktemp("model")
    dataset = write_phantom_dataset(tmp_path_factory.mktemp("data"), spatial_dims=3, num_train=16, num_test=1)
    train(dataset, folder)
    return folder


@pytest.fixture(scope="session")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of masks with their images."""
    folder = tmp_path_factory.mktemp("image_model")
    dataset = write_phantom_dataset(tmp_path_factory.mktemp("data"), spatial_dims=3, num_train=16, num_test=1)
    train(dataset, folder, condition_on_image=True)
    return folder


def train(dataset: Path, folder: Path, **options: Any) -> None:
    config = str(bundle_root() / "configs" / "train.yaml")
    short = {**TINY, "fit::shapes::steps": 0, "dataset_dir": str(dataset), "model_dir": str(folder), **options}
    workflow = ConfigWorkflow(config_file=config, workflow_type="train", logging_file=False, **short)
    workflow.initialize()
    workflow.run()
    workflow.finalize()


@dataclass(frozen=True)
class Orthanc:
    """A running server. Tests talk to it as any client would."""

    root: str

    @property
    def url(self) -> str:
        return f"{self.root}/dicom-web"

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        answer = requests.request(method, f"{self.root}{path}", auth=(USER, PASSWORD), timeout=30, **options)
        answer.raise_for_status()
        return answer

    def store(self, *datasets: pydicom.Dataset) -> None:
        """By STOW-RS."""
        from gnsm_monai.dicomweb.fetch import dicom_bytes

        self.store_bytes(*map(dicom_bytes, datasets))

    def store_bytes(self, *files: bytes) -> None:
        parts = b"".join(b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files)
        kind = 'multipart/related; type="application/dicom"; boundary=cut'
        self.ask("POST", "/dicom-web/studies", data=parts + b"--cut--", headers={"Content-Type": kind})

    def store_study(self, study: Study) -> None:
        self.store(*study.images, study.segmentation)

    def find(self, modality: str) -> list[pydicom.Dataset]:
        """All instances of a modality, as files that were downloaded."""
        query = {"Level": "Instance", "Query": {"Modality": modality}}
        ids = self.ask("POST", "/tools/find", json=query).json()
        files = [self.ask("GET", f"/instances/{one}/file").content for one in ids]
        return [pydicom.dcmread(pydicom.filebase.DicomBytesIO(file)) for file in files]

    def clear(self) -> None:
        for patient in self.ask("GET", "/patients").json():
            self.ask("DELETE", f"/patients/{patient}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if not (PROGRAM.is_file() and PLUGIN.is_file()):
        pytest.skip("no Orthanc with its DICOMweb plug-in: scripts/dicom_programs.sh installs it")
    folder = tmp_path_factory.mktemp("orthanc")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "Name": "tests", "StorageDirectory": str(folder), "IndexDirectory": str(folder), "Plugins": [str(PLUGIN)],
        "HttpPort": port, "RemoteAccessAllowed": False, "DicomServerEnabled": False, "SaveJobs": False,
        "AuthenticationEnabled": True, "RegisteredUsers": {USER: PASSWORD},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([PROGRAM, folder / "settings.json"], stdout=log, stderr=log)
    try:
        orthanc = Orthanc(f"http://127.0.0.1:{port}")
        wait_until(lambda: is_up(orthanc) or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield orthanc
    finally:
        process.kill()
        process.wait()


def is_up(orthanc: Orthanc) -> bool:
    try:
        return orthanc.ask("GET", "/system").ok
    except requests.RequestException:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(9000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited for a quarter of an hour")


@pytest.fixture
def orthanc(server: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Orthanc:
    """Empty, and with its credentials in the environment."""
    server.clear()
    monkeypatch.setenv("GNSM_DICOMWEB_USER", USER)
    monkeypatch.setenv("GNSM_DICOMWEB_PASSWORD", PASSWORD)
    monkeypatch.delenv("GNSM_DICOMWEB_TOKEN", raising=False)
    return server


@pytest.fixture(scope="session")
def studies() -> list[Study]:
    return [make_study(seed, f"patient_{seed}") for seed in range(3)]
