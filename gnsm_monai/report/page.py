"""A page in one file: template, style and script, which its policy names by their hashes."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2

from gnsm_monai.files import write_atomically

__all__ = ["write_page"]


def write_page(path: str | Path, template: str, rules: str = "", script: str = "", **content: Any) -> None:
    """Writes a page, whole or not at all.

    Texts are shown as the text they are, whatever they hold: the page runs no script but its own, and loads nothing.

    Args:
        path: of the page.
        template: name of its file.
        rules: of style, after those of report.css.
        script: name of its file, if there is one.
        content: what the template shows.
    """
    # By file name jinja would escape *.html but not *.html.j2.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gnsm_monai.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, code = _asset("report.css") + rules, _asset(script) if script else ""
    hashes = {"style_hash": _policy_hash(style), "script_hash": _policy_hash(code)}
    text = environment.get_template(template).render(style=style, script=code, **hashes, **content)
    # File names need not be valid text, and one of them must not cost the whole page.
    write_atomically(path, text.encode(errors="backslashreplace"))


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _policy_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
