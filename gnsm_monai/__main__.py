"""``python -m gnsm_monai`` is the command ``gnsm``."""

from gnsm_monai.cli import main

raise SystemExit(main())
