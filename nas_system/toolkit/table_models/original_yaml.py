"""The YAML file of a sequence model, read as arguments of `BaseSequentialModel`.

model_type: lstm
task: classification
architecture: {input_size: auto, hidden_size: 128, num_layers: 2, seq_length: 50, dropout: 0.2}
training: {batch_size: 128, epochs: 100, learning_rate: 0.001, optimizer: adam, scheduler: onecycle}
device: gpu
mixed_precision: true
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from nas_system.errors import ConfigError

SECTIONS = ("architecture", "training")
KEYS = ("model_type", "task", *SECTIONS, "device", "mixed_precision", "seed")
TRAINING = (
    "epochs",
    "batch_size",
    "learning_rate",
    "optimizer",
    "weight_decay",
    "loss",
    "scheduler",
    "warmup_share",
    "early_stopping",
    "grad_clip",
    "augmentation",
    "augmentation_strength",
    "validation_share",
    "stride",
)


class _Loader(yaml.SafeLoader):
    """Plain values only, and 1e-3 is a number, which YAML 1.1 takes for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read_arguments(path: Path) -> dict[str, Any]:
    """Return the file's values, flat, under the constructor's names. Raises ConfigError, naming the file."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    try:
        return _flat(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _flat(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict) or "model_type" not in document:
        raise ConfigError(f"a sequence model is a mapping with model_type; its keys are: {', '.join(KEYS)}")
    _refuse_unknown("the file", document, KEYS)
    arguments = {name: value for name, value in document.items() if name not in (*SECTIONS, "model_type")}
    arguments |= {"family": document["model_type"], "input_size": "auto"}
    for section in SECTIONS:
        values = document.get(section) or {}
        if not isinstance(values, dict):
            raise ConfigError(f"{section} is a mapping of names and values")
        # What else stands in architecture is a field of the family; the constructor knows which there are.
        _refuse_unknown(
            section, values, TRAINING if section == "training" else {*values} - {*TRAINING, *KEYS}
        )
        arguments |= values
    lacking = [name for name in ("hidden_size", "num_layers", "seq_length") if name not in arguments]
    if lacking:
        raise ConfigError(f"architecture lacks {', '.join(lacking)}")
    if arguments.get("scheduler", "none") is None:
        arguments["scheduler"] = "none"
    return arguments


def _refuse_unknown(place: str, values: dict[Any, Any], known: Collection[Any]) -> None:
    for name in values:
        if name not in known:
            home = "training" if name in TRAINING else "the top of the file" if name in KEYS else None
            close = difflib.get_close_matches(str(name), list(map(str, known)), n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(map(str, known))}"
            raise ConfigError(f"{place} has no key {name!r}; " + (f"it belongs to {home}" if home else hint))
