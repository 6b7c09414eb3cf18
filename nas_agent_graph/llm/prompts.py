"""Renders the prompts: jinja2 files that people can read and edit; a missing name is an error."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from nas_agent_graph.text.terminal import duration
from nas_agent_graph.text.untrusted import quoted
from nas_system.errors import ConfigError
from nas_system.nas_agent.log_text import one_line

SHOWN_DIGITS = 6


def prompts_dir() -> Path:
    """Return `prompts/` of the source tree, else the copy inside the installed package."""
    package = Path(__file__).resolve().parents[1]
    in_tree = package.parent / "prompts"
    return in_tree if (in_tree / "system.j2").is_file() else package / "prompts"


def render(name: str, folder: Path | None = None, **values: Any) -> str:
    """Render `<name>.j2` of `folder` (default: the program's own prompts). Raises ConfigError."""
    try:
        return _environment(folder or prompts_dir()).get_template(f"{name}.j2").render(**values).strip()
    except jinja2.TemplateError as error:
        place = folder or prompts_dir()
        raise ConfigError(f"{place / name}.j2 cannot be rendered: {error}; compare it with ours") from None


@cache
def _environment(folder: Path) -> jinja2.Environment:
    """Build the environment; it compiles a template once (13 ms each), and again when its file changes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Prompts are plain text: nothing in them is markup.
        autoescape=False,
    )
    environment.filters["quoted"] = quoted
    environment.filters["one_line"] = one_line
    environment.filters["number"] = number
    environment.filters["spelled"] = spelled
    environment.filters["duration"] = duration
    return environment


def number(value: float, digits: int = SHOWN_DIGITS) -> str:
    """Spell a number with so many significant digits: not all sixteen, and more than noise leaves."""
    return f"{float(value):.{digits}g}"


def spelled(value: Any) -> str:
    """Spell a parameter's value as JSON, a fraction with SHOWN_DIGITS significant digits."""
    if isinstance(value, float) and math.isfinite(value):
        value = float(number(value))
    return json.dumps(value)
