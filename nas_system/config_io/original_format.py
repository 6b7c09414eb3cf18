"""The original format of config.py, and how it maps to `RunConfig`, both ways.

    model = {"d_model": 32, ...}                            # RunConfig.model; no "family" means informer
    training = {"optimizer_class": optim.Adam, "optimizer_params": {"lr": 0.001}, ...}
    data = {"batch_size": 32, ...}
    task = {"dataset": "etth1", ...}
    seed = 42

A parameter that the file leaves out has the default of the PyTorch class it belongs to (SGD has
momentum 0, StepLR a gamma of .1), as it would in a program that hands `optimizer_params` over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nas_system.config_io.literal_python import Document, TorchName, refusal
from nas_system.space import FAMILIES, DataConfig, TrainingConfig
from nas_system.space.tasks import TASK_FIELDS, fields_of

SECTIONS = ("model", "training", "data", "task", "seed")


@dataclass(frozen=True)
class TorchClass:
    """A class that a config.py may name, and what stands for it in `TrainingConfig`."""

    name: str
    choice: str
    fields: dict[str, str] = field(default_factory=dict)
    """Its parameters, and the field of `TrainingConfig` each one is."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """PyTorch's defaults; a parameter without one must be given."""

    @property
    def usual(self) -> str:
        """How it is written after `import torch.optim as optim` and `import torch.nn as nn`."""
        return self.name.removeprefix("torch.")


@dataclass(frozen=True)
class ClassKey:
    """One of the keys that take a class, and the key of that class's parameters."""

    key: str
    params_key: str | None
    choice_field: str
    classes: tuple[TorchClass, ...]
    no_class: str | None = None
    """The choice that None, or leaving the key out, stands for."""


_DECAY = {"lr": "lr", "weight_decay": "weight_decay"}

CLASS_KEYS = (
    ClassKey(
        "optimizer_class",
        "optimizer_params",
        "optimizer",
        (
            TorchClass("torch.optim.Adam", "adam", _DECAY, {"lr": 1e-3, "weight_decay": 0.0}),
            TorchClass("torch.optim.AdamW", "adamw", _DECAY, {"lr": 1e-3, "weight_decay": 1e-2}),
            TorchClass(
                "torch.optim.SGD",
                "sgd",
                _DECAY | {"momentum": "momentum"},
                {"lr": 1e-3, "weight_decay": 0.0, "momentum": 0.0},
            ),
        ),
    ),
    ClassKey(
        "criterion_class",
        None,
        "loss",
        (
            TorchClass("torch.nn.MSELoss", "mse"),
            TorchClass("torch.nn.L1Loss", "mae"),
            TorchClass("torch.nn.SmoothL1Loss", "huber"),
        ),
    ),
    ClassKey(
        "scheduler_class",
        "scheduler_params",
        "scheduler",
        (
            TorchClass(
                "torch.optim.lr_scheduler.CosineAnnealingLR",
                "cosine",
                {"T_max": "t_max", "eta_min": "min_lr"},
                {"T_max": None, "eta_min": 0.0},  # T_max: ours; PyTorch has no default
            ),
            TorchClass(
                "torch.optim.lr_scheduler.StepLR",
                "step",
                {"step_size": "step_size", "gamma": "gamma"},
                {"gamma": 0.1},
            ),
            TorchClass(
                "torch.optim.lr_scheduler.ReduceLROnPlateau",
                "plateau",
                {"factor": "plateau_factor", "patience": "plateau_patience"},
                {"factor": 0.1, "patience": 10},
            ),
            # Its highest rate is the optimizer's lr, its length the training's.
            TorchClass(
                "torch.optim.lr_scheduler.OneCycleLR",
                "onecycle",
                {"pct_start": "warmup_share"},
                {"pct_start": 0.3},
            ),
        ),
        no_class="none",
    ),
)

CLASSES = {known.name: known.usual for kind in CLASS_KEYS for known in kind.classes}
"""Every class a config.py may name, and its usual spelling."""

_IN_PARAMS = {name for kind in CLASS_KEYS for known in kind.classes for name in known.fields.values()}
_BY_CLASS = _IN_PARAMS | {kind.choice_field for kind in CLASS_KEYS}
PLAIN_TRAINING = tuple(name for name in TrainingConfig.model_fields if name not in _BY_CLASS)
"""The fields of `TrainingConfig` that keep their own name in `training`."""

HOMES = {
    **{name: "model" for family in FAMILIES.values() for name in family.model_fields},
    **dict.fromkeys(TASK_FIELDS, "task"),
    **dict.fromkeys(DataConfig.model_fields, "data"),
    **dict.fromkeys(PLAIN_TRAINING, "training"),
    **{
        name: f"training.{kind.params_key}"
        for kind in CLASS_KEYS
        for known in kind.classes
        for name in known.fields
        if name not in PLAIN_TRAINING
    },
    "seed": "the top of the file: seed = 42",
}
"""Where keys live that people put in the wrong place."""


def config_values(document: Document) -> Document:
    """A config.py's values under the names of `RunConfig`. Raises ConfigError for keys that do not exist."""
    for name in ("model", "training"):
        if name not in document.values:
            raise refusal(None, f"{name} = {{...}} is missing; is the file complete?")
    plain = Document(lines=dict(document.lines))
    for name, value in document.values.items():
        if name != "seed" and not isinstance(value, dict):
            raise refusal(document.line((name,)), f"{name} is a dictionary; write {name} = {{...}}")
        plain.values[name] = dict(value) if name != "seed" else value
    _read_model(plain)
    _read_training(plain)
    plain.refuse_unknown(("data",), DataConfig.model_fields, HOMES)
    plain.refuse_unknown(("task",), fields_of(plain.values.get("task")), HOMES)
    return plain


def _read_model(plain: Document) -> None:
    model, data = plain.values["model"], plain.values.setdefault("data", {})
    family = model.setdefault("family", "informer")
    if not isinstance(family, str) or family not in FAMILIES:
        raise refusal(
            plain.line(("model", "family")), f"model.family={family!a:.60} is none of: {', '.join(FAMILIES)}"
        )
    known = FAMILIES[family].model_fields
    if "label_len" in data and "label_len" in known:
        # The original keeps the three lengths together; here label_len is the decoder's.
        line = plain.lines[("data", "label_len")]
        if "label_len" in model:
            raise refusal(line, "label_len stands in model and in data; keep the one in model")
        model["label_len"] = data.pop("label_len")
        plain.lines[("model", "label_len")] = line
    plain.refuse_unknown(("model",), known, HOMES)


def _read_training(plain: Document) -> None:
    written = plain.values["training"]
    keys = [key for kind in CLASS_KEYS for key in (kind.key, kind.params_key) if key]
    plain.refuse_unknown(("training",), (*keys, *PLAIN_TRAINING), HOMES)
    training = {name: value for name, value in written.items() if name in PLAIN_TRAINING}
    for kind in CLASS_KEYS:
        training |= _read_class(plain, kind)
    plain.values["training"] = training


def _read_class(plain: Document, kind: ClassKey) -> dict[str, Any]:
    """The fields of `TrainingConfig` that one class and its parameters stand for."""
    written = plain.values["training"]
    named = written.get(kind.key, None if kind.no_class else TorchName(kind.classes[0].name))
    line = plain.line(("training", kind.key))
    plain.lines[("training", kind.choice_field)] = line or 0
    params = written.get(kind.params_key, {}) if kind.params_key else {}
    if not isinstance(params, dict | None):
        line = plain.line(("training", kind.params_key or ""))
        raise refusal(line, f"training.{kind.params_key} is a dictionary; write {{...}}")
    if named is None and kind.no_class:
        if params:
            raise refusal(line, f"{kind.params_key} without a {kind.key}; name the class or remove them")
        return {kind.choice_field: kind.no_class}
    known = next((c for c in kind.classes if isinstance(named, TorchName) and c.name == named.full), None)
    if known is None:
        choices = ", ".join(c.usual for c in kind.classes) + (", None" if kind.no_class else "")
        raise refusal(line, f"training.{kind.key} is one of: {choices} (without quotes and parentheses)")
    return {kind.choice_field: known.choice} | _read_params(plain, kind, known, params or {})


def _read_params(
    plain: Document, kind: ClassKey, known: TorchClass, params: dict[str, Any]
) -> dict[str, Any]:
    path = ("training", kind.params_key or "")
    for name in params:
        others = [c.usual for c in kind.classes if name in c.fields and c is not known]
        if name not in known.fields and others:
            line = plain.line((*path, name))
            raise refusal(line, f"{name} belongs to {' and '.join(others)}; this file uses {known.usual}")
    plain.refuse_unknown(path, known.fields, HOMES)
    found = {}
    for name, target in known.fields.items():
        if name not in params and name not in known.defaults:
            raise refusal(plain.line(path), f"{kind.params_key} lacks {name}, which {known.usual} needs")
        found[target] = params.get(name, known.defaults.get(name))
        plain.lines[("training", target)] = plain.line((*path, name)) or 0
    return found
