"""Lets a list of handlers in a config name a handler that is defined elsewhere."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["existing"]

Handler = TypeVar("Handler")


def existing(handler: Handler) -> Handler:
    """Returns ``handler``.

    MONAI's property check reads every entry of a handler list as a mapping with ``_target_``; a bare reference
    (``"@ema"``) would break it.
    """
    return handler
