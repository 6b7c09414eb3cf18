"""Makes an archive: random tasks, random configurations of the whole space, a real training of each.

python -m nas_system.netformer archive --out archive.jsonl.gz --tasks 40 --configs 40 --seed 0
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from nas_system.data.baselines import score_baselines
from nas_system.data.loading import open_task
from nas_system.errors import ConfigError
from nas_system.files import write_atomic
from nas_system.netformer.specs.archive.archive_file import (
    HELD_OUT,
    TRAIN,
    Archive,
    ArchivedTask,
    config_of,
    write_archive,
)
from nas_system.netformer.specs.archive.config_drawing import draw_config
from nas_system.netformer.specs.archive.synthetic_tasks import TaskRecipe, csv_of, draw_recipe, task_of
from nas_system.netformer.specs.archive.trainings import Limits, Results, train_missing
from nas_system.netformer.specs.task_features import task_features
from nas_system.space import ForecastingTask, RunConfig, active_values, canonical_key
from nas_system.space.sampling import fitting_default, usable_families

SHARED_SEED = 7
HELD_OUT_SEEDS = 500_000
"""Distance between the seeds of the two parts, so that no task is in both."""


@dataclass(frozen=True)
class Plan:
    """How large the archive becomes."""

    tasks: int
    configs: int
    held_out: int
    held_out_configs: int
    shared: int
    """Configurations, beside the families' defaults, that every task is trained with."""
    seed: int


def recipes_of(plan: Plan) -> list[tuple[str, TaskRecipe]]:
    """Every task with its part; every other held-out task has ingredients that the others lack."""
    first = plan.seed * 1_000_000
    train = [(TRAIN, draw_recipe(f"train_{i:02d}", first + i)) for i in range(plan.tasks)]
    start = first + HELD_OUT_SEEDS
    held_out = [
        (HELD_OUT, draw_recipe(f"held_{i:02d}", start + i, novel=i % 2 == 1)) for i in range(plan.held_out)
    ]
    return train + held_out


def configs_for(
    task: ForecastingTask, max_seq_len: int, wanted: int, shared: list[RunConfig], seed: int
) -> list[RunConfig]:
    """Different configurations: every family's default, the shared ones that fit, and the task's own."""
    found: dict[str, RunConfig] = {}
    for family in usable_families(task):
        default = fitting_default(family, task, 42, max_seq_len)
        if default is not None:
            found.setdefault(canonical_key(default), default)
    for config in shared:
        fitted = _fitted(config, task, max_seq_len)
        if fitted is not None:
            found.setdefault(canonical_key(fitted), fitted)
    generator = random.Random(seed)
    while len(found) < wanted:
        config = draw_config(task, max_seq_len, generator, seed=42)
        found.setdefault(canonical_key(config), config)
    return list(found.values())[:wanted]


def shared_configs(count: int) -> list[RunConfig]:
    generator = random.Random(SHARED_SEED)
    return [draw_config(ForecastingTask(), None, generator, seed=42) for _ in range(count)]


def _fitted(config: RunConfig, task: ForecastingTask, max_seq_len: int) -> RunConfig | None:
    """The same configuration on another task; None where it does not fit."""
    if config.data.seq_len > max_seq_len:
        return None
    try:
        return config_of(active_values(config), task)
    except ConfigError:
        return None


def make_archive(plan: Plan, out: Path, work: Path, limits: Limits, *, made_by: str) -> Archive:
    """Train what is missing in `work`, then write the archive. The same command goes on after a kill."""
    work.mkdir(parents=True, exist_ok=True)
    results = Results(work)
    shared = shared_configs(plan.shared)
    tasks: list[ArchivedTask] = []
    trainings: list[tuple[str, RunConfig]] = []
    for part, recipe in recipes_of(plan):
        archived, opened = _archived_task(part, recipe, work)
        tasks.append(archived)
        wanted = plan.configs if part == TRAIN else plan.held_out_configs
        configs = configs_for(opened, archived.max_seq_len, wanted, shared, recipe.seed)
        trainings += [(recipe.name, config) for config in configs]
    started, before = time.monotonic(), len(results.rows)
    for done, row in train_missing(trainings, results, work, limits):
        score = "-" if row.score is None else f"{row.score:.5g}"
        elapsed = time.monotonic() - started
        print(
            f"{done}/{len(trainings)} {row.task} {row.family} {row.status} {score} "
            f"{row.seconds:.2f} s, {elapsed:,.0f} s in all",
            flush=True,
        )
    rows = tuple(results.rows[task, canonical_key(config)] for task, config in trainings)
    seconds = sum(row.seconds for row in rows)
    words = f"{made_by} ({len(rows)} trainings, {seconds:,.0f} s of training"
    words += f"; {before} of them by an earlier start)" if before else ")"
    archive = Archive({task.name: task for task in tasks}, rows, made_by=words)
    write_archive(out, archive)
    return archive


def _archived_task(part: str, recipe: TaskRecipe, work: Path) -> tuple[ArchivedTask, ForecastingTask]:
    """The task as the archive keeps it, and as it is trained: with the path of its file."""
    path = (work / f"{recipe.name}.csv").absolute()
    content = csv_of(recipe)
    if not path.exists() or path.read_bytes() != content:
        write_atomic(path, content)
    task = task_of(recipe, str(path))
    data = open_task(task)
    baselines = {row.name: row.scores["val_mse"] for row in score_baselines(data, ("val",))}
    archived = ArchivedTask(
        name=recipe.name,
        part=part,
        task=task.model_copy(update={"dataset": f"{recipe.name}.csv"}),
        max_seq_len=data.split.train_end - task.pred_len,
        features=tuple(task_features(data).values()),
        baselines=baselines,
        recipe=recipe.to_json(),
    )
    return archived, task
