"""Configuration files: read, write, find by name.

`config.py` is data in the original format (`original_format.py` shows it); YAML and JSON use the
names of `RunConfig`, or those of sequence models (`sequence_format.py`). A file is
either read or a ConfigError with the file, the line and what to do; nothing in it is ever executed
or imported.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from pydantic import ValidationError

from nas_system.config_io.document import Document, Layout, Values, refusal, translate, unchanged
from nas_system.config_io.original_format import values_of_python
from nas_system.config_io.rendering import text_of
from nas_system.config_io.sequence_format import sequence_values
from nas_system.config_io.yaml_json import values_of_json, values_of_yaml
from nas_system.errors import ConfigError, advice_on_limit
from nas_system.files import read_bounded, write_atomic
from nas_system.space.changes import explain
from nas_system.space.families import FAMILIES
from nas_system.space.run_config import DataConfig, RunConfig, TrainingConfig, canonical_key, parameters
from nas_system.space.tasks import fields_of

LARGEST_FILE = 64 * 1024
"""Bytes. A configuration has about two thousand."""

PACKAGE = Path(__file__).parent.parent


def read_config(path: str | Path, *, follow_link: bool = True) -> RunConfig:
    """Return the configuration in a .py, .yaml, .yml or .json file. Raises ConfigError, and OSError only
    where this process may open no file at all.

    `follow_link` is for a file that a person has named; none is followed in the folder of a search.
    """
    path = Path(path)
    return parse_config(read_content(path, follow_link=follow_link), path)


def read_content(path: Path, *, follow_link: bool = True) -> bytes:
    """Return the bytes of a file of a sensible size. Raises as `read_config` does."""
    try:
        return read_bounded(path, LARGEST_FILE, follow_link=follow_link)
    except (FileNotFoundError, NotADirectoryError):
        known = ", ".join(available_configs())
        raise ConfigError(f"{path} is not a file; known configurations: {known}") from None
    except OSError as error:
        if advice_on_limit(error.errno):
            raise
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # a folder, too large, a NUL in the name
        raise ConfigError(f"{path!s:.300} cannot be read: {error}".replace("\0", "\\0")) from None


def parse_config(content: bytes, path: Path) -> RunConfig:
    """Return the configuration in `content`, in the format of the suffix of `path`. Raises ConfigError."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{path}: unknown kind of file; a configuration ends in {', '.join(_READERS)}")
    try:
        return _validated(reader(_decoded(content)))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def render_config(config: RunConfig, *, comments: bool = True) -> str:
    """Return `config` as the text of a config.py, checked by reading it back.

    Only what has an effect is written, so the text means the same training (equal
    `canonical_key`, task and seed). Raises ConfigError if it does not.
    """
    text = text_of(config, comments=comments)
    again = parse_config(text.encode(), Path("config.py"))
    if (canonical_key(again), again.task, again.seed) != (canonical_key(config), config.task, config.seed):
        raise ConfigError("this configuration cannot be written as a config.py: it reads back differently")
    return text


def write_config(path: str | Path, config: RunConfig) -> None:
    """Write `config` as a config.py, atomically; a file that says the same already stays as it is."""
    path, content = Path(path), render_config(config).encode()
    # The sandbox of a training that has begun lets it read this very file, not another under its name.
    with contextlib.suppress(OSError, ValueError):
        if read_bounded(path, LARGEST_FILE) == content:
            return
    write_atomic(path, content)


def named_config(name_or_path: str | Path) -> RunConfig:
    """Return a configuration by file or by name, as `--base-config` takes it.

    Names are those of `available_configs()`; anything with a suffix or a folder is a file.
    Raises ConfigError.
    """
    path = Path(name_or_path)
    if path.suffix or path.name != str(name_or_path):
        return read_config(path)
    known = available_configs()
    if path.name not in known:
        raise ConfigError(f"no configuration {path.name!a:.80}; give a file or one of: {', '.join(known)}")
    return read_config(known[path.name])


def available_configs() -> dict[str, Path]:
    """Return the files of the package's configurations by name: `default`, complete ones, one per family."""
    known = {"default": PACKAGE / "config.py"}
    known |= {file.stem: file for file in sorted((PACKAGE / "configs").glob("*.py"))}
    for family in FAMILIES:
        file = PACKAGE / "configs" / "models" / f"{family}_default.yaml"
        if file.is_file():
            known |= {family: file, file.stem: file}
    return known


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise refusal(line, "not UTF-8; save the file in that encoding") from None


def _yaml_values(text: str) -> Document:
    return _in_known_names(values_of_yaml(text))


def _json_values(text: str) -> Document:
    return _in_known_names(values_of_json(text))


def _in_known_names(document: Document) -> Document:
    if "model_type" in document.values:
        return sequence_values(document)
    # Without a known family or a task's fields pydantic says what is wrong, and what there is.
    family, task = _known_family(document.values), document.values.get("task")
    layout: Layout = {
        **unchanged("data", DataConfig.model_fields),
        **unchanged("training", TrainingConfig.model_fields),
        ("seed",): ("seed",),
    }
    layout |= unchanged("model", FAMILIES[family].model_fields) if family else {("model",): ("model",)}
    layout |= unchanged("task", fields_of(task)) if isinstance(task, dict) else {("task",): ("task",)}
    return translate(document, layout)


def _known_family(values: Values) -> str | None:
    """Return the model's family, if the values name one that there is."""
    model = values.get("model")
    family = model.get("family") if isinstance(model, dict) else None
    return family if isinstance(family, str) and family in FAMILIES else None


def _validated(document: Document) -> RunConfig:
    family = _known_family(document.values)
    domains = {p.path: p.domain for p in parameters(family)} if family else None
    try:
        config = RunConfig.model_validate(document.values)
    except ValidationError as error:
        raise ConfigError(explain(error, domains, document.locate)) from None
    for text in (config.task.dataset, *getattr(config.task, "targets", ())):
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise document.refusal(("task",), f"{text!a:.60} has half a character (a lone surrogate)")
    return config


_READERS = {".py": values_of_python, ".yaml": _yaml_values, ".yml": _yaml_values, ".json": _json_values}
