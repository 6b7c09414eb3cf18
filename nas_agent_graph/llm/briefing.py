"""The content of a prompt, chosen and bounded. Pure functions of the view.

What stays the same for a whole search is the first message, byte for byte, so that servers which cache the
beginning of a prompt read it once; the second message has what changes.

The prompt must not grow with the search, and evidence says what to keep: the best, the latest, the
best of every family, failures and runs stopped early with their cause (hidden ones are repeated), and
what is in progress. The templates in `prompts/` only format it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, stdev
from typing import Any

from nas_agent_graph.analysis.calibration import Prediction, calibrate, format_calibration
from nas_agent_graph.analysis.lessons import REBUILT_EVERY, lessons_note
from nas_agent_graph.analysis.marginals import marginals_of
from nas_agent_graph.analysis.stagnation import demanded, flat_runs, flat_words, is_stuck
from nas_agent_graph.analysis.training_facts import TrainingFacts
from nas_agent_graph.budget import Left
from nas_agent_graph.llm.answer import Message
from nas_agent_graph.llm.answer_formats import MOST_CANDIDATES
from nas_agent_graph.llm.prompts import render
from nas_agent_graph.search_view import PRUNED, RunView, SearchView
from nas_agent_graph.text.terminal import duration
from nas_system.files import finite
from nas_system.space import FAMILIES, Change, changes_between
from nas_system.space.changes import default_next_to
from nas_system.space.data_card import card_of, known_of, series_of
from nas_system.space.overview import overview, sentence_of, tried_values
from nas_system.space.score import gain_of, loss_of

BEST, RECENT, FAILED, STOPPED_EARLY = 6, 5, 3, 3
"""How many runs of each kind are shown."""
BEST_FAMILIES = 6
"""Families whose best run is shown besides; the lessons tell how far behind the others are."""
NEAR = 6
"""How many configurations near the best run are listed besides."""
NEAR_CHANGES = 3
"""Differing in more parameters than this is not near."""
SHOWN_RUNNING = 8
"""Runs in progress that are listed, the latest."""
SHOWN_CHANGES = 12
SHOWN_COLUMNS = 40
SHOWN_PROPOSERS = 3
SHOWN_TIES = 6
SPELLED_FAMILIES = 3
"""In a compact prompt, the families with the best scores; and as many untried ones."""
_STATUS = re.compile(r"[A-Z_]{2,20}")


@dataclass(frozen=True)
class ShownChanges:
    """Parameters and their new values, and how many more there are."""

    listed: Mapping[str, object]
    more: int


@dataclass(frozen=True)
class ShownRun:
    """A run as the templates show it."""

    run_id: str
    status: str
    cause: str | None
    val_score: float | None
    delta: float | None
    """Score minus the best run's."""
    in_noise: float | None
    """The same in units of the noise."""
    accepted: bool
    is_best_run: bool
    family: str | None
    """None for a family that this program does not know."""
    parent: str | None
    changes: ShownChanges | None
    """Against the base config, or for a run near the best one against that; None when the configuration is
    gone."""
    summary: str
    seeds: int
    """That the score is the mean of."""
    spread: float | None
    """Standard deviation over them; None below two."""
    failed_repeats: int
    luck: float | None
    """How probable it is, by the noise of seeds, that the lead of this run is none; None for others."""
    epochs: int
    """That a run stopped early, or one in progress, has trained."""
    best_so_far: float | None
    """Best score of those epochs; None for other runs, too."""
    training: TrainingFacts | None = None
    detailed: bool = True
    """Whether what its training was matters: not of a run that is shown for its family alone."""
    against: str | None = None
    """The best run, where the difference to that is shorter."""
    short: ShownChanges | None = None
    """Against the run named in `against`, or the base config; the family is no change of its own."""


def opening_messages(
    view: SearchView, folder: Path | None = None, *, candidates: int = 1, compact: bool = False
) -> list[Message]:
    """Return the first question about a run, before any answer; `folder` holds custom templates.

    `candidates` is how many ranked proposals an answer may hold. A `compact` prompt (or view) spells out only
    the families that still matter: for a server that caches nothing, or reads little.
    """
    values = prompt_values(view, candidates=candidates, compact=compact)
    return [
        {"role": "system", "content": render("system", folder, **values)},
        {"role": "user", "content": render("propose", folder, **values)},
    ]


def prompt_values(view: SearchView, *, candidates: int = 1, compact: bool = False) -> dict[str, Any]:
    """Return the values for the templates. The view holds no test metric to begin with."""
    shown, ties = shown_runs(view), tied_runs(view)
    spelled = spelled_families(view) if compact or view.compact else view.families
    near = [run for run in near_best(view) if all(run.run_id != other.run_id for other in shown)]
    return {
        "run_id": view.run_id,
        "n_runs": len(view.runs),
        "n_running": len(view.running),
        "runs_left": view.max_runs - len(view.runs) - len(view.running),
        "left": format_remaining(view.left),
        "run_limit": format_run_limit(view),
        "task": view.task,
        "metric": view.task.metric,
        "sizes": view.sizes,
        "measured": {
            name: number for name, value in view.measured.items() if (number := finite(value)) is not None
        },
        "card": card_of(view.measured),
        "n_series": series_of(view.measured),
        "known": known_of(view.measured),
        "better": "lower" if view.task.direction == "minimize" else "higher",
        "columns": view.columns[:SHOWN_COLUMNS],
        "more_columns": max(len(view.columns) - SHOWN_COLUMNS, 0),
        "baselines": sorted(view.baselines, key=lambda row: -loss_of(row[1], view.task.direction)),
        "noise": view.noise,
        "noise_runs": view.noise_runs,
        "resolution": view.resolution,
        "by_mean": view.leads_by == "mean",
        "final": view.final,
        "repeats_left": view.repeats_left,
        "ties": ties[:SHOWN_TIES],
        "more_ties": len(ties[SHOWN_TIES:]),
        "best_run": view.best_run,
        "runs": _listed(shown, view),
        "running": [_compared(run, view) for run in view.running[-SHOWN_RUNNING:]],
        "near": near[:NEAR],
        "marginals": [one for one in marginals_of(view.runs, view.task.direction) if one.parameters],
        "trainings_left": trainings_left(view),
        "notes": view.notes.splitlines(),
        "candidates": max(1, min(candidates, MOST_CANDIDATES)),
        "lessons": lessons_note(view.runs, view.base, view.noise, view.families),
        "lessons_every": REBUILT_EVERY,
        "calibration": _calibration(view),
        "flat": flat_runs(view.runs) if is_stuck(view) else 0,
        "flat_words": flat_words(view),
        "demanded": demanded(view),
        "families": [
            {
                "name": name,
                "meaning": sentence_of(name),
                "tried": tried_values(name, default_next_to(view.base, name, view.fit)),
                "reads_covariates": FAMILIES[name].reads_covariates,
                "spelled": name in spelled,
            }
            for name in view.families
        ],
        "compact": len(spelled) < len(view.families),
        "space": overview(spelled, view.task, defaults_apart=True),
        "max_seq_len": view.max_seq_len,
    }


def format_run_limit(view: SearchView) -> str:
    """Describe what one training may take; empty without a limit."""
    compute = "" if view.run_seconds is None else f"{duration(view.run_seconds)} of compute"
    steps = "" if view.run_steps is None else f"{view.run_steps:,} optimizer steps"
    return " and ".join(filter(None, (compute, steps)))


def format_remaining(left: Left) -> list[str]:
    """Describe what is left of the budget besides the runs."""
    parts = [] if left.seconds is None else [f"{duration(left.seconds)} of time"]
    parts += [] if left.tokens is None else [f"{left.tokens:,} tokens of prompts and answers"]
    return parts + ([] if left.cost_usd is None else [f"${left.cost_usd:.2f} for them"])


def trainings_left(view: SearchView) -> int | None:
    """Return how many trainings of median length fit one after another into the time that is left.

    None without a limit of time, or before a training has told how long it takes.
    """
    lengths = [run.training.wall_s for run in view.runs if run.training and run.training.wall_s]
    if view.left.seconds is None or not lengths:
        return None
    return int(view.left.seconds / median(lengths))


def spelled_families(view: SearchView) -> tuple[str, ...]:
    """Return the families that still matter: with the best scores, and the next that nobody has tried."""
    losses: dict[str, float] = {}
    for run in view.runs:
        if run.val_score is not None and run.family in view.families:
            loss = loss_of(run.val_score, view.task.direction)
            losses[run.family] = min(loss, losses.get(run.family, math.inf))
    tried = {run.family for run in (*view.runs, *view.running)}
    best = sorted(losses, key=lambda family: (losses[family], family))[:SPELLED_FAMILIES]
    untried = [family for family in view.families if family not in tried][:SPELLED_FAMILIES]
    base = [view.base.model.family] if not best else []
    return tuple(family for family in view.families if family in (*best, *untried, *base))


def shown_runs(view: SearchView) -> list[RunView]:
    """Choose a bounded number of runs, worst first: failures, those stopped early, then by score."""
    scored = _by_score(view)
    pruned = [run for run in view.runs if run.status == PRUNED]
    failed = [run for run in view.runs if run.val_score is None and run.status != PRUNED]
    chosen = {
        run.run_id: run
        for run in (*scored[:BEST], *view.runs[-RECENT:], *failed[-FAILED:], *pruned[-STOPPED_EARLY:])
    }
    best_of = {run.family: run for run in reversed(scored) if run.family in view.families}
    of_families = sorted(best_of.values(), key=lambda run: _loss(run, view))
    chosen |= {run.run_id: run for run in of_families[:BEST_FAMILIES]}
    place = {run.run_id: index for index, run in enumerate(view.runs)}

    def order(run: RunView) -> tuple[float, bool, int]:
        return -_loss(run, view), run.status == PRUNED, place[run.run_id]

    return sorted(chosen.values(), key=order)


def _by_score(view: SearchView) -> list[RunView]:
    """Return the runs that have a score, the best first."""
    return sorted((run for run in view.runs if run.val_score is not None), key=lambda run: _loss(run, view))


def _loss(run: RunView, view: SearchView) -> float:
    return math.inf if run.val_score is None else loss_of(run.val_score, view.task.direction)


def tied_runs(view: SearchView) -> list[str]:
    """Return the runs that the validation rows cannot tell from the best run, best first."""
    best = None if view.best_run is None else view.best_run.val_score
    if best is None or view.resolution is None:
        return []
    direction, resolution = view.task.direction, view.resolution
    gains = [
        (gain_of(best, run.val_score, direction), run.run_id)
        for run in view.runs
        if run.val_score is not None and run is not view.best_run
    ]
    return [run_id for gain, run_id in sorted(gains) if gain < resolution]


def near_best(view: SearchView) -> list[ShownRun]:
    """Return runs whose configuration differs from the best run's in a few parameters, nearest first.

    Of equally near ones the latest comes first.
    """
    best_run = view.best_run
    if best_run is None or best_run.config is None:
        return []
    found = []
    for index, run in enumerate(view.runs):
        if run.config is None or run.run_id == best_run.run_id or run.family != best_run.config.model.family:
            continue
        changes = changes_between(best_run.config, run.config)
        if 0 < len(changes) <= NEAR_CHANGES:
            found.append((len(changes), -index, run, changes))
    found.sort(key=lambda entry: entry[:2])
    return [_shown(run, view, changes) for _, _, run, changes in found]


def _listed(runs: Sequence[RunView], view: SearchView) -> list[ShownRun]:
    """Return the runs with what their trainings were, where that matters: of the best and the latest, and of
    any that a limit cut, because its score says less."""
    matter = {run.run_id for run in (*_by_score(view)[:BEST], *view.runs[-RECENT:])}
    matter |= {run.run_id for run in runs if run.training is not None and run.training.cut_to is not None}
    return [replace(_compared(run, view), detailed=run.run_id in matter) for run in runs]


def _compared(run: RunView, view: SearchView) -> ShownRun:
    """Return the run with its changes against the base config, and the shorter difference."""
    if run.config is None:
        return _shown(run, view, None)
    changes, best_run = changes_between(view.base, run.config), view.best_run
    short, against = [change for change in changes if change.parameter != "model.family"], None
    if best_run is not None and best_run.config is not None and run.run_id != best_run.run_id:
        from_best = changes_between(best_run.config, run.config)
        if len(from_best) < len(short):
            short, against = from_best, best_run.run_id
    return replace(_shown(run, view, changes), against=against, short=_first(short))


def _shown(run: RunView, view: SearchView, changes: Sequence[Change] | None) -> ShownRun:
    best_score = view.best_run.val_score if view.best_run else None
    delta = run.val_score - best_score if run.val_score is not None and best_score is not None else None
    return ShownRun(
        run_id=run.run_id,
        # agent_state.json may have been edited by anybody; a status is one word.
        status=run.status if _STATUS.fullmatch(run.status) else "FAILED",
        cause=run.cause,
        val_score=run.val_score,
        delta=delta,
        in_noise=delta / view.noise if delta is not None and view.noise else None,
        accepted=run.accepted,
        is_best_run=view.best_run is not None and run.run_id == view.best_run.run_id,
        family=run.family if run.family in FAMILIES else None,
        parent=run.parent if any(run.parent == other.run_id for other in view.runs) else None,
        changes=None if changes is None else _first(changes),
        summary=run.summary,
        seeds=len(run.scores),
        spread=stdev(run.scores) if len(run.scores) > 1 else None,
        failed_repeats=run.failed_repeats,
        luck=view.luck.get(run.run_id),
        epochs=run.epochs,
        best_so_far=run.best_so_far,
        training=run.training,
    )


def _first(changes: Sequence[Change]) -> ShownChanges:
    listed = {change.parameter: change.value for change in changes[:SHOWN_CHANGES]}
    return ShownChanges(listed, max(len(changes) - SHOWN_CHANGES, 0))


def _calibration(view: SearchView) -> list[tuple[str, str]]:
    """Return each proposer with how good its predictions were."""
    predictions = [
        Prediction(run.proposer, run.expected_score, run.val_score)
        for run in view.runs
        if run.expected_score is not None
    ]
    rows = calibrate(predictions, view.noise, view.task.direction)[:SHOWN_PROPOSERS]
    return [(row.proposer, format_calibration(row, view.noise)) for row in rows]
