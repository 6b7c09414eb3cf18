"""The scores of an ensemble on graphs: the mean of its members' numbers, or of their probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas_system.config_io.config_file import read_config
from nas_system.errors import ConfigError, StateError
from nas_system.nas_agent.recommended import Ensemble, Member
from nas_system.processes.run_files import RunPaths
from nas_system.space.task_info import TaskInfo
from nas_system.tasks import kind_of
from nas_system.tasks.kind import ScoredPart, Scoring
from nas_system.training.batches import unpack
from nas_system.training.checkpoint import load_checkpoint, restore_model
from nas_system.training.loops import predict
from nas_system.training.objectives import mean_output
from nas_system.training.reproducibility import resolve_device


def scores_on(
    part: ScoredPart, ensemble: Ensemble, info: TaskInfo, workspace: Path, device_name: str
) -> tuple[dict[str, Any], Tensor | None]:
    """Return an ensemble's metrics on a part, and the deciding one of every sample, (samples,).

    Raises ConfigError or StateError for members that cannot be had.
    """
    device = resolve_device(device_name)
    outputs: list[Tensor] = []
    scoring = None
    for member in ensemble.members:
        if member.kind == "baseline":
            raise ConfigError(f"{member.name}: a baseline of graphs cannot be a member")
        found, scoring = _outputs_of(member, part, info, workspace, device)
        outputs.append(found)
    assert scoring is not None, "an ensemble has members"
    objective, target = scoring.objective, _targets(scoring, device)
    weights = torch.tensor([member.weight for member in ensemble.members])
    output = mean_output(objective, torch.stack(outputs), weights / weights.sum())
    report = objective.report(output, target, None)
    per_sample = getattr(objective, "per_sample", None)
    metrics = {name: float(value) for name, value in zip(objective.names, report, strict=True)}
    return metrics | {"windows": len(target)}, None if per_sample is None else per_sample(output, target)


def _outputs_of(
    member: Member, part: ScoredPart, info: TaskInfo, workspace: Path, device: torch.device
) -> tuple[Tensor, Scoring]:
    """Return the mean output of a member's trainings on the samples of a part."""
    outputs: list[Tensor] = []
    scoring = None
    for training in member.trainings:
        paths = RunPaths(workspace / training.folder)
        config = read_config(paths.config, follow_link=False)
        scoring = kind_of(config.task).scoring(config, info, None, device, part)
        try:
            checkpoint = load_checkpoint(paths.best_model, sha256=training.sha256, follow_link=False)
            model = restore_model(scoring.build_model, checkpoint, paths.best_model).to(device)
        except StateError as error:
            raise StateError(f"{member.name}: {error}") from None
        outputs.append(predict(model, scoring.batches, scoring.objective, device))
    assert scoring is not None, "a run has trainings"
    equal = torch.full((len(outputs),), 1 / len(outputs))
    return mean_output(scoring.objective, torch.stack(outputs), equal), scoring


def _targets(scoring: Scoring, device: torch.device) -> Tensor:
    return torch.cat([unpack(raw, device).target.cpu() for raw in scoring.batches])
