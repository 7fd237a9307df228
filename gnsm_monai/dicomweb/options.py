"""Options of ``gnsm rank`` for a DICOMweb server. Imports nothing that takes time."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from gnsm_monai.errors import InputError

__all__ = ["ServerOptions", "add_server_options"]

EVERY = 60.0
"""Seconds between two looks."""


OF_FOLDERS = ("images_dir", "references_dir", "layout")
"""Options of ``gnsm rank`` for masks that lie in a folder."""


@dataclass(frozen=True)
class ServerOptions:
    """What is asked of a server.

    Args:
        dicomweb: root URL of its DICOMweb service.
        study: StudyInstanceUIDs; none for all studies.
        store: whether to store a report of each segmentation.
        store_maps: whether to store reports and anomaly maps.
        watch: whether to go on looking for new segmentations.
        watch_minutes: after which the last look starts.
        watch_count: new segmentations after which the watch ends.
        watch_every: s between two looks.

    Raises:
        InputError: a watch without end, or its options without ``watch``.
    """

    dicomweb: str
    study: tuple[str, ...] = ()
    store: bool = False
    store_maps: bool = False
    watch: bool = False
    watch_minutes: float | None = None
    watch_count: int | None = None
    watch_every: float = EVERY

    def __post_init__(self) -> None:
        bounded = self.watch_minutes is not None or self.watch_count is not None
        if self.watch and not bounded:
            raise InputError("--watch: say when it ends: --watch-minutes M, --watch-count N, or both")
        if bounded and not self.watch:
            raise InputError("--watch-minutes and --watch-count need --watch")

    @property
    def stores(self) -> bool:
        return self.store or self.store_maps

    @classmethod
    def take(cls, options: dict[str, Any]) -> ServerOptions | None:
        """Removes a server's options from those of ``gnsm rank``.

        Returns:
            None where no server is named.

        Raises:
            InputError: an option of a server without a server, or one that contradicts another.
        """
        given = {field.name: options.pop(field.name) for field in fields(cls) if field.name in options}
        if "dicomweb" in given:
            if refused := [name for name in OF_FOLDERS if name in options]:
                raise InputError(f"--{refused[0].removesuffix('_dir')} is for folders of masks, not for --dicomweb")
            return cls(**{**given, "study": tuple(given.get("study", ()))})
        if given:
            raise InputError(f"--{next(iter(given)).replace('_', '-')} needs --dicomweb URL")
        return None


def add_server_options(parser: argparse.ArgumentParser, number: Callable[[type], Callable[[str], Any]]) -> None:
    """Adds to ``gnsm rank`` what :class:`ServerOptions` holds, all but the URL.

    Args:
        parser: of the command.
        number: makes a reader of positive numbers of a type.
    """
    server = parser.add_argument_group("a DICOMweb server", "credentials come from the environment or ~/.netrc")
    server.add_argument("--study", nargs="+", metavar="UID", help="only segmentations of these studies")
    what = "store a structured report of each segmentation beside it"
    server.add_argument("--store", action="store_const", const=True, help=what)
    what = "store a report and, as a parametric map, the anomaly of every voxel"
    server.add_argument("--store-maps", action="store_const", const=True, help=what)
    what = "go on looking for new segmentations, each of which is ranked and reported once"
    server.add_argument("--watch", action="store_const", const=True, help=what)
    what = "end the watch after this time"
    server.add_argument("--watch-minutes", type=number(float), metavar="M", help=what)
    what = "end the watch after this many new segmentations"
    server.add_argument("--watch-count", type=number(int), metavar="N", help=what)
    what = f"seconds between two looks (default: {EVERY:g})"
    server.add_argument("--watch-every", type=number(float), metavar="S", help=what)
