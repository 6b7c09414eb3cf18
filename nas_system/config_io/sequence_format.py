"""The YAML format of sequence models, and how it maps to `RunConfig`, one way.

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
says what is forecast. `BaseSequentialModel.from_config` trains a classification; this program does not.
"""

from __future__ import annotations

from nas_system.config_io.document import Document, Layout, translate, unchanged
from nas_system.space.families import FAMILIES
from nas_system.space.run_config import TrainingConfig
from nas_system.space.size_names import SIZE_NAMES, size_field
from nas_system.space.tasks import ForecastingTask, fields_of

_TRAINING: Layout = {
    ("training", "epochs"): ("training", "max_epochs"),
    ("training", "learning_rate"): ("training", "lr"),
    ("training", "early_stopping"): ("training", "patience"),
    ("training", "batch_size"): ("data", "batch_size"),
    ("mixed_precision",): ("training", "precision"),
}
_OWN = [name for name in TrainingConfig.model_fields if ("training", name) not in _TRAINING.values()]
_TRAINING |= unchanged("training", _OWN)

_FIXED = {
    ("task",): (
        ("forecasting", "regression"),
        f"is neither forecasting, regression nor a mapping of: {', '.join(ForecastingTask.model_fields)}; "
        "BaseSequentialModel.from_config of nas_system.toolkit.sequential_model trains a classification",
    ),
    ("architecture", "input_size"): (("auto",), "comes from the data; write auto or leave it out"),
    # A configuration means the same numbers on every machine; the device is an option of the run.
    ("device",): (
        ("auto",),
        "is no part of a configuration; write auto here and start with --device cuda:0 or --device cpu",
    ),
    ("mixed_precision",): ((False, True), "is true or false"),
}
"""The few values that these may have, and what is wrong with any other."""


def sequence_values(document: Document) -> Document:
    """Return the document's values under the names of `RunConfig`. Raises ConfigError, with the line."""
    family, task = document.values["model_type"], document.values.get("task")
    if not isinstance(family, str) or family not in FAMILIES:
        reason = f"model_type={family!a:.60} is none of: {', '.join(FAMILIES)}"
        raise document.refusal(("model_type",), reason)
    words = {word: name for word in SIZE_NAMES if (name := size_field(family, word))}
    own = [name for name in FAMILIES[family].model_fields if name not in ("family", *words.values())]
    plain = translate(
        document,
        {
            ("model_type",): ("model", "family"),
            **{("architecture", word): ("model", name) for word, name in words.items()},
            **{("architecture", name): ("model", name) for name in own},
            ("architecture", "seq_length"): ("data", "seq_len"),
            ("architecture", "input_size"): None,
            **_TRAINING,
            **(unchanged("task", fields_of(task)) if isinstance(task, dict) else {("task",): None}),
            ("device",): None,
            ("seed",): ("seed",),
        },
    )
    for path, (allowed, reason) in _FIXED.items():
        value = document.section(path[:-1]).get(path[-1], allowed[0])
        known = type(value) is type(allowed[0]) and value in allowed
        if not known and not (path == ("task",) and isinstance(value, dict)):
            raise document.refusal(path, f"{path[-1]}={value!a:.60} {reason}")
    training = plain.section(("training",))
    if training.get("patience", 0) is None:
        # No early stopping: there is patience for every epoch.
        training["patience"] = training.get("max_epochs", TrainingConfig().max_epochs)
    if training.get("scheduler", "") is None:
        training["scheduler"] = "none"
    if "precision" in training:
        training["precision"] = "bf16" if training["precision"] else TrainingConfig().precision
    return plain
