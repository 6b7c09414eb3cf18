"""The YAML shape of sequence models, and how it maps to `RunConfig`, one way.

    model_type: lstm                      # model.family
    architecture:
      input_size: auto                    # comes from the data
      hidden_size: 128                    # width and depth, under the family's own names
      num_layers: 2
      seq_length: 50                      # data.seq_len
      dropout: 0.2
    training:
      batch_size: 128                     # data.batch_size
      epochs: 100                         # training.max_epochs
      learning_rate: 0.001                # training.lr
      early_stopping: 10                  # training.patience
      scheduler: onecycle
    mixed_precision: true                 # training.precision: bf16

What the file leaves out has the default of `RunConfig`. `task` may be a mapping in its names, which
says what is forecast. A classification is no forecast; `BaseSequentialModel.from_config` trains it.
"""

from __future__ import annotations

from typing import Any

from nas_system.config_io.literal_python import Document, refusal
from nas_system.space import FAMILIES, ForecastingTask, TrainingConfig
from nas_system.space.size_names import SIZE_NAMES, size_field

KEYS = ("model_type", "task", "architecture", "training", "device", "mixed_precision", "seed")

RENAMED = {
    "epochs": ("training", "max_epochs"),
    "learning_rate": ("training", "lr"),
    "early_stopping": ("training", "patience"),
    "batch_size": ("data", "batch_size"),
}
"""Keys of `training`, and what they are here."""

_TRAINING = {
    **RENAMED,
    **{
        name: ("training", name)
        for name in TrainingConfig.model_fields
        if ("training", name) not in RENAMED.values() and name != "precision"
    },
}

HOMES = {
    **dict.fromkeys(SIZE_NAMES, "architecture"),
    **{name: "architecture" for family in FAMILIES.values() for name in family.model_fields},
    **dict.fromkeys(("input_size", "seq_length"), "architecture"),
    **dict.fromkeys(_TRAINING, "training"),
    **dict.fromkeys(ForecastingTask.model_fields, "task"),
    **dict.fromkeys(KEYS, "the top of the file"),
    "family": "the top of the file, as model_type",
    "precision": "the top of the file, as mixed_precision",
}
"""Where keys live that people put in the wrong place."""


def is_sequence_format(values: Any) -> bool:
    """Whether a document is in this shape."""
    return isinstance(values, dict) and "model_type" in values


def run_config_values(document: Document) -> Document:
    """The document's values under the names of `RunConfig`. Raises ConfigError, with the line."""
    document.refuse_unknown((), KEYS, HOMES)
    for section in ("architecture", "training"):
        if not isinstance(document.values.get(section, {}), dict):
            raise refusal(document.line((section,)), f"{section} is a mapping of names and values")
    plain = Document({"model": {}, "data": {}, "training": {}})
    _read_architecture(document, plain, _family(document))
    _read_training(document, plain)
    _read_task(document, plain)
    _refuse_device(document)
    if "seed" in document.values:
        plain.values["seed"] = document.values["seed"]
        _keep_line(document, ("seed",), plain, ("seed",))
    return plain


def _family(document: Document) -> str:
    family = document.values["model_type"]
    if not isinstance(family, str) or family not in FAMILIES:
        line = document.line(("model_type",))
        raise refusal(line, f"model_type={family!a:.60} is none of: {', '.join(FAMILIES)}")
    return family


def _read_architecture(document: Document, plain: Document, family: str) -> None:
    words = {word: field for word in SIZE_NAMES if (field := size_field(family, word))}
    own = FAMILIES[family].model_fields.keys() - {"family", *words.values()}
    known = {
        **words,
        **{name: name for name in FAMILIES[family].model_fields if name in own},
        "seq_length": "",
        "input_size": "",
    }
    document.refuse_unknown(("architecture",), known, {**HOMES, "seq_len": "architecture, as seq_length"})
    plain.values["model"]["family"] = family
    _keep_line(document, ("model_type",), plain, ("model", "family"))
    for name, value in document.values.get("architecture", {}).items():
        if name == "input_size":
            if value != "auto":
                line = document.line(("architecture", name))
                raise refusal(
                    line, f"input_size={value!a:.60} comes from the data; write auto or leave it out"
                )
            continue
        section, target = ("data", "seq_len") if name == "seq_length" else ("model", known[name])
        plain.values[section][target] = value
        _keep_line(document, ("architecture", name), plain, (section, target))


def _read_training(document: Document, plain: Document) -> None:
    written = document.values.get("training", {})
    document.refuse_unknown(("training",), _TRAINING, HOMES)
    for name, value in written.items():
        if name == "early_stopping" and value is None:
            # No early stopping: there is patience for every epoch.
            value = written.get("epochs", TrainingConfig.model_fields["max_epochs"].default)
        if name == "scheduler" and value is None:
            value = "none"
        section, target = _TRAINING[name]
        plain.values[section][target] = value
        _keep_line(document, ("training", name), plain, (section, target))
    mixed = document.values.get("mixed_precision", False)
    if not isinstance(mixed, bool):
        raise refusal(document.line(("mixed_precision",)), f"mixed_precision={mixed!a:.60} is true or false")
    if mixed:
        plain.values["training"]["precision"] = "bf16"
        _keep_line(document, ("mixed_precision",), plain, ("training", "precision"))


def _read_task(document: Document, plain: Document) -> None:
    task = document.values.get("task", "forecasting")
    if isinstance(task, dict):
        plain.values["task"] = task
        for path in document.lines:
            if path[0] == "task":
                plain.lines[path] = document.lines[path]
    elif task == "classification":
        raise refusal(
            document.line(("task",)),
            "this program forecasts a series; for a classification use "
            "BaseSequentialModel.from_config of nas_system.toolkit.sequential_model on this file",
        )
    elif task not in ("forecasting", "regression"):
        known = ", ".join(ForecastingTask.model_fields)
        raise refusal(
            document.line(("task",)),
            f"task={task!a:.60} is neither forecasting, regression nor a mapping of: {known}",
        )


def _refuse_device(document: Document) -> None:
    """A configuration means the same numbers on every machine; where it runs is said when it runs."""
    device = document.values.get("device", "auto")
    if device != "auto":
        option = {"gpu": "cuda:0"}.get(str(device), "cpu" if device == "cpu" else "cuda:N")
        raise refusal(
            document.line(("device",)),
            f"device={device!a:.60} is no part of a configuration; write auto here and start with "
            f"--device {option}",
        )


def _keep_line(document: Document, path: tuple[str, ...], plain: Document, target: tuple[str, ...]) -> None:
    line = document.line(path)
    if line is not None:
        plain.lines[target] = line
