"""What is handed over: an ensemble of what cannot be told from the best run, that run alone, or a baseline.

The choice rests on the validation part, or on its first windows: those that were known at an earlier date.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas_agent_graph.analysis.resolution import block_of, losses_of
from nas_agent_graph.analysis.standings import candidates_of
from nas_agent_graph.context import Launcher
from nas_agent_graph.selection.bootstrap import paired_difference
from nas_agent_graph.selection.candidates import Candidate
from nas_agent_graph.selection.conclusion import Conclusion
from nas_agent_graph.selection.members import NEAR, Chosen, choose_members
from nas_system.errors import NasError
from nas_system.files import finite, read_record
from nas_system.nas_agent.agent_state import AgentState, get_run
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.recommended import (
    ENSEMBLE,
    ENSEMBLE_FILE,
    SLOW_BASELINES,
    Ensemble,
    Member,
    Recommended,
    Training,
    write_ensemble,
)
from nas_system.nas_agent.window_errors import read_errors
from nas_system.processes.run_files import ENSEMBLE_ERRORS_FILE
from nas_system.space.score import loss_of
from nas_system.space.task_info import TaskInfo

EVALUATE = "nas_system.evaluate"
TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Evidence:
    """What a choice rests on. All scores are losses."""

    conclusion: Conclusion
    candidates: Sequence[Candidate]
    baselines: Mapping[str, float]
    windows: int | None = None
    """How many of the validation windows, from the first one on; None: all of them."""

    @classmethod
    def of(cls, conclusion: Conclusion, state: AgentState, info: TaskInfo) -> Evidence:
        """Return what a search knows once it has ended."""
        baselines = {
            row.name: loss_of(score, state.direction)
            for row in info.baselines
            if info.task.is_series and not row.windows and (score := row.on("val", state.metric)) is not None
        }
        return cls(conclusion, candidates_of(state), baselines)


@dataclass(frozen=True)
class Evaluator:
    """Calls the program that loads weights and scores them."""

    ledger: Ledger
    launcher: Launcher
    flags: tuple[str, ...] = ()
    """Device and threads."""

    def __call__(self, *flags: str) -> dict[str, Any]:
        """Return what it prints. Raises ConfigError or RunError, and NasError for an answer that is none."""
        arguments = ["--workspace", str(self.ledger.workspace), *flags, *self.flags]
        answer = self.launcher.call(EVALUATE, arguments, timeout_s=TIMEOUT_S)
        try:
            found = json.loads(answer.splitlines()[-1])
        except (ValueError, IndexError):
            found = None
        if not isinstance(found, dict):
            raise NasError(f"{EVALUATE} answered no scores")
        return found


@dataclass(frozen=True)
class Choice:
    """Chooses by evidence, and writes down the ensemble that it considers."""

    ledger: Ledger
    info: TaskInfo
    evaluate: Evaluator
    note: Callable[[str], None]
    file: str = ENSEMBLE_FILE
    """In the workspace: the ensemble."""
    errors: str = ENSEMBLE_ERRORS_FILE
    """In the folder of all runs: its errors on the validation windows."""
    _known: dict[str, tuple[Training, ...]] = field(default_factory=dict, repr=False)

    def choose(self, evidence: Evidence) -> Recommended | None:
        """Return what is recommended, without refits; None where nothing can forecast.

        The best run is alone unless the mean with what cannot be told from it is as good.
        """
        state = self.ledger.state
        members = self._members(evidence)
        if not members:
            return None
        if len(members) > 1 and (ensemble := self._ensemble(members, evidence)) is not None:
            return ensemble
        self._file.unlink(missing_ok=True)
        best = next((one for one in members if one.name == evidence.conclusion.recommended), members[0])
        why = "no other run or baseline is as good on the validation part, as far as its rows can tell"
        if best.family is None:
            why = "no run is better than this baseline on the validation part"
        return Recommended(
            recommended=best.name,
            why=why,
            members=(self._member(best, 1.0),),
            runs=len(state.runs),
            repeats=len(state.repeats),
            val_score=loss_of(best.loss, state.direction),
        )

    @property
    def _file(self) -> Path:
        return self.ledger.workspace / self.file

    def _members(self, evidence: Evidence) -> list[Chosen]:
        baselines = evidence.baselines
        lowest = min(baselines.items(), key=lambda row: row[1], default=None)
        simple = {name: loss for name, loss in baselines.items() if name not in SLOW_BASELINES}
        if lowest is not None and lowest[0] in SLOW_BASELINES:
            simple[lowest[0]] = lowest[1]
        able = [one for one in evidence.candidates if self._trainings(one.run_id)]
        chosen = choose_members(evidence.conclusion, able, simple)
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
        if run_id not in self._known:
            self._known[run_id] = tuple(self._found_trainings(run_id))
        return self._known[run_id]

    def _found_trainings(self, run_id: str) -> list[Training]:
        state = self.ledger.state
        names = [run_id]
        names += [one.training_id for one in state.repeats if one.run_id == run_id and one.status == "OK"]
        found = []
        for name in names:
            paths = self.ledger.paths(name)
            sha256 = (read_record(paths.metrics) or {}).get("checkpoint_sha256")
            if isinstance(sha256, str) and len(sha256) == 64 and paths.best_model.is_file():
                found.append(Training(folder=f"runs/{name}", sha256=sha256))
        return found

    def _ensemble(self, members: Sequence[Chosen], evidence: Evidence) -> Recommended | None:
        """Return the ensemble if the validation part does not tell that it is worse than the best run."""
        state = self.ledger.state
        several = self.info.task.trainings > 1
        equal = tuple(self._member(one, 1 / len(members)) for one in members)
        names = ", ".join(one.name for one in members)
        why = (
            f"the mean of {names}: on the validation part none of them can be told from the best of them, "
            "one per family first"
        )
        ensemble = Ensemble(members=equal, why=why, weights="greedy" if several else "equal")
        write_ensemble(self._file, ensemble)
        flags = ["--part", "val", "--ensemble", self.file, "--errors", self.errors]
        flags += ["--greedy"] if several else []
        flags += [] if evidence.windows is None else ["--first", str(evidence.windows)]
        try:
            found = self.evaluate(*flags)
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
            weighted = tuple(one.model_copy(update={"weight": weights[one.name]}) for one in left)
            ensemble = ensemble.model_copy(update={"members": weighted})
        ensemble = ensemble.model_copy(update={"val_score": score})
        write_ensemble(self._file, ensemble)
        if len(ensemble.members) == 1 or self._is_worse(score, evidence):
            return None
        return Recommended(
            **ensemble.model_dump(),
            recommended=ENSEMBLE,
            runs=len(state.runs),
            repeats=len(state.repeats),
        )

    def _is_worse(self, score: float, evidence: Evidence) -> bool:
        """Return whether the ensemble is worse than the best run on the validation part: by more than chance
        where its rows can tell, else at all."""
        state, best = self.ledger.state, evidence.conclusion.recommended
        run = get_run(state, best)
        mean = next((one.mean for one in evidence.candidates if one.run_id == best), None)
        if run is None or run.val_score is None or mean is None:
            return False
        behind = loss_of(score, state.direction) - mean
        ours = read_errors(self.ledger.runs_dir / self.errors, score=score)
        theirs = read_errors(self.ledger.paths(best).val_errors, score=run.val_score)
        if ours is None or theirs is None or len(ours) != len(theirs[: evidence.windows]):
            return behind > 0
        losses = [losses_of(errors, state.direction) for errors in (ours, theirs[: evidence.windows])]
        block = block_of(self.ledger.config(best), self.info, losses[1])
        found = paired_difference(losses[0], losses[1], block)
        return found.low > 0 or behind > NEAR * abs(mean) if found.trusted else behind > 0
