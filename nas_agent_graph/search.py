"""A search from the command line's arguments to its last line: what run.py does after its heavy imports."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nas_agent_graph.analysis.conclusions import conclude_search, contenders, read_conclusion
from nas_agent_graph.budget import Limits, Spent
from nas_agent_graph.context import (
    IN_PROGRESS,
    Context,
    Launcher,
    SearchInterrupted,
    SearchLauncher,
    StopRequest,
    SystemClock,
)
from nas_agent_graph.handover.recommendation import Handover
from nas_agent_graph.handover.refit_pool import RefitPool
from nas_agent_graph.handover.refits import MOST_SHARE
from nas_agent_graph.host.disk_space import DiskSpace
from nas_agent_graph.launchers import DEFAULT as LOCAL
from nas_agent_graph.launchers import build_launcher, launcher_options
from nas_agent_graph.launchers.place import refuse_other_engines
from nas_agent_graph.launchers.verification import Verification
from nas_agent_graph.pool.repeat_rule import SelectionRule, format_plan, is_unfinished
from nas_agent_graph.pool.slots import slots_for
from nas_agent_graph.pool.trainings import folders_of, still_to_end
from nas_agent_graph.proposers import PROPOSERS, choose_proposer
from nas_agent_graph.proposers.setup import ProposerSetup
from nas_agent_graph.report.model_card import write_model_card
from nas_agent_graph.search_setup import (
    facts_file_of,
    limits_of,
    modules_for,
    open_search,
    refuse_to_continue,
    task_of,
    train_command_of,
)
from nas_agent_graph.selection.conclusion import Conclusion
from nas_agent_graph.selection.sentences import sentences
from nas_agent_graph.settings import llm_flags
from nas_agent_graph.show.pages import print_leaderboard, read_info
from nas_agent_graph.show.rows import rows_of
from nas_agent_graph.state import initial_state
from nas_agent_graph.text.recommended import recommendation_lines
from nas_system.errors import NasError
from nas_system.nas_agent.agent_state import AgentState, RunInfo, get_best_run, mean_score
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.recommended import Recommended, Training
from nas_system.nas_agent.run_manager import load_task_info
from nas_system.nas_agent.workspace_lock import WorkspaceLock
from nas_system.processes.run_files import undrawn_runs
from nas_system.space import metric_on
from nas_system.space.task_info import HOLD_OUT, TaskInfo

SCORE_TIMEOUT_S = 600.0
CANCEL_TIMEOUT_S = 20.0


def run_search(
    arguments: argparse.Namespace, stop: StopRequest, *, trainer: Sequence[str] | None = None
) -> int:
    """Hold the workspace, open or continue its search, drive it to its end. Returns the exit code.

    `trainer` is the command line that trains in the place of `python -m nas_system.train`.
    """
    from nas_agent_graph.progress.plain import build_progress

    # Absolute once, at the start: nothing later depends on the current folder.
    workspace = arguments.workspace.expanduser().absolute()
    options = launcher_options(arguments, _note)
    options = replace(options, estimates_memory=arguments.memory_per_run == "auto")
    launcher = build_launcher(arguments.launcher, options)
    # On a cluster its engine gives out the devices.
    gpus_per_run = arguments.gpus_per_run if arguments.launcher == LOCAL else 1.0
    slots = slots_for(arguments.parallel, gpus_per_run, arguments.device, launcher)
    started, limits = time.monotonic(), limits_of(arguments, launcher, slots.total)
    refitted = not arguments.no_refit and trainer is None
    if refitted:
        limits = replace(limits, refit_share=MOST_SHARE)
    disk = DiskSpace(
        workspace, SystemClock(), stop, _note, limits.least_free_mb, longest_wait_s=limits.disk_wait_seconds
    )
    with WorkspaceLock(workspace), contextlib.closing(launcher):
        ledger, note = disk.retry_until_space(lambda: Ledger.open(workspace))
        if note:
            _note(note)
        refuse_other_engines(
            [folder for run in ledger.state.in_progress for folder in folders_of(run.run_id, ledger)],
            arguments.launcher,
        )
        # A run that has begun has been paid for: it is brought to its end first, and so is the final.
        end = None if is_unfinished(ledger, limits) else limits.reached(Spent.by(ledger.state.runs))
        search = ProposerSetup(
            ledger=ledger,
            task=task_of(arguments, ledger.state.task),
            launcher=launcher,
            disk=disk,
            llm_flags=llm_flags(arguments),
            max_cost_usd=limits.max_cost_usd,
        )
        if arguments.continued is not None:
            refuse_to_continue(ledger, arguments.continued, end)
        # Everything a person may have mistyped is checked before the search is written down.
        chosen = None if end else choose_proposer(arguments.proposer, search)
        if trainer is None:
            launcher.check_device(arguments.device)
            if (warning := launcher.check_sandbox()) is not None:
                _note(warning)
        if chosen is not None and trainer is None:
            # While the data are read and the first run is proposed.
            launcher.warm_up(ledger.runs_dir, modules_for(search.task))
        base, info = disk.retry_until_space(lambda: open_search(ledger, arguments, launcher, disk))
        train_command = train_command_of(arguments, facts_file_of(ledger), launcher, slots, trainer)
        refits = RefitPool(
            ledger=ledger,
            launcher=launcher,
            limits=limits,
            slots=slots,
            train_command=train_command,
            data=info.source.path,
            disk=disk,
            stop=stop,
            clock=SystemClock(),
            note=_note,
            detaches=arguments.detach,
            ends_at=None if limits.max_seconds is None else started + limits.max_seconds,
        )
        ending = Ending(
            search,
            launcher,
            refits=refits if refitted else None,
            recommends=trainer is None,
            flags=() if (device := _device_here(arguments)) == "auto" else ("--device", device),
        )
        if chosen is None:
            _conclude(ending, end or "")
            return 0
        ready = PROPOSERS[chosen].prepare(search)
        by_default = chosen == "tpe" and arguments.proposer is None
        why = " (no model is named; NAS_LLM_MODEL turns the language model on)" if by_default else ""
        print(f"proposer: {ready.introduction}{why}", flush=True)
        if ledger.state.leads_by == "mean" and (plan := format_plan(limits)):
            print(f"trainings: {plan}", flush=True)
        disk.retry_until_space(lambda: ledger.save(max_runs=arguments.max_runs))
        context = Context(
            ledger=ledger,
            base=base,
            info=info,
            proposer=ready.proposer,
            fallback=ready.fallback,
            launcher=launcher,
            progress=build_progress(),
            limits=limits,
            train_command=train_command,
            slots=slots,
            repeat_rule=SelectionRule(),
            continued=arguments.continued,
            verify=None if trainer is not None else _verification(arguments, ledger, launcher, limits),
            stop=stop,
            started=started,
            detaches=arguments.detach,
        )
        _conclude(ending, _drive(context))
        for name, entry in PROPOSERS.items():
            entry.after_search(search, name == chosen)
    return 0


def _verification(
    arguments: argparse.Namespace, ledger: Ledger, launcher: Launcher, limits: Limits
) -> Verification:
    return Verification(
        launcher,
        facts_file_of(ledger),
        metric=ledger.state.metric,
        device=_device_here(arguments),
        threads=arguments.threads,
        memory_mb=limits.memory_mb,
    )


def _device_here(arguments: argparse.Namespace) -> str:
    """Return the device of what the agent computes itself: `--device` is that of the machine that trains."""
    return arguments.device if arguments.launcher == LOCAL else "auto"


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _drive(context: Context) -> str:
    """Run the graph to its end and return why it ended; an interruption first stops the training."""
    # Tracing uploads what the nodes are given; only a person may turn it on, by name.
    if not os.environ.get("NAS_TRACING"):
        os.environ["LANGSMITH_TRACING"] = os.environ["LANGCHAIN_TRACING_V2"] = "false"
    with context.stop.held_back():
        from nas_agent_graph.graph import build_graph, steps_for

    context.progress.begin(context.ledger.state, context.info, context.limits)
    try:
        final = build_graph().invoke(
            initial_state(),
            config={"recursion_limit": steps_for(context.limits, len(context.ledger.state.run_ids))},
            context=context,
        )
    except (SearchInterrupted, NasError):
        _stop_trainings(context)
        if waiting := len(list(undrawn_runs(context.ledger.runs_dir))):
            pictures = "of 1 finished run are" if waiting == 1 else f"of {waiting} finished runs are"
            _note(f"the pictures {pictures} drawn when the search goes on")
        raise
    finally:
        context.progress.close()
    return final["end"]


def _stop_trainings(context: Context) -> None:
    """End all trainings side by side: nothing outlives an agent that was asked to stop, or cannot go on."""
    launcher, state = context.launcher, context.ledger.state
    folders = [folder for run in state.in_progress for folder in folders_of(run.run_id, context.ledger)]
    if context.detaches:
        left = sum(found in IN_PROGRESS for found in launcher.survey(folders).values())
        _note(f"trainings that go on: {left}. The same command adopts what still trains")
        return
    deadline, force = time.monotonic() + CANCEL_TIMEOUT_S, False
    while running := still_to_end(folders, launcher, forced=force):
        force = context.stop.force or time.monotonic() > deadline
        for path in running:
            launcher.cancel(path, force=force)
        time.sleep(0.1)


@dataclass(frozen=True)
class Ending:
    """What the end of a search takes."""

    search: ProposerSetup
    launcher: SearchLauncher
    refits: RefitPool | None
    """None: nothing is trained again."""
    recommends: bool
    """Whether its trainings leave weights to forecast with."""
    flags: tuple[str, ...] = ()
    """Of evaluations."""


def _conclude(ending: Ending, end: str) -> None:
    """Score the best run on the hold-out set (once), print the leaderboard and what comes next."""
    search, launcher = ending.search, ending.launcher
    ledger = search.ledger
    best_run = get_best_run(ledger.state)
    print(f"\nThe search has ended: {end}.")
    if best_run is not None:
        try:
            _score_on_hold_out(search, best_run)
        except NasError as error:
            _note(f"the best run could not be scored on the hold-out rows ({error})")
    print()
    info = read_info(ledger.workspace, ledger.state)
    conclusion = _concluded(search, info)
    recommended = _recommended(ending, conclusion, info)
    _say_what_is_known(search, conclusion, recommended)
    if recommended is not None:
        record = recommended.model_dump(mode="json")
        search.disk.retry_until_space(
            lambda: write_model_card(ledger.workspace, ledger.state, info, conclusion, record)
        )
    try:
        # Last: until here they were drawn besides, and nothing above looks at them.
        launcher.finish(ledger.runs_dir)
    except NasError as error:
        _note(str(error))
    print_leaderboard(ledger.workspace, ledger.state, info)
    print()
    elsewhere = "" if ledger.workspace == Path.cwd() else f" --workspace {shlex.quote(str(ledger.workspace))}"
    if best_run is None:
        print(f"No run has a score. Look at one: nas show run_0000{elsewhere}")
    else:
        print(f"best model: {ledger.paths(best_run.run_id).best_model}")
        for training in () if info is None or info.task.is_series else _refits_on_all(recommended):
            print(f"refitted:   {ledger.workspace / training.folder}/best_model.pth, on all graphs")
        print(f"look at it: nas show {best_run.run_id}{elsewhere}")
        print(f"go on:      nas run --max-runs {len(ledger.state.runs) * 2}{elsewhere}")
    print(_leading_baseline(ledger.state, info, elsewhere), end="")


def _refits_on_all(recommended: Recommended | None) -> list[Training]:
    """Return the refits on everything, with which `nas predict` forecasts where there is a series."""
    refits = {} if recommended is None else recommended.refits.get("hold_out", {})
    return [training for trainings in refits.values() for training in trainings]


def _concluded(search: ProposerSetup, info: TaskInfo | None) -> Conclusion | None:
    """Conclude the search; the losses on single validation windows of the runs that may be recommended are
    computed again before: what is said of them must not rest on a training's own word."""
    ledger = search.ledger
    known = read_conclusion(ledger.workspace, ledger.state)
    if known is not None or ledger.state.leads_by == "margin":
        return known
    computed: set[str] = set()
    conclusion = None
    while wanted := [name for name in contenders(ledger.state, conclusion) if name not in computed]:
        folders = [flag for name in wanted for flag in ("--run", str(ledger.paths(name).folder))]
        flags = ["--part", "val", "--windows", "--facts", str(facts_file_of(ledger))]
        try:
            search.launcher.call("nas_system.score", [*folders, *flags], timeout_s=SCORE_TIMEOUT_S)
        except NasError as error:
            _note(f"the losses on single windows could not be computed again ({error})")
        computed.update(wanted)
        conclusion = search.disk.retry_until_space(lambda: conclude_search(ledger, info))
    return conclusion


def _recommended(ending: Ending, conclusion: Conclusion | None, info: TaskInfo | None) -> Recommended | None:
    """Return what is handed over, trained again and scored; None for a search without such a thing."""
    if conclusion is None or info is None or not ending.recommends:
        return None
    search = ending.search
    handover = Handover(
        search.ledger, ending.launcher, info, conclusion, _note, refits=ending.refits, flags=ending.flags
    )
    try:
        return search.disk.retry_until_space(handover.recommend)
    except NasError as error:
        _note(f"nothing could be made ready to forecast with ({error}); the best run is there")
        return None


def _say_what_is_known(
    search: ProposerSetup, conclusion: Conclusion | None, recommended: Recommended | None
) -> None:
    """Print what may be said of the best run, and what is recommended."""
    state = search.ledger.state
    if conclusion is None:
        return
    for line in sentences(conclusion, state.metric, state.direction):
        print(line)
    if recommended is not None:
        for line in recommendation_lines(recommended, state.metric):
            print(line)
    print()


def _leading_baseline(state: AgentState, info: TaskInfo | None, elsewhere: str) -> str:
    """Say which baseline no run beats, and how to forecast with it; empty where a run leads."""
    leader = next(iter(rows_of(state, info)), None)
    if leader is None or leader.run is not None:
        return ""
    best_run = get_best_run(state)
    against = ""
    if best_run is not None and (score := mean_score(state, best_run)) is not None:
        against = f", the best run {best_run.run_id} {score:.5f}"
    text = f"\nA baseline leads, no run: {leader.name} has {state.metric} {leader.val_score:.5f}{against}."
    if state.task is None or not state.task.is_series:
        return f"{text}\n"
    return f"{text} Forecast with it:\n            nas predict --run {shlex.quote(leader.name)}{elsewhere}\n"


def _score_on_hold_out(search: ProposerSetup, best_run: RunInfo) -> None:
    """Score the run on the hold-out set unless that is empty or the score is known. Raises NasError."""
    ledger, facts_file = search.ledger, facts_file_of(search.ledger)
    info = load_task_info(ledger.runs_dir)
    if best_run.run_id in ledger.state.hold_out or (info is not None and not info.has_hold_out):
        return
    command = ["--run", str(ledger.paths(best_run.run_id).folder), "--facts", str(facts_file)]
    answer = json.loads(search.launcher.call("nas_system.score", command, timeout_s=SCORE_TIMEOUT_S))
    score = answer[metric_on(HOLD_OUT, ledger.state.metric)]
    hold_out = {**ledger.state.hold_out, best_run.run_id: score}
    search.disk.retry_until_space(lambda: ledger.save(hold_out=hold_out))
