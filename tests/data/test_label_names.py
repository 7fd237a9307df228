"""What numbers are called where no dataset.json says it, and that a mask in another numbering is no other mask."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from gnsm_monai.data.class_index import scheme_values
from gnsm_monai.data.constants import LABEL_NAMES
from gnsm_monai.data.datalist import find_predictions
from gnsm_monai.data.label_names import freesurfer_names, name_key, names_in_xml, usable_names
from gnsm_monai.data.loading import LoadMapsd
from gnsm_monai.data.nnunet import LabelScheme
from gnsm_monai.data.references import read_references
from gnsm_monai.data.transforms import load_case
from gnsm_monai.errors import InputError
from gnsm_monai.report.colours import itk_snap_labels, slicer_colours
from tests.data.test_formats import write_slicer
from tests.reading import scoring_dataset

NAMES = {1: "spleen", 2: "kidney_right", 3: "liver"}
SCHEME = LabelScheme(("liver", "Right Kidney", "spleen"), (0, 1, 2, 5))
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "totalsegmentator" / "example_seg_fast.nii.gz"


def anatomy() -> np.ndarray:
    label = np.zeros((8, 9, 10), np.uint8)
    label[1:4, 2:5, 3:8], label[5:7, 2:6, 2:5], label[5:7, 2:6, 6:9] = 1, 2, 3
    return label


def table_of(names: dict[int, str]) -> bytes:
    """The header extension that TotalSegmentator writes."""
    rows = "".join(
        f'<Label Key="{n}" Red="1.0" Green="0.5" Blue="0.0" Alpha="1"><![CDATA[{name}]]></Label>\n'
        for n, name in names.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  <Date><![CDATA[2013-07-14T05:45:09]]></Date>   '
        f'<VolumeInformation Index="0">   <LabelTable>\n{rows}  </LabelTable>  <StudyMetaDataLinkSet>  '
        "</StudyMetaDataLinkSet>  <VolumeType><![CDATA[Label]]></VolumeType>   </VolumeInformation></CaretExtension>\n"
    ).encode()


def save(path: Path, label: np.ndarray, names: dict[int, str] | None = None, code: int = 0) -> Path:
    image = nib.Nifti1Image(label, np.diag([2.0, 2, 3, 1]))
    if names is not None:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, table_of(names)))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def names_of(path: Path) -> Any:
    return LoadMapsd("label", 3)({"label": path})["label"].meta.get(LABEL_NAMES)


@pytest.mark.parametrize("code", [0, 30])
def test_the_label_table_in_a_nifti_header_is_read(tmp_path: Path, code: int) -> None:
    assert names_of(save(tmp_path / "a.nii.gz", anatomy(), NAMES, code)) == NAMES
    assert names_of(save(tmp_path / "b.nii.gz", anatomy())) is None


@pytest.mark.data
@pytest.mark.skipif(not SHARED.is_file(), reason=f"{SHARED}: the shared data are not here")
def test_an_output_of_totalsegmentator_names_117_structures() -> None:
    names = names_of(SHARED)
    assert len(names) == 117 and (names[1], names[5], names[117]) == ("spleen", "liver", "costal_cartilages")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"<CaretExtension><LabelTable>",
        table_of(NAMES).replace(b'"2"', b'"two"'),
        b"<a><LabelTable/></a>",
        b'<!DOCTYPE a [<!ENTITY b "bbbb">]>'
        + table_of({1: "&b;"}).partition(b"?>")[2].replace(b"<![CDATA[&b;]]>", b"&b;"),
    ],
)
def test_a_strange_extension_names_nothing(content: bytes) -> None:
    assert names_in_xml(content) == {}


def as_tsv(names: dict[int, str]) -> str:
    return "index\tname\tcolor\n" + "".join(f"{n}\t{name}\t#ff0000\n" for n, name in names.items())


def as_freesurfer(names: dict[int, str]) -> str:
    rows = "".join(f"{n:<4}{name:<40}70 130 180 0\n" for n, name in names.items())
    return f"#$Id: FreeSurferColorLUT.txt\n#No. Label Name:   R   G   B   A\n\n0   Unknown   0 0 0 0\n{rows}"


TABLES = {
    "labels.label.txt": lambda names: itk_snap_labels(LabelScheme(tuple(names.values()), (0, *names))),
    "labels.ctbl": lambda names: slicer_colours(LabelScheme(tuple(names.values()), (0, *names))),
    "LUT.txt": as_freesurfer,
    "atlas.tsv": as_tsv,
    "a.tsv": as_tsv,
}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_beside_the_maps_names_their_numbers(tmp_path: Path, table: str) -> None:
    path = save(tmp_path / "a.nii.gz", anatomy())
    (tmp_path / "notes.txt").write_text("seen by two readers\n")
    (tmp_path / table).write_text(TABLES[table](NAMES))
    assert names_of(path) == NAMES


COLOURED = {
    "snap.txt": '    1   255   0   51        1  1  1    "spleen"\n    3   0 128 255 1 1 1 "liver"\n',
    "slicer.ctbl": "# a colour table\n1 spleen 255 0 51 255\n2 kidney_right 0 0 0 255\n3 liver 0 128 255 255\n",
    "LUT.ctab": "1  spleen  255 0 51 0\n3  liver  0 128 255 0\n",
    "a.tsv": "index\tname\tcolor\n1\tspleen\t#FF0033\n2\tkidney_right\tred\n3\tliver\t#0080ff\n",
}


@pytest.mark.parametrize("table", COLOURED)
def test_the_colours_of_a_table_go_with_its_names(tmp_path: Path, table: str) -> None:
    """Black, which no picture shows, and what is no colour are left to the report."""
    (tmp_path / table).write_text(COLOURED[table])
    assert names_of(save(tmp_path / "a.nii.gz", anatomy())).colours == {1: "#ff0033", 3: "#0080ff"}


@pytest.mark.data
@pytest.mark.skipif(not SHARED.is_file(), reason=f"{SHARED}: the shared data are not here")
def test_totalsegmentators_colours_are_read() -> None:
    assert {n: names_of(SHARED).colours[n] for n in (1, 4, 6)} == {1: "#00ff00", 4: "#ff00ff", 6: "#ff8000"}


def test_structures_keep_the_colours_that_slicer_gave_them_whatever_their_numbers(tmp_path: Path) -> None:
    """A file numbers its segments anew; colours go by name into the model, the report and the tables for viewers."""
    colours = {"liver": "0.8 0.2 0", "spleen": "0 0.4 1"}
    for i in range(8):
        order = [1, 2] if i % 2 else [2, 1]
        path = write_slicer(
            tmp_path / f"case_{i}.seg.nrrd",
            np.array([0, *order, 3])[anatomy()],
            [*((name, value, 0) for name, value in zip(colours, order, strict=True)), ("heart", 3, 0)],
        )
        header, _, voxels = path.read_bytes().partition(b"\n\n")
        header += "".join(f"\nSegment{k}_Color:={c}" for k, c in enumerate(colours.values())).encode()
        path.write_bytes(header + b"\n\n" + voxels)
    scheme = read_references(tmp_path, bare=True).scheme
    assert set(zip(scheme.names, scheme.colours, strict=True)) == {
        ("liver", "#cc3300"), ("spleen", "#0066ff"), ("heart", ""),
    }  # fmt: skip
    assert LabelScheme.from_dict(json.loads(json.dumps(scheme.to_dict()))) == scheme
    rows = {row[1]: row[2:5] for row in map(str.split, slicer_colours(scheme).splitlines()[1:])}
    assert (rows["liver"], rows["spleen"]) == (["204", "51", "0"], ["0", "102", "255"])


def test_tables_that_disagree_name_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", anatomy())
    (tmp_path / "x.tsv").write_text(as_tsv(NAMES))
    (tmp_path / "y.ctbl").write_text(TABLES["labels.ctbl"](NAMES))
    assert names_of(path) == NAMES
    (tmp_path / "y.ctbl").write_text(TABLES["labels.ctbl"]({1: "liver", 2: "spleen"}))
    (tmp_path / "z.txt").write_text("")  # changes the time of the folder
    assert names_of(path) is None


def test_bids_tables_apply_to_what_lies_below_with_their_entities(tmp_path: Path) -> None:
    path = save(tmp_path / "sub-1" / "anat" / "sub-1_space-T1w_desc-aseg_dseg.nii.gz", anatomy())
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "desc-aparcaseg_dseg.tsv").write_text(as_tsv({1: "other"}))
    (tmp_path.parent / "dseg.tsv").write_text(as_tsv({1: "of another data set"}))
    assert names_of(path) is None
    (tmp_path / "desc-aseg_dseg.tsv").write_text(as_tsv(NAMES))
    assert names_of(path) == NAMES
    (tmp_path.parent / "dseg.tsv").unlink()


def test_a_dataset_json_is_trusted_more_than_a_header(tmp_path: Path) -> None:
    for folder, place in (("masks", "masks"), ("raw/labelsTr", "raw")):
        path = save(tmp_path / folder / "a.nii.gz", anatomy(), NAMES)
        assert names_of(path) == NAMES
        (tmp_path / place / "dataset.json").write_text("{}")
        assert names_of(path) is None


def test_freesurfers_numbers_have_names_in_its_format_only(tmp_path: Path) -> None:
    numbers = np.array([0, 2, 17, 53, 251, 1035, 2012])
    for name in ("a.mgz", "b.nii.gz"):
        image = (nib.MGHImage if name == "a.mgz" else nib.Nifti1Image)(
            np.resize(numbers, (4, 4, 4)).astype(np.int32), np.eye(4)
        )
        nib.save(image, tmp_path / name)
    assert names_of(tmp_path / "b.nii.gz") is None
    names = names_of(tmp_path / "a.mgz")
    expected = "Left-Cerebral-White-Matter Left-Hippocampus Right-Hippocampus CC_Posterior ctx-lh-insula"
    assert [names[n] for n in (2, 17, 53, 251, 1035)] == expected.split()
    assert names[2012] == "ctx-rh-lateralorbitofrontal"
    assert freesurfer_names({0, 1, 2}) == {}  # numbers of a scheme of its own


def test_names_that_only_repeat_a_number_are_none() -> None:
    assert usable_names({0: "Clear Label", 1: "Segment_1", 2: "Label 2", 3: "3", 4: "", 5: "liver"}) == {5: "liver"}
    assert usable_names({1: "liver", 2: "Liver"}) == {}
    assert name_key("Left-Kidney") == name_key("kidney_left ") != name_key("kidney_right")


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ([0, 1, 2, 3], NAMES, [0, 5, 2, 1]),
        ([0, 1, 2], NAMES, [0, 5, 2]),  # the liver is missing
        ([0, 1], {1: "spleen"}, [0, 5]),  # and its header names what there is
        ([0, 1, 2, 3, 7], {**NAMES, 7: "heart"}, [0, 5, 2, 1, 0]),  # of which the model knows nothing
        ([0, 5, 1], {5: "spleen", 1: "Liver"}, [0, 5, 1]),
        ([0, 1, 2, 5], {1: "Leber", 2: "Niere", 5: "Milz"}, [0, 1, 2, 5]),
        ([0, 1, 9], {1: "liver"}, [0, 1, 9]),  # undeclared: refused where classes are assigned
    ],
)
def test_numbers_are_matched_by_names(values: list[int], names: dict[int, str], expected: list[int]) -> None:
    found = scheme_values(np.array(values), names, SCHEME, "a.nii.gz")
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([0, 1, 2], {1: "liver", 2: "spleen tumour"}, "label 2 is 'spleen tumour' in its header and 'Right Kidney' in"),
        ([0, 1, 4], {1: "spleen"}, "label 4 is without a name in its header and unknown in the model"),
        ([0, 1, 2], {1: "spleen"}, "label 2 is without a name in its header and 'Right Kidney' in the model"),
    ],
)
def test_a_number_that_may_mean_another_structure_is_refused(
    values: list[int], names: dict[int, str], message: str
) -> None:
    with pytest.raises(InputError, match=rf"^a\.nii\.gz: {message}.*a dataset\.json beside the masks"):
        scheme_values(np.array(values), names, SCHEME, "a.nii.gz")


def test_schemes_without_names_of_their_own_leave_numbers_alone() -> None:
    values = np.array([0, 1, 2, 3])
    for scheme in (LabelScheme.from_values((1, 2, 3)), LabelScheme(("liver", "Liver"), (0, 1, 2))):
        assert scheme_values(values, NAMES, scheme, "a") is values


@pytest.fixture
def write_case() -> Callable[[Path, str], Path]:
    """The same anatomy as the model numbers it (``model``), or in a numbering of its own that its header tells."""
    by_name = np.array([0, 3, 2, 1])[anatomy()]  # 1 spleen, 2 kidney, 3 liver in place of 1 liver, 2 kidney, 5 spleen

    def write(folder: Path, kind: str) -> Path:
        folder.mkdir(exist_ok=True)
        if kind == "model":
            return save(folder / "a.nii.gz", np.array([0, 1, 2, 5], np.uint8)[anatomy()])
        if kind == "nifti":
            return save(folder / "a.nii.gz", by_name.astype(np.uint8), NAMES)
        if kind == "itk-snap":
            (folder / "labels.txt").write_text(TABLES["labels.label.txt"](NAMES))
            return save(folder / "a.nii.gz", by_name.astype(np.uint8))
        layers = np.stack([by_name == n for n in NAMES], -1)[::-1, ::-1].copy()  # Slicer stores LPS
        path = write_slicer(folder / "a.seg.nrrd", layers, [(name, 1, n - 1) for n, name in NAMES.items()])
        header = b"(2,0,0) (0,2,0) (0,0,3)"
        path.write_bytes(path.read_bytes().replace(b"(1.5,0,0) (0,2,0) (0,0,3)", header))
        return path

    return write


@pytest.mark.parametrize("kind", ["nifti", "itk-snap", "slicer"])
def test_a_mask_in_another_numbering_is_scored_as_the_same_mask(
    tmp_path: Path, write_case: Callable[[Path, str], Path], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {
        "labels": SCHEME.to_dict(),
        "spatial_dims": 3,
        "network": {"image_channels": 0},
        "voxel_size": [2.0, 2.0, 3.0],
        "spatial_size": [8, 16, 16],
    }
    paths = [write_case(tmp_path / name, name) for name in ("model", kind)]
    cases = scoring_dataset([{"case": "a", "label": path} for path in paths], settings)
    np.testing.assert_array_equal(cases[1]["label"].numpy(), cases[0]["label"].numpy())
    assert LABEL_NAMES not in cases[1]["label"].meta and "note" not in cases[0]
    assert cases[1]["note"] == "its labels are matched to those of the model by their names"
    assert f"{tmp_path / kind}: labels are matched to those of the model by their names: " in caplog.text
    assert "spleen 1 -> 5" in caplog.text


def test_a_numbering_that_cases_in_folders_of_their_own_share_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        (tmp_path / f"c{n}").mkdir()
        label = np.minimum(anatomy(), 2)
        write_slicer(tmp_path / f"c{n}" / "seg.seg.nrrd", label, [("kidney_right", 1, 0), ("spleen", 2, 0)])
    for _ in range(2):  # the second time as another ranking in the same program
        caplog.clear()
        for case in find_predictions(tmp_path):
            load_case(LabelScheme(("spleen", "kidney_right"), (0, 1, 2)), 3)(case)
        assert caplog.text.count("labels are matched") == 1


def test_a_case_whose_segments_overlap_says_so(tmp_path: Path) -> None:
    layers = np.stack([anatomy() > 0, anatomy() == 2], -1)
    path = write_slicer(tmp_path / "a.seg.nrrd", layers, [("liver", 1, 0), ("spleen", 1, 1)])
    settings = {
        "labels": LabelScheme(("liver", "spleen"), (0, 1, 2)).to_dict(), "spatial_dims": 3,
        "network": {"image_channels": 0}, "voxel_size": [1.5, 2.0, 3.0], "spatial_size": [8, 16, 16],
    }  # fmt: skip
    (case,) = scoring_dataset([{"case": "a", "label": path}], settings)
    assert case["note"].startswith(f"segments overlap in {(anatomy() == 2).sum()} voxels: ")
    assert (case["label"] == 2).sum() == (anatomy() == 2).sum()


def test_a_bare_folder_is_trained_on_with_the_names_of_its_headers(tmp_path: Path) -> None:
    for i in range(8):
        save(tmp_path / f"case_{i}.nii.gz", np.roll(anatomy(), i % 2, 0), {**NAMES, 44: "heart"})
    references = read_references(tmp_path, bare=True)
    assert (references.scheme.names, references.scheme.values) == (("spleen", "kidney_right", "liver"), (0, 1, 2, 3))


def test_slicers_numbers_that_differ_from_file_to_file_become_one_numbering(tmp_path: Path) -> None:
    names = ("liver", "spleen", "heart")
    for i in range(8):
        order = np.roll([1, 2, 3], i)  # value of each structure in this file
        path = tmp_path / "bare" / f"case_{i}.seg.nrrd"
        path.parent.mkdir(exist_ok=True)
        write_slicer(
            path, np.array([0, *order])[anatomy()], [(n, int(v), 0) for n, v in zip(names, order, strict=True)]
        )
        same = np.array([0, 1, 2, 3])[anatomy()]
        write_slicer(tmp_path / f"case_{i}.seg.nrrd", same, [(n, v, 0) for v, n in enumerate(names, start=1)])
    found, expected = read_references(tmp_path / "bare", bare=True), read_references(tmp_path, bare=True)
    assert (found.scheme, found.spatial_size) == (expected.scheme, expected.spatial_size)
    assert found.scheme.names == names and found.flip_axes == expected.flip_axes
    for case in found.cases:
        np.testing.assert_array_equal(
            found.stored.label(case).numpy(), expected.stored.label({"case": case["case"]}).numpy()
        )


def test_a_number_without_a_name_is_refused_where_numbers_differ(tmp_path: Path) -> None:
    for i in range(8):
        names = {1: "liver", 2: "spleen"} if i else {1: "spleen", 2: "liver"}
        save(tmp_path / f"case_{i}.nii.gz", anatomy(), names)
    with pytest.raises(InputError, match=r"case_0\.nii\.gz: label 3 has no name, and the files number"):
        read_references(tmp_path, bare=True)


def test_names_of_a_dataset_json_stand_against_those_of_headers(tmp_path: Path) -> None:
    for i in range(8):
        save(tmp_path / "labelsTr" / f"case_{i}.nii.gz", anatomy(), {1: "b", 2: "a", 3: "c"})
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1, "b": 2, "c": 3}}))
    references = read_references(tmp_path)
    assert references.scheme.names == ("a", "b", "c")
    label = references.stored.label(references.cases[0]).numpy()
    assert (label == 1).sum() == (anatomy() == 1).sum() != (anatomy() == 2).sum()
