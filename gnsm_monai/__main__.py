"""The program ``gnsm``, which is also ``python -m gnsm_monai``."""

from __future__ import annotations

import sys

from gnsm_monai.stopping import how_to_continue, stop_in_one_line

__all__ = ["run"]


def run() -> int:
    """:func:`gnsm_monai.cli.run`, which an interrupt stops with one line even while its first modules are imported."""
    stop_in_one_line(how_to_continue(sys.argv[1:]), at_once=True)
    from gnsm_monai import cli

    return cli.run()


if __name__ == "__main__":
    raise SystemExit(run())
