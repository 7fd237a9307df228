"""What CONTRIBUTING promises of the shape of the code: small files, short functions, few arguments, names of things."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "gnsm_monai").rglob("*.py"))
MAX_FILE, MAX_BODY, MAX_PARAMETERS = 250, 45, 8
ESTIMATORS = {"GNSMDetector"}
"""scikit-learn reads an estimator's parameters from its constructor, so that all of them stand there."""

PRONOUNS = {"found", "own", "known", "kept", "chosen"}
"""Names that say how a value came about, and leave open what it is."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[tuple[str, Function]]:
    """Every function of a module with the name of the class that it stands in."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            yield from ((node.name, child) for child in node.body if isinstance(child, Function))
        elif isinstance(node, ast.Module):
            yield from (("", child) for child in node.body if isinstance(child, Function))


def body_lines(function: Function) -> int:
    """Lines from the first statement after the docstring to the last one."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_small_and_its_functions_fit_a_screen(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE
    long = {
        f"{owner}.{function.name}": lines
        for owner, function in functions(path)
        if (lines := body_lines(function)) > MAX_BODY
    }
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_constructor_has_few_parameters(path: Path) -> None:
    if path.parent.name == "networks":
        pytest.skip("a network's parameters are its architecture")
    for owner, function in functions(path):
        if function.name == "__init__" and owner not in ESTIMATORS:
            arguments = function.args
            count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs) - 1
            assert count <= MAX_PARAMETERS, f"{owner} has {count}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_variable_names_the_thing_that_it_holds(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {node.id for node in nodes if isinstance(node, ast.Name)} | {n.arg for n in nodes if isinstance(n, ast.arg)}
    assert not names & PRONOUNS
