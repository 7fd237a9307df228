"""Files are written whole or not at all: a reader never meets half a result, even if the writer was killed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from gnsm_monai.errors import InputError

__all__ = [
    "FORMULA_SIGNS", "check_folder", "file_identity", "load_arrays", "load_json", "one_line", "one_line_of",
    "read_npy_header",
    "save_arrays", "save_json", "save_table", "sha256", "write_atomically",
]  # fmt: skip

MAX_UNPACKED = 1 << 30
"""Bytes of all arrays of a file together."""

LONGEST = 300
"""Most characters of another library's message that are shown."""

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\n")


def check_folder(path: str | Path, problem: str = "") -> None:
    """Raises InputError where a path is no folder; ``problem`` is what this means for the user."""
    if not Path(path).is_dir():
        reason = "is a file, not a folder" if Path(path).exists() else "no such folder"
        raise InputError(f"{path}: {problem}: {reason}" if problem else f"{path}: {reason}")


def write_atomically(path: str | Path, content: bytes) -> None:
    """Writes ``content`` to a temporary file beside ``path``, then renames it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Part of the name: with the whole of a long one, the temporary name would be longer than a name may be.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide results from the rest of a lab
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and not error.filename:
            error.filename = str(path)  # which a full disk does not tell
        raise


def save_json(path: str | Path, content: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def load_json(path: str | Path, content: bytes | None = None) -> dict[str, Any]:
    """The object in a JSON file; ``content`` is that of the file, where it was read before.

    Raises:
        InputError: the file is missing or is no JSON object.
    """
    try:
        value = json.loads((Path(path).read_bytes() if content is None else content).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # the last where it is nested too deep
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: a JSON object is needed, found {type(value).__name__}")
    return value


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Writes an npz file and returns its checksum, as :func:`sha256` does."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(path, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def load_arrays(path: str | Path, content: bytes | None = None) -> dict[str, np.ndarray]:
    """Arrays of an npz file. Nothing is unpickled, and headers that claim more than the file holds are refused.

    Args:
        path: of the file.
        content: what the file holds, where it was read before.

    Raises:
        InputError: missing, damaged, or unpacked larger than a model's arrays and a case's results ever are.
    """
    try:
        with zipfile.ZipFile(path if content is None else io.BytesIO(content)) as archive:
            total = sum(member.file_size for member in archive.infolist())
            if total > MAX_UNPACKED:
                raise ValueError(f"it unpacks to {total} bytes, and {MAX_UNPACKED} are the most that can be read")
            for member in archive.infolist():
                _check_claim(archive, member)
        with np.load(path if content is None else io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # what is damaged, or made to do harm, raises errors of many kinds
        raise InputError(f"{path}: cannot be read: {one_line_of(error)}") from error


def _check_claim(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Checks that the header of an array claims what its member holds; numpy allocates memory for what it claims."""
    with archive.open(member) as file:
        shape, _, kind = read_npy_header(file, f"'{member.filename}'")
        if kind.hasobject:
            raise ValueError("Object arrays cannot be loaded, as they are pickled")
        if math.prod(shape) * kind.itemsize != member.file_size - file.tell():
            raise ValueError(f"'{member.filename}' does not hold the values that its header claims")


def read_npy_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and type that an npy file claims; the file then stands at its values.

    Raises:
        InputError: a format that is not known, with ``name`` in front.
        ValueError: no npy file.
    """
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise InputError(f"{name} has an unknown format {version}")
    shape, fortran, kind = readers[version](file)
    return shape, fortran, kind


def one_line_of(error: BaseException) -> str:
    """What an exception says, in one line of at most 300 characters; its kind where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."  # zipfile quotes the bytes of a damaged file


def one_line(error: BaseException, path: Any) -> str:
    """The reason at the root of a chain of exceptions, in one line that names the file."""
    while error.__cause__ is not None and not isinstance(error, InputError):
        error = error.__cause__
    return str(error) if isinstance(error, InputError) else f"{path}: cannot be read: {one_line_of(error)}"


def save_table(path: str | Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """CSV with ``columns``; what a row lacks, or is None or NaN, stays empty; floats keep nine digits.

    Text that a spreadsheet would run as a formula (it begins with = + - @, a tab or a line break), such as the id
    of a case from a file of unknown origin, gets a single quote before it.
    """

    def text(value: Any) -> str:
        if value is None or (isinstance(value, (float, np.floating)) and np.isnan(value)):
            return ""
        if isinstance(value, str):
            value = value.replace("\r\n", "\n").replace("\r", "\n")  # csv leaves a lone \r unquoted: a torn row
            return f"'{value}" if value.startswith(FORMULA_SIGNS) else value
        return f"{value:.9g}" if isinstance(value, (float, np.floating)) else str(value)

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([text(row.get(column)) for column in columns] for row in rows)
    # File names need not be valid text, and one of them must not cost the whole table.
    write_atomically(path, buffer.getvalue().encode(errors="backslashreplace"))


def file_identity(path: str | Path) -> list[Any]:
    """Absolute path, size in bytes and time of the last change in ns: equal as long as a file is not touched.

    For a folder they are the sum of its files' sizes, and a checksum of their names, sizes and times. ``None`` where
    there is no such file.
    """
    path = Path(path).absolute()
    try:
        if not path.is_dir():
            return [str(path), path.stat().st_size, path.stat().st_mtime_ns]
        stats = {file.name: file.stat() for file in sorted(path.iterdir())}
    except OSError:
        stats = {}
    if not stats:
        return [str(path), None, None]
    listing = repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()])
    return [
        str(path),
        sum(stat.st_size for stat in stats.values()),
        hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest(),
    ]


def sha256(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
