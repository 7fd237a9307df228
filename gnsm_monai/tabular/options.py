"""Options of the detector and of the bundle of tables: what is wrong with them is said before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from torch import nn

from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.losses import LOSSES
from gnsm_monai.tabular.row_rules import row_rules
from gnsm_monai.workflow.options import check_device

__all__ = ["OPTIONS", "Option", "check_loss", "check_options", "check_options_or_exit"]


@dataclass(frozen=True)
class Option:
    """What the value of an option may be.

    Args:
        kind: ``int`` or ``float``; a whole number is a ``float`` too. Ignored where there are ``choices``.
        minimum: the smallest whole number; other numbers must be greater.
        maximum: the largest number.
        below: whether a number must be less than ``maximum``.
        choices: the values, where they can be listed.
        optional: ``None`` is allowed; it stands for a default that goes by the table.
    """

    kind: type = int
    minimum: float = 1
    maximum: float = float("inf")
    below: bool = False
    choices: Sequence[str] = ()
    optional: bool = False

    def refusal(self, value: Any) -> str:
        """Why a value is not allowed, in words; empty where it is."""
        whole = self.kind is int
        if value is None and self.optional:
            return ""
        if self.choices:
            allowed = isinstance(value, str) and value in self.choices
            return "" if allowed else f"'{value}' is not one of {', '.join(self.choices)}"
        if isinstance(value, bool) or not isinstance(value, (Integral if whole else Real)):
            return f"must be a {'whole ' if whole else ''}number, got {value!r}"
        number: Any = value  # mypy knows no order of Real numbers
        enough = number >= self.minimum if whole else number > self.minimum
        if enough and (number < self.maximum if self.below else number <= self.maximum):
            return ""
        if self.maximum < float("inf"):
            ends = "[" if whole else "(", ")" if self.below else "]"
            return f"must lie in {ends[0]}{self.minimum:.10g}, {self.maximum:.10g}{ends[1]}, got {value!r}"
        return f"must be {'a positive number' if self.minimum == whole else 'at least 0'}, got {value!r}"


OPTIONS = {
    "alpha": Option(float, 0, 1, below=True),
    "batch_size": Option(),
    "bins": Option(),
    "contamination": Option(float, 0, 0.5),
    "decimal": Option(choices=("auto", ".", ",")),
    "depth": Option(),
    "epochs": Option(),
    "learning_rate": Option(float, 0),
    "max_minutes": Option(float, 0, optional=True),
    "max_steps": Option(optional=True),
    "num_draws": Option(minimum=0),
    "objective": Option(choices=tuple(LOSSES)),
    "patience": Option(),
    "seed": Option(minimum=0, maximum=2**32 - 1),
    "steps_per_epoch": Option(),
    "validation_fraction": Option(float, 0, 1, below=True),
    "width": Option(optional=True),
}
"""What the options may be, by their name.

``device`` is tried out, and the ``anomaly_score`` goes by the objective: see :func:`check_options`.
"""


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


@exit_on_input_error()
def check_loss(loss: Any) -> None:
    """Refuses the name of an objective where the module of the loss stands, as earlier versions had it."""
    if not isinstance(loss, nn.Module):
        raise InputError(
            f"loss: is a module, got {loss!r}: name what is minimised by objective, as in --objective {loss}"
        )
