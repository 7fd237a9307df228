"""Readers of the package, and how their inputs are damaged at random."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
import tifffile
from hypothesis import strategies as st
from monai.bundle import ConfigParser, ConfigWorkflow
from torch import zeros

from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.data.nnunet import LabelScheme, check_same_labels, preferred_ending, read_label_scheme
from gnsm_monai.data.soft import read_probabilities
from gnsm_monai.data.transforms import load_case
from gnsm_monai.errors import InputError
from gnsm_monai.files import load_arrays
from gnsm_monai.overrides import check_overrides
from gnsm_monai.paths import bundle_root
from gnsm_monai.records import load_record, save_record
from tests.builders import TINY
from tests.data.test_formats import write_slicer

SHAPE = (12, 10, 8)
SCHEME = LabelScheme(("a", "b"), (0, 1, 2))
SETTINGS: dict[str, Any] = {
    "labels": SCHEME.to_dict(),
    "spatial_dims": 3,
    "network": {"image_channels": 0},
    "voxel_size": [1.5, 1.0, 2.0],
    "spatial_size": [16, 16, 16],
}


@dataclass(frozen=True)
class Reader:
    """Inputs, and what reads one: returns the message of a refusal, or None. Anything it raises is a defect."""

    examples: st.SearchStrategy[Any]
    read: Callable[[Any, Path], str | None]


def label_map() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[2:7, 3:9, 2:7], label[7:10, 5:9, 3:6] = 1, 2
    return label


def patches(length: int, most: int = 4, widest: int = 8) -> st.SearchStrategy[list[tuple[int, bytes]]]:
    """Places and bytes to be written there: random ones, and numbers that headers choke on."""
    extreme = [
        np.array(value, kind).tobytes() for kind in ("<i2", "<f4", "<i4") for value in (-1, 0, 1, 32767, -32768)
    ] + [np.array(value, "<f4").tobytes() for value in (np.nan, np.inf, -np.inf, 1e38, 1e-38, -1e30)]
    content = st.binary(min_size=1, max_size=widest) | st.sampled_from(extreme)
    return st.lists(st.tuples(st.integers(0, length - 1), content), min_size=1, max_size=most)


def patched(content: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    changed = bytearray(content)
    for place, new in changes:
        changed[place : place + len(new)] = new[: max(0, len(changed) - place)]
    return bytes(changed)


def damage(content: bytes) -> st.SearchStrategy[bytes]:
    """Bytes changed, cut off, taken out, put in, or other ones altogether."""
    size = len(content)
    places = st.integers(0, size)
    return st.one_of(
        patches(size).map(lambda changes: patched(content, changes)),
        places.map(lambda n: content[:n]),
        st.tuples(places, st.integers(1, 64)).map(lambda c: content[: c[0]] + content[c[0] + c[1] :]),
        st.tuples(places, st.binary(min_size=1, max_size=64)).map(lambda c: content[: c[0]] + c[1] + content[c[0] :]),
        st.binary(max_size=400),
    )


def refusal(call: Callable[[], Any]) -> str | None:
    """The message of an InputError, itself or within what MONAI makes of it; of a config's step, the line it prints."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            call()
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__
        if cause is None:
            raise
        return str(cause)
    except SystemExit as stop:
        if stop.code != 2:
            raise RuntimeError(f"exit code {stop.code}") from stop
        text = said.getvalue().strip()
        return text.splitlines()[0] if "\nUsage: " in text else text  # MONAI's command line, which fire reads
    return None


def _read_mask(path: Path) -> str | None:
    """As ranking reads a mask; the way that lets no error but the package's own pass as a refusal."""
    found = refusal(lambda: load_case(SCHEME, 3, ["label"])({"label": path}))
    parser = ConfigParser(ConfigParser.load_config_file(bundle_root() / "configs" / "inference.yaml"))
    network = SimpleNamespace(position_size=None, log_prior=zeros(1))
    parser["model"] = SimpleNamespace(
        settings=SETTINGS, scheme=SCHEME, network=network, fields_of_view=None, contact_deviations=None
    )
    case = parser.get_parsed_content("preprocessing")({"case": "a", "label": path})
    if found is None and "message" in case and "field of view" not in case["message"]:
        raise RuntimeError(f"read, but not scored: {case['message']}")
    return found or case.get("message")


def _files(contents: st.SearchStrategy[Any], name: str, read: Callable[[Path], str | None]) -> Reader:
    def run(content: bytes, work: Path) -> str | None:
        path = work / name
        path.write_bytes(content)
        return read(path)

    return Reader(contents, run)


def nifti_header(_: Path) -> Reader:
    content = nib.Nifti1Image(label_map(), np.diag([1.5, 1, 2, 1])).to_bytes()
    packed = patches(348).map(lambda changes: gzip.compress(patched(content, changes), 1))
    return _files(packed, "mask.nii.gz", _read_mask)


def nifti_body(_: Path) -> Reader:
    content = nib.Nifti1Image(label_map(), np.diag([1.5, 1, 2, 1])).to_bytes()
    after = patches(len(content) - 348).map(
        lambda changes: gzip.compress(patched(content, [(348 + place, new) for place, new in changes]), 1)
    )
    return _files(after | damage(gzip.compress(content, 1)), "mask.nii.gz", _read_mask)


def itk(ending: str) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        path = folder.parent / f"valid{ending}"
        sitk.WriteImage(sitk.GetImageFromArray(label_map()), str(path), True)
        return _files(damage(path.read_bytes()), f"mask{ending}", _read_mask)

    return make


def other_format(ending: str, write: Callable[[Path], Any]) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        path = folder.parent / f"valid{ending}"
        write(path)
        return _files(damage(path.read_bytes()), f"mask{ending}", _read_mask)

    return make


def _write_segments(path: Path) -> None:
    layers = np.stack([label_map() == 1, label_map() > 0], -1)
    write_slicer(path, layers, [("a", 1, 0), ("b", 1, 1)])


def label_tables(_: Path) -> Reader:
    """A sound mask with a damaged table beside it, or in its header."""
    tables = ('1 255 0 0 1 1 1 "a"\n2 0 255 0 1 1 1 "b"\n', "index\tname\n1\ta\n2\tb\n", "1 a 0 0 0 0\n2 b 1 1 1\n")
    xml = b'<CaretExtension><LabelTable><Label Key="1">a</Label><Label Key="2">b</Label></LabelTable></CaretExtension>'
    ends = st.sampled_from(["labels.txt", "mask.tsv", "dseg.tsv", "labels.ctbl"])
    examples = st.tuples(ends, st.sampled_from(tables).flatmap(lambda text: damage(text.encode())), damage(xml))

    def read(example: tuple[str, bytes, bytes], work: Path) -> str | None:
        name, table, header = example
        folder = Path(tempfile.mkdtemp(dir=work))
        (folder / name).write_bytes(table)
        image = nib.Nifti1Image(label_map(), np.eye(4))
        image.header.extensions.append(nib.nifti1.Nifti1Extension(0, header))
        nib.save(image, folder / "mask.nii")
        return refusal(lambda: load_case(SCHEME, 3, ["label"])({"label": folder / "mask.nii"}))

    return Reader(examples, read)


def npz(_: Path) -> Reader:
    """The probabilities beside a mask, and the arrays of a model."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, probabilities=np.full((3, *SHAPE[::-1]), 1 / 3, np.float16))
    plain = io.BytesIO()
    np.savez(plain, probabilities=np.full((3, *SHAPE[::-1]), 1 / 3, np.float16))

    def read(path: Path) -> str | None:
        first = refusal(lambda: read_probabilities(path, 3, SHAPE))
        second = refusal(lambda: load_arrays(path))
        return first or second

    return _files(damage(buffer.getvalue()) | damage(plain.getvalue()), "mask.npz", read)


def journal(folder: Path) -> Reader:
    path = folder.parent / "record.npz"
    row = {"case": "a", "levels": np.zeros((3, 3)), "parts": (1, 2.5, None), "named": {"x": [np.float64(1)]}}
    save_record(path, {"identity": {"version": "1"}, "row": row})
    return _files(damage(path.read_bytes()), "record.npz", lambda path: refusal(lambda: load_record(path)))


_PLAIN = st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=8)
_JSON = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_NAMES = st.sampled_from(["background", "a", "b", "ignore", "0", "1", "", "ü"]) | st.text(max_size=6)
_VALUES = st.integers(-2, 6) | st.lists(st.integers(-1, 5), max_size=4) | _PLAIN


def dataset_json(_: Path) -> Reader:
    fields = st.fixed_dictionaries(
        {"labels": st.dictionaries(_NAMES, _VALUES, max_size=5) | _JSON},
        optional={
            "regions_class_order": st.lists(st.integers(-1, 5), max_size=4) | _JSON,
            "file_ending": st.sampled_from([".nii.gz", ".png", "png"]) | _JSON,
            "channel_names": _JSON,
            "dataset": _JSON,
        },
    )
    content = (fields | _JSON).map(lambda value: json.dumps(value).encode()) | damage(
        json.dumps({"labels": {"background": 0, "a": 1, "whole": [1, 2]}, "regions_class_order": [1, 2]}).encode()
    )

    def read(path: Path) -> str | None:
        found = [
            refusal(lambda: read_label_scheme(path.parent)),
            refusal(lambda: preferred_ending(path.parent)),
            refusal(lambda: check_same_labels(path.parent, SCHEME)),
        ]
        return next((message for message in found if message), None)

    return _files(content, "dataset.json", read)


def images(_: Path) -> Reader:
    content = nib.Nifti1Image(label_map().astype(np.float32), np.eye(4)).to_bytes()
    packed = patches(348).map(lambda changes: patched(content, changes))
    return _files(packed, "a_0000.nii", lambda p: refusal(lambda: LoadMapsd(["image"], 3).load([p], is_image=True)))


CONFIG = bundle_root("segmentation_qc") / "configs" / "train.yaml"

OPTIONS = (
    "dataset_dir", "labels_dir", "exclude_cases", "patients", "model_dir", "spatial_dims", "condition_on_image",
    "max_voxels", "noise", "loss", "anomaly_score", "epochs", "max_minutes", "steps_per_epoch", "batch_size",
    "learning_rate", "patience", "resume", "seed", "num_workers", "device", "amp", "chunk_size",
)  # fmt: skip

# Text without the signs by which a config marks code: whoever writes an override may run code by right.
_WORDS = st.text(st.characters(blacklist_characters="$@%#\0", blacklist_categories=("Cs",)), max_size=8)
_SETTINGS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([2**31, 2**63, -(2**63)]),
    st.floats(),
    _WORDS,
    st.lists(st.integers(-2, 5) | _WORDS, max_size=3),
    st.dictionaries(
        st.sampled_from(["name", "num_levels", "beta_min", "beta_max"]) | _WORDS,
        st.integers(-2, 5) | st.floats() | _WORDS,
        max_size=3,
    ),
)


def overrides(folder: Path) -> Reader:
    """Up to three settings of train.yaml with random values, and random command lines of monai.bundle."""
    values = st.dictionaries(st.sampled_from(OPTIONS), _SETTINGS, min_size=1, max_size=3)
    names = st.sampled_from([*OPTIONS, "epocs", "train::trainer", "validate::dataset::x", "fit"]) | _WORDS
    lines = st.lists(st.tuples(names, _WORDS).map(lambda pair: f"--{pair[0]}={pair[1]}"), max_size=3)

    def read(example: Any, work: Path) -> str | None:
        if isinstance(example, list):
            return refusal(lambda: check_overrides(["run", "--config_file", str(CONFIG), *example]))
        settings = {**TINY, "dataset_dir": str(folder), "model_dir": str(work / "model"), **example}
        return refusal(
            ConfigWorkflow(config_file=str(CONFIG), workflow_type="train", logging_file=False, **settings).initialize
        )

    return Reader(values | lines, read)


READERS: dict[str, Callable[[Path], Reader]] = {
    "NIfTI headers": nifti_header,
    "NIfTI bodies": nifti_body,
    "NIfTI images": images,
    "MetaImage files": itk(".mha"),
    "NRRD files": itk(".nrrd"),
    "PNG files": itk(".png"),
    "FreeSurfer files": other_format(".mgz", lambda path: nib.save(nib.MGHImage(label_map(), np.eye(4)), path)),
    "TIFF stacks": other_format(".tif", lambda path: tifffile.imwrite(path, data=label_map()[:3], compression="zlib")),
    "segmentations of 3D Slicer": other_format(".seg.nrrd", _write_segments),
    "tables of labels": label_tables,
    "npz files": npz,
    "files of the journal": journal,
    "dataset.json": dataset_json,
    "config overrides": overrides,
}
