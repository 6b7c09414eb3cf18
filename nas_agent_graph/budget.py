"""What a search may spend, what it has spent, and what is left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nas_system.errors import ProposalError
from nas_system.files import finite
from nas_system.nas_agent.agent_state import ASKED, AgentState, RunInfo

WARNED_AT = (0.5, 0.8)
"""Shares of a budget at which a note is printed."""

MOST_ASKED = 0.12
"""Most repeats that a proposer may ask for, as a share of all trainings that have begun."""


class BudgetSpent(ProposalError):
    """The language model may not be asked again; the fallback sampler steps in at once."""


@dataclass(frozen=True)
class Spent:
    """What a search has used up."""

    runs: int
    seconds: float
    """Of this process: a search that is continued begins to count again."""
    tokens: int
    cost_usd: float = 0.0
    """Of the answers whose price was known when they came."""

    @classmethod
    def by(cls, runs: Sequence[RunInfo], seconds: float = 0.0) -> Spent:
        """Sum up what these runs have used."""
        tokens, cost = sum(run.tokens for run in runs), sum(run.cost_usd or 0.0 for run in runs)
        return cls(len(runs), seconds, tokens, cost)

    def plus(self, proposals: Sequence[Mapping[str, Any]]) -> Spent:
        """Add runs in progress: what their proposals, which anybody may have edited, say that they cost."""
        tokens = [record.get("tokens") for record in proposals]
        costs = [finite(record.get("cost_usd")) for record in proposals]
        return replace(
            self,
            runs=self.runs + len(proposals),
            tokens=self.tokens + sum(count for count in tokens if type(count) is int),
            cost_usd=self.cost_usd + sum(cost or 0.0 for cost in costs),
        )


@dataclass(frozen=True)
class Left:
    """What is left besides the runs; None where there is no limit."""

    seconds: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None

    @classmethod
    def from_record(cls, record: Any) -> Left:
        """Read it back from a transcript, which anybody may have edited."""
        known = record if isinstance(record, dict) else {}
        tokens = finite(known.get("tokens"))
        return cls(
            seconds=finite(known.get("seconds")),
            tokens=None if tokens is None else int(tokens),
            cost_usd=finite(known.get("cost_usd")),
        )

    def to_record(self) -> dict[str, float]:
        """Return what is limited, as JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def refuse_if_spent(self, tokens: int, cost_usd: float) -> None:
        """Raise BudgetSpent if the current run has used up all that was left before it."""
        if self.tokens is not None and tokens >= self.tokens:
            raise BudgetSpent("the budget of tokens is spent, so the language model is not asked again")
        if self.cost_usd is not None and cost_usd >= self.cost_usd:
            raise BudgetSpent("the budget of money is spent, so the language model is not asked again")


@dataclass(frozen=True)
class Limits:
    """What a search may spend."""

    max_runs: int
    max_seconds: float | None = None
    max_tokens: int | None = None
    """Of the language model, over the whole life of the search, like `max_cost_usd`."""
    max_cost_usd: float | None = None
    run_seconds: float | None = None
    """Seconds of compute for which one training is planned."""
    run_steps: int | None = None
    """Most optimizer steps of one training."""
    silence_seconds: float | None = None
    """A training without a sign of life for this long is ended as hung."""
    memory_mb: int | None = None
    """MiB of resident memory that one training may hold; GPU memory is not part of it."""
    disk_mb: int | None = None
    """MiB of files that one training may make."""
    least_free_mb: float = 0.0
    """MiB of free disk without which no training begins."""
    disk_wait_seconds: float | None = None
    """How long to wait for space on a full disk; None: as long as it takes."""
    stop_early: str | None = None
    """The rule by which trainings that cannot win are stopped, a name in `analysis.pruning.RULES`."""
    repeat_base: int = 2
    repeats: int | None = None
    """Trainings with fresh seeds at the end; None: as many as the rule of selection wants, 0: no repeats at
    all."""
    refit_share: float = 0.0
    """Of the time spent so far, what is kept for refits of what the search recommends."""
    repairs: int = 2
    """How often a proposer may repair a refused proposal before the fallback sampler steps in."""
    attempts: int = 12
    """Refusals for one run after which the search ends: nothing new can be proposed."""

    @property
    def on_answers(self) -> bool:
        """Return whether there is a limit on what the language model's answers cost."""
        return self.max_tokens is not None or self.max_cost_usd is not None

    def flags_of_a_run(self) -> list[str]:
        """Return the flags of the training program for them."""
        flags = [] if self.run_seconds is None else ["--time-limit", f"{self.run_seconds:g}"]
        return flags if self.run_steps is None else [*flags, "--max-steps", str(self.run_steps)]

    def reached(self, spent: Spent) -> str | None:
        """Return which limit ends the search, as a sentence; None while something is left of each."""
        if spent.runs >= self.max_runs:
            return f"all {spent.runs} runs are done"
        if self.max_seconds is not None and spent.seconds >= self.max_seconds:
            return f"the time limit of {self.max_seconds / 3600:g} hours is reached"
        if self.max_tokens is not None and spent.tokens >= self.max_tokens:
            return f"the budget of {self.max_tokens:,} tokens is spent ({spent.tokens:,}); raise --max-tokens"
        if self.max_cost_usd is not None and spent.cost_usd >= self.max_cost_usd:
            return f"the budget of ${self.max_cost_usd:g} is spent (${spent.cost_usd:.4f}); raise --max-cost"
        return None

    def repeats_left(self, state: AgentState) -> int:
        """Return how many repeats a proposer may still ask for now."""
        if state.leads_by == "margin" or self.repeats == 0 or not state.runs:
            return 0
        begun = [repeat.purpose for repeat in state.repeats]
        begun += [run.purpose for run in state.in_progress if run.purpose is not None]
        trainings = len(state.run_ids) + len(begun)
        return max(math.floor(MOST_ASKED * trainings) - begun.count(ASKED), 0)

    def warnings(self, before: Spent, now: Spent) -> list[str]:
        """Return notes for people: shares of a budget that were passed in between."""
        found = []
        for name, limit, old, new in (
            ("the time", self.max_seconds, before.seconds, now.seconds),
            ("the tokens", self.max_tokens, before.tokens, now.tokens),
            ("the money", self.max_cost_usd, before.cost_usd, now.cost_usd),
        ):
            passed = [share for share in WARNED_AT if limit and old < share * limit <= new]
            if passed and limit and new < limit:
                found.append(f"{passed[-1]:.0%} of {name} spent")
        return found

    def left(self, spent: Spent) -> Left:
        """Return what is left, never below zero."""
        return Left(
            seconds=None if self.max_seconds is None else max(self.max_seconds - spent.seconds, 0.0),
            tokens=None if self.max_tokens is None else max(self.max_tokens - spent.tokens, 0),
            cost_usd=None if self.max_cost_usd is None else max(self.max_cost_usd - spent.cost_usd, 0.0),
        )
