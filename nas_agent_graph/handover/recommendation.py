"""What a search hands over once it has concluded: chosen, trained again on all rows, scored and written down.

An ensemble of what cannot be told from the best run, the best run alone, or a baseline. The choice rests on
the validation part; only then are the parts after it scored, for what was chosen. All of it is a function of
the files: whoever is killed in between goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas_agent_graph.analysis.resolution import block_of, losses_of
from nas_agent_graph.analysis.standings import candidates_of
from nas_agent_graph.context import Launcher
from nas_agent_graph.handover.refits import RefitPool, plan_refits, searched_seconds, seconds_of
from nas_agent_graph.selection.bootstrap import paired_difference
from nas_agent_graph.selection.conclusion import Conclusion
from nas_agent_graph.selection.members import NEAR, Chosen, choose_members
from nas_system.errors import NasError
from nas_system.files import finite, read_record
from nas_system.nas_agent.agent_state import AgentState, get_run, mean_score
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.recommended import (
    ENSEMBLE,
    ENSEMBLE_FILE,
    SLOW_BASELINES,
    Ensemble,
    Member,
    Part,
    Recommended,
    Training,
    known_recommended,
    write_ensemble,
    write_recommended,
)
from nas_system.nas_agent.window_errors import read_errors
from nas_system.processes.run_files import ENSEMBLE_ERRORS_FILE
from nas_system.space.score import loss_of
from nas_system.space.task_info import TaskInfo

EVALUATE = "nas_system.evaluate"
TIMEOUT_S = 1800.0


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
        if known is not None and current and (self.refits is None or known.refits):
            return known
        chosen = self._chosen()
        if chosen is None:
            return None
        chosen = self._refitted(chosen)
        # The program reads what is to be evaluated from the file.
        write_recommended(workspace, chosen)
        if chosen.recommended not in SLOW_BASELINES:
            chosen = chosen.model_copy(update={"evaluation": self._evaluated([])})
            write_recommended(workspace, chosen)
        return chosen

    # --- the choice -------------------------------------------------------------------------

    def _chosen(self) -> Recommended | None:
        state = self.ledger.state
        members = self._members()
        if not members:
            return None
        if len(members) > 1 and (ensemble := self._ensemble(members)) is not None:
            return ensemble
        (self.ledger.workspace / ENSEMBLE_FILE).unlink(missing_ok=True)
        best = next((one for one in members if one.name == self.conclusion.recommended), members[0])
        member = self._member(best, 1.0)
        why = "no other run or baseline is as good on the validation part, as far as its rows can tell"
        if best.family is None:
            why = "no run is better than this baseline on the validation part"
        return Recommended(
            recommended=best.name,
            why=why,
            members=(member,),
            runs=len(state.runs),
            repeats=len(state.repeats),
            val_score=_as_score(best.loss, state),
        )

    def _members(self) -> list[Chosen]:
        state = self.ledger.state
        baselines = {
            row.name: loss_of(score, state.direction)
            for row in self.info.baselines
            if self.info.task.is_series
            and not row.windows
            and (score := row.on("val", state.metric)) is not None
        }
        lowest = min(baselines.items(), key=lambda row: row[1], default=None)
        simple = {name: loss for name, loss in baselines.items() if name not in SLOW_BASELINES}
        if lowest is not None and lowest[0] in SLOW_BASELINES:
            simple[lowest[0]] = lowest[1]
        able = [one for one in candidates_of(state) if self._trainings(one.run_id)]
        chosen = choose_members(self.conclusion, able, simple)
        if len(chosen) > 1:
            return [one for one in chosen if one.name not in SLOW_BASELINES]
        return chosen

    def _member(self, chosen: Chosen, weight: float) -> Member:
        if chosen.family is None:
            return Member(name=chosen.name, kind="baseline", weight=weight)
        trainings = self._trainings(chosen.name)
        return Member(name=chosen.name, kind="run", weight=weight, trainings=trainings)

    def _trainings(self, run_id: str) -> tuple[Training, ...]:
        """Return the run's trainings whose weights are there, its own first."""
        state = self.ledger.state
        names = [run_id]
        names += [one.training_id for one in state.repeats if one.run_id == run_id and one.status == "OK"]
        found = []
        for name in names:
            paths = self.ledger.paths(name)
            sha256 = (read_record(paths.metrics) or {}).get("checkpoint_sha256")
            if isinstance(sha256, str) and len(sha256) == 64 and paths.best_model.is_file():
                found.append(Training(folder=f"runs/{name}", sha256=sha256))
        return tuple(found)

    def _ensemble(self, members: Sequence[Chosen]) -> Recommended | None:
        """Return the ensemble if the validation part does not tell that it is worse than the best run."""
        state, workspace = self.ledger.state, self.ledger.workspace
        several = self.info.task.trainings > 1
        equal = tuple(self._member(one, 1 / len(members)) for one in members)
        ensemble = Ensemble(members=equal, why=self._why(members), weights="greedy" if several else "equal")
        write_ensemble(workspace, ensemble)
        try:
            found = self._evaluated(["--part", "val", *(["--greedy"] if several else [])])
        except NasError as error:
            self.note(f"the ensemble could not be evaluated ({error})")
            return None
        score = finite(found.get(self.info.task.metric_name))
        if score is None:
            self.note("the ensemble has no score")
            return None
        if several:
            weights = {name: finite(value) or 0.0 for name, value in dict(found["weights"]).items()}
            left = [one for one in equal if weights.get(one.name, 0.0) > 0]
            ensemble = ensemble.model_copy(
                update={
                    "members": tuple(one.model_copy(update={"weight": weights[one.name]}) for one in left)
                }
            )
        ensemble = ensemble.model_copy(update={"val_score": score})
        write_ensemble(workspace, ensemble)
        if len(ensemble.members) == 1 or self._is_worse(score):
            return None
        return Recommended(
            **ensemble.model_dump(),
            recommended=ENSEMBLE,
            runs=len(state.runs),
            repeats=len(state.repeats),
        )

    def _why(self, members: Sequence[Chosen]) -> str:
        names = ", ".join(one.name for one in members)
        return (
            f"the mean of {names}: on the validation part none of them can be told from the best of them, "
            "one per family first"
        )

    def _is_worse(self, score: float) -> bool:
        """Return whether the ensemble is worse than the best run on the validation part: by more than chance
        where its rows can tell, else at all."""
        state, best = self.ledger.state, self.conclusion.recommended
        run = get_run(state, best)
        mean = None if run is None else mean_score(state, run)
        if run is None or run.val_score is None or mean is None:
            return False
        behind = loss_of(score, state.direction) - loss_of(mean, state.direction)
        ours = read_errors(self.ledger.runs_dir / ENSEMBLE_ERRORS_FILE, score=score)
        theirs = read_errors(self.ledger.paths(best).val_errors, score=run.val_score)
        if ours is None or theirs is None or len(ours) != len(theirs):
            return behind > 0
        losses = [losses_of(errors, state.direction) for errors in (ours, theirs)]
        block = block_of(self.ledger.config(best), self.info, losses[1])
        found = paired_difference(losses[0], losses[1], block)
        return found.low > 0 or behind > NEAR * abs(mean) if found.trusted else behind > 0

    # --- trained again, and scored ----------------------------------------------------------

    def _refitted(self, chosen: Recommended) -> Recommended:
        if self.refits is None or not self.info.task.is_series:
            return chosen
        parts: tuple[Part, ...] = (
            ("val", "test", "hold_out") if self.info.has_hold_out else ("val", "hold_out")
        )
        planned = plan_refits(chosen.members, parts, self.info, self.ledger)
        if planned:
            cost_s = seconds_of(planned)
            share = cost_s / max(searched_seconds(self.ledger), 1e-9)
            named = len({refit.run_id for refit in planned})
            runs = sum(member.kind == "run" for member in chosen.members)
            of = f"{named} of {runs} runs" if runs > 1 else chosen.recommended
            print(
                f"refit: {len(planned)} trainings of {of}, on the rows before the test part, before the "
                f"hold-out part and on all; about {cost_s:,.0f} s of compute, {share:.0%} of the search's "
                "(--no-refit leaves them out)",
                flush=True,
            )
        return chosen.model_copy(update={"refits": self.refits.train(planned)})

    def _evaluated(self, flags: Sequence[str]) -> dict[str, Any]:
        arguments = ["--workspace", str(self.ledger.workspace), *flags, *self.flags]
        answer = self.launcher.call(EVALUATE, arguments, timeout_s=TIMEOUT_S)
        try:
            found = json.loads(answer.splitlines()[-1])
        except (ValueError, IndexError):
            found = None
        if not isinstance(found, dict):
            raise NasError(f"{EVALUATE} answered no scores")
        return found


def _as_score(loss: float, state: AgentState) -> float:
    return loss if state.direction == "minimize" else -loss
