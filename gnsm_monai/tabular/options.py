"""Options of the detector and of the bundle of tables: what is wrong with them is said before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.losses import LOSSES
from gnsm_monai.tabular.row_rules import row_rules
from gnsm_monai.workflow import options as workflow
from gnsm_monai.workflow.options import Option, check_device

__all__ = ["OPTIONS", "check_options", "check_options_or_exit"]

OPTIONS = {
    **workflow.OPTIONS,
    "bins": Option(minimum=1),
    "contamination": Option(float, 0, 0.5),
    "decimal": Option(choices=("auto", ".", ",")),
    "depth": Option(minimum=1),
    "max_steps": Option(minimum=1, optional=True),
    "num_draws": Option(),
    "trim": Option(float, 0, 0.5, optional=True),
    "validation_fraction": Option(float, 0, 1, below=True),
    "width": Option(minimum=1, optional=True),
}
"""What the options may be, by their name; ``device`` is tried out, and ``anomaly_score`` goes by the objective."""


def check_options(options: Mapping[str, Any]) -> None:
    """Raises InputError for the first value that cannot be used; names without an entry in :data:`OPTIONS` pass."""
    for name, value in options.items():
        if name in OPTIONS and (refusal := OPTIONS[name].refusal(value)):
            raise InputError(f"{name}: {refusal}")
    if "anomaly_score" in options:
        objective = options["objective"]
        names = [rule.name for rule in row_rules(LOSSES[objective])]
        if refusal := Option(choices=("auto", *names)).refusal(options["anomaly_score"]):
            raise InputError(f"anomaly_score: {refusal} (with the objective {objective})")
    if "device" in options:
        check_device(options["device"])


check_options_or_exit = exit_on_input_error()(check_options)
"""The same as a step of a bundle."""
