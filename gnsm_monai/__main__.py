"""``python -m gnsm_monai`` is the command ``gnsm``."""

from gnsm_monai.cli import run

if __name__ == "__main__":
    raise SystemExit(run())
