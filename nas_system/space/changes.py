"""Proposals as changes: from a parent's config to a new one, with errors a proposer can act on."""

from __future__ import annotations

import difflib
import importlib.resources
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import yaml
from pydantic import ConfigDict, ValidationError

from nas_system.errors import ProposalError
from nas_system.space.families import FAMILIES, families_of
from nas_system.space.fields import ConfigModel, Parameter
from nas_system.space.run_config import (
    RunConfig,
    active_values,
    inactive_because,
    is_active,
    parameters,
    value_at,
)
from nas_system.space.series_defaults import SeriesFit, fitted_to_series
from nas_system.space.tasks import TASK_CLASSES

_SYNONYMS = (
    ("lr", "learning_rate", "initial_lr", "base_lr"),
    ("d_model", "hidden_size", "hidden_dim", "hidden", "hidden_units", "width", "embed_dim", "model_dim"),
    ("num_layers", "e_layers", "n_layers", "layers", "depth", "encoder_layers"),
    ("n_heads", "heads", "num_heads", "nhead", "attention_heads"),
    ("d_ff", "ff_dim", "ffn_dim", "dim_feedforward"),
    ("dropout", "dropout_rate", "drop_rate"),
    ("batch_size", "batch", "bs"),
    ("seq_len", "lookback", "look_back", "window", "input_len", "input_length", "context_length", "history"),
    ("max_epochs", "epochs", "num_epochs", "n_epochs"),
    ("max_steps", "steps", "num_steps", "train_steps"),
    ("weight_decay", "wd", "l2", "strength"),
    ("optimizer", "optimiser", "optim"),
    ("scheduler", "lr_scheduler", "lr_schedule", "schedule"),
    ("loss", "loss_fn", "loss_function", "criterion"),
    ("grad_clip", "gradient_clip", "gradient_clipping", "clip_norm", "max_grad_norm"),
    ("warmup_share", "warmup", "warmup_ratio", "warmup_steps"),
    ("patience", "early_stopping", "early_stopping_patience"),
    ("patch_len", "patch_size", "patch_length"),
    ("kernel_size", "kernel", "filter_size"),
    ("normalization", "normalisation", "norm", "revin"),
    ("family", "architecture", "arch", "model", "model_type"),
)
"""Names in use for the same parameter, of which a family has one."""


class Change(ConfigModel):
    """One parameter and its new value."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    parameter: str
    value: Any


@cache
def family_default(family: str) -> RunConfig:
    """The family's tried default: `nas_system/configs/models/<family>_default.yaml`."""
    file = importlib.resources.files("nas_system") / "configs" / "models" / f"{family}_default.yaml"
    return RunConfig.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))


def starting_point(parent: RunConfig, family: str, fit: SeriesFit | None = None) -> RunConfig:
    """What changes go on top of: `parent`, or another family's default with the parent's task and seed.

    `fit` is what was measured of the series; the default has the values that it suggests.
    """
    return parent if family == parent.model.family else default_next_to(parent, family, fit)


def default_next_to(parent: RunConfig, family: str, fit: SeriesFit | None = None) -> RunConfig:
    """Return the family's default with the parent's task and seed, and the values that `fit` suggests."""
    # Not validated: a change may be what makes the default fit the task.
    default = family_default(family).model_copy(update={"task": parent.task, "seed": parent.seed})
    if fit is None or not parent.task.is_series:
        return default
    fitted = fitted_to_series(default.model_dump(), fit)
    parts = {
        name: getattr(default, name).model_copy(update=fitted[name]) for name in ("model", "data", "training")
    }
    return default.model_copy(update=parts)


def apply_changes(
    parent: RunConfig,
    changes: Sequence[Change],
    *,
    max_seq_len: int | None = None,
    fit: SeriesFit | None = None,
) -> RunConfig:
    """`parent` with the changes applied; task and seed stay.

    Changing `model.family` starts from that family's default configuration, with what `fit` suggests; the
    other changes go on top of it. `max_seq_len` is the longest look-back that leaves a training window.
    Raises ProposalError naming every problem.
    """
    problems = _duplicates(changes)
    family = next((c.value for c in changes if c.parameter == "model.family"), parent.model.family)
    serving = families_of(parent.task.kind)
    if not isinstance(family, str) or family not in serving:
        raise ProposalError(
            f"model.family={family!r} is not a family for this task; choose from: {', '.join(serving)}"
        )
    known = {parameter.path: parameter for parameter in parameters(family)}
    plain = starting_point(parent, family, fit).model_dump()
    for change in changes:
        if change.parameter == "model.family":
            continue
        if change.parameter not in known:
            problems.append(_unknown(change.parameter, family, list(known)))
            continue
        group, name = change.parameter.split(".", 1)
        plain[group][name] = change.value
    if problems:
        raise ProposalError("; ".join(problems))
    try:
        config = RunConfig.model_validate(plain)
    except ValidationError as error:
        raise ProposalError(explain(error, known={p: known[p].domain for p in known})) from None
    problems = _without_effect(config, changes) + _too_long(config, changes, max_seq_len)
    if problems:
        raise ProposalError("; ".join(problems))
    return config


def changes_between(parent: RunConfig, config: RunConfig, fit: SeriesFit | None = None) -> list[Change]:
    """The changes that lead from `parent` to `config` (task and seed aside).

    `apply_changes(parent, changes_between(parent, config, fit), fit=fit)` has the canonical key of `config`.
    """
    changes = []
    start = parent
    if config.model.family != parent.model.family:
        changes.append(Change(parameter="model.family", value=config.model.family))
        start = starting_point(parent, config.model.family, fit)
    before, after = active_values(start), active_values(config)
    after |= {
        p.path: None for p in parameters(config.model.family) if p.path in before and _is_unset(config, p)
    }
    changes += [
        Change(parameter=path, value=value)
        for path, value in after.items()
        if path != "model.family" and (path not in before or before[path] != value)
    ]
    return changes


def _is_unset(config: RunConfig, parameter: Parameter) -> bool:
    return value_at(config, parameter.path) is None and is_active(config, parameter)


def explain(
    error: ValidationError,
    known: dict[str, str] | None = None,
    locate: Callable[[tuple[str, ...]], str] = lambda path: "",
) -> str:
    """pydantic's error as one line a person or a language model can act on.

    `known` holds the allowed values of a path; `locate` says where in a file a path stands (`line 3: `).
    """
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        location = place_of(item["loc"])
        path, line = ".".join(location), locate(location)
        # pydantic quotes what it was given, control characters included.
        message = _printable(item["msg"].removeprefix("Value error, "))
        if item["type"] == "value_error":
            lines.append(line + message)  # ours: it names the fields itself
            continue
        value = "" if isinstance(item["input"], dict) else f"={_short(item['input'])}"
        allowed = f" (allowed: {known[path]})" if known and path in known else ""
        lines.append(f"{line}{path}{value}: {message}{allowed}")
    return "; ".join(lines)


def place_of(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """Where pydantic found an error, by the names that people write: without the tags of unions."""
    path = tuple(str(part) for part in location)
    tags = {"model": FAMILIES, "task": TASK_CLASSES}.get(path[0], ()) if path else ()
    return path[:1] + path[2:] if len(path) > 1 and path[1] in tags else path


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _duplicates(changes: Sequence[Change]) -> list[str]:
    names = [change.parameter for change in changes]
    return [f"{_short(name)} is changed twice" for name in dict.fromkeys(names) if names.count(name) > 1]


def _unknown(path: str, family: str, known: list[str]) -> str:
    if path.split(".")[0] in ("task", "seed"):
        return f"{_short(path)} is fixed for this search and cannot be changed"
    meant = _meant_by(path, known)
    hint = f"; did you mean {meant}?" if meant else f"; there are: {', '.join(known)}"
    return f"{_short(path)} is not a parameter of the family {family}{hint}"


def _meant_by(path: str, known: Sequence[str]) -> str | None:
    """Return the parameter that a name stands for elsewhere, or that it nearly is; None if there is none."""
    name = path.rsplit(".", 1)[-1].strip().lower().replace("-", "_")
    by_name = {"family": "model.family"} | {parameter.rsplit(".", 1)[-1]: parameter for parameter in known}
    others = next((names for names in _SYNONYMS if name in names), ())
    for spelling in (name, *others):
        if spelling in by_name:
            return by_name[spelling]
    close = difflib.get_close_matches(path, known, n=1)
    if close:
        return close[0]
    close = difflib.get_close_matches(name, list(by_name), n=1, cutoff=0.75)
    return by_name[close[0]] if close else None


def _without_effect(config: RunConfig, changes: Sequence[Change]) -> list[str]:
    """Changes that change nothing would make a repetition look like a new run."""
    by_path = {parameter.path: parameter for parameter in parameters(config.model.family)}
    value = partial(value_at, config)
    return [
        f"{change.parameter} has no effect here: {reason}"
        for change in changes
        if change.parameter in by_path
        and (reason := inactive_because(by_path[change.parameter], config.task, value))
    ]


def _too_long(config: RunConfig, changes: Sequence[Change], max_seq_len: int | None) -> list[str]:
    if max_seq_len is None or config.data.seq_len <= max_seq_len:
        return []
    changed = any(change.parameter == "data.seq_len" for change in changes)
    where = "" if changed else " (where these changes start)"
    return [
        f"data.seq_len={config.data.seq_len}{where} is longer than this series allows: {max_seq_len} at most "
        f"with task.pred_len={config.forecasting.pred_len}; set data.seq_len"
    ]
