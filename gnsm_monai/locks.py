"""One run at a time writes into a folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ignite.distributed as idist
from filelock import BaseFileLock, FileLock, Timeout

from gnsm_monai.errors import InputError

__all__ = ["LOCK", "lock_folder", "locked_folder", "unlock_folder"]

LOCK = ".lock"
"""The empty file that is locked. It stays; the lock goes with its process, however that ends."""

_locks: dict[Path, BaseFileLock] = {}
"""Those of this process, by folder."""

logger = logging.getLogger(__name__)


def lock_folder(folder: str | Path) -> None:
    """Keeps other runs from writing into a folder, until :func:`unlock_folder` or the end of this process.

    The folder is made if there is none. A process may lock a folder again. The processes of a distributed run have one
    lock together.

    Raises:
        InputError: another run writes there, on every process of this one; or no folder can be made there.
    """
    refused = idist.get_rank() == 0 and not _lock(Path(folder).absolute())
    if idist.all_reduce(float(refused), "MAX") if idist.get_world_size() > 1 else refused:
        raise InputError(f"{folder}: another run is writing here: wait until it ends, or name another folder")


def unlock_folder(folder: str | Path) -> None:
    """Lets other runs write into a folder, if this process had locked it."""
    lock = _locks.pop(Path(folder).absolute(), None)
    if lock is not None:
        lock.release()


@contextmanager
def locked_folder(folder: str | Path) -> Iterator[None]:
    """:func:`lock_folder` for a while."""
    lock_folder(folder)
    try:
        yield
    finally:
        unlock_folder(folder)


def _lock(folder: Path) -> bool:
    """Whether the folder is this process's now; also where its file system knows no locks."""
    if folder in _locks:
        return True
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # of more kinds than full or protected disks have: /proc says "no such file"
        raise InputError(f"{folder}: no folder can be made here: {error.strerror}") from error
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return False
    except (OSError, NotImplementedError) as error:
        logger.warning("%s: cannot be locked (%s): start no other run that writes here", folder, error)
        return True
    _locks[folder] = lock
    return True
