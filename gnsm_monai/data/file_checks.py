"""What must be known of a file before it is trusted."""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel import Nifti1Header, Nifti2Header
from nibabel.openers import ImageOpener

__all__ = ["check_checksum", "check_claimed_size", "check_memory", "check_meta_image", "check_spacing"]

MAX_VOXELS = 1 << 32
"""Most voxels of a file, whatever its size: more would not fit in memory as whole numbers."""

SMALL, MAX_COMPRESSION = 10**8, 2000
"""Voxels that any machine can hold, and most voxels per byte: gzip and LZW reach fewer for a constant map."""

BYTES_PER_VOXEL = 16
"""Memory per voxel that reading and checking a label map takes, all copies included (13 bytes were measured)."""

BLOCK = 1 << 20
"""Bytes that are unpacked at once."""


def check_claimed_size(name: str, shape: Sequence[int], values: int = 1) -> None:
    """Checks that a file can hold what its header claims, before memory is allocated for it.

    Args:
        name: of the file that holds the voxels.
        shape: that is claimed.
        values: per voxel.

    Raises:
        ValueError: more voxels than fit in memory, or than the bytes of the file can be unpacked to.
    """
    voxels = math.prod(int(n) for n in shape) * values
    size = Path(name).stat().st_size
    claim = f"its header claims {' x '.join(str(n) for n in shape)} voxels"
    if voxels > max(SMALL, MAX_COMPRESSION * size):
        raise ValueError(f"{claim}, which a file of {size} bytes cannot hold")
    if voxels > MAX_VOXELS:
        raise ValueError(f"{claim}, and {MAX_VOXELS} are the most that can be read")
    check_memory(voxels * BYTES_PER_VOXEL, claim)


def check_memory(needed: float, what: str) -> None:
    """Checks that something fits in this machine's memory. A process that takes more is killed, and all its cases are
    lost.

    Raises:
        ValueError: more than there is; the message begins with ``what``.
    """
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:  # Windows
        return
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ValueError(f"{what}, which take {needed / 2**30:.1f} GiB of memory, and there are {there / 2**30:.1f}")


def check_spacing(name: str) -> None:
    """Checks the spacing of a NIfTI file whose geometry depends on it; nibabel would read 0 as 1 mm.

    Raises:
        ValueError: a spacing of 0, or one that is no number.
    """
    with ImageOpener(name) as file:
        start = file.read(4)
        kind = Nifti1Header if int.from_bytes(start, "little") in (348, 0x5C010000) else Nifti2Header
        file.seek(0)
        header = kind.from_fileobj(file, check=False)
    spacing = header["pixdim"][1 : 1 + min(3, int(header["dim"][0]))]
    if not header["sform_code"] and not (np.isfinite(spacing).all() and (spacing != 0).all()):
        raise ValueError(f"its spacing is {' x '.join(f'{mm:g}' for mm in spacing)} mm")


def check_checksum(name: str, image: Any) -> None:
    """Checks the checksum of a compressed NIfTI or FreeSurfer file; nibabel stops reading before it.

    Args:
        name: of the file; one that is not compressed has no checksum.
        image: nibabel's, of which the header alone is needed.

    Raises:
        ValueError: a damaged file, or one that unpacks to far more than its header claims.
        OSError, EOFError, zlib.error: no gzip file, or one that ends early.
    """
    if not name.lower().endswith((".gz", ".mgz")):
        return
    due = image.dataobj.offset + math.prod(int(n) for n in image.shape) * image.dataobj.dtype.itemsize
    with gzip.open(name) as file:
        try:
            while block := file.read(BLOCK):
                due -= len(block)
                if due < -BLOCK:
                    raise ValueError("it unpacks to more than its header claims")
        except gzip.BadGzipFile as error:
            if str(error).startswith(("CRC", "Incorrect length")):
                raise ValueError("damaged: what it unpacks to does not match its checksum") from None
            raise


def check_meta_image(name: str) -> Path:
    """Checks that the data of a MetaImage can be unpacked. If they cannot, ITK silently returns what memory holds.

    Returns:
        The file that holds the voxels: the same one (``.mha``), or one that it names (``.mhd``).

    Raises:
        ValueError: damaged, or the named file is missing.
    """
    with open(name, "rb") as file:
        header = b""
        while (line := file.readline(BLOCK)) and not line.startswith(b"ElementDataFile"):
            header += line
        named = line.partition(b"=")[2].strip().decode(errors="replace")
        data = Path(name) if named in ("", "LOCAL") else Path(name).parent / named
        start = file.tell() if data == Path(name) else 0
    if named.startswith("LIST") or "%" in named:  # one file per slice, of which ITK itself says what is missing
        return Path(name)
    if not data.is_file():
        raise ValueError(f"its voxels are in a file '{named}', which is not there")
    if re.search(rb"^CompressedData\s*=\s*True", header, re.MULTILINE | re.IGNORECASE):
        with open(data, "rb") as file:
            file.seek(start)
            _check_zlib(file)
    return data


def _check_zlib(file: IO[bytes]) -> None:
    unpacker, data = zlib.decompressobj(), file.read(BLOCK)
    try:
        while data and not unpacker.eof:
            unpacker.decompress(data, BLOCK)
            data = unpacker.unconsumed_tail or file.read(BLOCK)
        damaged = not unpacker.eof
    except zlib.error:
        damaged = True
    if damaged:
        raise ValueError("damaged: its compressed data cannot be unpacked")
