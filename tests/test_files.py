"""Files that are whole or not there, and tables that other programs read."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnsm_monai import files
from gnsm_monai.errors import InputError
from gnsm_monai.files import (
    load_arrays,
    load_json,
    one_line_of,
    save_arrays,
    save_json,
    save_table,
    sha256,
    write_atomically,
)


def fail(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


class _FullDisk(io.BytesIO):
    write = fail  # type: ignore[assignment]


class TestWriteAtomically:
    def test_folders_are_made_and_content_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b.txt"
        for content in (b"first", b"second"):
            write_atomically(path, content)
            assert path.read_bytes() == content
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("broken", ["replace", "fdopen", "chmod"])
    def test_a_failure_leaves_the_old_file_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
    ) -> None:
        path = tmp_path / "a.txt"
        write_atomically(path, b"old")
        monkeypatch.setattr(os, broken, fail)
        with pytest.raises(OSError, match="no space left"):
            write_atomically(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_full_disk_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.txt"
        write_atomically(path, b"old")

        def on_full_disk(handle: int, mode: str) -> io.BytesIO:
            os.close(handle)
            return _FullDisk()

        monkeypatch.setattr(os, "fdopen", on_full_disk)
        with pytest.raises(OSError, match="no space left") as caught:
            write_atomically(path, b"new")
        assert caught.value.filename == str(path)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_name_may_be_as_long_as_names_may_be(self, tmp_path: Path) -> None:
        for letter in ("x", "ä"):
            name = letter * (248 // len(letter.encode())) + ".nii.gz"
            write_atomically(tmp_path / name, b"map")
            assert (tmp_path / name).read_bytes() == b"map"

    def test_others_may_read_whatever_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            write_atomically(tmp_path / "a.txt", b"")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


class TestJson:
    def test_content_comes_back(self, tmp_path: Path) -> None:
        save_json(tmp_path / "a.json", {"a": [1, None, "ä"]})
        assert load_json(tmp_path / "a.json") == {"a": [1, None, "ä"]}

    @pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b"[1]", b"[" * 200_000])
    def test_a_missing_or_broken_file_is_named(self, tmp_path: Path, content: bytes | None) -> None:
        path = tmp_path / "a.json"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=rf"^{path}: ") as caught:
            load_json(path)
        assert "\n" not in str(caught.value)


class TestArrays:
    def test_arrays_come_back(self, tmp_path: Path) -> None:
        arrays = {"a": np.arange(6.0).reshape(2, 3), "names": np.array(["x", "yz"]), "empty": np.zeros((0, 3))}
        save_arrays(tmp_path / "a.npz", arrays)
        found = load_arrays(tmp_path / "a.npz")
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)

    def test_objects_are_neither_written_nor_read(self, tmp_path: Path) -> None:
        objects = np.array([{"a": 1}], dtype=object)
        with pytest.raises(ValueError, match="Object arrays cannot be saved"):
            save_arrays(tmp_path / "a.npz", {"a": objects})
        assert not list(tmp_path.iterdir())
        np.savez(tmp_path / "b.npz", a=objects)
        with pytest.raises(InputError, match=r"b\.npz: cannot be read: Object arrays cannot be loaded"):
            load_arrays(tmp_path / "b.npz")

    def test_a_pickle_is_not_read(self, tmp_path: Path) -> None:
        np.array([{"a": 1}], dtype=object).dump(tmp_path / "a.npz")
        with pytest.raises(InputError, match=r"a\.npz: cannot be read: "):
            load_arrays(tmp_path / "a.npz")

    def test_a_lone_array_is_refused(self, tmp_path: Path) -> None:
        with open(tmp_path / "a.npz", "wb") as file:
            np.save(file, np.zeros(3))
        with pytest.raises(InputError, match=r"a\.npz: cannot be read: "):
            load_arrays(tmp_path / "a.npz")

    def test_damage_anywhere_is_an_input_error(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        array = np.random.default_rng(0).random(200)
        save_arrays(path, {"a": array})
        content = path.read_bytes()
        for length in (0, 10, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(InputError, match=r"a\.npz: cannot be read: "):
                load_arrays(path)
        for place in range(60, len(content) - 120, 97):  # inside the compressed data
            path.write_bytes(content[:place] + b"\xff\x00\xff\x00" + content[place + 4 :])
            with pytest.raises(InputError, match=r"a\.npz: cannot be read: "):
                load_arrays(path)

    def test_what_a_header_claims_is_checked_before_memory_is_set_aside(self, tmp_path: Path) -> None:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("a.npy", "w") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(800))
        with pytest.raises(InputError, match=r"a\.npz: .*does not hold the values that its header claims"):
            load_arrays(tmp_path / "a.npz")

    def test_a_zip_bomb_is_not_unpacked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save_arrays(tmp_path / "a.npz", {"a": np.zeros(1000), "b": np.zeros(1000)})
        monkeypatch.setattr(files, "MAX_UNPACKED", 16_000)
        with pytest.raises(InputError, match=r"a\.npz: cannot be read: it unpacks to 16\d\d\d bytes"):
            load_arrays(tmp_path / "a.npz")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"a\.npz: cannot be read: "):
            load_arrays(tmp_path / "a.npz")


class TestTable:
    def cells(self, tmp_path: Path, *values: Any) -> list[str]:
        path = tmp_path / "a.csv"
        save_table(path, [str(i) for i in range(len(values))], [{str(i): v for i, v in enumerate(values)}])
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.reader(file))[1]

    def test_columns_are_in_order_and_gaps_empty(self, tmp_path: Path) -> None:
        save_table(tmp_path / "a.csv", ["b", "a"], [{"a": 1, "c": 5}, {"b": 2}])
        assert (tmp_path / "a.csv").read_text() == "b,a\n,1\n2,\n"

    def test_nothing_and_nan_are_empty(self, tmp_path: Path) -> None:
        assert self.cells(tmp_path, None, float("nan"), np.float64("nan"), np.float32("nan"), "") == [""] * 5

    def test_floats_keep_nine_digits(self, tmp_path: Path) -> None:
        values = (1 / 3, np.float64(2e-12) / 3, np.float32(0.5), -12345678.9, 1.0, float("inf"))
        expected = ["0.333333333", "6.66666667e-13", "0.5", "-12345678.9", "1", "inf"]
        assert self.cells(tmp_path, *values) == expected

    def test_whole_numbers_and_truth_values_are_written_out(self, tmp_path: Path) -> None:
        assert self.cells(tmp_path, 12345678901, -3, np.int64(-4), True) == ["12345678901", "-3", "-4", "True"]

    @pytest.mark.parametrize("text", ["a,b", 'say "so"', "two\nlines", " space ", "ä"])
    def test_any_text_comes_back(self, tmp_path: Path, text: str) -> None:
        assert self.cells(tmp_path, text, "next") == [text, "next"]

    def test_a_carriage_return_does_not_tear_the_row(self, tmp_path: Path) -> None:
        assert self.cells(tmp_path, "two\rlines", "two\r\nlines", "next") == ["two\nlines", "two\nlines", "next"]

    @pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\t=1", "\n=1"])
    def test_text_that_a_spreadsheet_would_run_is_quoted(self, tmp_path: Path, text: str) -> None:
        assert self.cells(tmp_path, text) == [f"'{text}"]
        assert self.cells(tmp_path, f"a{text}") == [f"a{text}"]

    def test_a_file_name_that_is_no_text_does_not_cost_the_table(self, tmp_path: Path) -> None:
        assert self.cells(tmp_path, os.fsdecode(b"a\xff")) == ["a\\udcff"]


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_what_a_library_says_is_one_line_and_not_too_long() -> None:
    assert one_line_of(ValueError("bad\n  header")) == "bad header"
    assert one_line_of(KeyError()) == "KeyError"
    assert len(one_line_of(ValueError("\x00" * 5000))) < 320
