"""Lessons: a short note on what worked, what failed and what is untouched, counted out of the runs.

Rebuilt from all runs every REBUILT_EVERY runs and never from its own last version: it cannot drift.
Figures are computed; the only words of others are hypotheses, in quotes, marked as unverified.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from nas_agent_graph.context import RunView
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

REBUILT_EVERY = 10
LONGEST_NOTE = 1500
"""Characters; what matters least is left out whole."""
MOST_CHANGES = 3
"""A run that changed more than this says nothing about any one of its changes."""
EFFECTS, WORDS = 4, 3
"""How many effects of each kind, and how many hypotheses, are told."""


@dataclass(frozen=True)
class Effect:
    """What one kind of change did to the score of its parents, over all runs that made it."""

    change: str
    """`training.lr up`, `model.normalization = "revin"`, `model.family = "gru"`."""
    gains: tuple[float, ...]
    """Score of the parent minus that of the run, in units; above 0 is better."""
    failed: int

    @property
    def middle(self) -> float:
        """The median: one diverging run must not speak for all."""
        return median(self.gains)


def lessons_note(
    runs: Sequence[RunView], base: RunConfig, noise: float | None, families: Iterable[str] = tuple(FAMILIES)
) -> str | None:
    """The note as it stands after the last full ten runs; None before there are ten."""
    counted = len(runs) - len(runs) % REBUILT_EVERY
    if counted == 0:
        return None
    runs = runs[:counted]
    scores = [run.val_score for run in runs if run.val_score is not None]
    if not scores:
        return f"After {counted} runs: none has a score. " + _families(runs, base, None, 1.0)
    unit = noise or 0.01 * min(scores) or 1.0
    meaning = "the noise" if noise else "1 % of the best score, the noise being unknown"
    effects = effects_of(runs, base, unit)
    scored = [effect for effect in effects if effect.gains]
    better = sorted((e for e in scored if e.middle > 1), key=lambda e: (-e.middle, e.change))
    worse = sorted((e for e in scored if e.middle < -1), key=lambda e: (e.middle, e.change))
    same = sorted((e for e in scored if abs(e.middle) <= 1), key=lambda e: (-len(e.gains), e.change))
    broken = sorted((e for e in effects if not e.gains), key=lambda e: (-e.failed, e.change))
    lines = [
        f"After {counted} runs. Gains are medians against the parent run, in units of {meaning}.",
        _families(runs, base, min(scores), unit),
        "Worked: " + _listed(better) + "." if better else "Worked: no kind of change beyond one unit.",
        "Made it worse: " + _listed(worse) + "." if worse else "",
        "Only failed: " + _listed(broken) + "." if broken else "",
        "No effect beyond one unit: " + _listed(same) + "." if same else "",
        _untouched(runs, base, families),
        *_words(runs, base.task.metric),
    ]
    return _bounded(lines)


def effects_of(runs: Sequence[RunView], base: RunConfig, unit: float) -> list[Effect]:
    """Every kind of change that was tried on a parent with a known configuration."""
    known = {run.run_id: run for run in runs}
    gains: dict[str, list[float]] = {}
    failed: Counter[str] = Counter()
    for index, run in enumerate(runs):
        parent = known.get(run.parent or "")
        if parent is None or run.config is None or index == 0:
            continue
        start = parent.config or (base if parent is runs[0] else None)
        for change in _kinds_of_change(start, run.config) if start else ():
            if run.val_score is None:
                failed[change] += 1
            elif parent.val_score is not None:
                gains.setdefault(change, []).append((parent.val_score - run.val_score) / unit)
    names = sorted({*gains, *failed})
    return [Effect(name, tuple(gains.get(name, ())), failed[name]) for name in names]


def _kinds_of_change(before: RunConfig, after: RunConfig) -> list[str]:
    """Numbers went up or down, choices became something; a new family stands for all it brings."""
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
    words = []
    for effect in effects[:EFFECTS]:
        runs = len(effect.gains) + effect.failed
        told = [f"{effect.middle:+.3g}"] if effect.gains else []
        told += [f"{runs} run" + "s" * (runs != 1)]
        told += [f"{effect.failed} failed"] if effect.failed and effect.gains else []
        words.append(f"{effect.change} ({', '.join(told)})")
    left = len(effects) - EFFECTS
    return "; ".join(words) + (f"; {left} more" if left > 0 else "")


def _families(runs: Sequence[RunView], base: RunConfig, best: float | None, unit: float) -> str:
    """Every family that was tried: how often, how far its best is from the best of all, how it failed."""
    by_family: dict[str, list[RunView]] = {}
    for run in runs:
        if run.family in FAMILIES:
            by_family.setdefault(run.family, []).append(run)
    rows = []
    for family, own in by_family.items():
        scores = [run.val_score for run in own if run.val_score is not None]
        distance = (min(scores) - best) / unit if scores and best is not None else float("inf")
        behind = "no score" if not scores else "the best" if distance <= 0 else f"behind by {distance:.3g}"
        failures = Counter(run.status for run in own if run.val_score is None)
        told = "".join(f", {count} {_word(status)}" for status, count in sorted(failures.items()))
        rows.append((distance, family, f"{family} {behind} in {len(own)}{told}"))
    return "Families, best first (runs): " + "; ".join(text for _, _, text in sorted(rows)) + "."


def _word(status: str) -> str:
    return status if status.replace("_", "").isalpha() and len(status) < 20 else "FAILED"


def _untouched(runs: Sequence[RunView], base: RunConfig, families: Iterable[str]) -> str:
    """What nobody has tried: families, and parameters of the best run's family."""
    tried = {run.family for run in runs}
    new = [family for family in families if family not in tried]
    scored = [run for run in runs if run.val_score is not None and run.config is not None]
    best = min(scored, key=lambda run: run.val_score or 0.0).config if scored else base
    assert best is not None
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


def _words(runs: Sequence[RunView], metric: str) -> list[str]:
    """The latest accepted runs as their proposers explained them, beside what became of the prediction."""
    told = [
        run
        for run in runs
        if run.accepted and run.hypothesis and run.parent and run.proposer.startswith("llm")
    ]
    lines = []
    for run in reversed(told[-WORDS:]):
        expected = "" if run.expected_score is None else f", expected {run.expected_score:.6g}"
        score = "none" if run.val_score is None else f"{run.val_score:.6g}"
        became = f"{run.run_id} ({metric} {score}{expected})"
        lines.append(f"Interpretation, unverified: {became} {quoted(run.hypothesis, 140)}")
    return lines


def _bounded(lines: Iterable[str]) -> str:
    """The lines that fit, in order of importance; none is cut in the middle."""
    kept: list[str] = []
    room = LONGEST_NOTE
    for line in lines:
        if line and len(line) + 1 <= room:
            kept.append(line)
            room -= len(line) + 1
    return "\n".join(kept)
