"""A language model that is scripted, to try the hybrid over recorded tables: good ideas, bad ones, or both.

It ranks five candidates in an answer, as it is asked to. Each is bad with a given probability. A *good* one
is the best of BEST_OF random changes of one to three parameters of the leading run, by the table's true
means: it knows what a person knows who has seen such tasks, and not where the best is. A *bad* one is, with
equal probability, a row of the worst quartile, something that is not in the space, or a configuration that
has been trained already. Which candidate is trained is decided by the product's own code.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.table_space import TableSpace
from nas_agent_graph.analysis.stagnation import is_stuck
from nas_agent_graph.context import Proposal, Proposer, SearchView
from nas_agent_graph.llm.parsing import ParsedAnswer
from nas_agent_graph.proposers.candidates import choose_candidate
from nas_system.space import Change, active_values

CANDIDATES = 5
BEST_OF = 8
"""Random changes of which a good candidate is the best."""
UNKNOWN = Change(parameter="model.attention_temperature", value=0.5)


class ScriptedModel:
    """Stands in for `ModelTurn`: the same question and answer, without a server."""

    def __init__(self, space: TableSpace, seed: int, bad_share: float) -> None:
        """`bad_share` is the probability that a candidate is bad."""
        self.space, self.seed, self.bad_share = space, seed, bad_share
        self.worst = np.flatnonzero(space.table.truths >= np.quantile(space.table.truths, 0.75))

    def begin(self, view: SearchView) -> list[Any]:
        return []

    def ask(self, view: SearchView, messages: list[Any]) -> Any:
        draws = random.Random(f"{self.seed} {view.run_id}")
        return [
            self._bad(view, draws) if draws.random() < self.bad_share else self._good(view, draws)
            for _ in range(CANDIDATES)
        ]

    def propose(self, view: SearchView, answer: Any) -> Proposal:
        """Return the candidate to train. Raises ProposalError if none is worth a training."""
        choice = choose_candidate(answer, view)
        return Proposal(
            "llm:scripted",
            parent=choice.candidate.parent,
            changes=choice.candidate.changes,
            rank=choice.rank,
            must_restructure=is_stuck(view),
            arm="model",
        )

    def stand_in(self, view: SearchView, sampler: Proposer, reason: str) -> Proposal:
        return replace(sampler.propose(view), wasted=reason)

    def _good(self, view: SearchView, draws: random.Random) -> ParsedAnswer:
        table, start = self.space.table, self._leading_row(view)
        found = []
        for _ in range(BEST_OF):
            places = draws.sample(range(len(table.sizes)), draws.randint(1, 3))
            found.append(table.changed(start, places, [draws.random() for _ in places]))
        return self._towards(min(found, key=lambda row: table.truths[row]), view)

    def _bad(self, view: SearchView, draws: random.Random) -> ParsedAnswer:
        kind = draws.choice(("poor", "invalid", "known"))
        if kind == "poor":
            return self._towards(int(draws.choice(self.worst)), view)
        if kind == "invalid":
            return self._answer(view, (UNKNOWN,))
        run = draws.choice(view.runs)
        assert run.config is not None
        return self._towards(self.space.row_of(run.config), view)

    def _leading_row(self, view: SearchView) -> int:
        assert view.best_run is not None and view.best_run.config is not None
        return self.space.row_of(view.best_run.config)

    def _towards(self, row: int, view: SearchView) -> ParsedAnswer:
        """Return the answer that changes the leading run into a row."""
        assert view.best_run is not None and view.best_run.config is not None
        before, after = active_values(view.best_run.config), active_values(self.space.config_of(row))
        changes = [Change(parameter=p, value=v) for p, v in after.items() if before[p] != v]
        return self._answer(view, changes)

    def _answer(self, view: SearchView, changes: Sequence[Change]) -> ParsedAnswer:
        assert view.best_run is not None
        return ParsedAnswer(
            parent=view.best_run.run_id, changes=tuple(changes), hypothesis="scripted", expected_score=None
        )
