"""Configurations as YAML or JSON, under the names of `RunConfig`: only plain values, no tags, no aliases.

A document with `model_type` is in the shape of sequence models (see `sequence_format`).
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from nas_system.config_io.literal_python import LARGEST_INTEGER, Document, refusal
from nas_system.config_io.sequence_format import is_sequence_format, run_config_values
from nas_system.errors import ConfigError
from nas_system.space import FAMILIES, DataConfig, RunConfig, TrainingConfig
from nas_system.space.tasks import TASK_FIELDS, fields_of

SECTIONS = {"data": tuple(DataConfig.model_fields), "training": tuple(TrainingConfig.model_fields)}

HOMES = {
    **{name: "model" for family in FAMILIES.values() for name in family.model_fields},
    **{name: section for section, fields in SECTIONS.items() for name in fields},
    **dict.fromkeys(TASK_FIELDS, "task"),
}
"""Where keys live that people put in the wrong place."""

_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")}

_FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+")
"""What YAML 1.1 takes for text and everybody else for a number: 1e-3."""


def values_of_json(text: str) -> Document:
    """The values of a JSON object. Raises ConfigError; there are no line numbers."""
    try:
        return _in_known_names(Document(json.loads(text, object_pairs_hook=_unique)))
    except RecursionError:
        raise ConfigError("the values are nested too deeply; a configuration is flat") from None
    except ValueError as error:
        raise ConfigError(f"not valid JSON: {error}") from None


def values_of_yaml(text: str) -> Document:
    """The values of a YAML mapping. Raises ConfigError."""
    document = Document()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document.values = _value(node, (), document, set()) if node else {}
    except RecursionError:
        raise ConfigError("the values are nested too deeply; a configuration is flat") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise refusal(line, f"not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"not valid YAML: {error}") from None
    return _in_known_names(document)


def known_family(document: Document) -> str | None:
    """The model's family, if the document names one that there is."""
    model = document.values.get("model")
    family = model.get("family") if isinstance(model, dict) else None
    return family if isinstance(family, str) and family in FAMILIES else None


def _in_known_names(document: Document) -> Document:
    if not isinstance(document.values, dict):
        raise ConfigError("a configuration is a mapping: model, data, training, task and seed")
    if is_sequence_format(document.values):
        document = run_config_values(document)
    document.refuse_unknown((), RunConfig.model_fields, HOMES)
    for section, known in (SECTIONS | {"task": fields_of(document.values.get("task"))}).items():
        document.refuse_unknown((section,), known, HOMES)
    family = known_family(document)
    if family:
        document.refuse_unknown(("model",), FAMILIES[family].model_fields, HOMES)
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"the key {twice!a:.60} stands twice; keep one")
    return values


def _value(node: yaml.Node, path: tuple[str, ...], document: Document, seen: set[int]) -> Any:
    """Plain values from YAML's node tree, which knows the lines and which keys stand twice."""
    line = node.start_mark.line + 1
    if id(node) in seen:
        # An alias: nested, a few lines of them are gigabytes.
        raise refusal(line, "anchors and aliases (&, *) are refused; write the value out")
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, line)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, path, document, seen) for item in node.value]
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, key_line = key_node.value, key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise refusal(key_line, "a key is a single word")
        if key in values:
            raise refusal(key_line, f"the key {key!a:.60} stands twice; keep one")
        document.lines[(*path, key)] = key_line
        values[key] = _value(value_node, (*path, key), document, seen)
    return values


def _scalar(node: yaml.ScalarNode, line: int) -> Any:
    text, plain = node.value, node.style is None
    implicit = yaml.resolver.Resolver().resolve(yaml.ScalarNode, text, (plain, not plain))
    if node.tag != implicit:
        raise refusal(line, f"the tag {node.tag!a:.60} is refused; write the plain value")
    if node.tag not in _TAGS:
        raise refusal(line, f"{text!a:.60} is no plain value; put text in quotes")
    if plain and _FLOAT.fullmatch(text):
        return float(text)
    try:
        value = yaml.constructor.SafeConstructor().construct_object(node)
    except (ValueError, LookupError):
        raise refusal(line, f"{text!a:.60} is no plain value; put text in quotes") from None
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise refusal(line, "an integer this large is not a setting")
    return value
