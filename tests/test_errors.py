"""A user's mistake ends in one line and exit code 2, a defect in a traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gnsm_monai.errors import InputError, exit_on_input_error

BUNDLE = """
imports:
  - $from gnsm_monai.overrides import check_overrides_or_exit
epochs: 1
initialize:
  - $check_overrides_or_exit()
run:
  - $print('trained for', @epochs)
"""


def refuse(message: str = "labels.txt: is empty") -> None:
    raise InputError(message)


def test_decorated_function_exits_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        exit_on_input_error()(refuse)()
    assert exit_info.value.code == 2
    assert capsys.readouterr() == ("", "error: labels.txt: is empty\n")


def test_context_exits_with_one_line_for_a_message_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), exit_on_input_error():
        refuse("labels.txt:\nis empty")
    assert capsys.readouterr().err == "error: labels.txt: is empty\n"


def test_decorated_function_can_be_called_again_and_returns_its_value() -> None:
    double = exit_on_input_error()(lambda x: 2 * x)
    assert [double(1), double(2)] == [2, 4]


def test_input_error_that_monai_wrapped_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info, exit_on_input_error():
        try:
            refuse()
        except InputError as error:
            raise RuntimeError("Failed to evaluate ConfigExpression") from error
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == "error: labels.txt: is empty\n"


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(ValueError, match="a defect"), exit_on_input_error():
        raise ValueError("a defect")


def run_bundle(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.yaml").write_text(BUNDLE)
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(folder / "train.yaml"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_bundle_refuses_a_misspelt_override_without_traceback(tmp_path: Path) -> None:
    result = run_bundle(tmp_path, "--epocs", "5")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "error: unknown option --epocs: did you mean --epochs?"
    assert "Traceback" not in result.stderr
    assert "trained" not in result.stdout


def test_bundle_runs_with_a_known_override(tmp_path: Path) -> None:
    result = run_bundle(tmp_path, "--epochs", "5")
    assert result.returncode == 0, result.stderr
    assert "trained for 5" in result.stdout


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_no_more_is_no_defect(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info, exit_on_input_error():
        try:
            raise OSError(number, "no room", "out/ranking.csv")
        except OSError as error:
            raise RuntimeError("Failed to evaluate ConfigExpression") from error
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == "error: out/ranking.csv: no room\n"


def test_a_full_disk_that_does_not_say_where_is_told_without_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), exit_on_input_error():
        raise OSError(errno.ENOSPC, "no room")
    assert capsys.readouterr().err == "error: no room\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_meets_a_full_disk_prints_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda found: told.append(found.exc_type))

    def fail(error: Exception) -> None:
        raise error

    with exit_on_input_error():
        for error in (OSError(errno.ENOSPC, "no room"), ValueError("a defect")):
            thread = threading.Thread(target=fail, args=(error,))
            thread.start()
            thread.join()
    assert told == [ValueError]


def test_other_errors_of_the_system_keep_their_traceback() -> None:
    with pytest.raises(OSError, match="pipe"), exit_on_input_error():
        raise OSError(errno.EPIPE, "broken pipe")
