"""The original format of config.py, and how it maps to `RunConfig`, both ways.

    model = {"d_model": 32, ...}                            # RunConfig.model; no "family" means informer
    training = {"optimizer_class": optim.Adam, "optimizer_params": {"lr": 0.001}, ...}
    data = {"batch_size": 32, ...}
    task = {"dataset": "etth1", ...}
    seed = 42

A parameter that the file leaves out has the default of the PyTorch class it belongs to (SGD has
momentum 0, StepLR a gamma of 0.1), as it would in a program that passes `optimizer_params` on.
"""

from __future__ import annotations

from nas_system.config_io.document import Document, Layout, Values, translate, unchanged
from nas_system.config_io.literal_python import TorchName, parse_assignments
from nas_system.config_io.torch_classes import CLASS_KEYS, ClassKey, TorchClass, plain_fields
from nas_system.errors import ConfigError
from nas_system.space.families import FAMILIES
from nas_system.space.run_config import DataConfig, TrainingConfig
from nas_system.space.tasks import fields_of

_PLAIN_TRAINING = plain_fields(TrainingConfig.model_fields)


def values_of_python(text: str) -> Document:
    """Return a config.py's values under the names of `RunConfig`. Raises ConfigError."""
    document = parse_assignments(text)
    family = document.section(("model",)).get("family", "informer")
    if not isinstance(family, str) or family not in FAMILIES:
        reason = f"model.family={family!a:.60} is none of: {', '.join(FAMILIES)}"
        raise document.refusal(("model", "family"), reason)
    known = FAMILIES[family].model_fields
    layout = {
        **unchanged("model", known),
        **unchanged("training", _PLAIN_TRAINING),
        **unchanged("data", DataConfig.model_fields),
        **unchanged("task", fields_of(document.section(("task",)))),
        ("seed",): ("seed",),
    }
    if "label_len" in known:
        # The original keeps the three lengths together; here label_len is the decoder's.
        layout["data", "label_len"] = ("model", "label_len")
    settled: Values = {}
    for kind in CLASS_KEYS:
        chosen = _chosen_class(document, kind)
        layout |= {("training", kind.key): None, **_params_layout(document, kind, chosen)}
        settled[kind.choice_field] = chosen.choice if chosen else kind.no_class
        if chosen:
            settled |= {chosen.fields[name]: default for name, default in chosen.defaults.items()}
    plain = translate(document, layout)
    for name in ("model", "training"):
        if name not in document.values:
            raise ConfigError(f"{name} = {{...}} is missing; is the file complete?")
    plain.values["model"] = {"family": family} | plain.section(("model",))
    plain.values["training"] = settled | plain.section(("training",))
    return plain


def _chosen_class(document: Document, kind: ClassKey) -> TorchClass | None:
    """Return the class that `training` names, or that leaving it out stands for. Raises ConfigError."""
    default = None if kind.no_class else TorchName(kind.classes[0].name)
    named = document.section(("training",)).get(kind.key, default)
    if named is None and kind.no_class:
        return None
    for known in kind.classes:
        if named == TorchName(known.name):
            return known
    names = ", ".join(known.usual for known in kind.classes) + (", None" if kind.no_class else "")
    reason = f"training.{kind.key} is one of: {names} (without quotes and parentheses)"
    raise document.refusal(("training", kind.key), reason)


def _params_layout(document: Document, kind: ClassKey, chosen: TorchClass | None) -> Layout:
    """Return where the parameters of the chosen class stand and belong. Raises ConfigError."""
    if kind.params_key is None:
        return {}
    path = ("training", kind.params_key)
    given = document.section(("training",)).get(kind.params_key)
    params: Values = {} if given is None else document.section(path)
    if chosen is None:
        if params:
            reason = f"{kind.params_key} without a {kind.key}; name the class or remove them"
            raise document.refusal(path, reason)
        return {path: None}
    for name in params:
        owners = [known.usual for known in kind.classes if name in known.fields]
        if owners and chosen.usual not in owners:
            reason = f"{name} belongs to {' and '.join(owners)}; this file uses {chosen.usual}"
            raise document.refusal((*path, name), reason)
    for name in chosen.fields:
        if name not in chosen.defaults and name not in params:
            raise document.refusal(path, f"{kind.params_key} lacks {name}, which {chosen.usual} needs")
    layout: Layout = {(*path, name): ("training", target) for name, target in chosen.fields.items()}
    return layout if params else layout | {path: None}
