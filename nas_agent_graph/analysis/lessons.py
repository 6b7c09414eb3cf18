"""Lessons: a short note on what worked, what failed and what is untouched, computed from the runs.

Rebuilt from all runs every REBUILT_EVERY runs and never from its own last version: it cannot drift.
Numbers are computed; only the hypotheses are text by proposers, in quotes, marked as unverified.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from nas_agent_graph.search_view import PRUNED, RunView
from nas_agent_graph.text.untrusted import quoted
from nas_system.space import (
    FAMILIES,
    RunConfig,
    active_values,
    changes_between,
    is_active,
    parameters,
    value_at,
)
from nas_system.space.score import Direction, gain_of, loss_of

REBUILT_EVERY = 10
LONGEST_NOTE = 1500
"""Characters; what matters least is left out whole."""
MOST_CHANGES = 3
"""A run that changed more than this says nothing about any one of its changes."""
EFFECTS, HYPOTHESES = 3, 2
"""How many effects of each kind, and how many hypotheses, are listed."""


@dataclass(frozen=True)
class Effect:
    """What one kind of change did to the score of its parents, over all runs that made it."""

    change: str
    """`training.lr up`, `model.normalization = "revin"`, `model.family = "gru"`."""
    gains: tuple[float, ...]
    """By how much the run's score is better than its parent's, in units; below 0 is worse."""
    failed: int

    @property
    def middle(self) -> float:
        """Return the median: one diverging run must not decide."""
        return median(self.gains)


def lessons_note(
    runs: Sequence[RunView], base: RunConfig, noise: float | None, families: Iterable[str] = tuple(FAMILIES)
) -> str | None:
    """Write the note as of the last full ten runs; None before there are ten."""
    counted = len(runs) - len(runs) % REBUILT_EVERY
    if counted == 0:
        return None
    runs = runs[:counted]
    scores = [run.val_score for run in runs if run.val_score is not None]
    if not scores:
        return f"After {counted} runs: none has a score. " + _families(runs, base, None, 1.0)
    best = best_of(scores, base.task.direction)
    unit = noise or 0.01 * abs(best) or 1.0
    meaning = "the noise" if noise else "1 % of the best score, the noise being unknown"
    effects = effects_of(runs, base, unit)
    scored = [effect for effect in effects if effect.gains]
    better = sorted((e for e in scored if e.middle > 1), key=lambda e: (-e.middle, e.change))
    worse = sorted((e for e in scored if e.middle < -1), key=lambda e: (e.middle, e.change))
    same = sorted((e for e in scored if abs(e.middle) <= 1), key=lambda e: (-len(e.gains), e.change))
    broken = sorted((e for e in effects if not e.gains), key=lambda e: (-e.failed, e.change))
    lines = [
        f"After {counted} runs. Gains are medians against the parent run, in units of {meaning}."
        + (" A run stopped early counts with its best so far." if any(map(_was_pruned, runs)) else ""),
        _families(runs, base, best, unit),
        "Worked: " + _listed(better) + "." if better else "Worked: no kind of change beyond one unit.",
        "Made it worse: " + _listed(worse) + "." if worse else "",
        "Only failed: " + _listed(broken) + "." if broken else "",
        "No effect beyond one unit: " + _listed(same) + "." if same else "",
        _untouched(runs, base, families),
        *_hypotheses(runs, base.task.metric),
    ]
    return _bounded(lines)


def best_of(scores: Iterable[float], direction: Direction) -> float:
    """Return the best of at least one score."""
    return min(scores) if direction == "minimize" else max(scores)


def effects_of(runs: Sequence[RunView], base: RunConfig, unit: float) -> list[Effect]:
    """Return every kind of change that was tried on a parent with a known configuration."""
    known = {run.run_id: run for run in runs}
    gains: dict[str, list[float]] = {}
    failed: Counter[str] = Counter()
    for run in runs:
        parent = known.get(run.parent or "")
        if parent is None or run.config is None or run.is_base:
            continue
        start = parent.config or (base if parent.is_base else None)
        for change in _kinds_of_change(start, run.config) if start else ():
            score = run.best_so_far if _was_pruned(run) else run.val_score
            if score is None:
                failed[change] += 1
            elif parent.val_score is not None:
                gain = gain_of(score, parent.val_score, base.task.direction)
                gains.setdefault(change, []).append(gain / unit)
    names = sorted({*gains, *failed})
    return [Effect(name, tuple(gains.get(name, ())), failed[name]) for name in names]


def _was_pruned(run: RunView) -> bool:
    return run.status == PRUNED


def _kinds_of_change(before: RunConfig, after: RunConfig) -> list[str]:
    """Name the changes: numbers up or down, choices by value; a new family stands for all it brings."""
    if before.model.family != after.model.family:
        return [f'model.family = "{after.model.family}"']
    old = active_values(before)
    # What only a choice brings into effect (the step of a step schedule) is part of that choice.
    changes = [change for change in changes_between(before, after) if change.parameter in old]
    if len(changes) > MOST_CHANGES:
        return []
    kinds = {parameter.path: parameter.kind for parameter in parameters(after.model.family)}
    return [_kind(c.parameter, old[c.parameter], c.value, kinds[c.parameter]) for c in changes]


def _kind(path: str, old: object, new: object, kind: str) -> str:
    if kind == "choice":
        spelled = str(new).lower() if isinstance(new, bool) else f'"{new}"'
        return f"{path} = {spelled}"
    if isinstance(old, int | float) and isinstance(new, int | float):
        return f"{path} {'up' if new > old else 'down'}"
    return f"{path} to or from none"


def _listed(effects: Sequence[Effect]) -> str:
    listed = []
    for effect in effects[:EFFECTS]:
        runs = len(effect.gains) + effect.failed
        parts = [f"{effect.middle:+.3g}"] if effect.gains else []
        parts += [f"{runs} run" + "s" * (runs != 1)]
        parts += [f"{effect.failed} failed"] if effect.failed and effect.gains else []
        listed.append(f"{effect.change} ({', '.join(parts)})")
    left = len(effects) - EFFECTS
    return "; ".join(listed) + (f"; {left} more" if left > 0 else "")


def _families(runs: Sequence[RunView], base: RunConfig, best: float | None, unit: float) -> str:
    """List every tried family: how often, how far its best is behind the best of all, how it failed."""
    by_family: dict[str, list[RunView]] = {}
    for run in runs:
        if run.family in FAMILIES:
            by_family.setdefault(run.family, []).append(run)
    rows, direction = [], base.task.direction
    for family, own in by_family.items():
        scores = [run.val_score for run in own if run.val_score is not None]
        distance = float("inf")
        if scores and best is not None:
            distance = gain_of(best, best_of(scores, direction), direction) / unit
        behind = "no score" if not scores else "the best" if distance <= 0 else f"behind by {distance:.3g}"
        failures = Counter(run.status for run in own if run.val_score is None and not _was_pruned(run))
        failed = "".join(f", {count} {_known_status(name)}" for name, count in sorted(failures.items()))
        stopped = sum(map(_was_pruned, own))
        failed += f", {stopped} stopped early" if stopped else ""
        rows.append((distance, family, f"{family} {behind} in {len(own)}{failed}"))
    return "Families, best first (runs): " + "; ".join(text for _, _, text in sorted(rows)) + "."


def _known_status(status: str) -> str:
    """Return the status, or FAILED for text that anybody may have written into the state file."""
    return status if status.replace("_", "").isalpha() and len(status) < 20 else "FAILED"


def _untouched(runs: Sequence[RunView], base: RunConfig, families: Iterable[str]) -> str:
    """List what has not been tried: families, and parameters of the best run's family."""
    tried = {run.family for run in runs}
    new = [family for family in families if family not in tried]
    direction = base.task.direction
    scored = [
        (loss_of(r.val_score, direction), r.config) for r in runs if r.val_score is not None and r.config
    ]
    best = min(scored, key=lambda pair: pair[0])[1] if scored else base
    configs = [run.config for run in runs if run.config and run.config.model.family == best.model.family]
    same = [
        parameter.path
        for parameter in parameters(best.model.family)
        if parameter.sampled
        and is_active(best, parameter)
        and len({str(value_at(config, parameter.path)) for config in configs}) < 2
    ]
    parts = [f"families {', '.join(new)}"] if new else []
    if same:
        more = f" and {len(same) - 8} more" if len(same) > 8 else ""
        parts.append(f"with {best.model.family} always as it was: {', '.join(same[:8])}{more}")
    return f"Next, because untouched: {'; '.join(parts)}." if parts else ""


def _hypotheses(runs: Sequence[RunView], metric: str) -> list[str]:
    """List the latest accepted runs as their proposers explained them, next to their scores."""
    explained = [
        run
        for run in runs
        if run.accepted and run.hypothesis and run.parent and run.proposer.startswith("llm")
    ]
    lines = []
    for run in reversed(explained[-HYPOTHESES:]):
        expected = "" if run.expected_score is None else f", expected {run.expected_score:.6g}"
        score = "none" if run.val_score is None else f"{run.val_score:.6g}"
        result = f"{run.run_id} ({metric} {score}{expected})"
        lines.append(f"Interpretation, unverified: {result} {quoted(run.hypothesis, 140)}")
    return lines


def _bounded(lines: Iterable[str]) -> str:
    """Join the lines that fit, in order of importance; none is cut in the middle."""
    kept: list[str] = []
    room = LONGEST_NOTE
    for line in lines:
        if line and len(line) + 1 <= room:
            kept.append(line)
            room -= len(line) + 1
    return "\n".join(kept)
