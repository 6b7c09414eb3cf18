"""Prompts are jinja2 files that people can read and edit; a name that is missing is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2


def prompts_dir() -> Path:
    """The tree's `prompts/` in a source tree, else the copy inside the installed package."""
    package = Path(__file__).resolve().parents[1]
    in_tree = package.parent / "prompts"
    return in_tree if (in_tree / "system.j2").is_file() else package / "prompts"


def render(name: str, **values: Any) -> str:
    """The text of `prompts/<name>.j2` with the values filled in."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(prompts_dir()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Prompts are plain text: nothing in them is markup.
        autoescape=False,
    )
    return environment.get_template(f"{name}.j2").render(**values).strip()
