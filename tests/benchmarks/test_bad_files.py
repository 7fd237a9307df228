from __future__ import annotations

import bad_files
import pytest

from gnsm_monai import workflow
from tests.reading import scoring_dataset
from tests.test_inputs import AFFINE, SETTINGS, anatomy, save


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    folder = tmp_path_factory.mktemp("masks")
    save(folder / "good.nii.gz", anatomy())
    bad_files.add_bad_files(folder, (anatomy(), AFFINE, 3))
    cases = workflow.predictions(str(folder), None, None, SETTINGS)
    dataset = scoring_dataset(cases, SETTINGS)
    return {case["case"]: dataset[number].get("message") for number, case in enumerate(cases)}  # type: ignore[index]


def test_there_are_seventeen_kinds_and_a_case_of_each(messages: dict[str, str | None]) -> None:
    assert len(bad_files.BAD) == 17
    assert set(messages) == {"good", *map(bad_files.case_of, bad_files.BAD)}
    assert messages["good"] is None


@pytest.mark.parametrize("kind", bad_files.BAD)
def test_the_message_of_a_bad_file_names_it_and_the_reason(messages: dict[str, str | None], kind: str) -> None:
    message = messages[bad_files.case_of(kind)]
    assert message is not None and bad_files.case_of(kind) in message and bad_files.BAD[kind][2] in message
