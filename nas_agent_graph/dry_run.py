"""What a search would ask, and what it may cost: no model is asked, nothing is trained or written."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from nas_agent_graph.analysis.arms import CAP
from nas_agent_graph.budget import Limits, Spent
from nas_agent_graph.context import Launcher, SearchView, StopRequest, SystemClock, view_of
from nas_agent_graph.host.disk_space import DiskSpace
from nas_agent_graph.launchers import build_launcher, launcher_options
from nas_agent_graph.llm.answer import Message
from nas_agent_graph.llm.briefing import opening_messages
from nas_agent_graph.llm.prices import how_to_know, price_of
from nas_agent_graph.llm.prompt_size import prompt_tokens
from nas_agent_graph.pool.repeat_rule import format_plan, is_unfinished
from nas_agent_graph.proposers import choose_proposer
from nas_agent_graph.proposers.model_turn import CANDIDATES, as_asked
from nas_agent_graph.proposers.setup import ProposerSetup
from nas_agent_graph.search_setup import (
    limits_of,
    look_up_search,
    refuse_to_continue,
    task_of,
    train_command_of,
)
from nas_agent_graph.settings import LLMSettings, llm_flags
from nas_agent_graph.text.notes import NotesReader
from nas_agent_graph.text.terminal import duration
from nas_system.command_line import complain
from nas_system.config_io.config_file import write_config
from nas_system.errors import NasError
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import STATE_FILE, RunInfo, load_agent_state
from nas_system.nas_agent.ledger import Ledger
from nas_system.processes.run_files import FACTS_FILE, next_run_id
from nas_system.space.task_info import TaskInfo

HISTORY_TOKENS = 2_400
"""What 1,000 runs add to the first prompt (benchmarks/prompt_length.py); more runs add nothing."""
ANSWER_TOKENS = 200
"""A proposal in JSON with two sentences; a model that thinks aloud takes ten times as many."""
PREFLIGHT_TIMEOUT_S = 300.0


def dry_run(arguments: argparse.Namespace) -> int:
    """Print the next prompt and the estimates. Raises what the search would raise before its first run."""
    workspace, launcher = (
        arguments.workspace.expanduser().absolute(),
        build_launcher(arguments.launcher, launcher_options(arguments)),
    )
    # As it is: opening a search may repair its files, and this must not.
    ledger = Ledger(workspace, load_agent_state(workspace / STATE_FILE))
    limits, runs = limits_of(arguments, launcher), ledger.state.runs
    search = ProposerSetup(
        ledger=ledger,
        task=task_of(arguments, ledger.state.task),
        launcher=launcher,
        disk=DiskSpace(workspace, SystemClock(), StopRequest(), print),
        llm_flags=llm_flags(arguments),
        max_cost_usd=limits.max_cost_usd,
    )
    finished = None if is_unfinished(ledger, limits) else limits.reached(Spent.by(runs))
    if arguments.continued is not None:
        refuse_to_continue(ledger, arguments.continued, finished)
    chosen = choose_proposer(arguments.proposer, search)
    settings = search.model_settings(demanded=True) if chosen in ("llm", "hybrid") else None
    with tempfile.TemporaryDirectory(prefix="nas-dry-run-") as scratch:
        base, info = look_up_search(ledger, arguments, launcher, Path(scratch))
        view = view_of(
            ledger,
            base,
            info,
            limits,
            Spent.by(runs),
            run_id=_run_to_propose(ledger),
            notes=NotesReader().read(workspace, complain),
        )
        if settings is not None:
            view = replace(view, compact=settings.compact_prompt is True)
        pace = _pace_of(runs) if runs else _preflight(view, info, limits, arguments, launcher, Path(scratch))
    if arguments.continued is not None:
        run_id = next_run_id(ledger.state.run_ids)
        print(f"--- {run_id} trains {arguments.continued}, stopped early, to its end; nobody is asked")
    else:
        for message in _question(view, settings, chosen):
            print(f"--- {view.run_id}, {message['role']}\n{message['content']}")
    print("--- estimates (no model was asked, nothing was trained or written)")
    if finished:
        print(f"Nothing would be done: {finished}.")
        return 0
    # The first run is the base configuration, about which nobody is asked.
    left = limits.max_runs - max(len(runs), 1)
    questions = _most_turns(view, left) if chosen == "hybrid" else left
    plan = format_plan(limits)
    lines = [f"trainings: {plan}"] if plan and not runs else []
    tokens = _format_tokens(view, settings, chosen, questions)
    for line in (*tokens, *pace, *lines, *_format_limits(limits, len(runs))):
        print(line)
    return 0


def _run_to_propose(ledger: Ledger) -> str:
    state = ledger.state
    if not state.runs:  # the first run is the base configuration, about which nobody is asked
        return next_run_id(["run_0000"])
    left = state.runs_in_progress
    return left[0].run_id if left else next_run_id(state.run_ids)


def _question(view: SearchView, settings: LLMSettings | None, chosen: str) -> list[Message]:
    """Return the question that the proposer would ask about the view."""
    if settings is None:
        return opening_messages(view)
    if chosen == "hybrid":
        return opening_messages(as_asked(view), candidates=CANDIDATES)
    return opening_messages(view)


def _most_turns(view: SearchView, left: int) -> int:
    """Return how many of the runs that are left the model may be asked about in a hybrid search: it has its
    share of those that come after the families' defaults."""
    tried = {run.family for run in (*view.runs, *view.running)} or {view.base.model.family}
    return math.ceil(CAP * max(left - len(set(view.families) - tried), 0))


def _format_tokens(view: SearchView, settings: LLMSettings | None, chosen: str, questions: int) -> list[str]:
    messages = _question(view, settings, chosen)
    now, constant = prompt_tokens(messages), prompt_tokens(messages[:1])
    without_history = prompt_tokens(_question(replace(view, runs=(), best_run=None), settings, chosen))
    longest = max(now, without_history + HISTORY_TOKENS)
    lines = [
        f"prompt:   about {now:,} tokens, {longest:,} at the most when the history is long",
        f"          its first {constant:,} are the same every time: many servers keep them, and bill less",
    ]
    if settings is None:
        return [*lines, "model:    none is named (NAS_LLM_MODEL), so nobody is asked and nothing is paid"]
    price = price_of(settings)
    lines.append(f"model:    {settings.model} at {settings.endpoint}, {price or 'price not known'}")
    each = ANSWER_TOKENS * (CANDIDATES if chosen == "hybrid" else 1)
    asked, answered = questions * longest, questions * each
    money = f", ${price.of(longest, each) * questions:.2f}" if price else ""
    at_most = "at most " if chosen == "hybrid" else ""
    lines.append(
        f"answers:  {at_most}{questions} of {each} tokens each: at most about {asked + answered:,} tokens "
        f"with their prompts{money}; repairs and thoughts come on top"
    )
    return lines if price else [*lines, f"          {how_to_know(settings)}"]


def _pace_of(runs: tuple[RunInfo, ...]) -> list[str]:
    """Return what the runs so far took, for people."""
    seconds = [run.seconds for run in runs if run.seconds is not None]
    asked = [run for run in runs if run.tokens]
    lines = []
    if seconds:
        lines.append(f"so far:   {duration(statistics.median(seconds))} a run (median of {len(seconds)})")
    if asked:
        costs = [run.cost_usd for run in asked if run.cost_usd is not None]
        money = f" and ${statistics.mean(costs):.4f}" if costs else ""
        lines.append(
            f"          {statistics.mean(run.tokens for run in asked):,.0f} tokens{money} a proposal"
        )
    return lines


def _preflight(
    view: SearchView,
    info: TaskInfo,
    limits: Limits,
    arguments: argparse.Namespace,
    launcher: Launcher,
    folder: Path,
) -> list[str]:
    """Return what one batch of the first run tells: the trainer measures it, and trains nothing."""
    config = folder / "config.py"
    write_config(config, view.base)
    write_json(folder / FACTS_FILE, info.to_json())
    _, _, module, *rest = train_command_of(arguments, folder / FACTS_FILE, launcher)
    command = [*rest, "--config", str(config), "--runs-dir", str(folder), "--tag", "run_0000"]
    command += limits.flags_of_a_run()
    if limits.memory_mb is not None:
        command += ["--memory-limit", str(limits.memory_mb)]
    try:
        printed = launcher.call(module, [*command, "--preflight-only"], timeout_s=PREFLIGHT_TIMEOUT_S)
    except NasError as error:
        return [f"training: run_0000 would fail: {error}"]
    estimate = json.loads(printed.splitlines()[-1])
    text = f"{estimate['n_params']:,} parameters, {estimate['memory_mb']:,.0f} MiB"
    if estimate["training_s"] is not None:
        length = f"{estimate['planned_epochs']} epochs"
        if estimate["planned_steps"] < estimate["wanted_steps"]:
            length += f" ({estimate['planned_steps']:,} of {estimate['wanted_steps']:,} steps)"
        text += f", {duration(estimate['epoch_s'])} of compute a pass over its data"
        text += f", {duration(estimate['training_s'])} at the most for its {length}"
    repeats = f"; trained {arguments.repeat_base + 1} times" if arguments.repeat_base else ""
    return [f"training: run_0000 ({view.base.model.family}): {text}{repeats}"]


def _format_limits(limits: Limits, done: int) -> list[str]:
    runs = limits.max_runs - done
    lines = []
    if limits.run_seconds is not None:
        total = duration(runs * limits.run_seconds)
        lines.append(
            f"limits:   {runs} runs of {duration(limits.run_seconds)} are about {total} of compute at the "
            "most; by the clock it takes longer where other programs run"
        )
    elif limits.run_steps is not None:
        lines.append(f"limits:   {runs} runs of {limits.run_steps:,} optimizer steps at the most")
    else:
        lines.append(f"limits:   {runs} runs of any length (--minutes-per-run bounds them)")
    ends = [
        f"{duration(limits.max_seconds)} of time" if limits.max_seconds is not None else "",
        f"{limits.max_tokens:,} tokens" if limits.max_tokens is not None else "",
        f"${limits.max_cost_usd:g}" if limits.max_cost_usd is not None else "",
    ]
    if any(ends):
        lines.append(f"          the search ends early after {' or '.join(end for end in ends if end)}")
    return lines
