"""What a search hands over once it has concluded: chosen, trained again, scored and written down.

The choice rests on the validation part; only then are the parts after it scored, for what was chosen. All of
it is a function of the files: whoever is killed in between goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas_agent_graph.context import Launcher
from nas_agent_graph.handover.choice import Choice, Evaluator, Evidence
from nas_agent_graph.handover.refit_pool import RefitPool
from nas_agent_graph.handover.refits import (
    Refit,
    plan_refits,
    refitted_seconds,
    searched_seconds,
    seconds_to_come,
)
from nas_agent_graph.selection.conclusion import Conclusion
from nas_system.files import finite, read_record
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.recommended import (
    SLOW_BASELINES,
    Cost,
    Part,
    Recommended,
    Training,
    known_recommended,
    write_recommended,
)
from nas_system.space.task_info import TaskInfo
from nas_system.space.tasks.task import metric_on


@dataclass(frozen=True)
class Handover:
    """The end of a search."""

    ledger: Ledger
    launcher: Launcher
    info: TaskInfo
    conclusion: Conclusion
    note: Callable[[str], None]
    refits: RefitPool | None = None
    """None: nothing is trained again."""
    flags: tuple[str, ...] = field(default=())
    """Device and threads of evaluations."""

    def recommend(self) -> Recommended | None:
        """Return what the search recommends, and write it down; None where nothing can forecast.

        Raises OSError where there is no space for it, and SearchInterrupted.
        """
        state, workspace = self.ledger.state, self.ledger.workspace
        known = known_recommended(workspace)
        current = known is not None and (known.runs, known.repeats) == (len(state.runs), len(state.repeats))
        complete = known is not None and bool(known.refits) and not known.not_begun
        if known is not None and current and (self.refits is None or complete):
            return known
        began = time.monotonic()
        evaluate = Evaluator(self.ledger, self.launcher, self.flags)
        evidence = Evidence.of(self.conclusion, state, self.info)
        chosen = Choice(self.ledger, self.info, evaluate, self.note).choose(evidence)
        if chosen is None:
            return None
        evaluated_s = (0.0 if known is None else known.cost.evaluation_sec) + time.monotonic() - began
        chosen = self._refitted(chosen)
        cost = Cost(refit_sec=refitted_seconds(self.ledger), evaluation_sec=evaluated_s)
        chosen = chosen.model_copy(update={"cost": cost, "first_seed": self._first_seed(chosen)})
        # The program reads what is to be evaluated from the file.
        write_recommended(workspace, chosen)
        if chosen.recommended not in SLOW_BASELINES:
            began = time.monotonic()
            evaluation = evaluate()
            cost = cost.model_copy(update={"evaluation_sec": evaluated_s + time.monotonic() - began})
            chosen = chosen.model_copy(update={"evaluation": evaluation, "cost": cost})
            write_recommended(workspace, chosen)
        return chosen

    def _refitted(self, chosen: Recommended) -> Recommended:
        if self.refits is None:
            return chosen
        parts: tuple[Part, ...] = (
            ("val", "test", "hold_out") if self.info.has_hold_out else ("val", "hold_out")
        )
        planned = plan_refits(chosen.members, parts, self.info, self.ledger)
        self._say_cost(chosen, planned)
        done = self.refits.train(planned)
        if done.not_begun:
            longest = max(refit.seconds for refit in done.not_begun)
            self.note(
                f"{len(done.not_begun)} of {len(planned)} refits were not begun: of the search's time "
                f"{self.refits.seconds_left or 0.0:,.0f} s are left, and one takes up to {longest:,.0f} s; "
                "the same command trains them, with more --max-hours"
            )
        weights: dict[Part, dict[str, tuple[Training, ...]]] = {}
        for refit, training in done.trained:
            assert not isinstance(refit.through, int), "what is handed over is refitted through parts"
            of_part = weights.setdefault(refit.through, {})
            of_part[refit.run_id] = (*of_part.get(refit.run_id, ()), training)
        return chosen.model_copy(update={"refits": weights, "not_begun": len(done.not_begun)})

    def _say_cost(self, chosen: Recommended, planned: Sequence[Refit]) -> None:
        if not planned:
            return
        cost_s = seconds_to_come(planned)
        share = cost_s / max(searched_seconds(self.ledger), 1e-9)
        named = len({refit.run_id for refit in planned})
        runs = sum(member.kind == "run" for member in chosen.members)
        of = f"{named} of {runs} runs" if runs > 1 else chosen.recommended
        samples = self.info.task.labels.samples
        before = "the test part, before the hold-out part" if self.info.has_hold_out else "the test part"
        on = f"on the {samples} before {before} and on all"
        print(
            f"refit: {len(planned)} trainings of {of}, {on}; about {cost_s:,.0f} s of compute, {share:.0%} "
            "of the search's (--no-refit leaves them out)",
            flush=True,
        )

    def _first_seed(self, chosen: Recommended) -> dict[Part, float]:
        """Return the scores of a run's own training, where what is recommended is the mean over its seeds."""
        member = chosen.members[0]
        if len(chosen.members) > 1 or len(member.trainings) < 2:
            return {}
        state = self.ledger.state
        metrics: dict[str, Any] = read_record(self.ledger.paths(member.name).metrics) or {}
        found: dict[Part, float | None] = {
            "test": finite(metrics.get(metric_on("test", state.metric))),
            "hold_out": finite(state.hold_out.get(member.name)),
        }
        return {part: score for part, score in found.items() if score is not None}
