"""A recorded search, driven again through the real graph with neither model nor training.

The recording is a workspace: `agent_state.json` and `runs/`. Answers come from the transcripts,
classical proposals are computed again, trainings end as they ended. What decided then and stands
in no other file (flags, installed packages) is in the transcripts.

Not reproduced, because they are no decision: times, the step at which an interrupted run stood, and the
scores on the hold-out rows, which are taken over. A search without any transcript tells nothing of the
packages that were installed: it is replayed with those that are.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from nas_agent_graph.budget import BudgetSpent, Limits
from nas_agent_graph.context import (
    Context,
    Proposal,
    Proposer,
    SearchView,
    StopRequest,
    SystemClock,
)
from nas_agent_graph.graph import build_graph, steps_for
from nas_agent_graph.host.disk_space import DiskSpace
from nas_agent_graph.llm.recording import RecordedFallback, Transcript, under
from nas_agent_graph.pool.moments import n_repeats
from nas_agent_graph.pool.repeat_rule import SelectionRule
from nas_agent_graph.pool.repeats import wishes_in
from nas_agent_graph.pool.slots import Slots
from nas_agent_graph.progress.plain import PlainProgress
from nas_agent_graph.proposers import PROPOSERS
from nas_agent_graph.proposers.llm import LLMProposer
from nas_agent_graph.proposers.model_turn import ModelTurn
from nas_agent_graph.proposers.setup import ProposerSetup
from nas_agent_graph.replay.cassette import Cassette, CassetteClient
from nas_agent_graph.replay.drift import AnswerMissing, Drift, RecordingEnds, SearchRestarted, place
from nas_agent_graph.replay.launcher import RecordedLauncher, copy_record, ends_of
from nas_agent_graph.replay.model_turns import ReplayedTurns
from nas_agent_graph.search_view import CONTINUED
from nas_agent_graph.selection.candidates import Purpose, Repeat
from nas_agent_graph.selection.circumstances import Circumstances
from nas_agent_graph.state import initial_state
from nas_system.config_io.config_file import read_config
from nas_system.errors import ConfigError
from nas_system.files import read_record
from nas_system.nas_agent.agent_state import (
    ASKED,
    BASE_REPEAT,
    STATE_FILE,
    AgentState,
    get_run,
    is_repeat,
    load_agent_state,
    parts_of_repeat,
)
from nas_system.nas_agent.history_summary import TOO_SHORT
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.run_folders import refuse_linked_runs
from nas_system.nas_agent.run_manager import load_task_info
from nas_system.processes.run_files import BASE_CONFIG_FILE, FACTS_FILE, RunPaths
from nas_system.space import RunConfig
from nas_system.space.task_info import TaskInfo

NODE = "propose_config"
FALLBACK = "tpe"


@dataclass(frozen=True)
class RecordedSearch:
    """A search as its workspace records it."""

    workspace: Path
    state: AgentState
    base: RunConfig
    info: TaskInfo

    @classmethod
    def open(cls, workspace: Path) -> RecordedSearch:
        """Read the workspace. Raises ConfigError or StateError for one that holds no search."""
        if not (workspace / STATE_FILE).is_file():
            raise ConfigError(f"{workspace} holds no {STATE_FILE}; name the folder of a search")
        refuse_linked_runs(workspace / "runs")
        state = load_agent_state(workspace / STATE_FILE)
        info = load_task_info(workspace / "runs")
        if state.task is None or info is None:
            raise ConfigError(
                f"{workspace} holds no search that can be replayed: its task or runs/{FACTS_FILE} is gone"
            )
        lacking = [
            name for name, known in (("baselines", info.baselines), ("columns", info.columns)) if not known
        ]
        if lacking and (lacking == ["baselines"] or info.task.is_series):
            raise ConfigError(f"{workspace / 'runs' / FACTS_FILE} has no {' and no '.join(lacking)}")
        base = read_config(workspace / "runs" / BASE_CONFIG_FILE, follow_link=False)
        return cls(workspace, state, base, info)

    @property
    def runs_dir(self) -> Path:
        return self.workspace / "runs"

    @property
    def run_ids(self) -> list[str]:
        """Return the finished runs, and those that were running."""
        return self.state.run_ids

    @property
    def repeats(self) -> int:
        """Count how often the base config was trained again with another seed, to measure the noise."""
        folders = (RunPaths(self.runs_dir / "run_0000").folder / "repeats").glob("seed_*")
        return sum(
            RunPaths(folder).exit.exists() or RunPaths(folder).process.exists()
            for folder in folders
            if not RunPaths(folder).proposal.exists()
        )

    @property
    def repeats_that_began(self) -> list[str]:
        """Return the repeats that have ended, as they ended, and those that were running; but the base
        config's, which belong to the first run."""
        ended = [repeat.training_id for repeat in self.state.repeats if repeat.purpose != BASE_REPEAT]
        return ended + [run.run_id for run in self.state.in_progress if run.is_repeat]

    def proposal(self, run_id: str) -> Mapping[str, Any]:
        """Read proposal.json of a run, or of a repeat; of a finished one at least who proposed it."""
        run = get_run(self.state, run_id)
        known = {"proposer": run.proposer} if run else {}
        return known | (read_record(RunPaths(self.runs_dir / run_id).proposal) or {})


class ReplayedProposer:
    """Asks the proposer that proposed a run to propose it again."""

    name = "llm"

    def __init__(
        self,
        recorded: RecordedSearch,
        setup: ProposerSetup,
        cassette: Cassette,
        client: CassetteClient,
        llm: LLMProposer,
        turns: ReplayedTurns,
    ) -> None:
        self.recorded = recorded
        self.turns = turns
        self.setup = setup
        self.cassette = cassette
        self.client = client
        self.llm = llm
        self.repairs = Limits(max_runs=1).repairs

    def thinking(self, *, others_may_begin: bool) -> set[str]:
        """Return the runs about which the model had been asked and had not answered by now."""
        return self.turns.thinking()

    def propose(self, view: SearchView) -> Proposal:
        view = replace(view, max_runs=self.recorded.state.max_runs)
        if self.turns.has_turn(view.run_id):
            proposal = self.turns.propose(view, PROPOSERS[FALLBACK].prepare(self.setup).proposer)
            if proposal is not None:
                return proposal
        exchange = self.cassette.next_of(view.run_id)
        if exchange is not None:
            self.client.turn_to(exchange)
            return self.llm.propose(under(exchange.circumstances, view))
        record = self.recorded.proposal(view.run_id)
        name, attempt = record.get("proposer"), record.get("attempt", 0)
        # At the first attempt answers have been paid for already if they asked for repeats.
        answered = self.cassette.last_of(view.run_id) and (view.attempt > 0 or record.get("tokens"))
        if name == FALLBACK and attempt == view.attempt and answered:
            raise BudgetSpent("the recorded search did not ask the language model again")
        if name == CONTINUED:  # by a person's wish, which stands in no other file
            return Proposal.from_file(record, self.recorded.state.metric)
        # What stands after a colon is the model, or the part of the proposer that was asked.
        kind = str(name).partition(":")[0]
        if kind in PROPOSERS and kind != self.name and isinstance(attempt, int) and attempt <= self.repairs:
            return PROPOSERS[kind].prepare(self.setup).proposer.propose(view)
        where = place(view.run_id, NODE, view.attempt)
        if view.run_id in self.cassette.ends_in:
            raise RecordingEnds(f"the recording ends at {where}")
        why = f" (asked because: {view.refused[-1]})" if view.refused else ""
        raise AnswerMissing(f"the recording holds no answer for {where}{why}")


class ReplayedFallback:
    """The sampler that steps in for the model, unless the recorded search asked the model again."""

    def __init__(self, fallback: Proposer, recorded: RecordedSearch, cassette: Cassette) -> None:
        self.fallback = fallback
        self.recorded = recorded
        self.cassette = cassette
        self.name = fallback.name

    def propose(self, view: SearchView) -> Proposal:
        if self.cassette.next_of(view.run_id) is not None:
            self.cassette.restart(view.run_id)
        latest = self.cassette.last_of(view.run_id)
        view = replace(view, max_runs=self.recorded.state.max_runs)
        return self.fallback.propose(under(latest.circumstances, view) if latest else view)


@dataclass(frozen=True)
class RecordedSlots(Slots):
    """Lets a run begin when it began in the recording: after as many ends as its proposer knew of."""

    recorded: RecordedSearch | None = None

    def is_free(self, state: AgentState, run_id: str) -> bool:
        """Return whether the run began now; in an older recording, which has no such note, when none runs.
        One that was copied before its proposal was there began last."""
        assert self.recorded is not None
        if is_repeat(run_id):  # that it began now is what `RecordedRepeats` says
            return True
        record, all_ended = self.recorded.proposal(run_id), len(self.recorded.state.runs)
        # It began where its proposer was asked first, which may have wanted to see a repeat.
        seen = next((wish.get("seen") for wish in wishes_in(record)), record.get("seen"))
        if not isinstance(seen, dict):
            return not state.in_progress or len(state.runs) == all_ended
        return (seen.get("ended"), seen.get("repeats", 0)) == (len(state.runs), n_repeats(state))


@dataclass(frozen=True)
class RecordedRepeats:
    """Lets a repeat begin when it began in the recording, if the rule of selection wanted it then."""

    recorded: RecordedSearch

    def due(self, ledger: Ledger, told: Circumstances) -> Repeat | None:
        """Return the repeat that began now. Raises Drift if the rule, told the same, wants another."""
        state = ledger.state
        begun = {run.run_id for run in state.in_progress}
        begun |= {repeat.training_id for repeat in state.repeats}
        now = (len(state.runs), n_repeats(state), set(told.in_progress))
        for training_id in self.recorded.repeats_that_began:
            if training_id in begun:
                continue
            record = self.recorded.proposal(training_id)
            if record.get("purpose") == ASKED:
                continue  # begins with the answer that asks for it
            try:
                seen = record["seen"]
                then = Circumstances.from_record(seen)
                if (seen["ended"], seen["repeats"], set(then.in_progress)) != now:
                    continue
            except (LookupError, TypeError, ValueError):
                continue
            run_id, _ = parts_of_repeat(training_id)
            found, purpose = SelectionRule().due(ledger, then), record.get("purpose")
            if found is None or (found.run_id, found.purpose) != (run_id, purpose):
                wanted = "none" if found is None else f"{found.run_id} ({found.purpose})"
                raise Drift(
                    place(run_id, "read_context", 0),
                    f"{training_id} was trained for: {purpose}; the rule of selection wants {wanted}",
                )
            return Repeat(run_id, cast(Purpose, purpose), len(state.runs))
        return None


@dataclass(frozen=True)
class RecordedClock(SystemClock):
    """In a replay nobody waits for a training: there is none."""

    recorded: AgentState
    ledger: Ledger

    def sleep(self, seconds: float) -> None:
        """Raise RecordingEnds where nothing more had ended, Drift where the run that did has not begun."""
        recorded, ended = ends_of(self.recorded), len(ends_of(self.ledger.state))
        if ended >= len(recorded):
            raise RecordingEnds("what is training now had not ended when the recording was copied")
        raise Drift(place(recorded[ended], NODE, 0), "the run that ended next has not begun in the replay")


def replay(
    recorded: RecordedSearch, workspace: Path, *, lenient: bool = False, prompts: Path | None = None
) -> AgentState:
    """Drive the recorded search again in `workspace`, an empty folder; returns the state it ends in.

    Raises Drift or AnswerMissing where it leaves the recording.
    """
    unfinished = [run.run_id for run in recorded.state.runs_in_progress]
    cassette = Cassette.load(recorded.runs_dir, recorded.run_ids, ends_in=unfinished)
    context = _context(recorded, workspace, cassette, lenient=lenient, prompts=prompts)
    while not _is_at_its_end(recorded, context.ledger.state, cassette):
        try:
            _drive(recorded, context, cassette)
            break
        except SearchRestarted as restarted:
            if restarted.attempt == 0:
                # The recorded search had no proposal on disk that it could have continued from.
                context.ledger.paths(restarted.run_id).proposal.unlink(missing_ok=True)
        except RecordingEnds:
            break
    for exchange in cassette.unplayed():
        raise Drift(
            place(*exchange.key), "the recorded search asked the model here, the replayed one did not"
        )
    return context.ledger.state


def differences(recorded: AgentState, replayed: AgentState) -> list[str]:
    """List what differs between two states, times aside; the first run that differs comes first."""
    found: list[str] = []
    before, after = _comparable(recorded), _comparable(replayed)
    runs_before, runs_after = before.pop("runs"), after.pop("runs")
    for old, new in zip(runs_before, runs_after, strict=False):
        found += [
            f"{old['run_id']}: {name} is {new.get(name)!r}, recorded {old.get(name)!r}"
            for name in {**old, **new}
            if old.get(name) != new.get(name)
        ]
    if len(runs_before) != len(runs_after):
        found.append(f"{len(runs_after)} runs, recorded {len(runs_before)}")
    found += [
        f"{name} is {after[name]!r}, recorded {before[name]!r}"
        for name in before
        if before[name] != after[name]
    ]
    return found


OLD_TOO_SHORT = "Too short to judge."
"""How summaries before version 4 of the state called `TOO_SHORT`."""


def _comparable(state: AgentState) -> dict[str, Any]:
    plain = state.model_dump(mode="json")
    for run in plain["runs"]:
        del run["seconds"]
        run["history_summary"] = run["history_summary"].replace(OLD_TOO_SHORT, TOO_SHORT)
    # At which of its steps an interrupted run stood is a matter of the moment.
    plain["in_progress"] = [run.run_id for run in state.in_progress]
    return plain


def _context(
    recorded: RecordedSearch, workspace: Path, cassette: Cassette, *, lenient: bool, prompts: Path | None
) -> Context:
    runs_dir, state = workspace / "runs", recorded.state
    runs_dir.mkdir(parents=True)
    # What belongs to all runs: the task info, and what proposers have prepared.
    for path in (*recorded.runs_dir.glob("*.json"), recorded.runs_dir / BASE_CONFIG_FILE):
        copy_record(path, runs_dir)
    ledger, _ = Ledger.open(workspace)
    ledger.save(
        task=state.task,
        data=state.data,
        seed=state.seed,
        max_runs=state.max_runs,
        hold_out=state.hold_out,
        leads_by=state.leads_by,
    )
    launcher = RecordedLauncher(state, recorded.runs_dir, ledger)
    disk = DiskSpace(workspace, SystemClock(), StopRequest(), say=lambda text: None)
    setup = ProposerSetup(ledger=ledger, task=recorded.base.task, launcher=launcher, disk=disk)
    transcript = Transcript(runs_dir)
    client = CassetteClient(cassette, transcript, lenient=lenient)
    llm = LLMProposer(client, transcript, prompts=prompts)  # pyright: ignore[reportArgumentType]
    turns = ReplayedTurns(
        cassette,
        client,
        ModelTurn(client, transcript, prompts=prompts),  # pyright: ignore[reportArgumentType]
        ledger=ledger,
        proposal=recorded.proposal,
    )
    proposer = ReplayedProposer(recorded, setup, cassette, client, llm, turns)
    fallback = PROPOSERS[FALLBACK].prepare(setup).proposer
    if cassette.holds_answers:
        fallback = RecordedFallback(fallback, transcript)
    return Context(
        ledger=ledger,
        base=recorded.base,
        info=recorded.info,
        proposer=proposer,
        fallback=ReplayedFallback(fallback, recorded, cassette),
        launcher=launcher,
        progress=PlainProgress(io.StringIO()),
        # The end of the recording is the end of the replay, even if the search was allowed more runs.
        limits=Limits(max_runs=max(len(recorded.run_ids), 1), repeat_base=recorded.repeats),
        train_command=("recorded",),
        verify=launcher.verify,
        slots=RecordedSlots(
            total=len(recorded.run_ids) + len(recorded.repeats_that_began), recorded=recorded
        ),
        repeat_rule=RecordedRepeats(recorded),
        clock=RecordedClock(state, ledger),
    )


def _drive(recorded: RecordedSearch, context: Context, cassette: Cassette) -> None:
    steps = build_graph().stream(
        initial_state(),
        config={"recursion_limit": steps_for(context.limits)},
        context=context,
        stream_mode="updates",
    )
    for _ in steps:
        if _is_at_its_end(recorded, context.ledger.state, cassette):
            return


def _is_at_its_end(recorded: RecordedSearch, state: AgentState, cassette: Cassette) -> bool:
    """Return whether the replay is where the recording was: its runs are done, or the last one is as far."""
    wanted = recorded.state
    steps, wanted_steps = ({run.run_id: run.step for run in known.in_progress} for known in (state, wanted))
    asked = all(cassette.next_of(run_id) is None for run_id in wanted_steps)
    return ends_of(state) == ends_of(wanted) and steps == wanted_steps and asked
