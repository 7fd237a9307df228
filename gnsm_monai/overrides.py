"""Refuses a misspelt option of ``python -m monai.bundle run``, which MONAI would silently accept."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import fire
from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow, run, run_workflow
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS, ID_SEP_KEY, MERGE_KEY

from gnsm_monai.errors import InputError, exit_on_input_error
from gnsm_monai.stopping import stop_in_one_line

__all__ = ["check_overrides", "check_overrides_or_exit", "literal"]

_COMMANDS: dict[str, Callable[..., None]] = {"run": run, "run_workflow": run_workflow}
_CONTINUES = "the same command continues a ranking, and with --resume True a training"
_NEAR = 0.6  # similarity from which one name is suggested for another; difflib's default
_NEAR_ARGUMENT = 0.8
_SHOWN = 12


def literal(value: Any) -> Any:
    """An option's value, in lists too, as an override that MONAI takes for what it is.

    In text MONAI reads code, ids and macros by the signs $, @, % and #. Text that holds one, such as the name of a
    column, becomes an expression that gives the text.
    """
    if isinstance(value, (list, tuple)):
        return [literal(item) for item in value]
    if not isinstance(value, str) or set("$@%#").isdisjoint(value):
        return value
    return f"$bytes.fromhex('{value.encode(errors='surrogatepass').hex()}').decode(errors='surrogatepass')"


def check_overrides(argv: Sequence[str] | None = None) -> None:
    """Check that every override on the command line names something in the config.

    MONAI writes an override into the config whatever it is called, so ``--epocs 5`` trains with the default number of
    epochs. The config files are read, nothing in them is evaluated.

    An override is accepted that is an argument of MONAI's own (``run_id``, ``meta_file``, …), an id in the merged
    config files, or a new argument of a component (a mapping with ``_target_``), unless the component already has
    one of nearly that name. Ids below ``_meta_`` are left to MONAI.

    Args:
        argv: what follows ``python -m monai.bundle`` on the command line, by default that of this process. Where it is
            no such command or has no ``config_file`` (a test, a notebook, ``ConfigWorkflow`` used from Python), nothing
            is checked.

    Raises:
        InputError: an override that names nothing, with the nearest name that exists.
    """
    overrides = _read_command_line(_own_command_line() if argv is None else argv)
    config_file = overrides.get("config_file")
    if config_file is None:
        return
    parser = ConfigParser(ConfigParser.load_config_files(config_file), globals=False)
    arguments = _monai_arguments() | _tracking_keys(overrides.get("tracking"))
    for option, value in overrides.items():
        if option in arguments or option.startswith(ConfigParser.meta_key):
            continue
        _check_override(option.removeprefix(MERGE_KEY), value, parser.get(), arguments)
        if not option.startswith(MERGE_KEY):
            parser[option] = value  # a later override may reach into this one


@exit_on_input_error()
def check_overrides_or_exit(argv: Sequence[str] | None = None) -> None:
    """:func:`check_overrides` for a config's ``initialize``: prints one line and exits with code 2.

    From here on Ctrl-C ends ``python -m monai.bundle run`` in one line too, as it ends ``gnsm``.

    Earlier versions evaluated by ``train.yaml`` and ``evaluate.yaml``: this pair starts the process anew, with the
    ``inference.yaml`` beside them for ``train.yaml``.

    Example::

        imports: [$from gnsm_monai.overrides import check_overrides_or_exit]
        initialize: [$check_overrides_or_exit()]
    """
    if argv is None and any(map(_is_earlier_pair, _own_command_line())):
        sys.stdout.flush()
        words = [w.replace("train.yaml", "inference.yaml") if _is_earlier_pair(w) else w for w in sys.orig_argv]
        os.execv(sys.executable, words)
    if argv is None and _own_command_line():
        stop_in_one_line(_CONTINUES)
    check_overrides(argv)


def _is_earlier_pair(word: str) -> bool:
    return "train.yaml" in word and "evaluate.yaml" in word


def _own_command_line() -> list[str]:
    """What follows ``python -m monai.bundle``; empty where this process runs another program."""
    is_monai_bundle = Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py")
    return sys.argv[1:] if is_monai_bundle else []


def _read_command_line(argv: Sequence[str]) -> dict[str, Any]:
    """What MONAI's command gets from fire, and from ``args_file``, as option and value."""
    if not argv or argv[0] not in _COMMANDS:
        return {}
    command = _COMMANDS[argv[0]]
    received: dict[str, Any] = {}

    @functools.wraps(command)  # fire reads the command's signature through this
    def receive(*args: Any, **kwargs: Any) -> None:
        received.update(zip(inspect.signature(command).parameters, args, strict=False))
        received.update(kwargs)

    arguments = list(argv[1:])
    if "--" in arguments:  # what follows the last one is for fire itself
        arguments = arguments[: len(arguments) - 1 - arguments[::-1].index("--")]
    fire.Fire(receive, command=arguments)
    given = {option: value for option, value in received.items() if value is not None}
    if "args_file" in given:
        given = {**ConfigParser.load_config_files(given["args_file"]), **given}
    return given


def _monai_arguments() -> set[str]:
    """Names that MONAI takes for itself on the way from the command to the workflow."""
    functions: list[Callable[..., Any]] = [*_COMMANDS.values(), create_workflow, ConfigWorkflow]
    parameters = (p for function in functions for p in inspect.signature(function).parameters.values())
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}


def _tracking_keys(tracking: Any) -> set[str]:
    """Ids that experiment tracking adds to the config once the overrides are in."""
    if tracking is None:
        return set()
    presets: Mapping[str, Any] = DEFAULT_EXP_MGMT_SETTINGS
    is_preset = isinstance(tracking, str) and tracking in presets
    settings = presets[tracking] if is_preset else ConfigParser.load_config_files(tracking)
    return set(settings.get("configs", {}))


def _check_override(option: str, value: Any, config: Any, arguments: set[str]) -> None:
    """Follow ``option`` down the config, and raise where it leads nowhere."""
    keys = ReferenceResolver.split_id(option)
    node = config
    for depth, key in enumerate(keys):
        choices = _keys_of(node)
        if key in choices:
            node = node[key] if isinstance(node, Mapping) else node[int(key)]
            continue
        is_argument = depth == len(keys) - 1 and isinstance(node, Mapping) and "_target_" in node
        names = choices if depth else [*choices, *sorted(arguments)]
        near = get_close_matches(key, names, n=1, cutoff=_NEAR_ARGUMENT if is_argument else _NEAR)
        if is_argument and not near:
            return
        if value is False and f"no{option}" in choices:  # fire reads a bare --noise as "ise is off"
            raise InputError(f"option --no{option} needs a value")
        if near:
            hint = f"did you mean --{ID_SEP_KEY.join([*keys[:depth], near[0], *keys[depth + 1 :]])}?"
        elif choices:
            hint = "known are " + ", ".join(choices[:_SHOWN]) + (", ..." if len(choices) > _SHOWN else "")
        else:
            hint = f"{ID_SEP_KEY.join(keys[:depth])} has nothing below it"
        raise InputError(f"unknown option --{option}: {hint}")


def _keys_of(node: Any) -> list[str]:
    """Keys by which MONAI reaches the items of a config's mapping or list."""
    if isinstance(node, Mapping):
        return [str(key) for key in node]
    if isinstance(node, list):
        return [str(index) for index in range(len(node))]
    return []
