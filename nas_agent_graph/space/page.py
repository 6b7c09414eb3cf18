"""The search space for people (a terminal page, Markdown) and for programs (JSON)."""

from __future__ import annotations

import argparse
import difflib
import io
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from nas_agent_graph.text.terminal import Line, width_of, wrapped, write_lines
from nas_system.errors import ConfigError
from nas_system.space import FAMILIES, Parameter, parameters
from nas_system.space.fields import Unless
from nas_system.space.overview import Overview, Table, overview, sentence_of, tried_values
from nas_system.space.run_config import serves
from nas_system.space.sampling import is_installed
from nas_system.space.tasks import TASKS, Task

_WIDEST_DOMAIN = 24
"""Columns for the allowed values; longer lists continue on the next line."""
_ONLY_WHERE = {
    "series": "for a series",
    "numbers": "if numbers are predicted",
    "whole graphs": "if whole graphs are predicted",
}
"""How a field is marked that has an effect in some of the tasks on the page."""
_LEGEND = (
    "A proposal may change any of these; the task, the split and the metric are fixed. Below a number's "
    "bounds stand its usual values, the ones that samplers try; people and language models may take any "
    "within the bounds. "
    "Samplers leave parameters marked + alone. Where a family's tried default differs from what a "
    "configuration file gets that leaves the field out, the latter follows in brackets."
)


def print_space(arguments: argparse.Namespace) -> None:
    """Print what the arguments of `nas space` ask for. Raises ConfigError for a family that is none."""
    families = chosen_families(arguments.family)
    if arguments.json:
        print(json.dumps(record(families), indent=1))
    elif arguments.markdown:
        print(markdown(families))
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        write_lines(page(families, width_of(sys.stdout)), sys.stdout)


def chosen_families(name: str | None) -> list[str]:
    """Return all families, or the one that is named. Raises ConfigError for an unknown name."""
    if name is None:
        return list(FAMILIES)
    if name not in FAMILIES:
        close = difflib.get_close_matches(name, FAMILIES, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(FAMILIES)}"
        raise ConfigError(f"there is no family {name!a:.80}; {hint}")
    return [name]


# --- a terminal -----------------------------------------------------------------------------


def page(families: Sequence[str], width: int) -> list[Line]:
    """Format the whole space, or one family; made for 80 columns and more."""
    if len(families) == 1:
        return _family_page(families[0], width)
    lines = [Line(f"The search space: {len(families)} families", "bold"), Line("")]
    lines += wrapped(_LEGEND, width, style="dim")
    kinds = _by_kind(families)
    for kind, own in kinds.items():
        order = ", in the order in which a search tries their defaults" if len(own) > 1 else ""
        lines += [Line(""), Line(f"Families for {kind}{order}", "bold")]
        for family in own:
            text = f"  {family:<19}{sentence_of(family)}{_package_note(family)}"
            lines += wrapped(text, width, indent=21)
    for kind, own in kinds.items():
        space = overview(own)
        for table in space.own:
            tried = tried_values(table.families[0])
            title = " and ".join(table.families)
            lines += _section(title, table.parameters, tried, width, table.families)
            lines += _shared_options(table, space, tried, width)
        for table in space.common:
            title = f"Options of {_in_families(table, own, kind)}"
            lines += _section(title, table.parameters, {}, width, table.families)
    space = overview(families)
    lines += _section("Data, with every family", space.data, {}, width, families)
    return lines + _section("Training, with every family", space.training, {}, width, families)


def _by_kind(families: Sequence[str]) -> dict[str, list[str]]:
    """Group the families by the kinds of task they are made for: `graph regression, link prediction`."""
    kinds = dict.fromkeys(kind for family in families for kind in FAMILIES[family].tasks)
    found: dict[tuple[str, ...], list[str]] = {}
    for kind in kinds:
        own = tuple(family for family in families if kind in FAMILIES[family].tasks)
        found.setdefault(own, []).append(kind.replace("_", " "))
    return {", ".join(labels): list(own) for own, labels in found.items()}


def _family_page(family: str, width: int) -> list[Line]:
    lines = [Line(family, "bold")]
    lines += wrapped(sentence_of(family) + _package_note(family), width)
    lines += [Line(""), *wrapped(_LEGEND, width, style="dim")]
    tried = tried_values(family)
    had = [p for p in parameters(family) if _can_matter(p, family)]
    for title, group in (("Model", "model"), ("Data", "data"), ("Training", "training")):
        lines += _section(title, [p for p in had if p.group == group], tried, width, [family])
    return lines


def _can_matter(parameter: Parameter, family: str) -> bool:
    if not serves(parameter, family):
        return False
    if parameter.where == "covariates":
        return FAMILIES[family].reads_covariates
    return any(parameter.where not in task.absent for task in _tasks_of([family]))


def _tasks_of(families: Sequence[str]) -> list[type[Task]]:
    """Return the kinds of task that any of the families is made for."""
    kinds = {kind for family in families for kind in FAMILIES[family].tasks}
    return [task for task in TASKS if task.kind in kinds]


def _section(
    title: str,
    rows: Sequence[Parameter],
    tried: Mapping[str, object],
    width: int,
    families: Sequence[str],
) -> list[Line]:
    """Format a title and its table; its first header is the part of the configuration, such as `model.`.

    `families` are those that have these fields.
    """
    lines = [Line(""), Line(title, "bold cyan")]
    if not rows:
        return lines
    domain = min(_WIDEST_DOMAIN, width // 4)
    narrow = [[[f"{rows[0].group}."], ["allowed"], ["default"]]]
    for parameter in rows:
        name = parameter.path.split(".", 1)[1] + ("" if parameter.sampled else " +")
        narrow.append([[name], _domain_lines(parameter, domain), [_default(parameter, tried)]])
    room = [max(len(line) for row in narrow for line in row[i]) for i in range(3)]
    places = [2 + sum(room[:i]) + 2 * i for i in range(4)]
    for cells, text in zip(narrow, ["meaning", *(_meaning(p, families) for p in rows)], strict=True):
        paragraph = textwrap.wrap(text, max(width - places[3], 16), break_on_hyphens=False)
        style = "dim" if cells is narrow[0] else ""
        lines += [Line(line, style) for line in _side_by_side([*cells, paragraph], places)]
    return lines


def _side_by_side(cells: Sequence[Sequence[str]], places: Sequence[int]) -> list[str]:
    lines = []
    for parts in zip_longest(*cells, fillvalue=""):
        text = ""
        for part, place in zip(parts, places, strict=True):
            text = text.ljust(place) + part
        lines.append(text.rstrip())
    return lines


def _shared_options(table: Table, space: Overview, tried: Mapping[str, object], width: int) -> list[Line]:
    """Format what a family has besides its own table, and where its tried default differs from the others."""
    own = {parameter.path for parameter in table.parameters}
    common = [p for other in space.common if table.families[0] in other.families for p in other.parameters]
    settings = {
        "also": ", ".join(parameter.path.removeprefix("model.") for parameter in common),
        "tried default": ", ".join(f"{path} {_short(tried[path])}" for path in tried if path not in own),
    }
    return [
        line
        for label, text in settings.items()
        if text
        for line in wrapped(f"  {label:<13}  {text}", width, style="dim", indent=17)
    ]


def _domain_lines(parameter: Parameter, width: int) -> list[str]:
    """Return the bounds, and below them what samplers try; or the choices."""
    parts = [_usual(parameter)] if parameter.kind == "choice" else [_bounds(parameter), _usual(parameter)]
    return [line for part in parts for line in textwrap.wrap(part, width)]


def _bounds(parameter: Parameter) -> str:
    text = f"{parameter.low:g} .. {parameter.high:g}"
    if parameter.multiple_of:
        text += f", multiple of {parameter.multiple_of}"
    return text + (", log scale" if parameter.log else "")


def _usual(parameter: Parameter) -> str:
    return ", ".join(_short(choice) for choice in parameter.choices or ())


def _default(parameter: Parameter, tried: Mapping[str, object]) -> str:
    own = _short(parameter.default)
    return f"{_short(tried[parameter.path])} ({own})" if parameter.path in tried else own


def _meaning(parameter: Parameter, families: Sequence[str]) -> str:
    condition = _condition(parameter, families)
    return parameter.description + (f" Only {condition}." if condition else "")


def _condition(parameter: Parameter, families: Sequence[str]) -> str:
    """Describe when a parameter has an effect; also for which tasks, if not for all of the families'."""
    partly = any(parameter.where in task.absent for task in _tasks_of(families))
    only = _ONLY_WHERE.get(parameter.where or "", "") if partly else ""
    return " and ".join(part for part in (only, parameter.condition) if part)


def _short(value: object) -> str:
    """Format a value as people write it: `-`, `true`, `0.001`."""
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return value if isinstance(value, str) else json.dumps(value)
    return f"{value:g}"


def _in_families(table: Table, families: Sequence[str], kind: str) -> str:
    """Describe which families have these options; `families` are all of this kind."""
    missing = [family for family in families if family not in table.families]
    if len(missing) > 2:
        return ", ".join(table.families)
    return f"all families for {kind}" + (f" but {' and '.join(missing)}" if missing else "")


def _package_note(family: str) -> str:
    config = FAMILIES[family]
    if config.needs_package is None:
        return ""
    missing = "" if is_installed(config.needs_package) else ", which is not installed, so it is not proposed"
    return f" Needs the extra {config.extra!r}{missing}."


# --- a file ---------------------------------------------------------------------------------


def markdown(families: Sequence[str]) -> str:
    """Format the same tables for a documentation page."""
    alone, kinds = families[0] if len(families) == 1 else None, _by_kind(families)
    parts = ["# The search space"]
    for kind, own in kinds.items():
        parts += ["", f"For {kind}:", "", *(f"- `{family}`: {sentence_of(family)}" for family in own)]
    for kind, own in kinds.items():
        space = overview(own)
        for table in space.own:
            tried = tried_values(table.families[0])
            title = " and ".join(table.families)
            parts += _markdown_table(title, table.parameters, tried, table.families)
        for table in space.common:
            title = f"Options of {_in_families(table, own, kind)}"
            parts += _markdown_table(title, table.parameters, {}, table.families)
    tried, space = tried_values(alone) if alone else {}, overview(families)
    for title, shared in (("Data", space.data), ("Training", space.training)):
        rows = [p for p in shared if alone is None or _can_matter(p, alone)]
        parts += _markdown_table(title, rows, tried, families)
    return "\n".join(parts)


def _markdown_table(
    title: str, rows: Sequence[Parameter], tried: Mapping[str, object], families: Sequence[str]
) -> list[str]:
    if not rows:
        return []
    head = "| parameter | allowed | default | only | meaning |"
    lines = ["", f"## {title}", "", head, "|---|---|---|---|---|"]
    for p in rows:
        usual = "" if p.kind == "choice" or not p.choices else f"; usual {_usual(p)}"
        allowed = _usual(p) if p.kind == "choice" else _bounds(p) + usual
        cells = (f"`{p.path}`", allowed, _default(p, tried), _condition(p, families), p.description)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return lines


def record(families: Sequence[str]) -> dict[str, object]:
    """Return every family with all its parameters, for programs."""
    return {
        family: {
            "meaning": sentence_of(family),
            "tasks": list(FAMILIES[family].tasks),
            "needs_package": FAMILIES[family].needs_package,
            "parameters": [_parameter_record(p, tried_values(family)) for p in parameters(family)],
        }
        for family in families
    }


def _parameter_record(parameter: Parameter, tried: Mapping[str, object]) -> dict[str, object]:
    number = parameter.kind != "choice"
    when = None
    if parameter.when is not None:
        relation = "other_than" if isinstance(parameter.when, Unless) else "is"
        master = f"{parameter.group}.{parameter.when.field}"
        when = {"parameter": master, relation: list(parameter.when.values)}
    return {
        "parameter": parameter.path,
        "kind": parameter.kind,
        "choices": None if number else parameter.choices,
        "low": parameter.low,
        "high": parameter.high,
        "multiple_of": parameter.multiple_of,
        "log": parameter.log,
        "usual": parameter.choices if number else None,
        "default": parameter.default,
        "tried_default": tried.get(parameter.path, parameter.default),
        "when": when,
        "where": parameter.where,
        "sampled": parameter.sampled,
        "meaning": parameter.description,
    }
