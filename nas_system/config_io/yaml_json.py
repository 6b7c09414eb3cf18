"""YAML and JSON as plain values: no tags, no aliases, no key twice."""

from __future__ import annotations

import json
import re

import yaml

from nas_system.config_io.document import Document, Path, Values, checked_number, refusal
from nas_system.errors import ConfigError

_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")}

_FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+")
"""What YAML 1.1 takes for text and everybody else for a number: 1e-3."""


def values_of_json(text: str) -> Document:
    """Return the values of a JSON object. Raises ConfigError; there are no line numbers."""
    try:
        return _mapping(json.loads(text, object_pairs_hook=_unique), Document())
    except RecursionError:
        raise ConfigError("the values are nested too deeply; a configuration is flat") from None
    except ValueError as error:
        raise ConfigError(f"not valid JSON: {error}") from None


def values_of_yaml(text: str) -> Document:
    """Return the values of a YAML mapping. Raises ConfigError."""
    document = Document()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return _mapping(_value(node, (), document, set()) if node else {}, document)
    except RecursionError:
        raise ConfigError("the values are nested too deeply; a configuration is flat") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise refusal(line, f"not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"not valid YAML: {error}") from None


def _mapping(values: object, document: Document) -> Document:
    if not isinstance(values, dict):
        raise ConfigError("a configuration is a mapping: model, data, training, task and seed")
    document.values = values
    return document


def _unique(pairs: list[tuple[str, object]]) -> Values:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"the key {twice!a:.60} stands twice; keep one")
    return values


def _value(node: yaml.Node, path: Path, document: Document, seen: set[int]) -> object:
    """Return plain values from YAML's node tree, which knows the lines and which keys stand twice."""
    line = node.start_mark.line + 1
    if id(node) in seen:
        # An alias: nested, a few lines of them are gigabytes.
        raise refusal(line, "anchors and aliases (&, *) are refused; write the value out")
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, line)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, path, document, seen) for item in node.value]
    values: Values = {}
    for key_node, value_node in node.value:
        key, key_line = key_node.value, key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise refusal(key_line, "a key is a single word")
        if key in values:
            raise refusal(key_line, f"the key {key!a:.60} stands twice; keep one")
        document.lines[(*path, key)] = key_line
        values[key] = _value(value_node, (*path, key), document, seen)
    return values


def _scalar(node: yaml.ScalarNode, line: int) -> object:
    text, plain = node.value, node.style is None
    implicit = yaml.resolver.Resolver().resolve(yaml.ScalarNode, text, (plain, not plain))
    try:
        if node.tag != implicit or node.tag not in _TAGS:
            raise ValueError
        if plain and _FLOAT.fullmatch(text):
            return float(text)
        return checked_number(yaml.constructor.SafeConstructor().construct_object(node), line)
    except (ValueError, LookupError):
        tag = f" with the tag {node.tag!a:.60}" if node.tag != implicit else ""
        raise refusal(line, f"{text!a:.60}{tag} is no plain value; put text in quotes") from None
